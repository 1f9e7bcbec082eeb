//! Property: an honest conversation that was garbled (frames lost, doubled, swapped, altered) either ends with a protocol
//! error or yields a tree in which every reference leads to bytes that came over the link. It never panics and gives
//! back all memory that it counted.

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::{Memory, at, chunks, data, ended, file, folder, id, listing, read};
use super::*;
use mailkeep_link::wire::Message;

/// How one message is altered.
#[derive(Clone, Debug)]
enum Garble {
    Lose(usize),
    Double(usize),
    Swap(usize, usize),
    Number(usize, u32),
    Bytes(usize, u8),
}

fn garble() -> impl Strategy<Value = Garble> {
    let place = 0..60_usize;
    prop_oneof![
        place.clone().prop_map(Garble::Lose),
        place.clone().prop_map(Garble::Double),
        (place.clone(), place.clone()).prop_map(|(one, other)| Garble::Swap(one, other)),
        (place.clone(), prop_oneof![0..4_u32, Just(u32::MAX)])
            .prop_map(|(at, number)| Garble::Number(at, number)),
        (place, any::<u8>()).prop_map(|(at, byte)| Garble::Bytes(at, byte)),
    ]
}

/// The conversation about a first backup: `shape` has the number of files of each directory, each directory lies in
/// the one before. All contents differ, so that everything is wanted and needed.
fn honest(shape: &[u8]) -> Vec<ToBox> {
    let mut messages = Vec::new();
    for (depth, files) in shape.iter().enumerate() {
        let directory = depth as u32;
        let mut nodes: Vec<Node> = Vec::new();
        let deeper = depth + 1 < shape.len();
        if deeper {
            nodes.push(folder("a"));
        }
        nodes.extend((0..*files).map(|number| file(&format!("f{number}"), 4)));
        let parent = (depth > 0).then(|| id(directory - 1, 0));
        messages.push(listing(directory, parent, nodes.clone()));
        for (index, node) in nodes.into_iter().enumerate().filter(|(_, node)| node.is_file()) {
            let file = id(directory, index as u32);
            let pieces: [&[u8]; 2] = [&[depth as u8, index as u8], &[depth as u8 | 0x80, index as u8]];
            messages.push(chunks(file, 0, &pieces));
            messages.push(data(file, 0, pieces[0]));
            messages.push(data(file, 1, pieces[1]));
            messages.push(read(file, node));
        }
    }
    messages
}

fn alter(messages: &mut Vec<ToBox>, garble: &Garble) {
    let count = messages.len();
    match garble {
        Garble::Lose(at) => {
            messages.remove(at % count);
        }
        Garble::Double(at) => messages.insert(at % count, messages[at % count].clone()),
        Garble::Swap(one, other) => messages.swap(one % count, other % count),
        Garble::Number(at, number) => match &mut messages[at % count] {
            ToBox::Entries(entries) if number % 2 == 0 => entries.first = *number,
            ToBox::Entries(entries) => entries.directory = DirectoryId(*number),
            ToBox::Chunks(chunks) if number % 2 == 0 => chunks.first = *number,
            ToBox::Chunks(chunks) => chunks.file.index = *number,
            ToBox::Data(data) if number % 2 == 0 => data.chunk = *number,
            ToBox::Data(data) => data.file.directory = DirectoryId(*number),
            ToBox::FileDone(done) => done.file.index = *number,
            _ => {}
        },
        Garble::Bytes(at, byte) => match &mut messages[at % count] {
            ToBox::Entries(entries) => {
                if let Some(node) = entries.nodes.last_mut() {
                    node.name.push(*byte);
                }
            }
            ToBox::Chunks(chunks) => {
                if let Some((hash, length)) = chunks.chunks.first_mut() {
                    if byte % 2 == 0 { hash.0[0] ^= byte | 1 } else { *length = u32::from(*byte) }
                }
            }
            ToBox::Data(data) => data.bytes = [&data.bytes[..], &[*byte]].concat().into(),
            ToBox::FileDone(done) => done.outcome = ReadOutcome::Vanished,
            _ => {}
        },
    }
}

/// Every file's chunks are in the store, with the lengths that the tree says.
fn check(store: &mut Memory, content: &[ChunkRef]) -> u64 {
    let mut files = 0;
    for node in store.tree(content).unwrap() {
        if node.is_directory() {
            files += check(store, node.content());
        } else {
            files += 1;
            let found: u64 = node.content().iter().map(|chunk| store.length(chunk)).sum();
            assert_eq!(found, node.size());
        }
    }
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_garbled_conversation_is_refused_or_yields_a_sound_tree(
        shape in vec(0..4_u8, 1..5),
        garbles in vec(garble(), 0..4),
        is_final: bool,
    ) {
        let mut messages = honest(&shape);
        for garble in &garbles {
            if !messages.is_empty() {
                alter(&mut messages, garble);
            }
        }
        let mut store = Memory::default();
        let mut assembly = Assembly::new(if is_final { Mode::Final } else { Mode::Live }, at(1), None);
        let mut answers = Vec::new();
        for message in messages {
            // Over the wire, as in the real thing: what its decoder refuses never reaches the assembly.
            let Ok(message) = message.encode().and_then(|frame| ToBox::decode(&frame)) else {
                prop_assert!(!garbles.is_empty());
                return Ok(());
            };
            if let Err(error) = assembly.take(message, &mut store, &mut answers) {
                prop_assert!(matches!(error, PullError::Protocol(_)), "{error:?}");
                prop_assert!(!garbles.is_empty(), "{error}");
                return Ok(());
            }
        }
        let left = (assembly.held.bytes(), assembly.in_flight.len());
        match assembly.end(&ended()) {
            Ok(done) => {
                prop_assert_eq!(left, (0, 0));
                prop_assert_eq!(check(&mut store, &done.root), done.tally.files);
                if garbles.is_empty() {
                    prop_assert_eq!(done.tally.files, shape.iter().map(|files| u64::from(*files)).sum::<u64>());
                }
            }
            Err(error) => {
                prop_assert!(matches!(error, PullError::Protocol(_)));
                prop_assert!(!garbles.is_empty());
            }
        }
    }
}
