//! What follows upon a good backup: standbys and the rescue kit, brought by `mailkeep` as a program of its own, which may
//! fail, and which a job that is to end does not wait for.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mailkeep_appliance::config::Standby;
use mailkeep_appliance::engine::{Engine, News};
use mailkeep_appliance::pull_engine::PullEngine;
use mailkeep_appliance::tool::Tool;

/// A program that is written by a child: a descriptor inherited by another test's fork would make it busy.
fn program(folder: &Path, body: &str) -> PathBuf {
    let path = folder.join("mailkeep");
    let text = format!("#!/bin/sh\n{body}\n");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"]).arg(&path).arg(text);
    assert!(shell.status().unwrap().success());
    path
}

fn engine(folder: &Path, body: &str) -> PullEngine {
    fs::write(folder.join("box.key"), "").unwrap();
    let standby = |name: &str, of: &str| Standby {
        name: name.to_owned(),
        of: of.to_owned(),
        file: folder.join(format!("{name}.toml")),
    };
    PullEngine::new(folder.join("box.key")).followed_by(
        Some(Tool::at(program(folder, body))),
        vec![standby("second", "mail1"), standby("third", "mail2")],
    )
}

/// What is told after a backup of `mail1`.
fn afterwards(engine: &PullEngine, folder: &Path, cancel: &AtomicBool) -> Vec<String> {
    let told = Mutex::new(Vec::new());
    engine.afterwards(&folder.join("disk"), &["mail1".to_owned()], cancel, &|news| match news {
        News::Told(text) => told.lock().unwrap().push(text),
        other => panic!("{other:?}"),
    });
    told.into_inner().unwrap()
}

#[test]
fn the_standby_of_what_was_backed_up_is_brought_up_to_date_and_the_kit_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let engine = engine(at, &format!("echo \"$@\" >> '{}/calls'", at.display()));
    let told = afterwards(&engine, at, &AtomicBool::new(false));
    assert!(told.len() == 1 && told[0].contains("second holds the newest snapshot of mail1"), "{told:?}");
    let common = format!("-r {0}/disk --quiet --no-progress --key-file {0}/box.key", at.display());
    let second =
        format!("{common} restore-server latest --source {}/second.toml --as-standby --yes", at.display());
    let calls = fs::read_to_string(at.join("calls")).unwrap();
    assert_eq!(calls.lines().collect::<Vec<_>>(), [second, format!("{common} rescue-kit")]);
}

#[test]
fn what_fails_is_told_in_its_own_words_and_keeps_nothing_else_from_being_done() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), "echo noise >&2; echo 'mailkeep: the disk fell out' >&2; exit 75");
    let told = afterwards(&engine, folder.path(), &AtomicBool::new(false));
    assert!(told.len() == 2 && told.iter().all(|line| line.ends_with("the disk fell out")), "{told:?}");
    assert!(told[0].contains("second is NOT up to date") && told[1].starts_with("Rescue kit"), "{told:?}");
    let without = PullEngine::new(folder.path().join("box.key")).followed_by(
        None,
        vec![Standby { name: "second".into(), of: "mail1".into(), file: folder.path().join("second.toml") }],
    );
    let told = afterwards(&without, folder.path(), &AtomicBool::new(false));
    assert!(told.len() == 1 && told[0].contains("install it"), "{told:?}");
}

#[test]
fn a_job_that_is_to_end_ends_what_follows_upon_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let engine = engine(
        at,
        &format!("echo $$ > '{0}/new' && mv '{0}/new' '{0}/runs' && exec sleep 100000", at.display()),
    );
    let cancel = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        let job = scope.spawn(|| afterwards(&engine, at, &cancel));
        while !at.join("runs").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        cancel.store(true, Ordering::Relaxed);
        job.join().unwrap()
    });
    assert_eq!(told, [] as [&str; 0]);
    let id = fs::read_to_string(at.join("runs")).unwrap();
    assert!(!Path::new("/proc").join(id.trim()).exists(), "it still runs");
}
