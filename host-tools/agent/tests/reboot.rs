//! The power fails in the middle of an exchange of trees: one is new, the other is old. A guest with a real kernel, two real
//! file systems and a real systemd is cut there and booted; before the boot starts mail, both trees are on one side.
//!
//! The moment is no matter of luck: the second tree lies on a file system that is frozen when mail has stopped, so that the
//! rename of it waits. Mail is a stand-in, a unit of Cyrus's name that notes which trees it finds when it is started; agent,
//! guard, rescue and the unit that settles trees before mail are the real ones.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use mailkeep_format::{Meta, Node, NodeKind};
use mailkeep_guest::{GuestError, Machine, Prepared, Recipe};
use mailkeep_link::Options;
use mailkeep_link::message::{ToAgent, ToBox};
use mailkeep_link::rebuild::{Fill, Folder, Lay, Place, Raise, Seal, Swap};
use support::{Agent, wait_for};

const AGENT: &str = env!("CARGO_BIN_EXE_mailkeep-agent");
const SYSTEMD: &str = "/lib/systemd/systemd";
/// What the boot of a server goes through; the rest of its units this guest does without.
const TARGETS: [&str; 9] = [
    "sysinit.target",
    "basic.target",
    "local-fs.target",
    "network.target",
    "shutdown.target",
    "paths.target",
    "slices.target",
    "sockets.target",
    "timers.target",
];
/// One tree on each disk.
const CONF: &str = "configdirectory: /a/conf\npartition-default: /b/spool\nsievedir: /a/conf/sieve\n\
    sasl_sasldb_path: /a/conf/sasldb2\n";
const SOURCE: &str = "name = \"mail1\"\nsystem = \"cyrus\"\n[transport]\nkind = \"local\"\n\
    [cyrus]\nimapd-conf = \"/a/imapd.conf\"\ncyrus-user = \"root\"\nalso = []\n\
    [quiesce]\nprobe = \"imap://127.0.0.1:143\"\n";
/// systemd as the first process of namespaces of its own, as in a container. Here and below, programs that busybox has as
/// well are named by their paths: its shell prefers its own.
const BOOT: &str = "#!/bin/sh\nmount -t proc proc /proc\nmount -t tmpfs run /run\nmkdir -p /sys/fs/cgroup\n\
    mount -t cgroup2 cgroup /sys/fs/cgroup\n\
    exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin:/busybox \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=null --show-status=0\n";
const TARGET: &str =
    "[Unit]\nDescription=Guest\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n";
/// What mail finds when it is started.
const LOOK: &str = "#!/bin/sh\necho \"$(cat /a/conf/says) $(cat /b/spool/says)\" >>/a/seen\n";
/// Mail is down: from now on nothing moves on the second disk, if that is wanted.
const STOPPED: &str = "#!/bin/sh\nif [ -e /a/freeze ]; then /usr/sbin/fsfreeze -f /b; fi\n";
/// Disks as they are after a boot, and systemd.
const UP: &str = "mkdir -p /a /b /etc/systemd/system && mount -t ext4 /dev/vda /a && mount -t ext4 /dev/vdb /b && \
    mount --bind /a/units /etc/systemd/system";
const INIT: &str =
    "setsid /usr/bin/unshare -m -p -C -u -i -f --kill-child /root/boot </dev/null >/run/boot.log 2>&1 &";

/// Not a test: the mail service.
#[test]
#[ignore = "run as a unit in the guest"]
fn greeter_process() {
    support::greet_for_ever();
}

/// A guest that can run all this, or `None` where there cannot be one.
fn guest(folder: &Path) -> Option<Prepared> {
    let skipped = |what: &str| {
        assert!(std::env::var_os("MAILKEEP_REQUIRE_ALL").is_none_or(|value| value != "1"), "{what}");
        eprintln!("skipped: {what} is not there");
        None
    };
    if !Path::new(SYSTEMD).is_file() {
        return skipped(SYSTEMD);
    }
    let mut recipe = Recipe::new()
        .program(&std::env::current_exe().unwrap())
        .program(Path::new(AGENT))
        .program(Path::new(SYSTEMD))
        .modules(&["ext4"])
        .file("/root/boot", 0o755, BOOT);
    for target in TARGETS {
        let text = fs::read_to_string(Path::new("/lib/systemd/system").join(target)).unwrap();
        recipe = recipe.file(&format!("/usr/lib/systemd/system/{target}"), 0o644, &text);
    }
    let recipe = recipe
        .tools(&["mkfs.ext4", "fsfreeze", "sync", "unshare", "nsenter", "systemctl", "systemd-run"])
        .and_then(|recipe| recipe.prepare(folder));
    match recipe {
        Ok(guest) => Some(guest),
        Err(GuestError::Missing { what }) => skipped(&what),
        Err(error) => panic!("{error}"),
    }
}

fn run(machine: &mut Machine, line: &str) -> String {
    let done = machine.run(line).unwrap();
    assert_eq!(done.code, 0, "{line}: {}\n{}", done.output, machine.console());
    done.output
}

/// Until this line goes well; the guest is as slow as it is.
fn until(machine: &mut Machine, line: &str) {
    wait_for(line, || machine.run(line).unwrap().code == 0);
}

/// In the machine's systemd.
fn within(line: &str) -> String {
    format!("/usr/bin/nsenter -t $(pidof systemd) -m -p -C -u -i {line}")
}

/// Mail has come up with the boot, and nothing of a window or an exchange is left open.
fn until_settled(machine: &mut Machine) {
    until(
        machine,
        &format!("pidof systemd >/dev/null && {}", within("systemctl is-active --quiet cyrus-imapd")),
    );
    until(
        machine,
        "! ls /a/state/service-*/intent.json /a/state/service-*/swap.json 2>/dev/null | grep -q .",
    );
}

/// Begins a restore of trees that say this, up to where one of two has changed places.
fn begin(machine: &mut Machine, says: &str) {
    let program = std::env::current_exe().unwrap().display().to_string();
    run(machine, &format!("echo -n {says} >/a/want && touch /a/freeze"));
    let restore = within(&format!("{program} --ignored --exact restore_that_is_cut_off --nocapture"));
    run(machine, &format!("{restore} </dev/null >/run/restore.log 2>&1 & echo $! >/run/restore.pid"));
    let half = format!("grep -q '^{says}$' /a/conf/says");
    // An agent that fails says so; everything else is waited for.
    until(machine, &format!("{half} || ! kill -0 $(cat /run/restore.pid)"));
    let done = machine.run(&half).unwrap();
    assert_eq!(
        done.code,
        0,
        "{}",
        machine.run("cat /run/restore.log /a/state/service-*/*.log").unwrap().output
    );
    run(machine, "ls /a/state/service-*/swap.json");
}

#[test]
fn a_power_cut_between_two_trees_leaves_mail_all_old_or_all_new() {
    let folder = tempfile::tempdir().unwrap();
    let Some(guest) = guest(folder.path()) else { return };
    let disks = [guest.disk("a", 96).unwrap(), guest.disk("b", 64).unwrap()];
    let disks: Vec<&Path> = disks.iter().map(|disk| disk.as_path()).collect();
    let mut machine = guest.boot(&disks).unwrap();
    let program = std::env::current_exe().unwrap().display().to_string();
    let unit = format!(
        "[Unit]\nDescription=Mail\n[Service]\nExecStartPre=/a/look\nExecStart={program} --ignored --exact \
         greeter_process --nocapture\nEnvironment=MAIL_PORT=143\nExecStopPost=/a/stopped\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    run(&mut machine, "mkfs.ext4 -q /dev/vda && mkfs.ext4 -q /dev/vdb && mkdir /a /b");
    run(&mut machine, "mount -t ext4 /dev/vda /a && mkdir -p /a/units/multi-user.target.wants");
    for (path, text) in [
        ("/a/units/multi-user.target", TARGET),
        ("/a/units/cyrus-imapd.service", unit.as_str()),
        ("/a/imapd.conf", CONF),
        ("/a/look", LOOK),
        ("/a/stopped", STOPPED),
    ] {
        run(&mut machine, &format!("cat >{path} <<'EOF'\n{text}EOF"));
    }
    let wanted =
        "ln -s ../cyrus-imapd.service /a/units/multi-user.target.wants/ && chmod 755 /a/look /a/stopped";
    run(&mut machine, &format!("{wanted} && umount /a && {UP}"));
    run(
        &mut machine,
        "mkdir -m 700 /a/conf /b/spool /a/state && echo -n old | tee /a/conf/says >/b/spool/says",
    );
    run(&mut machine, INIT);
    until_settled(&mut machine);
    begin(&mut machine, "new");
    // The first half is on its disk.
    run(&mut machine, "/usr/bin/sync -f /a");
    machine.cut();

    let mut machine = guest.boot(&disks).unwrap();
    run(&mut machine, UP);
    // A half of each: what mail must not be started on.
    assert_eq!(run(&mut machine, "cat /a/conf/says; echo; cat /b/spool/says; echo"), "new\nold");
    run(&mut machine, "rm /a/freeze");
    run(&mut machine, INIT);
    until_settled(&mut machine);
    assert_eq!(run(&mut machine, "cat /a/seen"), "old old\nnew new");
    assert_eq!(run(&mut machine, "cat /a/state/service-*/kept.json | grep -c '\"old\"'"), "1");

    // And where of the first half only the journal is on its disk, perhaps.
    run(
        &mut machine,
        "rm /a/state/service-*/kept.json && rm -r /a/.mailkeep-restore /b/.mailkeep-restore && sync",
    );
    begin(&mut machine, "newer");
    machine.cut();
    let mut machine = guest.boot(&disks).unwrap();
    run(&mut machine, UP);
    run(&mut machine, "rm /a/freeze");
    run(&mut machine, INIT);
    until_settled(&mut machine);
    assert_eq!(run(&mut machine, "tail -n 1 /a/seen"), "newer newer");
    machine.cut();
}

/// A box that restores: real agent, two trees of a file each.
#[test]
#[ignore = "run in the guest"]
fn restore_that_is_cut_off() {
    let says = fs::read("/a/want").unwrap();
    // Without the word for labs: rescue and settling are installed.
    let mut command = Command::new("env");
    command.args(["-u", "MAILKEEP_AGENT_BOOT", AGENT, "serve", "--role", "restore"]);
    let agent = Agent::start_command(command, Path::new("/a/state"), &Options::new("test"));
    let configured = agent.configure(SOURCE);
    assert_eq!(configured.roots, ["/a/conf", "/b/spool"]);
    let (users, groups) = (Vec::new(), Vec::new());
    agent.send(ToAgent::Raise(Raise { snapshot: "s".into(), trial: false, users, groups }));
    let meta = |mode| Meta { mode, links: 1, ..Meta::default() };
    for (tree, name) in [(0, b"conf".to_vec()), (1, b"spool".to_vec())] {
        let node = Node { name, meta: meta(0o700), kind: NodeKind::Directory { content: Vec::new() } };
        agent.send(ToAgent::Folder(Folder { number: tree, place: Place::Tree(tree), node }));
        let kind = NodeKind::File { size: says.len() as u64, sparse: false, content: Vec::new() };
        let file = Node { name: b"says".to_vec(), meta: meta(0o600), kind };
        agent.send(ToAgent::Lay(Lay { folder: tree, nodes: vec![file], pieces: vec![Vec::new()] }));
        let held = agent.receive().unwrap();
        assert!(matches!(held, ToBox::Held(_)), "{held:?}");
        agent.send(ToAgent::Fill(Fill { index: 0, offset: 0, bytes: says.clone().into() }));
        agent.send(ToAgent::Settle);
        agent.send(ToAgent::Seal(Seal { folder: tree }));
    }
    agent.send(ToAgent::Raised);
    let raised = agent.receive().unwrap();
    assert!(matches!(raised, ToBox::Raised(_)), "{raised:?}");
    agent.send(ToAgent::Swap(Swap { standby: false }));
    panic!("it was to be cut off: {:?}", agent.receive());
}
