//! The mail check over the rebuilt files: the very code that proves a backup, with the disk in the snapshot's place.

use std::collections::HashSet;
use std::path::Path;

use mailkeep_mail::check::{MailTree as _, check_mail};
use mailkeep_mail::cyrus::mailbox_list::{self, MailboxEntry};
use mailkeep_mailview::MailTree;

use crate::disk::DiskTree;
use crate::report::Report;

/// The name of the check.
pub(crate) const NAME: &str = "mail";
/// Where the exported list lies in a snapshot.
const MAILBOX_LIST: &str = "/.mailkeep/mailboxlist";

/// What a snapshot is as mail, as far as a check of it goes.
pub(crate) struct Mail<'a> {
    pub(crate) tree: &'a MailTree,
    /// Internal names of those that were drawn, if not all were.
    pub(crate) drawn: Option<&'a HashSet<String>>,
}

impl Mail<'_> {
    /// Whether a mailbox is looked at.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.drawn.is_none_or(|drawn| drawn.contains(name))
    }
}

/// Makes the check, and gives the list that it went by, if it is a good one.
pub(crate) fn check(
    mail: &Mail<'_>,
    root: &Path,
    stop: &dyn Fn() -> bool,
    report: &mut Report,
    problem: &dyn Fn(&str, &str),
) -> Option<Vec<MailboxEntry>> {
    let before = report.problem_count;
    let told = |report: &mut Report, path: &str, what: &str| {
        problem(path, what);
        report.problem(path, what);
    };
    let list = DiskTree::open(root, stop).and_then(|mut tree| tree.read(Path::new(MAILBOX_LIST)));
    let list = match list {
        Ok(Some(bytes)) => mailbox_list::parse(&bytes).map_err(|error| error.to_string()),
        Ok(None) => Err("the exported mailbox list is not there".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    };
    let list = match (list, mail.tree.profile()) {
        (Ok(list), Some(_)) => list,
        (list, _) => {
            let what = list.err().unwrap_or_else(|| "no imapd.conf says where the mailboxes lie".to_owned());
            told(report, MAILBOX_LIST, &what);
            report.done(NAME, before, "not possible".to_owned());
            return None;
        }
    };
    let partitions = mail.tree.profile().map_or(&[][..], |profile| profile.partitions());
    let looked_at: Vec<MailboxEntry> =
        list.iter().filter(|entry| mail.has(entry.name.as_str())).cloned().collect();
    let checked =
        DiskTree::open(root, stop).and_then(|mut tree| check_mail(&looked_at, partitions, &mut tree));
    let detail = match checked {
        Ok(checked) => {
            for found in &checked.problems {
                told(report, "", &found.to_string());
            }
            report.problem_count += checked.problem_count.saturating_sub(checked.problems.len() as u64);
            format!(
                "{} mailboxes, {} messages, {} held against the digest in their index",
                checked.mailboxes, checked.messages, checked.digests
            )
        }
        Err(error) => {
            told(report, "", &format!("the rebuilt mail cannot be read: {error}"));
            "broken off".to_owned()
        }
    };
    report.done(NAME, before, detail);
    Some(list)
}
