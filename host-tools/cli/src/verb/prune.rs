//! `prune`: removes snapshots by rules and gives their room back.

use std::time::Duration;

use mailkeep_repository::retention::{Clock, Halt, Keep};
use mailkeep_repository::{PruneLine, PruneOptions, PruneReport};
use serde::Serialize;

use crate::App;
use crate::args::Prune;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::table::{Align, Table};
use crate::text::{self, report};
use crate::{repo, signal, units};

#[derive(Serialize)]
struct SnapshotLine<'a> {
    message_type: &'static str,
    id: String,
    generation: u64,
    source: &'a str,
    time: String,
    consistent: bool,
    files: u64,
    bytes: u64,
    keep: bool,
    reasons: Vec<String>,
}

#[derive(Serialize)]
struct HaltLine<'a> {
    source: &'a str,
    cause: &'static str,
    what: String,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    message_type: &'static str,
    dry_run: bool,
    kept: u64,
    removed: u64,
    halted: Vec<HaltLine<'a>>,
    dead_packs: u64,
    repacked_packs: u64,
    copied_bytes: u64,
    revived_packs: u64,
    deleted_packs: u64,
    freed_bytes: u64,
    later_bytes: u64,
    waste_bytes: u64,
    damaged_packs: u64,
    unreadable_directories: u64,
    missing_chunks: u64,
    grace_seconds: u64,
    short_of_room: bool,
}

pub(crate) fn run(app: &App, args: &Prune) -> Result<u8, Failure> {
    let options = checked(args)?;
    // Fit for this verb too: it can be cut off anywhere.
    signal::end_at_once(&app.console)?;
    let repository = repo::open(app)?;
    let report = repository.prune(&options, &Ear::new(&app.console))?;
    app.console.settle();
    if let (Some(source), true) = (&args.source, report.lines.is_empty()) {
        return Err(
            Failure::new(exit::FAILED, format!("no snapshot of {source} here")).hint("mailkeep snapshots")
        );
    }
    if app.console.json {
        for line in &report.lines {
            app.console.object(&snapshot(line))?;
        }
        app.console.object(&summary(&report, &options))?;
    } else {
        table(app, &report.lines)?;
        for line in report::pruned(&report, options.dry_run, options.grace.as_secs_f64()) {
            app.console.say(&line)?;
        }
    }
    Ok(match (app.console.damage() > 0, report.halts.is_empty()) {
        (true, _) => exit::DAMAGED,
        (false, false) => exit::PARTLY,
        (false, true) => exit::DONE,
    })
}

/// From what was typed to what is meant.
fn checked(args: &Prune) -> Result<PruneOptions, Failure> {
    let keep = Keep {
        last: args.keep_last,
        hourly: args.keep_hourly,
        daily: args.keep_daily,
        weekly: args.keep_weekly,
        monthly: args.keep_monthly,
        yearly: args.keep_yearly,
    };
    if keep.is_empty() {
        return Err(Failure::new(exit::USAGE, text::NO_KEEP).hint(text::NO_KEEP_HINT));
    }
    let options = PruneOptions::new(keep);
    let now = options.clock.now;
    Ok(PruneOptions {
        clock: Clock { now, offset: units::utc_offset(now) },
        accept_shrunk: args.accept_shrunk,
        sources: args.source.iter().cloned().collect(),
        grace: grace(&args.grace)?,
        dry_run: args.dry_run,
        ..options
    })
}

/// A duration; a lone 0 needs no unit.
pub(super) fn grace(text: &str) -> Result<Duration, Failure> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    mailkeep_mail::source::parse_duration(text)
        .map_err(|why| Failure::new(exit::USAGE, format!("`{text}` is no grace period")).hint(why))
}

fn snapshot(line: &PruneLine) -> SnapshotLine<'_> {
    SnapshotLine {
        message_type: "snapshot",
        id: line.id.hex(),
        generation: line.generation,
        source: &line.source,
        time: units::utc(line.time),
        consistent: line.consistent,
        files: line.files,
        bytes: line.bytes,
        keep: !line.reasons.is_empty(),
        reasons: line.reasons.iter().map(|reason| report::reason(*reason)).collect(),
    }
}

fn summary<'a>(report: &'a PruneReport, options: &PruneOptions) -> SummaryLine<'a> {
    let halted = report.halts.iter().map(|(source, halt)| HaltLine {
        source,
        cause: match halt {
            Halt::Clock => "clock",
            Halt::Shrunk { .. } => "shrunk",
            Halt::Damaged => "damaged",
        },
        what: halt.to_string(),
    });
    SummaryLine {
        message_type: "summary",
        dry_run: options.dry_run,
        kept: report.lines.len() as u64 - report.removed(),
        removed: report.removed(),
        halted: halted.collect(),
        dead_packs: report.dead_packs,
        repacked_packs: report.repacked_packs,
        copied_bytes: report.copied_bytes,
        revived_packs: report.revived_packs,
        deleted_packs: report.deleted_packs,
        freed_bytes: report.freed_bytes,
        later_bytes: report.later_bytes,
        waste_bytes: report.waste_bytes,
        damaged_packs: report.damaged_packs,
        unreadable_directories: report.unreadable_directories,
        missing_chunks: report.missing_chunks,
        grace_seconds: options.grace.as_secs(),
        short_of_room: report.short,
    }
}

fn table(app: &App, lines: &[PruneLine]) -> Result<(), Failure> {
    use Align::{Left, Right};
    let align = [Left, Left, Right, Left, Left, Left, Right, Left];
    let mut table = Table::new(report::PRUNE_COLUMNS, align);
    for line in lines {
        let reasons: Vec<String> = line.reasons.iter().map(|reason| report::reason(*reason)).collect();
        table.row([
            if reasons.is_empty() { "remove" } else { "keep" }.to_owned(),
            line.id.hex().chars().take(10).collect(),
            line.generation.to_string(),
            units::local(line.time),
            line.source.clone(),
            report::yes_no(line.consistent),
            units::count(line.files),
            reasons.join(", "),
        ]);
    }
    table.lines().try_for_each(|line| app.console.line(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_period_is_a_duration_or_nothing() {
        assert_eq!(grace("0").unwrap(), Duration::ZERO);
        assert_eq!(grace("0s").unwrap(), Duration::ZERO);
        assert_eq!(grace("36h").unwrap(), Duration::from_secs(36 * 3600));
        for bad in ["", "5", "x", "-1h", "1y"] {
            assert_eq!(grace(bad).unwrap_err().code(), 64, "{bad}");
        }
    }
}
