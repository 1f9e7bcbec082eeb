//! The intent: a durable note that mail has been stopped, by whom, until when, and how it is started again.
//!
//! It is there from before the stop until a real greeting was seen after the start. Its token says which window it
//! belongs to. Whoever starts mail because of it takes the starter's lock and compares the token, so that a late guard
//! never starts mail in the middle of something newer.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::lead::Starts;
use super::recovery::Recovery;
use super::start::Care;
use super::state::{Lock, StateFolder};
use super::stragglers;
use crate::command;
use crate::error::AgentError;
use crate::facts;
use crate::limits;
use crate::standby::Standby;
use crate::swap;

/// Name of the file.
pub const INTENT: &str = "intent.json";
/// Held by the agent as long as its window is open.
pub const AGENT_LOCK: &str = "agent.lock";
/// Held by whoever starts mail.
pub const START_LOCK: &str = "start.lock";

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// Form of this file; 1.
    pub version: u32,
    /// Name of the source that is copied, for people.
    pub source: String,
    /// Which window this is; random.
    pub token: String,
    /// When it was written, seconds since 1970, for people.
    pub written: u64,
    /// Mail answers this long after the stop, whatever happens.
    pub deadline_seconds: u64,
    /// So long before that it is started, in milliseconds: see [`mod@super::lead`].
    #[serde(default)]
    pub lead_ms: u64,
    /// The boot in which it was written; another one means that the server went down meanwhile.
    #[serde(default)]
    pub boot_id: String,
    /// When it was written, in milliseconds since that boot. No clock that anybody sets.
    #[serde(default)]
    pub written_since_boot_ms: u64,
    /// Who is starting mail because of it; nobody so far if `None`.
    pub taken_by: Option<String>,
    /// How far the stop has come.
    pub stop: StopNote,
    /// How mail is started.
    pub recovery: Recovery,
}

/// How far the stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopNote {
    /// Nothing was stopped so far.
    Not,
    /// The stop command is at work, or ended badly.
    Begun,
    /// It has returned, and well.
    Done,
}

impl Intent {
    /// A token for a new window.
    ///
    /// # Errors
    /// There is no randomness to be had.
    pub fn new_token() -> Result<String, AgentError> {
        let mut token = [0u8; 16];
        getrandom::fill(&mut token).map_err(|error| AgentError::Guard { why: error.to_string() })?;
        Ok(token.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// A new one.
    pub fn new(source: &str, token: &str, recovery: Recovery, deadline: Duration, lead: Duration) -> Intent {
        let written = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Intent {
            version: 1,
            source: source.to_owned(),
            token: token.to_owned(),
            written: written.as_secs(),
            deadline_seconds: deadline.as_secs(),
            lead_ms: u64::try_from(lead.as_millis()).unwrap_or(0),
            boot_id: boot_id(),
            written_since_boot_ms: u64::try_from(since_boot().as_millis()).unwrap_or(0),
            taken_by: None,
            stop: StopNote::Not,
            recovery,
        }
    }

    /// How long it is until mail has to be started whoever is alive, so that it answers by the deadline; zero when the
    /// time has come, or when the server was booted since. The one rule for guard, timer and rescue. No clock that
    /// anybody sets has a part in it.
    pub fn left(&self) -> Duration {
        self.left_at(since_boot(), &boot_id())
    }

    fn left_at(&self, since_boot: Duration, boot_id: &str) -> Duration {
        let usable = Duration::from_secs(self.deadline_seconds).saturating_sub(self.lead());
        let start = Duration::from_millis(self.written_since_boot_ms).saturating_add(usable);
        if self.boot_id == boot_id { start.saturating_sub(since_boot) } else { Duration::ZERO }
    }

    /// So long before the deadline mail is started.
    pub fn lead(&self) -> Duration {
        Duration::from_millis(self.lead_ms)
    }

    /// How long somebody else who is starting mail is waited for: as long as there is time, and then for as long as a start
    /// takes.
    pub fn patience(&self) -> Duration {
        self.left().saturating_add(self.lead() / 2).min(limits::START_BOUND)
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// It cannot be written; then nothing may be stopped.
    pub fn write(&self, folder: &StateFolder) -> Result<(), AgentError> {
        folder.write_note(INTENT, self)
    }

    /// Waits for a stop that may still be at work, ends it if it goes on for too long, and says with how much care mail
    /// has to be started after that. The stop
    /// command carries the token in its environment: a process number would be known only after it was started, and
    /// is used again after a reboot.
    pub fn care(&self) -> Care {
        match self.stop {
            StopNote::Not | StopNote::Done => Care::Usual,
            StopNote::Begun => {
                let mark = command::mark(&self.token);
                // When mail has to be started it has had more time than any stop.
                let end = Instant::now() + limits::ORPHAN_PATIENCE.min(self.left());
                while !stragglers::with_mark(&mark).is_empty() && Instant::now() < end {
                    std::thread::sleep(limits::POLL);
                }
                stragglers::with_mark(&mark).into_iter().for_each(stragglers::kill);
                Care::Much
            }
        }
    }

    /// The intent that is there, if there is one.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn load(folder: &StateFolder) -> Result<Option<Intent>, AgentError> {
        folder.note(INTENT, "see that mail runs on this server, then remove it")
    }

    /// Whether the window with this token is still open.
    pub fn is_open(folder: &StateFolder, token: &str) -> bool {
        matches!(Intent::load(folder), Ok(Some(intent)) if intent.token == token && intent.taken_by.is_none())
    }
}

/// Time since boot, suspended or not; no clock that anybody sets.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn boot_id() -> String {
    facts::kernel_line("/proc/sys/kernel/random/boot_id")
}

/// The right to start mail for one window.
#[derive(Debug)]
pub struct Starter {
    folder: StateFolder,
    intent: Intent,
    /// Who had begun to start mail before us and did not finish.
    pub taken_before_by: Option<String>,
    _lock: Option<Lock>,
}

impl Starter {
    /// Takes the right; `None` if that window is closed already, or its server became a standby in it. Somebody else who holds it is waited for, at most
    /// `patience`: a starter that hangs must not keep mail down, and a second start does no harm.
    ///
    /// # Errors
    /// The state folder cannot be used.
    pub fn take(
        folder: &StateFolder,
        token: &str,
        by: &str,
        patience: Duration,
    ) -> Result<Option<Starter>, AgentError> {
        let lock = folder.lock_within(START_LOCK, patience)?;
        let Some(mut intent) = Intent::load(folder)?.filter(|intent| intent.token == token) else {
            return Ok(None);
        };
        if !matches!(Standby::load(folder), Ok(None)) {
            // Mail is down here on purpose: whoever noted that died before the intent went.
            folder.remove_durably(INTENT)?;
            return Ok(None);
        }
        let taken_before_by = intent.taken_by.replace(by.to_owned()).filter(|who| who != by);
        // Without this note mail is started all the same.
        let _ = intent.write(folder);
        Ok(Some(Starter { folder: folder.clone(), intent, taken_before_by, _lock: lock }))
    }

    /// How.
    pub fn recovery(&self) -> &Recovery {
        &self.intent.recovery
    }

    /// See [`Intent::care`].
    pub fn care(&self) -> Care {
        self.intent.care()
    }

    /// Starts mail, with all trees on one side before: see [`swap::bring_back`].
    ///
    /// # Errors
    /// What the last attempt said.
    pub fn bring_back(&self, bound: Duration, care: Care) -> Result<Duration, String> {
        swap::bring_back(&self.folder, self.recovery(), bound, care)
    }

    /// Where mail runs already: whether all trees are on one side, after putting them there.
    ///
    /// # Errors
    /// In words.
    pub fn settle(&self) -> Result<(), String> {
        swap::before_start(&self.folder, Some(self.recovery())).map(drop)
    }

    /// Mail is back, `took` after it began to be started if it was we who did it: the window is closed.
    ///
    /// # Errors
    /// The intent cannot be removed.
    pub fn finish(self, took: Option<Duration>) -> Result<(), AgentError> {
        // As long as there is a journal there is an intent.
        swap::close(&self.folder)?;
        let removed = self.folder.remove_durably(INTENT);
        if let Some(took) = took {
            Starts::note(&self.folder, took);
        }
        removed
    }

    /// Mail is not back: whoever comes next may try.
    pub fn give_up(mut self) {
        self.intent.taken_by = None;
        let _ = self.intent.write(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(boot_id: &str) -> Intent {
        let text = serde_json::json!({
            "version": 1, "source": "m", "token": "t", "written": 0, "deadline_seconds": 60, "lead_ms": 12_500,
            "boot_id": boot_id, "written_since_boot_ms": 100_000, "taken_by": null, "stop": "not",
            "recovery": { "before_start": null, "start": ["x"], "running": null, "probe": null, "imapd_conf": null }
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn mail_is_started_the_lead_before_the_deadline_by_the_clock_that_nobody_sets() {
        let left = |millis: u64, boot: &str| intent("this boot").left_at(Duration::from_millis(millis), boot);
        assert_eq!(left(100_000, "this boot"), Duration::from_millis(47_500));
        assert_eq!(left(147_499, "this boot"), Duration::from_millis(1));
        assert_eq!(left(147_500, "this boot"), Duration::ZERO);
        assert_eq!(left(999_999, "this boot"), Duration::ZERO);
        // After a boot the count has begun anew and says nothing.
        assert_eq!(left(1, "another boot"), Duration::ZERO);
    }

    #[test]
    fn an_intent_without_a_lead_is_one_of_an_older_agent() {
        let mut text = serde_json::to_value(intent("this boot")).unwrap();
        text.as_object_mut().unwrap().remove("lead_ms");
        let older: Intent = serde_json::from_value(text).unwrap();
        assert_eq!(older.left_at(Duration::from_secs(100), "this boot"), Duration::from_secs(60));
    }

    #[test]
    fn who_starts_mail_already_is_waited_for_and_not_for_ever() {
        assert_eq!(intent("another boot").patience(), Duration::from_millis(6_250));
        let mut open = intent(&super::boot_id());
        open.written_since_boot_ms = u64::try_from(since_boot().as_millis()).unwrap();
        assert!(open.patience() > Duration::from_secs(20));
        open.deadline_seconds = 3600;
        assert_eq!(open.patience(), limits::START_BOUND);
    }
}
