//! Format version and required features: what this program can read, and how it refuses the rest.
//!
//! A version changes when the bytes do. A required feature is named in label and manifest when something in the
//! repository cannot be read without knowing it. Follows FORMAT.md, "Versions and features".

use serde::Deserialize;

use crate::FormatError;
use crate::cbor::{self, CborLimits};
use crate::codec::Reader;

/// The version that this program writes, and the highest one it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Blocks may be folded base64 (method 2).
pub const BASE64: &str = "base64";

/// Features that this program knows.
pub const KNOWN_FEATURES: &[&str] = &[BASE64];

/// Refuses a version this program does not know.
///
/// # Errors
/// [`FormatError::UnknownVersion`].
pub fn check_version(what: &'static str, version: u32) -> Result<(), FormatError> {
    if version == 0 || version > FORMAT_VERSION {
        return Err(FormatError::UnknownVersion { what, version, known: FORMAT_VERSION });
    }
    Ok(())
}

/// Refuses a list with a feature this program does not know, or that is not sorted and unique.
///
/// # Errors
/// [`FormatError::UnknownFeature`], [`FormatError::Malformed`].
pub fn check_features(what: &'static str, required: &[String]) -> Result<(), FormatError> {
    if let Some(feature) = required.iter().find(|feature| !KNOWN_FEATURES.contains(&feature.as_str())) {
        return Err(FormatError::UnknownFeature { what, feature: feature.chars().take(80).collect() });
    }
    if required.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(FormatError::malformed(what, "required features unordered or repeated"));
    }
    Ok(())
}

/// Refuses a document that needs a feature this program does not know, before the rest of it is read: with a feature
/// may come fields that this program could only call unknown.
pub(crate) fn check_features_of(
    what: &'static str,
    document: &[u8],
    limits: &CborLimits,
) -> Result<(), FormatError> {
    #[derive(Deserialize)]
    struct Features {
        required_features: Vec<String>,
    }
    check_features(what, &cbor::peek::<Features>(document, limits)?.required_features)
}

/// Takes a magic and a version, the opening of every file of ours.
pub(crate) fn take_opening(
    reader: &mut Reader<'_>,
    magic: &[u8; 8],
    what: &'static str,
) -> Result<u32, FormatError> {
    if reader.array::<8>(what)? != *magic {
        return Err(FormatError::NotThis { what });
    }
    let version = u32::from_le_bytes(reader.array(what)?);
    check_version(what, version)?;
    Ok(version)
}
