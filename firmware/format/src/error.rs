//! The one error type of this crate: what was being decoded, and what is wrong with it.

use thiserror::Error;

use crate::ids::{IdError, RepositoryId};
use crate::random::NoRandomness;

/// Why bytes were refused. The text names the thing that was decoded; the caller adds where it was found.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// The input ended inside a value.
    #[error("{what} is cut short")]
    Truncated {
        /// What was being decoded.
        what: &'static str,
    },
    /// A value breaks a rule of the format.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// What was being decoded.
        what: &'static str,
        /// The rule it breaks.
        why: String,
    },
    /// A declared size or count is above its cap in [`crate::limits`].
    #[error("{what} declares {declared}, more than the limit of {limit}")]
    TooLarge {
        /// What was being decoded.
        what: &'static str,
        /// The declared size or count.
        declared: u64,
        /// The cap.
        limit: u64,
    },
    /// Bytes do not carry the authentication code that the key gives them: damaged, forged, or of another place.
    #[error("{what} is damaged or forged: its authentication code does not fit")]
    NotAuthentic {
        /// What was being opened.
        what: &'static str,
    },
    /// The first or last bytes are not those of this kind of file.
    #[error("this is not a {what}")]
    NotThis {
        /// What was expected.
        what: &'static str,
    },
    /// The file says that it belongs to another repository.
    #[error("{what} belongs to repository {found}, not to this one")]
    Foreign {
        /// What was being opened.
        what: &'static str,
        /// The repository it names.
        found: RepositoryId,
    },
    /// A version that this program does not know.
    #[error("{what} has format version {version}; this program knows up to {known}: use a newer one")]
    UnknownVersion {
        /// What was being opened.
        what: &'static str,
        /// Its version.
        version: u32,
        /// The highest version this program knows.
        known: u32,
    },
    /// A required feature that this program does not know.
    #[error("{what} needs the feature `{feature}`, which this program does not know: use a newer one")]
    UnknownFeature {
        /// What was being opened.
        what: &'static str,
        /// The first unknown feature.
        feature: String,
    },
    /// The compressor failed, or what it wrote does not decode to what it was given.
    #[error("compression of a {what} went wrong ({why}): memory or compressor cannot be trusted")]
    Compressor {
        /// What was being compressed.
        what: &'static str,
        /// What was noticed.
        why: String,
    },
    /// The operating system gave no random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// An id was refused.
    #[error(transparent)]
    Id(#[from] IdError),
}

impl FormatError {
    pub(crate) fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        FormatError::Malformed { what, why: why.into() }
    }
}
