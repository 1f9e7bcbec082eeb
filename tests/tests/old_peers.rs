//! A box and an agent of different ages, on a real Cyrus: with each version of the protocol that is still spoken a backup is
//! whole and consistent, and one that is no longer spoken ends with one line before anything is stopped.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mailkeep_link::version;
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, cyrus_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process::{self, write_script};
use mailkeep_tests::programs::{bin, json_line};
use mailkeep_tests::rig::{Rig, id, one_clear_line};

struct Lab {
    // Dropped in this order: the server before the folder that it lies in.
    server: Cyrus,
    rig: Rig,
    home: tempfile::TempDir,
}

impl Lab {
    fn new() -> Result<Option<Lab>> {
        if let Some(why) = cyrus::missing() {
            process::skip(&why)?;
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        let rig = Rig::new(home.path())?;
        let server = Cyrus::create(&home.path().join("server"), &["alice", "bob"], Layout::Uuid)?;
        server.start()?;
        populate(&server, 40, 4)?;
        Ok(Some(Lab { server, rig, home }))
    }

    /// A source whose link speaks nothing above this version.
    fn source(&self, highest: u32) -> Result<PathBuf> {
        let older = self.home.path().join(format!("agent-{highest}"));
        let (program, agent, state) = (bin("older")?, bin("mailkeep-agent")?, self.server.agent_state());
        let text = format!(
            "#!/bin/sh\nexport MAILKEEP_AGENT_STATE='{}' MAILKEEP_AGENT_BOOT=no\nexec '{}' {highest} '{}' \"$@\"\n",
            state.display(),
            program.display(),
            agent.display()
        );
        write_script(&older, &text)?;
        let options = Options { agent: Some(older), ..Options::default() };
        cyrus_source(&self.home.path().join(format!("lab-{highest}.toml")), &self.server, &options)
    }

    fn dry_run(&self, source: &Path) -> Result<serde_json::Value> {
        let words = ["--json".into(), "backup".into(), "--dry-run".into(), "--source".into(), source.into()];
        json_line(&self.rig.ok(&words)?.out(), "summary")
    }
}

#[test]
fn every_version_that_is_spoken_backs_up_as_well_as_it_can() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let all = version::LOWEST..=version::HIGHEST;
    // Up and down again: what one version has left in a snapshot is the base of another.
    for highest in all.clone().chain(all.rev()) {
        let told = || format!("version {highest}");
        let source = lab.source(highest)?;
        let letter =
            format!("From: a@example.net\r\nTo: bob\r\nSubject: v{highest}\r\n\r\nNew in {highest}\r\n");
        lab.server.deliver("bob", letter.as_bytes())?;
        let survey = lab.dry_run(&source).with_context(told)?;
        let window = &survey["window"];
        ensure!(window["total_ms"].is_u64(), "{highest}: {survey}");
        ensure!(window["guard_lead_ms"].is_u64() == (highest >= version::LEAD), "{highest}: {survey}");
        ensure!(window["kept_on_server"] == (highest >= version::FREEZE), "{highest}: {survey}");
        let truth = lab.home.path().join("truth");
        lab.server.keep_truth_in(&truth)?;
        let summary = lab.rig.good_backup(&source).with_context(told)?;
        ensure!(summary["mail_check"]["digests_compared"].as_u64() > Some(0), "{highest}: {summary}");
        let shown = lab.rig.ok(&["show".into(), id(&summary)?.into()])?.out();
        ensure!(shown.contains("staged: ") == (highest >= version::FREEZE), "{highest}:\n{shown}");
        let target = lab.home.path().join("restored");
        let restored = lab.rig.restore(&id(&summary)?, &target, lab.server.root())?;
        cyrus::files::files_are_equal(&truth, &restored).with_context(told)?;
        for folder in [truth, target] {
            std::fs::remove_dir_all(folder)?;
        }
    }
    lab.rig.verify_all()
}

#[test]
fn a_version_that_nobody_speaks_any_more_is_one_line() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let events = lab.server.events();
    let refused = process::run(&mut lab.rig.backup_command(&lab.source(0)?))?;
    ensure!(refused.code == 1, "exit {}: {}", refused.code, refused.err());
    one_clear_line("an agent that is too old", &refused)?;
    assert_eq!(lab.server.events(), events, "mail was touched");
    Ok(())
}
