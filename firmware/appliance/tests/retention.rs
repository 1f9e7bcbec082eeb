//! The box removes old snapshots by its rules: the real engine, a real btrfs in a file, the daemon on the bench board.
//! Hazards: a prune beside a writer (9), a source that shrank (30), a prune that is cut off (8), a failing prune that
//! makes a good backup look bad.
#![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mailkeep_appliance::engine::{Engine, EngineError, Looked, News, Pruned, Sealed, Work};
use mailkeep_appliance::pull_engine::PullEngine;
use mailkeep_board::disk::{Access, Medium};
use mailkeep_controller::Phase;
use mailkeep_repository::format::manifest::{SourceInfo, Stats};
use mailkeep_repository::format::{ChunkKind, Identity as KeyIdentity, Meta, Node, NodeKind};
use mailkeep_repository::retention::Keep;
use mailkeep_repository::{
    Draft, Encryption, InitOptions, KeySource, LocalStorage, LogMonitor, ReadData, Repository, SnapshotEntry,
    Storage, VerifyOptions, WriterOptions, verify,
};
use support::Box1;

fn new_key(file: &Path) -> KeyIdentity {
    let key = KeyIdentity::generate();
    std::fs::write(file, key.to_text().as_bytes()).unwrap();
    key
}

fn opened(folder: &Path, key: &Path) -> Repository {
    let storage = Arc::new(LocalStorage::open(folder).unwrap());
    Repository::open(storage, &KeySource::File(key.to_owned()), &LogMonitor).unwrap()
}

/// Seals a snapshot of `files` files that no other has.
fn seal(repository: &Repository, number: u64, files: u64) -> (String, u64) {
    let mut writer = repository.writer(&WriterOptions::default(), &LogMonitor).unwrap();
    let mut nodes = Vec::new();
    for file in 0..files {
        // Does not compress, and is the same every time.
        let mut bytes = vec![0; 40_000];
        let mut word = (number * 1000 + file).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for byte in &mut bytes {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            *byte = word as u8;
        }
        let content = vec![writer.put(ChunkKind::Data, &bytes).unwrap()];
        let kind = NodeKind::File { size: 40_000, sparse: false, content };
        nodes.push(Node {
            name: format!("{file:03}.").into_bytes(),
            meta: Meta { links: 1, ..Meta::default() },
            kind,
        });
    }
    let root = writer.put_tree(&nodes).unwrap();
    let draft = Draft {
        program: "test".into(),
        source: SourceInfo { name: "tree".into(), system: "generic".into(), host: "here".into() },
        started: 1_780_000_000 + number as i64,
        consistent: true,
        remarks: Vec::new(),
        passes: Vec::new(),
        window: None,
        versions: Vec::new(),
        users: Vec::new(),
        groups: Vec::new(),
        root,
        stats: Stats { files, bytes: files * 40_000, ..Stats::default() },
        mail_check: None,
    };
    let sealed = writer.seal(draft, &LogMonitor).unwrap();
    (sealed.id.to_string(), sealed.manifest.generation)
}

fn whole(repository: &Repository) -> Vec<u64> {
    let found = verify(repository, VerifyOptions { read: ReadData::All }, &LogMonitor).unwrap();
    assert!(!found.damaged(), "{:?}", found.problems);
    let entries: Vec<SnapshotEntry> = repository.snapshots(&LogMonitor).unwrap();
    entries.iter().map(|entry| entry.manifest.generation).collect()
}

fn last(count: u32) -> Option<Keep> {
    Some(Keep { last: count, ..Keep::default() })
}

fn tidy(engine: &PullEngine, folder: &Path, cancel: bool) -> Result<Option<Pruned>, EngineError> {
    let phases = Mutex::new(Vec::new());
    let cancel = Arc::new(AtomicBool::new(cancel));
    let done = engine.prune(folder, &["tree".to_owned()], &cancel, &|news| phases.lock().unwrap().push(news));
    let phases = phases.into_inner().unwrap();
    assert!(phases.iter().all(|news| *news == News::Phase(Phase::Pruning)), "{phases:?}");
    done
}

#[test]
fn without_rules_nothing_goes_and_with_them_only_what_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, key) = (folder.path().join("disk"), folder.path().join("box.key"));
    let encryption = Encryption::Wrapped { box_key: new_key(&key) };
    let storage = Arc::new(LocalStorage::prepare(&disk).unwrap());
    Repository::init(storage, &InitOptions { label: "disk".into(), encryption }).unwrap();
    let repository = opened(&disk, &key);
    (0..5).for_each(|number| drop(seal(&repository, number, 4)));
    let engine = |keep| PullEngine::new(key.clone()).keeping(keep);

    assert_eq!(tidy(&engine(None), &disk, false).unwrap(), None);
    assert_eq!(whole(&repository), [1, 2, 3, 4, 5]);
    // Somebody else writes: it is said, and nothing is done.
    let writer = repository.writer(&WriterOptions::default(), &LogMonitor).unwrap();
    let error = tidy(&engine(last(2)), &disk, false).unwrap_err();
    assert!(matches!(error, EngineError::Failed { .. }), "{error}");
    drop(writer);
    // Asked to end before it began to remove anything.
    let error = tidy(&engine(last(2)), &disk, true).unwrap_err();
    assert!(matches!(error, EngineError::Cancelled), "{error}");
    assert_eq!(whole(&repository), [1, 2, 3, 4, 5]);
    let other = engine(last(2)).prune(&disk, &["other".to_owned()], &Arc::default(), &|_| {});
    assert_eq!(
        other.unwrap().map(|pruned| pruned.removed),
        Some(0),
        "a source that has no new backup is left alone"
    );
    let pruned = tidy(&engine(last(2)), &disk, false).unwrap().unwrap();
    assert_eq!((pruned.removed, pruned.remarks.len()), (3, 0));
    assert_eq!(whole(&repository), [4, 5]);

    // A source that shrank keeps everything until a person has looked.
    seal(&repository, 6, 1);
    let pruned = tidy(&engine(last(1)), &disk, false).unwrap().unwrap();
    assert_eq!(pruned.removed, 0);
    assert!(pruned.remarks.iter().any(|remark| remark.contains("--accept-shrunk")), "{:?}", pruned.remarks);
    assert_eq!(whole(&repository), [4, 5, 6]);
}

/// Backs up without a server: all else is the real engine.
struct Local {
    real: PullEngine,
    key: PathBuf,
    number: AtomicU64,
    /// The next prune finds that somebody else writes.
    beside: AtomicBool,
}

impl Engine for Local {
    fn identify(&self, repository: &Path) -> Result<Looked, EngineError> {
        self.real.identify(repository)
    }

    fn backup(&self, work: Work<'_>, _: &(dyn Fn(News) + Sync)) -> Result<Sealed, EngineError> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (snapshot, generation) = seal(&opened(work.repository, &self.key), number, 20);
        Ok(Sealed {
            snapshot,
            generation,
            complete: true,
            window_ms: None,
            files: 20,
            added_bytes: 800_000,
            remarks: Vec::new(),
            doubted: false,
            shrunk: None,
        })
    }

    fn verify(
        &self,
        work: Work<'_>,
        sealed: &Sealed,
        news: &(dyn Fn(News) + Sync),
    ) -> Result<(), EngineError> {
        self.real.verify(work, sealed, news)
    }

    fn prune(
        &self,
        folder: &Path,
        sources: &[String],
        cancel: &Arc<AtomicBool>,
        news: &(dyn Fn(News) + Sync),
    ) -> Result<Option<Pruned>, EngineError> {
        let repository = self.beside.swap(false, Ordering::Relaxed).then(|| opened(folder, &self.key));
        let beside = repository
            .as_ref()
            .map(|repository| repository.writer(&WriterOptions::default(), &LogMonitor).unwrap());
        let done = self.real.prune(folder, sources, cancel, news);
        drop(beside);
        done
    }
}

/// A btrfs in a file with a repository in a subvolume; `None` where that can't be had.
fn btrfs_disk(folder: &Path, key: KeyIdentity) -> Option<PathBuf> {
    let image = folder.join("d1");
    std::fs::File::create(&image).unwrap().set_len(160 << 20).unwrap();
    let made = Command::new("mkfs.btrfs").args(["-q", "-m", "dup"]).arg(&image).output();
    let possible = rustix::process::geteuid().is_root() && made.is_ok_and(|output| output.status.success());
    assert!(possible || std::env::var_os("MAILKEEP_REQUIRE_ALL").is_none_or(|value| value != "1"));
    if !possible {
        return None;
    }
    let mounted = Medium::at(&image).unwrap().mount(&folder.join("made"), Access::Use).unwrap();
    let storage = Arc::new(LocalStorage::prepare(&mounted.root().join("mailkeep")).unwrap());
    Repository::init(
        storage,
        &InitOptions { label: "disk".into(), encryption: Encryption::Wrapped { box_key: key } },
    )
    .unwrap();
    mounted.unmount().unwrap();
    Some(image)
}

/// Generations of the snapshots and names of the guards on the disk, which is whole.
fn look_at(image: &Path, folder: &Path, key: &Path) -> (Vec<u64>, Vec<String>) {
    let mounted = Medium::at(image).unwrap().mount(&folder.join("look"), Access::Use).unwrap();
    let repository = mounted.root().join("mailkeep");
    let found = whole(&opened(&repository, key));
    let guards = LocalStorage::open(&repository).unwrap().guards().unwrap();
    mounted.unmount().unwrap();
    (found, guards)
}

#[test]
fn a_box_keeps_what_its_rules_say_on_btrfs() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("box.key");
    let Some(image) = btrfs_disk(folder.path(), new_key(&key)) else { return };
    let extra = "insert = 1\n[retention]\nkeep-last = 2\nkeep-hourly = 1";
    let mut local = None;
    let mut b = Box1::start(folder.path(), extra, |config| {
        let real = PullEngine::new(config.key_file.clone()).keeping(config.retention);
        let (number, beside) = (AtomicU64::new(0), AtomicBool::new(false));
        let engine = Arc::new(Local { real, key: key.clone(), number, beside });
        local = Some(Arc::clone(&engine));
        engine
    });
    let local = local.unwrap();
    let again = |b: &mut Box1, removed: Option<&str>| {
        b.hand("b");
        if let Some(words) = removed {
            b.until_part(words);
        }
        b.until("note Backup done, read back and good.");
        b.until("note The disk is flushed and unmounted: safe to remove.");
        b.until_lamps(["steady", "steady", "off"]);
        b.hand("0");
        b.until_lamps(["steady", "off", "off"]);
    };
    b.until_lamps(["wink", "steady", "off"]);
    for (number, removed) in
        [None, None, Some("Retention: 1 old snapshot removed"), None].into_iter().enumerate()
    {
        if number > 0 {
            b.hand("1");
            b.until_lamps(["steady", "steady", "off"]);
        }
        if number == 3 {
            // Now somebody else writes when the old ones are to go: the backup is good all the same.
            local.beside.store(true, Ordering::Relaxed);
            again(
                &mut b,
                Some("Retention: no old snapshot was removed now; the backup is good all the same"),
            );
        } else {
            again(&mut b, removed);
        }
    }
    b.end();
    let (found, guards) = look_at(&image, folder.path(), &key);
    assert_eq!(found, [2, 3, 4]);
    assert!(!guards.is_empty() && guards.iter().all(|name| !name.starts_with("hold-")), "{guards:?}");
    assert_eq!(mailkeep_board::disk::clear_stale(folder.path()).unwrap(), 0, "something is still mounted");
}
