//! Logical volumes with the file systems on them, as the kernel tells of them: which one a folder lies on, and a snapshot of
//! it opened for reading.
//!
//! LVM freezes a file system while it takes the snapshot, so that what is in it is as if it had been unmounted: nothing has to
//! be replayed, and nothing is. The snapshot cannot be written, and is mounted so that the journal is not looked at (`noload`,
//! `norecovery`). An ext4 that was not frozen says so in its first block, and is refused.
//!
//! The mount is there for a moment only. As soon as its top is open it is detached, and goes with the last of the agent's
//! open files, whatever the agent's end is like: nothing stays mounted.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{major, minor};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::lvm::{self, Kind};
use crate::dir::Directory;
use crate::limits;
use crate::meta::Facts;

/// How the kernel names the devices of logical volumes, before the UUIDs of group and volume.
const OURS: &str = "LVM-";
/// How the names of our snapshots begin.
const PREFIX: &str = "mailkeep-frozen-";
/// Length of both.
const UUIDS: usize = 64;

/// A file system that is known to be sound when it was frozen, and is never written by a mount that is read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileSystem {
    /// ext3 and ext4.
    Ext(&'static str),
    Xfs,
}

/// A logical volume that a file system is mounted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    /// Where it is mounted.
    pub(super) path: PathBuf,
    /// Device number of its files.
    pub(super) device: u64,
    /// UUIDs of group and volume.
    pub(super) uuid: String,
    pub(super) group: String,
    pub(super) name: String,
    file_system: FileSystem,
}

/// The logical volume that this folder lies on, and the way down from the top of its file system; `None` if it lies on none.
pub(super) fn under(root: &Path) -> Result<Option<(Volume, PathBuf)>, String> {
    let unknown = |error: io::Error| format!("it cannot be looked at: {error}");
    let directory = Directory::open_exactly(root).map_err(|error| unknown(error.into()))?;
    let device = Facts::of(&directory.stat_self().map_err(|error| unknown(error.into()))?).device;
    let number = format!("{}:{}", major(device), minor(device));
    let Some(device_of) = Device::by_number(&number) else { return Ok(None) };
    let Some((group, name)) = device_of.volume() else { return Ok(None) };
    let mounts = fs::read("/proc/self/mountinfo").map_err(unknown)?;
    let Some(mounted) = Mounted::of(&mounts, &number, root) else {
        return Err("where it is mounted cannot be told".to_owned());
    };
    let file_system = match mounted.file_system.as_str() {
        "ext3" => FileSystem::Ext("ext3"),
        "ext4" => FileSystem::Ext("ext4"),
        "xfs" => FileSystem::Xfs,
        other => return Err(format!("its logical volume holds a file system of type {other}")),
    };
    let below = root.strip_prefix(&mounted.point).map_err(|error| error.to_string())?;
    let below = mounted.top.strip_prefix("/").unwrap_or(&mounted.top).join(below);
    let uuid = device_of.uuid;
    Ok(Some((Volume { path: mounted.point, device, uuid, group, name, file_system }, below)))
}

impl Volume {
    /// How a snapshot of it would be made; or why there is no room for one.
    pub(super) fn kind(&self) -> Result<Kind, String> {
        let rows = lvm::rows(&self.group, limits::VOLUME_TAKE_BOUND)?;
        let Some(own) = rows.iter().find(|row| row.uuid == self.uuid && row.name == self.name) else {
            return Err(format!("lvs does not tell of {}/{}", self.group, self.name));
        };
        if let Some(pool) = &own.pool {
            let pool = rows.iter().find(|row| row.name == *pool);
            let used = pool.map(|pool| [pool.used, pool.used_for_notes]);
            return match used {
                Some([Some(data), Some(notes)]) if data.max(notes) < limits::POOL_PERCENT_BEFORE => {
                    Ok(Kind::Thin)
                }
                Some([Some(data), Some(notes)]) => {
                    Err(format!("its thin pool is used to {:.0} %", data.max(notes)))
                }
                _ => Err("how full its thin pool is cannot be told".to_owned()),
            };
        }
        // More than all of it cannot change.
        let wanted = (own.size / limits::VOLUME_SHARE).max(limits::VOLUME_ROOM_MIN).min(own.size);
        let most = own.free / 2;
        if most < limits::VOLUME_ROOM_MIN.min(own.size) {
            return Err(format!(
                "its volume group {} has {} MB left, and a snapshot needs twice {} MB",
                self.group,
                own.free >> 20,
                limits::VOLUME_ROOM_MIN.min(own.size) >> 20
            ));
        }
        Ok(Kind::Thick((wanted.min(most) / own.extent).max(1) * own.extent))
    }

    /// Whether a snapshot of it is still what it was, and leaves room for mail.
    pub(super) fn state(&self, snapshot: &str, bound: Duration) -> Result<State, String> {
        let rows = lvm::rows(&self.group, bound)?;
        let Some(row) = rows.iter().find(|row| row.name == snapshot) else { return Ok(State::Lost) };
        if row.is_lost() {
            return Ok(State::Lost);
        }
        let pool = row.pool.as_ref().and_then(|pool| rows.iter().find(|row| row.name == *pool));
        let full = pool.is_some_and(|pool| {
            let used = |percent: Option<f64>| percent.is_none_or(|percent| percent >= limits::POOL_PERCENT);
            used(pool.used) || used(pool.used_for_notes)
        });
        Ok(if full { State::PoolFull } else { State::Sound })
    }

    /// Opens the top of the file system in a snapshot of it. For a moment it is mounted on `place`, a folder of ours.
    pub(super) fn open(&self, snapshot: &str, place: &Path) -> Result<Directory, String> {
        let name = format!("{}-{}", mangled(&self.group), mangled(snapshot));
        let device = Device::all()
            .into_iter()
            .find(|device| device.name == name && device.uuid.get(..UUIDS / 2) == self.uuid.get(..UUIDS / 2));
        let device = device.ok_or("its device is not there")?;
        let (node, number) = device.node()?;
        let (kind, options) = match self.file_system {
            FileSystem::Ext(kind) => {
                let clean = is_clean_ext(&node);
                if !clean.map_err(|error| format!("{} cannot be read: {error}", node.display()))? {
                    return Err("the file system was not frozen when it was taken".to_owned());
                }
                (kind, c"noload")
            }
            FileSystem::Xfs => ("xfs", c"nouuid,norecovery"),
        };
        let made = fs::DirBuilder::new().create(place);
        made.map_err(|error| format!("cannot make the folder {}: {error}", place.display()))?;
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let mounted = mount(&node, place, kind, flags, options);
        mounted.map_err(|error| format!("it cannot be mounted: {}", io::Error::from(error)))?;
        let top = Directory::open(place).map_err(|error| io::Error::from(error).to_string());
        put_away(place)?;
        let top = top?;
        let own = top.stat_self().map_err(|error| io::Error::from(error).to_string())?;
        if Facts::of(&own).device != number {
            return Err("another file system was mounted in its place".to_owned());
        }
        Ok(top)
    }

    /// Takes a snapshot of this name; `tied` is held by whatever is at work for it.
    pub(super) fn take(
        &self,
        name: &str,
        kind: Kind,
        tied: File,
        called_off: &dyn Fn() -> bool,
    ) -> Result<(), String> {
        lvm::make(&self.group, &self.name, name, kind, tied, called_off).map_err(|why| {
            // A tool that died half-way may have left the volume suspended: mail would hang for ever.
            match free(&self.uuid) {
                Ok(()) => why,
                Err(worse) => format!("{why}; {worse}"),
            }
        })
    }
}

/// What has become of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Sound,
    /// It could not keep all that has changed, or somebody has removed it.
    Lost,
    /// The pool that it shares with mail is nearly full.
    PoolFull,
}

/// A path that leads into an open directory.
pub(super) fn into(directory: &Directory, below: &Path) -> PathBuf {
    // The point makes it a folder also where nothing follows: the link itself must not be what is opened.
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd())).join(".").join(below).join(".")
}

/// Detaches what is mounted on a folder of ours, if anything is, and removes the folder.
pub(super) fn put_away(place: &Path) -> Result<(), String> {
    let said = |error: io::Error| format!("cannot put {} away: {error}", place.display());
    let Some(above) = place.parent() else { return Ok(()) };
    loop {
        let device = match fs::symlink_metadata(place) {
            Ok(meta) => meta.dev(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(said(error)),
        };
        if device == fs::symlink_metadata(above).map_err(said)?.dev() {
            break;
        }
        unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(|error| said(error.into()))?;
    }
    fs::remove_dir(place).map_err(said)
}

/// What the snapshot with this token is called.
pub(super) fn name_of(token: &str) -> String {
    format!("{PREFIX}{token}")
}

/// Removes a snapshot of the volume with this UUID, and what is left of its mount.
pub(super) fn delete(folder: &Path, token: &str, of: &str, group: &str) -> Result<(), String> {
    put_away(&folder.join(token))?;
    free(of)?;
    let began = Instant::now();
    loop {
        let Err(why) = lvm::remove(group, &name_of(token), of) else { return Ok(()) };
        free(of)?;
        // A thread that was called off may still have something open in it.
        if !why.is_passing || began.elapsed() >= limits::VOLUME_RELEASE {
            return Err(why.text);
        }
        std::thread::sleep(limits::POLL);
    }
}

/// Lets a volume go on that is suspended and stays so: whoever did that is dead.
pub(super) fn free(uuid: &str) -> Result<(), String> {
    let end = Instant::now() + limits::SUSPENDED_LOOK;
    loop {
        let Some(device) = Device::all().into_iter().find(|device| device.uuid == uuid) else {
            return Ok(());
        };
        if !device.is_suspended() {
            return Ok(());
        }
        if Instant::now() >= end {
            return lvm::resume(&device.name);
        }
        std::thread::sleep(limits::POLL);
    }
}

/// A device of the device-mapper that belongs to LVM.
#[derive(Debug)]
struct Device {
    /// Name of its node, as `dm-3`.
    node: String,
    number: String,
    name: String,
    /// UUIDs of group and volume, and for hidden ones what they are.
    uuid: String,
}

impl Device {
    fn all() -> Vec<Device> {
        let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        paths.filter_map(|path| Device::at(&path)).collect()
    }

    fn by_number(number: &str) -> Option<Device> {
        Device::at(&fs::canonicalize(format!("/sys/dev/block/{number}")).ok()?)
    }

    fn at(path: &Path) -> Option<Device> {
        let read = |name: &str| {
            let text = fs::read_to_string(path.join(name)).ok()?;
            Some(text.trim_end().to_owned())
        };
        let uuid = read("dm/uuid")?.strip_prefix(OURS)?.to_owned();
        let node = path.file_name()?.to_str()?.to_owned();
        Some(Device { node, number: read("dev")?, name: read("dm/name")?, uuid })
    }

    fn is_suspended(&self) -> bool {
        let path = Path::new("/sys/block").join(&self.node).join("dm/suspended");
        fs::read_to_string(path).is_ok_and(|text| text.trim_end() == "1")
    }

    /// Its node, and the number of that: as the kernel calls it, or as LVM does. Where nobody makes nodes they are made.
    fn node(&self) -> Result<(PathBuf, u64), String> {
        let places = [Path::new("/dev").join(&self.node), Path::new("/dev/mapper").join(&self.name)];
        let there = || {
            places.iter().find_map(|place| {
                let number = fs::metadata(place).ok()?.rdev();
                (format!("{}:{}", major(number), minor(number)) == self.number)
                    .then(|| (place.clone(), number))
            })
        };
        if let Some(found) = there() {
            return Ok(found);
        }
        lvm::make_nodes(&self.name)?;
        there()
            .ok_or_else(|| format!("neither {} nor {} is its node", places[0].display(), places[1].display()))
    }

    /// Names of group and volume, if it is a volume that is to be seen.
    fn volume(&self) -> Option<(String, String)> {
        if self.uuid.len() != UUIDS || !self.uuid.bytes().all(|letter| letter.is_ascii_alphanumeric()) {
            return None;
        }
        unmangled(&self.name)
    }
}

/// A name as a part of a device's name.
fn mangled(name: &str) -> String {
    name.replace('-', "--")
}

/// The two parts of a device's name: between them is a single dash, within them are none but double ones.
fn unmangled(name: &str) -> Option<(String, String)> {
    const DASH: &str = "\0";
    let marked = name.replace("--", DASH);
    let (group, volume) = marked.split_once('-')?;
    if group.is_empty() || volume.is_empty() || volume.contains('-') {
        return None;
    }
    Some((group.replace(DASH, "-"), volume.replace(DASH, "-")))
}

/// A line of `/proc/self/mountinfo` (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    /// What of the file system is mounted.
    top: PathBuf,
    point: PathBuf,
    file_system: String,
}

impl Mounted {
    /// The mount of this device that a path lies in: the one that is nearest to it, the last one of several.
    fn of(mounts: &[u8], number: &str, path: &Path) -> Option<Mounted> {
        let mut best: Option<Mounted> = None;
        for line in mounts.split(|byte| *byte == b'\n') {
            let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            let [_, _, device, top, point, ..] = words.as_slice() else { continue };
            if *device != number.as_bytes() {
                continue;
            }
            let after = words.iter().position(|word| *word == b"-").and_then(|at| words.get(at + 1));
            let Some(file_system) = after.and_then(|word| std::str::from_utf8(word).ok()) else { continue };
            let (top, point) = (unescaped(top), unescaped(point));
            let nearer = best.as_ref().is_none_or(|best| point.starts_with(&best.point));
            if path.starts_with(&point) && nearer {
                best = Some(Mounted { top, point, file_system: file_system.to_owned() });
            }
        }
        best
    }
}

/// Without `\040` and the like.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        let value =
            octal.map(|digits| digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0')));
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Whether the journal of an ext file system has nothing that would have to be replayed (`s_feature_incompat` without
/// `EXT4_FEATURE_INCOMPAT_RECOVER`, Linux `fs/ext4/ext4.h`).
fn is_clean_ext(device: &Path) -> io::Result<bool> {
    const SUPERBLOCK: u64 = 1024;
    const RECOVER: u8 = 4;
    let file = File::open(device)?;
    let (mut magic, mut features) = ([0; 2], [0; 1]);
    file.read_exact_at(&mut magic, SUPERBLOCK + 0x38)?;
    file.read_exact_at(&mut features, SUPERBLOCK + 0x60)?;
    Ok(u16::from_le_bytes(magic) == 0xef53 && features[0] & RECOVER == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_have_two_parts() {
        let parts = |name| unmangled(name).map(|(group, volume)| format!("{group} {volume}"));
        assert_eq!(parts("vg-mail").as_deref(), Some("vg mail"));
        assert_eq!(parts("my--vg-the--mail").as_deref(), Some("my-vg the-mail"));
        assert_eq!(parts("vg-a--b-c"), None);
        assert_eq!(parts("plain"), None);
        assert_eq!(format!("{}-{}", mangled("my-vg"), mangled("x")), "my--vg-x");
    }

    #[test]
    fn the_nearest_mount_of_the_device_is_found() {
        let mounts = b"22 1 254:0 / / rw shared:1 - ext4 /dev/mapper/vg-root rw\n\
            30 22 254:3 / /var/spool\\040mail rw - ext4 /dev/mapper/vg-mail rw\n\
            31 22 254:3 /sub /srv/x rw master:1 - ext4 /dev/mapper/vg-mail rw\n\
            32 22 0:30 / /srv/x/tmp rw - tmpfs none rw\nshort line\n";
        let of = |number: &str, path: &str| {
            let mounted = Mounted::of(mounts, number, Path::new(path))?;
            Some(format!("{} {} {}", mounted.top.display(), mounted.point.display(), mounted.file_system))
        };
        assert_eq!(of("254:0", "/etc").as_deref(), Some("/ / ext4"));
        assert_eq!(of("254:3", "/var/spool mail/user").as_deref(), Some("/ /var/spool mail ext4"));
        assert_eq!(of("254:3", "/srv/x/y").as_deref(), Some("/sub /srv/x ext4"));
        assert_eq!(of("254:3", "/elsewhere"), None);
        assert_eq!(of("254:9", "/etc"), None);
    }

    #[test]
    fn an_ext_file_system_with_a_journal_to_be_replayed_is_not_clean() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let mut block = vec![0u8; 4096];
        let mut clean = |magic: [u8; 2], features: u8| {
            block[1024 + 0x38..1024 + 0x3a].copy_from_slice(&magic);
            block[1024 + 0x60] = features;
            fs::write(&path, &block).unwrap();
            is_clean_ext(&path).unwrap()
        };
        assert!(clean([0x53, 0xef], 0x42));
        assert!(!clean([0x53, 0xef], 0x46));
        assert!(!clean([0, 0], 0x42));
    }
}
