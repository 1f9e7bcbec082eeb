//! A running guest: QEMU, a shell on its second serial line, the kernel's words on the first.
//!
//! A command is over when the shell has said a word that nobody else knows, with its exit code. There is a bound on
//! silence all the same, so that a guest that hangs fails its test and not the whole run.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::GuestError;

/// Longest silence of a guest; a machine that is very busy emulates slowly.
const PATIENCE: Duration = Duration::from_secs(600);
/// Megabytes of memory.
const MEMORY: &str = "768";
/// One processor without what an emulated one is slow at. `rdrand` gives the kernel its randomness at once.
const PROCESSOR: &str = "Nehalem,+rdrand";
/// Without what is slow or wrong in an emulated machine under load: two clocks that are compared, locks that seem stuck.
const KERNEL_WORDS: &str = "console=ttyS0 rdinit=/init panic=-1 mitigations=off no_timer_check nosoftlockup \
     random.trust_cpu=on tsc=reliable";
/// Lines of the console that are told where something fails.
const TOLD: usize = 40;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its exit code.
    pub code: i32,
    /// What it printed, both streams.
    pub output: String,
}

/// A guest that can be booted, again and again.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) qemu: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) archive: PathBuf,
    pub(crate) folder: PathBuf,
}

impl Prepared {
    /// Makes a disk of so many megabytes for the guest, empty; only what is written to it takes room.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn disk(&self, name: &str, megabytes: u64) -> Result<PathBuf, GuestError> {
        let path = self.folder.join(name);
        let made = File::create(&path).and_then(|file| file.set_len(megabytes << 20));
        made.map_err(GuestError::file("make", &path))?;
        Ok(path)
    }

    /// Boots it with these disks, which are /dev/vda, /dev/vdb and so on; returns when its shell is there.
    ///
    /// # Errors
    /// It cannot be started, or does not come up.
    pub fn boot(&self, disks: &[&Path]) -> Result<Machine, GuestError> {
        Machine::boot(self, disks)
    }
}

/// A guest that runs. It ends, as by a power cut, when this is dropped.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    /// What came behind the end of the last command.
    rest: Vec<u8>,
    console: PathBuf,
    commands: u64,
}

impl Machine {
    pub(crate) fn boot(prepared: &Prepared, disks: &[&Path]) -> Result<Machine, GuestError> {
        let console = prepared.folder.join("console.log");
        File::create(&console).map_err(GuestError::file("make", &console))?;
        let mut command = Command::new(&prepared.qemu);
        command
            .args(["-accel", "tcg", "-machine", "pc", "-cpu", PROCESSOR, "-smp", "1", "-m", MEMORY])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(&prepared.kernel)
            .arg("-initrd")
            .arg(&prepared.archive)
            .args(["-append", KERNEL_WORDS])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-chardev", "stdio,id=shell,signal=off", "-serial", "chardev:shell"]);
        for (number, disk) in disks.iter().enumerate() {
            let drive = format!("file={},format=raw,if=none,id=disk{number}", disk.display());
            let device = format!("virtio-blk-pci,drive=disk{number}");
            command.args(["-drive", &drive, "-device", &device]);
        }
        let log = prepared.folder.join("qemu.log");
        let errors = File::create(&log).map_err(GuestError::file("make", &log))?;
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn();
        let mut qemu = started.map_err(GuestError::file("run", &prepared.qemu))?;
        let (Some(keyboard), Some(mut output)) = (qemu.stdin.take(), qemu.stdout.take()) else {
            return Err(GuestError::Missing { what: "the guest's serial line".to_owned() });
        };
        let (sender, screen) = channel();
        // Ends with QEMU.
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count) = output.read(&mut buffer) {
                if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut machine = Machine { qemu, keyboard, screen, rest: Vec::new(), console, commands: 0 };
        let ready = machine.wait_for(b"guest ready\n", "it boots").map(|_| ());
        ready.map_err(|error| match error {
            GuestError::Ended { waiting, console } => {
                let said = fs::read_to_string(&log).unwrap_or_default();
                GuestError::Ended { waiting, console: format!("{console}{said}") }
            }
            other => other,
        })?;
        Ok(machine)
    }

    /// Has the shell run this line, to its end.
    ///
    /// # Errors
    /// The guest is gone, or hangs.
    pub fn run(&mut self, line: &str) -> Result<Done, GuestError> {
        self.commands += 1;
        // Made up by the shell, so that it stands nowhere but at the end.
        let end = format!("\nover {} ", self.commands);
        let typed = format!("{{ {line}\n}} </dev/null; printf '\\nover {} %s\\n' $?\n", self.commands);
        self.type_in(&typed, line)?;
        let mut output = self.wait_for(end.as_bytes(), line)?;
        let code = self.wait_for(b"\n", line)?;
        let code = String::from_utf8_lossy(&code).trim().parse().unwrap_or(-1);
        // The end begins on a line of its own, also where the output did.
        if output.last() == Some(&b'\n') {
            output.pop();
        }
        Ok(Done { code, output: String::from_utf8_lossy(&output).into_owned() })
    }

    /// Shuts it down; all that was written is on its disks.
    ///
    /// # Errors
    /// It does not go.
    pub fn power_off(mut self) -> Result<(), GuestError> {
        self.type_in("sync; poweroff -f\n", "it shuts down")?;
        while self.screen.recv_timeout(PATIENCE).is_ok() {}
        match self.qemu.try_wait() {
            Ok(_) => {
                // Its output is closed: it ends.
                let _ = self.qemu.wait();
                Ok(())
            }
            Err(source) => Err(GuestError::File { action: "wait for", path: "QEMU".into(), source }),
        }
    }

    /// Cuts its power.
    pub fn cut(self) {
        drop(self);
    }

    /// What its kernel has said.
    pub fn console(&self) -> String {
        fs::read(&self.console)
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn type_in(&mut self, text: &str, what_for: &str) -> Result<(), GuestError> {
        let typed = self.keyboard.write_all(text.as_bytes()).and_then(|()| self.keyboard.flush());
        typed.map_err(|_| self.ended(what_for))
    }

    /// What comes before these bytes.
    fn wait_for(&mut self, end: &[u8], what_for: &str) -> Result<Vec<u8>, GuestError> {
        let mut said = std::mem::take(&mut self.rest);
        loop {
            if let Some(at) = said.windows(end.len()).position(|window| window == end) {
                self.rest = said.split_off(at + end.len());
                said.truncate(at);
                return Ok(said);
            }
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => said.extend_from_slice(&bytes),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended(what_for)),
                Err(RecvTimeoutError::Timeout) => {
                    let said = String::from_utf8_lossy(&said).into_owned();
                    let waiting = what_for.to_owned();
                    return Err(GuestError::Silent { waiting, said, console: self.last_words() });
                }
            }
        }
    }

    fn ended(&self, what_for: &str) -> GuestError {
        GuestError::Ended { waiting: what_for.to_owned(), console: self.last_words() }
    }

    fn last_words(&self) -> String {
        let text = self.console();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TOLD)..].iter().map(|line| format!("  {line}\n")).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
