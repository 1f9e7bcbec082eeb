//! The one error type of this crate.

use std::io;

use mailkeep_restorer::RestoreError;
use thiserror::Error;

/// Why something could not be done with the mail of a snapshot. Names are shown with unprintable characters escaped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MailViewError {
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] RestoreError),
    /// There is no mail in the snapshot.
    #[error("there is no Cyrus mailbox in this snapshot; `ls` shows its files")]
    NoMail,
    /// A mailbox that was asked for is not there.
    #[error("no such mailbox: {name}{}", offered(.nearest))]
    NoMailbox {
        /// The name as given.
        name: String,
        /// Names like it that there are.
        nearest: Vec<String>,
    },
    /// A message that was asked for is not there.
    #[error("{mailbox} has no message {uid} in this snapshot; `mail ls` shows what it has")]
    NoMessage {
        /// The mailbox.
        mailbox: String,
        /// The UID.
        uid: u32,
    },
    /// A message is in the index, but its file is not in the snapshot.
    #[error("message {uid} of {mailbox} has no file in this snapshot")]
    NoFile {
        /// The mailbox.
        mailbox: String,
        /// The UID.
        uid: u32,
    },
    /// A search term makes no sense.
    #[error("`{term}` is no search term: {problem}")]
    Term {
        /// The term as given.
        term: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What would be written is there already.
    #[error("{path} is there already; nothing is overwritten, name another place")]
    Exists {
        /// The place.
        path: String,
    },
    /// It was to end early; nothing of it is left.
    #[error("stopped")]
    Stopped,
    /// An export could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

fn offered(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; nearest: {}", names.join(", ")) }
}
