//! Where a path really leads: every symbolic link on the way taken apart, step by step.
//!
//! Nothing is opened. What is opened afterwards goes along the real path without following a link ([`crate::dir`]), so that
//! whoever changes a link meanwhile gains nothing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, readlinkat, statat};
use rustix::io::Errno;

use crate::limits;
use crate::meta::file_type;

/// Follows an absolute path to what it really names; tells every link on the way.
///
/// # Errors
/// As lstat(2) and readlink(2); `ELOOP` for more links than anybody has.
pub fn follow(path: &Path, link: &mut dyn FnMut(&Path)) -> Result<PathBuf, Errno> {
    let mut real = PathBuf::from("/");
    let mut ahead: Vec<PathBuf> = parts(path);
    let mut hops = 0;
    while let Some(part) = ahead.pop() {
        if part == Path::new("..") {
            real.pop();
            continue;
        }
        real.push(&part);
        let stat = statat(CWD, &real, AtFlags::SYMLINK_NOFOLLOW)?;
        if file_type(&stat) != FileType::Symlink {
            continue;
        }
        hops += 1;
        if hops > limits::LINK_HOPS {
            return Err(Errno::LOOP);
        }
        let target = readlinkat(CWD, &real, Vec::new())?.into_bytes();
        let target = Path::new(OsStr::from_bytes(&target));
        link(&real);
        real.pop();
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        ahead.extend(parts(target));
    }
    Ok(real)
}

/// The parts of a path, the last one first; `.` and `/` are left out.
fn parts(path: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(PathBuf::from(name)),
            Component::ParentDir => Some(PathBuf::from("..")),
            _ => None,
        })
        .collect();
    parts.reverse();
    parts
}
