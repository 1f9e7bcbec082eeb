//! A directory as a stream of its nodes: whatever their number, memory is one chunk and one node.

use mailkeep_format::node::TreeDecoder;
use mailkeep_format::{ChunkKind, ChunkRef, FormatError, Node};

use crate::error::RepositoryError;
use crate::reader::Reader;

/// The nodes of a directory in ascending order of their names. After an error nothing more comes.
#[derive(Debug)]
pub struct TreeNodes {
    reader: Reader,
    chunks: std::vec::IntoIter<ChunkRef>,
    decoder: TreeDecoder,
    ended: bool,
}

impl Reader {
    /// The nodes of a directory, decoded as they are asked for. What came before an error is sound.
    #[allow(clippy::unnecessary_to_owned, reason = "the iterator outlives what it was asked for")]
    pub fn tree_nodes(&self, content: &[ChunkRef]) -> TreeNodes {
        TreeNodes {
            reader: self.clone(),
            chunks: content.to_vec().into_iter(),
            decoder: TreeDecoder::new(),
            ended: false,
        }
    }
}

impl TreeNodes {
    fn next_node(&mut self) -> Result<Option<Node>, RepositoryError> {
        let damaged =
            |source: FormatError| RepositoryError::Damaged { path: "a directory".to_owned(), source };
        loop {
            if let Some(node) = self.decoder.node().map_err(damaged)? {
                return Ok(Some(node));
            }
            match self.chunks.next() {
                Some(chunk) => self.decoder.push(&self.reader.chunk(ChunkKind::Tree, &chunk)?),
                None => return self.decoder.last_nodes().map_err(damaged),
            }
        }
    }
}

impl Iterator for TreeNodes {
    type Item = Result<Node, RepositoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_node().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
