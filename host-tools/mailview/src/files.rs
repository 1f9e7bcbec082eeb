//! The files of a snapshot by the paths that they had on the server, symbolic links followed.
//!
//! Folders are read as streams. Of those looked at last everything but the message files is kept, also over several
//! snapshots: a folder that did not change is decoded once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use mailkeep_mail::cyrus::message_uid;
use mailkeep_restorer::format::{ChunkRef, Node, NodeKind};
use mailkeep_restorer::path::{join, parts, show};
use mailkeep_restorer::{Nodes, RestoreError, View};

use crate::limits;

/// What a folder has beside its messages.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// In ascending order of names, without message files.
    pub(crate) nodes: Vec<Node>,
    /// Message files.
    pub(crate) messages: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl Folder {
    /// A file in it by its name.
    pub(crate) fn file(&self, name: &[u8]) -> Option<&Node> {
        let index = self.nodes.binary_search_by(|node| node.name.as_slice().cmp(name)).ok()?;
        self.nodes.get(index).filter(|node| node.is_file())
    }
}

/// One snapshot's files. Cheap to clone; clones and siblings share what is kept.
#[derive(Clone)]
pub struct Files {
    view: View,
    kept: Arc<Mutex<Kept>>,
}

impl Files {
    /// The files of the snapshot that `view` shows.
    pub fn new(view: View) -> Self {
        Files { view, kept: Arc::default() }
    }

    /// Another snapshot of the same repository.
    pub fn sibling(&self, root: Vec<ChunkRef>) -> Files {
        Files { view: self.view.sibling(root), kept: Arc::clone(&self.kept) }
    }

    /// The view below.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The folder `node`, which stands at `path` (used in errors only).
    pub(crate) fn folder(&self, path: &[u8], node: &Node) -> Result<Arc<Folder>, RestoreError> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = lock().get(node.content()) {
            return Ok(folder);
        }
        let mut folder = Folder::default();
        for node in self.view.nodes(path, node)? {
            let node = node.map_err(|source| RestoreError::Unreadable { path: show(path), source })?;
            if node.is_file() && message_uid(&node.name).is_some() {
                folder.messages += 1;
                folder.bytes = folder.bytes.saturating_add(node.size());
            } else {
                folder.nodes.push(node);
            }
        }
        let folder = Arc::new(folder);
        lock().put(node.content(), &folder);
        Ok(folder)
    }

    /// What has this name in a folder.
    fn child(&self, path: &[u8], node: &Node, name: &[u8]) -> Result<Option<Node>, RestoreError> {
        if message_uid(name).is_none() {
            let folder = self.folder(path, node)?;
            let index = folder.nodes.binary_search_by(|node| node.name.as_slice().cmp(name)).ok();
            return Ok(index.and_then(|index| folder.nodes.get(index)).cloned());
        }
        for node in self.view.nodes(path, node)? {
            let node = node.map_err(|source| RestoreError::Unreadable { path: show(path), source })?;
            if node.name.as_slice() >= name {
                return Ok((node.name == name).then_some(node));
            }
        }
        Ok(None)
    }

    /// What lies at `path` after all links; `None` if nothing does.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Option<Node>, RestoreError> {
        let mut links = 0;
        let mut rest: VecDeque<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
        let mut way: Vec<(Vec<u8>, Node)> = vec![(b"/".to_vec(), self.view.root().clone())];
        while let Some(name) = rest.pop_front() {
            if name == b"." {
                continue;
            }
            if name == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let Some((at, here)) = way.last() else { return Ok(None) };
            let Some(node) = self.child(at, here, &name)? else { return Ok(None) };
            match &node.kind {
                NodeKind::Symlink { target } => {
                    links += 1;
                    if links > limits::LINKS_FOLLOWED {
                        return Ok(None);
                    }
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    for name in parts(target).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(name.to_vec());
                    }
                }
                NodeKind::Directory { .. } => way.push((join(at, &name), node)),
                _ if rest.is_empty() => return Ok(Some(node)),
                _ => return Ok(None),
            }
        }
        Ok(way.pop().map(|(_, node)| node))
    }

    /// A small file; `None` if it is not there, is no file, or is longer than `most` bytes.
    pub(crate) fn read(&self, path: &[u8], most: usize) -> Result<Option<Vec<u8>>, RestoreError> {
        match self.find(path)?.filter(|node| node.is_file() && node.size() <= most as u64) {
            Some(node) => self.bytes(path, &node).map(Some),
            None => Ok(None),
        }
    }

    /// All bytes of a file that was found.
    pub(crate) fn bytes(&self, path: &[u8], node: &Node) -> Result<Vec<u8>, RestoreError> {
        let mut bytes = Vec::new();
        self.pieces(path, node, &mut |piece| {
            bytes.extend_from_slice(piece);
            true
        })?;
        Ok(bytes)
    }

    /// The bytes of a file, piece by piece, until `take` has seen enough.
    pub(crate) fn pieces(
        &self,
        path: &[u8],
        node: &Node,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), RestoreError> {
        let mut wanted = true;
        for chunk in node.content() {
            self.view
                .contents()
                .chunk(chunk, &mut |bytes| wanted = take(bytes))
                .map_err(|source| RestoreError::Unreadable { path: show(path), source })?;
            if !wanted {
                break;
            }
        }
        Ok(())
    }

    /// The nodes of a folder by its path, as a stream; none if there is no such folder.
    pub(crate) fn nodes(&self, path: &[u8]) -> Result<Nodes<'_>, RestoreError> {
        match self.find(path)? {
            Some(node) if node.is_directory() => self.view.nodes(path, &node),
            _ => Ok(Box::new(std::iter::empty())),
        }
    }
}

/// The folders that were looked at last.
#[derive(Default)]
struct Kept {
    folders: HashMap<Vec<ChunkRef>, Arc<Folder>>,
    order: VecDeque<Vec<ChunkRef>>,
    weight: usize,
}

impl Kept {
    fn get(&self, content: &[ChunkRef]) -> Option<Arc<Folder>> {
        self.folders.get(content).cloned()
    }

    fn put(&mut self, content: &[ChunkRef], folder: &Arc<Folder>) {
        if self.folders.insert(content.to_vec(), Arc::clone(folder)).is_some() {
            return;
        }
        self.weight += folder.nodes.len() + 1;
        self.order.push_back(content.to_vec());
        while self.weight > limits::KEPT_NODES && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(gone) = self.folders.remove(&oldest) {
                self.weight -= gone.nodes.len() + 1;
            }
        }
    }
}
