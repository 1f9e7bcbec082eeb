//! Whether the window would fit the outage budget: pure, from the figures of the live passes so far.
//!
//! The final pass walks what the last live pass walked and copies what changed since that one began. How long the walk
//! takes is the last pass less its copying; how much changes meanwhile follows from what the last pass found changed
//! during the one before it; how fast it is copied was seen in the pass that copied most. After one pass alone nothing
//! of this is known, and the final pass is taken to be as long as that one. Where the agent keeps the final pass on the
//! server, its own reckoning stands in place of all this. To it come stop, export and start, as the last snapshots
//! measured them.

use std::time::Duration;

use mailkeep_format::manifest::Window;

use crate::limits::{COMFORTABLE_SHARE, FORECAST_FLOOR, LIVE_PASSES_MAX, SHRINK_ENOUGH, WINDOWS_TRUSTED};

/// What a live pass says of the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LivePass {
    /// From its first word to its last.
    pub took: Duration,
    /// Files that it looked at.
    pub files: u64,
    /// Bytes that it read.
    pub bytes: u64,
}

/// The window as it is expected to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Stop, export and start.
    pub overhead: Duration,
    /// The final pass.
    pub pass: Duration,
    /// Files that it has to look at.
    pub files: u64,
    /// Bytes that it has to copy.
    pub bytes: u64,
}

impl Forecast {
    /// From the stop to the greeting.
    pub fn total(&self) -> Duration {
        self.overhead.saturating_add(self.pass)
    }

    /// From the live passes so far; `None` before the first.
    pub fn of(passes: &[LivePass], overhead: Duration) -> Option<Forecast> {
        let last = passes.last()?;
        let seconds = last.took.as_secs_f64();
        let as_long = Forecast { overhead, pass: last.took, files: last.files, bytes: last.bytes };
        let [.., before, _] = passes else { return Some(as_long) };
        let per_second = |pass: &LivePass, time: Duration| pass.bytes as f64 / time.as_secs_f64().max(0.001);
        let speed = passes.iter().map(|pass| per_second(pass, pass.took)).fold(0.0, f64::max);
        if speed <= 0.0 {
            return Some(as_long);
        }
        let dirty = per_second(last, before.took) * seconds;
        let pass = seconds + (dirty - last.bytes as f64) / speed;
        // The reckoning is rough: a cold disk, small files among large ones.
        let pass = pass.max(seconds * FORECAST_FLOOR);
        let pass = Duration::try_from_secs_f64(pass).unwrap_or(Duration::MAX);
        Some(Forecast { pass, bytes: dirty as u64, ..as_long })
    }

    /// With the final pass kept on the server, which takes this long by the agent's reckoning.
    pub fn kept(self, pass: Duration) -> Forecast {
        Forecast { pass, ..self }
    }
}

/// In words for people: where the time would go.
impl std::fmt::Display for Forecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "about {:.1} s, of it {:.1} s to stop and start mail and {:.1} s to look at {} files and copy the {:.1} MB that \
             change meanwhile",
            self.total().as_secs_f64(),
            self.overhead.as_secs_f64(),
            self.pass.as_secs_f64(),
            self.files,
            self.bytes as f64 / 1e6
        )
    }
}

/// What there is to tell of a window that took longer than allowed: by how much, and where the time went.
pub fn overrun(window: &Window, budget: Duration) -> Option<String> {
    let total = Duration::from_millis(window.total_ms);
    let over = total.checked_sub(budget).filter(|over| !over.is_zero())?;
    let phases = [
        ("stopping mail", window.stop_ms),
        ("the export of the mailbox list", window.export_ms),
        ("the last pass", window.freeze_ms),
        ("starting mail", window.start_ms),
    ];
    let (longest, millis) = phases.into_iter().max_by_key(|(_, millis)| *millis)?;
    Some(format!(
        "mail was away for {:.1} s, {:.1} s longer than outage-budget allows ({} s); most of it was {longest}, {:.1} s",
        total.as_secs_f64(),
        over.as_secs_f64(),
        budget.as_secs(),
        Duration::from_millis(millis).as_secs_f64(),
    ))
}

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
        forecast: Forecast,
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

/// Decides from the live passes of this run, in order; `overhead` is what stop, export and start take, `kept` what the
/// agent says that the final pass would take if it is kept on the server, where it can be. With `force` the window is
/// opened where it would be given up.
pub fn after_live_pass(
    passes: &[LivePass],
    overhead: Duration,
    kept: Option<Duration>,
    budget: Duration,
    force: bool,
) -> Step {
    let Some(over_link) = Forecast::of(passes, overhead) else { return Step::Again };
    let forecast = kept.map_or(over_link, |pass| over_link.kept(pass));
    if forecast.total() <= budget.mul_f64(COMFORTABLE_SHARE) {
        return Step::Stop;
    }
    let shrinks = match passes {
        [.., before, last] => last.took.as_secs_f64() < before.took.as_secs_f64() * SHRINK_ENOUGH,
        _ => true,
    };
    // What stop and start take does not get shorter by passes.
    if shrinks && overhead <= budget && passes.len() < LIVE_PASSES_MAX as usize {
        return Step::Again;
    }
    if forecast.total() <= budget || force { Step::Stop } else { Step::GiveUp { forecast } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_secs(60);

    fn seconds(pass: (u64, u64)) -> LivePass {
        LivePass { took: Duration::from_secs(pass.0), files: 1000, bytes: pass.1 * 1_000_000 }
    }

    /// Passes by their seconds, in which nothing is copied.
    fn decide(passes: &[u64], overhead: u64, force: bool) -> Step {
        let passes: Vec<LivePass> = passes.iter().map(|took| seconds((*took, 0))).collect();
        after_live_pass(&passes, Duration::from_secs(overhead), None, BUDGET, force)
    }

    /// Passes by seconds and megabytes.
    fn forecast(passes: &[(u64, u64)], overhead: u64) -> Forecast {
        let passes: Vec<LivePass> = passes.iter().copied().map(seconds).collect();
        Forecast::of(&passes, Duration::from_secs(overhead)).unwrap()
    }

    fn decide_copying(passes: &[(u64, u64)], kept: Option<u64>) -> Step {
        let passes: Vec<LivePass> = passes.iter().copied().map(seconds).collect();
        after_live_pass(&passes, Duration::from_secs(2), kept.map(Duration::from_secs), BUDGET, false)
    }

    #[test]
    fn the_walk_stays_and_the_copying_shrinks_to_what_changes_meanwhile() {
        // One pass says nothing of its parts.
        assert_eq!(forecast(&[(100, 900)], 2).pass, Duration::from_secs(100));
        // 10 MB/s. During 100 s 200 MB changed, so 80 MB during the 40 s of the last pass: 20 s of walk and 8 s of copy.
        let next = forecast(&[(100, 1000), (40, 200)], 2);
        assert_eq!(
            (next.pass, next.bytes, next.total()),
            (Duration::from_secs(28), 80_000_000, Duration::from_secs(30))
        );
        // More changes than can be copied: each pass is longer than the one before.
        let next = forecast(&[(10, 100), (20, 200), (40, 400)], 2);
        assert_eq!(next.pass, Duration::from_secs(80));
        // The reckoning is never trusted for more than three quarters of the pass.
        assert_eq!(forecast(&[(3600, 36_000), (10, 100)], 0).pass, Duration::from_millis(2_500));
        // Nonsense of a stranger does not overflow.
        let strange = LivePass { took: Duration::MAX, files: u64::MAX, bytes: u64::MAX };
        let after = [LivePass { took: Duration::ZERO, ..strange }, strange];
        assert!(Forecast::of(&after, Duration::MAX).unwrap().total() >= Duration::from_secs(1));
    }

    #[test]
    fn where_it_does_not_fit_the_figures_are_told() {
        // It fits, though the last pass did not.
        assert_eq!(decide_copying(&[(75, 1000), (62, 500)], None), Step::Stop);
        // What changes keeps pace with the copy: no pass will be shorter, and the window does not fit.
        let Step::GiveUp { forecast } = decide_copying(&[(80, 800), (80, 800)], None) else { panic!() };
        assert_eq!((forecast.total(), forecast.bytes), (Duration::from_secs(82), 800_000_000));
        let said = forecast.to_string();
        for part in ["82.0 s", "2.0 s to stop", "80.0 s to look at 1000 files", "800.0 MB"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn what_is_kept_on_the_server_need_not_cross_the_link_in_the_window() {
        // A slow link: every pass takes long, keeping takes a second.
        assert_eq!(decide_copying(&[(600, 60)], Some(1)), Step::Stop);
        assert_eq!(decide_copying(&[(80, 800), (80, 800)], Some(30)), Step::Stop);
        assert!(matches!(decide_copying(&[(80, 800), (80, 800)], Some(70)), Step::GiveUp { .. }));
    }

    #[test]
    fn passes_cannot_shorten_the_stop_itself() {
        assert!(matches!(decide(&[100], 61, false), Step::GiveUp { .. }));
        assert_eq!(decide(&[100], 61, true), Step::Stop);
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
        let predicted = |step: Step| match step {
            Step::GiveUp { forecast } => forecast.total().as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(predicted(decide(&[3600, 125, 120], 2, false)), 122);
        assert_eq!(decide(&[3600, 125, 120], 2, true), Step::Stop);
        assert_eq!(decide(&[5], 56, false), Step::Again);
        assert_eq!(predicted(decide(&[5, 5], 56, false)), 61);
    }

    fn window(stop_ms: u64) -> Window {
        Window { stop_ms, export_ms: 100, freeze_ms: 9_999_999, start_ms: 400, total_ms: 9_999_999 }
    }

    #[test]
    fn a_window_that_was_too_long_is_told_with_its_longest_phase() {
        let took =
            |stop_ms, total_ms| Window { stop_ms, export_ms: 100, freeze_ms: 900, start_ms: 400, total_ms };
        assert_eq!(overrun(&took(500, 60_000), BUDGET), None);
        let told = overrun(&took(70_000, 72_345), BUDGET).unwrap();
        assert_eq!(
            told,
            "mail was away for 72.3 s, 12.3 s longer than outage-budget allows (60 s); most of it was stopping mail, 70.0 s"
        );
        assert!(overrun(&took(1, 60_001), BUDGET).unwrap().contains("the last pass, 0.9 s"));
        assert!(overrun(&took(u64::MAX, u64::MAX), BUDGET).is_some());
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
