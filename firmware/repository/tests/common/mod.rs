//! A small source, its backup, and the proof that a snapshot gives it back.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod faulty;
pub(crate) mod harness;
pub(crate) mod loops;

use std::collections::BTreeMap;
use std::sync::Arc;

use mailkeep_repository::format::manifest::{SourceInfo, Stats};
use mailkeep_repository::format::{ChunkKind, Identity, Meta, Node, NodeKind};
use mailkeep_repository::{
    Collected, Draft, Encryption, InitOptions, KeySource, LogMonitor, Machine, Monitor, Reader, Repository,
    RepositoryError, Sealed, SnapshotEntry, Storage, Writer, WriterOptions,
};

/// Directory name → file name → contents.
pub(crate) type Source = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// Bytes that look random but are the same every time.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

/// A few folders with a few files each; `day` changes some and adds some.
pub(crate) fn source(day: u64) -> Source {
    let mut source = Source::new();
    for folder in 0..3 {
        let files = source.entry(format!("user{folder}")).or_default();
        for file in 0..4 + day {
            let mut bytes = format!("From: user{folder}\r\nSubject: {file}\r\n\r\n").into_bytes();
            bytes.extend_from_slice(
                "a line of mail that compresses well\r\n".repeat(20 + file as usize).as_bytes(),
            );
            bytes.extend_from_slice(&noise(folder * 1000 + file, 300 + 100 * file as usize));
            files.insert(format!("{file}."), bytes);
        }
        files.insert("cyrus.index".into(), noise(folder * 77 + day * 7919, 1500));
    }
    source.entry("empty".into()).or_default();
    source
}

/// As [`source`], so small that few sectors are under way at any moment and all of their states can be gone through.
pub(crate) fn little(day: u64) -> Source {
    let mut source = Source::new();
    for folder in 0..2 {
        let files = source.entry(format!("user{folder}")).or_default();
        for file in 0..2 + day % 3 {
            files.insert(format!("{file}."), noise(folder * 1000 + file, 40 + 60 * file as usize));
        }
        files.insert("cyrus.index".into(), noise(folder * 77 + day * 7919, 300));
    }
    source
}

pub(crate) fn node(name: &str, kind: NodeKind) -> Node {
    let meta = Meta { mode: 0o640, uid: 8, gid: 8, links: 1, ..Meta::default() };
    Node { name: name.as_bytes().to_vec(), meta, kind }
}

pub(crate) fn box_key() -> Identity {
    // One key for all tests of a process: making one takes longer than a small backup.
    static KEY: std::sync::OnceLock<Identity> = std::sync::OnceLock::new();
    KEY.get_or_init(Identity::generate).clone()
}

pub(crate) fn init(storage: &Arc<dyn Storage>) -> Result<Repository, RepositoryError> {
    let encryption = Encryption::Wrapped { box_key: box_key() };
    Ok(Repository::init(storage.clone(), &InitOptions { label: "Monday".into(), encryption })?.repository)
}

/// A repository whose key is no secret: everything else is the same, and it opens in a tenth of the time.
pub(crate) fn init_plain(storage: &Arc<dyn Storage>) -> Result<Repository, RepositoryError> {
    let options = InitOptions { label: "Monday".into(), encryption: Encryption::Plain };
    Ok(Repository::init(storage.clone(), &options)?.repository)
}

pub(crate) fn open(storage: &Arc<dyn Storage>, monitor: &dyn Monitor) -> Result<Repository, RepositoryError> {
    Repository::open(storage.clone(), &KeySource::Identity(box_key()), monitor)
}

pub(crate) fn options() -> WriterOptions {
    WriterOptions { workers: 1, machine: Machine::this(), ..WriterOptions::default() }
}

pub(crate) fn draft(name: &str) -> Draft {
    Draft {
        program: "test".into(),
        source: SourceInfo { name: name.into(), system: "generic".into(), host: "here".into() },
        started: 0,
        consistent: true,
        remarks: Vec::new(),
        passes: Vec::new(),
        window: None,
        versions: Vec::new(),
        users: Vec::new(),
        groups: Vec::new(),
        root: Vec::new(),
        stats: Stats::default(),
        mail_check: None,
    }
}

pub(crate) fn put_source(writer: &mut Writer, source: &Source) -> Result<Draft, RepositoryError> {
    let mut draft = draft("mail1");
    let mut root = Vec::new();
    for (folder, files) in source {
        let mut nodes = Vec::new();
        for (name, bytes) in files {
            let content = bytes
                .chunks(700)
                .map(|piece| writer.put(ChunkKind::Data, piece))
                .collect::<Result<_, _>>()?;
            let size = bytes.len() as u64;
            draft.stats.files += 1;
            draft.stats.bytes += size;
            nodes.push(node(name, NodeKind::File { size, sparse: false, content }));
        }
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        root.push(node(folder, NodeKind::Directory { content: writer.put_tree(&nodes)? }));
    }
    draft.root = writer.put_tree(&root)?;
    Ok(draft)
}

pub(crate) fn backup(repository: &Repository, source: &Source) -> Result<Sealed, RepositoryError> {
    let mut writer = repository.writer(&options(), &LogMonitor)?;
    let draft = put_source(&mut writer, source)?;
    writer.seal(draft, &LogMonitor)
}

/// Everything in a snapshot.
pub(crate) fn restore(repository: &Repository, entry: &SnapshotEntry) -> Result<Source, RepositoryError> {
    restore_with(&repository.reader(&LogMonitor)?, entry)
}

/// Everything in a snapshot, with a reader that may have read others.
pub(crate) fn restore_with(reader: &Reader, entry: &SnapshotEntry) -> Result<Source, RepositoryError> {
    let mut source = Source::new();
    for folder in reader.tree(&entry.manifest.root)? {
        let files = source.entry(String::from_utf8(folder.name.clone()).unwrap()).or_default();
        for file in reader.tree(folder.content())? {
            let mut bytes = Vec::new();
            reader.read_file::<RepositoryError>(file.content(), |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })?;
            files.insert(String::from_utf8(file.name).unwrap(), bytes);
        }
    }
    Ok(source)
}

/// What went to the monitor while the snapshots were listed, and the snapshots.
pub(crate) fn snapshots(repository: &Repository) -> (Vec<SnapshotEntry>, Collected) {
    let monitor = Collected::default();
    let entries = repository.snapshots(&monitor).unwrap();
    (entries, monitor)
}
