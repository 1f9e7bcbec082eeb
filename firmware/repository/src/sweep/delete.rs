//! The only file that deletes what was sealed: manifests of snapshots that a durable record has removed, and packs that
//! nothing needs. Follows COMMIT.md, "Prune", steps 10 and 11.
//!
//! Nothing here decides. What is handed in is held against the disk once more, and one doubt ends it before the first
//! file goes.

use std::collections::BTreeSet;

use mailkeep_format::{PackId, SnapshotId};

use super::mark::Marks;
use crate::error::RepositoryError;
use crate::monitor::{LogMonitor, Monitor, Phase};
use crate::repository::Repository;
use crate::snapshots::Manifests;
use crate::storage::Storage;
use crate::swept::{self, Swept};
use crate::{durable, layout, packfile};

/// Takes away the manifests of these snapshots, which the record on the disk must list as removed.
pub(super) fn manifests(
    repository: &Repository,
    storage: &dyn Storage,
    going: &[(u64, SnapshotId)],
) -> Result<(), RepositoryError> {
    let swept = swept::load(repository, &LogMonitor)?;
    if let Some((generation, _)) = going.iter().find(|(_, id)| !swept.is_pruned(id)) {
        return Err(doubt(format!("no record on the disk removes snapshot {generation}")));
    }
    for folder in layout::MANIFESTS {
        for (generation, id) in going {
            durable::remove(storage, &format!("{folder}/{}", layout::manifest_name(*generation, id)))?;
        }
        storage.sync_dir(folder)?;
    }
    Ok(())
}

/// Deletes packs. `staying` are the snapshots from which `marks` was made.
pub(super) fn packs(
    repository: &Repository,
    storage: &dyn Storage,
    going: &BTreeSet<PackId>,
    marks: &Marks,
    staying: &BTreeSet<SnapshotId>,
    monitor: &dyn Monitor,
) -> Result<(), RepositoryError> {
    let there = Manifests::load(repository, &LogMonitor)?;
    check(going, marks, staying, &there)?;
    witnesses(storage, &marks.witnesses(&going.iter().copied().collect()), monitor)?;
    for id in going {
        durable::remove(storage, &layout::pack(id))?;
    }
    let folders: BTreeSet<String> = going.iter().map(layout::pack_folder).collect();
    folders.iter().try_for_each(|folder| storage.sync_dir(folder))?;
    Ok(())
}

fn check(
    going: &BTreeSet<PackId>,
    marks: &Marks,
    staying: &BTreeSet<SnapshotId>,
    there: &Manifests,
) -> Result<(), RepositoryError> {
    let swept: &Swept = &there.swept;
    let listed: BTreeSet<SnapshotId> = there.entries.iter().map(|entry| entry.id).collect();
    if there.incomplete || listed != *staying {
        return Err(doubt("the manifests on the disk are not those that were looked at".to_owned()));
    }
    if let Some(id) = going.iter().find(|id| !swept.tombstoned.contains_key(*id)) {
        return Err(doubt(format!("no record on the disk gives up pack {id}")));
    }
    if let Some(id) = going.iter().find(|id| marks.needs(id)) {
        return Err(doubt(format!("pack {id} is needed")));
    }
    Ok(())
}

/// Reads the packs whose copies make other copies needless, past the page cache: each must still hash to its name.
pub(super) fn witnesses(
    storage: &dyn Storage,
    packs: &BTreeSet<PackId>,
    monitor: &dyn Monitor,
) -> Result<(), RepositoryError> {
    let mut done = 0;
    for id in packs {
        done += storage.open(&layout::pack(id))?.length();
        monitor.progress(Phase::ReadBack, done, 0);
        if !packfile::reads_back(storage, id)? {
            return Err(RepositoryError::NotSwept { why: format!("{} is damaged", layout::pack(id)) });
        }
    }
    Ok(())
}

fn doubt(why: String) -> RepositoryError {
    RepositoryError::NotSwept { why }
}
