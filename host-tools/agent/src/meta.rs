//! From what the kernel says of a file to a node.

use mailkeep_format::{Meta, Node, NodeKind, Timestamp};
use rustix::fs::{FileType, Stat, major, minor};

use crate::dir::Xattrs;

/// What the kernel says of one file, in our types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Inode number.
    pub inode: u64,
    /// Device number.
    pub device: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
}

// The widths of `Stat` differ between architectures.
#[allow(clippy::unnecessary_cast)]
impl Facts {
    /// Those of a stat result.
    pub fn of(stat: &Stat) -> Facts {
        let time = |seconds: i64, nanos: u32| Timestamp { seconds, nanos: nanos.min(999_999_999) };
        Facts {
            inode: stat.st_ino as u64,
            device: stat.st_dev as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: time(stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            ctime: time(stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }

    /// Whether a file with these facts is the one of this node, in the same state. (A node has no device where the file
    /// has one name.)
    pub fn is_of(&self, node: &Node) -> bool {
        let meta = &node.meta;
        (self.inode, self.size, self.mtime, self.ctime) == (meta.inode, node.size(), meta.mtime, meta.ctime)
    }
}

/// The kind of a file.
pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The metadata of a node.
#[allow(clippy::unnecessary_cast)]
pub fn meta_of(stat: &Stat, xattrs: Xattrs) -> Meta {
    let facts = Facts::of(stat);
    // A directory's count follows from its contents.
    let links = if file_type(stat) == FileType::Directory { 1 } else { (stat.st_nlink as u32).max(1) };
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: facts.mtime,
        ctime: facts.ctime,
        inode: facts.inode,
        links,
        device: if links > 1 { facts.device } else { 0 },
        xattrs,
    }
}

/// The kind of a regular file of `size` bytes, without contents.
#[allow(clippy::unnecessary_cast)]
pub fn file_kind(stat: &Stat, size: u64) -> NodeKind {
    let stored = (stat.st_blocks as u64).saturating_mul(512);
    // Small files may lie in the inode itself, with no block at all.
    NodeKind::File {
        size,
        sparse: size > 64 << 10 && stored.saturating_add(4096) < size,
        content: Vec::new(),
    }
}

/// The kind of anything else; `target` is asked for where it is a symbolic link. `None` for what Linux does not know.
pub fn other_kind(stat: &Stat, target: Option<Vec<u8>>) -> Option<NodeKind> {
    let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
    Some(match file_type(stat) {
        FileType::Directory => NodeKind::Directory { content: Vec::new() },
        FileType::Symlink => NodeKind::Symlink { target: target? },
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
        FileType::CharacterDevice => NodeKind::CharDevice { major, minor },
        FileType::BlockDevice => NodeKind::BlockDevice { major, minor },
        FileType::RegularFile | FileType::Unknown => return None,
    })
}
