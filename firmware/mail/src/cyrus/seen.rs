//! What users have read, where that is not in cyrus.index: an entry of a user's seen database. After imap/seen_db.c:
//! `1 lastread lastuid lastchange uids`, the UIDs as IMAP writes sets.

use crate::limits::SEEN_RANGES;

/// What one user has read of one mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Ranges of UIDs, both ends included, ascending.
    ranges: Vec<(u32, u32)>,
}

impl Seen {
    /// Reads the value of an entry; `None` if it is none.
    pub fn parse(value: &[u8]) -> Option<Seen> {
        let mut words = std::str::from_utf8(value).ok()?.split_ascii_whitespace();
        if words.next()? != "1" {
            return None;
        }
        words.next()?.parse::<i64>().ok()?;
        words.next()?.parse::<u32>().ok()?;
        words.next()?.parse::<i64>().ok()?;
        let mut ranges = Vec::new();
        for part in words.next().unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
            let (from, to) = part.split_once(':').unwrap_or((part, part));
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            if from > to
                || ranges.last().is_some_and(|(_, last)| from <= *last)
                || ranges.len() >= SEEN_RANGES
            {
                return None;
            }
            ranges.push((from, to));
        }
        Some(Seen { ranges })
    }

    /// Whether this message was read.
    pub fn contains(&self, uid: u32) -> bool {
        let index = self.ranges.partition_point(|(_, to)| *to < uid);
        self.ranges.get(index).is_some_and(|(from, _)| *from <= uid)
    }

    /// How many messages were read, whether they are still there or not.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|(from, to)| u64::from(to - from) + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_uids() {
        let seen = Seen::parse(b"1 1795384330 12 1795384331 1:4,7,9:12").unwrap();
        let read: Vec<u32> = (0..15).filter(|uid| seen.contains(*uid)).collect();
        assert_eq!(read, [1, 2, 3, 4, 7, 9, 10, 11, 12]);
        assert_eq!(seen.count(), 9);
        assert_eq!(Seen::parse(b"1 0 0 0 ").unwrap().count(), 0);
        for bad in [&b""[..], b"2 0 0 0 1", b"1 0 0", b"1 0 0 0 4:1", b"1 0 0 0 3,2", b"1 0 0 0 x", b"\xff"] {
            assert_eq!(Seen::parse(bad), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(value in "1 [0-9]{1,3} [0-9]{1,3} 0 [0-9:,]{0,40}") {
            if let Some(seen) = Seen::parse(value.as_bytes()) {
                let _ = (seen.count(), seen.contains(5));
            }
        }
    }
}
