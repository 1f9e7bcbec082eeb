//! Time as the machine sees it: milliseconds relative to the start of the box's program.
//!
//! A [`Moment`] comes from a monotonic clock, so that a board without a clock chip, which wakes up in 1970 and
//! jumps decades when it finds a time server, does not confuse blinking or holding. It may be negative: the
//! last good backup usually lies before the start of the program.

use std::ops::{Add, Sub};

/// A point in time, in milliseconds since the program's start (negative: before it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(i64);

/// A length of time in milliseconds; never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(u64);

impl Moment {
    /// The moment `millis` milliseconds after the program's start.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the program's start.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// How long before this moment `earlier` was; zero if it was not before.
    pub const fn since(self, earlier: Self) -> Span {
        let gap = self.0.saturating_sub(earlier.0);
        Span(if gap > 0 { gap as u64 } else { 0 })
    }
}

impl Span {
    /// A span of milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// A span of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds in this span.
    pub const fn millis(self) -> u64 {
        self.0
    }

    const fn signed(self) -> i64 {
        if self.0 > i64::MAX as u64 { i64::MAX } else { self.0 as i64 }
    }
}

impl Add<Span> for Moment {
    type Output = Moment;
    fn add(self, span: Span) -> Moment {
        Moment(self.0.saturating_add(span.signed()))
    }
}

impl Sub<Span> for Moment {
    type Output = Moment;
    fn sub(self, span: Span) -> Moment {
        Moment(self.0.saturating_sub(span.signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_at_its_ends_does_not_overflow() {
        let (first, last) = (Moment::from_millis(i64::MIN), Moment::from_millis(i64::MAX));
        assert_eq!(first.since(last), Span::from_millis(0));
        assert_eq!(last.since(first), Span::from_millis(i64::MAX as u64));
        assert_eq!(last + Span::from_millis(u64::MAX), last);
        assert_eq!(first - Span::from_secs(u64::MAX), first);
    }
}
