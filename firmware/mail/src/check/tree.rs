//! What the mail check needs of a copy: the contents of a file and the names in a folder.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeEntry<'a> {
    /// The last part of the path, as bytes.
    pub name: &'a [u8],
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file; of no meaning for anything else.
    pub size: u64,
}

/// A copy of a server, by the absolute paths that the files had there.
///
/// * A path that is not in the copy is told by `None` or `false`, never by an error: what is missing is what the check is
///   about.
/// * An error means that the copy itself could not be read, and ends the check.
/// * Names come once each, in any order, without `.` and `..`.
/// * A folder may hold half a million messages, and an index as many records: neither is held in memory as a whole.
pub trait MailTree {
    /// Why the copy could not be read.
    type Error;

    /// The contents of a small regular file; cyrus.header is all that is asked for.
    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, Self::Error>;

    /// The contents of a regular file in pieces, until `take` says that it has seen enough; cyrus.index is all that is
    /// asked for. Returns whether there is such a file.
    fn stream(&mut self, path: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool, Self::Error>;

    /// As [`MailTree::list`], with the SHA-1 of those message files that are new in this copy and that it found worth
    /// reading.
    fn list_with_digests(
        &mut self,
        folder: &Path,
        each: &mut dyn FnMut(TreeEntry<'_>, Option<[u8; 20]>),
    ) -> Result<bool, Self::Error>;

    /// Goes through the names in a folder. Returns whether there is such a folder.
    fn list(&mut self, folder: &Path, each: &mut dyn FnMut(TreeEntry<'_>)) -> Result<bool, Self::Error>;
}
