//! Prune: retention decides which snapshots go, the sweep gives their room back. Follows COMMIT.md, "Prune".
//!
//! `decide` says which snapshots go, `mark` and `look` what is needed, `plan` what is to be done, `repack` copies, `record`
//! removes, `delete` deletes; here is only the order of it.

mod decide;
mod delete;
mod doubt;
mod look;
mod mark;
mod plan;
mod record;
mod repack;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mailkeep_format::{PackId, SnapshotId};

use crate::error::RepositoryError;
use crate::guard::{self, Hold};
use crate::index::{self, Loaded, View};
use crate::machine::Machine;
use crate::monitor::{Counting, LogMonitor, Monitor, Severity};
use crate::repository::Repository;
use crate::retention::{Clock, Halt, Keep, Reason};
use crate::storage::Storage;
use crate::verified::Verified;
use crate::verify::{ReadData, VerifyOptions, verify};
use crate::writer::{Writer, WriterOptions};
use crate::{limits, lock, reserve, swept};

use decide::{Decided, decide};
use delete::Proof;
use doubt::{Doubted, is_still_there};
use look::{Disk, Looked, look};

/// What is to be pruned, and how.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// The rules. Without one no snapshot goes, only what earlier runs have left is swept.
    pub keep: Keep,
    /// The time of the box.
    pub clock: Clock,
    /// A person has looked: what shrank was meant to shrink.
    pub accept_shrunk: bool,
    /// Only snapshots of these sources; of all, if it is empty.
    pub sources: BTreeSet<String>,
    /// How long a pack stays after it was found to be unneeded.
    pub grace: Duration,
    /// Only tell: no lock is taken and nothing is written.
    pub dry_run: bool,
    /// When it becomes true the run ends as soon as that is safe, with [`RepositoryError::Interrupted`]. What is removed
    /// stays removed, what was to be deleted is left for the next run.
    pub cancel: Arc<AtomicBool>,
    /// Who writes, for the lease.
    pub machine: Machine,
    /// Program and version, for the record.
    pub program: String,
}

impl PruneOptions {
    fn go_on(&self) -> Result<(), RepositoryError> {
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(RepositoryError::Interrupted),
            false => Ok(()),
        }
    }

    /// The usual grace period and the clock of this machine, in UTC.
    pub fn new(keep: Keep) -> Self {
        PruneOptions {
            keep,
            clock: Clock { now: i64::try_from(lock::now()).unwrap_or(i64::MAX), offset: 0 },
            accept_shrunk: false,
            sources: BTreeSet::new(),
            grace: Duration::from_secs(limits::GRACE_SECONDS),
            dry_run: false,
            cancel: Arc::default(),
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
    /// Packs that this run has found to be damaged; they stay, and so does what may stand in for them.
    pub damaged_packs: u64,
    /// Directories of snapshots that stay which cannot be read. While there is one, no pack goes.
    pub unreadable_directories: u64,
    /// Chunks of snapshots that stay which are in no pack.
    pub missing_chunks: u64,
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

fn report(decided: Decided, looked: &Looked, doubted: &Doubted, short: bool) -> PruneReport {
    let Looked { marks, plan } = looked;
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
        damaged_packs: doubted.packs().len() as u64,
        unreadable_directories: marks.trouble().directories,
        missing_chunks: marks.trouble().missing,
        short,
    }
}

fn room(storage: &dyn Storage) -> Result<(u64, bool), RepositoryError> {
    let free = storage.free_space()?;
    Ok((free, free < limits::ROOM_SHORT))
}

/// What a prune would do. Reads only, and no pack as a whole.
fn rehearse(
    repository: &Repository,
    options: &PruneOptions,
    monitor: &dyn Monitor,
) -> Result<PruneReport, RepositoryError> {
    let mut decided = decide(repository, options, monitor)?;
    let room = room(&**repository.storage())?;
    let view = Arc::new(View::load(repository, monitor)?);
    let disk = Disk { view: &view, room, doubted: &Doubted::default() };
    let looked = look(repository, &mut decided, &disk, options, monitor, &mut || options.go_on())?;
    Ok(report(decided, &looked, &Doubted::default(), room.1))
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
    let room = room(storage)?;
    let short = room.1;
    let mut decided = decide(repository, options, monitor)?;
    let before = writer.unsealed().clone();
    let highest = decided.manifests.highest;
    let (mut doubted, mut hold) = (Doubted::default(), None);
    let mut proof = Proof { storage, monitor, go_on: &|| options.go_on(), proven: BTreeSet::new() };
    // Whatever turns out to be damaged on the way makes the look begin anew, knowing of it.
    let (looked, view) = loop {
        let view = writer.known().clone();
        let disk = Disk { view: &view, room, doubted: &doubted };
        let looked = look(repository, &mut decided, &disk, options, monitor, &mut || {
            options.go_on()?;
            writer.renew()
        })?;
        let Looked { marks, plan } = &looked;
        let mut vouching = marks.witnesses(&plan.given_up());
        vouching.append(&mut marks.witnesses(&plan.going_now().into_iter().collect()));
        vouching.extend(marks.suspects().difference(doubted.packs()));
        let found = proof.unsound(&vouching)?;
        if !found.is_empty() {
            is_still_there(repository)?;
            doubted.extend(&found, monitor)?;
            continue;
        }
        if plan.repack.is_empty() {
            break (looked, view);
        }
        hold.get_or_insert_with(|| Hold::take(storage, highest, monitor));
        let failed =
            repack::repack(repository, &mut writer, marks, &plan.repack, monitor, &|| options.go_on())?;
        if failed.is_empty() {
            break (looked, view);
        }
        is_still_there(repository)?;
        doubted.extend(&failed, monitor)?;
    };
    let Looked { marks, plan } = &looked;
    let copied: BTreeSet<PackId> = writer.unsealed().difference(&before).copied().collect();
    remember(repository, storage, &doubted, short)?;
    let idle = decided.going.is_empty() && plan.is_idle() && copied.is_empty();
    if idle && view.deleted().is_empty() {
        reserve::ensure(storage, view.pack_count());
        return Ok(report(decided, &looked, &doubted, short));
    }

    let hold = hold.unwrap_or_else(|| Hold::take(storage, highest, monitor));
    storage.flush_device()?;
    writer.confirm()?;

    let staying: BTreeSet<SnapshotId> = decided.staying().into_iter().map(|entry| entry.id).collect();
    let given_up = plan.given_up();
    if !decided.going.is_empty() || !given_up.is_empty() || !plan.revived.is_empty() || !copied.is_empty() {
        let record = record::record(repository, options, &decided, plan, &view, &copied)?;
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
        delete::drills(repository, storage)?;
        delete::checkpoints(repository, storage)?;
        swept::remove_older(storage, &decided.manifests.swept, record.sequence)?;
    }
    let due: BTreeSet<PackId> = plan.going_now();
    if !due.is_empty() {
        writer.confirm()?;
        delete::packs(repository, storage, &due, marks, &staying, &mut proof)?;
        tracing::info!(packs = due.len(), bytes = plan.freed(), "deleted");
    }
    let gone: HashSet<PackId> = due.iter().chain(view.deleted()).copied().collect();
    if !gone.is_empty() {
        // As it is now: a repack has added runs.
        index::without(repository, storage, writer.known(), &gone)?;
    }
    storage.flush_device()?;
    // The hold of a run that ends here goes with the next one.
    options.go_on()?;
    let newest = decided.manifests.entries.last().map(|entry| (entry.manifest.generation, entry.id));
    if !hold.guards() || still_whole(repository, &mut doubted, monitor)? {
        hold.release(storage, newest, monitor);
    } else if looked.is_troubled() || !doubted.packs().is_empty() {
        // So it was before: nothing here changes a file. Nobody knows what the guard is still good for.
        hold.keep(storage, monitor);
        remember(repository, storage, &doubted, short)?;
    } else {
        // The guard stays: it has what is missing.
        return Err(RepositoryError::SweptTooMuch);
    }
    reserve::ensure(storage, writer.known().pack_count());
    Ok(report(decided, &looked, &doubted, short))
}

/// Whether all that stays is there, as far as its structure goes. Packs that are there and damaged are no work of a sweep:
/// those are doubted.
fn still_whole(
    repository: &Repository,
    doubted: &mut Doubted,
    monitor: &dyn Monitor,
) -> Result<bool, RepositoryError> {
    let found = verify(repository, VerifyOptions { read: ReadData::Structure }, &LogMonitor)?;
    if found.lost() {
        let present = Loaded::load(repository, &LogMonitor)?.present;
        for problem in found.problems.iter().filter(|problem| problem.severity == Severity::Lost) {
            let pack = problem.path.rsplit('/').next().and_then(|name| name.parse::<PackId>().ok());
            if let Some(id) = pack.filter(|id| present.contains_key(id)) {
                doubted.add(id, &problem.what, monitor);
            }
        }
    }
    Ok(!found.lost())
}

/// Names the packs that this run has found to be damaged in a verification record: from now on no snapshot relies on
/// them, and the next backup stores again what it meets of them.
fn remember(
    repository: &Repository,
    storage: &dyn Storage,
    doubted: &Doubted,
    short: bool,
) -> Result<(), RepositoryError> {
    if doubted.packs().is_empty() || short {
        return Ok(());
    }
    let verified = Verified::load(repository, &LogMonitor)?;
    let mut record = verified.next(repository);
    record.time = i64::try_from(lock::now()).unwrap_or(i64::MAX);
    let damaged: BTreeSet<PackId> = record.damaged.iter().chain(doubted.packs()).copied().collect();
    record.damaged = damaged.into_iter().collect();
    verified.replace(repository, storage, record).map(drop)
}

/// On a disk short of room: guards hold the room of what was deleted before.
fn make_room(storage: &dyn Storage) -> Result<(), RepositoryError> {
    guard::make_room(storage, guard::Room::Older)?;
    if room(storage)?.1 {
        guard::make_room(storage, guard::Room::All)?;
    }
    Ok(())
}
