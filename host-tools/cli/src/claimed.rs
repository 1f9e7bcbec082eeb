//! A new file for a secret, claimed before there is one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::exit::{self, Failure};

/// A new secret file that is ours alone (mode 0600), and goes away again if nothing comes into it.
pub(crate) struct Claimed {
    path: PathBuf,
    file: File,
    filled: bool,
}

impl Claimed {
    /// Makes the file, which must not be there.
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| Failure::file(exit::FAILED, "make the new file", path, &error))?;
        Ok(Claimed { path: path.to_owned(), file, filled: false })
    }

    /// Writes the secret durably, its name included.
    pub(crate) fn fill(mut self, text: &str) -> Result<(), Failure> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        // Durable before anything is encrypted with it, its name included.
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_all())
            .and_then(|()| File::open(folder)?.sync_all());
        written.map_err(|error| Failure::file(exit::FAILED, "write", &self.path, &error))?;
        self.filled = true;
        Ok(())
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if !self.filled {
            // An empty file of ours; if it stays, the next attempt says so.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
