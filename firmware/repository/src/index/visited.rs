//! Directories that were gone through: a bit over the places in the index for each of a single chunk, which nearly all
//! are. Three megabytes for the 25 million chunks of ten million messages, where a set of ids would grow with them.

use std::collections::HashSet;
use std::sync::Arc;

use mailkeep_format::{ChunkId, ChunkRef};

use super::run::Run;
use super::view::View;
use crate::error::RepositoryError;

/// Directories that were gone through.
pub(crate) struct Visited {
    single: Vec<(Arc<Run>, Vec<u64>)>,
    /// The start of the hash of the ids of all others: long ones, and those that no sound page of the index names.
    others: HashSet<[u8; 16]>,
}

impl Visited {
    /// None so far.
    pub(crate) fn new(view: &View) -> Self {
        let bits = |run: &Arc<Run>| vec![0; run.reader.entry_count().div_ceil(64) as usize];
        let single = view.runs().iter().map(|run| (run.clone(), bits(run))).collect();
        Visited { single, others: HashSet::new() }
    }

    /// Whether the directory with these chunks comes for the first time.
    pub(crate) fn enter(&mut self, content: &[ChunkRef]) -> Result<bool, RepositoryError> {
        if let [only] = content {
            if let Some(first) = self.enter_single(&only.id)? {
                return Ok(first);
            }
        }
        let mut hasher = blake3::Hasher::new();
        for chunk in content {
            hasher.update(chunk.id.as_bytes());
        }
        let mut start = [0; 16];
        start.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok(self.others.insert(start))
    }

    fn enter_single(&mut self, id: &ChunkId) -> Result<Option<bool>, RepositoryError> {
        for (run, bits) in &mut self.single {
            let number = match run.number_of(id) {
                Ok(Some(number)) => number,
                Ok(None) => continue,
                Err(RepositoryError::Damaged { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            let Some(word) = bits.get_mut((number / 64) as usize) else { return Ok(None) };
            let bit = 1 << (number % 64);
            let first = *word & bit == 0;
            *word |= bit;
            return Ok(Some(first));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use mailkeep_format::{ChunkKind, ContentHash};

    use super::*;
    use crate::storage::Storage;
    use crate::writer::WriterOptions;
    use crate::{Encryption, InitOptions, LogMonitor, MemoryStorage, Repository, layout};

    fn repository() -> (Arc<MemoryStorage>, Repository, Vec<ChunkId>) {
        let storage = Arc::new(MemoryStorage::new());
        let options = InitOptions { label: "t".into(), encryption: Encryption::Plain };
        let repository = Repository::init(storage.clone(), &options).unwrap().repository;
        let mut ids = Vec::new();
        for run in 0..3u32 {
            let mut writer = repository.writer(&WriterOptions::default(), &LogMonitor).unwrap();
            for number in 0..300u32 {
                let bytes = (number * 10 + run).to_le_bytes();
                ids.push(writer.put(ChunkKind::Tree, &bytes).unwrap().id);
            }
            writer.flush().unwrap();
        }
        (storage, repository, ids)
    }

    fn every_directory_is_entered_once(repository: &Repository, ids: &[ChunkId]) {
        let view = View::load(repository, &LogMonitor).unwrap();
        let mut visited = Visited::new(&view);
        let tree = |ids: &[ChunkId]| -> Vec<ChunkRef> {
            ids.iter().map(|id| ChunkRef { id: *id, length: 4 }).collect()
        };
        let absent = repository.keys().id.chunk_id(ChunkKind::Data, &ContentHash::of(b"not there"));
        let mut contents: Vec<Vec<ChunkRef>> = ids.chunks(1).map(tree).collect();
        contents.extend([&[absent][..], &[], &ids[..2], &[ids[1], ids[0]]].map(tree));
        for first in [true, false] {
            for content in &contents {
                assert_eq!(visited.enter(content).unwrap(), first);
            }
        }
    }

    #[test]
    fn a_directory_is_entered_once() {
        let (storage, repository, ids) = repository();
        every_directory_is_entered_once(&repository, &ids);
        for entry in storage.list(layout::INDEX).unwrap() {
            let path = format!("{}/{}", layout::INDEX, entry.name);
            storage.damage(&path, |bytes| {
                let at = bytes.len() - 2000;
                bytes[at] ^= 1;
            });
        }
        every_directory_is_entered_once(&repository, &ids);
    }

    #[test]
    fn what_is_absent_is_told_whatever_became_of_the_index() {
        let (storage, repository, ids) = repository();
        let foreign = |number: usize| {
            repository.keys().id.chunk_id(ChunkKind::Data, &ContentHash::of(&number.to_le_bytes()))
        };
        let mut lacking: Vec<ChunkId> = (0..200).map(foreign).collect();
        lacking.sort_unstable();
        for damaged in [false, true] {
            let view = View::load(&repository, &LogMonitor).unwrap();
            let mut asked: Vec<ChunkId> = ids.iter().chain(&lacking).chain(&ids[..9]).copied().collect();
            assert_eq!(view.absent(&mut asked).unwrap(), lacking);
            for entry in storage.list(layout::INDEX).unwrap().iter().filter(|_| !damaged) {
                let path = format!("{}/{}", layout::INDEX, entry.name);
                storage.damage(&path, |bytes| {
                    let at = bytes.len() - 2000;
                    bytes[at] ^= 1;
                });
            }
        }
    }
}
