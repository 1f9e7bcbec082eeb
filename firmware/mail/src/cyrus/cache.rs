//! Decodes records of cyrus.cache: what Cyrus keeps of each message's header so that it need not open the message.
//! After imap/mailbox.c (`cache_parserecord`) and imap/message.c (`message_write_envelope`).
//!
//! A record is ten items, each `u32 length`, bytes, and zeros up to a multiple of four. Only the first one is wanted
//! here, the envelope as IMAP writes it. It is believed if the index of the same generation names the record's place
//! and the CRC over all ten items.

use crate::error::MailError;
use crate::limits::CACHE_RECORD_BYTES;

/// Items of a record.
const ITEMS: usize = 10;
/// Lists in lists that an envelope has: addresses in a list in the envelope.
const DEPTH: usize = 4;

/// The parts of an envelope that say what a message is, as in its header: not decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `Date:`.
    pub date: String,
    /// `Subject:`.
    pub subject: String,
    /// `From:`, addresses parted by commas.
    pub from: String,
    /// `To:`, `Cc:` and `Bcc:`, addresses parted by commas.
    pub to: String,
    /// `Message-ID:`.
    pub message_id: String,
    /// Cyrus could not make sense of an address: the header itself says more.
    pub unsure: bool,
}

/// Length of the record that `bytes` begins with, `None` if it goes on beyond them.
///
/// # Errors
/// No record is as long as this one claims to be.
pub fn record_length(bytes: &[u8]) -> Result<Option<usize>, MailError> {
    let mut at = 0;
    for _ in 0..ITEMS {
        let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > CACHE_RECORD_BYTES {
            return Err(damaged(at, "an item is too long"));
        }
        at += 4 + length.next_multiple_of(4);
        if at > CACHE_RECORD_BYTES {
            return Err(damaged(at, "a record is too long"));
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// The envelope of a record whose CRC was found right.
///
/// # Errors
/// It is none.
pub fn envelope(record: &[u8]) -> Result<Envelope, MailError> {
    let length = record.first_chunk::<4>().map(|length| u32::from_be_bytes(*length));
    let text = length.and_then(|length| record.get(4..)?.get(..usize::try_from(length).ok()?));
    let mut reader = Reader { text: text.ok_or_else(|| damaged(0, "the record is cut off"))?, at: 0 };
    let Item::List(items) = reader.item(0)? else { return Err(damaged(reader.at, "a list belongs here")) };
    // date subject from sender reply-to to cc bcc in-reply-to message-id
    let text = |index: usize| match items.get(index) {
        Some(Item::Text(text)) => text.clone(),
        _ => String::new(),
    };
    let mut envelope = Envelope {
        date: text(0),
        subject: text(1),
        from: String::new(),
        to: String::new(),
        message_id: text(9),
        unsure: items.len() != 10,
    };
    let mut unsure = false;
    addresses(items.get(2), &mut envelope.from, &mut unsure);
    for index in 5..8 {
        addresses(items.get(index), &mut envelope.to, &mut unsure);
    }
    envelope.unsure |= unsure;
    Ok(envelope)
}

fn damaged(offset: usize, problem: &str) -> MailError {
    MailError::Damaged { what: "cyrus.cache", offset, problem: problem.to_owned() }
}

/// Adds addresses, each `(name route local domain)`, as `name <local@domain>`.
fn addresses(list: Option<&Item>, to: &mut String, unsure: &mut bool) {
    let Some(Item::List(list)) = list else { return };
    for address in list {
        let Item::List(parts) = address else { continue };
        let part = |index: usize| match parts.get(index) {
            Some(Item::Text(text)) => text.as_str(),
            _ => "",
        };
        let (name, local, domain) = (part(0), part(2), part(3));
        // Groups, and what Cyrus puts where it found nothing.
        *unsure |= local.is_empty()
            || domain.is_empty()
            || local.starts_with("MISSING_")
            || domain.starts_with("MISSING_");
        if !to.is_empty() {
            to.push_str(", ");
        }
        if name.is_empty() {
            to.extend([local, "@", domain]);
        } else {
            to.extend([name, " <", local, "@", domain, ">"]);
        }
    }
}

enum Item {
    Nil,
    Text(String),
    List(Vec<Item>),
}

/// Reads IMAP's lists: NIL, "quoted", {n} literals and (lists).
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, problem: &str) -> MailError {
        damaged(self.at, problem)
    }

    fn item(&mut self, depth: usize) -> Result<Item, MailError> {
        if depth > DEPTH {
            return Err(self.wrong("lists are nested too deeply"));
        }
        let rest = &self.text[self.at..];
        match rest.first() {
            Some(b'(') => {
                self.at += 1;
                let mut items = Vec::new();
                loop {
                    match self.text.get(self.at) {
                        Some(b')') => {
                            self.at += 1;
                            return Ok(Item::List(items));
                        }
                        Some(b' ') => self.at += 1,
                        Some(_) => items.push(self.item(depth + 1)?),
                        None => return Err(self.wrong("a list is not closed")),
                    }
                }
            }
            Some(b'"') => self.quoted(),
            Some(b'{') => {
                let line = rest.iter().take(24).position(|byte| *byte == b'\n');
                let line = line.ok_or_else(|| self.wrong("a literal has no length"))?;
                let digits: Vec<u8> = rest[1..line].iter().copied().filter(u8::is_ascii_digit).collect();
                let length =
                    std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse::<usize>().ok());
                let bytes = length.and_then(|length| rest.get(line + 1..)?.get(..length));
                let bytes = bytes.ok_or_else(|| self.wrong("a literal is cut off"))?;
                self.at += line + 1 + bytes.len();
                Ok(Item::Text(text(bytes)))
            }
            Some(_) if rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case(b"NIL")) => {
                self.at += 3;
                Ok(Item::Nil)
            }
            _ => Err(self.wrong("an item belongs here")),
        }
    }

    fn quoted(&mut self) -> Result<Item, MailError> {
        let mut bytes = Vec::new();
        let mut at = self.at + 1;
        loop {
            match self.text.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Item::Text(text(&bytes)));
                }
                Some(b'\\') => {
                    bytes.extend(self.text.get(at + 1));
                    at += 2;
                }
                Some(byte) => {
                    bytes.push(*byte);
                    at += 1;
                }
                None => return Err(self.wrong("a string is not closed")),
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(envelope: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        for item in [envelope, b"", b"ab", b"", b"", b"", b"", b"", b"", b"x"] {
            record.extend((item.len() as u32).to_be_bytes());
            record.extend(item);
            record.resize(record.len().next_multiple_of(4), 0);
        }
        record
    }

    #[test]
    fn an_envelope_says_who_and_what() {
        let text = b"(\"Mon, 1 Jan 2024 10:00:00 +0100\" {5}\r\n\"a\\b) ((\"J. \\\"X\\\" Doe\" NIL \"j\" \"x.org\")) NIL NIL \
                     ((NIL NIL \"a\" \"b.c\")(NIL NIL \"d\" \"e.f\")) ((\"C\" NIL \"c\" \"c.c\")) NIL NIL \"<1@x>\")";
        let record = record(text);
        assert_eq!(record_length(&record).unwrap(), Some(record.len()));
        assert_eq!(record_length(&record[..record.len() - 1]).unwrap(), None);
        let found = envelope(&record).unwrap();
        assert_eq!(found.subject, "\"a\\b)");
        assert_eq!(found.from, "J. \"X\" Doe <j@x.org>");
        assert_eq!(found.to, "a@b.c, d@e.f, C <c@c.c>");
        assert_eq!((found.message_id.as_str(), found.unsure), ("<1@x>", false));
        let group = self::record(b"(NIL NIL ((NIL NIL \"team\" NIL)) NIL NIL NIL NIL NIL NIL NIL)");
        assert!(envelope(&group).unwrap().unsure);
    }

    #[test]
    fn broken_records_are_refused() {
        for bad in [&b"("[..], b"\"x", b"(NIL", b"(\"x", b"{9}\r\nx", b"{x", b"(((((NIL)))))", b"", b")"] {
            assert!(envelope(&record(bad)).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(record_length(&[0xff; 40]).is_err());
        assert!(envelope(&[0, 0, 0, 9, 1]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = (record_length(&bytes), envelope(&bytes), envelope(&record(&bytes)));
        }

        #[test]
        fn no_list_like_text_makes_it_panic(text in "\\([ ()\"{}0-9\\\\NILa\r\n]{0,60}") {
            let _ = envelope(&record(text.as_bytes()));
        }
    }
}
