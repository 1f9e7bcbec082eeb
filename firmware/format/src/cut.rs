//! Where files are cut into chunks. Not part of the stored format: any cut is valid, a steady one saves space.
//!
//! Small files are one chunk. Large ones are cut by content (FastCDC), so that an insertion moves few cuts. A message is
//! cut where copies of it differ: after its header, and around its large base64 parts (`message`), so that one mail
//! to a thousand people, or an attachment sent on, is stored once.

mod message;

use fastcdc::v2020::{self, MASKS};

use crate::limits;

/// How a file is best cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutStyle {
    /// A mail message: at the end of the header and around large MIME parts.
    Message,
    /// Anything else: by content-defined chunking.
    Plain,
}

/// Cuts a file that is whole in memory. Gives the lengths of its chunks in order; none is 0, their sum is the file's
/// length.
pub fn cut(style: CutStyle, bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::with_capacity(1 + bytes.len() / limits::DATA_CUT.1);
    let (mut cutter, mut from) = (Cutter::new(style), 0);
    while let Some(length) = cutter.next_cut(&bytes[from..], true) {
        lengths.push(length);
        from += length;
    }
    lengths
}

/// Cuts an encoded tree; as [`cut`].
pub fn cut_tree(bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    cut_by_content(bytes, limits::TREE_CUT, &mut lengths);
    lengths
}

/// Length of the next chunk of an encoded tree, given what follows the last cut: `None` if more must be seen first. At
/// most `limits::TREE_CUT.2` (64 KiB) are ever needed. `at_end` says that nothing follows `ahead`.
pub fn next_tree_cut(ahead: &[u8], at_end: bool) -> Option<usize> {
    if ahead.is_empty() || (ahead.len() < limits::TREE_CUT.2 && !at_end) {
        return None;
    }
    Some(first_cut(ahead, limits::TREE_CUT))
}

/// As [`next_tree_cut`], from less: a cut that is found before the end of `ahead` is that whatever follows. What it has
/// looked at is looked at again the next time.
pub fn early_tree_cut(ahead: &[u8]) -> Option<usize> {
    Some(first_cut(ahead, limits::TREE_CUT)).filter(|length| *length < ahead.len())
}

/// Cuts a file of any length as it streams by, at the places where [`cut`] cuts it as a whole. The buffer is the
/// caller's; [`StreamCutter`] is the same with one of its own.
#[derive(Debug)]
pub struct Cutter {
    /// None for a file that is one piece.
    message: Option<message::Scanner>,
    /// The last cut, from the start of the file.
    from: u64,
    /// The current piece has proved to be too long for one chunk.
    by_content: bool,
}

impl Cutter {
    /// A cutter at the start of a file.
    pub fn new(style: CutStyle) -> Self {
        let message = match style {
            CutStyle::Message => Some(message::Scanner::new()),
            CutStyle::Plain => None,
        };
        Cutter { message, from: 0, by_content: false }
    }

    /// Length of the next chunk, given what follows the last cut: `None` if more must be seen first, or if this was all.
    /// What was seen once must be there again, less what was cut off. At most [`limits::CUT_AHEAD_MAX`] bytes are ever
    /// needed. `at_end` says that nothing follows `ahead`.
    pub fn next_cut(&mut self, ahead: &[u8], at_end: bool) -> Option<usize> {
        if let Some(scanner) = &mut self.message {
            scanner.look(ahead, self.from, at_end);
        }
        loop {
            let (known, whole, base64) = self.current_piece(ahead, at_end);
            let one_chunk_max =
                if base64 { limits::MESSAGE_PART_ONE_CHUNK_MAX } else { limits::ONE_CHUNK_MAX };
            self.by_content |= known.len() > one_chunk_max;
            let enough = whole || (self.by_content && known.len() >= limits::DATA_CUT.2);
            if !known.is_empty() {
                let length = match (enough, self.by_content) {
                    (false, _) => return None,
                    (true, false) => known.len(),
                    (true, true) => first_cut(known, limits::DATA_CUT),
                };
                self.from += length as u64;
                return Some(length);
            }
            // This piece is done.
            let scanner = self.message.as_mut()?;
            scanner.first()?;
            scanner.take_first();
            self.by_content = false;
        }
    }

    /// What is known to be of the current piece, whether that is all of it, and whether it is base64.
    fn current_piece<'a>(&self, ahead: &'a [u8], at_end: bool) -> (&'a [u8], bool, bool) {
        let Some(scanner) = &self.message else { return (ahead, at_end, false) };
        let up_to = |place: u64| {
            let length = usize::try_from(place.saturating_sub(self.from)).unwrap_or(usize::MAX);
            &ahead[..length.min(ahead.len())]
        };
        match scanner.first() {
            Some(piece) => (up_to(piece.end), true, piece.base64),
            None if at_end => (ahead, true, scanner.is_in_part()),
            None => (up_to(scanner.sure()), false, scanner.is_in_part()),
        }
    }
}

/// A [`Cutter`] that holds what it needs to see again.
#[derive(Debug)]
pub struct StreamCutter {
    cutter: Cutter,
    ahead: Vec<u8>,
}

impl StreamCutter {
    /// A cutter at the start of a file.
    pub fn new(style: CutStyle) -> Self {
        StreamCutter { cutter: Cutter::new(style), ahead: Vec::new() }
    }

    /// Takes the next bytes and appends the lengths of the chunks that are certain now to `lengths`.
    pub fn push(&mut self, bytes: &[u8], lengths: &mut Vec<usize>) {
        self.ahead.extend_from_slice(bytes);
        self.cut(false, lengths);
    }

    /// The file has ended: appends the lengths of its last chunks to `lengths`.
    pub fn finish(mut self, lengths: &mut Vec<usize>) {
        self.cut(true, lengths);
    }

    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        self.ahead.len()
    }

    fn cut(&mut self, at_end: bool, lengths: &mut Vec<usize>) {
        let mut from = 0;
        while let Some(length) = self.cutter.next_cut(&self.ahead[from..], at_end) {
            lengths.push(length);
            from += length;
        }
        self.ahead.drain(..from);
    }
}

fn cut_by_content(mut bytes: &[u8], sizes: (usize, usize, usize), lengths: &mut Vec<usize>) {
    while !bytes.is_empty() {
        let length = first_cut(bytes, sizes);
        lengths.push(length);
        bytes = &bytes[length..];
    }
}

/// FastCDC 2020, normalization level 1, gear tables of the crate: depends on nothing but the bytes from here on.
fn first_cut(bytes: &[u8], (shortest, usual, longest): (usize, usize, usize)) -> usize {
    let bits = usual.ilog2() as usize;
    let (strict, loose) = (MASKS[bits + 1], MASKS[bits - 1]);
    v2020::cut(bytes, shortest, usual, longest, strict, loose, strict << 1, loose << 1).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn lengths_sum_up_and_keep_to_the_limits() {
        for len in [0, 1, 4096, 65_536, 65_537, 300_000, 2_000_000] {
            for style in [CutStyle::Plain, CutStyle::Message] {
                let bytes = noise(len, 1);
                let lengths = cut(style, &bytes);
                assert_eq!(lengths.iter().sum::<usize>(), len);
                assert!(lengths.iter().all(|&length| length > 0 && length <= limits::DATA_CUT.2));
                assert!(lengths.len() <= 1 || len > limits::ONE_CHUNK_MAX);
                assert!(lengths.len() > 1 || len <= limits::DATA_CUT.2);
            }
        }
    }

    #[test]
    fn a_cut_that_is_found_early_is_the_cut() {
        for seed in 0..40 {
            let bytes = noise(70_000, seed);
            let cut = next_tree_cut(&bytes, true).unwrap();
            for seen in [0, 1, 4095, 4097, cut - 1, cut, cut + 1, cut + 2, 16_384, 65_535] {
                let early = early_tree_cut(&bytes[..seen]);
                assert!(early.is_none_or(|early| early == cut), "{seed}: {early:?} of {seen}, not {cut}");
                assert!(early.is_some() || seen < cut + 2, "{seed}: none in {seen}, it is at {cut}");
            }
        }
    }

    #[test]
    fn a_constant_file_is_cut_at_the_longest_chunk() {
        let lengths = cut(CutStyle::Plain, &vec![0; 1 << 20]);
        assert_eq!(lengths, vec![256 << 10; 4]);
    }

    #[test]
    fn a_stream_is_cut_like_the_whole_however_it_comes() {
        let bytes = noise(3_000_000, 2);
        let whole = cut(CutStyle::Plain, &bytes);
        for step in [1_000, 65_536, 262_144, 1 << 20, 3_000_000] {
            let (mut cutter, mut lengths) = (StreamCutter::new(CutStyle::Plain), Vec::new());
            for piece in bytes.chunks(step) {
                cutter.push(piece, &mut lengths);
            }
            cutter.finish(&mut lengths);
            assert_eq!(lengths, whole, "pushed by {step}");
        }
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let before = noise(4_000_000, 3);
        let mut after = before.clone();
        after.splice(1_500_000..1_500_000, *b"inserted");
        let chunks = |bytes: &[u8], lengths: Vec<usize>| {
            let mut from = 0;
            lengths
                .into_iter()
                .map(|length| {
                    from += length;
                    blake3::hash(&bytes[from - length..from])
                })
                .collect::<std::collections::HashSet<_>>()
        };
        let old = chunks(&before, cut(CutStyle::Plain, &before));
        let new = chunks(&after, cut(CutStyle::Plain, &after));
        assert!(new.difference(&old).count() <= 4, "{} of {}", new.difference(&old).count(), new.len());
        let old = chunks(&before, cut_tree(&before));
        let new = chunks(&after, cut_tree(&after));
        assert!(old.len() > 100 && new.difference(&old).count() <= 4);
    }
}
