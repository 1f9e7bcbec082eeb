//! The envelope that manifests, sweep records and verification records share: a clear header that puts them in order
//! without a key, and behind it a body that is sealed with the header as associated data. Follows FORMAT.md, "Manifests".
//!
//! What is opened here is authentic, of the repository that was asked for, and within its caps; what it says is still
//! for its own file to judge.

use crate::codec::Reader;
use crate::compress::{DEFAULT_LEVEL, Squeezer, Unsqueezer};
use crate::ids::Salt;
use crate::seal::{SealKey, TAG_LEN, nonce};
use crate::version::{FORMAT_VERSION, take_opening};
use crate::{FormatError, RepositoryId};

/// What one kind of record is known by, and its caps.
pub(crate) struct Envelope {
    /// For errors.
    pub(crate) what: &'static str,
    /// First bytes of the file.
    pub(crate) magic: &'static [u8; 8],
    /// Opens the associated data, so that no record passes for one of another kind.
    pub(crate) tag: &'static [u8],
    /// Longest file, in bytes.
    pub(crate) file_max: usize,
}

/// The clear opening of a record's file. Proves nothing by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The generation of a manifest, the sequence of other records.
    pub(crate) number: u64,
    /// The repository it belongs to.
    pub(crate) repository: RepositoryId,
    /// Random bytes of this file; first part of its nonce.
    pub(crate) salt: Salt,
}

impl Header {
    /// Length in bytes.
    pub(crate) const LEN: usize = 52;
}

impl Envelope {
    /// Reads the header of a file without a key.
    pub(crate) fn parse(&self, bytes: &[u8]) -> Result<Header, FormatError> {
        let mut reader = Reader::new(bytes);
        take_opening(&mut reader, self.magic, self.what)?;
        Ok(Header {
            number: u64::from_le_bytes(reader.array(self.what)?),
            repository: RepositoryId(reader.array(self.what)?),
            salt: Salt(reader.array(self.what)?),
        })
    }

    /// The bytes of the file and their BLAKE3. The salt must be fresh.
    pub(crate) fn seal(
        &self,
        key: &SealKey,
        header: &Header,
        body: &[u8],
    ) -> Result<(Vec<u8>, [u8; 32]), FormatError> {
        let mut bytes = Vec::with_capacity(Header::LEN + body.len() + TAG_LEN);
        bytes.extend_from_slice(self.magic);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&header.number.to_le_bytes());
        bytes.extend_from_slice(&header.repository.0);
        bytes.extend_from_slice(&header.salt.0);
        let aad = self.associated_data(&bytes);
        bytes.extend_from_slice(body);
        key.seal(&nonce(&header.salt.0, header.number), &aad, &mut bytes, Header::LEN, self.what)?;
        self.check_length(bytes.len(), self.file_max)?;
        let hash = *blake3::hash(&bytes).as_bytes();
        Ok((bytes, hash))
    }

    /// Opens a file: its header and its body.
    pub(crate) fn open(
        &self,
        key: &SealKey,
        repository: &RepositoryId,
        bytes: &[u8],
    ) -> Result<(Header, Vec<u8>), FormatError> {
        self.check_length(bytes.len(), self.file_max)?;
        let header = self.parse(bytes)?;
        if header.repository != *repository {
            return Err(FormatError::Foreign { what: self.what, found: header.repository });
        }
        let aad = self.associated_data(&bytes[..Header::LEN]);
        let mut sealed = bytes[Header::LEN..].to_vec();
        let number = nonce(&header.salt.0, header.number);
        let length = key.open(&number, &aad, &mut sealed, self.what)?.len();
        sealed.truncate(length);
        Ok((header, sealed))
    }

    /// A body that is stored compressed: its length, then a zstd frame that was proven to decode to it.
    pub(crate) fn squeeze(&self, raw: &[u8], raw_max: usize) -> Result<Vec<u8>, FormatError> {
        self.check_length(raw.len(), raw_max)?;
        let mut squeezer = Squeezer::new(DEFAULT_LEVEL, self.what)?;
        let frame = squeezer.compress(raw, self.what)?;
        Ok([&(raw.len() as u32).to_le_bytes(), frame].concat())
    }

    /// The way back; never takes more room than `raw_max`.
    pub(crate) fn unsqueeze(&self, body: &[u8], raw_max: usize) -> Result<Vec<u8>, FormatError> {
        let mut reader = Reader::new(body);
        let raw_len = u32::from_le_bytes(reader.array(self.what)?) as usize;
        self.check_length(raw_len, raw_max)?;
        let frame = reader.take(reader.remaining(), self.what)?;
        Unsqueezer::new(self.what)?.decompress(frame, raw_len, self.what)
    }

    fn associated_data(&self, header: &[u8]) -> Vec<u8> {
        [self.tag, header].concat()
    }

    fn check_length(&self, length: usize, most: usize) -> Result<(), FormatError> {
        if length > most {
            let (declared, limit) = (length as u64, most as u64);
            return Err(FormatError::TooLarge { what: self.what, declared, limit });
        }
        Ok(())
    }
}
