//! Guards on a real btrfs: they are there after a seal, are whole repositories, cost nothing that cannot be had back, and
//! nothing but them is ever deleted.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use btrfsutil::subvolume::{SnapshotFlags, Subvolume};
use common::loops::{Loop, root, run};
use common::*;
use mailkeep_repository::storage::Guarding;
use mailkeep_repository::{
    BoxId, Collected, KeySource, LocalStorage, LogMonitor, Machine, ReadData, Repository, RepositoryError,
    RolledBack, Severity, Storage, VerifyOptions, WriterOptions, plan_roll_back, roll_back, verify,
};

fn made(path: &Path) -> Repository {
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::prepare(path).unwrap());
    init(&storage).unwrap()
}

fn at(path: &Path) -> Repository {
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(path).unwrap());
    open(&storage, &LogMonitor).unwrap()
}

fn guards(repository: &Repository) -> Vec<String> {
    repository.storage().guards().unwrap()
}

fn in_folder(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn is_subvolume(path: &Path) -> bool {
    path.symlink_metadata().unwrap().ino() == 256
}

fn sound(repository: &Repository, days: u64) {
    let report = verify(repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert_eq!(report.problems, []);
    let (entries, _) = snapshots(repository);
    assert_eq!(entries.len() as u64, days);
    assert!(restore(repository, entries.last().unwrap()).unwrap() == source(days - 1));
}

/// A name that a guard of ours could have.
fn name(generation: u64) -> String {
    format!("{generation:010}-abababababababab")
}

#[test]
fn the_repository_is_a_subvolume_and_an_empty_folder_becomes_one() {
    let Some(disk) = Loop::btrfs(130) else { return };
    let path = |name: &str| disk.path().join(name);
    LocalStorage::prepare(&path("new")).unwrap();
    assert!(is_subvolume(&path("new")));

    std::fs::create_dir(path("empty")).unwrap();
    std::fs::set_permissions(path("empty"), std::fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::chown(path("empty"), Some(1234), Some(4321)).unwrap();
    LocalStorage::prepare(&path("empty")).unwrap();
    assert!(is_subvolume(&path("empty")));
    let meta = path("empty").metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o750, 1234, 4321));

    std::fs::create_dir(path("full")).unwrap();
    std::fs::write(path("full").join("mine"), "x").unwrap();
    LocalStorage::prepare(&path("full")).unwrap();
    assert!(!is_subvolume(&path("full")) && path("full/mine").exists());

    std::fs::create_dir(path("aim")).unwrap();
    symlink("aim", path("link")).unwrap();
    LocalStorage::prepare(&path("link")).unwrap();
    assert!(path("link").symlink_metadata().unwrap().is_symlink() && !is_subvolume(&path("aim")));
    // The root of the disk is a subvolume as it is.
    let whole = Loop::btrfs(130).unwrap();
    backup(&made(&whole.path()), &source(0)).unwrap();
    assert_eq!(guards(&at(&whole.path())).len(), 1);
}

#[test]
fn the_last_two_seals_are_guarded_and_every_guard_is_a_repository() {
    let Some(disk) = Loop::btrfs(130) else { return };
    let path = disk.path().join("mailkeep");
    let repository = made(&path);
    for day in 0..4 {
        backup(&repository, &source(day)).unwrap();
        let (entries, monitor) = snapshots(&repository);
        assert_eq!(monitor.problems(), []);
        let expected: Vec<String> = entries
            .iter()
            .rev()
            .take(2)
            .rev()
            .map(|entry| format!("{:010}-{}", entry.manifest.generation, &entry.id.hex()[..16]))
            .collect();
        assert_eq!(guards(&repository), expected);
    }
    assert_eq!(in_folder(&path.join("guards")), guards(&repository), "nothing is left over");
    for (guard, days) in guards(&repository).iter().zip([3, 4]) {
        let guard = path.join("guards").join(guard);
        for absent in ["lock", "lease", "reserve", "guards/0000000003"] {
            assert!(!guard.join(absent).exists(), "{absent}");
        }
        assert_eq!(in_folder(&guard.join("guards")), [""; 0], "no stubs of the other guards");
        sound(&at(&guard), days);
        let error = backup(&at(&guard), &source(9)).unwrap_err();
        assert!(error.to_string().contains("read-only"), "{error}");
        assert_eq!(std::fs::write(guard.join("x"), "x").unwrap_err().raw_os_error(), Some(30));
    }
    // They are there after the next mount, and read-only mounts read them.
    drop(repository);
    disk.unmount().unwrap();
    disk.mount("ro").unwrap();
    assert_eq!(guards(&at(&path)).len(), 2);
    sound(&at(&path.join("guards").join(&guards(&at(&path))[0])), 3);
}

#[test]
fn what_smashes_the_repository_leaves_the_guard_and_it_can_be_gone_back_to() {
    let Some(disk) = Loop::btrfs(130) else { return };
    let path = disk.path().join("mailkeep");
    let repository = made(&path);
    backup(&repository, &source(0)).unwrap();
    backup(&repository, &source(1)).unwrap();
    let newest = guards(&repository).pop().unwrap();
    drop(repository);
    // All of it, labels included.
    assert!(run("rm", &[&"-rf", &path]).is_err(), "rm stops at what is read-only");
    assert!(!path.join("label").exists() && !path.join("packs").exists());
    sound(&at(&path.join("guards").join(&newest)), 2);

    // The label is gone, the key opens the guard all the same.
    let key = KeySource::Identity(box_key());
    let listed = mailkeep_repository::guards(&path, &key).unwrap();
    assert_eq!(listed.last().unwrap().name, newest);
    assert_eq!(listed.last().unwrap().snapshots.as_ref().unwrap().len(), 2);
    let plan = plan_roll_back(&path, &newest, &key).unwrap();
    assert!(plan.broken && plan.lost.is_empty() && plan.regained.len() == 2);
    let back = |name: &str| roll_back(&path, name, &key, &Machine::this(), &LogMonitor);
    let RolledBack { kept, guard } = back(&newest).unwrap();
    assert_eq!(guard, None, "of what is no repository no guard is made");
    assert_eq!(kept, disk.path().join(format!("mailkeep.before-{newest}")));
    assert_eq!(in_folder(disk.path().as_path()), ["mailkeep", kept.file_name().unwrap().to_str().unwrap()]);
    let repository = at(&path);
    sound(&repository, 2);
    assert_eq!(guards(&repository), [""; 0]);
    backup(&repository, &source(2)).unwrap();
    sound(&repository, 3);
    assert_eq!(guards(&repository).len(), 1);
    assert_eq!(in_folder(&kept.join("guards")).len(), 2, "the old guards stay with the old repository");

    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    let error = back(&guards(&repository)[0]).unwrap_err();
    assert_eq!(error.exit_code(), 11, "not under a writer: {error}");
    writer.flush().unwrap();
    drop(writer);
    for absent in [&name(77), "../mailkeep"] {
        assert!(matches!(back(absent), Err(RepositoryError::NoGuard { .. })), "{absent}");
    }
    sound(&at(&path), 3);
}

#[test]
fn going_back_and_forth_loses_nothing_and_minds_other_boxes() {
    let Some(disk) = Loop::btrfs(130) else { return };
    let path = disk.path().join("mailkeep");
    let repository = made(&path);
    (0..3).for_each(|day| drop(backup(&repository, &source(day)).unwrap()));
    let [older, newest] = guards(&repository).try_into().unwrap();
    let key = KeySource::Identity(box_key());
    let back = |name: &str| roll_back(&path, name, &key, &Machine::this(), &LogMonitor);
    // Another box is at work, as far as can be told.
    let other = Machine { box_id: BoxId::of(b"another box"), ..Machine::this() };
    let theirs = repository.writer(&WriterOptions { machine: other, ..options() }, &LogMonitor).unwrap();
    let lease = std::fs::read(path.join("lease")).unwrap();
    drop(theirs);
    std::fs::write(path.join("lease"), lease).unwrap();
    assert_eq!(back(&older).unwrap_err().exit_code(), 11);
    std::fs::remove_file(path.join("lease")).unwrap();
    let plan = plan_roll_back(&path, &older, &key).unwrap();
    let generations: Vec<u64> = plan.lost.iter().map(|entry| entry.manifest.generation).collect();
    assert_eq!((generations, plan.regained.len(), plan.broken), (vec![3], 0, false));
    drop(repository);

    let there = back(&older).unwrap();
    sound(&at(&path), 2);
    assert_eq!(guards(&at(&path)), std::slice::from_ref(&newest), "what was replaced is a guard now");
    assert_eq!(there.guard.as_ref(), Some(&newest));
    sound(&at(&there.kept), 3);
    let forth = back(&newest).unwrap();
    sound(&at(&path), 3);
    assert_eq!(guards(&at(&path)), std::slice::from_ref(&older));
    sound(&at(&forth.kept), 2);
    // A second time: the name beside it is taken.
    let again = back(&older).unwrap();
    assert_ne!(again.kept, there.kept);
    backup(&at(&path), &source(2)).unwrap();
    sound(&at(&path), 3);
}

#[test]
fn a_guard_that_is_not_whole_or_of_another_repository_is_not_gone_back_to() {
    let Some(disk) = Loop::btrfs(130) else { return };
    let (path, other) = (disk.path().join("mailkeep"), disk.path().join("other"));
    let repository = made(&path);
    backup(&repository, &source(0)).unwrap();
    let theirs = made(&other);
    backup(&theirs, &source(1)).unwrap();
    let key = KeySource::Identity(box_key());
    let folder = path.join("guards");
    let snapshot = |of: &Path, to: &str| {
        Subvolume::get(of)
            .unwrap()
            .snapshot(&*folder.join(to), Some(SnapshotFlags::READ_ONLY), None)
            .unwrap();
    };
    snapshot(&other, &name(7));
    // Something of ours that has lost its packs.
    Subvolume::get(&*path).unwrap().snapshot(&*folder.join(name(8)), None, None).unwrap();
    std::fs::remove_dir_all(folder.join(name(8)).join("packs")).unwrap();
    std::fs::create_dir(folder.join(name(8)).join("packs")).unwrap();
    Subvolume::get(&*folder.join(name(8))).unwrap().set_ro(true).unwrap();
    for (bad, why) in [(name(7), "another repository"), (name(8), "not whole")] {
        let error = roll_back(&path, &bad, &key, &Machine::this(), &LogMonitor).unwrap_err();
        assert_eq!(error.exit_code(), 65, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    sound(&at(&path), 1);
    let stranger = KeySource::Identity(mailkeep_repository::format::Identity::generate());
    let error =
        roll_back(&path, &guards(&at(&path))[0], &stranger, &Machine::this(), &LogMonitor).unwrap_err();
    assert_eq!(error.exit_code(), 77, "{error}");
}

#[test]
fn nothing_but_our_guards_is_ever_deleted() {
    let Some(disk) = Loop::btrfs(200) else { return };
    let path = disk.path().join("mailkeep");
    let repository = made(&path);
    backup(&repository, &source(0)).unwrap();
    let other = disk.path().join("other");
    backup(&made(&other), &source(0)).unwrap();
    let folder = path.join("guards");
    let subvolume = |path: &Path| Subvolume::create(path, None).unwrap();
    let snapshot = |of: &Path, name: &str, flags: Option<SnapshotFlags>| {
        Subvolume::get(of).unwrap().snapshot(&*folder.join(name), flags, None).unwrap();
    };
    // A subvolume with things in it, a snapshot that somebody works in, one of another repository, a folder, a file, a
    // link, and names that are none of ours.
    subvolume(&folder.join(name(1)));
    std::fs::write(folder.join(name(1)).join("photo"), "x").unwrap();
    snapshot(&path, &name(2), None);
    snapshot(&other, &name(3), Some(SnapshotFlags::READ_ONLY));
    snapshot(&path, "weekly", Some(SnapshotFlags::READ_ONLY));
    snapshot(&other, &format!("{}.new", name(4)), None);
    std::fs::create_dir(folder.join(name(5))).unwrap();
    std::fs::write(folder.join(name(6)), "x").unwrap();
    symlink(&other, folder.join(name(7))).unwrap();
    std::fs::create_dir(folder.join("probe")).unwrap();
    std::fs::write(folder.join("probe/x"), "x").unwrap();

    let planted = in_folder(&folder);
    let ours = guards(&repository);
    assert_eq!(ours.len(), 1);
    for strange in &planted {
        if !ours.contains(strange) {
            assert!(repository.storage().drop_guard(strange).is_err(), "{strange}");
        }
    }
    for bad in ["", ".", "..", "../../other", "weekly"] {
        assert!(repository.storage().drop_guard(bad).is_err());
        assert!(repository.storage().make_guard(bad).is_err());
    }
    for day in 1..5 {
        backup(&repository, &source(day)).unwrap();
    }
    let left = in_folder(&folder);
    assert!(planted.iter().all(|name| left.contains(name) || ours.contains(name)), "{planted:?} {left:?}");
    assert_eq!(guards(&repository).len(), 2);
    sound(&at(&other), 1);

    // A link in the place of the folder leads nowhere.
    std::fs::rename(&folder, path.join("moved")).unwrap();
    symlink(other.join("guards"), &folder).unwrap();
    assert!(repository.storage().guards().is_err());
    backup(&repository, &source(5)).unwrap();
    assert_eq!(guards(&at(&other)).len(), 1);
}

#[test]
fn what_a_killed_run_left_is_tidied_up() {
    let Some(disk) = Loop::btrfs(130) else { return };
    let path = disk.path().join("mailkeep");
    let repository = made(&path);
    backup(&repository, &source(0)).unwrap();
    let folder = path.join("guards");
    let of = Subvolume::get(&*path).unwrap();
    of.snapshot(&*folder.join(format!("{}.new", name(8))), None, None).unwrap();
    of.snapshot(&*folder.join(format!("{}.new", name(9))), SnapshotFlags::READ_ONLY, None).unwrap();
    Subvolume::create(&*folder.join("probe"), None).unwrap();
    backup(&repository, &source(1)).unwrap();
    assert_eq!(in_folder(&folder), {
        let mut expected = guards(&repository);
        expected.push("probe".into());
        expected
    });
    for guard in guards(&repository) {
        repository.storage().drop_guard(&guard).unwrap();
    }
    backup(&repository, &source(2)).unwrap();
    assert_eq!(in_folder(&folder), guards(&repository), "the first guard needs the probe's place");
}

#[test]
fn without_a_subvolume_or_rights_there_is_one_note_and_a_good_backup() {
    let Some(disk) = Loop::btrfs(130) else { return };
    let path = disk.path().join("mailkeep");
    std::fs::create_dir(&path).unwrap();
    std::fs::create_dir(path.join("lost+found")).unwrap();
    let repository = made(&path);
    let monitor = Collected::default();
    let mut writer = repository.writer(&options(), &monitor).unwrap();
    let draft = put_source(&mut writer, &source(0)).unwrap();
    writer.seal(draft, &monitor).unwrap();
    let problems = monitor.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].severity, Severity::Note);
    assert!(problems[0].what.contains("plain folder on btrfs"), "{}", problems[0].what);
    assert!(!path.join("guards").exists());
    sound(&repository, 1);

    // On ext4 nobody needs to be told.
    let ext4 = Loop::new(&["mkfs.ext4", "-q"], 64).unwrap();
    let repository = made(&ext4.path().join("mailkeep"));
    let monitor = Collected::default();
    let mut writer = repository.writer(&options(), &monitor).unwrap();
    let draft = put_source(&mut writer, &source(0)).unwrap();
    writer.seal(draft, &monitor).unwrap();
    assert_eq!(monitor.problems(), []);
}

const FOLDER: &str = "MAILKEEP_GUARD_FOLDER";

/// Not a test of its own: asks for guards as somebody who may not delete subvolumes.
#[test]
#[ignore = "run by `who_cannot_delete_subvolumes_makes_none` as another user"]
fn unprivileged() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let storage = LocalStorage::prepare(&PathBuf::from(folder)).unwrap();
    let repository = init(&(Arc::new(storage) as Arc<dyn Storage>)).unwrap();
    let answer = repository.storage().make_guard(&name(1)).unwrap();
    assert!(matches!(&answer, Guarding::Refused(why) if why.contains("root")), "{answer:?}");
    backup(&repository, &source(0)).unwrap();
    sound(&repository, 1);
}

#[test]
fn who_cannot_delete_subvolumes_makes_none() {
    use std::os::unix::process::CommandExt;
    let Some(disk) = Loop::btrfs(130) else { return };
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(disk.path(), open.clone()).unwrap();
    std::fs::set_permissions(disk.path().parent().unwrap(), open).unwrap();
    // Where the test program lies is not everybody's business. A child makes the copy: what this process has open for
    // writing is inherited by whatever another test forks at this moment, and cannot be run until that has gone.
    let program = disk.path().parent().unwrap().join("program");
    let mut copy = std::process::Command::new("install");
    copy.args(["-m", "755"]).arg(std::env::current_exe().unwrap()).arg(&program);
    assert!(copy.status().unwrap().success());
    let output = std::process::Command::new(&program)
        .args(["--exact", "unprivileged", "--ignored", "--nocapture"])
        .env(FOLDER, disk.path().join("mailkeep"))
        .uid(65534)
        .gid(65534)
        .current_dir("/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(in_folder(&disk.path().join("mailkeep/guards")), [""; 0]);
}

#[test]
fn another_disk_at_the_same_place_is_not_touched() {
    let Some(disk) = Loop::btrfs(130) else { return };
    let other = Loop::btrfs(130).unwrap();
    let path = disk.path().join("mailkeep");
    let repository = made(&path);
    backup(&repository, &source(0)).unwrap();
    let stranger = made(&other.path().join("mailkeep"));
    backup(&stranger, &source(0)).unwrap();
    let (id, before) = (stranger.id(), guards(&stranger));
    drop(stranger);

    // The disk is swapped under a run: the same label, the same key, the same path.
    let mut writer = repository.writer(&options(), &LogMonitor).unwrap();
    run("umount", &[&"--lazy", &disk.path()]).unwrap();
    run("mount", &[&"--bind", &other.path(), &disk.path()]).unwrap();
    assert_eq!(at(&path).id(), id);
    let draft = put_source(&mut writer, &source(1)).unwrap();
    writer.seal(draft, &LogMonitor).unwrap();
    assert_eq!(guards(&repository).len(), 2, "the old disk got the guard");
    assert_eq!(guards(&at(&path)), before, "the new one did not");
    assert_eq!(snapshots(&at(&path)).0.len(), 1);
    assert_eq!(in_folder(&path.join("guards")), before);
}

#[test]
fn the_space_that_guards_hold_comes_back() {
    let Some(disk) = Loop::btrfs(200) else { return };
    let repository = made(&disk.path().join("mailkeep"));
    let storage = repository.storage();
    // Not part of any snapshot: it stands for packs that prune deletes.
    let write = |megabytes: u64| {
        let mut file = storage.create("tmp/ballast").unwrap();
        for piece in 0..megabytes {
            file.append(&noise(piece, 1 << 20)).unwrap();
        }
        file.sync().unwrap();
    };
    write(60);
    assert_eq!(storage.make_guard(&name(1)).unwrap(), Guarding::Made);
    storage.remove("tmp/ballast").unwrap();
    storage.sync_dir("tmp").unwrap();
    storage.flush_device().unwrap();
    let held = storage.free_space().unwrap();
    storage.drop_guard(&name(1)).unwrap();
    assert!(storage.settle_guards().unwrap(), "the file system did not say that it is done");
    let free = storage.free_space().unwrap();
    assert!(free > held + (50 << 20), "{held} before, {free} after");
    assert!(root());
}

#[test]
fn a_full_disk_still_lets_guards_go() {
    let Some(disk) = Loop::btrfs(130) else { return };
    let repository = made(&disk.path().join("mailkeep"));
    backup(&repository, &source(0)).unwrap();
    backup(&repository, &source(1)).unwrap();
    let storage = repository.storage();
    let mut file = storage.create("ballast").unwrap();
    let piece = noise(7, 1 << 20);
    while file.append(&piece).is_ok() {}
    drop(file);
    let error = backup(&repository, &source(2)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("full") || error.to_string().contains("space"), "{error}");
    for guard in guards(&repository) {
        storage.drop_guard(&guard).unwrap();
    }
    storage.settle_guards().unwrap();
    assert_eq!(guards(&repository), [""; 0]);
    storage.remove("ballast").unwrap();
    storage.flush_device().unwrap();
    backup(&repository, &source(2)).unwrap();
    sound(&repository, 3);
}
