//! Fills a lab server with everything that a backup could lose: mail of many shapes in nested and oddly
//! named folders on both partitions, flags and keywords, hard-linked copies, expunged mail, a shared
//! folder with seen state per user, subscriptions, quotas, ACLs, annotations and sieve scripts.

use anyhow::{Context, Result, bail};

use super::imap::{Imap, quoted};
use super::server::{ADMIN, Cyrus};
use crate::mime::{Letter, imap_date};
use crate::rng::Rng;
use crate::words::Words;

/// Folders that every user has, below INBOX. The last ones hold a space, an umlaut in modified UTF-7 and
/// characters that are special to shells.
pub const FOLDERS: [&str; 7] = [
    "INBOX/Sent",
    "INBOX/Work",
    "INBOX/Work/Deep/Deeper",
    "INBOX/Old",
    "INBOX/two words",
    "INBOX/Entw&APw-rfe",
    "INBOX/it's $HOME",
];
/// The folder that everyone may read.
pub const SHARED: &str = "shared/board";
const PIPELINE: usize = 16;
const FLAGS: [&str; 8] = [
    "",
    "\\Seen",
    "\\Seen \\Answered",
    "\\Flagged",
    "\\Seen \\Flagged $Label1",
    "$Forwarded",
    "\\Draft",
    "\\Seen work urgent",
];

/// Fills a running server with `messages` messages over all users and folders. The same seed gives the same mail.
pub fn populate(server: &Cyrus, messages: usize, seed: u64) -> Result<()> {
    let words = Words::new(7, 5000);
    let mut rng = Rng::new(seed);
    make_shared(server, &words, &mut rng)?;
    let users = server.users().to_vec();
    let share = messages / users.len().max(1);
    for user in &users {
        make_user(server, user).with_context(|| format!("set up user {user}"))?;
        fill_user(server, user, share, &words, &mut rng).with_context(|| format!("fill user {user}"))?;
    }
    Ok(())
}

/// One message of the lab's usual kinds.
pub fn letter(words: &Words, rng: &mut Rng, to: &str) -> (Vec<u8>, i64) {
    // 1999 to 2026: INTERNALDATEs that are far from the files' ctimes.
    let date = 920_000_000 + rng.below(860_000_000) as i64;
    let text = 150 + (rng.unit().powi(4) * 30_000.0) as usize;
    let mut attachments = Vec::new();
    if rng.chance(0.08) {
        // Some above archive_maxsize, which land on the archive partition.
        let mut data = vec![0; 500 + (rng.unit().powi(3) * 120_000.0) as usize];
        rng.fill(&mut data);
        attachments.push(data);
    }
    let from = words.word(rng).to_owned();
    (Letter { from, to: to.to_owned(), date, text, attachments }.write(words, rng), date)
}

fn make_shared(server: &Cyrus, words: &Words, rng: &mut Rng) -> Result<()> {
    let mut admin = server.imap(ADMIN)?;
    admin.run(&format!("CREATE {SHARED}"))?;
    admin.run(&format!("SETACL {SHARED} {ADMIN} lrswipkxtecdan"))?;
    admin.run(&format!("SETACL {SHARED} anyone lrswipn"))?;
    for _ in 0..12 {
        let (message, date) = letter(words, rng, "board");
        admin.append(SHARED, "", &imap_date(date), &message)?;
    }
    Ok(())
}

fn make_user(server: &Cyrus, user: &str) -> Result<()> {
    let mut admin = server.imap(ADMIN)?;
    let inbox = format!("user/{user}");
    admin.run(&format!("CREATE {inbox}"))?;
    admin.run(&format!("CREATE {inbox}/Old second"))?;
    admin.run(&format!("SETQUOTA {inbox} (STORAGE 900000 MESSAGE 90000)"))?;
    admin.run(&format!("SETMETADATA {inbox} (/shared/vendor/cmu/cyrus-imapd/expire \"9999\")"))?;

    let mut imap = server.imap(user)?;
    for folder in FOLDERS.iter().filter(|f| **f != "INBOX/Old") {
        imap.run(&format!("CREATE {}", quoted(folder)))?;
    }
    for folder in FOLDERS.iter().step_by(2).chain([&"INBOX", &SHARED]) {
        imap.run(&format!("SUBSCRIBE {}", quoted(folder)))?;
    }
    imap.run("CREATE INBOX/gone")?;
    imap.run("DELETE INBOX/gone")?;
    imap.run("SETMETADATA INBOX/Work (/private/comment \"my work\" /shared/comment \"our work\")")?;
    for other in server.users().iter().filter(|o| *o != user).take(2) {
        imap.run(&format!("SETACL INBOX/Work {other} lrs"))?;
    }
    let mut sieve = server.sieve(user)?;
    sieve.put("old", "require [\"fileinto\"];\r\nfileinto \"INBOX/Old\";\r\n")?;
    sieve.put("main", &filter("zap", "INBOX/Work"))?;
    sieve.activate("main")
}

/// A sieve script that files mail with `word` in its subject into `folder`.
pub fn filter(word: &str, folder: &str) -> String {
    format!(
        "require [\"fileinto\"];\r\nif header :contains \"subject\" \"{word}\" {{\r\n  fileinto \"{folder}\";\r\n}}\r\n"
    )
}

fn fill_user(server: &Cyrus, user: &str, share: usize, words: &Words, rng: &mut Rng) -> Result<()> {
    let mut imap = server.imap(user)?;
    let mut pending = Vec::new();
    for i in 0..share {
        let folder = if rng.chance(0.4) { "INBOX" } else { FOLDERS[rng.index(FOLDERS.len())] };
        let (message, date) = letter(words, rng, user);
        pending.push(imap.send_append(folder, FLAGS[rng.index(FLAGS.len())], &imap_date(date), &message)?);
        if pending.len() == PIPELINE || i + 1 == share {
            for tag in pending.drain(..) {
                let (_, status) = imap.finish(&tag)?;
                if !status.starts_with("OK") {
                    bail!("APPEND: {status}");
                }
            }
        }
    }
    rework(&mut imap)?;
    imap.run(&format!("SELECT {SHARED}"))?;
    // Seen state that differs per user lies in seen.db.
    let upto = 1 + rng.below(10);
    imap.run(&format!("UID STORE 1:{upto} +FLAGS (\\Seen)"))?;
    Ok(())
}

/// Copies (hard links), moves, expunges and message annotations.
fn rework(imap: &mut Imap) -> Result<()> {
    imap.run("SELECT INBOX")?;
    imap.run("COPY 1:6 \"INBOX/two words\"").ok();
    imap.run("COPY 2:5 INBOX/Old").ok();
    imap.run("MOVE 1:2 INBOX/Work/Deep/Deeper").ok();
    imap.run("STORE 3:4 +FLAGS (\\Deleted)").ok();
    imap.run("EXPUNGE")?;
    imap.run("STORE 1:2 +FLAGS (\\Deleted)").ok();
    imap.run("STORE * ANNOTATION (/comment (value.priv \"a note\" value.shared \"for all\"))").ok();
    imap.run("CLOSE").ok();
    imap.run("SELECT INBOX/Work")?;
    imap.run("STORE 1 ANNOTATION (/altsubject (value.priv \"another\"))").ok();
    imap.run("STORE 1:3 +FLAGS (kept)").ok();
    imap.run("UNSELECT")?;
    Ok(())
}
