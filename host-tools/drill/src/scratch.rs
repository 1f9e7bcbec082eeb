//! The scratch folder of a drill: private, locked as long as the drill lives, and gone afterwards.
//!
//! The lock is a flock on the folder itself. What is started on its files holds the same lock, so that a folder whose lock
//! is free is in nobody's use: it is what a drill that was killed has left behind, and the next one removes it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::DrillError;

/// What the names of scratch folders begin with; sixteen hexadecimal digits follow.
const PREFIX: &str = "mailkeep-drill-";

/// A scratch folder. It goes when this does.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    lock: OwnedFd,
    there: bool,
}

/// What was left behind by a drill that was killed.
#[derive(Debug)]
pub struct Cleared {
    /// Where it was.
    pub path: PathBuf,
    /// Why it is still there, if it is.
    pub failed: Option<io::Error>,
}

/// What a place can take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Names, where their number is limited.
    pub(crate) names: Option<u64>,
}

impl Scratch {
    /// Makes a folder that only its maker can enter, in `parent`, which must be there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(parent: &Path) -> Result<Scratch, DrillError> {
        let parent = fs::canonicalize(parent).map_err(|source| failed("find", parent, source))?;
        loop {
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(|_| DrillError::NoRandomness)?;
            let path = parent.join(format!("{PREFIX}{:016x}", u64::from_be_bytes(random)));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(|source| failed("make", &path, source))?,
            }
            // Between the two lines somebody who tidies up may have taken it for a leftover.
            match lock(&path).map_err(|source| failed("lock", &path, source))? {
                Some(lock) => return Ok(Scratch { path, lock, there: true }),
                None => continue,
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that is restored into.
    pub(crate) fn tree(&self) -> PathBuf {
        self.path.join("tree")
    }

    /// Another descriptor of the same lock, to be held by what is started on these files.
    ///
    /// # Errors
    /// This process has no descriptor left.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.lock.try_clone()
    }

    /// Removes it with all that is in it.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(mut self) -> Result<(), DrillError> {
        self.there = false;
        remove(&self.path).map_err(|source| failed("remove", &self.path, source))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.there {
            if let Err(error) = remove(&self.path) {
                tracing::error!(path = %self.path.display(), %error, "the scratch folder stays; the next drill removes it");
            }
        }
    }
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> DrillError {
    DrillError::Scratch { doing, path: path.display().to_string(), source }
}

/// Locks a folder that is still under its name; `None` if somebody else has it or has taken it away.
fn lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let held = rustix::fs::fstat(&folder)?;
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) => Ok(Some(folder)),
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes what drills of this user that were killed have left in `parent`; what is in use stays and is not named.
pub fn clear_leftovers(parent: &Path) -> Vec<Cleared> {
    let me = rustix::process::geteuid().as_raw();
    let mut cleared = Vec::new();
    // A place that cannot be listed is told when the folder is to be made in it.
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let ours = digits
            .is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let private = || {
            let meta = fs::symlink_metadata(entry.path());
            meta.is_ok_and(|meta| meta.is_dir() && meta.uid() == me && meta.permissions().mode() & 0o77 == 0)
        };
        if !ours || !private() {
            continue;
        }
        let path = entry.path();
        let failed = match lock(&path) {
            Ok(None) => continue,
            Ok(Some(held)) => {
                let removed = remove(&path).err();
                drop(held);
                removed
            }
            Err(error) => Some(error),
        };
        cleared.push(Cleared { path, failed });
    }
    cleared
}

/// Removes a folder with all that is in it. Links are removed and never followed.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // A folder that was restored as it was may not let its own owner in.
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// What the file system below an open folder can take.
pub(crate) fn room_of(folder: impl AsFd) -> io::Result<Room> {
    let there = rustix::fs::fstatvfs(folder)?;
    Ok(Room {
        bytes: there.f_bavail.saturating_mul(there.f_frsize),
        names: (there.f_files > 0).then_some(there.f_favail),
    })
}

/// What the file system of `path` can take.
///
/// # Errors
/// It is not there.
pub(crate) fn room_at(path: &Path) -> Result<Room, DrillError> {
    let look = || room_of(fs::File::open(path)?);
    look().map_err(|source| failed("look at", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_scratch_folder_is_private_and_goes_with_its_drill() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::make(parent.path()).unwrap();
        let meta = fs::metadata(scratch.path()).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o700);
        fs::create_dir(scratch.tree()).unwrap();
        fs::write(scratch.tree().join("x"), "x").unwrap();
        fs::set_permissions(scratch.tree(), fs::Permissions::from_mode(0o500)).unwrap();
        assert!(clear_leftovers(parent.path()).is_empty(), "it is in use");
        drop(scratch);
        assert!(names(parent.path()).is_empty());
        let scratch = Scratch::make(parent.path()).unwrap();
        scratch.remove().unwrap();
        assert!(names(parent.path()).is_empty());
    }

    #[test]
    fn what_a_killed_drill_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "kept").unwrap();
        let leftover = parent.path().join(format!("{PREFIX}0123456789abcdef"));
        fs::DirBuilder::new().mode(0o700).create(&leftover).unwrap();
        std::os::unix::fs::symlink(outside.path(), leftover.join("link")).unwrap();
        // Names alike, open to others, or no folders at all: none of a drill's.
        for other in ["mailkeep-drill-", "mailkeep-drill-0123456789abcdex", "mailkeep"] {
            fs::DirBuilder::new().mode(0o700).create(parent.path().join(other)).unwrap();
        }
        let open = parent.path().join(format!("{PREFIX}1123456789abcdef"));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(outside.path(), parent.path().join(format!("{PREFIX}2123456789abcdef")))
            .unwrap();
        let living = Scratch::make(parent.path()).unwrap();
        let cleared = clear_leftovers(parent.path());
        assert!(
            cleared.len() == 1 && cleared[0].path == leftover && cleared[0].failed.is_none(),
            "{cleared:?}"
        );
        assert_eq!(names(parent.path()).len(), 6);
        assert!(outside.path().join("kept").exists() && living.path().exists());
    }

    #[test]
    fn whoever_shares_the_lock_keeps_the_folder() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::make(parent.path()).unwrap();
        let (path, shared) = (scratch.path().to_owned(), scratch.share().unwrap());
        // As a kill would: nobody removes it.
        let mut scratch = scratch;
        scratch.there = false;
        drop(scratch);
        assert!(clear_leftovers(parent.path()).is_empty() && path.exists());
        drop(shared);
        assert_eq!(clear_leftovers(parent.path()).len(), 1);
        assert!(!path.exists());
    }
}
