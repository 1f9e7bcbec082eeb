//! Prune as a whole: what stays can be read, what goes gives its room back, nothing goes before its time (hazards 10, 13,
//! 15, 30), and a full disk is made usable again (hazards 3, 5).
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use mailkeep_repository::format::{ChunkKind, PackId};
use mailkeep_repository::retention::{Clock, Halt, Keep};
use mailkeep_repository::{
    Collected, LogMonitor, MemoryStorage, PruneOptions, PruneReport, ReadData, Repository, RepositoryError,
    Severity, Storage, VerifyOptions, verify,
};

/// 2026-11-23, and a day.
const NOW: i64 = 1_795_392_000;
const DAY: i64 = 86_400;

fn disk() -> (MemoryStorage, Repository) {
    let disk = MemoryStorage::new();
    let repository = init(&(Arc::new(disk.clone()) as Arc<dyn Storage>)).unwrap();
    (disk, repository)
}

fn opened(disk: &MemoryStorage) -> Repository {
    open(&(Arc::new(disk.clone()) as Arc<dyn Storage>), &LogMonitor).unwrap()
}

fn last(count: u32, grace_hours: u64, day: i64) -> PruneOptions {
    PruneOptions {
        clock: Clock { now: NOW + day * DAY, offset: 0 },
        grace: Duration::from_secs(grace_hours * 3600),
        ..PruneOptions::new(Keep { last: count, ..Keep::default() })
    }
}

fn prune(repository: &Repository, options: &PruneOptions) -> Result<PruneReport, RepositoryError> {
    repository.prune(options, &LogMonitor)
}

fn packs(disk: &MemoryStorage) -> BTreeMap<String, u64> {
    let files = disk.files().into_iter().filter(|(path, _)| path.starts_with("packs/"));
    files.map(|(path, bytes)| (path, bytes.len() as u64)).collect()
}

fn pack_bytes(disk: &MemoryStorage) -> u64 {
    packs(disk).values().sum()
}

/// A source whose days share nothing, so that a day's packs die with it; some 60 KB.
fn other(day: u64) -> Source {
    let mut source = Source::new();
    for folder in 0..2 {
        let files = source.entry(format!("day{day}-{folder}")).or_default();
        for file in 0..6 {
            files.insert(format!("{file}."), noise(day * 100 + folder * 10 + file, 5000));
        }
    }
    source
}

/// Every snapshot that is there is whole and what `what` says of its generation.
fn whole(repository: &Repository, expected: &[u64], what: &dyn Fn(u64) -> Source, context: &str) {
    let monitor = Collected::default();
    let entries = repository.snapshots(&monitor).unwrap();
    let generations: Vec<u64> = entries.iter().map(|entry| entry.manifest.generation).collect();
    assert_eq!(generations, expected, "{context}");
    for entry in &entries {
        let restored = restore(repository, entry).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(restored == what(entry.manifest.generation - 1), "{context}: restored something else");
    }
    let report = verify(repository, VerifyOptions { read: ReadData::All }, &monitor).unwrap();
    assert!(!report.damaged(), "{context}: {:?}", report.problems);
}

#[test]
fn what_nobody_needs_goes_after_a_seal_and_the_grace_period_and_what_stays_is_whole() {
    let (disk, repository) = disk();
    for day in 0..4 {
        backup(&repository, &other(day)).unwrap();
    }
    let full = pack_bytes(&disk);
    let report = prune(&repository, &last(2, 24, 0)).unwrap();
    assert_eq!((report.removed(), report.deleted_packs, report.freed_bytes), (2, 0, 0));
    assert!(report.later_bytes > full / 3, "{report:?}");
    assert_eq!(pack_bytes(&disk), full, "nothing is deleted yet");
    whole(&repository, &[3, 4], &other, "after phase 1");

    // Grace alone is not enough, nor is a seal alone.
    assert_eq!(prune(&repository, &last(2, 24, 5)).unwrap().deleted_packs, 0);
    backup(&repository, &other(4)).unwrap();
    let young = prune(&repository, &PruneOptions { grace: Duration::from_secs(6 * 86_400), ..last(2, 0, 5) });
    assert_eq!(young.unwrap().deleted_packs, 0);
    let report = prune(&repository, &last(2, 24, 6)).unwrap();
    assert!(report.deleted_packs >= 2, "{report:?}");
    assert!(pack_bytes(&disk) < full, "{} of {full}", pack_bytes(&disk));
    whole(&repository, &[4, 5], &other, "after phase 2");
    let report = prune(&repository, &last(2, 24, 9)).unwrap();
    assert_eq!(report.removed(), 0);
    backup(&repository, &other(5)).unwrap();
    whole(&repository, &[4, 5, 6], &other, "the next backup");
}

#[test]
fn a_rehearsal_says_the_same_and_changes_nothing() {
    let (disk, repository) = disk();
    for day in 0..3 {
        backup(&repository, &other(day)).unwrap();
    }
    let before = disk.files();
    let rehearsed = prune(&repository, &PruneOptions { dry_run: true, ..last(1, 24, 0) }).unwrap();
    assert!(disk.files() == before);
    let done = prune(&repository, &last(1, 24, 0)).unwrap();
    assert_eq!(rehearsed, done);
    assert_eq!(done.removed(), 2);
}

#[test]
fn a_removed_snapshot_is_pruned_and_not_lost() {
    let (disk, repository) = disk();
    for day in 0..4 {
        backup(&repository, &source(day)).unwrap();
    }
    // From the middle too: the chain of generations has a gap that the record explains.
    prune(&repository, &last(1, 24, 0)).unwrap();
    backup(&repository, &source(4)).unwrap();
    let monitor = Collected::default();
    let report = verify(&opened(&disk), VerifyOptions { read: ReadData::All }, &monitor).unwrap();
    assert_eq!(report.problems, []);
    // Without the record it cannot be told.
    let names: Vec<String> = disk.files().into_keys().filter(|path| path.starts_with("swept")).collect();
    assert_eq!(names.len(), 2);
    for name in names {
        disk.damage(&name, |bytes| bytes[60] ^= 1);
    }
    let report = verify(&opened(&disk), VerifyOptions { read: ReadData::All }, &monitor).unwrap();
    assert!(report.lost());
}

#[test]
fn the_writer_relies_on_nothing_that_may_go() {
    let (disk, repository) = disk();
    backup(&repository, &other(0)).unwrap();
    backup(&repository, &other(1)).unwrap();
    prune(&repository, &last(1, 24, 0)).unwrap();
    // The same source as in the removed snapshot comes back: its chunks are all there, in packs that may go.
    let sealed = backup(&repository, &other(0)).unwrap();
    assert!(sealed.manifest.stats.added_bytes > 50_000, "stored again");
    let report = prune(&repository, &last(2, 24, 2)).unwrap();
    assert!(report.deleted_packs > 0, "{report:?}");
    assert_eq!(report.revived_packs, 0);
    let what = |day: u64| other(if day == 2 { 0 } else { day });
    whole(&opened(&disk), &[2, 3], &what, "after the second prune");
}

#[test]
fn of_packs_that_are_mostly_waste_the_rest_is_copied() {
    let (disk, repository) = disk();
    let mixed = |day: u64| {
        let mut source = other(day);
        source.insert("always".into(), other(99).remove("day99-0").unwrap());
        source
    };
    for day in 0..3 {
        backup(&repository, &mixed(day)).unwrap();
    }
    let report = prune(&repository, &last(1, 24, 0)).unwrap();
    assert!(report.repacked_packs >= 1 && report.copied_bytes > 0, "{report:?}");
    whole(&repository, &[3], &mixed, "repacked");
    let sealed = backup(&repository, &mixed(3)).unwrap();
    assert!(sealed.manifest.stats.added_bytes < 80_000, "what was copied is known");
    let report = prune(&repository, &last(2, 24, 2)).unwrap();
    assert!(report.deleted_packs >= 2, "{report:?}");
    whole(&opened(&disk), &[3, 4], &mixed, "the old packs are gone");
}

#[test]
fn what_an_interrupted_backup_has_stored_is_left_for_the_next_one() {
    let (disk, repository) = disk();
    backup(&repository, &other(0)).unwrap();
    backup(&repository, &other(1)).unwrap();
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    put_source(&mut writer, &other(2)).unwrap();
    drop(writer);
    prune(&repository, &last(1, 0, 0)).unwrap();
    let sealed = backup(&repository, &other(2)).unwrap();
    assert_eq!(sealed.manifest.stats.added_bytes, 0);
    prune(&repository, &last(2, 0, 1)).unwrap();
    whole(&opened(&disk), &[2, 3], &other, "resumed over a prune");
}

#[test]
fn packs_of_removed_snapshots_do_not_become_new_again() {
    let (_, repository) = disk();
    for day in 0..3 {
        backup(&repository, &source(day)).unwrap();
    }
    prune(&repository, &last(1, 24, 0)).unwrap();
    let sealed = backup(&repository, &source(2)).unwrap();
    assert_eq!(sealed.manifest.new_packs, [] as [PackId; 0]);
}

#[test]
fn a_manifest_that_came_back_by_hand_brings_its_packs_back_to_life() {
    let (disk, repository) = disk();
    backup(&repository, &other(0)).unwrap();
    let saved: BTreeMap<String, Vec<u8>> =
        disk.files().into_iter().filter(|(path, _)| path.starts_with("manifests")).collect();
    backup(&repository, &other(1)).unwrap();
    prune(&repository, &last(1, 24, 0)).unwrap();
    // The record is lost in both copies, too: only then the manifest counts.
    for name in disk.files().into_keys().filter(|path| path.starts_with("swept")) {
        disk.remove(&name).unwrap();
    }
    for (name, bytes) in saved {
        let mut file = disk.create(&name).unwrap();
        file.append(&bytes).unwrap();
        file.sync().unwrap();
    }
    backup(&repository, &other(2)).unwrap();
    let report = prune(&repository, &last(3, 0, 2)).unwrap();
    assert_eq!((report.deleted_packs, report.removed()), (0, 0));
    whole(&opened(&disk), &[1, 2, 3], &other, "it is back");
}

#[test]
fn damage_in_what_must_be_known_ends_it_before_anything_goes() {
    let (disk, repository) = disk();
    for day in 0..3 {
        backup(&repository, &source(day)).unwrap();
    }
    let refused = |disk: &MemoryStorage, context: &str| {
        let before = disk.files();
        let error = prune(&opened(disk), &last(1, 0, 0)).expect_err(context);
        assert_eq!(error.exit_code(), 65, "{context}: {error}");
        let mut after = disk.files();
        // A backup's tidying up may have written an index run or copied a manifest.
        after.retain(|path, _| before.contains_key(path));
        assert!(
            after
                .keys()
                .filter(|path| !path.starts_with("index"))
                .eq(before.keys().filter(|path| !path.starts_with("index") && *path != "lease")),
            "{context}"
        );
    };
    let manifests: Vec<String> =
        disk.files().into_keys().filter(|path| path.contains("0000000001-")).collect();
    assert_eq!(manifests.len(), 2);
    let broken = disk.crash(1);
    for name in &manifests {
        broken.damage(name, |bytes| bytes[70] ^= 1);
    }
    refused(&broken, "a manifest that cannot be read in either copy");
}

#[test]
fn a_source_that_is_suddenly_empty_halts_it() {
    let (_, repository) = disk();
    backup(&repository, &source(3)).unwrap();
    backup(&repository, &source(4)).unwrap();
    let mut small = source(5);
    small.retain(|folder, _| folder == "user0");
    small.values_mut().for_each(|files| files.retain(|name, _| name == "0."));
    backup(&repository, &small).unwrap();
    let monitor = Collected::default();
    let report = repository.prune(&last(1, 0, 0), &monitor).unwrap();
    assert_eq!(report.removed(), 0);
    assert!(matches!(report.halts[..], [(_, Halt::Shrunk { .. })]), "{:?}", report.halts);
    assert!(monitor.problems().iter().any(|problem| problem.severity == Severity::Note));
    let options = PruneOptions { accept_shrunk: true, ..last(1, 0, 0) };
    assert_eq!(prune(&repository, &options).unwrap().removed(), 2);
}

/// The newest sweep record, as paths of its copies.
fn newest_record(disk: &MemoryStorage) -> [String; 2] {
    let names = disk.files().into_keys().filter_map(|path| Some(path.strip_prefix("swept/")?.to_owned()));
    let newest = names.max().unwrap();
    [format!("swept/{newest}"), format!("swept.2/{newest}")]
}

/// The version is in the clear, in the ninth byte.
fn set_version(version: u8) -> impl Fn(&mut Vec<u8>) {
    move |bytes| bytes[8] = version
}

#[test]
fn a_flipped_version_bit_in_a_sweep_record_is_damage_and_halts_nothing() {
    for damaged in [&[0][..], &[1], &[0, 1]] {
        let (disk, repository) = disk();
        (0..3).for_each(|day| drop(backup(&repository, &other(day)).unwrap()));
        prune(&repository, &last(2, 24, 0)).unwrap();
        backup(&repository, &other(3)).unwrap();
        prune(&repository, &last(2, 24, 1)).unwrap();
        let record = newest_record(&disk);
        for copy in damaged {
            // Not the same bit: that both copies have flipped alike is no accident.
            disk.damage(&record[*copy], set_version(if *copy == 0 { 3 } else { 5 }));
        }
        let context = format!("copies {damaged:?}");
        let monitor = Collected::default();
        opened(&disk).snapshots(&monitor).unwrap();
        for copy in damaged {
            let told: Vec<Severity> = monitor
                .problems()
                .into_iter()
                .filter(|problem| problem.path == record[*copy] && problem.what.contains("damaged"))
                .map(|problem| problem.severity)
                .collect();
            assert_eq!(told[..1], [Severity::Covered], "{context}: {:?}", monitor.problems());
        }
        backup(&opened(&disk), &other(4)).unwrap();
        let report =
            prune(&opened(&disk), &last(2, 24, 9)).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(report.removed(), 1, "{context}");
        if *damaged != [0, 1] {
            assert!(report.deleted_packs > 0, "{context}: {report:?}");
            whole(&opened(&disk), &[4, 5], &other, &context);
        }
    }
}

#[test]
fn a_sweep_record_of_a_later_version_halts_it() {
    for (there, named) in [(&[0][..], true), (&[1], true), (&[0, 1], true), (&[0, 1], false)] {
        let (disk, repository) = disk();
        (0..3).for_each(|day| drop(backup(&repository, &other(day)).unwrap()));
        prune(&repository, &last(2, 24, 0)).unwrap();
        let mut bytes = disk.files()[&newest_record(&disk)[0]].to_vec();
        set_version(2)(&mut bytes);
        let hash = if named { blake3::hash(&bytes).to_hex() } else { blake3::hash(b"in a new way").to_hex() };
        for copy in there {
            let path = format!("{}/0000000002-{}", ["swept", "swept.2"][*copy], &hash[..16]);
            let mut file = disk.create(&path).unwrap();
            file.append(&bytes).unwrap();
            file.sync().unwrap();
        }
        let before = packs(&disk);
        let context = format!("copies {there:?}, named after its bytes: {named}");
        let error = prune(&opened(&disk), &last(1, 0, 9)).expect_err(&context);
        assert_eq!(error.exit_code(), 65, "{context}");
        assert!(error.to_string().contains("newer version"), "{context}: {error}");
        assert!(packs(&disk) == before && snapshots(&opened(&disk)).0.len() == 2, "{context}");
    }
}

#[test]
fn only_one_writes_at_a_time() {
    let (_, repository) = disk();
    backup(&repository, &source(0)).unwrap();
    let writer = repository.writer(&options(), &LogMonitor).unwrap();
    let error = prune(&repository, &last(1, 0, 0)).unwrap_err();
    assert_eq!(error.exit_code(), 11);
    let rehearsal = PruneOptions { dry_run: true, ..last(1, 0, 0) };
    prune(&repository, &rehearsal).unwrap();
    drop(writer);
    prune(&repository, &last(1, 0, 0)).unwrap();
}

/// Fills the disk with days until one does not fit; gives how many did.
fn fill(disk: &MemoryStorage, repository: &Repository) -> u64 {
    for day in 0.. {
        match backup(repository, &other(day)) {
            Ok(_) => {}
            Err(RepositoryError::DiskFull { .. }) => return day,
            Err(error) => panic!("{error}: {:?} free", disk.free_space()),
        }
    }
    0
}

#[test]
fn on_a_full_disk_it_makes_room_and_the_next_backup_succeeds() {
    for capacity in (1_000_000..1_060_000).step_by(4_999) {
        let disk = MemoryStorage::new();
        disk.set_capacity(Some(capacity));
        let repository = init(&(Arc::new(disk.clone()) as Arc<dyn Storage>)).unwrap();
        assert!(disk.files().contains_key("reserve"), "it is made by init");
        let days = fill(&disk, &repository);
        assert!(days > 8, "{days} days fit");
        // Somebody else takes the last bytes.
        let used: u64 = disk.files().values().map(|bytes| bytes.len() as u64).sum();
        disk.set_capacity(Some(used));
        let context = format!("{capacity} bytes, {days} days");
        let report = prune(&repository, &last(3, 0, 0)).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(report.short && report.freed_bytes > 300_000, "{context}: {report:?}");
        let expected: Vec<u64> = (days - 2..=days).collect();
        whole(&repository, &expected, &other, &context);
        backup(&repository, &other(days)).unwrap_or_else(|error| panic!("{context}: {error}"));
        let expected: Vec<u64> = (days - 2..=days + 1).collect();
        whole(&repository, &expected, &other, &context);
        assert!(disk.files().contains_key("reserve"), "{context}: it is made again");
    }
}

#[test]
fn a_full_disk_with_a_grace_period_is_helped_when_it_is_over() {
    let disk = MemoryStorage::new();
    disk.set_capacity(Some(1_000_000));
    let repository = init(&(Arc::new(disk.clone()) as Arc<dyn Storage>)).unwrap();
    let days = fill(&disk, &repository);
    assert_eq!(prune(&repository, &last(2, 24, 0)).unwrap().freed_bytes, 0);
    // No snapshot can be sealed on it, so none is waited for.
    assert!(prune(&repository, &last(2, 24, 2)).unwrap().freed_bytes > 300_000);
    backup(&repository, &other(days)).unwrap();
}

#[test]
fn the_reserve_lets_a_seal_through_that_only_lacks_its_manifest() {
    let (mut helped, mut rounds) = (0, 0);
    for room in (0..60_000).step_by(1_499) {
        let disk = MemoryStorage::new();
        disk.set_capacity(Some(2_000_000));
        let repository = init(&(Arc::new(disk.clone()) as Arc<dyn Storage>)).unwrap();
        let used: u64 = disk.files().values().map(|bytes| bytes.len() as u64).sum();
        disk.set_capacity(Some(used + 60_000 + room));
        rounds += 1;
        if backup(&repository, &other(0)).is_ok() && !disk.files().contains_key("reserve") {
            helped += 1;
        }
    }
    assert!(helped > 0, "{helped} of {rounds}");
}

#[test]
fn chunks_are_found_again_whatever_was_deleted() {
    let (disk, repository) = disk();
    for day in 0..6 {
        backup(&repository, &source(day)).unwrap();
        prune(&repository, &last(2, 0, day as i64)).unwrap();
        let expected: Vec<u64> = (day.max(1)..=day + 1).collect();
        whole(&opened(&disk), &expected, &source, &format!("day {day}"));
    }
    // What was put before is known, but for what lies in packs that are to go.
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    let hash = |bytes: &[u8]| mailkeep_repository::format::ContentHash::of(bytes);
    for bytes in source(5).values().flat_map(|files| files.values()) {
        for piece in bytes.chunks(700) {
            assert!(writer.chunk_for(ChunkKind::Data, &hash(piece), piece.len() as u32).unwrap().is_some());
        }
    }
}
