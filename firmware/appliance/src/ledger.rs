//! What the box remembers across restarts: when the newest proven backup was made, whether one failed since, when one
//! was last due, whether one is owed, and the faults that nobody has dealt with yet.
//!
//! Kept as a small JSON file in the state folder, replaced as a whole. A file that can't be read is said and
//! taken for an empty one; nothing that matters for a restore is in it.

use std::io;
use std::path::Path;

use mailkeep_controller::{Fault, Latched};
use serde::{Deserialize, Serialize};

use crate::state_file;

const FILE: &str = "ledger.json";

/// What the box remembers. Times are seconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The newest proven backup was finished.
    pub proven: Option<i64>,
    /// The last backup that ended was not good.
    pub last_failed: bool,
    /// A backup by schedule was last begun, or passed over on purpose.
    pub scheduled: Option<i64>,
    /// A backup is wanted or under way, and has not ended.
    pub owed: bool,
    /// How often the box was started again with the same backup owed. One that brings the box down must not do so for ever.
    pub resumed: u32,
    /// The faults in the latch.
    pub faults: Vec<SavedFault>,
}

/// A fault in the latch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFault {
    /// [`Fault::word`].
    pub fault: String,
    /// Someone has seen it.
    pub acknowledged: bool,
    /// Its cause is gone.
    pub mended: bool,
    /// When it was raised.
    pub since: i64,
}

impl SavedFault {
    /// For the latch; `None`: a fault that this version does not know.
    pub fn latched(&self) -> Option<Latched> {
        let fault = Fault::of_word(&self.fault)?;
        Some(Latched { fault, acknowledged: self.acknowledged, mended: self.mended })
    }
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

    /// Takes over the faults that are latched now; those that were latched before keep their date. Returns whether
    /// anything is different.
    pub fn note_faults(&mut self, latched: impl Iterator<Item = Latched>, now: i64) -> bool {
        let faults: Vec<SavedFault> = latched
            .map(|latched| {
                let word = latched.fault.word();
                let since =
                    self.faults.iter().find(|known| known.fault == word).map_or(now, |known| known.since);
                let Latched { acknowledged, mended, .. } = latched;
                SavedFault { fault: word.to_owned(), acknowledged, mended, since }
            })
            .collect();
        let different = faults != self.faults;
        self.faults = faults;
        different
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_a_new_box_knows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Ledger::load(folder.path()).unwrap(), Ledger::default());
        let mut ledger = Ledger { proven: Some(1_700_000_000), last_failed: true, ..Ledger::default() };
        let latched = Latched { fault: Fault::DiskFull, acknowledged: true, mended: false };
        assert!(ledger.note_faults([latched].into_iter(), 7));
        assert!(!ledger.note_faults([latched].into_iter(), 8), "the same, and it keeps its date");
        ledger.save(folder.path()).unwrap();
        let loaded = Ledger::load(folder.path()).unwrap();
        assert_eq!(loaded, ledger);
        assert_eq!((loaded.faults[0].since, loaded.faults[0].latched()), (7, Some(latched)));
        std::fs::write(folder.path().join(FILE), "{\"proven\": 5}").unwrap();
        assert_eq!(Ledger::load(folder.path()).unwrap().proven, Some(5), "of an earlier version");
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(Ledger::load(folder.path()).is_err());
    }
}
