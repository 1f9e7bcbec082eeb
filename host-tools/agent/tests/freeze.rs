//! The frozen final pass, with real processes: what is told when mail runs again is what was there while it was stopped.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mailkeep_link::message::{Frozen, Prepared, Quiesce, ReadOutcome, Resumed, ToAgent, ToBox};
use support::{Agent, Mail, wait_for};

/// Not a test: the mail service that the scripts of [`Mail`] start.
#[test]
#[ignore = "run by the start script of the fake mail service"]
fn greeter_process() {
    support::greet_for_ever();
}

fn prepare(agent: &Agent) -> Prepared {
    agent.send(ToAgent::Prepare);
    match agent.receive().unwrap() {
        ToBox::Prepared(prepared) => prepared,
        other => panic!("{other:?}"),
    }
}

fn freeze(agent: &Agent) -> Frozen {
    agent.send(ToAgent::Freeze(Quiesce { deadline_seconds: 600 }));
    let quiesced = agent.receive().unwrap();
    assert!(matches!(quiesced, ToBox::Quiesced(_)), "{quiesced:?}");
    match agent.receive().unwrap() {
        ToBox::Frozen(frozen) => frozen,
        other => panic!("{other:?}"),
    }
}

fn resumed(agent: &Agent) -> Resumed {
    match agent.receive().unwrap() {
        ToBox::Resumed(resumed) => resumed,
        other => panic!("{other:?}"),
    }
}

/// Waits until this file is older than a pass that begins now counts as young.
fn wait_until_old(path: &Path) {
    wait_for("a file to be old", || {
        let changed = Duration::from_secs(fs::metadata(path).unwrap().ctime() as u64);
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() > changed + Duration::from_secs(4)
    });
}

/// Everything below a folder: inode, links, and times of change.
fn stamps(folder: &Path) -> BTreeMap<PathBuf, (u64, u64, i64, i64, i64)> {
    let mut stamps = BTreeMap::new();
    let mut ahead = vec![folder.to_owned()];
    while let Some(path) = ahead.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let times = (stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec());
        stamps.insert(path, (stat.ino(), stat.nlink(), times.0, times.1, times.2));
    }
    stamps
}

#[test]
fn what_was_there_is_told_whatever_mail_does_meanwhile() {
    let mail = Mail::new();
    let spool = mail.path("spool");
    fs::write(spool.join("cyrus.index"), "index one").unwrap();
    fs::write(spool.join("big"), vec![1; 9 << 20]).unwrap();
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.pass(1, false);
    let prepared = prepare(&agent);
    assert!(prepared.able && prepared.bytes >= 9 << 20, "{prepared:?}");
    fs::write(spool.join("2."), "came late").unwrap();
    fs::hard_link(spool.join("2."), spool.join("3.")).unwrap();
    fs::write(spool.join("cyrus.index"), "index two").unwrap();
    fs::create_dir(spool.join("sub")).unwrap();
    fs::write(spool.join("sub/4."), "in a new folder").unwrap();
    let before = stamps(&spool);

    let frozen = freeze(&agent);
    assert!(frozen.whole && frozen.moved.is_empty(), "{frozen:?}");
    assert!(!resumed(&agent).started_by_other);
    assert!(mail.is_up());
    wait_for("the guard's end", || mail.settled());
    assert_eq!((mail.count("stop"), mail.count("start")), (1, 2));
    assert_eq!(stamps(&spool), before, "staging leaves no name and no mark");

    // Mail runs and does all that it may do, and more.
    fs::remove_file(spool.join("2.")).unwrap();
    fs::remove_file(spool.join("3.")).unwrap();
    fs::write(spool.join("cyrus.index"), "three").unwrap();
    fs::remove_file(spool.join("big")).unwrap();
    fs::remove_dir_all(spool.join("sub")).unwrap();
    fs::write(spool.join("5."), "came afterwards").unwrap();
    let copy = agent.pass(2, true);
    assert_eq!(copy.bytes(&spool.join("2.")), b"came late");
    assert_eq!(copy.bytes(&spool.join("3.")), b"came late");
    assert_eq!(copy.bytes(&spool.join("cyrus.index")), b"index two");
    assert_eq!(copy.bytes(&spool.join("big")), vec![1; 9 << 20]);
    assert_eq!(copy.bytes(&spool.join("sub/4.")), b"in a new folder");
    assert_eq!(copy.bytes(&spool.join("1.")), b"Subject: one\r\n\r\nHello.\r\n");
    assert!(copy.bytes(Path::new("/.mailkeep/versions")).starts_with(b"kernel "));
    assert!(!copy.nodes.contains_key(&spool.join("5.")));
    assert_eq!(copy.problems, Vec::<String>::new());
    agent.goodbye();
}

#[test]
fn what_was_not_kept_has_to_be_as_it_was() {
    let mail = Mail::new();
    let spool = mail.path("spool");
    for name in ["2.", "3.", "4."] {
        fs::write(spool.join(name), format!("message {name}")).unwrap();
    }
    wait_until_old(&spool.join("4."));
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.pass(1, false);
    assert!(prepare(&agent).able);
    let frozen = freeze(&agent);
    assert!(frozen.whole, "{frozen:?}");
    // The list of versions alone: nothing else changed.
    assert_eq!(frozen.files, 1);
    resumed(&agent);
    fs::remove_file(spool.join("2.")).unwrap();
    fs::File::options().append(true).open(spool.join("3.")).unwrap().write_all(b"!").unwrap();
    let copy = agent.pass(2, true);
    let outcome = |name: &str| &copy.outcomes[&spool.join(name)].0;
    assert_eq!(*outcome("2."), ReadOutcome::Vanished);
    assert!(matches!(outcome("3."), ReadOutcome::Read { steady: false, .. }), "{:?}", outcome("3."));
    assert_eq!(copy.bytes(&spool.join("4.")), b"message 4.");
    agent.goodbye();
}

#[test]
fn an_agent_that_is_killed_leaves_mail_running_and_no_name_behind() {
    let mail = Mail::new();
    let spool = mail.path("spool");
    for number in 2..200 {
        fs::write(spool.join(format!("{number}.")), vec![7; 10_000]).unwrap();
        fs::write(spool.join(format!("index{number}")), vec![8; 10_000]).unwrap();
    }
    let before = stamps(&spool);
    for asked in [true, false] {
        let agent = Agent::start(&mail.state());
        agent.configure(&mail.source(""));
        agent.pass(1, false);
        assert!(prepare(&agent).able);
        if asked {
            assert!(freeze(&agent).whole);
            resumed(&agent);
        } else {
            // Somewhere between the stop and the start.
            agent.send(ToAgent::Freeze(Quiesce { deadline_seconds: 600 }));
            agent.receive().unwrap();
        }
        agent.kill();
        wait_for("mail", || mail.is_up());
        wait_for("the guard's end", || mail.settled());
        assert_eq!(stamps(&spool), before);
        let names: Vec<_> = fs::read_dir(mail.state()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names, [mail.folder()], "nothing is left in the agent's own folder");
    }
}

#[test]
fn a_link_that_ends_while_it_is_frozen_brings_mail_back() {
    let mail = Mail::new();
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.pass(1, false);
    agent.send(ToAgent::Freeze(Quiesce { deadline_seconds: 600 }));
    assert!(matches!(agent.receive().unwrap(), ToBox::Quiesced(_)));
    agent.end();
    assert!(mail.is_up());
    wait_for("the guard's end", || mail.settled());
}

#[test]
fn a_box_that_changes_its_mind_is_obeyed_and_one_that_is_too_early_refused() {
    let mail = Mail::new();
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.send(ToAgent::Freeze(Quiesce { deadline_seconds: 600 }));
    let answer = agent.receive().unwrap();
    assert!(matches!(&answer, ToBox::Failed(failed) if failed.what.contains("live pass")), "{answer:?}");
    assert_eq!(mail.count("stop"), 0);
    agent.end();

    mail.set("slow-stop");
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.pass(1, false);
    agent.send(ToAgent::Freeze(Quiesce { deadline_seconds: 600 }));
    wait_for("the stop", || mail.count("stop") == 1);
    agent.send(ToAgent::Resume);
    resumed(&agent);
    assert!(mail.is_up());
    agent.goodbye();
}

/// A small file system of its own; `None` where that is not allowed.
struct Small(PathBuf);

impl Small {
    fn at(path: &Path, options: &std::ffi::CStr) -> Option<Small> {
        let flags = rustix::mount::MountFlags::empty();
        match rustix::mount::mount("none", path, "tmpfs", flags, options) {
            Ok(()) => Some(Small(path.to_owned())),
            Err(error) => {
                let required = std::env::var_os("MAILKEEP_REQUIRE_ALL").is_some_and(|value| value == "1");
                assert!(!required, "cannot mount: {error}");
                eprintln!("skipped: cannot mount: {error}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_foreseen_and_one_that_fills_up_ends_in_a_pass_over_the_link() {
    let mail = Mail::new();
    let spool = mail.path("spool");
    let Some(_small) = Small::at(&spool, c"size=100m") else { return };
    fs::write(spool.join("1."), "one").unwrap();
    fs::write(spool.join("index"), vec![1; 30 << 20]).unwrap();
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.pass(1, false);
    let prepared = prepare(&agent);
    assert!(!prepared.able && prepared.why.contains("76 MB are needed"), "{prepared:?}");
    assert!(mail.is_up());

    fs::remove_file(spool.join("index")).unwrap();
    agent.pass(2, false);
    assert!(prepare(&agent).able);
    fs::write(spool.join("index"), vec![2; 60 << 20]).unwrap();
    let frozen = freeze(&agent);
    assert!(!frozen.whole && frozen.why.contains("MB that it may take"), "{frozen:?}");
    assert!(!mail.is_up(), "the window is still open");
    let copy = agent.pass(3, true);
    assert_eq!(copy.bytes(&spool.join("index")), vec![2; 60 << 20]);
    assert_eq!(agent.recheck(), Vec::<String>::new());
    agent.resume();
    assert!(mail.is_up());
    agent.goodbye();
}
