//! Hazards 3 and 5 on real file systems: a small ext4 and a small btrfs are filled to the last byte, and prune has to make
//! room there although there is none to write down what it does.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::loops::Loop;
use common::*;
use mailkeep_repository::retention::Keep;
use mailkeep_repository::{
    Encryption, InitOptions, LocalStorage, LogMonitor, PruneOptions, ReadData, Repository, RepositoryError,
    Storage, VerifyOptions, verify,
};

/// 3 MB that no other day has.
fn day(number: u64) -> Source {
    let mut source = Source::new();
    let files = source.entry(format!("day{number}")).or_default();
    for file in 0..6 {
        files.insert(format!("{file}."), noise(number * 10 + file, 500_000));
    }
    source
}

/// Takes every byte that is left, as somebody else's files do.
fn stuff(folder: &Path) {
    for size in [1 << 20, 1 << 16, 1 << 12, 1] {
        for number in 0.. {
            let path = folder.join(format!("stuffing-{size}-{number}"));
            // What fits of it stays.
            let written = std::fs::write(&path, noise(number, size))
                .and_then(|()| std::fs::File::open(&path).and_then(|file| file.sync_all()));
            if written.is_err() || number > 4000 {
                break;
            }
        }
    }
}

fn a_full_disk_is_made_usable_again(disk: Loop) {
    let folder = disk.path().join("repository");
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::prepare(&folder).unwrap());
    let encryption = Encryption::Wrapped { box_key: box_key() };
    let repository = Repository::init(storage.clone(), &InitOptions { label: "small".into(), encryption })
        .unwrap()
        .repository;
    assert!(folder.join("reserve").exists());
    let mut days = 0;
    let error = loop {
        match backup(&repository, &day(days)) {
            Ok(_) => days += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, RepositoryError::DiskFull { .. }), "{error}");
    assert!(days > 8, "{days} days fit");
    stuff(&disk.path());
    let keep = Keep { last: 3, ..Keep::default() };
    let options = PruneOptions { grace: Duration::ZERO, ..PruneOptions::new(keep) };
    let report = repository.prune(&options, &LogMonitor).unwrap();
    assert!(report.short && report.freed_bytes > 10 << 20, "{report:?}");
    // Not only promised.
    let free = storage.free_space().unwrap();
    assert!(free > report.freed_bytes / 2, "{free} bytes are free, {} were freed", report.freed_bytes);
    backup(&repository, &day(days)).unwrap();
    let entries = snapshots(&repository).0;
    assert_eq!(entries.len(), 4);
    for entry in &entries {
        assert!(restore(&repository, entry).unwrap() == day(entry.manifest.generation - 1));
    }
    let found = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert!(!found.damaged(), "{:?}", found.problems);
    eprintln!("{days} days, freed {} bytes", report.freed_bytes);
}

#[test]
fn on_ext4() {
    // No blocks set aside for root: full is full.
    if let Some(disk) = Loop::new(&["mkfs.ext4", "-q", "-m", "0"], 48) {
        a_full_disk_is_made_usable_again(disk);
    }
}

#[test]
fn on_btrfs() {
    if let Some(disk) = Loop::btrfs(160) {
        a_full_disk_is_made_usable_again(disk);
    }
}
