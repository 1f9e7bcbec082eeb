//! Counts and problems of a running restore, kept by many threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Hears what a restore does. Called from several threads; must not block for long.
pub trait RestoreMonitor: Sync {
    /// Something could not be done; the restore goes on.
    fn problem(&self, path: &[u8], what: &str);

    /// So many files are done, and so many of their bytes written.
    fn progress(&self, files: u64, bytes: u64);
}

/// What a restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files, links, pipes, sockets and devices that were written.
    pub files: u64,
    /// Bytes of file contents that were written.
    pub bytes: u64,
    /// Names that were left as they are.
    pub skipped: u64,
    /// Names whose metadata alone was set.
    pub amended: u64,
    /// Folders that were made.
    pub folders: u64,
    /// Names that were removed, each of those in a folder too.
    pub deleted: u64,
    /// Things that could not be done; each was told to the monitor.
    pub problems: u64,
}

/// The counters behind a [`Summary`].
pub(crate) struct Tally<'a> {
    monitor: &'a dyn RestoreMonitor,
    pub(crate) files: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) amended: AtomicU64,
    pub(crate) folders: AtomicU64,
    pub(crate) deleted: AtomicU64,
    /// Names whose owner could not be set; told once at the end, since without root it is every one of them.
    pub(crate) owners: AtomicU64,
    problems: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl<'a> Tally<'a> {
    pub(crate) fn new(monitor: &'a dyn RestoreMonitor) -> Self {
        let zero = || AtomicU64::new(0);
        Tally {
            monitor,
            files: zero(),
            bytes: zero(),
            skipped: zero(),
            amended: zero(),
            folders: zero(),
            deleted: zero(),
            owners: zero(),
            problems: zero(),
        }
    }

    pub(crate) fn problem(&self, path: &[u8], what: &str) {
        add(&self.problems, 1);
        self.monitor.problem(path, what);
    }

    pub(crate) fn progress(&self) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.monitor.progress(get(&self.files) + get(&self.skipped) + get(&self.amended), get(&self.bytes));
    }

    pub(crate) fn summary(&self) -> Summary {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Summary {
            files: get(&self.files),
            bytes: get(&self.bytes),
            skipped: get(&self.skipped),
            amended: get(&self.amended),
            folders: get(&self.folders),
            deleted: get(&self.deleted),
            problems: get(&self.problems),
        }
    }
}
