//! The `key` verbs: whose keys open the repository, one more recovery key, one key less. `ls` needs no key itself.

use std::path::PathBuf;

use mailkeep_repository::{KeyHolder, Machine, Repository, key_holders};
use serde::Serialize;

use crate::App;
use crate::args::Key;
use crate::claimed::Claimed;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::table::{Align, Table};
use crate::text::{self, report};
use crate::{repo, signal};

/// The role of the key file that is no secret.
const PLAIN: &str = "plain";

#[derive(Serialize)]
struct KeyLine {
    message_type: &'static str,
    id: String,
    role: String,
    copies: usize,
}

#[derive(Serialize)]
struct AddedLine {
    message_type: &'static str,
    id: String,
    recovery_file: Option<String>,
    /// Only where no file was asked for: it has to be given to somebody.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<String>,
}

pub(crate) fn run(app: &App, verb: Key) -> Result<u8, Failure> {
    match verb {
        Key::Ls => list(app),
        Key::AddRecovery { out } => add(app, out),
        Key::Revoke { id } => revoke(app, &id),
    }
}

fn list(app: &App) -> Result<u8, Failure> {
    let storage = repo::storage(app)?;
    let label = Repository::peek(&*storage)?;
    let mut table = Table::new(report::KEY_COLUMNS, [Align::Left, Align::Left, Align::Right]);
    for KeyHolder { id, role, copies } in key_holders(&*storage)? {
        if app.console.json {
            app.console.object(&KeyLine { message_type: "key", id, role, copies })?;
        } else {
            let role = if id == PLAIN { report::PLAIN_KEY.to_owned() } else { role };
            table.row([id, role, copies.to_string()]);
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
    let holders = key_holders(&**repository.storage())?;
    Ok(holders.into_iter().map(|holder| holder.id).collect())
}

fn add(app: &App, out: Option<PathBuf>) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let ear = Ear::new(&app.console);
    let (repository, key) = repo::open_with(app, &ear)?;
    // Claimed before anything is made: no key comes to be that has nowhere to go.
    let claimed = out.as_deref().map(Claimed::new).transpose()?;
    let machine = Machine::this();
    let added = repository.add_recovery(&key, &machine, &ear)?;
    let secret = added.identity.to_text();
    if let Some(claimed) = claimed {
        let label = repository.label();
        let text = text::recovery_file(&label.label, &repository.id().hex(), &secret);
        if let Err(failure) = claimed.fill(&text) {
            // Nobody has the key: its file on the disk is of no use to anybody.
            repository.revoke(&added.id, &key, &machine, &ear)?;
            return Err(failure);
        }
    }
    let shown = out.is_none().then(|| secret.to_string());
    if app.console.json {
        let recovery_file = out.map(|path| path.display().to_string());
        app.console.object(&AddedLine {
            message_type: "summary",
            id: added.id,
            recovery_file,
            recovery_key: shown,
        })?;
        return Ok(exit::DONE);
    }
    app.console.say(&report::key_added(&added.id))?;
    if let Some(path) = out {
        app.console.say(&report::recovery_kept(&path.display().to_string()))?;
    }
    if let Some(key) = shown {
        // The result of this verb, also with -q: it is never to be had again.
        app.console.line(&text::recovery_shown(&key))?;
    }
    Ok(exit::DONE)
}

fn revoke(app: &App, id: &str) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let ear = Ear::new(&app.console);
    let (repository, key) = repo::open_with(app, &ear)?;
    repository.revoke(id, &key, &Machine::this(), &ear)?;
    if app.console.json {
        let line = serde_json::json!({
            "message_type": "summary", "revoked": id, "remaining": ids(&repository)?, "note": report::MASTER_STAYS,
        });
        app.console.object(&line)?;
    } else {
        app.console.say(&report::key_revoked(id))?;
        app.console.line(report::MASTER_STAYS)?;
    }
    Ok(exit::DONE)
}
