//! What will be asked for soon: where it lies, and its blocks before their time.
//!
//! A chunk by itself costs two or three pages of the index, each of which is opened with its own proof. Many that are looked
//! for together share those pages ([`Reader::expect`]); and where many of one pack were wanted, its own table of contents is
//! read, which knows all the others: ids are spread over the whole index, but what is read in order was written in order.
//! What is remembered is a hint: nothing is believed because of it, and what it leads to is proven like everything else.

use std::collections::{BTreeSet, HashMap, VecDeque};

use mailkeep_format::block::BlockHead;
use mailkeep_format::pack::PackFooter;
use mailkeep_format::run::Location;
use mailkeep_format::{ChunkId, ChunkKind, ChunkRef, PackId, Salt};

use super::gather::Blocks;
use super::{Chunk, Reader};
use crate::{limits, packfile, sync};

/// Where chunks lie that may be asked for.
#[derive(Default)]
pub(super) struct Hints {
    /// Places that were looked up in the index. Two generations: what was not asked for in the last one goes.
    young: Generation,
    old: Generation,
    /// How many places of each pack were looked up, of the packs met last.
    counts: VecDeque<(PackId, u32)>,
    /// All that packs have, the one read last at the end.
    packs: VecDeque<Table>,
}

/// What a pack has, by its table of contents.
struct Table {
    pack: PackId,
    salt: Salt,
    heads: Vec<BlockHead>,
    spots: HashMap<ChunkId, (u32, u32)>,
}

impl Table {
    fn of(pack: PackId, footer: &PackFooter) -> Table {
        let mut spots = HashMap::with_capacity(footer.chunk_count());
        for (block, info) in (0..).zip(&footer.blocks) {
            let mut offset = 0;
            for (id, length) in &info.chunks {
                spots.insert(*id, (block, offset));
                offset += length;
            }
        }
        let heads = footer.blocks.iter().map(|info| info.head).collect();
        Table { pack, salt: footer.salt, heads, spots }
    }

    fn get(&self, chunk: &ChunkRef) -> Option<Location> {
        let (number, offset) = *self.spots.get(&chunk.id)?;
        let head = *self.heads.get(number as usize)?;
        Some(Location { pack: self.pack, salt: self.salt, number, head, offset, length: chunk.length })
    }
}

#[derive(Default)]
struct Generation {
    blocks: Blocks,
    /// By a chunk's id: the number of its block, and where it begins there.
    spots: HashMap<ChunkId, (u32, u32)>,
}

impl Generation {
    fn get(&self, chunk: &ChunkRef) -> Option<Location> {
        let (block, offset) = *self.spots.get(&chunk.id)?;
        let place = self.blocks.place(block)?;
        Some(Location { offset, length: chunk.length, ..*place })
    }
}

impl Hints {
    fn get(&self, chunk: &ChunkRef) -> Option<Location> {
        let tables = || self.packs.iter().rev().find_map(|table| table.get(chunk));
        self.young.get(chunk).or_else(tables).or_else(|| self.old.get(chunk))
    }

    /// Counts a place that was looked up; whether its pack is worth being read as a whole.
    fn count(&mut self, pack: PackId) -> bool {
        let at = self.counts.iter().position(|(known, _)| *known == pack);
        let before = at.and_then(|at| self.counts.remove(at)).map_or(0, |(_, count)| count);
        while self.counts.len() >= limits::PACKS_COUNTED {
            self.counts.pop_front();
        }
        self.counts.push_back((pack, before + 1));
        before + 1 >= limits::PACK_WORTH_READING
    }

    fn add_pack(&mut self, table: Table) {
        self.counts.retain(|(pack, _)| *pack != table.pack);
        self.packs.retain(|known| known.pack != table.pack);
        while self.packs.len() >= limits::PACKS_KNOWN {
            self.packs.pop_front();
        }
        self.packs.push_back(table);
    }

    fn add(&mut self, id: ChunkId, place: &Location) {
        if self.young.spots.len() >= limits::HINTS {
            self.old = std::mem::take(&mut self.young);
        }
        let block = self.young.blocks.number(place);
        self.young.spots.insert(id, (block, place.offset));
    }

    /// How many places are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.spots.len() + self.old.spots.len()
    }
}

impl Reader {
    /// Looks for these chunks of files together and remembers where they lie, for a while.
    pub(super) fn remember(&self, chunks: &[ChunkRef]) {
        let mut unknown = Vec::new();
        {
            let mut hints = sync::lock(&self.shared.hints);
            for chunk in chunks {
                match hints.get(chunk) {
                    None => unknown.push(*chunk),
                    Some(place) if hints.old.spots.contains_key(&chunk.id) => hints.add(chunk.id, &place),
                    Some(_) => {}
                }
            }
        }
        let mut worth = BTreeSet::new();
        for some in unknown.chunks(limits::HINTS) {
            let mut blocks = Blocks::default();
            let spots = self.spots(some, &mut blocks);
            let mut hints = sync::lock(&self.shared.hints);
            for (chunk, spot) in some.iter().zip(spots) {
                if let Some(place) = blocks.place(spot.block) {
                    hints.add(chunk.id, &Location { offset: spot.start, ..*place });
                    if hints.count(place.pack) {
                        worth.insert(place.pack);
                    }
                }
            }
        }
        for pack in worth {
            let Ok(opened) = packfile::open(&self.shared.repository, &pack) else { continue };
            let table = Table::of(pack, &opened.footer);
            sync::lock(&self.shared.hints).add_pack(table);
        }
    }

    /// An expected chunk whose block is decoded, proven to be what its id says; `None` for all others, which are asked for
    /// with [`Reader::chunk`]. Waits for no disk and for nobody who does.
    pub fn at_hand(&self, kind: ChunkKind, chunk: &ChunkRef) -> Option<Chunk> {
        if let Some(stray) = self.stray(kind, chunk) {
            return Some(stray);
        }
        let place = self.hint(chunk)?;
        let slot = sync::lock(&self.shared.blocks).get(&(place.pack, place.number))?;
        let block = slot.try_lock().ok()?.clone()?;
        let start = place.offset as usize;
        let range = start..start + chunk.length as usize;
        if range.end > block.raw.len() {
            return None;
        }
        self.prove(kind, chunk, Chunk { block, range }, place.pack).ok()
    }

    pub(super) fn hint(&self, chunk: &ChunkRef) -> Option<Location> {
        sync::lock(&self.shared.hints).get(chunk)
    }

    /// Where these chunks lie, as far as that is remembered.
    pub(super) fn hints_of(&self, chunks: &[ChunkRef]) -> Vec<Option<Location>> {
        let hints = sync::lock(&self.shared.hints);
        chunks.iter().map(|chunk| hints.get(chunk)).collect()
    }
}

#[cfg(test)]
mod tests {
    use mailkeep_format::block::Method;

    use super::*;

    #[test]
    fn as_many_are_remembered_as_it_says_and_the_last_ones_stay() {
        let mut hints = Hints::default();
        let id = |number: usize| {
            let mut id = [0; ChunkId::LEN];
            id[..8].copy_from_slice(&number.to_be_bytes());
            ChunkId(id)
        };
        let count = 3 * limits::HINTS;
        for number in 0..count {
            let head = BlockHead {
                offset: 0,
                stored_len: 100,
                raw_len: 100,
                kind: ChunkKind::Data,
                method: Method::Stored,
            };
            let (pack, salt) = (PackId([1; 32]), Salt([2; 16]));
            let (number, offset, length) = (number as u32 / 100, number as u32 % 100, 1);
            hints.add(
                id(number as usize * 100 + offset as usize),
                &Location { pack, salt, number, head, offset, length },
            );
        }
        assert_eq!(hints.len(), 2 * limits::HINTS);
        let at = |number: usize| hints.get(&ChunkRef { id: id(number), length: 7 });
        assert_eq!(at(0), None);
        for number in [count - 1, count - limits::HINTS, count - 2 * limits::HINTS] {
            let found = at(number).unwrap();
            assert_eq!(
                (found.number, found.offset, found.length),
                (number as u32 / 100, number as u32 % 100, 7)
            );
        }
    }

    #[test]
    fn a_pack_is_read_as_a_whole_once_enough_of_it_was_wanted_and_few_are_remembered() {
        let mut hints = Hints::default();
        let pack = |number: u8| PackId([number; 32]);
        for _ in 1..limits::PACK_WORTH_READING {
            assert!(!hints.count(pack(1)));
        }
        assert!(hints.count(pack(1)));
        for number in 0..100 {
            hints.count(pack(number));
            let (salt, heads, spots) = (Salt([0; 16]), Vec::new(), HashMap::new());
            hints.add_pack(Table { pack: pack(number), salt, heads, spots });
        }
        assert_eq!((hints.counts.len(), hints.packs.len()), (0, limits::PACKS_KNOWN));
        for number in 0..100 {
            hints.count(pack(number));
        }
        assert_eq!(hints.counts.len(), limits::PACKS_COUNTED);
    }
}
