//! The file below the loop device: a FUSE file system with one file, which writes down what is asked of it.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyWrite, Request,
};
use rustix::io::Errno;

use super::image::Image;
use super::log::{Event, Log};

/// The only file.
const NAME: &str = "disk";
const INODE: u64 = 2;
/// The kernel may keep what it knows for ever: nothing changes but through it.
const TTL: Duration = Duration::from_secs(3600);

/// A disk that writes down what happens to it, as a file in a folder. Ends when it is dropped.
pub struct Recording {
    session: Option<BackgroundSession>,
    state: Arc<Mutex<Recorded>>,
}

#[derive(Default)]
struct Recorded {
    now: Image,
    log: Log,
}

impl Recording {
    /// Puts the disk `base` into the empty folder `point` as the file [`Recording::file`].
    ///
    /// # Errors
    /// FUSE is not to be had.
    pub fn start(base: Image, point: &Path) -> Result<Self> {
        let log = Log { base: base.clone(), events: Vec::new() };
        let state = Arc::new(Mutex::new(Recorded { now: base, log }));
        let options = [MountOption::FSName("recording".into()), MountOption::NoAtime];
        let device = Device { state: state.clone() };
        let session = fuser::spawn_mount2(device, point, &options).context("cannot mount FUSE")?;
        Ok(Recording { session: Some(session), state })
    }

    /// The name of the disk's file in its folder.
    pub fn file() -> &'static str {
        NAME
    }

    /// Writes down that something was called safe.
    pub fn mark(&self, what: u64) {
        self.lock().log.events.push(Event::Mark(what));
    }

    /// What happened so far.
    pub fn log(&self) -> Log {
        self.lock().log.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Recorded> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.join();
        }
    }
}

struct Device {
    state: Arc<Mutex<Recorded>>,
}

impl Device {
    fn lock(&self) -> std::sync::MutexGuard<'_, Recorded> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes(&self, inode: u64) -> FileAttr {
        let (kind, size) = match inode {
            INODE => (FileType::RegularFile, self.lock().now.length()),
            _ => (FileType::Directory, 0),
        };
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Device {
    fn lookup(&mut self, _: &Request<'_>, _: u64, name: &OsStr, reply: ReplyEntry) {
        match name == NAME {
            true => reply.entry(&TTL, &self.attributes(INODE), 0),
            false => reply.error(Errno::NOENT.raw_os_error()),
        }
    }

    fn getattr(&mut self, _: &Request<'_>, inode: u64, _: Option<u64>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(inode));
    }

    fn setattr(
        &mut self,
        _: &Request<'_>,
        inode: u64,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<fuser::TimeOrNow>,
        _: Option<fuser::TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<u64>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<u32>,
        reply: ReplyAttr,
    ) {
        // Times and modes mean nothing here; the length never changes.
        reply.attr(&TTL, &self.attributes(inode));
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        let state = self.lock();
        let offset = offset as u64;
        let mut buffer = vec![0; (size as usize).min(state.now.length().saturating_sub(offset) as usize)];
        state.now.read(offset, &mut buffer);
        drop(state);
        reply.data(&buffer);
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        let mut state = self.lock();
        state.now.write(offset as u64, data);
        state.log.events.push(Event::Write(offset as u64, data.into()));
        drop(state);
        reply.written(data.len() as u32);
    }

    fn fsync(&mut self, _: &Request<'_>, _: u64, _: u64, _: bool, reply: ReplyEmpty) {
        self.lock().log.events.push(Event::Flush);
        reply.ok();
    }

    // Only a close; the kernel is not to take an error for the end of fsync.
    fn flush(&mut self, _: &Request<'_>, _: u64, _: u64, _: u64, reply: ReplyEmpty) {
        reply.ok();
    }
}
