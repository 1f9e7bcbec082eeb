//! Opening the repository, finding the snapshot that is meant, and views over snapshots.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use mailkeep_repository::{
    KeySource, LocalStorage, LogMonitor, Monitor, Repository, RepositoryError, SnapshotEntry, SnapshotSpec,
    Storage,
};
use mailkeep_restorer::{RestoreError, View};

use crate::App;
use crate::args::Which;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::{nearest, text};

/// The storage that was named; an absent disk has an exit code of its own.
pub(crate) fn storage(app: &App) -> Result<Arc<dyn Storage>, Failure> {
    let path = app.options.repo()?;
    let opened = LocalStorage::open(path).map_err(|error| {
        if error.is_not_found() {
            RepositoryError::Absent { path: path.display().to_string() }.into()
        } else {
            Failure::from(error)
        }
    });
    Ok(Arc::new(opened.map_err(|failure| failure.at(path.display().to_string()))?))
}

/// The repository that was named, opened with the key that was named.
pub(crate) fn open(app: &App) -> Result<Repository, Failure> {
    Ok(open_with(app, &Ear::new(&app.console))?.0)
}

/// As [`open`], with the key that opened it, for those who need it again; trouble goes to `monitor`.
pub(crate) fn open_with(app: &App, monitor: &dyn Monitor) -> Result<(Repository, KeySource), Failure> {
    let storage = storage(app)?;
    let key = &app.options.key_file;
    let source = key_source(app);
    let repository = Repository::open(storage, &source, monitor)?;
    // Only of a key that works: beside a failure it would be noise.
    warn_if_open_to_others(app, key);
    Ok((repository, source))
}

/// A key that others can read is no longer a secret.
pub(crate) fn warn_if_open_to_others(app: &App, key: &Path) {
    let mode = std::fs::metadata(key).map_or(0, |meta| meta.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        app.console.warning(&text::key_file_open_to_others(&key.display().to_string(), mode));
    }
}

/// A repository that is not the one that was named, opened with the key that was named.
pub(crate) fn open_other(app: &App, path: &Path, monitor: &dyn Monitor) -> Result<Repository, Failure> {
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(path)?);
    Ok(Repository::open(storage, &key_source(app), monitor)?)
}

/// The id of the repository that lies at a path, if one does.
pub(crate) fn id_at(path: &Path) -> Option<String> {
    let storage = LocalStorage::open(path).ok()?;
    Some(Repository::peek(&storage).ok()?.repository.hex())
}

/// Names of the keys that open it, as far as they can be told.
pub(crate) fn key_ids(repository: &Repository) -> Vec<String> {
    let holders = mailkeep_repository::key_holders(&**repository.storage()).unwrap_or_default();
    holders.into_iter().map(|holder| holder.id).collect()
}

fn key_source(app: &App) -> KeySource {
    let key = &app.options.key_file;
    // A default key that is not there is no mistake: the repository may have been made without encryption.
    if app.options.key_file_named || key.exists() { KeySource::File(key.clone()) } else { KeySource::Plain }
}

/// The snapshot that is meant.
pub(crate) fn find(
    repository: &Repository,
    snapshot: &str,
    source: Option<&str>,
    monitor: &dyn Monitor,
) -> Result<SnapshotEntry, Failure> {
    let spec: SnapshotSpec = snapshot
        .parse()
        .map_err(|error| Failure::new(exit::USAGE, exit::chain(&error)).hint(text::flag::SNAPSHOT))?;
    match repository.find(&spec, source, monitor) {
        Ok(entry) => Ok(entry),
        Err(error @ RepositoryError::NoSnapshot { .. }) => {
            let mut near = Vec::new();
            // Told already, whatever is wrong with one of them.
            let entries = repository.snapshots(&LogMonitor).unwrap_or_default();
            if let Some(source) = source {
                let names = entries.iter().map(|entry| entry.manifest.source.name.as_str());
                if names.clone().all(|name| name != source) {
                    near = nearest::nearest(source, names);
                }
            }
            if near.is_empty() {
                let ids: Vec<String> = entries.iter().map(|entry| entry.id.hex()).collect();
                near = nearest::nearest_id(snapshot, ids.iter().map(String::as_str));
            }
            let failure = Failure::from(error);
            Err(if near.is_empty() { failure } else { failure.hint(text::look::nearest(&near)) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Why something could not be read from a snapshot; where only a name is wrong, with those that may have been meant.
pub(crate) fn not_there(error: RestoreError, view: &View, wanted: &Path) -> Failure {
    let near = match &error {
        RestoreError::NotFound { .. } => nearest::nearest_paths(view, wanted),
        _ => Vec::new(),
    };
    let failure = Failure::from(error);
    if near.is_empty() { failure } else { failure.hint(text::look::nearest(&near)) }
}

/// The snapshot that is meant, with a view of its files.
pub(crate) fn view(app: &App, which: &Which) -> Result<(SnapshotEntry, View), Failure> {
    let ear = Ear::new(&app.console);
    let repository = open(app)?;
    let entry = find(&repository, &which.snapshot, which.source.as_deref(), &ear)?;
    let reader = repository.reader(&ear)?;
    let view = View::new(Arc::new(reader), entry.manifest.root.clone());
    Ok((entry, view))
}

/// The beginning of an id, enough for people.
pub(crate) fn short(entry: &SnapshotEntry) -> String {
    entry.id.hex().chars().take(10).collect()
}
