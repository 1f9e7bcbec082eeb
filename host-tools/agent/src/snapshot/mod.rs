//! Snapshots of the file systems that mail lies on: what was there while mail was stopped, read when it runs again.
//!
//! A root of the source that lies on btrfs is not walked while mail is stopped: a read-only snapshot of its subvolume is
//! taken, mail is started, and the final pass walks the snapshot. It holds the very inodes and times of the original, so
//! that nothing in it looks changed that is not; only its device has another number, which nobody is shown
//! ([`crate::dir::Directory::open_kept`]). What lies below a root on another file system or in a subvolume of its own is
//! not in a snapshot: such a root is kept as all others are, by open descriptors and copies (`stage`).
//!
//! A snapshot has a name, and so it can be left behind. It lies in a folder of ours that nobody else can enter
//! ([`FOLDER`]), and before it is made a note of it is durable (`note`). It goes when the pass is over; what an agent
//! leaves behind that is killed, or a server that goes down, is removed by the next agent and by the rescue at boot
//! ([`clear`]).
//!
//! A snapshot takes no room when it is made, and as much as changes while it is there. It is not made on a file system
//! that is nearly full, and a pass that reads from one ends when its file system becomes so: mail needs the rest.

mod note;
mod subvolume;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mailkeep_mail::source::Freeze;
use rustix::fs::{Stat, statvfs};
use rustix::process::geteuid;

use crate::dir::Directory;
use crate::error::AgentError;
use crate::limits;
use crate::meta::Facts;
use crate::plan::{KeptTree, Plan};
use crate::window::intent::Intent;
use crate::window::state;
use note::Note;
pub use note::clear;
use subvolume::Top;

/// Name of a folder of ours that snapshots lie in.
pub const FOLDER: &str = ".mailkeep-frozen";

/// Whether a folder of that name is ours: nobody else could have made it so, and what is in it is no part of any copy.
pub fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o077 == 0
}

/// How each root of a source can be kept while mail is stopped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ways {
    /// The tops of the subvolumes, each with the roots that lie in it.
    tops: Vec<(Top, Vec<Inside>)>,
    /// All other roots, and why: empty where there is nothing to tell.
    others: Vec<(PathBuf, String)>,
}

/// A root, and where it is below the top of its subvolume.
#[derive(Debug, Clone)]
struct Inside {
    root: PathBuf,
    below: PathBuf,
}

impl Ways {
    /// Looks at each root; `borders` are the directories at which the last pass met another file system or subvolume.
    pub(crate) fn find(freeze: Freeze, roots: &[PathBuf], borders: &[PathBuf]) -> Ways {
        let mut ways = Ways::default();
        for root in roots {
            if let Err(why) = ways.find_one(freeze, root, borders) {
                ways.others.push((root.clone(), why));
            }
        }
        ways
    }

    fn find_one(&mut self, freeze: Freeze, root: &Path, borders: &[PathBuf]) -> Result<(), String> {
        if freeze != Freeze::Auto {
            return Err(String::new());
        }
        let Some((top, below)) = subvolume::top_of(root)? else { return Err(String::new()) };
        if borders.len() >= limits::BORDERS {
            return Err("too many file systems or subvolumes are below the folders of the source".to_owned());
        }
        if let Some(border) = borders.iter().find(|border| border.starts_with(root) && *border != root) {
            return Err(format!("another file system or subvolume begins at {}", border.display()));
        }
        let inside = Inside { root: root.to_owned(), below };
        match self.tops.iter_mut().find(|(other, _)| other.uuid == top.uuid && other.path == top.path) {
            Some((_, roots)) => roots.push(inside),
            None => {
                let room = Room::of(&top.path)
                    .map_err(|error| format!("how much room there is cannot be told: {error}"))?;
                if room.left < room.needed.saturating_mul(2) {
                    return Err(format!(
                        "its file system has {} MB left, and a snapshot keeps what mail deletes meanwhile",
                        room.left >> 20
                    ));
                }
                self.tops.push((top, vec![inside]));
            }
        }
        Ok(())
    }

    /// Takes all snapshots. Where one cannot be had, its roots are kept as others are.
    pub(crate) fn take(&mut self) -> Snapshots {
        let mut snapshots = Snapshots::default();
        for (top, roots) in std::mem::take(&mut self.tops) {
            match Snapshot::take(&top, &roots) {
                Ok(snapshot) => {
                    snapshots.taken.push(snapshot);
                    self.tops.push((top, roots));
                }
                Err(why) => {
                    let why = format!("no snapshot could be taken: {why}");
                    self.others.extend(roots.into_iter().map(|inside| (inside.root, why.clone())));
                }
            }
        }
        snapshots
    }

    /// Takes all snapshots and removes them again; returns how long taking them took. Besides showing whether it can be
    /// done, it has what is still in memory written out, for which mail need not wait later.
    pub(crate) fn rehearse(&mut self) -> Duration {
        // Once for what is still to be written, and once for how long it takes without that.
        drop(self.take());
        let began = Instant::now();
        let snapshots = self.take();
        let took = began.elapsed();
        drop(snapshots);
        took
    }

    /// The roots that no snapshot holds.
    pub(crate) fn others(&self) -> Vec<PathBuf> {
        self.others.iter().map(|(root, _)| root.clone()).collect()
    }

    /// In words, for people; empty where there is nothing to tell.
    pub(crate) fn describe(&self) -> String {
        let mut parts = Vec::new();
        let mut roots =
            self.tops.iter().flat_map(|(_, roots)| roots).map(|inside| inside.root.display().to_string());
        if let Some(first) = roots.next() {
            let rest: String = roots.map(|root| format!(", {root}")).collect();
            parts.push(format!("btrfs snapshot: {first}{rest}"));
        }
        for (root, why) in self.others.iter().filter(|(_, why)| !why.is_empty()) {
            parts.push(format!("no snapshot: {} ({why})", root.display()));
        }
        parts.join("; ")
    }
}

/// Snapshots that were taken. They are removed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    taken: Vec<Snapshot>,
}

impl Snapshots {
    /// Tells the plan of a walk where its roots are kept.
    pub(crate) fn tell(&self, plan: &mut Plan) {
        for (root, kept) in self.taken.iter().flat_map(|snapshot| &snapshot.trees) {
            plan.top.at(root).kept = Some(kept.clone());
        }
    }

    /// Removes them while mail is stopped, which need not wait for that. The run must, or they are left behind.
    pub(crate) fn remove_aside(self) -> Option<JoinHandle<()>> {
        // Without a thread it is done here and now.
        std::thread::Builder::new().name("snapshots".into()).spawn(move || drop(self)).ok()
    }

    /// Whether mail needs the room that they keep: one line on that.
    pub(crate) fn in_the_way(&self) -> Option<AgentError> {
        let tight =
            |snapshot: &&Snapshot| Room::of(&snapshot.folder).is_ok_and(|room| room.left < room.needed);
        self.taken.iter().find(tight).map(|snapshot| AgentError::RoomForMail { path: snapshot.of.clone() })
    }
}

/// A snapshot, there until this is dropped.
#[derive(Debug)]
struct Snapshot {
    folder: PathBuf,
    /// The top of the subvolume that it is of.
    of: PathBuf,
    /// The roots in it, and where each is kept.
    trees: Vec<(PathBuf, KeptTree)>,
    note: Option<Note>,
}

impl Snapshot {
    fn take(top: &Top, roots: &[Inside]) -> Result<Snapshot, String> {
        let base = state::private_base().map_err(|error| crate::error::one_line(&error))?;
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
        let opened = subvolume::make_folder(folder)?;
        let token = Intent::new_token().map_err(|error| crate::error::one_line(&error))?;
        let note = Note::write(base, &token, folder, &top.uuid)
            .map_err(|error| format!("it cannot be noted in {}: {error}", base.display()))?;
        let mut snapshot =
            Snapshot { folder: folder.to_owned(), of: top.path.clone(), trees: Vec::new(), note: Some(note) };
        subvolume::take(top, &opened, &token).map_err(|error| error.to_string())?;
        for Inside { root, below } in roots {
            let kept = KeptTree { folder: folder.join(&token).join(below), device: top.device };
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
            snapshot.trees.push((root.clone(), kept));
        }
        Ok(snapshot)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // What does not go now is told and tried again by the next run.
        if let Some(note) = self.note.take() {
            let _ = note.clear();
        }
    }
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
