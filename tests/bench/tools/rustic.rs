//! rustic: restic's format, encrypted always, zstd level 3.

use anyhow::Result;

use super::{Commands, Line, Place};
use crate::rows::Row;

pub(super) struct Rustic;

impl Commands for Rustic {
    fn name(&self) -> &'static str {
        "rustic"
    }

    fn env(&self, at: &Place) -> Vec<(&'static str, String)> {
        vec![
            ("RUSTIC_PASSWORD", "bench".into()),
            ("RUSTIC_REPOSITORY", at.own("repo")),
            ("RUSTIC_CACHE_DIR", at.own("cache")),
            ("RUSTIC_NO_PROGRESS", "true".into()),
            ("RUSTIC_LOG_LEVEL", "warn".into()),
            ("XDG_CONFIG_HOME", at.own("config")),
        ]
    }

    fn init(&self, at: &Place) -> Result<Vec<Line>> {
        Ok(vec![at.line(&["init", "--set-compression", "3"])])
    }

    fn steps(&self, row: Row, at: &Place) -> Vec<Line> {
        let target = at.target().display().to_string();
        let folder = format!("latest:{}", at.folder_in_spool());
        let args: &[&str] = match row {
            Row::First | Row::NoChange | Row::Day => &["backup", &at.spool()],
            Row::Restore => &["restore", "latest", &target],
            Row::Folder => &["restore", &folder, &target],
            Row::FirstLs | Row::Mount => return Vec::new(),
            Row::Verify => &["check", "--read-data"],
            // At once, as the others do, instead of marking now and deleting at a later prune.
            Row::Prune => &["forget", "--keep-last", "1", "--prune", "--instant-delete"],
        };
        vec![at.line(args)]
    }

    fn install(&self) -> &'static str {
        "cargo install rustic-rs --locked --no-default-features"
    }
}
