//! XChaCha20-Poly1305 over buffers in place, and random bytes: the only file that names the cipher.
//!
//! What is sealed is bound to its place by associated data; see FORMAT.md, "Sealing".

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::FormatError;

/// Bytes that sealing adds.
pub(crate) const TAG_LEN: usize = 16;

/// A key for sealing. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct SealKey([u8; 32]);

/// 16 random bytes of a file and the number of the piece in it: no pair comes twice under one key.
pub(crate) fn nonce(salt: &[u8; 16], number: u64) -> [u8; 24] {
    let mut nonce = [0u8; 24];
    nonce[..16].copy_from_slice(salt);
    nonce[16..].copy_from_slice(&number.to_le_bytes());
    nonce
}

impl SealKey {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        SealKey(bytes)
    }

    /// Encrypts `out[start..]` in place and appends the tag.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; 24],
        aad: &[u8],
        out: &mut Vec<u8>,
        start: usize,
        what: &'static str,
    ) -> Result<(), FormatError> {
        let tag = self
            .cipher()
            .encrypt_in_place_detached(XNonce::from_slice(nonce), aad, &mut out[start..])
            .map_err(|_| FormatError::malformed(what, "too long to be sealed"))?;
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// Decrypts `sealed` (ciphertext and tag) in place and returns the plain part of it.
    pub(crate) fn open<'a>(
        &self,
        nonce: &[u8; 24],
        aad: &[u8],
        sealed: &'a mut [u8],
        what: &'static str,
    ) -> Result<&'a mut [u8], FormatError> {
        let length = sealed.len().checked_sub(TAG_LEN).ok_or(FormatError::Truncated { what })?;
        let (body, tag) = sealed.split_at_mut(length);
        self.cipher()
            .decrypt_in_place_detached(XNonce::from_slice(nonce), aad, body, Tag::from_slice(tag))
            .map_err(|_| FormatError::NotAuthentic { what })?;
        Ok(body)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&self.0).into())
    }
}
