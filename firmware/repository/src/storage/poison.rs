//! After the first failed write nothing more is written: a failed fsync may have marked lost pages clean, and a disk that
//! was pulled out answers with any error. Reading goes on.

use std::io;
use std::sync::{Arc, OnceLock};

use super::{DirEntry, Guarding, LockGuard, LockKind, Operation, ReadFile, Storage, StorageError, WriteFile};

/// A storage that refuses all writes after the first one that failed.
#[derive(Clone, Debug)]
pub struct PoisonStorage {
    inner: Arc<dyn Storage>,
    first: Arc<OnceLock<First>>,
}

/// What failed first.
#[derive(Debug)]
struct First {
    operation: Operation,
    path: String,
    full: bool,
    text: String,
    cause: String,
}

impl First {
    /// The answer to whoever comes later: the same story, so that it does not matter who of several threads tells it.
    /// Of the kinds only "full" is kept: "it is not there" would be taken for an answer.
    fn again(&self) -> StorageError {
        let kind = if self.full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
        let source = io::Error::new(kind, format!("{} (nothing more is written in this run)", self.cause));
        StorageError::new(self.operation, self.path.clone(), source)
    }
}

impl PoisonStorage {
    /// Watches over `inner`.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        PoisonStorage { inner, first: Arc::default() }
    }

    /// What failed first, if anything did.
    pub fn first_failure(&self) -> Option<&str> {
        self.first.get().map(|first| first.text.as_str())
    }

    fn guarded<T>(&self, run: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.unless_poisoned()?;
        run().inspect_err(|error| self.note(error))
    }

    fn unless_poisoned(&self) -> Result<(), StorageError> {
        self.first.get().map_or(Ok(()), |first| Err(first.again()))
    }

    fn note(&self, error: &StorageError) {
        // A name that is taken, or one to remove that is gone, is an answer: nothing was to be written. If the whole disk
        // is gone the next write says so.
        let answered =
            error.is_already_there() || (error.is_not_found() && error.operation == Operation::Remove);
        if !answered {
            let _ = self.first.set(First {
                operation: error.operation,
                path: error.path.clone(),
                full: error.is_full(),
                text: format!("{error}: {}", error.source),
                cause: error.source.to_string(),
            });
        }
    }
}

impl Storage for PoisonStorage {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn make_dir(&self, path: &str) -> Result<(), StorageError> {
        self.guarded(|| self.inner.make_dir(path))
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>, StorageError> {
        let file = self.guarded(|| self.inner.create(path))?;
        Ok(Box::new(PoisonFile { file, storage: self.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.guarded(|| self.inner.rename(from, to))
    }

    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        self.guarded(|| self.inner.sync_dir(path))
    }

    fn flush_device(&self) -> Result<(), StorageError> {
        self.guarded(|| self.inner.flush_device())
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.guarded(|| self.inner.remove(path))
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
        self.unless_poisoned()?;
        self.inner.make_guard(name)
    }

    fn guards(&self) -> Result<Vec<String>, StorageError> {
        self.inner.guards()
    }

    fn drop_guard(&self, name: &str) -> Result<(), StorageError> {
        self.unless_poisoned()?;
        self.inner.drop_guard(name)
    }

    fn settle_guards(&self) -> Result<bool, StorageError> {
        self.inner.settle_guards()
    }
}

struct PoisonFile {
    file: Box<dyn WriteFile>,
    storage: PoisonStorage,
}

impl WriteFile for PoisonFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let PoisonFile { file, storage } = self;
        storage.guarded(|| file.append(bytes))
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let PoisonFile { file, storage } = self;
        storage.guarded(|| file.sync())
    }
}
