//! What a sweep needs of the writer: to open on a full disk, and to store again what is stored already.

use std::collections::BTreeSet;
use std::sync::Arc;

use mailkeep_format::{ChunkKind, ChunkRef, ContentHash, PackId};

use super::resume::Room;
use super::{Writer, WriterOptions, check_length};
use crate::error::RepositoryError;
use crate::index::View;
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::storage::Storage;

impl Writer {
    /// As [`Repository::writer`]; on a disk short of room nothing is written that can be done without.
    pub(crate) fn open_for_sweep(
        repository: &Repository,
        options: &WriterOptions,
        short: bool,
        monitor: &dyn Monitor,
    ) -> Result<Self, RepositoryError> {
        let room = if short { Room::Short } else { Room::Enough };
        Writer::open_where(repository, options, room, monitor)
    }

    /// The storage, which refuses all writes after the first one that failed.
    pub(crate) fn disk(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// What can be found, as of the last flush.
    pub(crate) fn known(&self) -> &Arc<View> {
        &self.known
    }

    /// Packs that no snapshot and no sweep names as its own.
    pub(crate) fn unsealed(&self) -> &BTreeSet<PackId> {
        &self.unsealed
    }

    /// Stores a chunk in a new pack although it has a place already; once in this session. The bytes must be the chunk.
    pub(crate) fn put_again(
        &mut self,
        kind: ChunkKind,
        chunk: ChunkRef,
        bytes: &[u8],
    ) -> Result<(), RepositoryError> {
        check_length(bytes)?;
        self.pipeline.check()?;
        let id = self.repository.keys().id.chunk_id(kind, &ContentHash::of(bytes));
        if id != chunk.id || bytes.len() != chunk.length as usize {
            return Err(RepositoryError::MissingChunk { id: chunk.id });
        }
        if self.in_session(&id).is_some() {
            return Ok(());
        }
        self.add(kind, chunk, bytes)
    }

    /// Whether the lease is still this one's: asked before anything is removed.
    pub(crate) fn confirm(&self) -> Result<(), RepositoryError> {
        self.lock.confirm()
    }

    /// Renews the lease when it is due.
    pub(crate) fn renew(&self) -> Result<(), RepositoryError> {
        self.lock.renew()
    }
}
