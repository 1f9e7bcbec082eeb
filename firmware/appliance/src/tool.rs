//! `mailkeep` as a program of its own, for what the box does with a disk after a good backup: the standbys are brought up to
//! date, and the rescue kit is renewed.
//!
//! A process of its own, since it is the same work that an admin does by hand, and since it may be killed at any moment: a
//! restore to a standby leaves old or new trees whatever dies, and a kit that is cut off is brought by the next one.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Its name.
const PROGRAM: &str = "mailkeep";
/// How often it is looked whether the program is done or the job is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes of what it says that are kept of one line.
const LINE_MAX: u64 = 4096;

/// The program.
#[derive(Debug, Clone)]
pub struct Tool {
    program: PathBuf,
}

impl Tool {
    /// The one beside this daemon, else the one that is in PATH; none where it is not installed.
    pub fn find() -> Option<Self> {
        let beside = std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = beside.into_iter().chain(std::env::split_paths(&path));
        folders.find_map(|folder| {
            let program = folder.join(PROGRAM);
            program.is_file().then_some(Self { program })
        })
    }

    /// This one.
    pub fn at(program: PathBuf) -> Self {
        Self { program }
    }

    /// Runs it on a repository. `Ok(false)`: it was ended, as asked.
    ///
    /// # Errors
    /// What it said last, or that it could not be started.
    pub fn run(
        &self,
        repository: &Path,
        key: Option<&Path>,
        words: &[OsString],
        cancel: &AtomicBool,
    ) -> Result<bool, String> {
        let mut command = Command::new(&self.program);
        command.arg("-r").arg(repository).args(["--quiet", "--no-progress"]);
        if let Some(key) = key {
            command.arg("--key-file").arg(key);
        }
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let shown = self.program.display();
        let mut child = command.spawn().map_err(|error| format!("cannot start {shown}: {error}"))?;
        let said = child.stderr.take();
        // Somebody has to read: a program that nobody reads stands still.
        std::thread::scope(|scope| {
            let last = scope.spawn(move || said.map_or_else(String::new, last_line));
            let ended = wait(&mut child, cancel);
            let last = last.join().unwrap_or_default();
            match ended {
                Ok(None) => Ok(false),
                Ok(Some(status)) if status.success() => Ok(true),
                Ok(Some(status)) if last.is_empty() => Err(format!("{shown} ended with {status}")),
                Ok(Some(_)) => Err(last.trim_start_matches("mailkeep: ").to_owned()),
                Err(error) => Err(format!("cannot wait for {shown}: {error}")),
            }
        })
    }
}

/// Waits for its end; `None` if it was ended.
fn wait(child: &mut Child, cancel: &AtomicBool) -> std::io::Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if cancel.load(Ordering::Relaxed) {
            // That it ended by itself just now is as good.
            let _ = child.kill();
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The last line that has something in it; all are logged.
fn last_line(said: impl Read) -> String {
    let mut last = String::new();
    let mut reader = BufReader::new(said);
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return last,
            Ok(_) => {
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                if !line.is_empty() {
                    tracing::info!("{line}");
                    last = line;
                }
            }
        }
    }
}
