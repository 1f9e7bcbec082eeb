//! Carries a plan out: one thread walks, a few write file contents, and the last one out of a folder sets its times.
//!
//! Every decision is made again at the moment it is carried out, so a target that changed since the plan was shown is
//! dealt with by the same rules. What is finished stays when a restore is cut off; run again it goes on.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use mailkeep_format::{Meta, Node};
use rustix::io::Errno;

use crate::decide::{Existing, Overwrite, Verdict, decide};
use crate::fill::FillError;
use crate::links::{Identity, LinkTable, identity};
use crate::path::{join, show, split};
use crate::place::{PlaceError, Placer};
use crate::plan::{Plan, RestoreOptions, surplus};
use crate::select::Coverage;
use crate::tally::{RestoreMonitor, Summary, Tally, add};
use crate::target::PartNames;
use crate::traverse::{Hands, Item, traverse};
use crate::view::Listing;
use crate::{ContentsError, RestoreError, limits, meta, target};

/// Restores what `plan` says. Set `stop` to end it early; what is complete by then stays.
///
/// # Errors
/// The target cannot be used, is full or failing, the repository is out of reach, or it was stopped. Single files that
/// cannot be restored are no error: they are told to `monitor` and counted.
pub fn apply(plan: &Plan, monitor: &dyn RestoreMonitor, stop: &AtomicBool) -> Result<Summary, RestoreError> {
    let target_error = |error: Errno| RestoreError::Target {
        path: show(plan.target.as_os_str().as_encoded_bytes()),
        source: error.into(),
    };
    // What is restored may be private: a target that is made here is open to its maker only.
    DirBuilder::new().recursive(true).mode(0o700).create(&plan.target).map_err(|source| {
        RestoreError::Target { path: show(plan.target.as_os_str().as_encoded_bytes()), source }
    })?;
    let root = target::open_root(&plan.target).map_err(target_error)?;
    let engine = Engine {
        options: &plan.options,
        placer: Placer {
            contents: plan.view.contents(),
            owners: &plan.options.owners,
            parts: PartNames::new(),
            clear_folders: plan.options.delete,
            keep: plan.options.overwrite == Overwrite::Never,
        },
        links: LinkTable::default(),
        tally: Tally::new(monitor),
        root,
        stop,
        failed: AtomicBool::new(false),
        failure: Mutex::new(None),
        unreachable: AtomicU32::new(0),
    };
    engine.run(plan)?;
    engine.tell_owners();
    rustix::fs::syncfs(&engine.root).map_err(|error| RestoreError::NotDurable {
        path: show(plan.target.as_os_str().as_encoded_bytes()),
        source: error.into(),
    })?;
    Ok(engine.tally.summary())
}

/// A folder of the target; whoever lets go of it last sets its metadata.
struct Folder {
    fd: OwnedFd,
    path: Vec<u8>,
    /// It was made by this run.
    fresh: bool,
    /// Metadata to set at the end; none for folders that are only passed through.
    settle: Option<Meta>,
}

/// A file whose contents a worker writes.
struct Job {
    folder: Arc<Folder>,
    listing: Listing,
    index: usize,
    path: Vec<u8>,
    there: Option<Existing>,
    identity: Option<Identity>,
}

/// What all threads of a restore share.
struct Engine<'a> {
    options: &'a RestoreOptions,
    placer: Placer<'a>,
    links: LinkTable,
    tally: Tally<'a>,
    root: OwnedFd,
    stop: &'a AtomicBool,
    failed: AtomicBool,
    failure: Mutex<Option<RestoreError>>,
    /// Reads from the repository that failed since the last one that did not.
    unreachable: AtomicU32,
}

impl Engine<'_> {
    fn run(&self, plan: &Plan) -> Result<(), RestoreError> {
        let (queue, jobs) = sync_channel::<Job>(limits::QUEUED_FILES);
        let jobs = Mutex::new(jobs);
        let walked = std::thread::scope(|scope| {
            for _ in 0..self.options.workers.max(1) {
                scope.spawn(|| self.work(&jobs));
            }
            let walked = traverse(&plan.view, &plan.selection, &mut Walker { engine: self, queue });
            if walked.is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            walked
        });
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            Some(failure) => Err(failure),
            None if self.stop.load(Ordering::Relaxed) => Err(RestoreError::Interrupted),
            None => walked,
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    /// Ends the whole restore; the first reason counts.
    fn fail(&self, error: RestoreError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }

    fn work(&self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            let node = &job.listing[job.index];
            let done = !self.stopped() && self.make(&job.folder, node, &job.path, job.there.as_ref());
            if let Some(identity) = job.identity {
                self.links.finish(identity, done);
            }
            self.release(job.folder);
        }
    }

    /// Makes one thing that is no folder; whether it is there now.
    fn make(&self, folder: &Folder, node: &Node, path: &[u8], there: Option<&Existing>) -> bool {
        let wrote = |bytes| {
            add(&self.tally.bytes, bytes);
            self.tally.progress();
            !self.stopped()
        };
        match self.placer.make(folder.fd.as_fd(), node, there, &wrote) {
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

    fn note(&self, path: &[u8], short: meta::Shortfall) {
        add(&self.tally.owners, short.owner.into());
        for note in short.notes {
            self.tally.problem(path, &note);
        }
    }

    fn report(&self, path: &[u8], error: PlaceError) {
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
    fn unread(&self, path: &[u8], source: ContentsError, prefix: &str) {
        self.tally.problem(path, &format!("{prefix}{source}"));
        if !source.is_damage()
            && self.unreachable.fetch_add(1, Ordering::Relaxed) + 1 >= limits::UNREACHABLE_IN_A_ROW
        {
            self.fail(RestoreError::Unreadable { path: show(path), source });
        }
    }

    /// The target refused something. A full or failing disk ends the restore; anything else is about this name only.
    fn trouble(&self, path: &[u8], error: Errno) {
        match error {
            Errno::NOSPC | Errno::DQUOT => self.fail(RestoreError::Full { path: show(path) }),
            Errno::IO | Errno::ROFS | Errno::NODEV => {
                self.fail(RestoreError::Target { path: show(path), source: error.into() });
            }
            other => self.tally.problem(path, &format!("cannot be written: {other}")),
        }
    }

    /// Lets go of a folder; the last to do so sets its metadata, when nothing in it will change any more.
    fn release(&self, folder: Arc<Folder>) {
        let Some(folder) = Arc::into_inner(folder) else { return };
        let Some(meta) = folder.settle.as_ref().filter(|_| !self.stopped()) else { return };
        match meta::settle(meta::open(&folder.fd), meta, &self.options.owners) {
            Ok(short) => self.note(&folder.path, short),
            Err(error) => self.trouble(&folder.path, error),
        }
    }

    fn tell_owners(&self) {
        let count = self.tally.owners.load(Ordering::Relaxed);
        if count > 0 {
            let what =
                format!("owner or group of {count} names could not be set; run as root to keep owners");
            self.tally.problem(b"", &what);
        }
    }
}

/// The walking thread.
struct Walker<'a, 'e> {
    engine: &'a Engine<'e>,
    queue: SyncSender<Job>,
}

impl Walker<'_, '_> {
    /// What stands in the target; trouble in looking is a problem of this name.
    fn look(&self, parent: &Folder, item: &Item<'_>) -> Option<Option<Existing>> {
        if parent.fresh {
            return Some(None);
        }
        match target::existing(parent.fd.as_fd(), &item.node().name) {
            Ok(existing) => Some(existing),
            Err(error) => {
                self.engine.trouble(&item.path, error);
                None
            }
        }
    }

    /// Makes `item` another name of `first`; `false` if that cannot be and it has to be a file of its own.
    fn link(&self, parent: &Folder, item: &Item<'_>, there: Option<&Existing>, first: &[u8]) -> bool {
        let engine = self.engine;
        let Some((folder, name)) = split(first) else { return false };
        let Ok(folder) = target::open_below(engine.root.as_fd(), folder) else { return false };
        let Ok(Some(original)) = target::existing(folder.as_fd(), name) else { return false };
        if there.is_some_and(|there| there.file == original.file) {
            add(&engine.tally.skipped, 1);
            return true;
        }
        let own = &item.node().name;
        match engine.placer.link(folder.as_fd(), name, parent.fd.as_fd(), own, there) {
            Ok(()) => add(&engine.tally.files, 1),
            // Too many names, or another file system below: a copy is better than nothing.
            Err(PlaceError::Fill(FillError::Write(Errno::MLINK | Errno::XDEV | Errno::PERM))) => {
                return false;
            }
            Err(error) => engine.report(&item.path, error),
        }
        true
    }

    fn open(
        &self,
        parent: &Folder,
        item: &Item<'_>,
        verdict: Verdict,
        there: Option<&Existing>,
    ) -> Option<OwnedFd> {
        let (fd, name) = (parent.fd.as_fd(), item.node().name.as_slice());
        let opened = match (verdict, there) {
            (Verdict::Enter, _) => target::open_folder(fd, name),
            (_, Some(there)) => {
                target::clear(fd, name, there.kind).and_then(|()| target::make_folder(fd, name))
            }
            (_, None) => target::make_folder(fd, name),
        };
        opened.map_err(|error| self.engine.trouble(&item.path, error)).ok()
    }

    /// Removes what the snapshot does not have, and what a restore that was cut off left behind.
    fn clean(&self, folder: &Folder, coverage: Coverage, listing: &Listing) {
        let engine = self.engine;
        let parts = &engine.placer.parts;
        let delete = engine.options.delete && coverage == Coverage::Inside;
        let names = match target::names(folder.fd.as_fd()) {
            Ok(names) => names,
            Err(error) => {
                return engine
                    .tally
                    .problem(&folder.path, &format!("cannot be listed in the target: {error}"));
            }
        };
        for name in surplus(names, listing) {
            if parts.is_ours(&name) || !(delete || parts.is_leftover(&name)) {
                continue;
            }
            match target::remove(folder.fd.as_fd(), &name) {
                Ok(count) => add(&engine.tally.deleted, count),
                Err(error) => {
                    let what = format!("cannot be removed: {error}");
                    engine.tally.problem(&join(&folder.path, &name), &what);
                }
            }
        }
    }
}

impl Hands for Walker<'_, '_> {
    type Folder = Arc<Folder>;

    fn root(&mut self) -> Result<Self::Folder, RestoreError> {
        let fd = self
            .engine
            .root
            .try_clone()
            .map_err(|source| RestoreError::Target { path: "of the restore".to_owned(), source })?;
        Ok(Arc::new(Folder { fd, path: b"/".to_vec(), fresh: false, settle: None }))
    }

    fn enter(
        &mut self,
        parent: &Self::Folder,
        item: &Item<'_>,
    ) -> Result<Option<Self::Folder>, RestoreError> {
        let Some(there) = self.look(parent, item) else { return Ok(None) };
        let engine = self.engine;
        let verdict = decide(item.node(), there.as_ref(), engine.options.overwrite);
        if verdict == Verdict::InTheWay {
            engine.tally.problem(&item.path, "something that is no folder is in its place, and is kept");
            return Ok(None);
        }
        let Some(fd) = self.open(parent, item, verdict, there.as_ref()) else { return Ok(None) };
        let fresh = verdict != Verdict::Enter;
        add(&engine.tally.folders, fresh.into());
        // Folders on the way that were there already belong to this machine.
        let ours = item.coverage == Coverage::Inside && engine.options.overwrite != Overwrite::Never;
        let settle = (fresh || ours).then(|| item.node().meta.clone());
        Ok(Some(Arc::new(Folder { fd, path: item.path.clone(), fresh, settle })))
    }

    fn place(&mut self, parent: &Self::Folder, item: &Item<'_>) -> Result<(), RestoreError> {
        let Some(there) = self.look(parent, item) else { return Ok(()) };
        let (engine, node) = (self.engine, item.node());
        let verdict = decide(node, there.as_ref(), engine.options.overwrite);
        if verdict == Verdict::Keep {
            add(&engine.tally.skipped, 1);
            return Ok(());
        }
        let identity = identity(node);
        if let Some(first) = identity.and_then(|identity| engine.links.first(identity)) {
            if engine.stopped() || self.link(parent, item, there.as_ref(), &first) {
                engine.tally.progress();
                return Ok(());
            }
        }
        if let Some(identity) = identity {
            engine.links.begin(identity, &item.path, node.meta.links);
        }
        let done = match (verdict, there.as_ref()) {
            (Verdict::Same, Some(there)) => self.amend(parent, item, there),
            _ if node.is_file() => {
                let (folder, listing) = (Arc::clone(parent), Arc::clone(item.listing));
                let job =
                    Job { folder, listing, index: item.index, path: item.path.clone(), there, identity };
                // Workers outlive the queue; were they gone, the scope would pass their panic on.
                let _ = self.queue.send(job);
                return Ok(());
            }
            _ => engine.make(parent, node, &item.path, there.as_ref()),
        };
        if let Some(identity) = identity {
            engine.links.finish(identity, done);
        }
        engine.tally.progress();
        Ok(())
    }

    fn leave(
        &mut self,
        folder: Self::Folder,
        _: &[u8],
        coverage: Coverage,
        listing: &Listing,
    ) -> Result<(), RestoreError> {
        if !folder.fresh {
            self.clean(&folder, coverage, listing);
        }
        self.engine.release(folder);
        Ok(())
    }

    fn unreadable(&mut self, path: &[u8], why: ContentsError) -> Result<(), RestoreError> {
        self.engine.unread(path, why, "folder left out with all that is in it: ");
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.engine.stopped()
    }
}

impl Walker<'_, '_> {
    /// The contents are there already: sets metadata if it differs.
    fn amend(&self, parent: &Folder, item: &Item<'_>, there: &Existing) -> bool {
        let (engine, node) = (self.engine, item.node());
        let subject = meta::named(&parent.fd, node);
        if meta::is_settled(subject, there, &node.meta, &engine.options.owners) {
            add(&engine.tally.skipped, 1);
            return true;
        }
        match meta::settle(subject, &node.meta, &engine.options.owners) {
            Ok(short) => engine.note(&item.path, short),
            Err(error) => engine.trouble(&item.path, error),
        }
        add(&engine.tally.amended, 1);
        true
    }
}
