//! A repository in a folder of a mounted file system.
//!
//! Every path is walked component by component without following symbolic links, so that a hostile disk cannot lead
//! outside of its folder.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{self, Advice, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{
    DirEntry, Guarding, LockGuard, LockKind, Operation, ReadFile, Storage, StorageError, Window, WriteFile,
    advice, btrfs, device, window::ALIGNMENT,
};
use crate::layout;

/// A folder on a mounted file system.
#[derive(Debug)]
pub struct LocalStorage {
    root: OwnedFd,
    path: PathBuf,
    devices: OnceLock<Vec<device::BlockDevice>>,
}

impl LocalStorage {
    /// Opens a folder that is there.
    ///
    /// # Errors
    /// [`Operation::Open`]; `NotFound` if it is absent.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(path, flags, Mode::empty())
            .map_err(|errno| StorageError::new(Operation::Open, path.display().to_string(), errno))?;
        Ok(LocalStorage { root, path: path.to_owned(), devices: OnceLock::new() })
    }

    /// Opens a folder for a new repository and makes it if it is not there: on btrfs as a subvolume, so that a
    /// read-only snapshot can guard it (also in the place of an empty folder), else as a plain folder. Its parent must be
    /// there.
    ///
    /// # Errors
    /// [`Operation::MakeDir`], [`Operation::SyncDir`] or [`Operation::Open`].
    pub fn prepare(path: &Path) -> Result<Self, StorageError> {
        let failed =
            |operation, source: io::Error| StorageError::new(operation, path.display().to_string(), source);
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let made = if path.try_exists().map_err(|error| failed(Operation::MakeDir, error))? {
            btrfs::replace_empty_folder(path).map_err(|error| failed(Operation::MakeDir, error))?
        } else {
            if !(btrfs::path_is_btrfs(parent) && btrfs::make_subvolume(path)) {
                std::fs::create_dir(path).map_err(|error| failed(Operation::MakeDir, error))?;
            }
            true
        };
        if made {
            std::fs::File::open(parent)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| failed(Operation::SyncDir, error))?;
        }
        LocalStorage::open(path)
    }

    /// The names of the guards, the oldest first, also of a repository that has lost its label.
    pub(crate) fn guards_unchecked(&self) -> Result<Vec<String>, StorageError> {
        btrfs::list_unchecked(&self.root)
            .map_err(|error| self.error(Operation::ListGuards, layout::GUARDS, error))
    }

    /// A writable copy of a guard takes the place of the repository, which is kept beside it under the path that is
    /// returned. What is replaced stays in the new one too, as a guard with the name `replaced`. Nothing is deleted. The
    /// caller keeps writers out.
    pub(crate) fn exchange_with_guard(
        &self,
        guard: &str,
        replaced: Option<&str>,
    ) -> Result<PathBuf, StorageError> {
        btrfs::roll_back(&self.root, &self.path, guard, replaced)
            .map_err(|error| StorageError::new(Operation::Rename, self.path.display().to_string(), error))
    }

    /// What a person should know about the disk below: whatever endangers sealed snapshots, one line each.
    pub fn advice(&self) -> Vec<String> {
        advice::advice(&self.root)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The block devices below, looked up once: what is mounted here cannot change while the folder is open.
    fn devices(&self) -> &[device::BlockDevice] {
        self.devices.get_or_init(|| {
            device::Mount::of(&self.root).map_or_else(
                |error| {
                    tracing::debug!(path = %self.path.display(), %error, "the device below is not to be found");
                    Vec::new()
                },
                |mount| mount.devices(),
            )
        })
    }

    fn full(&self, path: &str) -> String {
        self.path.join(path).display().to_string()
    }

    fn error(&self, operation: Operation, path: &str, source: impl Into<io::Error>) -> StorageError {
        StorageError::new(operation, self.full(path), source)
    }

    /// The folder of the last component, and that component.
    fn resolve<'p>(&self, path: &'p str) -> rustix::io::Result<(OwnedFd, &'p str)> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.folder(folders)?, name))
    }

    fn folder(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder = fs::openat(&self.root, c".", flags, Mode::empty())?;
        for component in path.split('/').filter(|component| !component.is_empty()) {
            if component == ".." {
                return Err(Errno::INVAL);
            }
            folder = fs::openat(&folder, component, flags, Mode::empty())?;
        }
        Ok(folder)
    }

    fn open_file(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        self.open_with(path, OFlags::empty())
    }

    fn open_with(&self, path: &str, more: OFlags) -> rustix::io::Result<OwnedFd> {
        let (folder, name) = self.resolve(path)?;
        // NONBLOCK: a named pipe planted on the disk must not hang us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
        let file = fs::openat(&folder, name, flags, Mode::empty())?;
        match FileType::from_raw_mode(fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file),
            _ => Err(Errno::INVAL),
        }
    }
}

impl Storage for LocalStorage {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn make_dir(&self, path: &str) -> Result<(), StorageError> {
        self.resolve(path)
            .and_then(|(folder, name)| fs::mkdirat(&folder, name, Mode::from_raw_mode(0o700)))
            .map_err(|errno| self.error(Operation::MakeDir, path, errno))
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>, StorageError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self
            .resolve(path)
            .and_then(|(folder, name)| fs::openat(&folder, name, flags, Mode::from_raw_mode(0o600)))
            .map_err(|errno| self.error(Operation::Create, path, errno))?;
        Ok(Box::new(LocalWriteFile { file, path: self.full(path) }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let renamed = || {
            let (from_folder, from_name) = self.resolve(from)?;
            let (to_folder, to_name) = self.resolve(to)?;
            match fs::renameat_with(&from_folder, from_name, &to_folder, to_name, RenameFlags::NOREPLACE) {
                // Some file systems (exFAT over FUSE, old NFS) know no NOREPLACE. Only one writer holds the lock, so
                // looking first is as good there.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    match fs::statat(&to_folder, to_name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(_) => Err(Errno::EXIST),
                        Err(Errno::NOENT) => fs::renameat(&from_folder, from_name, &to_folder, to_name),
                        Err(errno) => Err(errno),
                    }
                }
                other => other,
            }
        };
        renamed().map_err(|errno| self.error(Operation::Rename, to, errno))
    }

    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        self.folder(path)
            .and_then(|folder| fs::fsync(&folder))
            .map_err(|errno| self.error(Operation::SyncDir, path, errno))
    }

    fn flush_device(&self) -> Result<(), StorageError> {
        // syncfs writes what is left and makes ext4, btrfs, XFS and exFAT send a cache flush to the device, but only if
        // something was left. The last word is the device's own.
        fs::syncfs(&self.root)
            .and_then(|()| fs::fsync(&self.root))
            .and_then(|()| self.devices().iter().try_for_each(device::BlockDevice::flush))
            .map_err(|errno| self.error(Operation::FlushDevice, "", errno))
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.resolve(path)
            .and_then(|(folder, name)| fs::unlinkat(&folder, name, AtFlags::empty()))
            .map_err(|errno| self.error(Operation::Remove, path, errno))
    }

    fn list(&self, path: &str) -> Result<Vec<DirEntry>, StorageError> {
        let listed = || {
            let folder = self.folder(path)?;
            let mut entries = Vec::new();
            for entry in fs::Dir::read_from(&folder)? {
                let entry = entry?;
                let name: &CStr = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let stat = match fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                    // Removed since it was listed: by a writer that tidies up beside this reader.
                    Err(Errno::NOENT) => continue,
                    other => other?,
                };
                let kind = FileType::from_raw_mode(stat.st_mode);
                entries.push(DirEntry {
                    name: name.to_string_lossy().into_owned(),
                    length: if kind == FileType::RegularFile { stat.st_size as u64 } else { 0 },
                    directory: kind == FileType::Directory,
                });
            }
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        };
        listed().map_err(|errno: Errno| self.error(Operation::List, path, errno))
    }

    fn open(&self, path: &str) -> Result<Box<dyn ReadFile>, StorageError> {
        let opened = || {
            let file = self.open_file(path)?;
            let length = fs::fstat(&file)?.st_size as u64;
            Ok(LocalReadFile { file, length, path: self.full(path) })
        };
        match opened() {
            Ok(file) => Ok(Box::new(file)),
            Err(errno) => {
                let errno: Errno = errno;
                Err(self.error(Operation::Open, path, errno))
            }
        }
    }

    fn open_past_cache(&self, path: &str) -> Result<Box<dyn ReadFile>, StorageError> {
        let file = match self.open_with(path, OFlags::DIRECT) {
            // Not every file system reads past the cache.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                self.drop_cache(path)?;
                return self.open(path);
            }
            other => other.map_err(|errno| self.error(Operation::Open, path, errno))?,
        };
        let opened = || {
            // What lies in the cache is not needed any more either, and is not to be read from it should the file system
            // refuse direct reads after all.
            fs::fadvise(&file, 0, None, Advice::DontNeed)?;
            fs::fstat(&file).map(|stat| stat.st_size as u64)
        };
        let length = opened().map_err(|errno| self.error(Operation::DropCache, path, errno))?;
        Ok(Box::new(DirectFile { file, length, path: self.full(path) }))
    }

    fn lock(&self, path: &str, kind: LockKind) -> Result<Option<Box<dyn LockGuard>>, StorageError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let operation = match kind {
            LockKind::Shared => FlockOperation::NonBlockingLockShared,
            LockKind::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        let locked = || {
            let (folder, name) = self.resolve(path)?;
            let file = fs::openat(&folder, name, flags, Mode::from_raw_mode(0o600))?;
            match fs::flock(&file, operation) {
                Ok(()) => Ok(Some(file)),
                Err(Errno::WOULDBLOCK) => Ok(None),
                Err(errno) => Err(errno),
            }
        };
        let file = locked().map_err(|errno| self.error(Operation::Lock, path, errno))?;
        Ok(file.map(|file| Box::new(Flock { file }) as Box<dyn LockGuard>))
    }

    fn free_space(&self) -> Result<u64, StorageError> {
        let stat = fs::fstatvfs(&self.root).map_err(|errno| self.error(Operation::FreeSpace, "", errno))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn drop_cache(&self, path: &str) -> Result<(), StorageError> {
        self.open_file(path)
            .and_then(|file| fs::fadvise(&file, 0, None, Advice::DontNeed))
            .map_err(|errno| self.error(Operation::DropCache, path, errno))
    }

    fn make_guard(&self, name: &str) -> Result<Guarding, StorageError> {
        btrfs::make(&self.root, name).map_err(|error| self.error(Operation::MakeGuard, &guard(name), error))
    }

    fn guards(&self) -> Result<Vec<String>, StorageError> {
        btrfs::list(&self.root).map_err(|error| self.error(Operation::ListGuards, layout::GUARDS, error))
    }

    fn drop_guard(&self, name: &str) -> Result<(), StorageError> {
        btrfs::drop_guard(&self.root, name)
            .map_err(|error| self.error(Operation::DropGuard, &guard(name), error))
    }

    fn settle_guards(&self) -> Result<bool, StorageError> {
        btrfs::settle(&self.root).map_err(|error| self.error(Operation::DropGuard, layout::GUARDS, error))
    }
}

fn guard(name: &str) -> String {
    format!("{}/{name}", layout::GUARDS)
}

/// Holds the flock through its file description.
#[derive(Debug)]
struct Flock {
    file: OwnedFd,
}

impl Drop for Flock {
    fn drop(&mut self) {
        // Closing alone would leave it held by a child that some other thread has forked and that has not reached its
        // exec yet: the next writer would be told "locked" by nobody.
        let _ = fs::flock(&self.file, FlockOperation::Unlock);
    }
}

impl LockGuard for Flock {}

struct LocalWriteFile {
    file: OwnedFd,
    path: String,
}

impl WriteFile for LocalWriteFile {
    fn append(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.file, bytes) {
                Ok(0) => return Err(StorageError::new(Operation::Append, &self.path, Errno::NOSPC)),
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(StorageError::new(Operation::Append, &self.path, errno)),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        fs::fsync(&self.file).map_err(|errno| StorageError::new(Operation::Sync, &self.path, errno))
    }
}

struct LocalReadFile {
    file: OwnedFd,
    length: u64,
    path: String,
}

impl ReadFile for LocalReadFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), StorageError> {
        while !buffer.is_empty() {
            match rustix::io::pread(&self.file, &mut *buffer, offset) {
                Ok(0) => {
                    let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(StorageError::new(Operation::Read, &self.path, ended));
                }
                Ok(read) => {
                    offset += read as u64;
                    buffer = &mut buffer[read..];
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(StorageError::new(Operation::Read, &self.path, errno)),
            }
        }
        Ok(())
    }
}

/// A file that is read past the page cache, in whole blocks of the disk.
struct DirectFile {
    file: OwnedFd,
    length: u64,
    path: String,
}

impl DirectFile {
    /// Fills as much of `buffer` as the file has from `offset` on, at least `least` bytes. Both begin at a multiple of
    /// [`ALIGNMENT`], and the buffer is as long as one.
    fn fill(&self, offset: u64, buffer: &mut [u8], least: usize) -> Result<(), StorageError> {
        let mut filled = 0;
        while filled < least {
            match rustix::io::pread(&self.file, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => {
                    let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(StorageError::new(Operation::Read, &self.path, ended));
                }
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                // It does not read so after all, or a read that was cut short left us between two blocks. Its pages were
                // dropped when it was opened.
                Err(Errno::INVAL) if self.reads_directly() => self.read_through_cache()?,
                Err(errno) => return Err(StorageError::new(Operation::Read, &self.path, errno)),
            }
        }
        Ok(())
    }

    fn reads_directly(&self) -> bool {
        fs::fcntl_getfl(&self.file).is_ok_and(|flags| flags.contains(OFlags::DIRECT))
    }

    fn read_through_cache(&self) -> Result<(), StorageError> {
        fs::fcntl_getfl(&self.file)
            .and_then(|flags| fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT))
            .map_err(|errno| StorageError::new(Operation::Read, &self.path, errno))
    }
}

impl ReadFile for DirectFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let mut window = Window::new();
        let length = buffer.len();
        buffer.copy_from_slice(self.read_window(offset, length, &mut window)?);
        Ok(())
    }

    fn read_window<'w>(
        &self,
        offset: u64,
        length: usize,
        window: &'w mut Window,
    ) -> Result<&'w mut [u8], StorageError> {
        let before = (offset % ALIGNMENT as u64) as usize;
        let end = before + length;
        let bytes = window.of_length(end.next_multiple_of(ALIGNMENT));
        self.fill(offset - before as u64, bytes, end)?;
        Ok(&mut bytes[before..end])
    }
}
