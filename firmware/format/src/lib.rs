//! The bytes of a Mailkeep repository, and nothing else: no I/O, no clock, no threads.
//!
//! The way of the data: a file is cut into **chunks** ([`cut`]), a chunk is named by its content ([`ids`]), chunks
//! are compressed together into **blocks** ([`block`]), blocks are sealed into **packs** ([`pack`]), an **index run**
//! ([`run`]) says where each chunk lies, directories are encoded as **trees** ([`node`]) which are cut into chunks
//! again, and a **manifest** ([`manifest`]) names the root tree. The **label** ([`label`]) says which repository this
//! is; all **keys** ([`keys`]) come from one master.
//!
//! Invariants:
//! - every decoder takes untrusted bytes, works under the caps of [`limits`], allocates no more than a small multiple
//!   of its input and never panics;
//! - every stored value has exactly one encoding; anything else is refused ([`FormatError`]);
//! - what is written here is described for strangers in `FORMAT.md`.

pub mod base64;
pub mod block;
pub mod cbor;
pub mod checkpoint;
pub mod codec;
mod compress;
pub mod cut;
pub mod drill;
mod error;
pub mod ids;
pub mod keys;
pub mod label;
pub mod limits;
pub mod manifest;
pub mod node;
pub mod pack;
pub mod random;
mod record;
pub mod run;
mod seal;
pub mod sweep;
pub mod typed;
pub mod verification;
pub mod version;

pub use checkpoint::{Checkpoint, TreeSeen};
pub use compress::{DEFAULT_LEVEL, SMALL_LEVEL, Transit, TransitDecoder};
pub use drill::DrillRecord;
pub use error::FormatError;
pub use ids::{ChunkId, ChunkKind, ContentHash, IdKey, PackId, RepositoryId, RunId, Salt, SnapshotId};
pub use keys::{Identity, KeyError, Keys, Master, Recipient};
pub use label::Label;
pub use manifest::Manifest;
pub use node::{ChunkRef, Meta, Node, NodeKind, Timestamp};
pub use sweep::SweepRecord;
pub use verification::Verification;

/// The text of FORMAT.md, which every repository carries.
pub const FORMAT_MD: &str = include_str!("../FORMAT.md");
