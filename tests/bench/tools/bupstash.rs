//! bupstash: encrypted always, zstd level 3, with a send log. It has no check of its own: reading the newest snapshot out
//! as one stream, which authenticates every chunk of it, stands in.

use anyhow::Result;

use super::{Commands, Line, Place};
use crate::rows::Row;

pub(super) struct Bupstash;

impl Commands for Bupstash {
    fn name(&self) -> &'static str {
        "bupstash"
    }

    fn env(&self, at: &Place) -> Vec<(&'static str, String)> {
        vec![
            ("BUPSTASH_REPOSITORY", at.own("repo")),
            ("BUPSTASH_KEY", at.own("bench.key")),
            ("BUPSTASH_SEND_LOG", at.own("send.log")),
            ("BUPSTASH_QUERY_CACHE", at.own("query-cache")),
        ]
    }

    fn init(&self, at: &Place) -> Result<Vec<Line>> {
        Ok(vec![at.line(&["init"]), at.line(&["new-key", "-o", &at.own("bench.key")])])
    }

    fn steps(&self, row: Row, at: &Place) -> Vec<Line> {
        let target = at.target().display().to_string();
        let tag = format!("row={}", row.name());
        let newest = format!("row={}", Row::Day.name());
        let restore = ["restore", "-q", "--ownership", "--into", &target];
        match row {
            Row::First | Row::NoChange | Row::Day => {
                vec![at.line(&["put", "-q", "--compression", "zstd:3", &tag, "::", &at.spool()])]
            }
            Row::Restore => vec![at.line(&[&restore[..], &[&newest]].concat())],
            Row::Folder => vec![at.line(&[&restore[..], &["--pick", &at.folder(), &newest]].concat())],
            Row::FirstLs | Row::Mount => Vec::new(),
            Row::Verify => vec![at.line(&["get", "-q", &newest])],
            Row::Prune => {
                let (first, second) =
                    (format!("row={}", Row::First.name()), format!("row={}", Row::NoChange.name()));
                let older = at.line(&["rm", "-q", "--allow-many", &first, "or", &second]);
                vec![older, at.line(&["gc", "-q"])]
            }
        }
    }

    fn install(&self) -> &'static str {
        "cargo install bupstash --locked; needs libsodium-dev"
    }
}
