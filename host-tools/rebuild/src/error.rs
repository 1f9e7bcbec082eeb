//! The one error type of this crate, and the exit code that fits each error.

use mailkeep_mail::MailError;
use mailkeep_puller::PullError;
use mailkeep_restorer::RestoreError;
use thiserror::Error;

/// Why a server cannot be rebuilt. Whatever the error, the server serves the old or the new state whole.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The agent cannot be reached, or the link broke.
    #[error(transparent)]
    Reach(PullError),
    /// The agent cannot go on.
    #[error("{host}: {what}")]
    Agent {
        /// The server.
        host: String,
        /// What failed, in the agent's words.
        what: String,
        /// The exit code that the agent proposes.
        exit_code: u8,
    },
    /// The agent is older than this.
    #[error("mailkeep-agent on {host} is too old to rebuild a server; run `mailkeep pair` again")]
    TooOld {
        /// The server.
        host: String,
    },
    /// The agent said something that it must not say at this point.
    #[error("mailkeep-agent on {host} breaks the protocol: {what}")]
    Protocol {
        /// The server.
        host: String,
        /// What it said.
        what: &'static str,
    },
    /// The snapshot cannot be read whole.
    #[error("the snapshot cannot be read whole, so the server was left as it is")]
    Snapshot(#[from] RestoreError),
    /// The snapshot's mail configuration cannot be used.
    #[error("the configuration in the snapshot cannot be used")]
    Config(#[from] MailError),
    /// Snapshot and server do not fit together.
    #[error("{why}")]
    Unfit {
        /// Why, and what to do.
        why: String,
    },
    /// A file system has no room.
    #[error(
        "{path} has {free} bytes free, and {needed} are needed; make room, or drop what an earlier restore has kept"
    )]
    NoRoom {
        /// A tree on it.
        path: String,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// It was called off.
    #[error("interrupted; the server serves what it served before, or all of the snapshot")]
    Interrupted,
}

impl RebuildError {
    /// The exit code of INTERFACES.md that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            RebuildError::Reach(error) => error.exit_code(),
            RebuildError::Agent { exit_code: code @ (75 | 77 | 78), .. } => *code,
            RebuildError::Snapshot(error) if error.contents().is_some_and(|why| why.is_damage()) => 65,
            RebuildError::Interrupted => 130,
            RebuildError::Config(_) => 78,
            _ => 1,
        }
    }
}
