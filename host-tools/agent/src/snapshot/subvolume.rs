//! Snapshots of btrfs subvolumes: made and deleted. The only file of the agent that deletes a subvolume.
//!
//! Everything goes through open folders. What is deleted lies directly in a folder of ours under the name that was noted
//! before it was made, is the root of a subvolume, cannot be written, and is a snapshot of the very subvolume that was
//! noted, by its UUID. Anything else is left alone, and told.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use btrfsutil::BtrfsUtilError;
use btrfsutil::subvolume::{SnapshotFlags, Subvolume};
use rustix::io::Errno;

use crate::dir::Directory;
use crate::meta::Facts;

/// `f_type` of btrfs (`linux/magic.h`).
const MAGIC: u64 = 0x9123_683e;
/// Inode number of the root of every subvolume (`BTRFS_FIRST_FREE_OBJECTID`).
const ROOT: u64 = 256;

/// The top of a subvolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Top {
    pub(super) path: PathBuf,
    pub(super) uuid: String,
    pub(super) device: u64,
}

/// The top of the subvolume that this folder lies in, and the way down from there; `None` if it is not on btrfs.
pub(super) fn top_of(root: &Path) -> Result<Option<(Top, PathBuf)>, String> {
    let unknown = |error: Errno| format!("it cannot be looked at: {}", io::Error::from(error));
    let mut directory = Directory::open_exactly(root).map_err(unknown)?;
    if !is_magic(&directory) {
        return Ok(None);
    }
    let device = Facts::of(&directory.stat_self().map_err(unknown)?).device;
    let mut path = root.to_owned();
    while Facts::of(&directory.stat_self().map_err(unknown)?).inode != ROOT {
        directory = directory.open_above().map_err(unknown)?;
        let above = Facts::of(&directory.stat_self().map_err(unknown)?);
        if !path.pop() || above.device != device {
            return Err("the top of its subvolume is not mounted".to_owned());
        }
    }
    let below = root.strip_prefix(&path).map_err(|error| error.to_string())?.to_owned();
    if path == Path::new("/") && below == Path::new("") {
        return Err("it is all of this server".to_owned());
    }
    let info = Subvolume::get(&*at(&directory, ".")).and_then(|subvolume| subvolume.info());
    let uuid = info.map_err(|error| failed(error).to_string())?.uuid;
    if uuid.is_nil() {
        return Err("its subvolume has no UUID".to_owned());
    }
    Ok(Some((Top { path, uuid: uuid.to_string(), device }, below)))
}

/// Whether this path lies on btrfs.
pub(super) fn is_btrfs(path: &Path) -> bool {
    Directory::open(path).is_ok_and(|directory| is_magic(&directory))
}

fn is_magic(directory: &Directory) -> bool {
    // The type is signed and 32 bits wide on some machines.
    directory.file_system() & 0xffff_ffff == MAGIC
}

/// Takes a read-only snapshot.
pub(super) fn take(top: &Top, folder: &Directory, name: &str) -> io::Result<()> {
    let directory = Directory::open_exactly(&top.path)?;
    let subvolume = Subvolume::get(&*at(&directory, ".")).map_err(failed)?;
    subvolume.snapshot(&*at(folder, name), SnapshotFlags::READ_ONLY, None).map_err(failed)?;
    Ok(())
}

/// Deletes a snapshot of the subvolume with this UUID, durably. One that is not there is fine; a folder that is not there is
/// not: its file system may not be mounted.
pub(super) fn delete(path: &Path, name: &str, uuid: &str) -> Result<(), String> {
    let folder = Directory::open(path).map_err(|error| {
        format!("the folder {} cannot be opened: {}", path.display(), io::Error::from(error))
    })?;
    delete_in(&folder, name, uuid).map_err(|why| format!("{}/{name} is left alone: {why}", path.display()))
}

fn delete_in(folder: &Directory, name: &str, uuid: &str) -> Result<(), String> {
    let inside = match folder.open_child(name.as_bytes()) {
        Ok(inside) => inside,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(io::Error::from(error).to_string()),
    };
    let said = |error: BtrfsUtilError| failed(error).to_string();
    let inode = inside.stat_self().map(|stat| Facts::of(&stat).inode);
    if !is_magic(&inside) || inode != Ok(ROOT) {
        return Err("it is no subvolume".to_owned());
    }
    let subvolume = Subvolume::get(&*at(folder, name)).map_err(said)?;
    if !subvolume.is_ro().map_err(said)? {
        return Err("it can be written, so it is none of ours".to_owned());
    }
    let of = subvolume.info().map_err(said)?.parent_uuid;
    if of.map(|of| of.to_string()).as_deref() != Some(uuid) {
        return Err("it is a snapshot of something else".to_owned());
    }
    drop(inside);
    subvolume.delete(None).map_err(said)?;
    // A snapshot that comes back after a power cut would have no note any more.
    btrfsutil::sync::sync(&*at(folder, ".")).map_err(said)
}

/// A name inside an open folder, for a library that takes paths only.
fn at(folder: &Directory, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_fd().as_raw_fd()))
}

/// The library tells what it could not do, the system why.
fn failed(error: BtrfsUtilError) -> io::Error {
    let why = io::Error::last_os_error();
    io::Error::new(why.kind(), format!("{error}: {why}"))
}
