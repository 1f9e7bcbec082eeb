//! Verification by the cursor on the disk: every pack has its turn within K runs, damage is remembered and forgotten again
//! when it is gone, and a run that is cut off or fails anywhere changes nothing but what it has finished.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::faulty::Faulty;
use common::*;
use mailkeep_repository::format::verification::place_of;
use mailkeep_repository::format::{PackId, SnapshotId, Verification};
use mailkeep_repository::{
    KeySource, LogMonitor, MemoryStorage, NextSlice, ReadData, RepairOptions, Repository, RepositoryError,
    Storage, VerifyOptions, VerifyReport, verify, verify_next,
};

fn sharing(disk: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

fn filled(days: u64) -> MemoryStorage {
    let disk = MemoryStorage::new();
    let repository = init(&sharing(&disk)).unwrap();
    for day in 0..days {
        backup(&repository, &source(day)).unwrap();
    }
    disk
}

fn next(repository: &Repository, of: u32, snapshot: Option<SnapshotId>) -> VerifyReport {
    try_next(repository, of, snapshot).unwrap()
}

fn try_next(
    repository: &Repository,
    of: u32,
    snapshot: Option<SnapshotId>,
) -> Result<VerifyReport, RepositoryError> {
    verify_next(repository, &NextSlice { of, snapshot, machine: options().machine }, &LogMonitor)
}

fn record(repository: &Repository) -> Option<Verification> {
    repository.verification(&LogMonitor).unwrap()
}

fn packs(disk: &MemoryStorage) -> BTreeSet<PackId> {
    let names = disk.files().into_keys().filter(|path| path.starts_with("packs/"));
    names.filter_map(|path| path.rsplit('/').next()?.parse().ok()).collect()
}

#[test]
fn every_pack_is_read_within_k_runs_though_the_disk_grows() {
    for of in [1, 2, 5, 8] {
        let disk = filled(1);
        let repository = open(&sharing(&disk), &LogMonitor).unwrap();
        let mut read = BTreeSet::new();
        let first = packs(&disk);
        for run in 0..of {
            let from = record(&repository).map_or(0, |record| record.position);
            let report = next(&repository, of, None);
            assert!(!report.damaged(), "{:?}", report.problems);
            let slice = record(&repository).unwrap().slices[0];
            assert_eq!(slice.from, from, "it goes on where the last one ended");
            let chosen: Vec<PackId> = packs(&disk).into_iter().filter(|id| slice.has(place_of(id))).collect();
            assert_eq!(report.packs, chosen.len() as u64, "run {run} of {of}");
            read.extend(chosen);
            backup(&repository, &source(u64::from(run) + 1)).unwrap();
        }
        assert!(read.is_superset(&first), "{of} runs have read what was there at their start");
        let record = record(&repository).unwrap();
        assert!(first.iter().all(|id| record.last_read(id).is_some()));
        assert_eq!(record.sequence, u64::from(of));
    }
}

#[test]
fn only_two_records_stay_and_a_damaged_one_is_no_harm() {
    let disk = filled(2);
    let repository = open(&sharing(&disk), &LogMonitor).unwrap();
    for _ in 0..5 {
        next(&repository, 30, None);
    }
    let records = |disk: &MemoryStorage| -> Vec<String> {
        disk.files().into_keys().filter(|path| path.starts_with("verified/")).collect()
    };
    let names = records(&disk);
    assert_eq!(names.len(), 2);
    let before = record(&repository).unwrap();
    disk.damage(&names[1], |bytes| bytes[70] ^= 1);
    let fallback = record(&repository).unwrap();
    assert_eq!((before.sequence, fallback.sequence), (5, 4));
    let looked = verify(&repository, VerifyOptions { read: ReadData::Structure }, &LogMonitor).unwrap();
    assert!(looked.damaged() && !looked.lost(), "{:?}", looked.problems);
    next(&repository, 30, None);
    let now = record(&repository).unwrap();
    assert_eq!(
        (now.sequence, now.position),
        (6, before.position),
        "the slice of the lost record is read again"
    );
    for path in records(&disk) {
        disk.damage(&path, Vec::clear);
    }
    assert!(record(&repository).is_none());
    next(&repository, 30, None);
    assert_eq!(record(&repository).unwrap().sequence, 7, "no sequence comes twice");
}

#[test]
fn damage_is_remembered_relied_on_by_nobody_and_forgotten_when_it_is_gone() {
    let start = filled(3);
    for pack in packs(&start) {
        let path = format!("packs/{:02x}/{pack}", pack.0[0]);
        let disk = start.crash(1);
        let repository = open(&sharing(&disk), &LogMonitor).unwrap();
        disk.damage(&path, |bytes| bytes[100] ^= 1);
        let mut runs = 0;
        while record(&repository).is_none_or(|record| record.damaged.is_empty()) {
            next(&repository, 4, None);
            runs += 1;
        }
        assert!(runs <= 4, "found within a round");
        let known = record(&repository).unwrap();
        assert_eq!(known.damaged, [pack]);
        let hurt = known.lost.len();
        assert!(hurt > 0);
        // It is read again in every run, whatever the slice, and stays named.
        let report = next(&repository, 4, None);
        assert!(report.lost() && report.problems.iter().any(|problem| problem.path == path));
        assert_eq!(record(&repository).unwrap().damaged, [pack]);
        // The next backup stores the chunks again, and with that the snapshots that share them are whole again.
        backup(&repository, &source(2)).unwrap();
        let entries = snapshots(&repository).0;
        assert!(restore(&repository, entries.last().unwrap()).unwrap() == source(2), "{path}");
        next(&repository, 4, None);
        assert!(record(&repository).unwrap().lost.len() < hurt, "the snapshot of that very day has healed");
        // A read error that was none of the disk's: the bytes are good again.
        disk.damage(&path, |bytes| bytes[100] ^= 1);
        next(&repository, 4, None);
        let clean = record(&repository).unwrap();
        assert_eq!((clean.damaged, clean.lost), (vec![], vec![]));
    }
}

#[test]
fn what_a_snapshot_brought_is_looked_at_without_the_history() {
    let disk = filled(6);
    let repository = open(&sharing(&disk), &LogMonitor).unwrap();
    let sealed = backup(&repository, &source(6)).unwrap();
    let all = next(&repository, 1000, None);
    let some = next(&repository, 1000, Some(sealed.id));
    assert!(!some.damaged(), "{:?}", some.problems);
    assert!(some.directories <= 4 && all.directories > 20, "{} of {}", some.directories, all.directories);
    assert_eq!(some.packs, 1, "the new pack and nothing else");
    assert!(some.chunks > 0 && some.bytes > 0);
    // The same again changes nothing and costs nothing.
    let same = backup(&repository, &source(6)).unwrap();
    let nothing = next(&repository, 1000, Some(same.id));
    assert_eq!((nothing.directories, nothing.packs), (0, 0));
    let unknown = try_next(&repository, 30, Some(SnapshotId([7; 32]))).unwrap_err();
    assert!(matches!(unknown, RepositoryError::NoSnapshot { .. }));
}

#[test]
fn damage_in_what_a_snapshot_brought_is_found_at_once() {
    for place in ["start", "middle", "end", "gone"] {
        let disk = filled(3);
        let before = packs(&disk);
        let repository = open(&sharing(&disk), &LogMonitor).unwrap();
        let sealed = backup(&repository, &source(3)).unwrap();
        let new = packs(&disk).difference(&before).copied().next().unwrap();
        let path = format!("packs/{:02x}/{new}", new.0[0]);
        match place {
            "gone" => disk.remove(&path).unwrap(),
            _ => disk.damage(&path, |bytes| {
                let at = match place {
                    "start" => 60,
                    "middle" => bytes.len() / 2,
                    _ => bytes.len() - 30,
                };
                bytes[at] ^= 1;
            }),
        }
        let report = next(&repository, 1000, Some(sealed.id));
        assert!(report.damaged(), "{place}");
        let known = record(&repository).unwrap();
        if place == "gone" {
            assert!(known.lost.contains(&sealed.id));
        } else {
            assert_eq!(known.damaged, [new], "{place}");
        }
    }
}

#[test]
fn a_run_that_is_cut_or_fails_at_any_call_loses_nothing() {
    let start = filled(3);
    next(&open(&sharing(&start), &LogMonitor).unwrap(), 4, None);
    let pack = packs(&start).into_iter().next().unwrap();
    let before = record(&open(&sharing(&start), &LogMonitor).unwrap()).unwrap();
    start.damage(&format!("packs/{:02x}/{pack}", pack.0[0]), |bytes| bytes[100] ^= 1);
    for cut in [true, false] {
        let mut at = 1;
        loop {
            let disk = start.crash(1);
            let faulty = if cut { Faulty::power_cut(&disk, at) } else { Faulty::new(&disk, at, false, 5) };
            let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
            let done = open(&storage, &LogMonitor).and_then(|repository| try_next(&repository, 4, None));
            for seed in 0..4 {
                let after = disk.crash(seed);
                let repository = open(&sharing(&after), &LogMonitor).unwrap();
                let found = record(&repository).unwrap();
                let moved = found.sequence == before.sequence + 1;
                assert!(moved || found == before, "call {at}, seed {seed}");
                assert!(moved || done.is_err(), "call {at}, seed {seed}: said done and forgotten");
                next(&repository, 4, None);
            }
            if !faulty.happened() {
                done.unwrap();
                break;
            }
            at += 1;
        }
        assert!(at > 8, "{at}");
    }
}

#[test]
fn a_backup_in_which_any_call_fails_never_relies_on_what_is_known_to_be_damaged() {
    let start = filled(2);
    let pack = packs(&start).into_iter().next().unwrap();
    start.damage(&format!("packs/{:02x}/{pack}", pack.0[0]), |bytes| bytes[100] ^= 1);
    next(&open(&sharing(&start), &LogMonitor).unwrap(), 1, None);
    let mut at = 1;
    loop {
        let disk = start.crash(1);
        let faulty = Faulty::new(&disk, at, false, 5);
        let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
        let done = open(&storage, &LogMonitor).and_then(|repository| backup(&repository, &source(1)));
        if let Ok(sealed) = done {
            let repository = open(&sharing(&disk), &LogMonitor).unwrap();
            let entry = snapshots(&repository).0.into_iter().find(|entry| entry.id == sealed.id).unwrap();
            assert!(restore(&repository, &entry).unwrap() == source(1), "call {at}");
        }
        if !faulty.happened() {
            break;
        }
        at += 1;
    }
    assert!(at > 60, "{at}");
    // A record that the disk never gives again: no backup, one line that says what to do, and repair does it.
    let record = start.files().into_keys().rfind(|path| path.starts_with("verified/")).unwrap();
    let faulty = Faulty::unreadable(&start, &record);
    let storage: Arc<dyn Storage> = Arc::new(faulty);
    let repository = open(&storage, &LogMonitor).unwrap();
    let refused = backup(&repository, &source(1)).unwrap_err();
    assert!(matches!(refused, RepositoryError::Storage(_)), "{refused}");
    assert!(repository.reader(&LogMonitor).is_ok(), "reading goes on");
    let options = RepairOptions { dry_run: false, key: KeySource::Identity(box_key()), writer: options() };
    repository.repair(&options, &mut |_| {}, &LogMonitor).unwrap();
    backup(&repository, &source(1)).unwrap();
}
