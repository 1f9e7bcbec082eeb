//! `mailkeep`, the admin's tool: makes repositories, runs backups, looks into snapshots and restores them.
//!
//! `args.rs` is what was typed, `options.rs` what is meant, `verb/` has one file per verb, `console.rs` all output,
//! `text.rs` all words, `exit.rs` all ways to end.

mod args;
mod claimed;
mod code;
mod config;
mod console;
mod disks;
mod ear;
mod exit;
mod kit;
mod nearest;
mod nodes;
mod options;
mod progress;
mod repo;
mod sheet;
mod signal;
mod syslog;
mod table;
mod text;
mod the_box;
mod units;
mod usage;
mod verb;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use crate::args::Cli;
use crate::console::Console;
use crate::exit::Failure;
use crate::options::Options;
use crate::syslog::LogTo;

/// What every verb needs.
pub(crate) struct App {
    pub(crate) options: Options,
    pub(crate) console: Arc<Console>,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(usage::refuse(&error)),
    };
    if cli.verb.holds_much() {
        mailkeep_puller::allocator::be_frugal();
    }
    let console = Arc::new(Console::new(&cli.global));
    start_log(cli.global.verbose, cli.verb.is_in_background());
    let run = || {
        let options = Options::new(&cli.global)?;
        let app = App { options, console: Arc::clone(&console) };
        let code = verb::run(&app, cli.verb)?;
        app.console.settle();
        app.console.flush()?;
        Ok(code)
    };
    let result: Result<u8, Failure> = run();
    let code = result.unwrap_or_else(|failure| {
        console.failure(&failure);
        failure.code()
    });
    // Not by returning: a listing that nobody reads any more must not be waited for.
    std::process::exit(code.into())
}

/// The log goes to stderr (to the system's log, from the background): trouble always, the inside view with `-vv`, or as MAILKEEP_LOG says.
fn start_log(verbose: u8, background: bool) {
    let default = match verbose {
        0 | 1 => "error",
        2 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("MAILKEEP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    if background {
        log.without_time().with_ansi(false).with_writer(LogTo { system: true }).init();
    } else {
        log.with_ansi(false).with_writer(LogTo { system: false }).init();
    }
}
