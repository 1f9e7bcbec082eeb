//! `mailkeep-agent`: arguments, signals and exit code; all else is in the library.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use mailkeep_agent::allowed::Allowed;
use mailkeep_agent::{AgentError, detect, limits, one_line, places, snapshot, window};
use mailkeep_link::Role;
use mailkeep_mail::limits::SOURCE_FILE_BYTES;
use mailkeep_mail::source::CommandsDigest;
use mailkeep_mail::{Reach, Source};

/// Exit code for a command line that is not understood (INTERFACES: usage).
const USAGE: u8 = 64;

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
    Serve {
        /// What the box may ask for: backup or restore.
        #[arg(long, default_value_t)]
        role: Role,
        /// Digest of the commands that a source file may name, as `mailkeep pair` writes it; any if there is none.
        #[arg(long, value_name = "DIGEST")]
        commands: Option<CommandsDigest>,
        /// Longest deadline that a source file may have, in seconds; any if there is none.
        #[arg(long, value_name = "SECONDS")]
        deadline: Option<u64>,
        /// A place that may be read or put back, with all below it; may be given several times. All if there is none.
        #[arg(long, value_name = "PATH")]
        reach: Vec<PathBuf>,
    },
    /// Tell which places of this server a source file comes to, as one JSON object; the file is read from standard input.
    Reach,
    /// Tell which mail system runs here and how it would be stopped, as one JSON object; changes nothing.
    Detect {
        /// The configuration of Cyrus, if it is not where distributions keep it.
        #[arg(long)]
        imapd_conf: Option<PathBuf>,
    },
    /// Start mail if an unfinished window is found, and remove snapshots that a backup has left; for the boot of the server.
    Rescue {
        /// Try for a day instead of a few minutes.
        #[arg(long)]
        keep_trying: bool,
    },
    /// Start mail if an unfinished window is found, then take away what was installed for the next boot: this server is no
    /// longer backed up.
    Retire,
    /// Bring folders that a restore was exchanging to one side, and start nothing; for the boot of the server, before mail.
    Settle,
    /// Keep a lock for a window (started by `serve` through Cyrus' own program that takes it).
    #[command(hide = true)]
    Hold {
        /// Longest time, in seconds.
        #[arg(long)]
        seconds: u64,
    },
    /// End what holds a lock for a window.
    #[command(hide = true)]
    Release {
        /// The token of the window.
        #[arg(long)]
        token: String,
    },
    /// Watch over one window (started by `serve`).
    #[command(hide = true)]
    Guard {
        /// The folder of the intent.
        #[arg(long)]
        folder: PathBuf,
        /// The token of the window.
        #[arg(long)]
        token: String,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return if error.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(error) => {
            // clap writes several lines; the first one says what is wrong.
            let text = match error.kind() {
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".to_owned(),
                _ => error.to_string(),
            };
            let what = text.lines().next().unwrap_or_default();
            say(&format!("{}; see `mailkeep-agent --help`", what.trim_start_matches("error: ")));
            return ExitCode::from(USAGE);
        }
    };
    let done = match arguments.verb {
        Verb::Serve { role, commands, deadline, reach } => {
            let reach = match (!reach.is_empty()).then(|| Reach::new(reach)).transpose() {
                Ok(reach) => reach,
                Err(error) => {
                    say(&one_line(&error));
                    return ExitCode::from(USAGE);
                }
            };
            serve(Allowed { role, commands, deadline: deadline.map(Duration::from_secs), reach })
        }
        Verb::Reach => source()
            .and_then(|source| places::reach_of(&source))
            .and_then(|reach| tell(reach.to_json().map_err(std::io::Error::from))),
        Verb::Detect { imapd_conf } => detect::detect(imapd_conf.as_deref())
            .and_then(|found| tell(found.to_json().map_err(std::io::Error::from))),
        Verb::Rescue { keep_trying } => {
            let patience = if keep_trying { limits::GUARD_BOUND } else { limits::RESUME_BOUND };
            let rescued = window::rescue_all(patience).map(|_| ());
            clear();
            rescued
        }
        Verb::Retire => window::rescue_all(limits::RESUME_BOUND).and_then(|_| {
            clear();
            window::boot::remove()
        }),
        Verb::Settle => window::settle_all(),
        Verb::Hold { seconds } => window::lock::hold(Duration::from_secs(seconds)),
        Verb::Release { token } => window::lock::release(&token),
        Verb::Guard { folder, token } => window::guard::watch(&folder, &token),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&one_line(&error));
            ExitCode::from(error.failed().exit_code)
        }
    }
}

/// The source file on standard input.
fn source() -> Result<Source, AgentError> {
    let mut text = String::new();
    let most = u64::try_from(SOURCE_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let read = std::io::stdin().take(most).read_to_string(&mut text);
    read.map_err(|source| AgentError::State { action: "read", path: "standard input".into(), source })?;
    Ok(Source::parse(&text, "the source file")?)
}

/// One line on stdout.
fn tell(text: std::io::Result<String>) -> Result<(), AgentError> {
    let told = text.and_then(|text| writeln!(std::io::stdout(), "{text}"));
    told.map_err(|source| AgentError::State { action: "write", path: "standard output".into(), source })
}

/// Removes snapshots of runs that are no more.
fn clear() {
    snapshot::clear().iter().for_each(|left| say(left));
}

/// One line on stderr. Nobody may be left to read it.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "mailkeep-agent: {line}");
}

fn serve(allowed: Allowed) -> Result<(), AgentError> {
    let signalled = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&signalled)).map_err(AgentError::Thread)?;
    }
    let duplicate =
        |fd: std::io::Result<std::os::fd::OwnedFd>| fd.map(File::from).map_err(AgentError::Thread);
    let input = duplicate(std::io::stdin().as_fd().try_clone_to_owned())?;
    let output = duplicate(std::io::stdout().as_fd().try_clone_to_owned())?;
    mailkeep_agent::serve(Box::new(input), Box::new(output), allowed, &signalled)
}
