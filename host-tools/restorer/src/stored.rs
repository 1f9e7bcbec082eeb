//! A repository's reader as [`Contents`].

use std::error::Error;

use mailkeep_format::{ChunkKind, ChunkRef, Node};
use mailkeep_repository::{Expected, Gathered, Piece, Reader, RepositoryError, Scratch};

use crate::contents::Nodes;
use crate::{Contents, ContentsError};

/// Exit code of [`RepositoryError`] for damaged data.
const DAMAGED: u8 = 65;

impl Contents for Reader {
    fn tree(&self, content: &[ChunkRef]) -> Result<Vec<Node>, ContentsError> {
        Reader::tree(self, content).map_err(told)
    }

    fn nodes<'a>(&'a self, content: &[ChunkRef]) -> Nodes<'a> {
        Box::new(self.tree_nodes(content).map(|node| node.map_err(told)))
    }

    fn chunk(&self, chunk: &ChunkRef, take: &mut dyn FnMut(&[u8])) -> Result<(), ContentsError> {
        take(&Reader::chunk(self, ChunkKind::Data, chunk).map_err(told)?);
        Ok(())
    }

    fn expect(&self, chunks: &[ChunkRef]) -> Expected {
        Reader::expect(self, chunks)
    }

    fn fetch(
        &self,
        expected: &Expected,
        chunks: &[ChunkRef],
        indexes: &[u32],
        take: &mut dyn FnMut(u32, &[u8]),
    ) {
        Reader::fetch(self, expected, chunks, indexes, take);
    }

    fn at_hand(&self, chunk: &ChunkRef, take: &mut dyn FnMut(&[u8])) -> bool {
        let found = Reader::at_hand(self, ChunkKind::Data, chunk);
        found.is_some_and(|bytes| {
            take(&bytes);
            true
        })
    }

    fn gather(&self, chunks: &[ChunkRef]) -> Vec<Gathered> {
        Reader::gather(self, chunks)
    }

    fn read(
        &self,
        group: &Gathered,
        chunks: &[ChunkRef],
        scratch: &mut Scratch,
        take: &mut dyn FnMut(&[Piece<'_>]),
    ) {
        self.read_gathered(ChunkKind::Data, group, chunks, scratch, take);
    }
}

/// Whatever is not known to be damage may be a disk that was pulled out, or a bad cable.
fn told(error: RepositoryError) -> ContentsError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    match error.exit_code() {
        DAMAGED => ContentsError::Damaged(text),
        _ => ContentsError::Unreachable(text),
    }
}
