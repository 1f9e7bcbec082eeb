//! The label: which repository this is, readable without a key, authentic with one. Follows FORMAT.md, "Label".

use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborLimits};
use crate::codec::Reader;
use crate::version::{FORMAT_VERSION, check_features_of, take_opening};
use crate::{FormatError, Keys, RepositoryId, limits};

const WHAT: &str = "repository label";
const MAGIC: &[u8; 8] = b"MK-LABL\n";
const MAC_LEN: usize = 32;
const LIMITS: CborLimits = CborLimits { max_len: limits::LABEL_FILE_MAX, max_depth: 3, max_items: 256 };

/// What stands on the front of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Format version of the repository.
    pub version: u32,
    /// Features a program must know to read or write it; sorted.
    pub required_features: Vec<String>,
    /// Its random name.
    pub repository: RepositoryId,
    /// Its name for people, as on the sticker on the disk.
    pub label: String,
    /// When it was made, seconds since 1970 by the clock of the box.
    pub created: i64,
}

impl Label {
    /// A label of the present version.
    pub fn new(repository: RepositoryId, label: impl Into<String>, created: i64) -> Self {
        let (version, required_features) = (FORMAT_VERSION, Vec::new());
        Label { version, required_features, repository, label: label.into(), created }
    }

    /// The bytes of the label file.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] for a label text of tens of kilobytes.
    pub fn encode(&self, keys: &Keys) -> Result<Vec<u8>, FormatError> {
        let body = cbor::to_vec(self)?;
        let mut bytes = Vec::with_capacity(body.len() + 48);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&body);
        let mac = keys.label.mac(&bytes);
        bytes.extend_from_slice(mac.as_bytes());
        check_length(bytes.len())?;
        Ok(bytes)
    }

    /// Reads a label without a key: good for telling disks apart, not for trusting one. See [`Label::verify`].
    ///
    /// # Errors
    /// [`FormatError`]; an unknown version or required feature is told as such.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        check_length(bytes.len())?;
        let signed = bytes.len().checked_sub(MAC_LEN).ok_or(FormatError::Truncated { what: WHAT })?;
        let mut reader = Reader::new(&bytes[..signed]);
        let version = take_opening(&mut reader, MAGIC, WHAT)?;
        let body = reader.take(reader.remaining(), WHAT)?;
        check_features_of(WHAT, body, &LIMITS)?;
        let label: Label = cbor::from_slice(body, &LIMITS)?;
        if label.version != version {
            return Err(FormatError::malformed(WHAT, "two different versions"));
        }
        Ok(label)
    }

    /// Reads a label and proves that who wrote it had the repository's key.
    ///
    /// # Errors
    /// [`FormatError::NotAuthentic`], and as [`Label::decode`].
    pub fn verify(bytes: &[u8], keys: &Keys) -> Result<Self, FormatError> {
        check_length(bytes.len())?;
        let signed = bytes.len().checked_sub(MAC_LEN).ok_or(FormatError::Truncated { what: WHAT })?;
        let (signed, mac) = bytes.split_at(signed);
        // `blake3::Hash` compares in constant time.
        if keys.label.mac(signed) != *mac {
            return Err(FormatError::NotAuthentic { what: WHAT });
        }
        Label::decode(bytes)
    }
}

fn check_length(length: usize) -> Result<(), FormatError> {
    if length > limits::LABEL_FILE_MAX {
        let limit = limits::LABEL_FILE_MAX as u64;
        return Err(FormatError::TooLarge { what: WHAT, declared: length as u64, limit });
    }
    Ok(())
}
