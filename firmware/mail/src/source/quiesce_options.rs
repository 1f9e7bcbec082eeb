//! Section `[quiesce]`: what the admin says about stopping and starting mail. `quiesce.rs` decides with it.

use std::fmt;
use std::time::Duration;

use super::Check;
use super::raw::RawQuiesce;
use crate::error::MailError;
use crate::limits::SOURCE_LIST_ENTRIES;

/// A program and its arguments, at least the program. Never goes through a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argv {
    program: String,
    arguments: Vec<String>,
}

impl Argv {
    /// A command of a program and its arguments.
    pub fn new<P: Into<String>, A: Into<String>>(program: P, arguments: impl IntoIterator<Item = A>) -> Argv {
        Argv { program: program.into(), arguments: arguments.into_iter().map(Into::into).collect() }
    }

    /// The words of a command; `None` if there is not even a program.
    pub fn from_words(words: Vec<String>) -> Option<Argv> {
        let mut words = words.into_iter();
        let program = words.next().filter(|program| !program.is_empty())?;
        Some(Argv { program, arguments: words.collect() })
    }

    /// What to execute.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Its arguments, without the program itself.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Program and arguments in one list.
    pub fn words(&self) -> Vec<String> {
        std::iter::once(self.program.clone()).chain(self.arguments.iter().cloned()).collect()
    }
}

impl fmt::Display for Argv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(" "))
    }
}

/// Key `mode`: which rung of the ladder to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuiesceMode {
    /// The gentlest one that the server offers.
    Auto,
    /// Cyrus' own global lock, from 3.12 on.
    GlobalLock,
    /// Stop and start by systemd.
    Systemd,
    /// Stop and start by a script in /etc/init.d.
    Init,
    /// Stop and start by the commands of the source file.
    Command,
}

/// What to do with processes that still hold the spool after mail was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stragglers {
    /// Wait, then report them and give the window up.
    Wait,
    /// Wait, then end them.
    Kill,
}

/// Key `freeze`: how what has to be copied is kept while mail is stopped, so that mail is started before it is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    /// Each tree by the best way that its file system offers.
    Auto,
    /// By a snapshot wherever one can be taken, also where something else would be quicker.
    Snapshot,
    /// By open descriptors and copies, without a snapshot of a file system.
    Descriptors,
    /// Not at all: it is copied while mail is stopped.
    Off,
}

/// The protocols whose greeting proves that mail is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeProtocol {
    /// `* OK` or `* PREAUTH`.
    Imap,
    /// `+OK`.
    Pop3,
    /// `220`.
    Smtp,
}

impl ProbeProtocol {
    const ALL: [(&'static str, ProbeProtocol, u16); 3] = [
        ("imap", ProbeProtocol::Imap, 143),
        ("pop3", ProbeProtocol::Pop3, 110),
        ("smtp", ProbeProtocol::Smtp, 25),
    ];
}

/// Where a greeting is asked for, as `imap://127.0.0.1:143`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What the server there speaks.
    pub protocol: ProbeProtocol,
    /// Host name or address; an IPv6 address stands without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Probe {
    fn parse(url: &str) -> Result<Probe, String> {
        let wrong =
            || format!("\"{url}\" is no probe: write imap://HOST:PORT, pop3://HOST:PORT or smtp://HOST:PORT");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let (_, protocol, default_port) =
            ProbeProtocol::ALL.into_iter().find(|(name, ..)| *name == scheme).ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or_else(wrong)?;
                match after {
                    "" => (host, None),
                    _ => (host, Some(after.strip_prefix(':').ok_or_else(wrong)?)),
                }
            }
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '%');
        if host.is_empty() || !host.chars().all(safe) {
            return Err(wrong());
        }
        let port = port.map_or(Ok(default_port), |p| p.parse().map_err(|_| wrong()))?;
        if port == 0 {
            return Err(wrong());
        }
        Ok(Probe { protocol, host: host.to_owned(), port })
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme =
            ProbeProtocol::ALL.iter().find(|(_, p, _)| *p == self.protocol).map_or("imap", |(name, ..)| name);
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Section `[quiesce]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiesce {
    /// Which rung to take.
    pub mode: QuiesceMode,
    /// Stops mail; always there with [`QuiesceMode::Command`].
    pub stop: Option<Argv>,
    /// Starts mail; always there with [`QuiesceMode::Command`].
    pub start: Option<Argv>,
    /// Exits 0 while mail runs.
    pub running: Option<Argv>,
    /// A greeting from here proves that mail is back.
    pub probe: Option<Probe>,
    /// The restart guard starts mail when this has passed since the stop.
    pub deadline: Duration,
    /// What to do with stragglers when `straggler_wait` has passed.
    pub stragglers: Stragglers,
    /// How long stragglers are waited for.
    pub straggler_wait: Duration,
    /// How what has to be copied is kept.
    pub freeze: Freeze,
}

pub(super) fn checked(raw: RawQuiesce, check: &Check<'_>) -> Result<Quiesce, MailError> {
    let mode = match raw.mode.as_deref() {
        None | Some("auto") => QuiesceMode::Auto,
        Some("global-lock") => QuiesceMode::GlobalLock,
        Some("systemd") => QuiesceMode::Systemd,
        Some("init") => QuiesceMode::Init,
        Some("command") => QuiesceMode::Command,
        Some(other) => {
            let problem = format!("\"{other}\" is none of auto, global-lock, systemd, init, command");
            return Err(check.bad("quiesce.mode", problem));
        }
    };
    let command = |key: &str, words: Option<Vec<String>>| match words {
        None => Ok(None),
        Some(words) if words.len() > SOURCE_LIST_ENTRIES || words.iter().any(|word| word.contains('\0')) => {
            Err(check.bad(key, "is no command that can be executed"))
        }
        Some(words) => Argv::from_words(words)
            .map(Some)
            .ok_or_else(|| check.bad(key, "is empty: write the program and its arguments as a list")),
    };
    let stop = command("quiesce.stop", raw.stop)?;
    let start = command("quiesce.start", raw.start)?;
    let both = "is missing: whoever stops mail must be able to start it; write stop and start as lists";
    for (key, this, needed) in [
        ("quiesce.stop", &stop, mode == QuiesceMode::Command || start.is_some()),
        ("quiesce.start", &start, mode == QuiesceMode::Command || stop.is_some()),
    ] {
        if needed && this.is_none() {
            return Err(check.bad(key, both));
        }
    }
    let deadline = check.duration("quiesce.deadline", raw.deadline.as_deref(), 600)?;
    if deadline.is_zero() {
        return Err(check.bad("quiesce.deadline", "0 would start mail before it is stopped"));
    }
    let stragglers = match raw.stragglers.as_deref() {
        None | Some("wait") => Stragglers::Wait,
        Some("kill") => Stragglers::Kill,
        Some(other) => {
            return Err(
                check.bad("quiesce.stragglers", format!("\"{other}\" is neither \"wait\" nor \"kill\""))
            );
        }
    };
    let freeze = match raw.freeze.as_deref() {
        None | Some("auto") => Freeze::Auto,
        Some("snapshot") => Freeze::Snapshot,
        Some("descriptors") => Freeze::Descriptors,
        Some("off") => Freeze::Off,
        Some(other) => {
            return Err(check
                .bad("quiesce.freeze", format!("\"{other}\" is none of auto, snapshot, descriptors, off")));
        }
    };
    Ok(Quiesce {
        mode,
        stop,
        start,
        running: command("quiesce.running", raw.running)?,
        probe: raw
            .probe
            .map(|url| Probe::parse(&url).map_err(|problem| check.bad("quiesce.probe", problem)))
            .transpose()?,
        deadline,
        stragglers,
        straggler_wait: check.duration("quiesce.straggler-wait", raw.straggler_wait.as_deref(), 30)?,
        freeze,
    })
}
