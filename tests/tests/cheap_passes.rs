//! Folders that are not listed because nothing changed in them: whatever a mail system does to its files between passes
//! and between runs, the snapshot equals the tree; what breaks the rules is found by the next full walk and told.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::cyrus::source::generic_source;
use mailkeep_tests::process::write_script;
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::tree;

/// Runs after which everything is looked at (`FULL_WALK_EVERY` of the puller).
const FULL_WALK_EVERY: usize = 7;
/// What a final pass adds in `/.mailkeep`: what the agent found on the server.
const IN_MAILKEEP: u64 = 1;
const FOLDERS: usize = 14;
const MESSAGES: usize = 8;

struct Lab {
    home: tempfile::TempDir,
    rig: Rig,
    spool: PathBuf,
    source: PathBuf,
    restores: usize,
}

impl Lab {
    /// A spool whose stop command does what is in the script `between`; `freeze` as in a source file.
    fn new(freeze: &str) -> Result<Lab> {
        let home = tempfile::tempdir()?;
        let at = |name: &str| home.path().join(name);
        let spool = at("spool");
        for folder in 0..FOLDERS {
            let folder = spool.join(format!("user{:02}/box{folder}", folder % 5));
            fs::create_dir_all(&folder)?;
            for uid in 1..=MESSAGES {
                fs::write(folder.join(format!("{uid}.")), format!("message {uid} in {}", folder.display()))?;
            }
            for name in ["cyrus.index", "cyrus.cache", "cyrus.header"] {
                fs::write(folder.join(name), vec![b'i'; 200])?;
            }
        }
        symlink("box0/1.", spool.join("user00/link"))?;
        let running = at("running");
        fs::write(&running, "")?;
        let (running, between) = (running.display().to_string(), at("between").display().to_string());
        write_script(&at("between"), "#!/bin/sh\n")?;
        write_script(&at("stop"), &format!("#!/bin/sh\nrm -f {running}\nexec {between}\n"))?;
        write_script(&at("start"), &format!("#!/bin/sh\n: > {running}\n"))?;
        write_script(&at("runs"), &format!("#!/bin/sh\ntest -e {running}\n"))?;
        let more = format!(
            "write-once = [\"[1-9]*.\"]\n[quiesce]\nmode = \"command\"\nstop = [{:?}]\nstart = [{:?}]\nrunning = [{:?}]\nfreeze = {freeze:?}\n",
            at("stop"),
            at("start"),
            at("runs")
        );
        let source = generic_source(&at("spool.toml"), "spool", &spool, &more)?;
        Ok(Lab { rig: Rig::new(home.path())?, spool, source, restores: 0, home })
    }

    /// What happens between the last live pass and the final one of the next run.
    fn between(&self, script: &str) -> Result<()> {
        write_script(&self.home.path().join("between"), &format!("#!/bin/sh\nset -e\n{script}"))
    }

    fn restored(&mut self, snapshot: &str) -> Result<tree::Facts> {
        self.restores += 1;
        let target = self.home.path().join(format!("restored{}", self.restores));
        let facts = tree::facts(&self.rig.restore(snapshot, &target, &self.spool)?)?;
        fs::remove_dir_all(&target)?;
        Ok(facts)
    }
}

/// Older than what a coarse clock could hide.
fn settle() {
    std::thread::sleep(Duration::from_millis(2_200));
}

/// What a mail system does, as lines of shell.
fn things_that_happen(rng: &mut Rng, spool: &Path, count: usize, name: &mut usize) -> Result<String> {
    let mut script = String::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for user in fs::read_dir(spool)? {
        let user = user?.path();
        for folder in fs::read_dir(&user)?.flatten().filter(|entry| entry.path().is_dir()) {
            folders.push(folder.path());
        }
    }
    folders.sort();
    // Most folders rest.
    let mut gone: Vec<PathBuf> = Vec::new();
    for _ in 0..count {
        *name += 1;
        let (folder, other) = (rng.pick(&folders).clone(), rng.pick(&folders).clone());
        if gone.contains(&folder) || gone.contains(&other) {
            continue;
        }
        let (f, o, n) = (folder.display(), other.display(), *name + 1000);
        let uid = 1 + rng.index(MESSAGES);
        let line = match rng.below(14) {
            0 | 1 => format!("echo new mail {n} > {f}/{n}."),
            2 | 3 => format!("rm -f {f}/{uid}."),
            4 => format!("test ! -e {f}/{uid}. || mv {f}/{uid}. {o}/{n}."),
            5 => format!("test ! -e {f}/{uid}. || ln {f}/{uid}. {o}/{n}."),
            // The same name for another message, with the times of the old one.
            6 => format!(
                "echo other {n} > {f}/x.NEW; test ! -e {f}/{uid}. || touch -r {f}/{uid}. {f}/x.NEW; mv {f}/x.NEW {f}/{uid}."
            ),
            // In place, the same length, the old mtime.
            7 | 8 => format!(
                "touch -r {f}/cyrus.index {spool}/t; printf %04d {n} | dd of={f}/cyrus.index conv=notrunc status=none; \
                 touch -r {spool}/t {f}/cyrus.index; rm {spool}/t",
                spool = spool.display()
            ),
            9 => format!("echo more {n} >> {f}/cyrus.cache"),
            10 => format!("echo header {n} > {f}/cyrus.header.tmp; mv {f}/cyrus.header.tmp {f}/cyrus.header"),
            11 => format!("mkdir {f}/sub{n}; for i in 1 2 3 4 5; do echo $i {n} > {f}/sub{n}/$i.; done"),
            12 => {
                gone.push(folder.clone());
                if rng.chance(0.5) { format!("rm -r {f}") } else { format!("mv {f} {f}-moved{n}") }
            }
            _ => format!("chmod 7{}1 {f}; rm -f {f}/cyrus.cache", rng.below(6)),
        };
        writeln!(script, "{line}")?;
    }
    Ok(script)
}

fn count_files(folder: &Path) -> Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        count += match entry.file_type()? {
            kind if kind.is_dir() => count_files(&entry.path())?,
            kind => u64::from(kind.is_file()),
        };
    }
    Ok(count)
}

fn do_now(script: &str) -> Result<()> {
    let status = Command::new("sh").arg("-ec").arg(script).status().context("sh")?;
    ensure!(status.success(), "the script failed: {script}");
    Ok(())
}

fn one_history(seed: u64) -> Result<()> {
    let mut rng = Rng::new(seed);
    let mut lab = Lab::new(if rng.chance(0.7) { "descriptors" } else { "off" })?;
    let mut name = 0;
    settle();
    for run in 0..FULL_WALK_EVERY + 1 {
        if run > 0 {
            let count = rng.index(5);
            do_now(&things_that_happen(&mut rng, &lab.spool, count, &mut name)?)?;
            // Sometimes the run comes at once, and everything is young.
            if rng.chance(0.3) {
                settle();
            }
        }
        let count = rng.index(6);
        let script = things_that_happen(&mut rng, &lab.spool, count, &mut name)?;
        lab.between(&script)?;
        let summary = lab.rig.good_backup(&lab.source).with_context(|| format!("seed {seed}, run {run}"))?;
        let (now, then) = (tree::facts(&lab.spool)?, lab.restored(&id(&summary)?)?);
        // What nobody has spoken of is counted all the same.
        let files = count_files(&lab.spool)? + IN_MAILKEEP;
        let last = summary["passes"].as_array().and_then(|passes| passes.last()).context("no pass")?;
        ensure!(
            summary["files"] == files && last["files_seen"] == files,
            "seed {seed}, run {run}: {files} files, {summary}\n{script}"
        );
        if let Some(difference) = tree::difference(&now, &then) {
            bail!(
                "seed {seed}, run {run}: the spool (left) and the snapshot (right) differ: {difference}\n{script}"
            );
        }
    }
    lab.rig.verify_all()
}

#[test]
fn whatever_happens_the_snapshot_equals_the_tree() -> Result<()> {
    let (mut rng, _) = Rng::of_run();
    let histories = std::env::var("MAILKEEP_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let seeds: Vec<u64> = (0..histories).map(|_| rng.next_u64()).collect();
    // They sleep most of the time.
    for seeds in seeds.chunks(4) {
        std::thread::scope(|scope| {
            let all: Vec<_> = seeds.iter().map(|seed| scope.spawn(|| one_history(*seed))).collect();
            all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| bail!("a history died")))
        })?;
    }
    Ok(())
}

/// In a folder in which nothing else happens, so that no look at folders would tell: only the kernel does.
#[test]
fn a_message_that_is_written_over_between_the_passes_is_in_the_snapshot() -> Result<()> {
    for freeze in ["descriptors", "off"] {
        let mut lab = Lab::new(freeze)?;
        settle();
        lab.rig.good_backup(&lab.source)?;
        settle();
        lab.between(&format!("echo written over > {}/user00/box0/3.", lab.spool.display()))?;
        let summary = lab.rig.good_backup(&lab.source)?;
        let (now, then) = (tree::facts(&lab.spool)?, lab.restored(&id(&summary)?)?);
        if let Some(difference) = tree::difference(&now, &then) {
            bail!("{freeze}: the spool (left) and the snapshot (right) differ: {difference}");
        }
    }
    Ok(())
}

#[test]
fn what_breaks_the_rules_is_found_by_the_full_walk_and_told() -> Result<()> {
    let mut lab = Lab::new("auto")?;
    settle();
    let first = lab.rig.good_backup(&lab.source)?;
    let before = lab.restored(&id(&first)?)?;
    // A message that is written once more, in a folder in which nothing else happens.
    fs::write(lab.spool.join("user00/box0/3."), "not what it was")?;
    settle();
    let now = tree::facts(&lab.spool)?;
    for run in 1..FULL_WALK_EVERY {
        let summary = lab.rig.good_backup(&lab.source)?;
        if run == 1 {
            // This is what the rule costs, and shows that folders are indeed left unlisted.
            ensure!(
                tree::difference(&before, &lab.restored(&id(&summary)?)?).is_none(),
                "run {run} has seen it"
            );
        }
    }
    let summary = lab.rig.good_backup(&lab.source)?;
    let snapshot = id(&summary)?;
    let shown = lab.rig.ok(&["show".into(), snapshot.clone().into()])?.out();
    ensure!(shown.contains("box0") && shown.contains("not as they were"), "nobody is told: {shown}");
    if let Some(difference) = tree::difference(&now, &lab.restored(&snapshot)?) {
        bail!("the full walk has not seen it: {difference}");
    }
    // The rules are not trusted now: the next run sees at once what is written over.
    fs::write(lab.spool.join("user00/box0/4."), "nor this")?;
    settle();
    let now = tree::facts(&lab.spool)?;
    let summary = lab.rig.good_backup(&lab.source)?;
    match tree::difference(&now, &lab.restored(&id(&summary)?)?) {
        Some(difference) => bail!("broken rules were trusted: {difference}"),
        None => Ok(()),
    }
}
