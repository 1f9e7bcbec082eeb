//! Answers the kernel's requests from views of snapshots.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    FUSE_ROOT_ID, FileAttr, FileType, Filesystem, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use mailkeep_restorer::format::{Node, NodeKind};
use mailkeep_restorer::path::join;
use mailkeep_restorer::{Listing, OpenFile, RestoreError};
use rustix::io::Errno;

use crate::attributes;
use crate::inodes::{Inode, Inodes, LATEST, SNAPSHOTS};
use crate::pool::Pool;
use crate::snapshot::Snapshot;

/// How long the kernel may keep names and attributes without asking again. Snapshots never change.
const KEEP: Duration = Duration::from_secs(3600);
/// Shortest beginning of an id that is looked up; shorter ones are more likely a program's probing.
const PREFIX_MIN: usize = 4;

/// A folder that is being listed.
enum OpenFolder {
    MadeUp(Vec<(u64, FileType, Vec<u8>)>),
    Stored { inode: Inode, listing: Listing },
}

pub(crate) struct SnapshotFs {
    /// Oldest first.
    snapshots: Vec<Snapshot>,
    inodes: Inodes,
    files: HashMap<u64, Arc<OpenFile>>,
    folders: HashMap<u64, OpenFolder>,
    next_handle: u64,
    pool: Pool,
    owner: (u32, u32),
}

impl SnapshotFs {
    pub(crate) fn new(snapshots: Vec<Snapshot>, pool: Pool) -> Self {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (files, folders) = (HashMap::new(), HashMap::new());
        SnapshotFs { snapshots, inodes: Inodes::default(), files, folders, next_handle: 1, pool, owner }
    }

    fn newest(&self) -> Option<&Snapshot> {
        self.snapshots.last()
    }

    fn made_up(&self, ino: u64) -> Option<FileAttr> {
        let kind = match ino {
            FUSE_ROOT_ID | SNAPSHOTS => FileType::Directory,
            LATEST => FileType::Symlink,
            _ => return None,
        };
        let mut attr =
            attributes::made_up(ino, kind, self.newest().map_or(0, |newest| newest.time), self.owner);
        if ino == LATEST {
            attr.size = self.latest_target().len() as u64;
            attr.nlink = 1;
        }
        Some(attr)
    }

    fn latest_target(&self) -> String {
        self.newest().map(|newest| format!("snapshots/{}", newest.id)).unwrap_or_default()
    }

    /// The root of a snapshot by its id, or by a beginning that only one has.
    fn snapshot(&self, name: &[u8]) -> Option<(u64, Inode)> {
        let fits = |snapshot: &Snapshot| snapshot.id.as_bytes().starts_with(name);
        let mut fitting = self.snapshots.iter().enumerate().filter(|(_, snapshot)| fits(snapshot));
        let (index, snapshot) = fitting.next()?;
        if name.len() < PREFIX_MIN || fitting.next().is_some() {
            return None;
        }
        Some((self.inodes.of_snapshot(index), self.root_of(index, snapshot)))
    }

    fn root_of(&self, index: usize, snapshot: &Snapshot) -> Inode {
        let mut node = snapshot.view.root().clone();
        node.meta.mtime.seconds = snapshot.time;
        node.meta.ctime.seconds = snapshot.time;
        (node.meta.uid, node.meta.gid) = self.owner;
        let (view, node) = (snapshot.view.clone(), Arc::new(node));
        Inode { view, snapshot: index, path: (*b"/").into(), node, parent: SNAPSHOTS }
    }

    fn find(&self, parent: u64, name: &[u8]) -> Result<(u64, FileAttr, Option<Inode>), Errno> {
        let made_up = |ino| self.made_up(ino).map(|attr| (ino, attr, None)).ok_or(Errno::NOENT);
        match (parent, name) {
            (FUSE_ROOT_ID, b"snapshots") => return made_up(SNAPSHOTS),
            (FUSE_ROOT_ID, b"latest") if self.newest().is_some() => return made_up(LATEST),
            (FUSE_ROOT_ID, _) => return Err(Errno::NOENT),
            (SNAPSHOTS, _) => {
                let (ino, inode) = self.snapshot(name).ok_or(Errno::NOENT)?;
                return Ok((ino, attributes::of_node(ino, &inode.node), Some(inode)));
            }
            _ => {}
        }
        let folder = self.inodes.get(parent).ok_or(Errno::STALE)?;
        let found =
            folder.view.child(&folder.path, &folder.node, name).map_err(|error| self.told(folder, &error))?;
        let node = found.ok_or(Errno::NOENT)?;
        let path = join(&folder.path, name);
        let ino = self.inodes.of_node(folder.snapshot, &path, &node);
        let attr = attributes::of_node(ino, &node);
        let inode = Inode { path: path.into(), node: Arc::new(node), parent, ..folder.clone() };
        Ok((ino, attr, Some(inode)))
    }

    fn list(&self, ino: u64) -> Result<OpenFolder, Errno> {
        let folder = FileType::Directory;
        Ok(match ino {
            FUSE_ROOT_ID => {
                let mut names = vec![(SNAPSHOTS, folder, b"snapshots".to_vec())];
                if self.newest().is_some() {
                    names.push((LATEST, FileType::Symlink, b"latest".to_vec()));
                }
                OpenFolder::MadeUp(names)
            }
            SNAPSHOTS => {
                let name = |(index, snapshot): (usize, &Snapshot)| {
                    (self.inodes.of_snapshot(index), folder, snapshot.id.as_bytes().to_vec())
                };
                OpenFolder::MadeUp(self.snapshots.iter().enumerate().map(name).collect())
            }
            _ => {
                let inode = self.inodes.get(ino).ok_or(Errno::STALE)?.clone();
                let listing =
                    inode.view.list(&inode.path, &inode.node).map_err(|error| self.told(&inode, &error))?;
                OpenFolder::Stored { inode, listing }
            }
        })
    }

    /// Turns an error into what programs see, and says in the log which file it is about.
    fn told(&self, inode: &Inode, error: &RestoreError) -> Errno {
        tell(self.snapshots.get(inode.snapshot).map_or("?", |snapshot| &snapshot.id), error)
    }

    fn handle(&mut self) -> u64 {
        self.next_handle += 1;
        self.next_handle
    }

    fn node(&self, ino: u64) -> Result<&Arc<Node>, Errno> {
        self.inodes.get(ino).map(|inode| &inode.node).ok_or(Errno::STALE)
    }
}

fn tell(snapshot: &str, error: &RestoreError) -> Errno {
    match error {
        RestoreError::NotDirectory { .. } => Errno::NOTDIR,
        RestoreError::NotFound { .. } => Errno::NOENT,
        _ => {
            let why = error.contents().map(ToString::to_string).unwrap_or_default();
            tracing::error!(snapshot, "{error}: {why}");
            Errno::IO
        }
    }
}

fn number(error: Errno) -> i32 {
    error.raw_os_error()
}

impl Filesystem for SnapshotFs {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name.as_bytes()) {
            Ok((ino, attr, inode)) => {
                if let Some(inode) = inode {
                    self.inodes.refer(ino, inode);
                }
                reply.entry(&KEEP, &attr, 0);
            }
            Err(error) => reply.error(number(error)),
        }
    }

    fn forget(&mut self, _: &Request<'_>, ino: u64, count: u64) {
        self.inodes.forget(ino, count);
    }

    fn getattr(&mut self, _: &Request<'_>, ino: u64, _: Option<u64>, reply: ReplyAttr) {
        let attr =
            self.made_up(ino).map_or_else(|| self.node(ino).map(|node| attributes::of_node(ino, node)), Ok);
        match attr {
            Ok(attr) => reply.attr(&KEEP, &attr),
            Err(error) => reply.error(number(error)),
        }
    }

    fn readlink(&mut self, _: &Request<'_>, ino: u64, reply: ReplyData) {
        if ino == LATEST {
            return reply.data(self.latest_target().as_bytes());
        }
        match self.node(ino).map(|node| &node.kind) {
            Ok(NodeKind::Symlink { target }) => reply.data(target),
            Ok(_) => reply.error(number(Errno::INVAL)),
            Err(error) => reply.error(number(error)),
        }
    }

    fn open(&mut self, _: &Request<'_>, ino: u64, flags: i32, reply: ReplyOpen) {
        // The kernel refuses writers on a read-only mount; this is the second lock on that door.
        if flags & 3 != 0 {
            return reply.error(number(Errno::ROFS));
        }
        let Some(inode) = self.inodes.get(ino) else { return reply.error(number(Errno::STALE)) };
        let file = Arc::new(inode.view.open(&inode.path, &inode.node));
        let handle = self.handle();
        self.files.insert(handle, file);
        reply.opened(handle, fuser::consts::FOPEN_KEEP_CACHE);
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        handle: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        let Some(file) = self.files.get(&handle).cloned() else { return reply.error(number(Errno::BADF)) };
        let snapshot = self.inodes.get(ino).and_then(|inode| self.snapshots.get(inode.snapshot));
        let snapshot = snapshot.map_or_else(|| "?".to_owned(), |snapshot| snapshot.id.clone());
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        self.pool.run(move || match file.read_at(offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(number(tell(&snapshot, &error))),
        });
    }

    fn release(
        &mut self,
        _: &Request<'_>,
        _: u64,
        handle: u64,
        _: i32,
        _: Option<u64>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.remove(&handle);
        reply.ok();
    }

    fn opendir(&mut self, _: &Request<'_>, ino: u64, _: i32, reply: ReplyOpen) {
        match self.list(ino) {
            Ok(folder) => {
                let handle = self.handle();
                self.folders.insert(handle, folder);
                reply.opened(handle, 0);
            }
            Err(error) => reply.error(number(error)),
        }
    }

    fn readdir(&mut self, _: &Request<'_>, ino: u64, handle: u64, offset: i64, mut reply: ReplyDirectory) {
        let Some(folder) = self.folders.get(&handle) else { return reply.error(number(Errno::BADF)) };
        let length = match folder {
            OpenFolder::MadeUp(names) => names.len(),
            OpenFolder::Stored { listing, .. } => listing.len(),
        };
        // Offsets 1 and 2 stand behind the two dots, all others behind a name.
        for at in usize::try_from(offset).unwrap_or(usize::MAX)..length + 2 {
            let next = at as i64 + 1;
            let full = match at {
                0 => reply.add(ino, next, FileType::Directory, "."),
                1 => reply.add(self.inodes.parent(ino), next, FileType::Directory, ".."),
                _ => match folder {
                    OpenFolder::MadeUp(names) => {
                        let (ino, kind, name) = &names[at - 2];
                        reply.add(*ino, next, *kind, OsStr::from_bytes(name))
                    }
                    OpenFolder::Stored { inode, listing } => {
                        let node = &listing[at - 2];
                        let path = join(&inode.path, &node.name);
                        let ino = self.inodes.of_node(inode.snapshot, &path, node);
                        reply.add(ino, next, attributes::kind(node), OsStr::from_bytes(&node.name))
                    }
                },
            };
            if full {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&mut self, _: &Request<'_>, _: u64, handle: u64, _: i32, reply: ReplyEmpty) {
        self.folders.remove(&handle);
        reply.ok();
    }

    fn statfs(&mut self, _: &Request<'_>, _: u64, reply: ReplyStatfs) {
        // No room and no inodes to be had: `df` shows it as full, copying into it fails early.
        reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096);
    }

    fn getxattr(&mut self, _: &Request<'_>, ino: u64, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = self.node(ino).ok().and_then(|node| {
            let wanted = |(have, _): &&(Vec<u8>, Vec<u8>)| have.as_slice() == name.as_bytes();
            node.meta.xattrs.iter().find(wanted).map(|(_, value)| value.as_slice())
        });
        match value {
            Some(value) => give(value, size, reply),
            None => reply.error(number(Errno::NODATA)),
        }
    }

    fn listxattr(&mut self, _: &Request<'_>, ino: u64, size: u32, reply: ReplyXattr) {
        let mut names = Vec::new();
        if let Ok(node) = self.node(ino) {
            for (name, _) in &node.meta.xattrs {
                names.extend_from_slice(name);
                names.push(0);
            }
        }
        give(&names, size, reply);
    }
}

/// Answers with an attribute, or with its length if that was the question.
fn give(value: &[u8], size: u32, reply: ReplyXattr) {
    match size as usize {
        0 => reply.size(value.len() as u32),
        room if room < value.len() => reply.error(number(Errno::RANGE)),
        _ => reply.data(value),
    }
}
