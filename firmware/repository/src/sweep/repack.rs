//! Copying what is needed out of packs that are mostly waste. Follows COMMIT.md, "Prune", step 7.

use std::collections::{BTreeMap, HashSet};

use mailkeep_format::{ChunkRef, PackId};

use super::doubt::is_local;
use super::mark::{Marks, PackUse};
use crate::error::{RepositoryError, chain};
use crate::monitor::{Monitor, Phase};
use crate::repository::Repository;
use crate::writer::Writer;
use crate::{limits, packfile};

/// Copies every chunk that is marked in these packs into new ones, which are on the medium, read back and indexed when
/// this returns. Gives the packs of which not all that is marked could be copied, and why.
pub(super) fn repack(
    repository: &Repository,
    writer: &mut Writer,
    marks: &Marks,
    packs: &[PackUse],
    monitor: &dyn Monitor,
    go_on: &dyn Fn() -> Result<(), RepositoryError>,
) -> Result<BTreeMap<PackId, String>, RepositoryError> {
    let mut failed = BTreeMap::new();
    let total = packs.iter().map(|pack| pack.live).sum();
    let mut done = 0;
    let mut rest = packs;
    while !rest.is_empty() {
        // As many packs at a time as memory allows: each group goes through the index once.
        let (mut count, mut chunks) = (0, 0);
        while count < rest.len() && (count == 0 || chunks + rest[count].chunks <= limits::REPACK_CHUNKS) {
            chunks += rest[count].chunks;
            count += 1;
        }
        let (group, after) = rest.split_at(count);
        rest = after;
        let ids: HashSet<PackId> = group.iter().map(|pack| pack.id).collect();
        let mut live = marks.marked_in(&ids)?;
        for pack in group {
            go_on()?;
            match copy(repository, writer, &pack.id, &mut live) {
                Err(error) if is_local(&error) => {
                    failed.insert(pack.id, format!("it cannot be read in full ({})", chain(&error)));
                }
                other => other?,
            }
            done += pack.live;
            monitor.progress(Phase::Data, done, total);
        }
        // What the writer holds of this group goes to the disk before the next one comes.
        writer.flush()?;
        if live.is_empty() {
            continue;
        }
        for pack in group {
            let marked = marks.marked_in(&HashSet::from([pack.id]))?;
            if marked.iter().any(|chunk| live.contains(chunk)) {
                failed.entry(pack.id).or_insert_with(|| "not all is in it that the index names".to_owned());
            }
        }
    }
    Ok(failed)
}

fn copy(
    repository: &Repository,
    writer: &mut Writer,
    id: &PackId,
    live: &mut HashSet<mailkeep_format::ChunkId>,
) -> Result<(), RepositoryError> {
    let pack = packfile::open(repository, id)?;
    let mut opener = packfile::opener(repository)?;
    for (number, block) in (0..).zip(&pack.footer.blocks) {
        if !block.chunks.iter().any(|(chunk, _)| live.contains(chunk)) {
            continue;
        }
        let raw = pack.read_block(&mut opener, &pack.footer.salt, number, &block.head)?;
        let mut start = 0;
        for (chunk, length) in &block.chunks {
            let bytes = raw.get(start..start + *length as usize).unwrap_or_default();
            start += *length as usize;
            if live.contains(chunk) {
                let chunk = ChunkRef { id: *chunk, length: *length };
                // Proves that these bytes are the chunk.
                writer
                    .put_again(block.head.kind, chunk, bytes)
                    .map_err(|error| damaged(error, &chunk, id))?;
                live.remove(&chunk.id);
            }
        }
    }
    Ok(())
}

fn damaged(error: RepositoryError, chunk: &ChunkRef, pack: &PackId) -> RepositoryError {
    match error {
        RepositoryError::MissingChunk { .. } => RepositoryError::DamagedChunk { id: chunk.id, pack: *pack },
        other => other,
    }
}
