//! Bytes with several owners: a chunk goes from the file that was read to the pipe, and from the pipe to the block it
//! is stored in, without being copied in between.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::limits::SHARED_WASTE_MAX;

/// A part of a buffer that others may hold parts of too. Never changes.
#[derive(Clone, Default)]
pub struct SharedBytes {
    whole: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl SharedBytes {
    /// A part of a shared buffer; the part of it that is not there is left out.
    pub fn part_of(whole: &Arc<Vec<u8>>, range: Range<usize>) -> Self {
        let end = range.end.min(whole.len());
        SharedBytes { whole: Arc::clone(whole), range: range.start.min(end)..end }
    }

    /// All from `start` on.
    pub fn from_offset(&self, start: usize) -> Self {
        let start = self.range.end.min(self.range.start.saturating_add(start));
        SharedBytes { whole: Arc::clone(&self.whole), range: start..self.range.end }
    }

    /// A part of it; what is not there is left out.
    pub fn part(&self, range: Range<usize>) -> Self {
        let at = |offset: usize| self.range.end.min(self.range.start.saturating_add(offset));
        let start = at(range.start);
        SharedBytes { whole: Arc::clone(&self.whole), range: start..at(range.end).max(start) }
    }

    /// The same bytes, without a large buffer around them that would be kept for their sake.
    pub(crate) fn without_waste(self) -> Self {
        if self.whole.capacity() - self.range.len() > SHARED_WASTE_MAX.max(self.range.len()) {
            return self.to_vec().into();
        }
        self
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.whole.get(self.range.clone()).unwrap_or_default()
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        SharedBytes { whole: Arc::new(bytes), range }
    }
}

impl PartialEq for SharedBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedBytes {}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_they_say_and_never_outside() {
        let whole = Arc::new(vec![1, 2, 3, 4, 5]);
        let part = SharedBytes::part_of(&whole, 1..4);
        assert_eq!(*part, [2, 3, 4]);
        assert_eq!(*part.from_offset(2), [4]);
        assert!(part.from_offset(9).is_empty() && SharedBytes::part_of(&whole, 7..9).is_empty());
        assert_eq!((&*part.part(1..2), &*part.part(1..9), part.part(7..9).len()), (&[3][..], &[3, 4][..], 0));
        assert_eq!(SharedBytes::part_of(&whole, 3..99), SharedBytes::from(vec![4, 5]));
    }

    #[test]
    fn a_small_part_does_not_keep_a_large_buffer() {
        let whole = Arc::new(vec![7; 4 << 20]);
        let small = SharedBytes::part_of(&whole, 5..10).without_waste();
        let large = SharedBytes::part_of(&whole, 0..3 << 20).without_waste();
        assert_eq!((Arc::strong_count(&whole), small.len(), large.len()), (2, 5, 3 << 20));
    }
}
