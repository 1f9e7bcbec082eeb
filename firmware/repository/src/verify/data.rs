//! The packs: their tables of contents, and on demand every byte.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use mailkeep_format::block::BlockOpener;
use mailkeep_format::pack::{BlockInfo, PackFooter, PackHeader};
use mailkeep_format::{ChunkId, ContentHash, PackId};

use super::{ReadData, VerifyReport};
use crate::error::{RepositoryError, chain};
use crate::index::{self, Loaded};
use crate::monitor::{LogMonitor, Monitor, Phase, Problem, Severity};
use crate::packfile::{self, PackFile};
use crate::repository::Repository;
use crate::storage::{StorageError, Window};
use crate::{layout, limits, sync};

/// Packs are looked at by several threads; this is what they share.
struct Shared<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    whole: bool,
    packs: Vec<(PackId, u64)>,
    next: AtomicUsize,
    done: AtomicU64,
    total: u64,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    blocks: u64,
    chunks: u64,
    bytes: u64,
    bad: HashSet<ChunkId>,
    damaged: BTreeSet<PackId>,
    /// Those of them whose table of contents cannot be read.
    closed: BTreeSet<PackId>,
}

/// Looks at the packs that `read` asks for; gives those that are damaged.
pub(super) fn check(
    repository: &Repository,
    read: ReadData,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
    missing: &mut HashSet<ChunkId>,
) -> Result<BTreeSet<PackId>, RepositoryError> {
    let present = Loaded::load(repository, &LogMonitor)?.present;
    let packs = present.into_iter().filter(|(id, _)| is_chosen(read, id)).collect();
    check_packs(repository, packs, read != ReadData::Structure, monitor, report, missing)
}

/// Looks at these packs (with their lengths): at their tables of contents, or if `whole` at every byte.
pub(super) fn check_packs(
    repository: &Repository,
    packs: Vec<(PackId, u64)>,
    whole: bool,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
    missing: &mut HashSet<ChunkId>,
) -> Result<BTreeSet<PackId>, RepositoryError> {
    let workers =
        std::thread::available_parallelism().map_or(1, |cores| cores.get()).min(limits::WORKERS_MAX);
    let shared = Shared {
        repository,
        monitor,
        whole,
        total: packs.iter().map(|(_, length)| length).sum(),
        packs,
        next: AtomicUsize::new(0),
        done: AtomicU64::new(0),
        found: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| look_at_packs(&shared))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(RepositoryError::Worker)))
    })?;
    report.packs += shared.packs.len() as u64;
    let found = shared.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.blocks += found.blocks;
    report.chunks += found.chunks;
    report.bytes += found.bytes;
    missing.extend(&found.bad);
    if whole && !found.closed.is_empty() {
        // What lies in a pack that does not say so itself is known from the index, as far as it is known.
        let view = Loaded::load(repository, &LogMonitor)?.view;
        missing.extend(index::contents(&view, &found.closed)?.into_iter().map(|(_, chunk)| chunk.id));
    }
    Ok(found.damaged)
}

fn is_chosen(read: ReadData, id: &PackId) -> bool {
    match read {
        ReadData::Structure | ReadData::All => true,
        ReadData::Slice { part, of } => {
            let mut start = [0; 8];
            start.copy_from_slice(&id.0[..8]);
            u64::from_be_bytes(start) % u64::from(of.max(1)) == u64::from(part.saturating_sub(1))
        }
    }
}

fn look_at_packs(shared: &Shared<'_>) -> Result<(), RepositoryError> {
    let mut tools =
        Tools { opener: packfile::opener(shared.repository)?, window: Window::new(), raw: Vec::new() };
    while let Some((id, length)) = shared.packs.get(shared.next.fetch_add(1, Ordering::Relaxed)) {
        let problem = |what: String| {
            shared.monitor.problem(&Problem::new(Severity::Lost, layout::pack(id), what));
            sync::lock(&shared.found).damaged.insert(*id);
        };
        // What the page cache holds says nothing about the disk.
        let opened = if shared.whole {
            packfile::open_past_cache(shared.repository, id)
        } else {
            packfile::open(shared.repository, id)
        };
        match opened {
            Ok(_) if !shared.whole => {}
            Ok(pack) => {
                if let Err(error) = read_pack(shared, &mut tools, id, &pack, &pack.footer) {
                    problem(chain(&error));
                    sync::lock(&shared.found).bad.extend(all_chunks(&pack.footer));
                }
            }
            Err(error) => {
                problem(chain(&error));
                sync::lock(&shared.found).closed.insert(*id);
            }
        }
        let done = shared.done.fetch_add(*length, Ordering::Relaxed) + length;
        if shared.whole {
            shared.monitor.progress(Phase::Data, done, shared.total);
        }
    }
    Ok(())
}

/// What one thread uses again from block to block.
struct Tools {
    opener: BlockOpener,
    window: Window,
    raw: Vec<u8>,
}

fn all_chunks(footer: &PackFooter) -> impl Iterator<Item = ChunkId> + '_ {
    footer.blocks.iter().flat_map(|block| block.chunks.iter().map(|(id, _)| *id))
}

/// How many of these blocks are read at once, and their length together.
fn next_read(blocks: &[BlockInfo]) -> (usize, usize) {
    let (mut count, mut length) = (0, 0);
    for block in blocks {
        let stored = block.head.stored_len as usize;
        if count > 0 && length + stored > limits::READ_BUFFER {
            break;
        }
        count += 1;
        length += stored;
    }
    (count, length)
}

/// Reads the file once, front to back: hashes all of it, opens every block, hashes every chunk.
fn read_pack(
    shared: &Shared<'_>,
    tools: &mut Tools,
    id: &PackId,
    file: &PackFile,
    footer: &PackFooter,
) -> Result<(), StorageError> {
    let Tools { opener, window, raw } = tools;
    let mut hasher = blake3::Hasher::new();
    let mut header = [0; PackHeader::LEN];
    file.read_at(0, &mut header)?;
    hasher.update(&header);
    let mut end = PackHeader::LEN as u64;
    let (mut bad, mut chunks) = (Vec::new(), 0);
    let mut number = 0;
    while !footer.blocks[number..].is_empty() {
        let (count, length) = next_read(&footer.blocks[number..]);
        let mut stored = file.read_window(end, length, window)?;
        hasher.update(stored);
        end += length as u64;
        for info in &footer.blocks[number..number + count] {
            let (block, rest) = stored.split_at_mut(info.head.stored_len as usize);
            stored = rest;
            if opener.open_into(&footer.salt, number as u32, &info.head, block, raw).is_err() {
                raw.clear();
            }
            number += 1;
            let mut start = 0;
            for (chunk, length) in &info.chunks {
                let bytes = raw.get(start..start + *length as usize);
                start += *length as usize;
                chunks += 1;
                let fits = |bytes| {
                    shared.repository.keys().id.chunk_id(info.head.kind, &ContentHash::of(bytes)) == *chunk
                };
                if !bytes.is_some_and(fits) {
                    bad.push(*chunk);
                }
            }
        }
    }
    let rest = file.read_window(end, (footer.length - end) as usize, window)?;
    hasher.update(rest);
    let is_named = hasher.finalize() == blake3::Hash::from_bytes(id.0);
    if !is_named || !bad.is_empty() {
        let what = format!(
            "{}; {} of its {chunks} chunks are unreadable",
            if is_named { "it was written damaged" } else { "its bytes are not what its name says" },
            bad.len()
        );
        // All chunks can be sound when the damage is in the table of contents' surroundings.
        let severity = if bad.is_empty() { Severity::Covered } else { Severity::Lost };
        shared.monitor.problem(&Problem::new(severity, layout::pack(id), what));
        sync::lock(&shared.found).damaged.insert(*id);
    }
    let mut found = sync::lock(&shared.found);
    found.blocks += footer.blocks.len() as u64;
    found.chunks += chunks;
    found.bytes += footer.length;
    found.bad.extend(bad);
    Ok(())
}
