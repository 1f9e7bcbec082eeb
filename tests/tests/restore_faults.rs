//! Set C for `mailkeep restore`: its k-th call on the target fails (EIO, ENOSPC, EROFS), or it is killed at that call or
//! at any moment. Every file that then stands in the target is the old one or the whole new one, a new folder that has
//! its name has all that lies in it, nothing failed in silence, and a second run ends equal.
//!
//! The real program runs under `strace`, which lets the k-th call of a kind fail or kills there. Figures: by default
//! some k of every call; `MAILKEEP_FAULTS=1` takes every k (`make soak`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::cyrus::source::generic_source;
use mailkeep_tests::process::{self, Output, Running, env_number};
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::tree::{self, Facts};

/// Calls that only the target sees, and how often each comes at most in a restore of this tree by one thread.
const CALLS: [(&str, usize); 15] = [
    ("pwritev2", 10),
    ("pwritev", 30),
    ("pwrite64", 60),
    ("renameat", 80),
    ("renameat2", 9),
    ("mkdirat", 16),
    ("utimensat", 90),
    ("fchmod", 20),
    ("fchown", 12),
    ("unlinkat", 20),
    ("linkat", 2),
    ("symlinkat", 2),
    ("ftruncate", 1),
    ("syncfs", 1),
    ("getdents64", 20),
];

/// Two states of one tree and their snapshots.
struct Lab {
    home: tempfile::TempDir,
    rig: Rig,
    tree: PathBuf,
    old: (String, Facts),
    new: (String, Facts),
    runs: usize,
}

impl Lab {
    fn new() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let rig = Rig::new(home.path())?;
        let tree = home.path().join("tree");
        let mut rng = Rng::new(5);
        fs::create_dir(&tree)?;
        let shared: Vec<u8> = (0..30_000u32).map(|n| (n * n % 251) as u8).collect();
        for folder in 0..4 {
            let folder = tree.join(format!("folder{folder}"));
            fs::create_dir(&folder)?;
            for file in 0..10 {
                // Its own beginning and a common end, as a mail that went to many.
                let mut data = vec![0; 3000 + rng.index(20_000)];
                rng.fill(&mut data);
                data.extend_from_slice(if file % 3 == 0 { &shared } else { &[] });
                fs::write(folder.join(format!("{file}.")), data)?;
            }
        }
        let mut large = vec![0; 3_000_000];
        rng.fill(&mut large);
        fs::write(tree.join("large"), &large)?;
        fs::hard_link(tree.join("folder0/1."), tree.join("folder3/linked"))?;
        symlink("folder0/1.", tree.join("link"))?;
        fs::write(tree.join("empty"), "")?;
        fs::File::create(tree.join("sparse"))?.set_len(300_000)?;
        let source = generic_source(&home.path().join("tree.toml"), "tree", &tree, "")?;
        let old = (id(&rig.backup(&source)?)?, tree::facts(&tree)?);

        large.insert(1_000_000, 1);
        fs::write(tree.join("large"), &large)?;
        for folder in 0..4 {
            let folder = tree.join(format!("folder{folder}"));
            for file in 0..5 {
                let mut data = vec![0; 3000 + rng.index(20_000)];
                rng.fill(&mut data);
                fs::write(folder.join(format!("{file}.")), data)?;
            }
            fs::remove_file(folder.join("9."))?;
            fs::create_dir(folder.join("below"))?;
            fs::write(folder.join("below/1."), &shared)?;
        }
        fs::remove_file(tree.join("link"))?;
        symlink("folder0/2.", tree.join("link"))?;
        let new = (id(&rig.backup(&source)?)?, tree::facts(&tree)?);
        Ok(Lab { home, rig, tree, old, new, runs: 0 })
    }

    /// A target of its own for each run, so that nothing waits for the file system to forget the last one.
    fn target(&mut self) -> PathBuf {
        self.runs += 1;
        self.home.path().join(format!("target{}", self.runs))
    }

    fn restore(&self, snapshot: &str, target: &Path, overwrite: &str) -> Command {
        let arguments = ["restore", snapshot, "--delete", "--overwrite", overwrite, "--target"];
        let mut arguments: Vec<OsString> = arguments.map(OsString::from).to_vec();
        arguments.push(target.into());
        self.rig.command(&arguments)
    }

    fn within(&self, target: &Path) -> Result<PathBuf> {
        Ok(target.join(self.tree.strip_prefix("/")?))
    }

    /// Every file that stands in the target under its own name is whole: the old one or the new one.
    /// Nor is there a folder that the old state does not have (none at all, unless the target was `over_old`) without all
    /// that lies in it.
    fn whole_only(&self, target: &Path, over_old: bool) -> Result<()> {
        let root = self.within(target)?;
        if !root.exists() {
            return Ok(());
        }
        let stands = tree::facts(&root)?;
        let seen = |name: &str| !name.contains(".mailkeep-part-");
        for (folder, _) in stands.iter().filter(|(name, row)| row["kind"] == "folder" && seen(name)) {
            if over_old && self.old.1.contains_key(folder) {
                continue;
            }
            for (name, _) in self.new.1.iter().filter(|(_, row)| row["kind"] != "folder") {
                let here = parent(name) != folder || stands.contains_key(name);
                ensure!(here, "{folder} has its name, and {name} is missing in it");
            }
        }
        for (name, row) in stands {
            if !seen(&name) {
                continue;
            }
            let is = |facts: &Facts, what: &'static str| {
                facts.get(&name).and_then(|f| f.get(what)) == row.get(what)
            };
            for what in ["content", "target"] {
                let known = [&self.old.1, &self.new.1].into_iter().any(|facts| is(facts, what));
                // A folder can stand where a file will be, never the other way round.
                ensure!(
                    known || row["kind"] == "folder",
                    "{name}: its {what} is neither the old nor the new one"
                );
            }
        }
        Ok(())
    }

    /// A second run without a fault ends equal.
    fn second_run(&self, target: &Path, overwrite: &str) -> Result<()> {
        process::run(&mut self.restore(&self.new.0, target, overwrite))?.expect_code("the second run", 0)?;
        let (mut expected, mut is) = (self.new.1.clone(), tree::facts(&self.within(target)?)?);
        if overwrite == "never" {
            // Folders that are there are left as they are, and no name is linked to a file that was kept.
            for facts in [&mut expected, &mut is] {
                facts.retain(|_, row: &mut BTreeMap<_, _>| row["kind"] != "folder");
                facts.values_mut().for_each(|row| drop(row.remove("one file with")));
            }
        }
        match tree::difference(&expected, &is) {
            None => Ok(()),
            Some(difference) => bail!("after the second run: snapshot (left), target (right): {difference}"),
        }
    }

    /// One disturbed restore; whether the fault was reached.
    fn disturbed(&mut self, fault: &str, case: usize) -> Result<bool> {
        let target = self.target();
        let over_old = case % 2 == 0;
        if over_old {
            process::run(&mut self.restore(&self.old.0, &target, "always"))?
                .expect_code("the old state", 0)?;
        }
        let mut command = under_strace(&self.restore(&self.new.0, &target, "always"), fault);
        let output = process::run(&mut command)?;
        let reached = output.err().contains("INJECTED") || output.code == 137;
        let says = |output: &Output| format!("exit code {}: {}", output.code, output.err());
        self.whole_only(&target, over_old).with_context(|| says(&output))?;
        if output.code == 0 {
            // Not reached, or it did not matter.
            let difference = tree::difference(&self.new.1, &tree::facts(&self.within(&target)?)?);
            ensure!(difference.is_none(), "it said that all is well: {}", difference.unwrap_or_default());
        }
        let overwrite = match (over_old, case % 3) {
            (true, 0) | (false, 1) => "if-changed",
            (false, 0) => "never",
            _ => "always",
        };
        self.second_run(&target, overwrite).with_context(|| format!("{overwrite}; {}", says(&output)))?;
        fs::remove_dir_all(&target)?;
        Ok(reached)
    }
}

/// The folder that a name of [`Facts`] stands in.
fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

/// The same command, with one of its calls disturbed. strace says on stderr which one it was.
fn under_strace(command: &Command, fault: &str) -> Command {
    let mut strace = Command::new("strace");
    let (call, _) = fault.split_once(':').unwrap_or((fault, ""));
    strace.args([
        "-f",
        "-qq",
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={fault}"),
        "-e",
        "signal=none",
    ]);
    strace.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace
}

#[test]
fn the_kth_call_fails_or_kills() -> Result<()> {
    if !process::have("strace") {
        return process::skip("strace is not installed");
    }
    let mut lab = Lab::new()?;
    let step = env_number("MAILKEEP_FAULTS", 20);
    let (mut cases, mut reached) = (0, 0);
    for (call, most) in CALLS {
        // The first and the last of them too: where a restore begins and ends.
        for k in (1..=most).filter(|k| *k <= 2 || k % step == 0) {
            for what in ["error=EIO", "error=ENOSPC", "error=EROFS", "signal=KILL"] {
                if step > 1 && k > 1 && what == "error=EROFS" {
                    continue;
                }
                let fault = format!("{call}:{what}:when={k}");
                cases += 1;
                reached += usize::from(lab.disturbed(&fault, cases).with_context(|| fault)?);
            }
        }
    }
    eprintln!("{cases} disturbed restores, {reached} of them met their fault");
    ensure!(reached * 3 > cases, "only {reached} of {cases} faults were met");
    Ok(())
}

#[test]
fn killed_at_random_moments() -> Result<()> {
    let mut lab = Lab::new()?;
    let seed = env_number("MAILKEEP_SEED", 11) as u64;
    let mut rng = Rng::new(seed);
    let target = lab.target();
    let (whole, usual) = Running::spawn(&mut lab.restore(&lab.new.0, &target, "always"))?.measured()?;
    whole.expect_code("a whole restore", 0)?;
    for round in 0..env_number("MAILKEEP_KILLS", 15) {
        let target = lab.target();
        if round % 2 == 0 {
            process::run(&mut lab.restore(&lab.old.0, &target, "always"))?.expect_code("the old state", 0)?;
        }
        let moment = rng.below(usual);
        let mut restore = Running::spawn(&mut lab.restore(&lab.new.0, &target, "always"))?;
        restore.reaches(moment)?;
        restore.kill_alone();
        let output = restore.wait(process::HANG)?;
        let context =
            format!("kill {round} after {moment} of {usual} bytes, exit code {}, seed {seed}", output.code);
        lab.whole_only(&target, round % 2 == 0).with_context(|| context.clone())?;
        lab.second_run(&target, ["always", "if-changed"][round / 2 % 2]).with_context(|| context.clone())?;
        fs::remove_dir_all(&target)?;
    }
    Ok(())
}
