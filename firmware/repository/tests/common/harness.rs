//! Power cuts and failing calls for any operation on a repository, given as one closure.
//!
//! [`Operation::every_crash`] runs it once, remembers the disk after every call that changed something, and goes through
//! the states in which a power cut may leave the disk at each of these moments. [`Operation::every_fault`] runs it once
//! for each call that it makes, with that call failing.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use mailkeep_repository::storage::{
    Choice, DirEntry, Guarding, LockGuard, LockKind, ReadFile, StorageError, WriteFile,
};
use mailkeep_repository::{
    Collected, LogMonitor, MemoryStorage, ReadData, Repository, RepositoryError, Severity, SnapshotEntry,
    Storage, VerifyOptions, verify,
};

use super::faulty::Faulty;
use super::{Source, backup, open, restore_with};

/// Errors that a disk gives when it is broken, pulled out, full, remounted read-only, or gone altogether.
pub(crate) const ERRNOS: [i32; 5] = [5, 19, 28, 30, 2];

/// An operation, what it starts from, and what must hold whatever happens.
pub(crate) struct Operation<'a> {
    /// For messages.
    pub(crate) name: &'a str,
    /// The disk before.
    pub(crate) start: MemoryStorage,
    /// The operation. Opens the repository itself.
    pub(crate) run: &'a Run<'a>,
    /// Generations that are there at every moment, however the operation ends.
    pub(crate) always: Vec<u64>,
    /// Generations that are there once it has returned `Ok`.
    pub(crate) after: Vec<u64>,
    /// What a snapshot of this generation gives back; the next backup backs up what follows.
    pub(crate) contents: &'a dyn Fn(u64) -> Source,
}

/// Opens the repository on this storage and does something with it.
type Run<'a> = dyn Fn(&Arc<dyn Storage>) -> Result<(), RepositoryError> + 'a;

/// What a search went through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Different disks.
    pub(crate) states: usize,
    /// Different disks but for what lies in `tmp/`: each was opened and every snapshot on it restored.
    pub(crate) kinds: usize,
    /// Of these, how many also took the next backup and were verified to the last byte.
    pub(crate) whole: usize,
    /// Moments at which power was cut.
    pub(crate) moments: usize,
    /// Moments of which every state outside `tmp/` was seen.
    pub(crate) exhausted: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.states += other.states;
        self.kinds += other.kinds;
        self.whole += other.whole;
        self.moments += other.moments;
        self.exhausted += other.exhausted;
    }
}

impl Operation<'_> {
    /// Cuts power after every call, up to `states` different states at each moment: all of them where they are that few;
    /// else all of those outside `tmp/`, with draws of what lies in it; else draws.
    pub(crate) fn every_crash(&self, states: usize) -> Tally {
        let (tally, _) = self.crashes(states, 1);
        eprintln!("{}: {tally:?}", self.name);
        tally
    }

    /// As [`Operation::every_crash`], and then once more: power also fails at every moment of the next backup, which
    /// starts on each of the states that the first power cut left (one of each kind), with `again` states at each moment.
    pub(crate) fn every_crash_twice(&self, states: usize, again: usize) -> Tally {
        let (mut tally, left) = self.crashes(states, 1);
        eprintln!("{}: {tally:?}, then {} starts", self.name, left.len());
        for start in left {
            let storage: Arc<dyn Storage> = Arc::new(start.clone());
            let there: Vec<u64> = match open(&storage, &LogMonitor) {
                Ok(repository) => {
                    let entries = repository.snapshots(&LogMonitor).unwrap();
                    entries.iter().map(|entry| entry.manifest.generation).collect()
                }
                Err(_) => continue,
            };
            let next = there.last().copied().unwrap_or(0) + 1;
            let run = |storage: &Arc<dyn Storage>| {
                backup(&open(storage, &LogMonitor)?, &(self.contents)(next)).map(drop)
            };
            let name = format!("{}, cut off, and the next backup", self.name);
            let after = there.iter().copied().chain([next]).collect();
            let second =
                Operation { name: &name, start, run: &run, always: there, after, contents: self.contents };
            tally += second.crashes(again, 16).0;
        }
        eprintln!("{}, twice: {tally:?}", self.name);
        tally
    }

    /// Also gives one disk of each kind that was found. Of these, one in `long` goes the long way.
    fn crashes(&self, states: usize, long: usize) -> (Tally, Vec<MemoryStorage>) {
        let recorder = Recorder::new(&self.start);
        let storage: Arc<dyn Storage> = Arc::new(recorder.clone());
        (self.run)(&storage).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        drop(storage);
        let moments = recorder.moments();
        let hashes = Hashes::of(&moments);
        let (mut tally, last) = (Tally::default(), moments.len() - 1);
        let (mut seen, mut classes, mut kinds) = (HashSet::new(), HashSet::new(), Vec::new());
        for (number, (call, disk)) in moments.iter().enumerate() {
            let sealed = if number == last { &self.after } else { &self.always };
            tally.moments += 1;
            let mut search = Search::new(disk, number as u64, states);
            while let Some(after) = search.next() {
                let (state, class) = hashes.fingerprints(&after);
                let new = seen.insert(state);
                search.saw(new);
                if !new {
                    continue;
                }
                tally.states += 1;
                let context = format!("{}: power cut after call {number} ({call})", self.name);
                // What lies in tmp/ is never opened (the watch below sees to that), so of the states that differ only
                // there one tells of all, and a sample of the others is looked at all the same.
                let kind = classes.insert(class);
                if kind {
                    kinds.push(after.fork());
                }
                let storage: Arc<dyn Storage> = Arc::new(TmpUnread(after));
                tally.kinds += usize::from(kind);
                if (kind && kinds.len() % long == 0) || tally.states % 2048 == 0 {
                    tally.whole += 1;
                    self.survives(&storage, sealed, &context);
                } else if kind || tally.states % 256 == 0 {
                    self.sealed_is_there(&storage, sealed, &context);
                }
            }
            tally.exhausted += usize::from(search.exhausted);
        }
        (tally, kinds)
    }

    /// Lets every call fail in turn, with every error, once and from then on. Gives the number of runs.
    pub(crate) fn every_fault(&self) -> usize {
        let mut runs = 0;
        for errno in ERRNOS {
            for for_ever in [false, true] {
                let mut at = 1;
                loop {
                    let disk = self.start.crash(1);
                    let faulty = Faulty::new(&disk, at, for_ever, errno);
                    let done = (self.run)(&(Arc::new(faulty.clone()) as Arc<dyn Storage>));
                    let context = format!(
                        "{}: call {at}, errno {errno}, for ever: {for_ever}: {:?}",
                        self.name,
                        done.as_ref().err().map(RepositoryError::to_string)
                    );
                    let sealed = if done.is_ok() { &self.after } else { &self.always };
                    // In turn what is there when the disk is only remounted, when it was pulled out, and something
                    // between.
                    let seed = [1, 0, 7 + at][at as usize % 3];
                    let storage: Arc<dyn Storage> = Arc::new(disk.crash(seed));
                    self.survives(&storage, sealed, &context);
                    runs += 1;
                    if !faulty.happened() {
                        assert!(done.is_ok(), "{context}");
                        break;
                    }
                    at += 1;
                }
            }
        }
        eprintln!("{}: {runs} runs with a fault", self.name);
        runs
    }

    /// Everything that was sealed reads back as it was; nothing worse than a note is told.
    fn sealed_is_there(&self, storage: &Arc<dyn Storage>, sealed: &[u64], context: &str) -> Option<Found> {
        let monitor = Collected::default();
        let repository = match open(storage, &monitor) {
            Err(RepositoryError::Absent { .. }) if sealed.is_empty() => return None,
            other => other.unwrap_or_else(|error| panic!("{context}: open: {error}")),
        };
        let entries = repository.snapshots(&monitor).unwrap();
        let generations: Vec<u64> = entries.iter().map(|entry| entry.manifest.generation).collect();
        for generation in sealed {
            assert!(
                generations.contains(generation),
                "{context}: snapshot {generation} is lost: {generations:?}"
            );
        }
        let reader = repository.reader(&monitor).unwrap_or_else(|error| panic!("{context}: {error}"));
        for entry in &entries {
            let restored =
                restore_with(&reader, entry).unwrap_or_else(|error| panic!("{context}: restore: {error}"));
            let expected = (self.contents)(entry.manifest.generation);
            assert!(restored == expected, "{context}: restored something else");
        }
        for problem in monitor.problems() {
            assert_eq!(problem.severity, Severity::Note, "{context}: {problem}");
        }
        Some((repository, entries))
    }

    /// What was sealed is there, and the work goes on.
    fn survives(&self, storage: &Arc<dyn Storage>, sealed: &[u64], context: &str) {
        let Some((repository, entries)) = self.sealed_is_there(storage, sealed, context) else {
            super::init(storage).unwrap_or_else(|error| panic!("{context}: init again: {error}"));
            return self.survives(storage, sealed, context);
        };
        let mut there: Vec<u64> = entries.iter().map(|entry| entry.manifest.generation).collect();
        let generation = there.last().copied().unwrap_or(0) + 1;
        let done = backup(&repository, &(self.contents)(generation))
            .unwrap_or_else(|error| panic!("{context}: next backup: {error}"));
        assert_eq!(done.manifest.generation, generation, "{context}");
        there.push(generation);
        self.sealed_is_there(storage, &there, &format!("{context}, after the next backup"));
        let report = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
        assert!(!report.damaged(), "{context}: {:?}", report.problems);
        let left = storage.list("tmp").unwrap();
        assert!(left.is_empty(), "{context}: left in tmp/ after a run: {left:?}");
    }
}

type Found = (Repository, Vec<SnapshotEntry>);

/// Goes through the states of one moment.
struct Search<'a> {
    disk: &'a MemoryStorage,
    way: Way,
    /// Answers so far: option taken, number of options.
    digits: Vec<(u64, u64)>,
    started: bool,
    dice: u64,
    /// With [`Way::Outside`]: draws of what lies in `tmp/`, for each step of the odometer and left in this one.
    draws: (usize, usize),
    limit: usize,
    found: usize,
    /// States in a row that were known.
    known: usize,
    exhausted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// An odometer over all decisions.
    All,
    /// An odometer over the decisions outside `tmp/`, draws for those in it.
    Outside,
    /// Draws, beginning with the two corners.
    Draws,
}

impl<'a> Search<'a> {
    fn new(disk: &'a MemoryStorage, seed: u64, limit: usize) -> Self {
        let mut search = Search {
            disk,
            way: Way::All,
            digits: Vec::new(),
            started: false,
            dice: seed ^ 0x5eed,
            draws: (1, 0),
            limit,
            found: 0,
            known: 0,
            exhausted: false,
        };
        for way in [Way::All, Way::Outside, Way::Draws] {
            search.way = way;
            let count = search.count();
            if count <= limit {
                search.draws = ((limit / count).max(1), 0);
                break;
            }
        }
        search
    }

    fn random(&mut self, below: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    /// Tells whether the last state was new.
    fn saw(&mut self, new: bool) {
        self.found += usize::from(new);
        self.known = if new { 0 } else { self.known + 1 };
    }

    fn next(&mut self) -> Option<MemoryStorage> {
        if self.found >= self.limit {
            return None;
        }
        let first = !std::mem::replace(&mut self.started, true);
        let way = self.way;
        match way {
            Way::All if !first && !self.step() => {
                self.exhausted = true;
                return None;
            }
            Way::Outside if self.draws.1 == 0 => {
                if !first && !self.step() {
                    self.exhausted = true;
                    return None;
                }
                self.draws.1 = self.draws.0;
            }
            Way::Draws if self.known > 32 => return None,
            _ => {}
        }
        self.draws.1 = self.draws.1.saturating_sub(1);
        Some(self.make())
    }

    /// How many combinations there are on this way, at most one more than the limit.
    fn count(&mut self) -> usize {
        if self.way == Way::Draws {
            return 1;
        }
        let mut count = 1;
        self.make();
        while count <= self.limit && self.step() {
            self.make();
            count += 1;
        }
        self.digits.clear();
        count
    }

    fn make(&mut self) -> MemoryStorage {
        let mut at = 0;
        let mut digits = std::mem::take(&mut self.digits);
        let disk = self.disk;
        let after = disk.crash_by(&mut |choice: &Choice<'_>| {
            if self.way == Way::Draws || (self.way == Way::Outside && choice.path.starts_with("tmp")) {
                return self.random(choice.options);
            }
            if at == digits.len() {
                digits.push((0, choice.options));
            }
            let (digit, options) = digits[at];
            assert_eq!(options, choice.options, "the same answers lead to the same questions");
            at += 1;
            digit
        });
        digits.truncate(at);
        self.digits = digits;
        after
    }

    /// The next combination of answers; whether there is one.
    fn step(&mut self) -> bool {
        while let Some((digit, options)) = self.digits.pop() {
            if digit + 1 < options {
                self.digits.push((digit + 1, options));
                return true;
            }
        }
        false
    }
}

/// Hashes of the files of the recorded disks, by where their bytes lie in memory: a state shares most of them.
struct Hashes(HashMap<(usize, usize), blake3::Hash>);

impl Hashes {
    fn of(moments: &[(String, MemoryStorage)]) -> Self {
        let mut known = HashMap::new();
        for (_, disk) in moments {
            disk.each(&mut |_, bytes| {
                let bytes = bytes.unwrap_or_default();
                let place = (bytes.as_ptr() as usize, bytes.len());
                known.entry(place).or_insert_with(|| blake3::hash(bytes));
            });
        }
        Hashes(known)
    }

    /// What is on the disk, with and without the contents of `tmp/`. The recorded disks are still there, so that no
    /// other bytes can lie where theirs are.
    fn fingerprints(&self, disk: &MemoryStorage) -> (blake3::Hash, blake3::Hash) {
        let (mut all, mut class) = (blake3::Hasher::new(), blake3::Hasher::new());
        disk.each(&mut |path, bytes| {
            let hash = bytes.map(|bytes| {
                let known = self.0.get(&(bytes.as_ptr() as usize, bytes.len()));
                known.copied().unwrap_or_else(|| blake3::hash(bytes))
            });
            let show = |hasher: &mut blake3::Hasher| {
                hasher.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes());
                hasher.update(hash.as_ref().map_or(&[], |hash| hash.as_bytes()));
            };
            show(&mut all);
            if !path.starts_with("tmp/") {
                show(&mut class);
            }
        });
        (all.finalize(), class.finalize())
    }
}

/// Remembers the disk after every call that changes or flushes it, or looks past the page cache.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    disk: MemoryStorage,
    moments: Arc<Mutex<Vec<(String, MemoryStorage)>>>,
    /// Whether the disk is remembered too, and not only the calls.
    disks: bool,
}

impl Recorder {
    pub(crate) fn new(start: &MemoryStorage) -> Self {
        let disk = start.crash(1);
        let first = ("before the first call".to_owned(), disk.fork());
        Recorder { disk, moments: Arc::new(Mutex::new(vec![first])), disks: true }
    }

    /// Remembers the calls alone, each with an empty disk: for operations that write much.
    pub(crate) fn of_calls(start: &MemoryStorage) -> Self {
        Recorder { disks: false, ..Recorder::new(start) }
    }

    /// The calls and the disk after each; forgets them.
    pub(crate) fn moments(&self) -> Vec<(String, MemoryStorage)> {
        std::mem::take(&mut self.moments.lock().unwrap())
    }

    fn noted<T>(
        &self,
        call: &str,
        path: &str,
        run: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut moments = self.moments.lock().unwrap();
        let done = run()?;
        let disk = if self.disks { self.disk.fork() } else { MemoryStorage::new() };
        moments.push((format!("{call} {path}"), disk));
        Ok(done)
    }
}

impl Storage for Recorder {
    fn describe(&self) -> String {
        self.disk.describe()
    }

    fn make_dir(&self, path: &str) -> Result<(), StorageError> {
        self.noted("make_dir", path, || self.disk.make_dir(path))
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>, StorageError> {
        let file = self.noted("create", path, || self.disk.create(path))?;
        Ok(Box::new(RecordedFile { file, recorder: self.clone(), path: path.to_owned() }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.noted("rename", to, || self.disk.rename(from, to))
    }

    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        self.noted("sync_dir", path, || self.disk.sync_dir(path))
    }

    fn flush_device(&self) -> Result<(), StorageError> {
        self.noted("flush_device", "", || self.disk.flush_device())
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.noted("remove", path, || self.disk.remove(path))
    }

    fn list(&self, path: &str) -> Result<Vec<DirEntry>, StorageError> {
        self.disk.list(path)
    }

    fn open(&self, path: &str) -> Result<Box<dyn ReadFile>, StorageError> {
        self.disk.open(path)
    }

    fn lock(&self, path: &str, kind: LockKind) -> Result<Option<Box<dyn LockGuard>>, StorageError> {
        self.disk.lock(path, kind)
    }

    fn free_space(&self) -> Result<u64, StorageError> {
        self.disk.free_space()
    }

    fn drop_cache(&self, path: &str) -> Result<(), StorageError> {
        self.noted("drop_cache", path, || self.disk.drop_cache(path))
    }

    fn make_guard(&self, name: &str) -> Result<Guarding, StorageError> {
        self.disk.make_guard(name)
    }

    fn guards(&self) -> Result<Vec<String>, StorageError> {
        self.disk.guards()
    }

    fn drop_guard(&self, name: &str) -> Result<(), StorageError> {
        self.disk.drop_guard(name)
    }

    fn settle_guards(&self) -> Result<bool, StorageError> {
        self.disk.settle_guards()
    }
}

struct RecordedFile {
    file: Box<dyn WriteFile>,
    recorder: Recorder,
    path: String,
}

impl WriteFile for RecordedFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.recorder.noted("append", &self.path, || self.file.append(bytes))
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.recorder.noted("sync", &self.path, || self.file.sync())
    }
}

/// Sees to it that nobody reads what was in `tmp/` before: what a crash left there means nothing.
#[derive(Debug)]
struct TmpUnread(MemoryStorage);

impl Storage for TmpUnread {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn make_dir(&self, path: &str) -> Result<(), StorageError> {
        self.0.make_dir(path)
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>, StorageError> {
        self.0.create(path)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.0.rename(from, to)
    }

    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        self.0.sync_dir(path)
    }

    fn flush_device(&self) -> Result<(), StorageError> {
        self.0.flush_device()
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.0.remove(path)
    }

    fn list(&self, path: &str) -> Result<Vec<DirEntry>, StorageError> {
        self.0.list(path)
    }

    fn open(&self, path: &str) -> Result<Box<dyn ReadFile>, StorageError> {
        assert!(!path.starts_with("tmp/"), "{path} was opened");
        self.0.open(path)
    }

    fn lock(&self, path: &str, kind: LockKind) -> Result<Option<Box<dyn LockGuard>>, StorageError> {
        self.0.lock(path, kind)
    }

    fn free_space(&self) -> Result<u64, StorageError> {
        self.0.free_space()
    }

    fn drop_cache(&self, path: &str) -> Result<(), StorageError> {
        self.0.drop_cache(path)
    }

    fn make_guard(&self, name: &str) -> Result<Guarding, StorageError> {
        self.0.make_guard(name)
    }

    fn guards(&self) -> Result<Vec<String>, StorageError> {
        self.0.guards()
    }

    fn drop_guard(&self, name: &str) -> Result<(), StorageError> {
        self.0.drop_guard(name)
    }

    fn settle_guards(&self) -> Result<bool, StorageError> {
        self.0.settle_guards()
    }
}
