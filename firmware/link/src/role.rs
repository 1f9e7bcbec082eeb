//! For what a connection is good: each key of a box has one role, which its forced command gives to the agent.
//!
//! The box never says its role: a box that was stolen would say what it likes. So nothing that the box says with the key that it
//! uses every night puts a snapshot back, and with the one for restores it can read no mail. Which commands the source file may
//! name, to be run as root, is pinned in the same place (`mailkeep_mail::source::CommandsDigest`).
//!
//! | role | may say |
//! |---|---|
//! | backup | everything of a pull |
//! | restore | who are you (`Configure`), goodbye; everything of [`crate::rebuild`] |

use std::fmt;
use std::str::FromStr;

use crate::message::ToAgent;

/// What a key may have the agent do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Stop mail for a moment, read, start it. Also of keys that are older than roles.
    #[default]
    Backup,
    /// Find out what the server is; put a snapshot back.
    Restore,
}

impl Role {
    /// Its word on a command line and in messages.
    pub fn word(self) -> &'static str {
        match self {
            Role::Backup => "backup",
            Role::Restore => "restore",
        }
    }

    /// Whether a box in this role may say this.
    pub fn may_say(self, message: &ToAgent) -> bool {
        match message {
            ToAgent::Hello(_) | ToAgent::Configure(_) | ToAgent::Alive | ToAgent::Goodbye => true,
            ToAgent::BeginPass(_)
            | ToAgent::Want(_)
            | ToAgent::Need(_)
            | ToAgent::Quiesce(_)
            | ToAgent::Recheck
            | ToAgent::Resume
            | ToAgent::Known(_)
            | ToAgent::Squeeze(_)
            | ToAgent::Prepare
            | ToAgent::Remember
            | ToAgent::Unasked
            | ToAgent::Freeze(_) => self == Role::Backup,
            ToAgent::Trees
            | ToAgent::Raise(_)
            | ToAgent::Folder(_)
            | ToAgent::Lay(_)
            | ToAgent::Fill(_)
            | ToAgent::Settle
            | ToAgent::Seal(_)
            | ToAgent::Raised
            | ToAgent::Swap(_)
            | ToAgent::Drop
            | ToAgent::Promote(_)
            | ToAgent::List(_)
            | ToAgent::Look(_) => self == Role::Restore,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is \"backup\" or \"restore\"")]
pub struct NoRole;

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(word: &str) -> Result<Self, NoRole> {
        [Role::Backup, Role::Restore].into_iter().find(|role| role.word() == word).ok_or(NoRole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_and_others_are_refused() {
        for role in [Role::Backup, Role::Restore] {
            assert_eq!(role.word().parse(), Ok(role));
        }
        assert_eq!("Backup".parse::<Role>(), Err(NoRole));
        assert_eq!(Role::default(), Role::Backup, "keys that are older than roles go on as they did");
    }
}
