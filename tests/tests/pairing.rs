//! `mailkeep pair` against a real sshd and a real Cyrus: one login, then a key that is good for the agent alone; backups
//! through it; renewed without doubling; taken back letter by letter, also when it fails half-way.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process::{self, Output, write_script};
use mailkeep_tests::programs::{bin, json_line};
use mailkeep_tests::rig::{Rig, id, one_clear_line};
use mailkeep_tests::ssh::{self, Sshd};

struct Lab {
    // Dropped in this order: the server before the folder that it lies in.
    server: Cyrus,
    sshd: Sshd,
    rig: Rig,
    home: tempfile::TempDir,
}

impl Lab {
    fn new() -> Result<Option<Self>> {
        if let Some(why) = cyrus::missing().or_else(ssh::missing) {
            process::skip(&why)?;
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        let rig = Rig::new(home.path())?;
        let state = format!(
            "SetEnv MAILKEEP_AGENT_STATE={} MAILKEEP_AGENT_BOOT=no\n",
            home.path().join("agent-state").display()
        );
        let sshd = Sshd::start_with(&home.path().join("ssh"), &state)?;
        let server = Cyrus::create(&home.path().join("server"), &["alice"], Layout::Uuid)?;
        server.start()?;
        populate(&server, 20, 2)?;
        Ok(Some(Lab { server, sshd, rig, home }))
    }

    fn source(&self) -> PathBuf {
        self.home.path().join("mail1.toml")
    }

    fn agent_folder(&self) -> PathBuf {
        self.home.path().join("far/lib")
    }

    fn key(&self) -> PathBuf {
        self.home.path().join("pairings/mail1/key")
    }

    fn restore_key(&self) -> PathBuf {
        self.home.path().join("pairings/mail1/restore-key")
    }

    /// The line that lets this key in.
    fn line_of(&self, key: &Path) -> Result<String> {
        let public = fs::read_to_string(key.with_extension("pub"))?;
        let blob = public.split_ascii_whitespace().nth(1).unwrap_or("?").to_owned();
        let keys = self.authorized_keys()?;
        let mut lines = keys.lines().filter(|line| line.contains(&blob));
        match (lines.next(), lines.next()) {
            (Some(line), None) => Ok(line.to_owned()),
            _ => anyhow::bail!("not one line of {}: {keys}", key.display()),
        }
    }

    /// That line as it was before anything was pinned.
    fn unpinned(&self, key: &Path) -> Result<String> {
        self.without(key, " --commands ")
    }

    /// That line without what is pinned from this word on.
    fn without(&self, key: &Path, word: &str) -> Result<String> {
        let line = self.line_of(key)?;
        let (head, tail) = line.split_once(word).with_context(|| format!("nothing is pinned: {line}"))?;
        let (_, tail) = tail.split_once("\" ssh-").with_context(|| format!("no key: {line}"))?;
        Ok(format!("{head}\" ssh-{tail}"))
    }

    fn remarks_of(&self, snapshot: &str) -> Result<String> {
        let shown = self.rig.ok(&["--json".into(), "show".into(), snapshot.into()])?;
        Ok(json_line(&shown.out(), "manifest")?["remarks"].to_string())
    }

    /// `mailkeep pair` as an admin of this lab would call it, with the right fingerprint unless `more` says otherwise.
    fn pair(&self, more: &[&str]) -> Result<Output> {
        let fingerprint = self.sshd.fingerprint()?;
        let trust: &[&str] =
            if more.contains(&"--host-key") { &[] } else { &["--host-key", fingerprint.as_str()] };
        self.pair_trusting(trust, more)
    }

    /// The agent for servers of every age, where `make agent` has built it; else the one of this machine.
    fn static_agent() -> Result<PathBuf> {
        let own = bin("mailkeep-agent")?;
        let file = own.with_file_name(format!("mailkeep-agent.{}", std::env::consts::ARCH));
        if file.is_file() {
            return Ok(file);
        }
        process::skip("the static agent is not built: `make agent`")?;
        Ok(own)
    }

    fn pair_trusting(&self, trust: &[&str], more: &[&str]) -> Result<Output> {
        let mut words: Vec<OsString> =
            ["--json", "pair", "root@127.0.0.1", "--name", "mail1"].map(Into::into).into();
        words.extend(["--port".into(), self.sshd.port().to_string().into()]);
        words.extend(["--identity".into(), self.sshd.identity().into()]);
        words.extend(["--agent-dir".into(), self.agent_folder().into()]);
        if !more.contains(&"--agent") {
            words.extend(["--agent".into(), Self::static_agent()?.into()]);
        }
        words.extend(["--pairings".into(), self.home.path().join("pairings").into()]);
        words.extend(["--source-out".into(), self.source().into()]);
        words.extend(["--imapd-conf".into(), self.server.root().join("imapd.conf").into()]);
        words.extend(trust.iter().chain(more).map(Into::into));
        self.rig.run(&words)
    }

    fn authorized_keys(&self) -> Result<String> {
        Ok(fs::read_to_string(self.sshd.authorized_keys())?)
    }

    /// Nothing of a pairing is on either side.
    fn untouched(&self, keys_before: &str) -> Result<()> {
        ensure!(self.authorized_keys()? == keys_before, "authorized_keys differs");
        for path in [self.agent_folder(), self.home.path().join("pairings/mail1"), self.source()] {
            ensure!(!path.exists(), "{} stays behind", path.display());
        }
        Ok(())
    }

    /// Says how this lab's mail is stopped, as the person has to whose Cyrus is no service of the system.
    fn say_how_mail_stops(&self) -> Result<()> {
        let root = self.server.root().display();
        let text = fs::read_to_string(self.source())?;
        let (head, quiesce) = text.split_once("[quiesce]\n").unwrap_or((&text, ""));
        let commands = format!(
            "mode = \"command\"\nstop = [\"{root}/bin/stop\"]\nstart = [\"{root}/bin/start\"]\nrunning = [\"{root}/bin/running\"]\n"
        );
        let rest: String = quiesce.lines().filter(|line| line.starts_with("probe")).collect();
        fs::write(self.source(), format!("{head}[quiesce]\n{commands}{rest}\n"))?;
        Ok(())
    }
}

#[test]
fn the_agent_for_servers_of_every_age_needs_no_library() -> Result<()> {
    let agent = Lab::static_agent()?;
    if agent.extension().is_none() {
        return Ok(());
    }
    let headers =
        process::run(Command::new("readelf").arg("-lW").arg(&agent))?.expect_code("readelf", 0)?.out();
    ensure!(!headers.contains("INTERP"), "it asks for a loader:\n{headers}");
    let told = process::run(Command::new(&agent).arg("--version"))?.expect_code("the static agent", 0)?.out();
    ensure!(told.starts_with("mailkeep-agent "), "{told}");
    Ok(())
}

fn ssh_with(key: &Path, lab: &Lab, more: &[&str]) -> Result<Output> {
    let mut command = Command::new("ssh");
    command.args([
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "StrictHostKeyChecking=yes",
    ]);
    command.arg("-o").arg(format!("UserKnownHostsFile={}", lab.sshd.known_hosts().display()));
    command
        .arg("-i")
        .arg(key)
        .args(["-p", &lab.sshd.port().to_string(), "-l", "root", "127.0.0.1"])
        .args(more);
    process::run(&mut command)
}

#[test]
fn a_paired_server_is_backed_up_through_a_key_that_can_do_nothing_else() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    // A line without an end, as people leave it.
    let theirs = lab.authorized_keys()?.trim_end().to_owned();
    fs::write(lab.sshd.authorized_keys(), &theirs)?;
    let events = lab.server.events();
    let paired = lab.pair(&[])?;
    // This Cyrus is no service of the system, so how it is stopped has to be said by hand. Where the system has a script
    // for its own Cyrus that one is found, else the person is told that something is left to do.
    let told = paired.out().contains("how mail is stopped was not found");
    ensure!(
        paired.code == if told { 2 } else { 0 },
        "exit {}: {} {}",
        paired.code,
        paired.out(),
        paired.err()
    );
    let summary = json_line(&paired.out(), "summary")?;
    ensure!(summary["source"] == "mail1" && summary["files"].as_u64() > Some(20), "{summary}");
    ensure!(summary["quiesce"].is_string(), "{summary}");
    let probe = format!("probe = \"imap://127.0.0.1:{}\"", lab.server.ports().imap);
    let text = fs::read_to_string(lab.source())?;
    ensure!(text.contains(&probe), "the listening port of its own was not found: {text}");
    assert_eq!(lab.server.events(), events, "a rehearsal must not touch mail");

    // The keys are good for the agent alone: no command, no shell, no file transfer, no forwarding.
    for (key, role) in [(lab.key(), "backup"), (lab.restore_key(), "restore")] {
        ensure!(text.contains(&format!("identity-file = \"{}\"", key.display())), "{role}: {text}");
        let command = ssh_with(&key, &lab, &["id; echo mailkeep-was-here"])?;
        ensure!(!command.out().contains("uid=") && !command.out().contains("was-here"), "{}", command.out());
        let forward = ssh_with(&key, &lab, &["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9"])?;
        ensure!(forward.code == 255, "a forwarding was allowed: {} {}", forward.code, forward.err());
        let line = lab.line_of(&key)?;
        let commands = summary["commands"].as_str().unwrap_or("?");
        let mut pinned = format!(" serve --role {role} --commands {commands} --deadline 600");
        for place in summary["reach"].as_array().context("reach")? {
            pinned.push_str(&format!(" --reach '{}'", place.as_str().unwrap_or("?")));
        }
        ensure!(line.starts_with("restrict,command=") && line.contains(&format!("{pinned}\" ")), "{line}");
        ensure!(pinned.contains(&format!("'{}/", lab.server.root().canonicalize()?.display())), "{pinned}");
    }
    ensure!(lab.authorized_keys()?.matches("mailkeep-agent").count() == 2, "{}", lab.authorized_keys()?);
    a_backup_with_the_key_for_restores_is_refused(&lab)?;

    // What is run there is not the box's to say, so an admin's change of it has to be allowed on the server.
    lab.say_how_mail_stops()?;
    let changed = process::run(&mut lab.rig.backup_command(&lab.source()))?;
    let line = one_clear_line("a source file that was changed", &changed)?;
    ensure!(changed.code == 77 && line.contains("run `mailkeep pair` again"), "{} {line}", changed.code);
    assert_eq!(lab.server.events(), events, "mail was touched");
    let again = lab.pair(&[])?;
    ensure!(again.code == 0, "{} {}", again.code, again.err());
    ensure!(again.out().contains("is allowed there from now on"), "{}", again.out());
    lab.rig.good_backup(&lab.source())?;

    // Once more: the agent is renewed, and there is still one line of each key.
    let again = lab.pair(&[])?;
    ensure!(again.code == 0, "{} {}", again.code, again.err());
    ensure!(json_line(&again.out(), "summary")?["source_kept"] == true, "{}", again.out());
    ensure!(lab.authorized_keys()?.matches("mailkeep-agent").count() == 2, "{}", lab.authorized_keys()?);

    let undone = lab.pair(&["--undo"])?.expect_code("pair --undo", 0)?;
    let summary = json_line(&undone.out(), "summary")?;
    ensure!(summary["source_stays"].is_string(), "a source file that was worked on is kept: {summary}");
    assert_eq!(lab.authorized_keys()?, format!("{theirs}\n"));
    fs::remove_file(lab.source())?;
    lab.untouched(&format!("{theirs}\n"))?;
    let gone = lab.pair(&["--undo"])?;
    ensure!(gone.code == 1 && gone.err().contains("is no pairing"), "{}", gone.err());
    Ok(())
}

/// Somebody who has only that key, or has taken the two for each other.
fn a_backup_with_the_key_for_restores_is_refused(lab: &Lab) -> Result<()> {
    let text = fs::read_to_string(lab.source())?;
    let other = lab.home.path().join("swapped.toml");
    fs::write(
        &other,
        text.replace("/key\"\nrestore-identity-file", "/restore-key\"\nrestore-identity-file"),
    )?;
    ensure!(fs::read_to_string(&other)?.matches("/restore-key\"").count() == 2);
    let events = lab.server.events();
    let refused = process::run(&mut lab.rig.backup_command(&other))?;
    let line = one_clear_line("the key for restores", &refused)?;
    ensure!(refused.code == 77 && line.contains("a key for restore may not say BeginPass"), "{line}");
    assert_eq!(lab.server.events(), events, "mail was touched");
    Ok(())
}

#[test]
fn a_pairing_of_one_key_goes_on_and_gets_the_other_when_it_is_renewed() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let theirs = lab.authorized_keys()?;
    lab.pair(&[])?;
    // As it was before keys had roles: one key, no word of a role on either side, and none of commands.
    let old = lab.unpinned(&lab.key())?.replace(" --role backup", "");
    fs::write(lab.sshd.authorized_keys(), format!("{theirs}{old}\n"))?;
    for file in [lab.restore_key(), lab.restore_key().with_extension("pub")] {
        fs::remove_file(file)?;
    }
    lab.say_how_mail_stops()?;
    let text = fs::read_to_string(lab.source())?;
    let text: String = text.lines().filter(|line| !line.contains("restore-identity")).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    );
    fs::write(lab.source(), &text)?;
    let summary = lab.rig.good_backup(&lab.source())?;
    let remarks = lab.remarks_of(&id(&summary)?)?;
    ensure!(
        remarks.contains("may have any command run") && remarks.contains("`mailkeep pair` again"),
        "{remarks}"
    );

    let renewed = lab.pair(&[])?;
    ensure!(renewed.code == 0, "{} {}", renewed.code, renewed.err());
    let summary = json_line(&renewed.out(), "summary")?;
    ensure!(summary["remarks"].to_string().contains("write restore-identity-file = "), "{summary}");
    ensure!(fs::read_to_string(lab.source())? == text, "a file that somebody worked on was changed");
    for (key, role) in [(lab.key(), "backup"), (lab.restore_key(), "restore")] {
        let line = lab.line_of(&key)?;
        ensure!(line.contains(&format!("--role {role} --commands ")), "{line}");
    }
    let summary = lab.rig.good_backup(&lab.source())?;
    let remarks = lab.remarks_of(&id(&summary)?)?;
    ensure!(!remarks.contains("any command"), "{remarks}");

    // And one that was never renewed is taken back as well.
    fs::write(lab.sshd.authorized_keys(), format!("{theirs}{old}\n"))?;
    fs::remove_file(lab.restore_key())?;
    lab.pair(&["--undo"])?.expect_code("pair --undo", 0)?;
    assert_eq!(lab.authorized_keys()?, theirs);
    Ok(())
}

/// A text that whoever has stolen the box would send; the commands in it leave a mark on the server.
fn hostile(text: &str, home: &Path) -> Result<Vec<(String, String)>> {
    let bin = home.join("hostile");
    fs::create_dir_all(&bin)?;
    let mark = home.join("mark");
    // Whatever of Cyrus's tools it is called as.
    for name in ["cyr_info", "ctl_mboxlist", "cyr_withlock_run", "any"] {
        write_script(&bin.join(name), &format!("#!/bin/sh\necho \"$0 $*\" >> {}\nexit 1\n", mark.display()))?;
    }
    let any = bin.join("any").display().to_string();
    let replaced = |key: &str, value: &str| -> Result<(String, String)> {
        let start = format!("{key} = ");
        ensure!(text.lines().filter(|line| line.starts_with(&start)).count() <= 1, "{key} in {text}");
        let rest: Vec<&str> = text.lines().filter(|line| !line.starts_with(&start)).collect();
        let section =
            if ["bin-dir", "cyrus-user", "imapd-conf"].contains(&key) { "[cyrus]" } else { "[quiesce]" };
        let rest = rest.join("\n").replace(section, &format!("{section}\n{key} = {value}"));
        Ok((key.to_owned(), rest + "\n"))
    };
    let conf = home.join("hostile/imapd.conf");
    fs::write(&conf, "configdirectory: /etc\npartition-default: /root\n")?;
    Ok(vec![
        replaced("stop", &format!("[{any:?}]"))?,
        replaced("start", &format!("[{any:?}]"))?,
        replaced("running", &format!("[{any:?}]"))?,
        replaced("bin-dir", &format!("{:?}", bin.display().to_string()))?,
        replaced("cyrus-user", "\"root\"")?,
        replaced("imapd-conf", &format!("{:?}", conf.display().to_string()))?,
        replaced("stragglers", "\"kill\"")?,
        replaced("probe", "\"imap://127.0.0.1:9\"")?,
        ("hooks".to_owned(), format!("{text}\n[standby]\nof = \"mail1\"\nhooks = [[{any:?}]]\n")),
    ])
}

#[test]
fn whoever_has_the_keys_has_nothing_run_but_what_was_paired() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    lab.pair(&[])?;
    lab.say_how_mail_stops()?;
    lab.pair(&[])?.expect_code("pair", 0)?;
    let summary = lab.rig.good_backup(&lab.source())?;
    let events = lab.server.events();
    let mark = lab.home.path().join("mark");
    let other = lab.home.path().join("other.toml");
    let text = fs::read_to_string(lab.source())?;
    for (key, text) in hostile(&text, lab.home.path())? {
        fs::write(&other, &text)?;
        let verbs: [Vec<OsString>; 3] = [
            vec!["backup".into()],
            vec!["restore-server".into(), id(&summary)?.into(), "--dry-run".into()],
            vec!["promote".into()],
        ];
        // One verb for each, and all of them for what a person would run.
        let few = if key == "hooks" { 3 } else { 1 };
        for mut words in verbs.into_iter().take(few) {
            words.extend(["--source".into(), other.clone().into()]);
            let refused = lab.rig.run(&words)?;
            let line = one_clear_line(&key, &refused)?;
            ensure!(
                refused.code == 77 && line.contains("so nothing was run"),
                "{key}: {} {line}",
                refused.code
            );
        }
        ensure!(!mark.exists(), "{key}: {}", fs::read_to_string(&mark)?);
    }
    assert_eq!(lab.server.events(), events, "mail was touched");
    // Times and the like are the box's to say.
    fs::write(&other, text.replace("[quiesce]", "[quiesce]\ndeadline = \"5m\"\nfreeze = \"descriptors\""))?;
    lab.rig.good_backup(&other)?;

    // A pairing again that fails leaves allowed what was.
    let keys = lab.authorized_keys()?;
    let (_, hooks) = hostile(&text, lab.home.path())?.pop().context("none")?;
    fs::write(lab.source(), &hooks)?;
    let agent = bin("mailkeep-agent")?;
    let mute = lab.home.path().join("mute");
    write_script(
        &mute,
        &format!("#!/bin/sh\n[ \"$1\" = serve ] && exit 3\nexec {} \"$@\"\n", agent.display()),
    )?;
    let failed = lab.pair(&["--agent", &mute.display().to_string()])?;
    ensure!(failed.code == 1 && failed.err().contains("the rehearsal failed"), "{}", failed.err());
    assert_eq!(lab.authorized_keys()?, keys);
    fs::write(lab.source(), &text)?;
    lab.pair(&[])?.expect_code("pair", 0)?;

    // Where nothing is pinned the mark would have come: the test would have seen it.
    let unpinned = lab.unpinned(&lab.key())?;
    let keys = lab.authorized_keys()?.replace(&lab.line_of(&lab.key())?, &unpinned);
    fs::write(lab.sshd.authorized_keys(), keys)?;
    let (_, text) = hostile(&text, lab.home.path())?.swap_remove(0);
    fs::write(&other, text)?;
    let ran = process::run(&mut lab.rig.backup_command(&other))?;
    ensure!(ran.code != 0 && mark.exists(), "{} {}", ran.code, ran.err());
    Ok(())
}

#[test]
fn whoever_has_the_keys_reaches_no_other_files_than_were_paired() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    lab.pair(&[])?;
    lab.say_how_mail_stops()?;
    lab.pair(&[])?.expect_code("pair", 0)?;
    let summary = lab.rig.good_backup(&lab.source())?;
    let events = lab.server.events();
    let text = fs::read_to_string(lab.source())?;
    let other = lab.home.path().join("other.toml");
    let secret = lab.home.path().join("secret");
    fs::create_dir(&secret)?;
    fs::write(secret.join("key"), "secret")?;
    let refused = |what: &str, mut words: Vec<OsString>| -> Result<()> {
        words.extend(["--source".into(), other.clone().into()]);
        let refused = lab.rig.run(&words)?;
        let line = one_clear_line(what, &refused)?;
        ensure!(
            refused.code == 77 && line.contains("no place that this key reaches") && line.contains(what),
            "{what}: {} {line}",
            refused.code
        );
        Ok(())
    };
    let backup = || vec![OsString::from("backup")];
    let also: Vec<&str> = text.lines().filter(|line| line.starts_with("also = ")).collect();
    let [also] = also.as_slice() else { anyhow::bail!("{text}") };
    for path in [secret.join("key"), secret.clone(), PathBuf::from("/etc"), PathBuf::from("/")] {
        fs::write(&other, text.replace(also, &format!("also = [{path:?}]")))?;
        refused(&format!("{} (named by cyrus.also)", path.display()), backup())?;
    }
    let restore: Vec<OsString> = vec!["restore-server".into(), id(&summary)?.into(), "--dry-run".into()];
    refused("named by cyrus.also", restore.clone())?;
    assert_eq!(lab.server.events(), events, "mail was touched");

    // A new partition is the admin's own: he allows it by pairing again.
    fs::write(&other, &text)?;
    let conf = lab.server.root().join("imapd.conf");
    let more = lab.server.root().join("../more");
    fs::create_dir(&more)?;
    let more = more.canonicalize()?;
    fs::write(&conf, format!("{}\npartition-more: {}\n", fs::read_to_string(&conf)?, more.display()))?;
    refused("partition-more in", backup())?;
    refused("partition-more in", restore)?;
    lab.pair(&[])?.expect_code("pair", 0)?;
    lab.rig.good_backup(&lab.source())?;

    // A key of before this goes on, and says so.
    let keys =
        lab.authorized_keys()?.replace(&lab.line_of(&lab.key())?, &lab.without(&lab.key(), " --deadline ")?);
    fs::write(lab.sshd.authorized_keys(), keys)?;
    fs::write(&other, text.replace(also, &format!("also = [{:?}]", secret.join("key"))))?;
    let remarks = lab.remarks_of(&id(&lab.rig.good_backup(&other)?)?)?;
    ensure!(remarks.contains("reaches every file") && remarks.contains("`mailkeep pair` again"), "{remarks}");
    Ok(())
}

#[test]
fn a_server_with_another_host_key_gets_nothing() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let before = lab.authorized_keys()?;
    let other = lab.pair(&["--host-key", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])?;
    ensure!(
        other.code == 1 && one_clear_line("another host key", &other)?.contains("shows another host key")
    );
    let unknown = lab.pair_trusting(&[], &[])?;
    let line = one_clear_line("an unknown host key", &unknown)?;
    ensure!(unknown.code == 1 && line.contains(&lab.sshd.fingerprint()?), "{line}");
    lab.untouched(&before)?;
    // A later one at the same place that shows other keys is not believed either.
    let first = lab.pair_trusting(&["--accept-new-host-key"], &[])?;
    ensure!([0, 2].contains(&first.code), "{} {}", first.code, first.err());
    let known = lab.home.path().join("pairings/mail1/known_hosts");
    let foreign = Sshd::start(&lab.home.path().join("foreign"))?;
    let key = fs::read_to_string(foreign.known_hosts())?.split_once(' ').map(|(_, key)| key.to_owned());
    fs::write(&known, format!("[127.0.0.1]:{} {}", lab.sshd.port(), key.unwrap_or_default()))?;
    let changed = lab.pair_trusting(&["--accept-new-host-key"], &[])?;
    ensure!(changed.code == 1 && changed.err().contains("shows another host key"), "{}", changed.err());
    Ok(())
}

#[test]
fn what_fails_half_way_is_taken_back() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let before = lab.authorized_keys()?;
    let agent = bin("mailkeep-agent")?;
    let agent = agent.display();
    let script = |name: &str, text: String| -> Result<String> {
        let path = lab.home.path().join(name);
        write_script(&path, &text)?;
        Ok(path.display().to_string())
    };
    // The wrong program; one that cannot describe the server; one that fails in the rehearsal.
    let wrong = script("wrong", "#!/bin/sh\necho hello\n".to_owned())?;
    let blind = script("blind", format!("#!/bin/sh\n[ \"$1\" = detect ] && exit 3\nexec {agent} \"$@\"\n"))?;
    let mute = script("mute", format!("#!/bin/sh\n[ \"$1\" = serve ] && exit 3\nexec {agent} \"$@\"\n"))?;
    // One that takes every key for one of backups: what is promised of the key for restores is not true there.
    let lax = script("lax", format!("#!/bin/sh\n[ \"$1\" = serve ] && set -- serve\nexec {agent} \"$@\"\n"))?;
    for (file, said) in [
        (lax, "can read all mail"),
        (wrong, "does not run on"),
        (blind, "cannot look at the mail system"),
        (mute, "the rehearsal failed"),
    ] {
        let failed = lab.pair(&["--agent", &file])?;
        ensure!(failed.code == 1, "{file}: exit {}: {}", failed.code, failed.err());
        ensure!(one_clear_line(&file, &failed)?.contains(said), "{file}: {}", failed.err());
        lab.untouched(&before)?;
    }
    // A file of keys that sshd does not read.
    let elsewhere = lab.home.path().join("elsewhere/keys");
    let ignored = lab.pair(&["--authorized-keys", &elsewhere.display().to_string()])?;
    ensure!(ignored.code == 1 && ignored.err().contains("does not let the new key in"), "{}", ignored.err());
    ensure!(!elsewhere.exists(), "the file that was made stays");
    lab.untouched(&before)?;
    // A source file of something else is never written over.
    fs::write(lab.source(), "name = \"other\"\n")?;
    let taken = lab.pair(&[])?;
    ensure!(taken.code == 1 && taken.err().contains("is there already"), "{}", taken.err());
    ensure!(fs::read_to_string(lab.source())? == "name = \"other\"\n");
    fs::remove_file(lab.source())?;
    lab.untouched(&before)
}

#[test]
fn nobody_at_home_and_nonsense_are_told_in_one_line() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let run = |words: &[&str]| -> Result<Output> {
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        lab.rig.run(&words)
    };
    // A port on which nobody ever listens (RFC 1078). One that was free a moment ago may be somebody else's by now.
    let absent = run(&["pair", "root@127.0.0.1", "--port", "1", "--name", "x"])?;
    ensure!(absent.code == 75, "{} {}", absent.code, absent.err());
    one_clear_line("no server", &absent)?;
    for words in [["pair", "root@-oProxyCommand=id"], ["pair", "root@mail1;id"]] {
        let refused = run(&words)?;
        ensure!(refused.code == 64 && one_clear_line("nonsense", &refused)?.contains("is no USER@HOST"));
    }
    let named = run(&["pair", "root@127.0.0.1", "--name", "../x"])?;
    ensure!(named.code == 64, "{} {}", named.code, named.err());
    Ok(())
}
