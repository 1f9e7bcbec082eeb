//! A directory of which not everything has arrived: its listing so far, and the merge-join with the base tree.
//!
//! Listing and base are both in ascending order of names, so one look at each entry is enough. What is taken over
//! from the base is moved out of it, not copied.

use std::collections::HashMap;
use std::iter::Peekable;
use std::vec::IntoIter;

use mailkeep_format::limits::CHUNK_MAX;
use mailkeep_format::{ChunkRef, Node, NodeKind};
use mailkeep_link::message::{Entries, FileId, Hint};

use crate::PullError;
use crate::change::{Clocks, Verdict, compare};

/// What is known of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Nothing is missing.
    Done,
    /// A file that is to be read.
    Wanted,
    /// A file that is read under another of its names.
    Linked,
    /// A directory whose first piece has not come.
    Named,
    /// A directory that is open itself.
    Opened,
    /// Was not there to be read; no part of the result.
    Dropped,
}

/// The same directory in the base tree.
#[derive(Debug)]
struct Base {
    content: Vec<ChunkRef>,
    rest: Peekable<IntoIter<Node>>,
    /// The base's node of every entry that is not done, by index of the listing.
    was: HashMap<u32, Node>,
}

/// What one piece of a listing brought.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Files to read.
    pub(crate) wanted: Vec<u32>,
    /// Sum of their sizes.
    pub(crate) wanted_bytes: u64,
    /// Regular files in the piece.
    pub(crate) files: u64,
    /// Sum of their sizes.
    pub(crate) bytes: u64,
    /// Entries that are new, gone or changed against the base.
    pub(crate) moved: u64,
    /// Memory that the piece takes, bytes.
    pub(crate) held: usize,
}

/// What reading a file showed about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    /// It is not as it was listed.
    pub(crate) moved_since_listed: bool,
    /// It was listed as it stands in the base, and yet it is another.
    pub(crate) racy_and_changed: bool,
}

/// A directory that is not finished.
#[derive(Debug)]
pub(crate) struct OpenDirectory {
    /// Its parent and its index there.
    pub(crate) parent: Option<FileId>,
    /// Levels below the root.
    pub(crate) depth: usize,
    /// Memory that it takes, bytes; estimated.
    pub(crate) held: usize,
    nodes: Vec<Node>,
    slots: Vec<Slot>,
    complete: bool,
    outstanding: usize,
    base: Option<Base>,
    differs: bool,
}

/// A finished directory.
pub(crate) enum Finished {
    /// Equal to the base's in every byte: its contents can be referred to.
    AsBase(Vec<ChunkRef>, Vec<Node>),
    /// To be stored.
    New(Vec<Node>),
}

impl OpenDirectory {
    /// A directory of which nothing was listed; `base` is its counterpart with the references to it.
    pub(crate) fn new(
        parent: Option<FileId>,
        depth: usize,
        base: Option<(Vec<ChunkRef>, Vec<Node>)>,
    ) -> Self {
        let held = base.as_ref().map_or(0, |(_, nodes)| nodes.iter().map(weight).sum());
        let differs = base.is_none();
        let base = base.map(|(content, nodes)| Base {
            content,
            rest: nodes.into_iter().peekable(),
            was: HashMap::new(),
        });
        OpenDirectory {
            parent,
            depth,
            held,
            nodes: Vec::new(),
            slots: Vec::new(),
            complete: false,
            outstanding: 0,
            base,
            differs,
        }
    }

    /// Takes the next piece of the listing. With `survey` no file is waited for.
    pub(crate) fn list(
        &mut self,
        piece: Entries,
        clocks: Option<Clocks>,
        survey: bool,
        empty_tree: &[ChunkRef],
    ) -> Result<Listed, PullError> {
        if self.complete {
            return Err(PullError::protocol("a listing goes on after its end"));
        }
        if piece.first as usize != self.nodes.len() {
            return Err(PullError::protocol("a piece of a listing is missing or comes twice"));
        }
        if piece.nodes.len() != piece.hints.len() || (piece.nodes.is_empty() && !piece.last) {
            return Err(PullError::protocol(
                "a piece of a listing is empty or has the wrong number of hints",
            ));
        }
        let mut listed = Listed::default();
        for (mut node, hint) in piece.nodes.into_iter().zip(piece.hints) {
            if self.nodes.last().is_some_and(|last| last.name >= node.name) {
                return Err(PullError::protocol("a listing is not in ascending order of names"));
            }
            if !node.content().is_empty() {
                return Err(PullError::protocol("a listed entry names chunks of its own"));
            }
            let index = u32::try_from(self.nodes.len())
                .map_err(|_| PullError::protocol("a directory has more entries than can be counted"))?;
            let was = self.base_node(&node.name, &mut listed.moved);
            let slot = match (&node.kind, hint) {
                (NodeKind::Directory { .. }, Hint::Descend) => {
                    self.join_directory(index, &node, was, &mut listed.moved);
                    Slot::Named
                }
                (NodeKind::Directory { .. }, Hint::Emptied) => {
                    node.kind = NodeKind::Directory { content: empty_tree.to_vec() };
                    self.join_plain(&node, was, &mut listed.moved);
                    Slot::Done
                }
                (NodeKind::File { .. }, Hint::Plain | Hint::Message) => {
                    listed.files += 1;
                    listed.bytes = listed.bytes.saturating_add(node.size());
                    let slot = self.join_file(index, &mut node, was, clocks, &mut listed.moved);
                    if slot == Slot::Wanted {
                        listed.wanted.push(index);
                        listed.wanted_bytes = listed.wanted_bytes.saturating_add(node.size());
                    }
                    if survey { Slot::Done } else { slot }
                }
                (NodeKind::Directory { .. } | NodeKind::File { .. }, _)
                | (_, Hint::Emptied | Hint::Descend) => {
                    return Err(PullError::protocol("an entry has a hint that does not fit its kind"));
                }
                (_, Hint::Plain | Hint::Message) => {
                    self.join_plain(&node, was, &mut listed.moved);
                    Slot::Done
                }
            };
            listed.held += weight(&node);
            self.outstanding += usize::from(slot != Slot::Done);
            self.nodes.push(node);
            self.slots.push(slot);
        }
        if piece.last {
            self.complete = true;
            if let Some(base) = &mut self.base {
                let gone = base.rest.by_ref().count() as u64;
                listed.moved += gone;
                self.differs |= gone > 0;
            }
        }
        self.held += listed.held;
        Ok(listed)
    }

    /// The base's node of this name; what lies before it in the base is gone.
    fn base_node(&mut self, name: &[u8], moved: &mut u64) -> Option<Node> {
        let base = self.base.as_mut()?;
        while base.rest.next_if(|node| node.name.as_slice() < name).is_some() {
            *moved += 1;
            self.differs = true;
        }
        base.rest.next_if(|node| node.name == name)
    }

    fn join_directory(&mut self, index: u32, node: &Node, was: Option<Node>, moved: &mut u64) {
        let was = was.filter(Node::is_directory);
        match (&was, &mut self.base) {
            (Some(before), Some(base)) => {
                // A directory's own times move with every temporary file in it; they are no sign of unrest.
                let quiet = before.meta.mode == node.meta.mode
                    && before.meta.uid == node.meta.uid
                    && before.meta.gid == node.meta.gid
                    && before.meta.xattrs == node.meta.xattrs;
                *moved += u64::from(!quiet);
                self.differs |= before.meta != node.meta;
                base.was.extend(was.map(|before| (index, before)));
            }
            _ => {
                *moved += 1;
                self.differs = true;
            }
        }
    }

    fn join_plain(&mut self, node: &Node, was: Option<Node>, moved: &mut u64) {
        if was.as_ref() == Some(node) {
            return;
        }
        self.differs = true;
        // An emptied directory is one whose times move all the time.
        let quiet = node.is_directory() && was.is_some_and(|before| before.is_directory());
        *moved += u64::from(!quiet);
    }

    fn join_file(
        &mut self,
        index: u32,
        node: &mut Node,
        was: Option<Node>,
        clocks: Option<Clocks>,
        moved: &mut u64,
    ) -> Slot {
        let verdict = match (&was, clocks) {
            (Some(before), Some(clocks)) => compare(before, node, clocks),
            _ => Verdict::Changed,
        };
        *moved += u64::from(verdict == Verdict::Changed);
        match (verdict, was) {
            (Verdict::Same, Some(before)) => {
                self.differs |=
                    before.meta.links != node.meta.links || before.meta.device != node.meta.device;
                // What the listing does not carry; an equal ctime vouches for it.
                node.meta.xattrs = before.meta.xattrs;
                node.kind = before.kind;
                Slot::Done
            }
            (_, was) => {
                match (was, &mut self.base) {
                    (Some(before), Some(base)) => {
                        base.was.insert(index, before);
                    }
                    _ => self.differs = true,
                }
                Slot::Wanted
            }
        }
    }

    /// What is known of an entry; `None` for an index that was not listed.
    pub(crate) fn slot(&self, index: u32) -> Option<Slot> {
        self.slots.get(index as usize).copied()
    }

    /// An entry as it was listed, or as it was read.
    pub(crate) fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    /// A wanted file is not read under this name.
    pub(crate) fn wait_for_other_name(&mut self, index: u32) {
        if let Some(slot @ Slot::Wanted) = self.slots.get_mut(index as usize) {
            *slot = Slot::Linked;
        }
    }

    /// Name of an entry.
    pub(crate) fn name(&self, index: u32) -> Option<&[u8]> {
        self.nodes.get(index as usize).map(|node| node.name.as_slice())
    }

    /// Opens a child directory that was named; returns the references to the child's base.
    pub(crate) fn open_child(&mut self, index: u32) -> Result<Option<Vec<ChunkRef>>, PullError> {
        match self.slots.get_mut(index as usize) {
            Some(slot @ Slot::Named) => *slot = Slot::Opened,
            _ => {
                return Err(PullError::protocol(
                    "a directory is listed that its parent does not name, or twice",
                ));
            }
        }
        let was = self.base.as_ref().and_then(|base| base.was.get(&index));
        Ok(was.map(|node| node.content().to_vec()))
    }

    /// A child directory is finished.
    pub(crate) fn close_child(&mut self, index: u32, content: Vec<ChunkRef>) {
        let was = self.base.as_mut().and_then(|base| base.was.remove(&index));
        self.differs |= was.is_none_or(|before| before.content() != content);
        if let Some(node) = self.nodes.get_mut(index as usize) {
            self.held += content.len() * CHUNK_WEIGHT;
            node.kind = NodeKind::Directory { content };
        }
        self.settle(index, Slot::Done);
    }

    /// A wanted file was read: its fresh node with contents.
    pub(crate) fn file_read(&mut self, index: u32, node: Node) -> Read {
        let was = self.base.as_mut().and_then(|base| base.was.remove(&index));
        self.differs |= was.as_ref() != Some(&node);
        let mut read = Read::default();
        if let Some(place) = self.nodes.get_mut(index as usize) {
            read.moved_since_listed = !same_stamp(place, &node);
            read.racy_and_changed = was.is_some_and(|before| {
                same_stamp(&before, place)
                    && (!same_stamp(&before, &node) || before.content() != node.content())
            });
            *place = node;
        }
        self.settle(index, Slot::Done);
        read
    }

    /// A wanted file is not part of the result.
    pub(crate) fn file_dropped(&mut self, index: u32) {
        if let Some(base) = &mut self.base {
            base.was.remove(&index);
        }
        self.differs = true;
        self.settle(index, Slot::Dropped);
    }

    fn settle(&mut self, index: u32, state: Slot) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = state;
            self.outstanding = self.outstanding.saturating_sub(1);
        }
    }

    /// Whether nothing is missing.
    pub(crate) fn is_finished(&self) -> bool {
        self.complete && self.outstanding == 0
    }

    /// The result; only meaningful once [`OpenDirectory::is_finished`].
    pub(crate) fn finish(self) -> Finished {
        match self.base {
            Some(base) if !self.differs => Finished::AsBase(base.content, self.nodes),
            _ => {
                let kept = self.nodes.into_iter().zip(self.slots).filter(|(_, slot)| *slot != Slot::Dropped);
                Finished::New(kept.map(|(node, _)| node).collect())
            }
        }
    }
}

/// Memory that one reference to a chunk takes, bytes.
pub(crate) const CHUNK_WEIGHT: usize = size_of::<ChunkRef>();

/// Memory that a node takes, bytes; a little too much rather than too little.
pub(crate) fn weight(node: &Node) -> usize {
    let target = match &node.kind {
        NodeKind::Symlink { target } => target.len(),
        _ => 0,
    };
    let xattrs: usize = node.meta.xattrs.iter().map(|(name, value)| 64 + name.len() + value.len()).sum();
    size_of::<Node>()
        + size_of::<Slot>()
        + 16
        + node.name.len()
        + target
        + xattrs
        + node.content().len() * CHUNK_WEIGHT
}

/// Whether two nodes have the size, times and inode of one state of one file.
pub(crate) fn same_stamp(one: &Node, other: &Node) -> bool {
    one.size() == other.size()
        && one.meta.mtime == other.meta.mtime
        && one.meta.ctime == other.meta.ctime
        && one.meta.inode == other.meta.inode
}

/// Checks a chunk's length as a server states it.
pub(crate) fn check_length(length: u32) -> Result<(), PullError> {
    if length == 0 || length as usize > CHUNK_MAX {
        return Err(PullError::Protocol(format!(
            "a chunk of {length} bytes was announced, 1 to {CHUNK_MAX} are allowed"
        )));
    }
    Ok(())
}
