//! The few things that a pass needs of a repository, as a seam: the assembly of a pass is written
//! against this trait alone, so that the protocol can be abused in tests without a disk.

use mailkeep_format::{Checkpoint, ChunkKind, ChunkRef, ContentHash, Node};
use mailkeep_repository::{Draft, Monitor, Reader, Sealed, Writer};

use crate::PullError;

/// The nodes of a directory, read as they are asked for.
pub type Nodes = Box<dyn Iterator<Item = Result<Node, PullError>> + Send>;

/// Where chunks go and where base trees come from.
///
/// Contract: an id that was returned by [`Store::known`] or [`Store::put`] can be referred to by a tree that is put
/// later and by the snapshot sealed at the end. Nothing is promised to be durable before the seal.
pub trait Store {
    /// The reference to a chunk of file contents that is there already with exactly this length. The length comes from
    /// the agent, and a wrong one must not get into a tree.
    ///
    /// # Errors
    /// The repository cannot be read.
    fn known(&mut self, hash: &ContentHash, length: u32) -> Result<Option<ChunkRef>, PullError>;

    /// Stores a chunk of file contents whose hash the caller has computed from these very bytes.
    ///
    /// # Errors
    /// The repository cannot be written.
    fn put(&mut self, hash: &ContentHash, bytes: &[u8]) -> Result<ChunkRef, PullError>;

    /// Stores the next chunk of an encoded directory.
    ///
    /// # Errors
    /// The repository cannot be written.
    fn put_tree_chunk(&mut self, bytes: &[u8]) -> Result<ChunkRef, PullError>;

    /// The nodes of a directory of the base tree, in ascending order of their names. What cannot be read, or is damaged,
    /// is an error among them.
    ///
    /// # Errors
    /// The repository cannot be read.
    fn tree_nodes(&mut self, content: &[ChunkRef]) -> Result<Nodes, PullError>;

    /// The bytes of one chunk of an encoded directory of the base tree.
    ///
    /// # Errors
    /// The repository cannot be read, or lacks it.
    fn tree_chunk(&mut self, chunk: &ChunkRef) -> Result<Vec<u8>, PullError>;

    /// Whether a tree that is put may refer to this chunk without its being put.
    ///
    /// # Errors
    /// The repository cannot be read.
    fn relies_on(&mut self, chunk: &ChunkRef) -> Result<bool, PullError>;

    /// Makes durable what was put, and how far the run has come.
    ///
    /// # Errors
    /// The repository cannot be written.
    fn keep(&mut self, checkpoint: Checkpoint) -> Result<(), PullError>;
}

/// A repository that is being written.
pub(crate) struct RepositoryStore {
    writer: Writer,
    reader: Reader,
}

impl RepositoryStore {
    pub(crate) fn new(writer: Writer) -> Self {
        let reader = writer.reader();
        RepositoryStore { writer, reader }
    }

    /// Makes everything that was put durable and readable.
    pub(crate) fn flush(&mut self) -> Result<(), PullError> {
        Ok(self.writer.flush()?)
    }

    /// Whether there is nothing that could be known.
    pub(crate) fn is_bare(&self) -> bool {
        self.writer.is_bare()
    }

    /// Reads what was there before and what was flushed.
    pub(crate) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Makes the snapshot.
    pub(crate) fn seal(self, draft: Draft, monitor: &dyn Monitor) -> Result<Sealed, PullError> {
        Ok(self.writer.seal(draft, monitor)?)
    }
}

impl Store for RepositoryStore {
    fn known(&mut self, hash: &ContentHash, length: u32) -> Result<Option<ChunkRef>, PullError> {
        Ok(self.writer.chunk_for(ChunkKind::Data, hash, length)?)
    }

    fn put(&mut self, hash: &ContentHash, bytes: &[u8]) -> Result<ChunkRef, PullError> {
        Ok(self.writer.put_hashed(ChunkKind::Data, hash, bytes)?)
    }

    fn put_tree_chunk(&mut self, bytes: &[u8]) -> Result<ChunkRef, PullError> {
        Ok(self.writer.put(ChunkKind::Tree, bytes)?)
    }

    fn tree_nodes(&mut self, content: &[ChunkRef]) -> Result<Nodes, PullError> {
        Ok(Box::new(self.reader.tree_nodes(content).map(|node| Ok(node?))))
    }

    fn tree_chunk(&mut self, chunk: &ChunkRef) -> Result<Vec<u8>, PullError> {
        Ok(self.reader.chunk(ChunkKind::Tree, chunk)?.to_vec())
    }

    fn relies_on(&mut self, chunk: &ChunkRef) -> Result<bool, PullError> {
        Ok(self.writer.relies_on(chunk)?)
    }

    fn keep(&mut self, checkpoint: Checkpoint) -> Result<(), PullError> {
        Ok(self.writer.keep_checkpoint(checkpoint)?)
    }
}
