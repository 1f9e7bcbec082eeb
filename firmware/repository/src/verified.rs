//! The verification records on the disk: the newest authentic one, and how a new one takes its place. Follows COMMIT.md,
//! "Verification".
//!
//! A record can be lost without harm to any snapshot: then the round of verification begins anew, and what was damaged
//! is found again.

use mailkeep_format::{PackId, Salt, Verification, limits};

use crate::error::{RepositoryError, chain};
use crate::monitor::{Monitor, Problem, Severity};
use crate::repository::Repository;
use crate::storage::{Operation, Storage, StorageError, read_whole};
use crate::{durable, layout};

/// How often a record is asked for before the disk is taken not to give it.
const ATTEMPTS: u32 = 3;

/// What is known of the state of the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verified {
    /// The newest authentic record.
    pub(crate) newest: Option<Verification>,
    /// The highest sequence that any name claims.
    pub(crate) highest: u64,
    /// Names of records that are damaged.
    pub(crate) damaged: Vec<String>,
    /// The first record of these that the disk did not give: what it says is damaged is not known.
    unread: Option<String>,
    /// All names of records, by sequence.
    names: Vec<(u64, String)>,
}

impl Verified {
    /// Looks for the newest record. A damaged one is told to `monitor`; the one before it counts then.
    pub(crate) fn load(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, StorageError> {
        let storage = &**repository.storage();
        let entries = match storage.list(layout::VERIFIED) {
            Ok(entries) => entries,
            // The folder comes with the first record.
            Err(error) if error.is_not_found() => return Ok(Verified::default()),
            Err(error) => return Err(error),
        };
        let mut verified = Verified::default();
        for entry in entries {
            match layout::parse_numbered(&entry.name) {
                Some((sequence, _)) if !entry.directory => verified.names.push((sequence, entry.name)),
                _ => {
                    let path = format!("{}/{}", layout::VERIFIED, entry.name);
                    monitor.problem(&Problem::new(Severity::Note, path, "this is not a record's name"));
                }
            }
        }
        verified.names.sort();
        verified.highest = verified.names.last().map_or(0, |(sequence, _)| *sequence);
        for (_, name) in verified.names.iter().rev() {
            let path = format!("{}/{name}", layout::VERIFIED);
            let mut found = read(repository, &path, name);
            for _ in 1..ATTEMPTS {
                if matches!(&found, Err(RepositoryError::Storage(error)) if !error.is_not_found()) {
                    found = read(repository, &path, name);
                }
            }
            match found {
                Ok(record) => {
                    verified.newest = Some(record);
                    break;
                }
                // Superseded and removed since it was listed.
                Err(RepositoryError::Storage(error)) if error.is_not_found() => {}
                Err(error @ RepositoryError::Unsupported { .. }) => {
                    monitor.problem(&Problem::new(Severity::Note, path, chain(&error)));
                }
                Err(error) => {
                    if matches!(error, RepositoryError::Storage(_)) && verified.unread.is_none() {
                        verified.unread = Some(path.clone());
                    }
                    let what = format!("this verification record is damaged: {}", chain(&error));
                    monitor.problem(&Problem::new(Severity::Covered, path, what));
                    verified.damaged.push(name.clone());
                }
            }
        }
        Ok(verified)
    }

    /// Refuses to go on when the newest record is there and the disk does not give it: a new snapshot could rely on what
    /// it says is damaged. A reader goes on without.
    pub(crate) fn must_be_known(&self) -> Result<(), RepositoryError> {
        match &self.unread {
            None => Ok(()),
            Some(path) => {
                let why = "it says what is damaged on this disk: run `mailkeep repair`";
                Err(StorageError::new(Operation::Read, path.clone(), std::io::Error::other(why)).into())
            }
        }
    }

    /// Packs that no new snapshot may rely on.
    pub(crate) fn damaged_packs(&self) -> &[PackId] {
        self.newest.as_ref().map_or(&[], |record| &record.damaged)
    }

    /// The record to change and write next.
    pub(crate) fn next(&self, repository: &Repository) -> Verification {
        let empty = Verification::empty(repository.id(), 0);
        let record = self.newest.clone().unwrap_or(empty);
        Verification { sequence: self.highest.saturating_add(1), ..record }
    }

    /// Writes a record durably, then removes those before the one that was the newest. The caller holds the lock.
    pub(crate) fn replace(
        &self,
        repository: &Repository,
        storage: &dyn Storage,
        record: Verification,
    ) -> Result<Verified, RepositoryError> {
        let failed = |source| RepositoryError::Encode { what: "the verification record", source };
        let salt = Salt::generate().map_err(|error| failed(error.into()))?;
        let (bytes, hash) = record.encode(repository.keys(), salt).map_err(failed)?;
        let name = layout::numbered_name(record.sequence, &hash);
        durable::make_dir(storage, layout::VERIFIED)?;
        durable::write_once(storage, &format!("{}/{name}", layout::VERIFIED), &bytes)?;
        let kept = self.newest.as_ref().map_or(u64::MAX, |newest| newest.sequence);
        let (old, mut names): (Vec<_>, Vec<_>) =
            self.names.iter().cloned().partition(|(sequence, _)| *sequence < kept);
        for (_, name) in &old {
            durable::remove(storage, &format!("{}/{name}", layout::VERIFIED))?;
        }
        if !old.is_empty() {
            storage.sync_dir(layout::VERIFIED)?;
        }
        names.push((record.sequence, name));
        let damaged = self.damaged.clone();
        Ok(Verified { highest: record.sequence, newest: Some(record), damaged, unread: None, names })
    }
}

fn read(repository: &Repository, path: &str, name: &str) -> Result<Verification, RepositoryError> {
    let bytes = read_whole(&**repository.storage(), path, limits::VERIFICATION_FILE_MAX as u64)?;
    let record = Verification::decode(repository.keys(), &repository.id(), &bytes).map_err(|source| {
        match layout::is_named_after(name, &bytes) {
            true => RepositoryError::decoding(path, source),
            false => RepositoryError::Damaged { path: path.to_owned(), source },
        }
    })?;
    let hash = *blake3::hash(&bytes).as_bytes();
    if layout::numbered_name(record.sequence, &hash) != name {
        let why = "its name is not that of its contents".to_owned();
        let source = mailkeep_format::FormatError::Malformed { what: "verification record", why };
        return Err(RepositoryError::Damaged { path: path.to_owned(), source });
    }
    Ok(record)
}

impl Repository {
    /// What is known of the state of the disk, if anything is: how far it was read back, and what is damaged.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn verification(&self, monitor: &dyn Monitor) -> Result<Option<Verification>, RepositoryError> {
        Ok(Verified::load(self, monitor)?.newest)
    }
}
