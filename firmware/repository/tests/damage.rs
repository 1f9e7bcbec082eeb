//! Hazards 6, 15, 18: whatever file is flipped, zeroed, cut off, swapped or lost, no wrong byte comes back, and `verify`
//! says so.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::*;
use mailkeep_repository::format::{ChunkKind, ContentHash};
use mailkeep_repository::{
    Collected, LogMonitor, MemoryStorage, ReadData, Repository, RepositoryError, Severity, Storage,
    VerifyOptions, VerifyReport, verify,
};

const DAYS: u64 = 3;

fn filled() -> MemoryStorage {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = init(&storage).unwrap();
    for day in 0..DAYS {
        backup(&repository, &source(day)).unwrap();
    }
    disk
}

/// A copy of the disk as it is.
fn copy(disk: &MemoryStorage) -> (MemoryStorage, Arc<dyn Storage>) {
    let copy = disk.crash(1);
    (copy.clone(), Arc::new(copy))
}

fn look(repository: &Repository, read: ReadData) -> VerifyReport {
    verify(repository, VerifyOptions { read }, &LogMonitor).unwrap()
}

#[test]
fn a_sound_repository_has_no_problems_and_everything_is_counted() {
    let (_, storage) = copy(&filled());
    let repository = open(&storage, &LogMonitor).unwrap();
    let all = look(&repository, ReadData::All);
    assert_eq!(all.problems, []);
    assert_eq!((all.snapshots, all.packs), (DAYS, 3));
    assert!(all.chunks > 50 && all.blocks >= 6 && all.directories > 9 && all.bytes > 5000, "{all:?}");
    let mut sum = 0;
    for part in 1..=5 {
        sum += look(&repository, ReadData::Slice { part, of: 5 }).packs;
    }
    assert_eq!(sum, all.packs, "the slices cover everything once");
    let structure = look(&repository, ReadData::Structure);
    assert_eq!((structure.problems.len(), structure.chunks), (0, 0));
}

/// Restores every snapshot: each file is right or refused, never wrong. Gives how many were refused.
fn no_wrong_byte(repository: &Repository) -> usize {
    let (entries, _) = snapshots(repository);
    let mut refused = DAYS as usize - entries.len();
    for entry in entries {
        match restore(repository, &entry) {
            Ok(restored) => assert_eq!(restored, source(entry.manifest.generation - 1)),
            Err(_) => refused += 1,
        }
    }
    refused
}

fn each_damage(change: impl Fn(&mut Vec<u8>, usize)) {
    let disk = filled();
    for (path, bytes) in disk.files() {
        if ["lock", "lease", "README.txt", "FORMAT.md"].contains(&path.as_str()) {
            continue;
        }
        let steps = 7.min(bytes.len());
        for step in 0..steps {
            let at = step * bytes.len() / steps;
            let (damaged, storage) = copy(&disk);
            damaged.damage(&path, |bytes| change(bytes, at));
            if damaged.files().get(&path) == Some(&bytes) {
                continue;
            }
            let monitor = Collected::default();
            let repository = match open(&storage, &monitor) {
                Ok(repository) => repository,
                Err(error) => panic!("{path} at {at}: one copy must be enough: {error}"),
            };
            let refused = no_wrong_byte(&repository);
            let found = look(&repository, ReadData::All);
            assert!(found.damaged(), "{path} at {at} goes unnoticed");
            assert!(
                refused == 0 || found.lost(),
                "{path} at {at}: {refused} snapshots refused, none told as lost"
            );
            if !path.starts_with("packs/") {
                assert_eq!(refused, 0, "{path} at {at}: a copy or a rebuild must stand in");
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_any_file_is_found_and_never_restored() {
    each_damage(|bytes, at| bytes[at] ^= 0x10);
}

#[test]
fn a_file_cut_off_anywhere_is_found_and_never_restored() {
    each_damage(|bytes, at| bytes.truncate(at));
}

#[test]
fn zeroed_sectors_in_any_file_are_found_and_never_restored() {
    each_damage(|bytes, at| {
        let end = (at + 512).min(bytes.len());
        bytes[at..end].fill(0);
    });
}

#[test]
fn files_that_took_each_others_place_are_found_and_never_restored() {
    let disk = filled();
    for folder in ["packs/", "manifests/", "index/", "keys/"] {
        let files: Vec<_> = disk.files().into_iter().filter(|(path, _)| path.starts_with(folder)).collect();
        let [(one, first), (two, second), ..] = files.as_slice() else { continue };
        let (damaged, storage) = copy(&disk);
        damaged.damage(one, |bytes| bytes.clone_from(second));
        damaged.damage(two, |bytes| bytes.clone_from(first));
        let repository = open(&storage, &LogMonitor).unwrap();
        no_wrong_byte(&repository);
        assert!(look(&repository, ReadData::All).damaged(), "{folder}");
    }
}

#[test]
fn without_any_index_everything_is_readable_and_the_next_backup_brings_it_back() {
    let disk = filled();
    let (bare, storage) = copy(&disk);
    for path in disk.files().keys().filter(|path| path.starts_with("index/")) {
        bare.remove(path).unwrap();
    }
    let repository = open(&storage, &LogMonitor).unwrap();
    assert_eq!(no_wrong_byte(&repository), 0);
    let sealed = backup(&repository, &source(DAYS - 1)).unwrap();
    assert_eq!(sealed.manifest.stats.added_bytes, 0, "known again from the packs, not stored again");
    assert!(bare.files().keys().any(|path| path.starts_with("index/")));
}

#[test]
fn a_lost_pack_is_not_believed_in_and_its_chunks_are_stored_again() {
    let disk = filled();
    for path in disk.files().keys().filter(|path| path.starts_with("packs/")) {
        let (damaged, storage) = copy(&disk);
        damaged.remove(path).unwrap();
        let repository = open(&storage, &LogMonitor).unwrap();
        let found = look(&repository, ReadData::Structure);
        assert!(found.lost());
        let named = |problem: &mailkeep_repository::Problem| problem.path.contains(":/");
        assert!(found.problems.iter().any(named), "the files that are hit are named: {:?}", found.problems);
        // The source still has it all: the next backup makes a whole snapshot, and mends the older ones on the way.
        backup(&repository, &source(DAYS - 1)).unwrap();
        let (entries, _) = snapshots(&repository);
        assert!(restore(&repository, entries.last().unwrap()).unwrap() == source(DAYS - 1));
        assert_eq!(look(&repository, ReadData::Structure).snapshots, DAYS + 1);
    }
}

#[test]
fn a_pack_that_was_cut_off_is_not_relied_on_for_new_snapshots() {
    let disk = filled();
    for path in disk.files().keys().filter(|path| path.starts_with("packs/")) {
        let (damaged, storage) = copy(&disk);
        damaged.damage(path, |bytes| bytes.truncate(bytes.len() / 2));
        let repository = open(&storage, &LogMonitor).unwrap();
        backup(&repository, &source(DAYS - 1)).unwrap();
        let (entries, _) = snapshots(&repository);
        assert!(restore(&repository, entries.last().unwrap()).unwrap() == source(DAYS - 1));
    }
}

#[test]
fn a_snapshot_that_vanished_in_both_copies_is_missed() {
    let disk = filled();
    let (damaged, storage) = copy(&disk);
    for path in disk.files().keys().filter(|path| path.contains("/0000000002-")) {
        damaged.remove(path).unwrap();
    }
    let repository = open(&storage, &LogMonitor).unwrap();
    assert!(look(&repository, ReadData::Structure).lost());
    assert_eq!(backup(&repository, &source(0)).unwrap().manifest.generation, DAYS + 1);
}

#[test]
fn missing_copies_are_told_and_brought_back() {
    let disk = filled();
    for path in disk.files().keys().filter(|path| !path.starts_with("packs/") && !path.starts_with("index/"))
    {
        if ["lock", "lease", "README.txt", "FORMAT.md"].contains(&path.as_str()) {
            continue;
        }
        let (damaged, storage) = copy(&disk);
        damaged.remove(path).unwrap();
        let repository = open(&storage, &LogMonitor).unwrap();
        assert_eq!(no_wrong_byte(&repository), 0, "{path}");
        backup(&repository, &source(0)).unwrap();
        assert_eq!(damaged.files().get(path), disk.files().get(path), "{path} is back");
        assert_eq!(look(&repository, ReadData::All).problems, []);
    }
}

#[test]
fn strangers_files_are_left_alone_and_are_no_damage() {
    let (disk, storage) = copy(&filled());
    let add = |path: &str| disk.create(path).unwrap().append(b"hello").unwrap();
    ["packs/readme", "index/.DS_Store", "manifests/notes.txt", "holiday.jpg"].into_iter().for_each(add);
    let repository = open(&storage, &LogMonitor).unwrap();
    let found = look(&repository, ReadData::All);
    assert!(found.problems.len() >= 3 && !found.damaged(), "{:?}", found.problems);
    assert!(found.problems.iter().all(|problem| problem.severity == Severity::Note));
    backup(&repository, &source(0)).unwrap();
    assert_eq!(disk.files().get("packs/readme").map(Vec::as_slice), Some(&b"hello"[..]));
}

#[test]
fn a_pack_under_a_wrong_name_is_told_though_every_block_of_it_opens() {
    let (disk, storage) = copy(&filled());
    let (path, bytes) = disk.files().into_iter().find(|(path, _)| path.starts_with("packs/")).unwrap();
    let last = if path.ends_with('0') { "1" } else { "0" };
    let wrong = format!("{}{last}", &path[..path.len() - 1]);
    disk.create(&wrong).unwrap().append(&bytes).unwrap();
    let found = look(&open(&storage, &LogMonitor).unwrap(), ReadData::All);
    let mut told = found.problems.iter().map(|problem| format!("{problem:?}"));
    assert!(
        told.any(|told| told.contains(&wrong) && told.contains("not what its name says")),
        "{:?}",
        found.problems
    );
}

#[test]
fn bytes_that_were_stored_under_a_wrong_name_are_refused() {
    // As a bit that flips in the memory of the box between hashing and packing would do (hazard 17).
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = init(&storage).unwrap();
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    let hash = ContentHash::of(b"what the mail said");
    let chunk = writer.put_hashed(ChunkKind::Data, &hash, b"what the mail sajd").unwrap();
    writer.flush().unwrap();
    let error = writer.reader().chunk(ChunkKind::Data, &chunk).unwrap_err();
    assert!(matches!(error, RepositoryError::DamagedChunk { .. }), "{error}");
    drop(writer);
    assert!(look(&repository, ReadData::All).lost());
}

#[test]
fn a_label_that_was_forged_in_both_copies_is_refused() {
    let disk = filled();
    let (forged, storage) = copy(&disk);
    for path in ["label", "label.2"] {
        forged.damage(path, |bytes| {
            let at = bytes.windows(6).position(|text| text == b"Monday").unwrap();
            bytes[at..at + 6].copy_from_slice(b"Sunday");
        });
    }
    assert_eq!(Repository::peek(&*storage).unwrap().label, "Sunday", "readable, but nobody vouches for it");
    let error = open(&storage, &LogMonitor).unwrap_err();
    assert_eq!(error.exit_code(), 65, "{error}");
}

#[test]
fn manifests_that_swapped_names_do_not_change_the_order_of_snapshots() {
    let disk = filled();
    let (swapped, storage) = copy(&disk);
    let files: Vec<_> = disk.files().into_iter().filter(|(path, _)| path.starts_with("manifests/")).collect();
    let [(oldest, first), .., (newest, last)] = files.as_slice() else { panic!("three manifests") };
    swapped.damage(oldest, |bytes| bytes.clone_from(last));
    swapped.damage(newest, |bytes| bytes.clone_from(first));
    let repository = open(&storage, &LogMonitor).unwrap();
    let (entries, monitor) = snapshots(&repository);
    let generations: Vec<u64> = entries.iter().map(|entry| entry.manifest.generation).collect();
    assert_eq!(generations, (1..=DAYS).collect::<Vec<_>>());
    let told: Vec<_> =
        monitor.problems().into_iter().map(|problem| (problem.path, problem.severity)).collect();
    assert_eq!(told, [(oldest.clone(), Severity::Covered), (newest.clone(), Severity::Covered)]);
}

/// A way to damage a disk: what it is, which files it hits, and the change of their bytes, in order.
struct Damage {
    what: String,
    hits: Vec<(String, Vec<u8>)>,
}

/// Hazard figures: at least 10,000 damaged disks. Bits, sectors, pages, ends, extensions, and files in the place of others,
/// in every kind of file.
fn matrix(files: &[(String, Vec<u8>)]) -> Vec<Damage> {
    let (mut all, mut swaps) = (Vec::new(), Vec::new());
    for (number, (path, bytes)) in files.iter().enumerate() {
        let mut add = |what: String, change: &dyn Fn(&mut Vec<u8>)| {
            let mut other = bytes.clone();
            change(&mut other);
            if other != *bytes {
                all.push(Damage { what: format!("{path} {what}"), hits: vec![(path.clone(), other)] });
            }
        };
        let places = |count: usize| {
            let count = count.min(bytes.len());
            (0..count).map(move |step| step * bytes.len() / count)
        };
        for at in places(460) {
            add(format!("with a bit flipped at {at}"), &|other| other[at] ^= 1 << ((at + number) % 8));
        }
        for at in places(120) {
            add(format!("cut off at {at}"), &|other| other.truncate(at));
        }
        for size in [512, 4096] {
            for at in places(30) {
                let end = (at + size).min(bytes.len());
                add(format!("with zeros from {at} to {end}"), &|other| other[at..end].fill(0));
            }
        }
        for size in [1, 16, 512, 4096] {
            add(format!("with {size} zeros added"), &|other| other.extend(vec![0; size]));
            add(format!("with {size} bytes added"), &|other| other.extend(noise(7, size)));
        }
        for (from, (theirs, instead)) in files.iter().enumerate().filter(|(_, (_, instead))| instead != bytes)
        {
            add(format!("replaced by {theirs}"), &|other| other.clone_from(instead));
            if from > number {
                let hits = vec![(path.clone(), instead.clone()), (theirs.clone(), bytes.clone())];
                swaps.push(Damage { what: format!("{path} and {theirs} swapped"), hits });
            }
        }
    }
    all.append(&mut swaps);
    all
}

#[test]
fn the_damage_matrix() {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = init(&storage).unwrap();
    for day in 0..DAYS {
        backup(&repository, &little(day)).unwrap();
    }
    let content = |path: &str| !["lock", "lease", "README.txt", "FORMAT.md"].contains(&path);
    let files: Vec<_> = disk.files().into_iter().filter(|(path, _)| content(path)).collect();
    let all = matrix(&files);
    assert!(all.len() >= 10_000, "{} cases", all.len());
    let lost: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = all
            .chunks(all.len().div_ceil(2))
            .map(|part| {
                let disk = &disk;
                scope.spawn(move || part.iter().filter(|damage| one_damage(disk, damage)).count())
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    eprintln!("{} damaged disks, {lost} with something lost", all.len());
    assert!(lost > 1000, "{lost}");
}

/// Right bytes or none, and verification says so. Gives whether something was lost.
fn one_damage(disk: &MemoryStorage, damage: &Damage) -> bool {
    let what = &damage.what;
    let (damaged, storage) = copy(disk);
    for (path, bytes) in &damage.hits {
        damaged.damage(path, |other| other.clone_from(bytes));
    }
    let repository = open(&storage, &LogMonitor)
        .unwrap_or_else(|error| panic!("{what}: one copy must be enough: {error}"));
    let (entries, _) = snapshots(&repository);
    let mut refused = DAYS as usize - entries.len();
    let reader = repository.reader(&LogMonitor).unwrap_or_else(|error| panic!("{what}: {error}"));
    for entry in entries {
        match restore_with(&reader, &entry) {
            Ok(restored) => assert!(restored == little(entry.manifest.generation - 1), "{what}: wrong bytes"),
            Err(_) => refused += 1,
        }
    }
    let found = look(&repository, ReadData::All);
    assert!(found.damaged(), "{what}: goes unnoticed");
    assert!(refused == 0 || found.lost(), "{what}: {refused} snapshots refused, none told as lost");
    let packs = damage.hits.iter().any(|(path, _)| path.starts_with("packs/"));
    assert!(packs || refused == 0, "{what}: a copy or a rebuild must stand in");
    refused > 0
}
