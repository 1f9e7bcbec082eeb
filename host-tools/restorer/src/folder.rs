//! A folder of the target while a restore works in it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use mailkeep_format::Meta;

use crate::meta;

/// A folder of the target; whoever lets go of it last sets its metadata.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    pub(crate) path: Vec<u8>,
    /// It was made by this run.
    pub(crate) fresh: bool,
    /// Metadata to set at the end; none for folders that are only passed through.
    pub(crate) settle: Option<Meta>,
    /// New files in it may come with attributes of their own, from a default ACL.
    pub(crate) inherits: bool,
    /// Owner and group that new files in it get; known once there is one.
    pub(crate) birth: OnceLock<(u32, u32)>,
}

impl Folder {
    pub(crate) fn new(fd: OwnedFd, path: Vec<u8>, fresh: bool, settle: Option<Meta>) -> Self {
        let inherits = meta::hands_down(fd.as_fd());
        Folder { fd, path, fresh, settle, inherits, birth: OnceLock::new() }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
