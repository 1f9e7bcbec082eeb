//! Sends trees: folder by folder, what lies in one before what lies below it, as far ahead of the answers as limits allow.

use std::collections::VecDeque;
use std::path::Path;

use mailkeep_format::{Node, NodeKind};
use mailkeep_link::message::{ToAgent, ToBox};
use mailkeep_link::rebuild::{Fill, Folder, Has, Held, Lay, Place, Seal};
use mailkeep_restorer::{RestoreError, path};

use crate::server::Server;
use crate::{Match, RebuildError, Snapshot, limits};

/// What was gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files and other things that are no folders.
    pub files: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Files that were sent, or would be.
    pub sent_files: u64,
    /// Bytes that were sent, or would be.
    pub sent_bytes: u64,
    /// Bytes that are copied on the server, as far as a plan knows.
    pub copied_bytes: u64,
}

/// Is told how far it is.
pub type Progress<'a> = &'a dyn Fn(&Counts);

enum Waiting {
    /// An answer, for these nodes with their contents.
    Answer(Vec<Node>),
    /// What comes before it.
    Seal(u32),
}

pub(crate) struct Mover<'a, 'b> {
    server: &'a mut Server<'b>,
    snapshot: &'a Snapshot<'a>,
    trial: bool,
    progress: Progress<'a>,
    waiting: VecDeque<Waiting>,
    answers: usize,
    helds: VecDeque<Held>,
    next: u32,
    ahead: u64,
    counts: Counts,
}

impl<'a, 'b> Mover<'a, 'b> {
    pub(crate) fn new(
        server: &'a mut Server<'b>,
        snapshot: &'a Snapshot<'a>,
        trial: bool,
        progress: Progress<'a>,
    ) -> Self {
        Mover {
            server,
            snapshot,
            trial,
            progress,
            waiting: VecDeque::new(),
            answers: 0,
            helds: VecDeque::new(),
            next: 0,
            ahead: 0,
            counts: Counts::default(),
        }
    }

    /// Sends one tree; gives the sums since the last one.
    pub(crate) fn tree(&mut self, index: u32, tree: &Match) -> Result<Counts, RebuildError> {
        let before = self.counts;
        let empty = || Node {
            name: b"empty".to_vec(),
            meta: mailkeep_format::Meta { mode: 0o700, links: 1, ..Default::default() },
            kind: NodeKind::Directory { content: Vec::new() },
        };
        match &tree.node {
            Some(node) => self.folder(Place::Tree(index), node, &tree.path, 0)?,
            None => {
                let number = self.begin(Place::Tree(index), &empty())?;
                self.waiting.push_back(Waiting::Seal(number));
            }
        }
        while !self.waiting.is_empty() {
            self.finish_one()?;
        }
        let now = self.counts;
        Ok(Counts {
            files: now.files - before.files,
            bytes: now.bytes - before.bytes,
            sent_files: now.sent_files - before.sent_files,
            sent_bytes: now.sent_bytes - before.sent_bytes,
            copied_bytes: now.copied_bytes - before.copied_bytes,
        })
    }

    fn begin(&mut self, place: Place, node: &Node) -> Result<u32, RebuildError> {
        let number = self.next;
        self.next += 1;
        self.server.say(ToAgent::Folder(Folder { number, place, node: bare(node) }))?;
        Ok(number)
    }

    fn folder(&mut self, place: Place, node: &Node, at: &Path, depth: usize) -> Result<(), RebuildError> {
        use std::os::unix::ffi::OsStrExt;
        let shown = at.as_os_str().as_bytes();
        if depth >= limits::DEPTH {
            return Err(RestoreError::TooDeep { path: path::show(shown) }.into());
        }
        let unreadable = |source| RestoreError::Unreadable { path: path::show(shown), source };
        let number = self.begin(place, node)?;
        let view = self.snapshot.view;
        let (mut nodes, mut pieces, mut bytes) = (Vec::new(), 0, 0);
        // Twice through the folder instead of half of it in memory.
        for child in view.nodes(shown, node)? {
            let child = child.map_err(unreadable)?;
            if child.is_directory() {
                continue;
            }
            let length = child.content().len().min(limits::PIECES);
            let full = nodes.len() >= mailkeep_link::limits::ENTRIES_NODES
                || pieces + length > limits::PIECES
                || bytes + child.size() > limits::LAY_BYTES;
            if full && !nodes.is_empty() {
                self.lay(number, std::mem::take(&mut nodes))?;
                (pieces, bytes) = (0, 0);
            }
            pieces += length;
            bytes += child.size();
            nodes.push(child);
        }
        if !nodes.is_empty() {
            self.lay(number, nodes)?;
        }
        for child in view.nodes(shown, node)? {
            let child = child.map_err(unreadable)?;
            if child.is_directory() {
                let below = at.join(std::ffi::OsStr::from_bytes(&child.name));
                self.folder(Place::In(number), &child, &below, depth + 1)?;
            }
        }
        self.waiting.push_back(Waiting::Seal(number));
        self.seal_what_can_be()
    }

    fn lay(&mut self, folder: u32, nodes: Vec<Node>) -> Result<(), RebuildError> {
        let pieces = nodes
            .iter()
            .map(|node| match &node.kind {
                NodeKind::File { content, .. } if content.len() <= limits::PIECES => {
                    content.iter().map(|chunk| chunk.length).collect()
                }
                _ => Vec::new(),
            })
            .collect();
        let lay = Lay { folder, nodes: nodes.iter().map(bare).collect(), pieces };
        self.server.say(ToAgent::Lay(lay))?;
        self.waiting.push_back(Waiting::Answer(nodes));
        self.answers += 1;
        while self.answers > limits::LAYS_AHEAD {
            self.finish_one()?;
        }
        Ok(())
    }

    fn seal_what_can_be(&mut self) -> Result<(), RebuildError> {
        while matches!(self.waiting.front(), Some(Waiting::Seal(_))) {
            self.finish_one()?;
        }
        Ok(())
    }

    fn finish_one(&mut self) -> Result<(), RebuildError> {
        match self.waiting.pop_front() {
            None => Ok(()),
            Some(Waiting::Seal(folder)) => self.server.say(ToAgent::Seal(Seal { folder })),
            Some(Waiting::Answer(nodes)) => {
                self.answers -= 1;
                while self.helds.is_empty() {
                    self.hear()?;
                }
                let Some(held) = self.helds.pop_front() else { return Ok(()) };
                self.answer(&nodes, &held)?;
                (self.progress)(&self.counts);
                self.seal_what_can_be()
            }
        }
    }

    /// What the agent says while things are sent.
    fn hear(&mut self) -> Result<(), RebuildError> {
        match self.server.hear()? {
            ToBox::Held(held) => self.helds.push_back(held),
            ToBox::Took(took) => self.ahead = self.ahead.saturating_sub(took.bytes),
            _ => return Err(self.server.broken("something else while trees are built")),
        }
        Ok(())
    }

    fn answer(&mut self, nodes: &[Node], held: &Held) -> Result<(), RebuildError> {
        if held.nodes.len() != nodes.len() {
            return Err(self.server.broken("an answer about other files"));
        }
        for (index, (node, has)) in (0u32..).zip(nodes.iter().zip(&held.nodes)) {
            self.counts.files += 1;
            self.counts.bytes += node.size();
            if !node.is_file() {
                continue;
            }
            let is_here: Vec<bool> = match has {
                Has::All => continue,
                Has::Pieces(hashes) if self.trial && hashes.is_empty() => {
                    self.counts.copied_bytes += node.size();
                    continue;
                }
                Has::Nothing => vec![false; node.content().len()],
                Has::Pieces(hashes) if hashes.len() == node.content().len() => {
                    let pairs = node.content().iter().zip(hashes);
                    pairs.map(|(chunk, hash)| (self.snapshot.chunk_id)(hash) == chunk.id).collect()
                }
                Has::Pieces(_) => return Err(self.server.broken("hashes of other pieces")),
            };
            self.send(index, node, &is_here)?;
        }
        self.server.say(ToAgent::Settle)
    }

    fn send(&mut self, index: u32, node: &Node, is_here: &[bool]) -> Result<(), RebuildError> {
        let missing = is_here.iter().filter(|here| !**here).count();
        self.counts.sent_files += u64::from(missing > 0);
        let mut offset = 0;
        for (chunk, here) in node.content().iter().zip(is_here) {
            let length = u64::from(chunk.length);
            if !here {
                self.counts.sent_bytes += length;
                if !self.trial {
                    self.fill(index, node, offset, chunk)?;
                }
            }
            offset += length;
        }
        Ok(())
    }

    fn fill(
        &mut self,
        index: u32,
        node: &Node,
        offset: u64,
        chunk: &mailkeep_format::ChunkRef,
    ) -> Result<(), RebuildError> {
        while self.ahead > limits::AHEAD {
            self.server.flush();
            self.hear()?;
        }
        let mut bytes = Vec::new();
        self.snapshot
            .view
            .contents()
            .chunk(chunk, &mut |plain| bytes = plain.to_vec())
            .map_err(|source| RestoreError::Unreadable { path: path::show(&node.name), source })?;
        self.ahead += bytes.len() as u64;
        self.server.say(ToAgent::Fill(Fill { index, offset, bytes: bytes.into() }))
    }
}

/// A node as it is said: without the chunks, which are nobody's business.
fn bare(node: &Node) -> Node {
    let mut node = node.clone();
    if let NodeKind::File { content, .. } | NodeKind::Directory { content } = &mut node.kind {
        content.clear();
    }
    node
}
