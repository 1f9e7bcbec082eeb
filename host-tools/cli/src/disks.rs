//! What this tool remembers of the disks that it has seen: which repository, under which label, where it was last, and
//! which snapshots it held then. So a search can say which disk in the cupboard may have what is not on this one.
//!
//! A small JSON file in the state folder (`MAILKEEP_STATE`, else `/var/lib/mailkeep` for root and the user's own state
//! folder for others), readable by its owner only: the names of sources are in it. It is a help and no record: one that
//! is not there, or cannot be read or written, costs nothing but that help, and is told in the log.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mailkeep_repository::{Repository, SnapshotEntry};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::{config, repo};

const FILE: &str = "known-disks.json";
const LOCK: &str = "known-disks.lock";
/// Disks that are remembered; the one not seen for longest goes first.
const MOST_DISKS: usize = 64;
/// Snapshots that are remembered of one disk, about 100 bytes each; the newest stay.
const MOST_SNAPSHOTS: usize = 20_000;
/// Bytes of the file that are read.
const MOST_BYTES: u64 = 256 << 20;

/// A snapshot that was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub(crate) id: String,
    pub(crate) generation: u64,
    pub(crate) source: String,
    /// Seconds since 1970.
    pub(crate) time: i64,
}

/// A disk that was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disk {
    pub(crate) label: String,
    /// Where it was last.
    pub(crate) path: PathBuf,
    /// When that was, seconds since 1970.
    pub(crate) seen: i64,
    /// Whose keys open it: disks of one set share their box key.
    pub(crate) keys: Vec<String>,
    /// Oldest first.
    pub(crate) snapshots: Vec<Remembered>,
}

/// All of them, by repository id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Disks(pub(crate) BTreeMap<String, Disk>);

impl Disks {
    /// What is remembered.
    pub(crate) fn load() -> Disks {
        Disks::load_from(&config::state_folder())
    }

    fn load_from(folder: &Path) -> Disks {
        let read = || -> io::Result<Disks> {
            let mut bytes = Vec::new();
            File::open(folder.join(FILE))?.take(MOST_BYTES).read_to_end(&mut bytes)?;
            Ok(serde_json::from_slice(&bytes)?)
        };
        match read() {
            Ok(disks) => disks,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(
                        "{}: {error}; nothing is known of other disks",
                        folder.join(FILE).display()
                    );
                }
                Disks::default()
            }
        }
    }

    fn put(&mut self, id: String, disk: Disk) {
        self.0.insert(id, disk);
        while self.0.len() > MOST_DISKS {
            let oldest = self.0.iter().min_by_key(|(_, disk)| disk.seen).map(|(id, _)| id.clone());
            let Some(oldest) = oldest else { break };
            self.0.remove(&oldest);
        }
    }

    fn save(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join(format!("{FILE}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(new, folder.join(FILE))
    }
}

/// Remembers a disk with all its snapshots.
pub(crate) fn remember(path: &Path, repository: &Repository, entries: &[SnapshotEntry]) {
    let folder = config::state_folder();
    if let Err(error) = note(&folder, path, repository, entries) {
        tracing::warn!("{}: {error}; this disk is not remembered", folder.display());
    }
}

fn note(folder: &Path, path: &Path, repository: &Repository, entries: &[SnapshotEntry]) -> io::Result<()> {
    let snapshot = |entry: &SnapshotEntry| Remembered {
        id: entry.id.hex(),
        generation: entry.manifest.generation,
        source: entry.manifest.source.name.clone(),
        time: entry.manifest.started,
    };
    let newest = entries.len().saturating_sub(MOST_SNAPSHOTS);
    let disk = Disk {
        label: repository.label().label.clone(),
        path: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        seen: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64),
        keys: repo::key_ids(repository),
        snapshots: entries.iter().skip(newest).map(snapshot).collect(),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))?;
    // Whoever holds it writes a small file and is gone.
    flock(&lock, FlockOperation::LockExclusive)?;
    let mut disks = Disks::load_from(folder);
    disks.put(repository.id().hex(), disk);
    disks.save(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(seen: i64) -> Disk {
        Disk { label: "d".into(), path: "/mnt".into(), seen, keys: Vec::new(), snapshots: Vec::new() }
    }

    #[test]
    fn it_forgets_the_disk_that_was_away_longest() {
        let mut disks = Disks::default();
        for number in 0..MOST_DISKS as i64 {
            disks.put(format!("{number}"), disk(100 - number));
        }
        disks.put("new".into(), disk(1000));
        let oldest = format!("{}", MOST_DISKS - 1);
        assert!(disks.0.len() == MOST_DISKS && disks.0.contains_key("new") && !disks.0.contains_key(&oldest));
    }

    #[test]
    fn what_was_saved_is_there_again_and_nonsense_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Disks::load_from(folder.path()), Disks::default());
        let mut disks = Disks::default();
        disks.put("id".into(), disk(5));
        disks.save(folder.path()).unwrap();
        assert_eq!(Disks::load_from(folder.path()), disks);
        std::fs::write(folder.path().join(FILE), b"{\"id\": 7}").unwrap();
        assert_eq!(Disks::load_from(folder.path()), Disks::default());
    }
}
