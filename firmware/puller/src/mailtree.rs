//! A copy as the mail check sees it: files by the absolute paths that they had on the server, symbolic links followed.

use std::collections::{HashMap, VecDeque};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use mailkeep_format::{ChunkRef, Node, NodeKind};
use mailkeep_mail::check::{EntryKind, MailTree, TreeEntry};
use mailkeep_repository::{Reader, RepositoryError};

use crate::limits::{CHECKED_FILE_MAX, LINKS_FOLLOWED_MAX, TREE_CACHE_NODES};

/// A snapshot's tree, sealed or about to be.
pub(crate) struct SnapshotTree {
    reader: Reader,
    root: Vec<ChunkRef>,
    cache: Directories,
}

impl SnapshotTree {
    /// The tree with this root.
    pub(crate) fn new(reader: Reader, root: Vec<ChunkRef>) -> Self {
        SnapshotTree { reader, root, cache: Directories::default() }
    }

    fn directory(&mut self, content: &[ChunkRef]) -> Result<Arc<Vec<Node>>, RepositoryError> {
        if let Some(nodes) = self.cache.get(content) {
            return Ok(nodes);
        }
        let nodes = Arc::new(self.reader.tree(content)?);
        self.cache.put(content, &nodes);
        Ok(nodes)
    }

    /// What lies at `path`, after all links; `None` if nothing does.
    fn find(&mut self, path: &Path) -> Result<Option<Found>, RepositoryError> {
        let mut links = 0;
        let mut rest: VecDeque<Vec<u8>> = names(path);
        let mut way: Vec<Vec<ChunkRef>> = vec![self.root.clone()];
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let Some(here) = way.last() else { return Ok(None) };
            let nodes = self.directory(&here.clone())?;
            let Ok(index) = nodes.binary_search_by(|node| node.name.as_slice().cmp(&name)) else {
                return Ok(None);
            };
            match &nodes[index].kind {
                NodeKind::Directory { content } => way.push(content.clone()),
                NodeKind::File { content, .. } if rest.is_empty() => {
                    return Ok(Some(Found::File(content.clone())));
                }
                NodeKind::Symlink { target } => {
                    links += 1;
                    if links > LINKS_FOLLOWED_MAX {
                        return Ok(None);
                    }
                    let target = PathBuf::from(std::ffi::OsStr::from_bytes(target));
                    if target.is_absolute() {
                        way.truncate(1);
                    }
                    for name in names(&target).into_iter().rev() {
                        rest.push_front(name);
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(way.pop().map(Found::Directory))
    }
}

enum Found {
    File(Vec<ChunkRef>),
    Directory(Vec<ChunkRef>),
}

fn names(path: &Path) -> VecDeque<Vec<u8>> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.as_bytes().to_vec()),
            Component::ParentDir => Some(b"..".to_vec()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

impl MailTree for SnapshotTree {
    type Error = RepositoryError;

    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, RepositoryError> {
        let Some(Found::File(content)) = self.find(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        for chunk in &content {
            if bytes.len() >= CHECKED_FILE_MAX {
                // No mail system has such a file; cut off it is no file of the kind that is looked for.
                break;
            }
            bytes.extend_from_slice(&self.reader.chunk(mailkeep_format::ChunkKind::Data, chunk)?);
        }
        Ok(Some(bytes))
    }

    fn list(&mut self, folder: &Path) -> Result<Option<Vec<TreeEntry>>, RepositoryError> {
        let Some(Found::Directory(content)) = self.find(folder)? else { return Ok(None) };
        let nodes = self.directory(&content)?;
        let entry = |node: &Node| TreeEntry {
            name: node.name.clone(),
            kind: match node.kind {
                NodeKind::File { .. } => EntryKind::File,
                NodeKind::Directory { .. } => EntryKind::Directory,
                _ => EntryKind::Other,
            },
            size: node.size(),
        };
        Ok(Some(nodes.iter().map(entry).collect()))
    }
}

/// The directories that were looked at last: a path is looked up from the root each time.
#[derive(Default)]
struct Directories {
    nodes: HashMap<Vec<ChunkRef>, Arc<Vec<Node>>>,
    order: VecDeque<Vec<ChunkRef>>,
    weight: usize,
}

impl Directories {
    fn get(&self, content: &[ChunkRef]) -> Option<Arc<Vec<Node>>> {
        self.nodes.get(content).cloned()
    }

    fn put(&mut self, content: &[ChunkRef], nodes: &Arc<Vec<Node>>) {
        self.weight += nodes.len() + 1;
        self.nodes.insert(content.to_vec(), Arc::clone(nodes));
        self.order.push_back(content.to_vec());
        while self.weight > TREE_CACHE_NODES && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(gone) = self.nodes.remove(&oldest) {
                self.weight -= gone.len() + 1;
            }
        }
    }
}
