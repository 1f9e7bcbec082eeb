//! The box's own key for one server: made here, never leaves here.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{PairError, tool};

/// A key pair in a folder.
#[derive(Clone, Debug)]
pub struct OwnKey {
    /// The private key's file.
    pub file: PathBuf,
    /// Its kind, like `ssh-ed25519`.
    pub kind: String,
    /// Its public half, in base64.
    pub blob: String,
}

impl OwnKey {
    /// The key in `file`, which is made if it is not there.
    ///
    /// # Errors
    /// The file cannot be made or read, or ssh-keygen is not there.
    pub fn obtain(file: &Path, comment: &str) -> Result<Self, PairError> {
        if !file.exists() {
            let words = ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", &file.to_string_lossy()];
            let told = tool::run("ssh-keygen", &words.map(str::to_owned), b"")?;
            if !told.ok {
                return Err(PairError::Program { program: "ssh-keygen".to_owned(), why: told.last_line() });
            }
        }
        OwnKey::existing(file)
    }

    /// The key in `file`. The public half is worked out of the private one, so that the two cannot differ.
    ///
    /// # Errors
    /// As [`OwnKey::obtain`].
    pub fn existing(file: &Path) -> Result<Self, PairError> {
        fs::metadata(file).map_err(|error| PairError::file("read the key", file, error))?;
        let told = tool::run("ssh-keygen", &["-y", "-f", &file.to_string_lossy()].map(str::to_owned), b"")?;
        let text = told.text();
        let mut words = text.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some(kind), Some(blob)) if told.ok => {
                Ok(OwnKey { file: file.to_owned(), kind: kind.to_owned(), blob: blob.to_owned() })
            }
            _ => Err(PairError::Program { program: "ssh-keygen -y".to_owned(), why: told.last_line() }),
        }
    }
}
