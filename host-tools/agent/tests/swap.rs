//! Half a swap, with real processes: whoever starts mail brings all trees to one side before.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use mailkeep_agent::swap::journal::{Goal, JOURNAL, Journal, Step};
use rustix::process::{Signal, kill_process};
use support::{Agent, Mail, wait_for};

/// Not a test: the mail service that the scripts of [`Mail`] start.
#[test]
#[ignore = "run by the start script of the fake mail service"]
fn greeter_process() {
    support::greet_for_ever();
}

/// Mail that is stopped, and a journal of two trees of which one has moved; who died has left it like this.
fn half_swapped(mail: &Mail) -> Agent {
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.stop_mail(600);
    let step = |tree: &str| {
        let (live, beside) = (mail.path(tree), mail.path(&format!(".mailkeep-restore/{tree}")));
        for (place, says) in [(&live, "old"), (&beside, "new")] {
            fs::create_dir_all(place).unwrap();
            fs::write(place.join("says"), says).unwrap();
        }
        let inode = |path: &PathBuf| Some(fs::metadata(path).unwrap().ino());
        Step { old: inode(&live), new: inode(&beside), live, beside }
    };
    let steps = vec![step("one"), step("two")];
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    let here = rustix::fs::CWD;
    rustix::fs::renameat_with(here, &steps[0].live, here, &steps[0].beside, exchange).unwrap();
    let stop = vec![mail.path("stop").display().to_string()];
    let journal =
        Journal { version: 1, snapshot: "s".to_owned(), goal: Goal::New, ran: true, stop: Some(stop), steps };
    fs::write(mail.folder().join(JOURNAL), serde_json::to_vec(&journal).unwrap()).unwrap();
    assert_eq!(says(mail), ["new", "old"]);
    agent
}

fn says(mail: &Mail) -> [String; 2] {
    ["one", "two"].map(|tree| fs::read_to_string(mail.path(tree).join("says")).unwrap())
}

#[test]
fn the_guard_ends_half_a_swap_before_it_starts_mail() {
    let mail = Mail::new();
    half_swapped(&mail).kill();
    wait_for("mail", || mail.is_up());
    wait_for("the guard's end", || mail.settled());
    assert_eq!(says(&mail), ["new", "new"]);
    assert!(!mail.folder().join(JOURNAL).exists() && mail.folder().join("kept.json").exists());
}

#[test]
fn the_agent_ends_half_a_swap_before_it_starts_mail() {
    let mail = Mail::new();
    let agent = half_swapped(&mail);
    agent.resume();
    assert_eq!(says(&mail), ["new", "new"]);
    agent.goodbye();
    wait_for("the guard's end", || mail.settled());
}

/// A person, monit, a package upgrade: mail runs on half of each. It is stopped for the other half.
#[test]
fn mail_that_somebody_has_started_on_half_a_swap_is_stopped_for_it() {
    let mail = Mail::new();
    let agent = half_swapped(&mail);
    assert!(Command::new(mail.path("start")).status().unwrap().success());
    wait_for("mail", || mail.is_up());
    let stops = mail.count("stopped");
    agent.resume();
    assert_eq!((says(&mail), mail.count("stopped")), (["new", "new"].map(String::from), stops + 1));
    assert!(mail.is_up());
    agent.goodbye();
    wait_for("the guard's end", || mail.settled());
}

#[test]
fn the_rescue_at_boot_ends_half_a_swap() {
    let mail = Mail::new();
    let serving = half_swapped(&mail);
    kill_process(mail.guard().unwrap(), Signal::KILL).unwrap();
    serving.kill();
    let agent = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailkeep-agent"));
        command.arg(verb).env("MAILKEEP_AGENT_STATE", mail.state()).env("MAILKEEP_AGENT_BOOT", "no");
        assert!(command.status().unwrap().success());
    };
    // What comes before mail at the boot starts nothing.
    agent("settle");
    assert_eq!(says(&mail), ["new", "new"]);
    assert!(!mail.is_up() && mail.folder().join(JOURNAL).exists());
    agent("rescue");
    assert!(mail.is_up() && mail.settled() && !mail.folder().join(JOURNAL).exists());
}

/// Who made this server a standby died between the note and the end of the window.
#[test]
fn a_guard_and_a_rescue_leave_a_standby_down() {
    for is_rescue in [false, true] {
        let mail = Mail::new();
        let agent = Agent::start(&mail.state());
        agent.configure(&mail.source(""));
        agent.stop_mail(600);
        if is_rescue {
            kill_process(mail.guard().unwrap(), Signal::KILL).unwrap();
        }
        let note = r#"{"version": 1, "source": "m", "snapshot": "s"}"#;
        fs::write(mail.folder().join("standby.json"), note).unwrap();
        agent.kill();
        if is_rescue {
            let mut command = Command::new(env!("CARGO_BIN_EXE_mailkeep-agent"));
            command.arg("rescue").env("MAILKEEP_AGENT_STATE", mail.state()).env("MAILKEEP_AGENT_BOOT", "no");
            assert!(command.status().unwrap().success());
        }
        wait_for("the end of the window", || mail.settled());
        assert!(!mail.is_up(), "rescue {is_rescue}");
        assert_eq!(mail.count("start"), 1, "rescue {is_rescue}");
    }
}
