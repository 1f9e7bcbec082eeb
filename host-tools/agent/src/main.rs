//! `mailkeep-agent`: arguments, signals and exit code; all else is in the library.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mailkeep_agent::{AgentError, one_line, window};

/// The hands of a Mailkeep box on a mail server. The box starts it over SSH; a person never needs to.
#[derive(Debug, Parser)]
#[command(name = "mailkeep-agent", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Speak with a box over standard input and output.
    Serve,
    /// Start mail if an unfinished window is found; for the boot of the server.
    Rescue,
    /// Watch over one window (started by `serve`).
    #[command(hide = true)]
    Guard {
        /// The folder of the intent.
        #[arg(long)]
        folder: PathBuf,
        /// The token of the window.
        #[arg(long)]
        token: String,
        /// The deadline, in seconds.
        #[arg(long)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Serve => serve(),
        Verb::Rescue => window::rescue_all().map(|_| ()),
        Verb::Guard { folder, token, seconds } => {
            window::guard::watch(&folder, &token, Duration::from_secs(seconds))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be left to read it.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("mailkeep-agent: {}\n", one_line(&error)).as_bytes(),
            );
            ExitCode::from(error.failed().exit_code)
        }
    }
}

fn serve() -> Result<(), AgentError> {
    let signalled = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&signalled)).map_err(AgentError::Thread)?;
    }
    let duplicate =
        |fd: std::io::Result<std::os::fd::OwnedFd>| fd.map(File::from).map_err(AgentError::Thread);
    let input = duplicate(std::io::stdin().as_fd().try_clone_to_owned())?;
    let output = duplicate(std::io::stdout().as_fd().try_clone_to_owned())?;
    mailkeep_agent::serve(Box::new(input), Box::new(output), &signalled)
}
