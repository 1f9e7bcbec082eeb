//! Index runs: where every chunk lies, sorted by id, in sealed pages. Follows FORMAT.md, "Index runs".
//!
//! ```text
//! page 0: header (44), sealed counts | pages of packs | pages of blocks | pages of entries
//! ```
//! A page is 4096 bytes and sealed by itself, so that a lookup opens a page or two, trusts nothing it has not
//! authenticated, and never needs memory in proportion to the run. It is read through a closure and not mapped: a disk
//! that is pulled out must be an error, not a SIGBUS.
//!
//! An index is a cache. It can be made again from the packs' footers, and says nothing that they do not say.

mod encoder;
mod reader;

pub use encoder::{RunEncoder, encode_run, sorted_entries};
pub use reader::{RunError, RunReader};

use crate::block::{BlockHead, Method};
use crate::codec::Reader;
use crate::ids::Salt;
use crate::pack::PackFooter;
use crate::seal::TAG_LEN;
use crate::version::{FORMAT_VERSION, take_opening};
use crate::{ChunkId, ChunkKind, FormatError, PackId, RepositoryId, limits};

const WHAT: &str = "index run";
const MAGIC: &[u8; 8] = b"MK-INDX\n";
const TAG: &[u8; 14] = b"mailkeep index";
const HEADER_LEN: usize = 44;

/// Length of a page in the file, bytes.
pub const PAGE_LEN: usize = 4096;
/// Plain bytes of every page but the first.
const PAGE_PLAIN: usize = PAGE_LEN - TAG_LEN;
/// Plain bytes of the first page, which begins with the header.
const FIRST_PLAIN: usize = PAGE_PLAIN - HEADER_LEN;

/// A pack as an index run knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPack {
    /// The pack.
    pub id: PackId,
    /// The salt from its header.
    pub salt: Salt,
    /// Length of the pack file, bytes.
    pub length: u64,
    /// Its blocks in order, each with the number of its chunks.
    pub blocks: Vec<(BlockHead, u32)>,
}

impl RunPack {
    /// What a run keeps of a pack's table of contents.
    pub fn new(id: PackId, footer: &PackFooter) -> Self {
        let blocks = footer.blocks.iter().map(|block| (block.head, block.chunks.len() as u32)).collect();
        RunPack { id, salt: footer.salt, length: footer.length, blocks }
    }
}

/// One chunk in a run. The order of a run is the order of these fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunEntry {
    /// The chunk. May come more than once, in different blocks.
    pub id: ChunkId,
    /// Its block: index into the blocks of all packs of this run, one after the other.
    pub block: u32,
    /// Its first byte in the opened block.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
}

/// Where a chunk lies, with all that is needed to open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The pack file.
    pub pack: PackId,
    /// The salt of the pack.
    pub salt: Salt,
    /// Number of the block in the pack.
    pub number: u32,
    /// The block.
    pub head: BlockHead,
    /// First byte of the chunk in the opened block.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
}

/// A fixed-size record of one of the three tables.
trait Record: Sized {
    const LEN: usize;
    const PER_PAGE: usize = PAGE_PLAIN / Self::LEN;
    fn encode(&self, out: &mut Vec<u8>);
    /// Decodes exactly [`Record::LEN`] bytes.
    fn decode(bytes: &[u8]) -> Result<Self, FormatError>;
}

/// A pack without its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PackRecord {
    id: PackId,
    salt: Salt,
    length: u32,
    blocks: u32,
}

impl Record for PackRecord {
    const LEN: usize = 56;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.salt.0);
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let record = PackRecord {
            id: PackId(reader.array(WHAT)?),
            salt: Salt(reader.array(WHAT)?),
            length: u32::from_le_bytes(reader.array(WHAT)?),
            blocks: u32::from_le_bytes(reader.array(WHAT)?),
        };
        if u64::from(record.length) > limits::PACK_MAX || record.blocks as usize > limits::PACK_BLOCKS_MAX {
            return Err(FormatError::malformed(WHAT, "a pack above the limits"));
        }
        Ok(record)
    }
}

/// A block and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BlockRecord {
    pack: u32,
    number: u32,
    head: BlockHead,
    chunks: u16,
}

impl Record for BlockRecord {
    const LEN: usize = 24;

    fn encode(&self, out: &mut Vec<u8>) {
        let BlockHead { offset, stored_len, raw_len, kind, method } = self.head;
        for number in [self.pack, self.number, offset, stored_len, raw_len] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(kind as u8);
        out.push(method as u8);
        out.extend_from_slice(&self.chunks.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let mut number = || reader.array(WHAT).map(u32::from_le_bytes);
        let (pack, place) = (number()?, number()?);
        let (offset, stored_len, raw_len) = (number()?, number()?, number()?);
        let kind = ChunkKind::from_byte(reader.byte(WHAT)?)?;
        let method = Method::from_byte(reader.byte(WHAT)?)?;
        let chunks = u16::from_le_bytes(reader.array(WHAT)?);
        let head = BlockHead { offset, stored_len, raw_len, kind, method };
        head.check()?;
        Ok(BlockRecord { pack, number: place, head, chunks })
    }
}

impl Record for RunEntry {
    const LEN: usize = 36;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        for number in [self.block, self.offset, self.length] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let id = ChunkId(reader.array(WHAT)?);
        let mut number = || reader.array(WHAT).map(u32::from_le_bytes);
        Ok(RunEntry { id, block: number()?, offset: number()?, length: number()? })
    }
}

/// The opening of a run file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RunHeader {
    repository: RepositoryId,
    salt: Salt,
}

impl RunHeader {
    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0u8; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.repository.0);
        bytes[28..].copy_from_slice(&self.salt.0);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        take_opening(&mut reader, MAGIC, WHAT)?;
        Ok(RunHeader { repository: RepositoryId(reader.array(WHAT)?), salt: Salt(reader.array(WHAT)?) })
    }

    fn associated_data(&self) -> [u8; 14 + HEADER_LEN] {
        let mut aad = [0u8; 14 + HEADER_LEN];
        aad[..14].copy_from_slice(TAG);
        aad[14..].copy_from_slice(&self.encode());
        aad
    }
}

/// How many records each table has, and thereby where its pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    packs: u32,
    blocks: u32,
    entries: u64,
}

impl Counts {
    const LEN: usize = 16;

    fn check(&self) -> Result<(), FormatError> {
        for (what, declared, limit) in [
            ("index run's pack count", u64::from(self.packs), u64::from(limits::RUN_PACKS_MAX)),
            ("index run's entry count", self.entries, limits::RUN_ENTRIES_MAX),
        ] {
            if declared > limit {
                return Err(FormatError::TooLarge { what, declared, limit });
            }
        }
        Ok(())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.packs.to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.entries.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let counts = Counts {
            packs: u32::from_le_bytes(reader.array(WHAT)?),
            blocks: u32::from_le_bytes(reader.array(WHAT)?),
            entries: u64::from_le_bytes(reader.array(WHAT)?),
        };
        counts.check()?;
        Ok(counts)
    }

    fn first_block_page(&self) -> u64 {
        1 + u64::from(self.packs).div_ceil(PackRecord::PER_PAGE as u64)
    }

    fn first_entry_page(&self) -> u64 {
        self.first_block_page() + u64::from(self.blocks).div_ceil(BlockRecord::PER_PAGE as u64)
    }

    fn page_count(&self) -> u64 {
        self.first_entry_page() + self.entries.div_ceil(RunEntry::PER_PAGE as u64)
    }

    fn file_len(&self) -> u64 {
        self.page_count() * PAGE_LEN as u64
    }
}
