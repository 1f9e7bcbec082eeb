//! How fast a first backup, one without changes, a restore and a verify of mail-like files are, without walk and link.
//!
//! `cargo run --release -p mailkeep-repository --example throughput -- FOLDER [FILES [MEDIAN]]` makes a repository in FOLDER
//! (which must not exist) and prints CPU seconds and peak memory per step. Files follow the spool of the bench: median
//! 7.4 KB, a tenth above 45 KB, a few percent with a base64 attachment that repeats.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use mailkeep_repository::format::cut::{CutStyle, cut};
use mailkeep_repository::format::manifest::{SourceInfo, Stats};
use mailkeep_repository::format::{ChunkKind, ChunkRef, ContentHash, Meta, Node, NodeKind};
use mailkeep_repository::{
    Draft, Encryption, InitOptions, LocalStorage, LogMonitor, ReadData, Repository, RepositoryError,
    VerifyOptions, WriterOptions, verify,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: throughput FOLDER [FILES]")?);
    let files: u64 = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let box_key = mailkeep_repository::format::Identity::generate();
    let options = InitOptions { label: "bench".into(), encryption: Encryption::Wrapped { box_key } };
    let repository = Repository::init(Arc::new(LocalStorage::prepare(&folder)?), &options)?.repository;

    let median: f64 = arguments.next().map_or(Ok(7400.0), |text| text.parse())?;
    let mut restored = 0.0;
    let mut bytes = 0;
    for file in 0..files {
        bytes += mail(file, median).len() as u64;
    }
    step("making the files (not counted below)", bytes, |_| Ok(()))?;
    for name in ["first backup", "no change"] {
        step(name, bytes, |spent| backup(&repository, (files, median), spent))?;
    }
    let stored: u64 = walk(&folder)?;
    println!(
        "stored {} MB, {:.3} of {} MB",
        stored / 1_000_000,
        stored as f64 / bytes as f64,
        bytes / 1_000_000
    );
    step("restore", bytes, |_| restore(&repository, &mut restored))?;
    step("verify, structure", bytes, |_| verified(&repository, ReadData::Structure))?;
    step("verify, all", bytes, |_| verified(&repository, ReadData::All))?;
    Ok(())
}

type Failure = Box<dyn std::error::Error>;

/// Runs one step and prints its CPU time without what it reports as spent on making files.
fn step(name: &str, bytes: u64, run: impl FnOnce(&mut f64) -> Result<(), Failure>) -> Result<(), Failure> {
    let (cpu, wall, mut spent) = (cpu_seconds(), Instant::now(), 0.0);
    run(&mut spent)?;
    let cpu = cpu_seconds() - cpu - spent;
    let rate = bytes as f64 / 1e6 / cpu.max(1e-9);
    println!(
        "{name}: {cpu:.2} CPU s ({rate:.0} MB per CPU s), {:.2} s, peak {} MB",
        wall.elapsed().as_secs_f64(),
        peak_memory()
    );
    Ok(())
}

fn backup(repository: &Repository, (files, median): (u64, f64), spent: &mut f64) -> Result<(), Failure> {
    let mut writer = repository.writer(&WriterOptions::default(), &LogMonitor)?;
    let mut nodes = Vec::new();
    let mut root = Vec::new();
    for file in 0..files {
        let made = thread_seconds();
        let bytes = mail(file, median);
        *spent += thread_seconds() - made;
        let mut rest = bytes.as_slice();
        let mut content: Vec<ChunkRef> = Vec::new();
        for length in cut(CutStyle::Message, &bytes) {
            let (chunk, after) = rest.split_at(length);
            let hash = ContentHash::of(chunk);
            match writer.chunk_for(ChunkKind::Data, &hash, length as u32)? {
                Some(chunk) => content.push(chunk),
                None => content.push(writer.put_hashed(ChunkKind::Data, &hash, chunk)?),
            }
            rest = after;
        }
        let size = bytes.len() as u64;
        nodes.push(node(file % 400, NodeKind::File { size, sparse: false, content }));
        if nodes.len() == 400 || file + 1 == files {
            root.push(node(file, NodeKind::Directory { content: writer.put_tree(&nodes)? }));
            nodes.clear();
        }
    }
    let draft = Draft {
        program: "throughput".into(),
        source: SourceInfo { name: "bench".into(), system: "generic".into(), host: "here".into() },
        started: 0,
        consistent: false,
        remarks: Vec::new(),
        passes: Vec::new(),
        window: None,
        versions: Vec::new(),
        users: Vec::new(),
        groups: Vec::new(),
        root: writer.put_tree(&root)?,
        stats: Stats::default(),
        mail_check: None,
    };
    writer.seal(draft, &LogMonitor)?;
    Ok(())
}

fn restore(repository: &Repository, bytes: &mut f64) -> Result<(), Failure> {
    let entry = repository.latest_for("bench", &LogMonitor)?.ok_or("no snapshot")?;
    let reader = repository.reader(&LogMonitor)?;
    for folder in reader.tree(&entry.manifest.root)? {
        for file in reader.tree(folder.content())? {
            reader.read_file::<RepositoryError>(file.content(), |piece| {
                *bytes += piece.len() as f64;
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn verified(repository: &Repository, read: ReadData) -> Result<(), Failure> {
    let report = verify(repository, VerifyOptions { read }, &LogMonitor)?;
    if report.problems.is_empty() { Ok(()) } else { Err(format!("{:?}", report.problems).into()) }
}

fn node(number: u64, kind: NodeKind) -> Node {
    let meta = Meta { mode: 0o640, links: 1, ..Meta::default() };
    Node { name: format!("{number:010}.").into_bytes(), meta, kind }
}

/// A mail: header and words; where mails are of the usual size, some with an attachment.
fn mail(number: u64, median: f64) -> Vec<u8> {
    let mut dice = Dice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d);
    let mut bytes = Vec::new();
    for field in ["Received: from", "Message-ID:", "From:", "To:", "Subject:", "Date:", "X-Spam-Score:"] {
        bytes.extend_from_slice(
            format!("{field} {:x}.{:x}@example.org\r\n", dice.next(), dice.next()).as_bytes(),
        );
    }
    bytes.extend_from_slice(b"\r\n");
    // Log-normal about 7.4 KB with a tenth above 45 KB.
    let normal = (0..12).map(|_| dice.next() as f64 / u64::MAX as f64).sum::<f64>() - 6.0;
    let length = (median * (1.4 * normal).exp()).min(2e6) as usize;
    while bytes.len() < length {
        let word = dice.next() % 60 * (dice.next() % 60);
        bytes.extend_from_slice(WORDS[(word as usize) % WORDS.len()].as_bytes());
        bytes.extend_from_slice(if dice.next() % 11 == 0 { b"\r\n" } else { b" " });
    }
    if median > 5000.0 && dice.next() % 8 == 0 {
        // A third of the attachments repeats one that was sent before.
        let seed = if dice.next() % 3 == 0 { number % 50 } else { number };
        let mut attachment = Dice(seed);
        bytes.extend_from_slice(b"\r\nContent-Transfer-Encoding: base64\r\n\r\n");
        for _ in 0..20 + seed % 1000 * 3 {
            let line: Vec<u8> = (0..76).map(|_| BASE64[(attachment.next() >> 20) as usize % 64]).collect();
            bytes.extend_from_slice(&line);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const WORDS: [&str; 24] = [
    "the",
    "of",
    "server",
    "mail",
    "Regards,",
    "meeting",
    "<div style=\"margin:0\">",
    "tomorrow",
    "invoice",
    "please",
    "and",
    "2026",
    "attached",
    "http://www.example.com/list/info",
    "is",
    "we",
    "you",
    "office",
    "--",
    "order",
    "not",
    "question",
    "wrote:",
    ">",
];

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }
}

fn walk(folder: &std::path::Path) -> Result<u64, std::io::Error> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { walk(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

fn seconds(clock: rustix::time::ClockId) -> f64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn cpu_seconds() -> f64 {
    seconds(rustix::time::ClockId::ProcessCPUTime)
}

fn thread_seconds() -> f64 {
    seconds(rustix::time::ClockId::ThreadCPUTime)
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
