//! What was restored is read back and held against the snapshot: whatever differs is told, whoever made it differ.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mailkeep_format::{ChunkKind, IdKey, NodeKind};
use mailkeep_restorer::{Audited, PathSet, RestoreOptions, View, apply, audit, plan};
use support::{Builder, Ear};

fn builder() -> Builder {
    let mut builder = Builder::default();
    builder.file("/spool/a/1.", b"first message");
    builder.file("/spool/a/2.", &[7; 35_000]);
    builder.file("/spool/a/empty", b"");
    builder.file("/spool/b/1.", b"other");
    builder.link("/spool/b/1.", "/spool/b/2.", 2);
    builder.node("/spool/link", NodeKind::Symlink { target: b"a/1.".to_vec() });
    builder.node("/spool/pipe", NodeKind::Fifo);
    builder
}

fn audited(
    view: &View,
    target: &Path,
    options: RestoreOptions,
    spoil: &dyn Fn(&Path),
) -> (Audited, Vec<String>) {
    let stop = AtomicBool::new(false);
    let plan = plan(view, target, options, &stop, &mut |_, _| ()).unwrap();
    let ear = Ear::default();
    apply(&plan, &ear, &stop).unwrap();
    assert_eq!(*ear.problems.lock().unwrap(), Vec::<String>::new());
    spoil(target);
    let id = |hash: &_| IdKey::new([0; 32]).chunk_id(ChunkKind::Data, hash);
    let audited = audit(&plan, &id, &ear, &stop).unwrap();
    let told = ear.problems.lock().unwrap().clone();
    assert_eq!(audited.problems, told.len() as u64);
    (audited, told)
}

#[test]
fn what_was_restored_is_what_is_found() {
    let target = tempfile::tempdir().unwrap();
    let view = builder().view();
    let (found, told) = audited(&view, &target.path().join("t"), RestoreOptions::default(), &|_| ());
    assert_eq!(told, Vec::<String>::new());
    assert_eq!((found.files, found.folders, found.owners, found.unreadable), (7, 3, 0, false));
    assert_eq!(found.bytes, 13 + 35_000 + 5, "a file with two names is read once");
}

/// Changes one thing without touching the times of anything.
fn keeping_times(path: &Path, change: impl FnOnce(&Path)) {
    let stat = |path: &Path| fs::symlink_metadata(path).unwrap().modified().unwrap();
    let folder = path.parent().unwrap();
    let (own, around) = (path.exists().then(|| stat(path)), stat(folder));
    change(path);
    for (path, time) in [(path, own), (folder, Some(around))] {
        if let (Some(time), true) = (time, path.exists()) {
            fs::File::open(path).unwrap().set_modified(time).unwrap();
        }
    }
}

#[test]
fn every_difference_is_told() {
    type Spoil = fn(&Path);
    let cases: &[(&str, &str, Spoil)] = &[
        ("spool/a/1.", "other contents", |path| fs::write(path, "first massage").unwrap()),
        ("spool/a/2.", "other contents", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[34_999] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("spool/a/2.", "bytes in the target", |path| {
            fs::File::options().write(true).open(path).unwrap().set_len(34_999).unwrap();
        }),
        ("spool/a/empty", "bytes in the target", |path| fs::write(path, "x").unwrap()),
        ("spool/a/1.", "is missing", |path| fs::remove_file(path).unwrap()),
        ("spool/a/3.", "not in the snapshot", |path| fs::write(path, "new").unwrap()),
        ("spool/a/1.", "another mode", |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("spool/a", "another mode", |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("spool/link", "leads elsewhere", |path| {
            fs::remove_file(path).unwrap();
            symlink("b/1.", path).unwrap();
        }),
        ("spool/pipe", "of another kind", |path| {
            fs::remove_file(path).unwrap();
            fs::write(path, "").unwrap();
        }),
        ("spool/b/2.", "is no other name", |path| {
            fs::remove_file(path).unwrap();
            fs::copy(path.with_file_name("1."), path).unwrap();
        }),
    ];
    for (name, what, spoil) in cases {
        let target = tempfile::tempdir().unwrap();
        let target = target.path().join("t");
        let (_, told) = audited(&builder().view(), &target, RestoreOptions::default(), &|target| {
            keeping_times(&target.join(name), spoil);
        });
        let hit = told.iter().any(|line| line.contains(name) && line.contains(what));
        assert!(hit, "{name} should be told as {what}: {told:?}");
    }
    let target = tempfile::tempdir().unwrap();
    let (_, told) =
        audited(&builder().view(), &target.path().join("t"), RestoreOptions::default(), &|target| {
            let now = std::time::SystemTime::now();
            fs::File::open(target.join("spool/a/1.")).unwrap().set_modified(now).unwrap();
        });
    assert!(told.len() == 1 && told[0].contains("another time"), "{told:?}");
}

#[test]
fn of_a_choice_only_that_is_restored_and_looked_at() {
    let mut set = PathSet::default();
    for path in ["/spool/a/2.", "/spool/b/2."] {
        set.add(path.as_bytes());
    }
    let target = tempfile::tempdir().unwrap();
    let target = target.path().join("t");
    let options = RestoreOptions { exactly: Some(Arc::new(set)), ..RestoreOptions::default() };
    let (found, told) = audited(&builder().view(), &target, options, &|target| {
        fs::write(target.join("spool/stranger"), "beside").unwrap();
    });
    assert_eq!((told.len(), found.files, found.folders, found.bytes), (0, 2, 0, 35_005));
    assert!(target.join("spool/a/2.").exists() && !target.join("spool/a/1.").exists());
    assert_eq!(fs::read(target.join("spool/b/2.")).unwrap(), b"other");
}

#[test]
fn what_the_repository_does_not_give_is_told_and_never_passes() {
    let builder = builder();
    let view = builder.view();
    let content = view.lookup(b"/spool/a").unwrap().content().to_vec();
    let target = tempfile::tempdir().unwrap();
    let (found, told) = audited(&view, &target.path().join("t"), RestoreOptions::default(), &|_| {
        content.iter().for_each(|chunk| builder.contents.lose(chunk));
    });
    assert!(found.unreadable && told.iter().any(|line| line.contains("/spool/a")), "{told:?}");
}
