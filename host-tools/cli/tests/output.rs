//! What people read: the very text of `find`, `diff`, `show` and `stats` for things that are always the same, within 80
//! columns, without colours unless a terminal asks for them, and with what may have been meant where a name is wrong.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use support::*;

/// A moment that all files have.
const THEN: i64 = 1_600_000_000;

fn write(folder: &Path, name: &str, length: usize) {
    let path = folder.join(name);
    fs::write(&path, vec![b'x'; length]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    date(&path);
}

fn date(path: &Path) {
    let then = rustix::fs::Timespec { tv_sec: THEN, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: then, last_modification: then };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty()).unwrap();
}

/// Two snapshots of a small folder, and their ids.
fn filled() -> (Lab, [String; 2]) {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    for (name, length) in [("imapd.conf", 2048), ("old", 300), ("same", 10)] {
        write(&tree, name, length);
    }
    date(&tree);
    let first = lab.store("mail1", &tree, "/etc");
    write(&tree, "imapd.conf", 3000);
    write(&tree, "new", 5_000_000);
    fs::remove_file(tree.join("old")).unwrap();
    date(&tree);
    let second = lab.store("mail1", &tree, "/etc");
    (lab, [first, second])
}

/// A result with what differs from run to run written over.
fn text(lab: &Lab, ids: &[String; 2], words: &[&str]) -> String {
    let said = lab.run(words);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{words:?}");
    assert!(!said.out.contains('\u{1b}'), "{words:?}: colours without a terminal");
    let [first, second] = ids;
    let owner = fs::metadata(lab.path("tree/same")).unwrap();
    let shown = |number: u32| if number == 0 { "root".to_owned() } else { number.to_string() };
    let owner = format!("{:8}  {:8}", shown(owner.uid()), shown(owner.gid()));
    let out = said.out.replace(&owner, "root      root    ");
    out.replace(second, "SECOND")
        .replace(first, "FIRST")
        .replace(&second[..10], "SECOND----")
        .replace(&first[..10], "FIRST-----")
}

#[test]
fn diff_has_columns_sizes_and_totals() {
    let (lab, ids) = filled();
    assert_eq!(
        text(&lab, &ids, &["diff", &ids[0], &ids[1]]),
        "      BEFORE      AFTER  PATH\n\
         M   2.00 KiB   2.93 KiB  /etc/imapd.conf\n\
         +          -   4.77 MiB  /etc/new\n\
         -      300 B          -  /etc/old\n\
         \n         1 added (4.77 MiB)\n         1 removed (300 B)\n         1 with other contents\n"
    );
    assert_eq!(text(&lab, &ids, &["diff", &ids[0], &ids[0]]), "No differences.\n");
    let change = &lab.run(&["diff", &ids[0], &ids[1], "--json"]).of("change")[0];
    assert_eq!((&change["size_before"], &change["size_after"]), (&2048.into(), &3000.into()));
}

#[test]
fn find_has_a_heading_for_each_snapshot_and_a_total() {
    let (lab, ids) = filled();
    let found = text(&lab, &ids, &["find", "{imapd.conf,new}"]);
    let line = |size: &str, name: &str| {
        format!("  -rw-r--r--  root      root      {size:>9}  2020-09-13 12:26:40  /etc/{name}\n")
    };
    assert_eq!(
        found,
        format!(
            "FIRST----- of 2023-11-14 22:13:20, mail1:\n{}SECOND---- of 2023-11-14 22:13:20, mail1:\n{}{}\n\
             3 matches in 2 snapshots, 4.77 MiB in all\n",
            line("2.00 KiB", "imapd.conf"),
            line("2.93 KiB", "imapd.conf"),
            line("4.77 MiB", "new")
        )
    );
}

#[test]
fn nothing_but_a_path_is_wider_than_a_terminal_of_80_columns() {
    let (lab, ids) = filled();
    for words in [&["stats"][..], &["show", &ids[1]], &["diff", &ids[0], &ids[1]], &["find", "imapd.conf"]] {
        let out = text(&lab, &ids, words);
        // A path is told whole, so that it can be copied.
        let wide = |line: &&str| line.split("/etc/").next().is_some_and(|start| start.chars().count() > 80);
        assert_eq!(out.lines().find(wide), None, "{words:?}");
    }
}

#[test]
fn what_may_have_been_meant_is_told() {
    let (lab, [first, second]) = filled();
    let mut mistyped = second[..10].to_owned();
    mistyped.replace_range(4..5, if &second[4..5] == "0" { "1" } else { "0" });
    for (words, told) in [
        (&["ls", &first, "/etc/impad.conf"][..], "nearest: /etc/imapd.conf".to_owned()),
        (&["ls", &first, "/ect/imapd.conf"], "nearest: /etc".to_owned()),
        (&["diff", &first, &second, "--path", "/etc/nwe"], "nearest: /etc/new".to_owned()),
        (&["restore", &first, "--target", "/nowhere", "--path", "/etc/sme"], "nearest: /etc/same".to_owned()),
        (&["show", &mistyped], format!("nearest: {}", &second[..10])),
        (&["show", "latest", "--source", "mial1"], "nearest: mail1".to_owned()),
        (&["stat"], "similar subcommands exist: 'status', 'stats'".to_owned()),
        (&["snapshot"], "a similar subcommand exists: 'snapshots'".to_owned()),
    ] {
        let said = lab.run(words);
        assert!(said.code != 0 && said.err.contains(&told), "{words:?}: {}", said.err);
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    }
    let other = lab.run(&["ls", &first, "/etc/holiday.jpg"]);
    assert!(other.code == 1 && !other.err.contains("nearest"), "{}", other.err);
}

/// What a terminal is shown: `script` gives the program one.
fn on_a_terminal(lab: &Lab, words: &[&str], no_colour: bool) -> String {
    let quoted: Vec<String> =
        lab.command(words).get_args().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let line = format!("{} {}", env!("CARGO_BIN_EXE_mailkeep"), quoted.join(" "));
    let mut script = Command::new("script");
    script
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .env("TZ", "UTC");
    script.env("MAILKEEP_STATE", lab.path("state")).stdin(Stdio::null());
    if no_colour {
        script.env("NO_COLOR", "1");
    }
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_progress_bar_goes_out_of_the_way_of_what_is_written() {
    let (lab, [first, second]) = filled();
    let plain = lab.run(&["diff", &first, &second]).out;
    let shown = on_a_terminal(&lab, &["diff", &first, &second], true);
    assert!(shown.contains("compare"), "no bar was drawn: {shown:?}");
    // What stands in a line after the last clearing of it is what a person sees.
    let seen: Vec<&str> = shown
        .split("\r\n")
        .map(|line| line.rsplit(['\r', '\u{1b}']).next().unwrap())
        .map(|line| line.strip_prefix("[2K").or(line.strip_prefix("[K")).unwrap_or(line))
        .collect();
    for line in plain.lines().filter(|line| !line.is_empty()) {
        assert!(seen.contains(&line), "{line:?} is not in {seen:#?}");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let (lab, [first, second]) = filled();
    let words = ["diff", &first, &second];
    assert!(on_a_terminal(&lab, &words, false).contains("\u{1b}[32m+"));
    let plain = on_a_terminal(&lab, &words, true);
    assert!(!plain.contains("\u{1b}[3") && plain.contains("/etc/new"), "{plain:?}");
    // The code of a key is drawn for a person only.
    let shown = on_a_terminal(&lab, &["key", "add-recovery"], true);
    assert!(shown.contains("groups 1 to 5") && shown.contains('\u{2580}'), "{shown}");
    assert!(!lab.run(&["key", "add-recovery"]).out.contains('\u{2580}'));
}
