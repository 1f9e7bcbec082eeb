//! The only file that deletes what was sealed: manifests of snapshots that a durable record has removed, and packs that
//! nothing needs. Follows COMMIT.md, "Prune", steps 10 and 11.
//!
//! Nothing here decides. What is handed in is held against the disk once more, and one doubt ends it before the first
//! file goes.

use std::collections::{BTreeMap, BTreeSet};

use mailkeep_format::{PackId, SnapshotId};

use super::doubt;
use super::mark::Marks;
use crate::drills::Drills;
use crate::error::RepositoryError;
use crate::monitor::{LogMonitor, Monitor, Phase};
use crate::repository::Repository;
use crate::snapshots::Manifests;
use crate::storage::Storage;
use crate::swept::{self, Swept};
use crate::{checkpoints, durable, layout};

/// Takes away the manifests of these snapshots, which the record on the disk must list as removed.
pub(super) fn manifests(
    repository: &Repository,
    storage: &dyn Storage,
    going: &[(u64, SnapshotId)],
) -> Result<(), RepositoryError> {
    let swept = swept::load(repository, &LogMonitor)?;
    if let Some((generation, _)) = going.iter().find(|(_, id)| !swept.is_pruned(id)) {
        return Err(refuse(format!("no record on the disk removes snapshot {generation}")));
    }
    for folder in layout::MANIFESTS {
        for (generation, id) in going {
            durable::remove(storage, &format!("{folder}/{}", layout::manifest_name(*generation, id)))?;
        }
        storage.sync_dir(folder)?;
    }
    Ok(())
}

/// Takes away what is known of rehearsed restores of snapshots that a record on the disk lists as removed.
pub(super) fn drills(repository: &Repository, storage: &dyn Storage) -> Result<(), RepositoryError> {
    let swept = swept::load(repository, &LogMonitor)?;
    let gone = Drills::load(repository, &LogMonitor)?.names_of(|snapshot| swept.is_pruned(snapshot));
    for name in &gone {
        durable::remove(storage, &format!("{}/{name}", layout::DRILLS))?;
    }
    if !gone.is_empty() {
        storage.sync_dir(layout::DRILLS)?;
    }
    Ok(())
}

/// Takes away the checkpoints that no backup goes on from any more.
pub(super) fn checkpoints(repository: &Repository, storage: &dyn Storage) -> Result<(), RepositoryError> {
    checkpoints::remove_stale(repository, storage)
}

/// Deletes packs. `staying` are the snapshots from which `marks` was made.
pub(super) fn packs(
    repository: &Repository,
    storage: &dyn Storage,
    going: &BTreeSet<PackId>,
    marks: &Marks,
    staying: &BTreeSet<SnapshotId>,
    proof: &mut Proof<'_>,
) -> Result<(), RepositoryError> {
    let there = Manifests::load(repository, &LogMonitor)?;
    check(going, marks, staying, &there)?;
    let vouching = marks.witnesses(&going.iter().copied().collect());
    if let Some((id, why)) = proof.unsound(&vouching)?.first_key_value() {
        return Err(refuse(format!("{}: {why}", layout::pack(id))));
    }
    for id in going {
        durable::remove(storage, &layout::pack(id))?;
    }
    let folders: BTreeSet<String> = going.iter().map(layout::pack_folder).collect();
    folders.iter().try_for_each(|folder| storage.sync_dir(folder))?;
    Ok(())
}

fn check(
    going: &BTreeSet<PackId>,
    marks: &Marks,
    staying: &BTreeSet<SnapshotId>,
    there: &Manifests,
) -> Result<(), RepositoryError> {
    let swept: &Swept = &there.swept;
    let listed: BTreeSet<SnapshotId> = there.entries.iter().map(|entry| entry.id).collect();
    if there.incomplete || listed != *staying {
        return Err(refuse("the manifests on the disk are not those that were looked at".to_owned()));
    }
    if let Some(id) = going.iter().find(|id| !swept.tombstoned.contains_key(*id)) {
        return Err(refuse(format!("no record on the disk gives up pack {id}")));
    }
    if let Some(id) = going.iter().find(|id| marks.needs(id)) {
        return Err(refuse(format!("pack {id} is needed")));
    }
    if marks.trouble().directories > 0 {
        return Err(refuse("not all directories could be read".to_owned()));
    }
    Ok(())
}

/// Reads packs whose copies make other copies needless, past the page cache, each once: it must still hash to its name.
pub(super) struct Proof<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) monitor: &'a dyn Monitor,
    /// An error ends it.
    pub(super) go_on: &'a dyn Fn() -> Result<(), RepositoryError>,
    /// Packs that were found to be sound.
    pub(super) proven: BTreeSet<PackId>,
}

impl Proof<'_> {
    /// Which of these are not sound, and why.
    pub(super) fn unsound(
        &mut self,
        packs: &BTreeSet<PackId>,
    ) -> Result<BTreeMap<PackId, String>, RepositoryError> {
        let mut unsound = BTreeMap::new();
        let mut done = 0;
        for id in packs {
            if self.proven.contains(id) {
                continue;
            }
            done += self.storage.open(&layout::pack(id)).map_or(0, |file| file.length());
            self.monitor.progress(Phase::ReadBack, done, 0);
            (self.go_on)()?;
            match doubt::proven(self.storage, id) {
                Ok(()) => {
                    self.proven.insert(*id);
                }
                Err(why) => {
                    unsound.insert(*id, why);
                }
            }
        }
        Ok(unsound)
    }
}

fn refuse(why: String) -> RepositoryError {
    RepositoryError::NotSwept { why }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use mailkeep_format::manifest::{SourceInfo, Stats};
    use mailkeep_format::sweep::{RemovedSnapshot, SweepRecord, Tombstone};
    use mailkeep_format::{ChunkKind, Meta, Node, NodeKind};

    use super::*;
    use crate::index::View;
    use crate::reader::Reader;
    use crate::writer::{Draft, WriterOptions};
    use crate::{Encryption, InitOptions, MemoryStorage};

    fn backup(repository: &Repository, contents: &[u8]) -> (u64, SnapshotId, PackId) {
        let mut writer = repository.writer(&WriterOptions::default(), &LogMonitor).unwrap();
        let content = vec![writer.put(ChunkKind::Data, contents).unwrap()];
        let kind = NodeKind::File { size: contents.len() as u64, sparse: false, content };
        let file = Node { name: b"1.".to_vec(), meta: Meta { links: 1, ..Meta::default() }, kind };
        let root = writer.put_tree(&[file]).unwrap();
        let draft = Draft {
            program: "test".into(),
            source: SourceInfo { name: "mail1".into(), system: "generic".into(), host: "here".into() },
            started: 0,
            consistent: true,
            remarks: Vec::new(),
            passes: Vec::new(),
            window: None,
            versions: Vec::new(),
            users: Vec::new(),
            groups: Vec::new(),
            root,
            stats: Stats::default(),
            mail_check: None,
        };
        let sealed = writer.seal(draft, &LogMonitor).unwrap();
        (sealed.manifest.generation, sealed.id, sealed.manifest.new_packs[0])
    }

    /// A repository with two snapshots, the first of them removed, the packs of both given up.
    struct Lab {
        disk: MemoryStorage,
        repository: Repository,
        dead: (u64, SnapshotId, PackId),
        live: (u64, SnapshotId, PackId),
    }

    impl Lab {
        fn new() -> Self {
            let disk = MemoryStorage::new();
            let options = InitOptions { label: "t".into(), encryption: Encryption::Plain };
            let repository = Repository::init(Arc::new(disk.clone()), &options).unwrap().repository;
            let dead = backup(&repository, b"one");
            let live = backup(&repository, b"two");
            Lab { disk, repository, dead, live }
        }

        fn record(&self, tombstoned: &[PackId]) {
            let mut packs = tombstoned.to_vec();
            packs.sort_unstable();
            let (generation, id, _) = self.dead;
            let record = SweepRecord {
                removed: vec![RemovedSnapshot { generation, id, source: "mail1".into() }],
                tombstoned: packs
                    .iter()
                    .map(|pack| Tombstone { pack: *pack, generation: 2, time: 0 })
                    .collect(),
                ..SweepRecord::empty(self.repository.id(), 1)
            };
            swept::write(&self.repository, &self.disk, &record).unwrap();
        }

        fn marks(&self) -> Marks {
            let view = Arc::new(View::load(&self.repository, &LogMonitor).unwrap());
            let mut marks = Marks::new(&view, |_| Some(1)).unwrap();
            let entries = self.repository.snapshots(&LogMonitor).unwrap();
            let staying: Vec<_> = entries.iter().filter(|entry| entry.id == self.live.1).collect();
            let reader = Reader::over(&self.repository, Arc::new(Mutex::new(view)));
            marks.walk(&reader, &staying, &LogMonitor, &mut || Ok(())).unwrap();
            marks
        }

        fn delete(&self, going: PackId, staying: SnapshotId) -> Result<(), RepositoryError> {
            let (going, staying) = (BTreeSet::from([going]), BTreeSet::from([staying]));
            let mut proof = Proof {
                storage: &self.disk,
                monitor: &LogMonitor,
                go_on: &|| Ok(()),
                proven: BTreeSet::new(),
            };
            packs(&self.repository, &self.disk, &going, &self.marks(), &staying, &mut proof)
        }

        fn has(&self, pack: &PackId) -> bool {
            self.disk.files().contains_key(&layout::pack(pack))
        }
    }

    fn doubted(result: Result<(), RepositoryError>, why: &str) {
        match result {
            Err(RepositoryError::NotSwept { why: said }) => assert!(said.contains(why), "{said}"),
            other => panic!("{why}: {other:?}"),
        }
    }

    #[test]
    fn what_was_given_up_and_is_not_needed_goes() {
        let lab = Lab::new();
        lab.record(&[lab.dead.2]);
        lab.delete(lab.dead.2, lab.live.1).unwrap();
        assert!(!lab.has(&lab.dead.2) && lab.has(&lab.live.2));
    }

    #[test]
    fn a_pack_that_is_needed_stays_whatever_the_record_says() {
        let lab = Lab::new();
        lab.record(&[lab.dead.2, lab.live.2]);
        doubted(lab.delete(lab.live.2, lab.live.1), "is needed");
        assert!(lab.has(&lab.live.2));
    }

    #[test]
    fn a_pack_that_no_record_gives_up_stays() {
        let lab = Lab::new();
        lab.record(&[]);
        doubted(lab.delete(lab.dead.2, lab.live.1), "no record");
        assert!(lab.has(&lab.dead.2));
    }

    #[test]
    fn nothing_goes_when_the_manifests_are_not_those_that_were_looked_at() {
        let lab = Lab::new();
        lab.record(&[lab.dead.2]);
        let third = backup(&lab.repository, b"three");
        doubted(lab.delete(lab.dead.2, lab.live.1), "manifests");
        doubted(lab.delete(lab.dead.2, third.1), "manifests");
        assert!(lab.has(&lab.dead.2));
    }

    #[test]
    fn a_manifest_goes_only_when_a_record_on_the_disk_has_removed_it() {
        let lab = Lab::new();
        let manifests_left =
            |lab: &Lab| lab.disk.files().keys().filter(|p| p.starts_with("manifests")).count();
        let dead = [(lab.dead.0, lab.dead.1)];
        doubted(manifests(&lab.repository, &lab.disk, &dead), "removes snapshot 1");
        lab.record(&[]);
        doubted(manifests(&lab.repository, &lab.disk, &[(lab.live.0, lab.live.1)]), "removes snapshot 2");
        assert_eq!(manifests_left(&lab), 4);
        manifests(&lab.repository, &lab.disk, &dead).unwrap();
        assert_eq!(manifests_left(&lab), 2);
    }
}
