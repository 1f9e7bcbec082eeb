//! The real engine and real repositories. Hazards: a foreign disk that is taken for ours, a look that changes a
//! disk, a box without its key, a disk that lost confirmed writes.
#![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};

use mailkeep_appliance::disk_set::DiskSet;
use mailkeep_appliance::disks::{DiskOrder, serve};
use mailkeep_appliance::engine::Engine;
use mailkeep_appliance::inbound::What;
use mailkeep_appliance::pull_engine::PullEngine;
use mailkeep_board::disk::{Access, Medium};
use mailkeep_controller::disk::Insertion;
use mailkeep_controller::{Event, Identity};
use mailkeep_repository::format::Identity as KeyIdentity;
use mailkeep_repository::format::manifest::{SourceInfo, Stats};
use mailkeep_repository::{
    Draft, Encryption, InitOptions, KeySource, LocalStorage, LogMonitor, Repository, WriterOptions,
};

fn init(folder: &Path, encryption: Encryption) {
    let storage = Arc::new(LocalStorage::prepare(folder).unwrap());
    Repository::init(storage, &InitOptions { label: "disk".into(), encryption }).unwrap();
}

fn seal(repository: &Repository) {
    let mut writer = repository.writer(&WriterOptions::default(), &LogMonitor).unwrap();
    let root = writer.put_tree(&[]).unwrap();
    let draft = Draft {
        program: "test".into(),
        source: SourceInfo { name: "tree".into(), system: "generic".into(), host: "here".into() },
        started: 1_780_000_000,
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

fn new_key(file: &Path) -> KeyIdentity {
    let key = KeyIdentity::generate();
    std::fs::write(file, key.to_text().as_bytes()).unwrap();
    key
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_disk_is_ours_only_if_our_key_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let ours = new_key(&path("box.key"));
    let theirs = new_key(&path("other.key"));
    init(&path("ours"), Encryption::Wrapped { box_key: ours });
    init(&path("theirs"), Encryption::Wrapped { box_key: theirs });
    init(&path("plain"), Encryption::Plain);
    std::fs::create_dir(path("empty")).unwrap();
    std::fs::create_dir(path("holiday")).unwrap();
    std::fs::write(path("holiday").join("label"), "photos").unwrap();

    let before = contents(folder.path());
    let engine = PullEngine::new(path("box.key"));
    let looked = engine.identify(&path("ours")).unwrap();
    assert_eq!((looked.identity, looked.disk.unwrap().label.as_str()), (Identity::Ours, "disk"));
    // A disk that carries its own key in the clear must not be slipped to a box that encrypts.
    assert_eq!(engine.identify(&path("plain")).unwrap().identity, Identity::Foreign);
    assert_eq!(engine.identify(&path("theirs")).unwrap().identity, Identity::Foreign);
    assert_eq!(engine.identify(&path("empty")).unwrap().identity, Identity::Unknown);
    assert!(!engine.identify(&path("holiday")).is_ok_and(|looked| looked.identity == Identity::Ours));

    let without_key = PullEngine::new(path("no.key"));
    assert_eq!(without_key.identify(&path("ours")).unwrap().identity, Identity::Foreign);
    assert_eq!(without_key.identify(&path("plain")).unwrap().identity, Identity::Ours);
    assert!(before == contents(folder.path()), "a look changed a disk");
}

/// An image with a btrfs that holds our repository; `None` where that can't be had.
fn btrfs_image(folder: &Path, key: KeyIdentity) -> Option<PathBuf> {
    let image = folder.join("disk.img");
    std::fs::File::create(&image).unwrap().set_len(120 << 20).unwrap();
    let made = Command::new("mkfs.btrfs").args(["-q", "-m", "dup"]).arg(&image).output();
    let possible = rustix::process::geteuid().is_root() && made.is_ok_and(|output| output.status.success());
    assert!(possible || std::env::var_os("MAILKEEP_REQUIRE_ALL").is_none_or(|value| value != "1"));
    if !possible {
        return None;
    }
    let mounted = Medium::at(&image).unwrap().mount(&folder.join("made"), Access::Use).unwrap();
    init(&mounted.root().join("mailkeep"), Encryption::Wrapped { box_key: key });
    mounted.unmount().unwrap();
    Some(image)
}

/// Zeroes every copy of the extent tree: nothing that was written is gone, but the disk can't be mounted for writing.
fn smash_extent_tree(image: &Path) {
    let mut bytes = std::fs::read(image).unwrap();
    let id = bytes[(64 << 10) + 32..(64 << 10) + 48].to_vec();
    for at in (0..bytes.len() - (16 << 10)).step_by(4096) {
        if bytes[at + 32..at + 48] == id && bytes[at + 88..at + 96] == 2u64.to_le_bytes() {
            bytes[at..at + (16 << 10)].fill(0);
        }
    }
    std::fs::write(image, bytes).unwrap();
}

fn answers(key: PathBuf, mounts: &Path, orders: Vec<DiskOrder>) -> Vec<String> {
    let (give, take) = mpsc::channel();
    for order in orders {
        give.send(order).unwrap();
    }
    drop(give);
    let said = Mutex::new(Vec::new());
    serve(&PullEngine::new(key), mounts, &take, &|what| said.lock().unwrap().push(format!("{what:?}")));
    said.into_inner().unwrap()
}

#[test]
fn a_disk_of_ours_that_can_only_be_rescued_is_said_to_be_readable_and_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let key = new_key(&path("box.key"));
    let Some(image) = btrfs_image(folder.path(), key) else { return };
    let a = Insertion(1);
    let orders = || vec![DiskOrder::Inspect(a, image.clone()), DiskOrder::Mount(a, image.clone())];
    let well = [orders(), vec![DiskOrder::Eject(a)]].concat();
    let said = answers(path("box.key"), &path("disks"), well);
    assert!(said[0].starts_with("Looked(Insertion(1), Looked { identity: Ours, "), "{}", said[0]);
    assert_eq!(said[1], format!("{:?}", What::Mounted(a, path("disks/1/mailkeep"))));

    smash_extent_tree(&image);
    let before = std::fs::read(&image).unwrap();
    let only_readable = format!("{:?}", What::Event(Event::OnlyReadable(a)));
    assert_eq!(answers(path("box.key"), &path("disks"), orders()), [&*only_readable, &only_readable]);
    // Whoever has no key for it is told that it failed.
    let said = answers(path("no.key"), &path("disks"), orders());
    let failed =
        [Event::InspectFailed(a), Event::MountFailed(a)].map(|event| format!("{:?}", What::Event(event)));
    assert_eq!(said, failed);
    assert!(before == std::fs::read(&image).unwrap(), "the disk was written to");
    assert_eq!(mailkeep_board::disk::clear_stale(folder.path()).unwrap(), 0, "something is still mounted");
}

#[test]
fn a_clone_that_comes_back_is_told_until_a_person_has_settled_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let key = new_key(&path("box.key"));
    init(&path("disk"), Encryption::Wrapped { box_key: key });
    let copy = Command::new("cp").arg("-a").args([path("disk"), path("clone")]).status().unwrap();
    assert!(copy.success());
    std::fs::create_dir(path("state")).unwrap();
    let set = || Arc::new(DiskSet::open(path("state")));
    let engine = |set| PullEngine::new(path("box.key")).remembering(set);
    let id = engine(set()).identify(&path("disk")).unwrap().disk.unwrap().id;
    assert_eq!(set().members()[&id].label, "disk");
    assert!(set().members()[&id].size_bytes.is_some_and(|size| size > 0));

    // A snapshot is sealed on the one, and then the other, which was copied before, is put in.
    let storage = Arc::new(LocalStorage::open(&path("disk")).unwrap());
    let source = KeySource::File(path("box.key"));
    let repository = Repository::open(storage, &source, &LogMonitor).unwrap();
    seal(&repository);
    drop(repository);
    assert_eq!(engine(set()).identify(&path("disk")).unwrap().doubt, None);
    assert_eq!(set().members()[&id].generation, 1);
    let doubt = engine(set()).identify(&path("clone")).unwrap().doubt.unwrap();
    assert!(doubt.contains("went back in time"), "{doubt}");
    assert_eq!(engine(set()).identify(&path("clone")).unwrap().doubt, Some(doubt), "also after a restart");
    assert!(set().trust(&id));
    assert_eq!(engine(set()).identify(&path("clone")).unwrap().doubt, None);
}
