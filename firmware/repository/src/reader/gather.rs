//! Many chunks at once: sorted by the blocks they lie in, so that each block is read and opened once and handed out
//! straight from the buffer it was opened into.
//!
//! A restore asks for tens of thousands of chunks, many of them in blocks that were written long before or are shared
//! with other folders. Asked for one by one, such a block is opened again and again whatever the cache holds. Gathered,
//! memory is what the caller asked for (a few dozen bytes a chunk) and one block a thread.

use std::collections::HashMap;
use std::ops::Range;

use mailkeep_format::block::BlockOpener;
use mailkeep_format::run::Location;
use mailkeep_format::{ChunkId, ChunkKind, ChunkRef, ContentHash};

use super::{BlockKey, Reader};
use crate::error::RepositoryError;
use crate::packfile;

/// Chunks of one list that lie in one block.
#[derive(Debug)]
pub struct Gathered {
    place: Option<Location>,
    slots: Vec<Slot>,
}

/// One place in the list, and where its bytes lie in the opened block.
#[derive(Clone, Copy, Debug)]
struct Slot {
    index: u32,
    start: u32,
}

impl Gathered {
    /// Chunks of which nothing is known; whoever reads them asks for each of them alone.
    pub fn loose(indexes: Range<u32>) -> Self {
        Gathered { place: None, slots: indexes.map(|index| Slot { index, start: 0 }).collect() }
    }

    /// Which chunks of the list these are, ascending.
    pub fn indexes(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().map(|slot| slot.index)
    }
}

/// A chunk by its index in the list, and its bytes if they could be had.
pub type Piece<'a> = (u32, Option<&'a [u8]>);

/// What a thread that reads gathered chunks keeps between two calls: a decoder and two buffers.
#[derive(Default)]
pub struct Scratch {
    opener: Option<BlockOpener>,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

/// Ids that are looked for together: 24 bytes each, and as much again for what is found of them.
const IDS_AT_ONCE: usize = 32_768;

/// Where a chunk lies: the number of its block, and where it begins there.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub(super) block: u32,
    pub(super) start: u32,
}

/// Of a chunk that was not found (so far).
const NOWHERE: Spot = Spot { block: u32::MAX, start: 0 };

/// The first bytes of a chunk's id, as a number that sorts alike.
fn leading(chunk: &ChunkRef) -> u64 {
    let (first, _) = chunk.id.0.split_at(8);
    first.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The blocks of what is being gathered, in the order in which they were met.
#[derive(Default)]
pub(super) struct Blocks {
    places: Vec<Location>,
    numbers: HashMap<BlockKey, u32>,
}

impl Blocks {
    /// The block of this number.
    pub(super) fn place(&self, number: u32) -> Option<&Location> {
        self.places.get(number as usize)
    }

    pub(super) fn number(&mut self, place: &Location) -> u32 {
        *self.numbers.entry((place.pack, place.number)).or_insert_with(|| {
            self.places.push(*place);
            self.places.len() as u32 - 1
        })
    }
}

impl Reader {
    /// Sorts `chunks` (which may repeat) by blocks, in the order in which the blocks are first needed. What is not
    /// found comes last, loose. Beside what it returns, some 130 bytes for each block and 8 for each chunk, it takes 24
    /// for each chunk meanwhile.
    pub fn gather(&self, chunks: &[ChunkRef]) -> Vec<Gathered> {
        let mut blocks = Blocks::default();
        let spots = self.spots(chunks, &mut blocks);
        let mut wanted = vec![0u32; blocks.places.len()];
        let (mut turns, mut lost) = (Vec::with_capacity(wanted.len()), 0);
        for spot in &spots {
            match wanted.get_mut(spot.block as usize) {
                None => lost += 1,
                Some(count) => {
                    if *count == 0 {
                        turns.push(spot.block);
                    }
                    *count += 1;
                }
            }
        }
        let room = |place, count: u32| Gathered { place, slots: Vec::with_capacity(count as usize) };
        let mut gathered: Vec<Gathered> = Vec::with_capacity(turns.len() + 1);
        for block in &turns {
            gathered.push(room(Some(blocks.places[*block as usize]), wanted[*block as usize]));
        }
        drop(blocks);
        gathered.push(room(None, lost));
        // From here on where the block of each number stands in the list.
        for (turn, block) in turns.into_iter().enumerate() {
            wanted[block as usize] = turn as u32;
        }
        let last = gathered.len() - 1;
        for (index, spot) in spots.into_iter().enumerate() {
            let turn = wanted.get(spot.block as usize).map_or(last, |turn| *turn as usize);
            gathered[turn].slots.push(Slot { index: index as u32, start: spot.start });
        }
        if lost == 0 {
            gathered.pop();
        }
        gathered
    }

    /// Finds each of `chunks`. They are asked for in the order of their ids, which is that of the index.
    pub(super) fn spots(&self, chunks: &[ChunkRef], blocks: &mut Blocks) -> Vec<Spot> {
        let view = crate::sync::lock(&self.shared.view).clone();
        let mut spots = vec![NOWHERE; chunks.len()];
        let id = |index: u32| &chunks[index as usize].id;
        // The first bytes of an id beside its index: few ids have those in common.
        let mut order: Vec<(u64, u32)> = chunks.iter().map(leading).zip(0..).collect();
        order.sort_unstable_by(|one, other| one.0.cmp(&other.0).then_with(|| id(one.1).cmp(id(other.1))));
        let order: Vec<u32> = order.into_iter().map(|(_, index)| index).collect();
        let (mut ids, mut indexes): (Vec<ChunkId>, Vec<&[u32]>) = (Vec::new(), Vec::new());
        let mut alike = order.chunk_by(|one, other| id(*one) == id(*other)).peekable();
        while alike.peek().is_some() {
            ids.clear();
            indexes.clear();
            for same in alike.by_ref().take(IDS_AT_ONCE) {
                ids.extend(same.first().map(|index| *id(*index)));
                indexes.push(same);
            }
            let number = |place: &Location| blocks.number(place);
            view.locate(&ids, number, |number, block, start| {
                for index in indexes[number] {
                    let spot = &mut spots[*index as usize];
                    // The first place counts.
                    if spot.block == NOWHERE.block {
                        *spot = Spot { block, start };
                    }
                }
            });
        }
        spots
    }

    /// Opens the block of `gathered` and hands all of its chunks to `take` at once, each with its index in `chunks`
    /// (the list it was gathered from) and its bytes, proven to be what its id says. `None` in place of bytes: not to
    /// be had from this block; [`Reader::chunk`] looks elsewhere, or says what is wrong.
    pub fn read_gathered(
        &self,
        kind: ChunkKind,
        gathered: &Gathered,
        chunks: &[ChunkRef],
        scratch: &mut Scratch,
        take: &mut dyn FnMut(&[Piece<'_>]),
    ) {
        let raw = match &gathered.place {
            Some(place) if place.head.kind == kind => match self.open_into(place, scratch) {
                Ok(()) => &scratch.raw[..],
                Err(_) => &[],
            },
            _ => &[],
        };
        // The same chunk may be wanted in many places: it is proven once.
        let mut proven: HashMap<u32, bool> = HashMap::new();
        let mut prove = |slot: &Slot| {
            let chunk = chunks.get(slot.index as usize)?;
            let start = slot.start as usize;
            let bytes = raw.get(start..start + chunk.length as usize)?;
            let sound = *proven.entry(slot.start).or_insert_with(|| {
                self.shared.repository.keys().id.chunk_id(kind, &ContentHash::of(bytes)) == chunk.id
            });
            sound.then_some(bytes)
        };
        let pieces: Vec<_> = gathered.slots.iter().map(|slot| (slot.index, prove(slot))).collect();
        take(&pieces);
    }

    fn open_into(&self, place: &Location, scratch: &mut Scratch) -> Result<(), RepositoryError> {
        let opener = match &mut scratch.opener {
            Some(opener) => opener,
            none => none.insert(packfile::opener(&self.shared.repository)?),
        };
        let file = self.pack(&place.pack)?;
        let (stored, raw) = (&mut scratch.stored, &mut scratch.raw);
        file.read_block_into(opener, &place.salt, place.number, &place.head, stored, raw)
    }
}
