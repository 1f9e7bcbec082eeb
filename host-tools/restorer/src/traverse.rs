//! The one walk over snapshot and target that both planning and applying are made of.
//!
//! Planning and applying differ only in the [`Hands`] they put in, so that what was shown is what is done. Memory
//! follows the depth of folders, not their number nor how many names are in them.

use mailkeep_format::limits::DEPTH_MAX;
use mailkeep_format::{ChunkRef, Node};

use crate::contents::Nodes;
use crate::names::Names;
use crate::path::{join, show};
use crate::select::{Coverage, Selection};
use crate::{ContentsError, RestoreError, View};

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

impl Known<'_> {
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
    fn root(&mut self) -> Result<Self::Folder, RestoreError>;

    /// A folder of the snapshot; `None` passes over everything in it.
    fn enter(&mut self, parent: &Self::Folder, item: &Item) -> Result<Option<Self::Folder>, RestoreError>;

    /// Anything else.
    fn place(&mut self, parent: &Self::Folder, item: Item) -> Result<(), RestoreError>;

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

    /// Whether to give up.
    fn stopped(&self) -> bool;
}

struct Frame<'v, F> {
    folder: F,
    path: Vec<u8>,
    coverage: Coverage,
    content: Vec<ChunkRef>,
    stream: Stream<'v>,
    broken_off: bool,
}

/// The nodes of a folder of which the first has been read: that it can be read at all is known.
struct Stream<'v> {
    first: Option<Node>,
    rest: Nodes<'v>,
}

impl<'v> Stream<'v> {
    fn open(view: &'v View, path: &[u8], node: &Node) -> Result<Self, RestoreError> {
        let mut rest = view.nodes(path, node)?;
        match rest.next().transpose() {
            Ok(first) => Ok(Stream { first, rest }),
            Err(source) => Err(RestoreError::Unreadable { path: show(path), source }),
        }
    }

    fn next(&mut self) -> Option<Result<Node, ContentsError>> {
        self.first.take().map(Ok).or_else(|| self.rest.next())
    }
}

pub(crate) fn traverse<H: Hands>(
    view: &View,
    selection: &Selection,
    hands: &mut H,
) -> Result<(), RestoreError> {
    let path = b"/".to_vec();
    let stream = Stream::open(view, &path, view.root())?;
    let coverage = selection.of(&path);
    let content = view.root().content().to_vec();
    let mut stack = vec![Frame { folder: hands.root()?, path, coverage, content, stream, broken_off: false }];
    while let Some(frame) = stack.last_mut() {
        if hands.stopped() {
            return Err(RestoreError::Interrupted);
        }
        let node = match frame.stream.next() {
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
        if let Some(folder) = hands.enter(&frame.folder, &item)? {
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
