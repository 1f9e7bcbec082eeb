//! Flags of a snapshot onto messages that are there: read, flagged, answered, keywords. No message is made, moved or taken
//! away, and `\Deleted` is never set: somebody's program might act on it.

use std::collections::BTreeMap;

use mailkeep_mail::cyrus::seen::Seen;
use mailkeep_restorer::format::Node;
use sha1::{Digest, Sha1};

use super::client::Client;
use super::error::ImapError;
use super::names::Folder;
use super::present::{Key, Present};
use super::restore::{Restored, Wish};
use super::wanted::Wanted;
use crate::tree::told;
use crate::{Files, MailViewError, Mailbox, Message, limits};

/// Whose reading it is, and what becomes of flags that the snapshot has not.
#[derive(Debug, Clone, Copy, Default)]
pub struct FlagsWish<'a> {
    /// Which messages, and whether anything is written.
    pub wish: Wish<'a>,
    /// Flags that a message has not in the snapshot are taken off.
    pub exact: bool,
    /// In the mailbox of somebody else: what the user who is logged in has read of it, if that is known. `\Seen` in the
    /// index is its owner's.
    pub seen: Option<Reader<'a>>,
}

/// What a user who is not the owner has read.
#[derive(Debug, Clone, Copy)]
pub enum Reader<'a> {
    /// These messages.
    Of(&'a Seen),
    /// Nothing is known: `\Seen` is left as it is.
    Unknown,
}

/// Puts the flags of messages of `mailbox` back onto those that are in the folder `into`. What is not there is counted and
/// left alone; a folder that is not there has nothing.
///
/// # Errors
/// The server is not there any more or does not let us into the folder; the snapshot cannot be read.
pub fn restore_flags<E: From<MailViewError> + From<ImapError>>(
    client: &mut Client,
    files: &Files,
    mailbox: &Mailbox,
    into: &Folder,
    wish: &FlagsWish<'_>,
    problem: &mut dyn FnMut(&str),
) -> Result<Restored, E> {
    let mut restored = Restored::default();
    let FlagsWish { wish, exact, seen } = wish;
    let Some(mut present) = Present::of(client, into, wish.dry)? else {
        problem(&format!("{} is not on the server, so nothing in it has flags", into.shown));
        mailbox.each(files, &mut |message, _| -> Result<(), E> {
            restored.absent += u64::from(wish.wants(message.uid));
            Ok(())
        })?;
        return Ok(restored);
    };
    // Few commands for many messages: what is to be set and to be taken off, and of which.
    let mut changes: BTreeMap<(Vec<String>, Vec<String>), Vec<u32>> = BTreeMap::new();
    let index = mailbox.each(files, &mut |message, node| -> Result<(), E> {
        if !wish.wants(message.uid) || message.flags.is_none() {
            return Ok(());
        }
        let known = match key(&present, files, mailbox, message, node) {
            Ok(key) => present.take(&key),
            Err(error) => {
                restored.failed += 1;
                problem(&told(&error));
                return Ok(());
            }
        };
        let Some(known) = known else {
            restored.absent += 1;
            return Ok(());
        };
        let mut wanted = Wanted::of(message);
        match seen {
            None => {}
            Some(Reader::Of(seen)) => wanted.set("\\Seen", seen.contains(message.uid)),
            Some(Reader::Unknown) => wanted.set("\\Seen", known.flags.contains("\\Seen")),
        }
        let mut surplus: Vec<String> = wanted.surplus(&known.flags);
        if !*exact {
            restored.differing += u64::from(!surplus.is_empty());
            surplus.clear();
        }
        let lacking: Vec<String> = wanted.lacking(&known.flags).into_iter().map(str::to_owned).collect();
        if lacking.is_empty() && surplus.is_empty() {
            restored.skipped += 1;
        } else {
            changes.entry((lacking, surplus)).or_default().push(known.uid);
        }
        Ok(())
    })?;
    if let Some(index) = index {
        problem(&format!("{index}: without an index nothing is known of flags"));
    }
    for ((set, off), uids) in changes {
        for some in uids.chunks(limits::FLAGS_AT_ONCE) {
            let count = some.len() as u64;
            if wish.dry {
                restored.merged += count;
                continue;
            }
            let some = some.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let mut done = Ok(());
            for (sign, flags) in [('+', &set), ('-', &off)] {
                if done.is_ok() && !flags.is_empty() {
                    let store = format!("UID STORE {some} {sign}FLAGS.SILENT ({})", flags.join(" "));
                    done = client.run(&store, "set flags", &mut |_| Ok(()));
                }
            }
            match done {
                Ok(()) => restored.merged += count,
                Err(error @ ImapError::Refused { .. }) => {
                    restored.failed += count;
                    problem(&error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(restored)
}

/// What tells a message of the snapshot from others; of its file no more is read than that needs.
fn key(
    present: &Present,
    files: &Files,
    mailbox: &Mailbox,
    message: &Message,
    node: Option<&Node>,
) -> Result<Key, MailViewError> {
    if let Some(digest) = message.guid.filter(|_| present.has_digests) {
        return Ok(Key::Digest(digest));
    }
    let node =
        node.ok_or_else(|| MailViewError::NoFile { mailbox: mailbox.shown.clone(), uid: message.uid })?;
    if present.has_digests {
        let mut digest = Sha1::new();
        mailbox.read(files, node, &mut |piece| {
            digest.update(piece);
            true
        })?;
        return Ok(Key::Digest(digest.finalize().into()));
    }
    let mut header = Vec::new();
    mailbox.read(files, node, &mut |piece| {
        header.extend_from_slice(piece);
        header.len() < limits::HEADER_BYTES && crate::mime::header_end(&header).is_none()
    })?;
    Ok(present.key_of_header(node.size(), &header))
}
