//! Files that are restored together, so that each block their contents lie in is read and opened once.
//!
//! A file is complete when the last of the blocks that have a piece of it went by. Until then it waits under its
//! temporary name, open or set aside, so the number of files that a batch has begun costs no descriptors.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mailkeep_format::{ChunkRef, Node};
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
    pub(crate) task: Task,
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
    Open(Part),
    Aside(Aside),
    /// Complete, or given up.
    Ended,
}

impl Filling {
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn end(self) -> (Task, State) {
        (self.task, self.progress.into_inner().unwrap_or_else(PoisonError::into_inner).state)
    }
}

/// Names that are made together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) files: Vec<Filling>,
    /// Files without contents, made when all others are.
    pub(crate) empty: Vec<Task>,
    /// Further names of files of this batch or of one before it.
    pub(crate) links: Vec<Task>,
    pub(crate) chunks: Vec<ChunkRef>,
    pub(crate) groups: Vec<Gathered>,
    /// For each chunk its file, and where it begins in it.
    homes: Vec<(u32, u64)>,
    /// Held from when it is handed to the workers until nothing of it is left.
    pub(crate) pass: Option<Pass>,
    folders: usize,
    last_folder: Option<Arc<Folder>>,
}

impl Batch {
    /// Whether it is time to carry it out: what it holds is bounded in memory, and so are the folders it keeps open.
    pub(crate) fn is_full(&self) -> bool {
        self.files.len() + self.empty.len() + self.links.len() >= limits::BATCH_FILES
            || self.chunks.len() >= limits::BATCH_CHUNKS
            || self.folders >= limits::BATCH_FOLDERS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.empty.is_empty() && self.links.is_empty()
    }

    pub(crate) fn add_file(&mut self, task: Task) {
        self.count_folder(&task);
        let content = task.node.content();
        if content.is_empty() {
            self.empty.push(task);
            return;
        }
        let file = self.files.len() as u32;
        let mut offset = 0;
        for chunk in content {
            self.homes.push((file, offset));
            offset += u64::from(chunk.length);
        }
        self.chunks.extend_from_slice(content);
        let progress = Mutex::new(Progress { blocks_left: 0, state: State::Untouched });
        self.files.push(Filling { task, progress });
    }

    pub(crate) fn add_link(&mut self, task: Task) {
        self.count_folder(&task);
        self.links.push(task);
    }

    /// Files come folder by folder, so a change of folder is a new one but for the way back up.
    fn count_folder(&mut self, task: &Task) {
        if self.last_folder.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &task.folder)) {
            self.folders += 1;
            self.last_folder = Some(Arc::clone(&task.folder));
        }
    }

    /// Finds the blocks that everything lies in.
    pub(crate) fn gather(&mut self, contents: &dyn Contents) {
        self.last_folder = None;
        self.groups = contents.gather(&self.chunks);
        let mut seen = vec![usize::MAX; self.files.len()];
        for (number, group) in self.groups.iter().enumerate() {
            for index in group.indexes() {
                let file = self.homes[index as usize].0 as usize;
                if std::mem::replace(&mut seen[file], number) != number {
                    let progress = self.files[file].progress.get_mut();
                    progress.unwrap_or_else(PoisonError::into_inner).blocks_left += 1;
                }
            }
        }
    }

    /// The file that a chunk belongs to, and where the chunk begins in it.
    pub(crate) fn home(&self, index: u32) -> (u32, u64) {
        self.homes[index as usize]
    }
}
