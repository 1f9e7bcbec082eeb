//! The restart guarantee under a real systemd, with a real Cyrus as its unit: the guard as a unit, the timer behind it,
//! the rescue at boot, a service that systemd will not start again by itself.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mailkeep_link::message::{Configure, Quiesce, ToAgent, ToBox};
use mailkeep_link::rebuild::Promote;
use mailkeep_link::{BoxSide, Options as LinkOptions};
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, cyrus_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process::{self, descendants, signal, write_script};
use mailkeep_tests::programs::bin;
use mailkeep_tests::rig::Rig;
use mailkeep_tests::systemd::{self, Machine};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

struct Lab {
    machine: Option<Machine>,
    server: Cyrus,
    home: tempfile::TempDir,
}

impl Lab {
    /// A booted machine whose Cyrus runs as a unit that no boot starts.
    fn new() -> Result<Option<Lab>> {
        if let Some(why) = systemd::missing().or_else(cyrus::missing) {
            process::skip(&why)?;
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        let server = Cyrus::create(&home.path().join("server"), &["alice"], Layout::Uuid)?;
        let folder = systemd::units(home.path());
        fs::create_dir_all(&folder)?;
        let root = server.root().display();
        fs::write(
            folder.join("cyrus-imapd.service"),
            format!(
                "[Unit]\nDescription=Lab Cyrus\nDefaultDependencies=no\nStartLimitIntervalSec=1h\nStartLimitBurst=4\n\
                 [Service]\nType=forking\nPIDFile={root}/run/master.pid\nExecStart={root}/bin/start\n\
                 ExecStop={root}/bin/stop\n[Install]\nWantedBy=multi-user.target\n"
            ),
        )?;
        let machine = Some(Machine::boot(home.path())?);
        let lab = Lab { machine, server, home };
        lab.machine().ok(&["systemctl", "start", "cyrus-imapd"])?;
        lab.server.wait_for_greeting(process::HANG)?;
        Ok(Some(lab))
    }

    fn machine(&self) -> &Machine {
        self.machine.as_ref().unwrap()
    }

    /// The agent in the machine, behind a script, and a source file that names it.
    fn source(&self, deadline: &str) -> Result<PathBuf> {
        let script = self.home.path().join("agent");
        let way = self.machine().way_in().join(" ");
        let text = format!(
            "#!/bin/sh\nexport MAILKEEP_AGENT_STATE='{}'\nexec {way} '{}' \"$@\"\n",
            self.server.agent_state().display(),
            bin("mailkeep-agent")?.display()
        );
        write_script(&script, &text)?;
        let path = self.home.path().join("lab.toml");
        let options = Options { agent: Some(script), deadline, ..Options::default() };
        cyrus_source(&path, &self.server, &options)?;
        // No commands: the ladder has to find the unit.
        let text = fs::read_to_string(&path)?;
        let keep =
            |line: &&str| !["mode", "stop", "start", "running"].iter().any(|key| line.starts_with(key));
        fs::write(&path, text.lines().filter(keep).map(|line| format!("{line}\n")).collect::<String>())?;
        Ok(path)
    }

    /// A window that somebody has opened.
    fn stop_mail(&self, deadline: &str) -> Result<Window> {
        let source = fs::read_to_string(self.source(deadline)?)?;
        let mut child = Command::new(self.home.path().join("agent"))
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (output, input) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let link = BoxSide::open(Box::new(input), Box::new(output), &LinkOptions::new("test"))?;
        let window = Window { child, link };
        window.link.send(ToAgent::Configure(Configure { source }))?;
        match window.hear()? {
            ToBox::Configured(configured) => {
                let rung = configured.quiesce.unwrap_or_default();
                ensure!(rung.starts_with("systemd unit cyrus-imapd"), "{rung}");
            }
            other => bail!("{other:?}"),
        }
        window.link.send(ToAgent::Quiesce(Quiesce { deadline_seconds: 600 }))?;
        match window.hear()? {
            ToBox::Quiesced(_) => {}
            other => bail!("{other:?}"),
        }
        ensure!(!self.server.greets(), "mail was stopped and greets");
        Ok(window)
    }

    fn units(&self, what: &str) -> Result<String> {
        let all = ["systemctl", "list-units", "--all", "--plain", "--no-legend", what];
        self.machine().ok(&all)
    }

    /// The window is closed and nothing of it is left.
    fn wait_until_settled(&self) -> Result<()> {
        let end = Instant::now() + process::HANG;
        loop {
            let left = (
                intents(&self.server.agent_state()),
                self.units("mailkeep-guard-*")?,
                self.units("mailkeep-deadline-*")?,
            );
            if left == (0, String::new(), String::new()) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "left of the window: {left:?}; {}", self.server.diagnosis());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn intents(state: &Path) -> usize {
    let folders = fs::read_dir(state).into_iter().flatten().flatten();
    folders.filter(|folder| folder.path().join("intent.json").exists()).count()
}

/// Seconds, by the clock that the deadline goes by.
fn since_boot() -> f64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

struct Window {
    child: Child,
    link: BoxSide,
}

impl Window {
    fn hear(&self) -> Result<ToBox> {
        loop {
            match self.link.receive().context("the agent")? {
                ToBox::Problem(_) => {}
                message => return Ok(message),
            }
        }
    }

    fn resume(&self) -> Result<()> {
        self.link.send(ToAgent::Resume)?;
        match self.hear()? {
            ToBox::Resumed(resumed) if !resumed.started_by_other => Ok(()),
            other => bail!("{other:?}"),
        }
    }

    /// As `kill -9` of the agent.
    fn kill(mut self) {
        for process in descendants(self.child.id()) {
            signal(process.pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_backup_stops_and_starts_the_unit_and_leaves_nothing_behind() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    populate(&lab.server, 40, 1)?;
    let rig = Rig::new(&lab.home.path().join("rig"))?;
    let summary = rig.good_backup(&lab.source("2m")?)?;
    ensure!(summary["consistent"] == true, "{summary}");
    ensure!(lab.server.events() == ["start", "stop", "start"], "{:?}", lab.server.events());
    lab.server.wait_for_greeting(process::HANG)?;
    lab.wait_until_settled()?;
    // Never enabled by us, never disabled, never masked; the rescue is.
    let enabled = lab.machine().run(&["systemctl", "is-enabled", "cyrus-imapd"])?.out();
    ensure!(enabled.trim() == "disabled", "{enabled}");
    let folder = systemd::units(lab.home.path()).join("multi-user.target.wants");
    let wanted: Vec<_> = fs::read_dir(folder)?.map(|entry| entry.unwrap().file_name()).collect();
    ensure!(wanted.len() == 1 && wanted[0].to_string_lossy().starts_with("mailkeep-rescue"), "{wanted:?}");
    Ok(())
}

#[test]
fn guard_and_timer_are_active_while_mail_is_stopped_and_the_guard_acts_when_the_agent_dies() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let window = lab.stop_mail("10m")?;
    for what in ["mailkeep-guard-*.service", "mailkeep-deadline-*.timer"] {
        let units = lab.units(what)?;
        ensure!(units.contains(" active "), "{what}: {units}");
    }
    let timer = lab.units("mailkeep-deadline-*.timer")?;
    let show = ["systemctl", "show", timer.split_whitespace().next().unwrap()];
    let shown = lab.machine().ok(&show)?;
    // The deadline less the lead of a first window, 65 s, less the moments since the intent was written.
    for part in ["AccuracyUSec=1s", "OnActiveUSec=8min ", "OnCalendar="] {
        ensure!(shown.contains(part), "{part} in {shown}");
    }
    window.kill();
    lab.server.wait_for_greeting(process::HANG)?;
    lab.wait_until_settled()
}

#[test]
fn agent_and_guard_are_killed_and_the_timer_starts_mail_at_the_deadline() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let window = lab.stop_mail("40s")?;
    let folder = fs::read_dir(lab.server.agent_state())?.next().context("a folder of the service")??.path();
    let intent: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("intent.json"))?)?;
    let number = |name: &str| intent[name].as_u64().unwrap() as f64;
    let start_at =
        (number("written_since_boot_ms") - number("lead_ms")) / 1000.0 + number("deadline_seconds");
    for guard in lab.server.guards() {
        signal(guard, Signal::KILL);
    }
    window.kill();
    // A machine that stalled for so long has seen the time come.
    let greets = lab.server.greets();
    ensure!(!greets || since_boot() >= start_at, "somebody else has started mail");
    lab.server.wait_for_greeting(process::HANG)?;
    lab.wait_until_settled()?;
    // By the clock that the deadline goes by, which no slow machine bends.
    let log = fs::read_to_string(folder.join("guard.log"))?;
    let line = log.lines().last().context("an empty guard.log")?;
    ensure!(line.contains("an unfinished window was found"), "not the rescue: {line}");
    let began = line.split_once("(boot and ").and_then(|(_, rest)| rest.split_once(" s)"));
    let began: f64 = began.context("no time in guard.log")?.0.parse()?;
    ensure!(began >= start_at, "not the timer: {began} s, and mail had until {start_at} s");
    Ok(())
}

#[test]
fn a_hung_agent_keeps_its_lock_and_the_timer_starts_mail_all_the_same() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let window = lab.stop_mail("40s")?;
    let agents = descendants(window.child.id());
    agents.iter().for_each(|agent| signal(agent.pid, Signal::STOP));
    for guard in lab.server.guards() {
        if !agents.iter().any(|agent| agent.pid == guard) {
            signal(guard, Signal::KILL);
        }
    }
    lab.server.wait_for_greeting(process::HANG)?;
    window.kill();
    lab.wait_until_settled()
}

#[test]
fn the_power_goes_inside_the_window_and_the_boot_starts_mail() -> Result<()> {
    let Some(mut lab) = Lab::new()? else { return Ok(()) };
    let window = lab.stop_mail("10m")?;
    lab.machine.take().unwrap().cut_power();
    window.kill();
    ensure!(!lab.server.greets() && intents(&lab.server.agent_state()) == 1);
    lab.machine = Some(Machine::boot(lab.home.path())?);
    lab.server.wait_for_greeting(process::HANG)?;
    lab.wait_until_settled()
}

/// What the agent says before this answer, as somebody hears it who may restore.
fn told(lab: &Lab, source: &str, ask: ToAgent) -> Result<(Vec<String>, ToBox)> {
    let mut child = Command::new(lab.home.path().join("agent"))
        .args(["serve", "--role", "restore"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (output, input) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let link = BoxSide::open(Box::new(input), Box::new(output), &LinkOptions::new("test"))?;
    link.send(ToAgent::Configure(Configure { source: source.to_owned() }))?;
    while !matches!(link.receive().context("the agent")?, ToBox::Configured(_)) {}
    link.send(ask)?;
    let mut remarks = Vec::new();
    let answer = loop {
        match link.receive().context("the agent")? {
            ToBox::Problem(problem) => remarks.push(problem.what),
            message => break message,
        }
    };
    link.send(ToAgent::Goodbye)?;
    drop(link);
    ensure!(child.wait()?.success(), "{answer:?}");
    Ok((remarks, answer))
}

#[test]
fn a_standby_whose_own_boot_starts_mail_is_told_and_one_that_took_over_without_is_too() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let plain = fs::read_to_string(lab.source("2m")?)?;
    let standby = format!("{plain}\n[standby]\nof = \"mail1\"\n");
    let trees = |source: &str| -> Result<String> {
        let (remarks, answer) = told(&lab, source, ToAgent::Trees)?;
        ensure!(matches!(&answer, ToBox::Trees(_)), "{answer:?}");
        Ok(remarks.join("\n"))
    };
    let out = "run `systemctl disable cyrus-imapd` there";
    lab.machine().ok(&["systemctl", "enable", "cyrus-imapd"])?;
    let said = trees(&standby)?;
    ensure!(said.contains("systemd unit cyrus-imapd") && said.contains(out), "{said}");
    // Of a server that is no standby that is as it should be.
    let said = trees(&plain)?;
    ensure!(!said.contains("own boot"), "{said}");
    // What was told is what helps.
    lab.machine().ok(&["systemctl", "disable", "cyrus-imapd"])?;
    let said = trees(&standby)?;
    ensure!(!said.contains("own boot"), "{said}");

    let folder = fs::read_dir(lab.server.agent_state())?.next().context("a folder of the service")??.path();
    let promoted = || -> Result<String> {
        fs::write(folder.join("standby.json"), "{\"version\":1,\"source\":\"mail1\",\"snapshot\":\"s\"}")?;
        let (remarks, answer) = told(&lab, &standby, ToAgent::Promote(Promote { event: "FAILOVER".into() }))?;
        ensure!(matches!(&answer, ToBox::Done(done) if done.problems.is_empty()), "{answer:?}");
        ensure!(!folder.join("standby.json").exists(), "it is still a standby");
        Ok(remarks.join("\n"))
    };
    let said = promoted()?;
    ensure!(said.contains("run `systemctl enable cyrus-imapd` there"), "{said}");
    lab.machine().ok(&["systemctl", "enable", "cyrus-imapd"])?;
    let said = promoted()?;
    ensure!(!said.contains("own boot"), "{said}");
    Ok(())
}

#[test]
fn a_service_that_was_started_too_often_is_started_again() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    // A first window installs the rescue at boot, after which systemd reads its units anew and forgets what it has counted.
    lab.stop_mail("2m")?.resume()?;
    lab.wait_until_settled()?;
    // It forgets, too, what it has counted of a stopped unit to which nothing refers; one that is enabled it keeps in mind.
    lab.machine().ok(&["systemctl", "enable", "cyrus-imapd"])?;
    lab.machine().ok(&["systemctl", "reset-failed", "cyrus-imapd"])?;
    // The limit of the unit: four starts in an hour.
    for _ in 0..4 {
        lab.machine().ok(&["systemctl", "restart", "cyrus-imapd"])?;
    }
    lab.server.wait_for_greeting(process::HANG)?;
    lab.stop_mail("2m")?.resume()?;
    lab.server.wait_for_greeting(process::HANG)?;
    lab.wait_until_settled()
}

#[test]
fn without_the_timer_or_the_rescue_nothing_is_stopped() -> Result<()> {
    for broken in ["systemd-run", "systemctl-enable"] {
        let Some(lab) = Lab::new()? else { return Ok(()) };
        // A program of that name that fails, before the real one.
        let folder = lab.home.path().join("broken");
        fs::create_dir_all(&folder)?;
        match broken {
            "systemd-run" => write_script(&folder.join("systemd-run"), "#!/bin/sh\nexit 1\n")?,
            _ => write_script(
                &folder.join("systemctl"),
                "#!/bin/sh\n[ \"$1\" = enable ] && exit 1\nexec /bin/systemctl \"$@\"\n",
            )?,
        }
        let source = lab.source("2m")?;
        let agent = lab.home.path().join("agent");
        let text = fs::read_to_string(&agent)?;
        let path = format!("export PATH={}:$PATH\nexport MAILKEEP", folder.display());
        write_script(&agent, &text.replacen("export MAILKEEP", &path, 1))?;
        let rig = Rig::new(&lab.home.path().join("rig"))?;
        let output = process::run(&mut rig.backup_command(&source))?.expect_code(broken, 1)?;
        ensure!(output.err().contains("mail was not stopped"), "{broken}: {}", output.err());
        ensure!(lab.server.events() == ["start"], "{broken}: {:?}", lab.server.events());
        lab.wait_until_settled()?;
    }
    Ok(())
}
