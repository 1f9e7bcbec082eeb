//! Files of version 1 as they were first written, in `golden/v1`. They are never edited: who changes the format makes a
//! new version and a new folder, and goes on reading this one.
//!
//! Where compression has a say (the pack's first block, the manifest) the bytes that are written may change with zstd;
//! there the test is that the old bytes are still read. All else is written byte for byte as before.

#![allow(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

mod support;

use std::path::PathBuf;

use mailkeep_format::keys::{self, Identity, Master};
use mailkeep_format::run::encode_run;
use mailkeep_format::{ChunkKind, ContentHash, Label, Manifest, PackId, Salt, Verification, node};
use support::*;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_label_is_written_as_before() {
    assert_eq!(sample_label().encode(&keys()).unwrap(), golden("label"));
    assert_eq!(Label::verify(&golden("label"), &keys()), Ok(sample_label()));
}

#[test]
fn the_pack_is_read_as_before() {
    assert_eq!(read_pack(&golden("pack")), Ok(sample_blocks()));
}

#[test]
fn a_pack_without_compression_is_written_as_before() {
    let blocks = [(ChunkKind::Data, vec![noise(100, 1), noise(1, 2)]), (ChunkKind::Tree, vec![vec![1]])];
    assert_eq!(pack_of(Salt([0x23; 16]), &blocks).0, golden("pack-stored"));
    assert_eq!(read_pack(&golden("pack-stored")), Ok(blocks.to_vec()));
}

#[test]
fn the_index_run_is_written_as_before() {
    let pack = golden("pack-stored");
    let footer = mailkeep_format::pack::PackFooter::of(&keys(), &REPOSITORY, &pack).unwrap();
    let id = PackId(*blake3::hash(&pack).as_bytes());
    let (bytes, _) = encode_run(&keys(), REPOSITORY, Salt([0x33; 16]), &[(id, &footer)]).unwrap();
    assert_eq!(bytes, golden("run"));
    assert!(check_run(&golden("run")).is_ok());
}

#[test]
fn the_manifest_is_read_as_before() {
    assert_eq!(Manifest::decode(&keys(), &REPOSITORY, &golden("manifest")), Ok(sample_manifest()));
}

#[test]
fn the_manifest_body_is_written_as_before() {
    assert_eq!(mailkeep_format::cbor::to_vec(&sample_manifest()).unwrap(), golden("manifest.cbor"));
}

#[test]
fn the_verification_record_is_written_as_before() {
    let (bytes, _) = sample_verification().encode(&keys(), Salt([0x54; 16])).unwrap();
    assert_eq!(bytes, golden("verification"));
    assert_eq!(Verification::decode(&keys(), &REPOSITORY, &bytes), Ok(sample_verification()));
}

#[test]
fn the_tree_is_written_as_before() {
    assert_eq!(node::encode_tree(&sample_tree()).unwrap(), golden("tree"));
    assert_eq!(node::decode_tree(&golden("tree")), Ok(sample_tree()));
}

#[test]
fn the_key_files_open_as_before() {
    let identity = Identity::parse(&String::from_utf8(golden("recovery-key")).unwrap()).unwrap();
    let expected = Master::from_bytes(MASTER);
    let id_of = |master: &Master| master.keys().id.chunk_id(ChunkKind::Data, &ContentHash::of(b"chunk"));
    let wrapped = keys::unwrap(&golden("key.age"), &identity, &REPOSITORY).unwrap();
    assert_eq!(id_of(&wrapped), id_of(&expected));
    assert_eq!(keys::wrap_plain(&expected, &REPOSITORY).as_bytes(), golden("key.plain"));
    assert_eq!(id_of(&expected).hex(), String::from_utf8(golden("chunk-id")).unwrap().trim_end());
}
