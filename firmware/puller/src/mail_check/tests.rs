//! The check of one mailbox with half a million messages, in a process of its own whose peak of memory is taken.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use mailkeep_format::node::TreeEncoder;
use mailkeep_format::{ChunkKind, Meta, Node, NodeKind};
use mailkeep_mail::cyrus::profile::Partition;
use mailkeep_repository::{
    Encryption, InitOptions, KeySource, LocalStorage, LogMonitor, Repository, Storage, Writer, WriterOptions,
};

use super::*;

const FOLDER: &str = "MAILKEEP_CHECK_FOLDER";
const MESSAGES: u32 = 500_000;
/// Most resident memory, KiB.
const PEAK: u64 = 64 << 10;
const HEADER: &[u8] = include_bytes!("../../../mail/tests/data/cyrus-3.6.1/inbox.header");
/// The unique id in that header.
const ID: &str = "hl4ljeo59prgcwu2dkf56hzp";
const SIZE: u32 = 7;

/// A cyrus.index of version 10, which has no CRCs, in pieces.
fn index(writer: &mut Writer) -> Node {
    let mut bytes = vec![0; 96];
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    put(8, 10);
    put(12, 96);
    put(16, 88);
    put(20, MESSAGES);
    put(28, MESSAGES);
    let (mut content, mut size) = (Vec::new(), 0);
    for uid in 1..=MESSAGES {
        let mut record = [0; 88];
        record[..4].copy_from_slice(&uid.to_be_bytes());
        record[12..16].copy_from_slice(&SIZE.to_be_bytes());
        bytes.extend(record);
        if bytes.len() > 500_000 || uid == MESSAGES {
            size += bytes.len() as u64;
            content.push(writer.put(ChunkKind::Data, &bytes).unwrap());
            bytes.clear();
        }
    }
    node("cyrus.index", NodeKind::File { size, sparse: false, content })
}

fn node(name: &str, kind: NodeKind) -> Node {
    Node { name: name.as_bytes().to_vec(), meta: Meta { mode: 0o600, links: 1, ..Meta::default() }, kind }
}

/// `/spool/large` with all messages but number 77; returns the root.
fn store(repository: &Repository) -> Vec<ChunkRef> {
    let mut writer = repository.writer(&WriterOptions::default(), &LogMonitor).unwrap();
    let message = vec![writer.put(ChunkKind::Data, b"message").unwrap()];
    let file = |name: &str, size: u32, content: Vec<ChunkRef>| {
        node(name, NodeKind::File { size: u64::from(size), sparse: false, content })
    };
    let mut names: Vec<String> =
        (1..=MESSAGES).filter(|uid| *uid != 77).map(|uid| format!("{uid}.")).collect();
    names.sort();
    let (mut encoder, mut pieces) = (TreeEncoder::new(), Vec::new());
    let mut drain = |encoder: &mut TreeEncoder, writer: &mut Writer| {
        while let Some(chunk) = encoder.chunk() {
            pieces.push(writer.put(ChunkKind::Tree, chunk).unwrap());
        }
    };
    for name in names {
        encoder.push(&file(&name, SIZE, message.clone())).unwrap();
        drain(&mut encoder, &mut writer);
    }
    let header = vec![writer.put(ChunkKind::Data, HEADER).unwrap()];
    encoder.push(&file("cyrus.header", HEADER.len() as u32, header)).unwrap();
    encoder.push(&index(&mut writer)).unwrap();
    encoder.finish();
    drain(&mut encoder, &mut writer);
    let mut content = pieces;
    for name in ["large", "spool"] {
        content = writer.put_tree(&[node(name, NodeKind::Directory { content })]).unwrap();
    }
    writer.flush().unwrap();
    content
}

fn opened(folder: &Path) -> Repository {
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(&folder.join("disk")).unwrap());
    Repository::open(storage, &KeySource::Plain, &LogMonitor).unwrap()
}

/// Not a test of its own: checks and tells how much memory it took.
#[test]
#[ignore = "run by `a_mailbox_with_half_a_million_messages` as a process of its own"]
fn worker() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let root: Vec<ChunkRef> = std::fs::read_to_string(folder.join("root"))
        .unwrap()
        .lines()
        .map(|line| {
            let (id, length) = line.split_once(' ').unwrap();
            let id = std::array::from_fn(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap());
            ChunkRef { id: mailkeep_format::ChunkId(id), length: length.parse().unwrap() }
        })
        .collect();
    let list = format!(r#"{{"user.large": {{"mbtype": "e", "partition": "default", "uniqueid": "{ID}"}}}}"#);
    let partition = Partition {
        name: "default".into(),
        data: "/spool".into(),
        meta: None,
        archive: None,
        header_in_meta: false,
        index_in_meta: false,
    };
    let mut tree = SnapshotTree::new(opened(&folder).reader(&LogMonitor).unwrap(), root);
    let list = mailbox_list::parse(list.as_bytes()).unwrap();
    let check = check_mail(&list, &[partition], &mut tree).unwrap();
    assert_eq!((check.mailboxes, check.messages, check.problem_count), (1, u64::from(MESSAGES), 1));
    assert!(check.problems[0].to_string().contains("77"), "{}", check.problems[0]);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("\npeak {}", peak.trim().trim_end_matches(" kB"));
}

#[test]
fn a_mailbox_with_half_a_million_messages_is_checked_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::prepare(&folder.path().join("disk")).unwrap());
    let options = InitOptions { label: "large".into(), encryption: Encryption::Plain };
    let root = store(&Repository::init(storage, &options).unwrap().repository);
    let line = |chunk: &ChunkRef| {
        let id: String = chunk.id.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{id} {}\n", chunk.length)
    };
    std::fs::write(folder.path().join("root"), root.iter().map(line).collect::<String>()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "mail_check::tests::worker", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let peak = text.lines().find_map(|line| line.strip_prefix("peak ")).unwrap();
    let peak: u64 = peak.parse().unwrap();
    println!("peak {} MiB", peak >> 10);
    assert!(peak <= PEAK, "{} MiB, {} are allowed", peak >> 10, PEAK >> 10);
}
