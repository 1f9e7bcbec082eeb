//! A whole server's way back: what the box says in the role that restores, and what is answered.
//!
//! Trees are built beside those that mail uses ([`build`]) while mail runs, with another list of mailboxes where the server's
//! Cyrus needs it ([`import`]), and exchanged ([`exchange`]) while it is stopped. Afterwards the server is looked at ([`look`]).
//! This thread only listens while mail is stopped, so that the end of the link and a signal are noticed: up to the moment
//! at which the journal of the swap is durable they call it off, from there on it is carried through.

pub mod build;
pub mod exchange;
pub mod import;
pub mod look;
pub mod settle;
pub mod site;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mailkeep_link::Sender;
use mailkeep_link::message::{Problem, ToAgent, ToBox};
use mailkeep_link::rebuild::{List, Listed, Raise, Swap, Swapped, Took, Trees};
use mailkeep_mail::source::System;
use mailkeep_mail::{Profile, Source};

use crate::error::AgentError;
use crate::limits;
use crate::places::Places;
use crate::standby::Standby;
use crate::swap;
use crate::window::state::StateFolder;
use build::Build;
use exchange::Service;
use import::Import;
use site::Site;

/// The sending half of the link.
type Out = Sender<ToBox, ToAgent>;

/// A restore that is under way.
pub struct WayBack {
    source: Arc<Source>,
    profile: Arc<Places>,
    out: Out,
    build: Option<Build>,
    raised: bool,
    /// Bytes that the box was not told of.
    untold: u64,
    /// The list of mailboxes, as far as it came.
    import: Import,
    swapping: Option<JoinHandle<Result<Swapped, AgentError>>>,
    off: Arc<AtomicBool>,
}

impl WayBack {
    /// For a source that was configured.
    pub fn new(source: &Arc<Source>, profile: &Arc<Places>, out: Out) -> WayBack {
        WayBack {
            source: Arc::clone(source),
            profile: Arc::clone(profile),
            out,
            build: None,
            raised: false,
            untold: 0,
            import: Import::default(),
            swapping: None,
            off: Arc::default(),
        }
    }

    /// Does what the box says.
    ///
    /// # Errors
    /// It cannot be done, or is said at the wrong time.
    pub fn take(&mut self, message: ToAgent) -> Result<(), AgentError> {
        if self.swapping.is_some() {
            return Err(AgentError::OutOfOrder { said: "something while trees are exchanged" });
        }
        match message {
            ToAgent::Trees => self.trees(),
            ToAgent::Raise(raise) => self.raise(raise),
            ToAgent::Swap(swap) => self.swap(swap),
            ToAgent::Drop => {
                let done = Service::of(&self.source)?.drop_kept(&self.profile)?;
                Ok(self.out.send(ToBox::Done(done))?)
            }
            ToAgent::Promote(promote) => {
                let event = match promote.event.as_str() {
                    event @ ("START" | "FAILOVER") => event,
                    _ => return Err(AgentError::OutOfOrder { said: "Promote with an event that is none" }),
                };
                let service = Service::of(&self.source)?;
                let done = service.promote(event)?;
                if let Some(what) = service.at_boot().after_promotion() {
                    self.out.send(ToBox::Problem(Problem { what, path: String::new(), missing: false }))?;
                }
                Ok(self.out.send(ToBox::Done(done))?)
            }
            ToAgent::List(list) => self.list(&list),
            ToAgent::Look(wanted) => {
                let looked = look::look(&self.source, &self.profile, &wanted);
                Ok(self.out.send(ToBox::Looked(looked))?)
            }
            other => self.built(other),
        }
    }

    /// Only what is complete gets another list.
    fn list(&mut self, list: &List) -> Result<(), AgentError> {
        let build = self.build.as_ref().filter(|_| self.raised);
        let build = build.ok_or(AgentError::OutOfOrder { said: "List" })?;
        self.import.add(&list.bytes)?;
        if !list.is_last {
            return Ok(());
        }
        let (System::Cyrus(options), Profile::Cyrus(cyrus)) = (&self.source.system, &**self.profile) else {
            return Err(AgentError::OutOfOrder { said: "List" });
        };
        let entries = std::mem::take(&mut self.import).run(options, cyrus, build)?;
        Ok(self.out.send(ToBox::Listed(Listed { entries }))?)
    }

    fn built(&mut self, message: ToAgent) -> Result<(), AgentError> {
        let build = self.build.as_mut().filter(|_| !self.raised);
        let build = build.ok_or(AgentError::OutOfOrder { said: "what is to be built" })?;
        match message {
            ToAgent::Folder(folder) => build.folder(folder)?,
            ToAgent::Lay(lay) => self.out.send(ToBox::Held(build.lay(lay)?))?,
            ToAgent::Fill(fill) => {
                build.fill(&fill)?;
                self.untold += fill.bytes.len() as u64;
                if self.untold >= limits::TOOK_STEP {
                    self.out.send(ToBox::Took(Took { bytes: std::mem::take(&mut self.untold) }))?;
                    self.out.flush();
                }
            }
            ToAgent::Settle => build.settle()?,
            ToAgent::Seal(seal) => build.seal(seal)?,
            ToAgent::Raised => {
                let raised = build.raised()?;
                self.raised = true;
                self.out.send(ToBox::Raised(raised))?;
            }
            _ => return Err(AgentError::OutOfOrder { said: "something else during a restore" }),
        }
        for what in build.take_problems() {
            self.out.send(ToBox::Problem(Problem { what, path: String::new(), missing: true }))?;
        }
        Ok(())
    }

    fn trees(&self) -> Result<(), AgentError> {
        let service = Service::of(&self.source)?;
        let folder = service.folder()?;
        let kept = swap::kept(&folder)?;
        self.tell_left_behind(&folder)?;
        if let Some(what) = service.at_boot().on_standby().filter(|_| self.source.standby.is_some()) {
            self.out.send(ToBox::Problem(Problem { what, path: String::new(), missing: false }))?;
        }
        let (folders, shape) = match &**self.profile {
            Profile::Cyrus(cyrus) => (cyrus.named_folders(), cyrus.shape()),
            Profile::Generic(_) => (Vec::new(), Vec::new()),
        };
        Ok(self.out.send(ToBox::Trees(Trees {
            trees: Site::all(&self.profile)?.iter().map(Site::told).collect::<Result<_, _>>()?,
            folders: folders.into_iter().map(|(key, path)| (key, path.display().to_string())).collect(),
            shape,
            stop: service.describe(),
            runs: service.runs()?,
            standby: Standby::load(&folder)?.map(|standby| standby.snapshot),
            may_stand_by: self.source.standby.is_some(),
            kept: kept
                .iter()
                .flat_map(|kept| &kept.places)
                .map(|place| place.display().to_string())
                .collect(),
            kept_of: kept.map(|kept| kept.snapshot),
        }))?)
    }

    fn tell_left_behind(&self, folder: &StateFolder) -> Result<(), AgentError> {
        // Somebody who builds at this moment leaves nothing behind.
        let Ok(_build) = build::lock(folder) else { return Ok(()) };
        let left = build::left_behind(&self.profile, folder)?;
        let Some(first) = left.first() else { return Ok(()) };
        let more = match left.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let what = format!(
            "an earlier restore that was broken off has left {}{more} beside; the next one removes that, or \
             `mailkeep restore-server --drop-old` now",
            first.display()
        );
        Ok(self.out.send(ToBox::Problem(Problem { what, path: String::new(), missing: false }))?)
    }

    fn raise(&mut self, raise: Raise) -> Result<(), AgentError> {
        if self.build.as_ref().is_some_and(|_| !self.raised) {
            return Err(AgentError::OutOfOrder { said: "Raise" });
        }
        let folder = Service::of(&self.source)?.folder()?;
        if !raise.trial {
            if let Some(kept) = swap::kept(&folder)? {
                let why = format!(
                    "trees of an earlier restore ({}) are still kept; look whether they are needed, then drop them by \
                     `mailkeep restore-server --drop-old`",
                    kept.snapshot
                );
                return Err(AgentError::Rebuild { why });
            }
            if swap::pending(&folder)?.is_some() {
                return Err(AgentError::WindowBusy);
            }
            if !rustix::process::geteuid().is_root() {
                let why = "the agent has to be root to give files to their owners".to_owned();
                return Err(AgentError::Rebuild { why });
            }
        }
        self.raised = false;
        self.import = Import::default();
        // Its lock is ours too.
        self.build = None;
        self.build = Some(Build::begin(raise, Arc::clone(&self.profile), &folder)?);
        Ok(())
    }

    fn swap(&mut self, swap: Swap) -> Result<(), AgentError> {
        let build = self.build.take().filter(|_| self.raised);
        let build = build.ok_or(AgentError::OutOfOrder { said: "Swap" })?;
        let service = Service::of(&self.source)?;
        if let Some(remark) = crate::window::boot::Place::find().remark().filter(|_| !swap.standby) {
            self.out.send(ToBox::Problem(Problem { what: remark, path: String::new(), missing: false }))?;
        }
        let off = Arc::clone(&self.off);
        let thread = std::thread::Builder::new().name("exchange".into()).spawn(move || {
            if swap.standby { service.stand_by(&build, &off) } else { service.exchange(&build, &off) }
        });
        self.swapping = Some(thread.map_err(AgentError::Thread)?);
        Ok(())
    }

    /// Whether mail may be stopped at this moment.
    pub fn is_swapping(&self) -> bool {
        self.swapping.is_some()
    }

    /// Tells how the exchange went, once it is over.
    ///
    /// # Errors
    /// Why it did not go.
    pub fn look_after(&mut self) -> Result<(), AgentError> {
        match self.swapping.take_if(|swapping| swapping.is_finished()) {
            None => Ok(()),
            Some(swapping) => Ok(self.out.send(ToBox::Swapped(joined(swapping)?))?),
        }
    }

    /// The run is over: what can be called off is, and all the rest is waited for.
    pub fn call_off(&mut self) {
        self.off.store(true, Ordering::Relaxed);
        if let Some(swapping) = self.swapping.take() {
            drop(joined(swapping));
        }
    }
}

fn joined(swapping: JoinHandle<Result<Swapped, AgentError>>) -> Result<Swapped, AgentError> {
    let died = || std::io::Error::other("the thread that exchanges the trees died");
    swapping.join().unwrap_or_else(|_| Err(AgentError::Thread(died())))
}
