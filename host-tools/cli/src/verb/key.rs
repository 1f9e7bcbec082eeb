//! `key ls`: whose keys open the repository. Needs no key itself.

use mailkeep_repository::{Repository, Storage};
use serde::Serialize;

use crate::App;
use crate::exit::{self, Failure};
use crate::repo;
use crate::table::{Align, Table};
use crate::text::report;

/// Folder of the key files in a repository, and the name of the one that is no secret.
const FOLDER: &str = "keys";
const PLAIN: &str = "plain";

#[derive(Serialize)]
struct KeyLine {
    message_type: &'static str,
    id: String,
    role: String,
}

pub(crate) fn run(app: &App) -> Result<u8, Failure> {
    let storage = repo::storage(app)?;
    let label = Repository::peek(&*storage)?;
    let mut table = Table::new(report::KEY_COLUMNS, [Align::Left; 2]);
    for id in names(&*storage)? {
        let role = id.split('-').next().unwrap_or(&id).to_owned();
        if app.console.json {
            app.console.object(&KeyLine { message_type: "key", id, role })?;
        } else {
            let role = if id == PLAIN { report::PLAIN_KEY.to_owned() } else { role };
            table.row([id, role]);
        }
    }
    if !app.console.json {
        app.console.say(&report::keys_of(&label.repository.hex(), &label.label))?;
        for line in table.lines() {
            app.console.line(&line)?;
        }
    }
    Ok(exit::DONE)
}

/// The ids of the keys that open a repository.
pub(crate) fn ids(repository: &Repository) -> Result<Vec<String>, Failure> {
    names(&**repository.storage())
}

fn names(storage: &dyn Storage) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = storage
        .list(FOLDER)?
        .into_iter()
        .filter(|entry| !entry.directory)
        .filter_map(|entry| match entry.name.strip_suffix(".age") {
            Some(name) => Some(name.to_owned()),
            None => (entry.name == PLAIN).then_some(entry.name),
        })
        .collect();
    names.sort();
    Ok(names)
}
