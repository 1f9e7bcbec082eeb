//! What to do with one name: a pure function of the snapshot's node, what stands in the target, and the policy.

use mailkeep_format::{Node, NodeKind, Timestamp};
use rustix::fs::{FileType, Stat};

/// What happens to a file that is already there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// It is replaced.
    #[default]
    Always,
    /// It is replaced unless it has the same kind, size and modification time.
    IfChanged,
    /// It is kept.
    Never,
}

/// What stands in the target under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Existing {
    pub(crate) kind: FileType,
    pub(crate) size: u64,
    pub(crate) mtime: Timestamp,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Device and inode: which file it is.
    pub(crate) file: (u64, u64),
    /// Device numbers, for device files.
    pub(crate) rdev: u64,
}

impl From<&Stat> for Existing {
    fn from(stat: &Stat) -> Self {
        Existing {
            kind: FileType::from_raw_mode(stat.st_mode),
            size: stat.st_size as u64,
            mtime: Timestamp { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            file: (stat.st_dev, stat.st_ino),
            rdev: stat.st_rdev,
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is there: make it.
    Create,
    /// Something is there: put the snapshot's in its place.
    Replace,
    /// A folder is there where a folder belongs: go on inside.
    Enter,
    /// What is there is the same already.
    Same,
    /// The policy keeps what is there.
    Keep,
    /// The policy keeps something under which a whole folder belongs.
    InTheWay,
}

pub(crate) fn decide(node: &Node, existing: Option<&Existing>, overwrite: Overwrite) -> Verdict {
    let Some(existing) = existing else { return Verdict::Create };
    if node.is_directory() {
        return match (existing.kind, overwrite) {
            (FileType::Directory, _) => Verdict::Enter,
            (_, Overwrite::Never) => Verdict::InTheWay,
            _ => Verdict::Replace,
        };
    }
    match overwrite {
        Overwrite::Never => Verdict::Keep,
        Overwrite::IfChanged if same(node, existing) => Verdict::Same,
        _ => Verdict::Replace,
    }
}

/// Same kind, size and modification time.
fn same(node: &Node, existing: &Existing) -> bool {
    let kind = existing.kind == file_type(node)
        && match &node.kind {
            NodeKind::File { size, .. } => existing.size == *size,
            NodeKind::Symlink { target } => existing.size == target.len() as u64,
            NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor } => {
                existing.rdev == rustix::fs::makedev(*major, *minor)
            }
            _ => true,
        };
    kind && existing.mtime == node.meta.mtime
}

/// The type that a node has as a file.
pub(crate) fn file_type(node: &Node) -> FileType {
    match node.kind {
        NodeKind::File { .. } => FileType::RegularFile,
        NodeKind::Directory { .. } => FileType::Directory,
        NodeKind::Symlink { .. } => FileType::Symlink,
        NodeKind::Fifo => FileType::Fifo,
        NodeKind::Socket => FileType::Socket,
        NodeKind::CharDevice { .. } => FileType::CharacterDevice,
        NodeKind::BlockDevice { .. } => FileType::BlockDevice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailkeep_format::Meta;

    fn node(kind: NodeKind) -> Node {
        let mtime = Timestamp { seconds: -5, nanos: 7 };
        Node { name: b"n".to_vec(), meta: Meta { mtime, links: 1, ..Meta::default() }, kind }
    }

    fn file(size: u64) -> Node {
        node(NodeKind::File { size, sparse: false, content: Vec::new() })
    }

    fn existing(kind: FileType, size: u64) -> Existing {
        let mtime = Timestamp { seconds: -5, nanos: 7 };
        Existing { kind, size, mtime, mode: 0, uid: 0, gid: 0, file: (1, 1), rdev: 0 }
    }

    #[test]
    fn the_policy_decides_over_files() {
        let there = existing(FileType::RegularFile, 3);
        for (overwrite, size, verdict) in [
            (Overwrite::Always, 3, Verdict::Replace),
            (Overwrite::IfChanged, 3, Verdict::Same),
            (Overwrite::IfChanged, 4, Verdict::Replace),
            (Overwrite::Never, 4, Verdict::Keep),
        ] {
            assert_eq!(decide(&file(size), Some(&there), overwrite), verdict, "{overwrite:?} {size}");
            assert_eq!(decide(&file(size), None, overwrite), Verdict::Create);
        }
        let older = Existing { mtime: Timestamp { seconds: -5, nanos: 6 }, ..there };
        assert_eq!(decide(&file(3), Some(&older), Overwrite::IfChanged), Verdict::Replace);
    }

    #[test]
    fn a_link_in_a_folders_place_is_never_entered() {
        let folder = node(NodeKind::Directory { content: Vec::new() });
        let link = existing(FileType::Symlink, 4);
        assert_eq!(decide(&folder, Some(&link), Overwrite::Always), Verdict::Replace);
        assert_eq!(decide(&folder, Some(&link), Overwrite::IfChanged), Verdict::Replace);
        assert_eq!(decide(&folder, Some(&link), Overwrite::Never), Verdict::InTheWay);
        let there = existing(FileType::Directory, 4096);
        assert_eq!(decide(&folder, Some(&there), Overwrite::Never), Verdict::Enter);
    }

    #[test]
    fn another_kind_is_never_the_same() {
        let link = node(NodeKind::Symlink { target: b"abc".to_vec() });
        let file_there = existing(FileType::RegularFile, 3);
        assert_eq!(decide(&link, Some(&file_there), Overwrite::IfChanged), Verdict::Replace);
        let device = node(NodeKind::CharDevice { major: 1, minor: 3 });
        let null = Existing { rdev: rustix::fs::makedev(1, 3), ..existing(FileType::CharacterDevice, 0) };
        assert_eq!(decide(&device, Some(&null), Overwrite::IfChanged), Verdict::Same);
        let zero = Existing { rdev: rustix::fs::makedev(1, 5), ..null };
        assert_eq!(decide(&device, Some(&zero), Overwrite::IfChanged), Verdict::Replace);
    }
}
