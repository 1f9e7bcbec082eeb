//! The list of mailboxes for another Cyrus, or for another kind of database: mailboxes.db made anew from the list that was
//! exported into the snapshot.
//!
//! It is made while mail runs and before any tree is exchanged, by the server's own `ctl_mboxlist` under a configuration
//! that has folders of its own, so that nothing that is served is touched; read back with the same program, and held against
//! the list; and only then put into the tree that was built. Mail thus comes back on all the old or on all the new, the list
//! included, and a list that cannot be imported ends the restore before mail was stopped.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mailkeep_mail::cyrus::mailbox_list::{self, MailboxEntry};
use mailkeep_mail::cyrus::profile::CyrusProfile;
use mailkeep_mail::cyrus::tools;
use mailkeep_mail::limits::MAILBOX_LIST_BYTES;
use mailkeep_mail::source::CyrusOptions;
use rustix::process::geteuid;

use super::build::Build;
use crate::command::{self, Running};
use crate::dir::Directory;
use crate::error::{AgentError, one_line};
use crate::window::intent::Intent;
use crate::{facts, limits, owners};

/// The file in the configuration folder, where imapd.conf names no other.
const DATABASE: &str = "mailboxes.db";

/// A list that is being received.
#[derive(Debug, Default)]
pub struct Import {
    list: Vec<u8>,
}

fn refused(why: String) -> AgentError {
    AgentError::Rebuild { why: format!("the list of mailboxes cannot be imported: {why}") }
}

impl Import {
    /// The next part of it.
    ///
    /// # Errors
    /// It is too large.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), AgentError> {
        if self.list.len().saturating_add(bytes.len()) > MAILBOX_LIST_BYTES {
            return Err(refused(format!("it has more than {MAILBOX_LIST_BYTES} bytes")));
        }
        self.list.extend_from_slice(bytes);
        Ok(())
    }

    /// Makes the database and puts it into the tree that was built; tells how many entries it has.
    ///
    /// # Errors
    /// The server's programs do not take the list, or make something else of it. Nothing that is served was touched.
    pub fn run(
        self,
        options: &CyrusOptions,
        profile: &CyrusProfile,
        build: &Build,
    ) -> Result<u64, AgentError> {
        let wanted = sorted(&self.list)?;
        let scratch = Scratch::make(&options.cyrus_user)?;
        let database = scratch.path.join(DATABASE);
        let config = scratch.file("imapd.conf", &config_text(profile, &scratch.path))?;
        let list = scratch.file("list", &self.list)?;
        let own = CyrusOptions { imapd_conf: config, ..options.clone() };
        let tool = tools::find_tool(&own, "ctl_mboxlist", &mut |path| facts::is_executable(path))?;
        let input = File::open(&list).map_err(|source| state("open", &list, source))?;
        let argv = facts::as_its_user(&tools::import_command(&own, &tool));
        let done = command::nameless_file()
            .map_err(in_memory)
            .and_then(|said| {
                Running::start_tool(&argv, said, Some(input)).map_err(|error| refused(one_line(&error)))
            })?
            .wait(limits::IMPORT_BOUND, &|| false)
            .map_err(|error| refused(one_line(&error)))?;
        if !done.ok {
            return Err(refused(done.describe()));
        }
        let made = exported(&own)?;
        if let Some(first) = first_difference(&wanted, &made) {
            let why = format!(
                "this server's Cyrus makes something else of it (first: {first}); install the series of the snapshot there, \
                 restore, and upgrade then"
            );
            return Err(refused(why));
        }
        let file = Directory::open_exactly(&scratch.path)
            .and_then(|folder| folder.open_file(DATABASE.as_bytes()))
            .map_err(|error| state("open", &database, error.into()))?;
        build.put(&place(profile)?, &file)?;
        Ok(made.len() as u64)
    }
}

/// Where the database lies, as imapd.conf says.
fn place(profile: &CyrusProfile) -> Result<PathBuf, AgentError> {
    let conf = profile.conf();
    let beside = || conf.path("configdirectory").map(|folder| folder.join(DATABASE));
    conf.path("mboxlist_db_path").or_else(beside).ok_or_else(|| refused("it has no place".to_owned()))
}

/// What this Cyrus lists under a configuration.
pub(super) fn exported(options: &CyrusOptions) -> Result<Vec<MailboxEntry>, AgentError> {
    let tool = tools::find_tool(options, "ctl_mboxlist", &mut |path| facts::is_executable(path))?;
    let argv = facts::as_its_user(&tools::export_command(options, &tool));
    let list = command::nameless_file().map_err(in_memory)?;
    let kept = list.try_clone().map_err(in_memory)?;
    let done = Running::start(&argv, Some(list))
        .and_then(|running| running.wait(limits::EXPORT_BOUND, &|| false))
        .map_err(|error| refused(one_line(&error)))?;
    if !done.ok {
        return Err(refused(done.describe()));
    }
    sorted(&read_all(&kept).map_err(in_memory)?)
}

fn read_all(mut file: &File) -> std::io::Result<Vec<u8>> {
    use std::io::{Seek, SeekFrom};
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(MAILBOX_LIST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Without the tombstones: they say that a mailbox was deleted once, no user sees them, and no Cyrus imports them.
fn sorted(list: &[u8]) -> Result<Vec<MailboxEntry>, AgentError> {
    let mut entries = mailbox_list::parse(list).map_err(|error| refused(one_line(&error)))?;
    entries.retain(|entry| !entry.mailbox_type.is_tombstone());
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// The first name with another entry, or with none on one side.
fn first_difference(wanted: &[MailboxEntry], made: &[MailboxEntry]) -> Option<String> {
    let differs = wanted.iter().zip(made).find(|(one, other)| one != other).map(|(one, _)| one);
    let longer = || wanted.get(made.len()).or_else(|| made.get(wanted.len()));
    differs.or_else(longer).map(|entry| entry.name.to_string())
}

/// A configuration for this one program: the server's settings of databases and names, and no folder of its.
fn config_text(profile: &CyrusProfile, scratch: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    let mut line = |key: &str, value: &OsStr| {
        text.extend_from_slice(key.as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.push(b'\n');
    };
    line("configdirectory", scratch.as_os_str());
    for (key, value) in profile.shape().iter().filter(|(key, _)| key != "metapartition_files") {
        line(key, OsStr::new(value));
    }
    let spool = scratch.join("spool");
    for partition in profile.partitions() {
        line(&format!("partition-{}", partition.name), spool.as_os_str());
    }
    for key in ["defaultdomain", "servername", "umask"] {
        if let Some(value) = profile.conf().get(key) {
            line(key, value);
        }
    }
    text
}

fn state(action: &'static str, path: &Path, source: std::io::Error) -> AgentError {
    AgentError::State { action, path: path.to_owned(), source }
}

fn in_memory(source: std::io::Error) -> AgentError {
    state("use", Path::new("a file in memory"), source)
}

/// A folder for Cyrus' program, gone when this is dropped.
struct Scratch {
    path: PathBuf,
    owner: Option<(u32, u32)>,
}

impl Scratch {
    /// Folders above that only root may enter keep the program out, so it lies where everybody has his own.
    fn make(user: &str) -> Result<Scratch, AgentError> {
        let owner = match geteuid().is_root() {
            true => Some(
                owners::account(user).ok_or_else(|| refused(format!("this server has no user {user}")))?,
            ),
            false => None,
        };
        let above = std::env::temp_dir();
        let above = above.canonicalize().map_err(|source| state("look at", &above, source))?;
        let name = format!("mailkeep-list-{}", Intent::new_token()?);
        let scratch = Scratch { path: above.join(name), owner };
        scratch.folder(&scratch.path)?;
        for below in ["db", "lock", "proc", "socket", "log", "spool"] {
            scratch.folder(&scratch.path.join(below))?;
        }
        Ok(scratch)
    }

    fn folder(&self, path: &Path) -> Result<(), AgentError> {
        let make = || {
            DirBuilder::new().mode(0o700).create(path)?;
            self.owner.map_or(Ok(()), |(uid, gid)| std::os::unix::fs::lchown(path, Some(uid), Some(gid)))
        };
        make().map_err(|source| state("make the folder", path, source))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, AgentError> {
        let path = self.path.join(name);
        let write = || {
            // Readable for the program, and not its own; nobody else gets into the folder.
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
            std::io::Write::write_all(&mut file, bytes)
        };
        write().map_err(|source| state("write", &path, source))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_entry_or_one_that_is_missing_is_found() {
        let list = |text: &str| sorted(text.as_bytes()).unwrap();
        let entry = |name: &str, id: &str| {
            format!(
                "\"{name}\": {{\"name\": \"{name}\", \"mbtype\": \"e\", \"partition\": \"default\", \"acl\": {{}}, \
                 \"uniqueid\": \"{id}\", \"uidvalidity\": \"7\"}}"
            )
        };
        let of = |entries: &[(&str, &str)]| {
            let entries: Vec<String> = entries.iter().map(|(name, id)| entry(name, id)).collect();
            list(&format!("{{{}}}", entries.join(",")))
        };
        let wanted = of(&[("user.b", "2"), ("user.a", "1")]);
        assert_eq!(first_difference(&wanted, &of(&[("user.a", "1"), ("user.b", "2")])), None);
        for (made, first) in [
            (of(&[("user.a", "1")]), "user.b"),
            (of(&[("user.a", "1"), ("user.b", "3")]), "user.b"),
            (of(&[("user.a", "1"), ("user.b", "2"), ("user.c", "3")]), "user.c"),
            (of(&[]), "user.a"),
        ] {
            assert_eq!(first_difference(&wanted, &made).as_deref(), Some(first));
        }
        let gone =
            "{\"user.g\": {\"name\": \"user.g\", \"mbtype\": \"ed\", \"acl\": {}, \"uniqueid\": \"9\"}}";
        assert_eq!(first_difference(&of(&[]), &list(gone)), None, "a deleted one is none");
    }
}
