//! `mount`: shows the snapshots as folders, in the foreground or from a process of its own.
//!
//! Going into the background is done by starting this program again in a session of its own, before there are any
//! threads; it says on its stdout when the files are there, and the first process ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use mailkeep_mount::{MountOptions, Snapshot, mount};
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
    let base = View::new(Arc::new(repository.reader(&ear)?), Vec::new());
    let snapshots: Vec<Snapshot> = repository
        .snapshots(&ear)?
        .into_iter()
        .map(|entry| Snapshot {
            id: entry.id.hex(),
            time: entry.manifest.started,
            view: base.sibling(entry.manifest.root),
        })
        .collect();
    let count = snapshots.len();
    let mounted = mount(&args.point, snapshots, MountOptions { allow_other: args.allow_other })?;
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
