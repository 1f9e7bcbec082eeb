//! Running other programs: output collected, a generous limit as hang detector, the process table read
//! from /proc. Nothing here kills by name; every signal goes to a pid that the caller started.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

/// Beyond this a program is called hung. It is a hang detector, never a speed limit.
pub const HANG: Duration = Duration::from_secs(300);

/// What a program did.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code, or 128 + signal as shells count.
    pub code: i32,
    /// The whole standard output.
    pub stdout: Vec<u8>,
    /// The whole standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The output if the program ended with `code`, else an error that shows what it said.
    pub fn expect_code(self, what: &str, code: i32) -> Result<Self> {
        if self.code != code {
            bail!(
                "{what}: exit {} instead of {code}\n--- stdout\n{}\n--- stderr\n{}",
                self.code,
                self.out(),
                self.err()
            );
        }
        Ok(self)
    }
}

/// Runs to the end and collects. The child gets a process group of its own, so that a hang can be ended
/// with everything below it.
pub fn run(command: &mut Command) -> Result<Output> {
    run_limited(command, HANG)
}

/// As [`run`], with another hang limit.
pub fn run_limited(command: &mut Command, limit: Duration) -> Result<Output> {
    let shown = format!("{command:?}");
    let running = Running::spawn(command)?;
    running.wait(limit).with_context(|| shown)
}

/// A started program whose output is being collected.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Collected,
    stderr: Collected,
}

impl Running {
    /// Starts `command` with collected output, in a process group of its own. Standard input is empty
    /// unless the caller has set it.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let shown = format!("{command:?}");
        command.stdin(Stdio::null());
        Self::spawn_with_input(command).with_context(|| format!("start {shown}"))
    }

    /// As [`Running::spawn`], leaving standard input as the caller configured it.
    pub fn spawn_with_input(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn()?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        Ok(Self { child, stdout, stderr })
    }

    /// The process id, which is also the id of its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The write end of the program's standard input, if it was piped.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the end, as [`Running::wait`], and also tells what all of its work took ([`Running::progress`]).
    ///
    /// # Errors
    /// It hangs.
    pub fn measured(self) -> Result<(Output, u64)> {
        let start = Instant::now();
        let pid = Pid::from_raw(self.pid() as i32).context("a process")?;
        // Its figures are there until it is waited for.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), look)?.is_none() && start.elapsed() < HANG {
            thread::sleep(Duration::from_millis(2));
        }
        let progress = self.progress();
        ensure!(progress > 0, "this kernel does not count what a process reads and writes");
        Ok((self.wait(HANG)?, progress))
    }

    /// Bytes that it has read and written so far, of files, pipes and sockets: how far its work has come, whatever the
    /// machine does beside it.
    pub fn progress(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.pid())).unwrap_or_default();
        let count =
            |line: &str| line.split_once("char: ").and_then(|(_, number)| number.trim().parse::<u64>().ok());
        text.lines().filter_map(count).sum()
    }

    /// Waits until it has come so far ([`Running::progress`]), or has ended, which is `false`.
    ///
    /// # Errors
    /// It hangs.
    pub fn reaches(&mut self, progress: u64) -> Result<bool> {
        let start = Instant::now();
        loop {
            if self.ended()? {
                return Ok(false);
            }
            if self.progress() >= progress {
                return Ok(true);
            }
            ensure!(start.elapsed() < HANG, "hangs: still running after {} s", HANG.as_secs());
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// SIGKILL to the program alone; what it started lives on, as after a crash.
    pub fn kill_alone(&mut self) {
        signal(self.pid(), Signal::KILL);
    }

    /// SIGKILL to the program and all that stayed in its process group.
    pub fn kill_group(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid() as i32) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }

    /// Waits for the end; past `limit` the group is killed and an error returned.
    pub fn wait(mut self, limit: Duration) -> Result<Output> {
        let start = Instant::now();
        let mut nap = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if start.elapsed() > limit {
                self.kill_group();
                let _ = self.child.wait();
                bail!("hangs: still running after {} s", limit.as_secs());
            }
            thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(20));
        };
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        // A background child may keep the pipes open: what has arrived shortly after the end is the output.
        let stdout = self.stdout.soon();
        let stderr = self.stderr.soon();
        Ok(Output { code, stdout, stderr })
    }
}

/// Sends a signal to one process; a process that has gone is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// One row of the process table.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Parent's process id.
    pub parent: u32,
    /// Process group.
    pub group: u32,
    /// State letter of /proc/PID/stat: `Z` is a zombie.
    pub state: char,
    /// Name of the program as the kernel keeps it (15 bytes).
    pub name: String,
}

impl Process {
    /// Whether it still runs: `kill -0` would count zombies as alive.
    pub fn runs(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The row of one process, if there is one.
pub fn process(pid: u32) -> Option<Process> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name may hold spaces and parentheses, so the fields are counted from its last parenthesis.
    let (head, rest) = text.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Process { pid, parent, group, state, name })
}

/// Every process of the machine.
pub fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter_map(process).collect()
}

/// The running processes below `root`, nearest first.
pub fn descendants(root: u32) -> Vec<Process> {
    let all = processes();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for p in all.iter().filter(|p| p.parent == parent && p.runs()) {
            parents.push(p.pid);
            found.push(p.clone());
        }
    }
    found
}

/// Writes a program text and makes it runnable. A child does the writing: a file that this process has open for writing
/// is inherited by whatever another test forks at this moment, and cannot be run until that has gone ("text file busy").
pub fn write_script(path: &Path, text: &str) -> Result<()> {
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = writer.stdin.take() {
        std::io::Write::write_all(&mut input, text.as_bytes())?;
    }
    ensure!(writer.wait()?.success(), "cannot write {}", path.display());
    Ok(())
}

/// Whether this machine lets us do what only root may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says why a suite cannot run here. Returns `Ok(())` so that it counts as passed on a developer's
/// machine; where `MAILKEEP_REQUIRE_ALL=1` is set (`make test` as root) it is an error.
pub fn skip(why: &str) -> Result<()> {
    if std::env::var_os("MAILKEEP_REQUIRE_ALL").is_some_and(|v| v == "1") {
        bail!("cannot run here, and MAILKEEP_REQUIRE_ALL=1 forbids to skip: {why}");
    }
    eprintln!("skipped: {why}");
    Ok(())
}

/// A number from the environment, else `default`.
pub fn env_number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Whether a program can be found: an absolute path, or a name in PATH or the system folders.
pub fn have(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|d| Path::new(d).join(program).exists())
}

/// What came out of a pipe so far, and the thread that reads on.
#[derive(Debug)]
struct Collected {
    so_far: Arc<Mutex<Vec<u8>>>,
    reader: thread::JoinHandle<()>,
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let so_far = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&so_far);
    let reader = thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut piece = vec![0; 64 << 10];
        while let Ok(count @ 1..) = pipe.read(&mut piece) {
            all.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..count]);
        }
    });
    Collected { so_far, reader }
}

impl Collected {
    /// All of it; or, where a process left behind keeps the pipe open, what has come some seconds after the end. The
    /// seconds are counted in naps: a machine that stalls makes none of them.
    fn soon(self) -> Vec<u8> {
        for _ in 0..5_000 {
            if self.reader.is_finished() {
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
