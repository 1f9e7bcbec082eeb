//! Hard links: a file with several names is read under one of them, and the others take what was read.
//!
//! On a mail server a third of the names can be such links (copies within a server, one mail to many). Only names that
//! were listed with the same inode, device and stamps share; memory is bounded, and beyond the bound names are read
//! one by one.

use std::collections::HashMap;

use mailkeep_format::Node;
use mailkeep_link::message::FileId;

use crate::directory::same_stamp;
use crate::limits::LINKS_HELD_MAX;
use crate::weight::weight;

/// What is to be done about a wanted name.
#[derive(Debug, PartialEq)]
pub(crate) enum Name {
    /// Read it.
    Read,
    /// It is being read under another name; wait.
    Wait,
    /// It was read under another name: this is what came.
    Known(Box<Node>),
}

#[derive(Debug)]
enum State {
    Reading { first: FileId, listed: Box<Node>, waiting: Vec<FileId> },
    Read(Box<Node>),
}

/// The files with several names that are being read or were read in this pass.
#[derive(Debug, Default)]
pub(crate) struct Links {
    inodes: HashMap<(u64, u64), (State, u32)>,
    held: usize,
}

fn key(node: &Node) -> Option<(u64, u64)> {
    (node.meta.links > 1).then_some((node.meta.device, node.meta.inode))
}

fn same_file(one: &Node, other: &Node) -> bool {
    let (a, b) = (&one.meta, &other.meta);
    same_stamp(one, other) && a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.links == b.links
}

impl Links {
    /// A name that would be read.
    pub(crate) fn meet(&mut self, id: FileId, node: &Node) -> Name {
        let Some(key) = key(node) else { return Name::Read };
        let Some((state, left)) = self.inodes.get_mut(&key) else {
            let state = State::Reading { first: id, listed: Box::new(node.clone()), waiting: Vec::new() };
            self.keep(key, state, node.meta.links - 1);
            return Name::Read;
        };
        // No more names than the file says it has: a list of waiting names cannot grow for ever.
        if *left == 0 || !same_file(state.node(), node) {
            return Name::Read;
        }
        *left -= 1;
        match state {
            State::Reading { waiting, .. } => {
                waiting.push(id);
                Name::Wait
            }
            State::Read(read) => {
                let known = Name::Known(read.clone());
                if *left == 0 {
                    self.forget(key);
                }
                known
            }
        }
    }

    /// A file that was listed as `listed` has been read as `read`, or could not be; returns the names that wait for it.
    pub(crate) fn settle(&mut self, id: FileId, listed: &Node, read: Option<&Node>) -> Vec<FileId> {
        let Some(key) = key(listed) else { return Vec::new() };
        match self.inodes.get(&key) {
            Some((State::Reading { first, .. }, _)) if *first == id => {}
            _ => return Vec::new(),
        }
        let Some((State::Reading { waiting, .. }, left)) = self.forget(key) else { return Vec::new() };
        if let (Some(read), true) = (read, left > 0) {
            self.keep(key, State::Read(Box::new(read.clone())), left);
        }
        waiting
    }

    /// The files of which names were read in this pass, and others were not met.
    pub(crate) fn parted(self) -> impl Iterator<Item = Node> {
        self.inodes.into_values().filter_map(|(state, left)| match state {
            State::Read(node) if left > 0 => Some(*node),
            _ => None,
        })
    }

    fn keep(&mut self, key: (u64, u64), state: State, left: u32) {
        let weight = state.weight();
        if self.held + weight <= LINKS_HELD_MAX {
            self.held += weight;
            self.inodes.insert(key, (state, left));
        }
    }

    fn forget(&mut self, key: (u64, u64)) -> Option<(State, u32)> {
        let (state, left) = self.inodes.remove(&key)?;
        self.held -= state.weight();
        Some((state, left))
    }
}

impl State {
    fn node(&self) -> &Node {
        match self {
            State::Reading { listed: node, .. } | State::Read(node) => node,
        }
    }

    /// Memory, bytes. Names that wait are not counted: each has a node in an open directory, which is.
    fn weight(&self) -> usize {
        weight(self.node()) + 64
    }
}

#[cfg(test)]
mod tests {
    use mailkeep_format::{Meta, NodeKind};
    use mailkeep_link::message::DirectoryId;

    use super::*;

    fn node(inode: u64, links: u32) -> Node {
        let meta = Meta { inode, links, device: 1, ..Meta::default() };
        Node {
            name: b"1.".to_vec(),
            meta,
            kind: NodeKind::File { size: 3, sparse: false, content: Vec::new() },
        }
    }

    fn id(index: u32) -> FileId {
        FileId { directory: DirectoryId(0), index }
    }

    #[test]
    fn names_wait_for_the_first_and_later_ones_know_at_once() {
        let mut links = Links::default();
        let file = node(7, 4);
        assert_eq!(links.meet(id(0), &file), Name::Read);
        assert_eq!(links.meet(id(1), &file), Name::Wait);
        assert_eq!(links.meet(id(2), &node(8, 1)), Name::Read);
        assert_eq!(links.settle(id(0), &file, Some(&file)), [id(1)]);
        assert_eq!(links.meet(id(3), &file), Name::Known(Box::new(file.clone())));
        assert_eq!(links.meet(id(4), &file), Name::Known(Box::new(file.clone())));
        // All four names are seen: a fifth is none of this file.
        assert_eq!(links.meet(id(5), &file), Name::Read);
    }

    #[test]
    fn another_state_of_the_file_is_read_by_itself() {
        let mut links = Links::default();
        let file = node(7, 3);
        let mut moved = file.clone();
        moved.meta.ctime.nanos = 1;
        assert_eq!(links.meet(id(0), &file), Name::Read);
        assert_eq!(links.meet(id(1), &moved), Name::Read);
        // And its end is no news for those who wait for the first.
        assert_eq!(links.meet(id(2), &file), Name::Wait);
        assert!(links.settle(id(1), &moved, Some(&moved)).is_empty());
        assert_eq!(links.settle(id(0), &file, None), [id(2)]);
        assert_eq!((links.inodes.len(), links.held), (0, 0));
    }

    #[test]
    fn what_is_kept_is_bounded_and_beyond_it_names_are_read() {
        let mut links = Links::default();
        let mut inode = 0;
        while links.inodes.len() == inode as usize {
            inode += 1;
            assert_eq!(links.meet(id(0), &node(inode, 2)), Name::Read);
            assert!(inode < 10_000_000, "no bound");
        }
        assert!(links.held <= LINKS_HELD_MAX);
        assert_eq!(links.meet(id(1), &node(inode, 2)), Name::Read);
    }
}
