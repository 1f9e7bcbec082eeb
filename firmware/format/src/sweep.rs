//! The sweep record: what retention has removed and what may be deleted. Follows FORMAT.md, "Sweep records".
//!
//! Each record holds the whole state, so the newest one is all that is needed. An authentic record that lists a snapshot
//! *is* its removal, just as an authentic manifest is its seal; so it is sealed in the same way.

use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborLimits};
use crate::ids::Salt;
use crate::record::{Envelope, Header};
use crate::version::{FORMAT_VERSION, check_features, check_features_of, check_version};
use crate::{FormatError, Keys, PackId, RepositoryId, SnapshotId, limits};

const WHAT: &str = "sweep record";
const ENVELOPE: Envelope =
    Envelope { what: WHAT, magic: b"MK-SWEP\n", tag: b"mailkeep sweep", file_max: limits::SWEEP_FILE_MAX };
const LIMITS: CborLimits =
    CborLimits { max_len: limits::SWEEP_RAW_MAX, max_depth: 4, max_items: limits::SWEEP_ITEMS_MAX };

/// What was removed from a repository, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepRecord {
    /// Version of the format.
    pub format_version: u32,
    /// Features a program must know to sweep this repository; sorted.
    pub required_features: Vec<String>,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Counts these records, from 1; the highest is the one that counts.
    pub sequence: u64,
    /// The highest generation in the repository when this was written.
    pub generation: u64,
    /// When it was written, seconds since 1970 by the clock of the box.
    pub time: i64,
    /// Program and version that wrote it.
    pub program: String,
    /// All snapshots ever removed, in ascending order of generation and id.
    pub removed: Vec<RemovedSnapshot>,
    /// Packs that nothing needs any more, in ascending order of their ids; those that are deleted are among them as
    /// long as an index run names them.
    pub tombstoned: Vec<Tombstone>,
    /// Packs that stay but that no manifest names any more as its own, ascending: written for snapshots that were
    /// removed, or by a sweep.
    pub packs: Vec<PackId>,
}

/// A snapshot that was removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovedSnapshot {
    /// Its generation.
    pub generation: u64,
    /// Its id.
    pub id: SnapshotId,
    /// Name of its source.
    pub source: String,
}

/// A pack that nothing needs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// The pack.
    pub pack: PackId,
    /// The highest generation in the repository when it was found to be unneeded.
    pub generation: u64,
    /// When that was, seconds since 1970 by the clock of the box.
    pub time: i64,
}

impl SweepRecord {
    /// The bytes of the file and the hash that names it. The salt must be fresh.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] above [`limits::SWEEP_RAW_MAX`]; [`FormatError::Malformed`] for lists out of order;
    /// [`FormatError::Compressor`].
    pub fn encode(&self, keys: &Keys, salt: Salt) -> Result<(Vec<u8>, [u8; 32]), FormatError> {
        check_features(WHAT, &self.required_features)?;
        self.check()?;
        let body = ENVELOPE.squeeze(&cbor::to_vec(self)?, limits::SWEEP_RAW_MAX)?;
        let header = Header { number: self.sequence, repository: self.repository, salt };
        ENVELOPE.seal(&keys.sweep, &header, &body)
    }

    /// Opens a record.
    ///
    /// # Errors
    /// [`FormatError::Foreign`] for one of another repository, [`FormatError::NotAuthentic`] for damage, and the rest
    /// of [`FormatError`] for contents that break the format or need a newer program.
    pub fn decode(keys: &Keys, repository: &RepositoryId, bytes: &[u8]) -> Result<Self, FormatError> {
        let (header, body) = ENVELOPE.open(&keys.sweep, repository, bytes)?;
        let raw = ENVELOPE.unsqueeze(&body, limits::SWEEP_RAW_MAX)?;
        check_features_of(WHAT, &raw, &LIMITS)?;
        let record: SweepRecord = cbor::from_slice(&raw, &LIMITS)?;
        check_version(WHAT, record.format_version)?;
        if record.repository != *repository || record.sequence != header.number {
            return Err(FormatError::malformed(WHAT, "header and body contradict each other"));
        }
        record.check()?;
        Ok(record)
    }

    /// A record in which nothing is removed yet, to come after the one before `sequence`.
    pub fn empty(repository: RepositoryId, sequence: u64) -> Self {
        SweepRecord {
            format_version: FORMAT_VERSION,
            required_features: Vec::new(),
            repository,
            sequence,
            generation: 0,
            time: 0,
            program: String::new(),
            removed: Vec::new(),
            tombstoned: Vec::new(),
            packs: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), FormatError> {
        let key = |snapshot: &RemovedSnapshot| (snapshot.generation, snapshot.id);
        if self.removed.windows(2).any(|pair| key(&pair[0]) >= key(&pair[1]))
            || self.tombstoned.windows(2).any(|pair| pair[0].pack >= pair[1].pack)
            || self.packs.windows(2).any(|pair| pair[0] >= pair[1])
        {
            return Err(FormatError::malformed(WHAT, "a list is unordered or repeats itself"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Master;

    const REPOSITORY: RepositoryId = RepositoryId([1; 16]);

    fn record() -> SweepRecord {
        let tombstone = |byte| Tombstone { pack: PackId([byte; 32]), generation: 9, time: 5 };
        let removed =
            |generation| RemovedSnapshot { generation, id: SnapshotId([7; 32]), source: "mail1".into() };
        SweepRecord {
            generation: 9,
            removed: vec![removed(1), removed(4)],
            tombstoned: vec![tombstone(3), tombstone(4)],
            packs: vec![PackId([1; 32]), PackId([2; 32])],
            ..SweepRecord::empty(REPOSITORY, 3)
        }
    }

    fn decode(bytes: &[u8]) -> Result<SweepRecord, FormatError> {
        SweepRecord::decode(&Master::from_bytes([3; 32]).keys(), &REPOSITORY, bytes)
    }

    fn encode(record: &SweepRecord) -> Result<Vec<u8>, FormatError> {
        Ok(record.encode(&Master::from_bytes([3; 32]).keys(), Salt([2; 16]))?.0)
    }

    #[test]
    fn a_record_comes_back_and_no_bit_of_it_may_change() {
        let bytes = encode(&record()).unwrap();
        assert_eq!(decode(&bytes), Ok(record()));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn lists_out_of_order_and_unknown_features_are_refused() {
        let mut swapped = [record(), record(), record()];
        swapped[0].removed.reverse();
        swapped[1].tombstoned.reverse();
        swapped[2].packs.push(PackId([2; 32]));
        for record in swapped {
            assert!(matches!(encode(&record), Err(FormatError::Malformed { .. })));
        }
        let newer = SweepRecord { required_features: vec!["later".into()], ..record() };
        assert!(matches!(encode(&newer), Err(FormatError::UnknownFeature { .. })));
    }

    #[test]
    fn a_record_of_another_repository_is_none() {
        let bytes = encode(&SweepRecord { repository: RepositoryId([9; 16]), ..record() }).unwrap();
        assert!(matches!(decode(&bytes), Err(FormatError::Foreign { .. })));
    }
}
