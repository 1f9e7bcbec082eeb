//! The moment of a restore: mail is stopped under the guard, the trees are exchanged, mail is started. On a standby mail
//! stays down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailkeep_link::rebuild::{Done, Swapped};
use mailkeep_mail::Source;
use mailkeep_mail::quiesce::{self, Rung};
use mailkeep_mail::source::{Argv, System};

use super::build::{self, Build};
use crate::at_boot::AtBoot;
use crate::command;
use crate::error::{AgentError, one_line};
use crate::facts;
use crate::limits;
use crate::places::Places;
use crate::standby::Standby;
use crate::swap::{
    self,
    journal::{Goal, Journal, Step},
};
use crate::window::intent::{AGENT_LOCK, Intent};
use crate::window::recovery::Recovery;
use crate::window::start::{self, Care};
use crate::window::state::{Lock, StateFolder};
use crate::window::stragglers::{self, Held};
use crate::window::{self, Purpose, Settings, Window};

/// The service of a source, as far as it is stopped for a restore: never by a lock, which would leave its files open.
#[derive(Debug, Clone)]
pub struct Service {
    source: Arc<Source>,
    rung: Rung,
}

impl Service {
    /// Finds out how mail is stopped here.
    ///
    /// # Errors
    /// It cannot be.
    pub fn of(source: &Arc<Source>) -> Result<Service, AgentError> {
        if !matches!(source.system, System::Cyrus(_)) {
            let why =
                "only a Cyrus server is rebuilt as a whole; restore files by `mailkeep restore`".to_owned();
            return Err(AgentError::Rebuild { why });
        }
        let (mut facts, _) = facts::gather(source);
        facts.lock_tool = None;
        match quiesce::choose(source, &facts)? {
            Rung::Nothing => Err(AgentError::NothingToStop),
            rung => Ok(Service { source: Arc::clone(source), rung }),
        }
    }

    /// How, in words.
    pub fn describe(&self) -> String {
        self.rung.describe()
    }

    /// The folder with its state.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn folder(&self) -> Result<StateFolder, AgentError> {
        StateFolder::open(&self.rung.service().ok_or(AgentError::NothingToStop)?)
    }

    /// What this server's own boot does with mail.
    pub fn at_boot(&self) -> AtBoot {
        AtBoot::of(&self.rung)
    }

    /// Whether mail runs, if that can be known.
    ///
    /// # Errors
    /// There is nothing to start.
    pub fn runs(&self) -> Result<Option<bool>, AgentError> {
        Ok(start::runs(&self.recovery("")?))
    }

    fn recovery(&self, token: &str) -> Result<Recovery, AgentError> {
        let probe = facts::probe(&self.source);
        Recovery::new(&self.source, &self.rung, probe.as_ref(), token).ok_or(AgentError::NothingToStop)
    }

    fn lock(&self, folder: &StateFolder) -> Result<Lock, AgentError> {
        folder.lock_within(AGENT_LOCK, limits::BUSY_PATIENCE)?.ok_or(AgentError::WindowBusy)
    }

    /// Stops mail, exchanges the trees and starts mail: on all old or all new ones, whatever happens.
    ///
    /// # Errors
    /// What went wrong. Mail runs, unless it says otherwise.
    pub fn exchange(&self, build: &Build, off: &AtomicBool) -> Result<Swapped, AgentError> {
        let window = self.window(build, off)?;
        // On an error the window is dropped, which starts mail.
        window.exchange(build.snapshot(), build.steps()?)?;
        let folder = window.folder().clone();
        let resumed = window.close()?;
        let kept = swap::kept(&folder)?;
        let is_new = kept.as_ref().is_some_and(|kept| kept.what == Goal::Old);
        Ok(Swapped {
            is_new,
            window_ms: resumed.window_ms,
            mailboxes: self.mailboxes(),
            kept: kept
                .iter()
                .flat_map(|kept| &kept.places)
                .map(|place| place.display().to_string())
                .collect(),
        })
    }

    /// Stops mail under the guard; who drops the window starts it.
    fn window(&self, build: &Build, off: &AtomicBool) -> Result<Window, AgentError> {
        let settings = Settings {
            source: Arc::clone(&self.source),
            rung: self.rung.clone(),
            probe: facts::probe(&self.source),
            roots: build.roots().into_iter().filter(|root| root.exists()).collect(),
            versions: Vec::new(),
            deadline: self.source.quiesce.deadline,
            purpose: Purpose::Swap,
        };
        let (window, _) = window::open(settings, off).map_err(|broken| *broken.error)?;
        if off.load(Ordering::Relaxed) {
            return Err(AgentError::CalledOff);
        }
        Ok(window)
    }

    /// How many mailboxes the server lists.
    fn mailboxes(&self) -> Option<u64> {
        let System::Cyrus(options) = &self.source.system else { return None };
        let entries = super::import::exported(options).ok()?;
        Some(entries.iter().filter(|entry| entry.mailbox_type.has_folder()).count() as u64)
    }

    /// Stops mail if it runs, exchanges the trees, and leaves mail down: this is a standby from now on. The first time mail is
    /// stopped under the guard, as long as it is none.
    ///
    /// # Errors
    /// What went wrong. All trees are old or new, or the next run puts that right. Where mail could not be stopped the first
    /// time it runs again, and this is no standby; after that it is one whatever the error.
    pub fn stand_by(&self, build: &Build, off: &AtomicBool) -> Result<Swapped, AgentError> {
        let Some(options) = &self.source.standby else { return Err(not_standby()) };
        let folder = self.folder()?;
        let note = Standby {
            version: 1,
            source: options.of.as_str().to_owned(),
            snapshot: build.snapshot().to_owned(),
        };
        if Standby::load(&folder)?.is_none() {
            let mut window = self.window(build, off)?;
            let steps = build.steps()?;
            window.stay_down(&note)?;
            // The window keeps the agent's lock.
            return self.change_over(&folder, build, steps);
        }
        let _lock = self.lock(&folder)?;
        if Intent::load(&folder)?.is_some() {
            return Err(AgentError::WindowBusy);
        }
        crate::window::boot::Place::find().install_settling()?;
        note.write(&folder)?;
        let recovery = self.recovery("")?;
        self.take_down(&recovery, &build.roots(), off)?;
        self.change_over(&folder, build, build.steps()?)
    }

    /// Exchanges the trees where mail is down and stays so.
    fn change_over(
        &self,
        folder: &StateFolder,
        build: &Build,
        steps: Vec<Step>,
    ) -> Result<Swapped, AgentError> {
        let journal = Journal {
            version: 1,
            snapshot: build.snapshot().to_owned(),
            goal: Goal::New,
            ran: false,
            stop: self.rung.stop().map(|stop| stop.words()),
            steps,
        };
        swap::begin(folder, &|| true, journal)?;
        swap::close(folder)?;
        // Of the state before nobody is the master: it is on the other server, and in a snapshot.
        swap::drop_kept(folder)?;
        Ok(Swapped { is_new: true, window_ms: 0, mailboxes: None, kept: Vec::new() })
    }

    fn take_down(
        &self,
        recovery: &Recovery,
        roots: &[std::path::PathBuf],
        off: &AtomicBool,
    ) -> Result<(), AgentError> {
        let failed = |why: String| AgentError::Rebuild { why: format!("mail here cannot be stopped: {why}") };
        let off = || off.load(Ordering::Relaxed);
        if !start::is_down(recovery) {
            let stop = self.rung.stop().ok_or(AgentError::NothingToStop)?;
            let done =
                command::run(&stop, limits::STOP_BOUND, &off).map_err(|error| failed(one_line(&error)))?;
            if !done.ok {
                return Err(failed(done.describe()));
            }
        }
        let end = Instant::now() + self.source.quiesce.straggler_wait.max(Duration::from_secs(1));
        loop {
            let left = stragglers::find(roots, &[], Held::Anyhow);
            if start::is_down(recovery) && left.is_empty() {
                return Ok(());
            }
            if off() {
                return Err(AgentError::CalledOff);
            }
            if Instant::now() >= end {
                let why = left.first().map_or_else(|| "it still runs".to_owned(), ToString::to_string);
                return Err(failed(why));
            }
            std::thread::sleep(limits::POLL);
        }
    }

    /// Starts mail on a standby, sees it greet, and runs what takes over.
    ///
    /// # Errors
    /// This is no standby, or mail does not come up: then it is still one.
    pub fn promote(&self, event: &str) -> Result<Done, AgentError> {
        let Some(options) = &self.source.standby else { return Err(not_standby()) };
        let folder = self.folder()?;
        let _lock = self.lock(&folder)?;
        let Some(note) = Standby::load(&folder)? else { return Err(not_standby()) };
        swap::before_start(&folder, None).map_err(|why| AgentError::NotBack { why })?;
        swap::close(&folder)?;
        let recovery = self.recovery("")?;
        if start::runs(&recovery) != Some(true) {
            start::bring_back(&recovery, limits::RESUME_BOUND, Care::Usual)
                .map_err(|why| AgentError::NotUp { why })?;
        }
        let mut done = Done { count: 0, problems: Vec::new() };
        for hook in &options.hooks {
            let told = [
                // The names and values of CLUSTERPRO's scripts, so that those serve as they are.
                format!("ARMS_EVENT={event}"),
                "ARMS_DISK=SUCCESS".to_owned(),
                format!("MAILKEEP_EVENT={event}"),
                format!("MAILKEEP_SOURCE={}", note.source),
                format!("MAILKEEP_SNAPSHOT={}", note.snapshot),
            ];
            let argv = Argv::new("env", told.into_iter().chain(hook.words()));
            match command::run(&argv, options.hook_timeout, &|| false) {
                Ok(ran) if ran.ok => done.count += 1,
                Ok(ran) => done.problems.push(format!("hook {hook}: {}", ran.describe())),
                Err(error) => done.problems.push(format!("hook {hook}: {}", one_line(&error))),
            }
        }
        Standby::clear(&folder)?;
        Ok(done)
    }

    /// Removes what is kept beside, and what builds that were broken off have left there.
    ///
    /// # Errors
    /// A restore is under way, or something does not go.
    pub fn drop_kept(&self, profile: &Places) -> Result<Done, AgentError> {
        let folder = self.folder()?;
        let _lock = self.lock(&folder)?;
        let _build = build::lock(&folder)?;
        let mut count = swap::drop_kept(&folder)?;
        for place in build::left_behind(profile, &folder)? {
            count += u64::from(swap::beside::remove(&place)?);
        }
        Ok(Done { count, problems: Vec::new() })
    }
}

fn not_standby() -> AgentError {
    let why = "this server is no standby; write [standby] with of = \"NAME\" into its source file and keep it by \
               `mailkeep restore-server --as-standby`";
    AgentError::Rebuild { why: why.to_owned() }
}
