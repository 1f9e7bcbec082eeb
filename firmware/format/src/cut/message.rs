//! Where a mail message falls into pieces: a cheap look at its lines, not a MIME parser.
//!
//! A wrong guess costs space and nothing else. So the look is only at what is certain and quick: the first empty line
//! ends the header (RFC 5322 §2.1); a line that begins with `--` may be a delimiter (RFC 2046 §5.1.1), and if header
//! lines with `Content-Transfer-Encoding: base64` follow it, all up to the next line that begins with `--` is base64,
//! whose alphabet has no `-`.

use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;

use crate::limits;

static DELIMITER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n--"));

/// A piece of a message, from the end of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) end: usize,
    /// It is one base64 part, likely to be met again in other messages.
    pub(super) base64: bool,
}

/// The pieces of a message in order. Ends ascend strictly; the last is the length, unless the message is empty.
pub(super) fn pieces(bytes: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if bytes.len() > limits::MESSAGE_CUT_MIN {
        if let Some(header) = header(bytes, bytes.len()) {
            pieces.push(Piece { end: header.end, base64: false });
            base64_parts(bytes, &header, &mut pieces);
        }
    }
    let last = pieces.last().map_or(0, |piece| piece.end);
    if last < bytes.len() {
        pieces.push(Piece { end: bytes.len(), base64: false });
    }
    // The cut after the header pays only if enough follows it.
    if let [first, second, ..] = pieces[..] {
        if !second.base64 && second.end - first.end < limits::MESSAGE_PIECE_MIN {
            pieces.remove(0);
        }
    }
    pieces
}

/// Appends, for every large base64 part, the piece before it and the part.
fn base64_parts(bytes: &[u8], message_header: &Header, pieces: &mut Vec<Piece>) {
    let mut header = Some(*message_header);
    // The line feed before a delimiter may be the one that ends the header.
    let mut from = message_header.end - 1;
    loop {
        let delimiter = DELIMITER.find(&bytes[from..]).map(|at| from + at + 1);
        if let Some(Header { end: start, base64: true }) = header {
            let end = without_blank_lines(bytes, start, delimiter.unwrap_or(bytes.len()));
            if end - start >= limits::MESSAGE_PART_MIN {
                if pieces.last().is_none_or(|last| last.end < start) {
                    pieces.push(Piece { end: start, base64: false });
                }
                pieces.push(Piece { end, base64: true });
            }
        }
        let Some(delimiter) = delimiter else { return };
        let Some(line_end) = memchr(b'\n', &bytes[delimiter..]) else { return };
        let after = delimiter + line_end + 1;
        header = self::header(&bytes[after..], limits::MESSAGE_PART_HEADER_MAX)
            .map(|header| Header { end: after + header.end, ..header });
        from = header.map_or(after, |header| header.end) - 1;
    }
}

/// Header lines up to and with the empty line that ends them.
#[derive(Clone, Copy)]
struct Header {
    end: usize,
    /// It declares base64.
    base64: bool,
}

/// Reads header lines; `None` if something comes that is none before the empty line, or none comes within `limit`.
fn header(bytes: &[u8], limit: usize) -> Option<Header> {
    let (mut from, mut base64) = (0, false);
    while from < limit {
        let line = &bytes[from..from + memchr(b'\n', &bytes[from..])? + 1];
        from += line.len();
        match line {
            b"\n" | b"\r\n" => return Some(Header { end: from, base64 }),
            [b' ' | b'\t', ..] => {}
            _ => {
                let colon = memchr(b':', line)?;
                base64 |= line[..colon].eq_ignore_ascii_case(b"content-transfer-encoding")
                    && line[colon + 1..].trim_ascii().eq_ignore_ascii_case(b"base64");
            }
        }
    }
    None
}

/// `end` moved back over blank lines, so that a part ends with the line feed of its last line in every message.
fn without_blank_lines(bytes: &[u8], start: usize, end: usize) -> usize {
    let text = bytes[start..end].trim_ascii_end();
    let rest = &bytes[start + text.len()..end];
    start + text.len() + memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cut::{CutStyle, cut};
    use crate::{ContentHash, limits};
    use proptest::prelude::*;

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
        assert!(super::pieces(quoted.as_bytes()).iter().all(|piece| !piece.base64));
    }

    proptest! {
        #[test]
        fn any_bytes_give_pieces_that_fill_them(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("\n--b\n".to_owned()),
                    Just("\r\n\r\n".to_owned()),
                    Just("Content-Transfer-Encoding: base64\n".to_owned()),
                    Just("\n".to_owned()),
                    Just("QUJD\n".repeat(4_000)),
                    "[ -~\r\n]{0,200}",
                ],
                0..40,
            )
        ) {
            let bytes = parts.concat().into_bytes();
            let ends: Vec<usize> = pieces(&bytes).iter().map(|piece| piece.end).collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(ends.last().copied().unwrap_or(0), bytes.len());
            prop_assert_eq!(cut(CutStyle::Message, &bytes).iter().sum::<usize>(), bytes.len());
        }
    }
}
