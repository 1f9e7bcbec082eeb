//! The mail check: does a copy hold every mailbox of the exported list, and every message of every index?
//!
//! Pure over [`MailTree`], which the puller implements over a snapshot. One mailbox is held at a time, beside
//! a table of where each unique id lies.
//!
//! For each mailbox of the list that has a folder here:
//! * its folder is found by the unique id in cyrus.header (`sites.rs`), never computed from its name;
//! * cyrus.index is there, its CRCs are right, and it carries the CRC of this very cyrus.header: a pair from
//!   two moments is torn;
//! * each message that IMAP shows has its file, in the data or the archive folder, with the right size;
//! * no message file is newer than the index (a UID above its last): such an index was copied before the mail
//!   came, and a restore would lose that mail.
//!
//! Not problems, but counted: files of no record below the last UID (Cyrus leaves some behind after a crash),
//! missing files of expunged messages (nobody can see them), folders that the list does not name.

mod memory;
mod problem;
mod sites;
mod tree;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use memory::MemoryMailTree;
pub use problem::{Problem, ProblemKind};
pub use tree::{EntryKind, MailTree, TreeEntry};

use crate::cyrus::index::Index;
use crate::cyrus::mailbox_list::MailboxEntry;
use crate::cyrus::profile::Partition;
use crate::cyrus::rules::message_uid;
use crate::limits::LISTED_PROBLEMS;
use sites::Sites;

/// The result of a mail check, as it stands in a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailCheck {
    /// No problem was found.
    pub ok: bool,
    /// Mailboxes of the list that were looked at.
    pub mailboxes: u64,
    /// Messages that IMAP would show in them.
    pub messages: u64,
    /// The first problems; there may be more than stand here.
    pub problems: Vec<Problem>,
    /// How many problems there are in all.
    pub problem_count: u64,
    /// Message files of no record: left behind by Cyrus, not shown over IMAP.
    pub stray_files: u64,
    /// Expunged messages whose file is gone already.
    pub expunged_without_file: u64,
    /// Mailbox folders that the list does not name.
    pub unlisted_folders: u64,
}

impl MailCheck {
    fn report(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < LISTED_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

/// Checks a copy against the exported list. `partitions` are those of
/// [`CyrusProfile::partitions`](crate::cyrus::profile::CyrusProfile::partitions). Fails only if the tree
/// itself cannot be read; whatever is wrong with the mail is in the result.
pub fn check_mail<T: MailTree>(
    list: &[MailboxEntry],
    partitions: &[Partition],
    tree: &mut T,
) -> Result<MailCheck, T::Error> {
    let mut check = MailCheck::default();
    let mut sites = Sites::walk(list, partitions, tree, &mut check)?;
    for entry in list.iter().filter(|entry| entry.mailbox_type.has_folder()) {
        check.mailboxes += 1;
        let mailbox = |kind| Problem::new(kind).mailbox(&entry.name);
        // Keys of imapd.conf, and with them the names of partitions, have no case.
        let named = entry.partition.as_deref().unwrap_or_default();
        let Some(partition) = partitions.iter().find(|p| p.name.eq_ignore_ascii_case(named)) else {
            check.report(mailbox(ProblemKind::UnknownPartition).detail(format!("partition-{named}")));
            continue;
        };
        match sites.take(entry, partition) {
            Some(below) => check_mailbox(entry, partition, &below, tree, &mut check)?,
            None => check.report(mailbox(ProblemKind::MissingFolder)),
        }
    }
    check.unlisted_folders = sites.left();
    check.ok = check.problem_count == 0;
    Ok(check)
}

/// Message files of one mailbox, sorted by UID; a UID stands twice while Cyrus moves it to the archive.
struct MessageFiles(Vec<(u32, u64)>);

impl MessageFiles {
    fn list<T: MailTree>(folders: &[&Path], below: &Path, tree: &mut T) -> Result<MessageFiles, T::Error> {
        let mut files = Vec::new();
        for folder in folders {
            for entry in tree.list(&folder.join(below))?.unwrap_or_default() {
                if let (EntryKind::File, Some(uid)) = (entry.kind, message_uid(&entry.name)) {
                    files.push((uid, entry.size));
                }
            }
        }
        files.sort_unstable();
        Ok(MessageFiles(files))
    }

    fn sizes(&self, uid: u32) -> &[(u32, u64)] {
        let start = self.0.partition_point(|(known, _)| *known < uid);
        let end = self.0.partition_point(|(known, _)| *known <= uid);
        &self.0[start..end]
    }
}

fn check_mailbox<T: MailTree>(
    entry: &MailboxEntry,
    partition: &Partition,
    below: &Path,
    tree: &mut T,
    check: &mut MailCheck,
) -> Result<(), T::Error> {
    let folder = partition.index_folder().join(below);
    let problem = |kind| Problem::new(kind).mailbox(&entry.name).folder(&folder);
    let Some(bytes) = tree.read(&folder.join("cyrus.index"))? else {
        check.report(problem(ProblemKind::MissingIndex));
        return Ok(());
    };
    let index = match Index::parse(&bytes) {
        Ok(index) => index,
        Err(error) => {
            check.report(problem(ProblemKind::DamagedIndex).detail(error.to_string()));
            return Ok(());
        }
    };
    let header = tree.read(&partition.header_folder().join(below).join("cyrus.header"))?.unwrap_or_default();
    if index.header().header_file_crc.is_some_and(|crc| crc != crc32fast::hash(&header)) {
        check.report(problem(ProblemKind::HeaderMismatch));
    }

    let files = MessageFiles::list(&partition.message_folders(), below, tree)?;
    let mut damaged = Tally::default();
    let mut missing = Tally::default();
    let mut wrong_size = Tally::default();
    let mut known: Vec<u32> = Vec::with_capacity(files.0.len().min(index.records().size_hint().0));
    let mut shown: u32 = 0;
    for (position, record) in index.records().enumerate() {
        let Ok(record) = record else {
            damaged.add(u32::try_from(position).unwrap_or(u32::MAX).saturating_add(1));
            continue;
        };
        known.push(record.uid);
        let sizes = files.sizes(record.uid);
        if record.flags.is_expunged() {
            check.expunged_without_file += u64::from(sizes.is_empty() && !record.flags.is_unlinked());
            continue;
        }
        shown += 1;
        if sizes.is_empty() {
            missing.add(record.uid);
        } else if !sizes.iter().any(|(_, size)| *size == record.size) {
            wrong_size.add(record.uid);
        }
    }
    check.messages += u64::from(shown);
    // UIDs only grow in a sound index; in a damaged one the search below still has to work.
    known.sort_unstable();
    let mut newer = Tally::default();
    for (uid, _) in files.0.iter().filter(|(uid, _)| known.binary_search(uid).is_err()) {
        if *uid > index.header().last_uid {
            newer.add(*uid);
        } else {
            check.stray_files += 1;
        }
    }
    let counted_wrong = damaged.count == 0 && index.header().exists.is_some_and(|exists| exists != shown);
    if counted_wrong {
        let detail = format!("{shown} records, {} in the header", index.header().exists.unwrap_or(0));
        check.report(problem(ProblemKind::WrongCount).detail(detail));
    }
    for (kind, tally) in [
        (ProblemKind::DamagedRecord, damaged),
        (ProblemKind::MissingMessage, missing),
        (ProblemKind::WrongSize, wrong_size),
        (ProblemKind::NewerThanIndex, newer),
    ] {
        if let Some(first) = tally.first {
            check.report(problem(kind).messages(tally.count, first));
        }
    }
    Ok(())
}

/// How many messages of a mailbox have one problem, and the first of them.
#[derive(Default)]
struct Tally {
    count: u64,
    first: Option<u32>,
}

impl Tally {
    fn add(&mut self, uid: u32) {
        self.count += 1;
        self.first.get_or_insert(uid);
    }
}

/// A folder below a partition's roots, the same below each of them.
type Below = PathBuf;

#[cfg(test)]
mod tests;
