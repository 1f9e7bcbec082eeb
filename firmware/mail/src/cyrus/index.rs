//! Decodes cyrus.index, all minor versions that Cyrus has released since 2.1 (6 to 20 without 11).
//!
//! Everything is big endian; CRCs are zlib's crc32, in headers and records from version 12 on. The layout is
//! that of `imap/mailbox.h` and `mailbox_buf_to_index_*` in Cyrus' sources of each branch: three header layouts
//! (to 18, 19, 20) and two record layouts (to 19, 20). Records are stepped by the file's own start and size.
//!
//! Nothing is copied: [`Index`] borrows the bytes and decodes a record when it is asked for. [`IndexStream`] takes them in
//! pieces: an index of half a million messages has 50 MB.

mod stream;

use crate::error::MailError;
use crate::limits::CYRUS_INDEX_BYTES;

pub use stream::IndexStream;

/// The user's and Cyrus' own marks of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SystemFlags(pub u32);

impl SystemFlags {
    /// The system flags that IMAP knows, with their names, in the order of their bits.
    pub const IMAP: [(u32, &'static str); 5] = [
        (1 << 0, "\\Answered"),
        (1 << 1, "\\Flagged"),
        (1 << 2, "\\Deleted"),
        (1 << 3, "\\Draft"),
        (1 << 4, "\\Seen"),
    ];
    const ARCHIVED: u32 = 1 << 29;
    const UNLINKED: u32 = 1 << 30;
    const EXPUNGED: u32 = 1 << 31;

    /// The names of the IMAP system flags that are set. `\Seen` is the owner's own.
    pub fn imap_names(self) -> impl Iterator<Item = &'static str> {
        Self::IMAP.into_iter().filter(move |(bit, _)| self.0 & bit != 0).map(|(_, name)| name)
    }

    /// The message file lies on the archive partition.
    pub fn is_archived(self) -> bool {
        self.0 & Self::ARCHIVED != 0
    }

    /// The message file is gone; the record stays until the next repack.
    pub fn is_unlinked(self) -> bool {
        self.0 & Self::UNLINKED != 0
    }

    /// IMAP does not show the message any more.
    pub fn is_expunged(self) -> bool {
        self.0 & (Self::EXPUNGED | Self::UNLINKED) != 0
    }
}

/// A point in time as the index keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexTime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds of that second; always 0 before version 20.
    pub nanoseconds: u32,
}

/// The header of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexHeader {
    /// The format's minor version.
    pub version: u32,
    /// Counts repacks; the same number stands at the start of cyrus.cache.
    pub generation: u32,
    /// Records in the file, those of expunged messages included.
    pub records: u32,
    /// Messages that IMAP shows; `None` before version 12.
    pub exists: Option<u32>,
    /// The highest UID that was ever given.
    pub last_uid: u32,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// Bytes of all messages that count for the quota.
    pub quota_used: u64,
    /// How many messages are deleted, answered, flagged.
    pub counts: [u32; 3],
    /// Options of the mailbox, as bits.
    pub options: u32,
    /// HIGHESTMODSEQ; `None` before version 8.
    pub highest_modseq: Option<u64>,
    /// CRC of the whole cyrus.header that belongs to this index; `None` where Cyrus wrote none.
    pub header_file_crc: Option<u32>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRecord {
    /// UID; the message file is `UID.`.
    pub uid: u32,
    /// INTERNALDATE.
    pub internal_date: IndexTime,
    /// The day of the Date: header.
    pub sent_date: IndexTime,
    /// Bytes of the message file.
    pub size: u64,
    /// Bytes of its header part, with the empty line.
    pub header_size: u32,
    /// System and internal flags.
    pub flags: SystemFlags,
    /// Which of the keywords in cyrus.header are set: keyword `n` is bit `n % 32` of word `n / 32`.
    pub user_flags: [u32; 4],
    /// SHA-1 of the message file; `None` before version 10 and where Cyrus had none (all zero).
    pub guid: Option<[u8; 20]>,
    /// MODSEQ; `None` before version 8.
    pub modseq: Option<u64>,
    /// Where cyrus.cache has its record; `None` where that could not be proved (before version 12, and in 20).
    pub cached: Option<CachePlace>,
}

/// Where the record of a message lies in the cyrus.cache of the same generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CachePlace {
    /// Bytes from the start of the file.
    pub offset: u32,
    /// CRC over the whole record.
    pub crc: u32,
}

impl IndexRecord {
    /// Whether keyword number `n` of cyrus.header is set.
    pub fn has_keyword(&self, n: usize) -> bool {
        self.user_flags.get(n / 32).is_some_and(|word| word & (1 << (n % 32)) != 0)
    }
}

/// A cyrus.index, its header checked, its records not yet looked at.
#[derive(Debug, Clone)]
pub struct Index<'a> {
    header: IndexHeader,
    records: &'a [u8],
    record_size: usize,
}

/// What a header says of the whole file.
struct Layout {
    header: IndexHeader,
    /// Where the records begin.
    start: usize,
    record_size: usize,
}

/// Bytes of the longest header of any version.
const LONGEST_HEADER: usize = 192;

/// The sizes of one version: header, record. The CRC is the last word of each, from version 12 on.
fn sizes(version: u32) -> Option<(usize, usize)> {
    Some(match version {
        6 => (76, 60),
        7 => (76, 72),
        8 => (92, 80),
        9 => (96, 80),
        10 => (96, 88),
        12 => (128, 96),
        13 => (128, 104),
        14 | 15 => (160, 104),
        16..=19 => (160, 112),
        20 => (192, 144),
        _ => return None,
    })
}

impl<'a> Index<'a> {
    /// Checks the header and that the file has room for the records that it claims. A file may be longer:
    /// Cyrus appends records before it counts them.
    pub fn parse(bytes: &'a [u8]) -> Result<Index<'a>, MailError> {
        if bytes.len() > CYRUS_INDEX_BYTES {
            return Err(too_large());
        }
        let Layout { header, start, record_size } = Layout::of(bytes)?;
        let claimed =
            as_usize(header.records).checked_mul(record_size).and_then(|size| size.checked_add(start));
        let records = claimed.and_then(|end| bytes.get(start..end)).ok_or_else(too_short)?;
        Ok(Index { header, records, record_size })
    }

    /// The header.
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// The records in the order of the file, which is the order of UIDs. A record whose CRC is wrong comes as
    /// an error; those after it still come.
    pub fn records(&self) -> impl Iterator<Item = Result<IndexRecord, MailError>> + '_ {
        self.records.chunks_exact(self.record_size).map(|bytes| record(bytes, self.header.version))
    }
}

impl Layout {
    /// Checks the header; `bytes` begins with all of it.
    fn of(bytes: &[u8]) -> Result<Layout, MailError> {
        let fields = Fields { bytes };
        let version = fields.u32(8)?;
        let (header_size, least_record) =
            sizes(version).ok_or_else(|| damaged(8, &format!("minor version {version} is not known")))?;
        if bytes.len() < header_size {
            return Err(damaged(bytes.len(), "the file ends inside its header"));
        }
        if version >= 12 && fields.u32(header_size - 4)? != crc32fast::hash(&bytes[..header_size - 4]) {
            return Err(damaged(header_size - 4, "the header's CRC is wrong"));
        }
        let start = as_usize(fields.u32(12)?);
        let record_size = as_usize(fields.u32(16)?);
        let count = fields.u32(20)?;
        if start < header_size {
            return Err(damaged(12, "records are said to start inside the header"));
        }
        if record_size < least_record {
            return Err(damaged(16, "records are said to be smaller than this version's"));
        }
        Ok(Layout { header: fields.header(version, count)?, start, record_size })
    }
}

struct Fields<'a> {
    bytes: &'a [u8],
}

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], MailError> {
        self.bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk::<N>())
            .copied()
            .ok_or_else(|| damaged(self.bytes.len(), "the file is too short"))
    }

    fn u32(&self, at: usize) -> Result<u32, MailError> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, MailError> {
        self.array(at).map(u64::from_be_bytes)
    }

    fn header(&self, version: u32, records: u32) -> Result<IndexHeader, MailError> {
        // From 19 on the 64-bit fields stand on multiples of eight, which moved their neighbours.
        let (exists, options, modseq) = if version >= 19 { (60, 64, 72) } else { (84, 60, 68) };
        let (last_uid, uid_validity) = if version >= 20 { (88, 92) } else { (28, 44) };
        Ok(IndexHeader {
            version,
            generation: self.u32(0)?,
            records,
            exists: if version >= 12 { Some(self.u32(exists)?) } else { None },
            last_uid: self.u32(last_uid)?,
            uid_validity: self.u32(uid_validity)?,
            // Before version 8 the upper half was a reserved field.
            quota_used: if version >= 8 { self.u64(32)? } else { u64::from(self.u32(36)?) },
            counts: [self.u32(48)?, self.u32(52)?, self.u32(56)?],
            options: self.u32(options)?,
            highest_modseq: if version >= 8 { Some(self.u64(modseq)?) } else { None },
            // Cyrus, too, compares nothing with a 0: it stands there after an upgrade from a format before 12,
            // until the header is next written.
            header_file_crc: if version >= 12 { Some(self.u32(96)?).filter(|crc| *crc != 0) } else { None },
        })
    }
}

fn record(bytes: &[u8], version: u32) -> Result<IndexRecord, MailError> {
    let fields = Fields { bytes };
    let (_, size) = sizes(version).unwrap_or((0, bytes.len()));
    let uid = fields.u32(0)?;
    if version >= 12 && fields.u32(size - 4)? != crc32fast::hash(bytes.get(..size - 4).unwrap_or_default()) {
        return Err(damaged(size - 4, &format!("the CRC of the record with UID {uid} is wrong")));
    }
    let seconds =
        |at| fields.u32(at).map(|seconds| IndexTime { seconds: i64::from(seconds), nanoseconds: 0 });
    let guid = || -> Result<Option<[u8; 20]>, MailError> {
        fields.array::<20>(60).map(|guid| (guid != [0; 20]).then_some(guid))
    };
    let words = |at: usize| -> Result<[u32; 4], MailError> {
        Ok([fields.u32(at)?, fields.u32(at + 4)?, fields.u32(at + 8)?, fields.u32(at + 12)?])
    };
    if version >= 20 {
        return Ok(IndexRecord {
            uid,
            internal_date: nanoseconds(fields.u64(8)?),
            sent_date: nanoseconds(fields.u64(16)?),
            size: fields.u64(24)?,
            header_size: fields.u32(32)?,
            flags: SystemFlags(fields.u32(36)?),
            user_flags: words(40)?,
            guid: guid()?,
            modseq: Some(fields.u64(80)?),
            cached: None,
        });
    }
    let flags = fields.u32(32)?;
    Ok(IndexRecord {
        uid,
        internal_date: seconds(4)?,
        sent_date: seconds(8)?,
        size: u64::from(fields.u32(12)?),
        header_size: fields.u32(16)?,
        // Expunged records got flags in 2.4; before they were moved to cyrus.expunge.
        flags: SystemFlags(if version >= 12 { flags } else { flags & 0xffff }),
        user_flags: words(36)?,
        guid: if version >= 10 { guid()? } else { None },
        modseq: match version {
            0..8 => None,
            8 | 9 => Some(fields.u64(72)?),
            _ => Some(fields.u64(80)?),
        },
        cached: match version {
            12.. => Some(CachePlace { offset: fields.u32(24)?, crc: fields.u32(size - 8)? }),
            _ => None,
        }
        .filter(|place| place.offset > 0),
    })
}

fn nanoseconds(raw: u64) -> IndexTime {
    let raw = raw as i64;
    const SECOND: i64 = 1_000_000_000;
    IndexTime { seconds: raw.div_euclid(SECOND), nanoseconds: raw.rem_euclid(SECOND) as u32 }
}

/// Lossless on every machine that Rust's std runs Mailkeep on.
fn as_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn too_large() -> MailError {
    damaged(0, "the file is too large")
}

fn too_short() -> MailError {
    damaged(20, "the file is shorter than its number of records")
}

fn damaged(offset: usize, problem: &str) -> MailError {
    MailError::Damaged { what: "cyrus.index", offset, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests;
