//! Threads between the caller's chunks and the packs on the disk: compressors, then one that fills packs, then one that
//! waits until they are durable.
//!
//! Channels are bounded, so memory is too and a slow disk slows the caller. The first error of any thread is kept and
//! ends the work: the threads then only drain what is under way.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use mailkeep_format::block::{BlockCompressor, Compressed};
use mailkeep_format::pack::PackFooter;
use mailkeep_format::{ChunkId, ChunkKind, FormatError, PackId, limits};

use super::packer::{Filled, Namer, Packer};
use crate::error::{RepositoryError, chain};
use crate::sync;

/// The chunks of a block, in their order.
pub(super) type Chunks = Vec<(ChunkId, u32)>;

/// Blocks that are to be compressed, one after the other: a block of many chunks, or many of one. Handing each of the
/// latter over by itself would wake two threads for one attachment.
pub(super) struct Job {
    pub(super) kind: ChunkKind,
    pub(super) raw: Vec<u8>,
    pub(super) blocks: Vec<Chunks>,
}

/// Packs with their tables of contents.
pub(super) type Packs = Vec<(PackId, PackFooter)>;

/// Packs that are on their way to the medium.
pub(super) struct Finished(Receiver<Packs>);

enum ToPacker {
    Blocks(Vec<(Compressed, Chunks)>),
    Finish(SyncSender<Packs>),
}

enum ToNamer {
    Pack(Filled),
    Finish(SyncSender<Packs>),
}

/// Full packs that wait to become durable, beside the one that does: a disk that is slow now and then holds nobody up,
/// and one that is slow always does.
const PACKS_WAITING: usize = 1;

/// The running threads.
pub(super) struct Pipeline {
    jobs: Option<SyncSender<Job>>,
    packer: Option<SyncSender<ToPacker>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    in_flight: usize,
    failure: Option<RepositoryError>,
    /// Text of the first failure, once there is one.
    first: Option<String>,
    /// Buffers of blocks that are done, for the next ones.
    spare: Vec<Vec<u8>>,
    bytes: u64,
}

impl Shared {
    fn fail(&self, error: RepositoryError) {
        let mut state = sync::lock(&self.state);
        if state.first.is_none() {
            state.first = Some(chain(&error));
            state.failure = Some(error);
        }
        self.changed.notify_all();
    }

    fn failed(&self) -> bool {
        sync::lock(&self.state).first.is_some()
    }
}

/// Turns a panic of its thread into a failure, so that nobody waits for it for ever.
struct Watch(Arc<Shared>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(RepositoryError::Worker);
        }
    }
}

impl Pipeline {
    pub(super) fn start(
        workers: usize,
        level: i32,
        packer: Packer,
        namer: Namer,
    ) -> Result<Self, RepositoryError> {
        let shared = Arc::new(Shared::default());
        let (jobs, to_workers) = sync_channel::<Job>(workers);
        let (to_packer, from_workers) = sync_channel::<ToPacker>(workers);
        let to_workers = Arc::new(Mutex::new(to_workers));
        let mut pipeline =
            Pipeline { jobs: Some(jobs), packer: Some(to_packer.clone()), shared, threads: Vec::new() };
        for number in 0..workers {
            let compressor = BlockCompressor::new(level)
                .map_err(|source| RepositoryError::Encode { what: "a block", source })?;
            let (jobs, packer, shared) = (to_workers.clone(), to_packer.clone(), pipeline.shared.clone());
            pipeline.spawn(&format!("compress-{number}"), move || {
                compress(compressor, &jobs, &packer, &shared)
            })?;
        }
        let shared = pipeline.shared.clone();
        let (to_namer, from_packer) = sync_channel::<ToNamer>(PACKS_WAITING);
        pipeline.spawn("pack", move || pack(packer, &from_workers, &to_namer, &shared))?;
        let shared = pipeline.shared.clone();
        pipeline.spawn("name", move || name(namer, &from_packer, &shared))?;
        Ok(pipeline)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), RepositoryError> {
        let watch = Watch(self.shared.clone());
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _watch = watch;
            run();
        });
        self.threads.push(thread.map_err(|_| RepositoryError::Worker)?);
        Ok(())
    }

    /// An empty buffer for the next block.
    pub(super) fn buffer(&self) -> Vec<u8> {
        // At its full size at once: growing it would leave holes behind that are never used again.
        let spare = sync::lock(&self.shared.state).spare.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(limits::BLOCK_TARGET))
    }

    /// Bytes that were written to packs so far.
    pub(super) fn bytes(&self) -> u64 {
        sync::lock(&self.shared.state).bytes
    }

    /// The first failure: as itself once, as a text from then on.
    pub(super) fn check(&self) -> Result<(), RepositoryError> {
        let mut state = sync::lock(&self.shared.state);
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        match &state.first {
            Some(first) => Err(RepositoryError::Stopped { first: first.clone() }),
            None => Ok(()),
        }
    }

    /// Ends all further work for this reason.
    pub(super) fn stop(&self, error: RepositoryError) -> RepositoryError {
        self.shared.fail(error);
        self.check().err().unwrap_or(RepositoryError::Worker)
    }

    /// Hands blocks over; waits while the threads are behind.
    pub(super) fn submit(&self, job: Job) -> Result<(), RepositoryError> {
        self.check()?;
        sync::lock(&self.shared.state).in_flight += 1;
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if sent { Ok(()) } else { Err(self.stop(RepositoryError::Worker)) }
    }

    /// Waits for all blocks and closes the pack they are in. What comes of it are all packs that were finished since the last
    /// call, once they have been read back.
    pub(super) fn close_packs(&self) -> Result<Finished, RepositoryError> {
        let mut state = sync::lock(&self.shared.state);
        while state.in_flight > 0 && state.first.is_none() {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // What comes now is the index, and perhaps a pass that stores next to nothing: the memory is theirs.
        state.spare = Vec::new();
        drop(state);
        self.check()?;
        let (reply, finished) = sync_channel(1);
        let asked = self.packer.as_ref().is_some_and(|packer| packer.send(ToPacker::Finish(reply)).is_ok());
        if asked { Ok(Finished(finished)) } else { Err(self.stop(RepositoryError::Worker)) }
    }

    /// The packs of a call of [`Pipeline::close_packs`]; waits for them if `wait`. `None`: they are not there yet.
    pub(super) fn packs(&self, finished: &Finished, wait: bool) -> Result<Option<Packs>, RepositoryError> {
        let packs = match finished.0.try_recv() {
            Err(TryRecvError::Empty) if !wait => return Ok(None),
            Err(TryRecvError::Empty) => finished.0.recv().ok(),
            Err(TryRecvError::Disconnected) => None,
            Ok(packs) => Some(packs),
        };
        self.check()?;
        packs.map_or_else(|| Err(self.stop(RepositoryError::Worker)), |packs| Ok(Some(packs)))
    }

    /// Waits for all blocks, closes the pack they are in, and gives every pack that was finished since the last call.
    pub(super) fn finish_packs(&self) -> Result<Packs, RepositoryError> {
        let finished = self.close_packs()?;
        Ok(self.packs(&finished, true)?.unwrap_or_default())
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.jobs = None;
        self.packer = None;
        for thread in self.threads.drain(..) {
            // A panic was turned into a failure by its watch.
            let _ = thread.join();
        }
    }
}

fn compress(
    mut compressor: BlockCompressor,
    jobs: &Mutex<Receiver<Job>>,
    packer: &SyncSender<ToPacker>,
    shared: &Shared,
) {
    loop {
        let job = sync::lock(jobs).recv();
        let Ok(Job { kind, mut raw, blocks }) = job else { return };
        if shared.failed() {
            continue;
        }
        match compress_all(&mut compressor, kind, &raw, blocks) {
            Ok(blocks) => {
                raw.clear();
                sync::lock(&shared.state).spare.push(raw);
                if packer.send(ToPacker::Blocks(blocks)).is_err() {
                    shared.fail(RepositoryError::Worker);
                }
            }
            Err(source) => shared.fail(RepositoryError::Encode { what: "a block", source }),
        }
    }
}

fn compress_all(
    compressor: &mut BlockCompressor,
    kind: ChunkKind,
    mut raw: &[u8],
    blocks: Vec<Chunks>,
) -> Result<Vec<(Compressed, Chunks)>, FormatError> {
    let mut compressed = Vec::with_capacity(blocks.len());
    for chunks in blocks {
        let length: usize = chunks.iter().map(|&(_, length)| length as usize).sum();
        let (block, rest) = raw.split_at(length.min(raw.len()));
        raw = rest;
        compressed.push((compressor.compress(kind, block, chunks.len())?, chunks));
    }
    Ok(compressed)
}

fn pack(mut packer: Packer, blocks: &Receiver<ToPacker>, namer: &SyncSender<ToNamer>, shared: &Shared) {
    // A namer that is gone has died, and its watch has told so.
    let pass_on = |filled: Option<Filled>| {
        if filled.is_some_and(|filled| namer.send(ToNamer::Pack(filled)).is_err()) {
            shared.fail(RepositoryError::Worker);
        }
    };
    while let Ok(message) = blocks.recv() {
        if shared.failed() {
            continue;
        }
        match message {
            ToPacker::Blocks(blocks) => {
                let mut bytes = 0;
                let filled = blocks.into_iter().try_for_each(|(block, chunks)| {
                    let (written, filled) = packer.push(block, chunks)?;
                    bytes += written;
                    pass_on(filled);
                    Ok(())
                });
                if let Err(error) = filled {
                    shared.fail(error);
                    continue;
                }
                let mut state = sync::lock(&shared.state);
                state.bytes += bytes;
                state.in_flight -= 1;
                // Nobody waits for anything but the last.
                if state.in_flight == 0 {
                    shared.changed.notify_all();
                }
            }
            ToPacker::Finish(reply) => match packer.finish() {
                Ok((bytes, filled)) => {
                    sync::lock(&shared.state).bytes += bytes;
                    pass_on(filled);
                    // Behind all packs, so that the answer comes when they are durable.
                    if namer.send(ToNamer::Finish(reply)).is_err() {
                        shared.fail(RepositoryError::Worker);
                    }
                }
                Err(error) => shared.fail(error),
            },
        }
    }
}

fn name(mut namer: Namer, packs: &Receiver<ToNamer>, shared: &Shared) {
    while let Ok(message) = packs.recv() {
        if shared.failed() {
            continue;
        }
        match message {
            ToNamer::Pack(filled) => {
                if let Err(error) = namer.name(filled) {
                    shared.fail(error);
                }
            }
            // Nobody waits any more if the writer was dropped; the packs are on the disk all the same.
            ToNamer::Finish(reply) => drop(reply.send(namer.take_finished())),
        }
    }
}
