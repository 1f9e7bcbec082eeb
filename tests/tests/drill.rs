//! A rehearsed restore, on a real Cyrus and on a tree with every kind of file: a sound snapshot passes, what is wrong with one
//! is found and told, the result stands beside the snapshot and cannot be forged, and whatever ends a drill nothing is left of
//! it: no folder, no process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, cyrus_source, generic_source};
use mailkeep_tests::cyrus::{self, BIN_DIR, Cyrus, Layout};
use mailkeep_tests::process::{self, Output, Running, process, signal, write_script};
use mailkeep_tests::programs::json_line;
use mailkeep_tests::rig::{Rig, id, words};
use mailkeep_tests::tree;
use rustix::fs::FlockOperation;
use rustix::process::Signal;
use serde_json::Value;

const USERS: [&str; 2] = ["alice", "bob"];
/// What is on the command line of every process of a Cyrus that a drill has started.
const INSIDE: &str = "/.mailkeep-drill/imapd.conf";

/// A server with mail, backed up.
struct Lab {
    /// Before its folder: without its files nobody can stop it.
    server: Cyrus,
    home: tempfile::TempDir,
    rig: Rig,
    source: PathBuf,
    snapshot: String,
}

impl Lab {
    fn new(layout: Layout) -> Result<Option<Lab>> {
        if let Some(why) = cyrus::missing() {
            process::skip(&why)?;
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        let rig = Rig::new(home.path())?;
        let server = Cyrus::create(&home.path().join("server"), &USERS, layout)?;
        server.start()?;
        populate(&server, 60, 1)?;
        let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
        let snapshot = id(&rig.good_backup(&source)?)?;
        server.wait_for_greeting(process::HANG)?;
        Ok(Some(Lab { home, rig, server, source, snapshot }))
    }

    fn scratch(&self) -> Result<PathBuf> {
        scratch_in(self.home.path())
    }

    /// A drill of the snapshot; its exit code is the caller's to look at.
    fn drill(&self, more: &[&str]) -> Result<Output> {
        drill(&self.rig, &self.snapshot, &self.scratch()?, more)
    }
}

fn scratch_in(home: &Path) -> Result<PathBuf> {
    let scratch = home.join("scratch");
    fs::create_dir_all(&scratch)?;
    Ok(scratch)
}

fn arguments(snapshot: &str, scratch: &Path, more: &[&str]) -> Vec<std::ffi::OsString> {
    let mut all = words(&["--json", "drill", snapshot, "--scratch"]);
    all.push(scratch.into());
    all.extend(words(more));
    all
}

/// Runs one, and wants nothing to be left of it.
fn drill(rig: &Rig, snapshot: &str, scratch: &Path, more: &[&str]) -> Result<Output> {
    let output = rig.run(&arguments(snapshot, scratch, more))?;
    ensure!(names(scratch)?.is_empty(), "left: {:?}, {}", names(scratch)?, output.err());
    ensure!(inside(scratch).is_empty(), "still there: {:?}", inside(scratch));
    Ok(output)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Processes of a Cyrus that a drill with this scratch place has started: their root folder lies in it.
fn inside(scratch: &Path) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for p in process::processes().into_iter().filter(process::Process::runs) {
        let root = fs::read_link(format!("/proc/{}/root", p.pid)).unwrap_or_default();
        if root.starts_with(scratch) {
            let line = fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
            found.push((p.pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

fn summary(output: &Output) -> Result<Value> {
    json_line(&output.out(), "summary")
}

/// The verdict of a check, and what it says.
fn check(summary: &Value, name: &str) -> Result<(String, String)> {
    let checks = summary["checks"].as_array().context("checks")?;
    let check =
        checks.iter().find(|check| check["name"] == name).with_context(|| format!("no {name}: {summary}"))?;
    let text = |key: &str| check[key].as_str().map(str::to_owned).context("text");
    Ok((text("verdict")?, text("detail")?))
}

fn passed(output: Output) -> Result<Value> {
    let output = output.expect_code("mailkeep drill", 0)?;
    let summary = summary(&output)?;
    ensure!(summary["passed"] == true && summary["kept"] == true && summary["problems"] == 0, "{summary}");
    Ok(summary)
}

/// Wants a drill that found damage by these checks and says this, and the failure to be kept.
fn failed(output: Output, checks: &[&str], said: &str) -> Result<Value> {
    let output = output.expect_code("mailkeep drill", 65)?;
    ensure!(output.err().contains(said), "{said}: {}", output.err());
    let summary = summary(&output)?;
    ensure!(summary["passed"] == false && summary["kept"] == true, "{summary}");
    for name in checks {
        ensure!(check(&summary, name)?.0 == "failed", "{name}: {summary}");
    }
    Ok(summary)
}

/// The line of a snapshot in the list.
fn listed(rig: &Rig, snapshot: &str) -> Result<Value> {
    let all = rig.objects(&["snapshots"])?;
    all.into_iter().find(|line| line["id"] == snapshot).context("listed")
}

fn sound_snapshots_pass(layout: Layout) -> Result<()> {
    let Some(lab) = Lab::new(layout)? else { return Ok(()) };
    ensure!(listed(&lab.rig, &lab.snapshot)?["drill"].is_null());
    let before = lab.server.events();

    let survey = summary(&lab.drill(&["--dry-run"])?.expect_code("dry run", 0)?)?;
    ensure!(survey["passed"].is_null() && survey["files"].as_u64() > Some(60), "{survey}");
    ensure!(survey["needed"].as_u64() > survey["bytes"].as_u64(), "{survey}");
    ensure!(listed(&lab.rig, &lab.snapshot)?["drill"].is_null(), "a dry run keeps nothing");

    let whole = passed(lab.drill(&[])?)?;
    for name in ["rebuild", "contents", "mail", "cyrus"] {
        ensure!(check(&whole, name)?.0 == "passed", "{name}: {whole}");
    }
    ensure!(whole["sample"].is_null() && whole["files"] == survey["files"], "{whole} {survey}");
    let (_, said) = check(&whole, "cyrus")?;
    ensure!(said.starts_with("Cyrus 3.6.1 answered: ") && !said.contains(" 0 "), "{said}");
    let line = listed(&lab.rig, &lab.snapshot)?;
    ensure!(line["drill"]["passed"] == true && line["drill"]["checks"]["cyrus"] == "passed", "{line}");
    let shown = lab.rig.ok(&words(&["show", &lab.snapshot]))?.out();
    ensure!(shown.contains("Last drill") && shown.contains("passed: the whole snapshot"), "{shown}");
    ensure!(lab.rig.ok(&words(&["snapshots"]))?.out().contains(" ok 20"));

    let sample = passed(lab.drill(&["--sample", "30%", "--seed", "5"])?)?;
    let drawn = sample["sample"]["files"].as_u64().context("files")?;
    ensure!(drawn < sample["sample"]["of"].as_u64().context("of")? && drawn > 0, "{sample}");
    ensure!(check(&sample, "mail")?.0 == "passed" && check(&sample, "cyrus")?.0 == "passed", "{sample}");
    let line = listed(&lab.rig, &lab.snapshot)?;
    ensure!(line["drill"]["sample"] == "30%", "{line}");

    let without = passed(lab.drill(&["--no-cyrus"])?)?;
    ensure!(check(&without, "cyrus")? == ("left out".to_owned(), "not wanted".to_owned()), "{without}");

    // The server that runs here was neither stopped nor started nor spoken to, and the disk is whole.
    ensure!(lab.server.greets() && lab.server.events() == before);
    lab.rig.verify_all()?;
    // The result goes with its snapshot.
    let second = id(&lab.rig.good_backup(&lab.source)?)?;
    lab.rig.ok(&words(&["prune", "--keep-last", "1"]))?;
    ensure!(listed(&lab.rig, &second)?["drill"].is_null());
    ensure!(names(&lab.rig.repository().join("drills"))?.is_empty());
    Ok(())
}

#[test]
fn a_sound_snapshot_passes_whole_and_by_lot() -> Result<()> {
    sound_snapshots_pass(Layout::Uuid)
}

#[test]
fn a_sound_snapshot_of_the_old_layout_passes_too() -> Result<()> {
    sound_snapshots_pass(Layout::Legacy)
}

/// Message files of the server's spool, the largest first.
fn messages(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                open.push(path);
            } else if name.strip_suffix('.').is_some_and(|uid| uid.parse::<u32>().is_ok()) {
                found.push(path);
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).map_or(0, |meta| meta.len())));
    Ok(found)
}

/// Backs up what is broken on the server itself: the snapshot is sealed, and says so.
fn backup_of_a_broken_server(lab: &Lab) -> Result<String> {
    let output =
        lab.rig.run(&["--json".into(), "backup".into(), "--source".into(), lab.source.clone().into()])?;
    id(&summary(&output)?)
}

#[test]
fn mail_that_is_missing_or_altered_fails_the_drill() -> Result<()> {
    let Some(lab) = Lab::new(Layout::Uuid)? else { return Ok(()) };
    let spool = lab.home.path().join("server/spool");
    let messages = messages(&spool)?;
    let (altered, missing) = (&messages[0], &messages[1]);
    let sound = fs::read(altered)?;

    let mut bytes = sound.clone();
    *bytes.last_mut().context("a message")? ^= 1;
    fs::write(altered, bytes)?;
    let snapshot = backup_of_a_broken_server(&lab)?;
    let output = drill(&lab.rig, &snapshot, &lab.scratch()?, &[])?;
    failed(output, &["mail"], "not as they were delivered")?;

    fs::write(altered, sound)?;
    fs::remove_file(missing)?;
    let snapshot = backup_of_a_broken_server(&lab)?;
    let output = drill(&lab.rig, &snapshot, &lab.scratch()?, &[])?;
    let summary = failed(output, &["mail"], "lacks message files")?;
    ensure!(check(&summary, "contents")?.0 == "passed", "the disk gives what was backed up: {summary}");
    let line = listed(&lab.rig, &snapshot)?;
    ensure!(line["drill"]["passed"] == false && line["drill"]["checks"]["mail"] == "failed", "{line}");
    ensure!(lab.rig.ok(&words(&["snapshots"]))?.out().contains("FAILED 20"));
    ensure!(lab.rig.ok(&words(&["show", &snapshot]))?.out().contains("lacks message files"));
    // The sound one before it is as sound as it was.
    passed(lab.drill(&[])?).map(drop)
}

#[test]
fn a_mailbox_list_that_is_not_the_servers_fails_the_drill() -> Result<()> {
    let Some(lab) = Lab::new(Layout::Uuid)? else { return Ok(()) };
    // The export forgets a mailbox: nothing else shows that, since all that the list names is there.
    let tools = lab.server.held_tools()?;
    let forgets = format!(
        "#!/bin/sh\n{BIN_DIR}/ctl_mboxlist \"$@\" > {0}/list || exit 1\n\
         python3 - {0}/list <<'E'\nimport json, sys\nlist = json.load(open(sys.argv[1]))\n\
         del list['user.bob.Sub' if 'user.bob.Sub' in list else sorted(n for n in list if n.startswith('user.bob.'))[0]]\n\
         print(json.dumps(list))\nE\n",
        lab.home.path().join("server/run/tmp").display()
    );
    write_script(&tools.join("ctl_mboxlist"), &forgets)?;
    let text = fs::read_to_string(&lab.source)?.replace(BIN_DIR, &tools.display().to_string());
    fs::write(&lab.source, text)?;
    let snapshot = backup_of_a_broken_server(&lab)?;
    let output = drill(&lab.rig, &snapshot, &lab.scratch()?, &[])?;
    failed(output, &["cyrus"], "is shown by Cyrus, and not in the mailbox list").map(drop)
}

#[test]
fn damage_on_the_disk_fails_the_drill() -> Result<()> {
    let Some(lab) = Lab::new(Layout::Uuid)? else { return Ok(()) };
    let broken = lab.rig.copy_to(&lab.home.path().join("broken"))?;
    let mut packs = Vec::new();
    for folder in fs::read_dir(broken.repository().join("packs"))? {
        for pack in fs::read_dir(folder?.path())? {
            packs.push(pack?.path());
        }
    }
    packs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).map_or(0, |meta| meta.len())));
    let mut bytes = fs::read(&packs[0])?;
    // The first block; directories are in blocks of their own, and the last of a pack.
    for byte in &mut bytes[200..260] {
        *byte ^= 0xff;
    }
    fs::remove_file(&packs[0])?;
    fs::write(&packs[0], bytes)?;
    let output = drill(&broken, &lab.snapshot, &lab.scratch()?, &[])?;
    failed(output, &["rebuild", "contents"], "damaged")?;
    let line = listed(&broken, &lab.snapshot)?;
    ensure!(line["drill"]["checks"]["rebuild"] == "failed", "{line}");
    Ok(())
}

#[test]
fn a_result_that_was_tampered_with_is_told_and_shown_nowhere() -> Result<()> {
    let Some(lab) = Lab::new(Layout::Uuid)? else { return Ok(()) };
    passed(lab.drill(&["--no-cyrus"])?)?;
    let folder = lab.rig.repository().join("drills");
    let name = names(&folder)?.pop().context("a result")?;
    let path = folder.join(&name);
    let mut bytes = fs::read(&path)?;
    bytes[100] ^= 1;
    fs::write(&path, &bytes)?;
    let told = |what: &str| -> Result<()> {
        let output = lab.rig.run(&words(&["--json", "snapshots"]))?;
        ensure!(output.err().contains("counts for nothing"), "{what}: {}", output.err());
        ensure!(listed(&lab.rig, &lab.snapshot)?["drill"].is_null(), "{what}");
        let verified = lab.rig.run(&words(&["verify"]))?;
        ensure!(verified.err().contains("counts for nothing"), "{what}: {}", verified.err());
        Ok(())
    };
    told("edited")?;
    bytes[100] ^= 1;
    fs::write(&path, &bytes)?;
    ensure!(listed(&lab.rig, &lab.snapshot)?["drill"]["passed"] == true);
    // Under the name of another snapshot's: a copy of it would speak for that one.
    let other = folder.join(name.replacen("0000000001", "0000000002", 1));
    fs::rename(&path, &other)?;
    told("moved")?;
    lab.rig.ok(&words(&["repair"]))?;
    ensure!(names(&folder)?.is_empty());
    lab.rig.ok(&words(&["verify"])).map(drop)
}

#[test]
fn a_cyrus_of_another_series_is_not_started_and_not_taken_for_a_pass() -> Result<()> {
    let Some(lab) = Lab::new(Layout::Uuid)? else { return Ok(()) };
    let tools = lab.server.held_tools()?;
    fs::remove_file(tools.join("cyr_info"))?;
    write_script(&tools.join("cyr_info"), "#!/bin/sh\necho 'cyrus-imapd 3.4.9-Debian'\n")?;
    let text = fs::read_to_string(&lab.source)?.replace(BIN_DIR, &tools.display().to_string());
    fs::write(&lab.source, text)?;
    let snapshot = id(&lab.rig.backup(&lab.source)?)?;
    let summary = passed(drill(&lab.rig, &snapshot, &lab.scratch()?, &[])?)?;
    let (verdict, why) = check(&summary, "cyrus")?;
    ensure!(verdict == "left out" && why.contains("another series") && why.contains("not started"), "{why}");
    ensure!(listed(&lab.rig, &snapshot)?["drill"]["checks"]["cyrus"] == "left out");
    let nowhere = lab.home.path().display().to_string();
    let summary = passed(lab.drill(&["--cyrus-bin", &nowhere])?)?;
    ensure!(check(&summary, "cyrus")? == ("left out".to_owned(), "no Cyrus is installed here".to_owned()));
    Ok(())
}

/// A drill that is held while its Cyrus starts: the master has been stopped before it could serve anybody.
fn held(lab: &Lab) -> Result<Running> {
    let scratch = lab.scratch()?;
    // Before it runs another program, a child of the master has the master's command line too.
    let is_master = |line: &str| line.contains("master") && line.contains(INSIDE);
    let serves = |line: &str| line.contains("imapd -") || line.starts_with("imapd");
    for _ in 0..20 {
        let mut running = Running::spawn(&mut lab.rig.command(&arguments(&lab.snapshot, &scratch, &[])))?;
        let begun = Instant::now();
        while !running.ended()? && begun.elapsed() < process::HANG {
            let Some((master, _)) = inside(&scratch).into_iter().find(|(_, line)| is_master(line)) else {
                continue;
            };
            signal(master, Signal::STOP);
            while process(master).is_some_and(|p| p.runs() && p.state != 'T') {
                ensure!(begun.elapsed() < process::HANG, "{master} does not stop");
            }
            let there = inside(&scratch);
            let masters = there.iter().filter(|(_, line)| is_master(line));
            if masters.map(|(pid, _)| *pid).eq([master]) && !there.iter().any(|(_, line)| serves(line)) {
                return Ok(running);
            }
            signal(master, Signal::CONT);
        }
        running.wait(process::HANG)?;
    }
    anyhow::bail!("no drill could be held")
}

#[test]
fn nothing_is_left_of_a_drill_that_is_interrupted_or_killed() -> Result<()> {
    let Some(lab) = Lab::new(Layout::Uuid)? else { return Ok(()) };
    let scratch = lab.scratch()?;

    let running = held(&lab)?;
    ensure!(!inside(&scratch).is_empty());
    signal(running.pid(), Signal::TERM);
    let output = running.wait(process::HANG)?.expect_code("an interrupted drill", 130)?;
    ensure!(names(&scratch)?.is_empty() && inside(&scratch).is_empty(), "{}", output.err());
    ensure!(listed(&lab.rig, &lab.snapshot)?["drill"].is_null(), "what was not finished is no result");

    let running = held(&lab)?;
    let folder = scratch.join(names(&scratch)?.pop().context("a scratch folder")?);
    ensure!(fs::metadata(&folder)?.permissions().mode() & 0o7777 == 0o700);
    signal(running.pid(), Signal::KILL);
    running.wait(process::HANG)?;
    // The lock is free when the last of its processes is gone.
    let lock = fs::File::open(&folder)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    ensure!(inside(&scratch).is_empty(), "{:?}", inside(&scratch));
    rustix::fs::flock(&lock, FlockOperation::Unlock)?;
    ensure!(folder.join("tree").exists(), "a killed drill cannot tidy up");

    let output = lab.rig.run(&arguments(&lab.snapshot, &scratch, &["--no-cyrus"]))?;
    ensure!(output.err().contains("removed what an earlier drill had left"), "{}", output.err());
    passed(output)?;
    ensure!(names(&scratch)?.is_empty());
    ensure!(lab.server.greets());
    Ok(())
}

#[test]
fn a_place_that_is_too_small_or_not_to_be_used_is_refused_in_one_line() -> Result<()> {
    if !process::is_root() {
        return process::skip("a small file system needs root");
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let tree = home.path().join("tree");
    fs::create_dir(&tree)?;
    for number in 0..40 {
        fs::write(tree.join(format!("{number}")), vec![number; 10_000])?;
    }
    let source = generic_source(&home.path().join("tree.toml"), "tree", &tree, "")?;
    let snapshot = id(&rig.backup(&source)?)?;

    let small = Small::mount(&home.path().join("small"))?;
    let output = drill(&rig, &snapshot, &small.0, &[])?.expect_code("too small", 1)?;
    refused(&output)?;
    for part in ["bytes free", "needs", "--sample", "--scratch"] {
        ensure!(output.err().contains(part), "{part}: {}", output.err());
    }
    let output = drill(&rig, &snapshot, &small.0, &["--dry-run"])?.expect_code("too small", 1)?;
    ensure!(summary(&output)?["free"].as_u64() < summary(&output)?["needed"].as_u64());

    let inside = rig.repository().join("packs");
    let output = rig.run(&arguments(&snapshot, &inside, &[]))?.expect_code("in the repository", 64)?;
    refused(&output)?;
    ensure!(output.err().contains("lies in the repository"), "{}", output.err());
    let mut unasked = rig.command(&words(&["--json", "drill", &snapshot]));
    let output = process::run(unasked.env("TMPDIR", home.path()))?.expect_code("unasked", 1)?;
    ensure!(output.err().contains("disk of the repository"), "{}", output.err());
    ensure!(listed(&rig, &snapshot)?["drill"].is_null());

    // Somebody else writes: the drill is made, and says that nobody will know.
    let scratch = scratch_in(home.path())?;
    let lock = fs::File::open(rig.repository().join("lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    let output = drill(&rig, &snapshot, &scratch, &["--retry-lock", "0"])?.expect_code("locked", 2)?;
    ensure!(output.err().contains("was not kept"), "{}", output.err());
    ensure!(summary(&output)?["passed"] == true && summary(&output)?["kept"] == false);
    drop(lock);
    passed(drill(&rig, &snapshot, &scratch, &[])?).map(drop)
}

/// What refuses a drill is its last line, and the only one beside what is going on.
fn refused(output: &Output) -> Result<()> {
    let text = output.err();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("Rehearsing ")).collect();
    ensure!(lines.len() == 1 && lines[0].starts_with("mailkeep: "), "{text}");
    Ok(())
}

/// A file system of 4 MiB.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Result<Small> {
        fs::create_dir(path)?;
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(path);
        process::run(&mut mount)?.expect_code("mount", 0)?;
        Ok(Small(path.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn every_kind_of_file_is_rehearsed() -> Result<()> {
    if !process::is_root() {
        return process::skip("devices, owners and files without permissions need root");
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let tree = home.path().join("tree");
    tree::make(&tree, 1)?;
    let source = generic_source(&home.path().join("tree.toml"), "tree", &tree, "")?;
    let snapshot = id(&rig.backup(&source)?)?;
    let scratch = scratch_in(home.path())?;
    let whole = passed(drill(&rig, &snapshot, &scratch, &[])?)?;
    let left_out = ("left out".to_owned(), "the snapshot is of no mail server".to_owned());
    ensure!(check(&whole, "mail")? == left_out && check(&whole, "cyrus")? == left_out, "{whole}");
    let few = passed(drill(&rig, &snapshot, &scratch, &["--sample", "50", "--seed", "3"])?)?;
    ensure!(few["sample"]["files"] == 50 && few["sample"]["seed"] == 3, "{few}");
    Ok(())
}
