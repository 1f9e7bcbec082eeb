//! Stops that did not come back in time: a server whose stop needs longer than its deadline allows is not stopped every
//! night for nothing.
//!
//! For each stop that had to be ended, the time it was given is kept in `stops.json` beside the intent; a stop that ends well
//! takes the file away. After [`limits::STOPS_TRUSTED`] of them in a row a stop that would be given no more time is refused
//! before anything is done; and because the reason may have been a server that was busy for a day, only
//! [`limits::STOPS_REFUSED`] times, then it is tried once more. Counted in runs: the server's clock has no part in it. A restore
//! that an admin asks for is never refused.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::StateFolder;
use crate::error::AgentError;
use crate::limits;

/// Name of the file.
const STOPS: &str = "stops.json";

/// The last stops, as far as they did not come back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overruns {
    /// How long each was waited for, in milliseconds, the latest last.
    millis: Vec<u64>,
    /// Runs that were refused since the latest.
    refused: usize,
}

impl Overruns {
    /// Those of a service. What cannot be read counts as not known.
    pub fn load(folder: &StateFolder) -> Overruns {
        let text = std::fs::read(folder.file(STOPS)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Whether a stop may be tried that is given so much time. Looks only.
    ///
    /// # Errors
    /// [`AgentError::StopTooLong`]: the last ones all needed more.
    pub fn look(folder: &StateFolder, bound: Duration, deadline: Duration) -> Result<(), AgentError> {
        let known = Overruns::load(folder);
        if !known.forbid(bound) {
            return Ok(());
        }
        let times = known.millis.iter().copied().map(Duration::from_millis);
        Err(AgentError::StopTooLong {
            stops: known.millis.len(),
            seconds: times.min().unwrap_or_default().as_secs_f64(),
            deadline: deadline.as_secs(),
            enough: doubled(deadline),
            next: limits::STOPS_REFUSED - known.refused,
        })
    }

    /// As [`Overruns::look`], for a run that would stop mail now: one that is refused counts.
    ///
    /// # Errors
    /// As there.
    pub fn allow(folder: &StateFolder, bound: Duration, deadline: Duration) -> Result<(), AgentError> {
        Overruns::look(folder, bound, deadline).inspect_err(|_| {
            let mut known = Overruns::load(folder);
            known.refused += 1;
            known.write(folder);
        })
    }

    fn forbid(&self, bound: Duration) -> bool {
        let as_long = |millis: &u64| *millis >= in_millis(bound);
        self.millis.len() >= limits::STOPS_TRUSTED
            && self.millis.iter().all(as_long)
            && self.refused < limits::STOPS_REFUSED
    }

    /// A stop did not come back within this time. If it cannot be written, mail is stopped once too often.
    pub fn note(folder: &StateFolder, bound: Duration) {
        let mut known = Overruns::load(folder);
        known.millis.push(in_millis(bound));
        let surplus = known.millis.len().saturating_sub(limits::STOPS_TRUSTED);
        known.millis.drain(..surplus);
        known.refused = 0;
        known.write(folder);
    }

    /// A stop has ended well.
    pub fn forget(folder: &StateFolder) {
        if folder.file(STOPS).exists() {
            let _ = folder.remove_durably(STOPS);
        }
    }

    fn write(&self, folder: &StateFolder) {
        if let Ok(text) = serde_json::to_vec(self) {
            let _ = folder.write_durably(STOPS, &text);
        }
    }
}

fn in_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What to write into the source file so that a stop gets at least twice the time.
pub fn doubled(deadline: Duration) -> u64 {
    deadline.saturating_mul(2).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    fn folder() -> (tempfile::TempDir, StateFolder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::existing(dir.path()).unwrap();
        (dir, folder)
    }

    /// No whole number of milliseconds.
    fn bound(seconds: u64) -> Duration {
        Duration::from_secs(3 * seconds + 1) / 3
    }

    fn allowed(folder: &StateFolder, seconds: u64) -> bool {
        Overruns::allow(folder, bound(seconds), DEADLINE).is_ok()
    }

    #[test]
    fn a_stop_that_never_came_back_is_refused_and_tried_again_some_runs_later() {
        let (_dir, folder) = folder();
        for stop in 0..limits::STOPS_TRUSTED {
            assert!(allowed(&folder, 10), "{stop}");
            Overruns::note(&folder, bound(10));
        }
        for left in (1..=limits::STOPS_REFUSED).rev() {
            let told = Overruns::look(&folder, bound(10), DEADLINE).unwrap_err().to_string();
            let refused = Overruns::allow(&folder, bound(10), DEADLINE).unwrap_err();
            assert_eq!(told, refused.to_string(), "a look counts for nothing");
            let text = refused.to_string();
            assert!(text.contains("10.3 s") && text.contains("was not stopped"), "{text}");
            assert!(text.contains("deadline = \"120s\"") && text.contains(&format!("in {left} ")), "{text}");
            assert_eq!(refused.failed().exit_code, 78);
        }
        assert!(allowed(&folder, 10));
        Overruns::note(&folder, bound(10));
        assert!(!allowed(&folder, 10));
    }

    #[test]
    fn what_an_admin_asks_for_is_tried_in_any_case() {
        use super::super::Purpose;
        let (_dir, folder) = folder();
        (0..limits::STOPS_TRUSTED).for_each(|_| Overruns::note(&folder, bound(10)));
        assert!(Purpose::Copy.allowed(&folder, bound(10), DEADLINE).is_err());
        let before = Overruns::load(&folder);
        assert!(Purpose::Swap.allowed(&folder, bound(10), DEADLINE).is_ok());
        assert_eq!(Overruns::load(&folder), before, "it does not count as a night that was left out");
    }

    #[test]
    fn more_time_or_one_that_ended_well_is_a_reason_to_try() {
        let (_dir, folder) = folder();
        (0..limits::STOPS_TRUSTED).for_each(|_| Overruns::note(&folder, bound(10)));
        assert!(allowed(&folder, 11));
        assert!(!allowed(&folder, 9));
        Overruns::forget(&folder);
        assert!(allowed(&folder, 9));
        std::fs::write(folder.file(STOPS), "{").unwrap();
        assert!(allowed(&folder, 9));
    }
}
