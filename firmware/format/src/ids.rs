//! Ids: one newtype each, hexadecimal in text, raw bytes in storage.
//!
//! A chunk has two names. Its [`ContentHash`] is what anybody who has the bytes can compute, and what the wire speaks.
//! Its [`ChunkId`] is a keyed function of that hash and is what the repository stores: a stolen disk does not tell
//! whether it holds a known file, and the mail server never sees a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::random::{NoRandomness, random};

/// Why an id was refused, or could not be drawn.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IdError {
    /// Not as many bytes as this kind of id has.
    #[error("{what} is malformed: {found} bytes instead of {expected}")]
    Length {
        /// Which kind of id.
        what: &'static str,
        /// Bytes given.
        found: usize,
        /// Bytes wanted.
        expected: usize,
    },
    /// The text is not the hexadecimal form of an id.
    #[error("`{text}` is not a {what} (lower-case hexadecimal expected)")]
    Text {
        /// Which kind of id.
        what: &'static str,
        /// The text as given, shortened.
        text: String,
    },
    /// A chunk kind that this version does not know.
    #[error("chunk kind {byte} is unknown")]
    UnknownKind {
        /// The stored byte.
        byte: u8,
    },
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:expr, $what:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// Takes exactly [`Self::LEN`] bytes.
            ///
            /// # Errors
            /// [`IdError::Length`] for any other length.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map($name).map_err(|_| {
                    IdError::Length { what: $what, found: bytes.len(), expected: $len }
                })
            }

            /// The whole id in lower-case hexadecimal.
            pub fn hex(&self) -> String {
                self.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bad = || IdError::Text { what: $what, text: text.chars().take(80).collect() };
                let digits = text.as_bytes();
                if digits.len() != $len * 2 {
                    return Err(bad());
                }
                let mut bytes = [0u8; $len];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    let (high, low) = (hex_digit(pair[0]), hex_digit(pair[1]));
                    *byte = high.zip(low).map(|(h, l)| h << 4 | l).ok_or_else(bad)?;
                }
                Ok($name(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "a {} of {} bytes", $what, $len)
                    }
                    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                        $name::from_slice(bytes).map_err(E::custom)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                if deserializer.is_human_readable() {
                    deserializer.deserialize_str(Visitor)
                } else {
                    deserializer.deserialize_bytes(Visitor)
                }
            }
        }
    };
}

byte_id! {
    /// BLAKE3 of a chunk's plain bytes, unkeyed. Spoken between agent and box, never stored.
    ContentHash, 32, "content hash"
}
byte_id! {
    /// The stored name of a chunk: the first 24 bytes of a keyed BLAKE3 over its kind and [`ContentHash`].
    ChunkId, 24, "chunk id"
}
byte_id! {
    /// BLAKE3 of a pack file's bytes; also its file name, so that anyone can scrub without keys.
    PackId, 32, "pack id"
}
byte_id! {
    /// BLAKE3 of an index run's bytes; also its file name.
    RunId, 32, "index run id"
}
byte_id! {
    /// BLAKE3 of a manifest file's bytes as stored.
    SnapshotId, 32, "snapshot id"
}
byte_id! {
    /// Random name of a repository, drawn when it is made.
    RepositoryId, 16, "repository id"
}

/// Random bytes of one file: the first part of every nonce in it. Never used for two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

impl Salt {
    /// Draws a new one.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        random("salt").map(Salt)
    }
}

impl RepositoryId {
    /// Draws a new one.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        random("repository id").map(RepositoryId)
    }
}

/// What a chunk holds. Part of its id, so that a tree can never be passed off as mail or the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ChunkKind {
    /// File contents.
    Data = 0,
    /// A piece of an encoded directory.
    Tree = 1,
}

impl ChunkKind {
    /// The kind behind its stored byte.
    ///
    /// # Errors
    /// [`IdError::UnknownKind`].
    pub fn from_byte(byte: u8) -> Result<Self, IdError> {
        match byte {
            0 => Ok(ChunkKind::Data),
            1 => Ok(ChunkKind::Tree),
            other => Err(IdError::UnknownKind { byte: other }),
        }
    }
}

/// The key that turns content hashes into chunk ids; derived from the repository's master key. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct IdKey([u8; 32]);

impl IdKey {
    /// Wraps 32 derived bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        IdKey(bytes)
    }

    /// The stored id of a chunk with this kind and content.
    pub fn chunk_id(&self, kind: ChunkKind, hash: &ContentHash) -> ChunkId {
        let mut input = [0u8; 33];
        input[0] = kind as u8;
        input[1..].copy_from_slice(&hash.0);
        let digest = blake3::keyed_hash(&self.0, &input);
        let mut id = [0u8; ChunkId::LEN];
        id.copy_from_slice(&digest.as_bytes()[..ChunkId::LEN]);
        ChunkId(id)
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(…)")
    }
}

impl ContentHash {
    /// The hash of these plain bytes.
    pub fn of(plain: &[u8]) -> Self {
        ContentHash(*blake3::hash(plain).as_bytes())
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_form_and_refuse_other_text() {
        let id = PackId(*blake3::hash(b"x").as_bytes());
        assert_eq!(id.hex().parse::<PackId>(), Ok(id));
        for bad in ["", "zz", &id.hex().to_uppercase(), &format!("{id}00"), "é"] {
            assert!(bad.parse::<PackId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_same_bytes_have_different_ids_as_data_and_as_tree_and_under_another_key() {
        let hash = ContentHash::of(b"mail");
        let key = IdKey::new([7; 32]);
        assert_ne!(key.chunk_id(ChunkKind::Data, &hash), key.chunk_id(ChunkKind::Tree, &hash));
        assert_ne!(
            key.chunk_id(ChunkKind::Data, &hash),
            IdKey::new([8; 32]).chunk_id(ChunkKind::Data, &hash)
        );
    }
}
