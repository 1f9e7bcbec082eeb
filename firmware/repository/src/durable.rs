//! Writing a file once: under a random name in `tmp/`, made durable, then named. Follows COMMIT.md, "Files".

use crate::error::RepositoryError;
use crate::layout;
use crate::storage::{Storage, StorageError, WriteFile, parent};

/// A file that has no name yet.
pub(crate) struct Unnamed {
    file: Box<dyn WriteFile>,
    path: String,
}

impl Unnamed {
    /// Starts a file in `tmp/`.
    pub(crate) fn create(storage: &dyn Storage) -> Result<Self, RepositoryError> {
        let path = format!("{}/{}", layout::TMP, random_name()?);
        let file = storage.create(&path).map_err(|error| RepositoryError::writing(storage, error))?;
        Ok(Unnamed { file, path })
    }

    pub(crate) fn append(&mut self, storage: &dyn Storage, bytes: &[u8]) -> Result<(), RepositoryError> {
        self.file.append(bytes).map_err(|error| RepositoryError::writing(storage, error))
    }

    /// Makes the bytes durable, for who wants to clear a name's place only when that is done.
    pub(crate) fn sync(&mut self, storage: &dyn Storage) -> Result<(), RepositoryError> {
        self.file.sync().map_err(|error| RepositoryError::writing(storage, error))
    }

    /// Makes the bytes durable and gives them their name. The name is durable once its folder is synced. Where the name
    /// is taken the file is dropped: names of ours say what is inside.
    pub(crate) fn name(mut self, storage: &dyn Storage, path: &str) -> Result<(), RepositoryError> {
        self.file.sync().map_err(|error| RepositoryError::writing(storage, error))?;
        drop(self.file);
        match storage.rename(&self.path, path) {
            Err(error) if error.is_already_there() => Ok(storage.remove(&self.path)?),
            other => other.map_err(|error| RepositoryError::writing(storage, error)),
        }
    }
}

/// Writes a whole small file and makes its name durable too.
pub(crate) fn write_once(storage: &dyn Storage, path: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
    let mut file = Unnamed::create(storage)?;
    file.append(storage, bytes)?;
    file.name(storage, path)?;
    Ok(storage.sync_dir(parent(path))?)
}

/// Makes a folder durably, unless it is there.
pub(crate) fn make_dir(storage: &dyn Storage, path: &str) -> Result<(), RepositoryError> {
    match storage.make_dir(path) {
        Ok(()) => {}
        Err(error) if error.is_already_there() => {}
        Err(error) => return Err(RepositoryError::writing(storage, error)),
    }
    // Also when it was there: whoever made it may have crashed before it was durable.
    Ok(storage.sync_dir(parent(path))?)
}

/// Removes what unfinished writes left. Whoever writes holds the lock, so nothing here is in use.
pub(crate) fn empty_tmp(storage: &dyn Storage) -> Result<(), RepositoryError> {
    let entries = match storage.list(layout::TMP) {
        Ok(entries) => entries,
        Err(error) if error.is_not_found() => return make_dir(storage, layout::TMP),
        Err(error) => return Err(error.into()),
    };
    for entry in entries.iter().filter(|entry| !entry.directory) {
        storage.remove(&format!("{}/{}", layout::TMP, entry.name))?;
    }
    Ok(())
}

/// Removes a file, unless it is gone already.
pub(crate) fn remove(storage: &dyn Storage, path: &str) -> Result<(), StorageError> {
    match storage.remove(path) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

fn random_name() -> Result<String, RepositoryError> {
    Ok(crate::random::<12>("name")?.iter().map(|byte| format!("{byte:02x}")).collect())
}
