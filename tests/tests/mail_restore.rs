//! `mail restore` into a real Cyrus: trees, what a search finds, flags alone, and restores that were cut off; compared over
//! IMAP, with and without digests from the server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::facts::{Facts, contents, over_imap};
use mailkeep_tests::cyrus::populate::{SHARED, populate};
use mailkeep_tests::cyrus::source::{Options, cyrus_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::mime::imap_date;
use mailkeep_tests::process;
use mailkeep_tests::rig::{Rig, id, of, one_clear_line, words};
use serde_json::Value;
use tempfile::TempDir;

/// A filled server, a snapshot of it, and how to restore from that.
struct Lab {
    rig: Rig,
    server: Cyrus,
    snapshot: String,
    password: String,
    /// Ports of the same server: as it is, and as one that tells no digests.
    ports: [u16; 2],
    _home: TempDir,
}

impl Lab {
    /// `None` where there is no Cyrus.
    fn new(messages: usize, more: &dyn Fn(&Cyrus) -> Result<()>) -> Result<Option<Lab>> {
        if let Some(why) = cyrus::missing() {
            process::skip(&why)?;
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        let rig = Rig::new(home.path())?;
        let server = Cyrus::create(&home.path().join("server"), &["alice", "bob"], Layout::Uuid)?;
        let plain = server.offer("plain", false, "suppress_capabilities: DIGEST=SHA1\n")?;
        server.start()?;
        populate(&server, messages, 1)?;
        more(&server)?;
        let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
        let snapshot = id(&rig.good_backup(&source)?)?;
        server.wait_for_greeting(process::HANG)?;
        let password = home.path().join("password");
        fs::write(&password, format!("{}\n", cyrus::PASSWORD))?;
        let (ports, password) = ([server.ports().imap, plain], password.display().to_string());
        Ok(Some(Lab { rig, server, snapshot, password, ports, _home: home }))
    }

    fn words(&self, port: u16, user: &str, parts: &[&str]) -> Vec<String> {
        let url = format!("imap://{}@127.0.0.1:{port}", cyrus::ADMIN);
        let before = ["--json", "mail", "restore", &self.snapshot];
        let common = ["--imap", &url, "--as", user, "--password-file", &self.password];
        before.iter().chain(parts).chain(&common).map(|word| (*word).to_owned()).collect()
    }

    /// Restores and wants success; all lines.
    fn restore(&self, port: u16, user: &str, parts: &[&str]) -> Result<Vec<Value>> {
        let all = self.words(port, user, parts);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut command = self.rig.command(&words(&all));
        let output = process::run(command.env("TZ", "UTC"))?.expect_code(&format!("{all:?}"), 0)?;
        output.out().lines().map(|line| serde_json::from_str(line).context("a line of JSON")).collect()
    }

    /// Restores: created, merged, skipped, failed.
    fn counts(&self, port: u16, user: &str, parts: &[&str]) -> Result<[u64; 4]> {
        Ok(counts(summary(&self.restore(port, user, parts)?)?))
    }

    fn mailbox(&self, user: &str, name: &str) -> Result<Facts> {
        over_imap(&mut self.server.imap(user)?, name)
    }
}

fn summary(lines: &[Value]) -> Result<&Value> {
    of(lines, "summary").into_iter().next().context("no summary")
}

fn counts(line: &Value) -> [u64; 4] {
    ["created", "merged", "skipped", "failed"].map(|name| line[name].as_u64().unwrap_or(u64::MAX))
}

const LETTER: &[u8] =
    b"From: a@b.c\r\nMessage-ID: <twice@lab>\r\nSubject: =?utf-8?Q?=C3=9Cbergabe?=\r\n\r\nx\r\n";

#[test]
fn a_tree_and_what_a_search_finds_come_back_once() -> Result<()> {
    let letters = |server: &Cyrus| -> Result<()> {
        let mut imap = server.imap("alice")?;
        imap.append("INBOX/Work", "\\Seen", &imap_date(1_500_000_000), LETTER)?;
        imap.append("INBOX", "\\Flagged", &imap_date(1_500_000_001), LETTER)
    };
    let Some(lab) = Lab::new(60, &letters)? else { return Ok(()) };
    let day = lab.rig.objects(&["snapshots"])?;
    let day = day.first().and_then(|line| line["time"].as_str()).context("time")?;
    let day = day.split('T').next().context("day")?.to_owned();
    for port in lab.ports {
        let before = lab.mailbox("alice", "INBOX/Work")?;
        let lines = lab.restore(port, "alice", &["user/alice", "--recursive"])?;
        let all = counts(summary(&lines)?);
        let first = port == lab.ports[0];
        ensure!(all[3] == 0 && (all[0] > 20) == first && (all[2] > 20) != first, "{all:?}");
        let mut messages = 0;
        for line in of(&lines, "mailbox") {
            let shown = line["mailbox"].as_str().context("mailbox")?;
            let name = shown.replace("user/alice/", "").replace("user/alice", "INBOX");
            let into = line["into"].as_str().context("into")?;
            ensure!(into == format!("INBOX/Restored/{day}/{name}"), "{line}");
            let encoded = |name: &str| name.replace("Entwürfe", "Entw&APw-rfe");
            let origin = if name == "INBOX" { name.clone() } else { format!("INBOX/{name}") };
            let origin = contents(&lab.mailbox("alice", &encoded(&origin))?);
            ensure!(contents(&lab.mailbox("alice", &encoded(into))?) == origin, "{shown} differs");
            messages += origin.len() as u64;
        }
        ensure!(messages == all.iter().sum::<u64>(), "{messages} of {all:?}");
        ensure!(lab.mailbox("alice", "INBOX/Work")? == before, "what was there was touched");

        // By search, over all mailboxes: the same letter lay in two of them and comes once.
        let found = ["--search", "subject:übergabe", "--search", "from:a@b.c", "--into", "INBOX/Found"];
        let expected = if first { [1, 1, 0, 0] } else { [0, 0, 2, 0] };
        let came = lab.counts(port, "alice", &found)?;
        ensure!(came.iter().sum::<u64>() == 2 && (came == expected || came == [1, 0, 1, 0]), "{came:?}");
        let found = lab.mailbox("alice", "INBOX/Found")?;
        ensure!(found.len() == 1 && found.values().all(|fact| fact.bytes == LETTER), "{}", found.len());
    }

    // In place: what was taken away comes back, and nothing else changes.
    let (work, inbox) = (lab.mailbox("alice", "INBOX/Work")?, lab.mailbox("alice", "INBOX")?);
    let mut imap = lab.server.imap("alice")?;
    for command in ["SELECT INBOX/Work", "STORE 1:3 +FLAGS (\\Deleted)", "EXPUNGE", "UNSELECT"] {
        imap.run(command)?;
    }
    let came = lab.counts(lab.ports[0], "alice", &["user/alice", "--recursive", "--in-place"])?;
    ensure!(came[..2] == [3, 0] && came[3] == 0, "{came:?}");
    ensure!(contents(&lab.mailbox("alice", "INBOX/Work")?) == contents(&work));
    ensure!(lab.mailbox("alice", "INBOX")? == inbox, "INBOX was touched");
    // Below a folder that was named the tree keeps its shape.
    let lines =
        lab.restore(lab.ports[0], "alice", &["user/alice", "--recursive", "--into", "INBOX/All", "-n"])?;
    let places: Vec<_> = of(&lines, "mailbox").iter().filter_map(|line| line["into"].as_str()).collect();
    ensure!(places.contains(&"INBOX/All") && places.contains(&"INBOX/All/Work"), "{places:?}");
    ensure!(lab.mailbox("alice", "INBOX/All").is_err(), "a dry run made a folder");

    let nothing = lab.words(lab.ports[0], "alice", &["--search", "subject:nowhere-at-all"]);
    let nothing: Vec<&str> = nothing.iter().map(String::as_str).collect();
    let refused = lab.rig.run(&words(&nothing))?;
    ensure!(
        refused.code == 1
            && one_clear_line("nothing", &refused)?.contains("no message of this snapshot fits")
    );
    Ok(())
}

#[test]
fn flags_come_back_and_mail_is_not_touched() -> Result<()> {
    let letters = |server: &Cyrus| -> Result<()> {
        let mut imap = server.imap("alice")?;
        for (number, flags) in
            ["\\Seen \\Answered work", "\\Flagged", "\\Seen \\Deleted", "", "\\Draft"].iter().enumerate()
        {
            let letter =
                format!("From: a@b.c\r\nMessage-ID: <f{number}@lab>\r\nSubject: n{number}\r\n\r\nx\r\n");
            imap.append(
                "INBOX/Projects",
                flags,
                &imap_date(1_500_000_000 + number as i64),
                letter.as_bytes(),
            )?;
        }
        Ok(())
    };
    let make = |server: &Cyrus| -> Result<()> {
        server.imap("alice")?.run("CREATE INBOX/Projects")?;
        letters(server)
    };
    let Some(lab) = Lab::new(30, &make)? else { return Ok(()) };
    let wanted = lab.mailbox("alice", "INBOX/Projects")?;
    let shared = lab.mailbox("bob", SHARED)?;
    let only = ["user/alice/Projects", "--flags-only"];
    for port in lab.ports {
        let mut imap = lab.server.imap("alice")?;
        for command in [
            "SELECT INBOX/Projects",
            "UID STORE 1 FLAGS (later)",
            "UID STORE 2 -FLAGS (\\Flagged)",
            "UID STORE 3 -FLAGS (\\Deleted)",
            "UID STORE 4 +FLAGS (\\Seen)",
            "UNSELECT",
        ] {
            imap.run(command)?;
        }
        if port == lab.ports[0] {
            imap.append(
                "INBOX/Projects",
                "\\Seen",
                &imap_date(1_700_000_000),
                b"Subject: new\r\n\r\nnew\r\n",
            )?;
            imap.run("SELECT INBOX/Projects")?;
            imap.run("UID STORE 5 +FLAGS (\\Deleted)")?;
            imap.run("EXPUNGE")?;
        }
        drop(imap);
        let before = lab.mailbox("alice", "INBOX/Projects")?;
        let dry = lab.restore(port, "alice", &[&only[..], &["--dry-run"]].concat())?;
        ensure!(lab.mailbox("alice", "INBOX/Projects")? == before, "a dry run has changed something");
        let real = lab.restore(port, "alice", &only)?;
        for lines in [&dry, &real] {
            let line = summary(lines)?;
            ensure!(counts(line) == [0, 2, 2, 0], "{line}");
            ensure!(
                line["absent"] == 1 && line["differing"] == 2 && line["into"] == "INBOX/Projects",
                "{line}"
            );
        }
        let mut expected = before.clone();
        let mut set = |uid: u32, flags: &[&str]| -> Result<()> {
            let fact = expected.get_mut(&uid).context("a message is gone")?;
            fact.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            Ok(())
        };
        set(1, &["\\Answered", "\\Seen", "later", "work"])?;
        set(2, &["\\Flagged"])?;
        ensure!(lab.mailbox("alice", "INBOX/Projects")? == expected, "{:?}", flags_of(&lab)?);
        ensure!(counts(summary(&lab.restore(port, "alice", &only)?)?) == [0, 0, 4, 0], "again");
        let exact = lab.restore(port, "alice", &[&only[..], &["--exact"]].concat())?;
        ensure!(counts(summary(&exact)?) == [0, 2, 2, 0], "{exact:?}");
        let after = lab.mailbox("alice", "INBOX/Projects")?;
        for (uid, fact) in after.iter().filter(|(uid, _)| **uid < 5) {
            let mut flags = wanted[uid].flags.clone();
            flags.retain(|flag| flag != "\\Deleted");
            ensure!(fact.flags == flags, "message {uid}: {:?}, in the snapshot {flags:?}", fact.flags);
        }
        ensure!(
            after.len() == 5 && after.last_key_value() == before.last_key_value(),
            "new mail was touched"
        );

        // What somebody has read of a mailbox of nobody's is in his own database.
        let mut imap = lab.server.imap("bob")?;
        imap.run(&format!("SELECT {SHARED}"))?;
        let were: Vec<u32> = shared
            .iter()
            .filter(|(_, fact)| fact.flags.contains(&"\\Seen".into()))
            .map(|(uid, _)| *uid)
            .collect();
        ensure!(!were.is_empty(), "bob has read nothing");
        imap.run("UID STORE 1:* -FLAGS (\\Seen)")?;
        drop(imap);
        let came = lab.counts(port, "bob", &[SHARED, "--flags-only"])?;
        ensure!(came[1] >= were.len() as u64 && came[3] == 0, "{came:?}");
        let seen = |facts: &Facts| {
            facts.values().map(|fact| fact.flags.contains(&"\\Seen".into())).collect::<Vec<bool>>()
        };
        ensure!(seen(&lab.mailbox("bob", SHARED)?) == seen(&shared), "what bob has read");
    }
    // A folder that is not there has nothing: told, and not made.
    let gone =
        lab.words(lab.ports[0], "alice", &["user/alice/Projects", "--flags-only", "--into", "INBOX/Nowhere"]);
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    let output = lab.rig.run(&words(&gone))?;
    ensure!(output.code == 2 && one_clear_line("no folder", &output)?.contains("is not on the server"));
    ensure!(lab.mailbox("alice", "INBOX/Nowhere").is_err());
    Ok(())
}

fn flags_of(lab: &Lab) -> Result<Vec<(u32, Vec<String>)>> {
    let facts = lab.mailbox("alice", "INBOX/Projects")?;
    Ok(facts.into_iter().map(|(uid, fact)| (uid, fact.flags)).collect())
}

/// Passes on what client and server say until the client sends its `nth` message; of that only a beginning comes through,
/// then both are cut off. What the server acknowledged before is there for certain.
fn cut_in_message(server: u16, nth: usize) -> Result<(u16, std::thread::JoinHandle<Result<usize>>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let thread = std::thread::spawn(move || -> Result<usize> {
        let (client, _) = listener.accept()?;
        let mut server = TcpStream::connect(("127.0.0.1", server))?;
        let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
        let back = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (mut reader, mut sent) = (BufReader::new(&client), 0);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            server.write_all(&line)?;
            let text = String::from_utf8_lossy(&line);
            let Some((_, length)) = text.trim_end().strip_suffix('}').and_then(|text| text.rsplit_once('{'))
            else {
                continue;
            };
            let mut literal = vec![0; length.parse()?];
            reader.read_exact(&mut literal)?;
            sent += 1;
            if sent == nth {
                server.write_all(&literal[..literal.len() / 2])?;
                break;
            }
            server.write_all(&literal)?;
        }
        for stream in [&client, &server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = back.join();
        Ok(sent)
    });
    Ok((port, thread))
}

#[test]
fn a_restore_that_is_cut_off_is_finished_by_the_next() -> Result<()> {
    let Some(lab) = Lab::new(110, &|_| Ok(()))? else { return Ok(()) };
    let wanted = contents(&lab.mailbox("alice", "INBOX/Work")?);
    ensure!(wanted.len() > 4, "{}", wanted.len());
    for (number, port) in lab.ports.into_iter().enumerate() {
        let into = format!("INBOX/Cut{number}");
        let parts = ["user/alice/Work", "--into", &into];
        let mut there = 0;
        for nth in [1, 3] {
            let (cut, thread) = cut_in_message(port, nth)?;
            let all = lab.words(cut, "alice", &parts);
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let output = lab.rig.run(&words(&all))?;
            ensure!(output.code == 75, "{}: {}", output.code, output.err());
            ensure!(one_clear_line("cut off", &output)?.contains("does not answer"), "{}", output.err());
            ensure!(thread.join().ok().context("the relay")?? == nth);
            there += nth as u64 - 1;
            ensure!(lab.mailbox("alice", &into)?.len() as u64 == there, "acknowledged and not there");
        }
        let came = lab.counts(port, "alice", &parts)?;
        ensure!(came == [wanted.len() as u64 - there, 0, there, 0], "{came:?}");
        ensure!(contents(&lab.mailbox("alice", &into)?) == wanted, "{into} differs");
    }
    Ok(())
}

/// Where nothing is to be had there is nothing to clean up.
#[test]
fn what_is_meant_has_to_be_said() -> Result<()> {
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let usage = |parts: &[&str], told: &str| -> Result<()> {
        let mut all = vec!["mail", "restore", "latest", "--imap", "imap://a@127.0.0.1:1"];
        all.extend(parts);
        let output = rig.run(&words(&all))?;
        ensure!(output.code == 64, "{parts:?}: {}", output.code);
        ensure!(one_clear_line("usage", &output)?.contains(told), "{}", output.err());
        Ok(())
    };
    usage(&[], "MAILBOX")?;
    usage(&["a", "5", "--recursive"], "cannot be used with")?;
    usage(&["a", "5", "--search", "x"], "cannot be used with")?;
    usage(&["a", "--into", "x", "--in-place"], "cannot be used with")?;
    usage(&["a", "--exact"], "--flags-only")?;
    Ok(())
}
