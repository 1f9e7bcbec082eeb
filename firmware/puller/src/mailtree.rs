//! A copy as the mail check sees it: files by the absolute paths that they had on the server, symbolic links followed.
//!
//! Directories are read as streams. What a path may lead through is kept of those that were looked at last, so that each is
//! decoded once and not for every file in it; message files, of which there may be half a million, are not kept.

use std::collections::{HashMap, VecDeque};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use mailkeep_format::{ChunkKind, ChunkRef, Node, NodeKind};
use mailkeep_mail::check::{EntryKind, MailTree, TreeEntry};
use mailkeep_repository::{Reader, RepositoryError};

use crate::digests::{Digester, Sha1Digest};
use crate::limits::{CHECKED_FILE_MAX, LINKS_FOLLOWED_MAX, TREE_CACHE_NODES};

/// Where the agent puts the list that it exported inside the window.
pub(crate) const MAILBOX_LIST: &str = "/.mailkeep/mailboxlist";

/// A snapshot's tree, sealed or about to be.
pub(crate) struct SnapshotTree {
    reader: Reader,
    root: Vec<ChunkRef>,
    cache: Directories,
    /// What was there before: mail that is in it as well is not new.
    before: Option<Vec<ChunkRef>>,
    digester: Digester,
}

impl SnapshotTree {
    /// The tree with this root.
    pub(crate) fn new(reader: Reader, root: Vec<ChunkRef>) -> Self {
        SnapshotTree::since(reader, root, None)
    }

    /// The tree with this root, in which is new what is not in the other one.
    pub(crate) fn since(reader: Reader, root: Vec<ChunkRef>, before: Option<Vec<ChunkRef>>) -> Self {
        let digester = Digester::new(before.is_none());
        SnapshotTree { reader, root, cache: Directories::default(), before, digester }
    }

    /// Message files that were found to be new.
    pub(crate) fn new_messages(&self) -> u64 {
        self.digester.new_files()
    }

    /// The messages of a folder as it was before, in ascending order of names.
    fn messages_before(&mut self, folder: &Path) -> Result<Messages, RepositoryError> {
        let found = match self.before.clone() {
            Some(root) => self.find_below(root, folder)?,
            None => None,
        };
        let Some(Found::Directory(content)) = found else { return Ok(Box::new(std::iter::empty())) };
        let is_one = |node: &Result<Node, _>| {
            node.as_ref().map_or(true, |node| node.is_file() && is_message(&node.name))
        };
        Ok(Box::new(self.reader.tree_nodes(&content).filter(is_one)))
    }

    /// What has this name in a directory.
    fn child(&mut self, content: &[ChunkRef], name: &[u8]) -> Result<Option<Node>, RepositoryError> {
        if let Some(kept) = self.cache.get(content) {
            if let Some(node) = kept.node(name) {
                return Ok(Some(node.clone()));
            }
            if !(kept.lacks_messages && is_message(name)) {
                return Ok(None);
            }
        }
        let mut found = None;
        self.each(content, &mut |node| {
            if node.name == name {
                found = Some(node.clone());
            }
        })?;
        Ok(found)
    }

    /// Goes through a directory, and keeps what paths may lead through.
    fn each(&mut self, content: &[ChunkRef], each: &mut dyn FnMut(&Node)) -> Result<(), RepositoryError> {
        let mut kept = Some(Kept::default());
        for node in self.reader.tree_nodes(content) {
            let node = node?;
            each(&node);
            let Some(keeping) = &mut kept else { continue };
            if node.is_file() && is_message(&node.name) {
                keeping.lacks_messages = true;
            } else if keeping.nodes.len() < TREE_CACHE_NODES {
                keeping.nodes.push(node);
            } else {
                // Too many to be kept: asked for again, it is read again.
                kept = None;
            }
        }
        if let Some(kept) = kept.filter(|_| self.cache.get(content).is_none()) {
            self.cache.put(content, Arc::new(kept));
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<Option<Vec<ChunkRef>>, RepositoryError> {
        match self.find(path)? {
            Some(Found::File(content)) => Ok(Some(content)),
            _ => Ok(None),
        }
    }

    /// What lies at `path`, after all links; `None` if nothing does.
    fn find(&mut self, path: &Path) -> Result<Option<Found>, RepositoryError> {
        self.find_below(self.root.clone(), path)
    }

    fn find_below(&mut self, root: Vec<ChunkRef>, path: &Path) -> Result<Option<Found>, RepositoryError> {
        let mut links = 0;
        let mut rest: VecDeque<Vec<u8>> = names(path);
        let mut way: Vec<Vec<ChunkRef>> = vec![root];
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let Some(here) = way.last() else { return Ok(None) };
            let Some(node) = self.child(&here.clone(), &name)? else { return Ok(None) };
            match node.kind {
                NodeKind::Directory { content } => way.push(content),
                NodeKind::File { content, .. } if rest.is_empty() => {
                    return Ok(Some(Found::File(content)));
                }
                NodeKind::Symlink { target } => {
                    links += 1;
                    if links > LINKS_FOLLOWED_MAX {
                        return Ok(None);
                    }
                    let target = PathBuf::from(std::ffi::OsStr::from_bytes(&target));
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
        let Some(content) = self.file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        for chunk in &content {
            if bytes.len() >= CHECKED_FILE_MAX {
                // No mail system has such a file; cut off it is no file of the kind that is looked for.
                break;
            }
            bytes.extend_from_slice(&self.reader.chunk(ChunkKind::Data, chunk)?);
        }
        Ok(Some(bytes))
    }

    fn stream(&mut self, path: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool, RepositoryError> {
        let Some(content) = self.file(path)? else { return Ok(false) };
        for chunk in &content {
            if !take(&self.reader.chunk(ChunkKind::Data, chunk)?) {
                break;
            }
        }
        Ok(true)
    }

    fn list(&mut self, folder: &Path, each: &mut dyn FnMut(TreeEntry<'_>)) -> Result<bool, RepositoryError> {
        let Some(Found::Directory(content)) = self.find(folder)? else { return Ok(false) };
        self.each(&content, &mut |node| {
            each(entry(node));
        })?;
        Ok(true)
    }

    fn list_with_digests(
        &mut self,
        folder: &Path,
        each: &mut dyn FnMut(TreeEntry<'_>, Option<Sha1Digest>),
    ) -> Result<bool, RepositoryError> {
        let Some(Found::Directory(content)) = self.find(folder)? else { return Ok(false) };
        let mut before = self.messages_before(folder)?.peekable();
        for node in self.reader.tree_nodes(&content) {
            let node = node?;
            if !node.is_file() || !is_message(&node.name) {
                each(entry(&node), None);
                continue;
            }
            // Both are sorted by name.
            while before.next_if(|old| old.as_ref().is_ok_and(|old| old.name < node.name)).is_some() {}
            let old =
                before.next_if(|old| old.as_ref().map_or(true, |old| old.name == node.name)).transpose()?;
            let is_new = old.is_none_or(|old| old.content() != node.content());
            let digest = if is_new { self.digester.digest(&node, &self.reader)? } else { None };
            each(entry(&node), digest);
        }
        Ok(true)
    }
}

/// Message files, read as they are asked for.
type Messages = Box<dyn Iterator<Item = Result<Node, RepositoryError>>>;

fn entry(node: &Node) -> TreeEntry<'_> {
    TreeEntry {
        name: &node.name,
        kind: match node.kind {
            NodeKind::File { .. } => EntryKind::File,
            NodeKind::Directory { .. } => EntryKind::Directory,
            _ => EntryKind::Other,
        },
        size: node.size(),
    }
}

/// Whether Cyrus may have stored a message under this name: `4711.`.
fn is_message(name: &[u8]) -> bool {
    name.strip_suffix(b".").is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
}

/// What is kept of a directory.
#[derive(Debug, Default)]
struct Kept {
    /// In ascending order of names.
    nodes: Vec<Node>,
    /// Files that are named as messages are left out.
    lacks_messages: bool,
}

impl Kept {
    fn node(&self, name: &[u8]) -> Option<&Node> {
        let index = self.nodes.binary_search_by(|node| node.name.as_slice().cmp(name)).ok()?;
        self.nodes.get(index)
    }
}

/// The directories that were looked at last: a path is looked up from the root each time.
#[derive(Default)]
struct Directories {
    kept: HashMap<Vec<ChunkRef>, Arc<Kept>>,
    order: VecDeque<Vec<ChunkRef>>,
    weight: usize,
}

impl Directories {
    fn get(&self, content: &[ChunkRef]) -> Option<Arc<Kept>> {
        self.kept.get(content).cloned()
    }

    fn put(&mut self, content: &[ChunkRef], kept: Arc<Kept>) {
        self.weight += kept.nodes.len() + 1;
        self.kept.insert(content.to_vec(), kept);
        self.order.push_back(content.to_vec());
        while self.weight > TREE_CACHE_NODES && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(gone) = self.kept.remove(&oldest) {
                self.weight -= gone.nodes.len() + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mailkeep_format::Meta;
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

    type Listed = Vec<(Vec<u8>, EntryKind, u64)>;

    fn listed(tree: &mut SnapshotTree, path: &str) -> Option<Listed> {
        let mut entries = Vec::new();
        let each = &mut |entry: TreeEntry<'_>| entries.push((entry.name.to_vec(), entry.kind, entry.size));
        tree.list(Path::new(path), each).unwrap().then_some(entries)
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
            assert!(!tree.stream(Path::new(path), &mut |_| panic!("{path}")).unwrap());
        }
        for path in ["/nothing", "/etc/header", "/loop", "/pipe"] {
            assert_eq!(listed(&mut tree, path), None, "{path}");
        }
    }

    #[test]
    fn a_folder_is_listed_with_kinds_and_sizes() {
        let mut tree = tree();
        let name = |name: &str| name.as_bytes().to_vec();
        assert_eq!(
            listed(&mut tree, "/abs/").unwrap(),
            [(name("cyrus.header"), EntryKind::Other, 0), (name("cyrus.index"), EntryKind::File, 5)]
        );
        assert_eq!(listed(&mut tree, "/").unwrap().len(), 6);
    }

    #[test]
    fn a_file_comes_in_pieces_until_it_is_enough() {
        let mut tree = tree();
        let mut seen = Vec::new();
        let mut up_to = |count: usize| {
            seen.clear();
            let take = &mut |bytes: &[u8]| {
                seen.push(bytes.to_vec());
                seen.len() < count
            };
            assert!(tree.stream(Path::new("/spool/box/cyrus.index"), take).unwrap());
            seen.concat()
        };
        assert_eq!((up_to(1), up_to(9)), (b"in".to_vec(), b"index".to_vec()));
    }

    #[test]
    fn message_files_are_not_kept_and_are_found_all_the_same() {
        let options = InitOptions { label: "t".into(), encryption: Encryption::Plain };
        let repository =
            Repository::init(std::sync::Arc::new(MemoryStorage::new()), &options).unwrap().repository;
        let mut writer = repository.writer(&WriterOptions::default(), &LogMonitor).unwrap();
        let content = vec![writer.put(ChunkKind::Data, b"mail").unwrap()];
        let file =
            |name: &str| node(name, NodeKind::File { size: 4, sparse: false, content: content.clone() });
        let nodes =
            [file("1."), file("2."), node("3.", NodeKind::Fifo), file("cyrus.header"), link("x", "2.")];
        let root = [folder(&mut writer, "box", &nodes)];
        let root = writer.put_tree(&root).unwrap();
        writer.flush().unwrap();
        let mut tree = SnapshotTree::new(writer.reader(), root);
        for _ in 0..2 {
            assert_eq!(listed(&mut tree, "/box").unwrap().len(), 5);
            for name in ["1.", "2.", "cyrus.header", "x"] {
                let path = Path::new("/box").join(name);
                assert_eq!(tree.read(&path).unwrap().as_deref(), Some(b"mail".as_slice()), "{name}");
            }
            assert_eq!(tree.read(Path::new("/box/3.")).unwrap(), None);
            assert_eq!(tree.read(Path::new("/box/4.")).unwrap(), None);
        }
        assert_eq!(tree.cache.weight, 3 + 1 + 1 + 1, "the messages are held");
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = Directories::default();
        let nodes = vec![node("x", NodeKind::Fifo); TREE_CACHE_NODES / 4];
        let kept = Arc::new(Kept { nodes, lacks_messages: false });
        for number in 0..20_u8 {
            let content = [ChunkRef { id: mailkeep_format::ChunkId([number; 24]), length: 1 }];
            cache.put(&content, Arc::clone(&kept));
            assert!(cache.get(&content).is_some());
        }
        assert!(cache.weight <= TREE_CACHE_NODES && cache.kept.len() == cache.order.len());
    }
}
