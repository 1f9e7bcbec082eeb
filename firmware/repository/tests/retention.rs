//! Retention: what Proxmox would keep, and what must stay whatever the rules say (hazards 13, 30 and the floor against
//! floods). Random cases take fixed seeds; `MAILKEEP_RETENTION_CASES` sets how many (default 2000).
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use mailkeep_repository::format::SnapshotId;
use mailkeep_repository::retention::{
    CLOCK_FLOOR, Candidate, Clock, Decision, FLOOR_DAYS, Halt, Keep, Reason, Rule, Terms, decide,
};

const DAY: i64 = 86_400;
/// 2026-11-23 12:00 UTC, a Monday.
const NOW: i64 = 1_795_435_200;

fn at(generation: u64, time: i64) -> Candidate {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&generation.to_be_bytes());
    let source = "mail1".to_owned();
    Candidate { id: SnapshotId(id), generation, source, time, consistent: true, files: 100, bytes: 1000 }
}

/// One snapshot for each of these times, the oldest first.
fn times(times: impl IntoIterator<Item = i64>) -> Vec<Candidate> {
    (1..).zip(times).map(|(generation, time)| at(generation, time)).collect()
}

fn terms(keep: Keep) -> Terms {
    Terms { keep, clock: Clock { now: NOW, offset: 0 }, accept_shrunk: false }
}

fn stay(candidates: &[Candidate], decision: &Decision) -> Vec<u64> {
    let pairs = candidates.iter().zip(&decision.verdicts);
    pairs.filter(|(_, verdict)| verdict.stays()).map(|(candidate, _)| candidate.generation).collect()
}

fn kept(candidates: &[Candidate], keep: Keep) -> Vec<u64> {
    stay(candidates, &decide(candidates, &terms(keep)))
}

const NONE: Keep = Keep { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

#[test]
fn the_examples_of_the_table() {
    // A year of daily backups at noon, up to today.
    let year = times((0..366).map(|day| NOW - (365 - day) * DAY));
    let days = |ago: &[u64]| ago.iter().rev().map(|ago| 366 - ago).collect::<Vec<u64>>();
    for (keep, expected) in [
        (Keep { last: 3, ..NONE }, days(&[0, 1, 2])),
        (Keep { daily: 3, ..NONE }, days(&[0, 1, 2])),
        // Hours in which there is none do not count.
        (Keep { hourly: 4, ..NONE }, days(&[0, 1, 2, 3])),
        // Today is a Monday: the newest of each week, which ends on Sunday.
        (Keep { weekly: 3, ..NONE }, days(&[0, 1, 8])),
        (Keep { monthly: 3, ..NONE }, days(&[0, 23, 54])),
        (Keep { yearly: 2, ..NONE }, days(&[0, 327])),
        // Each rule counts only what those before it have not covered.
        (Keep { last: 1, daily: 2, ..NONE }, days(&[0, 1, 2])),
        (Keep { daily: 2, weekly: 2, monthly: 2, yearly: 1, ..NONE }, days(&[0, 1, 8, 15, 23, 54, 327])),
        (Keep { daily: 400, ..NONE }, (1..=366).collect()),
        (NONE, (1..=366).collect()),
    ] {
        let expected: Vec<u64> = expected;
        assert_eq!(kept(&year, keep), expected, "{keep:?}");
    }
}

#[test]
fn empty_periods_do_not_count() {
    let gaps = times([900, 500, 499, 300, 40, 2, 0].map(|days| NOW - days * DAY));
    assert_eq!(kept(&gaps, Keep { daily: 4, ..NONE }), [4, 5, 6, 7]);
    assert_eq!(kept(&gaps, Keep { yearly: 5, ..NONE }), [1, 3, 7]);
    assert_eq!(kept(&times([]), Keep { daily: 4, ..NONE }), [0; 0]);
    assert_eq!(kept(&times([NOW - 5000 * DAY / 10]), Keep { last: 1, ..NONE }), [1]);
}

#[test]
fn of_a_day_with_many_the_newest_stays_and_a_rule_is_given_as_its_reason() {
    let many =
        times((0..5).flat_map(|day| (0..10).map(move |hour| NOW - (4 - day) * DAY - (9 - hour) * 3600)));
    assert_eq!(kept(&many, Keep { daily: 3, ..NONE }), [30, 40, 50]);
    let decision = decide(&many, &terms(Keep { last: 2, daily: 2, ..NONE }));
    assert_eq!(stay(&many, &decision), [30, 40, 49, 50]);
    assert_eq!(decision.verdicts[39].reasons, [Reason::Rule(Rule::Daily, 1)]);
    assert_eq!(decision.verdicts[29].reasons, [Reason::Rule(Rule::Daily, 2)]);
    assert!(decision.verdicts[49].reasons.contains(&Reason::Newest));
}

#[test]
fn a_day_is_that_of_the_box() {
    // 23:30 and 00:30 UTC are one day two hours to the east.
    let midnight = NOW - NOW.rem_euclid(DAY);
    let pair = times([midnight - 1800, midnight + 1800]);
    let east = Terms { clock: Clock { now: NOW, offset: 7200 }, ..terms(Keep { daily: 5, ..NONE }) };
    assert_eq!(stay(&pair, &decide(&pair, &east)), [2]);
    assert_eq!(kept(&pair, Keep { daily: 5, ..NONE }), [1, 2]);
}

#[test]
fn sources_know_nothing_of_each_other() {
    let mut both = times((0..10).map(|day| NOW - (9 - day) * DAY));
    both.iter_mut().filter(|one| one.generation % 2 == 0).for_each(|one| one.source = "mail2".into());
    assert_eq!(kept(&both, Keep { daily: 2, ..NONE }), [7, 8, 9, 10]);
}

#[test]
fn what_is_not_consistent_pushes_out_nothing_that_is() {
    let mut mixed = times((0..20).map(|day| NOW - (19 - day) * DAY));
    // Only the tenth and older are consistent.
    mixed.iter_mut().filter(|one| one.generation > 10).for_each(|one| one.consistent = false);
    for keep in [Keep { last: 3, ..NONE }, Keep { daily: 3, ..NONE }, Keep { last: 1, hourly: 2, ..NONE }] {
        let staying = kept(&mixed, keep);
        for generation in [8, 9, 10, 18, 19, 20] {
            assert!(staying.contains(&generation), "{keep:?}: {staying:?}");
        }
        assert_eq!(staying.len(), 6, "{keep:?}: {staying:?}");
    }
    // The last consistent one stays however old it is.
    mixed.iter_mut().for_each(|one| one.consistent = one.generation == 2);
    assert!(kept(&mixed, Keep { last: 1, ..NONE }).contains(&2));
    let decision = decide(&mixed, &terms(Keep { last: 1, ..NONE }));
    assert!(decision.verdicts[1].reasons.contains(&Reason::LastConsistent));
}

#[test]
fn a_wrong_date_uses_up_nothing_and_wipes_nothing() {
    let mut days: Vec<i64> = (0..10).map(|day| NOW - (9 - day) * DAY).collect();
    days[4] = NOW + 5000 * DAY;
    days[6] = 3600;
    let candidates = times(days);
    let decision = decide(&candidates, &terms(Keep { daily: 4, ..NONE }));
    assert_eq!(decision.halts, []);
    assert_eq!(stay(&candidates, &decision), [5, 6, 7, 8, 9, 10]);
    assert_eq!(decision.verdicts[4].reasons, [Reason::Misdated]);
    assert_eq!(decision.verdicts[6].reasons, [Reason::Misdated]);
    // Not in the future any more, but later than what was sealed after it.
    let mut days: Vec<i64> = (0..10).map(|day| NOW - (9 - day) * DAY).collect();
    days[2] = NOW - DAY;
    assert_eq!(kept(&times(days), Keep { daily: 4, ..NONE }), [3, 7, 8, 9, 10]);
}

#[test]
fn a_clock_that_cannot_be_right_removes_nothing_by_time() {
    let candidates = times((0..10).map(|day| NOW - (9 - day) * DAY));
    for now in [0, CLOCK_FLOOR - 1, NOW - 2 * 3600, NOW - 300 * DAY] {
        let clock = Clock { now, offset: 0 };
        let halted = decide(&candidates, &Terms { clock, ..terms(Keep { last: 2, daily: 3, ..NONE }) });
        assert_eq!(stay(&candidates, &halted).len(), 10, "{now}");
        assert_eq!(halted.halts, [("mail1".to_owned(), Halt::Clock)]);
        // Order is by generation, so this needs no clock.
        let counted = decide(&candidates, &Terms { clock, ..terms(Keep { last: 4, ..NONE }) });
        assert_eq!(stay(&candidates, &counted), [7, 8, 9, 10]);
    }
    // Set back by a little: that is what clocks do.
    let clock = Clock { now: NOW - 600, offset: 0 };
    let fine = decide(&candidates, &Terms { clock, ..terms(Keep { daily: 3, ..NONE }) });
    assert_eq!(stay(&candidates, &fine), [8, 9, 10]);
}

#[test]
fn a_flood_pushes_out_no_day() {
    let history: Vec<i64> = (0..10).map(|day| NOW - (10 - day) * DAY).collect();
    let flooded = times(history.iter().copied().chain((0..500).map(|n| NOW - 3600 + n)));
    // Only a count is given: the newest of each of the last days stays all the same.
    let staying = kept(&flooded, Keep { last: 5, ..NONE });
    assert_eq!(staying, [9, 10, 506, 507, 508, 509, 510]);
    assert_eq!(FLOOR_DAYS, 3);
    // With a rule of days a flood is one of them.
    assert_eq!(kept(&flooded, Keep { daily: 4, ..NONE }), [8, 9, 10, 510]);
    assert_eq!(kept(&flooded, Keep { hourly: 2, ..NONE }).iter().filter(|n| **n <= 10).count(), 2);
}

#[test]
fn a_source_that_shrank_is_left_alone_until_somebody_has_looked() {
    let mut candidates = times((0..10).map(|day| NOW - (9 - day) * DAY));
    let keep = Keep { last: 1, ..NONE };
    for (files, bytes, halts) in
        [(0, 0, true), (49, 499, true), (49, 500, false), (50, 10, false), (0, 1000, true), (100, 0, false)]
    {
        candidates[9].files = files;
        candidates[9].bytes = bytes;
        let decision = decide(&candidates, &terms(keep));
        assert_eq!(decision.halts.len(), usize::from(halts), "{files} files, {bytes} bytes");
        assert_eq!(stay(&candidates, &decision).len() == 10, halts);
        let accepted = Terms { accept_shrunk: true, ..terms(keep) };
        assert!(stay(&candidates, &decide(&candidates, &accepted)).len() < 10);
    }
    // Another source goes on.
    (candidates[9].files, candidates[9].bytes) = (0, 0);
    candidates[..5].iter_mut().for_each(|one| one.source = "mail2".into());
    let decision = decide(&candidates, &terms(keep));
    assert_eq!(stay(&candidates, &decision), [3, 4, 5, 6, 7, 8, 9, 10]);
    // One that was always empty has not shrunk.
    candidates.iter_mut().for_each(|one| (one.files, one.bytes) = (0, 0));
    assert_eq!(decide(&candidates, &terms(keep)).halts, []);
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// What Proxmox does, word by word: marks over a list, the newest first.
fn proxmox(newest_first: &[&Candidate], keep: &Keep) -> BTreeSet<u64> {
    let mut marks: BTreeMap<u64, bool> = BTreeMap::new();
    let counts = [keep.last, keep.hourly, keep.daily, keep.weekly, keep.monthly, keep.yearly];
    for (rule, count) in Rule::ALL.into_iter().zip(counts) {
        let id = |one: &Candidate| match rule {
            Rule::Last => one.generation as i64,
            rule => rule.period(one.time, 0),
        };
        let included: BTreeSet<i64> = newest_first
            .iter()
            .filter(|one| marks.get(&one.generation) == Some(&true))
            .map(|one| id(one))
            .collect();
        let mut chosen = BTreeSet::new();
        for one in newest_first {
            if marks.contains_key(&one.generation) || included.contains(&id(one)) {
                continue;
            }
            if chosen.contains(&id(one)) {
                marks.insert(one.generation, false);
            } else {
                if chosen.len() >= count as usize {
                    break;
                }
                chosen.insert(id(one));
                marks.insert(one.generation, true);
            }
        }
    }
    marks.into_iter().filter(|(_, keep)| *keep).map(|(generation, _)| generation).collect()
}

#[test]
fn random_histories_are_treated_as_proxmox_would_and_the_promises_hold() {
    let cases =
        std::env::var("MAILKEEP_RETENTION_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    for seed in 0..cases {
        let mut dice = Dice(seed);
        let mut time = NOW - 3600;
        let count = dice.below(60);
        let step = [1800, 6 * 3600, DAY as u64, 9 * DAY as u64][dice.below(4) as usize];
        let mut all: Vec<Candidate> = Vec::new();
        for generation in (1..=count).rev() {
            time -= 1 + dice.below(step) as i64;
            all.push(at(generation, time));
        }
        let mut draw = |limit: u64| if dice.below(2) == 0 { 0 } else { dice.below(limit) as u32 };
        let keep = Keep {
            last: draw(5),
            hourly: draw(6),
            daily: draw(8),
            weekly: draw(6),
            monthly: draw(6),
            yearly: draw(3),
        };
        if keep.is_empty() {
            continue;
        }
        let newest_first: Vec<&Candidate> = all.iter().collect();
        let expected = proxmox(&newest_first, &keep);
        let decision = decide(&all, &terms(keep));
        let by_rule: BTreeSet<u64> = all
            .iter()
            .zip(&decision.verdicts)
            .filter(|(_, verdict)| verdict.reasons.iter().any(|reason| matches!(reason, Reason::Rule(..))))
            .map(|(one, _)| one.generation)
            .collect();
        assert_eq!(by_rule, expected, "seed {seed}, {keep:?}");

        // Now with copies that are not consistent, other sources and wrong dates; the promises hold all the same.
        let mut dice = Dice(seed ^ 0xabcd);
        for one in &mut all {
            one.consistent = dice.below(3) > 0;
            one.source = format!("mail{}", dice.below(2));
            if dice.below(20) == 0 {
                one.time = [0, NOW + 90 * DAY, NOW - 4000 * DAY][dice.below(3) as usize];
            }
        }
        let decision = decide(&all, &terms(keep));
        promises(&all, &decision, &keep, &format!("seed {seed}, {keep:?}"));
        // The order in which they come in does not matter.
        let mut turned: Vec<Candidate> = all.clone();
        turned.reverse();
        let mut other = stay(&turned, &decide(&turned, &terms(keep)));
        other.reverse();
        assert_eq!(stay(&all, &decision), other, "seed {seed}");
        // What stays stays when it is looked at again.
        let left: Vec<Candidate> = all
            .iter()
            .zip(&decision.verdicts)
            .filter(|(_, verdict)| verdict.stays())
            .map(|(one, _)| one.clone())
            .collect();
        promises(&left, &decide(&left, &terms(keep)), &keep, &format!("seed {seed}, again"));
    }
}

fn promises(all: &[Candidate], decision: &Decision, keep: &Keep, context: &str) {
    let staying: BTreeSet<u64> = stay(all, decision).into_iter().collect();
    for source in ["mail0", "mail1"] {
        let of: Vec<&Candidate> = all.iter().filter(|one| one.source == source).collect();
        let newest = of.iter().map(|one| one.generation).max();
        let consistent = of.iter().filter(|one| one.consistent).map(|one| one.generation).max();
        for must in newest.into_iter().chain(consistent) {
            assert!(staying.contains(&must), "{context}: {must} of {source} goes");
        }
    }
    for (one, verdict) in all.iter().zip(&decision.verdicts) {
        assert_eq!(one.id, verdict.id);
        // Only rules that look at no clock may remove what is dated in the future.
        let by_time = Keep { last: 0, ..*keep } != NONE;
        assert!(one.time <= NOW + DAY || !by_time || verdict.stays(), "{context}: {}", one.generation);
    }
}
