//! The mail check on copies in memory, whole and torn in every way that a bad copy was seen to be.

use super::*;
use crate::cyrus::index::Index;
use crate::cyrus::mailbox_list::{self, MailboxEntry};

const INDEX: &[u8] = include_bytes!("../../tests/data/cyrus-3.6.1/inbox-v17.index");
const HEADER: &[u8] = include_bytes!("../../tests/data/cyrus-3.6.1/inbox.header");
/// The unique id in that header.
const ID: &str = "hl4ljeo59prgcwu2dkf56hzp";

fn partition(meta: bool) -> Partition {
    Partition {
        name: "default".into(),
        data: "/spool".into(),
        meta: meta.then(|| "/meta".into()),
        archive: Some("/archive".into()),
        header_in_meta: meta,
        index_in_meta: meta,
    }
}

fn list() -> Vec<MailboxEntry> {
    let json = format!(
        r#"{{"user.john": {{"mbtype": "e", "partition": "default", "uniqueid": "{ID}"}},
        "user.john.Gone": {{"mbtype": "ed", "uniqueid": "gone"}}}}"#
    );
    mailbox_list::parse(json.as_bytes()).unwrap()
}

/// A whole copy: index and header where they belong, each message in the data or the archive folder.
fn whole(meta: bool, below: &str) -> MemoryMailTree {
    let mut tree = MemoryMailTree::new();
    let folder = if meta { "/meta" } else { "/spool" };
    tree.put(format!("{folder}/{below}/cyrus.index"), INDEX);
    tree.put(format!("{folder}/{below}/cyrus.header"), HEADER);
    for record in Index::parse(INDEX).unwrap().records().map(Result::unwrap) {
        let root = if record.uid % 2 == 0 { "/spool" } else { "/archive" };
        tree.put(format!("{root}/{below}/{}.", record.uid), vec![0; record.size as usize]);
    }
    tree
}

const BELOW: &str = "uuid/h/l/hl4ljeo59prgcwu2dkf56hzp";

fn run(list: &[MailboxEntry], tree: &mut MemoryMailTree) -> MailCheck {
    check_mail(list, &[partition(false)], tree).unwrap()
}

fn kinds(check: &MailCheck) -> Vec<ProblemKind> {
    assert_eq!(check.ok, check.problems.is_empty());
    check.problems.iter().map(|problem| problem.kind).collect()
}

#[test]
fn a_whole_copy_is_ok_with_and_without_a_meta_partition() {
    for meta in [false, true] {
        let check = check_mail(&list(), &[partition(meta)], &mut whole(meta, BELOW)).unwrap();
        let sum = MailCheck { ok: true, mailboxes: 1, messages: 24, ..MailCheck::default() };
        assert_eq!(check, sum, "meta partition: {meta}");
    }
}

#[test]
fn a_missing_message_is_found_unless_nobody_could_see_it() {
    let mut tree = whole(false, BELOW);
    tree.remove(format!("/spool/{BELOW}/8.")).unwrap();
    tree.remove(format!("/archive/{BELOW}/9.")).unwrap();
    tree.remove(format!("/archive/{BELOW}/1.")).unwrap();
    let check = run(&list(), &mut tree);
    assert_eq!(kinds(&check), [ProblemKind::MissingMessage]);
    assert_eq!((check.problems[0].messages, check.problems[0].first), (2, Some(8)));
    assert_eq!(check.problems[0].mailbox.as_deref(), Some("user.john"));
    assert_eq!(check.expunged_without_file, 1, "1 was expunged");
    assert_eq!(
        check.problems[0].to_string(),
        "mailbox user.john: lacks message files (2, the first is number 8)"
    );
}

#[test]
fn a_message_of_the_wrong_size_is_found() {
    let mut tree = whole(false, BELOW);
    tree.put(format!("/spool/{BELOW}/8."), b"torn".as_slice());
    let check = run(&list(), &mut tree);
    assert_eq!(kinds(&check), [ProblemKind::WrongSize]);
    // While Cyrus moves a message to the archive it lies in both folders, one of them half written.
    tree.put(
        format!("/archive/{BELOW}/8."),
        whole(false, BELOW).remove(format!("/spool/{BELOW}/8.")).unwrap(),
    );
    assert!(run(&list(), &mut tree).ok);
}

#[test]
fn a_new_message_that_is_not_as_it_was_delivered_is_found() {
    let records: Vec<_> = Index::parse(INDEX).unwrap().records().map(Result::unwrap).collect();
    let guid = |uid: u32| records.iter().find(|record| record.uid == uid).unwrap().guid.unwrap();
    let mut tree = whole(false, BELOW);
    tree.put_digest(format!("/spool/{BELOW}/8."), guid(8));
    tree.put_digest(format!("/archive/{BELOW}/9."), guid(9));
    let check = run(&list(), &mut tree);
    assert!(check.ok && check.digests == 2, "{check:?}");
    tree.put_digest(format!("/archive/{BELOW}/9."), guid(8));
    // Nobody sees an expunged one; whether its file is whole is no matter.
    tree.put_digest(format!("/archive/{BELOW}/1."), [7; 20]);
    let check = run(&list(), &mut tree);
    assert_eq!((kinds(&check), check.digests), (vec![ProblemKind::WrongDigest], 2));
    assert_eq!(
        check.problems[0].to_string(),
        "mailbox user.john: has new messages that are not as they were delivered (number 9)"
    );
    // While Cyrus moves it to the archive, the other file of it may be the right one.
    tree.put(
        format!("/spool/{BELOW}/9."),
        vec![0; records.iter().find(|r| r.uid == 9).unwrap().size as usize],
    );
    assert!(run(&list(), &mut tree).ok);
    tree.put_digest(format!("/spool/{BELOW}/9."), guid(9));
    assert!(run(&list(), &mut tree).ok);
}

#[test]
fn an_index_without_digests_says_nothing_of_contents() {
    let mut tree = whole(false, BELOW);
    let mut index = INDEX.to_vec();
    for record in index[160..].chunks_exact_mut(112) {
        record[60..80].fill(0);
        let crc = crc32fast::hash(&record[..108]);
        record[108..].copy_from_slice(&crc.to_be_bytes());
    }
    tree.put(format!("/spool/{BELOW}/cyrus.index"), index);
    tree.put_digest(format!("/spool/{BELOW}/8."), [7; 20]);
    let check = run(&list(), &mut tree);
    assert!(check.ok && check.digests == 0, "{check:?}");
}

#[test]
fn mail_that_came_after_the_index_was_copied_is_found() {
    let mut tree = whole(false, BELOW);
    tree.put(format!("/spool/{BELOW}/28."), b"new".as_slice());
    let check = run(&list(), &mut tree);
    assert_eq!(kinds(&check), [ProblemKind::NewerThanIndex]);
    assert_eq!(check.problems[0].first, Some(28));
}

#[test]
fn a_stray_file_of_an_old_crash_is_only_counted() {
    let entries = list();
    let mut tree = whole(false, BELOW);
    // An index of a later moment that no longer has records 1 to 3, as after a repack.
    let mut index = INDEX[..160].to_vec();
    index.extend(&INDEX[160 + 3 * 112..]);
    index[20..24].copy_from_slice(&24u32.to_be_bytes());
    let crc = crc32fast::hash(&index[..156]);
    index[156..160].copy_from_slice(&crc.to_be_bytes());
    tree.put(format!("/spool/{BELOW}/cyrus.index"), index);
    let check = run(&entries, &mut tree);
    assert_eq!((check.ok, check.stray_files, check.messages), (true, 3, 24));
}

#[test]
fn an_index_and_a_header_of_two_moments_are_found() {
    let mut tree = whole(false, BELOW);
    let changed: Vec<u8> = String::from_utf8_lossy(HEADER).replace("lrs)", "lr)").into_bytes();
    let mut header = HEADER[..4].to_vec();
    header.extend(&changed[changed.iter().position(|b| *b == b'C').unwrap()..]);
    assert_ne!(header, HEADER);
    tree.put(format!("/spool/{BELOW}/cyrus.header"), header);
    assert_eq!(kinds(&run(&list(), &mut tree)), [ProblemKind::HeaderMismatch]);
}

#[test]
fn damaged_files_are_found() {
    let mut tree = whole(false, BELOW);
    let mut index = INDEX.to_vec();
    index[160 + 112 * 5] ^= 1;
    tree.put(format!("/spool/{BELOW}/cyrus.index"), index.clone());
    let check = run(&list(), &mut tree);
    assert_eq!(kinds(&check), [ProblemKind::DamagedRecord]);
    assert_eq!((check.problems[0].first, check.stray_files), (Some(6), 1));
    index[30] ^= 1;
    tree.put(format!("/spool/{BELOW}/cyrus.index"), index);
    assert_eq!(kinds(&run(&list(), &mut tree)), [ProblemKind::DamagedIndex]);
    tree.remove(format!("/spool/{BELOW}/cyrus.index"));
    assert_eq!(kinds(&run(&list(), &mut tree)), [ProblemKind::MissingIndex]);
    tree.put(format!("/spool/{BELOW}/cyrus.header"), b"".as_slice());
    assert_eq!(kinds(&run(&list(), &mut tree)), [ProblemKind::DamagedHeader, ProblemKind::MissingFolder]);
}

#[test]
fn a_mailbox_of_the_list_without_a_folder_is_found_and_a_folder_without_one_is_counted() {
    let mut entries = list();
    entries[0].unique_id = Some(mailbox_list::UniqueId::new("other"));
    let check = run(&entries, &mut whole(false, BELOW));
    assert_eq!((kinds(&check), check.unlisted_folders), (vec![ProblemKind::MissingFolder], 1));
    entries[0].partition = Some("news".into());
    assert_eq!(kinds(&run(&entries, &mut whole(false, BELOW))), [ProblemKind::UnknownPartition]);
    assert!(run(&entries[1..], &mut MemoryMailTree::new()).ok, "a tombstone has no folder");
}

#[test]
fn lists_without_unique_ids_find_the_folders_of_the_old_layout() {
    let entries = mailbox_list::parse(b"user.jane\t0 default jane\tlrs\t\n").unwrap();
    let mut tree = MemoryMailTree::new();
    let header = b"user.jane\t2f8a4c15\n\njane\tlrs\t\n";
    let magic = &HEADER[..HEADER.iter().position(|b| *b == b'%').unwrap()];
    tree.put("/spool/j/user/jane/cyrus.header", [magic, header].concat());
    tree.put(
        "/spool/j/user/jane/cyrus.index",
        include_bytes!("../../tests/data/cyrus-3.6.1/sent-v9.index").as_slice(),
    );
    let check = run(&entries, &mut tree);
    assert_eq!(kinds(&check), [ProblemKind::MissingMessage], "found, and its five messages are missed");
    assert_eq!(check.problems[0].messages, 5);
}

#[test]
fn without_unique_ids_a_deleted_mailbox_is_found_under_its_new_name() {
    let text = "DELETED.user.john.5F\t0 default john\tlrs\t\nuser.john\t16  \n";
    let mut tree = whole(false, "u/DELETED/user/john/5F");
    let check = run(&mailbox_list::parse(text.as_bytes()).unwrap(), &mut tree);
    assert_eq!(
        (check.ok, check.messages),
        (true, 24),
        "the header still has the name of before the deletion"
    );
}

#[test]
fn of_two_folders_with_one_id_the_name_decides() {
    let mut tree = whole(false, BELOW);
    let moved = String::from_utf8_lossy(&HEADER[4..]).replace("N user.john ", "N user.jon ");
    let header = [&HEADER[..4], moved.as_bytes()].concat();
    for old in ["uuid/a/old", "uuid/z/old"] {
        tree.put(format!("/spool/{old}/cyrus.header"), header.clone());
    }
    let check = run(&list(), &mut tree);
    assert_eq!((check.ok, check.unlisted_folders), (true, 2));
}

#[test]
fn a_partition_inside_another_is_walked_once() {
    let outer = Partition { archive: None, ..partition(false) };
    let inner = Partition { name: "inner".into(), data: "/spool/inner".into(), ..outer.clone() };
    let mut tree = MemoryMailTree::new();
    for path in whole(false, BELOW).paths() {
        let bytes = whole(false, BELOW).remove(path).unwrap();
        let text = path.to_str().unwrap();
        tree.put(text.replace("/archive/", "/spool/").replace("/spool/", "/spool/inner/"), bytes);
    }
    let mut entries = list();
    entries[0].partition = Some("Inner".into());
    let check = check_mail(&entries, &[outer, inner], &mut tree).unwrap();
    assert_eq!((check.ok, check.messages, check.unlisted_folders), (true, 24, 0), "{:?}", check.problems);
}

#[test]
fn only_the_first_problems_are_listed_but_all_are_counted() {
    let mut text = String::new();
    for number in 0..LISTED_PROBLEMS + 5 {
        text.push_str(&format!("user.u{number}\t0 default x\tlrs\t\n"));
    }
    let entries = mailbox_list::parse(text.as_bytes()).unwrap();
    let check = run(&entries, &mut MemoryMailTree::new());
    assert_eq!(check.problems.len(), LISTED_PROBLEMS);
    assert_eq!(check.problem_count, LISTED_PROBLEMS as u64 + 5);
    assert!(!check.ok);
}

#[test]
fn the_result_is_readable_json() {
    let mut tree = whole(false, BELOW);
    tree.remove(format!("/spool/{BELOW}/8.")).unwrap();
    let check = run(&list(), &mut tree);
    let json = serde_json::to_value(&check).unwrap();
    assert_eq!(
        (json["ok"].as_bool(), json["mailboxes"].as_u64(), json["messages"].as_u64()),
        (Some(false), Some(1), Some(24))
    );
    assert_eq!(json["problems"][0]["kind"], "missing-message");
    assert_eq!(serde_json::from_value::<MailCheck>(json).unwrap(), check);
}
