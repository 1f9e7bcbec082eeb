//! What is known of one message, and of all of a mailbox.

use mailkeep_mail::cyrus::index::SystemFlags;
use mailkeep_restorer::format::Node;

/// A message that IMAP would show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its UID.
    pub uid: u32,
    /// INTERNALDATE, seconds since 1970.
    pub internal_date: i64,
    /// Bytes.
    pub size: u64,
    /// System flags; `\Seen` is the owner's own. `None` where the index could not be read.
    pub flags: Option<SystemFlags>,
    /// Names of the keywords that are set.
    pub keywords: Vec<String>,
    /// SHA-1 of the file.
    pub guid: Option<[u8; 20]>,
}

impl Message {
    /// What the file alone says: its time is the INTERNALDATE.
    pub(crate) fn of_file(uid: u32, node: &Node) -> Message {
        Message {
            uid,
            internal_date: node.meta.mtime.seconds,
            size: node.size(),
            flags: None,
            keywords: Vec::new(),
            guid: None,
        }
    }

    /// System flags and keywords as IMAP names them.
    pub fn flag_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.flags.iter().flat_map(|flags| flags.imap_names()) {
            names.push(name);
        }
        names.extend(self.keywords.iter().map(String::as_str));
        names
    }

    /// Whether a system flag is set.
    pub fn has(&self, name: &str) -> bool {
        self.flags.is_some_and(|flags| flags.imap_names().any(|known| known == name))
    }
}

/// A mailbox in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages that IMAP would show.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that the owner has not read.
    pub unseen: u64,
    /// Those with `\Flagged`.
    pub flagged: u64,
    /// Those with `\Answered`.
    pub answered: u64,
    /// Those with `\Deleted`.
    pub deleted: u64,
    /// Records of messages that are expunged already.
    pub expunged: u64,
    /// UIDVALIDITY.
    pub uid_validity: Option<u32>,
    /// The highest UID ever given.
    pub last_uid: Option<u32>,
    /// Keywords that are set on any message.
    pub keywords: Vec<String>,
    /// What is wrong with the index: counts are then those of files, and nothing is known of flags.
    pub problem: Option<String>,
}
