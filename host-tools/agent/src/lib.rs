//! The hands of the box on a mail server: walks, reads, stops mail for as short as it can, and above all starts it
//! again.
//!
//! # The way through this crate
//! [`serve`] converses with the box over one pair of streams, as far as the key is [`allowed`] to and within the [`places`]
//! that it reaches. A [`pass`] walks the tree that [`plan`] merges from the
//! profile, with the open directories of [`dir`] and the metadata of [`meta`], and reads what the box asks for. A
//! [`window`] stops mail and starts it, by the commands of [`command`] and with what [`facts`] found out. What a final pass
//! finds is kept on the stage (`stage`) or by a snapshot of the file system ([`snapshot`]), so that mail is started before
//! any of it crosses the link. A restore comes the other way: [`rebuild`] builds trees beside those that mail uses, [`swap`]
//! exchanges them while mail is stopped, and [`standby`] notes a server on which it stays so; [`at_boot`] tells whether a boot
//! of it would start mail.
//!
//! # What always holds
//! - Mail is stopped only after an intent is durable and a guard was seen armed; it is started by whoever is left.
//! - Names are used relative to open directories only, and no link is followed on the way.
//! - Memory is flat: the walk, the bytes read and the open directories run ahead by fixed bounds ([`limits`]).
//! - The agent never knows a key and never names what the repository stores.

pub mod allowed;
pub mod at_boot;
pub mod command;
pub mod detect;
pub mod dir;
mod error;
pub mod facts;
pub mod limits;
pub mod meta;
pub mod open_files;
mod owners;
pub mod pass;
pub mod places;
pub mod plan;
mod priority;
pub mod probe;
pub mod real_path;
pub mod rebuild;
mod serve;
pub mod snapshot;
mod stage;
pub mod standby;
pub mod swap;
pub mod window;

pub use error::{AgentError, one_line};
pub use serve::serve;
