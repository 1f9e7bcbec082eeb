//! Mailboxes that are on two backends of one Murder: found by comparing a copy's mailbox list with the newest lists of the
//! other sources on the same disk.
//!
//! Two sources are compared when their configurations name the same mupdate master ([`Murder`]); what two servers without
//! one call alike are two mailboxes. Compared are mailboxes that have a folder (so neither what a server only knows of
//! nor what is on its way), without what lies below `DELETED.`. The other list is as old as that snapshot, so a mailbox that
//! was moved since then looks the same as one that is there twice: it is told as a remark, and the next backup of the other
//! source settles it.

use std::collections::BTreeSet;
use std::path::Path;

use mailkeep_mail::check::MailTree;
use mailkeep_mail::cyrus::Murder;
use mailkeep_mail::cyrus::mailbox_list::{self, MailboxEntry};
use mailkeep_repository::{Reader, RepositoryError, SnapshotEntry};

use crate::limits::DOUBLES_LISTED;
use crate::mailtree::{MAILBOX_LIST, SnapshotTree};
use crate::tally::Notices;
use crate::text;

/// Where removed mailboxes wait for their end.
const DELETED: &str = "DELETED.";

/// What a copy has of a Murder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    murder: Murder,
    names: BTreeSet<String>,
}

impl Part {
    /// The mailboxes of this list.
    pub(crate) fn new(murder: Murder, list: &[MailboxEntry]) -> Self {
        Part { murder, names: names(list).map(str::to_owned).collect() }
    }

    /// For the manifest's versions.
    pub(crate) fn record(&self) -> (String, String) {
        (Murder::RECORD.to_owned(), text::line(self.murder.as_str()))
    }

    /// Those that the newest snapshots of other sources have too. What cannot be read there is told and keeps no backup
    /// from being sealed.
    pub(crate) fn doubles(&self, others: &[SnapshotEntry], reader: &Reader) -> Notices {
        let mut notices = Notices::default();
        let (_, ours) = self.record();
        for other in others.iter().filter(|other| murder_of(other) == Some(&ours)) {
            let source = text::line(&other.manifest.source.name);
            let id: String = other.id.hex().chars().take(10).collect();
            match list_of(reader, other) {
                Ok(Some(list)) => {
                    self.compare(&list, &format!("source {source} (snapshot {id})"), &mut notices)
                }
                Ok(None) => {
                    notices.add(format!("the mailbox list of source {source} cannot be compared"), "")
                }
                Err(error) => notices.add(
                    format!(
                        "the mailbox list of source {source} cannot be compared: {}",
                        text::line(&error.to_string())
                    ),
                    "",
                ),
            }
        }
        notices
    }

    fn compare(&self, list: &[MailboxEntry], place: &str, notices: &mut Notices) {
        let both: Vec<&str> = names(list).filter(|name| self.names.contains(*name)).collect();
        for name in both.iter().take(DOUBLES_LISTED) {
            let name = text::line(name);
            notices.add(
                format!(
                    "mailbox {name} is at {place} too: moved since then, or on two backends of the Murder"
                ),
                "",
            );
        }
        if let more @ 1.. = both.len().saturating_sub(DOUBLES_LISTED) {
            notices.add(format!("and {more} more mailboxes are at {place} too"), "");
        }
    }
}

fn names(list: &[MailboxEntry]) -> impl Iterator<Item = &str> {
    list.iter().filter(|entry| entry.mailbox_type.has_folder()).map(|entry| entry.name.as_str()).filter(
        |name| {
            let rest = name.split_once('!').map_or(*name, |(_, rest)| rest);
            !rest.starts_with(DELETED)
        },
    )
}

/// The list that was exported for a snapshot; `None` if there is none that can be read as one.
fn list_of(reader: &Reader, entry: &SnapshotEntry) -> Result<Option<Vec<MailboxEntry>>, RepositoryError> {
    let mut tree = SnapshotTree::new(reader.clone(), entry.manifest.root.clone());
    Ok(tree.read(Path::new(MAILBOX_LIST))?.and_then(|list| mailbox_list::parse(&list).ok()))
}

/// The Murder that a snapshot says it belongs to.
pub(crate) fn murder_of(entry: &SnapshotEntry) -> Option<&String> {
    let record = entry.manifest.versions.iter().find(|(name, _)| name == Murder::RECORD);
    record.map(|(_, murder)| murder)
}

#[cfg(test)]
mod tests {
    use mailkeep_mail::cyrus::imapd_conf::ImapdConf;

    use super::*;

    fn part(list: &[MailboxEntry]) -> Part {
        let text = b"mupdate_server: mupdate.example.org\n".to_vec();
        let conf = ImapdConf::read(Path::new("/etc/imapd.conf"), &mut |_| Ok(text.clone())).unwrap();
        Part::new(Murder::of(&conf).unwrap(), list)
    }

    fn list(names: &[&str]) -> Vec<MailboxEntry> {
        let lines: Vec<String> = names.iter().map(|name| format!("{name}\t0 default x\tlrs\t\n")).collect();
        mailbox_list::parse(lines.concat().as_bytes()).unwrap()
    }

    fn told(ours: &[&str], theirs: &[MailboxEntry]) -> Vec<String> {
        let mut notices = Notices::default();
        part(&list(ours)).compare(theirs, "source b (snapshot 0)", &mut notices);
        notices.listed.into_iter().map(|notice| notice.what).collect()
    }

    #[test]
    fn what_is_in_both_lists_is_told_by_name() {
        let theirs = list(&["user.b", "user.both", "example.org!user.x", "DELETED.user.both.6B03640B"]);
        let lines = told(&["user.a", "user.both", "user.x", "DELETED.user.both.6B03640B"], &theirs);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("mailbox user.both is at source b"), "{lines:?}");
    }

    #[test]
    fn what_another_server_only_knows_of_is_not_there() {
        // Remote, on its way, and a tombstone.
        let text =
            "user.r\t1 other!default x\tlrs\t\nuser.m\t8 default x\tlrs\t\nuser.d\t16 default x\tlrs\t\n";
        let theirs = mailbox_list::parse(text.as_bytes()).unwrap();
        assert_eq!(theirs.len(), 3);
        assert_eq!(told(&["user.r", "user.m", "user.d"], &theirs), [""; 0]);
    }

    #[test]
    fn of_many_only_some_are_named() {
        let names: Vec<String> = (0..DOUBLES_LISTED + 7).map(|number| format!("user.u{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let lines = told(&names, &list(&names));
        assert_eq!(lines.len(), DOUBLES_LISTED + 1);
        assert!(lines[DOUBLES_LISTED].starts_with("and 7 more"), "{lines:?}");
    }
}
