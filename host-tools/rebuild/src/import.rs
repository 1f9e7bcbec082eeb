//! Whether a server needs the snapshot's list of mailboxes imported: where its Cyrus, or its kind of mailbox database, is
//! another one than that of the snapshot.
//!
//! A newer Cyrus reads the files of an older one, and converts what it has to; never the other way round. Its list of
//! mailboxes it takes from the export of an older one, as long as both write it as JSON, which is so from 3.6 on: the lines of
//! text of before have no unique ids, and 3.6.1 breaks every mailbox that it imports from them.

use std::path::Path;

use mailkeep_mail::cyrus::mailbox_list;
use mailkeep_mail::cyrus::tools::CyrusVersion;
use mailkeep_mail::limits::MAILBOX_LIST_BYTES;

use crate::{RebuildError, Snapshot};

/// Where the exported list lies in a snapshot.
const LIST: &str = "/.mailkeep/mailboxlist";
/// The setting that may differ, because the list is imported then.
pub(crate) const KIND: &str = "mboxlist_db";

/// A list that has to be imported.
#[derive(Debug)]
pub struct Import {
    /// Why, in words.
    pub why: String,
    /// Entries that it has, without the tombstones of deleted mailboxes.
    pub entries: u64,
    pub(crate) list: Vec<u8>,
}

type Settings = [(String, String)];

/// What has to be imported; `None` where the database can stay as it is.
///
/// # Errors
/// The server is older, or the list is none that it could take: says what to do.
pub(crate) fn needed(
    snapshot: &Snapshot<'_>,
    server: &Settings,
    shapes: (&Settings, &Settings),
) -> Result<Option<Import>, RebuildError> {
    let Some(why) = reason(&snapshot.manifest.versions, server, shapes)? else { return Ok(None) };
    let list = snapshot.read_up_to(Path::new(LIST), MAILBOX_LIST_BYTES as u64).map_err(|error| {
        RebuildError::Unfit {
            why: format!("{why}, and the snapshot has no list of mailboxes to import ({error})"),
        }
    })?;
    if !is_json(&list) {
        let why = format!(
            "{why}, and the snapshot's list of mailboxes is of the form of before Cyrus 3.6, which has no unique ids, so that no \
             newer one can import it whole; install the snapshot's series on the server, restore, and upgrade then"
        );
        return Err(RebuildError::Unfit { why });
    }
    // Tombstones of deleted mailboxes are imported by no Cyrus.
    let entries =
        mailbox_list::parse(&list)?.iter().filter(|entry| !entry.mailbox_type.is_tombstone()).count() as u64;
    Ok(Some(Import { why, entries, list }))
}

fn is_json(list: &[u8]) -> bool {
    list.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

fn reason(
    snapshot: &Settings,
    server: &Settings,
    (shape_before, shape_now): (&Settings, &Settings),
) -> Result<Option<String>, RebuildError> {
    let of = |settings: &Settings, key: &str| {
        settings.iter().find(|(name, _)| name == key).map(|(_, text)| text.clone())
    };
    let version = |settings: &Settings| {
        let text = of(settings, "cyrus")?;
        Some((CyrusVersion::find(&format!("cyrus {text}"))?, text))
    };
    if let (Some((before, text_before)), Some((now, text_now))) = (version(snapshot), version(server)) {
        let (series_before, series_now) = ((before.major, before.minor), (now.major, now.minor));
        if series_now < series_before {
            let why = format!(
                "the snapshot is of Cyrus {text_before} and the server has {text_now}, and an older Cyrus cannot read what a \
                 newer one wrote; install {}.{} or newer there, or restore files by `mailkeep restore`",
                before.major, before.minor
            );
            return Err(RebuildError::Unfit { why });
        }
        if series_now > series_before {
            return Ok(Some(format!("the snapshot is of Cyrus {text_before} and the server has {text_now}")));
        }
    }
    let (kind_before, kind_now) = (of(shape_before, KIND), of(shape_now, KIND));
    if kind_before == kind_now {
        return Ok(None);
    }
    let named = |kind: Option<String>| kind.unwrap_or_else(|| "not set".to_owned());
    Ok(Some(format!(
        "{KIND} is {} in the snapshot and {} on the server",
        named(kind_before),
        named(kind_now)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings as a snapshot or a server has them.
    type Said<'a> = &'a [(&'a str, &'a str)];

    fn settings(pairs: Said<'_>) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn of(before: &str, now: &str, kinds: (Said<'_>, Said<'_>)) -> Result<Option<String>, String> {
        let (before, now) = (settings(&[("cyrus", before)]), settings(&[("kernel", "6"), ("cyrus", now)]));
        reason(&before, &now, (&settings(kinds.0), &settings(kinds.1))).map_err(|error| error.to_string())
    }

    #[test]
    fn only_from_older_to_newer_and_only_where_something_differs() {
        let same: (Said<'_>, Said<'_>) = (&[(KIND, "twoskip")], &[(KIND, "twoskip")]);
        assert_eq!(of("3.6.1", "3.6.4", same), Ok(None));
        assert_eq!(of("3.6.4", "3.6.1", same), Ok(None));
        assert_eq!(of("", "3.6.1", same), Ok(None));
        assert!(of("3.6.1", "3.8.2", same).unwrap().unwrap().contains("3.8.2"));
        assert!(of("3.8.2", "3.10.0", same).unwrap().is_some(), "10 is more than 8");
        let older = of("3.10.0", "3.8.2", same).unwrap_err();
        assert!(older.contains("install 3.10 or newer") && !older.contains('\n'), "{older}");
        let kinds: (Said<'_>, Said<'_>) = (&[], &[(KIND, "skiplist")]);
        assert!(of("3.6.1", "3.6.1", kinds).unwrap().unwrap().contains("skiplist"));
        assert!(of("3.6.1", "3.4.1", kinds).is_err());
    }

    #[test]
    fn the_forms_of_lists_are_told_apart() {
        assert!(is_json(b"{\n\"user.a\": {}}") && is_json(b" {}"));
        assert!(!is_json(b"user.a\t0 default a\tlrs\t\n") && !is_json(b""));
    }
}
