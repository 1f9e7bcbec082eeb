//! The seam to whatever makes backups: looks at a disk, pulls a source onto it, reads back what was sealed.
//!
//! **Contract.** All calls block and are made from threads of their own. `backup` returns only when mail runs
//! again, or when it is certain that the restart guard on the server sees to it; also when it was cancelled.
//! What it returns is sealed: durable on the disk's file system. `identify` writes nothing to a disk.
//! Problems that do not end a job are logged where they are found, and counted in its result.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mailkeep_controller::{Identity, Phase};
use mailkeep_mail::Source;

/// Why a job ended without a proven snapshot.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull(#[source] Cause),
    /// The job ended while mail was stopped, and it is not certain that mail answers again.
    #[error("mail may not answer again: look at the mail server now")]
    MailDown(#[source] Cause),
    /// The end was asked for, and mail runs.
    #[error("ended early, as asked")]
    Cancelled,
    /// Anything else.
    #[error("{what}")]
    Failed {
        /// What failed, on what, what to do.
        what: String,
        /// Why.
        source: Cause,
    },
}

/// An underlying error.
pub type Cause = Box<dyn Error + Send + Sync>;

/// One pull.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// What is backed up.
    pub source: &'a Source,
    /// The repository's folder on the mounted disk.
    pub repository: &'a Path,
    /// Becomes true when the job is to end as soon as that is safe.
    pub cancel: &'a AtomicBool,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It entered a phase.
    Phase(Phase),
    /// Where it stands; at most ten times a second.
    Count {
        /// Files dealt with, and to expect where that is known.
        files: (u64, Option<u64>),
        /// Bytes dealt with, and to expect where that is known.
        bytes: (u64, Option<u64>),
    },
    /// A snapshot is sealed; told by the job, not by the engine.
    Sealed(Sealed),
    /// Old snapshots were removed by the rules; told by the job.
    Pruned(Pruned),
    /// They could not be, and why; told by the job.
    NotPruned(String),
    /// Something else that a person should read.
    Told(String),
}

/// A sealed snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its id, as text.
    pub snapshot: String,
    /// Its generation.
    pub generation: u64,
    /// Nothing is missing, nothing moved under the copy, and the mail check is good.
    pub complete: bool,
    /// How long mail was stopped, milliseconds.
    pub window_ms: Option<u64>,
    /// Files in it.
    pub files: u64,
    /// Bytes that it added to the disk.
    pub added_bytes: u64,
    /// What is not as it should be, one line each.
    pub remarks: Vec<String>,
    /// The disk is not as the box remembers it: nothing may be removed from it before a person has looked.
    pub doubted: bool,
    /// The source has lost most of its files since an earlier snapshot, in a sentence.
    pub shrunk: Option<String>,
}

/// What became of old snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Snapshots that are removed.
    pub removed: u64,
    /// Bytes that became free on the disk.
    pub freed_bytes: u64,
    /// Why something stays that would have gone, and damage that was met; one line each.
    pub remarks: Vec<String>,
}

/// What a look at a disk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Whose it is.
    pub identity: Identity,
    /// Which it is, if it is ours.
    pub disk: Option<DiskName>,
    /// Why a person should look at it before anything is removed from it.
    pub doubt: Option<String>,
}

impl From<Identity> for Looked {
    fn from(identity: Identity) -> Self {
        Self { identity, disk: None, doubt: None }
    }
}

/// A disk by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskName {
    /// Repository id, as text.
    pub id: String,
    /// Its name for people.
    pub label: String,
}

/// Makes backups.
pub trait Engine: Send + Sync + 'static {
    /// Whose disk is it? `repository` is a folder that may hold anything; nothing is written.
    ///
    /// # Errors
    /// The folder can't be read at all.
    fn identify(&self, repository: &Path) -> Result<Looked, EngineError>;

    /// Pulls a source and seals a snapshot.
    ///
    /// # Errors
    /// There is no new snapshot.
    fn backup(&self, work: Work<'_>, news: &(dyn Fn(News) + Sync)) -> Result<Sealed, EngineError>;

    /// Reads back what the snapshot added, past the cache where possible. `Ok(())`: it is good.
    ///
    /// # Errors
    /// It is damaged, or could not be read.
    fn verify(
        &self,
        work: Work<'_>,
        sealed: &Sealed,
        news: &(dyn Fn(News) + Sync),
    ) -> Result<(), EngineError>;

    /// Removes snapshots of these sources that no configured rule keeps, and gives their room back; `None` where no rule
    /// is configured: then nothing is ever removed. Takes the disk's lock; ends early, with the disk sound, on `cancel`.
    ///
    /// # Errors
    /// It was not done, or not to its end.
    fn prune(
        &self,
        repository: &Path,
        sources: &[String],
        cancel: &Arc<AtomicBool>,
        news: &(dyn Fn(News) + Sync),
    ) -> Result<Option<Pruned>, EngineError>;

    /// Does what follows upon proven snapshots of these sources: standbys are brought up to date, what the disk carries
    /// for a rescue is renewed. What goes wrong is told as news and changes nothing of the result. Ends early on `cancel`.
    fn afterwards(
        &self,
        repository: &Path,
        sources: &[String],
        cancel: &AtomicBool,
        news: &(dyn Fn(News) + Sync),
    ) {
        let _ = (repository, sources, cancel, news);
    }
}
