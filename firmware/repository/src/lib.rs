//! A repository on a disk: one folder of write-once files, sealed snapshot by snapshot.
//!
//! The way in: [`Repository::writer`] takes the lock, chunks are [put](Writer::put), grouped into blocks, compressed by
//! several threads, encrypted and written into packs by one; [`Writer::seal`] makes all of it durable, reads it back and
//! writes the manifest. The way out: [`Repository::snapshots`] gives manifests, a [`Reader`] gives directories and files,
//! each chunk proven on its way. [`verify()`] proves everything.
//!
//! Invariants, and the table of who may run beside whom, stand in `COMMIT.md`; bytes in `FORMAT.md`. In short:
//! - a file is durable before anything refers to it; the manifest is last; after the first failed write nothing more is
//!   written;
//! - the index is a cache and is never believed about a pack that is not there;
//! - no clock decides about order, no error is taken for "empty", nothing that was sealed is ever rewritten.

mod checkpoints;
mod drills;
mod durable;
mod error;
mod filter;
mod guard;
mod index;
mod init;
mod keyring;
mod layout;
pub mod limits;
mod lineage;
mod lock;
mod lru;
mod machine;
mod monitor;
mod packfile;
mod reader;
mod readme;
mod reindex;
mod repair;
mod repository;
mod rescue;
mod reserve;
pub mod retention;
mod rollback;
mod snapshots;
mod statistics;
pub mod storage;
mod sweep;
pub mod swept;
mod sync;
mod tree_nodes;
mod verified;
mod verify;
mod walk;
mod writer;

pub use error::RepositoryError;
pub use init::{Encryption, InitOptions};
pub use keyring::{AddedKey, KeyHolder, KeySource, key_holders};
pub use lineage::{Seen, Setback, setback};
pub use lock::Lease;
pub use machine::{BoxId, Machine};
pub use mailkeep_format as format;
pub use monitor::{Collected, LogMonitor, Monitor, Phase, Problem, Severity};
pub use reader::{Chunk, Expected, Gathered, Piece, Reader, Scratch};
pub use reindex::ReindexReport;
pub use repair::{DamagedPack, RepairOptions, RepairPlan, RepairReport};
pub use repository::{InitDone, Repository};
pub use rescue::{Kit, KitFile, NotAProgram, RescueProgram, kit, write_kit};
pub use rollback::{GuardState, RollBack, RolledBack, guards, plan_roll_back, roll_back};
pub use snapshots::{SnapshotEntry, SnapshotSpec};
pub use statistics::{SourceStatistics, Statistics, VerificationAge};
pub use storage::{LocalStorage, MemoryStorage, Storage};
pub use sweep::{PruneLine, PruneOptions, PruneReport};
pub use swept::Swept;
pub use tree_nodes::TreeNodes;
pub use verify::{NextSlice, ReadData, VerifyOptions, VerifyReport, verify, verify_next};
pub use writer::{Draft, Sealed, TreeWriter, Writer, WriterOptions};

/// What lies as FORMAT.md on every disk.
const FORMAT_TEXT: &str = include_str!("../../format/FORMAT.md");

/// Fresh random bytes from the operating system.
pub(crate) fn random<const N: usize>(what: &'static str) -> Result<[u8; N], RepositoryError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| RepositoryError::Encode {
        what,
        source: format::random::NoRandomness { what }.into(),
    })?;
    Ok(bytes)
}
