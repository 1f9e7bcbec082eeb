//! Holding whoever moves bytes to a rate: a token bucket without a clock of its own, and the waiting around it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much may be moved at once after a pause: what the rate gives in this time.
pub const BURST: Duration = Duration::from_millis(250);
/// Longest sleep at a time, so that a wait that is called off ends soon.
pub const NAP: Duration = Duration::from_millis(50);

/// Time, and waiting. Contract: `now` never goes back.
pub trait Clock: Send + Sync {
    /// Time since some moment.
    fn now(&self) -> Duration;

    /// Waits.
    fn sleep(&self, time: Duration);
}

/// The system's clock that no one sets.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A token bucket: pure. It may be overdrawn, and says how long to wait until it no longer is.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Bytes per second, never 0.
    rate: u64,
    /// When all that was taken so far is paid for.
    paid_at: Duration,
}

impl Bucket {
    /// A bucket that fills at this many bytes per second; 0 counts as 1.
    pub fn new(rate: u64, now: Duration) -> Self {
        Bucket { rate: rate.max(1), paid_at: now }
    }

    /// Takes bytes, and says how long to wait before anything else is done.
    pub fn take(&mut self, now: Duration, bytes: usize) -> Duration {
        let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(self.rate));
        let costs = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_at = self.paid_at.max(now.saturating_sub(BURST)).saturating_add(costs);
        self.paid_at.saturating_sub(now)
    }
}

/// A bucket that several threads share, with the waiting.
pub struct Pace {
    rate: Option<u64>,
    bucket: Mutex<Bucket>,
    lifted: AtomicBool,
    clock: Box<dyn Clock>,
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace").field("rate", &self.rate).field("lifted", &self.lifted).finish_non_exhaustive()
    }
}

impl Pace {
    /// Holds to this many bytes per second, or to nothing.
    pub fn new(rate: Option<u64>, clock: Box<dyn Clock>) -> Self {
        let bucket = Mutex::new(Bucket::new(rate.unwrap_or(1), clock.now()));
        Pace { rate, bucket, lifted: AtomicBool::new(false), clock }
    }

    /// The bytes per second that it holds to now.
    pub fn rate(&self) -> Option<u64> {
        self.rate.filter(|_| !self.lifted.load(Ordering::Relaxed))
    }

    /// Whether the limit is lifted from now on. Who waits goes on within [`NAP`].
    pub fn lift(&self, lifted: bool) {
        self.lifted.store(lifted, Ordering::Relaxed);
    }

    /// After bytes were moved, or before they are: waits until more may be. Ends early when the limit is lifted or
    /// `called_off` says so; gives the time that was waited.
    pub fn spend(&self, bytes: usize, called_off: &dyn Fn() -> bool) -> Duration {
        let start = self.clock.now();
        if self.rate().is_none() {
            return Duration::ZERO;
        }
        let wait = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(start, bytes);
        let until = start.saturating_add(wait);
        loop {
            let now = self.clock.now();
            if now >= until || self.rate().is_none() || called_off() {
                return now.saturating_sub(start);
            }
            self.clock.sleep(NAP.min(until - now));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// Time that only passes by sleeping.
    #[derive(Clone, Default)]
    struct Asleep(Arc<Mutex<Duration>>);

    impl Clock for Asleep {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    proptest! {
        #[test]
        fn no_span_of_time_carries_more_than_rate_and_burst(
            rate in 8_000u64..100_000_000,
            steps in prop::collection::vec((0u64..2_000_000_000, 0usize..3_000_000), 1..60),
        ) {
            let mut bucket = Bucket::new(rate, Duration::ZERO);
            let mut now = Duration::ZERO;
            // When each amount was moved: after the wait for the one before.
            let mut moved: Vec<(Duration, usize)> = Vec::new();
            for (pause, bytes) in steps {
                now += Duration::from_nanos(pause);
                moved.push((now, bytes));
                let wait = bucket.take(now, bytes);
                // Never longer than all that was moved takes.
                let total: usize = moved.iter().map(|(_, bytes)| bytes).sum();
                prop_assert!(wait.as_secs_f64() <= total as f64 / rate as f64 + 1e-6);
                now += wait;
            }
            for from in 0..moved.len() {
                let mut sum = 0u128;
                for to in from..moved.len() {
                    sum += moved[to].1 as u128;
                    // The last amount is waited for after it was moved.
                    let span = moved.get(to + 1).map_or(now, |(at, _)| *at) - moved[from].0 + BURST;
                    let allowed = span.as_secs_f64() * rate as f64 + 1.0 + (to - from) as f64;
                    prop_assert!(sum as f64 <= allowed, "{} in {:?} at {}", sum, span, rate);
                }
            }
        }

        #[test]
        fn who_is_slower_than_the_rate_never_waits(rate in 8_000u64..100_000_000, count in 1usize..50) {
            let mut bucket = Bucket::new(rate, Duration::ZERO);
            for step in 1..=count {
                // A tenth of a second's worth every tenth of a second.
                let now = Duration::from_millis(100 * step as u64);
                prop_assert_eq!(bucket.take(now, (rate / 10) as usize).saturating_sub(BURST), Duration::ZERO);
            }
        }
    }

    #[test]
    fn extreme_amounts_do_not_overflow() {
        let mut bucket = Bucket::new(0, Duration::MAX);
        assert_eq!(bucket.take(Duration::ZERO, usize::MAX), Duration::MAX);
        assert_eq!(
            Bucket::new(u64::MAX, Duration::ZERO).take(Duration::from_secs(9), 1).saturating_sub(BURST),
            Duration::ZERO
        );
    }

    #[test]
    fn the_time_that_bytes_take_is_slept() {
        let clock = Asleep::default();
        let pace = Pace::new(Some(1_000_000), Box::new(clock.clone()));
        let waited: Duration = (0..100).map(|_| pace.spend(100_000, &|| false)).sum();
        assert_eq!(waited, clock.now());
        assert!(
            clock.now() >= Duration::from_secs(10) - BURST && clock.now() <= Duration::from_secs(10),
            "{:?}",
            clock.now()
        );
    }

    #[test]
    fn no_rate_and_a_lifted_one_are_no_limit() {
        let clock = Asleep::default();
        let pace = Pace::new(None, Box::new(clock.clone()));
        pace.spend(usize::MAX, &|| false);
        let pace = Pace::new(Some(8_000), Box::new(clock.clone()));
        pace.lift(true);
        pace.spend(usize::MAX, &|| false);
        assert_eq!((clock.now(), pace.rate()), (Duration::ZERO, None));
        pace.lift(false);
        pace.spend(80_000, &|| false);
        assert!(clock.now() >= Duration::from_secs(9));
    }

    #[test]
    fn a_wait_that_is_called_off_ends_at_the_next_nap() {
        let clock = Asleep::default();
        let pace = Pace::new(Some(8_000), Box::new(clock.clone()));
        let until = Duration::from_secs(3);
        pace.spend(1 << 30, &|| clock.now() >= until);
        assert!(clock.now() < until + NAP + NAP, "{:?}", clock.now());
    }
}
