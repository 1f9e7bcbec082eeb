//! Swaps on a real file system.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::*;

struct Lab {
    _dir: tempfile::TempDir,
    base: PathBuf,
    folder: StateFolder,
}

impl Lab {
    /// Two trees that say `old`, with trees beside them that say `new`; and one that is only built.
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let state = base.join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        let (_, holder) = beside::holder(&base).unwrap();
        for tree in ["conf", "spool"] {
            fs::create_dir_all(base.join(tree)).unwrap();
            fs::write(base.join(tree).join("says"), "old").unwrap();
        }
        for tree in ["conf", "spool", "sieve"] {
            fs::create_dir_all(holder.join(tree)).unwrap();
            fs::write(holder.join(tree).join("says"), "new").unwrap();
        }
        Lab { folder: StateFolder::existing(&state).unwrap(), base, _dir: dir }
    }

    fn journal(&self) -> Journal {
        let inode = |path: &Path| fs::metadata(path).ok().map(|meta| meta.ino());
        let step = |tree: &str| {
            let (live, beside) = (self.base.join(tree), self.beside(tree));
            Step { old: inode(&live), new: inode(&beside), live, beside }
        };
        let steps = ["conf", "spool", "sieve"].map(step).to_vec();
        Journal { version: 1, snapshot: "s".to_owned(), goal: Goal::New, ran: true, stop: None, steps }
    }

    fn beside(&self, tree: &str) -> PathBuf {
        self.base.join(mailkeep_mail::scope::BESIDE).join(tree)
    }

    fn says(&self) -> [String; 3] {
        ["conf", "spool", "sieve"]
            .map(|tree| fs::read_to_string(self.base.join(tree).join("says")).unwrap_or_default())
    }
}

#[test]
fn trees_are_exchanged_kept_and_dropped() {
    let lab = Lab::new();
    assert_eq!(drop_kept(&lab.folder).unwrap(), 0);
    begin(&lab.folder, &|| true, lab.journal()).unwrap();
    assert_eq!(lab.says(), ["new", "new", "new"]);
    assert!(drop_kept(&lab.folder).is_err(), "not while somebody may have to go back");
    close(&lab.folder).unwrap();
    assert!(pending(&lab.folder).unwrap().is_none());
    let kept = kept(&lab.folder).unwrap().unwrap();
    assert_eq!((kept.what, kept.places.len()), (Goal::Old, 3));
    assert_eq!(fs::read_to_string(lab.beside("spool").join("says")).unwrap(), "old");
    assert_eq!(drop_kept(&lab.folder).unwrap(), 2);
    assert!(!lab.base.join(mailkeep_mail::scope::BESIDE).exists());
    assert_eq!(lab.says(), ["new", "new", "new"]);
}

#[test]
fn who_has_lost_the_window_exchanges_nothing() {
    let lab = Lab::new();
    let error = begin(&lab.folder, &|| false, lab.journal()).unwrap_err();
    assert!(error.to_string().contains("deadline"), "{error}");
    assert_eq!(lab.says(), ["old", "old", ""]);
    assert!(pending(&lab.folder).unwrap().is_none());
}

#[test]
fn a_swap_that_died_is_carried_through_before_mail_is_started() {
    for done in 0..4 {
        let lab = Lab::new();
        let journal = lab.journal();
        let ground = Disks { folder: &lab.folder };
        journal::Ground::note(&ground, &journal).unwrap();
        for step in journal.steps.iter().take(done) {
            journal::Ground::flip(&ground, step).unwrap();
        }
        let settled = before_start(&lab.folder, None).unwrap().unwrap();
        assert_eq!((settled.goal, lab.says()), (Goal::New, ["new", "new", "new"].map(String::from)));
    }
}

#[test]
fn what_was_turned_goes_back_from_wherever_it_stands() {
    for done in 0..4 {
        let lab = Lab::new();
        let mut journal = lab.journal();
        let ground = Disks { folder: &lab.folder };
        for step in journal.steps.iter().take(done) {
            journal::Ground::flip(&ground, step).unwrap();
        }
        journal.goal = Goal::Old;
        journal::Ground::note(&ground, &journal).unwrap();
        before_start(&lab.folder, None).unwrap();
        assert_eq!(lab.says(), ["old", "old", ""]);
        close(&lab.folder).unwrap();
        assert_eq!(kept(&lab.folder).unwrap().unwrap().what, Goal::New);
    }
}

#[test]
fn a_tree_that_somebody_has_replaced_keeps_mail_from_being_started() {
    let lab = Lab::new();
    let journal = lab.journal();
    journal::Ground::note(&Disks { folder: &lab.folder }, &journal).unwrap();
    fs::rename(lab.base.join("spool"), lab.base.join("elsewhere")).unwrap();
    fs::create_dir(lab.base.join("spool")).unwrap();
    let why = before_start(&lab.folder, None).unwrap_err();
    assert!(why.contains("neither the old tree nor the restored one"), "{why}");
    fs::remove_dir(lab.base.join("spool")).unwrap();
    fs::rename(lab.base.join("elsewhere"), lab.base.join("spool")).unwrap();
    before_start(&lab.folder, None).unwrap();
    assert!(matches!(lab.says().as_slice(), [one, two, _] if one == two));
}

#[test]
fn one_who_hangs_with_the_lock_is_killed_and_it_goes_on() {
    let lab = Lab::new();
    journal::Ground::note(&Disks { folder: &lab.folder }, &lab.journal()).unwrap();
    let hanging = std::process::Command::new("flock")
        .args(["--no-fork", "--exclusive"])
        .arg(lab.folder.file(SWAP_LOCK))
        .args(["sleep", "100000"])
        .spawn();
    let mut hanging = hanging.unwrap();
    while lab.folder.try_lock(SWAP_LOCK).unwrap().is_some() {
        std::thread::sleep(Duration::from_millis(5));
    }
    before_start(&lab.folder, None).unwrap();
    assert_eq!(lab.says(), ["new", "new", "new"]);
    assert!(!hanging.wait().unwrap().success(), "it is dead");
}
