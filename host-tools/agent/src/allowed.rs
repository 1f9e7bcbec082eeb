//! For what the key of a connection is good: its role, the commands that may be run on its word, how long mail may be stopped
//! for it, and the places that it reaches.
//!
//! All of it stands in the key's forced command, which `mailkeep pair` has written on this server. The box sends the source
//! file, so without this whoever holds its key could name any program as the one that stops mail and have it run as root, have
//! any file read or any folder exchanged, and keep mail down for a year.

use std::ffi::OsStr;
use std::time::Duration;

use mailkeep_link::Role;
use mailkeep_mail::source::CommandsDigest;
use mailkeep_mail::{Reach, Source};

use crate::error::AgentError;

/// What a forced command allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// What the box may ask for.
    pub role: Role,
    /// The commands of the source file; `None` for a key that is older than this: any.
    pub commands: Option<CommandsDigest>,
    /// The longest deadline of a window; `None` for a key that is older than this: any.
    pub deadline: Option<Duration>,
    /// The places that may be read, or put back; `None` for a key that is older than this: all.
    pub reach: Option<Reach>,
}

impl Allowed {
    /// Whether a source file has no other commands and no longer deadline. Asked before anything in it is run or believed;
    /// the places are seen to where they are known ([`crate::places`]).
    ///
    /// # Errors
    /// [`AgentError::OtherCommands`], [`AgentError::OtherDeadline`].
    pub fn see(&self, source: &Source) -> Result<(), AgentError> {
        if self.commands.is_some_and(|pinned| pinned != source.commands_digest()) {
            return Err(AgentError::OtherCommands);
        }
        let wanted = source.quiesce.deadline;
        match self.deadline {
            Some(allowed) if wanted > allowed => {
                Err(AgentError::OtherDeadline { wanted: wanted.as_secs(), allowed: allowed.as_secs() })
            }
            _ => Ok(()),
        }
    }

    /// What the admin has to know of a key for which something of this is not said.
    pub fn remark(&self) -> Option<String> {
        let of = |name: &str| std::env::var_os(name);
        is_forced(of("SSH_ORIGINAL_COMMAND").as_deref(), of("SUDO_COMMAND").as_deref())
            .then(|| self.what_is_open())
            .flatten()
    }

    fn what_is_open(&self) -> Option<String> {
        let open = match (&self.commands, &self.reach) {
            (None, None) => "may have any command run on this server and reaches every file of it",
            (None, Some(_)) => "may have any command run on this server",
            (Some(_), None) => "reaches every file of this server",
            (Some(_), Some(_)) if self.deadline.is_none() => {
                "may have mail stopped on this server for any time"
            }
            (Some(_), Some(_)) => return None,
        };
        Some(format!(
            "the box's key {open}; run `mailkeep pair` again to allow only what the source file says"
        ))
    }
}

/// Whether a forced command has called us: sshd tells it what it stands for, and where sudo has taken that away, sudo tells
/// what it was called with.
fn is_forced(original: Option<&OsStr>, by_sudo: Option<&OsStr>) -> bool {
    let serves =
        |command: &OsStr| command.to_string_lossy().split_ascii_whitespace().any(|word| word == "serve");
    original.is_some() || by_sudo.is_some_and(serves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_said_is_told() {
        let source =
            Source::parse("name=\"m\"\nsystem=\"cyrus\"\n[transport]\nkind=\"local\"\n", "m").unwrap();
        let commands = Some(source.commands_digest());
        let reach = Some(Reach::new(["/srv".into()]).unwrap());
        let whole = Allowed { role: Role::Backup, commands, deadline: Some(Duration::from_secs(600)), reach };
        assert_eq!(whole.what_is_open(), None);
        for (open, said) in [
            (Allowed::default(), "any command"),
            (Allowed::default(), "every file"),
            (Allowed { commands: None, ..whole.clone() }, "any command"),
            (Allowed { reach: None, ..whole.clone() }, "every file"),
            (Allowed { deadline: None, ..whole.clone() }, "for any time"),
        ] {
            let told = open.what_is_open().unwrap();
            assert!(told.contains(said) && told.contains("`mailkeep pair` again"), "{told}");
        }
    }

    #[test]
    fn a_longer_deadline_than_the_allowed_one_is_refused() {
        let source = |deadline: &str| {
            let text = format!(
                "name=\"m\"\nsystem=\"cyrus\"\n[transport]\nkind=\"local\"\n[quiesce]\ndeadline=\"{deadline}\"\n"
            );
            Source::parse(&text, "m").unwrap()
        };
        let allowed = Allowed { deadline: Some(Duration::from_secs(600)), ..Allowed::default() };
        allowed.see(&source("10m")).unwrap();
        allowed.see(&source("5m")).unwrap();
        let error = allowed.see(&source("11m")).unwrap_err();
        assert!(matches!(error, AgentError::OtherDeadline { wanted: 660, allowed: 600 }), "{error}");
        assert_eq!(error.failed().exit_code, 77);
        Allowed::default().see(&source("300d")).unwrap();
    }

    #[test]
    fn only_what_another_machine_has_called_is_forced() {
        let forced = |original: Option<&str>, sudo: Option<&str>| {
            is_forced(original.map(OsStr::new), sudo.map(OsStr::new))
        };
        assert!(forced(Some("'/a/agent' serve"), None));
        assert!(forced(None, Some("/a/agent serve --role backup")));
        assert!(!forced(None, None));
        assert!(!forced(None, Some("/usr/bin/mailkeep backup --source m.toml")));
    }
}
