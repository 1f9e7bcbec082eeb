//! Many chunks at once: sorted by the blocks they lie in, so that each block is read and opened once and handed out
//! straight from the buffer it was opened into.
//!
//! A restore asks for tens of thousands of chunks, many of them in blocks that were written long before or are shared
//! with other folders. Asked for one by one, such a block is opened again and again whatever the cache holds. Gathered,
//! memory is what the caller asked for (a few dozen bytes a chunk) and one block a thread.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use mailkeep_format::block::BlockOpener;
use mailkeep_format::run::Location;
use mailkeep_format::{ChunkId, ChunkKind, ChunkRef, ContentHash};

use super::Reader;
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

/// Ids are outputs of a keyed hash: any eight bytes of one are a hash already, which nobody outside can choose.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.0 = u64::from_le_bytes(first);
    }

    /// The length that comes before the bytes of a slice says nothing.
    fn write_usize(&mut self, _: usize) {}
}

type ById<V> = HashMap<ChunkId, V, BuildHasherDefault<IdHasher>>;

impl Reader {
    /// Sorts `chunks` (which may repeat) by blocks, in the order in which the blocks are first needed. What is not
    /// found comes last, loose.
    pub fn gather(&self, chunks: &[ChunkRef]) -> Vec<Gathered> {
        // The first index of every id that is still to be found, and behind each index the next one of the same id.
        const END: u32 = u32::MAX;
        let mut wanted: ById<u32> =
            ById::with_capacity_and_hasher(chunks.len(), BuildHasherDefault::default());
        let mut next = vec![END; chunks.len()];
        for (index, chunk) in chunks.iter().enumerate().rev() {
            if let Some(later) = wanted.insert(chunk.id, index as u32) {
                next[index] = later;
            }
        }
        let mut gathered = Vec::new();
        let mut lost = Gathered { place: None, slots: Vec::new() };
        for chunk in chunks {
            if !wanted.contains_key(&chunk.id) {
                continue;
            }
            let mut found = Gathered { place: None, slots: Vec::new() };
            let mut take = |id: &ChunkId, start: u32, to: &mut Gathered| {
                let mut at = wanted.remove(id).unwrap_or(END);
                while at != END {
                    to.slots.push(Slot { index: at, start });
                    at = next[at as usize];
                }
            };
            match self.place_of(chunk) {
                None => take(&chunk.id, 0, &mut lost),
                Some(place) => {
                    take(&chunk.id, place.offset, &mut found);
                    self.each_in_block(&place, |id, start| take(id, start, &mut found));
                    found.slots.sort_unstable_by_key(|slot| slot.index);
                    found.place = Some(place);
                    gathered.push(found);
                }
            }
        }
        if !lost.slots.is_empty() {
            lost.slots.sort_unstable_by_key(|slot| slot.index);
            gathered.push(lost);
        }
        gathered
    }

    fn place_of(&self, chunk: &ChunkRef) -> Option<Location> {
        let view = crate::sync::lock(&self.shared.view).clone();
        // Trouble is met again, and told, when the chunk is asked for alone.
        view.places_in_turn(&chunk.id).next()?.ok()
    }

    /// What else lies in the block, as far as its pack can be asked.
    fn each_in_block(&self, place: &Location, mut each: impl FnMut(&ChunkId, u32)) {
        let Ok(pack) = self.pack(&place.pack) else { return };
        let info = pack.footer.blocks.get(place.number as usize).filter(|info| info.head == place.head);
        let mut start = 0;
        for (id, length) in info.map_or(&[][..], |info| &info.chunks) {
            each(id, start);
            start += length;
        }
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
        let read = |file: &packfile::PackFile, opener, stored: &mut Vec<u8>, raw: &mut Vec<u8>| {
            file.read_block_into(opener, &place.salt, place.number, &place.head, stored, raw)
        };
        match self.pack(&place.pack) {
            Ok(pack) => read(&pack, opener, &mut scratch.stored, &mut scratch.raw),
            // The index knows enough to get at the block without the pack's own table of contents.
            Err(RepositoryError::Damaged { .. }) => {
                let file = packfile::open_file(&self.shared.repository, &place.pack)?;
                read(&file, opener, &mut scratch.stored, &mut scratch.raw)
            }
            Err(error) => Err(error),
        }
    }
}
