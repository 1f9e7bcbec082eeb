//! Inode numbers, and what stands behind those that the kernel knows.
//!
//! A number is a keyed hash of snapshot and path, so that it is the same whenever a path is looked up, without any table
//! of all paths; names of one hard-linked file share theirs. An entry lives as long as the kernel refers to it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use fuser::FUSE_ROOT_ID;
use mailkeep_restorer::View;
use mailkeep_restorer::format::Node;

/// The folder of all snapshots.
pub(crate) const SNAPSHOTS: u64 = 2;
/// The link to the newest.
pub(crate) const LATEST: u64 = 3;
const FIRST_FREE: u64 = 16;

/// A node of a snapshot that the kernel knows.
#[derive(Clone)]
pub(crate) struct Inode {
    pub(crate) view: Arc<View>,
    /// Which snapshot, by its place in the list.
    pub(crate) snapshot: usize,
    pub(crate) path: Arc<[u8]>,
    pub(crate) node: Arc<Node>,
    pub(crate) parent: u64,
}

#[derive(Default)]
pub(crate) struct Inodes {
    /// Keyed freshly for each mount: a snapshot cannot be made so that two of its numbers collide.
    hasher: RandomState,
    known: HashMap<u64, (Inode, u64)>,
}

impl Inodes {
    /// The number of a snapshot's root folder.
    pub(crate) fn of_snapshot(&self, snapshot: usize) -> u64 {
        self.number(&(snapshot, b"/"))
    }

    /// The number of `node` at `path`.
    pub(crate) fn of_node(&self, snapshot: usize, path: &[u8], node: &Node) -> u64 {
        if node.meta.links > 1 && !node.is_directory() {
            self.number(&(snapshot, node.meta.device, node.meta.inode))
        } else {
            self.number(&(snapshot, path))
        }
    }

    /// The number of a made-up folder or of a message in the mail of a snapshot.
    pub(crate) fn of_mail(&self, snapshot: usize, path: &[u8]) -> u64 {
        self.number(&(snapshot, path, "mail"))
    }

    fn number(&self, what: &impl Hash) -> u64 {
        self.hasher.hash_one(what).max(FIRST_FREE)
    }

    /// What stands behind a number.
    pub(crate) fn get(&self, ino: u64) -> Option<&Inode> {
        self.known.get(&ino).map(|(inode, _)| inode)
    }

    /// The kernel was given this number.
    pub(crate) fn refer(&mut self, ino: u64, inode: Inode) {
        self.known.entry(ino).or_insert((inode, 0)).1 += 1;
    }

    /// The kernel lets go of so many references.
    pub(crate) fn forget(&mut self, ino: u64, count: u64) {
        if let Some((_, references)) = self.known.get_mut(&ino) {
            *references = references.saturating_sub(count);
            if *references == 0 {
                self.known.remove(&ino);
            }
        }
    }

    /// The number of the parent folder.
    pub(crate) fn parent(&self, ino: u64) -> u64 {
        match ino {
            FUSE_ROOT_ID | SNAPSHOTS | LATEST => FUSE_ROOT_ID,
            _ => self.get(ino).map_or(FUSE_ROOT_ID, |inode| inode.parent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailkeep_restorer::MemoryContents;
    use mailkeep_restorer::format::{Meta, NodeKind};

    #[test]
    fn numbers_are_stable_distinct_and_shared_by_hard_links_only() {
        let inodes = Inodes::default();
        let node = |links| Node {
            name: b"n".to_vec(),
            meta: Meta { links, inode: 5, device: 6, ..Meta::default() },
            kind: NodeKind::Fifo,
        };
        assert_eq!(inodes.of_node(0, b"/a", &node(1)), inodes.of_node(0, b"/a", &node(1)));
        assert_ne!(inodes.of_node(0, b"/a", &node(1)), inodes.of_node(0, b"/b", &node(1)));
        assert_ne!(inodes.of_node(0, b"/a", &node(1)), inodes.of_node(1, b"/a", &node(1)));
        assert_eq!(inodes.of_node(0, b"/a", &node(2)), inodes.of_node(0, b"/b", &node(2)));
        assert!(inodes.of_snapshot(0) >= FIRST_FREE);
    }

    #[test]
    fn an_entry_lives_as_long_as_it_is_referred_to() {
        let mut inodes = Inodes::default();
        let view = Arc::new(View::new(Arc::new(MemoryContents::default()), Vec::new()));
        let node = Arc::new(view.root().clone());
        let inode = Inode { view, snapshot: 0, path: (*b"/").into(), node, parent: SNAPSHOTS };
        inodes.refer(99, inode.clone());
        inodes.refer(99, inode);
        inodes.forget(99, 1);
        assert_eq!(inodes.parent(99), SNAPSHOTS);
        inodes.forget(99, 7);
        assert!(inodes.get(99).is_none() && inodes.known.is_empty());
        inodes.forget(99, 1);
    }
}
