//! Mistakes on the command line, in config files and with keys: one clear line, the right exit code, also as JSON.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::{Lab, Said, program};

/// One line on stderr with a `mailkeep: ` before it, nothing on stdout.
fn told(said: &Said, code: i32, text: &str) {
    assert_eq!(said.code, code, "{}", said.err);
    assert!(said.err.starts_with("mailkeep: ") && said.err.contains(text), "{:?} lacks {text:?}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{:?}", said.err);
    assert!(!said.err.trim_end_matches('\n').contains(char::is_control), "{:?}", said.err);
    assert_eq!(said.out, "");
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let lab = Lab::empty();
    for (words, text) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["snapshots", "--souce", "x"], "a similar argument exists: '--source'"),
        (&["restore", "latest"], "--target <DIR>"),
        (&["restore", "latest", "--target", "x", "--overwrite", "maybe"], "always, if-changed, never"),
        (&["restore", "latest", "--target"], "a value is required for '--target <DIR>'"),
        (&["verify", "--read-data", "--read-data-slice", "1/2"], "cannot be used with"),
        (&["verify", "--read-data-slice", "8/7"], "a slice is written n/t"),
        (&["ls", "latest", "/a/../b"], "is not a plain path"),
        (&["find", "[a"], "is no pattern"),
        (&["backup"], "--source <FILE>"),
        (&["init", "--no-encryption", "--recovery-out", "x"], "cannot be used with"),
        (&["ls", "\x1b[2J\u{202e}", "x", "y"], "unexpected argument"),
        // The hint names the very verb, also one below another.
        (&["mail", "search"], "see `mailkeep mail search --help`"),
        (&["key", "revoke"], "see `mailkeep key revoke --help`"),
        (&["show"], "see `mailkeep show --help`"),
    ] {
        told(&lab.run(words), 64, text);
    }
    let odd: Said = program(lab.folder.path())
        .args(["-r", "/nowhere/a\nb\x1b[2J", "--key-file", "/x\ny", "stats"])
        .output()
        .unwrap()
        .into();
    told(&odd, 75, "/nowhere/a\\u{a}b\\u{1b}[2J");
    let latest = Lab::new();
    told(&latest.run(&["show", "not-hex"]), 64, "snapshot");
    // A mount must not hide what it shows.
    for point in [latest.text(""), latest.text("repo")] {
        told(&latest.run(&["mount", &point]), 64, "holds the repository");
    }
}

#[test]
fn help_and_version_are_no_errors_and_nothing_at_all_is_one() {
    let home = Lab::empty();
    for words in [&["--help"][..], &["-h"], &["--version"], &["restore", "--help"], &["key", "--help"]] {
        let said: Said = program(home.folder.path()).args(words).output().unwrap().into();
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{words:?}");
        assert!(!said.out.is_empty());
    }
    for set in [false, true] {
        let mut nothing = program(home.folder.path());
        if set {
            nothing.env("MAILKEEP_REPO", "/x");
        }
        let said: Said = nothing.output().unwrap().into();
        assert_eq!((said.code, said.out.as_str()), (64, ""));
        assert!(said.err.contains("Usage: mailkeep"), "{}", said.err);
    }
}

#[test]
fn in_json_mode_an_error_is_an_object_and_a_line() {
    let lab = Lab::empty();
    for (words, code) in [(&["--json", "restore"][..], 64), (&["snapshots", "--json"], 75)] {
        let said = lab.run(words);
        assert_eq!(said.code, code);
        let object = &said.of("error")[0];
        assert!(object["what"].as_str().is_some_and(|what| said.err.contains(what)), "{}", said.out);
        assert!(object.get("path").is_some() && object.get("hint").is_some());
        assert_eq!((said.out.lines().count(), said.err.lines().count()), (1, 1));
    }
}

#[test]
fn flag_before_variable_before_config_file() {
    let lab = Lab::new();
    let config = lab.path("cli.toml");
    let repo = lab.text("repo");
    fs::write(&config, format!("repo = {repo:?}\nkey-file = {:?}\n", lab.text("key"))).unwrap();
    let run = |env: Option<&str>, flag: Option<&str>| {
        let mut command = program(lab.folder.path());
        command.arg("--config").arg(&config).args(["snapshots", "--json"]);
        env.map(|repo| command.env("MAILKEEP_REPO", repo));
        flag.map(|repo| command.args(["-r", repo]));
        command.output().unwrap().status.code()
    };
    assert_eq!(run(None, None), Some(0));
    assert_eq!(run(Some("/nowhere"), None), Some(75));
    assert_eq!(run(Some("/nowhere"), Some(&repo)), Some(0));
    assert_eq!(run(Some(&repo), Some("/nowhere")), Some(75));
    assert_eq!(run(Some(""), None), Some(0));
}

#[test]
fn config_mistakes_have_their_own_code() {
    let lab = Lab::empty();
    let config = lab.path("cli.toml");
    let run = |text: &[u8]| {
        fs::write(&config, text).unwrap();
        let mut command = program(lab.folder.path());
        command.arg("--config").arg(&config).arg("snapshots").output().unwrap().into()
    };
    told(&run(b"rpeo = \"/x\"\n"), 78, "line 1: unknown key `rpeo`; did you mean `repo`?");
    told(&run(b"\nrepo = 5\n"), 78, "line 2: `repo` must be a path in quotes");
    told(&run(b"repo = \"/x\"\n[[[\n"), 78, "line 2");
    told(&run(b"repo = \"\xff\"\n"), 78, "cli.toml");
    told(&run(&b"# \n".repeat(30_000)), 78, "too many");
    let missing: Said = program(lab.folder.path())
        .args(["--config", &lab.text("missing.toml"), "snapshots"])
        .output()
        .unwrap()
        .into();
    told(&missing, 78, "cannot read the config file");
    let none: Said = program(lab.folder.path()).arg("snapshots").output().unwrap().into();
    told(&none, 64, "no repository is named");
    let real = Lab::new();
    let source = real.text("source.toml");
    told(&real.run(&["backup", "--source", &source]), 78, "cannot read the source file");
    fs::write(&source, "nmae = \"x\"\n").unwrap();
    told(&real.run(&["backup", "--source", &source]), 78, "unknown key `nmae`");
}

#[test]
fn keys_and_disks_have_their_own_codes() {
    let lab = Lab::new();
    let with_key = |key: &str| -> Said {
        let mut command = program(lab.folder.path());
        command.args(["-r", &lab.text("repo"), "--key-file", key, "snapshots"]).output().unwrap().into()
    };
    told(&with_key(&lab.text("missing")), 77, "give the box key or the recovery key");
    fs::write(lab.path("garbage"), "AGE-SECRET-KEY-NOT").unwrap();
    fs::set_permissions(lab.path("garbage"), fs::Permissions::from_mode(0o600)).unwrap();
    told(&with_key(&lab.text("garbage")), 77, "holds no usable key");
    assert_eq!(with_key(&lab.text("recovery")).code, 0);
    let other = Lab::new();
    told(&with_key(&other.text("key")), 77, "does not open the repository");
    let open = lab.path("open");
    fs::copy(lab.path("key"), &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let warned = with_key(&lab.text("open"));
    assert_eq!(warned.code, 0);
    assert!(warned.err.contains("can be read by other users (mode 644)"), "{}", warned.err);
    fs::remove_dir_all(lab.path("repo")).unwrap();
    told(&lab.run(&["verify"]), 75, "plug in the disk");
    fs::create_dir(lab.path("repo")).unwrap();
    told(&lab.run(&["verify"]), 75, "no repository");
}

#[test]
fn a_lock_that_is_held_has_its_own_code() {
    let lab = Lab::new();
    let writer = lab
        .repository()
        .writer(&mailkeep_repository::WriterOptions::default(), &mailkeep_repository::LogMonitor)
        .unwrap();
    told(&lab.run(&["unlock"]), 11, "locked by");
    drop(writer);
    assert_eq!(lab.run(&["unlock"]).code, 0);
}
