//! Where a view gets its bytes from: the seam between this crate and the repository.
//!
//! Contract: what is returned has been authenticated; the same [`ChunkRef`] always gives the same bytes; calls may come
//! from several threads at once; memory per call is bounded by one chunk, and by one directory for [`Contents::tree`].

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use mailkeep_format::node::{TreeDecoder, decode_tree, encode_tree};
use mailkeep_format::{ChunkId, ChunkKind, ChunkRef, ContentHash, IdKey, Node};
use mailkeep_repository::{Expected, Gathered, Piece, Scratch};

use crate::ContentsError;

/// The nodes of a directory in ascending order of their names, read as they are asked for. What came before an error is
/// sound; after it nothing more comes, so that a directory that broke off is never taken for a short one.
pub type Nodes<'a> = Box<dyn Iterator<Item = Result<Node, ContentsError>> + 'a>;

/// Hands out directories and pieces of files.
pub trait Contents: Send + Sync {
    /// The directory whose encoding is cut into these chunks, its nodes in ascending order of their names.
    ///
    /// # Errors
    /// Damaged or unreachable; never an empty list in place of an error.
    fn tree(&self, content: &[ChunkRef]) -> Result<Vec<Node>, ContentsError>;

    /// As [`Contents::tree`], one node after the other: a folder may hold half a million of them.
    fn nodes<'a>(&'a self, content: &[ChunkRef]) -> Nodes<'a>;

    /// Hands the bytes of one chunk of a file to `take`, once.
    ///
    /// # Errors
    /// Damaged or unreachable; then `take` was not called.
    fn chunk(&self, chunk: &ChunkRef, take: &mut dyn FnMut(&[u8])) -> Result<(), ContentsError>;

    /// These chunks of files will be asked for soon, in about this order: what can be found out together is. Trouble is left
    /// to whoever asks.
    fn expect(&self, _chunks: &[ChunkRef]) -> Expected {
        Expected::default()
    }

    /// Hands out those of the expected `chunks` (the list of then) that `indexes` name, each with its index, in no certain
    /// order. One that cannot be had is left out; [`Contents::chunk`] says why.
    fn fetch(
        &self,
        _expected: &Expected,
        chunks: &[ChunkRef],
        indexes: &[u32],
        take: &mut dyn FnMut(u32, &[u8]),
    ) {
        for index in indexes {
            if let Some(chunk) = chunks.get(*index as usize) {
                let _ = self.chunk(chunk, &mut |bytes| take(*index, bytes));
            }
        }
    }

    /// As [`Contents::chunk`], only if that waits for nothing and nobody; whether `take` was called.
    fn at_hand(&self, _chunk: &ChunkRef, _take: &mut dyn FnMut(&[u8])) -> bool {
        false
    }

    /// Sorts chunks of files by what has to be read for them, in the order in which it is first needed. Each index of
    /// `chunks` is in exactly one group.
    fn gather(&self, chunks: &[ChunkRef]) -> Vec<Gathered> {
        vec![Gathered::loose(0..chunks.len() as u32)]
    }

    /// Hands all chunks of a group to `take` at once, in the order of their indexes. `None` in place of bytes: ask for
    /// this one with [`Contents::chunk`].
    fn read(
        &self,
        group: &Gathered,
        _chunks: &[ChunkRef],
        _scratch: &mut Scratch,
        take: &mut dyn FnMut(&[Piece<'_>]),
    ) {
        let none: Vec<_> = group.indexes().map(|index| (index, None)).collect();
        take(&none);
    }
}

/// Contents in memory, for tests of whatever stands on a view.
#[derive(Debug, Default)]
pub struct MemoryContents {
    chunks: Mutex<HashMap<ChunkId, Vec<u8>>>,
}

impl MemoryContents {
    /// Stores a file's bytes in pieces of at most `piece` bytes.
    pub fn put_file(&self, bytes: &[u8], piece: usize) -> Vec<ChunkRef> {
        bytes.chunks(piece.max(1)).map(|part| self.put(ChunkKind::Data, part)).collect()
    }

    /// Stores a directory.
    ///
    /// # Errors
    /// The nodes are not in strictly ascending order of their names.
    pub fn put_tree(&self, nodes: &[Node]) -> Result<Vec<ChunkRef>, mailkeep_format::FormatError> {
        Ok(vec![self.put(ChunkKind::Tree, &encode_tree(nodes)?)])
    }

    /// Stores a directory in pieces of at most `piece` bytes, as large ones are.
    ///
    /// # Errors
    /// As [`MemoryContents::put_tree`].
    pub fn put_tree_in_pieces(
        &self,
        nodes: &[Node],
        piece: usize,
    ) -> Result<Vec<ChunkRef>, mailkeep_format::FormatError> {
        Ok(encode_tree(nodes)?.chunks(piece.max(1)).map(|part| self.put(ChunkKind::Tree, part)).collect())
    }

    /// Loses a chunk, as a bad disk would.
    pub fn lose(&self, chunk: &ChunkRef) {
        self.chunks().remove(&chunk.id);
    }

    fn put(&self, kind: ChunkKind, bytes: &[u8]) -> ChunkRef {
        let id = IdKey::new([0; 32]).chunk_id(kind, &ContentHash::of(bytes));
        self.chunks().insert(id, bytes.to_vec());
        ChunkRef { id, length: bytes.len() as u32 }
    }

    fn chunks(&self) -> std::sync::MutexGuard<'_, HashMap<ChunkId, Vec<u8>>> {
        self.chunks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn get(&self, chunk: &ChunkRef) -> Result<Vec<u8>, ContentsError> {
        self.chunks()
            .get(&chunk.id)
            .cloned()
            .ok_or_else(|| ContentsError::Damaged(format!("chunk {} is missing", chunk.id)))
    }
}

impl Contents for MemoryContents {
    fn tree(&self, content: &[ChunkRef]) -> Result<Vec<Node>, ContentsError> {
        let mut bytes = Vec::new();
        for chunk in content {
            bytes.extend(self.get(chunk)?);
        }
        decode_tree(&bytes).map_err(|error| ContentsError::Damaged(error.to_string()))
    }

    fn nodes<'a>(&'a self, content: &[ChunkRef]) -> Nodes<'a> {
        let mut chunks = VecDeque::from(content.to_vec());
        let mut decoder = TreeDecoder::new();
        let mut next = move || {
            let damaged = |error: mailkeep_format::FormatError| ContentsError::Damaged(error.to_string());
            loop {
                if let Some(node) = decoder.node().map_err(damaged)? {
                    return Ok(Some(node));
                }
                match chunks.pop_front() {
                    Some(chunk) => decoder.push(&self.get(&chunk)?),
                    None => return decoder.last_nodes().map_err(damaged),
                }
            }
        };
        let mut ended = false;
        Box::new(std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let next = next().transpose();
            ended = !matches!(next, Some(Ok(_)));
            next
        }))
    }

    fn chunk(&self, chunk: &ChunkRef, take: &mut dyn FnMut(&[u8])) -> Result<(), ContentsError> {
        take(&self.get(chunk)?);
        Ok(())
    }
}
