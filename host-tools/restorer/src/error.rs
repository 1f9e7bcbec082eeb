//! The one error type of this crate: what could not be read from a snapshot, or done to a target.

use std::io;

use thiserror::Error;

/// Why contents could not be had from where a snapshot is stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ContentsError {
    /// The bytes are there but not what they should be, or should be there and are not.
    #[error("damaged in the repository: {0}")]
    Damaged(String),
    /// The medium did not answer; nothing is known about the bytes.
    #[error("the repository's disk cannot be read: {0}")]
    Unreachable(String),
}

impl ContentsError {
    /// Whether data is known to be lost, as opposed to a medium that may answer later.
    pub fn is_damage(&self) -> bool {
        matches!(self, ContentsError::Damaged(_))
    }
}

/// Why a view, a plan or a restore could not go on. Paths are shown with unprintable bytes escaped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A path that was asked for is not in the snapshot.
    #[error("{path} is not in the snapshot; `ls` shows what is")]
    NotFound {
        /// The first part of the path that is missing.
        path: String,
    },
    /// Something was asked for inside of a thing that is not a folder.
    #[error("{path} is not a folder in the snapshot")]
    NotDirectory {
        /// The thing.
        path: String,
    },
    /// A path that can never be in a snapshot.
    #[error("`{path}` is not a plain path; give one without `..`")]
    BadPath {
        /// The path as given.
        path: String,
    },
    /// A folder or file of the snapshot could not be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The folder or file.
        path: String,
        /// Why.
        source: ContentsError,
    },
    /// Folders are nested deeper than any that Mailkeep stores.
    #[error("folders below {path} are nested too deeply")]
    TooDeep {
        /// Where it was given up.
        path: String,
    },
    /// The target folder cannot be made or opened.
    #[error("cannot use the target folder {path}")]
    Target {
        /// The target folder.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Deleting was asked for where it would empty the whole machine.
    #[error("will not delete in {path}, which is this machine's root; name the paths to mirror with --path")]
    WouldDeleteRoot {
        /// The target folder.
        path: String,
    },
    /// Nothing more fits on the target.
    #[error("no space left on the target while writing {path}; free some and run the restore again")]
    Full {
        /// What was being written.
        path: String,
    },
    /// What was written could not be forced onto the target's disk.
    #[error("the target's disk did not take what was written below {path}; nothing there can be relied on")]
    NotDurable {
        /// The target folder.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The caller asked to stop; what was finished stays.
    #[error("interrupted")]
    Interrupted,
}

impl RestoreError {
    /// What went wrong underneath, if it was the repository's contents.
    pub fn contents(&self) -> Option<&ContentsError> {
        match self {
            RestoreError::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}
