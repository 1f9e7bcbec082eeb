//! The frozen window on a real Cyrus, over a real sshd and a slow link: mail is started before what changed crosses the
//! link, and what is sealed is the server as it stood while mail was stopped, whatever users do to it meanwhile.
//!
//! Nothing here depends on who is faster: the stop and the start wait for the test, and so does what crosses the link.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::block::mounted::{FileSystem, Mounted};
use mailkeep_tests::cyrus::files::files_are_equal;
use mailkeep_tests::cyrus::load::Load;
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, Transport, cyrus_source};
use mailkeep_tests::cyrus::state::ImapState;
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process::{self, Output, Running, write_script};
use mailkeep_tests::programs::json_line;
use mailkeep_tests::proxy::Proxy;
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::ssh::{self, Sshd};

/// Bytes that change after the last live pass, at least.
const CHANGE: usize = 3 << 20;
/// Bytes that may cross the link while mail is stopped: signs of life, and that mail is stopped and kept.
const WORDS: u64 = 64 << 10;
/// Bits per second: a slow line, and one on which nothing is done in an hour.
const SLOW: u64 = 10_000_000;
const CRAWL: u64 = 40_000;

/// What the server lies on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    /// Whatever the tests are run on: what changed is kept by open files and copies.
    Anything,
    /// A btrfs of its own: a snapshot keeps it.
    Btrfs,
}

struct Lab {
    // Dropped in this order: the server before the folder that it lies in.
    server: Cyrus,
    proxy: Proxy,
    _sshd: Sshd,
    rig: Rig,
    source: PathBuf,
    disk: Option<Mounted>,
    home: tempfile::TempDir,
}

impl Lab {
    fn new(on: On) -> Result<Option<Lab>> {
        if let Some(why) = cyrus::missing().or_else(ssh::missing) {
            process::skip(&why)?;
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        let disk = match on {
            On::Anything => None,
            On::Btrfs => {
                let (image, point) = (home.path().join("image"), home.path().join("d"));
                FileSystem::Btrfs.make(&image)?;
                std::fs::create_dir(&point)?;
                Some(Mounted::mount(&image, &point, "")?)
            }
        };
        let place = disk.as_ref().map_or(home.path(), |disk| disk.path());
        let rig = Rig::new(home.path())?;
        let sshd = Sshd::start(&home.path().join("ssh"))?;
        let proxy = Proxy::to(sshd.port())?;
        let server = Cyrus::create(&place.join("server"), &["alice", "bob"], Layout::Uuid)?;
        server.start()?;
        populate(&server, 80, 11)?;
        let options = Options { transport: Transport::Ssh(&sshd), deadline: "10m", ..Options::default() };
        let source = cyrus_source(&home.path().join("lab.toml"), &server, &options)?;
        let mut text = std::fs::read_to_string(&source)?;
        text = text.replace(&format!("port = {}\n", sshd.port()), &format!("port = {}\n", proxy.port()));
        for word in ["stop", "start"] {
            let script = home.path().join(word);
            let folder = home.path().display();
            let own = server.script(word).display().to_string();
            let body = format!(
                "#!/bin/sh\ntouch {folder}/{word}-began\n\
                 while [ -d {folder} ] && [ ! -e {folder}/{word}-go ]; do sleep 0.02; done\nexec {own}\n"
            );
            write_script(&script, &body)?;
            text = text.replace(&format!("[\"{own}\"]"), &format!("[{:?}]", script.display().to_string()));
        }
        std::fs::write(&source, text)?;
        let hosts = std::fs::read_to_string(sshd.known_hosts())?;
        let line = hosts.replace(&format!("]:{}", sshd.port()), &format!("]:{}", proxy.port()));
        std::fs::write(sshd.known_hosts(), format!("{hosts}{line}"))?;
        let lab = Lab { server, proxy, _sshd: sshd, rig, source, disk, home };
        lab.go("stop")?;
        lab.go("start")?;
        lab.rig.good_backup(&lab.source)?;
        for mark in ["stop-began", "stop-go", "start-began", "start-go"] {
            std::fs::remove_file(lab.home.path().join(mark))?;
        }
        Ok(Some(lab))
    }

    /// How many snapshots there are on the server's disk.
    fn snapshots_on_disk(&self) -> Result<usize> {
        let Some(disk) = &self.disk else { return Ok(0) };
        let mut command = Command::new("btrfs");
        command.args(["subvolume", "list", "-r"]).arg(disk.path());
        let listed = process::run(&mut command)?.expect_code("btrfs subvolume list", 0)?;
        Ok(listed.out().lines().count())
    }

    /// Lets a script go on that waits, or will.
    fn go(&self, word: &str) -> Result<()> {
        Ok(std::fs::write(self.home.path().join(format!("{word}-go")), "")?)
    }

    fn wait_for(&self, mark: &str, backup: &mut Running) -> Result<()> {
        let began = Instant::now();
        while !self.home.path().join(mark).exists() {
            ensure!(!backup.ended()?, "the backup ended before {mark}");
            ensure!(began.elapsed() < process::HANG, "waited too long for {mark}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// A backup up to the moment when mail greets again and the final pass has only begun to cross the link; the truth
    /// about the window lies in the folder `truth`.
    fn backup_until_mail_is_back(&self) -> Result<Running> {
        let truth = self.home.path().join("truth");
        self.server.keep_truth_in(&truth)?;
        self.proxy.throttle(SLOW);
        // Changes before, during and after the live pass.
        let load = Load::start(&self.server, 2, 3);
        load.wait_for(20)?;
        let mut backup = Running::spawn(&mut self.rig.backup_command(&self.source))?;
        self.wait_for("stop-began", &mut backup)?;
        load.wait_for(20)?;
        load.stop();
        let noise: Vec<u8> = (0..CHANGE as u32 / 32)
            .flat_map(|number| *blake3::hash(&number.to_le_bytes()).as_bytes())
            .collect();
        std::fs::write(self.server.root().join("sieve/large.bc"), noise)?;
        let before = self.proxy.passed();
        self.go("stop")?;
        self.wait_for("start-began", &mut backup)?;
        let passed = self.proxy.passed() - before;
        ensure!(passed < WORDS, "{passed} bytes crossed the link while mail was stopped");
        self.proxy.throttle(CRAWL);
        self.go("start")?;
        self.server.wait_for_greeting(process::HANG)?;
        ensure!(!backup.ended()?, "the change cannot have crossed the link by now");
        assert_eq!(self.snapshots_on_disk()?, usize::from(self.disk.is_some()));
        Ok(backup)
    }

    /// What users do to what is still to be sent.
    fn disturb(&self) -> Result<()> {
        for user in ["alice", "bob"] {
            let mut imap = self.server.imap(user)?;
            imap.run("SELECT INBOX")?;
            imap.run("STORE 1:* +FLAGS.SILENT (\\Deleted)")?;
            imap.run("EXPUNGE")?;
        }
        let load = Load::start(&self.server, 2, 9);
        load.wait_for(100)?;
        load.stop();
        // Expunged messages lie about for a while; now they are gone.
        self.server.tool("cyr_expire", &["-E", "1", "-X", "0", "-D", "0"])?;
        std::fs::write(self.server.root().join("sieve/large.bc"), "other")?;
        Ok(())
    }
}

fn good(output: Output) -> Result<serde_json::Value> {
    let summary = json_line(&output.expect_code("mailkeep backup", 0)?.out(), "summary")?;
    ensure!(summary["consistent"] == true && summary["mail_check"]["ok"] == true, "{summary}");
    Ok(summary)
}

#[test]
fn mail_is_back_before_the_change_crosses_the_link_and_the_snapshot_is_the_window() -> Result<()> {
    the_snapshot_is_the_window(On::Anything)
}

#[test]
fn on_btrfs_too_mail_is_back_before_the_change_crosses_the_link() -> Result<()> {
    the_snapshot_is_the_window(On::Btrfs)
}

fn the_snapshot_is_the_window(on: On) -> Result<()> {
    let Some(lab) = Lab::new(on)? else { return Ok(()) };
    let backup = lab.backup_until_mail_is_back()?;
    let before = lab.proxy.passed();
    lab.disturb()?;
    lab.proxy.throttle(0);
    let summary = good(backup.wait(process::HANG)?)?;
    let passed = lab.proxy.passed() - before;
    ensure!(passed > CHANGE as u64 / 2, "only {passed} bytes crossed the link after the start");
    let shown = lab.rig.ok(&["show".into(), id(&summary)?.into()])?.out();
    assert_eq!(shown.contains("btrfs snapshot: "), on == On::Btrfs, "{shown}");
    assert_eq!(lab.snapshots_on_disk()?, 0);
    let restored_dir = lab.rig.restore(&id(&summary)?, &lab.home.path().join("r"), lab.server.root())?;
    let truth_dir = lab.home.path().join("truth");
    files_are_equal(&truth_dir, &restored_dir)?;
    let truth = Cyrus::adopt(&truth_dir, lab.server.root(), lab.server.users())?;
    let restored = Cyrus::adopt(&restored_dir, lab.server.root(), lab.server.users())?;
    truth.start()?;
    restored.start()?;
    if let Some(difference) = ImapState::capture(&truth)?.difference(&ImapState::capture(&restored)?) {
        bail!("the window (left) and the restored server (right) differ: {difference}");
    }
    // What was disturbed is a change as any other for the next run.
    lab.rig.good_backup(&lab.source)?;
    lab.rig.verify_all()
}

#[test]
fn a_link_cut_after_the_start_leaves_mail_running_and_nothing_sealed() -> Result<()> {
    a_cut_link_leaves_nothing(On::Anything)
}

#[test]
fn on_btrfs_a_link_cut_after_the_start_leaves_no_snapshot() -> Result<()> {
    a_cut_link_leaves_nothing(On::Btrfs)
}

fn a_cut_link_leaves_nothing(on: On) -> Result<()> {
    let Some(lab) = Lab::new(on)? else { return Ok(()) };
    let before = lab.rig.snapshots()?;
    let backup = lab.backup_until_mail_is_back()?;
    let events = lab.server.events();
    lab.proxy.cut();
    let output = backup.wait(process::HANG)?;
    ensure!([1, 75].contains(&output.code), "exit {}: {}", output.code, output.err());
    lab.server.wait_for_greeting(process::HANG)?;
    ensure!(lab.server.events() == events, "mail must not be touched once it runs again");
    assert_eq!(lab.rig.snapshots()?, before);
    // The agent learns of it in its own time.
    let began = Instant::now();
    while lab.snapshots_on_disk()? > 0 {
        ensure!(began.elapsed() < process::HANG, "the snapshot is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    lab.proxy.throttle(0);
    lab.rig.good_backup_within(&lab.source, process::HANG).context("the next backup")?;
    Ok(())
}
