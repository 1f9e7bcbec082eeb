//! Memory does not grow with a folder: a plan, a restore and a second restore over the first of one folder with very many
//! messages (`MAILKEEP_FOLDER` of them are restored: half a million in the long run; the plan always has that many), a third
//! of which have a second name in a folder that comes later. Each in a process of its own, whose peak is taken.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mailkeep_repository::format::manifest::{SourceInfo, Stats};
use mailkeep_repository::format::node::TreeEncoder;
use mailkeep_repository::format::{ChunkKind, ChunkRef, Meta, Node, NodeKind};
use mailkeep_repository::{
    Draft, Encryption, InitOptions, KeySource, LocalStorage, LogMonitor, Repository, Storage, Writer,
    WriterOptions,
};
use mailkeep_restorer::{Overwrite, RestoreOptions, View, apply, plan};
use support::{Ear, me};

const FOLDER: &str = "MAILKEEP_MEMORY_FOLDER";
const WORK: &str = "MAILKEEP_MEMORY_WORK";
const PLANNED: u64 = 500_000;
/// Most resident memory of any of the processes, KiB.
const PEAK: u64 = 64 << 10;

fn restored() -> u64 {
    std::env::var("MAILKEEP_FOLDER").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000)
}

fn put(writer: &mut Writer, encoder: &mut TreeEncoder, content: &mut Vec<ChunkRef>) {
    while let Some(chunk) = encoder.chunk() {
        content.push(writer.put(ChunkKind::Tree, chunk).unwrap());
    }
}

/// Messages of eight different contents: what is measured is their number.
fn folder(writer: &mut Writer, numbers: impl Iterator<Item = u64>) -> Vec<ChunkRef> {
    let (mut encoder, mut content) = (TreeEncoder::new(), Vec::new());
    let (uid, gid) = me();
    for number in numbers {
        let bytes = format!("message {}", number % 8).into_bytes();
        let linked = number % 3 == 0;
        let meta = Meta {
            mode: 0o640,
            uid,
            gid,
            inode: number + 1,
            links: if linked { 2 } else { 1 },
            device: u64::from(linked),
            ..Meta::default()
        };
        let chunks = vec![writer.put(ChunkKind::Data, &bytes).unwrap()];
        let kind = NodeKind::File { size: bytes.len() as u64, sparse: false, content: chunks };
        encoder.push(&Node { name: format!("{number:08}.").into_bytes(), meta, kind }).unwrap();
        put(writer, &mut encoder, &mut content);
    }
    encoder.finish();
    put(writer, &mut encoder, &mut content);
    content
}

/// Seals a snapshot with `/large` and, for the second names, `/others`.
fn store(repository: &Repository, name: &str, messages: u64) {
    let mut writer = repository.writer(&WriterOptions::default(), &LogMonitor).unwrap();
    let directory = |name: &str, content| {
        let (uid, gid) = me();
        let meta = Meta { mode: 0o755, uid, gid, links: 1, ..Meta::default() };
        Node { name: name.as_bytes().to_vec(), meta, kind: NodeKind::Directory { content } }
    };
    let large = folder(&mut writer, 0..messages);
    let others = folder(&mut writer, (0..messages).step_by(3));
    let root = writer.put_tree(&[directory("large", large), directory("others", others)]).unwrap();
    let draft = Draft {
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
        root,
        stats: Stats::default(),
        mail_check: None,
    };
    writer.seal(draft, &LogMonitor).unwrap();
}

fn view(folder: &Path, source: &str) -> View {
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(&folder.join("disk")).unwrap());
    let repository = Repository::open(storage, &KeySource::Plain, &LogMonitor).unwrap();
    let entries = repository.snapshots(&LogMonitor).unwrap();
    let entry = entries.into_iter().find(|entry| entry.manifest.source.name == source).unwrap();
    View::new(Arc::new(repository.reader(&LogMonitor).unwrap()), entry.manifest.root)
}

/// Not a test of its own: does one kind of work and tells how much memory it took.
#[test]
#[ignore = "run by `memory_does_not_grow_with_a_folder` as a process of its own"]
fn worker() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let never = AtomicBool::new(false);
    let planned = |source: &str, overwrite| {
        let options = RestoreOptions { overwrite, delete: true, ..RestoreOptions::default() };
        plan(&view(folder, source), &folder.join("target"), options, &never, &mut |_, _| {}).unwrap()
    };
    let (all, linked) = (restored(), restored().div_ceil(3));
    match std::env::var(WORK).unwrap().as_str() {
        "plan" => {
            let totals = planned("planned", Overwrite::Always).totals;
            assert_eq!((totals.create, totals.links), (PLANNED, PLANNED.div_ceil(3)));
        }
        "restore" => {
            let done = apply(&planned("restored", Overwrite::Always), &Ear::default(), &never).unwrap();
            assert_eq!((done.files, done.problems), (all + linked, 0));
        }
        "restore again" => {
            let done = apply(&planned("restored", Overwrite::IfChanged), &Ear::default(), &never).unwrap();
            assert_eq!((done.files, done.skipped, done.problems), (0, all + linked, 0));
        }
        other => panic!("{other}?"),
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("\npeak {}", peak.trim().trim_end_matches(" kB"));
}

#[test]
fn memory_does_not_grow_with_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::prepare(&folder.path().join("disk")).unwrap());
    let options = InitOptions { label: "many".into(), encryption: Encryption::Plain };
    let repository = Repository::init(storage, &options).unwrap().repository;
    store(&repository, "planned", PLANNED);
    store(&repository, "restored", restored());
    for work in ["plan", "restore", "restore again"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env(WORK, work)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{work}: {text}{}", String::from_utf8_lossy(&output.stderr));
        let peak = text.lines().find_map(|line| line.strip_prefix("peak ")).unwrap();
        let peak: u64 = peak.parse().unwrap();
        println!("{work}: peak {} MiB of {} messages", peak >> 10, restored());
        assert!(peak <= PEAK, "{work} took {} MiB, {} are allowed", peak >> 10, PEAK >> 10);
    }
}
