//! Prune on a disk of which something cannot be read (hazards 10, 11, 18): it goes on with what can be decided, nothing
//! that stays is harmed whatever the damage hides, and what is damaged is told.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::faulty::Faulty;
use common::*;
use mailkeep_repository::format::ChunkKind;
use mailkeep_repository::retention::{Clock, Halt, Keep};
use mailkeep_repository::{
    Collected, LogMonitor, MemoryStorage, PruneOptions, PruneReport, ReadData, Repository, Severity, Storage,
    VerifyOptions, verify,
};

/// 2026-11-23, and a day.
const NOW: i64 = 1_795_392_000;
const DAY: i64 = 86_400;

fn storage(disk: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

fn last(count: u32, grace_hours: u64, day: i64) -> PruneOptions {
    PruneOptions {
        clock: Clock { now: NOW + day * DAY, offset: 0 },
        grace: Duration::from_secs(grace_hours * 3600),
        ..PruneOptions::new(Keep { last: count, ..Keep::default() })
    }
}

/// A day of a source: what it shares with all days, with the day before and after, and what is its own. A sixth of a
/// pack's worth each, so that packs are dead, wasted, and needed in part.
fn day(name: &str, day: u64) -> Source {
    let seed = name.bytes().map(u64::from).sum::<u64>() * 1_000_000;
    let mut source = Source::new();
    for (folder, of_day) in [("always", 0), ("two", 1 + day / 2), ("own", 1000 + day)] {
        let files = source.entry(format!("{folder}-{of_day}")).or_default();
        for file in 0..4 {
            files.insert(format!("{file}."), noise(seed + of_day * 100 + file, 3000));
        }
    }
    source
}

fn seal(repository: &Repository, name: &str, number: u64) {
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    let mut draft = put_source(&mut writer, &day(name, number)).unwrap();
    draft.source.name = name.into();
    writer.seal(draft, &LogMonitor).unwrap();
}

/// Two sources, five days each; a prune that has tombstoned and repacked, and a seal since.
fn worn() -> MemoryStorage {
    let disk = MemoryStorage::new();
    let repository = init_plain(&storage(&disk)).unwrap();
    for number in 0..5 {
        for name in ["mail1", "mail2"] {
            seal(&repository, name, number);
        }
        if number == 3 {
            repository.prune(&last(2, 24, 0), &LogMonitor).unwrap();
        }
    }
    disk
}

fn opened(storage: &Arc<dyn Storage>) -> Repository {
    Repository::open(storage.clone(), &mailkeep_repository::KeySource::Plain, &LogMonitor).unwrap()
}

fn packs(disk: &MemoryStorage) -> BTreeMap<String, u64> {
    let files = disk.files().into_iter().filter(|(path, _)| path.starts_with("packs/"));
    files.map(|(path, bytes)| (path, bytes.len() as u64)).collect()
}

/// Source and generation of every snapshot.
fn listed(repository: &Repository) -> Vec<(String, u64)> {
    let entries = repository.snapshots(&LogMonitor).unwrap();
    entries.iter().map(|entry| (entry.manifest.source.name.clone(), entry.manifest.generation)).collect()
}

/// With the damage taken back, everything that is listed is there to the last byte: whatever the damage hid was kept.
fn nothing_needed_went(disk: &MemoryStorage, original: &MemoryStorage, path: &str, context: &str) {
    let bytes = original.files()[path].to_vec();
    match disk.files().contains_key(path) {
        true => disk.damage(path, |there| *there = bytes),
        false => {
            // It was given up and deleted: then nobody may need it.
        }
    }
    let repository = opened(&storage(disk));
    // The index may have been made without it.
    repository.reindex(&mailkeep_repository::Machine::this(), &LogMonitor).unwrap();
    for entry in repository.snapshots(&LogMonitor).unwrap() {
        let name = &entry.manifest.source.name;
        let restored = restore(&repository, &entry).unwrap_or_else(|error| {
            panic!("{context}: snapshot {} of {name}: {error}", entry.manifest.generation)
        });
        let number = (entry.manifest.generation - 1) / 2;
        assert!(restored == day(name, number), "{context}: snapshot {}", entry.manifest.generation);
    }
}

type Harm = (&'static str, fn(&mut Vec<u8>));

/// In the middle, at the table of contents, all of it, and half of it gone.
const HARMS: [Harm; 4] = [
    ("a flipped bit", |bytes| {
        let middle = bytes.len() / 3;
        bytes[middle] ^= 4;
    }),
    ("a damaged table of contents", |bytes| {
        let end = bytes.len();
        bytes[end - 40..].fill(7);
    }),
    ("zeros", |bytes| bytes[45..].fill(0)),
    ("half of it gone", |bytes| bytes.truncate(bytes.len() / 2)),
];

#[test]
fn whatever_pack_is_damaged_it_goes_on_and_deletes_nothing_that_is_needed() {
    let sound = worn();
    let (mut told, mut halted, mut freed, mut removed, mut runs) = (0, 0, 0, 0, 0_usize);
    for path in packs(&sound).into_keys() {
        for (what, harm) in HARMS {
            for indexed in [true, false] {
                let disk = sound.crash(1);
                disk.damage(&path, harm);
                if !indexed {
                    for run in disk.files().into_keys().filter(|path| path.starts_with("index/")) {
                        disk.remove(&run).unwrap();
                    }
                }
                let context = format!("{path}: {what}, with its index: {indexed}");
                for (keep, at) in [(1, 2), (1, 9)] {
                    let monitor = Collected::default();
                    let report = opened(&storage(&disk))
                        .prune(&last(keep, 0, at), &monitor)
                        .unwrap_or_else(|error| panic!("{context}: {error}"));
                    let lost = monitor.problems().iter().any(|problem| problem.severity == Severity::Lost);
                    let doubted =
                        report.damaged_packs + report.unreadable_directories + report.missing_chunks;
                    assert!(doubted == 0 || lost, "{context}: not told: {report:?}");
                    told += usize::from(lost);
                    halted += report.halts.len();
                    freed += report.freed_bytes;
                    removed += report.removed() as usize;
                    assert!(listed(&opened(&storage(&disk))).len() >= 2, "{context}: the newest ones stay");
                }
                nothing_needed_went(&disk, &sound, &path, &context);
                runs += 1;
            }
        }
    }
    eprintln!("{runs} disks, {told} told, {halted} halts, {freed} bytes freed, {removed} snapshots removed");
    assert!(
        told > runs / 2 && halted > 0 && freed > 0 && removed > runs,
        "{told} {halted} {freed} {removed}"
    );
}

#[test]
fn a_pack_that_the_disk_does_not_give_stays_and_the_rest_is_swept() {
    let sound = worn();
    for path in packs(&sound).into_keys() {
        let disk = sound.crash(1);
        let faulty: Arc<dyn Storage> = Arc::new(Faulty::unreadable(&disk, &path));
        for at in [2, 9] {
            let done = opened(&faulty).prune(&last(1, 0, at), &LogMonitor);
            done.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        nothing_needed_went(&disk, &sound, &path, &path);
    }
}

/// The damaged pack, what was told, and what was done.
fn pruned_with(disk: &MemoryStorage, options: &PruneOptions) -> (PruneReport, Vec<String>) {
    let monitor = Collected::default();
    let report = opened(&storage(disk)).prune(options, &monitor).unwrap();
    let lost = monitor.problems().into_iter().filter(|problem| problem.severity == Severity::Lost);
    (report, lost.map(|problem| problem.to_string()).collect())
}

#[test]
fn a_copy_that_is_no_longer_sound_keeps_the_other_one() {
    let disk = MemoryStorage::new();
    let repository = init_plain(&storage(&disk)).unwrap();
    (0..2).for_each(|number| seal(&repository, "mail1", number));
    let before = packs(&disk);
    let report = repository.prune(&last(1, 24, 0), &LogMonitor).unwrap();
    assert!(report.repacked_packs > 0);
    let copies: Vec<String> = packs(&disk).into_keys().filter(|path| !before.contains_key(path)).collect();
    seal(&repository, "mail1", 2);
    disk.damage(&copies[0], |bytes| bytes[200] ^= 1);
    let (report, lost) = pruned_with(&disk, &last(2, 24, 2));
    assert_eq!(report.damaged_packs, copies.len() as u64, "{report:?}");
    assert!(lost.iter().any(|line| line.contains(&copies[0])), "{lost:?}");
    assert!(report.revived_packs > 0, "what it was copied from is needed again: {report:?}");
    // With the damage still there.
    let found: Vec<Source> =
        snapshots(&repository).0.iter().map(|entry| restore(&repository, entry).unwrap()).collect();
    assert_eq!(found.len(), 2);
    assert!(found == [day("mail1", 1), day("mail1", 2)]);
    // From now on nothing new relies on it.
    let known = repository.verification(&LogMonitor).unwrap().unwrap();
    assert_eq!(known.damaged.len(), 1);
    seal(&repository, "mail1", 3);
    pruned_with(&disk, &last(2, 0, 9));
    let found: Vec<Source> =
        snapshots(&repository).0.iter().map(|entry| restore(&repository, entry).unwrap()).collect();
    assert!(found == [day("mail1", 2), day("mail1", 3)]);
}

#[test]
fn of_a_source_whose_newest_snapshot_is_damaged_nothing_is_removed_and_of_others_it_is() {
    let disk = MemoryStorage::new();
    let repository = init_plain(&storage(&disk)).unwrap();
    for number in 0..3 {
        ["mail1", "mail2"].into_iter().for_each(|name| seal(&repository, name, number));
    }
    let entries = repository.snapshots(&LogMonitor).unwrap();
    let newest = entries.iter().rfind(|entry| entry.manifest.source.name == "mail1").unwrap();
    let hit = newest.manifest.new_packs[0];
    disk.damage(&format!("packs/{}/{hit}", &hit.to_string()[..2]), |bytes| bytes[45..].fill(0));
    let before = packs(&disk);
    // On a disk without guards: with one the structure is checked afterwards, which finds the same.
    let unguarded: Arc<dyn Storage> = Arc::new(Faulty::new(&disk, u64::MAX, false, 5));
    let monitor = Collected::default();
    let report = opened(&unguarded).prune(&last(1, 0, 0), &monitor).unwrap();
    let lost = monitor.problems();
    assert_eq!(report.halts, [("mail1".to_owned(), Halt::Damaged)]);
    assert!(report.unreadable_directories > 0 && !lost.is_empty(), "{report:?}");
    assert_eq!(report.removed(), 2);
    assert_eq!(packs(&disk), before, "while a directory is unreadable no pack goes");
    // Where those directories lie is read whole, found damaged and remembered: nothing new relies on it.
    let known = repository.verification(&LogMonitor).unwrap().unwrap();
    assert_eq!(known.damaged, [hit], "{report:?}");
    let names = listed(&opened(&storage(&disk)));
    assert_eq!(names.iter().filter(|(name, _)| name == "mail1").count(), 3);
    assert_eq!(names.iter().filter(|(name, _)| name == "mail2").count(), 1);
    // A whole backup, and it goes on.
    seal(&opened(&storage(&disk)), "mail1", 3);
    let (report, _) = pruned_with(&disk, &last(1, 0, 2));
    assert!(report.halts.is_empty() && report.removed() == 3, "{report:?}");
    seal(&opened(&storage(&disk)), "mail2", 4);
    let (report, lost) = pruned_with(&disk, &last(1, 0, 3));
    assert!(report.freed_bytes > 0 && lost.is_empty(), "{report:?} {lost:?}");
    let found = verify(&opened(&storage(&disk)), VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert!(!found.lost(), "{:?}", found.problems);
}

#[test]
fn a_pack_of_which_nobody_knows_what_is_in_it_stays_while_chunks_are_missing() {
    // A folder that never changes, so that a pack of directories is hardly ever worth copying.
    let day = |number: u64| {
        let mut source = day("mail1", number);
        source.insert("still".to_owned(), (0..200).map(|file| (format!("{file}."), vec![7; 9])).collect());
        source
    };
    let seal = |repository: &Repository, number: u64| {
        let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
        let draft = put_source(&mut writer, &day(number)).unwrap();
        writer.seal(draft, &LogMonitor).unwrap();
    };
    let disk = MemoryStorage::new();
    let repository = init_plain(&storage(&disk)).unwrap();
    // The files of the first day in a pack without directories.
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    for bytes in day(0).values().flat_map(BTreeMap::values) {
        for piece in bytes.chunks(700) {
            writer.put(ChunkKind::Data, piece).unwrap();
        }
    }
    writer.flush().unwrap();
    let path = packs(&disk).into_keys().next().unwrap();
    let draft = put_source(&mut writer, &day(0)).unwrap();
    writer.seal(draft, &LogMonitor).unwrap();
    seal(&repository, 1);
    // What is needed of it is copied, and it gets its tombstone.
    let before = packs(&disk);
    pruned_with(&disk, &last(1, 24, 0));
    seal(&repository, 2);
    // The copies are lost, the index too, and of the pack itself the table of contents to make it from.
    let newest = &repository.snapshots(&LogMonitor).unwrap()[1].manifest.new_packs.clone();
    let copies = packs(&disk).into_keys().filter(|path| {
        !before.contains_key(path) && !newest.iter().any(|id| path.ends_with(&id.to_string()))
    });
    let runs = disk.files().into_keys().filter(|path| path.starts_with("index/"));
    let lost: Vec<String> = copies.chain(runs).collect();
    assert!(lost.iter().any(|path| path.starts_with("packs/")), "nothing was copied");
    lost.iter().for_each(|path| disk.remove(path).unwrap());
    let sound = disk.files()[&path].to_vec();
    disk.damage(&path, HARMS[1].1);
    // Its time has come, twice.
    for at in [5, 9] {
        let (report, _) = pruned_with(&disk, &last(9, 0, at));
        assert!(report.missing_chunks > 0 && report.unreadable_directories == 0, "{report:?}");
    }
    assert!(disk.files().contains_key(&path), "it has what is missing");
    disk.damage(&path, |bytes| *bytes = sound);
    let repository = opened(&storage(&disk));
    repository.reindex(&mailkeep_repository::Machine::this(), &LogMonitor).unwrap();
    let entries = repository.snapshots(&LogMonitor).unwrap();
    let found: Vec<Source> = entries.iter().map(|entry| restore(&repository, entry).unwrap()).collect();
    assert!(found == [day(1), day(2)]);
}

#[test]
fn with_both_copies_damaged_both_stay_and_the_rest_is_swept() {
    let disk = MemoryStorage::new();
    let repository = init_plain(&storage(&disk)).unwrap();
    (0..2).for_each(|number| seal(&repository, "mail1", number));
    let before = packs(&disk);
    repository.prune(&last(1, 24, 0), &LogMonitor).unwrap();
    let copies: Vec<String> = packs(&disk).into_keys().filter(|path| !before.contains_key(path)).collect();
    seal(&repository, "mail1", 2);
    let sound = disk;
    let mut both = 0;
    for copy in &copies {
        for original in before.keys() {
            let disk = sound.crash(1);
            for path in [copy, original] {
                disk.damage(path, |bytes| bytes[200] ^= 1);
            }
            let repository = opened(&storage(&disk));
            verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
            for at in [2, 4] {
                let done = repository.prune(&last(2, 24, at), &LogMonitor);
                let report = done.unwrap_or_else(|error| panic!("{copy} and {original}: {error}"));
                both += usize::from(report.damaged_packs > 1);
            }
            // What one of them is needed for may be in the other one alone, once their damage lies elsewhere.
            for path in [copy, original] {
                disk.damage(path, |bytes| bytes[200] ^= 1);
            }
            for entry in opened(&storage(&disk)).snapshots(&LogMonitor).unwrap() {
                restore(&repository, &entry).unwrap();
            }
        }
    }
    assert!(both > 0);
}

#[test]
fn a_disk_that_is_gone_is_not_taken_for_a_damaged_one() {
    let sound = worn();
    let (mut ended, mut at) = (0, 1);
    loop {
        let disk = sound.crash(1);
        let faulty = Faulty::new(&disk, at, true, 19);
        let there: Arc<dyn Storage> = Arc::new(faulty.clone());
        let done = Repository::open(there, &mailkeep_repository::KeySource::Plain, &LogMonitor)
            .and_then(|repository| repository.prune(&last(1, 0, 2), &LogMonitor));
        if !faulty.happened() {
            done.unwrap();
            break;
        }
        match done {
            Err(_) => ended += 1,
            // What comes after the last thing that matters: the guard, the reserve, the lease.
            Ok(report) => {
                assert_eq!((report.damaged_packs, report.unreadable_directories), (0, 0), "call {at}")
            }
        }
        at += 1;
    }
    assert!(ended > 50, "{ended} of {at}");
}
