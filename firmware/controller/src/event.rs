//! Everything that can happen to the box.
//!
//! Events are facts reported from outside; a late, repeated or senseless one is allowed and changes nothing.

use crate::button::Button;
use crate::disk::Insertion;
use crate::fault::{Fault, Latched};
use crate::job::{JobId, JobResult, Phase};
use crate::moment::Moment;

/// What a look at a disk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// It holds a repository that this box can open.
    Ours,
    /// It holds a repository that this box has no key for, or one of a newer format.
    Foreign,
    /// It holds no repository.
    Unknown,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A button went down.
    Press(Button),
    /// A button came up.
    Release(Button),
    /// Time has passed; see [`State::wake_at`](crate::State::wake_at).
    Tick,
    /// A disk is in a slot.
    DiskArrived(Insertion),
    /// A disk is no longer there; announced or by surprise.
    DiskGone(Insertion),
    /// Answer to [`Action::Inspect`](crate::Action::Inspect); the disk is not mounted any more.
    Identified(Insertion, Identity),
    /// [`Action::Inspect`](crate::Action::Inspect) failed: the disk can't be read. It is not mounted.
    InspectFailed(Insertion),
    /// Answer to [`Action::Mount`](crate::Action::Mount).
    Mounted(Insertion),
    /// [`Action::Mount`](crate::Action::Mount) failed; the disk is not mounted.
    MountFailed(Insertion),
    /// Answer to [`Action::Inspect`](crate::Action::Inspect) or [`Action::Mount`](crate::Action::Mount): the disk is
    /// ours, but takes no writes; it can be restored from by hand. It is not mounted.
    OnlyReadable(Insertion),
    /// Answer to [`Action::Eject`](crate::Action::Eject) or [`Action::Forget`](crate::Action::Forget): flushed
    /// as far as the disk is there, and not mounted.
    Unmounted(Insertion),
    /// [`Action::Eject`](crate::Action::Eject) failed; the disk may still be mounted.
    UnmountFailed(Insertion),
    /// A running job entered a phase.
    Progress(JobId, Phase),
    /// A job has ended and no longer touches the disk.
    JobEnded(JobId, JobResult),
    /// The schedule says that a backup is due now.
    BackupDue,
    /// What is known from before the start: when the newest proven snapshot was made, and whether the last backup
    /// that ended was good.
    Remembered {
        /// Date of the newest proven snapshot.
        proven: Moment,
        /// No backup has failed since.
        last_good: bool,
    },
    /// A fault from before the start that is not done with.
    Latched(Latched),
    /// Trouble that the appliance has found outside of any job.
    Trouble(Fault),
    /// The cause of such trouble is gone.
    Mended(Fault),
    /// Whether it is time to put another disk of the set in: some disk has not been here for too long.
    SwapDue(bool),
    /// Whoever sits at a desk asks for what BACKUP held down asks for.
    EjectAsked,
    /// Likewise: the running job is to end as soon as that is safe, and none is wanted any more.
    CancelAsked,
    /// The program is asked to end.
    Shutdown,
}
