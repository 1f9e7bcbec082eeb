//! Who has read what, beyond the owner: users' seen databases.
//!
//! The owner's own `\Seen` is in cyrus.index. What others have read of a mailbox stands in a database of each of them,
//! by the mailbox' unique id: `USER.seen` below `user/` in the older layouts, `seen.db` in a folder named by the id of
//! the user's INBOX since 3.6.

use mailkeep_mail::cyrus::database;
use mailkeep_mail::cyrus::seen::Seen;
use mailkeep_mail::limits::DATABASE_BYTES;
use mailkeep_restorer::path::{parts, show};

use crate::tree::told;
use crate::{Files, MailTree, MailViewError, Mailbox};

/// What one user has read of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The user, or the file where that is not known.
    pub user: String,
    /// What was read; or why it cannot be told.
    pub seen: Result<Seen, String>,
}

/// What users other than the owner have read of a mailbox. Users who never opened it are left out.
///
/// # Errors
/// The snapshot cannot be read.
pub fn seen_by(files: &Files, tree: &MailTree, mailbox: &Mailbox) -> Result<Vec<Reading>, MailViewError> {
    let mut readings = Vec::new();
    let Some(id) = &mailbox.unique_id else { return Ok(readings) };
    for path in &tree.seen {
        let user = user_of(tree, path);
        let seen = match files.read(path, DATABASE_BYTES) {
            Ok(Some(bytes)) => match database::entries(&bytes) {
                Ok(entries) => match entries.get(id.as_str().as_bytes()) {
                    Some(value) => {
                        Seen::parse(value).ok_or_else(|| "its entry is of an unknown kind".to_owned())
                    }
                    None => continue,
                },
                Err(error) => Err(error.to_string()),
            },
            Ok(None) => Err("the file is too large".to_owned()),
            Err(error) => Err(told(&error)),
        };
        readings.push(Reading { user, seen });
    }
    readings.sort_by(|one, other| one.user.cmp(&other.user));
    Ok(readings)
}

/// Whose database lies at a path.
fn user_of(tree: &MailTree, path: &[u8]) -> String {
    let names: Vec<&[u8]> = parts(path).collect();
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    match names[..] {
        [.., folder, b"seen.db"] => {
            let inbox = tree.mailboxes().iter().find(|mailbox| {
                mailbox.unique_id.as_ref().is_some_and(|id| id.as_str().as_bytes() == folder)
            });
            let user = inbox.and_then(|inbox| inbox.shown.strip_prefix("user/"));
            user.map_or_else(|| show(path), str::to_owned)
        }
        [.., b"domain", _, domain, b"user", _, file] | [.., b"domain", domain, b"user", _, file] => {
            let user = file.strip_suffix(b".seen").unwrap_or(file);
            format!("{}@{}", text(user).replace('^', "."), text(domain))
        }
        [.., file] => text(file.strip_suffix(b".seen").unwrap_or(file)).replace('^', "."),
        [] => String::new(),
    }
}
