//! What differs between two snapshots. Folders whose chunks are the same are never read.

use std::cmp::Ordering;

use mailkeep_format::limits::DEPTH_MAX;
use mailkeep_format::{Node, NodeKind};

use crate::contents::Nodes;
use crate::path::{join, show};
use crate::{RestoreError, View};

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

/// Calls `each` for everything below `path` that differs.
///
/// # Errors
/// `path` is missing from both, or a folder that differs cannot be read.
pub fn diff(old: &View, new: &View, path: &[u8], each: &mut dyn FnMut(&Change)) -> Result<(), RestoreError> {
    let (before, after) = match (old.lookup(path), new.lookup(path)) {
        (Err(error), Err(_)) => return Err(error),
        (before, after) => (before.ok(), after.ok()),
    };
    let mut differ = Differ { old, new, each };
    differ.pair(path, before.as_ref(), after.as_ref(), 0)
}

struct Differ<'a> {
    old: &'a View,
    new: &'a View,
    each: &'a mut dyn FnMut(&Change),
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
        match (before, after) {
            (Some(before), Some(after)) => {
                if let Some(what) = compare(before, after) {
                    self.tell(path, what, Some(before), Some(after));
                }
                if before.content() == after.content() && before.is_directory() == after.is_directory() {
                    return Ok(());
                }
            }
            (Some(before), None) => self.tell(path, What::Removed, Some(before), None),
            (None, Some(after)) => self.tell(path, What::Added, None, Some(after)),
            (None, None) => return Ok(()),
        }
        self.below(path, before, after, depth)
    }

    fn below(
        &mut self,
        path: &[u8],
        before: Option<&Node>,
        after: Option<&Node>,
        depth: usize,
    ) -> Result<(), RestoreError> {
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
            let (before, after) = (before.as_ref(), after.as_ref());
            let Some(name) = before.or(after).map(|node| node.name.as_slice()) else { return Ok(()) };
            self.pair(&join(path, name), before, after, depth + 1)?;
        }
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
