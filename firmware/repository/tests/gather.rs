//! Chunks gathered by block: each index comes exactly once, in order, with the right bytes or none, whatever is damaged
//! (hazards 15 and 18).
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::*;
use mailkeep_repository::format::{ChunkId, ChunkKind, ChunkRef};
use mailkeep_repository::{Collected, LogMonitor, MemoryStorage, Reader, Scratch, Storage};

/// What a whole gathering hands out, by index.
fn gathered(reader: &Reader, chunks: &[ChunkRef]) -> BTreeMap<u32, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut scratch = Scratch::default();
    for group in reader.gather(chunks) {
        let wanted: Vec<u32> = group.indexes().collect();
        reader.read_gathered(ChunkKind::Data, &group, chunks, &mut scratch, &mut |pieces| {
            let indexes: Vec<u32> = pieces.iter().map(|(index, _)| *index).collect();
            assert_eq!(indexes, wanted);
            assert!(indexes.is_sorted());
            for (index, bytes) in pieces {
                assert_eq!(all.insert(*index, bytes.map(<[u8]>::to_vec)), None, "{index} came twice");
            }
        });
    }
    assert_eq!(all.len(), chunks.len());
    all
}

#[test]
fn every_chunk_comes_once_and_damage_gives_none_in_place_of_wrong_bytes() {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = init(&storage).unwrap();
    for day in 0..3 {
        backup(&repository, &source(day)).unwrap();
    }
    // All files of all snapshots: what did not change is asked for again and again.
    let reader = repository.reader(&LogMonitor).unwrap();
    let mut chunks = Vec::new();
    for entry in snapshots(&repository).0 {
        let mut trees = vec![entry.manifest.root.clone()];
        while let Some(tree) = trees.pop() {
            for node in reader.tree(&tree).unwrap() {
                if node.is_directory() {
                    trees.push(node.content().to_vec());
                } else {
                    chunks.extend_from_slice(node.content());
                }
            }
        }
    }
    let unknown = ChunkRef { id: ChunkId([7; ChunkId::LEN]), length: 5 };
    chunks.insert(chunks.len() / 2, unknown);
    let sound = gathered(&reader, &chunks);
    for (index, bytes) in &sound {
        let chunk = &chunks[*index as usize];
        let alone = reader.chunk(ChunkKind::Data, chunk).ok().map(|bytes| bytes.to_vec());
        assert_eq!(bytes, &alone);
        assert_eq!(bytes.is_none(), chunk.id == unknown.id);
    }
    assert!(reader.gather(&chunks).len() < chunks.len() / 2, "blocks hold more than one chunk");

    let mut refused = 0;
    for (path, bytes) in disk.files() {
        if !(path.starts_with("packs/") || path.starts_with("index/")) {
            continue;
        }
        for step in 0..12 {
            let copy = disk.crash(1);
            copy.damage(&path, |damaged| damaged[step * bytes.len() / 12] ^= 0x20);
            let storage: Arc<dyn Storage> = Arc::new(copy);
            let repository = open(&storage, &Collected::default()).unwrap();
            let reader = repository.reader(&Collected::default()).unwrap();
            for (index, bytes) in gathered(&reader, &chunks) {
                assert!(bytes.is_none() || bytes == sound[&index], "{path}, step {step}, chunk {index}");
                refused += usize::from(bytes.is_none());
            }
        }
    }
    assert!(refused > 50, "damage was met: {refused}");
}
