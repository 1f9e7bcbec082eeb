//! How mail is brought back, as it stands in the intent.

use std::path::PathBuf;

use mailkeep_mail::Source;
use mailkeep_mail::quiesce::Rung;
use mailkeep_mail::source::{Argv, Probe, ProbeProtocol, System};
use serde::{Deserialize, Serialize};

use super::stragglers;

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
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeNote {
    protocol: String,
    host: String,
    port: u16,
}

impl Recovery {
    /// From the rung; `None` if there is nothing to start.
    pub fn new(source: &Source, rung: &Rung, probe: Option<&Probe>) -> Option<Recovery> {
        let words = |argv: Argv| argv.words();
        Some(Recovery {
            before_start: rung.before_start().map(words),
            start: rung.start().map(words)?,
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
