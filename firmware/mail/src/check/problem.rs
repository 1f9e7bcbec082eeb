//! One problem that the mail check found, for the manifest and for people.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cyrus::mailbox_list::MailboxName;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The list puts the mailbox on a partition that imapd.conf does not name.
    UnknownPartition,
    /// No folder with its unique id is in the copy.
    MissingFolder,
    /// A folder has a cyrus.header that cannot be read.
    DamagedHeader,
    /// The mailbox's folder has no cyrus.index.
    MissingIndex,
    /// Its cyrus.index cannot be read.
    DamagedIndex,
    /// cyrus.index belongs to another state of cyrus.header.
    HeaderMismatch,
    /// Records whose CRC is wrong; counted by their place in the file, from 1.
    DamagedRecord,
    /// The index' number of messages is not that of its records.
    WrongCount,
    /// Messages without their file.
    MissingMessage,
    /// Messages whose file has another size than the index says.
    WrongSize,
    /// New messages whose file is not the one that the index has the digest of.
    WrongDigest,
    /// Message files that came after the index was copied.
    NewerThanIndex,
}

impl ProblemKind {
    fn words(self) -> &'static str {
        match self {
            ProblemKind::UnknownPartition => "is on a partition that imapd.conf does not name",
            ProblemKind::MissingFolder => "has no folder",
            ProblemKind::DamagedHeader => "cyrus.header cannot be read",
            ProblemKind::MissingIndex => "has no cyrus.index",
            ProblemKind::DamagedIndex => "has a cyrus.index that cannot be read",
            ProblemKind::HeaderMismatch => "has a cyrus.index and a cyrus.header of different moments",
            ProblemKind::DamagedRecord => "has damaged records in cyrus.index",
            ProblemKind::WrongCount => "has a wrong number of messages in cyrus.index",
            ProblemKind::MissingMessage => "lacks message files",
            ProblemKind::WrongSize => "has message files of the wrong size",
            ProblemKind::WrongDigest => "has new messages that are not as they were delivered",
            ProblemKind::NewerThanIndex => "has message files newer than its cyrus.index",
        }
    }
}

/// One problem of one mailbox; messages with the same problem are one problem with a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong.
    pub kind: ProblemKind,
    /// The mailbox's internal name; `None` if a folder could not be told whose it is.
    pub mailbox: Option<String>,
    /// Its folder, where there is one; bytes that are not UTF-8 are replaced.
    pub folder: Option<String>,
    /// How many messages are concerned; 0 if it is about the mailbox as a whole.
    pub messages: u64,
    /// The UID of the first of them.
    pub first: Option<u32>,
    /// What else there is to say.
    pub detail: Option<String>,
}

impl Problem {
    pub(super) fn new(kind: ProblemKind) -> Problem {
        Problem { kind, mailbox: None, folder: None, messages: 0, first: None, detail: None }
    }

    pub(super) fn mailbox(mut self, name: &MailboxName) -> Problem {
        self.mailbox = Some(name.as_str().to_owned());
        self
    }

    pub(super) fn folder(mut self, folder: &Path) -> Problem {
        self.folder = Some(folder.to_string_lossy().into_owned());
        self
    }

    pub(super) fn messages(mut self, count: u64, first: u32) -> Problem {
        self.messages = count;
        self.first = Some(first);
        self
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Problem {
        self.detail = Some(detail.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.mailbox, &self.folder) {
            (Some(mailbox), _) => write!(f, "mailbox {mailbox}: ")?,
            (None, Some(folder)) => write!(f, "folder {folder}: ")?,
            (None, None) => {}
        }
        f.write_str(self.kind.words())?;
        match (self.messages, self.first) {
            (0, _) | (_, None) => {}
            (1, Some(first)) => write!(f, " (number {first})")?,
            (count, Some(first)) => write!(f, " ({count}, the first is number {first})")?,
        }
        self.detail.as_ref().map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}
