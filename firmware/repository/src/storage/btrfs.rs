//! Guards on btrfs: read-only snapshots of the repository's subvolume. Follows COMMIT.md, "Guards".
//!
//! This is the only file that deletes subvolumes. Everything goes through the open folder of the repository, never
//! through its path: a disk that was swapped for another at the same place is not touched. What is dropped has a name of
//! ours, lies directly in `guards/`, is read-only (or was left half made), and holds this very repository's label.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use btrfsutil::BtrfsUtilError;
use btrfsutil::subvolume::Subvolume;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Guarding;
use crate::layout;

/// `f_type` of btrfs (`linux/magic.h`).
const MAGIC: u64 = 0x9123_683e;
/// Inode number of the root of every subvolume (`BTRFS_FIRST_FREE_OBJECTID`).
const SUBVOLUME_ROOT: u64 = 256;
/// End of the name of a guard in the making.
const NEW: &str = ".new";
/// An empty subvolume that shows whether subvolumes can be deleted again.
const PROBE: &str = "probe";
/// What a guard leaves out: who writes now, and the reserve, whose space could not be released while a guard has it.
const LEFT_OUT: [&str; 3] = [layout::LOCK, layout::LEASE, "reserve"];
/// A label is smaller than this.
const LABEL_MAX: u64 = mailkeep_format::limits::LABEL_FILE_MAX as u64;
/// Longest wait for the space of dropped guards. btrfs cleans up in the background, at the latest with its next periodic
/// commit (30 s).
const SETTLE: Duration = Duration::from_secs(45);

/// Whether this lies on btrfs.
pub(super) fn is_btrfs(file: &OwnedFd) -> bool {
    fs::fstatfs(file).is_ok_and(|stat| is_magic(stat.f_type as u64))
}

/// Whether this folder lies on btrfs.
pub(super) fn path_is_btrfs(path: &Path) -> bool {
    fs::statfs(path).is_ok_and(|stat| is_magic(stat.f_type as u64))
}

/// The type is signed and 32 bits wide on some machines.
fn is_magic(kind: u64) -> bool {
    kind & 0xffff_ffff == MAGIC
}

/// Tries to make a subvolume; a plain folder does as well where that is not allowed.
pub(super) fn make_subvolume(path: &Path) -> bool {
    match Subvolume::create(path, None) {
        Ok(_) => true,
        Err(error) => {
            tracing::info!(path = %path.display(), %error, "no subvolume, a plain folder is used");
            false
        }
    }
}

/// Puts a subvolume in the place of an empty plain folder, with its owner and mode. A folder that is anything else, or
/// that the system does not let go of, stays as it is. Whether it was replaced.
pub(super) fn replace_empty_folder(path: &Path) -> io::Result<bool> {
    let plain = fs::lstat(path)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir() && stat.st_ino != SUBVOLUME_ROOT);
    if !plain || !path_is_btrfs(path) || std::fs::read_dir(path)?.next().is_some() {
        return Ok(false);
    }
    let stat = fs::lstat(path)?;
    // Only ever removes an empty folder; refuses a mount point.
    if std::fs::remove_dir(path).is_err() {
        return Ok(false);
    }
    if !make_subvolume(path) {
        std::fs::create_dir(path)?;
    }
    std::os::unix::fs::chown(path, Some(stat.st_uid), Some(stat.st_gid))?;
    fs::chmod(path, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(true)
}

/// Makes `guards/<name>`.
pub(super) fn make(root: &OwnedFd, name: &str) -> io::Result<Guarding> {
    if !is_btrfs(root) {
        return Ok(Guarding::Unknown);
    }
    if !layout::is_guard(name) {
        return Err(Errno::INVAL.into());
    }
    if fs::fstat(root)?.st_ino != SUBVOLUME_ROOT {
        let why = "the repository is a plain folder on btrfs, not a subvolume; \
                   `btrfs subvolume create NEW` and `cp -a --reflink REPOSITORY/. NEW` make one of it";
        return Ok(Guarding::Refused(why.to_owned()));
    }
    let folder = make_folder(root)?;
    if exists(&folder, name)? {
        return Err(Errno::EXIST.into());
    }
    drop_unfinished(root, &folder)?;
    if list(root)?.is_empty() && !can_delete(&folder) {
        let why = "this system does not let mailkeep delete subvolumes again; run it as root, outside of a container";
        return Ok(Guarding::Refused(why.to_owned()));
    }
    snapshot_into(root, &folder, name).inspect_err(|_| {
        // Half a guard is none; if it stays, the next one tidies up.
        let _ = drop_unfinished(root, &folder);
    })?;
    Ok(Guarding::Made)
}

/// Makes the guard `name` of this repository in a folder of guards, which may be that of another copy of it.
fn snapshot_into(root: &OwnedFd, folder: &OwnedFd, name: &str) -> io::Result<()> {
    let new = format!("{name}{NEW}");
    let snapshot = Subvolume::get(&*at(root, "."))
        .and_then(|repository| repository.snapshot(&*at(folder, &new), None, None))
        .map_err(failed)?;
    finish(folder, &snapshot, &new, name)
}

/// Takes out what a guard must not have, and gives it its name. The label in it is the repository's own.
fn finish(folder: &OwnedFd, snapshot: &Subvolume, new: &str, name: &str) -> io::Result<()> {
    let inside = open_folder(folder, new)?;
    for left_out in LEFT_OUT {
        match fs::unlinkat(&inside, left_out, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    drop_stubs(&inside)?;
    drop(inside);
    snapshot.set_ro(true).map_err(failed)?;
    fs::renameat_with(folder, new, folder, name, RenameFlags::NOREPLACE)?;
    fs::fsync(folder)?;
    Ok(())
}

/// The guards of this repository, oldest first.
pub(super) fn list(root: &OwnedFd) -> io::Result<Vec<String>> {
    let Some(folder) = existing_folder(root)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for name in names(&folder)? {
        if !layout::is_guard(&name) {
            continue;
        }
        match check(root, &folder, &name, true) {
            Ok(subvolume) => found.push((subvolume.id(), name)),
            Err(error) => tracing::warn!(guard = %name, "left alone: {error}"),
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

/// Names of all read-only subvolumes that could be guards, oldest first, whatever label they have: whoever goes back to
/// one opens it with a key.
pub(super) fn list_unchecked(root: &OwnedFd) -> io::Result<Vec<String>> {
    let Some(folder) = existing_folder(root)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for name in names(&folder)?.into_iter().filter(|name| layout::is_guard(name)) {
        let Ok(inside) = open_folder(&folder, &name) else { continue };
        if !is_btrfs(&inside) || fs::fstat(&inside)?.st_ino != SUBVOLUME_ROOT {
            continue;
        }
        let subvolume = Subvolume::get(&*at(&folder, &name)).map_err(failed)?;
        if subvolume.is_ro().map_err(failed)? {
            found.push((subvolume.id(), name));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

/// Deletes a guard.
pub(super) fn drop_guard(root: &OwnedFd, name: &str) -> io::Result<()> {
    if !layout::is_guard(name) {
        return Err(Errno::INVAL.into());
    }
    let folder = existing_folder(root)?.ok_or(Errno::NOENT)?;
    check(root, &folder, name, true)?.delete(None).map_err(failed)
}

/// Puts a writable copy of a guard in the place of the repository `root` at `path`, which is kept beside it (where it is
/// now is returned) and in the copy, as the guard `replaced`.
pub(super) fn roll_back(
    root: &OwnedFd,
    path: &Path,
    name: &str,
    replaced: Option<&str>,
) -> io::Result<PathBuf> {
    let elsewhere = || {
        io::Error::other("the repository has no folder around it: mount the disk itself, not the repository")
    };
    let (Some(parent), Some(own)) = (path.parent(), path.file_name().and_then(|own| own.to_str())) else {
        return Err(elsewhere());
    };
    if !layout::is_guard(name) || !replaced.is_none_or(layout::is_guard) {
        return Err(Errno::INVAL.into());
    }
    let parent = if parent == Path::new("") { Path::new(".") } else { parent };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let around = fs::open(parent, flags, Mode::empty())?;
    // Another disk may have been mounted there since the repository was opened.
    let (there, opened) = (fs::fstat(&open_folder(&around, own)?)?, fs::fstat(root)?);
    if (there.st_dev, there.st_ino) != (opened.st_dev, opened.st_ino) {
        return Err(io::Error::other("another disk is in this place now"));
    }
    let guards = existing_folder(root)?.ok_or(Errno::NOENT)?;
    let guard = Subvolume::get(&*at(&guards, name)).map_err(failed)?;
    let kept = free_name(&around, &format!("{own}.before-{name}"))?;
    let new = free_name(&around, &format!("{own}.back-to-{name}"))?;
    guard.snapshot(&*at(&around, &new), None, None).map_err(failed)?;
    let copy = open_folder(&around, &new)?;
    drop_stubs(&copy)?;
    if let Some(replaced) = replaced {
        snapshot_into(root, &make_folder(&copy)?, replaced)?;
    }
    fs::syncfs(&copy)?;
    // At no moment is there no repository. A mount point cannot be renamed.
    fs::renameat_with(&around, own, &around, &new, RenameFlags::EXCHANGE).map_err(|errno| match errno {
        Errno::BUSY | Errno::XDEV => elsewhere(),
        errno => errno.into(),
    })?;
    fs::renameat_with(&around, new.as_str(), &around, kept.as_str(), RenameFlags::NOREPLACE)?;
    fs::fsync(&around)?;
    fs::syncfs(&around)?;
    Ok(parent.join(kept))
}

/// This name, or with a number behind it.
fn free_name(folder: &OwnedFd, base: &str) -> io::Result<String> {
    let mut name = base.to_owned();
    for number in 2.. {
        if !exists(folder, &name)? {
            break;
        }
        name = format!("{base}.{number}");
    }
    Ok(name)
}

/// Waits until btrfs has freed what was deleted; `false` if it could not be told or took too long.
pub(super) fn settle(root: &OwnedFd) -> io::Result<bool> {
    if !is_btrfs(root) {
        return Ok(true);
    }
    // The library asks for the current folder and is lost without one.
    if std::env::current_dir().is_err() || !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    // Wakes the thread that wakes the cleaner; syncfs does not.
    btrfsutil::sync::sync(&*at(root, ".")).map_err(failed)?;
    let end = Instant::now() + SETTLE;
    loop {
        // While some are left the library fails over their paths, which they no longer have.
        if Subvolume::deleted(&*at(root, ".")).is_ok_and(|left| left.is_empty()) {
            fs::syncfs(root)?;
            return Ok(true);
        }
        if Instant::now() > end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The subvolume of that name if it is one of ours.
fn check(root: &OwnedFd, folder: &OwnedFd, name: &str, read_only: bool) -> io::Result<Subvolume> {
    let not_ours = |why: &str| io::Error::other(format!("it is not a guard of this repository: {why}"));
    let inside = open_folder(folder, name)?;
    if !is_btrfs(&inside) || fs::fstat(&inside)?.st_ino != SUBVOLUME_ROOT {
        return Err(not_ours("no subvolume"));
    }
    let subvolume = Subvolume::get(&*at(folder, name)).map_err(failed)?;
    if subvolume.is_ro().map_err(failed)? != read_only {
        return Err(not_ours("somebody has changed whether it can be written"));
    }
    let label = |of: &OwnedFd| layout::LABELS.iter().find_map(|path| small_file(of, path).ok());
    match (label(root), label(&inside)) {
        (Some(ours), Some(its)) if ours == its => Ok(subvolume),
        _ => Err(not_ours("another label")),
    }
}

/// Deletes what a killed run left half made. It may be read-only already and lack its name only.
fn drop_unfinished(root: &OwnedFd, folder: &OwnedFd) -> io::Result<()> {
    for name in names(folder)? {
        if !name.strip_suffix(NEW).is_some_and(layout::is_guard) {
            continue;
        }
        match check(root, folder, &name, false).or_else(|_| check(root, folder, &name, true)) {
            Ok(subvolume) => subvolume.delete(None).map_err(failed)?,
            Err(error) => tracing::warn!(guard = %name, "left alone: {error}"),
        }
    }
    Ok(())
}

/// Making a subvolume needs fewer rights than deleting one with something in it. Guards that cannot be dropped would
/// fill the disk, so this is tried out before the first one.
fn can_delete(folder: &OwnedFd) -> bool {
    // An empty one that a killed run has left goes like a folder.
    let _ = fs::unlinkat(folder, PROBE, AtFlags::REMOVEDIR);
    let deleted = Subvolume::create(&*at(folder, PROBE), None).and_then(|probe| probe.delete(None));
    let _ = fs::unlinkat(folder, PROBE, AtFlags::REMOVEDIR);
    deleted.is_ok()
}

fn make_folder(root: &OwnedFd) -> io::Result<OwnedFd> {
    match fs::mkdirat(root, layout::GUARDS, Mode::from_raw_mode(0o700)) {
        Ok(()) => fs::fsync(root)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    open_folder(root, layout::GUARDS)
}

fn existing_folder(root: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    if !is_btrfs(root) {
        return Ok(None);
    }
    match open_folder(root, layout::GUARDS) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_folder(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(parent, name, flags, Mode::empty())?)
}

fn names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(folder)? {
        // What is not UTF-8 is none of ours.
        if let Ok(name) = entry?.file_name().to_str() {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// btrfs leaves an empty folder where a snapshot would show a subvolume below: here, the other guards.
fn drop_stubs(inside: &OwnedFd) -> io::Result<()> {
    let Some(folder) = existing_folder(inside)? else { return Ok(()) };
    for name in names(&folder)?.iter().filter(|name| !matches!(name.as_str(), "." | "..")) {
        // Only ever removes what is empty; the rest is not ours to judge.
        let _ = fs::unlinkat(&folder, name.as_str(), AtFlags::REMOVEDIR);
    }
    Ok(())
}

fn exists(folder: &OwnedFd, name: &str) -> io::Result<bool> {
    match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn small_file(folder: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(fs::openat(folder, name, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, LABEL_MAX), &mut bytes)?;
    Ok(bytes)
}

/// A name inside an open folder, for a library that takes paths only.
fn at(folder: &OwnedFd, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// The library tells what it could not do, the system why.
fn failed(error: BtrfsUtilError) -> io::Error {
    let why = io::Error::last_os_error();
    io::Error::new(why.kind(), format!("{error}: {why}"))
}
