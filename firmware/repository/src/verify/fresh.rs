//! What one snapshot newly brought: the directories and files in which it differs from the one of its source before it.
//! What is as it was there was looked at then, and has its turn in the slices; so the work does not grow with history.

use std::collections::{BTreeSet, HashSet};

use mailkeep_format::{ChunkId, ChunkRef, PackId, SnapshotId};

use super::VerifyReport;
use super::structure::{self, Walk, Walked};
use crate::error::RepositoryError;
use crate::index::View;
use crate::layout;
use crate::monitor::{LogMonitor, Monitor, Phase, Problem, Severity};
use crate::repository::Repository;
use crate::snapshots::{Manifests, SnapshotEntry};

/// Looks at what `id` brought, and once more in full at the snapshots that have lost something: they may have healed.
pub(super) fn check(
    repository: &Repository,
    id: &SnapshotId,
    lost: &[SnapshotId],
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
    missing: &mut HashSet<ChunkId>,
) -> Result<Walked, RepositoryError> {
    structure::check_copies(repository, monitor)?;
    let snapshots = Manifests::load(repository, monitor)?.entries;
    let Some(at) = snapshots.iter().position(|entry| entry.id == *id) else {
        return Err(RepositoryError::NoSnapshot { wanted: id.hex() });
    };
    report.snapshots = snapshots.len() as u64;
    let view = View::load(repository, monitor)?;
    let reader = repository.reader(&LogMonitor)?;
    let mut walk = Walk::new(reader, view, missing);
    let entry = &snapshots[at];
    let parent = snapshots[..at]
        .iter()
        .rev()
        .find(|earlier| earlier.manifest.source.name == entry.manifest.source.name)
        .map_or(&[][..], |parent| &parent.manifest.root);
    let mut left = vec![(entry.manifest.root.clone(), parent.to_vec(), structure::opening(entry))];
    while let Some((content, before, path)) = left.pop() {
        if content == before {
            continue;
        }
        report.directories += 1;
        monitor.progress(Phase::Structure, report.directories, 0);
        // A parent that cannot be read is none: everything counts as new then.
        let mut old = walk.reader.tree_nodes(&before).map_while(Result::ok).peekable();
        for node in walk.reader.tree_nodes(&content) {
            let node = match node {
                Ok(node) => node,
                Err(error) => {
                    walk.unreadable(&path, &error, monitor);
                    break;
                }
            };
            // Both come in ascending order of names.
            while old.next_if(|was| was.name < node.name).is_some() {}
            let was = old.next_if(|was| was.name == node.name);
            let was = was.filter(|was| was.is_directory() == node.is_directory());
            let was: &[ChunkRef] = was.as_ref().map_or(&[], |was| was.content());
            if node.is_directory() {
                let path = format!("{path}/{}", String::from_utf8_lossy(&node.name));
                left.push((node.content().to_vec(), was.to_vec(), path));
            } else if node.content() != was {
                walk.want(&node)?;
            }
        }
    }
    for entry in snapshots.iter().filter(|entry| lost.contains(&entry.id)) {
        walk.tree(&entry.manifest.root, &structure::opening(entry), monitor, &mut report.directories)?;
    }
    walk.settle()?;
    let unreadable = walk.unreadable;
    check_packs_are_there(repository, entry, monitor)?;
    Ok(Walked { snapshots, unreadable })
}

/// The packs that this snapshot brought.
pub(super) fn new_packs<'a>(
    snapshots: &'a [SnapshotEntry],
    id: &SnapshotId,
) -> impl Iterator<Item = PackId> + 'a {
    let brought = snapshots.iter().find(|entry| entry.id == *id);
    brought.into_iter().flat_map(|entry| entry.manifest.new_packs.iter().copied())
}

fn check_packs_are_there(
    repository: &Repository,
    entry: &SnapshotEntry,
    monitor: &dyn Monitor,
) -> Result<(), RepositoryError> {
    let folders: BTreeSet<String> = entry.manifest.new_packs.iter().map(layout::pack_folder).collect();
    let mut there = HashSet::new();
    for folder in folders {
        match repository.storage().list(&folder) {
            Ok(entries) => there.extend(entries.into_iter().map(|entry| format!("{folder}/{}", entry.name))),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    for id in &entry.manifest.new_packs {
        let path = layout::pack(id);
        if !there.contains(&path) {
            monitor.problem(&Problem::new(
                Severity::Lost,
                path,
                "this pack was written for the newest snapshot and is gone",
            ));
        }
    }
    Ok(())
}
