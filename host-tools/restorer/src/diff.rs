//! What differs between two snapshots. Folders whose chunks are the same are never read.
//!
//! How much there is to compare nobody knows beforehand: the snapshots' sizes say nothing of what they share. So the top of
//! the two trees is looked at first, down to where enough folders differ; how many of those are behind is the measure.

use std::cmp::Ordering;
use std::collections::HashSet;

use mailkeep_format::limits::DEPTH_MAX;
use mailkeep_format::{Node, NodeKind};

use crate::contents::Nodes;
use crate::path::{join, show};
use crate::{RestoreError, View, limits};

/// One difference, seen from the older snapshot to the newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: Vec<u8>,
    /// It is (or was) a folder.
    pub folder: bool,
    /// What happened.
    pub what: What,
    /// Bytes of the file in the older snapshot, if it is one there.
    pub before: Option<u64>,
    /// Bytes of the file in the newer snapshot, if it is one there.
    pub after: Option<u64>,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Only the newer snapshot has it.
    Added,
    /// Only the older snapshot has it.
    Removed,
    /// Another kind of file stands there.
    Kind,
    /// Its contents (or a link's target, a device's number) are others.
    Content,
    /// Only owner, mode, times or attributes are others.
    Metadata,
}

/// How far a comparison is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Names that were compared.
    pub names: u64,
    /// Of the folders that are its measure, those that are behind it.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// Calls `each` for everything below `path` that differs, and `looked` now and then and at the end, unless no folder
/// differs.
///
/// # Errors
/// `path` is missing from both, or a folder that differs cannot be read.
pub fn diff(
    old: &View,
    new: &View,
    path: &[u8],
    each: &mut dyn FnMut(&Change),
    looked: &mut dyn FnMut(Looked),
) -> Result<(), RestoreError> {
    let (before, after) = match (old.lookup(path), new.lookup(path)) {
        (Err(error), Err(_)) => return Err(error),
        (before, after) => (before.ok(), after.ok()),
    };
    let both = Both { old, new };
    let measure = both.measure(path, before.as_ref(), after.as_ref());
    let now = Looked { total: measure.len() as u64, ..Looked::default() };
    let differs = now.total > 0;
    if differs {
        looked(now);
    }
    let mut differ = Differ { both, each, looked, measure, now };
    differ.pair(path, before.as_ref(), after.as_ref(), 0)?;
    if differs {
        (differ.looked)(differ.now);
    }
    Ok(())
}

/// The two snapshots.
#[derive(Clone, Copy)]
struct Both<'a> {
    old: &'a View,
    new: &'a View,
}

/// What stands under a path in the older and in the newer snapshot.
type Pair<'a> = (Option<&'a Node>, Option<&'a Node>);
/// Takes a path and what stands there.
type EachPair<'a> = &'a mut dyn FnMut(&[u8], Pair<'_>) -> Result<(), RestoreError>;

impl Both<'_> {
    /// Goes through what two folders have, in order of names.
    fn below(self, path: &[u8], (before, after): Pair<'_>, each: EachPair<'_>) -> Result<(), RestoreError> {
        let (mut left, mut right) = (Side::of(self.old, path, before)?, Side::of(self.new, path, after)?);
        loop {
            let order = match (left.peek()?, right.peek()?) {
                (Some(one), Some(other)) => one.name.cmp(&other.name),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Ok(()),
            };
            let before = if order == Ordering::Greater { None } else { left.next.take() };
            let after = if order == Ordering::Less { None } else { right.next.take() };
            let pair = (before.as_ref(), after.as_ref());
            let Some(name) = pair.0.or(pair.1).map(|node| node.name.as_slice()) else { return Ok(()) };
            each(&join(path, name), pair)?;
        }
    }

    /// Folders that differ and lie beside or below one another, as far down as it takes to have enough of them.
    fn measure(self, path: &[u8], before: Option<&Node>, after: Option<&Node>) -> HashSet<Vec<u8>> {
        type Held = (Vec<u8>, Option<Node>, Option<Node>);
        let mut level: Vec<Held> = vec![(path.to_vec(), before.cloned(), after.cloned())];
        level.retain(|(_, before, after)| is_gone_into((before.as_ref(), after.as_ref())));
        for _ in 0..limits::MEASURED_DEPTH {
            if level.is_empty() || level.len() >= limits::MEASURED {
                break;
            }
            let mut next: Vec<Held> = Vec::new();
            let mut went_down = false;
            for (path, before, after) in level {
                let count = next.len();
                // What cannot be read is told by the comparison itself.
                let _ = self.below(&path, (before.as_ref(), after.as_ref()), &mut |path, pair| {
                    if is_gone_into(pair) && next.len() < limits::MEASURED_MOST {
                        next.push((path.to_vec(), pair.0.cloned(), pair.1.cloned()));
                    }
                    Ok(())
                });
                if next.len() > count {
                    went_down = true;
                } else {
                    next.push((path, before, after));
                }
            }
            level = next;
            if !went_down {
                break;
            }
        }
        level.into_iter().map(|(path, ..)| path).collect()
    }
}

/// Whether there is something to compare below.
fn is_gone_into((before, after): Pair<'_>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            (before.is_directory() || after.is_directory())
                && !(before.content() == after.content() && before.is_directory() == after.is_directory())
        }
        (one, other) => one.or(other).is_some_and(Node::is_directory),
    }
}

struct Differ<'a> {
    both: Both<'a>,
    each: &'a mut dyn FnMut(&Change),
    looked: &'a mut dyn FnMut(Looked),
    /// Of the measure, what is still to come.
    measure: HashSet<Vec<u8>>,
    now: Looked,
}

impl Differ<'_> {
    fn pair(
        &mut self,
        path: &[u8],
        before: Option<&Node>,
        after: Option<&Node>,
        depth: usize,
    ) -> Result<(), RestoreError> {
        if depth > DEPTH_MAX {
            return Err(RestoreError::TooDeep { path: show(path) });
        }
        self.now.names += 1;
        if self.now.names % limits::NAMES_BETWEEN_LOOKS == 0 {
            (self.looked)(self.now);
        }
        match (before, after) {
            (Some(before), Some(after)) => {
                if let Some(what) = compare(before, after) {
                    self.tell(path, what, Some(before), Some(after));
                }
            }
            (Some(before), None) => self.tell(path, What::Removed, Some(before), None),
            (None, Some(after)) => self.tell(path, What::Added, None, Some(after)),
            (None, None) => return Ok(()),
        }
        if !is_gone_into((before, after)) {
            return Ok(());
        }
        let both = self.both;
        both.below(path, (before, after), &mut |path, (before, after)| {
            self.pair(path, before, after, depth + 1)
        })?;
        if self.measure.remove(path) {
            self.now.done += 1;
            (self.looked)(self.now);
        }
        Ok(())
    }

    fn tell(&mut self, path: &[u8], what: What, before: Option<&Node>, after: Option<&Node>) {
        let size = |node: Option<&Node>| node.filter(|node| node.is_file()).map(Node::size);
        let folder = after.or(before).is_some_and(Node::is_directory);
        let (before, after) = (size(before), size(after));
        (self.each)(&Change { path: path.to_vec(), folder, what, before, after });
    }
}

/// The nodes of one of two folders.
struct Side<'a> {
    path: &'a [u8],
    nodes: Option<Nodes<'a>>,
    next: Option<Node>,
}

impl<'a> Side<'a> {
    /// Of nothing, or of what is no folder, there are none.
    fn of(view: &'a View, path: &'a [u8], node: Option<&Node>) -> Result<Self, RestoreError> {
        let folder = node.filter(|node| node.is_directory());
        Ok(Side { path, nodes: folder.map(|node| view.nodes(path, node)).transpose()?, next: None })
    }

    fn peek(&mut self) -> Result<Option<&Node>, RestoreError> {
        if self.next.is_none() {
            let next = self.nodes.as_mut().and_then(Iterator::next).transpose();
            self.next = next.map_err(|source| RestoreError::Unreadable { path: show(self.path), source })?;
        }
        Ok(self.next.as_ref())
    }
}

/// How two nodes of one path differ; folders' contents are compared one by one instead.
fn compare(before: &Node, after: &Node) -> Option<What> {
    if std::mem::discriminant(&before.kind) != std::mem::discriminant(&after.kind) {
        return Some(What::Kind);
    }
    let same_content = match (&before.kind, &after.kind) {
        (NodeKind::Directory { .. }, NodeKind::Directory { .. }) => true,
        (NodeKind::File { size, content, .. }, NodeKind::File { size: size2, content: content2, .. }) => {
            size == size2 && content == content2
        }
        (one, other) => one == other,
    };
    if !same_content {
        return Some(What::Content);
    }
    let key = |node: &Node| {
        let meta = &node.meta;
        (meta.mode, meta.uid, meta.gid, meta.mtime, meta.xattrs.clone())
    };
    (key(before) != key(after)).then_some(What::Metadata)
}
