//! restic: encrypted always, its automatic compression (zstd).

use anyhow::Result;

use super::{Commands, Line, Place};
use crate::rows::Row;

pub(super) struct Restic;

impl Commands for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn env(&self, at: &Place) -> Vec<(&'static str, String)> {
        vec![
            ("RESTIC_PASSWORD", "bench".into()),
            ("RESTIC_REPOSITORY", at.own("repo")),
            ("RESTIC_CACHE_DIR", at.own("cache")),
        ]
    }

    fn init(&self, at: &Place) -> Result<Vec<Line>> {
        Ok(vec![at.line(&["init", "-q"])])
    }

    fn steps(&self, row: Row, at: &Place) -> Vec<Line> {
        let target = at.target().display().to_string();
        let args: &[&str] = match row {
            Row::First | Row::NoChange | Row::Day => &["backup", "-q", "--compression", "auto", &at.spool()],
            Row::Restore => &["restore", "latest", "-q", "--target", &target],
            Row::Folder => {
                &["restore", "latest", "-q", "--target", &target, "--include", &at.folder_in_spool()]
            }
            Row::FirstLs | Row::Mount => return Vec::new(),
            Row::Verify => &["check", "-q", "--read-data"],
            Row::Prune => &["forget", "-q", "--keep-last", "1", "--prune"],
        };
        vec![at.line(args)]
    }

    fn install(&self) -> &'static str {
        "apt-get install restic"
    }
}
