//! Verbs that go through a repository run with an allocator that keeps little; nobody's own choice is overruled.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::Command;

use support::Lab;

/// The environment of a backup, as its agent sees it, and its arguments.
fn seen_by_the_agent(setting: Option<&str>) -> (String, String) {
    let lab = Lab::new();
    let agent = lab.path("agent");
    let script = format!(
        "#!/bin/sh\ntr '\\0' '\\n' < /proc/$PPID/environ > {0}.environ\ntr '\\0' ' ' < /proc/$PPID/cmdline > {0}.words\n",
        agent.display()
    );
    // Made by a child: what this process has open for writing is inherited by whatever another test forks at this
    // moment, and cannot be run until that has gone ("text file busy").
    let mut writer = Command::new("sh");
    writer.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(&agent).arg(script);
    assert!(writer.status().unwrap().success());
    let source = format!(
        "name = \"s\"\nsystem = \"generic\"\n[transport]\nkind = \"local\"\nagent-path = {agent:?}\n\
         [generic]\npaths = [\"/etc\"]\n"
    );
    fs::write(lab.path("s.toml"), source).unwrap();
    let mut backup = lab.command(&["backup", "--source", &lab.text("s.toml")]);
    backup.envs(setting.map(|value| ("MALLOC_ARENA_MAX", value)));
    let ended = backup.output().unwrap();
    assert!(!ended.status.success(), "this agent is none");
    let read = |name: &str| fs::read_to_string(lab.path(name)).unwrap();
    (read("agent.environ"), read("agent.words"))
}

#[test]
fn a_backup_keeps_little_of_what_it_freed() {
    let (environ, words) = seen_by_the_agent(None);
    for setting in ["MALLOC_ARENA_MAX=2", "MALLOC_MMAP_THRESHOLD_=", "MALLOC_TRIM_THRESHOLD_="] {
        assert!(environ.contains(setting) || !cfg!(target_env = "gnu"), "{setting} is not in {environ}");
    }
    assert!(words.contains(" backup --source "), "{words}");
}

#[test]
fn what_somebody_has_set_stays() {
    let (environ, _) = seen_by_the_agent(Some("7"));
    assert!(environ.contains("MALLOC_ARENA_MAX=7"), "{environ}");
    assert!(!environ.contains("MALLOC_TRIM_THRESHOLD_"), "{environ}");
}
