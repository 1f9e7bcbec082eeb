//! Who still holds files of the mail store open after mail was stopped. Found by looking at open files, one process at
//! a time: `fuser` on a folder that is no mount point matches half of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::limits;

/// A process that holds something open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Straggler {
    /// Its number.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// One of the files.
    pub file: PathBuf,
}

impl std::fmt::Display for Straggler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {}) holds {}", self.name, self.pid, self.file.display())
    }
}

/// Which open files count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// All.
    Anyhow,
    /// Those that are open for writing.
    ForWriting,
}

/// All processes with an open file under one of `roots` (real paths), without `spared` and without us.
pub fn find(roots: &[PathBuf], spared: &[u32], held: Held) -> Vec<Straggler> {
    let own = std::process::id();
    pids()
        .into_iter()
        .filter(|pid| u32::try_from(*pid).is_ok_and(|pid| pid != own && !spared.contains(&pid)))
        .filter_map(|pid| {
            let file = open_below(pid, roots, held)?;
            Some(Straggler { pid, name: name(pid), file })
        })
        .collect()
}

/// Ends a straggler, if it still is one: numbers are used again.
pub fn end(straggler: &Straggler, roots: &[PathBuf], signal: Signal) {
    if open_below(straggler.pid, roots, Held::Anyhow).is_some() {
        if let Some(pid) = Pid::from_raw(straggler.pid) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Cyrus masters that will never end: told to stop, they spin for ever, with at most zombies below them
/// (cyrus-imapd 5309). Recognised by their name, by the configuration they were started with, and by what they do: burn
/// time without a living child. Takes [`limits::STUCK_LOOK`]. Killing one is safe.
pub fn stuck_masters(imapd_conf: &Path) -> Vec<i32> {
    stuck_within(imapd_conf, limits::STUCK_LOOK)
}

fn stuck_within(imapd_conf: &Path, look: Duration) -> Vec<i32> {
    let is_master = |pid: &i32| matches!(name(*pid).as_str(), "master" | "cyrmaster" | "cyrus-master");
    let ours = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let named = words.iter().position(|word| *word == b"-C").and_then(|at| words.get(at + 1));
        match named {
            Some(conf) => *conf == std::os::unix::ffi::OsStrExt::as_bytes(imapd_conf.as_os_str()),
            None => imapd_conf == Path::new("/etc/imapd.conf"),
        }
    };
    let spinning = |pid: i32| {
        let all = pids();
        let mut below = all.iter().filter_map(|pid| Status::of(*pid)).filter(|status| status.parent == pid);
        let status = Status::of(pid).filter(|status| status.state == 'R')?;
        below.all(|child| child.state == 'Z').then_some(status.ticks)
    };
    let before: Vec<(i32, u64)> = pids()
        .into_iter()
        .filter(|pid| is_master(pid) && ours(pid))
        .filter_map(|pid| Some((pid, spinning(pid)?)))
        .collect();
    if before.is_empty() {
        return Vec::new();
    }
    std::thread::sleep(look);
    let stuck =
        |(pid, ticks): &(i32, u64)| spinning(*pid).is_some_and(|now| now >= ticks + limits::STUCK_TICKS);
    before.into_iter().filter(stuck).map(|(pid, _)| pid).collect()
}

/// Processes that carry a mark (`NAME=value`) in their environment.
pub fn with_mark(mark: &str) -> Vec<i32> {
    let carries = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    pids().into_iter().filter(|pid| *pid != own && carries(pid)).collect()
}

/// Whether a process of one of these names runs.
pub fn is_running(names: &[&str]) -> bool {
    let alive = |pid: i32| Status::of(pid).is_some_and(|status| status.state != 'Z');
    pids().into_iter().any(|pid| names.contains(&name(pid).as_str()) && alive(pid))
}

/// Kills a process at once.
pub fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn open_below(pid: i32, roots: &[PathBuf], held: Held) -> Option<PathBuf> {
    // Also those whose last name is gone; the kernel adds " (deleted)" to the path.
    let below = |path: &PathBuf| roots.iter().any(|root| path.starts_with(root));
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let path = fs::read_link(entry.path()).ok().filter(below)?;
        (held == Held::Anyhow || is_writable(pid, entry.file_name().to_str()?)).then_some(path)
    })
}

/// Whether an open file is open for writing; `flags` of fdinfo is octal, with the access mode in its last two bits.
fn is_writable(pid: i32, fd: &str) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 3 != 0)
}

/// What the kernel says of a process.
struct Status {
    /// Its state letter. A zombie answers `kill -0`, so the letter is what counts.
    state: char,
    parent: i32,
    /// Processor time used, in clock ticks.
    ticks: u64,
}

impl Status {
    fn of(pid: i32) -> Option<Status> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may have brackets and spaces: what counts is after the last bracket, field 3 and on.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3).and_then(|ticks| ticks.parse::<u64>().ok());
        Some(Status {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            ticks: ticks(14)? + ticks(15)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_who_holds_a_file_below_the_root_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("spool")).unwrap();
        fs::create_dir(root.join("spool2")).unwrap();
        let hold = |name: &str| {
            let file = fs::File::create(root.join(name)).unwrap();
            Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().unwrap()
        };
        let (mut holder, mut neighbour) = (hold("spool/cyrus.index"), hold("spool2/other"));
        let roots = [root.join("spool")];
        let found = find(&roots, &[], Held::Anyhow);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].pid, i32::try_from(holder.id()).unwrap());
        assert_eq!(found[0].file, root.join("spool/cyrus.index"));
        assert!(find(&roots, &[holder.id()], Held::Anyhow).is_empty());
        assert_eq!(find(&roots, &[], Held::ForWriting), found);
        let file = fs::File::open(root.join("spool/cyrus.index")).unwrap();
        let mut reader = Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().unwrap();
        assert_eq!(find(&roots, &[], Held::Anyhow).len(), 2);
        assert_eq!(find(&roots, &[], Held::ForWriting), found, "a reader writes nothing");
        reader.kill().unwrap();
        reader.wait().unwrap();
        end(&found[0], &roots, Signal::KILL);
        holder.wait().unwrap();
        assert!(find(&roots, &[], Held::Anyhow).is_empty());
        assert_eq!(neighbour.try_wait().unwrap(), None, "the neighbour was hit too");
        neighbour.kill().unwrap();
        neighbour.wait().unwrap();
    }

    #[test]
    fn we_are_alive_and_no_master() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(Status::of(own).is_some_and(|status| status.state != 'Z' && status.parent > 0));
        assert!(stuck_masters(Path::new("/no/imapd.conf")).is_empty());
    }

    #[test]
    fn a_master_that_spins_over_nothing_is_stuck_and_one_that_waits_is_not() {
        // A shell under the name of the master, which the kernel takes from the file name.
        let dir = tempfile::tempdir().unwrap();
        let master = dir.path().join("master");
        // Made by a child: what this process has open for writing is inherited by whatever another test forks at this
        // moment, and cannot be run until that has gone ("text file busy").
        assert!(Command::new("cp").arg("/bin/sh").arg(&master).status().unwrap().success());
        let start = |script: &str, conf: &str| {
            Command::new(&master)
                .args(["-c", script, "master", "-C", conf])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut all = [
            start("while :; do :; done", "/ours/imapd.conf"),
            start("read line", "/ours/imapd.conf"),
            start("while :; do :; done", "/other/imapd.conf"),
            start("sleep 600 & while :; do :; done", "/ours/imapd.conf"),
        ];
        let ours = i32::try_from(all[0].id()).unwrap();
        // On a busy machine a short look finds that it hardly ran; whatever the load, nobody else is ever taken for it.
        let look = |doubled: u32| {
            stuck_within(Path::new("/ours/imapd.conf"), limits::STUCK_LOOK * 2u32.pow(doubled))
        };
        let stuck = (0..7).map(look).find(|stuck| !stuck.is_empty()).unwrap_or_default();
        let parent = i32::try_from(all[3].id()).unwrap();
        for pid in
            pids().into_iter().filter(|pid| Status::of(*pid).is_some_and(|status| status.parent == parent))
        {
            kill(pid);
        }
        for process in &mut all {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        assert_eq!(stuck, [ours]);
    }
}
