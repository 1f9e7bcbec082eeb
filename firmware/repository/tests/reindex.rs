//! Hazard 15: the index is a cache. Gone, garbage or stale, it is made again from the packs alone, and a reindex that is
//! cut off or fails at any call leaves everything readable.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::faulty::Faulty;
use common::*;
use mailkeep_repository::{
    LogMonitor, MemoryStorage, ReadData, ReindexReport, RepositoryError, Storage, VerifyOptions, verify,
};

const DAYS: u64 = 3;

fn sharing(disk: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

fn filled() -> MemoryStorage {
    let disk = MemoryStorage::new();
    let repository = init(&sharing(&disk)).unwrap();
    for day in 0..DAYS {
        backup(&repository, &source(day)).unwrap();
    }
    disk
}

fn runs(disk: &MemoryStorage) -> Vec<String> {
    disk.files().into_keys().filter(|path| path.starts_with("index/")).collect()
}

fn reindex(storage: &Arc<dyn Storage>) -> Result<ReindexReport, RepositoryError> {
    open(storage, &LogMonitor)?.reindex(&options().machine, &LogMonitor)
}

/// Everything is readable, the index is sound, and the next backup finds everything again.
fn whole(disk: &MemoryStorage, context: &str) {
    let repository = open(&sharing(disk), &LogMonitor).unwrap();
    let entries = snapshots(&repository).0;
    assert_eq!(entries.len() as u64, DAYS, "{context}");
    for entry in &entries {
        let restored = restore(&repository, entry).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(restored == source(entry.manifest.generation - 1), "{context}");
    }
    let found = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert!(!found.damaged(), "{context}: {:?}", found.problems);
    let sealed = backup(&repository, &source(DAYS - 1)).unwrap();
    assert_eq!(sealed.manifest.stats.added_bytes, 0, "{context}: known again, not stored again");
}

#[test]
fn whatever_lies_in_its_place_the_index_is_made_again() {
    let start = filled();
    let old = runs(&start);
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 5] = [
        ("sound", |_| {}),
        ("flipped", |bytes| bytes[5000] ^= 1),
        ("cut", |bytes| bytes.truncate(4097)),
        ("empty", Vec::clear),
        ("garbage", |bytes| bytes.fill(0x5a)),
    ];
    for (what, change) in changes {
        let disk = start.crash(1);
        old.iter().for_each(|path| disk.damage(path, change));
        let report = reindex(&sharing(&disk)).unwrap();
        assert_eq!((report.packs, report.runs, report.removed), (3, 1, old.len() as u64), "{what}");
        assert!(report.chunks > 50 && report.problems.is_empty() && !report.damaged());
        let new = runs(&disk);
        assert!(new.len() == 1 && !old.contains(&new[0]), "{what}");
        whole(&disk, what);
    }
}

#[test]
fn an_index_that_is_gone_altogether_comes_back() {
    let disk = MemoryStorage::new();
    // As a copy by hand that left the folder out.
    for (path, bytes) in filled().files().into_iter().filter(|(path, _)| !path.starts_with("index/")) {
        let folders: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        for at in folders {
            let _ = disk.make_dir(&path[..at]);
        }
        disk.create(&path).unwrap().append(&bytes).unwrap();
    }
    assert!(disk.list("index").is_err() && disk.list("tmp").is_err());
    assert_eq!(reindex(&sharing(&disk)).unwrap().packs, 3);
    whole(&disk, "gone");
}

#[test]
fn a_pack_that_cannot_say_what_is_in_it_is_told_and_the_others_are_indexed() {
    let disk = filled();
    let pack = disk.files().into_keys().find(|path| path.starts_with("packs/")).unwrap();
    disk.damage(&pack, |bytes| {
        let end = bytes.len() - 30;
        bytes[end] ^= 1;
    });
    let report = reindex(&sharing(&disk)).unwrap();
    assert_eq!((report.packs, report.damaged()), (2, true));
    assert_eq!(report.problems[0].path, pack);
}

#[test]
fn a_torn_pack_of_an_interrupted_run_is_not_indexed() {
    let disk = filled();
    let repository = open(&sharing(&disk), &LogMonitor).unwrap();
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    put_source(&mut writer, &source(7)).unwrap();
    let before = disk.files();
    drop(writer);
    let pack = disk.files().into_keys().find(|path| path.starts_with("packs/") && !before.contains_key(path));
    disk.damage(&pack.unwrap(), |bytes| bytes[100] ^= 1);
    let report = reindex(&sharing(&disk)).unwrap();
    assert_eq!((report.packs, report.problems.len(), report.damaged()), (3, 1, false));
    backup(&repository, &source(7)).unwrap();
    let entries = snapshots(&repository).0;
    assert!(restore(&repository, entries.last().unwrap()).unwrap() == source(7));
}

#[test]
fn a_reindex_cut_at_every_call_leaves_everything_readable() {
    let start = filled();
    let old = runs(&start);
    start.damage(&old[0], |bytes| bytes[5000] ^= 1);
    let mut cut = 1;
    loop {
        let disk = start.crash(1);
        let faulty = Faulty::power_cut(&disk, cut);
        let done = reindex(&(Arc::new(faulty.clone()) as Arc<dyn Storage>));
        for seed in 0..4 {
            let context = format!("cut at {cut}, seed {seed}");
            let after = disk.crash(seed);
            let repository = open(&sharing(&after), &LogMonitor).unwrap();
            for entry in snapshots(&repository).0 {
                assert!(
                    restore(&repository, &entry).unwrap() == source(entry.manifest.generation - 1),
                    "{context}"
                );
            }
            reindex(&sharing(&after)).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(runs(&after).len(), 1, "{context}");
            whole(&after, &context);
        }
        if !faulty.happened() {
            done.unwrap();
            break;
        }
        cut += 1;
    }
    assert!(cut > 12, "a reindex has many calls, {cut} were seen");
}

#[test]
fn a_reindex_in_which_any_call_fails_leaves_everything_readable() {
    let start = filled();
    for errno in [5, 28, 2] {
        let mut at = 1;
        loop {
            let disk = start.crash(1);
            let faulty = Faulty::new(&disk, at, errno == 28, errno);
            let done = reindex(&(Arc::new(faulty.clone()) as Arc<dyn Storage>));
            whole(&disk, &format!("call {at}, errno {errno}: {:?}", done.err()));
            if !faulty.happened() {
                break;
            }
            at += 1;
        }
        assert!(at > 40, "{at}");
    }
}

#[test]
fn beside_a_writer_it_is_refused() {
    let disk = filled();
    let repository = open(&sharing(&disk), &LogMonitor).unwrap();
    let _writer = repository.writer(&options(), &LogMonitor).unwrap();
    let error = reindex(&sharing(&disk)).unwrap_err();
    assert_eq!(error.exit_code(), 11, "{error}");
}
