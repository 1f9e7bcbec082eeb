//! What lies below a folder: its mount and the block devices, as `/proc` and `/sys` tell.
//!
//! Owns the last step of "on the medium". syncfs makes the file system write what is left and, where something was left,
//! send a cache flush; fsync of the device file sends a flush in any case (it needs root). The ioctl BLKFLSBUF, which is
//! often named for this, only writes out and drops the kernel's own buffers and tells the drive nothing. The kernel sends
//! no flush at all to a drive whose `queue/write_cache` reads "write through" (Documentation/ABI/stable/sysfs-block).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

/// The mount that a folder belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The file system's name for its kind: `btrfs`, `ext4`, `fuseblk`.
    pub(super) kind: String,
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// What is mounted; a device in most cases.
    pub(super) source: PathBuf,
    /// Options of the file system, without those of the mount point.
    pub(super) options: Vec<String>,
}

/// What a drive says of its write cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteCache {
    /// It has one, and the kernel flushes it.
    Flushed,
    /// It says that it has none; it gets no flushes.
    Denied,
    /// Not to be found out.
    Untold,
}

/// A block device below a file system.
#[derive(Clone, Debug)]
pub(super) struct BlockDevice {
    /// Its name for people, as in `/dev/NAME`.
    pub(super) name: String,
    sysfs: PathBuf,
}

impl Mount {
    /// The mount of an open folder.
    pub(super) fn of(folder: &OwnedFd) -> io::Result<Self> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", folder.as_raw_fd()))?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
        let id = id.ok_or(Errno::NOSYS)?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let line = mounts.lines().find(|line| line.split(' ').next() == Some(id));
        Ok(line.and_then(Mount::parse).ok_or(Errno::NOENT)?)
    }

    /// A line of mountinfo, see proc(5).
    fn parse(line: &str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut back = back.split(' ');
        Some(Mount {
            kind: back.next()?.to_owned(),
            source: unescape(back.next()?).into(),
            options: back.next()?.split(',').map(str::to_owned).collect(),
            point: unescape(front.split(' ').nth(4)?).into(),
        })
    }

    /// The devices that it lies on; none for what is no disk. All of them for a btrfs of several.
    pub(super) fn devices(&self) -> Vec<BlockDevice> {
        let Some(first) = BlockDevice::at(&self.source) else { return Vec::new() };
        if self.kind != "btrfs" {
            return vec![first];
        }
        match btrfs_folder(&first) {
            Some(folder) => {
                names(&folder.join("devices")).iter().filter_map(|name| BlockDevice::named(name)).collect()
            }
            None => vec![first],
        }
    }

    /// Whether an ext4 is without its journal; `None` if it does not tell.
    pub(super) fn ext4_without_journal(&self) -> Option<bool> {
        let device = BlockDevice::at(&self.source)?;
        let options = Path::new("/proc/fs/ext4").join(device.sysfs_name()).join("options");
        let options = std::fs::read_to_string(options).ok()?;
        // Only with a journal there is a way in which data goes before it.
        Some(!options.lines().any(|option| option.starts_with("data=")))
    }

    /// How btrfs keeps its metadata: `dup`, `single`, `raid1`, …; several while it is being converted.
    pub(super) fn btrfs_metadata(&self) -> Vec<String> {
        let folder = BlockDevice::at(&self.source).and_then(|device| btrfs_folder(&device));
        let Some(metadata) = folder.map(|folder| folder.join("allocation/metadata")) else {
            return Vec::new();
        };
        // Each profile in use is a folder among the plain files.
        names(&metadata).into_iter().filter(|name| metadata.join(name).is_dir()).collect()
    }
}

impl BlockDevice {
    fn at(node: &Path) -> Option<Self> {
        let meta = std::fs::metadata(node).ok()?;
        if !meta.file_type().is_block_device() {
            return None;
        }
        let (major, minor) = (fs::major(meta.rdev()), fs::minor(meta.rdev()));
        BlockDevice::in_sysfs(&PathBuf::from(format!("/sys/dev/block/{major}:{minor}")))
    }

    fn named(sysfs_name: &str) -> Option<Self> {
        BlockDevice::in_sysfs(&Path::new("/sys/class/block").join(sysfs_name))
    }

    fn in_sysfs(path: &Path) -> Option<Self> {
        let sysfs = std::fs::canonicalize(path).ok()?;
        let name = sysfs.file_name()?.to_str()?.replace('!', "/");
        Some(BlockDevice { name, sysfs })
    }

    fn sysfs_name(&self) -> String {
        self.name.replace('/', "!")
    }

    /// What it says of its cache.
    pub(super) fn write_cache(&self) -> WriteCache {
        let queues = [self.sysfs.join("queue"), self.sysfs.join("../queue")];
        let said = queues.iter().find_map(|queue| std::fs::read_to_string(queue.join("write_cache")).ok());
        match said.as_deref().map(str::trim) {
            Some("write back") => WriteCache::Flushed,
            Some("write through") => WriteCache::Denied,
            _ => WriteCache::Untold,
        }
    }

    /// Whether it hangs on USB, where bridges that hide the cache of their disk are common.
    pub(super) fn is_usb(&self) -> bool {
        self.sysfs
            .components()
            .any(|part| part.as_os_str().to_str().is_some_and(|part| part.starts_with("usb")))
    }

    /// Returns when the drive has confirmed a flush, or when it cannot be asked for one: without the rights, or without
    /// a device file (in a container).
    pub(super) fn flush(&self) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let node = match fs::open(Path::new("/dev").join(&self.name), flags, Mode::empty()) {
            Ok(node) => node,
            // Pulled out: the device is gone for the kernel too.
            Err(_) if !self.sysfs.exists() => return Err(Errno::NODEV),
            Err(errno @ (Errno::ACCESS | Errno::PERM | Errno::NOENT)) => {
                tracing::trace!(device = self.name, %errno, "no flush of the device itself");
                return Ok(());
            }
            Err(errno) => return Err(errno),
        };
        let number = fs::fstat(&node)?.st_rdev;
        let number = format!("{}:{}", fs::major(number), fs::minor(number));
        if std::fs::read_to_string(self.sysfs.join("dev")).is_ok_and(|said| said.trim() == number) {
            fs::fsync(&node)
        } else {
            Err(Errno::NODEV)
        }
    }
}

/// What a mounted btrfs that has this device tells of itself.
fn btrfs_folder(device: &BlockDevice) -> Option<PathBuf> {
    let all = Path::new("/sys/fs/btrfs");
    let mut folders = names(all).into_iter().map(|name| all.join(name));
    folders.find(|folder| names(&folder.join("devices")).contains(&device.sysfs_name()))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The kernel writes blanks and the like as `\040`.
fn unescape(text: &str) -> String {
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
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_blanks_and_optional_fields() {
        let line = r"43 27 0:39 /sub /mnt/my\040disk rw,nosuid shared:1 master:2 - btrfs /dev/sd\040a rw,nobarrier,subvol=/sub";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(mount.kind, "btrfs");
        assert_eq!((mount.point, mount.source), (PathBuf::from("/mnt/my disk"), PathBuf::from("/dev/sd a")));
        assert_eq!(mount.options, ["rw", "nobarrier", "subvol=/sub"]);
        for broken in ["", "43 27", "43 27 0:39 / /mnt rw -", "43 27 0:39 / /mnt rw - btrfs"] {
            assert_eq!(Mount::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_drive_says_what_it_says_of_its_cache() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("usb2/host0/block/sda");
        std::fs::create_dir_all(disk.join("queue")).unwrap();
        std::fs::create_dir_all(disk.join("sda1")).unwrap();
        let device = |sysfs: PathBuf| BlockDevice { name: "sda".into(), sysfs };
        for (said, cache) in [
            ("write back\n", WriteCache::Flushed),
            ("write through\n", WriteCache::Denied),
            ("", WriteCache::Untold),
        ] {
            std::fs::write(disk.join("queue/write_cache"), said).unwrap();
            assert_eq!(device(disk.clone()).write_cache(), cache);
            assert_eq!(device(disk.join("sda1")).write_cache(), cache, "a partition has its disk's queue");
        }
        assert!(device(disk).is_usb() && !device("/sys/devices/virtual/block/loop0".into()).is_usb());
        let gone = BlockDevice { name: "gone".into(), sysfs: folder.path().join("gone") };
        assert_eq!(gone.write_cache(), WriteCache::Untold);
        assert_eq!(gone.flush(), Err(Errno::NODEV));
    }
}
