//! `backup`: one pull of a source.

use std::path::Path;

use mailkeep_mail::Source;
use mailkeep_puller::{ProcessTransport, PullOptions, Summary, Survey, pull, survey};
use mailkeep_repository::{LogMonitor, WriterOptions};
use mailkeep_restorer::path;

use crate::App;
use crate::args::Backup;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::text::{self, report};
use crate::{disks, repo, signal};

/// Program and version, for agent and manifest.
const PROGRAM: &str = concat!("mailkeep ", env!("CARGO_PKG_VERSION"));

pub(crate) fn run(app: &App, args: &Backup) -> Result<u8, Failure> {
    let source = read_source(&args.source)?;
    let repository = repo::open(app)?;
    if !repository.encrypted() && app.options.key_file.exists() {
        app.console.warning(&text::not_encrypted(&repository.place()));
    }
    let cancel = signal::cancel_first(&app.console)?;
    let ear = Ear::new(&app.console);
    let transport = ProcessTransport::default();
    let mut writer = WriterOptions::default();
    if let Some(interval) = args.checkpoint_interval {
        writer.checkpoint_every = interval;
    }
    let options = PullOptions {
        force_window: args.force_window,
        live_only: args.live_only,
        transport: &transport,
        cancel: &cancel,
        writer: &writer,
        program: PROGRAM,
        bandwidth: args.limit_download,
    };
    if args.dry_run {
        let survey = survey(&repository, &source, &options, &ear)?;
        app.console.settle();
        tell_survey(app, &survey)?;
        return Ok(survey.exit_code());
    }
    let summary = pull(&repository, &source, &options, &ear)?;
    app.console.settle();
    // What cannot be listed now was told by the backup, and is remembered another time.
    if let Ok(entries) = repository.snapshots(&LogMonitor) {
        disks::remember(app.options.repo()?, &repository, &entries);
    }
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
    let id: String = summary.snapshot_id.hex().chars().take(10).collect();
    report::pulled(summary, &id, &shown).iter().try_for_each(|line| app.console.say(line))
}

fn tell_survey(app: &App, survey: &Survey) -> Result<(), Failure> {
    if app.console.json {
        return app.console.object(survey);
    }
    report::surveyed(survey, &shown).iter().try_for_each(|line| app.console.line(line))
}

/// Text from the server, fit for a terminal.
fn shown(text: &str) -> String {
    path::show(text.as_bytes())
}
