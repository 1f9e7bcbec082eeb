//! Copying what is still good in damaged packs to new packs. Follows COMMIT.md, "Repair", step 3.

use std::collections::BTreeSet;
use std::sync::Arc;

use mailkeep_format::{ChunkKind, ChunkRef, PackId};

use crate::error::RepositoryError;
use crate::index::{self, Loaded};
use crate::lock::WriteLock;
use crate::monitor::{LogMonitor, Monitor, Phase};
use crate::packfile;
use crate::repository::Repository;
use crate::storage::Storage;
use crate::writer::{Writer, WriterOptions};

/// Puts every chunk of these packs that can be read from anywhere, and that no sound pack has, into new packs, which are
/// flushed, read back and indexed. The packs are known to be damaged, so that the writer does not rely on them. Gives
/// how many chunks were put.
pub(super) fn salvage(
    repository: &Repository,
    storage: &Arc<dyn Storage>,
    lock: &Arc<WriteLock>,
    options: &WriterOptions,
    packs: &BTreeSet<PackId>,
    monitor: &dyn Monitor,
) -> Result<u64, RepositoryError> {
    let reader = repository.reader(&LogMonitor)?;
    let view = Loaded::load(repository, &LogMonitor)?.view;
    let mut writer = Writer::under(repository, storage.clone(), lock.clone(), options, &LogMonitor)?;
    let mut salvaged = 0;
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
            Err(_) => index::contents(&view, &BTreeSet::from([*id]))?,
        };
        for (kind, chunk) in contents {
            if writer.knows(&chunk.id)? {
                continue;
            }
            // What cannot be read was named in the plan.
            let Ok(bytes) = reader.chunk(kind, &chunk) else { continue };
            writer.put(kind, &bytes)?;
            salvaged += 1;
        }
    }
    writer.flush()?;
    Ok(salvaged)
}
