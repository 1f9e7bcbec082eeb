//! Finds messages in one snapshot or over many, and tells for each which snapshots have it.
//!
//! Mailboxes are gone through one after the other, each over all snapshots at once: its folder's versions are streams in
//! one order, so a message that many snapshots have is looked at once, and a folder that did not change counts once.
//! What IMAP does not show any more counts as gone, also where its file is still there: each version's index says so.
//! Where the newest version's cyrus.cache can be believed (same generation as the index, the CRC of the record, the size
//! of the file) it says who wrote what; of all others the header is read, which is a chunk of its own. Those chunks are
//! gathered over many mailboxes and read block by block, each block once for a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mailkeep_mail::cyrus::cache;
use mailkeep_repository::Scratch;
use mailkeep_restorer::format::{ChunkRef, Node};
use mailkeep_restorer::path::{join, show};
use mailkeep_restorer::{Nodes, RestoreError};

use crate::merge::Merge;
use crate::mime::header_end;
use crate::tree::told;
use crate::{Files, Head, MailTree, MailViewError, Query, limits};

/// A message that fits.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Its mailbox' name as shown, in the newest snapshot that has it.
    pub mailbox: String,
    /// The folder that its file lies in on the server; unlike the name that is the same in all snapshots.
    pub folder: Vec<u8>,
    /// Its UID.
    pub uid: u32,
    /// What its header says.
    pub head: Head,
    /// INTERNALDATE, seconds since 1970.
    pub internal_date: i64,
    /// Bytes.
    pub size: u64,
    /// The snapshots that have it, by their places in the list that was searched; ascending, at least one.
    pub snapshots: Vec<usize>,
    /// The snapshots of the same source that were searched; ascending.
    pub searched: Vec<usize>,
}

impl Hit {
    /// The newest snapshot that has it, and the next one, which has it no more.
    pub fn vanished(&self) -> Option<(usize, usize)> {
        let last = *self.snapshots.last()?;
        let next = self.searched.iter().copied().find(|snapshot| *snapshot > last)?;
        Some((last, next))
    }
}

/// A snapshot to be searched.
pub struct Searched {
    /// Its files.
    pub files: Files,
    /// The source that it is of: snapshots of one source are states of the same mailboxes.
    pub source: String,
    /// Only these mailboxes, by their names as shown; `None` for all.
    pub mailboxes: Option<BTreeSet<String>>,
}

/// How far a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Going {
    /// The mailboxes of this many snapshots are known, of so many.
    Mailboxes {
        /// Snapshots that are known.
        done: u64,
        /// All of them.
        total: u64,
    },
    /// This many messages were looked at; `done` of `total` is by the lengths of their indexes.
    Messages {
        /// Messages that were looked at.
        messages: u64,
        /// Of the indexes' bytes, those that are behind it.
        done: u64,
        /// All of them.
        total: u64,
    },
}

/// Hands every message that fits to `each`, to `problem` what could not be looked at (with whether it is damage), and to
/// `going` how far it is. Gives
/// the snapshots of each source that were searched, ascending: what is not among them says nothing about what has vanished.
///
/// # Errors
/// Whatever `each` says.
pub fn search<E: From<MailViewError>>(
    snapshots: &[Searched],
    query: &Query,
    problem: &mut dyn FnMut(&str, bool),
    going: &mut dyn FnMut(Going),
    each: &mut dyn FnMut(Hit) -> Result<(), E>,
) -> Result<BTreeMap<String, Vec<usize>>, E> {
    let (seats, of_source) = seats(snapshots, problem, going);
    let mut work = Work {
        snapshots,
        query,
        of_source: &of_source,
        batch: Vec::new(),
        scratch: Scratch::default(),
        problem,
        going,
        messages: 0,
        part: (0, seats.values().map(Seat::weight).sum()),
        each,
    };
    for ((source, path), seat) in &seats {
        work.seat(source, path, seat)?;
        work.part.0 += seat.weight();
        work.tell();
    }
    work.flush()?;
    Ok(of_source)
}

/// A folder of messages over all snapshots.
struct Seat {
    /// Its mailbox, as shown in the newest snapshot that has it.
    mailbox: String,
    /// Where the index of the newest version is.
    index: Option<(usize, Arc<crate::Mailbox>)>,
    /// What it held, each content once.
    versions: Vec<Version>,
}

impl Seat {
    /// How much there is to look at: the bytes of its indexes, which grow with the messages.
    fn weight(&self) -> u64 {
        let bytes =
            |version: &Version| version.index.iter().map(|chunk| u64::from(chunk.length)).sum::<u64>();
        1 + self.versions.iter().map(bytes).sum::<u64>()
    }
}

struct Version {
    node: Node,
    /// The chunks of its index, which may lie in another folder.
    index: Vec<ChunkRef>,
    mailbox: Arc<crate::Mailbox>,
    snapshots: Vec<usize>,
}

type Seats = BTreeMap<(String, Vec<u8>), Seat>;

/// Which folders hold messages, and when. Also the snapshots of each source.
fn seats(
    snapshots: &[Searched],
    problem: &mut dyn FnMut(&str, bool),
    going: &mut dyn FnMut(Going),
) -> (Seats, BTreeMap<String, Vec<usize>>) {
    let mut seats = Seats::new();
    let mut of_source: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (number, snapshot) in snapshots.iter().enumerate() {
        going(Going::Mailboxes { done: number as u64, total: snapshots.len() as u64 });
        let tree = match MailTree::of(&snapshot.files) {
            Ok(tree) => tree,
            Err(error) => {
                // What cannot be looked at says nothing about what has vanished.
                problem(&told(&error), is_damage(&error));
                continue;
            }
        };
        tree.problems().iter().for_each(|what| problem(what, true));
        of_source.entry(snapshot.source.clone()).or_default().push(number);
        let is_meant =
            |name: &str| snapshot.mailboxes.as_ref().is_none_or(|mailboxes| mailboxes.contains(name));
        let meant = |mailbox: &&crate::Mailbox| mailbox.is_mail && is_meant(&mailbox.shown);
        for mailbox in tree.mailboxes().iter().filter(meant) {
            let mailbox = Arc::new(mailbox.clone());
            for (place, path) in mailbox.folders.iter().enumerate() {
                if let Err(error) = add(&mut seats, number, snapshot, &mailbox, place, path) {
                    let error = error.into();
                    problem(&told(&error), is_damage(&error));
                }
            }
        }
    }
    (seats, of_source)
}

/// Adds what a snapshot has in one folder of a mailbox.
fn add(
    seats: &mut Seats,
    number: usize,
    snapshot: &Searched,
    mailbox: &Arc<crate::Mailbox>,
    place: usize,
    path: &[u8],
) -> Result<(), RestoreError> {
    let Some(node) = snapshot.files.find(path)?.filter(Node::is_directory) else { return Ok(()) };
    let index = snapshot.files.find(&join(&mailbox.index_folder, b"cyrus.index"))?;
    let index = index.map(|node| node.content().to_vec()).unwrap_or_default();
    let seat = seats.entry((snapshot.source.clone(), path.to_vec()));
    let seat = seat.or_insert_with(|| Seat { mailbox: String::new(), index: None, versions: Vec::new() });
    seat.mailbox.clone_from(&mailbox.shown);
    seat.index = (place == 0).then(|| (number, Arc::clone(mailbox)));
    let same = |version: &&mut Version| version.node.content() == node.content() && version.index == index;
    match seat.versions.iter_mut().find(same) {
        Some(version) => version.snapshots.push(number),
        None => {
            let (mailbox, snapshots) = (Arc::clone(mailbox), vec![number]);
            seat.versions.push(Version { node, index, mailbox, snapshots });
        }
    }
    Ok(())
}

fn is_damage(error: &MailViewError) -> bool {
    matches!(error, MailViewError::Snapshot(error) if error.contents().is_some_and(|why| why.is_damage()))
}

/// A message whose header is to be read.
struct Wanted {
    hit: Hit,
    path: Vec<u8>,
    node: Node,
}

struct Work<'a, E> {
    snapshots: &'a [Searched],
    query: &'a Query,
    of_source: &'a BTreeMap<String, Vec<usize>>,
    batch: Vec<Wanted>,
    scratch: Scratch,
    problem: &'a mut dyn FnMut(&str, bool),
    going: &'a mut dyn FnMut(Going),
    messages: u64,
    /// Of the indexes' bytes, those that are behind it.
    part: (u64, u64),
    each: &'a mut dyn FnMut(Hit) -> Result<(), E>,
}

impl<E: From<MailViewError>> Work<'_, E> {
    fn tell(&mut self) {
        (self.going)(Going::Messages { messages: self.messages, done: self.part.0, total: self.part.1 });
    }

    fn seat(&mut self, source: &str, path: &[u8], seat: &Seat) -> Result<(), E> {
        let Some(first) = self.snapshots.first() else { return Ok(()) };
        let known = match self.judged_by_cache(seat) {
            Ok(known) => known,
            Err(error) => {
                self.trouble(&error.into());
                Judged::default()
            }
        };
        let gone: Vec<Vec<u32>> = seat.versions.iter().map(|version| self.gone(version)).collect();
        let streams: Result<Vec<Nodes<'_>>, RestoreError> =
            seat.versions.iter().map(|version| first.files.view().nodes(path, &version.node)).collect();
        let mut merge = Merge::new(streams.map_err(MailViewError::from)?);
        let searched = self.of_source.get(source).cloned().unwrap_or_default();
        while let Some(found) = merge.next() {
            let (uid, mut nodes) = match found {
                Ok(found) => found,
                Err((_, source)) => {
                    self.trouble(&RestoreError::Unreadable { path: show(path), source }.into());
                    continue;
                }
            };
            self.messages += 1;
            if self.messages % limits::MESSAGES_BETWEEN_WORDS == 0 {
                self.tell();
            }
            nodes
                .retain(|(number, _)| gone.get(*number).is_none_or(|gone| gone.binary_search(&uid).is_err()));
            // The same name may stand for another message after the mailbox was made anew.
            while let Some((_, node)) = nodes.first() {
                let content = node.content().to_vec();
                let (same, others): (Vec<_>, Vec<_>) =
                    nodes.into_iter().partition(|(_, node)| node.content() == content);
                nodes = others;
                let mut holders: Vec<usize> = same
                    .iter()
                    .flat_map(|(number, _)| seat.versions[*number].snapshots.iter().copied())
                    .collect();
                holders.sort_unstable();
                let Some((_, node)) = same.into_iter().next() else { continue };
                let date = node.meta.mtime.seconds;
                let is_newest = seat.index.as_ref().is_some_and(|(newest, _)| holders.last() == Some(newest));
                if !self.query.fits_date(date) || (is_newest && known.says_no(uid, node.size())) {
                    continue;
                }
                let hit = Hit {
                    mailbox: seat.mailbox.clone(),
                    folder: path.to_vec(),
                    uid,
                    head: Head::default(),
                    internal_date: date,
                    size: node.size(),
                    snapshots: holders,
                    searched: searched.clone(),
                };
                self.batch.push(Wanted { hit, path: join(path, &node.name), node });
                if self.batch.len() >= limits::BATCH {
                    self.flush()?;
                }
            }
        }
        Ok(())
    }

    /// Messages whose files are there although IMAP does not show them any more; ascending.
    fn gone(&mut self, version: &Version) -> Vec<u32> {
        let mut gone = Vec::new();
        let Some(snapshot) = version.snapshots.first().and_then(|number| self.snapshots.get(*number)) else {
            return gone;
        };
        let read = version.mailbox.index(&snapshot.files, &mut |record| {
            if record.flags.is_expunged() {
                gone.push(record.uid);
            }
        });
        match read {
            Ok(Ok(_)) => gone.sort_unstable(),
            // Without an index every file is a message.
            Ok(Err(_)) => gone.clear(),
            Err(error) => {
                gone.clear();
                self.trouble(&error.into());
            }
        }
        gone
    }

    /// Looks at what the newest version's cyrus.cache says.
    fn judged_by_cache(&self, seat: &Seat) -> Result<Judged, RestoreError> {
        let mut judged = Judged::default();
        let Some((number, mailbox)) = &seat.index else { return Ok(judged) };
        if !self.query.asks_for_header() {
            return Ok(judged);
        }
        let Some(snapshot) = self.snapshots.get(*number) else { return Ok(judged) };
        let path = join(&mailbox.index_folder, b"cyrus.cache");
        let Some(node) = snapshot.files.find(&path)?.filter(Node::is_file) else { return Ok(judged) };
        let mut places: Vec<Place> = Vec::new();
        let read = mailbox.index(&snapshot.files, &mut |record| {
            // The archive's own cache is not looked at.
            if let Some(place) = record.cached.filter(|_| !record.flags.is_archived()) {
                places.push(Place {
                    offset: place.offset,
                    crc: place.crc,
                    uid: record.uid,
                    size: record.size,
                });
            }
        })?;
        let Ok(header) = read else { return Ok(judged) };
        places.sort_unstable_by_key(|place| place.offset);
        let mut held: Vec<u8> = Vec::new();
        // Where `held` begins in the file.
        let mut start = 0u64;
        let mut places = places.into_iter().peekable();
        let mut is_first = true;
        snapshot.files.pieces(&path, &node, &mut |piece| {
            held.extend_from_slice(piece);
            if is_first {
                is_first = false;
                let generation = held.first_chunk::<4>().map(|word| u32::from_be_bytes(*word));
                if generation != Some(header.generation) {
                    return false;
                }
            }
            while let Some(place) = places.peek() {
                let Some(at) =
                    u64::from(place.offset).checked_sub(start).and_then(|at| usize::try_from(at).ok())
                else {
                    // A record that reaches into this one: not to be believed.
                    places.next();
                    continue;
                };
                if at > held.len() {
                    start += held.len() as u64;
                    held.clear();
                    break;
                }
                held.drain(..at);
                start += at as u64;
                match cache::record_length(&held) {
                    Ok(None) => break,
                    Ok(Some(length)) => {
                        let record = &held[..length];
                        if crc32fast::hash(record) == place.crc {
                            if let Some(fits) = self.judge(record) {
                                judged.all.push((place.uid, place.size, fits));
                            }
                        }
                        held.drain(..length);
                        start += length as u64;
                        places.next();
                    }
                    Err(_) => drop(places.next()),
                }
            }
            places.peek().is_some()
        })?;
        judged.all.sort_unstable();
        Ok(judged)
    }

    /// Whether a cached envelope fits; `None` if it does not say.
    fn judge(&self, record: &[u8]) -> Option<bool> {
        let envelope = cache::envelope(record).ok().filter(|envelope| !envelope.unsure)?;
        Some(self.query.fits_head(&Head::of_envelope(&envelope)))
    }

    /// Reads the headers that were gathered, block by block, and hands out what fits, in the order it was found.
    fn flush(&mut self) -> Result<(), E> {
        let batch = std::mem::take(&mut self.batch);
        let Some(first) = self.snapshots.first() else { return Ok(()) };
        let contents = first.files.view().contents();
        let (mut chunks, mut owners) = (Vec::<ChunkRef>::new(), Vec::new());
        for (number, wanted) in batch.iter().enumerate() {
            if let Some(chunk) = wanted.node.content().first() {
                chunks.push(*chunk);
                owners.push(number);
            }
        }
        let mut heads: Vec<Option<Head>> = Vec::new();
        heads.resize_with(batch.len(), || None);
        let mut alone = Vec::new();
        for group in contents.gather(&chunks) {
            contents.read(&group, &chunks, &mut self.scratch, &mut |pieces| {
                for (index, bytes) in pieces {
                    let Some(owner) = owners.get(*index as usize) else { continue };
                    match bytes {
                        // A header longer than its chunk is read on.
                        Some(bytes) if is_whole(bytes, &batch[*owner].node) => {
                            heads[*owner] = Some(Head::of(bytes))
                        }
                        _ => alone.push(*owner),
                    }
                }
            });
        }
        for owner in alone {
            let wanted = &batch[owner];
            let mut bytes = Vec::new();
            let read = first.files.pieces(&wanted.path, &wanted.node, &mut |piece| {
                bytes.extend_from_slice(piece);
                bytes.len() < limits::HEADER_BYTES && header_end(&bytes).is_none()
            });
            match read {
                Ok(()) => heads[owner] = Some(Head::of(&bytes)),
                Err(error) => self.trouble(&error.into()),
            }
        }
        for (wanted, head) in batch.into_iter().zip(heads) {
            let Some(head) = head else { continue };
            if !self.query.fits_head(&head) || !self.fits_text(&wanted) {
                continue;
            }
            (self.each)(Hit { head, ..wanted.hit })?;
        }
        Ok(())
    }

    fn fits_text(&mut self, wanted: &Wanted) -> bool {
        if !self.query.asks_for_text() {
            return true;
        }
        let Some(first) = self.snapshots.first() else { return false };
        let mut bytes = Vec::new();
        let read = first.files.pieces(&wanted.path, &wanted.node, &mut |piece| {
            bytes.extend_from_slice(piece);
            bytes.len() < limits::TEXT_BYTES
        });
        if let Err(error) = read {
            self.trouble(&error.into());
            return false;
        }
        self.query.fits_text(&bytes)
    }

    fn trouble(&mut self, error: &MailViewError) {
        (self.problem)(&told(error), is_damage(error));
    }
}

/// Where a message's record lies in cyrus.cache.
struct Place {
    offset: u32,
    crc: u32,
    uid: u32,
    size: u64,
}

/// What cyrus.cache said of messages: UID, size, whether it fits. Ascending.
#[derive(Default)]
struct Judged {
    all: Vec<(u32, u64, bool)>,
}

impl Judged {
    /// Whether it is known that this message does not fit. One that fits is looked at all the same.
    fn says_no(&self, uid: u32, size: u64) -> bool {
        self.all.binary_search(&(uid, size, false)).is_ok()
    }
}

/// Whether the first chunk of a message holds all of its header.
fn is_whole(first: &[u8], node: &Node) -> bool {
    node.content().len() == 1 || header_end(first).is_some()
}
