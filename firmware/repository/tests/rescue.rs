//! The rescue kit: what a disk carries so that it can be read is written whole or not at all, is told when it rots, and is
//! nothing that the repository depends on.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::faulty::Faulty;
use common::*;
use mailkeep_repository::retention::Keep;
use mailkeep_repository::{
    Collected, KeySource, Kit, LogMonitor, Machine, MemoryStorage, PruneOptions, ReadData, RepairOptions,
    Repository, RepositoryError, RescueProgram, Severity, Storage, VerifyOptions, kit, verify, write_kit,
};

const SUMS: &str = "rescue/SHA256SUMS";

/// What passes for a static program of this machine, as ELF numbers them.
fn program(machine: u16, version: u64, length: usize) -> RescueProgram {
    let mut bytes = vec![0; 120];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16] = 2;
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = 1;
    bytes[64] = 1;
    bytes.extend(noise(version, length));
    RescueProgram::new(bytes).unwrap()
}

const PC: u16 = 62;
const ARM: u16 = 183;

fn disk() -> (MemoryStorage, Arc<dyn Storage>, Repository) {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = init(&storage).unwrap();
    (disk, storage, repository)
}

fn write(repository: &Repository, programs: &[RescueProgram]) -> Result<Option<Kit>, RepositoryError> {
    write_kit(repository, programs, &Machine::this(), &LogMonitor)
}

fn paths(kit: &Kit) -> Vec<&str> {
    kit.files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn programs_are_renewed_and_those_for_other_machines_stay() {
    let (disk, _, repository) = disk();
    let none = write(&repository, &[]).unwrap().unwrap();
    assert_eq!((none.files.len(), none.written), (0, 0), "init has written the texts already");
    assert!(!disk.files().contains_key(SUMS));
    let both = write(&repository, &[program(PC, 1, 9000), program(ARM, 1, 9000)]).unwrap().unwrap();
    assert_eq!(paths(&both), ["rescue/mailkeep-aarch64", "rescue/mailkeep-x86_64"]);
    assert!(both.files.iter().all(|file| file.whole && file.length == 9120) && both.written == 2);
    let files = disk.files();
    let again = write(&repository, &[program(PC, 1, 9000)]).unwrap().unwrap();
    assert_eq!(again.written, 0);
    assert_eq!(disk.files(), files, "what is there already is left");
    let newer = program(PC, 2, 5000);
    let renewed = write(&repository, std::slice::from_ref(&newer)).unwrap().unwrap();
    assert_eq!((renewed.written, renewed.files.len()), (1, 2));
    assert_eq!(renewed.files[1].sum, newer.sum());
    let sums = String::from_utf8(disk.files()[SUMS].clone()).unwrap();
    assert_eq!(sums.lines().count(), 2);
    assert!(sums.contains(&format!("{}  mailkeep-x86_64\n", newer.sum())));
    assert!(disk.files().keys().all(|path| !path.starts_with("tmp/")));
    // A text that a newer version says otherwise, or that somebody wrote over.
    disk.damage("README.txt", |bytes| bytes.truncate(7));
    assert_eq!(write(&repository, &[]).unwrap().unwrap().written, 1);
    assert_eq!(disk.files()["README.txt"], files["README.txt"]);
}

#[test]
fn a_program_that_rots_is_told_and_is_no_damage() {
    let (disk, storage, repository) = disk();
    backup(&repository, &source(0)).unwrap();
    write(&repository, &[program(PC, 1, 9000), program(ARM, 1, 9000)]).unwrap();
    let look = || verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert_eq!(look().problems, []);
    disk.damage("rescue/mailkeep-x86_64", |bytes| bytes[5000] ^= 1);
    let found = look();
    assert!(!found.damaged() && found.problems.len() == 1, "{:?}", found.problems);
    assert_eq!(found.problems[0].path, "rescue/mailkeep-x86_64");
    let states: Vec<bool> = kit(&*storage).unwrap().iter().map(|file| file.whole).collect();
    assert_eq!(states, [true, false]);
    // The sum of what has rotted is not kept, so it never passes for whole again.
    let kit = write(&repository, &[program(ARM, 2, 100)]).unwrap().unwrap();
    assert_eq!(paths(&kit), ["rescue/mailkeep-aarch64"]);
    let kit = write(&repository, &[program(PC, 1, 9000)]).unwrap().unwrap();
    assert!(kit.files.len() == 2 && kit.files.iter().all(|file| file.whole));
    // Sums of something else lead nowhere.
    disk.damage(SUMS, |bytes| {
        *bytes =
            format!("{0}  ../label\n{0}  /etc/passwd\n{0}  mailkeep-x86_64 \nx\n", "0".repeat(64)).into();
    });
    assert_eq!(mailkeep_repository::kit(&*storage).unwrap(), []);
    assert_eq!(look().problems, []);
}

#[test]
fn a_disk_without_room_or_with_rot_goes_on_without_it() {
    let (disk, _, repository) = disk();
    disk.set_capacity(Some(200_000));
    let monitor = Collected::default();
    let big = [program(PC, 1, 20_000)];
    assert_eq!(write_kit(&repository, &big, &Machine::this(), &monitor).unwrap(), None);
    let problems = monitor.problems();
    assert!(problems.len() == 1 && problems[0].severity == Severity::Note, "{problems:?}");
    assert!(problems[0].what.contains("no room"), "{problems:?}");
    assert!(disk.files().keys().all(|path| !path.starts_with("rescue/") && !path.starts_with("tmp/")));
    disk.set_capacity(None);
    let rotting: Arc<dyn Storage> = Arc::new(Faulty::rotting_at(&disk, "rescue/"));
    let error = write(&open(&rotting, &LogMonitor).unwrap(), &big).unwrap_err();
    assert!(matches!(error, RepositoryError::ReadBack { .. }), "{error}");
    assert!(!disk.files().contains_key(SUMS), "nothing passes for whole");
    backup(&repository, &source(0)).unwrap();
}

#[test]
fn a_power_cut_never_leaves_a_program_beside_a_sum_that_is_not_its_own() {
    let (start, _, repository) = disk();
    backup(&repository, &source(0)).unwrap();
    write(&repository, &[program(PC, 1, 3000), program(ARM, 1, 3000)]).unwrap();
    start.damage("README.txt", |bytes| bytes.truncate(7));
    let new = [program(PC, 2, 2000), program(ARM, 2, 4000)];
    let mut at = 1;
    loop {
        let disk = start.fork();
        let cut = Faulty::power_cut(&disk, at);
        let storage: Arc<dyn Storage> = Arc::new(cut.clone());
        let done = open(&storage, &LogMonitor).and_then(|repository| write(&repository, &new));
        for seed in 0..12 {
            let found = disk.crash(seed);
            let storage: Arc<dyn Storage> = Arc::new(found.clone());
            let context = format!("call {at}, seed {seed}");
            for file in kit(&*storage).unwrap() {
                assert!(file.whole, "{context}: {file:?}");
            }
            let repository = open(&storage, &LogMonitor).unwrap();
            let (entries, _) = snapshots(&repository);
            assert!(restore(&repository, &entries[0]).unwrap() == source(0), "{context}");
            let kit = write(&repository, &new).unwrap().unwrap();
            assert!(kit.files.len() == 2 && kit.files.iter().all(|file| file.whole), "{context}");
            assert!(found.files()["README.txt"].len() > 1000, "{context}");
        }
        if !cut.happened() {
            assert!(done.is_ok());
            break;
        }
        at += 1;
    }
    assert!(at > 20, "{at} calls");
}

#[test]
fn upkeep_leaves_it_alone() {
    let (disk, _, repository) = disk();
    for day in 0..4 {
        backup(&repository, &source(day)).unwrap();
    }
    write(&repository, &[program(PC, 1, 9000)]).unwrap();
    let carried = |disk: &MemoryStorage| -> Vec<(String, Vec<u8>)> {
        let texts = ["README.txt", "FORMAT.md"];
        let of_kit = |path: &str| path.starts_with("rescue/") || texts.contains(&path);
        disk.files().into_iter().filter(|(path, _)| of_kit(path)).collect()
    };
    let before = carried(&disk);
    assert_eq!(before.len(), 4);
    let options = PruneOptions {
        grace: std::time::Duration::ZERO,
        ..PruneOptions::new(Keep { last: 1, ..Keep::default() })
    };
    repository.prune(&options, &LogMonitor).unwrap();
    assert_eq!(carried(&disk), before);
    repository.reindex(&Machine::this(), &LogMonitor).unwrap();
    assert_eq!(carried(&disk), before);
    disk.damage("label", |bytes| bytes[20] ^= 1);
    let repository = open(&(Arc::new(disk.clone()) as Arc<dyn Storage>), &LogMonitor).unwrap();
    let options =
        RepairOptions { dry_run: false, key: KeySource::Identity(box_key()), writer: common::options() };
    repository.repair(&options, &mut |_| {}, &LogMonitor).unwrap();
    assert_eq!(carried(&disk), before);
    backup(&repository, &source(4)).unwrap();
    assert_eq!(carried(&disk), before);
}
