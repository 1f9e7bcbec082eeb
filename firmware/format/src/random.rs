//! Random bytes from the operating system; the only place that asks for them.

use thiserror::Error;

/// The operating system gave no random bytes.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no random bytes for a {what}")]
pub struct NoRandomness {
    /// What needed them.
    pub what: &'static str,
}

/// Draws `N` bytes for `what`.
pub(crate) fn random<const N: usize>(what: &'static str) -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|_| NoRandomness { what })?;
    Ok(bytes)
}
