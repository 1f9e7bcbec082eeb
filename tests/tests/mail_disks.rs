//! When a message came and vanished, over all disks of a set: those at hand are looked into, those in the cupboard are
//! named. With a real Cyrus and disks that take turns.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::source::{Options, cyrus_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::mime::imap_date;
use mailkeep_tests::process;
use mailkeep_tests::rig::{Rig, id, of, one_clear_line, words};
use serde_json::Value;

/// Snapshots of different disks are put in order by their times, which are told in seconds.
fn next_second() -> Result<()> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_secs());
    let begin = now()?;
    while now()? == begin {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn labels(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|disk| disk["label"].as_str()).collect()
}

#[test]
fn a_message_is_followed_over_all_disks() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let red = Rig::new(home.path())?;
    let (path, cupboard) = (home.path().join("blue"), home.path().join("cupboard"));
    let blue = red.other_disk(&path, "blue disk")?;
    let server = Cyrus::create(&home.path().join("server"), &["alice"], Layout::Uuid)?;
    server.start()?;
    server.imap("alice")?.run("CREATE INBOX")?;
    server.imap("alice")?.append("INBOX", "", &imap_date(1_500_000_000), b"Subject: old\r\n\r\nold\r\n")?;
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
    let backup = |rig: &Rig| -> Result<String> {
        let snapshot = id(&rig.good_backup(&source)?)?;
        server.wait_for_greeting(process::HANG)?;
        next_second()?;
        Ok(snapshot)
    };
    backup(&red)?;
    let letter = b"From: j@x.org\r\nMessage-ID: <lost@lab>\r\nSubject: the contract\r\n\r\nx\r\n";
    server.imap("alice")?.append("INBOX", "", &imap_date(1_600_000_000), letter)?;
    let came = backup(&blue)?;
    let last = backup(&red)?;
    let mut imap = server.imap("alice")?;
    for command in ["SELECT INBOX", "STORE 2 +FLAGS (\\Deleted)", "EXPUNGE", "UNSELECT"] {
        imap.run(command)?;
    }
    drop(imap);
    let gone = backup(&blue)?;

    let search = |more: &[&str]| -> Result<(Vec<Value>, Vec<Value>)> {
        let mut all = vec!["mail", "search", "subject:contract"];
        all.extend(more);
        let lines = red.objects(&all)?;
        let owned = |kind| of(&lines, kind).into_iter().cloned().collect::<Vec<Value>>();
        Ok((owned("match"), owned("disk")))
    };
    let (hits, away) = search(&["--all-disks"])?;
    let [hit] = &hits[..] else { anyhow::bail!("{hits:?}") };
    ensure!(hit["first_snapshot"] == *came && hit["last_snapshot"] == *last, "{hit}");
    ensure!(hit["gone_in"] == *gone && hit["snapshots"] == 2 && away.is_empty(), "{hit} {away:?}");
    let mut on = labels(&hit["disks"]);
    on.sort_unstable();
    ensure!(on == ["blue disk", "lab disk"] && labels(&hit["may_have"]).is_empty(), "{hit}");
    // For people too.
    let text = red.ok(&words(&["mail", "search", "subject:contract", "--all-disks"]))?.out();
    ensure!(text.contains("vanished between") && text.contains("on blue disk in 1 snapshot"), "{text}");
    // Nobody asked for the other disk: it is named only.
    let (hits, away) = search(&["--all-snapshots"])?;
    let [hit] = &hits[..] else { anyhow::bail!("{hits:?}") };
    ensure!(hit["first_snapshot"] == *last && hit["gone_in"].is_null(), "{hit}");
    ensure!(labels(&hit["may_have"]) == ["blue disk"] && hit["may_have"][0]["snapshots"] == 2, "{hit}");
    ensure!(away.len() == 1 && away[0]["at_hand"] == true && away[0]["label"] == "blue disk", "{away:?}");
    // One snapshot says nothing of other disks.
    ensure!(search(&[])?.1.is_empty() && search(&["--snapshot", &last])?.0.len() == 1);

    // In the cupboard; and with another repository in its place.
    fs::rename(&path, &cupboard)?;
    for stranger in [false, true] {
        if stranger {
            let elsewhere = tempfile::tempdir()?;
            Rig::new(elsewhere.path())?.copy_to(&path)?;
        }
        let (hits, away) = search(&["--all-disks"])?;
        ensure!(hits.len() == 1 && labels(&hits[0]["disks"]) == ["lab disk"], "{hits:?}");
        ensure!(labels(&hits[0]["may_have"]) == ["blue disk"], "{hits:?}");
        let [disk] = &away[..] else { anyhow::bail!("{away:?}") };
        ensure!(disk["at_hand"] == false && disk["snapshots"] == 2, "{disk}");
    }
    // At another place it is found when it is named, and remembered there.
    fs::remove_dir_all(&path)?;
    let seen = red.at(&cupboard).ok(&words(&["snapshots"]))?;
    ensure!(seen.out().contains(&came[..10]), "{}", seen.out());
    ensure!(search(&["--all-disks"])?.0.first().context("no match")?["gone_in"] == *gone);

    // Without any disk: come again.
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    fs::rename(&cupboard, &one)?;
    fs::rename(red.repository(), &two)?;
    let named = red.command(&[]);
    let all = named.get_envs().map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned)));
    let mut bare = std::process::Command::new(named.get_program());
    for (key, value) in all.collect::<Vec<_>>() {
        match value {
            Some(value) => bare.env(key, value),
            None => bare.env_remove(key),
        };
    }
    let refused = process::run(bare.args(["mail", "search", "subject:contract", "--all-disks"]))?;
    ensure!(refused.code == 75, "{}: {}", refused.code, refused.err());
    ensure!(one_clear_line("no disk", &refused)?.contains("is at hand"), "{}", refused.err());
    Ok(())
}
