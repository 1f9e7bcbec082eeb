//! What a live pass has seen, kept here for the final one: of each directory its inode and times before it was listed, what
//! in it may change without the directory changing, and which directories it has. With it a final pass tells by one look
//! at each of these whether anything in a tree can be another than it was, and speaks only of where that is so.
//!
//! It rests on the rules that the box goes by ([`super::known`], `change` of the puller): a directory whose inode and times
//! are the same and were not young has the names that it had, or the journal tells which changed; a file of which all of
//! size, times, inode, mode and owner are the same and were not young is as it was; write-once files are written once. What
//! does not follow them is not kept here, and is listed: directories with too much in them that may change, those in which
//! something was young, those of file systems of other machines, and what the plan puts in another's place.

use mailkeep_format::{Node, Timestamp};
use mailkeep_link::limits::KNOWN_ENTRIES;
use rustix::fs::Stat;

use crate::limits;
use crate::meta::{self, Facts};

/// What was seen, by the numbers that directories had in that pass.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Start of that pass.
    clock: Timestamp,
    folders: Vec<Folder>,
    bytes: usize,
}

/// A directory.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// As it was before it was listed; `None` if it is to be listed again.
    facts: Option<Facts>,
    /// What is no write-once file and no directory that was entered.
    pub(crate) entries: Vec<Entry>,
    /// Directories that were entered, by name, and their numbers.
    pub(crate) children: Vec<(Box<[u8]>, u32)>,
}

/// Something that may change without its directory changing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Box<[u8]>,
    stamp: Stamp,
}

/// All that the box compares of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    mtime: Timestamp,
    ctime: Timestamp,
    mode: u32,
    owner: (u32, u32),
}

impl Memory {
    /// Of a pass that began at `clock` and has listed nothing.
    pub(crate) fn of(clock: Timestamp) -> Memory {
        Memory { clock, folders: Vec::new(), bytes: 0 }
    }

    /// A directory with these facts is listed, as the one of this number.
    pub(crate) fn enter(&mut self, number: u32, facts: Facts) {
        let young = self.is_young(facts.mtime) || self.is_young(facts.ctime);
        if self.bytes < limits::MEMORY_BYTES && !young {
            self.folder(number).facts = Some(facts);
        }
    }

    /// Something in it that is no directory to be entered; `is_message` if it is written once.
    pub(crate) fn saw(&mut self, number: u32, node: &Node, is_message: bool) {
        if is_message {
            if self.is_young(node.meta.ctime) {
                self.forget(number);
            }
            return;
        }
        if self.folders.get(number as usize).is_none_or(|folder| folder.facts.is_none()) {
            return;
        }
        self.bytes += size_of::<Entry>() + node.name.len() + 16;
        let entry = Entry { name: node.name.as_slice().into(), stamp: Stamp::of_node(node) };
        let entries = &mut self.folder(number).entries;
        entries.push(entry);
        if entries.len() > KNOWN_ENTRIES {
            self.forget(number);
        }
    }

    /// A directory in it that is entered next, and its number.
    pub(crate) fn child(&mut self, number: u32, name: &[u8], child: u32) {
        self.bytes += size_of::<(Box<[u8]>, u32)>() + name.len() + 16;
        if self.bytes < limits::MEMORY_BYTES {
            self.folder(number).children.push((name.into(), child));
        } else {
            // One that is missing here must not be taken for one that is as it was.
            self.forget(number);
        }
    }

    /// This directory is to be listed again.
    fn forget(&mut self, number: u32) {
        if let Some(folder) = self.folders.get_mut(number as usize) {
            folder.facts = None;
            folder.entries = Vec::new();
        }
    }

    /// The number of a directory in one that has this number.
    pub(crate) fn child_of(&self, number: u32, name: &[u8]) -> Option<u32> {
        let children = &self.folders.get(number as usize)?.children;
        let at = children.binary_search_by(|(child, _)| child.as_ref().cmp(name)).ok()?;
        children.get(at).map(|(_, number)| *number)
    }

    /// What is known of a directory that is still that of this number.
    pub(crate) fn same(&self, number: u32, now: &Facts) -> Option<&Folder> {
        let folder = self.folders.get(number as usize)?;
        folder.facts.filter(|then| (then.inode, then.device) == (now.inode, now.device)).map(|_| folder)
    }

    /// Whether an entry is as it was, and cannot have changed unseen.
    pub(crate) fn is_still(&self, entry: &Entry, now: &Stat) -> bool {
        let Stamp { mtime, ctime, .. } = entry.stamp;
        entry.stamp == Stamp::of_stat(now) && !self.is_young(mtime.max(ctime))
    }

    /// Whether it is of use for a pass that begins now.
    pub(crate) fn holds_at(&self, now: Timestamp) -> bool {
        now >= self.clock
    }

    fn is_young(&self, time: Timestamp) -> bool {
        time >= self.clock.minus_seconds(limits::SETTLED_SECONDS)
    }

    fn folder(&mut self, number: u32) -> &mut Folder {
        let at = number as usize;
        if self.folders.len() <= at {
            self.bytes += (at + 1 - self.folders.len()) * size_of::<Folder>();
            self.folders.resize_with(at + 1, Folder::default);
        }
        &mut self.folders[at]
    }
}

impl Folder {
    /// Whether it has the names that it had, by its times.
    pub(crate) fn has_its_names(&self, now: &Facts) -> bool {
        self.facts.is_some_and(|then| (then.mtime, then.ctime) == (now.mtime, now.ctime))
    }
}

impl Stamp {
    fn of_node(node: &Node) -> Stamp {
        let meta = &node.meta;
        let owner = (meta.uid, meta.gid);
        let size = node.size();
        Stamp { inode: meta.inode, size, mtime: meta.mtime, ctime: meta.ctime, mode: meta.mode, owner }
    }

    fn of_stat(stat: &Stat) -> Stamp {
        let Facts { inode, size, mtime, ctime, .. } = Facts::of(stat);
        // As in a node: only regular files have a size of their own.
        let size = if meta::file_type(stat) == rustix::fs::FileType::RegularFile { size } else { 0 };
        Stamp { inode, size, mtime, ctime, mode: stat.st_mode & 0o7777, owner: (stat.st_uid, stat.st_gid) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use mailkeep_format::Meta;

    use super::*;
    use crate::dir::Directory;

    /// Later than anything that is made here.
    const CLOCK: Timestamp = Timestamp { seconds: 1 << 40, nanos: 0 };

    fn stat(path: &Path) -> Stat {
        let parent = Directory::open(path.parent().unwrap()).unwrap();
        parent.stat(path.file_name().unwrap().as_encoded_bytes()).unwrap()
    }

    fn node(path: &Path) -> Node {
        let stat = stat(path);
        let name = path.file_name().unwrap().as_encoded_bytes().to_vec();
        let kind = meta::file_kind(&stat, Facts::of(&stat).size);
        Node { name, meta: meta::meta_of(&stat, Vec::new()), kind }
    }

    fn message(ctime: Timestamp) -> Node {
        let kind = mailkeep_format::NodeKind::File { size: 1, sparse: false, content: Vec::new() };
        Node { name: b"1.".to_vec(), meta: Meta { ctime, links: 1, ..Meta::default() }, kind }
    }

    fn before(seconds: i64) -> Timestamp {
        CLOCK.minus_seconds(seconds)
    }

    fn facts(time: Timestamp) -> Facts {
        Facts { inode: 7, device: 1, size: 4096, mtime: time, ctime: time }
    }

    #[test]
    fn whatever_happens_to_a_file_it_is_not_as_it_was() {
        let things: [fn(&Path); 6] = [
            |path| fs::write(path, "eno").unwrap(),
            |path| fs::write(path, "longer").unwrap(),
            |path| fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap(),
            |path| {
                // Another with all times of the old one, in its place.
                let (aside, time) =
                    (path.with_extension("new"), fs::metadata(path).unwrap().modified().unwrap());
                fs::write(&aside, "two").unwrap();
                fs::File::options().write(true).open(&aside).unwrap().set_modified(time).unwrap();
                fs::rename(aside, path).unwrap();
            },
            |path| {
                // Written over, and its time set back.
                let time = fs::metadata(path).unwrap().modified().unwrap();
                fs::write(path, "eno").unwrap();
                fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
            },
            |path| {
                fs::remove_file(path).unwrap();
                std::os::unix::fs::symlink("one", path).unwrap();
            },
        ];
        for (number, thing) in things.into_iter().enumerate() {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("cyrus.index");
            fs::write(&path, "one").unwrap();
            let mut memory = Memory::of(CLOCK);
            memory.enter(0, facts(before(9)));
            memory.saw(0, &node(&path), false);
            let entry = &memory.same(0, &facts(CLOCK)).unwrap().entries[0];
            assert!(memory.is_still(entry, &stat(&path)), "thing {number}");
            let then = Facts::of(&stat(&path));
            // The clock of a file system may tick only a hundred times a second.
            for _ in 0..10_000 {
                thing(&path);
                let now = Facts::of(&stat(&path));
                if (now.ctime, now.inode) != (then.ctime, then.inode) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            assert!(!memory.is_still(entry, &stat(&path)), "thing {number}");
        }
    }

    #[test]
    fn what_was_young_may_have_changed_unseen() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("cyrus.index");
        fs::write(&path, "one").unwrap();
        let written = Facts::of(&stat(&path)).ctime;
        for (later, still) in [(0, false), (2, false), (3, true)] {
            let mut memory = Memory::of(written.minus_seconds(-later));
            memory.enter(0, facts(written.minus_seconds(9)));
            memory.saw(0, &node(&path), false);
            let entry = &memory.same(0, &facts(CLOCK)).unwrap().entries[0];
            assert_eq!(memory.is_still(entry, &stat(&path)), still, "{later}");
        }
        // A directory, and a message in one.
        let mut memory = Memory::of(CLOCK);
        for (number, age) in [(0, 1), (1, 3)] {
            memory.enter(number, facts(before(age)));
        }
        assert!(memory.same(0, &facts(CLOCK)).is_none() && memory.same(1, &facts(CLOCK)).is_some());
        memory.saw(1, &message(before(3)), true);
        assert!(memory.same(1, &facts(CLOCK)).is_some());
        memory.saw(1, &message(before(2)), true);
        assert!(memory.same(1, &facts(CLOCK)).is_none());
    }

    #[test]
    fn only_the_very_same_directory_has_its_names() {
        let mut memory = Memory::of(CLOCK);
        memory.enter(3, facts(before(9)));
        assert!(memory.same(2, &facts(before(9))).is_none() && memory.same(4, &facts(before(9))).is_none());
        let then = facts(before(9));
        for other in [Facts { inode: 8, ..then }, Facts { device: 2, ..then }] {
            assert!(memory.same(3, &other).is_none());
        }
        let folder = memory.same(3, &then).unwrap();
        assert!(folder.has_its_names(&then));
        for other in [Facts { mtime: before(8), ..then }, Facts { ctime: before(8), ..then }] {
            assert!(!folder.has_its_names(&other));
        }
        assert!(memory.holds_at(CLOCK) && !memory.holds_at(before(1)), "a clock that was set back");
    }

    #[test]
    fn directories_are_found_by_name_and_number() {
        let mut memory = Memory::of(CLOCK);
        for (name, number) in [("a", 1), ("b", 2), ("d", 9)] {
            memory.child(0, name.as_bytes(), number);
        }
        assert_eq!(memory.child_of(0, b"b"), Some(2));
        assert_eq!(memory.child_of(0, b"d"), Some(9));
        assert!(memory.child_of(0, b"c").is_none() && memory.child_of(7, b"a").is_none());
    }

    #[test]
    fn what_is_too_much_is_listed_and_never_taken_for_what_it_was() {
        let home = tempfile::tempdir().unwrap();
        let mut memory = Memory::of(CLOCK);
        memory.enter(0, facts(before(9)));
        let path = home.path().join("file");
        fs::write(&path, "one").unwrap();
        for _ in 0..=KNOWN_ENTRIES {
            memory.saw(0, &node(&path), false);
        }
        assert!(memory.same(0, &facts(before(9))).is_none());
        memory.saw(0, &node(&path), false);
        assert!(memory.same(0, &facts(before(9))).is_none());
        // A directory with more in it than can be kept.
        memory.enter(1, facts(before(9)));
        for number in 0..400_000 {
            memory.child(1, format!("{number:07}").as_bytes(), 2 + number);
        }
        assert!(memory.same(1, &facts(before(9))).is_none());
        memory.enter(500_000, facts(before(9)));
        assert!(memory.same(500_000, &facts(before(9))).is_none() && memory.bytes < 2 * limits::MEMORY_BYTES);
    }
}
