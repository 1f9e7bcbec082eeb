//! `mount`: shows the snapshots as folders, in the foreground or from a process of its own.
//!
//! Going into the background is done by starting this program again in a session of its own, before there are any
//! threads; it says on its stdout when the files are there, and the first process ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mailkeep_mount::{KEPT_BLOCKS, MountOptions, News, Snapshot, mount};
use mailkeep_repository::{Monitor, Repository, RepositoryError, SnapshotEntry};
use mailkeep_restorer::View;

use crate::App;
use crate::args::Mount;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::text::report;
use crate::{repo, signal};

/// What the process in the background says when the files are there.
const READY: &str = "ready";

pub(crate) fn run(app: &App, args: &Mount) -> Result<u8, Failure> {
    refuse_to_hide(app, &args.point)?;
    if !args.foreground && !args.in_background {
        return go_into_background(app, args);
    }
    if args.in_background {
        // A session of its own: what becomes of the terminal is none of its business. It cannot lead one already,
        // since it was started by us; and if it did, that would do as well.
        let _ = rustix::process::setsid();
    }
    let ear = Ear::new(&app.console);
    let repository = repo::open(app)?;
    let seen = names(&repository).unwrap_or_default();
    let snapshots = snapshots(&repository, &ear)?;
    let count = snapshots.len();
    let news = news(repository, seen, Ear::new(&app.console));
    let mounted = mount(&args.point, snapshots, Some(news), MountOptions { allow_other: args.allow_other })?;
    let unmounter = mounted.unmounter();
    let console = Arc::clone(&app.console);
    signal::listen(move || {
        if let Err(error) = unmounter.unmount() {
            console.failure(&Failure::from(error));
        }
    })?;
    if args.in_background {
        announce()?;
    } else {
        app.console.say(&report::mounted(count, &args.point.display().to_string()))?;
        app.console.say(report::MOUNT_ENDS)?;
        app.console.flush()?;
    }
    mounted.wait()?;
    Ok(exit::DONE)
}

/// What is mounted on a folder hides what lies in it: that must not be the repository that is shown.
fn refuse_to_hide(app: &App, point: &Path) -> Result<(), Failure> {
    let real = |path: &Path| path.canonicalize().ok();
    let hides = match (real(app.options.repo()?), real(point)) {
        (Some(repository), Some(point)) => repository.starts_with(point),
        // What is not there is told by who needs it.
        _ => false,
    };
    if !hides {
        return Ok(());
    }
    let what = format!("{} holds the repository, which would be hidden", point.display());
    Err(Failure::new(exit::USAGE, what).hint("make an empty folder elsewhere and mount there"))
}

/// All snapshots with views that share one reader.
fn snapshots(repository: &Repository, monitor: &dyn Monitor) -> Result<Vec<Snapshot>, RepositoryError> {
    // The reader after the manifests would know too much, before them too little: what is listed must be there.
    let entries = repository.snapshots(monitor)?;
    let base = View::new(Arc::new(repository.reader_keeping(KEPT_BLOCKS, monitor)?), Vec::new());
    let shown = |entry: SnapshotEntry| Snapshot {
        id: entry.id.hex(),
        time: entry.manifest.started,
        has_mail: entry.manifest.source.system == "cyrus",
        view: base.sibling(entry.manifest.root),
    };
    Ok(entries.into_iter().map(shown).collect())
}

/// Names of the manifests (FORMAT.md, section 1): as long as they stay, so do the snapshots. `None` while nobody can tell.
fn names(repository: &Repository) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for folder in ["manifests", "manifests.2"] {
        if let Ok(entries) = repository.storage().list(folder) {
            names.extend(entries.into_iter().map(|entry| format!("{folder}/{}", entry.name)));
        }
    }
    (!names.is_empty()).then_some(names)
}

/// Looks for snapshots that came or went. Trouble is told in the log: what is shown stays as it was.
fn news(repository: Repository, mut seen: Vec<String>, ear: Ear) -> News {
    Box::new(move || {
        let now = names(&repository).filter(|now| *now != seen)?;
        match snapshots(&repository, &ear) {
            Ok(snapshots) => {
                seen = now;
                Some(snapshots)
            }
            Err(error) => {
                tracing::error!("the snapshots cannot be listed again: {}", exit::chain(&error));
                None
            }
        }
    })
}

/// Tells the process in the foreground, then lets go of its terminal.
fn announce() -> Result<(), Failure> {
    let mut out = std::io::stdout();
    writeln!(out, "{READY}").and_then(|()| out.flush())?;
    let failed =
        |error: std::io::Error| Failure::new(exit::FAILED, format!("cannot let go of the terminal: {error}"));
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map_err(failed)?;
    // From here on trouble is told to the system's log.
    rustix::stdio::dup2_stdout(&null)
        .and_then(|()| rustix::stdio::dup2_stderr(&null))
        .map_err(|error| failed(error.into()))?;
    Ok(())
}

fn go_into_background(app: &App, args: &Mount) -> Result<u8, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(exit::FAILED, format!("cannot start in the background: {error}"))
    };
    let own = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(own);
    command.args(std::env::args_os().skip(1)).arg("--in-background");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let Some(output) = child.stdout.take() else {
        return Err(Failure::new(exit::FAILED, "cannot start in the background: its output is missing"));
    };
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line)?;
    if line.trim_end() == READY {
        if app.console.json {
            let mounted = serde_json::json!({
                "message_type": "summary", "mountpoint": args.point.display().to_string(), "pid": child.id(),
            });
            app.console.object(&mounted)?;
        } else {
            app.console.say(&report::mounted_behind(&args.point.display().to_string()))?;
        }
        return Ok(exit::DONE);
    }
    // It has said on stderr (and as JSON here) what is wrong.
    let mut rest = Vec::new();
    output.read_to_end(&mut rest)?;
    app.console.raw(line.as_bytes())?;
    app.console.raw(&rest)?;
    let status = child.wait().map_err(failed)?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .filter(|code| *code != 0)
        .unwrap_or(exit::FAILED))
}
