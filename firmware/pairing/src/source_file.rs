//! The source file of a paired server, as text for people: what was found stands in it, what was not is said.

use std::path::Path;

use mailkeep_mail::cyrus::Role;
use mailkeep_mail::detected::DetectedCyrus;
use mailkeep_mail::{Source, source::SourceName};
use toml::Value;

use crate::{Destination, PairError};

/// What is backed up.
#[derive(Clone, Debug)]
pub enum What {
    /// The mail server that was found.
    Cyrus(DetectedCyrus),
    /// Folders that the person named.
    Folders(Vec<String>),
}

/// Everything that a source file is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Its name.
    pub name: &'a str,
    /// The server.
    pub server: &'a Destination,
    /// The box's key for backups of it.
    pub identity: &'a Path,
    /// The box's key for restores to it.
    pub restore_identity: &'a Path,
    /// The file that pins its host key.
    pub known_hosts: &'a Path,
    /// The agent there.
    pub agent: &'a str,
    /// What is backed up.
    pub what: &'a What,
}

/// Writes the text and reads it again as every later run will.
///
/// # Errors
/// [`PairError::Source`] if something that was found has no place in a source file.
pub fn text(parts: &Parts<'_>) -> Result<(String, Source), PairError> {
    let mut out = String::new();
    let quoted = |text: &str| Value::String(text.to_owned()).to_string();
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let list =
        |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::String).collect()).to_string();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let (system, folders) = match parts.what {
        What::Cyrus(cyrus) if cyrus.role.has_mailboxes() => ("cyrus", None),
        What::Cyrus(cyrus) => ("generic", Some(&cyrus.config_files)),
        What::Folders(folders) => ("generic", Some(folders)),
    };
    line("# Written by `mailkeep pair`; take the pairing back with `mailkeep pair --undo`.".to_owned());
    line(format!("name = {}\nsystem = \"{system}\"", quoted(parts.name)));
    line("\n[transport]\nkind = \"ssh\"".to_owned());
    line(format!("host = {}\nuser = {}", quoted(&parts.server.host), quoted(&parts.server.user)));
    if parts.server.port != 22 {
        line(format!("port = {}", parts.server.port));
    }
    line(format!("identity-file = {}", path(parts.identity)));
    line(format!("restore-identity-file = {}", path(parts.restore_identity)));
    line(format!("known-hosts-file = {}", path(parts.known_hosts)));
    line(format!("agent-path = {}", quoted(parts.agent)));
    if let What::Cyrus(cyrus) = parts.what {
        if let Some(remark) = remark(cyrus.role) {
            line(format!("\n# {remark}"));
        }
        if cyrus.role.has_mailboxes() {
            line(format!("\n[cyrus]\nimapd-conf = {}", quoted(&cyrus.imapd_conf)));
            line(format!("cyrus-user = {}", quoted(&cyrus.cyrus_user)));
            line(format!("also = {}", list(cyrus.cyrus_conf.as_slice())));
            line("\n[quiesce]".to_owned());
            match (&cyrus.quiesce, &cyrus.quiesce_problem) {
                (Some(way), _) => line(format!("mode = \"auto\"                  # found: {way}")),
                (None, why) => {
                    let why = why.as_deref().unwrap_or("no way was found");
                    line(format!("# How mail is stopped was not found ({why}). Say it here:"));
                    line("# mode = \"command\"\n# stop = [\"…\"]\n# start = [\"…\"]".to_owned());
                }
            }
            if let Some(probe) = &cyrus.probe {
                line(format!("probe = {}", quoted(probe)));
            }
        }
    }
    if let Some(folders) = folders {
        line(format!("\n[generic]\npaths = {}", list(folders)));
    }
    let source = Source::parse(&out, "the new source file").map_err(PairError::Source)?;
    Ok((out, source))
}

/// A source file that was there, with the key for restores named in it: a pairing of before there were two has only one.
///
/// # Errors
/// [`PairError::Source`] if it is none.
pub fn with_restore_key(text: &str, file: &Path, key: &Path) -> Result<Source, PairError> {
    let origin = file.display().to_string();
    let mut text = text.to_owned();
    if let Ok(mut all) = text.parse::<toml::Table>() {
        if let Some(transport) = all.get_mut("transport").and_then(Value::as_table_mut) {
            let key = Value::String(key.to_string_lossy().into_owned());
            transport.insert("restore-identity-file".to_owned(), key);
            text = all.to_string();
        }
    }
    Source::parse(&text, &origin).map_err(PairError::Source)
}

/// What the person should know about a part in a Murder.
pub fn remark(role: Role) -> Option<&'static str> {
    match role {
        Role::Standalone => None,
        Role::Backend => Some(
            "A backend of a Murder: after a restore run `ctl_mboxlist -m -w` first, and `-m` only if that removes nothing.",
        ),
        Role::Frontend => {
            Some("A frontend of a Murder: it has no mailboxes, only its configuration is kept.")
        }
        Role::Master => Some(
            "The mupdate master of a Murder: it fills itself from the backends, only its configuration is kept.",
        ),
    }
}

/// A name for the source made of the server's own name: its first label, with the letters a source may have.
pub fn name_for(hostname: &str) -> Option<String> {
    let label = hostname.split('.').next().unwrap_or_default();
    let name: String = label
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .collect();
    let name = name.trim_start_matches(['-', '_']).to_owned();
    is_name(&name).then_some(name)
}

/// Whether a text can be the name of a source.
pub fn is_name(name: &str) -> bool {
    SourceName::new(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(server: &'a Destination, what: &'a What) -> Parts<'a> {
        Parts {
            name: "mail1",
            server,
            identity: Path::new("/etc/mailkeep/pairings/mail1/key"),
            restore_identity: Path::new("/etc/mailkeep/pairings/mail1/restore-key"),
            known_hosts: Path::new("/etc/mailkeep/pairings/mail1/known hosts"),
            agent: "/usr/local/lib/mailkeep/mailkeep-agent",
            what,
        }
    }

    fn cyrus(role: Role) -> What {
        What::Cyrus(DetectedCyrus {
            imapd_conf: "/etc/imapd.conf".into(),
            cyrus_conf: Some("/etc/cyrus.conf".into()),
            cyrus_user: "cyrus".into(),
            version: Some("3.6.1".into()),
            role,
            quiesce: Some("systemd unit cyrus-imapd".into()),
            quiesce_problem: None,
            probe: Some("imap://127.0.0.1:143".into()),
            config_files: vec!["/etc/imapd.conf".into(), "/etc/cyrus.conf".into()],
        })
    }

    fn server() -> Destination {
        Destination { alias: "m".into(), host: "mail1.example.org".into(), user: "root".into(), port: 2222 }
    }

    #[test]
    fn a_mail_server_gets_a_source_with_all_that_was_found() {
        let (server, what) = (server(), cyrus(Role::Standalone));
        let (text, source) = text(&parts(&server, &what)).unwrap();
        assert_eq!(source.name.as_str(), "mail1");
        assert!(
            text.contains("port = 2222\n") && text.contains("probe = \"imap://127.0.0.1:143\""),
            "{text}"
        );
        assert!(text.contains("# found: systemd unit cyrus-imapd"), "{text}");
    }

    #[test]
    fn frontends_and_masters_keep_their_configuration_only() {
        for role in [Role::Frontend, Role::Master] {
            let (server, what) = (server(), cyrus(role));
            let (text, source) = text(&parts(&server, &what)).unwrap();
            assert_eq!(source.system.word(), "generic");
            assert!(text.contains("paths = [\"/etc/imapd.conf\", \"/etc/cyrus.conf\"]"), "{text}");
        }
        let (server, what) = (server(), cyrus(Role::Backend));
        let (text, source) = text(&parts(&server, &what)).unwrap();
        assert!(source.system.word() == "cyrus" && text.contains("ctl_mboxlist -m -w"), "{text}");
    }

    #[test]
    fn hostile_words_of_a_server_stay_words() {
        let mut found = cyrus(Role::Standalone);
        if let What::Cyrus(cyrus) = &mut found {
            cyrus.imapd_conf = "/etc/\"\nstop = [\"x\"]".into();
        }
        let server = server();
        // As a value it is quoted whole; nothing of it becomes a line of its own.
        let (_, source) = text(&parts(&server, &found)).unwrap();
        assert!(source.quiesce.stop.is_none());
    }

    #[test]
    fn names_come_from_host_names() {
        assert_eq!(name_for("mail1.example.org"), Some("mail1".to_owned()));
        assert_eq!(name_for("_mx ü.x"), Some("mx--".to_owned()));
        assert_eq!(name_for("..."), None);
    }
}
