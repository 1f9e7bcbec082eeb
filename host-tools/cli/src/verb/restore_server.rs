//! `restore-server`: a whole mail server from a snapshot. Plan, show, apply.

mod check;
mod over_imap;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use mailkeep_mail::Source;
use mailkeep_mailview::Files;
use mailkeep_puller::{ProcessTransport, Role};
use mailkeep_rebuild::{Counts, Plan, Server, Snapshot};
use mailkeep_restorer::format::ChunkKind;
use mailkeep_restorer::{View, path};
use serde::Serialize;

use crate::App;
use crate::args::RestoreServer;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::progress::Reading;
use crate::text::server as text;
use crate::units::{counted, size};
use crate::{repo, signal};

/// Program and version, for the agent.
pub(crate) const PROGRAM: &str = concat!("mailkeep ", env!("CARGO_PKG_VERSION"));

#[derive(Serialize)]
struct PlanLine<'a> {
    message_type: &'static str,
    host: &'a str,
    snapshot_id: &'a str,
    standby: bool,
    trees: Vec<TreeLine<'a>>,
    files: u64,
    bytes: u64,
    send_files: u64,
    send_bytes: u64,
    space: Vec<SpaceLine<'a>>,
    versions: &'a [(String, String)],
    snapshot_versions: &'a [(String, String)],
    remarks: &'a [String],
    stop: &'a str,
    mail_runs: Option<bool>,
    import_list: Option<&'a str>,
}

#[derive(Serialize)]
struct TreeLine<'a> {
    role: &'a str,
    path: &'a str,
    from: String,
}

#[derive(Serialize)]
struct SpaceLine<'a> {
    path: &'a str,
    needed: u64,
    free: u64,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    message_type: &'static str,
    dry_run: bool,
    snapshot_id: &'a str,
    standby: bool,
    /// The snapshot is served.
    restored: bool,
    files: u64,
    bytes: u64,
    sent_files: u64,
    sent_bytes: u64,
    linked: u64,
    window_ms: u64,
    mailboxes: Option<u64>,
    /// What the server showed afterwards; none on a standby, and where its agent is too old.
    check: Option<&'a check::Checked>,
    /// What it shows to those who log in; none without a password.
    imap_check: Option<&'a over_imap::Seen>,
    kept: &'a [String],
    problems: u64,
}

pub(crate) fn run(app: &App, args: &RestoreServer) -> Result<u8, Failure> {
    let cancel = signal::cancel_first(&app.console)?;
    let source = read_source(&args.source)?;
    let transport = ProcessTransport { role: Role::Restore, ..ProcessTransport::default() };
    let Some(spec) = args.snapshot.as_deref().filter(|_| !args.drop_old) else {
        let mut server = Server::connect(&source, &transport, PROGRAM, &cancel)?;
        let done = server.drop_kept()?;
        server.close();
        app.console.say(&format!("{} dropped.", counted(done.count, "tree", "trees")))?;
        return Ok(exit::DONE);
    };
    if args.as_standby && source.standby.is_none() {
        let what = "the source file does not say that this server is a standby";
        let hint = "write [standby] with of = \"NAME\" into it, NAME being the source that it stands by for";
        return Err(Failure::new(exit::CONFIG, what).hint(hint));
    }
    let login = over_imap::Login::of(args)?;
    let ear = Ear::new(&app.console);
    let repository = repo::open(app)?;
    let of = source.standby.as_ref().map_or(source.name.as_str(), |standby| standby.of.as_str());
    let entry = repo::find(&repository, spec, Some(of).filter(|_| spec == "latest"), &ear)?;
    let manifest = &entry.manifest;
    if args.as_standby && manifest.source.name != of {
        let what = format!("the snapshot is of {}, and this server stands by for {of}", manifest.source.name);
        return Err(Failure::new(exit::CONFIG, what));
    }
    let reader = Arc::new(repository.reader(&ear)?);
    let view = View::new(reader.clone(), manifest.root.clone());
    let id = repo::short(&entry);
    let chunk_id = |hash: &_| repository.chunk_id(ChunkKind::Data, hash);
    let snapshot = Snapshot { view: &view, manifest, id: id.clone(), chunk_id: &chunk_id };

    let mut server = Server::connect(&source, &transport, PROGRAM, &cancel)?;
    let files = manifest.stats.files;
    let plan = server.plan(&snapshot, &source, &|counts| progress(app, "plan", counts, files))?;
    app.console.settle();
    if !manifest.consistent {
        app.console
            .warning("the snapshot was not taken from a server at rest: its files may not fit together");
    }
    if manifest.mail_check.as_ref().is_some_and(|check| !check.ok) {
        app.console.warning("the mail check of the snapshot found problems; see `mailkeep show`");
    }
    show(app, args, &plan, &id)?;
    if plan.trees.standby.is_some() && !args.as_standby {
        let what = "this server is a standby, on which mail stays down";
        return Err(Failure::new(exit::FAILED, what).hint("say --as-standby, or `mailkeep promote` first"));
    }
    if args.dry_run {
        server.close();
        return Ok(exit::DONE);
    }
    if !args.yes && !is_confirmed(app)? {
        return Err(Failure::new(exit::USAGE, text::NOT_CONFIRMED).hint(text::NOT_CONFIRMED_HINT));
    }
    let (counts, raised) =
        server.build(&snapshot, &plan, &|counts| progress(app, "build", counts, plan.counts.files))?;
    app.console.settle();
    app.console.note("Everything is built beside; the trees are exchanged now.");
    let swapped = server.swap(args.as_standby)?;
    let mut problems = 0;
    for (what, missing) in server.take_remarks() {
        match missing {
            true => {
                problems += 1;
                app.console.problem("", &what, false);
            }
            false => app.console.note(&format!("mailkeep: {what}")),
        }
    }
    let serves = swapped.is_new && !args.as_standby;
    let files = Files::new(View::new(reader, manifest.root.clone()));
    let checked = match serves.then(|| check::check(&mut server, &snapshot, &files)) {
        None => None,
        Some(Ok(checked)) => checked,
        // The server runs on it all the same.
        Some(Err(Failure::Told { what, .. })) => {
            problems += 1;
            app.console.problem("", &format!("the server could not be looked at: {what}"), false);
            None
        }
        Some(Err(failure)) => return Err(failure),
    };
    let seen = match login.filter(|_| serves).map(|login| login.look(&files)) {
        None => None,
        Some(Ok(seen)) => Some(seen),
        Some(Err(Failure::Told { what, .. })) => {
            problems += 1;
            app.console.problem("", &format!("the server could not be looked at over IMAP: {what}"), false);
            None
        }
        Some(Err(failure)) => return Err(failure),
    };
    server.close();
    for what in seen.iter().flat_map(|seen| &seen.differences) {
        problems += 1;
        app.console.problem("IMAP", what, false);
    }
    for what in checked.iter().flat_map(|checked| &checked.differences) {
        problems += 1;
        app.console.problem("", what, false);
    }
    if app.console.json {
        app.console.object(&SummaryLine {
            message_type: "summary",
            dry_run: false,
            snapshot_id: &id,
            standby: args.as_standby,
            restored: swapped.is_new,
            files: counts.files,
            bytes: counts.bytes,
            sent_files: counts.sent_files,
            sent_bytes: counts.sent_bytes,
            linked: raised.linked,
            window_ms: swapped.window_ms,
            mailboxes: swapped.mailboxes,
            check: checked.as_ref(),
            imap_check: seen.as_ref(),
            kept: &swapped.kept,
            problems,
        })?;
    }
    if !swapped.is_new {
        let what = "mail did not come up on the restored trees, so the old ones are served again";
        let hint = format!("the restored ones are kept: {}", path::show(swapped.kept.join(", ").as_bytes()));
        return Err(Failure::new(exit::FAILED, what).hint(hint));
    }
    let sent = format!("{} of {} sent", size(counts.sent_bytes), size(counts.bytes));
    if args.as_standby {
        app.console.say(&format!(
            "The standby holds {id} ({sent}). Mail stays down there until `mailkeep promote`."
        ))?;
    } else {
        let seconds = swapped.window_ms as f64 / 1000.0;
        app.console.say(&format!("The server runs on {id} ({sent}); mail was down for {seconds:.1} s."))?;
        if let Some(seen) = &seen {
            app.console.say(&text::seen(seen.mailboxes, seen.differences.len()))?;
        }
        app.console.say(&text::checked(
            seen.is_some(),
            checked
                .as_ref()
                .map(|checked| (checked.names_equal, checked.mailboxes_examined, checked.differences.len())),
        ))?;
        app.console.say("The old trees are kept until `mailkeep restore-server --drop-old`:")?;
        for place in &swapped.kept {
            app.console.say(&format!("  {}", path::show(place.as_bytes())))?;
        }
    }
    Ok(if problems > 0 { exit::PARTLY } else { exit::DONE })
}

pub(crate) fn read_source(path: &Path) -> Result<Source, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::file(exit::CONFIG, "read the source file", path, &error))?;
    let origin = path.display().to_string();
    Source::parse(&text, &origin)
        .map_err(|error| Failure::new(exit::CONFIG, exit::chain(&error)).at(origin.clone()))
}

fn progress(app: &App, phase: &'static str, counts: &Counts, files: u64) {
    app.console.progress(&Reading {
        phase,
        files_done: counts.files,
        bytes_done: counts.bytes,
        part: Some((counts.files, files)),
    });
}

fn show(app: &App, args: &RestoreServer, plan: &Plan, id: &str) -> Result<(), Failure> {
    if !app.console.json {
        let lines = text::plan(plan, id, args.as_standby);
        return lines.iter().try_for_each(|line| app.console.line(line));
    }
    let trees = plan.matches.iter().map(|one| TreeLine {
        role: &one.role,
        path: &one.server_path,
        from: path::show(one.path.as_os_str().as_encoded_bytes()),
    });
    let space = plan.spaces.iter().map(|space| SpaceLine {
        path: &space.path,
        needed: space.needed,
        free: space.free,
    });
    app.console.object(&PlanLine {
        message_type: "plan",
        host: &plan.host,
        snapshot_id: id,
        standby: args.as_standby,
        trees: trees.collect(),
        files: plan.counts.files,
        bytes: plan.counts.bytes,
        send_files: plan.counts.sent_files,
        send_bytes: plan.counts.sent_bytes,
        space: space.collect(),
        versions: &plan.versions,
        snapshot_versions: &plan.snapshot_versions,
        remarks: &plan.remarks,
        stop: &plan.trees.stop,
        mail_runs: plan.trees.runs,
        import_list: plan.import.as_ref().map(|import| import.why.as_str()),
    })
}

/// Asks whoever sits at the terminal.
fn is_confirmed(app: &App) -> Result<bool, Failure> {
    // What was shown belongs before the question.
    app.console.flush()?;
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{}", text::QUESTION).and_then(|()| io::stdin().read_line(&mut answer));
    Ok(asked.is_ok() && answer.trim() == "yes")
}
