//! Reads the entries of Cyrus' small databases: flat text, skiplist and twoskip, told apart by their first bytes.
//!
//! After lib/cyrusdb_flat.c, cyrusdb_skiplist.c and cyrusdb_twoskip.c. Memory is that of the bytes given and of their
//! entries; every place that a file names is checked, and a chain that leads back ends the reading.

use std::collections::BTreeMap;

use crate::error::MailError;
use crate::limits::{DATABASE_BYTES, DATABASE_ENTRIES};

/// Keys with their values, in the order of keys.
pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a file's first bytes say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Lines of `key TAB value`.
    Flat,
    /// The log-structured format up to 2.4.
    Skiplist,
    /// Its successor.
    Twoskip,
}

const SKIPLIST: &[u8] = b"\xa1\x02\x8b\x0dskiplist file\0\0\0";
const TWOSKIP: &[u8] = b"\xa1\x02\x8b\x0dtwoskip file\0\0\0\0";

impl Kind {
    /// The format of a file that begins so.
    pub fn of(bytes: &[u8]) -> Kind {
        if bytes.starts_with(TWOSKIP) {
            Kind::Twoskip
        } else if bytes.starts_with(SKIPLIST) {
            Kind::Skiplist
        } else {
            Kind::Flat
        }
    }
}

/// All entries of a database.
///
/// # Errors
/// Not one of the formats, or damaged; then nothing of it is believed.
pub fn entries(bytes: &[u8]) -> Result<Entries, MailError> {
    if bytes.len() > DATABASE_BYTES {
        return Err(damaged(0, "the file is too large"));
    }
    match Kind::of(bytes) {
        Kind::Flat => flat(bytes),
        Kind::Skiplist => skiplist(bytes),
        Kind::Twoskip => twoskip(bytes),
    }
}

fn damaged(offset: usize, problem: &str) -> MailError {
    MailError::Damaged { what: "a Cyrus database", offset, problem: problem.to_owned() }
}

fn flat(bytes: &[u8]) -> Result<Entries, MailError> {
    let mut entries = Entries::new();
    let mut at = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").ok_or_else(|| damaged(at, "the last line has no end"))?;
        let tab = text.iter().position(|byte| *byte == b'\t');
        let Some(tab) = tab.filter(|tab| *tab > 0) else {
            return Err(damaged(at, "a key and a tabulator belong here"));
        };
        insert(&mut entries, &text[..tab], &text[tab + 1..], at)?;
        at += line.len();
    }
    Ok(entries)
}

fn insert(entries: &mut Entries, key: &[u8], value: &[u8], at: usize) -> Result<(), MailError> {
    if entries.len() >= DATABASE_ENTRIES {
        return Err(damaged(at, "there are too many entries"));
    }
    entries.insert(key.to_vec(), value.to_vec());
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, MailError> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied();
    found.map(u32::from_be_bytes).ok_or_else(|| damaged(at, "the file is cut off"))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, MailError> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).copied();
    found.map(u64::from_be_bytes).ok_or_else(|| damaged(at, "the file is cut off"))
}

/// A place or length in the file, which is checked when it is used.
fn place(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn slice(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], MailError> {
    let end = at.checked_add(length);
    end.and_then(|end| bytes.get(at..end)).ok_or_else(|| damaged(at, "an entry reaches beyond the file"))
}

/// A key and its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// Records in the order of the file: what a checkpoint wrote in the order of keys, then a log of what came and went, which
/// counts as far as it was committed.
fn skiplist(bytes: &[u8]) -> Result<Entries, MailError> {
    const HEADER: usize = 48;
    const LOG_START: usize = 40;
    const INORDER: u32 = 1;
    const ADD: u32 = 2;
    const DELETE: u32 = 4;
    const COMMIT: u32 = 255;
    const DUMMY: u32 = 257;
    let log_start = place(u64::from(u32_at(bytes, LOG_START)?));
    // By the place of the record, since that is what a deletion names.
    let mut live: BTreeMap<usize, Pair<'_>> = BTreeMap::new();
    let mut pending: Vec<(usize, Option<Pair<'_>>)> = Vec::new();
    let mut apply = |(at, change)| match (at, change) {
        (at, Some(_)) if live.len() >= DATABASE_ENTRIES => Err(damaged(at, "there are too many entries")),
        (at, Some(entry)) => {
            live.insert(at, entry);
            Ok(())
        }
        (at, None) => {
            live.remove(&at);
            Ok(())
        }
    };
    let mut at = HEADER;
    while at < bytes.len() {
        match u32_at(bytes, at)? {
            kind @ (INORDER | ADD | DUMMY) => {
                let key_length = place(u64::from(u32_at(bytes, at + 4)?));
                let key = slice(bytes, at + 8, key_length)?;
                let value_at = at + 8 + key_length.next_multiple_of(4);
                let value_length = place(u64::from(u32_at(bytes, value_at)?));
                let value = slice(bytes, value_at + 4, value_length)?;
                let mut end = value_at + 4 + value_length.next_multiple_of(4);
                // Pointers, up to one of all ones.
                while u32_at(bytes, end)? != u32::MAX {
                    end += 4;
                }
                if kind != DUMMY {
                    pending.push((at, Some((key, value))));
                }
                at = end + 4;
            }
            DELETE => {
                pending.push((place(u64::from(u32_at(bytes, at + 4)?)), None));
                at += 8;
            }
            COMMIT => {
                pending.drain(..).try_for_each(&mut apply)?;
                at += 4;
            }
            _ => return Err(damaged(at, "a record of a kind that there is not")),
        }
        // What stands before the log was written as a whole.
        if at <= log_start {
            pending.drain(..).try_for_each(&mut apply)?;
        }
    }
    Ok(live.into_values().map(|(key, value)| (key.to_vec(), value.to_vec())).collect())
}

/// Follows the chain of the lowest level, which each record has two pointers for: the newer one within the committed
/// part counts.
fn twoskip(bytes: &[u8]) -> Result<Entries, MailError> {
    const HEADER: usize = 64;
    let header =
        bytes.get(..HEADER).ok_or_else(|| damaged(bytes.len(), "the file ends inside its header"))?;
    if u32_at(header, 60)? != crc32fast::hash(&header[..60]) {
        return Err(damaged(60, "the header's CRC is wrong"));
    }
    let count = place(u64_at(header, 32)?);
    let end = place(u64_at(header, 48)?);
    let bytes = bytes.get(..end).ok_or_else(|| damaged(48, "the file is shorter than its header says"))?;
    if count > DATABASE_ENTRIES {
        return Err(damaged(32, "there are too many entries"));
    }
    let mut entries = Entries::new();
    let mut record = Record::read(bytes, HEADER)?;
    // Each step is a record, or a deletion and the record behind it.
    for _ in 0..=count {
        let mut next = record.next(end);
        if next == 0 {
            return Ok(entries);
        }
        record = Record::read(bytes, next)?;
        if record.kind == b'-' {
            next = record.first;
            if next == 0 {
                return Ok(entries);
            }
            record = Record::read(bytes, next)?;
        }
        if record.kind != b'+' {
            return Err(damaged(next, "a record belongs here"));
        }
        insert(&mut entries, record.key, record.value, next)?;
    }
    Err(damaged(HEADER, "there are more records than the header says"))
}

/// A record of a twoskip file.
struct Record<'a> {
    kind: u8,
    first: usize,
    second: usize,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Record<'a> {
    fn read(bytes: &'a [u8], start: usize) -> Result<Record<'a>, MailError> {
        let head = slice(bytes, start, 8)?;
        let (kind, level) = (head[0], usize::from(head[1]));
        if level > 31 || !matches!(kind, b'=' | b'+' | b'-') {
            return Err(damaged(start, "this is no record"));
        }
        let mut at = start + 8;
        let mut key_length = u64::from(u16::from_be_bytes([head[2], head[3]]));
        let mut value_length = u64::from(u32_at(head, 4)?);
        if key_length == u64::from(u16::MAX) {
            key_length = u64_at(bytes, at)?;
            at += 8;
        }
        if value_length == u64::from(u32::MAX) {
            value_length = u64_at(bytes, at)?;
            at += 8;
        }
        let first = place(u64_at(bytes, at)?);
        let second = if level > 0 { place(u64_at(bytes, at + 8)?) } else { 0 };
        at += 8 * (level + 1);
        if u32_at(bytes, at)? != crc32fast::hash(slice(bytes, start, at - start)?) {
            return Err(damaged(at, "a record's CRC is wrong"));
        }
        let tail_crc = u32_at(bytes, at + 4)?;
        let (key_length, value_length) = (place(key_length), place(value_length));
        let both = key_length.checked_add(value_length).filter(|both| *both <= bytes.len());
        let both = both.ok_or_else(|| damaged(start, "a record reaches beyond the file"))?;
        let tail = slice(bytes, at + 8, both.next_multiple_of(8))?;
        if both > 0 && tail_crc != crc32fast::hash(tail) {
            return Err(damaged(at + 4, "the CRC of a record's contents is wrong"));
        }
        let (key, value) = (&tail[..key_length], &tail[key_length..both]);
        Ok(Record { kind, first, second, key, value })
    }

    /// Where the next one is; 0 at the end.
    fn next(&self, end: usize) -> usize {
        match (self.first, self.second) {
            (first, second) if first >= end => second,
            (first, second) if second >= end => first,
            (first, second) => first.max(second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(bytes: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        entries(bytes).unwrap().into_iter().map(|(key, value)| (text(key), text(value))).collect()
    }

    fn owned(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn lines_are_keys_and_values() {
        assert_eq!(pairs(b"a\t1 2\nb\t\n"), owned(&[("a", "1 2"), ("b", "")]));
        assert_eq!(pairs(b""), []);
        for bad in [&b"a\t1"[..], b"a\n", b"\tx\n"] {
            assert!(entries(bad).is_err());
        }
    }

    /// Records as lib/cyrusdb_skiplist.c writes them.
    struct Skiplist(Vec<u8>);

    impl Skiplist {
        fn new(log_start: u32) -> Self {
            let mut bytes = SKIPLIST.to_vec();
            for word in [1, 2, 20, 1, 0, log_start, 0] {
                bytes.extend(u32::to_be_bytes(word));
            }
            Skiplist(bytes)
        }

        fn word(&mut self, word: u32) -> &mut Self {
            self.0.extend(word.to_be_bytes());
            self
        }

        fn record(&mut self, kind: u32, key: &str, value: &str) -> u32 {
            let at = self.0.len() as u32;
            self.word(kind);
            for text in [key, value] {
                self.word(text.len() as u32);
                self.0.extend(text.as_bytes());
                self.0.resize(self.0.len().next_multiple_of(4), 0);
            }
            self.word(7).word(u32::MAX);
            at
        }
    }

    #[test]
    fn a_skiplist_is_its_checkpoint_and_what_was_committed_since() {
        let mut file = Skiplist::new(0);
        file.record(257, "", "");
        let first = file.record(1, "alpha", "one");
        file.record(1, "beta", "two");
        let log_start = file.0.len() as u32;
        file.0[40..44].copy_from_slice(&log_start.to_be_bytes());
        file.word(4).word(first);
        file.record(2, "alpha", "new");
        file.word(255);
        file.record(2, "gamma", "not committed");
        assert_eq!(pairs(&file.0), owned(&[("alpha", "new"), ("beta", "two")]));
        file.0.truncate(file.0.len() - 1);
        assert!(entries(&file.0).is_err());
    }

    #[test]
    fn a_twoskip_file_of_a_real_server() {
        let bytes = include_bytes!("../../tests/data/cyrus-3.6.1/seen.db");
        let found = pairs(bytes);
        assert!(!found.is_empty() && found.iter().all(|(_, value)| value.starts_with("1 ")), "{found:?}");
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x20;
            let _ = entries(&changed);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = entries(&bytes);
            let _ = entries(&[SKIPLIST, &bytes].concat());
            let mut header = TWOSKIP.to_vec();
            header.resize(60, 0);
            header[32..40].copy_from_slice(&9u64.to_be_bytes());
            header[48..56].copy_from_slice(&(64 + bytes.len() as u64).to_be_bytes());
            let crc = crc32fast::hash(&header);
            header.extend(crc.to_be_bytes());
            let _ = entries(&[&header[..], &bytes].concat());
        }
    }
}
