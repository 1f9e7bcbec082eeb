//! What a writer does before it writes: tidy up, and know again what earlier runs left. Follows COMMIT.md, steps 1 and 2.

use std::collections::BTreeSet;

use mailkeep_format::pack::PackFooter;
use mailkeep_format::{Label, PackId, SnapshotId, limits as format_limits};

use crate::error::RepositoryError;
use crate::index::{self, Loaded, View};
use crate::monitor::{LogMonitor, Monitor, Phase, Problem, Severity};
use crate::repository::Repository;
use crate::snapshots::Manifests;
use crate::storage::{Operation, Storage, read_whole};
use crate::verified::Verified;
use crate::{durable, layout, limits, packfile, swept};

/// Where a writer goes on.
pub(super) struct Start {
    pub(super) view: View,
    /// Packs that no snapshot names as its own.
    pub(super) unsealed: BTreeSet<PackId>,
    pub(super) previous: Option<SnapshotId>,
    /// The highest generation so far.
    pub(super) generation: u64,
}

/// Whether there is room on the disk to write an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    /// Packs that no run names are known from an index in memory, and runs are not merged.
    Short,
}

pub(super) fn resume(
    repository: &Repository,
    storage: &dyn Storage,
    room: Room,
    monitor: &dyn Monitor,
) -> Result<Start, RepositoryError> {
    durable::empty_tmp(storage)?;
    let manifests = Manifests::load(repository, monitor)?;
    restore_copies(repository, storage, &manifests)?;
    finish_removal(storage, &manifests.leftover)?;
    let sealed: BTreeSet<PackId> = manifests
        .entries
        .iter()
        .flat_map(|entry| entry.manifest.new_packs.iter().copied())
        .chain(manifests.swept.packs.iter().copied())
        .chain(manifests.swept.tombstoned.keys().copied())
        .collect();
    Verified::load(repository, &LogMonitor)?.must_be_known()?;
    let loaded = Loaded::load(repository, monitor)?;
    let mut unsealed: BTreeSet<PackId> =
        loaded.present.keys().filter(|id| !sealed.contains(id)).copied().collect();
    let view = match room {
        Room::Enough => adopt(repository, storage, &loaded, &mut unsealed, monitor)?,
        Room::Short => View::load(repository, monitor)?,
    };
    for id in &loaded.stale {
        durable::remove(storage, &layout::run(id))?;
    }
    if !loaded.stale.is_empty() {
        storage.sync_dir(layout::INDEX)?;
    }
    let view = match room {
        Room::Enough => index::merge(repository, storage, &view)?,
        Room::Short => view,
    };
    let previous = manifests.entries.last().map(|entry| entry.id);
    Ok(Start { view, unsealed, previous, generation: manifests.highest })
}

/// Takes away the manifests of removed snapshots that an interrupted prune has left.
fn finish_removal(storage: &dyn Storage, leftover: &[(usize, String)]) -> Result<(), RepositoryError> {
    for (copy, name) in leftover {
        durable::remove(storage, &format!("{}/{name}", layout::MANIFESTS[*copy]))?;
    }
    if !leftover.is_empty() {
        layout::MANIFESTS.iter().try_for_each(|folder| storage.sync_dir(folder))?;
    }
    Ok(())
}

/// Brings back copies that are missing. A copy that is there but damaged is left for `repair`, which keeps it aside.
fn restore_copies(
    repository: &Repository,
    storage: &dyn Storage,
    manifests: &Manifests,
) -> Result<(), RepositoryError> {
    for folder in
        [layout::KEYS[0], layout::KEYS[1], layout::MANIFESTS[0], layout::MANIFESTS[1], layout::INDEX]
    {
        match storage.list(folder) {
            Err(error) if error.is_not_found() => durable::make_dir(storage, folder)?,
            _ => {}
        }
    }
    for (copy, name) in &manifests.missing {
        let [there, missing] = [1 - copy, *copy].map(|copy| format!("{}/{name}", layout::MANIFESTS[copy]));
        let bytes = read_whole(storage, &there, format_limits::MANIFEST_FILE_MAX as u64)?;
        // It was authentic a moment ago; never make a copy of something that no longer is.
        mailkeep_format::Manifest::decode(repository.keys(), &repository.id(), &bytes)
            .map_err(|source| RepositoryError::decoding(&there, source))?;
        durable::write_once(storage, &missing, &bytes)?;
    }
    swept::restore_copies(repository, storage, &manifests.swept)?;
    for (there, missing) in [(0, 1), (1, 0)] {
        let path = layout::LABELS[missing];
        match storage.open(path) {
            Err(error) if error.is_not_found() => {
                let bytes = read_whole(storage, layout::LABELS[there], format_limits::LABEL_FILE_MAX as u64)?;
                if Label::verify(&bytes, repository.keys()).is_ok() {
                    durable::write_once(storage, path, &bytes)?;
                }
            }
            _ => {}
        }
        let [from, to] = [there, missing].map(|copy| layout::KEYS[copy]);
        let present: BTreeSet<String> = storage.list(to)?.into_iter().map(|entry| entry.name).collect();
        for entry in storage.list(from)?.iter().filter(|entry| !present.contains(&entry.name)) {
            let bytes =
                read_whole(storage, &format!("{from}/{}", entry.name), format_limits::KEY_FILE_MAX as u64)?;
            durable::write_once(storage, &format!("{to}/{}", entry.name), &bytes)?;
        }
    }
    Ok(())
}

fn unread(error: RepositoryError) -> Result<bool, RepositoryError> {
    match error {
        RepositoryError::Storage(error) if error.operation == Operation::Read => Ok(false),
        other => Err(other),
    }
}

/// Makes index runs for the packs that no run names. One that no snapshot names either is from an interrupted run and was
/// never read back: that is done now, and if it fails it is not used.
fn adopt(
    repository: &Repository,
    storage: &dyn Storage,
    loaded: &Loaded,
    unsealed: &mut BTreeSet<PackId>,
    monitor: &dyn Monitor,
) -> Result<View, RepositoryError> {
    let mut view = loaded.view.clone();
    let mut batch: Vec<(PackId, PackFooter)> = Vec::new();
    let mut chunks = 0;
    let total = loaded.unindexed.len() as u64;
    for (done, id) in (0..).zip(&loaded.unindexed) {
        monitor.progress(Phase::Index, done, total);
        // One that the disk does not give is as good as none: nobody relies on it yet.
        if unsealed.contains(id) && !packfile::reads_back(storage, id).or_else(unread)? {
            let what = "left by an interrupted run and not what its name says; it is not used";
            monitor.problem(&Problem::new(Severity::Note, layout::pack(id), what));
            unsealed.remove(id);
            continue;
        }
        match packfile::read_footer(repository, id, monitor)? {
            Some(footer) => {
                chunks += footer.chunk_count();
                batch.push((*id, footer));
            }
            None => {
                unsealed.remove(id);
            }
        }
        if chunks >= limits::SESSION_CHUNKS {
            view = view.with(index::write_run(repository, storage, &batch)?);
            batch.clear();
            chunks = 0;
        }
    }
    if !batch.is_empty() {
        view = view.with(index::write_run(repository, storage, &batch)?);
    }
    Ok(view)
}
