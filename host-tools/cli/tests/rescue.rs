//! The rescue kit and the sheet of paper, as a person or a script meets them.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::*;

/// What passes for a static program for arm64.
fn program(path: &Path, length: usize) {
    let mut bytes = vec![7; length.max(120)];
    bytes[..64].fill(0);
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (bytes[16], bytes[18], bytes[32], bytes[54], bytes[56], bytes[64]) = (2, 183, 64, 56, 1, 1);
    bytes[65..68].fill(0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_disk_is_made_with_its_programs_and_they_are_renewed() {
    let lab = Lab::empty();
    let file = lab.path("mailkeep-static");
    program(&file, 5000);
    let made = lab.run(&["init", "--json", "--program", &lab.text("mailkeep-static")]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert_eq!(made.of("summary")[0]["programs"], serde_json::json!(["rescue/mailkeep-aarch64"]));
    let mode = |path: &str| fs::metadata(lab.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        [mode("repo/README.txt"), mode("repo/rescue/mailkeep-aarch64")],
        [0o644, 0o755],
        "who plugs it in reads it"
    );
    assert_eq!([mode("repo/label"), mode("repo/keys")], [0o600, 0o700]);
    let mut sums = std::process::Command::new("sha256sum");
    sums.args(["-c", "SHA256SUMS"]).current_dir(lab.path("repo/rescue"));
    assert!(sums.output().unwrap().status.success());
    assert_eq!(lab.run(&["verify", "--read-data"]).err, "");
    program(&file, 6000);
    let renewed = lab.run(&["rescue-kit", "--program", &lab.text("mailkeep-static")]);
    assert_eq!((renewed.code, renewed.err.as_str()), (0, ""), "{}", renewed.out);
    assert!(
        renewed.out.contains("5.86 KiB") && renewed.out.contains("1 file was written"),
        "{}",
        renewed.out
    );
    let looked = lab.run(&["rescue-kit", "--check", "--json"]);
    let of = |said: &Said| said.of("program").iter().map(|line| line["whole"].clone()).collect::<Vec<_>>();
    assert_eq!((looked.code, of(&looked)), (0, vec![true.into()]));
    // Rot, or somebody else's hand: told, and the backups are as good as before.
    let path = lab.path("repo/rescue/mailkeep-aarch64");
    let mut bytes = fs::read(&path).unwrap();
    bytes[3000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let looked = lab.run(&["rescue-kit", "--check"]);
    assert_eq!(looked.code, 2);
    assert!(
        looked.out.contains("changed") && looked.err.contains("do not use"),
        "{}{}",
        looked.out,
        looked.err
    );
    let verified = lab.run(&["verify", "--read-data"]);
    assert_eq!(verified.code, 0);
    assert!(verified.err.contains("rescue/mailkeep-aarch64: this program is not"), "{}", verified.err);
}

#[test]
fn a_link_that_somebody_put_on_the_disk_is_not_followed() {
    let lab = Lab::new();
    let secret = lab.path("secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(lab.path("elsewhere")).unwrap();
    fs::set_permissions(lab.path("elsewhere"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(lab.path("elsewhere"), lab.path("repo/rescue")).unwrap();
    fs::remove_file(lab.path("repo/FORMAT.md")).unwrap();
    std::os::unix::fs::symlink(&secret, lab.path("repo/FORMAT.md")).unwrap();
    lab.run(&["rescue-kit"]);
    // And inside of it.
    fs::remove_file(lab.path("repo/rescue")).unwrap();
    fs::create_dir(lab.path("repo/rescue")).unwrap();
    std::os::unix::fs::symlink(&secret, lab.path("repo/rescue/mailkeep-x86_64")).unwrap();
    assert_eq!(lab.run(&["rescue-kit"]).code, 0);
    for path in ["secret", "elsewhere"] {
        assert_eq!(fs::metadata(lab.path(path)).unwrap().permissions().mode() & 0o077, 0, "{path}");
    }
    assert_eq!(fs::read(&secret).unwrap(), b"x");
}

#[test]
fn what_is_no_static_program_is_refused_before_anything_is_made() {
    let lab = Lab::empty();
    let own = env!("CARGO_BIN_EXE_mailkeep");
    for (file, said) in
        [(own, "is not static"), ("/etc/passwd", "no Linux program"), ("/none", "cannot read the program")]
    {
        let refused = lab.run(&["init", "--program", file]);
        assert!(refused.code != 0 && refused.err.contains(said), "{file}: {}", refused.err);
        assert!(!lab.path("repo").exists());
    }
    // Without one the disk is good all the same, and says what it lacks.
    let made = lab.run(&["init"]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out.contains("carries no program"), "{}", made.out);
}

#[test]
fn a_key_typed_from_the_sheet_opens_the_disk() {
    let lab = Lab::empty();
    let made = lab.run(&["init", "--label", "Friday", "--sheet", &lab.text("sheet.txt")]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(!made.out.contains("AGE-SECRET-KEY"), "the key is on paper only");
    let page = lab.run(&["key", "add-recovery", "--sheet", &lab.text("sheet.html")]);
    assert_eq!(page.code, 0, "{}", page.err);
    for sheet in ["sheet.txt", "sheet.html"] {
        assert_eq!(fs::metadata(lab.path(sheet)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(lab.path(sheet)).unwrap().contains("Friday"));
    }
    let refused = lab.run(&["key", "add-recovery", "--sheet", &lab.text("sheet.txt")]);
    assert_eq!(refused.code, 1, "a sheet that is there is not written over");
    assert_eq!(lab.run(&["--json", "key", "ls"]).of("key").len(), 3, "a key that nobody has");

    let sheet = fs::read_to_string(lab.path("sheet.txt")).unwrap();
    let groups: Vec<&str> = sheet
        .lines()
        .filter_map(|line| line.strip_prefix("groups ")?.get(9..))
        .flat_map(str::split_whitespace)
        .collect();
    assert_eq!(groups.len(), 15, "{sheet}");
    let typed = |text: String| {
        fs::write(lab.path("typed"), text).unwrap();
        fs::set_permissions(lab.path("typed"), fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = program_of(&lab);
        command.args(["--key-file", &lab.text("typed"), "stats"]);
        Said::from(command.output().unwrap())
    };
    let good = typed(format!("{}\n", groups.join(" ").to_lowercase()));
    assert_eq!((good.code, good.err.as_str()), (0, ""));
    let mut wrong: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
    wrong[6] = format!("{}{}", &groups[6][..3], if groups[6].ends_with('Q') { 'P' } else { 'Q' });
    let told = typed(wrong.join(" "));
    assert_eq!(told.code, 77);
    assert!(told.err.contains("typing error: look at group 7 again"), "{}", told.err);
    let key = [groups[..3].concat(), groups[..3].join(" ")];
    assert!(key.iter().all(|part| !told.err.to_uppercase().contains(part)), "{}", told.err);
}

fn program_of(lab: &Lab) -> std::process::Command {
    let mut command = support::program(lab.folder.path());
    command.arg("-r").arg(lab.path("repo"));
    command
}
