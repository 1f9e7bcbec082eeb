//! `init`: makes a repository, and the box key if there is none yet.
//!
//! Guards against a key file that was written but cannot be read back (restic 3429): a new one is read before it is
//! used. The recovery file is claimed before anything is made, so that no repository comes to be whose recovery key has
//! nowhere to go.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use mailkeep_repository::format::keys::Identity;
use mailkeep_repository::{
    Encryption, InitDone, InitOptions, KeySource, LocalStorage, Machine, Repository, RescueProgram, write_kit,
};
use serde::Serialize;

use crate::App;
use crate::args::Init;
use crate::claimed::Claimed;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::text::{self, report, rescue};
use crate::{kit, repo};

#[derive(Serialize)]
struct Made {
    message_type: &'static str,
    repository_id: String,
    label: String,
    path: String,
    encrypted: bool,
    key_file: Option<String>,
    /// Names of the key files in the repository: whose key opens it.
    key_ids: Vec<String>,
    recovery_file: Option<String>,
    sheet_file: Option<String>,
    /// What the disk carries to be read with.
    programs: Vec<String>,
    /// Only where no file was asked for: it has to be given to somebody.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<String>,
}

pub(crate) fn run(app: &App, args: Init) -> Result<u8, Failure> {
    let path = app.options.repo()?.clone();
    let label = args.label.clone().unwrap_or_else(|| default_label(&path));
    let key = &app.options.key_file;
    let (encryption, key_is_new) = if args.no_encryption {
        (Encryption::Plain, false)
    } else {
        let (box_key, new) = box_key(app, key)?;
        (Encryption::Wrapped { box_key }, new)
    };
    let programs = kit::programs(&args.programs)?;
    let claimed = args.recovery_out.as_deref().map(Claimed::new).transpose()?;
    let sheet = args.sheet.as_deref().map(Claimed::new).transpose()?;
    let storage = LocalStorage::prepare(&path)?;
    let advice = storage.advice();
    let made = Repository::init(Arc::new(storage), &InitOptions { label: label.clone(), encryption })?;
    let recovery = made.recovery.as_ref().map(|identity| identity.to_text());
    if let (Some(claimed), Some(recovery)) = (claimed, recovery.as_ref()) {
        claimed.fill(&text::recovery_file(&label, &made.repository.id().hex(), recovery))?;
    }
    if let (Some(claimed), Some(recovery), Some(path)) = (sheet, recovery.as_ref(), args.sheet.as_ref()) {
        claimed.fill(&super::key::sheet(&made.repository, recovery, &programs, path))?;
    }
    let carried = carry(app, &path, &made.repository, &programs);
    // Now, while nothing is on the disk yet, it costs least to follow it.
    for line in advice {
        app.console.warning(&line);
    }
    let shown = recovery.filter(|_| args.recovery_out.is_none() && args.sheet.is_none());
    let key_file = (!args.no_encryption).then(|| key.display().to_string());
    if app.console.json {
        let made = Made {
            message_type: "summary",
            repository_id: made.repository.id().hex(),
            label,
            path: path.display().to_string(),
            encrypted: made.repository.encrypted(),
            key_file,
            key_ids: key_ids(&made)?,
            recovery_file: args.recovery_out.map(|path| path.display().to_string()),
            sheet_file: args.sheet.map(|path| path.display().to_string()),
            programs: carried,
            recovery_key: shown.map(|key| key.to_string()),
        };
        app.console.object(&made)?;
        return Ok(exit::DONE);
    }
    let id = made.repository.id();
    app.console.say(&report::made(&id.hex(), &label, &path.display().to_string()))?;
    match key_file {
        Some(file) => app.console.say(&report::box_key(&file, key_is_new))?,
        None => app.console.say(report::READABLE_BY_ALL)?,
    }
    if let Some(file) = args.recovery_out {
        app.console.say(&report::recovery_kept(&file.display().to_string()))?;
    }
    if let Some(file) = args.sheet {
        app.console.say(&rescue::sheet_kept(&file.display().to_string()))?;
    }
    app.console.say(&match carried.is_empty() {
        true => rescue::NOT_ON_THE_DISK.to_owned(),
        false => rescue::carried(&carried),
    })?;
    if let Some(key) = shown {
        // The result of this verb, also with -q: it is never to be had again.
        super::key::show(app, &key)?;
    }
    Ok(exit::DONE)
}

/// Puts the rescue kit on the disk; gives the paths of what is there. The repository is good without it.
fn carry(app: &App, place: &Path, repository: &Repository, programs: &[RescueProgram]) -> Vec<String> {
    let written = write_kit(repository, programs, &Machine::this(), &Ear::new(&app.console));
    kit::open_to_readers(place);
    match written {
        Ok(Some(kit)) => kit.files.into_iter().map(|file| file.path).collect(),
        // Why was told already.
        Ok(None) => Vec::new(),
        Err(error) => {
            app.console.warning(&rescue::not_written(&exit::chain(&error)));
            Vec::new()
        }
    }
}

fn default_label(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole.file_name().map_or_else(|| "mailkeep".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn key_ids(made: &InitDone) -> Result<Vec<String>, Failure> {
    super::key::ids(&made.repository)
}

/// The box key in `path`, which is made if it is not there; whether it was.
fn box_key(app: &App, path: &Path) -> Result<(Identity, bool), Failure> {
    let new = match File::open(path) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_key(path)?;
            true
        }
        Err(error) => return Err(Failure::file(exit::KEY, "open the key file", path, &error)),
    };
    repo::warn_if_open_to_others(app, path);
    match KeySource::File(path.to_owned()).identity()? {
        Some(identity) => Ok((identity, new)),
        None => Err(Failure::new(exit::KEY, format!("the key file {} holds no key", path.display()))),
    }
}

fn make_key(path: &Path) -> Result<(), Failure> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| Failure::file(exit::FAILED, "make the folder", folder, &error))?;
    }
    let identity = Identity::generate();
    let text = format!("{}{}\n", text::KEY_FILE_HEAD, identity.to_text().as_str());
    Claimed::new(path)?.fill(&text)?;
    let back = KeySource::File(path.to_owned()).identity()?;
    if back.is_some_and(|back| *back.to_text() == *identity.to_text()) {
        return Ok(());
    }
    let what = format!("the key file {} was written but reads back differently", path.display());
    Err(Failure::new(exit::FAILED, what).hint(report::KEY_MISWRITTEN))
}
