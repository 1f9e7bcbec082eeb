//! For what the key of a connection is good: its role, and the commands that may be run on its word.
//!
//! Both stand in the key's forced command, which `mailkeep pair` has written on this server. The box sends the source file, so
//! without this whoever holds its key could name any program as the one that stops mail, and have it run as root.

use std::ffi::OsStr;

use mailkeep_link::Role;
use mailkeep_mail::Source;
use mailkeep_mail::source::CommandsDigest;

use crate::error::AgentError;

/// What a forced command allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// What the box may ask for.
    pub role: Role,
    /// The commands of the source file; `None` for a key that is older than this: any.
    pub commands: Option<CommandsDigest>,
}

impl Allowed {
    /// Whether a source file has no other commands. Asked before anything in it is run or believed.
    ///
    /// # Errors
    /// [`AgentError::OtherCommands`].
    pub fn see(&self, source: &Source) -> Result<(), AgentError> {
        match self.commands {
            Some(pinned) if pinned != source.commands_digest() => Err(AgentError::OtherCommands),
            _ => Ok(()),
        }
    }

    /// What the admin has to know of a key that may name any command.
    pub fn remark(&self) -> Option<String> {
        let of = |name: &str| std::env::var_os(name);
        (self.commands.is_none() && is_forced(of("SSH_ORIGINAL_COMMAND").as_deref(), of("SUDO_COMMAND").as_deref()))
            .then(|| {
                "the box's key may have any command run on this server; run `mailkeep pair` again to allow only those of \
                 the source file"
                    .to_owned()
            })
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
