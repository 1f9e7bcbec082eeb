//! The mail check looks into new messages: one that was changed on the real server after its delivery is named, and an
//! untouched server gives no problem.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, cyrus_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process;
use mailkeep_tests::programs::json_line;
use mailkeep_tests::rig::Rig;
use serde_json::Value;

/// The message file in which this stands.
fn file_with(folder: &Path, needle: &str) -> Result<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with('.')
                && String::from_utf8_lossy(&fs::read(&path)?).contains(needle)
            {
                return Ok(path);
            }
        }
    }
    anyhow::bail!("no message with {needle}")
}

/// Turns one letter of a message into another, as a failing disk does: size and time of change stay.
fn flip(path: &Path, needle: &str) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let at = bytes.windows(needle.len()).position(|part| part == needle.as_bytes()).context("needle")?;
    bytes[at] ^= 1;
    let modified = fs::metadata(path)?.modified()?;
    let owner = (fs::metadata(path)?.uid(), fs::metadata(path)?.gid());
    let file = fs::File::options().write(true).open(path)?;
    std::io::Write::write_all(&mut &file, &bytes)?;
    file.set_modified(modified)?;
    ensure!((fs::metadata(path)?.uid(), fs::metadata(path)?.gid()) == owner);
    Ok(())
}

fn letter(subject: &str) -> Vec<u8> {
    format!("From: a@example.net\r\nTo: alice\r\nSubject: {subject}\r\nMessage-ID: <{subject}@lab>\r\n\r\nDear {subject}\r\n")
        .into_bytes()
}

fn counts(summary: &Value) -> (u64, u64) {
    let count = |name: &str| summary["mail_check"][name].as_u64().unwrap_or(u64::MAX);
    (count("digests_compared"), count("new_messages"))
}

#[test]
fn a_message_that_was_flipped_on_the_server_is_named() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let server = Cyrus::create(&home.path().join("server"), &["alice", "bob"], Layout::Uuid)?;
    server.start()?;
    populate(&server, 60, 3)?;
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;

    // All that came by delivery, by APPEND and by COPY, of all sizes, is what the indexes say.
    let (compared, new) = counts(&rig.good_backup(&source)?);
    ensure!(compared >= 50 && compared <= new, "{compared} of {new}");
    ensure!(counts(&rig.good_backup(&source)?) == (0, 0), "nothing is new");

    for subject in ["sound", "flipped", "other"] {
        server.deliver("bob", &letter(subject))?;
    }
    flip(&file_with(&server.root().join("spool"), "Dear flipped")?, "Dear flipped")?;
    let output = process::run(&mut rig.backup_command(&source))?;
    ensure!(output.code == 2, "exit {}: {}{}", output.code, output.out(), output.err());
    let summary = json_line(&output.out(), "summary")?;
    ensure!(summary["consistent"] == true && counts(&summary) == (3, 3), "{summary}");
    let problems = summary["mail_check"]["problem_list"].as_array().context("problem_list")?;
    ensure!(problems.len() == 1, "{summary}");
    let named = problems[0].as_str().unwrap_or_default();
    ensure!(
        named.starts_with("mailbox user.bob: has new messages that are not as they were delivered"),
        "{named}"
    );
    let uid = file_with(&server.root().join("spool"), "<flipped@lab>")?;
    let uid = uid.file_name().unwrap_or_default().to_string_lossy().trim_end_matches('.').to_owned();
    ensure!(named.ends_with(&format!("(number {uid})")), "{named}, and it is {uid}");
    let shown = rig.ok(&["show".into(), "latest".into()])?.out();
    ensure!(shown.contains(named), "the manifest does not name it:\n{shown}");

    // One that had been sound, and goes bad later.
    flip(&file_with(&server.root().join("spool"), "Dear other")?, "Dear other")?;
    server.deliver("bob", &letter("late"))?;
    let output = process::run(&mut rig.backup_command(&source))?;
    let summary = json_line(&output.out(), "summary")?;
    ensure!(output.code == 2 && summary["mail_check"]["problems"] == 1, "{summary}");
    ensure!(counts(&summary) == (2, 2), "{summary}");
    Ok(())
}
