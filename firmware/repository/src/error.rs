//! The one error type of this crate: a variant per thing that cannot be done, and the exit code that tells it to scripts.

use mailkeep_format::{ChunkId, FormatError, KeyError, PackId};
use thiserror::Error;

use crate::storage::{Storage, StorageError};

/// Why something could not be done with a repository.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// The disk (or the folder) did not do what it was asked to.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Nothing is here: the disk is absent or not mounted, or the path is wrong.
    #[error("there is no repository in {path}: plug in the disk, or make one with `mailkeep init`")]
    Absent {
        /// The folder.
        path: String,
    },
    /// A new repository needs a folder of its own.
    #[error("{path} is not empty: a repository is made in an empty or new folder")]
    NotEmpty {
        /// The folder.
        path: String,
    },
    /// A key that was given does not open this repository.
    #[error(
        "this key does not open the repository in {path}: give the box key or the recovery key that was made with it"
    )]
    WrongKey {
        /// The folder.
        path: String,
    },
    /// The repository is encrypted and no key was given.
    #[error("the repository in {path} is encrypted: give its key with --key-file")]
    KeyNeeded {
        /// The folder.
        path: String,
    },
    /// The file with the key cannot be used.
    #[error("the key file {path} cannot be read")]
    KeyFile {
        /// The key file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file with the key does not hold one.
    #[error("the key file {path} holds no usable key")]
    KeyText {
        /// The key file.
        path: String,
        /// Why.
        source: KeyError,
    },
    /// The repository is newer than this program.
    #[error("{path} needs a newer version of mailkeep")]
    Unsupported {
        /// The file that says so.
        path: String,
        /// What is unknown.
        source: FormatError,
    },
    /// A file of the repository does not decode.
    #[error("{path} is damaged: run `mailkeep verify`, and use another disk of the set")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// All copies of a key file are damaged.
    #[error("all key files in {path} are damaged: use another disk of the set")]
    DamagedKeys {
        /// The folder.
        path: String,
        /// What is wrong with the last one.
        source: KeyError,
    },
    /// A key file could not be made.
    #[error("the key file for {path} could not be made")]
    KeyNotMade {
        /// The folder of the repository.
        path: String,
        /// Why.
        source: KeyError,
    },
    /// Somebody else writes to the repository.
    #[error(
        "the repository is locked by {holder}: wait for it; if that box is gone for good, `mailkeep unlock`"
    )]
    Locked {
        /// Who, as far as it is known.
        holder: String,
    },
    /// The lease was taken by somebody else while this run slept.
    #[error(
        "the lock on the repository went to {holder} while this run slept: nothing more was written; run it again"
    )]
    LeaseLost {
        /// Who has it now.
        holder: String,
    },
    /// The disk takes no writes.
    #[error("{path} cannot be written (read-only): nothing was changed; mount it for writing and run again")]
    ReadOnly {
        /// The folder.
        path: String,
    },
    /// Without encryption there are no keys.
    #[error("the repository in {path} is not encrypted: it has no keys")]
    NotEncrypted {
        /// The folder.
        path: String,
    },
    /// No key file has this id.
    #[error("there is no key {id} here: see `mailkeep key ls`")]
    NoSuchKey {
        /// What was asked for.
        id: String,
    },
    /// The key must stay.
    #[error("the key {id} stays: {why}")]
    KeyStays {
        /// Its id.
        id: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// No room is left. What was sealed before is untouched, and the next run goes on where this one ended.
    #[error(
        "the disk is full ({free} bytes free) at {path}: make room there, or use another disk of the set, and run again"
    )]
    DiskFull {
        /// What was being written.
        path: String,
        /// Bytes that are left.
        free: u64,
    },
    /// A pack that was just written reads back as something else.
    #[error("{path} was written but reads back differently: do not trust this disk, its cable or its port")]
    ReadBack {
        /// The pack.
        path: String,
    },
    /// A chunk is in no pack that is here.
    #[error("chunk {id} is missing: run `mailkeep verify`, and use another disk of the set")]
    MissingChunk {
        /// Its id.
        id: ChunkId,
    },
    /// A chunk was found, but its bytes are not what its id says.
    #[error(
        "chunk {id} in pack {pack} is not what it was: run `mailkeep verify`, and use another disk of the set"
    )]
    DamagedChunk {
        /// Its id.
        id: ChunkId,
        /// Where it lies.
        pack: PackId,
    },
    /// Something that must be known before anything is removed is not known.
    #[error("nothing was deleted: {why}: run `mailkeep verify`")]
    NotSwept {
        /// What is in the way.
        why: String,
    },
    /// The end was asked for. The repository is sound.
    #[error("ended early, as asked: what was begun is left for the next run")]
    Interrupted,
    /// A sweep was done, and not all that stays is whole.
    #[error(
        "what stays after this prune is not whole; the guard from before it is kept: see `mailkeep guards list`"
    )]
    SweptTooMuch,
    /// There is no such guard.
    #[error("there is no guard {name} here: see `mailkeep guards list`")]
    NoGuard {
        /// What was asked for.
        name: String,
    },
    /// A guard cannot take the place of the repository.
    #[error("nothing was changed: {why}: see `mailkeep guards list`")]
    NotRolledBack {
        /// What is in the way.
        why: String,
    },
    /// No snapshot fits what was asked for.
    #[error("no snapshot {wanted} here: see `mailkeep snapshots`")]
    NoSnapshot {
        /// What was asked for.
        wanted: String,
    },
    /// Several snapshots fit.
    #[error("{wanted} fits {count} snapshots: give more digits, or --source")]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// How many fit.
        count: usize,
    },
    /// Something could not be encoded.
    #[error("cannot encode {what}")]
    Encode {
        /// What.
        what: &'static str,
        /// Why.
        source: FormatError,
    },
    /// The writer has failed before; this is what happened then.
    #[error("the backup has stopped: {first}")]
    Stopped {
        /// The text of the first error.
        first: String,
    },
    /// A thread could not be started or has ended unexpectedly.
    #[error("a worker of the backup engine is gone: run again, and report this")]
    Worker,
}

impl RepositoryError {
    /// The exit code of `mailkeep` for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            RepositoryError::Absent { .. } => 75,
            RepositoryError::WrongKey { .. }
            | RepositoryError::KeyNeeded { .. }
            | RepositoryError::KeyFile { .. }
            | RepositoryError::KeyText { .. } => 77,
            RepositoryError::Locked { .. } | RepositoryError::LeaseLost { .. } => 11,
            RepositoryError::Damaged { .. }
            | RepositoryError::DamagedKeys { .. }
            | RepositoryError::ReadBack { .. }
            | RepositoryError::MissingChunk { .. }
            | RepositoryError::NotSwept { .. }
            | RepositoryError::SweptTooMuch
            | RepositoryError::NotRolledBack { .. }
            | RepositoryError::DamagedChunk { .. } => 65,
            RepositoryError::Interrupted => 130,
            _ => 1,
        }
    }

    /// A command that helps, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            RepositoryError::Locked { .. } => Some("mailkeep unlock"),
            RepositoryError::Absent { .. } => Some("mailkeep init"),
            RepositoryError::NoGuard { .. }
            | RepositoryError::NotRolledBack { .. }
            | RepositoryError::SweptTooMuch => Some("mailkeep guards list"),
            error if error.exit_code() == 65 => Some("mailkeep verify"),
            RepositoryError::NoSnapshot { .. } | RepositoryError::Ambiguous { .. } => {
                Some("mailkeep snapshots")
            }
            _ => None,
        }
    }

    /// Whether waiting or plugging in a disk may help.
    pub fn is_absent(&self) -> bool {
        matches!(self, RepositoryError::Absent { .. })
    }

    /// A file that did not decode: newer than this program, or damaged.
    pub(crate) fn decoding(path: impl Into<String>, source: FormatError) -> Self {
        let path = path.into();
        if is_newer(&source) {
            RepositoryError::Unsupported { path, source }
        } else {
            RepositoryError::Damaged { path, source }
        }
    }

    /// A failed write: a full disk is told as such, with what is left of it.
    pub(crate) fn writing(storage: &dyn Storage, error: StorageError) -> Self {
        if error.is_full() {
            let free = storage.free_space().unwrap_or(0);
            return RepositoryError::DiskFull { path: error.path, free };
        }
        RepositoryError::Storage(error)
    }
}

/// Whether the bytes are sound but from a later version.
pub(crate) fn is_newer(error: &FormatError) -> bool {
    matches!(error, FormatError::UnknownVersion { .. } | FormatError::UnknownFeature { .. })
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
