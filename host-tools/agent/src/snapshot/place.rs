//! The folder that snapshots lie in, or are mounted in for a moment: ours alone.

use std::io;
use std::path::Path;

use rustix::fs::{self, Mode, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::dir::Directory;

/// Name of a folder of ours that snapshots lie in.
pub const FOLDER: &str = ".mailkeep-frozen";

/// Whether a folder of that name is ours: nobody else could have made it so, and what is in it is no part of any copy.
pub fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o077 == 0
}

/// Makes a folder for snapshots that nobody else can enter, if it is not there.
pub(super) fn make_folder(path: &Path) -> Result<Directory, String> {
    let shown = path.display();
    match fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(format!("cannot make the folder {shown}: {}", io::Error::from(error))),
    }
    let opened = Directory::open(path).and_then(|folder| Ok((folder.stat_self()?, folder)));
    match opened {
        Ok((stat, folder)) if is_ours(&stat) => Ok(folder),
        Ok(_) => Err(format!("{shown} does not belong to us alone; remove it")),
        Err(error) => Err(format!("cannot open the folder {shown}: {}", io::Error::from(error))),
    }
}

/// Removes it if nothing is in it.
pub(super) fn remove_folder(path: &Path) {
    if path.file_name() == Some(FOLDER.as_ref()) {
        // Only ever removes what is empty.
        let _ = fs::rmdir(path);
    }
}
