//! Whether the window would fit the outage budget: pure, from the figures of the live passes so far.
//!
//! The final pass walks what the last live pass walked and reads what changed since; so it takes no longer than that
//! pass as long as each is shorter than the one before. To this come stop, export and start, as the last snapshots
//! measured them.

use std::time::Duration;

use mailkeep_format::manifest::Window;

use crate::limits::{COMFORTABLE_SHARE, LIVE_PASSES_MAX, SHRINK_ENOUGH, WINDOWS_TRUSTED};

/// What to do after a live pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Open the window.
    Stop,
    /// Another live pass makes the window shorter.
    Again,
    /// It does not fit and would not fit after another pass either.
    GiveUp {
        /// How long the window would be.
        predicted: Duration,
    },
}

/// What stop, export and start usually take, from the windows of earlier snapshots (the latest few).
///
/// The shortest counts: Cyrus at times hangs in its shutdown, which says nothing of the next one. And a few windows
/// alone never fill more than half of the budget, or one such hang would keep all later backups from being made.
pub fn usual_overhead(windows: &[Window], budget: Duration) -> Duration {
    // Figures of a stranger: they must not overflow.
    let millis =
        |window: &Window| window.stop_ms.saturating_add(window.export_ms).saturating_add(window.start_ms);
    let shortest = Duration::from_millis(windows.iter().map(millis).min().unwrap_or(0));
    if windows.len() < WINDOWS_TRUSTED { shortest.min(budget / 2) } else { shortest }
}

/// Decides from the durations of the live passes of this run, in order; `overhead` is what stop, export and start
/// take. With `force` the window is opened where it would be given up.
pub fn after_live_pass(passes: &[Duration], overhead: Duration, budget: Duration, force: bool) -> Step {
    let Some(last) = passes.last() else { return Step::Again };
    let predicted = last.saturating_add(overhead);
    if predicted <= budget.mul_f64(COMFORTABLE_SHARE) {
        return Step::Stop;
    }
    let shrinks = match passes {
        [.., before, last] => last.as_secs_f64() < before.as_secs_f64() * SHRINK_ENOUGH,
        _ => true,
    };
    if shrinks && passes.len() < LIVE_PASSES_MAX as usize {
        return Step::Again;
    }
    if predicted <= budget || force { Step::Stop } else { Step::GiveUp { predicted } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_secs(60);

    fn decide(passes: &[u64], overhead: u64, force: bool) -> Step {
        let passes: Vec<Duration> = passes.iter().copied().map(Duration::from_secs).collect();
        after_live_pass(&passes, Duration::from_secs(overhead), BUDGET, force)
    }

    #[test]
    fn a_short_pass_opens_the_window_at_once() {
        assert_eq!(decide(&[3], 2, false), Step::Stop);
        assert_eq!(decide(&[], 0, false), Step::Again);
    }

    #[test]
    fn a_long_first_pass_is_followed_by_a_short_one() {
        assert_eq!(decide(&[3600], 2, false), Step::Again);
        assert_eq!(decide(&[3600, 10], 2, false), Step::Stop);
        // It would fit, but another pass makes the outage shorter.
        assert_eq!(decide(&[50], 2, false), Step::Again);
        assert_eq!(decide(&[50, 48], 2, false), Step::Stop);
    }

    #[test]
    fn a_walk_that_takes_longer_than_the_budget_gives_up_unless_forced() {
        let predicted = Duration::from_secs(122);
        assert_eq!(decide(&[3600, 125, 120], 2, false), Step::GiveUp { predicted });
        assert_eq!(decide(&[3600, 125, 120], 2, true), Step::Stop);
        assert_eq!(decide(&[5], 56, false), Step::Again);
        assert_eq!(decide(&[5, 5], 56, false), Step::GiveUp { predicted: Duration::from_secs(61) });
    }

    fn window(stop_ms: u64) -> Window {
        Window { stop_ms, export_ms: 100, freeze_ms: 9_999_999, start_ms: 400, total_ms: 9_999_999 }
    }

    #[test]
    fn one_stop_that_hung_does_not_forbid_the_next_window() {
        assert_eq!(usual_overhead(&[], BUDGET), Duration::ZERO);
        assert_eq!(usual_overhead(&[window(500)], BUDGET), Duration::from_millis(1_000));
        assert_eq!(usual_overhead(&[window(90_000)], BUDGET), BUDGET / 2);
        assert_eq!(usual_overhead(&[window(90_000), window(500)], BUDGET), Duration::from_millis(1_000));
        // A server that really takes so long is believed.
        assert_eq!(usual_overhead(&[window(90_000); 3], BUDGET), Duration::from_millis(90_500));
        assert_eq!(usual_overhead(&[window(u64::MAX); 3], BUDGET), Duration::from_millis(u64::MAX));
    }

    #[test]
    fn passes_are_not_repeated_for_ever() {
        let shrinking = [100_000, 70_000, 40_000, 20_000, 10_000];
        for count in 1..5 {
            assert_eq!(decide(&shrinking[..count], 0, false), Step::Again, "{count}");
        }
        assert!(matches!(decide(&shrinking, 0, false), Step::GiveUp { .. }));
    }
}
