//! Hazards 1, 2, 6, 8: power fails at every call that changes the disk, and the disk then shows any of the states that
//! are allowed. Whatever was sealed is there, the repository opens, the next backup succeeds.
//!
//! `MAILKEEP_CRASH_STATES` sets how many states are gone through at each moment of each operation (default 2560), which
//! together with the second power cut makes more than 200,000 different ones; `MAILKEEP_CRASH_SEEDS` how many are drawn
//! for each run that is really cut off (default 12).
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::faulty::Faulty;
use common::harness::{Operation, Tally};
use common::*;
use mailkeep_repository::{
    Collected, LogMonitor, MemoryStorage, ReadData, RepositoryError, Severity, SnapshotEntry, Storage,
    VerifyOptions, WriterOptions, verify,
};

fn seeds() -> u64 {
    std::env::var("MAILKEEP_CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

fn states() -> usize {
    std::env::var("MAILKEEP_CRASH_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(2560)
}

fn sharing(disk: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

/// Everything that was sealed reads back and is proven; the rest of the structure is sound.
fn sealed_is_there(storage: &Arc<dyn Storage>, sealed: &[u64], context: &str) -> Vec<SnapshotEntry> {
    let monitor = Collected::default();
    let repository = open(storage, &monitor).unwrap_or_else(|error| panic!("{context}: open: {error}"));
    let entries = repository.snapshots(&monitor).unwrap();
    let generations: Vec<u64> = entries.iter().map(|entry| entry.manifest.generation).collect();
    for generation in sealed {
        assert!(
            generations.contains(generation),
            "{context}: snapshot {generation} of {generations:?} is lost"
        );
    }
    for entry in &entries {
        let restored =
            restore(&repository, entry).unwrap_or_else(|error| panic!("{context}: restore: {error}"));
        assert!(restored == source(entry.manifest.generation - 1), "{context}: restored something else");
    }
    for problem in monitor.problems() {
        assert_eq!(problem.severity, Severity::Note, "{context}: {problem}");
    }
    entries
}

/// After a crash: what was sealed is there, and the work goes on.
fn survives(disk: &MemoryStorage, sealed: &[u64], context: &str) {
    let storage = sharing(disk);
    let entries = sealed_is_there(&storage, sealed, context);
    let repository = open(&storage, &LogMonitor).unwrap();
    let next = entries.len() as u64;
    let done =
        backup(&repository, &source(next)).unwrap_or_else(|error| panic!("{context}: next backup: {error}"));
    assert_eq!(done.manifest.generation, next + 1, "{context}");
    let all: Vec<u64> = (1..=next + 1).collect();
    sealed_is_there(&storage, &all, context);
    let report = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert!(!report.damaged(), "{context}: {:?}", report.problems);
    let leftover = disk.files().keys().filter(|path| path.starts_with("tmp/")).count();
    assert_eq!(leftover, 0, "{context}: tmp/ is empty after a run");
}

#[test]
fn init_cut_at_every_call_is_either_a_repository_or_can_be_made_again() {
    let (mut states, mut cut) = (0, 1);
    loop {
        let disk = MemoryStorage::new();
        let faulty = Faulty::power_cut(&disk, cut);
        let done = init(&(Arc::new(faulty.clone()) as Arc<dyn Storage>));
        for seed in 0..seeds() {
            let context = format!("init cut at call {cut}, seed {seed}");
            let after = disk.crash(seed);
            let storage = sharing(&after);
            match open(&storage, &LogMonitor) {
                Ok(repository) => {
                    backup(&repository, &source(0)).unwrap_or_else(|error| panic!("{context}: {error}"));
                }
                Err(RepositoryError::Absent { .. }) => {
                    assert!(done.is_err(), "{context}: init said done");
                    let repository = init(&storage).unwrap_or_else(|error| panic!("{context}: {error}"));
                    backup(&repository, &source(0)).unwrap();
                }
                Err(error) => panic!("{context}: {error}"),
            }
            sealed_is_there(&storage, &[1], &context);
            states += 1;
        }
        if !faulty.happened() {
            break;
        }
        cut += 1;
    }
    eprintln!("{states} states, {cut} moments");
    assert!(cut > 30, "init has many calls, {cut} were seen");
}

#[test]
fn backups_cut_at_every_call_lose_nothing_that_was_sealed() {
    let mut states = 0;
    // The first backup, a second one on top, and one that goes on after an interrupted one.
    for before in [0, 1, 2] {
        let start = MemoryStorage::new();
        let repository = init(&sharing(&start)).unwrap();
        for day in 0..before {
            backup(&repository, &source(day)).unwrap();
        }
        if before == 2 {
            interrupted(&start);
        }
        let mut cut = 1;
        loop {
            let disk = start.crash(1);
            let faulty = Faulty::power_cut(&disk, cut);
            let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
            let done =
                open(&storage, &LogMonitor).and_then(|repository| backup(&repository, &source(before)));
            let mut sealed: Vec<u64> = (1..=before).collect();
            if done.is_ok() {
                sealed.push(before + 1);
            }
            for seed in 0..seeds() {
                let context = format!("backup {before} cut at call {cut}, seed {seed}");
                survives(&disk.crash(seed), &sealed, &context);
                states += 1;
            }
            if !faulty.happened() {
                assert!(done.is_ok());
                break;
            }
            cut += 1;
        }
        assert!(cut > 20, "a backup has many calls, {cut} were seen");
    }
    eprintln!("{states} states");
}

/// A run that ended between its packs and its manifest.
fn interrupted(disk: &MemoryStorage) {
    let repository = open(&sharing(disk), &LogMonitor).unwrap();
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    put_source(&mut writer, &source(2)).unwrap();
    drop(writer);
}

#[test]
fn a_crash_on_the_way_back_up_from_a_crash_loses_nothing_either() {
    let start = MemoryStorage::new();
    let repository = init(&sharing(&start)).unwrap();
    backup(&repository, &source(0)).unwrap();
    for first_cut in (1..60).step_by(7) {
        let once = start.crash(1);
        let cut = |disk: &MemoryStorage, at| {
            let storage: Arc<dyn Storage> = Arc::new(Faulty::power_cut(disk, at));
            let repository = open(&storage, &LogMonitor).ok()?;
            let day = repository.snapshots(&LogMonitor).ok()?.len() as u64;
            backup(&repository, &source(day)).ok().map(|sealed| sealed.manifest.generation)
        };
        cut(&once, first_cut);
        for seed in 2..2 + seeds() {
            for second_cut in (1..60).step_by(11) {
                let twice = once.crash(seed);
                let done = cut(&twice, second_cut);
                let context = format!("cut at {first_cut} (seed {seed}) and at {second_cut}");
                let sealed: Vec<u64> = (1..=done.unwrap_or(1)).collect();
                survives(&twice.crash(seed + 1), &sealed, &context);
            }
        }
    }
}

#[test]
fn what_an_interrupted_run_has_written_is_never_sent_twice() {
    for finished in [false, true] {
        let disk = MemoryStorage::new();
        let storage = sharing(&disk);
        let repository = init(&storage).unwrap();
        let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
        put_source(&mut writer, &source(2)).unwrap();
        if finished {
            writer.flush().unwrap();
        }
        drop(writer);
        let after = disk.crash(0);
        let storage = sharing(&after);
        let repository = open(&storage, &LogMonitor).unwrap();
        assert_eq!(snapshots(&repository).0, []);
        let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
        for bytes in source(2).values().flat_map(|files| files.values()) {
            for piece in bytes.chunks(700) {
                let hash = mailkeep_repository::format::ContentHash::of(piece);
                let kind = mailkeep_repository::format::ChunkKind::Data;
                assert!(writer.chunk_for(kind, &hash, piece.len() as u32).unwrap().is_some());
            }
        }
        drop(writer);
        let sealed = backup(&repository, &source(2)).unwrap();
        assert_eq!(sealed.manifest.stats.added_bytes, 0);
        assert_eq!(sealed.manifest.new_packs.len(), 1, "the adopted pack belongs to this snapshot");
        sealed_is_there_as(&storage, 2);
    }
}

fn sealed_is_there_as(storage: &Arc<dyn Storage>, day: u64) {
    let repository = open(storage, &LogMonitor).unwrap();
    let (entries, _) = snapshots(&repository);
    assert!(restore(&repository, entries.last().unwrap()).unwrap() == source(day));
}

#[test]
fn a_pack_torn_by_a_lying_disk_is_not_adopted() {
    let disk = MemoryStorage::new();
    let repository = init(&sharing(&disk)).unwrap();
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    put_source(&mut writer, &source(0)).unwrap();
    drop(writer);
    let after = disk.crash(1);
    let pack = after.files().into_keys().find(|path| path.starts_with("packs/")).unwrap();
    after.damage(&pack, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 512].fill(0);
    });
    let storage = sharing(&after);
    let repository = open(&storage, &LogMonitor).unwrap();
    let sealed = backup(&repository, &source(0)).unwrap();
    assert!(sealed.manifest.stats.added_bytes > 0);
    sealed_is_there_as(&storage, 0);
}

/// A disk with this many snapshots of [`little`] on it.
fn with_snapshots(count: u64) -> MemoryStorage {
    let disk = MemoryStorage::new();
    let repository = init_plain(&sharing(&disk)).unwrap();
    for day in 0..count {
        backup(&repository, &little(day)).unwrap();
    }
    disk
}

/// Every moment of the next backup on this disk.
fn every_crash_of_a_backup(name: &str, start: MemoryStorage, sealed: u64) -> Tally {
    let run = |storage: &Arc<dyn Storage>| backup(&open(storage, &LogMonitor)?, &little(sealed)).map(drop);
    let operation = Operation {
        name,
        start,
        run: &run,
        always: (1..=sealed).collect(),
        after: (1..=sealed + 1).collect(),
        contents: &|generation| little(generation - 1),
    };
    operation.every_crash_twice(states(), states() / 2)
}

/// Hazard figures: at least 200,000 different states.
#[test]
fn every_moment_of_every_operation() {
    let init = || {
        let run = |storage: &Arc<dyn Storage>| init_plain(storage).map(drop);
        let operation = Operation {
            name: "init",
            start: MemoryStorage::new(),
            run: &run,
            always: Vec::new(),
            after: Vec::new(),
            contents: &|generation| little(generation - 1),
        };
        operation.every_crash_twice(states(), states() / 2)
    };
    let cut_off_before = || {
        let start = with_snapshots(2);
        let repository = open(&sharing(&start), &LogMonitor).unwrap();
        let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
        put_source(&mut writer, &little(2)).unwrap();
        drop(writer);
        every_crash_of_a_backup("backup after one that was cut off", start, 2)
    };
    let copies = || {
        let start = without(2, |path| {
            path == "label.2" || path.starts_with("keys/") || path.starts_with("manifests/")
        });
        every_crash_of_a_backup("backup that brings copies back", start, 2)
    };
    let no_index = || {
        let start = without(2, |path| path.starts_with("index/"));
        every_crash_of_a_backup("backup that finds no index", start, 2)
    };
    // Several packs and index runs in one backup.
    let flushing = || {
        let options = WriterOptions { session_chunks: 3, ..options() };
        let run = |storage: &Arc<dyn Storage>| {
            let mut writer = open(storage, &LogMonitor)?.writer(&options, &LogMonitor)?;
            let draft = put_source(&mut writer, &little(0))?;
            writer.seal(draft, &LogMonitor).map(drop)
        };
        let operation = Operation {
            name: "backup in many small sessions",
            start: with_snapshots(0),
            run: &run,
            always: Vec::new(),
            after: vec![1],
            contents: &|generation| little(generation - 1),
        };
        operation.every_crash_twice(states(), states() / 2)
    };
    let first = || every_crash_of_a_backup("first backup", with_snapshots(0), 0);
    let second = || every_crash_of_a_backup("second backup", with_snapshots(1), 1);
    let merging = || every_crash_of_a_backup("backup that merges the index", with_snapshots(7), 7);

    let operations: [&(dyn Fn() -> Tally + Sync); 8] =
        [&merging, &init, &first, &second, &cut_off_before, &copies, &no_index, &flushing];
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = operations.iter().map(|operation| scope.spawn(operation)).collect();
        for operation in running {
            tally += operation.join().unwrap();
        }
    });
    eprintln!("together {tally:?}");
    if std::env::var_os("MAILKEEP_CRASH_STATES").is_none() {
        assert!(tally.states >= 200_000, "{tally:?}");
    }
}

/// Two snapshots, and some files lost.
fn without(count: u64, lost: impl Fn(&str) -> bool) -> MemoryStorage {
    let disk = with_snapshots(count);
    for path in disk.files().into_keys().filter(|path| lost(path)) {
        disk.remove(&path).unwrap();
    }
    disk
}
