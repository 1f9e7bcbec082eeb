//! The tree that comes out of a directory: the base's as long as nothing differs from it, else another, encoded and
//! stored as it grows; or the base's but for a few names ([`super::patch`]).

use mailkeep_format::ChunkRef;
use mailkeep_format::node::TreeEncoder;

use super::patch::{Patch, Spot};
use crate::PullError;
use crate::store::{Nodes, Store};
use crate::weight::CHUNK_WEIGHT;

/// The tree that comes out.
pub(super) enum Output {
    /// So far equal to the base's first nodes, this many.
    AsBase(u32),
    /// Another: what is certain of it has been stored.
    New { encoder: TreeEncoder, content: Vec<ChunkRef>, base: Option<Replay> },
    /// The base's but for some names. A place is that of an entry that was looked up.
    Amended { patch: Patch, looked_up: Vec<Spot> },
}

/// The base's nodes once more, for those that are taken over.
pub(super) struct Replay {
    nodes: Nodes,
    place: u32,
}

impl Output {
    pub(super) fn new(has_base: bool) -> Self {
        if has_base { Output::AsBase(0) } else { Output::other() }
    }

    fn other() -> Self {
        Output::New { encoder: TreeEncoder::new(), content: Vec::new(), base: None }
    }

    /// Bytes of memory that wait for a cut or are references to chunks; and whether the base is being gone through.
    pub(super) fn held(&self) -> (usize, bool) {
        match self {
            Output::AsBase(_) => (0, false),
            Output::New { encoder, content, base } => {
                (encoder.held() + content.len() * CHUNK_WEIGHT, base.is_some())
            }
            Output::Amended { patch, looked_up } => (patch.held() + size_of_val(looked_up.as_slice()), false),
        }
    }

    /// What is another than the base so far, to be gone on with aside: what waits for a cut, and the chunks before it.
    pub(super) fn so_far(&self) -> (TreeEncoder, Vec<ChunkRef>) {
        match self {
            Output::New { encoder, content, .. } => (encoder.clone(), content.clone()),
            Output::AsBase(_) | Output::Amended { .. } => (TreeEncoder::new(), Vec::new()),
        }
    }

    /// Adds nodes of the base.
    pub(super) fn same(
        &mut self,
        place: u32,
        count: u32,
        base: Option<&[ChunkRef]>,
        store: &mut dyn Store,
    ) -> Result<(), PullError> {
        match self {
            Output::AsBase(so_far) if *so_far == place => {
                *so_far += count;
                return Ok(());
            }
            Output::Amended { patch, looked_up } => {
                let range = place as usize..place as usize + count as usize;
                for spot in looked_up.get(range).unwrap_or_default() {
                    patch.copy(spot, store)?;
                }
                return Ok(());
            }
            _ => {}
        }
        self.diverge(base, store)?;
        self.copy(place, count, base, store)
    }

    /// Adds what lies there in the base of an amended directory.
    pub(super) fn spots(&mut self, spots: &[Spot], store: &mut dyn Store) -> Result<(), PullError> {
        let Output::Amended { patch, .. } = self else { return Ok(()) };
        spots.iter().try_for_each(|spot| patch.copy(spot, store))
    }

    /// Adds encoded nodes.
    pub(super) fn nodes(
        &mut self,
        nodes: &[u8],
        base: Option<&[ChunkRef]>,
        store: &mut dyn Store,
    ) -> Result<(), PullError> {
        if let Output::Amended { patch, .. } = self {
            return patch.nodes(nodes, store);
        }
        self.diverge(base, store)?;
        if let Output::New { encoder, content, .. } = self {
            encoder.push_encoded(nodes).map_err(|_| PullError::protocol("a directory cannot be encoded"))?;
            put_chunks(encoder, content, store)?;
        }
        Ok(())
    }

    /// All nodes were added: the chunks of the tree.
    pub(super) fn finish(
        mut self,
        base: Option<&[ChunkRef]>,
        store: &mut dyn Store,
    ) -> Result<Vec<ChunkRef>, PullError> {
        self.diverge(base, store)?;
        match self {
            Output::New { mut encoder, mut content, .. } => {
                encoder.finish();
                put_chunks(&mut encoder, &mut content, store)?;
                Ok(content)
            }
            Output::Amended { patch, .. } => patch.finish(store),
            Output::AsBase(_) => Ok(Vec::new()),
        }
    }

    /// From here on it is another tree than the base's.
    fn diverge(&mut self, base: Option<&[ChunkRef]>, store: &mut dyn Store) -> Result<(), PullError> {
        let Output::AsBase(count) = *self else { return Ok(()) };
        *self = Output::other();
        self.copy(0, count, base, store)
    }

    /// Copies nodes from the base, whose places only ever ascend.
    fn copy(
        &mut self,
        place: u32,
        count: u32,
        known: Option<&[ChunkRef]>,
        store: &mut dyn Store,
    ) -> Result<(), PullError> {
        let (Output::New { encoder, content, base }, Some(known)) = (self, known) else { return Ok(()) };
        if count == 0 {
            return Ok(());
        }
        let replay = match base {
            Some(replay) => replay,
            None => base.insert(Replay { nodes: store.tree_nodes(known)?, place: 0 }),
        };
        let end = place + count;
        while replay.place < end {
            let node =
                replay.nodes.next().transpose()?.ok_or_else(|| {
                    PullError::protocol("the earlier snapshot's directory ends before its end")
                })?;
            if replay.place >= place {
                encoder.push(&node).map_err(|_| PullError::protocol("a directory cannot be encoded"))?;
                put_chunks(encoder, content, store)?;
            }
            replay.place += 1;
        }
        Ok(())
    }
}

/// Stores a directory with nothing in it.
pub(crate) fn put_empty(store: &mut dyn Store) -> Result<Vec<ChunkRef>, PullError> {
    Output::other().finish(None, store)
}

pub(crate) fn put_chunks(
    encoder: &mut TreeEncoder,
    content: &mut Vec<ChunkRef>,
    store: &mut dyn Store,
) -> Result<(), PullError> {
    while let Some(chunk) = encoder.chunk() {
        content.push(store.put_tree_chunk(chunk)?);
    }
    Ok(())
}
