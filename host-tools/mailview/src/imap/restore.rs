//! Messages of a snapshot into a folder of a running server: what is not there is appended, what is there gets the flags
//! that it lacks, and nothing that is there is changed otherwise or taken away.
//!
//! Of equal messages (see [`super::present`]) as many are made as the snapshot has more than the folder: run again, a
//! restore makes none, and one that was cut off goes on where it was.

use std::collections::BTreeSet;

use sha1::{Digest, Sha1};

use super::client::{Client, quoted};
use super::error::ImapError;
use super::names::Folder;
use super::present::{Key, Present};
use super::wanted::{Wanted, is_flag};
use crate::export::civil;
use crate::tree::told;
use crate::{Files, MailViewError, Mailbox, Message, limits};

/// What a restore brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Messages that were not there and are now.
    pub created: u64,
    /// Messages that were there and got flags that they lacked.
    pub merged: u64,
    /// Messages that were there with all their flags.
    pub skipped: u64,
    /// Messages that could not be read, or that the server refused.
    pub failed: u64,
    /// Where only flags are restored: messages that are not there, and so were left alone.
    pub absent: u64,
    /// Where only flags are restored: messages with flags that they have not in the snapshot, and that were left to them.
    pub differing: u64,
}

impl Restored {
    /// Adds what another mailbox brought.
    pub fn add(&mut self, other: &Restored) {
        self.created += other.created;
        self.merged += other.merged;
        self.skipped += other.skipped;
        self.failed += other.failed;
        self.absent += other.absent;
        self.differing += other.differing;
    }
}

/// What is wanted of a mailbox.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// Messages with these UIDs; `None` for all.
    pub uids: Option<&'a BTreeSet<u32>>,
    /// Nothing is written: the counts say what would be done.
    pub dry: bool,
}

impl Wish<'_> {
    /// Whether a message is wanted.
    pub(super) fn wants(&self, uid: u32) -> bool {
        self.uids.is_none_or(|uids| uids.contains(&uid))
    }
}

/// Brings messages of `mailbox` into the folder `into`, which is made if it is not there. What goes wrong with one message
/// is told to `problem` and counted.
///
/// # Errors
/// The server is not there any more or does not let us into the folder; the snapshot cannot be read.
pub fn restore<E: From<MailViewError> + From<ImapError>>(
    client: &mut Client,
    files: &Files,
    mailbox: &Mailbox,
    into: &Folder,
    wish: &Wish<'_>,
    problem: &mut dyn FnMut(&str),
) -> Result<Restored, E> {
    let folder = quoted(&into.name);
    let mut present = match Present::of(client, into, wish.dry)? {
        Some(present) => present,
        None => {
            if !wish.dry {
                let making = format!("make the folder {}", into.shown);
                client.run(&format!("CREATE {folder}"), &making, &mut |_| Ok(()))?;
                let opening = format!("open {}", into.shown);
                client.run(&format!("SELECT {folder}"), &opening, &mut |_| Ok(()))?;
            }
            Present::empty(client)
        }
    };
    let mut restored = Restored::default();
    let index = mailbox.each(files, &mut |message, node| -> Result<(), E> {
        if !wish.wants(message.uid) {
            return Ok(());
        }
        let mut failed = |why: &str| {
            restored.failed += 1;
            problem(why);
            Ok(())
        };
        // Where the index tells the digest a message that is there need not be read.
        let digest = message.guid.filter(|_| present.has_digests);
        let mut known = digest.and_then(|digest| present.take(&Key::Digest(digest)));
        let mut bytes = Vec::new();
        if known.is_none() {
            let read = match node.filter(|node| node.size() <= limits::EXPORTED_BYTES) {
                None => Err(MailViewError::NoFile { mailbox: mailbox.shown.clone(), uid: message.uid }),
                // As a whole before anything is sent: half a message cannot be taken back.
                Some(node) => mailbox.read(files, node, &mut |piece| {
                    bytes.extend_from_slice(piece);
                    true
                }),
            };
            if let Err(error) = read {
                return failed(&told(&error));
            }
            let key = match present.has_digests {
                // By what it is and not by what the index says it is: else it would be put there again and again.
                true => Key::Digest(Sha1::digest(&bytes).into()),
                false => present.key_of_header(bytes.len() as u64, &bytes),
            };
            known = present.take(&key);
        }
        if let Some(known) = known {
            let wanted = Wanted::of(message);
            let lacking = wanted.lacking(&known.flags);
            if lacking.is_empty() {
                restored.skipped += 1;
                return Ok(());
            }
            if !wish.dry {
                let store = format!("UID STORE {} +FLAGS.SILENT ({})", known.uid, lacking.join(" "));
                match client.run(&store, "set flags", &mut |_| Ok(())) {
                    Ok(()) => {}
                    Err(error @ ImapError::Refused { .. }) => {
                        return failed(&format!("message {}: {error}", message.uid));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            restored.merged += 1;
            return Ok(());
        }
        if !wish.dry {
            let flags: Vec<&str> = message.flag_names().into_iter().filter(|name| is_flag(name)).collect();
            let head = format!("APPEND {folder} ({}) \"{}\"", flags.join(" "), date(message));
            match client.append(&head, &bytes, "take a message") {
                Ok(()) => {}
                Err(error @ ImapError::Refused { .. }) => {
                    return failed(&format!("message {}: {error}", message.uid));
                }
                Err(error) => return Err(error.into()),
            }
        }
        restored.created += 1;
        Ok(())
    })?;
    if let Some(index) = index {
        problem(&index);
    }
    Ok(restored)
}

/// `17-Jul-2003 02:44:25 +0000`.
fn date(message: &Message) -> String {
    let seconds = message.internal_date.clamp(0, 250_000_000_000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let month =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month - 1];
    format!("{day:2}-{month}-{year:04} {:02}:{:02}:{:02} +0000", of_day / 3600, of_day / 60 % 60, of_day % 60)
}
