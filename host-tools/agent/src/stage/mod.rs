//! The stage: what files held at one moment, kept while mail runs on.
//!
//! Nothing here has a name. A copy goes into a file without one (`O_TMPFILE`) on the file system of what it is a copy of,
//! and a write-once file is kept by an open descriptor alone: an expunge takes its name and nothing else. So the kernel
//! clears the stage away with the last descriptor, whichever way the agent dies, a power cut included; nobody can find,
//! fill or fake it, the walk cannot meet it, and no link of ours moves the times or the link count of a message (a hard
//! link would make the next run read every staged message again).
//!
//! Large files are cloned where the file system can, the others are copied: a clone makes the file system write out what
//! it clones first, and mail waits for that.
//!
//! The stage takes no more than [`limits::STAGE_BYTES`], and of each file system no more than half of what is free.

pub(crate) mod record;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailkeep_format::Node;
use rustix::fs::{FileType, Mode, OFlags, fstat, fstatvfs, ioctl_ficlone, openat};

use crate::dir::{self, Directory, Xattrs};
use crate::limits;
use crate::meta::{self, Facts};

/// Where the contents of one file are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The file itself, by this descriptor.
    Held(u32),
    /// A clone of its own.
    Cloned(u32),
    /// A copy in this room from this place on.
    Copied { room: u32, at: u64 },
}

/// A file that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Staged {
    pub(crate) kept: Kept,
    pub(crate) xattrs: Xattrs,
    /// It was as it was listed, before and after it was taken.
    pub(crate) steady: bool,
}

/// Why a file is not kept.
#[derive(Debug)]
pub(crate) enum NotKept {
    /// It cannot be had; reading it will tell why.
    Lost,
    /// There is no room, in one line.
    Full(String),
}

/// What files held.
#[derive(Debug)]
pub(crate) struct Stage {
    rooms: Vec<Room>,
    by_device: HashMap<u64, u32>,
    descriptors: Vec<Arc<File>>,
    descriptors_max: usize,
    /// Files with several names that are kept already, by device and inode.
    links: HashMap<(u64, u64), Kept>,
    /// A folder of our own for what cannot be kept where it lies.
    spare: PathBuf,
    bytes_max: u64,
    /// Files that are kept.
    pub(crate) files: u64,
    /// Bytes that were copied.
    pub(crate) bytes: u64,
}

/// A file without a name that copies go into.
#[derive(Debug)]
struct Room {
    file: Arc<File>,
    end: u64,
    left: u64,
    clones: bool,
}

impl Stage {
    /// An empty one; `spare` is a private folder.
    pub(crate) fn new(spare: PathBuf, descriptors_max: usize, bytes_max: u64) -> Stage {
        Stage {
            rooms: Vec::new(),
            by_device: HashMap::new(),
            descriptors: Vec::new(),
            descriptors_max,
            links: HashMap::new(),
            spare,
            bytes_max,
            files: 0,
            bytes: 0,
        }
    }

    /// Keeps what a file of this directory holds that was listed as this node.
    pub(crate) fn keep(
        &mut self,
        directory: &Directory,
        listed: &Node,
        write_once: bool,
    ) -> Result<Staged, NotKept> {
        let file = directory.open_file(&listed.name).map_err(|_| NotKept::Lost)?;
        let before = fstat(&file).map_err(|_| NotKept::Lost)?;
        if meta::file_type(&before) != FileType::RegularFile {
            return Err(NotKept::Lost);
        }
        let facts = Facts::of(&before);
        let xattrs = dir::xattrs_of_file(&file).map_err(|_| NotKept::Lost)?;
        let link = (before.st_nlink > 1).then_some((facts.device, facts.inode));
        let kept = match link.and_then(|link| self.links.get(&link)) {
            Some(kept) => *kept,
            None => self.take(directory, file, &facts, write_once)?,
        };
        if let Some(link) = link.filter(|_| self.links.len() < limits::STAGED_LINKS) {
            self.links.insert(link, kept);
        }
        self.files += 1;
        Ok(Staged { kept, xattrs, steady: facts.is_of(listed) })
    }

    fn take(
        &mut self,
        directory: &Directory,
        file: File,
        facts: &Facts,
        write_once: bool,
    ) -> Result<Kept, NotKept> {
        let may_hold = self.descriptors.len() < self.descriptors_max;
        if write_once && may_hold {
            return Ok(Kept::Held(self.hold(file)));
        }
        let number = self.room(directory, facts.device)?;
        let room = &mut self.rooms[number as usize];
        if facts.size >= limits::CLONED_FROM && may_hold && room.clones {
            let clone =
                nameless(directory).and_then(|clone| Ok(ioctl_ficlone(&clone, &file).map(|()| clone)?));
            match clone {
                Ok(clone) => return Ok(Kept::Cloned(self.hold(clone))),
                // Not on this file system.
                Err(_) => room.clones = false,
            }
        }
        let room = &mut self.rooms[number as usize];
        let may_take = room.left.min(self.bytes_max.saturating_sub(self.bytes));
        if facts.size > may_take {
            return Err(NotKept::Full(format!(
                "what has to be kept needs more than the {} MB that it may take",
                (self.bytes + may_take) >> 20
            )));
        }
        let at = room.end;
        let copied = room.copy(&file, facts.size)?;
        self.bytes += copied;
        // A file that grew is not the one that was listed; one that shrank is padded and told as moved.
        let after = fstat(&file).map_err(|_| NotKept::Lost)?;
        if copied != facts.size || Facts::of(&after) != *facts {
            return Err(NotKept::Lost);
        }
        Ok(Kept::Copied { room: number, at })
    }

    fn hold(&mut self, file: File) -> u32 {
        self.descriptors.push(Arc::new(file));
        (self.descriptors.len() - 1) as u32
    }

    /// The room for copies of what lies on this device, of which `directory` is a part.
    fn room(&mut self, directory: &Directory, device: u64) -> Result<u32, NotKept> {
        if let Some(number) = self.by_device.get(&device) {
            return Ok(*number);
        }
        let (file, clones) = match nameless(directory) {
            Ok(file) => (file, true),
            // Read-only, or of a kind that has no files without names.
            Err(_) => {
                let spare = spare_file(&self.spare);
                (
                    spare.map_err(|error| NotKept::Full(format!("there is nowhere to keep it: {error}")))?,
                    false,
                )
            }
        };
        let left = free_for_us(&file)
            .map_err(|error| NotKept::Full(format!("how much room there is cannot be told: {error}")))?;
        self.rooms.push(Room { file: Arc::new(file), end: 0, left, clones });
        let number = (self.rooms.len() - 1) as u32;
        self.by_device.insert(device, number);
        Ok(number)
    }

    /// What is kept of a file of this size, and the file itself if it is that which is held.
    pub(crate) fn contents(&self, kept: Kept, size: u64) -> Option<(Section, Option<Arc<File>>)> {
        let section = |file: &Arc<File>, at| Section { file: Arc::clone(file), at, left: size };
        Some(match kept {
            Kept::Held(number) => {
                let file = self.descriptors.get(number as usize)?;
                (section(file, 0), Some(Arc::clone(file)))
            }
            Kept::Cloned(number) => (section(self.descriptors.get(number as usize)?, 0), None),
            Kept::Copied { room, at } => (section(&self.rooms.get(room as usize)?.file, at), None),
        })
    }
}

impl Room {
    /// Copies a file of this size to the end; returns how much of it there was.
    fn copy(&mut self, file: &File, size: u64) -> Result<u64, NotKept> {
        let mut buffer = vec![0u8; usize::try_from(size).unwrap_or(usize::MAX).clamp(1, limits::STAGE_STEP)];
        let mut done = 0;
        while done < size {
            let step = usize::try_from(size - done).unwrap_or(usize::MAX).min(buffer.len());
            let got = match file.read_at(&mut buffer[..step], done) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(NotKept::Lost),
            };
            self.file
                .write_all_at(&buffer[..got], self.end + done)
                .map_err(|error| NotKept::Full(format!("a copy could not be written: {error}")))?;
            done += got as u64;
        }
        self.end += done;
        self.left -= done;
        Ok(done)
    }
}

/// A part of a file, read from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let step = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.file.read_at(&mut buffer[..step], self.at)?;
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

/// A file without a name, and that never gets one, on the file system of this directory.
fn nameless(directory: &Directory) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(openat(directory.as_fd(), ".", flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// A file in our own folder that has lost its name already.
pub(crate) fn spare_file(folder: &Path) -> io::Result<File> {
    let nameless =
        Directory::open(folder).map_err(io::Error::from).and_then(|directory| nameless(&directory));
    if nameless.is_ok() {
        return nameless;
    }
    clear(folder);
    let path = folder.join(SPARE);
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.read(true).write(true).create_new(true), 0o600);
    let file = options.open(&path)?;
    clear(folder);
    Ok(file)
}

/// Name of [`spare_file`] for the moment that it has one.
const SPARE: &str = "staged";

/// Clears away what a run left behind that died between the two calls of [`spare_file`].
pub(crate) fn clear(folder: &Path) {
    let _ = std::fs::remove_file(folder.join(SPARE));
}

/// Bytes that the stage may take of the file system of this file.
fn free_for_us(file: &File) -> io::Result<u64> {
    let stat = fstatvfs(file)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) / limits::STAGE_SHARE)
}

/// Bytes that the stage may take of the file system of this folder, or of `spare` if nothing can be written there.
pub(crate) fn room_for(folder: &Path, spare: &Path) -> io::Result<u64> {
    let there = Directory::open(folder).map_err(io::Error::from).and_then(|folder| nameless(&folder));
    let file = there.or_else(|_| spare_file(spare))?;
    free_for_us(&file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use mailkeep_format::{NodeKind, Timestamp};

    use super::*;

    struct Lab {
        home: tempfile::TempDir,
        folder: Directory,
    }

    impl Lab {
        fn new() -> Lab {
            let home = tempfile::tempdir().unwrap();
            std::fs::create_dir(home.path().join("spool")).unwrap();
            let folder = Directory::open(&home.path().join("spool")).unwrap();
            Lab { home, folder }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.home.path().join("spool").join(name)
        }

        fn stage(&self, descriptors: usize, bytes: u64) -> Stage {
            Stage::new(self.home.path().to_owned(), descriptors, bytes)
        }

        fn put(&self, name: &str, bytes: &[u8]) -> Node {
            std::fs::write(self.path(name), bytes).unwrap();
            self.listed(name)
        }

        fn listed(&self, name: &str) -> Node {
            let stat = self.folder.stat(name.as_bytes()).unwrap();
            let kind = meta::file_kind(&stat, Facts::of(&stat).size);
            Node { name: name.as_bytes().to_vec(), meta: meta::meta_of(&stat, Vec::new()), kind }
        }
    }

    fn read(stage: &Stage, staged: &Staged, node: &Node) -> Vec<u8> {
        let mut bytes = Vec::new();
        stage.contents(staged.kept, node.size()).unwrap().0.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn contents_stay_whatever_becomes_of_the_file() {
        let lab = Lab::new();
        let mut stage = lab.stage(10, 1 << 30);
        let message = lab.put("1.", b"a message");
        let small = lab.put("cyrus.index", &[5; 300_000]);
        let large = lab.put("cyrus.cache", &vec![6; limits::CLONED_FROM as usize + 7]);
        let empty = lab.put("empty", b"");
        let kept: Vec<_> = [(&message, true), (&small, false), (&large, false), (&empty, false)]
            .into_iter()
            .map(|(node, write_once)| stage.keep(&lab.folder, node, write_once).unwrap())
            .collect();
        assert_eq!(kept[0].kept, Kept::Held(0));
        assert!(matches!(kept[1].kept, Kept::Copied { at: 0, .. }));
        assert!(kept.iter().all(|staged| staged.steady));
        std::fs::remove_file(lab.path("1.")).unwrap();
        std::fs::write(lab.path("cyrus.index"), b"other").unwrap();
        let mut file = std::fs::OpenOptions::new().write(true).open(lab.path("cyrus.cache")).unwrap();
        file.write_all(b"other").unwrap();
        std::fs::write(lab.path("empty"), b"no more").unwrap();
        assert_eq!(read(&stage, &kept[0], &message), b"a message");
        assert_eq!(read(&stage, &kept[1], &small), [5; 300_000]);
        assert_eq!(read(&stage, &kept[2], &large), vec![6; limits::CLONED_FROM as usize + 7]);
        assert_eq!(read(&stage, &kept[3], &empty), b"");
        assert_eq!(stage.files, 4);
    }

    #[test]
    fn nothing_is_seen_of_it() {
        let lab = Lab::new();
        let mut stage = lab.stage(1, 1 << 30);
        let before: Vec<Node> =
            ["1.", "2.", "cyrus.index"].map(|name| lab.put(name, name.as_bytes())).to_vec();
        let folder = Facts::of(&lab.folder.stat_self().unwrap());
        for node in &before {
            stage.keep(&lab.folder, node, node.name != b"cyrus.index").unwrap();
        }
        assert_eq!(Facts::of(&lab.folder.stat_self().unwrap()), folder);
        assert_eq!(lab.folder.names().unwrap().len(), 3);
        assert_eq!(std::fs::read_dir(lab.home.path()).unwrap().count(), 1);
        assert_eq!(["1.", "2.", "cyrus.index"].map(|name| lab.listed(name)).to_vec(), before);
    }

    #[test]
    fn it_takes_no_more_than_it_may() {
        let lab = Lab::new();
        let mut stage = lab.stage(2, 1000);
        let node = lab.put("a", &[1; 600]);
        stage.keep(&lab.folder, &node, false).unwrap();
        let full = stage.keep(&lab.folder, &lab.put("b", &[1; 600]), false).unwrap_err();
        assert!(matches!(full, NotKept::Full(_)), "{full:?}");
        // Descriptors take no room; without any left a message is copied like all else.
        for number in 1..4 {
            let name = format!("{number}.");
            let kept = stage.keep(&lab.folder, &lab.put(&name, &[2; 300]), true).unwrap();
            assert_eq!(matches!(kept.kept, Kept::Held(_)), number < 3, "{number}");
        }
        assert_eq!(stage.bytes, 900);
    }

    #[test]
    fn a_file_with_several_names_is_kept_once() {
        let lab = Lab::new();
        let mut stage = lab.stage(10, 1 << 30);
        lab.put("a", &[1; 600]);
        std::fs::hard_link(lab.path("a"), lab.path("b")).unwrap();
        let kept = ["a", "b"].map(|name| stage.keep(&lab.folder, &lab.listed(name), false).unwrap());
        assert_eq!(kept[0], kept[1]);
        assert_eq!((stage.files, stage.bytes), (2, 600));
    }

    #[test]
    fn what_is_not_as_it_was_listed_is_told() {
        let lab = Lab::new();
        let mut stage = lab.stage(10, 1 << 30);
        let mut node = lab.put("a", b"now");
        node.meta.ctime = Timestamp { seconds: 1, nanos: 1 };
        assert!(!stage.keep(&lab.folder, &node, false).unwrap().steady);
        let mut shorter = lab.listed("a");
        shorter.kind = NodeKind::File { size: 2, sparse: false, content: Vec::new() };
        assert!(!stage.keep(&lab.folder, &shorter, true).unwrap().steady);
        std::fs::remove_file(lab.path("a")).unwrap();
        std::fs::create_dir(lab.path("a")).unwrap();
        assert!(matches!(stage.keep(&lab.folder, &node, false), Err(NotKept::Lost)));
        std::fs::remove_dir(lab.path("a")).unwrap();
        assert!(matches!(stage.keep(&lab.folder, &node, false), Err(NotKept::Lost)));
        std::os::unix::fs::symlink("/etc/passwd", lab.path("a")).unwrap();
        assert!(matches!(stage.keep(&lab.folder, &node, true), Err(NotKept::Lost)));
    }

    #[test]
    fn what_a_run_left_in_our_own_folder_is_cleared_away() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(SPARE), "left behind").unwrap();
        let mut file = spare_file(home.path()).unwrap();
        file.write_all(b"x").unwrap();
        assert!(room_for(home.path(), home.path()).unwrap() > 0);
        clear(home.path());
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
