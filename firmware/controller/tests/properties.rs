//! Hazard: a lamp that lies, a lost fault, a write to a foreign disk, an eject while busy, a restore by a
//! careless finger. Any sequence of events is tried: wholly arbitrary ones, and those of a world that answers
//! as the appliance does, with failures. A [`Witness`] that knows nothing of the machine's inside checks every
//! step from what went in and what came out.
#![allow(clippy::expect_used, reason = "a witness that is surprised has found what it looks for")]

use std::collections::BTreeSet;

use mailkeep_controller::disk::Insertion;
use mailkeep_controller::{
    Action, Button, Event, Fault, Identity, JobId, JobResult, Latched, Moment, Notice, Pattern, Phase,
    Settings, Span, State, lamps,
};
use proptest::prelude::*;

/// Watches the border of the machine and remembers only what must never be forgotten.
#[derive(Default)]
struct Witness {
    looked_at: BTreeSet<Insertion>,
    ours: BTreeSet<Insertion>,
    maybe_mounted: BTreeSet<Insertion>,
    jobs: BTreeSet<(JobId, Insertion)>,
    down: [Option<Moment>; 2],
    hold_seen: Option<Moment>,
    last_press: Option<(Button, Moment)>,
    new_fault: bool,
}

impl Witness {
    fn event(&mut self, event: Event, now: Moment) {
        let place = |button| usize::from(button == Button::Restore);
        match event {
            Event::Press(button) if self.down[place(button)].is_none() => {
                self.down[place(button)] = Some(now);
                self.last_press = Some((button, now));
            }
            Event::DiskGone(i) => {
                self.ours.remove(&i);
            }
            Event::Identified(i, identity) => {
                self.maybe_mounted.remove(&i);
                if identity == Identity::Ours && self.looked_at.contains(&i) {
                    self.ours.insert(i);
                }
            }
            Event::InspectFailed(i)
            | Event::MountFailed(i)
            | Event::OnlyReadable(i)
            | Event::Unmounted(i) => {
                self.maybe_mounted.remove(&i);
            }
            Event::JobEnded(id, _) => self.jobs.retain(|(known, _)| *known != id),
            _ => {}
        }
        if self.down[1].is_some_and(|since| now.since(since) >= Span::from_secs(5)) {
            self.hold_seen = Some(now);
        }
        if let Event::Release(button) = event {
            self.down[place(button)] = None;
        }
    }

    fn action(&mut self, action: Action, event: Event, now: Moment) {
        let busy = |jobs: &BTreeSet<(JobId, Insertion)>, i| jobs.iter().any(|(_, on)| *on == i);
        match action {
            Action::Inspect(i) => {
                self.looked_at.insert(i);
                self.maybe_mounted.insert(i);
            }
            Action::Mount(i) => {
                assert!(self.ours.contains(&i), "writes to a disk that is not known as ours");
                self.maybe_mounted.insert(i);
            }
            Action::Eject(i) | Action::Forget(i) => {
                assert!(!busy(&self.jobs, i), "eject while a job works on the disk");
            }
            Action::StartBackup(id, i) => {
                assert!(self.jobs.is_empty(), "two jobs at once");
                assert!(self.ours.contains(&i), "backup onto a disk that is not known as ours");
                self.jobs.insert((id, i));
            }
            Action::StartRestore(id, i) => {
                assert!(self.jobs.is_empty(), "two jobs at once");
                let armed = self.hold_seen.expect("restore without the first step");
                assert!(now.since(armed) <= Span::from_secs(10), "second step too late");
                for since in self.down {
                    assert!(since.expect("both buttons are down") >= armed, "pressed before arming");
                }
                assert!(!self.new_fault, "restore beside a new fault");
                self.jobs.insert((id, i));
            }
            Action::Say(Notice::FaultRaised(_)) => self.new_fault = true,
            Action::Say(Notice::FaultAcknowledged) => {
                assert_eq!(event, Event::Release(Button::Backup));
                let (button, pressed) = self.last_press.expect("nobody pressed");
                assert_eq!(button, Button::Backup);
                assert!(now.since(pressed) < Span::from_secs(1));
                self.new_fault = false;
            }
            Action::Exit => {
                assert!(self.jobs.is_empty(), "ends under a running job");
            }
            Action::Cancel(_) | Action::Say(_) => {}
        }
    }

    fn lamps(&self, state: &State, now: Moment) {
        let [_, disk, fault] = lamps(state, now);
        if disk == Pattern::Steady {
            let insertion = state.disk().insertion().expect("steady without a disk");
            assert!(!self.maybe_mounted.contains(&insertion), "safe to remove, yet maybe mounted");
            assert!(self.jobs.iter().all(|(_, on)| *on != insertion), "safe to remove, yet busy");
        }
        let in_self_test = now < Moment::from_millis(1_500);
        if self.new_fault && !in_self_test {
            assert_eq!(fault, Pattern::Fast, "a new fault is not shown");
        }
        if fault == Pattern::Double {
            let armed = self.hold_seen.expect("shown as armed without the first step");
            assert!(now.since(armed) <= Span::from_secs(10));
        }
    }
}

struct Run {
    state: State,
    witness: Witness,
    now: Moment,
}

impl Run {
    fn new() -> Self {
        let settings = Settings { overdue_after: Some(Span::from_secs(600)) };
        let now = Moment::from_millis(0);
        Self { state: State::new(settings, now), witness: Witness::default(), now }
    }

    fn step(&mut self, event: Event, pause: u64) -> Vec<Action> {
        self.now = self.now + Span::from_millis(pause);
        self.witness.event(event, self.now);
        let actions = self.state.step(event, self.now);
        for action in &actions {
            self.witness.action(*action, event, self.now);
        }
        self.witness.lamps(&self.state, self.now);
        actions
    }
}

fn insertion() -> impl Strategy<Value = Insertion> {
    (0u32..3).prop_map(Insertion)
}

fn result() -> impl Strategy<Value = JobResult> {
    prop_oneof![
        4 => Just(JobResult::Proven),
        1 => Just(JobResult::NotProven),
        1 => Just(JobResult::DiskFull),
        1 => Just(JobResult::Failed),
        1 => Just(JobResult::MailDown),
        1 => Just(JobResult::Cancelled),
    ]
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Live),
        Just(Phase::Window),
        Just(Phase::Transferring),
        Just(Phase::Verifying),
        Just(Phase::Pruning)
    ]
}

fn button() -> impl Strategy<Value = Button> {
    prop_oneof![Just(Button::Backup), Just(Button::Restore)]
}

fn identity() -> impl Strategy<Value = Identity> {
    prop_oneof![4 => Just(Identity::Ours), 1 => Just(Identity::Foreign), 1 => Just(Identity::Unknown)]
}

fn any_event() -> impl Strategy<Value = Event> {
    let job = || (0u32..5).prop_map(JobId);
    prop_oneof![
        4 => button().prop_map(Event::Press),
        4 => button().prop_map(Event::Release),
        2 => Just(Event::Tick),
        2 => insertion().prop_map(Event::DiskArrived),
        1 => insertion().prop_map(Event::DiskGone),
        4 => (insertion(), identity()).prop_map(|(i, k)| Event::Identified(i, k)),
        1 => insertion().prop_map(Event::InspectFailed),
        2 => insertion().prop_map(Event::Mounted),
        1 => insertion().prop_map(Event::MountFailed),
        1 => insertion().prop_map(Event::OnlyReadable),
        2 => insertion().prop_map(Event::Unmounted),
        1 => insertion().prop_map(Event::UnmountFailed),
        2 => (job(), phase()).prop_map(|(j, p)| Event::Progress(j, p)),
        3 => (job(), result()).prop_map(|(j, r)| Event::JobEnded(j, r)),
        2 => Just(Event::BackupDue),
        1 => (-9_000_000i64..9_000_000, any::<bool>())
            .prop_map(|(m, last_good)| Event::Remembered { proven: Moment::from_millis(m), last_good }),
        1 => Just(Event::Trouble(Fault::MailDown)),
        1 => Just(Event::Mended(Fault::MailDown)),
        1 => any::<bool>().prop_map(Event::SwapDue),
        1 => Just(Event::EjectAsked),
        1 => Just(Event::CancelAsked),
    ]
}

fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..400, 2 => 400u64..3_000, 2 => 3_000u64..11_000, 1 => 11_000u64..700_000]
}

/// What the world outside does by itself, and how it answers what it was asked.
#[derive(Debug, Clone)]
enum Deed {
    Hand(Event),
    Insert,
    Pull,
    Answer { well: bool, identity: Identity, result: JobResult, phase: Phase },
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => button().prop_map(|b| Deed::Hand(Event::Press(b))),
        3 => button().prop_map(|b| Deed::Hand(Event::Release(b))),
        1 => Just(Deed::Hand(Event::Tick)),
        1 => Just(Deed::Hand(Event::BackupDue)),
        1 => Just(Deed::Hand(Event::EjectAsked)),
        1 => Just(Deed::Hand(Event::CancelAsked)),
        1 => Just(Deed::Insert),
        1 => Just(Deed::Pull),
        6 => (prop::bool::weighted(0.85), identity(), result(), phase())
            .prop_map(|(well, identity, result, phase)| Deed::Answer { well, identity, result, phase }),
    ]
}

/// A world in which every action is answered once, some time later, and disks are where they are.
struct World {
    run: Run,
    asked: Vec<Action>,
    inserted: Vec<Insertion>,
    next: u32,
    exited: bool,
}

impl World {
    fn feed(&mut self, event: Event, pause: u64) {
        let actions = self.run.step(event, pause);
        self.exited |= actions.contains(&Action::Exit);
        self.asked.extend(actions.into_iter().filter(|a| !matches!(a, Action::Say(_) | Action::Exit)));
    }

    fn deed(&mut self, deed: Deed, pause: u64) {
        match deed {
            Deed::Hand(event) => self.feed(event, pause),
            Deed::Insert => {
                self.next += 1;
                self.inserted.push(Insertion(self.next));
                self.feed(Event::DiskArrived(Insertion(self.next)), pause);
            }
            Deed::Pull => {
                if !self.inserted.is_empty() {
                    let pulled = self.inserted.remove(0);
                    self.feed(Event::DiskGone(pulled), pause);
                }
            }
            Deed::Answer { well, identity, result, phase } => {
                if self.asked.is_empty() {
                    return;
                }
                match self.asked.remove(0) {
                    Action::Inspect(i) if well => self.feed(Event::Identified(i, identity), pause),
                    Action::Inspect(i) => self.feed(Event::InspectFailed(i), pause),
                    Action::Mount(i) if well => self.feed(Event::Mounted(i), pause),
                    Action::Mount(i) => self.feed(Event::MountFailed(i), pause),
                    Action::Eject(i) if well => self.feed(Event::Unmounted(i), pause),
                    Action::Eject(i) => self.feed(Event::UnmountFailed(i), pause),
                    Action::Forget(i) => self.feed(Event::Unmounted(i), pause),
                    Action::StartBackup(id, _) | Action::StartRestore(id, _) => {
                        self.feed(Event::Progress(id, phase), pause);
                        self.feed(Event::JobEnded(id, result), pause);
                    }
                    Action::Cancel(_) | Action::Say(_) | Action::Exit => {}
                }
            }
        }
    }
}

fn world() -> World {
    World { run: Run::new(), asked: Vec::new(), inserted: Vec::new(), next: 0, exited: false }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_may_happen_makes_the_box_lie(
        events in prop::collection::vec((any_event(), pause()), 1..120)
    ) {
        let mut run = Run::new();
        for (event, pause) in events {
            run.step(event, pause);
        }
    }

    #[test]
    fn nor_does_a_world_that_answers(
        deeds in prop::collection::vec((deed(), pause()), 1..120),
        answers in prop::collection::vec((prop::bool::weighted(0.9), identity(), result(), phase()), 16),
    ) {
        let mut world = world();
        for (deed, pause) in deeds {
            world.deed(deed, pause);
        }
        // However it stands, once it is asked to end and gets its answers, it ends.
        world.feed(Event::Shutdown, 1);
        for (well, identity, result, phase) in answers {
            world.deed(Deed::Answer { well, identity, result, phase }, 1);
        }
        prop_assert!(world.exited, "did not end: {:?}", world.run.state);
    }

    #[test]
    fn a_box_that_is_killed_at_any_moment_shows_the_same_faults_when_it_is_back(
        deeds in prop::collection::vec((deed(), pause()), 1..80)
    ) {
        let mut world = world();
        for (deed, pause) in deeds {
            world.deed(deed, pause);
        }
        let before = &world.run.state;
        let settings = Settings { overdue_after: None };
        let mut after = State::new(settings, Moment::from_millis(0));
        let kept: Vec<Latched> = before.faults().latched().collect();
        for latched in &kept {
            prop_assert_eq!(after.step(Event::Latched(*latched), Moment::from_millis(1)), vec![]);
        }
        let back = Moment::from_millis(1_500);
        after.step(Event::Tick, back);
        let expected = match () {
            () if before.faults().any_new() => Pattern::Fast,
            () if before.faults().any() => Pattern::Steady,
            () => Pattern::Off,
        };
        prop_assert_eq!(lamps(&after, back)[2], expected);
        prop_assert_eq!(after.faults().latched().collect::<Vec<_>>(), kept);
    }

    #[test]
    fn a_tick_that_is_not_due_changes_nothing(
        events in prop::collection::vec((any_event(), pause()), 1..60), early in 0u64..100_000
    ) {
        let mut run = Run::new();
        for (event, pause) in events {
            run.step(event, pause);
        }
        let limit = run.state.wake_at().map_or(u64::MAX, |at| at.since(run.now).millis());
        if early < limit {
            let before = lamps(&run.state, run.now);
            let mut later = run.state.clone();
            let now = run.now + Span::from_millis(early);
            prop_assert_eq!(later.step(Event::Tick, now), vec![]);
            prop_assert_eq!(lamps(&run.state, now), before, "a lamp changed while nobody was awake");
        }
    }
}
