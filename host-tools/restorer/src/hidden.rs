//! New folders under temporary names, until all that lies in them is there.
//!
//! So a restore that is cut off leaves no folder that looks whole and is not; what it leaves is litter, which the next
//! one removes. Only what lies in a folder itself counts, not the folders below: they come into view one by one, and what
//! is in view stays when a restore is cut off.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::{Errno, Result};

use crate::path::{parts, split};
use crate::target;

/// The folders that have not got their names yet: paths, and the names they have.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    names: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Hidden {
    /// Makes the folder at `path` under the name `part`, and opens it.
    pub(crate) fn make(&self, parent: BorrowedFd<'_>, path: &[u8], part: Vec<u8>) -> Result<OwnedFd> {
        let fd = target::make_folder(parent, &part)?;
        self.names().insert(path.to_vec(), part);
        Ok(fd)
    }

    /// Gives the folder at `path`, which stands in `parent`, its name.
    ///
    /// # Errors
    /// [`Errno::EXIST`] if something stands there by now; the folder keeps its temporary name, as after any other error.
    pub(crate) fn reveal(&self, parent: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
        let mut names = self.names();
        let (Some(part), Some((_, name))) = (names.remove(path), split(path)) else { return Ok(()) };
        match rustix::fs::renameat_with(parent, &part[..], parent, name, RenameFlags::NOREPLACE) {
            // Some file systems do not know the flag; there a look beforehand has to do.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(Errno::EXIST),
                    Err(Errno::NOENT) => rustix::fs::renameat(parent, &part[..], parent, name),
                    Err(error) => Err(error),
                }
            }
            result => result,
        }
    }

    /// Opens the folder at a path below `root`, whatever names it and the folders on the way have now.
    pub(crate) fn open(&self, root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
        // None gets its name while this looks.
        let names = self.names();
        target::open_below(root, &names_now(&names, path))
    }

    /// Removes what has not got its name, with all that is in it: nothing more will be made there. What cannot be removed
    /// is litter.
    pub(crate) fn discard(&self, root: BorrowedFd<'_>) {
        let mut names = self.names();
        while let Some((path, part)) = names.pop_last() {
            let Some((parent, _)) = split(&path) else { continue };
            if let Ok(parent) = target::open_below(root, &names_now(&names, parent)) {
                let _ = target::remove(parent.as_fd(), &part);
            }
        }
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn names_now(names: &BTreeMap<Vec<u8>, Vec<u8>>, path: &[u8]) -> Vec<u8> {
    if names.is_empty() {
        return path.to_vec();
    }
    let (mut own, mut now) = (Vec::new(), Vec::new());
    for name in parts(path) {
        own.push(b'/');
        own.extend_from_slice(name);
        now.push(b'/');
        now.extend_from_slice(names.get(&own).map_or(name, Vec::as_slice));
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_under_the_names_they_have_now() {
        let target = tempfile::tempdir().unwrap();
        let root = target::open_root(target.path()).unwrap();
        let hidden = Hidden::default();
        let outer = hidden.make(root.as_fd(), b"/a", b"part-1".to_vec()).unwrap();
        hidden.make(outer.as_fd(), b"/a/b", b"part-2".to_vec()).unwrap();
        let is = |path: &[u8], stands: &str| {
            let file = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
            let found = rustix::fs::fstat(hidden.open(root.as_fd(), path).unwrap()).map(file);
            assert_eq!(found, rustix::fs::stat(target.path().join(stands)).map(file));
        };
        is(b"/a", "part-1");
        is(b"/a/b", "part-1/part-2");
        hidden.reveal(root.as_fd(), b"/a").unwrap();
        is(b"/a/b", "a/part-2");
        hidden.reveal(outer.as_fd(), b"/a/b").unwrap();
        is(b"/a/b", "a/b");
        hidden.discard(root.as_fd());
        is(b"/a/b", "a/b");
    }

    #[test]
    fn what_stands_there_by_now_is_not_touched() {
        let target = tempfile::tempdir().unwrap();
        let root = target::open_root(target.path()).unwrap();
        let hidden = Hidden::default();
        hidden.make(root.as_fd(), b"/a", b"part-1".to_vec()).unwrap();
        // Empty: a rename without the flag would replace it.
        std::fs::create_dir(target.path().join("a")).unwrap();
        assert_eq!(hidden.reveal(root.as_fd(), b"/a"), Err(Errno::EXIST));
        assert!(target.path().join("part-1").exists());
        hidden.discard(root.as_fd());
        assert!(target.path().join("part-1").exists(), "it was told of and is left for a person");
    }

    #[test]
    fn what_has_no_name_goes_with_all_that_is_in_it() {
        let target = tempfile::tempdir().unwrap();
        let root = target::open_root(target.path()).unwrap();
        let hidden = Hidden::default();
        let outer = hidden.make(root.as_fd(), b"/a", b"part-1".to_vec()).unwrap();
        hidden.make(outer.as_fd(), b"/a/b", b"part-2".to_vec()).unwrap();
        std::fs::create_dir(target.path().join("c")).unwrap();
        let seen = hidden.open(root.as_fd(), b"/c").unwrap();
        hidden.make(seen.as_fd(), b"/c/d", b"part-3".to_vec()).unwrap();
        std::fs::write(target.path().join("part-1/part-2/file"), "x").unwrap();
        hidden.discard(root.as_fd());
        assert!(!target.path().join("part-1").exists());
        assert_eq!(std::fs::read_dir(target.path().join("c")).unwrap().count(), 0);
    }
}
