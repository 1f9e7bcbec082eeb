//! Hazard: a new version that cannot read what an old one wrote. The repositories in `golden/` are opened with their
//! recovery key, verified, restored, and a copy of them takes the next backup.
#![allow(clippy::unwrap_used)]

#[path = "../../firmware/repository/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{backup, source};
use mailkeep_repository::format::ChunkRef;
use mailkeep_repository::{
    Collected, KeySource, LocalStorage, LogMonitor, ReadData, Reader, Repository, RepositoryError, Storage,
    VerifyOptions, verify,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn opened(folder: &Path) -> Repository {
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(folder).unwrap());
    Repository::open(storage, &KeySource::File(golden("v1-recovery-key")), &LogMonitor).unwrap()
}

fn files(folder: &Path, below: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}/{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => files(&path, &name, found),
            false => drop(found.insert(name, std::fs::read(&path).unwrap())),
        }
    }
}

/// All regular files of a snapshot, by path.
fn stored(reader: &Reader, content: &[ChunkRef], below: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for node in reader.tree(content).unwrap() {
        let name = format!("{below}/{}", String::from_utf8_lossy(&node.name));
        if node.is_directory() {
            stored(reader, node.content(), &name, found);
        } else if node.is_file() {
            let mut bytes = Vec::new();
            reader
                .read_file::<RepositoryError>(node.content(), |piece| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
            found.insert(name, bytes);
        }
    }
}

#[test]
fn version_1_opens_verifies_and_restores() {
    let repository = opened(&golden("v1-repository"));
    let monitor = Collected::default();
    let entries = repository.snapshots(&monitor).unwrap();
    assert_eq!(monitor.problems(), []);
    let generations: Vec<u64> = entries.iter().map(|entry| entry.manifest.generation).collect();
    assert_eq!(generations, [2, 3], "the first one was pruned, and nobody calls it lost");
    let reader = repository.reader(&LogMonitor).unwrap();
    for entry in &entries {
        let (mut found, mut expected) = (BTreeMap::new(), BTreeMap::new());
        stored(&reader, &entry.manifest.root, "", &mut found);
        let found: BTreeMap<String, Vec<u8>> = found
            .into_iter()
            .filter_map(|(path, bytes)| Some((path.split_once("/srv/mail")?.1.to_owned(), bytes)))
            .collect();
        let generation = entry.manifest.generation;
        files(&golden("v1-contents").join(generation.to_string()), "", &mut expected);
        assert!(expected.len() >= 5);
        assert!(found == expected, "generation {generation}: {:?} {:?}", found.keys(), expected.keys());
    }
    let report = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert!(!report.damaged(), "{:?}", report.problems);
    assert!(report.chunks > 20 && report.snapshots == 2, "{report:?}");
}

#[test]
fn version_1_can_be_added_to() {
    let copy = tempfile::tempdir().unwrap();
    let mut all = BTreeMap::new();
    files(&golden("v1-repository"), "", &mut all);
    for (path, bytes) in &all {
        let to = copy.path().join(&path[1..]);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
    let repository = opened(copy.path());
    let sealed = backup(&repository, &source(0)).unwrap();
    assert_eq!(sealed.manifest.generation, 4);
    let report = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert!(!report.damaged(), "{:?}", report.problems);
    assert_eq!(report.snapshots, 3);
    // What was written stays as it was, but for what is a cache.
    for (path, bytes) in all.iter().filter(|(path, _)| !path.starts_with("/index/")) {
        assert_eq!(std::fs::read(copy.path().join(&path[1..])).ok().as_ref(), Some(bytes), "{path}");
    }
}
