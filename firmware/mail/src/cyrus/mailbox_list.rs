//! The exported mailbox list (`ctl_mboxlist -d`): JSON since 3.6, lines of text before. Also the names in it.
//!
//! JSON maps each internal name to an object whose numbers are strings; keys that are not needed are skipped.
//! A line of text is `name TAB type partition acl`, the type a number and in 2.1 absent, the rights pairs
//! joined by TAB.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::MailError;
use crate::limits::{MAILBOX_LIST_BYTES, MAILBOX_LIST_ENTRIES, MAILBOX_NAME_BYTES};

/// A mailbox's internal name: `user.john.Sent`, `example.org!user.x`, with `^` for a dot inside a level.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxName(String);

impl MailboxName {
    /// A name in internal form.
    pub fn new(internal: impl Into<String>) -> MailboxName {
        MailboxName(internal.into())
    }

    /// The internal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain in front of `!`, on servers with virtual domains, and the rest.
    pub fn domain_and_rest(&self) -> (Option<&str>, &str) {
        match self.0.split_once('!') {
            Some((domain, rest)) => (Some(domain), rest),
            None => (None, &self.0),
        }
    }

    /// The name as an admin sees it over IMAP: with `unixhierarchysep` levels are parted by `/` and a dot is a
    /// dot (`user/john.doe/Sent`); a domain comes last (`user/x@example.org`).
    pub fn external(&self, unix_hierarchy: bool) -> String {
        let (domain, rest) = self.domain_and_rest();
        let swap = |letter: char| match letter {
            '.' => '/',
            '^' => '.',
            other => other,
        };
        let mut name: String =
            if unix_hierarchy { rest.chars().map(swap).collect() } else { rest.to_owned() };
        if let Some(domain) = domain {
            name.push('@');
            name.push_str(domain);
        }
        name
    }

    /// The internal form of a name as an admin sees it: the way back from [`MailboxName::external`].
    pub fn from_external(external: &str, unix_hierarchy: bool) -> MailboxName {
        // The user's part may have an @ of its own only if no domains are in use, so the last one counts,
        // and only if what follows looks like a domain and not like a level of the hierarchy.
        let separator = if unix_hierarchy { '/' } else { '.' };
        let (rest, domain) = match external.rsplit_once('@') {
            Some((rest, domain)) if unix_hierarchy && !domain.contains(separator) && !domain.is_empty() => {
                (rest, Some(domain))
            }
            _ => (external, None),
        };
        let swap = |letter: char| match letter {
            '/' => '.',
            '.' => '^',
            other => other,
        };
        let rest: String = if unix_hierarchy { rest.chars().map(swap).collect() } else { rest.to_owned() };
        MailboxName(domain.map_or(rest.clone(), |domain| format!("{domain}!{rest}")))
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a mailbox keeps for life, however it is renamed; the same in the list and in cyrus.header.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UniqueId(String);

impl UniqueId {
    /// An id as written.
    pub fn new(id: impl Into<String>) -> UniqueId {
        UniqueId(id.into())
    }

    /// The id as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The type of a mailbox, as the letters of the JSON export: one for the kind (`e` mail, `c` calendar, `a`
/// address book, `f` Sieve, …) and one for each mark (`d` deleted, `r` remote, `l` legacy folders, …).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MailboxType(String);

impl MailboxType {
    /// From the number in the text export; the bits are those of `imap/mboxlist.h` in 3.0 and 3.4.
    fn from_number(bits: u32) -> MailboxType {
        const MARKS: [(u32, char); 4] = [(1 << 4, 'd'), (1 << 3, 'm'), (1 << 0, 'r'), (1 << 1, 'z')];
        const KINDS: [(u32, char); 4] = [(1 << 2, 'n'), (1 << 5, 'c'), (1 << 6, 'a'), (1 << 7, 'b')];
        let kind = KINDS.iter().find(|(bit, _)| bits & bit != 0).map_or('e', |(_, letter)| *letter);
        let marks = MARKS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| *letter);
        MailboxType(std::iter::once(kind).chain(marks).collect())
    }

    /// The letters.
    pub fn letters(&self) -> &str {
        &self.0
    }

    fn has(&self, mark: char) -> bool {
        self.0.contains(mark)
    }

    /// Mail proper, not calendars, address books or filters.
    pub fn is_mail(&self) -> bool {
        // 3.0 writes no kind at all for mail in some places.
        !self.0.contains(['n', 'c', 'a', 'b', 's', 'p', 'f'])
    }

    /// A tombstone: the mailbox is gone, only replication still wants to know of it.
    pub fn is_tombstone(&self) -> bool {
        self.has('d')
    }

    /// Whether a folder on this server belongs to it: not a tombstone, not on another server or on its way
    /// there, not a reserved or intermediate name.
    pub fn has_folder(&self) -> bool {
        !['d', 'r', 'm', 'z', 'i'].iter().any(|mark| self.has(*mark))
    }
}

/// One mailbox of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxEntry {
    /// Internal name.
    pub name: MailboxName,
    /// Kind and marks.
    pub mailbox_type: MailboxType,
    /// Name of its partition; tombstones have none.
    pub partition: Option<String>,
    /// Unique id; not in the text export.
    pub unique_id: Option<UniqueId>,
    /// UIDVALIDITY; not in the text export.
    pub uid_validity: Option<u32>,
    /// Identifiers with their rights.
    pub acl: Vec<(String, String)>,
}

/// Stands for the names and ids of those mailboxes of a list that have a folder, in whatever order they are given.
pub fn fingerprint(entries: &[MailboxEntry]) -> String {
    let mut lines: Vec<(&str, &str)> = entries
        .iter()
        .filter(|entry| entry.mailbox_type.has_folder())
        .map(|entry| (entry.name.as_str(), entry.unique_id.as_ref().map_or("", UniqueId::as_str)))
        .collect();
    lines.sort_unstable();
    let mut hasher = blake3::Hasher::new_derive_key("mailkeep v1 2026-11-23 names of mailboxes");
    for word in lines.iter().flat_map(|(name, id)| [name, id]) {
        hasher.update(&(word.len() as u64).to_le_bytes());
        hasher.update(word.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Parses an exported list of either form.
pub fn parse(bytes: &[u8]) -> Result<Vec<MailboxEntry>, MailError> {
    if bytes.len() > MAILBOX_LIST_BYTES {
        return Err(wrong(0, "the list is too large"));
    }
    let is_json = bytes.trim_ascii_start().starts_with(b"{");
    if is_json { parse_json(bytes) } else { parse_text(bytes) }
}

fn wrong(line: usize, problem: impl Into<String>) -> MailError {
    MailError::MailboxList { line, problem: problem.into() }
}

fn parse_text(bytes: &[u8]) -> Result<Vec<MailboxEntry>, MailError> {
    let mut entries = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        if entries.len() >= MAILBOX_LIST_ENTRIES {
            return Err(wrong(number + 1, "the list has too many mailboxes"));
        }
        let line = String::from_utf8_lossy(line);
        entries.push(text_entry(&line).map_err(|problem| wrong(number + 1, problem))?);
    }
    Ok(entries)
}

fn text_entry(line: &str) -> Result<MailboxEntry, &'static str> {
    let (name, rest) = line.split_once('\t').ok_or("a name and a tabulator belong here")?;
    if name.is_empty() || name.len() > MAILBOX_NAME_BYTES {
        return Err("the mailbox has no name or one that is too long");
    }
    let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
    // As Cyrus' own import does it: digits are a type, anything else is already the partition.
    let (bits, partition_and_acl) = match first.parse::<u32>() {
        Ok(bits) => (bits, after),
        Err(_) => (0, rest),
    };
    let (partition, acl) = partition_and_acl.split_once(' ').unwrap_or((partition_and_acl, ""));
    let mailbox_type = MailboxType::from_number(bits);
    if partition.is_empty() && !mailbox_type.is_tombstone() {
        return Err("the mailbox has no partition");
    }
    let mut words = acl.split('\t');
    let mut rights = Vec::new();
    while let (Some(who), Some(what)) = (words.next(), words.next()) {
        rights.push((who.to_owned(), what.to_owned()));
    }
    Ok(MailboxEntry {
        name: MailboxName::new(name),
        mailbox_type,
        partition: (!partition.is_empty()).then(|| partition.to_owned()),
        unique_id: None,
        uid_validity: None,
        acl: rights,
    })
}

#[derive(Deserialize)]
struct JsonEntry {
    mbtype: Option<String>,
    partition: Option<String>,
    uniqueid: Option<String>,
    uidvalidity: Option<JsonNumber>,
    acl: Option<BTreeMap<String, String>>,
    #[serde(rename = "name_history")]
    _name_history: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum JsonNumber {
    Number(u32),
    Text(String),
}

fn parse_json(bytes: &[u8]) -> Result<Vec<MailboxEntry>, MailError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let entries = EntriesSeed.deserialize(&mut reader).map_err(json_error)?;
    reader.end().map_err(json_error)?;
    Ok(entries)
}

/// serde_json's texts end with the place, which has a field of its own here.
fn json_error(error: serde_json::Error) -> MailError {
    let text = error.to_string();
    let problem = text.split(" at line ").next().unwrap_or(&text).to_owned();
    wrong(error.line(), problem)
}

/// Reads one entry after the other into the list, so that nothing is held twice.
struct EntriesSeed;

impl<'de> DeserializeSeed<'de> for EntriesSeed {
    type Value = Vec<MailboxEntry>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EntriesSeed {
    type Value = Vec<MailboxEntry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of mailboxes by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use serde::de::Error;
        let mut entries = Vec::new();
        while let Some((name, raw)) = map.next_entry::<String, JsonEntry>()? {
            if entries.len() >= MAILBOX_LIST_ENTRIES {
                return Err(A::Error::custom("the list has too many mailboxes"));
            }
            if name.is_empty() || name.len() > MAILBOX_NAME_BYTES {
                return Err(A::Error::custom("the mailbox has no name or one that is too long"));
            }
            entries.push(MailboxEntry {
                name: MailboxName::new(name),
                mailbox_type: MailboxType(raw.mbtype.unwrap_or_else(|| "e".to_owned())),
                partition: raw.partition.filter(|partition| !partition.is_empty()),
                unique_id: raw.uniqueid.filter(|id| !id.is_empty()).map(UniqueId::new),
                uid_validity: raw.uidvalidity.and_then(|value| match value {
                    JsonNumber::Number(number) => Some(number),
                    JsonNumber::Text(text) => text.parse().ok(),
                }),
                acl: raw.acl.map(|acl| acl.into_iter().collect()).unwrap_or_default(),
            });
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_3_6() {
        let list = br#"{
"user.john": {"name": "user.john", "mtime": "1795384330", "uidvalidity": "1795384331", "createdmodseq": "1", "foldermodseq": "2", "mbtype": "el", "partition": "default", "acl": {"john": "lrswi", "jane": "lrs"}, "uniqueid": "hl4ljeo59prg", "name_history": [{"name": "user.jon", "partition": "default"}]},
"user.john.Gone": {"name": "user.john.Gone", "mbtype": "ed", "acl": {}, "uniqueid": "zrcnrub28qys", "uidvalidity": 7, "server": null}
}"#;
        let entries = parse(list).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].name.as_str(), "user.john");
        assert_eq!(entries[0].partition.as_deref(), Some("default"));
        assert_eq!(entries[0].unique_id.as_ref().unwrap().as_str(), "hl4ljeo59prg");
        assert_eq!(entries[0].uid_validity, Some(1_795_384_331));
        assert_eq!(entries[0].acl.len(), 2);
        assert!(entries[0].mailbox_type.is_mail() && entries[0].mailbox_type.has_folder());
        assert!(entries[1].mailbox_type.is_tombstone() && !entries[1].mailbox_type.has_folder());
        assert_eq!((entries[1].uid_validity, entries[1].partition.as_ref()), (Some(7), None));
        assert!(parse(b"{\n}\n").unwrap().is_empty());
    }

    #[test]
    fn text_of_all_older_versions() {
        let list = "user.john\t0 default john\tlrswipcda\tanyone\tlr\t\n\
            user.john.Ab cd\tdefault john\tlr\t\n\
            user.far\t1 other.example.org!part anyone\tlrs\t\n\
            user.john.Gone\t16  \n\
            example.org!user.x.Cal\t32 default x\tlrs\t\n";
        let entries = parse(list.as_bytes()).unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|e| (e.name.as_str(), e.mailbox_type.letters(), e.partition.as_deref(), e.acl.len()))
            .collect();
        assert_eq!(
            seen,
            [
                ("user.john", "e", Some("default"), 2),
                ("user.john.Ab cd", "e", Some("default"), 1),
                ("user.far", "er", Some("other.example.org!part"), 1),
                ("user.john.Gone", "ed", None, 0),
                ("example.org!user.x.Cal", "c", Some("default"), 1),
            ]
        );
        assert!(!entries[2].mailbox_type.has_folder());
        assert!(!entries[4].mailbox_type.is_mail() && entries[4].mailbox_type.has_folder());
        assert!(parse(b"").unwrap().is_empty());
    }

    #[test]
    fn broken_lists_name_the_line() {
        for (list, line) in [
            ("user.john\t0 default x\tl\t\nuser.jane\n", 2),
            ("\t0 default\n", 1),
            ("user.john\t0 \n", 1),
            ("{\n\"user.john\": {\"mbtype\": 5}\n}", 2),
            ("{\n\"user.john\": {},\n", 3),
            ("{}\n{}", 2),
            ("{\"\": {}}", 1),
        ] {
            let said = parse(list.as_bytes()).unwrap_err().to_string();
            assert!(said.starts_with(&format!("mailbox list, line {line}: ")), "{list:?}: {said}");
        }
        let deep = format!("{{\"a\": {{\"name_history\": {}", "[".repeat(100_000));
        assert!(parse(deep.as_bytes()).is_err());
        let long = format!("{}\t0 default\n", "x".repeat(MAILBOX_NAME_BYTES + 1));
        assert!(parse(long.as_bytes()).is_err());
    }

    #[test]
    fn names_inside_and_outside() {
        for (internal, dotted, slashed) in [
            ("user.john.Sent", "user.john.Sent", "user/john/Sent"),
            ("user.john^doe", "user.john^doe", "user/john.doe"),
            ("example.org!user.x.Sub", "user.x.Sub@example.org", "user/x/Sub@example.org"),
            ("shared", "shared", "shared"),
        ] {
            let name = MailboxName::new(internal);
            assert_eq!(name.external(false), dotted);
            assert_eq!(name.external(true), slashed);
            assert_eq!(MailboxName::from_external(slashed, true), name);
        }
        assert_eq!(MailboxName::from_external("user.john.Sent", false).as_str(), "user.john.Sent");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"{\"a\":{".as_slice(), &bytes].concat());
        }

        #[test]
        fn slashed_names_survive_the_way_out_and_in(levels in proptest::collection::vec("[a-z^ &-]{1,8}", 1..5)) {
            let name = MailboxName::new(levels.join("."));
            proptest::prop_assert_eq!(MailboxName::from_external(&name.external(true), true), name);
        }
    }
}
