//! The sweep record that a prune writes. Follows COMMIT.md, "Prune", step 9.

use std::collections::{BTreeMap, BTreeSet};

use mailkeep_format::PackId;
use mailkeep_format::sweep::{RemovedSnapshot, SweepRecord, Tombstone};
use mailkeep_format::version::FORMAT_VERSION;

use super::PruneOptions;
use super::decide::Decided;
use super::plan::Plan;
use crate::error::RepositoryError;
use crate::index::{Loaded, View};
use crate::monitor::LogMonitor;
use crate::repository::Repository;
use crate::snapshots::Manifests;

/// The whole state after this prune.
pub(super) fn record(
    repository: &Repository,
    options: &PruneOptions,
    decided: &Decided,
    plan: &Plan,
    view: &View,
    copied: &BTreeSet<PackId>,
) -> Result<SweepRecord, RepositoryError> {
    let Manifests { entries, swept, highest, .. } = &decided.manifests;
    let present: BTreeSet<PackId> = Loaded::load(repository, &LogMonitor)?.present.into_keys().collect();
    let mut removed: Vec<RemovedSnapshot> = swept.pruned.values().cloned().collect();
    let mut packs: BTreeSet<PackId> = swept.packs.union(copied).copied().collect();
    for entry in entries.iter().filter(|entry| decided.going.contains(&entry.id)) {
        removed.push(RemovedSnapshot {
            generation: entry.manifest.generation,
            id: entry.id,
            source: entry.manifest.source.name.clone(),
        });
        packs.extend(&entry.manifest.new_packs);
    }
    removed.sort();
    let mut tombstoned: BTreeMap<PackId, Tombstone> = swept.tombstoned.clone();
    // Of what is deleted nobody needs to be told once no run names it.
    tombstoned.retain(|id, _| present.contains(id) || view.deleted().contains(id));
    for id in &plan.revived {
        tombstoned.remove(id);
        packs.insert(*id);
    }
    for pack in plan.dead.iter().chain(&plan.repack) {
        let tomb = Tombstone { pack: pack.id, generation: *highest, time: options.clock.now };
        tombstoned.insert(pack.id, tomb);
    }
    packs.retain(|id| present.contains(id) && !tombstoned.contains_key(id));
    Ok(SweepRecord {
        format_version: FORMAT_VERSION,
        required_features: Vec::new(),
        repository: repository.id(),
        sequence: swept.sequence.saturating_add(1),
        generation: *highest,
        time: options.clock.now,
        program: options.program.clone(),
        removed,
        tombstoned: tombstoned.into_values().collect(),
        packs: packs.into_iter().collect(),
    })
}
