//! Snapshots as a read-only file system, and their way back onto a disk.
//!
//! A [`View`] finds paths, lists folders and reads ranges of one snapshot; [`walk()`] and [`diff()`] stand on it, as
//! does the FUSE mount. A restore goes plan → show → apply: [`plan()`] looks at snapshot and target and hands out each
//! [`Step`] without writing, [`apply`] carries it out; [`audit()`] reads what was restored back and holds it against the snapshot.
//!
//! The data's way: repository reader → [`Contents`] → [`View`] → batches of files, sorted by the blocks that hold them →
//! a few worker threads, a block at a time → a temporary name in the target's folder, or its own in a new folder that has a
//! temporary one → its own name. Paths keep their absolute form below the target folder: `/var/spool` is restored to
//! `DIR/var/spool`.
//!
//! Invariants:
//! - nothing outside of the target is written, whatever snapshot and target hold: every call names one plain name in an
//!   open folder and follows no link (`target.rs`);
//! - a name in the target shows the old or the whole new state (`place.rs`), and a new folder of up to
//!   [`limits::NAMES_HELD`] names comes into view with all that lies in it, or not at all (`hidden.rs`);
//! - what a hostile snapshot could do harm with is left out unless it is asked for, and told (`special.rs`);
//! - what cannot be restored is told and counted, and nothing is ever deleted on account of an unreadable folder;
//! - memory follows the depth of folders, not their width nor the size of the snapshot; a listing is held only for who
//!   asks for one ([`View::list`]).

mod apply;
mod audit;
mod batch;
mod bulk;
mod contents;
mod decide;
mod diff;
mod engine;
mod error;
mod fill;
mod folder;
mod gate;
mod hidden;
pub mod limits;
mod link_spill;
mod links;
mod meta;
mod names;
mod owners;
pub mod path;
mod path_set;
mod place;
mod plan;
mod select;
mod special;
mod stored;
mod tally;
mod target;
mod traverse;
mod uncached;
mod view;
mod walk;

pub use apply::apply;
pub use audit::{Audited, audit};
pub use contents::{Contents, MemoryContents, Nodes};
pub use decide::Overwrite;
pub use diff::{Change, Looked, What, diff};
pub use error::{ContentsError, RestoreError};
pub use mailkeep_format as format;
pub use mailkeep_repository::Expected;
pub use owners::Owners;
pub use path_set::PathSet;
pub use plan::{Plan, RestoreOptions, Step, Totals, plan};
pub use special::Special;
pub use tally::{RestoreMonitor, Summary};
pub use view::{Listing, OpenFile, View};
pub use walk::{Found, Next, walk};
