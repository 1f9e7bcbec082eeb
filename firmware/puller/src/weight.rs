//! How much memory things take that a server can make the box hold: what the bounds are counted in.

use mailkeep_format::{ChunkRef, Node, NodeKind};

/// Memory that one reference to a chunk takes, bytes.
pub(crate) const CHUNK_WEIGHT: usize = size_of::<ChunkRef>();

/// Memory that a node takes, bytes; a little too much rather than too little.
pub(crate) fn weight(node: &Node) -> usize {
    let target = match &node.kind {
        NodeKind::Symlink { target } => target.len(),
        _ => 0,
    };
    let xattrs: usize = node.meta.xattrs.iter().map(|(name, value)| 64 + name.len() + value.len()).sum();
    size_of::<Node>() + 16 + node.name.len() + target + xattrs + node.content().len() * CHUNK_WEIGHT
}
