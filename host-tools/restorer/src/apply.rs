//! Carries a plan out: one thread walks and gathers batches, a few fill them block by block (`bulk.rs`), the one that
//! makes the last thing in a new folder gives it its name (`hidden.rs`), and the last one out of a folder sets its times.
//!
//! Every decision is made again at the moment it is carried out, so a target that changed since the plan was shown is
//! dealt with by the same rules. What has its name stays when a restore is cut off; run again it goes on.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use mailkeep_format::Node;
use mailkeep_repository::Scratch;
use rustix::io::Errno;

use crate::batch::{Batch, Task};
use crate::bulk::{Job, whole};
use crate::decide::{Existing, Overwrite, Verdict, decide};
use crate::engine::Engine;
use crate::folder::Folder;
use crate::gate::Gate;
use crate::hidden::Hidden;
use crate::links::{LinkTable, identity};
use crate::names::Names;
use crate::path::{join, show};
use crate::place::Placer;
use crate::plan::Plan;
use crate::select::Coverage;
use crate::tally::{RestoreMonitor, Summary, Tally, add};
use crate::target::PartNames;
use crate::traverse::{Ahead, Hands, Item, Known, traverse};
use crate::uncached::Uncached;
use crate::{ContentsError, RestoreError, View, limits, meta, target};

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
            uncached: Uncached::default(),
            clear_folders: plan.options.delete,
            keep: plan.options.overwrite == Overwrite::Never,
        },
        links: LinkTable::default(),
        hidden: Hidden::default(),
        tally: Tally::new(monitor),
        root,
        gate: Gate::new(limits::BATCHES),
        open_parts: AtomicUsize::new(0),
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

impl Engine<'_> {
    fn run(&self, plan: &Plan) -> Result<(), RestoreError> {
        let (queue, jobs) = sync_channel::<Job>(limits::QUEUED_JOBS);
        let jobs = Mutex::new(jobs);
        let walked = std::thread::scope(|scope| {
            for _ in 0..self.options.workers.max(1) {
                scope.spawn(|| self.work(&jobs));
            }
            let (batch, folders) = (Batch::default(), limits::batch_folders());
            let mut walker = Walker { engine: self, view: &plan.view, queue, batch, folders };
            let walked = traverse(&plan.view, &plan.selection, plan.options.special, &mut walker);
            if walked.is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            walker.dispatch();
            walked
        });
        self.hidden.discard(self.root.as_fd());
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            Some(failure) => Err(failure),
            None if self.stop.load(Ordering::Relaxed) => Err(RestoreError::Interrupted),
            None => walked,
        }
    }

    fn work(&self, jobs: &Mutex<Receiver<Job>>) {
        let mut scratch = Scratch::default();
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match job {
                Err(_) => return,
                Ok(Job::Whole(task)) => self.make_whole(*task),
                Ok(Job::Blocks(batch, groups)) => {
                    for group in groups {
                        self.fill_from(&batch, group, &mut scratch);
                    }
                    if let Some(batch) = Arc::into_inner(batch) {
                        self.finish_batch(batch);
                    }
                }
            }
        }
    }
}

/// The walking thread.
struct Walker<'a, 'e> {
    engine: &'a Engine<'e>,
    view: &'a View,
    queue: SyncSender<Job>,
    /// What comes next, so far.
    batch: Batch,
    /// Folders that a batch may keep open.
    folders: usize,
}

impl Walker<'_, '_> {
    /// What stands in the target; trouble in looking is a problem of this name.
    fn look(&self, parent: &Folder, item: &Item) -> Option<Option<Existing>> {
        if parent.fresh {
            return Some(None);
        }
        match target::existing(parent.as_fd(), &item.node.name) {
            Ok(existing) => Some(existing),
            Err(error) => {
                self.engine.trouble(&item.path, error);
                None
            }
        }
    }

    /// Hands the batch to the workers.
    fn dispatch(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return;
        }
        batch.close();
        if !self.engine.stopped() {
            batch.gather(self.engine.placer.contents);
        }
        let count = batch.groups.len();
        let batch = Arc::new(batch);
        for start in (0..count.max(1)).step_by(limits::BLOCKS_PER_JOB) {
            let groups = start..count.min(start + limits::BLOCKS_PER_JOB);
            // Workers outlive the queue; were they gone, the scope would pass their panic on.
            let _ = self.queue.send(Job::Blocks(Arc::clone(&batch), groups));
        }
        if let Some(batch) = Arc::into_inner(batch) {
            self.engine.finish_batch(batch);
        }
    }

    fn task(parent: &Arc<Folder>, node: Node, there: Option<Existing>) -> Task {
        let identity = identity(&node);
        parent.expect();
        Task { folder: Arc::clone(parent), node, there: there.map(Box::new), identity }
    }

    fn open(
        &self,
        parent: &Folder,
        item: &Item,
        verdict: Verdict,
        there: Option<&Existing>,
        hidden: bool,
    ) -> Option<OwnedFd> {
        let (fd, name) = (parent.as_fd(), item.node.name.as_slice());
        let make = || {
            if hidden {
                self.engine.hidden.make(fd, &item.path, self.engine.placer.parts.fresh())
            } else {
                target::make_folder(fd, name)
            }
        };
        let opened = match (verdict, there) {
            (Verdict::Enter, _) => target::open_folder(fd, name),
            (_, Some(there)) => target::clear(fd, name, there.kind).and_then(|()| make()),
            (_, None) => make(),
        };
        opened.map_err(|error| self.engine.trouble(&item.path, error)).ok()
    }

    /// Removes what a restore that was cut off left behind, before anything is made in the folder: it may have taken the
    /// room that is needed now.
    fn clear_leftovers(&self, folder: &Folder, known: &Known<'_>) {
        let parts = &self.engine.placer.parts;
        // What cannot be read, here or in the repository, is told when the walk comes to it.
        let Ok(mut names) = target::names(folder.as_fd()) else { return };
        names.retain(|name| parts.is_leftover(name));
        if let Some(surplus) = (!names.is_empty()).then(|| known.surplus(names).ok()).flatten() {
            self.remove(folder, &surplus);
        }
    }

    /// Removes what the snapshot does not have.
    fn mirror(&self, folder: &Folder, known: &Known<'_>) {
        let engine = self.engine;
        let mut names = match target::names(folder.as_fd()) {
            Ok(names) => names,
            Err(error) => {
                return engine
                    .tally
                    .problem(&folder.path, &format!("cannot be listed in the target: {error}"));
            }
        };
        names.retain(|name| !engine.placer.parts.is_ours(name));
        if names.is_empty() {
            return;
        }
        match known.surplus(names) {
            Ok(surplus) => self.remove(folder, &surplus),
            Err(why) => engine.unread(&folder.path, why, "nothing is removed in it: "),
        }
    }

    fn remove(&self, folder: &Folder, surplus: &Names) {
        let engine = self.engine;
        for name in surplus.iter() {
            match target::remove(folder.as_fd(), name) {
                Ok(count) => add(&engine.tally.deleted, count),
                Err(error) => {
                    let what = format!("cannot be removed: {error}");
                    engine.tally.problem(&join(&folder.path, name), &what);
                }
            }
        }
    }
}

impl Hands for Walker<'_, '_> {
    type Folder = Arc<Folder>;

    fn root(&mut self, known: Known<'_>) -> Result<Self::Folder, RestoreError> {
        let fd = self
            .engine
            .root
            .try_clone()
            .map_err(|source| RestoreError::Target { path: "of the restore".to_owned(), source })?;
        let folder = Folder::root(fd);
        self.clear_leftovers(&folder, &known);
        Ok(Arc::new(folder))
    }

    fn enter(
        &mut self,
        parent: &Self::Folder,
        item: &Item,
        ahead: Ahead,
    ) -> Result<Option<Self::Folder>, RestoreError> {
        let Some(there) = self.look(parent, item) else { return Ok(None) };
        let engine = self.engine;
        let verdict = decide(&item.node, there.as_ref(), engine.options.overwrite);
        if verdict == Verdict::InTheWay {
            engine.tally.problem(&item.path, "something that is no folder is in its place, and is kept");
            return Ok(None);
        }
        let fresh = verdict != Verdict::Enter;
        // Only of a folder that is known whole it is known when it is complete.
        let hidden = fresh && ahead == Ahead::Whole;
        let Some(fd) = self.open(parent, item, verdict, there.as_ref(), hidden) else { return Ok(None) };
        add(&engine.tally.folders, fresh.into());
        // Folders on the way that were there already belong to this machine.
        let ours = item.coverage == Coverage::Inside && engine.options.overwrite != Overwrite::Never;
        let settle = (fresh || ours).then(|| item.node.meta.clone());
        let folder = Folder::below(parent, fd, item.path.clone(), fresh, hidden, settle);
        if !fresh {
            self.clear_leftovers(&folder, &Known::new(self.view, item.node.content()));
        }
        Ok(Some(Arc::new(folder)))
    }

    fn place(&mut self, parent: &Self::Folder, item: Item) -> Result<(), RestoreError> {
        let Some(there) = self.look(parent, &item) else { return Ok(()) };
        let (engine, node) = (self.engine, &item.node);
        let verdict = decide(node, there.as_ref(), engine.options.overwrite);
        if verdict == Verdict::Keep {
            add(&engine.tally.skipped, 1);
            return Ok(());
        }
        let identity = identity(node);
        if identity.is_some_and(|identity| engine.links.is_begun(identity)) {
            self.hold();
            self.batch.add_link(Walker::task(parent, item.node, there));
            self.dispatch_full();
            return Ok(());
        }
        if let Some(identity) = identity {
            engine.links.begin(identity, &item.path, node.meta.links);
        }
        let done = match (verdict, there.as_ref()) {
            (Verdict::Same, Some(there)) => self.amend(parent, &item, there),
            _ if !node.content().is_empty() => {
                self.add(Walker::task(parent, item.node, there));
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

    fn placed(&mut self, folder: &Self::Folder) {
        self.engine.got(folder);
    }

    fn leave(
        &mut self,
        folder: Self::Folder,
        _: &[u8],
        coverage: Coverage,
        known: Option<Known<'_>>,
    ) -> Result<(), RestoreError> {
        let delete = self.engine.options.delete && coverage == Coverage::Inside && !folder.fresh;
        // Of a folder that broke off it is not known what does not belong there.
        if let Some(known) = known.filter(|_| delete) {
            self.mirror(&folder, &known);
        }
        self.engine.release(folder);
        Ok(())
    }

    fn unreadable(&mut self, path: &[u8], why: ContentsError) -> Result<(), RestoreError> {
        self.engine.unread(path, why, "folder left out with all that is in it: ");
        Ok(())
    }

    fn broken_off(&mut self, path: &[u8], why: ContentsError) -> Result<(), RestoreError> {
        self.engine.unread(path, why, "the rest of the folder is left out: ");
        Ok(())
    }

    fn left_out(&mut self, path: &[u8], what: &'static str) {
        self.engine.tally.problem(path, what);
    }

    fn stopped(&self) -> bool {
        self.engine.stopped()
    }
}

impl Walker<'_, '_> {
    fn add(&mut self, task: Task) {
        if let Err(error) = whole(&task.node) {
            self.engine.made(&task.path(), Err(error));
            if let Some(identity) = task.identity {
                self.engine.links.finish(identity, false);
            }
            self.engine.done(task.folder);
            return;
        }
        if task.node.content().len() >= limits::STREAMED_CHUNKS {
            let _ = self.queue.send(Job::Whole(Box::new(task)));
            return;
        }
        self.hold();
        self.batch.add_file(task);
        self.dispatch_full();
    }

    /// Waits with the first name of a batch until the one before is done: two at a time would have to be half as large, and
    /// nothing is won, since the walk is much faster.
    fn hold(&mut self) {
        if self.batch.pass.is_none() {
            self.batch.pass = Some(self.engine.gate.enter());
        }
    }

    fn dispatch_full(&mut self) {
        if self.batch.is_full(self.folders) {
            self.dispatch();
        }
    }

    /// The contents are there already: sets metadata if it differs.
    fn amend(&self, parent: &Folder, item: &Item, there: &Existing) -> bool {
        let (engine, node) = (self.engine, &item.node);
        let subject = meta::named(parent, node);
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
