//! What an agent says of a folder in which a few names came and went: the tree that comes of it is that of a listing, and
//! what it may not say is refused.

use proptest::collection::btree_map;
use proptest::prelude::*;

use super::tests::{Memory, at, chunks, data, ended, file, folder, id, read};
use super::*;

/// What becomes of a name between the live and the final pass.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Kept,
    Gone,
    New,
    Changed,
    /// Told of, and as it was.
    Touched,
    /// Came and went.
    Passed,
    /// No write-once file, kept or changed.
    Other(bool),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        20 => Just(Fate::Kept),
        2 => Just(Fate::Gone),
        2 => Just(Fate::New),
        1 => Just(Fate::Changed),
        1 => Just(Fate::Touched),
        1 => Just(Fate::Passed),
        1 => any::<bool>().prop_map(Fate::Other),
    ]
}

fn node(number: u32, changed: bool) -> (Node, Vec<u8>) {
    let text = format!("{number} {changed}");
    let mut node = file(&format!("{number}."), text.len() as u64);
    node.meta.inode = number.into();
    if changed {
        node.meta.ctime = at(1_900);
    }
    (node, text.into_bytes())
}

fn hint(fate: Fate) -> Hint {
    if matches!(fate, Fate::Other(_)) { Hint::Plain } else { Hint::Message }
}

struct Pass<'a> {
    assembly: Assembly,
    store: &'a mut Memory,
}

impl Pass<'_> {
    fn tell(&mut self, message: ToBox) -> Result<Vec<u32>, PullError> {
        let mut answers = Vec::new();
        self.assembly.take(message, self.store, &mut answers)?;
        Ok(match answers.as_slice() {
            [ToAgent::Want(want)] => want.files.clone(),
            [ToAgent::Need(need)] => need.chunks.clone(),
            _ => Vec::new(),
        })
    }

    /// Says something of the folder, and sends what is wanted of it; `nodes` by the indices that they have.
    fn whole(&mut self, message: ToBox, nodes: &[(u32, Node, Vec<u8>)]) -> Result<(), PullError> {
        for index in self.tell(message)? {
            let (_, node, bytes) = nodes.iter().find(|(at, ..)| *at == index).unwrap();
            for number in self.tell(chunks(id(1, index), 0, &[bytes]))? {
                self.tell(data(id(1, index), number, bytes))?;
            }
            self.tell(read(id(1, index), node.clone()))?;
        }
        Ok(())
    }

    fn root(&mut self, changed: bool) -> Result<(), PullError> {
        let mut node = folder("d");
        if changed {
            (node.meta.mtime, node.meta.ctime) = (at(1_950), at(1_950));
        }
        let (nodes, hints) = (vec![node], vec![Hint::Descend]);
        let root = Entries { directory: DirectoryId(0), parent: None, first: 0, last: true, nodes, hints };
        self.tell(ToBox::Entries(root)).map(drop)
    }
}

/// Lists the folder as it is under these fates, before or after they came.
fn list(pass: &mut Pass<'_>, names: &[(u32, Fate)], after: bool) -> Result<(), PullError> {
    let here = names.iter().filter(|(_, fate)| match fate {
        Fate::Gone => !after,
        Fate::New => after,
        Fate::Passed => false,
        _ => true,
    });
    let listed: Vec<(u32, Node, Vec<u8>)> = here
        .clone()
        .zip(0..)
        .map(|((number, fate), index)| {
            let (node, bytes) = node(*number, after && matches!(fate, Fate::Changed | Fate::Other(true)));
            (index, node, bytes)
        })
        .collect();
    let nodes = listed.iter().map(|(_, node, _)| node.clone()).collect();
    let hints = here.map(|(_, fate)| hint(*fate)).collect();
    let (directory, parent) = (DirectoryId(1), Some(id(0, 0)));
    pass.whole(ToBox::Entries(Entries { directory, parent, first: 0, last: true, nodes, hints }), &listed)
}

/// What an agent with a journal says of it.
fn amend(names: &[(u32, Fate)]) -> (Amended, Vec<(u32, Node, Vec<u8>)>) {
    let (mut gone, mut listed, mut hints) = (Vec::new(), Vec::new(), Vec::new());
    for (number, fate) in names {
        let (node, bytes) = node(*number, matches!(fate, Fate::Changed | Fate::Other(true)));
        match fate {
            Fate::Kept => {}
            Fate::Gone | Fate::Passed => gone.push(node.name),
            _ => {
                listed.push((2 * listed.len() as u32 + 1, node, bytes));
                hints.push(hint(*fate));
            }
        }
    }
    let nodes = listed.iter().map(|(_, node, _)| node.clone()).collect();
    (Amended { directory: DirectoryId(1), parent: id(0, 0), gone, nodes, hints }, listed)
}

/// A live pass over the folder before, and a final one that has just entered it; what is known is told or not.
fn entered<'a>(store: &'a mut Memory, names: &[(u32, Fate)], mode: Mode, tell: bool) -> Pass<'a> {
    let mut live = Pass { assembly: Assembly::new(Mode::Live, at(1_000), None), store };
    live.root(false).unwrap();
    list(&mut live, names, false).unwrap();
    let Pass { assembly, store } = live;
    let done = assembly.end(&ended()).unwrap();
    let base = Base { root: done.root, clock: at(1_000) };
    let assembly = Assembly::new(mode, at(2_000), Some(base));
    let assembly = if tell { assembly.knowing(done.known) } else { assembly };
    let mut pass = Pass { assembly, store };
    pass.root(true).unwrap();
    pass
}

/// Names as they are sorted, with messages enough for the folder to be worth knowing.
fn sorted(fates: impl IntoIterator<Item = (u32, Fate)>) -> Vec<(u32, Fate)> {
    let mut names: Vec<(u32, Fate)> = fates.into_iter().collect();
    names.extend((5_000..5_004).map(|number| (number, Fate::Kept)));
    names.sort_by_key(|(number, _)| format!("{number}."));
    names
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_of_a_changed_folder_makes_the_tree_of_its_listing(
        fates in btree_map(1..4_000_u32, fate(), 0..400),
    ) {
        let names = sorted(fates);
        let mut store = Memory::default();
        let mut listing = entered(&mut store, &names, Mode::Final, true);
        list(&mut listing, &names, true).unwrap();
        let listed = listing.assembly.end(&ended()).unwrap();
        let mut amending = entered(&mut store, &names, Mode::Final, true);
        let (amended, nodes) = amend(&names);
        amending.whole(ToBox::Amended(amended), &nodes).unwrap();
        let amended = amending.assembly.end(&ended()).unwrap();
        prop_assert_eq!(&amended.root, &listed.root);
        prop_assert_eq!(amended.tally.moved, listed.tally.moved);
        prop_assert_eq!(
            (amended.tally.files, amended.tally.bytes, amended.tally.files_seen, amended.tally.files_changed),
            (listed.tally.files, listed.tally.bytes, listed.tally.files_seen, listed.tally.files_changed)
        );
        prop_assert_eq!((amended.unlisted, listed.unlisted), (1, 0));
    }
}

/// A tree: the root has folders, of which each has messages, a file that may change, and perhaps a folder below.
mod remembered;

/// How it is refused.
#[track_caller]
fn refusal(mode: Mode, tell: bool, alter: impl FnOnce(&mut Amended)) -> String {
    let names = sorted([(1, Fate::Kept), (2, Fate::Other(true)), (3, Fate::New), (4, Fate::Gone)]);
    let mut store = Memory::default();
    let mut pass = entered(&mut store, &names, mode, tell);
    let (mut amended, _) = amend(&names);
    alter(&mut amended);
    match pass.tell(ToBox::Amended(amended)) {
        Err(PullError::Protocol(line)) => line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_of_a_folder_that_it_was_told_of_may_an_agent_say_so_and_only_at_last() {
    assert!(refusal(Mode::Final, false, |_| ()).contains("not known"));
    assert!(refusal(Mode::Live, true, |_| ()).contains("is to be listed"));
}

#[test]
fn what_may_have_changed_must_not_be_left_out() {
    let line = refusal(Mode::Final, true, |amended| {
        let at = amended.hints.iter().position(|hint| *hint == Hint::Plain).unwrap();
        amended.nodes.remove(at);
        amended.hints.remove(at);
    });
    assert!(line.contains("left out"), "{line}");
}

#[test]
fn it_names_no_chunks_and_as_many_hints_as_nodes() {
    let line = refusal(Mode::Final, true, |amended| {
        amended.hints.pop();
    });
    assert!(line.contains("hints"), "{line}");
    let line = refusal(Mode::Final, true, |amended| {
        let chunk = ChunkRef { id: mailkeep_format::ChunkId([7; 24]), length: 1 };
        amended.nodes[0].kind = NodeKind::File { size: 1, sparse: false, content: vec![chunk] };
    });
    assert!(line.contains("chunks of its own"), "{line}");
}
