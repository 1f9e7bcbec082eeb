//! The read-only view: lookup, ranges, walks and differences, compared with what was put in.

#![allow(clippy::unwrap_used)]

mod support;

use mailkeep_format::NodeKind;
use mailkeep_restorer::{Change, Found, Looked, Next, RestoreError, What, diff, walk};
use support::Builder;

#[test]
fn any_range_of_a_file_is_what_was_stored() {
    let mut snapshot = Builder::default();
    let bytes: Vec<u8> = (0..25_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    snapshot.file("/f", &bytes);
    let view = snapshot.view();
    let file = view.open(b"/f", &view.lookup(b"/f").unwrap());
    for offset in [0, 1, 9_999, 10_000, 10_001, 24_999, 25_000, 30_000, u64::MAX] {
        for length in [0, 1, 2, 9_999, 10_000, 20_001, 40_000] {
            let from = (offset as usize).min(bytes.len());
            let to = from.saturating_add(length).min(bytes.len());
            assert!(file.read_at(offset, length).unwrap() == bytes[from..to], "{offset} {length}");
        }
    }
}

#[test]
fn lookup_names_what_is_missing() {
    let mut snapshot = Builder::default();
    snapshot.file("/a/b/c", b"x");
    snapshot.node("/a/link", NodeKind::Symlink { target: b"b".to_vec() });
    let view = snapshot.view();
    assert!(view.lookup(b"/").unwrap().is_directory());
    assert_eq!(view.lookup(b"/a/b/c").unwrap().size(), 1);
    let error = |path: &[u8]| view.lookup(path).unwrap_err().to_string();
    assert_eq!(error(b"/a/x/y"), "/a/x is not in the snapshot; `ls` shows what is");
    assert_eq!(error(b"/a/b/c/d"), "/a/b/c is not a folder in the snapshot");
    assert_eq!(error(b"/a/link/c"), "/a/link is not a folder in the snapshot");
}

#[test]
fn a_walk_visits_everything_once_in_order_and_passes_over_what_it_is_told_to() {
    let mut snapshot = Builder::default();
    for path in ["/a/1", "/a/2", "/b/c/3", "/b/d/4", "/e"] {
        snapshot.file(path, b"x");
    }
    let view = snapshot.view();
    let mut seen = Vec::new();
    walk(&view, b"/", &mut |path, found| {
        assert!(matches!(found, Found::Node(_)));
        seen.push(String::from_utf8_lossy(path).into_owned());
        if path == b"/b/c" { Next::Pass } else { Next::Descend }
    })
    .unwrap();
    assert_eq!(seen, ["/a", "/a/1", "/a/2", "/b", "/b/c", "/b/d", "/b/d/4", "/e"]);
    snapshot.contents.lose(&snapshot.view().lookup(b"/b/c").unwrap().content()[0]);
    let mut unreadable = 0;
    let fresh = snapshot.view();
    snapshot.contents.lose(&fresh.lookup(b"/b/c").unwrap().content()[0]);
    walk(&fresh, b"/", &mut |path, found| {
        if let Found::Unreadable(error) = found {
            assert_eq!((path, error.to_string().as_str()), (&b"/b/c"[..], "cannot read /b/c"));
            unreadable += 1;
        }
        Next::Descend
    })
    .unwrap();
    assert_eq!(unreadable, 1);
}

#[test]
fn differences_are_found_and_told_apart() {
    let mut snapshot = Builder::default();
    for path in ["/same/deep/file", "/d/gone/1", "/d/gone/2", "/d/content", "/d/meta", "/d/kind"] {
        snapshot.file(path, b"before");
    }
    let old = snapshot.view();
    snapshot.remove("/d/gone/1");
    snapshot.remove("/d/gone/2");
    snapshot.remove("/d/gone");
    let keep = |snapshot: &mut Builder, path: &str, bytes: &[u8]| {
        let meta = old.lookup(path.as_bytes()).unwrap().meta;
        snapshot.file(path, bytes);
        snapshot.change(path, |new| *new = meta);
    };
    keep(&mut snapshot, "/d/content", b"after!");
    snapshot.change("/d/meta", |meta| meta.mode = 0o600);
    snapshot.node("/d/kind", NodeKind::Fifo);
    snapshot.file("/d/new", b"x");
    let new = snapshot.view();
    let mut found = Vec::new();
    let mut note = |change: &Change| {
        found.push((String::from_utf8_lossy(&change.path).into_owned(), change.folder, change.what));
    };
    let mut looks = Vec::new();
    diff(&old, &new, b"/", &mut note, &mut |looked| looks.push(looked)).unwrap();
    let expected = [
        ("/d/content", false, What::Content),
        ("/d/gone", true, What::Removed),
        ("/d/gone/1", false, What::Removed),
        ("/d/gone/2", false, What::Removed),
        ("/d/kind", false, What::Kind),
        ("/d/meta", false, What::Metadata),
        ("/d/new", false, What::Added),
    ];
    assert_eq!(found, expected.map(|(path, folder, what)| (path.to_owned(), folder, what)));
    found = Vec::new();
    let mut none = |change: &Change| found.push((format!("{change:?}"), false, What::Added));
    diff(&old, &old, b"/", &mut none, &mut |_| {}).unwrap();
    assert!(found.is_empty());
    let missing = diff(&old, &new, b"/nowhere", &mut |_| {}, &mut |_| {});
    assert!(matches!(missing, Err(RestoreError::NotFound { .. })));
    // Of the tree only /d differs, and in it the folder that is gone.
    assert_eq!(looks.last(), Some(&Looked { names: 10, done: 1, total: 1 }));
}

#[test]
fn a_comparison_knows_how_far_it_is() {
    let mut snapshot = Builder::default();
    for folder in 0..300 {
        snapshot.file(&format!("/var/spool/user{folder}/INBOX/1."), b"before");
    }
    snapshot.file("/etc/conf", b"before");
    let old = snapshot.view();
    for folder in 0..150 {
        snapshot.file(&format!("/var/spool/user{folder}/INBOX/2."), b"new");
    }
    let mut looks = Vec::new();
    let mut changes = 0;
    diff(&old, &snapshot.view(), b"/", &mut |_| changes += 1, &mut |looked| looks.push(looked)).unwrap();
    assert!(changes >= 150, "{changes}");
    let (first, last) = (looks[0], looks[looks.len() - 1]);
    assert_eq!((first.done, first.total, last.done, last.total), (0, 150, 150, 150));
    assert!(looks.windows(2).all(|two| two[0].done <= two[1].done && two[0].names <= two[1].names));
    assert!(looks.iter().any(|looked| looked.done == 75), "it goes in one leap");
}
