//! The checkpoints on the disk: how far backups had come that were cut off. Follows COMMIT.md, "Checkpoints".
//!
//! A checkpoint is a hint about what need not be read again, never a snapshot. One that is lost, damaged or stale costs time and
//! nothing else; whoever uses one proves each chunk that it names (`Writer::relies_on`).

use mailkeep_format::version::FORMAT_VERSION;
use mailkeep_format::{Checkpoint, FormatError, Salt, limits};

use crate::error::{RepositoryError, chain};
use crate::monitor::{LogMonitor, Monitor, Problem, Severity};
use crate::repository::Repository;
use crate::snapshots::Manifests;
use crate::storage::{Storage, read_whole};
use crate::{durable, layout};

/// What lies in the folder.
#[derive(Debug, Default)]
struct Checkpoints {
    /// By name; `None` for what counts for nothing.
    all: Vec<(String, Option<Checkpoint>)>,
    /// The highest sequence that any name claims.
    highest: u64,
}

impl Checkpoints {
    fn load(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, RepositoryError> {
        let mut checkpoints = Checkpoints::default();
        let entries = match repository.storage().list(layout::CHECKPOINTS) {
            Ok(entries) => entries,
            // The folder comes with the first of them.
            Err(error) if error.is_not_found() => return Ok(checkpoints),
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let path = format!("{}/{}", layout::CHECKPOINTS, entry.name);
            let Some((sequence, _)) = layout::parse_numbered(&entry.name).filter(|_| !entry.directory) else {
                monitor.problem(&Problem::new(Severity::Note, path, "this is not a checkpoint's name"));
                continue;
            };
            checkpoints.highest = checkpoints.highest.max(sequence);
            match read(repository, &path, &entry.name) {
                Ok(record) => checkpoints.all.push((entry.name, Some(record))),
                // A backup beside this reader has taken it away.
                Err(RepositoryError::Storage(error)) if error.is_not_found() => {}
                Err(error) => {
                    let what = format!("this checkpoint counts for nothing: {}", chain(&error));
                    monitor.problem(&Problem::new(Severity::Note, path, what));
                    // One of a newer program is left to that.
                    if matches!(error, RepositoryError::Damaged { .. }) {
                        checkpoints.all.push((entry.name, None));
                    }
                }
            }
        }
        Ok(checkpoints)
    }

    /// Takes away those that `goes` says, and the damaged ones.
    fn remove(
        &self,
        storage: &dyn Storage,
        goes: impl Fn(&Checkpoint) -> bool,
    ) -> Result<(), RepositoryError> {
        let going = self.all.iter().filter(|(_, record)| record.as_ref().is_none_or(&goes));
        let mut some = false;
        for (name, _) in going {
            durable::remove(storage, &format!("{}/{name}", layout::CHECKPOINTS))?;
            some = true;
        }
        if some {
            storage.sync_dir(layout::CHECKPOINTS)?;
        }
        Ok(())
    }
}

fn read(repository: &Repository, path: &str, name: &str) -> Result<Checkpoint, RepositoryError> {
    let bytes = read_whole(&**repository.storage(), path, limits::CHECKPOINT_FILE_MAX as u64)?;
    let damaged = |source| RepositoryError::Damaged { path: path.to_owned(), source };
    let record = Checkpoint::decode(repository.keys(), &repository.id(), &bytes).map_err(|source| {
        match layout::is_named_after(name, &bytes) {
            true => RepositoryError::decoding(path, source),
            false => damaged(source),
        }
    })?;
    if layout::numbered_name(record.sequence, blake3::hash(&bytes).as_bytes()) != name {
        let why = "its name is not that of its contents".to_owned();
        return Err(damaged(FormatError::Malformed { what: "checkpoint", why }));
    }
    Ok(record)
}

/// Writes a checkpoint, then takes away those of its source that were there. What it needs is on the medium.
pub(crate) fn write(
    repository: &Repository,
    storage: &dyn Storage,
    record: Checkpoint,
    confirm: impl FnOnce() -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let before = Checkpoints::load(repository, &LogMonitor)?;
    let record = Checkpoint {
        format_version: FORMAT_VERSION,
        repository: repository.id(),
        sequence: before.highest.saturating_add(1),
        ..record
    };
    let failed = |source| RepositoryError::Encode { what: "the checkpoint", source };
    let salt = Salt::generate().map_err(|error| failed(error.into()))?;
    let (bytes, hash) = record.encode(repository.keys(), salt).map_err(failed)?;
    let name = layout::numbered_name(record.sequence, &hash);
    durable::make_dir(storage, layout::CHECKPOINTS)?;
    confirm()?;
    durable::write_once(storage, &format!("{}/{name}", layout::CHECKPOINTS), &bytes)?;
    before.remove(storage, |older| older.source == record.source)
}

/// Takes away the checkpoints of a source whose snapshot was sealed.
pub(crate) fn remove_of(
    repository: &Repository,
    storage: &dyn Storage,
    source: &str,
) -> Result<(), RepositoryError> {
    Checkpoints::load(repository, &LogMonitor)?.remove(storage, |record| record.source == source)
}

/// Takes away the checkpoints that say nothing any more: another snapshot of their source is the newest one now.
pub(crate) fn remove_stale(repository: &Repository, storage: &dyn Storage) -> Result<(), RepositoryError> {
    let snapshots = Manifests::load(repository, &LogMonitor)?.entries;
    let newest = |source: &str| {
        let of_it = snapshots.iter().rev().find(|entry| entry.manifest.source.name == source);
        of_it.map(|entry| entry.id)
    };
    let stale = |record: &Checkpoint| record.snapshot != newest(&record.source);
    Checkpoints::load(repository, &LogMonitor)?.remove(storage, stale)
}

impl Repository {
    /// How far the last backup of a source had come, if it was cut off and there is word of it. What it says may be stale: see
    /// [`Checkpoint::snapshot`]. One that cannot be believed is told to `monitor`.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn checkpoint(
        &self,
        source: &str,
        monitor: &dyn Monitor,
    ) -> Result<Option<Checkpoint>, RepositoryError> {
        let all = Checkpoints::load(self, monitor)?.all.into_iter().filter_map(|(_, record)| record);
        Ok(all.filter(|record| record.source == source).max_by_key(|record| record.sequence))
    }
}
