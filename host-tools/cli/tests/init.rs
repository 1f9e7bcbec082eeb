//! `init`: keys, recovery file, what it says.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::Lab;

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_box_key_is_made_once_and_used_again_and_never_readable_by_others() {
    let lab = Lab::empty();
    let first = lab.run(&["init", "--json"]);
    assert_eq!(first.code, 0, "{}", first.err);
    assert_eq!(mode(&lab.path("key")), 0o600);
    let key = fs::read(lab.path("key")).unwrap();
    let made = &first.of("summary")[0];
    assert_eq!(made["repository_id"].as_str().unwrap().len(), 32);
    assert_eq!((&made["label"], &made["encrypted"]), (&"repo".into(), &true.into()));
    let ids = made["key_ids"].as_array().unwrap();
    assert!(ids.len() == 2 && ids[0].as_str().unwrap().starts_with("box-"), "{ids:?}");
    let recovery = made["recovery_key"].as_str().unwrap();
    fs::write(lab.path("typed"), format!("{recovery}\n")).unwrap();
    fs::set_permissions(lab.path("typed"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut with_recovery = support::program(lab.folder.path());
    with_recovery.args(["-r", &lab.text("repo"), "--key-file", &lab.text("typed"), "stats"]);
    assert!(with_recovery.output().unwrap().status.success());
    let mut again = support::program(lab.folder.path());
    again.args(["-r", &lab.text("second"), "--key-file", &lab.text("key"), "init"]);
    assert!(again.output().unwrap().status.success());
    assert_eq!(fs::read(lab.path("key")).unwrap(), key);
    let listed = lab.run(&["key", "ls", "--json"]).of("key");
    assert_eq!(listed.iter().map(|key| &key["id"]).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
}

#[test]
fn the_recovery_file_is_new_and_private_and_opens_the_repository() {
    let lab = Lab::empty();
    let recovery = lab.text("recovery");
    fs::write(&recovery, "precious").unwrap();
    let refused = lab.run(&["init", "--recovery-out", &recovery]);
    assert_eq!(refused.code, 1);
    assert_eq!(fs::read(&recovery).unwrap(), b"precious");
    assert!(!lab.path("repo").exists(), "a repository without a place for its recovery key");
    fs::remove_file(&recovery).unwrap();
    let made = lab.run(&["init", "--recovery-out", &recovery]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert_eq!(mode(&lab.path("recovery")), 0o600);
    assert!(!made.out.contains("AGE-SECRET-KEY"));
    assert!(fs::read_to_string(&recovery).unwrap().contains("AGE-SECRET-KEY-1"));
    // A failed init leaves no empty recovery file.
    let second = lab.text("second");
    assert_eq!(lab.run(&["init", "--recovery-out", &second]).code, 1);
    assert!(!lab.path("second").exists());
}

#[test]
fn without_encryption_no_key_is_needed_or_made() {
    let lab = Lab::empty();
    let made = lab.run(&["init", "--no-encryption"]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out.contains("not encrypted") && !lab.path("key").exists());
    let mut keyless = support::program(lab.folder.path());
    let output = keyless.args(["-r", &lab.text("repo"), "snapshots"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let lab = Lab::empty();
    fs::create_dir(lab.path("repo")).unwrap();
    fs::write(lab.path("repo/holiday.jpg"), "x").unwrap();
    let refused = lab.run(&["init"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("is not empty"), "{}", refused.err);
    assert_eq!(fs::read_dir(lab.path("repo")).unwrap().count(), 1);
}
