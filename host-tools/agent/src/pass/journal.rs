//! What the kernel tells of known folders while a run goes on, so that a final pass need not look at every message of a
//! folder in which a few came and went (inotify(7)).
//!
//! A folder is watched from before the first look at it: whatever name comes, goes, is replaced, written to or given other
//! attributes in it after that look is in the journal. So a final pass looks at those names, and at what is no write-once
//! file as ever; all others are as they were when the folder was looked at. It also learns of a message that was written
//! over in a folder that has not changed, which no listing of folders would tell.
//!
//! It is believed only whole: where the kernel had to drop something ([`ReadFlags::QUEUE_OVERFLOW`]), where there are more
//! names than [`limits::JOURNAL_NAMES`], or where watching failed, folders are listed; and so they are on file systems that
//! somebody else may change, of which this kernel would not know ([`LOCAL`]). What it does not tell: writing to a message by
//! another of its names, in another folder, or by somebody who still has it open. The full walk every few runs finds that.

use std::collections::{BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::dir::Directory;
use crate::limits;
use crate::meta::Facts;

/// Types (statfs(2), `linux/magic.h`) of the file systems that nobody but this kernel changes: ext2 to ext4, XFS, btrfs,
/// tmpfs, F2FS, ReiserFS, JFS, ZFS. Not those of a network, of FUSE, or laid over others.
const LOCAL: [u64; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0x5265_4973, 0x3153_464a, 0x2fc1_2fc1];

/// What has happened to folders since they were first looked at.
#[derive(Debug)]
pub(crate) struct Journal {
    queue: OwnedFd,
    /// By device and inode.
    watched: HashMap<(u64, u64), Watch>,
    changed: HashMap<Watch, BTreeSet<Vec<u8>>>,
    names: usize,
    /// Something was missed: it says nothing any more.
    is_void: bool,
    /// What was told of which folder, to be compared with what comes later.
    told: Vec<(Watch, usize, PathBuf)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Watch(i32);

impl Journal {
    /// An empty one; `None` where the kernel has none to give.
    pub(crate) fn begin() -> Option<Journal> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        Some(Journal {
            queue,
            watched: HashMap::new(),
            changed: HashMap::new(),
            names: 0,
            is_void: false,
            told: Vec::new(),
        })
    }

    /// From now on tells what happens in a directory of this device and inode, which is open and was not looked at yet.
    pub(crate) fn watch(&mut self, directory: &Directory, place: (u64, u64)) {
        if self.is_void || self.watched.len() >= limits::JOURNAL_FOLDERS || self.watched.contains_key(&place)
        {
            return;
        }
        if !LOCAL.contains(&directory.file_system()) {
            return;
        }
        // The open directory itself, whatever its path leads to by now.
        let path = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
        let what = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        if let Ok(number) = inotify::add_watch(&self.queue, path, what) {
            self.watched.insert(place, Watch(number));
        }
    }

    /// Takes in what the kernel has to tell.
    pub(crate) fn listen(&mut self) {
        if self.is_void {
            return;
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => continue,
                Err(_) => {
                    self.is_void = true;
                    return;
                }
            };
            let (watch, what) = (Watch(event.wd()), event.events());
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.is_void = true;
                return;
            }
            // The directory is gone; its inode may become another's.
            if what.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT) {
                self.watched.retain(|_, known| *known != watch);
                continue;
            }
            // Without a name it is about the directory itself, of which its own times and its parent tell.
            let Some(name) = event.file_name() else { continue };
            if self.changed.entry(watch).or_default().insert(name.to_bytes().to_vec()) {
                self.names += 1;
                if self.names > limits::JOURNAL_NAMES {
                    self.is_void = true;
                    return;
                }
            }
        }
    }

    /// The names in a directory to which something happened since it was first looked at; `None` if that is not known.
    pub(crate) fn changed(&mut self, facts: &Facts, path: &Path) -> Option<Vec<Vec<u8>>> {
        self.listen();
        let watch = *self.watched.get(&(facts.device, facts.inode)).filter(|_| !self.is_void)?;
        let names: Vec<_> = self.changed.get(&watch).into_iter().flatten().cloned().collect();
        self.told.push((watch, names.len(), path.to_owned()));
        Some(names)
    }

    /// Whether, as far as was listened, something happened to other names in a directory than these, which ascend.
    pub(crate) fn has_more_than(&self, facts: &Facts, entries: &[(u32, Vec<u8>)]) -> bool {
        let watch = self.watched.get(&(facts.device, facts.inode)).filter(|_| !self.is_void);
        let names = watch.and_then(|watch| self.changed.get(watch));
        let is_other = |name: &Vec<u8>| entries.binary_search_by(|(_, entry)| entry.cmp(name)).is_err();
        names.is_some_and(|names| names.iter().any(is_other))
    }

    /// Whether, as far as was listened, nothing happened in a directory since it was first looked at; `None` if that is not
    /// known.
    pub(crate) fn is_silent(&mut self, facts: &Facts, path: impl FnOnce() -> PathBuf) -> Option<bool> {
        let watch = *self.watched.get(&(facts.device, facts.inode)).filter(|_| !self.is_void)?;
        let silent = !self.changed.contains_key(&watch);
        if silent {
            self.told.push((watch, 0, path()));
        }
        Some(silent)
    }

    /// Of the directories that it was asked for, one line for each in which more happened since.
    pub(crate) fn moved(&mut self) -> Vec<String> {
        self.listen();
        let void = self.is_void;
        let now = |watch: &Watch| self.changed.get(watch).map_or(0, BTreeSet::len);
        let more = self.told.iter().filter(|(watch, names, _)| void || now(watch) > *names);
        let lines = more.map(|(.., path)| format!("{} changed after it was looked at", path.display()));
        lines.take(limits::JOURNAL_LINES).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Lab {
        folder: tempfile::TempDir,
        journal: Journal,
        facts: Facts,
    }

    impl Lab {
        fn new() -> Lab {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("1."), "one").unwrap();
            let directory = Directory::open(folder.path()).unwrap();
            let facts = Facts::of(&directory.stat_self().unwrap());
            let mut journal = Journal::begin().unwrap();
            journal.watch(&directory, (facts.device, facts.inode));
            Lab { folder, journal, facts }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn changed(&mut self) -> Option<Vec<String>> {
            let names = self.journal.changed(&self.facts, self.folder.path())?;
            Some(names.into_iter().map(|name| String::from_utf8(name).unwrap()).collect())
        }
    }

    /// A name, and what happens to it.
    type Thing = (&'static str, fn(&Lab));

    #[test]
    fn every_way_in_which_a_name_can_change_is_told() {
        let things: [Thing; 8] = [
            ("2.", |lab| fs::write(lab.at("2."), "two").unwrap()),
            ("1.", |lab| fs::remove_file(lab.at("1.")).unwrap()),
            ("1.", |lab| fs::write(lab.at("1."), "eno").unwrap()),
            ("3.", |lab| fs::hard_link(lab.at("1."), lab.at("3.")).unwrap()),
            ("sub", |lab| fs::create_dir(lab.at("sub")).unwrap()),
            ("1.", |lab| {
                let elsewhere = tempfile::tempdir().unwrap();
                fs::write(elsewhere.path().join("other"), "for").unwrap();
                fs::rename(elsewhere.path().join("other"), lab.at("1.")).unwrap();
            }),
            ("1.", |lab| {
                let elsewhere = tempfile::tempdir().unwrap();
                fs::rename(lab.at("1."), elsewhere.path().join("other")).unwrap();
            }),
            ("1.", |lab| {
                let file = fs::File::options().write(true).open(lab.at("1.")).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }),
        ];
        for (number, (name, thing)) in things.into_iter().enumerate() {
            let mut lab = Lab::new();
            assert_eq!(lab.changed().unwrap(), Vec::<String>::new());
            thing(&lab);
            assert_eq!(lab.changed().unwrap(), [name], "thing {number}");
        }
    }

    #[test]
    fn looking_is_nothing_that_happens() {
        let mut lab = Lab::new();
        assert_eq!(fs::read_dir(lab.folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read(lab.at("1.")).unwrap(), b"one");
        assert!(lab.changed().unwrap().is_empty() && lab.journal.moved().is_empty());
    }

    #[test]
    fn what_happens_after_it_was_asked_is_told_at_the_end() {
        let mut lab = Lab::new();
        fs::write(lab.at("2."), "before").unwrap();
        assert_eq!(lab.changed().unwrap(), ["2."]);
        assert!(lab.journal.moved().is_empty());
        fs::write(lab.at("3."), "after").unwrap();
        assert_eq!(lab.journal.moved().len(), 1);
    }

    #[test]
    fn what_is_not_watched_or_not_whole_is_not_known() {
        let mut lab = Lab::new();
        let other = Facts { inode: lab.facts.inode + 1, ..lab.facts };
        assert!(lab.journal.changed(&other, Path::new("/")).is_none());
        assert!(lab.changed().is_some());
        // More than the kernel keeps for one reader.
        let most: usize =
            fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        for number in 0..=most {
            fs::write(lab.at(if number % 2 == 0 { "a" } else { "b" }), "x").unwrap();
        }
        assert!(lab.changed().is_none());
        assert_eq!(lab.journal.moved().len(), 1, "what it had said before cannot be vouched for");
    }

    /// Changed by nobody's call on it, as a folder of another machine is.
    #[test]
    fn a_file_system_that_changes_by_itself_is_not_known() {
        let path = Path::new("/proc/self/fd");
        let directory = Directory::open(path).unwrap();
        let facts = Facts::of(&directory.stat_self().unwrap());
        let mut journal = Journal::begin().unwrap();
        journal.watch(&directory, (facts.device, facts.inode));
        assert!(journal.changed(&facts, path).is_none());
    }

    #[test]
    fn a_directory_that_is_gone_is_not_taken_for_its_successor() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("folder");
        fs::create_dir(&path).unwrap();
        let directory = Directory::open(&path).unwrap();
        let facts = Facts::of(&directory.stat_self().unwrap());
        let mut journal = Journal::begin().unwrap();
        journal.watch(&directory, (facts.device, facts.inode));
        drop(directory);
        fs::remove_dir(&path).unwrap();
        assert!(journal.changed(&facts, &path).is_none());
    }
}
