//! Hazards 15, 18, 19: whatever is damaged, repair brings back what can be brought back, deletes nothing, restores no
//! wrong byte, and may be cut off or fail at any call without harm.
//!
//! `MAILKEEP_CRASH_SEEDS` sets how many states are looked at for each moment (default 3).
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::faulty::Faulty;
use common::*;
use mailkeep_repository::{
    KeySource, LogMonitor, MemoryStorage, ReadData, RepairOptions, RepairReport, Repository, RepositoryError,
    Severity, Storage, VerifyOptions, VerifyReport, verify,
};

const DAYS: u64 = 3;

fn seeds() -> u64 {
    std::env::var("MAILKEEP_CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

fn filled() -> MemoryStorage {
    let disk = MemoryStorage::new();
    let repository = init(&sharing(&disk)).unwrap();
    for day in 0..DAYS {
        backup(&repository, &source(day)).unwrap();
    }
    disk
}

fn sharing(disk: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

fn repair_over(storage: &Arc<dyn Storage>, dry_run: bool) -> Result<RepairReport, RepositoryError> {
    let repository = open(storage, &LogMonitor)?;
    let key = KeySource::Identity(box_key());
    let options = RepairOptions { dry_run, key, writer: options() };
    repository.repair(&options, &mut |_| {}, &LogMonitor)
}

fn repair(disk: &MemoryStorage) -> RepairReport {
    repair_over(&sharing(disk), false).unwrap()
}

fn look(disk: &MemoryStorage) -> VerifyReport {
    let repository = open(&sharing(disk), &LogMonitor).unwrap();
    verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap()
}

/// Every file of every snapshot that can be read: generation, path, contents. A wrong byte is a panic.
fn readable(disk: &MemoryStorage) -> BTreeMap<(u64, String, String), Vec<u8>> {
    let repository = open(&sharing(disk), &LogMonitor).unwrap();
    let reader = repository.reader(&LogMonitor).unwrap();
    let mut found = BTreeMap::new();
    for entry in snapshots(&repository).0 {
        let generation = entry.manifest.generation;
        let expected = source(generation - 1);
        for folder in reader.tree(&entry.manifest.root).unwrap_or_default() {
            let name = String::from_utf8(folder.name.clone()).unwrap();
            for file in reader.tree(folder.content()).unwrap_or_default() {
                let file_name = String::from_utf8(file.name.clone()).unwrap();
                let mut bytes = Vec::new();
                let read = reader.read_file::<RepositoryError>(file.content(), |piece| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                });
                if read.is_ok() {
                    assert!(
                        bytes == expected[&name][&file_name],
                        "{generation}: {name}/{file_name} is wrong"
                    );
                    found.insert((generation, name.clone(), file_name), bytes);
                }
            }
        }
    }
    found
}

fn all_files() -> usize {
    (0..DAYS).map(|day| source(day).values().map(BTreeMap::len).sum::<usize>()).sum()
}

/// No byte that was on the disk before is gone: every file lies where it lay, or in quarantine, or is of a kind that is
/// made anew (index, records), and what lies in quarantine has the bytes it had.
fn nothing_was_deleted(before: &MemoryStorage, after: &MemoryStorage, context: &str) {
    let after = after.files();
    for (path, bytes) in before.files() {
        let made_anew = ["index/", "verified/", "tmp/", "lock", "lease"];
        if made_anew.iter().any(|start| path.starts_with(start)) {
            continue;
        }
        let kept = after.iter().any(|(there, has)| {
            *has == bytes && (*there == path || there.starts_with(&format!("quarantine/{path}")))
        });
        assert!(kept, "{context}: {path} is neither where it was nor in quarantine");
    }
}

/// After a repair: sound but for what it says is lost, nothing deleted, readable is what was readable, and the next
/// backup is whole.
fn repaired_well(before: &MemoryStorage, disk: &MemoryStorage, report: &RepairReport, context: &str) {
    nothing_was_deleted(before, disk, context);
    let (was, is) = (readable(before), readable(disk));
    for path in was.keys() {
        assert!(is.contains_key(path), "{context}: {path:?} was readable before the repair");
    }
    let found = look(disk);
    if report.lost() {
        assert!(found.lost(), "{context}: what is lost stays told");
        let told = |problem: &mailkeep_repository::Problem| {
            problem.severity == Severity::Lost && !problem.path.starts_with("packs/")
        };
        assert!(
            found.problems.iter().all(told),
            "{context}: only by snapshot and path: {:?}",
            found.problems
        );
    } else {
        assert_eq!(is.len(), all_files(), "{context}: everything is readable");
        if report.undone.is_empty() {
            assert!(!found.damaged(), "{context}: {:?}", found.problems);
        }
    }
    let again = repair(disk);
    assert!(again.plan.to_quarantine().is_empty() && again.restored.is_empty(), "{context}: {again:?}");
    assert_eq!(again.lost(), report.lost(), "{context}");
    // The source still has everything: the next backup heals what it meets again.
    let repository = open(&sharing(disk), &LogMonitor).unwrap();
    let next = backup(&repository, &source(DAYS - 1)).unwrap();
    assert!(next.manifest.generation > DAYS, "{context}: no generation is given out twice");
    let entries = snapshots(&repository).0;
    assert!(restore(&repository, entries.last().unwrap()).unwrap() == source(DAYS - 1), "{context}");
}

/// Each change at several places of each file.
fn each_damage(steps: usize, change: impl Fn(&mut Vec<u8>, usize)) {
    let start = filled();
    let (mut lost, mut whole, mut undecided) = (0, 0, 0);
    for (path, bytes) in start.files() {
        if ["lock", "lease", "README.txt", "FORMAT.md"].contains(&path.as_str()) {
            continue;
        }
        let steps = steps.min(bytes.len());
        for step in 0..steps {
            let at = step * bytes.len() / steps;
            let before = start.crash(1);
            before.damage(&path, |bytes| change(bytes, at));
            if before.files().get(&path) == Some(&bytes) {
                continue;
            }
            let disk = before.crash(1);
            let report = repair(&disk);
            let context = format!("{path} at {at}");
            let found = report.plan.to_quarantine().contains(&path)
                || path.starts_with("index/")
                || !report.undone.is_empty();
            assert!(found, "{context}: the damage is not in the plan: {:?}", report.plan);
            if !path.starts_with("packs/") {
                assert!(!report.lost(), "{context}: a copy or a rebuild stands in");
            }
            if report.undone.is_empty() && !path.starts_with("packs/") && !path.starts_with("index/") {
                assert_eq!(disk.files().get(&path), Some(&bytes), "{context}: back as it was");
            }
            repaired_well(&before, &disk, &report, &context);
            lost += usize::from(report.lost());
            whole += usize::from(!report.lost());
            undecided += usize::from(!report.undone.is_empty());
        }
    }
    eprintln!(
        "{whole} made whole ({undecided} with a key file that only its own key can judge), {lost} with losses"
    );
    assert!(whole > 20 && lost > 0);
}

#[test]
fn a_flipped_bit_in_any_file_is_repaired() {
    each_damage(5, |bytes, at| bytes[at] ^= 0x10);
}

#[test]
fn a_file_cut_off_anywhere_is_repaired() {
    each_damage(4, |bytes, at| bytes.truncate(at));
}

#[test]
fn zeroed_sectors_in_any_file_are_repaired() {
    each_damage(4, |bytes, at| {
        let end = (at + 512).min(bytes.len());
        bytes[at..end].fill(0);
    });
}

#[test]
fn any_file_that_is_gone_is_repaired_as_far_as_it_can_be() {
    let start = filled();
    for path in start.files().into_keys() {
        if ["lock", "lease", "README.txt", "FORMAT.md"].contains(&path.as_str()) {
            continue;
        }
        let before = start.crash(1);
        before.remove(&path).unwrap();
        let disk = before.crash(1);
        let report = repair(&disk);
        assert_eq!(report.lost(), path.starts_with("packs/"), "{path}");
        repaired_well(&before, &disk, &report, &path);
    }
}

#[test]
fn files_that_took_each_others_place_are_repaired() {
    let start = filled();
    for folder in ["packs/", "manifests/", "manifests.2/", "index/", "keys/"] {
        let files: Vec<_> = start.files().into_iter().filter(|(path, _)| path.starts_with(folder)).collect();
        let [(one, first), (two, second), ..] = files.as_slice() else { continue };
        let before = start.crash(1);
        before.damage(one, |bytes| bytes.clone_from(second));
        before.damage(two, |bytes| bytes.clone_from(first));
        let disk = before.crash(1);
        let report = repair(&disk);
        repaired_well(&before, &disk, &report, folder);
    }
}

#[test]
fn a_plan_writes_nothing_and_says_what_the_repair_then_does() {
    let disk = filled();
    for path in
        disk.files().keys().filter(|path| path.starts_with("packs/") || path.starts_with("manifests/"))
    {
        disk.damage(path, |bytes| bytes[60] ^= 1);
    }
    disk.damage("label", |bytes| bytes.truncate(9));
    let before = disk.files();
    let planned = repair_over(&sharing(&disk), true).unwrap();
    assert!(before == disk.files(), "a dry run takes no lock and leaves no trace");
    assert!(!planned.done && planned.lost());
    let report = repair(&disk);
    assert_eq!(report.plan, planned.plan);
    assert!(report.done && report.restored.contains(&"label".to_owned()));
    let moved: Vec<String> = planned.plan.to_quarantine();
    assert_eq!(moved.len(), report.quarantined.len());
    for path in moved {
        assert!(disk.files().contains_key(&format!("quarantine/{path}")), "{path}");
    }
}

#[test]
fn a_sound_repository_is_left_as_it_is() {
    let disk = filled();
    let before = disk.files();
    let report = repair(&disk);
    assert!(report.plan.is_empty() && report.done && !report.lost() && !report.partly());
    let mut after = disk.files();
    after.remove("lock");
    let mut before = before;
    before.remove("lock");
    assert!(before == after);
}

#[test]
fn what_is_lost_is_named_by_snapshot_and_path_and_the_rest_is_restored() {
    let start = filled();
    let packs: Vec<String> = start.files().into_keys().filter(|path| path.starts_with("packs/")).collect();
    for pack in packs {
        let disk = start.crash(1);
        // The first block is that of file contents.
        disk.damage(&pack, |bytes| bytes[100] ^= 1);
        let report = repair(&disk);
        assert!(report.lost());
        let readable = readable(&disk);
        let repository = open(&sharing(&disk), &LogMonitor).unwrap();
        let entries = snapshots(&repository).0;
        assert_eq!(entries.len() as u64, DAYS, "they stay listed");
        let named = report.plan.lost.iter().filter(|problem| problem.path.contains(":/")).count();
        assert_eq!(named, all_files() - readable.len(), "{:?}", report.plan.lost);
        let record = repository.verification(&LogMonitor).unwrap().unwrap();
        assert_eq!(record.lost.to_vec(), report.plan.lost_snapshots.iter().copied().collect::<Vec<_>>());
        assert!(record.damaged.is_empty(), "nothing damaged is left in its place");
        for entry in &entries {
            let misses =
                (readable.keys().filter(|(generation, ..)| *generation == entry.manifest.generation).count())
                    < source(entry.manifest.generation - 1).values().map(BTreeMap::len).sum();
            assert_eq!(record.lost.contains(&entry.id), misses, "generation {}", entry.manifest.generation);
        }
    }
}

#[test]
fn chunks_that_lie_elsewhere_are_not_lost() {
    // A pack is lost, the next backup stores its chunks again, the pack comes back damaged: hazard 10's duplicates.
    let start = filled();
    let pack = start.files().into_keys().find(|path| path.starts_with("packs/")).unwrap();
    let bytes = start.files()[&pack].clone();
    let disk = start.crash(1);
    disk.remove(&pack).unwrap();
    for day in 0..DAYS {
        backup(&open(&sharing(&disk), &LogMonitor).unwrap(), &source(day)).unwrap();
    }
    disk.create(&pack).unwrap().append(&bytes).unwrap();
    disk.damage(&pack, |bytes| bytes[100] ^= 1);
    let report = repair(&disk);
    assert!(!report.lost(), "{:?}", report.plan.lost);
    assert!(report.quarantined.contains(&format!("quarantine/{pack}")));
    assert!(!look(&disk).damaged());
}

#[test]
fn no_new_snapshot_relies_on_a_pack_that_is_known_to_be_damaged() {
    let start = filled();
    for pack in start.files().into_keys().filter(|path| path.starts_with("packs/")) {
        let disk = start.crash(1);
        disk.damage(&pack, |bytes| bytes[100] ^= 1);
        // Only the knowledge, as a repair leaves it that is cut off after its first step.
        let mut at = 1;
        loop {
            let faulty = Faulty::power_cut(&disk, at);
            let cut = repair_over(&(Arc::new(faulty.clone()) as Arc<dyn Storage>), false);
            let repository = open(&sharing(&disk), &LogMonitor).unwrap();
            let known = repository.verification(&LogMonitor).unwrap();
            if known.is_some_and(|record| !record.damaged.is_empty()) {
                assert!(cut.is_err());
                break;
            }
            at += 1;
        }
        let repository = open(&sharing(&disk), &LogMonitor).unwrap();
        backup(&repository, &source(DAYS - 1)).unwrap();
        let entries = snapshots(&repository).0;
        assert!(restore(&repository, entries.last().unwrap()).unwrap() == source(DAYS - 1), "{pack}");
    }
}

/// A disk with damage of every kind at once.
fn wrecked() -> MemoryStorage {
    let disk = filled();
    let files: Vec<String> = disk.files().into_keys().collect();
    let of = |folder: &str| files.iter().filter(|path| path.starts_with(folder)).cloned().collect::<Vec<_>>();
    disk.damage(&of("packs/")[0], |bytes| bytes[100] ^= 1);
    disk.damage(&of("packs/")[1], |bytes| {
        let end = bytes.len() - 30;
        bytes[end] ^= 1;
    });
    disk.damage(&of("index/")[0], |bytes| bytes[5000] ^= 1);
    disk.damage(&of("manifests/")[1], |bytes| bytes.truncate(30));
    disk.remove(&of("manifests.2/")[0]).unwrap();
    disk.damage("label.2", |bytes| bytes[20] ^= 1);
    disk.damage(of("keys/").iter().find(|path| path.contains("box")).unwrap(), |bytes| bytes[200] ^= 1);
    disk
}

#[test]
fn a_repair_cut_at_every_call_leaves_nothing_worse() {
    let start = wrecked();
    let before = readable(&start);
    let (mut states, mut cut) = (0, 1);
    loop {
        let disk = start.crash(1);
        let faulty = Faulty::power_cut(&disk, cut);
        let done = repair_over(&(Arc::new(faulty.clone()) as Arc<dyn Storage>), false);
        for seed in 0..seeds() {
            let context = format!("repair cut at call {cut}, seed {seed}");
            let after = disk.crash(seed);
            let now = readable(&after);
            for path in before.keys() {
                assert!(now.contains_key(path), "{context}: {path:?} cannot be read any more");
            }
            if done.is_ok() {
                nothing_was_deleted(&start, &after, &context);
            }
            states += 1;
            if seed != 2 {
                continue;
            }
            let report = repair(&after);
            assert!(report.done && readable(&after).len() >= before.len(), "{context}");
            let repository = open(&sharing(&after), &LogMonitor).unwrap();
            backup(&repository, &source(DAYS - 1)).unwrap();
            let entries = snapshots(&repository).0;
            assert!(restore(&repository, entries.last().unwrap()).unwrap() == source(DAYS - 1), "{context}");
        }
        if !faulty.happened() {
            assert!(done.unwrap().done);
            break;
        }
        cut += 1;
    }
    eprintln!("{states} states, {cut} moments");
    assert!(cut > 60, "a repair has many calls, {cut} were seen");
}

#[test]
fn a_repair_in_which_any_call_fails_leaves_nothing_worse() {
    let start = wrecked();
    let before = readable(&start);
    let mut calls = 0;
    for (errno, for_ever) in [(5, false), (28, true), (30, true), (19, false)] {
        let mut at = 1;
        loop {
            let disk = start.crash(1);
            let faulty = Faulty::new(&disk, at, for_ever, errno);
            let done = repair_over(&(Arc::new(faulty.clone()) as Arc<dyn Storage>), false);
            let context =
                format!("call {at}, errno {errno}, for ever: {for_ever}: {:?}", done.as_ref().err());
            nothing_was_deleted(&start, &disk, &context);
            let now = readable(&disk);
            for path in before.keys() {
                assert!(now.contains_key(path), "{context}: {path:?} cannot be read any more");
            }
            calls += 1;
            if !faulty.happened() {
                break;
            }
            // A big step through the reading, which is most of it, when it has been gone through once.
            at += if errno == 5 { 1 } else { 3 };
        }
    }
    eprintln!("{calls} failed calls");
    assert!(calls > 300);
}

#[test]
fn a_pack_that_the_disk_does_not_give_stays_in_its_place() {
    let disk = filled();
    let before = disk.files();
    let pack = before.keys().find(|path| path.starts_with("packs/")).unwrap();
    let report =
        repair_over(&(Arc::new(Faulty::unreadable(&disk, pack)) as Arc<dyn Storage>), false).unwrap();
    assert!(report.partly() && report.undone.iter().any(|problem| problem.path == *pack), "{report:?}");
    assert!(report.quarantined.is_empty());
    // With another cable it is all there again, and nothing was lost.
    assert_eq!(disk.files().get(pack), before.get(pack));
    assert_eq!(readable(&disk).len(), all_files());
    let again = repair(&disk);
    assert!(!again.lost() && !again.partly() && !look(&disk).damaged(), "{again:?}");
}

#[test]
fn on_a_disk_that_cannot_be_written_nothing_changes_and_one_line_says_so() {
    let disk = wrecked();
    let before = disk.files();
    let faulty = Faulty::read_only(&disk);
    let storage: Arc<dyn Storage> = Arc::new(faulty);
    for error in [
        repair_over(&storage, false).unwrap_err(),
        open(&storage, &LogMonitor).unwrap().reindex(&options().machine, &LogMonitor).unwrap_err(),
    ] {
        assert!(matches!(error, RepositoryError::ReadOnly { .. }), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
    let planned = repair_over(&storage, true).unwrap();
    assert!(planned.lost() && !planned.plan.is_empty(), "a plan can be made all the same");
    assert!(before == disk.files());
}

#[test]
fn a_manifest_damaged_in_both_copies_keeps_its_generation_for_ever() {
    let disk = filled();
    for path in disk.files().keys().filter(|path| path.contains(&format!("/{DAYS:010}-"))) {
        disk.damage(path, |bytes| bytes[80] ^= 1);
    }
    let report = repair(&disk);
    assert!(report.lost() && report.quarantined.len() == 2, "{report:?}");
    let repository = open(&sharing(&disk), &LogMonitor).unwrap();
    assert_eq!(snapshots(&repository).0.len() as u64, DAYS - 1);
    assert_eq!(backup(&repository, &source(0)).unwrap().manifest.generation, DAYS + 1);
}

#[test]
fn a_key_file_that_only_its_own_key_can_judge_is_left_and_told() {
    let disk = MemoryStorage::new();
    let encryption = mailkeep_repository::Encryption::Wrapped { box_key: box_key() };
    let made = Repository::init(
        sharing(&disk),
        &mailkeep_repository::InitOptions { label: "Monday".into(), encryption },
    )
    .unwrap();
    backup(&made.repository, &source(0)).unwrap();
    let recovery = disk.files().into_keys().find(|path| path.starts_with("keys/recovery")).unwrap();
    let good = disk.files()[&recovery].clone();
    disk.damage(&recovery, |bytes| {
        let end = bytes.len() - 3;
        bytes[end] ^= 1;
    });
    let report = repair(&disk);
    assert!(report.partly() && !report.lost(), "{report:?}");
    assert_eq!(report.undone[0].path, recovery);
    assert!(!disk.files().keys().any(|path| path.starts_with("quarantine/")));
    // With the key that it is for, it is repaired.
    let key = KeySource::Identity(made.recovery.unwrap());
    let repository = Repository::open(sharing(&disk), &key, &LogMonitor).unwrap();
    let options = RepairOptions { dry_run: false, key, writer: options() };
    let report = repository.repair(&options, &mut |_| {}, &LogMonitor).unwrap();
    assert!(!report.partly() && disk.files()[&recovery] == good);
}
