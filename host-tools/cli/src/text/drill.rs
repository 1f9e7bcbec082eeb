//! The words of `drill`, and of its results in `snapshots` and `show`.

use std::path::Path;

use mailkeep_drill::{Cleared, Stage, Survey};
use mailkeep_repository::format::DrillRecord;
use mailkeep_restorer::path;

use crate::units::{self, counted, duration, size};

pub(crate) const ABOUT: &str = "Rehearse a restore, and keep the result beside the snapshot";
pub(crate) const LONG: &str = "\
Rehearse a restore, and keep the result beside the snapshot.

The snapshot is rebuilt in a scratch folder by the code that restores, read back from that disk and compared name by name and
byte by byte, and checked as mail: mailbox list, headers, indexes, every message with its digest. Where a Cyrus of the same
series is installed and root asks, it is started on the rebuilt files and asked over IMAP for its mailboxes, their counts and
UIDs, and some messages. It sees nothing but those files: it has a root folder, processes and a network of its own, and
listens on a socket in the scratch folder; no server that runs here is touched. Then the folder is removed, however the drill
ends; that of a drill that was killed is removed by the next one.

With --sample only a part is drawn by lot: of mail whole mailboxes with all that is no mailbox, of anything else single files.
The result is sealed with the key of the repository; `snapshots` and `show` tell it. If it cannot be kept (a disk that is
read-only, or somebody else who writes) that is said, and the exit code is 2. It is 65 if the drill has found damage.";
pub(crate) const SCRATCH: &str =
    "Where to rebuild it [default: $TMPDIR, else /var/tmp; never unasked on the disk of the repository]";
pub(crate) const SAMPLE: &str = "Only a part, drawn by lot: 5%, or 1000 (files)";
pub(crate) const SEED: &str = "Seed of the lot, to draw again what an earlier drill drew";
pub(crate) const DRY: &str = "Only tell what would be rebuilt, and whether there is room";
pub(crate) const NO_CYRUS: &str = "Do not start a Cyrus on it";
pub(crate) const CYRUS_BIN: &str = "Folder of Cyrus' programs [default: where they usually are]";
pub(crate) const RETRY: &str = "How long to wait for somebody else who writes to the disk";
pub(crate) const WAITS: &str = "the result is kept as soon as nobody else writes to the disk";

/// What is being done, in a word or two.
pub(crate) fn phase(stage: Stage) -> &'static str {
    match stage {
        Stage::Plan => "plan",
        Stage::Rebuild => "rebuild",
        Stage::Contents => "read back",
        Stage::Mail => "mail check",
        Stage::Cyrus => "cyrus",
    }
}

pub(crate) fn begins(snapshot: &str, scratch: &Path) -> String {
    format!("Rehearsing the restore of {snapshot} in {}", scratch.display())
}

pub(crate) fn cleared(cleared: &Cleared) -> String {
    let at = cleared.path.display();
    match &cleared.failed {
        None => format!("removed what an earlier drill had left in {at}"),
        Some(error) => format!("what an earlier drill has left in {at} cannot be removed: {error}"),
    }
}

pub(crate) fn not_kept(why: &str) -> String {
    format!("the result of this drill was not kept: {why}")
}

/// What would be done.
pub(crate) fn survey(survey: &Survey) -> Vec<String> {
    let what = match &survey.sample {
        None => "the whole snapshot".to_owned(),
        Some(sample) => {
            format!(
                "{} of {} files, seed {}",
                units::count(sample.files),
                units::count(sample.of),
                sample.seed
            )
        }
    };
    vec![
        format!(
            "Would rebuild {what}: {}, {}, {}",
            counted(survey.files, "file", "files"),
            counted(survey.folders, "folder", "folders"),
            size(survey.bytes)
        ),
        format!("Room: {} needed, {} free", size(survey.needed), size(survey.free)),
    ]
}

/// The result, line by line: the verdict first.
pub(crate) fn result(record: &DrillRecord) -> Vec<String> {
    let verdict = match record.passed {
        true => "The drill has passed",
        false => "THE DRILL HAS FAILED",
    };
    let mut lines = vec![format!("{verdict}: {} in {}", extent(record), took(record))];
    lines.extend(checks(record).into_iter().map(|line| format!("  {line}")));
    if !record.passed {
        lines.push(format!("  {}", counted(record.problem_count, "problem", "problems")));
    }
    lines
}

/// For the table of snapshots: `ok 2026-11-23`, `5% FAILED 2026-11-23`.
pub(crate) fn cell(record: Option<&DrillRecord>) -> String {
    let Some(record) = record else { return "-".to_owned() };
    let verdict = if record.passed { "ok" } else { "FAILED" };
    let part = record.sample.as_ref().map_or_else(String::new, |sample| format!("{} ", shown(&sample.asked)));
    format!("{part}{verdict} {}", units::day(record.started))
}

/// All of it, for `show`: the first line, then what stands below it.
pub(crate) fn described(record: &DrillRecord) -> Vec<String> {
    let verdict = if record.passed { "passed" } else { "FAILED" };
    let mut lines = vec![format!(
        "{verdict}: {} on {}, in {}, on {} by {}",
        extent(record),
        units::local(record.started),
        took(record),
        shown(&record.host),
        shown(&record.program)
    )];
    lines.extend(checks(record));
    lines.extend(record.problems.iter().map(|problem| shown(problem)));
    let untold = record.problem_count.saturating_sub(record.problems.len() as u64);
    if untold > 0 {
        lines.push(format!("and {} more", units::count(untold)));
    }
    lines
}

fn checks(record: &DrillRecord) -> Vec<String> {
    let line = |check: &mailkeep_repository::format::drill::DrillCheck| {
        format!("{:9} {:9} {}", shown(&check.name), check.verdict.word(), shown(&check.detail))
    };
    record.checks.iter().map(line).collect()
}

fn extent(record: &DrillRecord) -> String {
    let counts = format!("{}, {}", counted(record.files, "file", "files"), size(record.bytes));
    match &record.sample {
        None => format!("the whole snapshot ({counts})"),
        Some(sample) => {
            format!("a sample of {} ({counts}, seed {})", shown(&sample.asked), sample.seed)
        }
    }
}

fn took(record: &DrillRecord) -> String {
    duration(record.millis as f64 / 1000.0)
}

fn shown(text: &str) -> String {
    path::show(text.as_bytes())
}
