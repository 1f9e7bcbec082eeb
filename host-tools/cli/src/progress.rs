//! How far the work is: a bar in a terminal, or `status` lines in JSON mode.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::units;

/// Status lines come at most this often.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// The bar is drawn at most this often.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// An estimate before this is a guess.
const ETA_AFTER: Duration = Duration::from_secs(2);

/// Where the work stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// One word for what is being done.
    pub(crate) phase: &'static str,
    pub(crate) files_done: u64,
    pub(crate) bytes_done: u64,
    /// Of the work of this phase, as (done, total); bytes, files or whatever is known.
    pub(crate) part: Option<(u64, u64)>,
}

#[derive(Serialize)]
struct StatusLine {
    message_type: &'static str,
    phase: &'static str,
    /// 0 to 1; `null` while the total is unknown.
    percent_done: Option<f64>,
    files_done: u64,
    bytes_done: u64,
    seconds_remaining: Option<u64>,
}

/// Shows readings.
pub(crate) struct Gauge {
    way: Way,
    phase: &'static str,
    began: Instant,
    last: Option<Instant>,
}

enum Way {
    None,
    Lines,
    Bar(ProgressBar),
}

impl Gauge {
    /// Shows nothing.
    pub(crate) fn none() -> Self {
        Gauge::new(Way::None)
    }

    /// Gives JSON lines.
    pub(crate) fn lines() -> Self {
        Gauge::new(Way::Lines)
    }

    /// Draws on stderr.
    pub(crate) fn bar() -> Self {
        let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{prefix:9} {wide_bar} {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Gauge::new(Way::Bar(bar))
    }

    /// Whether it draws.
    pub(crate) fn is_bar(&self) -> bool {
        matches!(self.way, Way::Bar(_))
    }

    fn new(way: Way) -> Self {
        Gauge { way, phase: "", began: Instant::now(), last: None }
    }

    /// Shows a reading, unless the last one was a moment ago. Gives the line that is to be written, if any.
    pub(crate) fn show(&mut self, reading: &Reading) -> Option<String> {
        let every = match self.way {
            Way::None => return None,
            Way::Lines => LINE_EVERY,
            Way::Bar(_) => BAR_EVERY,
        };
        let now = Instant::now();
        if self.phase != reading.phase {
            (self.phase, self.began, self.last) = (reading.phase, now, None);
        }
        if self.last.is_some_and(|last| now - last < every) {
            return None;
        }
        self.last = Some(now);
        let part = reading.part.filter(|(_, total)| *total > 0);
        let done = part.map(|(done, total)| (done as f64 / total as f64).min(1.0));
        let remaining = done.and_then(|done| remaining(now - self.began, done));
        match &self.way {
            Way::None => None,
            Way::Lines => serde_json::to_string(&StatusLine {
                message_type: "status",
                phase: reading.phase,
                percent_done: done,
                files_done: reading.files_done,
                bytes_done: reading.bytes_done,
                seconds_remaining: remaining,
            })
            .ok(),
            Way::Bar(bar) => {
                draw(bar, reading, done, remaining);
                None
            }
        }
    }

    /// Does something (write a line, as a rule) while the bar is out of the way.
    pub(crate) fn around(&self, act: impl FnOnce()) {
        match &self.way {
            Way::Bar(bar) => bar.suspend(act),
            _ => act(),
        }
    }

    /// Takes the bar away; the next reading brings it back.
    pub(crate) fn clear(&mut self) {
        if let Way::Bar(bar) = &self.way {
            // In this order: a hidden bar does not take itself off the screen.
            bar.finish_and_clear();
            bar.set_draw_target(ProgressDrawTarget::hidden());
            bar.reset();
        }
        self.phase = "";
    }
}

/// Seconds that are left if it goes on as it did.
fn remaining(elapsed: Duration, done: f64) -> Option<u64> {
    (elapsed >= ETA_AFTER && done > 0.0).then(|| (elapsed.as_secs_f64() * (1.0 - done) / done).ceil() as u64)
}

fn draw(bar: &ProgressBar, reading: &Reading, done: Option<f64>, remaining: Option<u64>) {
    if bar.is_hidden() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
    }
    let mut message = String::new();
    if let Some(done) = done {
        message.push_str(&format!("{:3.0} %  ", done * 100.0));
    }
    message.push_str(&units::counted(reading.files_done, "file", "files"));
    if reading.bytes_done > 0 {
        message.push_str(&format!("  {}", units::size(reading.bytes_done)));
    }
    if let Some(seconds) = remaining {
        message.push_str(&format!("  {} left", units::duration(seconds as f64)));
    }
    // Each of these draws, so no more of them than have something new.
    if bar.prefix() != reading.phase {
        bar.set_prefix(reading.phase);
    }
    bar.set_position((done.unwrap_or(0.0) * 1000.0) as u64);
    bar.set_message(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_has_the_fields_of_the_interface_and_comes_at_each_phase() {
        let mut gauge = Gauge::lines();
        let mut reading = Reading { phase: "restore", files_done: 3, bytes_done: 50, part: Some((50, 200)) };
        let line = gauge.show(&reading).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message_type"], "status");
        assert_eq!(value["phase"], "restore");
        assert_eq!(value["percent_done"], 0.25);
        assert_eq!((&value["files_done"], &value["bytes_done"]), (&3.into(), &50.into()));
        assert!(value["seconds_remaining"].is_null());
        assert!(gauge.show(&reading).is_none(), "too many lines");
        reading.phase = "other";
        reading.part = None;
        let value: serde_json::Value = serde_json::from_str(&gauge.show(&reading).unwrap()).unwrap();
        assert!(value["percent_done"].is_null());
    }

    #[test]
    fn what_is_left_follows_from_what_was() {
        assert_eq!(remaining(Duration::from_secs(1), 0.5), None);
        assert_eq!(remaining(Duration::from_secs(10), 0.5), Some(10));
        assert_eq!(remaining(Duration::from_secs(10), 0.0), None);
        assert_eq!(remaining(Duration::from_secs(10), 1.0), Some(0));
    }
}
