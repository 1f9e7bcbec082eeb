//! No byte of any file can be changed, cut off or added without being noticed; no input makes a decoder panic.

#![allow(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

mod support;

use mailkeep_format::cbor::{self, CborLimits};
use mailkeep_format::keys::{self, Identity, Master};
use mailkeep_format::manifest::ManifestHeader;
use mailkeep_format::pack::{PackHeader, PackTrailer};
use mailkeep_format::run::RunReader;
use mailkeep_format::{
    FormatError, KeyError, Label, Manifest, PackId, RepositoryId, Salt, SnapshotId, Verification, limits,
    node,
};
use proptest::prelude::*;
use support::*;

/// Every single-byte change (one bit, all bits), every truncation and an added byte.
fn mutations(bytes: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
    let flips = (0..bytes.len()).flat_map(move |at| {
        [1u8 << (at % 8), 0xff].into_iter().map(move |mask| {
            let mut other = bytes.to_vec();
            other[at] ^= mask;
            (format!("byte {at} changed by {mask:02x}"), other)
        })
    });
    let cuts = (0..bytes.len()).map(move |len| (format!("cut to {len}"), bytes[..len].to_vec()));
    let longer = [0u8, b'\n', 0xff].into_iter().map(move |byte| {
        let mut other = bytes.to_vec();
        other.push(byte);
        (format!("{byte} added"), other)
    });
    flips.chain(cuts).chain(longer)
}

#[test]
fn every_change_of_a_pack_is_refused() {
    let (bytes, _, _) = sample_pack();
    assert_eq!(read_pack(&bytes), Ok(sample_blocks()));
    for (what, other) in mutations(&bytes) {
        assert!(read_pack(&other).is_err(), "{what}");
    }
}

#[test]
fn every_change_of_a_run_is_refused() {
    let (bytes, _) = sample_run();
    assert!(check_run(&bytes).is_ok());
    for (what, other) in mutations(&bytes) {
        assert!(check_run(&other).is_err(), "{what}");
    }
}

#[test]
fn every_change_of_a_manifest_is_refused() {
    let (bytes, id) = sample_manifest().encode(&keys(), Salt([0x44; 16])).unwrap();
    assert_eq!(Manifest::decode(&keys(), &REPOSITORY, &bytes), Ok(sample_manifest()));
    assert_eq!(id, SnapshotId(*blake3::hash(&bytes).as_bytes()));
    for (what, other) in mutations(&bytes) {
        assert!(Manifest::decode(&keys(), &REPOSITORY, &other).is_err(), "{what}");
    }
}

#[test]
fn every_change_of_a_verification_record_is_refused() {
    let (bytes, hash) = sample_verification().encode(&keys(), Salt([0x54; 16])).unwrap();
    assert_eq!(Verification::decode(&keys(), &REPOSITORY, &bytes), Ok(sample_verification()));
    assert_eq!(hash, *blake3::hash(&bytes).as_bytes());
    for (what, other) in mutations(&bytes) {
        assert!(Verification::decode(&keys(), &REPOSITORY, &other).is_err(), "{what}");
    }
    let other = RepositoryId([0x12; 16]);
    let foreign = Err(FormatError::Foreign { what: "verification record", found: REPOSITORY });
    assert_eq!(Verification::decode(&keys(), &other, &bytes), foreign);
    let mut unordered = sample_verification();
    unordered.damaged.reverse();
    assert!(unordered.encode(&keys(), Salt([0; 16])).is_err());
}

#[test]
fn every_change_of_a_label_is_refused_with_the_key() {
    let bytes = sample_label().encode(&keys()).unwrap();
    assert_eq!(Label::decode(&bytes), Ok(sample_label()));
    assert_eq!(Label::verify(&bytes, &keys()), Ok(sample_label()));
    for (what, other) in mutations(&bytes) {
        assert!(Label::verify(&other, &keys()).is_err(), "{what}");
    }
}

#[test]
fn every_change_of_a_key_file_is_refused() {
    let (identity, other) = (Identity::generate(), Identity::generate());
    let master = Master::from_bytes(MASTER);
    let bytes = keys::wrap_checked(&master, &REPOSITORY, &[&identity, &other]).unwrap();
    assert!(keys::unwrap(&bytes, &identity, &REPOSITORY).is_ok());
    for (what, mutation) in mutations(&bytes) {
        assert!(keys::unwrap(&mutation, &identity, &REPOSITORY).is_err(), "{what}");
    }
    let plain = keys::wrap_plain(&master, &REPOSITORY);
    let line = plain.trim_end();
    for bad in [line, &plain.to_uppercase(), &format!(" {line}\n"), &format!("{line} x\n"), "", "\n"] {
        assert!(keys::unwrap_plain(bad, &REPOSITORY).is_err(), "{bad:?}");
    }
}

#[test]
fn files_of_another_repository_or_key_are_refused_as_such() {
    let other = RepositoryId([0x12; 16]);
    let foreign_keys = Master::from_bytes([1; 32]).keys();
    let (manifest, _) = sample_manifest().encode(&keys(), Salt([0; 16])).unwrap();
    let foreign = Err(FormatError::Foreign { what: "manifest", found: REPOSITORY });
    assert_eq!(Manifest::decode(&keys(), &other, &manifest), foreign);
    let forged = Err(FormatError::NotAuthentic { what: "manifest" });
    assert_eq!(Manifest::decode(&foreign_keys, &REPOSITORY, &manifest), forged);
    let (run, _) = sample_run();
    assert!(RunReader::open(&keys(), &other, run.len() as u64, read_at(&run)).is_err());
    let label = sample_label().encode(&keys()).unwrap();
    let forged = Err(FormatError::NotAuthentic { what: "repository label" });
    assert_eq!(Label::verify(&label, &foreign_keys), forged);
    let (one, two) = (Identity::generate(), Identity::generate());
    let file = keys::wrap_checked(&Master::from_bytes(MASTER), &REPOSITORY, &[&one]).unwrap();
    assert_eq!(keys::unwrap(&file, &two, &REPOSITORY).err(), Some(KeyError::WrongKey));
    let elsewhere = KeyError::OtherRepository { found: REPOSITORY, expected: other };
    assert_eq!(keys::unwrap(&file, &one, &other).err(), Some(elsewhere));
}

#[test]
fn blocks_cannot_change_places() {
    let chunk = |seed| vec![noise(64, seed)];
    let kind = mailkeep_format::ChunkKind::Data;
    let (bytes, _, footer) = pack_of(Salt([1; 16]), &[(kind, chunk(1)), (kind, chunk(2))]);
    let (first, second) = (footer.blocks[0].head, footer.blocks[1].head);
    let mut swapped = bytes.clone();
    let (a, b, len) = (first.offset as usize, second.offset as usize, first.stored_len as usize);
    swapped[a..a + len].copy_from_slice(&bytes[b..b + len]);
    swapped[b..b + len].copy_from_slice(&bytes[a..a + len]);
    assert_eq!(read_pack(&swapped), Err(FormatError::NotAuthentic { what: "block" }));
    // Nor can the same block be taken from another pack with other salt.
    let (other, _, _) = pack_of(Salt([2; 16]), &[(kind, chunk(1)), (kind, chunk(2))]);
    let mut mixed = bytes;
    mixed[a..a + len].copy_from_slice(&other[a..a + len]);
    assert_eq!(read_pack(&mixed), Err(FormatError::NotAuthentic { what: "block" }));
}

#[test]
fn unknown_versions_and_features_are_told_as_such() {
    let with_version = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] = 9;
        bytes
    };
    let unknown = |what| FormatError::UnknownVersion { what, version: 9, known: 1 };
    let (pack, _, _) = sample_pack();
    let header = with_version(pack[..PackHeader::LEN].to_vec(), 8);
    assert_eq!(PackHeader::parse(&header).err(), Some(unknown("pack")));
    let trailer = with_version(pack[pack.len() - PackTrailer::LEN..].to_vec(), 12);
    assert_eq!(PackTrailer::parse(&trailer, pack.len() as u64).err(), Some(unknown("pack")));
    let label = with_version(sample_label().encode(&keys()).unwrap(), 8);
    assert_eq!(Label::decode(&label), Err(unknown("repository label")));
    let mut label = sample_label();
    label.required_features = vec!["time-travel".to_owned()];
    let feature = FormatError::UnknownFeature { what: "repository label", feature: "time-travel".to_owned() };
    assert_eq!(Label::decode(&label.encode(&keys()).unwrap()), Err(feature));
    let (manifest, _) = sample_manifest().encode(&keys(), Salt([0; 16])).unwrap();
    let newer = with_version(manifest, 8);
    assert_eq!(ManifestHeader::parse(&newer).err(), Some(unknown("manifest")));
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), magic in 0usize..5) {
        let mut bytes = bytes;
        // Half of the luck is in the magic and the version.
        let opening: &[&[u8]] = &[b"", b"MK-PACK\n\x01\0\0\0", b"MK-INDX\n\x01\0\0\0", b"MK-MANI\n\x01\0\0\0", b"MK-LABL\n\x01\0\0\0"];
        bytes.splice(..0, opening[magic].iter().copied());
        prop_assert!(read_pack(&bytes).is_err());
        prop_assert!(check_run(&bytes).is_err());
        prop_assert!(Manifest::decode(&keys(), &REPOSITORY, &bytes).is_err());
        prop_assert!(Label::verify(&bytes, &keys()).is_err());
        let _ = Label::decode(&bytes);
        let _ = PackTrailer::parse(&bytes, bytes.len() as u64);
        let _ = keys::unwrap(&bytes, &Identity::generate(), &REPOSITORY);
        let _ = node::decode_tree(&bytes);
        let limits = CborLimits { max_len: limits::LABEL_FILE_MAX, max_depth: 8, max_items: 1_000 };
        let _ = cbor::from_slice::<Label>(&bytes, &limits);
        let _ = cbor::from_slice::<Manifest>(&bytes, &limits);
    }

    #[test]
    fn ids_survive_their_text_form(bytes in any::<[u8; 32]>()) {
        prop_assert_eq!(PackId(bytes).hex().parse::<PackId>(), Ok(PackId(bytes)));
    }
}
