//! The source file as it is written: plain serde structs, every value optional. `source/mod.rs` turns them
//! into a checked [`Source`](super::Source); nothing else reads them.

use serde::Deserialize;

use super::suggest::nearest;
use crate::error::MailError;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawSource {
    pub(super) name: Option<String>,
    pub(super) system: Option<String>,
    pub(super) outage_budget: Option<String>,
    pub(super) transport: Option<RawTransport>,
    pub(super) cyrus: Option<RawCyrus>,
    pub(super) quiesce: Option<RawQuiesce>,
    pub(super) generic: Option<RawGeneric>,
    pub(super) limits: Option<RawLimits>,
    pub(super) standby: Option<RawStandby>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawStandby {
    pub(super) of: Option<String>,
    pub(super) hooks: Option<Vec<Vec<String>>>,
    pub(super) hook_timeout: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLimits {
    pub(super) bandwidth: Option<String>,
    pub(super) read: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawTransport {
    pub(super) kind: Option<String>,
    pub(super) host: Option<String>,
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) identity_file: Option<String>,
    pub(super) restore_identity_file: Option<String>,
    pub(super) known_hosts_file: Option<String>,
    pub(super) agent_path: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawCyrus {
    pub(super) imapd_conf: Option<String>,
    pub(super) cyrus_user: Option<String>,
    pub(super) also: Option<Vec<String>>,
    pub(super) bin_dir: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawQuiesce {
    pub(super) mode: Option<String>,
    pub(super) stop: Option<Vec<String>>,
    pub(super) start: Option<Vec<String>>,
    pub(super) running: Option<Vec<String>>,
    pub(super) probe: Option<String>,
    pub(super) deadline: Option<String>,
    pub(super) stragglers: Option<String>,
    pub(super) straggler_wait: Option<String>,
    pub(super) freeze: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawGeneric {
    pub(super) paths: Option<Vec<String>>,
    pub(super) exclude: Option<Vec<String>>,
    pub(super) write_once: Option<Vec<String>>,
}

/// Reads the TOML text; `origin` is only for the error texts.
pub(super) fn read(text: &str, origin: &str) -> Result<RawSource, MailError> {
    toml::from_str(text).map_err(|error| explain(&error, text, origin))
}

/// One line instead of toml's picture of the place. serde tells an unknown key only through the wording of
/// its message, `` unknown field `x`, expected one of `a`, `b` ``; a test below holds that wording.
fn explain(error: &toml::de::Error, text: &str, origin: &str) -> MailError {
    let start = error.span().map(|span| span.start.min(text.len()));
    let line = start.map(|at| 1 + text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count());
    let message = error.message();
    if message.starts_with("unknown field") {
        let mut quoted = message.split('`').skip(1).step_by(2);
        let key = quoted.next().unwrap_or_default().to_owned();
        return MailError::UnknownKey {
            origin: origin.to_owned(),
            line,
            section: section_at(text, start.unwrap_or(0)),
            nearest: nearest(&key, quoted).map(str::to_owned),
            key,
        };
    }
    let problem = message.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    MailError::SourceSyntax { origin: origin.to_owned(), line, problem }
}

/// The section that the key at byte `at` stands in: the last header above its line. A key that is itself in
/// a header is an unknown section, and those stand at the top level.
fn section_at(text: &str, at: usize) -> String {
    let mut section = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let header = line.trim_start().strip_prefix('[').and_then(|rest| rest.split(']').next());
        start += line.len();
        if at < start {
            section = if header.is_some() { None } else { section };
            break;
        }
        section = header.or(section);
    }
    section.map_or_else(|| "the top level".to_owned(), |name| format!("[{}]", name.trim()))
}
