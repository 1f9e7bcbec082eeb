//! `show`: the manifest of a snapshot, readable.

use mailkeep_repository::SnapshotEntry;
use mailkeep_repository::format::DrillRecord;
use mailkeep_repository::format::manifest::{Manifest, PassKind};
use mailkeep_restorer::path;

use crate::App;
use crate::args::Show;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::table::{Align, Table};
use crate::text::report;
use crate::{repo, signal, units};

pub(crate) fn run(app: &App, args: &Show) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let repository = repo::open(app)?;
    let ear = Ear::new(&app.console);
    let entry = repo::find(&repository, &args.which.snapshot, args.which.source.as_deref(), &ear)?;
    let drills = repository.drills(&ear)?;
    let drill = drills.get(&entry.id);
    if app.console.json {
        let mut object = serde_json::to_value(&entry.manifest).map_err(std::io::Error::from)?;
        let drill = serde_json::to_value(drill).map_err(std::io::Error::from)?;
        if let Some(fields) = object.as_object_mut() {
            fields.insert("drill".to_owned(), drill);
            fields.insert("message_type".to_owned(), "manifest".into());
            fields.insert("id".to_owned(), entry.id.hex().into());
        }
        app.console.object(&object)?;
    } else {
        for line in describe(&entry, drill) {
            app.console.line(&line)?;
        }
    }
    Ok(exit::DONE)
}

fn describe(entry: &SnapshotEntry, drill: Option<&DrillRecord>) -> Vec<String> {
    let manifest = &entry.manifest;
    let source = &manifest.source;
    let consistent = if manifest.consistent { report::CONSISTENT } else { report::NOT_CONSISTENT };
    let stats = &manifest.stats;
    let mut lines = vec![
        field("Snapshot", &entry.id.hex()),
        field("Generation", &manifest.generation.to_string()),
        field("Source", &format!("{} ({} on {})", source.name, source.system, clean(&source.host))),
        field("Started", &units::local(manifest.started)),
        field("Sealed", &units::local(manifest.sealed)),
        field("Consistent", consistent),
        field(
            "Contents",
            &format!(
                "{}, {}, {}",
                units::counted(stats.files, "file", "files"),
                units::counted(stats.directories, "folder", "folders"),
                units::size(stats.bytes)
            ),
        ),
        field("Added", &format!("{} on the disk", units::size(stats.added_bytes))),
        field("Written by", &clean(&manifest.program)),
    ];
    for (name, version) in &manifest.versions {
        lines.push(field("Version", &clean(&format!("{name} {version}"))));
    }
    mail_check(manifest, &mut lines);
    drilled(drill, &mut lines);
    window(manifest, &mut lines);
    passes(manifest, &mut lines);
    for remark in &manifest.remarks {
        lines.push(field("Remark", &clean(remark)));
    }
    lines
}

fn mail_check(manifest: &Manifest, lines: &mut Vec<String>) {
    let Some(check) = &manifest.mail_check else {
        return lines.push(field("Mail check", "none"));
    };
    let verdict = if check.ok { "ok".to_owned() } else { report::problems(check.problem_count) };
    let counts = [
        units::counted(check.mailboxes, "mailbox", "mailboxes"),
        units::counted(check.messages, "message", "messages"),
    ];
    lines.push(field("Mail check", &format!("{verdict} ({})", counts.join(", "))));
    lines.extend(check.problems.iter().map(|problem| field("", &clean(problem))));
    let untold = check.problem_count.saturating_sub(check.problems.len() as u64);
    if untold > 0 {
        lines.push(field("", &format!("and {} more", units::count(untold))));
    }
}

fn drilled(drill: Option<&DrillRecord>, lines: &mut Vec<String>) {
    let described = drill.map_or_else(|| vec!["none".to_owned()], crate::text::drill::described);
    let names = std::iter::once("Last drill").chain(std::iter::repeat(""));
    lines.extend(names.zip(&described).map(|(name, line)| field(name, line)));
}

fn window(manifest: &Manifest, lines: &mut Vec<String>) {
    let Some(window) = &manifest.window else {
        return lines.push(field("Mail stopped", "no"));
    };
    let seconds = report::milliseconds;
    lines.push(field(
        "Mail stopped",
        &format!(
            "for {}: stop {}, export {}, freeze {}, start {}",
            seconds(window.total_ms),
            seconds(window.stop_ms),
            seconds(window.export_ms),
            seconds(window.freeze_ms),
            seconds(window.start_ms)
        ),
    ));
}

fn passes(manifest: &Manifest, lines: &mut Vec<String>) {
    use Align::{Left, Right};
    if manifest.passes.is_empty() {
        return;
    }
    let mut table = Table::new(report::PASS_COLUMNS, [Left, Left, Right, Right, Right, Right, Right]);
    for pass in &manifest.passes {
        let kind = match pass.kind {
            PassKind::Live => "live",
            PassKind::Final => "final",
        };
        table.row([
            kind.to_owned(),
            units::local(pass.clock.seconds),
            units::count(pass.files_seen),
            units::count(pass.files_changed),
            units::size(pass.bytes_read),
            units::size(pass.bytes_sent),
            report::milliseconds(pass.millis),
        ]);
    }
    lines.push(String::new());
    lines.extend(table.lines());
    lines.push(String::new());
}

fn field(name: &str, value: &str) -> String {
    format!("{name:13} {value}")
}

/// Text from a mail server, fit for a terminal.
fn clean(text: &str) -> String {
    path::show(text.as_bytes())
}
