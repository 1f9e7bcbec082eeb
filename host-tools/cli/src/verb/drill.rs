//! `drill`: a rehearsed restore. Survey, rehearse, keep the result, tell it.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailkeep_drill::{DrillMonitor, DrillOptions, Stage, Subject, Survey, clear_leftovers, rehearse, survey};
use mailkeep_repository::format::DrillRecord;
use mailkeep_repository::format::drill::DrillCheck;
use mailkeep_repository::{Machine, Repository, RepositoryError};
use mailkeep_restorer::View;
use serde::Serialize;

use crate::App;
use crate::args::Drill;
use crate::console::Console;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::progress::Reading;
use crate::text::drill as words;
use crate::{repo, signal};

const PROGRAM: &str = concat!("mailkeep ", env!("CARGO_PKG_VERSION"));

#[derive(Serialize)]
struct SummaryLine<'a> {
    message_type: &'static str,
    dry_run: bool,
    snapshot_id: String,
    /// `null` where nothing was rehearsed.
    passed: Option<bool>,
    /// The result is on the disk.
    kept: bool,
    sample: Option<Sample<'a>>,
    files: u64,
    folders: u64,
    bytes: u64,
    checks: &'a [DrillCheck],
    problems: u64,
    seconds: f64,
    /// Room in bytes, before it was begun.
    needed: Option<u64>,
    free: Option<u64>,
}

#[derive(Serialize)]
struct Sample<'a> {
    asked: &'a str,
    seed: u64,
    files: u64,
    of: u64,
}

impl<'a> Sample<'a> {
    fn of(sample: &'a mailkeep_repository::format::drill::DrillSample) -> Self {
        Sample { asked: &sample.asked, seed: sample.seed, files: sample.files, of: sample.of }
    }
}

pub(crate) fn run(app: &App, args: &Drill) -> Result<u8, Failure> {
    let stop = signal::cancel_first(&app.console)?;
    let patience = super::prune::grace(&args.retry_lock)?;
    let ear = Ear::new(&app.console);
    let repository = repo::open(app)?;
    let which = &args.which;
    let entry = repo::find(&repository, &which.snapshot, which.source.as_deref(), &ear)?;
    let view = View::new(std::sync::Arc::new(repository.reader(&ear)?), entry.manifest.root.clone());
    let place = app.options.repo().map(PathBuf::as_path).ok();
    let subject = Subject { repository: &repository, place, entry: &entry, view: &view };
    let machine = Machine::this();
    let options = DrillOptions {
        scratch: args.scratch.clone().unwrap_or_else(default_scratch),
        scratch_named: args.scratch.is_some(),
        sample: args.sample,
        seed: args.seed.map_or_else(random_seed, u64::from),
        cyrus: !args.no_cyrus,
        cyrus_bin: args.cyrus_bin.clone(),
        program: PROGRAM.to_owned(),
        host: machine.host.clone(),
    };
    super::restore::raise_open_files();
    if args.dry_run {
        return show(app, &entry.id.hex(), &survey(&subject, &options, &stop)?);
    }
    for cleared in clear_leftovers(&options.scratch) {
        app.console.note(&words::cleared(&cleared));
    }
    app.console.note(&words::begins(&repo::short(&entry), &options.scratch));
    let watcher = Watcher { console: &app.console, reading: Mutex::default() };
    let rehearsed = rehearse(&subject, &options, &watcher, &stop)?;
    app.console.settle();
    for remark in &rehearsed.remarks {
        app.console.warning(remark);
    }
    let kept = keep(app, &repository, rehearsed.record.clone(), &machine, patience, &stop);
    let record = kept.as_ref().unwrap_or(&rehearsed.record);
    tell(app, record, kept.is_some())?;
    Ok(match (record.passed, kept.is_some()) {
        (false, _) => exit::DAMAGED,
        (true, false) => exit::PARTLY,
        (true, true) => exit::DONE,
    })
}

/// Keeps the result; while somebody else writes to the disk it is tried again for a while.
fn keep(
    app: &App,
    repository: &Repository,
    record: DrillRecord,
    machine: &Machine,
    patience: Duration,
    stop: &AtomicBool,
) -> Option<DrillRecord> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        match repository.keep_drill(record.clone(), machine, &Ear::new(&app.console)) {
            Ok(kept) => return Some(kept),
            Err(RepositoryError::Locked { .. })
                if begun.elapsed() < patience && !stop.load(Ordering::Relaxed) =>
            {
                if !std::mem::replace(&mut told, true) {
                    app.console.note(words::WAITS);
                }
                std::thread::sleep(Duration::from_millis(500));
            }
            Err(error) => {
                app.console.problem("", &words::not_kept(&exit::chain(&error)), false);
                return None;
            }
        }
    }
}

fn show(app: &App, snapshot: &str, survey: &Survey) -> Result<u8, Failure> {
    app.console.settle();
    if app.console.json {
        app.console.object(&SummaryLine {
            message_type: "summary",
            dry_run: true,
            snapshot_id: snapshot.to_owned(),
            passed: None,
            kept: false,
            sample: survey.sample.as_ref().map(Sample::of),
            files: survey.files,
            folders: survey.folders,
            bytes: survey.bytes,
            checks: &[],
            problems: 0,
            seconds: 0.0,
            needed: Some(survey.needed),
            free: Some(survey.free),
        })?;
    } else {
        for line in words::survey(survey) {
            app.console.line(&line)?;
        }
    }
    match &survey.refusal {
        None => Ok(exit::DONE),
        Some(refusal) => Err(Failure::new(exit::FAILED, refusal)),
    }
}

fn tell(app: &App, record: &DrillRecord, kept: bool) -> Result<(), Failure> {
    if app.console.json {
        return app.console.object(&SummaryLine {
            message_type: "summary",
            dry_run: false,
            snapshot_id: record.snapshot.hex(),
            passed: Some(record.passed),
            kept,
            sample: record.sample.as_ref().map(Sample::of),
            files: record.files,
            folders: record.directories,
            bytes: record.bytes,
            checks: &record.checks,
            problems: record.problem_count,
            seconds: record.millis as f64 / 1000.0,
            needed: None,
            free: None,
        });
    }
    words::result(record).iter().try_for_each(|line| app.console.say(line))
}

/// `$TMPDIR`, else a place that is on a disk and survives a reboot, as for all that this tool puts aside.
fn default_scratch() -> PathBuf {
    match std::env::var_os("TMPDIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => Path::new("/var/tmp").to_owned(),
    }
}

/// Fits into 32 bits, so that a person can type it and every JSON reader keeps it.
fn random_seed() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(std::process::id()) & u64::from(u32::MAX)
}

/// The console as a drill's monitor.
struct Watcher<'a> {
    console: &'a Console,
    reading: Mutex<Now>,
}

/// What is going on, and how much is ahead.
#[derive(Default)]
struct Now {
    phase: &'static str,
    files: u64,
    bytes: u64,
}

impl DrillMonitor for Watcher<'_> {
    fn stage(&self, stage: Stage, files: u64, bytes: u64) {
        let phase = words::phase(stage);
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Now { phase, files, bytes };
        self.console.progress(&Reading { phase, files_done: 0, bytes_done: 0, part: None });
    }

    fn progress(&self, files: u64, bytes: u64) {
        let now = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        // Small files cost as much as their bytes do: an empty one counts as 4 KiB.
        let weigh = |files: u64, bytes: u64| bytes.saturating_add(files.saturating_mul(4096));
        self.console.progress(&Reading {
            phase: now.phase,
            files_done: files,
            bytes_done: bytes,
            part: Some((weigh(files, bytes), weigh(now.files, now.bytes))),
        });
    }

    fn problem(&self, path: &str, what: &str) {
        self.console.problem(path, what, true);
    }
}
