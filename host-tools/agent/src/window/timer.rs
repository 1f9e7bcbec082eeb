//! The second line behind the guard where systemd runs: a timer that runs `mailkeep-agent rescue` when mail has to be
//! started so that it answers by the deadline. Agent and guard may both be killed; systemd cannot.
//!
//! It counts twice, by the monotonic clock and by the calendar: a machine that slept has the right time of day, a
//! machine whose clock was set has the right count of seconds. Whichever comes first finds out whether it is time.

use std::time::{SystemTime, UNIX_EPOCH};

use mailkeep_mail::source::Argv;

use super::intent::Intent;
use super::state::{STATE_ENV, StateFolder};
use crate::command;
use crate::error::{AgentError, one_line};
use crate::limits;

fn unit(token: &str) -> String {
    format!("mailkeep-deadline-{token}")
}

/// Arms the timer and sees it active.
///
/// # Errors
/// [`AgentError::Guard`]; then nothing may be stopped.
pub fn arm(program: &std::path::Path, folder: &StateFolder, intent: &Intent) -> Result<(), AgentError> {
    let base = folder.path().parent().unwrap_or(folder.path());
    // At the same moment as the guard: the starter's lock lets one of them do it.
    let left = intent.left();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let words = [
        format!("--unit={}", unit(&intent.token)),
        // The next millisecond, the next whole second: never earlier, when a rescue would still leave a hung agent its
        // lock.
        format!("--on-active={}ms", left.as_millis() + 1),
        format!("--on-calendar=@{}", (now + left).as_secs() + 1),
        "--timer-property=AccuracySec=1s".to_owned(),
        "--property=KillMode=process".to_owned(),
        format!("--setenv={STATE_ENV}={}", base.display()),
        program.display().to_string(),
        "rescue".to_owned(),
        "--keep-trying".to_owned(),
    ];
    let failed = |why: String| AgentError::Guard { why: format!("the timer of systemd: {why}") };
    systemd_run(words.into_iter()).map_err(failed)?;
    let timer = format!("{}.timer", unit(&intent.token));
    if command::says_yes(&Argv::new("systemctl", ["is-active", "--quiet", &timer])) {
        Ok(())
    } else {
        Err(failed(format!("{timer} is not active")))
    }
}

/// Takes the timer of a closed window away, if there is one. One that is left finds nothing to do.
pub fn disarm(token: &str) {
    if std::path::Path::new(mailkeep_mail::quiesce::SYSTEMD_MARK).is_dir() {
        let timer = format!("{}.timer", unit(token));
        let argv = Argv::new("systemctl", ["stop", "--no-block", "--quiet", &timer]);
        let _ = command::run(&argv, limits::ASK_BOUND, &|| false);
    }
}

/// Runs `systemd-run` with these words; units that failed are not kept, where it knows how (from version 236 on).
///
/// # Errors
/// Why it failed.
pub fn systemd_run(words: impl Iterator<Item = String>) -> Result<(), String> {
    let words: Vec<String> = words.collect();
    let mut why = String::new();
    for own in [&["--quiet", "--collect"][..], &["--quiet"]] {
        let argv = Argv::new("systemd-run", own.iter().map(|word| (*word).to_owned()).chain(words.clone()));
        match command::run(&argv, limits::ARM_BOUND, &|| false) {
            Ok(done) if done.ok => return Ok(()),
            Ok(done) => why = done.describe(),
            Err(error) => why = one_line(&error),
        }
    }
    Err(why)
}
