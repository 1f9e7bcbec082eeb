//! The source file: one mail server (or tree) that is backed up, as a checked value.
//!
//! The file is TOML (see the interface page, "Source file"). The box reads it, keeps its text, and sends that
//! text to the agent, which parses it again: both sides run this code, and the text stays the only truth. Only the name of
//! the box's key for restores stays at home.

mod commands;
mod duration;
mod quiesce_options;
mod rate;
mod raw;
mod suggest;
mod transport;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use commands::{CommandsDigest, NoDigest};
pub use duration::parse_duration;
pub use quiesce_options::{Argv, Freeze, Probe, ProbeProtocol, Quiesce, QuiesceMode, Stragglers};
pub use rate::{Rate, parse_rate};
pub use transport::{SshTransport, Transport};

use crate::error::MailError;
use crate::limits::{SOURCE_FILE_BYTES, SOURCE_LIST_ENTRIES, SOURCE_NAME_LETTERS};

/// A name that is safe in file names, log lines and lamp pages: letters, digits, `-`, `_`, `.`, not leading.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(String);

impl SourceName {
    /// The name, if it is one.
    pub fn new(name: &str) -> Option<SourceName> {
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let leading = name.starts_with(['.', '-']);
        let good =
            !name.is_empty() && name.len() <= SOURCE_NAME_LETTERS && !leading && name.chars().all(safe);
        good.then(|| SourceName(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kind of system that a source is, with what only that kind needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum System {
    /// Cyrus IMAP.
    Cyrus(CyrusOptions),
    /// A tree of files of whatever kind.
    Generic(GenericOptions),
}

impl System {
    /// The word in the source file.
    pub fn word(&self) -> &'static str {
        match self {
            System::Cyrus(_) => "cyrus",
            System::Generic(_) => "generic",
        }
    }
}

/// Section `[cyrus]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CyrusOptions {
    /// The configuration from which all folders are learned; absolute.
    pub imapd_conf: PathBuf,
    /// The user whom Cyrus and its tools run as.
    pub cyrus_user: String,
    /// Files to take beside those that imapd.conf names; absolute.
    pub also: Vec<PathBuf>,
    /// Where `ctl_mboxlist` and the like lie, if it should not be searched for.
    pub bin_dir: Option<PathBuf>,
}

/// Section `[generic]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenericOptions {
    /// The trees to take; absolute, at least one.
    pub paths: Vec<PathBuf>,
    /// Patterns of what to leave out.
    pub exclude: Vec<String>,
    /// Patterns of files that are never changed once they are written.
    pub write_once: Vec<String>,
}

/// Section `[limits]`: how much a backup may take for itself while mail runs. While mail is stopped nothing of it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// What may cross the link from the server.
    pub bandwidth: Option<Rate>,
    /// What may be read from the server's disks.
    pub read: Option<Rate>,
}

/// Section `[standby]`: this server has mail down, holds what another one has, and takes over from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandbyOptions {
    /// The source whose snapshots it holds.
    pub of: SourceName,
    /// What is run, in this order, when mail was started here to take over: moves the address that the users know.
    pub hooks: Vec<Argv>,
    /// Longest time for each of them.
    pub hook_timeout: Duration,
}

/// A checked source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Names the source in snapshots and messages.
    pub name: SourceName,
    /// What is backed up.
    pub system: System,
    /// How long mail may stop.
    pub outage_budget: Duration,
    /// How the box reaches the server.
    pub transport: Transport,
    /// How mail is stopped, started and watched.
    pub quiesce: Quiesce,
    /// What a backup may take while mail runs.
    pub limits: Limits,
    /// The server is a standby.
    pub standby: Option<StandbyOptions>,
    text: String,
}

impl Source {
    /// Parses and checks a source file; `origin` (its path, as a rule) is named in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Source, MailError> {
        if text.len() > SOURCE_FILE_BYTES {
            return Err(MailError::SourceSyntax {
                origin: origin.to_owned(),
                line: None,
                problem: format!("a source file may have at most {SOURCE_FILE_BYTES} bytes"),
            });
        }
        let raw = raw::read(text, origin)?;
        let check = Check { origin };
        let system = match raw.system.as_deref() {
            Some("cyrus") => System::Cyrus(cyrus_options(raw.cyrus.unwrap_or_default(), &check)?),
            Some("generic") => System::Generic(generic_options(raw.generic.unwrap_or_default(), &check)?),
            Some(system @ ("dovecot" | "mbox")) => {
                return Err(MailError::SystemNotServed {
                    origin: origin.to_owned(),
                    system: system.to_owned(),
                });
            }
            Some(other) => {
                let hint = suggest::nearest(other, ["cyrus", "generic"])
                    .map(|known| format!("; did you mean \"{known}\"?"))
                    .unwrap_or_default();
                return Err(
                    check.bad("system", format!("\"{other}\" is neither \"cyrus\" nor \"generic\"{hint}"))
                );
            }
            None => return Err(check.bad("system", "is missing: write system = \"cyrus\" or \"generic\"")),
        };
        Ok(Source {
            name: source_name(raw.name, &check)?,
            outage_budget: check.duration("outage-budget", raw.outage_budget.as_deref(), 60)?,
            transport: transport::checked(raw.transport, &check)?,
            quiesce: quiesce_options::checked(raw.quiesce.unwrap_or_default(), &check)?,
            limits: limits(raw.limits.unwrap_or_default(), &check)?,
            standby: raw.standby.map(|raw| standby(raw, &check)).transpose()?,
            system,
            text: text.to_owned(),
        })
    }

    /// The text that was parsed, letter by letter.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is sent to the agent: the text, but for what only the box needs and an older agent would not know.
    pub fn text_for_agent(&self) -> Cow<'_, str> {
        transport::for_agent(&self.text)
    }
}

fn source_name(name: Option<String>, check: &Check<'_>) -> Result<SourceName, MailError> {
    let name = name.ok_or_else(|| check.bad("name", "is missing: write name = \"mail1\""))?;
    SourceName::new(&name).ok_or_else(|| {
        let rule = format!(
            "use 1 to {SOURCE_NAME_LETTERS} letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
        );
        check.bad("name", rule)
    })
}

fn limits(raw: raw::RawLimits, check: &Check<'_>) -> Result<Limits, MailError> {
    let rate = |key: &str, text: Option<String>| {
        text.map(|text| parse_rate(&text).map_err(|problem| check.bad(key, problem))).transpose()
    };
    Ok(Limits { bandwidth: rate("limits.bandwidth", raw.bandwidth)?, read: rate("limits.read", raw.read)? })
}

fn standby(raw: raw::RawStandby, check: &Check<'_>) -> Result<StandbyOptions, MailError> {
    let of = raw.of.ok_or_else(|| {
        check.bad("standby.of", "is missing: write the name of the source that this server stands by for")
    })?;
    let hooks = check.few("standby.hooks", raw.hooks.unwrap_or_default())?;
    let hook = |words| {
        Argv::from_words(words)
            .ok_or_else(|| check.bad("standby.hooks", "a command is empty: write [\"program\", …]"))
    };
    Ok(StandbyOptions {
        of: source_name(Some(of), check)?,
        hooks: hooks.into_iter().map(hook).collect::<Result<_, _>>()?,
        hook_timeout: check.duration("standby.hook-timeout", raw.hook_timeout.as_deref(), 60)?,
    })
}

fn cyrus_options(raw: raw::RawCyrus, check: &Check<'_>) -> Result<CyrusOptions, MailError> {
    let also = raw.also.unwrap_or_else(|| vec!["/etc/cyrus.conf".to_owned()]);
    Ok(CyrusOptions {
        imapd_conf: check
            .absolute("cyrus.imapd-conf", raw.imapd_conf.unwrap_or_else(|| "/etc/imapd.conf".to_owned()))?,
        cyrus_user: check.user("cyrus.cyrus-user", raw.cyrus_user.unwrap_or_else(|| "cyrus".to_owned()))?,
        also: check.absolutes("cyrus.also", also)?,
        bin_dir: raw.bin_dir.map(|dir| check.absolute("cyrus.bin-dir", dir)).transpose()?,
    })
}

fn generic_options(raw: raw::RawGeneric, check: &Check<'_>) -> Result<GenericOptions, MailError> {
    let paths = check.absolutes("generic.paths", raw.paths.unwrap_or_default())?;
    if paths.is_empty() {
        return Err(
            check.bad("generic.paths", "is missing: write the folders to back up, as [\"/srv/data\"]")
        );
    }
    let options = GenericOptions {
        paths,
        exclude: check.few("generic.exclude", raw.exclude.unwrap_or_default())?,
        write_once: check.few("generic.write-once", raw.write_once.unwrap_or_default())?,
    };
    for (key, patterns) in
        [("generic.exclude", &options.exclude), ("generic.write-once", &options.write_once)]
    {
        crate::patterns::Patterns::new(patterns).map_err(|problem| check.bad(key, problem))?;
    }
    Ok(options)
}

/// The checks that several sections share; carries the origin for error texts.
struct Check<'a> {
    origin: &'a str,
}

impl Check<'_> {
    fn bad(&self, key: &str, problem: impl Into<String>) -> MailError {
        MailError::BadValue { origin: self.origin.to_owned(), key: key.to_owned(), problem: problem.into() }
    }

    fn duration(&self, key: &str, text: Option<&str>, default: u64) -> Result<Duration, MailError> {
        text.map_or(Ok(Duration::from_secs(default)), |text| {
            parse_duration(text).map_err(|problem| self.bad(key, problem))
        })
    }

    /// Absolute, and without `..`, so that a path means one place only.
    fn absolute(&self, key: &str, text: String) -> Result<PathBuf, MailError> {
        let path = PathBuf::from(&text);
        let plain = !path.components().any(|c| matches!(c, std::path::Component::ParentDir));
        if !path.is_absolute() || !plain || text.contains('\0') {
            return Err(self.bad(key, format!("\"{text}\" is no absolute path without `..`")));
        }
        // Components, joined again: `/a//b/./c/` and `/a/b/c` are one path.
        Ok(path.components().collect())
    }

    fn absolutes(&self, key: &str, texts: Vec<String>) -> Result<Vec<PathBuf>, MailError> {
        self.few(key, texts)?.into_iter().map(|text| self.absolute(key, text)).collect()
    }

    fn few<T>(&self, key: &str, list: Vec<T>) -> Result<Vec<T>, MailError> {
        if list.len() > SOURCE_LIST_ENTRIES {
            return Err(self.bad(key, format!("may have at most {SOURCE_LIST_ENTRIES} entries")));
        }
        Ok(list)
    }

    /// A user's name ends up as a word of a command line: it must not look like an option there.
    fn user(&self, key: &str, name: String) -> Result<String, MailError> {
        let safe =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$' | '\\' | '@' | '+');
        if name.is_empty() || name.starts_with('-') || name.len() > 256 || !name.chars().all(safe) {
            return Err(self.bad(key, format!("\"{name}\" is no user name")));
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests;
