//! The drill records on the disk: how the last rehearsed restore of each snapshot ended. Follows COMMIT.md, "Drills".
//!
//! A record counts only for the snapshot that it names itself, and only under the name that its bytes have. One that is
//! lost or damaged costs no data: its snapshot then counts as never rehearsed, which is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use mailkeep_format::version::FORMAT_VERSION;
use mailkeep_format::{DrillRecord, FormatError, Salt, SnapshotId, limits};

use crate::error::{RepositoryError, chain};
use crate::lock::WriteLock;
use crate::machine::Machine;
use crate::monitor::{LogMonitor, Monitor, Problem, Severity};
use crate::repository::Repository;
use crate::snapshots::Manifests;
use crate::storage::{PoisonStorage, Storage, read_whole};
use crate::{durable, layout};

/// What is known of rehearsed restores.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drills {
    /// The newest authentic record of each snapshot, with its name.
    pub(crate) newest: BTreeMap<SnapshotId, DrillRecord>,
    /// The highest sequence that any name claims.
    highest: u64,
    /// Names of authentic records, and of which snapshot they are.
    names: Vec<(SnapshotId, String)>,
    /// Names of records that are damaged.
    pub(crate) damaged: Vec<String>,
}

impl Drills {
    /// Reads all records. A damaged one is told to `monitor` and counts for nothing.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub(crate) fn load(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, RepositoryError> {
        let mut drills = Drills::default();
        let entries = match repository.storage().list(layout::DRILLS) {
            Ok(entries) => entries,
            // The folder comes with the first record.
            Err(error) if error.is_not_found() => return Ok(drills),
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let path = format!("{}/{}", layout::DRILLS, entry.name);
            let Some((sequence, _)) = layout::parse_numbered(&entry.name).filter(|_| !entry.directory) else {
                monitor.problem(&Problem::new(Severity::Note, path, "this is not a drill record's name"));
                continue;
            };
            drills.highest = drills.highest.max(sequence);
            match read(repository, &path, &entry.name) {
                Ok(record) => {
                    drills.names.push((record.snapshot, entry.name));
                    let newer = drills
                        .newest
                        .get(&record.snapshot)
                        .is_none_or(|known| known.sequence < record.sequence);
                    if newer {
                        drills.newest.insert(record.snapshot, record);
                    }
                }
                // A prune or another drill beside this reader has taken it away.
                Err(RepositoryError::Storage(error)) if error.is_not_found() => {}
                Err(error @ RepositoryError::Unsupported { .. }) => {
                    monitor.problem(&Problem::new(Severity::Note, path, chain(&error)));
                }
                Err(error) => {
                    let what = format!("this drill record counts for nothing: {}", chain(&error));
                    monitor.problem(&Problem::new(Severity::Covered, path, what));
                    if matches!(error, RepositoryError::Damaged { .. }) {
                        drills.damaged.push(entry.name);
                    }
                }
            }
        }
        Ok(drills)
    }

    /// Names of the records of snapshots that `gone` says are gone.
    pub(crate) fn names_of(&self, gone: impl Fn(&SnapshotId) -> bool) -> Vec<String> {
        self.names.iter().filter(|(snapshot, _)| gone(snapshot)).map(|(_, name)| name.clone()).collect()
    }
}

fn read(repository: &Repository, path: &str, name: &str) -> Result<DrillRecord, RepositoryError> {
    let bytes = read_whole(&**repository.storage(), path, limits::DRILL_FILE_MAX as u64)?;
    let damaged = |source| RepositoryError::Damaged { path: path.to_owned(), source };
    let record = DrillRecord::decode(repository.keys(), &repository.id(), &bytes).map_err(|source| {
        match layout::is_named_after(name, &bytes) {
            true => RepositoryError::decoding(path, source),
            false => damaged(source),
        }
    })?;
    if layout::numbered_name(record.sequence, blake3::hash(&bytes).as_bytes()) != name {
        let why = "its name is not that of its contents".to_owned();
        return Err(damaged(FormatError::Malformed { what: "drill record", why }));
    }
    Ok(record)
}

impl Repository {
    /// How the last rehearsed restore of each snapshot ended, where there was one. A record that cannot be believed is told
    /// to `monitor`.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn drills(
        &self,
        monitor: &dyn Monitor,
    ) -> Result<BTreeMap<SnapshotId, DrillRecord>, RepositoryError> {
        Ok(Drills::load(self, monitor)?.newest)
    }

    /// Keeps how a rehearsed restore ended, durably, in the place of what was known of that snapshot. Version, repository
    /// and sequence of `record` are set here. Takes the lock.
    ///
    /// # Errors
    /// [`RepositoryError::Locked`]; [`RepositoryError::ReadOnly`]; [`RepositoryError::NoSnapshot`] when it was removed
    /// meanwhile; what keeps the record from being written.
    pub fn keep_drill(
        &self,
        record: DrillRecord,
        machine: &Machine,
        monitor: &dyn Monitor,
    ) -> Result<DrillRecord, RepositoryError> {
        let storage: Arc<dyn Storage> = Arc::new(PoisonStorage::new(self.storage().clone()));
        let lock = WriteLock::take_for_upkeep(storage.clone(), machine, monitor)?;
        let disk = &*storage;
        // As it is now: a prune may have been at work while the snapshot was rebuilt.
        let there = Manifests::load(self, &LogMonitor)?;
        if !there.entries.iter().any(|entry| entry.id == record.snapshot) {
            return Err(RepositoryError::NoSnapshot { wanted: record.snapshot.hex() });
        }
        let drills = Drills::load(self, &LogMonitor)?;
        let record = DrillRecord {
            format_version: FORMAT_VERSION,
            repository: self.id(),
            sequence: drills.highest.saturating_add(1),
            ..record
        };
        let failed = |source| RepositoryError::Encode { what: "the drill record", source };
        let salt = Salt::generate().map_err(|error| failed(error.into()))?;
        let (bytes, hash) = record.encode(self.keys(), salt).map_err(failed)?;
        let name = layout::numbered_name(record.sequence, &hash);
        durable::make_dir(disk, layout::DRILLS)?;
        lock.confirm()?;
        durable::write_once(disk, &format!("{}/{name}", layout::DRILLS), &bytes)?;
        let older = drills.names_of(|snapshot| *snapshot == record.snapshot);
        for name in &older {
            durable::remove(disk, &format!("{}/{name}", layout::DRILLS))?;
        }
        if !older.is_empty() {
            disk.sync_dir(layout::DRILLS)?;
        }
        disk.flush_device()?;
        Ok(record)
    }
}
