//! Prune: retention decides which snapshots go, the sweep gives their room back. Follows COMMIT.md, "Prune".
//!
//! `mark` looks, `plan` says what is to be done, `repack` copies, `delete` deletes; here is only the order of it.

mod delete;
mod mark;
mod plan;
mod repack;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailkeep_format::sweep::{RemovedSnapshot, SweepRecord, Tombstone};
use mailkeep_format::version::FORMAT_VERSION;
use mailkeep_format::{PackId, SnapshotId};

use crate::error::RepositoryError;
use crate::guard::{self, Hold};
use crate::index::{self, Loaded, View};
use crate::machine::Machine;
use crate::monitor::{Counting, LogMonitor, Monitor, Problem, Severity};
use crate::reader::Reader;
use crate::repository::Repository;
use crate::retention::{self, Candidate, Clock, Halt, Keep, Reason, Terms};
use crate::snapshots::{Manifests, SnapshotEntry};
use crate::storage::Storage;
use crate::verify::{ReadData, VerifyOptions, verify};
use crate::writer::{Writer, WriterOptions};
use crate::{limits, lock, reserve, swept};

use mark::Marks;
use plan::{Plan, Situation};

/// What is to be pruned, and how.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// The rules. Without one no snapshot goes, only what earlier runs have left is swept.
    pub keep: Keep,
    /// The time of the box.
    pub clock: Clock,
    /// A person has looked: what shrank was meant to shrink.
    pub accept_shrunk: bool,
    /// Only snapshots of this source.
    pub source: Option<String>,
    /// How long a pack stays after it was found to be unneeded.
    pub grace: Duration,
    /// Only tell: no lock is taken and nothing is written.
    pub dry_run: bool,
    /// Who writes, for the lease.
    pub machine: Machine,
    /// Program and version, for the record.
    pub program: String,
}

impl PruneOptions {
    /// The usual grace period and the clock of this machine, in UTC.
    pub fn new(keep: Keep) -> Self {
        PruneOptions {
            keep,
            clock: Clock { now: i64::try_from(lock::now()).unwrap_or(i64::MAX), offset: 0 },
            accept_shrunk: false,
            source: None,
            grace: Duration::from_secs(limits::GRACE_SECONDS),
            dry_run: false,
            machine: Machine::this(),
            program: concat!("mailkeep ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// What becomes of a snapshot, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruneLine {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its generation.
    pub generation: u64,
    /// Name of its source.
    pub source: String,
    /// When it was begun, seconds since 1970.
    pub time: i64,
    /// Taken from a quiescent source.
    pub consistent: bool,
    /// Files in it.
    pub files: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Why it stays; nothing if it goes.
    pub reasons: Vec<Reason>,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// All snapshots that were decided about, by generation.
    pub lines: Vec<PruneLine>,
    /// Sources of which nothing is removed now, and why.
    pub halts: Vec<(String, Halt)>,
    /// Packs in which nothing is needed any more.
    pub dead_packs: u64,
    /// Packs of which what is needed was copied.
    pub repacked_packs: u64,
    /// Bytes that were copied.
    pub copied_bytes: u64,
    /// Packs that were given up and turned out to be needed; they stay.
    pub revived_packs: u64,
    /// Packs that were deleted.
    pub deleted_packs: u64,
    /// Bytes of packs that were deleted.
    pub freed_bytes: u64,
    /// Bytes that become free when the grace period is over and a snapshot was sealed, less what is copied.
    pub later_bytes: u64,
    /// Bytes in packs that stay which nothing needs.
    pub waste_bytes: u64,
    /// The disk was short of room.
    pub short: bool,
}

impl PruneReport {
    /// How many snapshots go.
    pub fn removed(&self) -> u64 {
        self.lines.iter().filter(|line| line.reasons.is_empty()).count() as u64
    }
}

impl Repository {
    /// Removes the snapshots that no rule keeps, and sweeps.
    ///
    /// # Errors
    /// [`RepositoryError::Locked`] (11); [`RepositoryError::NotSwept`] and its kin (65) where something that must be
    /// known cannot be read: then nothing is removed.
    pub fn prune(
        &self,
        options: &PruneOptions,
        monitor: &dyn Monitor,
    ) -> Result<PruneReport, RepositoryError> {
        if options.dry_run {
            return rehearse(self, options, monitor);
        }
        match run(self, options, monitor) {
            // Not even the lease found room, or a record. The lock was ours, so the reserve is too.
            Err(RepositoryError::DiskFull { .. }) if reserve::release(&**self.storage())? => {
                run(self, options, monitor)
            }
            other => other,
        }
    }
}

/// What was decided about the snapshots.
struct Decided {
    manifests: Manifests,
    lines: Vec<PruneLine>,
    halts: Vec<(String, Halt)>,
    going: BTreeSet<SnapshotId>,
}

fn decide(
    repository: &Repository,
    options: &PruneOptions,
    monitor: &dyn Monitor,
) -> Result<Decided, RepositoryError> {
    let manifests = Manifests::load(repository, monitor)?;
    if manifests.incomplete {
        let why = "a manifest cannot be read, so what it needs is not known".to_owned();
        return Err(RepositoryError::NotSwept { why });
    }
    if manifests.swept.newer {
        let why = "a sweep record needs a newer version of mailkeep".to_owned();
        return Err(RepositoryError::NotSwept { why });
    }
    let asked = |entry: &&SnapshotEntry| {
        options.source.as_ref().is_none_or(|source| entry.manifest.source.name == *source)
    };
    let entries: Vec<&SnapshotEntry> = manifests.entries.iter().filter(asked).collect();
    let candidates: Vec<Candidate> = entries.iter().map(|entry| candidate(entry)).collect();
    let terms = Terms { keep: options.keep, clock: options.clock, accept_shrunk: options.accept_shrunk };
    let decision = retention::decide(&candidates, &terms);
    let mut lines = Vec::new();
    for (candidate, verdict) in candidates.into_iter().zip(decision.verdicts) {
        let Candidate { id, generation, source, time, consistent, files, bytes } = candidate;
        let reasons = verdict.reasons;
        lines.push(PruneLine { id, generation, source, time, consistent, files, bytes, reasons });
    }
    let going = lines.iter().filter(|line| line.reasons.is_empty()).map(|line| line.id).collect();
    for (source, halt) in &decision.halts {
        monitor.problem(&Problem::new(Severity::Note, source.as_str(), halt.to_string()));
    }
    Ok(Decided { manifests, lines, halts: decision.halts, going })
}

fn candidate(entry: &SnapshotEntry) -> Candidate {
    let manifest = &entry.manifest;
    Candidate {
        id: entry.id,
        generation: manifest.generation,
        source: manifest.source.name.clone(),
        time: manifest.started,
        consistent: manifest.consistent,
        files: manifest.stats.files,
        bytes: manifest.stats.bytes,
    }
}

/// What is needed, and what is to be done about the rest.
struct Looked {
    marks: Marks,
    plan: Plan,
}

/// Steps 3 to 5.
#[allow(clippy::too_many_arguments, reason = "the rehearsal and the run differ in each of them")]
fn look(
    repository: &Repository,
    view: &Arc<View>,
    decided: &Decided,
    present: &BTreeMap<PackId, u64>,
    (free, short): (u64, bool),
    options: &PruneOptions,
    monitor: &dyn Monitor,
    pause: impl FnMut() -> Result<(), RepositoryError>,
) -> Result<Looked, RepositoryError> {
    let Manifests { entries, swept, highest, .. } = &decided.manifests;
    let mut sealed: HashMap<PackId, u64> = HashMap::new();
    for entry in entries {
        for pack in &entry.manifest.new_packs {
            sealed.insert(*pack, entry.manifest.generation);
        }
    }
    let owned = owned_packs(&decided.manifests);
    let unsealed: BTreeSet<PackId> = present.keys().filter(|id| !owned.contains(id)).copied().collect();
    let damaged = |id: &PackId| view.distrusts(id) && !swept.tombstoned.contains_key(id);
    let rank = |id: &PackId| match sealed.get(id) {
        _ if view.deleted().contains(id) => None,
        _ if damaged(id) => Some(0),
        _ if swept.tombstoned.contains_key(id) => Some(1),
        Some(generation) => Some(generation.saturating_add(2)),
        None if unsealed.contains(id) => Some(u64::MAX),
        None => Some(2),
    };
    let staying: Vec<&SnapshotEntry> =
        entries.iter().filter(|entry| !decided.going.contains(&entry.id)).collect();
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

fn report(decided: Decided, plan: &Plan, short: bool) -> PruneReport {
    PruneReport {
        lines: decided.lines,
        halts: decided.halts,
        dead_packs: plan.dead.len() as u64,
        repacked_packs: plan.repack.len() as u64,
        copied_bytes: plan.repack.iter().map(|pack| pack.live).sum(),
        revived_packs: plan.revived.len() as u64,
        deleted_packs: plan.due.len() as u64,
        freed_bytes: plan.freed(),
        later_bytes: plan.freed_later(),
        waste_bytes: plan.waste,
        short,
    }
}

fn room(storage: &dyn Storage) -> Result<(u64, bool), RepositoryError> {
    let free = storage.free_space()?;
    Ok((free, free < limits::ROOM_SHORT))
}

/// What a prune would do. Reads only.
fn rehearse(
    repository: &Repository,
    options: &PruneOptions,
    monitor: &dyn Monitor,
) -> Result<PruneReport, RepositoryError> {
    let decided = decide(repository, options, monitor)?;
    let room = room(&**repository.storage())?;
    let present = Loaded::load(repository, &LogMonitor)?.present;
    let view = Arc::new(View::load(repository, monitor)?);
    let looked = look(repository, &view, &decided, &present, room, options, monitor, || Ok(()))?;
    Ok(report(decided, &looked.plan, room.1))
}

/// Packs that a manifest or the sweep record knows.
fn owned_packs(manifests: &Manifests) -> HashSet<PackId> {
    let Manifests { entries, swept, .. } = manifests;
    let of_snapshots = entries.iter().flat_map(|entry| entry.manifest.new_packs.iter());
    of_snapshots.chain(&swept.packs).chain(swept.tombstoned.keys()).copied().collect()
}

fn run(
    repository: &Repository,
    options: &PruneOptions,
    monitor: &dyn Monitor,
) -> Result<PruneReport, RepositoryError> {
    let monitor = Counting::new(monitor);
    let monitor: &dyn Monitor = &monitor;
    let writer_options = WriterOptions { machine: options.machine.clone(), ..WriterOptions::default() };
    let (_, short) = room(&**repository.storage())?;
    let mut writer = Writer::open_for_sweep(repository, &writer_options, short, monitor)?;
    let storage = writer.disk().clone();
    let storage: &dyn Storage = &*storage;
    if short {
        make_room(storage)?;
    }
    let (free, short) = room(storage)?;
    let decided = decide(repository, options, monitor)?;
    let view = writer.known().clone();
    let before = writer.unsealed().clone();
    let present = Loaded::load(repository, &LogMonitor)?.present;
    let pause = || writer.renew();
    let Looked { marks, plan } =
        look(repository, &view, &decided, &present, (free, short), options, monitor, pause)?;
    if decided.going.is_empty() && plan.is_idle() && view.deleted().is_empty() {
        reserve::ensure(storage, view.pack_count());
        return Ok(report(decided, &plan, short));
    }

    let highest = decided.manifests.highest;
    let hold = Hold::take(storage, highest, monitor);
    if !plan.repack.is_empty() {
        repack::repack(repository, &mut writer, &marks, &plan.repack, monitor)?;
    }
    let copied: BTreeSet<PackId> = writer.unsealed().difference(&before).copied().collect();
    let given_up: HashSet<PackId> = plan.dead.iter().chain(&plan.repack).map(|pack| pack.id).collect();
    delete::witnesses(storage, &marks.witnesses(&given_up), monitor)?;
    storage.flush_device()?;
    writer.confirm()?;

    let staying: BTreeSet<SnapshotId> = decided
        .manifests
        .entries
        .iter()
        .map(|entry| entry.id)
        .filter(|id| !decided.going.contains(id))
        .collect();
    if !decided.going.is_empty() || !given_up.is_empty() || !plan.revived.is_empty() {
        let record = record(repository, options, &decided, &plan, &view, &copied)?;
        if short {
            reserve::release(storage)?;
        }
        swept::write(repository, storage, &record)?;
        storage.flush_device()?;
        let going: Vec<(u64, SnapshotId)> = decided
            .lines
            .iter()
            .filter(|line| line.reasons.is_empty())
            .map(|line| (line.generation, line.id))
            .collect();
        delete::manifests(repository, storage, &going)?;
        swept::remove_older(storage, &decided.manifests.swept, record.sequence)?;
    }
    let due: BTreeSet<PackId> = plan.due.iter().map(|pack| pack.id).collect();
    if !due.is_empty() {
        writer.confirm()?;
        delete::packs(repository, storage, &due, &marks, &staying, monitor)?;
        tracing::info!(packs = due.len(), bytes = plan.freed(), "deleted");
    }
    let gone: HashSet<PackId> = due.iter().chain(view.deleted()).copied().collect();
    if !gone.is_empty() {
        // As it is now: a repack has added runs.
        index::without(repository, storage, writer.known(), &gone)?;
    }
    storage.flush_device()?;
    let newest = decided.manifests.entries.last().map(|entry| (entry.manifest.generation, entry.id));
    if hold.guards() {
        let found = verify(repository, VerifyOptions { read: ReadData::Structure }, &LogMonitor)?;
        if found.lost() {
            // The guard stays: it has what is missing.
            let why = "what stays is not whole; the guard from before is kept".to_owned();
            return Err(RepositoryError::NotSwept { why });
        }
    }
    hold.release(storage, newest, monitor);
    reserve::ensure(storage, writer.known().pack_count());
    Ok(report(decided, &plan, short))
}

/// On a disk short of room: guards hold the room of what was deleted before.
fn make_room(storage: &dyn Storage) -> Result<(), RepositoryError> {
    guard::make_room(storage, guard::Room::Older)?;
    if room(storage)?.1 {
        guard::make_room(storage, guard::Room::All)?;
    }
    Ok(())
}

/// The whole state after this prune.
fn record(
    repository: &Repository,
    options: &PruneOptions,
    decided: &Decided,
    plan: &Plan,
    view: &View,
    copied: &BTreeSet<PackId>,
) -> Result<SweepRecord, RepositoryError> {
    let Manifests { entries, swept, highest, .. } = &decided.manifests;
    let present: BTreeSet<PackId> = Loaded::load(repository, &LogMonitor)?.present.into_keys().collect();
    let mut removed: Vec<RemovedSnapshot> = swept.pruned.values().cloned().collect();
    let mut packs: BTreeSet<PackId> = swept.packs.union(copied).copied().collect();
    for entry in entries.iter().filter(|entry| decided.going.contains(&entry.id)) {
        removed.push(RemovedSnapshot {
            generation: entry.manifest.generation,
            id: entry.id,
            source: entry.manifest.source.name.clone(),
        });
        packs.extend(&entry.manifest.new_packs);
    }
    removed.sort();
    let mut tombstoned: BTreeMap<PackId, Tombstone> = swept.tombstoned.clone();
    // Of what is deleted nobody needs to be told once no run names it.
    tombstoned.retain(|id, _| present.contains(id) || view.deleted().contains(id));
    for id in &plan.revived {
        tombstoned.remove(id);
        packs.insert(*id);
    }
    for pack in plan.dead.iter().chain(&plan.repack) {
        let tomb = Tombstone { pack: pack.id, generation: *highest, time: options.clock.now };
        tombstoned.insert(pack.id, tomb);
    }
    packs.retain(|id| present.contains(id) && !tombstoned.contains_key(id));
    Ok(SweepRecord {
        format_version: FORMAT_VERSION,
        required_features: Vec::new(),
        repository: repository.id(),
        sequence: swept.sequence.saturating_add(1),
        generation: *highest,
        time: options.clock.now,
        program: options.program.clone(),
        removed,
        tombstoned: tombstoned.into_values().collect(),
        packs: packs.into_iter().collect(),
    })
}
