//! Labels, keys, manifests, index, directories: everything but the contents of files.

use std::collections::{BTreeSet, HashSet};

use mailkeep_format::{ChunkId, ChunkKind, ChunkRef, Label, Node, SnapshotId, limits as format_limits};

use super::VerifyReport;
use crate::drills::Drills;
use crate::error::{RepositoryError, chain};
use crate::index::{Loaded, View};
use crate::monitor::{LogMonitor, Monitor, Phase, Problem, Severity};
use crate::reader::Reader;
use crate::repository::Repository;
use crate::snapshots::{Manifests, SnapshotEntry};
use crate::storage::read_whole;
use crate::swept::Swept;
use crate::walk::Met;
use crate::{layout, walk};

/// Ids that are gathered before they are looked for in the index: 12 MB. Sorted, they cost a page of it once and not each.
const BATCH: usize = 1 << 19;
/// Files that are named for damage, per run; the count is told for the rest.
const FILES_NAMED: u64 = 1000;

pub(super) fn check(
    repository: &Repository,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
    missing: &mut HashSet<ChunkId>,
) -> Result<Walked, RepositoryError> {
    check_copies(repository, monitor)?;
    let Manifests { entries: snapshots, swept, .. } = Manifests::load(repository, monitor)?;
    report.snapshots = snapshots.len() as u64;
    check_chain(&snapshots, &swept, monitor);
    Drills::load(repository, monitor)?;
    let loaded = Loaded::load(repository, monitor)?;
    for run in loaded.view.runs() {
        if let Err(error) = run.check() {
            monitor.problem(&Problem::new(Severity::Covered, run.path(), chain(&error)));
        }
    }
    // What the packs say about those that no sound run names was reported by the first load.
    let view = View::load(repository, &LogMonitor)?;
    let reader = repository.reader(&LogMonitor)?;
    let mut walk = Walk::new(reader, view, missing);
    for entry in &snapshots {
        walk.tree(&entry.manifest.root, &opening(entry), monitor, &mut report.directories)?;
    }
    walk.settle()?;
    let unreadable = walk.unreadable;
    Ok(Walked { snapshots, unreadable })
}

/// What was walked through.
pub(super) struct Walked {
    /// All snapshots that are there.
    pub(super) snapshots: Vec<SnapshotEntry>,
    /// Paths of directories that could not be read, and were reported.
    pub(super) unreadable: HashSet<String>,
}

/// What the paths of a snapshot begin with in reports.
pub(super) fn opening(entry: &SnapshotEntry) -> String {
    format!("{}:", &entry.id.hex()[..16])
}

/// Both copies of label and keys are there, alike and authentic.
pub(super) fn check_copies(repository: &Repository, monitor: &dyn Monitor) -> Result<(), RepositoryError> {
    let storage = &**repository.storage();
    for path in layout::LABELS {
        let damaged = match read_whole(storage, path, format_limits::LABEL_FILE_MAX as u64) {
            Ok(bytes) => Label::verify(&bytes, repository.keys()).err().map(|error| chain(&error)),
            Err(error) => Some(chain(&error)),
        };
        if let Some(what) = damaged {
            monitor.problem(&Problem::new(Severity::Covered, path, what));
        }
    }
    let mut names = HashSet::new();
    for folder in layout::KEYS {
        match storage.list(folder) {
            Ok(entries) => names.extend(entries.into_iter().map(|entry| entry.name)),
            Err(error) => monitor.problem(&Problem::new(Severity::Covered, folder, chain(&error))),
        }
    }
    for name in names {
        let [one, two] = layout::KEYS.map(|folder| {
            read_whole(storage, &format!("{folder}/{name}"), format_limits::KEY_FILE_MAX as u64).ok()
        });
        if one.is_none() || one != two {
            let what = "its two copies are not alike";
            monitor.problem(&Problem::new(Severity::Covered, format!("{}/{name}", layout::KEYS[0]), what));
        }
    }
    Ok(())
}

/// Every manifest names the one before it, or one that was removed since.
fn check_chain(snapshots: &[SnapshotEntry], swept: &Swept, monitor: &dyn Monitor) {
    let mut before = None;
    for entry in snapshots {
        let pruned = entry.manifest.previous.is_some_and(|previous| swept.is_pruned(&previous));
        if entry.manifest.previous != before && !pruned {
            let name = layout::manifest_name(entry.manifest.generation, &entry.id);
            let what = match entry.manifest.previous {
                Some(previous) => format!("the snapshot before it ({previous}) is gone"),
                None => "it says that it is the first snapshot, but there are older ones".to_owned(),
            };
            monitor.problem(&Problem::new(Severity::Lost, format!("{}/{name}", layout::MANIFESTS[0]), what));
        }
        before = Some(entry.id);
    }
}

pub(super) struct Walk<'a> {
    pub(super) reader: Reader,
    view: View,
    trees: Option<walk::Walk>,
    /// Chunks of files, to be looked for.
    wanted: Vec<ChunkId>,
    missing: &'a mut HashSet<ChunkId>,
    pub(super) unreadable: HashSet<String>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(reader: Reader, view: View, missing: &'a mut HashSet<ChunkId>) -> Self {
        Walk { reader, view, trees: None, wanted: Vec::new(), missing, unreadable: HashSet::new() }
    }

    /// Reports a directory that cannot be read.
    pub(super) fn unreadable(&mut self, path: &str, error: &RepositoryError, monitor: &dyn Monitor) {
        let what = format!("this directory cannot be read: {}", chain(error));
        monitor.problem(&Problem::new(Severity::Lost, shown(path), what));
        self.unreadable.insert(path.to_owned());
    }

    /// The chunks of a file are to be looked for.
    pub(super) fn want(&mut self, node: &Node) -> Result<(), RepositoryError> {
        self.wanted.extend(node.content().iter().map(|chunk| chunk.id));
        if self.wanted.len() > BATCH { self.settle() } else { Ok(()) }
    }

    /// Goes through a whole tree, leaving out the directories that were gone through before.
    pub(super) fn tree(
        &mut self,
        root: &[ChunkRef],
        name: &str,
        monitor: &dyn Monitor,
        directories: &mut u64,
    ) -> Result<(), RepositoryError> {
        let mut trees = match self.trees.take() {
            Some(trees) => trees,
            None => walk::Walk::new(self.reader.clone(), &self.view),
        };
        trees.tree(root, name, |path, met| {
            match met {
                Met::Directory => {
                    *directories += 1;
                    monitor.progress(Phase::Structure, *directories, 0);
                }
                Met::Node(node) => self.want(node)?,
                Met::Unreadable(error) => self.unreadable(path, &error, monitor),
            }
            Ok(())
        })?;
        self.trees = Some(trees);
        Ok(())
    }

    /// Looks for everything that is wanted.
    pub(super) fn settle(&mut self) -> Result<(), RepositoryError> {
        let absent = self.view.absent(&mut self.wanted)?;
        self.missing.extend(absent);
        self.wanted.clear();
        Ok(())
    }
}

/// The root of a snapshot is "/".
fn shown(path: &str) -> String {
    if path.ends_with(':') { format!("{path}/") } else { path.to_owned() }
}

/// Says which files of which snapshots the missing chunks belong to; gives the snapshots that have lost something.
pub(super) fn name_files(
    repository: &Repository,
    snapshots: &[SnapshotEntry],
    missing: &HashSet<ChunkId>,
    unreadable: &HashSet<String>,
    monitor: &dyn Monitor,
) -> Result<BTreeSet<SnapshotId>, RepositoryError> {
    let mut lost = BTreeSet::new();
    if missing.is_empty() && unreadable.is_empty() {
        return Ok(lost);
    }
    let reader = repository.reader(&LogMonitor)?;
    let mut named = 0u64;
    let mut name = |path: String, what: &str| {
        named += 1;
        if named <= FILES_NAMED {
            monitor.problem(&Problem::new(Severity::Lost, path, what));
        }
    };
    for entry in snapshots {
        let mut left = vec![(entry.manifest.root.clone(), opening(entry))];
        while let Some((content, path)) = left.pop() {
            for node in reader.tree_nodes(&content) {
                let Ok(node) = node else {
                    lost.insert(entry.id);
                    // The first snapshot that has it was told already.
                    if !unreadable.contains(&path) {
                        name(shown(&path), "this directory cannot be read");
                    }
                    break;
                };
                let path = format!("{path}/{}", String::from_utf8_lossy(&node.name));
                if node.is_directory() {
                    left.push((node.content().to_vec(), path));
                } else if is_hit(&reader, &node, missing) {
                    lost.insert(entry.id);
                    name(path, "a part of this file is lost on this disk");
                }
            }
        }
    }
    if named > FILES_NAMED {
        let what = format!("{} more files have lost a part", named - FILES_NAMED);
        monitor.problem(&Problem::new(Severity::Lost, layout::PACKS, what));
    }
    Ok(lost)
}

/// A chunk that is damaged in one pack may be sound in another: then the file is whole.
fn is_hit(reader: &Reader, node: &Node, missing: &HashSet<ChunkId>) -> bool {
    let lost =
        |chunk: &ChunkRef| missing.contains(&chunk.id) && reader.chunk(ChunkKind::Data, chunk).is_err();
    node.content().iter().any(lost)
}
