//! What a key is for is said where the agent is called, not by the box: one for restores neither reads mail nor stops it, and
//! neither has other commands run than those that are allowed there.

#![allow(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

mod support;

use mailkeep_format::Timestamp;
use mailkeep_link::Options;
use mailkeep_link::message::{
    BeginPass, Configure, DirectoryId, FileId, Known, Need, Quiesce, Squeeze, ToAgent, ToBox, Want,
};
use mailkeep_link::rebuild::{List, Look, Promote, Raise, Swap};
use mailkeep_mail::Source;
use support::{Agent, Mail, wait_for};

/// Not a test: the mail service that the scripts of [`Mail`] start.
#[test]
#[ignore = "run by the start script of the fake mail service"]
fn greeter_process() {
    support::greet_for_ever();
}

const RESTORE: &[&str] = &["serve", "--role", "restore"];

fn asks() -> Vec<ToAgent> {
    let (directory, first) = (DirectoryId(0), 0);
    let clock = Timestamp { seconds: 0, nanos: 0 };
    let file = FileId { directory, index: 0 };
    vec![
        ToAgent::BeginPass(BeginPass { number: 1, is_final: false }),
        ToAgent::Known(Known { clock, folders: Vec::new() }),
        ToAgent::Want(Want { directory, first, files: Vec::new() }),
        ToAgent::Need(Need { file, first, chunks: Vec::new() }),
        ToAgent::Prepare,
        ToAgent::Quiesce(Quiesce { deadline_seconds: 60 }),
        ToAgent::Freeze(Quiesce { deadline_seconds: 60 }),
        ToAgent::Recheck,
        ToAgent::Resume,
        ToAgent::Squeeze(Squeeze { on: true }),
    ]
}

#[test]
fn a_key_for_restores_learns_what_the_server_is_and_nothing_else() {
    let mail = Mail::new();
    for ask in asks() {
        let said = format!("{ask:?}");
        let agent = Agent::start_with(&mail.state(), RESTORE, &Options::new("test"));
        let configured = agent.configure(&mail.source(""));
        assert_eq!(configured.roots, [mail.path("spool").display().to_string()]);
        agent.send(ask);
        let ToBox::Failed(failed) = agent.receive().unwrap() else { panic!("{said}: not refused") };
        assert!(failed.what.starts_with("a key for restore may not say "), "{said}: {}", failed.what);
        assert_eq!((failed.exit_code, failed.what.lines().count()), (77, 1), "{said}");
        assert_eq!(agent.end(), Some(77), "{said}");
    }
    assert_eq!(mail.count("stop"), 0, "mail was stopped");
    assert!(mail.is_up());
}

#[test]
fn a_key_for_backups_rebuilds_nothing() {
    let mail = Mail::new();
    let raise = Raise { snapshot: "s".into(), trial: true, users: Vec::new(), groups: Vec::new() };
    let asks = [
        ToAgent::Trees,
        ToAgent::Raise(raise),
        ToAgent::Settle,
        ToAgent::Raised,
        ToAgent::Swap(Swap { standby: true }),
        ToAgent::Drop,
        ToAgent::Promote(Promote { event: "START".into() }),
        ToAgent::List(List { is_last: true, bytes: b"{}".to_vec().into() }),
        ToAgent::Look(Look { mailboxes: Vec::new() }),
    ];
    for ask in asks {
        let said = format!("{ask:?}");
        let agent = Agent::start(&mail.state());
        agent.configure(&mail.source(""));
        agent.send(ask);
        let ToBox::Failed(failed) = agent.receive().unwrap() else { panic!("{said}: not refused") };
        assert!(failed.what.starts_with("a key for backup may not say "), "{said}: {}", failed.what);
        assert_eq!((failed.exit_code, agent.end()), (77, Some(77)), "{said}");
    }
    assert!(mail.is_up() && mail.count("stop") == 0);
}

#[test]
fn a_key_for_restores_says_goodbye_like_any_other() {
    let mail = Mail::new();
    let agent = Agent::start_with(&mail.state(), RESTORE, &Options::new("test"));
    agent.configure(&mail.source(""));
    agent.goodbye();
}

#[test]
fn a_key_for_backups_and_one_older_than_roles_back_up() {
    let mail = Mail::new();
    for words in [&["serve", "--role", "backup"][..], &["serve"]] {
        let agent = Agent::start_with(&mail.state(), words, &Options::new("test"));
        agent.configure(&mail.source(""));
        let copy = agent.pass(1, false);
        assert_eq!(copy.bytes(&mail.path("spool/1.")), b"Subject: one\r\n\r\nHello.\r\n");
        agent.stop_mail(60);
        agent.resume();
        agent.goodbye();
    }
    assert_eq!(mail.count("stop"), 2);
    wait_for("the window's end", || mail.settled());
}

#[test]
fn other_commands_than_the_allowed_ones_are_never_run() {
    let mail = Mail::new();
    let source = mail.source("");
    let digest = Source::parse(&source, "test").unwrap().commands_digest().to_string();
    let ran = mail.path("ran");
    mail.script("other", &format!("echo \"$0 $*\" >> {}; exit 1\n", ran.display()));
    let other = mail.path("other").display().to_string();
    let named = |key: &str| source.replace(&mail.path(key).display().to_string(), &other);
    let running = mail.source(&format!("running = [{other:?}]"));
    let hooks = mail.source(&format!("[standby]\nof = \"a\"\nhooks = [[{other:?}]]"));
    let cyrus = source.replace("\"generic\"", "\"cyrus\"");
    for role in ["backup", "restore"] {
        let words = ["serve", "--role", role, "--commands", &digest];
        for text in [&named("stop"), &named("start"), &running, &hooks, &cyrus] {
            let agent = Agent::start_with(&mail.state(), &words, &Options::new("test"));
            agent.send(ToAgent::Configure(Configure { source: text.clone() }));
            let ToBox::Failed(failed) = agent.receive().unwrap() else { panic!("not refused: {text}") };
            assert!(failed.what.contains("`mailkeep pair` again"), "{}", failed.what);
            assert_eq!(
                (failed.exit_code, failed.what.lines().count(), agent.end()),
                (77, 1, Some(77)),
                "{text}"
            );
        }
        let agent = Agent::start_with(&mail.state(), &words, &Options::new("test"));
        agent.configure(&source);
        agent.goodbye();
    }
    assert!(!ran.exists(), "{:?}", std::fs::read_to_string(&ran));
    assert!(mail.is_up() && mail.count("stop") == 0);
    // By a key that nothing is pinned for it is run: what is looked for above is what would be there.
    let agent = Agent::start(&mail.state());
    agent.configure(&running);
    drop(agent.quiesce(60));
    assert!(ran.exists());
    agent.resume();
    agent.goodbye();
    wait_for("the window's end", || mail.settled());
}
