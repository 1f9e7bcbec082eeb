//! A real Cyrus on the rebuilt files, asked over IMAP whether it serves what the snapshot says.
//!
//! It is started where nothing can reach it and it can reach nothing: its root folder is the rebuilt tree with this machine's
//! programs bound into it read-only (`ground.rs`), it has processes and a network of its own (`sandbox.rs`), and it listens on
//! one socket in the scratch folder. So the files lie under the paths that they had, and what an absolute link or a setting
//! of the snapshot names is the rebuilt thing, never one of a server that runs here. Its imapd.conf is ours and takes from the
//! snapshot's only what says how mail is laid out (`config.rs`); no service but imapd and no event is in its cyrus.conf, so
//! nothing is delivered, expired or copied elsewhere.
//!
//! Where that cannot be had (no root, no such Cyrus, another series) the check is left out and says why.

mod account;
mod ask;
mod config;
mod ground;
mod sandbox;

use std::path::{Path, PathBuf};

use mailkeep_mail::cyrus::mailbox_list::MailboxEntry;
use mailkeep_mail::cyrus::tools::{BIN_DIRS, CyrusVersion};
use mailkeep_mailview::Files;

use crate::mail::Mail;
use crate::report::Report;
use crate::sample::Lot;
use crate::scratch::Scratch;
use account::Account;
use sandbox::Sandbox;

/// The name of the check.
pub(crate) const NAME: &str = "cyrus";
/// Under which name a manifest's versions tell that of Cyrus.
const VERSION: &str = "cyrus";

/// What is served.
pub(crate) struct Served<'a> {
    pub(crate) scratch: &'a Scratch,
    pub(crate) mail: &'a Mail<'a>,
    /// The exported list.
    pub(crate) list: &'a [MailboxEntry],
    /// The snapshot's files: what is expected comes from there and not from what was rebuilt.
    pub(crate) files: &'a Files,
    /// What the snapshot says of versions.
    pub(crate) versions: &'a [(String, String)],
    pub(crate) lot: Lot,
    /// Where Cyrus' programs are, if somebody said so.
    pub(crate) bin: Option<&'a Path>,
    pub(crate) stop: &'a dyn Fn() -> bool,
    pub(crate) problem: &'a dyn Fn(&str, &str),
}

/// Why a Cyrus was not asked.
enum NotAsked {
    /// It was not started, for a reason that says nothing of the snapshot.
    LeftOut(String),
    /// It does not serve these files.
    Failed(String),
}

impl From<String> for NotAsked {
    fn from(why: String) -> Self {
        NotAsked::LeftOut(why)
    }
}

/// Makes the check.
pub(crate) fn check(served: &Served<'_>, report: &mut Report) {
    let before = report.problem_count;
    let mut told = |path: &str, what: &str| {
        (served.problem)(path, what);
        report.problem(path, what);
    };
    match serve(served, &mut told) {
        Ok(detail) => report.done(NAME, before, detail),
        Err(NotAsked::LeftOut(why)) => report.left_out(NAME, why),
        Err(NotAsked::Failed(why)) => {
            told("", &why);
            report.done(NAME, before, "it does not serve the rebuilt files".to_owned());
        }
    }
}

fn serve(served: &Served<'_>, problem: &mut dyn FnMut(&str, &str)) -> Result<String, NotAsked> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can start it apart from everything else".to_owned().into());
    }
    let bin = programs(served.bin).ok_or_else(|| "no Cyrus is installed here".to_owned())?;
    let profile =
        served.mail.tree.profile().ok_or_else(|| "the snapshot has no imapd.conf that fits".to_owned())?;
    let config = config::Config::of(profile)?;
    let account = Account::find(&config.user)
        .ok_or_else(|| format!("there is no user {} here, whom its files belong to", config.user))?;
    let tree = served.scratch.tree();
    let ground = ground::prepare(&tree, &bin, &config, &account)?;
    let sandbox = Sandbox { scratch: served.scratch, tree: &tree, binds: &ground.binds };
    let version = sandbox.version(&bin, &account)?;
    same_series(served.versions, version)?;
    let instance = sandbox.start(&ground.master, &config.folder, &account)?;
    let (mut client, greeting) = match instance.client(served.stop) {
        Ok(connected) => connected,
        Err(_) if (served.stop)() => return Err("interrupted".to_owned().into()),
        Err(why) => return Err(NotAsked::Failed(why)),
    };
    let asked = ask::ask(&mut client, served, problem);
    drop(client);
    drop(instance);
    let asked = asked.map_err(|error| NotAsked::Failed(format!("Cyrus on the rebuilt files: {error}")))?;
    let version = CyrusVersion::find(&greeting).unwrap_or(version);
    Ok(format!(
        "Cyrus {version} answered: {} mailboxes listed, {} counted, {} messages fetched",
        asked.listed, asked.counted, asked.fetched
    ))
}

/// The folder of Cyrus' programs.
fn programs(named: Option<&Path>) -> Option<PathBuf> {
    let named = named.map(Path::to_owned).into_iter();
    let all: Vec<PathBuf> = match named.len() {
        0 => BIN_DIRS.iter().map(PathBuf::from).collect(),
        _ => named.collect(),
    };
    all.into_iter()
        .find(|folder| folder.join("imapd").is_file())
        .and_then(|folder| folder.canonicalize().ok())
}

/// Another series may write its databases otherwise: what it says proves nothing of a server that the snapshot is of.
fn same_series(versions: &[(String, String)], here: CyrusVersion) -> Result<(), String> {
    let text = versions.iter().find(|(name, _)| name == VERSION).map(|(_, text)| text.as_str());
    let Some(there) = text.and_then(|text| CyrusVersion::find(&format!("cyrus {text}"))) else {
        return Err("the snapshot does not say which Cyrus it is of; not started".to_owned());
    };
    match (there.major, there.minor) == (here.major, here.minor) {
        true => Ok(()),
        false => {
            Err(format!("Cyrus of another series here ({here}, and the snapshot is of {there}); not started"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_series_is_started() {
        let here = CyrusVersion::find("cyrus 3.6.1").unwrap();
        let of = |text: &str| same_series(&[(VERSION.to_owned(), text.to_owned())], here);
        assert!(of("3.6.1").is_ok() && of("3.6.8-Debian").is_ok());
        assert!(of("3.8.1").unwrap_err().contains("not started"));
        assert!(of("2.6.1").is_err() && of("").is_err() && same_series(&[], here).is_err());
    }
}
