//! Flags that a message is to have, of those that can be said and set.

use super::present::Flags;
use crate::Message;

/// Flags that a message is to have.
pub(super) struct Wanted(Flags);

impl Wanted {
    /// Those of the index that can be set on a message that is there.
    pub(super) fn of(message: &Message) -> Wanted {
        let names = message.flag_names().into_iter().filter(|name| is_flag(name) && *name != "\\Deleted");
        Wanted(names.map(str::to_owned).collect())
    }

    /// Whether one of them is to be set after all.
    pub(super) fn set(&mut self, name: &str, is_set: bool) {
        if is_set {
            self.0.insert(name.to_owned());
        } else {
            self.0.remove(name);
        }
    }

    /// Those that are set and should not be.
    pub(super) fn surplus(&self, set: &Flags) -> Vec<String> {
        set.difference(&self.0).filter(|name| is_flag(name)).cloned().collect()
    }

    /// Those that are not set yet.
    pub(super) fn lacking<'a>(&'a self, set: &'a Flags) -> Vec<&'a str> {
        self.0.difference(set).map(String::as_str).collect()
    }
}

/// Whether a flag can be said as an atom: nothing else can be sent, and hostile keywords would be commands.
pub(super) fn is_flag(name: &str) -> bool {
    let atom = name.strip_prefix('\\').unwrap_or(name);
    !atom.is_empty() && atom.bytes().all(|byte| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_atoms_are_sent_as_flags() {
        for good in ["\\Seen", "$Junk", "work", "NonJunk"] {
            assert!(is_flag(good), "{good}");
        }
        for bad in ["", "\\", "a b", "a)\r\nx LOGOUT", "ü", "a(", "%"] {
            assert!(!is_flag(bad), "{bad}");
        }
    }
}
