//! What a server shows after a restore, by its own programs: the names it lists, and what it says of single mailboxes.
//!
//! Nobody can log in over IMAP here: the box knows no user's password, and the server's are kept so that they cannot be read.
//! `ctl_mboxlist` and `mbexamine` open the same databases and indexes in the same way as imapd does.

use mailkeep_link::rebuild::{Examined, Look, Looked};
use mailkeep_mail::Profile;
use mailkeep_mail::Source;
use mailkeep_mail::cyrus::mailbox_list::{self, MailboxName};
use mailkeep_mail::cyrus::tools;
use mailkeep_mail::source::{CyrusOptions, System};

use super::import::exported;
use crate::{command, facts, limits};

/// Looks at the server as it runs. What cannot be found out is left open.
pub fn look(source: &Source, profile: &Profile, look: &Look) -> Looked {
    let (System::Cyrus(options), Profile::Cyrus(cyrus)) = (&source.system, profile) else {
        return Looked { listed: None, names: None, mailboxes: vec![None; look.mailboxes.len()] };
    };
    let list = exported(options).ok();
    let unix = cyrus.conf().switch("unixhierarchysep", true);
    Looked {
        listed: list
            .as_ref()
            .map(|list| list.iter().filter(|entry| entry.mailbox_type.has_folder()).count() as u64),
        names: list.as_ref().map(|list| mailbox_list::fingerprint(list)),
        mailboxes: look.mailboxes.iter().map(|name| examined(options, name, unix)).collect(),
    }
}

fn examined(options: &CyrusOptions, name: &str, unix: bool) -> Option<Examined> {
    let external = MailboxName::new(name).external(unix);
    let tool = tools::find_tool(options, "mbexamine", &mut |path| facts::is_executable(path)).ok()?;
    let argv = facts::as_its_user(&tools::examine_command(options, &tool, &external)?);
    let done = command::run(&argv, limits::ASK_BOUND, &|| false).ok()?;
    let found = tools::examined(&done.output)?;
    Some(Examined { messages: found.messages, uid_validity: found.uid_validity, last_uid: found.last_uid })
}
