//! XChaCha20-Poly1305 over buffers in place: the only file that names the cipher.
//!
//! What is sealed is bound to its place by associated data; see FORMAT.md, "Sealing".
//!
//! XChaCha20-Poly1305 is ChaCha20-Poly1305 (RFC 8439) under the subkey that HChaCha20 makes of the key and the first 16
//! bytes of the nonce, with four zero bytes and the other 8 as its nonce (draft-irtf-cfrg-xchacha-03, §2.3). ring does
//! that in one pass over the data, with the vector units of both our processors; two passes of the portable crates take
//! twice as long, and they are what the tests compare with.

use chacha20::cipher::consts::U10;
use chacha20::hchacha;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

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
            .cipher(nonce)
            .and_then(|(cipher, nonce)| {
                cipher.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[start..])
            })
            .map_err(|_| FormatError::malformed(what, "too long to be sealed"))?;
        out.extend_from_slice(tag.as_ref());
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
        self.cipher(nonce)
            .and_then(|(cipher, nonce)| cipher.open_in_place(nonce, Aad::from(aad), sealed).map(drop))
            .map_err(|_| FormatError::NotAuthentic { what })?;
        Ok(&mut sealed[..length])
    }

    /// The cipher and the nonce of RFC 8439 that stand for this key and this nonce.
    fn cipher(&self, nonce: &[u8; 24]) -> Result<(LessSafeKey, Nonce), Unspecified> {
        let subkey: Zeroizing<[u8; 32]> =
            Zeroizing::new(hchacha::<U10>((&self.0).into(), nonce[..16].into()).into());
        let mut short = [0u8; 12];
        short[4..].copy_from_slice(&nonce[16..]);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*subkey)?;
        Ok((LessSafeKey::new(key), Nonce::assume_unique_for_key(short)))
    }
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{AeadInPlace, KeyInit};
    use chacha20poly1305::{XChaCha20Poly1305, XNonce};
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pairs = digits.chunks_exact(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn the_vector_of_the_draft() {
        let key = SealKey::new(std::array::from_fn(|at| 0x80 + at as u8));
        let nonce: [u8; 24] = std::array::from_fn(|at| 0x40 + at as u8);
        let aad = hex("50515253c0c1c2c3c4c5c6c7");
        let plain =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                      sunscreen would be it.";
        let sealed = hex("bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb
             731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452
             2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9
             21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49");
        let mut out = b"before".to_vec();
        out.extend_from_slice(plain);
        key.seal(&nonce, &aad, &mut out, 6, "test").unwrap();
        assert_eq!(&out[..6], b"before");
        assert_eq!(&out[6..], sealed);
        let opened = key.open(&nonce, &aad, &mut out[6..], "test").unwrap();
        assert_eq!(opened, plain);
    }

    #[test]
    fn what_is_shorter_than_a_tag_is_cut_off() {
        let key = SealKey::new([1; 32]);
        for length in 0..TAG_LEN {
            let error = key.open(&[2; 24], &[], &mut vec![0; length], "test").unwrap_err();
            assert!(matches!(error, FormatError::Truncated { .. }), "{error}");
        }
        let error = key.open(&[2; 24], &[], &mut [0; TAG_LEN], "test").unwrap_err();
        assert!(matches!(error, FormatError::NotAuthentic { .. }), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        /// Bytes that were sealed by the portable crates (golden stores, older versions) and ours are the same.
        #[test]
        fn another_implementation_agrees(
            key: [u8; 32],
            salt: [u8; 16],
            number: u64,
            aad in proptest::collection::vec(any::<u8>(), 0..80),
            plain in proptest::collection::vec(any::<u8>(), 0..5000),
            flipped: u64,
        ) {
            let nonce = nonce(&salt, number);
            let mut ours = plain.clone();
            SealKey::new(key).seal(&nonce, &aad, &mut ours, 0, "test").unwrap();
            let cipher = XChaCha20Poly1305::new(&key.into());
            let mut theirs = plain.clone();
            cipher.encrypt_in_place(XNonce::from_slice(&nonce), &aad, &mut theirs).unwrap();
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(&*SealKey::new(key).open(&nonce, &aad, &mut theirs, "test").unwrap(), &plain[..]);
            let bit = (flipped % (ours.len() as u64 * 8)) as usize;
            ours[bit / 8] ^= 1 << (bit % 8);
            let error = SealKey::new(key).open(&nonce, &aad, &mut ours, "test").unwrap_err();
            let refused = matches!(error, FormatError::NotAuthentic { .. });
            prop_assert!(refused, "{}", error);
        }
    }
}
