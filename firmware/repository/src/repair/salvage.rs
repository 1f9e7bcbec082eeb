//! Copying what is still good in damaged packs to new packs. Follows COMMIT.md, "Repair", step 3.

use std::collections::BTreeSet;
use std::sync::Arc;

use mailkeep_format::{ChunkKind, ChunkRef, PackId};

use crate::error::RepositoryError;
use crate::index::{self, Loaded};
use crate::lock::WriteLock;
use crate::monitor::{LogMonitor, Monitor, Phase};
use crate::packfile;
use crate::reader::{Chunk, Reader};
use crate::repository::Repository;
use crate::storage::Storage;
use crate::writer::{Writer, WriterOptions};

/// How often a chunk is asked for before the disk is taken not to give it.
const ATTEMPTS: u32 = 3;

/// What was salvaged, and what was not.
#[derive(Default)]
pub(super) struct Salvaged {
    /// Chunks that were put into new packs.
    pub(super) chunks: u64,
    /// Packs of which the disk did not give a part.
    pub(super) unread: BTreeSet<PackId>,
}

/// Puts every chunk of these packs that can be read from anywhere, and that no sound pack has, into new packs, which are
/// flushed, read back and indexed. The packs are known to be damaged, so that the writer does not rely on them.
pub(super) fn salvage(
    repository: &Repository,
    storage: &Arc<dyn Storage>,
    lock: &Arc<WriteLock>,
    options: &WriterOptions,
    packs: &BTreeSet<PackId>,
    monitor: &dyn Monitor,
) -> Result<Salvaged, RepositoryError> {
    let reader = repository.reader(&LogMonitor)?;
    let view = Loaded::load(repository, &LogMonitor)?.view;
    let mut writer = Writer::under(repository, storage.clone(), lock.clone(), options, &LogMonitor)?;
    // The record says so too; but a record can be unreadable just now.
    writer.distrust(packs);
    let mut salvaged = Salvaged::default();
    for (done, id) in (0..).zip(packs) {
        monitor.progress(Phase::Salvage, done, packs.len() as u64);
        let contents: Vec<(ChunkKind, ChunkRef)> = match packfile::open(repository, id) {
            Ok(pack) => {
                let blocks = pack.footer.blocks.iter();
                blocks
                    .flat_map(|block| {
                        let kind = block.head.kind;
                        block.chunks.iter().map(move |&(id, length)| (kind, ChunkRef { id, length }))
                    })
                    .collect()
            }
            Err(error) => {
                if matches!(error, RepositoryError::Storage(_)) {
                    salvaged.unread.insert(*id);
                }
                index::contents(&view, &BTreeSet::from([*id]))?
            }
        };
        for (kind, chunk) in contents {
            if writer.knows(&chunk.id)? {
                continue;
            }
            match read(&reader, kind, &chunk) {
                Ok(bytes) => {
                    writer.put(kind, &bytes)?;
                    salvaged.chunks += 1;
                }
                // What the disk does not give now it may give another time: then the pack must still be in its place.
                // The same holds for what the index knew a moment ago.
                Err(RepositoryError::Storage(_) | RepositoryError::MissingChunk { .. }) => {
                    salvaged.unread.insert(*id);
                }
                // What is damaged was named in the plan.
                Err(_) => {}
            }
        }
    }
    writer.flush()?;
    Ok(salvaged)
}

fn read(reader: &Reader, kind: ChunkKind, chunk: &ChunkRef) -> Result<Chunk, RepositoryError> {
    let mut attempt = 1;
    loop {
        match reader.chunk(kind, chunk) {
            Err(RepositoryError::Storage(_)) if attempt < ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}
