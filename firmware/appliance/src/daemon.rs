//! The event loop: one thread, one state, one place where time is read.
//!
//! It waits for whatever comes first (something from outside, the next edge of a lamp, a time at which the
//! controller wants to wake, a signal), lets the controller take the step, and carries out the actions. It ends
//! when the controller says that everything is flushed and unmounted.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, Local};
use mailkeep_board::{Board, BoardError, BoardEvent, Layout, Sink, SlotNumber, disk};
use mailkeep_controller::disk::Insertion;
use mailkeep_controller::{
    Action, Button, Event, Fault, Identity, JobId, JobKind, JobResult, Moment, Notice, Phase, Settings, Span,
    State,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::border::{Post, Workers, cancel};
use crate::command::{Answer, Asked, Command};
use crate::config::Config;
use crate::disk_set::{DiskSet, Wanted, next_wanted};
use crate::disks::DiskOrder;
use crate::engine::{DiskName, Engine, Looked, News};
use crate::inbound::{Inbound, What};
use crate::indicators::Indicators;
use crate::ledger::Ledger;
use crate::report::{self, Known};
use crate::service_manager::ServiceManager;
use crate::status::{NewsLine, Status};
use crate::{web, words};

/// The wall clock is looked at this often for the schedule, however far the next time is: it may jump.
const CLOCK_LOOK: Duration = Duration::from_secs(30);
/// Before this year the clock has certainly not been set.
const FIRST_YEAR: i32 = 2026;
/// How often a backup that was under way when the box went down is begun again before a person has to look.
const RESUMES: u32 = 3;
/// Notices that the status page shows.
const NEWS: usize = 20;
/// Below the state folder: where disks are mounted.
const MOUNT_DIR: &str = "disks";

/// Why the box can't start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state folder can't be used.
    #[error("cannot use the state folder {}", path.display())]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The front panel can't be opened.
    #[error("cannot open the front panel")]
    Board(#[source] BoardError),
    /// What a killed run has left mounted can't be unmounted.
    #[error("cannot clear what an earlier run has left mounted")]
    Stale(#[source] BoardError),
    /// The box's socket can't be made.
    #[error("cannot open the box's socket below {}", path.display())]
    Web {
        /// The state folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system denies threads or signals.
    #[error("cannot set up the event loop")]
    Loop(#[source] std::io::Error),
}

/// Runs the box until it is asked to end. `set` is the set ledger, which the engine keeps too. `open` opens the front
/// panel, whose events go to the sink.
///
/// # Errors
/// A [`DaemonError`] before the box is up; afterwards it goes on whatever happens.
pub async fn run(
    config: Config,
    engine: Arc<dyn Engine>,
    set: Arc<DiskSet>,
    open: impl FnOnce(Sink) -> Result<Box<dyn Board>, BoardError>,
) -> Result<(), DaemonError> {
    let state_dir = |source| DaemonError::StateDir { path: config.state_dir.clone(), source };
    std::fs::create_dir_all(&config.state_dir).map_err(state_dir)?;
    let mount_dir = std::fs::canonicalize(&config.state_dir).map_err(state_dir)?.join(MOUNT_DIR);
    std::fs::create_dir_all(&mount_dir).map_err(state_dir)?;
    let stale = disk::clear_stale(&mount_dir).map_err(DaemonError::Stale)?;
    if stale > 0 {
        tracing::warn!(mounts = stale, "an earlier run was killed: its disks were unmounted");
    }

    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Loop)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Loop)?;
    // The terminal of a bench board was closed: no reason to leave a disk mounted.
    let mut hangup = signal(SignalKind::hangup()).map_err(DaemonError::Loop)?;
    let (post, mut inbox) = Post::new();
    let workers = Workers::start(engine, post.clone(), mount_dir).map_err(DaemonError::Loop)?;
    let board = open(post.sink()).map_err(DaemonError::Board)?;
    let mut daemon = Daemon::new(config, workers, set, board);
    daemon.recall(Local::now().timestamp());
    let (publish, status) = watch::channel(Arc::new(daemon.status()));
    let Config { state_dir, listen, .. } = &daemon.config;
    web::start(state_dir, listen.as_deref(), post.clone(), status)
        .map_err(|source| DaemonError::Web { path: state_dir.clone(), source })?;
    daemon.begin();

    loop {
        let wake = daemon.refresh();
        daemon.publish(&publish);
        daemon.answer();
        tokio::select! {
            Some(inbound) = inbox.next() => daemon.take(inbound),
            () = tokio::time::sleep_until(wake.into()) => daemon.woke(),
            _ = terminate.recv() => daemon.asked_to_end("SIGTERM"),
            _ = interrupt.recv() => daemon.asked_to_end("SIGINT"),
            _ = hangup.recv() => daemon.asked_to_end("SIGHUP"),
        }
        if daemon.exit {
            break;
        }
    }
    daemon.answer();
    tracing::info!("ended");
    Ok(())
}

struct Daemon {
    config: Config,
    workers: Workers,
    set: Arc<DiskSet>,
    board: Box<dyn Board>,
    state: State,
    indicators: Indicators,
    manager: ServiceManager,
    ledger: Ledger,
    started: Instant,
    heartbeat: Option<Instant>,
    inserted: HashMap<SlotNumber, Insertion>,
    paths: HashMap<Insertion, PathBuf>,
    repositories: HashMap<Insertion, PathBuf>,
    names: HashMap<Insertion, DiskName>,
    identities: HashMap<Insertion, Identity>,
    read_only: Option<Insertion>,
    wanted: Option<Wanted>,
    progress: String,
    news: VecDeque<NewsLine>,
    said: Vec<Notice>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    shrunk: BTreeSet<String>,
    insertions: u32,
    cancels: HashMap<JobId, Arc<AtomicBool>>,
    phase: Phase,
    exit: bool,
}

impl Daemon {
    fn new(config: Config, workers: Workers, set: Arc<DiskSet>, board: Box<dyn Board>) -> Self {
        let overdue_after = config.overdue_after.map(|after| Span::from_secs(after.as_secs()));
        let manager = ServiceManager::find();
        let started = Instant::now();
        Self {
            state: State::new(Settings { overdue_after }, Moment::default()),
            heartbeat: manager.heartbeat().map(|_| started),
            ledger: Ledger::default(),
            indicators: Indicators::default(),
            manager,
            started,
            inserted: HashMap::new(),
            paths: HashMap::new(),
            repositories: HashMap::new(),
            names: HashMap::new(),
            identities: HashMap::new(),
            read_only: None,
            wanted: None,
            progress: String::new(),
            news: VecDeque::new(),
            said: Vec::new(),
            answers: Vec::new(),
            shrunk: BTreeSet::new(),
            insertions: 0,
            cancels: HashMap::new(),
            phase: Phase::Live,
            exit: false,
            config,
            workers,
            set,
            board,
        }
    }

    fn begin(&mut self) {
        tracing::info!(name = %self.config.name, sources = self.config.sources.len(), "up");
        for table in &self.config.without_effect {
            tracing::warn!("{table} has no effect in this version");
        }
        let now = Local::now();
        // A new box owes nobody yesterday's backup.
        if self.ledger.scheduled.is_none() || !self.config.catch_up {
            self.ledger.scheduled = Some(now.timestamp());
            self.save_ledger();
        }
        if let Some(schedule) = &self.config.schedule {
            let next = schedule.next_due(&now).map(|due| due.to_rfc3339()).unwrap_or_default();
            tracing::info!(%schedule, next, "schedule");
        }
        self.manager.ready();
    }

    /// Tells the controller what was before the start. Only when it knows all of that is any of it written down again.
    fn recall(&mut self, now: i64) {
        self.ledger = Ledger::load(&self.config.state_dir).unwrap_or_else(|error| {
            tracing::error!("the ledger can't be read and is begun anew: {error}");
            Ledger::default()
        });
        let mut events = Vec::new();
        if let Some(proven) = self.ledger.proven {
            let age = Span::from_secs(u64::try_from(now - proven).unwrap_or(0));
            let (proven, last_good) = (Moment::default() - age, !self.ledger.last_failed);
            events.push(Event::Remembered { proven, last_good });
        }
        for saved in &self.ledger.faults {
            match saved.latched() {
                Some(latched) => events.push(Event::Latched(latched)),
                None => {
                    tracing::warn!(fault = saved.fault, "a fault that this version does not know is dropped")
                }
            }
        }
        let mut words = None;
        if self.ledger.owed && self.config.catch_up {
            if self.ledger.resumed < RESUMES {
                self.ledger.resumed += 1;
                events.push(Event::BackupDue);
                words = Some(words::RESUMED);
            } else {
                self.ledger.resumed = 0;
                events.push(Event::Trouble(Fault::BackupFailed));
                words = Some(words::NOT_RESUMED);
            }
            self.save_ledger();
        }
        let moment = self.moment(Instant::now());
        for event in events {
            // What it would have said was said before the start; disks are only just coming in.
            self.state.step(event, moment);
        }
        self.keep_what_must_not_be_lost();
        if let Some(words) = words {
            tracing::warn!("{words}");
            self.tell(words);
        }
        self.look_at_the_set();
    }

    /// Shows what is to be shown; returns when the loop has to turn again by itself.
    fn refresh(&mut self) -> Instant {
        let now = Instant::now();
        let moment = self.moment(now);
        let edge = self.indicators.refresh(&mut *self.board, &self.state, moment);
        if let Some((due, every)) = self.heartbeat.as_mut().zip(self.manager.heartbeat()) {
            if *due <= now {
                self.manager.alive();
                *due = now + every;
            }
        }
        let moments = [edge, self.state.wake_at()].into_iter().flatten();
        let moments = moments
            .map(|moment| self.started + Duration::from_millis(u64::try_from(moment.millis()).unwrap_or(0)));
        moments.chain(self.heartbeat).min().unwrap_or(now + CLOCK_LOOK).min(now + self.next_clock_look())
    }

    fn next_clock_look(&self) -> Duration {
        let Some(schedule) = &self.config.schedule else { return CLOCK_LOOK };
        let now = Local::now();
        let until = schedule.next_due(&now).and_then(|due| (due - now).to_std().ok());
        until.unwrap_or(CLOCK_LOOK).min(CLOCK_LOOK)
    }

    fn moment(&self, at: Instant) -> Moment {
        let since = at.saturating_duration_since(self.started).as_millis();
        Moment::from_millis(i64::try_from(since).unwrap_or(i64::MAX))
    }

    // ---- what happens ----

    fn woke(&mut self) {
        self.look_at_the_clock();
        self.look_at_the_set();
        self.step(Event::Tick, Instant::now());
    }

    fn asked_to_end(&mut self, by: &str) {
        tracing::info!(by, "asked to end");
        self.step(Event::Shutdown, Instant::now());
    }

    fn take(&mut self, inbound: Inbound) {
        let Inbound { at, what } = inbound;
        match what {
            What::Board(event) => self.hands(event, at),
            What::Looked(insertion, looked) => self.looked(insertion, looked, at),
            What::Mounted(insertion, repository) => {
                self.repositories.insert(insertion, repository);
                self.step(Event::Mounted(insertion), at);
            }
            What::News(id, source, news) => self.news(id, &source, &news, at),
            What::JobEnded(id, result, reasons) => {
                for reason in reasons {
                    self.tell(&reason);
                }
                self.job_ended(id, result);
                self.step(Event::JobEnded(id, result), at);
            }
            What::Asked(Asked { command, answer }) => {
                let said = self.asked(command, at);
                self.answers.push((answer, said));
            }
            What::Event(event) => {
                if let Event::OnlyReadable(insertion) = event {
                    self.read_only = Some(insertion);
                }
                self.step(event, at);
            }
        }
    }

    fn asked(&mut self, command: Command, at: Instant) -> Answer {
        tracing::info!(?command, "asked from a desk");
        let event = match command {
            Command::Backup => Event::BackupDue,
            Command::Eject => Event::EjectAsked,
            Command::Cancel => Event::CancelAsked,
            Command::Trust(disk) => return self.trust(&disk),
            Command::Forget(disk) => return self.forget(&disk),
        };
        if event == Event::BackupDue && self.state.jobs().running.is_some() {
            return Answer { accepted: false, words: words::notice(Notice::AlreadyRunning) };
        }
        if event == Event::CancelAsked && !self.state.is_backup_owed() && self.state.jobs().running.is_none()
        {
            return Answer { accepted: false, words: words::NOTHING_TO_CANCEL.to_owned() };
        }
        self.step(event, at);
        let refused = |notice: &Notice| matches!(notice, Notice::BusyNoEject | Notice::NothingToEject);
        let accepted = !self.said.iter().any(refused) && !self.state.is_stopping();
        let said: Vec<String> = self.said.drain(..).map(words::notice).collect();
        Answer { accepted, words: if said.is_empty() { words::UNDER_WAY.to_owned() } else { said.join(" ") } }
    }

    fn trust(&mut self, disk: &str) -> Answer {
        if !self.set.trust(disk) {
            return Answer { accepted: false, words: words::NO_DOUBT.to_owned() };
        }
        if self.set.members().values().all(|member| member.doubt.is_none()) {
            self.step(Event::Mended(Fault::DiskSetback), Instant::now());
        }
        Answer { accepted: true, words: words::TRUSTED.to_owned() }
    }

    fn forget(&mut self, disk: &str) -> Answer {
        let inside = self.disk_inside().is_some_and(|inside| inside.id == disk);
        let accepted = !inside && self.set.forget(disk);
        self.look_at_the_set();
        let words = if accepted { words::FORGOTTEN } else { words::NOT_FORGOTTEN };
        Answer { accepted, words: words.to_owned() }
    }

    fn hands(&mut self, event: BoardEvent, at: Instant) {
        match event {
            BoardEvent::Pressed(button) => self.step(Event::Press(of_controller(button)), at),
            BoardEvent::Released(button) => self.step(Event::Release(of_controller(button)), at),
            BoardEvent::Tapped(button) => {
                self.step(Event::Press(of_controller(button)), at);
                self.step(Event::Release(of_controller(button)), at);
            }
            BoardEvent::TappedBoth => {
                mailkeep_board::Button::ALL
                    .into_iter()
                    .for_each(|button| self.step(Event::Press(of_controller(button)), at));
                mailkeep_board::Button::ALL
                    .into_iter()
                    .for_each(|button| self.step(Event::Release(of_controller(button)), at));
            }
            BoardEvent::DiskIn(slot) => {
                let Some(path) = self.disk_path(slot) else { return };
                self.insertions += 1;
                let insertion = Insertion(self.insertions);
                tracing::info!(disk = %path.display(), insertion = insertion.0, "disk in");
                self.inserted.insert(slot, insertion);
                self.paths.insert(insertion, path);
                self.step(Event::DiskArrived(insertion), at);
            }
            BoardEvent::DiskOut(slot) => {
                if let Some(insertion) = self.inserted.remove(&slot) {
                    tracing::info!(insertion = insertion.0, "disk out");
                    self.paths.remove(&insertion);
                    self.repositories.remove(&insertion);
                    self.names.remove(&insertion);
                    self.identities.remove(&insertion);
                    self.step(Event::DiskGone(insertion), at);
                }
            }
            BoardEvent::Quit => self.asked_to_end("the keyboard"),
        }
    }

    fn looked(&mut self, insertion: Insertion, looked: Looked, at: Instant) {
        let Looked { identity, disk, doubt } = looked;
        // It may have been pulled in the meantime.
        if self.paths.contains_key(&insertion) {
            self.identities.insert(insertion, identity);
            if let Some(disk) = disk {
                self.names.insert(insertion, disk);
            }
        }
        self.step(Event::Identified(insertion, identity), at);
        if let Some(doubt) = doubt {
            self.step(Event::Trouble(Fault::DiskSetback), at);
            self.tell(&doubt);
        }
        self.look_at_the_set();
    }

    fn disk_inside(&self) -> Option<&DiskName> {
        self.state.disk().insertion().and_then(|insertion| self.names.get(&insertion))
    }

    /// What the box says of itself now.
    fn status(&self) -> Status {
        let now = Local::now();
        let clock_trusted = now.year() >= FIRST_YEAR;
        let inserted = self.state.disk().insertion();
        report::status(Known {
            name: &self.config.name,
            state: &self.state,
            moment: self.moment(Instant::now()),
            now,
            clock_trusted,
            ledger: &self.ledger,
            members: self.set.members(),
            disk: self.disk_inside(),
            identity: inserted.and_then(|insertion| self.identities.get(&insertion)).copied(),
            read_only: inserted.is_some() && inserted == self.read_only,
            wanted: self.wanted.as_ref(),
            next_backup: self
                .config
                .schedule
                .as_ref()
                .filter(|_| clock_trusted)
                .and_then(|schedule| schedule.next_due(&now))
                .map(|due| due.timestamp()),
            progress: &self.progress,
            news: self.news.iter().cloned().collect(),
        })
    }

    /// Tells who listens, if anything but the time is different.
    fn publish(&self, status: &watch::Sender<Arc<Status>>) {
        let new = self.status();
        status.send_if_modified(|old| {
            let different = Status { time: old.time, ..new.clone() } != **old;
            if different {
                *old = Arc::new(new);
            }
            different
        });
    }

    /// Answers who has asked; what came of it is published before.
    fn answer(&mut self) {
        for (to, answer) in self.answers.drain(..) {
            // Whoever asked may have gone; it is done all the same.
            let _ = to.send(answer);
        }
    }

    /// Which disk is to be brought next, and is it time?
    fn look_at_the_set(&mut self) {
        let inside = self.disk_inside().map(|disk| disk.id.as_str());
        self.wanted = next_wanted(&self.set.members(), inside, self.config.rotation);
        let now = Local::now();
        let by = self.wanted.as_ref().and_then(|wanted| wanted.by);
        let due = now.year() >= FIRST_YEAR && by.is_some_and(|by| by < now.timestamp());
        if due != self.state.is_swap_due() {
            self.step(Event::SwapDue(due), Instant::now());
            if due {
                let words = words::swap(self.wanted.as_ref().and_then(|wanted| wanted.label.as_deref()));
                tracing::warn!("{words}");
                self.tell(&words);
            }
        }
    }

    fn disk_path(&self, slot: SlotNumber) -> Option<PathBuf> {
        let disks = match &self.config.board {
            Layout::Bench(bench) => &bench.disks,
            Layout::LinuxGpio(_) => &self.config.disk_paths,
        };
        slot.0.checked_sub(1).and_then(|index| disks.get(index)).cloned()
    }

    fn news(&mut self, id: JobId, source: &str, news: &News, at: Instant) {
        match news {
            News::Phase(phase) => {
                self.phase = *phase;
                tracing::info!(source, phase = words::phase(*phase), "phase");
                self.step(Event::Progress(id, *phase), at);
            }
            News::Sealed(sealed) => {
                self.tell(&words::sealed(source, sealed));
                self.tripwire(source, sealed.shrunk.as_deref());
                return;
            }
            News::Pruned(pruned) => {
                if let Some(text) = words::pruned(pruned) {
                    self.tell(&text);
                    self.manager.status(&text);
                }
                return;
            }
            News::NotPruned(why) => {
                let text = words::not_pruned(why);
                self.tell(&text);
                self.manager.status(&text);
                return;
            }
            News::Told(text) => {
                self.tell(text);
                self.manager.status(text);
                return;
            }
            News::Count { .. } => {}
        }
        self.show_progress(&words::progress(source, self.phase, news));
    }

    /// A source that has lost most of its files may be the wrong mount, or somebody's doing.
    fn tripwire(&mut self, source: &str, shrunk: Option<&str>) {
        match shrunk {
            Some(words) => {
                tracing::error!(source, "{words}");
                self.shrunk.insert(source.to_owned());
                self.step(Event::Trouble(Fault::SourceShrank), Instant::now());
                self.tell(words);
            }
            None => {
                self.shrunk.remove(source);
                if self.shrunk.is_empty() {
                    self.step(Event::Mended(Fault::SourceShrank), Instant::now());
                }
            }
        }
    }

    fn job_ended(&mut self, id: JobId, result: JobResult) {
        self.cancels.remove(&id);
        self.ledger.resumed = 0;
        self.show_progress("");
        tracing::info!(job = id.0, ?result, "job ended");
        let backup = self.state.jobs().running.is_some_and(|job| job.id == id && job.kind == JobKind::Backup);
        if backup && result != JobResult::Cancelled {
            self.ledger.last_failed = result != JobResult::Proven;
            // What is broken off because the program ends stays owed; what has ended does not.
            self.ledger.owed = false;
            if result == JobResult::Proven {
                self.ledger.proven = Some(Local::now().timestamp());
            }
            self.save_ledger();
        }
    }

    fn look_at_the_clock(&mut self) {
        let now = Local::now();
        if now.year() < FIRST_YEAR {
            return;
        }
        // A clock that was set back must not keep the schedule waiting until it has caught up.
        let last = self.ledger.scheduled.map(|last| last.min(now.timestamp()));
        let due = self.config.schedule.as_ref().and_then(|schedule| schedule.last_due(&now));
        let is_due = |due: &DateTime<Local>| last.is_none_or(|last| due.timestamp() > last);
        if let Some(due) = due.filter(is_due) {
            tracing::info!(due = due.to_rfc3339(), "a backup is due");
            self.ledger.scheduled = Some(now.timestamp());
            self.save_ledger();
            self.step(Event::BackupDue, Instant::now());
        }
    }

    fn save_ledger(&self) {
        if let Err(error) = self.ledger.save(&self.config.state_dir) {
            tracing::error!(folder = %self.config.state_dir.display(), "the ledger can't be written: {error}");
        }
    }

    // ---- what is done ----

    fn step(&mut self, event: Event, at: Instant) {
        self.said.clear();
        let actions = self.state.step(event, self.moment(at));
        self.keep_what_must_not_be_lost();
        for action in actions {
            self.act(action);
        }
    }

    /// Faults and the backup that is owed are on the disk before anything comes of them.
    fn keep_what_must_not_be_lost(&mut self) {
        let mut different = self.ledger.note_faults(self.state.faults().latched(), Local::now().timestamp());
        if !self.state.is_stopping() {
            let owed = self.state.is_backup_owed();
            different |= std::mem::replace(&mut self.ledger.owed, owed) != owed;
        }
        if different {
            self.save_ledger();
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Inspect(insertion) => self.with_path(insertion, DiskOrder::Inspect),
            Action::Mount(insertion) => self.with_path(insertion, DiskOrder::Mount),
            Action::Eject(insertion) => self.workers.order(DiskOrder::Eject(insertion)),
            Action::Forget(insertion) => self.workers.order(DiskOrder::Forget(insertion)),
            Action::StartBackup(id, insertion) => self.start_backup(id, insertion),
            Action::StartRestore(id, _) => {
                tracing::error!("{}", words::RESTORE_NOT_AVAILABLE);
                self.tell(words::RESTORE_NOT_AVAILABLE);
                self.step(Event::JobEnded(id, JobResult::Failed), Instant::now());
            }
            Action::Cancel(id) => {
                if let Some(flag) = self.cancels.get(&id) {
                    cancel(flag);
                }
            }
            Action::Say(notice) => self.say(notice),
            Action::Exit => {
                self.manager.stopping();
                self.exit = true;
            }
        }
    }

    fn with_path(&self, insertion: Insertion, order: fn(Insertion, PathBuf) -> DiskOrder) {
        // The controller only speaks of insertions that came from `hands`, which noted their path.
        let path = self.paths.get(&insertion).cloned().unwrap_or_default();
        self.workers.order(order(insertion, path));
    }

    fn start_backup(&mut self, id: JobId, insertion: Insertion) {
        let repository = self.repositories.get(&insertion).cloned().unwrap_or_default();
        let flag = Arc::new(AtomicBool::new(false));
        self.cancels.insert(id, Arc::clone(&flag));
        tracing::info!(job = id.0, repository = %repository.display(), "backup begins");
        if let Err(error) = self.workers.backup(id, self.config.sources.clone(), repository, flag) {
            tracing::error!(job = id.0, "cannot start the job: {error}");
            self.step(Event::JobEnded(id, JobResult::Failed), Instant::now());
        }
    }

    fn say(&mut self, notice: Notice) {
        self.said.push(notice);
        let text = words::notice(notice);
        match notice {
            Notice::FaultRaised(fault) => tracing::error!(?fault, "{text}"),
            _ => tracing::info!("{text}"),
        }
        self.tell(&text);
        self.manager.status(&text);
    }

    fn tell(&mut self, text: &str) {
        if self.news.len() >= NEWS {
            self.news.pop_front();
        }
        self.news.push_back(NewsLine { time: Local::now().timestamp(), words: text.to_owned() });
        if let Err(error) = self.board.tell(text) {
            tracing::debug!("{}", words::chain(&error));
        }
    }

    fn show_progress(&mut self, text: &str) {
        text.clone_into(&mut self.progress);
        if let Err(error) = self.board.show_progress(text) {
            tracing::debug!("{}", words::chain(&error));
        }
    }
}

fn of_controller(button: mailkeep_board::Button) -> Button {
    match button {
        mailkeep_board::Button::Backup => Button::Backup,
        mailkeep_board::Button::Restore => Button::Restore,
    }
}
