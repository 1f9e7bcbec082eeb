//! Blocks: chunks compressed together, then sealed for one place in one pack. Follows FORMAT.md, "Blocks".
//!
//! Raw chunks → [`BlockCompressor`] → [`Compressed`] → [`crate::pack::PackBuilder`] (which seals) → disk →
//! [`BlockOpener`] → raw chunks.

use crate::compress::{SMALL_LEVEL, Squeezer, Unsqueezer};
use crate::ids::Salt;
use crate::seal::{SealKey, TAG_LEN, nonce};
use crate::version::FORMAT_VERSION;
use crate::{ChunkKind, FormatError, Keys, RepositoryId, limits};

const WHAT: &str = "block";
const TAG: &[u8; 14] = b"mailkeep block";

/// How the bytes of a block are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// As they are.
    Stored = 0,
    /// As one zstd frame.
    Zstd = 1,
    /// As one zstd frame of base64 that is folded to the bytes it stands for.
    Base64 = 2,
}

impl Method {
    /// The method behind its stored byte.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] for an unknown byte.
    pub fn from_byte(byte: u8) -> Result<Self, FormatError> {
        match byte {
            0 => Ok(Method::Stored),
            1 => Ok(Method::Zstd),
            2 => Ok(Method::Base64),
            other => Err(FormatError::malformed("block method", format!("{other} is unknown"))),
        }
    }
}

/// Where a block lies in its pack and what it is; all that is needed to open it beside the pack's salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    /// Its first byte, counted from the start of the pack file.
    pub offset: u32,
    /// Its length in the file, authentication tag included.
    pub stored_len: u32,
    /// Its length when opened.
    pub raw_len: u32,
    /// What its chunks hold.
    pub kind: ChunkKind,
    /// How its bytes are kept.
    pub method: Method,
}

impl BlockHead {
    /// Checks lengths against the caps and against each other.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`], [`FormatError::Malformed`].
    pub fn check(&self) -> Result<(), FormatError> {
        let (stored, raw) = (self.stored_len as usize, self.raw_len as usize);
        if raw > limits::BLOCK_RAW_MAX {
            let (declared, limit) = (raw as u64, limits::BLOCK_RAW_MAX as u64);
            return Err(FormatError::TooLarge { what: "block length", declared, limit });
        }
        let fits = match self.method {
            Method::Stored => stored == raw + TAG_LEN,
            // What does not get smaller is stored, so a frame is always shorter than its content.
            Method::Zstd | Method::Base64 => stored > TAG_LEN && stored < raw + TAG_LEN,
        };
        if raw == 0 || !fits {
            return Err(FormatError::malformed(WHAT, "its two lengths do not fit its method"));
        }
        Ok(())
    }
}

/// A block that is compressed and proven, not yet sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    kind: ChunkKind,
    method: Method,
    raw_len: u32,
    data: Vec<u8>,
}

impl Compressed {
    /// Compresses one block with a context of its own; in a loop use a [`BlockCompressor`].
    ///
    /// # Errors
    /// As [`BlockCompressor::compress`].
    pub fn new(kind: ChunkKind, raw: &[u8], level: i32) -> Result<Self, FormatError> {
        BlockCompressor::new(level)?.compress(kind, raw, 1)
    }

    fn of(kind: ChunkKind, method: Method, raw: &[u8], data: &[u8]) -> Self {
        // With room for the tag, so that sealing does not move it.
        let mut kept = Vec::with_capacity(data.len() + TAG_LEN);
        kept.extend_from_slice(data);
        Compressed { kind, method, raw_len: raw.len() as u32, data: kept }
    }

    /// What its chunks hold.
    pub fn kind(&self) -> ChunkKind {
        self.kind
    }

    /// How its bytes are kept.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Length before compression, bytes.
    pub fn raw_len(&self) -> u32 {
        self.raw_len
    }

    /// Length that it will take in a pack, bytes.
    pub fn stored_len(&self) -> u32 {
        (self.data.len() + TAG_LEN) as u32
    }

    /// The sealed form for block `number` of the pack with this salt, made where the bytes lie.
    pub(crate) fn seal(
        self,
        key: &SealKey,
        repository: &RepositoryId,
        salt: &Salt,
        number: u64,
    ) -> Result<Vec<u8>, FormatError> {
        let aad = associated_data(repository, self.kind, self.method, self.raw_len);
        let mut data = self.data;
        key.seal(&nonce(&salt.0, number), &aad, &mut data, 0, WHAT)?;
        Ok(data)
    }
}

/// Compresses blocks one after the other; holds zstd's contexts and buffers, so keep one per thread.
pub struct BlockCompressor {
    squeezer: Squeezer,
    /// The level of blocks of small chunks, and of all others.
    levels: (i32, i32),
}

/// Whether a block of so many bytes is one of small chunks, which is worth a closer look: decided by what lies in it and
/// nothing else, so that the same chunks always make the same block.
pub fn is_of_small_chunks(raw_len: usize, chunks: usize) -> bool {
    chunks > 1 && raw_len / chunks < limits::SMALL_CHUNK
}

impl BlockCompressor {
    /// A compressor of this zstd level (see [`crate::DEFAULT_LEVEL`]); blocks of small chunks get at least
    /// [`crate::SMALL_LEVEL`].
    ///
    /// # Errors
    /// [`FormatError::Compressor`] for a level that zstd does not have.
    pub fn new(level: i32) -> Result<Self, FormatError> {
        BlockCompressor::with_levels(level.max(SMALL_LEVEL), level)
    }

    /// A compressor of these levels for blocks of small chunks ([`is_of_small_chunks`]) and all others.
    ///
    /// # Errors
    /// As [`BlockCompressor::new`].
    pub fn with_levels(small: i32, usual: i32) -> Result<Self, FormatError> {
        Squeezer::check_level(small, WHAT)?;
        Ok(BlockCompressor { squeezer: Squeezer::new(usual, WHAT)?, levels: (small, usual) })
    }

    /// Compresses a block of so many chunks (base64 by itself is folded first), decodes again and compares; keeps the raw
    /// bytes if that is not smaller.
    ///
    /// # Errors
    /// [`FormatError::Compressor`] if the result does not decode to `raw`: do not go on with this machine.
    /// [`FormatError::TooLarge`] above [`limits::BLOCK_RAW_MAX`]; [`FormatError::Malformed`] if `raw` is empty.
    pub fn compress(
        &mut self,
        kind: ChunkKind,
        raw: &[u8],
        chunks: usize,
    ) -> Result<Compressed, FormatError> {
        if raw.len() > limits::BLOCK_RAW_MAX {
            let (declared, limit) = (raw.len() as u64, limits::BLOCK_RAW_MAX as u64);
            return Err(FormatError::TooLarge { what: "block length", declared, limit });
        }
        if raw.is_empty() {
            return Err(FormatError::malformed(WHAT, "empty"));
        }
        let (small, usual) = self.levels;
        let level = if is_of_small_chunks(raw.len(), chunks) { small } else { usual };
        self.squeezer.set_level(level, WHAT)?;
        // Several chunks together are seldom base64 alone, and then not for long.
        if chunks == 1 && kind == ChunkKind::Data {
            if let Some(frame) = self.squeezer.compress_base64(raw, WHAT)? {
                if frame.len() < raw.len() {
                    return Ok(Compressed::of(kind, Method::Base64, raw, frame));
                }
            }
        }
        let frame = self.squeezer.compress(raw, WHAT)?;
        let (method, data) =
            if frame.len() < raw.len() { (Method::Zstd, frame) } else { (Method::Stored, raw) };
        Ok(Compressed::of(kind, method, raw, data))
    }
}

/// Opens blocks of one repository; holds the key and zstd's context, so keep one per thread.
pub struct BlockOpener {
    key: SealKey,
    repository: RepositoryId,
    unsqueezer: Unsqueezer,
}

impl BlockOpener {
    /// An opener for this repository.
    ///
    /// # Errors
    /// [`FormatError::Compressor`] if zstd gives no context.
    pub fn new(keys: &Keys, repository: RepositoryId) -> Result<Self, FormatError> {
        Ok(BlockOpener { key: keys.block.clone(), repository, unsqueezer: Unsqueezer::new(WHAT)? })
    }

    /// The raw bytes of block `number` of the pack with this salt. `stored` is what lies at `head.offset`.
    ///
    /// # Errors
    /// [`FormatError::NotAuthentic`] for damaged bytes or bytes of another place; [`FormatError::Malformed`] and
    /// [`FormatError::TooLarge`] if `head` contradicts itself or `stored` has another length.
    pub fn open(
        &mut self,
        salt: &Salt,
        number: u32,
        head: &BlockHead,
        mut stored: Vec<u8>,
    ) -> Result<Vec<u8>, FormatError> {
        let mut raw = Vec::new();
        self.open_into(salt, number, head, &mut stored, &mut raw)?;
        Ok(raw)
    }

    /// As [`BlockOpener::open`], with buffers that are used again: `stored` is overwritten, `raw` holds the raw bytes
    /// afterwards (and nothing to rely on after an error).
    ///
    /// # Errors
    /// As [`BlockOpener::open`].
    pub fn open_into(
        &mut self,
        salt: &Salt,
        number: u32,
        head: &BlockHead,
        stored: &mut [u8],
        raw: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        raw.clear();
        head.check()?;
        if stored.len() != head.stored_len as usize {
            return Err(FormatError::Truncated { what: WHAT });
        }
        let aad = associated_data(&self.repository, head.kind, head.method, head.raw_len);
        let plain = self.key.open(&nonce(&salt.0, u64::from(number)), &aad, stored, WHAT)?;
        match head.method {
            Method::Zstd => self.unsqueezer.decompress_into(plain, head.raw_len as usize, raw, WHAT),
            Method::Base64 => self.unsqueezer.decompress_base64_into(plain, head.raw_len as usize, raw, WHAT),
            Method::Stored => {
                raw.extend_from_slice(plain);
                Ok(())
            }
        }
    }
}

/// Opens one block with a context of its own; in a loop use a [`BlockOpener`].
///
/// # Errors
/// As [`BlockOpener::open`].
pub fn open_block(
    keys: &Keys,
    repository: RepositoryId,
    salt: &Salt,
    number: u32,
    head: &BlockHead,
    stored: Vec<u8>,
) -> Result<Vec<u8>, FormatError> {
    BlockOpener::new(keys, repository)?.open(salt, number, head, stored)
}

fn associated_data(repository: &RepositoryId, kind: ChunkKind, method: Method, raw_len: u32) -> [u8; 40] {
    let mut aad = [0u8; 40];
    aad[..14].copy_from_slice(TAG);
    aad[14..18].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    aad[18..34].copy_from_slice(&repository.0);
    aad[34] = kind as u8;
    aad[35] = method as u8;
    aad[36..].copy_from_slice(&raw_len.to_le_bytes());
    aad
}
