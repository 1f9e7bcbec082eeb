//! Sets owner, attributes, mode and times of what was restored, in the order that keeps them.
//!
//! Owner first: a change of owner clears setuid bits and file capabilities. Attributes (ACLs among them) next, mode
//! after them, times last. If the owner cannot be what the snapshot says, setuid and setgid are left out, since they
//! would lend the wrong account's power.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mailkeep_format::{Meta, Node, NodeKind, Timestamp};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::{Errno, Result};

use crate::Owners;
use crate::decide::Existing;
use crate::path::show;
use crate::target::proc_path;

/// What metadata is set on.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// An open file or folder.
    Open(BorrowedFd<'a>),
    /// Something that cannot be opened: a link, pipe, socket or device, under a name in a folder.
    Named {
        folder: BorrowedFd<'a>,
        name: &'a [u8],
        /// Links have no mode.
        link: bool,
    },
}

/// What could not be set, short of an error.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shortfall {
    /// Owner or group is not what it should be.
    pub(crate) owner: bool,
    /// Other things, one line each.
    pub(crate) notes: Vec<String>,
}

/// Sets all metadata of `meta`.
///
/// # Errors
/// Mode or times could not be set at all.
pub(crate) fn settle(subject: Subject<'_>, meta: &Meta, owners: &Owners) -> Result<Shortfall> {
    let mut short = Shortfall { owner: !set_owner(subject, meta, owners)?, notes: Vec::new() };
    set_xattrs(subject, meta, owners, &mut short.notes);
    let mode = mode_of(meta, &mut short);
    set_mode(subject, mode)?;
    finish_time(subject, meta, &mut short)?;
    Ok(short)
}

fn mode_of(meta: &Meta, short: &mut Shortfall) -> u32 {
    let mode = if short.owner { meta.mode & !0o6000 } else { meta.mode };
    if mode != meta.mode {
        short.notes.push("setuid or setgid left out, since its owner could not be set".to_owned());
    }
    mode
}

fn finish_time(subject: Subject<'_>, meta: &Meta, short: &mut Shortfall) -> Result<()> {
    set_time(subject, meta.mtime)?;
    // Far years are cut off by some file systems without an error.
    if i32::try_from(meta.mtime.seconds).is_err() && read(subject)?.mtime != meta.mtime {
        short.notes.push("this file system cannot hold its modification time".to_owned());
    }
    Ok(())
}

/// Sets the owner of a file that was just made and is empty, so that nobody else can ever read what is written to it.
/// `is` is what it has. Returns whether the owner is as it should be.
///
/// # Errors
/// As [`settle`].
pub(crate) fn own_new(file: BorrowedFd<'_>, is: &Existing, meta: &Meta, owners: &Owners) -> Result<bool> {
    if is.uid == owners.user(meta.uid) && is.gid == owners.group(meta.gid) {
        return Ok(true);
    }
    set_owner(Subject::Open(file), meta, owners)
}

/// Sets the rest of the metadata of a file that was made with mode `made_with` and has its owner (or not, if not
/// `owned`): only what is not so already.
///
/// # Errors
/// As [`settle`].
pub(crate) fn settle_new(
    file: BorrowedFd<'_>,
    made_with: u32,
    owned: bool,
    inherits: bool,
    meta: &Meta,
    owners: &Owners,
) -> Result<Shortfall> {
    let subject = Subject::Open(file);
    let mut short = Shortfall { owner: !owned, notes: Vec::new() };
    let attributes = inherits || !meta.xattrs.is_empty();
    if attributes {
        set_xattrs(subject, meta, owners, &mut short.notes);
    }
    let mode = mode_of(meta, &mut short);
    if attributes || made_with != mode {
        set_mode(subject, mode)?;
    }
    finish_time(subject, meta, &mut short)?;
    Ok(short)
}

/// Whether a folder may give attributes to new files in it.
pub(crate) fn hands_down(folder: BorrowedFd<'_>) -> bool {
    match xattr_names(Subject::Open(folder)) {
        Ok(names) => names.iter().any(|name| name.starts_with(b"system.posix_acl_")),
        Err(error) => error != Errno::OPNOTSUPP,
    }
}

/// What is not as a snapshot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Differences {
    /// Owner or group.
    pub(crate) owner: bool,
    /// The mode; setuid and setgid do not count where the owner is another one.
    pub(crate) mode: bool,
    /// Extended attributes.
    pub(crate) attributes: bool,
}

/// Holds mode, owner and attributes against what `meta` says.
pub(crate) fn differences(
    subject: Subject<'_>,
    there: &Existing,
    meta: &Meta,
    owners: &Owners,
) -> Differences {
    let link = matches!(subject, Subject::Named { link: true, .. });
    let owner = there.uid != owners.user(meta.uid) || there.gid != owners.group(meta.gid);
    let mode = if owner { meta.mode & !0o6000 } else { meta.mode };
    let attributes = xattr_names(subject).is_ok_and(|names| {
        let surplus =
            |name: &Vec<u8>| is_exact(name) && !meta.xattrs.iter().any(|(wanted, _)| wanted == name);
        let differs = |(name, value): &(Vec<u8>, Vec<u8>)| {
            !get_xattr(subject, name).is_ok_and(|is| is == owners.translate_xattr(name, value))
        };
        names.iter().any(surplus) || meta.xattrs.iter().any(differs)
    });
    Differences { owner, mode: !link && there.mode != mode, attributes }
}

/// Whether mode, owner and attributes are what `meta` says.
pub(crate) fn is_settled(subject: Subject<'_>, there: &Existing, meta: &Meta, owners: &Owners) -> bool {
    let Differences { owner, mode, attributes } = differences(subject, there, meta, owners);
    !(owner || mode || attributes)
}

/// Returns whether the owner is as it should be afterwards.
fn set_owner(subject: Subject<'_>, meta: &Meta, owners: &Owners) -> Result<bool> {
    let (user, group) = (owners.user(meta.uid), owners.group(meta.gid));
    let chown = |user: Option<u32>, group: Option<u32>| {
        let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        match subject {
            Subject::Open(fd) => rustix::fs::fchown(fd, user, group),
            Subject::Named { folder, name, .. } => {
                rustix::fs::chownat(folder, name, user, group, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    };
    // The number that means "leave alone" to the kernel is no owner.
    if user == u32::MAX || group == u32::MAX {
        return Ok(false);
    }
    match chown(Some(user), Some(group)) {
        Ok(()) => Ok(true),
        // Not root, or a file system without owners: the group alone may still be ours to give.
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => {
            let _ = chown(None, Some(group));
            let is = read(subject)?;
            Ok(is.uid == user && is.gid == group)
        }
        Err(error) => Err(error),
    }
}

fn set_mode(subject: Subject<'_>, mode: u32) -> Result<()> {
    let mode = Mode::from_raw_mode(mode);
    match subject {
        Subject::Open(fd) => rustix::fs::fchmod(fd, mode),
        Subject::Named { link: true, .. } => Ok(()),
        Subject::Named { folder, name, link: false } => {
            // chmod has no form that refuses links; a descriptor that was opened without following one does.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(folder, name, flags, Mode::empty())?;
            rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)
        }
    }
}

fn set_time(subject: Subject<'_>, time: Timestamp) -> Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() },
    };
    match subject {
        Subject::Open(fd) => rustix::fs::futimens(fd, &times),
        Subject::Named { folder, name, .. } => {
            rustix::fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

fn read(subject: Subject<'_>) -> Result<Existing> {
    match subject {
        Subject::Open(fd) => rustix::fs::fstat(fd),
        Subject::Named { folder, name, .. } => rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW),
    }
    .map(|stat| Existing::from(&stat))
}

/// Attributes that are made equal to the snapshot's, so also removed; the rest belongs to this machine (SELinux).
fn is_exact(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_")
}

fn set_xattrs(subject: Subject<'_>, meta: &Meta, owners: &Owners, notes: &mut Vec<String>) {
    // What is there came from a parent's default ACL, or from before.
    for name in xattr_names(subject).unwrap_or_default() {
        if is_exact(&name) && !meta.xattrs.iter().any(|(wanted, _)| *wanted == name) {
            if let Err(error) = remove_xattr(subject, &name) {
                notes.push(format!("attribute {} could not be removed: {error}", show(&name)));
            }
        }
    }
    for (name, value) in &meta.xattrs {
        if let Err(error) = put_xattr(subject, name, &owners.translate_xattr(name, value)) {
            notes.push(format!("attribute {} could not be set: {}", show(name), why(error)));
        }
    }
}

fn why(error: Errno) -> String {
    match error {
        Errno::OPNOTSUPP => "not supported by this file system".to_owned(),
        Errno::PERM => "needs root".to_owned(),
        other => other.to_string(),
    }
}

fn put_xattr(subject: Subject<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    match subject {
        Subject::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
        Subject::Named { folder, name: file, .. } => {
            rustix::fs::lsetxattr(proc_path(folder, file), name, value, XattrFlags::empty())
        }
    }
}

fn remove_xattr(subject: Subject<'_>, name: &[u8]) -> Result<()> {
    match subject {
        Subject::Open(fd) => rustix::fs::fremovexattr(fd, name),
        Subject::Named { folder, name: file, .. } => rustix::fs::lremovexattr(proc_path(folder, file), name),
    }
}

fn get_xattr(subject: Subject<'_>, name: &[u8]) -> Result<Vec<u8>> {
    let get = |buffer: &mut [u8]| match subject {
        Subject::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
        Subject::Named { folder, name: file, .. } => {
            rustix::fs::lgetxattr(proc_path(folder, file), name, buffer)
        }
    };
    sized(get)
}

/// Names of the attributes that are there.
fn xattr_names(subject: Subject<'_>) -> Result<Vec<Vec<u8>>> {
    let list = |buffer: &mut [u8]| match subject {
        Subject::Open(fd) => rustix::fs::flistxattr(fd, buffer),
        Subject::Named { folder, name, .. } => rustix::fs::llistxattr(proc_path(folder, name), buffer),
    };
    let names = sized(list)?;
    Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Calls with a small buffer first (most files have no attributes), then with the largest that Linux allows.
fn sized(call: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut small = [0u8; 256];
    match call(&mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0u8; 65_536];
            let length = call(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

/// An open file or folder as a subject.
pub(crate) fn open(fd: &impl AsFd) -> Subject<'_> {
    Subject::Open(fd.as_fd())
}

/// The name of `node` in `folder` as a subject.
pub(crate) fn named<'a>(folder: &'a impl AsFd, node: &'a Node) -> Subject<'a> {
    let link = matches!(node.kind, NodeKind::Symlink { .. });
    Subject::Named { folder: folder.as_fd(), name: &node.name, link }
}
