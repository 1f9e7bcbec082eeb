//! Chaos in the window (set H): a real Cyrus under load is backed up over a real sshd, and something goes wrong at a
//! random moment while mail is stopped or about to be: the link is cut or goes dead, box or agent are killed or hang,
//! the guard dies with the agent and the server comes up again, stop hangs, start fails, somebody else starts mail, the
//! agent's disk is full. After each: mail answers by the deadline; nothing is sealed as consistent that differs from what
//! the server was when it was stopped, by its files and as a second Cyrus on the restored ones shows it over IMAP.
//!
//! Server and box live in networks of their own with a wire between them. `MAILKEEP_CHAOS` is the number of rounds. No
//! bound goes by who is faster: allowed is the deadline and what this machine was seen to stand still, or to take for
//! a start of Cyrus beyond the time that the guard had left for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::files::files_are_equal;
use mailkeep_tests::cyrus::load::Load;
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, Transport, cyrus_source};
use mailkeep_tests::cyrus::state::imap_is_equal;
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process::{self, Running, env_number, processes, run, signal};
use mailkeep_tests::programs::{bin, json_line};
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::ssh::{self, Sshd};
use mailkeep_tests::stalls::Stalls;
use mailkeep_tests::wire::{self, Wire};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

/// By this time mail answers.
const DEADLINE: Duration = Duration::from_secs(20);
/// The same where nothing is done to the backup and it has to be good: time for a machine that is busy with all else.
const CALM: Duration = Duration::from_secs(300);
/// Between an event and our seeing it.
const TOLERANCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    LinkCut,
    LinkPulled,
    LinkStutters,
    LinkNarrow,
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

const FAULTS: [Fault; 15] = [
    Fault::Nothing,
    Fault::LinkCut,
    Fault::AgentKilled,
    Fault::StrangerStarts,
    Fault::StartFails,
    Fault::BothKilled,
    Fault::PowerCut,
    Fault::BoxKilled,
    Fault::StateFull,
    Fault::LinkStutters,
    Fault::LinkNarrow,
    Fault::StopHangs,
    Fault::LinkPulled,
    Fault::AgentHangs,
    Fault::BoxHangs,
];
/// The first of them take a second or two each, the rest a good part of the deadline.
const QUICK: usize = 11;

struct Lab {
    // Dropped in this order: the server before the folder that it lies in.
    server: Cyrus,
    wire: Wire,
    sshd: Sshd,
    stalls: Stalls,
    rig: Rig,
    source: PathBuf,
    calm: PathBuf,
    home: tempfile::TempDir,
}

impl Lab {
    /// Only on the server's side of a network of one's own.
    fn new() -> Result<Lab> {
        let home = tempfile::tempdir()?;
        let rig = Rig::new(home.path())?;
        let wire = Wire::new()?;
        let sshd = Sshd::start_with(&home.path().join("ssh"), &format!("ListenAddress {}\n", wire::SERVER))?;
        let server = Cyrus::create(&home.path().join("server"), &["alice", "bob"], Layout::Uuid)?;
        server.start()?;
        populate(&server, 60, 5)?;
        let deadline = format!("{}s", DEADLINE.as_secs());
        let options = Options { transport: Transport::Ssh(&sshd), deadline: &deadline, ..Options::default() };
        let source = cyrus_source(&home.path().join("lab.toml"), &server, &options)?;
        // The same server by way of the wire.
        let (direct, wired) = ("host = \"127.0.0.1\"".to_owned(), format!("host = \"{}\"", wire::SERVER));
        let text = fs::read_to_string(&source)?;
        ensure!(text.contains(&direct), "{text}");
        let text = text.replace(&direct, &wired);
        fs::write(&source, &text)?;
        let (short, long) =
            (format!("deadline = \"{deadline}\""), format!("deadline = \"{}s\"", CALM.as_secs()));
        ensure!(text.contains(&short), "{text}");
        let calm = home.path().join("calm.toml");
        fs::write(&calm, text.replace(&short, &long))?;
        let hosts = fs::read_to_string(sshd.known_hosts())?;
        fs::write(sshd.known_hosts(), hosts.replace("127.0.0.1", wire::SERVER))?;
        Ok(Lab { server, wire, sshd, stalls: Stalls::watch(), rig, source, calm, home })
    }

    /// A backup as the box runs it.
    fn backup_command(&self, source: &Path) -> Command {
        self.wire.at_the_box(&self.rig.backup_command(source))
    }

    /// A backup that must be good. What is tried again: a refusal because an agent or a guard of the last round is still
    /// at work (exit 75), and a stop at which Cyrus itself hung (cyrus-imapd 5309), which the agent has to recognise.
    fn sound_backup(&self) -> Result<Value> {
        let began = Instant::now();
        let mut hung = 0;
        loop {
            let output = run(&mut self.backup_command(&self.calm))?;
            let again = match output.code {
                75 => began.elapsed() < process::HANG,
                1 if stop_hung(&output) => {
                    hung += 1;
                    hung < 5
                }
                _ => false,
            };
            if !again {
                let summary = json_line(&output.expect_code("mailkeep backup", 0)?.out(), "summary")?;
                ensure!(summary["consistent"] == true && summary["mail_check"]["ok"] == true, "{summary}");
                return Ok(summary);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
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
    fn round(&self, number: usize, fault: Fault, rng: &mut Rng) -> Result<Round> {
        let truth = self.home.path().join(format!("truth-{number}"));
        self.server.keep_truth_in(&truth)?;
        let before = self.rig.snapshots()?;
        let (stops, stalls) = (self.stops(), self.stalls.so_far());
        match fault {
            Fault::StopHangs => fs::write(self.server.root().join("run/hang-stop"), "")?,
            Fault::StartFails => self.server.fail_starts(1 + rng.below(2) as u32)?,
            _ => {}
        }
        let (source, deadline) = match fault {
            Fault::Nothing => (&self.calm, CALM),
            _ => (&self.source, DEADLINE),
        };
        let mut backup = Running::spawn(&mut self.backup_command(source))?;
        let began = Instant::now();
        while self.stops() == stops && !backup.ended()? {
            ensure!(began.elapsed() < process::HANG, "the backup never stopped mail");
            std::thread::sleep(Duration::from_millis(1));
        }
        let stopped = since_boot();
        let intent = self.intents().pop();
        std::thread::sleep(Duration::from_micros(rng.below(if number % 2 == 0 { 60_000 } else { 700_000 })));
        let frozen = self.strike(fault, &mut backup)?;
        let back = self.back();
        frozen.iter().for_each(|pid| signal(*pid, Signal::CONT));
        self.wire.pull(false)?;
        self.wire.narrow(None)?;
        let last_down = back.with_context(|| format!("mail does not answer: {}", self.server.diagnosis()))?;
        let output = backup.wait(process::HANG)?;
        ensure!(self.stops() > stops, "the backup ended before it stopped mail: {}", output.err());
        ensure!(!output.err().contains("panicked at"), "{}", output.err());
        self.server.wait_for_greeting(process::HANG).context("after the backup has ended")?;

        let away = last_down.map_or(Duration::ZERO, |down| down.saturating_sub(stopped));
        let lead = intent.as_ref().map_or(Duration::ZERO, |intent| intent.lead);
        let started = self.starts().pop().filter(|started| *started > stopped);
        let start_took = last_down.zip(started).map_or(Duration::ZERO, |(down, at)| down.saturating_sub(at));
        let stalled = self.stalls.so_far() - stalls;
        let allowed = deadline + TOLERANCE + stalled + start_took.saturating_sub(lead);
        ensure!(
            away <= allowed,
            "mail was away for {away:?}, {start_took:?} of it for its start, where the guard had left {lead:?}; the \
             machine stood still for {stalled:?}; {}",
            self.server.diagnosis()
        );
        if let Some(intent) = &intent {
            self.guard_was_on_time(intent, stopped, stalled)?;
        }

        let mut judged = false;
        if let Ok(summary) = json_line(&output.out(), "summary") {
            judged = self.judge(&summary, &truth, number)?;
        } else {
            ensure!(output.code != 0, "done, and no summary: {}", output.out());
            ensure!(self.rig.snapshots()? == before, "a run that failed has sealed a snapshot");
        }
        let undisturbed = fault == Fault::Nothing && !stop_hung(&output);
        ensure!(judged || !undisturbed, "nothing happened, and it is not consistent: {}", output.out());
        // The next stop must not make it again.
        fs::remove_file(self.server.root().join("run/truth"))?;
        if truth.exists() {
            fs::remove_dir_all(&truth)?;
        }
        let _ = fs::remove_file(self.server.root().join("run/hang-stop"));
        self.server.fail_starts(0)?;
        eprintln!(
            "round {number}: {fault:?}, mail was away for {away:?} of {allowed:?}, exit {}{}",
            output.code,
            if judged { ", consistent and equal" } else { "" }
        );
        Ok(Round { away, judged })
    }

    fn strike(&self, fault: Fault, backup: &mut Running) -> Result<Vec<u32>> {
        let freeze = |pids: Vec<u32>| {
            pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
            pids
        };
        match fault {
            Fault::LinkCut => drop(self.sshd.cut()),
            Fault::LinkPulled => self.wire.pull(true)?,
            Fault::LinkStutters => {
                for _ in 0..4 {
                    self.wire.pull(true)?;
                    std::thread::sleep(Duration::from_millis(300));
                    self.wire.pull(false)?;
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            Fault::LinkNarrow => self.wire.narrow(Some(4000))?,
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
            Fault::Nothing | Fault::StopHangs | Fault::StartFails | Fault::StateFull => {}
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

    /// The intents that lie there.
    fn intents(&self) -> Vec<Intent> {
        let folders = fs::read_dir(self.server.agent_state()).into_iter().flatten().flatten();
        folders.filter_map(|folder| Intent::read(&folder.path())).collect()
    }

    /// Waits until no window is open any more and mail greets; tells when it last did not, if it ever did not.
    fn back(&self) -> Result<Option<Duration>> {
        let began = Instant::now();
        let mut last_down = None;
        loop {
            // In this order: before the window is closed a greeting may be that of a server that is about to be stopped.
            let folders = fs::read_dir(self.server.agent_state()).into_iter().flatten().flatten();
            let open = folders.filter(|folder| folder.path().join("intent.json").exists()).count();
            let greets = self.server.greets();
            if !greets {
                last_down = Some(since_boot());
            }
            if open == 0 && greets {
                return Ok(last_down);
            }
            ensure!(began.elapsed() < process::HANG, "{open} windows are open, mail greets: {greets}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// When the server was started, since boot.
    fn starts(&self) -> Vec<Duration> {
        let text = fs::read_to_string(self.server.root().join("run/starts")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).map(Duration::from_secs_f64).collect()
    }

    /// A guard that acted because of the deadline did so at its time, by its own word and the clock that nobody sets.
    fn guard_was_on_time(&self, intent: &Intent, stopped: Duration, stalled: Duration) -> Result<()> {
        let log = fs::read_to_string(intent.folder.join("guard.log")).unwrap_or_default();
        for line in log.lines().filter(|line| line.contains("the deadline comes near")) {
            let at = line.split_once("(boot and ").and_then(|(_, rest)| rest.split_once(" s)"));
            let at: f64 = at.with_context(|| format!("no time in {line}"))?.0.parse()?;
            let (at, due) = (Duration::from_secs_f64(at), intent.deadline - intent.lead);
            if at > stopped {
                ensure!(at >= due, "the guard took mail from a living window: {at:?}, {intent:?}");
                ensure!(at <= due + TOLERANCE + stalled, "the guard began late: {at:?}, {intent:?}");
            }
        }
        Ok(())
    }

    /// A snapshot that says that it is consistent is the server as it was when it was stopped.
    fn judge(&self, summary: &Value, truth: &Path, number: usize) -> Result<bool> {
        if summary["consistent"] != true {
            return Ok(false);
        }
        ensure!(summary["mail_check"]["ok"] == true, "consistent, and the mail check failed: {summary}");
        let target = self.home.path().join(format!("restored-{number}"));
        let restored = self.rig.restore(&id(summary)?, &target, self.server.root())?;
        let equal = files_are_equal(truth, &restored)
            .and_then(|()| imap_is_equal(truth, &restored, &self.server).map(drop));
        fs::remove_dir_all(&target)?;
        equal.context("sealed as consistent, and it is not")?;
        Ok(true)
    }
}

/// What came of a round.
struct Round {
    away: Duration,
    /// There was a consistent snapshot, and it was right.
    judged: bool,
}

/// The times of an open window, since boot.
#[derive(Debug)]
struct Intent {
    folder: PathBuf,
    deadline: Duration,
    lead: Duration,
}

impl Intent {
    fn read(folder: &Path) -> Option<Intent> {
        let intent: Value = serde_json::from_slice(&fs::read(folder.join("intent.json")).ok()?).ok()?;
        let millis = |name: &str| intent[name].as_u64().map(Duration::from_millis);
        let seconds = Duration::from_secs(intent["deadline_seconds"].as_u64()?);
        let deadline = millis("written_since_boot_ms")? + seconds;
        Some(Intent { folder: folder.to_owned(), deadline, lead: millis("lead_ms")? })
    }
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Whether this run ended because Cyrus hung in its own shutdown.
fn stop_hung(output: &process::Output) -> bool {
    output.code == 1 && output.err().contains("the stop failed")
}

const NAME: &str = "mail_answers_whatever_happens_and_nothing_torn_is_called_consistent";

#[test]
fn mail_answers_whatever_happens_and_nothing_torn_is_called_consistent() -> Result<()> {
    if let Some(why) = cyrus::missing().or_else(ssh::missing).or_else(wire::missing) {
        return process::skip(&why);
    }
    if !wire::inside(NAME)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    lab.sound_backup()?;
    let (mut rng, seed) = Rng::of_run();
    eprintln!("seed {seed}");
    let load = Load::start(&lab.server, 1, 9);
    let (mut longest, mut judged) = (Duration::ZERO, 0);
    let rounds = env_number("MAILKEEP_CHAOS", FAULTS.len());
    for number in 0..rounds {
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
        let round = lab.round(number, fault, &mut rng).with_context(context)?;
        longest = longest.max(round.away);
        judged += usize::from(round.judged);
        if number % 5 == 4 {
            lab.sound_backup().with_context(context)?;
        }
    }
    load.stop();
    eprintln!(
        "{rounds} rounds: mail was away for {longest:?} at most; {judged} consistent snapshots, all equal"
    );
    lab.sound_backup()?;
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
    let output = run(&mut lab.backup_command(&lab.source));
    mount(&["umount"])?;
    ensure!(filled.is_err(), "it is not full");
    let output = output?;
    ensure!(output.code == 1 && lab.stops() == stops, "mail was stopped without an intent: {}", output.err());
    lab.server.wait_for_greeting(process::HANG)
}
