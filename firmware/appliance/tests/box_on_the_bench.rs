//! The whole daemon on the bench board, driven by lines and watched by lines, with an engine that does what each
//! test tells it to. Hazards: a lamp that lies, a fault that is lost, a foreign disk that is written to, a box
//! that does not end, a disk that is still mounted when the box says "safe to remove".
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod support;

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use mailkeep_appliance::engine::{DiskName, Engine, EngineError, Looked, News, Pruned, Sealed, Work};
use mailkeep_controller::{Identity, Phase};
use support::Box1;

/// What the engine is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Good,
    /// The disk is not as it was.
    Doubted,
    Shrunk,
    Incomplete,
    Damaged,
    Full,
    Fails,
    MailDown,
    Panics,
}

/// What becomes of old snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tidy {
    Off,
    Done,
    Fails,
    Panics,
    /// Goes on until it is asked to end.
    Endless,
}

/// An engine that goes on only when the test says so: phase by phase.
struct Puppet {
    plan: Mutex<Plan>,
    tidy: Mutex<Tidy>,
    steps: Mutex<mpsc::Receiver<()>>,
    pruned: Mutex<Vec<String>>,
    written: Mutex<Vec<PathBuf>>,
    mail_stopped: AtomicBool,
}

impl Puppet {
    /// Waits for the next step, or for the end if that was asked for.
    fn step(&self, cancel: &AtomicBool) -> Result<(), EngineError> {
        loop {
            if cancel.load(Ordering::Relaxed) {
                self.mail_stopped.store(false, Ordering::Relaxed);
                return Err(EngineError::Cancelled);
            }
            match self.steps.lock().unwrap().recv_timeout(Duration::from_millis(10)) {
                Ok(()) => return Ok(()),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the test has ended"),
            }
        }
    }
}

impl Engine for Puppet {
    fn identify(&self, repository: &Path) -> Result<Looked, EngineError> {
        let name = || repository.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        Ok(match std::fs::read_to_string(repository.join("label")).as_deref() {
            Ok("ours") => {
                let disk = DiskName { id: format!("id-{}", name()), label: format!("disk {}", name()) };
                let doubt =
                    repository.join("doubt").exists().then(|| "this disk went back in time".to_owned());
                Looked { identity: Identity::Ours, disk: Some(disk), doubt }
            }
            Ok(_) => Identity::Foreign.into(),
            Err(_) => Identity::Unknown.into(),
        })
    }

    fn backup(&self, work: Work<'_>, news: &(dyn Fn(News) + Sync)) -> Result<Sealed, EngineError> {
        let plan = *self.plan.lock().unwrap();
        self.written.lock().unwrap().push(work.repository.to_owned());
        std::fs::write(work.repository.join("written"), work.source.name.as_str()).unwrap();
        news(News::Count { files: (10, Some(100)), bytes: (5_000, None) });
        self.step(work.cancel)?;
        self.mail_stopped.store(true, Ordering::Relaxed);
        news(News::Phase(Phase::Window));
        self.step(work.cancel)?;
        self.mail_stopped.store(false, Ordering::Relaxed);
        news(News::Phase(Phase::Transferring));
        self.step(work.cancel)?;
        match plan {
            Plan::Full => return Err(EngineError::DiskFull("no space".into())),
            Plan::Fails => {
                return Err(EngineError::Failed { what: "cannot reach it".into(), source: "refused".into() });
            }
            Plan::MailDown => return Err(EngineError::MailDown("no greeting".into())),
            Plan::Panics => panic!("an engine that dies"),
            Plan::Good | Plan::Doubted | Plan::Shrunk | Plan::Incomplete | Plan::Damaged => {}
        }
        Ok(Sealed {
            snapshot: "abcd".into(),
            generation: 1,
            complete: plan != Plan::Incomplete,
            window_ms: Some(1_200),
            files: 100,
            added_bytes: 5_000,
            remarks: Vec::new(),
            doubted: plan == Plan::Doubted,
            shrunk: (plan == Plan::Shrunk).then(|| "tree has 1 files now, and had 100 before".to_owned()),
        })
    }

    fn verify(&self, work: Work<'_>, _: &Sealed, _: &(dyn Fn(News) + Sync)) -> Result<(), EngineError> {
        self.step(work.cancel)?;
        if *self.plan.lock().unwrap() == Plan::Damaged {
            return Err(EngineError::Failed { what: "pack is damaged".into(), source: "bad hash".into() });
        }
        Ok(())
    }

    fn prune(
        &self,
        _: &Path,
        sources: &[String],
        cancel: &Arc<AtomicBool>,
        news: &(dyn Fn(News) + Sync),
    ) -> Result<Option<Pruned>, EngineError> {
        self.pruned.lock().unwrap().extend(sources.iter().cloned());
        let tidy = *self.tidy.lock().unwrap();
        if tidy != Tidy::Off {
            news(News::Phase(Phase::Pruning));
        }
        match tidy {
            Tidy::Off => Ok(None),
            Tidy::Done => Ok(Some(Pruned { removed: 3, freed_bytes: 7_000, remarks: vec!["a word".into()] })),
            Tidy::Fails => {
                Err(EngineError::Failed { what: "a listing failed".into(), source: "refused".into() })
            }
            Tidy::Panics => panic!("a prune that dies"),
            Tidy::Endless => {
                while !cancel.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(EngineError::Cancelled)
            }
        }
    }
}

/// A box with two bench disks and an engine that the test drives.
struct Bench1 {
    folder: tempfile::TempDir,
    running: Box1,
    puppet: Arc<Puppet>,
    steps: mpsc::Sender<()>,
}

impl Deref for Bench1 {
    type Target = Box1;

    fn deref(&self) -> &Box1 {
        &self.running
    }
}

impl DerefMut for Bench1 {
    fn deref_mut(&mut self) -> &mut Box1 {
        &mut self.running
    }
}

impl Bench1 {
    fn with_labels(labels: [Option<&str>; 2], extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (disk, label) in ["d1", "d2"].iter().zip(labels) {
            let repository = folder.path().join(disk).join("mailkeep");
            std::fs::create_dir_all(&repository).unwrap();
            if let Some(label) = label {
                std::fs::write(repository.join("label"), label).unwrap();
            }
        }
        Self::start(folder, extra, Plan::Good)
    }

    fn start(folder: tempfile::TempDir, extra: &str, plan: Plan) -> Self {
        let (steps, step_ends) = mpsc::channel();
        let puppet = Arc::new(Puppet {
            plan: Mutex::new(plan),
            tidy: Mutex::new(Tidy::Off),
            steps: Mutex::new(step_ends),
            written: Mutex::default(),
            pruned: Mutex::default(),
            mail_stopped: AtomicBool::new(false),
        });
        let engine = Arc::clone(&puppet);
        let running = Box1::start(folder.path(), extra, |_| engine);
        Self { folder, running, puppet, steps }
    }

    /// Lets the engine go on by one step.
    fn step(&self) {
        self.steps.send(()).unwrap();
    }

    fn end(self) -> tempfile::TempDir {
        self.running.end();
        self.folder
    }
}

#[test]
fn a_backup_from_insertion_to_safe_to_remove() {
    let mut b = Bench1::with_labels([Some("ours"), None], "insert = 1");
    b.until("note Our disk is in. Press BACKUP to start a backup.");
    b.until_lamps(["wink", "steady", "off"]);
    b.hand("b");
    b.until_lamps(["slow", "slow", "off"]);
    b.until("progress tree: live pass  10 of 100 files, 5.0 kB, 10 %");
    b.step();
    b.until_lamps(["fast", "slow", "off"]);
    b.step();
    b.until_lamps(["slow", "slow", "off"]);
    b.step();
    b.until("note tree: sealed as snapshot 1, 100 files, 5.0 kB added, mail was stopped for 1.2 s.");
    b.until_lamps(["double", "slow", "off"]);
    b.step();
    b.until("note The disk is flushed and unmounted: safe to remove.");
    b.until_lamps(["steady", "steady", "off"]);
    assert_eq!(b.history("STATUS"), ["test", "off", "wink", "slow", "fast", "slow", "double", "steady"]);
    b.hand("0");
    b.until_lamps(["steady", "off", "off"]);
    assert_eq!(*b.puppet.written.lock().unwrap(), [b.folder.path().join("d1/mailkeep")]);

    // The next start knows of it.
    let folder = b.end();
    let mut again = Bench1::start(folder, "", Plan::Good);
    again.until_lamps(["steady", "off", "off"]);
    again.hand("r");
    again.until("note The newest proven backup is less than a day old (1 flash).");
    again.until_lamps(["count", "off", "off"]);
    again.end();
}

#[test]
fn disks_that_are_not_ours_stay_untouched() {
    let mut b = Bench1::with_labels([Some("theirs"), None], "insert = 1");
    b.until("note This disk belongs to another box, so it is left alone.");
    b.until_lamps(["wink", "double", "off"]);
    b.hand("b");
    b.until("note A backup is wanted: insert a disk of this box.");
    b.hand("0");
    b.until_lamps(["wink", "fast", "off"]);
    b.hand("2");
    b.until("note This disk has no repository, so it is left alone. To use it: mailkeep init");
    let folder = b.end();
    for disk in ["d1", "d2"] {
        assert!(!folder.path().join(disk).join("mailkeep/written").exists(), "{disk}");
    }
}

#[test]
fn pulled_in_the_window_mail_runs_again_and_the_next_disk_finishes() {
    let mut b = Bench1::with_labels([Some("ours"), Some("ours")], "insert = 1");
    b.until_lamps(["wink", "steady", "off"]);
    b.hand("b");
    b.step();
    b.until_lamps(["fast", "slow", "off"]);
    assert!(b.puppet.mail_stopped.load(Ordering::Relaxed));
    b.hand("0");
    b.until("lamp FAULT fast");
    b.until_lamps(["wink", "fast", "fast"]);
    assert!(!b.puppet.mail_stopped.load(Ordering::Relaxed));
    b.hand("2");
    for _ in 0..4 {
        b.step();
    }
    b.until("note Backup done, read back and good.");
    b.until_lamps(["steady", "steady", "fast"]);
    b.hand("b");
    b.until("note Fault acknowledged. Press BACKUP again to start a backup.");
    b.until_lamps(["steady", "steady", "off"]);
    b.end();
}

#[test]
fn every_bad_end_is_a_fault_that_stays_until_it_is_seen() {
    for (plan, steps, lamps, words) in [
        (Plan::Fails, 3, ["wink", "steady", "fast"], "The backup failed"),
        (Plan::Incomplete, 4, ["wink", "steady", "fast"], "something is missing or wrong"),
        (Plan::Damaged, 4, ["wink", "steady", "fast"], "something is missing or wrong"),
        (Plan::Full, 3, ["wink", "fast", "fast"], "The disk is full"),
        (Plan::MailDown, 3, ["wink", "steady", "fast"], "Mail may not answer"),
        (Plan::Panics, 3, ["wink", "steady", "fast"], "The backup failed"),
    ] {
        let mut b = Bench1::with_labels([Some("ours"), None], "insert = 1");
        *b.puppet.plan.lock().unwrap() = plan;
        b.until_lamps(["wink", "steady", "off"]);
        b.hand("b");
        for _ in 0..steps {
            b.step();
        }
        b.until("note The disk is flushed and unmounted: safe to remove.");
        b.until_lamps(lamps);
        assert!(b.seen.iter().any(|line| line.contains(words)), "{plan:?}:\n{}", b.seen.join("\n"));
        b.end();
    }
}

#[test]
fn asked_to_end_in_the_window_it_ends_with_mail_running() {
    let mut b = Bench1::with_labels([Some("ours"), None], "insert = 1");
    b.until_lamps(["wink", "steady", "off"]);
    b.hand("b");
    b.step();
    b.until_lamps(["fast", "slow", "off"]);
    b.hand("q");
    b.until("note Stopping.");
    b.until("note The disk is flushed and unmounted: safe to remove.");
    b.ended();
    assert!(!b.puppet.mail_stopped.load(Ordering::Relaxed));
}

#[test]
fn a_restore_takes_two_steps_and_is_answered_in_one_line() {
    let mut b = Bench1::with_labels([Some("ours"), None], "insert = 1");
    b.until_lamps(["wink", "steady", "off"]);
    b.hand("BR");
    b.hand("R5");
    b.until("note Restore is armed: press BACKUP and RESTORE together within 10 s.");
    b.until_lamps(["wink", "steady", "double"]);
    assert!(!b.seen.iter().any(|line| line.contains("not available")), "the first chord was not armed");
    b.hand("BR");
    b.until("note restore by button is not available in this version");
    b.until_lamps(["wink", "steady", "fast"]);
    b.hand("b");
    b.until_lamps(["wink", "steady", "off"]);
    assert!(b.puppet.written.lock().unwrap().is_empty());
    b.end();
}

#[test]
fn a_missing_disk_is_a_fault_not_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut b = Bench1::start(folder, "insert = 1", Plan::Good);
    b.until("note FAULT: The disk can't be read. Try another one. Press BACKUP to acknowledge.");
    b.until_lamps(["wink", "fast", "fast"]);
    b.end();
}

#[test]
fn old_snapshots_go_after_a_proven_backup_and_what_becomes_of_that_is_no_fault() {
    for (tidy, words) in [
        (Tidy::Off, None),
        (Tidy::Done, Some("note Retention: 3 old snapshots removed, 7.0 kB freed, a word.")),
        (
            Tidy::Fails,
            Some(
                "note Retention: no old snapshot was removed now; the backup is good all the same: a listing failed: \
                 refused",
            ),
        ),
        (Tidy::Panics, None),
    ] {
        let mut b = Bench1::with_labels([Some("ours"), None], "insert = 1");
        *b.puppet.tidy.lock().unwrap() = tidy;
        b.until_lamps(["wink", "steady", "off"]);
        b.hand("b");
        (0..4).for_each(|_| b.step());
        if let Some(words) = words {
            b.until(words);
        }
        b.until("note Backup done, read back and good.");
        b.until("note The disk is flushed and unmounted: safe to remove.");
        b.until_lamps(["steady", "steady", "off"]);
        assert_eq!(*b.puppet.pruned.lock().unwrap(), ["tree"], "{tidy:?}");
        b.end();
    }
}

#[test]
fn nothing_is_removed_after_a_backup_that_is_not_proven_or_from_a_disk_in_doubt() {
    for (plan, steps) in
        [(Plan::Fails, 3), (Plan::Incomplete, 4), (Plan::Damaged, 4), (Plan::Full, 3), (Plan::Doubted, 4)]
    {
        let mut b = Bench1::with_labels([Some("ours"), None], "insert = 1");
        *b.puppet.plan.lock().unwrap() = plan;
        *b.puppet.tidy.lock().unwrap() = Tidy::Done;
        b.until_lamps(["wink", "steady", "off"]);
        b.hand("b");
        (0..steps).for_each(|_| b.step());
        b.until("note The disk is flushed and unmounted: safe to remove.");
        assert_eq!(*b.puppet.pruned.lock().unwrap(), [""; 0], "{plan:?}");
        b.end();
    }
}

#[test]
fn asked_to_end_while_old_snapshots_are_removed_it_ends_and_the_backup_is_good() {
    let mut b = Bench1::with_labels([Some("ours"), None], "insert = 1");
    *b.puppet.tidy.lock().unwrap() = Tidy::Endless;
    b.until_lamps(["wink", "steady", "off"]);
    b.hand("b");
    (0..4).for_each(|_| b.step());
    b.until("progress tree: old snapshots are removed");
    b.hand("q");
    b.until("note Stopping.");
    b.until("note The disk is flushed and unmounted: safe to remove.");
    b.ended();
    let Bench1 { folder, .. } = b;
    let mut again = Bench1::start(folder, "", Plan::Good);
    again.until_lamps(["steady", "off", "off"]);
    again.end();
}

fn ledger(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("state/ledger.json")).unwrap()
}

#[test]
fn a_fault_outlives_the_box_new_or_acknowledged_until_it_is_mended() {
    let mut b = Bench1::with_labels([Some("ours"), None], "insert = 1");
    *b.puppet.plan.lock().unwrap() = Plan::Full;
    b.until_lamps(["wink", "steady", "off"]);
    b.hand("b");
    (0..3).for_each(|_| b.step());
    b.until_lamps(["wink", "fast", "fast"]);
    assert!(ledger(b.folder.path()).contains("disk-full"), "written down before it was shown");
    let folder = b.end();

    let mut b = Bench1::start(folder, "", Plan::Good);
    b.until_lamps(["wink", "fast", "fast"]);
    b.hand("b");
    b.until("note Fault acknowledged. Press BACKUP again to start a backup.");
    b.until_lamps(["wink", "fast", "steady"]);
    let folder = b.end();

    // The backup that found no room is still owed: it begins by itself on the next disk.
    let mut b = Bench1::start(folder, "insert = 1", Plan::Good);
    b.until("note The box went down during a backup: it is made now.");
    (0..4).for_each(|_| b.step());
    b.until("note Backup done, read back and good.");
    b.until_lamps(["steady", "steady", "off"]);
    let folder = b.end();
    assert!(!ledger(folder.path()).contains("disk-full"));
}

#[test]
fn a_backup_that_a_restart_cut_off_is_made_when_the_box_is_back_but_not_for_ever() {
    let mut b = Bench1::with_labels([Some("ours"), None], "insert = 1");
    b.until_lamps(["wink", "steady", "off"]);
    b.hand("b");
    b.step();
    b.until_lamps(["fast", "slow", "off"]);
    assert!(ledger(b.folder.path()).contains("\"owed\": true"), "written down before it began");
    b.hand("q");
    b.until("note Stopping.");
    b.ended();
    let Bench1 { folder, .. } = b;

    let mut b = Bench1::start(folder, "insert = 1", Plan::Good);
    b.until("note Backup started. Mail runs on.");
    (0..4).for_each(|_| b.step());
    b.until("note Backup done, read back and good.");
    b.until_lamps(["steady", "steady", "off"]);
    let folder = b.end();
    assert!(ledger(folder.path()).contains("\"owed\": false"));

    // A power cut each time: the file is what is left of it.
    std::fs::write(folder.path().join("state/ledger.json"), "{\"owed\": true, \"resumed\": 3}").unwrap();
    let mut b = Bench1::start(folder, "insert = 1", Plan::Good);
    b.until(
        "note The box went down during the same backup again and again: it is not begun by itself any more.",
    );
    b.until_lamps(["wink", "steady", "fast"]);
    b.end();
}

#[test]
fn a_disk_in_doubt_and_a_source_that_shrank_are_faults() {
    for (plan, words) in
        [(Plan::Doubted, "this disk went back in time"), (Plan::Shrunk, "tree has 1 files now")]
    {
        let mut b = Bench1::with_labels([Some("ours"), None], "");
        *b.puppet.plan.lock().unwrap() = plan;
        if plan == Plan::Doubted {
            std::fs::write(b.folder.path().join("d1/mailkeep/doubt"), "").unwrap();
        }
        b.hand("1");
        if plan == Plan::Shrunk {
            b.until_lamps(["wink", "steady", "off"]);
            b.hand("b");
            (0..4).for_each(|_| b.step());
        }
        b.until_part(words);
        if plan == Plan::Shrunk {
            b.until("note Backup done, read back and good.");
            b.until_lamps(["steady", "steady", "fast"]);
            b.hand("b");
            b.until_lamps(["steady", "steady", "steady"]);
            *b.puppet.plan.lock().unwrap() = Plan::Good;
            b.hand("b");
            (0..4).for_each(|_| b.step());
            b.until("note Backup done, read back and good.");
            b.until_lamps(["steady", "steady", "off"]);
        } else {
            b.until_lamps(["wink", "steady", "fast"]);
        }
        b.end();
    }
}

#[test]
fn the_disk_whose_turn_it_is_is_asked_for_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("d1/mailkeep")).unwrap();
    std::fs::write(folder.path().join("d1/mailkeep/label"), "ours").unwrap();
    std::fs::create_dir(folder.path().join("state")).unwrap();
    let set = "{\"id-d1\": {\"label\": \"disk d1\", \"proven\": 1780000000},
                \"id-d2\": {\"label\": \"disk d2\", \"proven\": 1770000000}}";
    std::fs::write(folder.path().join("state/disks.json"), set).unwrap();
    let mut b = Bench1::start(folder, "insert = 1\n[disks]\nset-size = 2\n", Plan::Good);
    b.until("note It is time to swap: put in \"disk d2\".");
    b.until_lamps(["wink", "fast", "off"]);
    b.end();
}
