//! The conversation with the box: one run from `Hello` to `Goodbye`.
//!
//! This thread only listens and decides. Passes and the stop run in threads of their own, so that the end of the link,
//! a silent box, a signal or a `Resume` is noticed at once and mail is started. A `Freeze` needs nobody's word after it was
//! said: mail is stopped, the tree walked and kept, mail is started, and all of it is told as it happens.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mailkeep_format::{ContentHash, Timestamp};
use mailkeep_link::message::{
    BeginPass, Configure, Configured, Frozen, PassBegun, Prepared, Problem, Quiesce, Quiesced, Rechecked,
    ToAgent, ToBox,
};
use mailkeep_link::pace::{Pace, SystemClock};
use mailkeep_link::{AgentSide, Options, Role, version};
use mailkeep_mail::quiesce::{self, Rung};
use mailkeep_mail::{MailError, Profile, Source};

use crate::allowed::Allowed;
use crate::error::{AgentError, one_line};
use crate::facts::{self, Versions};
use crate::limits;
use crate::pass::{
    self, Freeze, FrozenTree, Journal, KnownFolders, Memory, NotFrozen, Order, Pass, Remember, Seen,
};
use crate::places::Places;
use crate::plan::Plan;
use crate::rebuild::WayBack;
use crate::snapshot::{self, Snapshots, Ways};
use crate::stage;
use crate::window::{self, Broken, Settings, Window};

/// Speaks with a box over these streams until it says goodbye. What it may say, and have run, is a matter of what is
/// `allowed`; `signalled` is set when the process is asked to end.
///
/// # Errors
/// What ended the run before that. The box has been told, where that was possible, and mail runs.
pub fn serve(
    input: Box<dyn Read + Send>,
    output: Box<dyn Write + Send>,
    allowed: Allowed,
    signalled: &AtomicBool,
) -> Result<(), AgentError> {
    let options = Options::new(concat!("mailkeep-agent ", env!("CARGO_PKG_VERSION")));
    // Before anything is heard: a box that never speaks must not keep mail down.
    let rescue = std::thread::Builder::new().name("rescue".into()).spawn(|| {
        let rescued = window::rescue_all(limits::RESUME_BOUND);
        (rescued, snapshot::clear())
    });
    let rescue = rescue.map_err(AgentError::Thread)?;
    let link = match AgentSide::open(input, output, &options) {
        Ok(link) => link,
        Err(error) => {
            let _ = rescue.join();
            return Err(error.into());
        }
    };
    let (rescued, left_behind) = rescue.join().unwrap_or_else(|_| {
        let died = std::io::Error::other("the thread that looks for open windows died");
        (Err(AgentError::Thread(died)), Vec::new())
    });
    let mut run = Run {
        link,
        allowed,
        signalled,
        rescued,
        left_behind,
        configured: None,
        stage: Stage::Idle,
        window: None,
        seen: None,
        known: None,
        recalls: false,
        unasked: false,
        memory: None,
        frozen: None,
        ways: None,
        snapshots: Snapshots::default(),
        looked: Instant::now(),
        called_off: None,
        removing: None,
        way_back: None,
    };
    let ended = run.converse();
    run.call_off();
    let Run { link, .. } = run;
    if let Err(error) = &ended {
        let _ = link.send(ToBox::Failed(error.failed()));
    }
    let said = link.finish(Duration::from_secs(10));
    ended?;
    Ok(said?)
}

struct Run<'a> {
    link: AgentSide,
    allowed: Allowed,
    signalled: &'a AtomicBool,
    rescued: Result<bool, AgentError>,
    /// Snapshots of earlier runs that do not go, one line each.
    left_behind: Vec<String>,
    configured: Option<Subject>,
    stage: Stage,
    window: Option<Window>,
    seen: Option<Seen>,
    /// What the box has said for the next pass.
    known: Option<KnownFolders>,
    /// It has said that the next pass, if it is final, need only tell what is another than the last one saw.
    recalls: bool,
    /// The next pass is not to ask what the box has.
    unasked: bool,
    /// What that was, where a freeze has used it in vain.
    memory: Option<Memory>,
    /// What the next final pass tells.
    frozen: Option<FrozenTree>,
    /// How the trees can be kept, once that was tried.
    ways: Option<Ways>,
    /// What the pass that is under way reads from.
    snapshots: Snapshots,
    /// When the room on their file systems was looked at.
    looked: Instant,
    /// A freeze that nobody waits for any more, but for its snapshots.
    called_off: Option<JoinHandle<Result<FrozenTree, NotFrozen>>>,
    /// Removes snapshots that are of no use.
    removing: Option<JoinHandle<()>>,
    /// A restore.
    way_back: Option<WayBack>,
}

/// What is under way beside this thread.
enum Stage {
    Idle,
    Passing(Pass),
    Stopping(JoinHandle<Result<(Window, Quiesced), Broken>>, Arc<AtomicBool>, Then),
    /// The final pass is made on this server alone.
    Freezing(JoinHandle<Result<FrozenTree, NotFrozen>>, Arc<AtomicBool>),
}

/// What follows a stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// What the box says.
    Wait,
    Freeze,
}

/// What is backed up.
struct Subject {
    source: Arc<Source>,
    profile: Arc<Places>,
    versions: Versions,
    rung: Result<Rung, MailError>,
    /// How fast files may be read while mail runs.
    pace: Option<Arc<Pace>>,
}

impl Run<'_> {
    fn converse(&mut self) -> Result<(), AgentError> {
        loop {
            if self.signalled.load(Ordering::Relaxed) {
                return Err(AgentError::CalledOff);
            }
            self.look_after_stage()?;
            let swaps = self.way_back.as_ref().is_some_and(WayBack::is_swapping);
            let nap = if swaps || matches!(self.stage, Stage::Stopping(..) | Stage::Freezing(..)) {
                limits::QUICK
            } else {
                limits::POLL
            };
            match self.link.receive_within(nap)? {
                None => {}
                Some(message) if !self.allowed.role.may_say(&message) => {
                    let role = self.allowed.role;
                    return Err(AgentError::NotForThisKey { role, said: name(&message) });
                }
                Some(ToAgent::Goodbye) => return Ok(()),
                Some(message) => self.take(message)?,
            }
        }
    }

    fn take(&mut self, message: ToAgent) -> Result<(), AgentError> {
        match (message, &self.stage) {
            (ToAgent::Want(want), Stage::Passing(pass)) => pass.want(&want),
            (ToAgent::Need(need), Stage::Passing(pass)) => {
                pass.need(need);
                Ok(())
            }
            (ToAgent::Resume, _) => self.resume(),
            (ToAgent::Squeeze(squeeze), _) if self.configured.is_some() => {
                self.link.squeeze(squeeze.on);
                Ok(())
            }
            (message, Stage::Passing(_)) => {
                self.end_pass()?;
                self.take_idle(message)
            }
            (message, Stage::Idle) => self.take_idle(message),
            (_, Stage::Stopping(..) | Stage::Freezing(..)) => {
                Err(AgentError::OutOfOrder { said: "something while mail is stopped" })
            }
        }
    }

    fn take_idle(&mut self, message: ToAgent) -> Result<(), AgentError> {
        match message {
            ToAgent::Configure(configure) if self.configured.is_none() => self.configure(&configure),
            ToAgent::BeginPass(begin) => self.begin_pass(begin),
            ToAgent::Quiesce(order) if self.window.is_none() => self.quiesce(order, Then::Wait),
            ToAgent::Prepare => self.prepare(),
            ToAgent::Freeze(order) if self.window.is_none() => self.quiesce(order, Then::Freeze),
            ToAgent::Recheck => self.recheck(),
            ToAgent::Known(known) => {
                self.known.get_or_insert_default().add(known);
                Ok(())
            }
            ToAgent::Remember => {
                self.recalls = true;
                Ok(())
            }
            ToAgent::Unasked => {
                self.unasked = true;
                Ok(())
            }
            // The role has been asked before.
            message if Role::Restore.may_say(&message) && !Role::Backup.may_say(&message) => {
                let subject =
                    self.configured.as_ref().ok_or(AgentError::OutOfOrder { said: name(&message) })?;
                let sender = self.link.sender();
                let way_back = self
                    .way_back
                    .get_or_insert_with(|| WayBack::new(&subject.source, &subject.profile, sender));
                way_back.take(message)
            }
            other => Err(AgentError::OutOfOrder { said: name(&other) }),
        }
    }

    fn look_after_stage(&mut self) -> Result<(), AgentError> {
        if let Some(way_back) = &mut self.way_back {
            way_back.look_after()?;
        }
        match &self.stage {
            Stage::Passing(pass) => {
                pass.failure().map_or(Ok(()), Err)?;
                if self.looked.elapsed() >= limits::SNAPSHOT_LOOK { self.leave_room() } else { Ok(()) }
            }
            Stage::Stopping(stop, _, then) if stop.is_finished() => {
                let then = *then;
                let (mut window, quiesced) = self.stopped().map_err(|broken| *broken.error)?;
                let remark = window.take_remark();
                self.window = Some(window);
                if let Some(remark) = remark {
                    self.remark(remark)?;
                }
                self.link.send(ToBox::Quiesced(quiesced))?;
                if then == Then::Freeze { self.freeze() } else { Ok(()) }
            }
            Stage::Freezing(freeze, _) if freeze.is_finished() => self.frozen(),
            _ => Ok(()),
        }
    }

    /// Waits for the thread that stops mail.
    fn stopped(&mut self) -> Result<(Window, Quiesced), Broken> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Stopping(stop, ..) => stop.join().unwrap_or_else(|_| {
                // Its window was dropped on the way, which starts mail.
                Err(AgentError::Thread(std::io::Error::other("the thread that stops mail died")).into())
            }),
            _ => Err(AgentError::OutOfOrder { said: "Resume" }.into()),
        }
    }

    fn configure(&mut self, configure: &Configure) -> Result<(), AgentError> {
        let rescued = std::mem::replace(&mut self.rescued, Ok(false))?;
        let source = Arc::new(Source::parse(&configure.source, "the source file")?);
        // Before any of it is believed: this runs what it names, as root.
        self.allowed.see(&source)?;
        let profile = Arc::new(Places::of(&source, self.allowed.reach.as_ref())?);
        // Tells early that a tree is not mounted.
        Plan::new(&profile)?;
        let (facts, versions) = facts::gather(&source);
        let rung = quiesce::choose(&source, &facts);
        for note in std::mem::take(&mut self.left_behind).into_iter().chain(self.allowed.remark()) {
            self.remark(note)?;
        }
        for note in profile.notes() {
            self.remark(note.clone())?;
        }
        let described = match &rung {
            Ok(Rung::Nothing) => None,
            Ok(rung) => Some(format!("{} ({})", rung.describe(), quiesce::why(&source, &facts, rung))),
            Err(error) => {
                // Live copies are still possible, so this is not the end.
                self.remark(one_line(error))?;
                Some("none".to_owned())
            }
        };
        let purpose = match self.allowed.role {
            Role::Backup => window::Purpose::Copy,
            Role::Restore => window::Purpose::Swap,
        };
        let lead = match rung
            .as_ref()
            .ok()
            .and_then(Rung::service)
            .map(|service| window::lead(&service, source.quiesce.deadline, purpose))
        {
            Some(Ok(lead)) => Some(u64::try_from(lead.as_millis()).unwrap_or(u64::MAX)),
            // Told again, as an error, where mail is really to be stopped.
            Some(Err(error)) => {
                self.remark(one_line(&error))?;
                None
            }
            None => None,
        };
        let roots = profile.roots().iter().map(|root| root.path.display().to_string()).collect();
        self.link.send(ToBox::Configured(Configured {
            host: facts::kernel_line("/proc/sys/kernel/hostname"),
            boot_id: facts::kernel_line("/proc/sys/kernel/random/boot_id"),
            versions: versions.clone(),
            quiesce: described,
            roots,
            rescued,
            rules: (self.link.version() >= version::UNCHANGED).then(|| rules(&configure.source, &profile)),
            lead_millis: lead.filter(|_| self.link.version() >= version::LEAD),
        }))?;
        let rate = source.limits.read.map(|rate| rate.bytes_per_second());
        let pace = rate.map(|rate| Arc::new(Pace::new(Some(rate), Box::<SystemClock>::default())));
        self.configured = Some(Subject { source, profile, versions, rung, pace });
        Ok(())
    }

    fn begin_pass(&mut self, begin: BeginPass) -> Result<(), AgentError> {
        let subject = self.configured.as_ref().ok_or(AgentError::OutOfOrder { said: "BeginPass" })?;
        let (journal, seen) = self.seen.take().map_or((None, None), |seen| (seen.journal, seen.memory));
        let recalls = std::mem::take(&mut self.recalls);
        let unasked = std::mem::take(&mut self.unasked) && !begin.is_final;
        let memory = self.memory.take().or(seen.filter(|_| recalls));
        if let Some(tree) = self.frozen.take().filter(|_| begin.is_final) {
            self.snapshots.in_the_way().map_or(Ok(()), Err)?;
            self.link.send(ToBox::PassBegun(PassBegun { clock: tree.clock }))?;
            self.stage = Stage::Passing(Pass::replay(
                tree,
                subject.pace.clone(),
                self.snapshots.witness(),
                &self.link.sender(),
            )?);
            return Ok(());
        }
        let clock = now();
        self.link.send(ToBox::PassBegun(PassBegun { clock }))?;
        let is_final = begin.is_final && self.window.is_some();
        let export = self.window.as_ref().filter(|_| is_final).map(Window::export_folder);
        let known = self.known.take().map(|known| known.at(clock));
        // While mail is stopped nothing counts but time.
        let pace = subject.pace.clone().filter(|_| self.window.is_none());
        let may_stop = !matches!(subject.rung, Ok(Rung::Nothing)) && self.link.version() >= version::AMENDED;
        let journal = journal.or_else(Journal::begin).filter(|_| may_stop);
        let profile = Arc::clone(&subject.profile);
        let memory = match memory.filter(|_| is_final) {
            Some(memory) => Remember::Earlier(memory),
            None if may_stop && !is_final && self.link.version() >= version::REMEMBER => Remember::This,
            None => Remember::Nothing,
        };
        let order = Order { profile, is_final, clock, export, known, journal, memory, pace, unasked };
        self.stage = Stage::Passing(Pass::begin(order, &self.link.sender())?);
        Ok(())
    }

    fn end_pass(&mut self) -> Result<(), AgentError> {
        if let Stage::Passing(pass) = std::mem::replace(&mut self.stage, Stage::Idle) {
            self.seen = Some(pass.finish()?);
        }
        self.snapshots = Snapshots::default();
        Ok(())
    }

    /// Ends the run if mail needs the room that a snapshot keeps.
    fn leave_room(&mut self) -> Result<(), AgentError> {
        self.looked = Instant::now();
        self.snapshots.in_the_way().map_or(Ok(()), Err)
    }

    /// Whether a final pass could be kept here until mail runs again.
    fn prepare(&mut self) -> Result<(), AgentError> {
        let subject = self.configured.as_ref().ok_or(AgentError::OutOfOrder { said: "Prepare" })?;
        let seen = self.seen.as_ref().ok_or(AgentError::OutOfOrder { said: "Prepare" })?;
        let spare = window::state::private_base()?;
        stage::clear(&spare);
        let roots = Plan::new(&subject.profile)?.roots;
        let mut ways = Ways::find(subject.source.quiesce.freeze, &roots, &seen.borders);
        let mut snapshots = ways.rehearse();
        let foresee = |ways: &Ways| {
            let others = ways.others();
            let bytes = pass::foresee(seen, &others, &spare, now())?;
            // Single files beside the roots take no time.
            let walk = if others.is_empty() { 0 } else { seen.millis };
            let copies = bytes.saturating_mul(1000) / limits::STAGE_SPEED;
            Ok::<_, String>((bytes, Duration::from_millis(walk.saturating_add(copies))))
        };
        let mut foreseen = foresee(&ways);
        let otherwise = foreseen.as_ref().ok().map(|(_, time)| *time);
        if ways.has_untried() && otherwise.is_none_or(|time| time >= limits::VOLUME_WORTH) {
            snapshots += ways.try_volumes(otherwise);
            foreseen = foresee(&ways);
        }
        let prepared = match foreseen {
            Ok((bytes, time)) => {
                let millis = u64::try_from((time + snapshots).as_millis()).unwrap_or(u64::MAX);
                Prepared { able: true, why: ways.describe(), bytes, millis }
            }
            Err(why) => Prepared { able: false, why, bytes: 0, millis: 0 },
        };
        self.ways = Some(ways);
        Ok(self.link.send(ToBox::Prepared(prepared))?)
    }

    /// Mail is stopped: walks and stages, and listens meanwhile.
    fn freeze(&mut self) -> Result<(), AgentError> {
        let out_of_order = || AgentError::OutOfOrder { said: "Freeze" };
        let subject = self.configured.as_ref().ok_or_else(out_of_order)?;
        let window = self.window.as_ref().ok_or_else(out_of_order)?;
        let clock = now();
        let known = self.known.take().map(|known| known.at(clock));
        let seen = self.seen.take().ok_or_else(out_of_order)?;
        let ways = match self.ways.take() {
            Some(ways) => ways,
            None => {
                let roots = Plan::new(&subject.profile)?.roots;
                Ways::find(subject.source.quiesce.freeze, &roots, &seen.borders)
            }
        };
        let freeze = Freeze {
            profile: Arc::clone(&subject.profile),
            export: window.export_folder(),
            known,
            seen,
            recalls: std::mem::take(&mut self.recalls),
            clock,
            spare: window::state::private_base()?,
            ways,
            descriptors: pass::staged_descriptors(),
        };
        let called_off = Arc::new(AtomicBool::new(false));
        let off = Arc::clone(&called_off);
        let thread = std::thread::Builder::new()
            .name("freeze".into())
            .spawn(move || freeze.run(&off))
            .map_err(AgentError::Thread)?;
        self.stage = Stage::Freezing(thread, called_off);
        Ok(())
    }

    /// The frozen walk is over: mail is started, unless nothing could be kept.
    fn frozen(&mut self) -> Result<(), AgentError> {
        let Stage::Freezing(freeze, _) = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return Ok(());
        };
        let died = |_| Err(NotFrozen::unknown("the thread that walks died"));
        let frozen = freeze.join().unwrap_or_else(died);
        let window = self.window.as_ref().ok_or(AgentError::OutOfOrder { said: "Freeze" })?;
        let mut tree = match frozen {
            Ok(tree) => tree,
            Err(NotFrozen { why, known, memory, snapshots }) => {
                self.removing = snapshots.remove_aside();
                // The pass that follows looks at the server as it is, and knows as much.
                self.known = known.map(|known| *known);
                self.memory = memory.map(|memory| *memory);
                let (millis, files, bytes) = (0, 0, 0);
                let frozen = Frozen { whole: false, why, millis, files, bytes, moved: Vec::new() };
                return Ok(self.link.send(ToBox::Frozen(frozen))?);
            }
        };
        let began = Instant::now();
        let mut moved = window.disturbances();
        moved.extend_from_slice(&tree.moved);
        let looked = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.snapshots = std::mem::take(&mut tree.snapshots);
        let said = self.link.send(ToBox::Frozen(Frozen {
            whole: true,
            why: std::mem::take(&mut tree.how),
            millis: tree.millis.saturating_add(looked),
            files: tree.stage.files,
            bytes: tree.stage.bytes,
            moved,
        }));
        let window = self.window.take().ok_or(AgentError::OutOfOrder { said: "Freeze" })?;
        let resumed = window.close()?;
        said?;
        self.frozen = Some(tree);
        self.link.set_silence(mailkeep_link::limits::SILENCE);
        Ok(self.link.send(ToBox::Resumed(resumed))?)
    }

    fn quiesce(&mut self, order: Quiesce, then: Then) -> Result<(), AgentError> {
        if then == Then::Freeze && self.seen.is_none() {
            return Err(AgentError::OutOfOrder { said: "Freeze before a live pass" });
        }
        let subject = self.configured.as_ref().ok_or(AgentError::OutOfOrder { said: "Quiesce" })?;
        let rung = match &subject.rung {
            Ok(Rung::Nothing) => return Err(AgentError::NothingToStop),
            Ok(rung) => rung.clone(),
            // Asked again for an error to hand on: this one is not to be had twice.
            Err(_) => quiesce::choose(&subject.source, &facts::gather(&subject.source).0)?,
        };
        let deadline = subject
            .source
            .quiesce
            .deadline
            .min(Duration::from_secs(u64::from(order.deadline_seconds.max(1))));
        let settings = Settings {
            source: Arc::clone(&subject.source),
            rung,
            probe: facts::probe(&subject.source),
            roots: Plan::new(&subject.profile)?.roots,
            versions: subject.versions.clone(),
            deadline,
            purpose: window::Purpose::Copy,
        };
        if let Some(remark) = window::boot::Place::find().remark() {
            self.remark(remark)?;
        }
        self.link.set_silence(limits::SILENCE_IN_WINDOW);
        let called_off = Arc::new(AtomicBool::new(false));
        let off = Arc::clone(&called_off);
        let stop = std::thread::Builder::new()
            .name("stop".into())
            .spawn(move || window::open(settings, &off))
            .map_err(AgentError::Thread)?;
        self.stage = Stage::Stopping(stop, called_off, then);
        Ok(())
    }

    fn recheck(&mut self) -> Result<(), AgentError> {
        let (Some(window), Some(seen)) = (&self.window, &mut self.seen) else {
            return Err(AgentError::OutOfOrder { said: "Recheck" });
        };
        let mut moved = window.disturbances();
        moved.extend(seen.moved());
        Ok(self.link.send(ToBox::Rechecked(Rechecked { moved }))?)
    }

    /// Mail first, everything else afterwards.
    fn resume(&mut self) -> Result<(), AgentError> {
        let resumed = match (&self.stage, self.window.take()) {
            (Stage::Stopping(_, called_off, _), _) => {
                called_off.store(true, Ordering::Relaxed);
                match self.stopped() {
                    Ok((window, _)) => window.close()?,
                    Err(Broken { resumed: Some(resumed), .. }) => resumed,
                    Err(Broken { error, .. }) => return Err(*error),
                }
            }
            (Stage::Passing(pass), window) => {
                // A pass that has ended is kept for nothing; one that has not is of no use any more.
                pass.abort();
                self.stage = Stage::Idle;
                window.ok_or(AgentError::OutOfOrder { said: "Resume" })?.close()?
            }
            (Stage::Freezing(..), window) => {
                self.abandon_freeze();
                window.ok_or(AgentError::OutOfOrder { said: "Resume" })?.close()?
            }
            (Stage::Idle, window) => window.ok_or(AgentError::OutOfOrder { said: "Resume" })?.close()?,
        };
        self.link.set_silence(mailkeep_link::limits::SILENCE);
        Ok(self.link.send(ToBox::Resumed(resumed))?)
    }

    /// The run is over: nothing goes on, mail runs.
    fn call_off(&mut self) {
        if let Some(way_back) = &mut self.way_back {
            way_back.call_off();
        }
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => {}
            Stage::Passing(pass) => pass.abort(),
            // Not waited for: mail comes first.
            Stage::Freezing(freeze, called_off) => {
                called_off.store(true, Ordering::Relaxed);
                self.called_off = Some(freeze);
            }
            Stage::Stopping(stop, called_off, _) => {
                called_off.store(true, Ordering::Relaxed);
                // A window in the result is dropped here, which starts mail.
                drop(stop.join());
            }
        }
        drop(self.window.take());
        self.snapshots = Snapshots::default();
        drop(self.frozen.take());
        // A freeze that was called off removes its snapshots. If it does not come to that, the next run does.
        let end = Instant::now() + limits::FREEZE_PATIENCE;
        while self.called_off.as_ref().is_some_and(|freeze| !freeze.is_finished()) && Instant::now() < end {
            std::thread::sleep(limits::QUICK);
        }
        if let Some(freeze) = self.called_off.take().filter(JoinHandle::is_finished) {
            drop(freeze.join());
        }
        if let Some(removing) = self.removing.take() {
            let _ = removing.join();
        }
    }

    /// A freeze is of no use any more, and mail comes first.
    fn abandon_freeze(&mut self) {
        if let Stage::Freezing(freeze, called_off) = std::mem::replace(&mut self.stage, Stage::Idle) {
            called_off.store(true, Ordering::Relaxed);
            self.called_off = Some(freeze);
        }
    }

    fn remark(&self, what: String) -> Result<(), AgentError> {
        Ok(self.link.send(ToBox::Problem(Problem { what, path: String::new(), missing: false }))?)
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}

/// Stands for what is walked and by which rules: the source file, what Cyrus' own configuration made of it, and the
/// version of this program. Too much rather than too little: a difference costs one full listing.
fn rules(source: &str, profile: &Profile) -> String {
    let mut said = format!("{}\n{source}\n{:?}", env!("CARGO_PKG_VERSION"), profile.roots());
    if let Profile::Cyrus(cyrus) = profile {
        said.push_str(&format!("{cyrus:?}"));
    }
    ContentHash::of(said.as_bytes()).as_bytes()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn name(message: &ToAgent) -> &'static str {
    match message {
        ToAgent::Hello(_) => "Hello",
        ToAgent::Configure(_) => "Configure",
        ToAgent::BeginPass(_) => "BeginPass",
        ToAgent::Want(_) => "Want",
        ToAgent::Need(_) => "Need",
        ToAgent::Quiesce(_) => "Quiesce",
        ToAgent::Recheck => "Recheck",
        ToAgent::Resume => "Resume",
        ToAgent::Alive => "Alive",
        ToAgent::Goodbye => "Goodbye",
        ToAgent::Known(_) => "Known",
        ToAgent::Squeeze(_) => "Squeeze",
        ToAgent::Prepare => "Prepare",
        ToAgent::Remember => "Remember",
        ToAgent::Unasked => "Unasked",
        ToAgent::Freeze(_) => "Freeze",
        ToAgent::Trees => "Trees",
        ToAgent::Raise(_) => "Raise",
        ToAgent::Folder(_) => "Folder",
        ToAgent::Lay(_) => "Lay",
        ToAgent::Fill(_) => "Fill",
        ToAgent::Settle => "Settle",
        ToAgent::Seal(_) => "Seal",
        ToAgent::Raised => "Raised",
        ToAgent::Swap(_) => "Swap",
        ToAgent::Drop => "Drop",
        ToAgent::Promote(_) => "Promote",
        ToAgent::List(_) => "List",
        ToAgent::Look(_) => "Look",
    }
}
