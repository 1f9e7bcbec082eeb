//! The life of the disk in the slot: absent, looked at, ours or not, mounted, unmounted again, gone.
//!
//! A disk is known here only by its [`Insertion`]: one stay in the box. Taken out and put back it is another
//! insertion, so that a late answer about the first stay can never be taken for one about the second.

use std::collections::VecDeque;

use crate::limits;

/// One stay of a disk in the box; given out by the appliance, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Insertion(pub u32);

/// Where the disk that the box deals with stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Disk {
    /// No disk.
    #[default]
    Absent,
    /// It is being looked at, read-only.
    Inspecting(Insertion),
    /// It can't be read or mounted, or takes no writes.
    Failing(Insertion),
    /// No repository of this box is on it: never written to.
    NotOurs(Insertion),
    /// Ours, flushed, not mounted: safe to remove. `full`: no backup fits any more.
    Safe {
        /// The stay.
        insertion: Insertion,
        /// The last job found no room left.
        full: bool,
    },
    /// Ours, being mounted.
    Mounting(Insertion),
    /// Ours and mounted.
    Mounted {
        /// The stay.
        insertion: Insertion,
        /// The last job found no room left.
        full: bool,
    },
    /// Ours, being flushed and unmounted.
    Ejecting {
        /// The stay.
        insertion: Insertion,
        /// The last job found no room left.
        full: bool,
    },
    /// Pulled while it was in use; what is left of its mount is not dropped yet. `dropping`: that was asked for.
    Pulled {
        /// The stay that ended badly.
        insertion: Insertion,
        /// [`Action::Forget`](crate::Action::Forget) was given.
        dropping: bool,
    },
}

impl Disk {
    /// The stay this is about.
    pub fn insertion(self) -> Option<Insertion> {
        match self {
            Disk::Absent => None,
            Disk::Inspecting(i) | Disk::Failing(i) | Disk::NotOurs(i) | Disk::Mounting(i) => Some(i),
            Disk::Safe { insertion, .. }
            | Disk::Mounted { insertion, .. }
            | Disk::Ejecting { insertion, .. }
            | Disk::Pulled { insertion, .. } => Some(insertion),
        }
    }

    /// May the disk be mounted now, or be on its way there or back?
    pub fn in_use(self) -> bool {
        match self {
            Disk::Inspecting(_)
            | Disk::Mounting(_)
            | Disk::Mounted { .. }
            | Disk::Ejecting { .. }
            | Disk::Pulled { .. } => true,
            Disk::Absent | Disk::Failing(_) | Disk::NotOurs(_) | Disk::Safe { .. } => false,
        }
    }
}

/// The disk that the box deals with, and those that wait in further slots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slot {
    /// The one it deals with.
    pub disk: Disk,
    waiting: VecDeque<Insertion>,
}

impl Slot {
    /// A disk has come. One too many is left alone: it will be seen when it is put in again.
    pub fn arrived(&mut self, insertion: Insertion) {
        let known = self.disk.insertion() == Some(insertion) || self.waiting.contains(&insertion);
        if !known && self.waiting.len() < limits::WAITING_DISKS {
            self.waiting.push_back(insertion);
        }
    }

    /// A waiting disk has gone.
    pub fn forget_waiting(&mut self, insertion: Insertion) {
        self.waiting.retain(|waiting| *waiting != insertion);
    }

    /// If the slot is free, takes up the next disk; it is to be looked at.
    pub fn take_next(&mut self) -> Option<Insertion> {
        if self.disk != Disk::Absent {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.disk = Disk::Inspecting(next);
        Some(next)
    }

    /// Does any disk wait?
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}
