//! Chaos in the window (set H): a real Cyrus under load is backed up over a real sshd, and something goes wrong at a
//! random moment while mail is stopped or about to be: the link is cut or goes dead, box or agent are killed or hang,
//! the guard dies with the agent and the server comes up again, stop hangs, start fails, somebody else starts mail, the
//! agent's disk is full. After each: mail answers, not later than the deadline allows; nothing is sealed as consistent
//! that differs from what the server was when it was stopped.
//!
//! The link goes through a relay that can stall as a pulled cable does. `MAILKEEP_CHAOS` is the number of rounds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::cyrus::files::files_are_equal;
use mailkeep_tests::cyrus::load::Load;
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, Transport, cyrus_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process::{self, Running, env_number, processes, run, signal};
use mailkeep_tests::programs::{bin, json_line};
use mailkeep_tests::proxy::Proxy;
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::ssh::{self, Sshd};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

/// After this time the guard starts mail.
const DEADLINE: Duration = Duration::from_secs(20);
/// What a start may take on a busy machine, with two that fail before it.
const START: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    LinkCut,
    LinkDead,
    AgentKilled,
    BoxKilled,
    BothKilled,
    AgentHangs,
    BoxHangs,
    PowerCut,
    StopHangs,
    StartFails,
    StrangerStarts,
    StateFull,
}

const FAULTS: [Fault; 12] = [
    Fault::LinkCut,
    Fault::AgentKilled,
    Fault::StrangerStarts,
    Fault::StartFails,
    Fault::BothKilled,
    Fault::PowerCut,
    Fault::BoxKilled,
    Fault::StateFull,
    Fault::StopHangs,
    Fault::LinkDead,
    Fault::AgentHangs,
    Fault::BoxHangs,
];
/// The first of them take a second or two each, the rest a good part of the deadline.
const QUICK: usize = 8;

struct Lab {
    // Dropped in this order: the server before the folder that it lies in.
    server: Cyrus,
    proxy: Proxy,
    _sshd: Sshd,
    rig: Rig,
    source: PathBuf,
    home: tempfile::TempDir,
}

impl Lab {
    fn new() -> Result<Option<Lab>> {
        if let Some(why) = cyrus::missing().or_else(ssh::missing) {
            process::skip(&why)?;
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        let rig = Rig::new(home.path())?;
        let sshd = Sshd::start(&home.path().join("ssh"))?;
        let proxy = Proxy::to(sshd.port())?;
        let server = Cyrus::create(&home.path().join("server"), &["alice", "bob"], Layout::Uuid)?;
        server.start()?;
        populate(&server, 60, 5)?;
        let deadline = format!("{}s", DEADLINE.as_secs());
        let options = Options { transport: Transport::Ssh(&sshd), deadline: &deadline, ..Options::default() };
        let source = cyrus_source(&home.path().join("lab.toml"), &server, &options)?;
        // The same server by way of the relay.
        let (direct, relayed) = (format!("port = {}\n", sshd.port()), format!("port = {}\n", proxy.port()));
        let text = fs::read_to_string(&source)?;
        ensure!(text.contains(&direct), "{text}");
        fs::write(&source, text.replace(&direct, &relayed))?;
        let hosts = fs::read_to_string(sshd.known_hosts())?;
        let line = hosts.replace(&format!(":{} ", sshd.port()), &format!(":{} ", proxy.port()));
        let line = line.replace(&format!("]:{}", sshd.port()), &format!("]:{}", proxy.port()));
        fs::write(sshd.known_hosts(), format!("{hosts}{line}"))?;
        Ok(Some(Lab { server, proxy, _sshd: sshd, rig, source, home }))
    }

    fn stops(&self) -> usize {
        self.server.events().iter().filter(|event| *event == "stop").count()
    }

    /// The working agents of this server; the guards carry the same environment and another verb.
    fn agents(&self) -> Vec<u32> {
        let state = format!("MAILKEEP_AGENT_STATE={}", self.server.agent_state().display());
        let has = |pid: u32, file: &str, word: &[u8]| {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            text.split(|byte| *byte == 0).any(|part| part == word)
        };
        let ours = |pid: &u32| has(*pid, "cmdline", b"serve") && has(*pid, "environ", state.as_bytes());
        processes().into_iter().map(|process| process.pid).filter(ours).collect()
    }

    fn kill_agents(&self) {
        self.agents().into_iter().for_each(|pid| signal(pid, Signal::KILL));
    }

    /// One round; tells how long mail was away.
    fn round(&self, number: usize, fault: Fault, rng: &mut Rng) -> Result<Duration> {
        let truth = self.home.path().join(format!("truth-{number}"));
        self.server.keep_truth_in(&truth)?;
        let before = self.rig.snapshots()?;
        let stops = self.stops();
        match fault {
            Fault::StopHangs => fs::write(self.server.root().join("run/hang-stop"), "")?,
            Fault::StartFails => self.server.fail_starts(1 + rng.below(2) as u32)?,
            _ => {}
        }
        let mut backup = Running::spawn(&mut self.rig.backup_command(&self.source))?;
        let began = Instant::now();
        while self.stops() == stops && !backup.ended()? {
            ensure!(began.elapsed() < process::HANG, "the backup never stopped mail");
            std::thread::sleep(Duration::from_millis(1));
        }
        let stopped = Instant::now();
        std::thread::sleep(Duration::from_micros(rng.below(if number % 2 == 0 { 60_000 } else { 700_000 })));
        let frozen = self.strike(fault, &mut backup)?;
        let back = self.server.wait_for_greeting(DEADLINE + START);
        // A greeting may be that of a server that is about to be stopped.
        let back = back.and_then(|()| self.settled(stopped));
        let away = stopped.elapsed();
        frozen.iter().for_each(|pid| signal(*pid, Signal::CONT));
        self.proxy.stall(false);
        if fault == Fault::LinkDead {
            self.proxy.cut();
        }
        back.with_context(|| format!("mail does not answer: {}", self.server.diagnosis()))?;
        ensure!(away < DEADLINE + START, "mail was away for {away:?}");
        let output = backup.wait(process::HANG)?;
        ensure!(!output.err().contains("panicked at"), "{}", output.err());
        self.server.wait_for_greeting(START).context("after the backup has ended")?;
        if let Ok(summary) = json_line(&output.out(), "summary") {
            self.judge(&summary, &truth, number)?;
        } else {
            ensure!(output.code != 0, "done, and no summary: {}", output.out());
            ensure!(self.rig.snapshots()? == before, "a run that failed has sealed a snapshot");
        }
        if truth.exists() {
            fs::remove_dir_all(&truth)?;
        }
        let _ = fs::remove_file(self.server.root().join("run/hang-stop"));
        self.server.fail_starts(0)?;
        eprintln!("round {number}: {fault:?}, mail was away for {away:?}, exit {}", output.code);
        Ok(away)
    }

    fn strike(&self, fault: Fault, backup: &mut Running) -> Result<Vec<u32>> {
        let freeze = |pids: Vec<u32>| {
            pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
            pids
        };
        match fault {
            Fault::LinkCut => self.proxy.cut(),
            Fault::LinkDead => self.proxy.stall(true),
            Fault::AgentKilled => self.kill_agents(),
            Fault::BoxKilled => backup.kill_alone(),
            Fault::BothKilled => {
                self.kill_agents();
                backup.kill_alone();
            }
            Fault::AgentHangs => return Ok(freeze(self.agents())),
            Fault::BoxHangs => return Ok(freeze(vec![backup.pid()])),
            Fault::PowerCut => {
                // All that is left of the run on the server dies at once; the boot runs the rescue.
                let dying: Vec<u32> = self.server.guards().into_iter().chain(self.agents()).collect();
                dying.into_iter().for_each(|pid| signal(pid, Signal::KILL));
                // A boot finds none of them; a signal takes its time, and a lock goes with its owner.
                self.gone()?;
                let mut rescue = Command::new(bin("mailkeep-agent")?);
                rescue.arg("rescue").env("MAILKEEP_AGENT_STATE", self.server.agent_state());
                run(rescue.env("MAILKEEP_AGENT_BOOT", "no"))?.expect_code("rescue", 0)?;
            }
            Fault::StrangerStarts => {
                // What a package upgrade or a monitor does. The stop script may be at work.
                let _ = run(&mut Command::new(self.server.script("start")))?;
            }
            Fault::StopHangs | Fault::StartFails | Fault::StateFull => {}
        }
        Ok(Vec::new())
    }

    /// Waits until no agent and no guard of this server is left, nor any of their locks: a process of several threads
    /// looks dead before the last of them has let go.
    fn gone(&self) -> Result<()> {
        let free = |file: PathBuf| {
            let opened = fs::OpenOptions::new().write(true).open(file);
            opened.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
        };
        let began = Instant::now();
        loop {
            let folders = fs::read_dir(self.server.agent_state()).into_iter().flatten().flatten();
            let locks =
                folders.flat_map(|folder| ["agent.lock", "guard.lock"].map(|name| folder.path().join(name)));
            let held = locks.filter(|lock| lock.exists() && !free(lock.clone())).count();
            if held == 0 && self.agents().is_empty() && self.server.guards().is_empty() {
                return Ok(());
            }
            ensure!(began.elapsed() < process::HANG, "an agent or a guard survived its kill");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// No window is open any more and mail greets.
    fn settled(&self, stopped: Instant) -> Result<()> {
        loop {
            let folders = fs::read_dir(self.server.agent_state()).into_iter().flatten().flatten();
            let open = folders.filter(|folder| folder.path().join("intent.json").exists()).count();
            if open == 0 && self.server.greets() {
                return Ok(());
            }
            if stopped.elapsed() > DEADLINE + START {
                bail!("{open} windows are open");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A snapshot that says that it is consistent is the server as it was when it was stopped.
    fn judge(&self, summary: &serde_json::Value, truth: &Path, number: usize) -> Result<()> {
        if summary["consistent"] != true {
            return Ok(());
        }
        ensure!(summary["mail_check"]["ok"] == true, "consistent, and the mail check failed: {summary}");
        let target = self.home.path().join(format!("restored-{number}"));
        let restored = self.rig.restore(&id(summary)?, &target, self.server.root())?;
        let equal = files_are_equal(truth, &restored);
        fs::remove_dir_all(&target)?;
        equal.context("sealed as consistent, and it is not")
    }
}

#[test]
fn mail_answers_whatever_happens_and_nothing_torn_is_called_consistent() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    lab.rig.good_backup(&lab.source)?;
    let (mut rng, seed) = Rng::of_run();
    eprintln!("seed {seed}");
    let load = Load::start(&lab.server, 1, 9);
    let mut longest = Duration::ZERO;
    for number in 0..env_number("MAILKEEP_CHAOS", 14) {
        // All of them, and then the quick ones more often.
        let any = |count: usize, rng: &mut Rng| FAULTS[rng.below(count as u64) as usize];
        let fault = match FAULTS.get(number) {
            Some(fault) => *fault,
            None if number < 20 => any(QUICK, &mut rng),
            None => any(FAULTS.len(), &mut rng),
        };
        let context = || format!("round {number}: {fault:?}, seed {seed}");
        load.wait_for(3).with_context(context)?;
        if fault == Fault::StateFull {
            full_state(&lab).with_context(context)?;
            continue;
        }
        longest = longest.max(lab.round(number, fault, &mut rng).with_context(context)?);
        if number % 5 == 4 {
            lab.rig.good_backup_within(&lab.source, DEADLINE * 3).with_context(context)?;
        }
    }
    load.stop();
    eprintln!("mail was away for {longest:?} at most");
    lab.rig.good_backup_within(&lab.source, DEADLINE * 3)?;
    lab.rig.verify_all()
}

/// A server whose disk is full where the intent has to lie: nothing is stopped.
fn full_state(lab: &Lab) -> Result<()> {
    let state = lab.server.agent_state();
    fs::create_dir_all(&state)?;
    let mount =
        |words: &[&str]| run(Command::new(words[0]).args(&words[1..]).arg(&state))?.expect_code(words[0], 0);
    mount(&["mount", "-t", "tmpfs", "-o", "size=16k,mode=0700", "lab"])?;
    let filled = fs::write(state.join("ballast"), vec![7u8; 64 << 10]);
    let stops = lab.stops();
    let output = run(&mut lab.rig.backup_command(&lab.source));
    mount(&["umount"])?;
    ensure!(filled.is_err(), "it is not full");
    let output = output?;
    ensure!(output.code == 1 && lab.stops() == stops, "mail was stopped without an intent: {}", output.err());
    lab.server.wait_for_greeting(START)
}
