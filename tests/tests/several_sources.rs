//! Several sources on one disk: one after the other, at once, and backends of one Murder that have the same mailbox.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::source::{Options, cyrus_source, generic_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process::{self, Running, signal};
use mailkeep_tests::rig::{Rig, id, one_clear_line};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::tree;
use rustix::process::Signal;
use serde_json::Value;

fn remarks(summary: &Value) -> Vec<String> {
    let lines = summary["remarks"].as_array().into_iter().flatten();
    lines.filter_map(|line| line.as_str().map(str::to_owned)).collect()
}

/// A server whose users are these, which from its next start on is a backend of this Murder.
fn backend(home: PathBuf, users: &[&str], master: Option<&str>) -> Result<Cyrus> {
    let server = Cyrus::create(&home, users, Layout::Uuid)?;
    server.start()?;
    let mut admin = server.imap(cyrus::ADMIN)?;
    for user in users {
        admin.run(&format!("CREATE user/{user}"))?;
        server.deliver(user, b"Subject: x\r\n\r\nx\r\n")?;
    }
    if let Some(master) = master {
        let conf = server.root().join("imapd.conf");
        let text = fs::read_to_string(&conf)?;
        // Made without a master, which nobody is there to be; only the making of mailboxes would ask for one.
        fs::write(conf, format!("{text}\nmupdate_server: {master}\n"))?;
    }
    Ok(server)
}

#[test]
fn a_mailbox_on_two_backends_is_told() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let murder = Some("mupdate.example.org");
    let servers = [
        ("mail1", backend(home.path().join("one"), &["alice", "bob"], murder)?),
        ("mail2", backend(home.path().join("two"), &["alice", "carol"], Some("MUPDATE.example.org:3905"))?),
        // The same names, and another world.
        ("alone", backend(home.path().join("three"), &["alice"], None)?),
    ];
    let mut summaries = Vec::new();
    for (name, server) in &servers {
        let file = home.path().join(format!("{name}.toml"));
        let source = cyrus_source(&file, server, &Options::default())?;
        let text = fs::read_to_string(&source)?;
        fs::write(&source, text.replace("name = \"lab\"", &format!("name = \"{name}\"")))?;
        summaries.push(rig.good_backup(&source)?);
    }
    let about =
        |summary: &Value, word: &str| remarks(summary).iter().filter(|line| line.contains(word)).count();
    let [first, second, alone] = &summaries[..] else { unreachable!() };
    ensure!(about(first, "mailbox ") == 0, "nothing to compare with: {:?}", remarks(first));
    ensure!(about(second, "mailbox user.alice is at source mail1") == 1, "{:?}", remarks(second));
    ensure!(about(second, "user.carol") == 0 && about(second, "user.bob") == 0, "{:?}", remarks(second));
    ensure!(about(alone, "mailbox ") == 0, "no Murder, no double: {:?}", remarks(alone));

    // What a person is told after a restore of a backend, and only of one.
    for (summary, murder) in [(second, true), (alone, false)] {
        let target = home.path().join("restored");
        let told =
            rig.ok(&["restore".into(), id(summary)?.into(), "--target".into(), target.clone().into()])?;
        let steps = told.err().contains("ctl_mboxlist -m -w") && told.err().contains("mupdate.example.org");
        ensure!(steps == murder, "after the restore: {}", told.err());
        fs::remove_dir_all(&target)?;
    }
    rig.verify_all()
}

#[test]
fn two_at_once_are_one_after_the_other() -> Result<()> {
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let (mut rng, _) = Rng::of_run();
    let mut sources = Vec::new();
    for name in ["one", "two"] {
        let folder = home.path().join(name);
        fs::create_dir(&folder)?;
        for number in 0..40 {
            let mut data = vec![0; 50_000];
            rng.fill(&mut data);
            fs::write(folder.join(format!("{number}.")), data)?;
        }
        sources.push((generic_source(&home.path().join(format!("{name}.toml")), name, &folder, "")?, folder));
    }
    let [(one, _), (two, folder)] = &sources[..] else { unreachable!() };
    // So slow that it does not end before the other was refused.
    let mut slow = rig.backup_command(one);
    let mut holder = Running::spawn(slow.args(["--limit-download", "64 kbit/s"]))?;
    let mut naps = 0;
    while !rig.repository().join("lease").exists() {
        naps += 1;
        ensure!(!holder.ended()? && naps < 10_000, "the first backup does not begin");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let refused = rig.run(&["backup".into(), "--source".into(), two.into()])?;
    ensure!(refused.code == 11, "exit {} while another source is backed up: {}", refused.code, refused.err());
    let line = one_clear_line("a repository that is written to", &refused)?;
    ensure!(line.contains("process"), "it does not say who writes: {line}");
    // Reading goes on meanwhile.
    rig.snapshots()?;
    signal(holder.pid(), Signal::INT);
    let interrupted = holder.wait(process::HANG)?;
    ensure!(interrupted.code == 130, "exit {} after Ctrl-C: {}", interrupted.code, interrupted.err());

    let summary = rig.backup(two)?;
    rig.backup(one)?;
    let restored = rig.restore(&id(&summary)?, &home.path().join("r"), folder)?;
    let difference = tree::difference(&tree::facts(folder)?, &tree::facts(&restored)?);
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    let listed = rig.ok(&["--json".into(), "snapshots".into(), "--source".into(), "two".into()])?;
    let count = listed.out().lines().filter(|line| line.contains("\"two\"")).count();
    ensure!(count == 1 && !listed.out().contains("\"one\""), "{}", listed.out());
    rig.verify_all()
}

/// A frontend or a master of a Murder has no mailboxes: `pair` writes a source with its configuration only.
#[test]
fn a_server_without_mailboxes_is_its_configuration() -> Result<()> {
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let etc = home.path().join("etc");
    fs::create_dir(&etc)?;
    for (name, text) in [
        ("imapd.conf", "configdirectory: /var/lib/cyrus\nmupdate_server: mupdate.example.org\n"),
        ("cyrus.conf", "SERVICES {\n  mupdate cmd=\"mupdate\" listen=3905 prefork=1\n}\n"),
        ("beside", "not named\n"),
    ] {
        fs::write(etc.join(name), text)?;
    }
    let source = generic_source(&home.path().join("frontend.toml"), "frontend", &etc, "")?;
    let text = fs::read_to_string(&source)?;
    let files = format!("paths = [\"{0}/imapd.conf\", \"{0}/cyrus.conf\"]", etc.display());
    fs::write(&source, text.replace(&format!("paths = [\"{}\"]", etc.display()), &files))?;
    let summary = rig.good_backup(&source)?;
    ensure!(summary["files"] == 2 && summary["window_ms"].is_null(), "{summary}");
    let restored = rig.restore(&id(&summary)?, &home.path().join("r"), &etc)?;
    let mut names: Vec<_> = fs::read_dir(&restored)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    names.sort();
    ensure!(names == ["cyrus.conf", "imapd.conf"], "{names:?}");
    let back = fs::read_to_string(restored.join("imapd.conf")).context("restored imapd.conf")?;
    ensure!(back.contains("mupdate_server"), "{back}");
    Ok(())
}
