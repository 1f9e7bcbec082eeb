//! Every storage keeps the promises that stand at the trait.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use mailkeep_repository::storage::{LockKind, PoisonStorage, Window};
use mailkeep_repository::{LocalStorage, MemoryStorage, Storage};

fn write(storage: &dyn Storage, path: &str, bytes: &[u8]) {
    let mut file = storage.create(path).unwrap();
    // In two pieces: appending is what it says.
    let (one, two) = bytes.split_at(bytes.len() / 2);
    file.append(one).unwrap();
    file.append(two).unwrap();
    file.sync().unwrap();
}

fn read(storage: &dyn Storage, path: &str) -> Vec<u8> {
    let file = storage.open(path).unwrap();
    let mut bytes = vec![0; file.length() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn names(storage: &dyn Storage, path: &str) -> Vec<String> {
    storage.list(path).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn conforms(storage: &dyn Storage) {
    // Folders.
    storage.make_dir("a").unwrap();
    storage.make_dir("a/b").unwrap();
    assert!(storage.make_dir("a").unwrap_err().is_already_there());
    assert!(storage.make_dir("x/y").unwrap_err().is_not_found());
    assert!(storage.list("x").unwrap_err().is_not_found(), "a missing folder is no empty one");
    assert_eq!(storage.list("a/b").unwrap(), []);
    for path in ["", "a", "a/b"] {
        storage.sync_dir(path).unwrap();
    }
    assert!(storage.sync_dir("x").is_err());
    // Files are made once.
    write(storage, "a/one", b"first contents");
    assert!(storage.create("a/one").err().unwrap().is_already_there());
    assert_eq!(read(storage, "a/one"), b"first contents");
    assert!(storage.create("x/one").err().unwrap().is_not_found());
    write(storage, "a/empty", b"");
    assert_eq!(read(storage, "a/empty"), b"");
    // Listing: sorted, with lengths and kinds.
    write(storage, "a/a-file", &[7; 1000]);
    let entries = storage.list("a").unwrap();
    let seen: Vec<_> =
        entries.iter().map(|entry| (entry.name.as_str(), entry.length, entry.directory)).collect();
    assert_eq!(seen, [("a-file", 1000, false), ("b", 0, true), ("empty", 0, false), ("one", 14, false)]);
    // Reading.
    let file = storage.open("a/one").unwrap();
    let mut piece = [0; 8];
    file.read_at(6, &mut piece).unwrap();
    assert_eq!(&piece, b"contents");
    let past = file.read_at(7, &mut piece).unwrap_err();
    assert_eq!(past.source.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(file.read_at(u64::MAX - 3, &mut piece).is_err());
    assert!(storage.open("a/none").err().unwrap().is_not_found());
    assert!(storage.open("a/b").is_err(), "a folder is no file");
    // A rename never replaces.
    write(storage, "a/two", b"second");
    assert!(storage.rename("a/two", "a/one").unwrap_err().is_already_there());
    assert_eq!((read(storage, "a/one").len(), read(storage, "a/two")), (14, b"second".to_vec()));
    storage.rename("a/two", "a/b/two").unwrap();
    assert_eq!(read(storage, "a/b/two"), b"second");
    assert!(storage.open("a/two").err().unwrap().is_not_found());
    assert!(storage.rename("a/none", "a/b/none").unwrap_err().is_not_found());
    // Dropping the cache changes nothing that can be seen.
    storage.drop_cache("a/b/two").unwrap();
    assert_eq!(read(storage, "a/b/two"), b"second");
    // Nor does reading past it, wherever a piece begins and ends.
    let long: Vec<u8> = (0..30_000u32).map(|at| (at * 7 % 251) as u8).collect();
    write(storage, "a/long", &long);
    let past = storage.open_past_cache("a/long").unwrap();
    assert_eq!(past.length(), 30_000);
    let mut window = Window::new();
    let pieces =
        [(0, 30_000), (0, 1), (4095, 2), (4096, 4096), (1, 8191), (29_999, 1), (20_480, 9520), (30_000, 0)];
    for (from, length) in pieces {
        let wanted = &long[from..from + length];
        assert_eq!(past.read_window(from as u64, length, &mut window).unwrap(), wanted, "{from} {length}");
        let mut buffer = vec![0; length];
        past.read_at(from as u64, &mut buffer).unwrap();
        assert_eq!(buffer, wanted, "{from} {length}");
        let plain = storage.open("a/long").unwrap();
        assert_eq!(plain.read_window(from as u64, length, &mut window).unwrap(), wanted, "{from} {length}");
    }
    for (from, length) in [(29_999, 2), (0, 30_001), (40_000, 1), (30_720, 1)] {
        let ended = past.read_window(from, length, &mut window).unwrap_err();
        assert_eq!(ended.source.kind(), std::io::ErrorKind::UnexpectedEof, "{from} {length}");
    }
    assert!(storage.open_past_cache("a/none").err().unwrap().is_not_found());
    assert!(storage.open_past_cache("a/b").is_err(), "a folder is no file");
    storage.remove("a/long").unwrap();
    past.read_window(5, 100, &mut window).unwrap();
    storage.flush_device().unwrap();
    // Removing; an open file stays readable.
    storage.remove("a/one").unwrap();
    assert!(storage.remove("a/one").unwrap_err().is_not_found());
    file.read_at(6, &mut piece).unwrap();
    assert_eq!(&piece, b"contents");
    assert_eq!(names(storage, "a"), ["a-file", "b", "empty"]);
    // Locks.
    let exclusive = storage.lock("lock", LockKind::Exclusive).unwrap().unwrap();
    assert!(storage.lock("lock", LockKind::Exclusive).unwrap().is_none());
    assert!(storage.lock("lock", LockKind::Shared).unwrap().is_none());
    drop(exclusive);
    let one = storage.lock("lock", LockKind::Shared).unwrap().unwrap();
    let two = storage.lock("lock", LockKind::Shared).unwrap().unwrap();
    assert!(storage.lock("lock", LockKind::Exclusive).unwrap().is_none());
    drop(one);
    assert!(storage.lock("lock", LockKind::Exclusive).unwrap().is_none());
    drop(two);
    drop(storage.lock("lock", LockKind::Exclusive).unwrap().unwrap());
    assert!(storage.free_space().unwrap() > 0);
}

#[test]
fn memory_conforms() {
    conforms(&MemoryStorage::new());
}

#[test]
fn a_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(&LocalStorage::open(folder.path()).unwrap());
    conforms(&LocalStorage::prepare(&folder.path().join("made")).unwrap());
    assert!(LocalStorage::open(&folder.path().join("absent")).unwrap_err().is_not_found());
    assert!(LocalStorage::prepare(&folder.path().join("no/parent")).is_err());
}

#[test]
fn what_is_read_past_the_cache_is_what_the_device_has() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(folder.path()).unwrap();
    let written = vec![3; 10_000];
    write(&storage, "file", &written);
    // Changed behind its back, and not synced: still the newest bytes, whichever way they come.
    std::fs::write(folder.path().join("file"), vec![4; 10_000]).unwrap();
    let mut window = Window::new();
    let past = storage.open_past_cache("file").unwrap();
    assert_eq!(past.read_window(0, 10_000, &mut window).unwrap(), vec![4; 10_000]);
}

#[test]
fn after_the_first_failure_the_poison_wrapper_writes_nothing_and_still_reads() {
    let disk = MemoryStorage::new();
    let storage = PoisonStorage::new(Arc::new(disk.clone()));
    write(&storage, "kept", b"kept");
    let mut open = storage.create("open").unwrap();
    disk.set_capacity(Some(6));
    assert!(open.append(b"too much").unwrap_err().is_full());
    disk.set_capacity(None);
    let before = disk.files();
    // Whoever asks is told what happened first.
    let again = open.append(b"x").unwrap_err();
    assert!(again.is_full() && again.path.contains("open") && open.sync().unwrap_err().is_full(), "{again}");
    assert!(storage.create("new").is_err() && storage.make_dir("new").is_err());
    assert!(storage.rename("kept", "moved").is_err() && storage.remove("kept").is_err());
    assert!(storage.sync_dir("").is_err() && storage.flush_device().is_err());
    assert_eq!(disk.files(), before);
    assert_eq!(read(&storage, "kept"), b"kept");
    assert!(storage.first_failure().unwrap().contains("open"));
    let other = PoisonStorage::new(Arc::new(disk.clone()));
    let missing = other.rename("missing", "there").unwrap_err();
    assert!(missing.is_not_found() && !other.remove("kept").unwrap_err().is_not_found(), "no answer");
}

#[test]
fn a_link_on_a_hostile_disk_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("disk"), folder.path().join("outside"));
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let storage = LocalStorage::prepare(&inside).unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("packs")).unwrap();
    std::os::unix::fs::symlink(outside.join("secret"), inside.join("label")).unwrap();
    assert!(storage.open("label").is_err() && storage.open("packs/secret").is_err());
    assert!(storage.open_past_cache("label").is_err() && storage.open_past_cache("packs/secret").is_err());
    assert!(storage.list("packs").is_err() && storage.open("../outside/secret").is_err());
    assert!(storage.create("packs/new").is_err() && storage.create("label").is_err());
    assert!(storage.remove("packs/secret").is_err());
    assert!(storage.lock("label", LockKind::Exclusive).is_err());
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_crash_of_the_memory_disk_keeps_what_was_synced_and_may_lose_all_else() {
    let disk = MemoryStorage::new();
    disk.make_dir("folder").unwrap();
    disk.sync_dir("").unwrap();
    write(&disk, "folder/durable", &[1; 5000]);
    disk.sync_dir("folder").unwrap();
    write(&disk, "folder/unnamed", &[2; 5000]);
    let mut open = disk.create("folder/open").unwrap();
    disk.sync_dir("folder/").unwrap();
    open.append(&[3; 5000]).unwrap();
    write(&disk, "folder/late", &[4; 5000]);
    disk.remove("folder/unnamed").unwrap();
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let files = disk.crash(seed).files();
        assert_eq!(files["folder/durable"], [1; 5000], "seed {seed}");
        let open = &files["folder/open"];
        assert!(open.len() <= 5000 && open.iter().all(|byte| [0, 3].contains(byte)));
        torn += usize::from(open.contains(&0) && open.contains(&3));
        match files.get("folder/late") {
            Some(bytes) => {
                assert_eq!(bytes, &[4; 5000], "its bytes were synced, only its name was not");
                kept += 1;
            }
            None => lost += 1,
        }
    }
    assert!(lost > 50 && kept > 50 && torn > 50, "{lost} lost, {kept} kept, {torn} torn");
    assert_eq!(disk.crash(0).files().get("folder/late"), None);
    assert_eq!(disk.crash(1).files(), disk.files());
}
