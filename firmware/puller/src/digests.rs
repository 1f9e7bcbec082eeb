//! Which message files of a copy are held against the digests in their index, and what came of it.
//!
//! Those that are new since the last snapshot that was checked: what was found sound once lies in chunks that are proven by
//! `verify`. Hashing costs about a tenth of the processor time of a first backup and reading back what was just written as much
//! again, so of very much new mail only a sample is taken ([`DIGESTED_BYTES`], [`FIRST_DIGESTED_BYTES`], [`SAMPLED`]).
//!
//! The record stands among the versions of the manifest, under [`NAME`]: `COMPARED of NEW`.

use mailkeep_format::{ChunkKind, ChunkRef, Node};
use mailkeep_repository::{Reader, RepositoryError};
use sha1::{Digest, Sha1};

use crate::limits::{DIGESTED_BYTES, FIRST_DIGESTED_BYTES, SAMPLED};

/// Under which name the record stands among a manifest's versions.
pub(crate) const NAME: &str = "digests";

/// SHA-1, as Cyrus keeps it of a message file.
pub(crate) type Sha1Digest = [u8; 20];

/// How much of a copy's new mail was held against the indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DigestCount {
    /// Messages that have a digest in their index, and whose file was read and hashed.
    pub(crate) compared: u64,
    /// Message files that are new.
    pub(crate) new: u64,
}

impl DigestCount {
    /// What is kept of it with the snapshot.
    pub(crate) fn record(self) -> (String, String) {
        (NAME.to_owned(), format!("{} of {}", self.compared, self.new))
    }

    /// What was kept.
    pub(crate) fn of(versions: &[(String, String)]) -> Option<Self> {
        let (_, record) = versions.iter().find(|(name, _)| name == NAME)?;
        let (compared, new) = record.split_once(" of ")?;
        Some(DigestCount { compared: compared.parse().ok()?, new: new.parse().ok()? })
    }
}

/// Picks new message files and hashes them.
pub(crate) struct Digester {
    /// Bytes that are still read without a choice.
    budget: u64,
    /// New message files so far.
    new: u64,
}

impl Digester {
    /// For a copy that is the first of its source, or not.
    pub(crate) fn new(is_first: bool) -> Self {
        Digester { budget: if is_first { FIRST_DIGESTED_BYTES } else { DIGESTED_BYTES }, new: 0 }
    }

    /// How many were new.
    pub(crate) fn new_files(&self) -> u64 {
        self.new
    }

    /// The digest of a new message file as it lies in the repository; `None` for one that is not looked into.
    pub(crate) fn digest(
        &mut self,
        node: &Node,
        reader: &Reader,
    ) -> Result<Option<Sha1Digest>, RepositoryError> {
        self.new += 1;
        let size = node.size();
        if size > self.budget && self.new % SAMPLED != 0 {
            // The rest of the budget would only go to the small ones.
            self.budget = 0;
            return Ok(None);
        }
        self.budget = self.budget.saturating_sub(size);
        sha1_of(node.content(), reader).map(Some)
    }
}

fn sha1_of(content: &[ChunkRef], reader: &Reader) -> Result<Sha1Digest, RepositoryError> {
    let mut sha1 = Sha1::new();
    for chunk in content {
        sha1.update(&reader.chunk(ChunkKind::Data, chunk)?[..]);
    }
    Ok(sha1.finalize().into())
}

#[cfg(test)]
mod tests {
    use mailkeep_format::{Meta, NodeKind};
    use mailkeep_repository::{
        Encryption, InitOptions, LogMonitor, MemoryStorage, Repository, WriterOptions,
    };

    use super::*;

    #[test]
    fn the_record_is_read_back() {
        let count = DigestCount { compared: 3, new: 40 };
        assert_eq!(DigestCount::of(&[("x".into(), "y".into()), count.record()]), Some(count));
        assert_eq!(DigestCount::of(&[(NAME.into(), "a lot".into())]), None);
        assert_eq!(DigestCount::of(&[]), None);
    }

    #[test]
    fn all_is_hashed_up_to_the_budget_and_then_a_sample() {
        let options = InitOptions { label: "t".into(), encryption: Encryption::Plain };
        let repository =
            Repository::init(std::sync::Arc::new(MemoryStorage::new()), &options).unwrap().repository;
        let mut writer = repository.writer(&WriterOptions::default(), &LogMonitor).unwrap();
        let content =
            vec![writer.put(ChunkKind::Data, b"ab").unwrap(), writer.put(ChunkKind::Data, b"c").unwrap()];
        writer.flush().unwrap();
        let reader = writer.reader();
        let mut node = Node {
            name: b"1.".to_vec(),
            meta: Meta::default(),
            kind: NodeKind::File { size: 3, sparse: false, content },
        };
        let mut digester = Digester::new(true);
        // FIPS 180-4, appendix A.1.
        let abc = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let digest = digester.digest(&node, &reader).unwrap().unwrap();
        assert_eq!(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), abc);
        if let NodeKind::File { size, .. } = &mut node.kind {
            *size = FIRST_DIGESTED_BYTES;
        }
        let hashed = (0..SAMPLED * 5).filter(|_| digester.digest(&node, &reader).unwrap().is_some()).count();
        assert_eq!((hashed, digester.new_files()), (5, SAMPLED * 5 + 1));
        let mut later = Digester::new(false);
        assert!((0..5).all(|_| later.digest(&node, &reader).unwrap().is_some()));
    }
}
