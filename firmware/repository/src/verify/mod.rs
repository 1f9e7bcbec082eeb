//! Proving a repository: that every snapshot can be read in full from what is on the disk.
//!
//! Structure: labels, keys and manifests in both copies; the chain of generations; the index page by page; the table of
//! contents of every pack; every directory of every snapshot; and for every file that its chunks have a place. Data: the
//! hash of a pack's file against its name, every block opened, every chunk hashed.

mod data;
mod examine;
mod fresh;
mod next;
mod structure;

pub(crate) use examine::{Examined, examine};
pub use next::{NextSlice, verify_next};

use mailkeep_format::ChunkId;

use crate::error::RepositoryError;
use crate::monitor::{Counting, Monitor, Problem, Severity};
use crate::repository::Repository;
use std::collections::HashSet;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadData {
    /// No file contents.
    Structure,
    /// Every byte.
    All,
    /// The packs of part `part` (from 1) of `of`: the same ones every time, so that `of` runs read everything.
    Slice {
        /// Which part, 1 to `of`.
        part: u32,
        /// How many parts there are.
        of: u32,
    },
}

/// What is to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// How much is read.
    pub read: ReadData,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Readable manifests.
    pub snapshots: u64,
    /// Different directories that were read.
    pub directories: u64,
    /// Packs that were looked at; all of them, or those of the slice.
    pub packs: u64,
    /// Blocks that were opened.
    pub blocks: u64,
    /// Chunks that were hashed.
    pub chunks: u64,
    /// Bytes of packs that were read.
    pub bytes: u64,
    /// Everything that was found, in order.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Whether anything that was written is no longer as it was (exit code 65), be it covered by a copy or not.
    pub fn damaged(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity >= Severity::Covered)
    }

    /// Whether sealed data cannot be read from this disk any more.
    pub fn lost(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Lost)
    }
}

/// Verifies a repository. Takes no lock, writes nothing; damage is told to `monitor` as it is found and listed in the
/// report.
///
/// # Errors
/// Only what keeps the work from being done at all: folders that cannot be listed.
pub fn verify(
    repository: &Repository,
    options: VerifyOptions,
    monitor: &dyn Monitor,
) -> Result<VerifyReport, RepositoryError> {
    let monitor = Counting::new(monitor);
    let mut report = VerifyReport::default();
    let mut missing: HashSet<ChunkId> = HashSet::new();
    let walked = structure::check(repository, &monitor, &mut report, &mut missing)?;
    data::check(repository, options.read, &monitor, &mut report, &mut missing)?;
    structure::name_files(repository, &walked.snapshots, &missing, &walked.unreadable, &monitor)?;
    if options.read == ReadData::All {
        crate::rescue::check(&**repository.storage(), &monitor);
    }
    report.problems = monitor.kept.problems();
    Ok(report)
}
