//! Bringing a damaged repository back as far as it can be: plan, show, apply. Follows COMMIT.md, "Repair".
//!
//! Hazard 19, a repair that makes it worse: nothing is edited and nothing is deleted here. What is good is copied to new
//! files, what is damaged is moved to `quarantine/`, and nothing leaves its place before what is good in it lies
//! elsewhere, durably.

mod copies;
mod plan;
mod quarantine;
mod salvage;

use std::collections::BTreeSet;
use std::sync::Arc;

use mailkeep_format::{PackId, SnapshotId};

use crate::error::RepositoryError;
use crate::keyring::KeySource;
use crate::lock::{self, WriteLock};
use crate::monitor::{LogMonitor, Monitor, Problem, Severity};
use crate::repository::Repository;
use crate::storage::{PoisonStorage, Storage};
use crate::verified::Verified;
use crate::writer::WriterOptions;
use crate::{layout, reindex};

pub use plan::{DamagedPack, RepairPlan};

/// How a repair works.
#[derive(Clone)]
pub struct RepairOptions {
    /// Only make the plan; take no lock, write nothing.
    pub dry_run: bool,
    /// The key that opened the repository: it tells which copy of its own key file is the good one.
    pub key: KeySource,
    /// How what is salvaged is written, and who does it.
    pub writer: WriterOptions,
}

/// What a repair has found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What was found, and what was to be done about it.
    pub plan: RepairPlan,
    /// Whether it was done.
    pub done: bool,
    /// Chunks of damaged packs that lie in new packs now.
    pub salvaged: u64,
    /// Files that were brought back from their other copy.
    pub restored: Vec<String>,
    /// Where damaged files lie now.
    pub quarantined: Vec<String>,
    /// What could not be done.
    pub undone: Vec<Problem>,
}

impl RepairReport {
    /// Whether sealed data cannot be read from this disk any more (exit code 65).
    pub fn lost(&self) -> bool {
        !self.plan.lost.is_empty() || !self.plan.lost_snapshots.is_empty()
    }

    /// Whether something was left undone (exit code 2).
    pub fn partly(&self) -> bool {
        !self.undone.is_empty()
    }
}

impl Repository {
    /// Repairs what can be repaired. Every byte is read first; then `show` gets the plan, and it is carried out unless
    /// this is a dry run. Interrupted anywhere, it leaves the repository as readable as it was.
    ///
    /// # Errors
    /// [`RepositoryError::Locked`], [`RepositoryError::ReadOnly`], and whatever keeps the disk from being read and
    /// written.
    pub fn repair(
        &self,
        options: &RepairOptions,
        show: &mut dyn FnMut(&RepairPlan),
        monitor: &dyn Monitor,
    ) -> Result<RepairReport, RepositoryError> {
        if options.dry_run {
            let plan = plan::make(self, &options.key, monitor)?;
            show(&plan);
            let undone = plan.undecided();
            return Ok(RepairReport { plan, undone, ..RepairReport::default() });
        }
        let storage: Arc<dyn Storage> = Arc::new(PoisonStorage::new(self.storage().clone()));
        let machine = &options.writer.machine;
        let lock = Arc::new(WriteLock::take_for_upkeep(storage.clone(), machine, monitor)?);
        let plan = plan::make(self, &options.key, monitor)?;
        show(&plan);
        let mut report = RepairReport { undone: plan.undecided(), plan, ..RepairReport::default() };
        if !report.plan.is_empty() {
            apply(self, &storage, &lock, options, &mut report, monitor)?;
        }
        report.done = true;
        Ok(report)
    }
}

fn apply(
    repository: &Repository,
    storage: &Arc<dyn Storage>,
    lock: &Arc<WriteLock>,
    options: &RepairOptions,
    report: &mut RepairReport,
    monitor: &dyn Monitor,
) -> Result<(), RepositoryError> {
    let disk = &**storage;
    lock.confirm()?;
    // Step 1: from here on no snapshot relies on what is damaged.
    let packs: BTreeSet<PackId> = report.plan.packs.iter().map(|pack| pack.id).collect();
    let (lost, generation) = (&report.plan.lost_snapshots.clone(), report.plan.generation);
    let verified =
        remember(repository, disk, Verified::load(repository, &LogMonitor)?, &packs, lost, generation)?;
    // Step 2.
    copies::mend(repository, disk, report)?;
    // Step 3.
    let mut moved = packs.clone();
    if !packs.is_empty() {
        let salvaged = salvage::salvage(repository, storage, lock, &options.writer, &packs, monitor)?;
        report.salvaged = salvaged.chunks;
        for id in salvaged.unread {
            moved.remove(&id);
            let what = "the disk does not give all of it now; it stays in its place: repair again, with another cable or port";
            report.undone.push(Problem::new(Severity::Lost, layout::pack(&id), what));
        }
        lock.renew()?;
    }
    // Step 4.
    if !packs.is_empty() || report.plan.index {
        reindex::rebuild(repository, disk, lock, &moved, &LogMonitor)?;
    }
    // Step 5.
    disk.flush_device()?;
    lock.confirm()?;
    for id in &moved {
        report.quarantined.push(quarantine::put(disk, &layout::pack(id))?);
    }
    disk.flush_device()?;
    // Step 6.
    if !packs.is_empty() {
        let left = packs.difference(&moved).copied().collect();
        remember(repository, disk, verified, &left, lost, generation)?;
    }
    Ok(())
}

/// Writes down which packs are damaged and which snapshots have lost something.
fn remember(
    repository: &Repository,
    storage: &dyn Storage,
    verified: Verified,
    packs: &BTreeSet<PackId>,
    lost: &BTreeSet<SnapshotId>,
    generation: u64,
) -> Result<Verified, RepositoryError> {
    let before = verified.newest.as_ref();
    let known = before
        .is_some_and(|record| record.damaged.iter().eq(packs.iter()) && record.lost.iter().eq(lost.iter()));
    let nothing = before.is_none() && packs.is_empty() && lost.is_empty();
    if known || nothing {
        return Ok(verified);
    }
    let mut record = verified.next(repository);
    record.time = i64::try_from(lock::now()).unwrap_or(i64::MAX);
    record.generation = generation;
    record.damaged = packs.iter().copied().collect();
    record.lost = lost.iter().copied().collect();
    verified.replace(repository, storage, record)
}
