//! A real mount, where FUSE is to be had: what programs see, damage, unmounting.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use mailkeep_mount::{MountError, MountOptions, Mounted, Snapshot, Unmounter, mount};
use mailkeep_restorer::format::{ChunkRef, Meta, Node, NodeKind, Timestamp};
use mailkeep_restorer::{MemoryContents, View};
use tempfile::TempDir;

fn node(name: &str, kind: NodeKind) -> Node {
    let mtime = Timestamp { seconds: -86_400, nanos: 250_000_000 };
    let meta = Meta { mode: 0o640, uid: 4711, gid: 4712, mtime, ctime: mtime, links: 1, ..Meta::default() };
    Node { name: name.as_bytes().to_vec(), meta, kind }
}

fn file(contents: &MemoryContents, name: &str, bytes: &[u8]) -> Node {
    let content = contents.put_file(bytes, 50_000);
    node(name, NodeKind::File { size: bytes.len() as u64, sparse: false, content })
}

fn folder(contents: &MemoryContents, name: &str, nodes: &[Node]) -> Node {
    let content = contents.put_tree(nodes).unwrap();
    let mut folder = node(name, NodeKind::Directory { content });
    folder.meta.mode = 0o755;
    folder
}

fn bytes() -> Vec<u8> {
    (0..300_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A snapshot with every kind of file; and the chunks of `/spool/large`.
fn contents() -> (Arc<MemoryContents>, Vec<ChunkRef>, Vec<ChunkRef>) {
    let contents = Arc::new(MemoryContents::default());
    let large = file(&contents, "large", &bytes());
    let chunks = large.content().to_vec();
    let mut one = file(&contents, "one", b"linked");
    (one.meta.links, one.meta.device, one.meta.inode) = (2, 1, 77);
    one.meta.xattrs = vec![(b"user.note".to_vec(), b"value".to_vec())];
    let two = Node { name: b"two".to_vec(), ..one.clone() };
    let many: Vec<Node> = (0..3000).map(|number| file(&contents, &format!("{number:05}."), b"m")).collect();
    let spool = [
        folder(&contents, "empty", &[]),
        large,
        node("link", NodeKind::Symlink { target: b"large".to_vec() }),
        folder(&contents, "many", &many),
        node("null", NodeKind::CharDevice { major: 1, minor: 3 }),
        one,
        node("pipe", NodeKind::Fifo),
        two,
    ];
    let root = contents.put_tree(&[folder(&contents, "spool", &spool)]).unwrap();
    (contents, root, chunks)
}

/// Takes the mount away also when a test fails.
struct Mounting(Option<Mounted>);

impl Mounting {
    fn unmounter(&self) -> Unmounter {
        self.0.as_ref().unwrap().unmounter()
    }

    fn wait(mut self) -> Result<(), MountError> {
        self.0.take().unwrap().wait()
    }
}

impl Drop for Mounting {
    fn drop(&mut self) {
        if let Some(mounted) = &self.0 {
            let _ = mounted.unmounter().unmount();
        }
    }
}

/// Mounts two snapshots; `None` on a machine without FUSE.
fn mounted(point: &Path, contents: &Arc<MemoryContents>, root: &[ChunkRef]) -> Option<Mounting> {
    if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
        return None;
    }
    let view = View::new(Arc::clone(contents) as _, contents.put_tree(&[]).unwrap());
    let older = Snapshot { id: "aaaa1111".repeat(8), time: 1_700_000_000, view: view.clone() };
    let newer = Snapshot { id: "aaaa2222".repeat(8), time: 1_700_100_000, view: view.sibling(root.to_vec()) };
    Some(Mounting(Some(mount(point, vec![older, newer], MountOptions::default()).unwrap())))
}

#[test]
fn programs_see_the_snapshots_as_they_were() {
    let (contents, root, _) = contents();
    let point = TempDir::new().unwrap();
    let Some(mounted) = mounted(point.path(), &contents, &root) else { return };
    let at = |path: &str| point.path().join(path);
    let names = |path: &str| {
        let mut names: Vec<String> = fs::read_dir(at(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["latest", "snapshots"]);
    assert_eq!(names("snapshots"), ["aaaa1111".repeat(8), "aaaa2222".repeat(8)]);
    assert_eq!(names("latest/spool"), ["empty", "large", "link", "many", "null", "one", "pipe", "two"]);
    assert_eq!(names("snapshots/aaaa2222"), ["spool"]);
    assert_eq!(names("latest/spool/empty"), Vec::<String>::new());
    assert_eq!(names("latest/spool/many").len(), 3000);
    for missing in ["snapshots/aaaa", "snapshots/aaa1", "snapshots/bbbb", "latest/spool/gone"] {
        assert_eq!(fs::metadata(at(missing)).unwrap_err().kind(), ErrorKind::NotFound, "{missing}");
    }

    assert!(fs::read(at("latest/spool/link")).unwrap() == bytes());
    let large = fs::File::open(at("latest/spool/large")).unwrap();
    let mut middle = [0u8; 1000];
    large.read_exact_at(&mut middle, 149_500).unwrap();
    assert!(middle[..] == bytes()[149_500..150_500]);
    let meta = large.metadata().unwrap();
    assert_eq!((meta.len(), meta.mode() & 0o7777, meta.uid(), meta.gid()), (300_000, 0o640, 4711, 4712));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-86_400, 250_000_000));
    let inode = |path: &str| fs::symlink_metadata(at(path)).unwrap().ino();
    assert_eq!(inode("latest/spool/one"), inode("latest/spool/two"));
    assert_eq!(fs::metadata(at("latest/spool/one")).unwrap().nlink(), 2);
    assert_ne!(inode("latest/spool/one"), inode("latest/spool/large"));
    let null = fs::symlink_metadata(at("latest/spool/null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == 0x103);
    let mut value = [0u8; 64];
    let length = rustix::fs::getxattr(at("latest/spool/one"), "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"value");
    assert_eq!(fs::write(at("latest/spool/large"), b"x").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);

    drop(large);
    mounted.unmounter().unmount().unwrap();
    mounted.wait().unwrap();
    assert_eq!(fs::read_dir(point.path()).unwrap().count(), 0);
}

#[test]
fn damage_is_an_error_of_that_file_only_and_unmounting_from_outside_ends_the_session() {
    let (contents, root, chunks) = contents();
    let point = TempDir::new().unwrap();
    let Some(mounted) = mounted(point.path(), &contents, &root) else { return };
    contents.lose(&chunks[3]);
    let large = fs::File::open(point.path().join("latest/spool/large")).unwrap();
    let mut buffer = [0u8; 10];
    let error = large.read_at(&mut buffer, 160_000).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    large.read_exact_at(&mut buffer, 290_000).unwrap();
    assert_eq!(fs::read(point.path().join("latest/spool/one")).unwrap(), b"linked");
    drop(large);
    rustix::mount::unmount(point.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    let unmounter = mounted.unmounter();
    mounted.wait().unwrap();
    unmounter.unmount().unwrap();
}

#[test]
fn a_mount_point_that_is_no_folder_is_told_in_one_line() {
    let folder = TempDir::new().unwrap();
    for bad in [folder.path().join("missing"), {
        let file = folder.path().join("file");
        fs::write(&file, b"x").unwrap();
        file
    }] {
        let error = mount(&bad, Vec::new(), MountOptions::default()).unwrap_err().to_string();
        assert!(error.contains("is not a folder that can be mounted on"), "{error}");
    }
}
