//! One writer at a time: a flock between processes, a lease between boxes. Follows COMMIT.md, "Lock and lease".

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::RepositoryError;
use crate::machine::Machine;
use crate::monitor::{Monitor, Problem, Severity};
use crate::storage::{LockGuard, LockKind, Storage, StorageError, read_whole};
use crate::{durable, layout, limits, sync};

const OPENING: &str = "mailkeep-lease-v1";
/// A lease is a few short lines.
const LEASE_MAX: u64 = 4096;

/// What a lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Box id, in hexadecimal.
    pub box_id: String,
    /// Start of that box.
    pub boot_id: String,
    /// Process on it.
    pub pid: u32,
    /// Name of that box.
    pub host: String,
    /// When it was last renewed, seconds since 1970 by the clock of that box.
    pub renewed: u64,
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "process {} of box {} ({})",
            self.pid,
            self.host,
            self.box_id.get(..8).unwrap_or(&self.box_id)
        )
    }
}

impl Lease {
    fn of(machine: &Machine, now: u64) -> Self {
        let Machine { box_id, boot_id, pid, host } = machine;
        Lease {
            box_id: box_id.to_string(),
            boot_id: boot_id.clone(),
            pid: *pid,
            host: host.clone(),
            renewed: now,
        }
    }

    /// Whether it is this very one, however often it was renewed.
    fn is_of(&self, other: &Lease) -> bool {
        (&self.box_id, &self.boot_id, self.pid) == (&other.box_id, &other.boot_id, other.pid)
    }

    fn encode(&self) -> String {
        let Lease { box_id, boot_id, pid, host, renewed } = self;
        format!("{OPENING}\nbox {box_id}\nboot {boot_id}\npid {pid}\nrenewed {renewed}\nhost {host}\n")
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.lines();
        if lines.next() != Some(OPENING) {
            return None;
        }
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
        Some(Lease {
            box_id: field("box")?,
            boot_id: field("boot")?,
            pid: field("pid")?.parse().ok()?,
            renewed: field("renewed")?.parse().ok()?,
            host: field("host")?.chars().filter(|c| !c.is_control()).collect(),
        })
    }
}

/// Keeps writers of this machine out while the repository as a whole changes its place, and refuses where one of another
/// box may be at work. Writes nothing: of the repository nothing may be left.
pub(crate) fn keep_writers_out(
    storage: &dyn Storage,
    machine: &Machine,
) -> Result<Box<dyn LockGuard>, RepositoryError> {
    let guard = flock(storage)?;
    let mine = Lease::of(machine, now());
    match read_lease(storage)? {
        Found::Lease(other)
            if other.box_id != mine.box_id
                && other.renewed.saturating_add(limits::LEASE_FOREIGN_SECONDS) > mine.renewed =>
        {
            Err(RepositoryError::Locked { holder: other.to_string() })
        }
        _ => Ok(guard),
    }
}

/// The right to write. Dropping it lets go.
#[derive(Debug)]
pub(crate) struct WriteLock {
    storage: Arc<dyn Storage>,
    lease: Mutex<Lease>,
    _guard: Box<dyn LockGuard>,
}

impl WriteLock {
    /// Takes lock and lease, or says who has them.
    pub(crate) fn take(
        storage: Arc<dyn Storage>,
        machine: &Machine,
        monitor: &dyn Monitor,
    ) -> Result<Self, RepositoryError> {
        let guard = flock(&*storage)?;
        let now = now();
        let mine = Lease::of(machine, now);
        match read_lease(&*storage)? {
            Found::None => {}
            Found::Unreadable => {
                let what = "the lease is unreadable and was replaced; no process of this box writes here";
                monitor.problem(&Problem::new(Severity::Note, layout::LEASE, what));
            }
            Found::Lease(other) => {
                // A lease from the future is young too: one of the two clocks is wrong, so a person decides.
                let young = other.renewed.saturating_add(limits::LEASE_FOREIGN_SECONDS) > now;
                if other.box_id != mine.box_id && young {
                    return Err(RepositoryError::Locked { holder: other.to_string() });
                }
                tracing::info!(lease = %other, "stale lease taken over");
            }
        }
        // What a killed run left there is nobody's, and on a full disk the lease may need its room.
        durable::empty_tmp(&*storage)?;
        replace_lease(&*storage, &mine)?;
        Ok(WriteLock { storage, lease: Mutex::new(mine), _guard: guard })
    }

    /// As [`WriteLock::take`], for work that is no backup: `tmp/` is emptied too, and a disk that cannot be written is
    /// told as such.
    pub(crate) fn take_for_upkeep(
        storage: Arc<dyn Storage>,
        machine: &Machine,
        monitor: &dyn Monitor,
    ) -> Result<Self, RepositoryError> {
        let start = || {
            let lock = WriteLock::take(storage.clone(), machine, monitor)?;
            durable::empty_tmp(&*storage)?;
            Ok(lock)
        };
        start().map_err(|error| match error {
            RepositoryError::Storage(error)
                if error.source.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
            {
                RepositoryError::ReadOnly { path: storage.describe() }
            }
            other => other,
        })
    }

    /// Renews the lease when it is due, if it is still there to be renewed.
    pub(crate) fn renew(&self) -> Result<(), RepositoryError> {
        let now = now();
        if now.abs_diff(sync::lock(&self.lease).renewed) < limits::LEASE_RENEW_SECONDS {
            return Ok(());
        }
        self.confirm()?;
        let mut lease = sync::lock(&self.lease);
        lease.renewed = now;
        replace_lease(&*self.storage, &lease)
    }

    /// Whether the lease on the disk is still this one (hazard 12): a box that slept for long may have been taken for
    /// dead, and its disk given to another one.
    pub(crate) fn confirm(&self) -> Result<(), RepositoryError> {
        let mine = sync::lock(&self.lease).clone();
        let lost = |holder: String| Err(RepositoryError::LeaseLost { holder });
        match read_lease(&*self.storage)? {
            Found::Lease(found) if found.is_of(&mine) => Ok(()),
            Found::Lease(found) => lost(found.to_string()),
            Found::None | Found::Unreadable => lost("nobody".to_owned()),
        }
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        // What another box took over in the meantime is not ours to remove.
        if self.confirm().is_err() {
            return;
        }
        // A disk that no longer takes writes keeps the lease; this box takes it over by itself.
        if let Err(error) = self.storage.remove(layout::LEASE) {
            tracing::debug!(%error, "the lease stays");
        }
    }
}

/// Removes a lease that nobody holds on this machine, and says whose it was.
///
/// # Errors
/// [`RepositoryError::Locked`] while a process of this machine writes.
pub(crate) fn unlock(storage: &dyn Storage) -> Result<Option<Lease>, RepositoryError> {
    let _guard = flock(storage)?;
    let found = read_lease(storage)?;
    durable::remove(storage, layout::LEASE)?;
    storage.sync_dir("")?;
    Ok(match found {
        Found::Lease(lease) => Some(lease),
        Found::None | Found::Unreadable => None,
    })
}

enum Found {
    None,
    Unreadable,
    Lease(Lease),
}

/// The lock file, held; on a disk that cannot be written that is told as such, since nothing was done yet.
fn flock(storage: &dyn Storage) -> Result<Box<dyn LockGuard>, RepositoryError> {
    take_flock(storage).map_err(|error| match error {
        RepositoryError::Storage(error) if error.source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            RepositoryError::ReadOnly { path: storage.describe() }
        }
        other => other,
    })
}

fn take_flock(storage: &dyn Storage) -> Result<Box<dyn LockGuard>, RepositoryError> {
    match storage.lock(layout::LOCK, LockKind::Exclusive)? {
        Some(guard) => Ok(guard),
        None => {
            let holder = match read_lease(storage) {
                Ok(Found::Lease(lease)) => lease.to_string(),
                _ => "another process on this machine".to_owned(),
            };
            Err(RepositoryError::Locked { holder })
        }
    }
}

fn read_lease(storage: &dyn Storage) -> Result<Found, StorageError> {
    match read_whole(storage, layout::LEASE, LEASE_MAX) {
        Ok(bytes) => Ok(Lease::decode(&bytes).map_or(Found::Unreadable, Found::Lease)),
        Err(error) if error.is_not_found() => Ok(Found::None),
        Err(error) => Err(error),
    }
}

fn replace_lease(storage: &dyn Storage, lease: &Lease) -> Result<(), RepositoryError> {
    durable::remove(storage, layout::LEASE)?;
    durable::write_once(storage, layout::LEASE, lease.encode().as_bytes())
}

/// Seconds since 1970; 0 before that.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::BoxId;
    use crate::monitor::Collected;
    use crate::storage::MemoryStorage;

    fn machine(name: &str, boot: &str) -> Machine {
        Machine { box_id: BoxId::of(name.as_bytes()), boot_id: boot.into(), pid: 7, host: name.into() }
    }

    fn disk() -> (MemoryStorage, Arc<dyn Storage>) {
        let disk = MemoryStorage::new();
        disk.make_dir(layout::TMP).unwrap();
        (disk.clone(), Arc::new(disk))
    }

    #[test]
    fn a_second_writer_is_refused_and_told_who_writes() {
        let (_, storage) = disk();
        let here = machine("here", "1");
        let held = WriteLock::take(storage.clone(), &here, &Collected::default()).unwrap();
        let error = WriteLock::take(storage.clone(), &here, &Collected::default()).unwrap_err();
        assert_eq!(error.exit_code(), 11);
        assert!(error.to_string().contains("process 7 of box here"), "{error}");
        assert!(unlock(&*storage).is_err(), "a living writer cannot be unlocked");
        drop(held);
        WriteLock::take(storage, &here, &Collected::default()).unwrap();
    }

    #[test]
    fn after_a_crash_the_same_box_goes_on_and_another_one_asks() {
        let (disk, storage) = disk();
        let held = WriteLock::take(storage, &machine("here", "1"), &Collected::default()).unwrap();
        disk.sync_dir("").unwrap();
        let after: Arc<dyn Storage> = Arc::new(disk.crash(1));
        drop(held);
        let foreign = WriteLock::take(after.clone(), &machine("there", "9"), &Collected::default());
        assert!(matches!(foreign, Err(RepositoryError::Locked { .. })), "{foreign:?}");
        let again: Arc<dyn Storage> = Arc::new(disk.crash(1));
        drop(again);
        drop(foreign);
        WriteLock::take(after.clone(), &machine("here", "2"), &Collected::default()).unwrap();
        WriteLock::take(after, &machine("there", "9"), &Collected::default()).unwrap();
    }

    #[test]
    fn an_old_lease_of_another_box_is_taken_over_and_one_from_the_future_is_not() {
        for (renewed, free) in
            [(0, true), (now() - limits::LEASE_FOREIGN_SECONDS - 5, true), (now() + 9999, false)]
        {
            let (_, storage) = disk();
            let mut lease = Lease::of(&machine("there", "1"), 0);
            lease.renewed = renewed;
            replace_lease(&*storage, &lease).unwrap();
            let taken = WriteLock::take(storage.clone(), &machine("here", "1"), &Collected::default());
            assert_eq!(taken.is_ok(), free, "{renewed}");
            drop(taken);
            if !free {
                assert_eq!(unlock(&*storage).unwrap(), Some(lease));
                WriteLock::take(storage, &machine("here", "1"), &Collected::default()).unwrap();
            }
        }
    }

    #[test]
    fn what_a_killed_run_left_makes_room_for_the_lease_on_a_full_disk() {
        let (disk, storage) = disk();
        storage.create("tmp/pack").unwrap().append(&[0; 1000]).unwrap();
        disk.set_capacity(Some(1000));
        WriteLock::take(storage.clone(), &machine("here", "1"), &Collected::default()).unwrap();
        assert_eq!(storage.list(layout::TMP).unwrap(), []);
    }

    #[test]
    fn an_unreadable_lease_is_replaced_and_reported() {
        let (_, storage) = disk();
        durable::write_once(&*storage, layout::LEASE, b"\xff\0").unwrap();
        let monitor = Collected::default();
        WriteLock::take(storage, &machine("here", "1"), &monitor).unwrap();
        assert_eq!(monitor.problems().len(), 1);
    }
}
