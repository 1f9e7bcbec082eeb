//! The window: from the armed guard over the stop to the greeting.
//!
//! The order is the promise. 1. The agent's lock is taken, a nightly stop without prospect refused ([`mod@overrun`]), the intent
//! written durably, the guard seen armed; it starts
//! mail early enough ([`mod@lead`]) for mail to answer by the deadline. 2. The
//! token is compared, mail is stopped, the token is compared again. 3. Whatever happens from there on, an error, a
//! panic, a signal, the end of the link, [`Window`] starts mail when it is dropped; if the agent itself is gone, the
//! guard does. 4. Only a greeting closes the window and removes the intent.

pub mod boot;
pub mod guard;
pub mod intent;
pub mod lead;
pub mod lock;
pub mod overrun;
pub mod recovery;
pub mod start;
pub mod state;
pub mod stragglers;
pub mod timer;

use std::cell::{Cell, RefCell};
use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailkeep_link::message::{Quiesced, Resumed};
use mailkeep_mail::Source;
use mailkeep_mail::cyrus::tools;
use mailkeep_mail::quiesce::Rung;
use mailkeep_mail::source::{Argv, Probe, Stragglers, System};
use rustix::process::Signal;

use crate::command::{self, CommandError, Done, Running};
use crate::error::{AgentError, one_line};
use crate::facts::{self, Versions};
use crate::limits;
use crate::standby::Standby;
use crate::swap;
use crate::swap::journal::{Goal, Journal, Step};
use intent::{AGENT_LOCK, Intent, Starter, StopNote};
use lead::{Lead, Starts};
use overrun::Overruns;
use recovery::Recovery;
use start::Care;
use state::Lock;
pub use state::{STATE_ENV, StateFolder};
use stragglers::Held;

/// Everything that is known before mail is stopped.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The source.
    pub source: Arc<Source>,
    /// How mail is stopped and started.
    pub rung: Rung,
    /// Whose greeting proves that mail is back.
    pub probe: Option<Probe>,
    /// Real paths of the trees that are copied.
    pub roots: Vec<PathBuf>,
    /// For `/.mailkeep/versions`.
    pub versions: Versions,
    /// After this time mail answers, by the restart guard if by nobody else.
    pub deadline: Duration,
    /// What it is opened for.
    pub purpose: Purpose,
}

/// What a window is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read what mail has: it has to run before, and its list is exported.
    Copy,
    /// To exchange its trees: it may be down already, and damaged.
    Swap,
}

impl Purpose {
    /// Whether nobody sits there and waits for it, so that a stop without prospect is better left for another night.
    fn is_nightly(self) -> bool {
        self == Purpose::Copy
    }

    /// See [`Overruns::allow`]. What an admin asks for now is tried in any case: the guard is there as ever.
    fn allowed(self, folder: &StateFolder, bound: Duration, deadline: Duration) -> Result<(), AgentError> {
        if self.is_nightly() { Overruns::allow(folder, bound, deadline) } else { Ok(()) }
    }
}

/// An open window: mail is stopped, or about to be. Dropping it starts mail.
#[derive(Debug)]
pub struct Window {
    folder: StateFolder,
    token: String,
    intent: Intent,
    recovery: Recovery,
    settings: Settings,
    guard: Option<Child>,
    /// What holds the lock, where mail is held still by one. Its end gives the lock back.
    holder: Option<Running>,
    /// The time from the intent to the guard's start, which all that is done with mail stopped has to share.
    usable: Duration,
    /// What the admin has to know of the deadline and of the stop.
    remark: Option<String>,
    stop_began: Option<Instant>,
    instance: Option<String>,
    closed: bool,
    /// Mail ran before.
    ran: bool,
    /// Released last: the guard looks when it is.
    _lock: Lock,
}

/// A window that could not be opened. Mail runs (again), unless `error` says otherwise.
#[derive(Debug)]
pub struct Broken {
    /// Why.
    pub error: Box<AgentError>,
    /// What it took to bring mail back, where it had been stopped.
    pub resumed: Option<Resumed>,
}

impl From<AgentError> for Broken {
    fn from(error: AgentError) -> Self {
        Broken { error: Box::new(error), resumed: None }
    }
}

/// Stops mail: guard first, then the stop, the stragglers and the export. After an error mail has been started again.
///
/// # Errors
/// [`Broken`].
pub fn open(settings: Settings, called_off: &AtomicBool) -> Result<(Window, Quiesced), Broken> {
    let mut window = Window::arm(settings)?;
    let off = || called_off.load(Ordering::Relaxed);
    let stopped = window.stop(&off).and_then(|stop_ms| {
        let began = Instant::now();
        let has_list = window.settings.purpose == Purpose::Copy && window.export(&off)?;
        Ok(Quiesced { stop_ms, export_ms: millis(began), has_list })
    });
    match stopped {
        Ok(quiesced) if !off() => Ok((window, quiesced)),
        other => {
            let error = other.err().unwrap_or(AgentError::CalledOff);
            match window.close() {
                Ok(resumed) => Err(Broken { error: Box::new(error), resumed: Some(resumed) }),
                Err(worse) => Err(worse.into()),
            }
        }
    }
}

/// How long before this deadline the guard of this service would begin to start mail, in a window for this purpose. Looks only.
///
/// # Errors
/// Such a deadline is too short for a start or for a stop; or the agent's own state cannot be used.
pub fn lead(service: &[String], deadline: Duration, purpose: Purpose) -> Result<Duration, AgentError> {
    let folder = StateFolder::open(service)?;
    let before = Starts::load(&folder).lead(deadline)?.before;
    if purpose.is_nightly() {
        Overruns::look(&folder, stop_bound(deadline.saturating_sub(before)), deadline)?;
    }
    Ok(before)
}

impl Window {
    /// Everything up to the point where mail may be stopped.
    fn arm(settings: Settings) -> Result<Window, AgentError> {
        let token = Intent::new_token()?;
        let recovery = Recovery::new(&settings.source, &settings.rung, settings.probe.as_ref(), &token)
            .ok_or(AgentError::NothingToStop)?;
        let service = settings.rung.service().ok_or(AgentError::NothingToStop)?;
        let folder = StateFolder::open(&service)?;
        let lock = lock_when_free(&folder)?;
        Standby::refuse(&folder)?;
        let ran = start::runs(&recovery);
        if ran == Some(false) && settings.purpose == Purpose::Copy {
            // Somebody has stopped it on purpose, or the probe is wrong. Either way we could not tell afterwards that
            // mail is back.
            let what = match &settings.probe {
                Some(probe) => format!("mail does not greet at {probe}"),
                None => "mail does not run".to_owned(),
            };
            let why = "nothing was stopped; start mail, or mend [quiesce] in the source file".to_owned();
            return Err(AgentError::NotRunning { what, why });
        }
        let Lead { before, remark } = Starts::load(&folder).lead(settings.deadline)?;
        let usable = settings.deadline.saturating_sub(before);
        settings.purpose.allowed(&folder, stop_bound(usable), settings.deadline)?;
        boot::Place::find().install()?;
        if settings.purpose == Purpose::Swap {
            boot::Place::find().install_settling()?;
        }
        let name = settings.source.name.as_str();
        let intent = Intent::new(name, &token, recovery.clone(), settings.deadline, before);
        intent.write(&folder)?;
        let mut window = Window {
            folder,
            token,
            intent: intent.clone(),
            recovery,
            guard: None,
            holder: None,
            usable,
            remark,
            stop_began: None,
            instance: None,
            closed: false,
            ran: ran != Some(false),
            settings,
            _lock: lock,
        };
        match guard::arm(&window.folder, &intent) {
            Ok(child) => {
                window.guard = child;
                Ok(window)
            }
            Err(error) => {
                // Nothing was stopped, so nothing has to be started.
                window.closed = true;
                timer::disarm(&intent.token);
                window.folder.remove_durably(intent::INTENT)?;
                Err(error)
            }
        }
    }

    /// Stops mail and sees that it is down.
    fn stop(&mut self, off: &dyn Fn() -> bool) -> Result<u64, AgentError> {
        if !self.is_open() {
            // We were held up for so long that the guard has acted: a stop now would have no guard.
            return Err(failed("the stop", "the deadline passed before it began"));
        }
        let began = Instant::now();
        self.stop_began = Some(began);
        let bound = stop_bound(self.usable);
        if let Rung::GlobalLock { run, .. } = self.settings.rung.clone() {
            self.take_lock(&run, bound, off)?;
        }
        // What is down need not be stopped; but only what is known to be down is.
        let is_down = self.settings.purpose == Purpose::Swap && !self.ran && start::is_down(&self.recovery);
        if let Some(stop) = self.settings.rung.stop().filter(|_| !is_down) {
            match self.run_stop(&stop, bound, off) {
                Ok(_) if off() => return Err(AgentError::CalledOff),
                Ok(done) if done.ok => {}
                Ok(done) => return Err(failed("the stop", &done.describe())),
                Err(CommandError::CalledOff { .. }) => return Err(AgentError::CalledOff),
                Err(error @ CommandError::Hung { .. }) => return Err(self.hung(&error, bound)),
                Err(error) => return Err(failed("the stop", &one_line(&error))),
            }
        }
        if !self.is_open() {
            return Err(failed("the stop", "the deadline passed meanwhile and the guard has started mail"));
        }
        while !start::is_down(&self.recovery) {
            if off() {
                return Err(AgentError::CalledOff);
            }
            if began.elapsed() > bound {
                return Err(failed("the stop", "the command returned, but mail still runs"));
            }
            std::thread::sleep(limits::QUICK);
        }
        self.stragglers(off)?;
        self.instance = self.instance_now();
        Ok(millis(began))
    }

    /// Has Cyrus' global lock taken and held. Nothing is stopped, so nothing can fail to start again: whoever holds the
    /// lock lets it go when we end, when the deadline passes, or when the guard says so.
    fn take_lock(
        &mut self,
        run: &tools::ToolCommand,
        bound: Duration,
        off: &dyn Fn() -> bool,
    ) -> Result<(), AgentError> {
        let wrong = |why: &str| failed("the lock", why);
        let argv = lock::hold_command(&facts::as_its_user(run), self.intent.left())
            .ok_or_else(|| wrong("our own path is not known"))?;
        self.intent.stop = StopNote::Begun;
        self.intent.write(&self.folder)?;
        let mut holder = Running::start_tied(&argv, &self.token).map_err(|error| wrong(&one_line(&error)))?;
        let end = Instant::now() + bound;
        while !lock::says_held(&holder.said()) {
            if let Some(done) = holder.poll() {
                return Err(wrong(&done.describe()));
            }
            if off() || Instant::now() >= end {
                holder.kill();
                return Err(if off() {
                    AgentError::CalledOff
                } else {
                    wrong(&format!("it was not to be had within {} s", bound.as_secs()))
                });
            }
            std::thread::sleep(limits::QUICK);
        }
        self.holder = Some(holder);
        if self.is_open() {
            self.intent.stop = StopNote::Done;
            self.intent.write(&self.folder)?;
        }
        Ok(())
    }

    /// Runs the stop command, with notes around it: whoever has to start mail while a stop is still at work must end
    /// that first, or mail is stopped behind its back.
    ///
    /// A Cyrus master that hangs in its shutdown is ended meanwhile, rather than waited for until the bound: nothing lives
    /// below it any more, so that this is safe, and the stop then comes to its end.
    fn run_stop(
        &mut self,
        stop: &Argv,
        bound: Duration,
        off: &dyn Fn() -> bool,
    ) -> Result<Done, CommandError> {
        let noted = |error: AgentError| CommandError::Start {
            command: stop.to_string(),
            source: std::io::Error::other(one_line(&error)),
        };
        self.intent.stop = StopNote::Begun;
        self.intent.write(&self.folder).map_err(noted)?;
        let running = Running::start_marked(stop, &self.token)?;
        // A stop that is called off is let through if it is quick: what comes half-way is neither up nor down.
        let called_off_at = Cell::new(None);
        let patience = limits::STUCK_PATIENCE.min(bound / 3);
        let (look_at, ended) = (Cell::new(Instant::now() + patience), RefCell::new(Vec::new()));
        let off_for_long = || {
            if Instant::now() >= look_at.get() {
                ended.borrow_mut().extend(self.recovery.end_stuck_masters());
                look_at.set(Instant::now() + patience);
            }
            off() && {
                let since = called_off_at.get().unwrap_or_else(Instant::now);
                called_off_at.set(Some(since));
                since.elapsed() > limits::ORPHAN_PATIENCE
            }
        };
        let done = running.wait(bound, &off_for_long)?;
        if let Some(told) = told_stuck(&ended.into_inner()) {
            self.remark = Some(self.remark.take().map_or(told.clone(), |remark| format!("{remark}; {told}")));
        }
        // The guard may have acted meanwhile; its note must not be written over.
        if done.ok && self.is_open() {
            self.intent.stop = StopNote::Done;
            self.intent.write(&self.folder).map_err(noted)?;
        }
        if done.ok {
            Overruns::forget(&self.folder);
        }
        Ok(done)
    }

    /// The stop hangs. A Cyrus master that spins on its own zombies would also keep the start from working.
    fn hung(&self, error: &CommandError, bound: Duration) -> AgentError {
        let mut why = one_line(error);
        Overruns::note(&self.folder, bound);
        if bound < limits::STOP_BOUND {
            why = format!(
                "{why}, all that the deadline of {} s leaves for it; if it needs more, write deadline = \"{}s\" into [quiesce] \
                 of the source file",
                self.settings.deadline.as_secs(),
                overrun::doubled(self.settings.deadline)
            );
        }
        let told = told_stuck(&self.recovery.end_stuck_masters());
        failed("the stop", &told.map_or(why.clone(), |told| format!("{why}; {told}")))
    }

    fn stragglers(&self, off: &dyn Fn() -> bool) -> Result<(), AgentError> {
        if self.holder.is_some() {
            // They run on, and wait for the lock.
            return Ok(());
        }
        let quiesce = &self.settings.source.quiesce;
        let spared: Vec<u32> = self.guard.as_ref().map(Child::id).into_iter().collect();
        let find = || stragglers::find(&self.settings.roots, &spared, Held::Anyhow);
        let wait_until_gone = |patience: Duration| {
            let end = Instant::now() + patience;
            loop {
                let left = find();
                if left.is_empty() || off() || Instant::now() >= end {
                    return left;
                }
                std::thread::sleep(limits::POLL * 2);
            }
        };
        // A quarter of the time at most: the copy needs some of it.
        let mut left = wait_until_gone(quiesce.straggler_wait.min(self.usable / 4));
        if quiesce.stragglers == Stragglers::Kill && !off() {
            for signal in [Signal::TERM, Signal::KILL] {
                left.iter().for_each(|straggler| stragglers::end(straggler, &self.settings.roots, signal));
                left = if left.is_empty() { left } else { wait_until_gone(Duration::from_secs(2)) };
            }
        }
        if off() {
            return Err(AgentError::CalledOff);
        }
        match left.first() {
            None => Ok(()),
            Some(first) if left.len() == 1 => Err(failed("the stop", &format!("it left a process: {first}"))),
            Some(first) => {
                Err(failed("the stop", &format!("it left {} processes, among them: {first}", left.len())))
            }
        }
    }

    /// Writes what stands at `/.mailkeep` in the copy; tells whether there is a mailbox list.
    fn export(&self, off: &dyn Fn() -> bool) -> Result<bool, AgentError> {
        let folder = self.export_folder();
        let trouble =
            |action: &'static str, source| AgentError::State { action, path: folder.clone(), source };
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(trouble("empty", error));
            }
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&folder).map_err(|error| trouble("make", error))?;
        let create = |name: &str| {
            let path = folder.join(name);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(|error| trouble("fill", error))
        };
        let lines: String =
            self.settings.versions.iter().map(|(name, version)| format!("{name} {version}\n")).collect();
        std::io::Write::write_all(&mut create("versions")?, lines.as_bytes())
            .map_err(|e| trouble("fill", e))?;
        let System::Cyrus(options) = &self.settings.source.system else { return Ok(false) };
        let tool = tools::find_tool(options, "ctl_mboxlist", &mut |path| facts::is_executable(path))?;
        let mut argv = facts::as_its_user(&tools::export_command(options, &tool));
        if self.holder.is_some() {
            let words = std::iter::once(tools::HAVE_LOCK.to_owned()).chain(argv.words());
            argv = Argv::new("env", words);
        }
        let list = create("mailboxlist")?;
        let bound = limits::EXPORT_BOUND.min(self.usable / 4);
        let done = Running::start(&argv, Some(list)).and_then(|running| running.wait(bound, off));
        match done {
            Ok(done) if done.ok => {}
            Ok(done) => return Err(failed("the export of the mailbox list", &done.describe())),
            Err(CommandError::CalledOff { .. }) => return Err(AgentError::CalledOff),
            Err(error) => return Err(failed("the export of the mailbox list", &one_line(&error))),
        }
        if fs::metadata(folder.join("mailboxlist")).is_ok_and(|stat| stat.len() == 0) {
            return Err(failed("the export of the mailbox list", &format!("{argv} printed nothing")));
        }
        Ok(true)
    }

    /// Exchanges trees for those that were built beside them. From here on mail comes back on all the old or on all the
    /// new ones, whoever starts it.
    ///
    /// # Errors
    /// The deadline has passed, or they cannot be exchanged: then they are the old ones.
    pub fn exchange(&self, snapshot: &str, steps: Vec<Step>) -> Result<(), AgentError> {
        let journal = Journal {
            version: 1,
            snapshot: snapshot.to_owned(),
            goal: Goal::New,
            ran: self.ran,
            stop: self.settings.rung.stop().map(|stop| stop.words()),
            steps,
        };
        swap::begin(&self.folder, &|| Intent::is_open(&self.folder, &self.token), journal)
    }

    /// This server is a standby from here on: neither guard nor rescue starts mail.
    ///
    /// # Errors
    /// Somebody has begun to start mail, or it cannot be noted: then it is none, and mail is started.
    pub fn stay_down(&mut self, note: &Standby) -> Result<(), AgentError> {
        // Who starts mail has this lock, and looks for the note under it.
        let lock = self.folder.lock_within(intent::START_LOCK, limits::RESUME_BOUND)?;
        if lock.is_none() || !self.is_open() {
            return Err(failed("the stop", "the deadline passed meanwhile and the guard has started mail"));
        }
        note.write(&self.folder).inspect_err(|_| {
            let _ = Standby::clear(&self.folder);
        })?;
        self.closed = true;
        self.folder.remove_durably(intent::INTENT)?;
        timer::disarm(&self.token);
        let _ = fs::remove_dir_all(self.export_folder());
        Ok(())
    }

    /// The folder of the service.
    pub fn folder(&self) -> &StateFolder {
        &self.folder
    }

    /// What the admin has to know of the deadline and of the stop, told once.
    pub fn take_remark(&mut self) -> Option<String> {
        self.remark.take()
    }

    /// The folder that stands in for `/.mailkeep`.
    pub fn export_folder(&self) -> PathBuf {
        self.folder.file("export")
    }

    /// Nobody else has begun to start mail, and the guard watches. (A guard that has done its work is gone; its removal
    /// of the intent alone could be undone by a note of ours that was held up.)
    pub fn is_open(&self) -> bool {
        Intent::is_open(&self.folder, &self.token)
            && guard::is_armed(&self.folder, &self.token).unwrap_or(false)
    }

    /// What shows that mail was started by somebody, one line each.
    pub fn disturbances(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.is_open() {
            lines.push("the restart guard has started mail, or is gone".to_owned());
        }
        if !start::is_down(&self.recovery) {
            lines.push("mail runs although it was stopped".to_owned());
        }
        let spared: Vec<u32> = self.guard.as_ref().map(Child::id).into_iter().collect();
        let find = || stragglers::find(&self.settings.roots, &spared, Held::ForWriting);
        // Under the lock they keep their files open and do not write.
        for writer in if self.holder.is_none() { find() } else { Vec::new() } {
            lines.push(writer.to_string());
        }
        if self.instance_now() != self.instance {
            lines.push("the mail service was started in between".to_owned());
        }
        lines
    }

    fn instance_now(&self) -> Option<String> {
        let argv: Argv = self.settings.rung.instance()?;
        command::run(&argv, limits::ASK_BOUND, &|| false).ok().map(|done| done.output)
    }

    /// Starts mail, waits for its greeting and closes the window.
    ///
    /// # Errors
    /// [`AgentError::NotBack`]; the guard goes on trying.
    pub fn close(mut self) -> Result<Resumed, AgentError> {
        self.close_now()
    }

    fn close_now(&mut self) -> Result<Resumed, AgentError> {
        self.closed = true;
        let began = Instant::now();
        let starter = Starter::take(&self.folder, &self.token, "agent", limits::RESUME_BOUND)?;
        let guard_acted = starter.as_ref().is_none_or(|starter| starter.taken_before_by.is_some());
        // A stop that did not end well may still be taking mail down: what runs now proves nothing then.
        let care = self.intent.care();
        let settled = starter.as_ref().map(Starter::settle);
        let runs = care == Care::Usual
            && start::runs(&self.recovery) == Some(true)
            && !matches!(settled, Some(Err(_)));
        let back = match &starter {
            // A second start could only do harm.
            _ if runs => Ok(None),
            Some(starter) => starter.bring_back(limits::RESUME_BOUND, care).map(Some),
            // The guard has closed the window, and yet: it must run when we leave.
            None => start::bring_back(&self.recovery, limits::RESUME_BOUND, care).map(Some),
        };
        let by_other = guard_acted || runs;
        match (back, starter) {
            (Ok(took), Some(starter)) => starter.finish(took)?,
            (Ok(_), None) => {}
            (Err(why), starter) => {
                if let Some(starter) = starter {
                    starter.give_up();
                }
                return Err(AgentError::NotBack { why });
            }
        }
        timer::disarm(&self.token);
        let _ = fs::remove_dir_all(self.export_folder());
        Ok(Resumed {
            start_ms: millis(began),
            window_ms: self.stop_began.map_or(0, millis),
            started_by_other: by_other,
        })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if !self.closed {
            let _ = self.close_now();
        }
    }
}

/// Takes the agent's lock. A guard that is still bringing mail back for a run that died is waited for; another run is
/// not (but for a moment: a run that begins looks into all folders).
fn lock_when_free(folder: &StateFolder) -> Result<Lock, AgentError> {
    let began = Instant::now();
    // The guard removes the intent a moment before it lets go.
    let mut busy_since = began;
    loop {
        if let Some(lock) = folder.try_lock(AGENT_LOCK)? {
            return Ok(lock);
        }
        if Intent::load(folder)?.is_some_and(|intent| intent.taken_by.is_some()) {
            busy_since = Instant::now();
        }
        if busy_since.elapsed() > limits::BUSY_PATIENCE || began.elapsed() > limits::GUARD_AT_WORK_PATIENCE {
            return Err(AgentError::WindowBusy);
        }
        std::thread::sleep(limits::POLL);
    }
}

/// How long a stop may take of so much time.
fn stop_bound(usable: Duration) -> Duration {
    limits::STOP_BOUND.min(usable / 3)
}

/// What the admin has to know of masters that hung.
fn told_stuck(pids: &[i32]) -> Option<String> {
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    (!pids.is_empty()).then(|| {
        format!(
            "Cyrus' master (process {}) hung in its stop with no living process below it and was killed",
            pids.join(", ")
        )
    })
}

fn failed(what: &str, why: &str) -> AgentError {
    AgentError::Window { what: what.to_owned(), why: why.to_owned() }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Starts mail wherever an intent was left behind by a run that is no more, each at most for `patience`; tells whether
/// there was one.
///
/// # Errors
/// Mail does not come back.
pub fn rescue_all(patience: Duration) -> Result<bool, AgentError> {
    let mut rescued = Ok(false);
    for folder in StateFolder::all() {
        // One service that does not come back must not keep the others down.
        match guard::rescue(&folder, patience) {
            Ok(one) => rescued = rescued.map(|before| before || one),
            Err(error) => rescued = Err(error),
        }
    }
    rescued
}

/// Ends exchanges of trees that were broken off; starts nothing. For the boot, before mail.
///
/// # Errors
/// Trees cannot be brought to one side; says which.
pub fn settle_all() -> Result<(), AgentError> {
    let mut settled = Ok(());
    for folder in StateFolder::all() {
        if let Err(why) = swap::before_start(&folder, None) {
            settled = Err(AgentError::Rebuild { why });
        }
    }
    settled
}
