//! Names that became links of one another while one of them lay in a folder at rest.
//!
//! Cyrus makes a COPY by a hard link. It changes the times of the folder that the new name is in, and of no other: the
//! folder of the old name is not listed ([`crate::known`]), and what is known of that name says that it is the only one.
//! So the new one is read, says that it has more names than were met in its pass ([`Parted`]), and at the end of the run
//! the tree is looked through for the others. What they say of themselves is replaced by what the new name says: they are
//! one inode.
//!
//! What counts as another name: a file of the same inode number, size, time and chunks, on no other device as far as that is
//! known. Where more of them are found than the inode has names, all are left as they are.
//!
//! The cost is one look at the tree, which only runs pay in which such names were met.

use std::collections::{BTreeMap, HashMap};

use mailkeep_format::node::TreeEncoder;
use mailkeep_format::{ChunkRef, Node, NodeKind};

use crate::PullError;
use crate::limits::{PARTED_MAX, SCANNED_AHEAD_MAX};
use crate::store::Store;

/// Files with more names than their passes met: the latest that was said of each.
#[derive(Debug, Default)]
pub(crate) struct Parted {
    /// By inode; of several devices there may be one each.
    inodes: HashMap<u64, Vec<Node>>,
    count: usize,
}

impl Parted {
    /// Adds one, as it was read; a later word replaces an earlier one. Beyond the bound the next full walk finds them.
    pub(crate) fn add(&mut self, node: Node) {
        let same = self.inodes.entry(node.meta.inode).or_default();
        if let Some(earlier) = same.iter_mut().find(|earlier| earlier.meta.device == node.meta.device) {
            *earlier = node;
        } else if self.count < PARTED_MAX {
            same.push(node);
            self.count += 1;
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The inode of which this is a name, perhaps.
    fn of(&self, node: &Node) -> Option<&Node> {
        let fits = |said: &&Node| {
            let (a, b) = (&said.meta, &node.meta);
            node.is_file()
                && (b.links == 1 || b.device == a.device)
                && said.size() == node.size()
                && a.mtime == b.mtime
                && said.content() == node.content()
        };
        let mut fitting = self.inodes.get(&node.meta.inode)?.iter().filter(fits);
        // Of two that fit nobody knows which.
        fitting.next().filter(|_| fitting.next().is_none())
    }
}

/// A directory in which there is something to be replaced, or that leads to one.
#[derive(Debug, Default)]
struct Way {
    further: BTreeMap<Vec<u8>, Way>,
    /// Names here that are links of others.
    names: Vec<Vec<u8>>,
}

/// A name that was found.
struct Met {
    path: Vec<Vec<u8>>,
    is_right: bool,
}

/// A tree in which all names of these files say that they are one, and how many were mended; `None` if they do already.
pub(crate) fn relink(
    store: &mut dyn Store,
    root: &[ChunkRef],
    parted: &Parted,
) -> Result<Option<(Vec<ChunkRef>, u64)>, PullError> {
    let met = look_for(store, root, parted)?;
    let mut way = Way::default();
    let mut mended = 0;
    for ((device, inode), names) in met {
        let links =
            parted.inodes.get(&inode).and_then(|all| all.iter().find(|node| node.meta.device == device));
        let at_most = links.map_or(0, |node| node.meta.links as usize);
        if names.len() < 2 || names.len() > at_most {
            continue;
        }
        for Met { mut path, .. } in names.into_iter().filter(|name| !name.is_right) {
            let Some(name) = path.pop() else { continue };
            let mut place = &mut way;
            for folder in path {
                place = place.further.entry(folder).or_default();
            }
            place.names.push(name);
            mended += 1;
        }
    }
    if mended == 0 {
        return Ok(None);
    }
    Ok(Some((rewritten(store, root, &way, parted)?, mended)))
}

/// All names in a tree of the inodes that are looked for.
fn look_for(
    store: &mut dyn Store,
    root: &[ChunkRef],
    parted: &Parted,
) -> Result<HashMap<(u64, u64), Vec<Met>>, PullError> {
    let mut met: HashMap<(u64, u64), Vec<Met>> = HashMap::new();
    let mut ahead: Vec<(Vec<Vec<u8>>, Vec<ChunkRef>)> = vec![(Vec::new(), root.to_vec())];
    while let Some((path, content)) = ahead.pop() {
        let below = |name: &[u8]| path.iter().cloned().chain([name.to_vec()]).collect();
        for node in store.tree_nodes(&content)? {
            let node = node?;
            if let Some(said) = parted.of(&node) {
                let names = met.entry((said.meta.device, said.meta.inode)).or_default();
                // One more than there can be is enough to know.
                if names.len() <= said.meta.links as usize {
                    names.push(Met { path: below(&node.name), is_right: node.meta == said.meta });
                }
            } else if let (NodeKind::Directory { content }, true) =
                (&node.kind, ahead.len() < SCANNED_AHEAD_MAX)
            {
                ahead.push((below(&node.name), content.clone()));
            }
        }
    }
    Ok(met)
}

/// A directory once more, with the names on this way replaced.
fn rewritten(
    store: &mut dyn Store,
    content: &[ChunkRef],
    way: &Way,
    parted: &Parted,
) -> Result<Vec<ChunkRef>, PullError> {
    let unencodable = |_| PullError::protocol("a directory cannot be encoded");
    let (mut encoder, mut chunks) = (TreeEncoder::new(), Vec::new());
    for node in store.tree_nodes(content)? {
        let mut node = node?;
        if way.names.contains(&node.name) {
            if let Some(said) = parted.of(&node) {
                node.meta = said.meta.clone();
            }
        }
        if let (NodeKind::Directory { content }, Some(way)) = (&mut node.kind, way.further.get(&node.name)) {
            *content = rewritten(store, content, way, parted)?;
        }
        encoder.push(&node).map_err(unencodable)?;
        while let Some(chunk) = encoder.chunk() {
            chunks.push(store.put_tree_chunk(chunk)?);
        }
    }
    encoder.finish();
    while let Some(chunk) = encoder.chunk() {
        chunks.push(store.put_tree_chunk(chunk)?);
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests;
