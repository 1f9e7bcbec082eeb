//! The engine that the box really has: `puller` for the pull, `repository` for the disk.
//!
//! A disk is ours if the box key opens it; any other repository is foreign, and a folder without one is unknown. A box
//! with a key never takes a repository without encryption for its own: whoever swaps a disk could otherwise have the
//! next backup written in the clear. Only a box without a key uses such disks.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Local;
use mailkeep_controller::{Identity, Phase};
use mailkeep_puller::{ProcessTransport, Progress, PullError, PullOptions, Status, pull};
use mailkeep_repository::retention::{Clock, Keep};
use mailkeep_repository::{
    Collected, KeySource, LocalStorage, LogMonitor, NextSlice, PruneOptions, Repository, RepositoryError,
    Seen, Severity, WriterOptions, limits, verify_next,
};

use crate::engine::{Engine, EngineError, News, Pruned, Sealed, Work};
use crate::seen::SeenDisks;
use crate::words;

/// Program and version, for agent and manifest.
const PROGRAM: &str = concat!("mailkeepd ", env!("CARGO_PKG_VERSION"));

/// Pulls with an agent, writes to a repository.
pub struct PullEngine {
    key: KeySource,
    transport: ProcessTransport,
    writer: WriterOptions,
    /// Where it remembers what it sealed on which disk.
    state_dir: Option<PathBuf>,
    /// In how many runs each disk is wholly read back.
    slices: u32,
    /// Which old snapshots stay; without rules all do.
    keep: Option<Keep>,
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
            state_dir: None,
            slices: limits::SLICES,
            keep: None,
        }
    }

    /// Remembers in this folder what it sealed on which disk, to know an older clone of one.
    pub fn remembering(self, state_dir: PathBuf) -> Self {
        Self { state_dir: Some(state_dir), ..self }
    }

    /// Reads each disk wholly in so many runs.
    pub fn reading_back_in(self, slices: u32) -> Self {
        Self { slices, ..self }
    }

    /// Removes old snapshots by these rules.
    pub fn keeping(self, keep: Option<Keep>) -> Self {
        Self { keep, ..self }
    }

    /// What contradicts the box's memory of this disk.
    fn complaint(&self, repository: &Repository) -> Option<String> {
        let known = self.seen()?;
        let entries = repository.snapshots(&LogMonitor).ok()?;
        let complaint = known.complaint(repository.id(), &entries)?;
        tracing::error!(disk = repository.label().label, "{complaint}");
        Some(complaint)
    }

    fn seen(&self) -> Option<SeenDisks> {
        let state_dir = self.state_dir.as_ref()?;
        let complain = |error| tracing::warn!("what is remembered of the disks can't be read: {error}");
        Some(SeenDisks::load(state_dir).map_err(complain).unwrap_or_default())
    }

    fn remember(&self, repository: &Repository, seen: Seen) {
        let (Some(state_dir), Some(mut known)) = (&self.state_dir, self.seen()) else { return };
        if let Err(error) = known.remember(state_dir, repository.id(), seen) {
            tracing::warn!("what was sealed can't be remembered: {error}");
        }
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
    fn identify(&self, repository: &Path) -> Result<Identity, EngineError> {
        match self.open(repository) {
            Ok(repository) => {
                // Said when the disk comes in, and again in the report of the backup.
                self.complaint(&repository);
                Ok(Identity::Ours)
            }
            Err(RepositoryError::Absent { .. }) => Ok(Identity::Unknown),
            Err(
                error @ (RepositoryError::WrongKey { .. }
                | RepositoryError::KeyNeeded { .. }
                | RepositoryError::Unsupported { .. }),
            ) => {
                tracing::warn!("{}", words::chain(&error));
                Ok(Identity::Foreign)
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
        let complaint = self.complaint(&repository);
        let summary = pull(&repository, work.source, &options, &relay)
            .map_err(|error| pull_failed(error, relay.mail_in_doubt.load(Ordering::Relaxed)))?;
        self.remember(&repository, Seen { generation: summary.generation, snapshot: summary.snapshot_id });
        let problems = summary.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.what));
        Ok(Sealed {
            snapshot: summary.snapshot_id.to_string(),
            generation: summary.generation,
            complete: !summary.incomplete,
            window_ms: summary.window_ms,
            files: summary.files,
            added_bytes: summary.added_bytes,
            doubted: complaint.is_some(),
            remarks: complaint.into_iter().chain(summary.remarks.iter().cloned()).chain(problems).collect(),
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
