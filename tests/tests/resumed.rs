//! A backup that was cut off goes on: what it had read and kept is not read again, the snapshot that comes of it equals the
//! tree, and nothing is listed that is not whole. Real agent, real disk; the agent dies (a broken link) or the box does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::cyrus::source::generic_source;
use mailkeep_tests::process::{self, Running, descendants, signal};
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::tree;
use rustix::process::Signal;

/// Files of a folder, and their length.
const FILES: usize = 60;
const LENGTH: usize = 40_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Agent,
    Box,
}

/// Fills a folder with messages that are like no others.
fn fill(folder: &Path, salt: usize) -> Result<()> {
    fs::create_dir_all(folder)?;
    for number in 0..FILES {
        let line = format!("{salt} {number} ");
        let bytes: Vec<u8> = line.bytes().cycle().take(LENGTH).collect();
        fs::write(folder.join(format!("{number}.")), bytes)?;
    }
    Ok(())
}

/// Older than what a coarse clock could hide.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(3_200));
}

fn checkpoints(rig: &Rig) -> Vec<PathBuf> {
    let entries = fs::read_dir(rig.repository().join("checkpoints"));
    let mut paths: Vec<_> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The highest sequence of a checkpoint.
fn kept(rig: &Rig) -> usize {
    let name = |path: &PathBuf| path.file_name()?.to_str()?.split_once('-')?.0.parse().ok();
    checkpoints(rig).last().and_then(name).unwrap_or(0)
}

/// A backup whose victim dies once it has been kept this often how far it has come; false if it ended before.
fn cut_off(rig: &Rig, source: &Path, victim: Victim, times: usize) -> Result<bool> {
    let mut command = rig.backup_command(source);
    command.args(["--checkpoint-interval", "0s"]);
    let before = kept(rig);
    let mut backup = Running::spawn(&mut command)?;
    let start = Instant::now();
    while kept(rig) < before + times {
        if backup.ended()? {
            backup.wait(process::HANG)?.expect_code("mailkeep backup", 0)?;
            return Ok(false);
        }
        ensure!(start.elapsed() < process::HANG, "nothing is kept");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    match victim {
        Victim::Box => backup.kill_alone(),
        Victim::Agent => {
            let serves = |pid: u32| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.split(|byte| *byte == 0).any(|word| word == b"serve")
            };
            descendants(backup.pid())
                .into_iter()
                .filter(|process| serves(process.pid))
                .for_each(|process| signal(process.pid, Signal::KILL));
        }
    }
    let output = backup.wait(process::HANG)?;
    ensure!(!output.err().contains("panicked at"), "{}", output.err());
    Ok(output.code != 0)
}

#[test]
fn what_was_kept_is_not_read_again_and_the_snapshot_equals_the_tree() -> Result<()> {
    for victim in [Victim::Agent, Victim::Box] {
        let home = tempfile::tempdir()?;
        let rig = Rig::new(home.path())?;
        let spool = home.path().join("spool");
        fill(&spool.join("old"), 0)?;
        // As slow as it must be for a cut to fall into the middle.
        let more = "write-once = [\"[0-9]*.\"]\n[limits]\nread = \"2 MB/s\"\n";
        let source = generic_source(&home.path().join("spool.toml"), "spool", &spool, more)?;
        settle();
        let mut sealed = 0;
        // Of the first backup, and of one that has a parent whose rules are trusted.
        for round in 1..=2 {
            fill(&spool.join(format!("new{round}")), round)?;
            settle();
            let all = FILES as u64 * if round == 1 { 2 } else { 1 };
            let context = format!("{victim:?}, round {round}");
            let mut tries = 0;
            while !cut_off(&rig, &source, victim, 5)? {
                // It was done before anybody looked: what is to be read is made anew.
                sealed += 1;
                tries += 1;
                ensure!(tries < 10, "{context}: no backup could be cut off");
                fill(&spool.join(format!("new{round}")), 100 * tries + round)?;
                settle();
            }
            ensure!(rig.snapshots()?.len() == sealed, "{context}: {:?} are listed", rig.snapshots()?);
            rig.verify_all().context(context.clone())?;
            ensure!(!checkpoints(&rig).is_empty(), "{context}: nothing was kept");

            let (summary, _) = rig.good_backup_within(&source, process::HANG).context(context.clone())?;
            sealed += 1;
            let first = &summary["passes"][0];
            let (files, bytes) = (first["files_changed"].as_u64(), first["bytes_read"].as_u64());
            let (files, bytes) = files.zip(bytes).with_context(|| format!("{summary}"))?;
            ensure!(files < all && bytes <= files * LENGTH as u64, "{context}: all is read again: {summary}");
            ensure!(checkpoints(&rig).is_empty(), "{context}: it is sealed, and the checkpoint is there");
            let restored = home.path().join("restored");
            let now = tree::facts(&rig.restore(&id(&summary)?, &restored, &spool)?)?;
            fs::remove_dir_all(&restored)?;
            if let Some(difference) = tree::difference(&tree::facts(&spool)?, &now) {
                bail!("{context}: the spool (left) and the snapshot (right) differ: {difference}");
            }
        }
        rig.verify_all()?;
    }
    Ok(())
}

/// A checkpoint keeps nothing from being swept, and what it names may rot: it is read again then.
#[test]
fn what_a_checkpoint_has_lost_is_read_again() -> Result<()> {
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let spool = home.path().join("spool");
    fill(&spool, 0)?;
    let more = "write-once = [\"[0-9]*.\"]\n[limits]\nread = \"2 MB/s\"\n";
    let source = generic_source(&home.path().join("spool.toml"), "spool", &spool, more)?;
    settle();
    let mut sealed = 0;
    while !cut_off(&rig, &source, Victim::Box, 5)? {
        sealed += 1;
        ensure!(sealed < 10, "no backup could be cut off");
        fill(&spool, sealed)?;
        settle();
    }
    let packs = rig.repository().join("packs");
    let mut gone = 0;
    for folder in fs::read_dir(&packs)? {
        for pack in fs::read_dir(folder?.path())? {
            let pack = pack?.path();
            if sealed == 0 {
                fs::remove_file(pack)?;
                gone += 1;
            }
        }
    }
    ensure!(sealed > 0 || gone > 0, "no pack was there");
    let summary = rig.good_backup(&source)?;
    let now = tree::facts(&rig.restore(&id(&summary)?, &home.path().join("restored"), &spool)?)?;
    if let Some(difference) = tree::difference(&tree::facts(&spool)?, &now) {
        bail!("the spool (left) and the snapshot (right) differ: {difference}");
    }
    rig.verify_all()
}
