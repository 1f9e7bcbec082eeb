//! What we have said and the writing thread has not written yet: a bounded queue of encoded frames, flushed whenever
//! it runs empty, with a sign of life when nothing is said.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::LinkError;
use crate::frame::Frame;
use crate::limits;

pub(crate) struct Outbox {
    state: Mutex<State>,
    queued: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Frame>,
    bytes: usize,
    finished: bool,
    failed: Option<LinkError>,
    gone: bool,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Outbox { state: Mutex::default(), queued: Condvar::new(), written: Condvar::new() }
    }

    /// Queues a frame; waits while the queue is full, as long as `peer_is_fine` says so.
    pub(crate) fn push(
        &self,
        frame: Frame,
        peer_is_fine: &dyn Fn() -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        let size = frame.wire_len();
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
            state = self
                .written
                .wait_timeout(state, Duration::from_millis(500))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            peer_is_fine()?;
        }
        state.bytes += size;
        state.queue.push_back(frame);
        self.queued.notify_one();
        Ok(())
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

    /// The writing thread.
    pub(crate) fn run(&self, output: &mut dyn Write, alive: &Frame) {
        if let Err(error) = self.write_all(output, alive) {
            let mut state = self.lock();
            state.failed = Some(LinkError::Write(error.into()));
            state.queue.clear();
            state.bytes = 0;
        }
        self.lock().gone = true;
        self.written.notify_all();
    }

    fn write_all(&self, output: &mut dyn Write, alive: &Frame) -> std::io::Result<()> {
        let mut buffer: Vec<u8> = Vec::with_capacity(limits::WRITE_BUFFER);
        loop {
            match self.next() {
                Next::Frame(frame) => {
                    frame.put(&mut buffer);
                    if buffer.len() >= limits::WRITE_BUFFER {
                        output.write_all(&buffer)?;
                        buffer.clear();
                    }
                }
                Next::Idle => {
                    output.write_all(&buffer)?;
                    buffer.clear();
                    output.flush()?;
                    if !self.wait() {
                        alive.put(&mut buffer);
                    }
                }
                Next::Finished => {
                    output.write_all(&buffer)?;
                    return output.flush();
                }
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = self.lock();
        match state.queue.pop_front() {
            Some(frame) => {
                state.bytes -= frame.wire_len();
                self.written.notify_all();
                Next::Frame(frame)
            }
            None if state.finished => Next::Finished,
            None => Next::Idle,
        }
    }

    /// Waits for something to do; false if it is time for a sign of life.
    fn wait(&self) -> bool {
        let end = Instant::now() + limits::ALIVE_EVERY;
        let mut state = self.lock();
        loop {
            if !state.queue.is_empty() || state.finished {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.queued.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Next {
    Frame(Frame),
    Idle,
    Finished,
}
