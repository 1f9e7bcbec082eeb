//! What would be rebuilt on this server: the trees of the profile, where they really are, and what can be exchanged there.

use std::path::{Path, PathBuf};

use mailkeep_link::rebuild::Tree;
use mailkeep_mail::scope::Root;
use rustix::fs::statvfs;

use crate::error::AgentError;
use crate::places::Places;
use crate::swap::beside;

/// One tree.
#[derive(Debug, Clone)]
pub struct Site {
    /// The key of the configuration that names it.
    pub role: String,
    /// As the profile calls it.
    pub path: PathBuf,
    /// Where it really is; it need not be there.
    pub real: PathBuf,
    /// A file system is mounted there, so that what lies in it moves and not it.
    pub mounted: bool,
}

impl Site {
    /// Those of a profile.
    ///
    /// # Errors
    /// One of them is none that could be exchanged, or is out of the key's reach.
    pub fn all(profile: &Places) -> Result<Vec<Site>, AgentError> {
        let mounts = beside::mount_points()?;
        let site = |root: &Root| {
            let site = Site::of(&root.path, &root.named_by, &mounts)?;
            profile.see(&site.real, &root.named_by)?;
            Ok(site)
        };
        profile.roots().iter().map(site).collect()
    }

    fn of(path: &Path, named_by: &str, mounts: &[PathBuf]) -> Result<Site, AgentError> {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let above = path.parent().and_then(|parent| parent.canonicalize().ok());
                match above.zip(path.file_name()) {
                    Some((above, name)) => above.join(name),
                    None => {
                        return Err(unfit(
                            path,
                            named_by,
                            "the folder that it is to lie in is not there; make it",
                        ));
                    }
                }
            }
            Err(source) => {
                return Err(AgentError::State { action: "look at", path: path.to_owned(), source });
            }
        };
        if real.parent().is_none() {
            return Err(unfit(path, named_by, "it is the root folder"));
        }
        if let Some(inner) = mounts.iter().find(|mount| **mount != real && mount.starts_with(&real)) {
            let why = format!(
                "a file system is mounted within it, at {}, and would move with the old tree; unmount it, or restore files \
                 by `mailkeep restore`",
                inner.display()
            );
            return Err(unfit(path, named_by, &why));
        }
        let mounted = mounts.contains(&real);
        let role = named_by.split(" in ").next().unwrap_or(named_by).to_owned();
        Ok(Site { role, path: path.to_owned(), real, mounted })
    }

    /// The folder that its place beside is in.
    pub fn ground(&self) -> &Path {
        match self.real.parent() {
            Some(parent) if !self.mounted => parent,
            _ => &self.real,
        }
    }

    /// As the box is told.
    ///
    /// # Errors
    /// Its file system cannot be asked.
    pub fn told(&self) -> Result<Tree, AgentError> {
        use std::os::unix::fs::MetadataExt;
        let failed = |source| AgentError::State { action: "look at", path: self.ground().to_owned(), source };
        let space = statvfs(self.ground()).map_err(|error| failed(error.into()))?;
        Ok(Tree {
            role: self.role.clone(),
            path: self.real.display().to_string(),
            device: std::fs::metadata(self.ground()).map_err(failed)?.dev(),
            free: space.f_bavail.saturating_mul(space.f_frsize),
        })
    }
}

fn unfit(path: &Path, named_by: &str, why: &str) -> AgentError {
    AgentError::Rebuild { why: format!("{} ({named_by}): {why}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_on_a_tree_is_exchanged_within_and_one_below_it_is_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let spool = base.join("spool");
        std::fs::create_dir_all(spool.join("archive")).unwrap();
        let of = |mounts: &[PathBuf]| Site::of(&spool, "partition-default in /etc/imapd.conf", mounts);
        let plain = of(&[base.clone(), PathBuf::from("/")]).unwrap();
        assert!(!plain.mounted && plain.ground() == base, "what is mounted above is no matter: {plain:?}");
        // What lies in it moves, on its own file system: nothing is renamed across a mount.
        let mounted = of(std::slice::from_ref(&spool)).unwrap();
        assert!(mounted.mounted && mounted.ground() == spool, "{mounted:?}");
        let refused = of(&[spool.join("archive")]).unwrap_err().to_string();
        assert!(
            refused.contains("is mounted within it") && refused.contains("partition-default"),
            "{refused}"
        );
        assert!(!refused.contains('\n'), "{refused}");
        // A neighbour whose name begins alike is another folder.
        assert!(of(&[base.join("spool2")]).is_ok());
    }
}
