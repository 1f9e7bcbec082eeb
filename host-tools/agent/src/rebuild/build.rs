//! Builds the trees beside those that mail uses, from what the box says and from what is here already.
//!
//! Promises: nothing outside of the places beside is written; every name is used relative to an open folder and no link is
//! followed; a file that is shared with the tree that mail uses is never written through; what is reused was hashed from
//! the very bytes that are kept. Memory follows the depth of folders and the number of files with several names.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailkeep_format::{ContentHash, Node, NodeKind};
use mailkeep_link::rebuild::{Fill, Folder, FolderNumber, Has, Held, Lay, Place, Raise, Raised, Seal};
use mailkeep_mail::scope::FileClass;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::settle::{Owners, make, settle};
use super::site::Site;
use crate::dir::Directory;
use crate::error::AgentError;
use crate::limits;
use crate::meta::{Facts, file_type};
use crate::places::Places;
use crate::swap::ground::{can_exchange, sync_all};
use crate::swap::journal::Step;
use crate::swap::{self, beside};
use crate::window::state::{Lock, StateFolder};

/// Trees that are being built, or only looked at.
pub struct Build {
    snapshot: String,
    trial: bool,
    profile: Arc<Places>,
    owners: Owners,
    trees: Vec<Raising>,
    folders: HashMap<FolderNumber, Open>,
    lays: VecDeque<Laid>,
    /// Where the first name of a file with several names is.
    twins: HashMap<(u64, u64), Twin>,
    counts: Raised,
    /// What could not be done, since it was last asked for.
    problems: Vec<String>,
    /// Nobody else builds here; none where nothing is written.
    _lock: Option<Lock>,
}

struct Raising {
    site: Site,
    /// Where it is built.
    built: PathBuf,
    /// The folder that is in; none where nothing is written.
    holder: Option<Directory>,
    begun: bool,
}

/// A folder that is not sealed.
struct Open {
    node: Node,
    new: Option<Directory>,
    live: Option<Directory>,
    /// As the profile calls it.
    path: PathBuf,
    tree: usize,
}

#[derive(Clone)]
struct Twin {
    tree: usize,
    /// Below the tree.
    path: PathBuf,
}

/// A [`Lay`] whose bytes are not all there.
struct Laid {
    folder: FolderNumber,
    nodes: Vec<Node>,
    states: Vec<State>,
    /// The file that was written to last.
    writing: Option<(u32, File)>,
}

enum State {
    /// A file of its own.
    Own,
    /// The very file of the tree that mail uses.
    Shared,
    /// Another name of one that was there before.
    Twin(Twin),
    /// No file.
    Other,
}

/// Held by whoever builds trees.
const BUILD_LOCK: &str = "build.lock";

/// The right to build trees beside those of a service.
///
/// # Errors
/// Another restore builds.
pub fn lock(folder: &StateFolder) -> Result<Lock, AgentError> {
    folder.lock_within(BUILD_LOCK, limits::BUSY_PATIENCE)?.ok_or_else(|| AgentError::Rebuild {
        why: "another restore builds trees on this server; try again when it is done".to_owned(),
    })
}

/// Trees beside that a build has left which was broken off: whoever asks has the [`lock`]. Not those that are kept.
///
/// # Errors
/// The places cannot be looked at.
pub fn left_behind(profile: &Places, folder: &StateFolder) -> Result<Vec<PathBuf>, AgentError> {
    if swap::pending(folder)?.is_some() {
        return Ok(Vec::new());
    }
    let kept = swap::kept(folder)?.map(|kept| kept.places).unwrap_or_default();
    let mut holders: Vec<PathBuf> =
        Site::all(profile)?.iter().map(|site| site.ground().join(mailkeep_mail::scope::BESIDE)).collect();
    holders.sort();
    holders.dedup();
    let mut left = Vec::new();
    for holder in holders {
        let names = match Directory::open_exactly(&holder).and_then(|open| open.names()) {
            Ok(names) => names,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(failed("list", &holder, error)),
        };
        let places = names.iter().map(|name| at(&holder, name));
        left.extend(places.filter(|place| !kept.iter().any(|kept| kept.starts_with(place))));
    }
    left.sort();
    Ok(left)
}

/// An error at a path below a tree.
fn failed(action: &'static str, path: &Path, error: impl Into<std::io::Error>) -> AgentError {
    AgentError::State { action, path: path.to_owned(), source: error.into() }
}

fn out_of_order(said: &'static str) -> AgentError {
    AgentError::OutOfOrder { said }
}

fn at(path: &Path, name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    path.join(std::ffi::OsStr::from_bytes(name))
}

impl Build {
    /// Makes the places beside; what an earlier build left there goes.
    ///
    /// # Errors
    /// Another restore builds here, they cannot be made, or folders cannot be exchanged there.
    pub fn begin(raise: Raise, profile: Arc<Places>, folder: &StateFolder) -> Result<Build, AgentError> {
        let lock = (!raise.trial).then(|| lock(folder)).transpose()?;
        let built = |(index, site): (usize, Site)| {
            let name =
                site.real.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            (site.ground().join(mailkeep_mail::scope::BESIDE).join(format!("{index}-{name}")), site)
        };
        let places: Vec<(PathBuf, Site)> = Site::all(&profile)?.into_iter().enumerate().map(built).collect();
        // Before any is made: what is removed takes an empty holder along, which several trees may share.
        for (built, _) in places.iter().filter(|_| !raise.trial) {
            beside::remove(built)?;
        }
        let mut trees = Vec::new();
        for (built, site) in places {
            let holder = if raise.trial { None } else { Some(ground_beside(&site)?) };
            trees.push(Raising { site, built, holder, begun: false });
        }
        Ok(Build {
            snapshot: raise.snapshot,
            trial: raise.trial,
            owners: Owners::by_name(&raise.users, &raise.groups),
            profile,
            trees,
            folders: HashMap::new(),
            lays: VecDeque::new(),
            twins: HashMap::new(),
            counts: Raised::default(),
            problems: Vec::new(),
            _lock: lock,
        })
    }

    /// The snapshot that is built.
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }

    /// What could not be done since this was asked last.
    pub fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    /// A folder begins.
    ///
    /// # Errors
    /// It cannot be made, or is none that can be.
    pub fn folder(&mut self, folder: Folder) -> Result<(), AgentError> {
        if self.folders.contains_key(&folder.number)
            || self.folders.len() > mailkeep_format::limits::DEPTH_MAX
        {
            return Err(out_of_order("Folder"));
        }
        let open = match folder.place {
            Place::Tree(index) => self.top(index as usize, folder.node)?,
            Place::In(parent) => {
                let parent = self.folders.get(&parent).ok_or_else(|| out_of_order("Folder"))?;
                let path = at(&parent.path, &folder.node.name);
                let name = folder.node.name.as_slice();
                Open {
                    new: parent.new.as_ref().map(|new| make_folder(new, name, &path)).transpose()?,
                    live: parent.live.as_ref().and_then(|live| live.open_child(name).ok()),
                    path,
                    tree: parent.tree,
                    node: folder.node,
                }
            }
        };
        self.folders.insert(folder.number, open);
        Ok(())
    }

    fn top(&mut self, index: usize, node: Node) -> Result<Open, AgentError> {
        let tree = self.trees.get_mut(index).ok_or_else(|| out_of_order("Folder"))?;
        if std::mem::replace(&mut tree.begun, true) {
            return Err(out_of_order("Folder"));
        }
        let new = match (&tree.holder, tree.built.file_name()) {
            (Some(holder), Some(name)) => Some(make_folder(holder, name.as_encoded_bytes(), &tree.built)?),
            _ => None,
        };
        let live = Directory::open_exactly(&tree.site.real).ok();
        Ok(Open { node, new, live, path: tree.site.path.clone(), tree: index })
    }

    /// What of these is here already; it is kept beside at once.
    ///
    /// # Errors
    /// Something cannot be made.
    pub fn lay(&mut self, lay: Lay) -> Result<Held, AgentError> {
        let mut states = Vec::with_capacity(lay.nodes.len());
        let mut has = Vec::with_capacity(lay.nodes.len());
        for (node, pieces) in lay.nodes.iter().zip(&lay.pieces) {
            let (state, held) = self.one(lay.folder, node, pieces)?;
            states.push(state);
            has.push(held);
        }
        self.lays.push_back(Laid { folder: lay.folder, nodes: lay.nodes, states, writing: None });
        Ok(Held { folder: lay.folder, nodes: has })
    }

    fn one(&mut self, folder: FolderNumber, node: &Node, pieces: &[u32]) -> Result<(State, Has), AgentError> {
        let open = self.folders.get(&folder).ok_or_else(|| out_of_order("Lay"))?;
        let NodeKind::File { size, .. } = node.kind else { return Ok((State::Other, Has::All)) };
        let path = at(&open.path, &node.name);
        let identity = (node.meta.device, node.meta.inode);
        if node.meta.links > 1 {
            if let Some(twin) = self.twins.get(&identity) {
                return Ok((State::Twin(twin.clone()), Has::All));
            }
            // Of more than that each name becomes a file of its own.
            if self.twins.len() < limits::TWINS {
                let below = path.strip_prefix(&self.trees[open.tree].site.path).unwrap_or(&path).to_owned();
                self.twins.insert(identity, Twin { tree: open.tree, path: below });
            }
        }
        let Some(new) = &open.new else {
            let there = open.live.as_ref().and_then(|live| live.stat(&node.name).ok());
            let is_message = self.profile.classify(&path, false) == FileClass::Message;
            let has = there.map_or(Has::Nothing, |stat| {
                let facts = Facts::of(&stat);
                let alike = file_type(&stat) == FileType::RegularFile
                    && (facts.size, facts.mtime) == (size, node.meta.mtime);
                match alike {
                    true if is_message && self.is_settled(node, &stat) => Has::All,
                    true => Has::Pieces(Vec::new()),
                    false => Has::Nothing,
                }
            });
            return Ok((State::Own, has));
        };
        let source = open.live.as_ref().and_then(|live| Some((live, candidate(live, &node.name, size)?)));
        if let Some((live, (file, stat))) = source.filter(|_| size > 0 && !pieces.is_empty()) {
            let is_message = self.profile.classify(&path, false) == FileClass::Message;
            if is_message && self.is_settled(node, &stat) && share(live, new, &node.name, &stat) {
                let kept = new.open_file(&node.name).map_err(|error| failed("open", &path, error))?;
                if let Some(hashes) =
                    hashes(&kept, pieces, None).map_err(|error| failed("read", &path, error))?
                {
                    self.counts.linked += 1;
                    return Ok((State::Shared, Has::Pieces(hashes)));
                }
                // It was cut short meanwhile: no message file is.
                unlinkat(new, node.name.as_slice(), AtFlags::empty())
                    .map_err(|error| failed("remove", &path, error))?;
            }
            let kept = create(new, &node.name).map_err(|error| failed("make", &path, error))?;
            // What is hashed is what is written: the other one may change at any time.
            if let Some(hashes) =
                hashes(&file, pieces, Some(&kept)).map_err(|error| failed("copy", &path, error))?
            {
                self.counts.copied += size;
                return Ok((State::Own, Has::Pieces(hashes)));
            }
            kept.set_len(0).map_err(|error| failed("empty", &path, error))?;
            return Ok((State::Own, Has::Nothing));
        }
        create(new, &node.name).map_err(|error| failed("make", &path, error))?;
        Ok((State::Own, if size == 0 { Has::All } else { Has::Nothing }))
    }

    /// Whether a file of the tree that mail uses has the metadata that is wanted, so that it can be shared.
    #[allow(clippy::unnecessary_cast)] // Its width differs between architectures.
    fn is_settled(&self, node: &Node, stat: &rustix::fs::Stat) -> bool {
        let meta = &node.meta;
        let facts = Facts::of(stat);
        meta.xattrs.is_empty()
            && (stat.st_mode & 0o7777, (stat.st_uid, stat.st_gid)) == (meta.mode, self.owners.of(meta))
            && facts.mtime == meta.mtime
            // What has several names there may not have been one file in the snapshot.
            && stat.st_nlink as u64 == 1
    }

    /// Bytes for a file of the oldest lay.
    ///
    /// # Errors
    /// They are not of it, or cannot be written.
    pub fn fill(&mut self, fill: &Fill) -> Result<(), AgentError> {
        let laid = self.lays.front_mut().ok_or_else(|| out_of_order("Fill"))?;
        let open = self.folders.get(&laid.folder).ok_or_else(|| out_of_order("Fill"))?;
        let index = fill.index as usize;
        let (Some(node), Some(state), Some(new)) =
            (laid.nodes.get(index), laid.states.get_mut(index), &open.new)
        else {
            return Err(out_of_order("Fill"));
        };
        let path = at(&open.path, &node.name);
        match state {
            State::Own => {}
            State::Shared => {
                unshare(new, &node.name).map_err(|error| failed("copy", &path, error))?;
                *state = State::Own;
                self.counts.linked -= 1;
            }
            State::Twin(_) | State::Other => return Err(out_of_order("Fill")),
        }
        if fill.offset.checked_add(fill.bytes.len() as u64).is_none_or(|end| end > node.size()) {
            return Err(out_of_order("Fill"));
        }
        if laid.writing.as_ref().is_none_or(|(writing, _)| *writing != fill.index) {
            let file = open_to_write(new, &node.name).map_err(|error| failed("open", &path, error))?;
            laid.writing = Some((fill.index, file));
        }
        if let Some((_, file)) = &laid.writing {
            file.write_all_at(&fill.bytes, fill.offset).map_err(|error| failed("write", &path, error))?;
        }
        self.counts.filled += fill.bytes.len() as u64;
        Ok(())
    }

    /// The oldest lay is complete.
    ///
    /// # Errors
    /// It is not, or metadata cannot be set.
    pub fn settle(&mut self) -> Result<(), AgentError> {
        let laid = self.lays.pop_front().ok_or_else(|| out_of_order("Settle"))?;
        let open = self.folders.get(&laid.folder).ok_or_else(|| out_of_order("Settle"))?;
        self.counts.files += laid.nodes.len() as u64;
        let Some(new) = &open.new else { return Ok(()) };
        let mut short = Vec::new();
        for (node, state) in laid.nodes.iter().zip(&laid.states) {
            let path = at(&open.path, &node.name);
            match state {
                State::Shared => {}
                State::Other => {
                    if !make(new, node, &self.owners).map_err(|error| failed("make", &path, error))? {
                        short.push(format!("{}: devices are left out", path.display()));
                    }
                }
                State::Twin(twin) => {
                    self.join(twin, new, &node.name).map_err(|error| failed("link", &path, error))?
                }
                State::Own => {
                    let file =
                        open_to_write(new, &node.name).map_err(|error| failed("open", &path, error))?;
                    let length = file.metadata().map_err(|error| failed("look at", &path, error))?.len();
                    if matches!(node.kind, NodeKind::File { sparse: true, .. }) && length < node.size() {
                        file.set_len(node.size()).map_err(|error| failed("lengthen", &path, error))?;
                    } else if length != node.size() {
                        return Err(AgentError::Rebuild {
                            why: format!("{} has {length} of {} bytes", path.display(), node.size()),
                        });
                    }
                    let left =
                        settle(&file, node, &self.owners).map_err(|error| failed("settle", &path, error))?;
                    short.extend(left.into_iter().map(|what| format!("{}: {what}", path.display())));
                }
            }
        }
        self.note(short);
        Ok(())
    }

    fn note(&mut self, short: Vec<String>) {
        let room = limits::REBUILD_PROBLEMS.saturating_sub(self.problems.len());
        self.problems.extend(short.into_iter().take(room));
    }

    /// Gives a file that was built one more name.
    fn join(&self, twin: &Twin, new: &Directory, name: &[u8]) -> Result<(), Errno> {
        let tree = &self.trees[twin.tree];
        let holder = tree.holder.as_ref().ok_or(Errno::NOENT)?;
        let mut folder = holder.open_child(tree.built.file_name().ok_or(Errno::INVAL)?.as_encoded_bytes())?;
        for part in twin.path.parent().into_iter().flat_map(Path::components) {
            folder = folder.open_child(part.as_os_str().as_encoded_bytes())?;
        }
        let first = twin.path.file_name().ok_or(Errno::INVAL)?;
        linkat(&folder, first, new, name, AtFlags::empty())
    }

    /// A folder is complete.
    ///
    /// # Errors
    /// It is not, or its metadata cannot be set.
    pub fn seal(&mut self, seal: Seal) -> Result<(), AgentError> {
        if self.lays.iter().any(|laid| laid.folder == seal.folder) {
            return Err(out_of_order("Seal"));
        }
        let open = self.folders.remove(&seal.folder).ok_or_else(|| out_of_order("Seal"))?;
        let Some(new) = &open.new else { return Ok(()) };
        let left =
            settle(new, &open.node, &self.owners).map_err(|error| failed("settle", &open.path, error))?;
        let left = left.into_iter().map(|what| format!("{}: {what}", open.path.display())).collect();
        self.note(left);
        Ok(())
    }

    /// Everything was said: makes it durable.
    ///
    /// # Errors
    /// Something is missing, or it cannot be made durable.
    pub fn raised(&mut self) -> Result<Raised, AgentError> {
        let complete =
            self.folders.is_empty() && self.lays.is_empty() && self.trees.iter().all(|tree| tree.begun);
        if !complete {
            return Err(out_of_order("Raised"));
        }
        for tree in &self.trees {
            if let Some(holder) = &tree.holder {
                sync_all(holder).map_err(|error| failed("make durable", &tree.built, error))?;
            }
        }
        Ok(self.counts)
    }

    /// The steps that exchange the trees, as they stand now: mail must be down.
    ///
    /// # Errors
    /// They cannot be looked at.
    #[allow(clippy::unnecessary_cast)] // Its width differs between architectures.
    pub fn steps(&self) -> Result<Vec<Step>, AgentError> {
        if self.trial {
            return Err(out_of_order("Swap"));
        }
        let mut steps = Vec::new();
        let inode = |path: &Path| {
            let (parent, name) = path.parent().zip(path.file_name()).ok_or(Errno::INVAL)?;
            match Directory::open_exactly(parent)?.stat(name.as_encoded_bytes()) {
                Ok(stat) => Ok(Some(stat.st_ino as u64)),
                Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let mut step = |live: PathBuf, beside: PathBuf| {
            let look = |path: &Path| inode(path).map_err(|error: Errno| failed("look at", path, error));
            let (old, new) = (look(&live)?, look(&beside)?);
            steps.push(Step { live, beside, old, new });
            Ok::<(), AgentError>(())
        };
        for tree in &self.trees {
            if !tree.site.mounted {
                step(tree.site.real.clone(), tree.built.clone())?;
                continue;
            }
            let names = |path: &Path| {
                Directory::open_exactly(path)
                    .and_then(|folder| folder.names())
                    .map_err(|error| failed("list", path, error))
            };
            let mut all = names(&tree.site.real)?;
            all.extend(names(&tree.built)?);
            all.sort_unstable();
            all.dedup();
            for name in all.iter().filter(|name| !beside::stays(name)) {
                step(at(&tree.site.real, name), at(&tree.built, name))?;
            }
        }
        Ok(steps)
    }

    /// Puts a file in the place of the one at `path` (as the profile calls it) in a tree that is built, with the owner and
    /// the mode that it has.
    ///
    /// # Errors
    /// The place is in none of the trees, or it cannot be written.
    pub fn put(&self, path: &Path, from: &File) -> Result<(), AgentError> {
        const PART: &[u8] = b".mailkeep-part";
        let wrong = |error: Errno| failed("write", path, error);
        let tree = self.trees.iter().find(|tree| path.starts_with(&tree.site.path));
        let Some((tree, below)) =
            tree.and_then(|tree| Some((tree, path.strip_prefix(&tree.site.path).ok()?)))
        else {
            let why = format!("{} lies in none of the trees that are rebuilt", path.display());
            return Err(AgentError::Rebuild { why });
        };
        let holder = tree.holder.as_ref().ok_or_else(|| out_of_order("List"))?;
        let (Some(top), Some(name)) = (tree.built.file_name(), below.file_name()) else {
            return Err(wrong(Errno::INVAL));
        };
        let mut folder = holder.open_child(top.as_encoded_bytes()).map_err(wrong)?;
        for part in below.parent().into_iter().flat_map(Path::components) {
            folder = folder.open_child(part.as_os_str().as_encoded_bytes()).map_err(wrong)?;
        }
        let put = || -> std::io::Result<()> {
            let mut new = create(&folder, PART)?;
            std::io::copy(&mut &*from, &mut new)?;
            let stat = rustix::fs::fstat(from)?;
            rustix::fs::fchown(
                &new,
                Some(rustix::fs::Uid::from_raw(stat.st_uid)),
                Some(rustix::fs::Gid::from_raw(stat.st_gid)),
            )?;
            rustix::fs::fchmod(&new, Mode::from_raw_mode(stat.st_mode & 0o777))?;
            new.sync_all()?;
            renameat(&folder, PART, &folder, name)?;
            sync_all(&folder)
        };
        put().map_err(|error| failed("write", path, error))
    }

    /// Real paths of the trees.
    pub fn roots(&self) -> Vec<PathBuf> {
        self.trees.iter().map(|tree| tree.site.real.clone()).collect()
    }
}

/// The folder beside a tree, in which folders can be exchanged.
fn ground_beside(site: &Site) -> Result<Directory, AgentError> {
    let (holder, path) = beside::holder(site.ground())?;
    can_exchange(&holder).map_err(|error| AgentError::Rebuild {
        why: format!(
            "folders cannot be exchanged on the file system of {} ({error}); restore files by `mailkeep restore`",
            path.display()
        ),
    })?;
    Ok(holder)
}

fn make_folder(parent: &Directory, name: &[u8], path: &Path) -> Result<Directory, AgentError> {
    mkdirat(parent, name, Mode::RWXU)
        .and_then(|()| parent.open_child(name))
        .map_err(|error| failed("make the folder", path, error))
}

/// A file of this size that mail uses.
fn candidate(live: &Directory, name: &[u8], size: u64) -> Option<(File, rustix::fs::Stat)> {
    let there = live.stat(name).ok()?;
    if file_type(&there) != FileType::RegularFile || Facts::of(&there).size != size {
        return None;
    }
    let file = live.open_file(name).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    (file_type(&stat) == FileType::RegularFile && Facts::of(&stat).size == size).then_some((file, stat))
}

/// Gives the file one more name, in the tree that is built; false if it is not this very file, or cannot be.
fn share(live: &Directory, new: &Directory, name: &[u8], stat: &rustix::fs::Stat) -> bool {
    if linkat(live, name, new, name, AtFlags::empty()).is_err() {
        return false;
    }
    let same =
        new.stat(name).is_ok_and(|linked| (linked.st_dev, linked.st_ino) == (stat.st_dev, stat.st_ino));
    same || {
        let _ = unlinkat(new, name, AtFlags::empty());
        false
    }
}

/// The file gets contents of its own: whoever else has a name of it sees nothing of what is written now.
fn unshare(new: &Directory, name: &[u8]) -> Result<(), std::io::Error> {
    const PART: &[u8] = b".mailkeep-part";
    let from = new.open_file(name)?;
    let to = create(new, PART)?;
    let mut bytes = vec![0; limits::STAGE_STEP];
    let mut offset = 0;
    loop {
        let count = from.read_at(&mut bytes, offset)?;
        if count == 0 {
            break;
        }
        to.write_all_at(&bytes[..count], offset)?;
        offset += count as u64;
    }
    Ok(renameat(new, PART, new, name)?)
}

fn create(folder: &Directory, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

fn open_to_write(folder: &Directory, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty()).map(File::from)
}

/// Hashes of the pieces of a file, which are written to `copy` on the way; `None` if it is shorter than they are.
fn hashes(file: &File, pieces: &[u32], copy: Option<&File>) -> std::io::Result<Option<Vec<ContentHash>>> {
    let mut hashes = Vec::with_capacity(pieces.len());
    let mut bytes = Vec::new();
    let mut offset = 0;
    for length in pieces {
        bytes.resize(*length as usize, 0);
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        hashes.push(ContentHash::of(&bytes));
        if let Some(copy) = copy {
            copy.write_all_at(&bytes, offset)?;
        }
        offset += u64::from(*length);
    }
    Ok(Some(hashes))
}
