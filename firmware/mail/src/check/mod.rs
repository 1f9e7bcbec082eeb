//! The mail check: does a copy hold every mailbox of the exported list, and every message of every index?
//!
//! Pure over [`MailTree`], which the puller implements over a snapshot. Of one mailbox at a time the UIDs and sizes of its
//! message files are held (20 bytes a message, 24 more of a new one), beside a table of where each unique id lies.
//!
//! For each mailbox of the list that has a folder here:
//! * its folder is found by the unique id in cyrus.header (`sites.rs`), never computed from its name;
//! * cyrus.index is there, its CRCs are right, and it carries the CRC of this very cyrus.header: a pair from
//!   two moments is torn;
//! * each message that IMAP shows has its file, in the data or the archive folder, with the right size;
//! * each new message whose file was read has the SHA-1 that the index keeps of it, where it keeps one;
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

use crate::cyrus::index::{IndexRecord, IndexStream};
use crate::cyrus::mailbox_list::MailboxEntry;
use crate::cyrus::profile::Partition;
use crate::cyrus::rules::message_uid;
use crate::error::MailError;
use crate::limits::LISTED_PROBLEMS;
use sites::Sites;

pub use sites::names_of;

/// The result of a mail check, as it stands in a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailCheck {
    /// No problem was found.
    pub ok: bool,
    /// Mailboxes of the list that were looked at.
    pub mailboxes: u64,
    /// Messages that IMAP would show in them.
    pub messages: u64,
    /// New messages whose file was held against the digest in the index.
    pub digests: u64,
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
struct MessageFiles {
    /// UID and size.
    sizes: Vec<(u32, u64)>,
    /// UID and SHA-1 of those that are new and were read.
    digests: Vec<(u32, [u8; 20])>,
}

impl MessageFiles {
    fn list<T: MailTree>(folders: &[&Path], below: &Path, tree: &mut T) -> Result<MessageFiles, T::Error> {
        let (mut sizes, mut digests) = (Vec::new(), Vec::new());
        for folder in folders {
            tree.list_with_digests(&folder.join(below), &mut |entry, digest| {
                if let (EntryKind::File, Some(uid)) = (entry.kind, message_uid(entry.name)) {
                    sizes.push((uid, entry.size));
                    digests.extend(digest.map(|digest| (uid, digest)));
                }
            })?;
        }
        sizes.sort_unstable();
        digests.sort_unstable();
        Ok(MessageFiles { sizes, digests })
    }

    fn sizes(&self, uid: u32) -> &[(u32, u64)] {
        of_uid(&self.sizes, uid)
    }

    fn digests(&self, uid: u32) -> &[(u32, [u8; 20])] {
        of_uid(&self.digests, uid)
    }
}

/// What stands under a UID in a list that is sorted by it.
fn of_uid<T>(sorted: &[(u32, T)], uid: u32) -> &[(u32, T)] {
    let start = sorted.partition_point(|(known, _)| *known < uid);
    let end = sorted.partition_point(|(known, _)| *known <= uid);
    &sorted[start..end]
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
    let files = MessageFiles::list(&partition.message_folders(), below, tree)?;
    let mut compared = Compared::new(&files);
    let mut index = Ok(IndexStream::new());
    let there = tree.stream(&folder.join("cyrus.index"), &mut |bytes| {
        if let Ok(stream) = &mut index {
            if let Err(error) = stream.push(bytes, &mut |record| compared.record(record)) {
                index = Err(error);
            }
        }
        index.is_ok()
    })?;
    if !there {
        check.report(problem(ProblemKind::MissingIndex));
        return Ok(());
    }
    let index = match index.and_then(|stream| stream.finish(&mut |record| compared.record(record))) {
        Ok(index) => index,
        Err(error) => {
            check.report(problem(ProblemKind::DamagedIndex).detail(error.to_string()));
            return Ok(());
        }
    };
    let header = tree.read(&partition.header_folder().join(below).join("cyrus.header"))?.unwrap_or_default();
    if index.header_file_crc.is_some_and(|crc| crc != crc32fast::hash(&header)) {
        check.report(problem(ProblemKind::HeaderMismatch));
    }
    let Compared { damaged, missing, wrong_size, wrong_digest, digests, mut known, shown, gone, .. } =
        compared;
    check.expunged_without_file += gone;
    check.messages += u64::from(shown);
    check.digests += digests;
    // UIDs only grow in a sound index; in a damaged one the search below still has to work.
    known.sort_unstable();
    let mut newer = Tally::default();
    for (uid, _) in files.sizes.iter().filter(|(uid, _)| known.binary_search(uid).is_err()) {
        if *uid > index.last_uid {
            newer.add(*uid);
        } else {
            check.stray_files += 1;
        }
    }
    let counted_wrong = damaged.count == 0 && index.exists.is_some_and(|exists| exists != shown);
    if counted_wrong {
        let detail = format!("{shown} records, {} in the header", index.exists.unwrap_or(0));
        check.report(problem(ProblemKind::WrongCount).detail(detail));
    }
    for (kind, tally) in [
        (ProblemKind::DamagedRecord, damaged),
        (ProblemKind::MissingMessage, missing),
        (ProblemKind::WrongSize, wrong_size),
        (ProblemKind::WrongDigest, wrong_digest),
        (ProblemKind::NewerThanIndex, newer),
    ] {
        if let Some(first) = tally.first {
            check.report(problem(kind).messages(tally.count, first));
        }
    }
    Ok(())
}

/// The records of an index beside the message files of its mailbox.
struct Compared<'a> {
    files: &'a MessageFiles,
    position: u32,
    damaged: Tally,
    missing: Tally,
    wrong_size: Tally,
    wrong_digest: Tally,
    /// Messages of which a digest was compared.
    digests: u64,
    /// UIDs that have a record.
    known: Vec<u32>,
    /// Messages that IMAP shows.
    shown: u32,
    /// Expunged ones whose file is gone already.
    gone: u64,
}

impl<'a> Compared<'a> {
    fn new(files: &'a MessageFiles) -> Self {
        Compared {
            files,
            position: 0,
            damaged: Tally::default(),
            missing: Tally::default(),
            wrong_size: Tally::default(),
            wrong_digest: Tally::default(),
            digests: 0,
            known: Vec::new(),
            shown: 0,
            gone: 0,
        }
    }

    fn record(&mut self, record: Result<IndexRecord, MailError>) {
        self.position = self.position.saturating_add(1);
        let Ok(record) = record else {
            self.damaged.add(self.position);
            return;
        };
        self.known.push(record.uid);
        let sizes = self.files.sizes(record.uid);
        if record.flags.is_expunged() {
            self.gone += u64::from(sizes.is_empty() && !record.flags.is_unlinked());
            return;
        }
        self.shown += 1;
        if sizes.is_empty() {
            self.missing.add(record.uid);
        } else if !sizes.iter().any(|(_, size)| *size == record.size) {
            self.wrong_size.add(record.uid);
        } else {
            self.digest(&record);
        }
    }

    fn digest(&mut self, record: &IndexRecord) {
        let found = self.files.digests(record.uid);
        let (Some(wanted), false) = (record.guid, found.is_empty()) else { return };
        self.digests += 1;
        // While Cyrus moves a message to the archive it has two files; one that is not new may be the right one.
        let all_read = found.len() == self.files.sizes(record.uid).len();
        if all_read && found.iter().all(|(_, sha1)| *sha1 != wanted) {
            self.wrong_digest.add(record.uid);
        }
    }
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
