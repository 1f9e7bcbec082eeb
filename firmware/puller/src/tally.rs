//! What a pass counts, and what it notices: listed up to a limit, counted beyond it, so that a hostile server cannot
//! fill memory or a manifest.

use crate::limits;

/// What a pass has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Regular files that were listed.
    pub files_seen: u64,
    /// Sum of their sizes, bytes.
    pub bytes_seen: u64,
    /// Files that were (in a survey: would be) read.
    pub files_changed: u64,
    /// Sum of their sizes, bytes.
    pub bytes_changed: u64,
    /// Entries that are new, gone or changed against the base, directories' own times left aside.
    pub moved: u64,
    /// Bytes of chunks that came over the link.
    pub bytes_sent: u64,
    /// Wanted files that are finished.
    pub files_done: u64,
    /// Sum of their sizes, bytes.
    pub bytes_done: u64,
    /// Regular files in the tree.
    pub files: u64,
    /// Directories in the tree, the root among them.
    pub directories: u64,
    /// Bytes of the files in the tree.
    pub bytes: u64,
}

/// Something that a pass noticed about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What, in one line.
    pub what: String,
    /// The file, as text for people.
    pub path: String,
}

/// What a pass noticed: listed up to a limit, counted beyond it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// How many there were.
    pub count: u64,
    /// The first of them.
    pub listed: Vec<Notice>,
}

impl Notices {
    /// Adds one.
    pub fn add(&mut self, what: impl Into<String>, path: impl Into<String>) {
        self.count += 1;
        if self.listed.len() < limits::LISTED_MAX {
            self.listed.push(Notice { what: what.into(), path: path.into() });
        }
    }

    /// Adds all of another list.
    pub fn append(&mut self, other: &Notices) {
        self.count += other.count;
        let room = limits::LISTED_MAX.saturating_sub(self.listed.len());
        self.listed.extend(other.listed.iter().take(room).cloned());
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
