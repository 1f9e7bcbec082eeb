//! The drill record: how a rehearsed restore of one snapshot ended. Follows FORMAT.md, "Drill records".
//!
//! It is sealed with a key of its own and names its snapshot inside of what is sealed: one that was edited, or carried to
//! another repository, is not authentic, and none can be made to speak of another snapshot.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborLimits};
use crate::ids::Salt;
use crate::record::{Envelope, Header};
use crate::version::{check_features, check_features_of, check_version};
use crate::{FormatError, Keys, RepositoryId, SnapshotId, limits};

const WHAT: &str = "drill record";
const ENVELOPE: Envelope =
    Envelope { what: WHAT, magic: b"MK-DRIL\n", tag: b"mailkeep drill", file_max: limits::DRILL_FILE_MAX };
const LIMITS: CborLimits =
    CborLimits { max_len: limits::DRILL_FILE_MAX, max_depth: 4, max_items: limits::DRILL_ITEMS_MAX };

/// How a rehearsed restore ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillRecord {
    /// Version of the format.
    pub format_version: u32,
    /// Features a program must know to use it; sorted.
    pub required_features: Vec<String>,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Counts these records, from 1; of one snapshot the highest counts.
    pub sequence: u64,
    /// The snapshot that was rebuilt.
    pub snapshot: SnapshotId,
    /// Program and version that did it.
    pub program: String,
    /// The machine that it was done on.
    pub host: String,
    /// When it began, seconds since 1970 by the clock of that machine.
    pub started: i64,
    /// How long it took.
    pub millis: u64,
    /// No check has failed.
    pub passed: bool,
    /// What was drawn by lot; `None` for the whole snapshot.
    pub sample: Option<DrillSample>,
    /// Files and other names that are no directories, rebuilt.
    pub files: u64,
    /// Directories, rebuilt.
    pub directories: u64,
    /// Bytes of file contents, rebuilt.
    pub bytes: u64,
    /// What was checked, in the order in which it was.
    pub checks: Vec<DrillCheck>,
    /// How many problems there were.
    pub problem_count: u64,
    /// The first of them, for people.
    pub problems: Vec<String>,
}

/// A part of a snapshot that was drawn by lot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillSample {
    /// What was asked for: `5%`, `1000 files`.
    pub asked: String,
    /// The seed of the lot: the same one draws the same files of the same snapshot.
    pub seed: u64,
    /// Files that were taken.
    pub files: u64,
    /// Files of the snapshot.
    pub of: u64,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillCheck {
    /// What: `rebuild`, `contents`, `mail`, `cyrus`.
    pub name: String,
    /// How it ended.
    pub verdict: DrillVerdict,
    /// What was counted, or why it was left out, in a line.
    pub detail: String,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DrillVerdict {
    /// Nothing was wrong.
    #[serde(rename = "passed")]
    Passed,
    /// Something was.
    #[serde(rename = "failed")]
    Failed,
    /// It was not made.
    #[serde(rename = "left out")]
    LeftOut,
}

impl DrillVerdict {
    /// As it stands in the record, and as people read it.
    pub fn word(self) -> &'static str {
        match self {
            DrillVerdict::Passed => "passed",
            DrillVerdict::Failed => "failed",
            DrillVerdict::LeftOut => "left out",
        }
    }
}

impl DrillRecord {
    /// The bytes of the file and the hash that names it. The salt must be fresh.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] above [`limits::DRILL_FILE_MAX`]; a record that contradicts itself.
    pub fn encode(&self, keys: &Keys, salt: Salt) -> Result<(Vec<u8>, [u8; 32]), FormatError> {
        check_features(WHAT, &self.required_features)?;
        self.check()?;
        let header = Header { number: self.sequence, repository: self.repository, salt };
        ENVELOPE.seal(&keys.drill, &header, &cbor::to_vec(self)?)
    }

    /// Opens a record.
    ///
    /// # Errors
    /// [`FormatError::Foreign`] for one of another repository, [`FormatError::NotAuthentic`] for damage, and the rest
    /// of [`FormatError`] for contents that break the format or need a newer program.
    pub fn decode(keys: &Keys, repository: &RepositoryId, bytes: &[u8]) -> Result<Self, FormatError> {
        let (header, body) = ENVELOPE.open(&keys.drill, repository, bytes)?;
        check_features_of(WHAT, &body, &LIMITS)?;
        let record: DrillRecord = cbor::from_slice(&body, &LIMITS)?;
        check_version(WHAT, record.format_version)?;
        if record.repository != *repository || record.sequence != header.number {
            return Err(FormatError::malformed(WHAT, "header and body contradict each other"));
        }
        record.check()?;
        Ok(record)
    }

    /// A record that says "passed" beside a failed check would be a false proof.
    fn check(&self) -> Result<(), FormatError> {
        let failed = self.checks.iter().any(|check| check.verdict == DrillVerdict::Failed);
        if self.passed == failed || self.passed != (self.problem_count == 0) {
            return Err(FormatError::malformed(WHAT, "its verdict is not that of its checks"));
        }
        let names: BTreeSet<&str> = self.checks.iter().map(|check| check.name.as_str()).collect();
        if names.len() != self.checks.len() {
            return Err(FormatError::malformed(WHAT, "a check stands in it twice"));
        }
        if (self.problems.len() as u64) > self.problem_count {
            return Err(FormatError::malformed(WHAT, "it names more problems than it counts"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Master;
    use crate::version::FORMAT_VERSION;

    fn record() -> DrillRecord {
        let check = |name: &str, verdict| DrillCheck {
            name: name.to_owned(),
            verdict,
            detail: "all of it".to_owned(),
        };
        DrillRecord {
            format_version: FORMAT_VERSION,
            required_features: Vec::new(),
            repository: RepositoryId([7; 16]),
            sequence: 3,
            snapshot: SnapshotId([9; 32]),
            program: "mailkeep 0.1.0".to_owned(),
            host: "desk".to_owned(),
            started: 1_700_000_000,
            millis: 61_000,
            passed: true,
            sample: Some(DrillSample { asked: "5%".to_owned(), seed: u64::MAX, files: 5, of: 100 }),
            files: 5,
            directories: 2,
            bytes: 500,
            checks: vec![check("rebuild", DrillVerdict::Passed), check("cyrus", DrillVerdict::LeftOut)],
            problem_count: 0,
            problems: Vec::new(),
        }
    }

    fn keys(byte: u8) -> Keys {
        Master::from_bytes([byte; 32]).keys()
    }

    fn sealed(record: &DrillRecord) -> Vec<u8> {
        record.encode(&keys(1), Salt([5; 16])).unwrap().0
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        for sample in [record().sample, None] {
            let record = DrillRecord { sample, ..record() };
            assert_eq!(DrillRecord::decode(&keys(1), &record.repository, &sealed(&record)).unwrap(), record);
        }
    }

    #[test]
    fn every_changed_byte_another_key_and_another_repository_are_refused() {
        let record = record();
        let good = sealed(&record);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(DrillRecord::decode(&keys(1), &record.repository, &bad).is_err(), "byte {at}");
        }
        for end in 0..good.len() {
            assert!(DrillRecord::decode(&keys(1), &record.repository, &good[..end]).is_err(), "cut at {end}");
        }
        assert!(matches!(
            DrillRecord::decode(&keys(2), &record.repository, &good),
            Err(FormatError::NotAuthentic { .. })
        ));
        assert!(matches!(
            DrillRecord::decode(&keys(1), &RepositoryId([8; 16]), &good),
            Err(FormatError::Foreign { .. })
        ));
    }

    #[test]
    fn no_record_says_passed_beside_a_failed_check() {
        let spoilt: [fn(&mut DrillRecord); 5] = [
            |record| record.checks[0].verdict = DrillVerdict::Failed,
            |record| record.passed = false,
            |record| record.problem_count = 1,
            |record| record.problems = vec!["x".to_owned()],
            |record| record.checks[1].name = "rebuild".to_owned(),
        ];
        for spoil in spoilt {
            let mut record = record();
            spoil(&mut record);
            assert!(record.encode(&keys(1), Salt([5; 16])).is_err(), "{record:?}");
        }
        let mut failed = record();
        failed.checks[0].verdict = DrillVerdict::Failed;
        (failed.passed, failed.problem_count) = (false, 2);
        failed.problems = vec!["one".to_owned()];
        assert_eq!(DrillRecord::decode(&keys(1), &failed.repository, &sealed(&failed)).unwrap(), failed);
    }
}
