//! The traversal: depth first, names sorted by their bytes, every directory listed whole before its children.
//!
//! Outside of the roots only the names on the way to them are listed, with their real metadata. Within a root the
//! profile decides; what it excludes is not listed, what it empties is listed and not entered. A folder that has not
//! changed since the box knew it is not listed: only what in it may change without it is looked at.

mod looks;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use mailkeep_format::limits::DEPTH_MAX;
use mailkeep_format::{Node, NodeKind, Timestamp};
use mailkeep_link::limits::{ENTRIES_BYTES, ENTRIES_NODES};
use mailkeep_link::message::{DirectoryId, Entries, FileId, Hint, Problem, ToBox};
use mailkeep_mail::{FileClass, Profile};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::journal::Journal;
use super::known::KnownFolders;
use super::ledger::{Aborted, Candidate};
use super::memory::Memory;
use crate::dir::{Directory, XattrTrouble, Xattrs};
use crate::error::AgentError;
use crate::limits;
use crate::meta::{self, Facts};
use crate::plan::{KeptTree, Plan, Stop};
use crate::snapshot;

/// Inode number of the empty directory that stands in a btrfs snapshot where a subvolume was
/// (`BTRFS_EMPTY_SUBVOL_DIR_OBJECTID`). No file has it: the first one is 256.
const EMPTY_SUBVOLUME: u64 = 2;

/// Where a walk goes with what it finds.
pub(crate) trait Sink {
    /// A piece of a directory: what is said of it, and the regular files in it.
    fn piece(&self, folder: &Folder<'_>, message: ToBox, files: Vec<Candidate>) -> Result<(), Aborted>;
    /// Something else that is said.
    fn say(&self, message: ToBox) -> Result<(), Aborted>;
    /// The walk cannot go on.
    fn fail(&self, error: AgentError);
}

/// The directory that a piece is of.
pub(crate) struct Folder<'a> {
    pub(crate) directory: &'a Arc<Directory>,
    pub(crate) path: &'a Path,
    /// From before anything in it was looked at.
    pub(crate) facts: Option<Facts>,
    /// Another directory stands in for the one that the path names.
    pub(crate) is_stand_in: bool,
}

/// Directories that a pass has looked at, as numbers made of path and inode.
#[derive(Debug, Default)]
pub(crate) struct FoldersSeen(HashSet<u64>);

impl FoldersSeen {
    fn number(path: &Path, inode: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (path.as_os_str(), inode).hash(&mut hasher);
        hasher.finish()
    }

    fn add(&mut self, path: &Path, inode: u64) {
        self.0.insert(Self::number(path, inode));
    }

    /// Whether a directory of this inode was looked at under this path.
    pub(crate) fn has(&self, path: &Path, inode: u64) -> bool {
        self.0.contains(&Self::number(path, inode))
    }
}

/// Numbers of the owners that were seen.
#[derive(Debug, Default)]
pub(crate) struct OwnerNumbers {
    pub(crate) users: BTreeSet<u32>,
    pub(crate) groups: BTreeSet<u32>,
}

impl OwnerNumbers {
    fn saw(&mut self, found: &Found<'_>) {
        self.users.insert(found.owner.0);
        self.groups.insert(found.owner.1);
    }
}

/// What a walk leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) owners: OwnerNumbers,
    /// The directories within the roots as they were just before they were listed.
    pub(crate) watched: Vec<Watched>,
    /// Of a live pass: all directories.
    pub(crate) folders: FoldersSeen,
    /// Of a live pass: the directories within the roots at which another file system or subvolume begins.
    pub(crate) borders: Vec<PathBuf>,
    /// Trees that are kept and were not entered.
    kept: Vec<Kept>,
    /// The number that the last directory got.
    last_id: u32,
    /// Of a live pass, by device: bytes of files, messages left out, that had changed not long before it.
    pub(crate) recent: HashMap<u64, u64>,
    /// What happens in folders since they were looked at.
    pub(crate) journal: Option<Journal>,
    /// Of a live pass: what it has seen.
    pub(crate) memory: Option<Memory>,
    /// The server's clock at the start.
    pub(crate) clock: Timestamp,
    /// How long it took, milliseconds.
    pub(crate) millis: u64,
}

impl Walked {
    fn saw(&mut self, found: &Found<'_>, device: u64, recent_from: Timestamp) {
        self.owners.saw(found);
        let (node, plain) = (&found.node, found.hint == Hint::Plain);
        if plain && node.is_file() && node.meta.ctime.max(node.meta.mtime) >= recent_from {
            let sum = self.recent.entry(device).or_default();
            *sum = sum.saturating_add(node.size());
        }
    }
}

/// A directory as it was; its path is that of its parent and its name.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) parent: Option<u32>,
    pub(crate) name: Box<[u8]>,
    pub(crate) facts: Facts,
}

/// A tree that was left for later.
#[derive(Debug)]
struct Kept {
    id: DirectoryId,
    place: FileId,
    path: PathBuf,
    profile_path: Option<PathBuf>,
    depth: usize,
    number: Option<u32>,
}

/// Which directories a walk enters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All but those that are kept somewhere ([`Stop::kept`]).
    Now,
    /// Those alone.
    Kept,
}

/// A traversal.
pub(crate) struct Walk<'a> {
    profile: &'a Profile,
    plan: &'a Plan,
    known: Option<&'a KnownFolders>,
    sink: &'a dyn Sink,
    is_final: bool,
    clock: Timestamp,
    recent_from: Timestamp,
    part: Part,
    /// By device: whether a directory's times tell of its names.
    trusted: RefCell<HashMap<u64, bool>>,
    /// What the profile calls the entry that is looked at.
    called: RefCell<PathBuf>,
    opened: Rc<()>,
    journal: RefCell<Option<Journal>>,
    /// Of a live pass: what it sees, for the final one.
    remembers: RefCell<Option<Memory>>,
    /// Of a final pass: what the live one saw.
    memory: Option<&'a Memory>,
    /// Of directories in there, whether they and all below them are as they were.
    still: RefCell<HashMap<u32, bool>>,
}

/// A directory to enter.
struct Child<'a> {
    name: Vec<u8>,
    place: FileId,
    stop: Option<&'a Stop>,
    /// What the profile calls it; `None` outside of the roots.
    profile_path: Option<PathBuf>,
    /// Itself, if it was opened when it was looked at.
    opened: Option<Opened>,
}

/// A directory that was opened when it was looked at.
struct Opened {
    directory: Directory,
    /// As many as there are of these are open.
    _one: Rc<()>,
}

/// A directory that is being walked.
struct Level<'a> {
    /// Under which number the live pass of this run knows it.
    number: Option<u32>,
    directory: Arc<Directory>,
    device: u64,
    path: PathBuf,
    watched: Option<u32>,
    children: std::vec::IntoIter<Child<'a>>,
}

/// A directory that is being listed.
struct Listing<'a> {
    id: DirectoryId,
    /// Under which number the live pass of this run knows it.
    number: Option<u32>,
    parent: Option<FileId>,
    directory: Arc<Directory>,
    /// From before anything in it was looked at; `None` if it could not be had.
    facts: Option<Facts>,
    path: PathBuf,
    profile_path: Option<PathBuf>,
    stop: Option<&'a Stop>,
    depth: usize,
    /// Directories in it that were opened when they were looked at.
    opened: Cell<usize>,
}

impl Listing<'_> {
    fn device(&self) -> u64 {
        self.facts.map_or(0, |facts| facts.device)
    }

    fn folder(&self) -> Folder<'_> {
        Folder {
            directory: &self.directory,
            path: &self.path,
            facts: self.facts,
            is_stand_in: self.stop.is_some_and(|stop| stop.instead.is_some()),
        }
    }
}

/// An entry that belongs to the copy.
struct Found<'a> {
    node: Node,
    hint: Hint,
    stop: Option<&'a Stop>,
    /// Of a directory.
    profile_path: Option<PathBuf>,
    /// Of a directory that is to be entered, perhaps.
    opened: Option<Opened>,
    owner: (u32, u32),
}

/// A piece that is being filled.
#[derive(Default)]
struct Filling {
    first: u32,
    nodes: Vec<Node>,
    hints: Vec<Hint>,
    files: Vec<Candidate>,
    bytes: usize,
}

impl Filling {
    /// Adds an entry under this index.
    fn push<'a>(&mut self, id: DirectoryId, index: u32, found: Found<'a>, children: &mut Vec<Child<'a>>) {
        let Found { node, hint, stop, profile_path, opened, .. } = found;
        if hint == Hint::Descend {
            let place = FileId { directory: id, index };
            children.push(Child { name: node.name.clone(), place, stop, profile_path, opened });
        }
        if node.is_file() {
            self.files.push(Candidate::new(index, &node, hint, None));
        }
        self.bytes += weight(&node);
        self.nodes.push(node);
        self.hints.push(hint);
    }
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        profile: &'a Profile,
        plan: &'a Plan,
        known: Option<&'a KnownFolders>,
        sink: &'a dyn Sink,
        is_final: bool,
        clock: Timestamp,
    ) -> Self {
        let recent_from = clock.minus_seconds(limits::RECENT_SECONDS);
        let (trusted, called, opened) = (RefCell::default(), RefCell::default(), Rc::default());
        let (part, journal) = (Part::Now, RefCell::default());
        let (remembers, memory, still) = (RefCell::default(), None, RefCell::default());
        Walk {
            profile,
            plan,
            known,
            sink,
            is_final,
            clock,
            recent_from,
            part,
            trusted,
            called,
            opened,
            journal,
            remembers,
            memory,
            still,
        }
    }

    /// The same with a journal: a live pass has it watch known folders, a final one believes it.
    pub(crate) fn with(mut self, journal: Option<Journal>) -> Self {
        self.journal = RefCell::new(journal);
        self
    }

    /// The same, which leaves behind what it has seen, for a final pass.
    pub(crate) fn remembering(self) -> Self {
        self.remembers.replace(Some(Memory::of(self.clock)));
        self
    }

    /// The same, of a final pass that speaks only of what may be another than the live one saw.
    pub(crate) fn recalling(self, memory: Option<&'a Memory>) -> Self {
        Walk { memory: memory.filter(|memory| memory.holds_at(self.clock)), ..self }
    }

    /// Walks everything but what is kept.
    pub(crate) fn run(&self) -> Result<Result<Walked, AgentError>, Aborted> {
        let root = match Directory::open(Path::new("/")) {
            Ok(root) => root,
            Err(error) => return Ok(Err(AgentError::Open { path: "/".into(), source: error.into() })),
        };
        for (path, named_by) in &self.plan.missing {
            self.problem(&format!("it is named by {named_by} and not there"), path, true)?;
        }
        self.journal.borrow_mut().iter_mut().for_each(Journal::listen);
        let mut walked = Walked { clock: self.clock, ..Walked::default() };
        let profile_path = self.plan.top.root.clone();
        let top = Listing {
            id: DirectoryId(0),
            number: Some(0),
            parent: None,
            facts: root.stat_self().ok().map(|stat| Facts::of(&stat)),
            directory: Arc::new(root),
            path: PathBuf::from("/"),
            profile_path,
            stop: Some(&self.plan.top),
            depth: 0,
            opened: Cell::default(),
        };
        let top = self.enter(top, None, b"/", &mut walked)?;
        self.descend(top, 0, &mut walked)?;
        walked.journal = self.journal.take();
        walked.memory = self.remembers.take();
        Ok(Ok(walked))
    }

    /// Goes on with what is kept.
    pub(crate) fn go_on(mut self, mut walked: Walked) -> Result<Walked, Aborted> {
        self.part = Part::Kept;
        self.journal = RefCell::new(walked.journal.take());
        for Kept { id, place, path, profile_path, depth, number } in std::mem::take(&mut walked.kept) {
            let stop = self.plan.top.find(&path);
            let opened =
                stop.and_then(|stop| stop.kept.as_ref()).ok_or(Errno::NOENT).and_then(KeptTree::open);
            let directory = match opened {
                Ok(directory) => directory,
                Err(error) => {
                    self.not_entered(id, place, &path, error)?;
                    continue;
                }
            };
            let listing = Listing {
                id,
                number,
                parent: Some(place),
                facts: directory.stat_self().ok().map(|stat| Facts::of(&stat)),
                directory: Arc::new(directory),
                path,
                profile_path,
                stop,
                depth,
                opened: Cell::default(),
            };
            let level = self.enter(listing, None, b"", &mut walked)?;
            self.descend(level, depth, &mut walked)?;
        }
        Ok(walked)
    }

    /// Walks what is below a directory that was listed.
    fn descend(&self, first: Level<'a>, depth: usize, walked: &mut Walked) -> Result<(), Aborted> {
        let mut stack = vec![first];
        while let Some(level) = stack.last_mut() {
            let Some(child) = level.children.next() else {
                stack.pop();
                continue;
            };
            walked.last_id += 1;
            let id = DirectoryId(walked.last_id);
            let number = self.number(level.number, &child.name, walked.last_id);
            let path = level.path.join(OsStr::from_bytes(&child.name));
            let instead = child.stop.and_then(|stop| stop.instead.as_deref());
            let kept = child.stop.and_then(|stop| stop.kept.as_ref());
            let depth = depth + stack.len();
            if kept.is_some() && self.part == Part::Now {
                let (place, profile_path) = (child.place, child.profile_path);
                walked.kept.push(Kept { id, place, path, profile_path, depth, number });
                continue;
            }
            let level = &stack[stack.len() - 1];
            let opened = match (instead, kept, child.opened) {
                (Some(instead), ..) => Directory::open(instead),
                (None, Some(kept), _) => kept.open(),
                (None, None, Some(opened)) => Ok(opened.directory),
                (None, None, None) => level.directory.open_child(&child.name),
            };
            let directory = match opened {
                Ok(directory) => directory,
                Err(error) => {
                    self.not_entered(id, child.place, &path, error)?;
                    continue;
                }
            };
            let watched_parent = level.watched;
            let facts = self.first_look(&directory, &path);
            let listing = Listing {
                id,
                number,
                parent: Some(child.place),
                facts,
                directory: Arc::new(directory),
                path,
                profile_path: child.profile_path,
                stop: child.stop,
                depth,
                opened: Cell::default(),
            };
            self.note_border(&listing, level, walked)?;
            let level = self.enter(listing, watched_parent, &child.name, walked)?;
            stack.push(level);
        }
        Ok(())
    }

    /// Notes where another file system or subvolume begins: a snapshot would end there.
    fn note_border(
        &self,
        listing: &Listing<'a>,
        above: &Level<'a>,
        walked: &mut Walked,
    ) -> Result<(), Aborted> {
        let Some(facts) = listing.facts.filter(|_| listing.profile_path.is_some()) else { return Ok(()) };
        if self.part == Part::Kept {
            if facts.inode == EMPTY_SUBVOLUME {
                let what = "a subvolume was made here after the last look; it is not in the snapshot of the file system";
                self.problem(what, &listing.path, true)?;
            }
        } else if !self.is_final && facts.device != above.device && walked.borders.len() < limits::BORDERS {
            walked.borders.push(listing.path.clone());
        }
        Ok(())
    }

    /// A directory that was announced and cannot be listed is empty in the copy.
    fn not_entered(&self, id: DirectoryId, place: FileId, path: &Path, error: Errno) -> Result<(), Aborted> {
        // Something else may stand there by now; while mail runs that is ordinary.
        let gone = matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP);
        if !gone || self.is_final {
            let why = io::Error::from(error);
            self.problem(&format!("cannot enter this directory: {why}"), path, true)?;
        }
        let directory = match Directory::open(Path::new("/")) {
            Ok(directory) => Arc::new(directory),
            Err(error) => {
                self.sink.fail(AgentError::Open { path: "/".into(), source: error.into() });
                return Err(Aborted);
            }
        };
        let empty = Entries {
            directory: id,
            parent: Some(place),
            first: 0,
            last: true,
            nodes: vec![],
            hints: vec![],
        };
        let folder = Folder { directory: &directory, path, facts: None, is_stand_in: false };
        self.sink.piece(&folder, ToBox::Entries(empty), Vec::new())
    }

    /// Lists a directory and returns it with the children to enter.
    fn enter(
        &self,
        listing: Listing<'a>,
        watched_parent: Option<u32>,
        name: &[u8],
        walked: &mut Walked,
    ) -> Result<Level<'a>, Aborted> {
        let virtual_place = listing.stop.is_some_and(|stop| stop.instead.is_some());
        let mut watched = None;
        if self.is_final && !virtual_place && self.part == Part::Now {
            if let Some(facts) = listing.facts {
                // Above the roots other things may change; they are only kept as the way to what is below.
                let unwatched = Facts { mtime: Default::default(), ctime: Default::default(), ..facts };
                let facts = if listing.profile_path.is_some() { facts } else { unwatched };
                watched = u32::try_from(walked.watched.len()).ok();
                walked.watched.push(Watched { parent: watched_parent, name: name.into(), facts });
            }
        }
        if let (false, Some(facts)) = (self.is_final, listing.facts) {
            walked.folders.add(&listing.path, facts.inode);
        }
        self.remember(&listing);
        let mut children = self.recalled(&listing, watched, walked)?;
        if children.is_none() {
            children = self.unchanged(&listing, walked)?;
        }
        if children.is_none() {
            children = self.amended(&listing, walked)?;
        }
        let children = match children {
            Some(children) => children,
            None => self.list(&listing, virtual_place, walked)?,
        };
        let device = listing.device();
        let Listing { directory, path, number, .. } = listing;
        Ok(Level { number, directory, device, path, watched, children: children.into_iter() })
    }

    /// Looks at all of a directory.
    fn list(
        &self,
        listing: &Listing<'a>,
        virtual_place: bool,
        walked: &mut Walked,
    ) -> Result<Vec<Child<'a>>, Aborted> {
        let names = self.names(listing, virtual_place)?;
        let mut filling = Filling::default();
        let mut children = Vec::new();
        for name in names {
            let Some(found) = self.look(listing, &name)? else { continue };
            self.saw(listing, &found, walked);
            let full =
                filling.nodes.len() >= ENTRIES_NODES || filling.bytes + weight(&found.node) > ENTRIES_BYTES;
            if full && !filling.nodes.is_empty() {
                self.send(listing, &mut filling, false)?;
            }
            let index = filling.first + filling.nodes.len() as u32;
            filling.push(listing.id, index, found, &mut children);
        }
        self.send(listing, &mut filling, true)?;
        Ok(children)
    }

    /// The names of a directory that are looked at, sorted.
    fn names(&self, listing: &Listing<'a>, all: bool) -> Result<Vec<Vec<u8>>, Aborted> {
        let on_the_way = || listing.stop.iter().flat_map(|stop| stop.children.keys().cloned());
        if listing.profile_path.is_none() && !all {
            return Ok(on_the_way().collect());
        }
        match listing.directory.names() {
            Ok(mut names) => {
                let more: Vec<_> = on_the_way().filter(|name| names.binary_search(name).is_err()).collect();
                names.extend(more);
                names.sort_unstable();
                Ok(names)
            }
            Err(error) => {
                let why = io::Error::from(error);
                self.problem(&format!("cannot list this directory: {why}"), &listing.path, true)?;
                Ok(Vec::new())
            }
        }
    }

    /// Looks at one name; `None` if it is gone or no part of the copy.
    fn look(&self, listing: &Listing<'a>, name: &[u8]) -> Result<Option<Found<'a>>, Aborted> {
        let stop = listing.stop.and_then(|stop| stop.children.get(name));
        let path = || listing.path.join(OsStr::from_bytes(name));
        let elsewhere = stop.and_then(|stop| match (&stop.instead, &stop.kept) {
            (Some(instead), _) => Some(Directory::open(instead)),
            (None, Some(kept)) => Some(kept.open()),
            (None, None) => None,
        });
        let looked = match elsewhere {
            Some(opened) => opened.and_then(|directory| directory.stat_self()),
            None => listing.directory.stat(name),
        };
        let stat = match looked {
            Ok(stat) => stat,
            // Gone since the listing. In the final pass the directory's changed time tells.
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => {
                let why = io::Error::from(error);
                self.problem(&format!("cannot stat it: {why}"), &path(), true)?;
                return Ok(None);
            }
        };
        let is_dir = meta::file_type(&stat) == FileType::Directory;
        if is_dir && name == snapshot::FOLDER.as_bytes() && snapshot::is_ours(&stat) {
            return Ok(None);
        }
        let stop_root = stop.and_then(|stop| stop.root.as_ref());
        let in_profile = stop_root.is_some() || listing.profile_path.is_some();
        let mut called = self.called.borrow_mut();
        called.as_mut_os_string().clear();
        match (stop_root, &listing.profile_path) {
            (Some(root), _) => called.push(root),
            (None, Some(above)) => {
                called.push(above);
                called.push(OsStr::from_bytes(name));
            }
            (None, None) => {}
        }
        let class = if in_profile { self.profile.classify(&called, is_dir) } else { FileClass::Mutable };
        let profile_path = (in_profile && is_dir).then(|| called.clone());
        drop(called);
        let class = match class {
            // It is wanted by name, or leads to what is.
            FileClass::Exclude if stop.is_some() => FileClass::Mutable,
            FileClass::Exclude => return Ok(None),
            FileClass::ExcludeContents if stop.is_some_and(|stop| !stop.children.is_empty()) => {
                FileClass::Mutable
            }
            class => class,
        };
        let owner = (stat.st_uid, stat.st_gid);
        if meta::file_type(&stat) == FileType::RegularFile {
            let hint = if class == FileClass::Message { Hint::Message } else { Hint::Plain };
            let kind = meta::file_kind(&stat, Facts::of(&stat).size);
            let node = Node { name: name.to_vec(), meta: meta::meta_of(&stat, Vec::new()), kind };
            return Ok(Some(Found { node, hint, stop, profile_path: None, opened: None, owner }));
        }
        let Some((mut node, hint)) = self.node(listing, name, &stat, class, &path)? else {
            return Ok(None);
        };
        let is_itself = stop.is_none_or(|stop| stop.instead.is_none() && stop.kept.is_none());
        let opened = if hint == Hint::Descend && is_itself { self.open_ahead(listing, name) } else { None };
        node.meta.xattrs = match opened.as_ref().map(|opened| opened.directory.xattrs_of_self()) {
            Some(Ok(xattrs)) => xattrs,
            _ => self.xattrs(listing, name, &path())?,
        };
        Ok(Some(Found { node, hint, stop, profile_path, opened, owner }))
    }

    /// Opens a directory that will be entered soon, if not too many are open.
    fn open_ahead(&self, listing: &Listing<'a>, name: &[u8]) -> Option<Opened> {
        let (of_one, of_all) = limits::OPENED_AHEAD;
        let count = listing.opened.get();
        if count >= of_one || Rc::strong_count(&self.opened) > of_all {
            return None;
        }
        let directory = listing.directory.open_child(name).ok()?;
        listing.opened.set(count + 1);
        Some(Opened { directory, _one: Rc::clone(&self.opened) })
    }

    /// What is no regular file, without its extended attributes.
    fn node(
        &self,
        listing: &Listing<'a>,
        name: &[u8],
        stat: &Stat,
        class: FileClass,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<Option<(Node, Hint)>, Aborted> {
        let target = if meta::file_type(stat) == FileType::Symlink {
            match listing.directory.link_target(name) {
                Ok(target) => Some(target),
                Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                Err(error) => {
                    let why = io::Error::from(error);
                    self.problem(&format!("cannot read where this link leads: {why}"), &path(), true)?;
                    return Ok(None);
                }
            }
        } else {
            None
        };
        let Some(kind) = meta::other_kind(stat, target) else {
            self.problem("it is of a kind that this version does not know", &path(), true)?;
            return Ok(None);
        };
        let hint = match kind {
            NodeKind::Directory { .. } => self.directory_hint(listing, name, stat, class, &path())?,
            _ => Hint::Plain,
        };
        Ok(Some((Node { name: name.to_vec(), meta: meta::meta_of(stat, Vec::new()), kind }, hint)))
    }

    fn directory_hint(
        &self,
        listing: &Listing<'a>,
        name: &[u8],
        stat: &Stat,
        class: FileClass,
        path: &Path,
    ) -> Result<Hint, Aborted> {
        if class == FileClass::ExcludeContents {
            return Ok(Hint::Emptied);
        }
        if listing.depth + 1 >= DEPTH_MAX {
            self.problem("directories are nested too deeply; what is below is left out", path, true)?;
            return Ok(Hint::Emptied);
        }
        let mounted = listing.facts.is_none_or(|own| Facts::of(stat).device != own.device);
        if mounted && listing.directory.open_child(name).is_ok_and(|directory| directory.is_pseudo()) {
            return Ok(Hint::Emptied);
        }
        Ok(Hint::Descend)
    }

    fn xattrs(&self, listing: &Listing<'a>, name: &[u8], path: &Path) -> Result<Xattrs, Aborted> {
        let what = match listing.directory.xattrs_of(name) {
            Ok(xattrs) => return Ok(xattrs),
            Err(XattrTrouble::Failed(Errno::NOENT)) => return Ok(Vec::new()),
            Err(XattrTrouble::TooLarge) => "its extended attributes are too large to be kept".to_owned(),
            Err(XattrTrouble::Failed(error)) => {
                format!("cannot read its extended attributes: {}", io::Error::from(error))
            }
        };
        self.problem(&what, path, true)?;
        Ok(Vec::new())
    }

    fn send(&self, listing: &Listing<'a>, filling: &mut Filling, last: bool) -> Result<(), Aborted> {
        let next = filling.first + filling.nodes.len() as u32;
        let piece = std::mem::take(filling);
        filling.first = next;
        let message = ToBox::Entries(Entries {
            directory: listing.id,
            parent: listing.parent,
            first: piece.first,
            last,
            nodes: piece.nodes,
            hints: piece.hints,
        });
        self.sink.piece(&listing.folder(), message, piece.files)
    }

    fn problem(&self, what: &str, path: &Path, missing: bool) -> Result<(), Aborted> {
        let path = path.display().to_string();
        self.sink.say(ToBox::Problem(Problem { what: what.to_owned(), path, missing }))
    }
}

/// About as many bytes as the node takes in a message.
fn weight(node: &Node) -> usize {
    let xattrs: usize = node.meta.xattrs.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let target = if let NodeKind::Symlink { target } = &node.kind { target.len() } else { 0 };
    80 + node.name.len() + xattrs + target
}
