//! `mailkeep-mutate`: takes the safeguards of `list.toml` out one at a time, in a copy of the tree, and demands that a test
//! notices. Arguments: parts of names; without any, all entries.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::mutations::{self, Mutation};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match run(&wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mailkeep-mutate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Result<bool> {
    let all = mutations::read()?;
    let some: Vec<&Mutation> = all
        .iter()
        .filter(|one| wanted.is_empty() || wanted.iter().any(|part| one.name.contains(part.as_str())))
        .collect();
    ensure!(!some.is_empty(), "no mutation has a name with {wanted:?} in it");
    let (tree, target) = copy()?;
    let (mut noticed, mut survived) = (0, Vec::new());
    for one in &some {
        let path = tree.join(&one.file);
        let sound = std::fs::read_to_string(&path).with_context(|| one.file.clone())?;
        std::fs::write(&path, one.apply(&sound)?)?;
        let outcome = tested(one, &tree, &target);
        std::fs::write(&path, sound)?;
        let outcome = outcome.with_context(|| one.name.clone())?;
        match (outcome, &one.spared) {
            (Outcome::Noticed, None) => noticed += 1,
            (Outcome::Noticed, Some(_)) => {
                noticed += 1;
                println!("{}: is noticed now; take its `spared` away", one.name);
            }
            (Outcome::Survived, Some(why)) => println!("{}: spared: {why}", one.name),
            (Outcome::Survived, None) => survived.push(one.name.as_str()),
        }
        println!("{outcome:?}: {}", one.name);
    }
    println!("{} mutations, {noticed} noticed, {} survived", some.len(), survived.len());
    survived.iter().for_each(|name| println!("SURVIVED: {name}"));
    Ok(survived.is_empty())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Noticed,
    Survived,
}

/// Runs the tests of a mutation until one fails. A mutation that does not compile is a mistake in the list.
fn tested(one: &Mutation, tree: &Path, target: &Path) -> Result<Outcome> {
    for test in &one.tests {
        let (build, filter) = test.split_once(" -- ").unwrap_or((test, ""));
        let cargo = |extra: &[&str]| {
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command.arg("test").args(build.split_whitespace()).args(extra).current_dir(tree);
            // Small figures: a safeguard that is gone shows in few states.
            command
                .env("CARGO_TARGET_DIR", target)
                .env("CARGO_INCREMENTAL", "0")
                .env("MAILKEEP_CRASH_STATES", "128");
            command.env("MAILKEEP_BLOCK_STATES", "300").env("PROPTEST_RNG_SEED", "20261123");
            command.stdin(Stdio::null()).output()
        };
        ensure!(cargo(&["--no-run"])?.status.success(), "does not compile");
        if build.contains("mailkeep-tests") {
            // Its suites run the programs, which no test of this crate builds.
            let mut programs = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            programs.args(["build", "-p", "mailkeep-cli", "-p", "mailkeep-agent"]).current_dir(tree);
            programs.env("CARGO_TARGET_DIR", target).env("CARGO_INCREMENTAL", "0");
            programs.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            ensure!(programs.status()?.success(), "the programs do not compile");
        }
        let filter: Vec<&str> = ["--"].into_iter().chain(filter.split_whitespace()).collect();
        let ran = cargo(&filter)?;
        let said = String::from_utf8_lossy(&ran.stdout);
        if !ran.status.success() {
            // Which: a test that fails on this machine anyhow has noticed nothing.
            said.lines().filter(|line| line.ends_with("... FAILED")).for_each(|line| println!("  {line}"));
            return Ok(Outcome::Noticed);
        }
        let passed = said.lines().filter(|line| line.ends_with("... ok")).count();
        ensure!(passed > 0, "no test is called as {test:?} says");
    }
    Ok(Outcome::Survived)
}

/// A copy of the tree as it is, with a target folder that stays from one run to the next.
fn copy() -> Result<(PathBuf, PathBuf)> {
    let root = mutations::root();
    let scratch = root.join("target/mutate");
    let tree = scratch.join("tree");
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output()?;
    if !listed.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr).trim());
    }
    for path in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        let (from, to) = (root.join(path), tree.join(path));
        let Ok(bytes) = std::fs::read(&from) else { continue };
        // What is unchanged keeps its time, so that it is not built again.
        if std::fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        std::fs::create_dir_all(to.parent().context("a path without a folder")?)?;
        std::fs::copy(&from, &to).with_context(|| path.to_owned())?;
    }
    Ok((tree, scratch.join("target")))
}
