//! Base64 as mail has it, folded to the bytes that it stands for. Follows FORMAT.md, "Blocks", method 2.
//!
//! A compressor can do no more for base64 than note that each byte of it has six bits to say, at the cost of a Huffman
//! table for each block on the way in and out. Folding does that by a table, takes the line ends away too, and shows the
//! compressor what is really there: an attachment that is compressed already passes through it, one that is not gets as
//! small as the file would.
//!
//! Only whole lines of one length, a multiple of four digits, without padding, are folded: for these there is exactly one
//! way back. What comes before and after stays as it is.

use crate::FormatError;
use crate::codec::{Reader, put_varint};

/// Longest line that is looked for at the start, in bytes: RFC 2045 allows 76, some write more.
const LINE_MAX: usize = 1000;
/// Text is worth folding if it gets shorter by one part in so many at least: with lines of 76 digits it is one in four.
const GAIN: usize = 8;

/// Bytes that tell whether folded text can be made smaller.
const SAMPLE: usize = 4 << 10;

/// Stands for what is no digit; its bits are in none.
const NONE: u32 = 1 << 31;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// What each byte adds to the 24 bits of four digits when it is the first, second, third, fourth of them.
static VALUES: [[u32; 256]; 4] = values();
/// Two digits for each 12 bits.
static PAIRS: [[u8; 2]; 4096] = pairs();

const fn values() -> [[u32; 256]; 4] {
    let mut values = [[NONE; 256]; 4];
    let mut digit = 0;
    while digit < 64 {
        let mut place = 0;
        while place < 4 {
            values[place][DIGITS[digit] as usize] = (digit as u32) << (18 - 6 * place);
            place += 1;
        }
        digit += 1;
    }
    values
}

const fn pairs() -> [[u8; 2]; 4096] {
    let mut pairs = [[0; 2]; 4096];
    let mut bits = 0;
    while bits < 4096 {
        pairs[bits] = [DIGITS[bits >> 6], DIGITS[bits & 63]];
        bits += 1;
    }
    pairs
}

/// How lines end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Lf = 0,
    CrLf = 1,
}

impl Ends {
    fn bytes(self) -> &'static [u8] {
        match self {
            Ends::Lf => b"\n",
            Ends::CrLf => b"\r\n",
        }
    }
}

/// The shape of folded text, told by its first lines.
struct Shape {
    /// Bytes before the first whole line.
    head: usize,
    /// Groups of four digits in a line.
    quads: u8,
    ends: Ends,
}

impl Shape {
    fn of(text: &[u8]) -> Option<Shape> {
        let line_end = |from: usize| {
            let rest = text.get(from..)?;
            let found = rest.iter().take(LINE_MAX).position(|&byte| byte == b'\n')?;
            Some(from + found + 1)
        };
        let first = line_end(0)?;
        let second = line_end(first)?;
        let line = &text[first..second];
        let (digits, ends) = match line {
            [digits @ .., b'\r', b'\n'] => (digits, Ends::CrLf),
            [digits @ .., _] => (digits, Ends::Lf),
            [] => return None,
        };
        let quads = u8::try_from(digits.len() / 4).ok().filter(|&quads| quads > 0)?;
        if digits.len() % 4 != 0 || !is_base64(digits) {
            return None;
        }
        // The first line is whole too, unless the text begins in the middle of it.
        let whole =
            first == line.len() && text[..first].ends_with(ends.bytes()) && is_base64(&text[..digits.len()]);
        Some(Shape { head: if whole { 0 } else { first }, quads, ends })
    }
}

fn is_base64(digits: &[u8]) -> bool {
    digits.iter().all(|&digit| VALUES[0][digit as usize] != NONE)
}

/// Whether text begins as base64 does: a look at two lines.
pub fn begins_as_base64(text: &[u8]) -> bool {
    Shape::of(text).is_some()
}

/// Folds `text` into `folded`, which is overwritten. False, and nothing to rely on in it, if it is not worth it.
pub(crate) fn fold(text: &[u8], folded: &mut Vec<u8>) -> bool {
    folded.clear();
    let Some(Shape { head, quads, ends }) = Shape::of(text) else { return false };
    let (digits, bytes) = (4 * usize::from(quads), 3 * usize::from(quads));
    let stride = digits + ends.bytes().len();
    folded.reserve_exact(text.len());
    put_varint(folded, head as u64);
    folded.extend_from_slice(&text[..head]);
    folded.extend_from_slice(&[quads, ends as u8]);
    // Its place is kept with the most there may be: the count is known at the end only, and is four bytes then.
    let count_at = folded.len();
    folded.extend_from_slice(&[0; 4]);
    let mut out = [0; 3 * u8::MAX as usize];
    let mut lines = 0;
    for line in text[head..].chunks_exact(stride) {
        let (digits, end) = line.split_at(digits);
        if end != ends.bytes() || !fold_line(digits, &mut out[..bytes]) {
            break;
        }
        folded.extend_from_slice(&out[..bytes]);
        lines += 1;
    }
    folded[count_at..count_at + 4].copy_from_slice(&(lines as u32).to_le_bytes());
    folded.extend_from_slice(&text[head + lines * stride..]);
    folded.len() + text.len() / GAIN <= text.len()
}

/// Whether folded text is as good as random, as what is compressed already is: each byte value is about as frequent as any
/// other, in the middle of it.
pub(crate) fn looks_random(folded: &[u8]) -> bool {
    let from = folded.len().saturating_sub(SAMPLE) / 2;
    let sample = &folded[from..folded.len().min(from + SAMPLE)];
    let mut counts = [0u32; 256];
    for &byte in sample {
        counts[usize::from(byte)] += 1;
    }
    // The sum of squares is that of chance, n + n(n-1)/256, where all are alike; words have four times as much and more.
    let squares: u64 = counts.iter().map(|&count| u64::from(count) * u64::from(count)).sum();
    let n = sample.len() as u64;
    squares <= (n + n * n / 256) * 5 / 4
}

/// Four digits to three bytes, all along a line; false if there is something else among them.
fn fold_line(digits: &[u8], out: &mut [u8]) -> bool {
    let mut all = 0;
    for (quad, out) in digits.chunks_exact(4).zip(out.chunks_exact_mut(3)) {
        let bits = VALUES[0][usize::from(quad[0])]
            | VALUES[1][usize::from(quad[1])]
            | VALUES[2][usize::from(quad[2])]
            | VALUES[3][usize::from(quad[3])];
        all |= bits;
        let [_, first, second, third] = bits.to_be_bytes();
        out.copy_from_slice(&[first, second, third]);
    }
    all & NONE == 0
}

/// The text that `folded` stands for, `length` bytes, appended to `text`, which is empty and may have been used before.
///
/// # Errors
/// [`FormatError::Malformed`], [`FormatError::Truncated`] for what [`fold`] does not make of a text of that length.
pub(crate) fn unfold(
    folded: &[u8],
    length: usize,
    text: &mut Vec<u8>,
    what: &'static str,
) -> Result<(), FormatError> {
    let refuse = |why: &str| FormatError::malformed(what, why.to_owned());
    let mut reader = Reader::new(folded);
    let head = reader.varint(what)?;
    let head = usize::try_from(head).ok().filter(|&head| head <= reader.remaining());
    let head = reader.take(head.ok_or(FormatError::Truncated { what })?, what)?;
    let quads = usize::from(reader.byte(what)?);
    let ends = match reader.byte(what)? {
        0 => Ends::Lf,
        1 => Ends::CrLf,
        _ => return Err(refuse("its lines end in an unknown way")),
    };
    let lines = u32::from_le_bytes(reader.array(what)?) as usize;
    let rest = reader.take(reader.remaining(), what)?;
    let bytes = 3 * quads;
    let folded_len = lines.checked_mul(bytes).filter(|&folded_len| quads > 0 && folded_len <= rest.len());
    let (body, tail) = rest.split_at(folded_len.ok_or_else(|| refuse("it has no room for its lines"))?);
    let stride = 4 * quads + ends.bytes().len();
    // Cannot overflow: a line takes at most three times the bytes that stand for it.
    if head.len() + lines * stride + tail.len() != length {
        return Err(refuse("its length is not the declared one"));
    }
    text.reserve_exact(length);
    text.extend_from_slice(head);
    let mut line = [0; 4 * u8::MAX as usize + 2];
    let line = &mut line[..stride];
    line[4 * quads..].copy_from_slice(ends.bytes());
    for bytes in body.chunks_exact(bytes) {
        for (three, quad) in bytes.chunks_exact(3).zip(line.chunks_exact_mut(4)) {
            let bits = usize::from(three[0]) << 16 | usize::from(three[1]) << 8 | usize::from(three[2]);
            quad[..2].copy_from_slice(&PAIRS[bits >> 12]);
            quad[2..].copy_from_slice(&PAIRS[bits & 4095]);
        }
        text.extend_from_slice(line);
    }
    text.extend_from_slice(tail);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded_and_back(text: &[u8]) -> bool {
        let (mut folded, mut back) = (vec![1, 2, 3], Vec::new());
        if !fold(text, &mut folded) {
            return false;
        }
        assert!(folded.len() < text.len());
        unfold(&folded, text.len(), &mut back, "test").unwrap();
        assert!(back == text);
        for length in [0, text.len() - 1, text.len() + 1] {
            assert!(unfold(&folded, length, &mut Vec::new(), "test").is_err());
        }
        for cut in 0..folded.len().min(20) {
            assert!(unfold(&folded[..cut], text.len(), &mut Vec::new(), "test").is_err());
        }
        true
    }

    proptest! {
        #[test]
        fn whatever_is_folded_comes_back(
            quads in 1usize..250,
            ends in prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just("=\n")],
            digits in proptest::collection::vec(0usize..64, 400..4000),
            from in 0usize..300,
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let mut text = Vec::new();
            for line in digits.chunks(4 * quads) {
                text.extend(line.iter().map(|&digit| DIGITS[digit]));
                text.extend_from_slice(ends.as_bytes());
            }
            let text = &mut text[from..];
            for (at, byte) in changes {
                let at = at.index(text.len());
                text[at] = byte;
            }
            folded_and_back(text);
        }

        #[test]
        fn no_bytes_make_it_panic_or_long(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..3], 0..60),
            length in 0usize..300,
        ) {
            let mut text = Vec::new();
            if unfold(&bytes, length, &mut text, "test").is_ok() {
                prop_assert_eq!(text.len(), length);
            }
            folded_and_back(&bytes);
        }
    }

    #[test]
    fn chance_is_told_from_words_and_images() {
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(50_000)
        .collect();
        assert!(looks_random(&noise));
        assert!(!looks_random(&noise.iter().map(|byte| byte & 127).collect::<Vec<u8>>()));
        assert!(!looks_random(&b"words and words".repeat(1_000)) && !looks_random(&[0; 20]));
    }

    #[test]
    fn the_vectors_of_the_rfc() {
        // RFC 4648, section 9, in lines of one and two groups.
        for (text, folded) in [
            (&b"FPuc\nA9l+\n"[..], &b"\0\x01\0\x02\0\0\0\x14\xfb\x9c\x03\xd9\x7e"[..]),
            (b"x\r\nFPucA9l+\r\n!", b"\x03x\r\n\x02\x01\x01\0\0\0\x14\xfb\x9c\x03\xd9\x7e!"),
        ] {
            let mut back = Vec::new();
            unfold(folded, text.len(), &mut back, "test").unwrap();
            assert_eq!(back, text);
            assert!(begins_as_base64(text));
        }
        assert!(
            !begins_as_base64(b"FPuc\nA9l\n")
                && !begins_as_base64(b"FPuc\nA9l=\n")
                && !begins_as_base64(b"\n\n")
        );
    }
}
