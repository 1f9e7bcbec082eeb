//! An admin's login on the server, made once and used for every step: the person types a password once at most.
//!
//! It believes only the pinned host keys. Everything that is run there is a script of ours for `sh`, with its arguments
//! beside it and never in its text.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use mailkeep_puller::transport::{shell_quoted, ssh_quoted};

use crate::limits::{ALIVE_SECONDS, CONNECT_SECONDS};
use crate::tool::{self, Told};
use crate::{Destination, PairError};

/// A login that is open until this is dropped.
#[derive(Debug)]
pub struct Login {
    server: Destination,
    options: Vec<String>,
    /// What makes a command root's: nothing, or sudo.
    elevate: &'static str,
    folder: tempfile::TempDir,
}

impl Login {
    /// Logs in. With `asking`, ssh may ask the person on the terminal for passwords.
    ///
    /// # Errors
    /// [`PairError::Login`], [`PairError::Unreachable`], [`PairError::NotRoot`].
    pub fn open(
        server: &Destination,
        known_hosts: &Path,
        identity: Option<&Path>,
        asking: bool,
    ) -> Result<Self, PairError> {
        // Short: a socket's path may have about a hundred bytes.
        let folder = tempfile::Builder::new().prefix("mk").tempdir_in("/tmp");
        let folder = folder.map_err(|error| PairError::file("make a folder in", Path::new("/tmp"), error))?;
        let options = options(server, known_hosts, identity, &folder.path().join("c"));
        let mut login = Login { server: server.clone(), options, elevate: "", folder };
        login.connect(asking)?;
        login.become_root()?;
        Ok(login)
    }

    /// The server's name, for messages.
    pub fn host(&self) -> &str {
        &self.server.host
    }

    /// What stands before a command of the login's user to make it root's.
    pub fn elevate(&self) -> &'static str {
        self.elevate
    }

    fn connect(&self, asking: bool) -> Result<(), PairError> {
        let said = self.folder.path().join("said");
        let file = fs::File::create(&said).map_err(|error| PairError::file("make", &said, error))?;
        let mut command = Command::new("ssh");
        command.args(&self.options).args(["-M", "-N", "-f", "-o"]);
        command.arg(if asking { "BatchMode=no" } else { "BatchMode=yes" });
        command.args(["-l", &self.server.user, "--", &self.server.alias]);
        // The connection stays when this call is over, and keeps what it was given: a file, not a pipe.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let failed =
            |error: std::io::Error| PairError::Program { program: "ssh".to_owned(), why: error.to_string() };
        let status = command.status().map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        let why = tool::last_line(&fs::read_to_string(&said).unwrap_or_default());
        let (host, user) = (self.server.host.clone(), self.server.user.clone());
        let refused = ["denied", "authentication", "password", "host key", "identity"];
        let lower = why.to_lowercase();
        Err(if refused.iter().any(|word| lower.contains(word)) {
            PairError::Login { host, user, why }
        } else {
            PairError::Unreachable { host, why }
        })
    }

    fn become_root(&mut self) -> Result<(), PairError> {
        let told = self.run("id -u", &[], b"")?;
        if told.ok && told.text().trim() == "0" {
            return Ok(());
        }
        let told = self.run("sudo -n id -u", &[], b"")?;
        if told.ok && told.text().trim() == "0" {
            self.elevate = "sudo -n ";
            return Ok(());
        }
        let (host, user) = (self.server.host.clone(), self.server.user.clone());
        Err(PairError::NotRoot { host, user, why: told.last_line() })
    }

    /// Runs a script as root; `arguments` are its `$1` and so on, `input` is what it reads.
    ///
    /// # Errors
    /// ssh is not there. That the script fails is in the answer.
    pub(crate) fn run(&self, script: &str, arguments: &[&str], input: &[u8]) -> Result<Told, PairError> {
        let mut words = self.options.clone();
        words.extend(["-o", "BatchMode=yes", "-o", "ControlMaster=no", "-T"].map(str::to_owned));
        words.extend(["-l", &self.server.user, "--", &self.server.alias].map(str::to_owned));
        let mut command = format!("exec {}sh -c {} sh", self.elevate, shell_quoted(Path::new(script)));
        for argument in arguments {
            command.push(' ');
            command.push_str(&shell_quoted(Path::new(argument)));
        }
        words.push(command);
        tool::run("ssh", &words, input)
    }

    /// Runs a script that must succeed; what it said.
    ///
    /// # Errors
    /// [`PairError::Server`] with its last words.
    pub(crate) fn must(
        &self,
        doing: &'static str,
        script: &str,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<Vec<u8>, PairError> {
        let told = self.run(script, arguments, input)?;
        if told.ok {
            return Ok(told.out);
        }
        Err(PairError::Server { host: self.server.host.clone(), doing, why: told.last_line() })
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let mut words = self.options.clone();
        words.extend(["-O".to_owned(), "exit".to_owned(), "--".to_owned(), self.server.alias.clone()]);
        // If it is gone already there is nothing left to end.
        let _ = tool::run("ssh", &words, b"");
    }
}

fn options(server: &Destination, known_hosts: &Path, identity: Option<&Path>, socket: &Path) -> Vec<String> {
    let mut words: Vec<String> =
        ["-a", "-x", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=none"]
            .map(str::to_owned)
            .to_vec();
    let mut option = |text: String| words.extend(["-o".to_owned(), text]);
    option(format!("UserKnownHostsFile={}", ssh_quoted(known_hosts)));
    option(format!("ControlPath={}", ssh_quoted(socket)));
    option("ControlPersist=no".to_owned());
    option("ClearAllForwardings=yes".to_owned());
    option(format!("ConnectTimeout={CONNECT_SECONDS}"));
    option(format!("ServerAliveInterval={ALIVE_SECONDS}"));
    option("ServerAliveCountMax=3".to_owned());
    words.extend(["-p".to_owned(), server.port.to_string()]);
    if let Some(file) = identity {
        words.extend(["-i".to_owned(), file.to_string_lossy().into_owned()]);
    }
    words
}
