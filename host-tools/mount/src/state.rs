//! What the file system knows, shared by the thread that answers the kernel and those that wait for the disk. Locks are
//! held for looking things up in memory only.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{FUSE_ROOT_ID, FileAttr, FileType};
use mailkeep_mailview::MailViewError;
use mailkeep_restorer::format::{Meta, Node, NodeKind};
use mailkeep_restorer::path::join;
use mailkeep_restorer::{Listing, OpenFile, RestoreError};
use rustix::io::Errno;

use crate::attributes;
use crate::inodes::{Behind, Inode, Inodes, Known, Place, SNAPSHOTS, link_to, linked};
use crate::mail::{MailFolders, uid_of};
use crate::mail_rooms::MailRooms;
use crate::pool::Pool;
use crate::ready::Request;
use crate::shown::{Held, Shown};

/// Before the path of whatever is made up in the mail of a snapshot: no path of a server has a NUL.
const MAIL: &[u8] = b"\0mail";
/// The folder of a snapshot's mail; the second name where the server has the first one itself.
const MAIL_NAMES: [&[u8]; 2] = [b"mail", b"mail.view"];
/// The link to the newest snapshot.
pub(crate) const LATEST: &[u8] = b"latest";
/// How long the kernel may keep names and attributes without asking again. Snapshots never change.
pub(crate) const KEEP: Duration = Duration::from_secs(3600);
/// Extended attribute with the flags of a message, parted by blanks.
const FLAGS: &[u8] = b"user.mailkeep.flags";
/// Folders in each other that are listed before somebody comes there.
const DEPTH_AHEAD: usize = 8;
/// Longest folder that is, in bytes as it is stored: some ten thousand names.
const LISTED_AHEAD: u64 = 1 << 20;
/// Files of which it is kept where their chunks begin: the kernel does not tell when one is opened or closed. A large one
/// takes 40 bytes for each 64 KiB.
const KEPT_FILES: usize = 64;

/// A folder that is being listed.
pub(crate) enum OpenFolder {
    MadeUp(Vec<(u64, FileType, Vec<u8>)>),
    Stored { ino: u64, inode: Inode, listing: Listing },
}

impl OpenFolder {
    pub(crate) fn len(&self) -> usize {
        match self {
            OpenFolder::MadeUp(names) => names.len(),
            OpenFolder::Stored { listing, .. } => listing.len(),
        }
    }
}

/// What was found under a name.
pub(crate) struct FoundName {
    pub(crate) ino: u64,
    pub(crate) attr: FileAttr,
    pub(crate) behind: Behind,
}

/// A node of a snapshot, by itself or in the listing of its folder.
pub(crate) enum FoundNode {
    Own(Arc<Node>),
    Listed(Listing, usize),
}

impl Deref for FoundNode {
    type Target = Node;

    fn deref(&self) -> &Node {
        match self {
            FoundNode::Own(node) => node,
            FoundNode::Listed(listing, index) => &listing[*index],
        }
    }
}

/// A file that is being read.
pub(crate) struct Reading {
    pub(crate) file: OpenFile,
    pub(crate) snapshot: usize,
}

pub(crate) struct State {
    pub(crate) snapshots: Shown,
    rooms: MailRooms,
    tables: Mutex<Tables>,
    owner: (u32, u32),
}

#[derive(Default)]
struct Tables {
    inodes: Inodes,
    /// The files read last; the newest last.
    files: VecDeque<(u64, Arc<Reading>)>,
    folders: HashMap<u64, Arc<OpenFolder>>,
    last_handle: u64,
}

impl State {
    pub(crate) fn new(snapshots: Shown) -> Self {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        State { snapshots, rooms: MailRooms::new(), tables: Mutex::default(), owner }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A folder that the kernel knows.
    pub(crate) fn inode(&self, ino: u64) -> Option<Inode> {
        self.tables().inodes.own(ino).cloned()
    }

    /// The node behind a number that the kernel knows. May wait for the disk.
    pub(crate) fn node(&self, ino: u64) -> Result<FoundNode, Errno> {
        let known = self.tables().inodes.get(ino).ok_or(Errno::STALE)?;
        self.node_of(&known)
    }

    /// As [`State::node`], if nothing has to be waited for.
    pub(crate) fn node_at_hand(&self, ino: u64) -> Option<Result<FoundNode, Errno>> {
        match self.tables().inodes.get(ino) {
            None => Some(Err(Errno::STALE)),
            Some(known) => node_at_hand(&known).map(Ok),
        }
    }

    fn node_of(&self, known: &Known) -> Result<FoundNode, Errno> {
        if let Some(node) = node_at_hand(known) {
            return Ok(node);
        }
        let Known::Listed(folder, place) = known else { return Err(Errno::STALE) };
        let listing = folder.view.list(&folder.path, &folder.node);
        let listing = listing.map_err(|error| self.told(folder.snapshot, &error))?;
        in_listing(listing, *place).ok_or(Errno::STALE)
    }

    pub(crate) fn parent(&self, ino: u64) -> u64 {
        self.tables().inodes.parent(ino)
    }

    /// The kernel is about to be given this.
    pub(crate) fn refer(&self, found: FoundName) {
        self.tables().inodes.refer(found.ino, found.behind);
    }

    pub(crate) fn forget(&self, ino: u64, count: u64) {
        self.tables().inodes.forget(ino, count);
    }

    pub(crate) fn keep_folder(&self, folder: OpenFolder) -> u64 {
        let mut tables = self.tables();
        tables.last_handle += 1;
        let handle = tables.last_handle;
        tables.folders.insert(handle, Arc::new(folder));
        handle
    }

    pub(crate) fn folder(&self, handle: u64) -> Option<Arc<OpenFolder>> {
        self.tables().folders.get(&handle).cloned()
    }

    pub(crate) fn drop_folder(&self, handle: u64) {
        self.tables().folders.remove(&handle);
    }

    /// A file for reading. May wait for the disk.
    pub(crate) fn file(&self, ino: u64) -> Result<Arc<Reading>, Errno> {
        let known = match self.kept_file(ino) {
            Ok(file) => return Ok(file),
            Err(known) => known.ok_or(Errno::STALE)?,
        };
        let node = self.node_of(&known)?;
        Ok(self.open(ino, &known, &node))
    }

    /// As [`State::file`], if nothing has to be waited for.
    pub(crate) fn file_at_hand(&self, ino: u64) -> Option<Arc<Reading>> {
        match self.kept_file(ino) {
            Ok(file) => Some(file),
            Err(known) => {
                let known = known?;
                let node = node_at_hand(&known)?;
                Some(self.open(ino, &known, &node))
            }
        }
    }

    /// A file that was read a moment ago, else what is known of its number.
    fn kept_file(&self, ino: u64) -> Result<Arc<Reading>, Option<Known>> {
        let tables = self.tables();
        match tables.files.iter().rev().find(|(known, _)| *known == ino) {
            Some((_, file)) => Ok(Arc::clone(file)),
            None => Err(tables.inodes.get(ino)),
        }
    }

    fn open(&self, ino: u64, known: &Known, node: &Node) -> Arc<Reading> {
        let reading = match known {
            Known::Own(own) => Reading { file: own.view.open(&own.path, node), snapshot: own.snapshot },
            Known::Listed(folder, _) => {
                let file = folder.view.open(&join(&folder.path, &node.name), node);
                Reading { file, snapshot: folder.snapshot }
            }
        };
        let reading = Arc::new(reading);
        let mut tables = self.tables();
        tables.files.push_back((ino, Arc::clone(&reading)));
        if tables.files.len() > KEPT_FILES {
            tables.files.pop_front();
        }
        reading
    }

    /// Reads a part of a file where it may wait.
    pub(crate) fn read_aside(self: &Arc<Self>, pool: &Pool, ino: u64, request: Request) {
        let state = Arc::clone(self);
        pool.run(move || {
            let Request { offset, size, reply } = request;
            let reading = match state.file(ino) {
                Ok(reading) => reading,
                Err(error) => return reply.error(error.raw_os_error()),
            };
            match reading.file.read_at(offset, size as usize) {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(state.told(reading.snapshot, &error).raw_os_error()),
            }
        });
    }

    /// Where the file with this number stands; `None` for a message of the mail view, and for what stands too far back.
    pub(crate) fn place(&self, ino: u64) -> Option<Place> {
        self.tables().inodes.place(ino)
    }

    /// The folder with files that a program comes to when it goes through everything and is done with this one, if the
    /// kernel knows it already. Lists it, and what lies on the way; may wait for the disk.
    pub(crate) fn folder_after(&self, ino: u64) -> Option<u64> {
        let mut inode = self.inode(ino)?;
        let (mut number, mut folder) = loop {
            let number = inode.parent;
            // The root of a snapshot has none of its own.
            let parent = self.inode(number)?;
            let siblings = parent.view.list(&parent.path, &parent.node).ok()?;
            let name = inode.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let behind = siblings.partition_point(|node| node.name.as_slice() <= name);
            if let Some(next) = (behind..siblings.len()).find(|index| siblings[*index].is_directory()) {
                break self.below(number, &parent, &siblings, next);
            }
            inode = parent;
        };
        for _ in 0..DEPTH_AHEAD {
            let length: u64 = folder.node.content().iter().map(|chunk| u64::from(chunk.length)).sum();
            if length > LISTED_AHEAD {
                return None;
            }
            let listing = folder.view.list(&folder.path, &folder.node).ok()?;
            if listing.iter().any(Node::is_file) {
                return self.inode(number).map(|_| number);
            }
            let first = listing.iter().position(Node::is_directory)?;
            (number, folder) = self.below(number, &folder, &listing, first);
        }
        None
    }

    /// The folder that stands at `index` of another one, also if the kernel does not know it; with its number.
    fn below(&self, number: u64, folder: &Inode, listing: &Listing, index: usize) -> (u64, Inode) {
        let node = &listing[index];
        let path = join(&folder.path, &node.name).into();
        let below = Inode { path, node: Arc::new(node.clone()), parent: number, ..folder.clone() };
        (self.number(number, folder, listing, index), below)
    }

    pub(crate) fn id(&self, snapshot: usize) -> Arc<str> {
        self.snapshots.get(snapshot).map_or_else(|| "?".into(), |held| held.id)
    }

    pub(crate) fn made_up(&self, ino: u64) -> Option<FileAttr> {
        if let Some(place) = linked(ino) {
            let snapshot = self.snapshots.get(place)?;
            let mut attr = attributes::made_up(ino, FileType::Symlink, snapshot.time, self.owner);
            (attr.size, attr.nlink) = (target(&snapshot).len() as u64, 1);
            return Some(attr);
        }
        let time = self.snapshots.newest().map_or(0, |newest| newest.time);
        let is_ours = ino == FUSE_ROOT_ID || ino == SNAPSHOTS;
        is_ours.then(|| attributes::made_up(ino, FileType::Directory, time, self.owner))
    }

    /// Where a link of ours leads to.
    pub(crate) fn target(&self, ino: u64) -> Option<String> {
        Some(target(&self.snapshots.get(linked(ino)?)?))
    }

    /// How long the kernel may keep a name with this number, and what it was told of it: which snapshot is the newest is to
    /// be asked again when there may be news.
    pub(crate) fn keep(&self, ino: u64) -> Duration {
        match linked(ino) {
            Some(_) => self.snapshots.fresh_for().unwrap_or_default().min(KEEP),
            None => KEEP,
        }
    }

    /// Whether what is asked of a folder is about mail, which may have to be made first.
    pub(crate) fn is_mail(&self, ino: u64) -> bool {
        self.tables().inodes.own(ino).is_some_and(|inode| inode.path.starts_with(MAIL))
    }

    fn root_of(&self, snapshot: &Held) -> FoundName {
        let mut node = snapshot.view.root().clone();
        node.meta.mtime.seconds = snapshot.time;
        node.meta.ctime.seconds = snapshot.time;
        (node.meta.uid, node.meta.gid) = self.owner;
        let (view, node) = (Arc::clone(&snapshot.view), Arc::new(node));
        let ino = self.tables().inodes.of_snapshot(snapshot.place);
        let attr = attributes::of_node(ino, &node);
        let inode = Inode { view, snapshot: snapshot.place, path: (*b"/").into(), node, parent: SNAPSHOTS };
        FoundName { ino, attr, behind: Behind::Own(inode) }
    }

    /// The name of the folder with a snapshot's mail, if `folder` is the root of a snapshot that has mail.
    fn mail_name(&self, folder: &Inode) -> Option<&'static [u8]> {
        if *folder.path != *b"/" || !self.snapshots.get(folder.snapshot).is_some_and(|held| held.has_mail) {
            return None;
        }
        let is_taken = |name: &[u8]| !matches!(folder.view.child(b"/", &folder.node, name), Ok(None));
        MAIL_NAMES.into_iter().find(|name| !is_taken(name))
    }

    fn mail(&self, folder: &Inode) -> Result<(Held, Arc<MailFolders>), Errno> {
        let held = self.snapshots.get(folder.snapshot).ok_or(Errno::STALE)?;
        let tree = self.rooms.tree(&held).map_err(|error| tell_mail(&held.id, &error))?;
        Ok((held, tree))
    }

    fn of_mail(&self, snapshot: usize, path: &[u8]) -> u64 {
        self.tables().inodes.of_mail(snapshot, path)
    }

    /// A made-up folder in the mail of a snapshot.
    fn mail_folder(&self, within: &Inode, path: Vec<u8>, parent: u64) -> FoundName {
        let ino = self.of_mail(within.snapshot, &path);
        let time = self.snapshots.get(within.snapshot).map_or(0, |held| held.time);
        let mut meta =
            Meta { mode: 0o555, links: 1, uid: self.owner.0, gid: self.owner.1, ..Meta::default() };
        (meta.mtime.seconds, meta.ctime.seconds) = (time, time);
        let kind = NodeKind::Directory { content: Vec::new() };
        let node = Arc::new(Node { name: Vec::new(), meta, kind });
        let attr = attributes::of_node(ino, &node);
        let inode = Inode { node, path: path.into(), parent, ..within.clone() };
        FoundName { ino, attr, behind: Behind::Own(inode) }
    }

    /// Finds a level of a mailbox' name, or a message.
    fn find_mail(&self, folder: &Inode, parent: u64, name: &[u8]) -> Result<FoundName, Errno> {
        let (held, mail) = self.mail(folder)?;
        let here = mail.folder(mail_path(&folder.path)).ok_or(Errno::NOENT)?;
        let path = [&folder.path[..], b"/", name].concat();
        if here.below.contains(name) {
            return Ok(self.mail_folder(folder, path, parent));
        }
        let (Some(number), Some(uid)) = (here.mailbox, uid_of(name)) else { return Err(Errno::NOENT) };
        let told = |error: MailViewError| tell_mail(&held.id, &error);
        let opened = self.rooms.mailbox(&held, &mail, number).map_err(told)?.ok_or(Errno::NOENT)?;
        let mailbox = mail.mailbox(number).ok_or(Errno::NOENT)?;
        let found = mailbox.file(&mail.files, &opened.records, uid).map_err(told)?;
        let (message, file, mut node) = found.ok_or(Errno::NOENT)?;
        let ino = self.of_mail(folder.snapshot, &path);
        node.meta.links = 1;
        node.meta.mtime.seconds = message.internal_date;
        node.meta.mtime.nanos = 0;
        if message.flags.is_some() {
            node.meta.xattrs.push((FLAGS.to_vec(), message.flag_names().join(" ").into_bytes()));
        }
        let attr = attributes::of_node(ino, &node);
        let inode = Inode { node: Arc::new(node), path: file.into(), parent, ..folder.clone() };
        Ok(FoundName { ino, attr, behind: Behind::Own(inode) })
    }

    /// Lists a level of a mailbox' name: the levels below, then the messages.
    fn list_mail(&self, folder: &Inode) -> Result<OpenFolder, Errno> {
        let (held, mail) = self.mail(folder)?;
        let here = mail.folder(mail_path(&folder.path)).ok_or(Errno::NOENT)?;
        let ino = |name: &[u8]| self.of_mail(folder.snapshot, &[&folder.path[..], b"/", name].concat());
        let mut names: Vec<(u64, FileType, Vec<u8>)> =
            here.below.iter().map(|name| (ino(name), FileType::Directory, name.clone())).collect();
        if let Some(number) = here.mailbox {
            let told = |error: MailViewError| tell_mail(&held.id, &error);
            let opened = self.rooms.mailbox(&held, &mail, number).map_err(told)?.ok_or(Errno::NOENT)?;
            let mailbox = mail.mailbox(number).ok_or(Errno::NOENT)?;
            let uids = mailbox.uids(&mail.files, &opened.records).map_err(told)?;
            names.reserve(uids.len());
            for uid in uids {
                let name = format!("{uid}.eml").into_bytes();
                names.push((ino(&name), FileType::RegularFile, name));
            }
        }
        Ok(OpenFolder::MadeUp(names))
    }

    /// What has this name in a folder. May wait for the disk.
    pub(crate) fn find(&self, parent: u64, name: &[u8]) -> Result<FoundName, Errno> {
        let made_up = |ino| {
            let found = self.made_up(ino).map(|attr| FoundName { ino, attr, behind: Behind::Fixed });
            found.ok_or(Errno::NOENT)
        };
        match (parent, name) {
            (FUSE_ROOT_ID, b"snapshots") => return made_up(SNAPSHOTS),
            (FUSE_ROOT_ID, LATEST) => {
                self.snapshots.refresh();
                let newest = self.snapshots.newest().ok_or(Errno::NOENT)?;
                return made_up(link_to(newest.place));
            }
            (FUSE_ROOT_ID, _) => return Err(Errno::NOENT),
            (SNAPSHOTS, _) => {
                if self.snapshots.find(name).is_none() {
                    self.snapshots.refresh();
                }
                return self.snapshots.find(name).map(|held| self.root_of(&held)).ok_or(Errno::NOENT);
            }
            _ => {}
        }
        let folder = self.inode(parent).ok_or(Errno::STALE)?;
        if folder.path.starts_with(MAIL) {
            return self.find_mail(&folder, parent, name);
        }
        if MAIL_NAMES.contains(&name) && self.mail_name(&folder) == Some(name) {
            return Ok(self.mail_folder(&folder, MAIL.to_vec(), parent));
        }
        let listing = folder.view.list(&folder.path, &folder.node);
        let listing = listing.map_err(|error| self.told(folder.snapshot, &error))?;
        let index =
            listing.binary_search_by(|node| node.name.as_slice().cmp(name)).map_err(|_| Errno::NOENT)?;
        Ok(self.of_stored(parent, &folder, &listing, index))
    }

    /// What stands at `index` of a folder that was stored.
    pub(crate) fn of_stored(
        &self,
        parent: u64,
        folder: &Inode,
        listing: &Listing,
        index: usize,
    ) -> FoundName {
        let node = &listing[index];
        let path = join(&folder.path, &node.name);
        let (ino, place) = self.tables().inodes.of_node(folder.snapshot, &path, node, parent, index);
        let behind = match place {
            Some(place) => Behind::Listed(place),
            None => Behind::Own(Inode {
                path: path.into(),
                node: Arc::new(node.clone()),
                parent,
                ..folder.clone()
            }),
        };
        FoundName { ino, attr: attributes::of_node(ino, node), behind }
    }

    /// The number of what stands at `index` of a folder that was stored.
    pub(crate) fn number(&self, parent: u64, folder: &Inode, listing: &Listing, index: usize) -> u64 {
        let node = &listing[index];
        let path = join(&folder.path, &node.name);
        self.tables().inodes.of_node(folder.snapshot, &path, node, parent, index).0
    }

    /// As [`State::list`], if it was listed a moment ago.
    pub(crate) fn list_at_hand(&self, ino: u64) -> Option<OpenFolder> {
        let inode = self.inode(ino)?;
        // What is made up, or has something made up in it, may have to be waited for.
        if *inode.path == *b"/" || inode.path.starts_with(MAIL) {
            return None;
        }
        let listing = inode.view.list_at_hand(&inode.node)?;
        Some(OpenFolder::Stored { ino, inode, listing })
    }

    /// What lies in a folder. May wait for the disk.
    pub(crate) fn list(&self, ino: u64) -> Result<OpenFolder, Errno> {
        let folder = FileType::Directory;
        if ino == SNAPSHOTS || ino == FUSE_ROOT_ID {
            self.snapshots.refresh();
        }
        Ok(match ino {
            FUSE_ROOT_ID => {
                let mut names = vec![(SNAPSHOTS, folder, b"snapshots".to_vec())];
                if let Some(newest) = self.snapshots.newest() {
                    names.push((link_to(newest.place), FileType::Symlink, LATEST.to_vec()));
                }
                OpenFolder::MadeUp(names)
            }
            SNAPSHOTS => {
                let held = self.snapshots.all();
                let tables = self.tables();
                let name = |held: &Held| {
                    (tables.inodes.of_snapshot(held.place), folder, held.id.as_bytes().to_vec())
                };
                OpenFolder::MadeUp(held.iter().map(name).collect())
            }
            _ => {
                let inode = self.inode(ino).ok_or(Errno::STALE)?;
                if inode.path.starts_with(MAIL) {
                    return self.list_mail(&inode);
                }
                let listing = inode.view.list(&inode.path, &inode.node);
                let listing = listing.map_err(|error| self.told(inode.snapshot, &error))?;
                if let Some(name) = self.mail_name(&inode) {
                    let stored = |(index, node): (usize, &Node)| {
                        let number = self.number(ino, &inode, &listing, index);
                        (number, attributes::kind(node), node.name.clone())
                    };
                    let mut names: Vec<_> = listing.iter().enumerate().map(stored).collect();
                    names.push((self.of_mail(inode.snapshot, MAIL), folder, name.to_vec()));
                    return Ok(OpenFolder::MadeUp(names));
                }
                OpenFolder::Stored { ino, inode, listing }
            }
        })
    }

    /// Turns an error into what programs see, and says in the log which file it is about.
    pub(crate) fn told(&self, snapshot: usize, error: &RestoreError) -> Errno {
        tell(&self.id(snapshot), error)
    }
}

/// Where a link to a snapshot leads to, seen from the mount's root.
fn target(snapshot: &Held) -> String {
    format!("snapshots/{}", snapshot.id)
}

fn node_at_hand(known: &Known) -> Option<FoundNode> {
    match known {
        Known::Own(inode) => Some(FoundNode::Own(Arc::clone(&inode.node))),
        Known::Listed(folder, place) => in_listing(folder.view.list_at_hand(&folder.node)?, *place),
    }
}

fn in_listing(listing: Listing, place: Place) -> Option<FoundNode> {
    let index = place.index as usize;
    (index < listing.len()).then_some(FoundNode::Listed(listing, index))
}

pub(crate) fn tell(snapshot: &str, error: &RestoreError) -> Errno {
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
