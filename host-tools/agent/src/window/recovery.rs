//! How mail is brought back, as it stands in the intent.

use std::path::PathBuf;

use mailkeep_mail::Source;
use mailkeep_mail::quiesce::Rung;
use mailkeep_mail::source::{Argv, Probe, ProbeProtocol, System};
use serde::{Deserialize, Serialize};

use super::{lock, stragglers};

/// How mail is brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    before_start: Option<Vec<String>>,
    start: Vec<String>,
    running: Option<Vec<String>>,
    probe: Option<ProbeNote>,
    /// Whose master may hang, where the mail system is Cyrus.
    imapd_conf: Option<PathBuf>,
    /// Nothing was stopped: processes with this token hold a lock, and mail is back when they are gone.
    #[serde(default)]
    held_by: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeNote {
    protocol: String,
    host: String,
    port: u16,
}

impl Recovery {
    /// From the rung, for the window with this token; `None` if there is nothing to start.
    pub fn new(source: &Source, rung: &Rung, probe: Option<&Probe>, token: &str) -> Option<Recovery> {
        let words = |argv: Argv| argv.words();
        let is_lock = matches!(rung, Rung::GlobalLock { .. });
        let start = match rung {
            Rung::GlobalLock { .. } => lock::release_command(token)?,
            _ => rung.start()?,
        };
        Some(Recovery {
            before_start: rung.before_start().map(words),
            start: start.words(),
            running: rung.running().map(words),
            probe: probe.map(|probe| ProbeNote {
                protocol: protocol_word(probe.protocol).to_owned(),
                host: probe.host.clone(),
                port: probe.port,
            }),
            imapd_conf: match &source.system {
                System::Cyrus(options) => Some(options.imapd_conf.clone()),
                System::Generic(_) => None,
            },
            held_by: is_lock.then(|| token.to_owned()),
        })
    }

    /// What to run before each start.
    pub fn before_start(&self) -> Option<Argv> {
        self.before_start.clone().and_then(Argv::from_words)
    }

    /// Starts mail.
    pub fn start(&self) -> Option<Argv> {
        Argv::from_words(self.start.clone())
    }

    /// Exits 0 while mail runs.
    pub fn running(&self) -> Option<Argv> {
        self.running.clone().and_then(Argv::from_words)
    }

    /// Whether mail is held still by a lock; `None` where it is stopped and started.
    pub fn is_held(&self) -> Option<bool> {
        self.held_by.as_deref().map(lock::is_held)
    }

    /// Ends a Cyrus master that hangs and keeps its successor from starting; tells which.
    pub fn end_stuck_masters(&self) -> Vec<i32> {
        let stuck = self.imapd_conf.as_deref().map(stragglers::stuck_masters).unwrap_or_default();
        stuck.iter().copied().for_each(stragglers::kill);
        stuck
    }

    /// Whose greeting proves that mail is back.
    pub fn probe(&self) -> Option<Probe> {
        let note = self.probe.as_ref()?;
        let protocol = [ProbeProtocol::Imap, ProbeProtocol::Pop3, ProbeProtocol::Smtp]
            .into_iter()
            .find(|protocol| protocol_word(*protocol) == note.protocol)?;
        Some(Probe { protocol, host: note.host.clone(), port: note.port })
    }
}

fn protocol_word(protocol: ProbeProtocol) -> &'static str {
    match protocol {
        ProbeProtocol::Imap => "imap",
        ProbeProtocol::Pop3 => "pop3",
        ProbeProtocol::Smtp => "smtp",
    }
}
