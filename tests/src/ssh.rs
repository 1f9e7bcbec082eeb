//! A real loopback sshd of the lab: own host key, own client key, own authorized_keys and known_hosts,
//! all in one temporary folder; nothing in ~/.ssh or /etc/ssh is read or changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::process::{self, descendants, run, signal};

/// A running sshd; ended when dropped.
#[derive(Debug)]
pub struct Sshd {
    folder: PathBuf,
    port: u16,
    child: Child,
}

/// Why there is no sshd to be had here, or `None`.
pub fn missing() -> Option<String> {
    if !process::is_root() {
        return Some("a loopback sshd that lets root in needs root".into());
    }
    for tool in ["/usr/sbin/sshd", "ssh", "ssh-keygen"] {
        if !process::have(tool) {
            return Some(format!("{tool} is missing: install openssh-server and openssh-client"));
        }
    }
    None
}

impl Sshd {
    /// Starts it with all its files in `folder`, which is made.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, "")
    }

    /// As [`Sshd::start`], with more lines in its sshd_config.
    pub fn start_with(folder: &Path, more: &str) -> Result<Self> {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        // The privilege separation folder, which Debian makes at boot.
        fs::create_dir_all("/run/sshd").context("create /run/sshd")?;
        for key in ["host", "client"] {
            let mut keygen = Command::new("ssh-keygen");
            run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(key)))?
                .expect_code("ssh-keygen", 0)?;
        }
        fs::copy(folder.join("client.pub"), folder.join("authorized_keys"))?;
        let host_key = fs::read_to_string(folder.join("host.pub"))?;
        for _ in 0..20 {
            let port = free_port()?;
            fs::write(folder.join("known_hosts"), format!("[127.0.0.1]:{port} {host_key}"))?;
            fs::write(folder.join("sshd_config"), config(folder, port) + more)?;
            let log = fs::File::create(folder.join("log"))?;
            let child = Command::new("/usr/sbin/sshd")
                .args(["-D", "-e", "-f"])
                .arg(folder.join("sshd_config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .context("start sshd")?;
            let mut me = Self { folder: folder.to_owned(), port, child };
            if me.listens() {
                return Ok(me);
            }
        }
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        bail!("sshd does not come up: {log}")
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process that listens.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The client's private key.
    pub fn identity(&self) -> PathBuf {
        self.folder.join("client")
    }

    /// The file that pins the host key.
    pub fn known_hosts(&self) -> PathBuf {
        self.folder.join("known_hosts")
    }

    /// The file of keys that it lets in.
    pub fn authorized_keys(&self) -> PathBuf {
        self.folder.join("authorized_keys")
    }

    /// The host key's fingerprint, as a person reads it at the server's console.
    pub fn fingerprint(&self) -> Result<String> {
        let told = run(Command::new("ssh-keygen").arg("-lf").arg(self.folder.join("host.pub")))?;
        let text = told.expect_code("ssh-keygen -l", 0)?.out();
        let print = text.split_whitespace().find(|word| word.starts_with("SHA256:"));
        Ok(print.context("ssh-keygen shows no fingerprint")?.to_owned())
    }

    /// What sshd has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Cuts every connection: the sshd processes that serve them are killed, the listener lives on. What
    /// ran at the far end sees its standard input end. Returns how many were cut.
    pub fn cut(&self) -> usize {
        let sessions: Vec<_> =
            descendants(self.child.id()).into_iter().filter(|p| p.name == "sshd").collect();
        for p in &sessions {
            signal(p.pid, Signal::KILL);
        }
        sessions.len()
    }

    /// Waits until it listens by its own word: somebody else may have taken the port in between, and answer there.
    fn listens(&mut self) -> bool {
        let word = format!("Server listening on 127.0.0.1 port {}.", self.port);
        let start = Instant::now();
        while start.elapsed() < process::HANG {
            if self.log().contains(&word) {
                return true;
            }
            if matches!(self.child.try_wait(), Ok(Some(_))) || self.log().contains("Bind to port") {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.cut();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    let (mut rng, _) = crate::rng::Rng::from_time();
    for _ in 0..200 {
        let port = 12_000 + rng.below(7000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free loopback port between 12000 and 19000")
}

fn config(folder: &Path, port: u16) -> String {
    let f = folder.display();
    format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {f}/host\nAuthorizedKeysFile {f}/authorized_keys\n\
         PidFile none\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         UsePAM no\nStrictModes no\nPrintMotd no\nMaxStartups 50\n"
    )
}
