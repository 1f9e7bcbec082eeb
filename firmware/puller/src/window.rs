//! The window: mail is stopped, the final pass is made, mail is started.
//!
//! Where the agent can keep what the final pass needs, it is only walked and kept while mail is stopped, all on the
//! server, and crosses the link when mail runs again; else it crosses the link meanwhile.
//!
//! Whatever goes wrong between the request to stop and the word that mail answers again, mail is asked back first and
//! the error is told afterwards.

use std::time::Duration;

use mailkeep_format::manifest::Window;
use mailkeep_link::message::{Frozen, Prepared, Quiesce, Quiesced, Rechecked, Resumed, ToAgent, ToBox};
use mailkeep_link::version;
use mailkeep_mail::source::Freeze;

use crate::assemble::Mode;
use crate::budget::overrun;
use crate::keeping::Keeping;
use crate::limits::LISTED_MAX;
use crate::pull::{Copy, Passed, Run};
use crate::store::Store;
use crate::{Phase, PullError, text};

/// Why nothing is kept where the admin does not want it.
const OFF: &str = "freeze is \"off\" in the source file";

/// What was said and done while mail was stopped.
struct Stopped {
    quiesced: Quiesced,
    /// The final pass, if it was made meanwhile.
    passed: Option<Passed>,
    /// How long walking, and keeping or copying, took; milliseconds.
    freeze_ms: u64,
    moved: Vec<String>,
    resumed: Resumed,
    /// How it was done, where that was a question.
    how: Option<String>,
}

impl Run<'_> {
    /// Whether the agent could keep what a final pass needs until mail runs again; `None` from one that is
    /// too old, and where the source says that it shall not.
    pub(crate) fn prepare(&mut self) -> Result<Option<Keeping>, PullError> {
        if self.session.version() < version::FREEZE || self.source.quiesce.freeze == Freeze::Off {
            return Ok(None);
        }
        self.session.say(ToAgent::Prepare)?;
        let Prepared { able, why, bytes, millis } =
            self.session.answer("Prepared", |message| match message {
                ToBox::Prepared(prepared) => Some(prepared),
                _ => None,
            })?;
        let why = text::line(&why);
        tracing::info!(able, bytes, millis, "can the final pass be kept on the server? {why}");
        let takes = Duration::from_millis(millis);
        Ok(Some(if able { Keeping::Able(takes, why) } else { Keeping::Unable(why) }))
    }

    /// Stops mail, copies what is left, starts mail; where it can be kept, it is copied when mail runs again.
    pub(crate) fn copy_in_window(
        &mut self,
        store: &mut dyn Store,
        keeping: Option<Keeping>,
    ) -> Result<Copy, PullError> {
        if let Some(Keeping::Unable(why)) = keeping.as_ref().filter(|keeping| !keeping.is_silent()) {
            self.remarks.add(format!("the last pass crosses the link while mail is stopped: {why}"), "");
        }
        self.reporter.phase(Phase::Stopping);
        self.reporter.window(true);
        // Every byte that is still to come keeps mail waiting.
        self.session.lift_limit(true);
        let stopped = match keeping {
            Some(Keeping::Able(..)) => self.stop_freeze_start(store),
            Some(Keeping::Unable(why)) => self.stop_copy_start(store, &why),
            None if self.source.quiesce.freeze == Freeze::Off => self.stop_copy_start(store, OFF),
            None => self.stop_copy_start(store, ""),
        };
        if let Err(error) = &stopped {
            self.after_failure(error);
        }
        self.session.lift_limit(false);
        self.reporter.window(false);
        let Stopped { quiesced, passed, freeze_ms, moved, resumed, how } = stopped?;
        let window = Window {
            stop_ms: quiesced.stop_ms,
            export_ms: quiesced.export_ms,
            freeze_ms,
            start_ms: resumed.start_ms,
            total_ms: resumed.window_ms,
        };
        tracing::info!(?window, ?how, "mail answers again");
        if let Some(remark) = overrun(&window, self.outage_budget()) {
            self.remarks.add(remark, "");
        }
        self.how_frozen = how;
        let (while_, passed) = match passed {
            Some(passed) => ("although mail was stopped", passed),
            None => ("and was not kept while mail was stopped", self.pass(store, Mode::Final)?),
        };
        let (missing, remarks) = self.session.take_notices();
        self.missing.append(&missing);
        self.remarks.append(&remarks);

        let mut quiet = true;
        for notice in &passed.assembled.unrest.listed {
            self.remarks.add(format!("{} {while_}", notice.what), notice.path.clone());
        }
        quiet &= passed.assembled.unrest.is_empty();
        for moved in moved.iter().take(LISTED_MAX) {
            self.remarks.add(text::line(moved), "");
        }
        quiet &= moved.is_empty();
        if resumed.started_by_other {
            self.remarks.add("something else started mail during the window", "");
            quiet = false;
        }
        Ok(self.last(passed, quiet, Some(window)))
    }

    /// All of the window in one go, on the server; nothing of it waits for the link.
    fn stop_freeze_start(&mut self, store: &mut dyn Store) -> Result<Stopped, PullError> {
        let deadline = self.deadline_seconds();
        self.session.say(ToAgent::Freeze(Quiesce { deadline_seconds: deadline }))?;
        let quiesced = self.quiesced()?;
        let frozen = self.session.answer("Frozen", |message| match message {
            ToBox::Frozen(frozen) => Some(frozen),
            _ => None,
        })?;
        let Frozen { whole, why, millis, files, bytes, moved } = frozen;
        if !whole {
            let why = text::line(&why);
            self.remarks.add(format!("the last pass crossed the link while mail was stopped: {why}"), "");
            return self.copy_start(store, quiesced, &why);
        }
        self.reporter.phase(Phase::Starting);
        let resumed = self.resumed()?;
        let staged = format!("staged: {files} files, {bytes} bytes copied");
        let how = text::line(&why);
        let how = Some(if how.is_empty() { staged } else { format!("{how}; {staged}") });
        Ok(Stopped { quiesced, passed: None, freeze_ms: millis, moved, resumed, how })
    }

    fn stop_copy_start(&mut self, store: &mut dyn Store, why: &str) -> Result<Stopped, PullError> {
        let deadline = self.deadline_seconds();
        self.session.say(ToAgent::Quiesce(Quiesce { deadline_seconds: deadline }))?;
        let quiesced = self.quiesced()?;
        self.copy_start(store, quiesced, why)
    }

    /// Mail is stopped: the final pass over the link, and the start.
    fn copy_start(
        &mut self,
        store: &mut dyn Store,
        quiesced: Quiesced,
        why: &str,
    ) -> Result<Stopped, PullError> {
        let passed = self.pass(store, Mode::Final)?;
        self.session.say(ToAgent::Recheck)?;
        let Rechecked { moved } = self.session.answer("Rechecked", |message| match message {
            ToBox::Rechecked(rechecked) => Some(rechecked),
            _ => None,
        })?;
        self.reporter.phase(Phase::Starting);
        self.session.say(ToAgent::Resume)?;
        let resumed = self.resumed()?;
        let freeze_ms = passed.record.millis;
        let how = (!why.is_empty()).then(|| format!("over the link: {why}"));
        Ok(Stopped { quiesced, passed: Some(passed), freeze_ms, moved, resumed, how })
    }

    fn quiesced(&mut self) -> Result<Quiesced, PullError> {
        self.session.answer("Quiesced", |message| match message {
            ToBox::Quiesced(quiesced) => Some(quiesced),
            _ => None,
        })
    }

    fn resumed(&mut self) -> Result<Resumed, PullError> {
        self.session.answer("Resumed", |message| match message {
            ToBox::Resumed(resumed) => Some(resumed),
            _ => None,
        })
    }

    fn after_failure(&mut self, error: &PullError) {
        tracing::warn!(%error, "the run failed while mail was stopped; mail is asked back");
        if matches!(error, PullError::Agent { .. }) {
            // The agent has started mail before it said so.
            return;
        }
        self.reporter.phase(Phase::Starting);
        if self.session.bring_mail_back().is_none() {
            let deadline = self.deadline_seconds();
            self.reporter.problem(&format!(
                "the server did not confirm that mail runs again; it starts mail by itself, at the latest {deadline} s \
                 after the stop: check it"
            ));
        }
    }
}
