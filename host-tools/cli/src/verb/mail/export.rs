//! `mail export`: a mailbox to a new mbox file or Maildir.

use std::path::Path;
use std::sync::atomic::Ordering;

use mailkeep_mailview::export::{self, Exported};
use serde::Serialize;

use super::{done, tree};
use crate::App;
use crate::args::Which;
use crate::exit::Failure;
use crate::progress::Reading;
use crate::signal;
use crate::text::mail;

#[derive(Serialize)]
struct SummaryLine<'a> {
    message_type: &'static str,
    mailbox: &'a str,
    place: String,
    messages: u64,
    bytes: u64,
    failed: u64,
}

pub(crate) fn run(
    app: &App,
    which: &Which,
    mailbox: &str,
    mbox: Option<&Path>,
    maildir: Option<&Path>,
) -> Result<u8, Failure> {
    // What was written so far is taken away again.
    let stop = signal::cancel_first(&app.console)?;
    let (_, files, tree) = tree(app, which)?;
    let mailbox = tree.find(mailbox)?;
    let mut problem = |what: &str| app.console.problem(&mailbox.shown, what, true);
    let all = mailbox.summary(&files)?.messages;
    let mut going = |exported: &Exported| {
        app.console.progress(&Reading {
            phase: "export",
            files_done: exported.messages,
            bytes_done: exported.bytes,
            part: Some((exported.messages + exported.failed, all)),
        });
        !stop.load(Ordering::Relaxed)
    };
    let (place, exported) = match (mbox, maildir) {
        (Some(path), _) => (path, export::mbox(&files, mailbox, path, &mut problem, &mut going)?),
        (None, Some(path)) => (path, export::maildir(&files, mailbox, path, &mut problem, &mut going)?),
        // The command line demands one of them.
        (None, None) => return Ok(done(app)),
    };
    app.console.settle();
    let place = place.display().to_string();
    if app.console.json {
        app.console.object(&SummaryLine {
            message_type: "summary",
            mailbox: &mailbox.shown,
            place,
            messages: exported.messages,
            bytes: exported.bytes,
            failed: exported.failed,
        })?;
    } else {
        app.console.say(&mail::exported(&exported, &place))?;
    }
    Ok(done(app))
}
