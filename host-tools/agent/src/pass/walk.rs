//! The traversal: depth first, names sorted by their bytes, every directory listed whole before its children.
//!
//! Outside of the roots only the names on the way to them are listed, with their real metadata. Within a root the
//! profile decides; what it excludes is not listed, what it empties is listed and not entered.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailkeep_format::cut::CutStyle;
use mailkeep_format::limits::DEPTH_MAX;
use mailkeep_format::{Node, NodeKind};
use mailkeep_link::limits::{ENTRIES_BYTES, ENTRIES_NODES};
use mailkeep_link::message::{DirectoryId, Entries, FileId, Hint, Problem, ToBox};
use mailkeep_mail::{FileClass, Profile};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::ledger::{Aborted, Candidate, Ledger, Piece};
use super::read::Say;
use crate::dir::{Directory, XattrTrouble, Xattrs};
use crate::error::AgentError;
use crate::meta::{self, Facts};
use crate::plan::{Plan, Stop};

/// Numbers of the owners that were seen.
#[derive(Debug, Default)]
pub(crate) struct OwnerNumbers {
    pub(crate) users: BTreeSet<u32>,
    pub(crate) groups: BTreeSet<u32>,
}

/// What a walk leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) owners: OwnerNumbers,
    /// The directories within the roots as they were just before they were listed.
    pub(crate) watched: Vec<Watched>,
}

/// A directory as it was; its path is that of its parent and its name.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) parent: Option<u32>,
    pub(crate) name: Box<[u8]>,
    pub(crate) facts: Facts,
}

/// A traversal.
pub(crate) struct Walk<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) plan: &'a Plan,
    pub(crate) ledger: &'a Ledger,
    pub(crate) say: &'a dyn Say,
    pub(crate) is_final: bool,
}

/// A directory to enter.
struct Child<'a> {
    name: Vec<u8>,
    place: FileId,
    stop: Option<&'a Stop>,
    /// What the profile calls it; `None` outside of the roots.
    profile_path: Option<PathBuf>,
}

/// A directory that is being walked.
struct Level<'a> {
    directory: Arc<Directory>,
    path: PathBuf,
    watched: Option<u32>,
    children: std::vec::IntoIter<Child<'a>>,
}

/// A directory that is being listed.
struct Listing<'a> {
    id: DirectoryId,
    parent: Option<FileId>,
    directory: Arc<Directory>,
    device: u64,
    path: PathBuf,
    profile_path: Option<PathBuf>,
    stop: Option<&'a Stop>,
    depth: usize,
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

impl<'a> Walk<'a> {
    /// Walks everything.
    pub(crate) fn run(&self) -> Result<Result<Walked, AgentError>, Aborted> {
        let root = match Directory::open(Path::new("/")) {
            Ok(root) => root,
            Err(error) => return Ok(Err(AgentError::Open { path: "/".into(), source: error.into() })),
        };
        for (path, named_by) in &self.plan.missing {
            self.problem(&format!("it is named by {named_by} and not there"), path, true)?;
        }
        let mut walked = Walked::default();
        let mut next_id = 0;
        let mut stack: Vec<Level<'a>> = Vec::new();
        let profile_path = self.plan.top.root.clone();
        let top = Listing {
            id: DirectoryId(0),
            parent: None,
            device: root.stat_self().map(|stat| Facts::of(&stat).device).unwrap_or(0),
            directory: Arc::new(root),
            path: PathBuf::from("/"),
            profile_path,
            stop: Some(&self.plan.top),
            depth: 0,
        };
        stack.push(self.enter(top, None, b"/", &mut walked)?);
        while let Some(level) = stack.last_mut() {
            let Some(child) = level.children.next() else {
                stack.pop();
                continue;
            };
            next_id += 1;
            let id = DirectoryId(next_id);
            let path = level.path.join(OsStr::from_bytes(&child.name));
            let instead = child.stop.and_then(|stop| stop.instead.as_deref());
            let opened = match instead {
                Some(instead) => Directory::open(instead),
                None => level.directory.open_child(&child.name),
            };
            let directory = match opened {
                Ok(directory) => directory,
                Err(error) => {
                    self.not_entered(id, child.place, &path, error)?;
                    continue;
                }
            };
            let watched_parent = level.watched;
            let listing = Listing {
                id,
                parent: Some(child.place),
                device: directory.stat_self().map(|stat| Facts::of(&stat).device).unwrap_or(0),
                directory: Arc::new(directory),
                path,
                profile_path: child.profile_path,
                stop: child.stop,
                depth: stack.len(),
            };
            let level = self.enter(listing, watched_parent, &child.name, &mut walked)?;
            stack.push(level);
        }
        Ok(Ok(walked))
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
                self.ledger.fail(AgentError::Open { path: "/".into(), source: error.into() });
                return Err(Aborted);
            }
        };
        let piece = Piece { directory, files: Vec::new(), cost: 1 };
        self.ledger.announce_piece(id, 0, piece)?;
        let empty = Entries {
            directory: id,
            parent: Some(place),
            first: 0,
            last: true,
            nodes: vec![],
            hints: vec![],
        };
        self.say.say(ToBox::Entries(empty))
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
        if self.is_final && !virtual_place {
            if let Ok(stat) = listing.directory.stat_self() {
                // Above the roots other things may change; they are only kept as the way to what is below.
                let facts = Facts::of(&stat);
                let unwatched = Facts { mtime: Default::default(), ctime: Default::default(), ..facts };
                let facts = if listing.profile_path.is_some() { facts } else { unwatched };
                watched = u32::try_from(walked.watched.len()).ok();
                walked.watched.push(Watched { parent: watched_parent, name: name.into(), facts });
            }
        }
        let names = self.names(&listing, virtual_place)?;
        let mut filling = Filling::default();
        let mut children = Vec::new();
        for name in names {
            self.add(&listing, name, &mut filling, &mut children, &mut walked.owners)?;
        }
        self.send(&listing, &mut filling, true)?;
        let Listing { directory, path, .. } = listing;
        Ok(Level { directory, path, watched, children: children.into_iter() })
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

    /// Looks at one name and adds it to the piece.
    fn add(
        &self,
        listing: &Listing<'a>,
        name: Vec<u8>,
        filling: &mut Filling,
        children: &mut Vec<Child<'a>>,
        owners: &mut OwnerNumbers,
    ) -> Result<(), Aborted> {
        let stop = listing.stop.and_then(|stop| stop.children.get(&name));
        let path = || listing.path.join(OsStr::from_bytes(&name));
        let looked = match stop.and_then(|stop| stop.instead.as_deref()) {
            Some(instead) => Directory::open(instead).and_then(|directory| directory.stat_self()),
            None => listing.directory.stat(&name),
        };
        let stat = match looked {
            Ok(stat) => stat,
            // Gone since the listing. In the final pass the directory's changed time tells.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => {
                let why = io::Error::from(error);
                return self.problem(&format!("cannot stat it: {why}"), &path(), true);
            }
        };
        let is_dir = meta::file_type(&stat) == FileType::Directory;
        let stop_root = stop.and_then(|stop| stop.root.clone());
        let profile_path = stop_root
            .or_else(|| listing.profile_path.as_ref().map(|path| path.join(OsStr::from_bytes(&name))));
        let class = match &profile_path {
            Some(path) => self.profile.classify(path, is_dir),
            None => FileClass::Mutable,
        };
        let class = match class {
            // It is wanted by name, or leads to what is.
            FileClass::Exclude if stop.is_some() => FileClass::Mutable,
            FileClass::Exclude => return Ok(()),
            FileClass::ExcludeContents if stop.is_some_and(|stop| !stop.children.is_empty()) => {
                FileClass::Mutable
            }
            class => class,
        };
        let Some((node, hint)) = self.node(listing, &name, &stat, class, &path)? else {
            return Ok(());
        };
        let index = filling.first + filling.nodes.len() as u32;
        if hint == Hint::Descend {
            let place = FileId { directory: listing.id, index };
            children.push(Child { name: name.clone(), place, stop, profile_path });
        }
        if node.is_file() {
            let style = if hint == Hint::Message { CutStyle::Message } else { CutStyle::Plain };
            filling.files.push(Candidate { index, name, style });
        }
        owners.users.insert(stat.st_uid);
        owners.groups.insert(stat.st_gid);
        let weight = weight(&node);
        let full = filling.nodes.len() >= ENTRIES_NODES || filling.bytes + weight > ENTRIES_BYTES;
        if full && !filling.nodes.is_empty() {
            // This file's candidate belongs to the next piece.
            let moved = node.is_file().then(|| filling.files.pop()).flatten();
            self.send(listing, filling, false)?;
            filling.files.extend(moved);
        }
        filling.bytes += weight;
        filling.nodes.push(node);
        filling.hints.push(hint);
        Ok(())
    }

    fn node(
        &self,
        listing: &Listing<'a>,
        name: &[u8],
        stat: &Stat,
        class: FileClass,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<Option<(Node, Hint)>, Aborted> {
        if meta::file_type(stat) == FileType::RegularFile {
            let hint = if class == FileClass::Message { Hint::Message } else { Hint::Plain };
            let kind = meta::file_kind(stat, Facts::of(stat).size);
            let node = Node { name: name.to_vec(), meta: meta::meta_of(stat, Vec::new()), kind };
            return Ok(Some((node, hint)));
        }
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
        let xattrs = self.xattrs(listing, name, &path())?;
        Ok(Some((Node { name: name.to_vec(), meta: meta::meta_of(stat, xattrs), kind }, hint)))
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
        let mounted = Facts::of(stat).device != listing.device;
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
        let cost = piece.nodes.len().max(1);
        let (directory, files) = (Arc::clone(&listing.directory), piece.files);
        self.ledger.announce_piece(listing.id, piece.first, Piece { directory, files, cost })?;
        self.say.say(ToBox::Entries(Entries {
            directory: listing.id,
            parent: listing.parent,
            first: piece.first,
            last,
            nodes: piece.nodes,
            hints: piece.hints,
        }))
    }

    fn problem(&self, what: &str, path: &Path, missing: bool) -> Result<(), Aborted> {
        let path = path.display().to_string();
        self.say.say(ToBox::Problem(Problem { what: what.to_owned(), path, missing }))
    }
}

/// About as many bytes as the node takes in a message.
fn weight(node: &Node) -> usize {
    let xattrs: usize = node.meta.xattrs.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let target = if let NodeKind::Symlink { target } = &node.kind { target.len() } else { 0 };
    80 + node.name.len() + xattrs + target
}
