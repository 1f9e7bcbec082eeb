//! The manifest: the sealed root of a snapshot. Follows FORMAT.md, "Manifests".
//!
//! An authentic manifest *is* the seal of its snapshot. Its clear header holds what a box must know to put manifests in
//! order without opening them; everything else is CBOR, compressed, then encrypted with the header as associated data.

use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborLimits};
use crate::ids::Salt;
use crate::record::{Envelope, Header};
use crate::version::{check_features, check_features_of, check_version};
use crate::{ChunkRef, FormatError, Keys, PackId, RepositoryId, SnapshotId, Timestamp, limits};

const WHAT: &str = "manifest";
const ENVELOPE: Envelope = Envelope {
    what: WHAT,
    magic: b"MK-MANI\n",
    tag: b"mailkeep manifest",
    file_max: limits::MANIFEST_FILE_MAX,
};
const LIMITS: CborLimits =
    CborLimits { max_len: limits::MANIFEST_RAW_MAX, max_depth: 8, max_items: limits::MANIFEST_ITEMS_MAX };

/// The clear opening of a manifest file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestHeader {
    /// Its generation; see [`Manifest::generation`].
    pub generation: u64,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Random bytes of this file; first part of its nonce.
    pub salt: Salt,
}

impl ManifestHeader {
    /// Length in bytes.
    pub const LEN: usize = Header::LEN;

    /// Reads the header of a manifest file without a key; proves nothing.
    ///
    /// # Errors
    /// [`FormatError`] if this is not the start of a manifest of a known version.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let Header { number, repository, salt } = ENVELOPE.parse(bytes)?;
        Ok(ManifestHeader { generation: number, repository, salt })
    }
}

/// Everything that is kept about a snapshot beside its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format that this snapshot is written in.
    pub format_version: u32,
    /// Features a program must know to read this snapshot; sorted.
    pub required_features: Vec<String>,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Counts the snapshots ever sealed in this repository, from 1; order is by this, never by a clock.
    pub generation: u64,
    /// The manifest sealed before this one; `None` for the first.
    pub previous: Option<SnapshotId>,
    /// Program and version that wrote it.
    pub program: String,
    /// What was backed up.
    pub source: SourceInfo,
    /// Start of the run, seconds since 1970 by the clock of the box.
    pub started: i64,
    /// Time of the seal, seconds since 1970 by the clock of the box.
    pub sealed: i64,
    /// Taken from a quiescent source; `false` for live copies and for copies under which something moved.
    pub consistent: bool,
    /// What a reader of the report should know, one line each.
    pub remarks: Vec<String>,
    /// The traversals, in order; the last one made the tree.
    pub passes: Vec<PassRecord>,
    /// How long mail was stopped, and for what; `None` if it was not.
    pub window: Option<Window>,
    /// Versions of programs and their databases on the source: ("cyrus", "3.6.1").
    pub versions: Vec<(String, String)>,
    /// Names of the owners in the tree: (uid, name), ascending.
    pub users: Vec<(u32, String)>,
    /// Names of the groups in the tree: (gid, name), ascending.
    pub groups: Vec<(u32, String)>,
    /// The chunks of the encoded tree of "/".
    pub root: Vec<ChunkRef>,
    /// Sums over the snapshot.
    pub stats: Stats,
    /// The packs written for this snapshot.
    pub new_packs: Vec<PackId>,
    /// The mail-level check; `None` if there was none.
    pub mail_check: Option<MailCheckRecord>,
}

/// What was backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceInfo {
    /// Its name in the source file.
    pub name: String,
    /// Its mail system: `cyrus`, `generic`, …
    pub system: String,
    /// Host name of the machine.
    pub host: String,
}

/// One traversal of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassRecord {
    /// While mail ran, or while it was stopped.
    pub kind: PassKind,
    /// The source's clock before the pass listed anything; what is younger is read again by the next one.
    pub clock: Timestamp,
    /// Files listed.
    pub files_seen: u64,
    /// Files read because they were new or changed.
    pub files_changed: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Bytes that crossed the link.
    pub bytes_sent: u64,
    /// Duration, milliseconds.
    pub millis: u64,
}

/// Kind of a traversal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PassKind {
    /// While mail ran.
    Live,
    /// While mail was stopped.
    Final,
}

/// How long mail was stopped, and for what; milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// From the stop command until nothing ran any more.
    pub stop_ms: u64,
    /// Export of the mailbox list.
    pub export_ms: u64,
    /// Freezing what changed.
    pub freeze_ms: u64,
    /// From the start command to the greeting.
    pub start_ms: u64,
    /// From the stop command to the greeting.
    pub total_ms: u64,
}

/// Sums over a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Names of regular files and special files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Sum of the sizes of regular files, bytes.
    pub bytes: u64,
    /// Bytes that this snapshot added to the repository.
    pub added_bytes: u64,
}

/// Result of the mail-level check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailCheckRecord {
    /// No problems.
    pub ok: bool,
    /// Mailboxes looked at.
    pub mailboxes: u64,
    /// Messages looked at.
    pub messages: u64,
    /// The first problems, one line each.
    pub problems: Vec<String>,
    /// How many there were in all.
    pub problem_count: u64,
}

impl Manifest {
    /// The bytes of the manifest file and the id they have. The salt must be fresh.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] above [`limits::MANIFEST_RAW_MAX`]; [`FormatError::Compressor`].
    pub fn encode(&self, keys: &Keys, salt: Salt) -> Result<(Vec<u8>, SnapshotId), FormatError> {
        check_features(WHAT, &self.required_features)?;
        let body = ENVELOPE.squeeze(&cbor::to_vec(self)?, limits::MANIFEST_RAW_MAX)?;
        let header = Header { number: self.generation, repository: self.repository, salt };
        let (bytes, hash) = ENVELOPE.seal(&keys.manifest, &header, &body)?;
        Ok((bytes, SnapshotId(hash)))
    }

    /// Opens a manifest file.
    ///
    /// # Errors
    /// [`FormatError::Foreign`] for one of another repository, [`FormatError::NotAuthentic`] for damage, and the rest
    /// of [`FormatError`] for contents that break the format or need a newer program.
    pub fn decode(keys: &Keys, repository: &RepositoryId, bytes: &[u8]) -> Result<Self, FormatError> {
        let (header, body) = ENVELOPE.open(&keys.manifest, repository, bytes)?;
        let raw = ENVELOPE.unsqueeze(&body, limits::MANIFEST_RAW_MAX)?;
        check_features_of(WHAT, &raw, &LIMITS)?;
        let manifest: Manifest = cbor::from_slice(&raw, &LIMITS)?;
        check_version(WHAT, manifest.format_version)?;
        if manifest.repository != header.repository || manifest.generation != header.number {
            return Err(FormatError::malformed(WHAT, "header and body contradict each other"));
        }
        Ok(manifest)
    }

    /// The id of a manifest file: BLAKE3 of its bytes.
    pub fn id_of(bytes: &[u8]) -> SnapshotId {
        SnapshotId(*blake3::hash(bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Master;
    use crate::compress::Squeezer;

    const REPOSITORY: RepositoryId = RepositoryId([1; 16]);

    /// A sealed manifest file with this body, which need not be a manifest.
    fn sealed(raw_len: u32, frame: &[u8]) -> Vec<u8> {
        let header = Header { number: 1, repository: REPOSITORY, salt: Salt([2; 16]) };
        let body = [&raw_len.to_le_bytes(), frame].concat();
        ENVELOPE.seal(&Master::from_bytes([3; 32]).keys().manifest, &header, &body).unwrap().0
    }

    fn open(bytes: &[u8]) -> FormatError {
        Manifest::decode(&Master::from_bytes([3; 32]).keys(), &REPOSITORY, bytes).unwrap_err()
    }

    fn frame(raw: &[u8]) -> Vec<u8> {
        Squeezer::new(3, WHAT).unwrap().compress(raw, WHAT).unwrap().to_vec()
    }

    #[test]
    fn sealed_but_wrong_bodies_are_refused_under_the_caps() {
        let raw = b"\xa1\x61a\x01";
        assert!(matches!(open(&sealed(raw.len() as u32, &frame(raw))), FormatError::Malformed { .. }));
        assert!(matches!(open(&sealed(u32::MAX, &frame(raw))), FormatError::TooLarge { .. }));
        for wrong in [3, 5] {
            assert!(matches!(open(&sealed(wrong, &frame(raw))), FormatError::Malformed { .. }));
        }
        assert!(matches!(open(&sealed(1, b"not zstd")), FormatError::Malformed { .. }));
        // A frame that would swell to 32 MiB gets the room it declared and no more.
        let bomb = frame(&vec![0; 32 << 20]);
        assert!(matches!(open(&sealed(1_000, &bomb)), FormatError::Malformed { .. }));
    }

    #[test]
    fn an_unknown_feature_is_told_even_if_fields_came_with_it() {
        #[derive(Serialize)]
        struct Newer {
            required_features: Vec<String>,
            something: u8,
        }
        let newer = Newer { required_features: vec!["time-travel".to_owned()], something: 1 };
        let raw = cbor::to_vec(&newer).unwrap();
        let expected = FormatError::UnknownFeature { what: WHAT, feature: "time-travel".to_owned() };
        assert_eq!(open(&sealed(raw.len() as u32, &frame(&raw))), expected);
    }
}
