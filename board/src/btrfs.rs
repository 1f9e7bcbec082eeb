//! What a btrfs disk says of itself, through `btrfsutil`.

use std::path::Path;

use crate::error::BoardError;

/// Magic number of btrfs in statfs(2), from `linux/magic.h`.
const BTRFS_SUPER_MAGIC: u64 = 0x9123_683e;

/// A subvolume, as far as the box looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubvolumeInfo {
    /// Its number on this file system.
    pub id: u64,
    /// Number of the last transaction that changed it.
    pub generation: u64,
    /// Its UUID, as text.
    pub uuid: String,
}

/// Does this path lie on btrfs?
///
/// # Errors
/// [`BoardError::FileSystem`] if the path can't be asked.
pub fn is_btrfs(path: &Path) -> Result<bool, BoardError> {
    let stat = rustix::fs::statfs(path)
        .map_err(|source| BoardError::FileSystem { path: path.to_owned(), source: source.into() })?;
    // The kernel's type is signed on some machines: compare the 32 bits that the magic has.
    Ok(stat.f_type as u64 & 0xffff_ffff == BTRFS_SUPER_MAGIC)
}

/// The subvolume whose root this path is; `None` if it is a plain folder or on another file system.
///
/// # Errors
/// [`BoardError::FileSystem`], [`BoardError::Subvolume`].
pub fn subvolume(path: &Path) -> Result<Option<SubvolumeInfo>, BoardError> {
    if !is_btrfs(path)? || btrfsutil::subvolume::Subvolume::is_subvolume(path).is_err() {
        return Ok(None);
    }
    let failed = |error: btrfsutil::BtrfsUtilError| BoardError::Subvolume {
        path: path.to_owned(),
        said: error.to_string(),
    };
    let info = btrfsutil::subvolume::Subvolume::get(path).and_then(|found| found.info()).map_err(failed)?;
    Ok(Some(SubvolumeInfo { id: info.id, generation: info.generation, uuid: info.uuid.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_no_btrfs() {
        assert!(!is_btrfs(Path::new("/proc")).unwrap());
        assert_eq!(subvolume(Path::new("/proc")).unwrap(), None);
    }

    #[test]
    fn a_missing_path_is_an_error() {
        assert!(is_btrfs(Path::new("/no/such/path")).is_err());
    }
}
