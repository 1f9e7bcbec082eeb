//! What a message's header says, decoded (RFC 2047) for people, and the text of a message.
//!
//! Words are decoded by `mail-parser`; where fields begin and end is found here, since of a hundred thousand headers only
//! a few fields are wanted.

use std::borrow::Cow;

use mail_parser::parsers::MessageStream;
use mail_parser::{HeaderValue, MessageParser};

/// The fields of a header by which people know a message, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// `From:`.
    pub from: String,
    /// `To:`, `Cc:` and `Bcc:`.
    pub to: String,
    /// `Subject:`.
    pub subject: String,
    /// `Date:` as written.
    pub date: String,
    /// `Message-ID:` without its brackets.
    pub message_id: String,
}

impl Head {
    /// Reads the header that `bytes` begins with; what follows it is not looked at.
    pub fn of(bytes: &[u8]) -> Head {
        let mut head = Head::default();
        let mut rest = bytes;
        while let Some((field, after)) = next_field(rest) {
            rest = after;
            let Some(colon) = field.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (field[..colon].trim_ascii_end(), &field[colon + 1..]);
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
            if is("from") {
                add(&mut head.from, &address(value));
            } else if is("to") || is("cc") || is("bcc") {
                add(&mut head.to, &address(value));
            } else if is("subject") && head.subject.is_empty() {
                head.subject = decoded(value);
            } else if is("date") && head.date.is_empty() {
                head.date = decoded(value);
            } else if is("message-id") && head.message_id.is_empty() {
                head.message_id = id(&String::from_utf8_lossy(value));
            }
        }
        head
    }

    /// The same from the envelope that Cyrus keeps.
    pub(crate) fn of_envelope(envelope: &mailkeep_mail::cyrus::cache::Envelope) -> Head {
        Head {
            from: address(envelope.from.as_bytes()),
            to: address(envelope.to.as_bytes()),
            subject: decoded(envelope.subject.as_bytes()),
            date: decoded(envelope.date.as_bytes()),
            message_id: id(&envelope.message_id),
        }
    }
}

/// Takes a message id out of its brackets.
pub(crate) fn id(written: &str) -> String {
    written.trim().trim_start_matches('<').trim_end_matches('>').to_owned()
}

fn add(all: &mut String, more: &str) {
    if !all.is_empty() && !more.is_empty() {
        all.push_str(", ");
    }
    all.push_str(more);
}

/// What tells a message from others of its size: four fields as they are written, white space made one.
pub(crate) fn identity(header: &[u8]) -> [String; 4] {
    let mut found: [String; 4] = Default::default();
    let mut rest = header;
    while let Some((field, after)) = next_field(rest) {
        rest = after;
        let Some(colon) = field.iter().position(|byte| *byte == b':') else { continue };
        let name = field[..colon].trim_ascii_end();
        let names = ["message-id", "date", "from", "subject"];
        if let Some(place) = names.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
            let text = String::from_utf8_lossy(&field[colon + 1..]);
            let words: Vec<&str> = text.split_whitespace().collect();
            found[place].push_str(&words.join(" "));
            found[place].push('\n');
        }
    }
    found
}

/// Where the empty line ends that ends a header.
pub(crate) fn header_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match &bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            rest => at += rest.iter().position(|byte| *byte == b'\n')? + 1,
        }
    }
}

/// A field with the lines that it goes on in, and what follows it; `None` at the end of the header.
fn next_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if matches!(bytes, [] | [b'\n', ..] | [b'\r', b'\n', ..]) {
        return None;
    }
    let mut end = 0;
    loop {
        end += bytes[end..].iter().position(|byte| *byte == b'\n').map_or(bytes.len() - end, |at| at + 1);
        if !matches!(bytes.get(end), Some(b' ' | b'\t')) {
            return Some(bytes.split_at(end));
        }
    }
}

/// A field's value with its encoded words decoded and its white space made one.
fn decoded(value: &[u8]) -> String {
    let text: Cow<'_, str> = if value.windows(2).any(|pair| pair == b"=?") {
        let line = [value.trim_ascii(), b"\n"].concat();
        match MessageStream::new(&line).parse_unstructured() {
            HeaderValue::Text(text) => text.into_owned().into(),
            _ => String::from_utf8_lossy(value).into_owned().into(),
        }
    } else {
        String::from_utf8_lossy(value)
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Addresses without the quotes around names, so that header and envelope say the same.
fn address(value: &[u8]) -> String {
    let text = decoded(value);
    if text.contains(['"', '\\']) {
        text.chars().filter(|letter| !matches!(letter, '"' | '\\')).collect()
    } else {
        text
    }
}

/// Everything in a message that a person can read: its text parts, those of attached messages too.
pub(crate) fn text_of(message: &[u8]) -> String {
    let mut text = String::new();
    let Some(message) = MessageParser::default().parse(message) else {
        return String::from_utf8_lossy(message).into_owned();
    };
    for part in &message.parts {
        match &part.body {
            mail_parser::PartType::Text(body) | mail_parser::PartType::Html(body) => {
                text.push_str(body);
                text.push('\n');
            }
            mail_parser::PartType::Message(inner) => {
                for part in inner.parts.iter().filter_map(mail_parser::MessagePart::text_contents) {
                    text.push_str(part);
                    text.push('\n');
                }
            }
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_decoded_for_people() {
        let head = Head::of(
            b"Return-Path: <x@y>\r\nFrom: =?utf-8?Q?J=C3=B6rg?= \"D. Doe\"\r\n\t<j@x.org>\r\nSUBJECT: =?iso-8859-1?B?RW50d/xyZmU=?=\r\n \
              =?utf-8?Q?_und_mehr?=\r\nTo: a@b.c\r\nCc: d@e.f\r\nMessage-Id:\r\n <1@x>\r\nDate: Mon, 1 Jan 2024\r\n\r\nFrom: body\r\n",
        );
        assert_eq!(head.from, "Jörg D. Doe <j@x.org>");
        assert_eq!(head.subject, "Entwürfe und mehr");
        assert_eq!(head.to, "a@b.c, d@e.f");
        assert_eq!((head.message_id.as_str(), head.date.as_str()), ("1@x", "Mon, 1 Jan 2024"));
    }

    #[test]
    fn headers_and_envelopes_say_the_same() {
        let envelope = mailkeep_mail::cyrus::cache::Envelope {
            subject: "=?utf-8?Q?gr=C3=BCn?=".into(),
            from: "=?utf-8?Q?J=C3=B6rg?= <j@x.org>".into(),
            to: "Doe, \"J\" <a@b.c>, d@e.f".into(),
            message_id: "<1@x>".into(),
            date: "today".into(),
            unsure: false,
        };
        let header = b"From: =?utf-8?Q?J=C3=B6rg?= <j@x.org>\nTo: \"Doe, \\\"J\\\"\" <a@b.c>\nCc: d@e.f\n\
                       Subject:  =?utf-8?Q?gr=C3=BCn?=\nMessage-ID: <1@x>\nDate: today\n\n";
        assert_eq!(Head::of_envelope(&envelope), Head::of(header));
    }

    #[test]
    fn text_is_found_in_every_encoding() {
        let message = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=utf-8\r\n\
            Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BCn\r\n--x\r\nContent-Type: text/plain\r\n\
            Content-Transfer-Encoding: base64\r\n\r\nYmxhdQ==\r\n--x--\r\n";
        let text = text_of(message);
        assert!(text.contains("grün") && text.contains("blau"), "{text}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = (Head::of(&bytes), text_of(&bytes));
            let _ = Head::of(&[b"Subject: =?utf-8?B?".as_slice(), &bytes].concat());
        }

        #[test]
        fn no_header_like_text_makes_it_panic(text in "(From|Subject|To): [=?utf8QBb_ a-f0-9<>\"\\\\\r\n\t]{0,80}") {
            let _ = Head::of(text.as_bytes());
        }
    }
}
