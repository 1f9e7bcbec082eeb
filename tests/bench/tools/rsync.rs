//! rsync: a plain mirror, no history, no encryption, nothing to prune; what a backup costs at the very least.

use anyhow::Result;

use super::{Commands, Line, Place};
use crate::rows::Row;

pub(super) struct Rsync;

impl Commands for Rsync {
    fn name(&self) -> &'static str {
        "rsync"
    }

    fn env(&self, _at: &Place) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn init(&self, _at: &Place) -> Result<Vec<Line>> {
        Ok(Vec::new())
    }

    fn steps(&self, row: Row, at: &Place) -> Vec<Line> {
        let (spool, mirror) = (format!("{}/", at.spool()), format!("{}/", at.own("repo")));
        let target = format!("{}/", at.target().display());
        match row {
            Row::First | Row::NoChange | Row::Day => vec![at.line(&["-a", "--delete", &spool, &mirror])],
            Row::Restore => vec![at.line(&["-a", &mirror, &target])],
            Row::Folder => vec![at.line(&["-a", &format!("{mirror}{}/", at.folder()), &target])],
            Row::FirstLs | Row::Mount | Row::Verify | Row::Prune => Vec::new(),
        }
    }

    fn install(&self) -> &'static str {
        "apt-get install rsync"
    }
}
