//! The one error type of this crate.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why snapshots could not be mounted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MountError {
    /// The mount point is missing or no folder.
    #[error("{} is not a folder that can be mounted on; make it first", path.display())]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel or fusermount3 refused.
    #[error(
        "cannot mount on {}; FUSE has to be there (/dev/fuse, and without root the package fuse3; \
         --allow-other needs user_allow_other in /etc/fuse.conf)",
        path.display()
    )]
    Refused {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread for the mount could not be started, or it has ended with an error.
    #[error("the mount on {} has failed", path.display())]
    Session {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be unmounted.
    #[error("cannot unmount {}; close what is open there and run `umount` on it", path.display())]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
