//! A network of one's own: the server in one network namespace, the box in another, and a real wire (veth) between them
//! that can be pulled, plugged in again and narrowed. The machine's own network sees nothing of it, and all of it is
//! gone with the processes.
//!
//! A test that wants one runs itself again inside ([`inside`]); what it starts then is the server's side. The box's
//! commands go through [`Wire::at_the_box`].

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{have, is_root, run, run_limited};

/// The server's address on the wire.
pub const SERVER: &str = "10.77.0.1";
const BOX: &str = "10.77.0.2";
const ENDS: [&str; 2] = ["mk-server", "mk-box"];
const MARK: &str = "MAILKEEP_OWN_NETWORK";
/// Longest run of a test inside: a soak of some hundred rounds.
const LONGEST: Duration = Duration::from_secs(3 * 3600);

/// The wire between server and box.
#[derive(Debug)]
pub struct Wire {
    /// Its network namespace is the box's.
    holder: Child,
}

/// Why there is no such network to be had here, or `None`.
pub fn missing() -> Option<String> {
    if !is_root() {
        return Some("a network of one's own needs root".into());
    }
    let tools = ["unshare", "nsenter", "setpriv", "ip", "tc"];
    if let Some(lacking) = tools.into_iter().find(|tool| !have(tool)) {
        return Some(format!("{lacking} is missing: install util-linux and iproute2"));
    }
    let probe = "ip link add name mk-a type veth peer name mk-b";
    let made = run(Command::new("unshare").args(["-n", "sh", "-c", probe]));
    match made {
        Ok(output) if output.code == 0 => None,
        Ok(output) => Some(format!("this kernel has no veth: {}", output.err().trim())),
        Err(error) => Some(format!("no network namespace: {error}")),
    }
}

/// Whether this process is the server's side already. If not, the test of this name has now been run there, with
/// success.
///
/// # Errors
/// It failed there.
pub fn inside(test: &str) -> Result<bool> {
    if std::env::var_os(MARK).is_some() {
        ip(&["link", "set", "lo", "up"])?;
        return Ok(true);
    }
    let own = std::env::current_exe()?;
    let mut again = Command::new("setpriv");
    // Mounts, too: disks that are made inside are seen there alone.
    again.args(["--pdeathsig", "KILL", "unshare", "-n", "-m"]).arg(own).env(MARK, "1");
    let output = run_limited(again.args(["--exact", test, "--nocapture"]), LONGEST)?;
    eprint!("{}{}", output.out(), output.err());
    ensure!(output.code == 0, "it failed in a network of its own: see above");
    // A name that matches no test would pass, too.
    ensure!(output.out().contains("1 passed"), "{test} was not run: {}", output.out());
    Ok(false)
}

/// From now on this side sees that the kernel was started once more: its boot has another id. Only in a process for which
/// [`inside`] was true.
///
/// # Errors
/// The id cannot be covered.
pub fn boot_again() -> Result<()> {
    ensure!(std::env::var_os(MARK).is_some(), "another boot belongs into mounts of one's own");
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let file = std::env::temp_dir().join(format!("boot-{}", id.trim()));
    std::fs::write(&file, id)?;
    let known = Path::new("/proc/sys/kernel/random/boot_id");
    // What covered it so far, if anything did, has no name any more, and nothing is mounted on such a file.
    run(Command::new("umount").arg(known))?;
    let covered = run(Command::new("mount").arg("--bind").arg(&file).arg(known));
    // The mount keeps what it covers with.
    std::fs::remove_file(&file)?;
    covered?.expect_code("mount --bind", 0).map(drop)
}

impl Wire {
    /// Plugged in. Only in a process for which [`inside`] was true.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Wire> {
        ensure!(std::env::var_os(MARK).is_some(), "a wire belongs into a network of its own");
        let holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "-n", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("the box's network")?;
        let wire = Wire { holder };
        let network = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let began = Instant::now();
        while network(wire.holder.id()) == network(std::process::id()) {
            ensure!(began.elapsed() < crate::process::HANG, "the box gets no network of its own");
            std::thread::sleep(Duration::from_millis(2));
        }
        let pid = wire.holder.id().to_string();
        let [server, its_box] = ENDS;
        ip(&["link", "add", "name", server, "type", "veth", "peer", "name", its_box, "netns", &pid])?;
        ip(&["addr", "add", &format!("{SERVER}/30"), "dev", server])?;
        ip(&["link", "set", server, "up"])?;
        wire.ip_at_the_box(&["link", "set", "lo", "up"])?;
        wire.ip_at_the_box(&["addr", "add", &format!("{BOX}/30"), "dev", its_box])?;
        wire.pull(false)?;
        Ok(wire)
    }

    /// The command as the box runs it.
    pub fn at_the_box(&self, command: &Command) -> Command {
        let mut there = Command::new("nsenter");
        there.arg("-t").arg(self.holder.id().to_string()).arg("-n");
        there.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            there.current_dir(folder);
        }
        there
    }

    /// Pulls the plug at the box, or puts it in again. Neither side is told: what is sent is lost.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn pull(&self, pulled: bool) -> Result<()> {
        self.ip_at_the_box(&["link", "set", ENDS[1], if pulled { "down" } else { "up" }])
    }

    /// Lets so many kilobits pass per second in each direction; `None` is no limit.
    ///
    /// # Errors
    /// `tc` fails.
    pub fn narrow(&self, kilobits: Option<u32>) -> Result<()> {
        for (end, at_the_box) in [(ENDS[0], false), (ENDS[1], true)] {
            let mut tc = Command::new("tc");
            match kilobits {
                Some(kilobits) => tc
                    .args(["qdisc", "replace", "dev", end, "root", "tbf", "burst", "16kb", "limit", "256kb"])
                    .args(["rate", &format!("{kilobits}kbit")]),
                None => tc.args(["qdisc", "del", "dev", end, "root"]),
            };
            let mut tc = if at_the_box { self.at_the_box(&tc) } else { tc };
            let done = run(&mut tc)?;
            // To take away what is not there is fine.
            if kilobits.is_some() && done.code != 0 {
                bail!("tc: {}", done.err());
            }
        }
        Ok(())
    }

    fn ip_at_the_box(&self, words: &[&str]) -> Result<()> {
        let mut ip = Command::new("ip");
        run(&mut self.at_the_box(ip.args(words)))?.expect_code("ip", 0).map(drop)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn ip(words: &[&str]) -> Result<()> {
    run(Command::new("ip").args(words))?.expect_code("ip", 0).map(drop)
}
