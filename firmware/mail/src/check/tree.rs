//! What the mail check needs of a copy: the contents of a small file and the listing of a folder.

use std::path::Path;

/// What a name in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link, socket, device or the like.
    Other,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// The last part of the path, as bytes.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file; of no meaning for anything else.
    pub size: u64,
}

/// A copy of a server, by the absolute paths that the files had there.
///
/// * A path that is not in the copy is `None`, never an error: what is missing is what the check is about.
/// * An error means that the copy itself could not be read, and ends the check.
/// * Names come once each, in any order, without `.` and `..`.
pub trait MailTree {
    /// Why the copy could not be read.
    type Error;

    /// The contents of a regular file; cyrus.header and cyrus.index are all that is asked for.
    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, Self::Error>;

    /// The names in a folder.
    fn list(&mut self, folder: &Path) -> Result<Option<Vec<TreeEntry>>, Self::Error>;
}
