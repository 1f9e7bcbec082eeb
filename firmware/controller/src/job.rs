//! The life of a job: idle, waiting for its disk, running through its phases, ended.
//!
//! At most one job exists at a time: one writer per disk, and one window per mail server.

use crate::disk::Insertion;
use crate::moment::Moment;

/// Number of a job, unique while the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u32);

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Pull the sources onto the disk and prove the result.
    Backup,
    /// Bring a server back from the disk.
    Restore,
}

/// What a running job is doing, as far as a person at the box should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The server is read while mail runs.
    Live,
    /// Mail is stopped.
    Window,
    /// Mail is back; the rest is carried over and sealed.
    Transferring,
    /// The new snapshot is read back and checked.
    Verifying,
    /// All is proven; snapshots that no rule keeps are removed.
    Pruning,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobResult {
    /// Sealed, read back and found good.
    Proven,
    /// Sealed, but something is missing or wrong in it.
    NotProven,
    /// Ended without a new snapshot because the disk is full.
    DiskFull,
    /// Ended without a new snapshot.
    Failed,
    /// Ended without a new snapshot, and the mail server does not answer again yet.
    MailDown,
    /// Ended early because that was asked for; mail runs.
    Cancelled,
}

/// How far a running job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its disk is being mounted.
    Mounting,
    /// It was started, and is in this phase.
    At(Phase),
}

/// A job that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Its number.
    pub id: JobId,
    /// What it is for.
    pub kind: JobKind,
    /// The disk that it works on, and the only one.
    pub insertion: Insertion,
    /// How far it has come.
    pub stage: Stage,
    /// Its end was asked for.
    pub cancelled: bool,
}

/// What is known of earlier backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// Date of the newest proven snapshot.
    pub proven: Option<Moment>,
    /// The last backup that ended was good and proven.
    pub last_good: bool,
}

/// The jobs of the box.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Jobs {
    /// The one that is under way.
    pub running: Option<Running>,
    /// A backup is wanted as soon as a usable disk is in.
    pub wanted: bool,
    /// What came of earlier ones.
    pub history: History,
    last_id: u32,
}

impl Jobs {
    /// Begins a job on a disk, at its first stage.
    pub fn begin(&mut self, kind: JobKind, insertion: Insertion, stage: Stage) -> JobId {
        self.last_id = self.last_id.wrapping_add(1);
        let id = JobId(self.last_id);
        self.running = Some(Running { id, kind, insertion, stage, cancelled: false });
        id
    }

    /// The running job, if it has this number.
    pub fn find(&mut self, id: JobId) -> Option<&mut Running> {
        self.running.as_mut().filter(|running| running.id == id)
    }

    /// Does a job work on this disk, or is it about to?
    pub fn works_on(&self, insertion: Insertion) -> bool {
        self.running.is_some_and(|running| running.insertion == insertion)
    }
}
