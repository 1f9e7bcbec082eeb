//! Getting chunks back: index, pack footer, block, chunk, and the proof that it is the one that was asked for.
//!
//! Decoded blocks are cached, so that what was written together is decoded once when it is read in order. A chunk's hash
//! is checked on its way out, whatever the cache holds. Chunks are found by the index alone: a pack's table of contents is
//! as long as a block and is not opened.
//!
//! Who knows what he will ask for next (a mount whose reader goes through a folder) says so: [`Reader::expect`] finds many
//! chunks for the price of a few pages of the index, [`Reader::fetch`] hands them out block by block, and
//! [`Reader::at_hand`] answers without waiting for anything.

mod fetch;
mod gather;
mod hints;

use std::collections::HashSet;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex};

use mailkeep_format::block::BlockOpener;
use mailkeep_format::run::Location;
use mailkeep_format::{ChunkId, ChunkKind, ChunkRef, ContentHash, Node, PackId, node};

use crate::error::RepositoryError;
use crate::index::View;
use crate::lru::Lru;
use crate::monitor::{LogMonitor, Monitor};
use crate::packfile::{self, PackFile};
use crate::repository::Repository;
use crate::{layout, limits, sync};

use hints::Hints;

pub use fetch::Expected;
pub use gather::{Gathered, Piece, Scratch};

/// Open pack files that a reader keeps at most; far below the usual limit of 1024 descriptors.
const OPEN_PACKS: usize = 128;

/// Bytes of memory that a chunk in the cache of short directories takes beside its own.
const SHORT_TREE_OVERHEAD: usize = 256;

/// Reads chunks, trees and files. Clones share their caches and may be used from several threads.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

struct Shared {
    repository: Repository,
    view: Arc<Mutex<Arc<View>>>,
    /// Packs that were found gone, for whose sake the index was loaded again: once for each. `None` where somebody else
    /// keeps the view current.
    gone: Option<Mutex<HashSet<PackId>>>,
    packs: Mutex<Lru<PackId, Arc<PackFile>>>,
    blocks: Mutex<Lru<BlockKey, Slot>>,
    /// Where chunks lie that will be asked for soon.
    hints: Mutex<Hints>,
    /// Short directories by themselves.
    short: Mutex<Lru<ChunkId, Chunk>>,
    /// Pieces of blocks of which little was wanted, by themselves.
    strays: Mutex<Lru<ChunkId, Chunk>>,
    openers: Mutex<Vec<Opener>>,
    /// The room of blocks that were let go, for the next ones of about their length.
    spare: Mutex<Vec<Vec<u8>>>,
}

/// A decoder, and room for what it is given.
struct Opener {
    opener: BlockOpener,
    stored: Vec<u8>,
}

/// Bytes of memory that a chunk in the cache of pieces takes beside its own.
const STRAY_OVERHEAD: usize = 256;
/// Pieces by themselves may take one part in so many of what blocks may.
const STRAYS: usize = 2;
/// Decoders that are kept for the next blocks; each has a MiB or two.
const SPARE_OPENERS: usize = 2;
/// Rooms that are kept for the next blocks.
const SPARE_ROOMS: usize = 2;

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("repository", &self.shared.repository).finish()
    }
}

/// The bytes of a chunk; a view into a decoded block.
#[derive(Clone)]
pub struct Chunk {
    block: Arc<Block>,
    range: Range<usize>,
}

impl Chunk {
    /// The same without the block around it.
    fn alone(&self) -> Chunk {
        let raw = self.to_vec();
        let range = 0..raw.len();
        Chunk { block: Arc::new(Block { raw, kind: self.block.kind }), range }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block.raw[self.range.clone()]
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

/// What came of looking for a chunk.
enum Found {
    Chunk(Chunk),
    Nowhere {
        error: RepositoryError,
        /// A pack that should have it and is not there any more.
        gone: Option<PackId>,
    },
}

struct Block {
    raw: Vec<u8>,
    kind: ChunkKind,
}

/// A block by its pack and its number in it.
type BlockKey = (PackId, u32);

/// A block that is decoded, or is being decoded by whoever holds the lock: the others wait for it rather than do the same.
type Slot = Arc<Mutex<Option<Arc<Block>>>>;

impl Repository {
    /// Starts a reader of what is sealed and of complete packs. Takes no lock.
    ///
    /// # Errors
    /// Whatever keeps index and packs from being listed.
    pub fn reader(&self, monitor: &dyn Monitor) -> Result<Reader, RepositoryError> {
        Reader::open(self, monitor)
    }

    /// As [`Repository::reader`], keeping up to `bytes` of decoded blocks: for several programs that read side by side.
    ///
    /// # Errors
    /// As [`Repository::reader`].
    pub fn reader_keeping(&self, bytes: usize, monitor: &dyn Monitor) -> Result<Reader, RepositoryError> {
        let view = View::load(self, monitor)?;
        Ok(Reader::new(self, Arc::new(Mutex::new(Arc::new(view))), Some(Mutex::default()), bytes))
    }
}

impl Reader {
    /// A reader of what is on the disk now.
    pub(crate) fn open(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, RepositoryError> {
        let view = View::load(repository, monitor)?;
        let view = Arc::new(Mutex::new(Arc::new(view)));
        Ok(Reader::new(repository, view, Some(Mutex::default()), limits::BLOCK_CACHE))
    }

    /// A reader over a view that somebody else keeps current.
    pub(crate) fn over(repository: &Repository, view: Arc<Mutex<Arc<View>>>) -> Self {
        Reader::new(repository, view, None, limits::BLOCK_CACHE)
    }

    fn new(
        repository: &Repository,
        view: Arc<Mutex<Arc<View>>>,
        gone: Option<Mutex<HashSet<PackId>>>,
        kept: usize,
    ) -> Self {
        Reader {
            shared: Arc::new(Shared {
                repository: repository.clone(),
                view,
                gone,
                packs: Mutex::new(Lru::new(usize::MAX, OPEN_PACKS)),
                blocks: Mutex::new(Lru::new(kept, usize::MAX)),
                hints: Mutex::default(),
                short: Mutex::new(Lru::new(limits::SHORT_TREE_CACHE, usize::MAX)),
                strays: Mutex::new(Lru::new(kept / STRAYS, usize::MAX)),
                openers: Mutex::default(),
                spare: Mutex::default(),
            }),
        }
    }

    /// One chunk, proven to be what its id says.
    ///
    /// # Errors
    /// [`RepositoryError::MissingChunk`], [`RepositoryError::DamagedChunk`], [`RepositoryError::Damaged`] for the pack
    /// around it, or a failed read.
    pub fn chunk(&self, kind: ChunkKind, chunk: &ChunkRef) -> Result<Chunk, RepositoryError> {
        let is_short = kind == ChunkKind::Tree && chunk.length as usize <= limits::SHORT_TREE;
        if !is_short {
            return self.look_up(kind, chunk);
        }
        let cached = sync::lock(&self.shared.short).get(&chunk.id);
        // It was proven to be what its id says; what is left is what the caller says of it.
        if let Some(found) = cached.filter(|found| found.len() == chunk.length as usize) {
            return Ok(found);
        }
        let found = self.look_up(kind, chunk)?.alone();
        sync::lock(&self.shared.short).insert(chunk.id, found.clone(), found.len() + SHORT_TREE_OVERHEAD);
        Ok(found)
    }

    /// As [`Reader::chunk`], in the packs.
    fn look_up(&self, kind: ChunkKind, chunk: &ChunkRef) -> Result<Chunk, RepositoryError> {
        if let Some(place) = self.hint(chunk) {
            let found = self.load(&chunk.id, &place);
            if let Ok(found) = found.and_then(|found| self.prove(kind, chunk, found, place.pack)) {
                return Ok(found);
            }
            // Every other place is tried, and trouble told, as if nobody had known this one.
        }
        let view = sync::lock(&self.shared.view).clone();
        match self.find(&view, kind, chunk)? {
            Found::Chunk(found) => Ok(found),
            Found::Nowhere { error, gone } => {
                if gone.is_some_and(|pack| self.looks_again(&view, pack)) {
                    let view = sync::lock(&self.shared.view).clone();
                    return match self.find(&view, kind, chunk)? {
                        Found::Chunk(found) => Ok(found),
                        Found::Nowhere { error, .. } => Err(error),
                    };
                }
                Err(error)
            }
        }
    }

    /// Looks for a chunk in every place that `view` knows.
    fn find(&self, view: &View, kind: ChunkKind, chunk: &ChunkRef) -> Result<Found, RepositoryError> {
        let (mut error, mut gone) = (RepositoryError::MissingChunk { id: chunk.id }, None);
        for place in view.places_in_turn(&chunk.id) {
            let place = place?;
            match self.load(&chunk.id, &place).and_then(|found| self.prove(kind, chunk, found, place.pack)) {
                Ok(found) => return Ok(Found::Chunk(found)),
                // Another pack may have it too.
                Err(failed) => {
                    if matches!(&failed, RepositoryError::Storage(error) if error.is_not_found()) {
                        gone = Some(place.pack);
                    }
                    error = failed;
                }
            }
        }
        Ok(Found::Nowhere { error, gone })
    }

    /// A pack that this reader's index names is gone: a prune or a repair beside this reader may have put what was needed
    /// of it elsewhere. Loads the index again, once for each such pack; whether there is another one now than `seen`.
    fn looks_again(&self, seen: &Arc<View>, pack: PackId) -> bool {
        let Some(gone) = &self.shared.gone else { return false };
        // One at a time: who waits here finds the new one.
        let mut gone = sync::lock(gone);
        if !Arc::ptr_eq(&sync::lock(&self.shared.view), seen) {
            return true;
        }
        if !gone.insert(pack) {
            return false;
        }
        tracing::info!(%pack, "a pack is gone, the index is loaded again");
        match View::load(&self.shared.repository, &LogMonitor) {
            Ok(view) => {
                *sync::lock(&self.shared.view) = Arc::new(view);
                true
            }
            Err(error) => {
                tracing::warn!(error = crate::error::chain(&error), "the index cannot be loaded again");
                false
            }
        }
    }

    fn prove(
        &self,
        kind: ChunkKind,
        chunk: &ChunkRef,
        found: Chunk,
        pack: PackId,
    ) -> Result<Chunk, RepositoryError> {
        let id = self.shared.repository.keys().id.chunk_id(kind, &ContentHash::of(&found));
        if found.block.kind != kind || found.len() != chunk.length as usize || id != chunk.id {
            return Err(RepositoryError::DamagedChunk { id: chunk.id, pack });
        }
        Ok(found)
    }

    /// A whole directory.
    ///
    /// # Errors
    /// As [`Reader::chunk`], and [`RepositoryError::Damaged`] if it does not decode.
    pub fn tree(&self, content: &[ChunkRef]) -> Result<Vec<Node>, RepositoryError> {
        let damaged = |source| RepositoryError::Damaged { path: "a directory".to_owned(), source };
        if let [only] = content {
            return node::decode_tree(&self.chunk(ChunkKind::Tree, only)?).map_err(damaged);
        }
        let mut bytes = Vec::new();
        for chunk in content {
            bytes.extend_from_slice(&self.chunk(ChunkKind::Tree, chunk)?);
        }
        node::decode_tree(&bytes).map_err(damaged)
    }

    /// Hands the contents of a file to `sink`, piece by piece and in order.
    ///
    /// # Errors
    /// As [`Reader::chunk`], and whatever `sink` says; nothing more is read then.
    pub fn read_file<E: From<RepositoryError>>(
        &self,
        content: &[ChunkRef],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for chunk in content {
            sink(&self.chunk(ChunkKind::Data, chunk)?)?;
        }
        Ok(())
    }

    /// Fills `buffer` from `offset` of a file; gives how many bytes there were, less than asked for at its end.
    ///
    /// # Errors
    /// As [`Reader::chunk`].
    pub fn read_at(
        &self,
        content: &[ChunkRef],
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, RepositoryError> {
        let (mut start, mut filled) = (0u64, 0usize);
        for chunk in content {
            let end = start + u64::from(chunk.length);
            let wanted = offset + filled as u64;
            if filled == buffer.len() {
                break;
            }
            if wanted < end {
                let bytes = self.chunk(ChunkKind::Data, chunk)?;
                let piece = &bytes[(wanted - start) as usize..];
                let count = piece.len().min(buffer.len() - filled);
                buffer[filled..filled + count].copy_from_slice(&piece[..count]);
                filled += count;
            }
            start = end;
        }
        Ok(filled)
    }

    /// The file of a pack. Nothing is asked of its table of contents: the index knows enough to get at a block.
    fn pack(&self, id: &PackId) -> Result<Arc<PackFile>, RepositoryError> {
        if let Some(pack) = sync::lock(&self.shared.packs).get(id) {
            return Ok(pack);
        }
        let pack = Arc::new(packfile::open_file(&self.shared.repository, id)?);
        sync::lock(&self.shared.packs).insert(*id, pack.clone(), 0);
        Ok(pack)
    }

    fn load(&self, id: &ChunkId, place: &Location) -> Result<Chunk, RepositoryError> {
        let block = self.block(place)?;
        let start = place.offset as usize;
        let range = start..start + place.length as usize;
        if range.end > block.raw.len() {
            return Err(RepositoryError::DamagedChunk { id: *id, pack: place.pack });
        }
        Ok(Chunk { block, range })
    }

    /// The block around a place: from the cache, or decoded now, by one thread however many ask for it.
    fn block(&self, place: &Location) -> Result<Arc<Block>, RepositoryError> {
        let key = (place.pack, place.number);
        let slot = {
            let mut blocks = sync::lock(&self.shared.blocks);
            match blocks.get(&key) {
                Some(slot) => slot,
                None => {
                    let slot = Slot::default();
                    for (_, gone) in blocks.insert(key, Arc::clone(&slot), place.head.raw_len as usize) {
                        self.take_room(gone);
                    }
                    slot
                }
            }
        };
        let mut decoded = sync::lock(&slot);
        if let Some(block) = &*decoded {
            return Ok(Arc::clone(block));
        }
        // What fails is tried anew by whoever asks next: the disk may be back by then.
        let block = Arc::new(self.open_block(place)?);
        *decoded = Some(Arc::clone(&block));
        Ok(block)
    }

    /// Keeps the room of a block that nobody holds any more.
    fn take_room(&self, gone: Slot) {
        let block = Arc::into_inner(gone).and_then(|slot| slot.into_inner().unwrap_or_default());
        block.into_iter().for_each(|block| self.take_block(block));
    }

    fn take_block(&self, gone: Arc<Block>) {
        let Some(block) = Arc::into_inner(gone) else { return };
        let mut spare = sync::lock(&self.shared.spare);
        if spare.len() < SPARE_ROOMS {
            spare.push(block.raw);
        }
    }

    /// Room for so many bytes, never for many more: what the cache holds is counted by the bytes.
    fn room(&self, bytes: usize) -> Vec<u8> {
        let mut spare = sync::lock(&self.shared.spare);
        let fits = |room: &Vec<u8>| (bytes..=bytes + bytes / 8).contains(&room.capacity());
        match spare.iter().position(fits) {
            Some(at) => spare.swap_remove(at),
            None => {
                // What does not fit is in the way of what will.
                spare.pop();
                Vec::with_capacity(bytes)
            }
        }
    }

    fn open_block(&self, place: &Location) -> Result<Block, RepositoryError> {
        let opener = sync::lock(&self.shared.openers).pop();
        let mut opener = match opener {
            Some(opener) => opener,
            None => Opener { opener: packfile::opener(&self.shared.repository)?, stored: Vec::new() },
        };
        // Opened for this one block: whether the pack is still there is to be seen.
        let file = packfile::open_file(&self.shared.repository, &place.pack)?;
        place.head.check().map_err(|source| RepositoryError::decoding(layout::pack(&place.pack), source))?;
        let mut raw = self.room(place.head.raw_len as usize);
        let Opener { opener: decoder, stored } = &mut opener;
        file.read_block_into(decoder, &place.salt, place.number, &place.head, stored, &mut raw)?;
        let mut openers = sync::lock(&self.shared.openers);
        if openers.len() < SPARE_OPENERS {
            openers.push(opener);
        }
        Ok(Block { raw, kind: place.head.kind })
    }
}
