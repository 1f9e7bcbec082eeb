//! A laboratory around a **real** Cyrus 3.6 from Debian's packages: servers in folders of their own on
//! loopback, filled with mail, under load, stopped and started as a source file says, and compared with
//! each other over IMAP in everything that a user could notice.
//!
//! The way of a test: [`Cyrus::create`] → [`populate::populate`] → [`load::Load::start`] → back up with the
//! programs under test, while [`Cyrus::keep_truth_in`] lets the stop script copy the stopped server →
//! restore → [`Cyrus::adopt`] both → [`state::ImapState::capture`] both → `difference`.

mod config;
pub mod facts;
pub mod files;
pub mod imap;
mod lmtp;
pub mod load;
mod offers;
pub mod populate;
mod server;
pub mod sieve;
pub mod source;
pub mod state;

pub use offers::Authority;
pub use server::{ADMIN, BIN_DIR, Cyrus, Layout, PASSWORD, Ports, REALM, cyrus_ids, missing};
