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
    /// A disk is not as the box left it: an older clone of it, or one of two copies that were both written to.
    DiskSetback,
    /// A source has lost most of its files since an earlier backup: old snapshots are kept until a person has looked.
    SourceShrank,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::BackupFailed,
        Fault::BackupNotProven,
        Fault::DiskPulled,
        Fault::DiskUnreadable,
        Fault::EjectFailed,
        Fault::DiskFull,
        Fault::RestoreFailed,
        Fault::MailDown,
        Fault::DiskOnlyReadable,
        Fault::DiskSetback,
        Fault::SourceShrank,
    ];

    /// The fault in one word, for files and interfaces; it never changes.
    pub const fn word(self) -> &'static str {
        match self {
            Fault::BackupFailed => "backup-failed",
            Fault::BackupNotProven => "backup-not-proven",
            Fault::DiskPulled => "disk-pulled",
            Fault::DiskUnreadable => "disk-unreadable",
            Fault::EjectFailed => "eject-failed",
            Fault::DiskFull => "disk-full",
            Fault::RestoreFailed => "restore-failed",
            Fault::MailDown => "mail-down",
            Fault::DiskOnlyReadable => "disk-only-readable",
            Fault::DiskSetback => "disk-setback",
            Fault::SourceShrank => "source-shrank",
        }
    }

    /// The fault with this [word](Self::word).
    pub fn of_word(word: &str) -> Option<Self> {
        Fault::ALL.into_iter().find(|fault| fault.word() == word)
    }

    /// Faults without a lasting cause: acknowledging them is all that can be done.
    const fn passing(self) -> bool {
        matches!(self, Fault::RestoreFailed)
    }
}

/// A fault as it stands in the latch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Latched {
    /// Which.
    pub fault: Fault,
    /// Someone has seen it.
    pub acknowledged: bool,
    /// Its cause is gone.
    pub mended: bool,
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

    /// A fault from before the start of the program. One that was raised since then is younger and stands; one that
    /// needs nothing more is none.
    pub fn remember(&mut self, latched: Latched) {
        let Latched { fault, acknowledged, mended } = latched;
        let entry = &mut self.entries[fault as usize];
        let mended = mended || fault.passing();
        let done_with = acknowledged && mended;
        if !entry.raised && !done_with {
            *entry = Entry { raised: true, acknowledged, mended };
        }
    }

    /// The cause of a fault is gone.
    pub fn mend(&mut self, fault: Fault) {
        let entry = &mut self.entries[fault as usize];
        if entry.acknowledged {
            *entry = Entry::default();
        }
        entry.mended = entry.raised;
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
        self.latched().map(|latched| (latched.fault, !latched.acknowledged))
    }

    /// The latched faults, with all that has to be kept of them over a restart.
    pub fn latched(&self) -> impl Iterator<Item = Latched> + '_ {
        Fault::ALL.into_iter().zip(&self.entries).filter(|(_, e)| e.raised).map(|(fault, e)| Latched {
            fault,
            acknowledged: e.acknowledged,
            mended: e.mended,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_place_of_its_own() {
        for (place, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, place);
            assert_eq!(Fault::of_word(fault.word()), Some(fault));
        }
        assert_eq!(Fault::of_word("none"), None);
    }

    #[test]
    fn a_latch_that_is_carried_over_a_restart_is_the_same_latch() {
        for fault in Fault::ALL {
            for deeds in 0..8 {
                let mut before = Latch::default();
                before.raise(fault);
                if deeds & 1 > 0 {
                    before.acknowledge();
                }
                if deeds & 2 > 0 {
                    before.mend(fault);
                }
                let mut after = Latch::default();
                before.latched().for_each(|latched| after.remember(latched));
                assert_eq!(after, before, "{fault:?} {deeds}");
                // What happened since the start is younger.
                after.raise(fault);
                before.latched().for_each(|latched| after.remember(latched));
                assert!(after.any_new(), "{fault:?} {deeds}");
            }
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
