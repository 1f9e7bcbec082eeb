//! Files that are restored together, so that each block their contents lie in is read and opened once.
//!
//! A file is complete when the last of the blocks that have a piece of it went by. Until then it waits under its
//! temporary name, open or set aside, so the number of files that a batch has begun costs no descriptors.
//!
//! The more files a batch has, the fewer blocks are opened for it again: what one mail shares with another lies anywhere.
//! So a file is kept in some 80 bytes, and 40 for each of its chunks: what files of a folder have in common is kept once,
//! and a node is made of it for as long as one is needed.

use std::mem::size_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mailkeep_format::{ChunkRef, Meta, Node, NodeKind, Timestamp};
use mailkeep_repository::Gathered;

use crate::decide::Existing;
use crate::folder::Folder;
use crate::gate::Pass;
use crate::links::Identity;
use crate::path::join;
use crate::place::{Aside, Part};
use crate::{Contents, limits};

/// A name that is to be made.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) folder: Arc<Folder>,
    pub(crate) node: Node,
    pub(crate) there: Option<Box<Existing>>,
    pub(crate) identity: Option<Identity>,
}

impl Task {
    pub(crate) fn path(&self) -> Vec<u8> {
        join(&self.folder.path, &self.node.name)
    }
}

/// A file whose contents come from the batch's blocks.
#[derive(Debug)]
pub(crate) struct Filling {
    folder: u32,
    look: u32,
    /// Where its name ends; it begins where the one before ends.
    name_end: u32,
    /// As `name_end`, of its chunks.
    chunks_end: u32,
    mtime: Timestamp,
    progress: Mutex<Progress>,
}

/// How far a file is.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Blocks that still have a piece of it.
    pub(crate) blocks_left: u32,
    pub(crate) state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    Untouched,
    Open(Box<Part>),
    Aside(Box<Aside>),
    /// Complete, or given up.
    Ended,
}

impl Filling {
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What files of a folder mostly have in common.
#[derive(Debug, PartialEq)]
struct Look {
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    sparse: bool,
    xattrs: mailkeep_format::node::Xattrs,
    identity: Option<Identity>,
    there: Option<Box<Existing>>,
}

/// A folder in which files of the batch are made.
#[derive(Debug)]
struct Place {
    /// Until the last of them has ended.
    folder: Mutex<Option<Arc<Folder>>>,
    left: AtomicU32,
}

impl Place {
    fn folder(&self) -> MutexGuard<'_, Option<Arc<Folder>>> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names that are made together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) files: Vec<Filling>,
    names: Vec<u8>,
    looks: Vec<Look>,
    places: Vec<Place>,
    /// Further names of files of this batch or of one before it.
    pub(crate) links: Vec<Task>,
    pub(crate) chunks: Vec<ChunkRef>,
    pub(crate) groups: Vec<Gathered>,
    /// For each chunk its file.
    homes: Vec<u32>,
    /// Held until nothing of it is left.
    pub(crate) pass: Option<Pass>,
    /// Bytes of memory that it takes beside its files and chunks.
    others: usize,
    folders: usize,
    last_folder: Option<Arc<Folder>>,
}

impl Batch {
    /// Whether it is time to carry it out: what it holds is bounded in memory, and so are the folders it keeps open.
    pub(crate) fn is_full(&self, folders: usize) -> bool {
        const FILE: usize = size_of::<Filling>();
        // Itself, its file, and where it lies.
        const CHUNK: usize = size_of::<ChunkRef>() + 4 + 8;
        self.files.len() * FILE + self.names.len() + self.chunks.len() * CHUNK + self.others
            >= limits::BATCH_BYTES
            || self.links.len() >= limits::BATCH_LINKS
            || self.folders >= folders
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.links.is_empty()
    }

    /// Adds a file that has contents.
    pub(crate) fn add_file(&mut self, task: Task) {
        self.count_folder(&task.folder);
        let Task { folder, node: Node { name, meta, kind }, there, identity } = task;
        let NodeKind::File { sparse, content, .. } = kind else { return };
        let Meta { mode, uid, gid, mtime, links, xattrs, .. } = meta;
        let look = Look { mode, uid, gid, links, sparse, xattrs, identity, there };
        if self.looks.last() != Some(&look) {
            self.others += size_of::<Look>() + look.there.as_ref().map_or(0, |_| size_of::<Existing>());
            self.others +=
                look.xattrs.iter().map(|(name, value)| 64 + name.len() + value.len()).sum::<usize>();
            self.looks.push(look);
        }
        let is_same = |place: &Place| place.folder().as_ref().is_some_and(|last| Arc::ptr_eq(last, &folder));
        if !self.places.last().is_some_and(is_same) {
            self.others += size_of::<Place>();
            self.places.push(Place { folder: Mutex::new(Some(folder)), left: AtomicU32::new(0) });
        }
        if let Some(place) = self.places.last_mut() {
            *place.left.get_mut() += 1;
        }
        let file = self.files.len() as u32;
        self.homes.resize(self.homes.len() + content.len(), file);
        let alone = content.iter().filter(|chunk| chunk.length >= limits::ALONE).count();
        self.others += alone * limits::BLOCK_BYTES;
        self.chunks.extend_from_slice(&content);
        self.names.extend_from_slice(&name);
        self.files.push(Filling {
            folder: self.places.len() as u32 - 1,
            look: self.looks.len() as u32 - 1,
            name_end: self.names.len() as u32,
            chunks_end: self.chunks.len() as u32,
            mtime,
            progress: Mutex::new(Progress { blocks_left: 0, state: State::Untouched }),
        });
    }

    pub(crate) fn add_link(&mut self, task: Task) {
        self.count_folder(&task.folder);
        self.others += size_of::<Task>() + task.node.name.len() + 32 * task.node.content().len();
        self.links.push(task);
    }

    /// Files come folder by folder, so a change of folder is a new one but for the way back up.
    fn count_folder(&mut self, folder: &Arc<Folder>) {
        if self.last_folder.as_ref().is_none_or(|last| !Arc::ptr_eq(last, folder)) {
            self.folders += 1;
            self.last_folder = Some(Arc::clone(folder));
        }
    }

    /// Finds the blocks that everything lies in.
    pub(crate) fn gather(&mut self, contents: &dyn Contents) {
        self.groups = contents.gather(&self.chunks);
        let mut seen = vec![u32::MAX; self.files.len()];
        for (number, group) in self.groups.iter().enumerate() {
            for index in group.indexes() {
                let file = self.homes[index as usize] as usize;
                if std::mem::replace(&mut seen[file], number as u32) != number as u32 {
                    let progress = self.files[file].progress.get_mut();
                    progress.unwrap_or_else(PoisonError::into_inner).blocks_left += 1;
                }
            }
        }
    }

    /// Lets go of what only adding needs.
    pub(crate) fn close(&mut self) {
        self.last_folder = None;
    }

    /// The number of the file that a chunk belongs to.
    pub(crate) fn home(&self, index: u32) -> u32 {
        self.homes[index as usize]
    }

    /// Where a chunk of a file begins in it.
    pub(crate) fn offset(&self, file: u32, index: u32) -> u64 {
        let (first, _) = self.range(file, |filling| filling.chunks_end);
        self.chunks[first..index as usize].iter().map(|chunk| u64::from(chunk.length)).sum()
    }

    /// The file of this number as something to be made; its node is without contents. `None` once it has ended.
    pub(crate) fn task(&self, file: u32) -> Option<Task> {
        let filling = &self.files[file as usize];
        let folder = self.places[filling.folder as usize].folder().clone()?;
        let look = &self.looks[filling.look as usize];
        let (start, end) = self.range(file, |filling| filling.name_end);
        let (first, last) = self.range(file, |filling| filling.chunks_end);
        let size = self.chunks[first..last].iter().map(|chunk| u64::from(chunk.length)).sum();
        let meta = Meta {
            mode: look.mode,
            uid: look.uid,
            gid: look.gid,
            mtime: filling.mtime,
            links: look.links,
            xattrs: look.xattrs.clone(),
            ..Meta::default()
        };
        let kind = NodeKind::File { size, sparse: look.sparse, content: Vec::new() };
        let node = Node { name: self.names[start..end].to_vec(), meta, kind };
        Some(Task { folder, node, there: look.there.clone(), identity: look.identity })
    }

    /// A file has ended, and nobody holds its task any more. Gives the folder if it was the last of the batch in it.
    pub(crate) fn ended(&self, file: u32) -> Option<Arc<Folder>> {
        let place = &self.places[self.files[file as usize].folder as usize];
        let last = place.left.fetch_sub(1, Ordering::AcqRel) == 1;
        if last { place.folder().take() } else { None }
    }

    fn range(&self, file: u32, end: impl Fn(&Filling) -> u32) -> (usize, usize) {
        let file = file as usize;
        let start = file.checked_sub(1).map_or(0, |before| end(&self.files[before]));
        (start as usize, end(&self.files[file]) as usize)
    }
}
