//! Base64 as mail has it, folded to the bytes that it stands for. Follows FORMAT.md, "Blocks", method 2.
//!
//! A compressor can do no more for base64 than note that each byte of it has six bits to say, at the cost of a Huffman
//! table for each block on the way in and out. Folding does that without one, takes the line ends away too, and shows the
//! compressor what is really there: an attachment that is compressed already passes through it, one that is not gets as
//! small as the file would.
//!
//! Only whole lines of one length, a multiple of four digits, without padding, are folded: for these there is exactly one
//! way back. What comes before and after stays as it is.

use base64_simd::{AsOut, STANDARD_NO_PAD};

use crate::FormatError;
use crate::codec::{Reader, put_varint};

/// Longest line that is looked for at the start, in bytes: RFC 2045 allows 76, some write more.
const LINE_MAX: usize = 1000;
/// Text is worth folding if it gets shorter by one part in so many at least: with lines of 76 digits it is one in four.
const GAIN: usize = 8;

/// Bytes that tell whether folded text can be made smaller.
const SAMPLE: usize = 4 << 10;

/// Digits that are turned into bytes and back at a time: a few lines together are several times as fast as one after the
/// other, and still lie next to the processor.
const BATCH: usize = 8 << 10;

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
    STANDARD_NO_PAD.check(digits).is_ok()
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
    let mut gathered = [0; BATCH];
    let mut lines = 0;
    'text: for batch in text[head..].chunks(BATCH / digits * stride) {
        let mut whole = 0;
        for (line, digits) in batch.chunks_exact(stride).zip(gathered.chunks_exact_mut(digits)) {
            let (of_line, end) = line.split_at(digits.len());
            if end != ends.bytes() {
                break;
            }
            digits.copy_from_slice(of_line);
            whole += 1;
        }
        let from = folded.len();
        folded.resize(from + whole * bytes, 0);
        let digits_of = |line: usize| &gathered[line * digits..(line + 1) * digits];
        if !decode(&gathered[..whole * digits], &mut folded[from..]) {
            // Up to the line that has something else in it.
            let good = (0..whole).take_while(|&line| is_base64(digits_of(line))).count();
            folded.truncate(from + good * bytes);
            decode(&gathered[..good * digits], &mut folded[from..]);
            lines += good;
            break 'text;
        }
        lines += whole;
        if whole * stride < batch.len() {
            break 'text;
        }
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

/// Four digits to three bytes each; false, and nothing to rely on in `bytes`, if there is something else among them.
fn decode(digits: &[u8], bytes: &mut [u8]) -> bool {
    STANDARD_NO_PAD.decode(digits, bytes.as_out()).is_ok()
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
    let folded = Folded::parse(folded, length, what)?;
    text.reserve_exact(length);
    folded.unfold(|piece| text.extend_from_slice(piece));
    Ok(())
}

/// Whether folded text is turned back into this: what [`unfold`] would give, compared as it comes instead of being kept.
pub(crate) fn unfolds_to(folded: &[u8], text: &[u8], what: &'static str) -> bool {
    let Ok(folded) = Folded::parse(folded, text.len(), what) else { return false };
    let (mut rest, mut same) = (text, true);
    folded.unfold(|piece| match rest.split_at_checked(piece.len()) {
        Some((next, behind)) => {
            same &= next == piece;
            rest = behind;
        }
        None => same = false,
    });
    same && rest.is_empty()
}

/// Folded text, taken apart.
struct Folded<'a> {
    head: &'a [u8],
    quads: usize,
    ends: Ends,
    body: &'a [u8],
    tail: &'a [u8],
}

impl<'a> Folded<'a> {
    /// Takes apart what is to become `length` bytes.
    fn parse(folded: &'a [u8], length: usize, what: &'static str) -> Result<Self, FormatError> {
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
        Ok(Folded { head, quads, ends, body, tail })
    }

    /// Gives the text piece by piece.
    fn unfold(&self, mut put: impl FnMut(&[u8])) {
        let Folded { head, quads, ends, body, tail } = *self;
        put(head);
        let mut digits = [0; BATCH];
        for batch in body.chunks(BATCH / (4 * quads) * 3 * quads) {
            let digits = STANDARD_NO_PAD.encode(batch, digits.as_mut_slice().as_out());
            for line in digits.chunks_exact(4 * quads) {
                put(line);
                put(ends.bytes());
            }
        }
        put(tail);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    /// What FORMAT.md says of a text of this shape, told line by line and digit by digit.
    fn folded_by_hand(text: &[u8]) -> Vec<u8> {
        let Shape { head, quads, ends } = Shape::of(text).unwrap();
        let (mut lines, mut bytes, mut rest) = (0u32, Vec::new(), &text[head..]);
        while let Some((digits, after)) = rest.split_at_checked(4 * usize::from(quads)) {
            let values: Vec<u32> = digits
                .iter()
                .filter_map(|digit| DIGITS.iter().position(|other| other == digit).map(|value| value as u32))
                .collect();
            let Some(after) = after.strip_prefix(ends.bytes()).filter(|_| values.len() == digits.len())
            else {
                break;
            };
            for four in values.chunks(4) {
                let bits = four.iter().fold(0, |bits, value| bits << 6 | value);
                bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
            }
            (lines, rest) = (lines + 1, after);
        }
        let mut folded = Vec::new();
        put_varint(&mut folded, head as u64);
        folded.extend_from_slice(&text[..head]);
        folded.extend_from_slice(&[quads, ends as u8]);
        folded.extend_from_slice(&lines.to_le_bytes());
        folded.extend([&bytes[..], rest].concat());
        folded
    }

    fn folded_and_back(text: &[u8]) -> bool {
        let (mut folded, mut back) = (vec![1, 2, 3], Vec::new());
        if !fold(text, &mut folded) {
            return false;
        }
        assert!(folded.len() < text.len());
        assert!(folded == folded_by_hand(text));
        unfold(&folded, text.len(), &mut back, "test").unwrap();
        assert!(back == text);
        assert!(unfolds_to(&folded, text, "test"));
        // Not to anything else: one byte in another way, one missing, one too many.
        for at in [0, text.len() / 3, text.len() / 2, text.len() - 1] {
            back[at] ^= 1;
            assert!(!unfolds_to(&folded, &back, "test"), "{at}");
            back[at] ^= 1;
        }
        assert!(!unfolds_to(&folded, &back[1..], "test"));
        assert!(!unfolds_to(&folded, &[&back[..], b"\n"].concat(), "test"));
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
            digits in proptest::collection::vec(0usize..64, 400..40_000),
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
    fn of_many_lines_all_up_to_the_first_other_one_are_folded() {
        let text = [&[b'Q'; 76][..], b"\r\n"].concat().repeat(400);
        assert!(folded_and_back(&text));
        for line in (200..400).chain([107, 108, 109]) {
            for at in [0, 75, 76, 77] {
                let mut text = text.clone();
                text[line * 78 + at] = b'-';
                assert_eq!(folded_and_back(&text), line >= 200, "{line}");
            }
        }
        for end in text.len() - 160..text.len() {
            assert!(folded_and_back(&text[..end]));
        }
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
