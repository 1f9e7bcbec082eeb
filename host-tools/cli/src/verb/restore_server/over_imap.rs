//! What a restored server shows to those who log in, held against the snapshot: for who has given an administrator's password.
//! He logs in for each owner of a mailbox that is looked at, as Cyrus lets him.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mailkeep_mailview::imap::{Client, ImapError, Names, Target, counts};
use mailkeep_mailview::{Files, MailTree, Mailbox};
use mailkeep_rebuild::Examined;
use mailkeep_restorer::path::show;
use serde::Serialize;

use super::check::{difference, spread};
use crate::args::RestoreServer;
use crate::exit::{self, Failure};
use crate::verb::mail::password;

/// Who logs in where, made before anything is done: a wrong password file is told while nothing has happened.
pub(super) struct Login {
    target: Target,
    password: String,
    authorities: Option<PathBuf>,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Seen {
    /// Mailboxes of which MESSAGES, UIDVALIDITY and UIDNEXT were compared.
    pub(super) mailboxes: u64,
    /// What differs, one line each.
    #[serde(skip)]
    pub(super) differences: Vec<String>,
}

impl Login {
    /// What the command line says; `None` if it names no server.
    pub(super) fn of(args: &RestoreServer) -> Result<Option<Login>, Failure> {
        let Some(url) = &args.imap else { return Ok(None) };
        let password = password(args.password_file.as_deref(), args.password_command.as_deref())?;
        Ok(Some(Login { target: Target::parse(url)?, password, authorities: args.ca_file.clone() }))
    }

    /// Looks at a sample of all mailboxes.
    pub(super) fn look(&self, files: &Files) -> Result<Seen, Failure> {
        let tree = MailTree::of(files)?;
        let is_meant = |mailbox: &&Mailbox| mailbox.is_mail && mailbox.is_listed;
        let mut of_owner: BTreeMap<String, Vec<&Mailbox>> = BTreeMap::new();
        for mailbox in spread(tree.mailboxes().iter().filter(is_meant).collect()) {
            // What belongs to nobody is asked for by nobody: who may see it stands in its rights.
            if let Some(owner) = mailbox.owner() {
                of_owner.entry(owner).or_default().push(mailbox);
            }
        }
        let mut seen = Seen::default();
        for (owner, mailboxes) in of_owner {
            let target = Target { acts_for: Some(owner), ..self.target.clone() };
            let mut client = Client::connect(&target, &self.password, self.authorities.as_deref())?;
            let names = Names::of(&mut client)?;
            for mailbox in mailboxes {
                let before = mailbox.summary(files)?;
                if before.problem.is_some() {
                    continue;
                }
                seen.mailboxes += 1;
                match counts(&mut client, &names.same(mailbox)) {
                    Ok(now) => {
                        let now = Examined {
                            messages: now.messages,
                            uid_validity: now.uid_validity,
                            last_uid: now.uid_next.saturating_sub(1),
                        };
                        seen.differences.extend(difference(mailbox, &before, Some(now)));
                    }
                    Err(error @ ImapError::Refused { .. }) => {
                        let shown = show(mailbox.shown.as_bytes());
                        seen.differences.push(format!("{shown}: {}", exit::chain(&error)));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            client.log_out();
        }
        Ok(seen)
    }
}
