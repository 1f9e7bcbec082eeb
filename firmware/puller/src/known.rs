//! What a pass has learnt of folders, so that the next one need not look at messages that cannot have changed.
//!
//! A folder is kept if every write-once file in it, and the folder itself, were older than the pass that saw them: then
//! nothing could have happened to it unseen since. The agent is told its inode and times and what else lies in it; if it
//! finds the folder as it was, it looks at those few entries alone ([`mailkeep_link::message::Unchanged`]). What it says
//! is joined here with the nodes that are kept, so the tree of such a folder is not read either.
//!
//! Memory is bounded: folders beyond it are listed.

use std::collections::HashMap;

use mailkeep_format::{ChunkRef, Meta, Node, Timestamp};
use mailkeep_link::limits::{KNOWN_ENTRIES, KNOWN_PATH, KNOWN_PIECE};
use mailkeep_link::message::{Known, KnownFolder};

use crate::limits::{KNOWN_BYTES_MAX, RACY_SECONDS, WORTH_KNOWING};
use crate::weight::{CHUNK_WEIGHT, weight};

/// A folder as it stands in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    inode: u64,
    mtime: Timestamp,
    ctime: Timestamp,
    /// The chunks of its tree.
    pub(crate) content: Vec<ChunkRef>,
    /// Nodes in its tree.
    pub(crate) count: u32,
    /// What is no write-once file: place in the tree, and node. Ascending.
    pub(crate) others: Vec<(u32, Node)>,
    /// Write-once files.
    pub(crate) messages: u64,
    /// Sum of their sizes.
    pub(crate) bytes: u64,
}

/// What is noted of a folder while its entries arrive.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Indices of what is no write-once file, ascending.
    others: Vec<u32>,
    /// Their nodes as they arrive, by index.
    nodes: HashMap<u32, Node>,
    messages: u64,
    bytes: u64,
    /// Latest change of a write-once file.
    youngest: Option<Timestamp>,
    /// It is no folder to be kept.
    useless: bool,
}

impl Notes {
    /// Of a folder whose messages are those of a known one.
    pub(crate) fn of(folder: &Folder) -> Notes {
        let others = folder.others.iter().map(|(place, _)| *place).collect();
        Notes { others, messages: folder.messages, bytes: folder.bytes, ..Notes::default() }
    }

    /// An entry is listed that is no write-once file.
    pub(crate) fn other(&mut self, index: u32) {
        if self.others.len() >= KNOWN_ENTRIES {
            self.useless = true;
            self.nodes = HashMap::new();
        } else {
            self.others.push(index);
        }
    }

    /// An entry has arrived.
    pub(crate) fn arrived(&mut self, index: u32, node: &Node) {
        if self.useless {
            return;
        }
        if self.others.binary_search(&index).is_ok() {
            self.nodes.insert(index, node.clone());
        } else {
            self.messages += 1;
            self.bytes = self.bytes.saturating_add(node.size());
            self.youngest = self.youngest.max(Some(node.meta.ctime));
        }
    }

    /// An entry is no part of the result: the next pass has to say so again, or find it.
    pub(crate) fn dropped(&mut self) {
        self.useless = true;
    }

    /// The folder, which has this node in its parent and was looked at in a pass that began at `clock`; `None` if it is
    /// none to be kept.
    pub(crate) fn folder(
        mut self,
        meta: &Meta,
        clock: Timestamp,
        listed: u32,
        content: Vec<ChunkRef>,
    ) -> Option<Folder> {
        let settled = clock.minus_seconds(RACY_SECONDS);
        let young = meta.mtime.max(meta.ctime).max(self.youngest.unwrap_or_default()) >= settled;
        if self.useless || young || self.messages < WORTH_KNOWING {
            return None;
        }
        let mut others = Vec::with_capacity(self.others.len());
        for index in self.others {
            others.push((index, self.nodes.remove(&index)?));
        }
        Some(Folder {
            inode: meta.inode,
            mtime: meta.mtime,
            ctime: meta.ctime,
            content,
            count: listed,
            others,
            messages: self.messages,
            bytes: self.bytes,
        })
    }
}

impl Folder {
    /// Whether a directory with this node is as this one was.
    pub(crate) fn is_as(&self, meta: &Meta) -> bool {
        self.inode == meta.inode && self.mtime == meta.mtime && self.ctime == meta.ctime
    }

    /// Whether a directory with this node is this one, whatever happened in it.
    pub(crate) fn is_itself(&self, meta: &Meta) -> bool {
        self.inode == meta.inode
    }

    /// Memory, bytes.
    fn weight(&self) -> usize {
        let others: usize = self.others.iter().map(|(_, node)| weight(node)).sum();
        size_of::<Folder>() + others + self.content.len() * CHUNK_WEIGHT
    }
}

/// Folders by their paths.
#[derive(Debug, Default)]
pub struct KnownFolders {
    folders: HashMap<Vec<u8>, Folder>,
    bytes: usize,
}

impl KnownFolders {
    /// Keeps a folder, if there is room.
    pub(crate) fn keep(&mut self, path: Vec<u8>, folder: Folder) {
        let bytes = folder.weight() + 2 * path.len() + 64;
        if path.len() <= KNOWN_PATH && self.bytes + bytes <= KNOWN_BYTES_MAX {
            self.bytes += bytes;
            self.folders.insert(path, folder);
        }
    }

    /// Takes a folder out.
    pub(crate) fn take(&mut self, path: &[u8]) -> Option<Folder> {
        self.folders.remove(path)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.folders.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// What the agent is told of them; `clock` is the start of the pass that learnt them.
    pub fn messages(&self, clock: Timestamp) -> impl Iterator<Item = Known> + '_ {
        let mut folders = self.folders.iter();
        std::iter::from_fn(move || {
            let mut piece = Vec::new();
            let mut bytes = 0;
            while bytes < KNOWN_PIECE {
                let Some((path, folder)) = folders.next() else { break };
                let entries: Vec<_> =
                    folder.others.iter().map(|(place, node)| (*place, node.name.clone())).collect();
                bytes += 64 + path.len() + entries.iter().map(|(_, name)| name.len() + 8).sum::<usize>();
                piece.push(KnownFolder {
                    path: path.clone(),
                    inode: folder.inode,
                    mtime: folder.mtime,
                    ctime: folder.ctime,
                    entries,
                });
            }
            (!piece.is_empty()).then_some(Known { clock, folders: piece })
        })
    }
}
