//! Reads ahead of programs that go through a folder: the files behind the one that is being read are found in the index
//! together, and their blocks are decoded on a thread of their own before somebody waits for them.
//!
//! Whoever reads three files of a folder in the order of its listing is taken to read on. What is decoded in vain when he
//! does not is one window; it lies in the reader's cache of blocks and is bounded with it. Damage is left to whoever asks
//! for the file.
//!
//! Nothing is put into the kernel's page cache before it is asked for (FUSE_NOTIFY_STORE), though that would save most
//! requests: the kernel waits there for a page that somebody asks for at that moment, and when this process is killed just
//! then nobody answers, the connection stays open, and whoever reads hangs until `umount -f`. It took two kills to see that.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use mailkeep_restorer::Listing;
use mailkeep_restorer::format::ChunkRef;

use crate::inodes::{Inode, Place};
use crate::state::State;

/// Bytes that are decoded ahead: a few blocks, so that the next one is ready when one has been read.
const WINDOW: u64 = 3 << 20;
/// Folders of which it is known how far their readers are.
const TRAILS: usize = 8;
/// Files that may be skipped by somebody who is still taken to go through a folder: what he has read before, or does not
/// want.
const STRIDE: u32 = 16;
/// Files in a row after which there is reading ahead.
const IN_A_ROW: u32 = 2;
/// Windows that wait for the thread; who comes when there are as many reads without.
const WAITING: usize = 4;

/// How far somebody has come in a folder.
struct Trail {
    folder: u64,
    last: u32,
    in_a_row: u32,
    /// Where the next window begins.
    next: u32,
    /// Whoever comes here wants the next window.
    mark: u32,
    /// It was asked for.
    is_asked: bool,
}

type Trails = Arc<Mutex<VecDeque<Trail>>>;

pub(crate) struct Ahead {
    trails: Trails,
    windows: SyncSender<Place>,
}

impl Ahead {
    /// Starts the thread; it ends when this is dropped.
    pub(crate) fn start(state: &Arc<State>) -> io::Result<Self> {
        let (windows, queue) = sync_channel(WAITING);
        let trails = Trails::default();
        let (state, held) = (Arc::clone(state), Arc::clone(&trails));
        thread::Builder::new().name("mount-ahead".to_owned()).spawn(move || work(&state, &held, &queue))?;
        Ok(Ahead { trails, windows })
    }

    /// Somebody begins to read the file that stands here. Never waits.
    pub(crate) fn came_by(&self, place: Place) {
        let mut trails = lock(&self.trails);
        let trail = follow(&mut trails, place);
        if trail.in_a_row < IN_A_ROW || trail.is_asked || place.index < trail.mark {
            return;
        }
        let from = Place { folder: place.folder, index: trail.next.max(place.index + 1) };
        trail.is_asked = self.windows.try_send(from).is_ok();
    }
}

fn lock(trails: &Trails) -> MutexGuard<'_, VecDeque<Trail>> {
    trails.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that somebody came by here; the newest trail is the last one.
fn follow(trails: &mut VecDeque<Trail>, place: Place) -> &mut Trail {
    let known = trails.iter().position(|trail| trail.folder == place.folder);
    // Who has gone through one folder is taken to go through the next one too.
    let in_a_row = match trails.back() {
        Some(last) if known.is_none() && last.mark == u32::MAX => last.in_a_row,
        _ => 0,
    };
    let mut trail = known.and_then(|at| trails.remove(at)).unwrap_or(Trail {
        folder: place.folder,
        last: place.index,
        in_a_row,
        next: place.index + 1,
        mark: 0,
        is_asked: false,
    });
    if place.index > trail.last && place.index <= trail.last.max(trail.next).saturating_add(STRIDE) {
        trail.in_a_row = trail.in_a_row.saturating_add(1);
        trail.last = place.index;
    } else if place.index != trail.last {
        trail = Trail { last: place.index, in_a_row: 0, next: place.index + 1, mark: 0, ..trail };
    }
    while trails.len() >= TRAILS {
        trails.pop_front();
    }
    trails.push_back(trail);
    let newest = trails.len() - 1;
    &mut trails[newest]
}

fn work(state: &State, trails: &Trails, queue: &Receiver<Place>) {
    while let Ok(from) = queue.recv() {
        // Somebody who cannot list the folder any more is told so when he reads.
        let window = state.inode(from.folder).and_then(|folder| {
            let listing = folder.view.list(&folder.path, &folder.node).ok()?;
            Some(Window::new(folder, listing, from))
        });
        if let Some(trail) = lock(trails).iter_mut().find(|trail| trail.folder == from.folder) {
            trail.is_asked = false;
            if let Some(window) = &window {
                (trail.next, trail.mark) = (window.end, window.mark);
            }
        }
        if let Some(window) = window {
            window.fetch(trails);
        }
    }
}

/// Whether somebody has begun to read what stands here, or what comes after it.
fn has_passed(trails: &Trails, folder: u64, index: u32) -> bool {
    lock(trails).iter().any(|trail| trail.folder == folder && trail.last >= index)
}

/// Files in a row.
struct Window {
    folder: Inode,
    listing: Listing,
    from: Place,
    /// Behind the last of them.
    end: u32,
    mark: u32,
    /// What they are made of, as far as it is to be decoded.
    chunks: Vec<ChunkRef>,
}

impl Window {
    fn new(folder: Inode, listing: Listing, from: Place) -> Self {
        let (mut chunks, mut bytes, mut end) = (Vec::new(), 0, from.index as usize);
        while let Some(node) = listing.get(end).filter(|_| bytes < WINDOW) {
            let wanted = node.content().iter().filter(|_| node.is_file());
            chunks.extend(wanted.take_while(|chunk| {
                bytes += u64::from(chunk.length);
                bytes <= WINDOW
            }));
            end += 1;
        }
        let is_last = end >= listing.len();
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        let mark = if is_last { u32::MAX } else { from.index.midpoint(end) };
        Window { folder, listing, from, end, mark, chunks }
    }

    fn fetch(&self, trails: &Trails) {
        let contents = self.folder.view.contents();
        contents.expect(&self.chunks);
        let mut left = &self.chunks[..];
        for index in self.from.index..self.end {
            let Some(node) = self.listing.get(index as usize).filter(|node| node.is_file()) else { continue };
            let (these, others) = left.split_at(node.content().len().min(left.len()));
            left = others;
            if !has_passed(trails, self.from.folder, index) {
                these.iter().for_each(|chunk| contents.warm(chunk));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_a_row(places: &[(u64, u32)]) -> Vec<u32> {
        let mut trails = VecDeque::new();
        places
            .iter()
            .map(|(folder, index)| follow(&mut trails, Place { folder: *folder, index: *index }).in_a_row)
            .collect()
    }

    #[test]
    fn who_reads_in_order_is_noticed_and_who_jumps_about_is_not() {
        assert_eq!(in_a_row(&[(7, 0), (7, 1), (7, 2), (7, 2), (7, 5)]), [0, 1, 2, 2, 3]);
        assert_eq!(in_a_row(&[(7, 900), (7, 20), (7, 400), (7, 399)]), [0, 0, 0, 0]);
        // Two who read side by side, also in folders of their own.
        assert_eq!(in_a_row(&[(7, 0), (8, 0), (7, 1), (8, 1), (7, 2), (8, 2)]), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn as_many_folders_are_remembered_as_it_says() {
        let mut trails = VecDeque::new();
        for folder in 0..100 {
            follow(&mut trails, Place { folder, index: 0 });
        }
        assert_eq!(trails.len(), TRAILS);
        assert_eq!(trails.back().map(|trail| trail.folder), Some(99));
    }
}
