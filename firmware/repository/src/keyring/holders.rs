//! Who can open a repository: listing key files, adding a recovery key, revoking a key. Follows COMMIT.md, "Keys".
//!
//! Hazard 24: a key is only given out after its file was read back from the disk and opened with it, and a key is only
//! taken away while another one is known to work.

use std::sync::Arc;

use mailkeep_format::{Identity, keys};

use super::{KeySource, open_master};
use crate::error::RepositoryError;
use crate::init::key_file_name;
use crate::lock::WriteLock;
use crate::machine::Machine;
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::storage::{PoisonStorage, Storage, read_whole};
use crate::{durable, layout};

const SUFFIX: &str = ".age";

/// A key file of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHolder {
    /// Its name: the role, and the start of the hash of the recipient.
    pub id: String,
    /// `box`, `recovery`, or `plain` without encryption.
    pub role: String,
    /// How many of its two copies are there.
    pub copies: usize,
}

/// A recovery key that was just added.
#[derive(Clone)]
pub struct AddedKey {
    /// Its id.
    pub id: String,
    /// The key itself, to be given to a person and kept nowhere.
    pub identity: Identity,
}

/// All key files, without a key.
///
/// # Errors
/// Neither of the two folders can be listed.
pub fn key_holders(storage: &dyn Storage) -> Result<Vec<KeyHolder>, RepositoryError> {
    let mut holders: Vec<KeyHolder> = Vec::new();
    let mut missing = None;
    for folder in layout::KEYS {
        let entries = match storage.list(folder) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() && missing.is_none() => {
                missing = Some(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for entry in entries.into_iter().filter(|entry| !entry.directory) {
            let id = match entry.name.strip_suffix(SUFFIX) {
                Some(id) => id.to_owned(),
                None if entry.name == layout::PLAIN_KEY => entry.name,
                None => continue,
            };
            match holders.iter_mut().find(|holder| holder.id == id) {
                Some(holder) => holder.copies += 1,
                None => {
                    let role = id.split('-').next().unwrap_or(&id).to_owned();
                    holders.push(KeyHolder { id, role, copies: 1 });
                }
            }
        }
    }
    holders.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(holders)
}

impl Repository {
    /// Draws a recovery key and adds it. When this returns, both copies of its key file were read back from the disk
    /// and opened with it.
    ///
    /// # Errors
    /// [`RepositoryError::NotEncrypted`]; [`RepositoryError::ReadBack`] if the disk gives back something else (the new
    /// file is removed again then, and nobody has its key); what keeps the disk from being written.
    pub fn add_recovery(
        &self,
        key: &KeySource,
        machine: &Machine,
        monitor: &dyn Monitor,
    ) -> Result<AddedKey, RepositoryError> {
        self.must_be_encrypted()?;
        let storage: Arc<dyn Storage> = Arc::new(PoisonStorage::new(self.storage().clone()));
        let _lock = WriteLock::take_for_upkeep(storage.clone(), machine, monitor)?;
        let (_, master) = open_master(&*storage, key, &self.id(), monitor)?;
        let identity = Identity::generate();
        let bytes = keys::wrap_checked(&master, &self.id(), &[&identity])
            .map_err(|source| RepositoryError::KeyNotMade { path: storage.describe(), source })?;
        let name = key_file_name("recovery", &identity);
        let paths = [1, 0].map(|copy| format!("{}/{name}", layout::KEYS[copy]));
        for path in &paths {
            durable::write_once(&*storage, path, &bytes)?;
        }
        storage.flush_device()?;
        for path in &paths {
            if let Err(error) = self.opens(&*storage, path, &identity) {
                for path in &paths {
                    durable::remove(&*storage, path)?;
                }
                return Err(error);
            }
        }
        Ok(AddedKey { id: name.trim_end_matches(SUFFIX).to_owned(), identity })
    }

    /// Takes a key away: its key file goes, in both copies. The master stays what it is, so who had the key together
    /// with a copy of its file can go on reading.
    ///
    /// # Errors
    /// [`RepositoryError::KeyStays`] for the last key and for the one that `key` is; [`RepositoryError::NoSuchKey`];
    /// [`RepositoryError::NotEncrypted`]; what keeps the disk from being written.
    pub fn revoke(
        &self,
        id: &str,
        key: &KeySource,
        machine: &Machine,
        monitor: &dyn Monitor,
    ) -> Result<(), RepositoryError> {
        self.must_be_encrypted()?;
        let storage: Arc<dyn Storage> = Arc::new(PoisonStorage::new(self.storage().clone()));
        let _lock = WriteLock::take_for_upkeep(storage.clone(), machine, monitor)?;
        let id = id.trim_end_matches(SUFFIX);
        let holders = key_holders(&*storage)?;
        if !holders.iter().any(|holder| holder.id == id) {
            return Err(RepositoryError::NoSuchKey { id: id.to_owned() });
        }
        let stays = |why| RepositoryError::KeyStays { id: id.to_owned(), why };
        if holders.len() < 2 {
            return Err(stays(
                "it is the last one, and without it nobody could read this disk; add another one first",
            ));
        }
        // Which file the caller's key opens: that one is left, and known to work, in both copies.
        let (own, _) = open_master(&*storage, key, &self.id(), monitor)?;
        if own.trim_end_matches(SUFFIX) == id {
            return Err(stays(
                "it is the one that was given; give another key of this repository to revoke it",
            ));
        }
        if let Some(identity) = key.identity()? {
            for folder in layout::KEYS {
                self.opens(&*storage, &format!("{folder}/{own}"), &identity)?;
            }
        }
        for folder in layout::KEYS {
            durable::remove(&*storage, &format!("{folder}/{id}{SUFFIX}"))?;
            storage.sync_dir(folder)?;
        }
        Ok(storage.flush_device()?)
    }

    /// Reads a key file past the page cache and opens it.
    fn opens(&self, storage: &dyn Storage, path: &str, identity: &Identity) -> Result<(), RepositoryError> {
        storage.drop_cache(path)?;
        let bytes = read_whole(storage, path, mailkeep_format::limits::KEY_FILE_MAX as u64)?;
        let read_back = || RepositoryError::ReadBack { path: path.to_owned() };
        let master = keys::unwrap(&bytes, identity, &self.id()).map_err(|_| read_back())?;
        // The label was authentic under the repository's keys; a master that also fits it is the same one.
        self.label()
            .encode(&master.keys())
            .ok()
            .zip(self.label().encode(self.keys()).ok())
            .filter(|(one, other)| one == other)
            .map(|_| ())
            .ok_or_else(read_back)
    }

    fn must_be_encrypted(&self) -> Result<(), RepositoryError> {
        match self.encrypted() {
            true => Ok(()),
            false => Err(RepositoryError::NotEncrypted { path: self.place() }),
        }
    }
}
