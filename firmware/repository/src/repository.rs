//! An open repository: where it is, its keys, its label. What can be done with it stands with the doer: `writer`,
//! `reader` and `snapshots` each add their methods to it.

use std::fmt;
use std::sync::Arc;

use mailkeep_format::{Identity, Keys, Label, RepositoryId};

use crate::error::RepositoryError;
use crate::init::{InitOptions, Made};
use crate::keyring::{self, KeySource, Opened};
use crate::lock::{self, Lease};
use crate::monitor::{Monitor, Problem, Severity};
use crate::storage::{Storage, read_whole};
use crate::{init, layout};

/// A new repository.
#[derive(Clone)]
pub struct InitDone {
    /// It, opened.
    pub repository: Repository,
    /// The recovery key, to be shown once and kept nowhere. `None` without encryption.
    pub recovery: Option<Identity>,
}

/// An open repository. Clones are the same one.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<dyn Storage>,
    keys: Keys,
    label: Label,
    encrypted: bool,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("storage", &self.inner.storage).field("id", &self.id()).finish()
    }
}

impl Repository {
    /// Makes a repository in an empty folder.
    ///
    /// # Errors
    /// [`RepositoryError::NotEmpty`], and whatever keeps the disk from being written.
    pub fn init(storage: Arc<dyn Storage>, options: &InitOptions) -> Result<InitDone, RepositoryError> {
        let Made { opened, label, recovery } = init::init(storage.clone(), options)?;
        Ok(InitDone { repository: Repository::new(storage, opened, label), recovery })
    }

    /// Opens a repository. Takes no lock and writes nothing. A copy of label or keys that is damaged or missing while
    /// the other one is good goes to `monitor`.
    ///
    /// # Errors
    /// [`RepositoryError::Absent`] (75), [`RepositoryError::WrongKey`] and its kin (77),
    /// [`RepositoryError::Unsupported`] (1), [`RepositoryError::Damaged`] (65).
    pub fn open(
        storage: Arc<dyn Storage>,
        source: &KeySource,
        monitor: &dyn Monitor,
    ) -> Result<Self, RepositoryError> {
        let mut first_error = None;
        let (copies, missing) = label_copies(&*storage)?;
        for copy in copies {
            match copy.and_then(|(path, bytes, label)| {
                let opened = keyring::open(&*storage, source, &label.repository, monitor)?;
                let label = Label::verify(&bytes, &opened.keys)
                    .map_err(|source| RepositoryError::decoding(path, source))?;
                Ok(Repository::new(storage.clone(), opened, label))
            }) {
                Ok(repository) => {
                    // Only now: what is said of a copy would hide why the whole does not open.
                    for path in missing {
                        let what = "this copy of the label is missing; the next backup brings it back";
                        monitor.problem(&Problem::new(Severity::Note, path, what));
                    }
                    if let Some(error) = first_error {
                        report_copy(monitor, &error);
                    }
                    return Ok(repository);
                }
                // Both are written alike, so a newer one beside a good one is a damaged one.
                Err(error @ RepositoryError::Unsupported { .. }) => first_error = Some(error),
                // The other copy has the same to say about keys.
                Err(error) if error.exit_code() != 65 => {
                    return Err(match first_error {
                        Some(newer @ RepositoryError::Unsupported { .. }) => newer,
                        _ => error,
                    });
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| RepositoryError::Absent { path: storage.describe() }))
    }

    /// Reads the label without a key: good for telling disks apart, not for trusting one.
    ///
    /// # Errors
    /// [`RepositoryError::Absent`], [`RepositoryError::Unsupported`], [`RepositoryError::Damaged`].
    pub fn peek(storage: &dyn Storage) -> Result<Label, RepositoryError> {
        let mut error = RepositoryError::Absent { path: storage.describe() };
        for copy in label_copies(storage)?.0 {
            match copy {
                Ok((_, _, label)) => return Ok(label),
                Err(found) => error = found,
            }
        }
        Err(error)
    }

    pub(crate) fn new(storage: Arc<dyn Storage>, opened: Opened, label: Label) -> Self {
        let Opened { keys, encrypted } = opened;
        Repository { inner: Arc::new(Inner { storage, keys, label, encrypted }) }
    }

    /// Its random name.
    pub fn id(&self) -> RepositoryId {
        self.inner.label.repository
    }

    /// Its authentic label.
    pub fn label(&self) -> &Label {
        &self.inner.label
    }

    /// Whether a key was needed to open it.
    pub fn encrypted(&self) -> bool {
        self.inner.encrypted
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        self.inner.storage.describe()
    }

    /// Bytes that still fit on the disk.
    ///
    /// # Errors
    /// [`RepositoryError::Storage`].
    pub fn free_space(&self) -> Result<u64, RepositoryError> {
        Ok(self.inner.storage.free_space()?)
    }

    /// The storage below.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.inner.storage
    }

    /// The id that contents with this hash have here.
    pub fn chunk_id(
        &self,
        kind: mailkeep_format::ChunkKind,
        hash: &mailkeep_format::ContentHash,
    ) -> mailkeep_format::ChunkId {
        self.keys().id.chunk_id(kind, hash)
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// Removes the lease that another box left behind; gives what it said.
    ///
    /// # Errors
    /// [`RepositoryError::Locked`] while a process of this machine writes.
    pub fn unlock(&self) -> Result<Option<Lease>, RepositoryError> {
        lock::unlock(&*self.inner.storage)
    }
}

type LabelCopy = Result<(&'static str, Vec<u8>, Label), RepositoryError>;

/// The copies of the label that are there, decoded or not, and the paths of those that are not there.
fn label_copies(storage: &dyn Storage) -> Result<(Vec<LabelCopy>, Vec<&'static str>), RepositoryError> {
    let mut copies = Vec::new();
    let mut missing = Vec::new();
    for path in layout::LABELS {
        match read_whole(storage, path, mailkeep_format::limits::LABEL_FILE_MAX as u64) {
            Ok(bytes) => match Label::decode(&bytes) {
                Ok(label) => copies.push(Ok((path, bytes, label))),
                Err(source) => copies.push(Err(RepositoryError::decoding(path, source))),
            },
            Err(error) if error.is_not_found() => missing.push(path),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((copies, missing))
}

fn report_copy(monitor: &dyn Monitor, error: &RepositoryError) {
    let path = match error {
        RepositoryError::Damaged { path, .. } | RepositoryError::Unsupported { path, .. } => path.clone(),
        _ => "label".to_owned(),
    };
    let what = format!("one copy is damaged, the other one was used: {}", crate::error::chain(error));
    monitor.problem(&Problem::new(Severity::Covered, path, what));
}
