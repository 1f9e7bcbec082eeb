//! A profile: what of a server is backed up, and what each name there means. Agent and puller use the same
//! profile: the agent to walk, the puller to judge what came.
//!
//! A profile is pure: paths are compared letter by letter, nothing is looked up. It is made from the source
//! file and, for Cyrus, from the configuration that the source file names, read through a closure: on the
//! server that is the file system, on the box whatever the agent has sent.

use std::io;
use std::path::{Path, PathBuf};

use crate::cyrus::profile::CyrusProfile;
use crate::error::MailError;
use crate::generic::GenericProfile;
use crate::source::{Source, System};

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

/// What is backed up of a source.
#[derive(Debug, Clone)]
pub enum Profile {
    /// A Cyrus server.
    Cyrus(CyrusProfile),
    /// Trees of whatever kind.
    Generic(GenericProfile),
}

impl Profile {
    /// The profile of a source. `read_file` is asked for the mail server's configuration files only, and may
    /// be asked for any path that those include.
    pub fn new(
        source: &Source,
        read_file: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Profile, MailError> {
        Ok(match &source.system {
            System::Cyrus(options) => Profile::Cyrus(CyrusProfile::new(options, read_file)?),
            System::Generic(options) => {
                let stopped = source.quiesce.stop.is_some();
                Profile::Generic(GenericProfile::new(options, stopped)?)
            }
        })
    }

    /// The trees to walk: absolute, none inside another, in a fixed order.
    pub fn roots(&self) -> &[Root] {
        match self {
            Profile::Cyrus(cyrus) => cyrus.roots(),
            Profile::Generic(generic) => generic.roots(),
        }
    }

    /// Single files to take beside the roots: none lies inside a root.
    pub fn files(&self) -> &[ExtraFile] {
        match self {
            Profile::Cyrus(cyrus) => cyrus.files(),
            Profile::Generic(_) => &[],
        }
    }

    /// What an absolute path means. A directory gets [`FileClass::Mutable`] (enter it), `ExcludeContents` or
    /// `Exclude`; anything else gets any class but `ExcludeContents`. The walker asks from the root
    /// downwards and never asks about what lies inside a directory that it does not enter.
    pub fn classify(&self, path: &Path, is_dir: bool) -> FileClass {
        match self {
            Profile::Cyrus(cyrus) => cyrus.classify(path, is_dir),
            Profile::Generic(generic) => generic.classify(path, is_dir),
        }
    }

    /// Whether it proves that somebody still wrote, if a file vanishes between the listing and the reading of
    /// the final pass. In a live pass vanishing is always harmless.
    pub fn vanish_is_error_in_final(&self, path: &Path) -> bool {
        match self {
            Profile::Cyrus(cyrus) => cyrus.classify(path, false).is_kept(),
            Profile::Generic(generic) => generic.is_stopped() && generic.classify(path, false).is_kept(),
        }
    }

    /// Whether the system has a list of mailboxes that is exported inside the window.
    pub fn has_mailbox_list(&self) -> bool {
        matches!(self, Profile::Cyrus(_))
    }

    /// What the person should know about what this profile leaves out, one line each.
    pub fn notes(&self) -> &[String] {
        match self {
            Profile::Cyrus(cyrus) => cyrus.notes(),
            Profile::Generic(_) => &[],
        }
    }
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
