//! Mail held still by Cyrus' global lock: nothing is stopped, nothing writes, and whatever dies, the lock is given back.
//!
//! Cyrus 3.12 is in no package of this system, so its three programs are stood in for by scripts that do with flock(1)
//! what `imap/cyr_withlock_run.c` does: take the lock, tell the child by its environment, run it, wait for it. A mail
//! server that writes under the same lock runs beside.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mailkeep_link::message::{Quiesce, ToAgent, ToBox};
use rustix::process::{Signal, kill_process};
use support::{Agent, Mail, wait_for};

/// A mail service and a writer that respects the lock.
struct Held {
    mail: Mail,
    writer: Child,
}

impl Held {
    fn new() -> Option<Held> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: the programs of Cyrus are run as another user, which needs root");
            return None;
        }
        let mail = Mail::new();
        let base = mail.path("");
        let base = base.display().to_string();
        let base = base.trim_end_matches('/');
        fs::create_dir_all(mail.path("bin")).unwrap();
        fs::create_dir_all(mail.path("conf")).unwrap();
        fs::write(
            mail.path("imapd.conf"),
            format!("configdirectory: {base}/conf\ndefaultpartition: a\npartition-a: {base}/spool\n"),
        )
        .unwrap();
        mail.script("bin/cyr_info", "echo cyrus-imapd 3.12.1\n");
        mail.script(
            "bin/cyr_withlock_run",
            &format!(
                "[ \"$1\" = -C ] || exit 1\nshift 2\nexec 9>{base}/lock\nflock 9 || exit 1\n\
                 export CYRUS_HAVELOCK_GLOBAL=1\n[ -e {base}/refuse ] && exit 1\n\"$@\" || exit 1\n"
            ),
        );
        mail.script(
            "bin/ctl_mboxlist",
            &format!("[ -n \"$CYRUS_HAVELOCK_GLOBAL\" ] || flock {base}/lock true\necho '{{}}'\n"),
        );
        mail.script(
            "writer",
            &format!(
                "while [ -e {base}/spool ]; do flock -s {base}/lock sh -c 'echo x >> {base}/spool/log.'; sleep 0.02; done\n"
            ),
        );
        let writer = Command::new(mail.path("writer")).stdin(Stdio::null()).spawn().unwrap();
        let held = Held { mail, writer };
        wait_for("the writer", || held.written() > 2);
        Some(held)
    }

    fn source(&self) -> String {
        let path = |name: &str| self.mail.path(name).display().to_string();
        format!(
            "name = \"mail1\"\nsystem = \"cyrus\"\n[transport]\nkind = \"local\"\n\
             [cyrus]\nimapd-conf = {:?}\ncyrus-user = \"root\"\nbin-dir = {:?}\n\
             [quiesce]\nprobe = \"imap://127.0.0.1:{}\"\n",
            path("imapd.conf"),
            path("bin"),
            self.mail.port(),
        )
    }

    fn written(&self) -> u64 {
        fs::metadata(self.mail.path("spool/log.")).map_or(0, |stat| stat.len())
    }

    /// Whether somebody writes within a second.
    fn is_written(&self) -> bool {
        let before = self.written();
        let end = std::time::Instant::now() + Duration::from_secs(1);
        while self.written() == before && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.written() != before
    }

    fn hold(&self, deadline: u32) -> Agent {
        let agent = Agent::start(&self.mail.state());
        let rung = agent.configure(&self.source()).quiesce.unwrap();
        assert!(rung.contains("global lock") && rung.contains("3.12.1"), "{rung}");
        assert!(agent.stop_mail(deadline).has_list);
        assert!(!self.is_written(), "it was written under the lock");
        assert!(self.mail.is_up(), "nothing has to be stopped");
        agent
    }

    fn wait_until_free(&self) {
        wait_for("the lock to be free", || self.is_written());
        wait_for("the guard's end", || self.mail.settled());
        assert_eq!((self.mail.count("stop"), self.mail.count("start")), (0, 1));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.writer.kill();
        let _ = self.writer.wait();
    }
}

/// Not a test: the mail service that the scripts of [`Mail`] start.
#[test]
#[ignore = "run by the start script of the fake mail service"]
fn greeter_process() {
    support::greet_for_ever();
}

#[test]
fn a_whole_window_under_the_lock() {
    let Some(held) = Held::new() else { return };
    let agent = held.hold(600);
    let copy = agent.pass(1, true);
    assert_eq!(copy.bytes(&held.mail.path("spool/log.")).len() as u64, held.written());
    assert_eq!(copy.bytes(Path::new("/.mailkeep/mailboxlist")), b"{}\n");
    assert_eq!(agent.recheck(), Vec::<String>::new());
    assert!(!agent.resume().started_by_other);
    held.wait_until_free();
    agent.goodbye();
}

#[test]
fn whatever_ends_the_agent_gives_the_lock_back() {
    for signal in [Some(Signal::KILL), Some(Signal::TERM), None] {
        let Some(held) = Held::new() else { return };
        let agent = held.hold(600);
        match signal {
            Some(signal) => agent.signal(signal),
            None => drop(agent.end()),
        }
        held.wait_until_free();
    }
}

#[test]
fn an_agent_that_hangs_loses_the_lock_at_the_deadline_and_the_copy_is_not_quiet() {
    let Some(held) = Held::new() else { return };
    let agent = held.hold(30);
    agent.signal(Signal::STOP);
    held.wait_until_free();
    agent.signal(Signal::CONT);
    agent.pass(1, true);
    assert!(!agent.recheck().is_empty());
    assert!(agent.resume().started_by_other);
}

#[test]
fn a_lock_that_is_lost_inside_the_window_is_noticed() {
    let Some(held) = Held::new() else { return };
    let agent = held.hold(600);
    agent.pass(1, true);
    let token = held.mail.token();
    let release =
        Command::new(env!("CARGO_BIN_EXE_mailkeep-agent")).args(["release", "--token", &token]).status();
    assert!(release.unwrap().success());
    let moved = agent.recheck();
    assert!(moved.iter().any(|line| line.contains("mail runs")), "{moved:?}");
    assert!(agent.resume().started_by_other);
    held.wait_until_free();
}

#[test]
fn a_lock_that_is_not_to_be_had_stops_nothing() {
    for (knob, word) in [("refuse", "ended with"), ("busy", "not to be had")] {
        let Some(held) = Held::new() else { return };
        held.mail.set(knob);
        let mut other = (knob == "busy").then(|| {
            let lock = held.mail.path("lock");
            let mut flock = Command::new("flock");
            flock
                .arg(lock)
                .args(["sh", "-c", "echo got; exec sleep 600"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        });
        if let Some(other) = &mut other {
            let mut said = [0; 3];
            std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut said).unwrap();
        }
        let agent = Agent::start(&held.mail.state());
        agent.configure(&held.source());
        agent.send(ToAgent::Quiesce(Quiesce { deadline_seconds: 30 }));
        let ToBox::Failed(failed) = agent.receive().unwrap() else { panic!("it was had") };
        assert!(failed.what.contains("the lock") && failed.what.contains(word), "{}", failed.what);
        if let Some(other) = &mut other {
            // flock(1) waits for its child, which has the lock too.
            let pid = i32::try_from(other.id()).unwrap();
            for child in support::children(pid) {
                let _ = kill_process(child, Signal::KILL);
            }
            other.wait().unwrap();
        }
        held.wait_until_free();
    }
}
