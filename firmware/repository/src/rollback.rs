//! Going back to a guard: which there are, what would change, and the exchange. Follows COMMIT.md, "Guards".
//!
//! Works on a repository of which nothing is left but its guards. A guard is believed as any disk is: the key opens it,
//! and its structure is whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailkeep_format::SnapshotId;

use crate::error::RepositoryError;
use crate::keyring::KeySource;
use crate::machine::Machine;
use crate::monitor::{LogMonitor, Monitor};
use crate::repository::Repository;
use crate::snapshots::SnapshotEntry;
use crate::storage::{LocalStorage, Storage};
use crate::verify::{ReadData, VerifyOptions, verify};
use crate::{layout, lock};

/// A guard, and what is in it.
#[derive(Debug)]
pub struct GuardState {
    /// Its name.
    pub name: String,
    /// Made by prune, before it took something away; else by a seal.
    pub by_prune: bool,
    /// Its snapshots, by generation.
    pub snapshots: Result<Vec<SnapshotEntry>, RepositoryError>,
}

/// What going back changes.
#[derive(Debug)]
pub struct RollBack {
    /// The guard.
    pub guard: String,
    /// Snapshots of the present state that are not in it.
    pub lost: Vec<SnapshotEntry>,
    /// Snapshots in it that are not in the present state.
    pub regained: Vec<SnapshotEntry>,
    /// The present state cannot be opened.
    pub broken: bool,
}

/// What going back has left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// Where the replaced state is now, as it was, with its guards.
    pub kept: PathBuf,
    /// The guard of the replaced state in the repository as it is now; none if that state was no repository any more.
    pub guard: Option<String>,
}

/// The guards of the repository in this folder, the oldest first; none where the file system knows none.
///
/// # Errors
/// The folder or its guards cannot be listed.
pub fn guards(path: &Path, key: &KeySource) -> Result<Vec<GuardState>, RepositoryError> {
    let names = LocalStorage::open(path)?.guards_unchecked()?;
    Ok(names
        .into_iter()
        .map(|name| {
            let snapshots = open(path, &name, key).and_then(|guard| guard.snapshots(&LogMonitor));
            GuardState { by_prune: layout::is_hold(&name), snapshots, name }
        })
        .collect())
}

/// What going back to this guard would change. Reads only.
///
/// # Errors
/// [`RepositoryError::NoGuard`]; [`RepositoryError::NotRolledBack`] for one that is of another repository or not whole;
/// whatever keeps it from being opened.
pub fn plan_roll_back(path: &Path, name: &str, key: &KeySource) -> Result<RollBack, RepositoryError> {
    let guard = open(path, name, key)?;
    let refused = |why: &str| RepositoryError::NotRolledBack { why: why.to_owned() };
    let found = verify(&guard, VerifyOptions { read: ReadData::Structure }, &LogMonitor)?;
    if found.lost() {
        return Err(refused("the guard is not whole either"));
    }
    let there = guard.snapshots(&LogMonitor)?;
    let now = match present(path, key) {
        Some(now) if now.id() != guard.id() => return Err(refused("the guard is of another repository")),
        Some(now) => now.snapshots(&LogMonitor).ok(),
        None => None,
    };
    let without = |some: &[SnapshotEntry], others: &[SnapshotEntry]| -> Vec<SnapshotEntry> {
        let known = |id: &SnapshotId| others.iter().any(|other| other.id == *id);
        some.iter().filter(|entry| !known(&entry.id)).cloned().collect()
    };
    let broken = now.is_none();
    let now = now.unwrap_or_default();
    Ok(RollBack {
        guard: name.to_owned(),
        lost: without(&now, &there),
        regained: without(&there, &now),
        broken,
    })
}

/// Goes back to this guard. The replaced state is kept beside the repository, and as a guard in it. Nothing is deleted.
///
/// # Errors
/// As [`plan_roll_back`]; [`RepositoryError::Locked`] while somebody writes, be it on another box.
pub fn roll_back(
    path: &Path,
    name: &str,
    key: &KeySource,
    machine: &Machine,
    monitor: &dyn Monitor,
) -> Result<RolledBack, RepositoryError> {
    let storage = LocalStorage::open(path)?;
    let _lock = lock::keep_writers_out(&storage, machine)?;
    plan_roll_back(path, name, key)?;
    // Of what is no repository any more no guard is made: nobody could tell whose it is.
    let replaced = present(path, key).map(|now| {
        let newest = now.snapshots(monitor).ok().and_then(|entries| entries.last().cloned());
        let (generation, id) =
            newest.map_or((0, SnapshotId([0; 32])), |entry| (entry.manifest.generation, entry.id));
        layout::manifest_name(generation, &id)
    });
    let kept = storage.exchange_with_guard(name, replaced.as_deref())?;
    tracing::warn!(guard = name, kept = %kept.display(), "went back to a guard");
    Ok(RolledBack { kept, guard: replaced })
}

fn open(path: &Path, name: &str, key: &KeySource) -> Result<Repository, RepositoryError> {
    let no_guard = || RepositoryError::NoGuard { name: name.chars().take(80).collect() };
    if !layout::is_guard(name) {
        return Err(no_guard());
    }
    let inside = path.join(layout::GUARDS).join(name);
    let storage = LocalStorage::open(&inside)
        .map_err(|error| if error.is_not_found() { no_guard() } else { error.into() })?;
    Repository::open(Arc::new(storage) as Arc<dyn Storage>, key, &LogMonitor)
}

fn present(path: &Path, key: &KeySource) -> Option<Repository> {
    let storage = LocalStorage::open(path).ok()?;
    Repository::open(Arc::new(storage) as Arc<dyn Storage>, key, &LogMonitor).ok()
}
