//! Hazards 2, 21: the device is flushed where COMMIT.md says so. What a flush is for cannot be seen in the bytes of a disk
//! in memory, so the order of the calls is looked at.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::harness::Recorder;
use common::*;
use mailkeep_repository::format::ChunkKind;
use mailkeep_repository::{LogMonitor, MemoryStorage, Storage};

/// The calls of an operation that change or flush the disk, or look past the page cache.
fn calls(start: &MemoryStorage, run: impl Fn(&Arc<dyn Storage>)) -> Vec<String> {
    let recorder = Recorder::of_calls(start);
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

/// Several packs: one may be filled while the one before becomes durable and is read back, but each is durable before it
/// has its name, each is named durably and the device flushed before it is read back, and all have been read back before
/// a run names any of them.
#[test]
fn every_pack_is_durable_named_and_flushed_before_it_is_read_back() {
    let start = MemoryStorage::new();
    init_plain(&(Arc::new(start.clone()) as Arc<dyn Storage>)).unwrap();
    let calls = calls(&start, |storage| {
        let repository = open(storage, &LogMonitor).unwrap();
        let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
        for seed in 0..80 {
            writer.put(ChunkKind::Data, &noise(seed, 1 << 20)).unwrap();
        }
        writer.flush().unwrap();
    });
    let named: Vec<usize> = (0..calls.len()).filter(|&at| calls[at].starts_with("rename packs/")).collect();
    assert_eq!(named.len(), 3, "{calls:#?}");
    for (number, &at) in named.iter().enumerate() {
        let since = number.checked_sub(1).map_or(0, |before| named[before]);
        let synced = calls[since..at].iter().filter(|call| call.starts_with("sync tmp/")).count();
        assert!(synced >= 1, "a pack has its name before it is durable: {calls:#?}");
        let pack = calls[at].trim_start_matches("rename ");
        let read_back = first(&calls, &format!("drop_cache {pack}"));
        let folder = format!("sync_dir {}", pack.rsplit_once('/').unwrap().0);
        let name_durable = at + first(&calls[at..], &folder);
        flushed_between(&calls, name_durable, read_back);
        assert!(read_back < first(&calls, "rename index"), "{calls:#?}");
    }
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
