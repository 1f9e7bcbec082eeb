//! Making a repository. Follows COMMIT.md: the label comes last, so that half a repository is none.

use std::sync::Arc;

use mailkeep_format::{Identity, Label, Master, RepositoryId, keys};

use crate::error::RepositoryError;
use crate::keyring::Opened;
use crate::layout;
use crate::readme::readme;
use crate::storage::{LockKind, PoisonStorage, Storage};
use crate::{durable, lock, reserve};

/// How a new repository is to be.
#[derive(Clone)]
pub struct InitOptions {
    /// Name for people, as on the sticker on the disk. Readable without a key.
    pub label: String,
    /// Who can open it.
    pub encryption: Encryption,
}

/// Who can open a new repository.
#[derive(Clone)]
pub enum Encryption {
    /// The box with this key, and a recovery key that is drawn now.
    Wrapped {
        /// The box key.
        box_key: Identity,
    },
    /// Everybody who has the disk.
    Plain,
}

/// What init made: keys and label of the new repository, and its recovery key.
pub(crate) struct Made {
    pub(crate) opened: Opened,
    pub(crate) label: Label,
    pub(crate) recovery: Option<Identity>,
}

/// Makes a repository in an empty folder, or starts over in one where an earlier init was interrupted.
pub(crate) fn init(storage: Arc<dyn Storage>, options: &InitOptions) -> Result<Made, RepositoryError> {
    let poison = PoisonStorage::new(storage);
    let disk: &dyn Storage = &poison;
    let leftovers = check_empty(disk)?;
    let _guard = disk.lock(layout::LOCK, LockKind::Exclusive)?.ok_or_else(|| RepositoryError::Locked {
        holder: "another process that makes a repository here".to_owned(),
    })?;
    for path in leftovers {
        durable::remove(disk, &path)?;
    }
    for folder in layout::FOLDERS {
        durable::make_dir(disk, folder)?;
    }
    let id = RepositoryId::generate()
        .map_err(|error| RepositoryError::Encode { what: "a name", source: error.into() })?;
    let master = Master::generate().map_err(|source| RepositoryError::Encode { what: "a key", source })?;
    let not_made = |source| RepositoryError::KeyNotMade { path: disk.describe(), source };
    let mut recovery = None;
    match &options.encryption {
        Encryption::Wrapped { box_key } => {
            let second = Identity::generate();
            for (role, identity) in [("box", box_key), ("recovery", &second)] {
                let bytes = keys::wrap_checked(&master, &id, &[identity]).map_err(not_made)?;
                put_key(disk, &key_file_name(role, identity), &bytes)?;
            }
            recovery = Some(second);
        }
        Encryption::Plain => put_key(disk, layout::PLAIN_KEY, keys::wrap_plain(&master, &id).as_bytes())?,
    }
    let readme = readme(&id, &options.label, recovery.is_some());
    durable::write_once(disk, layout::README, readme.as_bytes())?;
    durable::write_once(disk, layout::FORMAT, crate::FORMAT_TEXT.as_bytes())?;
    let opened = Opened { keys: master.keys(), encrypted: recovery.is_some() };
    let label = Label::new(id, options.label.clone(), lock::now().try_into().unwrap_or(i64::MAX));
    let bytes =
        label.encode(&opened.keys).map_err(|source| RepositoryError::Encode { what: "the label", source })?;
    disk.flush_device()?;
    for path in [layout::LABELS[1], layout::LABELS[0]] {
        durable::write_once(disk, path, &bytes)?;
    }
    disk.flush_device()?;
    reserve::ensure(disk, 0);
    Ok(Made { opened, label, recovery })
}

/// The name of a key file says whose it is: `box-1a2b3c4d.age`, from the hash of the recipient.
pub(crate) fn key_file_name(role: &str, identity: &Identity) -> String {
    let hash = blake3::hash(identity.recipient().to_string().as_bytes()).to_hex();
    format!("{role}-{}.age", &hash[..8])
}

fn put_key(storage: &dyn Storage, name: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
    layout::KEYS
        .iter()
        .try_for_each(|folder| durable::write_once(storage, &format!("{folder}/{name}"), bytes))
}

/// Refuses a folder in which anything lies that an interrupted init cannot have left; gives what such a one did leave.
fn check_empty(storage: &dyn Storage) -> Result<Vec<String>, RepositoryError> {
    let not_empty = || RepositoryError::NotEmpty { path: storage.describe() };
    let mut leftovers = Vec::new();
    for entry in storage.list("")? {
        let name = entry.name.as_str();
        match name {
            _ if layout::TOLERATED.contains(&name) => {}
            layout::LOCK => {}
            layout::README | layout::FORMAT if !entry.directory => leftovers.push(entry.name),
            _ if layout::FOLDERS.contains(&name) && entry.directory => {
                let files = storage.list(name)?;
                let expected = name == layout::TMP || layout::KEYS.contains(&name);
                if files.iter().any(|file| file.directory) || !(expected || files.is_empty()) {
                    return Err(not_empty());
                }
                leftovers.extend(files.iter().map(|file| format!("{name}/{}", file.name)));
            }
            _ => return Err(not_empty()),
        }
    }
    Ok(leftovers)
}
