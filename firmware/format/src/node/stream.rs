//! Trees as streams: one node in, one node out, whatever the number of names. Follows FORMAT.md, "Trees".
//!
//! A folder with half a million messages is 40 MB encoded and ten times that decoded, so neither side ever holds it
//! whole: [`TreeEncoder`] gives chunks as soon as their cuts are certain, [`TreeDecoder`] takes chunks and gives nodes.
//! Bytes and cuts are those of [`encode_tree`](super::encode_tree) and [`cut_tree`](crate::cut::cut_tree). Memory is the
//! longest chunk and the longest node.

use super::{Node, TREE_VERSION, check_name, check_order};
use crate::codec::Reader;
use crate::{FormatError, cut};

/// Encodes a directory node by node and cuts it into chunks on the way.
///
/// ```
/// # use mailkeep_format::node::TreeEncoder;
/// let mut encoder = TreeEncoder::new();
/// // … encoder.push(&node)?, and after each:
/// while let Some(chunk) = encoder.chunk() { /* store it */ }
/// encoder.finish();
/// while let Some(chunk) = encoder.chunk() { /* store it */ }
/// ```
#[derive(Clone, Debug)]
pub struct TreeEncoder {
    /// What was given out already, up to `from`, and what waits for its cut.
    buffer: Vec<u8>,
    from: usize,
    last: Vec<u8>,
    ended: bool,
}

impl Default for TreeEncoder {
    fn default() -> Self {
        TreeEncoder::new()
    }
}

impl TreeEncoder {
    /// An encoder at the start of a directory.
    pub fn new() -> Self {
        TreeEncoder { buffer: vec![TREE_VERSION], from: 0, last: Vec::new(), ended: false }
    }

    /// Adds the next node.
    ///
    /// # Errors
    /// Its name is not a plain name, or does not follow the one before; or [`TreeEncoder::finish`] has been called.
    pub fn push(&mut self, node: &Node) -> Result<(), FormatError> {
        check_name(&node.name)?;
        self.follow(&node.name)?;
        node.encode(&mut self.buffer);
        Ok(())
    }

    /// Adds the next nodes as [`Node::encode`] wrote them; they are decoded once more, so that nothing gets into a tree
    /// that could not be got out again.
    ///
    /// # Errors
    /// As [`TreeEncoder::push`], and for bytes that are no nodes.
    pub fn push_encoded(&mut self, nodes: &[u8]) -> Result<(), FormatError> {
        let mut reader = Reader::new(nodes);
        while reader.remaining() > 0 {
            let node = Node::decode(&mut reader)?;
            self.follow(&node.name)?;
        }
        self.buffer.extend_from_slice(nodes);
        Ok(())
    }

    fn follow(&mut self, name: &[u8]) -> Result<(), FormatError> {
        if self.ended {
            return Err(FormatError::malformed("tree", "a node after its end"));
        }
        check_order((!self.last.is_empty()).then_some(&self.last), name)?;
        self.last.clear();
        self.last.extend_from_slice(name);
        self.buffer.drain(..self.from);
        self.from = 0;
        Ok(())
    }

    /// No more nodes follow: the cuts of all that is left are certain.
    pub fn finish(&mut self) {
        self.ended = true;
    }

    /// The next chunk whose cut is certain.
    pub fn chunk(&mut self) -> Option<&[u8]> {
        let start = self.from;
        let length = cut::next_tree_cut(&self.buffer[start..], self.ended)?;
        self.from += length;
        Some(&self.buffer[start..self.from])
    }

    /// Bytes of memory that wait for a cut.
    pub fn held(&self) -> usize {
        self.buffer.len() - self.from
    }
}

/// Decodes a directory from its chunks, node by node.
#[derive(Debug, Default)]
pub struct TreeDecoder {
    /// What was decoded already, up to `from`, and what was not.
    buffer: Vec<u8>,
    from: usize,
    started: bool,
    last: Option<Vec<u8>>,
    /// Bytes that must be there before the next attempt: a long node is not tried anew with every chunk of it.
    wanted: usize,
}

impl TreeDecoder {
    /// A decoder at the start of a directory.
    pub fn new() -> Self {
        TreeDecoder::default()
    }

    /// Takes the next bytes of the encoded tree.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.from);
        self.from = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next node that is there whole; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`FormatError`] for anything that [`TreeEncoder`] cannot have written.
    pub fn node(&mut self) -> Result<Option<Node>, FormatError> {
        if self.buffer.len() - self.from < self.wanted {
            return Ok(None);
        }
        self.decode(false)
    }

    /// The next node, when all bytes have been pushed; `None` at the end of the tree.
    ///
    /// # Errors
    /// As [`TreeDecoder::node`], and for a tree that breaks off.
    pub fn last_nodes(&mut self) -> Result<Option<Node>, FormatError> {
        self.decode(true)
    }

    fn decode(&mut self, at_end: bool) -> Result<Option<Node>, FormatError> {
        let mut reader = Reader::new(&self.buffer[self.from..]);
        if !self.started {
            if reader.remaining() == 0 && !at_end {
                return Ok(None);
            }
            let version = reader.byte("tree version")?;
            if version != TREE_VERSION {
                return Err(FormatError::malformed("tree", format!("version {version} is unknown")));
            }
            self.started = true;
            self.from += 1;
        }
        if reader.remaining() == 0 {
            return Ok(None);
        }
        let before = reader.remaining();
        let node = match Node::decode(&mut reader) {
            Err(FormatError::Truncated { .. }) if !at_end => {
                self.wanted = before + before / 2 + 1;
                return Ok(None);
            }
            other => other?,
        };
        self.from += before - reader.remaining();
        self.wanted = 0;
        check_order(self.last.as_deref(), &node.name)?;
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(&node.name);
        Ok(Some(node))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{ChunkRef, Meta, NodeKind, decode_tree, encode_tree};
    use super::*;
    use crate::{ChunkId, cut::cut_tree};

    fn nodes(seeds: &[(u32, usize)]) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        for (number, &(salt, chunks)) in seeds.iter().enumerate() {
            let hash = *blake3::hash(&salt.to_le_bytes()).as_bytes();
            let chunk = |at: usize| {
                let mut id = [at as u8; 24];
                id[..20].copy_from_slice(&hash[..20]);
                ChunkRef { id: ChunkId(id), length: 1 + salt % 1000 }
            };
            let content = (0..chunks).map(chunk).collect();
            nodes.push(Node {
                name: format!("{number:07}.{}", "x".repeat(salt as usize % 40)).into_bytes(),
                meta: Meta { inode: u64::from(salt), links: 1, ..Meta::default() },
                kind: NodeKind::File { size: 7, sparse: salt % 2 == 0, content },
            });
        }
        nodes
    }

    fn streamed(nodes: &[Node], encoded_from: usize) -> Vec<Vec<u8>> {
        let mut encoder = TreeEncoder::new();
        let mut chunks = Vec::new();
        let (plain, encoded) = nodes.split_at(encoded_from.min(nodes.len()));
        for node in plain {
            encoder.push(node).unwrap();
            while let Some(chunk) = encoder.chunk() {
                chunks.push(chunk.to_vec());
            }
        }
        for some in encoded.chunks(3) {
            let mut bytes = Vec::new();
            some.iter().for_each(|node| node.encode(&mut bytes));
            encoder.push_encoded(&bytes).unwrap();
            while let Some(chunk) = encoder.chunk() {
                chunks.push(chunk.to_vec());
            }
        }
        encoder.finish();
        while let Some(chunk) = encoder.chunk() {
            chunks.push(chunk.to_vec());
        }
        chunks
    }

    fn decoded(bytes: &[u8], step: usize) -> Result<Vec<Node>, FormatError> {
        let mut decoder = TreeDecoder::new();
        let mut nodes = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.push(piece);
            while let Some(node) = decoder.node()? {
                nodes.push(node);
            }
        }
        while let Some(node) = decoder.last_nodes()? {
            nodes.push(node);
        }
        Ok(nodes)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn streams_have_the_bytes_and_cuts_of_the_whole(
            seeds in vec((any::<u32>(), prop_oneof![8 => 0..3_usize, 1 => 100..4000_usize]), 0..600),
            step in 1..90_000_usize,
            encoded_from in 0..700_usize,
        ) {
            let nodes = nodes(&seeds);
            let whole = encode_tree(&nodes).unwrap();
            let chunks = streamed(&nodes, encoded_from);
            prop_assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), cut_tree(&whole));
            prop_assert_eq!(chunks.concat(), &whole[..]);
            prop_assert_eq!(decoded(&whole, step.min(whole.len())).unwrap(), nodes);
        }

        #[test]
        fn what_the_whole_refuses_the_stream_refuses(
            seeds in vec((any::<u32>(), 0..3_usize), 0..40),
            step in 1..400_usize,
            cut in 0..4000_usize,
            flips in vec((0..4000_usize, 1..=255_u8), 0..3),
        ) {
            let mut bytes = encode_tree(&nodes(&seeds)).unwrap();
            bytes.truncate(bytes.len().min(cut));
            for (at, flip) in flips {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= flip;
                }
            }
            match (decode_tree(&bytes), decoded(&bytes, step)) {
                (Ok(whole), Ok(stream)) => prop_assert_eq!(whole, stream),
                (Err(_), Err(_)) => {}
                (whole, stream) => prop_assert!(false, "{:?} but {:?}", whole, stream),
            }
        }
    }

    #[test]
    fn order_and_end_are_kept() {
        let nodes = nodes(&[(1, 0), (2, 0)]);
        let mut encoder = TreeEncoder::new();
        encoder.push(&nodes[1]).unwrap();
        assert!(encoder.push(&nodes[0]).is_err());
        let mut bytes = Vec::new();
        nodes[0].encode(&mut bytes);
        assert!(encoder.push_encoded(&bytes).is_err(), "out of order");
        assert!(TreeEncoder::new().push_encoded(&bytes[1..]).is_err(), "no node");
        encoder.finish();
        assert!(encoder.push(&nodes[1]).is_err());
    }
}
