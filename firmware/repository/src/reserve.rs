//! Room that is kept for a manifest or a sweep on a full disk. Follows COMMIT.md, "Reserve".
//!
//! Making it never fails anything: a disk without a reserve is only less comfortable once it is full.

use crate::durable::Unnamed;
use crate::error::{RepositoryError, chain};
use crate::storage::{Storage, StorageError};
use crate::{layout, limits};

/// How much a repository with so many packs wants.
fn wanted(packs: u64) -> u64 {
    limits::RESERVE_LEAST + limits::RESERVE_PER_PACK * packs
}

/// Makes the reserve, or makes it larger, where there is room.
pub(crate) fn ensure(storage: &dyn Storage, packs: u64) {
    if let Err(error) = try_ensure(storage, packs) {
        tracing::debug!(error = %chain(&error), "no reserve");
    }
}

fn try_ensure(storage: &dyn Storage, packs: u64) -> Result<(), RepositoryError> {
    let free = storage.free_space()?;
    // A storage without a limit will not be full.
    if free == u64::MAX {
        return Ok(());
    }
    let length = wanted(packs).min(free / limits::RESERVE_SHARE);
    let there = match storage.open(layout::RESERVE) {
        Ok(file) => file.length(),
        Err(error) if error.is_not_found() => 0,
        Err(error) => return Err(error.into()),
    };
    // Not for a little more: it is written anew each time.
    if length < limits::RESERVE_USELESS || there >= length / 4 * 3 {
        return Ok(());
    }
    release(storage)?;
    let mut file = Unnamed::create(storage)?;
    let mut noise = blake3::Hasher::new_derive_key("mailkeep v1 2026-11-22 reserve").finalize_xof();
    let mut piece = vec![0; 64 << 10];
    let mut left = length;
    while left > 0 {
        // Bytes that no file system can compress away.
        noise.fill(&mut piece);
        let count = left.min(piece.len() as u64);
        file.append(storage, &piece[..count as usize])?;
        left -= count;
    }
    file.name(storage, layout::RESERVE)?;
    Ok(storage.sync_dir("")?)
}

/// Gives the room back; whether there was any.
pub(crate) fn release(storage: &dyn Storage) -> Result<bool, StorageError> {
    match storage.remove(layout::RESERVE) {
        Ok(()) => {}
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error),
    }
    storage.sync_dir("")?;
    // Some file systems hand out the room only after a commit.
    storage.flush_device()?;
    Ok(true)
}

/// Gives the room back if so many bytes would not fit without it.
pub(crate) fn make_way(storage: &dyn Storage, bytes: u64) -> Result<(), StorageError> {
    if storage.free_space()? < bytes.saturating_add(limits::RESERVE_USELESS) {
        release(storage)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    fn length(disk: &MemoryStorage) -> Option<usize> {
        disk.files().get(layout::RESERVE).map(Vec::len)
    }

    #[test]
    fn it_is_made_where_there_is_room_and_grows_with_the_store() {
        let disk = MemoryStorage::new();
        disk.make_dir(layout::TMP).unwrap();
        ensure(&disk, 0);
        assert_eq!(length(&disk), None, "a disk without a limit needs none");
        disk.set_capacity(Some(100_000));
        ensure(&disk, 0);
        assert_eq!(length(&disk), None, "too small to be of use");
        disk.set_capacity(Some(8 << 20));
        ensure(&disk, 0);
        assert_eq!(length(&disk), Some(512 << 10));
        disk.set_capacity(Some(1 << 30));
        ensure(&disk, 0);
        assert_eq!(length(&disk), Some(1 << 20));
        ensure(&disk, 10_000);
        assert_eq!(length(&disk), Some((1 << 20) + 1_600_000));
    }

    #[test]
    fn it_goes_only_where_there_is_no_other_room() {
        let disk = MemoryStorage::new();
        disk.make_dir(layout::TMP).unwrap();
        disk.set_capacity(Some(32 << 20));
        ensure(&disk, 0);
        make_way(&disk, 1 << 20).unwrap();
        assert!(length(&disk).is_some());
        disk.set_capacity(Some(1 << 20));
        make_way(&disk, 1000).unwrap();
        assert_eq!(length(&disk), None);
        assert!(!release(&disk).unwrap());
    }
}
