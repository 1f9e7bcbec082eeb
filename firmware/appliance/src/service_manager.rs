//! What systemd is told when it has started the box: ready, alive, stopping (sd_notify(3)). Elsewhere: nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The connection to the service manager, if there is one.
#[derive(Debug)]
pub struct ServiceManager {
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Finds out what is expected of this process.
    pub fn find() -> Self {
        let mut micros = 0;
        let watchdog = sd_notify::watchdog_enabled(false, &mut micros).then(|| Duration::from_micros(micros));
        Self { watchdog }
    }

    /// How often [`alive`](Self::alive) has to be said: twice as often as the watchdog asks.
    pub fn heartbeat(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2).filter(|time| !time.is_zero())
    }

    /// The box is up.
    pub fn ready(&self) {
        self.say(&[NotifyState::Ready]);
    }

    /// The event loop turns.
    pub fn alive(&self) {
        self.say(&[NotifyState::Watchdog]);
    }

    /// What the box does, in a few words.
    pub fn status(&self, text: &str) {
        self.say(&[NotifyState::Status(text)]);
    }

    /// The box goes down.
    pub fn stopping(&self) {
        self.say(&[NotifyState::Stopping]);
    }

    fn say(&self, what: &[NotifyState<'_>]) {
        // Without NOTIFY_SOCKET this does nothing; a manager that has gone away changes nothing for the box.
        if let Err(error) = sd_notify::notify(false, what) {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}
