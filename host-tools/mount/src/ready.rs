//! Files that somebody is about to read, ready to be handed to the kernel: what came of reading ahead.
//!
//! Files are made ready some at a time. While that goes on, whoever asks for one of them is answered when it is done, by
//! the thread that does it; what cannot be made ready is read as if nobody had tried, which tells what is wrong with it.
//! A file goes when its end has been read, or when there is too much of it all: the kernel keeps what it was given.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::ReplyData;

use crate::inodes::Place;

/// Bytes of files that are ready; several programs may each have some.
const READY: usize = 8 << 20;
/// Rooms that are kept for the next files.
const SPARE_ROOMS: usize = 3;
/// Longest room that is kept.
const SPARE_ROOM: usize = 1 << 20;

/// Somebody who waits for a part of a file.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) offset: u64,
    pub(crate) size: u32,
    pub(crate) reply: ReplyData,
}

impl Request {
    /// Answers from the whole file; whether its end was read.
    fn answer(self, file: &[u8]) -> bool {
        let start = usize::try_from(self.offset).unwrap_or(usize::MAX).min(file.len());
        let end = start.saturating_add(self.size as usize).min(file.len());
        self.reply.data(&file[start..end]);
        end == file.len()
    }
}

/// A file that is to be made ready.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) ino: u64,
    pub(crate) place: Place,
    /// Where it lies in the room.
    pub(crate) within: Range<usize>,
    /// Which chunks of its window it is made of.
    pub(crate) chunks: Range<usize>,
}

enum Stand {
    /// It is being made ready; these wait for it.
    Coming(Vec<Request>),
    /// In which room, and where in it.
    There(u64, Arc<Vec<u8>>, Range<usize>),
}

struct Entry {
    place: Place,
    stand: Stand,
}

#[derive(Default)]
struct Table {
    files: HashMap<u64, Entry>,
    /// By their numbers, which ascend: the files that were made ready together, and how many bytes those were.
    rooms: BTreeMap<u64, (usize, Vec<u64>)>,
    bytes: usize,
    last_room: u64,
    spare: Vec<Vec<u8>>,
}

impl Table {
    /// The file with this number that stands at `place`: the number of one may come to another one.
    fn at(&mut self, ino: u64, place: Place) -> Option<&mut Entry> {
        self.files.get_mut(&ino).filter(|entry| entry.place == place)
    }

    /// Forgets a file that lies in this room. What is being made ready by now stays: somebody may wait for it.
    fn remove(&mut self, ino: u64, room: u64) {
        let is_there = |entry: &&Entry| matches!(&entry.stand, Stand::There(known, ..) if *known == room);
        if self.files.get(&ino).filter(is_there).is_none() {
            return;
        }
        let Some(Entry { stand: Stand::There(_, bytes, _), .. }) = self.files.remove(&ino) else { return };
        if let Some((length, files)) = self.rooms.get_mut(&room) {
            files.retain(|file| *file != ino);
            if files.is_empty() {
                self.bytes -= *length;
                self.rooms.remove(&room);
            }
        }
        self.keep_room(bytes);
    }

    fn keep_room(&mut self, room: Arc<Vec<u8>>) {
        if let Some(room) = Arc::into_inner(room) {
            if self.spare.len() < SPARE_ROOMS && room.capacity() <= SPARE_ROOM {
                self.spare.push(room);
            }
        }
    }
}

/// Shared by the thread that answers the kernel and the one that reads ahead.
#[derive(Clone, Default)]
pub(crate) struct Ready(Arc<Mutex<Table>>);

impl Ready {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request for the file with this number, which stands at `place`, now or when it is ready. Gives it back if
    /// there is no such file here. Waits for nobody.
    pub(crate) fn answer(&self, ino: u64, place: Place, request: Request) -> Option<Request> {
        let (room, bytes, within) = {
            let mut table = self.table();
            let Some(entry) = table.at(ino, place) else { return Some(request) };
            match &mut entry.stand {
                Stand::Coming(waiting) => {
                    waiting.push(request);
                    return None;
                }
                Stand::There(room, bytes, within) => (*room, Arc::clone(bytes), within.clone()),
            }
        };
        let is_read = request.answer(&bytes[within]);
        let mut table = self.table();
        if is_read {
            table.remove(ino, room);
        }
        table.keep_room(bytes);
        None
    }

    /// From now on who asks for these files waits until they are ready, or until this goes. What is here already stays as
    /// it is, and is not among those that are returned.
    pub(crate) fn begin(&self, mut wanted: Vec<Wanted>, room: usize) -> Making {
        let mut table = self.table();
        wanted.retain(|file| {
            match table.files.get(&file.ino).map(|known| (known.place == file.place, &known.stand)) {
                Some((true, _) | (_, Stand::Coming(_))) => return false,
                Some((false, Stand::There(room, ..))) => {
                    let room = *room;
                    table.remove(file.ino, room);
                }
                None => {}
            }
            let stand = Stand::Coming(Vec::new());
            table.files.insert(file.ino, Entry { place: file.place, stand });
            true
        });
        let mut bytes = table.spare.pop().unwrap_or_default();
        bytes.resize(room, 0);
        Making { ready: self.clone(), wanted, bytes }
    }
}

/// Files that are being made ready. Whoever waits for one of them gets an error if this goes before its time.
pub(crate) struct Making {
    ready: Ready,
    pub(crate) wanted: Vec<Wanted>,
    /// Where their bytes are put.
    pub(crate) bytes: Vec<u8>,
}

impl Making {
    /// They are ready, as far as `is_whole` says so; answers who waits for them. Of the others it gives who has to be
    /// answered otherwise.
    pub(crate) fn done(mut self, is_whole: impl Fn(usize) -> bool) -> Vec<(u64, Request)> {
        let (wanted, bytes) = (std::mem::take(&mut self.wanted), Arc::new(std::mem::take(&mut self.bytes)));
        let (mut served, mut left) = (Vec::new(), Vec::new());
        let mut table = self.ready.table();
        table.last_room += 1;
        let room = table.last_room;
        let mut files = Vec::with_capacity(wanted.len());
        for (number, file) in wanted.into_iter().enumerate() {
            let Some(Entry { stand: Stand::Coming(waiting), .. }) = table.files.remove(&file.ino) else {
                continue;
            };
            if !is_whole(number) {
                left.extend(waiting.into_iter().map(|request| (file.ino, request)));
                continue;
            }
            let stand = Stand::There(room, Arc::clone(&bytes), file.within.clone());
            table.files.insert(file.ino, Entry { place: file.place, stand });
            files.push(file.ino);
            served.push((file.ino, file.within, waiting));
        }
        if !files.is_empty() {
            table.rooms.insert(room, (bytes.len(), files));
            table.bytes += bytes.len();
        }
        while table.bytes > READY && table.rooms.len() > 1 {
            let Some((room, (length, files))) = table.rooms.pop_first() else { break };
            table.bytes -= length;
            files.into_iter().for_each(|file| table.remove(file, room));
        }
        drop(table);
        let mut read = Vec::new();
        for (ino, within, waiting) in served {
            for request in waiting {
                if request.answer(&bytes[within.clone()]) {
                    read.push(ino);
                }
            }
        }
        let mut table = self.ready.table();
        read.into_iter().for_each(|ino| table.remove(ino, room));
        table.keep_room(bytes);
        left
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let mut table = self.ready.table();
        for file in &self.wanted {
            table.files.remove(&file.ino);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(ino: u64, folder: u64, bytes: usize) -> Vec<Wanted> {
        vec![Wanted { ino, place: Place { folder, index: 0 }, within: 0..bytes, chunks: 0..1 }]
    }

    fn is_there(ready: &Ready, ino: u64, folder: u64) -> bool {
        let mut table = ready.table();
        let entry = table.at(ino, Place { folder, index: 0 });
        entry.is_some_and(|entry| matches!(entry.stand, Stand::There(..)))
    }

    #[test]
    fn a_file_is_there_under_its_place_only_and_another_one_takes_its_number() {
        let ready = Ready::default();
        ready.begin(wanted(5, 1, 10), 10).done(|_| true);
        assert!(is_there(&ready, 5, 1) && !is_there(&ready, 5, 2));
        assert!(ready.begin(wanted(5, 1, 10), 10).wanted.is_empty(), "it is there already");
        ready.begin(wanted(5, 2, 10), 10).done(|_| true);
        assert!(!is_there(&ready, 5, 1) && is_there(&ready, 5, 2));
        let table = ready.table();
        assert_eq!((table.rooms.len(), table.bytes), (1, 10));
    }

    #[test]
    fn as_much_is_ready_as_it_says() {
        let ready = Ready::default();
        for ino in 0..100 {
            ready.begin(wanted(ino, 1, 1 << 20), 1 << 20).done(|_| true);
        }
        assert_eq!(ready.table().files.len(), READY >> 20);
        assert_eq!(ready.table().bytes, READY);
        assert!(is_there(&ready, 99, 1) && !is_there(&ready, 0, 1));
        let (room, last) =
            ready.table().rooms.iter().next().map(|(room, (_, files))| (*room, files[0])).unwrap();
        ready.table().remove(last, room + 1);
        assert!(is_there(&ready, last, 1), "it lies in another room now");
        ready.table().remove(last, room);
        assert!(!is_there(&ready, last, 1));
        assert_eq!(ready.table().bytes, READY - (1 << 20));
        assert!(ready.table().spare.len() <= SPARE_ROOMS);
    }

    #[test]
    fn what_was_begun_with_and_came_to_nothing_is_not_there() {
        let ready = Ready::default();
        drop(ready.begin(wanted(5, 1, 10), 10));
        assert!(ready.begin(wanted(6, 1, 10), 10).done(|_| false).is_empty());
        let table = ready.table();
        assert!(table.files.is_empty() && table.rooms.is_empty());
    }
}
