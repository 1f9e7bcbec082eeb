//! The decoders against files that a real Cyrus 3.6.1 wrote, and what it said of them over IMAP.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::path::PathBuf;

use mailkeep_mail::cyrus::header::CyrusHeader;
use mailkeep_mail::cyrus::index::Index;
use mailkeep_mail::cyrus::mailbox_list;

fn data(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/cyrus-3.6.1").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What IMAP said: uid, size, internal date, modseq, SHA-1, flags.
struct Fetched {
    uid: u32,
    size: u64,
    date: i64,
    modseq: u64,
    sha1: String,
    flags: Vec<String>,
}

fn fetched(name: &str) -> Vec<Fetched> {
    let text = String::from_utf8(data(name)).unwrap();
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            Fetched {
                uid: words[0].parse().unwrap(),
                size: words[1].parse().unwrap(),
                date: words[2].parse().unwrap(),
                modseq: words[3].parse().unwrap(),
                sha1: words[4].to_owned(),
                flags: words[5].split(',').filter(|f| !f.is_empty()).map(str::to_owned).collect(),
            }
        })
        .collect()
}

fn compare(index: &[u8], header: &[u8], said: &[Fetched], version: u32) {
    let keywords = CyrusHeader::parse(header).unwrap().keywords;
    let index = Index::parse(index).unwrap();
    assert_eq!(index.header().version, version);
    if let Some(crc) = index.header().header_file_crc {
        assert_eq!(crc, crc32fast::hash(header), "version {version}");
    }
    let shown: Vec<_> = index.records().map(Result::unwrap).filter(|r| !r.flags.is_expunged()).collect();
    assert_eq!(shown.len(), said.len(), "version {version}");
    for (record, said) in shown.iter().zip(said) {
        let mut flags: Vec<String> = record.flags.imap_names().map(str::to_owned).collect();
        let set = keywords.iter().enumerate().filter(|(number, _)| record.has_keyword(*number));
        flags.extend(set.filter_map(|(_, name)| name.clone()));
        flags.sort();
        // Before version 12 the owner's \Seen was in seen.db only.
        let wanted: Vec<_> = said.flags.iter().filter(|f| version >= 12 || *f != "\\Seen").cloned().collect();
        assert_eq!(flags, wanted, "version {version}, UID {}", said.uid);
        assert_eq!((record.uid, record.size), (said.uid, said.size), "version {version}");
        assert_eq!(record.internal_date.seconds, said.date, "version {version}, UID {}", said.uid);
        if let Some(guid) = record.guid {
            let hex: String = guid.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, said.sha1, "version {version}, UID {}", said.uid);
        }
        assert_eq!(record.guid.is_some(), version >= 10);
        assert_eq!(record.modseq.is_some(), version >= 8);
        if version >= 12 {
            assert_eq!(record.modseq, Some(said.modseq), "version {version}, UID {}", said.uid);
        }
    }
}

#[test]
fn an_upgraded_index_knows_no_crc_of_its_header_and_still_passes() {
    // Written by `reconstruct -V 6`, then `-V 17`: Cyrus leaves the CRC of cyrus.header at 0.
    let bytes = data("sent-upgraded.index");
    assert_eq!(Index::parse(&bytes).unwrap().header().header_file_crc, None);
    assert!(Index::parse(&data("inbox-v17.index")).unwrap().header().header_file_crc.is_some());
}

#[test]
fn an_inbox_equals_what_imap_said_of_it() {
    let (index, header) = (data("inbox-v17.index"), data("inbox.header"));
    compare(&index, &header, &fetched("inbox.fetch"), 17);
    let index = Index::parse(&index).unwrap();
    let head = index.header();
    assert_eq!((head.records, head.exists, head.last_uid), (27, Some(24), 27));
    let gone: Vec<u32> =
        index.records().map(Result::unwrap).filter(|r| r.flags.is_expunged()).map(|r| r.uid).collect();
    assert_eq!(gone, [1, 2, 3]);
    assert!(index.records().all(|r| r.is_ok_and(|r| r.flags.is_archived() && !r.flags.is_unlinked())));
}

#[test]
fn every_older_format_that_cyrus_writes_says_the_same() {
    let (header, said) = (data("sent.header"), fetched("sent.fetch"));
    for version in [6, 7, 8, 9, 12, 13, 15, 16] {
        compare(&data(&format!("sent-v{version}.index")), &header, &said, version);
    }
}

#[test]
fn header_and_list_agree_on_the_mailbox() {
    let header = CyrusHeader::parse(&data("inbox.header")).unwrap();
    let list = mailbox_list::parse(&data("mailboxlist.json")).unwrap();
    let entry = list.iter().find(|entry| entry.name.as_str() == "user.john").unwrap();
    assert_eq!(header.name.as_ref(), Some(&entry.name));
    assert_eq!(header.unique_id, entry.unique_id);
    assert_eq!(header.keywords, [Some("$Label1".into()), Some("Work".into()), Some("$Junk".into())]);
    let mut rights = header.acl;
    rights.sort();
    assert_eq!(rights, entry.acl);
    assert_eq!(list.len(), 9);
    assert_eq!(list.iter().filter(|e| e.mailbox_type.has_folder()).count(), 8);
    assert!(list.iter().all(|e| e.mailbox_type.is_mail()));
}

#[test]
fn no_cut_or_flipped_file_is_taken_for_a_whole_one() {
    let (index, header) = (data("inbox-v17.index"), data("inbox.header"));
    for length in 0..index.len() {
        assert!(Index::parse(&index[..length]).is_err(), "cut to {length}");
    }
    for at in 0..index.len() {
        let mut flipped = index.clone();
        flipped[at] ^= 0x10;
        let sound = Index::parse(&flipped).is_ok_and(|index| index.records().all(|record| record.is_ok()));
        assert!(!sound, "a flipped bit in byte {at} went unseen");
    }
    for length in 0..header.len() - 1 {
        assert!(CyrusHeader::parse(&header[..length]).is_err(), "cut to {length}");
    }
}
