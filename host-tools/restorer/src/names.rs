//! The names in a folder of the target, in one piece of memory: half a million of them take about 10 MB.

use rustix::io::{Errno, Result};

use crate::ContentsError;
use crate::contents::Nodes;

/// Names, in any order until they are sorted.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    /// Where each begins, and its length.
    spans: Vec<(u32, u16)>,
}

impl Names {
    pub(crate) fn push(&mut self, name: &[u8]) -> Result<()> {
        let start = u32::try_from(self.bytes.len()).map_err(|_| Errno::OVERFLOW)?;
        let length = u16::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
        self.bytes.extend_from_slice(name);
        self.spans.push((start, length));
        Ok(())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| name(&self.bytes, *span))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Keeps what `wanted` says.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&[u8]) -> bool) {
        self.spans.retain(|span| wanted(name(&self.bytes, *span)));
    }

    /// Takes out what is among `nodes` (which come in ascending order), and leaves the rest sorted.
    ///
    /// # Errors
    /// The nodes cannot be read to their end: then nothing is known of what is left, and nothing may be done with it.
    pub(crate) fn without(mut self, nodes: Nodes<'_>) -> std::result::Result<Names, ContentsError> {
        let bytes = &self.bytes;
        self.spans.sort_unstable_by(|one, other| name(bytes, *one).cmp(name(bytes, *other)));
        let mut left = Vec::new();
        let mut rest = self.spans.iter().peekable();
        for node in nodes {
            let node = node?;
            while let Some(span) = rest.next_if(|span| name(bytes, **span) < node.name.as_slice()) {
                left.push(*span);
            }
            while rest.next_if(|span| name(bytes, **span) == node.name.as_slice()).is_some() {}
        }
        left.extend(rest);
        self.spans = left;
        Ok(self)
    }
}

fn name(bytes: &[u8], (start, length): (u32, u16)) -> &[u8] {
    &bytes[start as usize..][..usize::from(length)]
}

#[cfg(test)]
mod tests {
    use mailkeep_format::{Meta, Node, NodeKind};

    use super::*;

    fn node(name: &str) -> Node {
        Node { name: name.as_bytes().to_vec(), meta: Meta::default(), kind: NodeKind::Fifo }
    }

    fn names(all: &[&str]) -> Names {
        let mut names = Names::default();
        all.iter().try_for_each(|name| names.push(name.as_bytes())).unwrap();
        names
    }

    #[test]
    fn what_the_snapshot_does_not_have_is_left_in_order() {
        let nodes = ["a", "b.", "c", "zz"].map(|name| Ok(node(name)));
        let left = names(&["zz", "b", "c", "x", "aa", "zzz", "a"]).without(Box::new(nodes.into_iter()));
        assert_eq!(left.unwrap().iter().collect::<Vec<_>>(), [b"aa".as_slice(), b"b", b"x", b"zzz"]);
        assert!(names(&[]).without(Box::new(std::iter::empty())).unwrap().is_empty());
    }

    #[test]
    fn of_a_listing_that_broke_off_nothing_is_left() {
        let nodes = [Ok(node("a")), Err(ContentsError::Damaged("gone".into()))];
        assert!(names(&["a", "b"]).without(Box::new(nodes.into_iter())).is_err());
    }
}
