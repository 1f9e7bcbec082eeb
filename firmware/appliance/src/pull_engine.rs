//! The engine that the box really has: `puller` for the pull, `repository` for the disk.
//!
//! A disk is ours if the box key opens it; any other repository is foreign, and a folder without one is unknown. A box
//! with a key never takes a repository without encryption for its own: whoever swaps a disk could otherwise have the
//! next backup written in the clear. Only a box without a key uses such disks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Local;
use mailkeep_controller::{Identity, Phase};
use mailkeep_puller::{ProcessTransport, Progress, PullError, PullOptions, Status, pull};
use mailkeep_repository::retention::{Candidate, Clock, Halt, Keep, Terms, decide};
use mailkeep_repository::{
    Collected, KeySource, LocalStorage, LogMonitor, NextSlice, PruneOptions, Repository, RepositoryError,
    Seen, Severity, SnapshotEntry, WriterOptions, limits, verify_next,
};

use crate::config::Standby;
use crate::disk_set::{DiskSet, Room};
use crate::engine::{DiskName, Engine, EngineError, Looked, News, Pruned, Sealed, Work};
use crate::tool::Tool;
use crate::words;

/// Program and version, for agent and manifest.
const PROGRAM: &str = concat!("mailkeepd ", env!("CARGO_PKG_VERSION"));

/// Pulls with an agent, writes to a repository.
pub struct PullEngine {
    key: KeySource,
    transport: ProcessTransport,
    writer: WriterOptions,
    /// Where it remembers what it sealed on which disk.
    set: Option<Arc<DiskSet>>,
    /// In how many runs each disk is wholly read back.
    slices: u32,
    /// Which old snapshots stay; without rules all do.
    keep: Option<Keep>,
    /// Who is brought up to date after a backup.
    standbys: Vec<Standby>,
    /// By whom, and who renews the rescue kit; without it neither is done.
    tool: Option<Tool>,
}

impl PullEngine {
    /// An engine that opens disks with this box key; without the file, only disks that are not encrypted.
    pub fn new(key_file: PathBuf) -> Self {
        let key = if key_file.exists() {
            KeySource::File(key_file)
        } else {
            tracing::warn!(key = %key_file.display(), "no box key: only disks without encryption can be used");
            KeySource::Plain
        };
        Self {
            key,
            transport: ProcessTransport::default(),
            writer: WriterOptions::default(),
            set: None,
            slices: limits::SLICES,
            keep: None,
            standbys: Vec::new(),
            tool: None,
        }
    }

    /// Remembers here what it sealed on which disk, to know an older clone of one.
    pub fn remembering(self, set: Arc<DiskSet>) -> Self {
        Self { set: Some(set), ..self }
    }

    /// Reads each disk wholly in so many runs.
    pub fn reading_back_in(self, slices: u32) -> Self {
        Self { slices, ..self }
    }

    /// Removes old snapshots by these rules.
    pub fn keeping(self, keep: Option<Keep>) -> Self {
        Self { keep, ..self }
    }

    /// Lets this program bring these standbys up to date after a backup, and renew what the disk carries for a rescue.
    pub fn followed_by(self, tool: Option<Tool>, standbys: Vec<Standby>) -> Self {
        if tool.is_none() {
            tracing::warn!("{}", words::NO_TOOL);
        }
        Self { tool, standbys, ..self }
    }

    /// Notes that a disk is here, and says what contradicts the box's memory of it.
    fn doubt(&self, repository: &Repository, folder: &Path) -> Option<String> {
        let set = self.set.as_ref()?;
        let entries = repository.snapshots(&LogMonitor).ok()?;
        let label = &repository.label().label;
        let now = Local::now().timestamp();
        let doubt = set.seen(repository.id(), label, &entries, room(folder), now)?;
        tracing::error!(disk = label, "{doubt}");
        Some(doubt)
    }

    fn open(&self, folder: &Path) -> Result<Repository, RepositoryError> {
        let storage = LocalStorage::open(folder)?;
        let repository = Repository::open(Arc::new(storage), &self.key, &LogMonitor)?;
        if !repository.encrypted() && !matches!(self.key, KeySource::Plain) {
            return Err(RepositoryError::WrongKey { path: repository.place() });
        }
        Ok(repository)
    }
}

impl Engine for PullEngine {
    fn identify(&self, folder: &Path) -> Result<Looked, EngineError> {
        match self.open(folder) {
            Ok(repository) => {
                let name = DiskName { id: repository.id().hex(), label: repository.label().label.clone() };
                // Said when the disk comes in, and again in the report of the backup.
                let doubt = self.doubt(&repository, folder);
                Ok(Looked { identity: Identity::Ours, disk: Some(name), doubt })
            }
            Err(RepositoryError::Absent { .. }) => Ok(Identity::Unknown.into()),
            Err(
                error @ (RepositoryError::WrongKey { .. }
                | RepositoryError::KeyNeeded { .. }
                | RepositoryError::Unsupported { .. }),
            ) => {
                tracing::warn!("{}", words::chain(&error));
                Ok(Identity::Foreign.into())
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn backup(&self, work: Work<'_>, news: &(dyn Fn(News) + Sync)) -> Result<Sealed, EngineError> {
        let repository = self.open(work.repository).map_err(failed)?;
        let options = PullOptions {
            force_window: false,
            live_only: false,
            transport: &self.transport,
            cancel: work.cancel,
            writer: &self.writer,
            program: PROGRAM,
            // The source file's alone.
            bandwidth: None,
        };
        let relay = Relay {
            news,
            source: work.source.name.as_str(),
            shown: Mutex::new(Phase::Live),
            starting: AtomicBool::new(false),
            mail_in_doubt: AtomicBool::new(false),
        };
        let doubt = self.doubt(&repository, work.repository);
        let summary = pull(&repository, work.source, &options, &relay)
            .map_err(|error| pull_failed(error, relay.mail_in_doubt.load(Ordering::Relaxed)))?;
        if let Some(set) = &self.set {
            let seen = Seen { generation: summary.generation, snapshot: summary.snapshot_id };
            set.sealed(repository.id(), seen, summary.added_bytes, room(work.repository));
        }
        let problems = summary.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.what));
        Ok(Sealed {
            snapshot: summary.snapshot_id.to_string(),
            generation: summary.generation,
            complete: !summary.incomplete,
            window_ms: summary.window_ms,
            files: summary.files,
            added_bytes: summary.added_bytes,
            doubted: doubt.is_some(),
            shrunk: shrunk(&repository, work.source.name.as_str()),
            remarks: doubt.into_iter().chain(summary.remarks.iter().cloned()).chain(problems).collect(),
        })
    }

    fn verify(&self, work: Work<'_>, sealed: &Sealed, _: &(dyn Fn(News) + Sync)) -> Result<(), EngineError> {
        // Opened anew: what the writer still had in memory proves nothing.
        let repository = self.open(work.repository).map_err(failed)?;
        let snapshot =
            sealed.snapshot.parse().map_err(|error: mailkeep_repository::format::ids::IdError| {
                let what = format!("`{}` is no snapshot", sealed.snapshot);
                EngineError::Failed { what, source: error.into() }
            })?;
        // What it brought, and the next part of everything: what this costs does not grow with history.
        let machine = self.writer.machine.clone();
        let options = NextSlice { of: self.slices, snapshot: Some(snapshot), machine };
        let report = verify_next(&repository, &options, &LogMonitor).map_err(failed)?;
        tracing::info!(
            snapshot = %sealed.snapshot, directories = report.directories, packs = report.packs, bytes = report.bytes,
            problems = report.problems.len(), "read back"
        );
        if let Some(first) = report.problems.iter().find(|problem| problem.severity == Severity::Lost) {
            let what =
                format!("snapshot {} was sealed, but the disk does not read back well", sealed.snapshot);
            return Err(EngineError::Failed { what, source: first.to_string().into() });
        }
        if let (Some(set), true) = (&self.set, sealed.complete) {
            set.proven(repository.id(), Local::now().timestamp());
        }
        Ok(())
    }

    fn prune(
        &self,
        repository: &Path,
        sources: &[String],
        cancel: &Arc<AtomicBool>,
        news: &(dyn Fn(News) + Sync),
    ) -> Result<Option<Pruned>, EngineError> {
        let Some(keep) = self.keep else { return Ok(None) };
        news(News::Phase(Phase::Pruning));
        let repository = self.open(repository).map_err(failed)?;
        let now = Local::now();
        let options = PruneOptions {
            clock: Clock { now: now.timestamp(), offset: now.offset().local_minus_utc() },
            sources: sources.iter().cloned().collect(),
            cancel: Arc::clone(cancel),
            machine: self.writer.machine.clone(),
            program: PROGRAM.to_owned(),
            ..PruneOptions::new(keep)
        };
        let monitor = Collected::default();
        let report = repository.prune(&options, &monitor).map_err(|error| match error {
            RepositoryError::Interrupted => EngineError::Cancelled,
            error => failed(error),
        })?;
        let problems = monitor.problems();
        problems.iter().for_each(|problem| tracing::warn!("{problem}"));
        let halts = report.halts.iter().map(|(source, halt)| format!("{source}: {halt}"));
        let lost = problems.iter().filter(|problem| problem.severity == Severity::Lost);
        Ok(Some(Pruned {
            removed: report.removed(),
            freed_bytes: report.freed_bytes,
            remarks: halts.chain(lost.map(ToString::to_string)).collect(),
        }))
    }

    fn afterwards(
        &self,
        repository: &Path,
        sources: &[String],
        cancel: &AtomicBool,
        news: &(dyn Fn(News) + Sync),
    ) {
        let key = match &self.key {
            KeySource::File(path) => Some(path.as_path()),
            _ => None,
        };
        let run = |words: &[OsString]| match &self.tool {
            Some(tool) => tool.run(repository, key, words, cancel),
            None => Err(words::NO_TOOL.to_owned()),
        };
        for standby in self.standbys.iter().filter(|standby| sources.contains(&standby.of)) {
            let words: [OsString; 6] = [
                "restore-server".into(),
                "latest".into(),
                "--source".into(),
                standby.file.clone().into(),
                "--as-standby".into(),
                "--yes".into(),
            ];
            match run(&words) {
                Ok(true) => news(News::Told(words::standby_is_current(&standby.name, &standby.of))),
                Ok(false) => return,
                Err(why) => {
                    tracing::error!(standby = standby.name, "{why}");
                    news(News::Told(words::standby_is_behind(&standby.name, &why)));
                }
            }
        }
        if self.tool.is_none() {
            return;
        }
        if let Err(why) = run(&["rescue-kit".into()]) {
            tracing::warn!("{why}");
            news(News::Told(words::kit_is_old(&why)));
        }
    }
}

/// Size and free room of the file system on which this folder is.
fn room(folder: &Path) -> Option<Room> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Room { size: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
}

/// Whether the newest snapshot of a source is far smaller than recent ones (hazard 30): what halts retention, asked also
/// where no rule ever removes anything.
fn shrunk(repository: &Repository, source: &str) -> Option<String> {
    let entries = repository.snapshots(&LogMonitor).ok()?;
    let of_source = entries.iter().filter(|entry| entry.manifest.source.name == source);
    let candidates: Vec<Candidate> = of_source
        .map(|SnapshotEntry { id, manifest }| Candidate {
            id: *id,
            generation: manifest.generation,
            source: source.to_owned(),
            time: manifest.started,
            consistent: manifest.consistent,
            files: manifest.stats.files,
            bytes: manifest.stats.bytes,
        })
        .collect();
    // A rule that does not go by time, so that a wrong clock does not stand in the way of the question.
    let keep = Keep { last: u32::MAX, ..Keep::default() };
    let terms =
        Terms { keep, clock: Clock { now: Local::now().timestamp(), offset: 0 }, accept_shrunk: false };
    decide(&candidates, &terms).halts.into_iter().find_map(|(_, halt)| match halt {
        Halt::Shrunk { before, now } => Some(format!(
            "{source} has {} files ({} bytes) now, and had {} ({} bytes) before",
            now.0, now.1, before.0, before.1
        )),
        Halt::Clock | Halt::Damaged => None,
    })
}

/// Passes on what the puller tells.
struct Relay<'a> {
    news: &'a (dyn Fn(News) + Sync),
    source: &'a str,
    shown: Mutex<Phase>,
    starting: AtomicBool,
    mail_in_doubt: AtomicBool,
}

impl Progress for Relay<'_> {
    fn update(&self, status: &Status) {
        self.starting.store(status.phase == mailkeep_puller::Phase::Starting, Ordering::Relaxed);
        let phase = of_controller(status.phase);
        let was = std::mem::replace(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner), phase);
        if was != phase {
            (self.news)(News::Phase(phase));
        }
        if status.files_done > 0 {
            (self.news)(News::Count {
                files: (status.files_done, status.files_total),
                bytes: (status.bytes_done, status.bytes_total),
            });
        }
    }

    fn problem(&self, what: &str, path: &str) {
        tracing::warn!(source = self.source, path, "{what}");
        // The only thing that can go wrong then is that mail was not seen to answer.
        if self.starting.load(Ordering::Relaxed) {
            self.mail_in_doubt.store(true, Ordering::Relaxed);
        }
    }

    // The window is shown by its phases.
    fn window(&self, _open: bool) {}
}

fn of_controller(phase: mailkeep_puller::Phase) -> Phase {
    use mailkeep_puller::Phase as Pull;
    match phase {
        Pull::Connect | Pull::Live => Phase::Live,
        Pull::Stopping | Pull::Final | Pull::Starting => Phase::Window,
        Pull::Transfer | Pull::Check | Pull::Sealing => Phase::Transferring,
    }
}

fn pull_failed(error: PullError, mail_in_doubt: bool) -> EngineError {
    match error {
        _ if mail_in_doubt => EngineError::MailDown(error.into()),
        PullError::Interrupted => EngineError::Cancelled,
        PullError::Repository(error) => failed(error),
        error => EngineError::Failed { what: "the pull failed".to_owned(), source: error.into() },
    }
}

fn failed(error: RepositoryError) -> EngineError {
    match error {
        RepositoryError::DiskFull { .. } => EngineError::DiskFull(error.into()),
        error => EngineError::Failed { what: "the disk failed".to_owned(), source: error.into() },
    }
}
