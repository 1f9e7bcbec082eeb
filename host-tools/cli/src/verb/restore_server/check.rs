//! What a restored server shows, held against the snapshot: the names of all its mailboxes, and of a sample what IMAP's STATUS
//! tells.
//!
//! Over IMAP there is only the greeting where nobody has a password to log in with (`over_imap.rs` if somebody has). So the
//! server's own programs are asked on the server, and the result says that it was they.

use std::path::Path;

use mailkeep_mail::cyrus::mailbox_list;
use mailkeep_mail::limits::MAILBOX_LIST_BYTES;
use mailkeep_mailview::{Files, MailTree, Mailbox, Summary};
use mailkeep_rebuild::{Examined, Server, Snapshot};
use mailkeep_restorer::path::show;
use serde::Serialize;

use crate::exit::Failure;

/// Mailboxes that are examined; each takes a call of one of Cyrus's programs.
const EXAMINED: usize = 100;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Checked {
    /// Who said it.
    by: &'static str,
    /// All names and ids are those of the snapshot; not known where the list could not be had.
    pub(super) names_equal: Option<bool>,
    /// Mailboxes of which MESSAGES, UIDVALIDITY and UIDNEXT were compared.
    pub(super) mailboxes_examined: u64,
    /// What differs, one line each.
    #[serde(skip)]
    pub(super) differences: Vec<String>,
}

/// Looks at the server; `None` where its agent is too old for that.
pub(super) fn check(
    server: &mut Server<'_>,
    snapshot: &Snapshot<'_>,
    files: &Files,
) -> Result<Option<Checked>, Failure> {
    let tree = MailTree::of(files)?;
    let sample =
        spread(tree.mailboxes().iter().filter(|mailbox| mailbox.is_mail && mailbox.is_listed).collect());
    let names = sample.iter().map(|mailbox| mailbox.name.as_str().to_owned()).collect();
    let Some(looked) = server.look(names)? else { return Ok(None) };
    let mut checked = Checked { by: "ctl_mboxlist and mbexamine", ..Checked::default() };
    let list = snapshot.read_up_to(Path::new("/.mailkeep/mailboxlist"), MAILBOX_LIST_BYTES as u64).ok();
    let entries = list.and_then(|list| mailbox_list::parse(&list).ok());
    if let (Some(entries), Some(names), Some(listed)) = (entries, looked.names, looked.listed) {
        let equal = mailbox_list::fingerprint(&entries) == names;
        checked.names_equal = Some(equal);
        if !equal {
            let before = entries.iter().filter(|entry| entry.mailbox_type.has_folder()).count();
            checked.differences.push(format!(
                "the server lists {listed} mailboxes, and not the {before} of the snapshot by the same names"
            ));
        }
    }
    for (mailbox, examined) in sample.iter().zip(looked.mailboxes) {
        let before = mailbox.summary(files)?;
        if before.problem.is_some() {
            continue;
        }
        checked.mailboxes_examined += 1;
        checked.differences.extend(difference(mailbox, &before, examined));
    }
    Ok(Some(checked))
}

/// What the server shows otherwise. Mail may have come since it was started, so that there may be more.
pub(super) fn difference(mailbox: &Mailbox, before: &Summary, now: Option<Examined>) -> Option<String> {
    let name = show(mailbox.shown.as_bytes());
    let Some(now) = now else { return Some(format!("{name}: the server does not show it")) };
    let (validity, last) = (before.uid_validity.unwrap_or_default(), before.last_uid.unwrap_or_default());
    let is_less = now.last_uid < last || (now.last_uid == last && now.messages != before.messages);
    (now.uid_validity != validity || is_less).then(|| {
        format!(
            "{name}: the server shows {} messages, UIDVALIDITY {}, UIDNEXT {}, the snapshot {}, {validity}, {}",
            now.messages,
            now.uid_validity,
            u64::from(now.last_uid) + 1,
            before.messages,
            u64::from(last) + 1
        )
    })
}

/// At most [`EXAMINED`] of them, from the first to the last.
pub(super) fn spread<T>(all: Vec<T>) -> Vec<T> {
    let count = all.len();
    let step = count.div_ceil(EXAMINED).max(1);
    all.into_iter().step_by(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_the_first_one_and_is_bounded() {
        for count in [0, 1, EXAMINED, EXAMINED + 1, 12_345] {
            let sample = spread((0..count).collect());
            assert!(sample.len() <= EXAMINED && (sample.len() >= count.min(EXAMINED / 2)), "{count}");
            assert_eq!(sample.first().copied(), (count > 0).then_some(0));
        }
    }
}
