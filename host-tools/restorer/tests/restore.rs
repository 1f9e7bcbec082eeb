//! Restores into real folders: exact metadata, policies, resuming, damage.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mailkeep_format::{ChunkRef, Node, NodeKind, Timestamp};
use mailkeep_restorer::{
    Contents, ContentsError, MemoryContents, Nodes, Overwrite, RestoreError, RestoreMonitor, RestoreOptions,
    Special, Step, View, apply, plan,
};
use support::{Builder, Ear, Kind, describe, me, restore, steps};
use tempfile::TempDir;

fn options() -> RestoreOptions {
    RestoreOptions { special: Special::Keep, ..RestoreOptions::default() }
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A tree with every kind of file.
fn everything() -> Builder {
    let mut snapshot = Builder::default();
    for (name, length) in [("1.", 700), ("2.", 10_000), ("3.", 35_001), ("empty", 0)] {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        snapshot.file(&format!("/var/spool/user/a/{name}"), &bytes);
    }
    snapshot.link("/var/spool/user/a/1.", "/var/spool/user/b/9.", 3);
    snapshot.link("/var/spool/user/a/1.", "/zz/9.", 3);
    snapshot.node("/etc/link", NodeKind::Symlink { target: b"../gone/nowhere".to_vec() });
    snapshot.node("/run/pipe", NodeKind::Fifo);
    snapshot.node("/run/socket", NodeKind::Socket);
    if root() {
        snapshot.node("/dev/null", NodeKind::CharDevice { major: 1, minor: 3 });
        snapshot.node("/dev/loop", NodeKind::BlockDevice { major: 7, minor: 0 });
    }
    snapshot.file("/bin/tool", b"#!");
    snapshot.change("/bin/tool", |meta| meta.mode = 0o6755);
    snapshot.folder("/tmp");
    snapshot.change("/tmp", |meta| meta.mode = 0o1777);
    snapshot.file("/closed/in", b"x");
    snapshot.change("/closed", |meta| meta.mode = 0o500);
    snapshot.file("/old", b"before 1970");
    snapshot.change("/old", |meta| meta.mtime = Timestamp { seconds: -1_000_000_000, nanos: 1 });
    snapshot.file("/future", b"2300");
    snapshot.change("/future", |meta| meta.mtime = Timestamp { seconds: 10_413_792_000, nanos: 5 });
    snapshot
}

#[test]
fn every_kind_of_file_comes_back_exactly_and_the_plan_had_said_so() {
    let snapshot = everything();
    let target = TempDir::new().unwrap();
    let (plan, steps) = steps(&snapshot.view(), target.path(), &options());
    assert!(describe(target.path()).is_empty(), "planning wrote something");
    let (result, problems) = restore(&snapshot.view(), target.path(), &options());
    let summary = result.unwrap();
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(plan.totals.files(), summary.files);
    assert_eq!(plan.totals.folders, summary.folders);
    assert_eq!(plan.totals.bytes, summary.bytes);
    assert_eq!((plan.totals.links, summary.skipped, summary.problems), (2, 0, 0));
    assert_eq!(steps.len() as u64, summary.files + summary.folders);

    let at = |path: &str| fs::symlink_metadata(target.path().join(path)).unwrap();
    let one = at("var/spool/user/a/1.");
    assert_eq!((one.ino(), one.nlink()), (at("zz/9.").ino(), 3));
    assert_eq!(one.mode() & 0o7777, 0o640);
    assert_eq!(at("bin/tool").mode() & 0o7777, 0o6755);
    assert_eq!(at("tmp").mode() & 0o7777, 0o1777);
    assert_eq!(at("closed").mode() & 0o7777, 0o500);
    assert_eq!((at("old").mtime(), at("old").mtime_nsec()), (-1_000_000_000, 1));
    assert_eq!((at("future").mtime(), at("future").mtime_nsec()), (10_413_792_000, 5));
    assert_eq!(at("var/spool/user/a").mtime_nsec(), 123_456_789);
    assert_eq!(at("etc/link").mtime_nsec(), 123_456_789);
    assert_eq!(fs::read_link(target.path().join("etc/link")).unwrap(), Path::new("../gone/nowhere"));
    let bytes = fs::read(target.path().join("var/spool/user/a/3.")).unwrap();
    assert!(bytes.len() == 35_001 && bytes.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
}

#[test]
fn what_lends_power_is_left_out_and_told_unless_it_is_asked_for() {
    let mut snapshot = Builder::default();
    snapshot.file("/bin/tool", b"#!");
    snapshot.change("/bin/tool", |meta| meta.mode = 0o6755);
    snapshot.file("/bin/plain", b"#!");
    snapshot.folder("/group");
    snapshot.change("/group", |meta| meta.mode = 0o2770);
    snapshot.node("/dev/null", NodeKind::CharDevice { major: 1, minor: 3 });
    let target = TempDir::new().unwrap();
    let options = RestoreOptions { delete: true, paths: vec![b"/".to_vec()], ..RestoreOptions::default() };
    let (plan, steps) = steps(&snapshot.view(), target.path(), &options);
    let left_out: Vec<&str> = steps
        .iter()
        .filter(|(_, step)| matches!(step, Step::LeftOut(_)))
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!((left_out, plan.totals.left_out), (vec!["/bin/tool", "/dev/null"], 2));
    let (done, problems) = restore(&snapshot.view(), target.path(), &options);
    let done = done.unwrap();
    assert_eq!((done.files, done.problems), (plan.totals.files(), 2));
    let told =
        |path: &str, what: &str| problems.iter().any(|line| line.starts_with(path) && line.contains(what));
    assert!(told("/bin/tool", "setuid") && told("/dev/null", "device"), "{problems:?}");
    let mode = |path: &str| fs::symlink_metadata(target.path().join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("bin/tool"), mode("bin/plain"), mode("group")), (0o755, 0o640, 0o2770));
    assert!(!target.path().join("dev/null").exists());
    // Where an earlier restore has brought it, it is taken away again, and the rest is left alone.
    fs::set_permissions(target.path().join("bin/tool"), fs::Permissions::from_mode(0o6755)).unwrap();
    let lazy = RestoreOptions { overwrite: Overwrite::IfChanged, ..options };
    let (again, _) = restore(&snapshot.view(), target.path(), &lazy);
    assert_eq!((again.unwrap().amended, mode("bin/tool")), (1, 0o755));
}

#[test]
fn a_second_restore_changes_nothing_and_if_changed_writes_nothing() {
    let snapshot = everything();
    let target = TempDir::new().unwrap();
    let (first, _) = restore(&snapshot.view(), target.path(), &options());
    let before = describe(target.path());
    let (again, problems) = restore(&snapshot.view(), target.path(), &options());
    assert_eq!((again.unwrap().files, problems), (first.as_ref().unwrap().files, Vec::new()));
    assert_eq!(describe(target.path()), before);
    let lazy = RestoreOptions { overwrite: Overwrite::IfChanged, ..options() };
    let (plan, _) = steps(&snapshot.view(), target.path(), &lazy);
    let (done, problems) = restore(&snapshot.view(), target.path(), &lazy);
    let done = done.unwrap();
    assert_eq!((done.files, done.bytes, done.amended, problems), (0, 0, 0, Vec::new()));
    assert_eq!(done.skipped, first.unwrap().files);
    assert_eq!((plan.totals.skip, plan.totals.files(), plan.totals.amend), (done.skipped, 0, 0));
    assert_eq!(describe(target.path()), before);
}

#[test]
fn if_changed_mends_what_differs_and_only_that() {
    let snapshot = everything();
    let target = TempDir::new().unwrap();
    restore(&snapshot.view(), target.path(), &options()).0.unwrap();
    let before = describe(target.path());
    let file = |path: &str| target.path().join(path);
    fs::write(file("var/spool/user/a/2."), b"scribble").unwrap();
    fs::set_permissions(file("bin/tool"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(file("var/spool/user/b/9.")).unwrap();
    fs::write(file("var/spool/user/b/9."), b"no longer the same file").unwrap();
    fs::remove_file(file("etc/link")).unwrap();
    symlink("elsewhere", file("etc/link")).unwrap();
    let lazy = RestoreOptions { overwrite: Overwrite::IfChanged, ..options() };
    let (done, problems) = restore(&snapshot.view(), target.path(), &lazy);
    let done = done.unwrap();
    assert_eq!((done.files, done.amended, problems), (3, 1, Vec::new()));
    assert_eq!(describe(target.path()), before);
}

#[test]
fn never_keeps_what_is_there_and_adds_what_is_missing() {
    let snapshot = everything();
    let target = TempDir::new().unwrap();
    let file = |path: &str| target.path().join(path);
    fs::create_dir_all(file("bin")).unwrap();
    fs::set_permissions(file("bin"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(file("bin/tool"), b"mine").unwrap();
    fs::write(file("run"), b"a file where a folder belongs").unwrap();
    let keep = RestoreOptions { overwrite: Overwrite::Never, ..options() };
    let (done, problems) = restore(&snapshot.view(), target.path(), &keep);
    assert_eq!(done.unwrap().skipped, 1);
    assert_eq!(fs::read(file("bin/tool")).unwrap(), b"mine");
    assert_eq!(fs::metadata(file("bin")).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(fs::read(file("run")).unwrap(), b"a file where a folder belongs");
    assert!(problems.len() == 1 && problems[0].starts_with("/run: "), "{problems:?}");
    assert!(file("var/spool/user/a/3.").exists());
}

#[test]
fn a_kept_file_is_never_linked_to_a_restored_name() {
    let snapshot = everything();
    let target = TempDir::new().unwrap();
    let file = |path: &str| target.path().join(path);
    fs::create_dir_all(file("var/spool/user/a")).unwrap();
    fs::write(file("var/spool/user/a/1."), b"mine").unwrap();
    let keep = RestoreOptions { overwrite: Overwrite::Never, ..options() };
    restore(&snapshot.view(), target.path(), &keep).0.unwrap();
    assert_eq!(fs::read(file("var/spool/user/b/9.")).unwrap().len(), 700);
    let ino = |path: &str| fs::metadata(file(path)).unwrap().ino();
    assert_eq!(ino("var/spool/user/b/9."), ino("zz/9."));
    assert_ne!(ino("var/spool/user/a/1."), ino("zz/9."));
}

#[test]
fn only_the_paths_asked_for_and_folders_on_the_way_keep_their_metadata() {
    let snapshot = everything();
    let target = TempDir::new().unwrap();
    fs::create_dir(target.path().join("var")).unwrap();
    fs::set_permissions(target.path().join("var"), fs::Permissions::from_mode(0o711)).unwrap();
    let some =
        RestoreOptions { paths: vec![b"/var/spool/user/b".to_vec(), b"bin/tool".to_vec()], ..options() };
    let (done, problems) = restore(&snapshot.view(), target.path(), &some);
    assert_eq!((done.unwrap().files, problems), (2, Vec::new()));
    let names: Vec<String> =
        describe(target.path()).iter().map(|line| line.split('"').nth(1).unwrap().to_owned()).collect();
    assert_eq!(
        names,
        ["bin", "bin/tool", "var", "var/spool", "var/spool/user", "var/spool/user/b", "var/spool/user/b/9."]
    );
    assert_eq!(fs::metadata(target.path().join("var")).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(fs::metadata(target.path().join("bin")).unwrap().mode() & 0o7777, 0o755);
    let missing = RestoreOptions { paths: vec![b"/var/spoool/x".to_vec()], ..options() };
    let error = plan(&snapshot.view(), target.path(), missing, &AtomicBool::new(false), &mut |_, _| {}).err();
    assert_eq!(error.unwrap().to_string(), "/var/spoool is not in the snapshot; `ls` shows what is");
}

#[test]
fn delete_mirrors_the_paths_asked_for_and_nothing_else() {
    let snapshot = everything();
    let target = TempDir::new().unwrap();
    restore(&snapshot.view(), target.path(), &options()).0.unwrap();
    let before = describe(target.path());
    let file = |path: &str| target.path().join(path);
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("precious"), b"x").unwrap();
    fs::create_dir_all(file("var/spool/user/a/extra/deep")).unwrap();
    fs::write(file("var/spool/user/a/extra/deep/file"), b"x").unwrap();
    symlink(outside.path(), file("var/spool/user/a/extra/link")).unwrap();
    symlink(outside.path(), file("var/spool/user/a/way-out")).unwrap();
    fs::write(file("etc/neighbour"), b"x").unwrap();
    let mirror = RestoreOptions {
        delete: true,
        overwrite: Overwrite::IfChanged,
        paths: vec![b"/var".to_vec()],
        ..options()
    };
    let (plan, shown) = steps(&snapshot.view(), target.path(), &mirror);
    assert_eq!(plan.totals.delete, 2);
    assert!(shown.contains(&("/var/spool/user/a/extra".to_owned(), Step::Delete)));
    let (done, problems) = restore(&snapshot.view(), target.path(), &mirror);
    assert_eq!((done.unwrap().deleted, problems), (5, Vec::new()));
    assert!(outside.path().join("precious").exists() && file("etc/neighbour").exists());
    fs::remove_file(file("etc/neighbour")).unwrap();
    // The folder of the neighbour has a newer time now; the rest is as it was.
    let now = describe(target.path());
    let differ: Vec<_> = before.iter().zip(&now).filter(|(one, other)| one != other).collect();
    assert!(differ.len() == 1 && differ[0].0.starts_with("\"etc\""), "{differ:?}");
}

#[test]
fn the_machines_root_is_never_mirrored_whole() {
    let snapshot = everything();
    for paths in [vec![], vec![b"/".to_vec()]] {
        let mirror = RestoreOptions { delete: true, paths, ..options() };
        let refused =
            plan(&snapshot.view(), Path::new("/"), mirror, &AtomicBool::new(false), &mut |_, _| {}).err();
        assert!(matches!(refused, Some(RestoreError::WouldDeleteRoot { .. })), "{refused:?}");
    }
}

#[test]
fn a_damaged_file_is_told_and_the_old_one_kept_and_nothing_is_deleted_in_a_damaged_folder() {
    let mut snapshot = everything();
    snapshot.file("/lost/other", b"x");
    let target = TempDir::new().unwrap();
    let file = |path: &str| target.path().join(path);
    fs::create_dir_all(file("var/spool/user/a")).unwrap();
    fs::create_dir_all(file("lost")).unwrap();
    fs::write(file("var/spool/user/a/3."), b"still good").unwrap();
    fs::write(file("lost/keep"), b"still good").unwrap();
    let view = snapshot.view();
    let chunks = view.lookup(b"/var/spool/user/a/3.").unwrap().content().to_vec();
    snapshot.contents.lose(&chunks[2]);
    snapshot.contents.lose(&view.lookup(b"/lost").unwrap().content()[0]);
    let mirror = RestoreOptions { delete: true, ..options() };
    let (done, problems) = restore(&view, target.path(), &mirror);
    assert_eq!(done.unwrap().problems, 2);
    assert!(
        problems.iter().any(|problem| problem.starts_with("/var/spool/user/a/3.: damaged")),
        "{problems:?}"
    );
    assert!(problems.iter().any(|problem| problem.starts_with("/lost: folder left out")), "{problems:?}");
    assert_eq!(fs::read(file("var/spool/user/a/3.")).unwrap(), b"still good");
    assert!(file("lost/keep").exists());
    let left = describe(target.path()).into_iter().filter(|line| line.contains(".mailkeep-part")).count();
    assert_eq!(left, 0, "a half-written file was left behind");
}

#[test]
fn zeros_of_a_sparse_file_become_holes_and_its_length_is_kept() {
    let mut snapshot = Builder::default();
    let mut bytes = vec![0u8; 3_000_000];
    bytes[1_500_000..1_500_100].fill(7);
    let meta = snapshot.meta(0o600);
    snapshot.put("/sparse", meta.clone(), Kind::Sparse(bytes.clone()));
    snapshot.put("/full", meta, Kind::Bytes(bytes.clone()));
    let target = TempDir::new().unwrap();
    restore(&snapshot.view(), target.path(), &options()).0.unwrap();
    assert!(fs::read(target.path().join("sparse")).unwrap() == bytes);
    assert!(fs::read(target.path().join("full")).unwrap() == bytes);
    let blocks = |name: &str| fs::metadata(target.path().join(name)).unwrap().blocks();
    assert!(blocks("sparse") <= 64, "{} blocks", blocks("sparse"));
    assert!(blocks("full") >= 5000, "{} blocks", blocks("full"));
}

#[test]
fn a_restore_that_was_stopped_goes_on_and_cleans_up_after_a_killed_one() {
    let snapshot = everything();
    let target = TempDir::new().unwrap();
    let view = snapshot.view();
    let (plan, _) = steps(&view, target.path(), &options());
    let stopped = apply(&plan, &Ear::default(), &AtomicBool::new(true));
    assert!(matches!(stopped, Err(RestoreError::Interrupted)));
    // What a killed restore leaves: a part under its temporary name in a folder with some files done.
    fs::create_dir_all(target.path().join("bin")).unwrap();
    let part = target.path().join("bin/.mailkeep-part-0123456789abcdef-1f");
    fs::write(&part, b"half").unwrap();
    fs::write(target.path().join("bin/.mailkeep-part-of-the-users-own"), b"mine").unwrap();
    let lazy = RestoreOptions { overwrite: Overwrite::IfChanged, ..options() };
    let (done, problems) = restore(&view, target.path(), &lazy);
    assert_eq!((done.unwrap().deleted, problems), (1, Vec::new()));
    assert!(!part.exists() && target.path().join("bin/.mailkeep-part-of-the-users-own").exists());
    let whole = TempDir::new().unwrap();
    restore(&view, whole.path(), &options()).0.unwrap();
    fs::remove_file(target.path().join("bin/.mailkeep-part-of-the-users-own")).unwrap();
    let without_times = |path: &Path| -> Vec<String> {
        describe(path).into_iter().filter(|line| !line.starts_with("\"bin\"")).collect()
    };
    assert_eq!(without_times(target.path()), without_times(whole.path()));
}

/// What a killed restore leaves of a new folder, and a folder that goes by a like name but is not ours.
#[test]
fn a_folder_that_a_killed_restore_was_filling_is_removed_before_anything_is_made() {
    let snapshot = everything();
    let view = snapshot.view();
    for overwrite in [Overwrite::Always, Overwrite::IfChanged, Overwrite::Never] {
        let target = TempDir::new().unwrap();
        let left = target.path().join("var/spool/user/.mailkeep-part-0123456789abcdef-2");
        let own = target.path().join("var/spool/user/.mailkeep-part-of-the-users-own");
        for folder in [&left, &own] {
            fs::create_dir_all(folder.join(".mailkeep-part-0123456789abcdef-3")).unwrap();
            fs::write(folder.join("1."), b"half").unwrap();
        }
        let options = RestoreOptions { overwrite, ..options() };
        let (done, problems) = restore(&view, target.path(), &options);
        assert_eq!((done.unwrap().deleted, problems), (3, Vec::new()));
        assert!(!left.exists() && own.join("1.").exists());
        assert_eq!(fs::read(target.path().join("var/spool/user/a/2.")).unwrap().len(), 10_000);
    }
}

/// Stops the restore when it hears of the first thing that was made.
struct Stopper(AtomicBool);

impl RestoreMonitor for Stopper {
    fn problem(&self, path: &[u8], what: &str) {
        panic!("{path:?}: {what}");
    }

    fn progress(&self, files: u64, _: u64) {
        self.0.fetch_or(files > 0, Ordering::Relaxed);
    }
}

#[test]
fn stopped_in_the_middle_of_a_new_folder_it_takes_that_away_and_leaves_what_is_in_view() {
    let mut snapshot = Builder::default();
    // A link is made at once, what has contents waits.
    snapshot.node("/new/1", NodeKind::Symlink { target: b"x".to_vec() });
    snapshot.file("/new/2", b"x");
    snapshot.file("/old/2", b"x");
    let target = TempDir::new().unwrap();
    fs::create_dir(target.path().join("old")).unwrap();
    fs::write(target.path().join("old/1"), b"mine").unwrap();
    let (plan, _) = steps(&snapshot.view(), target.path(), &options());
    let stopper = Stopper(AtomicBool::new(false));
    let stopped = apply(&plan, &stopper, &stopper.0);
    assert!(matches!(stopped, Err(RestoreError::Interrupted)), "{stopped:?}");
    let names = fs::read_dir(target.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["old"]);
    assert_eq!(fs::read(target.path().join("old/1")).unwrap(), b"mine");
}

/// Contents that have a restore stopped when one chunk is asked for.
struct Stops {
    inner: Arc<MemoryContents>,
    at: ChunkRef,
    stop: Arc<AtomicBool>,
}

impl Contents for Stops {
    fn tree(&self, content: &[ChunkRef]) -> Result<Vec<Node>, ContentsError> {
        self.inner.tree(content)
    }

    fn nodes<'a>(&'a self, content: &[ChunkRef]) -> Nodes<'a> {
        self.inner.nodes(content)
    }

    fn chunk(&self, chunk: &ChunkRef, take: &mut dyn FnMut(&[u8])) -> Result<(), ContentsError> {
        self.stop.fetch_or(*chunk == self.at, Ordering::Relaxed);
        self.inner.chunk(chunk, take)
    }
}

/// Files are gathered by the hundred thousand: what was done of them is not to be done in vain, and a folder that is in
/// view has its metadata, so that whoever goes on need not come back to it.
#[test]
fn stopped_in_the_middle_of_many_folders_it_leaves_those_that_are_complete() {
    let mut snapshot = Builder::default();
    for folder in ["a", "b", "c"] {
        for file in 1..4 {
            snapshot.file(&format!("/{folder}/{file}."), format!("{folder}{file}").as_bytes());
        }
    }
    let whole = snapshot.view();
    let at = whole.lookup(b"/b/2.").unwrap().content()[0];
    let stop = Arc::new(AtomicBool::new(false));
    let inner = Arc::clone(&snapshot.contents);
    let view =
        View::new(Arc::new(Stops { inner, at, stop: Arc::clone(&stop) }), whole.root().content().to_vec());
    let target = TempDir::new().unwrap();
    let (plan, _) = steps(&view, target.path(), &RestoreOptions { workers: 1, ..options() });
    let stopped = apply(&plan, &Ear::default(), &stop);
    assert!(matches!(stopped, Err(RestoreError::Interrupted)), "{stopped:?}");
    let names = fs::read_dir(target.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["a"]);
    let a = target.path().join("a");
    assert_eq!(fs::read_dir(&a).unwrap().count(), 3);
    assert_eq!(fs::metadata(&a).unwrap().permissions().mode() & 0o7777, 0o755);
    let (done, problems) =
        restore(&whole, target.path(), &RestoreOptions { overwrite: Overwrite::Never, ..options() });
    assert_eq!((done.unwrap().files, problems.len()), (6, 0));
}

/// Of a new folder a name is missing that cannot be read: it comes into view without it, and that is told.
#[test]
fn a_new_folder_with_a_damaged_file_comes_into_view_without_it() {
    let snapshot = everything();
    let view = snapshot.view();
    snapshot.contents.lose(&view.lookup(b"/var/spool/user/a/3.").unwrap().content()[2]);
    let target = TempDir::new().unwrap();
    let (done, problems) = restore(&view, target.path(), &options());
    assert_eq!(done.unwrap().problems, 1);
    assert!(problems[0].starts_with("/var/spool/user/a/3.: damaged"), "{problems:?}");
    let names = fs::read_dir(target.path().join("var/spool/user/a")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["1.", "2.", "empty"]);
}

/// A folder with more names than are held, with folders among them, goes the way of one that is there already.
#[test]
fn a_folder_too_long_to_be_held_is_restored_as_well() {
    let mut snapshot = Builder::default();
    let many = mailkeep_restorer::limits::NAMES_HELD + 10;
    for number in 0..many {
        snapshot.file(&format!("/long/{number:06}."), format!("{number}").as_bytes());
    }
    for number in 0..mailkeep_restorer::limits::FOLDERS_HELD + 10 {
        snapshot.file(&format!("/many/{number:03}/1."), b"x");
        snapshot.file(&format!("/many/{number:03}."), b"y");
    }
    snapshot.file("/long/000005", b"among them");
    snapshot.file("/long/below/1.", b"at the end");
    snapshot.link("/long/000001.", "/many/linked", 2);
    let target = TempDir::new().unwrap();
    let (plan, shown) = steps(&snapshot.view(), target.path(), &options());
    let (done, problems) = restore(&snapshot.view(), target.path(), &options());
    let done = done.unwrap();
    assert_eq!((done.files, done.folders, problems), (plan.totals.files(), plan.totals.folders, Vec::new()));
    assert_eq!(shown.len() as u64, done.files + done.folders);
    assert_eq!(plan.totals.links, 1);
    let file = |path: &str| target.path().join(path);
    assert_eq!(fs::read_dir(file("long")).unwrap().count(), many + 2);
    assert_eq!(fs::read(file("long/000005")).unwrap(), b"among them");
    assert_eq!(fs::read(file("long/below/1.")).unwrap(), b"at the end");
    let ino = |path: &str| fs::metadata(file(path)).unwrap().ino();
    assert_eq!(ino("long/000001."), ino("many/linked"));
    let again = RestoreOptions { overwrite: Overwrite::IfChanged, delete: true, ..options() };
    let (done, problems) = restore(&snapshot.view(), target.path(), &again);
    let done = done.unwrap();
    assert_eq!((done.files, done.amended, done.deleted, problems), (0, 0, 0, Vec::new()));
}

/// The moment at which each folder comes into view, seen from outside while a restore is at work: whole or not at all.
#[test]
fn whoever_looks_sees_a_new_folder_whole_or_not_at_all() {
    const FILES: usize = 200;
    let mut snapshot = Builder::default();
    for folder in 0..12 {
        for file in 0..FILES {
            snapshot.file(&format!("/spool/{folder}/{file}."), &vec![b'x'; 3000 + file]);
            snapshot.file(&format!("/spool/{folder}/below/{file}."), b"y");
        }
    }
    let view = snapshot.view();
    let target = TempDir::new().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Acquire) {
                for folder in 0..12 {
                    for path in [format!("spool/{folder}"), format!("spool/{folder}/below")] {
                        let Ok(entries) = fs::read_dir(target.path().join(path)) else { continue };
                        let files = entries.filter(|entry| entry.as_ref().unwrap().path().is_file()).count();
                        assert_eq!(files, FILES);
                        looks += 1;
                    }
                }
            }
            looks
        });
        restore(&view, target.path(), &options()).0.unwrap();
        done.store(true, Ordering::Release);
        looker.join().unwrap();
    });
    assert_eq!(fs::read_dir(target.path().join("spool/3/below")).unwrap().count(), FILES);
}

#[test]
fn owners_follow_their_names_and_numbers_without_one_stay() {
    if !root() {
        return;
    }
    let mut snapshot = Builder::default();
    snapshot.file("/named", b"x");
    snapshot.change("/named", |meta| (meta.uid, meta.gid) = (7601, 7602));
    snapshot.file("/unnamed", b"x");
    snapshot.change("/unnamed", |meta| (meta.uid, meta.gid) = (7603, 7603));
    snapshot.change("/unnamed", |meta| meta.mode = 0o4711);
    let users = [(7601, "cyrus".to_owned())];
    let groups = [(7602, "mail".to_owned())];
    let owners = mailkeep_restorer::Owners::by_name(&users, &groups, |_| Some(7701), |_| Some(7702));
    let target = TempDir::new().unwrap();
    restore(&snapshot.view(), target.path(), &RestoreOptions { owners, ..options() }).0.unwrap();
    let owner = |name: &str| {
        let meta = fs::metadata(target.path().join(name)).unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    };
    assert_eq!(owner("named"), (7701, 7702, 0o640));
    assert_eq!(owner("unnamed"), (7603, 7603, 0o4711));
    assert_eq!(me().0, 0);
}

#[test]
fn attributes_and_acls_are_set_and_inherited_ones_removed() {
    let probe = TempDir::new().unwrap();
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty())
    };
    let get = |path: &Path, name: &str| {
        let mut buffer = vec![0u8; 4096];
        rustix::fs::getxattr(path, name, &mut buffer[..]).map(|length| buffer[..length].to_vec())
    };
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let acl = [
        &2u32.to_le_bytes()[..],
        &entry(1, 6, none),
        &entry(2, 4, 4711),
        &entry(4, 4, none),
        &entry(16, 4, none),
        &entry(32, 0, none),
    ]
    .concat();
    // A file system without attributes or ACLs has nothing to show here.
    if set(probe.path(), "user.probe", b"1").is_err()
        || set(probe.path(), "system.posix_acl_access", &acl).is_err()
    {
        return;
    }
    let mut snapshot = Builder::default();
    snapshot.file("/box/with", b"x");
    snapshot.change("/box/with", |meta| {
        meta.xattrs = vec![
            (b"system.posix_acl_access".to_vec(), acl.clone()),
            (b"user.note".to_vec(), vec![0, 1, 255]),
        ];
    });
    snapshot.file("/box/without", b"x");
    snapshot.file("/new/without", b"x");
    let target = TempDir::new().unwrap();
    fs::create_dir(target.path().join("box")).unwrap();
    // Everything made in here inherits this ACL, unless it is taken off again.
    for folder in [target.path().to_owned(), target.path().join("box")] {
        set(&folder, "system.posix_acl_default", &acl).unwrap();
    }
    let (done, problems) = restore(&snapshot.view(), target.path(), &options());
    assert_eq!((done.unwrap().problems, problems), (0, Vec::new()));
    let file = |path: &str| target.path().join(path);
    assert_eq!(get(&file("box/with"), "system.posix_acl_access").unwrap(), acl);
    assert_eq!(get(&file("box/with"), "user.note").unwrap(), [0, 1, 255]);
    for plain in ["box/without", "new", "new/without"] {
        assert!(get(&file(plain), "system.posix_acl_access").is_err(), "{plain}");
    }
    assert!(get(&file("new"), "system.posix_acl_default").is_err());
    assert_eq!(fs::metadata(file("box/without")).unwrap().mode() & 0o7777, 0o640);
    let lazy = RestoreOptions { overwrite: Overwrite::IfChanged, ..options() };
    set(&file("box/without"), "user.extra", b"1").unwrap();
    let (done, _) = restore(&snapshot.view(), target.path(), &lazy);
    let done = done.unwrap();
    assert_eq!((done.amended, done.skipped, done.files), (1, 2, 0));
    assert!(get(&file("box/without"), "user.extra").is_err());
}
