//! The final pass out of snapshots of logical volumes, in a guest with a device-mapper: real LVM, real file systems, the real
//! agent. Nothing of a snapshot is left behind by any end, nothing is removed that is not the agent's own, and a snapshot
//! that could not keep everything is never taken for one that did.
//!
//! The tests whose names begin with `inside` run in there, called by the one that boots it; here they would find no LVM.
#![allow(clippy::unwrap_used)]

mod support;

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mailkeep_guest::{GuestError, Machine, Prepared, Recipe};
use mailkeep_link::Options;
use mailkeep_link::message::{BeginPass, Quiesce, ToAgent, ToBox};
use support::mounts::run;
use support::{Agent, Mail, Said, recalled, wait_for};

const AGENT: &str = env!("CARGO_BIN_EXE_mailkeep-agent");
/// The tests in there, so that none is missed.
const INSIDE: usize = 10;
/// The volume group; with a dash, which the kernel's names of devices double.
const GROUP: &str = "mail-vg";
/// How the names of the agent's snapshots begin.
const OURS: &str = "mailkeep-frozen-";
const FOLDER: &str = ".mailkeep-frozen";

/// A guest without udev: LVM makes its nodes by itself.
const LVM_CONF: &str = "devices {\n dir = \"/dev\"\n scan = [ \"/dev\" ]\n obtain_device_list_from_udev = 0\n \
    external_device_info_source = \"none\"\n use_devicesfile = 0\n filter = [ \"a|^/dev/vda$|\", \"r|.*|\" ]\n}\n\
    backup {\n backup = 0\n archive = 0\n}\n\
    activation {\n udev_sync = 0\n udev_rules = 0\n monitoring = 0\n}\n";

/// A guest that can run this program, or `None` where there cannot be one.
fn guest(folder: &Path) -> Option<Prepared> {
    let recipe = Recipe::new()
        .program(&std::env::current_exe().unwrap())
        .program(Path::new(AGENT))
        .modules(&["dm-snapshot", "dm-thin-pool", "xfs", "libcrc32c", "crc32c_generic"])
        .modules(&["xxhash_generic", "blake2b_generic", "sha256_generic", "btrfs"])
        .file("/etc/lvm/lvm.conf", 0o644, LVM_CONF)
        .tools(&["lvs", "vgs", "lvcreate", "lvremove", "lvchange", "vgcreate", "vgchange", "pvcreate"])
        .and_then(|recipe| {
            recipe.tools(&["dmsetup", "thin_check", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "btrfs"])
        });
    match recipe.and_then(|recipe| recipe.prepare(folder)) {
        Ok(guest) => Some(guest),
        Err(GuestError::Missing { what }) => {
            assert!(std::env::var_os("MAILKEEP_REQUIRE_ALL").is_none_or(|value| value != "1"), "{what}");
            eprintln!("skipped: {what} is not there");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs tests of this program in there: so many, all good.
fn pass_inside(machine: &mut Machine, filter: &str, count: usize) {
    let program = std::env::current_exe().unwrap().display().to_string();
    // On the console too, which is told where it hangs.
    let line = format!(
        "{{ MAILKEEP_INSIDE=1 RUST_BACKTRACE=1 {program} --ignored --test-threads=1 {filter}; echo $? >/run/code; }} 2>&1 \
         | tee /dev/console; exit_with() {{ return $1; }}; exit_with $(cat /run/code)"
    );
    let done = machine.run(&line).unwrap();
    let good = format!("test result: ok. {count} passed; 0 failed");
    assert!(done.code == 0 && done.output.contains(&good), "{}\n{}", done.output, machine.console());
}

#[test]
fn snapshots_of_volumes_in_a_guest() {
    let folder = tempfile::tempdir().unwrap();
    let Some(guest) = guest(folder.path()) else { return };
    let disk = guest.disk("disk", 4096).unwrap();
    let mut machine = guest.boot(&[&disk]).unwrap();
    pass_inside(&mut machine, "inside_", INSIDE);
    machine.power_off().unwrap();
}

/// A power cut with snapshots there, of a volume and of a subvolume, after which the rescue at boot removes them.
#[test]
fn a_power_cut_leaves_nothing_that_the_rescue_at_boot_does_not_remove() {
    let folder = tempfile::tempdir().unwrap();
    let Some(guest) = guest(folder.path()) else { return };
    let disks = [guest.disk("volumes", 1024).unwrap(), guest.disk("btrfs", 512).unwrap()];
    let disks: Vec<&Path> = disks.iter().map(PathBuf::as_path).collect();
    let mut machine = guest.boot(&disks).unwrap();
    let program = std::env::current_exe().unwrap().display().to_string();
    let run = |machine: &mut Machine, line: &str| {
        let done = machine.run(line).unwrap();
        assert_eq!(done.code, 0, "{line}: {}\n{}", done.output, machine.console());
        done.output
    };
    run(&mut machine, "mkfs.btrfs -q /dev/vdb && mkdir /btrfs && mount -t btrfs /dev/vdb /btrfs");
    // What is acknowledged is on the disk; the rest of the guest's memory is lost.
    let leave = format!(
        "MAILKEEP_INSIDE=1 {program} --ignored --exact leave_snapshots_behind --nocapture >/run/log 2>&1 & pid=$!; \
         while [ ! -e /run/left ]; do kill -0 $pid || {{ cat /run/log; exit 1; }}; sleep 0.1; done"
    );
    run(&mut machine, &format!("sh -c '{leave}'"));
    let count = "lvs --noheadings -o lv_name mail-vg | grep -c mailkeep-frozen";
    assert_eq!(run(&mut machine, count), "1");
    machine.cut();

    let mut machine = guest.boot(&disks).unwrap();
    run(&mut machine, "vgchange --quiet -ay mail-vg && mkdir /btrfs && mount -t btrfs /dev/vdb /btrfs");
    assert_eq!(run(&mut machine, count), "1");
    let subvolumes = "btrfs subvolume list -r /btrfs | grep -c mailkeep-frozen";
    assert_eq!(run(&mut machine, subvolumes), "1");
    let notes = "ls /btrfs/state | grep -c frozen-";
    assert_eq!(run(&mut machine, notes), "2");
    let rescue = format!("MAILKEEP_AGENT_STATE=/btrfs/state MAILKEEP_AGENT_BOOT=no {AGENT} rescue");
    // The start command lies in a folder that is gone with the power, so mail cannot be started here; it was not stopped.
    assert_eq!(run(&mut machine, &rescue), "");
    for none in [count, subvolumes, notes] {
        assert_eq!(machine.run(none).unwrap().output, "0", "{none}");
    }
    // And that is so after the next cut.
    machine.cut();
    let mut machine = guest.boot(&disks).unwrap();
    run(&mut machine, "vgchange --quiet -ay mail-vg && mkdir /btrfs && mount -t btrfs /dev/vdb /btrfs");
    for none in [count, subvolumes, notes] {
        assert_eq!(machine.run(none).unwrap().output, "0", "{none}");
    }
}

/// The first half of the power cut: a run whose mail lies on a volume and on btrfs, just when mail runs again.
#[test]
#[ignore = "run in the guest"]
fn leave_snapshots_behind() {
    let lab = Lab::new(On::Ext4);
    let (state, mail) = (Path::new("/btrfs/state"), Path::new("/btrfs/mail"));
    run(&["btrfs", "subvolume", "create", &mail.display().to_string()]).unwrap();
    fs::create_dir(state).unwrap();
    fs::set_permissions(state, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(mail.join("1."), "one").unwrap();
    let mut command = Command::new(AGENT);
    command.arg("serve");
    let agent = Agent::start_command(command, state, &Options::new("test"));
    let source = lab.source("freeze = \"snapshot\"");
    let own = format!("{:?}]", lab.spool);
    assert!(source.contains(&own));
    agent.configure(&source.replace(&own, &format!("{:?}, {mail:?}]", lab.spool)));
    agent.pass(1, false);
    let frozen = agent.freeze();
    assert!(frozen.whole && frozen.why.contains("btrfs snapshot: /btrfs/mail; LVM snapshot: "), "{frozen:?}");
    agent.resumed();
    fs::write("/run/left", "").unwrap();
    wait_for("the power cut", || false);
}

/// LVM writes a snapshot down as a plain volume and makes it a snapshot in its next commit. Between the two it waits for udev;
/// here nobody answers, and the power is cut.
#[test]
fn a_power_cut_within_lvcreate_leaves_a_volume_that_the_rescue_at_boot_removes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(guest) = guest(folder.path()) else { return };
    let disks = [guest.disk("volumes", 1024).unwrap(), guest.disk("state", 64).unwrap()];
    let disks: Vec<&Path> = disks.iter().map(PathBuf::as_path).collect();
    let mut machine = guest.boot(&disks).unwrap();
    let program = std::env::current_exe().unwrap().display().to_string();
    let run = |machine: &mut Machine, line: &str| {
        let done = machine.run(line).unwrap();
        assert_eq!(done.code, 0, "{line}: {}\n{}", done.output, machine.console());
        done.output
    };
    run(&mut machine, "mkfs.ext4 -q /dev/vdb && mkdir /state && mount -t ext4 /dev/vdb /state");
    let leave = format!(
        "MAILKEEP_INSIDE=1 {program} --ignored --exact leave_a_snapshot_half_made --nocapture >/run/log 2>&1 & pid=$!; \
         while [ ! -e /run/left ]; do kill -0 $pid || {{ cat /run/log; exit 1; }}; sleep 0.1; done"
    );
    run(&mut machine, &format!("sh -c '{leave}'"));
    machine.cut();

    let mut machine = guest.boot(&disks).unwrap();
    run(&mut machine, "vgchange --quiet -ay mail-vg && mkdir /state && mount -t ext4 /dev/vdb /state");
    // No snapshot of anything, and not in use.
    let half = "lvs --noheadings --separator : -o lv_attr,origin mail-vg/$(lvs --noheadings -o lv_name mail-vg | grep -o 'mailkeep-frozen[a-z0-9-]*')";
    let attributes = run(&mut machine, half);
    assert!(attributes.trim().starts_with('-') && attributes.trim().ends_with("a-----:"), "{attributes}");
    assert_eq!(run(&mut machine, "ls /state/s | grep -c frozen-"), "1");
    let rescue = format!("MAILKEEP_AGENT_STATE=/state/s MAILKEEP_AGENT_BOOT=no {AGENT} rescue");
    // The start command lies in a folder that is gone with the power, so mail cannot be started here: that is told.
    let said = machine.run(&rescue).unwrap().output;
    assert!(!said.contains("snapshot"), "{said}");
    for none in
        ["lvs --noheadings -o lv_name mail-vg | grep -c mailkeep-frozen", "ls /state/s | grep -c frozen-"]
    {
        assert_eq!(machine.run(none).unwrap().output, "0", "{none}: {said}");
    }
    machine.cut();
}

/// The first half of that cut.
#[test]
#[ignore = "run in the guest"]
fn leave_a_snapshot_half_made() {
    let lab = Lab::new(On::Ext4);
    let state = Path::new("/state/s");
    fs::create_dir(state).unwrap();
    fs::set_permissions(state, fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:{}", lab.tools.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(AGENT);
    command.arg("serve").env("PATH", path);
    let agent = Agent::start_command(command, state, &Options::new("test"));
    agent.configure(&lab.source("freeze = \"snapshot\""));
    agent.pass(1, false);
    // A udev that does not answer, and nobody who calls the tool off.
    fs::write("/etc/lvm/lvm.conf", LVM_CONF.replace("udev_sync = 0", "udev_sync = 1")).unwrap();
    fs::create_dir_all("/run/udev").unwrap();
    fs::write("/run/udev/control", "").unwrap();
    lab.tool("lvcreate", "trap '' TERM INT; $real \"$@\"");
    agent.send(ToAgent::Freeze(Quiesce { deadline_seconds: 600 }));
    assert!(matches!(agent.receive().unwrap(), ToBox::Quiesced(_)));
    wait_for("half a snapshot", || {
        // Without locks: the tool holds its group's.
        let listed = run(&["lvs", "--nolocking", "--noheadings", "-o", "lv_name,lv_attr", GROUP]);
        listed.unwrap().lines().any(|line| line.trim().starts_with(OURS) && line.contains(" -"))
    });
    fs::write("/run/left", "").unwrap();
    wait_for("the power cut", || false);
}

/// Not a test: the mail service that the scripts of [`Mail`] start.
#[test]
#[ignore = "run by the start script of the fake mail service"]
fn greeter_process() {
    support::greet_for_ever();
}

/// What a spool lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Ext4,
    Xfs,
    ThinExt4,
}

/// A mail service whose spool lies on a logical volume.
struct Lab {
    mail: Mail,
    volume: String,
    point: PathBuf,
    spool: PathBuf,
    /// In front of all others in the agent's PATH.
    tools: PathBuf,
}

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
}

fn lvs(options: &str) -> Vec<String> {
    let listed = run(&["lvs", "--noheadings", "-o", options, GROUP]).unwrap();
    listed.lines().map(|line| line.trim().to_owned()).collect()
}

impl Lab {
    fn new(on: On) -> Lab {
        Lab::with(on, if on == On::Xfs { 320 } else { 128 }, &["--size", "1g"])
    }

    /// With a volume of so many megabytes; a pool is made with these words.
    fn with(on: On, megabytes: u32, pool: &[&str]) -> Lab {
        assert!(std::env::var_os("MAILKEEP_INSIDE").is_some(), "only to be run in the guest");
        if run(&["vgs", GROUP]).is_err() {
            run(&["vgcreate", "--yes", GROUP, "/dev/vda"]).unwrap();
        }
        // No two have the same name, also where an earlier test left something.
        let number = (1..).find(|number| !Path::new(&format!("/spool {number}")).exists()).unwrap();
        NUMBER.set(number);
        let (volume, point) = (format!("spool-{number}"), PathBuf::from(format!("/spool {number}")));
        let size = format!("{megabytes}m");
        if on == On::ThinExt4 {
            let pool_name = format!("pool-{number}");
            let words = [&["lvcreate", "--type", "thin-pool", "--name", &pool_name], pool, &[GROUP]].concat();
            run(&words).unwrap();
            let pool = format!("{GROUP}/{pool_name}");
            run(&["lvcreate", "--thin", "--virtualsize", &size, "--name", &volume, &pool]).unwrap();
        } else {
            run(&["lvcreate", "--yes", "--size", &size, "--name", &volume, GROUP]).unwrap();
        }
        let device = format!("/dev/{GROUP}/{volume}");
        let mkfs = if on == On::Xfs { "mkfs.xfs" } else { "mkfs.ext4" };
        run(&[mkfs, "-q", &device]).unwrap();
        fs::create_dir(&point).unwrap();
        let kind = if on == On::Xfs { "xfs" } else { "ext4" };
        run(&["mount", "-t", kind, &device, &point.display().to_string()]).unwrap();
        let spool = point.join("spool");
        fs::create_dir_all(spool.join("user")).unwrap();
        for (name, text) in [
            ("1.", "Subject: one\r\n\r\nHello.\r\n"),
            ("2.", "two"),
            ("cyrus.index", "index one"),
            ("user/1.", "below"),
        ] {
            fs::write(spool.join(name), text).unwrap();
        }
        fs::hard_link(spool.join("2."), spool.join("3.")).unwrap();
        let mail = Mail::new();
        let tools = mail.path("tools");
        fs::create_dir(&tools).unwrap();
        Lab { mail, volume, point, spool, tools }
    }

    fn source(&self, quiesce: &str) -> String {
        let (own, ours) = (self.mail.path("spool"), &self.spool);
        let text = self.mail.source(quiesce);
        assert!(text.contains(&format!("paths = [{own:?}]")));
        text.replace(&format!("paths = [{own:?}]"), &format!("paths = [{ours:?}]"))
    }

    fn agent(&self, freeze: &str) -> Agent {
        let path = format!("{}:{}", self.tools.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(AGENT);
        command.arg("serve").env("PATH", path);
        let agent = Agent::start_command(command, &self.mail.state(), &Options::new("test"));
        agent.configure(&self.source(&format!("freeze = {freeze:?}")));
        agent
    }

    fn rescue(&self) -> String {
        let output = Command::new(AGENT)
            .arg("rescue")
            .env("MAILKEEP_AGENT_STATE", self.mail.state())
            .env("MAILKEEP_AGENT_BOOT", "no")
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// Names of the agent's snapshots.
    fn snapshots(&self) -> Vec<String> {
        lvs("lv_name").into_iter().filter(|name| name.starts_with(OURS)).collect()
    }

    fn notes(&self) -> Vec<PathBuf> {
        let paths = fs::read_dir(self.mail.state()).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect()
    }

    /// Nothing of a snapshot is left anywhere.
    fn assert_clean(&self, what: &str) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        assert_eq!((self.snapshots(), self.notes()), (vec![], vec![]), "{what}");
        assert!(!self.mail.state().join(FOLDER).exists() && !mounts.contains("frozen"), "{what}: {mounts}");
    }

    /// In place of a tool of LVM a script; `$real` is the tool.
    fn tool(&self, name: &str, script: &str) {
        let real = format!("real=/usr/sbin/{name}\n");
        self.mail.script(&format!("tools/{name}"), &format!("{real}{script}"));
    }

    fn no_tool(&self, name: &str) {
        fs::remove_file(self.tools.join(name)).unwrap();
    }

    fn settle(&self) {
        wait_for("mail", || self.mail.is_up());
        if self.mail.count("stop") > 0 {
            wait_for("the guard's end", || self.mail.settled());
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // After a failed test as much goes as does.
        let _ = run(&["umount", &self.point.display().to_string()]);
        for name in self.snapshots() {
            let _ = run(&["lvremove", "--force", &format!("{GROUP}/{name}")]);
        }
        let _ = run(&["lvremove", "--force", &format!("{GROUP}/{}", self.volume)]);
        let pool = format!("{GROUP}/{}", self.volume.replace("spool", "pool"));
        let _ = run(&["lvremove", "--force", &pool]);
    }
}

#[test]
#[ignore = "run in the guest"]
fn inside_what_was_there_is_told_out_of_a_snapshot_that_is_gone_afterwards() {
    for on in [On::Ext4, On::Xfs, On::ThinExt4] {
        let lab = Lab::new(on);
        let spool = &lab.spool;
        let agent = lab.agent("snapshot");
        let live = agent.pass(1, false);
        if on == On::Ext4 {
            let prepared = agent.prepare();
            assert_eq!((prepared.able, prepared.why), (true, format!("LVM snapshot: {}", spool.display())));
            lab.assert_clean("the rehearsal");
        }
        fs::write(spool.join("cyrus.index"), "index two").unwrap();
        fs::write(spool.join("4."), "came late").unwrap();
        fs::create_dir(spool.join("sub")).unwrap();
        fs::write(spool.join("sub/5."), "in a new folder").unwrap();

        let frozen = agent.freeze();
        assert!(frozen.whole && frozen.moved.is_empty(), "{on:?}: {frozen:?}");
        assert_eq!(frozen.why, format!("LVM snapshot: {}", spool.display()));
        agent.resumed();
        assert!(lab.mail.is_up());
        let folder = lab.mail.state().join(FOLDER);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "it is mounted for a moment only");
        assert_eq!((lab.snapshots().len(), lab.notes().len()), (1, 1));

        // Mail runs and does all that it may do.
        for name in ["2.", "3.", "4."] {
            fs::remove_file(spool.join(name)).unwrap();
        }
        fs::write(spool.join("cyrus.index"), "three").unwrap();
        fs::remove_dir_all(spool.join("sub")).unwrap();
        fs::write(spool.join("6."), "came afterwards").unwrap();
        rustix::fs::syncfs(File::open(spool).unwrap()).unwrap();
        let copy = agent.pass(2, true);
        assert_eq!(copy.problems, Vec::<String>::new());
        for (name, text) in [
            ("1.", "Subject: one\r\n\r\nHello.\r\n"),
            ("2.", "two"),
            ("4.", "came late"),
            ("cyrus.index", "index two"),
            ("sub/5.", "in a new folder"),
            ("user/1.", "below"),
        ] {
            assert_eq!(copy.bytes(&spool.join(name)), text.as_bytes(), "{on:?} {name}");
        }
        assert!(!copy.nodes.contains_key(&spool.join("6.")));
        for name in ["1.", "2.", "3.", "user", "user/1."] {
            let path = spool.join(name);
            assert_eq!(copy.nodes[&path], live.nodes[&path], "{on:?} {name}");
        }
        agent.goodbye();
        lab.assert_clean("the run");
        lab.settle();
    }
}

#[test]
#[ignore = "run in the guest"]
fn inside_of_what_the_live_pass_saw_only_what_is_another_is_said_out_of_a_snapshot() {
    for on in [On::Ext4, On::Xfs, On::ThinExt4] {
        let lab = Lab::new(on);
        recalled::lay_out(&lab.spool);
        let agent = lab.agent("snapshot");
        recalled::only_what_is_another_is_said(&agent, &lab.spool, "LVM snapshot", Said::WhatHasChanged);
        agent.goodbye();
        lab.assert_clean("the run");
        lab.settle();
    }
}

/// Where a run is when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    BeforeItIsMade,
    Made,
    Resumed,
    Passing,
    BeforeItIsRemoved,
    Removed,
}

#[test]
#[ignore = "run in the guest"]
fn inside_nobody_makes_nodes_or_answers_for_udev_and_a_snapshot_is_read_all_the_same() {
    let lab = Lab::new(On::Ext4);
    let words = lab.mail.path("words").display().to_string();
    // As where /dev is a plain folder: neither the kernel's nodes nor LVM's.
    lab.tool(
        "lvcreate",
        &format!(
            "echo \"$@\" >>{words}; $real \"$@\"; end=$?; \
             for block in /sys/block/dm-*; do grep -q frozen $block/dm/name && rm -f /dev/${{block##*/}}; done; \
             rm -f /dev/mapper/*frozen*; exit $end"
        ),
    );
    let agent = lab.agent("snapshot");
    agent.pass(1, false);
    let frozen = agent.freeze();
    assert!(frozen.whole && frozen.why.starts_with("LVM snapshot: "), "{frozen:?}");
    agent.resumed();
    agent.pass(2, true);
    agent.goodbye();
    lab.assert_clean("without nodes");
    lab.settle();
    let said = fs::read_to_string(&words).unwrap();
    assert!(said.lines().all(|line| line.contains("--noudevsync")), "{said}");
}

/// A tool that waits before or after its work, and says so.
fn gate(lab: &Lab, tool: &str, before: bool) {
    let base = lab.mail.path("").display().to_string();
    let wait = format!("touch {base}/reached; while [ ! -e {base}/go ]; do sleep 0.05; done");
    let script = if before {
        format!("{wait}; $real \"$@\"")
    } else {
        format!("$real \"$@\"; end=$?; {wait}; exit $end")
    };
    lab.tool(tool, &script);
}

#[test]
#[ignore = "run in the guest"]
fn inside_a_killed_agent_leaves_nothing_that_the_next_one_and_the_rescue_do_not_remove() {
    use Moment::*;
    let lab = Lab::new(On::Ext4);
    for (round, moment) in
        [BeforeItIsMade, Made, Resumed, Passing, BeforeItIsRemoved, Removed].iter().enumerate()
    {
        let agent = lab.agent("snapshot");
        agent.pass(1, false);
        match moment {
            BeforeItIsMade => gate(&lab, "lvcreate", true),
            Made => gate(&lab, "lvcreate", false),
            BeforeItIsRemoved => gate(&lab, "lvremove", true),
            Removed => gate(&lab, "lvremove", false),
            Resumed | Passing => {}
        }
        agent.send(ToAgent::Freeze(Quiesce { deadline_seconds: 600 }));
        assert!(matches!(agent.receive().unwrap(), ToBox::Quiesced(_)));
        if !matches!(moment, BeforeItIsMade | Made) {
            assert!(matches!(agent.receive().unwrap(), ToBox::Frozen(frozen) if frozen.whole));
            agent.resumed();
        }
        if *moment == Passing {
            agent.send(ToAgent::BeginPass(BeginPass { number: 2, is_final: true }));
            assert!(matches!(agent.receive().unwrap(), ToBox::PassBegun(_)));
        }
        if matches!(moment, BeforeItIsRemoved | Removed) {
            agent.pass(2, true);
            agent.send(ToAgent::Goodbye);
        }
        if !matches!(moment, Resumed | Passing) {
            wait_for("the tool", || lab.mail.path("reached").exists());
        }
        agent.kill();
        lab.settle();
        assert_eq!(lab.notes().len(), 1, "{moment:?}");
        if matches!(moment, BeforeItIsMade | Made) {
            // Whoever is at work for a dead agent is waited for: what it makes would have no note any more.
            assert_eq!(lab.rescue(), "");
            assert_eq!(lab.notes().len(), 1, "{moment:?}");
        }
        lab.mail.set("go");
        let expected = usize::from(*moment != Removed);
        if !matches!(moment, BeforeItIsRemoved) {
            wait_for("the snapshot", || lab.snapshots().len() == expected);
        }
        let tools = ["lvcreate", "lvremove"].into_iter().filter(|tool| lab.tools.join(tool).exists());
        for tool in tools.collect::<Vec<_>>() {
            lab.no_tool(tool);
        }
        // A tool of the dead agent's that is at its end holds the note a moment longer.
        if round % 2 == 0 {
            wait_for("the rescue", || {
                assert_eq!(lab.rescue(), "");
                lab.notes().is_empty()
            });
        } else {
            wait_for("the next agent", || {
                lab.agent("snapshot").goodbye();
                lab.notes().is_empty()
            });
        }
        lab.assert_clean(&format!("{moment:?}"));
        for knob in ["reached", "go"] {
            let _ = fs::remove_file(lab.mail.path(knob));
        }
    }
}

#[test]
#[ignore = "run in the guest"]
fn inside_what_is_not_the_agents_own_is_never_removed() {
    let lab = Lab::new(On::Ext4);
    let agent = lab.agent("snapshot");
    agent.pass(1, false);
    assert!(agent.freeze().whole);
    agent.resumed();
    // That of a living agent.
    assert_eq!(lab.rescue(), "");
    assert_eq!((lab.snapshots().len(), lab.notes().len()), (1, 1));
    agent.kill();
    lab.settle();
    let note = lab.notes().remove(0);
    let text = fs::read_to_string(&note).unwrap();
    let name = lab.snapshots().remove(0);
    let (ours, spool) = (format!("{GROUP}/{name}"), format!("{GROUP}/{}", lab.volume));
    let left_alone = |why: &str| {
        let said = lab.rescue();
        assert!(said.contains(why) && said.contains(&note.display().to_string()), "{why}: {said}");
        assert!(lab.snapshots().contains(&name) && note.exists(), "{why}");
    };
    // Notes of another volume, of another group, of a later version, and torn.
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let uuid = value["of"].as_str().unwrap();
    let other: String = uuid.chars().rev().collect();
    fs::write(&note, text.replace(uuid, &other)).unwrap();
    left_alone("it is no snapshot of the noted volume");
    fs::write(&note, text.replace(GROUP, "elsewhere")).unwrap();
    left_alone("elsewhere");
    fs::write(&note, text.replace("\"version\":2", "\"version\":3")).unwrap();
    left_alone("cannot be understood");
    fs::write(&note, text.replace("\"version\":2", "\"version\":1")).unwrap();
    left_alone("cannot be understood");
    fs::write(&note, &text).unwrap();

    // A mount that a dead agent left is put away with the snapshot.
    let token = name.strip_prefix(OURS).unwrap();
    let place = lab.mail.state().join(FOLDER).join(token);
    fs::create_dir(&place).unwrap();
    let device = format!("/dev/{ours}");
    run(&["mount", "-t", "ext4", "-o", "ro,noload", &device, &place.display().to_string()]).unwrap();
    assert_eq!(lab.rescue(), "");
    lab.assert_clean("a mount");

    // A volume that was to become that snapshot: not while somebody has it mounted.
    fs::write(&note, &text).unwrap();
    run(&["lvcreate", "--yes", "--size", "8m", "--name", &name, "--addtag", &name, GROUP]).unwrap();
    run(&["mkfs.ext4", "-q", &device]).unwrap();
    fs::create_dir_all("/run/theirs").unwrap();
    run(&["mount", "-t", "ext4", &device, "/run/theirs"]).unwrap();
    left_alone("it never became a snapshot, and somebody uses it");
    run(&["umount", "/run/theirs"]).unwrap();
    assert_eq!(lab.rescue(), "");
    lab.assert_clean("half a snapshot");

    // A volume of that name, a snapshot that can be written, and one of something else.
    fs::write(&note, &text).unwrap();
    run(&["lvcreate", "--yes", "--size", "8m", "--name", &name, GROUP]).unwrap();
    left_alone("it is no snapshot of the noted volume");
    run(&["lvremove", "--force", &ours]).unwrap();
    run(&["lvcreate", "--snapshot", "--size", "8m", "--name", &name, &spool]).unwrap();
    left_alone("it can be written");
    run(&["lvremove", "--force", &ours]).unwrap();
    assert_eq!(lab.rescue(), "");
    lab.assert_clean("nothing of that name");
}

#[test]
#[ignore = "run in the guest"]
fn inside_a_snapshot_that_overflows_is_never_taken_for_a_whole_one() {
    for within_the_pass in [false, true] {
        let lab = Lab::with(On::Ext4, 512, &[]);
        let agent = lab.agent("snapshot");
        agent.pass(1, false);
        let frozen = agent.freeze();
        assert!(frozen.whole && frozen.why.starts_with("LVM snapshot"), "{frozen:?}");
        agent.resumed();
        if within_the_pass {
            agent.send(ToAgent::BeginPass(BeginPass { number: 2, is_final: true }));
            assert!(matches!(agent.receive().unwrap(), ToBox::PassBegun(_)));
        }
        // A tenth of the volume, 64 MB at least, is what the snapshot has room for.
        let file = File::create(lab.spool.join("flood")).unwrap();
        std::io::copy(&mut std::io::Read::take(std::io::repeat(7), 90 << 20), &mut &file).unwrap();
        file.sync_all().unwrap();
        let attributes = lvs("lv_name,lv_attr,lv_size,data_percent");
        assert!(
            attributes.iter().any(|line| line.starts_with(OURS) && line.contains(" sri-I")),
            "{attributes:?}"
        );
        if !within_the_pass {
            agent.send(ToAgent::BeginPass(BeginPass { number: 2, is_final: true }));
        }
        let failed = loop {
            match agent.receive().unwrap() {
                ToBox::Failed(failed) => break failed,
                ToBox::PassEnded(_) => panic!("it counts as whole"),
                ToBox::Entries(entries) => {
                    let files = entries.nodes.iter().zip(entries.first..).filter(|(node, _)| node.is_file());
                    let files = files.map(|(_, index)| index).collect();
                    let (directory, first) = (entries.directory, entries.first);
                    agent.send(ToAgent::Want(mailkeep_link::message::Want { directory, first, files }));
                }
                ToBox::Chunks(chunks) => {
                    let all = chunks.first..chunks.first + chunks.chunks.len() as u32;
                    let (file, first) = (chunks.file, chunks.first);
                    agent.send(ToAgent::Need(mailkeep_link::message::Need {
                        file,
                        first,
                        chunks: all.collect(),
                    }));
                }
                _ => {}
            }
        };
        assert!(failed.what.contains("could not keep all that changed"), "{failed:?}");
        agent.end();
        assert!(lab.mail.is_up());
        // A pass that is broken off may have had something open in it for too long: the next run has it removed then.
        assert_eq!(lab.rescue(), "");
        lab.assert_clean("after an overflow");
        lab.settle();
    }
}

#[test]
#[ignore = "run in the guest"]
fn inside_a_tool_that_fails_hangs_or_dies_costs_the_snapshot_and_no_more() {
    let lab = Lab::new(On::Ext4);
    let (device, base) =
        (format!("{}-{}", GROUP.replace('-', "--"), lab.volume.replace('-', "--")), lab.mail.path(""));
    for (script, told) in [
        ("echo 'no luck' >&2; exit 5".to_owned(), "no luck"),
        // The most terrible of ends: with the file system suspended.
        (format!("dmsetup suspend {device}; kill -9 $$"), "no snapshot could be taken"),
        ("trap '' TERM; while [ ! -e go ]; do sleep 0.05; done".to_owned(), "did not return"),
        // It says that all is well.
        ("exit 0".to_owned(), "its device is not there"),
    ] {
        let agent = lab.agent("snapshot");
        agent.pass(1, false);
        lab.tool("lvcreate", &format!("cd {}; {script}", base.display()));
        fs::write(lab.spool.join("4."), told).unwrap();
        let frozen = agent.freeze();
        assert!(frozen.whole && frozen.why.contains(told) && frozen.files > 1, "{frozen:?}");
        agent.resumed();
        fs::remove_file(lab.spool.join("4.")).unwrap();
        assert_eq!(agent.pass(2, true).bytes(&lab.spool.join("4.")), told.as_bytes());
        lab.no_tool("lvcreate");
        lab.mail.set("go");
        agent.goodbye();
        lab.assert_clean(told);
        lab.settle();
        fs::remove_file(lab.mail.path("go")).unwrap();
    }
    // What `lvs` says is taken strictly.
    lab.tool("lvs", "echo '  spool|what|is|this'");
    let agent = lab.agent("snapshot");
    agent.pass(1, false);
    let prepared = agent.prepare();
    assert!(prepared.able && prepared.why.contains("not understood: spool|what|is|this"), "{prepared:?}");
    agent.goodbye();
    lab.no_tool("lvs");
    lab.assert_clean("lvs");
}

#[test]
#[ignore = "run in the guest"]
fn inside_without_being_asked_a_snapshot_is_taken_only_where_it_is_clearly_better() {
    let lab = Lab::new(On::Ext4);
    let agent = lab.agent("auto");
    agent.pass(1, false);
    let prepared = agent.prepare();
    assert_eq!((prepared.able, prepared.why.as_str()), (true, ""));
    agent.goodbye();
    // Where changed files have no room to be kept.
    let stat = rustix::fs::statvfs(&lab.point).unwrap();
    let filler = File::create(lab.point.join("filler")).unwrap();
    let length = (stat.f_bavail * stat.f_frsize).saturating_sub(20 << 20);
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, length).unwrap();
    let agent = lab.agent("auto");
    agent.pass(1, false);
    let prepared = agent.prepare();
    assert_eq!((prepared.able, prepared.why), (true, format!("LVM snapshot: {}", lab.spool.display())));
    fs::write(lab.spool.join("4."), "four").unwrap();
    assert!(agent.freeze().whole);
    agent.resumed();
    fs::remove_file(lab.spool.join("4.")).unwrap();
    assert_eq!(agent.pass(2, true).bytes(&lab.spool.join("4.")), b"four");
    agent.goodbye();
    lab.assert_clean("auto");
    // And never where that is ruled out.
    let agent = lab.agent("descriptors");
    agent.pass(1, false);
    assert!(!agent.prepare().able);
    agent.goodbye();
}

#[test]
#[ignore = "run in the guest"]
fn inside_no_snapshot_is_taken_where_its_group_or_pool_has_no_room() {
    let lab = Lab::new(On::Ext4);
    // Nearly all that the group has left.
    let free = run(&["vgs", "--noheadings", "--nosuffix", "--units", "m", "-o", "vg_free", GROUP]).unwrap();
    let free = free.trim().split('.').next().unwrap().parse::<u64>().unwrap() - 100;
    run(&["lvcreate", "--yes", "--size", &format!("{free}m"), "--name", "hog", GROUP]).unwrap();
    let agent = lab.agent("snapshot");
    agent.pass(1, false);
    let prepared = agent.prepare();
    run(&["lvremove", "--force", &format!("{GROUP}/hog")]).unwrap();
    assert!(
        prepared.able && prepared.why.contains("MB left, and a snapshot needs twice 64 MB"),
        "{prepared:?}"
    );
    agent.goodbye();
    lab.assert_clean("no room");
    drop(lab);

    let lab = Lab::with(On::ThinExt4, 256, &["--size", "200m"]);
    let agent = lab.agent("snapshot");
    agent.pass(1, false);
    let frozen = agent.freeze();
    assert!(frozen.whole && frozen.why.starts_with("LVM snapshot"), "{frozen:?}");
    agent.resumed();
    // In steps of a fiftieth of the pool, until it is nearly full and not quite.
    let used = || {
        let percent = lvs("lv_name,data_percent").into_iter().find(|line| line.starts_with("pool-")).unwrap();
        percent.split_whitespace().last().unwrap().parse::<f64>().unwrap()
    };
    for number in 0.. {
        let file = File::create(lab.point.join(format!("filler-{number}"))).unwrap();
        std::io::copy(&mut std::io::Read::take(std::io::repeat(7), 4 << 20), &mut &file).unwrap();
        file.sync_all().unwrap();
        if used() >= 95.0 {
            break;
        }
    }
    agent.send(ToAgent::BeginPass(BeginPass { number: 2, is_final: true }));
    match agent.receive().unwrap() {
        ToBox::Failed(failed) => assert!(failed.what.contains("the thin pool of /spool"), "{failed:?}"),
        other => panic!("{other:?}"),
    }
    agent.end();
    assert_eq!(lab.rescue(), "");
    lab.assert_clean("a pool");
    let agent = lab.agent("snapshot");
    agent.pass(1, false);
    let prepared = agent.prepare();
    assert!(prepared.why.contains("its thin pool is used to"), "{prepared:?}");
    agent.goodbye();
    lab.assert_clean("a full pool");
}

#[test]
#[ignore = "run in the guest"]
fn inside_a_folder_that_is_mounted_from_below_is_found_in_the_snapshot() {
    let mut lab = Lab::new(On::Xfs);
    let bound = PathBuf::from("/bound");
    fs::create_dir(&bound).unwrap();
    run(&["mount", "--bind", &lab.spool.display().to_string(), "/bound"]).unwrap();
    let original = std::mem::replace(&mut lab.spool, bound.clone());
    let agent = lab.agent("snapshot");
    agent.pass(1, false);
    let frozen = agent.freeze();
    assert_eq!(frozen.why, "LVM snapshot: /bound");
    agent.resumed();
    fs::remove_file(original.join("user/1.")).unwrap();
    assert_eq!(agent.pass(2, true).bytes(&bound.join("user/1.")), b"below");
    agent.goodbye();
    lab.assert_clean("a bind mount");
    run(&["umount", "/bound"]).unwrap();
}
