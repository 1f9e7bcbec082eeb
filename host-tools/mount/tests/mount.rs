//! A real mount, where FUSE is to be had: what programs see, damage, unmounting.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirEntryExt, FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use mailkeep_mount::{MountError, MountOptions, Mounted, News, Snapshot, Unmounter, mount};
use mailkeep_restorer::format::{ChunkRef, Meta, Node, NodeKind, Timestamp};
use mailkeep_restorer::{Contents, ContentsError, Expected, MemoryContents, Nodes, View};
use tempfile::TempDir;

/// Longer than any machine stalls.
const HANG: Duration = Duration::from_secs(300);

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
    mounted_with(point, contents, root, None)
}

fn mounted_with(
    point: &Path,
    contents: &Arc<MemoryContents>,
    root: &[ChunkRef],
    news: Option<News>,
) -> Option<Mounting> {
    if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
        return None;
    }
    let view = View::new(Arc::clone(contents) as _, contents.put_tree(&[]).unwrap());
    let older =
        Snapshot { id: "aaaa1111".repeat(8), time: 1_700_000_000, has_mail: false, view: view.clone() };
    let newer = Snapshot {
        id: "aaaa2222".repeat(8),
        time: 1_700_100_000,
        has_mail: false,
        view: view.sibling(root.to_vec()),
    };
    Some(Mounting(Some(mount(point, vec![older, newer], news, MountOptions::default()).unwrap())))
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
fn latest_leads_to_the_newest_also_when_that_changes() {
    let (contents, root, _) = contents();
    let point = TempDir::new().unwrap();
    let view = View::new(Arc::clone(&contents) as _, root.clone());
    let third = Snapshot { id: "eeee6666".repeat(8), time: 1_700_300_000, has_mail: false, view };
    let came = Arc::new(Mutex::new(None));
    let news = Arc::clone(&came);
    let news: News = Box::new(move || news.lock().unwrap().take());
    let Some(mounted) = mounted_with(point.path(), &contents, &root, Some(news)) else { return };
    let latest = point.path().join("latest");
    let leads_to = || fs::read_link(&latest).unwrap().into_os_string().into_string().unwrap();
    // Often enough for the kernel to know it by heart.
    for _ in 0..100 {
        assert_eq!(leads_to(), format!("snapshots/{}", "aaaa2222".repeat(8)));
        assert_eq!(fs::read(latest.join("spool/one")).unwrap(), b"linked");
    }
    assert_eq!(fs::symlink_metadata(&latest).unwrap().mtime(), 1_700_100_000);
    *came.lock().unwrap() = Some(vec![third]);
    let start = Instant::now();
    while leads_to() != format!("snapshots/{}", "eeee6666".repeat(8)) {
        assert!(start.elapsed() < HANG, "it leads to the old one still");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::symlink_metadata(&latest).unwrap().mtime(), 1_700_300_000);
    assert_eq!(fs::read(latest.join("spool/one")).unwrap(), b"linked");
    mounted.unmounter().unmount().unwrap();
    mounted.wait().unwrap();
}

#[test]
fn a_mount_point_that_is_no_folder_is_told_in_one_line() {
    let folder = TempDir::new().unwrap();
    for bad in [folder.path().join("missing"), {
        let file = folder.path().join("file");
        fs::write(&file, b"x").unwrap();
        file
    }] {
        let error = mount(&bad, Vec::new(), None, MountOptions::default()).unwrap_err().to_string();
        assert!(error.contains("is not a folder that can be mounted on"), "{error}");
    }
}

/// A mailbox `user.john.Sent` of five messages as a real Cyrus wrote its index, the third of them damaged.
fn mail() -> (Arc<MemoryContents>, Vec<ChunkRef>) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../firmware/mail/tests/data/cyrus-3.6.1");
    let data = |name: &str| fs::read(data.join(name)).unwrap();
    let contents = Arc::new(MemoryContents::default());
    let mut nodes: Vec<Node> = [364, 490, 553, 229, 292]
        .iter()
        .zip(1..)
        .map(|(size, uid): (&usize, usize)| {
            file(&contents, &format!("{uid}."), format!("{uid}").repeat(*size).as_bytes())
        })
        .collect();
    contents.lose(&nodes[2].content()[0]);
    nodes.push(file(&contents, "cyrus.header", &data("sent.header")));
    nodes.push(file(&contents, "cyrus.index", &data("sent-v16.index")));
    let sent = folder(&contents, "x8mlat5jn4vvp7cvv1xblpjn", &nodes);
    let spool = folder(&contents, "spool", &[sent]);
    (Arc::clone(&contents), contents.put_tree(&[spool]).unwrap())
}

/// Contents of which one piece is handed out only when a test says so, as from a disk that takes its time.
struct Slow {
    inner: Arc<MemoryContents>,
    slow: ChunkRef,
    /// Whether somebody waits for it, and whether he may have it.
    gate: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Slow {
    fn set(&self, change: impl FnOnce(&mut (bool, bool))) {
        change(&mut self.gate.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(&(bool, bool)) -> bool) {
        let gate = self.gate.lock().unwrap();
        let (_gate, timeout) = self.changed.wait_timeout_while(gate, HANG, |gate| !until(gate)).unwrap();
        assert!(!timeout.timed_out(), "nobody came");
    }
}

impl Contents for Slow {
    fn tree(&self, content: &[ChunkRef]) -> Result<Vec<Node>, ContentsError> {
        self.inner.tree(content)
    }

    fn nodes<'a>(&'a self, content: &[ChunkRef]) -> Nodes<'a> {
        self.inner.nodes(content)
    }

    fn chunk(&self, chunk: &ChunkRef, take: &mut dyn FnMut(&[u8])) -> Result<(), ContentsError> {
        if *chunk == self.slow {
            self.set(|gate| gate.0 = true);
            self.wait(|gate| gate.1);
        }
        self.inner.chunk(chunk, take)
    }
}

#[test]
fn who_waits_for_mail_holds_up_nobody_who_reads_files() {
    let (inner, root) = mail();
    let view = View::new(Arc::clone(&inner) as _, root.clone());
    let at = |path: &[u8]| view.lookup(path).unwrap();
    let slow = at(b"/spool/x8mlat5jn4vvp7cvv1xblpjn/cyrus.header").content()[0];
    let contents = Arc::new(Slow { inner, slow, gate: Mutex::default(), changed: Condvar::new() });
    let view = View::new(Arc::clone(&contents) as _, root);
    let point = TempDir::new().unwrap();
    if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
        return;
    }
    let snapshot = Snapshot { id: "cccc4444".repeat(8), time: 1_700_000_000, has_mail: true, view };
    let mounting =
        Mounting(Some(mount(point.path(), vec![snapshot], None, MountOptions::default()).unwrap()));
    let latest = point.path().join("latest");
    // More of them than there are threads for it.
    let waiting: Vec<_> = (0..9)
        .map(|_| {
            let mail = latest.join("mail");
            std::thread::spawn(move || fs::read_dir(mail).map(Iterator::count))
        })
        .collect();
    contents.wait(|gate| gate.0);
    let (done, told) = std::sync::mpsc::channel();
    let spool = latest.join("spool");
    std::thread::spawn(move || {
        let names = fs::read_dir(&spool).unwrap().count();
        let bytes = fs::read(spool.join("x8mlat5jn4vvp7cvv1xblpjn/5.")).unwrap().len();
        done.send((names, bytes)).unwrap();
    });
    let read = told.recv_timeout(HANG);
    contents.set(|gate| gate.1 = true);
    assert_eq!(read.ok(), Some((1, 292)), "a file had to wait for the mail tree");
    for waiting in waiting {
        assert_eq!(waiting.join().unwrap().unwrap(), 1);
    }
    mounting.unmounter().unmount().unwrap();
    mounting.wait().unwrap();
}

/// Contents that note what is asked for, and hand out what is read ahead only when a test says so.
struct Noted {
    inner: Arc<MemoryContents>,
    noted: Mutex<Notes>,
    changed: Condvar,
}

#[derive(Default)]
struct Notes {
    /// What was asked for by reading ahead, and by whoever waits for it.
    ahead: HashSet<ChunkRef>,
    alone: HashSet<ChunkRef>,
    is_held: bool,
}

impl Noted {
    fn wait(&self, until: impl Fn(&Notes) -> bool) -> MutexGuard<'_, Notes> {
        let notes = self.noted.lock().unwrap();
        let (notes, timeout) = self.changed.wait_timeout_while(notes, HANG, |notes| !until(notes)).unwrap();
        assert!(!timeout.timed_out(), "it did not come");
        notes
    }
}

impl Contents for Noted {
    fn tree(&self, content: &[ChunkRef]) -> Result<Vec<Node>, ContentsError> {
        self.inner.tree(content)
    }

    fn nodes<'a>(&'a self, content: &[ChunkRef]) -> Nodes<'a> {
        self.inner.nodes(content)
    }

    fn chunk(&self, chunk: &ChunkRef, take: &mut dyn FnMut(&[u8])) -> Result<(), ContentsError> {
        self.noted.lock().unwrap().alone.insert(*chunk);
        self.inner.chunk(chunk, take)
    }

    fn fetch(&self, _: &Expected, chunks: &[ChunkRef], indexes: &[u32], take: &mut dyn FnMut(u32, &[u8])) {
        self.noted.lock().unwrap().ahead.extend(indexes.iter().map(|index| chunks[*index as usize]));
        self.changed.notify_all();
        drop(self.wait(|notes| !notes.is_held));
        for index in indexes {
            let _ = self.inner.chunk(&chunks[*index as usize], &mut |bytes| take(*index, bytes));
        }
    }
}

fn body(number: usize) -> Vec<u8> {
    format!("mail {number}\r\n").repeat(1500).into_bytes()
}

/// A mount of folders with mails in order, of which one is damaged; `None` on a machine without FUSE. With it a piece of
/// each mail.
fn noted(point: &Path, folders: &[&str], count: usize) -> Option<(Mounting, Arc<Noted>, Vec<ChunkRef>)> {
    if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
        return None;
    }
    let inner = Arc::new(MemoryContents::default());
    let (mut chunks, mut shown) = (Vec::new(), Vec::new());
    for (at, name) in folders.iter().enumerate() {
        let mail = |number| file(&inner, &format!("{number:03}."), &body(at * count + number));
        let mails: Vec<Node> = (0..count).map(mail).collect();
        chunks.extend(mails.iter().map(|mail| mail.content()[0]));
        shown.push(folder(&inner, name, &mails));
    }
    inner.lose(&chunks[33]);
    let folders = shown;
    let root = inner.put_tree(&[folder(&inner, "spool", &folders)]).unwrap();
    let contents = Arc::new(Noted { inner, noted: Mutex::default(), changed: Condvar::new() });
    let view = View::new(Arc::clone(&contents) as _, root);
    let snapshot = Snapshot { id: "dddd5555".repeat(8), time: 1_700_000_000, has_mail: false, view };
    let mounting = mount(point, vec![snapshot], None, MountOptions::default()).unwrap();
    Some((Mounting(Some(mounting)), contents, chunks))
}

fn is_damage(read: &std::io::Result<Vec<u8>>) -> bool {
    let number = read.as_ref().err().and_then(std::io::Error::raw_os_error);
    number == Some(rustix::io::Errno::IO.raw_os_error())
}

#[test]
fn who_asks_for_what_is_being_made_ready_waits_for_it_and_damage_is_damage_still() {
    let point = TempDir::new().unwrap();
    let Some((mounting, contents, chunks)) = noted(point.path(), &["a"], 60) else { return };
    let folder = point.path().join("latest/spool/a");
    let read = move |number: usize| fs::read(folder.join(format!("{number:03}.")));
    contents.noted.lock().unwrap().is_held = true;
    for number in 0..3 {
        assert!(read(number).unwrap() == body(number));
    }
    // The first batch is begun with, and so is the second one.
    drop(contents.wait(|notes| notes.ahead.contains(&chunks[3])));
    let waiting: Vec<_> = [5, 4, 33, 7, 5]
        .into_iter()
        .map(|number| {
            let read = read.clone();
            std::thread::spawn(move || (number, read(number)))
        })
        .collect();
    // Somebody else, at another place, has nothing to do with it.
    assert!(read(59).unwrap() == body(59));
    contents.noted.lock().unwrap().is_held = false;
    contents.changed.notify_all();
    for waiting in waiting {
        let (number, read) = waiting.join().unwrap();
        match number {
            33 => assert!(is_damage(&read), "{read:?}"),
            _ => assert!(read.unwrap() == body(number), "{number}"),
        }
    }
    let alone = contents.noted.lock().unwrap().alone.clone();
    let told: Vec<usize> = (0..60).filter(|number| alone.contains(&chunks[*number])).collect();
    assert_eq!(told, [0, 1, 2, 33, 59], "somebody did by himself what was under way");
    mounting.unmounter().unmount().unwrap();
    mounting.wait().unwrap();
}

#[test]
fn who_is_done_with_a_folder_finds_the_next_one_begun_with() {
    let point = TempDir::new().unwrap();
    let Some((mounting, contents, chunks)) = noted(point.path(), &["a", "b", "c"], 40) else { return };
    let spool = point.path().join("latest/spool");
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 3);
    for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
        // Before anybody has asked for anything in it.
        drop(contents.wait(|notes| at == 0 || notes.ahead.contains(&chunks[at * 40])));
        for number in 0..40 {
            let read = fs::read(spool.join(name).join(format!("{number:03}.")));
            match at * 40 + number {
                33 => assert!(is_damage(&read), "{read:?}"),
                mail => assert!(read.unwrap() == body(mail), "{mail}"),
            }
        }
    }
    assert!(!contents.noted.lock().unwrap().alone.contains(&chunks[50]));
    mounting.unmounter().unmount().unwrap();
    mounting.wait().unwrap();
}

#[test]
fn who_goes_through_a_folder_finds_ready_what_comes_next_and_damage_is_damage_still() {
    let point = TempDir::new().unwrap();
    let Some((mounting, contents, chunks)) = noted(point.path(), &["a"], 600) else { return };
    let folder = point.path().join("latest/spool/a");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 600);
    let read = |number: usize| fs::read(folder.join(format!("{number:03}.")));
    // Somebody who looks at this and that is not read ahead of: the thread that would do it has nothing to do.
    for number in [500, 100, 300, 200, 400] {
        assert!(read(number).unwrap() == body(number));
    }
    assert!(contents.noted.lock().unwrap().ahead.is_empty());
    for number in 0..4 {
        assert!(read(number).unwrap() == body(number));
    }
    let notes = contents.wait(|notes| notes.ahead.contains(&chunks[20]));
    assert!(!notes.ahead.contains(&chunks[599]), "a window has an end");
    drop(notes);
    for number in 0..600 {
        match read(number) {
            Ok(bytes) => assert!(number != 33 && bytes == body(number), "{number}"),
            read => assert!(number == 33 && is_damage(&read), "{number}: {read:?}"),
        }
    }
    mounting.unmounter().unmount().unwrap();
    mounting.wait().unwrap();
}

#[test]
fn a_folder_tells_of_its_files_what_looking_them_up_tells() {
    let (contents, root, _) = contents();
    let told = |by_listing: bool| {
        let point = TempDir::new().unwrap();
        let mounted = mounted(point.path(), &contents, &root)?;
        let mut all = Vec::new();
        for (folder, names) in [
            ("", vec!["empty", "large", "link", "many", "null", "one", "pipe", "two"]),
            ("many", vec!["00000.", "01234.", "02999."]),
        ] {
            let folder = point.path().join("latest/spool").join(folder);
            let mut numbers = HashMap::new();
            if by_listing {
                for entry in fs::read_dir(&folder).unwrap() {
                    let entry = entry.unwrap();
                    numbers.insert(entry.file_name().into_string().unwrap(), entry.ino());
                }
            }
            for name in names {
                let meta = fs::symlink_metadata(folder.join(name)).unwrap();
                assert!(numbers.get(name).is_none_or(|number| *number == meta.ino()), "{name}");
                let owner = (meta.uid(), meta.gid(), meta.mode(), meta.nlink(), meta.rdev());
                all.push((name, meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), owner));
            }
        }
        mounted.unmounter().unmount().unwrap();
        mounted.wait().unwrap();
        Some(all)
    };
    assert_eq!(told(true), told(false));
}

#[test]
fn mail_is_shown_as_people_know_it_and_damage_costs_one_message() {
    let (contents, root) = mail();
    let view = View::new(Arc::clone(&contents) as _, root);
    let point = TempDir::new().unwrap();
    let mut news = Some(Snapshot { id: "bbbb3333".repeat(8), time: 1_700_200_000, has_mail: true, view });
    let news: News = Box::new(move || news.take().map(|snapshot| vec![snapshot]));
    let empty = contents.put_tree(&[]).unwrap();
    let Some(mounted) = mounted_with(point.path(), &contents, &empty, Some(news)) else { return };
    let names = |path: &str| {
        let entries = fs::read_dir(point.path().join(path)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    // The snapshots of before are gone from the list, and the new one is there.
    assert_eq!(names("snapshots"), ["bbbb3333".repeat(8)]);
    assert_eq!(names("latest"), ["mail", "spool"]);
    assert_eq!(names("latest/mail"), ["user"]);
    assert_eq!(names("latest/mail/user/john"), ["Sent"]);
    assert_eq!(names("latest/mail/user/john/Sent"), ["1.eml", "2.eml", "3.eml", "4.eml", "5.eml"]);
    let sent = point.path().join("latest/mail/user/john/Sent");
    assert_eq!(fs::read(sent.join("5.eml")).unwrap(), "5".repeat(292).as_bytes());
    let meta = fs::metadata(sent.join("1.eml")).unwrap();
    assert_eq!((meta.len(), meta.mtime(), meta.mode() & 0o777), (364, 1_600_950_400, 0o640));
    let flags = |name: &str| {
        let mut value = [0u8; 64];
        let length = rustix::fs::getxattr(sent.join(name), "user.mailkeep.flags", &mut value[..]).unwrap();
        String::from_utf8(value[..length].to_vec()).unwrap()
    };
    assert_eq!(flags("1.eml"), "\\Seen Work $Junk");
    assert_eq!(flags("3.eml"), "\\Flagged");
    let error = fs::read(sent.join("3.eml")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    for missing in ["6.eml", "01.eml", "1", "Trash"] {
        assert_eq!(fs::metadata(sent.join(missing)).unwrap_err().kind(), ErrorKind::NotFound, "{missing}");
    }
    assert_eq!(fs::write(sent.join("1.eml"), b"x").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    mounted.unmounter().unmount().unwrap();
    mounted.wait().unwrap();
}
