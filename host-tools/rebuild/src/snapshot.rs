//! A snapshot of a server: its files by path, with links followed within it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use mailkeep_format::manifest::Manifest;
use mailkeep_format::{ChunkId, ContentHash, Node, NodeKind};
use mailkeep_restorer::{RestoreError, View};

use crate::{RebuildError, limits};

/// A snapshot that a server is to be made of.
pub struct Snapshot<'a> {
    /// Its files.
    pub view: &'a View,
    /// What else it says.
    pub manifest: &'a Manifest,
    /// Its id, for people.
    pub id: String,
    /// The id that a piece of a file with this hash has in its repository.
    pub chunk_id: &'a (dyn Fn(&ContentHash) -> ChunkId + 'a),
}

impl Snapshot<'_> {
    /// Where a path really leads, and what is there; `None` if nothing is.
    ///
    /// # Errors
    /// A folder on the way cannot be read.
    pub fn find(&self, path: &Path) -> Result<Option<(PathBuf, Node)>, RebuildError> {
        let mut ahead: VecDeque<PathBuf> = parts(path);
        let mut real = PathBuf::from("/");
        let mut node = self.view.root().clone();
        let mut hops = 0;
        while let Some(part) = ahead.pop_front() {
            let next = if part == Path::new("..") {
                real.pop();
                real.clone()
            } else {
                real.join(&part)
            };
            node = match self.view.lookup(next.as_os_str().as_bytes()) {
                Ok(node) => node,
                Err(RestoreError::NotFound { .. } | RestoreError::NotDirectory { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            if let NodeKind::Symlink { target } = node.kind.clone() {
                hops += 1;
                if hops > limits::LINK_HOPS {
                    return Ok(None);
                }
                let target = Path::new(OsStr::from_bytes(&target));
                if target.is_absolute() {
                    real = PathBuf::from("/");
                    node = self.view.root().clone();
                }
                let mut further = parts(target);
                further.append(&mut ahead);
                ahead = further;
                continue;
            }
            real = next;
        }
        Ok(Some((real, node)))
    }

    /// The contents of a configuration file.
    ///
    /// # Errors
    /// It is not there, is no file, or too large.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_up_to(path, limits::CONFIG_BYTES)
    }

    /// The contents of a file of at most so many bytes.
    ///
    /// # Errors
    /// As [`Snapshot::read`].
    pub fn read_up_to(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let found = self.find(path).map_err(io::Error::other)?;
        let Some((real, node)) = found.filter(|(_, node)| node.is_file()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if node.size() > most {
            return Err(io::Error::other(format!("it has more than {most} bytes")));
        }
        let file = self.view.open(real.as_os_str().as_bytes(), &node);
        file.read_at(0, node.size() as usize).map_err(io::Error::other)
    }

    /// The file of this name that is nearest to the top.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn nearest(&self, name: &[u8]) -> Result<Option<PathBuf>, RebuildError> {
        let mut folders = VecDeque::from([(PathBuf::from("/"), self.view.root().clone())]);
        for _ in 0..limits::FOLDERS_SEARCHED {
            let Some((path, folder)) = folders.pop_front() else { break };
            for node in self.view.nodes(path.as_os_str().as_bytes(), &folder)? {
                let shown = || path.display().to_string();
                let node = node.map_err(|source| RestoreError::Unreadable { path: shown(), source })?;
                let at = path.join(OsStr::from_bytes(&node.name));
                if node.is_file() && node.name == name {
                    return Ok(Some(at));
                }
                if node.is_directory() && folders.len() < limits::FOLDERS_SEARCHED {
                    folders.push_back((at, node));
                }
            }
        }
        Ok(None)
    }
}

fn parts(path: &Path) -> VecDeque<PathBuf> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(PathBuf::from(name)),
            Component::ParentDir => Some(PathBuf::from("..")),
            _ => None,
        })
        .collect()
}
