//! What is to become of every pack: a value that can be shown and tested before anything happens. Follows COMMIT.md,
//! "Prune", steps 4, 5 and 11.

use std::collections::{BTreeSet, HashSet};

use mailkeep_format::PackId;

use super::mark::{Marks, PackUse};
use crate::limits;
use crate::retention::Clock;
use crate::swept::Swept;

/// What the plan depends on beside the marks.
pub(super) struct Situation<'a> {
    pub(super) swept: &'a Swept,
    /// Packs that no snapshot has sealed and no sweep has taken over.
    pub(super) unsealed: &'a BTreeSet<PackId>,
    /// Packs that are known to be damaged.
    pub(super) damaged: &'a dyn Fn(&PackId) -> bool,
    pub(super) clock: Clock,
    pub(super) grace: u64,
    /// Free space, bytes.
    pub(super) free: u64,
    /// There is less of it than a backup needs.
    pub(super) short: bool,
    /// The highest generation that stays.
    pub(super) newest: u64,
    /// The highest generation ever.
    pub(super) highest: u64,
}

/// What becomes of packs.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Nothing in them is needed.
    pub(super) dead: Vec<PackUse>,
    /// Much in them is not needed; the rest is copied.
    pub(super) repack: Vec<PackUse>,
    /// Tombstoned, but needed again.
    pub(super) revived: Vec<PackId>,
    /// Tombstoned long enough.
    pub(super) due: Vec<PackUse>,
    /// Tombstoned now or before, and to stay for a while.
    pub(super) waiting: Vec<PackUse>,
    /// Bytes in packs that stay which nothing needs.
    pub(super) waste: u64,
}

impl Plan {
    pub(super) fn new(marks: &Marks, situation: &Situation<'_>) -> Plan {
        let mut plan = Plan::default();
        for pack in marks.packs() {
            let needed = pack.chunks > 0;
            match situation.swept.tombstoned.get(&pack.id) {
                Some(_) if needed => plan.revived.push(pack.id),
                Some(tomb) => {
                    let due = situation.is_over(tomb.generation, tomb.time) && !marks.may_need(pack);
                    if due { &mut plan.due } else { &mut plan.waiting }.push(pack.clone());
                }
                None if needed => plan.repack.push(pack.clone()),
                None if situation.spares(&pack.id) || marks.may_need(pack) => plan.waste += pack.length,
                None => {
                    let due = situation.is_over(situation.highest, situation.clock.now);
                    plan.dead.push(pack.clone());
                    if due { &mut plan.due } else { &mut plan.waiting }.push(pack.clone());
                }
            }
        }
        if marks.trouble().directories > 0 {
            // What they need is not known: no pack may be given up, not even a copied one.
            plan.waste +=
                plan.repack.drain(..).map(|pack| pack.length.saturating_sub(pack.live)).sum::<u64>();
        }
        plan.choose_repack(situation);
        plan
    }

    /// Packs that get a tombstone.
    pub(super) fn given_up(&self) -> HashSet<PackId> {
        self.dead.iter().chain(&self.repack).map(|pack| pack.id).collect()
    }

    /// Packs that are deleted in this run.
    pub(super) fn going_now(&self) -> BTreeSet<PackId> {
        self.due.iter().map(|pack| pack.id).collect()
    }

    /// Of the packs that are needed in part, those that are worth it and for which there is room.
    fn choose_repack(&mut self, situation: &Situation<'_>) {
        let waste = PackUse::waste;
        let mut packs = std::mem::take(&mut self.repack);
        // The most gain for the least copying first.
        packs.sort_by(|a, b| (waste(b) * a.length).cmp(&(waste(a) * b.length)).then_with(|| a.id.cmp(&b.id)));
        let mut room = situation.free.saturating_sub(2 * limits::ROOM_SHORT);
        for pack in packs {
            let worth = waste(&pack) * limits::REPACK_WASTE >= pack.length
                && !situation.short
                && !situation.unsealed.contains(&pack.id)
                && !(situation.damaged)(&pack.id)
                && !pack.doubtful;
            if worth && pack.live <= room {
                room -= pack.live;
                self.repack.push(pack);
            } else {
                self.waste += waste(&pack);
            }
        }
    }

    /// Whether no pack is to be touched.
    pub(super) fn is_idle(&self) -> bool {
        self.dead.is_empty() && self.repack.is_empty() && self.revived.is_empty() && self.due.is_empty()
    }

    /// Bytes of packs that vanish now.
    pub(super) fn freed(&self) -> u64 {
        self.due.iter().map(|pack| pack.length).sum()
    }

    /// Bytes of packs that vanish later, less what is copied of them.
    pub(super) fn freed_later(&self) -> u64 {
        let waiting: u64 = self.waiting.iter().map(|pack| pack.length).sum();
        let repacked: u64 = self.repack.iter().map(|pack| pack.length.saturating_sub(pack.live)).sum();
        waiting + repacked
    }
}

impl Situation<'_> {
    /// Whether a tombstone of this generation and time has stood long enough. Without room no later generation can be
    /// sealed; then the grace period alone counts.
    fn is_over(&self, generation: u64, time: i64) -> bool {
        let elapsed = u64::try_from(self.clock.now.saturating_sub(time)).unwrap_or(0);
        (self.newest > generation || self.short) && elapsed >= self.grace
    }

    /// Whether a pack that nothing needs is left for the next backup, which may go on with it.
    fn spares(&self, id: &PackId) -> bool {
        self.unsealed.contains(id) && !(self.short && self.grace == 0)
    }
}
