//! A stranger's reader, written in Python from FORMAT.md alone (`stranger/`), reads what this crate writes.
//!
//! Needs `python3`, `age` and `zstd` (Debian packages of these names).

#![allow(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mailkeep_format::block::{BlockCompressor, Method};
use mailkeep_format::cut::{CutStyle, cut, cut_tree};
use mailkeep_format::keys::{self, Identity, Master};
use mailkeep_format::node::{Meta, Node, NodeKind, encode_tree};
use mailkeep_format::pack::PackBuilder;
use mailkeep_format::version::BASE64;
use mailkeep_format::{ChunkId, ChunkKind, ChunkRef, ContentHash, Salt, Timestamp};
use support::*;

fn reader(arguments: &[&Path]) {
    for program in ["python3", "age", "zstd"] {
        let found = Command::new(program).arg("--version").output();
        assert!(found.is_ok(), "this test needs the program `{program}`: install it");
    }
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/stranger/reader.py");
    let done = Command::new("python3").arg("-B").arg(script).args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_stranger_reads_the_golden_files() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    reader(&[Path::new("--golden"), &golden]);
}

/// A minimal writer: each chunk a block, all in one pack.
struct Writer {
    pack: PackBuilder,
    bytes: Vec<u8>,
    compressor: BlockCompressor,
}

impl Writer {
    fn put(&mut self, kind: ChunkKind, plain: &[u8], lengths: Vec<usize>) -> Vec<ChunkRef> {
        let (mut from, mut content) = (0, Vec::new());
        for length in lengths {
            let chunk = &plain[from..from + length];
            let id: ChunkId = keys().id.chunk_id(kind, &ContentHash::of(chunk));
            let block = self.compressor.compress(kind, chunk, 1).unwrap();
            self.pack.push(&block, vec![(id, length as u32)], &mut self.bytes).unwrap();
            content.push(ChunkRef { id, length: length as u32 });
            from += length;
        }
        content
    }

    fn file(&mut self, name: &str, links: u32, plain: &[u8]) -> Node {
        let content = self.put(ChunkKind::Data, plain, cut(CutStyle::Message, plain));
        node(name, 7, links, NodeKind::File { size: plain.len() as u64, sparse: false, content })
    }

    fn directory(&mut self, name: &str, nodes: &[Node]) -> Node {
        let tree = encode_tree(nodes).unwrap();
        let content = self.put(ChunkKind::Tree, &tree, cut_tree(&tree));
        node(name, 8, 1, NodeKind::Directory { content })
    }
}

fn node(name: &str, inode: u64, links: u32, kind: NodeKind) -> Node {
    let mtime = Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 };
    let device = if links > 1 { 5 } else { 0 };
    let meta = Meta { mode: 0o750, mtime, inode, links, device, ..Meta::default() };
    Node { name: name.into(), meta, kind }
}

#[test]
fn a_stranger_restores_a_snapshot_with_the_recovery_key_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("repository");
    let (recovery, box_key) = (Identity::generate(), Identity::generate());
    let key_file = scratch.path().join("recovery-key");
    fs::write(&key_file, recovery.to_text().as_bytes()).unwrap();

    let mut bytes = Vec::new();
    let pack = PackBuilder::new(&keys(), REPOSITORY, Salt::generate().unwrap(), &mut bytes);
    let mut writer = Writer { pack, bytes, compressor: BlockCompressor::new(3).unwrap() };
    let mail = [b"To: anna\r\n\r\n".as_slice(), &noise(9_000, 1), &b"words ".repeat(2_000)].concat();
    let part = base64_lines(&noise(90_000, 2), 76, "\r\n");
    let opening =
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    let attached = [opening.as_bytes(), &part, b"\r\n--b--\r\n"].concat();
    let nodes = [
        writer.file("1.", 2, &mail),
        writer.file("2.", 2, &mail),
        writer.file("3.", 1, &attached),
        writer.file("empty", 1, b""),
        node("link", 9, 1, NodeKind::Symlink { target: b"1.".to_vec() }),
    ];
    let spool = writer.directory("spool", &nodes);
    let root = writer.directory("", &[spool]);
    let Writer { pack, mut bytes, .. } = writer;
    let (pack_id, footer) = pack.finish(&mut bytes).unwrap();
    assert!(footer.blocks.iter().any(|block| block.head.method == Method::Base64));
    let mut manifest = sample_manifest();
    manifest.required_features = vec![BASE64.to_owned()];
    manifest.root = root.content().to_vec();
    let (manifest, id) = manifest.encode(&keys(), Salt::generate().unwrap()).unwrap();
    let master = Master::from_bytes(MASTER);
    let wrapped = |identity| keys::wrap_checked(&master, &REPOSITORY, &[identity]).unwrap();
    for (path, contents) in [
        ("label".to_owned(), sample_label().encode(&keys()).unwrap()),
        ("keys/box.age".to_owned(), wrapped(&box_key)),
        ("keys/recovery.age".to_owned(), wrapped(&recovery)),
        (format!("packs/{:02x}/{pack_id}", pack_id.0[0]), bytes),
        (format!("manifests/0000000007-{}", &id.hex()[..16]), manifest),
    ] {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    let target = scratch.path().join("target");
    reader(&[&folder, &key_file, &target]);
    let spool = target.join("spool");
    assert_eq!(fs::read(spool.join("1.")).unwrap(), mail);
    assert_eq!(fs::read(spool.join("3.")).unwrap(), attached);
    assert_eq!(fs::read(spool.join("empty")).unwrap(), b"");
    assert_eq!(fs::read_link(spool.join("link")).unwrap(), Path::new("1."));
    let (one, two) = (fs::metadata(spool.join("1.")).unwrap(), fs::metadata(spool.join("2.")).unwrap());
    assert_eq!((one.ino(), one.mode() & 0o7777), (two.ino(), 0o750));
    assert_eq!((one.mtime(), one.mtime_nsec()), (1_700_000_000, 123_456_789));
    assert_eq!(fs::read_dir(spool).unwrap().count(), 5);
}
