//! What a repository holds and what it costs: counted, not estimated.

use std::collections::{BTreeMap, BTreeSet};

use mailkeep_format::PackId;

use crate::error::RepositoryError;
use crate::index::{Loaded, View};
use crate::layout;
use crate::monitor::{Monitor, Phase};
use crate::repository::Repository;
use crate::snapshots::Manifests;
use crate::storage::{Storage, StorageError};
use crate::verified::Verified;

/// Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// By source, in order of names.
    pub sources: Vec<SourceStatistics>,
    /// Pack files and their sizes.
    pub packs: u64,
    /// Bytes of all pack files.
    pub pack_bytes: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Places of chunks in the index; one that lies in two packs counts twice.
    pub chunks: u64,
    /// Bytes of all blocks when opened.
    pub raw_bytes: u64,
    /// Bytes of all blocks as they are stored.
    pub stored_bytes: u64,
    /// Index runs on the disk, and their bytes.
    pub index_runs: u64,
    /// Bytes of the index runs.
    pub index_bytes: u64,
    /// Packs that nothing needs any more and that a later prune deletes.
    pub tombstoned_packs: u64,
    /// Their bytes.
    pub tombstoned_bytes: u64,
    /// Bytes in `quarantine/`.
    pub quarantine_bytes: u64,
    /// How far the disk was read back by the cursor.
    pub verification: VerificationAge,
}

/// What the snapshots of one source hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatistics {
    /// Its name.
    pub name: String,
    /// Its snapshots.
    pub snapshots: u64,
    /// Sum over them, as if each were a full copy.
    pub bytes: u64,
    /// The newest one, as a full copy.
    pub newest_bytes: u64,
    /// Bytes that they added to the disk when they were made.
    pub added_bytes: u64,
}

/// How far the disk was read back by the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerificationAge {
    /// When a slice was last read, seconds since 1970; `None` if never.
    pub last: Option<i64>,
    /// When the slice was read that is longest ago, of those that packs lie in.
    pub oldest: Option<i64>,
    /// Packs whose turn has not come so far (they were read back when they were written).
    pub packs_waiting: u64,
    /// Packs that are known to be damaged.
    pub damaged_packs: u64,
    /// Snapshots that are known to have lost something.
    pub lost_snapshots: u64,
}

impl Repository {
    /// Counts everything. Reads the index's lists of packs, and no data.
    ///
    /// # Errors
    /// Folders that cannot be listed, an index that cannot be read.
    pub fn statistics(&self, monitor: &dyn Monitor) -> Result<Statistics, RepositoryError> {
        let storage = &**self.storage();
        let manifests = Manifests::load(self, monitor)?;
        let mut sources: BTreeMap<&str, SourceStatistics> = BTreeMap::new();
        for entry in &manifests.entries {
            let name = entry.manifest.source.name.as_str();
            let source = sources.entry(name).or_default();
            name.clone_into(&mut source.name);
            source.snapshots += 1;
            source.bytes += entry.manifest.stats.bytes;
            source.newest_bytes = entry.manifest.stats.bytes;
            source.added_bytes += entry.manifest.stats.added_bytes;
        }
        let sources = sources.into_values().collect();
        let mut all = Statistics { sources, ..Statistics::default() };
        let present = Loaded::load(self, monitor)?.present;
        all.packs = present.len() as u64;
        all.pack_bytes = present.values().sum();
        let tombstoned = present.iter().filter(|(id, _)| manifests.swept.tombstoned.contains_key(*id));
        for (_, length) in tombstoned {
            all.tombstoned_packs += 1;
            all.tombstoned_bytes += length;
        }
        let mut counted: BTreeSet<PackId> = BTreeSet::new();
        let view = View::load(self, monitor)?;
        for (number, run) in view.runs().iter().enumerate() {
            monitor.progress(Phase::Index, number as u64, view.runs().len() as u64);
            for pack in run.listed()? {
                if present.contains_key(&pack.id) && counted.insert(pack.id) {
                    for (head, chunks) in &pack.blocks {
                        all.blocks += 1;
                        all.chunks += u64::from(*chunks);
                        all.raw_bytes += u64::from(head.raw_len);
                        all.stored_bytes += u64::from(head.stored_len);
                    }
                }
            }
        }
        (all.index_runs, all.index_bytes) = below(storage, layout::INDEX)?;
        all.quarantine_bytes = below(storage, layout::QUARANTINE)?.1;
        if let Some(record) = Verified::load(self, monitor)?.newest {
            let age = &mut all.verification;
            age.last = record.slices.first().map(|slice| slice.time);
            age.oldest = present.keys().filter_map(|id| record.last_read(id)).map(|slice| slice.time).min();
            age.packs_waiting = present.keys().filter(|id| record.last_read(id).is_none()).count() as u64;
            age.damaged_packs = record.damaged.iter().filter(|id| present.contains_key(*id)).count() as u64;
            age.lost_snapshots = record.lost.len() as u64;
        } else {
            all.verification.packs_waiting = all.packs;
        }
        Ok(all)
    }
}

/// Files below a folder, and their bytes; none if it is not there.
fn below(storage: &dyn Storage, folder: &str) -> Result<(u64, u64), StorageError> {
    let entries = match storage.list(folder) {
        Ok(entries) => entries,
        Err(error) if error.is_not_found() => return Ok((0, 0)),
        Err(error) => return Err(error),
    };
    let (mut files, mut bytes) = (0, 0);
    for entry in entries {
        let (more_files, more_bytes) = match entry.directory {
            true => below(storage, &format!("{folder}/{}", entry.name))?,
            false => (1, entry.length),
        };
        files += more_files;
        bytes += more_bytes;
    }
    Ok((files, bytes))
}
