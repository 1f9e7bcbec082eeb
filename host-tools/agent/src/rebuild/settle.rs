//! Metadata of what was built: owners by name, modes, attributes, times. The owner goes first, since a change of owner
//! takes bits of the mode away; times go last.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use mailkeep_format::{Meta, Node, NodeKind, Timestamp};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown, fsetxattr,
    futimens, mknodat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::dir::Directory;
use crate::owners::{self, Names};

/// Numbers of the snapshot that have another number here.
#[derive(Debug, Default)]
pub struct Owners {
    users: HashMap<u32, u32>,
    groups: HashMap<u32, u32>,
}

impl Owners {
    /// By the names that this machine knows; a number without a name, or whose name nobody has here, stays.
    pub fn by_name(users: &Names, groups: &Names) -> Owners {
        Owners { users: owners::here("passwd", users), groups: owners::here("group", groups) }
    }

    /// Owner and group here.
    pub fn of(&self, meta: &Meta) -> (u32, u32) {
        let of = |map: &HashMap<u32, u32>, id: u32| map.get(&id).copied().unwrap_or(id);
        (of(&self.users, meta.uid), of(&self.groups, meta.gid))
    }
}

fn times(meta: &Meta) -> Timestamps {
    let Timestamp { seconds, nanos } = meta.mtime;
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn owner(owners: &Owners, meta: &Meta) -> (Option<Uid>, Option<Gid>) {
    let (uid, gid) = owners.of(meta);
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// Rights that a program has of its own.
const CAPABILITY: &[u8] = b"security.capability";

/// Gives an open file or folder its metadata. What mail has needs no file that runs as somebody else or with more rights: of
/// a file such bits are left out, and such attributes. Tells which attributes could not be set.
///
/// # Errors
/// As fchown(2), fchmod(2), futimens(3).
pub fn settle(fd: impl AsFd, node: &Node, owners: &Owners) -> Result<Vec<String>, Errno> {
    let meta = &node.meta;
    let fd = fd.as_fd();
    let (uid, gid) = owner(owners, meta);
    fchown(fd, uid, gid)?;
    let bits = if node.is_directory() { 0o7777 } else { 0o1777 };
    fchmod(fd, Mode::from_raw_mode(meta.mode & bits))?;
    let mut short = Vec::new();
    for (name, value) in meta.xattrs.iter().filter(|(name, _)| name != CAPABILITY) {
        let name = OsStr::from_bytes(name);
        if let Err(error) = fsetxattr(fd, name, value, XattrFlags::empty()) {
            short.push(format!("attribute {}: {error}", name.to_string_lossy()));
        }
    }
    futimens(fd, &times(meta))?;
    Ok(short)
}

/// Makes what is neither file nor folder; false for what is not made: devices.
///
/// # Errors
/// As symlinkat(2), mknodat(2) and the like.
pub fn make(folder: &Directory, node: &Node, owners: &Owners) -> Result<bool, Errno> {
    let name = node.name.as_slice();
    let mode = Mode::from_raw_mode(node.meta.mode & 0o777);
    match &node.kind {
        NodeKind::Symlink { target } => symlinkat(target.as_slice(), folder, name)?,
        NodeKind::Fifo => mknodat(folder, name, FileType::Fifo, mode, 0)?,
        NodeKind::Socket => mknodat(folder, name, FileType::Socket, mode, 0)?,
        _ => return Ok(false),
    }
    let (uid, gid) = owner(owners, &node.meta);
    chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    utimensat(folder, name, &times(&node.meta), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use rustix::fs::fgetxattr;

    use super::*;

    #[test]
    fn no_file_comes_back_that_runs_with_other_rights() {
        let file = tempfile::tempfile().unwrap();
        let own = file.metadata().unwrap();
        use std::os::unix::fs::MetadataExt;
        // As setcap(8) writes it: version 2, effective, cap_setuid.
        let mut value = vec![1, 0, 0, 2, 0x80];
        value.resize(20, 0);
        let xattrs = vec![(CAPABILITY.to_vec(), value.clone()), (b"user.note".to_vec(), b"x".to_vec())];
        let meta = Meta { mode: 0o6755, uid: own.uid(), gid: own.gid(), links: 1, xattrs, ..Meta::default() };
        let kind = NodeKind::File { size: 0, sparse: false, content: Vec::new() };
        let node = Node { name: b"program".to_vec(), meta, kind };
        let short = settle(&file, &node, &Owners::default()).unwrap();
        assert!(short.iter().all(|what| what.starts_with("attribute user.note")), "{short:?}");
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o755);
        let mut told = vec![0; 64];
        assert!(fgetxattr(&file, OsStr::from_bytes(CAPABILITY), &mut told).is_err());
    }
}
