//! Making a snapshot of what was put. Follows COMMIT.md, steps 6 to 9.

use mailkeep_format::manifest::{MailCheckRecord, PassRecord, SourceInfo, Stats, Window};
use mailkeep_format::version::{self, FORMAT_VERSION};
use mailkeep_format::{ChunkRef, FormatError, Manifest, Salt, SnapshotId};

use super::Writer;
use crate::error::{RepositoryError, chain};
use crate::monitor::Monitor;
use crate::{checkpoints, durable, guard, layout, lock, reserve};

/// A manifest without what only the repository can say. Fields mean what they mean in
/// [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Program and version that wrote it.
    pub program: String,
    /// What was backed up.
    pub source: SourceInfo,
    /// Start of the run, seconds since 1970.
    pub started: i64,
    /// Taken from a quiescent source.
    pub consistent: bool,
    /// For the reader of the report.
    pub remarks: Vec<String>,
    /// The traversals.
    pub passes: Vec<PassRecord>,
    /// How long mail was stopped.
    pub window: Option<Window>,
    /// Versions on the source.
    pub versions: Vec<(String, String)>,
    /// Names of owners, ascending.
    pub users: Vec<(u32, String)>,
    /// Names of groups, ascending.
    pub groups: Vec<(u32, String)>,
    /// The tree of "/".
    pub root: Vec<ChunkRef>,
    /// Sums over the snapshot; `added_bytes` is filled in by the seal.
    pub stats: Stats,
    /// The mail-level check.
    pub mail_check: Option<MailCheckRecord>,
}

/// A snapshot that is on the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its id.
    pub id: SnapshotId,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Writer {
    /// Flushes, reads back, and seals: when this returns `Ok` the snapshot survives a power cut.
    ///
    /// # Errors
    /// The first error of the engine; [`RepositoryError::MissingChunk`] for a root that was never put. Nothing is sealed
    /// then, unless the very last device flush failed, and what was sealed before is untouched.
    pub fn seal(mut self, draft: Draft, monitor: &dyn Monitor) -> Result<Sealed, RepositoryError> {
        self.flush()?;
        for chunk in &draft.root {
            if !self.has(&chunk.id)? {
                return Err(RepositoryError::MissingChunk { id: chunk.id });
            }
        }
        let sealed = self.write_manifest(draft).map_err(|error| self.pipeline.stop(error))?;
        tracing::info!(snapshot = %sealed.id, generation = sealed.manifest.generation, "sealed");
        guard::after_seal(&*self.storage, sealed.manifest.generation, &sealed.id, monitor);
        reserve::ensure(&*self.storage, self.known.pack_count());
        // The snapshot is sealed: what this leaves behind says nothing any more.
        let source = &sealed.manifest.source.name;
        if let Err(error) = checkpoints::remove_of(&self.repository, &*self.storage, source) {
            tracing::warn!(source, error = chain(&error), "an old checkpoint stays");
        }
        Ok(sealed)
    }

    fn write_manifest(&self, draft: Draft) -> Result<Sealed, RepositoryError> {
        let failed = |source| RepositoryError::Encode { what: "the manifest", source };
        let no_more = || FormatError::Malformed { what: "generation", why: "there are no more".to_owned() };
        let storage = &*self.storage;
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            // Of its chunks any may lie in such a block, also one of an earlier snapshot.
            required_features: vec![version::BASE64.to_owned()],
            repository: self.repository.id(),
            generation: self.generation.checked_add(1).ok_or_else(|| failed(no_more()))?,
            previous: self.previous,
            program: draft.program,
            source: draft.source,
            started: draft.started,
            sealed: i64::try_from(lock::now()).unwrap_or(i64::MAX),
            consistent: draft.consistent,
            remarks: draft.remarks,
            passes: draft.passes,
            window: draft.window,
            versions: draft.versions,
            users: draft.users,
            groups: draft.groups,
            root: draft.root,
            stats: Stats { added_bytes: self.added_bytes(), ..draft.stats },
            new_packs: self.unsealed.iter().copied().collect(),
            mail_check: draft.mail_check,
        };
        let salt = Salt::generate().map_err(|error| failed(error.into()))?;
        let (bytes, id) = manifest.encode(self.repository.keys(), salt).map_err(failed)?;
        let name = layout::manifest_name(manifest.generation, &id);
        storage.flush_device()?;
        self.lock.confirm()?;
        // Packs and index have found their room; this little shall not fail for want of it.
        reserve::make_way(storage, 4 * bytes.len() as u64)?;
        for folder in [layout::MANIFESTS[1], layout::MANIFESTS[0]] {
            durable::write_once(storage, &format!("{folder}/{name}"), &bytes)?;
        }
        storage.flush_device()?;
        Ok(Sealed { id, manifest })
    }
}
