//! Three lamps, and the patterns that each can show: lit or dark at a moment, and until when.
//!
//! Five patterns are those of the "Front panel" table of the interface description. Three are added because it
//! leaves their moments open, and no row of it may be shown where it would say something untrue: the self-test,
//! the counted flashes of the age display, and the wink (the box is up, but the last backup is not good: neither
//! "box down" nor "good and proven").

use crate::limits;
use crate::moment::{Moment, Span};

/// A lamp of the front panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lamp {
    /// Green: how backups stand.
    Status,
    /// Blue: what may be done with the disk.
    Disk,
    /// Red: trouble.
    Fault,
}

impl Lamp {
    /// All lamps, in the order of the front panel, of the self-test and of [`lamps`](crate::lamps).
    pub const ALL: [Lamp; 3] = [Lamp::Status, Lamp::Disk, Lamp::Fault];
}

/// How a lamp is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Dark.
    Off,
    /// Lit.
    Steady,
    /// Slow blink, 1 Hz.
    Slow,
    /// Fast blink, 4 Hz.
    Fast,
    /// Two flashes and a rest.
    Double,
    /// A short flash every three seconds: alive, nothing good or bad to say.
    Wink,
    /// Lit by the self-test; says nothing.
    Test,
    /// Counted flashes, from this moment on: one for each day begun; `None`: one long flash.
    Count(Moment, Option<u32>),
}

impl Pattern {
    /// The pattern in one word, as the bench board prints it.
    pub fn word(self) -> &'static str {
        match self {
            Pattern::Off => "off",
            Pattern::Steady => "steady",
            Pattern::Slow => "slow",
            Pattern::Fast => "fast",
            Pattern::Double => "double",
            Pattern::Wink => "wink",
            Pattern::Test => "test",
            Pattern::Count(..) => "count",
        }
    }

    /// Is the lamp lit at this moment?
    pub fn is_lit(self, now: Moment) -> bool {
        self.at(now).0
    }

    /// The next moment at which the lamp goes on or off by itself; `None` if it stays as it is.
    pub fn next_edge(self, now: Moment) -> Option<Moment> {
        self.at(now).1
    }

    /// Lit or not, and until when.
    fn at(self, now: Moment) -> (bool, Option<Moment>) {
        const SLOW: [Span; 2] = halves(limits::SLOW_PERIOD);
        const FAST: [Span; 2] = halves(limits::FAST_PERIOD);
        const DOUBLE: [Span; 4] =
            [limits::FLASH, limits::FLASH, limits::FLASH, rest(limits::DOUBLE_PERIOD, 3)];
        const WINK: [Span; 2] = [limits::FLASH, rest(limits::WINK_PERIOD, 1)];
        match self {
            Pattern::Off => (false, None),
            Pattern::Steady | Pattern::Test => (true, None),
            Pattern::Slow => beat(&SLOW, now),
            Pattern::Fast => beat(&FAST, now),
            Pattern::Double => beat(&DOUBLE, now),
            Pattern::Wink => beat(&WINK, now),
            Pattern::Count(since, days) => count(since, days, now),
        }
    }
}

const fn halves(period: Span) -> [Span; 2] {
    [Span::from_millis(period.millis() / 2), Span::from_millis(period.millis() / 2)]
}

const fn rest(period: Span, flashes: u64) -> Span {
    Span::from_millis(period.millis() - flashes * limits::FLASH.millis())
}

/// A repeating beat: lit for the first span, dark for the second, and so on. All lamps share the start, so
/// that lamps with the same pattern blink together.
fn beat(spans: &[Span], now: Moment) -> (bool, Option<Moment>) {
    let period: i64 = spans.iter().map(|span| span.millis() as i64).sum();
    let mut left = now.millis().rem_euclid(period.max(1));
    for (place, span) in spans.iter().enumerate() {
        let length = span.millis() as i64;
        if left < length {
            return (place % 2 == 0, Some(now + Span::from_millis((length - left) as u64)));
        }
        left -= length;
    }
    (false, None)
}

fn count(since: Moment, days: Option<u32>, now: Moment) -> (bool, Option<Moment>) {
    let mut edge = since + limits::COUNT_REST;
    if now < edge {
        return (false, Some(edge));
    }
    let (flashes, length) = match days {
        Some(days) => (days, limits::COUNT_FLASH),
        None => (1, limits::COUNT_NONE),
    };
    for _ in 0..flashes {
        for lit in [true, false] {
            edge = edge + if lit { length } else { limits::COUNT_FLASH };
            if now < edge {
                return (lit, Some(edge));
            }
        }
    }
    (false, None)
}

/// How long the age display takes.
pub(crate) fn count_length(days: Option<u32>) -> Span {
    let (gap, rests) = (limits::COUNT_FLASH.millis(), 2 * limits::COUNT_REST.millis());
    Span::from_millis(match days {
        Some(days) => rests + u64::from(days) * 2 * gap,
        None => rests + limits::COUNT_NONE.millis() + gap,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Moment {
        Moment::from_millis(millis)
    }

    /// Edges within a stretch of time, found by looking at every millisecond.
    fn edges(pattern: Pattern, millis: i64) -> Vec<i64> {
        (1..millis).filter(|t| pattern.is_lit(at(*t)) != pattern.is_lit(at(t - 1))).collect()
    }

    #[test]
    fn slow_is_1_hz_and_fast_is_4_hz() {
        assert_eq!(edges(Pattern::Slow, 2_000), [500, 1000, 1500]);
        assert_eq!(edges(Pattern::Fast, 1_000), [125, 250, 375, 500, 625, 750, 875]);
        assert!(Pattern::Slow.is_lit(at(0)) && Pattern::Fast.is_lit(at(0)));
    }

    #[test]
    fn double_flash_is_two_flashes_and_a_rest() {
        assert_eq!(edges(Pattern::Double, 3_000), [150, 300, 450, 1500, 1650, 1800, 1950]);
    }

    #[test]
    fn a_count_can_be_counted() {
        for (days, flashes) in [(Some(1), 1), (Some(4), 4), (None, 1)] {
            let edges = edges(Pattern::Count(at(0), days), count_length(days).millis() as i64);
            assert_eq!(edges.len(), 2 * flashes, "{days:?}");
        }
        assert!(edges(Pattern::Count(at(0), None), 5_000)[1] - 900 >= 2_000, "one long flash");
    }

    #[test]
    fn next_edge_is_the_edge() {
        for pattern in
            [Pattern::Slow, Pattern::Fast, Pattern::Double, Pattern::Wink, Pattern::Count(at(0), Some(3))]
        {
            let mut now = at(-7_000);
            let mut found = Vec::new();
            while let Some(edge) = pattern.next_edge(now).filter(|edge| edge.millis() < 6_000) {
                assert!(edge > now, "{pattern:?}");
                if edge.millis() > 0 && pattern.is_lit(edge) != pattern.is_lit(edge - Span::from_millis(1)) {
                    found.push(edge.millis());
                }
                now = edge;
            }
            assert_eq!(found, edges(pattern, 6_000), "{pattern:?}");
        }
    }
}
