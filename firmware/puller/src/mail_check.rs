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

use crate::mailtree::SnapshotTree;
use crate::{PullError, text};

/// Where the agent puts the list that it exported inside the window.
const MAILBOX_LIST: &str = "/.mailkeep/mailboxlist";

/// Checks a copy of a quiescent source; `None` where there is nothing to check it as.
///
/// What is wrong with the mail is in the record.
///
/// # Errors
/// The repository cannot be read.
pub(crate) fn run(
    source: &Source,
    reader: Reader,
    root: &[ChunkRef],
) -> Result<Option<MailCheckRecord>, PullError> {
    let mut tree = SnapshotTree::new(reader, root.to_vec());
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
        Ok(Profile::Generic(_)) => return Ok(None),
        Err(error) => return Ok(Some(failed(&told(error)))),
    };
    let Some(list) = tree.read(Path::new(MAILBOX_LIST))? else {
        return Ok(Some(failed("the exported mailbox list is not in the copy")));
    };
    let list = match mailbox_list::parse(&list) {
        Ok(list) => list,
        Err(error) => return Ok(Some(failed(&told(&error)))),
    };
    let check = check_mail(&list, cyrus.partitions(), &mut tree)?;
    Ok(Some(MailCheckRecord {
        ok: check.ok,
        mailboxes: check.mailboxes,
        messages: check.messages,
        problems: check.problems.iter().map(|problem| text::line(&problem.to_string())).collect(),
        problem_count: check.problem_count,
    }))
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
fn told(error: &dyn std::error::Error) -> String {
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
