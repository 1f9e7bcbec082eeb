//! Hazards 5, 7, 8: prune is cut off at every call, by a power cut that leaves any of the states that are allowed, by
//! any call that fails, by both. Whatever stays can be read, the next backup and the next prune succeed, and then the
//! room is back.
//!
//! `MAILKEEP_PRUNE_STATES` sets how many states are gone through at each moment (default 48).
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::faulty::Faulty;
use common::harness::{ERRNOS, Operation};
use common::*;
use mailkeep_repository::retention::{Clock, Keep};
use mailkeep_repository::{
    LogMonitor, MemoryStorage, PruneOptions, ReadData, Repository, RepositoryError, Storage, VerifyOptions,
    verify,
};

const NOW: i64 = 1_795_392_000;

fn states() -> usize {
    std::env::var("MAILKEEP_PRUNE_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(48)
}

fn sharing(disk: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

fn prune(repository: &Repository, keep: u32) -> Result<(), RepositoryError> {
    let options = PruneOptions {
        clock: Clock { now: NOW, offset: 0 },
        grace: Duration::ZERO,
        ..PruneOptions::new(Keep { last: keep, ..Keep::default() })
    };
    repository.prune(&options, &LogMonitor).map(drop)
}

/// Something of its own, and something that it shares with the days around it: of the pack of a removed day a part is
/// still needed.
fn day(number: u64) -> Source {
    let mut source = Source::new();
    let files = |seed: u64| (0..3).map(move |file| (format!("{file}."), noise(seed * 10 + file, 1500)));
    source.insert("shared".into(), files((number + 2) / 4).collect());
    source.insert(format!("day{number}"), files(100 + number).collect());
    source
}

fn contents(generation: u64) -> Source {
    day(generation - 1)
}

/// Five days of which two are pruned, with packs that are due, dead and to be repacked at the next prune.
fn start() -> MemoryStorage {
    let disk = MemoryStorage::new();
    let repository = init(&sharing(&disk)).unwrap();
    for number in 0..4 {
        backup(&repository, &day(number)).unwrap();
    }
    prune(&repository, 3).unwrap();
    backup(&repository, &day(4)).unwrap();
    disk
}

fn again(storage: &Arc<dyn Storage>) -> Result<(), RepositoryError> {
    prune(&open(storage, &LogMonitor)?, 2)
}

fn operation(start: MemoryStorage) -> Operation<'static> {
    Operation {
        name: "prune",
        start,
        run: &again,
        always: vec![4, 5],
        after: vec![4, 5],
        contents: &contents,
    }
}

fn pack_bytes(disk: &MemoryStorage) -> u64 {
    let packs = disk.files().into_iter().filter(|(path, _)| path.starts_with("packs/"));
    packs.map(|(_, bytes)| bytes.len() as u64).sum()
}

/// What the packs of these days alone take.
fn clean(days: std::ops::Range<u64>) -> u64 {
    let disk = MemoryStorage::new();
    let repository = init(&sharing(&disk)).unwrap();
    for number in days {
        backup(&repository, &day(number)).unwrap();
    }
    pack_bytes(&disk)
}

/// The work goes on, and when it has gone on for two days nothing of what was removed is left.
fn goes_on(disk: &MemoryStorage, context: &str) {
    let repository = open(&sharing(disk), &LogMonitor).unwrap();
    let failed = |error| -> () { panic!("{context}: {error}") };
    for number in 5..8 {
        prune(&repository, 2).unwrap_or_else(failed);
        backup(&repository, &day(number)).map(drop).unwrap_or_else(failed);
    }
    prune(&repository, 2).unwrap_or_else(failed);
    let entries = snapshots(&repository).0;
    let generations: Vec<u64> = entries.iter().map(|entry| entry.manifest.generation).collect();
    assert_eq!(generations, [7, 8], "{context}");
    for entry in &entries {
        assert!(restore(&repository, entry).unwrap() == contents(entry.manifest.generation), "{context}");
    }
    let report = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert!(!report.damaged(), "{context}: {:?}", report.problems);
    let (left, least) = (pack_bytes(disk), clean(6..8));
    // A day more that waits for the next seal, and what a repack is not worth.
    assert!(left < least * 5 / 2, "{context}: {left} bytes are left, {least} would do");
    assert!(disk.files().keys().all(|path| !path.starts_with("tmp/")), "{context}");
}

#[test]
fn the_run_that_is_cut_does_all_that_prune_can_do() {
    let disk = start();
    let repository = open(&sharing(&disk), &LogMonitor).unwrap();
    let options = PruneOptions {
        clock: Clock { now: NOW, offset: 0 },
        grace: Duration::ZERO,
        ..PruneOptions::new(Keep { last: 2, ..Keep::default() })
    };
    let report = repository.prune(&options, &LogMonitor).unwrap();
    assert!(report.removed() > 0 && report.deleted_packs > 0 && report.copied_bytes > 0, "{report:?}");
    assert!(report.repacked_packs > 0 && report.freed_bytes > 0, "{report:?}");
    goes_on(&disk, "uncut");
}

#[test]
fn a_prune_cut_at_every_call_loses_nothing_that_stays() {
    let tally = operation(start()).every_crash(states());
    assert!(tally.moments > 40, "a prune has many calls: {tally:?}");
    assert!(tally.states > 300 || states() < 48, "{tally:?}");
}

#[test]
fn a_prune_in_which_any_call_fails_leaves_a_sound_repository() {
    let runs = operation(start()).every_fault();
    assert!(runs > 1500, "a prune has many calls, {runs} runs were made");
}

#[test]
fn after_a_prune_was_cut_off_the_next_ones_give_the_room_back() {
    let start = start();
    for seed in [0, 1, 5, 6] {
        let mut cut = 1;
        loop {
            let disk = start.crash(1);
            let faulty = Faulty::power_cut(&disk, cut);
            let done = again(&(Arc::new(faulty.clone()) as Arc<dyn Storage>));
            goes_on(&disk.crash(seed), &format!("cut at call {cut}, seed {seed}"));
            if !faulty.happened() {
                assert!(done.is_ok());
                break;
            }
            // Every call once, under one of the seeds.
            cut += if cut % 4 == seed % 4 { 4 } else { 1 };
        }
    }
}

#[test]
fn a_prune_cut_off_twice_gets_there_as_well() {
    let start = start();
    for first in (3..80).step_by(9) {
        for (seed, second) in (5..90).step_by(13).enumerate() {
            let once = start.crash(1);
            let _ = again(&(Arc::new(Faulty::power_cut(&once, first)) as Arc<dyn Storage>));
            let twice = once.crash(seed as u64);
            let _ = again(&(Arc::new(Faulty::power_cut(&twice, second)) as Arc<dyn Storage>));
            goes_on(&twice.crash(seed as u64 + 3), &format!("cut at {first} and {second}, seed {seed}"));
        }
    }
}

#[test]
fn a_prune_on_a_full_disk_in_which_any_call_fails_leaves_what_stays() {
    let disk = start();
    // Full to the last byte, with the reserve that was made while there was room.
    let used = |disk: &MemoryStorage| disk.files().values().map(|bytes| bytes.len() as u64).sum::<u64>();
    disk.set_capacity(Some(used(&disk) * 20));
    backup(&open(&sharing(&disk), &LogMonitor).unwrap(), &day(5)).unwrap();
    assert!(disk.files().contains_key("reserve"));
    disk.set_capacity(Some(used(&disk)));
    for errno in ERRNOS {
        let mut at = 1;
        loop {
            let run = disk.crash(1);
            let faulty = Faulty::new(&run, at, true, errno);
            let done = again(&(Arc::new(faulty.clone()) as Arc<dyn Storage>));
            let context = format!("call {at}, errno {errno}: {done:?}");
            let after = run.crash(at % 5);
            let repository = open(&sharing(&after), &LogMonitor).unwrap();
            let there: Vec<u64> =
                snapshots(&repository).0.iter().map(|entry| entry.manifest.generation).collect();
            assert!(there.ends_with(&[5, 6]), "{context}: {there:?}");
            prune(&repository, 2).unwrap_or_else(|error| panic!("{context}: next prune: {error}"));
            for entry in snapshots(&repository).0 {
                assert!(restore(&repository, &entry).unwrap() == contents(entry.manifest.generation));
            }
            backup(&repository, &day(6)).unwrap_or_else(|error| panic!("{context}: next backup: {error}"));
            if !faulty.happened() {
                break;
            }
            at += 3;
        }
    }
}
