//! Makes a mail server known to a box, and forgets it again.
//!
//! [`pair`] goes in this order: the server's host key is pinned ([`host_key`]); an admin's login is opened once
//! ([`login`]); the agent is copied there and says what the server is ([`server`], [`mailkeep_mail::detected`]); two keys of the
//! box's own are let in for the agent alone, one for backups and one for restores ([`authorized`], [`own_key`]); the source file
//! is written ([`source_file`]), and what it has run on the server is allowed there and nothing else
//! ([`mailkeep_mail::source::CommandsDigest`]); and a rehearsal through the new keys walks everything and stops nothing. [`undo`]
//! takes all of it back.
//!
//! Promises: whatever fails, what was done up to there is taken back and the error says what was wrong; other lines of
//! authorized_keys stay letter by letter; no password and no private key ever leaves the machine it is on; a key that
//! is let in can do one thing, talk to the agent's `serve` in the key's role, about a source file with those commands.

pub mod authorized;
mod destination;
mod error;
pub mod host_key;
pub mod limits;
pub mod login;
pub mod own_key;
mod pair;
pub mod server;
pub mod source_file;
mod take_back;
mod tool;
mod undo;

pub use destination::Destination;
pub use error::PairError;
pub use pair::{AgentFile, HostKeyTrust, Paired, Request, pair};
pub use undo::{Undone, undo};

/// What a pairing says on its way, and the one question it may have to ask.
pub trait Talk {
    /// The next thing that is done, in words.
    fn step(&self, what: &str);

    /// Whether these are the fingerprints of the server; `false` where nobody can be asked.
    fn is_it_you(&self, host: &str, fingerprints: &[String]) -> bool;
}
