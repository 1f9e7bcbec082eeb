//! Mounting and unmounting.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use fuser::MountOption;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::MountError;
use crate::filesystem::SnapshotFs;
use crate::snapshot::{News, Snapshot};

/// How to mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountOptions {
    /// Let every user of this machine in, with the permissions that the files have; else only the one who mounts.
    pub allow_other: bool,
}

/// A mount that is there. Ends when it is unmounted, by whomever.
#[derive(Debug)]
pub struct Mounted {
    point: PathBuf,
    thread: JoinHandle<io::Result<()>>,
}

/// Ends a mount from another thread.
#[derive(Clone, Debug)]
pub struct Unmounter {
    point: PathBuf,
}

/// Mounts `snapshots` (oldest first) on the folder `point`. When this returns, the files are there. `news` is asked when
/// somebody looks which snapshots there are, at most every few seconds.
///
/// # Errors
/// The mount point is no folder, or FUSE is not to be had.
pub fn mount(
    point: &Path,
    snapshots: Vec<Snapshot>,
    news: Option<News>,
    options: MountOptions,
) -> Result<Mounted, MountError> {
    let no_point = |source| MountError::MountPoint { path: point.to_owned(), source };
    let point = point.canonicalize().map_err(no_point)?;
    if !point.is_dir() {
        return Err(no_point(Errno::NOTDIR.into()));
    }
    let failed = |source| MountError::Session { path: point.clone(), source };
    let filesystem = SnapshotFs::new(snapshots, news).map_err(failed)?;
    let mut flags = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoAtime,
        MountOption::FSName("mailkeep".to_owned()),
        MountOption::Subtype("mailkeep".to_owned()),
    ];
    if options.allow_other {
        // Without the second one everybody could read everybody's mail.
        flags.extend([MountOption::AllowOther, MountOption::DefaultPermissions]);
    }
    let mut session = fuser::Session::new(filesystem, &point, &flags)
        .map_err(|source| MountError::Refused { path: point.clone(), source })?;
    let thread =
        std::thread::Builder::new().name("mount".to_owned()).spawn(move || session.run()).map_err(failed)?;
    Ok(Mounted { point, thread })
}

impl Mounted {
    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Something to unmount it with, for a signal handler.
    pub fn unmounter(&self) -> Unmounter {
        Unmounter { point: self.point.clone() }
    }

    /// Waits until it is unmounted.
    ///
    /// # Errors
    /// The connection to the kernel broke.
    pub fn wait(self) -> Result<(), MountError> {
        let ended = self.thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread has panicked")));
        ended.map_err(|source| MountError::Session { path: self.point, source })
    }
}

impl Unmounter {
    /// Takes the mount away, even while files in it are open; those see errors from then on.
    ///
    /// # Errors
    /// Neither the kernel nor fusermount3 would do it.
    pub fn unmount(&self) -> Result<(), MountError> {
        let failed = |source| MountError::Unmount { path: self.point.clone(), source };
        match rustix::mount::unmount(&self.point, UnmountFlags::DETACH) {
            // Somebody was faster.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            Err(Errno::PERM) => {
                let mut tool = Command::new("fusermount3");
                tool.args(["-u", "-z", "--"]).arg(&self.point).stdin(Stdio::null());
                match tool.status() {
                    Ok(status) if status.success() => Ok(()),
                    Ok(status) => Err(failed(io::Error::other(format!("fusermount3: {status}")))),
                    Err(error) => Err(failed(error)),
                }
            }
            Err(error) => Err(failed(error.into())),
        }
    }
}
