//! The link as the box feels it: held to the bandwidth that it may take, and judged as slow or fast.
//!
//! Whether compressing pays is decided here and nowhere else, from the time that was spent waiting for bytes: a link that is
//! always ahead of the box is fast, however slow the box is, and one that the box waits for is slow by what came in that
//! time. A server that reads slowly looks like a slow link; what compressing its few bytes costs is little.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mailkeep_link::pace::{Clock, Pace};

use crate::limits::{LINK_FAST, LINK_IDLE_BYTES, LINK_JUDGED_BYTES, LINK_JUDGED_TIME, LINK_SLOW};

/// What whoever drives the session sees of the link.
#[derive(Debug)]
pub(crate) struct Meter {
    pace: Pace,
    slow: AtomicBool,
}

impl Meter {
    /// A link that may take this many bytes per second.
    pub(crate) fn new(rate: Option<u64>, clock: Box<dyn Clock>) -> Arc<Self> {
        Arc::new(Meter { pace: Pace::new(rate, clock), slow: AtomicBool::new(false) })
    }

    /// Whether the link may take all that it can, from now on.
    pub(crate) fn lift(&self, lifted: bool) {
        self.pace.lift(lifted);
    }

    /// Whether the link is so slow that compressing pays.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }
}

/// A stream under a meter.
pub(crate) struct Metered<R> {
    inner: R,
    meter: Arc<Meter>,
    clock: Box<dyn Clock>,
    judge: Judge,
}

impl<R: Read> Metered<R> {
    pub(crate) fn new(inner: R, meter: Arc<Meter>, clock: Box<dyn Clock>) -> Self {
        Metered { inner, meter, clock, judge: Judge::default() }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = match self.meter.pace.rate() {
            // An eighth of a second's worth, so that bytes trickle and the end of the limit is noticed.
            Some(rate) => usize::try_from(rate / 8).unwrap_or(usize::MAX).max(1024).min(buffer.len()),
            None => buffer.len(),
        };
        let start = self.clock.now();
        let count = self.inner.read(&mut buffer[..most])?;
        self.meter.pace.spend(count, &|| false);
        let waited = self.clock.now().saturating_sub(start);
        if let Some(slow) = self.judge.came(count as u64, waited) {
            self.meter.slow.store(slow, Ordering::Relaxed);
        }
        Ok(count)
    }
}

/// Tells slow links from fast ones: pure.
#[derive(Clone, Copy, Debug, Default)]
struct Judge {
    bytes: u64,
    waited: Duration,
}

impl Judge {
    /// Bytes came after this time of waiting for them. Gives whether the link is slow, when enough is known.
    fn came(&mut self, bytes: u64, waited: Duration) -> Option<bool> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
        if self.bytes < LINK_JUDGED_BYTES && self.waited < LINK_JUDGED_TIME {
            return None;
        }
        let Judge { bytes, waited } = std::mem::take(self);
        if bytes < LINK_IDLE_BYTES {
            return None;
        }
        let per_second = |rate: u64| u128::from(rate) * waited.as_nanos() / 1_000_000_000;
        match u128::from(bytes) {
            bytes if bytes < per_second(LINK_SLOW) => Some(true),
            bytes if bytes > per_second(LINK_FAST) => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Time that passes by sleeping, and while bytes are waited for.
    #[derive(Clone, Default)]
    struct Watch(Arc<Mutex<Duration>>);

    impl Watch {
        fn pass(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    impl Clock for Watch {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, time: Duration) {
            self.pass(time);
        }
    }

    /// A link that gives so many bytes per second, in pieces.
    struct Link {
        watch: Watch,
        rate: u64,
        piece: usize,
    }

    impl Read for Link {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.piece.min(buffer.len());
            self.watch.pass(Duration::from_nanos(count as u64 * 1_000_000_000 / self.rate));
            Ok(count)
        }
    }

    /// Reads so many bytes over such a link; gives the meter and the time that it took.
    fn read(rate: u64, limit: Option<u64>, bytes: usize) -> (Arc<Meter>, Duration) {
        let watch = Watch::default();
        let meter = Meter::new(limit, Box::new(watch.clone()));
        let link = Link { watch: watch.clone(), rate, piece: 32 << 10 };
        let mut metered = Metered::new(link, meter.clone(), Box::new(watch.clone()));
        let (mut got, mut buffer) = (0, vec![0; 256 << 10]);
        while got < bytes {
            got += metered.read(&mut buffer).unwrap();
        }
        (meter, watch.now())
    }

    #[test]
    fn a_link_is_judged_by_what_it_gives() {
        for (rate, slow) in [
            (125_000, true),
            (1_250_000, true),
            (12_500_000, true),
            (60_000_000, false),
            (1_000_000_000, false),
        ] {
            assert_eq!(read(rate, None, 4 << 20).0.is_slow(), slow, "{rate}");
        }
    }

    #[test]
    fn a_limit_makes_a_fast_link_slow_and_takes_its_time() {
        let (meter, took) = read(1_000_000_000, Some(1_250_000), 12_500_000);
        assert!(meter.is_slow());
        assert!(took >= Duration::from_millis(9_500), "{took:?}");
        assert!(took <= Duration::from_millis(10_500), "{took:?}");
        meter.lift(true);
        assert_eq!(meter.pace.rate(), None);
    }

    #[test]
    fn silence_and_a_slow_box_say_nothing_of_the_link() {
        let mut judge = Judge::default();
        for _ in 0..100 {
            assert_eq!(judge.came(5, Duration::from_secs(5)), None, "nobody had anything to say");
        }
        // All was there already whenever the box came for it.
        let verdicts: Vec<bool> =
            (0..100).filter_map(|_| judge.came(256 << 10, Duration::from_micros(50))).collect();
        assert!(!verdicts.is_empty() && verdicts.iter().all(|slow| !slow));
    }

    #[test]
    fn between_slow_and_fast_it_stays_as_it_was() {
        let mut judge = Judge::default();
        let second = Duration::from_secs(1);
        assert_eq!(judge.came(LINK_SLOW - 1, second), Some(true));
        assert_eq!(judge.came(LINK_SLOW + 1, second), None);
        assert_eq!(judge.came(LINK_FAST + 1, second), Some(false));
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let mut judge = Judge::default();
        assert_eq!(judge.came(u64::MAX, Duration::MAX), Some(true));
        assert_eq!(judge.came(u64::MAX, Duration::ZERO), Some(false));
    }
}
