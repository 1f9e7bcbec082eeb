//! The box's side of one pass: listings and chunks in, a tree out. No I/O of its own and no clock: messages go in,
//! answers come out, chunks go to a [`Store`].
//!
//! Promises:
//! - what the server says is taken for what it is, the word of a stranger: ids that were never given, pieces out of
//!   order, hashes that do not fit, data that nobody asked for, sizes that disagree all end the pass with one
//!   [`PullError::Protocol`]; nothing panics, and the memory held is bounded by [`crate::limits`];
//! - a chunk is only referred to if the repository has it or if its bytes came over this link and were hashed here;
//! - a directory that is equal to the base's is not written again.

use std::collections::{BTreeMap, HashMap};

use mailkeep_format::{ChunkRef, ContentHash, Meta, Node, NodeKind, Timestamp, limits as format_limits};
use mailkeep_link::message::{
    Amended, Chunks, Data, DirectoryId, Entries, FileDone, FileId, Hint, Need, PassEnded, ReadOutcome,
    ToAgent, ToBox, Unchanged, Want,
};

use crate::PullError;
use crate::change::Clocks;
use crate::directory::{Finished, Held, Listed, OpenDirectory, Slot, Were, check_length, put_empty};
use crate::file::{OpenFile, Piece};
use crate::known::{Folder, KnownFolders, Notes};
use crate::limits;
use crate::links::{Links, Name};
use crate::store::{Nodes, Store};
use crate::tally::{Notices, Tally};
use crate::text;

/// The tree that a pass is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its root.
    pub root: Vec<ChunkRef>,
    /// The server's clock at the start of the pass that made it.
    pub clock: Timestamp,
}

/// What kind of pass it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Mail runs: what moves is read again by the next pass.
    Live,
    /// Mail is stopped: nothing may move.
    Final,
    /// Look only: nothing is read and nothing is stored.
    Survey,
}

/// A finished pass.
#[derive(Debug)]
pub struct Assembled {
    /// The root of the tree; empty after a survey.
    pub root: Vec<ChunkRef>,
    /// What was counted.
    pub tally: Tally,
    /// Files that were there and could not be read: the tree lacks them.
    pub failures: Notices,
    /// Files that vanished or moved while they were read.
    pub unrest: Notices,
    /// Files that were to be read together with one that went away: the tree lacks them, the next pass reads them.
    pub lost: Notices,
    /// Files that have more names than were met.
    pub(crate) parted: Vec<Node>,
    /// What the next pass may know.
    pub known: KnownFolders,
    /// Folders that were not listed because they have not changed.
    pub unlisted: u64,
    /// Write-once files that by the rules cannot be as they are, by the folders they are in.
    pub contradictions: Notices,
}

#[derive(Debug)]
struct InFlight {
    file: FileId,
    number: u32,
    waiting: Vec<(FileId, u32)>,
}

/// A pass that is going on.
#[derive(Debug)]
pub struct Assembly {
    mode: Mode,
    base: Option<Vec<ChunkRef>>,
    clocks: Option<Clocks>,
    directories: HashMap<DirectoryId, OpenDirectory>,
    files: HashMap<FileId, OpenFile>,
    in_flight: HashMap<ContentHash, InFlight>,
    empty_tree: Option<Vec<ChunkRef>>,
    held: Held,
    root_seen: bool,
    root: Option<Vec<ChunkRef>>,
    tally: Tally,
    failures: Notices,
    unrest: Notices,
    lost: Notices,
    links: Links,
    clock: Timestamp,
    /// What the agent was told of the base.
    known: KnownFolders,
    /// What is learnt of folders, for the next pass.
    learnt: KnownFolders,
    unlisted: u64,
    /// The agent was told nothing: what is known is compared with what it lists.
    audit: bool,
    /// Of any directory that the base has only what has changed may be said.
    rest_is_base: bool,
    /// The agent was told to send contents without asking what is here.
    unasked: bool,
    contradictions: Notices,
}

impl Assembly {
    /// A pass that began when the server's clock stood at `clock`, compared with `base`.
    pub fn new(mode: Mode, clock: Timestamp, base: Option<Base>) -> Self {
        let clocks = base.as_ref().map(|base| Clocks { base: base.clock, now: clock });
        Assembly {
            mode,
            base: base.map(|base| base.root),
            clocks,
            directories: HashMap::new(),
            files: HashMap::new(),
            in_flight: HashMap::new(),
            empty_tree: None,
            held: Held::default(),
            root_seen: false,
            root: None,
            tally: Tally::default(),
            failures: Notices::default(),
            unrest: Notices::default(),
            lost: Notices::default(),
            links: Links::default(),
            clock,
            known: KnownFolders::default(),
            learnt: KnownFolders::default(),
            unlisted: 0,
            audit: false,
            rest_is_base: false,
            unasked: false,
            contradictions: Notices::default(),
        }
    }

    /// The same, where the agent was told of these folders of the base.
    pub fn knowing(self, known: KnownFolders) -> Self {
        Assembly { known, ..self }
    }

    /// The same, where the agent was not told and everything is compared with what these folders must be.
    pub fn auditing(self, known: KnownFolders) -> Self {
        Assembly { known, audit: true, ..self }
    }

    /// A final pass whose agent was told to remember the base, which is the tree of a live pass of this run that was counted
    /// so: what it does not speak of is as it is there.
    pub fn remembered(mut self, base: &Tally) -> Self {
        let Tally { files, bytes, directories, .. } = *base;
        self.rest_is_base = true;
        // Its root is always listed.
        self.tally = Tally { files, bytes, directories: directories.saturating_sub(1), ..Tally::default() };
        (self.tally.files_seen, self.tally.bytes_seen) = (files, bytes);
        self
    }

    /// The tree of what the pass has brought so far, in which anything may be missing; `None` if it has seen nothing yet. The
    /// pass goes on as if this had not been asked.
    ///
    /// # Errors
    /// What the store reports.
    pub fn so_far(&self, store: &mut dyn Store) -> Result<Option<Vec<ChunkRef>>, PullError> {
        if let Some(root) = &self.root {
            return Ok(Some(root.clone()));
        }
        // Those that lie deepest first, so that each has its tree when its parent asks for it.
        let mut open: Vec<(DirectoryId, &OpenDirectory)> =
            self.directories.iter().map(|(id, directory)| (*id, directory)).collect();
        open.sort_by_key(|(_, directory)| std::cmp::Reverse(directory.depth));
        let mut below: HashMap<DirectoryId, BTreeMap<u32, Vec<ChunkRef>>> = HashMap::new();
        for (id, directory) in open {
            let content = directory.so_far(below.remove(&id).unwrap_or_default(), store)?;
            match directory.parent {
                Some(place) => {
                    below.entry(place.directory).or_default().insert(place.index, content);
                }
                None => return Ok(Some(content)),
            }
        }
        Ok(None)
    }

    /// What was counted so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes one message of the pass; what is to be answered is appended to `answers`.
    ///
    /// # Errors
    /// [`PullError::Protocol`] for anything out of order, and what the store reports. The assembly is of no use
    /// after an error.
    pub fn take(
        &mut self,
        message: ToBox,
        store: &mut dyn Store,
        answers: &mut Vec<ToAgent>,
    ) -> Result<(), PullError> {
        match message {
            ToBox::Entries(entries) => answers.push(ToAgent::Want(self.entries(entries, store)?)),
            ToBox::Unchanged(piece) => answers.push(ToAgent::Want(self.unchanged(piece, store)?)),
            ToBox::Amended(piece) => answers.push(ToAgent::Want(self.amended(piece, store)?)),
            ToBox::Chunks(chunks) => answers.push(ToAgent::Need(self.chunks(chunks, store)?)),
            ToBox::Data(data) => self.data(data, store)?,
            ToBox::FileDone(done) => self.file_done(done, store)?,
            other => return Err(PullError::Protocol(format!("{} within a pass", text::name_of(&other)))),
        }
        if self.held.bytes() > limits::HELD_BYTES_MAX {
            return Err(PullError::protocol(
                "the server has more listings open at one time than the box can hold",
            ));
        }
        Ok(())
    }

    /// The end of the pass.
    ///
    /// # Errors
    /// [`PullError::Protocol`] if anything is missing.
    pub fn end(self, ended: &PassEnded) -> Result<Assembled, PullError> {
        if !self.files.is_empty() || !self.directories.is_empty() {
            return Err(PullError::Protocol(format!(
                "the pass ended with {} directories and {} files unfinished",
                self.directories.len(),
                self.files.len()
            )));
        }
        if ended.users.len().max(ended.groups.len()) > limits::OWNERS_MAX {
            return Err(PullError::protocol("the pass ended with more owners than a server has"));
        }
        let root = self.root.ok_or_else(|| PullError::protocol("the pass ended without a root directory"))?;
        let Assembly {
            tally, failures, unrest, lost, links, learnt: known, unlisted, contradictions, ..
        } = self;
        let parted = links.parted().collect();
        Ok(Assembled { root, tally, failures, unrest, lost, parted, known, unlisted, contradictions })
    }

    fn entries(&mut self, piece: Entries, store: &mut dyn Store) -> Result<Want, PullError> {
        let (id, first) = (piece.directory, piece.first);
        if !self.directories.contains_key(&id) {
            let (content, depth) = self.enter(piece.parent)?;
            let base = match content {
                Some(content) => {
                    let nodes = store.tree_nodes(&content)?;
                    Some((content, nodes))
                }
                None => None,
            };
            self.open_directory(id, piece.parent, depth, base);
            if let (true, Some(place)) = (self.audit, piece.parent) {
                if self.known_folder(place, Folder::is_as).is_ok() {
                    self.directory(id)?.audit();
                }
            }
        }
        let empties = piece.hints.contains(&Hint::Emptied);
        let empty_tree = if empties { self.empty_tree(store)? } else { Vec::new() };
        let clocks = self.clocks;
        let directory = self.directory(id)?;
        if directory.parent != piece.parent {
            return Err(PullError::protocol("a directory changed its parent"));
        }
        let listed = directory.list(piece, clocks, &empty_tree)?;
        self.listed(id, first, listed, store)
    }

    /// A directory that is as the agent was told.
    fn unchanged(&mut self, piece: Unchanged, store: &mut dyn Store) -> Result<Want, PullError> {
        let (id, parent) = (piece.directory, piece.parent);
        if self.audit || self.directories.contains_key(&id) {
            return Err(PullError::protocol("a directory is said to be unchanged that is to be listed"));
        }
        let (content, depth) = self.enter(Some(parent))?;
        let folder = self.known_folder(parent, Folder::is_as)?;
        if content.as_ref() != Some(&folder.content) {
            return Err(PullError::protocol(
                "a directory is said to be unchanged that is not the one it was",
            ));
        }
        let nodes: Nodes = Box::new(std::iter::empty());
        let empties = piece.hints.contains(&Hint::Emptied);
        let empty_tree = if empties { self.empty_tree(store)? } else { Vec::new() };
        self.open_directory(id, Some(parent), depth, Some((folder.content.clone(), nodes)));
        self.unlisted += 1;
        let clocks = self.clocks;
        let listed = self.directory(id)?.unchanged(folder, piece, clocks, &empty_tree)?;
        self.listed(id, 0, listed, store)
    }

    /// A directory that the agent was told of, and what has changed in it.
    fn amended(&mut self, piece: Amended, store: &mut dyn Store) -> Result<Want, PullError> {
        let (id, parent) = (piece.directory, piece.parent);
        // What a live pass says is the base of the next, which has to be as sure as a listing.
        if self.mode != Mode::Final || self.audit || self.directories.contains_key(&id) {
            return Err(PullError::protocol("a directory is said to have changed that is to be listed"));
        }
        let (content, depth) = self.enter(Some(parent))?;
        let folder =
            if self.rest_is_base { None } else { Some(self.known_folder(parent, Folder::is_itself)?) };
        let clock_is_fine = self.clocks.is_some_and(|clocks| clocks.now >= clocks.base);
        let is_other = folder.as_ref().is_some_and(|folder| content.as_ref() != Some(&folder.content));
        let Some(content) = content.filter(|_| clock_is_fine && !is_other) else {
            return Err(PullError::protocol("a directory is said to have changed that is another"));
        };
        let nodes: Nodes = Box::new(std::iter::empty());
        let empties = piece.hints.contains(&Hint::Emptied);
        let empty_tree = if empties { self.empty_tree(store)? } else { Vec::new() };
        self.open_directory(id, Some(parent), depth, Some((content, nodes)));
        self.unlisted += 1;
        let clocks = self.clocks;
        let listed = self.directory(id)?.amended(folder.as_ref(), piece, clocks, &empty_tree, store)?;
        self.listed(id, 0, listed, store)
    }

    /// What the agent was told of the directory that has this place, if by its node it may say less of it than a listing.
    fn known_folder(&mut self, place: FileId, fits: fn(&Folder, &Meta) -> bool) -> Result<Folder, PullError> {
        let path = self.raw_path(place);
        let folder = self.known.take(&path);
        let clock_is_fine = self.clocks.is_some_and(|clocks| clocks.now >= clocks.base);
        let node = self.directories.get(&place.directory).and_then(|parent| parent.node(place.index));
        match (folder, node) {
            (Some(folder), Some(node)) if clock_is_fine && fits(&folder, &node.meta) => Ok(folder),
            _ => Err(PullError::protocol(
                "a directory is said to be unchanged that has changed or is not known",
            )),
        }
    }

    /// A piece of a directory has been joined.
    fn listed(
        &mut self,
        id: DirectoryId,
        first: u32,
        listed: Listed,
        store: &mut dyn Store,
    ) -> Result<Want, PullError> {
        let survey = self.mode == Mode::Survey;
        let Listed { wanted, wanted_bytes, files, bytes, moved, emptied, were } = listed;
        let were = self.of_base(were, store)?;
        let tally = &mut self.tally;
        tally.directories += emptied;
        // Where the base is counted in from the start.
        tally.directories = tally.directories.saturating_sub(were.directories);
        for (files, bytes) in
            [(&mut tally.files, &mut tally.bytes), (&mut tally.files_seen, &mut tally.bytes_seen)]
        {
            *files = files.saturating_sub(were.files);
            *bytes = bytes.saturating_sub(were.bytes);
        }
        tally.files_seen += files;
        tally.bytes_seen = tally.bytes_seen.saturating_add(bytes);
        tally.files_changed += wanted.len() as u64;
        tally.bytes_changed = tally.bytes_changed.saturating_add(wanted_bytes);
        tally.moved += moved;
        let files = if survey { Vec::new() } else { self.first_names(id, wanted)? };
        self.close_finished(id, store)?;
        Ok(Want { directory: id, first, files })
    }

    /// What of the base was looked at, with all that was in its directories that are gone; nothing where the base is not
    /// counted in.
    fn of_base(&self, mut were: Were, store: &mut dyn Store) -> Result<Were, PullError> {
        if !self.rest_is_base {
            return Ok(Were::default());
        }
        while let Some(content) = were.gone.pop() {
            were.directories += 1;
            for node in store.tree_nodes(&content)? {
                were.saw(&node?);
            }
        }
        Ok(were)
    }

    /// Of the wanted names, those under which a file is read.
    fn first_names(&mut self, id: DirectoryId, mut wanted: Vec<u32>) -> Result<Vec<u32>, PullError> {
        let directory = self
            .directories
            .get_mut(&id)
            .ok_or_else(|| PullError::protocol("a directory is closed while it is listed"))?;
        let mut known: Vec<(u32, Box<Node>)> = Vec::new();
        let links = &mut self.links;
        wanted.retain(|&index| {
            let Some(node) = directory.node(index) else { return false };
            match links.meet(FileId { directory: id, index }, node) {
                Name::Read => true,
                Name::Wait => {
                    directory.wait_for_other_name(index);
                    false
                }
                Name::Known(node) => {
                    known.push((index, node));
                    false
                }
            }
        });
        for (index, node) in known {
            self.other_name(FileId { directory: id, index }, &node)?;
        }
        Ok(wanted)
    }

    /// A file was read under another of its names.
    fn other_name(&mut self, id: FileId, read: &Node) -> Result<(), PullError> {
        let directory = self.directory(id.directory)?;
        let mut node = read.clone();
        node.name = directory.name(id.index).unwrap_or_default().to_vec();
        self.take_over(id, node, true)
    }

    /// Goes into a directory that its parent names: its counterpart in the base, and its depth.
    fn enter(&mut self, parent: Option<FileId>) -> Result<(Option<Vec<ChunkRef>>, usize), PullError> {
        if self.directories.len() >= limits::OPEN_DIRECTORIES_MAX {
            return Err(PullError::protocol("the server has too many directories open at one time"));
        }
        let (base, depth) = match parent {
            None if self.root_seen => return Err(PullError::protocol("a second root directory")),
            None => {
                self.root_seen = true;
                (self.base.take(), 0)
            }
            Some(place) => {
                let parent = self.directory(place.directory)?;
                (parent.open_child(place.index)?, parent.depth + 1)
            }
        };
        if depth > format_limits::DEPTH_MAX {
            return Err(PullError::Protocol(format!(
                "directories are nested deeper than {} levels",
                format_limits::DEPTH_MAX
            )));
        }
        Ok((base, depth))
    }

    fn open_directory(
        &mut self,
        id: DirectoryId,
        parent: Option<FileId>,
        depth: usize,
        base: Option<(Vec<ChunkRef>, Nodes)>,
    ) {
        let survey = self.mode == Mode::Survey;
        let mut directory = OpenDirectory::new(parent, depth, base, survey, self.held.clone());
        if self.mode == Mode::Live {
            directory.note();
        }
        if self.rest_is_base {
            directory.count_base();
        }
        self.directories.insert(id, directory);
    }

    fn directory(&mut self, id: DirectoryId) -> Result<&mut OpenDirectory, PullError> {
        self.directories
            .get_mut(&id)
            .ok_or_else(|| PullError::Protocol(format!("directory {} is not open", id.0)))
    }

    fn empty_tree(&mut self, store: &mut dyn Store) -> Result<Vec<ChunkRef>, PullError> {
        if self.mode == Mode::Survey {
            return Ok(Vec::new());
        }
        if self.empty_tree.is_none() {
            self.empty_tree = Some(put_empty(store)?);
        }
        Ok(self.empty_tree.clone().unwrap_or_default())
    }

    /// Checks that a message is about a file that was asked for, and returns what is known of it.
    fn wanted(&mut self, id: FileId) -> Result<&mut OpenFile, PullError> {
        if self.directory(id.directory)?.slot(id.index) != Some(Slot::Wanted) {
            return Err(PullError::protocol("word of a file that was not asked for"));
        }
        if !self.files.contains_key(&id) && self.files.len() >= limits::OPEN_FILES_MAX {
            return Err(PullError::protocol("the server has too many files under way at one time"));
        }
        let file = self.files.entry(id).or_default();
        if file.done.is_some() {
            return Err(PullError::protocol("a file goes on after its end"));
        }
        Ok(file)
    }

    fn chunks(&mut self, piece: Chunks, store: &mut dyn Store) -> Result<Need, PullError> {
        let Chunks { file: id, first, chunks } = piece;
        if self.unasked {
            return Err(PullError::protocol("a question in a pass without questions"));
        }
        if first as usize != self.wanted(id)?.announced() {
            return Err(PullError::protocol("a piece of a file's chunks is missing or comes twice"));
        }
        let mut needed = Vec::new();
        for (place, (hash, length)) in chunks.into_iter().enumerate() {
            check_length(length)?;
            let number = u32::try_from(first as usize + place)
                .map_err(|_| PullError::protocol("a file has more chunks than can be counted"))?;
            let piece = match store.known(&hash, length)? {
                Some(chunk) => Piece::Here(chunk),
                None => self.in_flight_or_needed(id, number, hash, length)?,
            };
            if matches!(piece, Piece::Asked(..)) {
                needed.push(number);
            }
            self.held.add(size_of::<Piece>());
            self.wanted(id)?.announce(piece);
        }
        Ok(Need { file: id, first, chunks: needed })
    }

    fn in_flight_or_needed(
        &mut self,
        file: FileId,
        number: u32,
        hash: ContentHash,
        length: u32,
    ) -> Result<Piece, PullError> {
        if let Some(flying) = self.in_flight.get_mut(&hash) {
            // In the final pass nobody depends on another file's fate: that one may vanish and take the chunk along.
            if flying.file == file || self.mode == Mode::Live {
                flying.waiting.push((file, number));
                self.held.add(size_of::<(FileId, u32)>());
                return Ok(Piece::Shared(length));
            }
            return Ok(Piece::Asked(hash, length));
        }
        if self.in_flight.len() >= limits::CHUNKS_IN_FLIGHT_MAX {
            return Err(PullError::protocol("the server has too many chunks under way at one time"));
        }
        self.in_flight.insert(hash, InFlight { file, number, waiting: Vec::new() });
        Ok(Piece::Asked(hash, length))
    }

    fn data(&mut self, data: Data, store: &mut dyn Store) -> Result<(), PullError> {
        if self.unasked {
            return self.data_unasked(data, store);
        }
        let Data { file: id, chunk: number, bytes } = data;
        let Some((hash, length)) = self.wanted(id)?.asked(number) else {
            return Err(PullError::protocol("data that was not asked for"));
        };
        if bytes.len() != length as usize {
            return Err(PullError::Protocol(format!(
                "a chunk announced with {length} bytes came with {}",
                bytes.len()
            )));
        }
        if ContentHash::of(&bytes) != hash {
            return Err(PullError::protocol("the bytes of a chunk do not have the hash that was announced"));
        }
        self.tally.bytes_sent += bytes.len() as u64;
        let chunk = store.put(&hash, &bytes)?;
        self.wanted(id)?.arrived(number, chunk);
        if let Some(flying) = self.landed(&hash, id, number) {
            for (file, number) in flying.waiting {
                if let Some(waiting) = self.files.get_mut(&file) {
                    waiting.arrived(number, chunk);
                }
                self.finish_parked(file, store)?;
            }
        }
        Ok(())
    }

    /// Takes a chunk out of the table of what is in flight, if it is this very one.
    fn landed(&mut self, hash: &ContentHash, file: FileId, number: u32) -> Option<InFlight> {
        let flying = self.in_flight.get(hash)?;
        if flying.file != file || flying.number != number {
            return None;
        }
        let flying = self.in_flight.remove(hash)?;
        self.held.sub(flying.waiting.len() * size_of::<(FileId, u32)>());
        Some(flying)
    }

    fn file_done(&mut self, done: FileDone, store: &mut dyn Store) -> Result<(), PullError> {
        let FileDone { file: id, outcome } = done;
        let file = self.wanted(id)?;
        match outcome {
            ReadOutcome::Read { node, steady } => {
                if file.is_owed() {
                    return Err(PullError::protocol("a file ended before all of its data came"));
                }
                file.done = Some(Box::new((node, steady)));
                self.finish_parked(id, store)
            }
            ReadOutcome::Vanished => {
                let path = self.path(id);
                self.unrest.add("vanished before it was read", path);
                self.drop_file(id, store)
            }
            ReadOutcome::Failed { why } => {
                let path = self.path(id);
                self.failures.add(text::line(&why), path);
                self.drop_file(id, store)
            }
        }
    }

    /// Finishes a file whose end was announced, if all of its chunks are here.
    fn finish_parked(&mut self, id: FileId, store: &mut dyn Store) -> Result<(), PullError> {
        let ready = |file: &OpenFile| file.done.is_some() && !file.waits_for_others();
        if !self.files.get(&id).is_some_and(ready) {
            return Ok(());
        }
        let Some(mut file) = self.files.remove(&id) else { return Ok(()) };
        let Some((node, steady)) = file.done.take().map(|done| *done) else { return Ok(()) };
        self.held.sub(file.announced() * size_of::<Piece>());
        if file.lost {
            return self.lose(id, store);
        }
        let length = file.length();
        let content = file.content()?;
        let node = self.checked(id, node, steady, length, content)?;
        let listed = self.directories.get(&id.directory).and_then(|directory| directory.node(id.index));
        let others = listed.map(|listed| self.links.settle(id, listed, Some(&node))).unwrap_or_default();
        for other in others {
            self.other_name(other, &node)?;
            self.close_finished(other.directory, store)?;
        }
        self.take_over(id, node, steady)?;
        self.close_finished(id.directory, store)
    }

    /// Puts a file that was read into its directory.
    fn take_over(&mut self, id: FileId, node: Node, steady: bool) -> Result<(), PullError> {
        let read = self.directory(id.directory)?.file_read(id.index, &node);
        self.tally.moved += u64::from(read.racy_and_changed);
        self.tally.bytes_done = self.tally.bytes_done.saturating_add(node.size());
        self.tally.files_done += 1;
        if !steady || read.moved_since_listed {
            let path = self.path_of(id.directory, &node.name);
            self.unrest.add("changed while it was read", path);
        }
        Ok(())
    }

    /// The fresh node of a file that was read, with its contents.
    fn checked(
        &mut self,
        id: FileId,
        mut node: Node,
        steady: bool,
        length: u64,
        chunks: Vec<ChunkRef>,
    ) -> Result<Node, PullError> {
        if self.directory(id.directory)?.name(id.index) != Some(node.name.as_slice()) {
            return Err(PullError::protocol("a file changed its name while it was read"));
        }
        if !node.content().is_empty() {
            return Err(PullError::protocol("a file's end names chunks of its own"));
        }
        let NodeKind::File { size, content, .. } = &mut node.kind else {
            return Err(PullError::protocol("a file turned into something else while it was read"));
        };
        if steady && *size != length {
            return Err(PullError::Protocol(format!("a file of {size} bytes came with {length}")));
        }
        // A file that grew or shrank under the reader is kept as it was read.
        *size = length;
        *content = chunks;
        Ok(node)
    }

    fn drop_file(&mut self, id: FileId, store: &mut dyn Store) -> Result<(), PullError> {
        if let Some(file) = self.files.remove(&id) {
            self.held.sub(file.announced() * size_of::<Piece>());
            for (number, hash) in file.outstanding() {
                let Some(flying) = self.landed(&hash, id, number) else { continue };
                for (other, number) in flying.waiting {
                    if let Some(other) = self.files.get_mut(&other) {
                        other.lose(number);
                    }
                    self.finish_parked(other, store)?;
                }
            }
        }
        self.drop_names(id, store)
    }

    /// A file that depended on another one that went away.
    fn lose(&mut self, id: FileId, store: &mut dyn Store) -> Result<(), PullError> {
        let path = self.path(id);
        self.lost.add("was to be read together with a file that went away", path);
        self.drop_names(id, store)
    }

    /// Leaves a file out, and the other names that it was to be read for.
    fn drop_names(&mut self, id: FileId, store: &mut dyn Store) -> Result<(), PullError> {
        let others = match self.directories.get(&id.directory).and_then(|directory| directory.node(id.index))
        {
            Some(listed) => self.links.settle(id, listed, None),
            None => Vec::new(),
        };
        for other in &others {
            let path = self.path(*other);
            self.lost.add("was to be read together with a file that went away", path);
        }
        for id in std::iter::once(id).chain(others) {
            self.directory(id.directory)?.file_dropped(id.index);
            self.tally.files_done += 1;
            self.close_finished(id.directory, store)?;
        }
        Ok(())
    }

    /// Stores what is certain of a directory; one of which nothing is missing is closed, and then its parent if that was
    /// the last piece of it.
    fn close_finished(&mut self, mut id: DirectoryId, store: &mut dyn Store) -> Result<(), PullError> {
        while let Some(directory) = self.directories.get_mut(&id) {
            directory.advance(store)?;
            if !directory.is_finished() {
                break;
            }
            let Some(mut directory) = self.directories.remove(&id) else { break };
            let parent = directory.parent;
            let notes = directory.take_notes();
            if let (1.., Some(place)) = (directory.contradictions(), parent) {
                let path = text::path(&self.raw_path(place));
                let what = format!(
                    "{} write-once files are not as they were although the folder has not changed",
                    directory.contradictions()
                );
                self.contradictions.add(what, path);
            }
            let Finished { content, files, bytes } = directory.finish(store)?;
            if let Some((notes, listed)) = notes {
                self.learn(parent, notes, listed, &content);
            }
            self.tally.directories += 1;
            self.tally.files += files;
            self.tally.bytes = self.tally.bytes.saturating_add(bytes);
            let Some(place) = parent else {
                self.root = Some(content);
                break;
            };
            self.directory(place.directory)?.close_child(place.index, content);
            id = place.directory;
        }
        Ok(())
    }

    /// Keeps what the next pass may want to know of a finished directory.
    fn learn(&mut self, place: Option<FileId>, notes: Notes, listed: u32, content: &[ChunkRef]) {
        let Some(place) = place else { return };
        let node = self.directories.get(&place.directory).and_then(|parent| parent.node(place.index));
        let folder = node.and_then(|node| notes.folder(&node.meta, self.clock, listed, content.to_vec()));
        if let Some(folder) = folder {
            self.learnt.keep(self.raw_path(place), folder);
        }
    }

    /// Absolute path of an entry that misses something, as text for people.
    fn path(&self, id: FileId) -> String {
        let name = self.directories.get(&id.directory).and_then(|directory| directory.name(id.index));
        self.path_of(id.directory, name.unwrap_or_default())
    }

    /// Absolute path of a name in an open directory, as text for people.
    fn path_of(&self, directory: DirectoryId, name: &[u8]) -> String {
        let mut path = self.raw_path_of(directory);
        path.push(b'/');
        path.extend_from_slice(name);
        text::path(&path)
    }

    /// Absolute path of an entry that misses something.
    fn raw_path(&self, id: FileId) -> Vec<u8> {
        let mut path = self.raw_path_of(id.directory);
        path.push(b'/');
        path.extend_from_slice(
            self.directories
                .get(&id.directory)
                .and_then(|directory| directory.name(id.index))
                .unwrap_or_default(),
        );
        path
    }

    /// Absolute path of an open directory; empty for the root.
    fn raw_path_of(&self, directory: DirectoryId) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut place = self.directories.get(&directory).and_then(|directory| directory.parent);
        while let Some(at) = place {
            let Some(directory) = self.directories.get(&at.directory) else { break };
            names.extend(directory.name(at.index));
            place = directory.parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }
}

#[cfg(test)]
mod amended;
#[cfg(test)]
mod garbled;
#[cfg(test)]
pub(crate) mod tests;
mod unasked;
