//! The disks that a search looks into, those that it cannot, and all their snapshots in one order of time.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailkeep_mailview::{Files, Searched};
use mailkeep_repository::{Repository, SnapshotEntry};
use mailkeep_restorer::View;

use crate::App;
use crate::disks::{self, Disks, Remembered};
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::repo;
use crate::text::mail;

/// A disk that is at hand, with the snapshots that are to be searched.
pub(super) struct Shelf {
    pub(super) repository: String,
    pub(super) label: String,
    pub(super) path: PathBuf,
    pub(super) entries: Vec<SnapshotEntry>,
    pub(super) searched: Vec<Searched>,
}

/// A disk that is not looked into.
pub(super) struct Away {
    pub(super) repository: String,
    pub(super) label: String,
    pub(super) path: PathBuf,
    /// It is there all the same: nobody asked for it.
    pub(super) at_hand: bool,
    /// What it held when it was seen last, of the sources that are searched.
    pub(super) snapshots: Vec<Remembered>,
}

/// A snapshot on a disk: the number of the disk and its place there.
pub(super) type At = (usize, usize);

impl Shelf {
    /// A disk with the snapshots that `keep` picks from all that it has, oldest first.
    pub(super) fn of(
        path: &Path,
        repository: &Repository,
        ear: &Ear,
        keep: impl FnOnce(Vec<SnapshotEntry>) -> Result<Vec<SnapshotEntry>, Failure>,
    ) -> Result<Shelf, Failure> {
        let all = repository.snapshots(ear)?;
        disks::remember(path, repository, &all);
        let entries = keep(all)?;
        let files = Files::new(View::new(Arc::new(repository.reader(ear)?), Vec::new()));
        let searched = |entry: &SnapshotEntry| Searched {
            files: files.sibling(entry.manifest.root.clone()),
            source: entry.manifest.source.name.clone(),
            mailboxes: None,
        };
        Ok(Shelf {
            repository: repository.id().hex(),
            label: repository.label().label.clone(),
            path: path.to_owned(),
            searched: entries.iter().map(searched).collect(),
            entries,
        })
    }
}

/// Looks for the other disks that this tool has seen. Those at hand are opened if `open`; all others are told, as far as
/// they hold something of `source`, and share a key with the disk that was named.
pub(super) fn others(
    app: &App,
    named: Option<(&Shelf, &[String])>,
    source: Option<&str>,
    open: bool,
    ear: &Ear,
) -> (Vec<Shelf>, Vec<Away>) {
    let (mut shelves, mut away) = (Vec::new(), Vec::new());
    let is_of = |name: &str| match (source, named) {
        (Some(source), _) => name == source,
        (None, Some((shelf, _))) => {
            shelf.entries.is_empty() || shelf.entries.iter().any(|entry| entry.manifest.source.name == name)
        }
        (None, None) => true,
    };
    for (repository, disk) in Disks::load().0 {
        if named.is_some_and(|(shelf, keys)| {
            shelf.repository == repository || !disk.keys.iter().any(|key| keys.contains(key))
        }) {
            continue;
        }
        let at_hand = repo::id_at(&disk.path).as_ref() == Some(&repository);
        if at_hand && open {
            let opened = repo::open_other(app, &disk.path, ear).and_then(|repository| {
                Shelf::of(&disk.path, &repository, ear, |mut entries| {
                    entries.retain(|entry| is_of(&entry.manifest.source.name));
                    Ok(entries)
                })
            });
            match opened {
                Ok(shelf) => {
                    shelves.push(shelf);
                    continue;
                }
                Err(Failure::Told { what, .. }) => {
                    app.console.problem(&disk.path.display().to_string(), &what, false);
                }
                Err(Failure::BrokenPipe) => {}
            }
        }
        let mut snapshots = disk.snapshots;
        snapshots.retain(|snapshot| is_of(&snapshot.source));
        if !snapshots.is_empty() {
            let (label, path) = (disk.label, disk.path);
            away.push(Away { repository, label, path, at_hand, snapshots });
        }
    }
    (shelves, away)
}

/// All searched snapshots of one source, oldest first. On one disk they are in the order of their generations, whatever
/// their clocks said; between disks there are only the clocks.
pub(super) fn timeline(shelves: &[Shelf], searched: &[Vec<usize>]) -> Vec<At> {
    let mut all: Vec<(i64, At)> = Vec::new();
    for (number, (shelf, places)) in shelves.iter().zip(searched).enumerate() {
        let mut latest = i64::MIN;
        for place in places {
            let Some(entry) = shelf.entries.get(*place) else { continue };
            latest = latest.max(entry.manifest.started);
            all.push((latest, (number, *place)));
        }
    }
    // A stable order: what one disk has in its order stays so.
    all.sort_by_key(|(time, (number, _))| (*time, *number));
    all.into_iter().map(|(_, at)| at).collect()
}

/// Disks that are named in a line, each once, by how much of it they have.
pub(super) fn by_disk(holders: &[At]) -> Vec<(usize, Vec<usize>)> {
    let numbers: BTreeSet<usize> = holders.iter().map(|(number, _)| *number).collect();
    let places =
        |wanted: usize| holders.iter().filter(move |(number, _)| *number == wanted).map(|(_, place)| *place);
    let mut disks: Vec<(usize, Vec<usize>)> =
        numbers.into_iter().map(|number| (number, places(number).collect())).collect();
    disks.sort_by_key(|(number, places)| (Reverse(places.len()), *number));
    disks
}

/// There has to be something to look into.
pub(super) fn nothing_at_hand() -> Failure {
    Failure::new(exit::ABSENT, mail::NO_DISKS).hint(mail::NO_DISKS_HINT)
}
