//! Everything about everything: the whole structure and every byte, with what is damaged told apart, for `repair`.

use std::collections::{BTreeSet, HashSet};

use mailkeep_format::{ChunkId, PackId, SnapshotId};

use super::{ReadData, VerifyReport, data, structure};
use crate::error::RepositoryError;
use crate::index::Loaded;
use crate::monitor::{Counting, LogMonitor, Monitor};
use crate::repository::Repository;

/// What was found.
pub(crate) struct Examined {
    pub(crate) report: VerifyReport,
    /// Packs that are not what they were.
    pub(crate) damaged: BTreeSet<PackId>,
    /// Snapshots that have lost something that is nowhere on this disk.
    pub(crate) lost: BTreeSet<SnapshotId>,
    /// The highest generation of a readable manifest.
    pub(crate) generation: u64,
}

/// Reads every byte of a repository.
pub(crate) fn examine(repository: &Repository, monitor: &dyn Monitor) -> Result<Examined, RepositoryError> {
    let monitor = Counting::new(monitor);
    let mut report = VerifyReport::default();
    let mut missing: HashSet<ChunkId> = HashSet::new();
    let walked = structure::check(repository, &monitor, &mut report, &mut missing)?;
    let suspected = data::check(repository, ReadData::All, &monitor, &mut report, &mut missing)?;
    // A second look: what the disk gives after all when it is asked again is not damaged.
    let present = Loaded::load(repository, &LogMonitor)?.present;
    let again = present.into_iter().filter(|(id, _)| suspected.contains(id)).collect();
    let (quiet, scratch) = (&LogMonitor, &mut VerifyReport::default());
    let damaged = data::check_packs(repository, again, true, quiet, scratch, &mut missing)?;
    let lost = structure::name_files(repository, &walked.snapshots, &missing, &walked.unreadable, &monitor)?;
    report.problems = monitor.kept.problems();
    let generation = walked.snapshots.iter().map(|entry| entry.manifest.generation).max().unwrap_or(0);
    Ok(Examined { report, damaged, lost, generation })
}
