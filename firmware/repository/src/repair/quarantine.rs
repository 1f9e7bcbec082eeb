//! Moving a damaged file out of the way: to `quarantine/`, under the path it had. Nothing is ever deleted here.

use crate::error::RepositoryError;
use crate::storage::{Storage, parent};
use crate::{durable, layout};

/// Names that are tried for one file; each repair of the same name takes one.
const NAMES: u32 = 10_000;

/// Moves a file durably; gives where it lies now.
pub(super) fn put(storage: &dyn Storage, path: &str) -> Result<String, RepositoryError> {
    let mut folder = layout::QUARANTINE.to_owned();
    durable::make_dir(storage, &folder)?;
    for part in parent(path).split('/').filter(|part| !part.is_empty()) {
        folder = format!("{folder}/{part}");
        durable::make_dir(storage, &folder)?;
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut number = 0;
    loop {
        let place = match number {
            0 => format!("{folder}/{name}"),
            _ => format!("{folder}/{name}.{number}"),
        };
        match storage.rename(path, &place) {
            Err(error) if error.is_already_there() && number < NAMES => number += 1,
            Err(error) => return Err(RepositoryError::writing(storage, error)),
            Ok(()) => {
                // The new name first: a crash in between shows the file twice rather than not at all.
                storage.sync_dir(&folder)?;
                storage.sync_dir(parent(path))?;
                return Ok(place);
            }
        }
    }
}
