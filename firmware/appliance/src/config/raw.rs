//! `box.toml` as written: names and types, nothing else. Unknown keys are errors.

use std::path::PathBuf;

use mailkeep_board::layout::RawLayout;
use serde::Deserialize;

use crate::config::suggest::nearest;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// `[box]`
    pub r#box: RawBox,
    /// `[board]`
    pub board: Option<RawLayout>,
    /// `[disks]`
    pub disks: RawDisks,
    /// `[schedule]`
    pub schedule: RawSchedule,
    /// `[retention]`
    pub retention: Option<RawRetention>,
    /// `[web]`
    pub web: Option<RawWeb>,
    /// `[notify]`, whose keys are not fixed yet.
    pub notify: Option<toml::Table>,
    /// `[[source]]`
    pub source: Vec<RawSource>,
    /// `[[standby]]`
    pub standby: Vec<RawSource>,
}

/// `[box]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RawBox {
    /// The box's name.
    pub name: Option<String>,
    /// Where it keeps what it remembers.
    pub state_dir: Option<PathBuf>,
    /// The box key.
    pub key_file: Option<PathBuf>,
}

/// `[disks]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RawDisks {
    /// How many disks rotate.
    pub set_size: Option<u32>,
    /// How long each stays in the box: `7d`, …
    pub rotate_every: Option<String>,
    /// `2d`, `36h`, …
    pub overdue_after: Option<String>,
    /// In how many runs each disk is wholly read back.
    pub verify_runs: Option<u32>,
    /// Device paths at which disks appear.
    pub paths: Vec<PathBuf>,
}

/// `[schedule]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RawSchedule {
    /// When backups begin.
    pub backup: Option<String>,
    /// Make up for one that was missed.
    pub catch_up: Option<bool>,
}

/// `[retention]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the keys are those of `mailkeep prune`")]
pub struct RawRetention {
    pub keep_last: Option<u32>,
    pub keep_hourly: Option<u32>,
    pub keep_daily: Option<u32>,
    pub keep_weekly: Option<u32>,
    pub keep_monthly: Option<u32>,
    pub keep_yearly: Option<u32>,
}

/// `[web]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawWeb {
    /// Address and port.
    pub listen: Option<String>,
}

/// `[[source]]`, `[[standby]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSource {
    /// The source file.
    pub file: Option<PathBuf>,
}

/// Reads the text.
///
/// # Errors
/// The line, counted from 1 where it is known, and what is wrong there, in one line.
pub fn parse(text: &str) -> Result<RawConfig, (Option<usize>, String)> {
    toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map(|span| 1 + text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count());
        (line, explain(error.message()))
    })
}

/// Says what the parser said in this program's words, with the known key that was probably meant. The parser
/// writes: unknown field `x`, expected one of `a`, `b`.
fn explain(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    match (message.strip_prefix("unknown field "), words.next()) {
        (Some(_), Some(key)) => match nearest(key, words) {
            Some(known) => format!("unknown key `{key}` (did you mean `{known}`?)"),
            None => format!("unknown key `{key}`"),
        },
        _ => message.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}
