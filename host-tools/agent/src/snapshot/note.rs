//! The note of one snapshot: a file in the agent's own folder, durable before the snapshot is made and gone after it.
//!
//! Whoever made it holds a lock on it, which the kernel takes back at his end, whatever that is like. A note that nobody
//! holds is of an agent that is no more: the snapshot is removed, then the note. A note that is not whole was never
//! acted upon.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{place, subvolume, volume};
use crate::window::state;

/// How the name of a note begins and ends; between them is the name of the snapshot.
const NAME: (&str, &str) = ("frozen-", ".json");
/// A note is smaller than this.
const NOTE_MAX: u64 = 64 << 10;

/// What is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    /// Form of this file; 1, with `group` 2.
    version: u32,
    /// The folder that the snapshot lies in.
    folder: PathBuf,
    /// Its name there.
    name: String,
    /// UUID of the subvolume or logical volume that it is of.
    of: String,
    /// The volume group that the snapshot lies in; the folder is where it is mounted then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
}

impl Text {
    fn is_understood(&self) -> bool {
        self.version == 1 + u32::from(self.group.is_some())
    }
}

/// A note that is ours as long as this is there.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    text: Text,
    lock: File,
}

impl Note {
    /// Notes durably that a snapshot of this name will be made; of a logical volume, in this group.
    pub(super) fn write(
        base: &Path,
        name: &str,
        folder: &Path,
        of: &str,
        group: Option<&str>,
    ) -> io::Result<Note> {
        let path = base.join(format!("{}{name}{}", NAME.0, NAME.1));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let (folder, name, of) = (folder.to_owned(), name.to_owned(), of.to_owned());
        let group = group.map(str::to_owned);
        let text = Text { version: 1 + u32::from(group.is_some()), folder, name, of, group };
        // Somebody who clears up may have come between the two calls, and has taken it for a torn one.
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || file.metadata()?.nlink() == 0 {
            return Err(io::Error::other("another agent clears up at this moment"));
        }
        let write = |file: &mut File| {
            file.write_all(&serde_json::to_vec(&text)?)?;
            file.sync_all()?;
            File::open(base)?.sync_all()
        };
        match write(&mut file) {
            Ok(()) => Ok(Note { path, text, lock: file }),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// The lock once more, for a program that makes the snapshot: as long as it is at work, nobody takes the note for one of
    /// an agent that is no more.
    pub(super) fn tie(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Removes the snapshot, and then the note.
    pub(super) fn clear(&self) -> Result<(), String> {
        let Text { folder, name, of, group, .. } = &self.text;
        match group {
            None => subvolume::delete(folder, name, of)?,
            Some(group) => volume::delete(folder, name, of, group)?,
        }
        place::remove_folder(folder);
        remove(&self.path)
    }
}

/// Removes the snapshots of agents that are no more; one line for each that does not go.
pub fn clear() -> Vec<String> {
    let base = state::base();
    let Ok(entries) = fs::read_dir(&base) else { return Vec::new() };
    let mut left = Vec::new();
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_prefix(NAME.0).and_then(|name| name.strip_suffix(NAME.1)) else {
            continue;
        };
        if let Err(why) = clear_one(&path, name) {
            left.push(format!(
                "a snapshot of an earlier run is still there: {why}; the note of it is {}",
                path.display()
            ));
        }
    }
    left
}

fn clear_one(path: &Path, name: &str) -> Result<(), String> {
    let said = |error: io::Error| error.to_string();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(said)?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        // Its agent lives.
        Err(Errno::WOULDBLOCK) => return Ok(()),
        Err(error) => return Err(said(error.into())),
    }
    let mut bytes = Vec::new();
    (&file).take(NOTE_MAX).read_to_end(&mut bytes).map_err(said)?;
    match serde_json::from_slice::<Text>(&bytes) {
        // What is deleted has the name that the note itself has.
        Ok(text) if text.is_understood() && text.name == name => {
            Note { path: path.to_owned(), text, lock: file }.clear()
        }
        Err(error) if error.is_eof() || bytes.iter().all(|byte| *byte == 0) => remove(path),
        _ => Err("its note cannot be understood".to_owned()),
    }
}

fn remove(path: &Path) -> Result<(), String> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()),
    };
    removed.map_err(|error| format!("its note cannot be removed: {error}"))
}
