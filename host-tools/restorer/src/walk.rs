//! Visits everything below a path, depth first, in the order of names.

use mailkeep_format::Node;
use mailkeep_format::limits::DEPTH_MAX;

use crate::path::{join, show};
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
    /// A folder that was given, or the rest of it, cannot be read; the walk goes on behind it.
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
    let mut stack = vec![(start.to_vec(), view.nodes(start, &node)?)];
    loop {
        let depth = stack.len();
        let Some((parent, nodes)) = stack.last_mut() else { return Ok(()) };
        let node = match nodes.next() {
            Some(Ok(node)) => node,
            None => {
                stack.pop();
                continue;
            }
            Some(Err(source)) => {
                let error = RestoreError::Unreadable { path: show(parent), source };
                if depth == 1 {
                    return Err(error);
                }
                let parent = std::mem::take(parent);
                stack.pop();
                if visit(&parent, Found::Unreadable(&error)) == Next::Stop {
                    return Ok(());
                }
                continue;
            }
        };
        let path = join(parent, &node.name);
        match visit(&path, Found::Node(&node)) {
            Next::Stop => return Ok(()),
            Next::Pass => continue,
            Next::Descend if !node.is_directory() => continue,
            Next::Descend => {}
        }
        if depth < DEPTH_MAX {
            let nodes = view.nodes(&path, &node)?;
            stack.push((path, nodes));
        } else if visit(&path, Found::Unreadable(&RestoreError::TooDeep { path: show(&path) })) == Next::Stop
        {
            return Ok(());
        }
    }
}
