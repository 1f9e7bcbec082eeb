//! The one error type of this crate, and the exit code that fits each error.

use std::path::PathBuf;
use std::time::Duration;

use mailkeep_link::LinkError;
use mailkeep_repository::RepositoryError;
use thiserror::Error;

use crate::budget::Forecast;

/// Why a run could not be finished. Each text is one line; the cause is left to `source()`.
///
/// Whatever the error, mail is running again or is being started by the agent and the guard behind it, and the
/// repository is sound: what was not sealed is as if it had never been.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PullError {
    /// The agent's program could not be started.
    #[error("cannot start {}; install mailkeep-agent there or set agent-path in the source file", program.display())]
    AgentStart {
        /// What was started: the agent, or ssh.
        program: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The server cannot be reached.
    #[error("cannot reach {host}: {why}")]
    Unreachable {
        /// The server.
        host: String,
        /// The last line that ssh said.
        why: String,
    },
    /// The way to the server broke in the middle of a run.
    #[error("lost the link to {host}: {why}; run it again, what came over is kept")]
    Lost {
        /// The server.
        host: String,
        /// The last line that ssh said, or how it ended.
        why: String,
    },
    /// The server is there, the agent is not.
    #[error(
        "mailkeep-agent was not found on {host} ({said}); run `mailkeep pair`, or set agent-path in the source file"
    )]
    AgentMissing {
        /// The server.
        host: String,
        /// What the shell there said.
        said: String,
    },
    /// The agent ended before it said a word, or at any later time by itself.
    #[error("mailkeep-agent on {host} ended by itself ({status}): {said}")]
    AgentEnded {
        /// The server.
        host: String,
        /// Its exit status, in words.
        status: String,
        /// The last line of its error output.
        said: String,
    },
    /// The link broke or the far end does not speak our language.
    #[error("the link to {host} failed{}", told(said))]
    Link {
        /// The server.
        host: String,
        /// The last line of the far end's error output, if there was any.
        said: Option<String>,
        /// What happened.
        #[source]
        source: LinkError,
    },
    /// The agent cannot go on.
    #[error("{host}: {what}{}", hint_text(hint))]
    Agent {
        /// The server.
        host: String,
        /// What failed, in the agent's words.
        what: String,
        /// What to do, in the agent's words; may be empty.
        hint: String,
        /// The exit code that the agent proposes.
        exit_code: u8,
    },
    /// The agent said something that it must not say at this point.
    #[error("mailkeep-agent breaks the protocol: {0}; the copy was given up")]
    Protocol(String),
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A key that is to be for restores alone makes copies.
    #[error(
        "the key for restores can read all mail of {host}: the agent there does not heed `--role restore`; pair it again"
    )]
    KeyTooGood {
        /// The server.
        host: String,
    },
    /// Mail would have to be stopped for longer than allowed.
    #[error(
        "mail was not stopped: the window would take {forecast}; outage-budget allows {} s; try at a quieter time, raise \
         outage-budget, or force it with --force-window",
        budget.as_secs()
    )]
    OverBudget {
        /// What the window would have been.
        forecast: Forecast,
        /// What the source file allows.
        budget: Duration,
    },
    /// The run was cancelled from outside.
    #[error("interrupted; nothing was sealed, the repository is sound")]
    Interrupted,
}

impl PullError {
    /// The exit code of INTERFACES.md that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            PullError::Unreachable { .. } | PullError::Lost { .. } => 75,
            PullError::Link { source, .. } if source.is_lost() => 75,
            // A hostile server cannot claim success, an interrupt or anything else that did not happen here.
            PullError::Agent { exit_code: code @ (75 | 77 | 78), .. } => *code,
            PullError::Repository(error) => error.exit_code(),
            PullError::Interrupted => 130,
            PullError::AgentStart { .. }
            | PullError::AgentMissing { .. }
            | PullError::AgentEnded { .. }
            | PullError::Link { .. }
            | PullError::Agent { .. }
            | PullError::Protocol(_)
            | PullError::KeyTooGood { .. }
            | PullError::OverBudget { .. } => 1,
        }
    }

    pub(crate) fn link(host: &str, source: LinkError) -> Self {
        PullError::Link { host: host.to_owned(), said: None, source }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        PullError::Protocol(what.into())
    }
}

fn hint_text(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!("; {hint}") }
}

fn told(said: &Option<String>) -> String {
    said.as_deref().map(|line| format!(" ({line})")).unwrap_or_default()
}
