//! The verification record: how far the repository was read back, and what is known to be damaged in it. Follows
//! FORMAT.md, "Verification records".
//!
//! It is a write-once file like all others: a new one takes the place of the one before. The place of a pack in the
//! round of verification is the first eight bytes of its id, big-endian: ids are hashes, so equal parts of that circle
//! hold equal parts of the disk, and *every* pack has its turn within as many slices as make up the circle, however much
//! is added meanwhile.

use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborLimits};
use crate::ids::Salt;
use crate::record::{Envelope, Header};
use crate::version::{FORMAT_VERSION, check_features, check_features_of, check_version};
use crate::{FormatError, Keys, PackId, RepositoryId, SnapshotId, limits};

const WHAT: &str = "verification record";
const ENVELOPE: Envelope = Envelope {
    what: WHAT,
    magic: b"MK-VERI\n",
    tag: b"mailkeep verification",
    file_max: limits::VERIFICATION_FILE_MAX,
};
const LIMITS: CborLimits = CborLimits {
    max_len: limits::VERIFICATION_FILE_MAX,
    max_depth: 4,
    max_items: limits::VERIFICATION_ITEMS_MAX,
};

/// What is known of the state of the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// Version of the format.
    pub format_version: u32,
    /// Features a program must know to use it; sorted.
    pub required_features: Vec<String>,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Counts these records, from 1; the highest is the one that counts.
    pub sequence: u64,
    /// The highest generation in the repository when this was written.
    pub generation: u64,
    /// When it was written, seconds since 1970 by the clock of the box.
    pub time: i64,
    /// Where the next slice begins.
    pub position: u64,
    /// What was read, the newest first; older ones that newer ones cover entirely are left out.
    pub slices: Vec<VerifiedSlice>,
    /// Packs that are known to be damaged, ascending.
    pub damaged: Vec<PackId>,
    /// Snapshots that are known to have lost something, ascending.
    pub lost: Vec<SnapshotId>,
}

/// A part of the circle of pack ids that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifiedSlice {
    /// The first place in it.
    pub from: u64,
    /// The first place behind it; equal to `from` if it is the whole circle.
    pub to: u64,
    /// When it was read, seconds since 1970 by the clock of the box.
    pub time: i64,
    /// The highest generation in the repository then.
    pub generation: u64,
}

impl VerifiedSlice {
    /// Whether this place is in it.
    pub fn has(&self, place: u64) -> bool {
        let length = self.to.wrapping_sub(self.from);
        length == 0 || place.wrapping_sub(self.from) < length
    }
}

/// The place of a pack on the circle.
pub fn place_of(pack: &PackId) -> u64 {
    let mut start = [0; 8];
    start.copy_from_slice(&pack.0[..8]);
    u64::from_be_bytes(start)
}

impl Verification {
    /// A record in which nothing is known yet, to come after the one with this sequence.
    pub fn empty(repository: RepositoryId, sequence: u64) -> Self {
        Verification {
            format_version: FORMAT_VERSION,
            required_features: Vec::new(),
            repository,
            sequence,
            generation: 0,
            time: 0,
            position: 0,
            slices: Vec::new(),
            damaged: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// The slice in which this pack was last read.
    pub fn last_read(&self, pack: &PackId) -> Option<&VerifiedSlice> {
        self.slices.iter().find(|slice| slice.has(place_of(pack)))
    }

    /// The bytes of the file and the hash that names it. The salt must be fresh.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] above [`limits::VERIFICATION_FILE_MAX`].
    pub fn encode(&self, keys: &Keys, salt: Salt) -> Result<(Vec<u8>, [u8; 32]), FormatError> {
        check_features(WHAT, &self.required_features)?;
        self.check()?;
        let header = Header { number: self.sequence, repository: self.repository, salt };
        ENVELOPE.seal(&keys.verification, &header, &cbor::to_vec(self)?)
    }

    /// Opens a record.
    ///
    /// # Errors
    /// [`FormatError::Foreign`] for one of another repository, [`FormatError::NotAuthentic`] for damage, and the rest
    /// of [`FormatError`] for contents that break the format or need a newer program.
    pub fn decode(keys: &Keys, repository: &RepositoryId, bytes: &[u8]) -> Result<Self, FormatError> {
        let (header, body) = ENVELOPE.open(&keys.verification, repository, bytes)?;
        check_features_of(WHAT, &body, &LIMITS)?;
        let record: Verification = cbor::from_slice(&body, &LIMITS)?;
        check_version(WHAT, record.format_version)?;
        if record.repository != *repository || record.sequence != header.number {
            return Err(FormatError::malformed(WHAT, "header and body contradict each other"));
        }
        record.check()?;
        Ok(record)
    }

    fn check(&self) -> Result<(), FormatError> {
        if self.damaged.windows(2).any(|pair| pair[0] >= pair[1])
            || self.lost.windows(2).any(|pair| pair[0] >= pair[1])
        {
            return Err(FormatError::malformed(WHAT, "a list is unordered or repeats itself"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_may_go_round_and_an_empty_length_is_all() {
        let slice = |from, to| VerifiedSlice { from, to, time: 0, generation: 0 };
        assert!(slice(10, 20).has(10) && slice(10, 20).has(19));
        assert!(!slice(10, 20).has(9) && !slice(10, 20).has(20));
        assert!(slice(u64::MAX, 5).has(4) && slice(u64::MAX, 5).has(u64::MAX));
        assert!(!slice(u64::MAX, 5).has(5) && !slice(u64::MAX, 5).has(u64::MAX - 1));
        assert!(slice(7, 7).has(0) && slice(7, 7).has(u64::MAX));
    }
}
