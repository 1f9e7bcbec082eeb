//! Snapshots as a read-only FUSE file system, without libfuse.
//!
//! The way of a request: kernel → [`fuser`] → `filesystem.rs` (one thread, answers what is in memory) or a `pool.rs` (what
//! may wait for the disk: one for files, one for mail) → `state.rs` → [`mailkeep_restorer::View`]. What is read in
//! order (`trails.rs`) is made ready before it is requested (`ahead.rs`, `ready.rs`), and answered at once.
//!
//! Below the mount point: `snapshots/<id>/…` with the paths as on the server (an unambiguous beginning of an id is found
//! too, though only whole ids are listed), and `latest`, a link to the newest snapshot. A mail server's snapshot has one
//! folder more, `mail/<mailbox>/<uid>.eml` (`mail.view` if the server has a `/mail` of its own): names as people read them,
//! mtime the internal date, flags in the attribute `user.mailkeep.flags`. Snapshots that come or go are seen without
//! mounting anew.
//!
//! Invariants:
//! - nothing can be written, and the kernel is told so (`ro,nosuid,nodev`);
//! - files have no entry in the table of inodes, folders as long as the kernel holds them or something in them; caches are
//!   bounded;
//! - the thread that answers the kernel waits for no disk, and for the one that reads ahead waits who asks for a file that is
//!   just being made ready, never who asks for another one;
//! - damaged contents are an EIO for that file and a log line that names it; all else stays readable.

mod ahead;
mod attributes;
mod error;
mod filesystem;
mod inodes;
mod mail;
mod mail_rooms;
mod pool;
mod ready;
mod session;
mod shown;
mod snapshot;
mod state;
mod trails;

pub use error::MountError;
pub use session::{MountOptions, Mounted, Unmounter, mount};
pub use snapshot::{KEPT_BLOCKS, News, Snapshot};
