//! The one error type of this crate: what was being decoded, and what is wrong with it.

use thiserror::Error;

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
    /// The text is not the hexadecimal form of an id.
    #[error("`{text}` is not a {what} (lower-case hexadecimal expected)")]
    BadId {
        /// Which kind of id.
        what: &'static str,
        /// The text as given, shortened.
        text: String,
    },
}

impl FormatError {
    pub(crate) fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        FormatError::Malformed { what, why: why.into() }
    }
}
