//! A node's metadata as FUSE wants it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType};
use mailkeep_restorer::format::{Node, NodeKind, Timestamp};

/// Block size that is told to programs; reads of this size suit the cache below.
const BLOCK: u32 = 128 << 10;
/// Seconds from 1970; about 35,000 years to either side.
const FARTHEST: i64 = 1 << 40;

/// Attributes of `node` under inode number `ino`.
pub(crate) fn of_node(ino: u64, node: &Node) -> FileAttr {
    let meta = &node.meta;
    let mtime = time(meta.mtime);
    let rdev = match node.kind {
        NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor } => {
            encode_device(major, minor)
        }
        _ => 0,
    };
    let size = match &node.kind {
        NodeKind::File { size, .. } => *size,
        NodeKind::Symlink { target } => target.len() as u64,
        _ => 0,
    };
    FileAttr {
        ino,
        size,
        blocks: size.div_ceil(512),
        atime: mtime,
        mtime,
        ctime: time(meta.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(node),
        perm: (meta.mode & 0o7777) as u16,
        nlink: if node.is_directory() { 2 } else { meta.links },
        uid: meta.uid,
        gid: meta.gid,
        rdev,
        blksize: BLOCK,
        flags: 0,
    }
}

/// Attributes of a folder (or link) that this file system makes up.
pub(crate) fn made_up(ino: u64, kind: FileType, changed: i64, owner: (u32, u32)) -> FileAttr {
    let mtime = time(Timestamp { seconds: changed, nanos: 0 });
    let perm = if kind == FileType::Symlink { 0o777 } else { 0o555 };
    FileAttr {
        ino,
        size: 0,
        blocks: 0,
        atime: mtime,
        mtime,
        ctime: mtime,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 2,
        uid: owner.0,
        gid: owner.1,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

/// The file type of a node.
pub(crate) fn kind(node: &Node) -> FileType {
    match node.kind {
        NodeKind::File { .. } => FileType::RegularFile,
        NodeKind::Directory { .. } => FileType::Directory,
        NodeKind::Symlink { .. } => FileType::Symlink,
        NodeKind::Fifo => FileType::NamedPipe,
        NodeKind::Socket => FileType::Socket,
        NodeKind::CharDevice { .. } => FileType::CharDevice,
        NodeKind::BlockDevice { .. } => FileType::BlockDevice,
    }
}

/// Times before 1970 too. What no file system can hold (a hostile snapshot may say it) is cut off.
///
/// [`fuser`] 0.15 takes a time before 1970 apart as its distance and negates the seconds only, so the distance is made
/// of the seconds and nanoseconds that are to arrive; and the smallest number does not survive being negated.
fn time(time: Timestamp) -> SystemTime {
    let seconds = time.seconds.clamp(-FARTHEST, FARTHEST);
    let distance = Duration::new(seconds.unsigned_abs(), time.nanos.min(999_999_999));
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// The kernel's `new_encode_dev` (include/linux/kdev_t.h), which FUSE speaks.
fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_off_where_fuser_could_not_take_them() {
        let later = time(Timestamp { seconds: 10_413_792_000, nanos: 5 });
        assert_eq!(later.duration_since(UNIX_EPOCH).ok(), Some(Duration::new(10_413_792_000, 5)));
        let never = time(Timestamp { seconds: i64::MIN, nanos: 0 });
        assert_eq!(UNIX_EPOCH.duration_since(never).ok(), Some(Duration::from_secs(1 << 40)));
    }

    #[test]
    fn device_numbers_are_packed_as_the_kernel_does() {
        assert_eq!(encode_device(1, 3), 0x103);
        assert_eq!(encode_device(259, 0x12345), 0x12310345);
    }
}
