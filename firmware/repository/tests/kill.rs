//! SIGKILL at any moment: the lock is free at once, the repository opens, sealed snapshots are there, the next backup
//! succeeds, and what the killed one had finished is used. The victim is this test binary itself.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use mailkeep_repository::format::Identity;
use mailkeep_repository::{
    Encryption, InitOptions, KeySource, LocalStorage, LogMonitor, ReadData, Repository, Storage,
    VerifyOptions, verify,
};

const FOLDER: &str = "MAILKEEP_KILL_FOLDER";

fn opened(folder: &Path) -> Repository {
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(&folder.join("disk")).unwrap());
    Repository::open(storage, &KeySource::File(folder.join("key")), &LogMonitor).unwrap()
}

fn next_day(repository: &Repository) -> u64 {
    repository.snapshots(&LogMonitor).unwrap().len() as u64
}

/// Not a test of its own: backs up day after day until it is killed, and says so after every seal.
#[test]
#[ignore = "run by `killed_at_any_moment` as the process that is killed"]
fn victim() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let repository = opened(Path::new(&folder));
    loop {
        let sealed = backup(&repository, &source(next_day(&repository))).unwrap();
        println!("\nsealed {}", sealed.manifest.generation);
    }
}

#[test]
fn killed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), 12);
}

#[test]
fn killed_at_any_moment_on_btrfs_no_guard_is_left_half_made() {
    let Some(disk) = loops::Loop::btrfs(300) else { return };
    killed(&disk.path(), 8);
    let storage = LocalStorage::open(&disk.path().join("disk")).unwrap();
    let mut guards = storage.guards().unwrap();
    assert_eq!(guards.len(), 2);
    guards.sort();
    let mut there: Vec<String> = std::fs::read_dir(disk.path().join("disk/guards"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "probe")
        .collect();
    there.sort();
    assert_eq!(there, guards);
}

fn killed(folder: &Path, rounds: u64) {
    let key = Identity::generate();
    std::fs::write(folder.join("key"), key.to_text().as_bytes()).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::prepare(&folder.join("disk")).unwrap());
    let encryption = Encryption::Wrapped { box_key: key };
    Repository::init(storage, &InitOptions { label: "kill".into(), encryption }).unwrap();
    for round in 0..rounds {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut sealed = 0u64;
        // Once it has sealed something, some moment of the next backup is met.
        for line in lines.by_ref().map_while(Result::ok) {
            if let Some(generation) = line.strip_prefix("sealed ") {
                sealed = generation.parse().unwrap();
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(round * 3 % 40));
        victim.kill().unwrap();
        victim.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(generation) = line.strip_prefix("sealed ") {
                sealed = generation.parse().unwrap();
            }
        }
        assert!(sealed > 0, "the victim never sealed anything");
        let repository = opened(folder);
        let (entries, monitor) = snapshots(&repository);
        assert!(entries.len() as u64 >= sealed, "{} of {sealed}: {:?}", entries.len(), monitor.problems());
        let last = entries.last().unwrap();
        assert!(restore(&repository, last).unwrap() == source(last.manifest.generation - 1));
        let next = backup(&repository, &source(next_day(&repository))).unwrap();
        assert_eq!(next.manifest.previous, Some(last.id));
        assert_eq!(std::fs::read_dir(folder.join("disk/tmp")).unwrap().count(), 0);
    }
    let report = verify(&opened(folder), VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert_eq!(report.problems, []);
}
