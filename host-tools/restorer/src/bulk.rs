//! What workers do: fill a batch's files from a block at a time, then make its links and let go of its folders.
//!
//! Links wait for their first names, which stand in this batch or in one before it. Batches are worked on in order and
//! a worker only waits after it has finished a batch's last block, so whoever is waited for is at work.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mailkeep_format::{Node, NodeKind};
use mailkeep_repository::{Piece, Scratch};
use rustix::io::Errno;

use crate::batch::{Batch, State, Task};
use crate::engine::Engine;
use crate::fill::{FillError, write_pieces};
use crate::meta::Shortfall;
use crate::path::split;
use crate::place::{Part, PlaceError};
use crate::tally::add;
use crate::{ContentsError, limits, target};

/// What a worker takes from the queue.
pub(crate) enum Job {
    /// These groups of a batch.
    Blocks(Arc<Batch>, Range<usize>),
    /// A file that is long enough to be read front to back.
    Whole(Box<Task>),
}

impl Engine<'_> {
    /// Writes everything that comes from one block.
    pub(crate) fn fill_from(&self, batch: &Batch, group: usize, scratch: &mut Scratch) {
        if self.stopped() {
            return;
        }
        let contents = self.placer.contents;
        contents.read(&batch.groups[group], &batch.chunks, scratch, &mut |pieces| {
            for pieces in pieces.chunk_by(|one, other| batch.home(one.0) == batch.home(other.0)) {
                if let Some((first, _)) = pieces.first() {
                    self.fill_file(batch, batch.home(*first), pieces);
                }
            }
            self.tally.progress();
        });
    }

    /// Writes what one block has of one file; if it was the last of its blocks, finishes the file.
    fn fill_file(&self, batch: &Batch, file: u32, pieces: &[Piece<'_>]) {
        let mut progress = batch.files[file as usize].progress();
        progress.blocks_left = progress.blocks_left.saturating_sub(1);
        if self.stopped() || matches!(progress.state, State::Ended) {
            return;
        }
        let Some(task) = batch.task(file) else { return };
        let part = match std::mem::replace(&mut progress.state, State::Ended) {
            State::Ended => return,
            State::Untouched => self.placer.begin(&task.folder, &task.node),
            State::Aside(aside) => {
                let name = aside.name.clone();
                let part = self.placer.take_up(&task.folder, *aside);
                if part.is_err() {
                    self.placer.discard(&task.folder, &name);
                }
                part
            }
            State::Open(part) => {
                self.open_parts.fetch_sub(1, Ordering::Relaxed);
                Ok(*part)
            }
        };
        let written = part.and_then(|part| match self.write(batch, file, &task.node, &part, pieces) {
            Ok(()) => Ok(part),
            Err(error) => {
                self.placer.discard(&task.folder, &part.name);
                Err(error)
            }
        });
        let made = match written {
            Ok(part) if progress.blocks_left == 0 => {
                self.placer.finish(&task.folder, part, &task.node, task.there.as_deref())
            }
            Ok(part) if self.open_parts.load(Ordering::Relaxed) < limits::OPEN_PARTS => {
                self.open_parts.fetch_add(1, Ordering::Relaxed);
                progress.state = State::Open(Box::new(part));
                return;
            }
            Ok(part) => {
                let name = part.name.clone();
                match part.set_aside() {
                    Ok(aside) => {
                        progress.state = State::Aside(Box::new(aside));
                        return;
                    }
                    Err(error) => {
                        self.placer.discard(&task.folder, &name);
                        Err(error)
                    }
                }
            }
            Err(error) => Err(error),
        };
        self.ended(batch, file, task, made);
    }

    /// Writes pieces of `node`, neighbours at once.
    fn write(
        &self,
        batch: &Batch,
        home: u32,
        node: &Node,
        part: &Part,
        pieces: &[Piece<'_>],
    ) -> Result<(), PlaceError> {
        let sparse = matches!(node.kind, NodeKind::File { sparse: true, .. });
        let (file, uncached) = (part.file.as_fd(), &self.placer.uncached);
        let mut bytes = 0;
        let follows =
            |one: &Piece<'_>, other: &Piece<'_>| one.0 + 1 == other.0 && one.1.is_some() && other.1.is_some();
        for pieces in pieces.chunk_by(follows) {
            let Some(&(first, _)) = pieces.first() else { continue };
            let offset = batch.offset(home, first);
            let known: Vec<&[u8]> = pieces.iter().filter_map(|(_, piece)| *piece).collect();
            if known.is_empty() {
                // Not in the block where the index said it is: damage, or found nowhere. One by one, wherever it is.
                let mut written = Ok(());
                self.placer
                    .contents
                    .chunk(&batch.chunks[first as usize], &mut |plain| {
                        written = write_pieces(uncached, file, sparse, offset, &[plain]);
                    })
                    .map_err(FillError::Contents)?;
                written?;
            } else {
                write_pieces(uncached, file, sparse, offset, &known)?;
            }
            bytes +=
                pieces.iter().map(|(index, _)| u64::from(batch.chunks[*index as usize].length)).sum::<u64>();
        }
        add(&self.tally.bytes, bytes);
        Ok(())
    }

    /// A file is complete or given up. The last one of a folder brings it into view.
    fn ended(&self, batch: &Batch, file: u32, task: Task, made: Result<Shortfall, PlaceError>) {
        let made = self.made(&task.path(), made);
        if let Some(identity) = task.identity {
            self.links.finish(identity, made);
        }
        self.got(&task.folder);
        drop(task);
        if let Some(folder) = batch.ended(file) {
            self.release(folder);
        }
    }

    /// Makes one file by itself.
    pub(crate) fn make_whole(&self, task: Task) {
        let done =
            !self.stopped() && self.make(&task.folder, &task.node, &task.path(), task.there.as_deref());
        if let Some(identity) = task.identity {
            self.links.finish(identity, done);
        }
        self.done(task.folder);
    }

    /// All blocks of a batch went by: what is left is small.
    pub(crate) fn finish_batch(&self, batch: Batch) {
        for (file, filling) in (0..).zip(&batch.files) {
            let state = std::mem::replace(&mut filling.progress().state, State::Ended);
            let name = match &state {
                State::Ended => continue,
                State::Untouched => None,
                State::Open(part) => Some(&part.name),
                State::Aside(aside) => Some(&aside.name),
            };
            // Only a restore that was stopped leaves files unfinished.
            let Some(task) = batch.task(file) else { continue };
            if let Some(name) = name {
                self.placer.discard(&task.folder, name);
            }
            if let Some(identity) = task.identity {
                self.links.finish(identity, false);
            }
            self.got(&task.folder);
            drop(task);
            if let Some(folder) = batch.ended(file) {
                self.release(folder);
            }
        }
        let Batch { links, pass: _pass, .. } = batch;
        for task in links {
            self.make_link(task);
        }
        self.tally.progress();
    }

    /// Makes a further name of a file, or a copy where that cannot be.
    fn make_link(&self, task: Task) {
        let Some(identity) = task.identity else { return self.make_whole(task) };
        let first = if self.stopped() { None } else { self.links.first(identity) };
        if self.stopped() || first.is_some_and(|first| self.link(&task, &first)) {
            self.done(task.folder);
            return;
        }
        self.links.begin(identity, &task.path(), task.node.meta.links);
        self.make_whole(task);
    }

    /// Makes `task` another name of `first`; `false` if that cannot be and it has to be a file of its own.
    fn link(&self, task: &Task, first: &[u8]) -> bool {
        let Some((folder, name)) = split(first) else { return false };
        let Ok(folder) = self.hidden.open(self.root.as_fd(), folder) else { return false };
        let Ok(Some(original)) = target::existing(folder.as_fd(), name) else { return false };
        let there = task.there.as_deref();
        if there.is_some_and(|there| there.file == original.file) {
            add(&self.tally.skipped, 1);
            return true;
        }
        let own = &task.node.name;
        match self.placer.link(folder.as_fd(), name, &task.folder, own, there) {
            Ok(()) => add(&self.tally.files, 1),
            // Too many names, or another file system below: a copy is better than nothing.
            Err(PlaceError::Fill(FillError::Write(Errno::MLINK | Errno::XDEV | Errno::PERM))) => {
                return false;
            }
            Err(error) => self.report(&task.path(), error),
        }
        true
    }
}

/// Whether the pieces of a file make up its length.
pub(crate) fn whole(node: &Node) -> Result<(), PlaceError> {
    let stored: u64 = node.content().iter().map(|chunk| u64::from(chunk.length)).sum();
    if stored == node.size() {
        return Ok(());
    }
    let what = format!("{stored} bytes stored of a file of {}", node.size());
    Err(PlaceError::Fill(FillError::Contents(ContentsError::Damaged(what))))
}
