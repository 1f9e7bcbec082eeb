//! Names of one inode are found wherever they lie, and nothing else is taken for one.

use mailkeep_format::{ContentHash, Meta, Timestamp};

use super::*;
use crate::assemble::tests::Memory;

const OLD: Timestamp = Timestamp { seconds: 100, nanos: 7 };
const NEW: Timestamp = Timestamp { seconds: 900, nanos: 0 };

fn message(store: &mut Memory, name: &str, inode: u64, links: u32, text: &[u8]) -> Node {
    let meta = Meta {
        mode: 0o600,
        inode,
        links,
        device: if links > 1 { 5 } else { 0 },
        mtime: OLD,
        ctime: if links > 1 { NEW } else { OLD },
        ..Meta::default()
    };
    let content = vec![store.put(&ContentHash::of(text), text).unwrap()];
    let kind = NodeKind::File { size: text.len() as u64, sparse: false, content };
    Node { name: name.as_bytes().to_vec(), meta, kind }
}

fn put(store: &mut Memory, nodes: &[Node]) -> Vec<ChunkRef> {
    let (mut encoder, mut chunks) = (TreeEncoder::new(), Vec::new());
    nodes.iter().for_each(|node| encoder.push(node).unwrap());
    encoder.finish();
    while let Some(chunk) = encoder.chunk() {
        chunks.push(store.put_tree_chunk(chunk).unwrap());
    }
    chunks
}

fn folder(store: &mut Memory, name: &str, nodes: &[Node]) -> Node {
    let content = put(store, nodes);
    let meta = Meta { inode: 1, links: 1, ..Meta::default() };
    Node { name: name.as_bytes().to_vec(), meta, kind: NodeKind::Directory { content } }
}

fn parted(nodes: &[&Node]) -> Parted {
    let mut parted = Parted::default();
    nodes.iter().for_each(|node| parted.add((*node).clone()));
    parted
}

/// `/rest/sub/1.`, alone as far as is known, and `/busy/2.`, of which this is said.
fn spool(store: &mut Memory, rest: &Node, busy: &Node) -> Vec<ChunkRef> {
    let other = message(store, "9.", 99, 1, b"other");
    let sub = folder(store, "sub", &[rest.clone(), other.clone()]);
    let (busy, rest) = (folder(store, "busy", std::slice::from_ref(busy)), folder(store, "rest", &[sub]));
    put(store, &[busy, rest])
}

fn at(store: &Memory, root: &[ChunkRef], path: &[&str]) -> Node {
    let mut content = root.to_vec();
    let mut found = None;
    for name in path {
        let nodes = store.tree(&content).unwrap();
        let node = nodes.into_iter().find(|node| node.name == name.as_bytes()).unwrap();
        content = node.content().to_vec();
        found = Some(node);
    }
    found.unwrap()
}

#[test]
fn the_name_in_a_folder_at_rest_becomes_a_link_again() {
    let mut store = Memory::default();
    let (rest, busy) = (message(&mut store, "1.", 77, 1, b"mail"), message(&mut store, "2.", 77, 2, b"mail"));
    let root = spool(&mut store, &rest, &busy);
    let (mended, names) = relink(&mut store, &root, &parted(&[&busy])).unwrap().unwrap();
    assert_eq!(names, 1);
    let now = at(&store, &mended, &["rest", "sub", "1."]);
    assert_eq!((now.meta, now.kind), (busy.meta.clone(), rest.kind));
    // Its neighbours are what they were, and another look finds nothing to do.
    assert_eq!(at(&store, &mended, &["busy"]), at(&store, &root, &["busy"]));
    assert_eq!(at(&store, &mended, &["rest", "sub", "9."]), at(&store, &root, &["rest", "sub", "9."]));
    assert!(relink(&mut store, &mended, &parted(&[&busy])).unwrap().is_none());
}

#[test]
fn what_only_looks_alike_is_left_alone() {
    let mut store = Memory::default();
    let busy = message(&mut store, "2.", 77, 2, b"mail");
    let mut others = [
        message(&mut store, "1.", 78, 1, b"mail"),
        message(&mut store, "1.", 77, 1, b"liam"),
        message(&mut store, "1.", 77, 1, b"longer"),
        message(&mut store, "1.", 77, 1, b"mail"),
        message(&mut store, "1.", 77, 2, b"mail"),
    ];
    others[3].meta.mtime.nanos += 1;
    // On another device, as is known of a name that has had links before.
    others[4].meta.device = 6;
    for (number, other) in others.iter().enumerate() {
        let root = spool(&mut store, other, &busy);
        assert!(relink(&mut store, &root, &parted(&[&busy])).unwrap().is_none(), "{number}");
    }
}

#[test]
fn more_names_than_the_file_has_are_no_names_of_it() {
    let mut store = Memory::default();
    let (rest, busy) = (message(&mut store, "1.", 77, 1, b"mail"), message(&mut store, "2.", 77, 2, b"mail"));
    let mut third = rest.clone();
    third.name = b"3.".to_vec();
    let (one, two) =
        (folder(&mut store, "a", &[rest, third]), folder(&mut store, "b", std::slice::from_ref(&busy)));
    let root = put(&mut store, &[one, two]);
    assert!(relink(&mut store, &root, &parted(&[&busy])).unwrap().is_none());
}

#[test]
fn the_latest_word_counts_and_all_names_take_it_over() {
    let mut store = Memory::default();
    let rest = message(&mut store, "1.", 77, 1, b"mail");
    let live = message(&mut store, "2.", 77, 2, b"mail");
    let mut last = message(&mut store, "3.", 77, 3, b"mail");
    last.meta.ctime.nanos += 1;
    let (one, two) = (folder(&mut store, "a", &[rest]), folder(&mut store, "b", std::slice::from_ref(&live)));
    let three = folder(&mut store, "c", std::slice::from_ref(&last));
    let root = put(&mut store, &[one, two, three]);
    let (mended, names) = relink(&mut store, &root, &parted(&[&live, &last])).unwrap().unwrap();
    assert_eq!(names, 2);
    for path in [["a", "1."], ["b", "2."], ["c", "3."]] {
        assert_eq!(at(&store, &mended, &path).meta, last.meta, "{path:?}");
    }
}

#[test]
fn of_two_devices_nobody_knows_which_is_meant() {
    let mut store = Memory::default();
    let (rest, one) = (message(&mut store, "1.", 77, 1, b"mail"), message(&mut store, "2.", 77, 2, b"mail"));
    let mut other = one.clone();
    other.meta.device = 6;
    let root = spool(&mut store, &rest, &one);
    assert!(relink(&mut store, &root, &parted(&[&one, &other])).unwrap().is_none());
}
