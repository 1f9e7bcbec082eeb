//! What differs between two snapshots. Folders whose chunks are the same are never read.

use std::cmp::Ordering;

use mailkeep_format::limits::DEPTH_MAX;
use mailkeep_format::{Node, NodeKind};

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
                    self.tell(path, after.is_directory(), what);
                }
                if before.content() == after.content() && before.is_directory() == after.is_directory() {
                    return Ok(());
                }
            }
            (Some(before), None) => self.tell(path, before.is_directory(), What::Removed),
            (None, Some(after)) => self.tell(path, after.is_directory(), What::Added),
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
        let folder = |node: Option<&Node>| node.filter(|node| node.is_directory()).cloned();
        let old = folder(before).map(|node| self.old.list(path, &node)).transpose()?.unwrap_or_default();
        let new = folder(after).map(|node| self.new.list(path, &node)).transpose()?.unwrap_or_default();
        let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (Some(one), Some(other)) => one.name.cmp(&other.name),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Ok(()),
            };
            let before = if order == Ordering::Greater { None } else { left.next() };
            let after = if order == Ordering::Less { None } else { right.next() };
            let Some(name) = before.or(after).map(|node| node.name.as_slice()) else { return Ok(()) };
            self.pair(&join(path, name), before, after, depth + 1)?;
        }
    }

    fn tell(&mut self, path: &[u8], folder: bool, what: What) {
        (self.each)(&Change { path: path.to_vec(), folder, what });
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
