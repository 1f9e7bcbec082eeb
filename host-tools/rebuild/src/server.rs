//! The conversation with the agent of a server that is rebuilt.

use std::sync::atomic::{AtomicBool, Ordering};

use mailkeep_link::message::{Configure, Configured, ToAgent, ToBox};
use mailkeep_link::rebuild::{Done, List, Look, Looked, Promote, Raise, Raised, Swap, Swapped, Trees};
use mailkeep_link::{BoxSide, LinkError, Options, version};
use mailkeep_mail::Source;
use mailkeep_puller::transport::{Far, FarProcess};
use mailkeep_puller::{PullError, Transport};

use crate::{Import, RebuildError, Snapshot, limits};

/// A server whose agent answers in the role that restores.
pub struct Server<'a> {
    // Before the process, so that its input is closed when it is waited for.
    link: BoxSide,
    process: Option<FarProcess>,
    pub(crate) host: String,
    cancel: &'a AtomicBool,
    /// What the agent remarked: a line, and whether something is missing because of it.
    remarks: Vec<(String, bool)>,
    pub(crate) configured: Option<Configured>,
}

impl<'a> Server<'a> {
    /// Reaches the agent of `source`.
    ///
    /// # Errors
    /// It cannot be reached, or is too old.
    pub fn connect(
        source: &Source,
        transport: &dyn Transport,
        program: &str,
        cancel: &'a AtomicBool,
    ) -> Result<Server<'a>, RebuildError> {
        let Far { input, output, mut process } = transport.connect(source).map_err(RebuildError::Reach)?;
        let host = process.as_ref().map_or("the server", FarProcess::host).to_owned();
        let mut options = Options::new(program);
        options.silence = limits::SILENCE;
        let link = BoxSide::open(input, output, &options)
            .map_err(|failure| RebuildError::Reach(explained(&mut process, &host, failure)))?;
        if let Some(process) = &mut process {
            process.greeted();
            process.set_patience(limits::REAP_WAIT);
        }
        let mut server = Server { link, process, host, cancel, remarks: Vec::new(), configured: None };
        if server.link.version() < version::REBUILD {
            return Err(RebuildError::TooOld { host: server.host });
        }
        server.say(ToAgent::Configure(Configure { source: source.text_for_agent().into_owned() }))?;
        match server.hear()? {
            ToBox::Configured(configured) => server.configured = Some(configured),
            _ => return Err(server.broken("something else than what it is")),
        }
        Ok(server)
    }

    /// What the agent remarked since this was asked last: a line, and whether something is missing because of it.
    pub fn take_remarks(&mut self) -> Vec<(String, bool)> {
        std::mem::take(&mut self.remarks)
    }

    /// What the server is.
    ///
    /// # Errors
    /// It cannot be rebuilt, or the link broke.
    pub fn trees(&mut self) -> Result<Trees, RebuildError> {
        self.say(ToAgent::Trees)?;
        match self.hear()? {
            ToBox::Trees(trees) => Ok(trees),
            _ => Err(self.broken("something else than its trees")),
        }
    }

    pub(crate) fn raise(&mut self, snapshot: &Snapshot<'_>, trial: bool) -> Result<(), RebuildError> {
        self.say(ToAgent::Raise(Raise {
            snapshot: snapshot.id.clone(),
            trial,
            users: snapshot.manifest.users.clone(),
            groups: snapshot.manifest.groups.clone(),
        }))
    }

    pub(crate) fn raised(&mut self) -> Result<Raised, RebuildError> {
        self.say(ToAgent::Raised)?;
        loop {
            match self.hear()? {
                ToBox::Raised(raised) => return Ok(raised),
                // Of what was sent last.
                ToBox::Took(_) => {}
                _ => return Err(self.broken("something else than that all is built")),
            }
        }
    }

    pub(crate) fn takes_lists(&self) -> bool {
        self.link.version() >= version::LIST
    }

    /// Has the list of mailboxes made anew in what was built.
    pub(crate) fn import(&mut self, import: &Import) -> Result<(), RebuildError> {
        let mut parts = import.list.chunks(limits::LIST_PART).peekable();
        while let Some(part) = parts.next() {
            let bytes = part.to_vec().into();
            self.say(ToAgent::List(List { is_last: parts.peek().is_none(), bytes }))?;
        }
        match self.hear()? {
            ToBox::Listed(listed) if listed.entries == import.entries => Ok(()),
            _ => Err(self.broken("something else than that the list was imported")),
        }
    }

    /// What the server shows now, of its list and of these mailboxes (internal names). `None`: an older agent cannot look.
    ///
    /// # Errors
    /// The link broke.
    pub fn look(&mut self, mailboxes: Vec<String>) -> Result<Option<Looked>, RebuildError> {
        if !self.takes_lists() {
            return Ok(None);
        }
        let count = mailboxes.len();
        self.say(ToAgent::Look(Look { mailboxes }))?;
        match self.hear()? {
            ToBox::Looked(looked) if looked.mailboxes.len() == count => Ok(Some(looked)),
            _ => Err(self.broken("something else than what it shows")),
        }
    }

    /// Exchanges the trees that were built with those that are served.
    ///
    /// # Errors
    /// It was not done, or is not known: the server serves the one or the other state whole.
    pub fn swap(&mut self, standby: bool) -> Result<Swapped, RebuildError> {
        self.say(ToAgent::Swap(Swap { standby }))?;
        match self.hear()? {
            ToBox::Swapped(swapped) => Ok(swapped),
            _ => Err(self.broken("something else than that trees were exchanged")),
        }
    }

    /// Drops what is kept beside.
    ///
    /// # Errors
    /// Something does not go.
    pub fn drop_kept(&mut self) -> Result<Done, RebuildError> {
        self.say(ToAgent::Drop)?;
        self.done()
    }

    /// Starts mail on a standby and lets it take over.
    ///
    /// # Errors
    /// It is none, or mail does not come up.
    pub fn promote(&mut self, event: &str) -> Result<Done, RebuildError> {
        self.say(ToAgent::Promote(Promote { event: event.to_owned() }))?;
        self.done()
    }

    fn done(&mut self) -> Result<Done, RebuildError> {
        match self.hear()? {
            ToBox::Done(done) => Ok(done),
            _ => Err(self.broken("something else than that it is done")),
        }
    }

    /// Ends the conversation; returns when the agent has ended.
    pub fn close(self) {
        let _ = self.link.send(ToAgent::Goodbye);
        let _ = self.link.finish(std::time::Duration::from_secs(5));
    }

    pub(crate) fn say(&mut self, message: ToAgent) -> Result<(), RebuildError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(RebuildError::Interrupted);
        }
        match self.link.send(message) {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.lost(failure)),
        }
    }

    pub(crate) fn flush(&self) {
        self.link.sender().flush();
    }

    /// The next thing that is no remark.
    pub(crate) fn hear(&mut self) -> Result<ToBox, RebuildError> {
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(RebuildError::Interrupted);
            }
            match self.link.receive_within(limits::POLL) {
                Ok(None) => {}
                Ok(Some(ToBox::Problem(problem))) => {
                    let what = match problem.path.as_str() {
                        "" => problem.what,
                        path => format!("{path}: {}", problem.what),
                    };
                    self.remarks.push((what, problem.missing));
                }
                Ok(Some(ToBox::Failed(failed))) => {
                    return Err(RebuildError::Agent {
                        host: self.host.clone(),
                        what: failed.what,
                        exit_code: failed.exit_code,
                    });
                }
                Ok(Some(message)) => return Ok(message),
                Err(failure) => return Err(self.lost(failure)),
            }
        }
    }

    /// The link broke; the agent's last words say why, if it had any.
    fn lost(&mut self, failure: LinkError) -> RebuildError {
        while let Ok(Some(message)) = self.link.receive_within(limits::POLL) {
            if let ToBox::Failed(failed) = message {
                return RebuildError::Agent {
                    host: self.host.clone(),
                    what: failed.what,
                    exit_code: failed.exit_code,
                };
            }
        }
        let host = self.host.clone();
        RebuildError::Reach(explained(&mut self.process, &host, failure))
    }

    pub(crate) fn broken(&self, what: &'static str) -> RebuildError {
        RebuildError::Protocol { host: self.host.clone(), what }
    }
}

fn explained(process: &mut Option<FarProcess>, host: &str, failure: LinkError) -> PullError {
    match process {
        Some(process) => process.explain(failure),
        None => PullError::Link { host: host.to_owned(), said: None, source: failure },
    }
}
