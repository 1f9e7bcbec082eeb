//! The seam to the disk: a few file operations with their promises written down.
//!
//! Paths are relative to the repository's folder, components separated by `/`, plain ASCII names of ours. The promises
//! are those of POSIX and no more: what is not synced may be lost, torn, or survive in any order.
//!
//! [`LocalStorage`] is a folder, [`MemoryStorage`] can show any state that a power cut may leave, [`PoisonStorage`]
//! ends all writing after the first failed write. Every implementation passes `tests/conformance.rs`.

mod advice;
mod btrfs;
mod device;
mod local;
mod memory;
mod poison;
mod window;

use std::fmt;
use std::io;

use thiserror::Error;

pub use local::LocalStorage;
pub use memory::{Choice, GuardCall, MemoryStorage};
pub use poison::PoisonStorage;
pub use window::Window;

/// Which operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Making a folder.
    MakeDir,
    /// Creating a file.
    Create,
    /// Adding bytes to a file.
    Append,
    /// Making a file's bytes durable.
    Sync,
    /// Giving a file its name.
    Rename,
    /// Making a folder's entries durable.
    SyncDir,
    /// Flushing the device.
    FlushDevice,
    /// Removing a file.
    Remove,
    /// Listing a folder.
    List,
    /// Opening a file for reading.
    Open,
    /// Reading bytes.
    Read,
    /// Locking.
    Lock,
    /// Asking for the free space.
    FreeSpace,
    /// Dropping a file from the page cache.
    DropCache,
    /// Making a guard.
    MakeGuard,
    /// Listing guards.
    ListGuards,
    /// Dropping a guard.
    DropGuard,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::MakeDir => "make the folder",
            Operation::Create => "create",
            Operation::Append => "write to",
            Operation::Sync => "make durable (fsync)",
            Operation::Rename => "rename to",
            Operation::SyncDir => "make the folder durable (fsync)",
            Operation::FlushDevice => "flush the device of",
            Operation::Remove => "remove",
            Operation::List => "list the folder",
            Operation::Open => "open",
            Operation::Read => "read",
            Operation::Lock => "lock",
            Operation::FreeSpace => "ask for the free space of",
            Operation::DropCache => "drop from the cache",
            Operation::MakeGuard => "make the guard",
            Operation::ListGuards => "list the guards",
            Operation::DropGuard => "drop the guard",
        })
    }
}

/// A storage operation failed.
#[derive(Debug, Error)]
#[error("cannot {operation} {path}")]
pub struct StorageError {
    /// What was tried.
    pub operation: Operation,
    /// On what, as a person can find it.
    pub path: String,
    /// What the system said. Never decides between "removed", "full" and "broken" alone: a disk that was pulled answers
    /// with any of EIO, ENODEV, EROFS and ENOENT.
    pub source: io::Error,
}

impl StorageError {
    pub(crate) fn new(operation: Operation, path: impl Into<String>, source: impl Into<io::Error>) -> Self {
        StorageError { operation, path: path.into(), source: source.into() }
    }

    /// Whether the file or folder is not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether something of that name is there already.
    pub fn is_already_there(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }

    /// Whether there was no room (or no quota) left.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name; bytes that are not UTF-8 are replaced, such a name is none of ours.
    pub name: String,
    /// Length of a file in bytes; 0 for anything else.
    pub length: u64,
    /// Whether it is a folder.
    pub directory: bool,
}

/// How much company a lock allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Beside other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// What came of asking for a guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guarding {
    /// It is there, and durable.
    Made,
    /// This kind of storage knows no guards; nobody needs to be told.
    Unknown,
    /// It could have them, but not here; why, for people.
    Refused(String),
}

/// A held lock; dropping it lets go. It vanishes with the process.
pub trait LockGuard: Send + Sync + fmt::Debug {}

/// A file that is being written, from its first byte to its last.
pub trait WriteFile: Send {
    /// Adds bytes at the end. After an error the contents are undefined.
    ///
    /// # Errors
    /// [`Operation::Append`].
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Returns when all bytes are durable. The *name* is not durable until its folder is synced. Must not be tried
    /// again after it failed.
    ///
    /// # Errors
    /// [`Operation::Sync`].
    fn sync(&mut self) -> Result<(), StorageError>;
}

/// An open file. Stays readable when its name is removed.
pub trait ReadFile: Send + Sync {
    /// Length in bytes when it was opened.
    fn length(&self) -> u64;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// [`Operation::Read`]; an end of file inside is `UnexpectedEof`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError>;

    /// The `length` bytes from `offset` on, in `window`, which is used again from call to call. For large pieces: a file
    /// that is read past the cache has them here without a copy.
    ///
    /// # Errors
    /// As [`ReadFile::read_at`].
    fn read_window<'w>(
        &self,
        offset: u64,
        length: usize,
        window: &'w mut Window,
    ) -> Result<&'w mut [u8], StorageError> {
        let bytes = window.of_length(length);
        self.read_at(offset, bytes)?;
        Ok(bytes)
    }
}

/// The file operations of a repository. All of them may be called from several threads.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Where it is, for people.
    fn describe(&self) -> String;

    /// Makes one folder; its parent must be there. Durable when the parent is synced.
    ///
    /// # Errors
    /// [`Operation::MakeDir`], `AlreadyExists` if the name is taken.
    fn make_dir(&self, path: &str) -> Result<(), StorageError>;

    /// Creates a file that must not be there.
    ///
    /// # Errors
    /// [`Operation::Create`], `AlreadyExists` if the name is taken.
    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>, StorageError>;

    /// Renames a file; never replaces. Durable when the target's folder is synced; a crash before may show either name,
    /// both or none.
    ///
    /// # Errors
    /// [`Operation::Rename`], `AlreadyExists` if the new name is taken (nothing has changed then).
    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError>;

    /// Returns when the entries of this folder are durable (`""` is the repository's folder).
    ///
    /// # Errors
    /// [`Operation::SyncDir`].
    fn sync_dir(&self, path: &str) -> Result<(), StorageError>;

    /// Returns when the device itself has confirmed that all that was synced is on its medium.
    ///
    /// # Errors
    /// [`Operation::FlushDevice`].
    fn flush_device(&self) -> Result<(), StorageError>;

    /// Removes a file. Durable when its folder is synced.
    ///
    /// # Errors
    /// [`Operation::Remove`], `NotFound` if it is not there.
    fn remove(&self, path: &str) -> Result<(), StorageError>;

    /// All names in a folder, sorted, without `.` and `..`. Never a part of them: an error ends the listing.
    ///
    /// # Errors
    /// [`Operation::List`], `NotFound` if there is no such folder.
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, StorageError>;

    /// Opens a regular file; never follows a symbolic link.
    ///
    /// # Errors
    /// [`Operation::Open`], `NotFound` if it is not there.
    fn open(&self, path: &str) -> Result<Box<dyn ReadFile>, StorageError>;

    /// Takes a lock on a file (made if needed), or `None` if somebody else holds it. Never waits.
    ///
    /// # Errors
    /// [`Operation::Lock`].
    fn lock(&self, path: &str, kind: LockKind) -> Result<Option<Box<dyn LockGuard>>, StorageError>;

    /// Bytes that can still be written.
    ///
    /// # Errors
    /// [`Operation::FreeSpace`].
    fn free_space(&self) -> Result<u64, StorageError>;

    /// As [`Storage::open`], for reading a synced file once: what is read comes from the device and not from the page
    /// cache, and does not stay in it, as far as the system allows.
    ///
    /// # Errors
    /// [`Operation::Open`] or [`Operation::DropCache`], `NotFound` if it is not there.
    fn open_past_cache(&self, path: &str) -> Result<Box<dyn ReadFile>, StorageError> {
        self.drop_cache(path)?;
        self.open(path)
    }

    /// Makes the next read of this synced file come from the device, as far as the system allows.
    ///
    /// # Errors
    /// [`Operation::DropCache`].
    fn drop_cache(&self, path: &str) -> Result<(), StorageError>;

    /// Makes `guards/<name>`: the whole repository as it is now, read-only, durable when this returns. Follows COMMIT.md,
    /// "Guards"; so do the next three. A storage that cannot do this leaves all four as they are.
    ///
    /// # Errors
    /// [`Operation::MakeGuard`], `AlreadyExists` if there is one of that name.
    fn make_guard(&self, name: &str) -> Result<Guarding, StorageError> {
        let _ = name;
        Ok(Guarding::Unknown)
    }

    /// The names of the guards, oldest first; what is not a guard of this repository is not among them.
    ///
    /// # Errors
    /// [`Operation::ListGuards`]; never for guards that this storage does not know.
    fn guards(&self) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }

    /// Drops a guard. Its space comes back some time later.
    ///
    /// # Errors
    /// [`Operation::DropGuard`], `NotFound` if there is none of that name.
    fn drop_guard(&self, name: &str) -> Result<(), StorageError> {
        Err(StorageError::new(Operation::DropGuard, name, io::ErrorKind::NotFound))
    }

    /// Waits (a bounded time) until the space of dropped guards has come back; whether it has.
    ///
    /// # Errors
    /// [`Operation::DropGuard`].
    fn settle_guards(&self) -> Result<bool, StorageError> {
        Ok(true)
    }
}

/// Reads a whole small file.
///
/// # Errors
/// [`StorageError`]; a file above `limit` is refused unread.
pub(crate) fn read_whole(storage: &dyn Storage, path: &str, limit: u64) -> Result<Vec<u8>, StorageError> {
    let file = storage.open(path)?;
    let length = file.length();
    if length > limit {
        let too_large = io::Error::new(io::ErrorKind::FileTooLarge, format!("{length} bytes, limit {limit}"));
        return Err(StorageError::new(Operation::Read, path, too_large));
    }
    let mut bytes = vec![0; length as usize];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// The folder part of a path, `""` for the repository's folder.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
