//! After the first failed write nothing more is written: a failed fsync may have marked lost pages clean, and a disk that
//! was pulled out answers with any error. Reading goes on.

use std::io;
use std::sync::{Arc, OnceLock};

use super::{DirEntry, Guarding, LockGuard, LockKind, Operation, ReadFile, Storage, StorageError, WriteFile};

/// A storage that refuses all writes after the first one that failed.
#[derive(Clone, Debug)]
pub struct PoisonStorage {
    inner: Arc<dyn Storage>,
    first: Arc<OnceLock<String>>,
}

impl PoisonStorage {
    /// Watches over `inner`.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        PoisonStorage { inner, first: Arc::default() }
    }

    /// What failed first, if anything did.
    pub fn first_failure(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }

    fn guarded<T>(
        &self,
        operation: Operation,
        path: &str,
        run: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.unless_poisoned(operation, path)?;
        run().inspect_err(|error| self.note(error))
    }

    fn unless_poisoned(&self, operation: Operation, path: &str) -> Result<(), StorageError> {
        match self.first.get() {
            Some(_) => Err(StorageError::new(operation, path, refused())),
            None => Ok(()),
        }
    }

    fn note(&self, error: &StorageError) {
        // A name that is taken, or one to remove that is gone, is an answer: nothing was to be written. If the whole disk
        // is gone the next write says so.
        let answered =
            error.is_already_there() || (error.is_not_found() && error.operation == Operation::Remove);
        if !answered {
            let _ = self.first.set(format!("{error}: {}", error.source));
        }
    }
}

fn refused() -> io::Error {
    io::Error::other("an earlier write failed, so nothing more is written in this run")
}

impl Storage for PoisonStorage {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn make_dir(&self, path: &str) -> Result<(), StorageError> {
        self.guarded(Operation::MakeDir, path, || self.inner.make_dir(path))
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>, StorageError> {
        let file = self.guarded(Operation::Create, path, || self.inner.create(path))?;
        Ok(Box::new(PoisonFile { file, path: path.to_owned(), storage: self.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.guarded(Operation::Rename, to, || self.inner.rename(from, to))
    }

    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        self.guarded(Operation::SyncDir, path, || self.inner.sync_dir(path))
    }

    fn flush_device(&self) -> Result<(), StorageError> {
        self.guarded(Operation::FlushDevice, "", || self.inner.flush_device())
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.guarded(Operation::Remove, path, || self.inner.remove(path))
    }

    fn list(&self, path: &str) -> Result<Vec<DirEntry>, StorageError> {
        self.inner.list(path)
    }

    fn open(&self, path: &str) -> Result<Box<dyn ReadFile>, StorageError> {
        self.inner.open(path)
    }

    fn open_past_cache(&self, path: &str) -> Result<Box<dyn ReadFile>, StorageError> {
        self.inner.open_past_cache(path)
    }

    fn lock(&self, path: &str, kind: LockKind) -> Result<Option<Box<dyn LockGuard>>, StorageError> {
        self.inner.lock(path, kind)
    }

    fn free_space(&self) -> Result<u64, StorageError> {
        self.inner.free_space()
    }

    fn drop_cache(&self, path: &str) -> Result<(), StorageError> {
        self.inner.drop_cache(path)
    }

    // A guard that fails has written nothing that the repository relies on, so it poisons nothing; but none is made of
    // a disk that has begun to fail.
    fn make_guard(&self, name: &str) -> Result<Guarding, StorageError> {
        self.unless_poisoned(Operation::MakeGuard, name)?;
        self.inner.make_guard(name)
    }

    fn guards(&self) -> Result<Vec<String>, StorageError> {
        self.inner.guards()
    }

    fn drop_guard(&self, name: &str) -> Result<(), StorageError> {
        self.unless_poisoned(Operation::DropGuard, name)?;
        self.inner.drop_guard(name)
    }

    fn settle_guards(&self) -> Result<bool, StorageError> {
        self.inner.settle_guards()
    }
}

struct PoisonFile {
    file: Box<dyn WriteFile>,
    path: String,
    storage: PoisonStorage,
}

impl WriteFile for PoisonFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let PoisonFile { file, path, storage } = self;
        storage.guarded(Operation::Append, path, || file.append(bytes))
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let PoisonFile { file, path, storage } = self;
        storage.guarded(Operation::Sync, path, || file.sync())
    }
}
