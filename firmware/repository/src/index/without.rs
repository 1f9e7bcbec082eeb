//! Writing runs anew without the packs that prune has deleted.

use std::collections::HashSet;
use std::sync::Arc;

use mailkeep_format::run::{RunEncoder, RunEntry, RunPack};
use mailkeep_format::{PackId, Salt};

use super::run::{Run, run_error};
use super::view::View;
use crate::durable::{self, Unnamed};
use crate::error::RepositoryError;
use crate::repository::Repository;
use crate::storage::Storage;
use crate::{layout, limits};

/// Writes every run of which much is of these packs anew without them, where there is room for it. Gives the packs of
/// them that runs name all the same.
pub(crate) fn without(
    repository: &Repository,
    storage: &dyn Storage,
    view: &View,
    gone: &HashSet<PackId>,
) -> Result<HashSet<PackId>, RepositoryError> {
    let mut still_named = HashSet::new();
    for run in view.runs() {
        let packs = run.packs().map_err(|error| run_error(run.path(), error))?;
        let chunks = |packs: &mut dyn Iterator<Item = &RunPack>| -> u64 {
            packs.flat_map(|pack| &pack.blocks).map(|(_, chunks)| u64::from(*chunks)).sum()
        };
        let named: Vec<PackId> = packs.iter().map(|pack| pack.id).filter(|id| gone.contains(id)).collect();
        let waste = chunks(&mut packs.iter().filter(|pack| gone.contains(&pack.id)));
        let Some(id) = run.id.filter(|_| !named.is_empty()) else { continue };
        let room = storage.free_space()? / 2 > run.reader.entry_count().saturating_mul(40);
        if waste * limits::RUN_WASTE < run.reader.entry_count() || !room {
            still_named.extend(named);
            continue;
        }
        let run = run.sound()?;
        // What stands in for a damaged run counts its blocks by itself.
        let packs = run.packs().map_err(|error| run_error(run.path(), error))?;
        if packs.iter().any(|pack| !gone.contains(&pack.id)) {
            rewrite(repository, storage, &run, &packs, gone)?;
        }
        // Only now: the new run is durable.
        durable::remove(storage, &layout::run(&id))?;
        storage.sync_dir(layout::INDEX)?;
    }
    Ok(still_named)
}

fn rewrite(
    repository: &Repository,
    storage: &dyn Storage,
    run: &Arc<Run>,
    packs: &[RunPack],
    gone: &HashSet<PackId>,
) -> Result<(), RepositoryError> {
    let failed = |source| RepositoryError::Encode { what: "an index run", source };
    // What becomes of each block's number.
    let mut numbers: Vec<Option<u32>> = Vec::new();
    let mut next = 0;
    for pack in packs {
        let stays = !gone.contains(&pack.id);
        for _ in &pack.blocks {
            numbers.push(stays.then_some(next));
            next += u32::from(stays);
        }
    }
    let kept: Vec<RunPack> = packs.iter().filter(|pack| !gone.contains(&pack.id)).cloned().collect();
    let mut total = 0;
    run.entries(|entry| total += u64::from(numbers.get(entry.block as usize).is_some_and(Option::is_some)))?;
    let mut out = Vec::new();
    let salt = Salt::generate().map_err(|error| failed(error.into()))?;
    let mut encoder =
        RunEncoder::new(repository.keys(), repository.id(), salt, &kept, total, &mut out).map_err(failed)?;
    let mut file = Unnamed::create(storage)?;
    let mut trouble = Ok(());
    run.entries(|entry| {
        let Some(Some(block)) = numbers.get(entry.block as usize) else { return };
        if trouble.is_err() {
            return;
        }
        trouble = encoder.push(RunEntry { block: *block, ..*entry }, &mut out).map_err(failed);
        if trouble.is_ok() && out.len() >= limits::WRITE_PIECE {
            trouble = file.append(storage, &out);
            out.clear();
        }
    })?;
    trouble?;
    let id = encoder.finish(&mut out).map_err(failed)?;
    file.append(storage, &out)?;
    file.name(storage, &layout::run(&id))?;
    Ok(storage.sync_dir(layout::INDEX)?)
}
