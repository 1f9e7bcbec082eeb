//! `verify --mail`: the mail of each snapshot against its exported list and its indexes, as when it was backed up.

use std::cell::Cell;
use std::sync::Arc;

use mailkeep_mailview::{Checked, Files, MailTree};
use mailkeep_repository::{Repository, SnapshotEntry};
use mailkeep_restorer::View;
use serde::Serialize;

use crate::App;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::progress::Reading;
use crate::repo;
use crate::text::report;

/// Over all snapshots.
#[derive(Debug, Default, Serialize)]
pub(super) struct Sums {
    pub(super) snapshots: u64,
    pub(super) mailboxes: u64,
    pub(super) messages: u64,
    pub(super) problems: u64,
    /// Snapshots of which no mail was ever checked: of trees, and of servers that hold none.
    pub(super) without: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    message_type: &'static str,
    snapshot_id: String,
    source: &'a str,
    consistent: bool,
    ok: bool,
    mailboxes: u64,
    messages: u64,
    problems: u64,
}

/// Checks every snapshot. What is wrong with one of a server at rest is damage; one that was taken while mail ran promises
/// nothing, so what it lacks is told and no more.
pub(super) fn check(app: &App, repository: &Repository, ear: &Ear) -> Result<Sums, Failure> {
    let entries = repository.snapshots(ear)?;
    let base = Files::new(View::new(Arc::new(repository.reader(ear)?), Vec::new()));
    let mut sums = Sums::default();
    for (number, entry) in entries.iter().enumerate() {
        app.console.progress(&Reading {
            phase: "mail",
            files_done: sums.messages,
            part: Some((number as u64, entries.len() as u64)),
            ..Reading::default()
        });
        if entry.manifest.source.system != "cyrus" {
            sums.without += 1;
            continue;
        }
        one(app, entry, &base.sibling(entry.manifest.root.clone()), &mut sums)?;
    }
    Ok(sums)
}

fn one(app: &App, entry: &SnapshotEntry, files: &Files, sums: &mut Sums) -> Result<(), Failure> {
    let manifest = &entry.manifest;
    let place = repo::short(entry);
    let found = Cell::new(0);
    let problem = |what: &str, promised: bool| {
        if promised {
            found.set(found.get() + 1);
            app.console.problem(&place, what, true);
        } else {
            app.console.remark(&place, &report::was_moving(what));
        }
    };
    let checked = MailTree::of(files).and_then(|tree| {
        tree.problems().iter().for_each(|what| problem(what, manifest.consistent));
        mailkeep_mailview::check(files, &tree)
    });
    let checked = match checked {
        Ok(Checked::Mail(checked)) => checked,
        // What was never promised is not missing.
        Ok(Checked::Not(_)) if manifest.mail_check.is_none() => {
            sums.without += 1;
            return Ok(());
        }
        Ok(Checked::Not(why)) => {
            problem(&why, manifest.consistent);
            Default::default()
        }
        // Damage of the repository: it is worse than what a moving server explains.
        Err(error) => {
            problem(&exit::chain(&error), true);
            Default::default()
        }
    };
    checked.problems.iter().for_each(|found| problem(&found.to_string(), manifest.consistent));
    let untold = checked.problem_count.saturating_sub(checked.problems.len() as u64);
    if untold > 0 {
        problem(&format!("and {untold} more"), manifest.consistent);
    }
    sums.snapshots += 1;
    sums.problems += found.get();
    sums.mailboxes += checked.mailboxes;
    sums.messages += checked.messages;
    if app.console.json {
        app.console.object(&Line {
            message_type: "mail_check",
            snapshot_id: entry.id.hex(),
            source: &manifest.source.name,
            consistent: manifest.consistent,
            ok: checked.ok && found.get() == 0,
            mailboxes: checked.mailboxes,
            messages: checked.messages,
            problems: checked.problem_count,
        })?;
    }
    Ok(())
}
