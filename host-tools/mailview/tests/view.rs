//! Mailboxes of servers that keep their things apart, of damaged indexes, and of bytes that somebody made up; what a real
//! Cyrus wrote comes from the golden files of mailkeep-mail.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mailkeep_mailview::{
    Checked, Files, Going, MailTree, MailViewError, Message, Query, Searched, check, export, search, seen_by,
};
use mailkeep_restorer::format::{ChunkRef, Meta, Node, NodeKind};
use mailkeep_restorer::{MemoryContents, View};
use proptest::prelude::*;

fn golden(name: &str) -> Vec<u8> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../firmware/mail/tests/data/cyrus-3.6.1");
    fs::read(data.join(name)).unwrap()
}

/// Files by their paths as a snapshot.
#[derive(Default)]
struct Tree(Vec<(String, Vec<u8>)>);

impl Tree {
    fn with(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.push((path.to_owned(), bytes.into()));
        self
    }

    fn root(&self, contents: &MemoryContents) -> Vec<ChunkRef> {
        let all: Vec<(&str, &[u8])> =
            self.0.iter().map(|(path, bytes)| (path.trim_start_matches('/'), bytes.as_slice())).collect();
        put(contents, &all)
    }

    fn files(&self) -> Files {
        let contents = Arc::new(MemoryContents::default());
        let root = self.root(&contents);
        Files::new(View::new(contents, root))
    }
}

fn put(contents: &MemoryContents, all: &[(&str, &[u8])]) -> Vec<ChunkRef> {
    let mut names: Vec<&str> = all.iter().map(|(path, _)| path.split('/').next().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    let nodes: Vec<Node> = names
        .into_iter()
        .map(|name| {
            let below: Vec<(&str, &[u8])> = all
                .iter()
                .filter_map(|(path, bytes)| Some((path.strip_prefix(name)?.strip_prefix('/')?, *bytes)))
                .collect();
            let kind = match all.iter().find(|(path, _)| *path == name) {
                Some((_, bytes)) => NodeKind::File {
                    size: bytes.len() as u64,
                    sparse: false,
                    // As messages are cut: after the header.
                    content: match bytes.windows(4).position(|end| end == b"\r\n\r\n") {
                        Some(end) => {
                            let mut content = contents.put_file(&bytes[..end + 4], 1 << 20);
                            content.extend(contents.put_file(&bytes[end + 4..], 1 << 20));
                            content
                        }
                        None => contents.put_file(bytes, 1 << 20),
                    },
                },
                None => NodeKind::Directory { content: put(contents, &below) },
            };
            let mut meta = Meta { mode: 0o600, links: 1, ..Meta::default() };
            meta.mtime.seconds = 1_600_000_000;
            Node { name: name.as_bytes().to_vec(), meta, kind }
        })
        .collect();
    contents.put_tree(&nodes).unwrap()
}

/// Message `uid` of the golden mailbox `user.john.Sent`, of the size that its index says.
fn letter(uid: usize) -> Vec<u8> {
    let size = [364, 490, 553, 229, 292][uid - 1];
    let mut letter =
        format!("From: Anna {uid} <a{uid}@x.org>\r\nSubject: =?utf-8?Q?gr=C3=BCn_{uid}?=\r\n\r\nbody {uid} ")
            .into_bytes();
    letter.resize(size, b'.');
    letter
}

const SENT: &str = "j/user/john/Sent";
const HEADERS: &str = "cyrus.header";

/// Header and index in the meta partition, two messages in the archive, an exported list of the old form.
fn apart() -> Tree {
    let conf = "configdirectory: /conf\npartition-default: /data\nmetapartition-default: /meta\n\
                metapartition_files: header index\narchivepartition-default: /arch\n";
    let mut tree = Tree::default()
        .with("/etc/imapd.conf", conf)
        .with("/.mailkeep/mailboxlist", "user.john.Sent\t0 default john\tlrs\t\n")
        .with(&format!("/meta/{SENT}/{HEADERS}"), golden("sent.header"))
        .with(&format!("/meta/{SENT}/cyrus.index"), golden("sent-v16.index"))
        .with("/conf/user/j/jane^doe.seen", "x8mlat5jn4vvp7cvv1xblpjn\t1 1 5 1 1:2,5\nother\t1 1 5 1 1\n")
        .with("/conf/user/j/jim.seen", "no database");
    for (uid, folder) in [(1, "data"), (2, "data"), (3, "arch"), (4, "data"), (5, "arch")] {
        tree = tree.with(&format!("/{folder}/{SENT}/{uid}."), letter(uid));
    }
    tree
}

fn messages(files: &Files, name: &str) -> (Vec<(Message, bool)>, Option<String>) {
    let tree = MailTree::of(files).unwrap();
    let mut all = Vec::new();
    let problem = tree.find(name).unwrap().each(files, &mut |message, node| -> Result<(), MailViewError> {
        all.push((message.clone(), node.is_some()));
        Ok(())
    });
    (all, problem.unwrap())
}

#[test]
fn what_lies_in_three_places_is_one_mailbox() {
    let files = apart().files();
    let tree = MailTree::of(&files).unwrap();
    assert_eq!(tree.problems(), [] as [&str; 0]);
    let [mailbox] = tree.mailboxes() else { panic!("{:?}", tree.mailboxes()) };
    assert_eq!((mailbox.shown.as_str(), mailbox.is_listed, mailbox.is_mail), ("user/john/Sent", true, true));
    let summary = mailbox.summary(&files).unwrap();
    assert_eq!((summary.messages, summary.bytes, summary.unseen, summary.flagged), (5, 1928, 2, 1));
    assert_eq!(summary.keywords, ["Work", "$Junk", "$Label1"]);
    let (all, problem) = messages(&files, "user/john/sent");
    assert!(problem.is_none() && all.iter().all(|(_, there)| *there));
    let flags: Vec<String> = all.iter().map(|(message, _)| message.flag_names().join(" ")).collect();
    assert_eq!(flags, ["\\Seen Work $Junk", "\\Seen", "\\Flagged", "\\Draft $Label1", "\\Seen Work $Junk"]);
    assert_eq!(all[3].0.internal_date, 1_601_382_400);
    let (message, node) = mailbox.message_with_uid(&files, 3).unwrap();
    assert_eq!((message.uid, node.size()), (3, 553));
    assert!(matches!(mailbox.message_with_uid(&files, 9), Err(MailViewError::NoMessage { uid: 9, .. })));

    let readings = seen_by(&files, &tree, mailbox).unwrap();
    let users: Vec<&str> = readings.iter().map(|reading| reading.user.as_str()).collect();
    assert_eq!(users, ["jane.doe", "jim"]);
    let seen = readings[0].seen.as_ref().unwrap();
    assert_eq!((1..=6).filter(|uid| seen.contains(*uid)).collect::<Vec<_>>(), [1, 2, 5]);
    assert!(readings[1].seen.is_err(), "what cannot be read is said");
}

#[test]
fn a_mailbox_is_found_without_list_and_configuration() {
    let mut tree = Tree::default();
    for (path, bytes) in apart().0 {
        let there = path.replace("/meta/", "/data/").replace("/arch/", "/data/");
        if there.starts_with("/data") {
            tree = tree.with(&there, bytes);
        }
    }
    let files = tree.files();
    let (all, problem) = messages(&files, "user/john/Sent");
    assert!(problem.is_none() && all.len() == 5 && all.iter().all(|(_, there)| *there));
    // A header of nothing: the path is its name.
    for file in &mut tree.0 {
        if file.0.ends_with(HEADERS) {
            file.1 = b"nothing".to_vec();
        }
    }
    let files = tree.files();
    let found = MailTree::of(&files).unwrap();
    assert_eq!(found.problems().len(), 1);
    assert_eq!(found.mailboxes()[0].shown, "user/john/Sent");
    assert!(matches!(
        MailTree::of(&Tree::default().with("/x", "").files()).unwrap().find("x"),
        Err(MailViewError::NoMail)
    ));
}

#[test]
fn without_a_sound_index_the_files_are_the_messages() {
    let mut tree = apart();
    let index = tree.0.iter_mut().find(|(path, _)| path.ends_with("cyrus.index")).unwrap();
    let last = index.1.len() - 60;
    index.1[last] ^= 1;
    let files = tree.files();
    let (all, problem) = messages(&files, "user/john/Sent");
    assert!(problem.unwrap().contains("damaged"));
    assert_eq!(all.iter().map(|(message, _)| message.uid).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(all.iter().all(|(message, there)| message.flags.is_none() && *there));
    let found = MailTree::of(&files).unwrap();
    let summary = found.mailboxes()[0].summary(&files).unwrap();
    assert!(summary.problem.is_some() && summary.messages == 5 && summary.uid_validity.is_none());
}

#[test]
fn a_record_without_its_file_is_told_and_a_file_without_a_record_is_not_shown() {
    let mut tree = apart().with(&format!("/data/{SENT}/17."), "stray");
    tree.0.retain(|(path, _)| !path.ends_with("/2."));
    let files = tree.files();
    let (all, _) = messages(&files, "user/john/Sent");
    let there: Vec<(u32, bool)> = all.iter().map(|(message, there)| (message.uid, *there)).collect();
    assert_eq!(there, [(1, true), (2, false), (3, true), (4, true), (5, true)]);
    let found = MailTree::of(&files).unwrap();
    assert!(matches!(found.mailboxes()[0].message_with_uid(&files, 2), Err(MailViewError::NoFile { .. })));
}

#[test]
fn a_sealed_snapshot_is_checked_as_when_it_was_backed_up() {
    let checked = |tree: &Tree| {
        let files = tree.files();
        check(&files, &MailTree::of(&files).unwrap()).unwrap()
    };
    let Checked::Mail(good) = checked(&apart()) else { panic!("not checked") };
    assert_eq!((good.ok, good.mailboxes, good.messages, good.problem_count), (true, 1, 5, 0), "{good:?}");
    for (lacking, what) in [("/2.", "lacks message files"), ("/cyrus.index", "has no cyrus.index")] {
        let mut tree = apart();
        tree.0.retain(|(path, _)| !path.ends_with(lacking));
        let Checked::Mail(bad) = checked(&tree) else { panic!("not checked without {lacking}") };
        let told = bad.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(!bad.ok && told.contains(what), "{lacking}: {told}");
    }
    let mut listless = apart();
    listless.0.retain(|(path, _)| !path.ends_with("mailboxlist"));
    assert!(matches!(checked(&listless), Checked::Not(why) if why.contains("list")));
    let mut lost = apart();
    lost.0.retain(|(path, _)| !path.ends_with("imapd.conf"));
    assert!(matches!(checked(&lost), Checked::Not(why) if why.contains("imapd.conf")));
}

#[test]
fn an_export_that_is_stopped_leaves_nothing_behind() {
    let files = apart().files();
    let tree = MailTree::of(&files).unwrap();
    let mailbox = tree.find("user/john/Sent").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut twice = 0;
    for path in ["out.mbox", "out.maildir"] {
        let path = folder.path().join(path);
        let mut going = |done: &export::Exported| {
            twice += u64::from(done.messages == 2);
            done.messages < 2
        };
        let stopped = match path.extension().is_some_and(|kind| kind == "mbox") {
            true => export::mbox(&files, mailbox, &path, &mut |_| {}, &mut going),
            false => export::maildir(&files, mailbox, &path, &mut |_| {}, &mut going),
        };
        assert!(matches!(stopped, Err(MailViewError::Stopped)), "{stopped:?}");
    }
    assert_eq!((twice, fs::read_dir(folder.path()).unwrap().count()), (2, 0));
}

#[test]
fn a_search_over_snapshots_tells_when_a_message_was_there_and_what_it_could_not_read() {
    let contents = Arc::new(MemoryContents::default());
    let roots: Vec<Vec<ChunkRef>> = [&[2, 4][..], &[], &[], &[4]]
        .into_iter()
        .map(|lacking| {
            let mut tree = apart();
            tree.0.retain(|(path, _)| !lacking.iter().any(|uid| path.ends_with(&format!("/{uid}."))));
            tree.root(&contents)
        })
        .collect();
    let files = Files::new(View::new(Arc::clone(&contents) as _, Vec::new()));
    let searched = || -> Vec<Searched> {
        let one = |root: &Vec<ChunkRef>| Searched {
            files: files.sibling(root.clone()),
            source: "mail1".into(),
            mailboxes: None,
        };
        roots.iter().map(one).collect()
    };
    let find = |terms: &[&str]| {
        let terms: Vec<String> = terms.iter().map(|term| (*term).to_owned()).collect();
        let query = Query::parse(&terms, &|_| None).unwrap();
        let (mut hits, mut problems, mut going) = (Vec::new(), Vec::new(), Vec::new());
        let problem = &mut |what: &str, damage: bool| problems.push((what.to_owned(), damage));
        search(&searched(), &query, problem, &mut |now| going.push(now), &mut |hit| -> Result<
            (),
            MailViewError,
        > {
            hits.push((hit.uid, hit.head.subject.clone(), hit.snapshots.clone(), hit.vanished()));
            Ok(())
        })
        .unwrap();
        // Every snapshot is counted, and the last word is that all is behind.
        assert_eq!(going.iter().filter(|now| matches!(now, Going::Mailboxes { total: 4, .. })).count(), 4);
        let done = |now: &Going| match now {
            Going::Messages { messages, done, total } if done == total => Some(*messages),
            _ => None,
        };
        assert!(going.last().and_then(done).is_some_and(|messages| messages >= 5), "{going:?}");
        hits.sort_by_key(|hit| hit.0);
        (hits, problems)
    };
    assert_eq!(find(&["grün", "anna 4"]), (vec![(4, "grün 4".to_owned(), vec![1, 2], Some((2, 3)))], vec![]));
    assert_eq!(find(&["from:a2@x.org"]), (vec![(2, "grün 2".to_owned(), vec![1, 2, 3], None)], vec![]));
    assert_eq!(find(&["text:body 5"]).0, [(5, "grün 5".to_owned(), vec![0, 1, 2, 3], None)]);
    assert_eq!(find(&["grün"]).0.len(), 5);
    assert_eq!(find(&["blau"]), (vec![], vec![]));
    let five = apart().0.into_iter().find(|(path, _)| path.ends_with("/5.")).unwrap().1;
    let end = five.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    contents.lose(&contents.put_file(&five[..end], 1 << 20)[0]);
    let (hits, problems) = find(&["grün"]);
    assert_eq!(hits.len(), 4);
    assert!(
        matches!(&problems[..], [(what, true)] if what.contains("/arch/j/user/john/Sent/5.")),
        "{problems:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn made_up_bytes_never_panic(
        which in 0..5usize, at in 0..400usize, with in any::<u8>(), cut in 0..600usize, more in any::<bool>()
    ) {
        let mut tree = apart();
        let names = ["cyrus.header", "cyrus.index", "imapd.conf", "mailboxlist", "doe.seen"];
        let file = tree.0.iter_mut().find(|(path, _)| path.ends_with(names[which])).unwrap();
        if let Some(byte) = file.1.get_mut(at) {
            *byte = with;
        }
        if more {
            file.1.truncate(cut);
        }
        let files = tree.files();
        let found = MailTree::of(&files).unwrap();
        for mailbox in found.mailboxes() {
            let _ = (mailbox.summary(&files).unwrap(), seen_by(&files, &found, mailbox).unwrap());
            mailbox.each(&files, &mut |_, _| -> Result<(), MailViewError> { Ok(()) }).unwrap();
        }
        let query = Query::parse(&["anna".to_owned()], &|_| None).unwrap();
        let searched = [Searched { files, source: String::new(), mailboxes: None }];
        search(&searched, &query, &mut |_, _| {}, &mut |_| {}, &mut |_| -> Result<(), MailViewError> { Ok(()) }).unwrap();
    }
}
