//! Hazards 1, 2, 6, 21: power fails below a real ext4 and a real btrfs, at every flush, with every legal part of what was
//! under way; and the disk lies about its flushes. What was sealed is there, or, where the disk lied, what is missing is
//! told and never a wrong byte restored.
//!
//! `MAILKEEP_BLOCK_STATES` sets how many states of each file system are mounted (default 150; hazard figures 4,000 for
//! ext4 and 2,000 for btrfs), `MAILKEEP_LIES` how many lies are told to each (default 80).
#![allow(clippy::unwrap_used)]

#[path = "../../firmware/repository/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use mailkeep_repository::{
    LocalStorage, LogMonitor, ReadData, Repository, RepositoryError, Storage, VerifyOptions, verify,
};
use mailkeep_tests::block::{FileSystem, Image, Log, Mounted, Recording, State};
use mailkeep_tests::process::{env_number, have, is_root, skip};

/// Snapshots that are made on the disk: as many as have the states that are asked for (ext4 has about 100 more for each).
fn days() -> u64 {
    4.max(env_number("MAILKEEP_BLOCK_STATES", 150) as u64 / 150)
}

/// A folder in memory where there is one, so that states cost no disk.
fn workshop() -> tempfile::TempDir {
    match Path::new("/dev/shm").is_dir() {
        true => tempfile::tempdir_in("/dev/shm").unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

fn ready() -> bool {
    let missing = match is_root() {
        false => Some("mounting needs root"),
        true if !Path::new("/dev/fuse").exists() => Some("there is no FUSE"),
        true if !have("mkfs.ext4") || !have("mkfs.btrfs") => Some("mkfs.ext4 or mkfs.btrfs is missing"),
        true => None,
    };
    missing.is_none_or(|why| {
        skip(why).unwrap();
        false
    })
}

fn storage(mounted: &Mounted) -> Arc<dyn Storage> {
    Arc::new(LocalStorage::open(&mounted.path().join("mailkeep")).unwrap())
}

/// Makes a repository with a few snapshots, and in the middle a run that is cut off.
fn record(kind: FileSystem) -> Log {
    let home = workshop();
    let path = |name: &str| home.path().join(name);
    kind.make(&path("image")).unwrap();
    for folder in ["fuse", "mounted"] {
        std::fs::create_dir(path(folder)).unwrap();
    }
    let recording = Recording::start(Image::load(&path("image")).unwrap(), &path("fuse")).unwrap();
    let mounted = Mounted::mount(&path("fuse").join(Recording::file()), &path("mounted"), "").unwrap();
    let disk: Arc<dyn Storage> = Arc::new(LocalStorage::prepare(&mounted.path().join("mailkeep")).unwrap());
    let repository = init_plain(&disk).unwrap();
    recording.mark(0);
    for day in 0..days() {
        if day == 2 {
            let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
            put_source(&mut writer, &source(day)).unwrap();
        }
        let sealed = backup(&repository, &source(day)).unwrap();
        recording.mark(sealed.manifest.generation);
    }
    drop((repository, disk));
    mounted.unmount().unwrap();
    let log = recording.log();
    let (writes, flushes) = log.counts();
    assert!(writes > 50 && flushes > 20, "{writes} writes and {flushes} flushes are too few to be true");
    eprintln!("{kind:?}: {writes} writes, {flushes} flushes");
    log
}

/// A place where states are mounted one after the other.
struct Bench {
    home: tempfile::TempDir,
    number: usize,
}

impl Bench {
    fn new() -> Self {
        let home = workshop();
        std::fs::create_dir(home.path().join("mounted")).unwrap();
        Bench { home, number: 0 }
    }

    /// A new file each time: nothing that the kernel has cached of an earlier one can be met.
    fn save(&mut self, image: &Image) -> PathBuf {
        self.number += 1;
        let path = self.home.path().join(format!("state-{}", self.number));
        image.save(&path).unwrap();
        path
    }

    fn mount(&self, image: &Path, options: &str) -> anyhow::Result<Mounted> {
        Mounted::mount(image, &self.home.path().join("mounted"), options)
    }
}

fn there(repository: &Repository) -> Result<Vec<u64>, RepositoryError> {
    Ok(repository.snapshots(&LogMonitor)?.iter().map(|entry| entry.manifest.generation).collect())
}

/// What was sealed is there and right; the next backup succeeds if that is asked for.
fn survives(bench: &mut Bench, state: &State, go_on: bool) {
    let context = &state.context;
    let image = bench.save(&state.image);
    let mounted = bench.mount(&image, "").unwrap_or_else(|error| panic!("{context}: {error}"));
    if state.marks.is_empty() {
        mounted.unmount().unwrap();
        return std::fs::remove_file(image).unwrap();
    }
    let disk = storage(&mounted);
    let repository = open(&disk, &LogMonitor).unwrap_or_else(|error| panic!("{context}: {error}"));
    let entries = repository.snapshots(&LogMonitor).unwrap();
    let generations = there(&repository).unwrap();
    for sealed in state.marks.iter().filter(|mark| **mark > 0) {
        assert!(generations.contains(sealed), "{context}: {sealed} of {generations:?} is lost");
    }
    let reader = repository.reader(&LogMonitor).unwrap();
    for entry in &entries {
        let restored = restore_with(&reader, entry).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(restored == source(entry.manifest.generation - 1), "{context}: restored something else");
    }
    if go_on {
        let next = generations.last().copied().unwrap_or(0);
        let sealed = backup(&repository, &source(next))
            .unwrap_or_else(|error| panic!("{context}: next backup: {error}"));
        assert_eq!(sealed.manifest.generation, next + 1, "{context}");
        let found = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
        assert!(!found.damaged(), "{context}: {:?}", found.problems);
    }
    drop((reader, repository, disk));
    mounted.unmount().unwrap_or_else(|error| panic!("{context}: {error}"));
    std::fs::remove_file(image).unwrap();
}

fn every_power_cut(kind: FileSystem) {
    if !ready() {
        return;
    }
    let log = record(kind);
    let mut bench = Bench::new();
    let wanted = env_number("MAILKEEP_BLOCK_STATES", 150);
    let mut number = 0;
    let shown = log.states(wanted, kind.sector(), &mut |state| {
        number += 1;
        survives(&mut bench, &state, number % 8 == 0);
    });
    eprintln!("{kind:?}: {shown} states");
    assert!(shown * 10 >= wanted.min(1500) * 9, "{shown} states, {wanted} were asked for");
}

#[test]
fn ext4_keeps_what_was_sealed() {
    every_power_cut(FileSystem::Ext4);
}

#[test]
fn btrfs_keeps_what_was_sealed() {
    every_power_cut(FileSystem::Btrfs);
}

/// How it came out, for the figures.
#[derive(Debug, Default)]
struct Told {
    whole: usize,
    by_the_file_system: usize,
    by_opening: usize,
    by_verify: usize,
    by_the_generation: usize,
    rescued: usize,
}

/// Nothing wrong is restored, and whatever is missing is told by somebody.
fn told(bench: &mut Bench, kind: FileSystem, state: &State, told: &mut Told) {
    let context = &state.context;
    let image = bench.save(&state.image);
    let sealed: Vec<u64> = state.marks.iter().copied().filter(|mark| *mark > 0).collect();
    // Writable at first: a journal has to be replayed.
    let mounted = match bench.mount(&image, "") {
        Ok(mounted) => Some(mounted),
        Err(_) if kind == FileSystem::Btrfs => {
            let rescued = bench.mount(&image, "ro,rescue=usebackuproot,rescue=nologreplay").ok();
            told.rescued += usize::from(rescued.is_some());
            rescued
        }
        Err(_) => None,
    };
    let Some(mounted) = mounted else {
        told.by_the_file_system += 1;
        return std::fs::remove_file(image).unwrap();
    };
    let looked = (|| -> Result<(Vec<u64>, bool), RepositoryError> {
        let disk: Arc<dyn Storage> = Arc::new(LocalStorage::open(&mounted.path().join("mailkeep"))?);
        let repository = open(&disk, &LogMonitor)?;
        let reader = repository.reader(&LogMonitor)?;
        let mut right = Vec::new();
        for entry in repository.snapshots(&LogMonitor)? {
            if let Ok(restored) = restore_with(&reader, &entry) {
                let expected = source(entry.manifest.generation - 1);
                assert!(restored == expected, "{context}: wrong bytes were restored in silence");
                right.push(entry.manifest.generation);
            }
        }
        let found = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor)?;
        Ok((right, found.lost()))
    })();
    mounted.unmount().unwrap_or_else(|error| panic!("{context}: {error}"));
    std::fs::remove_file(image).unwrap();
    match looked {
        Err(_) => told.by_opening += 1,
        Ok((right, lost)) => {
            let missing: Vec<_> = sealed.iter().filter(|generation| !right.contains(generation)).collect();
            if missing.is_empty() {
                told.whole += 1;
            } else if lost {
                told.by_verify += 1;
            } else {
                // The newest manifests are gone without a trace: the disk looks like its own past, which only somebody
                // who remembers its highest generation can tell.
                let newest = right.last().copied().unwrap_or(0);
                assert!(
                    missing.iter().all(|generation| **generation > newest),
                    "{context}: {missing:?} are missing beside {right:?}, and nobody said so"
                );
                told.by_the_generation += 1;
            }
        }
    }
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => drop(found.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

fn lies(kind: FileSystem) {
    if !ready() {
        return;
    }
    // The other disk of the set, which told the truth.
    let other = workshop();
    let disk: Arc<dyn Storage> = Arc::new(LocalStorage::prepare(&other.path().join("other")).unwrap());
    let repository = init_plain(&disk).unwrap();
    backup(&repository, &source(0)).unwrap();
    let before = contents(other.path());

    let log = record(kind);
    let (mut bench, mut sum) = (Bench::new(), Told::default());
    let count = env_number("MAILKEEP_LIES", 80);
    log.lies(count, 16, &mut |state| told(&mut bench, kind, &state, &mut sum));
    eprintln!("{kind:?}: {sum:?}");
    assert!(sum.whole < count, "no lie had a consequence: {sum:?}");

    assert!(before == contents(other.path()), "the other disk was touched");
    let found = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert_eq!(found.problems, []);
}

#[test]
fn what_ext4_lost_to_a_lying_disk_is_told() {
    lies(FileSystem::Ext4);
}

#[test]
fn what_btrfs_lost_to_a_lying_disk_is_told() {
    lies(FileSystem::Btrfs);
}
