//! A [`MailTree`] in memory, for tests here and in other crates.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::tree::{EntryKind, MailTree, TreeEntry};

/// Files by absolute path; folders are there because files are in them.
#[derive(Debug, Clone, Default)]
pub struct MemoryMailTree {
    files: BTreeMap<PathBuf, Vec<u8>>,
    digests: BTreeMap<PathBuf, [u8; 20]>,
}

impl MemoryMailTree {
    /// A tree without any file.
    pub fn new() -> MemoryMailTree {
        MemoryMailTree::default()
    }

    /// Adds a file, or replaces it.
    pub fn put(&mut self, path: impl Into<PathBuf>, contents: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), contents.into());
    }

    /// Says what the SHA-1 of a new file is.
    pub fn put_digest(&mut self, path: impl Into<PathBuf>, sha1: [u8; 20]) {
        self.digests.insert(path.into(), sha1);
    }

    /// Takes a file out and returns its contents, if it was there.
    pub fn remove(&mut self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        self.files.remove(path.as_ref())
    }

    /// The paths of all files, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }
}

impl MailTree for MemoryMailTree {
    type Error = Infallible;

    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.files.get(path).cloned())
    }

    fn stream(&mut self, path: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool, Infallible> {
        let Some(bytes) = self.files.get(path) else { return Ok(false) };
        // Pieces that end inside of records, as they do in chunks.
        let _ = bytes.chunks(1000).all(take);
        Ok(true)
    }

    fn list_with_digests(
        &mut self,
        folder: &Path,
        each: &mut dyn FnMut(TreeEntry<'_>, Option<[u8; 20]>),
    ) -> Result<bool, Infallible> {
        let digests = self.digests.clone();
        self.list(folder, &mut |entry| {
            let digest = digests.get(&folder.join(std::ffi::OsStr::from_bytes(entry.name)));
            each(entry, digest.copied());
        })
    }

    fn list(&mut self, folder: &Path, each: &mut dyn FnMut(TreeEntry<'_>)) -> Result<bool, Infallible> {
        let inside = self.files.range(folder.to_owned()..).take_while(|(path, _)| path.starts_with(folder));
        let mut last: Option<Vec<u8>> = None;
        for (path, contents) in inside {
            let Ok(below) = path.strip_prefix(folder) else { continue };
            let mut parts = below.components();
            let Some(name) = parts.next().map(|part| part.as_os_str().as_bytes()) else { continue };
            let is_file = parts.next().is_none();
            let kind = if is_file { EntryKind::File } else { EntryKind::Directory };
            if last.as_deref() != Some(name) {
                let size = if is_file { contents.len() as u64 } else { 0 };
                each(TreeEntry { name, kind, size });
                last = Some(name.to_vec());
            }
        }
        Ok(last.is_some())
    }
}
