//! What is written is read back, compared with naive models.

#![allow(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

mod support;

use std::collections::BTreeMap;

use mailkeep_format::block::{BlockCompressor, Method, open_block};
use mailkeep_format::keys::{self, Identity, Master};
use mailkeep_format::node::{Meta, Node, NodeKind, decode_tree, encode_tree};
use mailkeep_format::pack::{BlockInfo, PackBuilder, PackFooter};
use mailkeep_format::run::{Location, RunEncoder, RunEntry, RunPack, RunReader, encode_run};
use mailkeep_format::{
    ChunkId, ChunkKind, ChunkRef, KeyError, Manifest, PackId, Recipient, Salt, Timestamp, limits,
};
use proptest::prelude::*;
use support::*;

#[test]
fn a_key_file_opens_for_every_recipient_and_gives_the_same_keys() {
    let (box_key, recovery) = (Identity::generate(), Identity::generate());
    let master = Master::generate().unwrap();
    let file = keys::wrap_checked(&master, &REPOSITORY, &[&box_key, &recovery]).unwrap();
    let id = |keys: &mailkeep_format::Keys| {
        keys.id.chunk_id(ChunkKind::Data, &mailkeep_format::ContentHash::of(b"x"))
    };
    for text in [box_key.to_text(), recovery.to_text()] {
        let identity = Identity::parse(&format!("# created\n\n{}\n", *text)).unwrap();
        let opened = keys::unwrap(&file, &identity, &REPOSITORY).unwrap();
        assert_eq!(id(&opened.keys()), id(&master.keys()));
        let recipient = identity.recipient().to_string();
        assert_eq!(recipient.parse::<Recipient>().unwrap(), identity.recipient());
    }
    let plain = keys::wrap_plain(&master, &REPOSITORY);
    assert_eq!(id(&keys::unwrap_plain(&plain, &REPOSITORY).unwrap().keys()), id(&master.keys()));
    assert_eq!(keys::wrap(&master, &REPOSITORY, &[]).err(), Some(KeyError::NoRecipient));
    assert!(Identity::parse(&recovery.recipient().to_string()).is_err());
    assert!(Identity::parse(&format!("{}\n{}", *box_key.to_text(), *recovery.to_text())).is_err());
}

#[test]
fn a_block_that_does_not_shrink_is_stored() {
    let mut compressor = BlockCompressor::new(3).unwrap();
    let (words, noisy) = (b"word ".repeat(1_000), noise(5_000, 9));
    assert_eq!(compressor.compress(ChunkKind::Data, &words, 1).unwrap().method(), Method::Zstd);
    assert_eq!(compressor.compress(ChunkKind::Data, &noisy, 1).unwrap().method(), Method::Stored);
    assert!(compressor.compress(ChunkKind::Data, &[], 1).is_err());
    assert!(compressor.compress(ChunkKind::Data, &vec![0; limits::BLOCK_RAW_MAX + 1], 1).is_err());
    assert!(BlockCompressor::new(1_000).is_err());
    assert!(BlockCompressor::with_levels(1_000, 1).is_err());
}

/// Where the text is cut, how it ends its lines and how long they are is all the same; one wrong byte costs the lines after
/// it, and less than half of them is not worth it.
#[test]
fn base64_by_itself_is_folded() {
    let bytes = noise(60_000, 5);
    let mut compressor = BlockCompressor::new(1).unwrap();
    let mut opened = |text: &[u8], chunks: usize, expected: Method| {
        let block = compressor.compress(ChunkKind::Data, text, chunks).unwrap();
        assert_eq!(block.method(), expected);
        let stored_len = block.stored_len();
        let mut pack = Vec::new();
        let mut builder = PackBuilder::new(&keys(), REPOSITORY, Salt([7; 16]), &mut pack);
        let lengths = [text.len() - (chunks - 1)].into_iter().chain(std::iter::repeat_n(1, chunks - 1));
        let infos = lengths.map(|length| (ChunkId([1; 24]), length as u32)).collect();
        builder.push(&block, infos, &mut pack).unwrap();
        let (_, footer) = builder.finish(&mut pack).unwrap();
        let head = footer.blocks[0].head;
        let stored = pack[head.offset as usize..][..head.stored_len as usize].to_vec();
        assert_eq!(open_block(&keys(), REPOSITORY, &Salt([7; 16]), 0, &head, stored).unwrap(), text);
        stored_len as usize
    };
    for (width, end) in [(76, "\r\n"), (76, "\n"), (64, "\n"), (72, "\r\n"), (4, "\n"), (996, "\r\n")] {
        let text = base64_lines(&bytes, width, end);
        assert!(opened(&text, 1, Method::Base64) < bytes.len() + 200, "{width} {end:?}");
        for cut in [1, 30, width, width + 1, width + end.len()] {
            opened(&text[cut..], 1, Method::Base64);
            opened(&text[..text.len() - cut], 1, Method::Base64);
        }
    }
    let text = base64_lines(&bytes, 76, "\r\n");
    opened(&text, 2, Method::Zstd);
    for (at, expected) in [(text.len() - 500, Method::Base64), (text.len() / 8, Method::Zstd)] {
        for wrong in [b'-', b'=', 0, 0xff, b'\n'] {
            let mut text = text.clone();
            text[at] = wrong;
            opened(&text, 1, expected);
        }
    }
    // One column too many, and a line that is none.
    opened(&base64_lines(&bytes, 76, "=\n"), 1, Method::Zstd);
    opened(&b"words and words\n".repeat(900), 1, Method::Zstd);
}

/// The level hangs on what lies in the block, not on which blocks came before it.
#[test]
fn blocks_of_small_chunks_are_looked_at_more_closely() {
    let raw: Vec<u8> =
        (0..4_000u32).flat_map(|n| format!("line {} of {}\n", n % 977, n * n % 61).into_bytes()).collect();
    let few = raw.len() / limits::SMALL_CHUNK;
    let stored = |compressor: &mut BlockCompressor, chunks| {
        compressor.compress(ChunkKind::Data, &raw, chunks).unwrap()
    };
    let mut by_contents = BlockCompressor::new(1).unwrap();
    let usual = stored(&mut BlockCompressor::with_levels(1, 1).unwrap(), few);
    let closer = stored(&mut BlockCompressor::with_levels(3, 3).unwrap(), few);
    assert!(closer.stored_len() < usual.stored_len(), "{} {}", closer.stored_len(), usual.stored_len());
    for _ in 0..2 {
        assert_eq!(stored(&mut by_contents, 1), usual);
        assert_eq!(stored(&mut by_contents, few), usual);
        assert_eq!(stored(&mut by_contents, few + 1), closer);
    }
    // A higher level that was asked for stays.
    let asked = stored(&mut BlockCompressor::with_levels(9, 9).unwrap(), few);
    assert_eq!(stored(&mut BlockCompressor::new(9).unwrap(), few + 1), asked);
}

#[test]
fn a_pack_says_when_it_is_full_and_refuses_what_breaks_it() {
    let keys = keys();
    let mut compressor = BlockCompressor::new(1).unwrap();
    let block = compressor.compress(ChunkKind::Data, &vec![7; limits::BLOCK_CHUNKS_MAX], 1).unwrap();
    let chunks = vec![(ChunkId([1; 24]), 1); limits::BLOCK_CHUNKS_MAX];
    let (mut bytes, mut blocks) = (Vec::new(), 0);
    let mut builder = PackBuilder::new(&keys, REPOSITORY, Salt([0; 16]), &mut bytes);
    while !builder.is_full() {
        builder.push(&block, chunks.clone(), &mut bytes).unwrap();
        blocks += 1;
    }
    assert_eq!(blocks * limits::BLOCK_CHUNKS_MAX, limits::PACK_CHUNKS_MAX);
    assert!(builder.push(&block, chunks, &mut bytes).is_err());
    let (_, footer) = builder.finish(&mut bytes).unwrap();
    assert_eq!(PackFooter::of(&keys, &REPOSITORY, &bytes), Ok(footer));

    let mut bytes = Vec::new();
    let mut builder = PackBuilder::new(&keys, REPOSITORY, Salt([0; 16]), &mut bytes);
    let block = compressor.compress(ChunkKind::Data, b"four", 1).unwrap();
    for wrong in [vec![], vec![(ChunkId([1; 24]), 3)], vec![(ChunkId([1; 24]), 0), (ChunkId([1; 24]), 4)]] {
        assert!(builder.push(&block, wrong, &mut bytes).is_err());
    }
    assert!(builder.finish(&mut bytes).is_err());
}

/// A table of contents with these chunks, as a pack would have it; no pack is behind it.
fn footer_of(salt: u8, blocks: Vec<Vec<(ChunkId, u32)>>) -> PackFooter {
    let mut offset = 44;
    let blocks = blocks
        .into_iter()
        .map(|chunks| {
            let raw_len: u32 = chunks.iter().map(|chunk| chunk.1).sum();
            let (kind, method) = (ChunkKind::Data, Method::Stored);
            let head =
                mailkeep_format::block::BlockHead { offset, stored_len: raw_len + 16, raw_len, kind, method };
            offset += head.stored_len;
            BlockInfo { head, chunks }
        })
        .collect();
    PackFooter { salt: Salt([salt; 16]), length: u64::from(offset) + 100, blocks }
}

/// Compares every answer of a run with a map.
fn compare_run(packs: &[(PackId, PackFooter)], absent: &[ChunkId]) {
    let mut model: BTreeMap<ChunkId, Vec<Location>> = BTreeMap::new();
    for (id, footer) in packs {
        for (number, info) in (0u32..).zip(&footer.blocks) {
            let mut offset = 0;
            for &(chunk, length) in &info.chunks {
                let (pack, salt, head) = (*id, footer.salt, info.head);
                model.entry(chunk).or_default().push(Location { pack, salt, number, head, offset, length });
                offset += length;
            }
        }
    }
    let packs: Vec<(PackId, &PackFooter)> = packs.iter().map(|(id, footer)| (*id, footer)).collect();
    let (bytes, id) = encode_run(&keys(), REPOSITORY, Salt([3; 16]), &packs).unwrap();
    assert_eq!(id.as_bytes(), blake3::hash(&bytes).as_bytes());
    // One that was gone through whole knows how its pages begin, the other does not.
    let run = check_run(&bytes).unwrap();
    let bare = RunReader::open(&keys(), &REPOSITORY, bytes.len() as u64, read_at(&bytes)).unwrap();
    let mut all: Vec<ChunkId> = model.keys().chain(absent).copied().collect();
    all.sort_unstable();
    all.dedup();
    for run in [&bare, &run] {
        for (chunk, places) in &model {
            assert_eq!(run.find(chunk, read_at(&bytes)).unwrap(), Some(places[0]));
            assert_eq!(&run.find_all(chunk, read_at(&bytes)).unwrap(), places);
            assert!(run.contains(chunk, read_at(&bytes)).unwrap());
        }
        for chunk in absent.iter().filter(|chunk| !model.contains_key(chunk)) {
            assert_eq!(run.find(chunk, read_at(&bytes)).unwrap(), None);
            assert_eq!(run.find_all(chunk, read_at(&bytes)).unwrap(), []);
        }
        for step in [1, 2, 7] {
            let ids: Vec<ChunkId> = all.iter().step_by(step).copied().collect();
            let mut found = Vec::new();
            run.find_sorted(&ids, read_at(&bytes), |index, number, entry| {
                found.push((ids[index], number));
                assert_eq!(entry.id, ids[index]);
            })
            .unwrap();
            let numbered = model.iter().flat_map(|(id, places)| places.iter().map(move |_| *id)).zip(0..);
            let expected: Vec<(ChunkId, u64)> =
                numbered.filter(|(id, _)| ids.binary_search(id).is_ok()).collect();
            assert!(found == expected);
        }
    }
    let mut listed = Vec::new();
    run.entries(read_at(&bytes), |entry| {
        listed.push(entry.id);
        Ok(())
    })
    .unwrap();
    let expected: Vec<ChunkId> =
        model.iter().flat_map(|(id, places)| places.iter().map(move |_| *id)).collect();
    assert_eq!(listed, expected);
    let expected: Vec<RunPack> = packs.iter().map(|&(id, footer)| RunPack::new(id, footer)).collect();
    assert_eq!(run.packs(read_at(&bytes)).unwrap(), expected);
    assert_eq!((run.pack_count() as usize, run.entry_count() as usize), (packs.len(), listed.len()));
}

fn keyed(number: u64) -> ChunkId {
    ChunkId::from_slice(&noise(24, number)).unwrap()
}

#[test]
fn a_large_run_finds_what_it_has_in_few_reads() {
    let packs: Vec<(PackId, PackFooter)> = (0..100u64)
        .map(|pack| {
            let blocks = (0..5).map(|block| {
                (0..100).map(|chunk| (keyed(pack * 500 + block * 100 + chunk), 1 + chunk as u32)).collect()
            });
            (PackId([pack as u8; 32]), footer_of(pack as u8, blocks.collect()))
        })
        .collect();
    let absent: Vec<ChunkId> = (0..2_000).map(|number| keyed(1_000_000 + number)).collect();
    compare_run(&packs, &absent);

    let packs: Vec<(PackId, &PackFooter)> = packs.iter().map(|(id, footer)| (*id, footer)).collect();
    let (bytes, _) = encode_run(&keys(), REPOSITORY, Salt([3; 16]), &packs).unwrap();
    let (mut lookups, mut reads) = (0, 0);
    for number in (0..50_000).step_by(97).chain(1_000_000..1_000_500) {
        // Opened anew each time, so that its cache does not help.
        let run = RunReader::open(&keys(), &REPOSITORY, bytes.len() as u64, read_at(&bytes)).unwrap();
        let mut memory = read_at(&bytes);
        let found = run.contains(&keyed(number), |offset, buffer| {
            reads += 1;
            memory(offset, buffer)
        });
        assert_eq!(found.unwrap(), number < 50_000);
        lookups += 1;
    }
    assert!(reads <= lookups * 2, "{reads} page reads for {lookups} lookups in 443 pages");
}

#[test]
fn a_chunk_in_many_packs_is_found_in_all_of_them_across_pages() {
    let repeated = ChunkId([0x80; 24]);
    let mut packs: Vec<(PackId, PackFooter)> = (0..200u64)
        .map(|pack| {
            let chunks = vec![(repeated, 5), (keyed(pack), 6), (repeated, 5)];
            (PackId([pack as u8; 32]), footer_of(0, vec![chunks]))
        })
        .collect();
    compare_run(&packs, &[ChunkId([0x7f; 24]), ChunkId([0x81; 24]), ChunkId([0; 24]), ChunkId([0xff; 24])]);
    packs.iter_mut().for_each(|(_, footer)| footer.blocks[0].chunks[1].0 = repeated);
    compare_run(&packs, &[ChunkId([0; 24]), ChunkId([0xff; 24])]);
}

#[test]
fn a_run_encoder_takes_only_what_was_declared() {
    let footer = footer_of(0, vec![vec![(keyed(1), 5)]]);
    let packs = [RunPack::new(PackId([0; 32]), &footer)];
    let entry = |block| RunEntry { id: keyed(1), block, offset: 0, length: 5 };
    let mut out = Vec::new();
    let start =
        |out: &mut Vec<u8>| RunEncoder::new(&keys(), REPOSITORY, Salt([0; 16]), &packs, 1, out).unwrap();
    assert!(start(&mut out).finish(&mut out).is_err());
    assert!(start(&mut out).push(entry(1), &mut out).is_err());
    let mut encoder = start(&mut out);
    encoder.push(entry(0), &mut out).unwrap();
    assert!(encoder.push(entry(0), &mut out).is_err());
    compare_run(&[], &[keyed(1)]);
}

/// Ids of few distinct beginnings, so that interpolation is led astray.
fn crowded_id() -> impl Strategy<Value = ChunkId> {
    (prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], any::<u16>()).prop_map(|(first, last)| {
        let mut id = [first; 24];
        id[22..].copy_from_slice(&last.to_be_bytes());
        ChunkId(id)
    })
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn content() -> impl Strategy<Value = Vec<ChunkRef>> {
    let chunk = (any::<[u8; 24]>(), 1u32..=limits::CHUNK_MAX as u32)
        .prop_map(|(id, length)| ChunkRef { id: ChunkId(id), length });
    proptest::collection::vec(chunk, 0..4)
}

fn node() -> impl Strategy<Value = Node> {
    let kind = prop_oneof![
        (any::<u64>(), any::<bool>(), content()).prop_map(|(size, sparse, content)| NodeKind::File {
            size,
            sparse,
            content
        }),
        content().prop_map(|content| NodeKind::Directory { content }),
        "[a-z/.]{1,20}".prop_map(|target| NodeKind::Symlink { target: target.into_bytes() }),
        Just(NodeKind::Fifo),
        Just(NodeKind::Socket),
        (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| NodeKind::CharDevice { major, minor }),
        (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| NodeKind::BlockDevice { major, minor }),
    ];
    let owners = (0u32..=0o7777, any::<u32>(), any::<u32>());
    let place = (any::<u64>(), 1u32..4, any::<u64>());
    let xattrs = proptest::collection::btree_map("[a-z.]{1,9}", "[ -~]{0,9}", 0..3);
    ("[a-z0-9.]{3,12}", owners, timestamp(), timestamp(), place, xattrs, kind).prop_map(
        |(name, (mode, uid, gid), mtime, ctime, (inode, links, device), xattrs, kind)| Node {
            name: name.into_bytes(),
            meta: Meta {
                mode,
                uid,
                gid,
                mtime,
                ctime,
                inode,
                links,
                device: if links > 1 { device } else { 0 },
                xattrs: xattrs.into_iter().map(|(k, v)| (k.into_bytes(), v.into_bytes())).collect(),
            },
            kind,
        },
    )
}

proptest! {
    #[test]
    fn packs_give_back_their_chunks(
        salt in any::<[u8; 16]>(),
        blocks in proptest::collection::vec(
            (
                prop_oneof![Just(ChunkKind::Data), Just(ChunkKind::Tree)],
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..6),
            ),
            1..5,
        ),
    ) {
        let (bytes, id, footer) = pack_of(Salt(salt), &blocks);
        prop_assert_eq!(id, PackId(*blake3::hash(&bytes).as_bytes()));
        prop_assert_eq!(footer.length, bytes.len() as u64);
        prop_assert_eq!(PackFooter::of(&keys(), &REPOSITORY, &bytes), Ok(footer));
        prop_assert_eq!(read_pack(&bytes), Ok(blocks));
    }

    #[test]
    fn runs_answer_like_a_map(
        packs in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec((crowded_id(), 1u32..50), 1..60), 1..4),
            0..8,
        ),
        absent in proptest::collection::vec(crowded_id(), 0..20),
    ) {
        let packs: Vec<(PackId, PackFooter)> = (0u8..)
            .zip(packs)
            .map(|(number, blocks)| (PackId([number; 32]), footer_of(number, blocks)))
            .collect();
        compare_run(&packs, &absent);
    }

    #[test]
    fn trees_survive_and_have_one_encoding(
        nodes in proptest::collection::vec(node(), 0..6),
        at in any::<proptest::sample::Index>(),
        mask in 1u8..,
    ) {
        let nodes: BTreeMap<Vec<u8>, Node> = nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
        let nodes: Vec<Node> = nodes.into_values().collect();
        let mut bytes = encode_tree(&nodes).unwrap();
        prop_assert_eq!(decode_tree(&bytes), Ok(nodes));
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        // Whatever is accepted is what would have been written.
        if let Ok(other) = decode_tree(&bytes) {
            prop_assert_eq!(encode_tree(&other), Ok(bytes));
        }
    }

    #[test]
    fn manifests_survive(generation in any::<u64>(), text in ".{0,40}", packs in 0usize..40, live in any::<bool>()) {
        let mut manifest = sample_manifest();
        manifest.generation = generation;
        manifest.remarks = vec![text.clone(), text];
        manifest.new_packs = (0..packs).map(|pack| PackId([pack as u8; 32])).collect();
        if live {
            (manifest.window, manifest.mail_check, manifest.previous) = (None, None, None);
        }
        let (bytes, id) = manifest.encode(&keys(), Salt([8; 16])).unwrap();
        prop_assert_eq!(Manifest::id_of(&bytes), id);
        prop_assert_eq!(Manifest::decode(&keys(), &REPOSITORY, &bytes), Ok(manifest));
    }
}
