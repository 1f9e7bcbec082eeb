//! Puts one thing into its place: made under a temporary name, complete with metadata, then renamed.
//!
//! Also in a folder that this run has made: an interrupted restore must leave no file that looks whole and is not, or
//! the next run with `--overwrite never` would keep it. In a folder that has a temporary name itself (`hidden.rs`) things
//! have their own names from the start; that saves the rename, a sixth of a restore's CPU time on small mail.
//!
//! So a name in the target shows what was there before or the whole of what the snapshot has, also when the restore is
//! cut off; and a file's bytes can be read by nobody else before its owner and mode are right.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mailkeep_format::{Node, NodeKind};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::decide::Existing;
use crate::fill::{FillError, fill};
use crate::folder::Folder;
use crate::meta::{self, Shortfall};
use crate::target::{self, PartNames};
use crate::uncached::Uncached;
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

/// A file that is being written under a temporary name.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: Vec<u8>,
    pub(crate) file: OwnedFd,
    made_with: u32,
    owned: bool,
}

/// The same while it is closed.
#[derive(Debug)]
pub(crate) struct Aside {
    pub(crate) name: Vec<u8>,
    made_with: u32,
    owned: bool,
    id: (u64, u64),
}

impl Part {
    /// Closes it for now.
    pub(crate) fn set_aside(self) -> Result<Aside, PlaceError> {
        let id = Existing::from(&rustix::fs::fstat(&self.file)?).file;
        let Part { name, made_with, owned, file: _ } = self;
        Ok(Aside { name, made_with, owned, id })
    }
}

/// How to put things into place; the same for all of a restore.
pub(crate) struct Placer<'a> {
    pub(crate) contents: &'a dyn Contents,
    pub(crate) owners: &'a Owners,
    pub(crate) parts: PartNames,
    pub(crate) uncached: Uncached,
    /// A folder in a file's place is removed with all that is in it.
    pub(crate) clear_folders: bool,
    /// What appears meanwhile is kept.
    pub(crate) keep: bool,
}

impl Placer<'_> {
    /// Makes `node` in `folder`, over what was seen `there`. `wrote` hears of bytes and returns whether to go on.
    pub(crate) fn make(
        &self,
        folder: &Folder,
        node: &Node,
        there: Option<&Existing>,
        wrote: &dyn Fn(u64) -> bool,
    ) -> Result<Shortfall, PlaceError> {
        if let NodeKind::File { .. } = node.kind {
            let part = self.begin(folder, node)?;
            return match fill(self.contents, &self.uncached, node, part.file.as_fd(), wrote) {
                Ok(()) => self.finish(folder, part, node, there),
                Err(error) => {
                    discard(folder.as_fd(), &part.name);
                    Err(error.into())
                }
            };
        }
        let part = self.name_in(folder, &node.name);
        self.create_other(folder.as_fd(), &part, node)?;
        let made = self.settle_other(folder.as_fd(), &part, node).and_then(|short| {
            self.move_in(folder, &part, &node.name, there)?;
            Ok(short)
        });
        if made.is_err() {
            discard(folder.as_fd(), &part);
        }
        made
    }

    /// The name under which something is made that is to be `name`.
    fn name_in(&self, folder: &Folder, name: &[u8]) -> Vec<u8> {
        if folder.hidden { name.to_vec() } else { self.parts.fresh() }
    }

    /// Begins the file `node`: empty, under a name that nobody looks for, with its owner.
    pub(crate) fn begin(&self, folder: &Folder, node: &Node) -> Result<Part, PlaceError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let meta = &node.meta;
        let owner = (self.owners.user(meta.uid), self.owners.group(meta.gid));
        // Where new files belong to the right owner anyway, they can have their mode from the start.
        let at_once = folder.birth.get() == Some(&owner) && meta.mode & 0o600 == 0o600;
        let mode = if at_once { meta.mode & 0o777 } else { 0o600 };
        let name = self.name_in(folder, &node.name);
        let file = rustix::fs::openat(folder, &name[..], flags, Mode::from_raw_mode(mode))?;
        // In a folder that is ours alone one that was made in the same way tells what this one is like.
        if let Some((_, got)) = folder.mode.get().filter(|(asked, _)| at_once && *asked == mode) {
            return Ok(Part { name, file, made_with: *got, owned: true });
        }
        let owned = rustix::fs::fstat(&file).map(|stat| Existing::from(&stat)).and_then(|is| {
            let _ = folder.birth.set((is.uid, is.gid));
            if at_once && folder.hidden {
                let _ = folder.mode.set((mode, is.mode));
            }
            Ok((meta::own_new(file.as_fd(), &is, meta, self.owners)?, is))
        });
        match owned {
            Ok((owned, is)) => Ok(Part { name, file, made_with: is.mode, owned }),
            Err(error) => {
                discard(folder.as_fd(), &name);
                Err(error.into())
            }
        }
    }

    /// Gives a file that has its contents its metadata and its name.
    pub(crate) fn finish(
        &self,
        folder: &Folder,
        part: Part,
        node: &Node,
        there: Option<&Existing>,
    ) -> Result<Shortfall, PlaceError> {
        let finished = || {
            if let NodeKind::File { size, sparse: true, .. } = node.kind {
                // A hole at the end has to be told.
                rustix::fs::ftruncate(&part.file, size)?;
            }
            let (file, meta) = (part.file.as_fd(), &node.meta);
            let short =
                meta::settle_new(file, part.made_with, part.owned, folder.inherits, meta, self.owners)?;
            self.move_in(folder, &part.name, &node.name, there)?;
            Ok(short)
        };
        let finished = finished();
        if finished.is_err() {
            discard(folder.as_fd(), &part.name);
        }
        finished
    }

    /// Opens a file again that was set aside. Somebody else may work in that folder: it must still be the same file.
    pub(crate) fn take_up(&self, folder: &Folder, aside: Aside) -> Result<Part, PlaceError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Aside { name, made_with, owned, id } = aside;
        let file = rustix::fs::openat(folder, &name[..], flags, Mode::empty())?;
        if Existing::from(&rustix::fs::fstat(&file)?).file != id {
            return Err(Errno::STALE.into());
        }
        Ok(Part { name, file, made_with, owned })
    }

    /// Gives up a file that was begun.
    pub(crate) fn discard(&self, folder: &Folder, name: &[u8]) {
        discard(folder.as_fd(), name);
    }

    /// Makes `name` in `folder` another name of the file `first` in `from`.
    pub(crate) fn link(
        &self,
        from: BorrowedFd<'_>,
        first: &[u8],
        folder: &Folder,
        name: &[u8],
        there: Option<&Existing>,
    ) -> Result<(), PlaceError> {
        let part = self.name_in(folder, name);
        rustix::fs::linkat(from, first, folder, &part[..], AtFlags::empty())?;
        if folder.hidden {
            return Ok(());
        }
        let moved = self.move_in(folder, &part, name, there);
        // Renaming one name of a file onto another name of it does nothing and leaves both.
        discard(folder.as_fd(), &part);
        moved
    }

    fn create_other(&self, folder: BorrowedFd<'_>, part: &[u8], node: &Node) -> Result<(), PlaceError> {
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
        Ok(())
    }

    fn settle_other(
        &self,
        folder: BorrowedFd<'_>,
        part: &[u8],
        node: &Node,
    ) -> Result<Shortfall, PlaceError> {
        let link = matches!(node.kind, NodeKind::Symlink { .. });
        let subject = meta::Subject::Named { folder, name: part, link };
        Ok(meta::settle(subject, &node.meta, self.owners)?)
    }

    fn move_in(
        &self,
        folder: &Folder,
        part: &[u8],
        name: &[u8],
        there: Option<&Existing>,
    ) -> Result<(), PlaceError> {
        if folder.hidden {
            return Ok(());
        }
        let folder = folder.as_fd();
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
