//! Hazard: the front panel differs from its table. One story per row, told as a person at the box sees it.

use mailkeep_controller::disk::Insertion;
use mailkeep_controller::{
    Action, Button, Event, Fault, Identity, JobId, JobResult, Moment, Notice, Pattern, Phase, Settings, Span,
    State, lamps,
};

const A: Insertion = Insertion(1);
const B: Insertion = Insertion(2);
const HOUR: u64 = 3_600_000;

struct Box {
    state: State,
    now: Moment,
}

impl Box {
    /// A box whose self-test is over.
    fn on() -> Self {
        let start = Moment::from_millis(0);
        let settings = Settings { overdue_after: Some(Span::from_millis(36 * HOUR)) };
        let mut this = Self { state: State::new(settings, start), now: start };
        this.wait(1_500);
        this
    }

    /// A box with our disk in it, looked at.
    fn with_disk() -> Self {
        let mut this = Self::on();
        assert_eq!(this.event(Event::DiskArrived(A)), [Action::Inspect(A)]);
        assert_eq!(this.lamp_words(), ["wink", "slow", "off"]);
        this.event(Event::Identified(A, Identity::Ours));
        this
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        self.state.step(event, self.now)
    }

    fn wait(&mut self, millis: u64) -> Vec<Action> {
        self.now = self.now + Span::from_millis(millis);
        self.event(Event::Tick)
    }

    fn press(&mut self, button: Button, millis: u64) -> Vec<Action> {
        let mut actions = self.event(Event::Press(button));
        actions.extend(self.wait(millis));
        actions.extend(self.event(Event::Release(button)));
        actions
    }

    fn backup_pressed(&mut self) -> Vec<Action> {
        self.press(Button::Backup, 200)
    }

    /// From the press to the start of the engine.
    fn start_backup(&mut self) -> JobId {
        assert_eq!(self.backup_pressed(), [Action::Mount(A)]);
        let actions = self.event(Event::Mounted(A));
        let [Action::StartBackup(id, A), Action::Say(Notice::BackupStarted)] = actions[..] else {
            panic!("{actions:?}")
        };
        id
    }

    fn lamps(&self) -> [Pattern; 3] {
        lamps(&self.state, self.now)
    }

    fn lamp_words(&self) -> [&'static str; 3] {
        self.lamps().map(Pattern::word)
    }
}

#[test]
fn self_test_lights_each_lamp_once_and_no_disk_is_touched_before_its_end() {
    let start = Moment::from_millis(0);
    let mut state = State::new(Settings::default(), start);
    assert_eq!(state.step(Event::DiskArrived(A), start), []);
    let mut seen = Vec::new();
    for millis in [0, 499, 500, 999, 1000, 1499] {
        seen.push(lamps(&state, Moment::from_millis(millis)).map(|p| p == Pattern::Test));
    }
    let each = [[true, false, false], [false, true, false], [false, false, true]];
    assert_eq!(seen, [each[0], each[0], each[1], each[1], each[2], each[2]]);
    assert_eq!(state.wake_at(), Some(Moment::from_millis(500)));
    assert_eq!(state.step(Event::Tick, Moment::from_millis(1_500)), [Action::Inspect(A)]);
}

#[test]
fn a_backup_from_press_to_safe_to_remove() {
    let mut b = Box::with_disk();
    assert_eq!(b.lamp_words(), ["wink", "steady", "off"]);
    let id = b.start_backup();
    for (phase, status) in [
        (Phase::Live, "slow"),
        (Phase::Window, "fast"),
        (Phase::Transferring, "slow"),
        (Phase::Verifying, "double"),
        (Phase::Pruning, "slow"),
    ] {
        b.event(Event::Progress(id, phase));
        assert_eq!(b.lamp_words(), [status, "slow", "off"], "{phase:?}");
    }
    let actions = b.event(Event::JobEnded(id, JobResult::Proven));
    assert_eq!(actions, [Action::Say(Notice::BackupProven), Action::Eject(A)]);
    assert_eq!(b.lamp_words(), ["steady", "slow", "off"], "proven, but not yet flushed and unmounted");
    b.event(Event::Unmounted(A));
    assert_eq!(b.lamp_words(), ["steady", "steady", "off"]);
    assert_eq!(b.event(Event::DiskGone(A)), []);
    assert_eq!(b.lamp_words(), ["steady", "off", "off"]);
}

#[test]
fn without_a_disk_the_backup_waits_for_one_and_says_so() {
    let mut b = Box::on();
    assert_eq!(b.lamp_words(), ["wink", "off", "off"]);
    assert_eq!(b.backup_pressed(), [Action::Say(Notice::InsertDisk)]);
    assert_eq!(b.lamp_words(), ["wink", "fast", "off"]);
    b.event(Event::DiskArrived(A));
    let actions = b.event(Event::Identified(A, Identity::Ours));
    assert_eq!(actions, [Action::Say(Notice::DiskReady), Action::Mount(A)]);
}

#[test]
fn a_disk_that_is_not_ours_is_shown_and_never_mounted_for_writing() {
    for identity in [Identity::Unknown, Identity::Foreign] {
        let mut b = Box::on();
        b.event(Event::DiskArrived(A));
        b.event(Event::Identified(A, identity));
        assert_eq!(b.lamp_words(), ["wink", "double", "off"]);
        assert_eq!(b.backup_pressed(), [Action::Say(Notice::InsertDisk)]);
        assert_eq!(b.event(Event::BackupDue), [Action::Say(Notice::InsertDisk)]);
        assert_eq!(b.lamp_words(), ["wink", "double", "off"]);
    }
}

#[test]
fn a_second_disk_waits_its_turn() {
    let mut b = Box::with_disk();
    assert_eq!(b.event(Event::DiskArrived(B)), []);
    assert_eq!(b.event(Event::DiskGone(A)), [Action::Inspect(B)]);
}

#[test]
fn pulled_in_the_middle_the_next_insertion_finishes() {
    let mut b = Box::with_disk();
    let id = b.start_backup();
    b.event(Event::Progress(id, Phase::Window));
    let actions = b.event(Event::DiskGone(A));
    assert_eq!(actions, [Action::Say(Notice::FaultRaised(Fault::DiskPulled)), Action::Cancel(id)]);
    assert_eq!(b.lamp_words(), ["fast", "off", "fast"], "mail is still stopped: STATUS must say so");
    assert_eq!(b.event(Event::DiskArrived(B)), [], "not before the first is let go of");
    assert_eq!(b.event(Event::JobEnded(id, JobResult::Cancelled)), [Action::Forget(A)]);
    assert_eq!(b.event(Event::Unmounted(A)), [Action::Inspect(B)]);
    let actions = b.event(Event::Identified(B, Identity::Ours));
    assert!(actions.contains(&Action::Mount(B)), "{actions:?}");
    b.event(Event::Mounted(B));
    let id = b.state.jobs().running.expect("a backup runs").id;
    b.event(Event::JobEnded(id, JobResult::Proven));
    b.event(Event::Unmounted(B));
    assert_eq!(b.lamp_words(), ["steady", "steady", "fast"], "the fault stays until someone has seen it");
    assert_eq!(b.backup_pressed(), [Action::Say(Notice::FaultAcknowledged)]);
    assert_eq!(b.lamp_words(), ["steady", "steady", "off"]);
}

#[test]
fn a_failed_backup_is_new_then_acknowledged_then_mended() {
    let mut b = Box::with_disk();
    let id = b.start_backup();
    b.event(Event::JobEnded(id, JobResult::Failed));
    assert_eq!(b.lamp_words(), ["wink", "slow", "fast"]);
    b.event(Event::Unmounted(A));
    assert_eq!(b.backup_pressed(), [Action::Say(Notice::FaultAcknowledged)], "no backup by the same press");
    assert_eq!(b.lamp_words(), ["wink", "steady", "steady"]);
    let id = b.start_backup();
    b.event(Event::JobEnded(id, JobResult::Proven));
    assert_eq!(b.lamp_words(), ["steady", "slow", "off"]);
}

#[test]
fn a_full_disk_asks_for_another_and_does_not_try_again_by_itself() {
    let mut b = Box::with_disk();
    let id = b.start_backup();
    b.event(Event::JobEnded(id, JobResult::DiskFull));
    let actions = b.event(Event::Unmounted(A));
    assert_eq!(actions, [Action::Say(Notice::SafeToRemove)]);
    assert_eq!(b.lamp_words(), ["wink", "fast", "fast"]);
    b.event(Event::DiskGone(A));
    assert_eq!(b.lamp_words()[1], "fast");
    b.event(Event::DiskArrived(B));
    assert!(b.event(Event::Identified(B, Identity::Ours)).contains(&Action::Mount(B)));
}

#[test]
fn a_disk_that_will_not_unmount_is_never_called_safe() {
    let mut b = Box::with_disk();
    let id = b.start_backup();
    b.event(Event::JobEnded(id, JobResult::Proven));
    b.event(Event::UnmountFailed(A));
    assert_eq!(b.lamp_words(), ["steady", "slow", "fast"]);
    b.backup_pressed();
    assert_eq!(b.press(Button::Backup, 3_000), [Action::Eject(A)], "held: another try");
    b.event(Event::Unmounted(A));
    assert_eq!(b.lamp_words(), ["steady", "steady", "off"]);
}

#[test]
fn eject_is_refused_while_a_job_works() {
    let mut b = Box::with_disk();
    b.start_backup();
    assert_eq!(b.press(Button::Backup, 3_100), [Action::Say(Notice::BusyNoEject)]);
    assert_eq!(b.backup_pressed(), [Action::Say(Notice::AlreadyRunning)]);
}

#[test]
fn overdue_is_a_slow_red_and_asks_for_a_disk() {
    let mut b = Box::on();
    b.event(Event::Remembered { proven: Moment::from_millis(-(35 * HOUR as i64)), last_good: true });
    assert_eq!(b.lamp_words(), ["steady", "off", "off"]);
    b.wait(HOUR + 1);
    assert_eq!(b.lamp_words(), ["steady", "fast", "slow"]);
}

#[test]
fn a_failure_before_the_restart_is_not_forgotten_and_a_cancelled_backup_is_no_failure() {
    let mut b = Box::with_disk();
    let proven = Moment::from_millis(-(HOUR as i64));
    b.event(Event::Remembered { proven, last_good: false });
    assert_eq!(b.lamp_words()[0], "wink");
    let mut b = Box::with_disk();
    b.event(Event::Remembered { proven, last_good: true });
    let id = b.start_backup();
    b.event(Event::JobEnded(id, JobResult::Cancelled));
    assert_eq!(b.lamp_words()[0], "steady");
}

#[test]
fn restore_takes_two_steps() {
    let mut b = Box::with_disk();
    b.event(Event::Press(Button::Restore));
    assert_eq!(b.wait(4_999), []);
    assert_eq!(b.wait(1), [Action::Say(Notice::RestoreArmed)], "while still held");
    b.event(Event::Release(Button::Restore));
    assert_eq!(b.lamp_words(), ["wink", "steady", "double"]);
    b.wait(2_000);
    assert_eq!(b.event(Event::Press(Button::Backup)), []);
    b.wait(80);
    let actions = b.event(Event::Press(Button::Restore));
    let [Action::StartRestore(id, A)] = actions[..] else { panic!("{actions:?}") };
    assert_eq!(b.lamp_words(), ["slow", "slow", "off"]);
    b.event(Event::Release(Button::Backup));
    b.event(Event::Release(Button::Restore));
    b.event(Event::JobEnded(id, JobResult::Failed));
    assert_eq!(b.lamp_words(), ["wink", "steady", "fast"]);
    b.backup_pressed();
    assert_eq!(b.lamp_words()[2], "off", "nothing lasting: seen is done");
}

#[test]
fn anything_else_disarms_and_does_nothing_more() {
    type Deed = fn(&mut Box) -> Vec<Action>;
    let deeds: [(&str, Deed); 6] = [
        ("time", |b| b.wait(10_001)),
        ("BACKUP alone", |b| b.backup_pressed()),
        ("RESTORE alone", |b| b.press(Button::Restore, 100)),
        ("BACKUP held", |b| b.press(Button::Backup, 3_000)),
        ("a fault", |b| b.event(Event::Trouble(Fault::MailDown))),
        ("another disk", |b| b.event(Event::DiskArrived(B))),
    ];
    for (name, deed) in deeds {
        let mut b = Box::with_disk();
        b.press(Button::Restore, 5_000);
        assert_eq!(b.lamp_words()[2], "double");
        let actions = deed(&mut b);
        assert!(actions.contains(&Action::Say(Notice::RestoreDisarmed)), "{name}: {actions:?}");
        assert!(actions.iter().all(|a| matches!(a, Action::Say(_))), "{name}: {actions:?}");
        b.event(Event::Press(Button::Backup));
        let actions = b.event(Event::Press(Button::Restore));
        assert_eq!(actions, [], "{name}: the chord comes too late");
    }
}

#[test]
fn arming_needs_our_disk_and_no_new_fault() {
    let mut b = Box::on();
    assert_eq!(b.press(Button::Restore, 5_000), [Action::Say(Notice::RestoreNotNow)]);
    let mut b = Box::with_disk();
    b.event(Event::Trouble(Fault::MailDown));
    assert_eq!(b.press(Button::Restore, 5_000), [Action::Say(Notice::RestoreNotNow)]);
    assert_eq!(b.lamp_words()[2], "fast");
}

#[test]
fn restore_pressed_shortly_counts_days() {
    let mut b = Box::with_disk();
    assert_eq!(b.press(Button::Restore, 100), [Action::Say(Notice::Age(None))]);
    assert_eq!(b.lamp_words()[0], "count");
    b.event(Event::Remembered { proven: Moment::from_millis(-(50 * HOUR as i64)), last_good: true });
    b.wait(10_000);
    assert_eq!(b.press(Button::Restore, 100), [Action::Say(Notice::Age(Some(3)))]);
    assert!(matches!(b.lamps()[0], Pattern::Count(_, Some(3))));
    b.wait(3 * 600 + 1_800);
    assert_eq!(b.lamp_words()[0], "steady");
}

#[test]
fn the_end_waits_for_the_job_and_the_disk() {
    let mut b = Box::with_disk();
    let id = b.start_backup();
    assert_eq!(b.event(Event::Shutdown), [Action::Say(Notice::Stopping), Action::Cancel(id)]);
    assert_eq!(b.backup_pressed(), [], "hands are not heeded any more");
    assert_eq!(b.event(Event::JobEnded(id, JobResult::Cancelled)), [Action::Eject(A)]);
    let actions = b.event(Event::Unmounted(A));
    assert_eq!(actions, [Action::Say(Notice::SafeToRemove), Action::Exit]);
}

#[test]
fn time_that_jumps_back_is_held_still() {
    let mut b = Box::with_disk();
    b.press(Button::Restore, 5_000);
    b.now = Moment::from_millis(0);
    b.event(Event::Tick);
    assert_eq!(b.lamp_words()[2], "double");
    b.now = Moment::from_millis(60_000);
    b.event(Event::Tick);
    assert_eq!(b.lamp_words()[2], "off");
}

#[test]
fn a_disk_that_can_only_be_read_is_a_fault_and_the_backup_waits_for_another_one() {
    // Found when it was looked at.
    let mut this = Box::on();
    this.event(Event::DiskArrived(A));
    let said = [Action::Say(Notice::FaultRaised(Fault::DiskOnlyReadable))];
    assert_eq!(this.event(Event::OnlyReadable(A)), said);
    assert_eq!(this.lamp_words(), ["wink", "fast", "fast"]);
    assert_eq!(this.event(Event::OnlyReadable(A)), [], "once is enough");
    assert_eq!(this.event(Event::OnlyReadable(B)), []);
    // Found when it was to be written to.
    let mut this = Box::with_disk();
    assert_eq!(this.backup_pressed(), [Action::Mount(A)]);
    assert_eq!(this.event(Event::OnlyReadable(A)), said);
    assert_eq!(this.lamp_words(), ["wink", "fast", "fast"]);
    this.backup_pressed();
    assert_eq!(this.lamp_words(), ["wink", "fast", "steady"]);
    this.event(Event::DiskGone(A));
    assert_eq!(this.event(Event::DiskArrived(B)), [Action::Inspect(B)]);
    let actions = this.event(Event::Identified(B, Identity::Ours));
    assert!(actions.contains(&Action::Mount(B)), "{actions:?}");
    this.event(Event::Mounted(B));
    this.event(Event::JobEnded(JobId(2), JobResult::Proven));
    assert_eq!(this.state.faults().faults().count(), 0, "{:?}", this.state.jobs());
}

#[test]
fn a_disk_that_should_be_swapped_for_another_says_so_only_when_it_may_be_taken_out() {
    let mut b = Box::with_disk();
    assert_eq!(b.event(Event::SwapDue(true)), []);
    assert_eq!(b.lamp_words(), ["wink", "fast", "off"]);
    let id = b.start_backup();
    assert_eq!(b.lamp_words()[1], "slow", "in use comes first");
    b.event(Event::JobEnded(id, JobResult::Proven));
    assert_eq!(b.lamp_words()[1], "slow");
    b.event(Event::Unmounted(A));
    assert_eq!(b.lamp_words(), ["steady", "fast", "off"]);
    b.event(Event::DiskGone(A));
    assert_eq!(b.lamp_words(), ["steady", "fast", "off"], "insert the other one");
    b.event(Event::DiskArrived(B));
    b.event(Event::Identified(B, Identity::Ours));
    b.event(Event::SwapDue(false));
    assert_eq!(b.lamp_words(), ["steady", "steady", "off"]);
}

#[test]
fn from_a_desk_eject_and_cancel_do_what_hands_do_and_no_more() {
    let mut b = Box::with_disk();
    assert_eq!(b.event(Event::EjectAsked), [Action::Say(Notice::SafeToRemove)]);
    assert_eq!(b.event(Event::CancelAsked), [], "nothing runs");
    let id = b.start_backup();
    assert_eq!(b.event(Event::EjectAsked), [Action::Say(Notice::BusyNoEject)]);
    assert_eq!(b.event(Event::CancelAsked), [Action::Cancel(id)]);
    assert_eq!(b.event(Event::CancelAsked), [], "once is enough");
    assert!(b.state.is_backup_owed(), "it has not ended yet");
    assert_eq!(b.event(Event::JobEnded(id, JobResult::Cancelled)), [Action::Eject(A)]);
    b.event(Event::Unmounted(A));
    assert_eq!(b.lamp_words(), ["wink", "steady", "off"]);
    assert!(!b.state.is_backup_owed());
    // While the disk is being mounted there is nothing to end yet; the mount is taken back.
    assert_eq!(b.backup_pressed(), [Action::Mount(A)]);
    assert_eq!(b.event(Event::CancelAsked), []);
    assert_eq!(b.event(Event::Mounted(A)), [Action::Eject(A)]);
}
