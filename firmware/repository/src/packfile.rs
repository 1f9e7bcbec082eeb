//! A pack on the disk: its table of contents, one of its blocks, all of its bytes. Follows FORMAT.md, "Packs".

use std::fmt;
use std::ops::Deref;

use mailkeep_format::block::{BlockHead, BlockOpener};
use mailkeep_format::pack::{PackFooter, PackHeader, PackTrailer};
use mailkeep_format::{FormatError, PackId, Salt};

use crate::error::RepositoryError;
use crate::monitor::{Monitor, Problem, Severity};
use crate::repository::Repository;
use crate::storage::{ReadFile, Storage, StorageError, Window};
use crate::{layout, limits};

/// The file of a pack.
pub(crate) struct PackFile {
    path: String,
    file: Box<dyn ReadFile>,
}

/// A pack whose footer was authentic.
pub(crate) struct OpenPack {
    file: PackFile,
    pub(crate) footer: PackFooter,
}

impl fmt::Debug for OpenPack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenPack({})", self.file.path)
    }
}

impl Deref for OpenPack {
    type Target = PackFile;

    fn deref(&self) -> &PackFile {
        &self.file
    }
}

impl PackFile {
    /// Fills `buffer` from `offset`.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.file.read_at(offset, buffer)
    }

    /// The bytes from `offset` on, in `window`.
    pub(crate) fn read_window<'w>(
        &self,
        offset: u64,
        length: usize,
        window: &'w mut Window,
    ) -> Result<&'w mut [u8], StorageError> {
        self.file.read_window(offset, length, window)
    }

    /// The raw bytes of one block.
    pub(crate) fn read_block(
        &self,
        opener: &mut BlockOpener,
        salt: &Salt,
        number: u32,
        head: &BlockHead,
    ) -> Result<Vec<u8>, RepositoryError> {
        let mut raw = Vec::new();
        self.read_block_into(opener, salt, number, head, &mut Vec::new(), &mut raw)?;
        Ok(raw)
    }

    /// The raw bytes of one block into `raw`; both buffers are overwritten and grow as needed.
    pub(crate) fn read_block_into(
        &self,
        opener: &mut BlockOpener,
        salt: &Salt,
        number: u32,
        head: &BlockHead,
        stored: &mut Vec<u8>,
        raw: &mut Vec<u8>,
    ) -> Result<(), RepositoryError> {
        let failed = |source| RepositoryError::decoding(&self.path, source);
        head.check().map_err(failed)?;
        stored.resize(head.stored_len as usize, 0);
        self.file.read_at(u64::from(head.offset), stored).map_err(|error| {
            if error.source.kind() == std::io::ErrorKind::UnexpectedEof {
                return failed(FormatError::Truncated { what: "pack" });
            }
            RepositoryError::Storage(error)
        })?;
        opener.open_into(salt, number, head, stored, raw).map_err(failed)
    }
}

/// A decoder of blocks of this repository.
pub(crate) fn opener(repository: &Repository) -> Result<BlockOpener, RepositoryError> {
    BlockOpener::new(repository.keys(), repository.id())
        .map_err(|source| RepositoryError::Encode { what: "a block (no decoder)", source })
}

/// Opens the file of a pack and looks at nothing in it.
pub(crate) fn open_file(repository: &Repository, id: &PackId) -> Result<PackFile, RepositoryError> {
    let path = layout::pack(id);
    let file = repository.storage().open(&path)?;
    Ok(PackFile { path, file })
}

/// Opens a pack and its footer.
pub(crate) fn open(repository: &Repository, id: &PackId) -> Result<OpenPack, RepositoryError> {
    open_in(repository, open_file(repository, id)?)
}

/// As [`open`], past the page cache: what that holds says nothing about the disk.
pub(crate) fn open_past_cache(repository: &Repository, id: &PackId) -> Result<OpenPack, RepositoryError> {
    let path = layout::pack(id);
    let file = repository.storage().open_past_cache(&path)?;
    open_in(repository, PackFile { path, file })
}

fn open_in(repository: &Repository, PackFile { path, file }: PackFile) -> Result<OpenPack, RepositoryError> {
    let length = file.length();
    let damaged = |source| RepositoryError::decoding(&path, source);
    let shortest = (PackHeader::LEN + PackTrailer::LEN) as u64;
    if length < shortest {
        return Err(damaged(FormatError::Truncated { what: "pack" }));
    }
    let mut header = [0; PackHeader::LEN];
    file.read_at(0, &mut header)?;
    let mut trailer = [0; PackTrailer::LEN];
    file.read_at(length - PackTrailer::LEN as u64, &mut trailer)?;
    let trailer = PackTrailer::parse(&trailer, length).map_err(damaged)?;
    let mut sealed = vec![0; trailer.footer_len as usize];
    file.read_at(trailer.footer_offset, &mut sealed)?;
    let footer =
        PackFooter::open(repository.keys(), &repository.id(), &header, &trailer, sealed).map_err(damaged)?;
    Ok(OpenPack { file: PackFile { path, file }, footer })
}

/// How often a footer is asked for before the disk is taken not to give it: all chunks of the pack hang on it.
const FOOTER_ATTEMPTS: u32 = 3;

/// The footer of a pack; `None`, reported, if it is damaged.
pub(crate) fn read_footer(
    repository: &Repository,
    id: &PackId,
    monitor: &dyn Monitor,
) -> Result<Option<PackFooter>, RepositoryError> {
    let mut opened = open(repository, id);
    for _ in 1..FOOTER_ATTEMPTS {
        if matches!(&opened, Err(RepositoryError::Storage(error)) if !error.is_not_found()) {
            opened = open(repository, id);
        }
    }
    match opened {
        Ok(pack) => Ok(Some(pack.footer)),
        Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::Storage(_))) => {
            let what = format!("its contents cannot be found: {}", crate::error::chain(&error));
            monitor.problem(&Problem::new(Severity::Lost, layout::pack(id), what));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads a whole pack past the page cache and says whether its bytes hash to its name.
pub(crate) fn reads_back(storage: &dyn Storage, id: &PackId) -> Result<bool, RepositoryError> {
    let path = layout::pack(id);
    let hash = hash_of(&*storage.open_past_cache(&path)?)?;
    // What was read is not needed again soon: leave the cache to the mail that is being read.
    storage.drop_cache(&path)?;
    Ok(hash == blake3::Hash::from_bytes(id.0))
}

/// BLAKE3 of a whole file.
pub(crate) fn hash_of(file: &dyn ReadFile) -> Result<blake3::Hash, StorageError> {
    let mut hasher = blake3::Hasher::new();
    let mut window = Window::new();
    let (mut offset, length) = (0, file.length());
    while offset < length {
        let count = (length - offset).min(limits::READ_BUFFER as u64) as usize;
        hasher.update(file.read_window(offset, count, &mut window)?);
        offset += count as u64;
    }
    Ok(hasher.finalize())
}
