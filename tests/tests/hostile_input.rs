//! Garbage in every argument, every config key, every repository file and every frame of the link: one clear
//! line, the exit code that INTERFACES names, never a panic, a hang, or a wrong byte restored in silence.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::cyrus::source::generic_source;
use mailkeep_tests::process::{self, Output, Running, env_number, run, write_script};
use mailkeep_tests::programs::{Mailkeep, bin};
use mailkeep_tests::rig::{Rig, id, one_clear_line};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::tree;
use mailkeep_tests::words::Words;

/// Every exit code that INTERFACES knows.
const CODES: [i32; 10] = [0, 1, 2, 11, 64, 65, 75, 77, 78, 130];

/// Never a panic, a signal, or a code that nobody wrote down.
fn lawful(what: &str, output: &Output) -> Result<()> {
    let text = output.err();
    ensure!(!text.contains("panicked at"), "{what}: panic: {text}");
    ensure!(CODES.contains(&output.code), "{what}: exit {}: {text}", output.code);
    Ok(())
}

/// A small tree with one snapshot of it, and a source file for more.
struct Lab {
    home: tempfile::TempDir,
    rig: Rig,
    tree: PathBuf,
    source: PathBuf,
    snapshot: String,
}

impl Lab {
    fn new() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let tree = home.path().join("tree");
        fs::create_dir_all(tree.join("folder"))?;
        let (words, mut rng) = (Words::new(1, 500), Rng::new(1));
        for i in 0..40 {
            let mut text = Vec::new();
            words.text(&mut rng, 100 + i * 300, &mut text);
            fs::write(tree.join(format!("folder/{i}.")), text)?;
        }
        let mut large = vec![0; 700_000];
        rng.fill(&mut large);
        fs::write(tree.join("large"), large)?;
        let rig = Rig::new(home.path())?;
        let source = generic_source(&home.path().join("tree.toml"), "tree", &tree, "")?;
        let snapshot = id(&rig.backup(&source)?)?;
        Ok(Self { home, rig, tree, source, snapshot })
    }

    fn path(&self, name: &str) -> OsString {
        self.home.path().join(name).into()
    }
}

fn words(text: &[&str]) -> Vec<OsString> {
    text.iter().map(OsString::from).collect()
}

#[test]
fn command_lines() -> Result<()> {
    let lab = Lab::new()?;
    let target = lab.path("target");
    let wrong: [&[&str]; 12] = [
        &["frobnicate"],
        &["backup"],
        &["backup", "--source"],
        &["backup", "--sauce", "x"],
        &["restore"],
        &["restore", "latest"],
        &["init", "--label"],
        &["verify", "--read-data-slice", "7/0"],
        &["verify", "--read-data-slice", "x"],
        &["verify", "--read-data", "--read-data-slice", "1/2"],
        &["restore", "latest", "--target", "/tmp/never", "--overwrite", "perhaps"],
        &["--json=maybe", "snapshots"],
    ];
    for arguments in wrong {
        let output = lab.rig.run(&words(arguments))?;
        ensure!(output.code == 64, "{arguments:?}: exit {} instead of 64: {}", output.code, output.err());
        lawful(&format!("{arguments:?}"), &output)?;
        ensure!(!output.err().trim().is_empty(), "{arguments:?}: nothing is said");
    }

    let long = "x".repeat(100_000);
    // A digit that the only snapshot's id, which is a matter of chance, does not begin with.
    let digit = if lab.snapshot.starts_with('0') { "1" } else { "0" };
    let odd: Vec<OsString> =
        ["", "zzzz", "../../etc/passwd", "latest/..", digit, "-1", "%s%n", "\u{202e}", "a\nb", &long]
            .iter()
            .map(OsString::from)
            .chain([OsString::from_vec(vec![0xff, 0xfe]), OsString::from_vec(vec![b'a', 0xc3])])
            .collect();
    for garbage in odd {
        let verbs: [Vec<OsString>; 5] = [
            vec!["ls".into(), garbage.clone()],
            vec!["show".into(), garbage.clone()],
            vec!["ls".into(), "latest".into(), garbage.clone()],
            vec!["restore".into(), garbage.clone(), "--target".into(), target.clone()],
            vec!["backup".into(), "--source".into(), garbage.clone()],
        ];
        for arguments in verbs {
            let what = format!("{:.200}", format!("{arguments:?}"));
            let output = lab.rig.run(&arguments)?;
            lawful(&what, &output)?;
            // `ls latest ""` may well mean the root.
            ensure!(output.code != 0 || arguments.len() == 3, "{what}: accepted");
            if output.code != 0 && output.code != 64 {
                // What was typed may be repeated in full, however long it is.
                let said = output.err().replace(&long, "LONG");
                one_clear_line(&what, &Output { stderr: said.into_bytes(), ..output })?;
            }
        }
    }
    ensure!(!Path::new(&target).exists(), "a refused restore must not make its target");
    Ok(())
}

#[test]
fn repositories_that_are_none() -> Result<()> {
    let lab = Lab::new()?;
    let home = lab.home.path();
    fs::create_dir(home.join("empty"))?;
    fs::create_dir(home.join("other"))?;
    fs::write(home.join("other/label"), b"no label of ours")?;
    fs::write(home.join("file"), b"x")?;
    let mailkeep = Mailkeep::new(&home.join("box"))?;
    for (place, codes) in [("absent", [75, 75]), ("empty", [75, 1]), ("other", [65, 1]), ("file", [75, 1])] {
        let place = home.join(place);
        let output = mailkeep.run([OsString::from("-r"), place.clone().into(), "snapshots".into()])?;
        ensure!(codes.contains(&output.code), "{}: exit {}: {}", place.display(), output.code, output.err());
        one_clear_line(&place.display().to_string(), &output)?;
    }
    let output = mailkeep.run([OsString::from("-r"), lab.tree.clone().into(), "init".into()])?;
    ensure!(output.code == 1, "init in a folder with files: exit {}", output.code);
    one_clear_line("init in a folder with files", &output)?;

    let wrong = home.join("wrong-key");
    Rig::new(&wrong)?;
    let key: OsString = wrong.join("box/box.key").into();
    let output = lab.rig.run(&[OsString::from("--key-file"), key, "snapshots".into()])?;
    ensure!(output.code == 77, "a wrong key: exit {}: {}", output.code, output.err());
    one_clear_line("a wrong key", &output)?;
    let output = lab.rig.run(&[OsString::from("--key-file"), lab.path("no-key"), "snapshots".into()])?;
    ensure!(output.code == 77, "a missing key: exit {}: {}", output.code, output.err());
    one_clear_line("a missing key", &output)?;
    fs::write(home.join("garbage-key"), [0xff; 100])?;
    let output = lab.rig.run(&[OsString::from("--key-file"), lab.path("garbage-key"), "snapshots".into()])?;
    ensure!(output.code == 77, "a garbage key: exit {}: {}", output.code, output.err());
    one_clear_line("a garbage key", &output).map(drop)
}

#[test]
fn source_files() -> Result<()> {
    let lab = Lab::new()?;
    let agent = bin("mailkeep-agent")?;
    let full = format!(
        "name = \"mail1\"\nsystem = \"cyrus\"\noutage-budget = \"60s\"\n\
         [transport]\nkind = \"ssh\"\nhost = \"127.0.0.1\"\nport = 1\nuser = \"root\"\nidentity-file = \"/x\"\n\
         known-hosts-file = \"/x\"\nagent-path = \"{}\"\n\
         [cyrus]\nimapd-conf = \"/x\"\ncyrus-user = \"cyrus\"\nalso = [\"/x\"]\nbin-dir = \"/x\"\n\
         [quiesce]\nmode = \"command\"\nstop = [\"false\"]\nstart = [\"false\"]\nrunning = [\"false\"]\n\
         probe = \"imap://127.0.0.1:1\"\ndeadline = \"10m\"\nstragglers = \"wait\"\nstraggler-wait = \"30s\"\n",
        agent.display()
    );
    let generic = fs::read_to_string(&lab.source)?;
    let refused = |what: &str, text: &[u8]| -> Result<String> {
        let file = lab.home.path().join("hostile.toml");
        fs::write(&file, text)?;
        let output = lab.rig.run(&[OsString::from("backup"), "--source".into(), file.into()])?;
        ensure!(output.code == 78, "{what}: exit {} instead of 78: {}", output.code, output.err());
        one_clear_line(what, &output)
    };

    for (number, line) in full.lines().enumerate() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let with = |new: &str| {
            full.lines()
                .enumerate()
                .map(|(n, l)| if n == number { new } else { l })
                .collect::<Vec<_>>()
                .join("\n")
        };
        // A key with a letter doubled is named, together with the right one.
        let misspelt = format!("{key}{}", &key[key.len() - 1..]);
        let said = refused(&misspelt, with(&format!("{misspelt} = {value}")).as_bytes())?;
        ensure!(
            said.contains(&misspelt) && said.contains(key),
            "the unknown key and the nearest known one: {said}"
        );
        for wrong in ["{}", "[[1]]", "-7", "1979-05-27", "true"] {
            refused(&format!("{key} = {wrong}"), with(&format!("{key} = {wrong}")).as_bytes())?;
        }
    }
    for (key, values) in [
        ("system", &["\"exchange\"", "\"\""][..]),
        ("kind", &["\"carrier pigeon\""]),
        ("mode", &["\"magic\""]),
        ("outage-budget", &["\"soon\"", "\"-5s\"", "\"99999999999999999999h\""]),
        ("deadline", &["\"\"", "\"10 lightyears\""]),
        ("probe", &["\"ftp://x\"", "\"imap://\"", "\"imap://127.0.0.1:99999\""]),
        ("stragglers", &["\"hug\""]),
        ("stop", &["[]"]),
        ("port", &["65536", "0"]),
    ] {
        for value in values {
            let text: Vec<String> = full
                .lines()
                .map(|l| {
                    if l.starts_with(&format!("{key} = ")) {
                        format!("{key} = {value}")
                    } else {
                        l.to_owned()
                    }
                })
                .collect();
            refused(&format!("{key} = {value}"), text.join("\n").as_bytes())?;
        }
    }
    refused("nothing", b"")?;
    refused("not UTF-8", &[0xff, 0xfe, 0x00])?;
    refused("not TOML", b"name = = =\n")?;
    refused("a table twice", format!("{generic}\n[generic]\npaths = [\"/x\"]\n").as_bytes())?;
    refused("no paths", generic.replace(&format!("\"{}\"", lab.tree.display()), "").as_bytes())?;
    refused("a relative path", generic.replace(&lab.tree.display().to_string(), "relative/path").as_bytes())?;
    refused("deep nesting", format!("name = {}1{}", "[".repeat(5000), "]".repeat(5000)).as_bytes())?;
    let output = lab.rig.run(&[OsString::from("backup"), "--source".into(), lab.path("absent.toml")])?;
    ensure!([78, 75].contains(&output.code), "an absent source file: exit {}", output.code);
    one_clear_line("an absent source file", &output).map(drop)
}

/// Ways to damage a file.
fn damage(data: &mut Vec<u8>, kind: usize, rng: &mut Rng) -> String {
    let at = rng.index(data.len().max(1));
    match kind {
        0 if !data.is_empty() => {
            data[at] ^= 1 << rng.index(8);
            format!("bit flipped at {at}")
        }
        1 => {
            data.truncate(at);
            format!("cut to {at}")
        }
        2 => {
            let end = (at + 4096).min(data.len());
            let before = data.clone();
            data[at..end].fill(0);
            if *data == before { "unchanged".into() } else { format!("zeroed {at}..{end}") }
        }
        3 => {
            data.clear();
            "emptied".into()
        }
        _ => {
            let mut noise = vec![0; 64 + rng.index(5000)];
            rng.fill(&mut noise);
            *data = noise;
            "replaced by noise".into()
        }
    }
}

/// Damage in any one file: found by verify, and never restored as if nothing were wrong.
#[test]
fn repository_files() -> Result<()> {
    let lab = Lab::new()?;
    fs::write(lab.tree.join("second"), b"one more generation")?;
    lab.rig.backup(&lab.source)?;
    let expected = tree::facts(&lab.tree)?;
    let files: Vec<PathBuf> = tree::facts(lab.rig.repository())?
        .into_iter()
        .filter(|(_, row)| row["kind"] == "file")
        .map(|(name, _)| PathBuf::from(name))
        // Locks hold no content, the texts are for people, and the reserve is room without meaning that nobody reads.
        .filter(|f| {
            !["lock", "lease", "reserve", "README.txt", "FORMAT.md"].iter().any(|n| f == Path::new(n))
                && !f.starts_with("tmp")
        })
        .collect();
    ensure!(files.len() >= 8, "too few files in the repository to be right: {files:?}");
    let (mut rng, seed) = Rng::of_run();
    let count = env_number("MAILKEEP_MUTATIONS", 70).max(files.len());
    for i in 0..count {
        let file = &files[i % files.len()];
        let damaged = lab.rig.copy_to(&lab.home.path().join("damaged"))?;
        let path = damaged.repository().join(file);
        let mut data = fs::read(&path)?;
        let kind = if i < files.len() { 0 } else { rng.index(5) };
        let done = damage(&mut data, kind, &mut rng);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        fs::write(&path, data)?;
        let what = format!("{} {done}, seed {seed}", file.display());
        if done != "unchanged" {
            one_damaged_file(&damaged, &what, &lab, &expected)?;
        }
        fs::remove_dir_all(damaged.repository())?;
        let _ = fs::remove_dir_all(lab.home.path().join("restored"));
    }
    Ok(())
}

fn one_damaged_file(damaged: &Rig, what: &str, lab: &Lab, expected: &tree::Facts) -> Result<()> {
    let verify = damaged.run(&words(&["verify", "--read-data"]))?;
    lawful(&format!("verify: {what}"), &verify)?;
    ensure!(verify.code != 0, "verify found nothing: {what}\n{}{}", verify.out(), verify.err());
    ensure!([2, 65, 77].contains(&verify.code), "verify: {what}: exit {}: {}", verify.code, verify.err());
    ensure!(
        !verify.err().trim().is_empty() || !verify.out().trim().is_empty(),
        "verify: {what}: nothing is said"
    );

    let target = lab.home.path().join("restored");
    let restore = damaged.run(&[
        OsString::from("restore"),
        "latest".into(),
        "--target".into(),
        target.clone().into(),
    ])?;
    lawful(&format!("restore: {what}"), &restore)?;
    if restore.code == 0 {
        // A second copy or an intact older snapshot may have served; then it must be one of the true states.
        let restored = target.join(lab.tree.strip_prefix("/")?);
        let got = tree::facts(&restored)?;
        if let Some(difference) = tree::difference(expected, &got) {
            bail!("restored wrongly in silence: {what}: {difference}");
        }
    }
    Ok(())
}

/// The link spoilt at many places, both ways: the box neither hangs nor panics, and what it sealed before
/// and after stays sound.
#[test]
fn frames_between_box_and_agent() -> Result<()> {
    let lab = Lab::new()?;
    let mangle = bin("mangle")?;
    let agent = bin("mailkeep-agent")?;
    let (mut rng, seed) = Rng::of_run();
    for i in 0..env_number("MAILKEEP_MANGLES", 40) {
        let way = if i % 2 == 0 { "out" } else { "in" };
        let kind = ["flip", "cut", "noise", "repeat"][i / 2 % 4];
        // Half of them in the first frames, where the two sides get to know each other.
        let offset = if i % 3 == 0 { rng.below(200) } else { rng.below(40_000) };
        let script = lab.home.path().join("agent.sh");
        let (mangle, agent_shown) = (mangle.display(), agent.display());
        let text = format!("#!/bin/sh\nexec {mangle} {way} {kind} {offset} {agent_shown} \"$@\"\n");
        write_script(&script, &text)?;
        let spoilt = lab.home.path().join("spoilt.toml");
        let text = fs::read_to_string(&lab.source)?
            .replace(&agent.display().to_string(), &script.display().to_string());
        fs::write(&spoilt, text)?;
        fs::write(lab.tree.join("folder/changed"), format!("{i} {seed}"))?;

        let what = format!("{kind} at byte {offset} of the agent's {way}put, seed {seed}");
        let output = run(&mut lab.rig.command(&[OsString::from("backup"), "--source".into(), spoilt.into()]))
            .with_context(|| what.clone())?;
        lawful(&what, &output)?;
        if output.code == 1 || output.code == 75 {
            let last = output.err().lines().last().unwrap_or_default().to_owned();
            one_clear_line(&what, &Output { stderr: last.into_bytes(), ..output })?;
        }
    }
    lab.rig.verify_all()?;
    let first = lab.rig.snapshots()?;
    ensure!(
        first.iter().any(|s| s.starts_with(&lab.snapshot) || lab.snapshot.starts_with(s)),
        "the first snapshot is gone"
    );
    lab.rig.backup(&lab.source).map(drop)
}

/// Programs that are no agent at all.
#[test]
fn an_agent_that_is_none() -> Result<()> {
    let lab = Lab::new()?;
    let agent = bin("mailkeep-agent")?;
    let impostors = [
        "true",
        "false",
        "echo hello",
        "head -c 100000 /dev/urandom",
        "head -c 3000000 /dev/zero",
        "yes | head -c 5000000",
        "printf '\\377\\377\\377\\377\\377\\377\\377\\377'",
        "kill -9 $$",
    ];
    for body in impostors {
        let script = lab.home.path().join("agent.sh");
        write_script(&script, &format!("#!/bin/sh\n{body}\n"))?;
        let spoilt = lab.home.path().join("spoilt.toml");
        let text = fs::read_to_string(&lab.source)?
            .replace(&agent.display().to_string(), &script.display().to_string());
        fs::write(&spoilt, text)?;
        let output = lab.rig.run(&[OsString::from("backup"), "--source".into(), spoilt.into()])?;
        ensure!([1, 75].contains(&output.code), "{body}: exit {}: {}", output.code, output.err());
        let last = output.err().lines().last().unwrap_or_default().to_owned();
        one_clear_line(body, &Output { stderr: last.into_bytes(), ..output })?;
    }
    Ok(())
}

/// The agent's own ear: garbage on its standard input ends it with one line and a code, not with a panic.
#[test]
fn garbage_on_the_agents_input() -> Result<()> {
    use std::io::Write;
    let agent = bin("mailkeep-agent")?;
    let mut rng = Rng::new(3);
    for i in 0..60 {
        let mut data = vec![0; 1 + rng.index(3000)];
        rng.fill(&mut data);
        if i % 3 == 0 {
            // A believable length, then noise.
            data.splice(0..0, (data.len() as u32 - 1).to_le_bytes());
        }
        let mut command = Command::new(&agent);
        command.arg("serve").stdin(Stdio::piped()).env("RUST_BACKTRACE", "0");
        let mut running = Running::spawn_with_input(&mut command)?;
        if let Some(mut input) = running.take_stdin() {
            let _ = input.write_all(&data);
        }
        let output = running.wait(process::HANG)?;
        lawful(&format!("agent, noise {i}"), &output)?;
        ensure!(output.code != 0, "agent, noise {i}: accepted");
        one_clear_line(&format!("agent, noise {i}"), &output)?;
    }
    for arguments in [&["frobnicate"][..], &["serve", "--nonsense"], &["guard"], &["guard", "no-such-intent"]]
    {
        let output = run(Command::new(&agent).args(arguments))?;
        lawful(&format!("agent {arguments:?}"), &output)?;
        ensure!(
            output.code != 0 && !output.err().trim().is_empty(),
            "agent {arguments:?}: exit {}",
            output.code
        );
    }
    Ok(())
}
