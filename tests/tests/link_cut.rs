//! Box, link or agent die at random moments of the window (hazards 26 and 27): mail must answer again before
//! the deadline of the restart guard, and the next backup must be good.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::load::Load;
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, cyrus_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process::{self, Process, Running, descendants, env_number, signal};
use mailkeep_tests::rig::Rig;
use mailkeep_tests::rng::Rng;
use mailkeep_tests::stalls::Stalls;
use rustix::process::Signal;

/// Who dies.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Agent,
    Box,
    Both,
}

const DEADLINE: Duration = Duration::from_secs(60);

fn lab(home: &Path, deadline: &str) -> Result<(Rig, Cyrus, std::path::PathBuf)> {
    let rig = Rig::new(home)?;
    let server = Cyrus::create(&home.join("server"), &["alice", "bob"], Layout::Uuid)?;
    server.start()?;
    populate(&server, 120, 3)?;
    let source = cyrus_source(&home.join("lab.toml"), &server, &Options { deadline, ..Options::default() })?;
    Ok((rig, server, source))
}

/// Waits until the stop script has been called once more; false if the backup ended before.
fn wait_for_window(server: &Cyrus, stops: usize, backup: &mut Running) -> Result<bool> {
    let start = Instant::now();
    while count(server, "stop") <= stops {
        if backup.ended()? {
            return Ok(false);
        }
        ensure!(start.elapsed() < process::HANG, "the backup never stopped mail");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(true)
}

fn count(server: &Cyrus, event: &str) -> usize {
    server.events().iter().filter(|e| *e == event).count()
}

/// The working agents below the box: the guard, which must outlive them, is not among them.
fn agents(backup: u32) -> Vec<Process> {
    let serves = |p: &Process| {
        let line = std::fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
        line.split(|b| *b == 0).any(|word| word == b"serve")
    };
    descendants(backup).into_iter().filter(serves).collect()
}

fn strike(victim: Victim, backup: &mut Running) {
    let agents = agents(backup.pid());
    if matches!(victim, Victim::Agent | Victim::Both) {
        for agent in &agents {
            signal(agent.pid, Signal::KILL);
        }
    }
    if matches!(victim, Victim::Box | Victim::Both) {
        backup.kill_alone();
    }
}

#[test]
fn mail_comes_back_and_the_next_backup_is_good() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let (rig, server, source) = lab(home.path(), "60s")?;
    rig.good_backup(&source)?;
    let (mut rng, seed) = Rng::of_run();
    eprintln!("seed {seed}");
    let load = Load::start(&server, 1, 9);
    let stalls = Stalls::watch();
    for cut in 0..env_number("MAILKEEP_CUTS", 6) {
        let victim = [Victim::Agent, Victim::Box, Victim::Both][cut % 3];
        // Half of them while the stop command is at work.
        let delay = Duration::from_micros(rng.below(if cut % 2 == 0 { 40_000 } else { 500_000 }));
        let context = format!("cut {cut}: {victim:?} after {delay:?} of the window, seed {seed}");
        load.wait_for(10)?;

        let stops = count(&server, "stop");
        let mut backup = Running::spawn(&mut rig.backup_command(&source))?;
        let hit = wait_for_window(&server, stops, &mut backup)?;
        std::thread::sleep(delay);
        let (struck, stalled) = (Instant::now(), stalls.so_far());
        strike(victim, &mut backup);
        let output = backup.wait(process::HANG).with_context(|| context.clone())?;
        ensure!(hit, "{context}: the backup ended without stopping mail: {}", output.err());
        ensure!(!output.err().contains("panicked at"), "{context}: {}", output.err());
        server.wait_for_greeting(process::HANG).with_context(|| format!("{context}: mail stays stopped"))?;
        let (away, stalled) = (struck.elapsed(), stalls.so_far() - stalled);
        ensure!(
            away <= DEADLINE + stalled,
            "{context}: mail answers after {away:?}, and the machine stood still for {stalled:?}"
        );
        eprintln!("{context}: mail answers after {away:?}; the backup's exit code was {}", output.code);

        load.wait_for(5).with_context(|| context.clone())?;
        let next = rig.good_backup_within(&source, process::HANG);
        let (_, refused) = next.with_context(|| format!("{context}: the next backup"))?;
        eprintln!("    the next backup is good, after {refused:?} in which the broken run was still ending");
        server
            .wait_for_greeting(process::HANG)
            .with_context(|| format!("{context}: after the next backup"))?;
    }
    load.stop();
    rig.verify_all()
}

/// A stopped agent is neither dead nor alive: its lock is held and its pipe is open. Only the deadline that comes near helps.
#[test]
fn a_frozen_agent_does_not_keep_mail_stopped() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let (rig, server, source) = lab(home.path(), "20s")?;
    server.hold("stop", true)?;
    let mut backup = Running::spawn(&mut rig.backup_command(&source))?;
    ensure!(wait_for_window(&server, 0, &mut backup)?, "the backup ended without stopping mail");
    let frozen = agents(backup.pid());
    ensure!(!frozen.is_empty(), "no agent below the box");
    for agent in &frozen {
        signal(agent.pid, Signal::STOP);
    }
    // From now on the stop, which waited for the agent to be frozen, may end.
    server.hold("stop", false)?;
    let start = Instant::now();
    while count(&server, "start") < 2 {
        ensure!(start.elapsed() < process::HANG, "nobody starts mail: {}", server.diagnosis());
        std::thread::sleep(Duration::from_millis(10));
    }
    let result = server.wait_for_greeting(process::HANG).context("mail stays stopped behind a frozen agent");
    for agent in &frozen {
        signal(agent.pid, Signal::CONT);
    }
    let output = backup.wait(process::HANG)?;
    result?;
    ensure!(output.code != 0, "a window that the guard ended must not count as consistent: {}", output.out());
    server.wait_for_greeting(process::HANG)?;
    let source = cyrus_source(&source, &server, &Options::default())?;
    rig.good_backup_within(&source, process::HANG).map(drop)
}
