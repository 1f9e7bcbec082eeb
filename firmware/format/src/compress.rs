//! zstd with contexts that are used again, and with proof: what was compressed is decoded and compared at once.
//!
//! The only file that names zstd. A compressor bug or bad memory must show while the source is still there, not at a
//! restore (hazards 16 and 17).

use zstd::bulk::{Compressor, Decompressor};

use crate::{FormatError, base64};

/// Default compression level. `mailkeep-bench levels` (150 MB of chunks of mail, CPU with the proof): level 1 leaves
/// 84.0 MB in 0.40 s, 2 leaves 81.0 in 0.44, 3 leaves 79.1 in 0.49, 4 leaves 78.9 in 0.55. The blocks have won most of what
/// there is to be won already, and compression is the largest part of a first backup. Levels below 1 leave base64 as it
/// is, and with it a fifth more bytes.
pub const DEFAULT_LEVEL: i32 = 1;
/// Least level of blocks whose chunks are shorter than [`crate::limits::SMALL_CHUNK`] on average. `mailkeep-bench levels
/// --set L --messages 50000 --users 100` (262 MB of chunks of mails of 2 to 8 KB, CPU with the proof): level 1 leaves
/// 81.4 MB in 0.63 s, 2 leaves 75.0 in 0.83, 3 leaves 71.6 in 0.93, 4 leaves 70.9 in 1.22. They are much alike, so that a
/// closer look finds more: 12 % less at level 3, where chunks of the usual length give 6.
pub const SMALL_LEVEL: i32 = 3;

/// Level of an attachment that looks compressed already, once its base64 is folded: quick steps through it, so that long
/// repeats are still found. At level 1 the search costs twice as much and finds nothing.
const RANDOM_LEVEL: i32 = -20;

/// Both contexts of zstd and a buffer for each.
pub(crate) struct Squeezer {
    encoder: Compressor<'static>,
    level: i32,
    decoder: Decompressor<'static>,
    packed: Vec<u8>,
    check: Vec<u8>,
    /// Folded base64.
    folded: Vec<u8>,
}

impl Squeezer {
    /// Whether zstd has this level.
    pub(crate) fn check_level(level: i32, what: &'static str) -> Result<(), FormatError> {
        let range = zstd::compression_level_range();
        if !range.contains(&level) {
            let why = format!("level {level} is not within {} to {}", range.start(), range.end());
            return Err(FormatError::Compressor { what, why });
        }
        Ok(())
    }

    pub(crate) fn new(level: i32, what: &'static str) -> Result<Self, FormatError> {
        Squeezer::check_level(level, what)?;
        let broken = |error: std::io::Error| FormatError::Compressor { what, why: error.to_string() };
        Ok(Squeezer {
            encoder: Compressor::new(level).map_err(broken)?,
            level,
            decoder: Decompressor::new().map_err(broken)?,
            packed: Vec::new(),
            check: Vec::new(),
            folded: Vec::new(),
        })
    }

    /// Compresses with this level from now on.
    pub(crate) fn set_level(&mut self, level: i32, what: &'static str) -> Result<(), FormatError> {
        if level != self.level {
            let broken = |error: std::io::Error| FormatError::Compressor { what, why: error.to_string() };
            self.encoder.set_compression_level(level).map_err(broken)?;
            self.level = level;
        }
        Ok(())
    }

    /// The frame for `raw`, proven to decode to it; valid until the next call.
    pub(crate) fn compress(&mut self, raw: &[u8], what: &'static str) -> Result<&[u8], FormatError> {
        there_and_back(&mut self.encoder, &mut self.decoder, raw, &mut self.packed, &mut self.check, what)?;
        if self.check != raw {
            return Err(other(what));
        }
        Ok(&self.packed)
    }

    /// The frame for `raw` folded as base64, proven to decode and unfold to it; `None` if it is none. Valid until the next
    /// call. May leave another level behind.
    pub(crate) fn compress_base64(
        &mut self,
        raw: &[u8],
        what: &'static str,
    ) -> Result<Option<&[u8]>, FormatError> {
        if !base64::fold(raw, &mut self.folded) {
            return Ok(None);
        }
        if base64::looks_random(&self.folded) {
            self.set_level(RANDOM_LEVEL, what)?;
        }
        let Squeezer { encoder, decoder, packed, check, folded, .. } = self;
        there_and_back(encoder, decoder, folded, packed, check, what)?;
        if !base64::unfolds_to(check, raw, what) {
            return Err(other(what));
        }
        Ok(Some(packed))
    }
}

fn other(what: &'static str) -> FormatError {
    FormatError::Compressor { what, why: "the result does not decode to the input".to_owned() }
}

/// Compresses into `packed` and decodes that into `check`.
fn there_and_back(
    encoder: &mut Compressor<'static>,
    decoder: &mut Decompressor<'static>,
    raw: &[u8],
    packed: &mut Vec<u8>,
    check: &mut Vec<u8>,
    what: &'static str,
) -> Result<(), FormatError> {
    let broken = |error: std::io::Error| FormatError::Compressor { what, why: error.to_string() };
    // Exactly: blocks are of one size nearly, and room to grow would be as much again, in each thread.
    packed.clear();
    packed.reserve_exact(zstd::zstd_safe::compress_bound(raw.len()));
    encoder.compress_to_buffer(raw, packed).map_err(broken)?;
    check.clear();
    check.reserve_exact(raw.len());
    decoder.decompress_to_buffer(&*packed, check).map_err(broken)?;
    Ok(())
}

/// The decoding half alone.
pub(crate) struct Unsqueezer {
    decoder: Decompressor<'static>,
    folded: Vec<u8>,
}

impl Unsqueezer {
    pub(crate) fn new(what: &'static str) -> Result<Self, FormatError> {
        Decompressor::new()
            .map(|decoder| Unsqueezer { decoder, folded: Vec::new() })
            .map_err(|error| FormatError::Compressor { what, why: error.to_string() })
    }

    /// Decodes into a buffer of exactly the declared length, which the caller has capped.
    pub(crate) fn decompress(
        &mut self,
        frame: &[u8],
        raw_len: usize,
        what: &'static str,
    ) -> Result<Vec<u8>, FormatError> {
        let mut raw = Vec::new();
        self.decompress_into(frame, raw_len, &mut raw, what)?;
        Ok(raw)
    }

    /// As [`Unsqueezer::decompress`], into a buffer that is empty and may have been used before.
    pub(crate) fn decompress_into(
        &mut self,
        frame: &[u8],
        raw_len: usize,
        raw: &mut Vec<u8>,
        what: &'static str,
    ) -> Result<(), FormatError> {
        raw.reserve_exact(raw_len);
        self.decoder
            .decompress_to_buffer(frame, raw)
            .map_err(|error| FormatError::malformed(what, error.to_string()))?;
        if raw.len() != raw_len {
            return Err(FormatError::malformed(what, "its length is not the declared one"));
        }
        Ok(())
    }

    /// As [`Unsqueezer::decompress_into`], of a frame that holds folded base64.
    pub(crate) fn decompress_base64_into(
        &mut self,
        frame: &[u8],
        raw_len: usize,
        raw: &mut Vec<u8>,
        what: &'static str,
    ) -> Result<(), FormatError> {
        let Unsqueezer { decoder, folded } = self;
        folded.clear();
        // What is folded is shorter than what it stands for.
        folded.reserve_exact(raw_len);
        decoder
            .decompress_to_buffer(frame, folded)
            .map_err(|error| FormatError::malformed(what, error.to_string()))?;
        base64::unfold(folded, raw_len, raw, what)
    }
}

/// Compression of what only passes through and is not kept: without the proof, since whoever receives it checks it against
/// its hash while the source is still there.
pub struct Transit(Compressor<'static>);

impl std::fmt::Debug for Transit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transit")
    }
}

const IN_TRANSIT: &str = "a compressed message";

impl Transit {
    /// A compressor of [`DEFAULT_LEVEL`].
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> Result<Self, FormatError> {
        Compressor::new(DEFAULT_LEVEL)
            .map(Transit)
            .map_err(|error| FormatError::Compressor { what: IN_TRANSIT, why: error.to_string() })
    }

    /// Appends the frame for `raw`.
    ///
    /// # Errors
    /// The compressor fails.
    pub fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        let start = out.len();
        out.resize(start + zstd::zstd_safe::compress_bound(raw.len()), 0);
        let written = self
            .0
            .compress_to_buffer(raw, &mut out[start..])
            .map_err(|error| FormatError::Compressor { what: IN_TRANSIT, why: error.to_string() })?;
        out.truncate(start + written);
        Ok(())
    }
}

/// The other end of [`Transit`].
pub struct TransitDecoder(Unsqueezer);

impl std::fmt::Debug for TransitDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TransitDecoder")
    }
}

impl TransitDecoder {
    /// A decoder.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> Result<Self, FormatError> {
        Unsqueezer::new(IN_TRANSIT).map(TransitDecoder)
    }

    /// Decodes into a buffer of exactly the declared length, which the caller has capped.
    ///
    /// # Errors
    /// The frame is none, or has another length.
    pub fn decompress(&mut self, frame: &[u8], raw_len: usize) -> Result<Vec<u8>, FormatError> {
        self.0.decompress(frame, raw_len, IN_TRANSIT)
    }
}
