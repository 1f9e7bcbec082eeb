//! Programs that run apart from everything: with a root folder, mounts, processes and a network of their own, by `unshare`
//! and `chroot` of every Linux.
//!
//! The first process in there is a shell that waits for the end of its input, which this process holds. However this process
//! ends, that input ends, the shell with it, and the kernel ends all that were started in there. `unshare` itself stays until
//! they are gone, and holds the lock of the scratch folder as long: a folder whose lock is free has nobody in it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use mailkeep_mail::cyrus::tools::CyrusVersion;
use mailkeep_mailview::imap::Client;

use super::account::Account;
use super::config::{ASKER, HOME};
use crate::limits;
use crate::scratch::Scratch;

/// The first process. Arguments: the tree, folders to bind, `--`, and what chroot is to run in it.
const OUTSIDE: &str = r#"set -e
tree=$1; shift
while [ "$1" != -- ]; do
  mount --rbind "$1" "$tree$1"
  mount -o remount,bind,ro "$tree$1"
  shift
done
shift
mount -t tmpfs -o mode=0755,size=1m,nosuid none "$tree/dev"
for device in null zero full random urandom; do
  : > "$tree/dev/$device"
  mount --bind "/dev/$device" "$tree/dev/$device"
done
set +e
{ chroot "$@" < /dev/null; echo "mailkeep: ended with $?"; } >&2 &
read -r nothing
exit 0
"#;
/// What is run in the tree before Cyrus: folders that it needs and that a backup need not have. Arguments: whom they are to
/// belong to, the configuration folder, and the command.
const INSIDE: &str = r#"owner=$1; conf=$2; shift 2
for folder in db lock log msg proc ptclient socket sync; do
  [ -d "$conf/$folder" ] || { mkdir -p "$conf/$folder" && chown "$owner" "$conf/$folder"; }
done
exec "$@"
"#;
/// What the outer shell says when what it started has ended.
const ENDED: &str = "mailkeep: ended with ";

/// How long one connection waits for a greeting before another one is tried, and before it is seen that we are to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A place to run programs in.
pub(super) struct Sandbox<'a> {
    pub(super) scratch: &'a Scratch,
    pub(super) tree: &'a Path,
    pub(super) binds: &'a [PathBuf],
}

/// What runs in there. It is over when this goes.
pub(super) struct Instance {
    child: Child,
    life: Option<ChildStdin>,
    said: PathBuf,
    home: OwnedFd,
}

impl Sandbox<'_> {
    fn run(&self, said: &str, arguments: &[&std::ffi::OsStr]) -> io::Result<Instance> {
        let said = self.scratch.path().join(said);
        let mut command = Command::new("unshare");
        command.args([
            "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--", "/bin/sh", "-c", OUTSIDE, "sh",
        ]);
        command.arg(self.tree).args(self.binds).arg("--").args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").current_dir("/");
        // Neither Ctrl-C in a terminal nor what else is sent to our group is for them.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(Stdio::from(self.scratch.share()?));
        command.stderr(Stdio::from(File::create(&said)?));
        let home = File::open(self.tree.join(HOME.trim_start_matches('/')))?.into();
        let mut child = command.spawn()?;
        let life = child.stdin.take();
        Ok(Instance { child, life, said, home })
    }

    /// Which Cyrus is here.
    ///
    /// # Errors
    /// Nothing can be run apart here, or it does not say; in a line.
    pub(super) fn version(&self, bin: &Path, account: &Account) -> Result<CyrusVersion, String> {
        let program = bin.join("cyr_info");
        if !program.is_file() {
            return Err(format!("{} has no cyr_info that tells the version", bin.display()));
        }
        let who = format!("--userspec={}", account.numbers());
        let groups = format!("--groups={}", account.gid);
        let conf = format!("{HOME}/imapd.conf");
        let arguments = [
            who.as_ref(),
            groups.as_ref(),
            self.tree.as_os_str(),
            program.as_ref(),
            "-C".as_ref(),
            conf.as_ref(),
            "version".as_ref(),
        ];
        let instance =
            self.run("version", &arguments).map_err(|error| format!("unshare cannot be run: {error}"))?;
        let said = instance.until_ended().unwrap_or_else(|| instance.said());
        CyrusVersion::find(&said).ok_or_else(|| {
            format!("its version cannot be had apart from everything else here: {}", last_line(&said))
        })
    }

    /// Starts the master.
    ///
    /// # Errors
    /// It cannot be run; in a line.
    pub(super) fn start(&self, master: &Path, folder: &Path, account: &Account) -> Result<Instance, String> {
        let owner = account.numbers();
        let [conf, services, pid] = ["imapd.conf", "cyrus.conf", "pid"].map(|name| format!("{HOME}/{name}"));
        let arguments: [&std::ffi::OsStr; 14] = [
            self.tree.as_os_str(),
            "/bin/sh".as_ref(),
            "-c".as_ref(),
            INSIDE.as_ref(),
            "sh".as_ref(),
            owner.as_ref(),
            folder.as_os_str(),
            master.as_os_str(),
            "-C".as_ref(),
            conf.as_ref(),
            "-M".as_ref(),
            services.as_ref(),
            "-p".as_ref(),
            pid.as_ref(),
        ];
        self.run("master", &arguments).map_err(|error| format!("unshare cannot be run: {error}"))
    }
}

impl Instance {
    fn said(&self) -> String {
        let bytes = fs::read(&self.said).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What was said by the end; `None` if nothing was started or it takes too long.
    fn until_ended(&self) -> Option<String> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(limits::GREETING_SECONDS) {
            let said = self.said();
            if said.contains(ENDED) {
                return Some(said);
            }
            if self.is_gone() {
                return Some(self.said());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Whether the whole place is over.
    fn is_gone(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default();
        state.is_empty() || state.starts_with('Z')
    }

    /// A connection to the Cyrus in there, logged in, and its greeting.
    ///
    /// # Errors
    /// It does not come up; in a line.
    pub(super) fn client(&self, stop: &dyn Fn() -> bool) -> Result<(Client, String), String> {
        // By way of the descriptor: the path of a socket may have no more than 107 bytes.
        let socket = format!("/proc/self/fd/{}/imap", self.home.as_raw_fd());
        let begun = Instant::now();
        loop {
            let refused = match UnixStream::connect(&socket) {
                Ok(stream) => match Client::over(stream, "Cyrus on the rebuilt files", ASKER, PATIENCE) {
                    Ok(connected) => return Ok(connected),
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            };
            let said = self.said();
            let ended = said.contains(ENDED) || self.is_gone();
            let late = begun.elapsed() > Duration::from_secs(limits::GREETING_SECONDS);
            if ended || late || stop() {
                let how = if ended { "ends" } else { "does not greet" };
                return Err(format!(
                    "Cyrus {how} when it is started on the rebuilt files: {} ({refused})",
                    last_line(&said)
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        drop(self.life.take());
        // Returns when the kernel has ended the last of them.
        if let Err(error) = self.child.wait() {
            tracing::error!(%error, "the Cyrus that was started for a drill could not be waited for");
        }
    }
}

fn last_line(said: &str) -> String {
    let mut lines = said.lines().filter(|line| !line.trim().is_empty() && !line.starts_with(ENDED));
    let last = lines.next_back().unwrap_or("it says nothing");
    last.chars().filter(|letter| !letter.is_control()).take(limits::PROBLEM_LETTERS).collect()
}
