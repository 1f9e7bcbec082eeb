//! Nodes and trees: one directory with full POSIX metadata. Follows FORMAT.md, "Trees".
//!
//! A tree is the concatenation of its nodes in ascending order of their names' bytes, after one version byte. It has
//! exactly one encoding. Decoding takes untrusted bytes: names are checked to be plain names, so that no tree can lead
//! outside of the folder it is restored into.

mod skim;
mod stream;

use serde::{Deserialize, Serialize};

pub use skim::{Skimmed, TreeSkimmer};
pub use stream::{TreeDecoder, TreeEncoder};

use crate::codec::{Reader, put_bytes, put_signed, put_varint};
use crate::limits;
use crate::{ChunkId, FormatError};

/// First byte of every encoded tree.
pub const TREE_VERSION: u8 = 1;

/// A point in time as the file system keeps it: seconds since 1970 (may be negative) and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl Timestamp {
    /// The time this many seconds earlier, saturating.
    pub fn minus_seconds(self, seconds: i64) -> Self {
        Timestamp { seconds: self.seconds.saturating_sub(seconds), nanos: self.nanos }
    }
}

/// Where a piece of a file or tree is found, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkRef {
    /// The chunk.
    pub id: ChunkId,
    /// Its plain length in bytes.
    pub length: u32,
}

/// Extended attributes: name and value of each.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What every kind of file has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky (`st_mode & 0o7777`).
    pub mode: u32,
    /// Owner by number; names are in the manifest's owner table.
    pub uid: u32,
    /// Group by number.
    pub gid: u32,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last change of the inode; used for change detection only.
    pub ctime: Timestamp,
    /// Inode number; change detection, and with `device` the identity of hard links.
    pub inode: u64,
    /// Number of names; always 1 for directories, whose count is derived from their contents.
    pub links: u32,
    /// Device number; kept only where `links > 1`, else 0.
    pub device: u64,
    /// Extended attributes, sorted by name; POSIX ACLs are among them.
    pub xattrs: Xattrs,
}

/// The kind of a node, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File {
        /// Length in bytes; equals the sum of the chunks' lengths once `content` is filled.
        size: u64,
        /// It had holes: zeros may be restored as holes.
        sparse: bool,
        /// Its contents in order.
        content: Vec<ChunkRef>,
    },
    /// A directory; `content` is its encoded tree, cut like a file.
    Directory {
        /// The chunks of its encoded tree.
        content: Vec<ChunkRef>,
    },
    /// A symbolic link.
    Symlink {
        /// Its target, any bytes but NUL.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A socket file.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The name: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.
    pub name: Vec<u8>,
    /// Metadata.
    pub meta: Meta,
    /// Kind and contents.
    pub kind: NodeKind,
}

impl Node {
    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, NodeKind::Directory { .. })
    }

    /// Whether this is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, NodeKind::File { .. })
    }

    /// Length of a regular file in bytes, else 0.
    pub fn size(&self) -> u64 {
        match self.kind {
            NodeKind::File { size, .. } => size,
            _ => 0,
        }
    }

    /// The chunks of a file or directory; empty for all else.
    pub fn content(&self) -> &[ChunkRef] {
        match &self.kind {
            NodeKind::File { content, .. } | NodeKind::Directory { content } => content,
            _ => &[],
        }
    }

    /// Appends the encoding of this node.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Meta { mode, uid, gid, mtime, ctime, inode, links, device, xattrs } = &self.meta;
        out.push(self.kind_byte());
        put_bytes(out, &self.name);
        put_varint(out, u64::from(*mode));
        put_varint(out, u64::from(*uid));
        put_varint(out, u64::from(*gid));
        for time in [mtime, ctime] {
            put_signed(out, time.seconds);
            put_varint(out, u64::from(time.nanos));
        }
        put_varint(out, *inode);
        put_varint(out, u64::from(*links));
        if *links > 1 {
            put_varint(out, *device);
        }
        put_varint(out, xattrs.len() as u64);
        for (name, value) in xattrs {
            put_bytes(out, name);
            put_bytes(out, value);
        }
        match &self.kind {
            NodeKind::File { size, sparse: _, content } => {
                put_varint(out, *size);
                put_content(out, content);
            }
            NodeKind::Directory { content } => put_content(out, content),
            NodeKind::Symlink { target } => put_bytes(out, target),
            NodeKind::Fifo | NodeKind::Socket => {}
            NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor } => {
                put_varint(out, u64::from(*major));
                put_varint(out, u64::from(*minor));
            }
        }
    }

    /// Takes one node off `reader`.
    ///
    /// # Errors
    /// [`FormatError`] for anything that [`Node::encode`] cannot have written.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let kind_byte = reader.byte("node kind")?;
        let name = reader.bytes(limits::NAME_MAX, "node name")?.to_vec();
        check_name(&name)?;
        let mode = reader.varint32("node mode")?;
        if mode > 0o7777 {
            return Err(FormatError::malformed("node mode", "more than permission bits"));
        }
        let uid = reader.varint32("node owner")?;
        let gid = reader.varint32("node group")?;
        let mtime = take_time(reader)?;
        let ctime = take_time(reader)?;
        let inode = reader.varint("node inode")?;
        let links = reader.varint32("node link count")?;
        if links == 0 {
            return Err(FormatError::malformed("node link count", "zero"));
        }
        let device = if links > 1 { reader.varint("node device")? } else { 0 };
        let xattrs = take_xattrs(reader)?;
        let kind = take_kind(kind_byte, reader)?;
        let meta = Meta { mode, uid, gid, mtime, ctime, inode, links, device, xattrs };
        Ok(Node { name, meta, kind })
    }

    fn kind_byte(&self) -> u8 {
        match self.kind {
            NodeKind::File { sparse: false, .. } => 0,
            NodeKind::File { sparse: true, .. } => 1,
            NodeKind::Directory { .. } => 2,
            NodeKind::Symlink { .. } => 3,
            NodeKind::Fifo => 4,
            NodeKind::Socket => 5,
            NodeKind::CharDevice { .. } => 6,
            NodeKind::BlockDevice { .. } => 7,
        }
    }
}

/// Encodes a directory.
///
/// # Errors
/// The nodes are not in strictly ascending order of their names, or a name is not a plain name.
pub fn encode_tree(nodes: &[Node]) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::with_capacity(64 + nodes.len() * 96);
    out.push(TREE_VERSION);
    let mut previous: Option<&[u8]> = None;
    for node in nodes {
        check_name(&node.name)?;
        check_order(previous, &node.name)?;
        previous = Some(&node.name);
        node.encode(&mut out);
    }
    Ok(out)
}

/// Decodes a whole directory.
///
/// # Errors
/// [`FormatError`] for anything that [`encode_tree`] cannot have written.
pub fn decode_tree(bytes: &[u8]) -> Result<Vec<Node>, FormatError> {
    let mut reader = Reader::new(bytes);
    let version = reader.byte("tree version")?;
    if version != TREE_VERSION {
        return Err(FormatError::malformed("tree", format!("version {version} is unknown")));
    }
    let mut nodes: Vec<Node> = Vec::new();
    while reader.remaining() > 0 {
        let node = Node::decode(&mut reader)?;
        check_order(nodes.last().map(|last| last.name.as_slice()), &node.name)?;
        nodes.push(node);
    }
    Ok(nodes)
}

/// Checks that `name` is a plain file name that cannot lead elsewhere.
///
/// # Errors
/// [`FormatError::Malformed`] for an empty or overlong name, `.`, `..`, or one with `/` or NUL.
pub fn check_name(name: &[u8]) -> Result<(), FormatError> {
    let bad = name.is_empty()
        || name.len() > limits::NAME_MAX
        || name == b"."
        || name == b".."
        || name.contains(&b'/')
        || name.contains(&0);
    if bad {
        let shown: String = String::from_utf8_lossy(name).chars().take(40).collect();
        return Err(FormatError::malformed("node name", format!("{shown:?} is not a plain file name")));
    }
    Ok(())
}

fn check_order(previous: Option<&[u8]>, name: &[u8]) -> Result<(), FormatError> {
    match previous {
        Some(previous) if previous >= name => {
            Err(FormatError::malformed("tree", "names are not in strictly ascending order"))
        }
        _ => Ok(()),
    }
}

fn put_content(out: &mut Vec<u8>, content: &[ChunkRef]) {
    put_varint(out, content.len() as u64);
    for chunk in content {
        out.extend_from_slice(&chunk.id.0);
        put_varint(out, u64::from(chunk.length));
    }
}

fn take_content(reader: &mut Reader<'_>) -> Result<Vec<ChunkRef>, FormatError> {
    let what = "node contents";
    let count = reader.varint(what)?;
    if count > limits::CHUNKS_PER_FILE_MAX {
        return Err(FormatError::TooLarge { what, declared: count, limit: limits::CHUNKS_PER_FILE_MAX });
    }
    // Checked before any memory is reserved. A stream may have more to come.
    if count > (reader.remaining() / (ChunkId::LEN + 1)) as u64 {
        return Err(FormatError::Truncated { what });
    }
    let mut content = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let id = ChunkId(reader.array(what)?);
        let length = reader.varint32(what)?;
        if length == 0 {
            return Err(FormatError::malformed("chunk length", "zero"));
        }
        if length as usize > limits::CHUNK_MAX {
            return Err(FormatError::TooLarge {
                what: "chunk length",
                declared: u64::from(length),
                limit: limits::CHUNK_MAX as u64,
            });
        }
        content.push(ChunkRef { id, length });
    }
    Ok(content)
}

fn take_time(reader: &mut Reader<'_>) -> Result<Timestamp, FormatError> {
    let seconds = reader.signed("node time")?;
    let nanos = reader.varint32("node time")?;
    if nanos > 999_999_999 {
        return Err(FormatError::malformed("node time", "a second or more of nanoseconds"));
    }
    Ok(Timestamp { seconds, nanos })
}

fn take_xattrs(reader: &mut Reader<'_>) -> Result<Xattrs, FormatError> {
    let what = "extended attributes";
    let count = reader.varint(what)?;
    if count > limits::XATTR_COUNT_MAX as u64 {
        return Err(FormatError::TooLarge { what, declared: count, limit: limits::XATTR_COUNT_MAX as u64 });
    }
    let mut xattrs: Xattrs = Vec::new();
    for _ in 0..count {
        let name = reader.bytes(limits::NAME_MAX, what)?.to_vec();
        let value = reader.bytes(limits::XATTR_VALUE_MAX, what)?.to_vec();
        let ordered = xattrs.last().is_none_or(|(last, _)| *last < name);
        if name.is_empty() || name.contains(&0) || !ordered {
            return Err(FormatError::malformed(what, "empty, unordered or repeated name"));
        }
        xattrs.push((name, value));
    }
    Ok(xattrs)
}

fn take_kind(byte: u8, reader: &mut Reader<'_>) -> Result<NodeKind, FormatError> {
    Ok(match byte {
        0 | 1 => NodeKind::File {
            size: reader.varint("file size")?,
            sparse: byte == 1,
            content: take_content(reader)?,
        },
        2 => NodeKind::Directory { content: take_content(reader)? },
        3 => {
            let target = reader.bytes(limits::TARGET_MAX, "symlink target")?.to_vec();
            if target.is_empty() || target.contains(&0) {
                return Err(FormatError::malformed("symlink target", "empty or with a NUL"));
            }
            NodeKind::Symlink { target }
        }
        4 => NodeKind::Fifo,
        5 => NodeKind::Socket,
        6 => NodeKind::CharDevice {
            major: reader.varint32("device major")?,
            minor: reader.varint32("device minor")?,
        },
        7 => NodeKind::BlockDevice {
            major: reader.varint32("device major")?,
            minor: reader.varint32("device minor")?,
        },
        other => return Err(FormatError::malformed("node kind", format!("{other} is unknown"))),
    })
}
