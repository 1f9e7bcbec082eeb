//! `mailkeepd`: command line, log and exit codes around the daemon.
//!
//! Exit codes: 0 ended as asked, 1 failed, 64 usage, 78 bad configuration.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use clap::Parser;
use clap::error::ErrorKind;
use mailkeep_appliance::cli::Cli;
use mailkeep_appliance::disk_set::DiskSet;
use mailkeep_appliance::pull_engine::PullEngine;
use mailkeep_appliance::tool::Tool;
use mailkeep_appliance::{Config, words};
use mailkeep_board::bench::{self, Bench};
use mailkeep_board::linux_gpio::LinuxGpio;
use mailkeep_board::{Board, BoardError, Layout, Sink, arrivals, usb};
use tracing_subscriber::EnvFilter;

const USAGE: u8 = 64;
const BAD_CONFIG: u8 = 78;
/// Which events are logged, in the syntax of `tracing_subscriber`; without it: info and above.
const LOG_FILTER: &str = "MAILKEEP_LOG";

fn main() -> ExitCode {
    mailkeep_puller::allocator::be_frugal();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return if error.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(error) => {
            // clap writes several lines; the first one says what is wrong.
            let text = error.to_string();
            let what = text.lines().next().unwrap_or_default();
            eprintln!("mailkeepd: {}; see `mailkeepd --help`", what.trim_start_matches("error: "));
            return ExitCode::from(USAGE);
        }
    };
    if cli.list_usb {
        return list_usb();
    }
    let config = match Config::load(&cli.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("mailkeepd: {}", words::chain(&error));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if cli.check_config {
        println!("{}", config.describe());
        return ExitCode::SUCCESS;
    }
    match serve(config, cli.log_file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mailkeepd: {}", words::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn list_usb() -> ExitCode {
    match usb::list() {
        Ok(disks) if disks.is_empty() => println!("no USB disks"),
        Ok(disks) => disks.iter().for_each(|disk| println!("{disk}")),
        Err(error @ BoardError::NoUsb(_)) => println!("{error}"),
        Err(error) => {
            eprintln!("mailkeepd: {}", words::chain(&error));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn serve(config: Config, log_file: Option<PathBuf>) -> anyhow::Result<()> {
    let draws = matches!(config.board, Layout::Bench(_)) && bench::has_terminal();
    let log_file = log_file.or_else(|| draws.then(|| config.state_dir.join("mailkeepd.log")));
    init_log(log_file.as_deref())?;
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("cannot use the state folder {}", config.state_dir.display()))?;
    let set = Arc::new(DiskSet::open(config.state_dir.clone()));
    let engine = PullEngine::new(config.key_file.clone())
        .remembering(Arc::clone(&set))
        .reading_back_in(config.verify_runs)
        .keeping(config.retention)
        .followed_by(Tool::find(), config.standbys.clone());
    let engine = Arc::new(engine);
    let (layout, disk_paths) = (config.board.clone(), config.disk_paths.clone());
    let open = move |sink: Sink| -> Result<Box<dyn Board>, BoardError> {
        match &layout {
            Layout::Bench(bench) => {
                let mut board = Bench::open(bench, sink)?;
                if let Some(file) = log_file {
                    board.tell(&format!("The log is written to {}.", file.display()))?;
                }
                Ok(Box::new(board))
            }
            Layout::LinuxGpio(gpio) => {
                let board = LinuxGpio::open(gpio, Arc::clone(&sink))?;
                arrivals::watch(disk_paths, sink)?;
                Ok(Box::new(board))
            }
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(mailkeep_appliance::run(config, engine, set, open))?;
    Ok(())
}

fn init_log(file: Option<&Path>) -> anyhow::Result<()> {
    let filter = match std::env::var(LOG_FILTER) {
        Ok(text) => {
            EnvFilter::try_new(&text).with_context(|| format!("{LOG_FILTER}={text} is not a filter"))?
        }
        Err(_) => EnvFilter::new("info"),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match file {
        None => log.with_writer(std::io::stderr).init(),
        Some(path) => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the log's folder {}", folder.display()))?;
            }
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot write the log {}", path.display()))?;
            log.with_writer(Mutex::new(file)).init();
        }
    }
    Ok(())
}
