//! Filling packs, giving them their names and reading them back. Follows COMMIT.md, steps 3 and 4.
//!
//! The two are apart because the second waits for the disk: while a full pack is made durable the next one is filled.

use std::collections::HashSet;
use std::sync::Arc;

use mailkeep_format::block::Compressed;
use mailkeep_format::pack::{PackBuilder, PackFooter};
use mailkeep_format::{ChunkId, FormatError, PackId, Salt};

use crate::durable::{self, Unnamed};
use crate::error::RepositoryError;
use crate::lock::WriteLock;
use crate::repository::Repository;
use crate::storage::Storage;
use crate::{layout, packfile};

/// Fills one pack after the other.
pub(super) struct Packer {
    repository: Repository,
    storage: Arc<dyn Storage>,
    current: Option<(PackBuilder, Unnamed)>,
    out: Vec<u8>,
}

/// A pack that is written whole and neither durable nor named.
pub(super) struct Filled {
    file: Unnamed,
    id: PackId,
    footer: PackFooter,
}

/// Makes filled packs durable, names them and reads them back, in their order.
pub(super) struct Namer {
    storage: Arc<dyn Storage>,
    lock: Arc<WriteLock>,
    finished: Vec<(PackId, PackFooter)>,
    /// Folders that are durably there.
    folders: HashSet<u8>,
}

impl Packer {
    pub(super) fn new(repository: &Repository, storage: Arc<dyn Storage>) -> Self {
        Packer { repository: repository.clone(), storage, current: None, out: Vec::new() }
    }

    /// Adds a block; gives the bytes that were written, and the pack if it is full.
    pub(super) fn push(
        &mut self,
        block: Compressed,
        chunks: Vec<(ChunkId, u32)>,
    ) -> Result<(u64, Option<Filled>), RepositoryError> {
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
        let sealed = builder.seal(block, chunks).map_err(failed)?;
        let written = (self.out.len() + sealed.len()) as u64;
        if self.out.is_empty() {
            file.append(&*self.storage, &sealed)?;
        } else {
            // With the header before it.
            self.out.extend_from_slice(&sealed);
            file.append(&*self.storage, &self.out)?;
        }
        let full = builder.is_full();
        self.current = Some((builder, file));
        if !full {
            return Ok((written, None));
        }
        let (end, filled) = self.finish()?;
        Ok((written + end, filled))
    }

    /// Ends the pack that is being filled, if there is one; gives the bytes that were written for that, and the pack.
    pub(super) fn finish(&mut self) -> Result<(u64, Option<Filled>), RepositoryError> {
        let Some((builder, mut file)) = self.current.take() else { return Ok((0, None)) };
        self.out.clear();
        let (id, footer) = builder.finish(&mut self.out).map_err(failed)?;
        // The buffer goes: a header needs 44 bytes of it until the next pack is full.
        let out = std::mem::take(&mut self.out);
        file.append(&*self.storage, &out)?;
        Ok((out.len() as u64, Some(Filled { file, id, footer })))
    }
}

impl Namer {
    pub(super) fn new(storage: Arc<dyn Storage>, lock: Arc<WriteLock>) -> Self {
        Namer { storage, lock, finished: Vec::new(), folders: HashSet::new() }
    }

    /// Makes a pack durable, names it, and reads it back from behind the device's own flush. While that goes on the next
    /// one is filled: at the end of a backup only the last one is still to be read.
    pub(super) fn name(&mut self, filled: Filled) -> Result<(), RepositoryError> {
        let Filled { file, id, footer } = filled;
        let storage = &*self.storage;
        let folder = layout::pack_folder(&id);
        if self.folders.insert(id.0[0]) {
            durable::make_dir(storage, &folder)?;
        }
        file.name(storage, &layout::pack(&id))?;
        storage.sync_dir(&folder)?;
        storage.flush_device()?;
        if !packfile::reads_back(storage, &id)? {
            return Err(RepositoryError::ReadBack { path: layout::pack(&id) });
        }
        self.finished.push((id, footer));
        self.lock.renew()
    }

    /// All packs that were named and read back since the last call.
    pub(super) fn take_finished(&mut self) -> Vec<(PackId, PackFooter)> {
        std::mem::take(&mut self.finished)
    }
}

fn failed(source: FormatError) -> RepositoryError {
    RepositoryError::Encode { what: "a pack", source }
}
