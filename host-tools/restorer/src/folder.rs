//! A folder of the target while a restore works in it.
//!
//! A new folder is made under a temporary name (`hidden.rs`), what lies in it gets its own name at once, and when all of
//! that is there the folder is renamed: one rename in place of one for each file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use mailkeep_format::Meta;

use crate::meta;

/// A folder of the target; whoever lets go of it last sets its metadata.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    pub(crate) path: Vec<u8>,
    /// It was made by this run.
    pub(crate) fresh: bool,
    /// Nobody sees it before all that lies in it is there: what is made in it needs no temporary name.
    pub(crate) hidden: bool,
    /// Metadata to set at the end; none for folders that are only passed through.
    pub(crate) settle: Option<Meta>,
    /// New files in it may come with attributes of their own, from a default ACL.
    pub(crate) inherits: bool,
    /// Owner and group that new files in it get; known once there is one.
    pub(crate) birth: OnceLock<(u32, u32)>,
    /// A mode that was asked for, and the one that came of it (umask, default ACL); known once it is a hidden folder in which
    /// one was made with its own mode.
    pub(crate) mode: OnceLock<(u32, u32)>,
    /// The folder around it, which a rename in it would give a new time: held until this one is done.
    parent: Option<Arc<Folder>>,
    /// Names that are still to be made in it, and one for the walk until it has handed out all of them.
    missing: AtomicUsize,
}

impl Folder {
    /// The target itself.
    pub(crate) fn root(fd: OwnedFd) -> Self {
        Folder::new(fd, b"/".to_vec(), false, false, None, None)
    }

    /// A folder in `parent`.
    pub(crate) fn below(
        parent: &Arc<Folder>,
        fd: OwnedFd,
        path: Vec<u8>,
        fresh: bool,
        hidden: bool,
        settle: Option<Meta>,
    ) -> Self {
        Folder::new(fd, path, fresh, hidden, settle, Some(Arc::clone(parent)))
    }

    fn new(
        fd: OwnedFd,
        path: Vec<u8>,
        fresh: bool,
        hidden: bool,
        settle: Option<Meta>,
        parent: Option<Arc<Folder>>,
    ) -> Self {
        let inherits = meta::hands_down(fd.as_fd());
        let missing = AtomicUsize::new(1);
        let (birth, mode) = (OnceLock::new(), OnceLock::new());
        Folder { fd, path, fresh, hidden, settle, inherits, birth, mode, parent, missing }
    }

    /// One more name is to be made in it.
    pub(crate) fn expect(&self) {
        self.missing.fetch_add(1, Ordering::Relaxed);
    }

    /// A name is made or given up, or the walk has handed out the last; whether nothing is missing any more.
    pub(crate) fn got(&self) -> bool {
        // What others have made in it comes before the rename.
        self.missing.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The folder around it.
    pub(crate) fn parent(&self) -> Option<&Folder> {
        self.parent.as_deref()
    }

    /// Lets go of it, but not of the folder around it.
    pub(crate) fn into_parent(self) -> Option<Arc<Folder>> {
        self.parent
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
