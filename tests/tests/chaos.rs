//! Chaos in the window (set H): a real Cyrus under load is backed up over a real sshd, and something goes wrong while mail
//! is stopped: the link is cut or goes dead, box or agent are killed or hang, the power fails and the server boots again,
//! stop hangs before or after its work, start fails, somebody else starts mail, the disk is full under the agent's notes
//! or under what it keeps, the wall clock jumps by a day. After each: mail answers by the deadline; nothing is sealed as consistent that differs
//! from what the server was when it was stopped, by its files and as a second Cyrus on the restored ones shows it over IMAP.
//!
//! No strike misses: the scripts of the server wait for it ([`Moment`]), and that mail is down is seen right before it. A
//! run that ends before that is repeated where it was refused, and red otherwise.
//!
//! Server and box live in networks of their own with a wire between them; a few such labs work side by side, since most
//! of a round is waiting. `MAILKEEP_CHAOS` is the number of rounds in all of them together; the first ones are one of each
//! kind. No bound goes by who is faster: allowed is the deadline and what this machine was seen to stand still, or to
//! take for a start of Cyrus beyond the time that the guard had left for it, or a script to wait for the strike itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mailkeep_tests::clock::Clock;
use mailkeep_tests::cyrus::files::files_are_equal;
use mailkeep_tests::cyrus::load::Load;
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, Transport, cyrus_source};
use mailkeep_tests::cyrus::state::imap_is_equal;
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process::{self, Running, env_number, processes, run, signal, write_script};
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
const DEADLINE: Duration = Duration::from_secs(30);
/// The same where nothing is done to the backup and it has to be good: time for a machine that is busy with all else.
const CALM: Duration = Duration::from_secs(300);
/// Labs that work side by side.
const LABS: usize = 3;
/// Between two acts of a user: a server that grows from round to round takes longer to stop, to copy and to look through.
const PAUSE: Duration = Duration::from_millis(30);
/// Between an event and our seeing it.
const TOLERANCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Nothing,
    LinkCut,
    LinkPulled,
    LinkStutters,
    LinkNarrow,
    AgentKilled,
    BoxKilled,
    BothKilled,
    GuardKilled,
    AgentHangs,
    BoxHangs,
    PowerCut,
    StopHangs,
    StopLingers,
    StartFails,
    StrangerStarts,
    StateFull,
    StageFull,
    ClockForward,
    ClockBack,
}

/// Where the strike falls. Until it has, and for as long as it lasts, mail is held down by the script that waits there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The stop has done its work and has not come back yet.
    Stopped,
    /// The mailbox list is about to be exported.
    Export,
    /// Some time after the stop has come back: while stragglers are looked for, the tree is walked and kept.
    Within(Duration),
    /// All is kept, and mail is about to be started.
    Start,
}

const FAULTS: [Fault; 20] = [
    Fault::Nothing,
    Fault::LinkCut,
    Fault::AgentKilled,
    Fault::GuardKilled,
    Fault::StrangerStarts,
    Fault::StartFails,
    Fault::BothKilled,
    Fault::PowerCut,
    Fault::BoxKilled,
    Fault::StateFull,
    Fault::StageFull,
    Fault::ClockForward,
    Fault::ClockBack,
    Fault::LinkStutters,
    Fault::LinkNarrow,
    Fault::StopHangs,
    Fault::StopLingers,
    Fault::LinkPulled,
    Fault::AgentHangs,
    Fault::BoxHangs,
];
/// The first of them take a second or two each, the rest a good part of the deadline.
const QUICK: usize = 15;

struct Lab {
    // Dropped in this order: the server before the folder that it lies in.
    server: Cyrus,
    wire: Wire,
    sshd: Sshd,
    stalls: Stalls,
    rig: Rig,
    source: PathBuf,
    calm: PathBuf,
    /// The wall clock of the agent and of what it starts.
    clock: Clock,
    home: tempfile::TempDir,
}

impl Lab {
    /// Only on the server's side of a network of one's own.
    fn new() -> Result<Lab> {
        let home = tempfile::tempdir()?;
        let rig = Rig::new(home.path())?;
        let wire = Wire::new()?;
        let sshd = Sshd::start_with(&home.path().join("ssh"), &format!("ListenAddress {}\n", wire::SERVER))?;
        // On a disk of its own that can be full, with another one for the agent's notes.
        let root = home.path().join("server");
        small_disk(&root)?;
        let server = Cyrus::create(&root, &["alice", "bob"], Layout::Uuid)?;
        small_disk(&server.agent_state())?;
        server.start()?;
        populate(&server, 60, 5)?;
        let deadline = format!("{}s", DEADLINE.as_secs());
        let options = Options { transport: Transport::Ssh(&sshd), deadline: &deadline, ..Options::default() };
        let source = cyrus_source(&home.path().join("lab.toml"), &server, &options)?;
        let clock = Clock::new(home.path())?;
        let agent = fs::read_to_string(server.script("agent"))?;
        let faked = clock.shell() + "exec ";
        write_script(&server.script("agent"), &agent.replacen("exec ", &faked, 1))?;
        // The same server by way of the wire.
        let (direct, wired) = ("host = \"127.0.0.1\"".to_owned(), format!("host = \"{}\"", wire::SERVER));
        let text = fs::read_to_string(&source)?;
        ensure!(text.contains(&direct), "{text}");
        let text = text
            .replace(&direct, &wired)
            .replace(cyrus::BIN_DIR, &server.held_tools()?.display().to_string());
        fs::write(&source, &text)?;
        let (short, long) =
            (format!("deadline = \"{deadline}\""), format!("deadline = \"{}s\"", CALM.as_secs()));
        ensure!(text.contains(&short), "{text}");
        let calm = home.path().join("calm.toml");
        fs::write(&calm, text.replace(&short, &long))?;
        let hosts = fs::read_to_string(sshd.known_hosts())?;
        fs::write(sshd.known_hosts(), hosts.replace("127.0.0.1", wire::SERVER))?;
        Ok(Lab { server, wire, sshd, stalls: Stalls::watch(), rig, source, calm, clock, home })
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
    fn round(
        &self,
        number: usize,
        fault: Fault,
        moment: Moment,
        rng: &mut Rng,
        load: &Load,
    ) -> Result<Round> {
        let truth = self.home.path().join(format!("truth-{number}"));
        self.server.keep_truth_in(&truth)?;
        let before = self.rig.snapshots()?;
        let stalls = self.stalls.so_far();
        match fault {
            Fault::StopHangs => fs::write(self.server.root().join("run/hang-stop"), "")?,
            Fault::StartFails => self.server.fail_starts(1 + rng.below(2) as u32)?,
            _ => {}
        }
        let (source, deadline) = match fault {
            Fault::Nothing => (&self.calm, CALM),
            _ => (&self.source, DEADLINE),
        };
        let (mut backup, stopped) = self.backup_until_stopped(source, fault, moment, &truth)?;
        let intent = self.intents().pop();
        let mut struck = Struck::default();
        if fault.strikes() {
            ensure!(!self.server.is_running(), "mail runs, and is to be struck while it is down");
            struck = self.strike(fault, &mut backup, stopped)?;
            self.let_go()?;
        }
        let held = struck.took;
        let back = self.back();
        struck.frozen.iter().for_each(|pid| signal(*pid, Signal::CONT));
        self.wire.pull(false)?;
        self.wire.narrow(None)?;
        self.clock.put(0)?;
        let last_down = back.with_context(|| format!("mail does not answer: {}", self.server.diagnosis()))?;
        let output = backup.wait(process::HANG)?;
        ensure!(!output.err().contains("panicked at"), "{}", output.err());
        self.server.wait_for_greeting(process::HANG).context("after the backup has ended")?;
        load.rest(true);

        // A strike that itself lasts until mail is back (a boot) is no moment at which it was seen to be down.
        let started = self.starts().pop().filter(|started| *started > stopped);
        let last_down = last_down.max(started);
        let away = last_down.map_or(Duration::ZERO, |down| down.saturating_sub(stopped));
        let lead = intent.as_ref().map_or(Duration::ZERO, |intent| intent.lead);
        let start_took = last_down.zip(started).map_or(Duration::ZERO, |(down, at)| down.saturating_sub(at));
        let stalled = self.stalls.so_far() - stalls;
        let allowed = deadline + TOLERANCE + stalled + held + start_took.saturating_sub(lead);
        ensure!(
            away <= allowed,
            "mail was away for {away:?}, {start_took:?} of it for its start, where the guard had left {lead:?}; the \
             machine stood still for {stalled:?}; {}",
            self.server.diagnosis()
        );
        if let Some(intent) = &intent {
            // An agent that hangs while it starts mail is given half of the lead before the guard does it all the same.
            let starter_hangs = fault == Fault::AgentHangs && moment == Moment::Start;
            let waits = if starter_hangs { lead / 2 } else { Duration::ZERO };
            self.guard_was_on_time(intent, stopped, waits + stalled + held)?;
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
        let place = if fault.strikes() { format!(" at {moment:?}") } else { String::new() };
        eprintln!(
            "round {number}: {fault:?}{place}, mail was away for {away:?} of {allowed:?}, exit {}{}",
            output.code,
            if judged { ", consistent and equal" } else { "" }
        );
        Ok(Round { away, judged })
    }

    /// A backup that has stopped mail and come as far as `moment`, where it waits; and since when mail is stopped. One
    /// that is refused before it stops mail is begun again.
    fn backup_until_stopped(
        &self,
        source: &Path,
        fault: Fault,
        moment: Moment,
        truth: &Path,
    ) -> Result<(Running, Duration)> {
        let first = if moment == Moment::Export { "list" } else { "stop" };
        let began = Instant::now();
        loop {
            if fault.strikes() {
                [first, "start"].into_iter().try_for_each(|place| self.server.hold(place, true))?;
            }
            let stops = self.stops();
            let mut backup = Running::spawn(&mut self.backup_command(source))?;
            let reached = |place: &str, backup: &mut Running| -> Result<bool> {
                // Where mail is about to be started this run will never come there: the stop hung, say.
                while !self.server.is_held(place) && !self.server.is_held("start") && !backup.ended()? {
                    ensure!(began.elapsed() < process::HANG, "the backup never came to its {place}");
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(self.server.is_held(place))
            };
            while self.stops() == stops && !backup.ended()? {
                ensure!(began.elapsed() < process::HANG, "the backup never stopped mail");
                std::thread::sleep(Duration::from_millis(1));
            }
            let stopped = since_boot();
            let there = match moment {
                _ if !fault.strikes() => self.stops() > stops,
                Moment::Stopped | Moment::Export => reached(first, &mut backup)?,
                Moment::Within(time) => {
                    let stopped = reached(first, &mut backup)?;
                    self.server.hold(first, false)?;
                    std::thread::sleep(time);
                    stopped && !self.server.is_running()
                }
                Moment::Start => {
                    let stopped = reached(first, &mut backup)?;
                    self.server.hold(first, false)?;
                    stopped && reached("start", &mut backup)?
                }
            };
            if there {
                return Ok((backup, stopped));
            }
            self.let_go()?;
            let output = backup.wait(process::HANG)?;
            // Refused because the last round is still at work or because of stops that never came back, which it is for a
            // few runs; or not come so far because Cyrus itself hung.
            let refused =
                output.code == 75 || output.code == 78 && output.err().contains("stops of mail did not");
            ensure!(
                refused || stop_hung(&output),
                "the backup ended before it was struck: exit {}: {}",
                output.code,
                output.err()
            );
            ensure!(began.elapsed() < process::HANG, "no backup comes to its {moment:?}: {}", output.err());
            self.back()?;
            // The next stop is the one whose truth counts.
            if truth.exists() {
                fs::remove_dir_all(truth)?;
            }
        }
    }

    /// The scripts go on.
    fn let_go(&self) -> Result<()> {
        ["stop", "list", "start"].into_iter().try_for_each(|place| self.server.hold(place, false))
    }

    fn strike(&self, fault: Fault, backup: &mut Running, stopped: Duration) -> Result<Struck> {
        let freeze = |pids: Vec<u32>| {
            pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
            pids
        };
        let mut frozen = Vec::new();
        // Mail waits for us from here on; not where we wait for the agent.
        let mut began = Instant::now();
        let mut took = None;
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
            Fault::GuardKilled => self.server.guards().into_iter().for_each(|pid| signal(pid, Signal::KILL)),
            Fault::BoxKilled => backup.kill_alone(),
            Fault::BothKilled => {
                self.kill_agents();
                backup.kill_alone();
            }
            Fault::AgentHangs => frozen = freeze(self.agents()),
            Fault::BoxHangs => frozen = freeze(vec![backup.pid()]),
            Fault::PowerCut => {
                // All that runs for the server dies at once, the scripts and Cyrus too; the boot runs the rescue.
                let dying: Vec<u32> = self.server.guards().into_iter().chain(self.agents()).collect();
                dying.into_iter().chain(self.of_the_server()).for_each(|pid| signal(pid, Signal::KILL));
                // A boot finds none of them; a signal takes its time, and a lock goes with its owner.
                self.gone()?;
                self.let_go()?;
                wire::boot_again()?;
                took = Some(began.elapsed());
                let mut rescue = Command::new(bin("mailkeep-agent")?);
                rescue.arg("rescue").env("MAILKEEP_AGENT_STATE", self.server.agent_state());
                run(rescue.env("MAILKEEP_AGENT_BOOT", "no"))?.expect_code("rescue", 0)?;
            }
            Fault::StrangerStarts => {
                // What a package upgrade or a monitor does.
                run(Command::new(self.server.script("start")).env("LAB_STRANGER", "1"))?
                    .expect_code("a stranger's start", 0)?;
            }
            Fault::StageFull => {
                // Not a byte more than there is, until all that is to be kept has been tried.
                resize(self.server.root(), used(self.server.root())?)?;
                self.server.hold("stop", false)?;
                self.server.hold("list", false)?;
                while !self.server.is_held("start") && !backup.ended()? {
                    ensure!(began.elapsed() < process::HANG, "nobody starts mail");
                    std::thread::sleep(Duration::from_millis(1));
                }
                began = Instant::now();
                resize(self.server.root(), SPACE)?;
            }
            Fault::StopLingers => {
                // It has done its work and does not come back: the script goes on waiting until somebody ends it.
                self.server.hold("start", false)?;
                let started = || self.starts().pop().is_some_and(|started| started > stopped);
                while !started() {
                    ensure!(
                        began.elapsed() < process::HANG,
                        "a stop that does not come back keeps mail down"
                    );
                    std::thread::sleep(Duration::from_millis(1));
                }
                took = Some(Duration::ZERO);
            }
            Fault::ClockForward => self.clock.put(86_400)?,
            Fault::ClockBack => self.clock.put(-86_400)?,
            Fault::Nothing | Fault::StopHangs | Fault::StartFails | Fault::StateFull => {}
        }
        Ok(Struck { frozen, took: took.unwrap_or_else(|| began.elapsed()) })
    }

    /// All processes of the server that name its folder: Cyrus and the scripts.
    fn of_the_server(&self) -> Vec<u32> {
        let root = self.server.root().display().to_string();
        let names = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&root)
        };
        let pids = processes().into_iter().filter(process::Process::runs).map(|process| process.pid);
        pids.filter(names).collect()
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
    fn guard_was_on_time(&self, intent: &Intent, stopped: Duration, late: Duration) -> Result<()> {
        let log = fs::read_to_string(intent.folder.join("guard.log")).unwrap_or_default();
        for line in log.lines().filter(|line| line.contains("the deadline comes near")) {
            let at = line.split_once("(boot and ").and_then(|(_, rest)| rest.split_once(" s)"));
            let at: f64 = at.with_context(|| format!("no time in {line}"))?.0.parse()?;
            let (at, due) = (Duration::from_secs_f64(at), intent.deadline - intent.lead);
            if at > stopped {
                ensure!(at >= due, "the guard took mail from a living window: {at:?}, {intent:?}");
                ensure!(at <= due + TOLERANCE + late, "the guard began late: {at:?}, {intent:?}");
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

impl Fault {
    /// A moment for it.
    fn moment(self, rng: &mut Rng) -> Moment {
        let moment = match rng.below(8) {
            0 | 1 => Moment::Stopped,
            2 => Moment::Export,
            3..6 => Moment::Within(Duration::from_micros(rng.below(60_000))),
            _ => Moment::Start,
        };
        match self {
            Fault::StopLingers => Moment::Stopped,
            // What is to be full is kept after these two alone.
            Fault::StageFull if !matches!(moment, Moment::Stopped | Moment::Export) => Moment::Stopped,
            _ => moment,
        }
    }

    /// Whether something is done while the scripts wait; the others lie in the scripts or in the disk.
    fn strikes(self) -> bool {
        !matches!(self, Fault::Nothing | Fault::StopHangs | Fault::StartFails | Fault::StateFull)
    }
}

/// Bytes of the disks of the server: more than it ever needs.
const SPACE: u64 = 4 << 30;

/// A disk in memory, gone with this process.
fn small_disk(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let options = format!("size={SPACE},mode=0755");
    let mount = run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "lab"]).arg(folder))?;
    mount.expect_code("mount", 0).map(drop)
}

fn resize(folder: &Path, bytes: u64) -> Result<()> {
    let options = format!("remount,size={bytes}");
    run(Command::new("mount").args(["-o", &options]).arg(folder))?.expect_code("mount", 0).map(drop)
}

fn used(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
}

/// What a strike has done.
#[derive(Default)]
struct Struck {
    /// Processes that have to be let go on when mail is back.
    frozen: Vec<u32>,
    /// For so long mail was kept down by the strike itself.
    took: Duration,
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

#[test]
fn mail_answers_and_nothing_torn_is_called_consistent_in_the_first_lab() -> Result<()> {
    rounds_of(0, "mail_answers_and_nothing_torn_is_called_consistent_in_the_first_lab")
}

#[test]
fn mail_answers_and_nothing_torn_is_called_consistent_in_the_second_lab() -> Result<()> {
    rounds_of(1, "mail_answers_and_nothing_torn_is_called_consistent_in_the_second_lab")
}

#[test]
fn mail_answers_and_nothing_torn_is_called_consistent_in_the_third_lab() -> Result<()> {
    rounds_of(2, "mail_answers_and_nothing_torn_is_called_consistent_in_the_third_lab")
}

/// What one lab does of all the rounds; `name` is the test's own.
fn rounds_of(share: usize, name: &str) -> Result<()> {
    if let Some(why) = cyrus::missing().or_else(ssh::missing).or_else(wire::missing) {
        return process::skip(&why);
    }
    if !wire::inside(name)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    lab.sound_backup()?;
    let (_, seed) = Rng::of_run();
    let mut rng = Rng::new(seed.wrapping_add(share as u64));
    eprintln!("seed {seed}, lab {share}");
    let load = Load::start(&lab.server, 1, 9);
    load.pause(PAUSE);
    let mut table = BTreeMap::<Fault, Row>::new();
    let rounds = env_number("MAILKEEP_CHAOS", FAULTS.len());
    for (count, number) in (share..rounds).step_by(LABS).enumerate() {
        // All of them, and then the quick ones more often.
        let kinds = if rng.chance(0.6) { QUICK } else { FAULTS.len() };
        let fault = FAULTS.get(number).copied().unwrap_or_else(|| FAULTS[rng.index(kinds)]);
        let moment = fault.moment(&mut rng);
        let context = || format!("round {number}: {fault:?} at {moment:?}, seed {seed}, lab {share}");
        load.rest(false);
        load.wait_for(3).with_context(context)?;
        let row = table.entry(fault).or_default();
        row.rounds += 1;
        if fault == Fault::StateFull {
            full_state(&lab).with_context(context)?;
            continue;
        }
        let round = lab.round(number, fault, moment, &mut rng, &load).with_context(context)?;
        row.away = row.away.max(round.away);
        row.judged += usize::from(round.judged);
        if count % 6 == 5 {
            lab.sound_backup().with_context(context)?;
        }
    }
    load.stop();
    for (fault, row) in &table {
        eprintln!(
            "{fault:?}: {} rounds, mail away for {:?} at most, {} consistent snapshots, all equal",
            row.rounds, row.away, row.judged
        );
    }
    lab.sound_backup()?;
    lab.rig.verify_all()
}

/// What came of all rounds of a kind.
#[derive(Default)]
struct Row {
    rounds: usize,
    away: Duration,
    judged: usize,
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
