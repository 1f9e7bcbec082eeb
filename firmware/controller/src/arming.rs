//! The two steps of a restore by button: hold RESTORE, then press both together in time; all else disarms.

use crate::limits;
use crate::moment::Moment;

/// Whether a restore is armed, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arming {
    since: Option<Moment>,
}

impl Arming {
    /// First step done.
    pub fn arm(&mut self, now: Moment) {
        self.since = Some(now);
    }

    /// Forgets the first step. Returns whether it had been done and was still valid at `now`.
    pub fn disarm(&mut self, now: Moment) -> bool {
        let was = self.is_armed(now);
        self.since = None;
        was
    }

    /// Second step: a chord whose first press was at `first`. Returns whether the restore starts. Either way
    /// nothing is armed afterwards.
    pub fn chord(&mut self, first: Moment, now: Moment) -> bool {
        let armed = self.is_armed(now);
        let after_arming = self.since.is_some_and(|since| first >= since);
        self.since = None;
        armed && after_arming
    }

    /// Is a restore armed at this moment?
    pub fn is_armed(&self, now: Moment) -> bool {
        self.since.is_some_and(|since| now.since(since) <= limits::ARMED_FOR)
    }

    /// The first moment at which it no longer is.
    pub fn wake_at(&self) -> Option<Moment> {
        self.since.map(|since| since + limits::ARMED_FOR + crate::Span::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn the_chord_counts_only_within_its_time() {
        for (first, complete, starts) in
            [(100, 200, true), (9_500, 10_000, true), (9_990, 10_001, false), (-5, 300, false)]
        {
            let mut arming = Arming::default();
            arming.arm(at(0));
            assert_eq!(arming.chord(at(first), at(complete)), starts, "{first} {complete}");
            assert!(!arming.is_armed(at(complete)), "one chord, one restore");
        }
    }

    #[test]
    fn nothing_starts_unarmed() {
        assert!(!Arming::default().chord(at(1), at(2)));
    }
}
