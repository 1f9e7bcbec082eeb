//! Writing an index run: tables first, then entries as they come, a page at a time.

use super::{
    BlockRecord, Counts, FIRST_PLAIN, HEADER_LEN, PAGE_PLAIN, PackRecord, Record, RunEntry, RunHeader,
    RunPack, WHAT,
};
use crate::ids::{RunId, Salt};
use crate::pack::PackFooter;
use crate::seal::{SealKey, nonce};
use crate::{FormatError, Keys, PackId, RepositoryId};

/// Encodes a run from entries that come in order; memory is a page beside the caller's `out`.
///
/// The order is `new`, as many `push` as declared, `finish`; each appends to `out` what is to be written next.
pub struct RunEncoder {
    key: SealKey,
    header: RunHeader,
    counts: Counts,
    page: Vec<u8>,
    page_number: u64,
    pushed: u64,
    last: Option<RunEntry>,
    hasher: blake3::Hasher,
}

impl RunEncoder {
    /// Starts a run over these packs with exactly `entries` entries to come; appends all but the entries to `out`.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] above the limits; [`FormatError::Malformed`] for a pack above its limits.
    pub fn new(
        keys: &Keys,
        repository: RepositoryId,
        salt: Salt,
        packs: &[RunPack],
        entries: u64,
        out: &mut Vec<u8>,
    ) -> Result<Self, FormatError> {
        let too_many = |what, declared| FormatError::TooLarge { what, declared, limit: u64::from(u32::MAX) };
        let pack_count =
            u32::try_from(packs.len()).map_err(|_| too_many("pack count", packs.len() as u64))?;
        let blocks: u64 = packs.iter().map(|pack| pack.blocks.len() as u64).sum();
        let block_count = u32::try_from(blocks).map_err(|_| too_many("block count", blocks))?;
        let counts = Counts { packs: pack_count, blocks: block_count, entries };
        counts.check()?;
        let mut encoder = RunEncoder {
            key: keys.index.clone(),
            header: RunHeader { repository, salt },
            counts,
            page: Vec::with_capacity(PAGE_PLAIN),
            page_number: 0,
            pushed: 0,
            last: None,
            hasher: blake3::Hasher::new(),
        };
        counts.encode(&mut encoder.page);
        encoder.flush(out)?;
        for pack in packs {
            let length = u32::try_from(pack.length).map_err(|_| too_many("pack length", pack.length))?;
            let record =
                PackRecord { id: pack.id, salt: pack.salt, length, blocks: pack.blocks.len() as u32 };
            encoder.put(&record, out)?;
        }
        encoder.flush(out)?;
        for (pack, number, &(head, chunks)) in (0u32..).zip(packs).flat_map(|(index, pack)| {
            (0u32..).zip(&pack.blocks).map(move |(number, block)| (index, number, block))
        }) {
            let chunks =
                u16::try_from(chunks).map_err(|_| too_many("block chunk count", u64::from(chunks)))?;
            encoder.put(&BlockRecord { pack, number, head, chunks }, out)?;
        }
        encoder.flush(out)?;
        Ok(encoder)
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] out of order, more than declared, or with a block that the run does not have.
    pub fn push(&mut self, entry: RunEntry, out: &mut Vec<u8>) -> Result<(), FormatError> {
        if self.last.is_some_and(|last| last >= entry) {
            return Err(FormatError::malformed(WHAT, "entries out of order"));
        }
        if entry.block >= self.counts.blocks {
            return Err(FormatError::malformed(WHAT, "an entry of an unknown block"));
        }
        self.last = Some(entry);
        self.pushed += 1;
        self.put(&entry, out)
    }

    /// Appends what is left to `out`; gives the name of the run.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] unless exactly as many entries came as were declared.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<RunId, FormatError> {
        if self.pushed != self.counts.entries {
            let why = format!("{} entries instead of {}", self.pushed, self.counts.entries);
            return Err(FormatError::malformed(WHAT, why));
        }
        self.flush(out)?;
        Ok(RunId(*self.hasher.finalize().as_bytes()))
    }

    fn put<R: Record>(&mut self, record: &R, out: &mut Vec<u8>) -> Result<(), FormatError> {
        record.encode(&mut self.page);
        if self.page.len() + R::LEN > PAGE_PLAIN {
            self.flush(out)?;
        }
        Ok(())
    }

    /// Seals the page that is being filled, if there is anything in it.
    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        if self.page.is_empty() {
            return Ok(());
        }
        let start = out.len();
        let plain = if self.page_number == 0 {
            out.extend_from_slice(&self.header.encode());
            FIRST_PLAIN
        } else {
            PAGE_PLAIN
        };
        let sealed_from = out.len();
        out.extend_from_slice(&self.page);
        out.resize(sealed_from + plain, 0);
        let nonce = nonce(&self.header.salt.0, self.page_number);
        self.key.seal(&nonce, &self.header.associated_data(), out, sealed_from, WHAT)?;
        debug_assert!(sealed_from - start == if self.page_number == 0 { HEADER_LEN } else { 0 });
        self.hasher.update(&out[start..]);
        self.page.clear();
        self.page_number += 1;
        Ok(())
    }
}

/// Encodes the run of these packs at once; sorts their chunks in memory (36 bytes each).
///
/// # Errors
/// As [`RunEncoder::new`].
pub fn encode_run(
    keys: &Keys,
    repository: RepositoryId,
    salt: Salt,
    packs: &[(PackId, &PackFooter)],
) -> Result<(Vec<u8>, RunId), FormatError> {
    let entries = sorted_entries(packs.iter().map(|(_, footer)| *footer));
    let packs: Vec<RunPack> = packs.iter().map(|&(id, footer)| RunPack::new(id, footer)).collect();
    let mut out = Vec::new();
    let mut encoder = RunEncoder::new(keys, repository, salt, &packs, entries.len() as u64, &mut out)?;
    for entry in entries {
        encoder.push(entry, &mut out)?;
    }
    let id = encoder.finish(&mut out)?;
    Ok((out, id))
}

/// All chunks of packs with these tables of contents, in the order of a run over them.
pub fn sorted_entries<'a>(packs: impl Iterator<Item = &'a PackFooter> + Clone) -> Vec<RunEntry> {
    let mut entries = Vec::with_capacity(packs.clone().map(PackFooter::chunk_count).sum());
    for (block, info) in (0u32..).zip(packs.flat_map(|footer| &footer.blocks)) {
        let mut offset = 0;
        for &(id, length) in &info.chunks {
            entries.push(RunEntry { id, block, offset, length });
            offset += length;
        }
    }
    entries.sort_unstable();
    entries
}
