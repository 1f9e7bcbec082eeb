//! An open directory, and everything that is asked of names within it.
//!
//! Names are only ever used relative to an open directory, and no symbolic link is followed: whoever swaps a directory
//! for a link while we walk gains nothing. What is opened is one name in it, never a way that leads elsewhere: names come
//! from the box too.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{self, AtFlags, CWD, Dir, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::limits;

/// Extended attributes, sorted by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    stands_for: Option<StandsFor>,
}

/// What lies on one device is said to lie on another: a snapshot of a file system has the inodes and times of the
/// original, and a device number of its own that nobody may see.
#[derive(Debug, Clone, Copy)]
struct StandsFor {
    own: u64,
    said: u64,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Why extended attributes are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrTrouble {
    /// They are larger than a message can carry.
    TooLarge,
    /// They could not be read.
    Failed(Errno),
}

impl Directory {
    /// Opens an absolute path; no link is followed in its last part.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path) -> Result<Directory, Errno> {
        let open = |extra| fs::openat(CWD, path, directory_flags() | extra, Mode::empty());
        quietly(open).map(|fd| Directory { fd, stands_for: None })
    }

    /// As [`Directory::open`], for a directory of a snapshot: it and all below it are said to lie on the device `said`.
    ///
    /// # Errors
    /// As open(2).
    pub fn open_kept(path: &Path, said: u64) -> Result<Directory, Errno> {
        let mut directory = Directory::open(path)?;
        let own = device_of(&fs::fstat(&directory.fd)?);
        directory.stands_for = Some(StandsFor { own, said });
        Ok(directory)
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// As openat(2); `ENOTDIR` or `ELOOP` if it is none, `EINVAL` if this is no name.
    pub fn open_child(&self, name: &[u8]) -> Result<Directory, Errno> {
        one_name(name)?;
        self.open_below(name)
    }

    /// Opens the directory that this one is in.
    ///
    /// # Errors
    /// As openat(2).
    pub fn open_above(&self) -> Result<Directory, Errno> {
        self.open_below(b"..")
    }

    fn open_below(&self, name: &[u8]) -> Result<Directory, Errno> {
        let open = |extra| fs::openat(&self.fd, name, directory_flags() | extra, Mode::empty());
        quietly(open).map(|fd| Directory { fd, stands_for: self.stands_for })
    }

    /// Opens an absolute path step by step; no link is followed in any part of it.
    ///
    /// # Errors
    /// As openat(2).
    pub fn open_exactly(path: &Path) -> Result<Directory, Errno> {
        let mut directory = Directory::open(Path::new("/"))?;
        for part in path.components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => directory = directory.open_child(name.as_bytes())?,
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL),
            }
        }
        Ok(directory)
    }

    /// Opens a file in this directory for reading. Never waits for a pipe's other end.
    ///
    /// # Errors
    /// As openat(2); `ELOOP` if it is a symbolic link, `EINVAL` if this is no name.
    pub fn open_file(&self, name: &[u8]) -> Result<File, Errno> {
        one_name(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        quietly(|extra| fs::openat(&self.fd, name, flags | extra, Mode::empty())).map(File::from)
    }

    /// All names but `.` and `..`, sorted by their bytes.
    ///
    /// # Errors
    /// As getdents(2). A listing that breaks off is an error, never a shorter listing.
    pub fn names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Metadata of this directory itself.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn stat_self(&self) -> Result<Stat, Errno> {
        fs::fstat(&self.fd).map(|stat| self.said(stat))
    }

    /// Metadata of a file that was opened in this directory.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn stat_file(&self, file: &File) -> Result<Stat, Errno> {
        fs::fstat(file).map(|stat| self.said(stat))
    }

    fn said(&self, mut stat: Stat) -> Stat {
        if let Some(stands_for) = self.stands_for.filter(|stands_for| stands_for.own == device_of(&stat)) {
            stat.st_dev = stands_for.said as _;
        }
        stat
    }

    /// Metadata of a name; a link is not followed and nothing is mounted for it.
    ///
    /// # Errors
    /// As fstatat(2).
    pub fn stat(&self, name: &[u8]) -> Result<Stat, Errno> {
        fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
            .map(|stat| self.said(stat))
    }

    /// Where a symbolic link points to.
    ///
    /// # Errors
    /// As readlinkat(2).
    pub fn link_target(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        fs::readlinkat(&self.fd, name, Vec::new()).map(|target| target.into_bytes())
    }

    /// Extended attributes of a name that need not be readable (a link, a socket).
    ///
    /// # Errors
    /// [`XattrTrouble`].
    pub fn xattrs_of(&self, name: &[u8]) -> Result<Xattrs, XattrTrouble> {
        // There is no llistxattrat: the kernel's link to our open directory stands in for its path.
        let path =
            Path::new("/proc/self/fd").join(self.fd.as_raw_fd().to_string()).join(OsStr::from_bytes(name));
        collect(|buffer| fs::llistxattr(&path, buffer), |name, buffer| fs::lgetxattr(&path, name, buffer))
    }

    /// Extended attributes of this directory itself.
    ///
    /// # Errors
    /// [`XattrTrouble`].
    pub fn xattrs_of_self(&self) -> Result<Xattrs, XattrTrouble> {
        collect(
            |buffer| fs::flistxattr(&self.fd, buffer),
            |name, buffer| fs::fgetxattr(&self.fd, name, buffer),
        )
    }

    /// The type of the file system of this directory (statfs(2)); 0 if it cannot be told.
    #[allow(clippy::unnecessary_cast)] // Its width differs between architectures.
    pub fn file_system(&self) -> u64 {
        fs::fstatfs(&self.fd).map_or(0, |stat| stat.f_type as u64)
    }

    /// Whether the file system of this directory has no files of anybody (`/proc`, `/sys` and the like).
    #[allow(clippy::unnecessary_cast)] // Its width differs between architectures.
    pub fn is_pseudo(&self) -> bool {
        // proc, sysfs, devpts, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, mqueue, pstore, binfmt_misc
        const MAGIC: [i64; 12] = [
            0x9fa0,
            0x6265_6572,
            0x1cd1,
            0x27_e0eb,
            0x6367_7270,
            0x6462_6720,
            0x7472_6163,
            0x7363_6673,
            0xcafe_4a11,
            0x1980_0202,
            0x6165_676c,
            0x4249_4e4d,
        ];
        fs::fstatfs(&self.fd).is_ok_and(|stat| MAGIC.contains(&(stat.f_type as i64)))
    }
}

/// Extended attributes of an open file.
///
/// # Errors
/// [`XattrTrouble`].
pub fn xattrs_of_file(file: &File) -> Result<Xattrs, XattrTrouble> {
    collect(
        |buffer| fs::flistxattr(file.as_fd(), buffer),
        |name, buffer| fs::fgetxattr(file.as_fd(), name, buffer),
    )
}

#[allow(clippy::unnecessary_cast)] // Its width differs between architectures.
fn device_of(stat: &Stat) -> u64 {
    stat.st_dev as u64
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Refuses what would lead out of a directory.
fn one_name(name: &[u8]) -> Result<(), Errno> {
    if name == b".." || name.contains(&b'/') { Err(Errno::INVAL) } else { Ok(()) }
}

/// Opens without touching the access time where that is allowed (to the owner and to root).
fn quietly(open: impl Fn(OFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match open(OFlags::NOATIME) {
        Err(Errno::PERM) => open(OFlags::empty()),
        other => other,
    }
}

fn collect(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&OsStr, &mut [u8]) -> Result<usize, Errno>,
) -> Result<Xattrs, XattrTrouble> {
    // XATTR_LIST_MAX and XATTR_SIZE_MAX are both 64 KiB, so that one call each is enough. Most entries have none.
    let mut names = vec![0u8; 1024];
    let used = match list(&mut names) {
        Err(Errno::RANGE) => {
            names.resize(64 << 10, 0);
            list(&mut names)
        }
        other => other,
    };
    let used = match used {
        Ok(used) => used,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(XattrTrouble::Failed(error)),
    };
    let mut all: Xattrs = Vec::new();
    let mut total = 0;
    let mut value = Vec::new();
    for name in names[..used].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        value.resize(64 << 10, 0);
        match get(OsStr::from_bytes(name), &mut value) {
            Ok(length) => {
                total += name.len() + length + 8;
                if total > limits::XATTR_BYTES {
                    return Err(XattrTrouble::TooLarge);
                }
                all.push((name.to_vec(), value[..length].to_vec()));
            }
            // It went away between the two calls.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(XattrTrouble::Failed(error)),
        }
    }
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_is_one_name_and_no_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("in/below")).unwrap();
        for file in ["outside", "in/file", "in/below/file"] {
            std::fs::write(base.join(file), "x").unwrap();
        }
        let open = Directory::open_exactly(&base.join("in")).unwrap();
        assert!(open.open_file(b"file").is_ok() && open.open_child(b"below").is_ok());
        assert_eq!(open.open_above().unwrap().names().unwrap(), [b"in".to_vec(), b"outside".to_vec()]);
        let absolute = base.join("outside");
        for way in [b"../outside".as_slice(), b"below/file", b"/etc/passwd", absolute.as_os_str().as_bytes()]
        {
            assert_eq!(open.open_file(way).unwrap_err(), Errno::INVAL);
        }
        for way in [b"..".as_slice(), b"../in", b"/", b"below/"] {
            assert_eq!(open.open_child(way).unwrap_err(), Errno::INVAL);
        }
    }
}
