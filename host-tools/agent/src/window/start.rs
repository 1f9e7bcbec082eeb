//! Brings mail back, and tells whether it is.

use std::time::{Duration, Instant};

use super::recovery::Recovery;
use crate::command::{self, Done, Running};
use crate::limits;
use crate::probe::greets;

/// How sure one has to be that mail is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// A greeting is enough.
    Usual,
    /// A stop may still be at work: the start command must have returned, and the greeting must last.
    Much,
}

/// Whether mail runs; `None` if there is no way to know.
pub fn runs(recovery: &Recovery) -> Option<bool> {
    if recovery.is_held() == Some(true) {
        // It may greet, and yet no mail gets in.
        return Some(false);
    }
    match (recovery.probe(), recovery.running()) {
        (Some(probe), _) => Some(greets(&probe)),
        (None, Some(running)) => Some(command::says_yes(&running)),
        (None, None) => None,
    }
}

/// Whether mail is stopped, as far as can be known. Only asked after the stop command has returned: a connection while
/// Cyrus shuts down can make it hang.
pub fn is_down(recovery: &Recovery) -> bool {
    if let Some(held) = recovery.is_held() {
        return held;
    }
    let running = recovery.running().is_some_and(|running| command::says_yes(&running));
    !running && !recovery.probe().is_some_and(|probe| greets(&probe))
}

/// Starts mail and tries again until it greets, at most for `bound`. Tells how long it took to greet; that with much care
/// the greeting has to last is not counted, since mail answers meanwhile.
///
/// # Errors
/// What the last attempt said.
pub fn bring_back(recovery: &Recovery, bound: Duration, care: Care) -> Result<Duration, String> {
    let began = Instant::now();
    let end = began + bound;
    let mut pause = Duration::from_millis(250);
    loop {
        let greeted = attempt(recovery, care).map(|()| began.elapsed());
        let why = match greeted.and_then(|took| lasts(recovery, care).map(|()| took)) {
            Ok(took) => return Ok(took),
            Err(why) => why,
        };
        if Instant::now() + pause >= end {
            return Err(why);
        }
        if !recovery.end_stuck_masters().is_empty() {
            pause = Duration::from_millis(250);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(limits::RETRY_MAX);
    }
}

/// With much care: whether mail still runs a while later.
fn lasts(recovery: &Recovery, care: Care) -> Result<(), String> {
    let end = Instant::now() + limits::SETTLE;
    while care == Care::Much && Instant::now() < end {
        std::thread::sleep(limits::POLL * 5);
        if runs(recovery) == Some(false) {
            return Err("mail went away again after it had started".to_owned());
        }
    }
    Ok(())
}

fn attempt(recovery: &Recovery, care: Care) -> Result<(), String> {
    if let Some(before) = recovery.before_start() {
        let _ = command::run(&before, limits::ASK_BOUND, &|| false);
    }
    let start = recovery.start().ok_or("there is no start command")?;
    let mut running = Running::start(&start, None).map_err(|error| crate::error::one_line(&error))?;
    let probe = recovery.probe();
    let patience = match care {
        Care::Usual => limits::GREETING_PATIENCE,
        Care::Much => limits::GREETING_PATIENCE_CAREFUL,
    };
    let began = Instant::now();
    let mut ended: Option<(Done, Instant)> = None;
    loop {
        // A greeting counts whether or not the start command has returned: some never do.
        if (care == Care::Usual || ended.is_some()) && probe.as_ref().is_some_and(greets) {
            return Ok(());
        }
        match &ended {
            None => ended = running.poll().map(|done| (done, Instant::now())),
            Some((done, _)) if probe.is_none() => {
                return match recovery.running() {
                    Some(running) if command::says_yes(&running) => Ok(()),
                    Some(_) => Err(format!("mail does not run after this: {}", done.describe())),
                    None if done.ok => Ok(()),
                    None => Err(done.describe()),
                };
            }
            Some((done, _)) if !done.ok => return Err(done.describe()),
            Some((done, at)) if at.elapsed() > patience => {
                return Err(format!("no greeting after this: {}", done.describe()));
            }
            Some(_) => {}
        }
        if ended.is_none() && began.elapsed() > limits::START_BOUND {
            running.kill();
            return Err(format!("{start} did not return within {} s", limits::START_BOUND.as_secs()));
        }
        std::thread::sleep(limits::QUICK);
    }
}
