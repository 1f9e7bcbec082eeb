//! The mail of a snapshot against the real Cyrus that it was taken of: names, flags, keywords, dates, bytes, as IMAP tells
//! them, in both layouts; search over snapshots; exports that hold what the server holds; restores into it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::facts::{Fact, Facts, contents, over_imap};
use mailkeep_tests::cyrus::imap::{Imap, quoted};
use mailkeep_tests::cyrus::populate::{FOLDERS, SHARED, populate};
use mailkeep_tests::cyrus::source::{Options, cyrus_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::mime::imap_date;
use mailkeep_tests::process;
use mailkeep_tests::rig::{Rig, id, of, one_clear_line, words};
use serde_json::Value;

const USERS: [&str; 2] = ["alice", "bob"];

/// Reads the same from a snapshot.
fn of_snapshot(rig: &Rig, snapshot: &str, mailbox: &str) -> Result<Facts> {
    let mut facts = Facts::new();
    for message in of(&rig.objects(&["mail", "ls", snapshot, mailbox])?, "message") {
        let uid = message["uid"].as_u64().context("uid")? as u32;
        let flags = message["flags"].as_array().context("flags")?;
        let mut flags: Vec<String> =
            flags.iter().filter_map(|flag| flag.as_str().map(str::to_owned)).collect();
        flags.sort();
        let output = rig.ok(&words(&["mail", "cat", snapshot, mailbox, &uid.to_string()]))?;
        ensure!(message["size"].as_u64() == Some(output.stdout.len() as u64), "{message}");
        let date = message["internal_date"].as_str().context("internal_date")?;
        facts.insert(uid, Fact { flags, date: date.to_owned(), bytes: output.stdout });
    }
    Ok(facts)
}

/// `17-Jul-2003 02:44:25 +0000` as `2003-07-17T02:44:25Z`.
fn rfc3339(date: &str) -> Result<String> {
    let date = date.trim();
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (day, time) = date.split_once(' ').context("date")?;
    let (time, zone) = time.split_once(' ').context("zone")?;
    ensure!(zone == "+0000", "the lab is not in UTC: {date}");
    let parts: Vec<&str> = day.split('-').collect();
    let month = months.iter().position(|month| *month == parts[1]).context("month")? + 1;
    Ok(format!("{}-{month:02}-{:02}T{time}Z", parts[2], parts[0].parse::<u32>()?))
}

/// The mailbox as people read it, and as the administrator's IMAP calls it.
fn mailboxes() -> Vec<(String, String)> {
    let shown = |name: &str| name.replace("Entw&APw-rfe", "Entwürfe");
    let mut all = vec![(SHARED.to_owned(), SHARED.to_owned())];
    for user in USERS {
        all.push((format!("user/{user}"), format!("user/{user}")));
        for folder in FOLDERS {
            let name = folder.replace("INBOX", &format!("user/{user}"));
            all.push((shown(&name), name));
        }
    }
    all
}

fn filled(home: &Path, layout: Layout, messages: usize) -> Result<Cyrus> {
    let server = Cyrus::create(&home.join("server"), &USERS, layout)?;
    server.start()?;
    populate(&server, messages, 1)?;
    Ok(server)
}

/// The administrator has no right to read what users own; as each user it has.
fn open(server: &Cyrus, mailbox: &str) -> Result<(Imap, String)> {
    let user = USERS.iter().find(|user| mailbox.starts_with(&format!("user/{user}"))).copied();
    let user = user.unwrap_or(USERS[0]);
    let inside = mailbox.replace(&format!("user/{user}"), "INBOX");
    Ok((server.imap(user)?, inside))
}

fn equal_to_the_server(layout: Layout) -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let server = filled(home.path(), layout, 70)?;
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
    let snapshot = id(&rig.good_backup(&source)?)?;
    server.wait_for_greeting(process::HANG)?;

    let listed = rig.objects(&["mail", "ls", &snapshot])?;
    let listed = of(&listed, "mailbox");
    let mut messages = 0;
    for (shown, name) in mailboxes() {
        let line =
            listed.iter().find(|line| line["mailbox"] == *shown).with_context(|| format!("no {shown}"))?;
        let (mut imap, inside) = open(&server, &name)?;
        let mut over_imap = over_imap(&mut imap, &inside)?;
        if shown == SHARED {
            // Each reader's own \Seen; what the index says is nobody's.
            over_imap.values_mut().for_each(|fact| fact.flags.retain(|flag| flag != "\\Seen"));
        }
        for fact in over_imap.values_mut() {
            fact.date = rfc3339(&fact.date)?;
        }
        let in_snapshot = of_snapshot(&rig, &snapshot, &shown)?;
        ensure!(in_snapshot == over_imap, "{shown} differs");
        ensure!(line["messages"].as_u64() == Some(over_imap.len() as u64), "{line}");
        let bytes: usize = over_imap.values().map(|fact| fact.bytes.len()).sum();
        ensure!(line["bytes"].as_u64() == Some(bytes as u64), "{line}");
        let status = imap.run(&format!("STATUS {} (UIDVALIDITY)", quoted(&inside)))?;
        let status = status.iter().find(|answer| answer.is("STATUS")).context("no STATUS")?;
        ensure!(line["uid_validity"].as_u64() == status.tokens[2].list()[1].text().parse().ok(), "{line}");
        messages += over_imap.len();
    }
    ensure!(messages > 60, "only {messages} messages were compared");

    // What the two users have read of the shared folder is in their own databases.
    let shared = rig.objects(&["mail", "ls", &snapshot, SHARED])?;
    for user in USERS {
        let (mut imap, _) = (server.imap(user)?, ());
        imap.run(&format!("EXAMINE {SHARED}"))?;
        let read = imap.run("UID SEARCH SEEN")?;
        let read = read.iter().find(|answer| answer.is("SEARCH")).map_or(0, |answer| answer.tokens.len() - 1);
        let line =
            of(&shared, "seen").into_iter().find(|line| line["user"] == user).context("no seen state")?;
        ensure!(line["read"].as_u64() == Some(read as u64) && read > 0, "{line}, over IMAP {read}");
    }
    exports_hold_all(&rig, &snapshot, home.path())?;
    the_mail_of_all_snapshots_is_verified(&rig, &server, &source)
}

/// What was whole is, and what the server itself had lost is found in the snapshot that was taken then.
fn the_mail_of_all_snapshots_is_verified(rig: &Rig, server: &Cyrus, source: &Path) -> Result<()> {
    let whole = rig.objects(&["verify", "--mail"])?;
    let sum = &of(&whole, "summary")[0];
    ensure!(sum["mail"]["messages"].as_u64() > Some(60) && sum["mail"]["problems"] == 0, "{sum}");
    // All of one mailbox: one alone may be of a message that is expunged already.
    let messages = walk_messages(server.root());
    let folder = messages.first().and_then(|message| message.parent()).context("no message file")?;
    for message in messages.iter().filter(|message| message.starts_with(folder)) {
        fs::remove_file(message)?;
    }
    rig.run(&["backup".into(), "--source".into(), source.into()])?;
    server.wait_for_greeting(process::HANG)?;
    let damaged = rig.run(&words(&["--json", "verify", "--mail"]))?.expect_code("with lost mail", 65)?;
    ensure!(damaged.err().contains("lacks message files"), "{}", damaged.err());
    let lines: Vec<Value> = damaged.out().lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let checks = of(&lines, "mail_check");
    let whole: Vec<&Value> = checks.iter().map(|line| &line["ok"]).collect();
    ensure!(whole == [&Value::Bool(true), &Value::Bool(false)], "{checks:?}");
    // A disk without a fault is said to be one.
    rig.ok(&words(&["verify"])).map(drop)
}

/// Message files of a server.
fn walk_messages(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let is_message = name.strip_suffix('.').is_some_and(|uid| uid.parse::<u32>().is_ok());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(walk_messages(&path));
        } else if is_message {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn exports_hold_all(rig: &Rig, snapshot: &str, home: &Path) -> Result<()> {
    let mailbox = "user/alice/Entwürfe";
    let facts = of_snapshot(rig, snapshot, mailbox)?;
    let (mbox, maildir) = (home.join("out.mbox"), home.join("out.maildir"));
    let export = |kind: &str, place: &Path| {
        let mut all = words(&["mail", "export", snapshot, mailbox, kind]);
        all.push(place.into());
        rig.run(&all)
    };
    export("--mbox", &mbox)?.expect_code("export", 0)?;
    export("--maildir", &maildir)?.expect_code("export", 0)?;
    for (kind, place) in [("--mbox", &mbox), ("--maildir", &maildir)] {
        let refused = export(kind, place)?;
        ensure!(
            one_clear_line("a second export", &refused)?.contains("is there already"),
            "{}",
            refused.err()
        );
        ensure!(refused.code == 1);
    }
    let text = String::from_utf8_lossy(&fs::read(&mbox)?).into_owned();
    let starts =
        text.split("\n\n").filter(|part| part.trim_start().starts_with("From MAILER-DAEMON ")).count();
    ensure!(starts == facts.len(), "{starts} of {} messages in the mbox", facts.len());
    let mut found = 0;
    for entry in fs::read_dir(maildir.join("cur"))? {
        let path = entry?.path();
        let name = path.file_name().context("name")?.to_string_lossy().into_owned();
        let uid: u32 = name.split('.').nth(1).context("uid")?.parse()?;
        let fact = facts.get(&uid).with_context(|| format!("{name} is not on the server"))?;
        ensure!(fs::read(&path)? == fact.bytes, "{name}");
        let letters = name.rsplit(',').next().context("flags")?;
        ensure!(
            letters.contains('S') == fact.flags.iter().any(|flag| flag == "\\Seen"),
            "{name}: {:?}",
            fact.flags
        );
        ensure!(letters.contains('F') == fact.flags.iter().any(|flag| flag == "\\Flagged"), "{name}");
        ensure!(name.starts_with(&format!("{}.", path.metadata()?.mtime())), "{name} has another time");
        found += 1;
    }
    ensure!(found == facts.len());
    Ok(())
}

#[test]
fn a_snapshot_says_what_imap_says() -> Result<()> {
    equal_to_the_server(Layout::Uuid)
}

#[test]
fn a_snapshot_of_the_legacy_layout_says_what_imap_says() -> Result<()> {
    equal_to_the_server(Layout::Legacy)
}

#[test]
fn a_message_is_found_in_every_snapshot_that_has_it() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let server = filled(home.path(), Layout::Uuid, 40)?;
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
    let mut snapshots = vec![id(&rig.good_backup(&source)?)?];
    server.wait_for_greeting(process::HANG)?;
    let letter = b"From: =?utf-8?Q?J=C3=B6rg_Gr=C3=BCn?= <jg@example.net>\r\nTo: alice@example.org\r\nMessage-ID: <the-one@lab>\r\n\
        Subject: =?iso-8859-1?Q?Pr=FCfbericht?= 17\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\nDie Z=C3=A4hler stehen still.\r\n";
    server.imap("alice")?.append("INBOX/Work", "\\Flagged", &imap_date(1_600_000_000), letter)?;
    for round in 0..3 {
        if round == 2 {
            let mut imap = server.imap("alice")?;
            imap.run("SELECT INBOX/Work")?;
            imap.run("UID STORE * +FLAGS (\\Deleted)")?;
            // The file stays until cyr_expire takes it; nobody sees it any more.
            imap.run("EXPUNGE")?;
        }
        snapshots.push(id(&rig.good_backup(&source)?)?);
        server.wait_for_greeting(process::HANG)?;
    }
    for terms in [
        &["jörg", "PRÜFBERICHT"][..],
        &["from:grün <jg@example.net>", "subject:prüfbericht 17"],
        &["message-id:<the-one@lab>"],
        &["text:zähler stehen", "since:2020-09-12", "before:2020-09-15"],
    ] {
        let mut all = vec!["mail", "search", "--all-snapshots"];
        all.extend(terms);
        let found = rig.objects(&all)?;
        let [hit] = of(&found, "match")[..] else { anyhow::bail!("{terms:?}: {found:?}") };
        ensure!(hit["mailbox"] == "user/alice/Work" && hit["from"] == "Jörg Grün <jg@example.net>", "{hit}");
        ensure!(
            hit["subject"] == "Prüfbericht 17" && hit["internal_date"] == "2020-09-13T12:26:40Z",
            "{hit}"
        );
        ensure!(hit["first_snapshot"] == *snapshots[1] && hit["last_snapshot"] == *snapshots[2], "{hit}");
        ensure!(hit["gone_in"] == *snapshots[3] && hit["snapshots"] == 2, "{hit}");
        // In one snapshot: where it is, and where it is no more.
        let in_snapshot = |snapshot: &str| -> Result<usize> {
            let mut all = vec!["mail", "search", "--snapshot", snapshot];
            all.extend(terms);
            Ok(of(&rig.objects(&all)?, "match").len())
        };
        ensure!((in_snapshot(&snapshots[2])?, in_snapshot(&snapshots[3])?) == (1, 0), "{terms:?}");
    }
    let refused = rig.run(&words(&["mail", "ls", "latest", "user/alice/Entwurfe"]))?;
    let line = one_clear_line("a wrong name", &refused)?;
    ensure!(line.contains("no such mailbox") && line.contains("user/alice/Entwürfe"), "{line}");
    let refused = rig.run(&words(&["mail", "search", "since:yesterday"]))?;
    ensure!(refused.code == 64, "{}", refused.err());
    Ok(())
}

#[test]
fn messages_come_back_into_the_running_server_once_with_flags_and_dates() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let server = filled(home.path(), Layout::Uuid, 60)?;
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
    // Two that are equal to the letter have to come back as two.
    let letter = b"From: a@b.c\r\nMessage-ID: <twin@lab>\r\nSubject: twin\r\n\r\nx\r\n";
    for flags in ["\\Seen work", "\\Seen work"] {
        server.imap("alice")?.append("INBOX/Work", flags, &imap_date(1_500_000_000), letter)?;
    }
    let snapshot = id(&rig.good_backup(&source)?)?;
    server.wait_for_greeting(process::HANG)?;
    let password = home.path().join("password");
    fs::write(&password, format!("{}\nnot this\n", cyrus::PASSWORD))?;
    let url = format!("imap://{}@127.0.0.1:{}", cyrus::ADMIN, server.ports().imap);
    let (password, mailbox) = (password.display().to_string(), "user/alice/Work");
    let common = ["--imap", &url, "--as", "alice", "--password-file", &password];
    let restore = |more: &[&str]| -> Result<Value> {
        let mut all = vec!["mail", "restore", &snapshot, mailbox];
        all.extend(common);
        all.extend(more);
        of(&rig.objects(&all)?, "summary").into_iter().next().cloned().context("no summary")
    };
    let counts = |summary: &Value| {
        ["created", "merged", "skipped", "failed"].map(|name| summary[name].as_u64().unwrap_or(u64::MAX))
    };
    let mut imap = server.imap("alice")?;
    let before = over_imap(&mut imap, "INBOX/Work")?;
    let rest = over_imap(&mut imap, "INBOX/Entw&APw-rfe")?;
    let all = before.len() as u64;
    ensure!(all > 3, "{all}");

    // Into a new folder with a name of its own.
    let into = ["--into", "INBOX/Zurück/heute"];
    ensure!(counts(&restore(&[into[0], into[1], "--dry-run"])?) == [all, 0, 0, 0]);
    ensure!(over_imap(&mut imap, "INBOX/Zur&APw-ck/heute").is_err(), "a dry run made the folder");
    ensure!(counts(&restore(&into)?) == [all, 0, 0, 0]);
    let back = over_imap(&mut imap, "INBOX/Zur&APw-ck/heute")?;
    ensure!(contents(&back) == contents(&before), "what came back differs");
    ensure!(counts(&restore(&into)?) == [0, 0, all, 0], "run again it makes nothing");
    // A flag that was taken off comes back; one that was set stays.
    imap.run("SELECT \"INBOX/Zur&APw-ck/heute\"")?;
    imap.run("STORE * -FLAGS (work)")?;
    imap.run("STORE * +FLAGS (later)")?;
    ensure!(counts(&restore(&into)?) == [0, 1, all - 1, 0]);
    let flags = over_imap(&mut imap, "INBOX/Zur&APw-ck/heute")?.pop_last().context("no message")?.1.flags;
    ensure!(flags == ["\\Seen", "later", "work"], "{flags:?}");

    // In place: only what is missing comes, by its UID and then all of it.
    imap.run("SELECT INBOX/Work")?;
    imap.run("STORE 2:* +FLAGS (\\Deleted)")?;
    imap.run("EXPUNGE")?;
    imap.append("INBOX/Work", "\\Flagged", &imap_date(1_700_000_000), b"Subject: newer\r\n\r\nnew\r\n")?;
    let uids: Vec<String> = before.keys().map(u32::to_string).collect();
    ensure!(counts(&restore(&["--into", "INBOX/Work", &uids[0], &uids[2]])?) == [1, 0, 1, 0]);
    ensure!(counts(&restore(&["--into", "INBOX/Work"])?) == [all - 2, 0, 2, 0]);
    let after = over_imap(&mut imap, "INBOX/Work")?;
    let mut expected = contents(&before);
    expected.extend(
        after
            .values()
            .filter(|fact| fact.bytes.ends_with(b"new\r\n"))
            .map(|fact| (fact.flags.clone(), fact.date.clone(), fact.bytes.clone())),
    );
    expected.sort();
    ensure!(contents(&after) == expected && after.len() as u64 == all + 1);
    ensure!(over_imap(&mut imap, "INBOX/Entw&APw-rfe")? == rest, "another mailbox was touched");

    // Refusals: one line, and the code that says what to do.
    let mut missing = vec!["mail", "restore", &snapshot, mailbox, "9999", "--into", "INBOX/X"];
    missing.extend(common);
    let refused = rig.run(&words(&missing))?;
    ensure!(refused.code == 1 && one_clear_line("no such UID", &refused)?.contains("has no message 9999"));
    let wrong = home.path().join("wrong");
    fs::write(&wrong, "wrong\n")?;
    let wrong = wrong.display().to_string();
    let refused = rig.run(&words(&[
        "mail",
        "restore",
        &snapshot,
        mailbox,
        "--imap",
        &url,
        "--into",
        "INBOX/X",
        "--password-file",
        &wrong,
    ]))?;
    ensure!(
        refused.code == 1 && one_clear_line("wrong password", &refused)?.contains("refused to let cyrus in")
    );
    server.stop()?;
    let mut all = vec!["mail", "restore", &snapshot, mailbox, "--into", "INBOX/X"];
    all.extend(common);
    let refused = rig.run(&words(&all))?;
    ensure!(refused.code == 75, "{}: {}", refused.code, refused.err());
    Ok(())
}
