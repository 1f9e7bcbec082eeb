//! Chunks that were announced: at hand without the disk, proven like all others, and decoded once however many ask
//! (hazards 15 and 18).
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Barrier};

use common::faulty::Faulty;
use common::*;
use mailkeep_repository::format::{ChunkId, ChunkKind, ChunkRef};
use mailkeep_repository::{Collected, LogMonitor, MemoryStorage, Reader, Storage};

/// More than any of these repositories has.
const ROOM: usize = 64 << 20;

/// A disk with some days on it, and the chunks of all files of the newest.
fn disk() -> (MemoryStorage, Vec<ChunkRef>) {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = init(&storage).unwrap();
    for day in 0..3 {
        backup(&repository, &source(day)).unwrap();
    }
    let reader = repository.reader(&LogMonitor).unwrap();
    let mut trees = vec![snapshots(&repository).0.last().unwrap().manifest.root.clone()];
    let mut chunks = Vec::new();
    while let Some(tree) = trees.pop() {
        for node in reader.tree(&tree).unwrap() {
            match node.is_directory() {
                true => trees.push(node.content().to_vec()),
                false => chunks.extend_from_slice(node.content()),
            }
        }
    }
    (disk, chunks)
}

fn reader(storage: Arc<dyn Storage>) -> Reader {
    open(&storage, &Collected::default()).unwrap().reader_keeping(ROOM, &Collected::default()).unwrap()
}

fn at_hand(reader: &Reader, chunk: &ChunkRef) -> Option<Vec<u8>> {
    reader.at_hand(ChunkKind::Data, chunk).map(|bytes| bytes.to_vec())
}

/// All that can be had of these, in their order.
fn fetch(reader: &Reader, chunks: &[ChunkRef]) -> Vec<Option<Vec<u8>>> {
    let expected = reader.expect(chunks);
    let indexes: Vec<u32> = (0..chunks.len() as u32).collect();
    let mut found = vec![None; chunks.len()];
    reader.fetch(&expected, chunks, &indexes, &mut |index, bytes| {
        let before = found[index as usize].replace(bytes.to_vec());
        assert_eq!(before, None, "handed out twice");
    });
    found
}

#[test]
fn what_is_expected_and_warm_is_at_hand_without_the_disk() {
    let (disk, mut chunks) = disk();
    let storage = Faulty::sound(&disk);
    let reader = reader(Arc::new(storage.clone()));
    let unknown = ChunkRef { id: ChunkId([7; ChunkId::LEN]), length: 5 };
    chunks.push(unknown);
    assert_eq!(at_hand(&reader, &chunks[0]), None, "nothing was expected");
    reader.expect(&chunks);
    assert_eq!(at_hand(&reader, &chunks[0]), None, "nothing is decoded");
    let fetched = fetch(&reader, &chunks);
    let calls = storage.calls();
    let found: Vec<_> = chunks.iter().map(|chunk| at_hand(&reader, chunk)).collect();
    let longer = ChunkRef { length: chunks[0].length + 1, ..chunks[0] };
    assert_eq!(at_hand(&reader, &longer), None, "it is not what is asked for");
    assert_eq!(storage.calls(), calls, "the disk was asked");
    assert_eq!(fetched, found);
    for (chunk, found) in chunks.iter().zip(found) {
        let alone = reader.chunk(ChunkKind::Data, chunk).ok().map(|bytes| bytes.to_vec());
        assert_eq!(found, alone);
        assert_eq!(found.is_none(), chunk.id == unknown.id);
    }
}

#[test]
fn a_block_is_decoded_once_however_many_ask_for_it() {
    let (disk, chunks) = disk();
    let calls = |threads: usize| {
        let storage = Faulty::sound(&disk);
        let reader = reader(Arc::new(storage.clone()));
        reader.expect(&chunks[..1]);
        let (before, barrier) = (storage.calls(), Barrier::new(threads));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    barrier.wait();
                    reader.chunk(ChunkKind::Data, &chunks[0]).unwrap();
                });
            }
        });
        storage.calls() - before
    };
    assert_eq!(calls(16), calls(1));
}

#[test]
fn damage_is_never_at_hand_and_told_by_whoever_asks() {
    let (disk, chunks) = disk();
    let sound = reader(Arc::new(disk.clone()));
    let truth: Vec<_> =
        chunks.iter().map(|chunk| sound.chunk(ChunkKind::Data, chunk).unwrap().to_vec()).collect();
    let mut refused = 0;
    for (path, bytes) in disk.files().into_iter().filter(|(path, _)| path.starts_with("packs/")) {
        for step in 0..8 {
            let copy = disk.crash(1);
            copy.damage(&path, |damaged| damaged[step * bytes.len() / 8] ^= 0x20);
            let reader = reader(Arc::new(copy));
            reader.expect(&chunks);
            for (chunk, truth) in chunks.iter().zip(&truth) {
                let fetched = fetch(&reader, &[*chunk]).pop().flatten();
                let found = at_hand(&reader, chunk);
                assert!(fetched.is_none() || fetched.as_ref() == Some(truth), "{path}, step {step}");
                assert!(fetched.is_none() || found == fetched, "{path}, step {step}");
                assert!(found.is_none() || found.as_ref() == Some(truth), "{path}, step {step}");
                let alone = reader.chunk(ChunkKind::Data, chunk).ok();
                assert!(alone.as_ref().is_none_or(|bytes| bytes[..] == truth[..]), "{path}, step {step}");
                assert!(found.is_none() || alone.is_some(), "{path}, step {step}");
                refused += usize::from(alone.is_none());
            }
        }
    }
    assert!(refused > 10, "damage was met: {refused}");
}

#[test]
fn of_a_pack_that_much_is_wanted_of_everything_is_known() {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = init(&storage).unwrap();
    let mut source = Source::new();
    let files = source.entry("folder".into()).or_default();
    for file in 0..1500 {
        files.insert(format!("{file:04}."), noise(file, 300));
    }
    backup(&repository, &source).unwrap();
    let reader = reader(Arc::new(disk.clone()));
    let root = reader.tree(&snapshots(&repository).0[0].manifest.root).unwrap();
    let files = reader.tree(root[0].content()).unwrap();
    let chunks: Vec<ChunkRef> = files.iter().flat_map(|file| file.content().to_vec()).collect();
    let last = chunks.last().unwrap();
    reader.expect(&chunks[..100]);
    reader.chunk(ChunkKind::Data, last).unwrap();
    assert_eq!(at_hand(&reader, last), None, "little was wanted of this pack");
    reader.expect(&chunks[..1000]);
    assert_eq!(at_hand(&reader, last), Some(noise(1499, 300)));
}

#[test]
fn a_piece_of_a_block_of_which_little_is_wanted_is_kept_without_the_block() {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = init(&storage).unwrap();
    let mut source = Source::new();
    let files = source.entry("folder".into()).or_default();
    for file in 0..100 {
        files.insert(format!("{file:04}."), noise(file, 3000));
    }
    backup(&repository, &source).unwrap();
    let storage = Faulty::sound(&disk);
    let reader = reader(Arc::new(storage.clone()));
    let root = reader.tree(&snapshots(&repository).0[0].manifest.root).unwrap();
    let files = reader.tree(root[0].content()).unwrap();
    let chunks: Vec<ChunkRef> = files.iter().flat_map(|file| file.content().to_vec()).collect();
    let sound = self::reader(Arc::new(disk.clone()));
    let truth: Vec<_> =
        chunks.iter().map(|chunk| Some(sound.chunk(ChunkKind::Data, chunk).unwrap().to_vec())).collect();
    let wanted = &chunks[..2];
    assert!(fetch(&reader, wanted) == truth[..2]);
    reader.expect(&chunks);
    assert_eq!(at_hand(&reader, &chunks[2]), None, "the block was kept for two small pieces");
    let calls = storage.calls();
    assert!(fetch(&reader, wanted) == truth[..2]);
    assert_eq!(storage.calls(), calls, "the block was opened again");
    // Of which much is wanted is at hand too.
    assert!(fetch(&reader, &chunks[..50]) == truth[..50]);
    assert!(chunks[..50].iter().zip(&truth).all(|(chunk, truth)| at_hand(&reader, chunk) == *truth));
}
