//! Prune is killed (SIGKILL) at random moments: every snapshot that stays verifies to the last byte and restores equal,
//! the next backup and the next prune succeed, and the room of what was removed really comes back.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::source::generic_source;
use mailkeep_tests::process::{self, Running, env_number};
use mailkeep_tests::programs::json_line;
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::tree;

/// Snapshots that each prune keeps.
const KEPT: usize = 3;

#[test]
fn killed_at_random_moments_what_stays_is_whole_and_the_room_comes_back() -> Result<()> {
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let folder = home.path().join("tree");
    fs::create_dir(&folder)?;
    let (mut rng, seed) = Rng::of_run();
    let source = generic_source(&home.path().join("tree.toml"), "tree", &folder, "")?;
    let mut sealed = Vec::new();
    let mut next = |rig: &Rig, rng: &mut Rng| -> Result<Vec<(String, tree::Facts)>> {
        change(&folder, rng)?;
        sealed.push((id(&rig.backup(&source)?)?, tree::facts(&folder)?));
        Ok(sealed.iter().rev().take(KEPT).cloned().collect())
    };
    for _ in 0..KEPT + 1 {
        next(&rig, &mut rng)?;
    }
    // What a prune reads and writes, so that the kills fall into all of it, however busy the machine is.
    let (first, usual) = Running::spawn(&mut rig.command(&prune()))?.measured()?;
    first.expect_code("mailkeep prune", 0)?;
    let kills = env_number("MAILKEEP_PRUNE_KILLS", 10);
    let (mut killed, mut round) = (0, 0);
    while killed < kills {
        ensure!(round < kills * 8, "only {killed} of {round} prunes were killed before their end");
        let staying = next(&rig, &mut rng)?;
        let moment = rng.below(usual);
        let context = format!("kill {round} after {moment} of {usual} bytes, seed {seed}");
        let mut running = Running::spawn(&mut rig.command(&prune()))?;
        running.reaches(moment)?;
        running.kill_alone();
        let output = running.wait(process::HANG).with_context(|| context.clone())?;
        killed += usize::from(output.code == 137);
        check(&rig, &folder, &staying, round, home.path()).with_context(|| context.clone())?;
        if round % 2 == 0 {
            rig.ok(&prune()).with_context(|| format!("{context}: the next prune"))?;
            check(&rig, &folder, &staying, round + 1, home.path()).with_context(|| context.clone())?;
        }
        round += 1;
    }
    // Two undisturbed rounds: what was removed before them is deleted.
    let mut freed = 0;
    for _ in 0..2 {
        next(&rig, &mut rng)?;
        let summary = json_line(&rig.ok(&prune())?.out(), "summary")?;
        freed += summary["deleted_packs"].as_u64().context("no deleted_packs")?;
    }
    ensure!(freed > 0, "nothing was deleted");
    let left = size(&rig.repository().join("packs"))?;
    let tree = size(&folder)?;
    // The kept days share most; one removed day waits for the next seal.
    ensure!(left < tree * 4, "{left} bytes of packs are left for a tree of {tree}");
    eprintln!("{killed} of {round} prunes killed before their end; {left} bytes left, the tree has {tree}");
    rig.verify_all()
}

fn prune() -> Vec<std::ffi::OsString> {
    let keep = KEPT.to_string();
    ["--json", "prune", "--keep-last", &keep, "--grace", "0"].map(Into::into).to_vec()
}

fn check(
    rig: &Rig,
    folder: &Path,
    staying: &[(String, tree::Facts)],
    which: usize,
    home: &Path,
) -> Result<()> {
    rig.verify_all()?;
    let listed = rig.snapshots()?;
    for (snapshot, _) in staying {
        ensure!(listed.contains(snapshot), "{snapshot} is gone: {listed:?}");
    }
    let (snapshot, expected) = &staying[which % staying.len()];
    let target = home.join("restored");
    let restored = rig.restore(snapshot, &target, folder)?;
    let difference = tree::difference(expected, &tree::facts(&restored)?);
    fs::remove_dir_all(&target)?;
    ensure!(difference.is_none(), "{snapshot} is not what was sealed: {difference:?}");
    Ok(())
}

/// Half of the files get other contents.
fn change(folder: &Path, rng: &mut Rng) -> Result<()> {
    for i in 0..120 {
        let path = folder.join(format!("{i}."));
        if !path.exists() || rng.index(2) == 0 {
            let mut data = vec![0; 2000 + rng.index(20_000)];
            rng.fill(&mut data);
            fs::write(path, data)?;
        }
    }
    std::thread::sleep(Duration::from_millis(5));
    Ok(())
}

fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { size(&entry.path())? } else { meta.len() };
    }
    Ok(sum)
}
