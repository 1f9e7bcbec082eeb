//! `snapshots`: lists them, oldest first.

use std::collections::BTreeMap;

use mailkeep_repository::SnapshotEntry;
use mailkeep_repository::format::{DrillRecord, SnapshotId};
use serde::Serialize;

use crate::App;
use crate::args::Snapshots;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::table::{Align, Table};
use crate::{disks, repo, signal, text, units};

#[derive(Serialize)]
struct Line<'a> {
    message_type: &'static str,
    id: String,
    generation: u64,
    source: &'a str,
    time: String,
    consistent: bool,
    mail_check: Option<MailCheck>,
    files: u64,
    bytes: u64,
    added_bytes: u64,
    window_ms: Option<u64>,
    /// Known to have lost something on this disk; the rest of it can be restored.
    damaged: bool,
    /// How the last rehearsed restore ended; `null` if there was none.
    drill: Option<Drilled<'a>>,
}

#[derive(Serialize)]
struct Drilled<'a> {
    passed: bool,
    time: String,
    /// What was asked for; `null` for the whole snapshot.
    sample: Option<&'a str>,
    /// By the name of each check: `passed`, `failed` or `left out`.
    checks: BTreeMap<&'a str, &'static str>,
    problems: u64,
}

#[derive(Serialize)]
struct MailCheck {
    ok: bool,
    mailboxes: u64,
    messages: u64,
    problems: u64,
}

pub(crate) fn run(app: &App, args: &Snapshots) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let ear = Ear::new(&app.console);
    let repository = repo::open(app)?;
    let mut entries = repository.snapshots(&ear)?;
    disks::remember(app.options.repo()?, &repository, &entries);
    let known = repository.verification(&ear)?;
    let drills = repository.drills(&ear)?;
    let has_lost = |entry: &SnapshotEntry| known.as_ref().is_some_and(|known| known.lost.contains(&entry.id));
    if let Some(source) = &args.source {
        entries.retain(|entry| entry.manifest.source.name == *source);
    }
    if app.console.json {
        for entry in &entries {
            app.console.object(&line(entry, has_lost(entry), drills.get(&entry.id)))?;
        }
    } else if entries.is_empty() {
        app.console.say(text::report::NO_SNAPSHOTS)?;
    } else {
        table(app, &entries, &drills)?;
        for entry in entries.iter().filter(|entry| has_lost(entry)) {
            app.console.line(&text::report::has_lost(&repo::short(entry)))?;
        }
    }
    Ok(if app.console.damage() > 0 { exit::DAMAGED } else { exit::DONE })
}

fn line<'a>(entry: &'a SnapshotEntry, damaged: bool, drill: Option<&'a DrillRecord>) -> Line<'a> {
    let manifest = &entry.manifest;
    Line {
        message_type: "snapshot",
        id: entry.id.hex(),
        generation: manifest.generation,
        source: &manifest.source.name,
        time: units::utc(manifest.started),
        consistent: manifest.consistent,
        mail_check: manifest.mail_check.as_ref().map(|check| MailCheck {
            ok: check.ok,
            mailboxes: check.mailboxes,
            messages: check.messages,
            problems: check.problem_count,
        }),
        files: manifest.stats.files,
        bytes: manifest.stats.bytes,
        added_bytes: manifest.stats.added_bytes,
        window_ms: manifest.window.map(|window| window.total_ms),
        damaged,
        drill: drill.map(drilled),
    }
}

fn drilled(record: &DrillRecord) -> Drilled<'_> {
    Drilled {
        passed: record.passed,
        time: units::utc(record.started),
        sample: record.sample.as_ref().map(|sample| sample.asked.as_str()),
        checks: record.checks.iter().map(|check| (check.name.as_str(), check.verdict.word())).collect(),
        problems: record.problem_count,
    }
}

fn table(
    app: &App,
    entries: &[SnapshotEntry],
    drills: &BTreeMap<SnapshotId, DrillRecord>,
) -> Result<(), Failure> {
    use Align::{Left, Right};
    let align = [Left, Right, Left, Left, Left, Left, Left, Right, Right, Right, Right];
    let mut table = Table::new(text::report::SNAPSHOT_COLUMNS, align);
    for entry in entries {
        let manifest = &entry.manifest;
        let check = match &manifest.mail_check {
            None => "-".to_owned(),
            Some(check) if check.ok => "ok".to_owned(),
            Some(check) => text::report::problems(check.problem_count),
        };
        table.row([
            repo::short(entry),
            manifest.generation.to_string(),
            units::local(manifest.started),
            manifest.source.name.clone(),
            text::report::yes_no(manifest.consistent),
            check,
            text::drill::cell(drills.get(&entry.id)),
            units::count(manifest.stats.files),
            units::size(manifest.stats.bytes),
            units::size(manifest.stats.added_bytes),
            manifest
                .window
                .map_or_else(|| "-".to_owned(), |window| text::report::milliseconds(window.total_ms)),
        ]);
    }
    table.lines().try_for_each(|line| app.console.line(&line))
}
