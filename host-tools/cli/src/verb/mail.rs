//! The `mail` verbs: the mail of snapshots, looked at, found and taken out.

mod export;
mod ls;
mod password;
mod restore;
mod search;
mod shelf;

use std::sync::Arc;

use mailkeep_mailview::{Files, Going, MailTree};
use mailkeep_repository::SnapshotEntry;

use crate::App;
use crate::args::{Mail, Which};
use crate::exit::{self, Failure};
use crate::progress::Reading;
use crate::{repo, signal};

pub(crate) use password::password;

pub(crate) fn run(app: &App, verb: &Mail) -> Result<u8, Failure> {
    match verb {
        Mail::Ls { which, mailbox, all } => ls::run(app, which, mailbox.as_deref(), *all),
        Mail::Cat { which, mailbox, uid } => cat(app, which, mailbox, *uid),
        Mail::Search(args) => search::run(app, args),
        Mail::Restore(args) => restore::run(app, args),
        Mail::Export { which, mailbox, mbox, maildir } => {
            export::run(app, which, mailbox, mbox.as_deref(), maildir.as_deref())
        }
    }
}

/// The snapshot that is meant, with its mailboxes.
fn tree(app: &App, which: &Which) -> Result<(SnapshotEntry, Files, MailTree), Failure> {
    let (entry, view) = repo::view(app, which)?;
    let files = Files::new(view);
    let tree = MailTree::of(&files)?;
    for problem in tree.problems() {
        app.console.problem("", problem, true);
    }
    Ok((entry, files, tree))
}

/// Shows how far a search is; of several searches one after the other, the `(number, of)`th.
fn going(app: &App, (number, of): (usize, usize), now: Going) {
    // A thousandth of one of them is the least that is shown.
    let part = |done: u64, total: u64| {
        let of_one = 1000 * done / total.max(1);
        Some((1000 * number as u64 + of_one, 1000 * of as u64))
    };
    let reading = match now {
        Going::Mailboxes { done, total } => {
            Reading { phase: "mailboxes", part: part(done, total), ..Reading::default() }
        }
        Going::Messages { messages, done, total } => {
            Reading { phase: "search", files_done: messages, part: part(done, total), ..Reading::default() }
        }
    };
    app.console.progress(&reading);
}

/// How a verb ends that came to its end.
fn done(app: &App) -> u8 {
    match (app.console.damage(), app.console.problems()) {
        (0, 0) => exit::DONE,
        (0, _) => exit::PARTLY,
        _ => exit::DAMAGED,
    }
}

fn cat(app: &App, which: &Which, mailbox: &str, uid: u32) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let (_, files, tree) = tree(app, which)?;
    let mailbox = tree.find(mailbox)?;
    let (_, node) = mailbox.message_with_uid(&files, uid)?;
    let mut written = Ok(());
    let console = Arc::clone(&app.console);
    mailbox.read(&files, &node, &mut |bytes| {
        written = console.raw(bytes);
        written.is_ok()
    })?;
    written?;
    Ok(done(app))
}
