//! How the first pass of a run looks at the source, and what is kept of that for the next run.
//!
//! A folder in which nothing changed since the parent snapshot is not listed ([`crate::known`]). That rests on rules: that
//! write-once names are written once, that a file system changes a folder's times with its names. So every
//! [`FULL_WALK_EVERY`]th run looks at everything and compares: a file that is another than the rules allow is told, and
//! from then on every run looks at everything, until one of them finds nothing of that kind.
//!
//! The record stands among the versions of the manifest, under [`NAME`]: `RULES RUNS`, or `RULES broken`. A snapshot
//! that lacks something has none, so that the next run looks again at what could not be read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mailkeep_format::{ChunkRef, Meta, NodeKind, Timestamp};
use mailkeep_mail::write_once::WriteOnce;

use crate::PullError;
use crate::known::{KnownFolders, Notes};
use crate::limits::{FULL_WALK_EVERY, SCANNED_AHEAD_MAX};
use crate::store::Store;

/// Under which name the record stands among a manifest's versions.
pub(crate) const NAME: &str = "walk";

/// How the first pass looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    /// At everything; there is nothing to compare with.
    Plain,
    /// Not at what is in folders that have not changed; for this many runs on end now.
    Cheap { runs: u32 },
    /// At everything, and compares with what the rules say.
    Full,
    /// At everything: a run was cut off, and what it kept is compared with. So many runs are taken to have been cheap.
    Resumed { runs: u32 },
}

impl Walk {
    /// The same for a run that goes on where another was cut off: no folder that was kept is known to be whole. The next run
    /// that is due to compare with what the rules say still is.
    pub(crate) fn resumed(self) -> Walk {
        let runs = match self {
            Walk::Plain => 0,
            Walk::Cheap { runs } | Walk::Resumed { runs } => runs,
            Walk::Full => FULL_WALK_EVERY - 1,
        };
        Walk::Resumed { runs }
    }
}

/// Decides, from the parent's record and the rules that the agent goes by now.
pub(crate) fn plan(parent: Option<&[(String, String)]>, rules: Option<&str>) -> Walk {
    let record = parent.and_then(|versions| versions.iter().find(|(name, _)| name == NAME));
    let Some(((_, record), rules)) = record.zip(rules) else { return Walk::Plain };
    match record.split_once(' ') {
        Some((before, "broken")) if before == rules => Walk::Full,
        Some((before, runs)) if before == rules => match runs.parse::<u32>() {
            Ok(runs) if runs < FULL_WALK_EVERY - 1 => Walk::Cheap { runs: runs + 1 },
            _ => Walk::Full,
        },
        _ => Walk::Plain,
    }
}

/// The record of a run that was done this way, and found this many files that contradict the rules.
pub(crate) fn record(walk: Walk, rules: Option<&str>, contradictions: u64) -> Option<(String, String)> {
    let rules = rules?;
    let state = match walk {
        _ if contradictions > 0 => "broken".to_owned(),
        Walk::Cheap { runs } | Walk::Resumed { runs } => runs.to_string(),
        Walk::Plain | Walk::Full => "0".to_owned(),
    };
    Some((NAME.to_owned(), format!("{rules} {state}")))
}

/// A directory of the tree that was not looked at yet.
struct Ahead {
    path: Vec<u8>,
    meta: Meta,
    content: Vec<ChunkRef>,
}

/// What a tree says of its folders; the pass that made it began at `clock`.
pub(crate) fn scan(
    store: &mut dyn Store,
    root: &[ChunkRef],
    clock: Timestamp,
    rule: &WriteOnce,
) -> Result<KnownFolders, PullError> {
    let mut known = KnownFolders::default();
    let mut ahead = vec![Ahead { path: Vec::new(), meta: Meta::default(), content: root.to_vec() }];
    while let Some(Ahead { path, meta, content }) = ahead.pop() {
        let mut notes = Notes::default();
        let mut path_of_entry = path.clone();
        let mut place = 0u32;
        for node in store.tree_nodes(&content)? {
            let node = node?;
            path_of_entry.truncate(path.len());
            path_of_entry.push(b'/');
            path_of_entry.extend_from_slice(&node.name);
            let as_path = Path::new(OsStr::from_bytes(&path_of_entry));
            if !(node.is_file() && rule.holds(as_path)) {
                notes.other(place);
            }
            notes.arrived(place, &node);
            place = place.saturating_add(1);
            if let NodeKind::Directory { content } = node.kind {
                // Beyond the bound they are listed as ever.
                if ahead.len() < SCANNED_AHEAD_MAX {
                    ahead.push(Ahead { path: path_of_entry.clone(), meta: node.meta, content });
                }
            }
        }
        if let Some(folder) = notes.folder(&meta, clock, place, content) {
            known.keep(path, folder);
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(value: &str) -> Vec<(String, String)> {
        vec![("kernel".into(), "6".into()), (NAME.into(), value.into())]
    }

    #[test]
    fn every_few_runs_everything_is_looked_at() {
        let mut record_then = versions("abc 0");
        let mut kinds = Vec::new();
        for _ in 0..2 * FULL_WALK_EVERY {
            let walk = plan(Some(&record_then), Some("abc"));
            kinds.push(walk);
            record_then = record(walk, Some("abc"), 0).into_iter().collect();
        }
        assert_eq!(kinds.iter().filter(|walk| **walk == Walk::Full).count(), 2, "{kinds:?}");
        assert_eq!(kinds[0], Walk::Cheap { runs: 1 });
    }

    #[test]
    fn a_run_that_goes_on_puts_no_full_walk_off() {
        for (state, next) in [
            ("abc 0", Walk::Cheap { runs: 2 }),
            ("abc broken", Walk::Full),
            ("abc 6", Walk::Full),
            ("abd 3", Walk::Cheap { runs: 1 }),
        ] {
            let walk = plan(Some(&versions(state)), Some("abc")).resumed();
            assert!(matches!(walk, Walk::Resumed { .. }));
            let record: Vec<_> = record(walk, Some("abc"), 0).into_iter().collect();
            assert_eq!(plan(Some(&record), Some("abc")), next, "{state}");
        }
    }

    #[test]
    fn without_a_record_of_the_same_rules_everything_is_listed() {
        for parent in [None, Some(versions("abd 0")), Some(vec![]), Some(versions("abc"))] {
            assert_eq!(plan(parent.as_deref(), Some("abc")), Walk::Plain);
        }
        assert_eq!(plan(Some(&versions("abc 0")), None), Walk::Plain);
        assert_eq!(record(Walk::Plain, None, 0), None);
    }

    #[test]
    fn rules_that_were_broken_are_not_trusted_until_a_full_walk_finds_nothing() {
        let broken: Vec<_> = record(Walk::Full, Some("abc"), 3).into_iter().collect();
        assert_eq!(plan(Some(&broken), Some("abc")), Walk::Full);
        let whole: Vec<_> = record(Walk::Full, Some("abc"), 0).into_iter().collect();
        assert_eq!(plan(Some(&whole), Some("abc")), Walk::Cheap { runs: 1 });
        for odd in ["abc 4294967295", "abc -1", "abc x"] {
            assert_eq!(plan(Some(&versions(odd)), Some("abc")), Walk::Full, "{odd}");
        }
    }
}
