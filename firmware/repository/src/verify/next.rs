//! Verification by a cursor that lies on the disk: the next slice of all packs, remembered. Follows COMMIT.md,
//! "Verification".

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use mailkeep_format::verification::{VerifiedSlice, place_of};
use mailkeep_format::{ChunkId, SnapshotId};

use super::{VerifyReport, data, fresh, structure};
use crate::error::RepositoryError;
use crate::index::Loaded;
use crate::lock::WriteLock;
use crate::machine::Machine;
use crate::monitor::{Counting, LogMonitor, Monitor};
use crate::repository::Repository;
use crate::snapshots::SnapshotEntry;
use crate::storage::{PoisonStorage, Storage};
use crate::verified::Verified;
use crate::{limits, lock};

/// What is to be verified by the cursor.
#[derive(Clone, Debug)]
pub struct NextSlice {
    /// How many slices make up the whole disk, 1 to [`limits::SLICES_MAX`].
    pub of: u32,
    /// Only what this snapshot brought is looked at beside the slice; `None` for the structure of everything.
    pub snapshot: Option<SnapshotId>,
    /// Who verifies, for the lease.
    pub machine: Machine,
}

/// Verifies the next slice and remembers it, with all damage that was found, in a record on the disk. Takes the lock.
/// With a snapshot given, the last slice of each round looks at the structure of everything all the same.
///
/// # Errors
/// [`RepositoryError::Locked`]; [`RepositoryError::NoSnapshot`]; what keeps the disk from being read at all or the
/// record from being written.
pub fn verify_next(
    repository: &Repository,
    options: &NextSlice,
    monitor: &dyn Monitor,
) -> Result<VerifyReport, RepositoryError> {
    let storage: Arc<dyn Storage> = Arc::new(PoisonStorage::new(repository.storage().clone()));
    let lock = WriteLock::take_for_upkeep(storage.clone(), &options.machine, monitor)?;
    let counting = Counting::new(monitor);
    let verified = Verified::load(repository, &LogMonitor)?;
    let before = verified.next(repository);
    let from = before.position;
    let mut slice = VerifiedSlice { from, to: end_of(from, options.of), time: 0, generation: 0 };

    let mut report = VerifyReport::default();
    let mut missing: HashSet<ChunkId> = HashSet::new();
    let brought = options.snapshot.filter(|_| !slice.has(u64::MAX));
    let mut also = HashSet::new();
    let walked = match brought {
        None => structure::check(repository, &counting, &mut report, &mut missing)?,
        Some(id) => {
            let walked = fresh::check(repository, &id, &before.lost, &counting, &mut report, &mut missing)?;
            also.extend(fresh::new_packs(&walked.snapshots, &id));
            walked
        }
    };
    let looked_at = |id: &_| slice.has(place_of(id)) || also.contains(id) || before.damaged.contains(id);
    let present = Loaded::load(repository, &LogMonitor)?.present;
    let packs = present.into_iter().filter(|(id, _)| looked_at(id)).collect();
    let alive = Alive { monitor: &counting, lock: &lock };
    let damaged = data::check_packs(repository, packs, true, &alive, &mut report, &mut missing)?;
    // Damage that is new may be in any snapshot; else only those can have lost something that were walked.
    let known = damaged.iter().all(|id| before.damaged.contains(id));
    let suspects: Vec<SnapshotEntry> = match brought {
        Some(id) if known => {
            let suspect = |entry: &&SnapshotEntry| entry.id == id || before.lost.contains(&entry.id);
            walked.snapshots.iter().filter(suspect).cloned().collect()
        }
        _ => walked.snapshots.clone(),
    };
    let lost = structure::name_files(repository, &suspects, &missing, &walked.unreadable, &counting)?;
    report.problems = counting.kept.problems();

    let mut record = before;
    slice.time = i64::try_from(lock::now()).unwrap_or(i64::MAX);
    slice.generation = walked.snapshots.iter().map(|entry| entry.manifest.generation).max().unwrap_or(0);
    (record.time, record.generation, record.position) = (slice.time, slice.generation, slice.to);
    record.slices = with_newest(slice, &record.slices);
    record.damaged = damaged.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    record.lost = lost.into_iter().collect();
    lock.confirm()?;
    verified.replace(repository, &*storage, record)?;
    Ok(report)
}

/// Where the slice that begins at `from` ends: `of` slices in a row cover the circle.
fn end_of(from: u64, of: u32) -> u64 {
    match of.clamp(1, limits::SLICES_MAX) {
        1 => from,
        of => from.wrapping_add(u64::MAX / u64::from(of) + 1),
    }
}

/// The newest slice and as many of those before it as are not wholly covered by newer ones. Each begins where the one
/// before it ended, so their lengths add up backwards.
fn with_newest(newest: VerifiedSlice, older: &[VerifiedSlice]) -> Vec<VerifiedSlice> {
    let length = |slice: &VerifiedSlice| match slice.to.wrapping_sub(slice.from) {
        0 => 1u128 << 64,
        length => u128::from(length),
    };
    let mut covered = length(&newest);
    let mut slices = vec![newest];
    for slice in older {
        if covered >= 1 << 64 || slices.last().is_none_or(|newer| newer.from != slice.to) {
            break;
        }
        covered += length(slice);
        slices.push(*slice);
    }
    slices
}

/// Keeps the lease alive while packs are read.
struct Alive<'a> {
    monitor: &'a dyn Monitor,
    lock: &'a WriteLock,
}

impl Monitor for Alive<'_> {
    fn problem(&self, problem: &crate::monitor::Problem) {
        self.monitor.problem(problem);
    }

    fn progress(&self, phase: crate::monitor::Phase, done: u64, total: u64) {
        // A lease that cannot be renewed shows when the record is to be written.
        if let Err(error) = self.lock.renew() {
            tracing::warn!(%error, "the lease was not renewed");
        }
        self.monitor.progress(phase, done, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_slices_as_asked_for_cover_every_place() {
        for of in [1, 2, 3, 7, 30, 997, limits::SLICES_MAX] {
            let (mut position, mut slices) = (12_345, Vec::new());
            for time in 0..i64::from(of) {
                let slice = VerifiedSlice { from: position, to: end_of(position, of), time, generation: 0 };
                position = slice.to;
                slices = with_newest(slice, &slices);
            }
            let places = (0..5000u64).map(|step| step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            for place in places.chain([0, 1, u64::MAX, 12_344, 12_345, 12_346]) {
                assert!(slices.iter().any(|slice| slice.has(place)), "{place} in {of}");
            }
            assert!(slices.len() <= of as usize);
        }
    }

    #[test]
    fn what_newer_slices_cover_is_forgotten() {
        let mut slices = Vec::new();
        let mut position = 0;
        for time in 0..100 {
            let slice = VerifiedSlice { from: position, to: end_of(position, 4), time, generation: 0 };
            position = slice.to;
            slices = with_newest(slice, &slices);
        }
        assert_eq!(slices.len(), 4);
        assert_eq!(slices.iter().map(|slice| slice.time).collect::<Vec<_>>(), [99, 98, 97, 96]);
        let all = VerifiedSlice { from: 9, to: 9, time: 100, generation: 0 };
        assert_eq!(with_newest(all, &slices), [all]);
    }
}
