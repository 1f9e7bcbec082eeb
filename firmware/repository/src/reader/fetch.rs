//! Chunks before their time, for whoever goes through files in order: a list of them is looked for together, then handed out
//! in parts, block by block.
//!
//! Of most blocks nearly everything is wanted, by this list or by the next one, so they go through the cache. But a mail that
//! went to everybody lies in the block of whoever got it first, and for its few bytes that block would be decoded again for
//! each of the others, and push out of the cache what is needed next: of such a block only what was wanted is kept.

use std::collections::HashMap;
use std::sync::Arc;

use mailkeep_format::run::Location;
use mailkeep_format::{ChunkKind, ChunkRef};

use super::{Block, BlockKey, Chunk, Reader, STRAY_OVERHEAD};
use crate::sync;

/// A block is kept as a whole if at least one part in so many of it is wanted.
const SHARE: usize = 8;

/// A list of chunks that was looked for together.
#[derive(Debug, Default)]
pub struct Expected {
    places: Vec<Option<Location>>,
    /// How many bytes are wanted of each block.
    wanted: HashMap<BlockKey, usize>,
}

impl Expected {
    fn is_stray(&self, place: &Location) -> bool {
        let wanted = self.wanted.get(&(place.pack, place.number)).copied().unwrap_or(0);
        wanted.saturating_mul(SHARE) < place.head.raw_len as usize
    }
}

impl Reader {
    /// Looks for these chunks of files together, which will be asked for soon, and remembers for a while where they lie.
    /// Trouble is met again, and told, by whoever asks for a chunk.
    pub fn expect(&self, chunks: &[ChunkRef]) -> Expected {
        self.remember(chunks);
        let places = self.hints_of(chunks);
        let mut wanted = HashMap::new();
        for place in places.iter().flatten() {
            *wanted.entry((place.pack, place.number)).or_insert(0) += place.length as usize;
        }
        Expected { places, wanted }
    }

    /// Hands out those of the expected `chunks` (the list of then) that `indexes` name, each proven to be what its id says,
    /// with its index, in no certain order. One that cannot be had is left out: [`Reader::chunk`] looks elsewhere, or says
    /// what is wrong.
    pub fn fetch(
        &self,
        expected: &Expected,
        chunks: &[ChunkRef],
        indexes: &[u32],
        take: &mut dyn FnMut(u32, &[u8]),
    ) {
        let mut turns: Vec<(&Location, Vec<u32>)> = Vec::new();
        let mut known: HashMap<BlockKey, usize> = HashMap::new();
        for index in indexes {
            let Some(Some(place)) = expected.places.get(*index as usize) else { continue };
            let Some(chunk) = chunks.get(*index as usize) else { continue };
            if let Some(stray) = self.stray(ChunkKind::Data, chunk) {
                take(*index, &stray);
                continue;
            }
            let turn = *known.entry((place.pack, place.number)).or_insert_with(|| {
                turns.push((place, Vec::new()));
                turns.len() - 1
            });
            turns[turn].1.push(*index);
        }
        for (place, indexes) in turns {
            let is_stray = expected.is_stray(place);
            let Some(block) = self.block_of(place, is_stray) else { continue };
            for index in indexes {
                let (Some(Some(place)), chunk) =
                    (expected.places.get(index as usize), &chunks[index as usize])
                else {
                    continue;
                };
                let Some(found) = self.cut(chunk, place, &block) else { continue };
                take(index, &found);
                if is_stray {
                    let (alone, weight) = (found.alone(), found.len() + STRAY_OVERHEAD);
                    sync::lock(&self.shared.strays).insert(chunk.id, alone, weight);
                }
            }
            if is_stray {
                self.take_block(block);
            }
        }
    }

    /// What was kept of a block that was not. It was proven then.
    pub(super) fn stray(&self, kind: ChunkKind, chunk: &ChunkRef) -> Option<Chunk> {
        let kept = sync::lock(&self.shared.strays).get(&chunk.id);
        kept.filter(|kept| kept.block.kind == kind && kept.len() == chunk.length as usize)
    }

    /// The block, which is not put into the cache if it is a stray one's.
    fn block_of(&self, place: &Location, is_stray: bool) -> Option<Arc<Block>> {
        if !is_stray {
            return self.block(place).ok();
        }
        let cached = sync::lock(&self.shared.blocks).get(&(place.pack, place.number));
        let cached = cached.and_then(|slot| slot.try_lock().ok()?.clone());
        cached.or_else(|| self.open_block(place).ok().map(Arc::new))
    }

    /// A chunk of a block, proven.
    fn cut(&self, chunk: &ChunkRef, place: &Location, block: &Arc<Block>) -> Option<Chunk> {
        let start = place.offset as usize;
        let range = start..start.checked_add(chunk.length as usize)?;
        if range.end > block.raw.len() {
            return None;
        }
        self.prove(ChunkKind::Data, chunk, Chunk { block: Arc::clone(block), range }, place.pack).ok()
    }
}
