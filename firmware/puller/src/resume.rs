//! Going on where a run was cut off: what a live pass has read so far is kept by a checkpoint, and the next run compares with
//! that as with a parent.
//!
//! A checkpoint holds the tree of what the pass had read, in which anything may be missing, and the tree that the pass was
//! compared with. Both are merged here into one base. What is promised of it:
//! - a file is taken over by the next pass by the rule that always holds (`change`), so it must not stand here with contents
//!   that it may have lost unseen. What the cut pass had read, it looked at after its clock. What it had not come to was
//!   looked at by an earlier pass: of that only stays what was not young even then, the rest is read again;
//! - every chunk that is named is in a pack that a new snapshot may rely on, whatever a prune or a repair did meanwhile; what
//!   has lost one is read again;
//! - no folder is believed to be whole: a run that goes on lists everything ([`Walk::Resumed`](crate::walk::Walk::Resumed)).

use std::cmp::Ordering;
use std::iter::Peekable;

use mailkeep_format::node::TreeEncoder;
use mailkeep_format::{Checkpoint, ChunkRef, Node, NodeKind, SnapshotId, Timestamp};

use crate::PullError;
use crate::assemble::Base;
use crate::directory::put_chunks;
use crate::limits::{RACY_SECONDS, RESUMED_DEPTH_MAX};
use crate::store::{Nodes, Store};
use crate::text;

/// Whether a checkpoint speaks of the source as it is known now: of this machine, and nothing was sealed since.
pub(crate) fn fits(checkpoint: &Checkpoint, host: &str, newest: Option<SnapshotId>) -> bool {
    checkpoint.host == text::line(host) && checkpoint.snapshot == newest
}

/// What a run that goes on compares with. `parent` is the tree of the newest snapshot, whose chunks nobody has taken away.
///
/// # Errors
/// A tree cannot be read, or not be written.
pub(crate) fn base(
    store: &mut dyn Store,
    checkpoint: &Checkpoint,
    parent: Option<&[ChunkRef]>,
) -> Result<Base, PullError> {
    let clock = checkpoint.seen.clock;
    // With a clock that went back nothing that was known before proves anything.
    let before = checkpoint.compared_with.as_ref().filter(|before| before.clock <= clock);
    let settled = before.map_or(clock, |before| before.clock).minus_seconds(RACY_SECONDS);
    let is_sealed = before.is_some_and(|before| parent == Some(&before.root));
    let mut merge = Merge { store, settled, is_sealed };
    let root =
        merge.directory(before.map(|before| before.root.as_slice()), Some(&checkpoint.seen.root), 0)?;
    Ok(Base { root, clock })
}

struct Merge<'a> {
    store: &'a mut dyn Store,
    /// What the cut pass had not come to counts if it is older than this.
    settled: Timestamp,
    /// The tree that it was compared with is that of a snapshot.
    is_sealed: bool,
}

impl Merge<'_> {
    /// A directory of what there was before and of what was read; one of them may be missing.
    fn directory(
        &mut self,
        before: Option<&[ChunkRef]>,
        read: Option<&[ChunkRef]>,
        depth: usize,
    ) -> Result<Vec<ChunkRef>, PullError> {
        let (mut before, mut read) = (self.nodes(before)?, self.nodes(read)?);
        let (mut encoder, mut content) = (TreeEncoder::new(), Vec::new());
        loop {
            let order = match (before.peek(), read.peek()) {
                (None, None) => break,
                (Some(Ok(before)), Some(Ok(read))) => before.name.cmp(&read.name),
                // An error is met where it is taken.
                (Some(Err(_)), _) | (_, None) => Ordering::Less,
                (_, Some(_)) => Ordering::Greater,
            };
            let old = if order.is_le() { before.next().transpose()? } else { None };
            let new = if order.is_ge() { read.next().transpose()? } else { None };
            if let Some(node) = self.node(old, new, depth)? {
                encoder.push(&node).map_err(|_| PullError::protocol("a directory cannot be encoded"))?;
                put_chunks(&mut encoder, &mut content, self.store)?;
            }
        }
        encoder.finish();
        put_chunks(&mut encoder, &mut content, self.store)?;
        Ok(content)
    }

    fn nodes(&mut self, content: Option<&[ChunkRef]>) -> Result<Peekable<Nodes>, PullError> {
        let nodes: Nodes = match content {
            Some(content) => self.store.tree_nodes(content)?,
            None => Box::new(std::iter::empty()),
        };
        Ok(nodes.peekable())
    }

    /// What becomes of a name: `old` is what there was before, `new` what was read.
    fn node(
        &mut self,
        old: Option<Node>,
        new: Option<Node>,
        depth: usize,
    ) -> Result<Option<Node>, PullError> {
        let child = |node: &Option<Node>| match node.as_ref().map(|node| &node.kind) {
            Some(NodeKind::Directory { content }) => Some(content.clone()),
            _ => None,
        };
        let (below_old, below_new) = (child(&old), child(&new));
        if below_new.is_some() || (new.is_none() && below_old.is_some()) {
            // What lies deeper is read again.
            if depth >= RESUMED_DEPTH_MAX {
                return Ok(None);
            }
            let content = self.directory(below_old.as_deref(), below_new.as_deref(), depth + 1)?;
            return Ok(new.or(old).map(|node| Node { kind: NodeKind::Directory { content }, ..node }));
        }
        if let Some(new) = new {
            if self.is_there(&new)? {
                return Ok(Some(new));
            }
        }
        let Some(old) = old.filter(|old| old.meta.mtime.max(old.meta.ctime) < self.settled) else {
            return Ok(None);
        };
        let stays = !old.is_directory() && (self.is_sealed || self.is_there(&old)?);
        Ok(stays.then_some(old))
    }

    /// Whether all chunks of a file can be relied on.
    fn is_there(&mut self, node: &Node) -> Result<bool, PullError> {
        for chunk in node.content() {
            if !self.store.relies_on(chunk)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
