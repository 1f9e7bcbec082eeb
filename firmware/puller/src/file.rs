//! A wanted file on its way: its chunks as they were announced, and which of them are here.

use mailkeep_format::{ChunkRef, ContentHash, Node};

use crate::PullError;

/// One chunk of a file on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// In the repository.
    Here(ChunkRef),
    /// The agent was asked for it under this file.
    Asked(ContentHash, u32),
    /// The agent was asked for it under another file, or for an earlier place in this one.
    Shared(u32),
}

/// A wanted file of which something was heard.
#[derive(Debug, Default)]
pub(crate) struct OpenFile {
    pieces: Vec<Piece>,
    asked: usize,
    shared: usize,
    length: u64,
    /// A shared chunk went away with the file that it was asked for under.
    pub(crate) lost: bool,
    /// The agent's last word, kept while a shared chunk is still on its way.
    pub(crate) done: Option<Box<(Node, bool)>>,
}

impl OpenFile {
    /// Chunks announced so far.
    pub(crate) fn announced(&self) -> usize {
        self.pieces.len()
    }

    /// Sum of the announced lengths.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Notes the next chunk.
    pub(crate) fn announce(&mut self, piece: Piece) {
        match &piece {
            Piece::Here(chunk) => self.length += u64::from(chunk.length),
            Piece::Asked(_, length) => {
                self.asked += 1;
                self.length += u64::from(*length);
            }
            Piece::Shared(length) => {
                self.shared += 1;
                self.length += u64::from(*length);
            }
        }
        self.pieces.push(piece);
    }

    /// The chunk that was asked for under this number.
    pub(crate) fn asked(&self, number: u32) -> Option<(ContentHash, u32)> {
        match self.pieces.get(number as usize) {
            Some(Piece::Asked(hash, length)) => Some((*hash, *length)),
            _ => None,
        }
    }

    /// The hashes of all chunks that were asked for and are not here.
    pub(crate) fn outstanding(&self) -> impl Iterator<Item = (u32, ContentHash)> + '_ {
        self.pieces.iter().enumerate().filter_map(|(number, piece)| match piece {
            Piece::Asked(hash, _) => Some((number as u32, *hash)),
            _ => None,
        })
    }

    /// A chunk is in the repository now.
    pub(crate) fn arrived(&mut self, number: u32, chunk: ChunkRef) {
        if let Some(piece) = self.pieces.get_mut(number as usize) {
            match piece {
                Piece::Asked(..) => self.asked -= 1,
                Piece::Shared(_) => self.shared -= 1,
                Piece::Here(_) => {}
            }
            *piece = Piece::Here(chunk);
        }
    }

    /// A shared chunk will not come.
    pub(crate) fn lose(&mut self, number: u32) {
        if let Some(Piece::Shared(_)) = self.pieces.get(number as usize) {
            self.shared -= 1;
            self.lost = true;
        }
    }

    /// Whether chunks that other files owe are still on their way.
    pub(crate) fn waits_for_others(&self) -> bool {
        self.shared > 0
    }

    /// Whether chunks of its own are still on their way.
    pub(crate) fn is_owed(&self) -> bool {
        self.asked > 0
    }

    /// Its contents, once all chunks are here.
    pub(crate) fn content(self) -> Result<Vec<ChunkRef>, PullError> {
        self.pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Here(chunk) => Ok(chunk),
                Piece::Asked(..) | Piece::Shared(_) => {
                    Err(PullError::protocol("a file ended before all of its data came"))
                }
            })
            .collect()
    }
}
