//! Power cuts at every moment of reindex and repair (hazards 2, 15, 19): what was sealed is there, and the work goes on.
//! `MAILKEEP_CRASH_STATES` sets how many states each moment has at most; with `MAILKEEP_FAULTS` each call of repair fails
//! in each way, too.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::harness::Operation;
use common::*;
use mailkeep_repository::{
    KeySource, LogMonitor, Machine, MemoryStorage, RepairOptions, RepositoryError, Storage,
};

/// States at each moment; more in the long run.
fn states() -> usize {
    std::env::var("MAILKEEP_CRASH_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

/// Snapshots in as many runs; a copy of the manifests and the second label are lost.
fn start(count: u64, index: bool) -> MemoryStorage {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = init_plain(&storage).unwrap();
    for day in 0..count {
        backup(&repository, &little(day)).unwrap();
    }
    for path in disk.files().into_keys() {
        let lost =
            path == "label.2" || path.starts_with("manifests/") || (!index && path.starts_with("index/"));
        if lost {
            disk.remove(&path).unwrap();
        }
    }
    disk
}

type Work = fn(&Arc<dyn Storage>) -> Result<(), RepositoryError>;

fn reindex(storage: &Arc<dyn Storage>) -> Result<(), RepositoryError> {
    open(storage, &LogMonitor)?.reindex(&Machine::this(), &LogMonitor).map(drop)
}

fn repair(storage: &Arc<dyn Storage>) -> Result<(), RepositoryError> {
    let options = RepairOptions { key: KeySource::Plain, writer: options(), dry_run: false };
    open(storage, &LogMonitor)?.repair(&options, &mut |_| {}, &LogMonitor).map(drop)
}

#[test]
fn every_moment_of_reindex_and_repair() {
    let all: [(&str, Work, bool); 4] = [
        ("reindex", reindex, true),
        ("reindex without an index", reindex, false),
        ("repair of copies", repair, true),
        ("repair of copies and index", repair, false),
    ];
    for (name, work, index) in all {
        let sealed: Vec<u64> = (1..=3).collect();
        let operation = Operation {
            name,
            start: start(3, index),
            run: &work,
            always: sealed.clone(),
            after: sealed,
            contents: &|generation| little(generation - 1),
        };
        let tally = operation.every_crash(states());
        assert!(tally.moments > 5 && tally.kinds > 2, "{name}: {tally:?}");
        // Repair makes ten times as many calls; `repair.rs` lets each of them fail once.
        if name.starts_with("reindex") || std::env::var_os("MAILKEEP_FAULTS").is_some() {
            assert!(operation.every_fault() > 50, "{name}");
        }
    }
}
