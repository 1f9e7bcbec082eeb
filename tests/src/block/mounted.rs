//! Making file systems in images, and mounting images through loop devices.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A file system that disks of ours may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// With its journal.
    Ext4,
    /// With two copies of its metadata, as disks are prepared.
    Btrfs,
}

impl FileSystem {
    /// Makes an empty one in a new image file.
    ///
    /// # Errors
    /// The tools are missing or refuse.
    pub fn make(self, image: &Path) -> Result<()> {
        let (program, arguments, megabytes): (_, &[&str], _) = match self {
            FileSystem::Ext4 => {
                let options: &[&str] = &[
                    "-q",
                    "-F",
                    "-b",
                    "4096",
                    "-E",
                    "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
                    "-J",
                    "size=4",
                ];
                ("mkfs.ext4", options, 24)
            }
            FileSystem::Btrfs => ("mkfs.btrfs", &["-q", "-K", "-m", "dup", "-d", "single"], 128),
        };
        std::fs::File::create_new(image)?.set_len(megabytes << 20)?;
        run(program, arguments.iter().map(OsString::from).chain([image.into()]))
    }

    /// The least that this file system takes for granted to be written at once, in bytes. A journal survives less than
    /// its blocks; btrfs needs its super block whole.
    pub fn sector(self) -> usize {
        match self {
            FileSystem::Ext4 => 512,
            FileSystem::Btrfs => 4096,
        }
    }
}

/// An image that is mounted; it is unmounted when this is dropped.
pub struct Mounted {
    point: PathBuf,
    there: bool,
}

impl Mounted {
    /// Mounts the image at the folder `point` with these options beside `loop`.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub fn mount(image: &Path, point: &Path, options: &str) -> Result<Self> {
        let options = format!("loop,noatime,nodiscard{}{options}", if options.is_empty() { "" } else { "," });
        run("mount", ["-o".into(), options.into(), image.into(), point.into()])?;
        Ok(Mounted { point: point.to_owned(), there: true })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Takes it away; its loop device goes with it.
    ///
    /// # Errors
    /// Something is still open there.
    pub fn unmount(mut self) -> Result<()> {
        self.there = false;
        // A child that some other thread has forked and that has not reached its exec yet holds our files open a moment
        // longer than we do.
        let mut left = 100;
        loop {
            match run("umount", [self.point.clone().into()]) {
                Err(_) if left > 0 => left -= 1,
                Err(error) => {
                    // Detached, so that the loop device goes once the last file is closed.
                    let _ = run("umount", ["--lazy".into(), self.point.clone().into()]);
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.there {
            let _ = run("umount", ["--lazy".into(), self.point.clone().into()]);
        }
    }
}

fn run(program: &str, arguments: impl IntoIterator<Item = OsString>) -> Result<()> {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if !done.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
