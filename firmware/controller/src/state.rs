//! The whole state, and the step that every event takes through it.
//!
//! The step has one shape: hold time still if it jumped back, let what has run out run out, handle the event,
//! then see whether something that was waiting can begin. Order of precedence where two things meet: a surprise
//! removal comes before all, ending the program before new work, a new fault before arming a restore.

use crate::action::{Action, Notice};
use crate::arming::Arming;
use crate::button::{Button, Buttons, Gesture};
use crate::disk::{Disk, Insertion, Slot};
use crate::event::{Event, Identity};
use crate::fault::{Fault, Latch};
use crate::job::{History, JobId, JobKind, JobResult, Jobs, Phase, Running, Stage};
use crate::lamp::{Lamp, count_length};
use crate::limits;
use crate::moment::{Moment, Span};

/// What the owner of the box has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Without a proven backup for longer than this, FAULT says "overdue"; `None`: never.
    pub overdue_after: Option<Span>,
}

/// All that the box knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    settings: Settings,
    started: Moment,
    seen: Moment,
    slot: Slot,
    jobs: Jobs,
    buttons: Buttons,
    arming: Arming,
    faults: Latch,
    age_shown: Option<(Moment, Option<u32>)>,
    swap_due: bool,
    stopping: bool,
    exited: bool,
}

impl State {
    /// The state of a box that was switched on at this moment; it begins with the self-test of its lamps.
    pub fn new(settings: Settings, now: Moment) -> Self {
        Self {
            settings,
            started: now,
            seen: now,
            slot: Slot::default(),
            jobs: Jobs::default(),
            buttons: Buttons::default(),
            arming: Arming::default(),
            faults: Latch::default(),
            age_shown: None,
            swap_due: false,
            stopping: false,
            exited: false,
        }
    }

    /// Takes one event at a moment; returns what is to be done, in this order.
    pub fn step(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let now = self.clamp(now);
        self.seen = now;
        let mut out = Vec::new();
        if self.exited {
            return out;
        }
        self.run_out(now, &mut out);
        if disarms(event) {
            self.disarm(now, &mut out);
        }
        match event {
            Event::Press(button) => {
                let gesture = self.buttons.press(button, now);
                self.gesture(gesture, now, &mut out);
            }
            Event::Release(button) => {
                let gesture = self.buttons.release(button, now);
                self.gesture(gesture, now, &mut out);
            }
            Event::Tick => {}
            Event::DiskArrived(insertion) => self.slot.arrived(insertion),
            Event::DiskGone(insertion) => self.disk_gone(insertion, &mut out),
            Event::Identified(insertion, identity) => self.identified(insertion, identity, &mut out),
            Event::InspectFailed(insertion) => {
                self.inspect_failed(insertion, Fault::DiskUnreadable, &mut out);
            }
            Event::OnlyReadable(insertion) => {
                self.inspect_failed(insertion, Fault::DiskOnlyReadable, &mut out);
                self.mount_failed(insertion, Fault::DiskOnlyReadable, &mut out);
            }
            Event::Mounted(insertion) => self.mounted(insertion, &mut out),
            Event::MountFailed(insertion) => {
                self.mount_failed(insertion, Fault::DiskUnreadable, &mut out);
            }
            Event::Unmounted(insertion) => self.unmounted(insertion, &mut out),
            Event::UnmountFailed(insertion) => self.unmount_failed(insertion, &mut out),
            Event::Progress(id, phase) => self.progress(id, phase),
            Event::JobEnded(id, result) => self.job_ended(id, result, now, &mut out),
            Event::BackupDue => self.want_backup(&mut out),
            Event::Remembered { proven, last_good } => self.remember(proven.min(now), last_good),
            Event::Latched(latched) => self.faults.remember(latched),
            Event::Trouble(fault) => self.raise(fault, &mut out),
            Event::Mended(fault) => self.faults.mend(fault),
            Event::SwapDue(due) => self.swap_due = due,
            Event::EjectAsked if !self.stopping => self.eject_asked(&mut out),
            Event::CancelAsked if !self.stopping => self.cancel_asked(&mut out),
            Event::EjectAsked | Event::CancelAsked => {}
            Event::Shutdown => self.shutdown(&mut out),
        }
        self.begin_what_waits(now, &mut out);
        out
    }

    /// When the next [`Event::Tick`] is needed at the latest, for holds, run-outs and lamps that change with
    /// time alone. Blinking is not counted; see [`Pattern::next_edge`](crate::Pattern::next_edge).
    pub fn wake_at(&self) -> Option<Moment> {
        let step = limits::SELF_TEST_LAMP;
        let self_test = (0..3).map(|n| self.started + Span::from_millis(step.millis() * (n + 1)));
        let age = self.age_shown.map(|(since, days)| since + count_length(days));
        let overdue =
            self.settings.overdue_after.map(|after| self.proven_or_start() + after + Span::from_millis(1));
        self_test
            .chain(age)
            .chain(overdue)
            .chain(self.buttons.wake_at())
            .chain(self.arming.wake_at())
            .filter(|at| *at > self.seen)
            .min()
    }

    /// The disk that the box deals with.
    pub fn disk(&self) -> Disk {
        self.slot.disk
    }

    /// The jobs, running and past.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// The faults that are latched.
    pub fn faults(&self) -> &Latch {
        &self.faults
    }

    /// Is a restore armed?
    pub fn is_armed(&self, now: Moment) -> bool {
        self.arming.is_armed(self.clamp(now))
    }

    /// Has there been no proven backup for too long?
    pub fn is_overdue(&self, now: Moment) -> bool {
        self.settings.overdue_after.is_some_and(|after| self.clamp(now).since(self.proven_or_start()) > after)
    }

    /// Is another disk of the set due?
    pub fn is_swap_due(&self) -> bool {
        self.swap_due
    }

    /// Is a backup wanted, or under way and not ended? What a program that is killed now has to make up for.
    pub fn is_backup_owed(&self) -> bool {
        self.jobs.wanted || self.jobs.running.is_some_and(|job| job.kind == JobKind::Backup)
    }

    /// Is the program on its way out?
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(crate) fn clamp(&self, now: Moment) -> Moment {
        now.max(self.seen)
    }

    pub(crate) fn has_waiting_disk(&self) -> bool {
        self.slot.has_waiting()
    }

    /// The lamp that the self-test lights now.
    pub(crate) fn self_test(&self, now: Moment) -> Option<Lamp> {
        let place = now.since(self.started).millis() / limits::SELF_TEST_LAMP.millis();
        Lamp::ALL.get(usize::try_from(place).ok()?).copied()
    }

    pub(crate) fn age_display(&self, now: Moment) -> Option<(Moment, Option<u32>)> {
        self.age_shown.filter(|(since, days)| now.since(*since) < count_length(*days))
    }

    fn proven_or_start(&self) -> Moment {
        self.jobs.history.proven.unwrap_or(self.started)
    }

    // ---- time ----

    fn run_out(&mut self, now: Moment, out: &mut Vec<Action>) {
        if !self.arming.is_armed(now) && self.arming.wake_at().is_some() {
            self.arming = Arming::default();
            out.push(Action::Say(Notice::RestoreDisarmed));
        }
        if self.age_display(now).is_none() {
            self.age_shown = None;
        }
        let gesture = self.buttons.tick(now);
        self.gesture(gesture, now, out);
    }

    fn begin_what_waits(&mut self, now: Moment, out: &mut Vec<Action>) {
        if self.stopping {
            self.exit_when_clear(out);
            return;
        }
        // Until the self-test is over the DISK lamp is not free to say "in use".
        if self.self_test(now).is_none() {
            if let Some(insertion) = self.slot.take_next() {
                out.push(Action::Inspect(insertion));
            }
        }
        if let (true, None, Disk::Safe { insertion, full: false }) =
            (self.jobs.wanted, self.jobs.running, self.slot.disk)
        {
            self.jobs.wanted = false;
            self.jobs.begin(JobKind::Backup, insertion, Stage::Mounting);
            self.slot.disk = Disk::Mounting(insertion);
            self.age_shown = None;
            self.disarm(now, out);
            out.push(Action::Mount(insertion));
        }
    }

    // ---- hands ----

    fn gesture(&mut self, gesture: Option<Gesture>, now: Moment, out: &mut Vec<Action>) {
        let Some(gesture) = gesture else { return };
        if self.stopping {
            return;
        }
        if let Gesture::Chord(first) = gesture {
            if self.arming.chord(first, now) {
                self.start_restore(out);
            }
            return;
        }
        if self.disarm(now, out) {
            return;
        }
        match gesture {
            Gesture::Short(Button::Backup) => self.backup_pressed(out),
            Gesture::Held(Button::Backup) => self.eject_asked(out),
            Gesture::Short(Button::Restore) => self.show_age(now, out),
            Gesture::Held(Button::Restore) => self.arm(now, out),
            Gesture::Chord(_) | Gesture::Clumsy => {}
        }
    }

    fn backup_pressed(&mut self, out: &mut Vec<Action>) {
        if self.faults.acknowledge() {
            // One press, one meaning: whoever acknowledges has not yet decided to start.
            out.push(Action::Say(Notice::FaultAcknowledged));
        } else if self.jobs.running.is_some() {
            out.push(Action::Say(Notice::AlreadyRunning));
        } else {
            if let Disk::Safe { full, .. } = &mut self.slot.disk {
                *full = false;
            }
            self.want_backup(out);
        }
    }

    fn want_backup(&mut self, out: &mut Vec<Action>) {
        if self.stopping || self.jobs.running.is_some() {
            return;
        }
        self.jobs.wanted = true;
        let usable_soon = !matches!(
            self.slot.disk,
            Disk::Absent | Disk::NotOurs(_) | Disk::Failing(_) | Disk::Safe { full: true, .. }
        );
        if !usable_soon && !self.slot.has_waiting() {
            out.push(Action::Say(Notice::InsertDisk));
        }
    }

    fn eject_asked(&mut self, out: &mut Vec<Action>) {
        // Whoever takes the disk out does not want a backup to begin on it.
        self.jobs.wanted = false;
        if self.jobs.running.is_some() {
            out.push(Action::Say(Notice::BusyNoEject));
            return;
        }
        match self.slot.disk {
            Disk::Mounted { insertion, full } => self.eject(insertion, full, out),
            Disk::Safe { .. } => out.push(Action::Say(Notice::SafeToRemove)),
            Disk::Absent | Disk::Pulled { .. } | Disk::NotOurs(_) | Disk::Failing(_) => {
                out.push(Action::Say(Notice::NothingToEject));
            }
            // On its way out already, or will be after a look at it.
            Disk::Inspecting(_) | Disk::Mounting(_) | Disk::Ejecting { .. } => {}
        }
    }

    fn show_age(&mut self, now: Moment, out: &mut Vec<Action>) {
        let unit = limits::COUNT_UNIT.millis();
        let days = self.jobs.history.proven.map(|proven| now.since(proven).millis() / unit + 1);
        let days = days.map(|days| u32::try_from(days).unwrap_or(u32::MAX));
        // STATUS has more important things to say while a job runs.
        if self.jobs.running.is_none() {
            self.age_shown = Some((now, days.map(|days| days.min(limits::COUNT_MOST))));
        }
        out.push(Action::Say(Notice::Age(days)));
    }

    fn arm(&mut self, now: Moment, out: &mut Vec<Action>) {
        let ready = matches!(self.slot.disk, Disk::Safe { .. })
            && self.jobs.running.is_none()
            && !self.faults.any_new();
        if ready {
            self.arming.arm(now);
        }
        out.push(Action::Say(if ready { Notice::RestoreArmed } else { Notice::RestoreNotNow }));
    }

    fn disarm(&mut self, now: Moment, out: &mut Vec<Action>) -> bool {
        let was = self.arming.disarm(now);
        if was {
            out.push(Action::Say(Notice::RestoreDisarmed));
        }
        was
    }

    fn start_restore(&mut self, out: &mut Vec<Action>) {
        let Disk::Safe { insertion, .. } = self.slot.disk else { return };
        if self.jobs.running.is_some() {
            return;
        }
        self.age_shown = None;
        let id = self.jobs.begin(JobKind::Restore, insertion, Stage::At(Phase::Live));
        out.push(Action::StartRestore(id, insertion));
    }

    // ---- the disk ----

    fn disk_gone(&mut self, gone: Insertion, out: &mut Vec<Action>) {
        self.slot.forget_waiting(gone);
        if self.slot.disk.insertion() != Some(gone) || matches!(self.slot.disk, Disk::Pulled { .. }) {
            return;
        }
        if let Some(running) = self.jobs.running.filter(|running| running.insertion == gone) {
            self.pulled_under(running, gone, out);
            return;
        }
        self.slot.disk = match self.slot.disk {
            // Only read so far: no harm done. The look is still to report that it has let go.
            Disk::Inspecting(_) => Disk::Pulled { insertion: gone, dropping: true },
            Disk::Mounting(_) => Disk::Pulled { insertion: gone, dropping: false },
            Disk::Ejecting { .. } => {
                self.raise(Fault::DiskPulled, out);
                Disk::Pulled { insertion: gone, dropping: true }
            }
            Disk::Mounted { .. } => {
                self.raise(Fault::DiskPulled, out);
                out.push(Action::Forget(gone));
                Disk::Pulled { insertion: gone, dropping: true }
            }
            Disk::Absent | Disk::Failing(_) | Disk::NotOurs(_) | Disk::Safe { .. } | Disk::Pulled { .. } => {
                Disk::Absent
            }
        };
    }

    fn pulled_under(&mut self, running: Running, gone: Insertion, out: &mut Vec<Action>) {
        self.slot.disk = Disk::Pulled { insertion: gone, dropping: false };
        self.raise(Fault::DiskPulled, out);
        if running.stage == Stage::Mounting {
            self.jobs.running = None;
            self.jobs.history.last_good = false;
            self.jobs.wanted = !self.stopping;
        } else {
            self.cancel(out);
        }
    }

    fn identified(&mut self, insertion: Insertion, identity: Identity, out: &mut Vec<Action>) {
        if self.answer_about_pulled(insertion) || self.slot.disk != Disk::Inspecting(insertion) {
            return;
        }
        let (disk, notice) = match identity {
            Identity::Ours => (Disk::Safe { insertion, full: false }, Notice::DiskReady),
            Identity::Foreign => (Disk::NotOurs(insertion), Notice::DiskForeign),
            Identity::Unknown => (Disk::NotOurs(insertion), Notice::DiskUnknown),
        };
        self.slot.disk = disk;
        out.push(Action::Say(notice));
    }

    fn inspect_failed(&mut self, insertion: Insertion, fault: Fault, out: &mut Vec<Action>) {
        if self.answer_about_pulled(insertion) || self.slot.disk != Disk::Inspecting(insertion) {
            return;
        }
        self.slot.disk = Disk::Failing(insertion);
        self.raise(fault, out);
    }

    fn mounted(&mut self, insertion: Insertion, out: &mut Vec<Action>) {
        if self.slot.disk == (Disk::Pulled { insertion, dropping: false }) {
            if self.jobs.works_on(insertion) {
                return;
            }
            self.slot.disk = Disk::Pulled { insertion, dropping: true };
            out.push(Action::Forget(insertion));
            return;
        }
        if self.slot.disk != Disk::Mounting(insertion) {
            return;
        }
        let job = self.jobs.running.as_mut().filter(|job| job.insertion == insertion && !job.cancelled);
        match job {
            Some(job) => {
                job.stage = Stage::At(Phase::Live);
                self.slot.disk = Disk::Mounted { insertion, full: false };
                out.push(Action::StartBackup(job.id, insertion));
                out.push(Action::Say(Notice::BackupStarted));
            }
            None => self.eject(insertion, false, out),
        }
    }

    fn mount_failed(&mut self, insertion: Insertion, fault: Fault, out: &mut Vec<Action>) {
        if self.answer_about_pulled(insertion) || self.slot.disk != Disk::Mounting(insertion) {
            return;
        }
        self.slot.disk = Disk::Failing(insertion);
        if self.jobs.works_on(insertion) {
            self.jobs.running = None;
            self.jobs.history.last_good = false;
            self.jobs.wanted = !self.stopping;
        }
        self.raise(fault, out);
    }

    fn eject(&mut self, insertion: Insertion, full: bool, out: &mut Vec<Action>) {
        self.slot.disk = Disk::Ejecting { insertion, full };
        out.push(Action::Eject(insertion));
    }

    fn unmounted(&mut self, insertion: Insertion, out: &mut Vec<Action>) {
        // Pulled while it was being mounted: only the answer to that mount says what is to be let go of.
        if self.slot.disk == (Disk::Pulled { insertion, dropping: false })
            || self.answer_about_pulled(insertion)
        {
            return;
        }
        if let Disk::Ejecting { insertion: ejecting, full } = self.slot.disk {
            if ejecting == insertion {
                self.slot.disk = Disk::Safe { insertion, full };
                self.faults.mend(Fault::EjectFailed);
                out.push(Action::Say(Notice::SafeToRemove));
            }
        }
    }

    fn unmount_failed(&mut self, insertion: Insertion, out: &mut Vec<Action>) {
        if self.answer_about_pulled(insertion) {
            self.raise(Fault::EjectFailed, out);
        } else if let Disk::Ejecting { insertion: ejecting, full } = self.slot.disk {
            if ejecting == insertion {
                self.slot.disk = Disk::Mounted { insertion, full };
                self.raise(Fault::EjectFailed, out);
            }
        }
    }

    /// A last answer about a disk that was pulled: nothing of it is held any more. Returns whether it was one.
    fn answer_about_pulled(&mut self, insertion: Insertion) -> bool {
        let Disk::Pulled { insertion: pulled, .. } = self.slot.disk else { return false };
        let last = pulled == insertion && !self.jobs.works_on(insertion);
        if last {
            self.slot.disk = Disk::Absent;
        }
        last
    }

    // ---- jobs ----

    fn progress(&mut self, id: JobId, phase: Phase) {
        if let Some(running) = self.jobs.find(id) {
            if running.stage != Stage::Mounting {
                running.stage = Stage::At(phase);
            }
        }
    }

    fn job_ended(&mut self, id: JobId, result: JobResult, now: Moment, out: &mut Vec<Action>) {
        let Some(job) = self.jobs.find(id).copied().filter(|job| job.stage != Stage::Mounting) else {
            return;
        };
        self.jobs.running = None;
        match job.kind {
            JobKind::Backup => self.backup_ended(result, now, out),
            JobKind::Restore if result != JobResult::Proven => self.raise(Fault::RestoreFailed, out),
            JobKind::Restore => {}
        }
        if result == JobResult::MailDown {
            self.raise(Fault::MailDown, out);
        }
        match self.slot.disk {
            Disk::Pulled { insertion, dropping: false } if insertion == job.insertion => {
                // The next disk, or this one put in again, finishes what was begun.
                self.jobs.wanted =
                    job.kind == JobKind::Backup && result != JobResult::Proven && !self.stopping;
                self.slot.disk = Disk::Pulled { insertion, dropping: true };
                out.push(Action::Forget(insertion));
            }
            Disk::Mounted { insertion, .. } if insertion == job.insertion => {
                self.eject(insertion, result == JobResult::DiskFull, out);
            }
            _ => {}
        }
    }

    fn backup_ended(&mut self, result: JobResult, now: Moment, out: &mut Vec<Action>) {
        if result != JobResult::Cancelled {
            self.jobs.history.last_good = result == JobResult::Proven;
        }
        match result {
            JobResult::Proven => {
                self.jobs.history.proven = Some(now);
                for mended in [
                    Fault::BackupFailed,
                    Fault::BackupNotProven,
                    Fault::DiskPulled,
                    Fault::DiskUnreadable,
                    Fault::DiskOnlyReadable,
                    Fault::DiskFull,
                    Fault::MailDown,
                ] {
                    self.faults.mend(mended);
                }
                out.push(Action::Say(Notice::BackupProven));
            }
            JobResult::NotProven => self.raise(Fault::BackupNotProven, out),
            JobResult::DiskFull => {
                self.jobs.wanted = !self.stopping;
                self.raise(Fault::DiskFull, out);
            }
            JobResult::Failed | JobResult::MailDown => self.raise(Fault::BackupFailed, out),
            // Whatever asked for the end has already said why; the last backup that ended is still the last.
            JobResult::Cancelled => {}
        }
    }

    fn cancel_asked(&mut self, out: &mut Vec<Action>) {
        self.jobs.wanted = false;
        match self.jobs.running {
            // Nothing was started yet; the mount that is under way is taken back when it is done.
            Some(running) if running.stage == Stage::Mounting => self.jobs.running = None,
            _ => self.cancel(out),
        }
    }

    fn cancel(&mut self, out: &mut Vec<Action>) {
        if let Some(running) = self.jobs.running.as_mut().filter(|running| !running.cancelled) {
            running.cancelled = true;
            out.push(Action::Cancel(running.id));
        }
    }

    fn remember(&mut self, proven: Moment, last_good: bool) {
        if self.jobs.history.proven.is_none_or(|known| known < proven) {
            self.jobs.history = History { proven: Some(proven), last_good };
        }
    }

    fn raise(&mut self, fault: Fault, out: &mut Vec<Action>) {
        self.faults.raise(fault);
        out.push(Action::Say(Notice::FaultRaised(fault)));
    }

    // ---- the end ----

    fn shutdown(&mut self, out: &mut Vec<Action>) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        self.jobs.wanted = false;
        out.push(Action::Say(Notice::Stopping));
        match self.jobs.running {
            // Nothing was started yet; the mount that is under way is taken back when it is done.
            Some(running) if running.stage == Stage::Mounting => self.jobs.running = None,
            Some(_) => self.cancel(out),
            None => {
                if let Disk::Mounted { insertion, full } = self.slot.disk {
                    self.eject(insertion, full, out);
                }
            }
        }
    }

    fn exit_when_clear(&mut self, out: &mut Vec<Action>) {
        // A disk that could not be unmounted must not keep the program from ending: the fault has been raised.
        let held = matches!(self.slot.disk, Disk::Mounted { .. }) || !self.slot.disk.in_use();
        if self.jobs.running.is_none() && held {
            self.exited = true;
            out.push(Action::Exit);
        }
    }
}

/// Does this event take back the first step of a restore? Hands do so by what they do; see `gesture`.
fn disarms(event: Event) -> bool {
    !matches!(
        event,
        Event::Press(_)
            | Event::Release(_)
            | Event::Tick
            | Event::Progress(..)
            | Event::Remembered { .. }
            | Event::Mended(_)
            | Event::SwapDue(_)
    )
}
