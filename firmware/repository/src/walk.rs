//! Going through the directories of snapshots, each different one once, in flat memory: a stream of nodes per level, and a
//! bit for every directory that was seen.

use mailkeep_format::{ChunkRef, Node};

use crate::error::RepositoryError;
use crate::index::{View, Visited};
use crate::reader::Reader;
use crate::tree_nodes::TreeNodes;

/// What a walk comes across.
pub(crate) enum Met<'a> {
    /// A directory for the first time, before anything in it.
    Directory,
    /// Anything else than a directory; the path is that of the directory.
    Node(&'a Node),
    /// A directory, or the rest of one, cannot be read.
    Unreadable(RepositoryError),
}

/// A walk through any number of snapshots.
pub(crate) struct Walk {
    reader: Reader,
    visited: Visited,
}

impl Walk {
    /// A walk that has seen nothing; `view` is what `reader` reads through.
    pub(crate) fn new(reader: Reader, view: &View) -> Self {
        Walk { reader, visited: Visited::new(view) }
    }

    /// Goes through the tree with this root, leaving out directories that were seen before. `name` is what paths begin
    /// with.
    ///
    /// # Errors
    /// Those of `met`, and an index that cannot be read. What else cannot be read is told to `met`.
    pub(crate) fn tree(
        &mut self,
        root: &[ChunkRef],
        name: &str,
        mut met: impl FnMut(&str, Met<'_>) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let mut levels: Vec<(TreeNodes, String)> = Vec::new();
        let mut next = Some((root.to_vec(), name.to_owned()));
        loop {
            if let Some((content, path)) = next.take() {
                if self.visited.enter(&content)? {
                    met(&path, Met::Directory)?;
                    levels.push((self.reader.tree_nodes(&content), path));
                }
            }
            let Some((nodes, path)) = levels.last_mut() else { return Ok(()) };
            match nodes.next() {
                Some(Ok(node)) if node.is_directory() => {
                    let path = format!("{path}/{}", String::from_utf8_lossy(&node.name));
                    next = Some((node.content().to_vec(), path));
                }
                Some(Ok(node)) => met(path, Met::Node(&node))?,
                Some(Err(error)) => {
                    met(path, Met::Unreadable(error))?;
                    levels.pop();
                }
                None => {
                    levels.pop();
                }
            }
        }
    }
}
