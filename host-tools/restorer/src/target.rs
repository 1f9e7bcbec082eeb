//! The file system that is restored into, by file descriptors only.
//!
//! Guards against a hostile snapshot and a hostile target (restic 1445, borg CVE-2016-10099, tar's long history): every
//! call names one plain name inside of a folder that is already open, and no call follows a symbolic link. So nothing
//! can be written, changed or deleted outside of the target, whatever stands in the snapshot and in the target.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use mailkeep_format::limits::DEPTH_MAX;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use crate::decide::Existing;
use crate::names::Names;
use crate::path::parts;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What stands under `name`, if anything.
pub(crate) fn existing(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Existing>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Existing::from(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the target folder itself. Its own path is the caller's choice, so links on the way there are followed.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a folder in a folder.
pub(crate) fn open_folder(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    rustix::fs::openat(folder, name, FOLDER, Mode::empty())
}

/// Makes a folder that only its maker can enter, and opens it.
pub(crate) fn make_folder(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    rustix::fs::mkdirat(folder, name, Mode::RWXU)?;
    open_folder(folder, name)
}

/// Opens the folder at a path below `root`, never leaving `root` and never through a link.
pub(crate) fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    let relative = path.strip_prefix(b"/").unwrap_or(path);
    let relative = if relative.is_empty() { b"." } else { relative };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, relative, FOLDER, Mode::empty(), resolve) {
        // Kernels before 5.6, and paths above PATH_MAX: one step at a time.
        Err(Errno::NOSYS | Errno::NAMETOOLONG) => {
            let mut at = open_folder(root, b".")?;
            for name in parts(relative) {
                at = open_folder(at.as_fd(), name)?;
            }
            Ok(at)
        }
        result => result,
    }
}

/// The names in a folder.
pub(crate) fn names(folder: BorrowedFd<'_>) -> Result<Names> {
    let mut names = Names::default();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name)?;
        }
    }
    Ok(names)
}

/// Removes `name` and everything below it; returns how many names went. A mount point is left where it is.
pub(crate) fn remove(folder: BorrowedFd<'_>, name: &[u8]) -> Result<u64> {
    let device = rustix::fs::fstat(folder)?.st_dev;
    remove_below(folder, name, device, 0)
}

fn remove_below(folder: BorrowedFd<'_>, name: &[u8], device: u64, depth: usize) -> Result<u64> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => return Ok(1),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let inner = open_folder(folder, name)?;
    if rustix::fs::fstat(&inner)?.st_dev != device {
        return Err(Errno::XDEV);
    }
    let mut removed = 1;
    for below in names(inner.as_fd())?.iter() {
        removed += remove_below(inner.as_fd(), below, device, depth + 1)?;
    }
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?;
    Ok(removed)
}

/// Makes room for something of another kind: removes a file or an empty folder under `name`.
pub(crate) fn clear(folder: BorrowedFd<'_>, name: &[u8], there: FileType) -> Result<()> {
    let flags = if there == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    rustix::fs::unlinkat(folder, name, flags)
}

/// A path to `name` for the few calls that know no folder descriptor (attributes of links). Only its last name is
/// looked up, and those calls do not follow it.
pub(crate) fn proc_path(folder: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    let mut path = OsString::from(format!("/proc/self/fd/{}/", folder.as_raw_fd()));
    path.push(OsStr::from_bytes(name));
    PathBuf::from(path)
}

/// Names under which things are written until they are complete. Random per run, so that a leftover of a run that was
/// cut off can be told from one of our own.
#[derive(Debug)]
pub(crate) struct PartNames {
    prefix: Vec<u8>,
    next: std::sync::atomic::AtomicU64,
}

const PART: &str = ".mailkeep-part-";

impl PartNames {
    pub(crate) fn new() -> Self {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
        PartNames { prefix: format!("{PART}{random:016x}-").into_bytes(), next: 0.into() }
    }

    /// A name that nothing has.
    pub(crate) fn fresh(&self) -> Vec<u8> {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut name = OsString::from_vec(self.prefix.clone());
        name.push(format!("{number:x}"));
        name.into_vec()
    }

    /// Whether `name` is one that this run is writing.
    pub(crate) fn is_ours(&self, name: &[u8]) -> bool {
        name.starts_with(&self.prefix)
    }

    /// Whether `name` was left behind by another run.
    pub(crate) fn is_leftover(&self, name: &[u8]) -> bool {
        !self.is_ours(name)
            && name.strip_prefix(PART.as_bytes()).is_some_and(|rest| rest.len() > 17 && rest[16] == b'-')
    }
}
