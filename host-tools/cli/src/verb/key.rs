//! The `key` verbs: whose keys open the repository, one more recovery key, one key less. `ls` needs no key itself.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mailkeep_repository::{KeyHolder, Machine, Repository, RescueProgram, key_holders};
use serde::Serialize;

use crate::App;
use crate::args::Key;
use crate::claimed::Claimed;
use crate::code::{Code, Ink};
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::sheet::{Sheet, rows};
use crate::table::{Align, Table};
use crate::text::{self, report, rescue};
use crate::{repo, signal, units};

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
    sheet_file: Option<String>,
    /// Only where no file was asked for: it has to be given to somebody.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<String>,
}

pub(crate) fn run(app: &App, verb: Key) -> Result<u8, Failure> {
    match verb {
        Key::Ls => list(app),
        Key::AddRecovery { out, sheet } => add(app, out, sheet),
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

fn add(app: &App, out: Option<PathBuf>, sheet_out: Option<PathBuf>) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let ear = Ear::new(&app.console);
    let (repository, key) = repo::open_with(app, &ear)?;
    // Claimed before anything is made: no key comes to be that has nowhere to go.
    let claimed = out.as_deref().map(Claimed::new).transpose()?;
    let claimed_sheet = sheet_out.as_deref().map(Claimed::new).transpose()?;
    let machine = Machine::this();
    let added = repository.add_recovery(&key, &machine, &ear)?;
    let secret = added.identity.to_text();
    let label = &repository.label().label;
    let file = claimed.map(|claimed| (claimed, text::recovery_file(label, &repository.id().hex(), &secret)));
    let page = claimed_sheet.zip(sheet_out.as_deref()).map(|(claimed, path)| {
        // What this disk carries is not known to be what it should be: no sums of it.
        (claimed, sheet(&repository, &secret, &[], path))
    });
    for (claimed, text) in file.into_iter().chain(page) {
        if let Err(failure) = claimed.fill(&text) {
            // Nobody has the key: its file on the disk is of no use to anybody.
            repository.revoke(&added.id, &key, &machine, &ear)?;
            return Err(failure);
        }
    }
    let shown = (out.is_none() && sheet_out.is_none()).then(|| secret.to_string());
    if app.console.json {
        let recovery_file = out.map(|path| path.display().to_string());
        app.console.object(&AddedLine {
            message_type: "summary",
            id: added.id,
            recovery_file,
            sheet_file: sheet_out.map(|path| path.display().to_string()),
            recovery_key: shown,
        })?;
        return Ok(exit::DONE);
    }
    app.console.say(&report::key_added(&added.id))?;
    if let Some(path) = out {
        app.console.say(&report::recovery_kept(&path.display().to_string()))?;
    }
    if let Some(path) = sheet_out {
        app.console.say(&rescue::sheet_kept(&path.display().to_string()))?;
    }
    if let Some(key) = shown {
        // The result of this verb, also with -q: it is never to be had again.
        show(app, &key)?;
    }
    Ok(exit::DONE)
}

/// Shows a recovery key, once; to a person also in groups and as a code that a telephone reads.
pub(crate) fn show(app: &App, key: &str) -> Result<(), Failure> {
    app.console.line(&text::recovery_shown(key))?;
    if !app.console.at_a_terminal() {
        return Ok(());
    }
    for (name, groups) in rows(key) {
        app.console.line(&format!("    {name:16} {groups}"))?;
    }
    if let Some(code) = Code::of(key) {
        let lines = if app.console.in_colour() { code.coloured() } else { code.blocks(Ink::Light) };
        for line in lines {
            app.console.line(&line)?;
        }
    }
    Ok(())
}

/// The sheet to be printed with a recovery key that was made just now.
pub(crate) fn sheet(repository: &Repository, key: &str, programs: &[RescueProgram], path: &Path) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let sheet = Sheet {
        label: &repository.label().label,
        repository: &repository.id().hex(),
        date: &units::day(now.try_into().unwrap_or(i64::MAX)),
        key,
        programs,
    };
    sheet.for_file(path)
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
