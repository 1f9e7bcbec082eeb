//! What lies in a folder of the server: which messages, and with which flags.
//!
//! Two messages are the same if they have the same SHA-1, where the server tells it (Cyrus: `DIGEST.SHA1`); else if they
//! have the same size and the same Message-ID, Date, From and Subject, to the letter. Messages that are the same are told
//! apart by their number: each is found once.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use super::client::{Client, quoted};
use super::error::ImapError;
use super::names::Folder;
use crate::mime::identity;

/// Flags, without `\Recent`.
pub(super) type Flags = BTreeSet<String>;

/// A message that is in the folder.
#[derive(Debug, Clone)]
pub(super) struct There {
    pub(super) uid: u32,
    /// Few sets stand for many messages.
    pub(super) flags: Arc<Flags>,
}

/// What messages are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Digest([u8; 20]),
    /// Size, and two keyed hashes of the identity, so that nobody can write a message that is taken for another one.
    Header(u64, u64, u64),
}

/// The folder.
pub(super) struct Present {
    hashers: [RandomState; 2],
    /// The server tells digests.
    pub(super) has_digests: bool,
    /// The last one of each first.
    there: HashMap<Key, Vec<There>>,
}

impl Present {
    /// A folder in which nothing is.
    pub(super) fn empty(client: &Client) -> Present {
        Present {
            hashers: [RandomState::new(), RandomState::new()],
            has_digests: client.can("DIGEST=SHA1"),
            there: HashMap::new(),
        }
    }

    /// Opens the folder (only to look, with `dry`) and reads what is in it; `None` if it is not there.
    pub(super) fn of(client: &mut Client, folder: &Folder, dry: bool) -> Result<Option<Present>, ImapError> {
        let name = quoted(&folder.name);
        if !is_there(client, &name)? {
            return Ok(None);
        }
        let mut present = Present::empty(client);
        let mut exists = false;
        let verb = if dry { "EXAMINE" } else { "SELECT" };
        client.run(&format!("{verb} {name}"), &format!("open {}", folder.shown), &mut |answer| {
            exists |= answer.ends_with(b" EXISTS\r\n") && !answer.starts_with(b"* 0 ");
            Ok(())
        })?;
        if !exists {
            return Ok(Some(present));
        }
        let told = match present.has_digests {
            true => "DIGEST.SHA1",
            false => "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE FROM SUBJECT)]",
        };
        let mut sets: HashSet<Arc<Flags>> = HashSet::new();
        client.run(
            &format!("UID FETCH 1:* (UID FLAGS RFC822.SIZE {told})"),
            "list the folder",
            &mut |answer| {
                let Some(fetched) = fetched(answer) else { return Ok(()) };
                let key = match fetched.digest {
                    Some(digest) if present.has_digests => Key::Digest(digest),
                    _ => present.key_of_header(fetched.size, fetched.header),
                };
                let flags = match sets.get(&fetched.flags) {
                    Some(known) => Arc::clone(known),
                    None => {
                        let new = Arc::new(fetched.flags);
                        sets.insert(Arc::clone(&new));
                        new
                    }
                };
                present.there.entry(key).or_default().push(There { uid: fetched.uid, flags });
                Ok(())
            },
        )?;
        for same in present.there.values_mut() {
            // Taken from the end: in the order of UIDs, as a mailbox of a snapshot is gone through.
            same.sort_by_key(|there| std::cmp::Reverse(there.uid));
        }
        Ok(Some(present))
    }

    /// What tells a message whose header is `header` from others.
    pub(super) fn key_of_header(&self, size: u64, header: &[u8]) -> Key {
        let identity = identity(header);
        let [one, other] = &self.hashers;
        Key::Header(size, one.hash_one(&identity), other.hash_one(&identity))
    }

    /// Takes a message out that is the same.
    pub(super) fn take(&mut self, key: &Key) -> Option<There> {
        self.there.get_mut(key)?.pop()
    }
}

fn is_there(client: &mut Client, name: &str) -> Result<bool, ImapError> {
    let mut found = false;
    // As a name and not as a pattern: STATUS knows none.
    let asked = client.run(&format!("STATUS {name} (MESSAGES)"), "look for the folder", &mut |answer| {
        found |= answer.starts_with(b"* STATUS");
        Ok(())
    });
    match asked {
        Ok(()) => Ok(found),
        Err(ImapError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What one answer to that FETCH says.
struct Fetched<'a> {
    uid: u32,
    size: u64,
    flags: Flags,
    digest: Option<[u8; 20]>,
    header: &'a [u8],
}

/// Takes an answer to that FETCH apart; `None` for any other.
fn fetched(answer: &[u8]) -> Option<Fetched<'_>> {
    let line = answer.windows(2).position(|pair| pair == b"\r\n")?;
    let open = answer[..line].iter().rposition(|byte| *byte == b'{');
    let (head, header, tail) = match open.filter(|_| answer[..line].ends_with(b"}")) {
        Some(open) => {
            let digits = std::str::from_utf8(&answer[open + 1..line - 1]).ok()?;
            let rest = &answer[line + 2..];
            let (header, tail) = rest.split_at_checked(digits.trim_end_matches('+').parse().ok()?)?;
            (&answer[..open], header, tail)
        }
        None => (&answer[..line], &b""[..], &b""[..]),
    };
    let mut text = [String::from_utf8_lossy(head), String::from_utf8_lossy(tail)].concat();
    if !text.starts_with("* ") || !text.contains(" FETCH (") {
        return None;
    }
    // Whoever owns the folder names its keywords, so they are taken out before anything else is looked for.
    let mut flags = Flags::new();
    if let Some(begin) = text.find("FLAGS (") {
        let inner = begin + "FLAGS (".len();
        let end = inner + text[inner..].find(')')?;
        let words = text[inner..end].split_ascii_whitespace();
        flags = words.filter(|flag| !flag.eq_ignore_ascii_case("\\Recent")).map(str::to_owned).collect();
        text.replace_range(begin..=end, "");
    }
    let word = |name: &str| {
        let rest = text.split_once(name)?.1;
        rest.split(|letter: char| !letter.is_ascii_alphanumeric()).next()
    };
    let uid = word("UID ")?.parse().ok()?;
    let size = word("RFC822.SIZE ")?.parse().ok()?;
    Some(Fetched { uid, size, flags, digest: word("DIGEST.SHA1 ").and_then(digest), header })
}

fn digest(hex: &str) -> Option<[u8; 20]> {
    let mut digest = [0; 20];
    if hex.len() != 2 * digest.len() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_a_fetch() {
        let answer = b"* 3 FETCH (FLAGS (\\Seen work \\Recent) UID 7 RFC822.SIZE 123 BODY[HEADER.FIELDS (MESSAGE-ID DATE FROM SUBJECT)] {21}\r\n\
            Message-ID: <UID 9>\r\n)\r\n";
        let told = fetched(answer).unwrap();
        assert_eq!((told.size, told.uid, told.flags.len(), told.digest), (123, 7, 2, None));
        assert_eq!(told.header, b"Message-ID: <UID 9>\r\n");
        let bare = b"* 3 FETCH (UID 7 RFC822.SIZE 0 BODY[HEADER.FIELDS (MESSAGE-ID)] \"\" FLAGS ())\r\n";
        assert_eq!(fetched(bare).map(|told| (told.size, told.header.len(), told.uid)), Some((0, 0, 7)));
        let digest =
            b"* 1 FETCH (FLAGS () UID 4 RFC822.SIZE 9 DIGEST.SHA1 00ff000000000000000000000000000000000011)\r\n";
        let told = fetched(digest).and_then(|told| told.digest).unwrap();
        assert_eq!((told[1], told[19]), (0xff, 0x11));
        // A keyword that its owner has named to mislead.
        let hostile = b"* 1 FETCH (FLAGS (UID 99 RFC822.SIZE 1 \\Seen) UID 4 RFC822.SIZE 9)\r\n";
        assert_eq!(fetched(hostile).map(|told| (told.uid, told.size)), Some((4, 9)));
        for other in [
            &b"* 3 EXISTS\r\n"[..],
            b"",
            b"* 1 FETCH (UID 1 BODY[] {99}\r\nx)\r\n",
            b"* 1 FETCH (UID x)\r\n",
            b"* 1 FETCH (FLAGS (\r\n",
        ] {
            assert!(fetched(other).is_none());
        }
    }

    #[test]
    fn equal_headers_have_equal_keys_however_much_of_them_is_known() {
        let present = Present {
            hashers: [RandomState::new(), RandomState::new()],
            has_digests: false,
            there: HashMap::new(),
        };
        let whole =
            b"Received: x\r\nFrom: a@b\r\nSubject: long\r\n line\r\nMessage-ID: <1>\r\nDate: now\r\n\r\nbody";
        let part = b"Date: now\r\nFrom: a@b\r\nSubject: long\r\n line\r\nMessage-ID: <1>\r\n\r\n";
        assert_eq!(present.key_of_header(7, whole), present.key_of_header(7, part));
        assert_ne!(present.key_of_header(8, whole), present.key_of_header(7, part));
        let (one, other) = (&b"From: a@c\r\n\r\n"[..], &b"From: a@b\r\n\r\n"[..]);
        assert_ne!(present.key_of_header(7, one), present.key_of_header(7, other));
    }
}
