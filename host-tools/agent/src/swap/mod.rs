//! Trees that change places with restored ones while mail is stopped, and what everybody who starts mail does before.
//!
//! The agent begins a swap under a lock of its own and with the token of its window; whoever starts mail (agent, guard,
//! rescue, promotion) calls [`before_start`] under the same lock. One who hangs with the lock is killed: the journal says
//! how it goes on. The trees that are no longer served stay beside until they are dropped ([`drop_kept`]).

pub mod beside;
pub(crate) mod ground;
pub mod journal;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mailkeep_mail::source::Argv;
use rustix::process::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{AgentError, one_line};
use crate::window::recovery::Recovery;
use crate::window::start::{self, Care};
use crate::window::state::{Lock, StateFolder};
use crate::{command, limits};
use ground::Disks;
use journal::{Goal, JOURNAL, Journal, Standing, Step};

/// What is left beside after a swap.
const KEPT: &str = "kept.json";
/// Held by whoever moves trees.
const SWAP_LOCK: &str = "swap.lock";

/// Trees that are kept beside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Since when, seconds since 1970.
    pub since: u64,
    /// What they are: the old state, or a restored one that mail did not come up on.
    pub what: Goal,
    /// The snapshot of that swap.
    pub snapshot: String,
    /// Where they are.
    pub places: Vec<PathBuf>,
}

/// The journal that is there.
///
/// # Errors
/// It cannot be read or understood.
pub fn pending(folder: &StateFolder) -> Result<Option<Journal>, AgentError> {
    read(folder, JOURNAL)
}

/// What is kept beside.
///
/// # Errors
/// The note of it cannot be read or understood.
pub fn kept(folder: &StateFolder) -> Result<Option<Kept>, AgentError> {
    read(folder, KEPT)
}

fn read<T: DeserializeOwned>(folder: &StateFolder, name: &str) -> Result<Option<T>, AgentError> {
    folder.note(name, "see in it which trees were exchanged, then remove it")
}

/// Exchanges the trees, if `may` says so under the lock: the window is still the caller's.
///
/// # Errors
/// The window is no longer ours, or [`journal::SwapError`]. Whoever starts mail next finds all old or all new.
pub fn begin(folder: &StateFolder, may: &dyn Fn() -> bool, mut journal: Journal) -> Result<(), AgentError> {
    let _lock = take_lock(folder)?;
    // Under the lock: a guard that has begun to start mail has said so before it asked for the lock.
    if !may() {
        return Err(AgentError::Rebuild {
            why: "the deadline passed before the trees were exchanged".to_owned(),
        });
    }
    Ok(journal.begin(&Disks { folder })?)
}

/// Brings the trees to one side before mail is started.
///
/// # Errors
/// They cannot be; then mail must not be started. In words.
pub fn before_start(folder: &StateFolder, recovery: Option<&Recovery>) -> Result<Option<Journal>, String> {
    let said = |error: AgentError| one_line(&error);
    if pending(folder).map_err(said)?.is_none() {
        return Ok(None);
    }
    let _lock = take_lock(folder).map_err(said)?;
    let Some(mut journal) = pending(folder).map_err(said)? else { return Ok(None) };
    let ground = Disks { folder };
    let standing = journal.standing(&ground).map_err(|error| one_line(&error))?;
    if recovery.is_some_and(|recovery| start::runs(recovery) == Some(true)) {
        match standing {
            // Somebody has started mail on what was there: that is the state now.
            Standing::All(Goal::Old) => journal.turn_back(&ground).map_err(|error| one_line(&error))?,
            Standing::All(Goal::New) => {}
            Standing::Mixed => stop(&journal, recovery)?,
        }
    }
    journal.settle(&ground).map_err(|error| one_line(&error))?;
    Ok(Some(journal))
}

/// Mail does not come up on the new state: the old one is served.
///
/// # Errors
/// In words.
pub fn turn_back(folder: &StateFolder, recovery: &Recovery) -> Result<(), String> {
    let said = |error: AgentError| one_line(&error);
    let _lock = take_lock(folder).map_err(said)?;
    let Some(mut journal) = pending(folder).map_err(said)? else { return Ok(()) };
    stop(&journal, Some(recovery))?;
    journal.turn_back(&Disks { folder }).map_err(|error| one_line(&error))
}

/// Stops what was started on trees that have to move.
fn stop(journal: &Journal, recovery: Option<&Recovery>) -> Result<(), String> {
    let Some(argv) = journal.stop.clone().and_then(Argv::from_words) else {
        return Err("mail runs on trees that have to move, and there is no command to stop it".to_owned());
    };
    command::run(&argv, limits::STOP_BOUND, &|| false).map_err(|error| one_line(&error))?;
    let end = Instant::now() + limits::STOP_BOUND;
    while recovery.is_some_and(|recovery| !start::is_down(recovery)) {
        if Instant::now() >= end {
            return Err(format!("mail runs on trees that have to move, and {argv} does not stop it"));
        }
        std::thread::sleep(limits::POLL);
    }
    Ok(())
}

/// As [`start::bring_back`], with all trees on one side before, and on the old state where mail ran before and does not
/// come up on the new one.
///
/// # Errors
/// What the last attempt said.
pub fn bring_back(
    folder: &StateFolder,
    recovery: &Recovery,
    bound: Duration,
    care: Care,
) -> Result<Duration, String> {
    let began = Instant::now();
    let journal = loop {
        match before_start(folder, Some(recovery)) {
            Ok(journal) => break journal,
            Err(why) if began.elapsed() + limits::RETRY_MAX >= bound => return Err(why),
            // Somebody may put it right.
            Err(_) => std::thread::sleep(limits::RETRY_MAX),
        }
    };
    match journal {
        Some(journal) if journal.goal == Goal::New && journal.ran => {
            let patience = bound.min(limits::NEW_STATE_PATIENCE);
            start::bring_back(recovery, patience, care).or_else(|_| {
                turn_back(folder, recovery)?;
                start::bring_back(recovery, bound, Care::Much)
            })
        }
        _ => start::bring_back(recovery, bound, care),
    }
}

/// Mail answers: what is not served any more is noted as kept, and the journal goes.
///
/// # Errors
/// The state folder cannot be written.
pub fn close(folder: &StateFolder) -> Result<(), AgentError> {
    let Some(journal) = pending(folder)? else { return Ok(()) };
    let _lock = take_lock(folder)?;
    let what = match journal.goal {
        Goal::New => Goal::Old,
        Goal::Old => Goal::New,
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut places: Vec<PathBuf> = journal.steps.iter().map(|step| step.beside.clone()).collect();
    // An earlier one whose drop was broken off.
    places.extend(kept(folder)?.into_iter().flat_map(|kept| kept.places));
    places.sort();
    places.dedup();
    let kept = Kept { since, what, snapshot: journal.snapshot, places };
    folder.write_note(KEPT, &kept)?;
    folder.remove_durably(JOURNAL)
}

/// How the trees stood when the journal was closed; `None` before the first swap.
///
/// # Errors
/// As [`kept`].
pub fn served(folder: &StateFolder) -> Result<Option<Goal>, AgentError> {
    Ok(kept(folder)?.map(|kept| match kept.what {
        Goal::Old => Goal::New,
        Goal::New => Goal::Old,
    }))
}

/// Removes the trees that are kept beside; tells how many.
///
/// # Errors
/// A swap is under way, or something does not go.
pub fn drop_kept(folder: &StateFolder) -> Result<u64, AgentError> {
    let _lock = take_lock(folder)?;
    if pending(folder)?.is_some() {
        return Err(AgentError::Rebuild { why: "trees are being exchanged on this server".to_owned() });
    }
    let Some(kept) = kept(folder)? else { return Ok(0) };
    let mut count = 0;
    for place in &kept.places {
        count += u64::from(beside::remove(place)?);
    }
    folder.remove_durably(KEPT)?;
    Ok(count)
}

/// Takes the lock; who keeps it for too long is killed.
fn take_lock(folder: &StateFolder) -> Result<Lock, AgentError> {
    loop {
        if let Some(lock) = folder.lock_within(SWAP_LOCK, limits::SWAP_PATIENCE)? {
            return Ok(lock);
        }
        for pid in holders(folder) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// Processes that hold the lock: the kernel names them by the inode of its file, and that it is this very file is seen by
/// looking at what they have open.
fn holders(folder: &StateFolder) -> Vec<u32> {
    let path = folder.file(SWAP_LOCK);
    let Ok((device, inode)) = fs::File::open(&path).and_then(|file| ground::identity(&file)) else {
        return Vec::new();
    };
    let text = fs::read_to_string("/proc/locks").unwrap_or_default();
    let pids = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, _, _) = (words.next()?, words.next()?, words.next()?);
        let (pid, place) = (words.next()?.parse::<u32>().ok()?, words.next()?);
        let of_this = place.rsplit(':').next()?.parse() == Ok(inode);
        (kind == "FLOCK" && of_this && pid != std::process::id()).then_some(pid)
    });
    let has_it_open = |pid: &u32| {
        use std::os::unix::fs::MetadataExt;
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| fs::metadata(fd.path()).ok())
            .any(|meta| (meta.dev(), meta.ino()) == (device, inode))
    };
    pids.filter(has_it_open).collect()
}

/// The steps for trees that were built: see [`Step`].
///
/// # Errors
/// One could not tell the two sides of one apart.
pub fn steps_are_plain(steps: &[Step]) -> Result<(), AgentError> {
    match steps.iter().find(|step| !step.is_plain()) {
        None => Ok(()),
        Some(step) => Err(AgentError::Rebuild {
            why: format!("{} cannot be told from what was built for it", step.live.display()),
        }),
    }
}

#[cfg(test)]
mod tests;
