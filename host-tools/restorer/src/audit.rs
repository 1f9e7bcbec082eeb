//! What was restored, read back from the target and held against the snapshot: every name, its kind and metadata, which
//! names are one file, and every byte.
//!
//! Nothing is taken from what the restore did or remembers: the walk is the same ([`traverse()`]), the target is looked at
//! anew, and files are read past the page cache and hashed, so that what is compared is what the disk gives. The
//! snapshot's data is not read for it: a chunk's id says what its bytes are.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use mailkeep_format::{ChunkId, ContentHash, Meta, Node, NodeKind};
use rustix::fs::{Advice, Mode, OFlags};
use rustix::io::Errno;

use crate::decide::{Existing, file_type};
use crate::links::{LinkTable, identity};
use crate::path::{join, show, split};
use crate::plan::Plan;
use crate::select::Coverage;
use crate::tally::RestoreMonitor;
use crate::traverse::{Ahead, Hands, Item, Known, traverse};
use crate::{ContentsError, Owners, RestoreError, meta, target};

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// Names of files, links, pipes, sockets and devices.
    pub files: u64,
    /// Folders that were asked for.
    pub folders: u64,
    /// Bytes that were read back.
    pub bytes: u64,
    /// Names whose owner or group is not the snapshot's, which are no problem by themselves: without root it is most of
    /// them.
    pub owners: u64,
    /// Differences; each was told to the monitor.
    pub problems: u64,
    /// Something of the snapshot could not be read.
    pub unreadable: bool,
}

/// Compares what `plan` restored with the snapshot. `chunk_id` tells the id that the bytes with this hash have in the
/// snapshot's repository.
///
/// # Errors
/// The target cannot be opened, the snapshot's root cannot be read, or it was stopped. Differences are no errors: they are
/// told to `monitor` and counted.
pub fn audit(
    plan: &Plan,
    chunk_id: &dyn Fn(&ContentHash) -> ChunkId,
    monitor: &dyn RestoreMonitor,
    stop: &AtomicBool,
) -> Result<Audited, RestoreError> {
    let root = target::open_root(&plan.target).map_err(|error| RestoreError::Target {
        path: show(plan.target.as_os_str().as_encoded_bytes()),
        source: error.into(),
    })?;
    let mut auditor = Auditor {
        root,
        owners: &plan.options.owners,
        chunk_id,
        links: LinkTable::default(),
        buffer: Vec::new(),
        monitor,
        stop,
        audited: Audited::default(),
    };
    traverse(&plan.view, &plan.selection, plan.options.special, &mut auditor)?;
    Ok(auditor.audited)
}

struct Auditor<'a> {
    root: OwnedFd,
    owners: &'a Owners,
    chunk_id: &'a dyn Fn(&ContentHash) -> ChunkId,
    links: LinkTable,
    buffer: Vec<u8>,
    monitor: &'a dyn RestoreMonitor,
    stop: &'a AtomicBool,
    audited: Audited,
}

impl Auditor<'_> {
    fn problem(&mut self, path: &[u8], what: &str) {
        self.audited.problems += 1;
        self.monitor.problem(path, what);
    }

    fn failed(&mut self, path: &[u8], doing: &str, error: Errno) {
        self.problem(path, &format!("cannot be {doing} in the target: {error}"));
    }

    /// What stands in the target, if it is of the right kind.
    fn look(&mut self, parent: &OwnedFd, item: &Item) -> Option<Existing> {
        match target::existing(parent.as_fd(), &item.node.name) {
            Ok(Some(there)) if there.kind == file_type(&item.node) => return Some(there),
            Ok(Some(_)) => self.problem(&item.path, "is of another kind in the target"),
            Ok(None) => self.problem(&item.path, "is missing in the target"),
            Err(error) => self.failed(&item.path, "looked at", error),
        }
        None
    }

    fn metadata(&mut self, path: &[u8], subject: meta::Subject<'_>, there: &Existing, wanted: &Meta) {
        let differs = meta::differences(subject, there, wanted, self.owners);
        self.audited.owners += u64::from(differs.owner);
        for (differs, what) in [
            (differs.mode, "has another mode in the target"),
            (differs.attributes, "has other extended attributes in the target"),
            (there.mtime != wanted.mtime, "has another time in the target"),
        ] {
            if differs {
                self.problem(path, what);
            }
        }
    }

    /// Whether a name is one with the first name of its file.
    fn is_one_with(&self, first: &[u8], there: &Existing) -> bool {
        let Some((parent, name)) = split(first) else { return false };
        target::open_below(self.root.as_fd(), parent)
            .and_then(|parent| target::existing(parent.as_fd(), name))
            .is_ok_and(|first| first.is_some_and(|first| first.file == there.file))
    }

    fn contents(&mut self, parent: &OwnedFd, item: &Item, there: &Existing) {
        match &item.node.kind {
            NodeKind::File { size, .. } if there.size != *size => {
                let what = format!("has {} bytes in the target, and {size} in the snapshot", there.size);
                self.problem(&item.path, &what);
            }
            NodeKind::File { .. } => match self.read_back(parent, &item.node) {
                Ok(true) => {}
                Ok(false) => self.problem(&item.path, "has other contents in the target"),
                Err(error) => self.failed(&item.path, "read", error),
            },
            NodeKind::Symlink { target } => {
                match rustix::fs::readlinkat(parent, item.node.name.as_slice(), Vec::new()) {
                    Ok(there) if there.as_bytes() == target.as_slice() => {}
                    Ok(_) => self.problem(&item.path, "leads elsewhere in the target"),
                    Err(error) => self.failed(&item.path, "read", error),
                }
            }
            NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor }
                if there.rdev != rustix::fs::makedev(*major, *minor) =>
            {
                self.problem(&item.path, "is another device in the target");
            }
            _ => {}
        }
    }

    /// Whether a file has the bytes that its chunks are named after, and none beyond.
    fn read_back(&mut self, parent: &OwnedFd, node: &Node) -> rustix::io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, node.name.as_slice(), flags, Mode::empty())?;
        // It was made durable by the restore: what the cache has of it is clean, and is let go of.
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        let mut file = File::from(file);
        let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        for chunk in node.content() {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            self.buffer.resize(chunk.length as usize, 0);
            match file.read_exact(&mut self.buffer) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(errno(error)),
            }
            if (self.chunk_id)(&ContentHash::of(&self.buffer)) != chunk.id {
                return Ok(false);
            }
            self.audited.bytes += u64::from(chunk.length);
            self.monitor.progress(self.audited.files, self.audited.bytes);
        }
        Ok(true)
    }
}

impl Hands for Auditor<'_> {
    type Folder = OwnedFd;

    fn root(&mut self, _: Known<'_>) -> Result<Self::Folder, RestoreError> {
        self.root
            .try_clone()
            .map_err(|source| RestoreError::Target { path: "of the restore".to_owned(), source })
    }

    fn enter(
        &mut self,
        parent: &Self::Folder,
        item: &Item,
        _: Ahead,
    ) -> Result<Option<Self::Folder>, RestoreError> {
        let Some(there) = self.look(parent, item) else { return Ok(None) };
        match target::open_folder(parent.as_fd(), &item.node.name) {
            Ok(folder) => {
                if item.coverage == Coverage::Inside {
                    self.metadata(&item.path, meta::open(&folder), &there, &item.node.meta);
                    self.audited.folders += 1;
                }
                Ok(Some(folder))
            }
            Err(error) => {
                self.failed(&item.path, "opened", error);
                Ok(None)
            }
        }
    }

    fn place(&mut self, parent: &Self::Folder, item: Item) -> Result<(), RestoreError> {
        let Some(there) = self.look(parent, &item) else { return Ok(()) };
        self.audited.files += 1;
        self.monitor.progress(self.audited.files, self.audited.bytes);
        let identity = identity(&item.node);
        if let Some(first) = identity.and_then(|identity| self.links.first(identity)) {
            if self.is_one_with(&first, &there) {
                // One file, and it was compared under its first name.
                return Ok(());
            }
            let what = format!("is no other name of {} in the target", show(&first));
            self.problem(&item.path, &what);
        }
        if let Some(identity) = identity {
            self.links.begin(identity, &item.path, item.node.meta.links);
            self.links.finish(identity, true);
        }
        self.metadata(&item.path, meta::named(parent, &item.node), &there, &item.node.meta);
        self.contents(parent, &item, &there);
        Ok(())
    }

    fn leave(
        &mut self,
        folder: Self::Folder,
        path: &[u8],
        coverage: Coverage,
        known: Option<Known<'_>>,
    ) -> Result<(), RestoreError> {
        let Some(known) = known.filter(|_| coverage == Coverage::Inside) else { return Ok(()) };
        match target::names(folder.as_fd()).map(|names| known.surplus(names)) {
            Ok(Ok(names)) => {
                for name in names.iter() {
                    self.problem(&join(path, name), "is in the target, and not in the snapshot");
                }
                Ok(())
            }
            Ok(Err(why)) => self.broken_off(path, why),
            Err(error) => {
                self.failed(path, "listed", error);
                Ok(())
            }
        }
    }

    fn unreadable(&mut self, path: &[u8], why: ContentsError) -> Result<(), RestoreError> {
        self.audited.unreadable = true;
        self.problem(path, &format!("the folder cannot be read in the repository: {why}"));
        Ok(())
    }

    fn broken_off(&mut self, path: &[u8], why: ContentsError) -> Result<(), RestoreError> {
        self.audited.unreadable = true;
        self.problem(path, &format!("the rest of the folder cannot be read in the repository: {why}"));
        Ok(())
    }

    // The plan has told it; what is there is held against what was to be restored.
    fn left_out(&mut self, _: &[u8], _: &'static str) {}

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
