//! The disk fails under a running backup: writes end in I/O errors, or the file system turns read-only. The backup ends
//! with one line, nothing is written after that, and once the disk is well again everything that was sealed is there and
//! the next backup succeeds. Real file systems on loop devices: the "disk" is an image on a memory disk with less room
//! than the image pretends to have, so that from some write on the device answers with errors, as a failing one does.
//! Hazards 1 and 25. Needs root.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::source::generic_source;
use mailkeep_tests::process::{self, Running, run, write_script};
use mailkeep_tests::programs::bin;
use mailkeep_tests::rig::{Rig, id, one_clear_line};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::tree;

const FILE_SYSTEMS: [&[&str]; 2] = [
    &["mkfs.btrfs", "-q", "-m", "dup"],
    &["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
];

/// Room that the device really has at first, in MiB, and what it pretends to have.
const REAL: u64 = 60;
const PRETENDED: u64 = 300;

fn possible() -> bool {
    let root = rustix::process::geteuid().is_root();
    let required = std::env::var_os("MAILKEEP_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(root || !required, "mounting needs root");
    root
}

/// A disk in `home/disk`, whose device fails once `REAL` is written.
struct Disk {
    home: tempfile::TempDir,
}

fn command(program: &str, args: &[&dyn AsRef<OsStr>]) -> Result<()> {
    let output = run(Command::new(program).args(args.iter().map(|arg| arg.as_ref())))?;
    output.expect_code(program, 0).map(drop)
}

impl Disk {
    fn new(mkfs: &[&str]) -> Result<Self> {
        let disk = Self { home: tempfile::tempdir()? };
        fs::create_dir(disk.shelf())?;
        fs::create_dir(disk.point())?;
        command("mount", &[&"-t", &"tmpfs", &"-o", &format!("size={REAL}M"), &"none", &disk.shelf()])?;
        fs::File::create(disk.image())?.set_len(PRETENDED << 20)?;
        let mut args: Vec<&dyn AsRef<OsStr>> = mkfs[1..].iter().map(|arg| arg as &dyn AsRef<OsStr>).collect();
        let image = disk.image();
        args.push(&image);
        command(mkfs[0], &args)?;
        disk.mount()?;
        Ok(disk)
    }

    fn shelf(&self) -> PathBuf {
        self.home.path().join("shelf")
    }

    fn image(&self) -> PathBuf {
        self.shelf().join("disk.img")
    }

    fn point(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    fn mount(&self) -> Result<()> {
        let mount = || command("mount", &[&"-o", &"loop,noatime", &self.image(), &self.point()]);
        // Another suite may take the free loop device between mount's look and its grasp, again and again.
        let mut left = 50;
        loop {
            match mount() {
                Err(_) if left > 0 => left -= 1,
                done => return done,
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn unmount(&self) -> Result<()> {
        command("umount", &[&self.point()])
    }

    /// Pulled out and put into a port that works.
    fn mend(&self) -> Result<()> {
        self.unmount()?;
        command("mount", &[&"-o", &format!("remount,size={}M", PRETENDED * 2), &self.shelf()])?;
        self.mount()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for point in [self.point(), self.shelf()] {
            // A test that failed may have left things open there.
            while mounted(&point) && command("umount", &[&"--lazy", &point]).is_ok() {}
        }
    }
}

fn mounted(point: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1).map(Path::new) == Some(point))
}

fn noise(folder: &Path, name: &str, megabytes: usize, rng: &mut Rng) -> Result<()> {
    let mut data = vec![0; megabytes << 20];
    rng.fill(&mut data);
    Ok(fs::write(folder.join(name), data)?)
}

struct Story {
    disk: Disk,
    rig: Rig,
    folder: PathBuf,
    source: PathBuf,
    sealed: String,
    facts: tree::Facts,
    rng: Rng,
}

impl Story {
    /// A disk with one good backup on it.
    fn begin(mkfs: &[&str]) -> Result<Self> {
        let disk = Disk::new(mkfs)?;
        let rig = Rig::new(disk.home.path())?;
        let folder = disk.home.path().join("tree");
        fs::create_dir(&folder)?;
        let mut rng = Rng::new(20_261_123);
        noise(&folder, "first", 2, &mut rng)?;
        let source = generic_source(&disk.home.path().join("tree.toml"), "tree", &folder, "")?;
        let sealed = id(&rig.backup(&source)?)?;
        let facts = tree::facts(&folder)?;
        Ok(Self { disk, rig, folder, source, sealed, facts, rng })
    }

    /// The disk is well again: all that was sealed is there, and life goes on.
    fn end(self) -> Result<()> {
        self.rig.verify_all().context("after the disk was mended")?;
        ensure!(self.rig.snapshots()? == [self.sealed.as_str()], "{:?}", self.rig.snapshots());
        let target = self.disk.home.path().join("restored");
        let restored = self.rig.restore(&self.sealed, &target, &self.folder)?;
        let difference = tree::difference(&self.facts, &tree::facts(&restored)?);
        ensure!(difference.is_none(), "{difference:?}");
        self.rig.backup(&self.source).context("the next backup")?;
        self.rig.verify_all()
    }
}

#[test]
fn a_device_that_fails_under_a_backup_costs_that_backup_and_nothing_else() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    for mkfs in FILE_SYSTEMS {
        let mut story = Story::begin(mkfs)?;
        noise(&story.folder, "more", 90, &mut story.rng)?;
        let output = run(&mut story.rig.backup_command(&story.source))?;
        let line = one_clear_line(mkfs[0], &output)?;
        ensure!(matches!(output.code, 1 | 65 | 75), "exit {}: {line}", output.code);
        ensure!(output.code != 65 || line.contains("cable"), "healthy data was called damaged: {line}");
        story.disk.mend().with_context(|| line.clone())?;
        eprintln!("{}: exit {}: {line}", mkfs[0], output.code);
        story.end().with_context(|| mkfs[0].to_owned())?;
    }
    Ok(())
}

#[test]
fn a_file_system_that_turns_read_only_under_a_backup_ends_it() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut story = Story::begin(FILE_SYSTEMS[1])?;
    // Room for everything, so that only the turn to read-only can end the run.
    command("mount", &[&"-o", &format!("remount,size={}M", PRETENDED * 2), &story.disk.shelf()])?;
    noise(&story.folder, "more", 120, &mut story.rng)?;
    let packs = || -> Result<usize> {
        let found = run(Command::new("find").arg(story.disk.point().join("packs")).args(["-type", "f"]))?;
        Ok(found.out().lines().count())
    };
    let before = packs()?;
    // The agent does not say the last of it until the disk has failed, so that the backup cannot end before.
    let (agent, failed) = (bin("mailkeep-agent")?, story.disk.home.path().join("failed"));
    let gate = story.disk.home.path().join("agent");
    let text = format!(
        "#!/bin/sh\n'{}' \"$@\" | {{ dd bs=64k count=90000000 iflag=count_bytes status=none; while [ -d '{}' ] && [ ! -e '{}' ]; do sleep 0.05; done; cat; }}\n",
        agent.display(),
        story.disk.home.path().display(),
        failed.display()
    );
    write_script(&gate, &text)?;
    let source = fs::read_to_string(&story.source)?;
    let gated = story.disk.home.path().join("gated.toml");
    let own = |path: &Path| format!("agent-path = \"{}\"", path.display());
    ensure!(source.contains(&own(&agent)), "{source}");
    fs::write(&gated, source.replace(&own(&agent), &own(&gate)))?;
    let mut backup = Running::spawn(&mut story.rig.backup_command(&gated))?;
    let start = Instant::now();
    while packs()? == before {
        ensure!(!backup.ended()? && start.elapsed() < process::HANG, "no pack comes");
        std::thread::sleep(Duration::from_millis(1));
    }
    // As ext4 does by itself when it finds that its device lies (errors=remount-ro).
    command("mount", &[&"-o", &"remount,abort", &story.disk.point()])?;
    fs::write(&failed, "")?;
    let output = backup.wait(process::HANG)?;
    let line = one_clear_line("read-only", &output)?;
    ensure!(matches!(output.code, 1 | 75), "exit {}: {line}", output.code);
    eprintln!("exit {}: {line}", output.code);
    // Still readable as it is.
    ensure!(story.rig.snapshots()? == [story.sealed.as_str()]);
    story.disk.mend()?;
    story.end()
}

#[test]
fn an_absent_disk_and_a_wrong_one_with_the_right_label_are_told_apart() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let story = Story::begin(FILE_SYSTEMS[0])?;
    story.disk.unmount()?;
    let output = run(&mut story.rig.backup_command(&story.source))?;
    ensure!(output.code == 75, "absent: exit {}: {}", output.code, output.err());
    one_clear_line("absent", &output)?;
    ensure!(
        fs::read_dir(story.disk.point())?.next().is_none(),
        "something was written under the mount point"
    );
    // Another box's disk with the same sticker on it.
    let wrong = Disk::new(FILE_SYSTEMS[0])?;
    let theirs = Rig::new(wrong.home.path())?;
    theirs.backup(&story.source)?;
    command("mount", &[&"--bind", &wrong.point(), &story.disk.point()])?;
    let output = run(&mut story.rig.backup_command(&story.source))?;
    ensure!(output.code == 77, "wrong disk: exit {}: {}", output.code, output.err());
    one_clear_line("wrong disk", &output)?;
    story.disk.unmount()?;
    ensure!(theirs.snapshots()?.len() == 1, "the wrong disk was written to");
    story.disk.mount()?;
    story.end()
}
