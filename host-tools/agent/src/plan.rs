//! Where the walk goes: the roots and single files of a profile, merged into one tree of names from "/" down.
//!
//! Symbolic links on the way to a root are taken apart here. With `/var/spool/cyrus` where `/var/spool` is a link to
//! `/srv/spool`, the tree has the link `/var/spool` as a single entry and the root `/srv/spool/cyrus`; the profile is
//! still asked about `/var/spool/cyrus/…`, the path that the mail system uses.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use mailkeep_mail::scope::Presence;
use rustix::io::Errno;

use crate::dir::Directory;
use crate::error::AgentError;
use crate::places::Places;
use crate::real_path::follow;

/// A name on the way, and what is wanted there.
#[derive(Debug, Default)]
pub struct Stop {
    /// What lies below that is wanted too.
    pub children: BTreeMap<Vec<u8>, Stop>,
    /// A tree begins here; the profile knows it under this path.
    pub root: Option<PathBuf>,
    /// In place of this directory another one is read (the exported list).
    pub instead: Option<PathBuf>,
    /// What this directory held at one moment is kept, and can be walked at any time.
    pub kept: Option<KeptTree>,
}

/// A directory of a snapshot that is what another one was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptTree {
    /// Where it is.
    pub folder: PathBuf,
    /// The device that the original is on.
    pub device: u64,
}

impl KeptTree {
    /// Opens it in the place of the original.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self) -> Result<Directory, Errno> {
        Directory::open_kept(&self.folder, self.device)
    }
}

/// The merged tree and what was noticed while it was made.
#[derive(Debug, Default)]
pub struct Plan {
    /// The stop at "/".
    pub top: Stop,
    /// Real paths of the trees.
    pub roots: Vec<PathBuf>,
    /// Single files that ought to be there and are not: path and who named it.
    pub missing: Vec<(PathBuf, String)>,
}

impl Plan {
    /// Looks at the disk and merges.
    ///
    /// # Errors
    /// [`AgentError::RootMissing`] if a required root is not there; [`AgentError::OutOfReach`] if one is where it must not be.
    pub fn new(profile: &Places) -> Result<Plan, AgentError> {
        let mut plan = Plan::default();
        for root in profile.roots() {
            match plan.resolve(&root.path) {
                Ok(real) => {
                    profile.see(&real, &root.named_by)?;
                    plan.top.at(&real).root = Some(root.path.clone());
                    plan.roots.push(real);
                }
                Err(Errno::NOENT | Errno::NOTDIR) if root.presence == Presence::Optional => {}
                Err(error) => {
                    return Err(AgentError::RootMissing {
                        path: root.path.clone(),
                        named_by: root.named_by.clone(),
                        source: error.into(),
                    });
                }
            }
        }
        for file in profile.files() {
            match plan.resolve(&file.path) {
                Ok(real) => {
                    profile.see(&real, &file.named_by)?;
                    let is_folder = real.is_dir();
                    let stop = plan.top.at(&real);
                    // A folder of certificates, say.
                    if is_folder && stop.root.is_none() {
                        stop.root = Some(file.path.clone());
                    }
                }
                Err(_) if file.presence == Presence::Optional => {}
                Err(_) => plan.missing.push((file.path.clone(), file.named_by.clone())),
            }
        }
        Ok(plan)
    }

    /// Follows a path to what it really names; every link on the way becomes an entry of its own.
    fn resolve(&mut self, path: &Path) -> Result<PathBuf, Errno> {
        follow(path, &mut |link| {
            self.top.at(link);
        })
    }
}

impl Stop {
    /// The stop of an absolute path without links, made if it is not there.
    pub fn at(&mut self, path: &Path) -> &mut Stop {
        let mut stop = self;
        for part in path.components() {
            if let Component::Normal(name) = part {
                stop = stop.children.entry(name.as_bytes().to_vec()).or_default();
            }
        }
        stop
    }

    /// The stop of an absolute path without links, if there is one.
    pub fn find(&self, path: &Path) -> Option<&Stop> {
        path.components().try_fold(self, |stop, part| match part {
            Component::Normal(name) => stop.children.get(name.as_bytes()),
            _ => Some(stop),
        })
    }
}

#[cfg(test)]
mod tests {
    use mailkeep_mail::Source;

    use super::*;

    fn plan_of(paths: &[&Path]) -> Result<Plan, AgentError> {
        let list: Vec<String> = paths.iter().map(|path| format!("{:?}", path.to_str().unwrap())).collect();
        let text = format!(
            "name=\"t\"\nsystem=\"generic\"\n[transport]\nkind=\"local\"\n[generic]\npaths=[{}]\n",
            list.join(",")
        );
        let source = Source::parse(&text, "t").unwrap();
        Plan::new(&Places::of(&source, None).unwrap())
    }

    #[test]
    fn links_on_the_way_are_entries_and_their_targets_are_walked() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("srv/spool/cyrus")).unwrap();
        std::fs::create_dir_all(base.join("var")).unwrap();
        std::os::unix::fs::symlink("../srv/spool", base.join("var/spool")).unwrap();
        std::os::unix::fs::symlink(base.join("var/spool/cyrus"), base.join("imap")).unwrap();
        let mut plan = plan_of(&[&base.join("imap")]).unwrap();
        assert_eq!(plan.roots, [base.join("srv/spool/cyrus")]);
        assert_eq!(plan.top.at(&base.join("srv/spool/cyrus")).root, Some(base.join("imap")));
        let here = plan.top.at(&base);
        let names: Vec<_> =
            here.children.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(names, ["imap", "srv", "var"]);
        assert!(here.children[b"imap".as_slice()].children.is_empty());
        assert!(here.children[b"var".as_slice()].children[b"spool".as_slice()].children.is_empty());
    }

    #[test]
    fn loops_and_missing_roots_are_errors_that_name_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("b")).unwrap();
        for name in ["a", "nothing"] {
            let error = plan_of(&[&dir.path().join(name)]).unwrap_err();
            assert!(error.to_string().contains(&format!("/{name}")), "{error}");
        }
    }
}
