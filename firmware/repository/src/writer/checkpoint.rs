//! Keeping how far a backup has come. Follows COMMIT.md, "Checkpoints".

use mailkeep_format::{Checkpoint, ChunkRef};

use super::Writer;
use crate::checkpoints;
use crate::error::RepositoryError;

impl Writer {
    /// Keeps how far this backup has come, durably and in the place of what was known of its source. All that was put is on the
    /// medium then, has been read back and stands in the index. Version, repository and sequence of `record` are set here.
    ///
    /// # Errors
    /// As [`Writer::flush`]; [`RepositoryError::MissingChunk`] for a tree that was never put; what keeps the record from being
    /// written.
    pub fn keep_checkpoint(&mut self, record: Checkpoint) -> Result<(), RepositoryError> {
        self.flush()?;
        let trees = std::iter::once(&record.seen).chain(&record.compared_with);
        for chunk in trees.flat_map(|tree| &tree.root) {
            if !self.has(&chunk.id)? {
                return Err(RepositoryError::MissingChunk { id: chunk.id });
            }
        }
        let written = self.storage.flush_device().map_err(RepositoryError::from).and_then(|()| {
            checkpoints::write(&self.repository, &*self.storage, record, || self.lock.confirm())
        });
        written.map_err(|error| self.pipeline.stop(error))
    }

    /// Whether a new snapshot may refer to this chunk: a sound pack that nobody is about to delete has it, or this session.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn relies_on(&self, chunk: &ChunkRef) -> Result<bool, RepositoryError> {
        let stored = match self.in_session(&chunk.id) {
            Some(stored) => Some(stored),
            None => self.known.length_of(&chunk.id)?,
        };
        Ok(stored == Some(chunk.length))
    }
}
