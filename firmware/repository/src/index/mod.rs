//! Which chunk lies where: the index runs on the disk, and packs that no run names yet.
//!
//! The index is a cache. A run that is damaged or names a pack which is gone is not used; the packs that it named are
//! read from their footers again, and the next writer writes a new run. What is not here is never claimed.

mod contents;
mod merge;
mod run;
mod scratch;
mod view;
mod visited;
mod without;

pub(crate) use contents::contents;
pub(crate) use run::{Run, run_error, write_run};
pub(crate) use view::{Loaded, View, merge};
pub(crate) use visited::Visited;
pub(crate) use without::without;
