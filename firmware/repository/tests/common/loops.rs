//! A real file system in an image, mounted through a loop device and unmounted again whatever happens.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted image.
pub(crate) struct Loop {
    folder: tempfile::TempDir,
}

/// Whether this process can mount. Where every suite is required to run, it must.
pub(crate) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || !required(), "mounting needs root");
    root
}

fn required() -> bool {
    std::env::var_os("MAILKEEP_REQUIRE_ALL").is_some_and(|value| value == "1")
}

/// Runs a program; what it said, if it failed.
pub(crate) fn run(program: &str, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Result<String, String> {
    let output = Command::new(program).args(args.iter().map(|arg| arg.as_ref())).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))
}

impl Loop {
    /// A fresh file system of that size, mounted; `None` where that cannot be had.
    pub(crate) fn new(mkfs: &[&str], megabytes: u64) -> Option<Self> {
        if !root() {
            return None;
        }
        let disk = Loop { folder: tempfile::tempdir().unwrap() };
        std::fs::File::create(disk.image()).unwrap().set_len(megabytes << 20).unwrap();
        let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = Vec::new();
        args.extend(mkfs[1..].iter().map(|arg| arg as &dyn AsRef<std::ffi::OsStr>));
        let image = disk.image();
        args.push(&image);
        let made = run(mkfs[0], &args);
        assert!(made.is_ok() || !required(), "{made:?}");
        made.ok()?;
        std::fs::create_dir(disk.path()).unwrap();
        disk.mount("noatime").unwrap();
        Some(disk)
    }

    pub(crate) fn btrfs(megabytes: u64) -> Option<Self> {
        Loop::new(&["mkfs.btrfs", "-q", "-m", "dup", "-d", "single"], megabytes)
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    /// Where it is mounted. People put blanks into names.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("the disk")
    }

    /// The loop device, as in `/dev/NAME`.
    pub(crate) fn device(&self) -> String {
        let found = run("losetup", &[&"--associated", &self.image(), &"--output", &"NAME", &"--noheadings"]);
        found.unwrap().trim().trim_start_matches("/dev/").to_owned()
    }

    pub(crate) fn mount(&self, options: &str) -> Result<String, String> {
        let mount = || run("mount", &[&"-o", &format!("loop,{options}"), &self.image(), &self.path()]);
        // Another suite may take the free loop device between mount's look and its grasp, again and again.
        let mut left = 50;
        loop {
            match mount() {
                Err(_) if left > 0 => left -= 1,
                done => return done,
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    pub(crate) fn unmount(&self) -> Result<String, String> {
        run("umount", &[&self.path()]).inspect_err(|_| {
            // Detached, so that the loop device goes once the last file is closed.
            let _ = run("umount", &[&"--lazy", &self.path()]);
        })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // A test that failed may have left several mounts there, and files open.
        while mounted(&self.path()) {
            if run("umount", &[&"--lazy", &self.path()]).is_err() {
                break;
            }
        }
    }
}

fn mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        line.split(' ').nth(1).map(|point| point.replace("\\040", " ").into()) == Some(path.to_owned())
    })
}
