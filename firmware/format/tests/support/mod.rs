//! Fixed keys and small samples of every kind of file.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses its part; a failing sample fails the test"
)]

use mailkeep_format::block::{Compressed, open_block};
use mailkeep_format::manifest::{MailCheckRecord, Manifest, PassKind, PassRecord, SourceInfo, Stats, Window};
use mailkeep_format::node::{Meta, Node, NodeKind};
use mailkeep_format::pack::{PackBuilder, PackFooter};
use mailkeep_format::run::{RunReader, encode_run};
use mailkeep_format::verification::{Verification, VerifiedSlice};
use mailkeep_format::{
    ChunkId, ChunkKind, ChunkRef, ContentHash, DEFAULT_LEVEL, FormatError, Keys, Label, Master, PackId,
    RepositoryId, RunId, Salt, SnapshotId, Timestamp,
};

pub(crate) const REPOSITORY: RepositoryId = RepositoryId([0x11; 16]);
pub(crate) const MASTER: [u8; 32] = [0x42; 32];

pub(crate) fn keys() -> Keys {
    Master::from_bytes(MASTER).keys()
}

/// Bytes that do not compress, the same for ever.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Blocks of a pack: kind and chunks of each.
pub(crate) type Blocks = Vec<(ChunkKind, Vec<Vec<u8>>)>;

/// Packs chunks, block by block; returns the file, its id and its table of contents.
pub(crate) fn pack_of(salt: Salt, blocks: &[(ChunkKind, Vec<Vec<u8>>)]) -> (Vec<u8>, PackId, PackFooter) {
    let keys = keys();
    let mut bytes = Vec::new();
    let mut builder = PackBuilder::new(&keys, REPOSITORY, salt, &mut bytes);
    for (kind, chunks) in blocks {
        let block = Compressed::new(*kind, &chunks.concat(), DEFAULT_LEVEL).unwrap();
        let table = chunks
            .iter()
            .map(|chunk| (keys.id.chunk_id(*kind, &ContentHash::of(chunk)), chunk.len() as u32))
            .collect();
        builder.push(&block, table, &mut bytes).unwrap();
    }
    let (id, footer) = builder.finish(&mut bytes).unwrap();
    (bytes, id, footer)
}

/// A pack with a compressed block of two mails, a block that does not compress, and a tree.
pub(crate) fn sample_blocks() -> Blocks {
    let mail = |who: &str| format!("To: {who}\n\n{}", "The same words again. ".repeat(20)).into_bytes();
    vec![
        (ChunkKind::Data, vec![mail("anna"), mail("bert")]),
        (ChunkKind::Data, vec![noise(100, 1)]),
        (ChunkKind::Tree, vec![vec![1]]),
    ]
}

pub(crate) fn sample_pack() -> (Vec<u8>, PackId, PackFooter) {
    pack_of(Salt([0x22; 16]), &sample_blocks())
}

/// Everything in a pack, or why not: what a reader with the keys would do.
pub(crate) fn read_pack(bytes: &[u8]) -> Result<Blocks, FormatError> {
    let keys = keys();
    let footer = PackFooter::of(&keys, &REPOSITORY, bytes)?;
    let mut blocks = Vec::new();
    for (number, info) in (0u32..).zip(&footer.blocks) {
        let from = info.head.offset as usize;
        let stored = bytes[from..from + info.head.stored_len as usize].to_vec();
        let raw = open_block(&keys, REPOSITORY, &footer.salt, number, &info.head, stored)?;
        let (mut rest, mut chunks) = (raw.as_slice(), Vec::new());
        for &(id, length) in &info.chunks {
            let (chunk, after) = rest.split_at(length as usize);
            assert_eq!(keys.id.chunk_id(info.head.kind, &ContentHash::of(chunk)), id);
            chunks.push(chunk.to_vec());
            rest = after;
        }
        blocks.push((info.head.kind, chunks));
    }
    Ok(blocks)
}

pub(crate) fn sample_run() -> (Vec<u8>, RunId) {
    let (_, id, footer) = sample_pack();
    encode_run(&keys(), REPOSITORY, Salt([0x33; 16]), &[(id, &footer)]).unwrap()
}

/// A closure that reads a run from memory.
pub(crate) fn read_at(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> Result<(), String> + '_ {
    |offset, buffer| {
        let from = offset as usize;
        let part = bytes.get(from..from + buffer.len()).ok_or("read past the end")?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

/// Opens and wholly checks a run.
pub(crate) fn check_run(bytes: &[u8]) -> Result<RunReader, String> {
    let run = RunReader::open(&keys(), &REPOSITORY, bytes.len() as u64, read_at(bytes))
        .map_err(|error| error.to_string())?;
    run.check(read_at(bytes)).map_err(|error| error.to_string())?;
    Ok(run)
}

pub(crate) fn sample_label() -> Label {
    Label::new(REPOSITORY, "Tuesday", 1_790_000_000)
}

pub(crate) fn sample_manifest() -> Manifest {
    Manifest {
        format_version: 1,
        required_features: Vec::new(),
        repository: REPOSITORY,
        generation: 7,
        previous: Some(SnapshotId([0x55; 32])),
        program: "mailkeep 0.1.0".to_owned(),
        source: SourceInfo {
            name: "mail1".to_owned(),
            system: "cyrus".to_owned(),
            host: "mail1.example.org".to_owned(),
        },
        started: 1_790_000_000,
        sealed: 1_790_000_100,
        consistent: true,
        remarks: vec!["2 files vanished while they were read".to_owned()],
        passes: vec![
            PassRecord {
                kind: PassKind::Live,
                clock: Timestamp { seconds: 1_790_000_001, nanos: 5 },
                files_seen: 3,
                files_changed: 2,
                bytes_read: 1_000,
                bytes_sent: 900,
                millis: 12,
            },
            PassRecord {
                kind: PassKind::Final,
                clock: Timestamp { seconds: -1, nanos: 999_999_999 },
                files_seen: 3,
                files_changed: 0,
                bytes_read: 0,
                bytes_sent: 0,
                millis: 3,
            },
        ],
        window: Some(Window { stop_ms: 1, export_ms: 2, freeze_ms: 3, start_ms: 4, total_ms: 10 }),
        versions: vec![("cyrus".to_owned(), "3.6.1".to_owned())],
        users: vec![(0, "root".to_owned()), (104, "cyrus".to_owned())],
        groups: vec![(8, "mail".to_owned())],
        root: vec![ChunkRef { id: ChunkId([0x66; 24]), length: 300 }],
        stats: Stats { files: 3, directories: 2, bytes: 1_000, added_bytes: 700 },
        new_packs: vec![PackId([0x77; 32])],
        mail_check: Some(MailCheckRecord {
            ok: false,
            mailboxes: 1,
            messages: 3,
            problems: vec!["user.anna: 3. is missing".to_owned()],
            problem_count: 1,
        }),
    }
}

pub(crate) fn sample_verification() -> Verification {
    let slice =
        |from, to, time: i64| VerifiedSlice { from, to, time: 1_790_000_000 + time, generation: time as u64 };
    Verification {
        generation: 7,
        time: 1_790_000_200,
        position: 3 << 61,
        slices: vec![slice(1 << 62, 3 << 61, 200), slice(0, 1 << 62, 100)],
        damaged: vec![PackId([0x11; 32]), PackId([0x77; 32])],
        lost: vec![SnapshotId([0x55; 32])],
        ..Verification::empty(REPOSITORY, 9)
    }
}

/// A directory with a node of every kind.
pub(crate) fn sample_tree() -> Vec<Node> {
    let chunk = |byte, length| ChunkRef { id: ChunkId([byte; 24]), length };
    let kinds = [
        NodeKind::BlockDevice { major: 8, minor: 300 },
        NodeKind::CharDevice { major: 1, minor: 3 },
        NodeKind::Directory { content: vec![chunk(1, 77)] },
        NodeKind::Fifo,
        NodeKind::File { size: 300, sparse: false, content: vec![chunk(2, 299), chunk(3, 1)] },
        NodeKind::File { size: 1 << 40, sparse: true, content: vec![chunk(4, 1 << 20)] },
        NodeKind::Socket,
        NodeKind::Symlink { target: b"../elsewhere".to_vec() },
    ];
    (0u8..)
        .zip(kinds)
        .map(|(number, kind)| Node {
            name: vec![b'a' + number, 0xff],
            meta: Meta {
                mode: 0o4755,
                uid: 104,
                gid: 8,
                mtime: Timestamp { seconds: -1, nanos: 5 },
                ctime: Timestamp { seconds: 1_790_000_000, nanos: 999_999_999 },
                inode: 1 << 33,
                links: 1 + u32::from(number % 2),
                device: u64::from(number % 2) * 2_049,
                xattrs: vec![
                    (b"system.posix_acl_access".to_vec(), vec![2, 0, 0, 0]),
                    (b"user.x".to_vec(), vec![]),
                ],
            },
            kind,
        })
        .collect()
}

/// Base64 as mail programs write it: lines of so many digits, the last one shorter and padded.
pub(crate) fn base64_lines(bytes: &[u8], width: usize, end: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for line in bytes.chunks(width / 4 * 3) {
        for three in line.chunks(3) {
            let bits = three.iter().fold(0usize, |bits, byte| bits << 8 | usize::from(*byte))
                << (8 * (3 - three.len()));
            for place in 0..4 {
                text.push(if place <= three.len() { DIGITS[bits >> (18 - 6 * place) & 63] } else { b'=' });
            }
        }
        text.extend_from_slice(end.as_bytes());
    }
    text
}
