//! Which places in the packs are needed by what stays. Follows COMMIT.md, "Prune", step 3.
//!
//! One bit per index entry, a few words per block and pack; directories that were seen are remembered by a hash. Every
//! chunk has exactly one marked place, so that of two copies one can go, and which packs vouch for which is kept.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use mailkeep_format::run::RunEntry;
use mailkeep_format::{ChunkId, ChunkRef, PackId};

use crate::error::RepositoryError;
use crate::index::{Run, View, run_error};
use crate::limits;
use crate::monitor::{Monitor, Phase};
use crate::reader::Reader;
use crate::snapshots::SnapshotEntry;

/// What of the repository is needed.
pub(super) struct Marks {
    runs: Vec<MarkedRun>,
    packs: Vec<PackUse>,
    numbers: HashMap<PackId, u32>,
    /// Pairs of packs: the first has the marked place of a chunk that the second one has too.
    vouches: HashSet<(u32, u32)>,
    wanted: Vec<ChunkId>,
}

/// How much of a pack is needed.
#[derive(Clone, Debug)]
pub(super) struct PackUse {
    pub(super) id: PackId,
    /// Length of the file, bytes.
    pub(super) length: u64,
    /// Which of several copies is marked: the one in the pack with the highest rank; none if this is `None`.
    rank: Option<u64>,
    /// Marked chunks.
    pub(super) chunks: u64,
    /// What they take in the file, bytes, about.
    pub(super) live: u64,
}

struct MarkedRun {
    run: Arc<Run>,
    blocks: Vec<BlockUse>,
    bits: Vec<u64>,
}

#[derive(Clone, Copy)]
struct BlockUse {
    pack: u32,
    raw: u32,
    stored: u32,
}

/// A place that was found, with the rank of its pack.
#[derive(Clone, Copy)]
struct Found {
    rank: u64,
    pack: u32,
    run: u32,
    number: u64,
    block: u32,
    length: u32,
}

impl Marks {
    /// Nothing is marked yet. `rank` says of a pack how gladly a chunk is left in it; `None` for one that is gone.
    pub(super) fn new(view: &View, rank: impl Fn(&PackId) -> Option<u64>) -> Result<Self, RepositoryError> {
        let mut marks = Marks {
            runs: Vec::new(),
            packs: Vec::new(),
            numbers: HashMap::new(),
            vouches: HashSet::new(),
            wanted: Vec::new(),
        };
        for run in view.runs() {
            // Every page is checked: what a damaged one hides would count as unneeded.
            let run = run.sound()?;
            let mut blocks = Vec::new();
            for pack in run.packs().map_err(|error| run_error(run.path(), error))? {
                let next = marks.packs.len() as u32;
                let number = *marks.numbers.entry(pack.id).or_insert(next);
                if number == next {
                    let (id, length, rank) = (pack.id, pack.length, rank(&pack.id));
                    marks.packs.push(PackUse { id, length, rank, chunks: 0, live: 0 });
                }
                blocks.extend(pack.blocks.iter().map(|(head, _)| BlockUse {
                    pack: number,
                    raw: head.raw_len,
                    stored: head.stored_len,
                }));
            }
            let bits = vec![0; run.entry_count().div_ceil(64) as usize];
            marks.runs.push(MarkedRun { run, blocks, bits });
        }
        Ok(marks)
    }

    /// A pack that is there and that no index run names: no chunk in it can be marked.
    pub(super) fn add_unindexed(&mut self, id: PackId, length: u64) {
        let next = self.packs.len() as u32;
        if *self.numbers.entry(id).or_insert(next) == next {
            self.packs.push(PackUse { id, length, rank: Some(0), chunks: 0, live: 0 });
        }
    }

    /// Walks through these snapshots and marks a place of every chunk in them.
    ///
    /// # Errors
    /// A directory that cannot be read; [`RepositoryError::MissingChunk`] for a chunk without a place.
    pub(super) fn walk(
        &mut self,
        reader: &Reader,
        snapshots: &[&SnapshotEntry],
        monitor: &dyn Monitor,
        mut pause: impl FnMut() -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let mut seen: HashSet<[u8; 16]> = HashSet::new();
        for entry in snapshots {
            let mut left = vec![entry.manifest.root.clone()];
            while let Some(content) = left.pop() {
                if !seen.insert(fingerprint(&content)) {
                    continue;
                }
                monitor.progress(Phase::Structure, seen.len() as u64, 0);
                self.want(&content)?;
                for node in reader.tree_nodes(&content) {
                    let node = node?;
                    if node.is_directory() {
                        left.push(node.content().to_vec());
                    } else {
                        self.want(node.content())?;
                    }
                }
                pause()?;
            }
        }
        self.settle()
    }

    fn want(&mut self, content: &[ChunkRef]) -> Result<(), RepositoryError> {
        for chunk in content {
            self.wanted.push(chunk.id);
            if self.wanted.len() >= limits::MARK_BATCH {
                self.settle()?;
            }
        }
        Ok(())
    }

    /// Finds everything that is wanted: sorted, so that each run is gone through once in order.
    fn settle(&mut self) -> Result<(), RepositoryError> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.sort_unstable();
        wanted.dedup();
        let mut best: Vec<Option<Found>> = vec![None; wanted.len()];
        for (number, marked) in (0..).zip(&self.runs) {
            let (packs, vouches) = (&self.packs, &mut self.vouches);
            marked.find(&wanted, |at, entry_number, entry| {
                let Some(block) = marked.blocks.get(entry.block as usize) else { return };
                let Some(rank) = packs[block.pack as usize].rank else { return };
                let found = Found {
                    rank,
                    pack: block.pack,
                    run: number,
                    number: entry_number,
                    block: entry.block,
                    length: entry.length,
                };
                best[at] = Some(match best[at] {
                    Some(before) if (before.rank, before.pack) >= (rank, block.pack) => {
                        vouches.insert((before.pack, block.pack));
                        before
                    }
                    Some(before) => {
                        vouches.insert((block.pack, before.pack));
                        found
                    }
                    None => found,
                });
            })?;
        }
        for (id, found) in wanted.iter().zip(&best) {
            let Some(found) = found else { return Err(RepositoryError::MissingChunk { id: *id }) };
            let marked = &mut self.runs[found.run as usize];
            let block = marked.blocks[found.block as usize];
            if marked.set(found.number) {
                let pack = &mut self.packs[found.pack as usize];
                pack.chunks += 1;
                // Its part of the block as it lies in the file.
                pack.live +=
                    (u64::from(found.length) * u64::from(block.stored)).div_ceil(u64::from(block.raw));
            }
        }
        wanted.clear();
        self.wanted = wanted;
        Ok(())
    }

    /// All packs that are there and that an index run names.
    pub(super) fn packs(&self) -> impl Iterator<Item = &PackUse> {
        self.packs.iter().filter(|pack| pack.rank.is_some())
    }

    /// Whether something is marked in this pack; a pack that is not known is needed.
    pub(super) fn needs(&self, id: &PackId) -> bool {
        self.numbers.get(id).is_none_or(|number| self.packs[*number as usize].chunks > 0)
    }

    /// The packs whose copy of a chunk must be sound when these are to go.
    pub(super) fn witnesses(&self, going: &HashSet<PackId>) -> BTreeSet<PackId> {
        let id = |number: u32| self.packs[number as usize].id;
        self.vouches
            .iter()
            .map(|(witness, other)| (id(*witness), id(*other)))
            .filter(|(witness, other)| going.contains(other) && !going.contains(witness))
            .map(|(witness, _)| witness)
            .collect()
    }

    /// The chunks that are marked in these packs.
    pub(super) fn marked_in(&self, packs: &HashSet<PackId>) -> Result<HashSet<ChunkId>, RepositoryError> {
        let mut chunks = HashSet::new();
        for marked in &self.runs {
            let mut number = 0;
            marked.run.entries(|entry| {
                let inside = marked
                    .blocks
                    .get(entry.block as usize)
                    .is_some_and(|block| packs.contains(&self.packs[block.pack as usize].id));
                if inside && marked.is_set(number) {
                    chunks.insert(entry.id);
                }
                number += 1;
            })?;
        }
        Ok(chunks)
    }
}

impl MarkedRun {
    /// Hands out every entry that has one of these ids, which ascend, with the index of the id and its own number.
    fn find(
        &self,
        ids: &[ChunkId],
        mut each: impl FnMut(usize, u64, &RunEntry),
    ) -> Result<(), RepositoryError> {
        let (mut at, mut number) = (0, 0);
        self.run.entries(|entry| {
            while ids.get(at).is_some_and(|id| *id < entry.id) {
                at += 1;
            }
            if ids.get(at) == Some(&entry.id) {
                each(at, number, entry);
            }
            number += 1;
        })
    }

    /// Whether it was not set before.
    fn set(&mut self, number: u64) -> bool {
        let word = &mut self.bits[(number / 64) as usize];
        let fresh = *word & (1 << (number % 64)) == 0;
        *word |= 1 << (number % 64);
        fresh
    }

    fn is_set(&self, number: u64) -> bool {
        self.bits[(number / 64) as usize] & (1 << (number % 64)) != 0
    }
}

fn fingerprint(content: &[ChunkRef]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for chunk in content {
        hasher.update(chunk.id.as_bytes());
    }
    let mut start = [0; 16];
    start.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    start
}
