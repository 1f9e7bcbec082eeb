//! What the box remembers of each disk: the newest snapshot that it sealed there. An older clone of a disk that comes
//! back, or one of two copies that were both written to, is told by it (hazard 20).
//!
//! A small JSON file in the state folder, as the [ledger](crate::ledger): one that is not there or can't be read is said
//! and taken for an empty one.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use mailkeep_repository::format::{RepositoryId, SnapshotId};
use mailkeep_repository::{Seen, SnapshotEntry, setback};
use serde::{Deserialize, Serialize};

use crate::state_file;

const FILE: &str = "disks.json";

/// The newest snapshot on a disk, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    generation: u64,
    snapshot: String,
}

/// What is remembered, by repository id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeenDisks(BTreeMap<String, Entry>);

impl SeenDisks {
    /// Reads what is remembered.
    ///
    /// # Errors
    /// The file is there and can't be read or understood.
    pub fn load(state_dir: &Path) -> io::Result<Self> {
        match std::fs::read(state_dir.join(FILE)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Remembers the newest snapshot of a disk.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn remember(&mut self, state_dir: &Path, disk: RepositoryId, seen: Seen) -> io::Result<()> {
        let entry = Entry { generation: seen.generation, snapshot: seen.snapshot.hex() };
        self.0.insert(disk.hex(), entry);
        state_file::replace(state_dir, FILE, &serde_json::to_vec_pretty(self)?)
    }

    /// What is wrong with a disk that holds these snapshots, in one line; nothing for one that is new to the box.
    pub fn complaint(&self, disk: RepositoryId, entries: &[SnapshotEntry]) -> Option<String> {
        let entry = self.0.get(&disk.hex())?;
        let snapshot: SnapshotId = entry.snapshot.parse().ok()?;
        let seen = Seen { generation: entry.generation, snapshot };
        setback(&seen, entries).map(|setback| setback.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_compared_and_a_new_disk_is_none_to_complain_of() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RepositoryId([7; 16]);
        let mut seen = SeenDisks::load(folder.path()).unwrap();
        assert_eq!(seen.complaint(disk, &[]), None);
        let newest = Seen { generation: 5, snapshot: SnapshotId([9; 32]) };
        seen.remember(folder.path(), disk, newest).unwrap();
        let again = SeenDisks::load(folder.path()).unwrap();
        assert_eq!(again, seen);
        let complaint = again.complaint(disk, &[]).unwrap();
        assert!(complaint.contains("went back in time") && complaint.contains('5'), "{complaint}");
        assert_eq!(again.complaint(RepositoryId([8; 16]), &[]), None);
        std::fs::write(folder.path().join(FILE), "[").unwrap();
        assert!(SeenDisks::load(folder.path()).is_err());
    }
}
