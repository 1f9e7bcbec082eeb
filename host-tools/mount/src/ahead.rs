//! Reads ahead of programs that go through a folder: the files behind the one that is being read are looked for in the
//! index together, decoded, proven and put together on a thread of their own, so that nothing is left to be done for the
//! request but to hand them over. At the end of a folder the next one is listed and begun with.
//!
//! A request is a change of threads, and the kernel makes it cheap only where the one who answers has next to nothing to
//! do: then reader and answer take turns on one processor while this thread has another one.
//!
//! What is made ready in vain is one window, and the first one of the next folder. Damage is left to whoever asks for the
//! file.
//!
//! Nothing is put into the kernel's page cache before it is asked for (FUSE_NOTIFY_STORE), though that would save most
//! requests: the kernel waits there for a page that somebody asks for at that moment, and when this process is killed just
//! then nobody answers, the connection stays open, and whoever reads hangs until `umount -f`. It took two kills to see that.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use mailkeep_restorer::format::ChunkRef;
use mailkeep_restorer::{Expected, Listing};

use crate::inodes::{Inode, Place};
use crate::pool::Pool;
use crate::ready::{Making, Ready, Request, Wanted};
use crate::state::State;
use crate::trails::Trails;

/// Bytes that are looked for together: a few blocks, so that the next ones are ready when the first have been read.
const WINDOW: u64 = 3 << 20;
/// As [`WINDOW`], of a folder that nobody has begun to read.
const LEAD: u64 = 1 << 20;
/// Bytes that are made ready together: who is quicker waits for so many.
const BATCH: usize = 256 << 10;
/// Longer files are not made ready: their reader is read ahead of by the kernel.
const LONG: u64 = 1 << 20;
/// Windows that wait for the thread; who comes when there are as many reads without.
const WAITING: usize = 4;

type SharedTrails = Arc<Mutex<Trails>>;

pub(crate) struct Ahead {
    trails: SharedTrails,
    windows: SyncSender<Place>,
    ready: Ready,
}

impl Ahead {
    /// Starts the thread; it ends when this is dropped. What cannot be made ready and is waited for is read in `pool`.
    pub(crate) fn start(state: &Arc<State>, pool: &Pool) -> io::Result<Self> {
        let (windows, queue) = sync_channel(WAITING);
        let (trails, ready) = (SharedTrails::default(), Ready::default());
        let worker = Worker {
            state: Arc::clone(state),
            trails: Arc::clone(&trails),
            ready: ready.clone(),
            pool: pool.clone(),
        };
        thread::Builder::new().name("mount-ahead".to_owned()).spawn(move || worker.work(&queue))?;
        Ok(Ahead { trails, windows, ready })
    }

    /// Answers a request for the file that stands here, if that is ready or is being made so; else gives it back. Never
    /// waits.
    pub(crate) fn answer(&self, ino: u64, place: Place, request: Request) -> Option<Request> {
        let begins = request.offset == 0;
        let request = self.ready.answer(ino, place, request);
        if begins {
            self.came_by(place);
        }
        request
    }

    fn came_by(&self, place: Place) {
        let mut trails = lock(&self.trails);
        if let Some(from) = trails.came_by(place) {
            let is_asked = self.windows.try_send(from).is_ok();
            trails.asked(place.folder, is_asked);
        }
    }
}

fn lock(trails: &Mutex<Trails>) -> MutexGuard<'_, Trails> {
    trails.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker {
    state: Arc<State>,
    trails: SharedTrails,
    ready: Ready,
    pool: Pool,
}

impl Worker {
    fn work(&self, queue: &Receiver<Place>) {
        while let Ok(from) = queue.recv() {
            if !self.window(from, WINDOW) {
                continue;
            }
            // Nobody has asked for that: whoever has comes first.
            if let Some(next) = self.state.folder_after(from.folder) {
                if lock(&self.trails).lead_to(next) {
                    self.window(Place { folder: next, index: 0 }, LEAD);
                }
            }
        }
    }

    /// Makes a window ready; whether it was the last one of its folder.
    fn window(&self, from: Place, bytes: u64) -> bool {
        // Somebody who cannot list the folder any more is told so when he reads.
        let window = self.state.inode(from.folder).and_then(|folder| {
            let listing = folder.view.list(&folder.path, &folder.node).ok()?;
            Some(Window::new(folder, listing, from, bytes))
        });
        let Some(window) = window else {
            lock(&self.trails).asked(from.folder, false);
            return false;
        };
        lock(&self.trails).made(from, window.end, window.is_last);
        window.fetch(self);
        window.is_last
    }
}

/// A file of a window.
struct Part {
    index: u32,
    bytes: usize,
    /// How many chunks it has.
    chunks: usize,
}

/// Files in a row.
struct Window {
    folder: Inode,
    listing: Listing,
    from: Place,
    /// Behind the last of them.
    end: u32,
    is_last: bool,
    parts: Vec<Part>,
    /// What they are made of.
    chunks: Vec<ChunkRef>,
}

impl Window {
    fn new(folder: Inode, listing: Listing, from: Place, most: u64) -> Self {
        let (mut parts, mut chunks, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut end = from.index;
        while let Some(node) = listing.get(end as usize).filter(|_| bytes < most) {
            let length = node.content().iter().map(|chunk| u64::from(chunk.length)).sum();
            if node.is_file() && (1..=LONG).contains(&length) {
                parts.push(Part { index: end, bytes: length as usize, chunks: node.content().len() });
                chunks.extend_from_slice(node.content());
                bytes += length;
            }
            end += 1;
        }
        let is_last = end as usize >= listing.len();
        Window { folder, listing, from, end, is_last, parts, chunks }
    }

    /// Makes it ready in batches. The next one is always begun with before one is done, and the first one before its chunks
    /// are looked for: whoever is quicker than this thread waits for it rather than do the same beside it.
    fn fetch(&self, worker: &Worker) {
        let (mut at, mut first) = (0, 0);
        let mut next = self.begin(worker, &mut at, &mut first);
        if next.is_none() {
            return;
        }
        let expected = self.folder.view.contents().expect(&self.chunks);
        while let Some(making) = next {
            next = self.begin(worker, &mut at, &mut first);
            self.make(making, &expected, worker);
        }
    }

    /// The next batch of files that nobody has read yet: from the part `at` on, of which `first` is the first chunk.
    fn begin(&self, worker: &Worker, at: &mut usize, first: &mut usize) -> Option<Making> {
        let (mut files, mut bytes) = (Vec::new(), 0);
        while let Some(part) = self.parts.get(*at).filter(|_| bytes < BATCH) {
            let place = Place { folder: self.from.folder, index: part.index };
            let chunks = *first..*first + part.chunks;
            (*at, *first) = (*at + 1, chunks.end);
            if !lock(&worker.trails).has_passed(place) {
                let index = part.index as usize;
                let ino = worker.state.number(place.folder, &self.folder, &self.listing, index);
                let within = bytes..bytes + part.bytes;
                bytes = within.end;
                files.push(Wanted { ino, place, within, chunks });
            }
        }
        (!files.is_empty()).then(|| worker.ready.begin(files, bytes))
    }

    fn make(&self, mut making: Making, expected: &Expected, worker: &Worker) {
        // Of each chunk: of which file it is, and where it goes.
        let (mut indexes, mut goals) = (Vec::new(), HashMap::new());
        for (number, file) in making.wanted.iter().enumerate() {
            let mut at = file.within.start;
            for index in file.chunks.clone() {
                indexes.push(index as u32);
                goals.insert(index as u32, (number, at));
                at += self.chunks[index].length as usize;
            }
        }
        let mut missing: Vec<usize> = making.wanted.iter().map(|file| file.chunks.len()).collect();
        let room = &mut making.bytes;
        self.folder.view.contents().fetch(expected, &self.chunks, &indexes, &mut |index, bytes| {
            let Some((number, at)) = goals.remove(&index) else { return };
            let length = self.chunks[index as usize].length as usize;
            if let Some(goal) = room.get_mut(at..at + length).filter(|goal| goal.len() == bytes.len()) {
                goal.copy_from_slice(bytes);
                missing[number] -= 1;
            }
        });
        for (ino, request) in making.done(|number| missing.get(number) == Some(&0)) {
            worker.state.read_aside(&worker.pool, ino, request);
        }
    }
}
