//! A directory of which little is another than in its base: names are looked up among the base's bytes as they lie there,
//! and what lies between them is taken over as bytes, whole chunks of it unread.
//!
//! The tree that comes out has the cuts of one that is encoded anew: a chunk of the base is taken over only where the
//! output was cut just where that chunk begins, and a cut depends on nothing but what follows the one before. The last
//! chunk of the base ended because the tree did, so it is taken over only at the end.

use std::ops::Range;

use mailkeep_format::codec::Reader;
use mailkeep_format::node::TreeSkimmer;
use mailkeep_format::{ChunkRef, FormatError, Node, cut};
use mailkeep_repository::RepositoryError;

use crate::PullError;
use crate::store::Store;
use crate::weight::CHUNK_WEIGHT;

/// Bytes of the base tree that lie together.
pub(super) type Spot = Range<u64>;

/// Looks names up in a base tree; they are asked for in ascending order.
pub(super) struct Search<'a> {
    store: &'a mut dyn Store,
    chunks: std::slice::Iter<'a, ChunkRef>,
    skimmer: TreeSkimmer,
    at_end: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(base: &'a [ChunkRef], store: &'a mut dyn Store) -> Self {
        Search { store, chunks: base.iter(), skimmer: TreeSkimmer::new(), at_end: false }
    }

    /// Where a name is or would be, and its node if it is there.
    pub(super) fn find(&mut self, name: &[u8]) -> Result<(Spot, Option<Node>), PullError> {
        loop {
            let Some(found) = self.skimmer.peek(self.at_end).map_err(not_a_tree)? else {
                if self.at_end {
                    let end = self.skimmer.place();
                    return Ok((end..end, None));
                }
                match self.chunks.next() {
                    Some(chunk) => self.skimmer.push(&self.store.tree_chunk(chunk)?),
                    None => self.at_end = true,
                }
                continue;
            };
            if found.name > name {
                return Ok((found.start..found.start, None));
            }
            if found.name == name {
                let node = Node::decode(&mut Reader::new(found.encoded)).map_err(not_a_tree)?;
                return Ok((found.start..found.start + found.encoded.len() as u64, Some(node)));
            }
            self.skimmer.pass();
        }
    }
}

/// The tree that comes out.
pub(super) struct Patch {
    base: Vec<ChunkRef>,
    /// Where each chunk of the base ends.
    ends: Vec<u64>,
    content: Vec<ChunkRef>,
    state: State,
}

/// Bytes of a chunk after which it is tried to go along with the base from its beginning.
const PROBE: u64 = 64;

/// Which cuts are made.
#[derive(Clone, Copy)]
enum Cuts {
    /// Those that are found in what is there, which is looked through each time.
    Early,
    /// Once there is so much that one must be found.
    Certain,
    /// All: nothing follows.
    Last,
}

enum State {
    /// The output goes along the base: it was cut where the chunk `next` of the base begins, and what follows there is the
    /// base up to here.
    Along { next: usize, up_to: u64 },
    /// What follows the last cut. From the place `copied.0` on it is the base from `copied.1` on.
    Apart { pending: Vec<u8>, copied: Option<(usize, u64)> },
}

impl Patch {
    /// Of a base with these chunks; so far only the first byte is the base's, which is no node's.
    pub(super) fn new(base: &[ChunkRef]) -> Self {
        let mut end = 0;
        let ends = base.iter().map(|chunk| {
            end += u64::from(chunk.length);
            end
        });
        let ends = ends.collect();
        let state = State::Along { next: 0, up_to: 1 };
        Patch { base: base.to_vec(), ends, content: Vec::new(), state }
    }

    /// Length of the base.
    pub(super) fn base_length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Bytes of memory that are held.
    pub(super) fn held(&self) -> usize {
        let pending = if let State::Apart { pending, .. } = &self.state { pending.len() } else { 0 };
        pending + (self.content.len() + self.base.len()) * CHUNK_WEIGHT + self.ends.len() * size_of::<u64>()
    }

    /// Adds encoded nodes.
    pub(super) fn nodes(&mut self, nodes: &[u8], store: &mut dyn Store) -> Result<(), PullError> {
        self.leave(store)?;
        if let State::Apart { pending, copied } = &mut self.state {
            pending.extend_from_slice(nodes);
            *copied = None;
        }
        self.cut(Cuts::Certain, store)
    }

    /// Adds what lies there in the base; spots ascend.
    pub(super) fn copy(&mut self, spot: &Spot, store: &mut dyn Store) -> Result<(), PullError> {
        let mut from = spot.start;
        while from < spot.end {
            match &mut self.state {
                State::Along { up_to, .. } if *up_to == from => {
                    *up_to = spot.end;
                    self.go_along();
                    return Ok(());
                }
                State::Along { .. } => self.leave(store)?,
                State::Apart { .. } => from = self.copy_some(from, spot.end, store)?,
            }
        }
        Ok(())
    }

    /// All was added: the chunks of the tree.
    pub(super) fn finish(mut self, store: &mut dyn Store) -> Result<Vec<ChunkRef>, PullError> {
        let all = self.base_length();
        loop {
            match &self.state {
                State::Along { next, up_to } if *up_to == all => {
                    self.content.extend_from_slice(&self.base[*next..]);
                    return Ok(self.content);
                }
                State::Along { next, up_to } if self.start(*next) == *up_to => return Ok(self.content),
                // What is there of a chunk is cut anew: nothing follows it.
                State::Along { .. } => self.leave(store)?,
                State::Apart { pending, .. } if pending.is_empty() => return Ok(self.content),
                State::Apart { .. } => self.cut(Cuts::Last, store)?,
            }
        }
    }

    /// Takes over the chunks that are whole.
    fn go_along(&mut self) {
        let State::Along { next, up_to } = &mut self.state else { return };
        while *next + 1 < self.base.len() && self.ends[*next] <= *up_to {
            self.content.push(self.base[*next]);
            *next += 1;
        }
    }

    /// What follows is not the base's, or not from where it went along.
    fn leave(&mut self, store: &mut dyn Store) -> Result<(), PullError> {
        let State::Along { next, up_to } = self.state else { return Ok(()) };
        let start = self.start(next);
        self.state = State::Apart { pending: Vec::new(), copied: None };
        let mut from = start;
        while from < up_to {
            from = self.append(from, up_to, store)?;
        }
        Ok(())
    }

    /// Copies from the base, at most one chunk, and goes along with it where it can. Where it has come to.
    fn copy_some(&mut self, from: u64, end: u64, store: &mut dyn Store) -> Result<u64, PullError> {
        // Where a chunk begins a cut may be found as soon as a little of it is seen, and then the rest need not be read.
        let begins = self.start(self.chunk_at(from)) == from;
        let end = if begins { end.min(from + PROBE) } else { end };
        let come_to = self.append(from, end, store)?;
        self.cut(if begins { Cuts::Early } else { Cuts::Certain }, store)?;
        Ok(come_to)
    }

    /// The chunk of the base in which this place is.
    fn chunk_at(&self, place: u64) -> usize {
        self.ends.partition_point(|end| *end <= place)
    }

    /// Appends the base's bytes from here to the end of the chunk that they lie in, or up to `end`.
    fn append(&mut self, from: u64, end: u64, store: &mut dyn Store) -> Result<u64, PullError> {
        let chunk = self.chunk_at(from);
        let (Some(reference), Some(chunk_end)) = (self.base.get(chunk), self.ends.get(chunk)) else {
            return Err(PullError::protocol("the earlier snapshot's directory ends before its end"));
        };
        let (start, end) = (self.start(chunk), end.min(*chunk_end));
        let bytes = store.tree_chunk(reference)?;
        let wanted = (from - start) as usize..(end - start) as usize;
        let bytes = bytes
            .get(wanted)
            .ok_or_else(|| PullError::protocol("a chunk of the earlier snapshot's directory is too short"))?;
        if let State::Apart { pending, copied } = &mut self.state {
            let goes_on = copied.is_some_and(|(at, place)| place + (pending.len() - at) as u64 == from);
            if !goes_on {
                *copied = Some((pending.len(), from));
            }
            pending.extend_from_slice(bytes);
        }
        Ok(end)
    }

    /// Stores the chunks whose cuts are certain, until the output goes along the base again.
    fn cut(&mut self, cuts: Cuts, store: &mut dyn Store) -> Result<(), PullError> {
        let State::Apart { pending, copied } = &mut self.state else { return Ok(()) };
        let mut from = 0;
        let next = |ahead: &[u8]| match cuts {
            Cuts::Early => cut::early_tree_cut(ahead),
            Cuts::Certain => cut::next_tree_cut(ahead, false),
            Cuts::Last => cut::next_tree_cut(ahead, true),
        };
        while let Some(length) = next(&pending[from..]) {
            self.content.push(store.put_tree_chunk(&pending[from..from + length])?);
            from += length;
            let Some((at, place)) = copied.filter(|(at, _)| *at <= from) else { continue };
            let place = place + (from - at) as u64;
            let chunk = self.ends.partition_point(|end| *end <= place);
            let starts = chunk.checked_sub(1).and_then(|before| self.ends.get(before)) == Some(&place);
            if starts && chunk < self.base.len() {
                let up_to = place + (pending.len() - from) as u64;
                self.state = State::Along { next: chunk, up_to };
                self.go_along();
                return Ok(());
            }
        }
        pending.drain(..from);
        if let Some((at, place)) = copied {
            let cut_off = from.saturating_sub(*at);
            (*at, *place) = (at.saturating_sub(from), *place + cut_off as u64);
        }
        Ok(())
    }

    /// Where a chunk of the base begins.
    fn start(&self, chunk: usize) -> u64 {
        chunk.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }
}

fn not_a_tree(source: FormatError) -> PullError {
    RepositoryError::Damaged { path: "a directory".to_owned(), source }.into()
}
