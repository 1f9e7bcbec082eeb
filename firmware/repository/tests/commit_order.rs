//! Hazards 2, 21: the device is flushed where COMMIT.md says so. What a flush is for cannot be seen in the bytes of a disk
//! in memory, so the order of the calls is looked at.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::harness::Recorder;
use common::*;
use mailkeep_repository::{LogMonitor, MemoryStorage, Storage};

/// The calls of an operation that change or flush the disk, or look past the page cache.
fn calls(start: &MemoryStorage, run: impl Fn(&Arc<dyn Storage>)) -> Vec<String> {
    let recorder = Recorder::new(start);
    run(&(Arc::new(recorder.clone()) as Arc<dyn Storage>));
    recorder.moments().into_iter().map(|(call, _)| call).collect()
}

fn first(calls: &[String], start: &str) -> usize {
    calls.iter().position(|call| call.starts_with(start)).unwrap_or_else(|| panic!("{start}: {calls:#?}"))
}

fn last(calls: &[String], start: &str) -> usize {
    calls.iter().rposition(|call| call.starts_with(start)).unwrap_or_else(|| panic!("{start}: {calls:#?}"))
}

fn flushed_between(calls: &[String], from: usize, to: usize) {
    assert!(from < to, "{from} {to}: {calls:#?}");
    let flushed = calls[from..to].iter().any(|call| call.starts_with("flush_device"));
    assert!(flushed, "no flush between {} and {}: {calls:#?}", calls[from], calls[to]);
}

#[test]
fn a_backup_flushes_before_it_reads_back_before_the_manifest_and_after_it() {
    let start = MemoryStorage::new();
    let repository = init_plain(&(Arc::new(start.clone()) as Arc<dyn Storage>)).unwrap();
    backup(&repository, &little(0)).unwrap();
    let calls = calls(&start, |storage| {
        backup(&open(storage, &LogMonitor).unwrap(), &little(1)).unwrap();
    });
    let (pack, read_back) = (last(&calls, "sync_dir packs/"), first(&calls, "drop_cache packs/"));
    flushed_between(&calls, pack, read_back);
    let (run, manifest) = (last(&calls, "sync_dir index"), first(&calls, "rename manifests"));
    flushed_between(&calls, run, manifest);
    flushed_between(&calls, last(&calls, "sync_dir manifests"), last(&calls, "remove lease"));
}

#[test]
fn init_flushes_before_the_label_and_after_it() {
    let calls = calls(&MemoryStorage::new(), |storage| {
        init_plain(storage).unwrap();
    });
    flushed_between(&calls, last(&calls, "sync_dir keys"), first(&calls, "rename label"));
    assert!(last(&calls, "flush_device") > last(&calls, "rename label"), "{calls:#?}");
    assert!(last(&calls, "flush_device") > last(&calls, "sync_dir"), "{calls:#?}");
}
