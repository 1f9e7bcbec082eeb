//! Hazard: bytes from a hostile disk, peer or mail server. Every decoder of such bytes is fed with what lies in `corpus/`
//! and beside its own tests, and with changes of it: none may panic, hang, or want more memory than it is given.
//!
//! The work is done in a child process whose address space is limited, so that an allocation beyond limits ends it.
//! `MAILKEEP_FUZZ` sets how many changes each target gets (default 4,000), `MAILKEEP_FUZZ_SEED` which ones (default 1).
//! What breaks a target is left in the file that the message names; it then belongs into `corpus/`.
#![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

mod mutate;
mod sealed;
mod targets;

use std::path::{Path, PathBuf};
use std::process::Command;

use mailkeep_tests::process::env_number;
use mailkeep_tests::rng::Rng;
use nix::sys::resource::{Resource, setrlimit};
use targets::{TARGETS, Target};

/// Address space of the child, in bytes: the program itself, and the 65 MiB that a manifest may have in its three forms.
const MEMORY: u64 = 640 << 20;
const WORKER: &str = "MAILKEEP_FUZZ_WORKER";

#[test]
fn no_decoder_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let last = folder.path().join("input");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker", "--ignored", "--nocapture", "--test-threads=1"])
        .env(WORKER, &last)
        // One arena: each reserves address space that nobody uses.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    eprint!("{said}");
    if !output.status.success() {
        let kept = std::env::temp_dir().join("mailkeep-fuzz-input");
        let _ = std::fs::copy(&last, &kept);
        panic!("{}\n{}\ninput in {}", output.status, String::from_utf8_lossy(&output.stderr), kept.display());
    }
    assert!(said.contains("1 passed"), "the worker did not run");
}

/// Not a test of its own.
#[test]
#[ignore = "run by `no_decoder_breaks` as the process whose memory is limited"]
fn worker() {
    let Some(last) = std::env::var_os(WORKER) else { return };
    setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY).unwrap();
    let (count, seed) = (env_number("MAILKEEP_FUZZ", 4000), env_number("MAILKEEP_FUZZ_SEED", 1));
    for target in TARGETS {
        let accepted = fuzz(target, count, seed as u64, Path::new(&last));
        println!("{}: {count} changes, {accepted} accepted", target.name);
    }
}

fn fuzz(target: &Target, count: usize, seed: u64, last: &Path) -> usize {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "{} has no corpus", target.name);
    let mut rng = Rng::new(seed ^ u64::from(target.name.len() as u32) << 32);
    let mut accepted = 0;
    let mut try_one = |input: &[u8]| {
        let done = std::panic::catch_unwind(|| (target.run)(input));
        // Written down only when it is needed, but for an abort, which a rerun with a smaller count finds.
        if done.is_err() {
            std::fs::write(last, input).unwrap();
        }
        accepted += usize::from(done.unwrap_or_else(|_| panic!("{} broke", target.name)));
    };
    seeds.iter().for_each(|input| try_one(input));
    for _ in 0..count {
        try_one(&mutate::changed(&seeds, &mut rng));
    }
    accepted
}

/// What a target starts from: its folder in the corpus, and samples that stand elsewhere in the tree.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = Vec::new();
    if let Ok(folder) = std::fs::read_dir(here.join("fuzz/corpus").join(target.name)) {
        paths.extend(folder.map(|entry| entry.unwrap().path()));
    }
    paths.extend(target.samples.iter().map(|path| here.parent().unwrap().join(path)));
    paths.sort();
    let mut seeds: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .collect();
    seeds.extend((target.made)());
    seeds
}
