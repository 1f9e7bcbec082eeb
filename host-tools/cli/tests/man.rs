//! Man pages and completions: every verb and flag that programs and people may count on stands in them.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use support::{Lab, Said, program};

/// Verbs, with the flags that the contract names for them.
const VERBS: &[(&str, &[&str])] = &[
    ("init", &["--label", "--no-encryption", "--recovery-out"]),
    ("backup", &["--source", "--force-window", "--dry-run", "--live-only"]),
    ("snapshots", &["--source"]),
    ("show", &["SNAPSHOT"]),
    ("ls", &["SNAPSHOT", "PATH"]),
    ("find", &["PATTERN"]),
    ("diff", &[]),
    ("mount", &["MOUNTPOINT", "--allow-other", "--foreground"]),
    ("restore", &["--target", "--path", "--delete", "--dry-run", "--overwrite"]),
    ("mail-ls", &["SNAPSHOT", "MAILBOX"]),
    ("mail-search", &["TERM", "--all-snapshots", "--all-disks"]),
    ("mail-cat", &["SNAPSHOT", "MAILBOX", "UID"]),
    ("mail-export", &["--mbox", "--maildir"]),
    ("mail-restore", &["--imap", "--into", "--in-place", "--recursive", "--search", "--flags-only"]),
    ("verify", &["--read-data", "--read-data-slice"]),
    ("prune", &["--keep-last", "--keep-hourly", "--keep-yearly", "--dry-run", "--grace"]),
    ("reindex", &[]),
    ("repair", &["--dry-run"]),
    ("stats", &[]),
    ("unlock", &[]),
    ("key-ls", &[]),
    ("key-add-recovery", &[]),
    ("key-revoke", &["ID"]),
    ("pair", &["USER@HOST", "--source-out"]),
    ("rescue-kit", &["--program", "--check"]),
    ("status", &["--box", "--token-file", "--trust", "--forget"]),
    ("eject", &["DISK", "--box", "--token-file"]),
];
const GLOBAL: &[&str] =
    &["--repo", "--key-file", "--json", "--quiet", "--verbose", "--no-progress", "--config", "--help"];

#[test]
fn every_verb_has_a_page_with_its_flags() {
    let lab = Lab::empty();
    let folder = lab.path("man");
    let made: Said =
        program(lab.folder.path()).args(["generate", "man", "--out"]).arg(&folder).output().unwrap().into();
    assert_eq!((made.code, made.err.as_str()), (0, ""));
    let page = |name: &str| {
        let text = fs::read_to_string(folder.join(format!("{name}.1"))).expect(name);
        // As roff writes it.
        text.replace("\\-", "-")
    };
    let first = page("mailkeep");
    for flag in GLOBAL {
        assert!(first.contains(flag), "mailkeep(1) lacks {flag}");
    }
    for (verb, flags) in VERBS {
        let text = page(&format!("mailkeep-{verb}"));
        for flag in *flags {
            assert!(text.contains(flag), "mailkeep-{verb}(1) lacks {flag}");
        }
        let top = verb.split('-').next().unwrap();
        assert!(first.contains(&format!("mailkeep-{top}")), "mailkeep(1) does not name {top}");
    }
}

#[test]
fn completions_know_every_verb() {
    let lab = Lab::empty();
    for shell in ["bash", "zsh", "fish"] {
        let said: Said =
            program(lab.folder.path()).args(["generate", "completions", shell]).output().unwrap().into();
        assert_eq!(said.code, 0, "{}", said.err);
        for (verb, _) in VERBS {
            let word = verb.split('-').next().unwrap();
            assert!(said.out.contains(word), "{shell} does not know {verb}");
        }
    }
}
