//! A pass is cut off at any of its messages; the next one goes on, and is held against a plain copy of everything.

use std::collections::{BTreeMap, BTreeSet};

use mailkeep_format::{Meta, RepositoryId, TreeSeen};
use mailkeep_link::message::{FileId, ToAgent};
use proptest::prelude::*;

use super::*;
use crate::assemble::tests::{Memory, at, chunks, data, ended, file, folder, id, listing, read};
use crate::assemble::{Assembly, Mode};

/// Starts of the pass that made the snapshot, of the one that is cut off, and of the one that goes on.
const BEFORE: i64 = 1_000;
const CUT: i64 = 2_000;
const NOW: i64 = 3_000;

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is old.
    Rests,
    /// It changed after the snapshot.
    Changed,
    /// It was young when the snapshot was made, and was written over without a trace.
    Unseen,
    /// It was young in the pass that is cut off, and was written over without a trace afterwards.
    UnseenLater,
    /// It came after the snapshot.
    Came,
    /// It changed after the cut.
    ChangedLater,
    /// It is gone after the cut.
    Gone,
}

const FATES: [Fate; 7] =
    [Fate::Rests, Fate::Changed, Fate::Unseen, Fate::UnseenLater, Fate::Came, Fate::ChangedLater, Fate::Gone];

/// Which pass looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    Snapshot,
    Cut,
    Now,
}

impl Fate {
    /// When it changed last, as it looks at that time, and which version it is; `None` where there is none.
    fn at(self, time: Time) -> Option<(i64, u8)> {
        Some(match (self, time) {
            (Fate::Came, Time::Snapshot) | (Fate::Gone, Time::Now) => return None,
            (Fate::Rests | Fate::Gone, _) => (100, 0),
            (Fate::Changed | Fate::ChangedLater, Time::Snapshot) => (100, 0),
            (Fate::Changed, _) | (Fate::ChangedLater, Time::Cut) => (BEFORE + 10, 1),
            (Fate::ChangedLater, Time::Now) => (CUT + 10, 2),
            (Fate::Unseen, Time::Snapshot) => (BEFORE - 1, 0),
            (Fate::Unseen, _) => (BEFORE - 1, 1),
            (Fate::UnseenLater, Time::Snapshot) => (100, 0),
            (Fate::UnseenLater, Time::Cut) => (CUT - 1, 1),
            (Fate::UnseenLater, Time::Now) => (CUT - 1, 2),
            (Fate::Came, _) => (BEFORE + 20, 1),
        })
    }
}

type Path = Vec<String>;

/// Files by their paths; folders are those on the way, and one that is empty.
type Tree = BTreeMap<Path, Fate>;

fn contents(path: &Path, version: u8) -> Vec<u8> {
    format!("{} {version}", path.join("/")).into_bytes()
}

fn node_of(path: &Path, fate: Fate, time: Time) -> Option<(Node, Vec<u8>)> {
    let (changed, version) = fate.at(time)?;
    let bytes = contents(path, version);
    let mut node = file(path.last().unwrap(), bytes.len() as u64);
    node.meta = Meta { mtime: at(50), ctime: at(changed), inode: 7, ..node.meta };
    Some((node, bytes))
}

/// What lies in a folder at a time, in ascending order: its nodes, and the contents of files.
fn look(tree: &Tree, folder_path: &[String], time: Time) -> Vec<(Node, Option<Vec<u8>>)> {
    let mut found: BTreeMap<Vec<u8>, (Node, Option<Vec<u8>>)> = BTreeMap::new();
    for (path, fate) in tree {
        let Some(rest) = path.strip_prefix(folder_path) else { continue };
        if rest.len() > 1 {
            found.insert(rest[0].clone().into_bytes(), (folder(&rest[0]), None));
        } else if let Some((node, bytes)) = node_of(path, *fate, time) {
            found.insert(node.name.clone(), (node, Some(bytes)));
        }
    }
    found.into_values().collect()
}

/// A file that is wanted, and how much of it was said.
struct Reading {
    file: FileId,
    path: Path,
    node: Node,
    bytes: Vec<u8>,
    needed: Option<bool>,
}

/// What a pass did.
#[derive(Default)]
struct Done {
    wanted: BTreeSet<Path>,
    read: BTreeSet<Path>,
    messages: usize,
    root: Vec<ChunkRef>,
}

/// A pass as an honest agent has it, in an order that is drawn; cut off after so many messages, if it is to be.
fn pass(
    store: &mut Memory,
    assembly: Assembly,
    (tree, time): (&Tree, Time),
    mut lot: u64,
    cut: Option<usize>,
) -> Done {
    let mut assembly = assembly;
    let mut done = Done::default();
    let mut ahead: Vec<(Option<FileId>, Path)> = vec![(None, Vec::new())];
    let mut reading: Vec<Reading> = Vec::new();
    let mut number = 0;
    while (!ahead.is_empty() || !reading.is_empty()) && cut != Some(done.messages) {
        done.messages += 1;
        lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = (lot >> 33) as usize;
        let mut answers = Vec::new();
        if reading.is_empty() || (!ahead.is_empty() && draw % 3 == 0) {
            let (parent, path) = ahead.pop().unwrap();
            let found = look(tree, &path, time);
            let nodes: Vec<Node> = found.iter().map(|(node, _)| node.clone()).collect();
            assembly.take(listing(number, parent, nodes), store, &mut answers).unwrap();
            let [ToAgent::Want(want)] = answers.as_slice() else { panic!("{answers:?}") };
            let below = |node: &Node| {
                let name = String::from_utf8(node.name.clone()).unwrap();
                [path.as_slice(), &[name]].concat()
            };
            for index in &want.files {
                let (node, bytes) = found[*index as usize].clone();
                let path = below(&node);
                assert!(done.wanted.insert(path.clone()));
                let (file, bytes) = (id(number, *index), bytes.unwrap());
                reading.push(Reading { file, path, node, bytes, needed: None });
            }
            for (index, (node, _)) in found.iter().enumerate().rev() {
                if node.is_directory() {
                    ahead.push((Some(id(number, index as u32)), below(node)));
                }
            }
            number += 1;
            continue;
        }
        let at = draw % reading.len();
        let Reading { file, node, bytes, needed, .. } = &mut reading[at];
        match needed {
            None => {
                assembly.take(chunks(*file, 0, &[bytes.as_slice()]), store, &mut answers).unwrap();
                let [ToAgent::Need(need)] = answers.as_slice() else { panic!("{answers:?}") };
                *needed = Some(!need.chunks.is_empty());
            }
            Some(true) => {
                assembly.take(data(*file, 0, bytes), store, &mut answers).unwrap();
                *needed = Some(false);
            }
            Some(false) => {
                assembly.take(read(*file, node.clone()), store, &mut answers).unwrap();
                done.read.insert(reading.swap_remove(at).path);
            }
        }
    }
    done.root = match cut {
        // Asked twice, it says the same.
        Some(_) => {
            let root = assembly.so_far(store).unwrap();
            assert_eq!(assembly.so_far(store).unwrap(), root);
            root.unwrap_or_default()
        }
        None => assembly.end(&ended()).unwrap().root,
    };
    done
}

/// All files of a tree, with their contents.
fn files(store: &Memory, root: &[ChunkRef], path: &mut Path, all: &mut BTreeMap<Path, Vec<u8>>) {
    for node in store.tree(root).unwrap() {
        path.push(String::from_utf8(node.name.clone()).unwrap());
        match &node.kind {
            NodeKind::Directory { content } => files(store, content, path, all),
            _ => assert!(all.insert(path.clone(), store.bytes(&node)).is_none()),
        }
        path.pop();
    }
}

fn checkpoint(seen: TreeSeen, compared_with: Option<TreeSeen>) -> Checkpoint {
    Checkpoint {
        format_version: 1,
        required_features: Vec::new(),
        repository: RepositoryId([0; 16]),
        sequence: 1,
        program: String::new(),
        source: "mail1".into(),
        host: "server".into(),
        snapshot: None,
        seen,
        compared_with,
    }
}

fn tree_of(fates: &[u8]) -> Tree {
    let mut tree = Tree::new();
    for (number, fate) in fates.iter().enumerate() {
        let name = format!("{number}.");
        let path = match number % 4 {
            0 => vec!["a".to_owned(), name],
            1 => vec!["b".to_owned(), "sub".to_owned(), name],
            2 => vec!["b".to_owned(), "top".to_owned(), "deep".to_owned(), name],
            _ => vec![name],
        };
        tree.insert(path, FATES[*fate as usize % FATES.len()]);
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn wherever_it_is_cut_off_the_next_pass_reads_what_is_left_and_has_everything(
        fates in proptest::collection::vec(any::<u8>(), 1..40),
        lots in any::<[u64; 3]>(),
        cuts in any::<[prop::sample::Index; 2]>(),
        has_parent in any::<bool>(),
        is_sealed in any::<bool>(),
        lost in any::<Option<prop::sample::Index>>(),
    ) {
        let tree = tree_of(&fates);
        let store = &mut Memory::default();
        let parent = has_parent.then(|| {
            let assembly = Assembly::new(Mode::Live, at(BEFORE), None);
            Base { root: pass(store, assembly, (&tree, Time::Snapshot), lots[0], None).root, clock: at(BEFORE) }
        });
        // It is cut off, goes on, and is cut off once more.
        let whole = |base: &Option<Base>| Assembly::new(Mode::Live, at(CUT), base.clone());
        let mut base = parent.clone();
        let mut read = BTreeSet::new();
        for (cut, lot) in cuts.iter().zip(&lots[1..]) {
            let aside = &mut store.clone();
            let messages = pass(aside, whole(&base), (&tree, Time::Cut), *lot, None).messages;
            let done = pass(store, whole(&base), (&tree, Time::Cut), *lot, Some(1 + cut.index(messages)));
            prop_assert!(done.read.is_disjoint(&read), "{:?} is read again", &done.read & &read);
            // Young ones are read each time.
            read.extend(done.read.into_iter().filter(|path| tree[path] != Fate::UnseenLater));
            let before = base.map(|base| TreeSeen { clock: base.clock, root: base.root });
            let checkpoint = checkpoint(TreeSeen { clock: at(CUT), root: done.root }, before);
            let parent = parent.as_ref().map(|parent| parent.root.as_slice()).filter(|_| is_sealed);
            base = Some(super::base(store, &checkpoint, parent).unwrap());
        }
        // A chunk is lost between the runs, and seen to be when the last of them begins.
        let lost = lost.filter(|_| !read.is_empty()).map(|index| read.iter().nth(index.index(read.len())).unwrap().clone());
        if let Some(path) = &lost {
            store.lose(&contents(path, tree[path].at(Time::Cut).unwrap().1));
            let Base { root, clock } = base.clone().unwrap();
            let checkpoint = checkpoint(TreeSeen { clock, root }, None);
            base = Some(super::base(store, &checkpoint, None).unwrap());
        }
        let done = pass(store, Assembly::new(Mode::Live, at(NOW), base), (&tree, Time::Now), lots[0], None);
        let mut all = BTreeMap::new();
        files(store, &done.root, &mut Vec::new(), &mut all);
        let now = |(path, fate): (&Path, &Fate)| Some((path.clone(), node_of(path, *fate, Time::Now)?.1));
        prop_assert_eq!(all, tree.iter().filter_map(now).collect::<BTreeMap<_, _>>());
        // Nothing is read that was read before and is known to be as it was.
        for path in &done.wanted {
            let fate = tree[path];
            let rests = has_parent && fate == Fate::Rests;
            let is_known = (read.contains(path) && fate != Fate::ChangedLater) || rests;
            prop_assert!(!is_known || lost.as_ref() == Some(path), "{path:?} {fate:?} is read again");
        }
    }
}

/// A clock that went back proves nothing of what was there before.
#[test]
fn with_a_clock_that_went_back_only_what_was_read_counts() {
    let store = &mut Memory::default();
    let tree = tree_of(&[0; 8]);
    let assembly = Assembly::new(Mode::Live, at(BEFORE), None);
    let before = pass(store, assembly, (&tree, Time::Snapshot), 1, None).root;
    let empty = crate::directory::put_empty(store).unwrap();
    for (clock, count) in [(BEFORE, 8), (BEFORE - 1, 0)] {
        let seen = TreeSeen { clock: at(clock), root: empty.clone() };
        let before = TreeSeen { clock: at(BEFORE), root: before.clone() };
        let base = base(store, &checkpoint(seen, Some(before)), None).unwrap();
        let mut all = BTreeMap::new();
        files(store, &base.root, &mut Vec::new(), &mut all);
        assert_eq!((all.len(), base.clock), (count, at(clock)));
    }
}

#[test]
fn a_checkpoint_of_another_machine_or_from_before_a_snapshot_says_nothing() {
    let seen = TreeSeen { clock: at(CUT), root: Vec::new() };
    let mut record = checkpoint(seen, None);
    assert!(fits(&record, "server", None) && !fits(&record, "other", None));
    assert!(!fits(&record, "server", Some(SnapshotId([1; 32]))));
    record.snapshot = Some(SnapshotId([1; 32]));
    assert!(fits(&record, "server", Some(SnapshotId([1; 32]))) && !fits(&record, "server", None));
    assert!(!fits(&record, "server", Some(SnapshotId([2; 32]))));
}
