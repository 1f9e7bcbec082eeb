//! What a sweep does not trust: packs that turned out to be damaged on the way, and how an error about one place on the
//! disk is told from a disk that is gone. Follows COMMIT.md, "Prune", "What cannot be read".

use std::collections::{BTreeMap, BTreeSet};

use mailkeep_format::PackId;

use crate::error::{RepositoryError, chain};
use crate::monitor::{Monitor, Problem, Severity};
use crate::repository::Repository;
use crate::storage::{Operation, Storage, read_whole};
use crate::{layout, packfile};

/// Packs that this run has found to be damaged, beside those that were known to be.
#[derive(Debug, Default)]
pub(super) struct Doubted {
    packs: BTreeSet<PackId>,
}

impl Doubted {
    /// Takes in a pack, and tells of it, if it was not known yet.
    pub(super) fn add(&mut self, id: PackId, why: &str, monitor: &dyn Monitor) {
        if self.packs.insert(id) {
            let what = format!("{why}; it stays, and so does all that may stand in for it");
            monitor.problem(&Problem::new(Severity::Lost, layout::pack(&id), what));
        }
    }

    /// As [`Doubted::add`], for all of them.
    ///
    /// # Errors
    /// None of them is new: what follows from that is known already, and still something is to rely on one of them.
    pub(super) fn extend(
        &mut self,
        found: &BTreeMap<PackId, String>,
        monitor: &dyn Monitor,
    ) -> Result<(), RepositoryError> {
        let before = self.packs.len();
        found.iter().for_each(|(id, why)| self.add(*id, why, monitor));
        if self.packs.len() == before {
            let why = format!("damaged packs would have to vouch for others ({} of them)", found.len());
            return Err(RepositoryError::NotSwept { why });
        }
        Ok(())
    }

    pub(super) fn packs(&self) -> &BTreeSet<PackId> {
        &self.packs
    }
}

/// Whether an error is about one place on the disk, so that the work can go on around it.
pub(super) fn is_local(error: &RepositoryError) -> bool {
    match error {
        RepositoryError::Damaged { .. }
        | RepositoryError::DamagedChunk { .. }
        | RepositoryError::MissingChunk { .. }
        | RepositoryError::Unsupported { .. } => true,
        RepositoryError::Storage(error) => {
            matches!(error.operation, Operation::Open | Operation::Read | Operation::DropCache)
        }
        _ => false,
    }
}

/// A disk that is gone must not be taken for one that is damaged all over.
pub(super) fn is_still_there(repository: &Repository) -> Result<(), RepositoryError> {
    let storage = &**repository.storage();
    let limit = mailkeep_format::limits::LABEL_FILE_MAX as u64;
    match read_whole(storage, layout::LABELS[0], limit) {
        Ok(_) => Ok(()),
        Err(first) => read_whole(storage, layout::LABELS[1], limit).map(drop).map_err(|_| first.into()),
    }
}

/// As [`crate::packfile::reads_back`], with what is wrong.
pub(super) fn proven(storage: &dyn Storage, id: &PackId) -> Result<(), String> {
    match packfile::reads_back(storage, id) {
        Ok(true) => Ok(()),
        Ok(false) => Err("it is not what its name says".to_owned()),
        Err(error) => Err(format!("it cannot be read ({})", chain(&error))),
    }
}
