//! What the machine asks the appliance to do, and the notices it has for people.
//!
//! Each action that starts something is answered by an event; the machine waits for that answer and never
//! asks twice. The words of the notices are the appliance's.

use crate::disk::Insertion;
use crate::fault::Fault;
use crate::job::JobId;

/// Something to be done by the appliance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Look at the disk without writing to it (read-only mount, unmounted again): whose is it?
    Inspect(Insertion),
    /// Mount the disk for writing.
    Mount(Insertion),
    /// Flush and unmount the disk.
    Eject(Insertion),
    /// The disk was pulled while mounted: drop what is left of its mount.
    Forget(Insertion),
    /// Start a backup onto the mounted disk, and prove it.
    StartBackup(JobId, Insertion),
    /// Start a restore of the newest proven snapshot of the disk.
    StartRestore(JobId, Insertion),
    /// End the job as soon as that is safe; its end is still reported.
    Cancel(JobId),
    /// Tell people.
    Say(Notice),
    /// Everything is flushed and unmounted: the program may end.
    Exit,
}

/// What people should be told beyond the lamps; shown by a board with a screen, and logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notice {
    /// A disk was recognised as ours and may be used or taken out.
    DiskReady,
    /// A disk without a repository is in; it is not touched.
    DiskUnknown,
    /// A disk of another box is in; it is not touched.
    DiskForeign,
    /// A backup is wanted, but there is no usable disk: insert or swap.
    InsertDisk,
    /// A backup has begun.
    BackupStarted,
    /// A backup is already running.
    AlreadyRunning,
    /// The backup is good and proven.
    BackupProven,
    /// The disk is flushed and unmounted.
    SafeToRemove,
    /// Eject was asked for while a job works on the disk.
    BusyNoEject,
    /// Eject was asked for, and there is nothing to eject.
    NothingToEject,
    /// A new fault.
    FaultRaised(Fault),
    /// The fault was acknowledged; the next press starts a backup.
    FaultAcknowledged,
    /// Age of the newest proven snapshot: this many days begun; `None`: no proven snapshot is known.
    Age(Option<u32>),
    /// Restore is armed: BACKUP and RESTORE together within the time start it.
    RestoreArmed,
    /// Restore is no longer armed.
    RestoreDisarmed,
    /// Restore can't be armed now: it needs our disk in the slot, no running job and no new fault.
    RestoreNotNow,
    /// The program is ending.
    Stopping,
}
