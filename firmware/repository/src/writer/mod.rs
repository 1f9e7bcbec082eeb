//! Adding to a repository: chunks in, packs and index out, and at the end the seal. Follows COMMIT.md.
//!
//! One thread drives a [`Writer`]; compression and writing go on behind it. What [`Writer::put`] has taken is on the
//! disk after [`Writer::flush`], and a snapshot after [`Writer::seal`]. Dropping a writer without a seal leaves complete
//! packs behind, which the next writer finds again.

mod checkpoint;
mod packer;
mod pipeline;
mod resume;
mod seal;
mod sweeping;
mod tree;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailkeep_format::base64::begins_as_base64;
use mailkeep_format::{
    ChunkId, ChunkKind, ChunkRef, ContentHash, FormatError, PackId, SnapshotId, limits as format_limits,
};

use crate::error::RepositoryError;
use crate::index::{self, View};
use crate::lock::WriteLock;
use crate::machine::Machine;
use crate::monitor::Monitor;
use crate::reader::Reader;
use crate::repository::Repository;
use crate::storage::{PoisonStorage, Storage};
use crate::{limits, sync};

use packer::{Namer, Packer};
use pipeline::{Chunks, Finished, Job, Packs, Pipeline};
use resume::Room;
pub use seal::{Draft, Sealed};
pub use tree::TreeWriter;

/// How a writer works.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// zstd level, 1 to 19.
    pub compression_level: i32,
    /// Compressing threads; at least 1.
    pub workers: usize,
    /// Chunks whose place is held in memory before it goes into an index run; bounds the memory of a large backup.
    pub session_chunks: usize,
    /// Who writes, for the lease.
    pub machine: Machine,
    /// How long a backup goes on before what it has read so far is kept by a checkpoint, and then again; for who drives the
    /// writer.
    pub checkpoint_every: Duration,
}

impl Default for WriterOptions {
    /// The default level, a worker per core up to [`limits::WORKERS_MAX`], this machine.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        WriterOptions {
            compression_level: mailkeep_format::DEFAULT_LEVEL,
            workers: cores.min(limits::WORKERS_MAX),
            session_chunks: limits::TURN_CHUNKS,
            machine: Machine::this(),
            checkpoint_every: limits::CHECKPOINT_EVERY,
        }
    }
}

/// The one who adds to a repository. Holds its lock.
pub struct Writer {
    // Dropped first: its threads use all the rest.
    pipeline: Pipeline,
    repository: Repository,
    storage: Arc<dyn Storage>,
    lock: Arc<WriteLock>,
    view: Arc<Mutex<Arc<View>>>,
    known: Arc<View>,
    /// Chunks that were put since the last flush or turn.
    session: HashMap<ChunkId, u32>,
    /// Those that were put before that, until they stand in the index.
    settling: Option<Settling>,
    session_chunks: usize,
    /// Chunks that were asked for since the last flush and are in no pack: they are about to be put.
    absent: HashSet<ChunkId>,
    data: OpenBlock,
    trees: OpenBlock,
    alone: Alone,
    unsealed: BTreeSet<PackId>,
    previous: Option<SnapshotId>,
    generation: u64,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("repository", &self.repository).field("lock", &self.lock).finish()
    }
}

/// A session whose packs are on their way to the medium while the next one goes on.
struct Settling {
    chunks: HashMap<ChunkId, u32>,
    packs: Finished,
}

/// A block that is being filled.
#[derive(Default)]
struct OpenBlock {
    raw: Vec<u8>,
    chunks: Chunks,
}

/// Blocks of one chunk each that are handed over together.
struct Alone {
    kind: ChunkKind,
    raw: Vec<u8>,
    blocks: Vec<Chunks>,
}

impl Repository {
    /// Starts a writer: takes lock and lease, tidies up after an interrupted run and knows again what it left behind.
    ///
    /// # Errors
    /// [`RepositoryError::Locked`] (11), and whatever keeps the disk from being read and written.
    pub fn writer(&self, options: &WriterOptions, monitor: &dyn Monitor) -> Result<Writer, RepositoryError> {
        Writer::open(self, options, monitor)
    }
}

impl Writer {
    pub(crate) fn open(
        repository: &Repository,
        options: &WriterOptions,
        monitor: &dyn Monitor,
    ) -> Result<Self, RepositoryError> {
        Writer::open_where(repository, options, Room::Enough, monitor)
    }

    fn open_where(
        repository: &Repository,
        options: &WriterOptions,
        room: Room,
        monitor: &dyn Monitor,
    ) -> Result<Self, RepositoryError> {
        let storage: Arc<dyn Storage> = Arc::new(PoisonStorage::new(repository.storage().clone()));
        let lock = Arc::new(WriteLock::take(storage.clone(), &options.machine, monitor)?);
        Writer::build(repository, storage, lock, options, room, monitor)
    }

    /// A writer for somebody who holds the lock already and writes through this storage too.
    pub(crate) fn under(
        repository: &Repository,
        storage: Arc<dyn Storage>,
        lock: Arc<WriteLock>,
        options: &WriterOptions,
        monitor: &dyn Monitor,
    ) -> Result<Self, RepositoryError> {
        Writer::build(repository, storage, lock, options, Room::Enough, monitor)
    }

    fn build(
        repository: &Repository,
        storage: Arc<dyn Storage>,
        lock: Arc<WriteLock>,
        options: &WriterOptions,
        room: Room,
        monitor: &dyn Monitor,
    ) -> Result<Self, RepositoryError> {
        let start = resume::resume(repository, &*storage, room, monitor)?;
        let packer = Packer::new(repository, storage.clone());
        let namer = Namer::new(storage.clone(), lock.clone());
        let pipeline = Pipeline::start(options.workers.max(1), options.compression_level, packer, namer)?;
        let known = Arc::new(start.view);
        Ok(Writer {
            pipeline,
            repository: repository.clone(),
            storage,
            lock,
            view: Arc::new(Mutex::new(known.clone())),
            known,
            session: HashMap::new(),
            settling: None,
            session_chunks: options.session_chunks.max(1),
            absent: HashSet::new(),
            data: OpenBlock::default(),
            trees: OpenBlock::default(),
            alone: Alone { kind: ChunkKind::Data, raw: Vec::new(), blocks: Vec::new() },
            unsealed: start.unsealed,
            previous: start.previous,
            generation: start.generation,
        })
    }

    /// The reference to a chunk that is there already (on the disk, or put in this session). The length is the caller's
    /// claim: a chunk that is there with another length is not the one that is meant, and the answer is `None`.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn chunk_for(
        &mut self,
        kind: ChunkKind,
        hash: &ContentHash,
        length: u32,
    ) -> Result<Option<ChunkRef>, RepositoryError> {
        let id = self.repository.keys().id.chunk_id(kind, hash);
        let stored = match self.in_session(&id) {
            Some(stored) => Some(stored),
            None => self.known.length_of(&id)?,
        };
        // Of a chunk that only a pack has which is not relied on no length is known either.
        if stored.is_none() && self.absent.len() < limits::ABSENT_CHUNKS {
            self.absent.insert(id);
        }
        Ok((stored == Some(length)).then_some(ChunkRef { id, length }))
    }

    /// Stores a chunk unless it is there; hashes it itself.
    ///
    /// # Errors
    /// A chunk that is empty or too long, the first error of the engine, [`RepositoryError::Stopped`] after that.
    pub fn put(&mut self, kind: ChunkKind, bytes: &[u8]) -> Result<ChunkRef, RepositoryError> {
        self.put_hashed(kind, &ContentHash::of(bytes), bytes)
    }

    /// As [`Writer::put`], for a caller that has hashed these very bytes itself a moment ago. A hash from elsewhere must
    /// never come here: it would let its sender name what is stored.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub fn put_hashed(
        &mut self,
        kind: ChunkKind,
        hash: &ContentHash,
        bytes: &[u8],
    ) -> Result<ChunkRef, RepositoryError> {
        check_length(bytes)?;
        self.pipeline.check()?;
        let id = self.repository.keys().id.chunk_id(kind, hash);
        let chunk = ChunkRef { id, length: bytes.len() as u32 };
        let is_there =
            self.in_session(&id).is_some() || (!self.absent.remove(&id) && self.known.contains(&id)?);
        if !is_there {
            self.add(kind, chunk, bytes)?;
        }
        Ok(chunk)
    }

    /// Puts a chunk into the block that is being filled.
    fn add(&mut self, kind: ChunkKind, chunk: ChunkRef, bytes: &[u8]) -> Result<(), RepositoryError> {
        let id = chunk.id;
        self.settle(false)?;
        if self.session.len() >= self.session_chunks {
            self.turn()?;
        }
        self.session.insert(id, chunk.length);
        if stands_alone(kind, bytes) {
            return self.add_alone(kind, chunk, bytes);
        }
        let open = self.open_block(kind);
        let full = open.raw.len() + bytes.len() > format_limits::BLOCK_TARGET
            || open.chunks.len() >= format_limits::BLOCK_CHUNKS_MAX;
        if full {
            self.close_block(kind)?;
        }
        let open = self.open_block(kind);
        open.raw.extend_from_slice(bytes);
        open.chunks.push((id, chunk.length));
        Ok(())
    }

    /// Puts a chunk into a block of its own.
    fn add_alone(&mut self, kind: ChunkKind, chunk: ChunkRef, bytes: &[u8]) -> Result<(), RepositoryError> {
        let full = |alone: &Alone| alone.raw.len() + bytes.len() > format_limits::BLOCK_TARGET;
        if self.alone.kind != kind || full(&self.alone) {
            self.hand_alone()?;
            self.alone.kind = kind;
        }
        self.alone.raw.extend_from_slice(bytes);
        self.alone.blocks.push(vec![(chunk.id, chunk.length)]);
        Ok(())
    }

    /// Hands over the blocks of single chunks.
    fn hand_alone(&mut self) -> Result<(), RepositoryError> {
        if self.alone.blocks.is_empty() {
            return self.pipeline.check();
        }
        let next = Alone { kind: self.alone.kind, raw: self.pipeline.buffer(), blocks: Vec::new() };
        let Alone { kind, raw, blocks } = std::mem::replace(&mut self.alone, next);
        self.pipeline.submit(Job { kind, raw, blocks })
    }

    /// Returns when all that was put is on the medium, has been read back, stands in the index, and can be read through
    /// [`Writer::reader`].
    ///
    /// # Errors
    /// The first error of the engine; [`RepositoryError::ReadBack`] if the disk gives back something else.
    pub fn flush(&mut self) -> Result<(), RepositoryError> {
        self.close_block(ChunkKind::Data)?;
        self.close_block(ChunkKind::Tree)?;
        self.hand_alone()?;
        self.settle(true)?;
        let packs = self.pipeline.finish_packs()?;
        // What was put stands in the packs' tables now, and is asked for again when it stands in the run: the two need
        // not be in memory beside each other.
        self.session = HashMap::new();
        self.absent = HashSet::new();
        self.index(packs)
    }

    /// Begins a new session, while the packs of this one become durable and are read back.
    fn turn(&mut self) -> Result<(), RepositoryError> {
        self.settle(true)?;
        self.close_block(ChunkKind::Data)?;
        self.close_block(ChunkKind::Tree)?;
        self.hand_alone()?;
        let packs = self.pipeline.close_packs()?;
        self.settling = Some(Settling { chunks: std::mem::take(&mut self.session), packs });
        Ok(())
    }

    /// Puts the session before into the index, if there is one and its packs have been read back; waits for that if `wait`.
    fn settle(&mut self, wait: bool) -> Result<(), RepositoryError> {
        let Some(settling) = &self.settling else { return Ok(()) };
        let Some(packs) = self.pipeline.packs(&settling.packs, wait)? else { return Ok(()) };
        // As in a flush: nobody asks before the run is there.
        self.settling = None;
        self.index(packs)
    }

    /// Makes an index run of packs that have been read back.
    fn index(&mut self, packs: Packs) -> Result<(), RepositoryError> {
        if !packs.is_empty() {
            let run = self.publish(&packs).map_err(|error| self.pipeline.stop(error))?;
            let mut view = self.known.with(run);
            // However long the backup, few runs are to be asked.
            if view.runs().len() > limits::RUNS_IN_BACKUP_MAX {
                view = index::merge(&self.repository, &*self.storage, &view)
                    .map_err(|error| self.pipeline.stop(error))?;
            }
            self.known = Arc::new(view);
            *sync::lock(&self.view) = self.known.clone();
            self.unsealed.extend(packs.iter().map(|(id, _)| *id));
        }
        Ok(())
    }

    /// Step 5 of COMMIT.md: the packs have been read back.
    fn publish(
        &self,
        packs: &[(PackId, mailkeep_format::pack::PackFooter)],
    ) -> Result<index::Run, RepositoryError> {
        self.lock.renew()?;
        index::write_run(&self.repository, &*self.storage, packs)
    }

    /// A reader of everything up to the last flush, this and all later ones.
    pub fn reader(&self) -> Reader {
        Reader::over(&self.repository, self.view.clone())
    }

    /// Bytes that this writer has added to packs so far.
    pub fn added_bytes(&self) -> u64 {
        self.pipeline.bytes()
    }

    /// Whether no chunk is known: nothing was there, and nothing has been put.
    pub fn is_bare(&self) -> bool {
        self.known.pack_count() == 0 && self.session.is_empty() && self.settling.is_none()
    }

    /// The repository that is written to.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Relies no longer on these packs, whatever the index says.
    pub(crate) fn distrust(&mut self, packs: &BTreeSet<PackId>) {
        self.known = Arc::new(self.known.distrusting(packs));
        *sync::lock(&self.view) = self.known.clone();
    }

    /// Whether a chunk need not be put: a sound pack has it, or this session.
    pub(crate) fn knows(&self, id: &ChunkId) -> Result<bool, RepositoryError> {
        self.has(id)
    }

    fn has(&self, id: &ChunkId) -> Result<bool, RepositoryError> {
        Ok(self.in_session(id).is_some() || self.known.contains(id)?)
    }

    /// The length of a chunk that was put and does not stand in the index yet.
    fn in_session(&self, id: &ChunkId) -> Option<u32> {
        let before = || self.settling.as_ref().and_then(|settling| settling.chunks.get(id));
        self.session.get(id).or_else(before).copied()
    }

    fn open_block(&mut self, kind: ChunkKind) -> &mut OpenBlock {
        match kind {
            ChunkKind::Data => &mut self.data,
            ChunkKind::Tree => &mut self.trees,
        }
    }

    fn close_block(&mut self, kind: ChunkKind) -> Result<(), RepositoryError> {
        if self.open_block(kind).chunks.is_empty() {
            return self.pipeline.check();
        }
        let next = OpenBlock { raw: self.pipeline.buffer(), chunks: Vec::new() };
        let OpenBlock { raw, mut chunks } = std::mem::replace(self.open_block(kind), next);
        // They are kept until the next flush.
        chunks.shrink_to_fit();
        self.pipeline.submit(Job { kind, raw, blocks: vec![chunks] })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A pull that was cut off keeps what it has got: the pack in the making becomes a complete one.
        let closed = [ChunkKind::Data, ChunkKind::Tree].map(|kind| self.close_block(kind));
        if closed.iter().all(Result::is_ok) && self.hand_alone().is_ok() {
            if let Err(error) = self.pipeline.finish_packs() {
                tracing::debug!(error = %crate::error::chain(&error), "the last pack is lost");
            }
        }
    }
}

/// Whether a chunk gets a block of its own.
fn stands_alone(kind: ChunkKind, bytes: &[u8]) -> bool {
    let base64 = || kind == ChunkKind::Data && begins_as_base64(bytes);
    bytes.len() >= limits::LARGE_CHUNK || (bytes.len() >= limits::LARGE_BASE64 && base64())
}

fn check_length(bytes: &[u8]) -> Result<(), RepositoryError> {
    let what = "a chunk";
    if bytes.is_empty() {
        let source = FormatError::Malformed { what, why: "it is empty".to_owned() };
        return Err(RepositoryError::Encode { what, source });
    }
    if bytes.len() > format_limits::CHUNK_MAX {
        let (declared, limit) = (bytes.len() as u64, format_limits::CHUNK_MAX as u64);
        return Err(RepositoryError::Encode {
            what,
            source: FormatError::TooLarge { what, declared, limit },
        });
    }
    Ok(())
}
