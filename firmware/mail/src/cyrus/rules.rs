//! What each name in Cyrus' folders means for the copy. The table is the measured one (what was seen when the
//! file was missing after a restore); names count only in the places where Cyrus makes them, because in the
//! older layout a user's mailbox may be called `lock`, `proc` or `log`.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::scope::FileClass;

/// What kind of tree lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AreaKind {
    /// configdirectory.
    Config,
    /// A data, meta or archive partition.
    Partition,
    /// sievedir.
    Sieve,
    /// quota_db_path with one small file per quota root, named as the mailbox.
    Quota,
    /// A search partition: squatter makes it again.
    Search,
}

/// A tree of a known kind.
#[derive(Debug, Clone)]
pub(super) struct Area {
    pub(super) path: PathBuf,
    pub(super) kind: AreaKind,
}

impl Area {
    fn is_wanted(&self) -> bool {
        self.kind != AreaKind::Search
    }
}

/// Folders directly in configdirectory that Cyrus needs, but not what is in them: locks and sockets of
/// running processes, telemetry, and copies that checkpoints make of the databases.
const EMPTIED_IN_CONFIG: &[&[u8]] = &[b"lock", b"proc", b"socket", b"log", b"db.backup1", b"db.backup2"];

/// Folders directly in a partition where deliveries and replication put messages together.
const EMPTIED_IN_PARTITION: &[&[u8]] = &[b"stage.", b"sync."];

/// Files directly in configdirectory that are left out. Nothing differs over IMAP without them. All three are
/// hot, so that each would be copied inside every window; a status cache that is older than its mailboxes
/// would lie; TLS sessions are secrets; and the duplicate database matters only for mail that is delivered
/// twice.
const LEFT_OUT_IN_CONFIG: &[&[u8]] = &[b"deliver.db", b"tls_sessions.db", b"statuscache.db"];

/// Files of a mailbox that reconstruct or squatter make again; kept, because that takes long.
const REBUILDABLE_IN_MAILBOX: &[&[u8]] = &[b"cyrus.cache", b"cyrus.squat", b"cyrus.archivecache"];

/// The rules of one server.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Longest path first: of nested areas the innermost decides.
    areas: Vec<Area>,
    excluded: BTreeSet<PathBuf>,
    emptied: BTreeSet<PathBuf>,
}

impl Rules {
    pub(super) fn new(
        mut areas: Vec<Area>,
        excluded: BTreeSet<PathBuf>,
        emptied: BTreeSet<PathBuf>,
    ) -> Rules {
        areas.sort_by_key(|area| std::cmp::Reverse(area.path.components().count()));
        Rules { areas, excluded, emptied }
    }

    pub(super) fn classify(&self, path: &Path, is_dir: bool) -> FileClass {
        // A folder on the way to a tree that is wanted is entered, whatever it is called.
        if is_dir
            && self
                .areas
                .iter()
                .any(|area| area.is_wanted() && area.path != path && area.path.starts_with(path))
        {
            return FileClass::Mutable;
        }
        if is_dir && self.emptied.contains(path) {
            return FileClass::ExcludeContents;
        }
        if !is_dir && self.excluded.contains(path) {
            return FileClass::Exclude;
        }
        let Some(area) = self.areas.iter().find(|area| path.starts_with(&area.path)) else {
            return FileClass::Mutable;
        };
        let below = path.strip_prefix(&area.path).unwrap_or(path);
        let (Some(name), depth) = (below.file_name(), below.components().count()) else {
            // The area's own folder.
            return if area.kind == AreaKind::Search {
                FileClass::ExcludeContents
            } else {
                FileClass::Mutable
            };
        };
        let name = name.as_bytes();
        let on_top = depth == 1;
        match area.kind {
            AreaKind::Search if is_dir => FileClass::ExcludeContents,
            AreaKind::Search => FileClass::Exclude,
            AreaKind::Config if is_dir => emptied(on_top && EMPTIED_IN_CONFIG.contains(&name)),
            AreaKind::Partition if is_dir => emptied(on_top && EMPTIED_IN_PARTITION.contains(&name)),
            AreaKind::Sieve | AreaKind::Quota if is_dir => FileClass::Mutable,
            AreaKind::Config => config_file(below, name, on_top),
            AreaKind::Partition => partition_file(name),
            AreaKind::Sieve => {
                if is_temporary(name) {
                    FileClass::Exclude
                } else {
                    FileClass::Mutable
                }
            }
            AreaKind::Quota => FileClass::Mutable,
        }
    }
}

fn emptied(yes: bool) -> FileClass {
    if yes { FileClass::ExcludeContents } else { FileClass::Mutable }
}

/// Names of files that Cyrus renames over the real one when it is done, and of its lock files.
fn is_temporary(name: &[u8]) -> bool {
    name.ends_with(b".NEW") || name.ends_with(b".lock")
}

fn config_file(below: &Path, name: &[u8], on_top: bool) -> FileClass {
    let top = below.components().next().map(|c| c.as_os_str().as_bytes());
    // A quota root is a file named as its mailbox, and that mailbox may be called `user.john.NEW`.
    if top == Some(b"quota") && !on_top {
        return FileClass::Mutable;
    }
    if is_temporary(name) || (on_top && LEFT_OUT_IN_CONFIG.contains(&name)) {
        return FileClass::Exclude;
    }
    let rebuilt = name.ends_with(b".conversations")
        || name.ends_with(b".counters")
        || matches!(name, b"conversations.db" | b"counters.db")
        || matches!(top, Some(b"db" | b"ptclient")) && !on_top;
    if rebuilt { FileClass::Rebuildable } else { FileClass::Mutable }
}

fn partition_file(name: &[u8]) -> FileClass {
    if is_message(name) {
        FileClass::Message
    } else if is_temporary(name) {
        FileClass::Exclude
    } else if REBUILDABLE_IN_MAILBOX.contains(&name) {
        FileClass::Rebuildable
    } else {
        FileClass::Mutable
    }
}

/// `N.`: the UID in decimal without leading zeros, and a dot.
fn is_message(name: &[u8]) -> bool {
    message_uid(name).is_some()
}

/// The UID of a message file's name, `None` if it is no such name.
pub fn message_uid(name: &[u8]) -> Option<u32> {
    let digits = name.strip_suffix(b".")?;
    if digits.first().is_none_or(|first| *first == b'0') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
