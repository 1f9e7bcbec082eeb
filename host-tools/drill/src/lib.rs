//! The rehearsed restore: what a disk says it holds is brought back for once, on any day but the worst one.
//!
//! # The way through this crate
//!
//! [`rehearse`] makes a [`Scratch`] folder, plans the restore into it (of everything, or of a sample),
//! looks for room, and then makes its checks one after the other:
//!
//! | check | what is proven | by |
//! |---|---|---|
//! | `rebuild` | it can be brought back | the restorer's own plan and apply |
//! | `contents` | what lies on the scratch disk is the snapshot: names, metadata, every byte | [`audit()`](mailkeep_restorer::audit) |
//! | `mail` | the mailbox list, the headers and indexes and the message files fit together | the mail check of the backup, over the rebuilt files |
//! | `cyrus` | a real Cyrus serves it: mailboxes, counts, UIDs, messages | an instance that sees nothing else |
//!
//! What comes of it is a [`DrillRecord`](mailkeep_format::DrillRecord), which the repository keeps beside the snapshot.
//!
//! # What always holds
//!
//! * Nothing outside of the scratch folder is written, and the folder goes in every end of a drill; of one that was killed
//!   the next drill takes it away.
//! * The Cyrus that is started sees the rebuilt files and this machine's programs and nothing else: it has a root folder,
//!   processes and a network of its own, listens on a socket in the scratch folder, and dies with the drill.
//! * A drill never passes on account of what it did not do: a check that was not made is "left out", with the reason.

mod cyrus;
mod disk;
mod error;
pub mod limits;
mod mail;
mod monitor;
mod rehearsal;
mod report;
mod sample;
mod scratch;

pub use error::DrillError;
pub use monitor::{DrillMonitor, Stage};
pub use rehearsal::{DrillOptions, Rehearsed, Subject, Survey, rehearse, survey};
pub use sample::Amount;
pub use scratch::{Cleared, Scratch, clear_leftovers};
