//! Where the programs under test lie: in the target folder of the running test, never in PATH.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, Output};

/// The built program `name` (`mailkeep`, `mailkeepd`, `mailkeep-agent`) beside this test executable.
pub fn bin(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe().context("where is this test executable")?;
    // target/PROFILE/deps/SUITE-HASH for a suite, target/PROFILE/bench for a program.
    for dir in me.ancestors().skip(1).take(2) {
        let path = dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let profile = if me.components().any(|c| c.as_os_str() == "release") { " --release" } else { "" };
    bail!("{name} is not built beside {}: run `cargo build --workspace{profile}` first", me.display());
}

/// `mailkeep` with the environment a test wants: nothing inherited that could change its behaviour.
#[derive(Clone, Debug)]
pub struct Mailkeep {
    program: PathBuf,
    home: PathBuf,
}

impl Mailkeep {
    /// A command whose config folder, keys and caches lie below `home`.
    pub fn new(home: &Path) -> Result<Self> {
        std::fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
        bin("mailkeep-agent")?;
        Ok(Self { program: bin("mailkeep")?, home: home.to_owned() })
    }

    /// The box key that `init` writes and the other verbs read.
    pub fn key_file(&self) -> PathBuf {
        self.home.join("box.key")
    }

    /// A command line, not yet started.
    pub fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let mut command = Command::new(&self.program);
        command.args(args).env("HOME", &self.home).env("XDG_CONFIG_HOME", self.home.join("config"));
        command.env("MAILKEEP_STATE", self.home.join("state"));
        command.env("MAILKEEP_KEY_FILE", self.key_file()).env_remove("MAILKEEP_REPO");
        command.env("RUST_BACKTRACE", "0").env_remove("RUST_LOG");
        command
    }

    /// Runs to the end.
    pub fn run<I, S>(&self, args: I) -> Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        process::run(&mut self.command(args))
    }

    /// Runs and wants exit code 0.
    pub fn ok<I, S>(&self, args: I) -> Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let mut command = self.command(args);
        let shown = format!("{command:?}");
        process::run(&mut command)?.expect_code(&shown, 0)
    }

    /// Runs with `--json`, wants exit code 0, and returns the object with that `message_type`.
    pub fn json<I, S>(&self, args: I, message_type: &str) -> Result<serde_json::Value>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let output = self.ok(args)?;
        json_line(&output.out(), message_type)
    }
}

/// The last JSON line with that `message_type`.
pub fn json_line(text: &str, message_type: &str) -> Result<serde_json::Value> {
    let mut lines = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    lines
        .rfind(|v| v.get("message_type").and_then(|t| t.as_str()) == Some(message_type))
        .with_context(|| format!("no JSON line of type {message_type} in:\n{text}"))
}
