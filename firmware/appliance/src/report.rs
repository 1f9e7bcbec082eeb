//! Makes the [`Status`] out of what the event loop knows.

use std::collections::BTreeMap;

use chrono::{DateTime, Local};
use mailkeep_controller::disk::Disk;
use mailkeep_controller::job::Stage;
use mailkeep_controller::{Fault, Identity, JobKind, Lamp, Moment, Phase, State, lamps};

use crate::disk_set::{Member, Wanted};
use crate::engine::DiskName;
use crate::ledger::Ledger;
use crate::status::{
    Bring, DiskState, DiskStatus, FaultStatus, JobStatus, LampStatus, MemberStatus, NewsLine, Status, among,
    not_ours, phase_word,
};
use crate::words;

/// What the event loop knows at a moment.
pub struct Known<'a> {
    /// The box's name.
    pub name: &'a str,
    /// The controller.
    pub state: &'a State,
    /// For the lamps.
    pub moment: Moment,
    /// For people.
    pub now: DateTime<Local>,
    /// The clock can be right.
    pub clock_trusted: bool,
    /// What is remembered.
    pub ledger: &'a Ledger,
    /// The set ledger.
    pub members: BTreeMap<String, Member>,
    /// The disk in the slot, if it is ours.
    pub disk: Option<&'a DiskName>,
    /// Whose it is, if it was looked at.
    pub identity: Option<Identity>,
    /// It can be read and no more.
    pub read_only: bool,
    /// Which disk is to be brought.
    pub wanted: Option<&'a Wanted>,
    /// When the next backup begins.
    pub next_backup: Option<i64>,
    /// How far the job is.
    pub progress: &'a str,
    /// The last notices.
    pub news: Vec<NewsLine>,
}

/// The status at that moment.
pub fn status(known: Known<'_>) -> Status {
    let Known { state, ledger, now, .. } = known;
    let in_the_box = known.disk.map(|disk| disk.id.as_str());
    let since = |fault: Fault| ledger.faults.iter().find(|saved| saved.fault == fault.word());
    Status {
        name: known.name.to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        time: now.timestamp(),
        clock_trusted: known.clock_trusted,
        lamps: lamp_statuses(state, known.moment),
        disk: disk_status(&known),
        job: job_status(state, known.progress),
        backup_owed: state.is_backup_owed(),
        last_proven: ledger.proven,
        last_good: state.jobs().history.last_good,
        overdue: state.is_overdue(known.moment),
        next_backup: known.next_backup,
        faults: state
            .faults()
            .faults()
            .map(|(fault, new)| FaultStatus {
                fault: fault.word(),
                new,
                since: since(fault).map(|saved| saved.since),
                words: words::fault(fault),
            })
            .collect(),
        bring: known.wanted.map(|wanted| Bring {
            disk: wanted.disk.clone(),
            label: wanted.label.clone(),
            by: wanted.by,
            due: state.is_swap_due(),
            words: words::bring(wanted.label.as_deref(), wanted.by),
        }),
        set: known
            .members
            .into_iter()
            .map(|(id, member)| MemberStatus { in_the_box: in_the_box == Some(&id), id, member })
            .collect(),
        news: known.news,
    }
}

fn lamp_statuses(state: &State, moment: Moment) -> Vec<LampStatus> {
    let name = |lamp| match lamp {
        Lamp::Status => "status",
        Lamp::Disk => "disk",
        Lamp::Fault => "fault",
    };
    let shown = Lamp::ALL.into_iter().zip(lamps(state, moment));
    shown
        .map(|(lamp, pattern)| LampStatus {
            lamp: name(lamp),
            pattern: pattern.word(),
            meaning: words::lamp(lamp, pattern),
        })
        .collect()
}

fn disk_status(known: &Known<'_>) -> DiskStatus {
    let disk = known.state.disk();
    let ours = || match known.disk {
        Some(name) => among(&name.id, known.members.iter()),
        None => DiskState::Current,
    };
    let state = match disk {
        Disk::Absent => DiskState::Absent,
        Disk::Pulled { .. } => DiskState::Pulled,
        Disk::Inspecting(_) => DiskState::Looking,
        Disk::Failing(_) if known.read_only => DiskState::ReadOnly,
        Disk::Failing(_) => DiskState::Failing,
        Disk::NotOurs(_) => not_ours(known.identity),
        Disk::Safe { full: true, .. } | Disk::Ejecting { full: true, .. } => DiskState::Full,
        Disk::Safe { .. } | Disk::Mounting(_) | Disk::Mounted { .. } | Disk::Ejecting { .. } => ours(),
    };
    let busy = disk.insertion().is_some_and(|insertion| known.state.jobs().works_on(insertion));
    let in_use = disk.in_use() || busy;
    DiskStatus {
        state: state.word(),
        in_use,
        leaving: matches!(disk, Disk::Ejecting { .. } | Disk::Pulled { .. }),
        safe_to_remove: disk != Disk::Absent && !in_use,
        id: known.disk.map(|disk| disk.id.clone()),
        label: known.disk.map(|disk| disk.label.clone()),
    }
}

fn job_status(state: &State, progress: &str) -> Option<JobStatus> {
    let running = state.jobs().running?;
    let phase = match running.stage {
        Stage::Mounting => None,
        Stage::At(phase) => Some(phase),
    };
    Some(JobStatus {
        kind: match running.kind {
            JobKind::Backup => "backup",
            JobKind::Restore => "restore",
        },
        phase: phase.map_or("mounting", phase_word),
        mail_stopped: phase == Some(Phase::Window),
        cancelled: running.cancelled,
        progress: progress.to_owned(),
    })
}
