//! The place beside a tree: a folder that only root can look into, on the tree's own file system.
//!
//! Beside a tree that is a folder of its parent's file system it lies in that parent; where a file system is mounted on the
//! tree it lies within it, and what lies in the tree moves instead of the tree. The rules of a backup leave it out.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mailkeep_mail::scope::BESIDE;
use rustix::fs::{AtFlags, Mode, fchmod, mkdirat, unlinkat};
use rustix::io::Errno;

use crate::dir::Directory;
use crate::error::AgentError;
use crate::meta::file_type;

/// What else stands on the top of a file system and is none of mail.
const NOT_OURS: [&[u8]; 2] = [b"lost+found", BESIDE.as_bytes()];

/// Whether a name on the top of a mounted file system stays where it is.
pub fn stays(name: &[u8]) -> bool {
    NOT_OURS.contains(&name)
}

/// The mount points of this server.
///
/// # Errors
/// They cannot be read.
pub fn mount_points() -> Result<Vec<PathBuf>, AgentError> {
    let path = PathBuf::from("/proc/self/mountinfo");
    let text = std::fs::read(&path).map_err(|source| AgentError::State { action: "read", path, source })?;
    let lines = text.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescaped).collect())
}

/// A path of mountinfo, in which blanks and the like are written in octal.
fn unescaped(word: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                path.push(byte);
                rest = &after[3..];
            }
            None => {
                path.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&path))
}

/// The folder in which a tree is built, made if it is not there: in `parent`, open to nobody else.
///
/// # Errors
/// It cannot be made.
pub fn holder(parent: &Path) -> Result<(Directory, PathBuf), AgentError> {
    let path = parent.join(BESIDE);
    let make = || {
        let parent = Directory::open_exactly(parent)?;
        match mkdirat(&parent, BESIDE, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let holder = parent.open_child(BESIDE.as_bytes())?;
        let stat = holder.stat_self()?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(Errno::PERM);
        }
        fchmod(&holder, Mode::RWXU)?;
        Ok(holder)
    };
    match make() {
        Ok(holder) => Ok((holder, path)),
        Err(error) => Err(AgentError::State { action: "make the folder", path, source: error.into() }),
    }
}

/// Removes a tree that lies in a [`holder`], and the holder if it is empty then; tells whether there was one.
///
/// # Errors
/// The path is none of a holder, or something does not go.
pub fn remove(path: &Path) -> Result<bool, AgentError> {
    let failed =
        |error: Errno| AgentError::State { action: "remove", path: path.to_owned(), source: error.into() };
    let inside = path.ancestors().skip(1).find(|above| above.file_name().is_some_and(|name| name == BESIDE));
    let (Some(inside), Some(parent), Some(name)) = (inside, path.parent(), path.file_name()) else {
        return Err(failed(Errno::INVAL));
    };
    let there = match Directory::open_exactly(parent) {
        Ok(folder) => clear(&folder, name.as_bytes(), 0).map_err(failed)?,
        Err(Errno::NOENT) => false,
        Err(error) => return Err(failed(error)),
    };
    // From the tree's folder up to the holder: each goes if nothing else is kept in it.
    for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(inside)) {
        let _ = std::fs::remove_dir(folder);
    }
    Ok(there)
}

fn clear(folder: &Directory, name: &[u8], depth: usize) -> Result<bool, Errno> {
    let stat = match folder.stat(name) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error),
    };
    if file_type(&stat) != rustix::fs::FileType::Directory {
        return unlinkat(folder, name, AtFlags::empty()).map(|()| true);
    }
    if depth > mailkeep_format::limits::DEPTH_MAX {
        return Err(Errno::LOOP);
    }
    let below = folder.open_child(name)?;
    for child in below.names()? {
        clear(&below, &child, depth + 1)?;
    }
    unlinkat(folder, name, AtFlags::REMOVEDIR).map(|()| true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_kept_goes_with_its_folder_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (_, path) = holder(&base).unwrap();
        for tree in ["0-spool", "1-conf"] {
            fs::create_dir_all(path.join(tree).join("a/b")).unwrap();
            fs::write(path.join(tree).join("a/b/1."), "x").unwrap();
        }
        let outside = base.join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, path.join("0-spool/a/link")).unwrap();
        assert!(remove(&path.join("0-spool")).unwrap());
        assert!(path.join("1-conf/a/b/1.").exists() && outside.is_dir());
        assert!(!remove(&path.join("0-spool")).unwrap());
        assert!(remove(&path.join("1-conf")).unwrap());
        assert!(!path.exists());
        assert!(remove(&outside).is_err() && outside.is_dir(), "only what lies beside is ever removed");
    }

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        assert_eq!(unescaped(b"/srv/my\\040mail\\134x"), Path::new("/srv/my mail\\x"));
        assert!(mount_points().unwrap().iter().any(|point| point == Path::new("/")));
    }
}
