//! What Mailkeep knows of mail systems. A pure library: no I/O but through closures and small traits that the
//! caller passes in, no clock, no threads. Everything that a mail server says is read under [`limits`] and
//! never panics.
//!
//! # The way through this crate
//!
//! 1. [`source::Source::parse`] turns the source file into a checked value. Box and agent run the same code
//!    on the same text.
//! 2. [`profile::Profile::new`] says what to walk ([`profile::Profile::roots`],
//!    [`profile::Profile::files`]) and what each name means ([`profile::Profile::classify`]). For Cyrus it
//!    reads imapd.conf ([`cyrus::imapd_conf`]) through a closure; for other trees see [`generic`].
//! 3. [`quiesce::choose`] picks how mail is stopped and started, and [`quiesce::greeting_ok`] tells when it is
//!    back. [`cyrus::tools`] has the commands that export the mailbox list and tell the version.
//!    [`source::CommandsDigest`] and [`reach::Reach`] say how much of all that a box's key may ask for.
//! 4. [`cyrus::mailbox_list`], [`cyrus::header`] and [`cyrus::index`] decode what was copied, and [`check`]
//!    proves with them that every mailbox of the list is whole.
//!
//! # What always holds
//!
//! * A path has one class, whoever asks: [`profile::Profile`] looks at letters, never at a disk.
//! * A mailbox's folders are found by walking and by the unique id in cyrus.header, never computed from its
//!   name: several layouts and hashes are out there, even on one server.
//! * A decoder allocates in proportion to its input and to nothing that the input claims.

pub mod check;
pub mod cyrus;
pub mod detected;
pub mod error;
pub mod generic;
pub mod limits;
mod patterns;
pub mod profile;
pub mod quiesce;
pub mod reach;
pub mod scope;
pub mod source;
pub mod write_once;

pub use error::MailError;
pub use profile::Profile;
pub use reach::Reach;
pub use scope::FileClass;
pub use source::Source;
