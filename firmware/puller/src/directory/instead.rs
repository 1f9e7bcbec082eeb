//! What may stand in for a directory's listing: that it is as it was but for what may change without it ([`Unchanged`]), or
//! what has changed in it ([`Amended`]).

use mailkeep_format::{ChunkRef, Node};
use mailkeep_link::message::{Amended, Hint, Unchanged};

use super::output::Output;
use super::patch::{Patch, Search};
use super::{Listed, OpenDirectory, Segment, no_nodes};
use crate::PullError;
use crate::change::Clocks;
use crate::known::{Folder, Notes};
use crate::store::Store;

impl OpenDirectory {
    /// Takes, in place of a listing, what may have changed in a folder that has not. The directory's base is the folder's
    /// own tree.
    pub(crate) fn unchanged(
        &mut self,
        folder: Folder,
        piece: Unchanged,
        clocks: Option<Clocks>,
        empty_tree: &[ChunkRef],
    ) -> Result<Listed, PullError> {
        if self.complete || self.listed > 0 {
            return Err(PullError::protocol("a directory is listed and said to be unchanged"));
        }
        let names = folder.others.iter().map(|(_, node)| &node.name);
        if piece.nodes.len() != piece.hints.len() || !names.eq(piece.nodes.iter().map(|node| &node.name)) {
            return Err(PullError::protocol("an unchanged directory has other entries than it had"));
        }
        if self.notes.is_some() {
            self.notes = Some(Notes::of(&folder));
        }
        let mut listed = Listed { files: folder.messages, bytes: folder.bytes, ..Listed::default() };
        self.files += folder.messages;
        self.bytes = self.bytes.saturating_add(folder.bytes);
        let mut next = 0;
        for ((place, before), (node, hint)) in
            folder.others.into_iter().zip(piece.nodes.into_iter().zip(piece.hints))
        {
            if !node.content().is_empty() {
                return Err(PullError::protocol("a listed entry names chunks of its own"));
            }
            if place > next {
                self.settle(next, Segment::Same { place: next, count: place - next });
            }
            next = place + 1;
            self.join(place, node, hint, Some((place, before)), clocks, empty_tree, &mut listed)?;
        }
        if folder.count > next {
            self.settle(next, Segment::Same { place: next, count: folder.count - next });
        }
        self.listed = folder.count;
        self.complete = true;
        if let Some(base) = &mut self.base {
            base.place = folder.count;
            base.rest = no_nodes().peekable();
        }
        Ok(listed)
    }

    /// Takes, in place of a listing, what has changed in a directory: a known folder, whose own tree is the directory's
    /// base, or any that the base has, of which all that is left out is as it was there.
    pub(crate) fn amended(
        &mut self,
        folder: Option<&Folder>,
        piece: Amended,
        clocks: Option<Clocks>,
        empty_tree: &[ChunkRef],
        store: &mut dyn Store,
    ) -> Result<Listed, PullError> {
        if self.complete || self.listed > 0 {
            return Err(PullError::protocol("a directory is listed and said to have changed"));
        }
        let Some(content) = self.base.as_ref().map(|base| base.content.clone()) else {
            return Err(PullError::protocol("a directory is said to have changed that was not there"));
        };
        let said = Said::of(piece)?;
        if folder.is_some_and(|folder| !folder.others.iter().all(|(_, other)| said.has(&other.name))) {
            return Err(PullError::protocol("of a changed directory an entry is left out that may change"));
        }
        let counts = self.were.is_some();
        self.were = Some(self.were.take().unwrap_or_default());
        let patch = Patch::new(&content);
        let end = patch.base_length();
        let mut search = Search::new(&content, store);
        let (mut looked_up, mut between, mut from, mut index) = (Vec::new(), Vec::new(), 1, 0);
        let mut listed = Listed::default();
        for (name, now) in said.names {
            let (spot, was) = search.find(&name)?;
            if spot.start > from {
                between.push(from..spot.start);
            }
            from = spot.end;
            self.were.iter_mut().zip(&was).for_each(|(were, node)| were.saw(node));
            let Some((node, hint)) = now else {
                listed.moved += u64::from(was.is_some());
                continue;
            };
            let was = was.map(|node| {
                looked_up.push(spot);
                (looked_up.len() as u32 - 1, node)
            });
            self.settle(index, Segment::Spots(std::mem::take(&mut between)));
            self.join(index + 1, node, hint, was, clocks, empty_tree, &mut listed)?;
            index += 2;
        }
        if end > from {
            between.push(from..end);
        }
        self.settle(index, Segment::Spots(between));
        self.output = Output::Amended { patch, looked_up };
        self.listed = index + 1;
        self.complete = true;
        self.tell_were(&mut listed);
        if let Some(folder) = folder {
            self.count_others(folder, &mut listed);
        }
        if !counts {
            self.were = None;
        }
        Ok(listed)
    }

    /// Counts what of a known folder was not looked at.
    fn count_others(&mut self, folder: &Folder, listed: &mut Listed) {
        let others = folder.others.iter().map(|(_, node)| node).filter(|node| node.is_file());
        let (files, bytes) = others.fold((folder.messages, folder.bytes), |(files, bytes), node| {
            (files + 1, bytes.saturating_add(node.size()))
        });
        let files = files.saturating_sub(listed.were.files);
        let bytes = bytes.saturating_sub(listed.were.bytes);
        listed.files += files;
        listed.bytes = listed.bytes.saturating_add(bytes);
        self.files += files;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// A name, and what is there now.
type Name = (Vec<u8>, Option<(Node, Hint)>);

/// What is said of a directory.
struct Said {
    /// In ascending order.
    names: Vec<Name>,
}

impl Said {
    fn of(piece: Amended) -> Result<Said, PullError> {
        let Amended { gone, nodes, hints, .. } = piece;
        if nodes.len() != hints.len() {
            return Err(PullError::protocol("a changed directory has the wrong number of hints"));
        }
        if nodes.iter().any(|node| !node.content().is_empty()) {
            return Err(PullError::protocol("a listed entry names chunks of its own"));
        }
        if !gone.is_sorted() || !nodes.is_sorted_by(|one, next| one.name < next.name) {
            return Err(PullError::protocol(
                "what has changed in a directory is not in ascending order of names",
            ));
        }
        let there = nodes.into_iter().zip(hints).map(|(node, hint)| (node.name.clone(), Some((node, hint))));
        let mut names: Vec<_> = there.chain(gone.into_iter().map(|name| (name, None))).collect();
        names.sort_by(|(one, _), (other, _)| one.cmp(other));
        if names.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(PullError::protocol("a name in a directory is said to be gone and there, or twice"));
        }
        Ok(Said { names })
    }

    fn has(&self, name: &[u8]) -> bool {
        self.names.binary_search_by(|(one, _)| one.as_slice().cmp(name)).is_ok()
    }
}
