//! `guards list` and `guards rollback` on a real btrfs: two steps, nothing lost, not under a writer.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::Command;

use mailkeep_repository::{LogMonitor, WriterOptions};
use support::{Lab, Said, program};

/// A btrfs in a file, mounted in the lab's folder until it goes.
struct Mounted(std::path::PathBuf);

impl Mounted {
    /// `None` where this cannot be had.
    fn new(lab: &Lab) -> Option<Self> {
        let (image, at) = (lab.path("image"), lab.path("disk"));
        fs::File::create(&image).unwrap().set_len(160 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        let done = |program: &str, words: &[&str]| {
            let status = Command::new(program).args(words).stderr(std::process::Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        let possible = rustix::process::geteuid().is_root()
            && done("mkfs.btrfs", &["-q", "-m", "dup", image.to_str().unwrap()])
            && done("mount", &["-o", "loop,noatime", image.to_str().unwrap(), at.to_str().unwrap()]);
        assert!(possible || std::env::var_os("MAILKEEP_REQUIRE_ALL").is_none_or(|value| value != "1"));
        possible.then_some(Mounted(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn going_back_takes_two_steps_and_loses_nothing() {
    let lab = Lab::empty();
    let Some(disk) = Mounted::new(&lab) else { return };
    std::os::unix::fs::symlink(disk.0.join("mailkeep"), lab.path("repo")).unwrap();
    let repo = disk.0.join("mailkeep").display().to_string();
    let key = lab.text("key");
    let run = |words: &[&str]| {
        let mut command = program(lab.folder.path());
        let said: Said =
            command.args(["--repo", &repo, "--key-file", &key]).args(words).output().unwrap().into();
        (said.code, said)
    };
    let made = run(&["init", "--label", "lab", "--recovery-out", &lab.text("recovery")]);
    assert_eq!(made.0, 0, "{}", made.1.err);
    let (code, none) = run(&["guards", "list"]);
    assert!(code == 0 && none.out.contains("No guards here"), "{}{}", none.out, none.err);

    let folder = lab.path("mail");
    fs::create_dir(&folder).unwrap();
    for day in 0..3 {
        fs::write(folder.join(format!("{day}.")), format!("mail {day}")).unwrap();
        lab.store("mail1", &folder, "");
    }
    let (code, listed) = run(&["--json", "guards", "list"]);
    assert_eq!(code, 0, "{}", listed.err);
    let guards = listed.of("guard");
    assert_eq!(guards.len(), 2);
    assert_eq!((guards[0]["generation"].as_u64(), guards[1]["generation"].as_u64()), (Some(2), Some(3)));
    assert!(guards.iter().all(|guard| guard["readable"] == true && guard["made_by"] == "seal"));
    let older = guards[0]["name"].as_str().unwrap().to_owned();
    let newer = guards[1]["name"].as_str().unwrap().to_owned();
    let (_, table) = run(&["guards", "list"]);
    assert!(table.out.contains(&older) && table.out.contains(&newer), "{}", table.out);

    // The first step shows, whichever way it is asked.
    let generations = || {
        let (code, said) = run(&["--json", "snapshots"]);
        assert_eq!(code, 0, "{}", said.err);
        let lines = said.of("snapshot");
        lines.iter().map(|line| line["generation"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let (code, shown) = run(&["guards", "rollback", &older, "--dry-run"]);
    assert!(code == 0 && shown.out.contains("gone then: 3 of mail1"), "{}{}", shown.out, shown.err);
    let (code, shown) = run(&["guards", "rollback", &older]);
    assert!(code == 64 && shown.err.contains("--yes") && shown.out.contains("gone then"), "{}", shown.err);
    assert_eq!(run(&["guards", "rollback", &older, "--yes", "--dry-run"]).0, 64);
    assert_eq!(generations(), [1, 2, 3]);
    let writer = lab.repository().writer(&WriterOptions::default(), &LogMonitor).unwrap();
    assert_eq!(run(&["guards", "rollback", &older, "--yes"]).0, 11, "not under a writer");
    drop(writer);
    let (code, said) = run(&["guards", "rollback", "0000000099-0123456789abcdef", "--yes"]);
    assert!(code == 1 && said.err.contains("mailkeep guards list"), "{}", said.err);
    assert_eq!(generations(), [1, 2, 3]);

    // The second one does it, and the way forth is there.
    let (code, done) = run(&["--json", "guards", "rollback", &older, "--yes"]);
    assert_eq!(code, 0, "{}", done.err);
    let summary = &done.of("summary")[0];
    assert_eq!((summary["done"].as_bool(), summary["replaced"].as_str()), (Some(true), Some(&*newer)));
    assert!(fs::exists(summary["kept"].as_str().unwrap()).unwrap());
    assert_eq!(generations(), [1, 2]);
    let (code, done) = run(&["guards", "rollback", &newer, "--yes"]);
    assert!(code == 0 && done.out.contains("back then: 3 of mail1"), "{}{}", done.out, done.err);
    assert_eq!(generations(), [1, 2, 3]);
    assert_eq!(run(&["verify", "--read-data"]).0, 0);
}
