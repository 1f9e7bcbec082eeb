//! The box's side of a pull: link in, repository out.
//!
//! The way of a run ([`pull`]): a [`transport`] starts the agent, the parent snapshot on *this* disk becomes the base,
//! live passes bring over what changed while mail runs, the window is opened, a final pass brings the rest, mail is
//! started, the snapshot is checked as mail and sealed. Each pass is an [`assemble::Assembly`], fed with messages and
//! writing through a [`store::Store`]; whether a file must be read is decided by [`change`] alone.
//!
//! Invariants:
//! - the agent is a stranger: all that it says is checked, and it never names a chunk that is trusted;
//! - whatever goes wrong on this side while mail is stopped, mail is asked back at once and the link is closed, upon
//!   which the agent starts mail by itself (and the guard behind it);
//! - a copy under which anything moved is sealed as not consistent, never as consistent.

pub mod allocator;
pub mod assemble;
pub mod budget;
pub mod change;
mod digests;
mod directory;
mod doubles;
mod error;
mod file;
mod keeping;
pub mod known;
pub mod limits;
mod links;
mod mail_check;
mod mailtree;
mod meter;
mod monitor;
pub mod progress;
mod pull;
mod relink;
mod resume;
mod session;
pub mod store;
pub mod summary;
mod survey;
pub mod tally;
mod text;
pub mod transport;
mod walk;
mod weight;
mod window;

pub use error::PullError;
pub use progress::{Phase, Progress, Status};
pub use pull::{PullOptions, pull};
pub use summary::Summary;
pub use survey::{Survey, WindowForecast, rehearse, survey, try_restore_key};
pub use transport::{ProcessTransport, Role, Transport};
