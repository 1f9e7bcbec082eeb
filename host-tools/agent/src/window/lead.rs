//! The lead: how long before its deadline mail is started, so that it *answers* by the deadline.
//!
//! It comes from how long mail took to come back the last few times on this very server: twice the longest of them (the
//! first attempt may fail, and whoever holds the starter's lock may hang) and [`limits::START_MARGIN`]. The times lie in
//! `starts.json` beside the intent and are written after mail answers, never in the way of a start. Before the first
//! window nothing is known, and [`limits::FIRST_START`] stands for it. The lead never takes more than half of the
//! deadline; where that is too little the admin is told, and where mail never came back within half of the deadline
//! nothing is stopped.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::StateFolder;
use crate::error::AgentError;
use crate::limits;

/// Name of the file.
const STARTS: &str = "starts.json";

/// How long mail took from the first start command to its greeting, the last few times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Starts {
    /// In milliseconds, the latest last.
    millis: Vec<u64>,
}

/// How early mail is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    /// This long before the deadline.
    pub before: Duration,
    /// What the admin has to know of a deadline that is too short for it.
    pub remark: Option<String>,
}

impl Starts {
    /// Those of a service. What cannot be read counts as not known: it must not keep mail from being backed up.
    pub fn load(folder: &StateFolder) -> Starts {
        let text = fs::read(folder.file(STARTS)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Adds one, durably. Only called when mail answers; if it cannot be written, nothing is lost but a figure.
    pub fn note(folder: &StateFolder, took: Duration) {
        let mut starts = Starts::load(folder);
        starts.millis.push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let surplus = starts.millis.len().saturating_sub(limits::STARTS_KEPT);
        starts.millis.drain(..surplus);
        if let Ok(text) = serde_json::to_vec(&starts) {
            let _ = folder.write_durably(STARTS, &text);
        }
    }

    /// The lead before this deadline.
    ///
    /// # Errors
    /// [`AgentError::DeadlineTooShort`]: mail has never come back in so short a time as is left.
    pub fn lead(&self, deadline: Duration) -> Result<Lead, AgentError> {
        let most = deadline / 2;
        let times = || self.millis.iter().copied().map(Duration::from_millis);
        let Some((shortest, longest)) = times().min().zip(times().max()) else {
            return Ok(Lead { before: wanted(limits::FIRST_START).min(most), remark: None });
        };
        if self.millis.len() >= limits::STARTS_TRUSTED && shortest > most {
            return Err(AgentError::DeadlineTooShort {
                deadline: deadline.as_secs(),
                start: shortest.as_secs(),
                enough: wanted(longest).saturating_mul(2).as_secs() + 1,
            });
        }
        let before = wanted(longest);
        let remark = (before > most).then(|| {
            format!(
                "the last starts of mail took up to {:.1} s, so that the deadline of {} s leaves too little for one that \
                 fails; write deadline = \"{}s\" or more into [quiesce] of the source file",
                longest.as_secs_f64(),
                deadline.as_secs(),
                before.saturating_mul(2).as_secs() + 1
            )
        });
        Ok(Lead { before: before.min(most), remark })
    }
}

fn wanted(start: Duration) -> Duration {
    start.saturating_mul(2).saturating_add(limits::START_MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(seconds: &[u64]) -> Starts {
        Starts { millis: seconds.iter().map(|seconds| seconds * 1000).collect() }
    }

    fn lead(seconds: &[u64], deadline: u64) -> Lead {
        starts(seconds).lead(Duration::from_secs(deadline)).unwrap()
    }

    #[test]
    fn the_longest_of_the_last_starts_counts_twice() {
        let margin = limits::START_MARGIN;
        assert_eq!(lead(&[1, 7, 2], 600), Lead { before: Duration::from_secs(14) + margin, remark: None });
        assert_eq!(lead(&[0], 600).before, margin);
        assert_eq!(lead(&[], 600).before, limits::FIRST_START * 2 + margin);
    }

    #[test]
    fn it_never_takes_more_than_half_of_the_deadline_and_says_so_where_it_is_known() {
        assert_eq!(lead(&[], 20), Lead { before: Duration::from_secs(10), remark: None });
        let short = lead(&[1, 9], 20);
        assert_eq!(short.before, Duration::from_secs(10));
        let remark = short.remark.unwrap();
        assert!(
            remark.contains("9.0 s") && remark.contains("20 s") && remark.contains("[quiesce]"),
            "{remark}"
        );
        // What is asked for is enough.
        let asked: u64 = remark.split('"').nth(1).unwrap().trim_end_matches('s').parse().unwrap();
        assert_eq!(lead(&[1, 9], asked).remark, None);
    }

    #[test]
    fn a_deadline_that_no_start_ever_met_is_refused_and_one_slow_start_forbids_nothing() {
        assert!(lead(&[90, 1, 1], 20).remark.is_some());
        assert!(lead(&[90, 90], 20).remark.is_some());
        let refused = starts(&[11, 12, 40]).lead(Duration::from_secs(20)).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("20 s") && text.contains("11 s") && text.contains("was not stopped"), "{text}");
        assert_eq!(refused.failed().exit_code, 78);
        assert!(starts(&[u64::MAX / 1000; 3]).lead(Duration::from_secs(600)).is_err());
    }

    #[test]
    fn a_few_are_kept_and_damage_is_no_hindrance() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::existing(dir.path()).unwrap();
        assert_eq!(Starts::load(&folder), Starts::default());
        for seconds in 1..=20 {
            Starts::note(&folder, Duration::from_secs(seconds));
        }
        assert_eq!(Starts::load(&folder).millis.len(), limits::STARTS_KEPT);
        assert_eq!(Starts::load(&folder).millis.last(), Some(&20_000));
        fs::write(folder.file(STARTS), "{\"millis\": [-1]}").unwrap();
        assert_eq!(Starts::load(&folder), Starts::default());
        Starts::note(&folder, Duration::from_secs(3));
        assert_eq!(Starts::load(&folder).millis, [3000]);
    }
}
