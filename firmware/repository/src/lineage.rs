//! Whether a disk is the one that was written last, or an older clone of it that has come back (hazard 20).
//!
//! A disk alone cannot know: the one who writes to it remembers the newest snapshot that it sealed there and asks here.

use std::fmt;

use mailkeep_format::SnapshotId;

use crate::snapshots::SnapshotEntry;

/// The newest snapshot that somebody has seen in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its generation.
    pub generation: u64,
    /// Its id.
    pub snapshot: SnapshotId,
}

impl Seen {
    /// The newest of these snapshots, which are in order of generation.
    pub fn of(entries: &[SnapshotEntry]) -> Option<Self> {
        entries.last().map(|entry| Seen { generation: entry.manifest.generation, snapshot: entry.id })
    }
}

/// How a disk contradicts what was seen on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// The newest snapshot is older than the one that was seen.
    Older {
        /// What was seen.
        seen: u64,
        /// The highest generation that is there now; 0 if there is none.
        found: u64,
    },
    /// There is another snapshot where the one that was seen should be.
    Forked {
        /// The generation that has two snapshots.
        generation: u64,
    },
}

impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setback::Older { seen, found } => write!(
                f,
                "this disk went back in time: its newest snapshot has generation {found}, but {seen} was sealed on it \
                 before; is it an older clone? Find the other disk before you rely on this one"
            ),
            Setback::Forked { generation } => write!(
                f,
                "this disk is not the one that was here before: its snapshot of generation {generation} is another \
                 one; two disks are copies of each other and both were written to"
            ),
        }
    }
}

/// Compares a disk's snapshots, in order of generation, with the newest that was seen on it. A snapshot that was pruned
/// since is no contradiction as long as newer ones are there.
pub fn setback(seen: &Seen, entries: &[SnapshotEntry]) -> Option<Setback> {
    let found = entries.last().map_or(0, |entry| entry.manifest.generation);
    if found < seen.generation {
        return Some(Setback::Older { seen: seen.generation, found });
    }
    let mut same = entries.iter().filter(|entry| entry.manifest.generation == seen.generation).peekable();
    let other = same.peek().is_some() && !same.any(|entry| entry.id == seen.snapshot);
    other.then_some(Setback::Forked { generation: seen.generation })
}
