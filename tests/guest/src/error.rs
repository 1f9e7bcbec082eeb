//! The one error type of this crate.

use std::io;
use std::path::PathBuf;

/// Why there is no guest, or no answer from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// Something that has to be installed is not.
    #[error("{what} is not there; run images/packages.sh test as root")]
    Missing {
        /// What.
        what: String,
    },
    /// A file of the host cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program of the host failed.
    #[error("{command} failed: {why}")]
    Command {
        /// The program.
        command: String,
        /// Its words.
        why: String,
    },
    /// The guest is gone.
    #[error("the guest ended while {waiting}; the last of its console:\n{console}")]
    Ended {
        /// What was waited for.
        waiting: String,
        /// The end of what the kernel said.
        console: String,
    },
    /// The guest does not answer.
    #[error(
        "the guest did not answer while {waiting}; it said:\n{said}\nthe last of its console:\n{console}"
    )]
    Silent {
        /// What was waited for.
        waiting: String,
        /// What the command has said so far.
        said: String,
        /// The end of what the kernel said.
        console: String,
    },
}

impl GuestError {
    /// An error that names the file.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> GuestError {
        let path = path.into();
        move |source| GuestError::File { action, path, source }
    }
}
