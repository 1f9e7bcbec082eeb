//! The index decoder: every version against files written here from the published offsets, damage, and noise.

use super::*;

/// Writes an index of any version, with fields at the offsets that the versions' own headers list.
fn build(version: u32, uids: &[u32]) -> Vec<u8> {
    let (header_size, record_size) = sizes(version).unwrap();
    let mut header = vec![0u8; header_size];
    let put32 =
        |bytes: &mut Vec<u8>, at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    let put64 =
        |bytes: &mut Vec<u8>, at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    put32(&mut header, 0, 3);
    put32(&mut header, 8, version);
    put32(&mut header, 12, header_size as u32);
    put32(&mut header, 16, record_size as u32);
    put32(&mut header, 20, uids.len() as u32);
    put64(&mut header, 32, 5000);
    put32(&mut header, if version == 20 { 88 } else { 28 }, 4711);
    put32(&mut header, if version == 20 { 92 } else { 44 }, 1_600_000_000);
    if version >= 8 {
        put64(&mut header, if version >= 19 { 72 } else { 68 }, 0x1_0000_0001);
    }
    if version >= 12 {
        put32(&mut header, if version >= 19 { 60 } else { 84 }, 2);
        put32(&mut header, 96, 0xdead_beef);
        let crc = crc32fast::hash(&header[..header_size - 4]);
        put32(&mut header, header_size - 4, crc);
    }
    let mut file = header;
    for uid in uids {
        let mut record = vec![0u8; record_size];
        put32(&mut record, 0, *uid);
        if version == 20 {
            put64(&mut record, 8, 1_700_000_000_500_000_000);
            put64(&mut record, 16, (-1i64) as u64);
            put64(&mut record, 24, 0x1_0000_0000 + u64::from(*uid));
            put32(&mut record, 32, 300);
            put32(&mut record, 36, 0x8000_0010);
            put32(&mut record, 44, 0x2);
        } else {
            put32(&mut record, 4, 1_700_000_000);
            put32(&mut record, 12, 100 + uid);
            put32(&mut record, 16, 300);
            put32(&mut record, 32, 0x8000_0010);
            put32(&mut record, 40, 0x2);
        }
        if version >= 10 {
            record[60..80].copy_from_slice(&[0xab; 20]);
        }
        match version {
            0..8 => {}
            8 | 9 => put64(&mut record, 72, 99),
            _ => put64(&mut record, 80, 99),
        }
        if version >= 12 {
            let crc = crc32fast::hash(&record[..record_size - 4]);
            put32(&mut record, record_size - 4, crc);
        }
        file.extend(record);
    }
    file
}

const VERSIONS: [u32; 14] = [6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20];

#[test]
fn every_version_is_read() {
    for version in VERSIONS {
        let file = build(version, &[7, 9]);
        let index = Index::parse(&file).unwrap();
        let header = index.header();
        assert_eq!((header.version, header.generation, header.records), (version, 3, 2));
        assert_eq!((header.last_uid, header.uid_validity, header.quota_used), (4711, 1_600_000_000, 5000));
        assert_eq!(header.highest_modseq, (version >= 8).then_some(0x1_0000_0001));
        assert_eq!(header.exists, (version >= 12).then_some(2));
        assert_eq!(header.header_file_crc, (version >= 12).then_some(0xdead_beef));
        let records: Vec<_> = index.records().collect::<Result<_, _>>().unwrap();
        assert_eq!(records.iter().map(|r| r.uid).collect::<Vec<_>>(), [7, 9]);
        let first = &records[0];
        let size = if version == 20 { 0x1_0000_0007 } else { 107 };
        assert_eq!((first.size, first.header_size), (size, 300), "version {version}");
        let nanoseconds = if version == 20 { 500_000_000 } else { 0 };
        assert_eq!(first.internal_date, IndexTime { seconds: 1_700_000_000, nanoseconds });
        assert_eq!(first.flags.imap_names().collect::<Vec<_>>(), ["\\Seen"]);
        assert_eq!(first.flags.is_expunged(), version >= 12, "older versions have no such flag");
        assert!(first.has_keyword(33) && !first.has_keyword(32) && !first.has_keyword(4096));
        assert_eq!(first.guid, (version >= 10).then_some([0xab; 20]));
        assert_eq!(first.modseq, (version >= 8).then_some(99));
    }
    let before_1970 = Index::parse(&build(20, &[1])).unwrap().records().next().unwrap().unwrap().sent_date;
    assert_eq!(before_1970, IndexTime { seconds: -1, nanoseconds: 999_999_999 });
}

#[test]
fn records_are_stepped_by_the_files_own_sizes() {
    let (header_size, record_size) = sizes(10).unwrap();
    let plain = build(10, &[7, 9]);
    let mut wide = plain[..header_size].to_vec();
    wide[12..16].copy_from_slice(&(header_size as u32 + 8).to_be_bytes());
    wide[16..20].copy_from_slice(&(record_size as u32 + 16).to_be_bytes());
    wide.extend([0; 8]);
    for record in plain[header_size..].chunks(record_size) {
        wide.extend(record);
        wide.extend([0; 16]);
    }
    let uids: Vec<_> = Index::parse(&wide).unwrap().records().map(|r| r.unwrap().uid).collect();
    assert_eq!(uids, [7, 9]);
}

#[test]
fn damage_is_named() {
    let said = |file: &[u8]| Index::parse(file).unwrap_err().to_string();
    let whole = build(17, &[7, 9]);
    assert!(said(&whole[..whole.len() - 1]).contains("shorter than its number of records"));
    assert!(said(&whole[..100]).contains("inside its header"));
    assert!(said(&[]).contains("too short"));
    let mut flipped = whole.clone();
    flipped[30] ^= 1;
    assert!(said(&flipped).contains("header's CRC"));
    let mut record = whole.clone();
    record[160 + 5] ^= 1;
    let index = Index::parse(&record).unwrap();
    let results: Vec<_> = index.records().collect();
    assert!(results[0].as_ref().unwrap_err().to_string().contains("UID 7"));
    assert_eq!(results[1].as_ref().unwrap().uid, 9, "the records after a bad one still come");
    let mut unknown = build(10, &[]);
    unknown[8..12].copy_from_slice(&11u32.to_be_bytes());
    assert!(said(&unknown).contains("minor version 11"));
    let mut inside = build(10, &[]);
    inside[12..16].copy_from_slice(&8u32.to_be_bytes());
    assert!(said(&inside).contains("inside the header"));
    let mut small = build(10, &[]);
    small[16..20].copy_from_slice(&0u32.to_be_bytes());
    assert!(said(&small).contains("smaller"));
    let mut huge = build(10, &[7]);
    huge[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(said(&huge).contains("shorter than its number of records"));
}

#[test]
fn a_record_that_is_not_counted_yet_is_not_there() {
    let mut file = build(17, &[7]);
    file.extend([0xff; 50]);
    assert_eq!(Index::parse(&file).unwrap().records().count(), 1);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        if let Ok(index) = Index::parse(&bytes) {
            proptest::prop_assert!(index.records().count() <= bytes.len());
        }
    }

    #[test]
    fn no_mutation_makes_it_panic(
        which in 0..VERSIONS.len(),
        changes in proptest::collection::vec((0usize..600, proptest::prelude::any::<u8>()), 1..6),
        cut in 0usize..700,
    ) {
        let mut file = build(VERSIONS[which], &[1, 2, 3]);
        for (at, byte) in changes {
            if let Some(target) = file.get_mut(at) {
                *target = byte;
            }
        }
        // A right CRC over wrong fields, so that the checks behind it are reached.
        let version = u32::from_be_bytes([file[8], file[9], file[10], file[11]]);
        if let Some((header, _)) = sizes(version).filter(|(header, _)| version >= 12 && file.len() >= *header) {
            let crc = crc32fast::hash(&file[..header - 4]);
            file[header - 4..header].copy_from_slice(&crc.to_be_bytes());
        }
        file.truncate(cut);
        if let Ok(index) = Index::parse(&file) {
            let size = file.len();
            proptest::prop_assert!(index.records().filter(Result::is_ok).count() <= size);
        }
    }
}

/// What a stream makes of a file that comes in pieces of this length.
fn streamed(file: &[u8], piece: usize) -> Result<(IndexHeader, Vec<Result<IndexRecord, String>>), String> {
    let mut records = Vec::new();
    let mut each = |record: Result<IndexRecord, MailError>| {
        records.push(record.map_err(|error| error.to_string()));
    };
    let mut stream = IndexStream::new();
    for bytes in file.chunks(piece) {
        stream.push(bytes, &mut each).map_err(|error| error.to_string())?;
    }
    let header = stream.finish(&mut each).map_err(|error| error.to_string())?;
    Ok((header, records))
}

fn whole(file: &[u8]) -> Result<(IndexHeader, Vec<Result<IndexRecord, String>>), String> {
    let index = Index::parse(file).map_err(|error| error.to_string())?;
    let records = index.records().map(|record| record.map_err(|error| error.to_string())).collect();
    Ok((index.header().clone(), records))
}

#[test]
fn in_pieces_it_is_the_same_as_whole() {
    let mut files = Vec::new();
    for version in (6..=20).filter(|version| *version != 11) {
        for count in [0, 1, 2, 7] {
            files.push(build(version, &(1..=count).collect::<Vec<_>>()));
        }
    }
    // Wider records that begin later; a record too many; one that is damaged; a count that is a lie.
    let mut later = build(9, &[5, 6]);
    later[12..16].copy_from_slice(&200u32.to_be_bytes());
    let records = later.split_off(96);
    later.resize(200, 7);
    later.extend(records);
    files.push(later);
    let mut longer = build(17, &[1, 2, 3]);
    longer.extend([9; 500]);
    files.push(longer);
    let mut flipped = build(17, &[1, 2, 3]);
    let middle = flipped.len() - 150;
    flipped[middle] ^= 1;
    files.push(flipped);
    let mut liar = build(6, &[1, 2]);
    liar[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
    files.push(liar);
    for file in &files {
        for length in (0..file.len()).step_by(13).chain([file.len()]) {
            let cut = &file[..length];
            for piece in [1, 7, 100, 4096] {
                assert_eq!(streamed(cut, piece), whole(cut), "{length} bytes in pieces of {piece}");
            }
        }
    }
}

#[test]
fn a_stream_holds_one_record_whatever_the_length() {
    let file = build(17, &(1..=2000).collect::<Vec<_>>());
    let mut stream = IndexStream::new();
    for piece in file.chunks(1000) {
        stream.push(piece, &mut |_| {}).unwrap();
        assert!(stream.held.len() < 112, "{}", stream.held.len());
    }
    // What lies behind the last record is not kept either.
    stream.push(&[0; 100_000], &mut |_| {}).unwrap();
    assert!(stream.held.is_empty());
    assert_eq!(stream.finish(&mut |_| {}).unwrap().records, 2000);
}
