//! Hazards 1, 3, 4, 7, 25: the k-th storage call fails, for every k, once and from then on, with every error that a disk
//! gives when it is full, broken, pulled out or remounted read-only.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::faulty::Faulty;
use common::harness::Operation;
use common::*;
use mailkeep_repository::format::ChunkKind;
use mailkeep_repository::storage::Operation as Call;
use mailkeep_repository::{
    Encryption, InitOptions, LogMonitor, MemoryStorage, ReadData, Repository, RepositoryError, Storage,
    VerifyOptions, verify,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const ENOENT: i32 = 2;

/// What may fail without that anything was to be written.
const READS: [Call; 5] = [Call::List, Call::Open, Call::Read, Call::FreeSpace, Call::DropCache];

fn sound(disk: &MemoryStorage, sealed: u64, context: &str) {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = open(&storage, &LogMonitor).unwrap_or_else(|error| panic!("{context}: {error}"));
    let (entries, _) = snapshots(&repository);
    assert!(entries.len() as u64 >= sealed, "{context}: {} of {sealed} snapshots", entries.len());
    let next = entries.len() as u64;
    backup(&repository, &source(next)).unwrap_or_else(|error| panic!("{context}: next backup: {error}"));
    for entry in snapshots(&repository).0 {
        assert!(restore(&repository, &entry).unwrap() == source(entry.manifest.generation - 1), "{context}");
    }
    let report = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert!(!report.damaged(), "{context}: {:?}", report.problems);
}

#[test]
fn a_backup_in_which_any_call_fails_leaves_a_sound_repository() {
    let start = MemoryStorage::new();
    let repository = init(&(Arc::new(start.clone()) as Arc<dyn Storage>)).unwrap();
    backup(&repository, &source(0)).unwrap();
    let run = |storage: &Arc<dyn Storage>| backup(&open(storage, &LogMonitor)?, &source(1)).map(drop);
    let operation = Operation {
        name: "backup",
        start,
        run: &run,
        always: vec![1],
        after: vec![1, 2],
        contents: &|generation| source(generation - 1),
    };
    let runs = operation.every_fault();
    assert!(runs > 600, "a backup has many calls, {runs} runs were made");
}

#[test]
fn an_init_in_which_any_call_fails_can_be_made_again() {
    for errno in [EIO, ENOSPC, ENOENT] {
        let mut at = 1;
        loop {
            let disk = MemoryStorage::new();
            let faulty = Faulty::new(&disk, at, false, errno);
            let done = init(&(Arc::new(faulty.clone()) as Arc<dyn Storage>));
            let context = format!("call {at}, errno {errno}: {done:?}");
            let storage: Arc<dyn Storage> = Arc::new(disk.clone());
            match open(&storage, &LogMonitor) {
                Err(RepositoryError::Absent { .. }) => {
                    init(&storage).unwrap_or_else(|error| panic!("{context}: {error}"));
                }
                Err(error) => panic!("{context}: {error}"),
                Ok(_) => {}
            }
            sound(&disk, 0, &context);
            if !faulty.happened() {
                break;
            }
            at += 1;
        }
        assert!(at > 30, "init has many calls, {at} were seen");
    }
}

#[test]
fn after_a_failed_write_nothing_more_is_written() {
    let start = MemoryStorage::new();
    let repository = init(&(Arc::new(start.clone()) as Arc<dyn Storage>)).unwrap();
    backup(&repository, &source(0)).unwrap();
    for at in 1..200 {
        let disk = start.crash(1);
        let faulty = Faulty::new(&disk, at, false, EIO);
        let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
        let Ok(repository) = open(&storage, &LogMonitor) else { continue };
        let Ok(mut writer) = repository.writer(&options(), &LogMonitor) else { continue };
        let put = put_source(&mut writer, &source(1));
        let first = put.and_then(|draft| writer.flush().map(|()| draft));
        let Err(first) = first else { continue };
        if matches!(&first, RepositoryError::Storage(error) if READS.contains(&error.operation)) {
            continue;
        }
        let before = disk.files();
        assert!(writer.flush().is_err() && writer.put(ChunkKind::Data, b"more").is_err(), "{first}");
        drop(writer);
        let mut after = disk.files();
        // Giving the lock back is all that may happen, and only if the disk still takes it.
        let mut before = before;
        before.remove("lease");
        after.remove("lease");
        assert!(before == after, "call {at}: {first}");
    }
}

#[test]
fn a_full_disk_is_told_in_one_line_and_the_next_run_goes_on() {
    let encryption = Encryption::Wrapped { box_key: box_key() };
    let options = InitOptions { label: "small".into(), encryption };
    let big = |disk: &MemoryStorage| {
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        backup(&open(&storage, &LogMonitor).unwrap(), &source(1))
    };
    let start = MemoryStorage::new();
    let repository = Repository::init(Arc::new(start.clone()), &options).unwrap().repository;
    backup(&repository, &source(0)).unwrap();
    let used: u64 = start.files().values().map(|bytes| bytes.len() as u64).sum();
    let mut full = 0;
    for room in (0..60_000).step_by(997) {
        let disk = start.crash(1);
        disk.set_capacity(Some(used + room));
        match big(&disk) {
            Ok(_) => {}
            Err(error @ RepositoryError::DiskFull { .. }) => {
                full += 1;
                assert_eq!(error.exit_code(), 1);
                assert_eq!(error.to_string().lines().count(), 1);
            }
            Err(error) => panic!("{room} bytes of room: {error:?}"),
        }
        disk.set_capacity(None);
        sound(&disk.crash(1), 1, &format!("{room} bytes of room"));
    }
    assert!(full > 10, "{full} runs met a full disk");
}

#[test]
fn a_disk_that_keeps_something_else_is_noticed_before_the_seal() {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    init(&storage).unwrap();
    let rotting: Arc<dyn Storage> = Arc::new(Faulty::rotting(&disk));
    let repository = open(&rotting, &LogMonitor).unwrap();
    let error = backup(&repository, &source(0)).unwrap_err();
    assert!(matches!(error, RepositoryError::ReadBack { .. }), "{error}");
    assert_eq!(error.exit_code(), 65);
    assert_eq!(snapshots(&repository).0, []);
    assert!(!disk.files().keys().any(|path| path.starts_with("index/")), "no run names it either");
    // Plugged into a sound port, the next run does not build on what is damaged.
    sound(&disk, 0, "after a rotten run");
}
