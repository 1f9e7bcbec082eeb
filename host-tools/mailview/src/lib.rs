//! A snapshot of a Cyrus server as mail: the tree of its mailboxes, their messages with flags and dates, and what people
//! want to do with them: look, find, take out, bring back.
//!
//! # The way through this crate
//!
//! [`Files`] (a restorer's view with links followed) → [`MailTree`] (every cyrus.header of the snapshot, the exported
//! list, imapd.conf) → [`Mailbox`] → [`Mailbox::summary`], [`Mailbox::each`] (cyrus.index beside the message files) →
//! [`search()`], [`export`], [`imap`].
//!
//! # What always holds
//!
//! * Mailboxes are found by walking and by their headers, never computed from their names; the exported list gives
//!   names, it is not needed.
//! * Everything is as hostile as the mail server may have been: decoders are `mailkeep-mail`'s, under its limits; names are
//!   shown escaped and never become paths without being looked at.
//! * What the index cannot tell (it is damaged, or of a format that is not known) is taken from the files and said.
//! * Memory follows the largest mailbox (some 40 bytes for each of its messages) and the number of mailboxes, not the
//!   messages of a snapshot nor the number of snapshots.

mod check;
mod error;
pub mod export;
mod files;
pub mod imap;
pub mod limits;
mod mailbox;
mod merge;
mod message;
mod mime;
mod query;
mod search;
mod seen;
mod tree;

pub use check::{Checked, check};
pub use error::MailViewError;
pub use files::Files;
pub use mailbox::{Each, Mailbox, Records};
pub use message::{Message, Summary};
pub use mime::Head;
pub use query::Query;
pub use search::{Going, Hit, Searched, search};
pub use seen::{Reading, seen_by};
pub use tree::MailTree;
