//! Puts one thing into its place: made under a temporary name, complete with metadata, then renamed.
//!
//! So a name in the target shows what was there before or the whole of what the snapshot has, also when the restore is
//! cut off; and a file's bytes can be read by nobody else before its owner and mode are right.

use std::os::fd::{AsFd, BorrowedFd};

use mailkeep_format::{Node, NodeKind};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::decide::Existing;
use crate::fill::{FillError, fill};
use crate::meta::{self, Shortfall};
use crate::target::{self, PartNames};
use crate::{Contents, Owners};

/// Why a thing is not in its place.
#[derive(Debug)]
pub(crate) enum PlaceError {
    /// Contents, or the target while it was written.
    Fill(FillError),
    /// Something else is in its place and may not go.
    InTheWay,
    /// Device files are for root.
    NeedsRoot,
    /// The name appeared meanwhile, and what is there is kept.
    Appeared,
}

impl From<Errno> for PlaceError {
    fn from(error: Errno) -> Self {
        PlaceError::Fill(FillError::Write(error))
    }
}

impl From<FillError> for PlaceError {
    fn from(error: FillError) -> Self {
        PlaceError::Fill(error)
    }
}

/// How to put things into place; the same for all of a restore.
pub(crate) struct Placer<'a> {
    pub(crate) contents: &'a dyn Contents,
    pub(crate) owners: &'a Owners,
    pub(crate) parts: PartNames,
    /// A folder in a file's place is removed with all that is in it.
    pub(crate) clear_folders: bool,
    /// What appears meanwhile is kept.
    pub(crate) keep: bool,
}

impl Placer<'_> {
    /// Makes `node` in `folder`, over what was seen `there`. `wrote` hears of bytes and returns whether to go on.
    pub(crate) fn make(
        &self,
        folder: BorrowedFd<'_>,
        node: &Node,
        there: Option<&Existing>,
        wrote: &dyn Fn(u64) -> bool,
    ) -> Result<Shortfall, PlaceError> {
        let part = self.parts.fresh();
        let made = match node.kind {
            NodeKind::File { .. } => self.make_file(folder, &part, node, wrote),
            _ => self.make_other(folder, &part, node),
        };
        let made = made.and_then(|short| {
            self.move_in(folder, &part, &node.name, there)?;
            Ok(short)
        });
        if made.is_err() {
            discard(folder, &part);
        }
        made
    }

    /// Makes `name` in `folder` another name of the file `first` in `from`.
    pub(crate) fn link(
        &self,
        from: BorrowedFd<'_>,
        first: &[u8],
        folder: BorrowedFd<'_>,
        name: &[u8],
        there: Option<&Existing>,
    ) -> Result<(), PlaceError> {
        let part = self.parts.fresh();
        rustix::fs::linkat(from, first, folder, &part[..], AtFlags::empty())?;
        let moved = self.move_in(folder, &part, name, there);
        // Renaming one name of a file onto another name of it does nothing and leaves both.
        discard(folder, &part);
        moved
    }

    fn make_file(
        &self,
        folder: BorrowedFd<'_>,
        part: &[u8],
        node: &Node,
        wrote: &dyn Fn(u64) -> bool,
    ) -> Result<Shortfall, PlaceError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, part, flags, Mode::RUSR | Mode::WUSR)?;
        fill(self.contents, node, file.as_fd(), wrote)?;
        Ok(meta::settle(meta::open(&file), &node.meta, self.owners)?)
    }

    fn make_other(&self, folder: BorrowedFd<'_>, part: &[u8], node: &Node) -> Result<Shortfall, PlaceError> {
        let private = Mode::RUSR | Mode::WUSR;
        let make = |kind, device| rustix::fs::mknodat(folder, part, kind, private, device);
        match &node.kind {
            NodeKind::Symlink { target } => rustix::fs::symlinkat(&target[..], folder, part)?,
            NodeKind::Fifo => make(FileType::Fifo, 0)?,
            NodeKind::Socket => make(FileType::Socket, 0)?,
            NodeKind::CharDevice { .. } | NodeKind::BlockDevice { .. } if !am_root() => {
                return Err(PlaceError::NeedsRoot);
            }
            NodeKind::CharDevice { major, minor } => {
                make(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))?;
            }
            NodeKind::BlockDevice { major, minor } => {
                make(FileType::BlockDevice, rustix::fs::makedev(*major, *minor))?;
            }
            NodeKind::File { .. } | NodeKind::Directory { .. } => return Err(Errno::INVAL.into()),
        }
        let link = matches!(node.kind, NodeKind::Symlink { .. });
        let subject = meta::Subject::Named { folder, name: part, link };
        Ok(meta::settle(subject, &node.meta, self.owners)?)
    }

    fn move_in(
        &self,
        folder: BorrowedFd<'_>,
        part: &[u8],
        name: &[u8],
        there: Option<&Existing>,
    ) -> Result<(), PlaceError> {
        if there.is_some_and(|there| there.kind == FileType::Directory) {
            let cleared = if self.clear_folders {
                target::remove(folder, name).map(drop)
            } else {
                target::clear(folder, name, FileType::Directory)
            };
            match cleared {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY | Errno::XDEV) => {
                    return Err(PlaceError::InTheWay);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if self.keep {
            match rustix::fs::renameat_with(folder, part, folder, name, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => return Err(PlaceError::Appeared),
                // Some file systems do not know the flag; there the look beforehand has to do.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                result => return Ok(result?),
            }
        }
        Ok(rustix::fs::renameat(folder, part, folder, name)?)
    }
}

/// Removes a temporary name. If that fails it is only litter, which the next restore into this folder removes.
fn discard(folder: BorrowedFd<'_>, part: &[u8]) {
    let _ = rustix::fs::unlinkat(folder, part, AtFlags::empty());
}

fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}
