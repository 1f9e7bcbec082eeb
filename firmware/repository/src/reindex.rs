//! Making the index again from the packs' footers alone. Follows COMMIT.md, "Reindex".

use std::collections::BTreeSet;
use std::sync::Arc;

use mailkeep_format::pack::PackFooter;
use mailkeep_format::{PackId, RunId};

use crate::error::RepositoryError;
use crate::index::{self, Loaded, View};
use crate::lock::WriteLock;
use crate::machine::Machine;
use crate::monitor::{Counting, LogMonitor, Monitor, Phase, Problem, Severity};
use crate::repository::Repository;
use crate::snapshots::Manifests;
use crate::storage::{PoisonStorage, Storage};
use crate::{durable, layout, limits, packfile};

/// What a reindex has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReindexReport {
    /// Packs that stand in the new index.
    pub packs: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Runs that make up the new index.
    pub runs: u64,
    /// Old runs that were removed.
    pub removed: u64,
    /// What could not be indexed, in order.
    pub problems: Vec<Problem>,
}

impl ReindexReport {
    /// Whether a pack could not be indexed because it is damaged (exit code 65).
    pub fn damaged(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Lost)
    }
}

impl Repository {
    /// Makes the index again, whatever lies in its place now. Memory stays under that of
    /// [`limits::SESSION_CHUNKS`] chunks.
    ///
    /// # Errors
    /// [`RepositoryError::Locked`], [`RepositoryError::ReadOnly`], and whatever keeps the disk from being read and
    /// written; what was there is there then.
    pub fn reindex(
        &self,
        machine: &Machine,
        monitor: &dyn Monitor,
    ) -> Result<ReindexReport, RepositoryError> {
        let storage: Arc<dyn Storage> = Arc::new(PoisonStorage::new(self.storage().clone()));
        let lock = WriteLock::take_for_upkeep(storage.clone(), machine, monitor)?;
        let monitor = Counting::new(monitor);
        let mut report = rebuild(self, &*storage, &lock, &BTreeSet::new(), &monitor)?;
        report.problems = monitor.kept.problems();
        Ok(report)
    }
}

/// Makes the index again, of all packs but those in `skip`. The caller holds the lock.
pub(crate) fn rebuild(
    repository: &Repository,
    storage: &dyn Storage,
    lock: &WriteLock,
    skip: &BTreeSet<PackId>,
    monitor: &dyn Monitor,
) -> Result<ReindexReport, RepositoryError> {
    durable::make_dir(storage, layout::INDEX)?;
    // What is wrong with the old index is why it is made again.
    let loaded = Loaded::load(repository, &LogMonitor)?;
    let old = runs_on_disk(storage)?;
    let unproven = unproven(repository, &loaded)?;
    let mut report = ReindexReport::default();
    let mut view = View::default();
    let mut batch: Vec<(PackId, PackFooter)> = Vec::new();
    let mut chunks = 0;
    let total = loaded.present.len() as u64;
    for (done, id) in (0..).zip(loaded.present.keys()).filter(|(_, id)| !skip.contains(*id)) {
        monitor.progress(Phase::Index, done, total);
        if unproven.contains(id) && !packfile::reads_back(storage, id)? {
            let what = "left by an interrupted run and not what its name says; it is not used";
            monitor.problem(&Problem::new(Severity::Note, layout::pack(id), what));
            continue;
        }
        let Some(footer) = packfile::read_footer(repository, id, monitor)? else { continue };
        report.packs += 1;
        report.chunks += footer.chunk_count() as u64;
        chunks += footer.chunk_count();
        batch.push((*id, footer));
        if chunks >= limits::SESSION_CHUNKS {
            view = view.with(index::write_run(repository, storage, &batch)?);
            view = index::merge(repository, storage, &view)?;
            batch.clear();
            chunks = 0;
            lock.renew()?;
        }
    }
    if !batch.is_empty() {
        view = view.with(index::write_run(repository, storage, &batch)?);
        view = index::merge(repository, storage, &view)?;
    }
    report.runs = view.runs().len() as u64;
    storage.flush_device()?;
    lock.confirm()?;
    for id in &old {
        durable::remove(storage, &layout::run(id))?;
        report.removed += 1;
    }
    storage.sync_dir(layout::INDEX)?;
    Ok(report)
}

fn runs_on_disk(storage: &dyn Storage) -> Result<Vec<RunId>, RepositoryError> {
    let entries = storage.list(layout::INDEX)?;
    let files = entries.into_iter().filter(|entry| !entry.directory);
    Ok(files.filter_map(|entry| entry.name.parse().ok()).collect())
}

/// Packs that no manifest and no run names: nobody has read them back so far.
fn unproven(repository: &Repository, loaded: &Loaded) -> Result<BTreeSet<PackId>, RepositoryError> {
    let mut unproven: BTreeSet<PackId> = loaded.unindexed.iter().copied().collect();
    if !unproven.is_empty() {
        let manifests = Manifests::load(repository, &LogMonitor)?;
        let sealed = manifests.entries.iter().flat_map(|entry| &entry.manifest.new_packs);
        for id in sealed.chain(&manifests.swept.packs).chain(manifests.swept.tombstoned.keys()) {
            unproven.remove(id);
        }
    }
    Ok(unproven)
}
