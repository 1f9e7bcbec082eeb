//! Hazard: a lamp that lies on some day of the week. Weeks of a box with three rotating disks are played: backups by schedule,
//! swaps, surprise removals, power cuts, full disks, backups that fail. After every single step each lamp is what the world
//! outside, which keeps its own account and never asks the machine, says that it has to be.
#![allow(clippy::panic, reason = "a world that is surprised has found what it looks for")]

use std::collections::{BTreeMap, VecDeque};

use mailkeep_controller::disk::Insertion;
use mailkeep_controller::{
    Action, Button, Event, Fault, Identity, JobId, JobResult, Latched, Moment, Pattern, Phase, Settings,
    Span, State, lamps,
};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
const OVERDUE: i64 = 36 * 60 * MINUTE;
const SELF_TEST: i64 = 1_500;
/// What a proven backup puts an end to.
const MENDED: [Fault; 3] = [Fault::BackupFailed, Fault::DiskPulled, Fault::DiskFull];

/// Where the disk in the slot stands, as the world knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Absent,
    Looking,
    Safe {
        full: bool,
    },
    Mounting,
    Working,
    Ejecting {
        full: bool,
    },
    /// Pulled while in use; the box still holds on to something.
    LettingGo,
}

#[derive(Debug, Default)]
struct Disk {
    /// Numbers of the snapshots that are sealed on it.
    sealed: Vec<u32>,
    room: u32,
}

struct World {
    random: u64,
    /// Milliseconds of the week; the machine counts from its own start.
    now: i64,
    started: i64,
    state: State,
    disks: [Disk; 3],
    inside: Option<usize>,
    insertion: u32,
    stage: Stage,
    asked: VecDeque<Action>,
    job: Option<(JobId, Phase)>,
    mounting_job: bool,
    wanted: bool,
    proven: Option<i64>,
    last_good: bool,
    /// What the box wrote down of that.
    kept_good: bool,
    /// Acknowledged, mended.
    faults: BTreeMap<Fault, (bool, bool)>,
    promised: Vec<(usize, u32)>,
    next_due: i64,
    told: String,
}

impl World {
    fn new(seed: u64) -> Self {
        let settings = Settings { overdue_after: Some(Span::from_millis(OVERDUE as u64)) };
        let disk = |room| Disk { sealed: Vec::new(), room };
        let mut world = Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: 0,
            started: 0,
            state: State::new(settings, Moment::from_millis(0)),
            disks: [disk(4), disk(2), disk(3)],
            inside: None,
            insertion: 0,
            stage: Stage::Absent,
            asked: VecDeque::new(),
            job: None,
            mounting_job: false,
            wanted: false,
            proven: None,
            last_good: false,
            kept_good: false,
            faults: BTreeMap::new(),
            promised: Vec::new(),
            next_due: 150 * MINUTE,
            told: String::new(),
        };
        world.pass(SELF_TEST);
        world
    }

    fn chance(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn moment(&self) -> Moment {
        Moment::from_millis(self.now - self.started)
    }

    /// One event; what the machine asks for waits until the world gets to it.
    fn step(&mut self, event: Event) {
        self.told = format!("{event:?}");
        let actions = self.state.step(event, self.moment());
        self.asked.extend(actions.into_iter().filter(|action| !matches!(action, Action::Say(_))));
    }

    fn pass(&mut self, millis: i64) {
        self.now += millis;
        self.step(Event::Tick);
    }

    fn raise(&mut self, fault: Fault) {
        self.faults.insert(fault, (false, false));
    }

    /// If a backup is wanted and our disk is ready, it begins.
    fn begin(&mut self) {
        if self.wanted && self.stage == (Stage::Safe { full: false }) {
            self.wanted = false;
            self.stage = Stage::Mounting;
            self.mounting_job = true;
        }
    }

    fn insert(&mut self, disk: usize) {
        self.inside = Some(disk);
        self.insertion += 1;
        self.step(Event::DiskArrived(Insertion(self.insertion)));
        // A disk that comes while the last one is being let go of waits.
        if self.stage == Stage::Absent {
            self.stage = Stage::Looking;
        }
    }

    fn pull(&mut self) {
        self.inside = None;
        self.step(Event::DiskGone(Insertion(self.insertion)));
        self.stage = match self.stage {
            Stage::Safe { .. } | Stage::Absent => Stage::Absent,
            Stage::Looking => Stage::LettingGo,
            Stage::Mounting => {
                self.raise(Fault::DiskPulled);
                (self.mounting_job, self.last_good, self.wanted) = (false, false, true);
                Stage::LettingGo
            }
            Stage::Working | Stage::Ejecting { .. } => {
                self.raise(Fault::DiskPulled);
                Stage::LettingGo
            }
            Stage::LettingGo => Stage::LettingGo,
        };
    }

    /// The world does one thing that it was asked for.
    fn answer(&mut self) {
        let Some(action) = self.asked.pop_front() else { return };
        match action {
            Action::Inspect(i) => {
                self.step(Event::Identified(i, Identity::Ours));
                self.stage = match self.stage {
                    Stage::Looking => Stage::Safe { full: false },
                    _ => Stage::Absent,
                };
                self.begin();
            }
            Action::Mount(i) => {
                self.step(Event::Mounted(i));
                if self.stage == Stage::Mounting {
                    self.mounting_job = false;
                    self.stage = Stage::Working;
                    let Some(Action::StartBackup(id, _)) = self.asked.back() else {
                        panic!("{:?}", self.asked)
                    };
                    self.job = Some((*id, Phase::Live));
                }
            }
            Action::StartBackup(id, _) => self.work(id),
            Action::Eject(i) => {
                self.step(Event::Unmounted(i));
                self.stage = match self.stage {
                    Stage::Ejecting { full } => Stage::Safe { full },
                    _ => Stage::Absent,
                };
                self.begin();
            }
            Action::Forget(i) => {
                self.step(Event::Unmounted(i));
                self.stage = Stage::Absent;
            }
            Action::Cancel(_) => {}
            Action::StartRestore(..) | Action::Say(_) | Action::Exit => panic!("{action:?} out of the blue"),
        }
    }

    /// A job goes on by one phase, or ends.
    fn work(&mut self, id: JobId) {
        let Some((_, phase)) = self.job else { panic!("no such job") };
        let pulled = self.stage == Stage::LettingGo;
        let next = match phase {
            Phase::Live => Some(Phase::Window),
            Phase::Window => Some(Phase::Transferring),
            Phase::Transferring => Some(Phase::Verifying),
            _ => None,
        };
        if let (Some(next), false) = (next, pulled) {
            self.job = Some((id, next));
            self.asked.push_front(Action::StartBackup(id, Insertion(self.insertion)));
            self.step(Event::Progress(id, next));
            return;
        }
        let disk = self.inside.unwrap_or_default();
        let result = match () {
            () if pulled => JobResult::Cancelled,
            () if self.disks[disk].room == 0 => JobResult::DiskFull,
            () if self.chance(8) => JobResult::Failed,
            () => JobResult::Proven,
        };
        self.job = None;
        if result != JobResult::Cancelled {
            self.last_good = result == JobResult::Proven;
            self.kept_good = self.last_good;
        }
        match result {
            JobResult::Proven => {
                let number = self.promised.len() as u32;
                self.disks[disk].sealed.push(number);
                self.disks[disk].room -= 1;
                self.promised.push((disk, number));
                self.proven = Some(self.now);
                for mended in MENDED {
                    match self.faults.get_mut(&mended) {
                        Some((true, _)) => drop(self.faults.remove(&mended)),
                        Some((false, done)) => *done = true,
                        None => {}
                    }
                }
            }
            JobResult::DiskFull => {
                self.wanted = true;
                self.raise(Fault::DiskFull);
            }
            JobResult::Failed => self.raise(Fault::BackupFailed),
            _ => self.wanted = true,
        }
        self.step(Event::JobEnded(id, result));
        if !pulled {
            self.stage = Stage::Ejecting { full: result == JobResult::DiskFull };
        }
    }

    /// All that is not written down is gone; the disk is still in the slot.
    fn power_cut(&mut self) {
        let owed = self.wanted || self.mounting_job || self.job.is_some();
        let kept: Vec<Latched> = self
            .faults
            .iter()
            .map(|(fault, (acknowledged, mended))| Latched {
                fault: *fault,
                acknowledged: *acknowledged,
                mended: *mended,
            })
            .collect();
        self.now += 20_000;
        self.started = self.now;
        let settings = Settings { overdue_after: Some(Span::from_millis(OVERDUE as u64)) };
        self.state = State::new(settings, Moment::from_millis(0));
        (self.job, self.mounting_job, self.wanted) = (None, false, owed);
        self.asked.clear();
        self.stage = Stage::Absent;
        self.last_good = self.proven.is_some() && self.kept_good;
        if let Some(proven) = self.proven {
            let proven = Moment::from_millis(proven - self.started);
            self.step(Event::Remembered { proven, last_good: self.kept_good });
        }
        kept.into_iter().for_each(|latched| self.step(Event::Latched(latched)));
        if owed {
            self.step(Event::BackupDue);
        }
        self.pass(SELF_TEST);
        if let Some(disk) = self.inside {
            self.insert(disk);
        }
    }

    fn acknowledge(&mut self) {
        self.step(Event::Press(Button::Backup));
        self.check();
        self.now += 100;
        self.step(Event::Release(Button::Backup));
        self.faults.retain(|_, (_, mended)| !*mended);
        self.faults.values_mut().for_each(|(acknowledged, _)| *acknowledged = true);
    }

    fn any_new(&self) -> bool {
        self.faults.values().any(|(acknowledged, _)| !acknowledged)
    }

    /// What the lamps have to show.
    fn expected(&self) -> [Pattern; 3] {
        let overdue = self.now - self.proven.unwrap_or(self.started) > OVERDUE;
        let status = match self.job {
            Some((_, Phase::Window)) => Pattern::Fast,
            Some((_, Phase::Verifying)) => Pattern::Double,
            Some(_) => Pattern::Slow,
            None if self.mounting_job => Pattern::Slow,
            None if self.last_good => Pattern::Steady,
            None => Pattern::Wink,
        };
        let disk = match self.stage {
            Stage::Absent | Stage::LettingGo if self.wanted || overdue => Pattern::Fast,
            Stage::Absent | Stage::LettingGo => Pattern::Off,
            Stage::Safe { full: true } => Pattern::Fast,
            Stage::Safe { full: false } => Pattern::Steady,
            Stage::Looking | Stage::Mounting | Stage::Working | Stage::Ejecting { .. } => Pattern::Slow,
        };
        let fault = match () {
            () if self.any_new() => Pattern::Fast,
            () if overdue => Pattern::Slow,
            () if !self.faults.is_empty() => Pattern::Steady,
            () => Pattern::Off,
        };
        [status, disk, fault]
    }

    fn check(&self) {
        let shown = lamps(&self.state, self.moment());
        let (hour, minute) = (self.now / (60 * MINUTE), self.now / MINUTE % 60);
        assert_eq!(
            shown,
            self.expected(),
            "hour {hour}:{minute:02}, after {}; {:?}, {:?}",
            self.told,
            self.stage,
            self.faults
        );
        for (disk, number) in &self.promised {
            assert!(self.disks[*disk].sealed.contains(number), "snapshot {number} is gone");
        }
    }

    fn something_happens(&mut self) {
        if self.chance(2) {
            self.power_cut();
        } else if self.inside.is_some() && self.stage != Stage::LettingGo && self.chance(2) {
            self.pull();
        } else if !self.asked.is_empty() && self.chance(90) {
            self.now += self.below(5) as i64 * 1_000;
            self.answer();
        } else if self.any_new() && self.chance(20) {
            self.acknowledge();
        } else if self.asked.is_empty() {
            self.quiet_hours();
        } else {
            self.pass(500);
        }
    }

    /// Nothing runs: time passes, people swap disks, the schedule comes round.
    fn quiet_hours(&mut self) {
        let passes = (1 + self.below(90)) as i64 * MINUTE;
        self.now = (self.now + passes).min(self.next_due);
        if self.now >= self.next_due {
            self.next_due += DAY;
            self.step(Event::BackupDue);
            self.wanted = true;
            self.begin();
            return;
        }
        self.step(Event::Tick);
        self.check();
        let swap = self.chance(8);
        match (self.inside, self.stage) {
            (None, Stage::Absent) if self.chance(50) => {
                let disk = self.below(3) as usize;
                self.insert(disk);
            }
            // Whoever heeds the lamp takes it out only now.
            (Some(disk), Stage::Safe { full }) if swap || full => {
                if full {
                    // Somebody prunes it at a desk.
                    self.disks[disk].room = 3;
                }
                self.pull();
            }
            _ => {}
        }
    }
}

#[test]
fn every_lamp_tells_the_truth_at_every_step_of_many_weeks() {
    let (mut steps, mut backups, mut seen) = (0u64, 0, BTreeMap::new());
    for seed in 1..=200 {
        let mut world = World::new(seed);
        while world.now < 7 * DAY {
            world.something_happens();
            world.check();
            steps += 1;
            for (lamp, pattern) in ["STATUS", "DISK", "FAULT"].iter().zip(world.expected()) {
                *seen.entry(format!("{lamp} {}", pattern.word())).or_insert(0) += 1;
            }
        }
        backups += world.promised.len();
    }
    // The weeks were worth playing: all that can be shown without an unknown disk or a restore was.
    assert!(steps > 20_000 && backups > 600, "{steps} steps, {backups} backups");
    for lamp in [
        "STATUS fast",
        "STATUS slow",
        "STATUS double",
        "STATUS steady",
        "STATUS wink",
        "DISK off",
        "DISK steady",
        "DISK slow",
        "DISK fast",
        "FAULT off",
        "FAULT steady",
        "FAULT slow",
        "FAULT fast",
    ] {
        assert!(seen.contains_key(lamp), "{lamp} was never shown: {seen:?}");
    }
}
