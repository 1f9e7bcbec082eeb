//! The checkpoint: what a backup had read when it was cut off. Follows FORMAT.md, "Checkpoints".
//!
//! It is no snapshot and makes none. It is sealed with a key of its own, so that none can be made, edited or carried here from
//! another repository by somebody without the keys.

use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborLimits};
use crate::ids::Salt;
use crate::record::{Envelope, Header};
use crate::version::{check_features, check_features_of, check_version};
use crate::{ChunkRef, FormatError, Keys, RepositoryId, SnapshotId, Timestamp, limits};

const WHAT: &str = "checkpoint";
const ENVELOPE: Envelope = Envelope {
    what: WHAT,
    magic: b"MK-CHKP\n",
    tag: b"mailkeep checkpoint",
    file_max: limits::CHECKPOINT_FILE_MAX,
};
const LIMITS: CborLimits = CborLimits {
    max_len: limits::CHECKPOINT_FILE_MAX,
    max_depth: 5,
    max_items: limits::CHECKPOINT_ITEMS_MAX,
};

/// How far a backup had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Version of the format.
    pub format_version: u32,
    /// Features a program must know to use it; sorted.
    pub required_features: Vec<String>,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Counts these records, from 1; of one source the highest counts.
    pub sequence: u64,
    /// Program and version that wrote it.
    pub program: String,
    /// The source that was backed up.
    pub source: String,
    /// The machine that it was on, by its own name.
    pub host: String,
    /// The newest snapshot of the source at that time: with another one this says nothing.
    pub snapshot: Option<SnapshotId>,
    /// What the pass had read.
    pub seen: TreeSeen,
    /// The tree that the pass was compared with, if it was not over: what is missing above may be there.
    pub compared_with: Option<TreeSeen>,
}

/// A tree, and when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeSeen {
    /// The server's clock at the start of the pass that made it.
    pub clock: Timestamp,
    /// The tree of "/".
    pub root: Vec<ChunkRef>,
}

impl Checkpoint {
    /// The bytes of the file and the hash that names it. The salt must be fresh.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] above [`limits::CHECKPOINT_FILE_MAX`].
    pub fn encode(&self, keys: &Keys, salt: Salt) -> Result<(Vec<u8>, [u8; 32]), FormatError> {
        check_features(WHAT, &self.required_features)?;
        let header = Header { number: self.sequence, repository: self.repository, salt };
        ENVELOPE.seal(&keys.checkpoint, &header, &cbor::to_vec(self)?)
    }

    /// Opens a record.
    ///
    /// # Errors
    /// [`FormatError::Foreign`] for one of another repository, [`FormatError::NotAuthentic`] for damage, and the rest
    /// of [`FormatError`] for contents that break the format or need a newer program.
    pub fn decode(keys: &Keys, repository: &RepositoryId, bytes: &[u8]) -> Result<Self, FormatError> {
        let (header, body) = ENVELOPE.open(&keys.checkpoint, repository, bytes)?;
        check_features_of(WHAT, &body, &LIMITS)?;
        let record: Checkpoint = cbor::from_slice(&body, &LIMITS)?;
        check_version(WHAT, record.format_version)?;
        if record.repository != *repository || record.sequence != header.number {
            return Err(FormatError::malformed(WHAT, "header and body contradict each other"));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::FORMAT_VERSION;
    use crate::{ChunkId, Master};

    fn record() -> Checkpoint {
        let seen = |byte: u8| TreeSeen {
            clock: Timestamp { seconds: 1_700_000_000, nanos: 7 },
            root: vec![ChunkRef { id: ChunkId([byte; 24]), length: 99 }],
        };
        Checkpoint {
            format_version: FORMAT_VERSION,
            required_features: Vec::new(),
            repository: RepositoryId([7; 16]),
            sequence: 3,
            program: "mailkeep 0.1.0".to_owned(),
            source: "mail1".to_owned(),
            host: "mail1.example.org".to_owned(),
            snapshot: Some(SnapshotId([9; 32])),
            seen: seen(1),
            compared_with: Some(seen(2)),
        }
    }

    fn keys(byte: u8) -> Keys {
        Master::from_bytes([byte; 32]).keys()
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        for first in [false, true] {
            let mut record = record();
            if first {
                (record.snapshot, record.compared_with) = (None, None);
            }
            let (bytes, hash) = record.encode(&keys(1), Salt([5; 16])).unwrap();
            assert_eq!(hash, *blake3::hash(&bytes).as_bytes());
            assert_eq!(Checkpoint::decode(&keys(1), &record.repository, &bytes).unwrap(), record);
        }
    }

    #[test]
    fn every_changed_byte_another_key_and_another_repository_are_refused() {
        let record = record();
        let good = record.encode(&keys(1), Salt([5; 16])).unwrap().0;
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Checkpoint::decode(&keys(1), &record.repository, &bad).is_err(), "byte {at}");
            assert!(Checkpoint::decode(&keys(1), &record.repository, &good[..at]).is_err(), "cut at {at}");
        }
        assert!(Checkpoint::decode(&keys(2), &record.repository, &good).is_err());
        assert!(matches!(
            Checkpoint::decode(&keys(1), &RepositoryId([8; 16]), &good),
            Err(FormatError::Foreign { .. })
        ));
    }
}
