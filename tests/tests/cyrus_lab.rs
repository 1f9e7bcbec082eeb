//! The lab checked by itself: without Mailkeep in between, a stopped server copied byte for byte must be
//! equal over IMAP, a changed one must not, and live load must survive a stop.

use anyhow::{Context, Result, bail};
use mailkeep_tests::cyrus::load::Load;
use mailkeep_tests::cyrus::populate::{filter, populate};
use mailkeep_tests::cyrus::state::ImapState;
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process;

fn copied_server_is_equal(layout: Layout) -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let server = Cyrus::create(&home.path().join("a"), &["alice", "bob", "carol"], layout)?;
    server.start()?;
    populate(&server, 150, 1)?;
    let before = ImapState::capture(&server)?;
    assert!(before.messages() >= 150 && before.mailboxes() >= 24, "{} messages", before.messages());

    let kinds = [
        (" annotations", "a note"),
        ("for alice: /private/comment", "my work"),
        ("alice INBOX uid", "$Label1"),
        ("alice shared/board uid 1", "\\Seen"),
        ("sieve script main", "active"),
        ("subscribes", ""),
        ("quota user/alice", "STORAGE"),
        ("acl user/alice/Work", "bob lrs"),
        ("mailbox user/bob/Entw&APw-rfe", ""),
        ("synccrcs", ""),
    ];
    for (name, value) in kinds {
        assert!(before.count(name, value) > 0, "no fact {name} with {value}: the comparison would be blind");
    }

    server.stop()?;
    let copy = server.copy_to(&home.path().join("b"))?;
    copy.start()?;
    let after = ImapState::capture(&copy)?;
    if let Some(difference) = before.difference(&after) {
        bail!("a byte-for-byte copy differs: {difference}");
    }

    let mut imap = copy.imap("bob")?;
    imap.run("SELECT INBOX")?;
    imap.run("STORE 1 +FLAGS (changed)")?;
    copy.sieve("alice")?.put("old", &filter("other", "INBOX/Old"))?;
    let changed = ImapState::capture(&copy)?;
    let difference = before.difference(&changed).context("two changes must be seen")?;
    assert!(
        difference.contains("bob INBOX uid") && difference.contains("sieve script old of alice"),
        "{difference}"
    );
    Ok(())
}

#[test]
fn a_copied_server_is_equal_in_the_uuid_layout() -> Result<()> {
    copied_server_is_equal(Layout::Uuid)
}

#[test]
fn a_copied_server_is_equal_in_the_legacy_layout() -> Result<()> {
    copied_server_is_equal(Layout::Legacy)
}

#[test]
fn load_survives_a_stop_and_truth_is_taken() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let server = Cyrus::create(&home.path().join("a"), &["alice", "bob"], Layout::Uuid)?;
    server.start()?;
    populate(&server, 60, 2)?;
    let load = Load::start(&server, 2, 3);
    load.wait_for(60)?;
    let truth_dir = home.path().join("truth");
    server.keep_truth_in(&truth_dir)?;
    server.stop()?;
    assert!(!server.greets());
    server.start()?;
    load.wait_for(60)?;
    assert!(load.stop().lost > 0, "the stop must have been felt");

    let truth = Cyrus::adopt(&truth_dir, server.root(), server.users())?;
    truth.start()?;
    let then = ImapState::capture(&truth)?;
    let now = ImapState::capture(&server)?;
    assert!(then.difference(&now).is_some(), "load went on after the stop, so the truth must be older");
    Ok(())
}
