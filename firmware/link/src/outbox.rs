//! What we have said and the writing thread has not written yet: a bounded queue of encoded messages, written many at a
//! time, with a sign of life when nothing is said.
//!
//! A message that can wait is written when enough has gathered, a moment has passed or somebody is in a hurry; any other at
//! once. The order is kept always. While it is asked for, what is written together is compressed together.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::LinkError;
use crate::frame::Outgoing;
use crate::limits;
use crate::packed::Packer;
use crate::shared::SharedBytes;

pub(crate) struct Outbox {
    state: Mutex<State>,
    queued: Condvar,
    written: Condvar,
    squeeze: AtomicBool,
    /// The type of a frame of compressed messages, if there is one in this direction.
    packed: Option<u8>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Outgoing>,
    bytes: usize,
    /// Something in the queue cannot wait.
    urgent: bool,
    /// What the writing thread sleeps for.
    sleeps_for: Option<SleepsFor>,
    /// Threads that wait for room.
    crowd: usize,
    finished: bool,
    failed: Option<LinkError>,
    gone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SleepsFor {
    Anything,
    More,
}

impl State {
    fn worth_writing(&self) -> bool {
        self.urgent || self.finished || self.bytes >= limits::WRITE_WORTH
    }
}

impl Outbox {
    pub(crate) fn new(packed: Option<u8>) -> Self {
        let (queued, written, squeeze) = (Condvar::new(), Condvar::new(), AtomicBool::new(false));
        Outbox { state: Mutex::default(), queued, written, squeeze, packed }
    }

    /// Whether what is written from now on is compressed.
    pub(crate) fn squeeze(&self, on: bool) {
        self.squeeze.store(on, Ordering::Relaxed);
    }

    /// Queues a message; waits while the queue is full, as long as `peer_is_fine` says so.
    pub(crate) fn push(
        &self,
        mut message: Outgoing,
        peer_is_fine: &dyn Fn() -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        message.body = message.body.without_waste();
        let size = message.wire_len();
        let mut state = self.lock();
        loop {
            if let Some(why) = &state.failed {
                return Err(why.clone());
            }
            if state.finished {
                return Err(LinkError::Finished);
            }
            let full = state.queue.len() >= limits::OUTBOX_MESSAGES
                || (!state.queue.is_empty() && state.bytes + size > limits::OUTBOX_BYTES);
            if !full {
                break;
            }
            state.crowd += 1;
            let patience = Duration::from_millis(500);
            state = self.written.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
            state.crowd -= 1;
            peer_is_fine()?;
        }
        state.bytes += size;
        state.urgent |= !message.can_wait;
        state.queue.push_back(message);
        let wake = match state.sleeps_for {
            None => false,
            Some(SleepsFor::Anything) => true,
            Some(SleepsFor::More) => state.worth_writing(),
        };
        if wake {
            // Once is enough.
            state.sleeps_for = None;
            drop(state);
            self.queued.notify_one();
        }
        Ok(())
    }

    /// What is queued is written now: whoever said it waits for the answer and has nothing to add.
    pub(crate) fn hurry(&self) {
        let mut state = self.lock();
        if state.queue.is_empty() {
            return;
        }
        state.urgent = true;
        if state.sleeps_for.take().is_some() {
            drop(state);
            self.queued.notify_one();
        }
    }

    /// Nothing more will be queued; waits until all is written, at most `patience`.
    pub(crate) fn finish(&self, patience: Duration) -> Result<(), LinkError> {
        let end = Instant::now() + patience;
        let mut state = self.lock();
        state.finished = true;
        self.queued.notify_all();
        loop {
            if let Some(why) = &state.failed {
                return Err(why.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.gone || left.is_zero() {
                return Ok(());
            }
            state = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// For the last owner: the writing thread ends by itself.
    pub(crate) fn desert(&self) {
        self.lock().finished = true;
        self.queued.notify_all();
    }

    /// The writing thread; returns why it ended if that was not asked for.
    pub(crate) fn run(&self, output: &mut dyn Write, alive: &Outgoing) -> Result<(), LinkError> {
        let ended = self.write_all(output, alive).map_err(|error| LinkError::Write(error.into()));
        let mut state = self.lock();
        if let Err(why) = &ended {
            state.failed = Some(why.clone());
            state.queue.clear();
            state.bytes = 0;
        }
        state.gone = true;
        drop(state);
        self.written.notify_all();
        ended
    }

    fn write_all(&self, output: &mut dyn Write, alive: &Outgoing) -> io::Result<()> {
        let mut batch = Batch::default();
        let mut taken = VecDeque::new();
        loop {
            let go_on = self.take(&mut taken);
            batch.squeeze(self.packed.filter(|_| self.squeeze.load(Ordering::Relaxed)));
            if taken.is_empty() && go_on {
                batch.add(alive, output)?;
            }
            for message in taken.drain(..) {
                batch.add(&message, output)?;
            }
            batch.write(output)?;
            output.flush()?;
            if !go_on {
                return Ok(());
            }
        }
    }

    /// Takes all that is queued, after waiting for it; nothing if it is time for a sign of life. False at the end.
    fn take(&self, taken: &mut VecDeque<Outgoing>) -> bool {
        let alive_at = Instant::now() + limits::ALIVE_EVERY;
        let mut state = self.lock();
        while state.queue.is_empty() && !state.finished {
            let left = alive_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.sleep(state, SleepsFor::Anything, left);
        }
        if !state.worth_writing() {
            let until = Instant::now() + limits::GATHER;
            while !state.worth_writing() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state = self.sleep(state, SleepsFor::More, left);
            }
        }
        std::mem::swap(&mut state.queue, taken);
        state.bytes = 0;
        state.urgent = false;
        let (finished, crowd) = (state.finished, state.crowd);
        drop(state);
        if crowd > 0 {
            self.written.notify_all();
        }
        !finished
    }

    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        what_for: SleepsFor,
        patience: Duration,
    ) -> MutexGuard<'a, State> {
        state.sleeps_for = Some(what_for);
        let mut state = self.queued.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
        state.sleeps_for = None;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What goes to the pipe with one write: small things gathered, large ones from where they lie.
#[derive(Default)]
struct Batch {
    gathered: Vec<u8>,
    /// Where in `gathered` a large one comes in between.
    large: Vec<(usize, SharedBytes)>,
    bytes: usize,
    packer: Option<Packer>,
}

impl Batch {
    /// Whether it is compressed, into frames of which type.
    fn squeeze(&mut self, kind: Option<u8>) {
        match kind {
            // Without memory for it, it is left.
            Some(kind) if self.packer.is_none() => self.packer = Packer::new(kind).ok(),
            Some(_) => {}
            None => self.packer = None,
        }
    }

    fn add(&mut self, message: &Outgoing, output: &mut dyn Write) -> io::Result<()> {
        message.put_without_body(&mut self.gathered);
        // What is compressed has to lie in one piece.
        if message.body.len() >= limits::WRITE_IN_PLACE && self.packer.is_none() {
            self.large.push((self.gathered.len(), message.body.clone()));
        } else {
            self.gathered.extend_from_slice(&message.body);
        }
        self.bytes += message.wire_len();
        if self.bytes >= limits::WRITE_BUFFER { self.write(output) } else { Ok(()) }
    }

    fn write(&mut self, output: &mut dyn Write) -> io::Result<()> {
        if let Some(packed) = self.packer.as_mut().and_then(|packer| packer.pack(&self.gathered)) {
            output.write_all(packed)?;
            self.gathered.clear();
            self.bytes = 0;
            return Ok(());
        }
        let mut slices = Vec::with_capacity(2 * self.large.len() + 1);
        let mut from = 0;
        for (at, bytes) in &self.large {
            slices.push(IoSlice::new(&self.gathered[from..*at]));
            slices.push(IoSlice::new(bytes));
            from = *at;
        }
        slices.push(IoSlice::new(&self.gathered[from..]));
        write_all_vectored(output, &mut slices)?;
        self.gathered.clear();
        self.large.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn write_all_vectored(output: &mut dyn Write, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Empty ones at the front would make a write of nothing look like an end.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match output.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: usize, can_wait: bool) -> Outgoing {
        Outgoing { kind, head: vec![kind; 3], body: vec![kind; body].into(), can_wait }
    }

    #[test]
    fn what_is_written_is_what_was_said_in_its_order() {
        let outbox = Outbox::new(None);
        let sizes = [0, 1, 5_000, limits::WRITE_IN_PLACE, 300_000, 7, limits::WRITE_BUFFER, 100_000, 0, 3];
        let mut expected = Vec::new();
        let mut written = Vec::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| outbox.run(&mut written, &message(9, 0, false)));
            for (kind, size) in (0u8..).zip(sizes.into_iter().cycle().take(60)) {
                let message = message(kind, size, kind % 7 != 0);
                crate::frame::Frame::from(message.clone()).put(&mut expected);
                outbox.push(message, &|| Ok(())).unwrap();
            }
            outbox.finish(Duration::from_secs(30)).unwrap();
            writer.join().unwrap().unwrap();
        });
        assert!(written == expected);
    }

    #[test]
    fn who_waits_for_the_answer_does_not_wait_for_more_to_say() {
        let outbox = Outbox::new(None);
        outbox.hurry();
        outbox.push(message(1, 10, true), &|| Ok(())).unwrap();
        assert!(!outbox.lock().worth_writing());
        outbox.hurry();
        assert!(outbox.lock().worth_writing());
        let mut taken = VecDeque::new();
        assert!(outbox.take(&mut taken) && taken.len() == 1);
        assert!(!outbox.lock().worth_writing());
    }

    #[test]
    fn a_lone_message_that_can_wait_is_not_kept_for_long() {
        let outbox = Outbox::new(None);
        let (read, write) = std::os::unix::net::UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            let _writer = scope.spawn(|| outbox.run(&mut { write }, &message(9, 0, false)));
            outbox.push(message(1, 10, true), &|| Ok(())).unwrap();
            // Comes although nothing follows.
            let mut got = [0; 18];
            io::Read::read_exact(&mut { read }, &mut got).unwrap();
            assert_eq!(got[4..8], [1, 1, 1, 1]);
            outbox.desert();
        });
    }
}
