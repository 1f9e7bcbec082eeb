//! How far a backup had come, on the disk: kept durably, one of each source, believed only as it was written, gone with the next
//! snapshot of its source, never a snapshot itself.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::harness::{Operation, Recorder};
use common::*;
use mailkeep_repository::format::{Checkpoint, ChunkRef, RepositoryId, SnapshotId, Timestamp, TreeSeen};
use mailkeep_repository::retention::Keep;
use mailkeep_repository::{
    Collected, LogMonitor, MemoryStorage, PruneOptions, Repository, RepositoryError, Storage,
};

fn sharing(disk: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

fn filled(days: u64) -> (MemoryStorage, Repository) {
    let disk = MemoryStorage::new();
    let repository = init_plain(&sharing(&disk)).unwrap();
    for day in 0..days {
        backup(&repository, &little(day)).unwrap();
    }
    (disk, repository)
}

fn record(source: &str, snapshot: Option<SnapshotId>, root: Vec<ChunkRef>) -> Checkpoint {
    Checkpoint {
        format_version: 0,
        required_features: Vec::new(),
        repository: RepositoryId([0; 16]),
        sequence: 0,
        program: "test".to_owned(),
        source: source.to_owned(),
        host: "here".to_owned(),
        snapshot,
        seen: TreeSeen { clock: Timestamp::default(), root },
        compared_with: None,
    }
}

/// A backup of what there is on that day, cut off when it had read all of it.
fn cut_off(repository: &Repository, source: &str, day: u64) -> Result<(), RepositoryError> {
    let newest = repository.snapshots(&LogMonitor)?.into_iter().rev();
    let newest = newest.map(|entry| (entry.manifest.source.name, entry.id)).find(|(name, _)| name == source);
    let mut writer = repository.writer(&options(), &LogMonitor)?;
    let root = put_source(&mut writer, &little(day))?.root;
    writer.keep_checkpoint(record(source, newest.map(|(_, id)| id), root))
}

fn known(repository: &Repository, source: &str) -> (Option<u64>, usize) {
    let told = Collected::default();
    let found = repository.checkpoint(source, &told).unwrap();
    (found.map(|record| record.sequence), told.problems().len())
}

fn names(disk: &MemoryStorage) -> Vec<String> {
    disk.files().into_keys().filter(|path| path.starts_with("checkpoints/")).collect()
}

#[test]
fn the_last_of_each_source_is_known_until_its_next_snapshot_and_none_is_listed() {
    let (disk, repository) = filled(1);
    assert_eq!(known(&repository, "mail1"), (None, 0));
    for source in ["mail1", "mail2", "mail1"] {
        cut_off(&repository, source, 1).unwrap();
    }
    assert_eq!((known(&repository, "mail1"), known(&repository, "mail2")), ((Some(3), 0), (Some(2), 0)));
    assert_eq!((names(&disk).len(), known(&repository, "mail3")), (2, (None, 0)));
    assert_eq!(repository.snapshots(&LogMonitor).unwrap().len(), 1);
    let kept = repository.checkpoint("mail1", &LogMonitor).unwrap().unwrap();
    assert_eq!((kept.repository, kept.format_version), (repository.id(), 1));
    // All that it names can be relied on by the next one, and nothing else.
    let writer = repository.writer(&options(), &LogMonitor).unwrap();
    let chunk = kept.seen.root[0];
    assert!(writer.relies_on(&chunk).unwrap());
    assert!(!writer.relies_on(&ChunkRef { length: chunk.length + 1, ..chunk }).unwrap());
    drop(writer);
    backup(&repository, &little(1)).unwrap();
    assert_eq!((known(&repository, "mail1"), known(&repository, "mail2")), ((None, 0), (Some(2), 0)));
    assert_eq!(names(&disk).len(), 1);
}

#[test]
fn a_tree_that_was_never_put_is_kept_by_none() {
    let (_, repository) = filled(1);
    let (_, other) = filled(1);
    let mut writer = other.writer(&options(), &LogMonitor).unwrap();
    let root = put_source(&mut writer, &little(7)).unwrap().root;
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    let refused = writer.keep_checkpoint(record("mail1", None, root)).unwrap_err();
    assert!(matches!(refused, RepositoryError::MissingChunk { .. }), "{refused}");
    drop(writer);
    assert_eq!(known(&repository, "mail1"), (None, 0));
}

#[test]
fn one_that_was_edited_cut_renamed_or_carried_here_counts_for_nothing() {
    let (disk, repository) = filled(1);
    cut_off(&repository, "mail1", 1).unwrap();
    let path = names(&disk).remove(0);
    let good = disk.files().remove(&path).unwrap();
    for at in (0..good.len()).step_by(7) {
        disk.damage(&path, |bytes| bytes[at] ^= 1);
        assert_eq!(known(&repository, "mail1"), (None, 1), "byte {at}");
        disk.damage(&path, |bytes| bytes[at] ^= 1);
    }
    disk.damage(&path, |bytes| bytes.truncate(good.len() - 1));
    assert_eq!(known(&repository, "mail1"), (None, 1));
    // The next one is kept all the same, under a number of its own, and the damaged one goes.
    cut_off(&repository, "mail1", 1).unwrap();
    assert_eq!((known(&repository, "mail1"), names(&disk).len()), ((Some(2), 0), 1));
    let path = names(&disk).remove(0);
    let later = path.replace("0000000002-", "0000000009-");
    disk.rename(&path, &later).unwrap();
    assert_eq!(known(&repository, "mail1"), (None, 1), "under another number it would pass for a later one");
    disk.rename(&later, &path).unwrap();
    assert_eq!(known(&repository, "mail1"), (Some(2), 0));
}

#[test]
fn a_prune_takes_away_what_no_backup_goes_on_from() {
    let (disk, repository) = filled(3);
    cut_off(&repository, "mail1", 3).unwrap();
    cut_off(&repository, "mail2", 3).unwrap();
    // As an older program leaves it, which knows of none: its snapshot is sealed and the checkpoint is there.
    let path = names(&disk).remove(0);
    let old = disk.files().remove(&path).unwrap();
    backup(&repository, &little(4)).unwrap();
    let mut file = disk.create("tmp/x").unwrap();
    file.append(&old).unwrap();
    file.sync().unwrap();
    drop(file);
    disk.rename("tmp/x", &path).unwrap();
    assert_eq!(known(&repository, "mail1"), (Some(1), 0));
    let options =
        PruneOptions { grace: Duration::ZERO, ..PruneOptions::new(Keep { last: 1, ..Keep::default() }) };
    repository.prune(&options, &LogMonitor).unwrap();
    assert_eq!((known(&repository, "mail1"), known(&repository, "mail2")), ((None, 0), (Some(2), 0)));
}

#[test]
fn every_crash_and_every_fault_leaves_the_old_one_or_the_new_one() {
    let (disk, repository) = filled(2);
    cut_off(&repository, "mail1", 2).unwrap();
    let run = |storage: &Arc<dyn Storage>| cut_off(&open_plain(storage)?, "mail1", 3);
    let recorder = Recorder::new(&disk);
    run(&(Arc::new(recorder.clone()) as Arc<dyn Storage>)).unwrap();
    let mut seen = [0; 2];
    for (call, moment) in recorder.moments() {
        for seed in 0..16 {
            let storage: Arc<dyn Storage> = Arc::new(moment.crash(seed));
            let (sequence, told) = known(&open_plain(&storage).unwrap(), "mail1");
            assert!(told == 0 && matches!(sequence, Some(1 | 2)), "{call}, {seed}: {sequence:?}");
            seen[usize::from(sequence == Some(2))] += 1;
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    let sealed: Vec<u64> = vec![1, 2];
    let operation = Operation {
        name: "a checkpoint",
        start: disk,
        run: &run,
        always: sealed.clone(),
        after: sealed,
        contents: &|generation| little(generation - 1),
    };
    let tally = operation.every_crash(32);
    assert!(tally.moments > 5 && tally.kinds > 2, "{tally:?}");
    assert!(operation.every_fault() > 20);
}

fn open_plain(storage: &Arc<dyn Storage>) -> Result<Repository, RepositoryError> {
    open(storage, &LogMonitor)
}
