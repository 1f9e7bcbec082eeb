//! Visits everything below a path, depth first, in the order of names.

use mailkeep_format::Node;
use mailkeep_format::limits::DEPTH_MAX;

use crate::path::{join, show};
use crate::view::Listing;
use crate::{RestoreError, View};

/// What a visitor wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on, into this node if it is a folder.
    Descend,
    /// Go on, but not into this node.
    Pass,
    /// End the walk.
    Stop,
}

/// What a walk comes upon.
#[derive(Debug)]
pub enum Found<'a> {
    /// A node.
    Node(&'a Node),
    /// A folder whose node was just given cannot be read; the walk goes on behind it.
    Unreadable(&'a RestoreError),
}

/// Calls `visit` with the path of everything below the folder `start` (not with `start` itself).
///
/// # Errors
/// `start` is not there, is no folder, or cannot be read.
pub fn walk(
    view: &View,
    start: &[u8],
    visit: &mut dyn FnMut(&[u8], Found<'_>) -> Next,
) -> Result<(), RestoreError> {
    let node = view.lookup(start)?;
    let mut stack = vec![(start.to_vec(), view.list(start, &node)?, 0usize)];
    loop {
        let depth = stack.len();
        let Some((parent, listing, next)) = stack.last_mut() else { return Ok(()) };
        let Some(node) = listing.get(*next) else {
            stack.pop();
            continue;
        };
        *next += 1;
        let path = join(parent, &node.name);
        match visit(&path, Found::Node(node)) {
            Next::Stop => return Ok(()),
            Next::Pass => continue,
            Next::Descend if !node.is_directory() => continue,
            Next::Descend => {}
        }
        match open(view, &path, node, depth) {
            Ok(below) => stack.push((path, below, 0)),
            Err(error) => {
                if visit(&path, Found::Unreadable(&error)) == Next::Stop {
                    return Ok(());
                }
            }
        }
    }
}

fn open(view: &View, path: &[u8], node: &Node, depth: usize) -> Result<Listing, RestoreError> {
    if depth >= DEPTH_MAX {
        return Err(RestoreError::TooDeep { path: show(path) });
    }
    view.list(path, node)
}
