//! The main job on a real Cyrus: pulled in two passes under live load, verified, restored to fresh folders,
//! started there, and equal over IMAP and file by file to what the server was in the window.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::files::files_are_equal;
use mailkeep_tests::cyrus::load::Load;
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, cyrus_source};
use mailkeep_tests::cyrus::state::imap_is_equal;
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::{process, tree};

const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// A started server with mail.
fn filled(home: &Path, messages: usize, layout: Layout) -> Result<Cyrus> {
    let server = Cyrus::create(&home.join("server"), &USERS, layout)?;
    server.start()?;
    populate(&server, messages, 1)?;
    Ok(server)
}

/// Restores `snapshot` and compares it with the copy that the stop script took in the window.
fn restored_equals_truth(
    rig: &Rig,
    snapshot: &str,
    server: &Cyrus,
    truth_dir: &Path,
    target: &Path,
) -> Result<()> {
    let restored_dir = rig.restore(snapshot, target, server.root())?;
    files_are_equal(truth_dir, &restored_dir)?;
    let restored = imap_is_equal(truth_dir, &restored_dir, server)?;
    sieve_still_files(&restored)
}

/// A filter that silently stopped would look perfect over IMAP and ManageSieve: deliver through it.
fn sieve_still_files(server: &Cyrus) -> Result<()> {
    let count = |server: &Cyrus| -> Result<u64> {
        let answers = server.imap("alice")?.run("STATUS INBOX/Work (MESSAGES)")?;
        let status = answers.iter().find(|a| a.is("STATUS")).context("no STATUS answer")?;
        Ok(status.tokens[2].list()[1].text().parse()?)
    };
    let before = count(server)?;
    server.deliver(
        "alice",
        b"From: a@example.net\r\nTo: alice\r\nSubject: zap now\r\nMessage-ID: <zap@lab>\r\n\r\nhello\r\n",
    )?;
    ensure!(count(server)? == before + 1, "mail for alice was not filed by her sieve script");
    Ok(())
}

fn rounds_under_load(layout: Layout, rounds: usize) -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let server = filled(home.path(), 300, layout)?;
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
    let load = Load::start(&server, 2, 5);
    for round in 0..rounds {
        let truth_dir = home.path().join(format!("truth{round}"));
        server.keep_truth_in(&truth_dir)?;
        load.wait_for(60)?;
        let summary = rig.good_backup(&source).with_context(|| format!("round {round}"))?;
        server.wait_for_greeting(process::HANG).context("mail must be back after the backup")?;
        load.wait_for(20).context("the load must get through again")?;
        ensure!(summary["window_ms"].as_u64().is_some_and(|ms| ms > 0), "no window in {summary}");
        ensure!(
            summary["mail_check"]["messages"].as_u64().is_some_and(|n| n >= 250),
            "mail check: {summary}"
        );
        rig.verify_all()?;
        let target = home.path().join(format!("r{round}"));
        restored_equals_truth(&rig, &id(&summary)?, &server, &truth_dir, &target)
            .with_context(|| format!("round {round}, load {:?}, summary {summary}", load.done()))?;
        eprintln!("round {round}: equal; window {} ms, load {:?}", summary["window_ms"], load.done());
    }
    let done = load.stop();
    ensure!(done.lost > 0, "the stops were never felt by the load: {done:?}");
    Ok(())
}

#[test]
fn restored_equals_the_window_under_load() -> Result<()> {
    rounds_under_load(Layout::Uuid, process::env_number("MAILKEEP_ROUNDS", 2))
}

#[test]
fn restored_equals_the_window_in_the_legacy_layout() -> Result<()> {
    rounds_under_load(Layout::Legacy, 1)
}

#[test]
fn a_live_only_backup_never_stops_mail_and_says_so() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let server = filled(home.path(), 40, Layout::Uuid)?;
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
    let before = server.events();
    rig.ok(&["backup".into(), "--source".into(), source.into(), "--live-only".into()])?;
    assert_eq!(server.events(), before, "neither stop nor start may be called");
    let output = rig.ok(&["--json".into(), "snapshots".into()])?;
    assert!(output.out().contains("\"consistent\":false"), "{}", output.out());
    Ok(())
}

#[test]
fn a_window_that_would_not_fit_is_refused_with_its_figures_and_can_be_forced() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let server = filled(home.path(), 40, Layout::Uuid)?;
    let options = Options { outage_budget: "0s", ..Options::default() };
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &options)?;
    let before = server.events();
    let output = process::run(&mut rig.backup_command(&source))?.expect_code("over the budget", 1)?;
    for part in ["mail was not stopped", "to stop and start mail", " files and copy the ", "--force-window"] {
        ensure!(output.err().contains(part), "{part} in {}", output.err());
    }
    ensure!(server.events() == before && rig.snapshots()?.is_empty(), "{:?}", server.events());
    rig.ok(&["backup".into(), "--source".into(), source.into(), "--force-window".into()])?;
    ensure!(server.events().ends_with(&["stop".to_owned(), "start".to_owned()]), "{:?}", server.events());
    Ok(())
}

#[test]
fn a_start_that_fails_twice_is_tried_again() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let server = filled(home.path(), 40, Layout::Uuid)?;
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
    server.fail_starts(2)?;
    rig.good_backup(&source)?;
    server.wait_for_greeting(process::HANG)
}

#[test]
fn a_message_file_that_is_missing_on_the_server_is_reported() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let server = filled(home.path(), 60, Layout::Uuid)?;
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
    let spool = server.root().join("spool/default");
    let message = tree::facts(&spool)?
        .into_iter()
        .filter(|(_, row)| row["kind"] == "file")
        .map(|(name, _)| name)
        .find(|name| name.ends_with('.'))
        .context("no message file in the spool")?;
    std::fs::remove_file(spool.join(message))?;
    let output = process::run(&mut rig.backup_command(&source))?;
    let summary = mailkeep_tests::programs::json_line(&output.out(), "summary")?;
    ensure!(summary["mail_check"]["ok"] == false, "the mail check is blind: {summary}");
    ensure!(output.code == 2 || output.code == 65, "exit {} although the mail check failed", output.code);
    server.wait_for_greeting(process::HANG)
}
