//! What is known of Cyrus IMAP: its configuration, its folders and what each file in them means,
//! its tools, its mailbox list and its binary files.

pub mod cache;
pub mod cyrus_conf;
pub mod database;
pub mod header;
pub mod imapd_conf;
pub mod index;
pub mod mailbox_list;
mod murder;
pub mod profile;
pub(crate) mod rules;
pub mod seen;
pub mod tools;
pub mod utf7;

pub use murder::{Murder, Role};
pub use rules::message_uid;
