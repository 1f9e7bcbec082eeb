//! A buffer for large reads, used again from one to the next: nothing is cleared in between, and no page of it is asked
//! of the system twice.

/// What direct reads begin at and are multiples of, in the file and in memory: the largest block of common disks.
pub(super) const ALIGNMENT: usize = 4096;

/// A buffer that grows to the largest piece that was read into it.
#[derive(Debug, Default)]
pub struct Window {
    bytes: Vec<u8>,
}

impl Window {
    /// An empty one; takes no memory yet.
    pub fn new() -> Self {
        Window::default()
    }

    /// `length` bytes, beginning at a multiple of [`ALIGNMENT`] in memory; they hold whatever was there before.
    pub(super) fn of_length(&mut self, length: usize) -> &mut [u8] {
        if self.bytes.len() < length + ALIGNMENT {
            // Anew, so that what is thrown away is not copied first.
            self.bytes = Vec::new();
            self.bytes = vec![0; length + ALIGNMENT];
        }
        let start = self.bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        &mut self.bytes[start..start + length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_and_grows_only() {
        let mut window = Window::new();
        for length in [1, 4096, 100_000, 5, 0] {
            let bytes = window.of_length(length);
            assert_eq!((bytes.len(), bytes.as_ptr().align_offset(ALIGNMENT)), (length, 0));
        }
        assert_eq!(window.bytes.len(), 100_000 + ALIGNMENT);
    }
}
