//! Answers the kernel's requests: what is in memory at once, what may wait for the disk on threads of its own.
//!
//! A program that reads a snapshot costs a few requests for each folder and one for each file: folders are listed with the
//! attributes of what lies in them (READDIRPLUS), and files are neither opened nor closed (an `open` that is answered with
//! ENOSYS is never asked again). Each request is a change of threads, and those were half the cost of reading everything.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    FUSE_ROOT_ID, FileType, Filesystem, KernelConfig, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use mailkeep_restorer::format::{Node, NodeKind};
use rustix::io::Errno;

use crate::ahead::Ahead;
use crate::attributes;
use crate::pool::Pool;
use crate::ready::Request as Asked;
use crate::shown::Shown;
use crate::snapshot::{News, Snapshot};
use crate::state::{FoundName, KEEP, LATEST, OpenFolder, State};

/// Requests for reading ahead that the kernel may have under way; each is up to 128 KiB.
const READ_AHEAD: u16 = 32;

pub(crate) struct SnapshotFs {
    state: Arc<State>,
    /// For files and their folders.
    files: Pool,
    /// For mail: whoever waits until its tree is made holds up nobody who reads files.
    mail: Pool,
    ahead: Ahead,
    /// What is answered at once is put together here.
    buffer: Vec<u8>,
}

impl SnapshotFs {
    /// # Errors
    /// No thread can be started.
    pub(crate) fn new(snapshots: Vec<Snapshot>, news: Option<News>) -> std::io::Result<Self> {
        let state = Arc::new(State::new(Shown::new(snapshots, news)));
        let (files, mail) = (Pool::start("mount-read")?, Pool::start("mount-mail")?);
        let ahead = Ahead::start(&state, &files)?;
        Ok(SnapshotFs { state, files, mail, ahead, buffer: Vec::new() })
    }

    /// Runs what is asked of the folder `ino` where it may wait.
    fn aside(&self, ino: u64, task: impl FnOnce(&State) + Send + 'static) {
        let state = Arc::clone(&self.state);
        let pool = if state.is_mail(ino) { &self.mail } else { &self.files };
        pool.run(move || task(&state));
    }

    /// Answers with the node behind a number: at once if its folder's listing is in memory, as it mostly is.
    fn with_node<R: Send + 'static>(
        &self,
        ino: u64,
        reply: R,
        answer: impl FnOnce(Result<&Node, Errno>, R) + Send + 'static,
    ) {
        match self.state.node_at_hand(ino) {
            Some(node) => answer(node.as_deref().map_err(|error| *error), reply),
            None => self.aside(ino, move |state| {
                let node = state.node(ino);
                answer(node.as_deref().map_err(|error| *error), reply);
            }),
        }
    }
}

fn number(error: Errno) -> i32 {
    error.raw_os_error()
}

impl Filesystem for SnapshotFs {
    fn init(&mut self, _: &Request<'_>, config: &mut KernelConfig) -> Result<(), i32> {
        // An older kernel does without.
        let _ = config.add_capabilities(fuser::consts::FUSE_DO_READDIRPLUS);
        let _ = config.add_capabilities(fuser::consts::FUSE_PARALLEL_DIROPS);
        // Else every path through a link asks where it leads to, for each file that somebody reads below `latest`.
        let _ = config.add_capabilities(fuser::consts::FUSE_CACHE_SYMLINKS);
        let _ = config.set_max_background(READ_AHEAD);
        Ok(())
    }

    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let answer = |state: &State, found: Result<FoundName, Errno>, reply: ReplyEntry| match found {
            Ok(found) => {
                let (keep, attr) = (state.keep(found.ino), found.attr);
                state.refer(found);
                reply.entry(&keep, &attr, 0);
            }
            Err(error) => reply.error(number(error)),
        };
        let is_known = name.as_bytes() != LATEST || self.state.snapshots.fresh_for().is_some();
        if parent == FUSE_ROOT_ID && is_known {
            return answer(&self.state, self.state.find(parent, name.as_bytes()), reply);
        }
        let name = name.as_bytes().to_vec();
        self.aside(parent, move |state| answer(state, state.find(parent, &name), reply));
    }

    fn forget(&mut self, _: &Request<'_>, ino: u64, count: u64) {
        self.state.forget(ino, count);
    }

    fn getattr(&mut self, _: &Request<'_>, ino: u64, _: Option<u64>, reply: ReplyAttr) {
        if let Some(attr) = self.state.made_up(ino) {
            return reply.attr(&KEEP, &attr);
        }
        self.with_node(ino, reply, move |node, reply| match node {
            Ok(node) => reply.attr(&KEEP, &attributes::of_node(ino, node)),
            Err(error) => reply.error(number(error)),
        });
    }

    fn readlink(&mut self, _: &Request<'_>, ino: u64, reply: ReplyData) {
        if let Some(target) = self.state.target(ino) {
            return reply.data(target.as_bytes());
        }
        self.with_node(ino, reply, |node, reply| match node.map(|node| &node.kind) {
            Ok(NodeKind::Symlink { target }) => reply.data(target),
            Ok(_) => reply.error(number(Errno::INVAL)),
            Err(error) => reply.error(number(error)),
        });
    }

    fn open(&mut self, _: &Request<'_>, _: u64, flags: i32, reply: ReplyOpen) {
        // The kernel refuses writers on a read-only mount; this is the second lock on that door.
        if flags & 3 != 0 {
            return reply.error(number(Errno::ROFS));
        }
        reply.error(number(Errno::NOSYS));
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        let mut request = Asked { offset, size, reply };
        if let Some(place) = self.state.place(ino) {
            match self.ahead.answer(ino, place, request) {
                Some(left) => request = left,
                None => return,
            }
        }
        if let Some(reading) = self.state.file_at_hand(ino) {
            if reading.file.read_at_hand(offset, size as usize, &mut self.buffer) {
                return request.reply.data(&self.buffer);
            }
        }
        self.state.read_aside(&self.files, ino, request);
    }

    fn opendir(&mut self, _: &Request<'_>, ino: u64, _: i32, reply: ReplyOpen) {
        if let Some(folder) = self.state.list_at_hand(ino) {
            return reply.opened(self.state.keep_folder(folder), 0);
        }
        self.aside(ino, move |state| match state.list(ino) {
            Ok(folder) => reply.opened(state.keep_folder(folder), 0),
            Err(error) => reply.error(number(error)),
        });
    }

    fn readdir(&mut self, _: &Request<'_>, ino: u64, handle: u64, offset: i64, mut reply: ReplyDirectory) {
        let state = &self.state;
        let Some(folder) = state.folder(handle) else { return reply.error(number(Errno::BADF)) };
        for at in places(&folder, offset) {
            let next = at as i64 + 1;
            let is_full = match (at, &*folder) {
                (0, _) => reply.add(ino, next, FileType::Directory, "."),
                (1, _) => reply.add(state.parent(ino), next, FileType::Directory, ".."),
                (_, OpenFolder::MadeUp(names)) => {
                    let (ino, kind, name) = &names[at - 2];
                    reply.add(*ino, next, *kind, OsStr::from_bytes(name))
                }
                (_, OpenFolder::Stored { ino, inode, listing }) => {
                    let node = &listing[at - 2];
                    let number = state.number(*ino, inode, listing, at - 2);
                    reply.add(number, next, attributes::kind(node), OsStr::from_bytes(&node.name))
                }
            };
            if is_full {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        handle: u64,
        offset: i64,
        reply: ReplyDirectoryPlus,
    ) {
        let Some(folder) = self.state.folder(handle) else { return reply.error(number(Errno::BADF)) };
        match *folder {
            OpenFolder::Stored { .. } => list_with_attributes(&self.state, ino, &folder, offset, reply),
            // What is made up is looked up, which may wait.
            OpenFolder::MadeUp(_) => {
                self.aside(ino, move |state| list_with_attributes(state, ino, &folder, offset, reply));
            }
        }
    }

    fn releasedir(&mut self, _: &Request<'_>, _: u64, handle: u64, _: i32, reply: ReplyEmpty) {
        self.state.drop_folder(handle);
        reply.ok();
    }

    fn statfs(&mut self, _: &Request<'_>, _: u64, reply: ReplyStatfs) {
        // No room and no inodes to be had: `df` shows it as full, copying into it fails early.
        reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096);
    }

    fn getxattr(&mut self, _: &Request<'_>, ino: u64, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.as_bytes().to_vec();
        self.with_node(ino, reply, move |node, reply| {
            let value = node.ok().and_then(|node| {
                let wanted = |(have, _): &&(Vec<u8>, Vec<u8>)| *have == name;
                node.meta.xattrs.iter().find(wanted).map(|(_, value)| value.as_slice())
            });
            match value {
                Some(value) => give(value, size, reply),
                None => reply.error(number(Errno::NODATA)),
            }
        });
    }

    fn listxattr(&mut self, _: &Request<'_>, ino: u64, size: u32, reply: ReplyXattr) {
        self.with_node(ino, reply, move |node, reply| {
            let mut names = Vec::new();
            for (name, _) in node.map(|node| &node.meta.xattrs[..]).unwrap_or_default() {
                names.extend_from_slice(name);
                names.push(0);
            }
            give(&names, size, reply);
        });
    }
}

/// What is to be listed from `offset` on. Offsets 1 and 2 stand behind the two dots, all others behind a name.
fn places(folder: &OpenFolder, offset: i64) -> std::ops::Range<usize> {
    usize::try_from(offset).unwrap_or(usize::MAX)..folder.len() + 2
}

/// Lists names with their attributes. What is told counts as looked up, but for the dots.
fn list_with_attributes(
    state: &State,
    ino: u64,
    folder: &OpenFolder,
    offset: i64,
    mut reply: ReplyDirectoryPlus,
) {
    for at in places(folder, offset) {
        let next = at as i64 + 1;
        if at < 2 {
            let (ino, name) = if at == 0 { (ino, ".") } else { (state.parent(ino), "..") };
            let attr = attributes::made_up(ino, FileType::Directory, 0, (0, 0));
            if reply.add(ino, next, name, &Duration::ZERO, &attr, 0) {
                break;
            }
            continue;
        }
        let (found, name) = match folder {
            OpenFolder::MadeUp(names) => {
                let name = &names[at - 2].2;
                // A message without a file is none.
                let Ok(found) = state.find(ino, name) else { continue };
                (found, name)
            }
            OpenFolder::Stored { ino, inode, listing } => {
                (state.of_stored(*ino, inode, listing, at - 2), &listing[at - 2].name)
            }
        };
        if reply.add(found.ino, next, OsStr::from_bytes(name), &state.keep(found.ino), &found.attr, 0) {
            break;
        }
        state.refer(found);
    }
    reply.ok();
}

/// Answers with an attribute, or with its length if that was the question.
fn give(value: &[u8], size: u32, reply: ReplyXattr) {
    match size as usize {
        0 => reply.size(value.len() as u32),
        room if room < value.len() => reply.error(number(Errno::RANGE)),
        _ => reply.data(value),
    }
}
