//! What the box remembers across restarts: when the newest proven backup was made, whether one failed
//! since, and when one was last due.
//!
//! Kept as a small JSON file in the state folder, replaced as a whole. A file that can't be read is said and
//! taken for an empty one; nothing that matters for a restore is in it.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::state_file;

const FILE: &str = "ledger.json";

/// What the box remembers. Times are seconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The newest proven backup was finished.
    pub proven: Option<i64>,
    /// The last backup that ended was not good.
    pub last_failed: bool,
    /// A backup by schedule was last begun, or passed over on purpose.
    pub scheduled: Option<i64>,
}

impl Ledger {
    /// Reads what is remembered.
    ///
    /// # Errors
    /// The file is there and can't be read or understood.
    pub fn load(state_dir: &Path) -> io::Result<Self> {
        match std::fs::read(state_dir.join(FILE)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces what is remembered.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn save(&self, state_dir: &Path) -> io::Result<()> {
        state_file::replace(state_dir, FILE, &serde_json::to_vec_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_a_new_box_knows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Ledger::load(folder.path()).unwrap(), Ledger::default());
        let ledger = Ledger { proven: Some(1_700_000_000), last_failed: true, scheduled: None };
        ledger.save(folder.path()).unwrap();
        assert_eq!(Ledger::load(folder.path()).unwrap(), ledger);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(Ledger::load(folder.path()).is_err());
    }
}
