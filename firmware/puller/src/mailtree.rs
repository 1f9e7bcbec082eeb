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

#[cfg(test)]
mod tests {
    use mailkeep_format::{ChunkKind, Meta};
    use mailkeep_repository::{
        Encryption, InitOptions, LogMonitor, MemoryStorage, Repository, Writer, WriterOptions,
    };

    use super::*;

    fn node(name: &str, kind: NodeKind) -> Node {
        Node { name: name.as_bytes().to_vec(), meta: Meta { links: 1, ..Meta::default() }, kind }
    }

    fn link(name: &str, target: &str) -> Node {
        node(name, NodeKind::Symlink { target: target.as_bytes().to_vec() })
    }

    fn folder(writer: &mut Writer, name: &str, nodes: &[Node]) -> Node {
        node(name, NodeKind::Directory { content: writer.put_tree(nodes).unwrap() })
    }

    /// /real/box/{cyrus.index, cyrus.header -> ../../etc/header}, /etc/header, /spool -> real, /abs -> /real/box,
    /// /loop -> loop, /pipe
    fn tree() -> SnapshotTree {
        let options = InitOptions { label: "t".into(), encryption: Encryption::Plain };
        let repository =
            Repository::init(std::sync::Arc::new(MemoryStorage::new()), &options).unwrap().repository;
        let mut writer = repository.writer(&WriterOptions::default(), &LogMonitor).unwrap();
        let content =
            vec![writer.put(ChunkKind::Data, b"in").unwrap(), writer.put(ChunkKind::Data, b"dex").unwrap()];
        let index = node("cyrus.index", NodeKind::File { size: 5, sparse: false, content });
        let content = vec![writer.put(ChunkKind::Data, b"header").unwrap()];
        let header = node("header", NodeKind::File { size: 6, sparse: false, content });
        let mailbox = folder(&mut writer, "box", &[link("cyrus.header", "../../etc/header"), index]);
        let real = folder(&mut writer, "real", &[mailbox]);
        let etc = folder(&mut writer, "etc", &[header]);
        let all = [
            link("abs", "/real/box"),
            etc,
            link("loop", "loop"),
            node("pipe", NodeKind::Fifo),
            real,
            link("spool", "./real"),
        ];
        let root = writer.put_tree(&all).unwrap();
        writer.flush().unwrap();
        SnapshotTree::new(writer.reader(), root)
    }

    #[test]
    fn files_are_found_through_links_as_on_the_server() {
        let mut tree = tree();
        for path in
            ["/real/box/cyrus.index", "/spool/box/cyrus.index", "/abs/cyrus.index", "/etc/../abs/cyrus.index"]
        {
            assert_eq!(tree.read(Path::new(path)).unwrap().as_deref(), Some(b"index".as_slice()), "{path}");
        }
        for path in ["/real/box/cyrus.header", "/abs/cyrus.header", "/../../etc/header"] {
            assert_eq!(tree.read(Path::new(path)).unwrap().as_deref(), Some(b"header".as_slice()), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_none_and_never_an_error() {
        let mut tree = tree();
        for path in ["/nothing", "/etc/header/x", "/etc", "/loop", "/loop/x", "/pipe", "/"] {
            assert_eq!(tree.read(Path::new(path)).unwrap(), None, "{path}");
        }
        for path in ["/nothing", "/etc/header", "/loop", "/pipe"] {
            assert_eq!(tree.list(Path::new(path)).unwrap(), None, "{path}");
        }
    }

    #[test]
    fn a_folder_is_listed_with_kinds_and_sizes() {
        let mut tree = tree();
        let listed = tree.list(Path::new("/abs/")).unwrap().unwrap();
        let seen: Vec<_> =
            listed.iter().map(|entry| (entry.name.as_slice(), entry.kind, entry.size)).collect();
        assert_eq!(
            seen,
            [(b"cyrus.header".as_slice(), EntryKind::Other, 0), (b"cyrus.index", EntryKind::File, 5)]
        );
        assert_eq!(tree.list(Path::new("/")).unwrap().unwrap().len(), 6);
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = Directories::default();
        let nodes = Arc::new(vec![node("x", NodeKind::Fifo); 50_000]);
        for number in 0..20_u8 {
            let content = [ChunkRef { id: mailkeep_format::ChunkId([number; 24]), length: 1 }];
            cache.put(&content, &nodes);
            assert!(cache.get(&content).is_some());
        }
        assert!(cache.weight <= TREE_CACHE_NODES && cache.nodes.len() == cache.order.len());
    }
}
