//! The protocol spoken well, and abused in every way that a hostile server could think of.

use std::collections::HashMap;

use super::*;
use crate::store::Nodes;
use crate::tally::Notice;
use mailkeep_format::{Checkpoint, ChunkKind, IdKey, Meta, node};

/// A repository in memory: chunks by id, and a count of what was written.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    chunks: HashMap<mailkeep_format::ChunkId, Vec<u8>>,
    data_puts: usize,
    tree_puts: usize,
}

fn chunk_ref(kind: ChunkKind, bytes: &[u8]) -> ChunkRef {
    let id = IdKey::new([1; 32]).chunk_id(kind, &ContentHash::of(bytes));
    ChunkRef { id, length: bytes.len() as u32 }
}

impl Memory {
    /// How often a part of a directory was stored.
    pub(crate) fn tree_puts(&self) -> usize {
        self.tree_puts
    }

    /// Length of a chunk that is there.
    pub(crate) fn length(&self, chunk: &ChunkRef) -> u64 {
        self.chunks[&chunk.id].len() as u64
    }

    /// From now on this chunk of a file is not there any more.
    pub(crate) fn lose(&mut self, bytes: &[u8]) {
        self.chunks.remove(&chunk_ref(ChunkKind::Data, bytes).id).unwrap();
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, node: &Node) -> Vec<u8> {
        node.content().iter().flat_map(|chunk| self.chunks[&chunk.id].clone()).collect()
    }

    /// A whole directory.
    pub(crate) fn tree(&self, content: &[ChunkRef]) -> Result<Vec<Node>, PullError> {
        let bytes: Vec<u8> = content.iter().flat_map(|chunk| self.chunks[&chunk.id].clone()).collect();
        Ok(node::decode_tree(&bytes).unwrap())
    }
}

impl Store for Memory {
    fn known(&mut self, hash: &ContentHash, length: u32) -> Result<Option<ChunkRef>, PullError> {
        let id = IdKey::new([1; 32]).chunk_id(ChunkKind::Data, hash);
        Ok(self.chunks.contains_key(&id).then_some(ChunkRef { id, length }))
    }

    fn put(&mut self, hash: &ContentHash, bytes: &[u8]) -> Result<ChunkRef, PullError> {
        assert_eq!(*hash, ContentHash::of(bytes));
        self.data_puts += 1;
        let chunk = chunk_ref(ChunkKind::Data, bytes);
        self.chunks.insert(chunk.id, bytes.to_vec());
        Ok(chunk)
    }

    fn put_tree_chunk(&mut self, bytes: &[u8]) -> Result<ChunkRef, PullError> {
        self.tree_puts += 1;
        let chunk = chunk_ref(ChunkKind::Tree, bytes);
        self.chunks.insert(chunk.id, bytes.to_vec());
        Ok(chunk)
    }

    fn tree_nodes(&mut self, content: &[ChunkRef]) -> Result<Nodes, PullError> {
        Ok(Box::new(self.tree(content)?.into_iter().map(Ok)))
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

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 5 }
}

const PASS_1: i64 = 1_000;
const PASS_2: i64 = 2_000;

fn entry(name: &str, kind: NodeKind) -> Node {
    let mut meta = Meta { mode: 0o644, links: 1, ..Meta::default() };
    meta.mtime = at(100);
    meta.ctime = at(101);
    meta.inode = name.len() as u64;
    Node { name: name.as_bytes().to_vec(), meta, kind }
}

pub(crate) fn file(name: &str, size: u64) -> Node {
    entry(name, NodeKind::File { size, sparse: false, content: Vec::new() })
}

pub(crate) fn folder(name: &str) -> Node {
    entry(name, NodeKind::Directory { content: Vec::new() })
}

pub(crate) fn hint(node: &Node) -> Hint {
    if node.is_directory() { Hint::Descend } else { Hint::Plain }
}

pub(crate) fn id(directory: u32, index: u32) -> FileId {
    FileId { directory: DirectoryId(directory), index }
}

pub(crate) fn listing(directory: u32, parent: Option<FileId>, nodes: Vec<Node>) -> ToBox {
    let hints = nodes.iter().map(hint).collect();
    ToBox::Entries(Entries { directory: DirectoryId(directory), parent, first: 0, last: true, nodes, hints })
}

pub(crate) fn chunks(file: FileId, first: u32, contents: &[&[u8]]) -> ToBox {
    let chunks = contents.iter().map(|bytes| (ContentHash::of(bytes), bytes.len() as u32)).collect();
    ToBox::Chunks(Chunks { file, first, chunks })
}

pub(crate) fn data(file: FileId, chunk: u32, bytes: &[u8]) -> ToBox {
    ToBox::Data(Data { file, chunk, bytes: bytes.to_vec().into() })
}

pub(crate) fn read(file: FileId, node: Node) -> ToBox {
    ToBox::FileDone(FileDone { file, outcome: ReadOutcome::Read { node, steady: true } })
}

fn done(file: FileId, outcome: ReadOutcome) -> ToBox {
    ToBox::FileDone(FileDone { file, outcome })
}

pub(crate) fn ended() -> PassEnded {
    PassEnded { bytes_read: 0, users: Vec::new(), groups: Vec::new() }
}

struct Pass<'a> {
    assembly: Assembly,
    store: &'a mut Memory,
}

impl<'a> Pass<'a> {
    fn new(store: &'a mut Memory, mode: Mode) -> Self {
        Pass { assembly: Assembly::new(mode, at(PASS_1), None), store }
    }

    fn over(store: &'a mut Memory, mode: Mode, root: &[ChunkRef]) -> Self {
        let base = Base { root: root.to_vec(), clock: at(PASS_1) };
        Pass { assembly: Assembly::new(mode, at(PASS_2), Some(base)), store }
    }

    fn tell(&mut self, message: ToBox) -> Result<Vec<ToAgent>, PullError> {
        let mut answers = Vec::new();
        self.assembly.take(message, self.store, &mut answers)?;
        Ok(answers)
    }

    #[track_caller]
    fn want(&mut self, message: ToBox) -> Vec<u32> {
        match self.tell(message).unwrap().as_slice() {
            [ToAgent::Want(want)] => want.files.clone(),
            other => panic!("no Want but {other:?}"),
        }
    }

    #[track_caller]
    fn need(&mut self, message: ToBox) -> Vec<u32> {
        match self.tell(message).unwrap().as_slice() {
            [ToAgent::Need(need)] => need.chunks.clone(),
            other => panic!("no Need but {other:?}"),
        }
    }

    #[track_caller]
    fn quiet(&mut self, message: ToBox) {
        assert!(self.tell(message).unwrap().is_empty());
    }

    /// Lists, and sends every file with these contents whole, as an honest agent does.
    fn whole(
        &mut self,
        directory: u32,
        parent: Option<FileId>,
        nodes: Vec<Node>,
        contents: &[(&str, &[u8])],
    ) {
        for index in self.want(listing(directory, parent, nodes.clone())) {
            let node = nodes[index as usize].clone();
            let file = id(directory, index);
            let (_, bytes) = contents.iter().find(|(name, _)| name.as_bytes() == node.name).unwrap();
            for number in self.need(chunks(file, 0, &[bytes])) {
                self.quiet(data(file, number, bytes));
            }
            self.quiet(read(file, node));
        }
    }

    fn end(self) -> Result<Assembled, PullError> {
        self.assembly.end(&ended())
    }

    /// The one line with which the pass breaks off.
    #[track_caller]
    fn refuses(&mut self, message: ToBox) -> String {
        let error = self.tell(message).unwrap_err();
        assert!(matches!(error, PullError::Protocol(_)), "{error:?}");
        assert_eq!(error.exit_code(), 1);
        let line = error.to_string();
        assert!(!line.contains('\n'));
        line
    }
}

fn spool(store: &mut Memory) -> Assembled {
    let mut pass = Pass::new(store, Mode::Live);
    assert!(pass.want(listing(0, None, vec![folder("a"), folder("b"), folder("run")])).is_empty());
    pass.whole(1, Some(id(0, 0)), vec![file("1.", 5), file("2.", 6)], &[("1.", b"first"), ("2.", b"second")]);
    pass.whole(2, Some(id(0, 1)), vec![file("3.", 5)], &[("3.", b"first")]);
    assert!(pass.want(listing(3, Some(id(0, 2)), vec![])).is_empty());
    pass.end().unwrap()
}

#[test]
fn a_tree_is_put_together_and_equal_chunks_come_once() {
    let mut store = Memory::default();
    let done = spool(&mut store);
    assert_eq!(store.data_puts, 2);
    assert_eq!((done.tally.files, done.tally.directories, done.tally.bytes), (3, 4, 16));
    assert_eq!((done.tally.files_seen, done.tally.files_changed, done.tally.bytes_sent), (3, 3, 11));
    let root = store.tree(&done.root).unwrap();
    assert_eq!(
        root.iter().map(|node| node.name.as_slice()).collect::<Vec<_>>(),
        [b"a".as_slice(), b"b", b"run"]
    );
    let a = store.tree(root[0].content()).unwrap();
    assert_eq!(a[1].content(), [chunk_ref(ChunkKind::Data, b"second")]);
    assert_eq!(a[1].size(), 6);
    assert!(store.tree(root[2].content()).unwrap().is_empty());
}

#[test]
fn an_unchanged_tree_is_neither_read_nor_written_again() {
    let mut store = Memory::default();
    let first = spool(&mut store);
    let (trees, puts) = (store.tree_puts, store.data_puts);
    let mut pass = Pass::over(&mut store, Mode::Final, &first.root);
    pass.whole(0, None, vec![folder("a"), folder("b"), folder("run")], &[]);
    pass.whole(7, Some(id(0, 0)), vec![file("1.", 5), file("2.", 6)], &[]);
    pass.whole(8, Some(id(0, 1)), vec![file("3.", 5)], &[]);
    pass.whole(9, Some(id(0, 2)), vec![], &[]);
    let second = pass.end().unwrap();
    assert_eq!(second.root, first.root);
    assert_eq!((second.tally.moved, second.tally.files_changed, second.tally.files), (0, 0, 3));
    assert_eq!((store.tree_puts, store.data_puts), (trees, puts));
}

#[test]
fn new_gone_and_changed_files_are_told_apart() {
    let mut store = Memory::default();
    let first = spool(&mut store);
    let mut pass = Pass::over(&mut store, Mode::Live, &first.root);
    pass.whole(0, None, vec![folder("a"), folder("b")], &[]); // `run` is gone
    let mut changed = file("2.", 6);
    changed.meta.ctime.nanos += 1;
    // `1.` is gone, `0.` is new, `2.` has the same size and another ctime
    pass.whole(1, Some(id(0, 0)), vec![file("0.", 3), changed], &[("0.", b"new"), ("2.", b"SECOND")]);
    pass.whole(2, Some(id(0, 1)), vec![file("3.", 5)], &[]);
    let second = pass.end().unwrap();
    assert_eq!((second.tally.moved, second.tally.files_changed), (4, 2));
    let root = store.tree(&second.root).unwrap();
    let a = store.tree(root[0].content()).unwrap();
    assert_eq!(a[1].content(), [chunk_ref(ChunkKind::Data, b"SECOND")]);
    assert_eq!(root[1].content(), store.tree(&first.root).unwrap()[1].content());
}

#[test]
fn what_a_listing_does_not_carry_comes_from_the_base() {
    let mut store = Memory::default();
    let mut fresh = file("f", 2);
    fresh.meta.xattrs = vec![(b"user.mail".to_vec(), b"yes".to_vec())];
    fresh.kind = NodeKind::File { size: 2, sparse: true, content: Vec::new() };
    let mut pass = Pass::new(&mut store, Mode::Live);
    assert_eq!(pass.want(listing(0, None, vec![file("f", 2)])), [0]);
    assert_eq!(pass.need(chunks(id(0, 0), 0, &[b"hi"])), [0]);
    pass.quiet(data(id(0, 0), 0, b"hi"));
    pass.quiet(read(id(0, 0), fresh.clone()));
    let first = pass.end().unwrap();
    let mut pass = Pass::over(&mut store, Mode::Final, &first.root);
    assert!(pass.want(listing(0, None, vec![file("f", 2)])).is_empty());
    let second = pass.end().unwrap();
    assert_eq!(second.root, first.root);
    let node = &store.tree(&second.root).unwrap()[0];
    assert_eq!(node.meta.xattrs, fresh.meta.xattrs);
    assert!(matches!(node.kind, NodeKind::File { sparse: true, .. }));
}

#[test]
fn a_racy_file_is_read_again_and_counts_as_moved_only_if_it_differs() {
    for (again, moved) in [(b"same".as_slice(), 0), (b"diff", 1)] {
        let mut store = Memory::default();
        let mut young = file("f", 4);
        young.meta.ctime = at(PASS_1 - 1);
        let mut pass = Pass::new(&mut store, Mode::Live);
        pass.whole(0, None, vec![young.clone()], &[("f", b"same")]);
        let first = pass.end().unwrap();
        let mut pass = Pass::over(&mut store, Mode::Live, &first.root);
        pass.whole(0, None, vec![young], &[("f", again)]);
        let second = pass.end().unwrap();
        assert_eq!((second.tally.files_changed, second.tally.moved), (1, moved));
        assert_eq!(second.root == first.root, moved == 0);
    }
}

#[test]
fn vanished_and_unreadable_files_are_left_out_and_told() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Final);
    assert_eq!(pass.want(listing(0, None, vec![folder("d"), file("x", 1)])), [1]);
    assert_eq!(pass.want(listing(1, Some(id(0, 0)), vec![file("gone", 1), file("locked", 1)])), [0, 1]);
    // One of them breaks off in the middle, with data still owed.
    assert_eq!(pass.need(chunks(id(1, 0), 0, &[b"a", b"b"])), [0, 1]);
    pass.quiet(data(id(1, 0), 1, b"b"));
    pass.quiet(done(id(1, 0), ReadOutcome::Vanished));
    pass.quiet(done(id(1, 1), ReadOutcome::Failed { why: "Input/output\nerror".into() }));
    assert_eq!(pass.need(chunks(id(0, 1), 0, &[b"x"])), [0]);
    pass.quiet(data(id(0, 1), 0, b"x"));
    pass.quiet(read(id(0, 1), file("x", 1)));
    let done = pass.end().unwrap();
    assert_eq!(
        done.failures.listed,
        [Notice { what: "Input/output error".into(), path: "/d/locked".into() }]
    );
    assert_eq!((done.unrest.count, done.unrest.listed[0].path.as_str()), (1, "/d/gone"));
    let root = store.tree(&done.root).unwrap();
    assert!(store.tree(root[0].content()).unwrap().is_empty());
    assert_eq!(done.tally.files, 1);
}

#[test]
fn a_file_that_grew_under_the_reader_is_kept_as_read_and_told() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Final);
    pass.want(listing(0, None, vec![file("log", 3)]));
    pass.need(chunks(id(0, 0), 0, &[b"abcdef"]));
    pass.quiet(data(id(0, 0), 0, b"abcdef"));
    pass.quiet(done(id(0, 0), ReadOutcome::Read { node: file("log", 5), steady: false }));
    let done = pass.end().unwrap();
    assert_eq!(done.unrest.count, 1);
    assert_eq!(store.tree(&done.root).unwrap()[0].size(), 6);
}

#[test]
fn a_file_that_moved_between_listing_and_reading_is_told() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Final);
    pass.want(listing(0, None, vec![file("index", 1)]));
    pass.need(chunks(id(0, 0), 0, &[b"x"]));
    pass.quiet(data(id(0, 0), 0, b"x"));
    let mut later = file("index", 1);
    later.meta.mtime.nanos += 1;
    pass.quiet(read(id(0, 0), later));
    assert_eq!(pass.end().unwrap().unrest.count, 1);
}

#[test]
fn a_chunk_in_flight_is_not_asked_for_twice_and_both_files_get_it() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Live);
    pass.want(listing(0, None, vec![file("a", 6), file("b", 3)]));
    assert_eq!(pass.need(chunks(id(0, 0), 0, &[b"xyz", b"xyz"])), [0]);
    assert!(pass.need(chunks(id(0, 1), 0, &[b"xyz"])).is_empty());
    pass.quiet(read(id(0, 1), file("b", 3))); // its end comes before the data that it shares
    pass.quiet(data(id(0, 0), 0, b"xyz"));
    pass.quiet(read(id(0, 0), file("a", 6)));
    let done = pass.end().unwrap();
    let shared = chunk_ref(ChunkKind::Data, b"xyz");
    let nodes = store.tree(&done.root).unwrap();
    assert_eq!(nodes[0].content(), [shared, shared]);
    assert_eq!(nodes[1].content(), [shared]);
    assert_eq!((store.data_puts, done.tally.bytes_sent), (1, 3));
}

#[test]
fn a_shared_chunk_that_goes_away_takes_no_file_along_in_the_final_pass() {
    for mode in [Mode::Live, Mode::Final] {
        let mut store = Memory::default();
        let mut pass = Pass::new(&mut store, mode);
        pass.want(listing(0, None, vec![file("a", 3), file("b", 3)]));
        assert_eq!(pass.need(chunks(id(0, 0), 0, &[b"xyz"])), [0]);
        let asked = pass.need(chunks(id(0, 1), 0, &[b"xyz"]));
        for number in &asked {
            pass.quiet(data(id(0, 1), *number, b"xyz"));
        }
        pass.quiet(read(id(0, 1), file("b", 3)));
        pass.quiet(done(id(0, 0), ReadOutcome::Vanished));
        let done = pass.end().unwrap();
        let nodes = store.tree(&done.root).unwrap();
        if mode == Mode::Final {
            assert_eq!((asked.len(), nodes.len(), done.unrest.count, done.lost.count), (1, 1, 1, 0));
        } else {
            // The next live pass reads it: it is not in this tree.
            assert_eq!((asked.len(), nodes.len(), done.unrest.count, done.lost.count), (0, 0, 1, 1));
        }
    }
}

fn linked(name: &str, links: u32) -> Node {
    let mut node = file(name, 3);
    (node.meta.inode, node.meta.links, node.meta.device) = (77, links, 5);
    node
}

#[test]
fn a_file_with_several_names_is_read_under_the_first() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Final);
    pass.want(listing(0, None, vec![folder("a"), folder("b"), folder("c")]));
    assert_eq!(pass.want(listing(1, Some(id(0, 0)), vec![linked("1.", 3), linked("2.", 3)])), [0]);
    // One of its names is gone when it is opened: the others still get what was read.
    assert_eq!(pass.need(chunks(id(1, 0), 0, &[b"xyz"])), [0]);
    pass.quiet(data(id(1, 0), 0, b"xyz"));
    pass.quiet(read(id(1, 0), linked("1.", 3)));
    assert!(pass.want(listing(2, Some(id(0, 1)), vec![linked("9.", 3)])).is_empty());
    assert_eq!(pass.want(listing(3, Some(id(0, 2)), vec![linked("another inode count", 2)])), [0]);
    pass.need(chunks(id(3, 0), 0, &[b"xyz"]));
    pass.quiet(read(id(3, 0), linked("another inode count", 2)));
    let done = pass.end().unwrap();
    assert!(done.unrest.is_empty());
    assert_eq!((done.tally.files, done.tally.files_done, done.tally.files_changed), (4, 4, 4));
    let root = store.tree(&done.root).unwrap();
    let names = |store: &mut Memory, index: usize| {
        let nodes = store.tree(root[index].content()).unwrap();
        nodes
            .iter()
            .map(|node| (node.name.clone(), node.content().len(), node.meta.inode))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&mut store, 0), [(b"1.".to_vec(), 1, 77), (b"2.".to_vec(), 1, 77)]);
    assert_eq!(names(&mut store, 1), [(b"9.".to_vec(), 1, 77)]);
}

#[test]
fn names_that_wait_for_a_file_survive_a_change_of_its_link_count() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Live);
    assert_eq!(pass.want(listing(0, None, vec![linked("a", 2), linked("b", 2)])), [0]);
    pass.need(chunks(id(0, 0), 0, &[b"xyz"]));
    pass.quiet(data(id(0, 0), 0, b"xyz"));
    pass.quiet(read(id(0, 0), linked("a", 1)));
    assert_eq!(pass.end().unwrap().tally.files, 2);
}

#[test]
fn names_that_wait_for_a_file_that_goes_away_are_told_as_lost() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Live);
    pass.want(listing(0, None, vec![linked("a", 2), folder("d")]));
    pass.want(listing(1, Some(id(0, 1)), vec![linked("b", 2)]));
    pass.refuses(chunks(id(1, 0), 0, &[b"xyz"]));
    let mut pass = Pass::new(&mut store, Mode::Live);
    pass.want(listing(0, None, vec![linked("a", 2), folder("d")]));
    pass.want(listing(1, Some(id(0, 1)), vec![linked("b", 2)]));
    pass.quiet(done(id(0, 0), ReadOutcome::Vanished));
    let done = pass.end().unwrap();
    assert_eq!((done.tally.files, done.unrest.count, done.lost.count), (0, 1, 1));
    assert_eq!(done.lost.listed[0].path, "/d/b");
}

#[test]
fn a_survey_reads_and_writes_nothing() {
    let mut store = Memory::default();
    let first = spool(&mut store);
    let before = (store.tree_puts, store.data_puts);
    let mut pass = Pass::over(&mut store, Mode::Survey, &first.root);
    assert!(pass.want(listing(0, None, vec![folder("a"), folder("b")])).is_empty());
    assert!(pass.want(listing(1, Some(id(0, 0)), vec![file("1.", 50), file("4.", 9)])).is_empty());
    assert!(pass.want(listing(2, Some(id(0, 1)), vec![file("3.", 5)])).is_empty());
    let seen = pass.end().unwrap();
    assert_eq!((seen.tally.files_seen, seen.tally.files_changed, seen.tally.bytes_changed), (3, 2, 59));
    assert_eq!((store.tree_puts, store.data_puts), before);
}

#[test]
fn emptied_directories_and_special_files_are_kept() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Live);
    let nodes = vec![
        folder("lock"),
        entry("pipe", NodeKind::Fifo),
        entry("to", NodeKind::Symlink { target: b"x".to_vec() }),
    ];
    let hints = vec![Hint::Emptied, Hint::Plain, Hint::Plain];
    let entries = Entries { directory: DirectoryId(0), parent: None, first: 0, last: true, nodes, hints };
    assert!(pass.want(ToBox::Entries(entries)).is_empty());
    let done = pass.end().unwrap();
    let nodes = store.tree(&done.root).unwrap();
    assert_eq!(nodes.len(), 3);
    assert!(store.tree(nodes[0].content()).unwrap().is_empty());
}

/// A pass with one directory listed, one file wanted of it, and one chunk of three asked for and here.
fn under_way(store: &mut Memory) -> Pass<'_> {
    let mut pass = Pass::new(store, Mode::Live);
    pass.want(listing(0, None, vec![folder("d"), file("f", 9), entry("p", NodeKind::Fifo)]));
    assert_eq!(pass.need(chunks(id(0, 1), 0, &[b"abc", b"def", b"ghi"])), [0, 1, 2]);
    pass.quiet(data(id(0, 1), 0, b"abc"));
    pass
}

type Abuse = (&'static str, fn() -> ToBox);

#[test]
fn each_abuse_ends_the_pass_with_one_line() {
    fn piece(alter: fn(&mut Entries)) -> ToBox {
        let mut entries = Entries {
            directory: DirectoryId(1),
            parent: Some(id(0, 0)),
            first: 0,
            last: true,
            nodes: vec![file("a", 1), file("b", 1)],
            hints: vec![Hint::Plain, Hint::Plain],
        };
        alter(&mut entries);
        ToBox::Entries(entries)
    }
    fn own_chunks(name: &str, size: u64) -> Node {
        let content = vec![chunk_ref(ChunkKind::Data, b"secret of another server")];
        entry(name, NodeKind::File { size, sparse: false, content })
    }
    let abuses: &[Abuse] = &[
        ("a second root", || listing(5, None, vec![])),
        ("a parent that is not open", || piece(|entries| entries.parent = Some(id(9, 0)))),
        ("a parent that is a file", || piece(|entries| entries.parent = Some(id(0, 1)))),
        ("a parent out of range", || piece(|entries| entries.parent = Some(id(0, 3)))),
        ("a parent at the end of the scale", || piece(|entries| entries.parent = Some(id(0, u32::MAX)))),
        ("itself as parent", || piece(|entries| entries.parent = Some(id(1, 0)))),
        ("a listing that goes on after its end", || listing(0, None, vec![])),
        ("a piece that does not start at 0", || piece(|entries| entries.first = 1)),
        ("names out of order", || piece(|entries| entries.nodes.swap(0, 1))),
        ("a name twice", || piece(|entries| entries.nodes[1] = file("a", 1))),
        ("too few hints", || piece(|entries| entries.hints.truncate(1))),
        ("too many hints", || piece(|entries| entries.hints.push(Hint::Plain))),
        ("an empty piece that is not the last", || {
            piece(|entries| {
                entries.nodes.clear();
                entries.hints.clear();
                entries.last = false;
            })
        }),
        ("a file to descend into", || piece(|entries| entries.hints[0] = Hint::Descend)),
        ("a file to be emptied", || piece(|entries| entries.hints[0] = Hint::Emptied)),
        ("a directory as a message", || {
            piece(|entries| {
                entries.nodes[0] = folder("a");
                entries.hints[0] = Hint::Message;
            })
        }),
        ("a listed file that brings chunk ids", || piece(|entries| entries.nodes[0] = own_chunks("a", 24))),
        ("a listed directory that brings chunk ids", || {
            piece(|entries| {
                entries.nodes[0] =
                    entry("a", NodeKind::Directory { content: vec![chunk_ref(ChunkKind::Tree, b"x")] });
                entries.hints[0] = Hint::Descend;
            })
        }),
        ("chunks of a file that was not wanted", || chunks(id(0, 2), 0, &[b"x"])),
        ("chunks of a directory", || chunks(id(0, 0), 0, &[b"x"])),
        ("chunks of an index out of range", || chunks(id(0, 77), 0, &[b"x"])),
        ("chunks of an unknown directory", || chunks(id(6, 0), 0, &[b"x"])),
        ("chunks that come twice", || chunks(id(0, 1), 0, &[b"abc"])),
        ("chunks with a gap", || chunks(id(0, 1), 4, &[b"abc"])),
        ("a chunk of no bytes", || chunks(id(0, 1), 3, &[b""])),
        ("a chunk larger than any", || {
            let chunks = vec![(ContentHash([0; 32]), u32::MAX)];
            ToBox::Chunks(Chunks { file: id(0, 1), first: 3, chunks })
        }),
        ("data that was not asked for", || data(id(0, 1), 3, b"x")),
        ("data that is here already", || data(id(0, 1), 0, b"abc")),
        ("data out of range", || data(id(0, 1), u32::MAX, b"abc")),
        ("data of an unknown file", || data(id(0, 2), 0, b"abc")),
        ("data of another length", || data(id(0, 1), 1, b"defg")),
        ("data with another hash", || data(id(0, 1), 1, b"dEf")),
        ("an end before all data came", || read(id(0, 1), file("f", 9))),
        ("an end of a file that was not wanted", || read(id(0, 2), file("p", 0))),
        ("a failure of a file that was not wanted", || done(id(0, 0), ReadOutcome::Vanished)),
        ("a word of the wrong phase", || {
            ToBox::PassBegun(mailkeep_link::message::PassBegun { clock: at(1) })
        }),
        ("a late greeting", || {
            ToBox::Quiesced(mailkeep_link::message::Quiesced { stop_ms: 0, export_ms: 0, has_list: true })
        }),
    ];
    for (what, abuse) in abuses {
        let mut store = Memory::default();
        let mut pass = under_way(&mut store);
        let error = pass.tell(abuse()).expect_err(what);
        assert!(matches!(error, PullError::Protocol(_)), "{what}: {error:?}");
        assert!(!error.to_string().contains('\n'), "{what}");
    }
}

#[test]
fn an_end_must_fit_the_file() {
    type End = (&'static str, fn() -> Node);
    let ends: [End; 4] = [
        ("another name", || file("g", 9)),
        ("another kind", || entry("f", NodeKind::Fifo)),
        ("another size", || file("f", 8)),
        ("chunk ids of its own", || {
            entry(
                "f",
                NodeKind::File { size: 9, sparse: false, content: vec![chunk_ref(ChunkKind::Data, b"x")] },
            )
        }),
    ];
    for (what, node) in ends {
        let mut store = Memory::default();
        let mut pass = under_way(&mut store);
        pass.quiet(data(id(0, 1), 2, b"ghi"));
        pass.quiet(data(id(0, 1), 1, b"def"));
        let error = pass.tell(read(id(0, 1), node())).expect_err(what);
        assert!(matches!(error, PullError::Protocol(_)), "{what}: {error:?}");
    }
}

#[test]
fn nothing_is_heard_of_a_file_after_its_end() {
    let after: [fn() -> ToBox; 3] = [
        || chunks(id(0, 0), 1, &[b"y"]),
        || data(id(0, 0), 0, b"x"),
        || done(id(0, 0), ReadOutcome::Vanished),
    ];
    for again in after {
        let mut store = Memory::default();
        let mut pass = Pass::new(&mut store, Mode::Live);
        pass.want(listing(0, None, vec![file("a", 1), file("b", 1)]));
        pass.need(chunks(id(0, 0), 0, &[b"x"]));
        pass.quiet(data(id(0, 0), 0, b"x"));
        pass.quiet(read(id(0, 0), file("a", 1)));
        pass.refuses(again());
    }
}

#[test]
fn a_parked_file_takes_nothing_more_either() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Live);
    pass.want(listing(0, None, vec![file("a", 1), file("b", 1)]));
    pass.need(chunks(id(0, 0), 0, &[b"x"]));
    pass.need(chunks(id(0, 1), 0, &[b"x"]));
    pass.quiet(read(id(0, 1), file("b", 1)));
    pass.refuses(read(id(0, 1), file("b", 1)));
}

#[test]
fn a_pass_must_end_whole() {
    let mut store = Memory::default();
    assert!(Pass::new(&mut store, Mode::Live).end().is_err());
    assert!(under_way(&mut store).end().is_err());
    // A directory was named and never listed.
    let mut pass = Pass::new(&mut store, Mode::Live);
    pass.want(listing(0, None, vec![folder("d")]));
    assert!(pass.end().is_err());
    // A file was wanted and never heard of.
    let mut pass = Pass::new(&mut store, Mode::Live);
    pass.want(listing(0, None, vec![file("f", 0)]));
    assert!(pass.end().is_err());
}

#[test]
fn a_directory_id_can_be_used_again_once_its_directory_is_finished() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Live);
    pass.want(listing(0, None, vec![folder("a"), folder("b")]));
    pass.want(listing(1, Some(id(0, 0)), vec![]));
    pass.refuses(listing(1, Some(id(0, 0)), vec![]));
    let mut pass = Pass::new(&mut store, Mode::Live);
    pass.want(listing(0, None, vec![folder("a"), folder("b")]));
    pass.want(listing(1, Some(id(0, 0)), vec![]));
    pass.want(listing(1, Some(id(0, 1)), vec![]));
    pass.end().unwrap();
}

#[test]
fn nesting_has_a_bottom() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Live);
    pass.want(listing(0, None, vec![folder("d")]));
    for depth in 1..=format_limits::DEPTH_MAX as u32 {
        pass.want(listing(depth, Some(id(depth - 1, 0)), vec![folder("d")]));
    }
    let bottom = format_limits::DEPTH_MAX as u32;
    let line = pass.refuses(listing(bottom + 1, Some(id(bottom, 0)), vec![]));
    assert!(line.contains("nested"), "{line}");
}

#[test]
fn listings_that_never_end_are_broken_off_before_memory_is_full() {
    let mut store = Memory::default();
    let mut pass = Pass::new(&mut store, Mode::Live);
    let mut first = 0u32;
    let error = loop {
        // Names of 200 bytes, so that the limit comes soon.
        let nodes: Vec<Node> = (0..4096).map(|number| file(&format!("{:0200}", first + number), 1)).collect();
        let hints = vec![Hint::Plain; nodes.len()];
        let piece = Entries { directory: DirectoryId(0), parent: None, first, last: false, nodes, hints };
        first += 4096;
        if let Err(error) = pass.tell(ToBox::Entries(piece)) {
            break error;
        }
        assert!(first < 4_000_000, "no limit");
    };
    assert!(error.to_string().contains("than the box can hold"), "{error}");
}

#[test]
fn what_is_given_back_is_counted_back() {
    let mut store = Memory::default();
    let first = spool(&mut store);
    let mut pass = Pass::over(&mut store, Mode::Live, &first.root);
    pass.whole(0, None, vec![folder("a"), folder("b")], &[]);
    pass.whole(1, Some(id(0, 0)), vec![file("1.", 7)], &[("1.", b"longer.")]);
    pass.whole(2, Some(id(0, 1)), vec![file("3.", 5), file("4.", 5)], &[("4.", b"first")]);
    assert_eq!(pass.assembly.held.bytes(), 0);
    assert!(pass.assembly.in_flight.is_empty());
}
