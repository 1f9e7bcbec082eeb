//! Filling packs and giving them their names. Follows COMMIT.md, step 3.

use std::collections::HashSet;
use std::sync::Arc;

use mailkeep_format::block::Compressed;
use mailkeep_format::pack::{PackBuilder, PackFooter};
use mailkeep_format::{ChunkId, FormatError, PackId, Salt};

use crate::durable::{self, Unnamed};
use crate::error::RepositoryError;
use crate::layout;
use crate::lock::WriteLock;
use crate::repository::Repository;
use crate::storage::Storage;

/// Writes one pack after the other.
pub(super) struct Packer {
    repository: Repository,
    storage: Arc<dyn Storage>,
    lock: Arc<WriteLock>,
    current: Option<(PackBuilder, Unnamed)>,
    finished: Vec<(PackId, PackFooter)>,
    /// Folders that are durably there.
    folders: HashSet<u8>,
    out: Vec<u8>,
}

impl Packer {
    pub(super) fn new(repository: &Repository, storage: Arc<dyn Storage>, lock: Arc<WriteLock>) -> Self {
        Packer {
            repository: repository.clone(),
            storage,
            lock,
            current: None,
            finished: Vec::new(),
            folders: HashSet::new(),
            out: Vec::new(),
        }
    }

    /// Adds a block; gives the bytes that were written.
    pub(super) fn push(
        &mut self,
        block: &Compressed,
        chunks: Vec<(ChunkId, u32)>,
    ) -> Result<u64, RepositoryError> {
        self.out.clear();
        let (mut builder, mut file) = match self.current.take() {
            Some(current) => current,
            None => {
                let salt = Salt::generate().map_err(|error| failed(error.into()))?;
                let keys = self.repository.keys();
                let builder = PackBuilder::new(keys, self.repository.id(), salt, &mut self.out);
                (builder, Unnamed::create(&*self.storage)?)
            }
        };
        builder.push(block, chunks, &mut self.out).map_err(failed)?;
        file.append(&*self.storage, &self.out)?;
        let written = self.out.len() as u64;
        let full = builder.is_full();
        self.current = Some((builder, file));
        Ok(if full { written + self.close()? } else { written })
    }

    /// Closes the pack that is being filled; gives all packs since the last call, and the bytes that were written.
    pub(super) fn finish(&mut self) -> Result<(Vec<(PackId, PackFooter)>, u64), RepositoryError> {
        let written = self.close()?;
        Ok((std::mem::take(&mut self.finished), written))
    }

    fn close(&mut self) -> Result<u64, RepositoryError> {
        let Some((builder, mut file)) = self.current.take() else { return Ok(0) };
        self.out.clear();
        let (id, footer) = builder.finish(&mut self.out).map_err(failed)?;
        let storage = &*self.storage;
        file.append(storage, &self.out)?;
        let folder = layout::pack_folder(&id);
        if self.folders.insert(id.0[0]) {
            durable::make_dir(storage, &folder)?;
        }
        file.name(storage, &layout::pack(&id))?;
        storage.sync_dir(&folder)?;
        self.finished.push((id, footer));
        self.lock.renew()?;
        Ok(self.out.len() as u64)
    }
}

fn failed(source: FormatError) -> RepositoryError {
    RepositoryError::Encode { what: "a pack", source }
}
