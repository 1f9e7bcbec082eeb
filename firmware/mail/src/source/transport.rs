//! Section `[transport]`: how the box reaches the server.

use std::borrow::Cow;
use std::path::PathBuf;

use super::Check;
use super::raw::RawTransport;
use crate::error::MailError;

const SECTION: &str = "transport";
const RESTORE_IDENTITY: &str = "restore-identity-file";

/// How the box reaches the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// The source is this machine: the agent runs as a child process.
    Local {
        /// The agent's program, if it is not the one beside the caller's.
        agent_path: Option<PathBuf>,
    },
    /// The agent is started over OpenSSH.
    Ssh(SshTransport),
}

/// What `ssh` is called with. Host and user never begin with `-`, so that ssh cannot take them for options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTransport {
    /// Host name or address.
    pub host: String,
    /// Who logs in there; the agent has to read all mail and stop the service, so root by default.
    pub user: String,
    /// TCP port.
    pub port: u16,
    /// Private key of the box for backups, if not ssh's default.
    pub identity_file: Option<PathBuf>,
    /// Private key of the box for restores; the one above may be forbidden to overwrite the server.
    pub restore_identity_file: Option<PathBuf>,
    /// Pinned host keys, if not ssh's default.
    pub known_hosts_file: Option<PathBuf>,
    /// The agent's program on the server, if it is not in the PATH there.
    pub agent_path: Option<PathBuf>,
}

impl Transport {
    /// The agent's program, where the source file names one.
    pub fn agent_path(&self) -> Option<&PathBuf> {
        match self {
            Transport::Local { agent_path } => agent_path.as_ref(),
            Transport::Ssh(ssh) => ssh.agent_path.as_ref(),
        }
    }
}

/// A source file as the agent is to read it: without what came to this section later and is the box's business alone, which an
/// older agent would refuse as unknown.
pub(super) fn for_agent(text: &str) -> Cow<'_, str> {
    let Ok(mut all) = text.parse::<toml::Table>() else { return text.into() };
    let section = all.get_mut(SECTION).and_then(toml::Value::as_table_mut);
    if section.and_then(|section| section.remove(RESTORE_IDENTITY)).is_none() {
        return text.into();
    }
    all.to_string().into()
}

pub(super) fn checked(raw: Option<RawTransport>, check: &Check<'_>) -> Result<Transport, MailError> {
    const KIND: &str = "write kind = \"local\" (this machine) or kind = \"ssh\"";
    let Some(raw) = raw else {
        return Err(check.bad("transport", format!("section [transport] is missing: {KIND}")));
    };
    let path = |key: &str, value: Option<String>| value.map(|text| check.absolute(key, text)).transpose();
    let agent_path = path("transport.agent-path", raw.agent_path)?;
    match raw.kind.as_deref() {
        Some("local") => {
            let set = [
                ("host", raw.host.is_some()),
                ("user", raw.user.is_some()),
                ("port", raw.port.is_some()),
                ("identity-file", raw.identity_file.is_some()),
                (RESTORE_IDENTITY, raw.restore_identity_file.is_some()),
                ("known-hosts-file", raw.known_hosts_file.is_some()),
            ];
            // Someone who writes a host means that host, not this machine.
            if let Some((key, _)) = set.iter().find(|(_, is_set)| *is_set) {
                return Err(check.bad(&format!("transport.{key}"), "belongs to kind = \"ssh\" only"));
            }
            Ok(Transport::Local { agent_path })
        }
        Some("ssh") => {
            let host =
                raw.host.ok_or_else(|| check.bad("transport.host", "is missing: name the mail server"))?;
            let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '%');
            if host.is_empty() || host.len() > 255 || host.starts_with('-') || !host.chars().all(safe) {
                return Err(check.bad("transport.host", format!("\"{host}\" is no host name or address")));
            }
            if raw.port == Some(0) {
                return Err(check.bad("transport.port", "0 is no TCP port"));
            }
            Ok(Transport::Ssh(SshTransport {
                host,
                user: check.user("transport.user", raw.user.unwrap_or_else(|| "root".to_owned()))?,
                port: raw.port.unwrap_or(22),
                identity_file: path("transport.identity-file", raw.identity_file)?,
                restore_identity_file: path(
                    &format!("{SECTION}.{RESTORE_IDENTITY}"),
                    raw.restore_identity_file,
                )?,
                known_hosts_file: path("transport.known-hosts-file", raw.known_hosts_file)?,
                agent_path,
            }))
        }
        Some(other) => Err(check.bad("transport.kind", format!("\"{other}\" is not known: {KIND}"))),
        None => Err(check.bad("transport.kind", format!("is missing: {KIND}"))),
    }
}
