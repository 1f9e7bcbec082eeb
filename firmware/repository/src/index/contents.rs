//! What the runs say lies in a pack: for packs whose own table of contents is damaged.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use mailkeep_format::{ChunkId, ChunkKind, ChunkRef, PackId};

use super::run::{Run, run_error};
use super::view::View;
use crate::error::RepositoryError;

/// The chunks of these packs as far as a run names them, as they lie in the packs. Goes through the runs that name one
/// of them once; memory is that of the chunks that are given.
pub(crate) fn contents(
    view: &View,
    packs: &BTreeSet<PackId>,
) -> Result<Vec<(ChunkKind, ChunkRef)>, RepositoryError> {
    let mut chunks = Vec::new();
    for run in view.runs() {
        match of_run(run, packs) {
            Ok(found) => chunks.extend(found),
            // A run is a cache: what a damaged one knew may be known from elsewhere, or is lost with the pack.
            Err(error @ RepositoryError::Damaged { .. }) => {
                tracing::warn!(%error, "its part of a damaged pack cannot be told");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(chunks)
}

fn of_run(run: &Arc<Run>, packs: &BTreeSet<PackId>) -> Result<Vec<(ChunkKind, ChunkRef)>, RepositoryError> {
    let failed = |error| run_error(run.path(), error);
    let mut spans: Vec<(Range<u32>, Vec<ChunkKind>)> = Vec::new();
    let mut first = 0u32;
    for pack in run.packs().map_err(failed)? {
        let end = first.saturating_add(pack.blocks.len() as u32);
        if packs.contains(&pack.id) {
            spans.push((first..end, pack.blocks.iter().map(|(head, _)| head.kind).collect()));
        }
        first = end;
    }
    if spans.is_empty() {
        return Ok(Vec::new());
    }
    let kind_of = |block: u32| {
        let span = spans.iter().find(|(span, _)| span.contains(&block))?;
        span.1.get((block - span.0.start) as usize).copied()
    };
    let mut found: Vec<(u32, u32, ChunkKind, ChunkId, u32)> = Vec::new();
    for page in 0..run.reader.entry_pages() {
        let read_at = |offset, buffer: &mut [u8]| run.bytes.read_at(offset, buffer);
        for entry in run.reader.entry_page(page, read_at).map_err(failed)? {
            if let Some(kind) = kind_of(entry.block) {
                found.push((entry.block, entry.offset, kind, entry.id, entry.length));
            }
        }
    }
    found.sort_unstable_by_key(|chunk| (chunk.0, chunk.1));
    Ok(found.into_iter().map(|(_, _, kind, id, length)| (kind, ChunkRef { id, length })).collect())
}
