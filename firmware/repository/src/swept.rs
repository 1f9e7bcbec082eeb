//! What prune has removed: the newest sweep record, from the copy of it that is good. Follows FORMAT.md, "Sweep records",
//! and COMMIT.md, "Prune".
//!
//! What cannot be known here errs on the safe side: without a record nothing is tombstoned, so nothing is deleted.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mailkeep_format::sweep::{RemovedSnapshot, SweepRecord, Tombstone};
use mailkeep_format::{FormatError, PackId, Salt, SnapshotId, limits};

use crate::error::{RepositoryError, chain, is_newer};
use crate::monitor::{Monitor, Problem, Severity};
use crate::repository::Repository;
use crate::storage::{Storage, StorageError, read_whole};
use crate::{durable, layout};

/// What was removed from a repository, and what may be deleted.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Snapshots that were removed, with their generation and source.
    pub pruned: BTreeMap<SnapshotId, RemovedSnapshot>,
    /// Packs that nothing needs: no new snapshot may rely on them, and they may vanish or have vanished.
    pub tombstoned: BTreeMap<PackId, Tombstone>,
    /// Packs that stay although no manifest names them as its own any more.
    pub packs: BTreeSet<PackId>,
    /// The highest generation that was ever sealed here, as far as the record knows.
    pub generation: u64,
    /// The highest sequence number that any record's name claims.
    pub(crate) sequence: u64,
    /// A record is there that needs a newer program: then this one must not sweep.
    pub(crate) newer: bool,
    /// Copies of the record that counts which are missing: the index of the folder, and the name.
    pub(crate) missing: Vec<(usize, String)>,
    /// Names of records, with their sequence numbers.
    pub(crate) names: BTreeSet<(u64, String)>,
    /// Names of the manifests of removed snapshots.
    manifests: HashSet<String>,
}

/// Reads the record that counts. A damaged or missing copy is told to `monitor`.
///
/// # Errors
/// Folders or files that cannot be read; a failed read is never taken for "nothing was removed".
pub fn load(repository: &Repository, monitor: &dyn Monitor) -> Result<Swept, RepositoryError> {
    let storage = &**repository.storage();
    let mut there: BTreeMap<(u64, String), BTreeSet<usize>> = BTreeMap::new();
    let mut folders = 0;
    for (copy, folder) in layout::SWEPT.iter().enumerate() {
        let entries = match storage.list(folder) {
            Ok(entries) => entries,
            // A repository that was never pruned has neither.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        folders += 1;
        for entry in entries {
            match layout::parse_manifest_name(&entry.name) {
                Some((sequence, _)) => {
                    there.entry((sequence, entry.name)).or_default().insert(copy);
                }
                None => {
                    let what = "this is not a sweep record's name";
                    monitor.problem(&Problem::new(Severity::Note, format!("{folder}/{}", entry.name), what));
                }
            }
        }
    }
    let mut swept = Swept { names: there.keys().cloned().collect(), ..Swept::default() };
    swept.sequence = there.keys().map(|(sequence, _)| *sequence).max().unwrap_or(0);
    for ((sequence, name), copies) in there.into_iter().rev() {
        let Some(record) = read_copies(repository, &name, &copies, &mut swept.newer, monitor)? else {
            let what = "no copy of this sweep record is readable; the one before it stands in";
            monitor.problem(&Problem::new(Severity::Covered, path(0, &name), what));
            continue;
        };
        for copy in (0..layout::SWEPT.len()).filter(|copy| !copies.contains(copy)) {
            // A run that was cut between the copies leaves one; a folder that is gone as a whole is more than that.
            let severity = if folders == 1 && sequence > 1 { Severity::Covered } else { Severity::Note };
            let what = "this copy of the sweep record is missing; the next backup brings it back";
            monitor.problem(&Problem::new(severity, path(copy, &name), what));
            swept.missing.push((copy, name.clone()));
        }
        swept.take(record);
        break;
    }
    Ok(swept)
}

fn path(copy: usize, name: &str) -> String {
    format!("{}/{name}", layout::SWEPT[copy])
}

/// The record from the first copy that is good; `None` if none is. Without one, `newer` says whether the record is from a
/// later version: its name or its other copy must vouch for that, for a flipped bit can look the same.
fn read_copies(
    repository: &Repository,
    name: &str,
    copies: &BTreeSet<usize>,
    newer: &mut bool,
    monitor: &dyn Monitor,
) -> Result<Option<SweepRecord>, RepositoryError> {
    let mut good = None;
    let (mut vouched, mut seeming) = (false, Vec::new());
    for &copy in copies {
        let path = path(copy, name);
        let unusable = match read_whole(&**repository.storage(), &path, limits::SWEEP_FILE_MAX as u64) {
            Ok(bytes) => match decode(repository, name, &bytes) {
                Ok(record) => {
                    good = good.or(Some(record));
                    continue;
                }
                Err(source) if is_newer(&source) => {
                    let named = layout::is_named_after(name, &bytes);
                    vouched |= named || seeming.contains(&bytes);
                    seeming.push(bytes);
                    match named {
                        true => RepositoryError::Unsupported { path: path.clone(), source },
                        false => RepositoryError::Damaged { path: path.clone(), source },
                    }
                }
                Err(source) => RepositoryError::Damaged { path: path.clone(), source },
            },
            // A prune beside this reader has written a newer one.
            Err(error) if error.is_not_found() => continue,
            Err(error) if is_too_long(&error) => error.into(),
            Err(error) => return Err(error.into()),
        };
        let what = format!("this copy of the sweep record is unusable: {}", chain(&unusable));
        monitor.problem(&Problem::new(Severity::Covered, path, what));
    }
    *newer |= good.is_none() && vouched;
    Ok(good)
}

fn is_too_long(error: &StorageError) -> bool {
    error.source.kind() == std::io::ErrorKind::FileTooLarge
}

fn decode(repository: &Repository, name: &str, bytes: &[u8]) -> Result<SweepRecord, FormatError> {
    let record = SweepRecord::decode(repository.keys(), &repository.id(), bytes)?;
    if layout::numbered_name(record.sequence, blake3::hash(bytes).as_bytes()) != name {
        let why = "its name is not that of its contents".to_owned();
        return Err(FormatError::Malformed { what: "sweep record", why });
    }
    Ok(record)
}

impl Swept {
    fn take(&mut self, record: SweepRecord) {
        self.generation = record.generation;
        self.packs = record.packs.into_iter().collect();
        self.tombstoned = record.tombstoned.into_iter().map(|tomb| (tomb.pack, tomb)).collect();
        for snapshot in record.removed {
            self.manifests.insert(layout::manifest_name(snapshot.generation, &snapshot.id));
            self.pruned.insert(snapshot.id, snapshot);
        }
    }

    /// Whether a manifest of this name is what an interrupted prune has left of a snapshot that is removed.
    pub(crate) fn has_removed(&self, manifest: &str) -> bool {
        self.manifests.contains(manifest)
    }

    /// Whether this snapshot was removed by prune: what names it has lost nothing.
    pub fn is_pruned(&self, id: &SnapshotId) -> bool {
        self.pruned.contains_key(id)
    }
}

/// Brings back a copy of the record that counts, if one is missing.
pub(crate) fn restore_copies(
    repository: &Repository,
    storage: &dyn Storage,
    swept: &Swept,
) -> Result<(), RepositoryError> {
    for (copy, name) in &swept.missing {
        durable::make_dir(storage, layout::SWEPT[*copy])?;
        let there = path(1 - copy, name);
        let bytes = read_whole(storage, &there, limits::SWEEP_FILE_MAX as u64)?;
        // It was authentic a moment ago; never make a copy of something that no longer is.
        SweepRecord::decode(repository.keys(), &repository.id(), &bytes)
            .map_err(|source| RepositoryError::decoding(&there, source))?;
        durable::write_once(storage, &path(*copy, name), &bytes)?;
    }
    Ok(())
}

/// Writes a record durably, both copies. From the first one on, what it removes is removed.
pub(crate) fn write(
    repository: &Repository,
    storage: &dyn Storage,
    record: &SweepRecord,
) -> Result<(), RepositoryError> {
    let failed = |source| RepositoryError::Encode { what: "a sweep record", source };
    let salt = Salt::generate().map_err(|error| failed(error.into()))?;
    let (bytes, hash) = record.encode(repository.keys(), salt).map_err(failed)?;
    let name = layout::manifest_name(record.sequence, &SnapshotId(hash));
    for copy in [1, 0] {
        durable::make_dir(storage, layout::SWEPT[copy])?;
        durable::write_once(storage, &path(copy, &name), &bytes)?;
    }
    Ok(())
}

/// Removes records that a newer one has made needless, all but the last before it.
pub(crate) fn remove_older(storage: &dyn Storage, swept: &Swept, newest: u64) -> Result<(), RepositoryError> {
    let gone: Vec<&str> = swept
        .names
        .iter()
        .filter(|(sequence, _)| sequence + 1 < newest)
        .map(|(_, name)| name.as_str())
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    for (copy, folder) in layout::SWEPT.iter().enumerate() {
        for name in &gone {
            durable::remove(storage, &path(copy, name))?;
        }
        storage.sync_dir(folder)?;
    }
    Ok(())
}
