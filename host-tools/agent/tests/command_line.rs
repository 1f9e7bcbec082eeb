//! What is typed: one clear line and exit code 64 for what is not understood.

#![allow(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

use std::process::{Command, Output, Stdio};

fn agent(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mailkeep-agent")).args(words).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn what_is_not_understood_is_one_line_and_64() {
    for words in [
        &[][..],
        &["bogus"],
        &["--frob"],
        &["serve", "extra"],
        &["guard"],
        &["guard", "--seconds", "x"],
        &["serve", "--role", "all"],
        &["serve", "--commands", "any"],
    ] {
        let output = agent(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{words:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{words:?}: {said}");
        assert!(said.starts_with("mailkeep-agent: ") && said.contains("--help"), "{said}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for (word, expected) in [("--version", "mailkeep-agent "), ("--help", "serve")] {
        let output = agent(&[word]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains(expected));
    }
}
