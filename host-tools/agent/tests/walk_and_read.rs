//! What a pass brings is what is there: bytes, metadata, links, order, and nothing that was excluded.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use mailkeep_format::NodeKind;
use mailkeep_link::message::{Hint, ReadOutcome, ToAgent, ToBox};
use support::{Agent, Copy};

fn source(paths: &[&Path], more: &str) -> String {
    let list: Vec<String> = paths.iter().map(|path| format!("{:?}", path.to_str().unwrap())).collect();
    format!(
        "name=\"tree\"\nsystem=\"generic\"\n[transport]\nkind=\"local\"\n[generic]\npaths=[{}]\n{more}\n",
        list.join(",")
    )
}

fn copy(state: &Path, source: &str) -> Copy {
    let agent = Agent::start(state);
    agent.configure(source);
    let copy = agent.pass(1, false);
    agent.goodbye();
    copy
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn a_tree_comes_whole() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let root = base.join("srv");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::create_dir(root.join("cache")).unwrap();
    fs::write(root.join("cache/x"), "x").unwrap();
    fs::write(root.join("a/1."), "From: a\r\n\r\nbody\r\n").unwrap();
    fs::hard_link(root.join("a/1."), root.join("a/b/2.")).unwrap();
    fs::write(root.join("zero"), "").unwrap();
    let (large, huge) = (noise(300_000), noise(20 << 20));
    fs::write(root.join("large"), &large).unwrap();
    fs::write(root.join("huge"), &huge).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    symlink("../nowhere", root.join("link")).unwrap();
    fs::set_permissions(root.join("large"), fs::Permissions::from_mode(0o4750)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    // Not every file system of a test machine has user attributes.
    let has_xattrs =
        rustix::fs::setxattr(root.join("zero"), "user.test", b"value", rustix::fs::XattrFlags::empty())
            .is_ok();

    let text = source(&[&root], "exclude=[\"cache\"]\nwrite-once=[\"*.\"]");
    let copy = copy(&base.join("state"), &text);
    assert_eq!(copy.problems, Vec::<String>::new());
    assert_eq!(copy.bytes(&root.join("large")), large);
    assert!(copy.bytes(&root.join("huge")) == huge);
    assert_eq!(copy.bytes(&root.join("zero")), b"");
    assert!(copy.bytes(&root.join("sparse")).iter().all(|byte| *byte == 0));
    assert_eq!(copy.bytes(&root.join("a/b/2.")), b"From: a\r\n\r\nbody\r\n");
    assert!(!copy.nodes.contains_key(&root.join("cache")));
    assert_eq!(copy.nodes[&root.join("a/1.")].1, Hint::Message);

    for (path, (node, _)) in &copy.nodes {
        let real = fs::symlink_metadata(path).unwrap();
        assert_eq!(node.meta.mode, real.mode() & 0o7777, "{path:?}");
        assert_eq!((node.meta.uid, node.meta.gid, node.meta.inode), (real.uid(), real.gid(), real.ino()));
        if path.starts_with(&root) {
            assert_eq!(
                (node.meta.mtime.seconds, i64::from(node.meta.mtime.nanos)),
                (real.mtime(), real.mtime_nsec())
            );
        }
        if node.is_file() {
            let (ReadOutcome::Read { node: fresh, .. }, _) = &copy.outcomes[path] else { panic!("{path:?}") };
            assert_eq!((fresh.size(), fresh.meta.links), (real.len(), real.nlink() as u32), "{path:?}");
        }
    }
    let kind = |name: &str| copy.nodes[&root.join(name)].0.kind.clone();
    assert_eq!(kind("link"), NodeKind::Symlink { target: b"../nowhere".to_vec() });
    assert_eq!(kind("pipe"), NodeKind::Fifo);
    assert!(matches!(kind("sparse"), NodeKind::File { sparse: true, .. }));
    assert!(matches!(kind("huge"), NodeKind::File { sparse: false, .. }));
    assert!(copy.nodes.contains_key(&root.join("empty")));
    let (first, second) = (&copy.nodes[&root.join("a/1.")].0.meta, &copy.nodes[&root.join("a/b/2.")].0.meta);
    assert_eq!((first.links, first.device, first.inode), (2, second.device, second.inode));
    if has_xattrs {
        let (ReadOutcome::Read { node, .. }, _) = &copy.outcomes[&root.join("zero")] else { panic!() };
        assert_eq!(node.meta.xattrs, [(b"user.test".to_vec(), b"value".to_vec())]);
    }
    let ended = copy.ended.unwrap();
    assert_eq!(ended.bytes_read, (large.len() + huge.len() + (3 << 20) + 2 * 17) as u64);
    assert!(ended.users.contains(&(0, "root".to_owned())));
    // From the root down, nothing beside the way.
    assert!(copy.nodes.keys().all(|path| root.starts_with(path) || path.starts_with(&root)));
}

#[test]
fn directories_of_many_entries_come_in_pieces_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("many");
    fs::create_dir(&root).unwrap();
    for number in 0..5000 {
        fs::write(root.join(format!("{number}.")), number.to_string()).unwrap();
    }
    // Not every file system of a test machine has user attributes.
    let mut has_xattrs = true;
    for number in 0..1500 {
        let folder = root.join(format!("d{number}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("1."), "x").unwrap();
        let value = number.to_string();
        let flags = rustix::fs::XattrFlags::empty();
        has_xattrs &= rustix::fs::setxattr(&folder, "user.number", value.as_bytes(), flags).is_ok();
    }
    let copy = copy(&dir.path().join("state"), &source(&[&root], ""));
    assert_eq!(copy.outcomes.len(), 6500);
    for number in 0..5000 {
        assert_eq!(copy.bytes(&root.join(format!("{number}."))), number.to_string().as_bytes());
    }
    // Some of them are open when they are looked at, the others are not.
    for number in (0..1500).filter(|_| has_xattrs) {
        let xattrs = &copy.nodes[&root.join(format!("d{number}"))].0.meta.xattrs;
        assert_eq!(*xattrs, [(b"user.number".to_vec(), number.to_string().into_bytes())], "d{number}");
    }
}

#[test]
fn a_root_behind_links_is_taken_with_the_links() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    fs::create_dir_all(base.join("disk2/spool/cyrus")).unwrap();
    fs::write(base.join("disk2/spool/cyrus/x.tmp"), "").unwrap();
    fs::write(base.join("disk2/spool/cyrus/1."), "mail").unwrap();
    symlink("disk2/spool", base.join("spool")).unwrap();
    let copy = copy(&base.join("state"), &source(&[&base.join("spool/cyrus")], "exclude=[\"*.tmp\"]"));
    assert_eq!(copy.bytes(&base.join("disk2/spool/cyrus/1.")), b"mail");
    assert!(matches!(copy.nodes[&base.join("spool")].0.kind, NodeKind::Symlink { .. }));
    assert!(!copy.nodes.contains_key(&base.join("disk2/spool/cyrus/x.tmp")));
}

#[test]
fn a_file_that_vanishes_or_turns_into_something_else_is_said_to() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("r");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("gone"), "1").unwrap();
    fs::write(root.join("link"), "2").unwrap();
    fs::write(root.join("stays"), "3").unwrap();
    let agent = Agent::start(&dir.path().join("state"));
    agent.configure(&source(&[&root], ""));
    agent.send(ToAgent::BeginPass(mailkeep_link::message::BeginPass { number: 1, is_final: false }));
    let mut outcomes = Vec::new();
    loop {
        match agent.receive().unwrap() {
            ToBox::Entries(entries) => {
                let files: Vec<u32> = (entries.first..)
                    .zip(&entries.nodes)
                    .filter(|(_, node)| node.is_file())
                    .map(|(index, _)| index)
                    .collect();
                if !files.is_empty() {
                    fs::remove_file(root.join("gone")).unwrap();
                    fs::remove_file(root.join("link")).unwrap();
                    symlink("/etc/passwd", root.join("link")).unwrap();
                }
                let (directory, first) = (entries.directory, entries.first);
                agent.send(ToAgent::Want(mailkeep_link::message::Want { directory, first, files }));
            }
            ToBox::Chunks(chunks) => {
                let (file, first) = (chunks.file, chunks.first);
                agent.send(ToAgent::Need(mailkeep_link::message::Need { file, first, chunks: vec![] }));
            }
            ToBox::FileDone(done) => outcomes.push((done.file.index, done.outcome)),
            ToBox::PassEnded(_) => break,
            _ => {}
        }
    }
    outcomes.sort_by_key(|(index, _)| *index);
    assert_eq!(outcomes[0].1, ReadOutcome::Vanished);
    assert_eq!(outcomes[1].1, ReadOutcome::Vanished);
    assert!(matches!(outcomes[2].1, ReadOutcome::Read { steady: true, .. }));
    agent.goodbye();
}

#[test]
fn a_missing_root_ends_the_run_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start(&dir.path().join("state"));
    let text = source(&[&dir.path().join("not-mounted")], "");
    agent.send(ToAgent::Configure(mailkeep_link::message::Configure { source: text }));
    let ToBox::Failed(failed) = agent.receive().unwrap() else { panic!() };
    assert!(failed.what.contains("not-mounted") && failed.what.contains("mounted"), "{}", failed.what);
    assert_eq!(failed.exit_code, 75);
    assert_eq!(agent.end(), Some(75));
}
