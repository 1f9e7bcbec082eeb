//! Replacing a small file in the state folder as a whole: new file, fsync, rename, fsync of the folder. After a power cut
//! either the old or the new one is there.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The token for the API, in the state folder.
pub(crate) const TOKEN_FILE: &str = "web.token";

/// Writes a file of the state folder durably in the place of the one before.
///
/// # Errors
/// The folder can't be written.
pub(crate) fn replace(state_dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new: PathBuf = state_dir.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, state_dir.join(name))?;
    File::open(state_dir)?.sync_all()
}
