//! What is under way in a pass, and the bounds on it. All threads of a pass meet here and nowhere else.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mailkeep_format::Node;
use mailkeep_format::cut::CutStyle;
use mailkeep_link::message::{DirectoryId, FileId, Hint, ReadOutcome};

use crate::dir::Directory;
use crate::error::AgentError;
use crate::limits;
use crate::stage::{Stage, Staged};

/// A regular file that may be asked for.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) index: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) style: CutStyle,
    /// In a recorded pass: what it was, and what is kept of it.
    pub(crate) then: Option<Box<Then>>,
}

impl Candidate {
    pub(crate) fn new(index: u32, node: &Node, hint: Hint, then: Option<Box<Then>>) -> Candidate {
        let style = if hint == Hint::Message { CutStyle::Message } else { CutStyle::Plain };
        Candidate { index, name: node.name.clone(), style, then }
    }
}

/// A file as it was when mail was stopped.
#[derive(Debug)]
pub(crate) struct Then {
    pub(crate) node: Node,
    pub(crate) staged: Option<Staged>,
}

/// Where the files of a piece are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In this directory.
    Now(Arc<Directory>),
    /// On the stage; what was not kept, in the folder of this path.
    Then { stage: Arc<Stage>, folder: Arc<PathBuf> },
}

/// A piece of a listing that the box has not answered.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) place: Place,
    pub(crate) files: Vec<Candidate>,
    /// Entries that count against the bound.
    pub(crate) cost: usize,
}

/// A file to read.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) file: FileId,
    pub(crate) name: Vec<u8>,
    pub(crate) style: CutStyle,
    pub(crate) place: Place,
    pub(crate) then: Option<Box<Then>>,
    /// Given back with the last file of its piece.
    pub(crate) _piece: Arc<PieceHold>,
}

/// A piece's share of the bounds, given back when its last file is done.
#[derive(Debug)]
pub(crate) struct PieceHold {
    ledger: Arc<Ledger>,
    cost: usize,
}

impl Drop for PieceHold {
    fn drop(&mut self) {
        let mut state = self.ledger.lock();
        state.entries -= self.cost;
        state.pieces_held -= 1;
        let wake = state.sleepers.room > 0;
        drop(state);
        if wake {
            self.ledger.room.notify_all();
        }
    }
}

/// Bytes announced in one `Chunks` message and kept until the box has answered it.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) first: u32,
    /// The whole buffer and where this piece's chunks lie in it.
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) chunks: Vec<std::ops::Range<usize>>,
}

impl Announced {
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(ExactSizeIterator::len).sum()
    }
}

#[derive(Debug, Default)]
struct OpenFile {
    unanswered: VecDeque<Announced>,
    /// Announced, and its data not sent yet.
    owed: usize,
    outcome: Option<ReadOutcome>,
}

#[derive(Debug, Default)]
struct State {
    /// Listed entries that are not settled.
    entries: usize,
    pieces_held: usize,
    pieces: HashMap<(DirectoryId, u32), Piece>,
    jobs: VecDeque<Job>,
    open: HashMap<FileId, OpenFile>,
    unfinished: usize,
    bytes_held: usize,
    bytes_read: u64,
    walked: bool,
    ended: bool,
    aborted: bool,
    failure: Option<AgentError>,
    sleepers: Sleepers,
}

impl State {
    fn has_room(&self, cost: usize, pieces_max: usize) -> bool {
        let free = self.entries + cost <= limits::ENTRIES_AHEAD && self.pieces_held < pieces_max;
        free || self.pieces_held == 0
    }

    fn may_hold(&self, count: usize) -> bool {
        self.bytes_held + count <= limits::BYTES_AHEAD || self.bytes_held == 0
    }

    fn is_settled(&self) -> bool {
        self.walked && self.pieces.is_empty() && self.unfinished == 0
    }
}

/// The bounds and the state of a pass.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
    /// One for each thing that is waited for, so that nobody is woken for what is none of his business.
    room: Condvar,
    work: Condvar,
    bytes: Condvar,
    end: Condvar,
    pieces_max: usize,
}

/// Threads that sleep for one thing.
#[derive(Debug, Default)]
struct Sleepers {
    room: usize,
    work: usize,
    bytes: usize,
    end: usize,
}

/// What a thread waits for.
#[derive(Clone, Copy)]
enum For {
    Room,
    Work,
    Bytes,
    End,
}

impl Sleepers {
    fn of(&mut self, what_for: For) -> &mut usize {
        match what_for {
            For::Room => &mut self.room,
            For::Work => &mut self.work,
            For::Bytes => &mut self.bytes,
            For::End => &mut self.end,
        }
    }
}

/// The pass was called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted;

impl Ledger {
    pub(crate) fn new(pieces_max: usize) -> Arc<Ledger> {
        Arc::new(Ledger { pieces_max, ..Ledger::default() })
    }

    /// Waits until the walk may go on, then remembers a piece that is about to be sent.
    pub(crate) fn announce_piece(
        &self,
        directory: DirectoryId,
        first: u32,
        piece: Piece,
    ) -> Result<(), Aborted> {
        let cost = piece.cost;
        let mut state = self.wait(For::Room, |state| state.has_room(cost, self.pieces_max))?;
        state.entries += cost;
        state.pieces_held += 1;
        state.pieces.insert((directory, first), piece);
        Ok(())
    }

    /// The box has said which files of a piece it wants.
    pub(crate) fn want(
        self: &Arc<Self>,
        directory: DirectoryId,
        first: u32,
        wanted: &[u32],
    ) -> Result<(), AgentError> {
        let mut state = self.lock();
        let piece =
            state.pieces.remove(&(directory, first)).ok_or(AgentError::OutOfOrder { said: "Want" })?;
        let hold = Arc::new(PieceHold { ledger: Arc::clone(self), cost: piece.cost });
        let mut candidates = piece.files.into_iter();
        for index in wanted {
            // Both lists ascend.
            let Some(candidate) = candidates.find(|candidate| candidate.index == *index) else {
                drop(state);
                return Err(AgentError::OutOfOrder { said: "Want of what is no file" });
            };
            state.unfinished += 1;
            state.jobs.push_back(Job {
                file: FileId { directory, index: *index },
                name: candidate.name,
                style: candidate.style,
                place: piece.place.clone(),
                then: candidate.then,
                _piece: Arc::clone(&hold),
            });
        }
        let (work, end) = (!wanted.is_empty() && state.sleepers.work > 0, state.is_settled());
        drop(state);
        // Without a wanted file the share goes back here; the lock must be free for that.
        drop(hold);
        if work {
            self.work.notify_all();
        }
        if end {
            self.end.notify_all();
        }
        Ok(())
    }

    /// The next file to read; `None` when the pass is over.
    pub(crate) fn next_job(&self) -> Option<Job> {
        let mut state = self.wait(For::Work, |state| !state.jobs.is_empty() || state.ended).ok()?;
        state.jobs.pop_front()
    }

    /// Whether the walk may go on with a piece of this cost. Only it announces them, so a yes stays one.
    pub(crate) fn has_room(&self, cost: usize) -> bool {
        self.lock().has_room(cost, self.pieces_max)
    }

    /// Holds `count` more bytes if that can be done without waiting.
    pub(crate) fn try_hold_bytes(&self, count: usize) -> bool {
        let mut state = self.lock();
        let can = !state.aborted && state.may_hold(count);
        state.bytes_held += if can { count } else { 0 };
        can
    }

    /// Waits until `count` more bytes may be held.
    pub(crate) fn hold_bytes(&self, count: usize) -> Result<(), Aborted> {
        let mut state = self.wait(For::Bytes, |state| state.may_hold(count))?;
        state.bytes_held += count;
        Ok(())
    }

    pub(crate) fn release_bytes(&self, count: usize) {
        if count == 0 {
            return;
        }
        let mut state = self.lock();
        state.bytes_held -= count;
        // Not for every mail that goes out: who waits gets room for many at once. He is woken at the latest for the last.
        let wake = state.sleepers.bytes > 0 && state.bytes_held <= limits::BYTES_AHEAD / 2;
        drop(state);
        if wake {
            self.bytes.notify_all();
        }
    }

    /// Remembers chunks that are about to be announced.
    pub(crate) fn announce_chunks(&self, file: FileId, announced: Announced) {
        let mut state = self.lock();
        state.bytes_read += announced.len() as u64;
        let open = state.open.entry(file).or_default();
        open.owed += 1;
        open.unanswered.push_back(announced);
    }

    /// Bytes that were held have been read and sent without being announced.
    pub(crate) fn sent(&self, count: usize) {
        self.lock().bytes_read += count as u64;
        self.release_bytes(count);
    }

    /// The box has answered the oldest announced piece of a file.
    pub(crate) fn needed(&self, file: FileId, first: u32) -> Result<Announced, AgentError> {
        let mut state = self.lock();
        let oldest = state.open.get_mut(&file).and_then(|open| open.unanswered.pop_front());
        oldest.filter(|oldest| oldest.first == first).ok_or(AgentError::OutOfOrder { said: "Need" })
    }

    /// The data of one announced piece is sent. Returns the outcome if that was the last of the file.
    pub(crate) fn paid(&self, file: FileId) -> Option<ReadOutcome> {
        let mut state = self.lock();
        let open = state.open.get_mut(&file)?;
        open.owed -= 1;
        if open.owed > 0 || open.outcome.is_none() {
            return None;
        }
        state.open.remove(&file).and_then(|open| open.outcome)
    }

    /// A file is read. Returns the outcome if nothing of it is owed.
    pub(crate) fn read(&self, file: FileId, outcome: ReadOutcome) -> Option<ReadOutcome> {
        let mut state = self.lock();
        match state.open.get_mut(&file) {
            Some(open) if open.owed > 0 => {
                open.outcome = Some(outcome);
                None
            }
            _ => {
                state.open.remove(&file);
                Some(outcome)
            }
        }
    }

    /// The box has been told of a file's end.
    pub(crate) fn file_finished(&self) {
        let mut state = self.lock();
        state.unfinished -= 1;
        let wake = state.is_settled();
        drop(state);
        if wake {
            self.end.notify_all();
        }
    }

    pub(crate) fn walked(&self) {
        self.lock().walked = true;
        self.end.notify_all();
    }

    /// Waits until everything is settled; returns the bytes read.
    pub(crate) fn settled(&self) -> Result<u64, Aborted> {
        let mut state = self.wait(For::End, State::is_settled)?;
        state.ended = true;
        self.work.notify_all();
        Ok(state.bytes_read)
    }

    pub(crate) fn abort(&self) {
        let mut state = self.lock();
        state.aborted = true;
        // Holds point back at this ledger.
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        drop(jobs);
        for condition in [&self.room, &self.work, &self.bytes, &self.end] {
            condition.notify_all();
        }
    }

    /// A thread of the pass cannot go on.
    pub(crate) fn fail(&self, error: AgentError) {
        self.lock().failure.get_or_insert(error);
        self.abort();
    }

    pub(crate) fn take_failure(&self) -> Option<AgentError> {
        self.lock().failure.take()
    }

    /// Everything was settled; `PassEnded` is said or about to be.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.lock().aborted
    }

    fn wait(&self, what_for: For, ready: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, Aborted> {
        let condition = match what_for {
            For::Room => &self.room,
            For::Work => &self.work,
            For::Bytes => &self.bytes,
            For::End => &self.end,
        };
        let mut state = self.lock();
        loop {
            if state.aborted {
                return Err(Aborted);
            }
            if ready(&state) {
                return Ok(state);
            }
            *state.sleepers.of(what_for) += 1;
            let patience = Duration::from_secs(1);
            state = condition.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
            *state.sleepers.of(what_for) -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
