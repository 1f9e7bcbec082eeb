//! Sealing by the book (FORMAT.md), so that hostile plaintext reaches the decoders behind the seal: an attacker with the
//! key, or a bug of an earlier version, may have written anything.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use mailkeep_format::{Keys, Master, RepositoryId, Salt};

/// Those of the golden files.
pub(crate) const REPOSITORY: RepositoryId = RepositoryId([0x11; 16]);
const MASTER: [u8; 32] = [0x42; 32];
pub(crate) const SALT: Salt = Salt([0x5a; 16]);

pub(crate) fn keys() -> Keys {
    Master::from_bytes(MASTER).keys()
}

fn cipher(purpose: &str) -> XChaCha20Poly1305 {
    let key = blake3::derive_key(&format!("mailkeep v1 2026-11-22 {purpose}"), &MASTER);
    XChaCha20Poly1305::new(&key.into())
}

fn nonce(salt: &[u8], number: u64) -> XNonce {
    let mut nonce = [0; 24];
    nonce[..16].copy_from_slice(salt);
    nonce[16..].copy_from_slice(&number.to_le_bytes());
    nonce.into()
}

pub(crate) fn seal(purpose: &str, salt: &[u8], number: u64, aad: &[u8], plain: &[u8]) -> Vec<u8> {
    cipher(purpose).encrypt(&nonce(salt, number), Payload { msg: plain, aad }).unwrap()
}

pub(crate) fn open(purpose: &str, salt: &[u8], number: u64, aad: &[u8], sealed: &[u8]) -> Vec<u8> {
    cipher(purpose).decrypt(&nonce(salt, number), Payload { msg: sealed, aad }).unwrap()
}

/// Magic, version 1, what comes before the salt, the salt.
pub(crate) fn header(magic: &[u8; 8], before: &[u8]) -> Vec<u8> {
    [magic, &1u32.to_le_bytes()[..], before, &REPOSITORY.0, &SALT.0].concat()
}
