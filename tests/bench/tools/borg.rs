//! borg: encrypted (repokey-blake2), zstd level 3.

use anyhow::Result;

use super::{Commands, Line, Place};
use crate::rows::Row;

pub(super) struct Borg;

impl Commands for Borg {
    fn name(&self) -> &'static str {
        "borg"
    }

    fn env(&self, at: &Place) -> Vec<(&'static str, String)> {
        vec![
            ("BORG_PASSPHRASE", "bench".into()),
            ("BORG_REPO", at.own("repo")),
            ("BORG_BASE_DIR", at.own("base")),
        ]
    }

    fn init(&self, at: &Place) -> Result<Vec<Line>> {
        Ok(vec![at.line(&["init", "-e", "repokey-blake2"])])
    }

    fn steps(&self, row: Row, at: &Place) -> Vec<Line> {
        let archive = format!("::{}", row.name());
        // Paths are stored without their leading slash, and come out below the folder it runs in.
        let (newest, folder) = (format!("::{}", Row::Day.name()), at.folder_in_spool());
        let folder = folder.trim_start_matches('/');
        match row {
            Row::First | Row::NoChange | Row::Day => {
                vec![at.line(&["create", "--compression", "zstd,3", &archive, &at.spool()])]
            }
            Row::Restore => vec![at.line(&["extract", &newest])],
            Row::Folder => vec![at.line(&["extract", &newest, folder])],
            Row::FirstLs | Row::Mount => Vec::new(),
            Row::Verify => vec![at.line(&["check", "--verify-data"])],
            Row::Prune => vec![at.line(&["prune", "--keep-last", "1"]), at.line(&["compact"])],
        }
    }

    fn install(&self) -> &'static str {
        "apt-get install borgbackup"
    }
}
