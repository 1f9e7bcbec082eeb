//! What the box knows of folders before a pass, and when that may stand in for a listing.
//!
//! A folder whose inode and times are those that the box knows has the names that it had: every name that comes, goes or
//! is replaced changes both times of its folder. What the names of write-once files stand for has not changed then, by
//! the rule that makes them write-once. What that does not cover:
//! - a folder that changed within the last tick of a coarse clock before it was listed: one that was not older than the
//!   pass that listed it by [`limits::SETTLED_SECONDS`] is listed;
//! - a clock that was set back since: nothing is taken over then;
//! - file systems of other machines, and those made of others (FUSE, overlays), whose times follow no such rule: only
//!   local ones that are known to keep it count.

use std::collections::HashMap;

use mailkeep_format::Timestamp;
use mailkeep_link::limits::KNOWN_BYTES;
use mailkeep_link::message::{Known, KnownFolder};

use crate::limits;
use crate::meta::Facts;

/// Folders that need not be listed if they have not changed.
#[derive(Debug, Default)]
pub(crate) struct KnownFolders {
    clock: Timestamp,
    folders: HashMap<Vec<u8>, KnownFolder>,
    bytes: usize,
}

impl KnownFolders {
    /// Takes what the box says; what is beyond the bound is forgotten, and listed.
    pub(crate) fn add(&mut self, known: Known) {
        // All of it is about one pass; the latest word is the most careful one.
        self.clock = if self.folders.is_empty() { known.clock } else { self.clock.min(known.clock) };
        for folder in known.folders {
            let names: usize = folder.entries.iter().map(|(_, name)| name.len() + 48).sum();
            let bytes = 2 * folder.path.len() + names + 160;
            if self.bytes + bytes > KNOWN_BYTES {
                return;
            }
            self.bytes += bytes;
            self.folders.insert(folder.path.clone(), folder);
        }
    }

    /// Whether there is one of this path.
    pub(crate) fn has(&self, path: &[u8]) -> bool {
        self.folders.contains_key(path)
    }

    /// Forgets everything if it is of no use for a pass that begins at this time.
    pub(crate) fn at(mut self, now: Timestamp) -> Self {
        if now < self.clock {
            self.folders.clear();
        }
        self
    }

    /// The folder of this path, whatever happened in it.
    pub(crate) fn itself(&self, path: &[u8], now: &Facts) -> Option<&KnownFolder> {
        self.folders.get(path).filter(|folder| folder.inode == now.inode)
    }

    /// The folder of this path if it has not changed.
    pub(crate) fn unchanged(&self, path: &[u8], now: &Facts) -> Option<&KnownFolder> {
        let folder = self.itself(path, now)?;
        let same = folder.mtime == now.mtime && folder.ctime == now.ctime;
        let settled = now.mtime.max(now.ctime) < self.clock.minus_seconds(limits::SETTLED_SECONDS);
        (same && settled).then_some(folder)
    }
}

/// Whether a file system of this type (statfs(2)) is on this machine and changes a directory's times with its names.
pub(crate) fn keeps_directory_times(magic: u64) -> bool {
    // ext2 to ext4, XFS, btrfs, F2FS, ZFS, JFS, tmpfs
    const LOCAL: [u64; 7] =
        [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0x3153_464a, 0x0102_1994];
    LOCAL.contains(&(magic & 0xffff_ffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 5 }
    }

    fn facts() -> Facts {
        Facts { inode: 7, device: 1, size: 4096, mtime: at(90), ctime: at(95) }
    }

    fn known(clock: i64) -> KnownFolders {
        let mut known = KnownFolders::default();
        let folder = KnownFolder {
            path: b"/spool/a".to_vec(),
            inode: 7,
            mtime: at(90),
            ctime: at(95),
            entries: vec![(3, b"cyrus.index".to_vec())],
        };
        known.add(Known { clock: at(clock), folders: vec![folder] });
        known
    }

    #[test]
    fn only_the_very_same_folder_counts() {
        let known = known(100);
        assert!(known.unchanged(b"/spool/a", &facts()).is_some());
        assert!(known.unchanged(b"/spool/b", &facts()).is_none());
        for other in [
            Facts { inode: 8, ..facts() },
            Facts { mtime: at(91), ..facts() },
            Facts { ctime: Timestamp { seconds: 95, nanos: 6 }, ..facts() },
        ] {
            assert!(known.unchanged(b"/spool/a", &other).is_none());
        }
    }

    #[test]
    fn a_folder_that_was_young_when_it_was_listed_is_listed_again() {
        assert!(known(98).unchanged(b"/spool/a", &facts()).is_some());
        assert!(known(97).unchanged(b"/spool/a", &facts()).is_none());
        assert!(known(90).unchanged(b"/spool/a", &facts()).is_none());
    }

    #[test]
    fn a_clock_that_went_back_makes_all_of_it_worthless() {
        assert!(known(100).at(at(100)).unchanged(b"/spool/a", &facts()).is_some());
        assert!(known(100).at(at(99)).unchanged(b"/spool/a", &facts()).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut known = KnownFolders::default();
        for number in 0..200_000u32 {
            let path = format!("/var/spool/cyrus/user/{number}").into_bytes();
            let (mtime, ctime, entries) = (at(1), at(1), vec![(1, b"cyrus.index".to_vec())]);
            let folder = KnownFolder { path, inode: 1, mtime, ctime, entries };
            known.add(Known { clock: at(9), folders: vec![folder] });
        }
        assert!(known.bytes <= KNOWN_BYTES && known.folders.len() > 30_000, "{}", known.folders.len());
    }
}
