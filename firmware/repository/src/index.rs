//! Which chunk lies where: the index runs on the disk, and packs that no run names yet.
//!
//! The index is a cache. A run that is damaged or names a pack which is gone is not used; the packs that it named are
//! read from their footers again, and the next writer writes a new run. What is not here is never claimed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use mailkeep_format::pack::PackFooter;
use mailkeep_format::run::{Location, RunEncoder, RunEntry, RunError, RunPack, RunReader, encode_run};
use mailkeep_format::{ChunkId, FormatError, PackId, RunId, Salt};

use crate::durable::Unnamed;
use crate::error::RepositoryError;
use crate::filter::Filter;
use crate::monitor::{LogMonitor, Monitor, Phase, Problem, Severity};
use crate::repository::Repository;
use crate::storage::{ReadFile, Storage, StorageError};
use crate::{layout, limits, packfile};

/// How often a listing is repeated when a writer beside this reader merges runs under it.
const LISTINGS: usize = 5;

/// One run, open.
pub(crate) struct Run {
    /// Its name; `None` for one that is only in memory.
    id: Option<RunId>,
    bytes: RunBytes,
    reader: RunReader,
    repository: Repository,
    /// Made from the footers of its packs, once a page of this run has turned out to be damaged.
    rebuilt: OnceLock<Arc<Run>>,
    /// How often this run was asked for a chunk, and what it costs less to ask once that was often.
    asked: AtomicU64,
    filter: OnceLock<Filter>,
}

enum RunBytes {
    File(Box<dyn ReadFile>),
    Memory(Vec<u8>),
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run({:?}, {} entries)", self.id, self.reader.entry_count())
    }
}

impl RunBytes {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
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
        let file = repository.storage().open(&layout::run(&id)).map_err(RunError::Read)?;
        let length = file.length();
        Run::over(repository, Some(id), RunBytes::File(file), length)
    }

    fn in_memory(repository: &Repository, packs: &[(PackId, PackFooter)]) -> Result<Self, RepositoryError> {
        let (bytes, _) = encode(repository, packs)?;
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
            rebuilt: OnceLock::new(),
            asked: AtomicU64::new(0),
            filter: OnceLock::new(),
        })
    }

    /// Where it lies, for people.
    pub(crate) fn path(&self) -> String {
        self.id.map_or_else(|| "an index in memory".to_owned(), |id| layout::run(&id))
    }

    fn packs(&self) -> Result<Vec<RunPack>, RunError<StorageError>> {
        self.reader.packs(|offset, buffer| self.bytes.read_at(offset, buffer))
    }

    fn contains(&self, id: &ChunkId) -> Result<bool, RepositoryError> {
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

    fn find_all(&self, id: &ChunkId) -> Result<Vec<Location>, RepositoryError> {
        self.ask(|run| run.reader.find_all(id, |offset, buffer| run.bytes.read_at(offset, buffer)))
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
        let mut footers = Vec::new();
        for pack in self.packs().map_err(|error| run_error(self.path(), error))? {
            if let Some(footer) = read_footer(&self.repository, &pack.id, &LogMonitor)? {
                footers.push((pack.id, footer));
            }
        }
        let rebuilt = Arc::new(Run::in_memory(&self.repository, &footers)?);
        Ok(self.rebuilt.get_or_init(|| rebuilt).clone())
    }

    /// This run if every page of it is sound, else what stands in for it.
    fn sound(self: &Arc<Self>) -> Result<Arc<Run>, RepositoryError> {
        match self.check() {
            Err(RepositoryError::Damaged { .. }) => self.rebuild(),
            other => other.map(|()| self.clone()),
        }
    }
}

fn run_error(path: String, error: RunError<StorageError>) -> RepositoryError {
    match error {
        RunError::Read(error) => RepositoryError::Storage(error),
        RunError::Format(source) => RepositoryError::decoding(path, source),
    }
}

fn encode(
    repository: &Repository,
    packs: &[(PackId, PackFooter)],
) -> Result<(Vec<u8>, RunId), RepositoryError> {
    let failed = |source| RepositoryError::Encode { what: "an index run", source };
    let salt = Salt::generate().map_err(|error| failed(error.into()))?;
    let packs: Vec<(PackId, &PackFooter)> = packs.iter().map(|(id, footer)| (*id, footer)).collect();
    encode_run(repository.keys(), repository.id(), salt, &packs).map_err(failed)
}

/// Writes the run of these packs durably and opens it.
pub(crate) fn write_run(
    repository: &Repository,
    storage: &dyn Storage,
    packs: &[(PackId, PackFooter)],
) -> Result<Run, RepositoryError> {
    let (bytes, id) = encode(repository, packs)?;
    crate::durable::write_once(storage, &layout::run(&id), &bytes)?;
    Run::open(repository, id).map_err(|error| run_error(layout::run(&id), error))
}

/// What can be found, as of one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Newest first.
    runs: Vec<Arc<Run>>,
    /// Packs whose length is not what it was: read from, but never relied on for new snapshots.
    distrusted: HashSet<PackId>,
}

impl View {
    /// Whether a sound pack has the chunk.
    pub(crate) fn contains(&self, id: &ChunkId) -> Result<bool, RepositoryError> {
        if !self.distrusted.is_empty() {
            return Ok(self.places(id)?.iter().any(|place| !self.distrusted.contains(&place.pack)));
        }
        for run in &self.runs {
            if run.contains(id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Every place of the chunk, the newest first.
    pub(crate) fn places(&self, id: &ChunkId) -> Result<Vec<Location>, RepositoryError> {
        let mut places = Vec::new();
        for run in &self.runs {
            places.append(&mut run.find_all(id)?);
        }
        Ok(places)
    }

    /// With one more run.
    pub(crate) fn with(&self, run: Run) -> View {
        let mut view = self.clone();
        view.runs.insert(0, Arc::new(run));
        view
    }

    /// The runs, for a check of all of them.
    pub(crate) fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// For reading: runs, and an index in memory for packs that no run names.
    pub(crate) fn load(repository: &Repository, monitor: &dyn Monitor) -> Result<View, RepositoryError> {
        let Loaded { mut view, unindexed, .. } = Loaded::load(repository, monitor)?;
        let total = unindexed.len() as u64;
        let mut batch = Vec::new();
        let mut chunks = 0;
        for (done, id) in (0..).zip(&unindexed) {
            monitor.progress(Phase::Index, done, total);
            if let Some(footer) = read_footer(repository, id, monitor)? {
                chunks += footer.chunk_count();
                batch.push((*id, footer));
            }
            if chunks > limits::SESSION_CHUNKS {
                view = view.with(Run::in_memory(repository, &batch)?);
                batch.clear();
                chunks = 0;
            }
        }
        if !batch.is_empty() {
            view = view.with(Run::in_memory(repository, &batch)?);
        }
        Ok(view)
    }
}

/// The footer of a pack; `None`, reported, if it is damaged.
pub(crate) fn read_footer(
    repository: &Repository,
    id: &PackId,
    monitor: &dyn Monitor,
) -> Result<Option<PackFooter>, RepositoryError> {
    match packfile::open(repository, id) {
        Ok(pack) => Ok(Some(pack.footer)),
        Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::Storage(_))) => {
            let what = format!("its contents cannot be found: {}", crate::error::chain(&error));
            monitor.problem(&Problem::new(Severity::Lost, layout::pack(id), what));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What lies in `index/` and `packs/`.
pub(crate) struct Loaded {
    /// The runs that can be relied on.
    pub(crate) view: View,
    /// Packs on the disk that no such run names.
    pub(crate) unindexed: Vec<PackId>,
    /// All packs on the disk, with their lengths.
    pub(crate) present: BTreeMap<PackId, u64>,
    /// Runs that cannot be relied on.
    pub(crate) stale: Vec<RunId>,
}

impl Loaded {
    pub(crate) fn load(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, RepositoryError> {
        let mut attempt = 1;
        loop {
            match Loaded::try_load(repository, monitor) {
                // A run was merged away between listing and opening.
                Err(RunError::Read(error)) if error.is_not_found() && attempt < LISTINGS => attempt += 1,
                Err(error) => return Err(run_error(layout::INDEX.to_owned(), error)),
                Ok(loaded) => return Ok(loaded),
            }
        }
    }

    fn try_load(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, RunError<StorageError>> {
        let storage = &**repository.storage();
        // Runs first: a writer adds packs before the run that names them, so no run of this list is ahead of the packs.
        let mut runs = Vec::new();
        for entry in list_or_empty(storage, layout::INDEX, monitor).map_err(RunError::Read)? {
            match entry.parse::<RunId>() {
                Ok(id) => runs.push(id),
                Err(_) => not_ours(monitor, &format!("{}/{entry}", layout::INDEX)),
            }
        }
        let mut opened = Vec::new();
        for id in runs {
            let listed = Run::open(repository, id).and_then(|run| Ok((run.packs()?, run)));
            opened.push((id, listed));
        }
        let present = list_packs(storage, monitor).map_err(RunError::Read)?;
        let mut loaded = Loaded { view: View::default(), unindexed: Vec::new(), present, stale: Vec::new() };
        let mut named = BTreeSet::new();
        let mut sound = Vec::new();
        for (id, listed) in opened {
            let (packs, run) = match listed {
                Ok(listed) => listed,
                Err(RunError::Read(error)) if error.is_not_found() => return Err(RunError::Read(error)),
                Err(error) => {
                    let what = format!("this index run is unusable, packs are read instead: {error}");
                    monitor.problem(&Problem::new(Severity::Covered, layout::run(&id), what));
                    loaded.stale.push(id);
                    continue;
                }
            };
            let gone = packs.iter().filter(|pack| !loaded.present.contains_key(&pack.id)).count();
            if gone > 0 {
                let what = format!("{gone} of the packs it names are gone; it is made again");
                monitor.problem(&Problem::new(Severity::Lost, layout::run(&id), what));
                loaded.stale.push(id);
                continue;
            }
            for pack in &packs {
                let length = loaded.present.get(&pack.id).copied().unwrap_or(0);
                if length != pack.length && loaded.view.distrusted.insert(pack.id) {
                    let what = format!("it is {length} bytes long instead of {}", pack.length);
                    monitor.problem(&Problem::new(Severity::Lost, layout::pack(&pack.id), what));
                }
                named.insert(pack.id);
            }
            sound.push(run);
        }
        // The largest run has most of what is asked for.
        sound.sort_by_key(|run| Reverse(run.reader.entry_count()));
        loaded.view.runs = sound.into_iter().map(Arc::new).collect();
        loaded.unindexed = loaded.present.keys().filter(|id| !named.contains(id)).copied().collect();
        Ok(loaded)
    }
}

/// All packs on the disk with their lengths.
fn list_packs(storage: &dyn Storage, monitor: &dyn Monitor) -> Result<BTreeMap<PackId, u64>, StorageError> {
    let mut packs = BTreeMap::new();
    for folder in storage.list(layout::PACKS)? {
        let path = format!("{}/{}", layout::PACKS, folder.name);
        if !folder.directory {
            not_ours(monitor, &path);
            continue;
        }
        for entry in storage.list(&path)? {
            match entry.name.parse::<PackId>() {
                Ok(id) if !entry.directory && layout::pack_folder(&id) == path => {
                    packs.insert(id, entry.length);
                }
                _ => not_ours(monitor, &format!("{path}/{}", entry.name)),
            }
        }
    }
    Ok(packs)
}

fn list_or_empty(
    storage: &dyn Storage,
    path: &str,
    monitor: &dyn Monitor,
) -> Result<Vec<String>, StorageError> {
    match storage.list(path) {
        Ok(entries) => Ok(entries.into_iter().map(|entry| entry.name).collect()),
        // Only for a cache: a listing that fails otherwise is never read as "empty".
        Err(error) if error.is_not_found() => {
            let what = "this folder is missing; the index is made again from the packs".to_owned();
            monitor.problem(&Problem::new(Severity::Note, path, what));
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn not_ours(monitor: &dyn Monitor, path: &str) {
    let what = "this is not a file of mailkeep; it is left alone".to_owned();
    monitor.problem(&Problem::new(Severity::Note, path, what));
}

/// Merges runs until a lookup has few to ask; gives the view over what is left. Small ones go first, so that every entry
/// is rewritten a logarithmic number of times.
pub(crate) fn merge(
    repository: &Repository,
    storage: &dyn Storage,
    view: &View,
) -> Result<View, RepositoryError> {
    if view.runs.len() <= limits::RUNS_MAX {
        return Ok(view.clone());
    }
    let mut runs = view.runs.clone();
    runs.sort_by_key(|run| run.reader.entry_count());
    let (mut count, mut sum) = (0, 0);
    for run in &runs {
        let entries = run.reader.entry_count();
        if count >= 2 && runs.len() - count < limits::RUNS_MAX && entries > 2 * sum {
            break;
        }
        count += 1;
        sum += entries;
    }
    let kept = runs.split_off(count);
    let sound: Vec<Arc<Run>> = runs.iter().map(Run::sound).collect::<Result<_, _>>()?;
    let merged = merge_runs(repository, storage, &sound)?;
    let mut left = View { runs: kept, distrusted: view.distrusted.clone() };
    left.runs.push(Arc::new(merged));
    left.runs.sort_by_key(|run| Reverse(run.reader.entry_count()));
    for id in runs.iter().filter_map(|run| run.id) {
        crate::durable::remove(storage, &layout::run(&id))?;
    }
    storage.sync_dir(layout::INDEX)?;
    Ok(left)
}

/// Writes one run with everything that is in these, going through them side by side, a page of each in memory.
fn merge_runs(
    repository: &Repository,
    storage: &dyn Storage,
    runs: &[Arc<Run>],
) -> Result<Run, RepositoryError> {
    let failed = |source| RepositoryError::Encode { what: "an index run", source };
    let mut packs: Vec<RunPack> = Vec::new();
    // Where the blocks of each run begin in the merged one. A pack that two runs name is kept twice: rare, and sound.
    let mut first_block = Vec::new();
    let mut blocks = 0u32;
    for run in runs {
        first_block.push(blocks);
        for pack in run.packs().map_err(|error| run_error(run.path(), error))? {
            blocks = blocks.saturating_add(pack.blocks.len() as u32);
            packs.push(pack);
        }
    }
    let total: u64 = runs.iter().map(|run| run.reader.entry_count()).sum();
    let mut out = Vec::new();
    let salt = Salt::generate().map_err(|error| failed(error.into()))?;
    let mut encoder =
        RunEncoder::new(repository.keys(), repository.id(), salt, &packs, total, &mut out).map_err(failed)?;
    drop(packs);
    let mut file = Unnamed::create(storage)?;
    let mut cursors =
        runs.iter().zip(first_block).map(|(run, first)| Cursor::new(run, first)).collect::<Vec<_>>();
    let mut heap: BinaryHeap<Reverse<(RunEntry, usize)>> = BinaryHeap::new();
    for (number, cursor) in cursors.iter_mut().enumerate() {
        heap.extend(cursor.next()?.map(|entry| Reverse((entry, number))));
    }
    while let Some(Reverse((entry, number))) = heap.pop() {
        encoder.push(entry, &mut out).map_err(failed)?;
        heap.extend(cursors[number].next()?.map(|entry| Reverse((entry, number))));
        if out.len() > limits::READ_BUFFER {
            file.append(storage, &out)?;
            out.clear();
        }
    }
    let id = encoder.finish(&mut out).map_err(failed)?;
    file.append(storage, &out)?;
    file.name(storage, &layout::run(&id))?;
    storage.sync_dir(layout::INDEX)?;
    Run::open(repository, id).map_err(|error| run_error(layout::run(&id), error))
}

/// Goes through the entries of one run.
struct Cursor<'a> {
    run: &'a Run,
    /// What its blocks are counted from in the merged run.
    first_block: u32,
    next_page: u64,
    page: std::vec::IntoIter<RunEntry>,
}

impl<'a> Cursor<'a> {
    fn new(run: &'a Run, first_block: u32) -> Self {
        Cursor { run, first_block, next_page: 0, page: Vec::new().into_iter() }
    }

    fn next(&mut self) -> Result<Option<RunEntry>, RepositoryError> {
        let Cursor { run, first_block, next_page, page } = self;
        if page.len() == 0 && *next_page < run.reader.entry_pages() {
            let read_at = |offset, buffer: &mut [u8]| run.bytes.read_at(offset, buffer);
            *page = run
                .reader
                .entry_page(*next_page, read_at)
                .map_err(|error| run_error(run.path(), error))?
                .into_iter();
            *next_page += 1;
        }
        Ok(page.next().map(|entry| RunEntry { block: entry.block + *first_block, ..entry }))
    }
}
