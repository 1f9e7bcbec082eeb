//! Runs a command under a bound and never waits longer.
//!
//! What it prints goes to a file without a name: a mail service that keeps its starter's output open for ever neither
//! holds our pipes open nor blocks on them. It gets a process group of its own, so that it can be ended as a whole. What is
//! the agent's own, its limit of open files and the variables it was called with, it does not get: mail may be among what is
//! started.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mailkeep_mail::source::Argv;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{limits, open_files};

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Done {
    /// It exited with 0.
    pub ok: bool,
    /// How it ended, in words.
    pub how: String,
    /// What it printed, both streams, at most 1 MiB.
    pub output: String,
}

impl Done {
    /// How it ended and its last words.
    pub fn describe(&self) -> String {
        match last_line(&self.output) {
            Some(line) => format!("{}: {line}", self.how),
            None => self.how.clone(),
        }
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It could not be started.
    #[error("{command} cannot be run")]
    Start {
        /// The command.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// It took too long and was ended.
    #[error("{command} did not return within {} s", bound.as_secs())]
    Hung {
        /// The command.
        command: String,
        /// How long it was waited for.
        bound: Duration,
    },
    /// The wait was called off, and the command ended.
    #[error("{command} was called off")]
    CalledOff {
        /// The command.
        command: String,
    },
}

/// The variable that carries a token.
const MARK: &str = "MAILKEEP_STOP_TOKEN";

/// How a command that carries `token` shows in its environment.
pub fn mark(token: &str) -> String {
    format!("{MARK}={token}")
}

/// A started command.
#[derive(Debug)]
pub struct Running {
    child: Child,
    said: File,
    what: String,
}

impl Running {
    /// Starts a command; its standard output goes to `output` if there is one.
    ///
    /// # Errors
    /// [`CommandError::Start`].
    pub fn start(argv: &Argv, output: Option<File>) -> Result<Running, CommandError> {
        Running::start_with(argv, output, None)
    }

    /// Starts a command with a token in its environment, by which it and what it starts can be found: see [`mark`].
    ///
    /// # Errors
    /// [`CommandError::Start`].
    pub fn start_marked(argv: &Argv, token: &str) -> Result<Running, CommandError> {
        Running::start_with(argv, None, Some(token))
    }

    /// As [`Running::start_marked`], with a pipe as its input that ends when this ends, however it ends.
    ///
    /// # Errors
    /// [`CommandError::Start`].
    pub fn start_tied(argv: &Argv, token: &str) -> Result<Running, CommandError> {
        Running::start_on(argv, None, &[(MARK, token)], Stdio::piped())
    }

    /// Starts a tool of the system whose words are taken apart: in the C locale, its standard output in a file of its own.
    /// `tied` becomes its input, and so stays open until its end.
    ///
    /// # Errors
    /// [`CommandError::Start`].
    pub fn start_tool(argv: &Argv, output: File, tied: Option<File>) -> Result<Running, CommandError> {
        Running::start_on(argv, Some(output), &limits::FOR_TOOLS, tied.map_or_else(Stdio::null, Stdio::from))
    }

    fn start_with(argv: &Argv, output: Option<File>, token: Option<&str>) -> Result<Running, CommandError> {
        let variables: Vec<(&str, &str)> = token.map(|token| (MARK, token)).into_iter().collect();
        Running::start_on(argv, output, &variables, Stdio::null())
    }

    fn start_on(
        argv: &Argv,
        output: Option<File>,
        variables: &[(&str, &str)],
        input: Stdio,
    ) -> Result<Running, CommandError> {
        let what = argv.to_string();
        let failed = |source| CommandError::Start { command: argv.to_string(), source };
        let said = nameless_file().map_err(failed)?;
        let out = match output {
            Some(file) => Stdio::from(file),
            None => Stdio::from(said.try_clone().map_err(failed)?),
        };
        let mut command = open_files::as_found(argv);
        for name in limits::NOT_FOR_OTHERS {
            command.env_remove(name);
        }
        let child = command
            .envs(variables.iter().copied())
            .stdin(input)
            .stdout(out)
            .stderr(Stdio::from(said.try_clone().map_err(failed)?))
            .current_dir("/")
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Running { child, said, what })
    }

    /// Whether it has ended, and how.
    pub fn poll(&mut self) -> Option<Done> {
        match self.child.try_wait() {
            Ok(Some(status)) => Some(self.done(&status)),
            Ok(None) => None,
            Err(error) => {
                Some(Done { ok: false, how: format!("cannot be waited for: {error}"), output: self.said() })
            }
        }
    }

    /// Waits for the end, at most `bound`, or until `called_off`.
    ///
    /// # Errors
    /// [`CommandError::Hung`] or [`CommandError::CalledOff`]; its process group has been killed.
    pub fn wait(mut self, bound: Duration, called_off: &dyn Fn() -> bool) -> Result<Done, CommandError> {
        let end = Instant::now() + bound;
        let mut nap = Duration::from_millis(2);
        loop {
            if let Some(done) = self.poll() {
                return Ok(done);
            }
            let over = Instant::now() >= end;
            if over || called_off() {
                self.kill();
                let command = self.what.clone();
                return Err(if over {
                    CommandError::Hung { command, bound }
                } else {
                    CommandError::CalledOff { command }
                });
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(limits::QUICK);
        }
    }

    /// As [`Running::wait`], for what must not be killed: it is asked to end and given some time for that; then it is left
    /// to itself.
    ///
    /// # Errors
    /// [`CommandError::Hung`] or [`CommandError::CalledOff`]; it may still be there.
    pub fn wait_and_ask(
        mut self,
        bound: Duration,
        patience: Duration,
        called_off: &dyn Fn() -> bool,
    ) -> Result<Done, CommandError> {
        let end = Instant::now() + bound;
        let mut asked = None;
        loop {
            if let Some(done) = self.poll() {
                return Ok(done);
            }
            let over = Instant::now() >= end;
            if asked.is_none() && (over || called_off()) {
                signal_group(self.child.id(), Signal::TERM);
                asked = Some(Instant::now() + patience);
            }
            if asked.is_some_and(|until| Instant::now() >= until) {
                let command = self.what.clone();
                return Err(if over {
                    CommandError::Hung { command, bound }
                } else {
                    CommandError::CalledOff { command }
                });
            }
            std::thread::sleep(limits::QUICK);
        }
    }

    /// Ends it and what it has started in its group.
    pub fn kill(&mut self) {
        signal_group(self.child.id(), Signal::KILL);
        let _ = self.child.kill();
        // Reaped if it can be; a process in uninterruptible sleep cannot, and must not hold us.
        let end = Instant::now() + Duration::from_secs(1);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn done(&mut self, status: &ExitStatus) -> Done {
        Done { ok: status.success(), how: format!("{} ended with {status}", self.what), output: self.said() }
    }

    /// What it has said so far.
    pub fn said(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = self
            .said
            .seek(SeekFrom::Start(0))
            .and_then(|_| (&self.said).take(1 << 20).read_to_end(&mut bytes));
        if read.is_err() {
            bytes.clear();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Sends a group of processes a signal, if it is there.
fn signal_group(leader: u32, signal: Signal) {
    if let Some(group) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}

/// Runs a command to its end.
///
/// # Errors
/// As [`Running::start`] and [`Running::wait`].
pub fn run(argv: &Argv, bound: Duration, called_off: &dyn Fn() -> bool) -> Result<Done, CommandError> {
    Running::start(argv, None)?.wait(bound, called_off)
}

/// Whether a command exits with 0 within its bound.
pub fn says_yes(argv: &Argv) -> bool {
    run(argv, limits::ASK_BOUND, &|| false).is_ok_and(|done| done.ok)
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|letter| !letter.is_control()).take(300).collect())
}

/// A file in memory that nobody else can open.
pub(crate) fn nameless_file() -> io::Result<File> {
    rustix::fs::memfd_create("said", rustix::fs::MemfdFlags::CLOEXEC)
        // Before Linux 3.17.
        .or_else(|_| {
            openat(CWD, "/tmp", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
        })
        .map(File::from)
        .map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Argv {
        Argv::new("/bin/sh", ["-c", script])
    }

    #[test]
    fn the_end_and_the_last_words_are_kept() {
        let done =
            run(&sh("echo one; echo two >&2; echo; exit 3"), Duration::from_secs(20), &|| false).unwrap();
        assert!(!done.ok);
        assert!(done.describe().ends_with(": two") && done.describe().contains('3'), "{}", done.describe());
        assert!(matches!(
            run(&Argv::new("/no/such/thing", Vec::<String>::new()), Duration::from_secs(1), &|| false),
            Err(CommandError::Start { .. })
        ));
    }

    #[test]
    fn a_daemon_that_keeps_the_output_open_does_not_hold_us() {
        let done = run(&sh("sleep 60 & echo started $!"), Duration::from_secs(20), &|| false).unwrap();
        assert!(done.ok);
        let pid =
            done.output.trim().rsplit(' ').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        rustix::process::kill_process(pid.unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn a_hanging_command_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
        // More and more time, until the shell has got so far within it.
        let bounds = (0..8).map(|power| Duration::from_secs(1 << power));
        let pid = bounds.into_iter().find_map(|bound| {
            assert!(matches!(run(&sh(&script), bound, &|| false), Err(CommandError::Hung { .. })));
            std::fs::read_to_string(&pid_file).ok()?.trim().parse::<i32>().ok()
        });
        // Gone, or a zombie that waits for its new parent; a signal takes its time.
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.unwrap())).unwrap_or_default();
        let is_over = |state: &str| state.is_empty() || state.contains(") Z");
        (0..3000)
            .take_while(|_| !is_over(&state()))
            .for_each(|_| std::thread::sleep(Duration::from_millis(100)));
        assert!(is_over(&state()), "{}", state());
        assert!(matches!(
            run(&sh("sleep 60"), Duration::from_secs(60), &|| true),
            Err(CommandError::CalledOff { .. })
        ));
    }

    #[test]
    fn what_must_not_be_killed_is_asked_and_then_left() {
        let (long, short) = (Duration::from_secs(3600), Duration::from_millis(200));
        let ask = |script: &str, bound, patience, off: bool| {
            let output = nameless_file().unwrap();
            let running = Running::start_tool(&sh(script), output, None).unwrap();
            let pid = Pid::from_child(&running.child);
            (running.wait_and_ask(bound, patience, &|| off), pid)
        };
        // One that ends when it is asked, as if by itself.
        let (done, _) = ask("sleep 600", short, long, false);
        assert!(!done.unwrap().ok);
        let (done, _) = ask("sleep 600", long, long, true);
        assert!(!done.unwrap().ok);
        // One that does not is there afterwards.
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let script = format!("trap '' TERM; echo > {}; sleep 600", ready.display());
        let output = nameless_file().unwrap();
        let running = Running::start_tool(&sh(&script), output, None).unwrap();
        let pid = Pid::from_child(&running.child);
        while !ready.exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(matches!(running.wait_and_ask(short, short, &|| false), Err(CommandError::Hung { .. })));
        rustix::process::test_kill_process(pid).unwrap();
        kill_process_group(pid, Signal::KILL).unwrap();
        // What is said beside the output does not get into it, and all is said in the C locale.
        let output = nameless_file().unwrap();
        let copy = output.try_clone().unwrap();
        let running = Running::start_tool(&sh("echo $LC_ALL; echo warning >&2"), copy, None).unwrap();
        assert!(running.wait_and_ask(long, long, &|| false).unwrap().ok);
        let mut text = String::new();
        (&output).seek(SeekFrom::Start(0)).unwrap();
        (&output).read_to_string(&mut text).unwrap();
        assert_eq!(text, "C\n");
    }
}
