//! `guards`: the states of the repository that btrfs keeps, and the way back to one of them, in two steps.

use mailkeep_repository::{
    GuardState, KeySource, Machine, RollBack, SnapshotEntry, guards, plan_roll_back, roll_back,
};
use serde::Serialize;

use crate::App;
use crate::args::Guards;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::table::{Align, Table};
use crate::text::report;
use crate::{repo, signal, units};

#[derive(Serialize)]
struct GuardLine<'a> {
    message_type: &'static str,
    name: &'a str,
    made_by: &'static str,
    readable: bool,
    snapshots: u64,
    generation: Option<u64>,
    time: Option<String>,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    message_type: &'static str,
    guard: &'a str,
    done: bool,
    lost: Vec<String>,
    regained: Vec<String>,
    kept: Option<String>,
    replaced: Option<String>,
}

pub(crate) fn run(app: &App, verb: &Guards) -> Result<u8, Failure> {
    match verb {
        Guards::List => list(app),
        Guards::Rollback { guard, dry_run, yes } => back(app, guard, *dry_run, *yes),
    }
}

/// The key that was named; the repository itself may be past opening.
fn key(app: &App) -> KeySource {
    let key = &app.options.key_file;
    match app.options.key_file_named || key.exists() {
        true => KeySource::File(key.clone()),
        false => KeySource::Plain,
    }
}

fn list(app: &App) -> Result<u8, Failure> {
    repo::storage(app)?;
    let found = guards(app.options.repo()?, &key(app))?;
    let mut code = exit::DONE;
    let align = [Align::Left, Align::Left, Align::Right, Align::Right, Align::Left];
    let mut table = Table::new(report::GUARD_COLUMNS, align);
    for guard in &found {
        let GuardState { name, by_prune, snapshots } = guard;
        if let Err(error) = snapshots {
            app.console.warning(&format!("{name}: {}", exit::chain(error)));
            code = exit::PARTLY;
        }
        let made_by = if *by_prune { "prune" } else { "seal" };
        let entries = snapshots.as_ref().map_or(&[][..], Vec::as_slice);
        let newest = entries.last().map(|entry| &entry.manifest);
        if app.console.json {
            app.console.object(&GuardLine {
                message_type: "guard",
                name,
                made_by,
                readable: snapshots.is_ok(),
                snapshots: entries.len() as u64,
                generation: newest.map(|manifest| manifest.generation),
                time: newest.map(|manifest| units::utc(manifest.started)),
            })?;
        } else {
            table.row([
                name.clone(),
                made_by.to_owned(),
                units::count(entries.len() as u64),
                newest.map_or("-".to_owned(), |manifest| manifest.generation.to_string()),
                newest.map_or("-".to_owned(), |manifest| units::local(manifest.started)),
            ]);
        }
    }
    if !app.console.json {
        if found.is_empty() {
            app.console.say(report::NO_GUARDS)?;
        } else {
            table.lines().try_for_each(|line| app.console.line(&line))?;
        }
    }
    Ok(code)
}

fn back(app: &App, guard: &str, dry_run: bool, yes: bool) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    repo::storage(app)?;
    let (path, key) = (app.options.repo()?, key(app));
    let plan = plan_roll_back(path, guard, &key)?;
    if !app.console.json {
        report::roll_back(&plan).iter().try_for_each(|line| app.console.line(line))?;
    }
    if !yes {
        if app.console.json {
            app.console.object(&summary(&plan, false, None, None))?;
        }
        // What was shown belongs before the refusal.
        app.console.flush()?;
        return match dry_run {
            true => Ok(exit::DONE),
            false => Err(Failure::new(exit::USAGE, report::NOT_CONFIRMED).hint(report::NOT_CONFIRMED_HINT)),
        };
    }
    let done = roll_back(path, guard, &key, &Machine::this(), &Ear::new(&app.console))?;
    let kept = done.kept.display().to_string();
    if app.console.json {
        app.console.object(&summary(&plan, true, Some(kept), done.guard))?;
    } else {
        app.console.say(&format!("Done. The replaced state is in {kept}; remove it when you are sure."))?;
    }
    Ok(exit::DONE)
}

fn summary(plan: &RollBack, done: bool, kept: Option<String>, replaced: Option<String>) -> SummaryLine<'_> {
    let ids = |entries: &[SnapshotEntry]| entries.iter().map(|entry| entry.id.hex()).collect();
    let (lost, regained) = (ids(&plan.lost), ids(&plan.regained));
    SummaryLine { message_type: "summary", guard: &plan.guard, done, lost, regained, kept, replaced }
}
