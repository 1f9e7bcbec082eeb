//! A whole mail server from a snapshot: plan → show → apply, through the agent on that server.
//!
//! The way: a [`Snapshot`] says which trees it has ([`Layout`], from the imapd.conf in it), the agent says which trees the
//! server has, and [`matching`] brings both together by the keys that name them, so that a second server may have other
//! paths. A [`Server`] is the conversation: [`Server::plan`] looks only, [`Server::build`] sends what is not there already,
//! [`Server::swap`] exchanges the trees. What is there already is told by hashes that the agent makes of its files and this
//! side turns into the ids of chunks: the agent knows no key, and a file that is equal never crosses the link.
//!
//! Where the server has another Cyrus, [`Server::build`] also has its list of mailboxes made anew from the exported one
//! ([`Import`]), before anything is stopped.
//!
//! Invariants: a snapshot that cannot be read whole is never put in the place of a server; nothing is written before a plan
//! was shown; while trees are exchanged the server alone decides, on the old or the new state.

mod error;
mod import;
mod layout;
pub mod limits;
pub mod matching;
mod mover;
mod server;
mod snapshot;
mod work;

pub use error::RebuildError;
pub use import::Import;
pub use layout::Layout;
pub use mailkeep_link::rebuild::Examined;
pub use matching::Match;
pub use mover::{Counts, Progress};
pub use server::Server;
pub use snapshot::Snapshot;
pub use work::{Plan, Space};
