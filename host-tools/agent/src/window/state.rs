//! The agent's own folder on the server: one sub-folder per service that is stopped, with the intent, the locks and the
//! exported list. It belongs to the service and not to the source file: two boxes, or two source files, that stop the
//! same service must see each other.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mailkeep_format::ContentHash;
use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::AgentError;
use crate::limits;

/// Names the folder instead of the usual place.
pub const STATE_ENV: &str = "MAILKEEP_AGENT_STATE";

/// The usual place of all state on a server where the agent is root.
pub const SYSTEM_BASE: &str = "/var/lib/mailkeep-agent";

/// The folder of one service.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
}

/// A held lock; given back when it is dropped, also by a kill.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it held by a child that has been forked and has not reached its exec yet.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Where all state lies: [`STATE_ENV`], else `/var/lib/mailkeep-agent` for root, else the user's state folder, else one
/// in `/tmp` that only this user can write.
pub fn base() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = from(STATE_ENV) {
        return named;
    }
    if geteuid().is_root() {
        return SYSTEM_BASE.into();
    }
    let user = from("XDG_STATE_HOME").or_else(|| from("HOME").map(|home| home.join(".local/state")));
    match user.filter(|folder| folder.is_absolute()) {
        Some(folder) => folder.join("mailkeep-agent"),
        None => format!("/tmp/mailkeep-agent-{}", geteuid().as_raw()).into(),
    }
}

/// [`base`], made if it is not there.
///
/// # Errors
/// It cannot be made, or others could write it.
pub fn private_base() -> Result<PathBuf, AgentError> {
    let base = base();
    make_private(&base)?;
    Ok(base)
}

impl StateFolder {
    /// The folder of the service of this name (for most, the words that start it), made if it is not there.
    ///
    /// # Errors
    /// It cannot be made, or others could write it: what is in there is executed.
    pub fn open(service: &[String]) -> Result<StateFolder, AgentError> {
        let base = base();
        let hash = ContentHash::of(service.join("\0").as_bytes()).hex();
        let path = base.join(format!("service-{}", &hash[..16]));
        make_private(&base)?;
        make_private(&path)?;
        Ok(StateFolder { path })
    }

    /// A folder that is there already, as the guard is told.
    ///
    /// # Errors
    /// Others could write it.
    pub fn existing(path: &Path) -> Result<StateFolder, AgentError> {
        check_private(path)?;
        Ok(StateFolder { path: path.to_owned() })
    }

    /// The folders of all services that have one.
    pub fn all() -> Vec<StateFolder> {
        let Ok(entries) = fs::read_dir(base()) else { return Vec::new() };
        let paths =
            entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(|path| path.is_dir());
        paths.filter_map(|path| StateFolder::existing(&path).ok()).collect()
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Takes a lock at once, or tells that another process has it.
    ///
    /// # Errors
    /// The lock file cannot be used.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>, AgentError> {
        let file = self.lock_file(name)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => {
                Err(AgentError::State { action: "lock", path: self.file(name), source: error.into() })
            }
        }
    }

    /// Takes a lock, waiting at most `patience`.
    ///
    /// # Errors
    /// The lock file cannot be used.
    pub fn lock_within(&self, name: &str, patience: Duration) -> Result<Option<Lock>, AgentError> {
        let end = Instant::now() + patience;
        loop {
            let lock = self.try_lock(name)?;
            if lock.is_some() || Instant::now() >= end {
                return Ok(lock);
            }
            std::thread::sleep(limits::POLL);
        }
    }

    /// Takes a lock, waiting for as long as it takes.
    ///
    /// # Errors
    /// The lock file cannot be used.
    pub fn lock(&self, name: &str) -> Result<Lock, AgentError> {
        let file = self.lock_file(name)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Lock { file }),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(AgentError::State {
                        action: "lock",
                        path: self.file(name),
                        source: error.into(),
                    });
                }
            }
        }
    }

    fn lock_file(&self, name: &str) -> Result<File, AgentError> {
        let path = self.file(name);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        opened.map_err(|source| AgentError::State { action: "open", path, source })
    }

    /// Writes a file so that a crash leaves the old one or the new one, durable when this returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_durably(&self, name: &str, bytes: &[u8]) -> Result<(), AgentError> {
        let path = self.file(name);
        let write = || {
            let new = self.file(&format!("{name}.new"));
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            io::Write::write_all(&mut file, bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| AgentError::State { action: "write", path: path.clone(), source })
    }

    /// The note in JSON of this name; `None` if it is not there. `advice` is what to do with one that is damaged.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn note<T: DeserializeOwned>(&self, name: &str, advice: &str) -> Result<Option<T>, AgentError> {
        let path = self.file(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(AgentError::State { action: "read", path, source }),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| AgentError::StateUnsafe {
            path,
            problem: format!("it is damaged ({error}); {advice}"),
        })
    }

    /// Writes a note in JSON, durably: see [`StateFolder::write_durably`].
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_note<T: Serialize>(&self, name: &str, note: &T) -> Result<(), AgentError> {
        let text = serde_json::to_vec_pretty(note).map_err(|error| AgentError::State {
            action: "encode",
            path: self.file(name),
            source: error.into(),
        })?;
        self.write_durably(name, &text)
    }

    /// Removes a file, durably; one that is not there is fine.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_durably(&self, name: &str) -> Result<(), AgentError> {
        let path = self.file(name);
        let remove = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            File::open(&self.path)?.sync_all()
        };
        remove().map_err(|source| AgentError::State { action: "remove", path: path.clone(), source })
    }
}

fn make_private(path: &Path) -> Result<(), AgentError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| AgentError::State { action: "make the folder", path: path.to_owned(), source })?;
    check_private(path)
}

fn check_private(path: &Path) -> Result<(), AgentError> {
    let stat = fs::symlink_metadata(path).map_err(|source| AgentError::State {
        action: "look at",
        path: path.to_owned(),
        source,
    })?;
    let problem = if !stat.is_dir() {
        "it is no folder; remove it"
    } else if stat.uid() != geteuid().as_raw() {
        "it belongs to another user; remove it or name another folder in MAILKEEP_AGENT_STATE"
    } else if stat.mode() & 0o022 != 0 {
        "others can write it, and what is in there is executed; chmod it to 0700"
    } else {
        return Ok(());
    };
    Err(AgentError::StateUnsafe { path: path.to_owned(), problem: problem.to_owned() })
}
