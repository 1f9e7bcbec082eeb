//! A storage whose k-th call fails, once or from then on.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mailkeep_repository::storage::{
    DirEntry, LockGuard, LockKind, Operation, ReadFile, StorageError, WriteFile,
};
use mailkeep_repository::{MemoryStorage, Storage};

/// When calls fail, counted from 1, and how.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    inner: MemoryStorage,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    calls: AtomicU64,
    at: u64,
    for_ever: bool,
    errno: i32,
    writes_only: bool,
    /// Reading past the page cache shows other bytes in files below this folder.
    rots: Option<&'static str>,
    read_only: bool,
    /// Reading this file fails.
    unreadable: Option<String>,
    /// No flush gets through while somebody holds this.
    flushes: Mutex<()>,
}

impl State {
    fn sound() -> Self {
        let calls = AtomicU64::new(0);
        State {
            calls,
            at: u64::MAX,
            for_ever: false,
            errno: 5,
            writes_only: false,
            rots: None,
            read_only: false,
            unreadable: None,
            flushes: Mutex::default(),
        }
    }
}

impl Faulty {
    /// The `at`-th call fails with this error number, and all later ones too if `for_ever`.
    pub(crate) fn new(inner: &MemoryStorage, at: u64, for_ever: bool, errno: i32) -> Self {
        Faulty::with(inner, State { at, for_ever, errno, ..State::sound() })
    }

    fn with(inner: &MemoryStorage, state: State) -> Self {
        Faulty { inner: inner.clone(), state: Arc::new(state) }
    }

    /// As [`Faulty::new`] with `for_ever`, counting only calls that change the disk: a power cut.
    pub(crate) fn power_cut(inner: &MemoryStorage, at: u64) -> Self {
        Faulty::with(inner, State { at, for_ever: true, writes_only: true, ..State::sound() })
    }

    /// A disk that keeps something else than what it was given: seen only by who reads packs past the page cache.
    pub(crate) fn rotting(inner: &MemoryStorage) -> Self {
        Faulty::rotting_at(inner, "packs/")
    }

    /// As [`Faulty::rotting`], for the files below another folder.
    pub(crate) fn rotting_at(inner: &MemoryStorage, folder: &'static str) -> Self {
        Faulty::with(inner, State { rots: Some(folder), ..State::sound() })
    }

    /// A disk with a bad sector in this file.
    pub(crate) fn unreadable(inner: &MemoryStorage, path: &str) -> Self {
        Faulty::with(inner, State { unreadable: Some(path.to_owned()), ..State::sound() })
    }

    /// A disk that is mounted read-only.
    pub(crate) fn read_only(inner: &MemoryStorage) -> Self {
        Faulty::with(inner, State { errno: 30, read_only: true, ..State::sound() })
    }

    /// A disk that does not flush as long as somebody holds this.
    pub(crate) fn flushes(&self) -> &Mutex<()> {
        &self.state.flushes
    }

    /// Whether the fault has happened.
    pub(crate) fn happened(&self) -> bool {
        self.state.calls.load(Ordering::SeqCst) >= self.state.at
    }

    /// How many calls there have been.
    pub(crate) fn calls(&self) -> u64 {
        self.state.calls.load(Ordering::SeqCst)
    }

    /// A disk without any fault, for counting.
    pub(crate) fn sound(inner: &MemoryStorage) -> Self {
        Faulty::with(inner, State::sound())
    }

    fn call(&self, operation: Operation, path: &str, write: bool) -> Result<(), StorageError> {
        let state = &self.state;
        let refused = state.read_only && (write || operation == Operation::Lock);
        let unreadable = operation == Operation::Read && state.unreadable.as_deref() == Some(path);
        let fails = if refused || unreadable {
            true
        } else if write || !state.writes_only {
            let call = state.calls.fetch_add(1, Ordering::SeqCst) + 1;
            call == state.at || (state.for_ever && call > state.at)
        } else {
            state.calls.load(Ordering::SeqCst) >= state.at
        };
        match fails {
            true => Err(StorageError {
                operation,
                path: path.to_owned(),
                source: io::Error::from_raw_os_error(state.errno),
            }),
            false => Ok(()),
        }
    }
}

impl Storage for Faulty {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn make_dir(&self, path: &str) -> Result<(), StorageError> {
        self.call(Operation::MakeDir, path, true)?;
        self.inner.make_dir(path)
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>, StorageError> {
        self.call(Operation::Create, path, true)?;
        let file = self.inner.create(path)?;
        Ok(Box::new(FaultyWrite { file, storage: self.clone(), path: path.to_owned() }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.call(Operation::Rename, to, true)?;
        self.inner.rename(from, to)
    }

    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        self.call(Operation::SyncDir, path, true)?;
        self.inner.sync_dir(path)
    }

    fn flush_device(&self) -> Result<(), StorageError> {
        drop(self.state.flushes.lock());
        self.call(Operation::FlushDevice, "", true)?;
        self.inner.flush_device()
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.call(Operation::Remove, path, true)?;
        self.inner.remove(path)
    }

    fn list(&self, path: &str) -> Result<Vec<DirEntry>, StorageError> {
        self.call(Operation::List, path, false)?;
        self.inner.list(path)
    }

    fn open(&self, path: &str) -> Result<Box<dyn ReadFile>, StorageError> {
        self.call(Operation::Open, path, false)?;
        let file = self.inner.open(path)?;
        Ok(Box::new(FaultyRead { file, storage: self.clone(), path: path.to_owned() }))
    }

    fn lock(&self, path: &str, kind: LockKind) -> Result<Option<Box<dyn LockGuard>>, StorageError> {
        self.call(Operation::Lock, path, false)?;
        self.inner.lock(path, kind)
    }

    fn free_space(&self) -> Result<u64, StorageError> {
        self.call(Operation::FreeSpace, "", false)?;
        self.inner.free_space()
    }

    fn drop_cache(&self, path: &str) -> Result<(), StorageError> {
        self.call(Operation::DropCache, path, false)?;
        if self.state.rots.is_some_and(|folder| path.starts_with(folder)) {
            self.inner.damage(path, |bytes| bytes[100] ^= 1);
        }
        self.inner.drop_cache(path)
    }
}

struct FaultyWrite {
    file: Box<dyn WriteFile>,
    storage: Faulty,
    path: String,
}

impl WriteFile for FaultyWrite {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        if let Err(error) = self.storage.call(Operation::Append, &self.path, true) {
            // A failed write may have written a part.
            self.file.append(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.file.append(bytes)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.storage.call(Operation::Sync, &self.path, true)?;
        self.file.sync()
    }
}

struct FaultyRead {
    file: Box<dyn ReadFile>,
    storage: Faulty,
    path: String,
}

impl ReadFile for FaultyRead {
    fn length(&self) -> u64 {
        self.file.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.storage.call(Operation::Read, &self.path, false)?;
        self.file.read_at(offset, buffer)
    }
}
