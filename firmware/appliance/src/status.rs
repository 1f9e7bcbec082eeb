//! What the box says of itself to whoever asks over the network or its socket: one value, whole and consistent, made by the
//! event loop after each change. README.md, "The box", documents every field; a test holds the two together.
//!
//! Times are seconds since 1970, UTC. Words in `state`, `pattern`, `phase` and `fault` never change; `words` and `meaning`
//! are for people and may.

use mailkeep_controller::{Identity, Phase};
use serde::Serialize;

use crate::disk_set::Member;

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The box's name.
    pub name: String,
    /// Of the program.
    pub version: &'static str,
    /// When this was so.
    pub time: i64,
    /// The clock of the box can be right.
    pub clock_trusted: bool,
    /// As on the box: STATUS, DISK, FAULT.
    pub lamps: Vec<LampStatus>,
    /// The disk in the slot.
    pub disk: DiskStatus,
    /// The job that runs.
    pub job: Option<JobStatus>,
    /// A backup is wanted, or under way.
    pub backup_owed: bool,
    /// The newest backup that was read back and found good.
    pub last_proven: Option<i64>,
    /// The last backup that ended was good.
    pub last_good: bool,
    /// There was none for too long.
    pub overdue: bool,
    /// When the next one begins by itself.
    pub next_backup: Option<i64>,
    /// Trouble that nobody has dealt with yet.
    pub faults: Vec<FaultStatus>,
    /// The disks of the set.
    pub set: Vec<MemberStatus>,
    /// Which of them is to be brought next.
    pub bring: Option<Bring>,
    /// The last notices, the newest last.
    pub news: Vec<NewsLine>,
}

/// A lamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LampStatus {
    /// `status`, `disk`, `fault`.
    pub lamp: &'static str,
    /// `off`, `steady`, `slow`, `fast`, `double`, `wink`, `test`, `count`.
    pub pattern: &'static str,
    /// What that tells.
    pub meaning: &'static str,
}

/// The disk in the slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskStatus {
    /// See [`DiskState::word`].
    pub state: &'static str,
    /// It is mounted, or about to be.
    pub in_use: bool,
    /// It is being flushed and unmounted.
    pub leaving: bool,
    /// It may be taken out now.
    pub safe_to_remove: bool,
    /// Repository id, if it is ours.
    pub id: Option<String>,
    /// Its name, if it is ours.
    pub label: Option<String>,
}

/// How a disk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// There is none.
    Absent,
    /// It is being looked at.
    Looking,
    /// No repository is on it.
    Unknown,
    /// It belongs to another box.
    Foreign,
    /// Ours, and another disk of the set has a newer backup.
    Behind,
    /// Ours, and none has.
    Current,
    /// Ours, and no backup fits any more.
    Full,
    /// It can't be read.
    Failing,
    /// Ours, can be restored from, takes no more backups.
    ReadOnly,
    /// It was pulled while in use, and is not let go of yet.
    Pulled,
}

impl DiskState {
    /// The state in one word; it never changes.
    pub const fn word(self) -> &'static str {
        match self {
            DiskState::Absent => "absent",
            DiskState::Looking => "looking",
            DiskState::Unknown => "unknown",
            DiskState::Foreign => "foreign",
            DiskState::Behind => "behind",
            DiskState::Current => "current",
            DiskState::Full => "full",
            DiskState::Failing => "failing",
            DiskState::ReadOnly => "read-only",
            DiskState::Pulled => "pulled",
        }
    }
}

/// How a disk that is not ours stands.
pub fn not_ours(identity: Option<Identity>) -> DiskState {
    match identity {
        Some(Identity::Foreign) => DiskState::Foreign,
        _ => DiskState::Unknown,
    }
}

/// How a disk of ours stands among the others.
pub fn among<'a>(disk: &str, members: impl Iterator<Item = (&'a String, &'a Member)>) -> DiskState {
    let (mut own, mut others) = (None, None);
    for (id, member) in members {
        let newest = if id == disk { &mut own } else { &mut others };
        *newest = member.proven.max(*newest);
    }
    if others > own { DiskState::Behind } else { DiskState::Current }
}

/// The job that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobStatus {
    /// `backup` or `restore`.
    pub kind: &'static str,
    /// `mounting`, `live`, `window`, `transferring`, `verifying`, `pruning`.
    pub phase: &'static str,
    /// Mail is stopped now.
    pub mail_stopped: bool,
    /// Its end was asked for.
    pub cancelled: bool,
    /// How far it is, in words.
    pub progress: String,
}

/// A phase in one word.
pub const fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Live => "live",
        Phase::Window => "window",
        Phase::Transferring => "transferring",
        Phase::Verifying => "verifying",
        Phase::Pruning => "pruning",
    }
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultStatus {
    /// Which.
    pub fault: &'static str,
    /// Nobody has acknowledged it yet.
    pub new: bool,
    /// When it was raised.
    pub since: Option<i64>,
    /// What it is and what to do.
    pub words: &'static str,
}

/// A disk of the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// Repository id.
    pub id: String,
    /// It is in the slot.
    pub in_the_box: bool,
    /// What is remembered of it.
    #[serde(flatten)]
    pub member: Member,
}

/// Which disk is to be brought next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bring {
    /// Repository id; none: a new disk is to be prepared.
    pub disk: Option<String>,
    /// Its name.
    pub label: Option<String>,
    /// By when.
    pub by: Option<i64>,
    /// That time has passed.
    pub due: bool,
    /// The same for people.
    pub words: String,
}

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewsLine {
    /// When.
    pub time: i64,
    /// What.
    pub words: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_disk_is_behind_when_another_one_has_a_newer_proven_backup() {
        let member = |proven| Member { proven, ..Member::default() };
        for (own, other, state) in [
            (None, None, DiskState::Current),
            (Some(5), None, DiskState::Current),
            (None, Some(5), DiskState::Behind),
            (Some(5), Some(6), DiskState::Behind),
            (Some(6), Some(6), DiskState::Current),
        ] {
            let members: BTreeMap<String, Member> =
                [("a".to_owned(), member(own)), ("b".to_owned(), member(other))].into();
            assert_eq!(among("a", members.iter()), state, "{own:?} {other:?}");
        }
        assert_eq!(not_ours(Some(Identity::Foreign)), DiskState::Foreign);
        assert_eq!(not_ours(None), DiskState::Unknown);
    }
}
