//! The final pass out of snapshots of a real btrfs, with real processes: what is told is what was there while mail was
//! stopped, nothing of it is left behind by any end, and nothing is removed that is not the agent's own.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use mailkeep_link::message::{BeginPass, Frozen, Prepared, Quiesce, Resumed, ToAgent, ToBox};
use support::mounts::{Mounted, run};
use support::{Agent, Mail, Said, recalled, wait_for};

/// Name of a folder that the agent makes for snapshots.
const FOLDER: &str = ".mailkeep-frozen";

/// Not a test: the mail service that the scripts of [`Mail`] start.
#[test]
#[ignore = "run by the start script of the fake mail service"]
fn greeter_process() {
    support::greet_for_ever();
}

/// A mail service whose spool lies on a btrfs.
struct Lab {
    mail: Mail,
    // Behind the service: it is unmounted last.
    disk: Mounted,
    spool: PathBuf,
    _home: tempfile::TempDir,
}

/// Where the spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The top of the file system; nothing else of it is mounted.
    Top,
    /// A subvolume of its own in a mounted file system.
    Subvolume,
    /// A folder in a subvolume that has all else too, the agent's own folder among it.
    Folder,
}

const PLACES: [Place; 3] = [Place::Top, Place::Subvolume, Place::Folder];

impl Lab {
    fn new(place: Place) -> Option<Lab> {
        let home = tempfile::tempdir().unwrap();
        let point = home.path().canonicalize().unwrap().join("disk");
        let disk = Mounted::btrfs(&point)?;
        let mail = if place == Place::Folder { Mail::new_in(&point) } else { Mail::new() };
        let spool = match place {
            Place::Top => point,
            Place::Subvolume => {
                let path = point.join("spool");
                run(&["btrfs", "subvolume", "create", &path.display().to_string()]).unwrap();
                path
            }
            Place::Folder => mail.path("spool"),
        };
        for (name, text) in
            [("1.", "Subject: one\r\n\r\nHello.\r\n"), ("2.", "two"), ("cyrus.index", "index one")]
        {
            fs::write(spool.join(name), text).unwrap();
        }
        fs::hard_link(spool.join("2."), spool.join("3.")).unwrap();
        fs::create_dir(spool.join("user")).unwrap();
        fs::write(spool.join("user/1."), "below").unwrap();
        Some(Lab { mail, disk, spool, _home: home })
    }

    /// The source file, with these folders beside the spool.
    fn source(&self, more: &[&Path], quiesce: &str) -> String {
        let own = format!("paths = [{:?}]", self.mail.path("spool"));
        let paths: Vec<String> =
            [self.spool.as_path()].iter().chain(more).map(|path| format!("{path:?}")).collect();
        let text = self.mail.source(quiesce);
        assert!(text.contains(&own));
        text.replace(&own, &format!("paths = [{}]", paths.join(", ")))
    }

    fn agent(&self) -> Agent {
        let agent = Agent::start(&self.mail.state());
        agent.configure(&self.source(&[], ""));
        agent
    }

    /// Paths of all read-only subvolumes of the file system.
    fn snapshots(&self) -> Vec<String> {
        let listed =
            run(&["btrfs", "subvolume", "list", "-r", &self.disk.path().display().to_string()]).unwrap();
        listed.lines().map(|line| line.rsplit_once(" path ").unwrap().1.to_owned()).collect()
    }

    /// Notes in the agent's own folder.
    fn notes(&self) -> Vec<PathBuf> {
        let paths = fs::read_dir(self.mail.state()).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect()
    }

    /// Nothing of a snapshot is left anywhere.
    fn is_clean(&self) -> bool {
        let folders = [self.mail.state(), self.spool.clone(), self.disk.path().to_owned()];
        self.snapshots().is_empty()
            && self.notes().is_empty()
            && !folders.iter().any(|folder| folder.join(FOLDER).exists())
    }

    fn rescue(&self) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_mailkeep-agent"))
            .arg("rescue")
            .env("MAILKEEP_AGENT_STATE", self.mail.state())
            .env("MAILKEEP_AGENT_BOOT", "no")
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    fn wait_until_settled(&self) {
        wait_for("mail", || self.mail.is_up());
        // Where mail was never stopped there is no guard.
        if self.mail.count("stop") > 0 {
            wait_for("the guard's end", || self.mail.settled());
        }
    }
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

/// The folder that a snapshot lies in, by where the spool is.
fn folder_of(lab: &Lab, place: Place) -> PathBuf {
    match place {
        Place::Top => lab.spool.join(FOLDER),
        Place::Subvolume => lab.disk.path().join(FOLDER),
        Place::Folder => lab.mail.state().join(FOLDER),
    }
}

#[test]
fn what_was_there_is_told_out_of_a_snapshot_that_is_gone_afterwards() {
    for place in PLACES {
        let Some(lab) = Lab::new(place) else { return };
        let spool = &lab.spool;
        let agent = lab.agent();
        let live = agent.pass(1, false);
        let prepared = prepare(&agent);
        assert!(prepared.able, "{place:?}: {prepared:?}");
        assert_eq!(prepared.why, format!("btrfs snapshot: {}", spool.display()));
        assert!(lab.is_clean(), "{place:?}: the rehearsal has left something");
        fs::write(spool.join("cyrus.index"), "index two").unwrap();
        fs::write(spool.join("4."), "came late").unwrap();
        fs::create_dir(spool.join("sub")).unwrap();
        fs::write(spool.join("sub/5."), "in a new folder").unwrap();

        let frozen = freeze(&agent);
        assert!(frozen.whole && frozen.moved.is_empty(), "{place:?}: {frozen:?}");
        assert_eq!(frozen.why, prepared.why);
        // The list of versions alone: what the snapshot holds need not be kept.
        assert_eq!((frozen.files, frozen.bytes > 0), (1, true), "{place:?}");
        resumed(&agent);
        assert!(lab.mail.is_up());
        let folder = folder_of(&lab, place);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!((lab.snapshots().len(), lab.notes().len()), (1, 1), "{place:?}");
        assert!(lab.snapshots()[0].contains(FOLDER));

        // Mail runs and does all that it may do.
        for name in ["2.", "3.", "4."] {
            fs::remove_file(spool.join(name)).unwrap();
        }
        fs::write(spool.join("cyrus.index"), "three").unwrap();
        fs::remove_dir_all(spool.join("sub")).unwrap();
        fs::write(spool.join("6."), "came afterwards").unwrap();
        let copy = agent.pass(2, true);
        assert_eq!(copy.problems, Vec::<String>::new());
        assert_eq!(copy.bytes(&spool.join("cyrus.index")), b"index two");
        assert_eq!(copy.bytes(&spool.join("4.")), b"came late");
        assert_eq!(copy.bytes(&spool.join("sub/5.")), b"in a new folder");
        assert_eq!(copy.bytes(&spool.join("user/1.")), b"below");
        assert!(copy.bytes(Path::new("/.mailkeep/versions")).starts_with(b"kernel "));
        assert!(!copy.nodes.contains_key(&spool.join("6.")));
        assert!(!copy.nodes.keys().any(|path| path.ends_with(FOLDER)), "{place:?}: {:?}", copy.nodes.keys());
        // The very same nodes as on the file system itself: inode, times, and of linked files the device.
        for name in ["1.", "2.", "3.", "user", "user/1."] {
            let path = spool.join(name);
            assert_eq!(copy.nodes[&path], live.nodes[&path], "{place:?} {name}");
        }
        let (node, _) = &copy.nodes[&spool.join("2.")];
        assert_eq!((node.meta.links, node.meta.device), (2, fs::metadata(spool).unwrap().dev()));
        // And the read said the same of it.
        let read = |name: &str| match &copy.outcomes[&spool.join(name)].0 {
            mailkeep_link::message::ReadOutcome::Read { node, .. } => node.meta.device,
            other => panic!("{other:?}"),
        };
        assert_eq!(read("2."), node.meta.device);
        agent.goodbye();
        assert!(lab.is_clean(), "{place:?}: {:?} {:?}", lab.snapshots(), lab.notes());
        lab.wait_until_settled();
    }
}

#[test]
fn what_has_not_changed_is_not_listed_in_a_snapshot_either() {
    let Some(lab) = Lab::new(Place::Subvolume) else { return };
    let folder = lab.spool.join("user");
    wait_for("a folder to be old", || {
        let changed = fs::metadata(&folder).unwrap().ctime() as u64;
        std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() > changed + 4
    });
    let agent = lab.agent();
    let live = agent.pass(1, false);
    let (node, _) = &live.nodes[&folder];
    let known = mailkeep_link::message::Known {
        clock: mailkeep_format::Timestamp {
            seconds: std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64,
            nanos: 0,
        },
        folders: vec![mailkeep_link::message::KnownFolder {
            path: std::os::unix::ffi::OsStrExt::as_bytes(folder.as_os_str()).to_vec(),
            inode: node.meta.inode,
            mtime: node.meta.mtime,
            ctime: node.meta.ctime,
            entries: vec![],
        }],
    };
    agent.send(ToAgent::Known(known));
    assert!(freeze(&agent).whole);
    resumed(&agent);
    agent.send(ToAgent::BeginPass(BeginPass { number: 2, is_final: true }));
    let mut unchanged = 0;
    loop {
        match agent.receive().unwrap() {
            ToBox::Entries(entries) => {
                let (directory, first, files) = (entries.directory, entries.first, Vec::new());
                agent.send(ToAgent::Want(mailkeep_link::message::Want { directory, first, files }));
            }
            ToBox::Unchanged(piece) => {
                unchanged += 1;
                let (directory, first, files) = (piece.directory, 0, Vec::new());
                agent.send(ToAgent::Want(mailkeep_link::message::Want { directory, first, files }));
            }
            ToBox::PassEnded(_) => break,
            _ => {}
        }
    }
    assert_eq!(unchanged, 1);
    agent.goodbye();
    assert!(lab.is_clean());
}

#[test]
fn of_what_the_live_pass_saw_only_what_is_another_is_said_out_of_a_snapshot() {
    for place in PLACES {
        let Some(lab) = Lab::new(place) else { return };
        recalled::lay_out(&lab.spool);
        let agent = lab.agent();
        // Where the snapshot's own folder is made in the spool it is no more what it was.
        let itself = if place == Place::Top { Said::All } else { Said::WhatHasChanged };
        recalled::only_what_is_another_is_said(&agent, &lab.spool, "btrfs snapshot", itself);
        agent.goodbye();
        assert!(lab.is_clean(), "{place:?}: {:?} {:?}", lab.snapshots(), lab.notes());
        lab.wait_until_settled();
    }
}

/// How far a run has come when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Prepared,
    Stopped,
    Resumed,
    Passing,
}

impl Moment {
    const ALL: [Moment; 4] = [Moment::Prepared, Moment::Stopped, Moment::Resumed, Moment::Passing];

    fn reach(self, agent: &Agent) {
        agent.pass(1, false);
        let prepared = prepare(agent);
        assert!(prepared.why.starts_with("btrfs snapshot"), "{prepared:?}");
        if self == Moment::Prepared {
            return;
        }
        agent.send(ToAgent::Freeze(Quiesce { deadline_seconds: 600 }));
        assert!(matches!(agent.receive().unwrap(), ToBox::Quiesced(_)));
        if self == Moment::Stopped {
            return;
        }
        let frozen = agent.receive().unwrap();
        assert!(matches!(&frozen, ToBox::Frozen(frozen) if frozen.whole), "{frozen:?}");
        resumed(agent);
        if self == Moment::Passing {
            agent.send(ToAgent::BeginPass(BeginPass { number: 2, is_final: true }));
            assert!(matches!(agent.receive().unwrap(), ToBox::PassBegun(_)));
        }
    }
}

#[test]
fn a_killed_agent_leaves_nothing_that_the_next_one_and_the_rescue_do_not_remove() {
    for place in [Place::Top, Place::Folder] {
        let Some(lab) = Lab::new(place) else { return };
        for moment in Moment::ALL {
            for by_rescue in [true, false] {
                let agent = lab.agent();
                moment.reach(&agent);
                agent.kill();
                lab.wait_until_settled();
                let left = (lab.snapshots().len(), lab.notes().len());
                match moment {
                    Moment::Prepared => assert_eq!(left, (0, 0)),
                    // Anywhere in the freeze.
                    Moment::Stopped => assert!(left.0 <= left.1 && left.1 <= 1, "{left:?}"),
                    Moment::Resumed | Moment::Passing => assert_eq!(left, (1, 1), "{place:?} {moment:?}"),
                }
                if by_rescue {
                    assert_eq!(lab.rescue(), "");
                    assert!(lab.is_clean(), "{place:?} {moment:?}: {:?}", lab.snapshots());
                } else {
                    let next = lab.agent();
                    assert!(lab.is_clean(), "{place:?} {moment:?}: {:?}", lab.snapshots());
                    // Nothing of it was taken for mail.
                    assert!(!next.pass(1, false).nodes.keys().any(|path| path.ends_with(FOLDER)));
                    next.goodbye();
                }
            }
        }
    }
}

#[test]
fn a_link_that_ends_leaves_nothing_behind() {
    let Some(lab) = Lab::new(Place::Subvolume) else { return };
    for moment in Moment::ALL {
        let agent = lab.agent();
        moment.reach(&agent);
        agent.end();
        lab.wait_until_settled();
        assert!(lab.is_clean(), "{moment:?}: {:?} {:?}", lab.snapshots(), lab.notes());
    }
    // A box that changes its mind while it is frozen.
    let agent = lab.agent();
    Moment::Stopped.reach(&agent);
    agent.send(ToAgent::Resume);
    while !matches!(agent.receive().unwrap(), ToBox::Resumed(_)) {}
    agent.end();
    assert!(lab.is_clean(), "{:?} {:?}", lab.snapshots(), lab.notes());
}

#[test]
fn the_snapshot_of_a_living_agent_is_left_alone() {
    let Some(lab) = Lab::new(Place::Top) else { return };
    let agent = lab.agent();
    Moment::Resumed.reach(&agent);
    assert_eq!(lab.rescue(), "");
    assert_eq!((lab.snapshots().len(), lab.notes().len()), (1, 1));
    // The next run walks while it is there, and does not take it for mail.
    let next = lab.agent();
    assert_eq!((lab.snapshots().len(), lab.notes().len()), (1, 1));
    let live = next.pass(1, false);
    assert!(!live.nodes.keys().any(|path| path.ends_with(FOLDER)));
    assert!(prepare(&next).why.starts_with("btrfs snapshot"), "a border of ours is none");
    next.goodbye();
    assert_eq!((lab.snapshots().len(), lab.notes().len()), (1, 1));
    assert_eq!(agent.pass(2, true).bytes(&lab.spool.join("2.")), b"two");
    agent.goodbye();
    assert!(lab.is_clean());
}

#[test]
fn what_is_not_the_agents_own_is_never_removed() {
    let Some(lab) = Lab::new(Place::Subvolume) else { return };
    let agent = lab.agent();
    Moment::Resumed.reach(&agent);
    agent.kill();
    lab.wait_until_settled();
    let note = lab.notes().remove(0);
    let text = fs::read_to_string(&note).unwrap();
    let folder = folder_of(&lab, Place::Subvolume);
    let ours = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let shown = |path: &Path| path.display().to_string();
    let kept = folder.join("kept");
    fs::rename(&ours, &kept).unwrap();
    let left_alone = |why: &str| {
        let said = lab.rescue();
        assert!(said.contains(why) && said.contains(&shown(&note)), "{said}");
        assert!(ours.exists() && note.exists(), "{why}");
    };

    // A folder, a subvolume that can be written, and a snapshot of something else under that name.
    fs::create_dir(&ours).unwrap();
    left_alone("it is no subvolume");
    fs::remove_dir(&ours).unwrap();
    run(&["btrfs", "subvolume", "snapshot", &shown(&lab.spool), &shown(&ours)]).unwrap();
    left_alone("it can be written");
    run(&["btrfs", "subvolume", "delete", &shown(&ours)]).unwrap();
    run(&["btrfs", "subvolume", "snapshot", "-r", &shown(lab.disk.path()), &shown(&ours)]).unwrap();
    left_alone("it is a snapshot of something else");
    run(&["btrfs", "subvolume", "delete", &shown(&ours)]).unwrap();
    fs::rename(&kept, &ours).unwrap();

    // Notes that are not whole were never acted upon; one that says more than we know is not ours to judge.
    fs::write(&note, text.replace("\"version\":1", "\"version\":2")).unwrap();
    left_alone("cannot be understood");
    let other = note.with_file_name("frozen-0.json");
    fs::write(&other, &text).unwrap();
    fs::write(&note, &text[..text.len() - 1]).unwrap();
    let said = lab.rescue();
    assert!(said.contains("cannot be understood") && said.contains(&shown(&other)), "{said}");
    assert!(ours.exists() && !note.exists());
    fs::remove_file(&other).unwrap();

    // With its folder out of reach a snapshot is not forgotten.
    fs::write(&note, &text).unwrap();
    let away = lab.disk.path().join("away");
    fs::rename(&folder, &away).unwrap();
    let said = lab.rescue();
    assert!(said.contains("cannot be opened") && note.exists(), "{said}");
    fs::rename(&away, &folder).unwrap();
    assert_eq!(lab.rescue(), "");
    assert!(lab.is_clean(), "{:?} {:?}", lab.snapshots(), lab.notes());
}

#[test]
fn what_a_snapshot_would_not_hold_is_kept_by_descriptors_in_the_same_window() {
    let Some(lab) = Lab::new(Place::Subvolume) else { return };
    // A second root with a subvolume of its own below it, and a third one that is on no btrfs.
    let (nested, plain) = (lab.disk.path().join("nested"), lab.mail.path("plain"));
    fs::create_dir_all(nested.join("deep")).unwrap();
    fs::create_dir(&plain).unwrap();
    let below = nested.join("deep/below");
    run(&["btrfs", "subvolume", "create", &below.display().to_string()]).unwrap();
    fs::write(below.join("1."), "in a subvolume").unwrap();
    fs::write(plain.join("1."), "on another file system").unwrap();
    let agent = Agent::start(&lab.mail.state());
    agent.configure(&lab.source(&[&nested, &plain], ""));
    agent.pass(1, false);
    let prepared = prepare(&agent);
    let border = below.display().to_string();
    let said = format!(
        "btrfs snapshot: {}; no snapshot: {} (another file system or subvolume begins at {border})",
        lab.spool.display(),
        nested.display()
    );
    assert!(prepared.able);
    assert_eq!(prepared.why, said);
    fs::write(below.join("2."), "two").unwrap();
    fs::write(plain.join("2."), "two").unwrap();
    fs::write(lab.spool.join("4."), "four").unwrap();
    let frozen = freeze(&agent);
    assert!(frozen.whole && frozen.moved.is_empty(), "{frozen:?}");
    assert_eq!(frozen.why, said);
    resumed(&agent);
    for path in [below.join("2."), plain.join("2."), lab.spool.join("4.")] {
        fs::remove_file(path).unwrap();
    }
    let copy = agent.pass(2, true);
    assert_eq!(copy.problems, Vec::<String>::new());
    for (path, text) in [
        (below.join("1."), &b"in a subvolume"[..]),
        (below.join("2."), b"two"),
        (plain.join("1."), b"on another file system"),
        (plain.join("2."), b"two"),
        (lab.spool.join("4."), b"four"),
    ] {
        assert_eq!(copy.bytes(&path), text, "{path:?}");
    }
    agent.goodbye();
    assert!(lab.is_clean());
}

#[test]
fn a_subvolume_that_is_made_after_the_last_look_is_missed_and_told() {
    let Some(lab) = Lab::new(Place::Subvolume) else { return };
    let agent = lab.agent();
    agent.pass(1, false);
    assert!(prepare(&agent).able);
    let late = lab.spool.join("user/late");
    run(&["btrfs", "subvolume", "create", &late.display().to_string()]).unwrap();
    assert!(freeze(&agent).whole);
    resumed(&agent);
    let copy = agent.pass(2, true);
    assert_eq!(copy.problems.len(), 1, "{:?}", copy.problems);
    assert!(copy.problems[0].starts_with(&format!("{}: a subvolume was made here", late.display())));
    agent.goodbye();
    assert!(lab.is_clean());
}

#[test]
fn a_folder_that_is_mounted_over_another_is_not_looked_for_in_a_snapshot() {
    let Some(lab) = Lab::new(Place::Folder) else { return };
    // Both are in one subvolume: the path leads to one of them, and in a snapshot to the other.
    let other = lab.mail.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("1."), "mounted here").unwrap();
    let (from, to) = (other.display().to_string(), lab.spool.display().to_string());
    run(&["mount", "--bind", &from, &to]).unwrap();
    let agent = lab.agent();
    agent.pass(1, false);
    let prepared = prepare(&agent);
    run(&["umount", "--lazy", &to]).unwrap();
    assert!(prepared.why.contains("is another folder in it"), "{prepared:?}");
    agent.end();
    assert!(lab.is_clean());
}

#[test]
fn a_source_can_ask_for_descriptors() {
    let Some(lab) = Lab::new(Place::Subvolume) else { return };
    let agent = Agent::start(&lab.mail.state());
    agent.configure(&lab.source(&[], "freeze = \"descriptors\""));
    agent.pass(1, false);
    assert_eq!(prepare(&agent).why, "");
    fs::write(lab.spool.join("4."), "four").unwrap();
    let frozen = freeze(&agent);
    assert!(frozen.whole && frozen.why.is_empty() && frozen.files > 1, "{frozen:?}");
    resumed(&agent);
    assert!(lab.is_clean());
    assert_eq!(agent.pass(2, true).bytes(&lab.spool.join("4.")), b"four");
    agent.goodbye();
}

/// Megabytes that are left on a file system.
fn megabytes_left(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    (stat.f_bavail * stat.f_frsize) >> 20
}

/// Makes a file as large as it must be for so many megabytes to be left.
fn fill(disk: &Path, leave: u64) {
    let file = fs::File::options().create(true).append(true).open(disk.join("filler")).unwrap();
    let mut step = 64 << 20;
    while megabytes_left(disk) > leave && step > 64 << 10 {
        step = step.min(((megabytes_left(disk) - leave) << 20).max(1 << 20));
        let end = file.metadata().unwrap().len();
        // What is left may lie in pieces.
        if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), end, step).is_err() {
            step /= 2;
        }
        rustix::fs::syncfs(&file).unwrap();
    }
    assert!(megabytes_left(disk) <= leave, "{} MB are left", megabytes_left(disk));
}

#[test]
fn no_snapshot_is_taken_where_there_is_no_room_and_one_that_takes_mails_room_goes() {
    let Some(lab) = Lab::new(Place::Subvolume) else { return };
    // One part in 32 is left for mail, twice as much has to be there before.
    fill(lab.disk.path(), 40);
    let agent = lab.agent();
    agent.pass(1, false);
    let prepared = prepare(&agent);
    assert!(prepared.why.contains("MB left, and a snapshot keeps what mail deletes"), "{prepared:?}");
    agent.goodbye();
    assert!(lab.is_clean());

    fs::File::options().write(true).open(lab.disk.path().join("filler")).unwrap().set_len(1 << 20).unwrap();
    wait_for("room", || {
        rustix::fs::syncfs(fs::File::open(lab.disk.path()).unwrap()).unwrap();
        megabytes_left(lab.disk.path()) > 200
    });
    let agent = lab.agent();
    Moment::Resumed.reach(&agent);
    fill(lab.disk.path(), 16);
    agent.send(ToAgent::BeginPass(BeginPass { number: 2, is_final: true }));
    let failed = loop {
        match agent.receive().unwrap() {
            ToBox::Failed(failed) => break failed,
            ToBox::PassBegun(_) => panic!("it goes on with mail's room"),
            _ => {}
        }
    };
    assert!(failed.what.contains("nearly full") && failed.what.contains("descriptors"), "{failed:?}");
    agent.end();
    assert!(lab.mail.is_up());
    assert!(lab.is_clean(), "{:?} {:?}", lab.snapshots(), lab.notes());
}
