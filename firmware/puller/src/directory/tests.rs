//! Property: whatever was listed, read, dropped and closed, and in whatever order, the tree is that of a model which
//! holds everything in memory; it is the base's very chunks exactly if it is equal to it; and all memory is given back.

use std::collections::HashMap;

use mailkeep_format::{Checkpoint, ChunkId, ContentHash, Meta, Timestamp, node};
use mailkeep_link::message::DirectoryId;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Trees {
    chunks: HashMap<ChunkId, Vec<u8>>,
    puts: usize,
}

impl Trees {
    fn tree(&self, content: &[ChunkRef]) -> Vec<Node> {
        let bytes: Vec<u8> = content.iter().flat_map(|chunk| self.chunks[&chunk.id].clone()).collect();
        node::decode_tree(&bytes).unwrap()
    }

    fn put(&mut self, nodes: &[Node]) -> Vec<ChunkRef> {
        let bytes = node::encode_tree(nodes).unwrap();
        let mut from = 0;
        let cuts = mailkeep_format::cut::cut_tree(&bytes);
        let put = cuts.into_iter().map(|length| {
            from += length;
            self.put_tree_chunk(&bytes[from - length..from]).unwrap()
        });
        put.collect()
    }
}

impl Store for Trees {
    fn known(&mut self, _: &ContentHash, _: u32) -> Result<Option<ChunkRef>, PullError> {
        Ok(None)
    }

    fn put(&mut self, _: &ContentHash, _: &[u8]) -> Result<ChunkRef, PullError> {
        Err(PullError::protocol("no data here"))
    }

    fn put_tree_chunk(&mut self, bytes: &[u8]) -> Result<ChunkRef, PullError> {
        self.puts += 1;
        let mut id = ChunkId([0; 24]);
        id.0.copy_from_slice(&ContentHash::of(bytes).0[..24]);
        self.chunks.insert(id, bytes.to_vec());
        Ok(ChunkRef { id, length: bytes.len() as u32 })
    }

    fn tree_nodes(&mut self, content: &[ChunkRef]) -> Result<Nodes, PullError> {
        Ok(Box::new(self.tree(content).into_iter().map(Ok)))
    }

    fn tree_chunk(&mut self, chunk: &ChunkRef) -> Result<Vec<u8>, PullError> {
        Ok(self.chunks[&chunk.id].clone())
    }

    fn relies_on(&mut self, chunk: &ChunkRef) -> Result<bool, PullError> {
        Ok(self.chunks.contains_key(&chunk.id))
    }

    fn keep(&mut self, _: Checkpoint) -> Result<(), PullError> {
        Ok(())
    }
}

/// What becomes of a name: in the base or not, in the listing or not.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Kept,
    Gone,
    New,
    /// In both, with another ctime; read with this outcome.
    Changed,
    /// Looks kept, was too young; turns out to be the same.
    Racy,
    Dropped,
    Folder,
    FolderChanged,
    Link,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        40 => Just(Fate::Kept),
        1 => Just(Fate::Gone),
        1 => Just(Fate::New),
        1 => Just(Fate::Changed),
        3 => Just(Fate::Racy),
        1 => Just(Fate::Dropped),
        2 => Just(Fate::Folder),
        1 => Just(Fate::FolderChanged),
        2 => Just(Fate::Link),
    ]
}

const BASE_CLOCK: Timestamp = Timestamp { seconds: 1000, nanos: 0 };
const NOW: Timestamp = Timestamp { seconds: 2000, nanos: 0 };

fn chunk(number: u32) -> ChunkRef {
    ChunkRef { id: ChunkId([number as u8; 24]), length: number % 900 + 1 }
}

fn node(number: u32, fate: Fate) -> Node {
    let seconds = if matches!(fate, Fate::Racy) { 999 } else { 500 };
    let time = Timestamp { seconds, nanos: 1 };
    let meta = Meta { inode: number.into(), links: 1, mtime: time, ctime: time, ..Meta::default() };
    let kind = match fate {
        Fate::Folder | Fate::FolderChanged => NodeKind::Directory { content: vec![chunk(number)] },
        Fate::Link => NodeKind::Symlink { target: b"there".to_vec() },
        _ => {
            NodeKind::File { size: chunk(number).length.into(), sparse: false, content: vec![chunk(number)] }
        }
    };
    Node { name: format!("{number:06}").into_bytes(), meta, kind }
}

/// As an agent lists it.
fn listed(mut node: Node, fate: Fate) -> Node {
    match &mut node.kind {
        NodeKind::File { content, .. } | NodeKind::Directory { content } => content.clear(),
        _ => {}
    }
    if matches!(fate, Fate::Changed) {
        node.meta.ctime.nanos = 7;
    }
    node
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_stream_makes_the_tree_of_the_model(
        fates in btree_map(0..5000_u32, fate(), 0..900),
        has_base in prop_oneof![4 => Just(true), 1 => Just(false)],
        pieces in vec(1..200_usize, 1..8),
        order in vec(any::<u32>(), 1..50),
        early in any::<bool>(),
    ) {
        let mut store = Trees::default();
        let before: Vec<Node> = fates
            .iter()
            .filter(|(_, fate)| !matches!(fate, Fate::New))
            .map(|(&number, &fate)| node(number, fate))
            .collect();
        let base = store.put(&before);
        store.puts = 0;
        let held = Held::default();
        let nodes = has_base.then(|| (base.clone(), store.tree_nodes(&base).unwrap()));
        let mut directory = OpenDirectory::new(None, 0, nodes, false, held.clone());
        let here: Vec<(u32, Fate)> =
            fates.into_iter().filter(|(_, fate)| !matches!(fate, Fate::Gone)).collect();
        let clocks = has_base.then_some(Clocks { base: BASE_CLOCK, now: NOW });
        let mut sizes = pieces.iter().cycle();
        let (mut from, mut model, mut waiting) = (0, Vec::new(), Vec::new());
        let mut turn = 0;
        loop {
            let to = here.len().min(from + sizes.next().unwrap());
            let nodes: Vec<Node> =
                here[from..to].iter().map(|&(number, fate)| listed(node(number, fate), fate)).collect();
            let hints = nodes
                .iter()
                .map(|node| if node.is_directory() { Hint::Descend } else { Hint::Plain })
                .collect();
            let piece = Entries {
                directory: DirectoryId(0),
                parent: None,
                first: from as u32,
                last: to == here.len(),
                nodes,
                hints,
            };
            directory.list(piece, clocks, &[]).unwrap();
            directory.advance(&mut store).unwrap();
            waiting.extend(from..to);
            from = to;
            // Some things arrive while the listing goes on, the rest after it; never in order.
            while !waiting.is_empty() && (from == here.len() || early && waiting.len() > 60) {
                turn += 1;
                let at = order[turn % order.len()] as usize % waiting.len();
                let index = waiting.swap_remove(at);
                let (number, fate) = here[index];
                let index = index as u32;
                let mut fresh = node(number, fate);
                match (fate, directory.slot(index)) {
                    (_, None) => {}
                    (Fate::Dropped, _) => directory.file_dropped(index),
                    (Fate::Folder | Fate::FolderChanged, _) => {
                        let was = directory.open_child(index).unwrap();
                        prop_assert_eq!(was.is_some(), has_base);
                        let other = u32::from(matches!(fate, Fate::FolderChanged));
                        directory.close_child(index, vec![chunk(number + other)]);
                    }
                    _ => {
                        if matches!(fate, Fate::Changed) {
                            fresh.meta.ctime.nanos = 7;
                        }
                        prop_assert!(!directory.file_read(index, &fresh).moved_since_listed);
                    }
                }
                directory.advance(&mut store).unwrap();
            }
            if from == here.len() {
                break;
            }
        }
        for (number, fate) in here {
            let mut node = node(number, fate);
            match fate {
                Fate::Changed => node.meta.ctime.nanos = 7,
                // With a base it is taken over, without one it is read and was not there.
                Fate::Dropped if !has_base => continue,
                Fate::FolderChanged => node.kind = NodeKind::Directory { content: vec![chunk(number + 1)] },
                _ => {}
            }
            model.push(node);
        }
        prop_assert!(directory.is_finished());
        let done = directory.finish(&mut store).unwrap();
        let files: Vec<&Node> = model.iter().filter(|node| node.is_file()).collect();
        prop_assert_eq!(done.files, files.len() as u64);
        prop_assert_eq!(done.bytes, files.iter().map(|node| node.size()).sum::<u64>());
        prop_assert_eq!(has_base && model == before, store.puts == 0);
        prop_assert_eq!(&done.content, &store.put(&model));
        prop_assert_eq!(held.bytes(), 0);
    }
}
