//! A set of paths of one snapshot, for restores of what was chosen name by name: 16 bytes a path, so that a sample of a
//! million files takes some 60 MB at most.

use std::collections::HashSet;

use mailkeep_format::ContentHash;

use crate::path::split;

/// Paths, each with the folders on the way to it. A folder in it stands for all that is below it.
#[derive(Clone, Debug, Default)]
pub struct PathSet {
    chosen: HashSet<[u8; 16]>,
    above: HashSet<[u8; 16]>,
}

impl PathSet {
    /// Adds an absolute, plain path.
    pub fn add(&mut self, path: &[u8]) {
        self.chosen.insert(key(path));
        let mut at = path;
        while let Some((parent, _)) = split(at) {
            // What is known has its own way in it already.
            if !self.above.insert(key(parent)) {
                break;
            }
            at = parent;
        }
    }

    /// How many were added.
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Whether this very path was added.
    pub fn has(&self, path: &[u8]) -> bool {
        self.chosen.contains(&key(path))
    }

    /// Whether something below this path was added.
    pub(crate) fn is_above(&self, path: &[u8]) -> bool {
        self.above.contains(&key(path))
    }
}

/// No two paths of a snapshot have one in common: it is half of a cryptographic hash.
fn key(path: &[u8]) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&ContentHash::of(path).0[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_it_and_its_folders_are_above_it() {
        let mut set = PathSet::default();
        for path in ["/a/b/c", "/a/b/d", "/x"] {
            set.add(path.as_bytes());
        }
        assert_eq!(set.len(), 3);
        for (path, has, above) in [
            ("/", false, true),
            ("/a", false, true),
            ("/a/b", false, true),
            ("/a/b/c", true, false),
            ("/a/b/cc", false, false),
            ("/x", true, false),
            ("/y", false, false),
        ] {
            assert_eq!((set.has(path.as_bytes()), set.is_above(path.as_bytes())), (has, above), "{path}");
        }
    }
}
