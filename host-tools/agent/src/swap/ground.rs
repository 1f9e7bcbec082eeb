//! The journal's real ground: renames between folders that are opened step by step without following a link, and the state
//! folder of the service.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, RenameFlags, fsync, renameat_with, statat};
use rustix::io::Errno;

use super::journal::{Ground, JOURNAL, Journal, Step};
use crate::dir::Directory;
use crate::window::state::StateFolder;

/// The disks of this server.
#[derive(Debug)]
pub(crate) struct Disks<'a> {
    pub(crate) folder: &'a StateFolder,
}

/// The folder that a path is in, opened, and its name there.
fn apart(path: &Path) -> Result<(Directory, &[u8]), Errno> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let folder = Directory::open_exactly(path.parent().ok_or(Errno::INVAL)?)?;
    Ok((folder, name.as_bytes()))
}

impl Ground for Disks<'_> {
    #[allow(clippy::unnecessary_cast)] // Its width differs between architectures.
    fn inode(&self, path: &Path) -> io::Result<Option<u64>> {
        let look = || {
            let (folder, name) = apart(path)?;
            statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
        };
        match look() {
            Ok(stat) => Ok(Some(stat.st_ino as u64)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn flip(&self, step: &Step) -> io::Result<()> {
        let (live, live_name) = apart(&step.live)?;
        let (beside, beside_name) = apart(&step.beside)?;
        let done = match (self.inode(&step.live)?, self.inode(&step.beside)?) {
            (Some(_), Some(_)) => {
                renameat_with(&live, live_name, &beside, beside_name, RenameFlags::EXCHANGE)
            }
            (Some(_), None) => renameat_with(&live, live_name, &beside, beside_name, RenameFlags::NOREPLACE),
            (None, _) => renameat_with(&beside, beside_name, &live, live_name, RenameFlags::NOREPLACE),
        };
        Ok(done?)
    }

    fn sync(&self, step: &Step) -> io::Result<()> {
        for path in [&step.live, &step.beside] {
            let (folder, _) = apart(path)?;
            fsync(&folder)?;
        }
        Ok(())
    }

    fn note(&self, journal: &Journal) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(journal)?;
        self.folder.write_durably(JOURNAL, &text).map_err(io::Error::other)
    }
}

/// Sees that two folders in `folder` can be exchanged by one rename: not every file system can.
///
/// # Errors
/// As renameat2(2).
pub(crate) fn can_exchange(folder: &Directory) -> Result<(), Errno> {
    use rustix::fs::{Mode, mkdirat, unlinkat};
    const NAMES: [&str; 2] = ["try-one", "try-two"];
    for name in NAMES {
        match mkdirat(folder, name, Mode::RWXU) {
            Err(Errno::EXIST) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    let done = renameat_with(folder, NAMES[0], folder, NAMES[1], RenameFlags::EXCHANGE);
    for name in NAMES {
        let _ = unlinkat(folder, name, AtFlags::REMOVEDIR);
    }
    done
}

/// Makes everything on the file system of `folder` durable.
///
/// # Errors
/// As syncfs(2).
pub(crate) fn sync_all(folder: &Directory) -> io::Result<()> {
    Ok(rustix::fs::syncfs(folder)?)
}

/// What identifies a file that is open in other processes.
pub(crate) fn identity(file: &File) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    file.metadata().map(|meta| (meta.dev(), meta.ino()))
}
