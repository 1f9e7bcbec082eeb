//! Rebuilt files as the mail check sees them: by the absolute paths that they had on the server, links followed, and never
//! a step outside of the folder that they were rebuilt in (`RESOLVE_IN_ROOT`, Linux 5.6).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use mailkeep_mail::check::{EntryKind, MailTree, TreeEntry};
use mailkeep_mail::cyrus::message_uid;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sha1::{Digest, Sha1};

use crate::limits;

/// A folder in which a server's files lie under their paths.
pub(crate) struct DiskTree<'a> {
    root: OwnedFd,
    buffer: Vec<u8>,
    stop: &'a dyn Fn() -> bool,
}

impl<'a> DiskTree<'a> {
    pub(crate) fn open(root: &Path, stop: &'a dyn Fn() -> bool) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(rustix::fs::CWD, root, flags, Mode::empty())?;
        Ok(DiskTree { root, buffer: Vec::new(), stop })
    }

    /// Opens what lies at a path; `None` if nothing does, or something of another kind.
    fn at(&self, path: &Path, folder: bool) -> io::Result<Option<OwnedFd>> {
        let kind = if folder { OFlags::DIRECTORY } else { OFlags::NONBLOCK };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | kind;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve);
        match opened {
            Ok(file) if folder => Ok(Some(file)),
            Ok(file) => {
                let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
                Ok((kind == FileType::RegularFile).then_some(file))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn digest(&mut self, folder: &OwnedFd, name: &[u8]) -> io::Result<[u8; 20]> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
        let mut hash = Sha1::new();
        self.buffer.resize(limits::READ_BYTES, 0);
        loop {
            match file.read(&mut self.buffer)? {
                0 => return Ok(hash.finalize().into()),
                count => hash.update(&self.buffer[..count]),
            }
        }
    }

    fn each(
        &mut self,
        folder: &Path,
        digests: bool,
        each: &mut dyn FnMut(TreeEntry<'_>, Option<[u8; 20]>),
    ) -> io::Result<bool> {
        let Some(opened) = self.at(folder, true)? else { return Ok(false) };
        for entry in Dir::read_from(&opened)? {
            if (self.stop)() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let stat = rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            let message = digests && kind == EntryKind::File && message_uid(name).is_some();
            let digest = if message { Some(self.digest(&opened, name)?) } else { None };
            each(TreeEntry { name, kind, size: stat.st_size as u64 }, digest);
        }
        Ok(true)
    }
}

impl MailTree for DiskTree<'_> {
    type Error = io::Error;

    fn read(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.at(path, false)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let most = mailkeep_mail::limits::MAILBOX_LIST_BYTES as u64;
        File::from(file).take(most).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn stream(&mut self, path: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
        let Some(file) = self.at(path, false)? else { return Ok(false) };
        let mut file = File::from(file);
        self.buffer.resize(limits::READ_BYTES, 0);
        loop {
            match file.read(&mut self.buffer)? {
                0 => return Ok(true),
                count if take(&self.buffer[..count]) => {}
                _ => return Ok(true),
            }
        }
    }

    fn list(&mut self, folder: &Path, each: &mut dyn FnMut(TreeEntry<'_>)) -> io::Result<bool> {
        self.each(folder, false, &mut |entry, _| each(entry))
    }

    fn list_with_digests(
        &mut self,
        folder: &Path,
        each: &mut dyn FnMut(TreeEntry<'_>, Option<[u8; 20]>),
    ) -> io::Result<bool> {
        self.each(folder, true, each)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_within_the_folder_and_never_out_of_it() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("secret"), "outside").unwrap();
        let root = top.path().join("root");
        fs::create_dir_all(root.join("real/box")).unwrap();
        fs::write(root.join("real/box/cyrus.header"), "inside").unwrap();
        symlink("/real", root.join("spool")).unwrap();
        symlink("../../secret", root.join("real/up")).unwrap();
        symlink(top.path().join("secret"), root.join("real/away")).unwrap();
        let mut tree = DiskTree::open(&root, &|| false).unwrap();
        let read = |tree: &mut DiskTree<'_>, path: &str| tree.read(Path::new(path)).unwrap();
        assert_eq!(read(&mut tree, "/spool/box/cyrus.header").as_deref(), Some(&b"inside"[..]));
        for path in ["/real/up", "/real/away", "/../secret", "/nothing", "/real", "/real/box/cyrus.header/x"]
        {
            assert_eq!(read(&mut tree, path), None, "{path}");
        }
        let mut names = Vec::new();
        assert!(tree.list(Path::new("/spool"), &mut |entry| names.push(entry.name.to_vec())).unwrap());
        names.sort();
        assert_eq!(names, [&b"away"[..], b"box", b"up"]);
        assert!(!tree.list(Path::new("/nothing"), &mut |_| ()).unwrap());
    }

    #[test]
    fn messages_and_only_they_come_with_their_digests() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("1."), "abc").unwrap();
        fs::write(root.path().join("cyrus.index"), "abc").unwrap();
        let mut tree = DiskTree::open(root.path(), &|| false).unwrap();
        let mut found = Vec::new();
        tree.list_with_digests(Path::new("/"), &mut |entry, digest| {
            found.push((entry.name.to_vec(), entry.size, digest));
        })
        .unwrap();
        found.sort();
        // FIPS 180-2, appendix A.1.
        let abc = [
            0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c,
            0x9c, 0xd0, 0xd8, 0x9d,
        ];
        assert_eq!(found, [(b"1.".to_vec(), 3, Some(abc)), (b"cyrus.index".to_vec(), 3, None)]);
    }
}
