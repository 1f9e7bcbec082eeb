//! What is damaged, and what is to be done about it: a value that can be shown and tested.

use std::collections::BTreeSet;

use mailkeep_format::{PackId, SnapshotId};

use super::copies::{self, Kind, Mending, Twin};
use crate::drills::Drills;
use crate::error::RepositoryError;
use crate::index::{Loaded, View};
use crate::keyring::KeySource;
use crate::layout;
use crate::monitor::{LogMonitor, Monitor, Problem, Severity};
use crate::repository::Repository;
use crate::verified::Verified;
use crate::verify::{VerifyReport, examine};
use crate::{packfile, verify};

/// A pack that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedPack {
    /// Its name.
    pub id: PackId,
    /// Its length now, in bytes.
    pub bytes: u64,
    /// Whether it still says itself what lies in it.
    pub has_contents: bool,
}

/// What a repair is going to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// Files of which there are two copies and not both are good.
    pub(super) twins: Vec<Twin>,
    /// Packs whose good chunks are copied to new packs before they are moved away.
    pub packs: Vec<DamagedPack>,
    /// Whether the index is made again.
    pub index: bool,
    /// Single files that are moved away: nothing is lost with them.
    pub(super) singles: Vec<String>,
    /// What is lost for good on this disk: directories and files by snapshot and path, manifests, and the like.
    pub lost: Vec<Problem>,
    /// The snapshots that have lost something; they stay, and the rest of them can be restored.
    pub lost_snapshots: BTreeSet<SnapshotId>,
    /// The highest generation that is there.
    pub(super) generation: u64,
    /// What was looked at.
    pub looked_at: VerifyReport,
}

impl RepairPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.twins.is_empty()
            && self.packs.is_empty()
            && self.singles.is_empty()
            && !self.index
            && self.lost_snapshots.is_empty()
    }

    /// The files that are brought back from their other copy.
    pub fn to_restore(&self) -> Vec<String> {
        self.twins.iter().filter_map(|twin| twin.restored().map(|copy| twin.paths[copy].clone())).collect()
    }

    /// The files that are moved to `quarantine/`, packs included.
    pub fn to_quarantine(&self) -> Vec<String> {
        let twins = self.twins.iter().flat_map(|twin| twin.moved().map(|copy| twin.paths[copy].clone()));
        let packs = self.packs.iter().map(|pack| layout::pack(&pack.id));
        twins.chain(self.singles.iter().cloned()).chain(packs).collect()
    }

    /// What this repair cannot decide.
    pub(super) fn undecided(&self) -> Vec<Problem> {
        let open = self.twins.iter().filter(|twin| twin.mending == Mending::Undecided);
        open.map(|twin| {
            let what = match twin.kind {
                Kind::Key => {
                    "its two copies differ, and only its own key can tell which is the right one: repair with that \
                     key, or revoke it and add another one"
                }
                _ => "the disk does not give a copy of it, and no other one is good: try again, with another cable or port",
            };
            Problem::new(Severity::Covered, twin.paths[0].clone(), what)
        })
        .collect()
    }
}

/// Reads everything and makes the plan.
pub(super) fn make(
    repository: &Repository,
    key: &KeySource,
    monitor: &dyn Monitor,
) -> Result<RepairPlan, RepositoryError> {
    let verify::Examined { mut report, damaged, lost, generation } = examine(repository, monitor)?;
    let loaded = Loaded::load(repository, &LogMonitor)?;
    let verified = Verified::load(repository, &LogMonitor)?;
    let mut plan = RepairPlan {
        twins: copies::examine(repository, key)?,
        index: index_is_damaged(repository, &loaded)?,
        lost_snapshots: lost,
        generation,
        ..RepairPlan::default()
    };
    for id in damaged {
        let has_contents = packfile::open(repository, &id).is_ok();
        let bytes = loaded.present.get(&id).copied().unwrap_or(0);
        plan.packs.push(DamagedPack { id, bytes, has_contents });
    }
    plan.singles = verified.damaged.iter().map(|name| format!("{}/{name}", layout::VERIFIED)).collect();
    let drills = Drills::load(repository, &LogMonitor)?;
    plan.singles.extend(drills.damaged.iter().map(|name| format!("{}/{name}", layout::DRILLS)));
    // A pack that was found damaged is dealt with; what was in it and is nowhere else is named by path.
    let by_path = |problem: &&Problem| {
        problem.severity == Severity::Lost
            && !problem.path.starts_with(layout::INDEX)
            && !problem.path.starts_with(&format!("{}/", layout::PACKS))
    };
    // Packs are looked at side by side, and whichever is done first speaks first: a plan says the same each time.
    report.problems.sort_by(|a, b| (&a.path, &a.what).cmp(&(&b.path, &b.what)));
    plan.lost = report.problems.iter().filter(by_path).cloned().collect();
    plan.looked_at = report;
    Ok(plan)
}

fn index_is_damaged(repository: &Repository, loaded: &Loaded) -> Result<bool, RepositoryError> {
    if !loaded.stale.is_empty() || !loaded.unindexed.is_empty() {
        return Ok(true);
    }
    let view = View::load(repository, &LogMonitor)?;
    for run in view.runs() {
        match run.check() {
            Err(RepositoryError::Damaged { .. }) => return Ok(true),
            other => other?,
        }
    }
    Ok(false)
}
