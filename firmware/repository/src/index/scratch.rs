//! An index made from the packs' tables of contents for one reader, where the disk's own is missing or damaged. What is
//! small stays in memory; from [`limits::SESSION_CHUNKS`] chunks on it goes to a folder of this machine (`$TMPDIR`, else
//! `/var/tmp`), sealed like the disk's, and vanishes with the reader: the files have no names once they are open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailkeep_format::PackId;
use mailkeep_format::pack::PackFooter;

use super::merge::{merge_runs, merge_small};
use super::run::{Run, write_run};
use crate::error::{RepositoryError, chain};
use crate::monitor::{Monitor, Phase};
use crate::repository::Repository;
use crate::storage::{LocalStorage, Storage};
use crate::{layout, limits, packfile};

/// An index over these packs as far as their tables of contents can be read, in few runs.
pub(super) fn index_of(
    repository: &Repository,
    packs: &[PackId],
    monitor: &dyn Monitor,
) -> Result<Vec<Arc<Run>>, RepositoryError> {
    let mut runs: Vec<Arc<Run>> = Vec::new();
    let mut folder: Option<Folder> = None;
    let mut batch: Vec<(PackId, PackFooter)> = Vec::new();
    let mut chunks = 0;
    let total = packs.len() as u64;
    for (done, id) in (0..).zip(packs) {
        monitor.progress(Phase::Index, done, total);
        let Some(footer) = packfile::read_footer(repository, id, monitor)? else { continue };
        chunks += footer.chunk_count();
        batch.push((*id, footer));
        if chunks >= limits::SESSION_CHUNKS {
            if folder.is_none() {
                folder = Folder::make()?;
            }
            let run = match &folder {
                Some(folder) => write_run(repository, &folder.storage, &batch)?,
                None => Run::in_memory(repository, &batch)?,
            };
            runs.push(Arc::new(run));
            if let Some(folder) = &folder {
                runs = merge_small(repository, &folder.storage, runs)?;
            }
            batch.clear();
            chunks = 0;
        }
    }
    if !batch.is_empty() {
        runs.push(Arc::new(Run::in_memory(repository, &batch)?));
    }
    Ok(runs)
}

/// As [`index_of`], in one run; in memory if there is nothing in it.
pub(super) fn run_of(
    repository: &Repository,
    packs: &[PackId],
    monitor: &dyn Monitor,
) -> Result<Arc<Run>, RepositoryError> {
    let runs = index_of(repository, packs, monitor)?;
    match runs.as_slice() {
        [] => Ok(Arc::new(Run::in_memory(repository, &[])?)),
        [only] => Ok(only.clone()),
        several => match Folder::make()? {
            Some(folder) => Ok(Arc::new(merge_runs(repository, &folder.storage, several)?)),
            None => Err(RepositoryError::Worker),
        },
    }
}

/// A folder of this machine that is removed again; what is open in it stays readable.
struct Folder {
    path: PathBuf,
    storage: LocalStorage,
}

impl Folder {
    /// `None`, logged, if there is no room for one: then memory has to do.
    fn make() -> Result<Option<Folder>, RepositoryError> {
        let name: String = crate::random::<8>("name")?.iter().map(|byte| format!("{byte:02x}")).collect();
        let parent = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let path = parent.join(format!("mailkeep-index-{name}"));
        match Folder::make_at(&path) {
            Ok(storage) => Ok(Some(Folder { path, storage })),
            Err(error) => {
                tracing::warn!(path = %path.display(), error, "the index is made in memory");
                let _ = std::fs::remove_dir_all(&path);
                Ok(None)
            }
        }
    }

    fn make_at(path: &Path) -> Result<LocalStorage, String> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| error.to_string())?;
        let storage = LocalStorage::open(path).map_err(|error| chain(&error))?;
        for folder in [layout::TMP, layout::INDEX] {
            storage.make_dir(folder).map_err(|error| chain(&error))?;
        }
        Ok(storage)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a folder for an index stays behind");
        }
    }
}
