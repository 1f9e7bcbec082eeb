//! What is known of Cyrus IMAP: its configuration, its folders and what each file in them means,
//! and its tools.

pub mod imapd_conf;
pub mod profile;
mod rules;
pub mod tools;
