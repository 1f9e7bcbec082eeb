//! The rehearsal itself: a scratch folder, room, and one check after the other.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mailkeep_format::DrillRecord;
use mailkeep_format::drill::DrillSample;
use mailkeep_format::version::FORMAT_VERSION;
use mailkeep_mailview::{Files, MailTree};
use mailkeep_repository::{Repository, SnapshotEntry};
use mailkeep_restorer::{
    Audited, Owners, Plan, RestoreError, RestoreOptions, Special, Step, Summary, View, apply, audit, plan,
};

use crate::cyrus::{self, Served};
use crate::mail::{self, Mail};
use crate::monitor::{DrillMonitor, Listener, Stage};
use crate::report::Report;
use crate::sample::{Amount, Drawn, Lot, draw};
use crate::scratch::{Scratch, room_at};
use crate::{DrillError, limits};

/// What is rehearsed.
pub struct Subject<'a> {
    /// Where the snapshot is.
    pub repository: &'a Repository,
    /// The repository's folder, where it has one.
    pub place: Option<&'a Path>,
    /// The snapshot.
    pub entry: &'a SnapshotEntry,
    /// Its files.
    pub view: &'a View,
}

/// How.
#[derive(Clone, Debug)]
pub struct DrillOptions {
    /// Where the scratch folder is made.
    pub scratch: PathBuf,
    /// A person named that place: then it may be on the repository's own disk.
    pub scratch_named: bool,
    /// Draw a part by lot; `None` rebuilds the whole snapshot.
    pub sample: Option<Amount>,
    /// The seed of the lot.
    pub seed: u64,
    /// Start a Cyrus on what was rebuilt, where one is installed.
    pub cyrus: bool,
    /// The folder of Cyrus' programs, where it is not one of the usual ones.
    pub cyrus_bin: Option<PathBuf>,
    /// Program and version, for the record.
    pub program: String,
    /// This machine, for the record.
    pub host: String,
}

/// What a rehearsal would do.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Files and other names that are no folders.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of contents.
    pub bytes: u64,
    /// Bytes of room that it needs.
    pub needed: u64,
    /// Bytes that the scratch place has.
    pub free: u64,
    /// What would be drawn.
    pub sample: Option<DrillSample>,
    /// Why it would not be begun, if so.
    pub refusal: Option<String>,
}

/// How a rehearsal ended.
#[derive(Debug)]
pub struct Rehearsed {
    /// The result, to be kept beside the snapshot; its sequence is still open.
    pub record: DrillRecord,
    /// What a person should know beside it.
    pub remarks: Vec<String>,
}

/// Finds out what a rehearsal would do. Writes nothing.
///
/// # Errors
/// The snapshot or the scratch place cannot be read, or too much was asked for.
pub fn survey(
    subject: &Subject<'_>,
    options: &DrillOptions,
    stop: &AtomicBool,
) -> Result<Survey, DrillError> {
    // A folder that is not there: all of it would be made.
    let nowhere = options.scratch.join("mailkeep-drill-none");
    let mail = mail_of(subject)?;
    let measured = measure(subject, options, mail.as_ref(), &nowhere, stop)?;
    let totals = &measured.plan.totals;
    let refusal = check_place(subject, options).and_then(|()| measured.check_room(&options.scratch, options));
    Ok(Survey {
        files: totals.files(),
        folders: totals.folders,
        bytes: totals.bytes,
        needed: measured.needed,
        free: room_at(&options.scratch)?.bytes,
        sample: measured.drawn.map(|drawn| drawn.record),
        refusal: refusal.err().map(|error| error.to_string()),
    })
}

/// Rehearses a restore. Set `stop` to end it early.
///
/// # Errors
/// It could not be made: no room, no place, the disk out of reach, or it was stopped. That a snapshot is damaged is no error
/// but the result.
pub fn rehearse(
    subject: &Subject<'_>,
    options: &DrillOptions,
    monitor: &dyn DrillMonitor,
    stop: &AtomicBool,
) -> Result<Rehearsed, DrillError> {
    check_place(subject, options)?;
    let clock = Instant::now();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let started = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let scratch = Scratch::make(&options.scratch)?;
    let mut course = Course {
        subject,
        options,
        monitor,
        stop,
        root: rustix::process::geteuid().is_root(),
        report: Report::default(),
        remarks: Vec::new(),
        sample: None,
        rebuilt: Summary::default(),
    };
    match course.run(&scratch) {
        Ok(()) => {}
        // The snapshot itself stood in the way: that is what a rehearsal is for.
        Err(error) if error.is_damage() => {
            let before = course.report.problem_count;
            let what = chain(&error);
            monitor.problem("", &what);
            course.report.problem("", &what);
            if !course.report.checks.iter().any(|check| check.name == REBUILD) {
                course.report.done(REBUILD, before, "broken off".to_owned());
            }
        }
        Err(error) => return Err(error),
    }
    let Course { report, mut remarks, sample, rebuilt, .. } = course;
    if let Err(error) = scratch.remove() {
        remarks.push(format!("{}; the next drill with this scratch place removes it", chain(&error)));
    }
    let record = DrillRecord {
        format_version: FORMAT_VERSION,
        required_features: Vec::new(),
        repository: subject.repository.id(),
        sequence: 0,
        snapshot: subject.entry.id,
        program: options.program.clone(),
        host: options.host.clone(),
        started,
        millis: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        passed: report.passed(),
        sample,
        files: rebuilt.files,
        directories: rebuilt.folders,
        bytes: rebuilt.bytes,
        checks: report.checks,
        problem_count: report.problem_count,
        problems: report.problems,
    };
    Ok(Rehearsed { record, remarks })
}

const REBUILD: &str = "rebuild";
const CONTENTS: &str = "contents";

/// A rehearsal under way.
struct Course<'a> {
    subject: &'a Subject<'a>,
    options: &'a DrillOptions,
    monitor: &'a dyn DrillMonitor,
    stop: &'a AtomicBool,
    root: bool,
    report: Report,
    remarks: Vec<String>,
    sample: Option<DrillSample>,
    rebuilt: Summary,
}

impl Course<'_> {
    fn run(&mut self, scratch: &Scratch) -> Result<(), DrillError> {
        self.monitor.stage(Stage::Plan, 0, 0);
        let mail = mail_of(self.subject)?;
        let tree = scratch.tree();
        let measured = measure(self.subject, self.options, mail.as_ref(), &tree, self.stop)?;
        measured.check_room(scratch.path(), self.options)?;
        let Measured { plan, drawn, .. } = measured;
        self.sample = drawn.as_ref().map(|drawn| drawn.record.clone());
        self.rebuild(&plan)?;
        self.contents(&plan)?;
        self.mail(mail.as_ref(), drawn.as_ref(), scratch)
    }

    fn rebuild(&mut self, plan: &Plan) -> Result<(), DrillError> {
        let totals = &plan.totals;
        self.monitor.stage(Stage::Rebuild, totals.files(), totals.bytes);
        let before = self.report.problem_count;
        let listener =
            Listener { monitor: self.monitor, report: Mutex::new(&mut self.report), root: self.root };
        self.rebuilt = apply(plan, &listener, self.stop)?;
        let Summary { files, folders, bytes, .. } = self.rebuilt;
        self.report.done(REBUILD, before, format!("{files} files, {folders} folders, {bytes} bytes"));
        Ok(())
    }

    fn contents(&mut self, plan: &Plan) -> Result<(), DrillError> {
        let totals = &plan.totals;
        self.monitor.stage(Stage::Contents, totals.files(), totals.bytes);
        let before = self.report.problem_count;
        let repository = self.subject.repository;
        let id = |hash: &_| repository.chunk_id(mailkeep_format::ChunkKind::Data, hash);
        let listener =
            Listener { monitor: self.monitor, report: Mutex::new(&mut self.report), root: self.root };
        let Audited { files, bytes, owners, .. } = audit(plan, &id, &listener, self.stop)?;
        if owners > 0 && self.root {
            let what = format!("{owners} names have another owner or group than in the snapshot");
            self.monitor.problem("", &what);
            self.report.problem("", &what);
        } else if owners > 0 {
            self.remarks.push(format!("the owners of {owners} names were not tried: that needs root"));
        }
        self.report.done(CONTENTS, before, format!("{files} names, {bytes} bytes read back"));
        Ok(())
    }

    fn mail(
        &mut self,
        mail: Option<&MailTree>,
        drawn: Option<&Drawn>,
        scratch: &Scratch,
    ) -> Result<(), DrillError> {
        let why_not = match mail {
            None => Some("the snapshot is of no mail server"),
            Some(_) if !self.subject.entry.manifest.consistent => {
                Some("the snapshot was taken while mail ran")
            }
            Some(_) => None,
        };
        let (Some(tree), None) = (mail, why_not) else {
            for name in [mail::NAME, cyrus::NAME] {
                self.report.left_out(name, why_not.unwrap_or_default());
            }
            return Ok(());
        };
        self.monitor.stage(Stage::Mail, 0, 0);
        let mail = Mail { tree, drawn: drawn.and_then(|drawn| drawn.mailboxes.as_ref()) };
        let (monitor, stop) = (self.monitor, self.stop);
        let stopped = || stop.load(Ordering::Relaxed);
        let problem = |path: &str, what: &str| monitor.problem(path, what);
        let list = mail::check(&mail, &scratch.tree(), &stopped, &mut self.report, &problem);
        if stopped() {
            return Err(RestoreError::Interrupted.into());
        }
        let Some(list) = list.filter(|_| self.options.cyrus) else {
            let why = if self.options.cyrus { "there is no mailbox list to ask it by" } else { "not wanted" };
            self.report.left_out(cyrus::NAME, why);
            return Ok(());
        };
        self.monitor.stage(Stage::Cyrus, 0, 0);
        let served = Served {
            scratch,
            mail: &mail,
            list: &list,
            files: &Files::new(self.subject.view.clone()),
            versions: &self.subject.entry.manifest.versions,
            lot: Lot { seed: self.options.seed },
            bin: self.options.cyrus_bin.as_deref(),
            stop: &stopped,
            problem: &problem,
        };
        cyrus::check(&served, &mut self.report);
        if stopped() { Err(RestoreError::Interrupted.into()) } else { Ok(()) }
    }
}

/// The snapshot as mail; `None` where it is no mail server's.
fn mail_of(subject: &Subject<'_>) -> Result<Option<MailTree>, DrillError> {
    if subject.entry.manifest.source.system != "cyrus" {
        return Ok(None);
    }
    Ok(Some(MailTree::of(&Files::new(subject.view.clone()))?))
}

/// A restore that is planned, and what it takes.
struct Measured {
    plan: Plan,
    drawn: Option<Drawn>,
    needed: u64,
    names: u64,
}

impl Measured {
    fn check_room(&self, place: &Path, options: &DrillOptions) -> Result<(), DrillError> {
        let room = room_at(place)?;
        let path = options.scratch.display().to_string();
        if room.bytes < self.needed {
            let what = if self.drawn.is_some() { "this sample" } else { "the whole snapshot" };
            return Err(DrillError::NoRoom { path, what, free: room.bytes, needed: self.needed });
        }
        match room.names {
            Some(free) if free < self.names => Err(DrillError::NoNames { path, free, needed: self.names }),
            _ => Ok(()),
        }
    }
}

fn measure(
    subject: &Subject<'_>,
    options: &DrillOptions,
    mail: Option<&MailTree>,
    target: &Path,
    stop: &AtomicBool,
) -> Result<Measured, DrillError> {
    let stopped = || stop.load(Ordering::Relaxed);
    let lot = Lot { seed: options.seed };
    let drawn = options.sample.map(|amount| draw(subject.view, mail, amount, lot, &stopped)).transpose()?;
    let manifest = &subject.entry.manifest;
    let restore = RestoreOptions {
        exactly: drawn.as_ref().map(|drawn| drawn.paths.clone()),
        owners: Owners::of_this_machine(&manifest.users, &manifest.groups),
        // As a restore of it would do.
        special: Special::of_system(&manifest.source.system),
        ..RestoreOptions::default()
    };
    let (mut needed, mut names) = (0u64, 1u64);
    let plan = plan(subject.view, target, restore, stop, &mut |_, step| {
        names += 1;
        needed += match step {
            Step::Create(bytes) | Step::Replace(bytes) => bytes.next_multiple_of(limits::BLOCK),
            Step::MakeFolder => limits::BLOCK,
            _ => 0,
        };
        // The name itself, and what the file system keeps of it.
        needed += limits::BLOCK / 16;
    })?;
    let needed = needed.saturating_add(needed / 50).saturating_add(limits::SPARE_ROOM);
    Ok(Measured { plan, drawn, needed, names })
}

/// Where a rehearsal must not be made.
fn check_place(subject: &Subject<'_>, options: &DrillOptions) -> Result<(), DrillError> {
    let Some(repository) = subject.place else { return Ok(()) };
    let look = |path: &Path| Ok((std::fs::canonicalize(path)?, std::fs::metadata(path)?.dev()));
    let failed =
        |source| DrillError::Scratch { doing: "find", path: options.scratch.display().to_string(), source };
    let (scratch, its_disk) = look(&options.scratch).map_err(failed)?;
    let (repository, the_disk) = look(repository).map_err(failed)?;
    let path = scratch.display().to_string();
    if scratch.starts_with(&repository) {
        return Err(DrillError::InRepository { path });
    }
    if its_disk == the_disk && !options.scratch_named {
        return Err(DrillError::OnRepositoryDisk { path });
    }
    Ok(())
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
