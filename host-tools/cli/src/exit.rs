//! How the tool ends: exit codes of the interface, and errors as one line with what to do.

use std::error::Error;
use std::io;

use mailkeep_drill::DrillError;
use mailkeep_mailview::MailViewError;
use mailkeep_mailview::imap::ImapError;
use mailkeep_mount::MountError;
use mailkeep_pairing::PairError;
use mailkeep_puller::PullError;
use mailkeep_rebuild::RebuildError;
use mailkeep_repository::{RepositoryError, storage::StorageError};
use mailkeep_restorer::RestoreError;

use crate::text;

/// Done, nothing missing.
pub(crate) const DONE: u8 = 0;
/// Failed.
pub(crate) const FAILED: u8 = 1;
/// Done, but some things could not be done.
pub(crate) const PARTLY: u8 = 2;
/// The command line makes no sense.
pub(crate) const USAGE: u8 = 64;
/// Damaged data was found.
pub(crate) const DAMAGED: u8 = 65;
/// The disk or the source is not there.
pub(crate) const ABSENT: u8 = 75;
/// Wrong or missing key.
pub(crate) const KEY: u8 = 77;
/// A config or source file is wrong.
pub(crate) const CONFIG: u8 = 78;
/// Interrupted, with the repository sound.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why the tool ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell.
    Told {
        /// The exit code.
        code: u8,
        /// What failed, on what.
        what: String,
        /// The path it is about, where there is one.
        path: Option<String>,
        /// What to do.
        hint: Option<String>,
    },
    /// Whoever read our output has had enough; there is nobody to tell.
    BrokenPipe,
}

impl Failure {
    /// A failure with an exit code.
    pub(crate) fn new(code: u8, what: impl Into<String>) -> Self {
        Failure::Told { code, what: what.into(), path: None, hint: None }
    }

    /// Says what to do.
    pub(crate) fn hint(self, text: impl Into<String>) -> Self {
        match self {
            Failure::Told { code, what, path, .. } => {
                Failure::Told { code, what, path, hint: Some(text.into()) }
            }
            other => other,
        }
    }

    /// Says which path it is about.
    pub(crate) fn at(self, text: impl Into<String>) -> Self {
        match self {
            Failure::Told { code, what, hint, .. } => {
                Failure::Told { code, what, path: Some(text.into()), hint }
            }
            other => other,
        }
    }

    /// A file on this machine that could not be read or written.
    pub(crate) fn file(code: u8, doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let shown = path.display().to_string();
        Failure::new(code, format!("cannot {doing} {shown}: {error}")).at(shown)
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Told { code, .. } => *code,
            Failure::BrokenPipe => DONE,
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries repeat their cause; say it once.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        let failure = Failure::new(error.exit_code(), chain(&error));
        match (&error, error.hint()) {
            (RepositoryError::KeyFile { .. } | RepositoryError::KeyNeeded { .. }, _) => {
                failure.hint(text::KEY_MISSING_HINT)
            }
            (RepositoryError::KeyText { .. }, _) => failure.hint(text::KEY_BAD_HINT),
            (_, Some(hint)) => failure.hint(hint),
            _ => failure,
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Failure::new(FAILED, chain(&error))
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        let code = match &error {
            RestoreError::BadPath { .. } | RestoreError::WouldDeleteRoot { .. } => USAGE,
            RestoreError::Interrupted => INTERRUPTED,
            other => match other.contents() {
                Some(contents) if contents.is_damage() => DAMAGED,
                Some(_) => ABSENT,
                None => FAILED,
            },
        };
        Failure::new(code, chain(&error))
    }
}

impl From<DrillError> for Failure {
    fn from(error: DrillError) -> Self {
        match error {
            DrillError::Restore(error) => error.into(),
            DrillError::Mail(error) => error.into(),
            DrillError::SampleTooLarge { .. } | DrillError::InRepository { .. } => {
                Failure::new(USAGE, chain(&error))
            }
            error => Failure::new(FAILED, chain(&error)),
        }
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Repository(error) => error.into(),
            PullError::Interrupted => {
                Failure::new(INTERRUPTED, text::INTERRUPTED).hint(text::NOTHING_SEALED_HINT)
            }
            error => Failure::new(error.exit_code(), chain(&error)),
        }
    }
}

impl From<RebuildError> for Failure {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::Reach(error) => error.into(),
            error => Failure::new(error.exit_code(), chain(&error)),
        }
    }
}

impl From<PairError> for Failure {
    fn from(error: PairError) -> Self {
        let failure = Failure::new(error.exit_code(), chain(&error));
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<MailViewError> for Failure {
    fn from(error: MailViewError) -> Self {
        match error {
            MailViewError::Snapshot(error) => error.into(),
            MailViewError::Term { .. } => {
                Failure::new(USAGE, error.to_string()).hint("see `mailkeep mail search --help`")
            }
            MailViewError::NoFile { .. } => Failure::new(DAMAGED, error.to_string()),
            MailViewError::Stopped => Failure::new(INTERRUPTED, text::INTERRUPTED),
            error => Failure::new(FAILED, chain(&error)),
        }
    }
}

impl From<ImapError> for Failure {
    fn from(error: ImapError) -> Self {
        let code = match &error {
            ImapError::Url { .. } => USAGE,
            error if error.is_absent() => ABSENT,
            _ => FAILED,
        };
        Failure::new(code, chain(&error))
    }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        Failure::new(FAILED, chain(&error))
    }
}

/// Only for what goes wrong with our own output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::new(FAILED, format!("cannot write the output: {error}")),
        }
    }
}
