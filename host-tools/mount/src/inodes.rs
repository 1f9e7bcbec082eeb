//! Inode numbers, and what stands behind those that the kernel knows.
//!
//! The kernel knows every file of every folder that was listed, half a million in a large snapshot, so a file has no entry
//! here: its number says in which folder it stands and at which place, and the folder is listed again when that listing is
//! gone. Entries are for folders, for what is made up, and a short one for each file with several names, which share theirs.
//!
//! A folder's number is a keyed hash of snapshot and path, so that it is the same whenever a path is looked up, without any
//! table of all paths; and so is, but for a chance in a million, the part of it that its files' numbers begin with. An entry
//! lives as long as the kernel refers to it or to what stands in it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use fuser::FUSE_ROOT_ID;
use mailkeep_restorer::View;
use mailkeep_restorer::format::Node;

/// The folder of all snapshots.
pub(crate) const SNAPSHOTS: u64 = 2;
const FIRST_FREE: u64 = 16;
/// The bit of numbers that say where their file stands.
const LISTED: u64 = 1 << 63;
/// The bit of numbers of links to a snapshot; the others say which, by its place.
const LINK: u64 = 1 << 62;
/// Bits for the place in a folder; what stands behind so many others has an entry of its own.
const PLACE_BITS: u32 = 24;
/// What numbers of folders are cut to in those of their files.
const SHORT: u64 = (LISTED >> PLACE_BITS) - 1;

/// The number of the link to a snapshot. Another snapshot's link has another number: the kernel keeps where a link leads to.
pub(crate) fn link_to(snapshot: usize) -> u64 {
    LINK | snapshot as u64
}

/// The snapshot that a link leads to, if this is the number of one.
pub(crate) fn linked(ino: u64) -> Option<usize> {
    (ino & (LISTED | LINK) == LINK).then_some((ino & !LINK) as usize)
}

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

/// Where a file stands: the number of its folder, and its place in that one's listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) folder: u64,
    pub(crate) index: u32,
}

/// What is to be remembered as long as the kernel knows a number.
pub(crate) enum Behind {
    /// Nothing: it is always there.
    Fixed,
    /// All of it.
    Own(Inode),
    /// Where it stands.
    Listed(Place),
}

/// What is known of a number.
#[derive(Clone)]
pub(crate) enum Known {
    /// This.
    Own(Inode),
    /// It stands in this folder.
    Listed(Inode, Place),
}

#[derive(Default)]
pub(crate) struct Inodes {
    /// Keyed freshly for each mount: a snapshot cannot be made so that two of its numbers collide.
    hasher: RandomState,
    kept: HashMap<u64, Kept>,
    /// Numbers of folders by what they were cut to.
    short: HashMap<u64, u64>,
    /// Where files with several names stand, with the references of the kernel.
    links: HashMap<u64, (Place, u64)>,
}

struct Kept {
    inode: Inode,
    references: u64,
    /// References to what stands in it.
    within: u64,
    /// What its number was cut to, once that was needed.
    short: Option<u64>,
}

impl Inodes {
    /// The number of a snapshot's root folder.
    pub(crate) fn of_snapshot(&self, snapshot: usize) -> u64 {
        self.number(&(snapshot, b"/"))
    }

    /// The number of a made-up folder or of a message in the mail of a snapshot.
    pub(crate) fn of_mail(&self, snapshot: usize, path: &[u8]) -> u64 {
        self.number(&(snapshot, path, "mail"))
    }

    /// The number of a node of a folder, which stands at `path` and at this place in the folder; and the place, if that is
    /// all that has to be remembered of it.
    pub(crate) fn of_node(
        &mut self,
        snapshot: usize,
        path: &[u8],
        node: &Node,
        folder: u64,
        index: usize,
    ) -> (u64, Option<Place>) {
        let place = u32::try_from(index).ok().filter(|index| index >> PLACE_BITS == 0);
        let place = place.filter(|_| !node.is_directory()).map(|index| Place { folder, index });
        let Some((place, short)) = place.and_then(|place| Some((place, self.short_of(folder)?))) else {
            return (self.number(&(snapshot, path)), None);
        };
        if node.meta.links > 1 {
            return (self.number(&(snapshot, node.meta.device, node.meta.inode)), Some(place));
        }
        (LISTED | short << PLACE_BITS | u64::from(place.index), Some(place))
    }

    /// What the number of a folder that the kernel knows is cut to. Of two that would be cut alike one gets the next.
    fn short_of(&mut self, folder: u64) -> Option<u64> {
        let kept = self.kept.get_mut(&folder)?;
        if let Some(short) = kept.short {
            return Some(short);
        }
        let mut short = folder & SHORT;
        while self.short.contains_key(&short) {
            short = (short + 1) & SHORT;
        }
        kept.short = Some(short);
        self.short.insert(short, folder);
        Some(short)
    }

    fn number(&self, what: &impl Hash) -> u64 {
        (self.hasher.hash_one(what) & !(LISTED | LINK)).max(FIRST_FREE)
    }

    /// What stands behind a number.
    pub(crate) fn get(&self, ino: u64) -> Option<Known> {
        match self.place(ino) {
            Some(place) => Some(Known::Listed(self.kept.get(&place.folder)?.inode.clone(), place)),
            None => self.kept.get(&ino).map(|kept| Known::Own(kept.inode.clone())),
        }
    }

    /// As [`Inodes::get`], if it has an entry of its own.
    pub(crate) fn own(&self, ino: u64) -> Option<&Inode> {
        self.kept.get(&ino).map(|kept| &kept.inode)
    }

    /// Where it stands, if that is what is known of it.
    pub(crate) fn place(&self, ino: u64) -> Option<Place> {
        if ino & LISTED == 0 {
            return self.links.get(&ino).map(|(place, _)| *place);
        }
        let folder = *self.short.get(&((ino & !LISTED) >> PLACE_BITS))?;
        Some(Place { folder, index: (ino & ((1 << PLACE_BITS) - 1)) as u32 })
    }

    /// The kernel was given this number.
    pub(crate) fn refer(&mut self, ino: u64, behind: Behind) {
        let place = match behind {
            Behind::Fixed => return,
            Behind::Own(inode) => {
                let fresh = Kept { inode, references: 0, within: 0, short: None };
                self.kept.entry(ino).or_insert(fresh).references += 1;
                return;
            }
            Behind::Listed(place) if ino & LISTED == 0 => {
                let (first, references) = self.links.entry(ino).or_insert((place, 0));
                *references += 1;
                *first
            }
            Behind::Listed(place) => place,
        };
        if let Some(folder) = self.kept.get_mut(&place.folder) {
            folder.within += 1;
        }
    }

    /// The kernel lets go of so many references.
    pub(crate) fn forget(&mut self, ino: u64, count: u64) {
        let Some(place) = self.place(ino) else {
            if let Some(kept) = self.kept.get_mut(&ino) {
                kept.references = kept.references.saturating_sub(count);
                self.drop_unused(ino);
            }
            return;
        };
        if let Some((_, references)) = self.links.get_mut(&ino) {
            *references = references.saturating_sub(count);
            if *references == 0 {
                self.links.remove(&ino);
            }
        }
        if let Some(folder) = self.kept.get_mut(&place.folder) {
            folder.within = folder.within.saturating_sub(count);
            self.drop_unused(place.folder);
        }
    }

    fn drop_unused(&mut self, ino: u64) {
        let unused = |kept: &&Kept| kept.references == 0 && kept.within == 0;
        if let Some(short) = self.kept.get(&ino).filter(unused).map(|kept| kept.short) {
            self.kept.remove(&ino);
            if let Some(short) = short {
                self.short.remove(&short);
            }
        }
    }

    /// The number of the parent folder.
    pub(crate) fn parent(&self, ino: u64) -> u64 {
        match ino {
            FUSE_ROOT_ID | SNAPSHOTS => FUSE_ROOT_ID,
            _ => match self.place(ino) {
                Some(place) => place.folder,
                None => self.own(ino).map_or(FUSE_ROOT_ID, |inode| inode.parent),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailkeep_restorer::MemoryContents;
    use mailkeep_restorer::format::{Meta, NodeKind};

    const FOLDER: u64 = 99;

    fn node(links: u32) -> Node {
        Node {
            name: b"n".to_vec(),
            meta: Meta { links, inode: 5, device: 6, ..Meta::default() },
            kind: NodeKind::Fifo,
        }
    }

    fn folder() -> Inode {
        let view = Arc::new(View::new(Arc::new(MemoryContents::default()), Vec::new()));
        let node = Arc::new(view.root().clone());
        Inode { view, snapshot: 0, path: (*b"/").into(), node, parent: SNAPSHOTS }
    }

    /// A table in which the kernel knows one folder.
    fn inodes() -> Inodes {
        let mut inodes = Inodes::default();
        inodes.refer(FOLDER, Behind::Own(folder()));
        inodes
    }

    #[test]
    fn numbers_are_stable_distinct_and_shared_by_hard_links_only() {
        let mut inodes = inodes();
        inodes.refer(FOLDER + (SHORT + 1), Behind::Own(folder()));
        let mut of = |snapshot, path: &[u8], links, folder, index| {
            inodes.of_node(snapshot, path, &node(links), folder, index).0
        };
        assert_eq!(of(0, b"/a", 1, FOLDER, 0), of(0, b"/a", 1, FOLDER, 0));
        assert_ne!(of(0, b"/a", 1, FOLDER, 0), of(0, b"/b", 1, FOLDER, 1));
        // Two folders whose numbers are cut alike.
        assert_ne!(of(0, b"/a", 1, FOLDER, 0), of(0, b"/x/a", 1, FOLDER + (SHORT + 1), 0));
        assert_eq!(of(0, b"/a", 2, FOLDER, 0), of(0, b"/b", 2, FOLDER, 1));
        assert_ne!(of(0, b"/a", 2, FOLDER, 0), of(1, b"/a", 2, FOLDER, 0));
        assert!(inodes.of_snapshot(0) >= FIRST_FREE);
    }

    #[test]
    fn a_file_is_found_by_its_number_and_a_folder_stays_as_long_as_one_is_known() {
        let mut inodes = inodes();
        let (ino, place) = inodes.of_node(0, b"/a", &node(1), FOLDER, 7);
        assert_eq!(place, Some(Place { folder: FOLDER, index: 7 }));
        for _ in 0..3 {
            inodes.refer(ino, Behind::Listed(place.unwrap()));
        }
        assert_eq!(inodes.kept.len() + inodes.links.len(), 1, "no entry for a file");
        inodes.forget(FOLDER, 1);
        inodes.forget(ino, 2);
        assert!(matches!(inodes.get(ino), Some(Known::Listed(_, found)) if Some(found) == place));
        assert_eq!(inodes.parent(ino), FOLDER);
        inodes.forget(ino, 1);
        assert!(inodes.get(ino).is_none() && inodes.kept.is_empty() && inodes.short.is_empty());
        inodes.forget(ino, 1);
    }

    #[test]
    fn a_file_with_several_names_stands_where_it_was_met_first() {
        let mut inodes = inodes();
        let (ino, first) = inodes.of_node(0, b"/a", &node(2), FOLDER, 1);
        let (_, second) = inodes.of_node(0, b"/b", &node(2), FOLDER, 2);
        inodes.refer(ino, Behind::Listed(first.unwrap()));
        inodes.refer(ino, Behind::Listed(second.unwrap()));
        assert!(matches!(inodes.get(ino), Some(Known::Listed(_, found)) if Some(found) == first));
        inodes.forget(FOLDER, 1);
        inodes.forget(ino, 1);
        assert!(inodes.get(ino).is_some());
        inodes.forget(ino, 1);
        assert!(inodes.links.is_empty() && inodes.kept.is_empty());
    }

    #[test]
    fn what_stands_too_far_back_or_in_no_known_folder_has_an_entry_of_its_own() {
        let mut inodes = inodes();
        let (one, place) = inodes.of_node(0, b"/a", &node(1), FOLDER, 1 << PLACE_BITS);
        assert_eq!((one & LISTED, place), (0, None));
        assert_eq!(inodes.of_node(0, b"/a", &node(1), 77, 0), (one, None));
    }

    #[test]
    fn an_entry_lives_as_long_as_it_is_referred_to() {
        let mut inodes = inodes();
        inodes.refer(FOLDER, Behind::Own(folder()));
        inodes.forget(FOLDER, 1);
        assert_eq!(inodes.parent(FOLDER), SNAPSHOTS);
        inodes.forget(FOLDER, 7);
        assert!(inodes.get(FOLDER).is_none() && inodes.kept.is_empty());
        inodes.forget(FOLDER, 1);
    }
}
