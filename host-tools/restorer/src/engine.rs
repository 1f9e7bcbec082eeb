//! What all threads of a restore share: where it goes, what is known of links, the count, and how trouble is taken.
//!
//! Trouble with one name is told and counted; a target that is full or failing, or a repository that is out of reach,
//! ends the whole restore, and the first such reason is the one that is reported.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mailkeep_format::Node;
use rustix::io::Errno;

use crate::decide::Existing;
use crate::fill::FillError;
use crate::folder::Folder;
use crate::gate::Gate;
use crate::hidden::Hidden;
use crate::links::LinkTable;
use crate::path::show;
use crate::place::{PlaceError, Placer};
use crate::plan::RestoreOptions;
use crate::tally::{Tally, add};
use crate::{ContentsError, RestoreError, limits, meta};

/// What all threads of a restore share.
pub(crate) struct Engine<'a> {
    pub(crate) options: &'a RestoreOptions,
    pub(crate) placer: Placer<'a>,
    pub(crate) links: LinkTable,
    pub(crate) hidden: Hidden,
    pub(crate) tally: Tally<'a>,
    pub(crate) root: OwnedFd,
    pub(crate) gate: Arc<Gate>,
    /// Files that wait open for a further piece.
    pub(crate) open_parts: AtomicUsize,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) failed: AtomicBool,
    pub(crate) failure: Mutex<Option<RestoreError>>,
    /// Reads from the repository that failed since the last one that did not.
    pub(crate) unreachable: AtomicU32,
}

impl Engine<'_> {
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    /// Ends the whole restore; the first reason counts.
    pub(crate) fn fail(&self, error: RestoreError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Makes one thing that is no folder, by itself; whether it is there now.
    pub(crate) fn make(&self, folder: &Folder, node: &Node, path: &[u8], there: Option<&Existing>) -> bool {
        let made = self.placer.make(folder, node, there, &|bytes| self.wrote(bytes));
        self.made(path, made)
    }

    /// Counts bytes; whether to go on.
    pub(crate) fn wrote(&self, bytes: u64) -> bool {
        add(&self.tally.bytes, bytes);
        self.tally.progress();
        !self.stopped()
    }

    /// Counts a thing that was made, or tells why not.
    pub(crate) fn made(&self, path: &[u8], made: Result<meta::Shortfall, PlaceError>) -> bool {
        match made {
            Ok(short) => {
                self.note(path, short);
                add(&self.tally.files, 1);
                self.unreachable.store(0, Ordering::Relaxed);
                true
            }
            Err(error) => {
                self.report(path, error);
                false
            }
        }
    }

    pub(crate) fn note(&self, path: &[u8], short: meta::Shortfall) {
        add(&self.tally.owners, short.owner.into());
        for note in short.notes {
            self.tally.problem(path, &note);
        }
    }

    pub(crate) fn report(&self, path: &[u8], error: PlaceError) {
        match error {
            PlaceError::InTheWay => {
                let what = "a folder that is not empty is in its place; --delete would remove it";
                self.tally.problem(path, what);
            }
            PlaceError::NeedsRoot => self.tally.problem(path, "device files can only be made by root"),
            PlaceError::Appeared => add(&self.tally.skipped, 1),
            PlaceError::Fill(FillError::Stopped) => {}
            PlaceError::Fill(FillError::Contents(source)) => self.unread(path, source, ""),
            PlaceError::Fill(FillError::Write(error)) => self.trouble(path, error),
        }
    }

    /// The snapshot's bytes could not be had. A few times that is a problem of those files; many times in a row the
    /// disk is gone.
    pub(crate) fn unread(&self, path: &[u8], source: ContentsError, prefix: &str) {
        self.tally.problem(path, &format!("{prefix}{source}"));
        if !source.is_damage()
            && self.unreachable.fetch_add(1, Ordering::Relaxed) + 1 >= limits::UNREACHABLE_IN_A_ROW
        {
            self.fail(RestoreError::Unreadable { path: show(path), source });
        }
    }

    /// The target refused something. A full or failing disk ends the restore; anything else is about this name only.
    pub(crate) fn trouble(&self, path: &[u8], error: Errno) {
        match error {
            Errno::NOSPC | Errno::DQUOT => self.fail(RestoreError::Full { path: show(path) }),
            Errno::IO | Errno::ROFS | Errno::NODEV => {
                self.fail(RestoreError::Target { path: show(path), source: error.into() });
            }
            other => self.tally.problem(path, &format!("cannot be written: {other}")),
        }
    }

    /// A name in `folder` is made or given up.
    pub(crate) fn done(&self, folder: Arc<Folder>) {
        self.got(&folder);
        self.release(folder);
    }

    /// One thing less is missing in `folder`; when it was the last the folder gets its name.
    pub(crate) fn got(&self, folder: &Folder) {
        // Of a restore that was stopped something is missing that was not made: see `Hidden::discard`.
        if !folder.got() || self.stopped() {
            return;
        }
        let Some(parent) = folder.parent().filter(|_| folder.hidden) else { return };
        match self.hidden.reveal(parent.as_fd(), &folder.path) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let what = "something appeared in its place meanwhile; what was restored stands beside it under a \
                            temporary name, which the next restore removes";
                self.tally.problem(&folder.path, what);
            }
            Err(error) => self.trouble(&folder.path, error),
        }
    }

    /// Lets go of a folder; the last to do so sets its metadata, when nothing in it will change any more.
    pub(crate) fn release(&self, folder: Arc<Folder>) {
        let mut held = Some(folder);
        while let Some(folder) = held.take().and_then(Arc::into_inner) {
            if let Some(meta) = folder.settle.as_ref().filter(|_| !self.stopped()) {
                match meta::settle(meta::open(&folder), meta, &self.options.owners) {
                    Ok(short) => self.note(&folder.path, short),
                    Err(error) => self.trouble(&folder.path, error),
                }
            }
            held = folder.into_parent();
        }
    }

    pub(crate) fn tell_owners(&self) {
        let count = self.tally.owners.load(Ordering::Relaxed);
        if count > 0 {
            let what =
                format!("owner or group of {count} names could not be set; run as root to keep owners");
            self.tally.problem(b"", &what);
        }
    }
}
