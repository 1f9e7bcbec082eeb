//! What the peer has said and nobody has taken yet: a bounded queue between the reading thread and its consumer, which
//! also knows for how long nothing has come in.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{LinkError, limits};

/// What the reading thread does when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Stop reading, which holds the peer back.
    Wait,
    /// End the connection: this peer cannot have been asked for so much.
    Refuse,
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) when_full: WhenFull,
}

pub(crate) struct Inbox<M> {
    bounds: Bounds,
    state: Mutex<State<M>>,
    arrived: Condvar,
    taken: Condvar,
}

struct State<M> {
    queue: VecDeque<(M, usize)>,
    bytes: usize,
    /// Since when the reading thread has been waiting for the peer; `None` while it waits for the consumer, which is
    /// not the peer's fault.
    waiting_since: Option<Instant>,
    silence: Duration,
    /// When somebody last asked whether the peer is silent.
    looked: Instant,
    ended: Option<LinkError>,
    /// The consumer is gone.
    deserted: bool,
    /// The consumer sleeps until something arrives.
    consumer_sleeps: bool,
}

impl<M> Inbox<M> {
    pub(crate) fn new(bounds: Bounds, silence: Duration) -> Self {
        let state = State {
            queue: VecDeque::new(),
            bytes: 0,
            waiting_since: Some(Instant::now()),
            silence,
            looked: Instant::now(),
            ended: None,
            deserted: false,
            consumer_sleeps: false,
        };
        Inbox { bounds, state: Mutex::new(state), arrived: Condvar::new(), taken: Condvar::new() }
    }

    /// For the reading thread: bytes came in.
    pub(crate) fn heard(&self) {
        self.lock().waiting_since = Some(Instant::now());
    }

    /// For the reading thread: queues messages with their sizes, in order, and leaves none. Returns false when it should
    /// stop.
    pub(crate) fn push_all(&self, messages: &mut Vec<(M, usize)>) -> bool {
        let mut state = self.lock();
        for (message, size) in messages.drain(..) {
            while state.queue.len() >= self.bounds.messages
                || (!state.queue.is_empty() && state.bytes + size > self.bounds.bytes)
            {
                if state.deserted {
                    return false;
                }
                if self.bounds.when_full == WhenFull::Refuse {
                    state.ended.get_or_insert(LinkError::Flooded);
                    self.arrived.notify_all();
                    return false;
                }
                state.waiting_since = None;
                if std::mem::take(&mut state.consumer_sleeps) {
                    self.arrived.notify_all();
                }
                state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.bytes += size;
            state.queue.push_back((message, size));
        }
        state.waiting_since = Some(Instant::now());
        let (deserted, wake) = (state.deserted, std::mem::take(&mut state.consumer_sleeps));
        drop(state);
        if wake {
            self.arrived.notify_all();
        }
        !deserted
    }

    /// For the reading thread: nothing more will come. What is queued can still be taken.
    pub(crate) fn end(&self, why: LinkError) {
        self.lock().ended.get_or_insert(why);
        self.arrived.notify_all();
    }

    /// Takes all messages that are there into `taken`, which is empty, waiting at most `patience` for the first. Calls
    /// `before_sleep` once if there is none yet.
    pub(crate) fn take_all(
        &self,
        patience: Option<Duration>,
        taken: &mut VecDeque<(M, usize)>,
        before_sleep: &dyn Fn(),
    ) -> Result<(), LinkError> {
        let give_up = patience.map(|patience| Instant::now() + patience);
        let mut state = self.lock();
        if state.queue.is_empty() && state.ended.is_none() {
            // Without the lock: it may take others.
            drop(state);
            before_sleep();
            state = self.lock();
        }
        loop {
            if !state.queue.is_empty() {
                std::mem::swap(&mut state.queue, taken);
                state.bytes = 0;
                let reader_sleeps = state.waiting_since.is_none();
                drop(state);
                if reader_sleeps {
                    self.taken.notify_all();
                }
                return Ok(());
            }
            state.check()?;
            // A bounded nap rather than exact sums: silence may be set anew, or the reader may start to wait.
            let mut nap = Duration::from_millis(500);
            if let Some(end) = give_up {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(());
                }
                nap = nap.min(left);
            }
            state.consumer_sleeps = true;
            state = self.arrived.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
            state.consumer_sleeps = false;
        }
    }

    /// Whether the peer is gone or silent, though messages of it may still be queued.
    pub(crate) fn check(&self) -> Result<(), LinkError> {
        self.lock().check()
    }

    pub(crate) fn set_silence(&self, silence: Duration) {
        let mut state = self.lock();
        state.silence = silence;
        // A shorter time counts from now: the peer cannot have known.
        if state.waiting_since.is_some() {
            state.waiting_since = Some(Instant::now());
        }
        self.arrived.notify_all();
    }

    pub(crate) fn desert(&self) {
        self.lock().deserted = true;
        self.taken.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> State<M> {
    fn check(&mut self) -> Result<(), LinkError> {
        if let Some(why) = &self.ended {
            return Err(why.clone());
        }
        let now = Instant::now();
        // Whoever stood still himself, stopped by a signal or with his whole machine, has not listened: what the peer said
        // meanwhile may be there and not read yet.
        if now.saturating_duration_since(self.looked) >= limits::STOOD_STILL && self.waiting_since.is_some() {
            self.waiting_since = Some(now);
        }
        self.looked = now;
        match self.waiting_since {
            Some(since) if since.elapsed() >= self.silence => {
                Err(LinkError::Silent { seconds: since.elapsed().as_secs() })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Bounds = Bounds { messages: 2, bytes: 100, when_full: WhenFull::Refuse };

    fn push(inbox: &Inbox<i32>, message: i32, size: usize) -> bool {
        inbox.push_all(&mut vec![(message, size)])
    }

    fn take(inbox: &Inbox<i32>) -> Result<Vec<i32>, LinkError> {
        let mut taken = VecDeque::new();
        inbox.take_all(None, &mut taken, &|| {})?;
        Ok(taken.into_iter().map(|(message, _)| message).collect())
    }

    #[test]
    fn what_came_before_the_end_can_still_be_taken() {
        let inbox = Inbox::new(SMALL, Duration::from_secs(60));
        assert!(push(&inbox, 1, 10));
        inbox.end(LinkError::Closed);
        assert!(inbox.check().is_err());
        assert_eq!(take(&inbox).unwrap(), [1]);
        assert!(matches!(take(&inbox), Err(LinkError::Closed)));
        assert!(matches!(take(&inbox), Err(LinkError::Closed)));
    }

    #[test]
    fn who_is_about_to_sleep_is_told_and_nobody_else() {
        let inbox = Inbox::new(SMALL, Duration::from_secs(60));
        let mut taken = VecDeque::new();
        assert!(push(&inbox, 1, 10));
        inbox.take_all(None, &mut taken, &|| panic!("there is something")).unwrap();
        taken.clear();
        // Also what comes at this very moment is taken.
        inbox.take_all(None, &mut taken, &|| assert!(push(&inbox, 2, 10))).unwrap();
        assert_eq!(taken, [(2, 10)]);
    }

    #[test]
    fn a_flood_ends_the_connection() {
        let inbox = Inbox::new(SMALL, Duration::from_secs(60));
        assert!(push(&inbox, 1, 60));
        assert!(!push(&inbox, 2, 60));
        assert_eq!(take(&inbox).unwrap(), [1]);
        assert!(matches!(take(&inbox), Err(LinkError::Flooded)));
    }

    #[test]
    fn a_single_message_above_the_byte_bound_passes() {
        let inbox = Inbox::new(SMALL, Duration::from_secs(60));
        assert!(push(&inbox, 1, 1000));
        assert_eq!(take(&inbox).unwrap(), [1]);
    }

    #[test]
    fn who_stood_still_himself_has_heard_nothing() {
        let inbox = Inbox::<i32>::new(SMALL, Duration::from_secs(1));
        let ago = |time: Duration| Instant::now().checked_sub(time).unwrap();
        inbox.lock().waiting_since = Some(ago(limits::STOOD_STILL));
        inbox.lock().looked = ago(limits::STOOD_STILL);
        inbox.check().unwrap();
        // From then on it listens, and what it does not hear counts.
        inbox.lock().waiting_since = Some(ago(limits::STOOD_STILL));
        assert!(matches!(inbox.check(), Err(LinkError::Silent { .. })));
    }

    #[test]
    fn a_peer_that_is_held_back_by_us_is_not_silent() {
        let inbox = Inbox::new(Bounds { when_full: WhenFull::Wait, ..SMALL }, Duration::ZERO);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| inbox.push_all(&mut vec![(1, 1), (2, 1), (3, 1)]));
            while inbox.lock().waiting_since.is_some() {
                std::thread::yield_now();
            }
            assert!(inbox.check().is_ok());
            assert_eq!(take(&inbox).unwrap(), [1, 2]);
            assert!(reader.join().unwrap());
        });
        assert_eq!(take(&inbox).unwrap(), [3]);
        assert!(matches!(take(&inbox), Err(LinkError::Silent { .. })));
    }
}
