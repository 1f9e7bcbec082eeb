//! The stage on file systems of all kinds: what cannot be kept where it lies is kept in the agent's own folder, large files
//! are cloned where that is possible, and where there is no room at all mail waits for the link and for nothing else.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use mailkeep_link::message::{Frozen, Prepared, Quiesce, Resumed, ToAgent, ToBox};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use support::mounts::{Mounted, run};
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

fn start(mail: &Mail) -> Agent {
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source("freeze = \"descriptors\""));
    agent
}

/// A file without a name can be made here.
fn has_nameless_files(folder: &Path) -> bool {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, folder, flags, Mode::RUSR).is_ok()
}

/// Nothing but the folder of the service, and nothing in the spool that was not there.
fn nothing_is_left(mail: &Mail, spool: &Path, names: &[&str]) {
    let state: Vec<PathBuf> =
        fs::read_dir(mail.state()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(state, [mail.folder()]);
    let mut there: Vec<String> =
        fs::read_dir(spool).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    there.sort();
    assert_eq!(there, names);
}

#[test]
fn where_no_file_is_without_a_name_it_is_kept_in_the_agents_own_folder() {
    let mail = Mail::new();
    let (behind, spool) = (mail.path("behind"), mail.path("spool"));
    fs::create_dir(&behind).unwrap();
    let Some(_fuse) = Mounted::fuse(&behind, &spool) else { return };
    assert!(!has_nameless_files(&spool), "this is no test of what it should be");
    fs::write(spool.join("index"), "index one").unwrap();
    let agent = start(&mail);
    agent.pass(1, false);
    assert!(prepare(&agent).able);
    fs::write(spool.join("index"), "index two").unwrap();
    fs::write(spool.join("large"), vec![3; 9 << 20]).unwrap();
    fs::write(spool.join("2."), "came late").unwrap();
    let frozen = freeze(&agent);
    assert!(frozen.whole && frozen.moved.is_empty(), "{frozen:?}");
    resumed(&agent);
    fs::write(spool.join("index"), "index three").unwrap();
    fs::write(spool.join("large"), "small").unwrap();
    fs::remove_file(spool.join("2.")).unwrap();
    let copy = agent.pass(2, true);
    assert_eq!(copy.bytes(&spool.join("index")), b"index two");
    assert_eq!(copy.bytes(&spool.join("large")), vec![3; 9 << 20]);
    assert_eq!(copy.bytes(&spool.join("2.")), b"came late");
    agent.goodbye();
    wait_for("the guard's end", || mail.settled());
    nothing_is_left(&mail, &spool, &["index", "large"]);
}

#[test]
fn where_that_folder_has_no_room_either_it_is_told_before_the_stop() {
    let mail = Mail::new();
    let (behind, spool) = (mail.path("behind"), mail.path("spool"));
    fs::create_dir(&behind).unwrap();
    let Some(_fuse) = Mounted::fuse(&behind, &spool) else { return };
    let Some(_small) = Mounted::tmpfs(&mail.state(), "size=24m,mode=700") else { return };
    fs::write(spool.join("index"), "index one").unwrap();
    let agent = start(&mail);
    agent.pass(1, false);
    let prepared = prepare(&agent);
    assert!(!prepared.able && prepared.why.contains("has room for"), "{prepared:?}");
    assert_eq!(mail.count("stop"), 0);
    agent.goodbye();
}

#[test]
fn large_files_are_cloned_where_the_file_system_can() {
    for mkfs in [&["mkfs.xfs", "-q", "-m", "reflink=1"][..], &["mkfs.btrfs", "-q"]] {
        let mail = Mail::new();
        let spool = mail.path("spool");
        let Some(_disk) = Mounted::image(&spool, mkfs, 512) else { return };
        let agent = start(&mail);
        agent.pass(1, false);
        assert!(prepare(&agent).able);
        fs::write(spool.join("large"), vec![3; 30 << 20]).unwrap();
        fs::write(spool.join("small"), vec![4; 100_000]).unwrap();
        let frozen = freeze(&agent);
        assert!(frozen.whole && frozen.moved.is_empty(), "{frozen:?}");
        // The small one, and the list of versions.
        assert!((100_000..200_000).contains(&frozen.bytes), "{mkfs:?}: {frozen:?}");
        resumed(&agent);
        let mut file = fs::File::options().write(true).open(spool.join("large")).unwrap();
        file.write_all(&vec![5; 20 << 20]).unwrap();
        fs::remove_file(spool.join("small")).unwrap();
        let copy = agent.pass(2, true);
        assert_eq!(copy.bytes(&spool.join("large")), vec![3; 30 << 20], "{mkfs:?}");
        assert_eq!(copy.bytes(&spool.join("small")), vec![4; 100_000]);
        agent.goodbye();
    }
}

#[test]
fn a_stage_that_is_full_in_the_middle_ends_in_a_pass_over_the_link() {
    let mail = Mail::new();
    let spool = mail.path("spool");
    let Some(_disk) = Mounted::image(&spool, &["mkfs.btrfs", "-q", "--mixed"], 256) else { return };
    // Three subvolumes, one in the other, share the room. Each is met with a small file, and promised half of what is free;
    // the large ones come after that. They have nothing in them and so take no room before they are copied, and they
    // are too small to be cloned.
    let (mut names, mut folder) = (Vec::new(), spool.clone());
    for depth in 0..3 {
        if depth > 0 {
            folder.push("a");
            run(&["btrfs", "subvolume", "create", &folder.display().to_string()]).unwrap();
        }
        fs::create_dir(folder.join("z")).unwrap();
        names.push((folder.join("small"), 1));
        names.extend((0..14).map(|number| (folder.join("z").join(format!("index{number}")), 7 << 20)));
    }
    let agent = start(&mail);
    agent.pass(1, false);
    assert!(prepare(&agent).able);
    for (name, length) in &names {
        fs::File::create(name).unwrap().set_len(*length).unwrap();
    }
    let frozen = freeze(&agent);
    assert!(!frozen.whole, "{frozen:?}");
    assert!(frozen.why.contains("a copy could not be written: No space left"), "{frozen:?}");
    assert!(!frozen.why.contains('\n'));
    // Mail waits for the link, as it was promised it might.
    assert!(!mail.is_up());
    let copy = agent.pass(2, true);
    for (name, length) in &names {
        assert_eq!(copy.bytes(name).len() as u64, *length);
    }
    assert_eq!(agent.recheck(), Vec::<String>::new());
    agent.resume();
    assert!(mail.is_up());
    agent.goodbye();
    wait_for("the guard's end", || mail.settled());
    nothing_is_left(&mail, &spool, &["a", "small", "z"]);
}

#[test]
fn a_stage_that_is_full_while_the_box_says_nothing_lets_mail_start_all_the_same() {
    let mail = Mail::new();
    let spool = mail.path("spool");
    let Some(_small) = Mounted::tmpfs(&spool, "size=64m") else { return };
    let agent = start(&mail);
    agent.pass(1, false);
    assert!(prepare(&agent).able);
    fs::write(spool.join("index"), vec![1; 40 << 20]).unwrap();
    agent.send(ToAgent::Freeze(Quiesce { deadline_seconds: 20 }));
    assert!(matches!(agent.receive().unwrap(), ToBox::Quiesced(_)));
    let frozen = agent.receive().unwrap();
    assert!(matches!(&frozen, ToBox::Frozen(frozen) if !frozen.whole), "{frozen:?}");
    // Nothing more is said by the box; the link stays. Whoever is first starts mail.
    wait_for("mail", || mail.is_up());
    wait_for("the guard's end", || mail.settled());
    agent.end();
    assert!(mail.is_up());
}

#[test]
fn with_few_descriptors_messages_are_copied() {
    let mail = Mail::new();
    let spool = mail.path("spool");
    let agent = Agent::start(&mail.state());
    let few = Rlimit { current: Some(64), maximum: Some(64) };
    prlimit(Some(Pid::from_child(&agent.child)), Resource::Nofile, few).unwrap();
    agent.configure(&mail.source("freeze = \"descriptors\""));
    agent.pass(1, false);
    assert!(prepare(&agent).able);
    let names: Vec<PathBuf> = (2..302).map(|number| spool.join(format!("{number}."))).collect();
    for name in &names {
        fs::write(name, name.display().to_string().repeat(20)).unwrap();
    }
    fs::write(spool.join("large"), vec![3; 9 << 20]).unwrap();
    let frozen = freeze(&agent);
    assert!(frozen.whole, "{frozen:?}");
    assert!(frozen.bytes > 280 * 20 * 30, "{frozen:?}: hardly any may be held open");
    resumed(&agent);
    for name in &names {
        fs::remove_file(name).unwrap();
    }
    fs::remove_file(spool.join("large")).unwrap();
    let copy = agent.pass(2, true);
    for name in &names {
        assert_eq!(copy.bytes(name), name.display().to_string().repeat(20).as_bytes());
    }
    assert_eq!(copy.bytes(&spool.join("large")), vec![3; 9 << 20]);
    agent.goodbye();
}
