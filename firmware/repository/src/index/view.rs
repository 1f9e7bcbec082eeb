//! What can be found as of one moment: the runs on the disk, and packs that no run names yet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use mailkeep_format::run::{Location, RunError};
use mailkeep_format::{ChunkId, PackId, RunId};

use super::merge::merge_small;
use super::run::Run;
use super::scratch;
use crate::error::RepositoryError;
use crate::monitor::{LogMonitor, Monitor, Problem, Severity};
use crate::repository::Repository;
use crate::storage::{Storage, StorageError};
use crate::verified::Verified;
use crate::{layout, swept};

/// How often a listing is repeated when a writer beside this reader merges runs under it.
const LISTINGS: usize = 5;

/// How often a run is asked for before the disk is taken not to give it: of a pack whose own table of contents is damaged
/// nobody else knows what lies in it.
const RUN_ATTEMPTS: u32 = 3;

/// What can be found, as of one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Newest first.
    pub(super) runs: Vec<Arc<Run>>,
    /// Packs that are known to be damaged or whose length is not what it was, and those that prune may delete: read from,
    /// but never relied on for new snapshots.
    pub(super) distrusted: HashSet<PackId>,
    /// Packs that prune has deleted while runs still name them.
    pub(super) deleted: HashSet<PackId>,
}

impl View {
    /// Whether a sound pack has the chunk.
    pub(crate) fn contains(&self, id: &ChunkId) -> Result<bool, RepositoryError> {
        for run in &self.runs {
            // The places are only looked up for what is there: that costs more.
            let sound = run.contains(id)?
                && (self.distrusted.is_empty()
                    || run.find_all(id)?.iter().any(|place| !self.distrusted.contains(&place.pack)));
            if sound {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The plain length of the chunk, if it is known.
    pub(crate) fn length_of(&self, id: &ChunkId) -> Result<Option<u32>, RepositoryError> {
        for run in &self.runs {
            if run.contains(id)? {
                let places = run.find_all(id)?;
                let trusted = places.iter().find(|place| !self.distrusted.contains(&place.pack));
                if let Some(place) = trusted {
                    return Ok(Some(place.length));
                }
            }
        }
        Ok(None)
    }

    /// Every place of the chunk.
    pub(crate) fn places(&self, id: &ChunkId) -> Result<Vec<Location>, RepositoryError> {
        self.places_in_turn(id).collect()
    }

    /// As [`View::places`], one after the other: whoever finds the chunk in the first place does not ask the other runs.
    pub(crate) fn places_in_turn<'a>(
        &'a self,
        id: &'a ChunkId,
    ) -> impl Iterator<Item = Result<Location, RepositoryError>> + 'a {
        self.runs.iter().flat_map(|run| {
            let (places, trouble) = match run.find_all(id) {
                Ok(places) => (places, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            let there = places.into_iter().filter(|place| !self.deleted.contains(&place.pack));
            there.map(Ok).chain(trouble)
        })
    }

    /// A place of each of these chunks, which ascend: hands out the index of each that is found, what `known` made of the
    /// block that it lies in, and where it begins there; perhaps more than once, and then the first is the one that
    /// [`View::places_in_turn`] begins with. Costs a page of the index once, however many are looked for in it. A run that
    /// cannot be read is passed over: trouble is met again, and told, by whoever asks for a chunk alone.
    pub(crate) fn locate<B: Copy>(
        &self,
        ids: &[ChunkId],
        mut known: impl FnMut(&Location) -> B,
        mut each: impl FnMut(usize, B, u32),
    ) {
        let mut left: Vec<u32> = (0..ids.len() as u32).collect();
        let mut wanted = ids.to_vec();
        let mut found = vec![false; ids.len()];
        for run in &self.runs {
            let there = |place: &Location| (!self.deleted.contains(&place.pack)).then(|| known(place));
            let asked = run.find_places(&wanted, there, |index, block, offset| {
                if let Some(block) = block {
                    found[left[index] as usize] = true;
                    each(left[index] as usize, block, offset);
                }
            });
            if let Err(error) = asked {
                tracing::warn!(
                    run = run.path(),
                    error = crate::error::chain(&error),
                    "this run cannot be asked"
                );
            }
            left.retain(|index| !found[*index as usize]);
            if left.is_empty() {
                break;
            }
            wanted.clear();
            wanted.extend(left.iter().map(|index| ids[*index as usize]));
        }
    }

    /// Which of these chunks lie nowhere; sorts them. Costs a page of the index once, however many are looked for in it.
    pub(crate) fn absent(&self, ids: &mut Vec<ChunkId>) -> Result<Vec<ChunkId>, RepositoryError> {
        ids.sort_unstable();
        ids.dedup();
        let mut found = vec![false; ids.len()];
        for run in &self.runs {
            run.find_outside(&self.deleted, ids, |index| found[index] = true)?;
        }
        Ok(ids.iter().zip(&found).filter(|(_, found)| !**found).map(|(id, _)| *id).collect())
    }

    /// With one more run.
    pub(crate) fn with(&self, run: Run) -> View {
        let mut view = self.clone();
        view.runs.insert(0, Arc::new(run));
        view
    }

    /// Relying on these packs no longer.
    pub(crate) fn distrusting(&self, packs: &BTreeSet<PackId>) -> View {
        let mut view = self.clone();
        view.distrusted.extend(packs);
        view
    }

    /// The runs, for a check of all of them.
    pub(crate) fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// How many packs the runs name.
    pub(crate) fn pack_count(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.reader.pack_count())).sum()
    }

    /// Whether this pack is not to be relied on: damaged, or about to go.
    pub(crate) fn distrusts(&self, pack: &PackId) -> bool {
        self.distrusted.contains(pack)
    }

    /// Packs that runs name but that prune has deleted: what a run says of them means nothing.
    pub(crate) fn deleted(&self) -> &HashSet<PackId> {
        &self.deleted
    }

    /// For reading: runs, and an index for packs that no run names, made for this reader.
    pub(crate) fn load(repository: &Repository, monitor: &dyn Monitor) -> Result<View, RepositoryError> {
        let Loaded { mut view, unindexed, .. } = Loaded::load(repository, monitor)?;
        view.runs.extend(scratch::index_of(repository, &unindexed, monitor)?);
        Ok(view)
    }
}

/// Merges runs on the disk until a lookup has few to ask; gives the view over what is left.
pub(crate) fn merge(
    repository: &Repository,
    storage: &dyn Storage,
    view: &View,
) -> Result<View, RepositoryError> {
    let runs = merge_small(repository, storage, view.runs.clone())?;
    Ok(View { runs, ..view.clone() })
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
                Err(RepositoryError::Storage(error)) if error.is_not_found() && attempt < LISTINGS => {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn try_load(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, RepositoryError> {
        let storage = &**repository.storage();
        // Runs first: a writer adds packs before the run that names them, so no run of this list is ahead of the packs.
        let mut runs = Vec::new();
        for entry in list_or_empty(storage, layout::INDEX, monitor)? {
            match entry.parse::<RunId>() {
                Ok(id) => runs.push(id),
                Err(_) => not_ours(monitor, &format!("{}/{entry}", layout::INDEX)),
            }
        }
        let mut opened = Vec::new();
        for id in runs {
            let open = || {
                Run::open(repository, id).and_then(|run| Ok((run.packs()?, run.standing_in(scratch::run_of))))
            };
            let mut listed = open();
            for _ in 1..RUN_ATTEMPTS {
                if matches!(&listed, Err(RunError::Read(error)) if !error.is_not_found()) {
                    listed = open();
                }
            }
            opened.push((id, listed));
        }
        let present = list_packs(storage, monitor)?;
        // After the packs: of one that prune deletes beside this reader it is then known that it is not needed. What is
        // wrong with the record was told by whoever listed the manifests.
        let tombstoned = swept::load(repository, &LogMonitor)?.tombstoned;
        let mut loaded = Loaded { view: View::default(), unindexed: Vec::new(), present, stale: Vec::new() };
        let verified = Verified::load(repository, monitor)?;
        let known_damaged = verified.damaged_packs().iter().filter(|id| loaded.present.contains_key(*id));
        loaded.view.distrusted = known_damaged.copied().collect();
        let mut named = BTreeSet::new();
        let mut sound = Vec::new();
        for (id, listed) in opened {
            let (packs, run) = match listed {
                Ok(listed) => listed,
                Err(RunError::Read(error)) if error.is_not_found() => return Err(error.into()),
                Err(error) => {
                    let what = format!("this index run is unusable, packs are read instead: {error}");
                    monitor.problem(&Problem::new(Severity::Covered, layout::run(&id), what));
                    loaded.stale.push(id);
                    continue;
                }
            };
            let (swept, gone): (Vec<_>, Vec<_>) = packs
                .iter()
                .map(|pack| pack.id)
                .filter(|id| !loaded.present.contains_key(id))
                .partition(|id| tombstoned.contains_key(id));
            if !gone.is_empty() {
                let gone = gone.len();
                let what = format!("{gone} of the packs it names are gone; it is made again");
                monitor.problem(&Problem::new(Severity::Lost, layout::run(&id), what));
                loaded.stale.push(id);
                continue;
            }
            loaded.view.deleted.extend(swept);
            for pack in packs.iter().filter(|pack| loaded.present.contains_key(&pack.id)) {
                let length = loaded.present.get(&pack.id).copied().unwrap_or(0);
                if length != pack.length {
                    loaded.view.distrusted.insert(pack.id);
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
        let unknown = |id: &&PackId| !named.contains(*id) && !tombstoned.contains_key(*id);
        loaded.unindexed = loaded.present.keys().filter(unknown).copied().collect();
        loaded.view.distrusted.extend(tombstoned.into_keys());
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
