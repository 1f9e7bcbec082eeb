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

/// Cuts a file that is whole in memory (up to [`limits::WHOLE_FILE_MAX`]; longer ones go through a [`StreamCutter`]).
/// Gives the lengths of its chunks in order; none is 0, their sum is the file's length.
pub fn cut(style: CutStyle, bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::with_capacity(1 + bytes.len() / limits::DATA_CUT.1);
    match style {
        CutStyle::Plain => cut_piece(bytes, limits::ONE_CHUNK_MAX, &mut lengths),
        CutStyle::Message => {
            let mut from = 0;
            for piece in message::pieces(bytes) {
                let one_chunk_max =
                    if piece.base64 { limits::MESSAGE_PART_ONE_CHUNK_MAX } else { limits::ONE_CHUNK_MAX };
                cut_piece(&bytes[from..piece.end], one_chunk_max, &mut lengths);
                from = piece.end;
            }
        }
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

/// Length of the next chunk of a plain stream, given what follows the last cut: `None` if more must be seen first.
///
/// For callers with a buffer of their own; [`StreamCutter`] is the same with its own. At most
/// `limits::DATA_CUT.2` (256 KiB) are ever needed. `at_end` says that nothing follows `ahead`.
pub fn next_cut(ahead: &[u8], at_end: bool) -> Option<usize> {
    if ahead.is_empty() || (ahead.len() < limits::DATA_CUT.2 && !at_end) {
        return None;
    }
    Some(first_cut(ahead, limits::DATA_CUT))
}

/// Cuts a plain file of any length as it streams by, holding at most one chunk and what is pushed.
///
/// The cuts are those of [`cut`] with [`CutStyle::Plain`] for files longer than [`limits::ONE_CHUNK_MAX`], however
/// the pushes are sized.
#[derive(Debug, Default)]
pub struct StreamCutter {
    ahead: Vec<u8>,
}

impl StreamCutter {
    /// A cutter at the start of a file.
    pub fn new() -> Self {
        StreamCutter::default()
    }

    /// Takes the next bytes and appends the lengths of the chunks that are certain now to `lengths`.
    pub fn push(&mut self, bytes: &[u8], lengths: &mut Vec<usize>) {
        self.ahead.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(length) = next_cut(&self.ahead[from..], false) {
            lengths.push(length);
            from += length;
        }
        self.ahead.drain(..from);
    }

    /// The file has ended: appends the lengths of its last chunks to `lengths`.
    pub fn finish(self, lengths: &mut Vec<usize>) {
        cut_by_content(&self.ahead, limits::DATA_CUT, lengths);
    }
}

fn cut_piece(bytes: &[u8], one_chunk_max: usize, lengths: &mut Vec<usize>) {
    if bytes.len() > one_chunk_max {
        cut_by_content(bytes, limits::DATA_CUT, lengths);
    } else if !bytes.is_empty() {
        lengths.push(bytes.len());
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
    fn a_constant_file_is_cut_at_the_longest_chunk() {
        let lengths = cut(CutStyle::Plain, &vec![0; 1 << 20]);
        assert_eq!(lengths, vec![256 << 10; 4]);
    }

    #[test]
    fn a_stream_is_cut_like_the_whole_however_it_comes() {
        let bytes = noise(3_000_000, 2);
        let whole = cut(CutStyle::Plain, &bytes);
        for step in [1_000, 65_536, 262_144, 1 << 20, 3_000_000] {
            let (mut cutter, mut lengths) = (StreamCutter::new(), Vec::new());
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
