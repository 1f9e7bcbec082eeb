//! Which places in the packs are needed by what stays. Follows COMMIT.md, "Prune", step 3.
//!
//! Two bits per index entry (one for the places that are needed, one for directories that were gone through), a few words
//! per block and pack. Every chunk has exactly one marked place, so that of two copies one can go, and which packs vouch
//! for which is kept. What cannot be read is counted, and by whom it is needed; it never makes anything less needed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use mailkeep_format::run::RunEntry;
use mailkeep_format::{ChunkId, ChunkRef, PackId};

use super::doubt::is_local;
use crate::error::{RepositoryError, chain};
use crate::index::{Run, View, Visited, run_error};
use crate::limits;
use crate::monitor::{Monitor, Phase, Problem, Severity};
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
    view: Arc<View>,
    trouble: Trouble,
    /// Sources whose newest snapshot has its part in the trouble.
    troubled: BTreeSet<String>,
    /// Packs in which directories lie that cannot be read.
    suspects: BTreeSet<PackId>,
}

/// What of the snapshots that stay cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Directories: what they need is not known.
    pub(super) directories: u64,
    /// Chunks that are in no pack.
    pub(super) missing: u64,
    /// Chunks that are in damaged packs only.
    pub(super) fragile: u64,
}

impl Trouble {
    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        *self != Trouble::default()
    }

    fn since(&self, before: Trouble) -> Trouble {
        Trouble {
            directories: self.directories - before.directories,
            missing: self.missing - before.missing,
            fragile: self.fragile - before.fragile,
        }
    }
}

/// How much of a pack is needed.
#[derive(Clone, Debug)]
pub(super) struct PackUse {
    pub(super) id: PackId,
    /// Length of the file, bytes.
    pub(super) length: u64,
    /// Which of several copies is marked: the one in the pack with the highest rank; none if this is `None`.
    rank: Option<u64>,
    /// Bytes of its blocks: the file without its table of contents.
    pub(super) data: u64,
    /// Marked chunks.
    pub(super) chunks: u64,
    /// What they take in the file, bytes, about.
    pub(super) live: u64,
    /// A damaged pack has the marked copy of a chunk that is here too.
    pub(super) doubtful: bool,
    /// No index run names it.
    unindexed: bool,
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

/// A place that was found: small, for there are many at a time.
#[derive(Clone, Copy)]
struct Found {
    /// [`Found::NOWHERE`] if there is none.
    pack: u32,
    run: u32,
    number: u64,
    block: u32,
    length: u32,
}

impl Found {
    const NOWHERE: Found = Found { pack: u32::MAX, run: 0, number: 0, block: 0, length: 0 };
}

impl Marks {
    /// The rank of a damaged pack: what has another place is marked there.
    pub(super) const DAMAGED: u64 = 0;

    /// Nothing is marked yet. `rank` says of a pack how gladly a chunk is left in it; `None` for one that is gone.
    pub(super) fn new(
        view: &Arc<View>,
        rank: impl Fn(&PackId) -> Option<u64>,
    ) -> Result<Self, RepositoryError> {
        let mut marks = Marks {
            runs: Vec::new(),
            packs: Vec::new(),
            numbers: HashMap::new(),
            vouches: HashSet::new(),
            wanted: Vec::new(),
            view: view.clone(),
            trouble: Trouble::default(),
            troubled: BTreeSet::new(),
            suspects: BTreeSet::new(),
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
                    let data = pack.blocks.iter().map(|(head, _)| u64::from(head.stored_len)).sum();
                    marks.packs.push(PackUse { data, ..PackUse::new(id, length, rank) });
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
            self.packs.push(PackUse { unindexed: true, ..PackUse::new(id, length, Some(Marks::DAMAGED)) });
        }
    }

    /// Walks through these snapshots, which ascend, and marks a place of every chunk in them. What cannot be read is told
    /// and counted; the newest snapshot of a source comes first, so that it is known whether that one is whole.
    ///
    /// # Errors
    /// An index that cannot be read; whatever `pause` says.
    pub(super) fn walk(
        &mut self,
        reader: &Reader,
        snapshots: &[&SnapshotEntry],
        monitor: &dyn Monitor,
        pause: &mut dyn FnMut() -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let mut sources: BTreeMap<&str, Vec<&SnapshotEntry>> = BTreeMap::new();
        for entry in snapshots {
            sources.entry(&entry.manifest.source.name).or_default().push(entry);
        }
        let mut visited = Visited::new(&self.view);
        let mut seen = 0;
        for (source, entries) in sources {
            let before = self.trouble;
            let mut first: Option<String> = None;
            for (place, entry) in (0..).zip(entries.iter().rev()) {
                let mut left = vec![entry.manifest.root.clone()];
                while let Some(content) = left.pop() {
                    if !visited.enter(&content)? {
                        continue;
                    }
                    seen += 1;
                    monitor.progress(Phase::Structure, seen, 0);
                    if let Err(error) = self.directory(reader, &content, &mut left)? {
                        self.trouble.directories += 1;
                        for chunk in &content {
                            let places = self.view.places(&chunk.id)?;
                            self.suspects.extend(places.iter().map(|place| place.pack));
                        }
                        first.get_or_insert(error);
                    }
                    pause()?;
                }
                if place == 0 {
                    self.settle()?;
                    if self.trouble != before {
                        self.troubled.insert(source.to_owned());
                    }
                }
            }
            self.settle()?;
            let found = self.trouble.since(before);
            if found.any() {
                monitor.problem(&Problem::new(Severity::Lost, source, describe(&found, first.as_deref())));
                // The next source may have a part in it: what both have is gone through again.
                visited = Visited::new(&self.view);
            }
        }
        self.wanted = Vec::new();
        for (witness, other) in &self.vouches {
            if self.packs[*witness as usize].rank == Some(Marks::DAMAGED) {
                self.packs[*other as usize].doubtful = true;
            }
        }
        Ok(())
    }

    /// Wants what a directory needs; the inner error is what keeps (the rest of) it from being read.
    fn directory(
        &mut self,
        reader: &Reader,
        content: &[ChunkRef],
        left: &mut Vec<Vec<ChunkRef>>,
    ) -> Result<Result<(), String>, RepositoryError> {
        self.want(content)?;
        for node in reader.tree_nodes(content) {
            let node = match node {
                Ok(node) => node,
                Err(error) if is_local(&error) => return Ok(Err(chain(&error))),
                Err(error) => return Err(error),
            };
            if node.is_directory() {
                left.push(node.content().to_vec());
            } else {
                self.want(node.content())?;
            }
        }
        Ok(Ok(()))
    }

    /// What cannot be read.
    pub(super) fn trouble(&self) -> Trouble {
        self.trouble
    }

    /// Sources whose newest snapshot cannot be read in full.
    pub(super) fn troubled(&self) -> &BTreeSet<String> {
        &self.troubled
    }

    /// Packs in which directories lie that cannot be read: some of them must be damaged.
    pub(super) fn suspects(&self) -> &BTreeSet<PackId> {
        &self.suspects
    }

    /// Whether something that stays may need this pack for all that could be read of it.
    pub(super) fn may_need(&self, pack: &PackUse) -> bool {
        self.trouble.directories > 0 || pack.doubtful || (pack.unindexed && self.trouble.missing > 0)
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
        let mut best: Vec<Found> = vec![Found::NOWHERE; wanted.len()];
        for (number, marked) in (0..).zip(&self.runs) {
            let (packs, vouches) = (&self.packs, &mut self.vouches);
            marked.find(&wanted, |at, entry_number, entry| {
                let Some(block) = marked.blocks.get(entry.block as usize) else { return };
                let Some(rank) = packs[block.pack as usize].rank else { return };
                let found = Found {
                    pack: block.pack,
                    run: number,
                    number: entry_number,
                    block: entry.block,
                    length: entry.length,
                };
                let before = best[at];
                if before.pack == Found::NOWHERE.pack {
                    best[at] = found;
                } else if (packs[before.pack as usize].rank, before.pack) >= (Some(rank), block.pack) {
                    vouches.insert((before.pack, block.pack));
                } else {
                    vouches.insert((block.pack, before.pack));
                    best[at] = found;
                }
            })?;
        }
        for found in &best {
            let Some(pack) = self.packs.get_mut(found.pack as usize) else {
                self.trouble.missing += 1;
                continue;
            };
            self.trouble.fragile += u64::from(pack.rank == Some(Marks::DAMAGED));
            let marked = &mut self.runs[found.run as usize];
            let block = marked.blocks[found.block as usize];
            if marked.set(found.number) {
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

impl PackUse {
    /// Bytes in its blocks that nothing needs.
    pub(super) fn waste(&self) -> u64 {
        self.data.saturating_sub(self.live)
    }

    fn new(id: PackId, length: u64, rank: Option<u64>) -> Self {
        PackUse { id, length, rank, data: 0, chunks: 0, live: 0, doubtful: false, unindexed: false }
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

/// What is wrong with the snapshots of a source, in one line.
fn describe(found: &Trouble, first: Option<&str>) -> String {
    let mut parts = Vec::new();
    if let Some(first) = first {
        parts.push(format!("{} directories cannot be read ({first})", found.directories));
    }
    if found.missing > 0 {
        parts.push(format!("{} chunks are in no pack", found.missing));
    }
    if found.fragile > 0 {
        parts.push(format!("{} chunks are in damaged packs only", found.fragile));
    }
    format!("of its snapshots {}: run `mailkeep repair`", parts.join(", "))
}
