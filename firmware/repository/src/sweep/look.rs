//! What is needed and what is to become of the rest, looked at until nothing new turns out to be damaged. Follows
//! COMMIT.md, "Prune", steps 3 to 5 and "What cannot be read".

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use mailkeep_format::PackId;

use super::PruneOptions;
use super::decide::Decided;
use super::doubt::{Doubted, is_still_there};
use super::mark::Marks;
use super::plan::{Plan, Situation};
use crate::error::RepositoryError;
use crate::index::{Loaded, View};
use crate::monitor::{LogMonitor, Monitor};
use crate::reader::Reader;
use crate::repository::Repository;
use crate::snapshots::Manifests;

/// What is needed, and what is to be done about the rest.
pub(super) struct Looked {
    pub(super) marks: Marks,
    pub(super) plan: Plan,
}

impl Looked {
    /// Whether something of what stays cannot be read.
    pub(super) fn is_troubled(&self) -> bool {
        self.marks.trouble().any()
    }
}

/// The state of the disk that is looked at.
pub(super) struct Disk<'a> {
    pub(super) view: &'a Arc<View>,
    /// Free space, bytes, and whether there is less of it than a backup needs.
    pub(super) room: (u64, bool),
    pub(super) doubted: &'a Doubted,
}

/// Steps 3 to 5. Halts the sources whose newest snapshot turns out to be damaged: what stays of them is needed too.
pub(super) fn look(
    repository: &Repository,
    decided: &mut Decided,
    disk: &Disk<'_>,
    options: &PruneOptions,
    monitor: &dyn Monitor,
    pause: &mut dyn FnMut() -> Result<(), RepositoryError>,
) -> Result<Looked, RepositoryError> {
    let mut told = false;
    loop {
        let tell: &dyn Monitor = if told { &LogMonitor } else { monitor };
        let looked = look_once(repository, decided, disk, options, tell, pause)?;
        if looked.is_troubled() {
            is_still_there(repository)?;
            told = true;
        }
        if !decided.halt(looked.marks.troubled(), monitor) {
            return Ok(looked);
        }
    }
}

fn look_once(
    repository: &Repository,
    decided: &Decided,
    disk: &Disk<'_>,
    options: &PruneOptions,
    monitor: &dyn Monitor,
    pause: &mut dyn FnMut() -> Result<(), RepositoryError>,
) -> Result<Looked, RepositoryError> {
    let Manifests { entries, swept, highest, .. } = &decided.manifests;
    let Disk { view, room: (free, short), doubted } = *disk;
    let present = Loaded::load(repository, &LogMonitor)?.present;
    let mut sealed: HashMap<PackId, u64> = HashMap::new();
    for entry in entries {
        for pack in &entry.manifest.new_packs {
            sealed.insert(*pack, entry.manifest.generation);
        }
    }
    let owned = owned_packs(&decided.manifests);
    let unsealed: BTreeSet<PackId> = present.keys().filter(|id| !owned.contains(id)).copied().collect();
    let damaged = |id: &PackId| {
        doubted.packs().contains(id) || (view.distrusts(id) && !swept.tombstoned.contains_key(id))
    };
    let rank = |id: &PackId| match sealed.get(id) {
        _ if view.deleted().contains(id) => None,
        _ if damaged(id) => Some(Marks::DAMAGED),
        _ if swept.tombstoned.contains_key(id) => Some(1),
        Some(generation) => Some(generation.saturating_add(2)),
        None if unsealed.contains(id) => Some(u64::MAX),
        None => Some(2),
    };
    let staying = decided.staying();
    let reader = Reader::over(repository, Arc::new(Mutex::new(view.clone())));
    let mut marks = Marks::new(view, rank)?;
    for (id, length) in present.iter().filter(|(id, _)| swept.tombstoned.contains_key(id)) {
        marks.add_unindexed(*id, *length);
    }
    marks.walk(&reader, &staying, monitor, pause)?;
    let situation = Situation {
        swept,
        unsealed: &unsealed,
        damaged: &damaged,
        clock: options.clock,
        grace: options.grace.as_secs(),
        free,
        short,
        newest: staying.iter().map(|entry| entry.manifest.generation).max().unwrap_or(0),
        highest: *highest,
    };
    let plan = Plan::new(&marks, &situation);
    Ok(Looked { marks, plan })
}

/// Packs that a manifest or the sweep record knows.
fn owned_packs(manifests: &Manifests) -> HashSet<PackId> {
    let Manifests { entries, swept, .. } = manifests;
    let of_snapshots = entries.iter().flat_map(|entry| entry.manifest.new_packs.iter());
    of_snapshots.chain(&swept.packs).chain(swept.tombstoned.keys()).copied().collect()
}
