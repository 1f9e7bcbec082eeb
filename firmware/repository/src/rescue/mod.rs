//! What a disk carries so that it can be read with nothing else: README.txt and FORMAT.md for people, and programs with
//! their sums in `rescue/`. Follows COMMIT.md, "Rescue kit".
//!
//! None of it is part of the repository's contents: nothing refers to it, losing it loses no mail, and no backup fails for
//! it. Who can write on the disk can change it, so its sums say whether a file is whole, never whether it can be trusted.

mod program;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::durable::{self, Unnamed};
use crate::error::{RepositoryError, chain};
use crate::lock::WriteLock;
use crate::machine::Machine;
use crate::monitor::{Monitor, Problem, Severity};
use crate::readme::readme;
use crate::repository::Repository;
use crate::storage::{PoisonStorage, Storage, read_whole};
use crate::{layout, limits};

pub use program::{NotAProgram, RescueProgram};

/// A program that lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KitFile {
    /// Its path in the repository's folder.
    pub path: String,
    /// Its length in bytes; 0 if it is not there.
    pub length: u64,
    /// SHA-256 in hexadecimal, as it was written.
    pub sum: String,
    /// Whether the file still has that sum.
    pub whole: bool,
}

/// What lies on a disk after a kit was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kit {
    /// The programs.
    pub files: Vec<KitFile>,
    /// How many files were written.
    pub written: usize,
}

/// Looks at the programs that lie on a disk, each read past the cache.
///
/// # Errors
/// The disk cannot be read; not that there is no kit, or that it is damaged.
pub fn kit(storage: &dyn Storage) -> Result<Vec<KitFile>, RepositoryError> {
    let mut files = Vec::new();
    for (name, sum) in sums(storage)? {
        let path = format!("{}/{name}", layout::RESCUE);
        let (length, found) = match hash_file(storage, &path) {
            Ok(found) => found,
            Err(error) if error.is_not_found() => (0, String::new()),
            Err(error) => return Err(error.into()),
        };
        files.push(KitFile { whole: found == sum, path, length, sum });
    }
    Ok(files)
}

/// Tells of programs on the disk that are not what was written: no mail is lost by that.
pub(crate) fn check(storage: &dyn Storage, monitor: &dyn Monitor) {
    let why =
        "so it must not be used for a restore; no mail is concerned: `mailkeep rescue-kit` writes it anew";
    match kit(storage) {
        Ok(files) => {
            for file in files.iter().filter(|file| !file.whole) {
                let what = format!("this program is not what was written, {why}");
                monitor.problem(&Problem::new(Severity::Note, &file.path, what));
            }
        }
        Err(error) => {
            monitor.problem(&Problem::new(
                Severity::Note,
                layout::RESCUE,
                format!("{}, {why}", chain(&error)),
            ));
        }
    }
}

/// Writes the kit: texts for people, and these programs beside those that are there for other machines. What is there
/// already is left. `None` if there is no room for it, with what it takes told to `monitor`.
///
/// # Errors
/// [`RepositoryError::ReadBack`] if the disk gives back something else; [`RepositoryError::Locked`]; what keeps the disk
/// from being written. Nothing of the repository's contents has changed then.
pub fn write_kit(
    repository: &Repository,
    programs: &[RescueProgram],
    machine: &Machine,
    monitor: &dyn Monitor,
) -> Result<Option<Kit>, RepositoryError> {
    let storage: Arc<dyn Storage> = Arc::new(PoisonStorage::new(repository.storage().clone()));
    let disk = &*storage;
    let _lock = WriteLock::take_for_upkeep(storage.clone(), machine, monitor)?;
    let texts = [
        (layout::README, readme(&repository.id(), &repository.label().label, repository.encrypted())),
        (layout::FORMAT, crate::FORMAT_TEXT.to_owned()),
    ];
    // As it will be: also what lies there for machines that no program was given for.
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    for file in kit(disk)? {
        let name = file.path.rsplit('/').next().unwrap_or_default().to_owned();
        if file.whole {
            kept.insert(name, file.sum);
        }
    }
    let mut new: Vec<(String, &[u8])> = Vec::new();
    for program in programs {
        let (name, sum) = (program.name(), program.sum());
        if kept.get(&name) != Some(&sum) {
            new.push((name.clone(), program.bytes()));
        }
        kept.insert(name, sum);
    }
    let stale: Vec<&(&str, String)> =
        texts.iter().filter(|(path, text)| !is_there(disk, path, text)).collect();
    let wanted: u64 = new.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    if wanted > 0 && disk.free_space()? / limits::KIT_SHARE < wanted {
        let what = format!(
            "no room for the programs that read this disk: they take {} MiB, and at least {} times as much is to be free",
            wanted.div_ceil(1 << 20),
            limits::KIT_SHARE
        );
        monitor.problem(&Problem::new(Severity::Note, layout::RESCUE, what));
        return Ok(None);
    }
    for (path, text) in &stale {
        replace(disk, path, unnamed(disk, text.as_bytes())?)?;
    }
    let sums = sums_text(&kept);
    let told = is_there(disk, layout::RESCUE_SUMS, &sums) || kept.is_empty();
    if !new.is_empty() || !told {
        durable::make_dir(disk, layout::RESCUE)?;
        let mut ready = Vec::new();
        for (name, bytes) in &new {
            ready.push((format!("{}/{name}", layout::RESCUE), unnamed(disk, bytes)?));
        }
        // Without sums nothing here passes for whole: so none stands beside a program that is not its own.
        durable::remove(disk, layout::RESCUE_SUMS)?;
        disk.sync_dir(layout::RESCUE)?;
        for (path, file) in ready {
            replace(disk, &path, file)?;
        }
        disk.flush_device()?;
        for (name, _) in &new {
            let path = format!("{}/{name}", layout::RESCUE);
            if Some(&hash_file(disk, &path)?.1) != kept.get(name) {
                return Err(RepositoryError::ReadBack { path });
            }
        }
        replace(disk, layout::RESCUE_SUMS, unnamed(disk, sums.as_bytes())?)?;
    }
    let written = stale.len() + new.len();
    if written > 0 {
        disk.flush_device()?;
    }
    Ok(Some(Kit { files: kit(disk)?, written }))
}

/// A file with these bytes that has no name yet.
fn unnamed(storage: &dyn Storage, bytes: &[u8]) -> Result<Unnamed, RepositoryError> {
    let mut file = Unnamed::create(storage)?;
    for piece in bytes.chunks(limits::WRITE_PIECE) {
        file.append(storage, piece)?;
    }
    Ok(file)
}

/// Names a file, in the place of the one that is there. A cut in between leaves neither: the next kit brings it back.
fn replace(storage: &dyn Storage, path: &str, mut file: Unnamed) -> Result<(), RepositoryError> {
    file.sync(storage)?;
    durable::remove(storage, path)?;
    file.name(storage, path)?;
    Ok(storage.sync_dir(crate::storage::parent(path))?)
}

fn is_there(storage: &dyn Storage, path: &str, text: &str) -> bool {
    read_whole(storage, path, limits::KIT_TEXT_MAX).is_ok_and(|bytes| bytes == text.as_bytes())
}

fn sum_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes all that is written to it.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Length and sum of a file as the disk has it.
fn hash_file(storage: &dyn Storage, path: &str) -> Result<(u64, String), crate::storage::StorageError> {
    let file = storage.open_past_cache(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; limits::READ_BUFFER];
    let mut at = 0;
    while at < file.length() {
        let count = (file.length() - at).min(buffer.len() as u64) as usize;
        file.read_at(at, &mut buffer[..count])?;
        hasher.update(&buffer[..count]);
        at += count as u64;
    }
    Ok((file.length(), hex(&hasher.finalize())))
}

/// Names and sums as `sha256sum` writes them.
fn sums_text(files: &BTreeMap<String, String>) -> String {
    files.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect()
}

/// The programs and sums that the disk names; of lines that are not ours nothing is believed.
fn sums(storage: &dyn Storage) -> Result<BTreeMap<String, String>, RepositoryError> {
    let bytes = match read_whole(storage, layout::RESCUE_SUMS, limits::KIT_TEXT_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8_lossy(&bytes);
    let line = |line: &str| {
        let (sum, name) = line.split_once("  ")?;
        let good = sum.len() == 64 && sum.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        (good && program::is_name(name)).then(|| (name.to_owned(), sum.to_owned()))
    };
    Ok(text.lines().filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_sha256sum() {
        assert_eq!(sum_of(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
