//! What a btrfs disk says of itself, through `btrfsutil`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::BoardError;

/// Magic number of btrfs in statfs(2), from `linux/magic.h`.
const BTRFS_SUPER_MAGIC: u64 = 0x9123_683e;

/// Where the superblock and its first copy are, and where in it btrfs writes its name (`fs/btrfs/fs.h`).
const SUPERBLOCKS: [u64; 2] = [64 << 10, 64 << 20];
const NAME_AT: u64 = 64;
const NAME: &[u8; 8] = b"_BHRfS_M";

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

/// The number of the subvolume whose root this path is; `None` if it is a plain folder or on another file system.
///
/// Nothing more is asked: the library gives up on dates that a hostile disk can make up.
///
/// # Errors
/// [`BoardError::FileSystem`], [`BoardError::Subvolume`].
pub fn subvolume(path: &Path) -> Result<Option<u64>, BoardError> {
    if !is_btrfs(path)? || btrfsutil::subvolume::Subvolume::is_subvolume(path).is_err() {
        return Ok(None);
    }
    let failed = |error: btrfsutil::BtrfsUtilError| BoardError::Subvolume {
        path: path.to_owned(),
        said: error.to_string(),
    };
    Ok(Some(btrfsutil::subvolume::Subvolume::get(path).map_err(failed)?.id()))
}

/// Whether the superblock of a btrfs, and its first copy, are on this device or image.
///
/// # Errors
/// It can't be read.
pub fn superblocks(device: &Path) -> std::io::Result<[bool; 2]> {
    let file = File::open(device)?;
    let mut found = [false; 2];
    for (place, found) in SUPERBLOCKS.into_iter().zip(&mut found) {
        let mut name = [0; NAME.len()];
        *found = match file.read_exact_at(&mut name, place + NAME_AT) {
            Ok(()) => &name == NAME,
            // Smaller than that.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
        };
    }
    Ok(found)
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
