//! The one walk over snapshot and target that both planning and applying are made of.
//!
//! Planning and applying differ only in the [`Hands`] they put in, so that what was shown is what is done. Memory
//! follows the depth of folders, not their number.

use mailkeep_format::Node;
use mailkeep_format::limits::DEPTH_MAX;

use crate::path::join;
use crate::select::{Coverage, Selection};
use crate::view::Listing;
use crate::{ContentsError, RestoreError, View};

/// A node of the snapshot, where it stands, and how it was asked for.
pub(crate) struct Item<'a> {
    pub(crate) listing: &'a Listing,
    pub(crate) index: usize,
    pub(crate) path: Vec<u8>,
    pub(crate) coverage: Coverage,
}

impl Item<'_> {
    pub(crate) fn node(&self) -> &Node {
        &self.listing[self.index]
    }
}

/// What is done at each stop of the walk.
pub(crate) trait Hands {
    /// A folder of the target that is being walked.
    type Folder;

    /// The target folder itself.
    fn root(&mut self) -> Result<Self::Folder, RestoreError>;

    /// A folder of the snapshot; `None` passes over everything in it.
    fn enter(&mut self, parent: &Self::Folder, item: &Item<'_>)
    -> Result<Option<Self::Folder>, RestoreError>;

    /// Anything else.
    fn place(&mut self, parent: &Self::Folder, item: &Item<'_>) -> Result<(), RestoreError>;

    /// Everything in a folder has been visited; `listing` is all that the snapshot has there.
    fn leave(
        &mut self,
        folder: Self::Folder,
        path: &[u8],
        coverage: Coverage,
        listing: &Listing,
    ) -> Result<(), RestoreError>;

    /// A folder of the snapshot cannot be read; the walk goes on behind it.
    fn unreadable(&mut self, path: &[u8], why: ContentsError) -> Result<(), RestoreError>;

    /// Whether to give up.
    fn stopped(&self) -> bool;
}

struct Frame<F> {
    folder: F,
    path: Vec<u8>,
    coverage: Coverage,
    listing: Listing,
    next: usize,
}

pub(crate) fn traverse<H: Hands>(
    view: &View,
    selection: &Selection,
    hands: &mut H,
) -> Result<(), RestoreError> {
    let path = b"/".to_vec();
    let listing = view.list(&path, view.root())?;
    let coverage = selection.of(&path);
    let mut stack = vec![Frame { folder: hands.root()?, path, coverage, listing, next: 0 }];
    while let Some(frame) = stack.last_mut() {
        if hands.stopped() {
            return Err(RestoreError::Interrupted);
        }
        if frame.next == frame.listing.len() {
            if let Some(Frame { folder, path, coverage, listing, .. }) = stack.pop() {
                hands.leave(folder, &path, coverage, &listing)?;
            }
            continue;
        }
        let index = frame.next;
        frame.next += 1;
        let path = join(&frame.path, &frame.listing[index].name);
        let coverage = match frame.coverage {
            Coverage::Inside => Coverage::Inside,
            _ => selection.of(&path),
        };
        if coverage == Coverage::Outside {
            continue;
        }
        let item = Item { listing: &frame.listing, index, path, coverage };
        if !item.node().is_directory() {
            hands.place(&frame.folder, &item)?;
            continue;
        }
        // Read before the target is touched: a folder that cannot be read is not entered, so nothing in it can be
        // taken for surplus (restic 4612: a listing error is not an empty folder).
        let below = match view.list(&item.path, item.node()) {
            Ok(below) => below,
            Err(RestoreError::Unreadable { source, .. }) => {
                hands.unreadable(&item.path, source)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(folder) = hands.enter(&frame.folder, &item)? {
            let Item { path, .. } = item;
            if stack.len() >= DEPTH_MAX {
                return Err(RestoreError::TooDeep { path: crate::path::show(&path) });
            }
            stack.push(Frame { folder, path, coverage, listing: below, next: 0 });
        }
    }
    Ok(())
}
