//! The window: mail is stopped, the final pass is made, mail is started.
//!
//! Whatever goes wrong between the request to stop and the word that mail answers again, mail is asked back first and
//! the error is told afterwards.

use mailkeep_format::manifest::Window;
use mailkeep_link::message::{Quiesce, Quiesced, Rechecked, Resumed, ToAgent, ToBox};

use crate::assemble::Mode;
use crate::limits::LISTED_MAX;
use crate::pull::{Copy, Passed, Run};
use crate::store::Store;
use crate::{Phase, PullError, text};

/// What was said and done while mail was stopped.
struct Stopped {
    quiesced: Quiesced,
    passed: Passed,
    rechecked: Rechecked,
    resumed: Resumed,
}

impl Run<'_> {
    /// Stops mail, copies what is left, starts mail.
    pub(crate) fn copy_in_window(&mut self, store: &mut dyn Store) -> Result<Copy, PullError> {
        self.reporter.phase(Phase::Stopping);
        self.reporter.window(true);
        // Every byte that is still to come keeps mail waiting.
        self.session.lift_limit(true);
        let stopped = self.stop_copy_start(store);
        if let Err(error) = &stopped {
            self.after_failure(error);
        }
        self.session.lift_limit(false);
        self.reporter.window(false);
        let Stopped { quiesced, passed, rechecked, resumed } = stopped?;
        let (missing, remarks) = self.session.take_notices();
        self.missing.append(&missing);
        self.remarks.append(&remarks);

        let mut quiet = true;
        for notice in &passed.assembled.unrest.listed {
            self.remarks.add(format!("{} although mail was stopped", notice.what), notice.path.clone());
        }
        quiet &= passed.assembled.unrest.is_empty();
        for moved in rechecked.moved.iter().take(LISTED_MAX) {
            self.remarks.add(text::line(moved), "");
        }
        quiet &= rechecked.moved.is_empty();
        if resumed.started_by_other {
            self.remarks.add("something else started mail during the window", "");
            quiet = false;
        }
        let window = Window {
            stop_ms: quiesced.stop_ms,
            export_ms: quiesced.export_ms,
            freeze_ms: passed.record.millis,
            start_ms: resumed.start_ms,
            total_ms: resumed.window_ms,
        };
        tracing::info!(?window, quiet, "mail answers again");
        Ok(self.last(passed, quiet, Some(window)))
    }

    fn stop_copy_start(&mut self, store: &mut dyn Store) -> Result<Stopped, PullError> {
        let deadline = self.deadline_seconds();
        self.session.say(ToAgent::Quiesce(Quiesce { deadline_seconds: deadline }))?;
        let quiesced = self.session.answer("Quiesced", |message| match message {
            ToBox::Quiesced(quiesced) => Some(quiesced),
            _ => None,
        })?;
        let passed = self.pass(store, Mode::Final)?;
        self.session.say(ToAgent::Recheck)?;
        let rechecked = self.session.answer("Rechecked", |message| match message {
            ToBox::Rechecked(rechecked) => Some(rechecked),
            _ => None,
        })?;
        self.reporter.phase(Phase::Starting);
        self.session.say(ToAgent::Resume)?;
        let resumed = self.session.answer("Resumed", |message| match message {
            ToBox::Resumed(resumed) => Some(resumed),
            _ => None,
        })?;
        Ok(Stopped { quiesced, passed, rechecked, resumed })
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
