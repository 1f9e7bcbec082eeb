//! `reindex`, `repair`, `verify` by the cursor, `stats`, the `key` verbs and `unlock`, as a person or a script meets them.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use support::*;

fn filled() -> Lab {
    let lab = Lab::new();
    let folder = lab.path("source");
    sample(&folder);
    lab.store("mail1", &folder, "/srv");
    fs::write(folder.join("user/anna/99."), "a new mail ".repeat(500)).unwrap();
    lab.store("mail1", &folder, "/srv");
    lab
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn largest_pack(lab: &Lab) -> PathBuf {
    files(&lab.path("repo/packs")).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[test]
fn a_sound_repository_needs_nothing() {
    let lab = filled();
    let plan = lab.run(&["repair", "--dry-run"]);
    assert_eq!((plan.code, plan.err.as_str()), (0, ""));
    assert!(plan.out.contains("Nothing to repair."), "{}", plan.out);
    let repaired = lab.run(&["--json", "repair"]);
    assert_eq!(repaired.code, 0, "{}", repaired.err);
    assert_eq!(repaired.of("summary")[0]["lost"], 0);
    let indexed = lab.run(&["--json", "reindex"]);
    assert_eq!(indexed.code, 0, "{}", indexed.err);
    assert_eq!(
        (indexed.of("summary")[0]["packs"].clone(), indexed.of("summary")[0]["damaged"].clone()),
        (2.into(), false.into())
    );
}

#[test]
fn repair_shows_its_plan_sets_aside_and_says_what_is_lost() {
    let lab = filled();
    let pack = largest_pack(&lab);
    // Most of it is contents of files, wherever the directories lie in it.
    flip(&pack, fs::metadata(&pack).unwrap().len() as usize / 2);
    fs::write(lab.path("repo/label.2"), b"").unwrap();
    let before = files(&lab.path("repo"));
    let plan = lab.run(&["--json", "repair", "--dry-run"]);
    assert_eq!(plan.code, 65, "{}", plan.err);
    assert_eq!(files(&lab.path("repo")), before, "a dry run leaves no trace");
    let planned = &plan.of("plan")[0];
    assert_eq!(planned["restore"][0], "label.2");
    assert_eq!(planned["quarantine"].as_array().unwrap().len(), 2);
    assert_eq!(plan.of("summary")[0]["dry_run"], true);

    let done = lab.run(&["repair"]);
    assert_eq!(done.code, 65);
    assert!(done.out.starts_with("Plan:"), "{}", done.out);
    assert!(done.err.contains(":/srv/"), "by snapshot and path: {}", done.err);
    let moved = lab.path("repo/quarantine").join(pack.strip_prefix(lab.path("repo")).unwrap());
    assert!(moved.exists() && !pack.exists());
    assert!(lab.path("repo/quarantine/label.2").exists());
    assert_eq!(fs::read(lab.path("repo/label")).unwrap(), fs::read(lab.path("repo/label.2")).unwrap());

    // The snapshots stay, say so, and give the rest.
    let listed = lab.run(&["--json", "snapshots"]);
    assert_eq!(listed.of("snapshot").len(), 2);
    assert!(listed.of("snapshot").iter().all(|line| line["damaged"] == true), "{}", listed.out);
    assert!(lab.run(&["snapshots"]).out.contains("DAMAGED"));
    let restored = lab.run(&["restore", "latest", "--target", &lab.text("back")]);
    assert!(matches!(restored.code, 2 | 65), "{}: {}", restored.code, restored.err);
    assert!(lab.path("back/srv/user/anna/99.").exists(), "what is in the other pack is there");
    assert_eq!(lab.run(&["verify"]).code, 65);

    // The server still has it: the next backup heals.
    lab.store("mail1", &lab.path("source"), "/srv");
    assert_eq!(lab.run(&["verify", "--read-data-next=1"]).code, 0);
    let healed = lab.run(&["--json", "snapshots"]);
    assert!(healed.of("snapshot").iter().all(|line| line["damaged"] == false), "{}", healed.out);
    assert_eq!(lab.run(&["repair"]).code, 0);
}

#[test]
fn without_an_index_reindex_brings_it_back() {
    let lab = filled();
    fs::remove_dir_all(lab.path("repo/index")).unwrap();
    let made = lab.run(&["reindex"]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert_eq!(files(&lab.path("repo/index")).len(), 1);
    assert_eq!(lab.run(&["verify", "--read-data"]).code, 0);
    // A pack that cannot say what is in it.
    let pack = largest_pack(&lab);
    let end = fs::metadata(&pack).unwrap().len() as usize;
    flip(&pack, end - 40);
    let made = lab.run(&["--json", "reindex"]);
    assert_eq!(made.code, 65);
    assert_eq!(made.of("summary")[0]["damaged"], true);
}

#[test]
fn verify_goes_on_where_it_ended_and_remembers_damage() {
    let lab = filled();
    for _ in 0..3 {
        assert_eq!(lab.run(&["verify", "--read-data-next=3"]).code, 0);
    }
    let stats = lab.run(&["--json", "stats"]).of("summary")[0].clone();
    assert_eq!(stats["verification"]["packs_waiting"], 0, "three thirds are the whole");
    assert!(stats["verification"]["oldest"].is_string());
    flip(&largest_pack(&lab), 100);
    let found = (0..3).filter(|_| lab.run(&["verify", "--read-data-next=3"]).code == 65).count();
    assert!(found >= 1);
    let stats = lab.run(&["--json", "stats"]).of("summary")[0].clone();
    assert_eq!(stats["verification"]["damaged_packs"], 1);
    assert!(lab.run(&["stats"]).out.contains("DAMAGED"));
    for bad in ["--read-data-next=0", "--read-data-next=1001", "--read-data-next=x"] {
        assert_eq!(lab.run(&["verify", bad]).code, 64, "{bad}");
    }
    assert_eq!(lab.run(&["verify", "--read-data", "--read-data-next"]).code, 64);
}

#[test]
fn stats_add_up() {
    let lab = filled();
    let stats = lab.run(&["--json", "stats"]).of("summary")[0].clone();
    let number = |name: &str| stats[name].as_u64().unwrap();
    assert_eq!((number("snapshots"), number("packs")), (2, 2));
    assert!(number("raw_bytes") >= number("stored_bytes") && number("pack_bytes") > number("stored_bytes"));
    let on_disk: u64 =
        files(&lab.path("repo/packs")).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(number("pack_bytes"), on_disk);
    let source = &stats["sources"][0];
    assert_eq!((source["name"].as_str(), source["snapshots"].as_u64()), (Some("mail1"), Some(2)));
    assert_eq!(number("snapshot_bytes"), source["bytes"].as_u64().unwrap());
    let ratio = |name: &str| stats[name].as_f64().unwrap();
    assert!(ratio("dedup_ratio") > 1.5 && ratio("compression_ratio") > 1.0, "{stats}");
    let said = lab.run(&["stats"]);
    assert_eq!(said.code, 0);
    assert!(
        said.out.contains("mail1: 2 snapshots") && said.out.contains("never by the cursor"),
        "{}",
        said.out
    );
}

#[test]
fn keys_are_added_and_revoked() {
    let lab = filled();
    let added = lab.run(&["--json", "key", "add-recovery", "--out", &lab.text("second")]);
    assert_eq!(added.code, 0, "{}", added.err);
    let id = added.of("summary")[0]["id"].as_str().unwrap().to_owned();
    assert!(!added.out.contains("AGE-SECRET-KEY"), "only in the file");
    assert_eq!(fs::metadata(lab.path("second")).unwrap().permissions().mode() & 0o777, 0o600);
    let with_second = |words: &[&str]| -> Said {
        let mut command = program(lab.folder.path());
        command.arg("--repo").arg(lab.path("repo")).arg("--key-file").arg(lab.path("second")).args(words);
        command.output().unwrap().into()
    };
    assert_eq!(with_second(&["snapshots"]).code, 0);
    assert_eq!(lab.run(&["--json", "key", "ls"]).of("key").len(), 3);

    let shown = lab.run(&["-q", "key", "add-recovery"]);
    assert!(
        shown.code == 0 && shown.out.contains("AGE-SECRET-KEY-1"),
        "shown once, also with -q: {}",
        shown.out
    );
    let taken = lab.run(&["key", "add-recovery", "--out", &lab.text("second")]);
    assert_eq!(taken.code, 1, "a file that is there is never written over");

    let revoked = lab.run(&["key", "revoke", &id]);
    assert_eq!(revoked.code, 0, "{}", revoked.err);
    assert!(revoked.out.contains("can go on reading"), "it says what it does not do: {}", revoked.out);
    assert_eq!(with_second(&["snapshots"]).code, 77);
    let own = lab.run(&["--json", "key", "ls"]).of("key");
    let own = own.iter().find(|key| key["role"] == "box").unwrap()["id"].as_str().unwrap().to_owned();
    for (id, part) in [(own.as_str(), "stays"), ("recovery-nosuch", "no key")] {
        let refused = lab.run(&["key", "revoke", id]);
        assert_eq!(refused.code, 1);
        assert!(refused.err.contains(part) && refused.err.lines().count() == 1, "{}", refused.err);
    }
}

#[test]
fn a_lease_of_another_box_keeps_upkeep_out_until_it_is_unlocked() {
    let lab = filled();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let lease = format!("mailkeep-lease-v1\nbox 00ff\nboot b\npid 1\nrenewed {now}\nhost elsewhere\n");
    fs::write(lab.path("repo/lease"), lease).unwrap();
    for words in [
        &["repair"][..],
        &["reindex"],
        &["verify", "--read-data-next"],
        &["key", "add-recovery"],
        &["key", "revoke", "x"],
    ] {
        let refused = lab.run(words);
        assert_eq!(refused.code, 11, "{words:?}: {}", refused.err);
        assert!(refused.err.contains("elsewhere"), "{words:?}: {}", refused.err);
    }
    // Who only looks is not in anybody's way.
    for words in [&["verify", "--read-data"][..], &["stats"], &["key", "ls"], &["repair", "--dry-run"]] {
        assert_eq!(lab.run(words).code, 0, "{words:?}");
    }
    let unlocked = lab.run(&["--json", "unlock"]);
    assert_eq!(unlocked.code, 0);
    assert_eq!(unlocked.of("summary")[0]["removed"]["host"], "elsewhere");
    assert_eq!(lab.run(&["reindex"]).code, 0);
}
