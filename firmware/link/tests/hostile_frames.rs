//! Every message survives its encoding, and nothing else gets through: no mutation of a frame, in either direction,
//! makes a decoder panic, and what it still accepts encodes to the very same bytes.

#![allow(clippy::unwrap_used)]

use mailkeep_format::{ContentHash, Meta, Node, NodeKind, Timestamp};
use mailkeep_link::frame::Frame;
use mailkeep_link::message::*;
use mailkeep_link::wire::Message;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn meta() -> impl Strategy<Value = Meta> {
    let xattrs = prop_oneof![
        3 => Just(Vec::new()),
        1 => vec(any::<u8>(), 0..40).prop_map(|value| vec![(b"user.a".to_vec(), value)]),
    ];
    (
        0u32..0o10000,
        any::<u32>(),
        any::<u32>(),
        timestamp(),
        timestamp(),
        any::<u64>(),
        1u32..4,
        any::<u64>(),
        xattrs,
    )
        .prop_map(|(mode, uid, gid, mtime, ctime, inode, links, device, xattrs)| Meta {
            mode,
            uid,
            gid,
            mtime,
            ctime,
            inode,
            links,
            device: if links > 1 { device } else { 0 },
            xattrs,
        })
}

fn file_kind() -> impl Strategy<Value = NodeKind> {
    (any::<u64>(), any::<bool>()).prop_map(|(size, sparse)| NodeKind::File { size, sparse, content: vec![] })
}

fn kind() -> impl Strategy<Value = NodeKind> {
    prop_oneof![
        file_kind(),
        Just(NodeKind::Directory { content: vec![] }),
        vec(1u8..=255, 1..30).prop_map(|target| NodeKind::Symlink { target }),
        Just(NodeKind::Fifo),
        Just(NodeKind::Socket),
        (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| NodeKind::CharDevice { major, minor }),
        (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| NodeKind::BlockDevice { major, minor }),
    ]
}

fn file_id() -> impl Strategy<Value = FileId> {
    (any::<u32>(), any::<u32>())
        .prop_map(|(directory, index)| FileId { directory: DirectoryId(directory), index })
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9.]{1,12}".prop_filter("plain", |name| name != "." && name != "..")
}

fn entries() -> impl Strategy<Value = Entries> {
    let names = btree_set(name(), 0..20);
    (names, vec((meta(), kind(), any::<bool>()), 20), 0u32..1000, any::<bool>(), file_id(), any::<bool>())
        .prop_map(|(names, parts, first, last, parent, root)| {
            let mut nodes = Vec::new();
            let mut hints = Vec::new();
            for (name, (meta, kind, other)) in names.into_iter().zip(parts) {
                let node = Node { name: name.into_bytes(), meta, kind };
                hints.push(match (node.is_directory(), node.is_file(), other) {
                    (true, _, true) => Hint::Descend,
                    (true, _, false) => Hint::Emptied,
                    (_, true, true) => Hint::Message,
                    _ => Hint::Plain,
                });
                nodes.push(node);
            }
            let directory = DirectoryId(if root { 0 } else { parent.index | 1 });
            Entries { directory, parent: (!root).then_some(parent), first, last, nodes, hints }
        })
}

fn unchanged() -> impl Strategy<Value = Unchanged> {
    (entries(), file_id()).prop_map(|(entries, parent)| {
        let Entries { directory, nodes, hints, .. } = entries;
        Unchanged { directory: DirectoryId(directory.0 | 1), parent, nodes, hints }
    })
}

fn amended() -> impl Strategy<Value = Amended> {
    (unchanged(), btree_set(name(), 0..9)).prop_map(|(unchanged, gone)| {
        let Unchanged { directory, parent, nodes, hints } = unchanged;
        let gone = gone.into_iter().map(String::into_bytes).collect();
        Amended { directory, parent, gone, nodes, hints }
    })
}

fn known() -> impl Strategy<Value = Known> {
    let entries = btree_set(name(), 0..5).prop_map(|names| {
        names.into_iter().zip(3u32..).map(|(name, place)| (place * 7, name.into_bytes())).collect::<Vec<_>>()
    });
    let folder = (vec(any::<u8>(), 0..60), any::<u64>(), timestamp(), timestamp(), entries)
        .prop_map(|(path, inode, mtime, ctime, entries)| KnownFolder { path, inode, mtime, ctime, entries });
    (timestamp(), vec(folder, 0..5)).prop_map(|(clock, folders)| Known { clock, folders })
}

fn to_box() -> impl Strategy<Value = ToBox> {
    let hello = (any::<u32>(), any::<u32>(), ".{0,20}")
        .prop_map(|(lowest, highest, program)| ToBox::Hello(Hello { lowest, highest, program }));
    let some_text = || proptest::option::of(".{0,20}");
    let lead = proptest::option::of(any::<u64>());
    let configured = (vec((".{0,8}", ".{0,8}"), 0..4), some_text(), any::<bool>(), some_text(), lead)
        .prop_map(|(versions, quiesce, rescued, rules, lead_millis)| {
            ToBox::Configured(Configured {
                host: "mail".into(),
                boot_id: "b".into(),
                versions,
                quiesce,
                roots: vec!["/var".into()],
                rescued,
                rules,
                lead_millis,
            })
        });
    let chunks = (file_id(), 0u32..100_000, vec((any::<[u8; 32]>(), 1u32..=1 << 20), 1..20)).prop_map(
        |(file, first, chunks)| {
            let chunks = chunks.into_iter().map(|(hash, length)| (ContentHash(hash), length)).collect();
            ToBox::Chunks(Chunks { file, first, chunks })
        },
    );
    let done = prop_oneof![
        Just(ReadOutcome::Vanished),
        ".{0,40}".prop_map(|why| ReadOutcome::Failed { why }),
        (meta(), file_kind(), any::<bool>()).prop_map(|(meta, kind, steady)| ReadOutcome::Read {
            node: Node { name: b"1.".to_vec(), meta, kind },
            steady
        }),
    ];
    prop_oneof![
        hello,
        configured,
        timestamp().prop_map(|clock| ToBox::PassBegun(PassBegun { clock })),
        entries().prop_map(ToBox::Entries),
        entries().prop_map(ToBox::Entries),
        unchanged().prop_map(ToBox::Unchanged),
        amended().prop_map(ToBox::Amended),
        chunks,
        (file_id(), any::<u32>(), vec(any::<u8>(), 1..300))
            .prop_map(|(file, chunk, bytes)| ToBox::Data(Data { file, chunk, bytes: bytes.into() })),
        (file_id(), done).prop_map(|(file, outcome)| ToBox::FileDone(FileDone { file, outcome })),
        (any::<u64>(), vec((any::<u32>(), ".{0,8}"), 0..9)).prop_map(|(bytes_read, users)| ToBox::PassEnded(
            PassEnded { bytes_read, groups: users.clone(), users }
        )),
        (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(stop_ms, export_ms, has_list)| {
            ToBox::Quiesced(Quiesced { stop_ms, export_ms, has_list })
        }),
        vec(".{0,30}", 0..5).prop_map(|moved| ToBox::Rechecked(Rechecked { moved })),
        (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(start_ms, window_ms, started_by_other)| {
            ToBox::Resumed(Resumed { start_ms, window_ms, started_by_other })
        }),
        (".{0,30}", ".{0,30}", any::<bool>()).prop_map(|(what, path, missing)| ToBox::Problem(Problem {
            what,
            path,
            missing
        })),
        (".{0,30}", ".{0,30}", any::<u8>()).prop_map(|(what, hint, exit_code)| ToBox::Failed(Failed {
            what,
            hint,
            exit_code
        })),
        Just(ToBox::Alive),
        (any::<bool>(), ".{0,30}", any::<u64>(), any::<u64>())
            .prop_map(|(able, why, bytes, millis)| ToBox::Prepared(Prepared { able, why, bytes, millis })),
        (any::<bool>(), ".{0,30}", any::<[u64; 3]>(), vec(".{0,30}", 0..5)).prop_map(
            |(whole, why, [millis, files, bytes], moved)| {
                ToBox::Frozen(Frozen { whole, why, millis, files, bytes, moved })
            }
        ),
    ]
}

fn to_agent() -> impl Strategy<Value = ToAgent> {
    let list = || (0u32..1000, btree_set(1000u32..9_000_000, 0..30));
    prop_oneof![
        (any::<u32>(), any::<u32>(), ".{0,20}")
            .prop_map(|(lowest, highest, program)| ToAgent::Hello(Hello { lowest, highest, program })),
        ".{0,200}".prop_map(|source| ToAgent::Configure(Configure { source })),
        (any::<u32>(), any::<bool>())
            .prop_map(|(number, is_final)| ToAgent::BeginPass(BeginPass { number, is_final })),
        (any::<u32>(), list()).prop_map(|(directory, (first, files))| ToAgent::Want(Want {
            directory: DirectoryId(directory),
            first,
            files: files.into_iter().collect()
        })),
        (file_id(), list()).prop_map(|(file, (first, chunks))| ToAgent::Need(Need {
            file,
            first,
            chunks: chunks.into_iter().collect()
        })),
        any::<u32>().prop_map(|deadline_seconds| ToAgent::Quiesce(Quiesce { deadline_seconds })),
        Just(ToAgent::Recheck),
        Just(ToAgent::Resume),
        Just(ToAgent::Alive),
        Just(ToAgent::Goodbye),
        known().prop_map(ToAgent::Known),
        any::<bool>().prop_map(|on| ToAgent::Squeeze(Squeeze { on })),
        Just(ToAgent::Prepare),
        Just(ToAgent::Remember),
        Just(ToAgent::Unasked),
        any::<u32>().prop_map(|deadline_seconds| ToAgent::Freeze(Quiesce { deadline_seconds })),
    ]
}

/// What damage or malice may do to a payload.
#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Cut(usize),
    Insert(usize, u8),
    Append(Vec<u8>),
    Kind(u8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        2 => any::<usize>().prop_map(Mutation::Cut),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        1 => vec(any::<u8>(), 1..8).prop_map(Mutation::Append),
        1 => any::<u8>().prop_map(Mutation::Kind),
    ]
}

fn mutate(mut frame: Frame, mutations: Vec<Mutation>) -> Frame {
    for mutation in mutations {
        let length = frame.payload.len();
        match mutation {
            Mutation::Set(at, byte) if length > 0 => frame.payload[at % length] = byte,
            Mutation::Set(..) => {}
            Mutation::Cut(at) => frame.payload.truncate(at % (length + 1)),
            Mutation::Insert(at, byte) => frame.payload.insert(at % (length + 1), byte),
            Mutation::Append(bytes) => frame.payload.extend(bytes),
            Mutation::Kind(kind) => frame.kind = kind,
        }
    }
    frame
}

fn still_canonical<M: Message>(frame: &Frame) -> Result<(), TestCaseError> {
    if let Ok(message) = M::decode(frame) {
        prop_assert_eq!(&message.encode().unwrap(), frame);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_agent_says_survives(message in to_box()) {
        prop_assert_eq!(ToBox::decode(&message.encode().unwrap()).unwrap(), message);
    }

    #[test]
    fn what_the_box_says_survives(message in to_agent()) {
        prop_assert_eq!(ToAgent::decode(&message.encode().unwrap()).unwrap(), message);
    }

    #[test]
    fn a_mutated_frame_of_the_agent_is_refused_or_canonical(
        message in to_box(), mutations in vec(mutation(), 1..4),
    ) {
        still_canonical::<ToBox>(&mutate(message.encode().unwrap(), mutations))?;
    }

    #[test]
    fn a_mutated_frame_of_the_box_is_refused_or_canonical(
        message in to_agent(), mutations in vec(mutation(), 1..4),
    ) {
        still_canonical::<ToAgent>(&mutate(message.encode().unwrap(), mutations))?;
    }

    #[test]
    fn random_bytes_are_refused_or_canonical(kind in any::<u8>(), payload in vec(any::<u8>(), 0..200)) {
        still_canonical::<ToBox>(&Frame { kind, payload: payload.clone() })?;
        still_canonical::<ToAgent>(&Frame { kind, payload })?;
    }
}

#[test]
fn directions_are_not_mixed_up() {
    let to_agent = ToAgent::Resume.encode().unwrap();
    let to_box = ToBox::Alive.encode().unwrap();
    assert!(ToBox::decode(&to_agent).is_err());
    assert!(ToAgent::decode(&to_box).is_err());
}

#[test]
fn a_name_that_leads_elsewhere_is_none() {
    let time = Timestamp { seconds: 1, nanos: 0 };
    let parent = FileId { directory: DirectoryId(0), index: 0 };
    let known = |name: &[u8]| {
        let entries = vec![(0, name.to_vec())];
        let folder = KnownFolder { path: b"/srv".to_vec(), inode: 1, mtime: time, ctime: time, entries };
        ToAgent::Known(Known { clock: time, folders: vec![folder] }).encode().unwrap()
    };
    let gone = |name: &[u8]| {
        let gone = vec![name.to_vec()];
        let amended = Amended { directory: DirectoryId(1), parent, gone, nodes: vec![], hints: vec![] };
        ToBox::Amended(amended).encode().unwrap()
    };
    assert!(ToAgent::decode(&known(b"1.")).is_ok() && ToBox::decode(&gone(b"1.")).is_ok());
    for name in ["", ".", "..", "/", "a/b", "../1.", "/etc/shadow", "a\0"] {
        assert!(ToAgent::decode(&known(name.as_bytes())).is_err(), "{name:?}");
        assert!(ToBox::decode(&gone(name.as_bytes())).is_err(), "{name:?}");
    }
}

#[test]
fn an_agent_cannot_name_stored_chunks() {
    let node = Node {
        name: b"1.".to_vec(),
        meta: Meta { links: 1, ..Meta::default() },
        kind: NodeKind::File {
            size: 1,
            sparse: false,
            content: vec![mailkeep_format::ChunkRef { id: mailkeep_format::ChunkId([1; 24]), length: 1 }],
        },
    };
    let file = FileId { directory: DirectoryId(0), index: 0 };
    let done = ToBox::FileDone(FileDone { file, outcome: ReadOutcome::Read { node, steady: true } });
    assert!(ToBox::decode(&done.encode().unwrap()).is_err());
}

#[test]
fn declared_counts_do_not_allocate() {
    // Entries with a count of 2^32 - 1 and nothing behind it; Chunks alike.
    for (kind, payload) in [
        (132, vec![0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        (133, vec![0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        (133, vec![0, 0, 0, 0]),
        (134, vec![0, 0, 0]),
    ] {
        assert!(ToBox::decode(&Frame { kind, payload }).is_err(), "{kind}");
    }
}
