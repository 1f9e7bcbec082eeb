//! Snapshots and targets that try to have something written outside of the target (HAZARDS, "hostile snapshot").

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use mailkeep_format::NodeKind;
use mailkeep_restorer::{Overwrite, RestoreOptions};
use support::{Builder, describe, restore};
use tempfile::TempDir;

/// A folder outside of every target, with something to lose.
fn outside() -> TempDir {
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("file"), b"precious").unwrap();
    fs::create_dir(outside.path().join("folder")).unwrap();
    outside
}

#[test]
fn links_that_stand_in_the_target_are_replaced_and_never_followed() {
    let mut snapshot = Builder::default();
    snapshot.file("/folder/file", b"from the snapshot");
    snapshot.file("/file", b"from the snapshot");
    for overwrite in [Overwrite::Always, Overwrite::IfChanged, Overwrite::Never] {
        for delete in [false, true] {
            let outside = outside();
            let before = describe(outside.path());
            let target = TempDir::new().unwrap();
            symlink(outside.path().join("folder"), target.path().join("folder")).unwrap();
            symlink(outside.path().join("file"), target.path().join("file")).unwrap();
            symlink(outside.path(), target.path().join("surplus")).unwrap();
            let options = RestoreOptions { overwrite, delete, ..RestoreOptions::default() };
            restore(&snapshot.view(), target.path(), &options).0.unwrap();
            assert_eq!(describe(outside.path()), before, "{overwrite:?} delete {delete}");
            let replaced = !target.path().join("folder").is_symlink();
            assert_eq!(replaced, overwrite != Overwrite::Never);
        }
    }
}

#[test]
fn links_of_the_snapshot_itself_lead_nowhere() {
    let outside = outside();
    let before = describe(outside.path());
    let link =
        |to: &std::path::Path| NodeKind::Symlink { target: to.as_os_str().as_encoded_bytes().to_vec() };
    // First a snapshot that plants a link, then one that goes through it.
    let mut plant = Builder::default();
    plant.node("/a", link(&outside.path().join("folder")));
    plant.node("/b", link(&outside.path().join("file")));
    plant.link("/b", "/z/other", 2);
    let mut reap = Builder::default();
    reap.file("/a/planted", b"x");
    reap.file("/b", b"x");
    reap.link("/b", "/a/hard", 2);
    let target = TempDir::new().unwrap();
    let options = RestoreOptions::default();
    restore(&plant.view(), target.path(), &options).0.unwrap();
    restore(&reap.view(), target.path(), &options).0.unwrap();
    assert_eq!(describe(outside.path()), before);
    assert_eq!(fs::read(target.path().join("a/planted")).unwrap(), b"x");
    restore(&plant.view(), target.path(), &options).0.unwrap();
    assert_eq!(describe(outside.path()), before);
}

#[test]
fn a_full_folder_in_a_files_place_stays_unless_deleting_was_asked_for() {
    let mut snapshot = Builder::default();
    snapshot.file("/name", b"a file");
    let target = TempDir::new().unwrap();
    fs::create_dir(target.path().join("name")).unwrap();
    fs::write(target.path().join("name/inside"), b"x").unwrap();
    let (done, problems) = restore(&snapshot.view(), target.path(), &RestoreOptions::default());
    assert_eq!(done.unwrap().problems, 1);
    assert!(problems[0].contains("a folder that is not empty is in its place"), "{problems:?}");
    assert!(target.path().join("name/inside").exists());
    let delete = RestoreOptions { delete: true, ..RestoreOptions::default() };
    assert_eq!(restore(&snapshot.view(), target.path(), &delete).1, Vec::<String>::new());
    assert_eq!(fs::read(target.path().join("name")).unwrap(), b"a file");
}

#[test]
fn a_file_whose_size_is_a_lie_is_told_and_not_restored() {
    let mut snapshot = Builder::default();
    snapshot.file("/honest", b"12345");
    let content = snapshot.contents.put_file(b"12345", 100);
    snapshot.node("/liar", NodeKind::File { size: 1 << 50, sparse: true, content });
    let target = TempDir::new().unwrap();
    let (done, problems) = restore(&snapshot.view(), target.path(), &RestoreOptions::default());
    let done = done.unwrap();
    assert_eq!((done.files, done.problems), (1, 1));
    assert!(problems[0].starts_with("/liar: "), "{problems:?}");
    assert!(!target.path().join("liar").exists());
}

#[test]
fn folders_nested_deeper_than_any_path_may_be_are_restored() {
    let mut snapshot = Builder::default();
    let deep: String = (0..400).map(|_| "/a-name-of-some-length").collect();
    snapshot.file(&format!("{deep}/file"), b"x");
    snapshot.link(&format!("{deep}/file"), "/z", 2);
    let target = TempDir::new().unwrap();
    let (done, problems) = restore(&snapshot.view(), target.path(), &RestoreOptions::default());
    assert_eq!((done.unwrap().folders, problems), (400, Vec::new()));
    assert_eq!(fs::read(target.path().join("z")).unwrap(), b"x");
    let mirror = RestoreOptions { delete: true, ..RestoreOptions::default() };
    let (done, problems) = restore(&Builder::default().view(), target.path(), &mirror);
    assert_eq!((done.unwrap().deleted, problems), (402, Vec::new()));
}
