//! The proof of a copy as mail, over the copy itself: profile, exported list and indexes are read out of the snapshot
//! that is about to be sealed, so that what is checked is what a restore will find.

use std::io;
use std::path::Path;

use mailkeep_format::ChunkRef;
use mailkeep_format::manifest::MailCheckRecord;
use mailkeep_mail::check::{MailTree, check_mail};
use mailkeep_mail::cyrus::mailbox_list;
use mailkeep_mail::{Profile, Source};
use mailkeep_repository::{Reader, RepositoryError};

use crate::digests::DigestCount;
use crate::doubles::Part;
use crate::mailtree::{MAILBOX_LIST, SnapshotTree};
use crate::{PullError, text};

/// What a check brought.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// The result; `None` where there is nothing to check the copy as.
    pub(crate) record: Option<MailCheckRecord>,
    /// The copy's part in a Murder.
    pub(crate) part: Option<Part>,
    /// How much of what is new was held against its index.
    pub(crate) digests: Option<DigestCount>,
}

impl From<MailCheckRecord> for Checked {
    fn from(record: MailCheckRecord) -> Self {
        Checked { record: Some(record), ..Checked::default() }
    }
}

/// Checks a copy of a quiescent source. What is not in the tree `before`, of an earlier snapshot that was checked, is new.
///
/// What is wrong with the mail is in the record.
///
/// # Errors
/// The repository cannot be read.
pub(crate) fn run(
    source: &Source,
    reader: Reader,
    root: &[ChunkRef],
    before: Option<Vec<ChunkRef>>,
) -> Result<Checked, PullError> {
    let mut tree = SnapshotTree::since(reader, root.to_vec(), before);
    let mut broken: Option<RepositoryError> = None;
    let profile = Profile::new(source, &mut |path| match tree.read(path) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(io::ErrorKind::NotFound.into()),
        Err(error) => {
            let text = error.to_string();
            broken = Some(error);
            Err(io::Error::other(text))
        }
    });
    if let Some(error) = broken {
        return Err(error.into());
    }
    let cyrus = match &profile {
        Ok(Profile::Cyrus(cyrus)) => cyrus,
        Ok(Profile::Generic(_)) => return Ok(Checked::default()),
        Err(error) => return Ok(failed(&told(error)).into()),
    };
    let Some(list) = tree.read(Path::new(MAILBOX_LIST))? else {
        return Ok(failed("the exported mailbox list is not in the copy").into());
    };
    let list = match mailbox_list::parse(&list) {
        Ok(list) => list,
        Err(error) => return Ok(failed(&told(&error)).into()),
    };
    let check = check_mail(&list, cyrus.partitions(), &mut tree)?;
    let record = MailCheckRecord {
        ok: check.ok,
        mailboxes: check.mailboxes,
        messages: check.messages,
        problems: check.problems.iter().map(|problem| text::line(&problem.to_string())).collect(),
        problem_count: check.problem_count,
    };
    let part = cyrus.murder().map(|murder| Part::new(murder, &list));
    let digests = DigestCount { compared: check.digests, new: tree.new_messages() };
    Ok(Checked { record: Some(record), part, digests: Some(digests) })
}

fn failed(why: &str) -> MailCheckRecord {
    MailCheckRecord {
        ok: false,
        mailboxes: 0,
        messages: 0,
        problems: vec![text::line(why)],
        problem_count: 1,
    }
}

/// An error and its causes in one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests;
