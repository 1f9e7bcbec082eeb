//! The words of a whole server's way back, from version [`crate::version::REBUILD`] on, for the role that restores.
//!
//! ```text
//! box                                   agent
//! Trees                          →
//!                                ←      Trees             what would be rebuilt, what is beside it, how mail is stopped
//! Raise                          →                        begin to build beside (or only to look: `trial`)
//!   Folder, then its Lays        →
//!                                ←      Held              one per Lay: hashes of what is here already
//!   Fill …, then Settle          →                        what is not; the names of that Lay are complete
//!                                ←      Took              now and then, so that the box stays ahead by a bounded number of bytes
//!   Seal                         →                        the folder is complete
//! Raised                         →
//!                                ←      Raised            built and durable
//! List …                         →                        for a server of another Cyrus: the exported list of mailboxes
//!                                ←      Listed            mailboxes.db was made of it, beside
//! Swap                           →                        guard armed, mail stopped, trees exchanged, mail started
//!                                ←      Swapped
//! Look                           →
//!                                ←      Looked            what the server shows now
//! ```
//! `Drop` removes what is kept beside, `Promote` starts mail on a standby; both are answered by [`Done`].
//!
//! What the box wants built is a tree of nodes without contents. It never names a path: a tree is one that the agent has
//! listed, a folder is one name in a folder that was said before. What is here already is told by hashes of the very pieces
//! that the box has, so that nothing depends on how either side would cut a file.

use mailkeep_format::codec::{Reader, put_varint};
use mailkeep_format::{ContentHash, FormatError, Node, limits as format_limits};
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::shared::SharedBytes;

/// What a server that is to be rebuilt is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trees {
    /// What is rebuilt, in the order in which it is numbered.
    pub trees: Vec<Tree>,
    /// Folders that the mail system's configuration names, by the key that does, also those within a tree.
    pub folders: Vec<(String, String)>,
    /// Settings that say how its files are laid out and written, by their keys.
    pub shape: Vec<(String, String)>,
    /// How mail is stopped, in words.
    pub stop: String,
    /// Mail runs; `None` if there is no way to know.
    pub runs: Option<bool>,
    /// The snapshot that this server is a standby with.
    pub standby: Option<String>,
    /// The source file says that this is a standby.
    pub may_stand_by: bool,
    /// Trees of an earlier restore that are kept beside.
    pub kept: Vec<String>,
    /// Of which snapshot, if there are.
    pub kept_of: Option<String>,
}

/// One tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// The key of the mail system's configuration that names it.
    pub role: String,
    /// Where it really is.
    pub path: String,
    /// Number of its file system.
    pub device: u64,
    /// Bytes that are free there.
    pub free: u64,
}

/// Begin to build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raise {
    /// The snapshot, for people.
    pub snapshot: String,
    /// Only look: nothing is written, and `Held` goes by size and time.
    pub trial: bool,
    /// Names of the owners: (uid, name).
    pub users: Vec<(u32, String)>,
    /// Names of the groups: (gid, name).
    pub groups: Vec<(u32, String)>,
}

/// Number of a folder in this conversation; each is used once.
pub type FolderNumber = u32;

/// A folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    /// How it will be called.
    pub number: FolderNumber,
    /// Where it is.
    pub place: Place,
    /// What it is; its name does not count where it is the top of a tree.
    pub node: Node,
}

/// Where a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The top of the tree of this number.
    Tree(u32),
    /// In this folder.
    In(FolderNumber),
}

/// Things of a folder that are no folders.
#[derive(Clone, Debug, PartialEq)]
pub struct Lay {
    /// The folder.
    pub folder: FolderNumber,
    /// The nodes, without contents.
    pub nodes: Vec<Node>,
    /// For each node the lengths of its pieces; none for what is no file, and for a file that is sent whole in any case.
    pub pieces: Vec<Vec<u32>>,
}

/// What the agent has of a [`Lay`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The folder.
    pub folder: FolderNumber,
    /// For each node.
    pub nodes: Vec<Has>,
}

/// What the agent has of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Has {
    /// Nothing.
    Nothing,
    /// All that is needed; it is the same file as one before, or no file.
    All,
    /// Pieces with these hashes; as many as the box has named. Where it is only looked: none, for what would be copied.
    Pieces(Vec<ContentHash>),
}

/// Bytes of a file of the oldest unsettled [`Lay`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Index of its node in that Lay.
    pub index: u32,
    /// Where they begin.
    pub offset: u64,
    /// They.
    pub bytes: SharedBytes,
}

/// A folder has all that it is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The folder.
    pub folder: FolderNumber,
}

/// Bytes of [`Fill`] that were written since the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Took {
    /// Bytes.
    pub bytes: u64,
}

/// All is built, and durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raised {
    /// Files and other things that are no folders.
    pub files: u64,
    /// Of them, shared with the tree that is there.
    pub linked: u64,
    /// Bytes that were copied on the server.
    pub copied: u64,
    /// Bytes that came over the link.
    pub filled: u64,
}

/// Exchange the trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// Mail stays down afterwards: this is a standby from now on.
    pub standby: bool,
}

/// They are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swapped {
    /// Mail runs on the restored state; else it did not come up on it and has the old one.
    pub is_new: bool,
    /// From the stop command to the greeting, milliseconds; 0 for a standby.
    pub window_ms: u64,
    /// Mailboxes that the server lists now; `None` where it was not asked or did not say.
    pub mailboxes: Option<u64>,
    /// Where the trees that are no longer served are kept.
    pub kept: Vec<String>,
}

/// Start mail on a standby.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// What the hooks are told: "START" or "FAILOVER".
    pub event: String,
}

/// Answer to `Drop` and `Promote`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// How many trees were removed, hooks were run.
    pub count: u64,
    /// What could not be done, one line each.
    pub problems: Vec<String>,
}

/// A part of the list of mailboxes that was exported into the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Nothing follows.
    pub is_last: bool,
    /// The bytes.
    pub bytes: SharedBytes,
}

/// The list was imported, into the tree that is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Entries that it has, without the tombstones of deleted mailboxes.
    pub entries: u64,
}

/// Look at the server as it runs now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Internal names of mailboxes to examine.
    pub mailboxes: Vec<String>,
}

/// What the server shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Looked {
    /// Mailboxes that it lists; `None` if it could not be asked.
    pub listed: Option<u64>,
    /// Stands for their names and ids, as `mailkeep_mail::cyrus::mailbox_list::fingerprint` makes it.
    pub names: Option<String>,
    /// For each mailbox that was named; `None` for one that it does not show.
    pub mailboxes: Vec<Option<Examined>>,
}

/// What IMAP's STATUS would say of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examined {
    /// MESSAGES.
    pub messages: u64,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UIDNEXT less one.
    pub last_uid: u32,
}

fn refuse(what: &'static str, why: &str) -> FormatError {
    FormatError::Malformed { what, why: why.to_owned() }
}

fn bare_node(reader: &mut Reader<'_>) -> Result<Node, FormatError> {
    let node = Node::decode(reader)?;
    if !node.content().is_empty() {
        return Err(refuse("node", "contents are not named here"));
    }
    Ok(node)
}

pub(crate) fn put_folder(folder: &Folder) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    put_varint(&mut out, u64::from(folder.number));
    let (kind, number) = match folder.place {
        Place::Tree(number) => (0, number),
        Place::In(number) => (1, number),
    };
    out.push(kind);
    put_varint(&mut out, u64::from(number));
    folder.node.encode(&mut out);
    out
}

pub(crate) fn take_folder(reader: &mut Reader<'_>) -> Result<Folder, FormatError> {
    let number = reader.varint32("folder number")?;
    let kind = reader.byte("place")?;
    let at = reader.varint32("place")?;
    let place = match kind {
        0 => Place::Tree(at),
        1 => Place::In(at),
        _ => return Err(refuse("place", "neither 0 nor 1")),
    };
    let node = bare_node(reader)?;
    if !node.is_directory() {
        return Err(refuse("folder", "it is none"));
    }
    Ok(Folder { number, place, node })
}

pub(crate) fn put_lay(lay: &Lay) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + lay.nodes.len() * 96);
    put_varint(&mut out, u64::from(lay.folder));
    put_varint(&mut out, lay.nodes.len() as u64);
    for (node, pieces) in lay.nodes.iter().zip(&lay.pieces) {
        node.encode(&mut out);
        put_varint(&mut out, pieces.len() as u64);
        for length in pieces {
            put_varint(&mut out, u64::from(*length));
        }
    }
    out
}

pub(crate) fn take_lay(reader: &mut Reader<'_>) -> Result<Lay, FormatError> {
    const WHAT: &str = "lay";
    let folder = reader.varint32("folder number")?;
    let count = counted(reader, limits::ENTRIES_NODES)?;
    let (mut nodes, mut pieces): (Vec<Node>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
    let mut total = 0;
    for _ in 0..count {
        let node = bare_node(reader)?;
        if node.is_directory() || nodes.last().is_some_and(|before: &Node| before.name >= node.name) {
            return Err(refuse(WHAT, "a folder, or names that are not in strictly ascending order"));
        }
        let count = counted(reader, limits::LAY_PIECES)?;
        total += count;
        let mut lengths = Vec::new();
        for _ in 0..count {
            lengths.push(reader.varint32("piece")?);
        }
        let sum: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        let fits = lengths.iter().all(|length| (1..=format_limits::CHUNK_MAX).contains(&(*length as usize)));
        if !fits
            || total > limits::LAY_PIECES
            || (!lengths.is_empty() && (sum != node.size() || !node.is_file()))
        {
            return Err(refuse(WHAT, "its pieces are not those of its node"));
        }
        nodes.push(node);
        pieces.push(lengths);
    }
    Ok(Lay { folder, nodes, pieces })
}

fn counted(reader: &mut Reader<'_>, limit: usize) -> Result<usize, FormatError> {
    let count = reader.varint32("count")? as usize;
    if count > limit {
        return Err(FormatError::TooLarge { what: "count", declared: count as u64, limit: limit as u64 });
    }
    Ok(count)
}

pub(crate) fn put_held(held: &Held) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + held.nodes.len() * 34);
    put_varint(&mut out, u64::from(held.folder));
    put_varint(&mut out, held.nodes.len() as u64);
    for has in &held.nodes {
        match has {
            Has::Nothing => out.push(0),
            Has::All => out.push(1),
            Has::Pieces(hashes) => {
                out.push(2);
                put_varint(&mut out, hashes.len() as u64);
                hashes.iter().for_each(|hash| out.extend_from_slice(hash.as_bytes()));
            }
        }
    }
    out
}

pub(crate) fn take_held(reader: &mut Reader<'_>) -> Result<Held, FormatError> {
    let folder = reader.varint32("folder number")?;
    let count = counted(reader, limits::ENTRIES_NODES)?;
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(match reader.byte("what it has")? {
            0 => Has::Nothing,
            1 => Has::All,
            2 => {
                let count = counted(reader, limits::LAY_PIECES)?;
                let mut hashes = Vec::new();
                for _ in 0..count {
                    hashes.push(ContentHash(reader.array("hash")?));
                }
                Has::Pieces(hashes)
            }
            _ => return Err(refuse("what it has", "unknown")),
        });
    }
    Ok(Held { folder, nodes })
}

pub(crate) fn put_fill_head(fill: &Fill) -> Vec<u8> {
    let mut head = Vec::with_capacity(16);
    put_varint(&mut head, u64::from(fill.index));
    put_varint(&mut head, fill.offset);
    head
}

pub(crate) fn take_fill(payload: &SharedBytes) -> Result<Fill, FormatError> {
    let mut reader = Reader::new(payload);
    let index = reader.varint32("index")?;
    let offset = reader.varint("offset")?;
    let length = reader.remaining();
    if length == 0 || length > format_limits::CHUNK_MAX || offset.checked_add(length as u64).is_none() {
        let (declared, limit) = (length as u64, format_limits::CHUNK_MAX as u64);
        return Err(FormatError::TooLarge { what: "piece", declared, limit });
    }
    Ok(Fill { index, offset, bytes: payload.from_offset(payload.len() - length) })
}

pub(crate) fn take_list(payload: &SharedBytes) -> Result<List, FormatError> {
    let is_last = match Reader::new(payload).byte("last")? {
        0 => false,
        1 => true,
        _ => return Err(refuse("last", "neither 0 nor 1")),
    };
    let length = payload.len() - 1;
    if length > format_limits::CHUNK_MAX {
        let (declared, limit) = (length as u64, format_limits::CHUNK_MAX as u64);
        return Err(FormatError::TooLarge { what: "piece", declared, limit });
    }
    Ok(List { is_last, bytes: payload.from_offset(1) })
}

#[cfg(test)]
mod tests {
    use mailkeep_format::{Meta, NodeKind};

    use super::*;

    fn node(name: &str, kind: NodeKind) -> Node {
        Node { name: name.into(), meta: Meta { links: 1, ..Meta::default() }, kind }
    }

    fn file(name: &str, size: u64) -> Node {
        node(name, NodeKind::File { size, sparse: false, content: Vec::new() })
    }

    #[test]
    fn what_is_put_is_taken() {
        let folder = Folder {
            number: 7,
            place: Place::In(3),
            node: node("user", NodeKind::Directory { content: Vec::new() }),
        };
        assert_eq!(take_folder(&mut Reader::new(&put_folder(&folder))).unwrap(), folder);
        let link = node("b", NodeKind::Symlink { target: b"a".to_vec() });
        let lay = Lay { folder: 7, nodes: vec![file("1.", 30), link], pieces: vec![vec![10, 20], vec![]] };
        assert_eq!(take_lay(&mut Reader::new(&put_lay(&lay))).unwrap(), lay);
        let nodes = vec![Has::Nothing, Has::All, Has::Pieces(vec![ContentHash::of(b"x")])];
        let held = Held { folder: 7, nodes };
        assert_eq!(take_held(&mut Reader::new(&put_held(&held))).unwrap(), held);
        let fill = Fill { index: 2, offset: 1 << 40, bytes: b"abc".to_vec().into() };
        let mut payload = put_fill_head(&fill);
        payload.extend_from_slice(&fill.bytes);
        assert_eq!(take_fill(&payload.into()).unwrap(), fill);
        let list = List { is_last: true, bytes: b"{}".to_vec().into() };
        assert_eq!(take_list(&b"\x01{}".to_vec().into()).unwrap(), list);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let lay = |nodes, pieces| take_lay(&mut Reader::new(&put_lay(&Lay { folder: 1, nodes, pieces })));
        let folder = node("d", NodeKind::Directory { content: Vec::new() });
        assert!(lay(vec![folder], vec![vec![]]).is_err());
        assert!(lay(vec![file("b", 1), file("a", 1)], vec![vec![1], vec![1]]).is_err());
        assert!(lay(vec![file("a", 3)], vec![vec![1, 1]]).is_err());
        assert!(lay(vec![file("a", 0)], vec![vec![0]]).is_err());
        let whole = Folder { number: 1, place: Place::Tree(0), node: file("a", 1) };
        assert!(take_folder(&mut Reader::new(&put_folder(&whole))).is_err());
        assert!(take_fill(&vec![0, 0].into()).is_err(), "nothing to write");
        assert!(take_held(&mut Reader::new(&[1, 1, 3])).is_err());
        assert!(take_list(&vec![2].into()).is_err() && take_list(&Vec::<u8>::new().into()).is_err());
    }
}
