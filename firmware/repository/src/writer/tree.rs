//! Storing a directory node by node: whatever their number, memory is one chunk and one node.

use mailkeep_format::node::TreeEncoder;
use mailkeep_format::{ChunkKind, ChunkRef, FormatError, Node};

use super::Writer;
use crate::error::RepositoryError;

/// A directory that is being stored. Dropped without [`TreeWriter::finish`] it leaves chunks behind that nothing names.
#[derive(Debug)]
pub struct TreeWriter<'a> {
    writer: &'a mut Writer,
    encoder: TreeEncoder,
    content: Vec<ChunkRef>,
}

impl Writer {
    /// Starts to store a directory.
    pub fn tree_writer(&mut self) -> TreeWriter<'_> {
        TreeWriter { writer: self, encoder: TreeEncoder::new(), content: Vec::new() }
    }

    /// Stores a directory that is whole in memory. The nodes are in ascending order of their names.
    ///
    /// # Errors
    /// As [`Writer::put`], and for nodes that make no tree.
    pub fn put_tree(&mut self, nodes: &[Node]) -> Result<Vec<ChunkRef>, RepositoryError> {
        let mut tree = self.tree_writer();
        for node in nodes {
            tree.push(node)?;
        }
        tree.finish()
    }
}

impl TreeWriter<'_> {
    /// Adds the next node.
    ///
    /// # Errors
    /// As [`Writer::put`], and for a node that does not follow the one before.
    pub fn push(&mut self, node: &Node) -> Result<(), RepositoryError> {
        self.encoder.push(node).map_err(unfit)?;
        self.store()
    }

    /// Stores what is left; gives the chunks of the whole directory.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub fn finish(mut self) -> Result<Vec<ChunkRef>, RepositoryError> {
        self.encoder.finish();
        self.store()?;
        Ok(self.content)
    }

    fn store(&mut self) -> Result<(), RepositoryError> {
        while let Some(chunk) = self.encoder.chunk() {
            self.content.push(self.writer.put(ChunkKind::Tree, chunk)?);
        }
        Ok(())
    }
}

fn unfit(source: FormatError) -> RepositoryError {
    RepositoryError::Encode { what: "a directory", source }
}
