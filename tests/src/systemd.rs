//! A real systemd as the first process of namespaces of its own, on a throw-away view of this machine's root: units,
//! timers, `systemd-run`, and a boot that can be cut and repeated.
//!
//! Only `home` and `/etc/systemd/system` (kept in `home`) last from boot to boot, like disks; everything else that is
//! written is gone with the boot. The network is that of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{HANG, Output, descendants, have, is_root, run, write_script};

const SYSTEMD: &str = "/lib/systemd/systemd";

/// A booted machine.
#[derive(Debug)]
pub struct Machine {
    home: PathBuf,
    /// `unshare`; its end is the end of all namespaces.
    holder: Child,
    /// systemd, by the number that we see.
    init: u32,
}

/// Why there is no systemd to be had here, or `None`.
pub fn missing() -> Option<String> {
    if !is_root() {
        return Some("a systemd of one's own needs root (namespaces and mounts)".into());
    }
    let tools = [SYSTEMD, "unshare", "nsenter", "systemd-run"];
    let lacking = tools.into_iter().find(|tool| !have(tool))?;
    Some(format!("{lacking} is missing: install systemd and util-linux"))
}

impl Machine {
    /// Boots. Units of the mail service can be laid into [`units`] before.
    ///
    /// # Errors
    /// It does not come up.
    pub fn boot(home: &Path) -> Result<Machine> {
        let lab = home.join("machine");
        fs::create_dir_all(lab.join("view"))?;
        let folder = units(home);
        fs::create_dir_all(folder.join("multi-user.target.wants"))?;
        // Few of this machine's own units are wanted, so the target is ours and bears the usual name.
        fs::write(
            folder.join("multi-user.target"),
            "[Unit]\nDescription=Lab\nDefaultDependencies=no\nAllowIsolate=yes\n",
        )?;
        let script = lab.join("boot");
        write_script(&script, &boot_script(home, &lab))?;
        let log = fs::File::create(lab.join("log"))?;
        let holder = Command::new("unshare")
            .args(["-m", "-p", "-C", "-u", "-i", "-f", "--kill-child"])
            .arg(&script)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("unshare")?;
        let mut machine = Machine { home: home.to_owned(), holder, init: 0 };
        machine.wait_until_up()?;
        Ok(machine)
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let end = Instant::now() + HANG;
        loop {
            self.init = descendants(self.holder.id())
                .into_iter()
                .find(|process| process.name == "systemd" && process.parent == self.holder.id())
                .map_or(0, |process| process.pid);
            if self.init != 0
                && self.run(&["systemctl", "is-active", "--quiet", "multi-user.target"])?.code == 0
            {
                return Ok(());
            }
            let log = || fs::read_to_string(self.home.join("machine/log")).unwrap_or_default();
            ensure!(Instant::now() < end, "systemd does not come up: {}", log());
            if let Some(status) = self.holder.try_wait()? {
                bail!("systemd ended with {status}: {}", log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The words before a command that is to run in the machine.
    pub fn way_in(&self) -> Vec<String> {
        ["nsenter", "-t", &self.init.to_string(), "-m", "-p", "-C", "-u", "-i", "--root", "--wd=/"]
            .map(str::to_owned)
            .to_vec()
    }

    /// Runs a command in the machine.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        let way = self.way_in();
        run(Command::new(&way[0]).args(&way[1..]).args(words))
    }

    /// Runs a command in the machine that has to go well; returns what it printed.
    ///
    /// # Errors
    /// It does not.
    pub fn ok(&self, words: &[&str]) -> Result<String> {
        Ok(self.run(words)?.expect_code(&words.join(" "), 0)?.out())
    }

    /// Takes the power away: every process is gone at once.
    pub fn cut_power(self) {}
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        // The kernel ends what is left in the namespace when its first process has gone.
        let end = Instant::now() + HANG;
        while crate::process::process(self.init).is_some_and(|init| init.runs()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What the machine sees as `/etc/systemd/system`.
pub fn units(home: &Path) -> PathBuf {
    home.join("machine/units")
}

fn boot_script(home: &Path, lab: &Path) -> String {
    let (home, lab) = (home.display(), lab.display());
    format!(
        r#"#!/bin/sh
set -e
mount --make-rprivate /
mount -t tmpfs lab {lab}/view
mkdir {lab}/view/upper {lab}/view/work {lab}/view/root
mount -t overlay lab -o lowerdir=/,upperdir={lab}/view/upper,workdir={lab}/view/work {lab}/view/root
R={lab}/view/root
mkdir -p $R{home} && mount --bind {home} $R{home}
mkdir -p $R/etc/systemd/system && mount --bind {lab}/units $R/etc/systemd/system
mount -t proc proc $R/proc
mount -t sysfs -o ro sysfs $R/sys
mount -t tmpfs lab $R/sys/fs/cgroup
if grep -q 'cgroup cgroup .*name=systemd' /proc/mounts; then
  mkdir $R/sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup $R/sys/fs/cgroup/systemd
else
  mount -t cgroup2 cgroup $R/sys/fs/cgroup
fi
mount -t tmpfs lab $R/run
mount -t tmpfs lab $R/dev
for device in null zero full random urandom tty; do
  touch $R/dev/$device && mount --bind /dev/$device $R/dev/$device
done
mkdir $R/dev/shm
exec chroot $R /usr/bin/env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  {SYSTEMD} --system --unit=multi-user.target --log-target=null --show-status=0
"#
    )
}
