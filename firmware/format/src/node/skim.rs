//! A directory's nodes as they lie in its encoded tree: their names and where they begin and end, without what is in them.
//! Follows FORMAT.md, "Trees".
//!
//! Whoever changes a few names of a large directory need not decode and encode all the others: their bytes can be taken
//! over as they are. What is skimmed is checked as far as it must be to find the next node; names must be plain names and
//! ascend. A node that is skimmed can still be refused by [`Node::decode`](super::Node::decode).

use std::ops::Range;

use super::{TREE_VERSION, check_name, check_order};
use crate::codec::Reader;
use crate::{ChunkId, FormatError, limits};

/// Goes through a directory's chunks, node by node.
#[derive(Debug, Default)]
pub struct TreeSkimmer {
    /// What was given already, up to `from`, and what was not.
    buffer: Vec<u8>,
    from: usize,
    /// Where `from` is in the tree.
    place: u64,
    last: Vec<u8>,
    /// Length of the node that was given last, and where in it its name is.
    given: Option<(usize, Range<usize>)>,
    /// Bytes that must be there before the next attempt.
    wanted: usize,
}

/// A node as it lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skimmed<'a> {
    /// Where in the tree it begins, bytes.
    pub start: u64,
    /// Its name.
    pub name: &'a [u8],
    /// All of it.
    pub encoded: &'a [u8],
}

impl TreeSkimmer {
    /// At the start of a directory.
    pub fn new() -> Self {
        TreeSkimmer::default()
    }

    /// Takes the next bytes of the encoded tree.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.from);
        self.from = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Where the next node begins.
    pub fn place(&self) -> u64 {
        self.place
    }

    /// The next node, which stays the next one; `None` if more bytes are needed for it, or at the end. `at_end` says that
    /// all bytes have been pushed.
    ///
    /// # Errors
    /// [`FormatError`] for what is no node, and for a tree that breaks off.
    pub fn peek(&mut self, at_end: bool) -> Result<Option<Skimmed<'_>>, FormatError> {
        if self.place == 0 {
            let Some(version) = self.buffer.get(self.from) else {
                return if at_end { Err(FormatError::Truncated { what: "tree version" }) } else { Ok(None) };
            };
            if *version != TREE_VERSION {
                return Err(FormatError::malformed("tree", format!("version {version} is unknown")));
            }
            self.from += 1;
            self.place = 1;
        }
        let rest = &self.buffer[self.from..];
        if rest.is_empty() || (rest.len() < self.wanted && !at_end) {
            return Ok(None);
        }
        let (length, name) = match self.given.take() {
            Some(given) => given,
            None => match skim(rest) {
                Err(FormatError::Truncated { .. }) if !at_end => {
                    self.wanted = rest.len() + rest.len() / 2 + 1;
                    return Ok(None);
                }
                other => {
                    let (length, name) = other?;
                    check_name(&rest[name.clone()])?;
                    check_order((!self.last.is_empty()).then_some(&self.last), &rest[name.clone()])?;
                    (length, name)
                }
            },
        };
        self.wanted = 0;
        self.given = Some((length, name.clone()));
        Ok(Some(Skimmed { start: self.place, name: &rest[name], encoded: &rest[..length] }))
    }

    /// Goes past the node that [`TreeSkimmer::peek`] gave last.
    pub fn pass(&mut self) {
        let Some((length, name)) = self.given.take() else { return };
        self.last.clear();
        self.last.extend_from_slice(&self.buffer[self.from..][name]);
        self.from += length;
        self.place += length as u64;
    }
}

/// Length of the node that begins here, and where in it its name is.
fn skim(bytes: &[u8]) -> Result<(usize, Range<usize>), FormatError> {
    let what = "node";
    let mut reader = Reader::new(bytes);
    let kind = reader.byte(what)?;
    let length = reader.bytes(limits::NAME_MAX, what)?.len();
    let end = bytes.len() - reader.remaining();
    let name = end - length..end;
    // Mode, owner, group, two times of two numbers, inode.
    for _ in 0..8 {
        reader.varint(what)?;
    }
    if reader.varint(what)? > 1 {
        reader.varint(what)?;
    }
    let xattrs = reader.varint(what)?;
    if xattrs > limits::XATTR_COUNT_MAX as u64 {
        let limit = limits::XATTR_COUNT_MAX as u64;
        return Err(FormatError::TooLarge { what, declared: xattrs, limit });
    }
    for _ in 0..xattrs {
        reader.bytes(limits::NAME_MAX, what)?;
        reader.bytes(limits::XATTR_VALUE_MAX, what)?;
    }
    match kind {
        0 | 1 => {
            reader.varint(what)?;
            skim_content(&mut reader)?;
        }
        2 => skim_content(&mut reader)?,
        3 => {
            reader.bytes(limits::TARGET_MAX, what)?;
        }
        4 | 5 => {}
        6 | 7 => {
            reader.varint(what)?;
            reader.varint(what)?;
        }
        other => return Err(FormatError::malformed("node kind", format!("{other} is unknown"))),
    }
    Ok((bytes.len() - reader.remaining(), name))
}

fn skim_content(reader: &mut Reader<'_>) -> Result<(), FormatError> {
    let what = "node contents";
    let count = reader.varint(what)?;
    if count > limits::CHUNKS_PER_FILE_MAX {
        return Err(FormatError::TooLarge { what, declared: count, limit: limits::CHUNKS_PER_FILE_MAX });
    }
    for _ in 0..count {
        reader.take(ChunkId::LEN, what)?;
        reader.varint(what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{ChunkRef, Meta, Node, NodeKind, encode_tree};
    use super::*;

    fn kind(salt: u32) -> NodeKind {
        let chunk = ChunkRef { id: ChunkId([salt as u8; 24]), length: 1 + salt % 900 };
        let content = vec![chunk; salt as usize % 5];
        match salt % 7 {
            0 | 1 => NodeKind::File { size: u64::from(salt) << 9, sparse: salt % 2 == 0, content },
            2 => NodeKind::Directory { content },
            3 => NodeKind::Symlink { target: vec![b't'; 1 + salt as usize % 90] },
            4 => NodeKind::Fifo,
            5 => NodeKind::Socket,
            _ => NodeKind::BlockDevice { major: salt, minor: 7 },
        }
    }

    fn node(number: usize, salt: u32) -> Node {
        let links = 1 + salt % 3;
        let xattrs =
            (0..salt % 3).map(|one| (vec![b'a' + one as u8], vec![7; salt as usize % 300])).collect();
        let time = crate::Timestamp { seconds: i64::from(salt) - 1_000_000, nanos: salt % 1_000_000_000 };
        let device = if links > 1 { 9 } else { 0 };
        let meta =
            Meta { mode: salt & 0o7777, uid: salt, mtime: time, links, device, xattrs, ..Meta::default() };
        Node {
            name: format!("{number:05}{}", "n".repeat(salt as usize % 60)).into_bytes(),
            meta,
            kind: kind(salt),
        }
    }

    /// Where a node begins, its name and all of it.
    type One = (u64, Vec<u8>, Vec<u8>);

    fn skimmed(bytes: &[u8], step: usize) -> Result<Vec<One>, FormatError> {
        let (mut skimmer, mut all) = (TreeSkimmer::new(), Vec::new());
        let mut pieces = bytes.chunks(step);
        loop {
            let piece = pieces.next();
            skimmer.push(piece.unwrap_or_default());
            while let Some(one) = skimmer.peek(piece.is_none())? {
                all.push((one.start, one.name.to_vec(), one.encoded.to_vec()));
                assert_eq!(
                    skimmer.peek(false).unwrap().map(|again| again.start),
                    all.last().map(|one| one.0)
                );
                skimmer.pass();
            }
            if piece.is_none() {
                return Ok(all);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn nodes_lie_where_they_were_put(salts in vec(any::<u32>(), 0..200), step in 1..40_000_usize) {
            let nodes: Vec<Node> = salts.iter().enumerate().map(|(at, salt)| node(at, *salt)).collect();
            let bytes = encode_tree(&nodes).unwrap();
            let all = skimmed(&bytes, step).unwrap();
            let names: Vec<&[u8]> = all.iter().map(|(_, name, _)| name.as_slice()).collect();
            prop_assert_eq!(names, nodes.iter().map(|node| node.name.as_slice()).collect::<Vec<_>>());
            let mut place = 1;
            for ((start, _, encoded), node) in all.iter().zip(&nodes) {
                prop_assert_eq!(*start, place);
                let mut reader = Reader::new(encoded);
                prop_assert_eq!(&Node::decode(&mut reader).unwrap(), node);
                prop_assert_eq!(reader.remaining(), 0);
                place += encoded.len() as u64;
            }
            prop_assert_eq!(place, bytes.len() as u64);
        }

        #[test]
        fn what_is_decoded_is_skimmed_alike_and_nothing_panics(
            salts in vec(any::<u32>(), 0..30),
            cut in 0..5000_usize,
            flips in vec((0..5000_usize, 1..=255_u8), 0..3),
        ) {
            let nodes: Vec<Node> = salts.iter().enumerate().map(|(at, salt)| node(at, *salt)).collect();
            let mut bytes = encode_tree(&nodes).unwrap();
            bytes.truncate(bytes.len().min(cut));
            for (at, flip) in flips {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= flip;
                }
            }
            let skimmed = skimmed(&bytes, 700);
            if let Ok(nodes) = super::super::decode_tree(&bytes) {
                let names: Vec<Vec<u8>> = skimmed.unwrap().into_iter().map(|(_, name, _)| name).collect();
                prop_assert_eq!(names, nodes.into_iter().map(|node| node.name).collect::<Vec<_>>());
            }
        }
    }
}
