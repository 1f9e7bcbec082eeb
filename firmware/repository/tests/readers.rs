//! Readers beside those who move things: a pack that prune repacked, or that was lost, under an open reader.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::faulty::Faulty;
use common::*;
use mailkeep_repository::format::{ChunkKind, ChunkRef};
use mailkeep_repository::retention::{Clock, Keep};
use mailkeep_repository::{
    KeySource, LogMonitor, MemoryStorage, PruneOptions, PruneReport, Reader, Repository, RepositoryError,
    Scratch, SnapshotEntry, Storage,
};

/// 2026-11-23, and a day.
const NOW: i64 = 1_795_392_000;
const DAY: i64 = 86_400;

fn disk() -> (MemoryStorage, Repository) {
    let disk = MemoryStorage::new();
    let repository = init_plain(&(Arc::new(disk.clone()) as Arc<dyn Storage>)).unwrap();
    (disk, repository)
}

/// Something that all days have, and much that each has alone.
fn mixed(day: u64) -> Source {
    let mut source = Source::new();
    for file in 0..6 {
        let folder = source.entry("always".into()).or_default();
        folder.insert(format!("{file}."), noise(file, 5000));
        let folder = source.entry("daily".into()).or_default();
        folder.insert(format!("{file}."), noise(1000 + day * 100 + file, 9000));
    }
    source
}

fn prune(repository: &Repository, count: u32, day: i64) -> PruneReport {
    let options = PruneOptions {
        clock: Clock { now: NOW + day * DAY, offset: 0 },
        grace: Duration::ZERO,
        ..PruneOptions::new(Keep { last: count, ..Keep::default() })
    };
    repository.prune(&options, &LogMonitor).unwrap()
}

/// Everything in a snapshot, in the way of a restore: gathered by blocks, and one by one what is not there.
fn gathered(reader: &Reader, entry: &SnapshotEntry) -> Result<Source, RepositoryError> {
    let (mut chunks, mut homes): (Vec<ChunkRef>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    for folder in reader.tree(&entry.manifest.root)? {
        for file in reader.tree(folder.content())? {
            let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
            chunks.extend_from_slice(file.content());
            homes.resize(chunks.len(), (name(&folder.name), name(&file.name)));
        }
    }
    let mut pieces: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut scratch = Scratch::default();
    for group in reader.gather(&chunks) {
        reader.read_gathered(ChunkKind::Data, &group, &chunks, &mut scratch, &mut |found| {
            for (index, bytes) in found {
                pieces.extend(bytes.map(|bytes| (*index as usize, bytes.to_vec())));
            }
        });
    }
    let mut source = Source::new();
    for (index, (folder, file)) in homes.iter().enumerate() {
        let bytes = match pieces.remove(&index) {
            Some(bytes) => bytes,
            None => reader.chunk(ChunkKind::Data, &chunks[index])?.to_vec(),
        };
        source.entry(folder.clone()).or_default().entry(file.clone()).or_default().extend(bytes);
    }
    Ok(source)
}

#[test]
fn a_reader_finds_what_a_prune_beside_it_has_repacked() {
    let (_disk, repository) = disk();
    for day in 0..3 {
        backup(&repository, &mixed(day)).unwrap();
    }
    let entries = repository.snapshots(&LogMonitor).unwrap();
    let (gone, kept) = (&entries[0], &entries[2]);
    // One has read nothing yet, one has read some directories, one has read it all from packs that it still holds open.
    let readers: Vec<Reader> = (0..3).map(|_| repository.reader(&LogMonitor).unwrap()).collect();
    readers[1].tree(&kept.manifest.root).unwrap();
    assert!(restore_with(&readers[2], kept).unwrap() == mixed(2));

    let report = prune(&repository, 1, 0);
    assert!(report.repacked_packs >= 1, "{report:?}");
    backup(&repository, &mixed(3)).unwrap();
    let report = prune(&repository, 2, 2);
    assert!(report.deleted_packs >= 2, "{report:?}");

    for (number, reader) in readers.iter().enumerate() {
        assert!(gathered(reader, kept).unwrap() == mixed(2), "reader {number}, gathered");
        assert!(restore_with(reader, kept).unwrap() == mixed(2), "reader {number}");
    }
    // What was pruned away is told, not made up.
    let fresh = repository.reader(&LogMonitor).unwrap();
    assert!(restore_with(&fresh, gone).is_err());
    assert!(restore_with(&readers[0], gone).is_err());
}

#[test]
fn a_reader_lives_through_one_prune_after_the_other() {
    let (_disk, repository) = disk();
    for day in 0..2 {
        backup(&repository, &mixed(day)).unwrap();
    }
    let kept = repository.snapshots(&LogMonitor).unwrap().pop().unwrap();
    let reader = repository.reader(&LogMonitor).unwrap();
    for day in 2..6 {
        prune(&repository, day as u32, i64::try_from(day).unwrap() * 2);
        backup(&repository, &mixed(day)).unwrap();
        prune(&repository, day as u32, i64::try_from(day).unwrap() * 2 + 1);
        assert!(gathered(&reader, &kept).unwrap() == mixed(1), "day {day}");
    }
}

#[test]
fn of_a_pack_that_is_lost_the_index_is_loaded_again_once_and_then_it_is_told() {
    let (disk, repository) = disk();
    for day in 0..2 {
        backup(&repository, &mixed(day)).unwrap();
    }
    let kept = repository.snapshots(&LogMonitor).unwrap().pop().unwrap();
    let packs: Vec<String> = disk.files().into_keys().filter(|path| path.starts_with("packs/")).collect();
    let counting = Faulty::sound(&disk);
    let storage = Arc::new(counting.clone()) as Arc<dyn Storage>;
    let reader = Repository::open(storage, &KeySource::Plain, &LogMonitor).unwrap();
    let reader = reader.reader(&LogMonitor).unwrap();
    for pack in &packs {
        disk.remove(pack).unwrap();
    }
    let read = || {
        let before = counting.calls();
        assert!(restore_with(&reader, &kept).is_err());
        counting.calls() - before
    };
    let first = read();
    assert!(first >= 5, "the index was not looked at again: {first} calls");
    let later: u64 = (0..20).map(|_| read()).sum();
    assert!(later <= 20, "{later} calls of 20 reads: the index is loaded each time");
}

#[test]
fn short_directories_between_long_ones_are_read_once() {
    let (disk, repository) = disk();
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    let mut short = Vec::new();
    // More than the blocks that a reader keeps.
    for number in 0..200 {
        writer.put(ChunkKind::Tree, &noise(number, 60_000)).unwrap();
        let inside = mailkeep_repository::format::NodeKind::Fifo;
        short.push(writer.put_tree(&[node(&format!("{number}"), inside)]).unwrap());
    }
    writer.flush().unwrap();
    drop(writer);
    let counting = Faulty::sound(&disk);
    let storage = Arc::new(counting.clone()) as Arc<dyn Storage>;
    let reader = Repository::open(storage, &KeySource::Plain, &LogMonitor).unwrap();
    let reader = reader.reader(&LogMonitor).unwrap();
    let read_all = || {
        let before = counting.calls();
        for (number, content) in short.iter().enumerate() {
            assert_eq!(reader.tree(content).unwrap()[0].name, number.to_string().into_bytes());
        }
        counting.calls() - before
    };
    assert!(read_all() > 10);
    assert_eq!(read_all(), 0, "they are decoded again");
}
