//! Guards: when one is made and when it may go. Follows COMMIT.md, "Guards"; how is the storage's business.
//!
//! Nothing here ends a backup, a prune or a repair: a guard is a second net. What goes wrong is told once, as a note.

use mailkeep_format::SnapshotId;

use crate::error::{RepositoryError, chain};
use crate::monitor::{Monitor, Problem, Severity};
use crate::storage::{Guarding, Storage, StorageError};
use crate::{layout, limits};

/// Guards the snapshot that was just sealed until [`limits::GUARDS_KEPT`] newer ones are there.
pub(crate) fn after_seal(storage: &dyn Storage, generation: u64, id: &SnapshotId, monitor: &dyn Monitor) {
    let guarded = make_way(storage, limits::GUARDS_KEPT - 1)
        .and_then(|()| make(storage, &layout::manifest_name(generation, id), monitor));
    if let Err(error) = guarded {
        note(monitor, &chain(&error));
    }
}

/// A guard for the time in which prune takes something away. If it is lost (the process was killed) it stays
/// until the next one is released.
#[derive(Debug)]
#[must_use = "a hold keeps the space of all that is deleted until it is released"]
pub(crate) struct Hold {
    name: Option<String>,
}

impl Hold {
    /// Guards the repository as it is now.
    pub(crate) fn take(storage: &dyn Storage, generation: u64, monitor: &dyn Monitor) -> Self {
        let taken = crate::random("name of a guard")
            .map(|random| layout::hold_name(generation, random))
            .and_then(|name| Ok(make(storage, &name, monitor)?.then_some(name)));
        Hold {
            name: taken.unwrap_or_else(|error| {
                note(monitor, &chain(&error));
                None
            }),
        }
    }

    /// Whether there is a guard.
    pub(crate) fn guards(&self) -> bool {
        self.name.is_some()
    }

    /// What stays is damaged, as it was before: nothing that may have more of it is dropped. So that guards do not pile
    /// up from run to run, only the oldest hold is kept beside this one.
    pub(crate) fn keep(self, storage: &dyn Storage, monitor: &dyn Monitor) {
        let kept = (|| {
            let holds: Vec<String> =
                storage.guards()?.into_iter().filter(|name| layout::is_hold(name)).collect();
            let between = holds.iter().skip(1).filter(|name| Some(*name) != self.name.as_ref());
            between.into_iter().try_for_each(|name| storage.drop_guard(name))
        })();
        match kept {
            Ok(()) => {
                let what = "what stays is damaged, so the guard from before this prune is kept".to_owned();
                monitor.problem(&Problem::new(Severity::Note, layout::GUARDS, what));
            }
            Err(error) => note(monitor, &chain(&error)),
        }
    }

    /// What stays has been verified, and `newest` is its newest snapshot: from now on the guard is of the present state,
    /// and everything that older ones held on to is free, this one and those of killed runs included. Waits for the
    /// space.
    pub(crate) fn release(
        self,
        storage: &dyn Storage,
        newest: Option<(u64, SnapshotId)>,
        monitor: &dyn Monitor,
    ) {
        let released = (|| {
            let guards = storage.guards()?;
            let (holds, older): (Vec<_>, Vec<_>) = guards.iter().partition(|name| layout::is_hold(name));
            // The holds go last: at no moment is there nothing.
            older.iter().try_for_each(|name| storage.drop_guard(name))?;
            if let (Some(_), Some((generation, id))) = (&self.name, newest) {
                make(storage, &layout::manifest_name(generation, &id), monitor)?;
            }
            holds.iter().try_for_each(|name| storage.drop_guard(name))?;
            if !guards.is_empty() {
                storage.settle_guards()?;
            }
            Ok::<(), StorageError>(())
        })();
        if let Err(error) = released {
            note(monitor, &chain(&error));
        }
    }
}

/// How much of what guards hold is to be given up for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// All but the newest.
    Older,
    /// All: the disk is full, and nothing can be deleted any more while one of them holds it.
    All,
}

/// Drops guards because the disk is full, and waits for their space. How many were dropped.
///
/// # Errors
/// [`RepositoryError::Storage`].
pub(crate) fn make_room(storage: &dyn Storage, room: Room) -> Result<usize, RepositoryError> {
    let guards = storage.guards()?;
    let kept = match room {
        Room::Older => 1,
        Room::All => 0,
    };
    let dropped = guards.len().saturating_sub(kept);
    for name in &guards[..dropped] {
        tracing::info!(guard = %name, "dropped, the disk is full");
        storage.drop_guard(name)?;
    }
    if dropped > 0 {
        storage.settle_guards()?;
    }
    Ok(dropped)
}

/// Drops the oldest guards of seals until at most `kept` are left. First, so that no more of them come to be than can
/// be dropped again.
fn make_way(storage: &dyn Storage, kept: usize) -> Result<(), StorageError> {
    let seals: Vec<String> = storage.guards()?.into_iter().filter(|name| !layout::is_hold(name)).collect();
    seals.iter().take(seals.len().saturating_sub(kept)).try_for_each(|name| storage.drop_guard(name))
}

/// Whether there is such a guard now.
fn make(storage: &dyn Storage, name: &str, monitor: &dyn Monitor) -> Result<bool, StorageError> {
    match storage.make_guard(name) {
        Ok(Guarding::Made) => {
            tracing::debug!(guard = name, "made");
            Ok(true)
        }
        Ok(Guarding::Unknown) => Ok(false),
        Ok(Guarding::Refused(why)) => {
            note(monitor, &why);
            Ok(false)
        }
        Err(error) if error.is_already_there() => Ok(true),
        Err(error) => Err(error),
    }
}

fn note(monitor: &dyn Monitor, why: &str) {
    let what = format!("no guard is kept here ({why}); the snapshot itself is sealed");
    monitor.problem(&Problem::new(Severity::Note, layout::GUARDS, what));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Collected;
    use crate::storage::{GuardCall, MemoryStorage};

    fn id(byte: u8) -> SnapshotId {
        SnapshotId([byte; 32])
    }

    #[test]
    fn the_last_seals_are_guarded() {
        let disk = MemoryStorage::new();
        let monitor = Collected::default();
        for generation in 1..=4 {
            after_seal(&disk, generation, &id(generation as u8), &monitor);
        }
        let expected: Vec<String> = [3, 4].map(|n| layout::manifest_name(n, &id(n as u8))).into();
        assert_eq!(disk.guards().unwrap(), expected);
        assert_eq!(monitor.problems(), []);
    }

    #[test]
    fn a_hold_goes_last_and_takes_those_of_killed_runs_with_it() {
        let disk = MemoryStorage::new();
        let monitor = Collected::default();
        after_seal(&disk, 1, &id(1), &monitor);
        after_seal(&disk, 2, &id(2), &monitor);
        let killed = Hold::take(&disk, 2, &monitor);
        assert!(killed.guards());
        drop(killed);
        let hold = Hold::take(&disk, 2, &monitor);
        hold.release(&disk, Some((2, id(2))), &monitor);
        assert_eq!(disk.guards().unwrap(), [layout::manifest_name(2, &id(2))]);
        let calls = disk.guard_calls();
        let last_made = calls.iter().rposition(|call| matches!(call, GuardCall::Made(_))).unwrap();
        let hold_gone =
            calls.iter().position(|call| matches!(call, GuardCall::Dropped(name) if layout::is_hold(name)));
        assert!(hold_gone.unwrap() > last_made, "{calls:?}");
        assert_eq!(calls.last(), Some(&GuardCall::Settled));
        assert_eq!(monitor.problems(), []);
    }

    #[test]
    fn room_is_made_from_the_oldest() {
        let disk = MemoryStorage::new();
        let monitor = Collected::default();
        after_seal(&disk, 1, &id(1), &monitor);
        after_seal(&disk, 2, &id(2), &monitor);
        assert_eq!(make_room(&disk, Room::Older).unwrap(), 1);
        assert_eq!(disk.guards().unwrap(), [layout::manifest_name(2, &id(2))]);
        assert_eq!(make_room(&disk, Room::Older).unwrap(), 0);
        assert_eq!(make_room(&disk, Room::All).unwrap(), 1);
        assert_eq!(disk.guards().unwrap(), [""; 0]);
    }
}
