//! `backup`: one pull of a source.

use std::path::Path;

use mailkeep_mail::Source;
use mailkeep_puller::{ProcessTransport, PullOptions, Summary, Survey, pull, survey};
use mailkeep_repository::WriterOptions;
use mailkeep_restorer::path;

use crate::App;
use crate::args::Backup;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::{repo, signal, units};

/// Program and version, for agent and manifest.
const PROGRAM: &str = concat!("mailkeep ", env!("CARGO_PKG_VERSION"));

pub(crate) fn run(app: &App, args: &Backup) -> Result<u8, Failure> {
    let source = read_source(&args.source)?;
    let repository = repo::open(app)?;
    let cancel = signal::cancel_first(&app.console)?;
    let ear = Ear::new(&app.console);
    let transport = ProcessTransport::default();
    let writer = WriterOptions::default();
    let options = PullOptions {
        force_window: args.force_window,
        live_only: args.live_only,
        transport: &transport,
        cancel: &cancel,
        writer: &writer,
        program: PROGRAM,
    };
    if args.dry_run {
        let survey = survey(&repository, &source, &options, &ear)?;
        app.console.settle();
        tell_survey(app, &survey)?;
        return Ok(survey.exit_code());
    }
    let summary = pull(&repository, &source, &options, &ear)?;
    app.console.settle();
    tell(app, &summary)?;
    Ok(summary.exit_code())
}

fn read_source(path: &Path) -> Result<Source, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::file(exit::CONFIG, "read the source file", path, &error))?;
    let origin = path.display().to_string();
    Source::parse(&text, &origin)
        .map_err(|error| Failure::new(exit::CONFIG, exit::chain(&error)).at(origin.clone()))
}

fn tell(app: &App, summary: &Summary) -> Result<(), Failure> {
    if app.console.json {
        return app.console.object(summary);
    }
    let say = |line: String| app.console.say(&line);
    let id: String = summary.snapshot_id.hex().chars().take(10).collect();
    let files = units::counted(summary.files, "file", "files");
    say(format!(
        "Snapshot {id} (generation {}) of {}: {files}, {}; {} new on the disk; took {}.",
        summary.generation,
        summary.source,
        units::size(summary.bytes),
        units::size(summary.added_bytes),
        units::duration(summary.seconds)
    ))?;
    match (summary.window_ms, summary.consistent) {
        (Some(ms), true) => {
            let window = units::duration(ms as f64 / 1000.0);
            say(format!("Mail was stopped for {window}; the copy is consistent."))?;
        }
        (Some(ms), false) => {
            let window = units::duration(ms as f64 / 1000.0);
            say(format!("Mail was stopped for {window}, and yet the copy is NOT consistent."))?;
        }
        (None, true) => say("The copy is consistent.".to_owned())?,
        (None, false) => say("Mail was not stopped: the copy is not consistent.".to_owned())?,
    }
    if let Some(check) = &summary.mail_check {
        let mailboxes = units::counted(check.mailboxes, "mailbox", "mailboxes");
        let messages = units::counted(check.messages, "message", "messages");
        let verdict =
            if check.ok { "ok".to_owned() } else { units::counted(check.problems, "problem", "problems") };
        say(format!("Mail check: {verdict} ({mailboxes}, {messages})."))?;
        for problem in &check.problem_list {
            say(format!("  {}", path::show(problem.as_bytes())))?;
        }
    }
    for remark in &summary.remarks {
        say(format!("Note: {}", path::show(remark.as_bytes())))?;
    }
    if summary.problem_count > 0 {
        let problems = units::counted(summary.problem_count, "thing", "things");
        say(format!("{problems} could not be backed up; listed above."))?;
    }
    Ok(())
}

fn tell_survey(app: &App, survey: &Survey) -> Result<(), Failure> {
    if app.console.json {
        return app.console.object(survey);
    }
    let line = |line: String| app.console.line(&line);
    line("Nothing was read, stored or stopped. A backup would".to_owned())?;
    let shown = |text: &str| path::show(text.as_bytes());
    line(format!(
        "  walk        {} on {}",
        survey.roots.iter().map(|root| shown(root)).collect::<Vec<_>>().join(", "),
        shown(&survey.host)
    ))?;
    match &survey.quiesce {
        Some(how) => line(format!("  stop mail   by {}", shown(how)))?,
        None => line("  stop mail   not at all".to_owned())?,
    }
    let to_read = units::counted(survey.files_to_read, "file", "files");
    let of = units::counted(survey.files, "file", "files");
    line(format!(
        "  read        {to_read} ({}) of {of} ({})",
        units::size(survey.bytes_to_read),
        units::size(survey.bytes)
    ))?;
    match &survey.parent {
        Some(parent) => {
            line(format!("  build on    snapshot {}", parent.hex().chars().take(10).collect::<String>()))
        }
        None => line("  build on    nothing: it would be the first one".to_owned()),
    }
}
