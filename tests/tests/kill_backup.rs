//! The backup is killed (SIGKILL) at random moments: the repository opens, every byte verifies, old snapshots
//! restore equal, and the next backup succeeds.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::cyrus::source::generic_source;
use mailkeep_tests::process::{self, Running, env_number};
use mailkeep_tests::programs::json_line;
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::tree;

#[test]
fn killed_at_random_moments_nothing_sealed_is_lost() -> Result<()> {
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let folder = home.path().join("tree");
    let (mut rng, seed) = Rng::of_run();
    fs::create_dir(&folder)?;
    for round in 0..4 {
        change(&folder, round, &mut rng)?;
    }
    let source = generic_source(&home.path().join("tree.toml"), "tree", &folder, "")?;
    let mut sealed = vec![(id(&rig.backup(&source)?)?, tree::facts(&folder)?)];

    // What a backup of one change reads and writes, so that the kills fall into all of it, however busy the machine is.
    change(&folder, 4, &mut rng)?;
    let usual = {
        let (output, usual) = Running::spawn(&mut rig.backup_command(&source))?.measured()?;
        let summary = json_line(&output.expect_code("mailkeep backup", 0)?.out(), "summary")?;
        sealed.push((id(&summary)?, tree::facts(&folder)?));
        usual
    };

    // Only what really died before its end counts.
    let kills = env_number("MAILKEEP_KILLS", 15);
    let (mut killed, mut round) = (0, 0);
    while killed < kills {
        ensure!(
            round < kills * 5,
            "only {killed} of {round} backups were killed before their end, which takes {usual} bytes"
        );
        change(&folder, 5 + round, &mut rng)?;
        let moment = rng.below(usual);
        let context = format!("kill {round} after {moment} of {usual} bytes, seed {seed}");
        let mut backup = Running::spawn(&mut rig.backup_command(&source))?;
        backup.reaches(moment)?;
        backup.kill_alone();
        let output = backup.wait(process::HANG).with_context(|| context.clone())?;
        killed += usize::from(output.code == 137);

        check(&rig, &folder, &sealed, round, home.path()).with_context(|| context.clone())?;
        if round % 3 == 2 {
            let summary = rig.backup(&source).with_context(|| format!("{context}: the next backup"))?;
            sealed.push((id(&summary)?, tree::facts(&folder)?));
            check(&rig, &folder, &sealed, sealed.len() - 1, home.path()).with_context(|| context.clone())?;
        }
        round += 1;
    }
    eprintln!("{killed} of {round} backups killed before their end, {usual} bytes take a whole one");
    rig.backup(&source).map(drop)
}

/// Verifies every byte, sees all sealed snapshots listed, and restores one of them.
fn check(
    rig: &Rig,
    folder: &Path,
    sealed: &[(String, tree::Facts)],
    which: usize,
    home: &Path,
) -> Result<()> {
    rig.verify_all()?;
    let listed = rig.snapshots()?;
    for (snapshot, _) in sealed {
        ensure!(
            listed.iter().any(|l| l.starts_with(snapshot) || snapshot.starts_with(l)),
            "{snapshot} is gone: {listed:?}"
        );
    }
    let (snapshot, expected) = &sealed[which % sealed.len()];
    let target = home.join("restored");
    let restored = rig.restore(snapshot, &target, folder)?;
    let difference = tree::difference(expected, &tree::facts(&restored)?);
    fs::remove_dir_all(&target)?;
    if let Some(difference) = difference {
        bail!("snapshot {snapshot} (right) is not what was sealed (left): {difference}");
    }
    Ok(())
}

/// Some megabytes of new files, small and large, and a few old ones changed or removed.
fn change(folder: &Path, round: usize, rng: &mut Rng) -> Result<()> {
    let sub = folder.join(format!("round{round}"));
    fs::create_dir(&sub)?;
    for i in 0..150 {
        let mut data = vec![0; 200 + rng.index(20_000)];
        rng.fill(&mut data);
        fs::write(sub.join(format!("{i}.")), data)?;
    }
    let mut data = vec![0; 4_000_000];
    rng.fill(&mut data);
    fs::write(sub.join("large"), data)?;
    if round > 0 {
        let old = folder.join(format!("round{}", rng.index(round)));
        fs::write(old.join("0."), format!("changed in round {round}"))?;
        let _ = fs::remove_file(old.join(format!("{}.", 1 + rng.index(149))));
    }
    // Keep the tree at a steady size: what is older than twelve rounds goes.
    if let Some(gone) = round.checked_sub(12) {
        let gone = folder.join(format!("round{gone}"));
        if gone.exists() {
            fs::remove_dir_all(&gone)?;
            fs::create_dir(&gone)?;
        }
    }
    std::thread::sleep(Duration::from_millis(5));
    Ok(())
}
