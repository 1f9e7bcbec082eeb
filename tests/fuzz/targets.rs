//! The decoders of untrusted bytes. Each says whether it took the bytes, and stands by what it took: what has one encoding
//! is encoded to the same bytes again.

use std::path::Path;

use mailkeep_format::block::{BlockHead, Method, open_block};
use mailkeep_format::cbor::{self, CborLimits};
use mailkeep_format::pack::PackFooter;
use mailkeep_format::run::RunReader;
use mailkeep_format::sweep::{RemovedSnapshot, SweepRecord, Tombstone};
use mailkeep_format::verification::{Verification, VerifiedSlice};
use mailkeep_format::{ChunkKind, Label, Manifest, PackId, SnapshotId, limits, node};
use mailkeep_link::frame::{Frame, read_frame};
use mailkeep_link::message::{ToAgent, ToBox};
use mailkeep_link::packed::{Packer, Unpacker};
use mailkeep_link::wire::Message;
use mailkeep_mail::Source;
use mailkeep_mail::cyrus::cache;
use mailkeep_mail::cyrus::database;
use mailkeep_mail::cyrus::header::CyrusHeader;
use mailkeep_mail::cyrus::imapd_conf::ImapdConf;
use mailkeep_mail::cyrus::index::Index;
use mailkeep_mail::cyrus::mailbox_list;
use mailkeep_mail::cyrus::seen::Seen;
use mailkeep_mail::cyrus::utf7;

use crate::sealed::{self, REPOSITORY, SALT, keys};

/// A decoder and what it is fed with.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// Whether it takes the bytes.
    pub(crate) run: fn(&[u8]) -> bool,
    /// Files of the tree that it starts from, beside its folder in the corpus.
    pub(crate) samples: &'static [&'static str],
    /// Samples that are made.
    pub(crate) made: fn() -> Vec<Vec<u8>>,
}

const GOLDEN: &str = "firmware/format/tests/golden/v1";

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "cbor_fence", run: cbor_fence, samples: &[MANIFEST_CBOR], made: none },
    Target { name: "manifest", run: manifest, samples: &[MANIFEST_CBOR], made: none },
    Target { name: "label", run: label, samples: &["firmware/format/tests/golden/v1/label"], made: none },
    Target { name: "pack", run: pack, samples: PACKS, made: none },
    Target { name: "pack_footer", run: pack_footer, samples: &[], made: footers },
    Target { name: "block", run: block, samples: &[], made: blocks },
    Target { name: "tree", run: tree, samples: &["firmware/format/tests/golden/v1/tree"], made: none },
    Target { name: "run", run, samples: &["firmware/format/tests/golden/v1/run"], made: none },
    Target { name: "run_pages", run: run_pages, samples: &[], made: pages },
    Target { name: "sweep_record", run: sweep_record, samples: &[MANIFEST_CBOR], made: sweep_records },
    Target { name: "verification", run: verification, samples: &[MANIFEST_CBOR], made: verifications },
    Target { name: "frame_to_box", run: frame::<ToBox>, samples: &[], made: frames },
    Target { name: "frame_to_agent", run: frame::<ToAgent>, samples: &[], made: frames },
    Target { name: "stream_to_box", run: stream, samples: &[], made: streams },
    Target { name: "cyrus_index", run: cyrus_index, samples: INDEXES, made: none },
    Target { name: "cyrus_header", run: cyrus_header, samples: HEADERS, made: none },
    Target { name: "mailbox_list", run: list, samples: LISTS, made: none },
    Target { name: "cyrus_cache", run: cyrus_cache, samples: &[], made: cache_records },
    Target { name: "cyrus_database", run: cyrus_database, samples: DATABASES, made: none },
    Target { name: "mailbox_name", run: mailbox_name, samples: &[], made: names },
    Target { name: "imapd_conf", run: imapd_conf, samples: &[], made: none },
    Target { name: "source_toml", run: source_toml, samples: &[], made: none },
];

const MANIFEST_CBOR: &str = "firmware/format/tests/golden/v1/manifest.cbor";
const PACKS: &[&str] =
    &["firmware/format/tests/golden/v1/pack", "firmware/format/tests/golden/v1/pack-stored"];
const INDEXES: &[&str] = &[
    "firmware/mail/tests/data/cyrus-3.6.1/inbox-v17.index",
    "firmware/mail/tests/data/cyrus-3.6.1/sent-v12.index",
    "firmware/mail/tests/data/cyrus-3.6.1/sent-v6.index",
    "firmware/mail/tests/data/cyrus-3.6.1/sent-v9.index",
];
const HEADERS: &[&str] = &[
    "firmware/mail/tests/data/cyrus-3.6.1/inbox.header",
    "firmware/mail/tests/data/cyrus-3.6.1/sent.header",
];
const DATABASES: &[&str] = &["firmware/mail/tests/data/cyrus-3.6.1/seen.db"];
const LISTS: &[&str] = &["firmware/mail/tests/data/cyrus-3.6.1/mailboxlist.json"];

fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

fn golden(name: &str) -> Vec<u8> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read(top.join(GOLDEN).join(name)).unwrap()
}

/// Whatever the fence lets through means the same to another decoder.
fn cbor_fence(bytes: &[u8]) -> bool {
    let limits = CborLimits { max_len: 1 << 20, max_depth: 8, max_items: 100_000 };
    let Ok(manifest) = cbor::from_slice::<Manifest>(bytes, &limits) else { return false };
    let theirs: Manifest = ciborium::from_reader(bytes).unwrap();
    assert_eq!(theirs, manifest);
    true
}

fn manifest(body: &[u8]) -> bool {
    let header = sealed::header(b"MK-MANI\n", &7u64.to_le_bytes());
    let mut plain = (body.len() as u32).to_le_bytes().to_vec();
    plain.extend(zstd::bulk::compress(body, 1).unwrap());
    let aad = [b"mailkeep manifest", &header[..]].concat();
    let file = [&header[..], &sealed::seal("manifest", &SALT.0, 7, &aad, &plain)].concat();
    Manifest::decode(&keys(), &REPOSITORY, &file).is_ok()
}

fn label(bytes: &[u8]) -> bool {
    let authentic = Label::verify(bytes, &keys()).is_ok();
    assert!(!authentic || Label::decode(bytes).is_ok());
    Label::decode(bytes).is_ok()
}

fn pack(bytes: &[u8]) -> bool {
    PackFooter::of(&keys(), &REPOSITORY, bytes).is_ok()
}

/// Header and blocks of a pack, its footer's plaintext, and what the footer is bound to.
fn taken_apart(name: &str) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let pack = golden(name);
    let trailer = &pack[pack.len() - 24..];
    let offset = u64::from_le_bytes(trailer[..8].try_into().unwrap());
    let length = u32::from_le_bytes(trailer[8..12].try_into().unwrap()) as usize;
    let front = pack[..offset as usize].to_vec();
    let aad = [b"mailkeep footer", &front[..44], &offset.to_le_bytes()].concat();
    let footer =
        sealed::open("pack footer", &front[28..44], 0, &aad, &pack[front.len()..front.len() + length]);
    (front, footer, aad)
}

fn footers() -> Vec<Vec<u8>> {
    ["pack", "pack-stored"].iter().map(|name| taken_apart(name).1).collect()
}

fn pack_footer(plain: &[u8]) -> bool {
    let (front, _, aad) = taken_apart("pack-stored");
    let footer = sealed::seal("pack footer", &front[28..44], 0, &aad, plain);
    let offset = (front.len() as u64).to_le_bytes();
    let length = (footer.len() as u32).to_le_bytes();
    let version = 1u32.to_le_bytes();
    let pack = [&front[..], &footer, &offset, &length, &version, b"MK-PEND\n"].concat();
    PackFooter::of(&keys(), &REPOSITORY, &pack).is_ok()
}

/// A method, three bytes of length, and a frame: sound ones, and one that opens to much more than is said.
fn blocks() -> Vec<Vec<u8>> {
    let of = |method: u8, length: usize, bytes: &[u8]| {
        [&[method], &(length as u32).to_le_bytes()[..3], bytes].concat()
    };
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let text = b"the same words again and again ".repeat(40);
    vec![
        of(0, 5, b"plain"),
        of(1, text.len(), &zstd::bulk::compress(&text, 3).unwrap()),
        of(1, 1 << 20, &bomb),
        of(1, 2 << 20, &zstd::bulk::compress(&vec![7; 2 << 20], 3).unwrap()),
        // Folded base64: two lines of one group, "AAAA\n", before and after them a byte.
        of(
            2,
            12,
            &zstd::bulk::compress(b"\x01-\x01\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00-", 3).unwrap(),
        ),
        of(2, 1 << 20, &bomb),
    ]
}

fn block(bytes: &[u8]) -> bool {
    let [method, a, b, c, plain @ ..] = bytes else { return false };
    let method = [Method::Stored, Method::Zstd, Method::Base64][usize::from(*method % 3)];
    let raw_len = u32::from_le_bytes([*a, *b, *c, 0]);
    let kind = ChunkKind::Data;
    let aad = [
        b"mailkeep block",
        &1u32.to_le_bytes()[..],
        &REPOSITORY.0,
        &[0, method as u8],
        &raw_len.to_le_bytes(),
    ]
    .concat();
    let stored = sealed::seal("pack block", &SALT.0, 3, &aad, plain);
    let head = BlockHead { offset: 44, stored_len: stored.len() as u32, raw_len, kind, method };
    match open_block(&keys(), REPOSITORY, &SALT, 3, &head, stored) {
        Ok(raw) => {
            assert_eq!(raw.len(), raw_len as usize);
            true
        }
        Err(_) => false,
    }
}

fn tree(bytes: &[u8]) -> bool {
    match node::decode_tree(bytes) {
        Ok(nodes) => {
            assert_eq!(node::encode_tree(&nodes).unwrap(), bytes);
            true
        }
        Err(_) => false,
    }
}

fn run(bytes: &[u8]) -> bool {
    let read_at = |offset: u64, buffer: &mut [u8]| -> Result<(), String> {
        let from = usize::try_from(offset).map_err(|_| "far")?;
        let end = from.checked_add(buffer.len()).ok_or("far")?;
        buffer.copy_from_slice(bytes.get(from..end).ok_or("past the end")?);
        Ok(())
    };
    let Ok(run) = RunReader::open(&keys(), &REPOSITORY, bytes.len() as u64, read_at) else { return false };
    run.check(read_at).is_ok()
}

/// The plaintext of the pages of a run, one after the other.
fn pages() -> Vec<Vec<u8>> {
    let run = golden("run");
    let header = &run[..44];
    let aad = [b"mailkeep index", header].concat();
    let mut plain = Vec::new();
    for (number, page) in run.chunks(4096).enumerate() {
        let page = if number == 0 { &page[44..] } else { page };
        plain.extend(sealed::open("index run", &header[28..], number as u64, &aad, page));
    }
    vec![plain]
}

fn run_pages(plain: &[u8]) -> bool {
    let header = sealed::header(b"MK-INDX\n", &[]);
    let aad = [b"mailkeep index", &header[..]].concat();
    let (mut file, mut rest, mut number) = (header.clone(), plain, 0);
    while number == 0 || !rest.is_empty() {
        let length = if number == 0 { 4036 } else { 4080 };
        let mut page = rest[..rest.len().min(length)].to_vec();
        rest = &rest[page.len()..];
        page.resize(length, 0);
        file.extend(sealed::seal("index run", &SALT.0, number, &aad, &page));
        number += 1;
    }
    run(&file)
}

fn sweep_record(bytes: &[u8]) -> bool {
    let limits = CborLimits { max_len: 1 << 20, max_depth: 8, max_items: 100_000 };
    let _ = SweepRecord::decode(&keys(), &REPOSITORY, bytes);
    cbor::from_slice::<SweepRecord>(bytes, &limits).is_ok()
}

fn verification(bytes: &[u8]) -> bool {
    let limits = CborLimits { max_len: 1 << 20, max_depth: 8, max_items: limits::VERIFICATION_ITEMS_MAX };
    let _ = Verification::decode(&keys(), &REPOSITORY, bytes);
    cbor::from_slice::<Verification>(bytes, &limits).is_ok()
}

/// A record with something in every list, in the clear and sealed.
fn sweep_records() -> Vec<Vec<u8>> {
    let tombstone = |byte| Tombstone { pack: PackId([byte; 32]), generation: 9, time: 1_795_392_000 };
    let removed =
        |generation| RemovedSnapshot { generation, id: SnapshotId([7; 32]), source: "mail1".into() };
    let record = SweepRecord {
        generation: 9,
        removed: vec![removed(1), removed(4)],
        tombstoned: vec![tombstone(3), tombstone(4)],
        packs: vec![PackId([1; 32]), PackId([2; 32])],
        ..SweepRecord::empty(REPOSITORY, 3)
    };
    let empty = SweepRecord::empty(REPOSITORY, 1);
    let made = [&record, &empty];
    let sealed = made.map(|record| record.encode(&keys(), SALT).unwrap().0);
    made.map(|record| cbor::to_vec(record).unwrap()).into_iter().chain(sealed).collect()
}

/// As [`sweep_records`].
fn verifications() -> Vec<Vec<u8>> {
    let slice = |from, to| VerifiedSlice { from, to, time: 1_795_392_000, generation: 9 };
    let record = Verification {
        generation: 9,
        position: 7 << 60,
        slices: vec![slice(3 << 60, 7 << 60), slice(0, 3 << 60)],
        damaged: vec![PackId([1; 32]), PackId([2; 32])],
        lost: vec![SnapshotId([7; 32])],
        ..Verification::empty(REPOSITORY, 3)
    };
    let empty = Verification::empty(REPOSITORY, 1);
    let made = [&record, &empty];
    let sealed = made.map(|record| record.encode(&keys(), SALT).unwrap().0);
    made.map(|record| cbor::to_vec(record).unwrap()).into_iter().chain(sealed).collect()
}

/// Frames of every kind, empty and with a few bytes.
fn frames() -> Vec<Vec<u8>> {
    let framed = |kind: u8, payload: &[u8]| {
        let mut bytes = Vec::new();
        Frame { kind, payload: payload.to_vec() }.put(&mut bytes);
        bytes
    };
    let kinds = (0..32).chain(128..160);
    let mut made: Vec<Vec<u8>> = kinds
        .flat_map(|kind| {
            [
                framed(kind, &[]),
                framed(kind, &[0; 9]),
                framed(kind, &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f]),
                framed(kind, b"\xa3\x66lowest\x01\x67highest\x01\x67program\x61x"),
            ]
        })
        .collect();
    made.push([0xff; 9].to_vec());
    for message in [ToBox::alive().encode(), ToAgent::alive().encode(), ToAgent::Resume.encode()] {
        let mut bytes = Vec::new();
        message.unwrap().put(&mut bytes);
        made.push(bytes);
    }
    made
}

/// A stream of frames, up to the first that is none.
fn frame<M: Message>(bytes: &[u8]) -> bool {
    let (mut input, mut taken) = (bytes, false);
    while let Ok(frame) = read_frame(&mut input, &mut || {}) {
        if let Ok(message) = M::decode(&frame) {
            assert_eq!(message.encode().unwrap(), frame);
            taken = true;
        }
    }
    taken
}

/// Frames as they come over a slow link: many of them compressed together.
fn streams() -> Vec<Vec<u8>> {
    let packed = |raw_len: usize, frame: &[u8]| {
        let mut bytes = Vec::new();
        let payload = [&(raw_len as u32).to_le_bytes()[..], frame].concat();
        Frame { kind: 144, payload }.put(&mut bytes);
        bytes
    };
    let squeezed = |raw: &[u8]| zstd::bulk::compress(raw, 1).unwrap();
    let mut alive = Vec::new();
    ToBox::alive().encode().unwrap().put(&mut alive);
    let many = [alive.clone(), frames().pop().unwrap()].concat().repeat(200);
    let within = packed(many.len(), &squeezed(&many));
    let bomb = squeezed(&vec![0; 64 << 20]);
    vec![
        Packer::new(144).unwrap().pack(&many).unwrap().to_vec(),
        [within.clone(), alive, within.clone()].concat(),
        packed(within.len(), &squeezed(&within)),
        packed(1 << 20, &bomb),
        packed(64 << 20, &bomb),
    ]
}

fn stream(bytes: &[u8]) -> bool {
    let (mut input, mut unpacker, mut taken) = (bytes, Unpacker::default(), false);
    loop {
        let mut messages: Vec<(ToBox, usize)> = Vec::new();
        let decoded = unpacker.decode(&mut messages);
        assert!(messages.len() <= mailkeep_link::limits::DECODED_AHEAD);
        taken |= !messages.is_empty();
        match decoded {
            Err(_) => return taken,
            Ok(false) => taken = true,
            Ok(true) if unpacker.read_more(&mut input, &mut || {}).is_err() => return taken,
            Ok(true) => {}
        }
    }
}

fn cyrus_index(bytes: &[u8]) -> bool {
    let Ok(index) = Index::parse(bytes) else { return false };
    index.records().take(100_000).all(|record| record.is_ok())
}

fn cyrus_header(bytes: &[u8]) -> bool {
    CyrusHeader::parse(bytes).is_ok()
}

/// Ten items, the first an envelope.
fn cache_records() -> Vec<Vec<u8>> {
    let envelope = b"(\"Mon, 1 Jan 2024\" {5}\r\ngr\\\"n ((\"J\" NIL \"j\" \"x.org\")) NIL NIL ((NIL NIL \"a\" \"b.c\")) NIL NIL NIL \"<1@x>\")";
    let mut record = Vec::new();
    for item in [&envelope[..], b"(\"TEXT\")", b"", b"", b"X-A: b\r\n", b"j@x", b"", b"", b"", b"\"s\""] {
        record.extend((item.len() as u32).to_be_bytes());
        record.extend(item);
        record.resize(record.len().next_multiple_of(4), 0);
    }
    vec![record]
}

fn cyrus_cache(bytes: &[u8]) -> bool {
    let whole =
        cache::record_length(bytes).is_ok_and(|length| length.is_some_and(|length| length <= bytes.len()));
    cache::envelope(bytes).is_ok() && whole
}

fn cyrus_database(bytes: &[u8]) -> bool {
    let Ok(entries) = database::entries(bytes) else { return false };
    entries
        .values()
        .filter_map(|value| Seen::parse(value))
        .for_each(|seen| assert!(!seen.contains(0) || seen.count() > 0));
    true
}

fn names() -> Vec<Vec<u8>> {
    [&b"Entw&APw-rfe"[..], b"&U,BTFw-/&ZeVnLIqe-", b"Tom &- Jerry"].map(<[u8]>::to_vec).to_vec()
}

/// What was decoded is written in one way, which decodes to the same.
fn mailbox_name(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let name = utf7::decode(text);
    assert_eq!(utf7::decode(&utf7::encode(&name)), name);
    true
}

fn list(bytes: &[u8]) -> bool {
    let Ok(entries) = mailbox_list::parse(bytes) else { return false };
    entries.len() <= bytes.len()
}

/// Every file that is included has the same text, so that includes of themselves are met.
fn imapd_conf(bytes: &[u8]) -> bool {
    let mut read = 0;
    let conf = ImapdConf::read(Path::new("/etc/imapd.conf"), &mut |_| {
        read += 1;
        Ok(bytes.to_vec())
    });
    assert!(read <= 1000, "{read} files were read");
    conf.is_ok()
}

fn source_toml(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| Source::parse(text, "fuzz").is_ok())
}
