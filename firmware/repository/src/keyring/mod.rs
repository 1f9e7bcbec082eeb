//! Getting at the master key: which key the caller has, and which key file it opens. Follows FORMAT.md, "Keys".

mod holders;

use std::path::PathBuf;

use mailkeep_format::{Identity, KeyError, Keys, Master, RepositoryId, keys};

use crate::error::{RepositoryError, chain};
use crate::layout;
use crate::monitor::{Monitor, Problem, Severity};
use crate::storage::{Storage, read_whole};

pub use holders::{AddedKey, KeyHolder, key_holders};

/// The key a caller opens a repository with.
#[derive(Clone)]
pub enum KeySource {
    /// A file with an age identity in it (the box key, or the recovery key typed into a file).
    File(PathBuf),
    /// An identity.
    Identity(Identity),
    /// None: only for repositories made without encryption.
    Plain,
}

impl KeySource {
    /// The identity, if this source has one.
    ///
    /// # Errors
    /// [`RepositoryError::KeyFile`], [`RepositoryError::KeyText`].
    pub fn identity(&self) -> Result<Option<Identity>, RepositoryError> {
        match self {
            KeySource::Plain => Ok(None),
            KeySource::Identity(identity) => Ok(Some(identity.clone())),
            KeySource::File(path) => {
                let shown = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|source| RepositoryError::KeyFile { path: shown.clone(), source })?;
                let identity = Identity::parse(&text)
                    .map_err(|source| RepositoryError::KeyText { path: shown, source })?;
                Ok(Some(identity))
            }
        }
    }
}

/// Opened keys, and whether a secret was needed for it.
pub(crate) struct Opened {
    pub(crate) keys: Keys,
    pub(crate) encrypted: bool,
}

/// Opens the keys of a repository.
pub(crate) fn open(
    storage: &dyn Storage,
    source: &KeySource,
    repository: &RepositoryId,
    monitor: &dyn Monitor,
) -> Result<Opened, RepositoryError> {
    let (name, master) = open_master(storage, source, repository, monitor)?;
    Ok(Opened { keys: master.keys(), encrypted: name != layout::PLAIN_KEY })
}

/// Looks through both copies of all key files for one that opens; gives its name and the master.
fn open_master(
    storage: &dyn Storage,
    source: &KeySource,
    repository: &RepositoryId,
    monitor: &dyn Monitor,
) -> Result<(String, Master), RepositoryError> {
    let here = || storage.describe();
    let mut found = 0;
    let (mut damaged, mut unreadable) = (None, None);
    let mut identity = None;
    for folder in layout::KEYS {
        let entries = match storage.list(folder) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => {
                monitor.problem(&Problem::new(
                    Severity::Covered,
                    folder,
                    "this copy of the key files is missing",
                ));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for entry in entries.iter().filter(|entry| !entry.directory) {
            let path = format!("{folder}/{}", entry.name);
            let plain = entry.name == layout::PLAIN_KEY;
            if !plain && !entry.name.ends_with(".age") {
                continue;
            }
            found += 1;
            let bytes = match read_whole(storage, &path, mailkeep_format::limits::KEY_FILE_MAX as u64) {
                Ok(bytes) => bytes,
                // There is another copy, and there may be another key file.
                Err(error) => {
                    monitor.problem(&Problem::new(Severity::Covered, path, chain(&error)));
                    unreadable = Some(error);
                    continue;
                }
            };
            let master = if plain {
                std::str::from_utf8(&bytes)
                    .map_err(|_| KeyError::Damaged { why: "it is not text".to_owned() })
                    .and_then(|text| keys::unwrap_plain(text, repository))
            } else {
                if identity.is_none() {
                    identity = source.identity()?;
                }
                match &identity {
                    Some(identity) => keys::unwrap(&bytes, identity, repository),
                    None => continue,
                }
            };
            match master {
                Ok(master) => return Ok((entry.name.clone(), master)),
                Err(KeyError::WrongKey) => {}
                Err(error) => {
                    let what = format!("this key file cannot be used: {error}");
                    monitor.problem(&Problem::new(Severity::Covered, path, what));
                    damaged = Some(error);
                }
            }
        }
    }
    // A disk that was pulled out is no damaged one.
    if let (Some(error), None) = (unreadable, &damaged) {
        return Err(error.into());
    }
    Err(match (damaged, found) {
        (Some(source), _) => RepositoryError::DamagedKeys { path: here(), source },
        (None, 0) => {
            let source = KeyError::Damaged { why: "there is none".to_owned() };
            RepositoryError::DamagedKeys { path: here(), source }
        }
        (None, _) if matches!(source, KeySource::Plain) => RepositoryError::KeyNeeded { path: here() },
        (None, _) => RepositoryError::WrongKey { path: here() },
    })
}
