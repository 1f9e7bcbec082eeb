//! `restore`: plan, show, apply.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use mailkeep_mail::cyrus::Murder;
use mailkeep_restorer::{
    Overwrite, Owners, Plan, RestoreError, RestoreOptions, Special, Step, Summary, Totals, View, apply, path,
    plan,
};
use rustix::process::{Resource, Rlimit};
use serde::Serialize;

use crate::App;
use crate::args::{self, Restore};
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::{repo, signal, text, units};

#[derive(Serialize)]
struct StepLine {
    message_type: &'static str,
    action: &'static str,
    path: String,
    bytes: Option<u64>,
    why: Option<&'static str>,
}

#[derive(Serialize)]
struct SummaryLine {
    message_type: &'static str,
    dry_run: bool,
    target: String,
    /// Names written: files, links, pipes, sockets, devices.
    files: u64,
    bytes: u64,
    skipped: u64,
    problems: u64,
    folders: u64,
    amended: u64,
    deleted: u64,
}

pub(crate) fn run(app: &App, args: Restore) -> Result<u8, Failure> {
    let stop = signal::cancel_first(&app.console)?;
    let (entry, view) = repo::view(app, &args.which)?;
    let manifest = &entry.manifest;
    let owners = if args.numeric {
        Owners::numeric()
    } else {
        Owners::of_this_machine(&manifest.users, &manifest.groups)
    };
    let options = RestoreOptions {
        paths: args.paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect(),
        overwrite: match args.overwrite {
            args::Overwrite::Always => Overwrite::Always,
            args::Overwrite::IfChanged => Overwrite::IfChanged,
            args::Overwrite::Never => Overwrite::Never,
        },
        delete: args.delete,
        owners,
        special: special(args.special, &manifest.source.system),
        ..RestoreOptions::default()
    };
    raise_open_files();
    let plan = make_plan(app, &args, &view, options, &stop)?;
    if args.dry_run {
        return finish_dry(app, &args, &plan.totals);
    }
    let shown = args.target.display().to_string();
    app.console.note(&text::report::restore_begins(&repo::short(&entry), &shown, &plan.totals));
    let total = plan.totals.files() + plan.totals.skip + plan.totals.amend;
    let ear = Ear::of_restore(&app.console, total, plan.totals.bytes);
    let summary = apply(&plan, &ear, &stop).map_err(|error| {
        let again = matches!(error, RestoreError::Interrupted | RestoreError::Full { .. });
        let failure = Failure::from(error);
        if again { failure.hint(text::RESTORE_AGAIN_HINT) } else { failure }
    })?;
    app.console.settle();
    let ended = finish(app, &args, &summary)?;
    hint_at(app, &plan.totals);
    let murder = manifest.versions.iter().find(|(name, _)| name == Murder::RECORD);
    // Of a part of a server nothing starts.
    if let (Some((_, murder)), true) = (murder, args.paths.is_empty()) {
        for line in Murder::after_restore(&path::show(murder.as_bytes())) {
            app.console.note(&line);
        }
    }
    Ok(ended)
}

/// What a restore does with what lends power.
fn special(asked: args::Special, system: &str) -> Special {
    match asked {
        args::Special::Keep => Special::Keep,
        args::Special::LeaveOut => Special::LeaveOut,
        args::Special::Auto => Special::of_system(system),
    }
}

fn hint_at(app: &App, totals: &Totals) {
    if totals.left_out > 0 {
        app.console.note(&format!("mailkeep: {}", text::SPECIAL_HINT));
    }
}

fn make_plan(
    app: &App,
    args: &Restore,
    view: &View,
    options: RestoreOptions,
    stop: &AtomicBool,
) -> Result<Plan, Failure> {
    let mut written = Ok(());
    let plan = plan(view, &args.target, options, stop, &mut |path, step| {
        if written.is_ok() && args.dry_run {
            written = show(app, path, step);
        }
    });
    let plan = plan.map_err(|error| {
        let missing = |path: &&PathBuf| view.lookup(path.as_os_str().as_bytes()).is_err();
        match args.paths.iter().find(missing) {
            Some(path) => repo::not_there(error, view, path),
            None => error.into(),
        }
    })?;
    written.map(|()| plan)
}

/// Shows a step: in words what changes or takes something away, and all the rest when more is wanted.
fn show(app: &App, at: &[u8], step: Step) -> Result<(), Failure> {
    let (bytes, why) = match step {
        Step::Create(bytes) | Step::Replace(bytes) => (Some(bytes), None),
        Step::Blocked(why) | Step::LeftOut(why) => (None, Some(why)),
        _ => (None, None),
    };
    if app.console.json {
        let path = String::from_utf8_lossy(at).into_owned();
        let line = StepLine { message_type: "action", action: step.word(), path, bytes, why };
        return app.console.object(&line);
    }
    let quiet = matches!(step, Step::Same | Step::Keep);
    if quiet && !app.console.verbose() {
        return Ok(());
    }
    let tail = match (bytes, why) {
        (Some(bytes), _) => format!("  ({})", units::size(bytes)),
        (_, Some(why)) => format!("  ({why})"),
        _ => String::new(),
    };
    app.console.say(&format!("{:8} {}{tail}", step.word(), path::show(at)))
}

fn finish_dry(app: &App, args: &Restore, totals: &Totals) -> Result<u8, Failure> {
    app.console.settle();
    if app.console.json {
        app.console.object(&SummaryLine {
            message_type: "summary",
            dry_run: true,
            target: args.target.display().to_string(),
            files: totals.files(),
            bytes: totals.bytes,
            skipped: totals.skip,
            problems: totals.blocked + totals.left_out,
            folders: totals.folders,
            amended: totals.amend,
            deleted: totals.delete,
        })?;
    } else {
        app.console.line(&text::report::restore_rehearsed(totals))?;
    }
    hint_at(app, totals);
    Ok(if totals.blocked + totals.left_out > 0 { exit::PARTLY } else { exit::DONE })
}

fn finish(app: &App, args: &Restore, summary: &Summary) -> Result<u8, Failure> {
    if app.console.json {
        app.console.object(&SummaryLine {
            message_type: "summary",
            dry_run: false,
            target: args.target.display().to_string(),
            files: summary.files,
            bytes: summary.bytes,
            skipped: summary.skipped,
            problems: summary.problems,
            folders: summary.folders,
            amended: summary.amended,
            deleted: summary.deleted,
        })?;
    } else {
        let line = text::report::restored(summary, &args.target.display().to_string());
        app.console.say(&line)?;
    }
    Ok(if summary.problems > 0 { exit::PARTLY } else { exit::DONE })
}

/// Deeply nested folders are all open at once; the soft limit is a habit, the hard one counts.
pub(super) fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // Not being allowed to leaves things as they are.
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit { current: limit.maximum, maximum: limit.maximum },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_server_brings_nothing_that_lends_power_unless_it_is_trusted() {
        assert_eq!(special(args::Special::Auto, "cyrus"), Special::LeaveOut);
        assert_eq!(special(args::Special::Auto, "what comes next"), Special::LeaveOut);
        assert_eq!(special(args::Special::Auto, "generic"), Special::Keep);
        assert_eq!(special(args::Special::Keep, "cyrus"), Special::Keep);
        assert_eq!(special(args::Special::LeaveOut, "generic"), Special::LeaveOut);
    }
}
