//! How rehearsed restores ended, on the disk: kept durably, believed only for the snapshot and under the name that they are
//! of, gone with their snapshot, and never in a backup's way.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::faulty::Faulty;
use common::harness::{Operation, Recorder};
use common::*;
use mailkeep_repository::format::drill::{DrillCheck, DrillVerdict};
use mailkeep_repository::format::{DrillRecord, RepositoryId, SnapshotId};
use mailkeep_repository::retention::Keep;
use mailkeep_repository::{
    Collected, KeySource, LogMonitor, MemoryStorage, PruneOptions, ReadData, RepairOptions, Repository,
    RepositoryError, Severity, Storage, VerifyOptions, verify,
};

fn sharing(disk: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

fn filled(days: u64) -> (MemoryStorage, Repository) {
    let disk = MemoryStorage::new();
    let repository = init(&sharing(&disk)).unwrap();
    for day in 0..days {
        backup(&repository, &little(day)).unwrap();
    }
    (disk, repository)
}

fn result(snapshot: SnapshotId, passed: bool) -> DrillRecord {
    let verdict = if passed { DrillVerdict::Passed } else { DrillVerdict::Failed };
    DrillRecord {
        format_version: 0,
        required_features: Vec::new(),
        repository: RepositoryId([0; 16]),
        sequence: 0,
        snapshot,
        program: "test".to_owned(),
        host: "here".to_owned(),
        started: 1_700_000_000,
        millis: 1,
        passed,
        sample: None,
        files: 1,
        directories: 1,
        bytes: 1,
        checks: vec![DrillCheck { name: "rebuild".to_owned(), verdict, detail: String::new() }],
        problem_count: u64::from(!passed),
        problems: Vec::new(),
    }
}

fn keep(repository: &Repository, record: DrillRecord) -> Result<DrillRecord, RepositoryError> {
    repository.keep_drill(record, &options().machine, &LogMonitor)
}

fn id(repository: &Repository, index: usize) -> SnapshotId {
    repository.snapshots(&LogMonitor).unwrap()[index].id
}

/// Drills that are known, by their snapshots and whether they passed.
type Known = Vec<(SnapshotId, bool)>;

/// What is known, and what was told of the rest.
fn known(repository: &Repository) -> (Known, Vec<(Severity, String)>) {
    let told = Collected::default();
    let drills = repository.drills(&told).unwrap();
    let known = drills.into_iter().map(|(snapshot, record)| (snapshot, record.passed)).collect();
    (known, told.problems().into_iter().map(|problem| (problem.severity, problem.path)).collect())
}

fn names(disk: &MemoryStorage) -> Vec<String> {
    disk.files().into_keys().filter(|path| path.starts_with("drills/")).collect()
}

fn put(disk: &MemoryStorage, path: &str, bytes: &[u8]) {
    let mut file = disk.create("tmp/x").unwrap();
    file.append(bytes).unwrap();
    file.sync().unwrap();
    drop(file);
    disk.rename("tmp/x", path).unwrap();
}

fn bytes(disk: &MemoryStorage, path: &str) -> Vec<u8> {
    disk.files().remove(path).unwrap()
}

#[test]
fn the_last_result_of_each_snapshot_is_known_and_no_other_one_is_kept() {
    let (disk, repository) = filled(2);
    assert_eq!(known(&repository), (vec![], vec![]));
    let (one, two) = (id(&repository, 0), id(&repository, 1));
    let kept = keep(&repository, result(one, false)).unwrap();
    assert_eq!((kept.sequence, kept.repository, kept.format_version), (1, repository.id(), 1));
    keep(&repository, result(two, true)).unwrap();
    keep(&repository, result(one, true)).unwrap();
    let (drills, told) = known(&open(&sharing(&disk), &LogMonitor).unwrap());
    let mut wanted = vec![(one, true), (two, true)];
    wanted.sort();
    assert_eq!((drills, told), (wanted, vec![]));
    assert_eq!(names(&disk).len(), 2);
    keep(&repository, result(one, false)).unwrap();
    assert!(known(&repository).0.contains(&(one, false)));
    assert_eq!(repository.drills(&LogMonitor).unwrap()[&one].sequence, 4, "numbers are never given again");
}

#[test]
fn a_result_that_was_edited_cut_renamed_or_carried_here_counts_for_nothing() {
    let (disk, repository) = filled(1);
    let one = id(&repository, 0);
    keep(&repository, result(one, true)).unwrap();
    let path = names(&disk).remove(0);
    let good = bytes(&disk, &path);
    let believed = |what: &str, path: &str, severity: Severity| {
        let (drills, told) = known(&repository);
        assert!(drills.is_empty(), "{what}: {drills:?}");
        assert_eq!(told, [(severity, path.to_owned())], "{what}");
        let report = verify(&repository, VerifyOptions { read: ReadData::Structure }, &LogMonitor).unwrap();
        assert!(report.problems.iter().any(|problem| problem.path == path), "{what}: {:?}", report.problems);
        assert!(!report.lost(), "{what}: no data is lost with it");
    };
    for at in [0, 8, 12, 20, 36, 52, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        disk.remove(&path).unwrap();
        put(&disk, &path, &bad);
        believed(&format!("byte {at}"), &path, Severity::Covered);
    }
    disk.remove(&path).unwrap();
    put(&disk, &path, &good[..good.len() - 1]);
    believed("cut off", &path, Severity::Covered);
    // Under another number it would pass for a later result.
    disk.remove(&path).unwrap();
    let later = path.replace("0000000001-", "0000000009-");
    put(&disk, &later, &good);
    believed("renamed", &later, Severity::Covered);
    disk.remove(&later).unwrap();
    put(&disk, "drills/passed", &good);
    let (drills, told) = known(&repository);
    assert!(drills.is_empty() && told == [(Severity::Note, "drills/passed".to_owned())]);
    disk.remove("drills/passed").unwrap();
    // Of another repository, with another key and even of the same one.
    let (other_disk, other) = filled(1);
    keep(&other, result(id(&other, 0), true)).unwrap();
    let foreign = names(&other_disk).remove(0);
    put(&disk, &foreign, &bytes(&other_disk, &foreign));
    believed("carried here", &foreign, Severity::Covered);
    disk.remove(&foreign).unwrap();
    put(&disk, &path, &good);
    assert_eq!(known(&repository), (vec![(one, true)], vec![]));
}

#[test]
fn a_result_speaks_of_no_snapshot_but_its_own() {
    let (disk, repository) = filled(2);
    keep(&repository, result(id(&repository, 0), true)).unwrap();
    // Wherever its file is put, under whatever name of a manifest.
    let path = names(&disk).remove(0);
    let good = bytes(&disk, &path);
    for manifest in disk.files().into_keys().filter(|path| path.starts_with("manifests/")) {
        let moved = manifest.replace("manifests/", "drills/");
        put(&disk, &moved, &good);
    }
    let (drills, told) = known(&repository);
    assert_eq!(drills, [(id(&repository, 0), true)]);
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn repair_moves_what_cannot_be_believed_away() {
    let (disk, repository) = filled(1);
    keep(&repository, result(id(&repository, 0), true)).unwrap();
    let path = names(&disk).remove(0);
    let mut bad = bytes(&disk, &path);
    bad[60] ^= 1;
    disk.remove(&path).unwrap();
    put(&disk, &path, &bad);
    let key = KeySource::Identity(box_key());
    let repair = RepairOptions { key, writer: options(), dry_run: false };
    let report = repository.repair(&repair, &mut |_| {}, &LogMonitor).unwrap();
    assert_eq!(report.quarantined, [format!("quarantine/{path}")]);
    assert!(!report.lost() && names(&disk).is_empty());
    assert_eq!(known(&repository), (vec![], vec![]));
}

#[test]
fn a_result_goes_with_its_snapshot_and_is_not_kept_of_one_that_is_gone() {
    let (disk, repository) = filled(3);
    let (one, three) = (id(&repository, 0), id(&repository, 2));
    for snapshot in [one, three] {
        keep(&repository, result(snapshot, true)).unwrap();
    }
    let options =
        PruneOptions { grace: Duration::ZERO, ..PruneOptions::new(Keep { last: 1, ..Keep::default() }) };
    repository.prune(&PruneOptions { dry_run: true, ..options.clone() }, &LogMonitor).unwrap();
    assert_eq!(names(&disk).len(), 2);
    repository.prune(&options, &LogMonitor).unwrap();
    assert_eq!(known(&repository), (vec![(three, true)], vec![]));
    assert_eq!(names(&disk).len(), 1);
    let gone = keep(&repository, result(one, true)).unwrap_err();
    assert!(matches!(gone, RepositoryError::NoSnapshot { .. }), "{gone}");
    assert_eq!(names(&disk).len(), 1);
}

#[test]
fn nobody_writes_beside_a_writer_nor_on_a_disk_that_cannot_be_written() {
    let (disk, repository) = filled(1);
    let record = result(id(&repository, 0), true);
    let writer = repository.writer(&options(), &LogMonitor).unwrap();
    assert_eq!(keep(&repository, record.clone()).unwrap_err().exit_code(), 11);
    drop(writer);
    let sealed = Faulty::read_only(&disk);
    let read_only = open(&(Arc::new(sealed) as Arc<dyn Storage>), &LogMonitor).unwrap();
    let refused = keep(&read_only, record.clone()).unwrap_err();
    assert!(matches!(refused, RepositoryError::ReadOnly { .. }), "{refused}");
    assert!(names(&disk).is_empty());
    keep(&repository, record).unwrap();
}

#[test]
fn the_new_result_is_durable_before_the_old_one_goes_and_the_device_is_flushed_last() {
    let (disk, repository) = filled(1);
    let record = result(id(&repository, 0), true);
    keep(&repository, record.clone()).unwrap();
    let recorder = Recorder::of_calls(&disk);
    let storage: Arc<dyn Storage> = Arc::new(recorder.clone());
    keep(&open(&storage, &LogMonitor).unwrap(), record).unwrap();
    let calls: Vec<String> = recorder.moments().into_iter().map(|(call, _)| call).collect();
    let at = |start: &str, from: usize| {
        let found = calls[from..].iter().position(|call| call.starts_with(start));
        found.map(|found| from + found).unwrap_or_else(|| panic!("{start} behind {from}: {calls:#?}"))
    };
    let named = at("rename drills/", 0);
    let durable = at("sync_dir drills", named);
    let removed = at("remove drills/", named);
    assert!(durable < removed, "{calls:#?}");
    let flushed = at("flush_device", at("sync_dir drills", removed));
    assert!(flushed < at("remove lease", flushed), "{calls:#?}");
}

#[test]
fn every_crash_and_every_fault_leaves_the_old_result_or_the_new_one() {
    let disk = MemoryStorage::new();
    let repository = init_plain(&sharing(&disk)).unwrap();
    for day in 0..2 {
        backup(&repository, &little(day)).unwrap();
    }
    let snapshot = id(&repository, 1);
    keep(&repository, result(snapshot, false)).unwrap();
    let run = |storage: &Arc<dyn Storage>| {
        open(storage, &LogMonitor)?
            .keep_drill(result(snapshot, true), &options().machine, &LogMonitor)
            .map(drop)
    };
    let recorder = Recorder::new(&disk);
    run(&(Arc::new(recorder.clone()) as Arc<dyn Storage>)).unwrap();
    let mut seen = [0; 2];
    for (call, moment) in recorder.moments() {
        for seed in 0..16 {
            let storage: Arc<dyn Storage> = Arc::new(moment.crash(seed));
            let (drills, told) = known(&open(&storage, &LogMonitor).unwrap());
            assert_eq!((drills.len(), told), (1, vec![]), "{call}, {seed}");
            seen[usize::from(drills[0].1)] += 1;
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    let sealed: Vec<u64> = vec![1, 2];
    let operation = Operation {
        name: "the result of a drill",
        start: disk,
        run: &run,
        always: sealed.clone(),
        after: sealed,
        contents: &|generation| little(generation - 1),
    };
    let tally = operation.every_crash(64);
    assert!(tally.moments > 5 && tally.kinds > 2, "{tally:?}");
    assert!(operation.every_fault() > 20);
}
