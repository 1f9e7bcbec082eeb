//! Packs: a file of sealed blocks with a sealed table of contents at its end. Follows FORMAT.md, "Packs".
//!
//! ```text
//! header (44) | block 0 | block 1 | … | sealed footer | trailer (24)
//! ```
//! Blocks lie back to back. Every byte is either inside of a seal, bound to one (the header and the footer's place are
//! associated data of the footer), or fixed by the trailer's checks. The name of a pack is BLAKE3 of the whole file.

use crate::block::{BlockHead, Compressed, Method};
use crate::codec::{Reader, put_varint};
use crate::ids::Salt;
use crate::seal::{SealKey, TAG_LEN, nonce};
use crate::version::{FORMAT_VERSION, check_version, take_opening};
use crate::{ChunkId, ChunkKind, FormatError, Keys, PackId, RepositoryId, limits};

const WHAT: &str = "pack";
const FOOTER: &str = "pack footer";
const MAGIC: &[u8; 8] = b"MK-PACK\n";
const END_MAGIC: &[u8; 8] = b"MK-PEND\n";
const FOOTER_TAG: &[u8; 15] = b"mailkeep footer";
/// Most bytes of a chunk in a footer (id, length), of a block without its chunks, and of all else after the blocks.
const CHUNK_ENCODED_MAX: usize = ChunkId::LEN + 3;
const BLOCK_ENCODED_MAX: usize = 13;
const FOOTER_ROOM: usize = 5 + TAG_LEN + PackTrailer::LEN;

/// The opening of a pack file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackHeader {
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Random bytes of this pack; first part of every nonce in it.
    pub salt: Salt,
}

impl PackHeader {
    /// Length in bytes.
    pub const LEN: usize = 44;

    /// Its bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0u8; Self::LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.repository.0);
        bytes[28..].copy_from_slice(&self.salt.0);
        bytes
    }

    /// Reads the first [`PackHeader::LEN`] bytes of a pack.
    ///
    /// # Errors
    /// [`FormatError`] if this is not the start of a pack of a known version.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        take_opening(&mut reader, MAGIC, WHAT)?;
        let header =
            PackHeader { repository: RepositoryId(reader.array(WHAT)?), salt: Salt(reader.array(WHAT)?) };
        if reader.remaining() > 0 {
            return Err(FormatError::malformed(WHAT, "its header is too long"));
        }
        Ok(header)
    }
}

/// The last bytes of a pack file: where the footer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackTrailer {
    /// Offset of the sealed footer from the start of the file.
    pub footer_offset: u64,
    /// Its length, authentication tag included.
    pub footer_len: u32,
}

impl PackTrailer {
    /// Length in bytes.
    pub const LEN: usize = 24;

    /// Its bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0u8; Self::LEN];
        bytes[..8].copy_from_slice(&self.footer_offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.footer_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..].copy_from_slice(END_MAGIC);
        bytes
    }

    /// Reads the last [`PackTrailer::LEN`] bytes of a pack file that is `file_len` bytes long.
    ///
    /// # Errors
    /// [`FormatError`] if this is not the end of a pack of a known version, or of one of another length.
    pub fn parse(bytes: &[u8], file_len: u64) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let footer_offset = u64::from_le_bytes(reader.array(WHAT)?);
        let footer_len = u32::from_le_bytes(reader.array(WHAT)?);
        let version = u32::from_le_bytes(reader.array(WHAT)?);
        if reader.array::<8>(WHAT)? != *END_MAGIC || reader.remaining() > 0 {
            return Err(FormatError::NotThis { what: "whole pack" });
        }
        check_version(WHAT, version)?;
        if file_len > limits::PACK_MAX {
            return Err(FormatError::TooLarge { what: WHAT, declared: file_len, limit: limits::PACK_MAX });
        }
        let footer = footer_len as usize;
        if !(TAG_LEN..=limits::PACK_FOOTER_MAX + TAG_LEN).contains(&footer) {
            let (declared, limit) = (u64::from(footer_len), (limits::PACK_FOOTER_MAX + TAG_LEN) as u64);
            return Err(FormatError::TooLarge { what: FOOTER, declared, limit });
        }
        let end = footer_offset.checked_add(u64::from(footer_len) + Self::LEN as u64);
        if footer_offset < PackHeader::LEN as u64 || end != Some(file_len) {
            return Err(FormatError::malformed(WHAT, "its trailer does not fit its length"));
        }
        Ok(PackTrailer { footer_offset, footer_len })
    }
}

/// One block in a pack's table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Place, lengths, kind, method.
    pub head: BlockHead,
    /// Its chunks in order: id and plain length. They lie back to back in the opened block.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// A pack's table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFooter {
    /// The salt from the header.
    pub salt: Salt,
    /// Length of the whole pack file, bytes.
    pub length: u64,
    /// Its blocks; a block's number is its index here.
    pub blocks: Vec<BlockInfo>,
}

impl PackFooter {
    /// Opens the footer: `header` is the first [`PackHeader::LEN`] bytes of the file, `trailer` what
    /// [`PackTrailer::parse`] gave, `sealed` the bytes that the trailer points to.
    ///
    /// # Errors
    /// [`FormatError::Foreign`] for a pack of another repository, [`FormatError::NotAuthentic`] for damage,
    /// [`FormatError::Malformed`] and [`FormatError::TooLarge`] for contents that break the format.
    pub fn open(
        keys: &Keys,
        repository: &RepositoryId,
        header: &[u8],
        trailer: &PackTrailer,
        mut sealed: Vec<u8>,
    ) -> Result<Self, FormatError> {
        let parsed = PackHeader::parse(header)?;
        if parsed.repository != *repository {
            return Err(FormatError::Foreign { what: WHAT, found: parsed.repository });
        }
        if sealed.len() != trailer.footer_len as usize {
            return Err(FormatError::Truncated { what: FOOTER });
        }
        let aad = footer_data(&parsed, trailer.footer_offset);
        let plain = keys.footer.open(&nonce(&parsed.salt.0, 0), &aad, &mut sealed, FOOTER)?;
        let blocks = decode_blocks(plain, trailer.footer_offset)?;
        let length = trailer.footer_offset + u64::from(trailer.footer_len) + PackTrailer::LEN as u64;
        Ok(PackFooter { salt: parsed.salt, length, blocks })
    }

    /// Opens the footer of a pack that is whole in memory.
    ///
    /// # Errors
    /// As [`PackTrailer::parse`] and [`PackFooter::open`].
    pub fn of(keys: &Keys, repository: &RepositoryId, pack: &[u8]) -> Result<Self, FormatError> {
        let trailer_at =
            pack.len().checked_sub(PackTrailer::LEN).ok_or(FormatError::Truncated { what: WHAT })?;
        let trailer = PackTrailer::parse(&pack[trailer_at..], pack.len() as u64)?;
        // The trailer fits the length, so both slices exist.
        let sealed = pack[trailer.footer_offset as usize..trailer_at].to_vec();
        PackFooter::open(keys, repository, &pack[..PackHeader::LEN], &trailer, sealed)
    }

    /// Number of chunks in all blocks.
    pub fn chunk_count(&self) -> usize {
        self.blocks.iter().map(|block| block.chunks.len()).sum()
    }
}

/// Builds one pack, piece by piece: every method gives what is to be written next, or appends it to `out`, and hashes it.
///
/// The order is `new`, any number of `seal` and `push`, `finish`. A builder that has returned an error is spent.
pub struct PackBuilder {
    block_key: SealKey,
    footer_key: SealKey,
    header: PackHeader,
    blocks: Vec<BlockInfo>,
    chunks: usize,
    length: u64,
    hasher: blake3::Hasher,
}

impl PackBuilder {
    /// Starts a pack and appends its header to `out`. The salt must never be used for another pack.
    pub fn new(keys: &Keys, repository: RepositoryId, salt: Salt, out: &mut Vec<u8>) -> Self {
        let mut builder = PackBuilder {
            block_key: keys.block.clone(),
            footer_key: keys.footer.clone(),
            header: PackHeader { repository, salt },
            blocks: Vec::new(),
            chunks: 0,
            length: 0,
            hasher: blake3::Hasher::new(),
        };
        let start = out.len();
        out.extend_from_slice(&builder.header.encode());
        builder.account(&out[start..]);
        builder
    }

    /// The salt of this pack.
    pub fn salt(&self) -> Salt {
        self.header.salt
    }

    /// Bytes of the file so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Blocks so far.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Whether this pack is to be finished now: it has reached its target, or one more block could break a cap.
    pub fn is_full(&self) -> bool {
        self.length >= limits::PACK_TARGET as u64
            || self.blocks.len() >= limits::PACK_BLOCKS_MAX
            || self.chunks > limits::PACK_CHUNKS_MAX - limits::BLOCK_CHUNKS_MAX
    }

    /// As [`PackBuilder::seal`], of a copy, appended to `out`.
    ///
    /// # Errors
    /// As [`PackBuilder::seal`].
    pub fn push(
        &mut self,
        block: &Compressed,
        chunks: Vec<(ChunkId, u32)>,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        out.extend_from_slice(&self.seal(block.clone(), chunks)?);
        Ok(())
    }

    /// Seals a block that holds these chunks (id, plain length), in order; gives what is to be written next.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] if the chunks do not fill the block exactly; [`FormatError::TooLarge`] if the pack
    /// was full.
    pub fn seal(&mut self, block: Compressed, chunks: Vec<(ChunkId, u32)>) -> Result<Vec<u8>, FormatError> {
        let head = BlockHead {
            offset: self.length as u32,
            stored_len: block.stored_len(),
            raw_len: block.raw_len(),
            kind: block.kind(),
            method: block.method(),
        };
        head.check()?;
        check_chunks(&head, &chunks)?;
        check_counts(self.blocks.len() + 1, self.chunks + chunks.len())?;
        let number = self.blocks.len() as u64;
        let sealed = block.seal(&self.block_key, &self.header.repository, &self.header.salt, number)?;
        self.account(&sealed);
        self.chunks += chunks.len();
        self.blocks.push(BlockInfo { head, chunks });
        Ok(sealed)
    }

    /// Appends footer and trailer to `out`; gives the name of the pack and its table of contents.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] for a pack without blocks.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(PackId, PackFooter), FormatError> {
        if self.blocks.is_empty() {
            return Err(FormatError::malformed(WHAT, "no blocks"));
        }
        let footer_offset = self.length;
        let start = out.len();
        // A megabyte where the chunks are small, and no more than it takes.
        out.reserve_exact(
            self.chunks * CHUNK_ENCODED_MAX + self.blocks.len() * BLOCK_ENCODED_MAX + FOOTER_ROOM,
        );
        encode_blocks(&self.blocks, out);
        let aad = footer_data(&self.header, footer_offset);
        self.footer_key.seal(&nonce(&self.header.salt.0, 0), &aad, out, start, FOOTER)?;
        let footer_len = (out.len() - start) as u32;
        out.extend_from_slice(&PackTrailer { footer_offset, footer_len }.encode());
        self.account(&out[start..]);
        let id = PackId(*self.hasher.finalize().as_bytes());
        Ok((id, PackFooter { salt: self.header.salt, length: self.length, blocks: self.blocks }))
    }

    fn account(&mut self, written: &[u8]) {
        self.hasher.update(written);
        self.length += written.len() as u64;
    }
}

fn footer_data(header: &PackHeader, footer_offset: u64) -> [u8; 67] {
    let mut aad = [0u8; 67];
    aad[..15].copy_from_slice(FOOTER_TAG);
    aad[15..59].copy_from_slice(&header.encode());
    aad[59..].copy_from_slice(&footer_offset.to_le_bytes());
    aad
}

fn encode_blocks(blocks: &[BlockInfo], out: &mut Vec<u8>) {
    put_varint(out, blocks.len() as u64);
    for BlockInfo { head, chunks } in blocks {
        out.push(head.kind as u8);
        out.push(head.method as u8);
        put_varint(out, u64::from(head.stored_len));
        put_varint(out, u64::from(head.raw_len));
        put_varint(out, chunks.len() as u64);
        for (id, length) in chunks {
            out.extend_from_slice(&id.0);
            put_varint(out, u64::from(*length));
        }
    }
}

fn decode_blocks(plain: &[u8], footer_offset: u64) -> Result<Vec<BlockInfo>, FormatError> {
    let mut reader = Reader::new(plain);
    let count = take_count(&mut reader, "pack block count", limits::PACK_BLOCKS_MAX)?;
    let mut blocks = Vec::with_capacity(count);
    let (mut offset, mut chunks_so_far) = (PackHeader::LEN as u64, 0);
    for _ in 0..count {
        let kind = ChunkKind::from_byte(reader.byte(FOOTER)?)?;
        let method = Method::from_byte(reader.byte(FOOTER)?)?;
        let stored_len = reader.varint32(FOOTER)?;
        let raw_len = reader.varint32(FOOTER)?;
        let start =
            u32::try_from(offset).map_err(|_| FormatError::malformed(FOOTER, "block past its end"))?;
        let head = BlockHead { offset: start, stored_len, raw_len, kind, method };
        head.check()?;
        let chunk_count = take_count(&mut reader, "block chunk count", limits::BLOCK_CHUNKS_MAX)?;
        chunks_so_far += chunk_count;
        check_counts(count, chunks_so_far)?;
        if chunk_count > reader.remaining() / (ChunkId::LEN + 1) {
            return Err(FormatError::Truncated { what: FOOTER });
        }
        let mut chunks = Vec::with_capacity(chunk_count);
        for _ in 0..chunk_count {
            chunks.push((ChunkId(reader.array(FOOTER)?), reader.varint32(FOOTER)?));
        }
        check_chunks(&head, &chunks)?;
        offset += u64::from(stored_len);
        blocks.push(BlockInfo { head, chunks });
    }
    if blocks.is_empty() || reader.remaining() > 0 || offset != footer_offset {
        return Err(FormatError::malformed(FOOTER, "its blocks do not fill the pack"));
    }
    Ok(blocks)
}

fn take_count(reader: &mut Reader<'_>, what: &'static str, limit: usize) -> Result<usize, FormatError> {
    let declared = reader.varint(what)?;
    if declared > limit as u64 {
        return Err(FormatError::TooLarge { what, declared, limit: limit as u64 });
    }
    Ok(declared as usize)
}

fn check_counts(blocks: usize, chunks: usize) -> Result<(), FormatError> {
    for (what, count, limit) in [
        ("pack block count", blocks, limits::PACK_BLOCKS_MAX),
        ("pack chunk count", chunks, limits::PACK_CHUNKS_MAX),
    ] {
        if count > limit {
            return Err(FormatError::TooLarge { what, declared: count as u64, limit: limit as u64 });
        }
    }
    Ok(())
}

/// The chunks of a block are neither empty nor too long, and fill it exactly.
fn check_chunks(head: &BlockHead, chunks: &[(ChunkId, u32)]) -> Result<(), FormatError> {
    if chunks.len() > limits::BLOCK_CHUNKS_MAX {
        let (declared, limit) = (chunks.len() as u64, limits::BLOCK_CHUNKS_MAX as u64);
        return Err(FormatError::TooLarge { what: "block chunk count", declared, limit });
    }
    if chunks.iter().any(|&(_, length)| length == 0 || length as usize > limits::CHUNK_MAX) {
        return Err(FormatError::malformed("block", "a chunk is empty or too long"));
    }
    let total: u64 = chunks.iter().map(|&(_, length)| u64::from(length)).sum();
    if total != u64::from(head.raw_len) {
        return Err(FormatError::malformed("block", "its chunks do not fill it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(offset: u32, lengths: &[u32], method: Method) -> BlockInfo {
        let raw_len: u32 = lengths.iter().sum();
        let stored_len = if method == Method::Stored { raw_len + 16 } else { raw_len / 2 + 17 };
        let head = BlockHead { offset, stored_len, raw_len, kind: ChunkKind::Data, method };
        BlockInfo {
            head,
            chunks: lengths.iter().map(|&length| (ChunkId([length as u8; 24]), length)).collect(),
        }
    }

    proptest! {
        /// Even who has the keys, or a box with bad memory, writes no footer that is misread.
        #[test]
        fn a_sealed_but_wrong_footer_is_refused_or_has_its_one_meaning(
            first in proptest::collection::vec(1u32..300, 1..4),
            // From 3 bytes on `info` makes a zstd block smaller than a stored one, as it must be.
            second in proptest::collection::vec(3u32..300, 1..4),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let one = info(44, &first, Method::Stored);
            let two = info(44 + one.head.stored_len, &second, Method::Zstd);
            let end = u64::from(two.head.offset + two.head.stored_len);
            let blocks = vec![one, two];
            let mut bytes = Vec::new();
            encode_blocks(&blocks, &mut bytes);
            prop_assert_eq!(decode_blocks(&bytes, end), Ok(blocks));
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(other) = decode_blocks(&bytes, end) {
                let mut again = Vec::new();
                encode_blocks(&other, &mut again);
                prop_assert_eq!(again, bytes);
            }
        }

        #[test]
        fn no_bytes_make_the_footer_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), end in any::<u64>()) {
            let _ = decode_blocks(&bytes, end);
        }
    }

    #[test]
    fn the_longest_footer_is_within_its_cap() {
        let chunk = (ChunkId([0xff; 24]), limits::CHUNK_MAX as u32);
        let head = BlockHead {
            offset: 0,
            stored_len: limits::BLOCK_RAW_MAX as u32 + 16,
            raw_len: limits::BLOCK_RAW_MAX as u32,
            kind: ChunkKind::Tree,
            method: Method::Stored,
        };
        let per_block = limits::PACK_CHUNKS_MAX / limits::PACK_BLOCKS_MAX;
        let blocks = vec![BlockInfo { head, chunks: vec![chunk; per_block] }; limits::PACK_BLOCKS_MAX];
        let mut bytes = Vec::new();
        encode_blocks(&blocks, &mut bytes);
        assert!(bytes.len() <= limits::PACK_FOOTER_MAX, "{}", bytes.len());
        // A counted bomb is refused before anything is allocated for it.
        assert!(matches!(decode_blocks(&[0xff, 0xff, 0x7f], 44), Err(FormatError::TooLarge { .. })));
    }
}
