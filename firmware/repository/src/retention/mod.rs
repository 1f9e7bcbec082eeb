//! Which snapshots stay: pure, for every source by itself. Follows COMMIT.md, "Retention".
//!
//! The rules are those of Proxmox: they are applied in the order last, hourly, daily, weekly, monthly, yearly; each keeps
//! the newest snapshot of as many periods as it says, counts only periods that have one, and looks only at what the rules
//! before it have left undecided. Order is by generation; a clock only says which period a snapshot falls into.
//!
//! Whatever the rules say, these stay: the newest snapshot of a source (the parent of its next backup), its last
//! consistent one, and what cannot be dated. A copy that is not consistent never pushes out one that is.

mod period;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use mailkeep_format::SnapshotId;

pub use period::Rule;

/// Dates before this one (2024-01-01) are those of a board that does not know the time.
pub const CLOCK_FLOOR: i64 = 1_704_067_200;
/// Seconds by which a clock may have been set back without that anything is doubted.
pub const CLOCK_SLACK: i64 = 3600;
/// Without a rule of a day or longer, the newest snapshot of each of so many days stays: no number of snapshots that a
/// source brings about within a day can push out what was there before.
pub const FLOOR_DAYS: usize = 3;
/// A source is compared with its snapshots of so many seconds before the newest one,
pub const SHRINK_SECONDS: i64 = 30 * 86_400;
/// and in any case with so many of them.
pub const SHRINK_SNAPSHOTS: usize = 10;

/// How many of each are to be kept; 0 for a rule that was not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The newest ones.
    pub last: u32,
    /// The newest of each hour.
    pub hourly: u32,
    /// The newest of each day.
    pub daily: u32,
    /// The newest of each week, which begins on Monday.
    pub weekly: u32,
    /// The newest of each month.
    pub monthly: u32,
    /// The newest of each year.
    pub yearly: u32,
}

impl Keep {
    /// Whether no rule is given: then nothing may be removed.
    pub fn is_empty(&self) -> bool {
        *self == Keep::default()
    }

    fn count(&self, rule: Rule) -> usize {
        let count = match rule {
            Rule::Last => self.last,
            Rule::Hourly => self.hourly,
            Rule::Daily => self.daily,
            Rule::Weekly => self.weekly,
            Rule::Monthly => self.monthly,
            Rule::Yearly => self.yearly,
        };
        count as usize
    }

    fn by_time(&self) -> bool {
        Keep { last: 0, ..*self } != Keep::default()
    }

    fn by_days(&self) -> bool {
        Keep { last: 0, hourly: 0, ..*self } != Keep::default()
    }
}

/// What retention must know of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: SnapshotId,
    /// Its generation.
    pub generation: u64,
    /// Name of its source.
    pub source: String,
    /// When it was begun, seconds since 1970 by the clock of the box.
    pub time: i64,
    /// Taken from a quiescent source.
    pub consistent: bool,
    /// Files in it.
    pub files: u64,
    /// Bytes in it.
    pub bytes: u64,
}

/// The time of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Seconds since 1970.
    pub now: i64,
    /// Seconds that local time is ahead of UTC: a day begins at local midnight.
    pub offset: i32,
}

/// What retention is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The rules.
    pub keep: Keep,
    /// The time of the box.
    pub clock: Clock,
    /// A person has looked: what shrank was meant to shrink.
    pub accept_shrunk: bool,
}

/// Why a snapshot stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A rule keeps it, as its n-th, counted from 1.
    Rule(Rule, u32),
    /// It is the newest of its source.
    Newest,
    /// It is the last consistent one of its source.
    LastConsistent,
    /// It is the newest of one of the last days, and no rule looks at days.
    Floor,
    /// Its date cannot be right.
    Misdated,
    /// Nothing of this source is removed now; see [`Halt`].
    Halted,
}

/// Why nothing of a source is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The clock of the box is behind the newest snapshot or cannot be right, and there are rules that go by time.
    Clock,
    /// The newest snapshot is empty, or has less than half the files and half the bytes of a recent one.
    Shrunk {
        /// Files and bytes of that one.
        before: (u64, u64),
        /// Files and bytes of the newest.
        now: (u64, u64),
    },
    /// The newest snapshot cannot be read in full. Retention itself never says so: the sweep does, which looks.
    Damaged,
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Halt::Clock => f.write_str(
                "nothing is removed: the clock of this machine is not right, or that of its newest snapshot was not",
            ),
            Halt::Shrunk { before, now } => write!(
                f,
                "nothing is removed: its newest snapshot has {} files ({} bytes), an older one {} ({} bytes); if it was \
                 meant to shrink, prune with --accept-shrunk",
                now.0, now.1, before.0, before.1
            ),
            Halt::Damaged => f.write_str(
                "nothing is removed: its newest snapshot cannot be read in full, so the older ones are needed; back it up \
                 again, or run `mailkeep repair`",
            ),
        }
    }
}

/// What becomes of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The snapshot.
    pub id: SnapshotId,
    /// Why it stays; nothing if it goes.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Whether it stays.
    pub fn stays(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// What becomes of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// For each candidate, in their order.
    pub verdicts: Vec<Verdict>,
    /// Sources of which nothing is removed, and why.
    pub halts: Vec<(String, Halt)>,
}

/// Decides over all snapshots of a repository. Without a rule nothing goes.
pub fn decide(candidates: &[Candidate], terms: &Terms) -> Decision {
    let mut sources: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, candidate) in candidates.iter().enumerate() {
        sources.entry(&candidate.source).or_default().push(place);
    }
    let newest = candidates.iter().max_by_key(|candidate| (candidate.generation, candidate.id));
    let clock_is_right = terms.clock.now >= CLOCK_FLOOR
        && newest.is_none_or(|newest| newest.time <= terms.clock.now.saturating_add(CLOCK_SLACK));
    let mut reasons: Vec<Vec<Reason>> = vec![Vec::new(); candidates.len()];
    let mut halts = Vec::new();
    for (name, mut places) in sources {
        places.sort_by_key(|place| (candidates[*place].generation, candidates[*place].id));
        places.reverse();
        let newest_first: Vec<&Candidate> = places.iter().map(|place| &candidates[*place]).collect();
        let halt = halt(&newest_first, terms, clock_is_right);
        let found = match halt {
            Some(_) => vec![vec![Reason::Halted]; places.len()],
            None => of_source(&newest_first, terms),
        };
        halts.extend(halt.map(|halt| (name.to_owned(), halt)));
        for (place, found) in places.into_iter().zip(found) {
            reasons[place] = found;
        }
    }
    let verdicts = candidates
        .iter()
        .zip(reasons)
        .map(|(candidate, reasons)| Verdict { id: candidate.id, reasons })
        .collect();
    Decision { verdicts, halts }
}

fn halt(newest_first: &[&Candidate], terms: &Terms, clock_is_right: bool) -> Option<Halt> {
    if terms.keep.is_empty() {
        return None;
    }
    if terms.keep.by_time() && !clock_is_right {
        return Some(Halt::Clock);
    }
    let (newest, older) = newest_first.split_first()?;
    if terms.accept_shrunk {
        return None;
    }
    let since = newest.time.saturating_sub(SHRINK_SECONDS);
    let shrunk = |before: &Candidate| {
        let halved = |before: u64, now: u64| now.saturating_mul(2) < before;
        (newest.files == 0 && before.files > 0)
            || (halved(before.files, newest.files) && halved(before.bytes, newest.bytes))
    };
    older
        .iter()
        .enumerate()
        .filter(|(place, before)| *place < SHRINK_SNAPSHOTS || before.time >= since)
        .map(|(_, before)| before)
        .filter(|before| shrunk(before))
        .max_by_key(|before| (before.files, before.bytes))
        .map(|before| Halt::Shrunk {
            before: (before.files, before.bytes),
            now: (newest.files, newest.bytes),
        })
}

/// Reasons for each snapshot of one source, the newest first.
fn of_source(newest_first: &[&Candidate], terms: &Terms) -> Vec<Vec<Reason>> {
    let Terms { keep, clock, .. } = terms;
    let mut reasons: Vec<Vec<Reason>> = vec![Vec::new(); newest_first.len()];
    if keep.is_empty() {
        reasons.iter_mut().for_each(|reasons| reasons.push(Reason::Newest));
        return reasons;
    }
    let misdated =
        if keep.by_time() { misdated(newest_first, clock.now) } else { vec![false; newest_first.len()] };
    // Consistent ones first and by themselves; the others fill what they leave.
    for consistent in [true, false] {
        let mut open: Vec<usize> = (0..newest_first.len())
            .filter(|place| newest_first[*place].consistent == consistent && !misdated[*place])
            .collect();
        for rule in Rule::ALL {
            let period = |place: usize| match rule {
                Rule::Last => place as i64,
                rule => rule.period(newest_first[place].time, clock.offset),
            };
            // Periods of which an earlier rule keeps a snapshot are covered.
            let covered: HashSet<i64> =
                (0..newest_first.len()).filter(|place| !reasons[*place].is_empty()).map(period).collect();
            let mut counted: HashSet<i64> = HashSet::new();
            let mut left = Vec::new();
            let mut full = false;
            for place in open {
                let id = period(place);
                let is_last = rule == Rule::Last && !consistent && place >= keep.count(rule);
                if full || is_last || covered.contains(&id) {
                    left.push(place);
                } else if counted.contains(&id) {
                    // Decided: a newer one of its period stays.
                } else if counted.len() < keep.count(rule) {
                    counted.insert(id);
                    reasons[place].push(Reason::Rule(rule, counted.len() as u32));
                } else {
                    full = true;
                    left.push(place);
                }
            }
            open = left;
        }
    }
    if !keep.by_days() {
        floor(newest_first, clock.offset, &mut reasons);
    }
    for (place, misdated) in misdated.into_iter().enumerate() {
        if misdated {
            reasons[place].push(Reason::Misdated);
        }
    }
    if let Some(first) = reasons.first_mut() {
        first.push(Reason::Newest);
    }
    if let Some(place) = newest_first.iter().position(|snapshot| snapshot.consistent) {
        reasons[place].push(Reason::LastConsistent);
    }
    reasons
}

/// The newest of each of the last days; consistent ones if there are any.
fn floor(newest_first: &[&Candidate], offset: i32, reasons: &mut [Vec<Reason>]) {
    let any_consistent = newest_first.iter().any(|snapshot| snapshot.consistent);
    let mut days = HashSet::new();
    for (place, snapshot) in newest_first.iter().enumerate() {
        if days.len() < FLOOR_DAYS
            && snapshot.consistent == any_consistent
            && days.insert(Rule::Daily.period(snapshot.time, offset))
        {
            reasons[place].push(Reason::Floor);
        }
    }
}

/// Which ones have a date that cannot be right: before there was a Mailkeep, in the future, or later than that of a
/// snapshot that was sealed after it.
fn misdated(newest_first: &[&Candidate], now: i64) -> Vec<bool> {
    let mut latest = now;
    let dated = |snapshot: &&Candidate| {
        if snapshot.time < CLOCK_FLOOR || snapshot.time > latest.saturating_add(CLOCK_SLACK) {
            return true;
        }
        latest = latest.min(snapshot.time);
        false
    };
    newest_first.iter().map(dated).collect()
}
