//! What a profile is made of: roots to walk, single files beside them, and what a name means for the copy.

use std::path::PathBuf;

/// Name of the folder in which a restore builds trees and keeps old ones, on their own file system. Never backed up.
pub const BESIDE: &str = ".mailkeep-restore";

/// What a name in a root means for the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileClass {
    /// A file that is written once and never changed: it can be hard-linked into the staging folder, and in
    /// an unchanged directory it needs no second look.
    Message,
    /// A file that may change at any time, or a directory that is to be entered.
    Mutable,
    /// Like [`FileClass::Mutable`], but the mail system can make it again: kept, because that takes time.
    Rebuildable,
    /// A directory that is kept empty, with its owner and mode: the mail system needs it, not its contents.
    ExcludeContents,
    /// Not backed up at all.
    Exclude,
}

impl FileClass {
    /// Whether the entry itself goes into the snapshot.
    pub fn is_kept(self) -> bool {
        self != FileClass::Exclude
    }
}

/// Whether a root or file must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Without it there is no backup: it is missing because something is not mounted or not installed.
    Required,
    /// Taken where it is there; Cyrus makes some folders only when they are needed.
    Optional,
}

/// A tree to walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Absolute path. If it is a symbolic link, the link and the tree that it leads to are both wanted.
    pub path: PathBuf,
    /// Whether it must be there.
    pub presence: Presence,
    /// Where it was named, for messages: `partition-default in /etc/imapd.conf`.
    pub named_by: String,
}

/// A single file beside the roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Whether it must be there.
    pub presence: Presence,
    /// Where it was named, for messages.
    pub named_by: String,
}

/// Drops what lies inside another root: a tree is walked once. A required root inside an optional one makes
/// that one required, since it cannot be there without it.
pub(crate) fn without_nested(mut roots: Vec<Root>) -> Vec<Root> {
    // Shorter paths first, so that an outer root is always seen before the inner one; the sort is stable.
    roots.sort_by_key(|root| root.path.components().count());
    let mut outer: Vec<Root> = Vec::new();
    for root in roots {
        match outer.iter_mut().find(|known| root.path.starts_with(&known.path)) {
            Some(known) if root.presence == Presence::Required => known.presence = Presence::Required,
            Some(_) => {}
            None => outer.push(root),
        }
    }
    outer.sort_by(|a, b| a.path.cmp(&b.path));
    outer
}
