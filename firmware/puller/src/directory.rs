//! A directory of which not everything has arrived: the merge-join of its listing with the base tree, and the encoded
//! tree that comes out of it.
//!
//! Listing and base are both in ascending order of names, so both are streams and one look at each entry is enough.
//! Held are only the entries that still miss something, and, in short, what comes after the first of them: a folder
//! with half a million messages costs what is on its way at the time, not what is in it. As long as nothing differs
//! from the base nothing is written; with the first difference the base's nodes so far are gone through once more.

mod instead;
mod output;
mod partial;
mod patch;

use std::collections::{BTreeMap, HashMap};
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mailkeep_format::limits::CHUNK_MAX;
use mailkeep_format::{ChunkRef, Node, NodeKind};
use mailkeep_link::message::{Entries, FileId, Hint};

use crate::PullError;
use crate::change::{Clocks, Verdict, compare};
use crate::known::Notes;
use crate::store::{Nodes, Store};
use crate::weight::{CHUNK_WEIGHT, weight};
use output::Output;
pub(crate) use output::{put_chunks, put_empty};
use patch::Spot;

/// Encoded nodes that are kept in one piece while they wait for an earlier entry, in bytes.
const SEGMENT_BYTES: usize = 32 << 10;
/// What a stream of a large directory's nodes holds: the longest chunk and half of one more.
const STREAM_BYTES: usize = 96 << 10;

/// Bytes of memory that are held by all unfinished directories together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

impl Held {
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is missing of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A file that is to be read.
    Wanted,
    /// A file that is read under another of its names.
    Linked,
    /// A directory whose first piece has not come.
    Named,
    /// A directory that is open itself.
    Opened,
}

/// An entry that misses something. Kept boxed: a table that grows with thousands of them is there twice for a moment.
#[derive(Debug)]
struct Pending {
    slot: Slot,
    is_message: bool,
    node: Node,
    was: Option<Box<Was>>,
}

/// The base's node of a pending entry: its place there, and what is to be compared later.
#[derive(Debug)]
enum Was {
    File { place: u32, node: Node },
    Directory { place: u32, same_meta: bool, content: Vec<ChunkRef> },
}

/// Entries of which nothing is missing and that wait for an earlier one.
#[derive(Debug)]
enum Segment {
    /// As in the base, there from this place on.
    Same { place: u32, count: u32 },
    /// As in the base, in these spots of it. Under one index, which is none of an entry.
    Spots(Vec<Spot>),
    /// Encoded nodes.
    Nodes { bytes: Vec<u8>, count: u32 },
    /// No part of the result.
    Dropped { count: u32 },
}

/// The same directory in the base tree.
struct Base {
    content: Vec<ChunkRef>,
    rest: Peekable<Nodes>,
    /// Nodes that were taken off `rest`.
    place: u32,
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
    /// Directories in the piece whose contents are left out.
    pub(crate) emptied: u64,
    /// What of the base it stands for, where that is counted.
    pub(crate) were: Were,
}

/// What of a base was looked at.
#[derive(Debug, Default)]
pub(crate) struct Were {
    /// Regular files.
    pub(crate) files: u64,
    /// Sum of their sizes.
    pub(crate) bytes: u64,
    /// Directories that are still there.
    pub(crate) directories: u64,
    /// Directories of which all is gone.
    pub(crate) gone: Vec<Vec<ChunkRef>>,
}

impl Were {
    /// Counts a node of the base.
    pub(crate) fn saw(&mut self, node: &Node) {
        match &node.kind {
            NodeKind::File { size, .. } => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(*size);
            }
            NodeKind::Directory { content } => self.gone.push(content.clone()),
            _ => {}
        }
    }

    /// The directory that was counted last is there.
    fn is_there(&mut self) {
        self.directories += u64::from(self.gone.pop().is_some());
    }
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
pub(crate) struct OpenDirectory {
    /// Its parent and its index there.
    pub(crate) parent: Option<FileId>,
    /// Levels below the root.
    pub(crate) depth: usize,
    /// Nothing is stored, and no file is waited for.
    survey: bool,
    base: Option<Base>,
    listed: u32,
    last_name: Vec<u8>,
    complete: bool,
    /// By index in the listing.
    pending: HashMap<u32, Box<Pending>>,
    /// By index of the first entry of each.
    settled: BTreeMap<u32, Segment>,
    /// Index of the first entry that is not part of the output.
    next: u32,
    output: Output,
    files: u64,
    bytes: u64,
    held: Held,
    held_here: usize,
    /// What of that is for streams and for nodes that wait for a cut.
    held_streams: usize,
    /// What is noted for the next pass.
    notes: Option<Notes>,
    /// By the rules no write-once file in it can have changed since the base; those that have.
    contradictions: Option<u64>,
    /// What of the base was looked at since the last piece, where that is counted.
    were: Option<Were>,
}

impl std::fmt::Debug for OpenDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenDirectory({} listed, {} pending)", self.listed, self.pending.len())
    }
}

/// A finished directory.
pub(crate) struct Finished {
    /// Its chunks; empty after a survey.
    pub(crate) content: Vec<ChunkRef>,
    /// Regular files in it.
    pub(crate) files: u64,
    /// Sum of their sizes.
    pub(crate) bytes: u64,
}

impl OpenDirectory {
    /// A directory of which nothing was listed; `base` is its counterpart: the references to it and its nodes.
    pub(crate) fn new(
        parent: Option<FileId>,
        depth: usize,
        base: Option<(Vec<ChunkRef>, Nodes)>,
        survey: bool,
        held: Held,
    ) -> Self {
        let base = base.map(|(content, nodes)| Base { content, rest: nodes.peekable(), place: 0 });
        let output = Output::new(base.is_some());
        let mut directory = OpenDirectory {
            parent,
            depth,
            survey,
            base,
            listed: 0,
            last_name: Vec::new(),
            complete: false,
            pending: HashMap::new(),
            settled: BTreeMap::new(),
            next: 0,
            output,
            files: 0,
            bytes: 0,
            held,
            held_here: 0,
            held_streams: 0,
            notes: None,
            contradictions: None,
            were: None,
        };
        directory.hold(size_of::<OpenDirectory>());
        directory.hold_streams();
        directory
    }

    /// From now on notes what the next pass may want to know.
    pub(crate) fn note(&mut self) {
        self.notes = Some(Notes::default());
    }

    /// From now on counts what by the rules cannot be.
    pub(crate) fn audit(&mut self) {
        self.contradictions = Some(0);
    }

    /// From now on counts what of the base was looked at.
    pub(crate) fn count_base(&mut self) {
        self.were = Some(Were::default());
    }

    /// Write-once files that by the rules cannot be as they are.
    pub(crate) fn contradictions(&self) -> u64 {
        self.contradictions.unwrap_or(0)
    }

    /// What was noted, and how many entries were listed.
    pub(crate) fn take_notes(&mut self) -> Option<(Notes, u32)> {
        self.notes.take().map(|notes| (notes, self.listed))
    }

    /// Takes the next piece of the listing.
    pub(crate) fn list(
        &mut self,
        piece: Entries,
        clocks: Option<Clocks>,
        empty_tree: &[ChunkRef],
    ) -> Result<Listed, PullError> {
        if self.complete {
            return Err(PullError::protocol("a listing goes on after its end"));
        }
        if piece.first != self.listed {
            return Err(PullError::protocol("a piece of a listing is missing or comes twice"));
        }
        if piece.nodes.len() != piece.hints.len() || (piece.nodes.is_empty() && !piece.last) {
            return Err(PullError::protocol(
                "a piece of a listing is empty or has the wrong number of hints",
            ));
        }
        let mut listed = Listed::default();
        for (node, hint) in piece.nodes.into_iter().zip(piece.hints) {
            if self.listed > 0 && self.last_name >= node.name {
                return Err(PullError::protocol("a listing is not in ascending order of names"));
            }
            if !node.content().is_empty() {
                return Err(PullError::protocol("a listed entry names chunks of its own"));
            }
            let index = self.listed;
            self.listed = index
                .checked_add(1)
                .ok_or_else(|| PullError::protocol("a directory has more entries than can be counted"))?;
            self.last_name.clear();
            self.last_name.extend_from_slice(&node.name);
            let moved = listed.moved;
            let was = self.base_node(&node.name, &mut listed.moved)?;
            self.contradicts(listed.moved - moved);
            if hint == Hint::Message && !was.as_ref().is_some_and(|(_, was)| may_be_the_same(was, &node)) {
                self.contradicts(1);
            }
            if let (Some(notes), true) = (&mut self.notes, hint != Hint::Message) {
                notes.other(index);
            }
            self.join(index, node, hint, was, clocks, empty_tree, &mut listed)?;
        }
        if piece.last {
            self.complete = true;
            if let Some(base) = &mut self.base {
                while let Some(node) = base.take()? {
                    listed.moved += 1;
                    self.contradictions = self.contradictions.map(|count| count + 1);
                    self.were.iter_mut().for_each(|were| were.saw(&node));
                }
                base.rest = no_nodes().peekable();
            }
        }
        self.tell_were(&mut listed);
        Ok(listed)
    }

    /// Hands on what of the base was looked at.
    fn tell_were(&mut self, listed: &mut Listed) {
        if let Some(were) = &mut self.were {
            listed.were = std::mem::take(were);
        }
    }

    /// Joins an entry with its counterpart in the base.
    #[allow(clippy::too_many_arguments)] // All of them are one entry and what it is judged by.
    fn join(
        &mut self,
        index: u32,
        mut node: Node,
        hint: Hint,
        was: Option<(u32, Node)>,
        clocks: Option<Clocks>,
        empty_tree: &[ChunkRef],
        listed: &mut Listed,
    ) -> Result<(), PullError> {
        match (&node.kind, hint) {
            (NodeKind::Directory { .. }, Hint::Descend) => {
                self.join_directory(index, node, was, &mut listed.moved);
            }
            (NodeKind::Directory { .. }, Hint::Emptied) => {
                listed.emptied += 1;
                node.kind = NodeKind::Directory { content: empty_tree.to_vec() };
                self.join_plain(index, &node, was, &mut listed.moved);
            }
            (NodeKind::File { .. }, Hint::Plain | Hint::Message) => {
                listed.files += 1;
                listed.bytes = listed.bytes.saturating_add(node.size());
                self.join_file(index, node, hint, was, clocks, listed);
            }
            (NodeKind::Directory { .. } | NodeKind::File { .. }, _) | (_, Hint::Emptied | Hint::Descend) => {
                return Err(PullError::protocol("an entry has a hint that does not fit its kind"));
            }
            (_, Hint::Plain | Hint::Message) => {
                self.join_plain(index, &node, was, &mut listed.moved);
            }
        }
        Ok(())
    }

    /// The base's node of this name with its place; what lies before it in the base is gone.
    fn base_node(&mut self, name: &[u8], moved: &mut u64) -> Result<Option<(u32, Node)>, PullError> {
        let Some(base) = &mut self.base else { return Ok(None) };
        loop {
            match base.rest.peek() {
                Some(Ok(node)) if node.name.as_slice() < name => *moved += 1,
                Some(Ok(node)) if node.name == name => {
                    let place = base.place;
                    let node = base.take()?;
                    self.were.iter_mut().zip(&node).for_each(|(were, node)| were.saw(node));
                    return Ok(node.map(|node| (place, node)));
                }
                Some(Err(_)) => {}
                _ => return Ok(None),
            }
            let gone = base.take()?;
            self.were.iter_mut().zip(&gone).for_each(|(were, node)| were.saw(node));
        }
    }

    fn join_directory(&mut self, index: u32, node: Node, was: Option<(u32, Node)>, moved: &mut u64) {
        let was = was.and_then(|(place, before)| {
            let NodeKind::Directory { content } = before.kind else { return None };
            // A directory's own times move with every temporary file in it; they are no sign of unrest.
            let quiet = before.meta.mode == node.meta.mode
                && before.meta.uid == node.meta.uid
                && before.meta.gid == node.meta.gid
                && before.meta.xattrs == node.meta.xattrs;
            *moved += u64::from(!quiet);
            self.were.iter_mut().for_each(Were::is_there);
            Some(Box::new(Was::Directory { place, same_meta: before.meta == node.meta, content }))
        });
        *moved += u64::from(was.is_none());
        self.wait(index, Pending { slot: Slot::Named, is_message: false, node, was });
    }

    fn join_plain(&mut self, index: u32, node: &Node, was: Option<(u32, Node)>, moved: &mut u64) {
        match was {
            Some((place, before)) if before == *node => self.settle_same(index, place, node),
            was => {
                // An emptied directory is one whose times move all the time.
                let quiet = node.is_directory() && was.is_some_and(|(_, before)| before.is_directory());
                *moved += u64::from(!quiet);
                self.settle_node(index, node);
            }
        }
    }

    fn join_file(
        &mut self,
        index: u32,
        mut node: Node,
        hint: Hint,
        was: Option<(u32, Node)>,
        clocks: Option<Clocks>,
        listed: &mut Listed,
    ) {
        let verdict = match (&was, clocks) {
            (Some((_, before)), Some(clocks)) => compare(before, &node, clocks),
            _ => Verdict::Changed,
        };
        listed.moved += u64::from(verdict == Verdict::Changed);
        match (verdict, was) {
            (Verdict::Same, Some((place, before))) => {
                self.count(&before);
                // What the listing does not carry; an equal ctime vouches for it.
                if before.meta.links == node.meta.links && before.meta.device == node.meta.device {
                    return self.settle_same(index, place, &before);
                }
                node.meta.xattrs = before.meta.xattrs;
                node.kind = before.kind;
                self.settle_node(index, &node);
            }
            (_, was) => {
                listed.wanted.push(index);
                listed.wanted_bytes = listed.wanted_bytes.saturating_add(node.size());
                if self.survey {
                    return self.count(&node);
                }
                let was = was.map(|(place, node)| Box::new(Was::File { place, node }));
                self.wait(
                    index,
                    Pending { slot: Slot::Wanted, is_message: hint == Hint::Message, node, was },
                );
            }
        }
    }

    fn count(&mut self, node: &Node) {
        if node.is_file() {
            self.files += 1;
            self.bytes = self.bytes.saturating_add(node.size());
        }
    }

    fn wait(&mut self, index: u32, pending: Pending) {
        self.hold(pending.weight());
        self.pending.insert(index, Box::new(pending));
    }

    /// Takes an entry off those that wait.
    fn arrive(&mut self, index: u32) -> Option<Pending> {
        let pending = self.pending.remove(&index)?;
        self.release(pending.weight());
        Some(*pending)
    }

    /// What an entry misses; `None` for one that misses nothing or was not listed.
    pub(crate) fn slot(&self, index: u32) -> Option<Slot> {
        self.pending.get(&index).map(|pending| pending.slot)
    }

    /// An entry that misses something, as it was listed.
    pub(crate) fn node(&self, index: u32) -> Option<&Node> {
        self.pending.get(&index).map(|pending| &pending.node)
    }

    /// A wanted file is not read under this name.
    pub(crate) fn wait_for_other_name(&mut self, index: u32) {
        if let Some(Pending { slot: slot @ Slot::Wanted, .. }) = self.pending.get_mut(&index).map(Box::as_mut)
        {
            *slot = Slot::Linked;
        }
    }

    /// Name of an entry that misses something.
    pub(crate) fn name(&self, index: u32) -> Option<&[u8]> {
        self.node(index).map(|node| node.name.as_slice())
    }

    /// Opens a child directory that was named; returns the references to the child's base.
    pub(crate) fn open_child(&mut self, index: u32) -> Result<Option<Vec<ChunkRef>>, PullError> {
        let Some(Pending { slot: slot @ Slot::Named, was, .. }) =
            self.pending.get_mut(&index).map(Box::as_mut)
        else {
            return Err(PullError::protocol("a directory is listed that its parent does not name, or twice"));
        };
        *slot = Slot::Opened;
        Ok(match was.as_deref() {
            Some(Was::Directory { content, .. }) => Some(content.clone()),
            _ => None,
        })
    }

    /// A child directory is finished.
    pub(crate) fn close_child(&mut self, index: u32, content: Vec<ChunkRef>) {
        let Some(Pending { mut node, was, .. }) = self.arrive(index) else { return };
        match was.map(|was| *was) {
            Some(Was::Directory { place, same_meta: true, content: before }) if before == content => {
                node.kind = NodeKind::Directory { content };
                self.settle_same(index, place, &node);
            }
            _ => {
                node.kind = NodeKind::Directory { content };
                self.settle_node(index, &node);
            }
        }
    }

    /// A wanted file was read: its fresh node with contents.
    pub(crate) fn file_read(&mut self, index: u32, node: &Node) -> Read {
        let Some(Pending { node: listed, was, is_message, .. }) = self.arrive(index) else {
            return Read::default();
        };
        self.count(node);
        let mut read = Read { moved_since_listed: !same_stamp(&listed, node), racy_and_changed: false };
        match was.map(|was| *was) {
            Some(Was::File { place, node: before }) if before == *node => {
                self.settle_same(index, place, node);
            }
            was => {
                if let Some(Was::File { node: before, .. }) = was {
                    if is_message && may_be_the_same(&before, node) && before.content() != node.content() {
                        self.contradicts(1);
                    }
                    read.racy_and_changed = same_stamp(&before, &listed)
                        && (!same_stamp(&before, node) || before.content() != node.content());
                }
                self.settle_node(index, node);
            }
        }
        read
    }

    /// A wanted file is not part of the result.
    pub(crate) fn file_dropped(&mut self, index: u32) {
        if self.arrive(index).is_some() {
            if let Some(notes) = &mut self.notes {
                notes.dropped();
            }
            self.settle(index, Segment::Dropped { count: 1 });
        }
    }

    fn settle_same(&mut self, index: u32, place: u32, node: &Node) {
        self.note_arrival(index, node);
        self.settle(index, Segment::Same { place, count: 1 });
    }

    fn contradicts(&mut self, count: u64) {
        self.contradictions = self.contradictions.map(|before| before + count);
    }

    fn note_arrival(&mut self, index: u32, node: &Node) {
        if let Some(notes) = &mut self.notes {
            notes.arrived(index, node);
        }
    }

    fn settle_node(&mut self, index: u32, node: &Node) {
        self.note_arrival(index, node);
        if self.survey {
            return;
        }
        if let Some((start, Segment::Nodes { bytes, count })) = self.settled.range_mut(..index).next_back() {
            if start + *count == index && bytes.len() < SEGMENT_BYTES {
                let before = bytes.capacity();
                node.encode(bytes);
                *count += 1;
                let grown = bytes.capacity() - before;
                return self.hold(grown);
            }
        }
        let mut bytes = Vec::new();
        node.encode(&mut bytes);
        self.settle(index, Segment::Nodes { bytes, count: 1 });
    }

    fn settle(&mut self, index: u32, segment: Segment) {
        if self.survey {
            return;
        }
        if let Some((start, before)) = self.settled.range_mut(..index).next_back() {
            if start + before.count() == index && before.append(&segment) {
                return;
            }
        }
        self.hold(segment.weight());
        self.settled.insert(index, segment);
    }

    /// Brings into the output what no earlier entry holds up, and stores what is certain of it.
    pub(crate) fn advance(&mut self, store: &mut dyn Store) -> Result<(), PullError> {
        while let Some(entry) = self.settled.first_entry() {
            if *entry.key() != self.next {
                break;
            }
            let segment = entry.remove();
            self.release(segment.weight());
            self.next += segment.count();
            let known = self.base.as_ref().map(|base| base.content.as_slice());
            match segment {
                Segment::Dropped { .. } => {}
                Segment::Same { place, count } => self.output.same(place, count, known, store)?,
                Segment::Spots(spots) => self.output.spots(&spots, store)?,
                Segment::Nodes { bytes, .. } => self.output.nodes(&bytes, known, store)?,
            }
        }
        self.hold_streams();
        Ok(())
    }

    /// Whether nothing is missing.
    pub(crate) fn is_finished(&self) -> bool {
        self.complete && self.pending.is_empty()
    }

    /// The result; only meaningful once [`OpenDirectory::is_finished`] and after [`OpenDirectory::advance`].
    pub(crate) fn finish(mut self, store: &mut dyn Store) -> Result<Finished, PullError> {
        self.held.sub(self.held_here);
        let (files, bytes) = (self.files, self.bytes);
        if self.survey {
            return Ok(Finished { content: Vec::new(), files, bytes });
        }
        let content = match (self.output, self.base.take()) {
            (Output::AsBase(count), Some(base)) if count == base.place => base.content,
            (output, base) => output.finish(base.as_ref().map(|base| base.content.as_slice()), store)?,
        };
        Ok(Finished { content, files, bytes })
    }

    fn hold(&mut self, bytes: usize) {
        self.held_here += bytes;
        self.held.add(bytes);
    }

    /// Counts anew what streams hold.
    fn hold_streams(&mut self) {
        let decoded = |content: &[ChunkRef]| {
            content.iter().map(|chunk| chunk.length as usize).sum::<usize>().min(STREAM_BYTES)
        };
        let base = self.base.as_ref().map_or(0, |base| decoded(&base.content));
        let mut now = if self.complete { 0 } else { base };
        let (waiting, replays) = self.output.held();
        now += waiting + if replays { base } else { 0 };
        self.release(self.held_streams);
        self.hold(now);
        self.held_streams = now;
    }

    fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held_here);
        self.held_here -= bytes;
        self.held.sub(bytes);
    }
}

impl Base {
    /// Takes the next node off the base.
    fn take(&mut self) -> Result<Option<Node>, PullError> {
        let node = self.rest.next().transpose()?;
        self.place += u32::from(node.is_some());
        Ok(node)
    }
}

fn no_nodes() -> Nodes {
    Box::new(std::iter::empty())
}

impl Segment {
    /// Indices that it takes.
    fn count(&self) -> u32 {
        match self {
            Segment::Same { count, .. } | Segment::Nodes { count, .. } | Segment::Dropped { count } => *count,
            Segment::Spots(_) => 1,
        }
    }

    /// Whether what follows could be added to it.
    fn append(&mut self, next: &Segment) -> bool {
        match (self, next) {
            (Segment::Same { place, count }, Segment::Same { place: next, count: more })
                if *place + *count == *next =>
            {
                *count += more;
                true
            }
            (Segment::Dropped { count }, Segment::Dropped { count: more }) => {
                *count += more;
                true
            }
            _ => false,
        }
    }

    fn weight(&self) -> usize {
        let bytes = match self {
            Segment::Nodes { bytes, .. } => bytes.capacity(),
            Segment::Spots(spots) => size_of_val(spots.as_slice()),
            Segment::Same { .. } | Segment::Dropped { .. } => 0,
        };
        size_of::<Segment>() + 16 + bytes
    }
}

impl Pending {
    fn weight(&self) -> usize {
        let was = match self.was.as_deref() {
            Some(Was::File { node, .. }) => weight(node),
            Some(Was::Directory { content, .. }) => content.len() * CHUNK_WEIGHT,
            None => 0,
        };
        size_of::<Pending>() + weight(&self.node) + was
    }
}

/// Whether two nodes have the size, times and inode of one state of one file.
pub(crate) fn same_stamp(one: &Node, other: &Node) -> bool {
    one.size() == other.size()
        && one.meta.mtime == other.meta.mtime
        && one.meta.ctime == other.meta.ctime
        && one.meta.inode == other.meta.inode
}

/// Whether a write-once file can be what it was: its inode's time moves with every link that is made to it.
fn may_be_the_same(was: &Node, is: &Node) -> bool {
    let (a, b) = (&was.meta, &is.meta);
    was.is_file()
        && was.size() == is.size()
        && (a.inode, a.mtime, a.mode, a.uid, a.gid) == (b.inode, b.mtime, b.mode, b.uid, b.gid)
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

#[cfg(test)]
mod tests;
