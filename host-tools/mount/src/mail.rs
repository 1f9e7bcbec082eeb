//! The mail of a snapshot as folders: the levels of mailbox names, and in each mailbox its messages as `UID.eml`.
//!
//! A level's name is the one people read. What cannot be a name of a file is changed: a `/` or NUL becomes `_`, and so
//! does the whole of an empty name; `.`, `..` and what is named as a message get a `_` behind them.

use std::collections::{BTreeMap, BTreeSet};

use mailkeep_mailview::{Files, MailTree, MailViewError, Mailbox, Records};
use mailkeep_restorer::View;

/// Bytes that a name of a file may have.
const NAME_BYTES: usize = 255;

/// The mail of one snapshot.
pub(crate) struct MailFolders {
    pub(crate) files: Files,
    tree: MailTree,
    /// By its path, levels parted by `/`, without one in front.
    folders: BTreeMap<Vec<u8>, Folder>,
}

/// One level of a name.
#[derive(Default)]
pub(crate) struct Folder {
    /// Names of the levels below.
    pub(crate) below: BTreeSet<Vec<u8>>,
    /// The mailbox of this name, by its place in the tree.
    pub(crate) mailbox: Option<usize>,
}

impl MailFolders {
    pub(crate) fn of(view: View) -> Result<Self, MailViewError> {
        let files = Files::new(view);
        let tree = MailTree::of(&files)?;
        let mut folders: BTreeMap<Vec<u8>, Folder> = BTreeMap::new();
        folders.insert(Vec::new(), Folder::default());
        for (number, mailbox) in tree.mailboxes().iter().enumerate().filter(|(_, mailbox)| mailbox.is_mail) {
            let mut path = Vec::new();
            for level in mailbox.shown.split('/').map(name_of) {
                folders.entry(path.clone()).or_default().below.insert(level.clone());
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend(level);
            }
            folders.entry(path).or_default().mailbox.get_or_insert(number);
        }
        Ok(MailFolders { files, tree, folders })
    }

    /// The folder at a path.
    pub(crate) fn folder(&self, path: &[u8]) -> Option<&Folder> {
        self.folders.get(path)
    }

    /// A mailbox by its place in the tree.
    pub(crate) fn mailbox(&self, number: usize) -> Option<&Mailbox> {
        self.tree.mailboxes().get(number)
    }

    /// What could not be read on the way.
    pub(crate) fn problems(&self) -> &[String] {
        self.tree.problems()
    }
}

/// A mailbox that was opened.
pub(crate) struct Opened {
    pub(crate) records: Records,
}

/// The UID in a message's name.
pub(crate) fn uid_of(name: &[u8]) -> Option<u32> {
    let digits = name.strip_suffix(b".eml")?;
    if digits.first().is_none_or(|first| *first == b'0') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A level of a mailbox' name as the name of a folder.
fn name_of(level: &str) -> Vec<u8> {
    let mut name: String =
        level.chars().map(|letter| if matches!(letter, '/' | '\0') { '_' } else { letter }).collect();
    while name.len() >= NAME_BYTES {
        name.pop();
    }
    if matches!(name.as_str(), "" | "." | "..") || uid_of(name.as_bytes()).is_some() {
        name.push('_');
    }
    name.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_a_name() {
        for (level, name) in [
            ("Entwürfe", "Entwürfe"),
            ("", "_"),
            (".", "._"),
            ("..", ".._"),
            ("a\0b", "a_b"),
            ("7.eml", "7.eml_"),
        ] {
            assert_eq!(name_of(level), name.as_bytes());
        }
        assert_eq!(name_of(&"ü".repeat(300)).len(), 254);
        assert_eq!(
            [&b"12.eml"[..], b"012.eml", b"x.eml", b"12", b"99999999999.eml"].map(uid_of),
            [Some(12), None, None, None, None]
        );
    }
}
