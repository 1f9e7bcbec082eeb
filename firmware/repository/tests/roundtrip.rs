//! What is put comes back; what is there is not stored again.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::*;
use mailkeep_repository::format::{ChunkKind, ContentHash, NodeKind};
use mailkeep_repository::{
    Encryption, InitOptions, KeySource, LocalStorage, LogMonitor, MemoryStorage, ReadData, Repository,
    RepositoryError, SnapshotSpec, Storage, VerifyOptions, WriterOptions, limits, verify,
};

fn days_in_a_row(storage: Arc<dyn Storage>) {
    let repository = init(&storage).unwrap();
    for day in 0..4 {
        let sealed = backup(&repository, &source(day)).unwrap();
        assert_eq!(sealed.manifest.generation, day + 1);
        let reopened = open(&storage, &LogMonitor).unwrap();
        let (entries, monitor) = snapshots(&reopened);
        assert_eq!(monitor.problems(), []);
        assert_eq!(entries.len() as u64, day + 1);
        assert_eq!(entries.last().map(|entry| entry.id), Some(sealed.id));
        for (earlier, entry) in (0..).zip(&entries) {
            assert!(restore(&reopened, entry).unwrap() == source(earlier));
        }
        for pair in entries.windows(2) {
            assert_eq!(pair[1].manifest.previous, Some(pair[0].id));
        }
    }
}

#[test]
fn days_in_a_row_come_back_from_memory() {
    days_in_a_row(Arc::new(MemoryStorage::new()));
}

#[test]
fn days_in_a_row_come_back_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    days_in_a_row(Arc::new(LocalStorage::prepare(&folder.path().join("disk")).unwrap()));
}

/// Attachments of all lengths between small ones: those that are long enough have a block each, base64 among them is folded,
/// and the snapshot says that one must know of it.
#[test]
fn attachments_come_back_from_blocks_of_their_own() {
    let lines = |seed: u64, count: usize| -> Vec<u8> {
        let digits = noise(seed, count * 76);
        digits.chunks(76).flat_map(|line| line.iter().map(|byte| b'A' + byte % 26).chain(*b"\r\n")).collect()
    };
    let mut pieces: Vec<Vec<u8>> = vec![b"words and more words ".repeat(5_000)];
    for seed in 0..20 {
        pieces.push(noise(1_000 + seed, 500 + 4_000 * seed as usize));
        pieces.push(lines(seed, 40 + 300 * seed as usize));
    }
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = init_plain(&storage).unwrap();
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    let content: Vec<_> = pieces.iter().map(|piece| writer.put(ChunkKind::Data, piece).unwrap()).collect();
    let bytes = pieces.concat();
    let kind = NodeKind::File { size: bytes.len() as u64, sparse: false, content: content.clone() };
    let mut draft = draft("mail1");
    draft.root = writer.put_tree(&[node("1.", kind)]).unwrap();
    let sealed = writer.seal(draft, &LogMonitor).unwrap();
    assert_eq!(sealed.manifest.required_features, ["base64"]);
    let mut read = Vec::new();
    let reader = repository.reader(&LogMonitor).unwrap();
    reader
        .read_file::<RepositoryError>(&content, |piece| {
            read.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
    assert!(read == bytes);
    assert!(sealed.manifest.stats.added_bytes < bytes.len() as u64 * 4 / 5);
    let report = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert_eq!(report.problems, []);
}

#[test]
fn the_same_again_adds_nothing_and_seals_a_new_generation() {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = init(&storage).unwrap();
    let first = backup(&repository, &source(0)).unwrap();
    let packs = |disk: &MemoryStorage| disk.files().keys().filter(|path| path.starts_with("packs/")).count();
    let before = packs(&disk);
    let second = backup(&repository, &source(0)).unwrap();
    assert_eq!(packs(&disk), before);
    assert_eq!((second.manifest.generation, second.manifest.stats.added_bytes), (2, 0));
    assert_eq!(second.manifest.root, first.manifest.root);
    assert_eq!(second.manifest.new_packs, []);
}

#[test]
fn a_chunk_that_was_asked_for_more_than_once_is_stored_once() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = init(&storage).unwrap();
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    let bytes = noise(3, 900);
    let hash = ContentHash::of(&bytes);
    // Two files with the same mail are on their way.
    for _ in 0..2 {
        assert_eq!(writer.chunk_for(ChunkKind::Data, &hash, 900).unwrap(), None);
    }
    let chunk = writer.put(ChunkKind::Data, &bytes).unwrap();
    assert_eq!(writer.put(ChunkKind::Data, &bytes).unwrap(), chunk);
    writer.flush().unwrap();
    let added = writer.added_bytes();
    assert_eq!(writer.put(ChunkKind::Data, &bytes).unwrap(), chunk);
    writer.flush().unwrap();
    assert_eq!(writer.added_bytes(), added, "it was stored once more");
    assert_eq!(&*writer.reader().chunk(ChunkKind::Data, &chunk).unwrap(), bytes.as_slice());
}

#[test]
fn a_chunk_is_known_as_soon_as_it_was_put_and_readable_after_a_flush() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = init(&storage).unwrap();
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    let reader = writer.reader();
    let (small, large) = (noise(1, 100), noise(2, 900_000));
    for bytes in [&small, &large] {
        let hash = ContentHash::of(bytes);
        let length = bytes.len() as u32;
        assert_eq!(writer.chunk_for(ChunkKind::Data, &hash, length).unwrap(), None);
        let chunk = writer.put(ChunkKind::Data, bytes).unwrap();
        assert_eq!(writer.chunk_for(ChunkKind::Data, &hash, length).unwrap(), Some(chunk));
        assert_eq!(
            writer.chunk_for(ChunkKind::Data, &hash, length - 1).unwrap(),
            None,
            "a claimed length is no fact"
        );
        assert_eq!(writer.chunk_for(ChunkKind::Tree, &hash, length).unwrap(), None, "a tree is no mail");
        assert!(reader.chunk(ChunkKind::Data, &chunk).is_err());
        writer.flush().unwrap();
        assert_eq!(
            writer.chunk_for(ChunkKind::Data, &hash, length).unwrap(),
            Some(chunk),
            "from the index too"
        );
        assert_eq!(writer.chunk_for(ChunkKind::Data, &hash, length + 1).unwrap(), None);
        assert_eq!(&*reader.chunk(ChunkKind::Data, &chunk).unwrap(), bytes.as_slice());
        assert!(reader.chunk(ChunkKind::Tree, &chunk).is_err());
        let longer = mailkeep_repository::format::ChunkRef { length: chunk.length + 1, ..chunk };
        assert!(reader.chunk(ChunkKind::Data, &longer).is_err());
    }
    assert!(writer.put(ChunkKind::Data, b"").is_err());
    assert!(writer.put(ChunkKind::Data, &vec![0; (1 << 20) + 1]).is_err());
}

#[test]
fn a_range_of_a_file_is_what_the_whole_file_has_there() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = init(&storage).unwrap();
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    let bytes = noise(9, 5000);
    let content: Vec<_> =
        bytes.chunks(999).map(|piece| writer.put(ChunkKind::Data, piece).unwrap()).collect();
    writer.flush().unwrap();
    let reader = writer.reader();
    for (offset, length) in
        [(0, 5000), (0, 1), (998, 3), (999, 999), (1500, 3400), (4999, 10), (5000, 5), (9000, 1)]
    {
        let mut buffer = vec![0; length];
        let count = reader.read_at(&content, offset as u64, &mut buffer).unwrap();
        let expected = bytes.get(offset..(offset + length).min(bytes.len())).unwrap_or(&[]);
        assert_eq!(&buffer[..count], expected, "{offset} {length}");
    }
}

#[test]
fn keys_open_what_they_are_for_and_errors_tell_which_is_missing() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let absent = open(&storage, &LogMonitor).unwrap_err();
    assert_eq!(absent.exit_code(), 75, "{absent}");
    let encryption = Encryption::Wrapped { box_key: box_key() };
    let done = Repository::init(storage.clone(), &InitOptions { label: "x".into(), encryption }).unwrap();
    let recovery = KeySource::Identity(done.recovery.unwrap());
    assert_eq!(Repository::open(storage.clone(), &recovery, &LogMonitor).unwrap().id(), done.repository.id());
    for source in [
        KeySource::Plain,
        KeySource::Identity(mailkeep_repository::format::Identity::generate()),
        KeySource::File("/nonexistent/box.key".into()),
    ] {
        let error = Repository::open(storage.clone(), &source, &LogMonitor).unwrap_err();
        assert_eq!(error.exit_code(), 77, "{error}");
    }
    let error = init(&storage).unwrap_err();
    assert!(matches!(error, mailkeep_repository::RepositoryError::NotEmpty { .. }), "{error}");
}

#[test]
fn without_encryption_no_key_is_needed() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let options = InitOptions { label: "open".into(), encryption: Encryption::Plain };
    let done = Repository::init(storage.clone(), &options).unwrap();
    assert!(done.recovery.is_none() && !done.repository.encrypted());
    backup(&done.repository, &source(0)).unwrap();
    for key in [KeySource::Plain, KeySource::Identity(box_key())] {
        let repository = Repository::open(storage.clone(), &key, &LogMonitor).unwrap();
        assert_eq!(repository.label().label, "open");
        assert!(restore(&repository, &snapshots(&repository).0[0]).unwrap() == source(0));
    }
}

#[test]
fn snapshots_are_found_by_prefix_by_latest_and_by_source() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let repository = init(&storage).unwrap();
    let sealed: Vec<_> = (0..3).map(|day| backup(&repository, &source(day)).unwrap()).collect();
    let find = |text: &str, source| repository.find(&text.parse().unwrap(), source, &LogMonitor);
    assert_eq!(find("latest", None).unwrap().id, sealed[2].id);
    assert_eq!(find(&sealed[1].id.hex()[..20], Some("mail1")).unwrap().id, sealed[1].id);
    assert!(find("latest", Some("mail2")).is_err());
    assert!(find(&"0".repeat(64), None).is_err());
    assert!("snapshot!".parse::<SnapshotSpec>().is_err() && "".parse::<SnapshotSpec>().is_err());
    assert_eq!(repository.latest_for("mail1", &LogMonitor).unwrap().unwrap().id, sealed[2].id);
    assert_eq!(repository.latest_for("mail9", &LogMonitor).unwrap(), None);
}

#[test]
fn a_folder_that_is_not_empty_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("letter.txt"), "mine").unwrap();
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::prepare(folder.path()).unwrap());
    let error = init(&storage).unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn many_runs_are_merged_and_nothing_in_them_gets_lost() {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let repository = init(&storage).unwrap();
    let runs = || disk.files().keys().filter(|path| path.starts_with("index/")).count();
    // A map of so few chunks is written out several times in every backup.
    let options = WriterOptions { session_chunks: 15, ..options() };
    for day in 0..12 {
        let mut writer = repository.writer(&options, &LogMonitor).unwrap();
        assert!(runs() <= limits::RUNS_MAX, "{} runs on day {day}", runs());
        let draft = put_source(&mut writer, &source(day)).unwrap();
        writer.seal(draft, &LogMonitor).unwrap();
    }
    assert!(runs() > 1);
    let (entries, monitor) = snapshots(&repository);
    assert_eq!((entries.len(), monitor.problems()), (12, Vec::new()));
    for entry in &entries {
        assert!(restore(&repository, entry).unwrap() == source(entry.manifest.generation - 1));
    }
    let report = verify(&repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert_eq!(report.problems, []);
    let mut writer = repository.writer(&options, &LogMonitor).unwrap();
    for bytes in source(11).values().flat_map(|files| files.values()) {
        for piece in bytes.chunks(700) {
            assert!(
                writer
                    .chunk_for(ChunkKind::Data, &ContentHash::of(piece), piece.len() as u32)
                    .unwrap()
                    .is_some()
            );
        }
    }
    for absent in 0..500 {
        let hash = ContentHash::of(&noise(absent + 1_000_000, 40));
        assert_eq!(writer.chunk_for(ChunkKind::Data, &hash, 40).unwrap(), None);
    }
}

/// While the packs of one turn become durable the next one goes on: what lies in them is known, though no index has it yet.
#[test]
fn what_is_on_its_way_to_the_medium_is_not_stored_again() {
    let disk = MemoryStorage::new();
    let slow = faulty::Faulty::sound(&disk);
    let storage: Arc<dyn Storage> = Arc::new(slow.clone());
    let repository = init(&storage).unwrap();
    let options = WriterOptions { session_chunks: 3, ..options() };
    let mut writer = repository.writer(&options, &LogMonitor).unwrap();
    let pieces: Vec<_> = (0..5).map(|number| noise(number, 500)).collect();
    let held = slow.flushes().lock().unwrap();
    // The fourth begins a new turn.
    for piece in &pieces {
        writer.put(ChunkKind::Data, piece).unwrap();
    }
    let runs = || disk.files().keys().filter(|path| path.starts_with("index/")).count();
    assert_eq!(runs(), 0, "no pack has been read back");
    for piece in &pieces {
        let known = writer.chunk_for(ChunkKind::Data, &ContentHash::of(piece), 500).unwrap();
        assert_eq!(known, Some(writer.put(ChunkKind::Data, piece).unwrap()));
    }
    drop(held);
    writer.flush().unwrap();
    assert_eq!(runs(), 2, "one for each turn");
    assert_eq!(disk.files().keys().filter(|path| path.starts_with("packs/")).count(), 2);
    let reader = writer.reader();
    for piece in &pieces {
        let known = writer.chunk_for(ChunkKind::Data, &ContentHash::of(piece), 500).unwrap().unwrap();
        assert_eq!(&*reader.chunk(ChunkKind::Data, &known).unwrap(), &piece[..]);
    }
}
