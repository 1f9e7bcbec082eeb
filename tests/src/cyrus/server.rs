//! A real Cyrus on loopback in a folder of its own: made, started, stopped (also when it hangs), copied,
//! adopted from a restored folder, and cleaned when dropped.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::config;
use super::imap::Imap;
use super::sieve::Sieve;
use crate::process::{self, run, signal, write_script};

/// The administrator of every lab server.
pub const ADMIN: &str = "cyrus";
/// The one password of the lab.
pub const PASSWORD: &str = "lab-password";
/// Server name, which is the SASL realm too.
pub const REALM: &str = "lab.example.org";
/// Where Debian's packages put Cyrus' programs.
pub const BIN_DIR: &str = "/usr/lib/cyrus/bin";

/// How mailboxes lie in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Folders by unique id, the way of 3.6.
    Uuid,
    /// Folders by name, as on servers upgraded from older versions.
    Legacy,
}

/// Loopback ports of a server.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// imapd.
    pub imap: u16,
    /// lmtpd.
    pub lmtp: u16,
    /// timsieved.
    pub sieve: u16,
}

/// One server.
#[derive(Debug)]
pub struct Cyrus {
    root: PathBuf,
    ports: Ports,
    users: Vec<String>,
    keep: bool,
}

/// Why there is no Cyrus to be had here, or `None`.
pub fn missing() -> Option<String> {
    if !process::is_root() {
        return Some("a Cyrus lab needs root (its files belong to user cyrus)".into());
    }
    for tool in [format!("{BIN_DIR}/master"), format!("{BIN_DIR}/timsieved"), "saslpasswd2".into()] {
        if !process::have(&tool) {
            return Some(format!("{tool} is missing: install cyrus-imapd, cyrus-admin and sasl2-bin"));
        }
    }
    None
}

impl Cyrus {
    /// A new, empty server below `root` (which must not exist), with these users; not started.
    pub fn create(root: &Path, users: &[&str], layout: Layout) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("create {}", root.display()))?;
        let me = Self {
            root: root.to_owned(),
            ports: free_ports()?,
            users: users.iter().map(|u| (*u).to_owned()).collect(),
            keep: std::env::var_os("MAILKEEP_KEEP_LABS").is_some(),
        };
        for dir in ["db", "socket", "log", "msg", "proc", "lock", "quota", "user", "sync", "ptclient"] {
            fs::create_dir_all(root.join("conf").join(dir))?;
        }
        for dir in
            ["spool/default", "spool/second", "meta/second", "archive/default", "archive/second", "sieve"]
        {
            fs::create_dir_all(root.join(dir))?;
        }
        fs::write(root.join("imapd.conf"), config::imapd_conf(root, layout))?;
        fs::write(root.join("extra.conf"), config::EXTRA_CONF)?;
        me.write_run_files()?;
        for user in users.iter().chain([&ADMIN]) {
            me.set_password(user)?;
        }
        me.give_to_cyrus()?;
        Ok(me)
    }

    /// Takes over the files of another server that were copied or restored to `root`: every path in
    /// imapd.conf is rewritten from `old_root`, the ports are new. Not started.
    pub fn adopt(root: &Path, old_root: &Path, users: &[String]) -> Result<Self> {
        let conf = root.join("imapd.conf");
        let text = fs::read_to_string(&conf).with_context(|| format!("read {}", conf.display()))?;
        let (old, new) = (old_root.display().to_string(), root.display().to_string());
        fs::write(&conf, text.replace(&old, &new))?;
        let me = Self { root: root.to_owned(), ports: free_ports()?, users: users.to_vec(), keep: false };
        me.write_run_files()?;
        Ok(me)
    }

    /// Leaves the files when dropped (the server is stopped all the same).
    pub fn kept(mut self) -> Self {
        self.keep = true;
        self
    }

    /// A byte-for-byte copy of the stopped server at `root`, adopted there.
    pub fn copy_to(&self, root: &Path) -> Result<Self> {
        let mut cp = Command::new("cp");
        run(cp.args(["-a", "--reflink=auto"]).arg(&self.root).arg(root))?.expect_code("cp -a", 0)?;
        Self::adopt(root, &self.root, &self.users)
    }

    /// The folder that holds everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Ports on 127.0.0.1.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Users, without the administrator.
    pub fn users(&self) -> &[String] {
        &self.users
    }

    /// Path of imapd.conf.
    pub fn imapd_conf(&self) -> PathBuf {
        self.root.join("imapd.conf")
    }

    /// A connection as the administrator, acting for `user`, to a server that runs.
    pub fn imap(&self, user: &str) -> Result<Imap> {
        // Long enough for a machine on which much else goes on.
        Imap::connect_within(self.ports.imap, process::HANG)?.logged_in(ADMIN, PASSWORD, user)
    }

    /// A ManageSieve connection as the administrator, acting for `user`.
    pub fn sieve(&self, user: &str) -> Result<Sieve> {
        Sieve::login_as(self.ports.sieve, ADMIN, PASSWORD, user)
    }

    /// Starts and waits for the greeting.
    pub fn start(&self) -> Result<()> {
        run(&mut Command::new(self.script("start")))?.expect_code("start Cyrus", 0)?;
        self.wait_for_greeting(process::HANG)
    }

    /// Waits until the server greets; used after others have started it.
    pub fn wait_for_greeting(&self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            match Imap::connect(self.ports.imap) {
                Ok(_) => return Ok(()),
                Err(e) if start.elapsed() > limit => {
                    return Err(e.context(format!(
                        "no greeting from {}: {}",
                        self.root.display(),
                        self.diagnosis()
                    )));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Whether the server greets right now.
    pub fn greets(&self) -> bool {
        Imap::connect(self.ports.imap).is_ok()
    }

    /// Stops and waits until nothing of it runs; a hanging master is killed by the script.
    pub fn stop(&self) -> Result<()> {
        run(&mut Command::new(self.script("stop")))?.expect_code("stop Cyrus", 0)?;
        if self.is_running() {
            bail!("Cyrus in {} still runs after its stop", self.root.display());
        }
        Ok(())
    }

    /// Whether master runs (a zombie does not).
    pub fn is_running(&self) -> bool {
        self.master_pid().and_then(process::process).is_some_and(|p| p.runs() && p.name.contains("master"))
    }

    /// What the stop and start scripts have been asked to do so far, oldest first.
    pub fn events(&self) -> Vec<String> {
        let text = fs::read_to_string(self.root.join("run/events")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// From now on the next stop copies the stopped server to `folder` (once, if it is not there yet):
    /// the truth about the window, to be compared with what was backed up in it.
    pub fn keep_truth_in(&self, folder: &Path) -> Result<()> {
        fs::write(self.root.join("run/truth"), folder.display().to_string()).context("write run/truth")
    }

    /// Makes the next `n` starts fail.
    pub fn fail_starts(&self, n: u32) -> Result<()> {
        fs::write(self.root.join("run/fail-starts"), n.to_string()).context("write run/fail-starts")
    }

    /// From now on the scripts wait at this place, or go on: `stop-begin`, `stop` (when mail is down and the truth taken),
    /// `list` (the export of the mailbox list, where [`Cyrus::held_tools`] are used), `start` (before anything is done).
    pub fn hold(&self, place: &str, held: bool) -> Result<()> {
        let path = |what: &str| self.root.join(format!("run/{what}-{place}"));
        if held {
            return fs::write(path("hold"), "").context("hold a script");
        }
        for what in ["hold", "at"] {
            match fs::remove_file(path(what)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).context("let a script go on");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a script waits at this place.
    pub fn is_held(&self, place: &str) -> bool {
        self.root.join(format!("run/at-{place}")).exists()
    }

    /// A folder of Cyrus' programs in which the export of the mailbox list can be held.
    pub fn held_tools(&self) -> Result<PathBuf> {
        let folder = self.root.join("bin/tools");
        fs::create_dir_all(&folder)?;
        for program in fs::read_dir(BIN_DIR)? {
            let program = program?;
            let link = folder.join(program.file_name());
            if program.file_name() != "ctl_mboxlist" && !link.exists() {
                std::os::unix::fs::symlink(program.path(), link)?;
            }
        }
        let hold = config::hold(&self.root);
        let text = format!("#!/bin/sh\n{hold}hold list\nexec {BIN_DIR}/ctl_mboxlist \"$@\"\n");
        write_script(&folder.join("ctl_mboxlist"), &text)?;
        Ok(folder)
    }

    /// Path of `start`, `stop` or `running`.
    pub fn script(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    /// What can be known about a server that does not answer.
    pub fn diagnosis(&self) -> String {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let mut text =
            format!("events {:?}; master.log {:?}", self.events(), read(&self.root.join("run/master.log")));
        for folder in fs::read_dir(self.agent_state()).into_iter().flatten().flatten() {
            for file in ["guard.log", "intent.json"] {
                text += &format!("\n{file}: {}", read(&folder.path().join(file)));
            }
        }
        let root = self.root.display().to_string();
        for p in process::processes() {
            let line = fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&root) {
                let below: Vec<String> = process::processes()
                    .into_iter()
                    .filter(|c| c.parent == p.pid)
                    .map(|c| format!("{} {} {}", c.state, c.pid, c.name))
                    .collect();
                text += &format!(
                    "\n{} {} of {} in group {}: {line} below it: {below:?}",
                    p.state, p.pid, p.parent, p.group
                );
            }
        }
        text
    }

    /// Where the agent of this server keeps its state.
    pub fn agent_state(&self) -> PathBuf {
        self.root.join("run/agent")
    }

    /// Restart guards of this server that still run.
    pub fn guards(&self) -> Vec<u32> {
        let state = self.agent_state().display().to_string();
        let ours = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&state)
        };
        process::processes().into_iter().filter(process::Process::runs).map(|p| p.pid).filter(ours).collect()
    }

    /// Delivers a message over LMTP, so that sieve filters run.
    pub fn deliver(&self, user: &str, message: &[u8]) -> Result<()> {
        super::lmtp::deliver(self.ports.lmtp, user, message)
    }

    /// Runs a Cyrus tool as user cyrus with this server's configuration.
    pub fn tool(&self, name: &str, args: &[&str]) -> Result<process::Output> {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=cyrus", "--regid=mail", "--init-groups"]).arg(format!("{BIN_DIR}/{name}"));
        run(command.arg("-C").arg(self.imapd_conf()).args(args))
    }

    fn master_pid(&self) -> Option<u32> {
        fs::read_to_string(self.root.join("run/master.pid")).ok()?.trim().parse().ok()
    }

    fn set_password(&self, user: &str) -> Result<()> {
        let command = format!(
            "printf %s {PASSWORD} | saslpasswd2 -p -c -f {} -u {REALM} {user}",
            self.root.join("sasldb2").display()
        );
        run(Command::new("sh").args(["-c", &command]))?.expect_code("saslpasswd2", 0).map(drop)
    }

    /// Everything that belongs to this place and is not part of a backup's content: ports, scripts, run/.
    fn write_run_files(&self) -> Result<()> {
        let root = &self.root;
        if root.join("run").exists() {
            fs::remove_dir_all(root.join("run"))?;
        }
        fs::create_dir_all(root.join("run/tmp"))?;
        fs::create_dir_all(root.join("bin"))?;
        fs::write(root.join("cyrus.conf"), config::cyrus_conf(&self.imapd_conf(), self.ports))?;
        let scripts = [
            ("start", config::start_script(root)),
            ("stop", config::stop_script(root)),
            ("running", config::running_script(root)),
        ];
        for (name, text) in scripts {
            write_script(&self.script(name), &text)?;
        }
        let (uid, gid) = cyrus_ids()?;
        for path in ["run", "run/tmp"] {
            chown(root.join(path), Some(uid), Some(gid))?;
        }
        open_the_way(root)
    }

    fn give_to_cyrus(&self) -> Result<()> {
        let mut chown = Command::new("chown");
        chown.args(["-R", "cyrus:mail"]);
        for path in ["conf", "spool", "meta", "archive", "sieve", "sasldb2", "run"] {
            chown.arg(self.root.join(path));
        }
        run(&mut chown)?.expect_code("chown", 0).map(drop)
    }
}

impl Drop for Cyrus {
    /// Nothing of the server outlives it, whatever the test did.
    fn drop(&mut self) {
        let _ = fs::remove_file(self.root.join("run/truth"));
        // A guard would try for ever to start a server whose files are gone.
        for guard in self.guards() {
            signal(guard, Signal::KILL);
        }
        let group = self.master_pid();
        let _ = run(&mut Command::new(self.script("stop")));
        if let Some(group) = group.filter(|_| self.is_running()) {
            for p in process::processes().into_iter().filter(|p| p.group == group) {
                signal(p.pid, Signal::KILL);
            }
        }
        if !self.keep {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

/// Ports nobody listens on, outside the range that the kernel hands to outgoing connections, and never
/// the same twice in this process.
pub(super) fn free_ports() -> Result<Ports> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 1000) as u16 * 12;
    let mut ports = Vec::new();
    for _ in 0..2000 {
        let port = base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000 + 20_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
        if let [imap, lmtp, sieve] = ports[..] {
            return Ok(Ports { imap, lmtp, sieve });
        }
    }
    bail!("no free loopback ports between 20000 and 32000")
}

/// Numbers of user cyrus and group mail.
pub fn cyrus_ids() -> Result<(u32, u32)> {
    let number = |file: &str, name: &str| -> Result<u32> {
        let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        let rows: BTreeMap<&str, u32> = text
            .lines()
            .filter_map(|l| {
                let mut fields = l.split(':');
                Some((fields.next()?, fields.nth(1)?.parse().ok()?))
            })
            .collect();
        rows.get(name).copied().with_context(|| format!("{name} is not in {file}"))
    };
    Ok((number("/etc/passwd", "cyrus")?, number("/etc/group", "mail")?))
}

/// User cyrus must be able to walk down to `root` from the temporary folder (which is made 0700).
fn open_the_way(root: &Path) -> Result<()> {
    for dir in
        root.ancestors().take_while(|d| d.starts_with(std::env::temp_dir()) && *d != std::env::temp_dir())
    {
        let mode = fs::metadata(dir)?.permissions().mode();
        if mode & 0o011 != 0o011 {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode | 0o111))?;
        }
    }
    Ok(())
}
