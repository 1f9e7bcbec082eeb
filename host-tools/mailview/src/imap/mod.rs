//! Mail back into a running server, over IMAP: additively, with flags, keywords and internal date, never twice.
//!
//! The client is our own and small. What is needed is LOGIN, NAMESPACE, CREATE, SELECT, UID FETCH of three items, UID STORE and
//! APPEND over a blocking stream; the kept crates either bring an async runtime and a parser that builds every answer in
//! memory (async-imap) or are an alpha since years (imap 3).

mod client;
mod error;
mod flags;
mod names;
mod present;
mod restore;
mod status;
mod target;
mod tls;
mod wanted;

pub use client::{Client, quoted};
pub use error::ImapError;
pub use flags::{FlagsWish, Reader, restore_flags};
pub use names::{Folder, Names};
pub use restore::{Restored, Wish, restore};
pub use status::{Counts, counts};
pub use target::Target;
