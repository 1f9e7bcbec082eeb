//! The fault latch: a fault is shown as new until someone acknowledges it, and kept until its cause is mended.
//!
//! A fault leaves the latch only when both have happened, in either order; so a fault that mends itself at
//! night is still seen in the morning.

/// A kind of trouble that a person must learn of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A backup failed.
    BackupFailed,
    /// A backup was sealed, but it is not proven: files missing, not consistent, or the check failed.
    BackupNotProven,
    /// A disk was pulled while it was in use.
    DiskPulled,
    /// A disk can't be read or mounted.
    DiskUnreadable,
    /// A disk could not be unmounted.
    EjectFailed,
    /// The disk is full.
    DiskFull,
    /// A restore was asked for by button and refused or failed.
    RestoreFailed,
    /// Mail could not be started again on the server.
    MailDown,
    /// A disk of ours takes no more writes, but can be read: restore is possible.
    DiskOnlyReadable,
}

impl Fault {
    const ALL: [Fault; 9] = [
        Fault::BackupFailed,
        Fault::BackupNotProven,
        Fault::DiskPulled,
        Fault::DiskUnreadable,
        Fault::EjectFailed,
        Fault::DiskFull,
        Fault::RestoreFailed,
        Fault::MailDown,
        Fault::DiskOnlyReadable,
    ];

    /// Faults without a lasting cause: acknowledging them is all that can be done.
    const fn passing(self) -> bool {
        matches!(self, Fault::RestoreFailed)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Entry {
    raised: bool,
    acknowledged: bool,
    mended: bool,
}

/// The latch: at most one entry per [`Fault`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Latch {
    entries: [Entry; Fault::ALL.len()],
}

impl Latch {
    /// Raises a fault; one that was acknowledged before is new again.
    pub fn raise(&mut self, fault: Fault) {
        self.entries[fault as usize] = Entry { raised: true, acknowledged: false, mended: fault.passing() };
    }

    /// The cause of a fault is gone.
    pub fn mend(&mut self, fault: Fault) {
        let entry = &mut self.entries[fault as usize];
        entry.mended = true;
        if entry.acknowledged {
            *entry = Entry::default();
        }
    }

    /// Someone has seen all faults. Returns whether there was a new one.
    pub fn acknowledge(&mut self) -> bool {
        let was_new = self.any_new();
        for entry in &mut self.entries {
            if entry.raised && entry.mended {
                *entry = Entry::default();
            } else if entry.raised {
                entry.acknowledged = true;
            }
        }
        was_new
    }

    /// Is any fault not yet acknowledged?
    pub fn any_new(&self) -> bool {
        self.entries.iter().any(|e| e.raised && !e.acknowledged)
    }

    /// Is any fault latched, acknowledged or not?
    pub fn any(&self) -> bool {
        self.entries.iter().any(|e| e.raised)
    }

    /// The latched faults, each with whether it is still new.
    pub fn faults(&self) -> impl Iterator<Item = (Fault, bool)> + '_ {
        Fault::ALL
            .into_iter()
            .zip(&self.entries)
            .filter(|(_, e)| e.raised)
            .map(|(fault, e)| (fault, !e.acknowledged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_place_of_its_own() {
        for (place, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, place);
        }
    }

    #[test]
    fn a_fault_that_mends_itself_is_still_shown_until_seen() {
        let mut latch = Latch::default();
        latch.raise(Fault::BackupFailed);
        latch.mend(Fault::BackupFailed);
        assert!(latch.any_new());
        assert!(latch.acknowledge());
        assert!(!latch.any());
    }

    #[test]
    fn an_acknowledged_fault_stays_until_mended_and_is_new_when_it_returns() {
        let mut latch = Latch::default();
        latch.raise(Fault::DiskFull);
        latch.acknowledge();
        assert!(latch.any() && !latch.any_new());
        latch.raise(Fault::DiskFull);
        assert!(latch.any_new());
        latch.acknowledge();
        latch.mend(Fault::DiskFull);
        assert!(!latch.any());
    }

    #[test]
    fn one_fault_does_not_hide_another() {
        let mut latch = Latch::default();
        latch.raise(Fault::DiskPulled);
        latch.acknowledge();
        latch.raise(Fault::BackupFailed);
        latch.mend(Fault::BackupFailed);
        assert_eq!(
            latch.faults().collect::<Vec<_>>(),
            [(Fault::BackupFailed, true), (Fault::DiskPulled, false)]
        );
    }
}
