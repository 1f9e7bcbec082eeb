//! A box's view for the suites: one repository, its keys, and the verbs as a person would call them, each
//! checked for its exit code.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{Output, run};
use crate::programs::{Mailkeep, json_line};

/// A repository in a folder and the programs that use it.
#[derive(Debug)]
pub struct Rig {
    mailkeep: Mailkeep,
    repository: PathBuf,
}

impl Rig {
    /// Makes a new repository below `home`.
    pub fn new(home: &Path) -> Result<Self> {
        let me = Self { mailkeep: Mailkeep::new(&home.join("box"))?, repository: home.join("disk") };
        let recovery: OsString = home.join("box/recovery.txt").into();
        me.ok(&["init".into(), "--label".into(), "lab disk".into(), "--recovery-out".into(), recovery])?;
        Ok(me)
    }

    /// The same box with another disk of its set.
    pub fn other_disk(&self, repository: &Path, label: &str) -> Result<Self> {
        let me = Self { mailkeep: self.mailkeep.clone(), repository: repository.to_owned() };
        let recovery: OsString = repository.with_extension("recovery").into();
        me.ok(&["init".into(), "--label".into(), label.into(), "--recovery-out".into(), recovery])?;
        Ok(me)
    }

    /// The same box with a disk that is at another place now.
    pub fn at(&self, repository: &Path) -> Self {
        Self { mailkeep: self.mailkeep.clone(), repository: repository.to_owned() }
    }

    /// The same box with a copy of the repository, for damage.
    pub fn copy_to(&self, repository: &Path) -> Result<Self> {
        run(Command::new("cp").arg("-a").arg(&self.repository).arg(repository))?.expect_code("cp -a", 0)?;
        Ok(Self { mailkeep: self.mailkeep.clone(), repository: repository.to_owned() })
    }

    /// Folder of the repository.
    pub fn repository(&self) -> &Path {
        &self.repository
    }

    /// A command on this repository, not yet started.
    pub fn command(&self, arguments: &[OsString]) -> Command {
        let mut all: Vec<OsString> =
            vec!["-r".into(), self.repository.clone().into(), "--no-progress".into()];
        all.extend_from_slice(arguments);
        self.mailkeep.command(all)
    }

    /// Runs to the end, whatever the exit code.
    pub fn run(&self, arguments: &[OsString]) -> Result<Output> {
        run(&mut self.command(arguments))
    }

    /// Runs and wants exit code 0.
    pub fn ok(&self, arguments: &[OsString]) -> Result<Output> {
        self.run(arguments)?.expect_code(&format!("mailkeep {arguments:?}"), 0)
    }

    /// Runs with `--json` and wants exit code 0; all lines.
    pub fn objects(&self, parts: &[&str]) -> Result<Vec<Value>> {
        let mut all = vec!["--json"];
        all.extend(parts);
        let output = self.ok(&words(&all))?;
        output.out().lines().map(|line| serde_json::from_str(line).context("a line of JSON")).collect()
    }

    /// The command line of a backup, for suites that disturb it.
    pub fn backup_command(&self, source: &Path) -> Command {
        self.command(&["--json".into(), "backup".into(), "--source".into(), source.into()])
    }

    /// One backup; its summary.
    pub fn backup(&self, source: &Path) -> Result<Value> {
        let output = run(&mut self.backup_command(source))?.expect_code("mailkeep backup", 0)?;
        json_line(&output.out(), "summary")
    }

    /// One backup that must be consistent and, where there is mail, must pass its mail check.
    pub fn good_backup(&self, source: &Path) -> Result<Value> {
        good(self.backup(source)?)
    }

    /// As [`Rig::good_backup`], trying again while the answer is 75 ("try again later"): just after a crash the
    /// agent of the broken run may still be seeing mail in. Past `limit` the refusal is an error. Also says how
    /// long it was refused.
    pub fn good_backup_within(&self, source: &Path, limit: Duration) -> Result<(Value, Duration)> {
        let start = Instant::now();
        loop {
            let output = run(&mut self.backup_command(source))?;
            let waited = start.elapsed();
            if output.code == 75 && waited < limit {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            let summary = json_line(&output.expect_code("mailkeep backup", 0)?.out(), "summary")?;
            return good(summary).map(|summary| (summary, waited));
        }
    }

    /// Every byte must be sound.
    pub fn verify_all(&self) -> Result<()> {
        self.ok(&["verify".into(), "--read-data".into()]).map(drop)
    }

    /// Restores everything of a snapshot into a new folder, and returns where `path` has come to lie.
    pub fn restore(&self, snapshot: &str, target: &Path, path: &Path) -> Result<PathBuf> {
        self.ok(&["restore".into(), snapshot.into(), "--target".into(), target.into()])?;
        let inside = path.strip_prefix("/").context("restore wants an absolute path")?;
        Ok(target.join(inside))
    }

    /// Ids of all snapshots that the repository lists.
    pub fn snapshots(&self) -> Result<Vec<String>> {
        let output = self.ok(&["--json".into(), "snapshots".into()])?;
        let text = output.out();
        let ids = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        // One object per line, or one array: both are lines of JSON.
        let objects = ids.flat_map(|v| match v {
            Value::Array(rows) => rows,
            row => vec![row],
        });
        Ok(objects.filter_map(|o| o["id"].as_str().map(str::to_owned)).collect())
    }
}

/// Arguments of a command.
pub fn words(parts: &[&str]) -> Vec<OsString> {
    parts.iter().map(OsString::from).collect()
}

/// The objects of one `message_type`.
pub fn of<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["message_type"] == kind).collect()
}

fn good(summary: Value) -> Result<Value> {
    if summary["consistent"] != true || summary["mail_check"]["ok"] == false {
        bail!("the backup is not good: {summary}");
    }
    Ok(summary)
}

/// The id in a backup's summary.
pub fn id(summary: &Value) -> Result<String> {
    Ok(summary["snapshot_id"].as_str().with_context(|| format!("no snapshot_id in {summary}"))?.to_owned())
}

/// What a program says when something is wrong must be one clear line, and never a panic. Gives the line.
pub fn one_clear_line(what: &str, output: &Output) -> Result<String> {
    let text = output.err();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    if text.contains("panicked at") || output.code == 101 || output.code > 128 {
        bail!("{what}: panic or signal (exit {})\n{text}", output.code);
    }
    let [line] = lines[..] else {
        bail!("{what}: {} lines on stderr instead of one (exit {}):\n{text}", lines.len(), output.code);
    };
    if line.len() < 12 || line.len() > 1200 {
        bail!("{what}: not a clear line (exit {}): {line}", output.code);
    }
    Ok(line.to_owned())
}
