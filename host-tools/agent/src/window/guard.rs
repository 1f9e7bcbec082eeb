//! The restart guard: a process in a session of its own whose only work is to start mail if the agent does not.
//!
//! It waits for the agent's lock. The kernel gives that lock away at the very moment the agent ends, however it ends.
//! Then, or when mail has to be started so that it answers by the deadline ([`Intent::left`]), and once a second, it
//! looks at the intent: gone means that all is well. It writes what it does into `guard.log` beside the intent.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mailkeep_mail::quiesce::SYSTEMD_MARK;
use mailkeep_mail::source::Argv;
use rustix::process::geteuid;

use super::intent::{AGENT_LOCK, Intent, Starter, since_boot};
use super::start;
use super::state::StateFolder;
use super::timer;
use crate::error::{AgentError, one_line};
use crate::limits;
use crate::{open_files, swap};

/// Held by a living guard.
const GUARD_LOCK: &str = "guard.lock";
/// Holds the token of the window that the guard watches.
const ARMED: &str = "armed";

/// Starts a guard for an intent that has been written, and waits until it is seen armed.
///
/// # Errors
/// [`AgentError::Guard`]; then nothing may be stopped.
pub fn arm(folder: &StateFolder, intent: &Intent) -> Result<Option<Child>, AgentError> {
    let program = std::env::current_exe().map_err(|error| AgentError::Guard { why: error.to_string() })?;
    let words = vec![
        "guard".to_owned(),
        "--folder".to_owned(),
        folder.path().display().to_string(),
        "--token".to_owned(),
        intent.token.clone(),
    ];
    let systemd = geteuid().is_root() && Path::new(SYSTEMD_MARK).is_dir();
    if systemd {
        timer::arm(&program, folder, intent)?;
    }
    // Under systemd the guard is a unit of its own: a login session that is torn down takes its processes along.
    let child = if systemd && as_unit(&program, &words, intent) {
        None
    } else {
        let argv = Argv::new(program.display().to_string(), words.iter().cloned());
        let spawned = open_files::as_found(&argv)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn();
        Some(spawned.map_err(|error| AgentError::Guard { why: format!("{}: {error}", program.display()) })?)
    };
    let mut child = child;
    let end = Instant::now() + limits::ARM_BOUND;
    while !is_armed(folder, &intent.token)? {
        if let Some(Ok(Some(status))) = child.as_mut().map(Child::try_wait) {
            return Err(AgentError::Guard {
                why: format!("it ended with {status}; see {}", log_path(folder)),
            });
        }
        if Instant::now() >= end {
            if let Some(child) = &mut child {
                let _ = child.kill();
                let _ = child.wait();
            }
            return Err(AgentError::Guard { why: "it did not say so in time".to_owned() });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}

/// Whether the window with this token was closed. Only what is known says so: an intent that cannot be read does not.
fn is_over(folder: &StateFolder, token: &str) -> bool {
    Intent::load(folder).is_ok_and(|intent| intent.is_none_or(|intent| intent.token != token))
}

fn as_unit(program: &Path, words: &[String], intent: &Intent) -> bool {
    let name = format!("--unit=mailkeep-guard-{}", &intent.token);
    // Mail that the guard starts by a command would live in the guard's unit, and must outlive it.
    let keep = "--property=KillMode=process".to_owned();
    let own = [keep, name, program.display().to_string()];
    timer::systemd_run(own.into_iter().chain(words.iter().cloned())).is_ok()
}

/// A guard lives and watches this very window.
///
/// # Errors
/// Its lock cannot be looked at.
pub fn is_armed(folder: &StateFolder, token: &str) -> Result<bool, AgentError> {
    if std::fs::read_to_string(folder.file(ARMED)).is_ok_and(|text| text == token) {
        return Ok(folder.try_lock(GUARD_LOCK)?.is_none());
    }
    Ok(false)
}

/// The guard process.
///
/// # Errors
/// It cannot do its work; the text is in its log too.
pub fn watch(folder: &Path, token: &str) -> Result<(), AgentError> {
    let folder = StateFolder::existing(folder)?;
    let log = Log { folder: folder.clone() };
    let watched = watch_folder(&folder, token, &log);
    if let Err(error) = &watched {
        log.say(&one_line(error));
    }
    watched
}

fn watch_folder(folder: &StateFolder, token: &str, log: &Log) -> Result<(), AgentError> {
    // Fails only for a leader of a group, which then has no terminal to lose either.
    let _ = rustix::process::setsid();
    // A guard of an earlier window may need a moment to notice that it is over.
    let Some(_alive) = folder.lock_within(GUARD_LOCK, limits::ARM_BOUND)? else {
        return Err(AgentError::Guard { why: "another guard is at work".to_owned() });
    };
    let ours = |intent: &Intent| intent.token == token && intent.taken_by.is_none();
    let Some(intent) = Intent::load(folder)?.filter(ours) else {
        return Err(AgentError::Guard { why: "there is no such window".to_owned() });
    };
    let (let_go, agent_is_gone) = mpsc::channel();
    let waiting = folder.clone();
    std::thread::Builder::new()
        .name("agent-lock".into())
        .spawn(move || {
            let _ = let_go.send(waiting.lock(AGENT_LOCK));
        })
        .map_err(AgentError::Thread)?;
    folder.write_durably(ARMED, token.as_bytes())?;
    let why = loop {
        let left = intent.left();
        match agent_is_gone.recv_timeout(left.min(Duration::from_secs(1))) {
            // The lock is held from here on: no new window opens while this one is put right.
            Ok(Ok(lock)) => break (Some(lock), "the agent is gone"),
            // A lock that cannot be had says nothing; the deadline does.
            Ok(Err(_)) | Err(mpsc::RecvTimeoutError::Disconnected) => std::thread::sleep(left),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        // The next run may have taken the agent's lock before we did; its guard waits for ours to be free.
        if is_over(folder, token) {
            return Ok(());
        }
        if left.is_zero() {
            break (None, "the deadline comes near");
        }
    };
    let (_lock, why) = why;
    let Some(starter) = Starter::take(folder, token, "guard", intent.patience())? else {
        return Ok(());
    };
    log.say(&format!("{why}: mail is started"));
    match starter.bring_back(limits::GUARD_BOUND, starter.care()) {
        Ok(took) => {
            log.say(&format!("mail answers again, after {} ms", took.as_millis()));
            timer::disarm(token);
            starter.finish(Some(took))
        }
        Err(why) => {
            log.say(&format!("mail could not be started, look at this server: {why}"));
            starter.give_up();
            Ok(())
        }
    }
}

/// Starts mail where an intent was left behind: by a reboot, or by both agent and guard being killed. Returns whether
/// there was one. Where the time to start mail has come, it does not matter who is alive: an agent that hangs keeps its
/// lock.
///
/// # Errors
/// Mail does not come back, or the state cannot be used.
pub fn rescue(folder: &StateFolder, patience: Duration) -> Result<bool, AgentError> {
    if Intent::load(folder)?.is_none() {
        return settle_standby(folder);
    }
    // A living agent holds it, and a guard that is at work.
    let lock = folder.try_lock(AGENT_LOCK)?;
    let Some(intent) = Intent::load(folder)? else { return Ok(false) };
    if lock.is_none() && !intent.left().is_zero() {
        return Ok(false);
    }
    let Some(starter) = Starter::take(folder, &intent.token, "rescue", intent.patience())? else {
        return Ok(false);
    };
    Log { folder: folder.clone() }.say("an unfinished window was found: mail is started");
    // It may run since long: the machine was booted, say.
    let care = starter.care();
    let mut took = None;
    let settled = starter.settle();
    if settled.is_err() || care == start::Care::Much || start::runs(starter.recovery()) != Some(true) {
        match starter.bring_back(patience, care) {
            Ok(time) => took = Some(time),
            Err(why) => {
                starter.give_up();
                return Err(AgentError::NotBack { why });
            }
        }
    }
    timer::disarm(&intent.token);
    starter.finish(took)?;
    Ok(true)
}

/// A swap that was broken off where mail stays down: all trees are brought to one side, and nothing is started. Never a
/// rescue of mail.
fn settle_standby(folder: &StateFolder) -> Result<bool, AgentError> {
    // A living agent is at it.
    if swap::pending(folder)?.is_none() {
        return Ok(false);
    }
    let Some(_lock) = folder.try_lock(AGENT_LOCK)? else { return Ok(false) };
    // One whose window was opened since.
    if Intent::load(folder)?.is_some() {
        return Ok(false);
    }
    swap::before_start(folder, None).map_err(|why| AgentError::Rebuild { why })?;
    swap::close(folder)?;
    Ok(false)
}

fn log_path(folder: &StateFolder) -> String {
    folder.file("guard.log").display().to_string()
}

struct Log {
    folder: StateFolder,
}

impl Log {
    fn say(&self, what: &str) {
        // For people, and by the clock that the deadline goes by.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let boot = since_boot();
        let opened =
            OpenOptions::new().append(true).create(true).mode(0o600).open(self.folder.file("guard.log"));
        if let Ok(mut file) = opened {
            let _ = writeln!(file, "{} (boot and {:.3} s) {what}", now.as_secs(), boot.as_secs_f64());
        }
    }
}
