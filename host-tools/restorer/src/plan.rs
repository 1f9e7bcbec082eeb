//! What a restore would do, found out without touching the target.
//!
//! A plan holds the totals and the way to go on to [`crate::apply`]; its steps are handed out while it is made, so that
//! it takes no memory in proportion to the snapshot.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::decide::{Existing, Overwrite, Verdict, decide};
use crate::links::{LinkTable, identity};
use crate::path::{join, show};
use crate::select::{Coverage, Selection};
use crate::special::Special;
use crate::traverse::{Ahead, Hands, Item, Known, traverse};
use crate::{ContentsError, Owners, PathSet, RestoreError, View, meta, target};

/// What to restore, and how.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Paths in the snapshot; none means all of it.
    pub paths: Vec<Vec<u8>>,
    /// In place of `paths`: what was chosen name by name, out of this very snapshot.
    pub exactly: Option<Arc<PathSet>>,
    /// What happens to files that are there.
    pub overwrite: Overwrite,
    /// Remove what the snapshot does not have, within the paths asked for.
    pub delete: bool,
    /// Whom the owners in the snapshot are here.
    pub owners: Owners,
    /// What becomes of device files, setuid, setgid and file capabilities.
    pub special: Special,
    /// Threads that write file contents, at least 1.
    pub workers: usize,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions {
            paths: Vec::new(),
            exactly: None,
            overwrite: Overwrite::Always,
            delete: false,
            owners: Owners::numeric(),
            special: Special::default(),
            workers: crate::limits::WORKERS_DEFAULT,
        }
    }
}

/// One thing that a restore would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A folder is made.
    MakeFolder,
    /// A file, link, pipe, socket or device is made; with its length.
    Create(u64),
    /// One is put in the place of what is there; with its length.
    Replace(u64),
    /// Another name of a file that is restored as well.
    Link,
    /// Only owner, mode, times or attributes are set.
    Amend,
    /// It is the same already.
    Same,
    /// It differs, and the policy keeps it.
    Keep,
    /// It is removed, with everything in it.
    Delete,
    /// It cannot be done.
    Blocked(&'static str),
    /// It is, or has, what a hostile snapshot could do harm with, and that is left out.
    LeftOut(&'static str),
}

impl Step {
    /// One word for lists and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Step::MakeFolder => "folder",
            Step::Create(_) => "create",
            Step::Replace(_) => "replace",
            Step::Link => "link",
            Step::Amend => "amend",
            Step::Same => "same",
            Step::Keep => "keep",
            Step::Delete => "delete",
            Step::Blocked(_) => "blocked",
            Step::LeftOut(_) => "left-out",
        }
    }
}

/// Sums over a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Folders to make.
    pub folders: u64,
    /// Files and other names to make.
    pub create: u64,
    /// Files and other names to replace.
    pub replace: u64,
    /// Hard links to make.
    pub links: u64,
    /// Names of which only metadata is set.
    pub amend: u64,
    /// Names that stay as they are.
    pub skip: u64,
    /// Names to remove, folders counted once.
    pub delete: u64,
    /// Names that cannot be restored.
    pub blocked: u64,
    /// Device files, and files with setuid, setgid or capabilities, of which that is left out.
    pub left_out: u64,
    /// Bytes to write.
    pub bytes: u64,
}

impl Totals {
    fn add(&mut self, step: Step) {
        let count = match step {
            Step::MakeFolder => &mut self.folders,
            Step::Create(bytes) => {
                self.bytes += bytes;
                &mut self.create
            }
            Step::Replace(bytes) => {
                self.bytes += bytes;
                &mut self.replace
            }
            Step::Link => &mut self.links,
            Step::Amend => &mut self.amend,
            Step::Same | Step::Keep => &mut self.skip,
            Step::Delete => &mut self.delete,
            Step::Blocked(_) => &mut self.blocked,
            Step::LeftOut(_) => &mut self.left_out,
        };
        *count += 1;
    }

    /// Names that will be written: files, links and all other kinds but folders.
    pub fn files(&self) -> u64 {
        self.create + self.replace + self.links
    }
}

/// A restore that is ready to be shown and applied.
pub struct Plan {
    pub(crate) view: View,
    pub(crate) target: PathBuf,
    pub(crate) selection: Selection,
    pub(crate) options: RestoreOptions,
    /// What it would do.
    pub totals: Totals,
}

/// Plans the restore of `view` into the folder `target`, handing each step to `each`. Writes nothing.
///
/// # Errors
/// A path asked for is not in the snapshot, the target cannot be read, the repository cannot be reached, or deleting
/// was asked for in the machine's root without naming paths.
pub fn plan(
    view: &View,
    target: &Path,
    options: RestoreOptions,
    stop: &AtomicBool,
    each: &mut dyn FnMut(&[u8], Step),
) -> Result<Plan, RestoreError> {
    let selection = Selection::new(&options.paths, options.exactly.clone())?;
    for path in selection.paths() {
        view.lookup(path)?;
    }
    let root = open_target(target)?;
    if options.delete && selection.of(b"/") == Coverage::Inside && is_machine_root(root.as_ref()) {
        return Err(RestoreError::WouldDeleteRoot { path: target.display().to_string() });
    }
    let mut planner = Planner {
        options: &options,
        root,
        links: LinkTable::default(),
        totals: Totals::default(),
        stop,
        each,
    };
    traverse(view, &selection, options.special, &mut planner)?;
    let totals = planner.totals;
    Ok(Plan { view: view.clone(), target: target.to_owned(), selection, options, totals })
}

fn open_target(target: &Path) -> Result<Option<OwnedFd>, RestoreError> {
    match target::open_root(target) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(RestoreError::Target {
            path: show(target.as_os_str().as_encoded_bytes()),
            source: error.into(),
        }),
    }
}

fn is_machine_root(target: Option<&OwnedFd>) -> bool {
    let id = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let root = rustix::fs::stat("/").map(id);
    target.is_some_and(|fd| rustix::fs::fstat(fd).map(id) == root)
}

struct Planner<'a> {
    options: &'a RestoreOptions,
    root: Option<OwnedFd>,
    links: LinkTable,
    totals: Totals,
    stop: &'a AtomicBool,
    each: &'a mut dyn FnMut(&[u8], Step),
}

impl Planner<'_> {
    fn step(&mut self, path: &[u8], step: Step) {
        self.totals.add(step);
        (self.each)(path, step);
    }

    /// What stands in the target; trouble in looking counts as a step that is blocked.
    fn look(&mut self, parent: Option<&OwnedFd>, item: &Item) -> Option<Option<Existing>> {
        let Some(parent) = parent else { return Some(None) };
        match target::existing(parent.as_fd(), &item.node.name) {
            Ok(existing) => Some(existing),
            Err(_) => {
                self.step(&item.path, Step::Blocked("cannot be looked at in the target"));
                None
            }
        }
    }

    /// Whether a name that is to be a link already is one to the first name.
    fn is_linked(&self, first: &[u8], there: Option<&Existing>) -> bool {
        let Some((root, there)) = self.root.as_ref().zip(there) else { return false };
        let Some((parent, name)) = crate::path::split(first) else { return false };
        target::open_below(root.as_fd(), parent)
            .and_then(|parent| target::existing(parent.as_fd(), name))
            .is_ok_and(|first| first.is_some_and(|first| first.file == there.file))
    }
}

impl Hands for Planner<'_> {
    /// `None` where the target does not have the folder.
    type Folder = Option<OwnedFd>;

    fn root(&mut self, _: Known<'_>) -> Result<Self::Folder, RestoreError> {
        match &self.root {
            None => Ok(None),
            Some(root) => root
                .try_clone()
                .map(Some)
                .map_err(|source| RestoreError::Target { path: "of the restore".to_owned(), source }),
        }
    }

    fn enter(
        &mut self,
        parent: &Self::Folder,
        item: &Item,
        _: Ahead,
    ) -> Result<Option<Self::Folder>, RestoreError> {
        let Some(there) = self.look(parent.as_ref(), item) else { return Ok(None) };
        match decide(&item.node, there.as_ref(), self.options.overwrite) {
            Verdict::InTheWay => {
                self.step(&item.path, Step::Blocked("something that is no folder is in its place"));
                Ok(None)
            }
            Verdict::Enter => {
                let opened = parent.as_ref().map(|fd| target::open_folder(fd.as_fd(), &item.node.name));
                match opened.transpose() {
                    Ok(folder) => Ok(Some(folder)),
                    Err(_) => {
                        self.step(&item.path, Step::Blocked("the folder in the target cannot be opened"));
                        Ok(None)
                    }
                }
            }
            _ => {
                self.step(&item.path, Step::MakeFolder);
                Ok(Some(None))
            }
        }
    }

    fn place(&mut self, parent: &Self::Folder, item: Item) -> Result<(), RestoreError> {
        let Some(there) = self.look(parent.as_ref(), &item) else { return Ok(()) };
        let node = &item.node;
        let verdict = decide(node, there.as_ref(), self.options.overwrite);
        if verdict == Verdict::Keep {
            self.step(&item.path, Step::Keep);
            return Ok(());
        }
        let identity = identity(node);
        if let Some(first) = identity.and_then(|identity| self.links.first(identity)) {
            let linked =
                self.options.overwrite == Overwrite::IfChanged && self.is_linked(&first, there.as_ref());
            self.step(&item.path, if linked { Step::Same } else { Step::Link });
            return Ok(());
        }
        if let Some(identity) = identity {
            self.links.begin(identity, &item.path, node.meta.links);
            self.links.finish(identity, true);
        }
        let step = match (verdict, parent.as_ref().zip(there)) {
            (Verdict::Same, Some((fd, there))) => {
                let subject = meta::named(fd, node);
                let settled = meta::is_settled(subject, &there, &node.meta, &self.options.owners);
                if settled { Step::Same } else { Step::Amend }
            }
            (Verdict::Create, _) => Step::Create(node.size()),
            _ => Step::Replace(node.size()),
        };
        self.step(&item.path, step);
        Ok(())
    }

    fn leave(
        &mut self,
        folder: Self::Folder,
        path: &[u8],
        coverage: Coverage,
        known: Option<Known<'_>>,
    ) -> Result<(), RestoreError> {
        let Some(folder) = folder.filter(|_| self.options.delete && coverage == Coverage::Inside) else {
            return Ok(());
        };
        let Some(known) = known else { return Ok(()) };
        match target::names(folder.as_fd()).map(|names| known.surplus(names)) {
            Ok(Ok(names)) => {
                for name in names.iter() {
                    self.step(&join(path, name), Step::Delete);
                }
            }
            Ok(Err(why)) => self.broken_off(path, why)?,
            Err(_) => self.step(path, Step::Blocked("cannot be listed in the target")),
        }
        Ok(())
    }

    fn unreadable(&mut self, path: &[u8], _: ContentsError) -> Result<(), RestoreError> {
        self.step(path, Step::Blocked("the folder cannot be read in the repository"));
        Ok(())
    }

    fn broken_off(&mut self, path: &[u8], _: ContentsError) -> Result<(), RestoreError> {
        self.step(path, Step::Blocked("the rest of the folder cannot be read in the repository"));
        Ok(())
    }

    fn left_out(&mut self, path: &[u8], what: &'static str) {
        self.step(path, Step::LeftOut(what));
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
