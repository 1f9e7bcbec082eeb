//! Hazards 12, 20, 23: two processes, two boxes, a reboot, a long sleep, and an older clone of the disk. The processes are
//! real: this test binary plays the second one.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use common::*;
use mailkeep_repository::format::Identity;
use mailkeep_repository::{
    BoxId, LocalStorage, LogMonitor, Machine, MemoryStorage, Repository, RepositoryError, Seen, Setback,
    Storage, WriterOptions, setback,
};
use mailkeep_repository::{Encryption, InitOptions, KeySource};

const FOLDER: &str = "MAILKEEP_TEST_LEASE_FOLDER";
const KEY: &str = "MAILKEEP_TEST_LEASE_KEY";

fn machine(name: &str, boot: &str) -> Machine {
    Machine {
        box_id: BoxId::of(name.as_bytes()),
        boot_id: boot.into(),
        pid: std::process::id(),
        host: name.into(),
    }
}

fn options_of(name: &str, boot: &str) -> WriterOptions {
    WriterOptions { machine: machine(name, boot), ..options() }
}

fn at(folder: &Path, key: &Identity) -> Repository {
    let storage = Arc::new(LocalStorage::open(folder).unwrap());
    Repository::open(storage, &KeySource::Identity(key.clone()), &LogMonitor).unwrap()
}

/// The other process: holds a writer as box "one" until its stdin ends, then lets go in order.
#[test]
#[ignore = "run by the other tests as a second process"]
fn other_process() {
    let folder = std::env::var(FOLDER).unwrap();
    let key = Identity::parse(&std::env::var(KEY).unwrap()).unwrap();
    let repository = at(Path::new(&folder), &key);
    let writer = repository.writer(&options_of("one", "boot 1"), &LogMonitor).unwrap();
    println!("\nholding");
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    drop(writer);
}

/// The lines it says are kept, or it would end for having nobody to talk to.
type Lines = std::io::Lines<BufReader<std::process::ChildStdout>>;

fn start_other(folder: &Path, key: &Identity) -> (Child, Lines) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_process", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(KEY, key.to_text().as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "holding"), "the other process did not get the lock");
    (child, lines)
}

fn repository_on_disk() -> (tempfile::TempDir, Identity) {
    let folder = tempfile::tempdir().unwrap();
    let key = Identity::generate();
    let storage = Arc::new(LocalStorage::prepare(&folder.path().join("disk")).unwrap());
    let encryption = Encryption::Wrapped { box_key: key.clone() };
    Repository::init(storage, &InitOptions { label: "lease".into(), encryption }).unwrap();
    (folder, key)
}

#[test]
fn a_living_process_keeps_everybody_else_out_and_cannot_be_unlocked() {
    let (folder, key) = repository_on_disk();
    let disk = folder.path().join("disk");
    let (mut other, lines) = start_other(&disk, &key);
    let repository = at(&disk, &key);
    for (name, boot) in [("one", "boot 1"), ("one", "boot 2"), ("two", "boot 1")] {
        let error = repository.writer(&options_of(name, boot), &LogMonitor).map(drop).unwrap_err();
        assert_eq!(error.exit_code(), 11, "{name}, {boot}: {error}");
        assert!(error.to_string().contains("box one"), "it says who: {error}");
    }
    assert_eq!(repository.unlock().unwrap_err().exit_code(), 11);
    assert_eq!(repository.reindex(&machine("two", "x"), &LogMonitor).unwrap_err().exit_code(), 11);
    repository.reader(&LogMonitor).unwrap();
    drop(other.stdin.take());
    lines.for_each(drop);
    assert!(other.wait().unwrap().success());
    backup(&repository, &source(0)).unwrap();
}

#[test]
fn a_killed_process_is_taken_over_by_its_own_box_and_by_another_one_only_after_unlock() {
    for reboot in [false, true] {
        let (folder, key) = repository_on_disk();
        let disk = folder.path().join("disk");
        let (mut other, lines) = start_other(&disk, &key);
        other.kill().unwrap();
        other.wait().unwrap();
        drop(lines);
        let repository = at(&disk, &key);
        // The disk is carried to another box.
        let foreign = repository.writer(&options_of("two", "boot 9"), &LogMonitor).map(drop).unwrap_err();
        assert_eq!(foreign.exit_code(), 11);
        assert!(foreign.to_string().contains("mailkeep unlock"), "it says what to do: {foreign}");
        if reboot {
            repository.writer(&options_of("one", "boot 2"), &LogMonitor).map(drop).unwrap();
        } else {
            let removed = repository.unlock().unwrap().unwrap();
            assert_eq!((removed.host.as_str(), removed.boot_id.as_str()), ("one", "boot 1"));
        }
        repository.writer(&options_of("two", "boot 9"), &LogMonitor).map(drop).unwrap();
        assert!(!disk.join("lease").exists(), "who lets go in order leaves no lease");
    }
}

#[test]
fn a_writer_whose_lease_was_taken_over_while_it_slept_seals_nothing() {
    // Two boxes reach one disk over a network, so that no lock is seen between them: two views of the same files.
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = init(&storage).unwrap();
    let mut sleeper = repository.writer(&options_of("one", "boot 1"), &LogMonitor).unwrap();
    let draft = put_source(&mut sleeper, &source(0)).unwrap();
    // The other box removes the lease (a person said so) and takes its own.
    disk.remove("lease").unwrap();
    let gone = sleeper.seal(draft, &LogMonitor).unwrap_err();
    assert!(matches!(gone, RepositoryError::LeaseLost { .. }), "{gone}");
    assert_eq!(gone.exit_code(), 11);
    assert_eq!(snapshots(&repository).0, []);

    let mut sleeper = repository.writer(&options_of("one", "boot 1"), &LogMonitor).unwrap();
    let draft = put_source(&mut sleeper, &source(0)).unwrap();
    let of_two = b"mailkeep-lease-v1\nbox 00\nboot 9\npid 7\nrenewed 1\nhost two\n";
    disk.damage("lease", |bytes| *bytes = of_two.to_vec());
    let gone = sleeper.seal(draft, &LogMonitor).unwrap_err();
    assert!(gone.to_string().contains("box two"), "{gone}");
    assert_eq!(snapshots(&repository).0, []);
    assert_eq!(
        disk.files().get("lease").map(Vec::as_slice),
        Some(&of_two[..]),
        "the other one's lease is left alone"
    );
    // Nothing is lost: the packs are found again.
    let sealed = backup(&repository, &source(0)).unwrap();
    assert_eq!(sealed.manifest.stats.added_bytes, 0);
}

#[test]
fn an_older_clone_and_a_fork_are_told_from_the_disk_that_was_written_last() {
    let disk = MemoryStorage::new();
    let repository = init(&(Arc::new(disk.clone()) as Arc<dyn Storage>)).unwrap();
    assert_eq!(Seen::of(&[]), None);
    backup(&repository, &source(0)).unwrap();
    let clone = disk.crash(1);
    backup(&repository, &source(1)).unwrap();
    let entries = snapshots(&repository).0;
    let seen = Seen::of(&entries).unwrap();
    assert_eq!(seen.generation, 2);
    assert_eq!(setback(&seen, &entries), None);
    // The clone comes back instead.
    let older = open(&(Arc::new(clone.clone()) as Arc<dyn Storage>), &LogMonitor).unwrap();
    let found = setback(&seen, &snapshots(&older).0);
    assert_eq!(found, Some(Setback::Older { seen: 2, found: 1 }));
    assert_eq!(setback(&seen, &[]), Some(Setback::Older { seen: 2, found: 0 }));
    // It is written to all the same: from now on there are two disks with one name.
    backup(&older, &source(5)).unwrap();
    let forked = setback(&seen, &snapshots(&older).0);
    assert_eq!(forked, Some(Setback::Forked { generation: 2 }));
    for text in [found.unwrap().to_string(), forked.unwrap().to_string()] {
        assert_eq!(text.lines().count(), 1);
    }
    // More backups on the right disk, also when what was seen is pruned there.
    backup(&repository, &source(2)).unwrap();
    let entries = snapshots(&repository).0;
    assert_eq!(setback(&seen, &entries), None);
    assert_eq!(setback(&seen, &entries[2..]), None);
}
