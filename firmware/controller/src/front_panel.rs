//! What the front panel shows: a function of the state and the moment, and of nothing else.
//!
//! [`lamps`] is the "Front panel" table of the interface description, lamp by lamp; where several rows are true
//! at once, the one that someone must act upon first is shown.

use crate::disk::Disk;
use crate::job::{Phase, Stage};
use crate::lamp::{Lamp, Pattern};
use crate::moment::Moment;
use crate::state::State;

/// What the lamps show: STATUS, DISK, FAULT.
pub fn lamps(state: &State, now: Moment) -> [Pattern; 3] {
    let now = state.clamp(now);
    if let Some(testing) = state.self_test(now) {
        return Lamp::ALL.map(|lamp| if lamp == testing { Pattern::Test } else { Pattern::Off });
    }
    [status(state, now), disk(state, now), fault(state, now)]
}

fn status(state: &State, now: Moment) -> Pattern {
    if let Some(running) = state.jobs().running {
        return match running.stage {
            Stage::At(Phase::Window) => Pattern::Fast,
            Stage::At(Phase::Verifying) => Pattern::Double,
            Stage::Mounting | Stage::At(Phase::Live | Phase::Transferring | Phase::Pruning) => Pattern::Slow,
        };
    }
    if let Some((since, days)) = state.age_display(now) {
        return Pattern::Count(since, days);
    }
    if state.jobs().history.last_good { Pattern::Steady } else { Pattern::Wink }
}

fn disk(state: &State, now: Moment) -> Pattern {
    let wanted = state.jobs().wanted || state.is_overdue(now) || state.is_swap_due();
    match state.disk() {
        Disk::Absent | Disk::Pulled { .. } if state.has_waiting_disk() => Pattern::Slow,
        Disk::Absent | Disk::Pulled { .. } if wanted => Pattern::Fast,
        Disk::Absent | Disk::Pulled { .. } => Pattern::Off,
        Disk::NotOurs(_) => Pattern::Double,
        Disk::Failing(_) => Pattern::Fast,
        Disk::Safe { insertion, .. } if state.jobs().works_on(insertion) => Pattern::Slow,
        Disk::Safe { full: true, .. } => Pattern::Fast,
        // It may be taken out, and should be: another one of the set is due.
        Disk::Safe { .. } if state.is_swap_due() => Pattern::Fast,
        Disk::Safe { full: false, .. } => Pattern::Steady,
        Disk::Inspecting(_) | Disk::Mounting(_) | Disk::Mounted { .. } | Disk::Ejecting { .. } => {
            Pattern::Slow
        }
    }
}

fn fault(state: &State, now: Moment) -> Pattern {
    if state.faults().any_new() {
        Pattern::Fast
    } else if state.is_armed(now) {
        Pattern::Double
    } else if state.is_overdue(now) {
        Pattern::Slow
    } else if state.faults().any() {
        Pattern::Steady
    } else {
        Pattern::Off
    }
}
