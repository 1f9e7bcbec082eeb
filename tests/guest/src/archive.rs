//! The archive that a kernel unpacks into memory: cpio "newc" (Linux, `Documentation/driver-api/early-userspace/
//! buffer-format.rst`). Entries are written in the order in which they come; folders are made before what lies in them.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive that is being written.
#[derive(Debug)]
pub struct Archive<W> {
    out: W,
    inode: u32,
    there: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    /// An empty one.
    pub fn new(out: W) -> Self {
        Archive { out, inode: 0, there: BTreeSet::new() }
    }

    /// Whether this path is in it.
    pub fn has(&self, path: &Path) -> bool {
        self.there.contains(path)
    }

    /// A folder, and those above it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn folder(&mut self, path: &Path) -> io::Result<()> {
        if path.parent().is_none() || self.has(path) {
            return Ok(());
        }
        self.entry(path, FOLDER, (0, 0), &[])
    }

    /// A file that belongs to root.
    ///
    /// # Errors
    /// It cannot be written, or is there already.
    pub fn file(&mut self, path: &Path, permissions: u32, bytes: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | permissions, (0, 0), bytes)
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// It cannot be written, or is there already.
    pub fn link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        self.entry(path, LINK, (0, 0), target.as_os_str().as_bytes())
    }

    /// A character device.
    ///
    /// # Errors
    /// It cannot be written, or is there already.
    pub fn device(&mut self, path: &Path, numbers: (u32, u32)) -> io::Result<()> {
        self.entry(path, CHARACTER_DEVICE, numbers, &[])
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.record(b"TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &Path, mode: u32, numbers: (u32, u32), bytes: &[u8]) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            self.folder(folder)?;
        }
        if !self.there.insert(path.to_owned()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
        }
        let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().to_vec();
        self.record(&name, mode, numbers, bytes)
    }

    fn record(&mut self, name: &[u8], mode: u32, numbers: (u32, u32), bytes: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let length = u32::try_from(bytes.len()).map_err(too_large)?;
        let name_length = u32::try_from(name.len() + 1).map_err(too_large)?;
        self.inode += 1;
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        // ino, mode, uid, gid, nlink, mtime, filesize, dev (2), rdev (2), namesize, check
        let fields = [self.inode, mode, 0, 0, links, 0, length, 0, 0, numbers.0, numbers.1, name_length, 0];
        let mut head = b"070701".to_vec();
        for field in fields {
            head.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        head.extend_from_slice(name);
        head.push(0);
        self.out.write_all(&head)?;
        self.out.write_all(padding(head.len()))?;
        self.out.write_all(bytes)?;
        self.out.write_all(padding(bytes.len()))
    }
}

/// What is missing to a multiple of four.
fn padding(length: usize) -> &'static [u8] {
    &[0; 3][..length.wrapping_neg() % 4]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_folders_come_first() {
        let mut archive = Archive::new(Vec::new());
        archive.file(Path::new("/etc/a/b"), 0o644, b"hello").unwrap();
        archive.link(Path::new("/bin"), Path::new("usr/bin")).unwrap();
        assert!(archive.file(Path::new("/etc/a/b"), 0o644, b"again").is_err());
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let place = |name: &str| text.find(&format!("{name}\0")).unwrap();
        assert!(place("etc") < place("etc/a") && place("etc/a") < place("etc/a/b"));
        assert!(place("etc/a/b") < place("bin") && place("bin") < place("TRAILER!!!"));
        assert_eq!(text.matches("070701").count(), 5);
        // A name and its head, then the bytes, each from a multiple of four on.
        assert_eq!(text.find("hello").unwrap() % 4, 0);
    }
}
