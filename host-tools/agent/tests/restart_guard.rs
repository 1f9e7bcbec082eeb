//! The restart guarantee, with real processes: whatever happens to the agent while mail is stopped, mail runs again.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use mailkeep_agent::limits;
use mailkeep_link::message::{Configure, Quiesce, ToAgent, ToBox};
use rustix::process::{Signal, kill_process};
use support::{Agent, Mail, wait_for};

/// Not a test: the mail service that the scripts of [`Mail`] start.
#[test]
#[ignore = "run by the start script of the fake mail service"]
fn greeter_process() {
    support::greet_for_ever();
}

fn stopped(mail: &Mail, deadline: u32) -> Agent {
    let agent = Agent::start(&mail.state());
    assert!(!agent.configure(&mail.source("")).rescued);
    agent.stop_mail(deadline);
    assert!(!mail.is_up());
    agent
}

#[test]
fn a_whole_window() {
    let mail = Mail::new();
    let agent = Agent::start(&mail.state());
    let configured = agent.configure(&mail.source(""));
    assert!(configured.quiesce.is_some_and(|rung| rung.contains("stop")));
    agent.pass(1, false);
    let quiesced = agent.stop_mail(600);
    assert!(!quiesced.has_list && !mail.is_up());
    assert!(mail.guard().is_some() && !mail.settled());
    let copy = agent.pass(2, true);
    assert_eq!(copy.bytes(&mail.path("spool/1.")), b"Subject: one\r\n\r\nHello.\r\n");
    assert!(copy.bytes(Path::new("/.mailkeep/versions")).starts_with(b"kernel "));
    let folder = &copy.nodes[Path::new("/.mailkeep")].0;
    assert_eq!((folder.meta.mode, folder.is_directory()), (0o700, true));
    assert_eq!(agent.recheck(), Vec::<String>::new());
    let resumed = agent.resume();
    assert!(!resumed.started_by_other && resumed.window_ms >= resumed.start_ms, "{resumed:?}");
    assert!(mail.is_up());
    wait_for("the guard's end", || mail.settled());
    assert_eq!((mail.count("stop"), mail.count("start")), (1, 2));
    agent.goodbye();
}

#[test]
fn an_agent_that_is_killed() {
    let mail = Mail::new();
    stopped(&mail, 600).kill();
    wait_for("mail", || mail.is_up());
    wait_for("the guard's end", || mail.settled());
    assert_eq!(mail.count("start"), 2);
}

#[test]
fn an_agent_that_is_killed_while_the_stop_is_at_work() {
    let mail = Mail::new();
    mail.set("slow-stop");
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.send(ToAgent::Quiesce(Quiesce { deadline_seconds: 600 }));
    wait_for("the stop", || mail.count("stop") == 1);
    agent.kill();
    // The orphaned stop takes mail down two seconds later; a guard that does not mind it would be gone by then.
    wait_for("the guard's end", || mail.settled());
    // Unless the machine was so busy that it did not come so far in all the time that the guard gives it.
    assert!(mail.count("stopped") == 1 || mail.guard_worked() >= limits::ORPHAN_PATIENCE);
    assert!(mail.is_up());
}

#[test]
fn an_agent_that_is_killed_while_the_stop_hangs() {
    let mail = Mail::new();
    mail.set("hang-stop");
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.send(ToAgent::Quiesce(Quiesce { deadline_seconds: 600 }));
    wait_for("the stop", || mail.count("stop") == 1);
    let stop = mail.path("stop").display().to_string();
    let is_at_work = || {
        let lines = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
        lines.into_iter().any(|line| line.split(|byte| *byte == 0).any(|word| word == stop.as_bytes()))
    };
    assert!(is_at_work());
    agent.kill();
    wait_for("the guard's end", || mail.settled());
    assert!(mail.is_up());
    assert!(!is_at_work(), "the stop is left to strike later");
}

#[test]
fn the_next_run_waits_for_a_guard_that_is_at_work() {
    let mail = Mail::new();
    mail.set("slow-stop");
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.send(ToAgent::Quiesce(Quiesce { deadline_seconds: 600 }));
    wait_for("the stop", || mail.count("stop") == 1);
    agent.kill();
    wait_for("the end of the stop", || mail.count("stopped") == 1);
    wait_for("mail", || mail.is_up());
    let agent = Agent::start(&mail.state());
    assert!(!agent.configure(&mail.source("")).rescued);
    agent.stop_mail(600);
    assert!(!agent.resume().started_by_other);
    assert!(mail.is_up());
    agent.goodbye();
}

#[test]
fn a_link_that_ends() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    assert_ne!(agent.end(), Some(0));
    assert!(mail.is_up());
    wait_for("the guard's end", || mail.settled());
}

#[test]
fn a_link_that_ends_in_the_middle_of_the_final_pass() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    agent.send(ToAgent::BeginPass(mailkeep_link::message::BeginPass { number: 1, is_final: true }));
    assert!(matches!(agent.receive().unwrap(), ToBox::PassBegun(_)));
    // The first listing is never answered.
    assert_ne!(agent.end(), Some(0));
    assert!(mail.is_up());
    wait_for("the guard's end", || mail.settled());
}

#[test]
fn a_box_that_falls_silent_without_closing_the_link() {
    use mailkeep_link::wire::Message;
    let mail = Mail::new();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_mailkeep-agent"))
        .arg("serve")
        .env("MAILKEEP_AGENT_STATE", mail.state())
        .env("MAILKEEP_AGENT_BOOT", "no")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    for message in [
        ToAgent::Hello(mailkeep_link::version::hello("silent")),
        ToAgent::Configure(Configure { source: mail.source("") }),
        // The guard would start mail after 55 s.
        ToAgent::Quiesce(Quiesce { deadline_seconds: 110 }),
    ] {
        message.encode().unwrap().put(&mut said);
    }
    std::io::Write::write_all(agent.stdin.as_mut().unwrap(), &said).unwrap();
    wait_for("the stop", || mail.count("stopped") == 1);
    // Long before the guard, which comes before the minute that the box has outside of the window.
    wait_for("mail", || mail.is_up());
    wait_for("the agent's end", || agent.try_wait().unwrap().is_some());
    wait_for("the guard's end", || mail.settled());
    assert_eq!((mail.count("start"), mail.guard_began()), (2, None));
}

#[test]
fn an_agent_that_is_asked_to_end() {
    for signal in [Signal::TERM, Signal::HUP] {
        let mail = Mail::new();
        let mut agent = stopped(&mail, 600);
        agent.signal(signal);
        wait_for("the agent's end", || agent.child.try_wait().unwrap().is_some());
        assert!(mail.is_up());
        wait_for("the guard's end", || mail.settled());
    }
}

#[test]
fn an_agent_that_hangs_past_the_deadline_finds_its_window_spent() {
    let mail = Mail::new();
    let agent = stopped(&mail, 24);
    agent.signal(Signal::STOP);
    wait_for("mail", || mail.is_up());
    wait_for("the guard's end", || mail.settled());
    agent.signal(Signal::CONT);
    agent.pass(1, true);
    let moved = agent.recheck();
    assert!(moved.iter().any(|line| line.contains("guard")), "{moved:?}");
    assert!(agent.resume().started_by_other);
    assert!(mail.is_up());
    assert_eq!((mail.count("stop"), mail.count("start")), (1, 2));
    agent.goodbye();
}

#[test]
fn a_slow_start_is_measured_and_the_next_guard_begins_so_much_earlier() {
    let mail = Mail::new();
    mail.set("slow-start");
    let agent = stopped(&mail, 600);
    agent.resume();
    agent.goodbye();
    wait_for("the guard's end", || mail.settled());
    let measured = mail.starts();
    assert!(measured.len() == 1 && measured[0] >= 3000, "{measured:?}");
    let agent = stopped(&mail, 60);
    let note = mail.note().expect("an open window");
    assert!(note.lead_ms >= 2 * measured[0] + 5000 || note.lead_ms == 30_000, "{note:?}");
    agent.signal(Signal::STOP);
    wait_for("mail", || mail.is_up());
    wait_for("the guard's end", || mail.settled());
    assert_eq!(mail.starts().len(), 2, "a guard measures, too");
    // By the clock of the guard's log, so that a machine which stalls while mail starts is not blamed on it.
    let began = mail.guard_began().expect("a line in guard.log");
    assert!(began >= note.start_at(), "{began:?} {note:?}");
    assert!(began < note.deadline(), "mail was started when it had to answer: {began:?} {note:?}");
    drop(agent);
}

#[test]
fn a_deadline_that_no_start_ever_met_stops_nothing() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    agent.resume();
    agent.goodbye();
    wait_for("the guard's end", || mail.settled());
    fs::write(mail.folder().join("starts.json"), r#"{"millis":[31000,45000,32000]}"#).unwrap();
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    let ToBox::Failed(failed) = agent.quiesce(60) else { panic!("mail was stopped") };
    assert!(failed.what.contains("too short") && failed.what.contains("31 s"), "{}", failed.what);
    assert_eq!((failed.exit_code, mail.count("stop")), (78, 1));
    assert!(mail.is_up() && mail.note().is_none());
}

#[test]
fn an_agent_that_hangs_while_the_stop_is_at_work() {
    let mail = Mail::new();
    mail.set("wait-stop");
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.send(ToAgent::Quiesce(Quiesce { deadline_seconds: 30 }));
    wait_for("the stop", || mail.count("stop") == 1);
    agent.signal(Signal::STOP);
    fs::remove_file(mail.path("wait-stop")).unwrap();
    wait_for("the end of the stop", || mail.count("stopped") == 1);
    wait_for("the guard's end", || mail.settled());
    assert!(mail.is_up());
    agent.signal(Signal::CONT);
    let ToBox::Failed(failed) = agent.receive().unwrap() else { panic!("a window without a guard was used") };
    assert!(failed.what.contains("the stop failed"), "{}", failed.what);
    assert!(mail.is_up());
    assert_eq!(mail.count("stop"), 1);
}

#[test]
fn agent_and_guard_both_killed_and_the_next_run_starts_mail() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    kill_process(mail.guard().unwrap(), Signal::KILL).unwrap();
    wait_for("the guard's end", || mail.guard().is_none());
    agent.kill();
    assert!(!mail.is_up());
    let agent = Agent::start(&mail.state());
    assert!(agent.configure(&mail.source("")).rescued);
    assert!(mail.is_up() && mail.settled());
    agent.goodbye();
}

#[test]
fn a_rescue_at_boot() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    kill_process(mail.guard().unwrap(), Signal::KILL).unwrap();
    wait_for("the guard's end", || mail.guard().is_none());
    agent.kill();
    let rescue = || {
        Command::new(env!("CARGO_BIN_EXE_mailkeep-agent"))
            .arg("rescue")
            .env("MAILKEEP_AGENT_STATE", mail.state())
            .env("MAILKEEP_AGENT_BOOT", "no")
            .status()
            .unwrap()
    };
    assert!(rescue().success());
    assert!(mail.is_up() && mail.settled());
    // Nothing to do, nothing done.
    assert!(rescue().success());
    assert_eq!(mail.count("start"), 2);
}

#[test]
fn a_start_that_fails_once() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    mail.set("fail-start");
    assert!(!agent.resume().started_by_other);
    assert!(mail.is_up());
    assert_eq!(mail.count("start"), 3);
    agent.goodbye();
}

#[test]
fn a_stop_that_hangs() {
    let mail = Mail::new();
    mail.set("hang-stop");
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    let ToBox::Failed(failed) = agent.quiesce(60) else { panic!() };
    assert!(
        failed.what.contains("did not return") && failed.what.contains("started again"),
        "{}",
        failed.what
    );
    assert!(mail.is_up());
    assert_ne!(agent.end(), Some(0));
    wait_for("the guard's end", || mail.settled());
}

#[test]
fn a_stop_that_never_comes_back_is_not_tried_every_time() {
    let mail = Mail::new();
    mail.set("hang-stop");
    let run = |deadline: u32| {
        let agent = Agent::start(&mail.state());
        agent.configure(&mail.source(""));
        let ToBox::Failed(failed) = agent.quiesce(deadline) else { panic!("its stop came back") };
        assert!(mail.is_up());
        agent.end();
        wait_for("the guard's end", || mail.settled());
        // Without measured starts a stop is given a sixth of the deadline, on every machine.
        let _ = fs::remove_file(mail.folder().join("starts.json"));
        failed
    };
    let first = run(20);
    assert!(first.what.contains("deadline = \"40s\""), "{}", first.what);
    run(20);
    run(20);
    assert_eq!(mail.count("stop"), 3);
    let refused = run(20);
    assert!(refused.what.contains("mail was not stopped"), "{}", refused.what);
    assert_eq!((refused.exit_code, mail.count("stop"), mail.note().is_none()), (78, 3, true));
    // Whoever only looks, as a dry run does, is told as well.
    let agent = Agent::start(&mail.state());
    agent.send(ToAgent::Configure(Configure { source: mail.source("deadline = \"20s\"") }));
    let told = loop {
        match agent.link().receive().unwrap() {
            ToBox::Problem(remark) if remark.what.contains("was not stopped") => break remark.what,
            ToBox::Configured(_) => panic!("it is not told"),
            _ => {}
        }
    };
    assert_eq!(told, refused.what.replace("in 3 runs", "in 2 runs"));
    drop(agent);
    // With more time it is tried.
    run(40);
    assert_eq!(mail.count("stop"), 4);
    assert!(run(20).what.contains("mail was not stopped"));
    // One that ends well is a reason to try again.
    fs::remove_file(mail.path("hang-stop")).unwrap();
    let agent = stopped(&mail, 600);
    agent.resume();
    agent.goodbye();
    wait_for("the guard's end", || mail.settled());
    fs::remove_file(mail.folder().join("starts.json")).unwrap();
    mail.set("hang-stop");
    run(12);
    assert_eq!(mail.count("stop"), 6);
}

#[test]
fn a_stop_that_is_called_off_by_resume() {
    let mail = Mail::new();
    mail.set("hang-stop");
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.send(ToAgent::Quiesce(Quiesce { deadline_seconds: 600 }));
    wait_for("the stop", || mail.count("stop") == 1);
    agent.resume();
    assert!(mail.is_up());
    wait_for("the guard's end", || mail.settled());
    agent.goodbye();
}

#[test]
fn something_else_that_starts_mail() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    agent.pass(1, true);
    assert!(Command::new(mail.path("start")).status().unwrap().success());
    wait_for("mail", || mail.is_up());
    assert!(agent.recheck().iter().any(|line| line.contains("mail runs")));
    assert!(agent.resume().started_by_other);
    agent.goodbye();
}

#[test]
fn a_spool_that_changes_under_the_copy() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    agent.pass(1, true);
    fs::write(mail.path("spool/2."), "new").unwrap();
    let moved = agent.recheck();
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert!(moved[0].contains("spool"));
    agent.resume();
    agent.goodbye();
}

#[test]
fn stragglers_are_reported_or_ended() {
    for (policy, ends) in [("wait", false), ("kill", true)] {
        let mail = Mail::new();
        let held = fs::File::create(mail.path("spool/held")).unwrap();
        let mut holder = Command::new("sleep").arg("600").stdin(Stdio::from(held)).spawn().unwrap();
        let agent = Agent::start(&mail.state());
        agent.configure(&mail.source(&format!("stragglers = \"{policy}\"\nstraggler-wait = \"1s\"")));
        match agent.quiesce(600) {
            ToBox::Quiesced(_) if ends => {
                agent.resume();
                wait_for("the straggler's end", || holder.try_wait().unwrap().is_some());
            }
            ToBox::Failed(failed) if !ends => {
                assert!(
                    failed.what.contains("sleep") && failed.what.contains("spool/held"),
                    "{}",
                    failed.what
                );
                holder.kill().unwrap();
            }
            other => panic!("{policy}: {other:?}"),
        }
        assert!(mail.is_up());
        let _ = holder.wait();
    }
}

#[test]
fn mail_that_does_not_run_is_not_touched() {
    let mail = Mail::new();
    assert!(Command::new(mail.path("stop")).status().unwrap().success());
    wait_for("mail to be down", || !mail.is_up());
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    let ToBox::Failed(failed) = agent.quiesce(600) else { panic!() };
    assert!(failed.what.contains("does not greet"), "{}", failed.what);
    assert_eq!((mail.count("stop"), mail.count("start")), (1, 1));
    assert!(!mail.is_up());
}

#[test]
fn two_runs_cannot_both_stop_mail() {
    let mail = Mail::new();
    let first = stopped(&mail, 600);
    let second = Agent::start(&mail.state());
    assert!(!second.configure(&mail.source("")).rescued);
    let ToBox::Failed(failed) = second.quiesce(600) else { panic!() };
    assert!(failed.what.contains("another run"), "{}", failed.what);
    assert!(!mail.is_up() && !mail.settled());
    first.resume();
    assert!(mail.is_up());
    first.goodbye();
}

#[test]
fn a_process_that_writes_into_the_spool_after_the_stop() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    agent.pass(1, true);
    let held = fs::File::options().append(true).open(mail.path("spool/1.")).unwrap();
    let mut writer = Command::new("sleep").arg("600").stdin(Stdio::from(held)).spawn().unwrap();
    let moved = agent.recheck();
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert!(moved[0].contains("sleep") && moved[0].contains("spool/1."), "{moved:?}");
    agent.resume();
    agent.goodbye();
}

#[test]
fn a_state_folder_that_others_can_write_is_refused() {
    let mail = Mail::new();
    let state = mail.state();
    fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let agent = Agent::start(&state);
    agent.configure(&mail.source(""));
    let ToBox::Failed(failed) = agent.quiesce(600) else { panic!() };
    assert!(failed.what.contains("others can write"), "{}", failed.what);
    assert!(mail.is_up());
}

#[test]
fn a_start_that_claims_to_have_gone_well_proves_nothing() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    mail.set("lame-start");
    agent.resume();
    assert!(mail.is_up(), "the window was closed without a greeting");
    assert_eq!(mail.count("start"), 3);
    agent.goodbye();
}

#[test]
fn a_late_guard_leaves_a_newer_window_alone() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    let late = mail.guard().unwrap();
    kill_process(late, Signal::STOP).unwrap();
    let old_token = mail.token();
    agent.resume();
    agent.goodbye();
    let starts = mail.count("start");
    // The next window, while the guard of the last one still thinks that it has to act.
    let folder = mail.folder().display().to_string();
    kill_process(late, Signal::KILL).unwrap();
    wait_for("the end of the late guard", || mail.guard().is_none());
    let agent = stopped(&mail, 600);
    assert_ne!(mail.token(), old_token);
    let guard = mail.guard().unwrap();
    kill_process(guard, Signal::KILL).unwrap();
    wait_for("the end of the guard", || mail.guard().is_none());
    let late = Command::new(env!("CARGO_BIN_EXE_mailkeep-agent"))
        .args(["guard", "--folder", &folder, "--token", &old_token])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!late.success(), "it found a window that is not its own");
    assert_eq!(mail.count("start"), starts);
    assert!(!mail.is_up());
    agent.resume();
    assert!(mail.is_up());
}

#[test]
fn a_guard_that_is_late_to_notice_its_end_makes_way_for_the_next_window() {
    let mail = Mail::new();
    let agent = stopped(&mail, 600);
    let late = mail.guard().unwrap();
    kill_process(late, Signal::STOP).unwrap();
    let old_token = mail.token();
    agent.resume();
    agent.goodbye();
    // The next run takes the lock that the old guard waits for.
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.send(ToAgent::Quiesce(Quiesce { deadline_seconds: 600 }));
    wait_for("the next intent", || mail.note().is_some());
    kill_process(late, Signal::CONT).unwrap();
    let quiesced = agent.receive().unwrap();
    assert!(matches!(quiesced, ToBox::Quiesced(_)), "{quiesced:?}");
    assert!(mail.token() != old_token && !mail.is_up());
    agent.resume();
    assert!(mail.is_up());
    agent.goodbye();
}

#[test]
fn a_rescue_minds_the_deadline_and_not_who_is_alive() {
    let mail = Mail::new();
    let rescue = || {
        Command::new(env!("CARGO_BIN_EXE_mailkeep-agent"))
            .arg("rescue")
            .env("MAILKEEP_AGENT_STATE", mail.state())
            .env("MAILKEEP_AGENT_BOOT", "no")
            .status()
            .unwrap()
    };
    let agent = stopped(&mail, 16);
    kill_process(mail.guard().unwrap(), Signal::KILL).unwrap();
    agent.signal(Signal::STOP);
    let was_up = rescue().success() && mail.is_up();
    // A machine that stalled for so long has seen the time come.
    assert!(
        !was_up || mail.note().is_none_or(|note| note.left().is_zero()),
        "there was time, and a living agent"
    );
    wait_for("the time to start", || mail.note().is_none_or(|note| note.left().is_zero()));
    assert!(rescue().success());
    assert!(mail.is_up(), "a hung agent's lock kept mail down");
    agent.signal(Signal::CONT);
    assert!(agent.resume().started_by_other);
}
