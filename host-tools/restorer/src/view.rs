//! A read-only view over one snapshot: find a path, list a folder, read a range of a file.
//!
//! A folder is a stream of its nodes ([`View::nodes`]), so that walking a snapshot takes memory for its depth only. Who
//! comes back to a folder again and again (a mount) lists it ([`View::list`]): listings are kept in a cache of bounded
//! size. Nothing here knows FUSE or the repository.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mailkeep_format::{ChunkRef, Meta, Node, NodeKind};

use crate::contents::Nodes;
use crate::path::{join, parts, show};
use crate::{Contents, RestoreError, limits};

/// A folder's nodes in ascending order of their names.
pub type Listing = Arc<Vec<Node>>;

/// One snapshot, read-only. Cheap to clone; clones share their cache.
#[derive(Clone)]
pub struct View {
    contents: Arc<dyn Contents>,
    root: Node,
    cache: Arc<Mutex<Cache>>,
}

impl View {
    /// The snapshot whose root directory is stored in `root`.
    pub fn new(contents: Arc<dyn Contents>, root: Vec<ChunkRef>) -> Self {
        let meta = Meta { mode: 0o755, links: 1, ..Meta::default() };
        let root = Node { name: Vec::new(), meta, kind: NodeKind::Directory { content: root } };
        View { contents, root, cache: Arc::default() }
    }

    /// Another snapshot of the same contents, sharing this view's cache: many snapshots, one bound on memory.
    pub fn sibling(&self, root: Vec<ChunkRef>) -> View {
        let cache = Arc::clone(&self.cache);
        View { cache, ..View::new(Arc::clone(&self.contents), root) }
    }

    /// The root folder: a node without a name and without metadata of its own.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Where the bytes come from.
    pub fn contents(&self) -> &dyn Contents {
        self.contents.as_ref()
    }

    /// Lists the folder `node`, which stands at `path` (used in errors only).
    ///
    /// # Errors
    /// Not a folder, or it cannot be read.
    pub fn list(&self, path: &[u8], node: &Node) -> Result<Listing, RestoreError> {
        let NodeKind::Directory { content } = &node.kind else {
            return Err(RestoreError::NotDirectory { path: show(path) });
        };
        if let Some(listing) = self.cache().get(content) {
            return Ok(listing);
        }
        let nodes = self
            .contents
            .tree(content)
            .map_err(|source| RestoreError::Unreadable { path: show(path), source })?;
        let listing = Arc::new(nodes);
        self.cache().put(content, &listing);
        Ok(listing)
    }

    /// As [`View::list`], only if the listing is in the cache.
    pub fn list_at_hand(&self, node: &Node) -> Option<Listing> {
        match &node.kind {
            NodeKind::Directory { content } => self.cache().get(content),
            _ => None,
        }
    }

    /// The nodes of the folder `node`, which stands at `path` (used in errors only), read as they are asked for.
    ///
    /// # Errors
    /// Not a folder.
    pub fn nodes(&self, path: &[u8], node: &Node) -> Result<Nodes<'_>, RestoreError> {
        match &node.kind {
            NodeKind::Directory { content } => Ok(self.contents.nodes(content)),
            _ => Err(RestoreError::NotDirectory { path: show(path) }),
        }
    }

    /// Finds one name in the folder `parent`, which stands at `path`.
    ///
    /// # Errors
    /// As [`View::list`]; a name that is not there is `Ok(None)`.
    pub fn child(&self, path: &[u8], parent: &Node, name: &[u8]) -> Result<Option<Node>, RestoreError> {
        let listing = self.list(path, parent)?;
        let found = listing.binary_search_by(|node| node.name.as_slice().cmp(name)).ok();
        Ok(found.map(|index| listing[index].clone()))
    }

    /// As [`View::child`], without keeping a listing.
    fn seek(&self, path: &[u8], parent: &Node, name: &[u8]) -> Result<Option<Node>, RestoreError> {
        if self.cache().get(parent.content()).is_some() {
            return self.child(path, parent, name);
        }
        for node in self.nodes(path, parent)? {
            let node = node.map_err(|source| RestoreError::Unreadable { path: show(path), source })?;
            match node.name.as_slice().cmp(name) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(Some(node)),
                std::cmp::Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// Finds the node at an absolute path. Symbolic links are not followed.
    ///
    /// # Errors
    /// Not there, or a folder on the way cannot be read.
    pub fn lookup(&self, path: &[u8]) -> Result<Node, RestoreError> {
        let mut node = self.root.clone();
        let mut at = b"/".to_vec();
        for name in parts(path) {
            let next = self.seek(&at, &node, name)?;
            at = join(&at, name);
            node = next.ok_or_else(|| RestoreError::NotFound { path: show(&at) })?;
        }
        Ok(node)
    }

    /// Opens a file for reads at any place; `path` is used in errors only. Anything but a file is empty.
    pub fn open(&self, path: &[u8], node: &Node) -> OpenFile {
        let mut ends = Vec::with_capacity(node.content().len());
        let mut end = 0u64;
        let chunks = if node.is_file() { node.content() } else { &[] };
        for chunk in chunks {
            end += u64::from(chunk.length);
            ends.push(end);
        }
        OpenFile { contents: Arc::clone(&self.contents), path: show(path), chunks: chunks.to_vec(), ends }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is being read. Holds where its chunks begin, never their bytes.
pub struct OpenFile {
    contents: Arc<dyn Contents>,
    path: String,
    chunks: Vec<ChunkRef>,
    /// `ends[i]` is the offset behind chunk `i`.
    ends: Vec<u64>,
}

impl OpenFile {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads up to `length` bytes from `offset` on; fewer only at the end of the file.
    ///
    /// # Errors
    /// A chunk in the range cannot be read.
    pub fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, RestoreError> {
        let (stop, pieces) = self.pieces(offset, length);
        let mut bytes = Vec::with_capacity(stop.saturating_sub(offset) as usize);
        for (chunk, within) in pieces {
            self.contents
                .chunk(chunk, &mut |plain| {
                    bytes.extend_from_slice(plain.get(within.clone()).unwrap_or_default())
                })
                .map_err(|source| RestoreError::Unreadable { path: self.path.clone(), source })?;
        }
        Ok(bytes)
    }

    /// As [`OpenFile::read_at`] into `bytes`, only if nothing of it has to be waited for; whether it was.
    pub fn read_at_hand(&self, offset: u64, length: usize, bytes: &mut Vec<u8>) -> bool {
        bytes.clear();
        self.pieces(offset, length).1.all(|(chunk, within)| {
            let mut take =
                |plain: &[u8]| bytes.extend_from_slice(plain.get(within.clone()).unwrap_or_default());
            self.contents.at_hand(chunk, &mut take)
        })
    }

    /// Where a read ends, and which part of which chunk it is made of.
    fn pieces(&self, offset: u64, length: usize) -> (u64, impl Iterator<Item = (&ChunkRef, Range<usize>)>) {
        let stop = self.len().min(offset.saturating_add(length as u64));
        let first = self.ends.partition_point(|end| *end <= offset);
        let pieces = self.chunks.iter().zip(&self.ends).skip(first).map_while(move |(chunk, end)| {
            let length = u64::from(chunk.length);
            let begin = end - length;
            let within =
                offset.saturating_sub(begin) as usize..(stop.saturating_sub(begin)).min(length) as usize;
            (begin < stop).then_some((chunk, within))
        });
        (stop, pieces)
    }
}

/// Listings used last, up to a total number of nodes.
#[derive(Default)]
struct Cache {
    listings: HashMap<Vec<ChunkRef>, Listing>,
    /// Keys in the order they were last put or found, oldest first.
    order: VecDeque<Vec<ChunkRef>>,
    nodes: usize,
}

impl Cache {
    fn get(&mut self, content: &[ChunkRef]) -> Option<Listing> {
        let listing = self.listings.get(content).cloned()?;
        if self.order.back().is_none_or(|last| last != content) {
            self.order.retain(|key| key != content);
            self.order.push_back(content.to_vec());
        }
        Some(listing)
    }

    fn put(&mut self, content: &[ChunkRef], listing: &Listing) {
        if self.listings.insert(content.to_vec(), Arc::clone(listing)).is_none() {
            self.order.push_back(content.to_vec());
            self.nodes += listing.len();
        }
        while self.order.len() > 1
            && (self.nodes > limits::CACHED_NODES || self.order.len() > limits::CACHED_LISTINGS)
        {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(listing) = self.listings.remove(&oldest) {
                self.nodes -= listing.len();
            }
        }
    }
}
