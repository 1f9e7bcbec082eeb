//! Whole runs against a server in memory: what is sealed and as what, what happens when something moves, fails, is cut
//! off or lies, and that mail runs afterwards whatever happened.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "helpers of tests may stop at the first surprise")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mailkeep_link::message::Problem;
use mailkeep_puller::{PullError, survey};
use support::{Fate, How, Server, Target, Then, pull};

#[test]
fn a_first_backup_stops_mail_once_and_is_consistent() {
    let (target, server) = (Target::new(), Server::new(true));
    let how = How::default();
    let summary = how.pull(&target, &server).unwrap();
    assert_eq!(
        server.events(),
        ["configure", "pass 1 live", "quiesce", "pass 2 final", "recheck", "resume", "goodbye"]
    );
    assert!(summary.consistent);
    assert_eq!(summary.exit_code(), 0);
    assert_eq!((summary.files, summary.window_ms), (4, Some(11)));
    let kinds: Vec<_> = summary.passes.iter().map(|pass| (pass.kind, pass.files_changed)).collect();
    assert_eq!(kinds, [("live", 4), ("final", 0)]);
    let contents = target.contents();
    assert_eq!(contents.len(), 4);
    assert_eq!(contents["spool/a/2."], b"second message");
    let told = how.told();
    let phases: Vec<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(
        phases,
        [
            "phase connect",
            "phase live",
            "phase stopping",
            "window open",
            "phase final",
            "phase starting",
            "window closed",
            "phase transfer",
            "phase check",
            "phase sealing",
        ]
    );
    let manifest = target.repository.snapshots(&mailkeep_repository::LogMonitor).unwrap().remove(0).manifest;
    assert_eq!(manifest.users, [(0, "root".to_owned()), (8, "mail".to_owned())]);
    assert_eq!(manifest.versions, [("cyrus".to_owned(), "3.6.1".to_owned())]);
    assert_eq!(manifest.source.host, "mail1");
    assert_eq!(manifest.stats.directories, 5);
}

#[test]
fn the_summary_has_the_fields_of_the_interface() {
    let (target, server) = (Target::new(), Server::new(true));
    let json = serde_json::to_value(pull(&target, &server).unwrap()).unwrap();
    for field in [
        "message_type",
        "snapshot_id",
        "generation",
        "consistent",
        "mail_check",
        "passes",
        "window_ms",
        "window_phases",
        "files",
        "bytes",
        "added_bytes",
        "seconds",
    ] {
        assert!(json.get(field).is_some(), "{field}");
    }
    for field in ["kind", "files_seen", "files_changed", "bytes_read", "bytes_sent", "seconds"] {
        assert!(json["passes"][0].get(field).is_some(), "{field}");
    }
    for field in ["stop_ms", "export_ms", "freeze_ms", "start_ms"] {
        assert!(json["window_phases"].get(field).is_some(), "{field}");
    }
    assert_eq!(json["message_type"], "summary");
    assert_eq!(json["snapshot_id"].as_str().unwrap().len(), 64);
}

#[test]
fn a_second_backup_without_changes_reads_nothing() {
    let (target, server) = (Target::new(), Server::new(true));
    pull(&target, &server).unwrap();
    let sent = server.state().files_sent;
    let summary = pull(&target, &server).unwrap();
    assert_eq!(server.state().files_sent, sent);
    assert_eq!((summary.generation, summary.consistent), (2, true));
    let snapshots = target.repository.snapshots(&mailkeep_repository::LogMonitor).unwrap();
    assert_eq!(snapshots[0].manifest.root, snapshots[1].manifest.root);
    assert!(snapshots[1].manifest.new_packs.is_empty());
}

#[test]
fn what_changes_between_the_passes_is_in_the_snapshot() {
    let (target, server) = (Target::new(), Server::new(true));
    server.at_each_step(|step, state| {
        if step == "quiesce" {
            state.put("spool/a/2.", b"SECOND message"); // same size, another ctime
            state.put("spool/c/1.", b"new mailbox");
            state.files.remove("spool/b/1.");
        }
        Then::GoOn
    });
    let summary = pull(&target, &server).unwrap();
    assert!(summary.consistent);
    assert_eq!(summary.passes[1].files_changed, 2);
    let contents = target.contents();
    assert_eq!(contents["spool/a/2."], b"SECOND message");
    assert_eq!(contents["spool/c/1."], b"new mailbox");
    assert!(!contents.contains_key("spool/b/1."));
}

#[test]
fn another_machine_of_that_name_is_no_base() {
    let (target, server) = (Target::new(), Server::new(true));
    pull(&target, &server).unwrap();
    let sent = server.state().files_sent;
    server.state().host = "mail2".into();
    let summary = pull(&target, &server).unwrap();
    assert_eq!(server.state().files_sent, sent + 4);
    // Read again, but not sent again.
    assert_eq!(summary.passes[0].bytes_sent, 0);
}

#[test]
fn whatever_moves_while_mail_is_stopped_makes_the_copy_inconsistent() {
    type Unrest = fn(&mut support::State);
    let cases: [(&str, Unrest); 4] = [
        ("vanished", |state| {
            state.put("spool/a/9.", b"x");
            state.set_fate("spool/a/9.", Fate::Vanish);
        }),
        ("changed", |state| {
            state.put("spool/a/9.", b"x");
            state.set_fate("spool/a/9.", Fate::Grow);
        }),
        ("/var/spool moved", |state| state.moved = vec!["/var/spool moved".into()]),
        ("something else started mail", |state| state.started_by_other = true),
    ];
    for (remark, unrest) in cases {
        let (target, server) = (Target::new(), Server::new(true));
        server.at_each_step(move |step, state| {
            if step == "quiesce" {
                unrest(state);
            }
            Then::GoOn
        });
        let summary = pull(&target, &server).unwrap();
        assert!(!summary.consistent, "{remark}");
        assert_eq!(summary.exit_code(), 2, "{remark}");
        assert!(summary.remarks.iter().any(|line| line.contains(remark)), "{remark}: {:?}", summary.remarks);
        assert_eq!(target.snapshots(), 1);
    }
}

#[test]
fn a_final_pass_that_is_kept_crosses_the_link_when_mail_runs_again() {
    let (target, server) = (Target::new(), Server::new(true));
    server.state().keeps = Ok(String::new());
    server.at_each_step(|step, state| {
        if step == "freeze" {
            state.put("spool/a/9.", b"came while mail ran");
        }
        if step == "pass 2 final" {
            assert!(state.mail_runs, "the pass begins while mail is stopped");
        }
        Then::GoOn
    });
    let how = How::default();
    let summary = how.pull(&target, &server).unwrap();
    let steps = ["configure", "pass 1 live", "freeze", "resume", "pass 2 final", "goodbye"];
    assert_eq!(server.events(), steps);
    assert!(summary.consistent && summary.remarks.is_empty(), "{:?}", summary.remarks);
    assert_eq!(target.contents()["spool/a/9."], b"came while mail ran");
    let told = how.told();
    let place = |what: &str| told.iter().position(|line| line == what).unwrap();
    assert!(place("window closed") < place("phase final"), "{told:?}");
    let manifest = target.repository.snapshots(&mailkeep_repository::LogMonitor).unwrap().remove(0).manifest;
    assert_eq!(manifest.window.unwrap().freeze_ms, 5);
    let how = manifest.versions.iter().find(|(name, _)| name == "freeze").unwrap();
    assert_eq!(how.1, "staged: 2 files, 9 bytes copied");
}

#[test]
fn how_it_was_kept_stands_in_the_manifest_and_in_the_dry_run() {
    let (target, server) = (Target::new(), Server::new(true));
    server.state().keeps = Ok("btrfs snapshot: /spool".into());
    let summary = pull(&target, &server).unwrap();
    assert!(summary.consistent && summary.remarks.is_empty(), "{:?}", summary.remarks);
    let how_kept = || {
        let newest = target.repository.snapshots(&mailkeep_repository::LogMonitor).unwrap().pop().unwrap();
        newest.manifest.versions.into_iter().find(|(name, _)| name == "freeze").map(|(_, how)| how)
    };
    assert_eq!(how_kept().unwrap(), "btrfs snapshot: /spool; staged: 2 files, 9 bytes copied");
    let dry = |how: &How| {
        how.with(&server, |source, options, news| survey(&target.repository, source, options, news))
            .unwrap()
            .freeze
    };
    assert_eq!(dry(&How::default()).unwrap(), "btrfs snapshot: /spool; else by open files and copies");
    assert_eq!(dry(&How { live_only: true, ..How::default() }), None);

    // Where the admin does not want it the agent is not even asked.
    server.events();
    let off = How { freeze: "off", ..How::default() };
    assert!(off.pull(&target, &server).unwrap().consistent);
    let steps = ["configure", "pass 1 live", "quiesce", "pass 2 final", "recheck", "resume", "goodbye"];
    assert_eq!(server.events(), steps);
    assert_eq!(how_kept().unwrap(), "over the link: freeze is \"off\" in the source file");
    assert_eq!(dry(&off).unwrap(), "over the link");
}

#[test]
fn a_stage_that_fills_up_makes_the_final_pass_one_over_the_link() {
    let (target, server) = (Target::new(), Server::new(true));
    server.state().keeps = Ok(String::new());
    server.state().stage_full = true;
    let summary = pull(&target, &server).unwrap();
    let steps = ["configure", "pass 1 live", "freeze", "pass 2 final", "recheck", "resume", "goodbye"];
    assert_eq!(server.events(), steps);
    assert!(summary.consistent);
    assert!(summary.remarks.iter().any(|line| line.contains("the stage is full")), "{:?}", summary.remarks);
}

#[test]
fn without_room_for_a_stage_that_is_said_and_the_window_is_as_ever() {
    let (target, server) = (Target::new(), Server::new(true));
    server.state().keeps = Err("the disk is nearly full".into());
    let summary = pull(&target, &server).unwrap();
    let steps = ["configure", "pass 1 live", "quiesce", "pass 2 final", "recheck", "resume", "goodbye"];
    assert_eq!(server.events(), steps);
    assert!(summary.consistent);
    assert!(summary.remarks.iter().any(|line| line.contains("nearly full")), "{:?}", summary.remarks);
}

#[test]
fn what_was_not_kept_and_moved_since_makes_the_copy_inconsistent() {
    type Unrest = fn(&mut support::State);
    let cases: [(&str, &str, Unrest); 4] = [
        ("vanished", "resume", |state| {
            state.put("spool/a/9.", b"x");
            state.set_fate("spool/a/9.", Fate::Vanish);
        }),
        ("changed", "resume", |state| {
            state.put("spool/a/9.", b"x");
            state.set_fate("spool/a/9.", Fate::Grow);
        }),
        ("/var/spool moved", "freeze", |state| state.moved = vec!["/var/spool moved".into()]),
        ("something else started mail", "freeze", |state| state.started_by_other = true),
    ];
    for (remark, when, unrest) in cases {
        let (target, server) = (Target::new(), Server::new(true));
        server.state().keeps = Ok(String::new());
        server.at_each_step(move |step, state| {
            if step == when {
                unrest(state);
            }
            Then::GoOn
        });
        let summary = pull(&target, &server).unwrap();
        assert!(!summary.consistent, "{remark}");
        assert_eq!(summary.exit_code(), 2, "{remark}");
        assert!(summary.remarks.iter().any(|line| line.contains(remark)), "{remark}: {:?}", summary.remarks);
    }
}

#[test]
fn a_link_that_is_cut_at_any_step_of_a_kept_window_leaves_mail_running_and_nothing_sealed() {
    for cut in ["freeze", "resume", "pass 2 final", "file spool/a/9."] {
        let (target, server) = (Target::new(), Server::new(true));
        server.state().keeps = Ok(String::new());
        server.at_each_step(move |step, state| {
            if step == "freeze" {
                state.put("spool/a/9.", b"new");
            }
            if step == cut { Then::Cut } else { Then::GoOn }
        });
        pull(&target, &server).unwrap_err();
        server.events();
        assert!(server.state().mail_runs, "{cut}");
        assert_eq!(target.snapshots(), 0, "{cut}");
        server.at_each_step(|_, _| Then::GoOn);
        assert!(pull(&target, &server).unwrap().consistent, "{cut}");
    }
}

#[test]
fn what_moves_in_a_live_pass_is_read_again_and_no_matter() {
    let (target, server) = (Target::new(), Server::new(true));
    server.state().set_fate("spool/a/1.", Fate::Vanish);
    server.state().set_fate("spool/a/2.", Fate::Fail);
    server.at_each_step(|step, state| {
        if step == "quiesce" {
            state.set_fate("spool/a/1.", Fate::Read);
            state.set_fate("spool/a/2.", Fate::Read);
        }
        Then::GoOn
    });
    let summary = pull(&target, &server).unwrap();
    assert!(summary.consistent && summary.exit_code() == 0, "{summary:?}");
    assert_eq!(target.contents().len(), 4);
}

#[test]
fn what_cannot_be_read_is_listed_and_the_run_exits_2() {
    let (target, server) = (Target::new(), Server::new(true));
    server.state().set_fate("spool/a/2.", Fate::Fail);
    server.state().problems = vec![
        Problem { what: "cannot open".into(), path: "/spool/x\n".into(), missing: true },
        Problem { what: "looks odd".into(), path: String::new(), missing: false },
    ];
    let how = How::default();
    let summary = how.pull(&target, &server).unwrap();
    assert_eq!(summary.exit_code(), 2);
    // The next pass said the same again: once is enough.
    assert_eq!(summary.problem_count, 2);
    assert_eq!(summary.problems[0].path, "/spool/x?");
    assert_eq!(summary.problems[1].path, "/spool/a/2.");
    assert!(summary.remarks.iter().any(|line| line == "looks odd"));
    assert!(summary.consistent);
    assert_eq!(target.contents().len(), 3);
    let problems = how.told().iter().filter(|line| line.starts_with("problem")).count();
    assert_eq!(problems, 3);
}

/// What is not in the live pass's tree, and has not changed either, would never come.
#[test]
fn an_agent_may_leave_out_what_is_as_it_was_only_if_the_live_pass_lacks_nothing() {
    let unseen = Problem { what: "cannot open".into(), path: "/spool/x".into(), missing: true };
    for (number, (fate, problems, remembers)) in [
        (Fate::Read, vec![], true),
        (Fate::Grow, vec![], true),
        (Fate::Fail, vec![], false),
        (Fate::Read, vec![unseen], false),
    ]
    .into_iter()
    .enumerate()
    {
        let (target, server) = (Target::new(), Server::new(true));
        server.state().set_fate("spool/a/2.", fate);
        server.state().problems = problems;
        server.at_each_step(|step, state| {
            if step == "quiesce" {
                state.set_fate("spool/a/2.", Fate::Read);
            }
            Then::GoOn
        });
        assert!(pull(&target, &server).unwrap().consistent, "{number}");
        server.events();
        assert_eq!(server.state().remembers, remembers, "{number}");
        assert_eq!(target.contents().len(), 4, "{number}");
    }
}

#[test]
fn a_live_copy_never_stops_mail_and_says_so() {
    let (target, server) = (Target::new(), Server::new(true));
    let how = How { live_only: true, ..How::default() };
    let summary = how.pull(&target, &server).unwrap();
    assert_eq!(server.events(), ["configure", "pass 1 live", "goodbye"]);
    assert!(!summary.consistent);
    assert_eq!((summary.exit_code(), summary.window_ms), (0, None));
    assert!(summary.remarks[0].contains("mail was running"));
}

#[test]
fn a_window_that_does_not_fit_is_not_opened_unless_forced() {
    let (target, server) = (Target::new(), Server::new(true));
    let error = How { budget: Some("0s"), ..How::default() }.pull(&target, &server).unwrap_err();
    assert!(matches!(error, PullError::OverBudget { .. }), "{error}");
    assert_eq!(error.exit_code(), 1);
    let events = server.events();
    assert!(events.len() >= 3 && !events.contains(&"quiesce".to_owned()), "{events:?}");
    assert_eq!(target.snapshots(), 0);
    // What was transferred is not transferred again.
    let forced = How { budget: Some("0s"), force_window: true, ..How::default() };
    let summary = forced.pull(&target, &server).unwrap();
    assert_eq!(summary.passes[0].bytes_sent, 0);
    assert!(summary.consistent);
    // And it was too long, which the summary and the manifest say.
    let told = "mail was away for 0.0 s, 0.0 s longer than outage-budget allows (0 s); most of it was ";
    assert!(summary.remarks.iter().any(|line| line.starts_with(told)), "{:?}", summary.remarks);
    let manifest = target.repository.snapshots(&mailkeep_repository::LogMonitor).unwrap().remove(0).manifest;
    assert_eq!(manifest.remarks, summary.remarks);
}

#[test]
fn a_source_that_cannot_be_stopped_is_consistent_once_nothing_moves() {
    let (target, server) = (Target::new(), Server::new(false));
    let summary = pull(&target, &server).unwrap();
    assert_eq!(server.events(), ["configure", "pass 1 live", "pass 2 live", "goodbye"]);
    assert!(summary.consistent);
    assert_eq!(summary.window_ms, None);
    // Compared with the snapshot nothing has moved: one pass proves it.
    let summary = pull(&target, &server).unwrap();
    assert_eq!(server.events(), ["configure", "pass 1 live", "goodbye"]);
    assert!(summary.consistent);
}

#[test]
fn a_source_that_never_rests_is_sealed_as_what_it_is() {
    let (target, server) = (Target::new(), Server::new(false));
    let mut count = 0;
    server.at_each_step(move |step, state| {
        if step.starts_with("pass") {
            count += 1;
            state.put("spool/log", format!("line {count}").as_bytes());
        }
        Then::GoOn
    });
    let summary = pull(&target, &server).unwrap();
    assert_eq!((summary.consistent, summary.exit_code(), summary.passes.len()), (false, 0, 3));
    assert_eq!(target.contents()["spool/log"], b"line 3");
}

#[test]
fn the_agents_failure_is_told_with_its_hint_and_a_fitting_exit_code() {
    for (said, code) in [(75, 75), (78, 78), (0, 1), (130, 1), (2, 1), (1, 1)] {
        let (target, server) = (Target::new(), Server::new(true));
        server.at_each_step(move |step, _| if step == "quiesce" { Then::Fail(said) } else { Then::GoOn });
        let how = How::default();
        let error = how.pull(&target, &server).unwrap_err();
        assert_eq!(error.exit_code(), code);
        assert_eq!(error.to_string(), "mail1: cannot quiesce at all; look at it");
        assert_eq!(how.told().last().map(String::as_str), Some("window closed"));
        assert_eq!(target.snapshots(), 0);
    }
}

#[test]
fn a_link_that_is_cut_anywhere_leaves_mail_running_and_the_next_backup_is_fine() {
    for cut_at in [
        "configure",
        "pass 1 live",
        "file spool/a/2.",
        "quiesce",
        "pass 2 final",
        "file late",
        "recheck",
        "resume",
    ] {
        let (target, server) = (Target::new(), Server::new(true));
        server.at_each_step(move |step, state| {
            if step == "quiesce" {
                state.put("late", b"came late");
            }
            if step == cut_at { Then::Cut } else { Then::GoOn }
        });
        let how = How::default();
        let error = how.pull(&target, &server).unwrap_err();
        assert_eq!(error.exit_code(), 75, "{cut_at}: {error}");
        assert_eq!(server.events().last().map(String::as_str), Some("eof"), "{cut_at}");
        assert!(server.state().mail_runs, "{cut_at}");
        assert_eq!(target.snapshots(), 0, "{cut_at}");
        let told = how.told();
        let (opened, closed) = (
            told.iter().filter(|line| *line == "window open").count(),
            told.iter().filter(|line| *line == "window closed").count(),
        );
        assert_eq!(opened, closed, "{cut_at}");
        let warned = told.iter().any(|line| line.contains("did not confirm that mail runs"));
        assert_eq!(warned, opened > 0, "{cut_at}");
        server.at_each_step(|_, _| Then::GoOn);
        assert!(pull(&target, &server).unwrap().consistent, "{cut_at}");
    }
}

/// The files that were read since this was asked last.
fn files_read(server: &Server) -> Vec<String> {
    // Waits until nobody speaks any more.
    let mut events = Vec::new();
    {
        let mut state = server.state();
        std::mem::swap(&mut state.events, &mut events);
    }
    server.events();
    events.iter().filter_map(|step| step.strip_prefix("file ")).map(str::to_owned).collect()
}

/// Cuts the link when this step is made for the so-many-th time.
fn cut_at(server: &Server, wanted: &'static str, mut count: usize) {
    server.at_each_step(move |step, _| {
        if step.starts_with(wanted) {
            count -= 1;
            if count == 0 {
                return Then::Cut;
            }
        }
        Then::GoOn
    });
}

fn goes_on(server: &Server) {
    server.at_each_step(|_, _| Then::GoOn);
}

fn checkpoint(target: &Target) -> Option<mailkeep_format::Checkpoint> {
    target.repository.checkpoint("t", &mailkeep_repository::LogMonitor).unwrap()
}

#[test]
fn what_was_read_when_the_link_was_cut_is_not_read_again() {
    for has_parent in [false, true] {
        // The last is the one in which the file's end may have been lost with the link.
        for at in 1..=5 {
            let (target, server) = (Target::new(), Server::new(true));
            if has_parent {
                pull(&target, &server).unwrap();
                let changed = server.state().files.keys().cloned().collect::<Vec<_>>();
                for path in changed {
                    server.state().put(&path, format!("another {path}").as_bytes());
                }
            }
            server.state().put("spool/c/1.", b"new");
            let sealed = target.repository.snapshots(&mailkeep_repository::LogMonitor).unwrap().len();
            files_read(&server);
            cut_at(&server, "file", at);
            assert!(matches!(pull(&target, &server), Err(PullError::Link { .. })));
            let before = files_read(&server);
            assert_eq!(before.len(), at);
            let listed = target.repository.snapshots(&mailkeep_repository::LogMonitor).unwrap().len();
            assert_eq!(listed, sealed, "a checkpoint is no snapshot");
            match at {
                1 => assert!(checkpoint(&target).is_none(), "nothing was read"),
                2 => {}
                _ => assert!(checkpoint(&target).is_some()),
            }

            goes_on(&server);
            let summary = pull(&target, &server).unwrap();
            let after = files_read(&server);
            let surely = &before[..at.saturating_sub(2)];
            assert!(!after.iter().any(|path| surely.contains(path)), "{at}: {before:?}, then {after:?}");
            assert!((6 - at..=5 - surely.len()).contains(&after.len()), "{at}: {before:?}, then {after:?}");
            assert!(summary.consistent && checkpoint(&target).is_none());
            let now: Vec<_> =
                server.state().files.iter().map(|(p, f)| (p.clone(), f.bytes.clone())).collect();
            assert_eq!(target.contents().into_iter().collect::<Vec<_>>(), now);
            // And with that all is as ever.
            pull(&target, &server).unwrap();
            assert_eq!(files_read(&server), Vec::<String>::new());
        }
    }
}

#[test]
fn what_was_read_before_the_window_is_not_read_again_after_it_failed() {
    for (step, budget) in [("quiesce", None), ("pass 2", None), ("recheck", None), ("none", Some("0s"))] {
        let (target, server) = (Target::new(), Server::new(true));
        cut_at(&server, step, 1);
        let how = How { budget: budget.or(Some("600s")), ..How::default() };
        how.pull(&target, &server).unwrap_err();
        assert_eq!(files_read(&server).len(), 4, "{step}");
        goes_on(&server);
        let summary = pull(&target, &server).unwrap();
        assert_eq!(files_read(&server), Vec::<String>::new(), "{step}");
        assert_eq!((target.contents().len(), summary.passes[0].files_changed), (4, 0), "{step}");
    }
}

#[test]
fn what_changed_since_the_cut_is_read_again() {
    let (target, server) = (Target::new(), Server::new(true));
    cut_at(&server, "file", 4);
    pull(&target, &server).unwrap_err();
    files_read(&server);
    goes_on(&server);
    server.state().put("spool/a/1.", b"FIRST message");
    pull(&target, &server).unwrap();
    assert!(files_read(&server).contains(&"spool/a/1.".to_owned()));
    assert_eq!(target.contents()["spool/a/1."], b"FIRST message");
}

#[test]
fn a_box_that_dies_has_kept_what_it_read_some_time_before() {
    let (target, server) = (Target::new(), Server::new(true));
    let repository = target.repository.clone();
    let (mut count, kept) = (0, Arc::new(std::sync::Mutex::new(Vec::new())));
    let told = Arc::clone(&kept);
    server.at_each_step(move |step, _| {
        if step.starts_with("file") {
            count += 1;
            let checkpoint = repository.checkpoint("t", &mailkeep_repository::LogMonitor).unwrap();
            told.lock().unwrap().push((count, checkpoint.map(|checkpoint| checkpoint.sequence)));
        }
        Then::GoOn
    });
    let how = How { keeps_all: true, ..How::default() };
    how.pull(&target, &server).unwrap();
    // When the third file begins the end of the first has been taken in.
    let kept = kept.lock().unwrap().clone();
    assert!(kept[0].1.is_none() && kept[2].1.is_some() && kept[3].1 > kept[2].1, "{kept:?}");
    assert!(checkpoint(&target).is_none(), "it is sealed");
}

#[test]
fn a_server_that_lies_leaves_no_checkpoint_of_that() {
    let (target, server) = (Target::new(), Server::new(true));
    server.state().set_fate("spool/b/1.", Fate::WrongHash);
    server.state().put("spool/b/1.", b"it is another");
    server.state().set_fate("spool/b/1.", Fate::WrongHash);
    assert!(matches!(pull(&target, &server), Err(PullError::Protocol(_))));
    assert!(checkpoint(&target).is_none());
}

#[test]
fn another_machine_of_that_name_does_not_go_on() {
    let (target, server) = (Target::new(), Server::new(true));
    cut_at(&server, "file", 4);
    pull(&target, &server).unwrap_err();
    files_read(&server);
    goes_on(&server);
    server.state().host = "mail2".into();
    pull(&target, &server).unwrap();
    assert_eq!(files_read(&server).len(), 4);
}

#[test]
fn a_cancelled_run_starts_mail_first() {
    for (at, asked_back) in [
        ("configure", false),
        ("file spool/a/1.", false),
        ("quiesce", true),
        ("pass 2 final", true),
        ("file late", true),
        ("recheck", true),
    ] {
        let (target, server) = (Target::new(), Server::new(true));
        let how = How::default();
        let cancel = Arc::clone(&how.cancel);
        server.at_each_step(move |step, state| {
            if step == "quiesce" {
                state.put("late", b"came late");
            }
            if step == at {
                cancel.store(true, Ordering::Relaxed);
            }
            Then::GoOn
        });
        let error = how.pull(&target, &server).unwrap_err();
        assert!(matches!(error, PullError::Interrupted), "{at}: {error}");
        assert_eq!(error.exit_code(), 130);
        let events = server.events();
        assert_eq!(events.contains(&"resume".to_owned()), asked_back, "{at}: {events:?}");
        assert!(server.state().mail_runs, "{at}");
        assert!(!how.told().iter().any(|line| line.contains("did not confirm")), "{at}");
        assert_eq!(target.snapshots(), 0);
        server.at_each_step(|_, _| Then::GoOn);
        assert!(pull(&target, &server).unwrap().consistent, "{at}");
    }
}

#[test]
fn a_disk_that_fails_in_the_window_does_not_keep_mail_stopped() {
    let (target, server) = (Target::new(), Server::new(true));
    let storage = target.storage.clone();
    server.at_each_step(move |step, state| {
        if step == "quiesce" {
            let used = storage.files().values().map(|bytes| bytes.len() as u64).sum::<u64>();
            storage.set_capacity(Some(used));
            // More than is buffered before it is written.
            for number in 0..100_u32 {
                let mut seed = u64::from(number) + 1;
                let noise: Vec<u8> = std::iter::repeat_with(|| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed.to_le_bytes()
                })
                .take(20_000)
                .flatten()
                .collect();
                state.put(&format!("spool/late/{number:04}"), &noise);
            }
        }
        Then::GoOn
    });
    let error = pull(&target, &server).unwrap_err();
    assert!(matches!(error, PullError::Repository(_)), "{error}");
    assert!(server.events().contains(&"resume".to_owned()));
    assert!(server.state().mail_runs);
    target.storage.set_capacity(None);
    server.at_each_step(|_, _| Then::GoOn);
    let reopened = Target { storage: target.storage.clone(), repository: target.reopened() };
    assert!(pull(&reopened, &server).unwrap().consistent);
    assert_eq!(reopened.contents().len(), 104);
}

#[test]
fn a_lying_server_is_broken_off_and_nothing_is_sealed() {
    let (target, server) = (Target::new(), Server::new(true));
    server.state().set_fate("spool/a/2.", Fate::WrongHash);
    let error = pull(&target, &server).unwrap_err();
    assert!(matches!(error, PullError::Protocol(_)), "{error}");
    assert_eq!((error.exit_code(), target.snapshots()), (1, 0));
}

#[test]
fn a_survey_tells_what_would_be_done_and_touches_nothing() {
    let (target, server) = (Target::new(), Server::new(true));
    pull(&target, &server).unwrap();
    server.events();
    server.state().put("spool/a/7.", b"seven");
    let before = target.storage.files();
    let how = How::default();
    let seen =
        how.with(&server, |source, options, news| survey(&target.repository, source, options, news)).unwrap();
    assert_eq!(server.events(), ["configure", "pass 1 live", "goodbye"]);
    assert_eq!(target.storage.files(), before);
    assert_eq!((seen.files, seen.files_to_read, seen.bytes_to_read), (5, 1, 5));
    assert_eq!(seen.quiesce.as_deref(), Some("stop and start by a fake"));
    assert!(seen.parent.is_some());
    assert_eq!(seen.exit_code(), 0);
    // What the agent reckons stands for the last pass; stop, export and start are those of the backup before.
    let window = seen.window.unwrap();
    assert_eq!((window.stop_start_ms, window.kept_on_server), (Some(3 + 2 + 4), false));
    assert_eq!(window.total_ms, window.pass_ms + 9);
    assert_eq!(
        (window.budget_ms, window.deadline_ms, window.guard_lead_ms),
        (600_000, 600_000, Some(65_000))
    );
    server.state().keeps = Ok(String::new());
    let look = || {
        How::default()
            .with(&server, |source, options, news| survey(&target.repository, source, options, news))
    };
    let window = look().unwrap().window.unwrap();
    assert_eq!((window.pass_ms, window.total_ms, window.kept_on_server), (1, 10, true));
    server.state().can_stop = false;
    assert_eq!(look().unwrap().window, None);
}

#[test]
fn a_locked_repository_is_told_before_the_server_is_disturbed() {
    let (target, server) = (Target::new(), Server::new(true));
    let options = mailkeep_repository::WriterOptions::default();
    let _writer = target.repository.writer(&options, &mailkeep_repository::LogMonitor).unwrap();
    assert_eq!(pull(&target, &server).unwrap_err().exit_code(), 11);
    assert!(server.events().is_empty());
}
