//! Where each mailbox lies in a copy: found by walking the partitions and reading each cyrus.header.
//!
//! Lists of 3.4 and older have no unique ids. There the folders say the name: in the old layout a path is the
//! name with `/` for `.`, behind a hash letter where hashing is on, and behind `domain/` for virtual domains.
//! A path can be read in more than one way, so each reading is looked up in the list.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::tree::{EntryKind, MailTree};
use super::{Below, MailCheck, Problem, ProblemKind};
use crate::cyrus::header::CyrusHeader;
use crate::cyrus::mailbox_list::{MailboxEntry, MailboxName};
use crate::cyrus::profile::Partition;
use crate::limits::TREE_DEPTH;

/// The folders of a copy that hold a cyrus.header, by what they can be found with.
pub(super) struct Sites {
    by_id: HashMap<(usize, String), Vec<Site>>,
    by_name: HashMap<(usize, String), Below>,
    partitions: Vec<String>,
    folders: u64,
    taken: u64,
}

/// A folder with its unique id already known.
struct Site {
    below: Below,
    name: Option<MailboxName>,
}

struct Walk<'a> {
    sites: Sites,
    /// Names of the list that have no unique id, so that only those are kept.
    unnamed: std::collections::HashSet<&'a str>,
    roots: Vec<&'a Path>,
}

impl Sites {
    /// Walks the folder of each partition in which headers lie.
    pub(super) fn walk<T: MailTree>(
        list: &[MailboxEntry],
        partitions: &[Partition],
        tree: &mut T,
        check: &mut MailCheck,
    ) -> Result<Sites, T::Error> {
        let mut walk = Walk {
            sites: Sites {
                by_id: HashMap::new(),
                by_name: HashMap::new(),
                partitions: partitions.iter().map(|partition| partition.name.clone()).collect(),
                folders: 0,
                taken: 0,
            },
            unnamed: list
                .iter()
                .filter(|entry| entry.unique_id.is_none() && entry.mailbox_type.has_folder())
                .map(|entry| entry.name.as_str())
                .collect(),
            roots: partitions.iter().flat_map(Partition::folders).collect(),
        };
        for (number, partition) in partitions.iter().enumerate() {
            walk.partition(number, partition.header_folder(), tree, check)?;
        }
        Ok(walk.sites)
    }

    /// The folder of a mailbox, below the roots of its partition. Each folder is given out once.
    pub(super) fn take(&mut self, entry: &MailboxEntry, partition: &Partition) -> Option<Below> {
        let number = self.partitions.iter().position(|name| *name == partition.name)?;
        let found = match &entry.unique_id {
            Some(id) => {
                let sites = self.by_id.get_mut(&(number, id.as_str().to_owned()))?;
                // After a rename that was cut short, two folders have the id; the name decides.
                let named = sites.iter().position(|site| site.name.as_ref() == Some(&entry.name));
                match named {
                    Some(position) => Some(sites.swap_remove(position).below),
                    None => sites.pop().map(|site| site.below),
                }
            }
            None => self.by_name.remove(&(number, entry.name.as_str().to_owned())),
        };
        self.taken += u64::from(found.is_some());
        found
    }

    /// How many folders no mailbox of the list asked for.
    pub(super) fn left(&self) -> u64 {
        self.folders.saturating_sub(self.taken)
    }
}

impl Walk<'_> {
    fn partition<T: MailTree>(
        &mut self,
        number: usize,
        root: &Path,
        tree: &mut T,
        check: &mut MailCheck,
    ) -> Result<(), T::Error> {
        let mut open: Vec<(PathBuf, usize)> = vec![(PathBuf::new(), 0)];
        while let Some((below, depth)) = open.pop() {
            let folder = root.join(&below);
            let mut has_header = false;
            tree.list(&folder, &mut |entry| match entry.kind {
                EntryKind::Directory => {
                    let path = below.join(OsStr::from_bytes(entry.name));
                    // Another partition inside this one is walked on its own.
                    if depth < TREE_DEPTH && !self.roots.contains(&root.join(&path).as_path()) {
                        open.push((path, depth + 1));
                    }
                }
                EntryKind::File => has_header |= entry.name == b"cyrus.header",
                EntryKind::Other => {}
            })?;
            if has_header {
                self.header(number, root, &below, tree, check)?;
            }
        }
        Ok(())
    }

    fn header<T: MailTree>(
        &mut self,
        number: usize,
        root: &Path,
        below: &Path,
        tree: &mut T,
        check: &mut MailCheck,
    ) -> Result<(), T::Error> {
        let folder = root.join(below);
        let bytes = tree.read(&folder.join("cyrus.header"))?.unwrap_or_default();
        self.sites.folders += 1;
        let header = match CyrusHeader::parse(&bytes) {
            Ok(header) => header,
            Err(error) => {
                check.report(
                    Problem::new(ProblemKind::DamagedHeader).folder(&folder).detail(error.to_string()),
                );
                return Ok(());
            }
        };
        // In the old layout the path is what Cyrus itself goes by; a name in the header can be an earlier one.
        let in_header = header.name.iter().map(|name| name.as_str().to_owned());
        let readings = names_of(below).into_iter().chain(in_header);
        for name in readings {
            if self.unnamed.contains(name.as_str()) {
                self.sites.by_name.insert((number, name), below.to_owned());
                break;
            }
        }
        if let Some(id) = header.unique_id {
            let site = Site { below: below.to_owned(), name: header.name };
            self.sites.by_id.entry((number, id.as_str().to_owned())).or_default().push(site);
        }
        Ok(())
    }
}

/// The internal names that a folder of the old layout may stand for, the likelier first.
pub fn names_of(below: &Path) -> Vec<String> {
    let levels: Vec<String> =
        below.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let is_hash = |level: Option<&String>| level.is_some_and(|level| level.chars().count() == 1);
    let joined = |levels: &[String]| levels.join(".");
    let mut names = Vec::new();
    if levels.first().is_some_and(|level| level == "domain") {
        let inside = if is_hash(levels.get(1)) { &levels[2..] } else { &levels[1..] };
        if let Some((domain, rest)) = inside.split_first() {
            if is_hash(rest.first()) {
                names.push(format!("{domain}!{}", joined(&rest[1..])));
            }
            names.push(format!("{domain}!{}", joined(rest)));
        }
    }
    if is_hash(levels.first()) {
        names.push(joined(&levels[1..]));
    }
    names.push(joined(&levels));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_old_layout_says_its_name() {
        for (folder, name) in [
            ("j/user/john^doe/Sub", "user.john^doe.Sub"),
            ("user/john/Ab cd", "user.john.Ab cd"),
            ("domain/e/example.org/x/user/x", "example.org!user.x"),
            ("domain/example.org/user/x/Sub", "example.org!user.x.Sub"),
            ("u/DELETED/user/john/Gone/6B03640B", "DELETED.user.john.Gone.6B03640B"),
            ("x", "x"),
        ] {
            assert!(names_of(Path::new(folder)).contains(&name.to_owned()), "{folder}");
        }
        assert_eq!(names_of(Path::new("")), [""]);
    }
}
