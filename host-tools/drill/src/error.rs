//! Why there was no rehearsal. What a rehearsal finds is no error: it is its result.

use std::io;

use mailkeep_mailview::MailViewError;
use mailkeep_restorer::RestoreError;
use thiserror::Error;

/// Why there was no rehearsal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DrillError {
    /// The scratch folder cannot be used.
    #[error("cannot {doing} the scratch folder {path}")]
    Scratch {
        /// What was tried.
        doing: &'static str,
        /// The folder.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is no room.
    #[error(
        "{path} has {free} bytes free, and a rehearsal of {what} needs {needed}; name another place with --scratch, or take \
         a part with --sample 5%"
    )]
    NoRoom {
        /// The scratch place.
        path: String,
        /// What was to be rebuilt.
        what: &'static str,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// The file system cannot take so many names.
    #[error(
        "{path} can take {free} more files, and {needed} are needed; name another place with --scratch, or take a part with \
         --sample 5%"
    )]
    NoNames {
        /// The scratch place.
        path: String,
        /// Files that it can take.
        free: u64,
        /// Files that are needed.
        needed: u64,
    },
    /// The place was not named, and it is on the disk that is to be proven.
    #[error(
        "{path} is on the disk of the repository, which is not filled unasked; name a scratch place with --scratch, which may \
         be this one"
    )]
    OnRepositoryDisk {
        /// The scratch place.
        path: String,
    },
    /// The place is the repository itself.
    #[error("{path} lies in the repository; name a scratch place outside of it with --scratch")]
    InRepository {
        /// The scratch place.
        path: String,
    },
    /// More files were asked for than can be drawn.
    #[error(
        "a sample has at most {most} files, and {asked} were asked for; take fewer, or the whole snapshot"
    )]
    SampleTooLarge {
        /// Files that were asked for.
        asked: u64,
        /// The most.
        most: u64,
    },
    /// No random numbers are to be had.
    #[error("this system gives no random numbers")]
    NoRandomness,
    /// The snapshot cannot be rebuilt, and not on account of damage.
    #[error(transparent)]
    Restore(RestoreError),
    /// The snapshot's mailboxes cannot be told.
    #[error(transparent)]
    Mail(#[from] MailViewError),
}

impl From<RestoreError> for DrillError {
    fn from(error: RestoreError) -> Self {
        DrillError::Restore(error)
    }
}

impl DrillError {
    /// Whether it says that the snapshot is damaged: then that is the result.
    pub(crate) fn is_damage(&self) -> bool {
        let damaged = |error: &RestoreError| error.contents().is_some_and(|why| why.is_damage());
        match self {
            DrillError::Restore(error) => damaged(error),
            DrillError::Mail(MailViewError::Snapshot(error)) => damaged(error),
            _ => false,
        }
    }
}
