//! The sealed snapshots of a repository: in order of generation, each from the copy of its manifest that is good.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use mailkeep_format::ids::IdError;
use mailkeep_format::{FormatError, Manifest, SnapshotId, limits};

use crate::error::{RepositoryError, is_newer};
use crate::layout;
use crate::monitor::{Monitor, Problem, Severity};
use crate::repository::Repository;
use crate::storage::read_whole;
use crate::swept::{self, Swept};

/// A sealed snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Its id.
    pub id: SnapshotId,
    /// All that is known of it.
    pub manifest: Manifest,
}

/// Which snapshot is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotSpec {
    /// The one with the highest generation (of a source).
    Latest,
    /// The one whose id begins with these hexadecimal digits.
    Prefix(String),
}

impl FromStr for SnapshotSpec {
    type Err = FormatError;

    /// `latest`, or the beginning of an id.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match text {
            "latest" => Ok(SnapshotSpec::Latest),
            _ if hex && !text.is_empty() && text.len() <= SnapshotId::LEN * 2 => {
                Ok(SnapshotSpec::Prefix(text.to_ascii_lowercase()))
            }
            _ => Err(IdError::Text { what: "snapshot", text: text.chars().take(80).collect() }.into()),
        }
    }
}

impl std::fmt::Display for SnapshotSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SnapshotSpec::Latest => f.write_str("latest"),
            SnapshotSpec::Prefix(prefix) => f.write_str(prefix),
        }
    }
}

/// The manifests in both folders, and what a writer needs to know beside them.
pub(crate) struct Manifests {
    /// The authentic ones, by generation.
    pub(crate) entries: Vec<SnapshotEntry>,
    /// Names whose copy in the folder of this index is missing while the other copy is good.
    pub(crate) missing: Vec<(usize, String)>,
    /// The highest generation that any name claims.
    pub(crate) highest: u64,
    /// Whether a manifest needs a newer program or is damaged in all copies: what it refers to is not known.
    pub(crate) incomplete: bool,
    /// What prune has removed.
    pub(crate) swept: Swept,
    /// Manifests of removed snapshots that an interrupted prune has left: the index of the folder, and the name.
    pub(crate) leftover: Vec<(usize, String)>,
}

impl Manifests {
    pub(crate) fn load(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, RepositoryError> {
        let mut names: BTreeMap<(u64, String), BTreeSet<usize>> = BTreeMap::new();
        let mut listed = Vec::new();
        for (copy, folder) in layout::MANIFESTS.iter().enumerate() {
            for entry in list(repository, copy, monitor)? {
                match layout::parse_manifest_name(&entry) {
                    Some((generation, _)) => listed.push((copy, generation, entry)),
                    None => report(
                        monitor,
                        &format!("{folder}/{entry}"),
                        "this is not a manifest's name",
                        Severity::Note,
                    ),
                }
            }
        }
        // After the manifests: one that a prune takes away beside this reader is then known to be removed.
        let swept = swept::load(repository, monitor)?;
        let mut leftover = Vec::new();
        for (copy, generation, name) in listed {
            if swept.has_removed(&name) {
                let what = "of a snapshot that was removed; the next backup or prune takes it away";
                report(monitor, &format!("{}/{name}", layout::MANIFESTS[copy]), what, Severity::Note);
                leftover.push((copy, name));
            } else {
                names.entry((generation, name)).or_default().insert(copy);
            }
        }
        let highest = names.keys().map(|(generation, _)| *generation).max().unwrap_or(0);
        let highest = highest.max(swept.generation).max(highest_set_aside(repository)?);
        let mut manifests = Manifests {
            entries: Vec::new(),
            missing: Vec::new(),
            highest,
            incomplete: false,
            swept,
            leftover,
        };
        for ((_, name), copies) in names {
            manifests.add(repository, &name, &copies, monitor)?;
        }
        for pair in manifests.entries.windows(2) {
            if pair[0].manifest.generation == pair[1].manifest.generation {
                let what = "two snapshots have this generation: two boxes wrote to copies of this disk";
                report(monitor, &name_of(&pair[1]), what, Severity::Covered);
            }
        }
        Ok(manifests)
    }

    fn add(
        &mut self,
        repository: &Repository,
        name: &str,
        copies: &BTreeSet<usize>,
        monitor: &dyn Monitor,
    ) -> Result<(), RepositoryError> {
        let mut good = None;
        for &copy in copies {
            let path = format!("{}/{name}", layout::MANIFESTS[copy]);
            match read(repository, &path, name) {
                Ok(entry) => good = good.or(Some(entry)),
                Err(error @ RepositoryError::Unsupported { .. }) => {
                    report(monitor, &path, &crate::error::chain(&error), Severity::Note);
                    self.incomplete = true;
                    return Ok(());
                }
                Err(error) => {
                    let what =
                        format!("this copy of the manifest is damaged: {}", crate::error::chain(&error));
                    report(monitor, &path, &what, Severity::Covered);
                }
            }
        }
        let Some(entry) = good else {
            self.incomplete = true;
            let what = "no copy of this manifest is readable: the snapshot cannot be restored from this disk";
            report(monitor, &format!("{}/{name}", layout::MANIFESTS[0]), what, Severity::Lost);
            return Ok(());
        };
        for copy in (0..layout::MANIFESTS.len()).filter(|copy| !copies.contains(copy)) {
            let path = format!("{}/{name}", layout::MANIFESTS[copy]);
            report(
                monitor,
                &path,
                "this copy of the manifest is missing; the next backup brings it back",
                Severity::Note,
            );
            self.missing.push((copy, name.to_owned()));
        }
        self.entries.push(entry);
        Ok(())
    }
}

fn name_of(entry: &SnapshotEntry) -> String {
    let name = layout::manifest_name(entry.manifest.generation, &entry.id);
    format!("{}/{name}", layout::MANIFESTS[0])
}

/// Names in one of the two folders. One that is missing as a whole is covered by the other one, unless that is missing
/// too; any other error ends the listing.
fn list(repository: &Repository, copy: usize, monitor: &dyn Monitor) -> Result<Vec<String>, RepositoryError> {
    let storage = repository.storage();
    match storage.list(layout::MANIFESTS[copy]) {
        Ok(entries) => Ok(entries.into_iter().map(|entry| entry.name).collect()),
        Err(error) if error.is_not_found() && storage.list(layout::MANIFESTS[1 - copy]).is_ok() => {
            let what = "this copy of all manifests is missing; the next backup brings it back";
            report(monitor, layout::MANIFESTS[copy], what, Severity::Covered);
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

/// The highest generation among the manifests that a repair has moved away: it is not given out again.
fn highest_set_aside(repository: &Repository) -> Result<u64, RepositoryError> {
    let mut highest = 0;
    for folder in layout::MANIFESTS {
        match repository.storage().list(&format!("{}/{folder}", layout::QUARANTINE)) {
            Ok(entries) => {
                for entry in entries {
                    // A name that was taken has a number behind it.
                    let name = entry.name.split('.').next().unwrap_or_default();
                    let generation =
                        layout::parse_manifest_name(name).map_or(0, |(generation, _)| generation);
                    highest = highest.max(generation);
                }
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(highest)
}

fn read(repository: &Repository, path: &str, name: &str) -> Result<SnapshotEntry, RepositoryError> {
    let bytes = read_whole(&**repository.storage(), path, limits::MANIFEST_FILE_MAX as u64)?;
    let damaged = |source| RepositoryError::Damaged { path: path.to_owned(), source };
    let manifest = Manifest::decode(repository.keys(), &repository.id(), &bytes).map_err(|source| {
        match is_newer(&source) && layout::is_named_after(name, &bytes) {
            true => RepositoryError::decoding(path, source),
            false => damaged(source),
        }
    })?;
    let id = Manifest::id_of(&bytes);
    if layout::manifest_name(manifest.generation, &id) != name {
        let why = "its name is not that of its contents".to_owned();
        return Err(damaged(FormatError::Malformed { what: "manifest", why }));
    }
    Ok(SnapshotEntry { id, manifest })
}

fn report(monitor: &dyn Monitor, path: &str, what: &str, severity: Severity) {
    monitor.problem(&Problem::new(severity, path, what));
}

impl Repository {
    /// All snapshots by generation. What is damaged or missing is told to `monitor`; a snapshot of which one copy of
    /// the manifest is good is there.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn snapshots(&self, monitor: &dyn Monitor) -> Result<Vec<SnapshotEntry>, RepositoryError> {
        Ok(Manifests::load(self, monitor)?.entries)
    }

    /// The snapshot that is meant, among those of `source` if one is given.
    ///
    /// # Errors
    /// [`RepositoryError::NoSnapshot`], [`RepositoryError::Ambiguous`], and as [`Repository::snapshots`].
    pub fn find(
        &self,
        spec: &SnapshotSpec,
        source: Option<&str>,
        monitor: &dyn Monitor,
    ) -> Result<SnapshotEntry, RepositoryError> {
        let wanted = || match source {
            Some(source) => format!("{spec} of {source}"),
            None => spec.to_string(),
        };
        let of_source =
            |entry: &SnapshotEntry| source.is_none_or(|source| entry.manifest.source.name == source);
        let mut fitting: Vec<SnapshotEntry> = self
            .snapshots(monitor)?
            .into_iter()
            .filter(|entry| of_source(entry))
            .filter(|entry| match spec {
                SnapshotSpec::Latest => true,
                SnapshotSpec::Prefix(prefix) => entry.id.hex().starts_with(prefix),
            })
            .collect();
        if fitting.len() > 1 && *spec != SnapshotSpec::Latest {
            return Err(RepositoryError::Ambiguous { wanted: wanted(), count: fitting.len() });
        }
        fitting.pop().ok_or_else(|| RepositoryError::NoSnapshot { wanted: wanted() })
    }

    /// The newest snapshot of a source, if there is one: the parent of its next backup.
    ///
    /// # Errors
    /// As [`Repository::snapshots`].
    pub fn latest_for(
        &self,
        source: &str,
        monitor: &dyn Monitor,
    ) -> Result<Option<SnapshotEntry>, RepositoryError> {
        let entries = self.snapshots(monitor)?;
        Ok(entries.into_iter().rev().find(|entry| entry.manifest.source.name == source))
    }
}
