//! `mail search`: messages by sender, subject and more, in one snapshot or in all.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{Local, NaiveDate, TimeZone};
use mailkeep_mailview::{Files, Hit, Query, Searched, search};
use mailkeep_repository::SnapshotEntry;
use mailkeep_restorer::View;
use mailkeep_restorer::path::show;
use serde::Serialize;

use super::done;
use crate::App;
use crate::args::MailSearch;
use crate::ear::Ear;
use crate::exit::Failure;
use crate::text::{mail, report};
use crate::{repo, signal, units};

#[derive(Serialize)]
struct HitLine<'a> {
    message_type: &'static str,
    source: &'a str,
    mailbox: &'a str,
    uid: u32,
    internal_date: String,
    size: u64,
    from: &'a str,
    to: &'a str,
    subject: &'a str,
    message_id: &'a str,
    /// How many of the searched snapshots have it, the first and the last of them.
    snapshots: usize,
    first_snapshot: String,
    last_snapshot: String,
    /// The first searched snapshot after the last that has it.
    gone_in: Option<String>,
}

pub(crate) fn run(app: &App, args: &MailSearch) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let query = Query::parse(&args.terms, &midnight)?;
    let ear = Ear::new(&app.console);
    let repository = repo::open(app)?;
    let entries = wanted(args, &repository, &ear)?;
    let files = Files::new(View::new(Arc::new(repository.reader(&ear)?), Vec::new()));
    let searched: Vec<Searched> = entries
        .iter()
        .map(|entry| Searched {
            files: files.sibling(entry.manifest.root.clone()),
            source: entry.manifest.source.name.clone(),
            mailboxes: None,
        })
        .collect();
    let mut found = 0u64;
    let mut problem = |what: &str, damage: bool| app.console.problem("", what, damage);
    search(&searched, &query, &mut problem, &mut |hit| {
        found += 1;
        tell(app, &entries, &hit, args.all_snapshots)
    })?;
    if found == 0 {
        app.console.say(report::NOTHING_FOUND)?;
    } else {
        app.console.say(&mail::found(found))?;
    }
    Ok(done(app))
}

/// The snapshots to search, oldest first.
fn wanted(
    args: &MailSearch,
    repository: &mailkeep_repository::Repository,
    ear: &Ear,
) -> Result<Vec<SnapshotEntry>, Failure> {
    if let Some(snapshot) = &args.snapshot {
        return Ok(vec![repo::find(repository, snapshot, args.source.as_deref(), ear)?]);
    }
    let mut entries = repository.snapshots(ear)?;
    entries.retain(|entry| args.source.as_ref().is_none_or(|source| entry.manifest.source.name == *source));
    if args.all_snapshots {
        return Ok(entries);
    }
    let mut newest: BTreeMap<String, SnapshotEntry> = BTreeMap::new();
    for entry in entries {
        newest.insert(entry.manifest.source.name.clone(), entry);
    }
    Ok(newest.into_values().collect())
}

/// When a day begins here.
pub(super) fn midnight(day: &str) -> Option<i64> {
    let day = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0)?;
    Some(Local.from_local_datetime(&day).earliest()?.timestamp())
}

fn tell(app: &App, entries: &[SnapshotEntry], hit: &Hit, all: bool) -> Result<(), Failure> {
    let entry = |number: usize| entries.get(number);
    let Some(first) = hit.snapshots.first().and_then(|number| entry(*number)) else { return Ok(()) };
    let last = hit.snapshots.last().and_then(|number| entry(*number)).unwrap_or(first);
    let vanished = hit.vanished().and_then(|(last, next)| Some((entry(last)?, entry(next)?)));
    if app.console.json {
        return app.console.object(&HitLine {
            message_type: "match",
            source: &first.manifest.source.name,
            mailbox: &hit.mailbox,
            uid: hit.uid,
            internal_date: units::utc(hit.internal_date),
            size: hit.size,
            from: &hit.head.from,
            to: &hit.head.to,
            subject: &hit.head.subject,
            message_id: &hit.head.message_id,
            snapshots: hit.snapshots.len(),
            first_snapshot: first.id.hex(),
            last_snapshot: last.id.hex(),
            gone_in: vanished.map(|(_, next)| next.id.hex()),
        });
    }
    let line = |text: &str| app.console.line(&show(text.as_bytes()));
    line(&format!(
        "{} {}  {}  {}",
        hit.mailbox,
        hit.uid,
        units::local(hit.internal_date),
        units::size(hit.size)
    ))?;
    line(&format!("    {}", hit.head.from))?;
    line(&format!("    {}", hit.head.subject))?;
    if all {
        let named = |entry: &SnapshotEntry| {
            format!("{} ({})", repo::short(entry), units::local(entry.manifest.started))
        };
        let mut text = mail::there(&named(first), &named(last), hit.snapshots.len());
        if let Some((last, next)) = vanished {
            text = format!("{text}; {}", mail::vanished(&named(last), &named(next)));
        }
        line(&format!("    {text}"))?;
    }
    Ok(())
}
