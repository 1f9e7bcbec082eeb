//! Answers the kernel's requests from views of snapshots.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    FUSE_ROOT_ID, FileAttr, FileType, Filesystem, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use mailkeep_mailview::MailViewError;
use mailkeep_restorer::format::{Meta, Node, NodeKind};
use mailkeep_restorer::path::join;
use mailkeep_restorer::{Listing, OpenFile, RestoreError};
use rustix::io::Errno;

use crate::attributes;
use crate::inodes::{Inode, Inodes, LATEST, SNAPSHOTS};
use crate::mail::{MailFolders, Opened, uid_of};
use crate::pool::Pool;
use crate::shown::Shown;
use crate::snapshot::{News, Snapshot};

/// How long the kernel may keep names and attributes without asking again. Snapshots never change.
const KEEP: Duration = Duration::from_secs(3600);
/// Before the path of whatever is made up in the mail of a snapshot: no path of a server has a NUL.
const MAIL: &[u8] = b"\0mail";
/// The folder of a snapshot's mail; the second name where the server has the first one itself.
const MAIL_NAMES: [&[u8]; 2] = [b"mail", b"mail.view"];
/// Mail trees that are kept, a KiB for each of their mailboxes.
const KEPT_TREES: usize = 2;
/// Opened mailboxes that are kept, 70 bytes for each of their messages.
const KEPT_MAILBOXES: usize = 4;
/// Extended attribute with the flags of a message, parted by blanks.
const FLAGS: &[u8] = b"user.mailkeep.flags";

/// A folder that is being listed.
enum OpenFolder {
    MadeUp(Vec<(u64, FileType, Vec<u8>)>),
    Stored { inode: Inode, listing: Listing },
}

pub(crate) struct SnapshotFs {
    snapshots: Shown,
    /// The mail of snapshots looked at last, by their places; the newest last.
    trees: VecDeque<(usize, Arc<MailFolders>)>,
    /// The mailboxes looked at last, by snapshot and place in its tree; the newest last.
    opened: VecDeque<((usize, usize), Arc<Opened>)>,
    inodes: Inodes,
    files: HashMap<u64, Arc<OpenFile>>,
    folders: HashMap<u64, OpenFolder>,
    next_handle: u64,
    pool: Pool,
    owner: (u32, u32),
}

impl SnapshotFs {
    pub(crate) fn new(snapshots: Vec<Snapshot>, news: Option<News>, pool: Pool) -> Self {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (files, folders) = (HashMap::new(), HashMap::new());
        let (trees, opened) = (VecDeque::new(), VecDeque::new());
        let (snapshots, inodes) = (Shown::new(snapshots, news), Inodes::default());
        SnapshotFs { snapshots, trees, opened, inodes, files, folders, next_handle: 1, pool, owner }
    }

    fn newest(&self) -> Option<&Snapshot> {
        self.snapshots.newest()
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
        let (index, snapshot) = self.snapshots.find(name)?;
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

    /// The name of the folder with a snapshot's mail, if `folder` is the root of a snapshot that has mail.
    fn mail_name(&self, folder: &Inode) -> Option<&'static [u8]> {
        let has_mail = self.snapshots.get(folder.snapshot).is_some_and(|snapshot| snapshot.has_mail);
        if !has_mail || *folder.path != *b"/" {
            return None;
        }
        let is_taken = |name: &[u8]| !matches!(folder.view.child(b"/", &folder.node, name), Ok(None));
        MAIL_NAMES.into_iter().find(|name| !is_taken(name))
    }

    /// The mail of a snapshot.
    fn mail(&mut self, folder: &Inode) -> Result<Arc<MailFolders>, Errno> {
        let place = folder.snapshot;
        if let Some(at) = self.trees.iter().position(|(known, _)| *known == place) {
            if let Some(kept) = self.trees.remove(at) {
                self.trees.push_back(kept);
            }
        } else {
            let id = self.snapshots.get(place).map_or("?", |snapshot| &snapshot.id);
            let tree = MailFolders::of(folder.view.clone()).map_err(|error| tell_mail(id, &error))?;
            for problem in tree.problems() {
                tracing::error!(snapshot = id, "{problem}");
            }
            self.trees.push_back((place, Arc::new(tree)));
            while self.trees.len() > KEPT_TREES {
                self.trees.pop_front();
            }
        }
        self.trees.back().map(|(_, tree)| Arc::clone(tree)).ok_or(Errno::IO)
    }

    /// What the index of a mailbox says.
    fn open_mailbox(
        &mut self,
        mail: &MailFolders,
        folder: &Inode,
        number: usize,
    ) -> Result<Arc<Opened>, Errno> {
        let key = (folder.snapshot, number);
        if let Some(at) = self.opened.iter().position(|(known, _)| *known == key) {
            if let Some(kept) = self.opened.remove(at) {
                self.opened.push_back(kept);
            }
        } else {
            let mailbox = mail.mailbox(number).ok_or(Errno::NOENT)?;
            let records =
                mailbox.records(&mail.files).map_err(|error| self.told_mail(folder.snapshot, &error))?;
            self.opened.push_back((key, Arc::new(Opened { records })));
            while self.opened.len() > KEPT_MAILBOXES {
                self.opened.pop_front();
            }
        }
        self.opened.back().map(|(_, opened)| Arc::clone(opened)).ok_or(Errno::IO)
    }

    /// A made-up folder in the mail of a snapshot.
    fn mail_folder(&self, within: &Inode, path: Vec<u8>, parent: u64) -> (u64, Inode) {
        let ino = self.inodes.of_mail(within.snapshot, &path);
        let time = self.snapshots.get(within.snapshot).map_or(0, |snapshot| snapshot.time);
        let mut meta =
            Meta { mode: 0o555, links: 1, uid: self.owner.0, gid: self.owner.1, ..Meta::default() };
        (meta.mtime.seconds, meta.ctime.seconds) = (time, time);
        let kind = NodeKind::Directory { content: Vec::new() };
        let node = Arc::new(Node { name: Vec::new(), meta, kind });
        (ino, Inode { node, path: path.into(), parent, ..within.clone() })
    }

    /// Finds a level of a mailbox' name, or a message.
    fn find_mail(&mut self, folder: &Inode, parent: u64, name: &[u8]) -> Result<(u64, Inode), Errno> {
        let mail = self.mail(folder)?;
        let at = mail_path(&folder.path);
        let here = mail.folder(at).ok_or(Errno::NOENT)?;
        if here.below.contains(name) {
            let path = [&folder.path[..], b"/", name].concat();
            return Ok(self.mail_folder(folder, path, parent));
        }
        let (Some(number), Some(uid)) = (here.mailbox, uid_of(name)) else { return Err(Errno::NOENT) };
        let opened = self.open_mailbox(&mail, folder, number)?;
        let mailbox = mail.mailbox(number).ok_or(Errno::NOENT)?;
        let found = mailbox
            .file(&mail.files, &opened.records, uid)
            .map_err(|error| self.told_mail(folder.snapshot, &error))?;
        let (message, path, mut node) = found.ok_or(Errno::NOENT)?;
        let ino = self.inodes.of_mail(folder.snapshot, &[&folder.path[..], b"/", name].concat());
        node.meta.links = 1;
        node.meta.mtime.seconds = message.internal_date;
        node.meta.mtime.nanos = 0;
        if message.flags.is_some() {
            node.meta.xattrs.push((FLAGS.to_vec(), message.flag_names().join(" ").into_bytes()));
        }
        Ok((ino, Inode { node: Arc::new(node), path: path.into(), parent, ..folder.clone() }))
    }

    /// Lists a level of a mailbox' name: the levels below, then the messages.
    fn list_mail(&mut self, folder: &Inode) -> Result<OpenFolder, Errno> {
        let mail = self.mail(folder)?;
        let here = mail.folder(mail_path(&folder.path)).ok_or(Errno::NOENT)?;
        let ino =
            |name: &[u8]| self.inodes.of_mail(folder.snapshot, &[&folder.path[..], b"/", name].concat());
        let mut names: Vec<(u64, FileType, Vec<u8>)> =
            here.below.iter().map(|name| (ino(name), FileType::Directory, name.clone())).collect();
        if let Some(number) = here.mailbox {
            let opened = self.open_mailbox(&mail, folder, number)?;
            let mailbox = mail.mailbox(number).ok_or(Errno::NOENT)?;
            let uids = mailbox
                .uids(&mail.files, &opened.records)
                .map_err(|error| self.told_mail(folder.snapshot, &error))?;
            names.reserve(uids.len());
            for uid in uids {
                let name = format!("{uid}.eml").into_bytes();
                let path = [&folder.path[..], b"/", &name].concat();
                names.push((self.inodes.of_mail(folder.snapshot, &path), FileType::RegularFile, name));
            }
        }
        Ok(OpenFolder::MadeUp(names))
    }

    fn told_mail(&self, snapshot: usize, error: &MailViewError) -> Errno {
        tell_mail(self.snapshots.get(snapshot).map_or("?", |snapshot| &snapshot.id), error)
    }

    fn find(&mut self, parent: u64, name: &[u8]) -> Result<(u64, FileAttr, Option<Inode>), Errno> {
        if parent == SNAPSHOTS && self.snapshots.find(name).is_none() {
            self.snapshots.refresh();
        }
        if let Some(folder) = self.inodes.get(parent).cloned() {
            let made_up = if folder.path.starts_with(MAIL) {
                Some(self.find_mail(&folder, parent, name)?)
            } else if MAIL_NAMES.contains(&name) && self.mail_name(&folder) == Some(name) {
                Some(self.mail_folder(&folder, MAIL.to_vec(), parent))
            } else {
                None
            };
            if let Some((ino, inode)) = made_up {
                return Ok((ino, attributes::of_node(ino, &inode.node), Some(inode)));
            }
        }
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

    fn list(&mut self, ino: u64) -> Result<OpenFolder, Errno> {
        let folder = FileType::Directory;
        if ino == SNAPSHOTS || ino == FUSE_ROOT_ID {
            self.snapshots.refresh();
        }
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
                OpenFolder::MadeUp(self.snapshots.iter().map(name).collect())
            }
            _ => {
                let inode = self.inodes.get(ino).ok_or(Errno::STALE)?.clone();
                if inode.path.starts_with(MAIL) {
                    return self.list_mail(&inode);
                }
                let listing =
                    inode.view.list(&inode.path, &inode.node).map_err(|error| self.told(&inode, &error))?;
                if let Some(name) = self.mail_name(&inode) {
                    let stored = |node: &Node| {
                        let ino = self.inodes.of_node(inode.snapshot, &join(&inode.path, &node.name), node);
                        (ino, attributes::kind(node), node.name.clone())
                    };
                    let mut names: Vec<_> = listing.iter().map(stored).collect();
                    names.push((self.inodes.of_mail(inode.snapshot, MAIL), folder, name.to_vec()));
                    return Ok(OpenFolder::MadeUp(names));
                }
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

fn tell_mail(snapshot: &str, error: &MailViewError) -> Errno {
    match error {
        MailViewError::Snapshot(error) => tell(snapshot, error),
        MailViewError::NoMail | MailViewError::NoMailbox { .. } | MailViewError::NoMessage { .. } => {
            Errno::NOENT
        }
        _ => {
            tracing::error!(snapshot, "{error}");
            Errno::IO
        }
    }
}

/// The path of a made-up folder as the mail tree knows it.
fn mail_path(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(MAIL).unwrap_or_default();
    path.strip_prefix(b"/").unwrap_or(path)
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
            self.snapshots.refresh();
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
