//! A disk in hand: a block device, an image mounted through a loop device, or a plain folder.
//!
//! Every mount is `nosuid,nodev,noexec,nosymfollow`: a disk may come from anyone. A look at a disk that is not
//! known yet is read-only and does not even replay its journal. Unmounting flushes the file system, then the
//! device or image below it; only when both have succeeded does [`Mounted::unmount`].
//!
//! A disk that lost writes it had confirmed may no longer mount. btrfs can often still be read, from older copies
//! of its trees: [`Medium::rescue`] tries that, and never writes.
//!
//! mount(8) and umount(8) do the work, because they set up loop devices and know every file system's quirks.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::btrfs;
use crate::error::BoardError;

/// Mount options for whatever comes from a disk. Access times would be writes that nobody asked for.
const DISTRUST: &str = "nosuid,nodev,noexec,nosymfollow,noatime";

/// Ways to read a btrfs that does not mount, the gentlest first: from an older tree root, without the log; then
/// without the trees that only writing and btrfs's own checksums need. Whatever is read from a repository is
/// checked by what is in the repository. See btrfs(5), `rescue`.
const RESCUES: [&str; 2] = ["ro,rescue=usebackuproot,rescue=nologreplay", "ro,rescue=all"];

/// What is to be done with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only; not a single byte on the disk changes.
    Look,
    /// Read and write.
    Use,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Device,
    Image,
    Folder,
}

/// A disk that is there and not mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    path: PathBuf,
    kind: Kind,
}

impl Medium {
    /// The disk at this path: a block device, an image file or a folder.
    ///
    /// # Errors
    /// [`BoardError::NoDisk`].
    pub fn at(path: &Path) -> Result<Self, BoardError> {
        let missing = |source| BoardError::NoDisk { path: path.to_owned(), source };
        let kind = std::fs::metadata(path).map_err(missing)?.file_type();
        let kind = if kind.is_dir() {
            Kind::Folder
        } else if kind.is_block_device() {
            Kind::Device
        } else if kind.is_file() {
            Kind::Image
        } else {
            return Err(missing(io::Error::other("neither device, image nor folder")));
        };
        Ok(Self { path: path.to_owned(), kind })
    }

    /// Mounts the disk on a folder, which is made if need be. A folder is used where it is.
    ///
    /// # Errors
    /// [`BoardError::MountPoint`], [`BoardError::Run`], [`BoardError::Mount`], and [`BoardError::ReadOnly`] for a
    /// disk to [use](Access::Use) that takes no writes; nothing is mounted then.
    pub fn mount(&self, point: &Path, access: Access) -> Result<Mounted, BoardError> {
        if self.kind == Kind::Folder {
            return Ok(Mounted { root: self.path.clone(), medium: self.clone(), access });
        }
        let options = match access {
            Access::Look => format!("ro{}", self.without_replay()),
            Access::Use => "rw".to_owned(),
        };
        let mounted = self.mount_with(point, &options, access)?;
        // mount(8) makes do with a read-only mount where the device is write-protected, and the kernel turns to one
        // when it finds damage.
        if access == Access::Use && !mounted.takes_writes() {
            mounted.detach()?;
            return Err(BoardError::ReadOnly { path: self.path.clone() });
        }
        Ok(mounted)
    }

    /// Mounts a disk that [`Medium::mount`] could not, so that it can be read. Not a byte on it changes.
    ///
    /// # Errors
    /// [`BoardError::BeyondRescue`]: nothing is mounted.
    pub fn rescue(&self, point: &Path) -> Result<Mounted, BoardError> {
        let beyond = |said: String| BoardError::BeyondRescue { path: self.path.clone(), said };
        match btrfs::superblocks(&self.path) {
            Ok([false, true]) => {
                return Err(beyond(format!(
                    "its first superblock is gone, but a copy is there; `btrfs rescue super-recover {}` brings it back",
                    self.path.display()
                )));
            }
            Ok([true, _]) => {}
            // Another file system: if it can be read, then without a replay of its journal.
            Ok([false, false]) => return self.mount(point, Access::Look),
            Err(error) => return Err(beyond(error.to_string())),
        }
        let mut said = String::new();
        for options in RESCUES {
            match self.mount_with(point, options, Access::Look) {
                Ok(mounted) => {
                    tracing::warn!(disk = %self.path.display(), options, "the disk can only be read, with these options");
                    return Ok(mounted);
                }
                Err(error) => said = words_of(error),
            }
        }
        Err(beyond(said))
    }

    fn mount_with(&self, point: &Path, options: &str, access: Access) -> Result<Mounted, BoardError> {
        std::fs::create_dir_all(point)
            .map_err(|source| BoardError::MountPoint { path: point.to_owned(), source })?;
        let through = if self.kind == Kind::Image { ",loop" } else { "" };
        let options = format!("{DISTRUST},{options}{through}");
        let args =
            [OsStr::new("-o"), OsStr::new(&options), OsStr::new("--"), self.path.as_ref(), point.as_ref()];
        run("mount", &args)?.map_err(|said| BoardError::Mount { path: self.path.clone(), said })?;
        Ok(Mounted { root: point.to_owned(), medium: self.clone(), access })
    }

    /// The option that keeps a read-only mount from replaying the journal, which would be a write.
    fn without_replay(&self) -> &'static str {
        let args = ["-p", "-o", "value", "-s", "TYPE"].map(OsStr::new);
        let mut command = Command::new("blkid");
        let found = command.args(args).arg(&self.path).stdin(Stdio::null()).stderr(Stdio::null()).output();
        // Without blkid, or on a file system that it does not know, a plain read-only mount has to do.
        match found.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).as_deref() {
            Ok("ext4" | "ext3") => ",noload",
            Ok("xfs") => ",norecovery",
            Ok("btrfs") => ",rescue=nologreplay",
            _ => "",
        }
    }
}

/// A disk that is mounted. It stays mounted until it is unmounted or detached by name: dropping the value must
/// not decide about a disk.
#[derive(Debug)]
#[must_use = "a mounted disk has to be unmounted"]
pub struct Mounted {
    root: PathBuf,
    medium: Medium,
    access: Access,
}

impl Mounted {
    fn takes_writes(&self) -> bool {
        rustix::fs::statvfs(&self.root)
            .is_ok_and(|stat| !stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }

    /// Where its files are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Flushes and unmounts the disk. On an error it may still be mounted, and is handed back.
    ///
    /// # Errors
    /// [`BoardError::Flush`]: what was written may be lost. [`BoardError::Unmount`]: something still uses it.
    pub fn unmount(self) -> Result<(), Box<(Self, BoardError)>> {
        match self.try_unmount() {
            Ok(()) => Ok(()),
            Err(error) => Err(Box::new((self, error))),
        }
    }

    fn try_unmount(&self) -> Result<(), BoardError> {
        if self.access == Access::Use {
            let flush = |source: io::Error| BoardError::Flush { path: self.root.clone(), source };
            let root = File::open(&self.root).map_err(flush)?;
            rustix::fs::syncfs(&root).map_err(|errno| flush(errno.into()))?;
        }
        if self.medium.kind == Kind::Folder {
            return Ok(());
        }
        run("umount", &[OsStr::new("--"), self.root.as_ref()])?
            .map_err(|said| BoardError::Unmount { path: self.root.clone(), said })?;
        if self.access == Access::Use {
            // The write-back cache of the device, or the pages of the image.
            let flush = |source| BoardError::Flush { path: self.medium.path.clone(), source };
            File::open(&self.medium.path).and_then(|below| below.sync_all()).map_err(flush)?;
        }
        Ok(())
    }

    /// Lets go of a disk that is no longer there. What could not be written is lost; nothing is promised.
    ///
    /// # Errors
    /// [`BoardError::Run`], [`BoardError::Unmount`].
    pub fn detach(self) -> Result<(), BoardError> {
        if self.medium.kind == Kind::Folder {
            return Ok(());
        }
        run("umount", &[OsStr::new("--lazy"), OsStr::new("--"), self.root.as_ref()])?
            .map_err(|said| BoardError::Unmount { path: self.root.clone(), said })
    }
}

/// Unmounts what an earlier, killed run of the program has left mounted below a folder.
///
/// # Errors
/// [`BoardError::FileSystem`], [`BoardError::Run`], [`BoardError::Unmount`].
pub fn clear_stale(below: &Path) -> Result<usize, BoardError> {
    let list = Path::new("/proc/self/mounts");
    let mounts = std::fs::read_to_string(list)
        .map_err(|source| BoardError::FileSystem { path: list.to_owned(), source })?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(unescape);
    let stale: Vec<PathBuf> = points.filter(|point| point.starts_with(below) && point != below).collect();
    for point in stale.iter().rev() {
        run("umount", &[OsStr::new("--lazy"), OsStr::new("--"), point.as_ref()])?
            .map_err(|said| BoardError::Unmount { path: point.clone(), said })?;
    }
    Ok(stale.len())
}

/// The kernel writes blanks and the like in mount points as `\\040`.
fn unescape(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                out.push(byte.into());
                out.push_str(&part[3..]);
            }
            None => out.push_str(part),
        }
    }
    out.into()
}

/// What mount(8) said, without what is said anyway.
fn words_of(error: BoardError) -> String {
    match error {
        BoardError::Mount { said, .. } => said,
        error => error.to_string(),
    }
}

/// Runs a program; `Ok(Err(words))` is what it said when it failed.
fn run(program: &'static str, args: &[&OsStr]) -> Result<Result<(), String>, BoardError> {
    let output = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| BoardError::Run { program, source })?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it gave no reason");
    Ok(Err(first.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mounting needs root. Where every suite is required to run, its absence is a failure.
    fn root() -> bool {
        let root = rustix::process::geteuid().is_root();
        assert!(root || !required(), "mounting needs root");
        root
    }

    fn required() -> bool {
        std::env::var_os("MAILKEEP_REQUIRE_ALL").is_some_and(|value| value == "1")
    }

    /// An image with a small ext4 or btrfs on it; `None` where that can't be had.
    fn image(folder: &Path, mkfs: &[&str], megabytes: u64) -> Option<PathBuf> {
        let path = folder.join("disk.img");
        File::create(&path).unwrap().set_len(megabytes << 20).unwrap();
        let made = Command::new(mkfs[0]).args(&mkfs[1..]).arg(&path).output();
        let made = made.is_ok_and(|output| output.status.success());
        assert!(made || !required(), "{} failed", mkfs[0]);
        made.then_some(path)
    }

    fn options(point: &Path) -> Option<String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let point = point.to_str().unwrap();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(point))?;
        Some(line.split(' ').nth(3).unwrap().to_owned())
    }

    #[test]
    fn a_folder_is_used_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let medium = Medium::at(folder.path()).unwrap();
        let mounted = medium.mount(Path::new("/no/such/point"), Access::Use).unwrap();
        assert_eq!(mounted.root(), folder.path());
        std::fs::write(mounted.root().join("x"), "y").unwrap();
        mounted.unmount().unwrap();
    }

    #[test]
    fn what_is_no_disk_is_named() {
        assert_eq!(Medium::at(Path::new("/no/such")).unwrap_err().to_string(), "no disk at /no/such");
        assert!(Medium::at(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn an_image_is_mounted_with_distrust_and_only_looked_at_when_that_was_asked() {
        if !root() {
            return;
        }
        for mkfs in [&["mkfs.ext4", "-q"][..], &["mkfs.btrfs", "-q", "-m", "dup"]] {
            let folder = tempfile::tempdir().unwrap();
            let Some(path) = image(folder.path(), mkfs, 120) else { continue };
            let point = folder.path().join("point");
            let medium = Medium::at(&path).unwrap();

            let used = medium.mount(&point, Access::Use).unwrap();
            let flags = options(&point).unwrap();
            for flag in ["rw", "nosuid", "nodev", "noexec", "nosymfollow", "noatime"] {
                assert!(flags.split(',').any(|f| f == flag), "{mkfs:?}: {flag} is not in {flags}");
            }
            std::fs::write(used.root().join("kept"), "x").unwrap();
            if mkfs[0] == "mkfs.btrfs" {
                assert!(crate::btrfs::is_btrfs(used.root()).unwrap());
                assert!(crate::btrfs::subvolume(used.root()).unwrap().is_some());
            }
            used.unmount().unwrap();
            assert_eq!(options(&point), None);

            let before = std::fs::read(&path).unwrap();
            let looked = medium.mount(&point, Access::Look).unwrap();
            assert!(options(&point).unwrap().split(',').any(|f| f == "ro"));
            assert_eq!(std::fs::read(looked.root().join("kept")).unwrap(), b"x");
            assert!(std::fs::write(looked.root().join("new"), "x").is_err());
            looked.unmount().unwrap();
            assert!(before == std::fs::read(&path).unwrap(), "{mkfs:?}: a look changed the disk");
        }
    }

    #[test]
    fn what_a_killed_run_left_mounted_is_cleared() {
        if !root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = image(folder.path(), &["mkfs.ext4", "-q"], 16) else { return };
        let point = folder.path().join("left over");
        let left = Medium::at(&path).unwrap().mount(&point, Access::Use).unwrap();
        drop(left);
        assert_eq!(clear_stale(folder.path()).unwrap(), 1);
        assert_eq!(clear_stale(folder.path()).unwrap(), 0);
        Medium::at(&path).unwrap().mount(&point, Access::Use).unwrap().unmount().unwrap();
    }

    #[test]
    fn a_disk_in_use_is_handed_back_still_mounted() {
        if !root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = image(folder.path(), &["mkfs.ext4", "-q"], 16) else { return };
        let point = folder.path().join("point");
        let mounted = Medium::at(&path).unwrap().mount(&point, Access::Use).unwrap();
        let open = File::create(point.join("open")).unwrap();
        let (mounted, error) = *mounted.unmount().unwrap_err();
        assert!(matches!(error, BoardError::Unmount { .. }), "{error}");
        assert!(options(&point).is_some());
        drop(open);
        mounted.unmount().unwrap();
        assert_eq!(options(&point), None);
    }
}
