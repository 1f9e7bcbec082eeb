//! Making few runs of many, so that a lookup stays cheap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use mailkeep_format::Salt;
use mailkeep_format::run::{RunEncoder, RunEntry, RunPack};

use super::run::{Run, run_error};
use crate::durable::Unnamed;
use crate::error::RepositoryError;
use crate::repository::Repository;
use crate::storage::Storage;
use crate::{layout, limits};

/// Merges runs until a lookup has few to ask; gives those that are left, the largest first. Small ones go first, so that
/// every entry is rewritten a logarithmic number of times. Long ones of about one length, as a first backup leaves them, are
/// merged although they are few: a new chunk is looked for in each of them, page by page.
pub(super) fn merge_small(
    repository: &Repository,
    storage: &dyn Storage,
    mut runs: Vec<Arc<Run>>,
) -> Result<Vec<Arc<Run>>, RepositoryError> {
    runs.sort_by_key(|run| run.reader.entry_count());
    let lengths: Vec<u64> = runs.iter().map(|run| run.reader.entry_count()).collect();
    let Some(merged) = to_merge(&lengths) else {
        runs.reverse();
        return Ok(runs);
    };
    let mut left = runs.split_off(merged.end);
    let group = runs.drain(merged.start..).collect();
    left.extend(std::mem::replace(&mut runs, group));
    let sound: Vec<Arc<Run>> = runs.iter().map(Run::sound).collect::<Result<_, _>>()?;
    left.push(Arc::new(merge_runs(repository, storage, &sound)?));
    left.sort_by_key(|run| Reverse(run.reader.entry_count()));
    for id in runs.iter().filter_map(|run| run.id) {
        crate::durable::remove(storage, &layout::run(&id))?;
    }
    storage.sync_dir(layout::INDEX)?;
    Ok(left)
}

/// Which runs to merge, of those that have these lengths, ascending.
fn to_merge(lengths: &[u64]) -> Option<Range<usize>> {
    let alike = |from: usize| {
        let most = lengths[from].saturating_mul(limits::RUNS_ALIKE);
        from..lengths.partition_point(|entries| *entries <= most)
    };
    if lengths.len() <= limits::RUNS_MAX {
        let first_long = lengths.partition_point(|entries| *entries < limits::RUN_LONG);
        return (first_long..lengths.len()).map(alike).find(|range| range.len() > limits::LONG_RUNS_MAX);
    }
    let (mut count, mut sum) = (0, 0);
    for entries in lengths {
        if count >= 2 && lengths.len() - count < limits::RUNS_MAX && *entries > 2 * sum {
            break;
        }
        count += 1;
        sum += entries;
    }
    Some(0..count)
}

/// Writes one run with everything that is in these, going through them side by side, a page of each in memory.
pub(super) fn merge_runs(
    repository: &Repository,
    storage: &dyn Storage,
    runs: &[Arc<Run>],
) -> Result<Run, RepositoryError> {
    let failed = |source| RepositoryError::Encode { what: "an index run", source };
    let mut packs: Vec<RunPack> = Vec::new();
    // Where the blocks of each run begin in the merged one. A pack that two runs name is kept twice: rare, and sound.
    let mut first_block = Vec::new();
    let mut blocks = 0u32;
    for run in runs {
        first_block.push(blocks);
        for pack in run.packs().map_err(|error| run_error(run.path(), error))? {
            blocks = blocks.saturating_add(pack.blocks.len() as u32);
            packs.push(pack);
        }
    }
    let total: u64 = runs.iter().map(|run| run.reader.entry_count()).sum();
    let mut out = Vec::new();
    let salt = Salt::generate().map_err(|error| failed(error.into()))?;
    let mut encoder =
        RunEncoder::new(repository.keys(), repository.id(), salt, &packs, total, &mut out).map_err(failed)?;
    drop(packs);
    let mut file = Unnamed::create(storage)?;
    let mut cursors =
        runs.iter().zip(first_block).map(|(run, first)| Cursor::new(run, first)).collect::<Vec<_>>();
    let mut heap: BinaryHeap<Reverse<(RunEntry, usize)>> = BinaryHeap::new();
    for (number, cursor) in cursors.iter_mut().enumerate() {
        heap.extend(cursor.next()?.map(|entry| Reverse((entry, number))));
    }
    while let Some(Reverse((entry, number))) = heap.pop() {
        encoder.push(entry, &mut out).map_err(failed)?;
        heap.extend(cursors[number].next()?.map(|entry| Reverse((entry, number))));
        if out.len() >= limits::WRITE_PIECE {
            file.append(storage, &out)?;
            out.clear();
        }
    }
    let id = encoder.finish(&mut out).map_err(failed)?;
    file.append(storage, &out)?;
    file.name(storage, &layout::run(&id))?;
    storage.sync_dir(layout::INDEX)?;
    Run::open_in(repository, storage, id).map_err(|error| run_error(layout::run(&id), error))
}

/// Goes through the entries of one run.
struct Cursor<'a> {
    run: &'a Run,
    /// What its blocks are counted from in the merged run.
    first_block: u32,
    next_page: u64,
    page: std::vec::IntoIter<RunEntry>,
}

impl<'a> Cursor<'a> {
    fn new(run: &'a Run, first_block: u32) -> Self {
        Cursor { run, first_block, next_page: 0, page: Vec::new().into_iter() }
    }

    fn next(&mut self) -> Result<Option<RunEntry>, RepositoryError> {
        let Cursor { run, first_block, next_page, page } = self;
        if page.len() == 0 && *next_page < run.reader.entry_pages() {
            let read_at = |offset, buffer: &mut [u8]| run.bytes.read_at(offset, buffer);
            *page = run
                .reader
                .entry_page(*next_page, read_at)
                .map_err(|error| run_error(run.path(), error))?
                .into_iter();
            *next_page += 1;
        }
        Ok(page.next().map(|entry| RunEntry { block: entry.block + *first_block, ..entry }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_runs_are_merged_the_small_ones_first() {
        assert_eq!(to_merge(&[1, 1, 1, 9, 9, 9]), None);
        assert_eq!(to_merge(&[1, 1, 1, 1, 1, 1, 1_000]), Some(0..6));
        assert_eq!(to_merge(&[]), None);
    }

    #[test]
    fn long_runs_of_about_one_length_are_merged_although_they_are_few() {
        let long = limits::RUN_LONG;
        assert_eq!(to_merge(&[7, long, long, long, long, 9 * long]), Some(1..5));
        assert_eq!(to_merge(&[7, long, long, long, 9 * long]), None, "three of a kind may stay");
        assert_eq!(to_merge(&[long - 1; 6]), None, "short ones are opened as fast as they are");
        // However long the backup, an entry is written anew once for each time that there is four times as much.
        let (mut runs, mut written) = (Vec::new(), 0);
        for _ in 0..256 {
            runs.push(long);
            runs.sort_unstable();
            while let Some(range) = to_merge(&runs) {
                let sum: u64 = runs.drain(range).sum();
                written += sum;
                runs.push(sum);
                runs.sort_unstable();
            }
        }
        assert!(written <= 6 * 256 * long, "{} times", written / (256 * long));
    }
}
