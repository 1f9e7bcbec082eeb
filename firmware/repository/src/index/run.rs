//! One index run: asked page by page, and stood in for by its packs' footers when a page of it is damaged.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use mailkeep_format::pack::PackFooter;
use mailkeep_format::run::{Location, RunEncoder, RunEntry, RunError, RunPack, RunReader, sorted_entries};
use mailkeep_format::{ChunkId, FormatError, PackId, RunId, Salt};

use crate::durable::Unnamed;
use crate::error::RepositoryError;
use crate::filter::Filter;
use crate::monitor::{LogMonitor, Monitor};
use crate::repository::Repository;
use crate::storage::{ReadFile, Storage, StorageError};
use crate::{layout, limits, packfile};

/// One run, open.
pub(crate) struct Run {
    /// Its name; `None` for one that is only in memory.
    pub(super) id: Option<RunId>,
    pub(super) bytes: RunBytes,
    pub(super) reader: RunReader,
    repository: Repository,
    /// What makes a run of the same packs for a damaged one; without, it is made in memory.
    stand_in: Option<StandIn>,
    /// Made from the footers of its packs, once a page of this run has turned out to be damaged.
    rebuilt: OnceLock<Arc<Run>>,
    /// How often this run was asked for a chunk, and what it costs less to ask once that was often.
    asked: AtomicU64,
    filter: OnceLock<Filter>,
}

/// Makes one run of packs from their tables of contents.
pub(super) type StandIn = fn(&Repository, &[PackId], &dyn Monitor) -> Result<Arc<Run>, RepositoryError>;

pub(super) enum RunBytes {
    File(Box<dyn ReadFile>),
    Memory(Vec<u8>),
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run({:?}, {} entries)", self.id, self.reader.entry_count())
    }
}

impl RunBytes {
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        match self {
            RunBytes::File(file) => file.read_at(offset, buffer),
            RunBytes::Memory(bytes) => {
                let ended = || {
                    StorageError::new(
                        crate::storage::Operation::Read,
                        "an index in memory",
                        std::io::ErrorKind::UnexpectedEof,
                    )
                };
                let start = usize::try_from(offset).map_err(|_| ended())?;
                let piece = bytes.get(start..start + buffer.len()).ok_or_else(ended)?;
                buffer.copy_from_slice(piece);
                Ok(())
            }
        }
    }
}

impl Run {
    /// Opens a run on the disk.
    pub(crate) fn open(repository: &Repository, id: RunId) -> Result<Self, RunError<StorageError>> {
        Run::open_in(repository, &**repository.storage(), id)
    }

    /// With what makes a run of the same packs if this one turns out to be damaged.
    pub(super) fn standing_in(mut self, stand_in: StandIn) -> Self {
        self.stand_in = Some(stand_in);
        self
    }

    /// Opens a run that lies in `storage`.
    pub(super) fn open_in(
        repository: &Repository,
        storage: &dyn Storage,
        id: RunId,
    ) -> Result<Self, RunError<StorageError>> {
        let file = storage.open(&layout::run(&id)).map_err(RunError::Read)?;
        let length = file.length();
        Run::over(repository, Some(id), RunBytes::File(file), length)
    }

    pub(super) fn in_memory(
        repository: &Repository,
        packs: &[(PackId, PackFooter)],
    ) -> Result<Self, RepositoryError> {
        let mut bytes = Vec::new();
        encode(repository, packs, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        let length = bytes.len() as u64;
        Run::over(repository, None, RunBytes::Memory(bytes), length)
            .map_err(|error| run_error("an index in memory".to_owned(), error))
    }

    fn over(
        repository: &Repository,
        id: Option<RunId>,
        bytes: RunBytes,
        length: u64,
    ) -> Result<Self, RunError<StorageError>> {
        let reader = RunReader::open(repository.keys(), &repository.id(), length, |offset, buffer| {
            bytes.read_at(offset, buffer)
        })?;
        Ok(Run {
            id,
            bytes,
            reader,
            repository: repository.clone(),
            stand_in: None,
            rebuilt: OnceLock::new(),
            asked: AtomicU64::new(0),
            filter: OnceLock::new(),
        })
    }

    /// Where it lies, for people.
    pub(crate) fn path(&self) -> String {
        self.id.map_or_else(|| "an index in memory".to_owned(), |id| layout::run(&id))
    }

    pub(crate) fn packs(&self) -> Result<Vec<RunPack>, RunError<StorageError>> {
        self.reader.packs(|offset, buffer| self.bytes.read_at(offset, buffer))
    }

    /// The packs that it names, with their blocks.
    pub(crate) fn listed(&self) -> Result<Vec<RunPack>, RepositoryError> {
        self.packs().map_err(|error| run_error(self.path(), error))
    }

    pub(super) fn contains(&self, id: &ChunkId) -> Result<bool, RepositoryError> {
        if self.filter_for_many()?.is_some_and(|filter| !filter.may_have(id)) {
            return Ok(false);
        }
        self.ask(|run| run.reader.contains(id, |offset, buffer| run.bytes.read_at(offset, buffer)))
    }

    /// The filter, made when this run has been asked so often that going through it once costs less. A backup without
    /// changes never pays for it.
    fn filter_for_many(&self) -> Result<Option<&Filter>, RepositoryError> {
        let entries = self.reader.entry_count();
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if asked < entries / limits::FILTER_AFTER || entries > limits::FILTER_ENTRIES_MAX {
            return Ok(None);
        }
        if self.filter.get().is_none() {
            let mut filter = Filter::new(entries);
            self.each(|id| filter.add(id))?;
            let _ = self.filter.set(filter);
        }
        Ok(self.filter.get())
    }

    pub(super) fn find_all(&self, id: &ChunkId) -> Result<Vec<Location>, RepositoryError> {
        // A filter that is there is asked, but none is made: a reader must get by with the pages that it needs.
        if self.filter.get().is_some_and(|filter| !filter.may_have(id)) {
            return Ok(Vec::new());
        }
        self.ask(|run| run.reader.find_all(id, |offset, buffer| run.bytes.read_at(offset, buffer)))
    }

    /// Every place of these ids, which ascend: hands out the index of each, what `known` made of the block that it lies in (it
    /// is given the place of some chunk of the block, mostly once for each), and where it begins there. When a damaged page
    /// is met, all of them come once more.
    pub(super) fn find_places<B: Copy>(
        &self,
        ids: &[ChunkId],
        mut known: impl FnMut(&Location) -> B,
        mut each: impl FnMut(usize, B, u32),
    ) -> Result<(), RepositoryError> {
        self.ask(|run| {
            let mut read_at = |offset, buffer: &mut [u8]| run.bytes.read_at(offset, buffer);
            let mut found: Vec<(u32, RunEntry)> = Vec::with_capacity(ids.len());
            run.reader.find_sorted(ids, read_at, |index, _, entry| found.push((index as u32, *entry)))?;
            // Many of them lie in few blocks.
            let mut blocks: HashMap<u32, B> = HashMap::new();
            for (index, entry) in found {
                let block = match blocks.entry(entry.block) {
                    Entry::Occupied(block) => *block.get(),
                    Entry::Vacant(block) => *block.insert(known(&run.reader.locate(&entry, &mut read_at)?)),
                };
                each(index as usize, block, entry.offset);
            }
            Ok(())
        })
    }

    /// Hands out every id, in order. When a damaged page is met, all of them come once more.
    pub(crate) fn each(&self, mut each: impl FnMut(&ChunkId)) -> Result<(), RepositoryError> {
        self.ask(|run| {
            let visit = |entry: RunEntry| {
                each(&entry.id);
                Ok(())
            };
            run.reader.entries(|offset, buffer| run.bytes.read_at(offset, buffer), visit)
        })
    }

    /// Which of these ids, which ascend, lie in other packs than these: hands out the index of each, perhaps more than
    /// once.
    pub(super) fn find_outside(
        &self,
        packs: &HashSet<PackId>,
        ids: &[ChunkId],
        mut each: impl FnMut(usize),
    ) -> Result<(), RepositoryError> {
        self.ask(|run| {
            let read_at = |offset, buffer: &mut [u8]| run.bytes.read_at(offset, buffer);
            let mut outside: Vec<bool> = Vec::new();
            if !packs.is_empty() {
                for pack in run.packs()? {
                    outside.resize(outside.len() + pack.blocks.len(), !packs.contains(&pack.id));
                }
            }
            run.reader.find_sorted(ids, read_at, |index, _, entry| {
                if outside.get(entry.block as usize).is_none_or(|outside| *outside) {
                    each(index);
                }
            })
        })
    }

    /// The number of the first entry of this id. A damaged page is an error: numbers mean nothing in a run that stands in
    /// for this one.
    pub(super) fn number_of(&self, id: &ChunkId) -> Result<Option<u64>, RepositoryError> {
        let read_at = |offset, buffer: &mut [u8]| self.bytes.read_at(offset, buffer);
        let mut found = None;
        let first = |_, number, _: &RunEntry| {
            found.get_or_insert(number);
        };
        let asked = self.reader.find_sorted(std::slice::from_ref(id), read_at, first);
        asked.map_err(|error| run_error(self.path(), error))?;
        Ok(found)
    }

    /// Hands out every entry in order. A damaged page is an error: numbers of entries mean nothing in a run that stands
    /// in for this one.
    pub(crate) fn entries(&self, mut each: impl FnMut(&RunEntry)) -> Result<(), RepositoryError> {
        let visit = |entry: RunEntry| {
            each(&entry);
            Ok(())
        };
        let read_at = |offset, buffer: &mut [u8]| self.bytes.read_at(offset, buffer);
        self.reader.entries(read_at, visit).map_err(|error| run_error(self.path(), error))
    }

    /// Number of its entries.
    pub(crate) fn entry_count(&self) -> u64 {
        self.reader.entry_count()
    }

    /// Reads and checks every page, and the name.
    pub(crate) fn check(&self) -> Result<(), RepositoryError> {
        let read_at = |offset, buffer: &mut [u8]| self.bytes.read_at(offset, buffer);
        self.reader.check(read_at).map_err(|error| run_error(self.path(), error))?;
        let (Some(id), RunBytes::File(file)) = (self.id, &self.bytes) else { return Ok(()) };
        if packfile::hash_of(&**file)? != blake3::Hash::from_bytes(id.0) {
            let why = "its name is not that of its contents".to_owned();
            let source = FormatError::Malformed { what: "index run", why };
            return Err(RepositoryError::Damaged { path: self.path(), source });
        }
        Ok(())
    }

    /// Asks this run, or what stands in for it once one of its pages is damaged: an index is a cache, so damage in it
    /// must neither stop a restore nor hide a chunk.
    fn ask<T>(
        &self,
        mut question: impl FnMut(&Run) -> Result<T, RunError<StorageError>>,
    ) -> Result<T, RepositoryError> {
        if self.rebuilt.get().is_none() {
            match question(self) {
                Err(RunError::Format(error)) if self.id.is_some() => {
                    tracing::warn!(run = self.path(), %error, "damaged, its packs are read instead");
                }
                other => return other.map_err(|error| run_error(self.path(), error)),
            }
        }
        let rebuilt = self.rebuild()?;
        question(&rebuilt).map_err(|error| run_error(rebuilt.path(), error))
    }

    fn rebuild(&self) -> Result<Arc<Run>, RepositoryError> {
        if let Some(rebuilt) = self.rebuilt.get() {
            return Ok(rebuilt.clone());
        }
        let packs = self.packs().map_err(|error| run_error(self.path(), error))?;
        let packs: Vec<PackId> = packs.iter().map(|pack| pack.id).collect();
        let rebuilt = match self.stand_in {
            Some(make) => make(&self.repository, &packs, &LogMonitor)?,
            None => {
                let mut footers = Vec::new();
                for id in packs {
                    footers.extend(
                        packfile::read_footer(&self.repository, &id, &LogMonitor)?.map(|footer| (id, footer)),
                    );
                }
                Arc::new(Run::in_memory(&self.repository, &footers)?)
            }
        };
        Ok(self.rebuilt.get_or_init(|| rebuilt).clone())
    }

    /// This run if every page of it is sound, else what stands in for it.
    pub(crate) fn sound(self: &Arc<Self>) -> Result<Arc<Run>, RepositoryError> {
        match self.check() {
            Err(RepositoryError::Damaged { .. }) => self.rebuild(),
            other => other.map(|()| self.clone()),
        }
    }
}

pub(crate) fn run_error(path: String, error: RunError<StorageError>) -> RepositoryError {
    match error {
        RunError::Read(error) => RepositoryError::Storage(error),
        RunError::Format(source) => RepositoryError::decoding(path, source),
    }
}

/// Writes the run of these packs durably and opens it. Beside the packs it takes 36 bytes of memory for each chunk.
pub(crate) fn write_run(
    repository: &Repository,
    storage: &dyn Storage,
    packs: &[(PackId, PackFooter)],
) -> Result<Run, RepositoryError> {
    let mut file = Unnamed::create(storage)?;
    let id = encode(repository, packs, |bytes| file.append(storage, bytes))?;
    file.name(storage, &layout::run(&id))?;
    storage.sync_dir(layout::INDEX)?;
    Run::open_in(repository, storage, id).map_err(|error| run_error(layout::run(&id), error))
}

fn encode(
    repository: &Repository,
    packs: &[(PackId, PackFooter)],
    mut sink: impl FnMut(&[u8]) -> Result<(), RepositoryError>,
) -> Result<RunId, RepositoryError> {
    let failed = |source| RepositoryError::Encode { what: "an index run", source };
    let salt = Salt::generate().map_err(|error| failed(error.into()))?;
    let entries = sorted_entries(packs.iter().map(|(_, footer)| footer));
    let packs: Vec<RunPack> = packs.iter().map(|(id, footer)| RunPack::new(*id, footer)).collect();
    let mut out = Vec::new();
    let mut encoder =
        RunEncoder::new(repository.keys(), repository.id(), salt, &packs, entries.len() as u64, &mut out)
            .map_err(failed)?;
    for entry in entries {
        encoder.push(entry, &mut out).map_err(failed)?;
        if out.len() >= limits::WRITE_PIECE {
            sink(&out)?;
            out.clear();
        }
    }
    let id = encoder.finish(&mut out).map_err(failed)?;
    sink(&out)?;
    Ok(id)
}
