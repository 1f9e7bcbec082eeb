//! A folder of the snapshot whose listing breaks off in the middle: what came before is restored, what is missing is
//! told, and nothing is removed in it, since nobody knows what belongs there (restic 4612).
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::sync::Arc;

use mailkeep_restorer::format::{ChunkRef, Node, NodeKind};
use mailkeep_restorer::{Found, MemoryContents, Next, RestoreOptions, Step, View, walk};
use support::*;
use tempfile::TempDir;

const FILES: usize = 400;

fn nodes(builder: &mut Builder, contents: &MemoryContents, count: usize) -> Vec<Node> {
    let file = |number: usize| {
        let bytes = format!("message {number}").into_bytes();
        let content = contents.put_file(&bytes, 1000);
        let kind = NodeKind::File { size: bytes.len() as u64, sparse: false, content };
        Node { name: format!("{number:05}.").into_bytes(), meta: builder.meta(0o640), kind }
    };
    (0..count).map(file).collect()
}

fn folder(builder: &mut Builder, name: &str, content: Vec<ChunkRef>) -> Node {
    Node { name: name.as_bytes().to_vec(), meta: builder.meta(0o755), kind: NodeKind::Directory { content } }
}

/// `/after` and `/large`, and the pieces in which the nodes of `/large` are stored.
fn snapshot() -> (Arc<MemoryContents>, View, Vec<ChunkRef>) {
    let contents = Arc::new(MemoryContents::default());
    let mut builder = Builder::default();
    let large = nodes(&mut builder, &contents, FILES);
    let pieces = contents.put_tree_in_pieces(&large, 3000).unwrap();
    assert!(pieces.len() > 5);
    let few = contents.put_tree(&large[..3]).unwrap();
    let root = [folder(&mut builder, "large", pieces.clone()), folder(&mut builder, "small", few)];
    let root = contents.put_tree(&root).unwrap();
    (Arc::clone(&contents), View::new(contents, root), pieces)
}

#[test]
fn what_came_before_is_restored_and_nothing_is_removed() {
    let (contents, view, pieces) = snapshot();
    contents.lose(&pieces[3]);
    let target = TempDir::new().unwrap();
    let file = |path: &str| target.path().join(path);
    for folder in ["large", "small"] {
        fs::create_dir(file(folder)).unwrap();
        for name in ["00001.", "00399.", "extra", ".mailkeep-part-0123456789abcdef-1f"] {
            fs::write(file(folder).join(name), b"old").unwrap();
        }
    }
    let mirror = RestoreOptions { delete: true, ..RestoreOptions::default() };
    let (_, shown) = steps(&view, target.path(), &mirror);
    let blocked = Step::Blocked("the rest of the folder cannot be read in the repository");
    assert!(shown.contains(&("/large".to_owned(), blocked)));
    let deleted: Vec<_> =
        shown.iter().filter(|(_, step)| *step == Step::Delete).map(|(path, _)| path).collect();
    assert_eq!(deleted, ["/small/.mailkeep-part-0123456789abcdef-1f", "/small/00399.", "/small/extra"]);

    let (done, problems) = restore(&view, target.path(), &mirror);
    assert_eq!(done.unwrap().deleted, 3);
    assert!(problems.len() == 1 && problems[0].starts_with("/large: the rest of the folder"), "{problems:?}");
    for name in ["00399.", "extra", ".mailkeep-part-0123456789abcdef-1f"] {
        assert_eq!(fs::read(file("large").join(name)).unwrap(), b"old", "{name}");
        assert!(!file("small").join(name).exists(), "{name}");
    }
    assert_eq!(fs::read(file("large/00001.")).unwrap(), b"message 1");
    let restored = fs::read_dir(file("large")).unwrap().count();
    assert!(restored > 20 && restored < FILES, "{restored}");
}

#[test]
fn one_that_cannot_even_begin_is_left_out_whole() {
    let (contents, view, pieces) = snapshot();
    contents.lose(&pieces[0]);
    let target = TempDir::new().unwrap();
    let (done, problems) = restore(&view, target.path(), &RestoreOptions::default());
    assert_eq!(done.unwrap().files, 3);
    assert!(problems.len() == 1 && problems[0].starts_with("/large: folder left out"), "{problems:?}");
    assert!(!target.path().join("large").exists());
}

#[test]
fn a_walk_tells_it_and_a_lookup_finds_what_comes_before() {
    let (contents, view, pieces) = snapshot();
    contents.lose(&pieces[3]);
    let (mut seen, mut unreadable) = (0, Vec::new());
    walk(&view, b"/", &mut |path, found| {
        match found {
            Found::Node(_) => seen += 1,
            Found::Unreadable(_) => unreadable.push(String::from_utf8_lossy(path).into_owned()),
        }
        Next::Descend
    })
    .unwrap();
    assert_eq!(unreadable, ["/large"]);
    assert!(seen > 20 && seen < FILES, "{seen}");
    assert!(walk(&view, b"/large", &mut |_, _| Next::Descend).is_err(), "never a short listing");
    assert_eq!(view.lookup(b"/large/00001.").unwrap().size(), 9);
    assert!(view.lookup(b"/large/00399.").unwrap_err().to_string().contains("/large"));
    assert!(view.lookup(b"/small/00002.").is_ok());
}
