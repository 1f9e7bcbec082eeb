//! The conversation with one agent: greeting, waiting with an eye on the cancel flag, remarks of the agent collected
//! on the way, and what really happened when the link breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mailkeep_link::message::{Configure, Configured, Failed, Resumed, Squeeze, ToAgent, ToBox};
use mailkeep_link::pace::SystemClock;
use mailkeep_link::{BoxSide, LinkError, Options, version};
use mailkeep_mail::Source;

use crate::limits::{CANCEL_POLL, REAP_WAIT, REAP_WAIT_WINDOW, RESUME_AFTER_FAILURE, SILENCE_MAX};
use crate::meter::{Meter, Metered};
use crate::tally::Notices;
use crate::transport::{Far, FarProcess, Transport};
use crate::{PullError, text};

/// A greeted and configured agent.
pub(crate) struct Session<'a> {
    // Before the process, so that its input is closed when it is waited for.
    link: BoxSide,
    process: Option<FarProcess>,
    cancel: &'a AtomicBool,
    host: String,
    meter: Arc<Meter>,
    /// The agent was told to compress what it says.
    squeezed: bool,
    /// What the agent could not do since this was last taken; only what the snapshot lacks because of it.
    missing: Notices,
    /// What else it said since then.
    remarks: Notices,
}

impl<'a> Session<'a> {
    /// Starts the agent, agrees on a version and tells it what to back up. While mail runs the link takes at most
    /// `bandwidth` bytes per second.
    pub(crate) fn open(
        transport: &dyn Transport,
        source: &Source,
        program: &str,
        bandwidth: Option<u64>,
        cancel: &'a AtomicBool,
    ) -> Result<(Self, Configured), PullError> {
        let Far { input, output, mut process } = transport.connect(source)?;
        let meter = Meter::new(bandwidth, Box::<SystemClock>::default());
        let input = Box::new(Metered::new(input, meter.clone(), Box::<SystemClock>::default()));
        let mut host = process.as_ref().map_or("the server", FarProcess::host).to_owned();
        let mut options = Options::new(program);
        options.silence = SILENCE_MAX;
        let opening = std::thread::Builder::new().name("link-open".into());
        let (opened, greeting) = mpsc::sync_channel(1);
        // In a thread of its own: an ssh that hangs must not keep a cancelled run waiting.
        opening
            .spawn(move || opened.send(BoxSide::open(input, output, &options)))
            .map_err(|error| PullError::link(&host, LinkError::Thread(error.into())))?;
        let link = loop {
            match greeting.recv_timeout(CANCEL_POLL) {
                Ok(Ok(link)) => break link,
                Ok(Err(failure)) => return Err(explain(&mut process, &host, failure)),
                Err(mpsc::RecvTimeoutError::Timeout) if cancel.load(Ordering::Relaxed) => {
                    // The thread holds the streams, so the process cannot know; it has done nothing yet.
                    if let Some(process) = &mut process {
                        process.set_patience(Duration::ZERO);
                    }
                    return Err(PullError::Interrupted);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(PullError::link(&host, LinkError::Closed));
                }
            }
        };
        if let Some(process) = &mut process {
            process.greeted();
        }
        let (missing, remarks) = (Notices::default(), Notices::default());
        let squeezed = false;
        let mut session =
            Session { link, process, cancel, host: host.clone(), meter, squeezed, missing, remarks };
        session.say(ToAgent::Configure(Configure { source: source.text_for_agent().into_owned() }))?;
        let configured = session.answer("Configured", |message| match message {
            ToBox::Configured(configured) => Some(configured),
            _ => None,
        })?;
        host = text::line(&configured.host);
        session.host = host;
        Ok((session, configured))
    }

    /// The server's own name for itself.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The protocol version that is spoken.
    pub(crate) fn version(&self) -> u32 {
        self.link.version()
    }

    /// Whether the agent is a child of this process: no network lies between.
    pub(crate) fn is_on_this_machine(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.is_ssh())
    }

    /// Whether the link may take all that it can, from now on: while mail is stopped nothing counts but time.
    pub(crate) fn lift_limit(&self, lifted: bool) {
        self.meter.lift(lifted);
    }

    /// Has the agent compress what it says, or not, as the link is.
    fn squeeze(&mut self) -> Result<(), PullError> {
        let on = self.meter.is_slow();
        let is_far = self.process.as_ref().is_some_and(FarProcess::is_ssh);
        if on == self.squeezed || !is_far || self.link.version() < version::PACKED {
            return Ok(());
        }
        tracing::info!(host = self.host, on, "compression on the link");
        self.squeezed = on;
        self.say(ToAgent::Squeeze(Squeeze { on }))
    }

    /// Says something.
    pub(crate) fn say(&mut self, message: ToAgent) -> Result<(), PullError> {
        self.link.send(message).map_err(|failure| explain(&mut self.process, &self.host, failure))
    }

    /// The next message that needs attention.
    pub(crate) fn hear(&mut self) -> Result<ToBox, PullError> {
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(PullError::Interrupted);
            }
            self.squeeze()?;
            match self.link.receive_within(CANCEL_POLL) {
                Ok(Some(ToBox::Problem(problem))) => self.note(&problem),
                Ok(Some(ToBox::Failed(failed))) => return Err(self.failed(&failed)),
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(failure) => return Err(explain(&mut self.process, &self.host, failure)),
            }
        }
    }

    /// The next message, which has to be a certain one.
    pub(crate) fn answer<T>(
        &mut self,
        wanted: &str,
        pick: impl FnOnce(ToBox) -> Option<T>,
    ) -> Result<T, PullError> {
        let message = self.hear()?;
        let name = text::name_of(&message);
        pick(message).ok_or_else(|| PullError::Protocol(format!("{name} instead of {wanted}")))
    }

    /// What the agent could not do (the snapshot lacks it) and what else it remarked since the last time.
    pub(crate) fn take_notices(&mut self) -> (Notices, Notices) {
        (std::mem::take(&mut self.missing), std::mem::take(&mut self.remarks))
    }

    /// After a failure while mail was stopped: asks for mail to be started and waits, not for ever, for the word that
    /// it runs. If there is none, closing the link makes the agent start it, and the guard stands behind the agent.
    pub(crate) fn bring_mail_back(&mut self) -> Option<Resumed> {
        if let Some(process) = &mut self.process {
            process.set_patience(REAP_WAIT_WINDOW);
        }
        self.link.send(ToAgent::Resume).ok()?;
        let until = Instant::now() + RESUME_AFTER_FAILURE;
        while Instant::now() < until {
            match self.link.receive_within(CANCEL_POLL) {
                Ok(Some(ToBox::Resumed(resumed))) => {
                    if let Some(process) = &mut self.process {
                        process.set_patience(REAP_WAIT);
                    }
                    return Some(resumed);
                }
                // What was on its way when the run failed is of no use any more.
                Ok(_) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Ends the conversation in good order.
    pub(crate) fn close(self) {
        let Session { link, process, host, .. } = self;
        let said = link.send(ToAgent::Goodbye).and_then(|()| link.finish(REAP_WAIT));
        if let Err(failure) = said {
            // Everything is here already.
            tracing::warn!(host, error = %failure, "the agent was gone before it was told goodbye");
        }
        drop(process);
    }

    fn note(&mut self, problem: &mailkeep_link::message::Problem) {
        let (what, path) = (text::line(&problem.what), text::path(problem.path.as_bytes()));
        tracing::info!(host = self.host, missing = problem.missing, path, "{what}");
        if problem.missing {
            self.missing.add(what, path);
        } else {
            self.remarks.add(what, path);
        }
    }

    fn failed(&self, failed: &Failed) -> PullError {
        PullError::Agent {
            host: self.host.clone(),
            what: text::line(&failed.what),
            hint: text::line(&failed.hint),
            exit_code: failed.exit_code,
        }
    }
}

fn explain(process: &mut Option<FarProcess>, host: &str, failure: LinkError) -> PullError {
    match process {
        Some(process) => process.explain(failure),
        None => PullError::link(host, failure),
    }
}
