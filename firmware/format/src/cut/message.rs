//! Where a mail message falls into pieces: a cheap look at its lines, not a MIME parser.
//!
//! A wrong guess costs space and nothing else. So the look is only at what is certain and quick: the first empty line
//! ends the header (RFC 5322 §2.1); a line that begins with `--` may be a delimiter (RFC 2046 §5.1.1), and if header
//! lines with `Content-Transfer-Encoding: base64` follow it, all up to the next line that begins with `--` is base64,
//! whose alphabet has no `-`.
//!
//! A [`Scanner`] looks at a message as it streams by, and never needs to see more of what lies before the place that it
//! has told to be [`Scanner::sure`]. What it finds does not depend on how the message comes.

use std::collections::VecDeque;
use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;

use crate::limits;

static DELIMITER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n--"));

/// A piece of a message, from the end of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Counted from the start of the message.
    pub(super) end: u64,
    /// It is one base64 part, likely to be met again in other messages.
    pub(super) base64: bool,
}

/// What is looked for next.
#[derive(Clone, Copy, Debug)]
enum Looking {
    /// More than a small message.
    More,
    /// The end of the message's header.
    Header,
    /// A delimiter; the base64 part that it would end begins at `part`.
    Delimiter { part: Option<u64> },
    /// The end of the delimiter's line.
    LineEnd,
    /// The end of the header of the part that begins here.
    PartHeader(u64),
    /// Nothing more.
    Nothing,
}

/// Finds the pieces of one message. Places are counted from its start.
#[derive(Debug)]
pub(super) struct Scanner {
    looking: Looking,
    /// Looked at up to here.
    at: u64,
    /// Pieces that are certain and not taken.
    pieces: VecDeque<Piece>,
    /// Where the last certain piece ended.
    last: u64,
    /// The end of the header, while it is not certain that enough follows it.
    header: Option<u64>,
    /// The base64 part that is under way is large enough, and in `pieces` up to its beginning.
    in_part: bool,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Scanner {
            looking: Looking::More,
            at: 0,
            pieces: VecDeque::new(),
            last: 0,
            header: None,
            in_part: false,
        }
    }

    /// The next piece that is certain.
    pub(super) fn first(&self) -> Option<Piece> {
        self.pieces.front().copied()
    }

    /// Goes on to the piece after it.
    pub(super) fn take_first(&mut self) {
        self.pieces.pop_front();
    }

    /// The piece after all certain ones is base64.
    pub(super) fn is_in_part(&self) -> bool {
        self.in_part
    }

    /// No piece ends before this place that is not certain already.
    pub(super) fn sure(&self) -> u64 {
        let sure = match self.looking {
            Looking::More | Looking::Header => 0,
            Looking::Delimiter { part: Some(_) } if self.in_part => self.at.saturating_sub(BEHIND),
            Looking::Delimiter { part: Some(start) } => start.min(self.at),
            Looking::Nothing => u64::MAX,
            _ => self.at,
        };
        self.header.map_or(sure, |header| header.min(sure))
    }

    /// Looks at `ahead`, which begins at the place `from` of the message, not behind [`Scanner::sure`], and never ends
    /// before what was seen already. `at_end`: nothing follows it.
    pub(super) fn look(&mut self, ahead: &[u8], from: u64, at_end: bool) {
        let length = from + ahead.len() as u64;
        let rest = |place: u64| ahead.get((place - from) as usize..).unwrap_or_default();
        loop {
            match self.looking {
                Looking::More if length > limits::MESSAGE_CUT_MIN as u64 => {
                    self.looking = Looking::Header;
                }
                Looking::More if at_end => self.looking = Looking::Nothing,
                Looking::More => return,
                Looking::Header => match header(rest(0), limits::MESSAGE_HEADER_MAX, at_end) {
                    Lines::Header(Header { end, base64 }) => {
                        let end = end as u64;
                        self.header = Some(end);
                        self.looking = Looking::Delimiter { part: base64.then_some(end) };
                        // The line feed before a delimiter may be the one that ends the header.
                        self.at = end - 1;
                    }
                    Lines::More => return,
                    Lines::Other => self.looking = Looking::Nothing,
                },
                Looking::Delimiter { part } => {
                    let found = DELIMITER.find(rest(self.at)).map(|at| self.at + at as u64 + 1);
                    self.at = found.unwrap_or(self.at.max(length.saturating_sub(2)));
                    if let Some(start) = part {
                        self.go_on_in_part(start);
                    }
                    self.settle_header();
                    if found.is_none() && !at_end {
                        return;
                    }
                    if let Some(start) = part {
                        let end = found.unwrap_or(length);
                        let end = start.max(without_blank_lines(ahead, from, start, end));
                        self.end_part(start, end);
                    }
                    self.looking = if found.is_some() { Looking::LineEnd } else { Looking::Nothing };
                }
                Looking::LineEnd => match memchr(b'\n', rest(self.at)) {
                    Some(at) => {
                        self.at += at as u64;
                        self.looking = Looking::PartHeader(self.at + 1);
                    }
                    None if at_end => self.looking = Looking::Nothing,
                    None => {
                        self.at = length;
                        self.settle_header();
                        return;
                    }
                },
                Looking::PartHeader(start) => {
                    self.settle_header();
                    let part = match header(rest(start), limits::MESSAGE_PART_HEADER_MAX, at_end) {
                        Lines::Header(Header { end, base64 }) => {
                            let end = start + end as u64;
                            self.at = end - 1;
                            base64.then_some(end)
                        }
                        Lines::More => return,
                        Lines::Other => None,
                    };
                    self.looking = Looking::Delimiter { part };
                }
                Looking::Nothing => {
                    if at_end {
                        self.settle_header_before(length);
                    }
                    return;
                }
            }
        }
    }

    /// A part that is known to be large enough is under way.
    fn go_on_in_part(&mut self, start: u64) {
        if !self.in_part && self.at >= start + limits::MESSAGE_PART_MIN as u64 + BEHIND {
            self.begin_part(start);
        }
    }

    fn begin_part(&mut self, start: u64) {
        self.settle_header_before(start);
        if self.last < start {
            self.push(Piece { end: start, base64: false });
        }
        self.in_part = true;
    }

    fn end_part(&mut self, start: u64, end: u64) {
        if end - start >= limits::MESSAGE_PART_MIN as u64 {
            if !self.in_part {
                self.begin_part(start);
            }
            self.push(Piece { end, base64: true });
        }
        self.in_part = false;
    }

    /// The cut after the header pays only if enough follows it: as text up to `end`, or a part that begins there.
    fn settle_header_before(&mut self, end: u64) {
        if let Some(header) = self.header.take() {
            if header == end || header + limits::MESSAGE_PIECE_MIN as u64 <= end {
                self.push(Piece { end: header, base64: false });
            }
        }
    }

    fn settle_header(&mut self) {
        let Some(header) = self.header else { return };
        let up_to = match self.looking {
            Looking::Delimiter { part: Some(start) } => start.min(self.at),
            _ => self.at,
        };
        if up_to >= header + limits::MESSAGE_PIECE_MIN as u64 {
            self.settle_header_before(up_to);
        }
    }

    fn push(&mut self, piece: Piece) {
        self.last = piece.end;
        self.pieces.push_back(piece);
    }
}

/// Bytes before a place that are still looked at from there: blank lines, and the line feed and dashes of a delimiter.
const BEHIND: u64 = limits::MESSAGE_BLANK_MAX as u64 + 4;

/// Header lines up to and with the empty line that ends them.
#[derive(Clone, Copy)]
struct Header {
    end: usize,
    /// It declares base64.
    base64: bool,
}

/// What header lines came to.
enum Lines {
    Header(Header),
    /// The end is not to be seen yet.
    More,
    /// There are other lines than a header has, or it is too long.
    Other,
}

/// Reads the header lines at the beginning of `bytes`, which have to end within `limit`.
fn header(bytes: &[u8], limit: usize, at_end: bool) -> Lines {
    let seen = &bytes[..bytes.len().min(limit)];
    let (mut from, mut base64) = (0, false);
    loop {
        let Some(length) = memchr(b'\n', &seen[from..]) else {
            return if at_end || bytes.len() >= limit { Lines::Other } else { Lines::More };
        };
        let line = &seen[from..=from + length];
        from += line.len();
        match line {
            b"\n" | b"\r\n" => return Lines::Header(Header { end: from, base64 }),
            [b' ' | b'\t', ..] => {}
            _ => {
                let Some(colon) = memchr(b':', line) else { return Lines::Other };
                base64 |= line[..colon].eq_ignore_ascii_case(b"content-transfer-encoding")
                    && line[colon + 1..].trim_ascii().eq_ignore_ascii_case(b"base64");
            }
        }
    }
}

/// `end` moved back over blank lines, so that a part ends with the line feed of its last line in every message. `ahead`
/// begins at the place `from`.
fn without_blank_lines(ahead: &[u8], from: u64, start: u64, end: u64) -> u64 {
    let behind = start.max(end.saturating_sub(limits::MESSAGE_BLANK_MAX as u64));
    let Some(bytes) = ahead.get((behind - from) as usize..(end - from) as usize) else { return end };
    let text = bytes.trim_ascii_end().len();
    let blank = &bytes[text..];
    behind + (text + memchr(b'\n', blank).map_or(blank.len(), |at| at + 1)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cut::{CutStyle, StreamCutter, cut};
    use crate::{ContentHash, limits};
    use proptest::prelude::*;

    /// The pieces of a message that is whole.
    fn pieces(bytes: &[u8]) -> Vec<Piece> {
        let mut scanner = Scanner::new();
        scanner.look(bytes, 0, true);
        let mut pieces: Vec<Piece> = scanner.pieces.into();
        if pieces.last().map_or(0, |piece| piece.end) < bytes.len() as u64 {
            pieces.push(Piece { end: bytes.len() as u64, base64: false });
        }
        pieces
    }

    /// The same, told by somebody who has all in sight at once.
    fn pieces_by_hand(bytes: &[u8]) -> Vec<Piece> {
        let find = |from: usize| DELIMITER.find(&bytes[from..]).map(|at| from + at + 1);
        let found = |from: usize, limit: usize| match header(&bytes[from..], limit, true) {
            Lines::Header(header) => Some(Header { end: from + header.end, ..header }),
            _ => None,
        };
        let piece = |end: usize, base64: bool| Piece { end: end as u64, base64 };
        let mut pieces: Vec<Piece> = Vec::new();
        if bytes.len() > limits::MESSAGE_CUT_MIN {
            if let Some(first) = found(0, limits::MESSAGE_HEADER_MAX) {
                pieces.push(piece(first.end, false));
                let (mut header, mut from) = (Some(first), first.end - 1);
                loop {
                    let delimiter = find(from);
                    if let Some(Header { end: start, base64: true }) = header {
                        let end = delimiter.unwrap_or(bytes.len()) as u64;
                        let end = without_blank_lines(bytes, 0, start as u64, end).max(start as u64);
                        if end - start as u64 >= limits::MESSAGE_PART_MIN as u64 {
                            if pieces.last().unwrap().end < start as u64 {
                                pieces.push(piece(start, false));
                            }
                            pieces.push(Piece { end, base64: true });
                        }
                    }
                    let Some(delimiter) = delimiter else { break };
                    let Some(line_end) = memchr(b'\n', &bytes[delimiter..]) else { break };
                    let after = delimiter + line_end + 1;
                    header = found(after, limits::MESSAGE_PART_HEADER_MAX);
                    from = header.map_or(after, |header| header.end) - 1;
                }
            }
        }
        if pieces.last().map_or(0, |piece| piece.end) < bytes.len() as u64 {
            pieces.push(piece(bytes.len(), false));
        }
        if let [first, second, ..] = pieces[..] {
            if !second.base64 && second.end - first.end < limits::MESSAGE_PIECE_MIN as u64 {
                pieces.remove(0);
            }
        }
        pieces
    }

    /// Cut as it comes in steps of these lengths, over and over.
    fn cut_in_steps(bytes: &[u8], steps: &[usize]) -> Vec<usize> {
        let (mut cutter, mut lengths) = (StreamCutter::new(CutStyle::Message), Vec::new());
        let (mut rest, mut steps) = (bytes, steps.iter().cycle());
        while !rest.is_empty() {
            let (step, after) = rest.split_at(rest.len().min(*steps.next().unwrap()));
            cutter.push(step, &mut lengths);
            assert!(cutter.held() <= limits::CUT_AHEAD_MAX, "{} bytes held", cutter.held());
            rest = after;
        }
        cutter.finish(&mut lengths);
        lengths
    }

    fn attachment(len: usize, line_end: &str) -> String {
        let mut noise = vec![0u8; len];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let letters: Vec<u8> = noise.iter().map(|byte| alphabet[usize::from(byte & 63)]).collect();
        letters.chunks(76).map(|line| String::from_utf8_lossy(line).into_owned() + line_end).collect()
    }

    fn mail(who: &str, boundary: &str, text: &str, part: &str, end: &str) -> Vec<u8> {
        format!(
            "Received: from {who}\nSubject: {who}\nContent-Type: multipart/mixed; boundary=\"{boundary}\"\n\n\
             --{boundary}\nContent-Type: text/plain\n\n{text}\n\n--{boundary}\nContent-Type: image/png;\n name=x\n\
             content-transfer-Encoding:  BASE64 \n\n"
        )
        .replace('\n', end)
        .into_bytes()
        .into_iter()
        .chain(part.bytes())
        .chain(format!("\n--{boundary}--\n").replace('\n', end).into_bytes())
        .collect()
    }

    fn chunks(mail: &[u8]) -> Vec<(ContentHash, usize)> {
        let mut from = 0;
        cut(CutStyle::Message, mail)
            .into_iter()
            .map(|length| {
                from += length;
                (ContentHash::of(&mail[from - length..from]), length)
            })
            .collect()
    }

    #[test]
    fn the_same_attachment_in_two_mails_is_stored_once() {
        for end in ["\n", "\r\n"] {
            for len in [20_000, 200_000, 1_000_000] {
                let part = attachment(len, end);
                let one = chunks(&mail("anna", "=_b1", "Here it is.", &part, end));
                let long_text = "And here it is again, with much more to say. ".repeat(300);
                let two = chunks(&mail("a much longer name", "----=_Part_77", &long_text, &part, end));
                let shared: usize =
                    two.iter().filter(|chunk| one.contains(chunk)).map(|&(_, length)| length).sum();
                assert!(shared * 100 >= part.len() * 99, "{shared} of {}", part.len());
            }
        }
    }

    #[test]
    fn a_mail_that_differs_only_in_its_header_shares_its_body() {
        let body = "A newsletter for everybody.\r\n".repeat(400);
        let one = chunks(format!("To: a\r\n\r\n{body}").as_bytes());
        let two = chunks(format!("To: b\r\nX: y\r\n\r\n{body}").as_bytes());
        assert_eq!((one.len(), one[1]), (2, two[1]));
    }

    #[test]
    fn a_mail_that_is_base64_as_a_whole_shares_with_one_that_carries_it() {
        let part = attachment(100_000, "\r\n");
        let whole = chunks(format!("To: a\r\nContent-Transfer-Encoding: base64\r\n\r\n{part}").as_bytes());
        let carried = chunks(&mail("b", "=_b", "See below.", &part, "\r\n"));
        assert!(carried.contains(&whole[1]) && whole[1].1 == part.len());
    }

    #[test]
    fn small_mails_and_short_bodies_are_one_chunk() {
        assert_eq!(cut(CutStyle::Message, b"To: a\n\nhello\n").len(), 1);
        let long_header = format!("To: {}\n\nshort", "x".repeat(limits::MESSAGE_CUT_MIN));
        assert_eq!(cut(CutStyle::Message, long_header.as_bytes()).len(), 1);
    }

    #[test]
    fn text_that_only_looks_like_mime_is_left_alone() {
        let text = format!("To: a\n\nHi\n-- \nsignature\n--\n\n--x\nno header\n{}\n", "y\n".repeat(40_000));
        let pieces = pieces(text.as_bytes());
        assert!(pieces.iter().all(|piece| !piece.base64));
        let quoted = mail("a", "b", "t", &"z".repeat(30_000), "\n");
        let quoted = String::from_utf8(quoted).unwrap().replace("BASE64", "quoted-printable");
        assert!(self::pieces(quoted.as_bytes()).iter().all(|piece| !piece.base64));
    }

    /// An attachment of 20 MiB in two mails: far more than is ever held.
    #[test]
    fn an_attachment_sent_on_is_shared_whatever_its_size() {
        let part = attachment(20 << 20, "\r\n");
        let one = mail("anna", "=_b1", "Here it is.", &part, "\r\n");
        let text = "And here it is again, with much more to say. ".repeat(3000);
        let two = mail("a much longer name", "----=_Part_77", &text, &part, "\r\n");
        let mut seen = std::collections::HashSet::new();
        let mut chunks = |mail: &[u8]| {
            let (mut from, mut new) = (0, 0);
            for length in cut_in_steps(mail, &[1 << 20]) {
                if seen.insert(ContentHash::of(&mail[from..from + length])) {
                    new += length;
                }
                from += length;
            }
            (from, new)
        };
        assert_eq!(chunks(&one).0, one.len());
        let (length, new) = chunks(&two);
        assert_eq!(length, two.len());
        assert_eq!(new, two.len() - part.len(), "the part costs nothing the second time");
    }

    #[test]
    fn a_header_without_end_and_blanks_without_end_are_not_waited_for() {
        let long = format!("To: {}", "x, ".repeat(300_000));
        assert_eq!(cut_in_steps(long.as_bytes(), &[1000]), cut(CutStyle::Message, long.as_bytes()));
        let part = attachment(100_000, "\n");
        let blank = mail("a", "b", "t", &(part + &"\n".repeat(3_000_000)), "\n");
        assert_eq!(cut_in_steps(&blank, &[5000]), cut(CutStyle::Message, &blank));
        let dashes = format!("To: a\n\n{}", "--".repeat(2_000_000));
        assert_eq!(cut_in_steps(dashes.as_bytes(), &[4096]), cut(CutStyle::Message, dashes.as_bytes()));
    }

    /// A cut by content that is certain all but for the delimiter that comes a moment later.
    #[test]
    fn a_part_is_not_cut_where_it_may_turn_out_to_have_ended() {
        let long = mail("a", "b", "t", &(attachment(600_000, "\n") + &"\n".repeat(1_000_000)), "\n");
        let mut ends = cut(CutStyle::Message, &long).into_iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        let place = ends
            .find(|&end| long[end.saturating_sub(limits::DATA_CUT.2)..end].iter().all(|&byte| byte == b'\n'));
        let place = place.unwrap();
        for blanks in [1, 100, limits::MESSAGE_BLANK_MAX - 1, limits::MESSAGE_BLANK_MAX, 5000] {
            let mut bytes = long[..place + blanks].to_vec();
            bytes.extend_from_slice(b"\n--b--\nand so on\n");
            for first in [place, place + 1, place + 2, place + 3, place + blanks + 2] {
                let lengths = cut_in_steps(&bytes, &[first, bytes.len()]);
                assert_eq!(lengths, cut(CutStyle::Message, &bytes), "{blanks} blanks, {first} bytes first");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_cut_alike_however_they_come(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("\n--b\n".to_owned()),
                    Just("\r\n\r\n".to_owned()),
                    Just("Content-Transfer-Encoding: base64\n".to_owned()),
                    Just("\n".to_owned()),
                    Just("QUJD\n".repeat(4_000)),
                    Just("QUJD\n".repeat(3_276)),
                    (1usize..800_000).prop_map(|length| attachment(length, "\r\n")),
                    (900usize..1200).prop_map(|length| " \n".repeat(length / 2)),
                    (4000usize..5000).prop_map(|length| "text ".repeat(length / 5)),
                    "[ -~\r\n]{0,200}",
                ],
                0..40,
            ),
            steps in proptest::collection::vec(
                prop_oneof![1usize..40, 100usize..70_000, Just(1usize << 20)],
                1..6,
            ),
        ) {
            let bytes = parts.concat().into_bytes();
            let pieces = pieces(&bytes);
            prop_assert!(pieces.windows(2).all(|pair| pair[0].end < pair[1].end));
            prop_assert_eq!(pieces.last().map_or(0, |piece| piece.end), bytes.len() as u64);
            prop_assert_eq!(&pieces, &pieces_by_hand(&bytes));
            let whole = cut(CutStyle::Message, &bytes);
            prop_assert_eq!(whole.iter().sum::<usize>(), bytes.len());
            prop_assert!(whole.iter().all(|&length| length > 0));
            // Steps of a few bytes through all of a large mail would take too long.
            let bytes_a_step = steps.iter().sum::<usize>() / steps.len();
            if bytes.len() / bytes_a_step.max(1) < 20_000 {
                prop_assert_eq!(cut_in_steps(&bytes, &steps), whole);
            }
        }
    }
}
