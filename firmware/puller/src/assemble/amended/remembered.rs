//! What an agent that was told to remember says of a whole tree: whatever it leaves out is as it was, so the tree that comes
//! of it, and all that is counted, are those of a listing of everything.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};

use super::super::tests::hint;
use super::*;

/// A directory: files by name, with the number of their state, and directories.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tree {
    files: BTreeMap<String, u32>,
    folders: BTreeMap<String, Tree>,
}

/// Something that happens somewhere.
#[derive(Clone, Debug)]
enum Event {
    Put(String, u32),
    Remove(String),
    /// A directory with so many files.
    Make(String, u32),
    RemoveFolder(usize),
    Empty,
}

fn name() -> impl Strategy<Value = String> {
    (0..900_u32).prop_map(|number| format!("{number}."))
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (name(), 1..4_u32).prop_map(|(name, state)| Event::Put(name, state)),
        6 => name().prop_map(Event::Remove),
        1 => ("[a-d]", 0..9_u32).prop_map(|(name, files)| Event::Make(name, files)),
        1 => any::<usize>().prop_map(Event::RemoveFolder),
        1 => Just(Event::Empty),
    ]
}

fn tree(depth: u32) -> BoxedStrategy<Tree> {
    let files = btree_map(name(), 0..1_u32, 0..60);
    if depth == 0 {
        return files.prop_map(|files| Tree { files, ..Tree::default() }).boxed();
    }
    let folders = btree_map("[a-f]", tree(depth - 1), 0..4);
    // Some are longer than a chunk or several of their trees.
    let many = prop_oneof![4 => Just(0_u32), 1 => 0..900_u32];
    (files, folders, many)
        .prop_map(|(mut files, folders, many)| {
            files.extend((0..many).map(|number| (format!("{number}."), 0)));
            Tree { files, folders }
        })
        .boxed()
}

impl Tree {
    /// What happens, in a directory that is chosen by `way`.
    fn change(&mut self, way: &[usize], event: &Event) {
        if let (Some((turn, way)), count @ 1..) = (way.split_first(), self.folders.len()) {
            // Now and then here, and not further down.
            if let Some(next) = self.folders.values_mut().nth(turn % (count + 1)) {
                return next.change(way, event);
            }
        }
        match event {
            Event::Put(name, state) => drop(self.files.insert(name.clone(), *state)),
            Event::Remove(name) => drop(self.files.remove(name)),
            Event::Make(name, count) => {
                let files = (0..*count).map(|number| (format!("{number}."), 1)).collect();
                self.folders.insert(name.clone(), Tree { files, ..Tree::default() });
            }
            Event::RemoveFolder(at) => {
                let at = at % self.folders.len().max(1);
                let name = self.folders.keys().nth(at).cloned();
                name.and_then(|name| self.folders.remove(&name));
            }
            Event::Empty => self.files.clear(),
        }
    }

    fn nodes(&self, other_than: Option<&Tree>) -> Vec<(Node, Vec<u8>)> {
        let mut nodes: Vec<(Node, Vec<u8>)> = Vec::new();
        for (name, state) in &self.files {
            if other_than.is_some_and(|before| before.files.get(name) == Some(state)) {
                continue;
            }
            let text = format!("{name} {state}");
            let mut node = file(name, text.len() as u64);
            node.meta.inode = u64::from(*state) * 10_000 + 7;
            nodes.push((node, text.into_bytes()));
        }
        for (name, below) in &self.folders {
            if other_than.is_none_or(|before| before.folders.get(name) != Some(below)) {
                nodes.push((folder(name), Vec::new()));
            }
        }
        nodes.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        nodes
    }

    /// Says all of it, or only what is another than before; the next directory gets the number after `last`.
    fn tell(&self, pass: &mut Pass<'_>, before: Option<&Tree>, place: Option<FileId>, last: &mut u32) {
        let directory = DirectoryId(*last);
        let told = self.nodes(before);
        let nodes: Vec<Node> = told.iter().map(|(node, _)| node.clone()).collect();
        let hints = nodes.iter().map(hint).collect();
        let (step, first) = if before.is_some() { (2, 1) } else { (1, 0) };
        let message = match (before, place) {
            (Some(before), Some(parent)) => {
                let files = before.files.keys().filter(|name| !self.files.contains_key(*name));
                let folders = before.folders.keys().filter(|name| !self.folders.contains_key(*name));
                let mut gone: Vec<Vec<u8>> =
                    files.chain(folders).map(|name| name.clone().into_bytes()).collect();
                gone.sort();
                ToBox::Amended(Amended { directory, parent, gone, nodes, hints })
            }
            _ => ToBox::Entries(Entries { directory, parent: place, first: 0, last: true, nodes, hints }),
        };
        for index in pass.tell(message).unwrap() {
            let (node, bytes) = &told[((index - first) / step) as usize];
            let file = FileId { directory, index };
            for number in pass.tell(chunks(file, 0, &[bytes])).unwrap() {
                pass.tell(data(file, number, bytes)).unwrap();
            }
            pass.tell(read(file, node.clone())).unwrap();
        }
        for (at, (node, _)) in told.iter().enumerate().filter(|(_, (node, _))| node.is_directory()) {
            *last += 1;
            let name = String::from_utf8(node.name.clone()).unwrap();
            let place = FileId { directory, index: at as u32 * step + first };
            let was = before_in(before, &name);
            self.folders[&name].tell(pass, was, Some(place), last);
        }
    }
}

fn before_in<'a>(before: Option<&'a Tree>, name: &str) -> Option<&'a Tree> {
    before.and_then(|before| before.folders.get(name))
}

fn pass<'a>(store: &'a mut Memory, base: &Assembled, remembered: bool) -> Pass<'a> {
    let assembly =
        Assembly::new(Mode::Final, at(2_000), Some(Base { root: base.root.clone(), clock: at(1_000) }));
    let assembly = if remembered { assembly.remembered(&base.tally) } else { assembly };
    Pass { assembly, store }
}

fn live(store: &mut Memory, tree: &Tree) -> Assembled {
    let mut live = Pass { assembly: Assembly::new(Mode::Live, at(1_000), None), store };
    tree.tell(&mut live, None, None, &mut 0);
    live.assembly.end(&ended()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_is_left_out_is_as_it_was(
        top in tree(2),
        events in vec((vec(any::<usize>(), 0..4), event()), 0..12),
    ) {
        // Below the root, which is always listed.
        let before = Tree { folders: BTreeMap::from([("spool".to_owned(), top)]), ..Tree::default() };
        let mut after = before.clone();
        for (way, event) in &events {
            after.folders.get_mut("spool").unwrap().change(way, event);
        }
        let mut store = Memory::default();
        let base = live(&mut store, &before);
        let mut listing = pass(&mut store, &base, false);
        after.tell(&mut listing, None, None, &mut 0);
        let listed = listing.assembly.end(&ended()).unwrap();
        let mut telling = pass(&mut store, &base, true);
        // Of the root all is said, of what is below it what is another.
        let spool = (&before.folders["spool"], &after.folders["spool"]);
        telling.tell(listing_of_spool()).unwrap();
        spool.1.tell(&mut telling, Some(spool.0), Some(id(0, 0)), &mut 1);
        let told = telling.assembly.end(&ended()).unwrap();
        prop_assert_eq!(&told.root, &listed.root);
        prop_assert!(told.unlisted > 0);
        let counts = |tally: &Tally| {
            (tally.files, tally.bytes, tally.directories, tally.files_seen, tally.bytes_seen, tally.files_changed)
        };
        prop_assert_eq!(counts(&told.tally), counts(&listed.tally));
    }
}

#[test]
fn a_few_names_of_a_long_folder_cost_a_few_chunks_of_its_tree() {
    let files: BTreeMap<String, u32> = (10_000..30_000).map(|number| (format!("{number}."), 0)).collect();
    let before = Tree { files, ..Tree::default() };
    let mut store = Memory::default();
    let whole = Tree { folders: BTreeMap::from([("spool".to_owned(), before.clone())]), ..Tree::default() };
    let base = live(&mut store, &whole);
    let mut after = before.clone();
    after.files.insert("20000.".to_owned(), 2);
    after.files.remove("29999.");
    let mut telling = pass(&mut store, &base, true);
    let root = listing_of_spool();
    telling.tell(root).unwrap();
    let puts = telling.store.tree_puts();
    after.tell(&mut telling, Some(&before), Some(id(0, 0)), &mut 1);
    let puts = telling.store.tree_puts() - puts;
    let chunks = store.tree(&base.root).unwrap()[0].content().len();
    assert!(chunks > 40 && puts <= 6, "{puts} of {chunks}");
}

fn listing_of_spool() -> ToBox {
    let (nodes, hints) = (vec![folder("spool")], vec![Hint::Descend]);
    ToBox::Entries(Entries { directory: DirectoryId(0), parent: None, first: 0, last: true, nodes, hints })
}

/// How it is refused.
fn refusal(mode: Mode, base: bool, parent: FileId, alter: impl FnOnce(&mut Amended)) -> String {
    let before = Tree { files: (1..9).map(|number| (format!("{number}."), 0)).collect(), ..Tree::default() };
    let whole = Tree { folders: BTreeMap::from([("spool".to_owned(), before)]), ..Tree::default() };
    let mut store = Memory::default();
    let live = live(&mut store, &whole);
    let base = base.then(|| Base { root: live.root.clone(), clock: at(1_000) });
    let assembly = Assembly::new(mode, at(2_000), base).remembered(&live.tally);
    let mut pass = Pass { assembly, store: &mut store };
    pass.tell(listing_of_spool()).unwrap();
    let mut amended =
        Amended { directory: DirectoryId(1), parent, gone: vec![], nodes: vec![], hints: vec![] };
    alter(&mut amended);
    match pass.tell(ToBox::Amended(amended)) {
        Err(PullError::Protocol(line)) => line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_left_out_of_what_the_base_does_not_have_nor_in_a_live_pass() {
    assert!(refusal(Mode::Final, false, id(0, 0), |_| ()).contains("another"));
    assert!(refusal(Mode::Live, true, id(0, 0), |_| ()).contains("is to be listed"));
    assert!(refusal(Mode::Final, true, id(0, 1), |_| ()).contains("does not name"));
}

#[test]
fn names_ascend_and_are_said_once() {
    let names = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
    let line = refusal(Mode::Final, true, id(0, 0), |amended| amended.gone = names(&["2.", "1."]));
    assert!(line.contains("ascending"), "{line}");
    let line = refusal(Mode::Final, true, id(0, 0), |amended| amended.gone = names(&["2.", "2."]));
    assert!(line.contains("twice"), "{line}");
    let line = refusal(Mode::Final, true, id(0, 0), |amended| {
        amended.gone = names(&["2."]);
        amended.nodes = vec![file("2.", 3)];
        amended.hints = vec![Hint::Message];
    });
    assert!(line.contains("gone and there"), "{line}");
    let line = refusal(Mode::Final, true, id(0, 0), |amended| {
        amended.nodes = vec![file("3.", 3), file("2.", 3)];
        amended.hints = vec![Hint::Message; 2];
    });
    assert!(line.contains("ascending"), "{line}");
}
