//! The one walk over snapshot and target that both planning and applying are made of.
//!
//! Planning and applying differ only in the [`Hands`] they put in, so that what was shown is what is done. Memory
//! follows the depth of folders, not their number nor how many names are in them.

use std::collections::VecDeque;

use mailkeep_format::limits::DEPTH_MAX;
use mailkeep_format::{ChunkRef, Node};

use crate::contents::Nodes;
use crate::names::Names;
use crate::path::{join, show};
use crate::select::{Coverage, Selection};
use crate::special::{self, Special};
use crate::{ContentsError, RestoreError, View, limits};

/// A node of the snapshot, where it stands, and how it was asked for.
pub(crate) struct Item {
    pub(crate) node: Node,
    pub(crate) path: Vec<u8>,
    pub(crate) coverage: Coverage,
}

/// What the snapshot has in a folder that was gone through to its end.
pub(crate) struct Known<'a> {
    view: &'a View,
    content: &'a [ChunkRef],
}

impl<'a> Known<'a> {
    /// What `view` has in the folder with this content, which need not be readable.
    pub(crate) fn new(view: &'a View, content: &'a [ChunkRef]) -> Self {
        Known { view, content }
    }

    /// Those of `names` that the snapshot does not have.
    ///
    /// # Errors
    /// The folder cannot be read a second time.
    pub(crate) fn surplus(&self, names: Names) -> Result<Names, ContentsError> {
        names.without(self.view.contents().nodes(self.content))
    }
}

/// What is done at each stop of the walk.
pub(crate) trait Hands {
    /// A folder of the target that is being walked.
    type Folder;

    /// The target folder itself.
    fn root(&mut self, known: Known<'_>) -> Result<Self::Folder, RestoreError>;

    /// A folder of the snapshot; `None` passes over everything in it. `ahead` says what is known of it by now.
    fn enter(
        &mut self,
        parent: &Self::Folder,
        item: &Item,
        ahead: Ahead,
    ) -> Result<Option<Self::Folder>, RestoreError>;

    /// Anything else.
    fn place(&mut self, parent: &Self::Folder, item: Item) -> Result<(), RestoreError>;

    /// Of what lies in the folder itself nothing more comes; only folders may.
    fn placed(&mut self, _: &Self::Folder) {}

    /// Everything in a folder has been visited. `known` is what the snapshot has there; `None` if that broke off.
    fn leave(
        &mut self,
        folder: Self::Folder,
        path: &[u8],
        coverage: Coverage,
        known: Option<Known<'_>>,
    ) -> Result<(), RestoreError>;

    /// A folder of the snapshot cannot be read; the walk goes on behind it.
    fn unreadable(&mut self, path: &[u8], why: ContentsError) -> Result<(), RestoreError>;

    /// The rest of a folder cannot be read; the walk goes on behind it.
    fn broken_off(&mut self, path: &[u8], why: ContentsError) -> Result<(), RestoreError>;

    /// Something is not restored although the snapshot has it; the name itself comes all the same, unless it is a device.
    fn left_out(&mut self, path: &[u8], what: &'static str);

    /// Whether to give up.
    fn stopped(&self) -> bool;
}

/// What the walk has seen of a folder when it comes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// All of it, and something lies in the folder itself: that comes first, then its folders.
    Whole,
    /// Not all of it, or nothing but folders.
    Unknown,
}

struct Frame<'v, F> {
    folder: F,
    path: Vec<u8>,
    coverage: Coverage,
    content: Vec<ChunkRef>,
    stream: Stream<'v>,
    broken_off: bool,
}

/// The nodes of a folder of which the first have been read: that it can be read at all is known.
///
/// Of those that were read what lies in the folder itself comes first, so that it can be complete before what is below is
/// gone into. While that is done no more than [`limits::FOLDERS_HELD`] nodes are held.
struct Stream<'v> {
    ready: VecDeque<Node>,
    folders: VecDeque<Node>,
    /// What did not fit, or how it broke off.
    rest: Option<Nodes<'v>>,
    trouble: Option<ContentsError>,
    ahead: Ahead,
    told: bool,
}

impl<'v> Stream<'v> {
    fn open(view: &'v View, path: &[u8], node: &Node) -> Result<Self, RestoreError> {
        let mut rest = view.nodes(path, node)?;
        let (mut ready, mut folders) = (VecDeque::new(), VecDeque::new());
        let mut seen = Ok(false);
        while ready.len() < limits::NAMES_HELD && folders.len() < limits::FOLDERS_HELD {
            match rest.next() {
                Some(Ok(node)) if node.is_directory() => folders.push_back(node),
                Some(Ok(node)) => ready.push_back(node),
                Some(Err(source)) if ready.is_empty() && folders.is_empty() => {
                    return Err(RestoreError::Unreadable { path: show(path), source });
                }
                Some(Err(source)) => {
                    seen = Err(source);
                    break;
                }
                None => {
                    seen = Ok(true);
                    break;
                }
            }
        }
        let (rest, trouble, whole) = match seen {
            Ok(true) => (None, None, true),
            Ok(false) => (Some(rest), None, false),
            Err(source) => (None, Some(source), false),
        };
        let ahead = if whole && !ready.is_empty() { Ahead::Whole } else { Ahead::Unknown };
        Ok(Stream { ready, folders, rest, trouble, ahead, told: false })
    }

    /// Whether all that lies in the folder itself has been handed out; says so once.
    fn is_placed(&mut self) -> bool {
        let placed = self.ready.is_empty() && self.ahead == Ahead::Whole && !self.told;
        self.told |= placed;
        placed
    }

    fn next(&mut self) -> Option<Result<Node, ContentsError>> {
        if let Some(node) = self.ready.pop_front().or_else(|| self.folders.pop_front()) {
            return Some(Ok(node));
        }
        if let Some(trouble) = self.trouble.take() {
            return Some(Err(trouble));
        }
        self.rest.as_mut()?.next()
    }
}

pub(crate) fn traverse<H: Hands>(
    view: &View,
    selection: &Selection,
    special: Special,
    hands: &mut H,
) -> Result<(), RestoreError> {
    let path = b"/".to_vec();
    let stream = Stream::open(view, &path, view.root())?;
    let coverage = selection.of(&path);
    let content = view.root().content().to_vec();
    let root = hands.root(Known { view, content: &content })?;
    let mut stack = vec![Frame { folder: root, path, coverage, content, stream, broken_off: false }];
    while let Some(frame) = stack.last_mut() {
        if hands.stopped() {
            return Err(RestoreError::Interrupted);
        }
        if frame.stream.is_placed() {
            hands.placed(&frame.folder);
        }
        let mut node = match frame.stream.next() {
            Some(Ok(node)) => node,
            Some(Err(why)) => {
                frame.broken_off = true;
                hands.broken_off(&frame.path, why)?;
                continue;
            }
            None => {
                if let Some(Frame { folder, path, coverage, content, broken_off, .. }) = stack.pop() {
                    let known = (!broken_off).then_some(Known { view, content: &content });
                    hands.leave(folder, &path, coverage, known)?;
                }
                continue;
            }
        };
        let path = join(&frame.path, &node.name);
        let coverage = match frame.coverage {
            Coverage::Inside => Coverage::Inside,
            _ => selection.of(&path),
        };
        if coverage == Coverage::Outside {
            continue;
        }
        if special.passes_over(&node) {
            hands.left_out(&path, special::DEVICE);
            continue;
        }
        if let Some(what) = special.strip(&mut node) {
            hands.left_out(&path, what);
        }
        let item = Item { node, path, coverage };
        if !item.node.is_directory() {
            hands.place(&frame.folder, item)?;
            continue;
        }
        // Read before the target is touched: a folder that cannot be read is not entered, so nothing in it can be
        // taken for surplus (restic 4612: a listing error is not an empty folder).
        let below = match Stream::open(view, &item.path, &item.node) {
            Ok(below) => below,
            Err(RestoreError::Unreadable { source, .. }) => {
                hands.unreadable(&item.path, source)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(folder) = hands.enter(&frame.folder, &item, below.ahead)? {
            let Item { path, node, .. } = item;
            if stack.len() >= DEPTH_MAX {
                return Err(RestoreError::TooDeep { path: show(&path) });
            }
            let content = node.content().to_vec();
            stack.push(Frame { folder, path, coverage, content, stream: below, broken_off: false });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mailkeep_format::{Meta, NodeKind};

    use super::*;
    use crate::MemoryContents;

    fn node(number: usize, folder: bool) -> Node {
        let content = Vec::new();
        let kind = if folder { NodeKind::Directory { content } } else { NodeKind::Fifo };
        Node { name: format!("{number:06}").into_bytes(), meta: Meta { links: 1, ..Meta::default() }, kind }
    }

    /// What is known ahead of a folder with these nodes, how many come before anything else is said of it, and how many in
    /// all. `lose` takes its last piece away.
    fn ahead(nodes: &[Node], lose: bool) -> (Ahead, Option<usize>, usize) {
        let contents = Arc::new(MemoryContents::default());
        let pieces = contents.put_tree_in_pieces(nodes, 1000).unwrap();
        if lose {
            contents.lose(pieces.last().unwrap());
        }
        let view = View::new(contents, pieces);
        let mut stream = Stream::open(&view, b"/", view.root()).unwrap();
        let (mut placed, mut count) = (None, 0);
        loop {
            if stream.is_placed() {
                assert!(placed.replace(count).is_none(), "said twice");
            }
            match stream.next() {
                Some(Ok(node)) => assert!(placed.is_none() || node.is_directory()),
                Some(Err(_)) => continue,
                None => return (stream.ahead, placed, count),
            }
            count += 1;
        }
    }

    #[test]
    fn only_what_was_seen_to_its_end_is_known_whole() {
        let files = |count| (0..count).map(|number| node(number, false)).collect::<Vec<_>>();
        assert_eq!(ahead(&files(100), false), (Ahead::Whole, Some(100), 100));
        let mixed: Vec<_> = (0..100).map(|number| node(number, number % 10 == 0)).collect();
        assert_eq!(ahead(&mixed, false), (Ahead::Whole, Some(90), 100));
        let folders: Vec<_> = (0..10).map(|number| node(number, true)).collect();
        assert_eq!(ahead(&folders, false), (Ahead::Unknown, None, 10));
        let many = limits::NAMES_HELD + 1;
        assert_eq!(ahead(&files(many), false), (Ahead::Unknown, None, many));
        let many = limits::FOLDERS_HELD + 2;
        let folders: Vec<_> = (0..many).map(|number| node(number, number > 0)).collect();
        assert_eq!(ahead(&folders, false), (Ahead::Unknown, None, many));
        let (known, placed, count) = ahead(&files(100), true);
        assert!((known, placed) == (Ahead::Unknown, None) && count < 100, "{count}");
    }
}
