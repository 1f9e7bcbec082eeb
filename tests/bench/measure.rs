//! Runs a command and reads from the kernel what it and its children cost.
//!
//! The command is started by a small copy of this program (`--measure`), so that `RUSAGE_CHILDREN` of that copy counts
//! just this command, and its largest process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// What one run cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// User plus system seconds of all its processes.
    pub cpu: f64,
    /// Seconds on the clock.
    pub wall: f64,
    /// Peak resident memory of its largest process, MiB.
    pub peak_mib: f64,
}

/// The far end of [`run`]: runs `command`, prints its [`Cost`] as JSON on the last line of stderr.
pub(crate) fn measure_self(command: &[String]) -> Result<()> {
    let (program, args) = command.split_first().context("--measure wants a command")?;
    let start = Instant::now();
    let status = Command::new(program).args(args).status().with_context(|| format!("start {program}"))?;
    let wall = start.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    let cost = Cost {
        cpu: seconds(usage.user_time()) + seconds(usage.system_time()),
        wall,
        peak_mib: usage.max_rss() as f64 / 1024.0,
    };
    eprintln!("{}", serde_json::to_string(&cost)?);
    std::process::exit(status.code().unwrap_or(1));
}

/// Runs a command with this environment and working folder and returns its cost and what it printed.
pub(crate) fn run(command: &[String], env: &[(String, String)], folder: &Path) -> Result<(Cost, String)> {
    let me = std::env::current_exe().context("where is this program")?;
    let output = Command::new(me)
        .arg("--measure")
        .args(command)
        .envs(env.iter().map(|(k, v)| (k, v)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("start the measuring copy")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{} ended with {}: {}", command.join(" "), output.status, errors.trim());
    }
    let last = errors.lines().last().context("the measuring copy printed nothing")?;
    let cost = serde_json::from_str(last).with_context(|| format!("a cost, not `{last}`"))?;
    Ok((cost, String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Bytes of all files below a folder, names with several links counted once each.
pub(crate) fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { folder_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(sum)
}
