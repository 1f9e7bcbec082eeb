//! Snapshots built in memory, and a look at what was restored.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use mailkeep_format::{ChunkRef, Meta, Node, NodeKind, Timestamp};
use mailkeep_restorer::{
    MemoryContents, Plan, RestoreError, RestoreMonitor, RestoreOptions, Step, Summary, View, apply, plan,
};

/// A snapshot being built: full paths to nodes.
#[derive(Default)]
pub struct Builder {
    pub contents: Arc<MemoryContents>,
    nodes: BTreeMap<String, (Meta, Kind)>,
    inode: u64,
}

#[derive(Clone)]
pub enum Kind {
    Folder,
    Bytes(Vec<u8>),
    Sparse(Vec<u8>),
    Node(NodeKind),
}

pub fn me() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

impl Builder {
    pub fn meta(&mut self, mode: u32) -> Meta {
        self.inode += 1;
        let (uid, gid) = me();
        let mtime = Timestamp { seconds: 1_600_000_000 + self.inode as i64, nanos: 123_456_789 };
        Meta { mode, uid, gid, mtime, inode: self.inode, links: 1, ..Meta::default() }
    }

    pub fn put(&mut self, path: &str, meta: Meta, kind: Kind) {
        for (at, _) in path.match_indices('/').skip(1) {
            if !self.nodes.contains_key(&path[..at]) {
                let meta = self.meta(0o755);
                self.nodes.insert(path[..at].to_owned(), (meta, Kind::Folder));
            }
        }
        self.nodes.insert(path.to_owned(), (meta, kind));
    }

    pub fn file(&mut self, path: &str, bytes: &[u8]) {
        let meta = self.meta(0o640);
        self.put(path, meta, Kind::Bytes(bytes.to_vec()));
    }

    pub fn folder(&mut self, path: &str) {
        let meta = self.meta(0o750);
        self.put(path, meta, Kind::Folder);
    }

    pub fn node(&mut self, path: &str, kind: NodeKind) {
        let meta = self.meta(0o600);
        self.put(path, meta, Kind::Node(kind));
    }

    pub fn link(&mut self, first: &str, other: &str, names: u32) {
        let (meta, kind) = self.nodes.get_mut(first).unwrap();
        meta.links = names;
        meta.device = 7;
        let (meta, kind) = (meta.clone(), kind.clone());
        self.put(other, meta, kind);
    }

    pub fn change(&mut self, path: &str, change: impl FnOnce(&mut Meta)) {
        change(&mut self.nodes.get_mut(path).unwrap().0);
    }

    pub fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
    }

    pub fn view(&self) -> View {
        let root = self.tree("");
        View::new(Arc::clone(&self.contents) as _, root)
    }

    pub fn tree(&self, folder: &str) -> Vec<ChunkRef> {
        let mut nodes = Vec::new();
        for (path, (meta, kind)) in &self.nodes {
            let Some(name) = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            if name.contains('/') {
                continue;
            }
            let kind = match kind {
                Kind::Folder => NodeKind::Directory { content: self.tree(path) },
                Kind::Bytes(bytes) | Kind::Sparse(bytes) => NodeKind::File {
                    size: bytes.len() as u64,
                    sparse: matches!(kind, Kind::Sparse(_)),
                    content: self.contents.put_file(bytes, 10_000),
                },
                Kind::Node(kind) => kind.clone(),
            };
            nodes.push(Node { name: name.as_bytes().to_vec(), meta: meta.clone(), kind });
        }
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        self.contents.put_tree(&nodes).unwrap()
    }
}

/// Keeps the problems.
#[derive(Default)]
pub struct Ear {
    pub problems: Mutex<Vec<String>>,
}

impl RestoreMonitor for Ear {
    fn problem(&self, path: &[u8], what: &str) {
        self.problems.lock().unwrap().push(format!("{}: {what}", String::from_utf8_lossy(path)));
    }

    fn progress(&self, _: u64, _: u64) {}
}

pub fn steps(view: &View, target: &Path, options: &RestoreOptions) -> (Plan, Vec<(String, Step)>) {
    let mut steps = Vec::new();
    let plan = plan(view, target, options.clone(), &AtomicBool::new(false), &mut |path, step| {
        steps.push((String::from_utf8_lossy(path).into_owned(), step));
    })
    .unwrap();
    (plan, steps)
}

pub fn restore(
    view: &View,
    target: &Path,
    options: &RestoreOptions,
) -> (Result<Summary, RestoreError>, Vec<String>) {
    let (plan, _) = steps(view, target, options);
    let ear = Ear::default();
    let result = apply(&plan, &ear, &AtomicBool::new(false));
    let problems = ear.problems.lock().unwrap().clone();
    (result, problems)
}

/// One line for everything below `root`: kind, mode, owner, mtime, link target or contents.
pub fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    describe_below(root, root, &mut lines);
    lines.sort();
    lines
}

fn describe_below(root: &Path, folder: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let what = if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            let mut hash = std::hash::DefaultHasher::new();
            std::hash::Hasher::write(&mut hash, &bytes);
            format!("{} bytes {:x} links {}", bytes.len(), std::hash::Hasher::finish(&hash), meta.nlink())
        } else if kind.is_dir() {
            "folder".to_owned()
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else if kind.is_socket() {
            "socket".to_owned()
        } else {
            format!("device {:x} block {}", meta.rdev(), kind.is_block_device())
        };
        lines.push(format!(
            "{:?} {:o} {}:{} {}.{:09} {what}",
            String::from_utf8_lossy(path.strip_prefix(root).unwrap().as_os_str().as_bytes()),
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
        ));
        if kind.is_dir() {
            describe_below(root, &path, lines);
        }
    }
}
