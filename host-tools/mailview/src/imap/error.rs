//! What can go wrong with an IMAP server; what can go wrong with the snapshot is [`crate::MailViewError`].

use std::io;

use thiserror::Error;

/// Why mail could not be brought back over IMAP. What the server said is shown escaped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImapError {
    /// The URL makes no sense.
    #[error("{url} does not name an IMAP server: {problem}")]
    Url {
        /// As given, without a password.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The server cannot be reached, or went away.
    #[error("the IMAP server {host}:{port} does not answer")]
    Connection {
        /// Its name.
        host: String,
        /// Its port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The connection cannot be made safe.
    #[error("no safe connection to {host}: {why}")]
    Tls {
        /// The server.
        host: String,
        /// Why.
        why: String,
    },
    /// The server has no TLS, and the password would cross the network in the clear.
    #[error(
        "{host} offers no TLS, so the password would be readable on the way; use imaps://, or log in on the server itself"
    )]
    Clear {
        /// The server.
        host: String,
    },
    /// The server said no.
    #[error("the IMAP server refused to {what}: {said}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its words.
        said: String,
    },
    /// The server spoke no IMAP.
    #[error("the IMAP server said something that is no IMAP: {said}")]
    Nonsense {
        /// The beginning of it.
        said: String,
    },
}

impl ImapError {
    /// Whether the server is not there, and may be later.
    pub fn is_absent(&self) -> bool {
        matches!(self, ImapError::Connection { .. })
    }
}
