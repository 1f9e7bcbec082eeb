//! Reads one wanted file: chunks and hashes it, announces it piece by piece, and says what came of it. For a box that has
//! nothing yet it is cut and sent at once.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;

use mailkeep_format::cut::{self, CutStyle, Cutter};
use mailkeep_format::{ContentHash, Node, NodeKind, limits as format_limits};
use mailkeep_link::SharedBytes;
use mailkeep_link::message::{Chunks, Data, FileId, ReadOutcome, ToBox};
use mailkeep_link::pace::Pace;
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;

use super::ledger::{Aborted, Announced, Job, Ledger, Place};
use crate::dir::{self, Directory, XattrTrouble};
use crate::limits;
use crate::meta::{self, Facts};
use crate::stage::{Section, Stage, Staged};

/// Where announcements go.
pub(crate) trait Say {
    /// Sends, or tells that the pass is over.
    fn say(&self, message: ToBox) -> Result<(), Aborted>;

    /// What was said crosses the link now: nothing follows before the box has answered.
    fn flush(&self);
}

/// Reads a file, no faster than `pace`, and announces its chunks, or sends them if they go `unasked`; the caller reports the
/// outcome.
pub(crate) fn read(
    job: &Job,
    ledger: &Ledger,
    pace: Option<&Pace>,
    unasked: bool,
    say: &dyn Say,
) -> Result<ReadOutcome, Aborted> {
    let way = Way { ledger, pace, unasked, say };
    match (&job.place, &job.then) {
        (Place::Now(directory), _) => read_now(job, directory, None, &way),
        (Place::Then { stage, folder }, Some(then)) => match &then.staged {
            Some(staged) => read_staged(job, stage, &then.node, staged, &way),
            // It was not kept because it was not expected to be wanted: it has to be as it was.
            None => match Directory::open_exactly(folder) {
                Ok(directory) => read_now(job, &directory, Some(&then.node), &way),
                Err(_) => Ok(ReadOutcome::Vanished),
            },
        },
        (Place::Then { .. }, None) => Ok(ReadOutcome::Vanished),
    }
}

/// What a file that is read has to mind.
struct Way<'a> {
    ledger: &'a Ledger,
    pace: Option<&'a Pace>,
    unasked: bool,
    say: &'a dyn Say,
}

/// Reads what is kept of a file.
fn read_staged(
    job: &Job,
    stage: &Stage,
    node: &Node,
    staged: &Staged,
    way: &Way<'_>,
) -> Result<ReadOutcome, Aborted> {
    let Some((mut contents, held)) = stage.contents(staged.kept, node.size()) else {
        return Ok(ReadOutcome::Failed { why: "what was kept of it is gone".into() });
    };
    let count = match announce(job, &mut Contents::Staged(&mut contents), node.size(), way) {
        Ok(count) => count,
        Err(Trouble::Aborted) => return Err(Aborted),
        Err(Trouble::Io(error)) => {
            return Ok(ReadOutcome::Failed { why: format!("cannot read what was kept of it: {error}") });
        }
    };
    // A write-once file that is held may have lost its name since, which moves its ctime, and nothing else.
    let still = held.is_none_or(|file| {
        fstat(&file).is_ok_and(|stat| {
            let now = Facts::of(&stat);
            now.size == node.size() && now.mtime == node.meta.mtime
        })
    });
    let mut node = node.clone();
    node.meta.xattrs = staged.xattrs.clone();
    let steady = staged.steady && still && count == node.size();
    if let NodeKind::File { size, .. } = &mut node.kind {
        *size = count;
    }
    Ok(ReadOutcome::Read { node, steady })
}

/// Reads a file as it is; it is steady only if it was listed as `listed`, where that is told.
fn read_now(
    job: &Job,
    directory: &Directory,
    listed: Option<&Node>,
    way: &Way<'_>,
) -> Result<ReadOutcome, Aborted> {
    let opened = directory.open_file(&job.name);
    let file = match opened {
        Ok(file) => file,
        // Gone, or something else by now: a link, a socket, a device without a driver.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::NOTDIR) => {
            return Ok(ReadOutcome::Vanished);
        }
        Err(error) => return Ok(failed("cannot open it", error)),
    };
    let before = match directory.stat_file(&file) {
        Ok(stat) => stat,
        Err(error) => return Ok(failed("cannot stat it", error)),
    };
    if meta::file_type(&before) != FileType::RegularFile {
        return Ok(ReadOutcome::Vanished);
    }
    let size = Facts::of(&before).size;
    match announce(job, &mut Contents::Now(&file), size, way) {
        Ok(count) => {
            let mut outcome = outcome(job, directory, &file, &before, count);
            if let (ReadOutcome::Read { steady, .. }, Some(listed)) = (&mut outcome, listed) {
                *steady &= Facts::of(&before).is_of(listed);
            }
            Ok(outcome)
        }
        Err(Trouble::Aborted) => Err(Aborted),
        Err(Trouble::Io(error)) => Ok(ReadOutcome::Failed { why: format!("cannot read it: {error}") }),
    }
}

/// What is read from its beginning to its end.
enum Contents<'a> {
    /// A file as it is.
    Now(&'a File),
    /// What is kept of one.
    Staged(&'a mut Section),
}

impl Contents<'_> {
    /// Appends up to `count` bytes; fewer only at the end of the file.
    fn fill(&mut self, bytes: &mut Vec<u8>, count: usize) -> io::Result<()> {
        let read = match self {
            Contents::Now(file) => file.take(count as u64).read_to_end(bytes),
            Contents::Staged(section) => section.take(count as u64).read_to_end(bytes),
        };
        read.map(|_| ())
    }

    /// All, but no more than `count` bytes; fewer only at the end of the file. With one call of the system for a file that
    /// is as long as it was said to be: nobody asks how much there is, nor whether something follows.
    fn all(&mut self, bytes: &mut Vec<u8>, count: usize) -> io::Result<()> {
        bytes.reserve_exact(count);
        let Contents::Now(file) = self else { return self.fill(bytes, count) };
        while bytes.len() < count {
            match rustix::io::read(file.as_fd(), spare_capacity(bytes)) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(count);
        Ok(())
    }
}

/// Announces the contents of a file of this size; returns how many bytes there were.
fn announce(job: &Job, contents: &mut Contents<'_>, size: u64, way: &Way<'_>) -> Result<u64, Trouble> {
    let Way { ledger, pace, unasked, say } = *way;
    let mut announcer = Announcer { file: job.file, first: 0, ledger, pace, unasked, say };
    if size <= format_limits::WHOLE_FILE_MAX as u64 {
        announcer.whole(contents, size as usize, job.style)
    } else {
        announcer.stream(contents, size, job.style)
    }
}

fn failed(what: &str, error: Errno) -> ReadOutcome {
    ReadOutcome::Failed { why: format!("{what}: {}", io::Error::from(error)) }
}

fn outcome(job: &Job, directory: &Directory, file: &File, before: &Stat, count: u64) -> ReadOutcome {
    let xattrs = match dir::xattrs_of_file(file) {
        Ok(xattrs) => xattrs,
        Err(XattrTrouble::TooLarge) => {
            return ReadOutcome::Failed { why: "its extended attributes are too large to be kept".into() };
        }
        Err(XattrTrouble::Failed(error)) => return failed("cannot read its extended attributes", error),
    };
    let after = match directory.stat_file(file) {
        Ok(stat) => stat,
        Err(error) => return failed("cannot stat it", error),
    };
    let steady = Facts::of(before) == Facts::of(&after) && Facts::of(before).size == count;
    // From before the read: if it moved, its times say so at the next pass.
    let node = Node {
        name: job.name.clone(),
        meta: meta::meta_of(before, xattrs),
        kind: meta::file_kind(before, count),
    };
    ReadOutcome::Read { node, steady }
}

enum Trouble {
    Aborted,
    Io(io::Error),
}

impl From<Aborted> for Trouble {
    fn from(_: Aborted) -> Self {
        Trouble::Aborted
    }
}

struct Announcer<'a> {
    file: FileId,
    first: u32,
    ledger: &'a Ledger,
    pace: Option<&'a Pace>,
    unasked: bool,
    say: &'a dyn Say,
}

impl Announcer<'_> {
    /// Waits until so much more may be read.
    fn may_read(&self, bytes: usize) -> Result<(), Aborted> {
        let Some(pace) = self.pace else { return Ok(()) };
        pace.spend(bytes, &|| self.ledger.is_aborted());
        if self.ledger.is_aborted() { Err(Aborted) } else { Ok(()) }
    }

    /// Waits until so many more bytes may be held.
    fn hold(&self, bytes: usize) -> Result<(), Aborted> {
        if self.ledger.try_hold_bytes(bytes) {
            return Ok(());
        }
        self.say.flush();
        self.ledger.hold_bytes(bytes)
    }

    /// A file that is read at one go.
    fn whole(&mut self, file: &mut Contents<'_>, size: usize, style: CutStyle) -> Result<u64, Trouble> {
        if size == 0 {
            return Ok(0);
        }
        self.may_read(size)?;
        self.hold(size)?;
        let mut bytes = Vec::new();
        let read = file.all(&mut bytes, size);
        self.ledger.release_bytes(size - bytes.len());
        if let Err(error) = read {
            self.ledger.release_bytes(bytes.len());
            return Err(Trouble::Io(error));
        }
        let count = bytes.len() as u64;
        let lengths = cut::cut(style, &bytes);
        self.announce(bytes, &lengths)?;
        Ok(count)
    }

    /// A large file, a step at a time. Never more than its size at the start: a log that grows while it is read ends.
    fn stream(&mut self, file: &mut Contents<'_>, size: u64, style: CutStyle) -> Result<u64, Trouble> {
        let mut cutter = Cutter::new(style);
        let mut left = size;
        let mut count = 0;
        let mut ahead: Vec<u8> = Vec::new();
        loop {
            let step = limits::STREAM_STEP.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.may_read(step)?;
            self.hold(step)?;
            let had = ahead.len();
            let read = file.fill(&mut ahead, step);
            let got = ahead.len() - had;
            self.ledger.release_bytes(step - got);
            read.map_err(Trouble::Io)?;
            left -= got as u64;
            count += got as u64;
            let at_end = left == 0 || got < step;
            let mut lengths = Vec::new();
            let mut from = 0;
            while let Some(length) = cutter.next_cut(&ahead[from..], at_end) {
                lengths.push(length);
                from += length;
            }
            let rest = ahead.split_off(from);
            self.announce(std::mem::replace(&mut ahead, rest), &lengths)?;
            if at_end {
                return Ok(count);
            }
        }
    }

    fn announce(&mut self, bytes: Vec<u8>, lengths: &[usize]) -> Result<(), Trouble> {
        let bytes = Arc::new(bytes);
        if self.unasked {
            return Ok(self.send(&bytes, lengths)?);
        }
        let mut from = 0;
        for lengths in lengths.chunks(mailkeep_link::limits::CHUNKS_PIECE) {
            let mut ranges = Vec::with_capacity(lengths.len());
            let mut chunks = Vec::with_capacity(lengths.len());
            for length in lengths {
                let range = from..from + length;
                chunks.push((ContentHash::of(&bytes[range.clone()]), *length as u32));
                from = range.end;
                ranges.push(range);
            }
            let announced = Announced { first: self.first, bytes: Arc::clone(&bytes), chunks: ranges };
            self.ledger.announce_chunks(self.file, announced);
            self.say.say(ToBox::Chunks(Chunks { file: self.file, first: self.first, chunks }))?;
            self.first += lengths.len() as u32;
        }
        Ok(())
    }

    /// Sends chunks that nobody has asked for.
    fn send(&mut self, bytes: &Arc<Vec<u8>>, lengths: &[usize]) -> Result<(), Aborted> {
        let mut from = 0;
        for length in lengths {
            let part = SharedBytes::part_of(bytes, from..from + length);
            self.say.say(ToBox::Data(Data { file: self.file, chunk: self.first, bytes: part }))?;
            from += length;
            self.first += 1;
        }
        self.ledger.sent(from);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use mailkeep_link::message::DirectoryId;

    use super::*;

    #[derive(Default)]
    struct Listener {
        flushed: Cell<usize>,
        heard: RefCell<Vec<ToBox>>,
    }

    impl Say for Listener {
        fn say(&self, message: ToBox) -> Result<(), Aborted> {
            self.heard.borrow_mut().push(message);
            Ok(())
        }

        fn flush(&self) {
            self.flushed.set(self.flushed.get() + 1);
        }
    }

    fn whole(ledger: &Ledger, say: &dyn Say, file: &File, size: usize) -> Result<u64, Trouble> {
        let file_id = FileId { directory: DirectoryId(1), index: 0 };
        let mut announcer = Announcer { file: file_id, first: 0, ledger, pace: None, unasked: false, say };
        announcer.whole(&mut Contents::Now(file), size, CutStyle::Plain)
    }

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        file
    }

    #[test]
    fn who_has_to_wait_for_the_box_lets_it_know_first() {
        let (ledger, listener) = (Ledger::new(16), Listener::default());
        assert!(whole(&ledger, &listener, &file_of(b"some"), 4).is_ok());
        assert_eq!(listener.flushed.get(), 0);
        ledger.hold_bytes(limits::BYTES_AHEAD - 4).unwrap();
        // Called off, so that it need not really wait.
        ledger.abort();
        let waited = whole(&ledger, &listener, &file_of(b"more!"), 5);
        assert!(matches!(waited, Err(Trouble::Aborted)));
        assert_eq!(listener.flushed.get(), 1);
    }

    #[test]
    fn who_is_not_to_ask_sends_each_chunk_once_in_order_and_holds_nothing_back() {
        // Whole, and as it streams by.
        for size in [300_000, format_limits::WHOLE_FILE_MAX + 3_000_000] {
            // Steps of Knuth's generator, whose high bits look random.
            let step = |state: &mut u64| {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                Some((*state >> 56) as u8)
            };
            let bytes: Vec<u8> = std::iter::repeat_n((), size).scan(5, |state, ()| step(state)).collect();
            let (ledger, listener) = (Ledger::new(16), Listener::default());
            let file = FileId { directory: DirectoryId(1), index: 7 };
            let mut announcer =
                Announcer { file, first: 0, ledger: &ledger, pace: None, unasked: true, say: &listener };
            let source = file_of(&bytes);
            let mut contents = Contents::Now(&source);
            let read = if size > format_limits::WHOLE_FILE_MAX {
                announcer.stream(&mut contents, size as u64, CutStyle::Plain)
            } else {
                announcer.whole(&mut contents, size, CutStyle::Plain)
            };
            assert_eq!(read.ok(), Some(size as u64));
            let mut got = Vec::new();
            for (number, message) in (0..).zip(listener.heard.take()) {
                let ToBox::Data(data) = message else { panic!("{message:?}") };
                assert_eq!((data.file, data.chunk), (file, number));
                got.push(data.bytes.to_vec());
            }
            assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), cut::cut(CutStyle::Plain, &bytes));
            assert!(got.concat() == bytes);
            // All of the room is free again.
            assert!(ledger.try_hold_bytes(limits::BYTES_AHEAD));
            assert!(!ledger.try_hold_bytes(1));
        }
    }

    #[test]
    fn a_file_that_grew_or_shrank_is_read_as_far_as_it_was_said_to_go() {
        let (ledger, listener) = (Ledger::new(16), Listener::default());
        let read = |bytes: &[u8], size| whole(&ledger, &listener, &file_of(bytes), size).ok();
        assert_eq!(read(b"as it was", 9), Some(9));
        assert_eq!(read(b"as it was and more", 9), Some(9));
        assert_eq!(read(b"as", 9), Some(2));
        assert_eq!(read(b"", 9), Some(0));
        assert_eq!(read(b"more", 0), Some(0));
    }
}
