//! Mail held still by Cyrus' own global lock, with nothing stopped (`cyr_withlock_run`, Cyrus 3.12 and newer).
//!
//! `cyr_withlock_run` runs a command while it holds the lock; the command is `mailkeep-agent hold`, which says that it is
//! there and waits. It ends, and the lock with it, when its input ends (the agent closed it, or is gone) and when its
//! time is over; and `mailkeep-agent release`, the start command of such a window, kills it and all around it by the
//! token in their environment.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mailkeep_mail::source::Argv;

use super::stragglers;
use crate::command;
use crate::error::AgentError;
use crate::limits;

/// What `hold` says when the lock is there.
const HELD: &str = "mailkeep: the lock is held";

/// The command that takes the lock and holds it; `run` is `cyr_withlock_run` with its options. `None` if our own path is
/// not known.
pub fn hold_command(run: &Argv, deadline: Duration) -> Option<Argv> {
    let own = [own_path()?, "hold".to_owned(), "--seconds".to_owned(), deadline.as_secs().max(1).to_string()];
    Argv::from_words(run.words().into_iter().chain(own).collect())
}

/// The command that gives the lock of this window back. `None` if our own path is not known.
pub fn release_command(token: &str) -> Option<Argv> {
    Some(Argv::new(own_path()?, ["release", "--token", token]))
}

fn own_path() -> Option<String> {
    // Cyrus runs it by its path, and looks nowhere else.
    std::env::current_exe().ok()?.to_str().map(str::to_owned)
}

/// Whether this is what `hold` says when the lock is there.
pub fn says_held(said: &str) -> bool {
    said.lines().any(|line| line == HELD)
}

/// Whether something holds the lock for this window.
pub fn is_held(token: &str) -> bool {
    !stragglers::with_mark(&command::mark(token)).is_empty()
}

/// Holds: until the input ends, at most for `longest`.
///
/// # Errors
/// Nobody can be told that the lock is there.
pub fn hold(longest: Duration) -> Result<(), AgentError> {
    let mut out = std::io::stdout();
    writeln!(out, "{HELD}").and_then(|()| out.flush()).map_err(AgentError::Thread)?;
    let (ended, end) = mpsc::channel();
    std::thread::Builder::new()
        .name("input".into())
        .spawn(move || {
            let mut nothing = [0u8; 64];
            while matches!(std::io::stdin().read(&mut nothing), Ok(count) if count > 0) {}
            let _ = ended.send(());
        })
        .map_err(AgentError::Thread)?;
    let _ = end.recv_timeout(longest);
    Ok(())
}

/// Ends whatever holds the lock for this window.
///
/// # Errors
/// It does not end.
pub fn release(token: &str) -> Result<(), AgentError> {
    let mark = command::mark(token);
    let end = Instant::now() + limits::RELEASE_BOUND;
    loop {
        let holders = stragglers::with_mark(&mark);
        if holders.is_empty() {
            return Ok(());
        }
        holders.into_iter().for_each(stragglers::kill);
        if Instant::now() >= end {
            let why = "what holds the lock of Cyrus cannot be ended".to_owned();
            return Err(AgentError::NotBack { why });
        }
        std::thread::sleep(limits::QUICK);
    }
}
