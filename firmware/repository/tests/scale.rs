//! Memory does not grow with the store. A repository of many tiny messages is written by the real writer (`MAILKEEP_MESSAGES`
//! of them: ten million in the long run); then every kind of work is done on it, each in a process of its own whose
//! peak of resident memory is taken. The processes are this test binary.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use common::*;
use mailkeep_repository::format::node::TreeEncoder;
use mailkeep_repository::format::{ChunkKind, ChunkRef, ContentHash, Node, NodeKind};
use mailkeep_repository::retention::{Clock, Keep};
use mailkeep_repository::{
    Draft, KeySource, LocalStorage, LogMonitor, Machine, PruneOptions, ReadData, Repository, Storage,
    VerifyOptions, WriterOptions, verify,
};

const FOLDER: &str = "MAILKEEP_SCALE_FOLDER";
const WORK: &str = "MAILKEEP_SCALE_WORK";
const MESSAGES: &str = "MAILKEEP_MESSAGES";
/// One twentieth of what the long run has.
const FEW: u32 = 500_000;
const PER_FOLDER: u32 = 500;
/// Most resident memory of any of the processes, in KiB, with 500,000 messages and with ten million. The difference is
/// filters (1.25 bytes a chunk) and tables of blocks.
const PEAK_FEW: u64 = 48 << 10;
const PEAK_MANY: u64 = 320 << 10;
/// Of prune with 500,000 messages: what a small board has to spare beside a daemon.
const PEAK_PRUNE: u64 = 40 << 10;
/// 2026-11-23.
const STARTED: i64 = 1_795_392_000;

fn messages() -> u32 {
    std::env::var(MESSAGES).ok().and_then(|text| text.parse().ok()).unwrap_or(FEW)
}

fn opened(folder: &Path) -> Repository {
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(&folder.join("disk")).unwrap());
    Repository::open(storage, &KeySource::Plain, &LogMonitor).unwrap()
}

fn writer_options() -> WriterOptions {
    WriterOptions { compression_level: 1, workers: 1, machine: Machine::this(), ..WriterOptions::default() }
}

/// The two chunks of a message: header and body.
fn parts(number: u32) -> [[u8; 12]; 2] {
    let part = |which: u32| {
        let mut bytes = *b"message ____";
        bytes[8..].copy_from_slice(&(number * 2 + which).to_le_bytes());
        bytes
    };
    [part(0), part(1)]
}

fn message(number: u32, content: Vec<ChunkRef>) -> Node {
    let size = content.iter().map(|chunk| u64::from(chunk.length)).sum();
    let mut node = node(&format!("{number:09}."), NodeKind::File { size, sparse: false, content });
    node.meta.inode = u64::from(number);
    node
}

/// Half of the messages lie in folders of 500, the other half in one.
fn first(repository: &Repository) {
    let mut writer = repository.writer(&writer_options(), &LogMonitor).unwrap();
    let put = |writer: &mut mailkeep_repository::Writer, number: u32| {
        let content = parts(number).map(|part| writer.put(ChunkKind::Data, &part).unwrap()).to_vec();
        message(number, content)
    };
    let half = messages() / 2;
    let mut folders = Vec::new();
    let directory = |name: &str, content| node(name, NodeKind::Directory { content });
    for start in (0..half).step_by(PER_FOLDER as usize) {
        let nodes: Vec<Node> = (start..start + PER_FOLDER).map(|number| put(&mut writer, number)).collect();
        folders.push(directory(&format!("{start:09}"), writer.put_tree(&nodes).unwrap()));
    }
    let (mut large, mut content) = (TreeEncoder::new(), Vec::new());
    for number in half..messages() {
        large.push(&put(&mut writer, number)).unwrap();
        while let Some(chunk) = large.chunk() {
            content.push(writer.put(ChunkKind::Tree, chunk).unwrap());
        }
    }
    large.finish();
    while let Some(chunk) = large.chunk() {
        content.push(writer.put(ChunkKind::Tree, chunk).unwrap());
    }
    folders.push(directory("large", content));
    let mut draft: Draft = draft("many");
    draft.started = STARTED;
    draft.root = writer.put_tree(&folders).unwrap();
    writer.seal(draft, &LogMonitor).unwrap();
}

fn root(repository: &Repository) -> Vec<ChunkRef> {
    repository.snapshots(&LogMonitor).unwrap().pop().unwrap().manifest.root
}

/// Goes through everything, knows one message in twenty again, adds as many as one in a hundred.
fn day(repository: &Repository) {
    let root = root(repository);
    let mut writer = repository.writer(&writer_options(), &LogMonitor).unwrap();
    let reader = writer.reader();
    let mut seen = 0;
    for folder in reader.tree_nodes(&root) {
        for node in reader.tree_nodes(folder.unwrap().content()) {
            seen += u32::from(node.is_ok());
        }
    }
    assert_eq!(seen, messages());
    for number in (0..messages()).step_by(20) {
        for part in parts(number) {
            let known = writer.chunk_for(ChunkKind::Data, &ContentHash::of(&part), 12).unwrap();
            assert!(known.is_some());
        }
    }
    for number in messages()..messages() + messages() / 100 {
        for part in parts(number) {
            writer.put(ChunkKind::Data, &part).unwrap();
        }
    }
    let mut draft = draft("many");
    draft.started = STARTED + 60;
    draft.root = root;
    writer.seal(draft, &LogMonitor).unwrap();
}

/// Removes the first snapshot, and what the second one brought that nobody needs.
fn prune(repository: &Repository) {
    let clock = Clock { now: STARTED + 3600, offset: 0 };
    let options = PruneOptions { clock, ..PruneOptions::new(Keep { last: 1, hourly: 1, ..Keep::default() }) };
    let report = repository.prune(&options, &LogMonitor).unwrap();
    assert_eq!((report.removed(), report.missing_chunks, report.unreadable_directories), (1, 0, 0));
    assert!(report.dead_packs > 0, "{report:?}");
    // Small as the chunks are beside their tables of contents, all of them are needed.
    assert_eq!(report.repacked_packs, 0, "{report:?}");
}

/// Lists one folder and reads a message of it.
fn folder(repository: &Repository) {
    let reader = repository.reader(&LogMonitor).unwrap();
    let root = root(repository);
    let folder = reader.tree_nodes(&root).next().unwrap().unwrap();
    let nodes: Vec<Node> = reader.tree_nodes(folder.content()).map(|node| node.unwrap()).collect();
    assert_eq!(nodes.len() as u32, PER_FOLDER);
    for (chunk, part) in nodes[7].content().iter().zip(parts(7)) {
        assert_eq!(&*reader.chunk(ChunkKind::Data, chunk).unwrap(), &part);
    }
}

fn check(repository: &Repository) {
    let report = verify(repository, VerifyOptions { read: ReadData::Structure }, &LogMonitor).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.directories as u32, messages() / 2 / PER_FOLDER + 2);
}

/// Not a test of its own: does one kind of work and tells how much memory it took.
#[test]
#[ignore = "run by `memory_does_not_grow_with_the_store` as a process of its own"]
fn worker() {
    let Some(path) = std::env::var_os(FOLDER) else { return };
    let repository = opened(Path::new(&path));
    let start = Instant::now();
    match std::env::var(WORK).unwrap().as_str() {
        "first" => first(&repository),
        "day" => day(&repository),
        "folder" | "folder without index" => folder(&repository),
        "verify" => check(&repository),
        "prune" => prune(&repository),
        "reindex" => {
            let report = repository.reindex(&Machine::this(), &LogMonitor).unwrap();
            assert_eq!(report.problems, []);
        }
        other => panic!("{other}?"),
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = peak.trim().trim_end_matches(" kB");
    println!("\npeak {peak} {:.1}", start.elapsed().as_secs_f64());
}

#[test]
fn memory_does_not_grow_with_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let disk: PathBuf = folder.path().join("disk");
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::prepare(&disk).unwrap());
    init_plain(&storage).unwrap();
    let allowed = if messages() <= FEW { PEAK_FEW } else { PEAK_MANY };
    for work in ["first", "day", "prune", "folder", "verify", "folder without index", "reindex"] {
        if work == "folder without index" {
            std::fs::remove_dir_all(disk.join("index")).unwrap();
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env(WORK, work)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{work}: {text}{}", String::from_utf8_lossy(&output.stderr));
        let line = text.lines().find_map(|line| line.strip_prefix("peak ")).unwrap();
        let (peak, seconds) = line.split_once(' ').unwrap();
        let peak: u64 = peak.parse().unwrap();
        println!("{work}: peak {} MiB, {seconds} s, {} messages", peak >> 10, messages());
        let allowed = if work == "prune" && messages() <= FEW { PEAK_PRUNE } else { allowed };
        assert!(peak <= allowed, "{work} took {} MiB, {} are allowed", peak >> 10, allowed >> 10);
    }
}
