//! A Cyrus master that hangs in its own shutdown (cyrus-imapd 5309): it is recognised while the stop still waits for it,
//! ended, and the window goes on. The master is a shell under its name that turns and turns, as the real one does.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Child, Command, Stdio};

use mailkeep_link::message::{Quiesce, ToAgent, ToBox};
use support::{Agent, Mail, wait_for};

/// Not a test: the mail service that the scripts of [`Mail`] start.
#[test]
#[ignore = "run by the start script of the fake mail service"]
fn greeter_process() {
    support::greet_for_ever();
}

/// A service whose stop waits for its master, with a master that does this.
fn served(script: &str) -> Option<(Mail, Child)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: the programs of Cyrus are run as another user, which needs root");
        return None;
    }
    let mail = Mail::new();
    let base = mail.path("").display().to_string();
    let base = base.trim_end_matches('/');
    for folder in ["bin", "conf"] {
        fs::create_dir_all(mail.path(folder)).unwrap();
    }
    let conf = mail.path("imapd.conf");
    let text = format!("configdirectory: {base}/conf\ndefaultpartition: a\npartition-a: {base}/spool\n");
    fs::write(&conf, text).unwrap();
    mail.script("bin/cyr_info", "echo cyrus-imapd 3.6.1\n");
    mail.script("bin/ctl_mboxlist", "echo '{}'\n");
    // The kernel takes a process's name from the file. A child makes it, for the reason at `Mail::script`.
    assert!(Command::new("cp").arg("/bin/sh").arg(mail.path("master")).status().unwrap().success());
    let master = Command::new(mail.path("master"))
        .args(["-c", script, "master", "-C"])
        .arg(&conf)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    mail.script(
        "stop",
        &format!(
            "echo stop >> {base}/log\nkill $(cat {base}/pid)\nrm {base}/pid\n\
             while grep -qs . /proc/{}/cmdline; do sleep 0.05; done\necho stopped >> {base}/log\n",
            master.id()
        ),
    );
    Some((mail, master))
}

fn source(mail: &Mail) -> String {
    let path = |name: &str| mail.path(name).display().to_string();
    format!(
        "name = \"mail1\"\nsystem = \"cyrus\"\n[transport]\nkind = \"local\"\n\
         [cyrus]\nimapd-conf = {:?}\ncyrus-user = \"root\"\nbin-dir = {:?}\n\
         [quiesce]\nmode = \"command\"\nstop = [{:?}]\nstart = [{:?}]\nprobe = \"imap://127.0.0.1:{}\"\n",
        path("imapd.conf"),
        path("bin"),
        path("stop"),
        path("start"),
        mail.port(),
    )
}

#[test]
fn a_master_that_hangs_in_its_stop_is_ended_and_the_window_goes_on() {
    let Some((mail, mut master)) = served("while :; do :; done") else { return };
    let agent = Agent::start(&mail.state());
    agent.configure(&source(&mail));
    agent.send(ToAgent::Quiesce(Quiesce { deadline_seconds: 600 }));
    let mut remarks = Vec::new();
    loop {
        match agent.link().receive().unwrap() {
            ToBox::Problem(problem) => remarks.push(problem.what),
            ToBox::Quiesced(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(remarks.iter().any(|what| what.contains("hung") && what.contains("killed")), "{remarks:?}");
    wait_for("the master's end", || master.try_wait().unwrap().is_some());
    assert_eq!(mail.count("stopped"), 1, "the stop came to its end");
    assert!(!mail.is_up());
    assert!(!agent.resume().started_by_other);
    assert!(mail.is_up());
    wait_for("the guard's end", || mail.settled());
    agent.goodbye();
}

#[test]
fn a_master_that_only_takes_its_time_is_left_alone() {
    // It waits, and burns no time, for longer than the first look.
    let Some((mail, mut master)) = served("sleep 12; exit 0") else { return };
    let agent = Agent::start(&mail.state());
    agent.configure(&source(&mail));
    agent.stop_mail(600);
    assert!(master.wait().unwrap().success(), "it was killed");
    agent.resume();
    wait_for("the guard's end", || mail.settled());
    agent.goodbye();
}
