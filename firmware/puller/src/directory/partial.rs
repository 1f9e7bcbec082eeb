//! What a directory that is not finished has so far, for a checkpoint: its entries that have arrived and are not the base's,
//! and its directories as far as they are.

use std::collections::BTreeMap;

use mailkeep_format::{ChunkRef, Node, NodeKind};

use super::output::put_chunks;
use super::{OpenDirectory, Segment, Slot};
use crate::PullError;
use crate::store::Store;

impl OpenDirectory {
    /// A tree of what has arrived; what is as in the base may be missing in it. `below` are the trees of directories that are
    /// open themselves, by their indices here. Nothing changes for the directory itself.
    pub(crate) fn so_far(
        &self,
        mut below: BTreeMap<u32, Vec<ChunkRef>>,
        store: &mut dyn Store,
    ) -> Result<Vec<ChunkRef>, PullError> {
        let cannot = |_| PullError::protocol("a directory cannot be encoded");
        let (mut encoder, mut content) = self.output.so_far();
        let mut segments = self.settled.iter().peekable();
        loop {
            // Both are in the order of the listing, which is that of the names.
            let next = below.first_key_value().map(|(index, _)| *index);
            if let Some((_, segment)) = segments.next_if(|(start, _)| next.is_none_or(|next| **start < next))
            {
                if let Segment::Nodes { bytes, .. } = segment {
                    encoder.push_encoded(bytes).map_err(cannot)?;
                }
            } else if let Some((index, content)) = below.pop_first() {
                let waiting = self.pending.get(&index).filter(|pending| pending.slot == Slot::Opened);
                let Some(waiting) = waiting else { continue };
                let kind = NodeKind::Directory { content };
                encoder.push(&Node { kind, ..waiting.node.clone() }).map_err(cannot)?;
            } else {
                break;
            }
            put_chunks(&mut encoder, &mut content, store)?;
        }
        encoder.finish();
        put_chunks(&mut encoder, &mut content, store)?;
        Ok(content)
    }
}
