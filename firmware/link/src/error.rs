//! The one error type of this crate.

use std::sync::Arc;

use mailkeep_format::FormatError;
use thiserror::Error;

/// Why a connection ended. Cloned freely: every later call on a broken connection gets the same answer.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The peer closed the connection between two messages.
    #[error("the far end closed the connection")]
    Closed,
    /// The peer closed the connection within a message.
    #[error("the connection was cut in the middle of a message")]
    Cut,
    /// Reading failed.
    #[error("cannot read from the connection")]
    Read(#[source] Arc<std::io::Error>),
    /// Writing failed.
    #[error("cannot write to the connection")]
    Write(#[source] Arc<std::io::Error>),
    /// Nothing was heard from the peer for too long.
    #[error("the far end has been silent for {seconds} s")]
    Silent {
        /// How long, in seconds.
        seconds: u64,
    },
    /// A frame is longer than the limit.
    #[error("the far end announced a message of {length} bytes; that is garbled or hostile")]
    FrameTooLarge {
        /// The announced length.
        length: u64,
    },
    /// A frame of a type that this side does not take.
    #[error("the far end sent a message of type {kind}, which is unknown here")]
    UnknownType {
        /// The type byte.
        kind: u8,
    },
    /// A message does not decode.
    #[error("the far end sent a garbled {message} message")]
    Garbled {
        /// Which message.
        message: &'static str,
        /// What is wrong with it.
        #[source]
        source: Arc<FormatError>,
    },
    /// A message decodes but breaks a rule of the protocol.
    #[error("the far end sent a {message} message that breaks the protocol: {rule}")]
    Rule {
        /// Which message.
        message: &'static str,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A message of ours is too large for a frame.
    #[error("a {message} message of {length} bytes does not fit a frame")]
    OwnTooLarge {
        /// Which message.
        message: &'static str,
        /// Its length.
        length: usize,
    },
    /// The first bytes are not ours: something on the far end writes into the connection.
    #[error(
        "the far end does not speak Mailkeep, it said {said:?}; see what its login prints and which program it runs"
    )]
    NotMailkeep {
        /// What it said instead, shortened.
        said: String,
    },
    /// The version ranges do not meet.
    #[error(
        "{theirs} speaks protocol {lowest} to {highest}, this side {own_lowest} to {own_highest}; update the {older} side"
    )]
    NoCommonVersion {
        /// Program and version of the peer.
        theirs: String,
        /// Lowest version of the peer.
        lowest: u32,
        /// Highest version of the peer.
        highest: u32,
        /// Our lowest.
        own_lowest: u32,
        /// Our highest.
        own_highest: u32,
        /// "far" or "near".
        older: &'static str,
    },
    /// The peer sent more than it can have been asked for.
    #[error("the far end sends more than it was asked for")]
    Flooded,
    /// This end has closed the connection itself.
    #[error("the connection has been closed on this side")]
    Finished,
    /// A thread could not be started.
    #[error("cannot start a thread for the connection")]
    Thread(#[source] Arc<std::io::Error>),
}

impl LinkError {
    pub(crate) fn garbled(message: &'static str, source: FormatError) -> Self {
        LinkError::Garbled { message, source: Arc::new(source) }
    }

    /// Whether the connection ended because the peer or the way to it is gone, so that trying again later may help.
    pub fn is_lost(&self) -> bool {
        matches!(
            self,
            LinkError::Closed
                | LinkError::Cut
                | LinkError::Read(_)
                | LinkError::Write(_)
                | LinkError::Silent { .. }
        )
    }
}
