//! The one error type of this crate, and how it is told to the box.

use std::error::Error;
use std::path::PathBuf;

use mailkeep_link::message::Failed;
use mailkeep_link::{LinkError, Role};
use mailkeep_mail::MailError;
use thiserror::Error as ThisError;

/// Why a run cannot go on.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum AgentError {
    /// The connection to the box broke.
    #[error("the connection to the box broke")]
    Link(#[from] LinkError),
    /// The source file or the mail server's configuration cannot be used.
    #[error("the source cannot be used")]
    Mail(#[from] MailError),
    /// A tree that must be there is not.
    #[error("{} (named by {named_by}) is not there; see that it is mounted", path.display())]
    RootMissing {
        /// The tree.
        path: PathBuf,
        /// Where it is named.
        named_by: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A directory of the walk cannot be opened although the whole walk depends on it.
    #[error("cannot open the directory {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The box breaks the order of the conversation.
    #[error("the box said {said} at the wrong time")]
    OutOfOrder {
        /// What it said.
        said: &'static str,
    },
    /// The key of this connection is not for that.
    #[error(
        "a key for {role} may not say {said}; see identity-file and restore-identity-file in the source file"
    )]
    NotForThisKey {
        /// What the key is for.
        role: Role,
        /// What was said.
        said: &'static str,
    },
    /// The source file has other commands than those that this server's admin has allowed.
    #[error(
        "the source file says otherwise how mail is stopped, started or looked at (or a standby's hooks) than this server \
         allows, so nothing was run; if that is right, somebody who is root here has to allow it: run `mailkeep pair` again \
         with this source file"
    )]
    OtherCommands,
    /// The source file wants mail stopped for longer than that admin has allowed.
    #[error(
        "the source file lets mail be stopped for {wanted} s and this server allows {allowed} s, so nothing was run; if that \
         is right, somebody who is root here has to allow it: run `mailkeep pair` again with this source file"
    )]
    OtherDeadline {
        /// What it says, in seconds.
        wanted: u64,
        /// What is allowed, in seconds.
        allowed: u64,
    },
    /// A tree or a file is none of those that the key is good for.
    #[error(
        "{} (named by {named_by}) is no place that this key reaches, so nothing was opened; if that is right, somebody who \
         is root here has to allow it: run `mailkeep pair` again with this source file", path.display()
    )]
    OutOfReach {
        /// The tree or file, as it is called or where it really is.
        path: PathBuf,
        /// Where it is named.
        named_by: String,
    },
    /// The places of a source cannot be written down for a key.
    #[error("what a key for this source has to reach cannot be written down")]
    NoReach(#[from] mailkeep_mail::reach::NoReach),
    /// A file or folder of the agent's own state cannot be used.
    #[error("cannot {action} {}", path.display())]
    State {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The agent's own state is not safe to use.
    #[error("{}: {problem}", path.display())]
    StateUnsafe {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// Another run has mail stopped.
    #[error("another run has stopped mail on this server and is not done; try again later")]
    WindowBusy,
    /// Mail does not run before it was to be stopped.
    #[error("{what}: {why}")]
    NotRunning {
        /// How that shows.
        what: String,
        /// What to do.
        why: String,
    },
    /// There is nothing to stop.
    #[error("this source has nothing to stop; write stop and start into [quiesce] of the source file")]
    NothingToStop,
    /// The rescue at boot could not be installed, so nothing was stopped.
    #[error("the rescue at boot could not be installed, so mail was not stopped: {why}")]
    Boot {
        /// What failed.
        why: String,
    },
    /// The guard could not be armed, so nothing was stopped.
    #[error("the restart guard could not be armed, so mail was not stopped: {why}")]
    Guard {
        /// What it did instead.
        why: String,
    },
    /// The deadline leaves no time for a start of mail, so nothing was stopped.
    #[error(
        "a deadline of {deadline} s is too short for this server, where no start of mail took less than {start} s of late, \
         so mail was not stopped; write deadline = \"{enough}s\" or more into [quiesce] of the source file"
    )]
    DeadlineTooShort {
        /// The deadline, in seconds.
        deadline: u64,
        /// The shortest of the last starts, in seconds.
        start: u64,
        /// A deadline that would do, in seconds.
        enough: u64,
    },
    /// The last stops of mail all had to be ended, so nothing was stopped this time.
    #[error(
        "the last {stops} stops of mail did not come back within {seconds:.1} s, all that the deadline of {deadline} s leaves \
         for one, so mail was not stopped; see what keeps the stop, or write deadline = \"{enough}s\" into [quiesce] of the \
         source file; it is tried again in {next} runs"
    )]
    StopTooLong {
        /// How many.
        stops: usize,
        /// What the shortest was given, in seconds.
        seconds: f64,
        /// The deadline, in seconds.
        deadline: u64,
        /// One that gives a stop twice the time, in seconds.
        enough: u64,
        /// In how many runs it is tried again.
        next: usize,
    },
    /// A command of the window failed. Mail has been started again.
    #[error("{what} failed: {why}; mail was started again")]
    Window {
        /// What was done.
        what: String,
        /// How it failed.
        why: String,
    },
    /// Mail was started, and there is no sign of it.
    #[error("mail was started but does not answer: {why}; the guard keeps trying, look at the server now")]
    NotBack {
        /// What the last attempt said.
        why: String,
    },
    /// A standby does not come up.
    #[error("mail was started but does not answer: {why}; this server is still a standby")]
    NotUp {
        /// What the last attempt said.
        why: String,
    },
    /// A snapshot keeps what mail has deleted, and mail needs the room.
    #[error(
        "the file system of {} is nearly full while a snapshot of it keeps what is deleted, so the backup was broken off; \
         make room, or write freeze = \"descriptors\" into [quiesce] of the source file",
        path.display()
    )]
    RoomForMail {
        /// The top of the subvolume.
        path: PathBuf,
    },
    /// A thin pool is nearly full while a snapshot in it keeps what is written over.
    #[error(
        "the thin pool of {} is nearly full while a snapshot keeps what is written over, so the backup was broken off; \
         extend the pool, or write freeze = \"descriptors\" into [quiesce] of the source file",
        path.display()
    )]
    PoolForMail {
        /// Where the volume is mounted.
        path: PathBuf,
    },
    /// A snapshot is not what it was: it overflowed, or was removed.
    #[error(
        "the snapshot of {} could not keep all that changed while it was read, so the backup was broken off: {why}; leave \
         its volume group more room, or write freeze = \"descriptors\" into [quiesce] of the source file",
        path.display()
    )]
    SnapshotLost {
        /// Where the volume is mounted.
        path: PathBuf,
        /// How that shows.
        why: String,
    },
    /// A server cannot be rebuilt like this. What was served before is served.
    #[error("the restore cannot be done: {why}")]
    Rebuild {
        /// Why not, and what to do.
        why: String,
    },
    /// Trees cannot be brought to one side.
    #[error("the trees of mail cannot be exchanged")]
    Swap(#[from] crate::swap::journal::SwapError),
    /// This server is a standby: mail is down here on purpose.
    #[error(
        "this server is a standby (since the restore of {snapshot}), so mail stays down here; start it by `mailkeep promote`"
    )]
    Standby {
        /// The snapshot that it was made from.
        snapshot: String,
    },
    /// The run was called off by the box or by a signal.
    #[error("the run was called off")]
    CalledOff,
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl AgentError {
    /// The message that ends the run.
    pub fn failed(&self) -> Failed {
        // The exit codes of the interface page.
        let exit_code = match self {
            AgentError::Mail(_) | AgentError::NothingToStop => 78,
            AgentError::DeadlineTooShort { .. } | AgentError::StopTooLong { .. } => 78,
            AgentError::RootMissing { .. } | AgentError::WindowBusy => 75,
            AgentError::NotForThisKey { .. }
            | AgentError::OtherCommands
            | AgentError::OtherDeadline { .. }
            | AgentError::OutOfReach { .. } => 77,
            AgentError::NoReach(_) => 78,
            _ => 1,
        };
        Failed { what: one_line(self), hint: String::new(), exit_code }
    }
}

/// An error with all its causes, in one line.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.replace(['\n', '\r'], " ").chars().take(2000).collect()
}
