//! Snapshots of the file systems that mail lies on: what was there while mail was stopped, read when it runs again.
//!
//! A root of the source that lies on btrfs is not walked while mail is stopped: a read-only snapshot of its subvolume is
//! taken, mail is started, and the final pass walks the snapshot (`subvolume`). The same can be had of a file system on a
//! logical volume, by LVM's own tools (`volume`, `lvm`); that takes longer, so it is tried only where mail would be stopped for
//! long without it, or where the source asks for it (`Ways::try_volumes`). A snapshot holds the very inodes and times of the
//! original, so that nothing in it looks changed that is not; only its device has another number, which nobody is shown
//! ([`crate::dir::Directory::open_kept`]). What lies below a root on another file system or in a subvolume of its own is
//! not in a snapshot: such a root is kept as all others are, by open descriptors and copies (`stage`).
//!
//! A snapshot has a name, and so it can be left behind. Before it is made a note of it is durable (`note`); where it has a
//! path, that is in a folder of ours that nobody else can enter ([`FOLDER`]). It goes when the pass is over; what an agent
//! leaves behind that is killed, or a server that goes down, is removed by the next agent and by the rescue at boot
//! ([`clear`]).
//!
//! A snapshot takes no room when it is made, and as much as changes while it is there. It is not made where there is hardly
//! any left, and a pass that reads from one ends when mail needs the room, or when the snapshot could not keep all that it
//! should: nothing that was read from it counts then.

mod lvm;
mod note;
mod place;
mod subvolume;
mod volume;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mailkeep_mail::source::Freeze;
use rustix::fs::statvfs;

use crate::dir::Directory;
use crate::error::{AgentError, one_line};
use crate::limits;
use crate::meta::Facts;
use crate::plan::{KeptTree, Plan};
use crate::window::intent::Intent;
use crate::window::state;
use note::Note;
pub use note::clear;
pub use place::{FOLDER, is_ours};
use subvolume::Top;
use volume::{State, Volume};

/// How each root of a source can be kept while mail is stopped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ways {
    /// What snapshots are taken of, each with the roots that lie in it.
    wholes: Vec<(Whole, Vec<Inside>)>,
    /// All other roots.
    others: Vec<Other>,
    /// The directories at which the last pass met another file system or subvolume.
    borders: Vec<PathBuf>,
}

/// What a snapshot is taken of.
#[derive(Debug, Clone)]
enum Whole {
    Subvolume(Top),
    Volume(Volume, lvm::Kind),
}

impl Whole {
    fn is(&self, other: &Whole) -> bool {
        match (self, other) {
            (Whole::Subvolume(one), Whole::Subvolume(other)) => {
                one.uuid == other.uuid && one.path == other.path
            }
            (Whole::Volume(one, _), Whole::Volume(other, _)) => one.uuid == other.uuid,
            _ => false,
        }
    }
}

/// A root, and where it is below the top of its subvolume or file system.
#[derive(Debug, Clone)]
struct Inside {
    root: PathBuf,
    below: PathBuf,
}

/// A root that no snapshot holds.
#[derive(Debug, Clone)]
struct Other {
    root: PathBuf,
    /// Why not; empty where there is nothing to tell.
    why: String,
    /// The volume that it lies on, of which no snapshot was tried so far, and where it is in it.
    untried: Option<(Volume, PathBuf)>,
}

impl Ways {
    /// Looks at each root; `borders` are the directories at which the last pass met another file system or subvolume.
    pub(crate) fn find(freeze: Freeze, roots: &[PathBuf], borders: &[PathBuf]) -> Ways {
        let mut ways = Ways { borders: borders.to_vec(), ..Ways::default() };
        for root in roots {
            let mut untried = None;
            if let Err(why) = ways.find_one(freeze, root, &mut untried) {
                ways.others.push(Other { root: root.clone(), why, untried });
            }
        }
        ways
    }

    fn find_one(
        &mut self,
        freeze: Freeze,
        root: &Path,
        untried: &mut Option<(Volume, PathBuf)>,
    ) -> Result<(), String> {
        if !matches!(freeze, Freeze::Auto | Freeze::Snapshot) {
            return Err(String::new());
        }
        if let Some((top, below)) = subvolume::top_of(root)? {
            return self.add(root, below, || Ok(Whole::Subvolume(top)));
        }
        match (volume::under(root), freeze) {
            (Ok(Some((volume, below))), Freeze::Snapshot) => {
                self.add(root, below, || volume.kind().map(|kind| Whole::Volume(volume, kind)))
            }
            (Ok(volume), Freeze::Auto) => {
                *untried = volume;
                Err(String::new())
            }
            (Ok(_), _) => Err("it lies neither on btrfs nor on a logical volume".to_owned()),
            // It was not asked for, and is kept otherwise.
            (Err(_), Freeze::Auto) => Err(String::new()),
            (Err(why), _) => Err(why),
        }
    }

    fn add(
        &mut self,
        root: &Path,
        below: PathBuf,
        whole: impl FnOnce() -> Result<Whole, String>,
    ) -> Result<(), String> {
        if self.borders.len() >= limits::BORDERS {
            return Err("too many file systems or subvolumes are below the folders of the source".to_owned());
        }
        if let Some(border) = self.borders.iter().find(|border| border.starts_with(root) && *border != root) {
            return Err(format!("another file system or subvolume begins at {}", border.display()));
        }
        let whole = whole()?;
        let inside = Inside { root: root.to_owned(), below };
        if let Some((_, roots)) = self.wholes.iter_mut().find(|(other, _)| other.is(&whole)) {
            roots.push(inside);
            return Ok(());
        }
        if let Whole::Subvolume(top) = &whole {
            let room = Room::of(&top.path)
                .map_err(|error| format!("how much room there is cannot be told: {error}"))?;
            if room.left < room.needed.saturating_mul(2) {
                return Err(format!(
                    "its file system has {} MB left, and a snapshot keeps what mail deletes meanwhile",
                    room.left >> 20
                ));
            }
        }
        self.wholes.push((whole, vec![inside]));
        Ok(())
    }

    /// Takes all snapshots, until it is called off. Where one cannot be had, its roots are kept as others are.
    pub(crate) fn take(&mut self, called_off: &dyn Fn() -> bool) -> Snapshots {
        let mut snapshots = Snapshots::default();
        for (whole, roots) in std::mem::take(&mut self.wholes) {
            let taken = match &whole {
                Whole::Subvolume(top) => Snapshot::of_subvolume(top, &roots),
                Whole::Volume(volume, kind) => {
                    Snapshot::of_volume(volume, *kind, &roots, &mut snapshots.all, called_off)
                }
            };
            match taken {
                Ok(snapshot) => {
                    snapshots.all.push(snapshot);
                    self.wholes.push((whole, roots));
                }
                Err(why) => self.give_up(roots, &format!("no snapshot could be taken: {why}")),
            }
        }
        snapshots
    }

    fn give_up(&mut self, roots: Vec<Inside>, why: &str) {
        let other = |inside: Inside| Other { root: inside.root, why: why.to_owned(), untried: None };
        self.others.extend(roots.into_iter().map(other));
    }

    /// Takes all snapshots and removes them again; returns how long taking them took. Besides showing whether it can be
    /// done, it has what is still in memory written out, for which mail need not wait later.
    pub(crate) fn rehearse(&mut self) -> Duration {
        // Once for what is still to be written, and once for how long it takes without that.
        drop(self.take(&|| false));
        let began = Instant::now();
        let snapshots = self.take(&|| false);
        let took = began.elapsed();
        drop(snapshots);
        took
    }

    /// Whether some roots lie on logical volumes of which no snapshot was tried.
    pub(crate) fn has_untried(&self) -> bool {
        self.others.iter().any(|other| other.untried.is_some())
    }

    /// Tries snapshots of these volumes, and stays with them if they are clearly better than how it is without them: mail
    /// would be stopped for `otherwise` (`None`: it could not be kept at all). Returns how long taking them took.
    pub(crate) fn try_volumes(&mut self, otherwise: Option<Duration>) -> Duration {
        let mut tried = Ways { borders: self.borders.clone(), ..Ways::default() };
        for other in &mut self.others {
            let Some((volume, below)) = other.untried.take() else { continue };
            let whole = || volume.kind().map(|kind| Whole::Volume(volume, kind));
            match tried.add(&other.root, below, whole) {
                Ok(()) => {}
                Err(why) => tried.others.push(Other { root: other.root.clone(), why, untried: None }),
            }
        }
        let took = tried.rehearse();
        let slow = otherwise.filter(|otherwise| took * limits::VOLUME_GAIN > *otherwise);
        if let Some(otherwise) = slow {
            let why = format!(
                "an LVM snapshot takes {} ms, and without one it takes {} ms",
                took.as_millis(),
                otherwise.as_millis()
            );
            for (_, roots) in std::mem::take(&mut tried.wholes) {
                tried.give_up(roots, &why);
            }
        }
        let is_held = |root: &Path| {
            tried.wholes.iter().flat_map(|(_, roots)| roots).any(|inside| inside.root == *root)
                || tried.others.iter().any(|other| other.root == *root)
        };
        self.others.retain(|other| !is_held(&other.root));
        self.others.append(&mut tried.others);
        let gained = !tried.wholes.is_empty();
        self.wholes.append(&mut tried.wholes);
        if gained { took } else { Duration::ZERO }
    }

    /// The roots that no snapshot holds.
    pub(crate) fn others(&self) -> Vec<PathBuf> {
        self.others.iter().map(|other| other.root.clone()).collect()
    }

    /// In words, for people; empty where there is nothing to tell.
    pub(crate) fn describe(&self) -> String {
        let mut parts = Vec::new();
        for (what, is_volume) in [("btrfs snapshot", false), ("LVM snapshot", true)] {
            let wholes =
                self.wholes.iter().filter(|(whole, _)| matches!(whole, Whole::Volume(..)) == is_volume);
            let roots = wholes.flat_map(|(_, roots)| roots).map(|inside| inside.root.display().to_string());
            let roots: Vec<String> = roots.collect();
            if !roots.is_empty() {
                parts.push(format!("{what}: {}", roots.join(", ")));
            }
        }
        for other in self.others.iter().filter(|other| !other.why.is_empty()) {
            parts.push(format!("no snapshot: {} ({})", other.root.display(), other.why));
        }
        parts.join("; ")
    }
}

/// Snapshots that were taken. They are removed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    all: Vec<Snapshot>,
}

impl Snapshots {
    fn taken(&self) -> impl Iterator<Item = &Snapshot> {
        self.all.iter().filter(|snapshot| !snapshot.is_failed)
    }

    /// Tells the plan of a walk where its roots are kept.
    pub(crate) fn tell(&self, plan: &mut Plan) {
        for (root, kept) in self.taken().flat_map(|snapshot| &snapshot.trees) {
            plan.top.at(root).kept = Some(kept.clone());
        }
    }

    /// Removes them while mail is stopped, which need not wait for that. The run must, or they are left behind.
    pub(crate) fn remove_aside(self) -> Option<JoinHandle<()>> {
        // Without a thread it is done here and now.
        std::thread::Builder::new().name("snapshots".into()).spawn(move || drop(self)).ok()
    }

    /// Whether mail needs the room that they keep, or one of them is not what it was: one line on that.
    pub(crate) fn in_the_way(&self) -> Option<AgentError> {
        let tight = |snapshot: &Snapshot| match &snapshot.kept {
            Kept::Subvolume { folder } => Room::of(folder)
                .is_ok_and(|room| room.left < room.needed)
                .then(|| AgentError::RoomForMail { path: snapshot.of.clone() }),
            Kept::Volume { .. } => None,
        };
        self.taken().find_map(tight).or_else(|| self.witness().look(limits::VOLUME_TAKE_BOUND).err())
    }

    /// Whoever can tell at the end of a pass whether all of it was read from what it should be.
    pub(crate) fn witness(&self) -> Witness {
        let volumes = self.taken().filter_map(|snapshot| match &snapshot.kept {
            Kept::Subvolume { .. } => None,
            Kept::Volume { volume, name, .. } => Some((volume.clone(), name.clone())),
        });
        Witness { volumes: volumes.collect() }
    }
}

/// Looks after snapshots that can be lost while they are read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness {
    volumes: Vec<(Volume, String)>,
}

impl Witness {
    /// Whether all of them are still what they were.
    ///
    /// # Errors
    /// One is not, or takes mail's room, or it cannot be told.
    pub(crate) fn check(&self) -> Result<(), AgentError> {
        match self.look(limits::VOLUME_BOUND)? {
            None => Ok(()),
            Some((path, why)) => Err(AgentError::SnapshotLost { path, why }),
        }
    }

    /// The same; a volume of which it cannot be told within `bound` is named with the reason.
    fn look(&self, bound: Duration) -> Result<Option<(PathBuf, String)>, AgentError> {
        let mut unknown = None;
        for (volume, name) in &self.volumes {
            let path = volume.path.clone();
            match volume.state(name, bound) {
                Ok(State::Sound) => {}
                Ok(State::PoolFull) => return Err(AgentError::PoolForMail { path }),
                Ok(State::Lost) => {
                    let why = "it is not valid any more".to_owned();
                    return Err(AgentError::SnapshotLost { path, why });
                }
                Err(why) => unknown = Some((path, why)),
            }
        }
        Ok(unknown)
    }
}

/// A snapshot, there until this is dropped.
#[derive(Debug)]
struct Snapshot {
    /// The top of what it is of.
    of: PathBuf,
    /// The roots in it, and where each is kept.
    trees: Vec<(PathBuf, KeptTree)>,
    kept: Kept,
    /// It came to nothing, and is there perhaps. It was not removed at once, since mail was stopped.
    is_failed: bool,
    note: Option<Note>,
}

/// Where a snapshot is.
#[derive(Debug)]
enum Kept {
    Subvolume {
        folder: PathBuf,
    },
    /// `top` is of a mount that is nowhere to be seen.
    Volume {
        volume: Volume,
        name: String,
        top: Option<Directory>,
    },
}

impl Snapshot {
    fn of_subvolume(top: &Top, roots: &[Inside]) -> Result<Snapshot, String> {
        let base = state::private_base().map_err(|error| one_line(&error))?;
        let mut why = "there is no place for it".to_owned();
        let mut tried = HashSet::new();
        // Our own folder if it is on the same file system, else beside the subvolume, else in it.
        for place in [Some(base.as_path()), top.path.parent(), Some(&top.path)].into_iter().flatten() {
            if !tried.insert(place) || !subvolume::is_btrfs(place) {
                continue;
            }
            match Snapshot::take_in(&base, top, roots, &place.join(FOLDER)) {
                Ok(snapshot) => return Ok(snapshot),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn take_in(base: &Path, top: &Top, roots: &[Inside], folder: &Path) -> Result<Snapshot, String> {
        let opened = place::make_folder(folder)?;
        let token = Intent::new_token().map_err(|error| one_line(&error))?;
        let note =
            Note::write(base, &token, folder, &top.uuid, None).map_err(|error| not_noted(base, &error))?;
        let kept = Kept::Subvolume { folder: folder.to_owned() };
        let mut snapshot =
            Snapshot { of: top.path.clone(), trees: Vec::new(), kept, is_failed: false, note: Some(note) };
        subvolume::take(top, &opened, &token).map_err(|error| error.to_string())?;
        snapshot.settle(roots, top.device, |below| folder.join(&token).join(below))?;
        Ok(snapshot)
    }

    fn of_volume(
        volume: &Volume,
        kind: lvm::Kind,
        roots: &[Inside],
        failed: &mut Vec<Snapshot>,
        called_off: &dyn Fn() -> bool,
    ) -> Result<Snapshot, String> {
        let base = state::private_base().map_err(|error| one_line(&error))?;
        let folder = base.join(FOLDER);
        place::make_folder(&folder)?;
        let token = Intent::new_token().map_err(|error| one_line(&error))?;
        let note = Note::write(&base, &token, &folder, &volume.uuid, Some(&volume.group))
            .map_err(|error| not_noted(&base, &error))?;
        let tied = note.tie();
        let name = volume::name_of(&token);
        let kept = Kept::Volume { volume: volume.clone(), name: name.clone(), top: None };
        let mut snapshot =
            Snapshot { of: volume.path.clone(), trees: Vec::new(), kept, is_failed: false, note: Some(note) };
        let made = tied
            .map_err(|error| error.to_string())
            .and_then(|tied| volume.take(&name, kind, tied, called_off));
        let opened = made.and_then(|()| volume.open(&name, &folder.join(&token)));
        let settled = opened.and_then(|top| {
            snapshot.settle(roots, volume.device, |below| volume::into(&top, below))?;
            Ok(top)
        });
        match (settled, &mut snapshot.kept) {
            (Ok(opened), Kept::Volume { top, .. }) => {
                *top = Some(opened);
                Ok(snapshot)
            }
            (Ok(_), Kept::Subvolume { .. }) => Err(String::new()),
            (Err(why), _) => {
                snapshot.is_failed = true;
                failed.push(snapshot);
                Err(why)
            }
        }
    }

    /// Sees that each root is in it.
    fn settle(
        &mut self,
        roots: &[Inside],
        device: u64,
        place: impl Fn(&Path) -> PathBuf,
    ) -> Result<(), String> {
        for Inside { root, below } in roots {
            let kept = KeptTree { folder: place(below), device };
            // A folder that is mounted from elsewhere is not in the place that its path says.
            let original = Directory::open_exactly(root).and_then(|directory| directory.stat_self());
            let copy = kept.open().and_then(|directory| directory.stat_self());
            let facts = (original.map(|stat| Facts::of(&stat)), copy.map(|stat| Facts::of(&stat)));
            let (Ok(original), Ok(copy)) = facts else {
                return Err(format!("{} is not in it", root.display()));
            };
            if (original.inode, original.device) != (copy.inode, copy.device) {
                return Err(format!("{} is another folder in it", root.display()));
            }
            self.trees.push((root.clone(), kept));
        }
        Ok(())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // What is open cannot be removed.
        if let Kept::Volume { top, .. } = &mut self.kept {
            drop(top.take());
        }
        // What does not go now is told and tried again by the next run.
        if let Some(note) = self.note.take() {
            let _ = note.clear();
        }
    }
}

fn not_noted(base: &Path, error: &std::io::Error) -> String {
    format!("it cannot be noted in {}: {error}", base.display())
}

/// Room on a file system, in bytes.
struct Room {
    left: u64,
    /// What has to be left for mail as long as there is a snapshot.
    needed: u64,
}

impl Room {
    fn of(path: &Path) -> std::io::Result<Room> {
        let stat = statvfs(path)?;
        let all = stat.f_blocks.saturating_mul(stat.f_frsize);
        let left = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(Room { left, needed: (all / limits::SNAPSHOT_LEAVES_SHARE).min(limits::SNAPSHOT_LEAVES) })
    }
}
