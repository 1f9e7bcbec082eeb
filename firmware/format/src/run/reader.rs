//! Reading an index run page by page, through a closure that reads at an offset.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use thiserror::Error;

use super::{
    BlockRecord, Counts, FIRST_PLAIN, HEADER_LEN, Location, PAGE_LEN, PAGE_PLAIN, PackRecord, Record,
    RunEntry, RunHeader, RunPack, WHAT,
};
use crate::seal::{SealKey, nonce};
use crate::{ChunkId, FormatError, Keys, RepositoryId};

/// Opened pages kept per run unless told otherwise: 256 KiB, and there may be a dozen runs. The tables of packs and
/// blocks are small and hot; entries are asked for all over the run, so that more pages would help small runs only, which
/// are opened as fast as they are.
const PAGES_CACHED: usize = 64;

/// Probes by interpolation before halving takes over: keyed ids are even, so two nearly always do.
const INTERPOLATIONS: u32 = 4;

/// Why a run could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RunError<E> {
    /// The closure failed.
    #[error("the index run could not be read")]
    Read(#[source] E),
    /// The bytes are not those of a sound run: throw it away and make it again.
    #[error("the index run is unusable")]
    Format(#[from] FormatError),
}

/// An opened page.
type Page = Arc<[u8]>;

/// A page of entries in hand.
struct Near {
    /// Its number among the pages of entries.
    number: u64,
    page: Page,
    held: usize,
    first: ChunkId,
    last: ChunkId,
    /// Entries before this one are below what is asked for.
    slot: usize,
}

impl Near {
    fn new(number: u64, page: Page, held: usize) -> Result<Self, FormatError> {
        let (first, last) = (entry_at(&page, 0)?.id, entry_at(&page, held - 1)?.id);
        Ok(Near { number, page, held, first, last, slot: 0 })
    }

    /// Whether the first entry with this id lies in this page, if there is one. Entries with the id that the page begins
    /// with may lie in the page before.
    fn has(&self, id: &ChunkId) -> bool {
        self.first < *id && *id <= self.last
    }

    /// As [`RunReader::first_of`], for ids that ascend: what came before is not looked at again.
    fn find(&mut self, id: &ChunkId) -> Result<Option<(u64, RunEntry)>, FormatError> {
        let mut step = 1;
        let mut end = self.slot;
        while end < self.held && id_at(&self.page, end) < id.as_bytes() {
            self.slot = end + 1;
            end += step;
            step *= 2;
        }
        let found = find_in(&self.page, (self.slot, (end + 1).min(self.held)), id)?;
        Ok(found.map(|(slot, entry)| {
            self.slot = slot;
            (self.number * RunEntry::PER_PAGE as u64 + slot as u64, entry)
        }))
    }

    /// The entry of this number in the run, if it lies in this page.
    fn entry(&self, number: u64) -> Option<Result<RunEntry, FormatError>> {
        let slot = usize::try_from(number.checked_sub(self.number * RunEntry::PER_PAGE as u64)?).ok()?;
        (slot < self.held).then(|| entry_at(&self.page, slot))
    }
}

/// An open run. It holds no file: each call is given a closure that fills a buffer from an offset of the run's file.
/// It may be shared between threads.
pub struct RunReader {
    key: SealKey,
    header: RunHeader,
    counts: Counts,
    cache: Mutex<Vec<Option<(u64, Page)>>>,
    /// The start of the first id of every entry page, once all of them were gone through: 4 bytes for each 4 KiB, after
    /// which a lookup opens one page.
    fences: OnceLock<Box<[u32]>>,
}

impl RunReader {
    /// Opens a run whose file is `file_len` bytes long; reads its first page.
    ///
    /// # Errors
    /// [`RunError::Read`]; [`RunError::Format`] if this is not a run of this repository and this length.
    pub fn open<E>(
        keys: &Keys,
        repository: &RepositoryId,
        file_len: u64,
        mut read_at: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, RunError<E>> {
        if file_len < PAGE_LEN as u64 {
            return Err(FormatError::Truncated { what: WHAT }.into());
        }
        let mut page = vec![0u8; PAGE_LEN];
        read_at(0, &mut page).map_err(RunError::Read)?;
        let header = RunHeader::parse(&page[..HEADER_LEN])?;
        if header.repository != *repository {
            return Err(FormatError::Foreign { what: WHAT, found: header.repository }.into());
        }
        let key = keys.index.clone();
        let plain =
            key.open(&nonce(&header.salt.0, 0), &header.associated_data(), &mut page[HEADER_LEN..], WHAT)?;
        debug_assert_eq!(plain.len(), FIRST_PLAIN);
        let (counts, rest) = plain.split_at(Counts::LEN);
        check_zeros(rest)?;
        let counts = Counts::decode(counts)?;
        if counts.file_len() != file_len {
            return Err(FormatError::malformed(WHAT, "its length does not fit its counts").into());
        }
        let cache = Mutex::new(vec![None; PAGES_CACHED]);
        Ok(RunReader { key, header, counts, cache, fences: OnceLock::new() })
    }

    /// Keeps at most this many opened pages of 4 KiB (at least one).
    pub fn with_cached_pages(mut self, pages: usize) -> Self {
        self.cache = Mutex::new(vec![None; pages.max(1)]);
        self
    }

    /// Number of entries.
    pub fn entry_count(&self) -> u64 {
        self.counts.entries
    }

    /// Number of packs.
    pub fn pack_count(&self) -> u32 {
        self.counts.packs
    }

    /// Where this chunk lies; the first of its places if it has several.
    ///
    /// # Errors
    /// [`RunError::Read`], [`RunError::Format`]; what could not be read is never taken for "not there".
    pub fn find<E>(
        &self,
        id: &ChunkId,
        mut read_at: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Option<Location>, RunError<E>> {
        match self.first_of(id, 0, &mut read_at)? {
            Some((_, entry)) => self.locate(&entry, &mut read_at).map(Some),
            None => Ok(None),
        }
    }

    /// Whether the run has this chunk; cheaper than [`RunReader::find`].
    ///
    /// # Errors
    /// As [`RunReader::find`].
    pub fn contains<E>(
        &self,
        id: &ChunkId,
        mut read_at: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<bool, RunError<E>> {
        Ok(self.first_of(id, 0, &mut read_at)?.is_some())
    }

    /// All places of this chunk.
    ///
    /// # Errors
    /// As [`RunReader::find`].
    pub fn find_all<E>(
        &self,
        id: &ChunkId,
        mut read_at: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Vec<Location>, RunError<E>> {
        let mut places = Vec::new();
        let Some((first, _)) = self.first_of(id, 0, &mut read_at)? else { return Ok(places) };
        for number in first..self.counts.entries {
            let entry: RunEntry = self.record(self.counts.first_entry_page(), number, &mut read_at)?;
            if entry.id != *id {
                break;
            }
            places.push(self.locate(&entry, &mut read_at)?);
        }
        Ok(places)
    }

    /// Looks for many ids at once, which ascend: hands out every entry that has one of them, with the index of its id in
    /// `ids` and its own number in the run (from 0). No page is opened in which nothing is looked for, and each of the
    /// others hardly more than once.
    ///
    /// # Errors
    /// As [`RunReader::find`].
    pub fn find_sorted<E>(
        &self,
        ids: &[ChunkId],
        mut read_at: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
        mut each: impl FnMut(usize, u64, &RunEntry),
    ) -> Result<(), RunError<E>> {
        let mut from = 0;
        // Where many are asked for the next one often lies in the same page, and not far behind.
        let mut near: Option<Near> = None;
        for (index, id) in ids.iter().enumerate() {
            let found = match near.as_mut().filter(|near| near.has(id)) {
                Some(near) => near.find(id)?,
                None => self.first_of(id, from, &mut read_at)?,
            };
            let Some((first, mut entry)) = found else { continue };
            let page = first / RunEntry::PER_PAGE as u64;
            if near.as_ref().is_none_or(|near| near.number != page) {
                let bytes = self.page(self.counts.first_entry_page() + page, &mut read_at)?;
                near = Some(Near::new(page, bytes, self.held(page))?);
            }
            from = page;
            let mut number = first;
            while entry.id == *id {
                each(index, number, &entry);
                number += 1;
                if number == self.counts.entries {
                    break;
                }
                entry = match near.as_ref().and_then(|near| near.entry(number)) {
                    Some(entry) => entry?,
                    None => self.record(self.counts.first_entry_page(), number, &mut read_at)?,
                };
            }
        }
        Ok(())
    }

    /// All packs with their blocks, in the order of the run; checks that each block follows the one before it.
    ///
    /// # Errors
    /// [`RunError::Read`], [`RunError::Format`].
    pub fn packs<E>(
        &self,
        mut read_at: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Vec<RunPack>, RunError<E>> {
        let mut packs: Vec<RunPack> = Vec::new();
        let mut owed: Vec<u32> = Vec::new();
        self.table(1, u64::from(self.counts.packs), &mut read_at, |record: PackRecord| {
            let PackRecord { id, salt, length, blocks } = record;
            owed.push(blocks);
            packs.push(RunPack { id, salt, length: u64::from(length), blocks: Vec::new() });
            Ok(())
        })?;
        let first = self.counts.first_block_page();
        self.table(first, u64::from(self.counts.blocks), &mut read_at, |record: BlockRecord| {
            let pack = packs.get_mut(record.pack as usize);
            let pack = pack.ok_or_else(|| FormatError::malformed(WHAT, "a block of an unknown pack"))?;
            if record.number as usize != pack.blocks.len() {
                return Err(FormatError::malformed(WHAT, "blocks out of order"));
            }
            pack.blocks.push((record.head, u32::from(record.chunks)));
            Ok(())
        })?;
        if packs.iter().zip(&owed).any(|(pack, &owed)| pack.blocks.len() != owed as usize) {
            return Err(FormatError::malformed(WHAT, "a pack lacks blocks").into());
        }
        Ok(packs)
    }

    /// Hands out every entry in order, checking that order and every page.
    ///
    /// # Errors
    /// [`RunError::Read`], [`RunError::Format`], and what `each` returns.
    pub fn entries<E>(
        &self,
        mut read_at: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
        mut each: impl FnMut(RunEntry) -> Result<(), FormatError>,
    ) -> Result<(), RunError<E>> {
        let mut last: Option<RunEntry> = None;
        let blocks = self.counts.blocks;
        let mut number = 0;
        let mut fences = Vec::new();
        self.table(self.counts.first_entry_page(), self.counts.entries, &mut read_at, |entry: RunEntry| {
            if last.is_some_and(|last| last >= entry) || entry.block >= blocks {
                return Err(FormatError::malformed(WHAT, "entries out of order or of an unknown block"));
            }
            if number % RunEntry::PER_PAGE == 0 {
                fences.push(fence(&entry.id));
            }
            number += 1;
            last = Some(entry);
            each(entry)
        })?;
        let _ = self.fences.set(fences.into_boxed_slice());
        Ok(())
    }

    /// Number of pages with entries.
    pub fn entry_pages(&self) -> u64 {
        self.counts.page_count() - self.counts.first_entry_page()
    }

    /// The entries of one page (from 0 to [`RunReader::entry_pages`]), past the cache: for going through several runs side
    /// by side. Order within the page is checked; order between pages is the caller's to check.
    ///
    /// # Errors
    /// [`RunError::Read`], [`RunError::Format`], also for a page that is not there.
    pub fn entry_page<E>(
        &self,
        number: u64,
        mut read_at: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Vec<RunEntry>, RunError<E>> {
        if number >= self.entry_pages() {
            return Err(FormatError::malformed(WHAT, "a page past its end").into());
        }
        let count = self.held(number) as u64;
        let mut entries: Vec<RunEntry> = Vec::with_capacity(count as usize);
        let blocks = self.counts.blocks;
        self.table(self.counts.first_entry_page() + number, count, &mut read_at, |entry: RunEntry| {
            if entries.last().is_some_and(|last| *last >= entry) || entry.block >= blocks {
                return Err(FormatError::malformed(WHAT, "entries out of order or of an unknown block"));
            }
            entries.push(entry);
            Ok(())
        })?;
        Ok(entries)
    }

    /// Reads and checks every page and every record.
    ///
    /// # Errors
    /// [`RunError::Read`], [`RunError::Format`].
    pub fn check<E>(
        &self,
        mut read_at: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), RunError<E>> {
        let raw_lens: Vec<u32> = self
            .packs(&mut read_at)?
            .iter()
            .flat_map(|pack| pack.blocks.iter().map(|(head, _)| head.raw_len))
            .collect();
        self.entries(&mut read_at, |entry| {
            let end = u64::from(entry.offset) + u64::from(entry.length);
            let raw_len = raw_lens.get(entry.block as usize).copied().unwrap_or(0);
            if entry.length == 0 || end > u64::from(raw_len) {
                return Err(FormatError::malformed(WHAT, "an entry outside of its block"));
            }
            Ok(())
        })
    }

    /// Number and value of the first entry with this id; `from` is a page before which it cannot lie.
    fn first_of<E>(
        &self,
        id: &ChunkId,
        from: u64,
        read_at: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Option<(u64, RunEntry)>, RunError<E>> {
        if self.counts.entries == 0 {
            return Ok(None);
        }
        // The page of the first entry with this id lies in low..=high, if there is one. Ids in these pages are at least
        // `low_key` and at most `high_key` in their first bytes.
        let (mut low, mut high) = (from, self.entry_pages() - 1);
        let (mut low_key, mut high_key) = (0u64, u64::MAX);
        let mut interpolations = INTERPOLATIONS;
        if let Some(fences) = self.fences.get() {
            // A page that begins with an id of the same start may begin with this one, or lie behind it.
            let before = fences.partition_point(|fence| *fence < self::fence(id)) as u64;
            let after = fences.partition_point(|fence| *fence <= self::fence(id)) as u64;
            (low, high) = (low.max(before.saturating_sub(1)), after.saturating_sub(1));
            if low > high {
                return Ok(None);
            }
            interpolations = 0;
        } else if from > 0 {
            let page = self.page(self.counts.first_entry_page() + from, read_at)?;
            low_key = leading(&entry_at(&page, 0)?.id);
        }
        loop {
            let guess = if interpolations == 0 {
                low + (high - low) / 2
            } else {
                interpolations -= 1;
                interpolate(leading(id), (low_key, high_key), (low, high))
            };
            let page = self.page(self.counts.first_entry_page() + guess, read_at)?;
            let held = self.held(guess);
            let (first, last) = (entry_at(&page, 0)?, entry_at(&page, held - 1)?);
            if last.id < *id {
                if guess >= high {
                    return Ok(None);
                }
                (low, low_key) = (guess + 1, leading(&last.id));
            } else if first.id > *id {
                if guess <= low {
                    return Ok(None);
                }
                (high, high_key) = (guess - 1, leading(&first.id));
            } else if first.id == *id && guess > low {
                // It may begin in an earlier page. Halving comes back to this one if it does not.
                high = guess;
                interpolations = 0;
            } else {
                let found = find_in(&page, (0, held), id)?;
                return Ok(
                    found.map(|(slot, entry)| (guess * RunEntry::PER_PAGE as u64 + slot as u64, entry))
                );
            }
        }
    }

    /// Entries in this entry page: all pages are full but the last.
    fn held(&self, entry_page: u64) -> usize {
        let before = entry_page * RunEntry::PER_PAGE as u64;
        (self.counts.entries - before).min(RunEntry::PER_PAGE as u64) as usize
    }

    /// Where the chunk of an entry of this run lies.
    ///
    /// # Errors
    /// As [`RunReader::find`].
    pub fn locate<E>(
        &self,
        entry: &RunEntry,
        read_at: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Location, RunError<E>> {
        if entry.block >= self.counts.blocks {
            return Err(FormatError::malformed(WHAT, "an entry of an unknown block").into());
        }
        let first = self.counts.first_block_page();
        let block: BlockRecord = self.record(first, u64::from(entry.block), read_at)?;
        let end = u64::from(entry.offset) + u64::from(entry.length);
        if block.pack >= self.counts.packs || end > u64::from(block.head.raw_len) {
            return Err(FormatError::malformed(WHAT, "an entry outside of its block").into());
        }
        let pack: PackRecord = self.record(1, u64::from(block.pack), read_at)?;
        Ok(Location {
            pack: pack.id,
            salt: pack.salt,
            number: block.number,
            head: block.head,
            offset: entry.offset,
            length: entry.length,
        })
    }

    /// Record `number` of the table that begins at `first_page`.
    fn record<R: Record, E>(
        &self,
        first_page: u64,
        number: u64,
        read_at: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<R, RunError<E>> {
        let page = self.page(first_page + number / R::PER_PAGE as u64, read_at)?;
        let slot = (number % R::PER_PAGE as u64) as usize;
        Ok(R::decode(&page[slot * R::LEN..(slot + 1) * R::LEN])?)
    }

    /// Hands out a whole table, past the cache.
    fn table<R: Record, E>(
        &self,
        first_page: u64,
        count: u64,
        read_at: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
        mut each: impl FnMut(R) -> Result<(), FormatError>,
    ) -> Result<(), RunError<E>> {
        let (mut left, mut page_number) = (count, first_page);
        let mut buffer = vec![0u8; PAGE_LEN];
        while left > 0 {
            let plain = self.open_page(page_number, &mut buffer, read_at)?;
            let held = left.min(R::PER_PAGE as u64) as usize;
            let (records, rest) = plain.split_at(held * R::LEN);
            for record in records.chunks_exact(R::LEN) {
                each(R::decode(record)?)?;
            }
            check_zeros(rest)?;
            left -= held as u64;
            page_number += 1;
        }
        Ok(())
    }

    fn page<E>(
        &self,
        number: u64,
        read_at: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Page, RunError<E>> {
        {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((held, page)) = &cache[(number % cache.len() as u64) as usize] {
                if *held == number {
                    return Ok(Arc::clone(page));
                }
            }
        }
        let mut buffer = [0u8; PAGE_LEN];
        let page: Page = Arc::from(&*self.open_page(number, &mut buffer, read_at)?);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (number % cache.len() as u64) as usize;
        cache[slot] = Some((number, Arc::clone(&page)));
        Ok(page)
    }

    fn open_page<'a, E>(
        &self,
        number: u64,
        buffer: &'a mut [u8],
        read_at: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<&'a mut [u8], RunError<E>> {
        read_at(number * PAGE_LEN as u64, buffer).map_err(RunError::Read)?;
        let nonce = nonce(&self.header.salt.0, number);
        let plain = self.key.open(&nonce, &self.header.associated_data(), buffer, WHAT)?;
        debug_assert_eq!(plain.len(), PAGE_PLAIN);
        Ok(plain)
    }
}

fn check_zeros(padding: &[u8]) -> Result<(), FormatError> {
    if padding.iter().any(|&byte| byte != 0) {
        return Err(FormatError::malformed(WHAT, "padding that is not zero"));
    }
    Ok(())
}

fn entry_at(page: &[u8], slot: usize) -> Result<RunEntry, FormatError> {
    RunEntry::decode(&page[slot * RunEntry::LEN..(slot + 1) * RunEntry::LEN])
}

fn id_at(page: &[u8], slot: usize) -> &[u8] {
    &page[slot * RunEntry::LEN..][..ChunkId::LEN]
}

/// Slot and value of the first entry with this id among these of a page.
fn find_in(
    page: &[u8],
    (mut low, held): (usize, usize),
    id: &ChunkId,
) -> Result<Option<(usize, RunEntry)>, FormatError> {
    let mut high = held;
    while low < high {
        let middle = low + (high - low) / 2;
        if id_at(page, middle) < id.as_bytes() {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if low == held {
        return Ok(None);
    }
    let entry = entry_at(page, low)?;
    Ok((entry.id == *id).then_some((low, entry)))
}

/// The first 8 bytes of an id as a number that sorts alike.
fn leading(id: &ChunkId) -> u64 {
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(&id.0[..8]);
    u64::from_be_bytes(bytes)
}

/// The first 4 bytes of an id as a number that sorts alike.
fn fence(id: &ChunkId) -> u32 {
    (leading(id) >> 32) as u32
}

/// The page where `key` would lie if ids were even between the two borders.
fn interpolate(key: u64, (low_key, high_key): (u64, u64), (low, high): (u64, u64)) -> u64 {
    let span = u128::from(high_key.saturating_sub(low_key)) + 1;
    let part = u128::from(key.saturating_sub(low_key));
    let pages = u128::from(high - low) + 1;
    low + ((part * pages / span) as u64).min(high - low)
}
