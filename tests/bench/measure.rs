//! Runs a command and reads from the kernel what it and all its descendants cost.
//!
//! The command is started by a small copy of this program (`--measure`) that adopts whatever the command leaves behind
//! (`PR_SET_CHILD_SUBREAPER`), so that its `RUSAGE_CHILDREN` counts just this command, helpers and agents included. Peak
//! memory is the sum over its processes of each one's own peak (`VmHWM`, mapped files included), looked at twenty times a
//! second: an upper bound of what they held at once, and never less than the largest process as the kernel counts it. This
//! program itself, as the reader of a mount, does not count.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::process::descendants;
use nix::sys::resource::{UsageWho, getrusage};
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use serde::{Deserialize, Serialize};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Ticks per second in which the kernel shows processor time (USER_HZ, the same everywhere).
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a process that was left behind may go on.
const LINGER: Duration = Duration::from_secs(20);

/// What one run cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// User plus system seconds of all its processes.
    pub(crate) cpu: f64,
    /// Seconds on the clock.
    pub(crate) wall: f64,
    /// Peak resident memory of its processes summed up, MiB.
    pub(crate) peak_mib: f64,
    /// Peak resident memory of the largest agent among them, MiB.
    #[serde(default)]
    pub(crate) agent_mib: f64,
}

impl Cost {
    /// This and then `next`.
    pub(crate) fn then(self, next: Cost) -> Cost {
        Cost {
            cpu: self.cpu + next.cpu,
            wall: self.wall + next.wall,
            peak_mib: self.peak_mib.max(next.peak_mib),
            agent_mib: self.agent_mib.max(next.agent_mib),
        }
    }
}

/// The far end of [`run`]: runs `command`, prints its [`Cost`] as JSON on the last line of stderr.
pub(crate) fn measure_self(command: &[String]) -> Result<()> {
    let (program, args) = command.split_first().context("--measure wants a command")?;
    adopt()?;
    let start = Instant::now();
    let mut child = Command::new(program).args(args).spawn().with_context(|| format!("start {program}"))?;
    let done = AtomicBool::new(false);
    let (status, wall, sampled) = thread::scope(|scope| -> Result<_> {
        let looker = scope.spawn(|| watch_memory(&done));
        let status = child.wait();
        let wall = start.elapsed().as_secs_f64();
        reap();
        done.store(true, Ordering::Relaxed);
        Ok((status?, wall, looker.join().unwrap_or_default()))
    })?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cost = Cost {
        cpu: seconds(usage.user_time()) + seconds(usage.system_time()),
        wall,
        peak_mib: sampled.all_mib.max(usage.max_rss() as f64 / 1024.0),
        agent_mib: sampled.agent_mib,
    };
    eprintln!("\n{}", serde_json::to_string(&cost)?);
    std::process::exit(status.code().unwrap_or(1));
}

/// Runs `work`, whose command has a part below `server`, a child of this process, and adds what that part took to its
/// cost. What a connection leaves behind comes to this process if it adopts ([`adopt`]).
pub(crate) fn with_far_end(server: u32, work: impl FnOnce() -> Result<Cost>) -> Result<Cost> {
    let before = served(server)?;
    let cost = work()?;
    let waited_for = waited_for()?;
    let start = Instant::now();
    while descendants(std::process::id()).iter().any(|process| process.pid != server) {
        ensure!(start.elapsed() < LINGER, "what served a connection does not end");
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        thread::sleep(Duration::from_millis(5));
    }
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    let far = served(server)? - before + self::waited_for()? - waited_for;
    Ok(Cost { cpu: cost.cpu + far, ..cost })
}

/// From now on what processes below this one leave behind comes to it.
pub(crate) fn adopt() -> Result<()> {
    set_child_subreaper(Some(getpid())).context("adopt orphans")
}

/// Processor seconds of a process and of those that it has waited for.
fn served(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // utime, stime, cutime, cstime, counted from behind the name.
    let fields = text.rsplit_once(") ").context("a row of the process table")?.1.split(' ').skip(11).take(4);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Processor seconds of everything that this process has waited for.
fn waited_for() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn seconds(time: nix::sys::time::TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

/// Waits for what the command left behind, so that it is counted.
fn reap() {
    let start = Instant::now();
    while start.elapsed() < LINGER {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => thread::sleep(Duration::from_millis(5)),
            Err(_) => return,
        }
    }
}

/// What was seen of the memory of processes, MiB.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// The sum of their peaks.
    all_mib: f64,
    /// The largest peak of an agent.
    agent_mib: f64,
}

/// The peaks of all processes below this one, when `done` has been set.
fn watch_memory(done: &AtomicBool) -> Memory {
    let mut peaks: BTreeMap<u32, u64> = BTreeMap::new();
    let mut agent = 0;
    let me = std::process::id();
    while !done.load(Ordering::Relaxed) {
        let mut parents = vec![me];
        while let Some(parent) = parents.pop() {
            for pid in children(parent) {
                let peak = peaks.entry(pid).or_default();
                *peak = (*peak).max(peak_kib(pid).unwrap_or(0));
                match name(pid).as_deref() {
                    Some("mailkeep-agent") => agent = agent.max(*peak),
                    // The reader of a mount.
                    Some("mailkeep-bench") => *peak = 0,
                    _ => {}
                }
                parents.push(pid);
            }
        }
        thread::sleep(LOOK);
    }
    let mib = |kib: u64| kib as f64 / 1024.0;
    Memory { all_mib: mib(peaks.values().sum()), agent_mib: mib(agent) }
}

fn name(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned())
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Runs a command with this environment and working folder and returns its cost. What it prints is not kept, but for an
/// error's text.
pub(crate) fn run(command: &[String], env: &[(&str, String)], folder: &Path) -> Result<Cost> {
    let me = std::env::current_exe().context("where is this program")?;
    let output = Command::new(me)
        .arg("--measure")
        .args(command)
        .envs(env.iter().map(|(k, v)| (k, v)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("start the measuring copy")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let said: Vec<&str> = errors.lines().filter(|line| !line.starts_with("{\"cpu\"")).collect();
        bail!("`{}` ended with {}: {}", command.join(" "), output.status, said.join("\n").trim());
    }
    let last = errors.lines().last().context("the measuring copy printed nothing")?;
    serde_json::from_str(last).with_context(|| format!("a cost, not `{last}`"))
}
