//! The words of `mail`: help, headings, reports.

use mailkeep_mailview::export::Exported;
use mailkeep_mailview::imap::Restored;

use crate::units::{count, counted, size};

pub(crate) const ABOUT: &str = "Look into the mail of snapshots: mailboxes, one message, search, export";
pub(crate) const LS: &str = "List the mailboxes of a snapshot, or the messages of one";
pub(crate) const CAT: &str = "Write one message as it is on the server";
pub(crate) const SEARCH: &str = "Find messages";
pub(crate) const SEARCH_LONG: &str = "\
Find messages. All terms have to fit; upper and lower case are the same.

  word             in sender or subject
  from:WORDS       in From
  to:WORDS         in To, Cc or Bcc
  subject:WORDS    in the subject
  message-id:ID    the whole id
  since:2024-05-01, before:2024-06-01
                   day of arrival (INTERNALDATE)
  text:WORDS       in the text of the message; reads whole messages and takes its time

Without --snapshot the newest snapshot of each source is searched; with --all-snapshots all of this disk are, and for each
message it says which ones have it, between which two it vanished, and which other disks that this tool has seen may have
it. --all-disks looks into those of them that are at hand, too.";
pub(crate) const EXPORT: &str = "Write a mailbox to a new mbox file or Maildir";
pub(crate) const MAILBOX: &str = "Name of the mailbox, as `mail ls` shows it";
pub(crate) const UID: &str = "UID of the message";
pub(crate) const TERMS: &str = "What to look for";
pub(crate) const ALL: &str = "Search every snapshot, and tell for each message which ones have it";
pub(crate) const ALL_DISKS: &str =
    "Search every snapshot of every disk that this tool has seen and that is at hand";
pub(crate) const ONLY: &str = "Search this snapshot";
pub(crate) const MBOX: &str = "Write one mbox file (mboxrd)";
pub(crate) const MAILDIR: &str = "Write a Maildir";
pub(crate) const EVERYTHING: &str = "Also what is no mail: calendars, address books, filters";

pub(crate) const RESTORE: &str = "Put messages, or only their flags, back into a running server over IMAP";
pub(crate) const RESTORE_LONG: &str = "\
Put messages back into a running server over IMAP, with flags, keywords and date of arrival.

What is meant: a whole mailbox, some of its messages by UID, with --recursive all mailboxes below it too, with --search
what fits (in that mailbox, or in all). Where it goes: into Restored/DAY of the user who logs in, DAY being the snapshot's;
into the folder that --into names; or with --in-place to where it was.

Nothing that is there is changed but for flags that it lacks, and nothing is put there twice, however often this is
repeated: a message of the same SHA-1 counts as there (on servers that do not tell it, one of the same size, Message-ID,
date, sender and subject). A restore that was cut off is finished by running it again.

--flags-only makes no message: it sets read, answered, flagged and keywords on messages that are there as the snapshot
has them, and with --exact takes off what the snapshot has not. \\Deleted is never set.

The password comes from --password-file, --password-command or MAILKEEP_IMAP_PASSWORD. Without TLS a password is only
sent to this machine itself.";
pub(crate) const MAILBOX_OR_ALL: &str =
    "Name of the mailbox, as `mail ls` shows it; may be left out with --search or --recursive, for all";
pub(crate) const UIDS: &str = "UIDs of the messages [default: all]";
pub(crate) const RESTORE_SEARCH: &str =
    "Only messages that fit, in the terms of `mail search`; may be given more than once";
pub(crate) const RESTORE_TREE: &str = "Also the mailboxes below";
pub(crate) const IN_PLACE: &str = "Into the mailbox of the same name";
pub(crate) const FLAGS_ONLY: &str =
    "Only set flags on messages that are there, in the mailbox of the same name or the one that --into names";
pub(crate) const EXACT: &str = "Also take off flags that a message has not in the snapshot";
pub(crate) const IMAP: &str = "The server: imap://USER@HOST, imaps://USER@HOST:PORT";
pub(crate) const INTO: &str = "Folder to put them into, as USER sees it, like INBOX/Found; made if it is not there [default: Restored/DAY]";
pub(crate) const AS: &str = "Act for this user, as an administrator of the server";
pub(crate) const PASSWORD_FILE: &str = "File whose first line is the password [env: MAILKEEP_IMAP_PASSWORD]";
pub(crate) const PASSWORD_COMMAND: &str = "Command whose first line of output is the password";
pub(crate) const CA_FILE: &str = "Trust the certificates in this file (PEM) instead of those of this machine";
pub(crate) const RESTORE_DRY: &str = "Only tell what would be done";
pub(crate) const NO_PASSWORD: &str = "there is no password for the IMAP server";
pub(crate) const NO_PASSWORD_HINT: &str =
    "give --password-file FILE or --password-command COMMAND, or set MAILKEEP_IMAP_PASSWORD";

pub(crate) const NOTHING_FITS: &str = "no message of this snapshot fits the search, so nothing was restored";
pub(crate) const NOTHING_FITS_HINT: &str =
    "`mailkeep mail search --all-snapshots` tells which snapshots have it";

pub(crate) fn folders(count: u64) -> String {
    counted(count, "folder", "folders")
}

pub(crate) fn flags_restored(done: &Restored, into: &str, dry: bool) -> String {
    let would = if dry { "Nothing was changed. A restore would have: " } else { "" };
    let mut line = format!(
        "{would}flags of {} set in {into}, {} had them already",
        counted(done.merged, "message", "messages"),
        count(done.skipped)
    );
    for (number, what) in [(done.absent, "not there"), (done.failed, "failed")] {
        if number > 0 {
            line.push_str(&format!(", {} {what}", count(number)));
        }
    }
    line
}

pub(crate) fn differing(number: u64) -> String {
    let have = counted(number, "message has", "messages have");
    format!("{have} flags that the snapshot has not, and keeps them; --exact takes them off.")
}

pub(crate) fn no_uid(mailbox: &str, uids: &[String]) -> String {
    format!("{mailbox} has no message {} in this snapshot", uids.join(", "))
}

pub(crate) fn restored(done: &Restored, into: &str, dry: bool) -> String {
    let would = if dry { "Nothing was changed. A restore would have: " } else { "" };
    let mut line = format!(
        "{would}{} put into {into}, {} given flags, {} there already",
        counted(done.created, "message", "messages"),
        count(done.merged),
        count(done.skipped)
    );
    if done.failed > 0 {
        line.push_str(&format!(", {} failed", count(done.failed)));
    }
    line
}

/// Headings of the table of mailboxes.
pub(crate) const MAILBOX_COLUMNS: [&str; 5] = ["MESSAGES", "UNREAD", "SIZE", "UIDVALIDITY", "MAILBOX"];
/// Headings of the list of messages.
pub(crate) const MESSAGE_COLUMNS: [&str; 4] = ["UID", "DATE", "SIZE", "FLAGS"];

pub(crate) fn gap(problem: &str) -> String {
    format!("{problem}: messages are taken from the files, and nothing is known of their flags")
}

pub(crate) fn read_by(user: &str, read: u64, all: u64) -> String {
    format!("read by {user}: {read} of {}", counted(all, "message", "messages"))
}

pub(crate) fn seen_unknown(user: &str, why: &str) -> String {
    format!("what {user} has read cannot be told: {why}")
}

pub(crate) fn exported(done: &Exported, place: &str) -> String {
    let mut line =
        format!("{} ({}) in {place}", counted(done.messages, "message", "messages"), size(done.bytes));
    if done.failed > 0 {
        line.push_str(&format!("; {} could not be read", counted(done.failed, "message", "messages")));
    }
    line
}

pub(crate) const NO_DISKS: &str = "none of the disks that this tool has seen is at hand";
pub(crate) const NO_DISKS_HINT: &str = "plug one in, or name its repository with -r";
pub(crate) const TOO_MANY: &str = "more messages fit than can be compared between disks";
pub(crate) const TOO_MANY_HINT: &str = "say more of what is looked for";

/// How much of a message's life a disk has.
pub(crate) fn on_disk(label: &str, snapshots: usize) -> String {
    format!("on {label} in {}", counted(snapshots as u64, "snapshot", "snapshots"))
}

/// A disk that was not looked into and held snapshots of the time when a message was there.
pub(crate) fn may_have(label: &str, snapshots: usize) -> String {
    format!("{label} may have it: {} of that time", counted(snapshots as u64, "snapshot", "snapshots"))
}

/// A disk that was not looked into.
pub(crate) fn not_searched(label: &str, path: &str, at_hand: bool, snapshots: usize, period: &str) -> String {
    let why = if at_hand { "is at hand (--all-disks)" } else { "is not at hand" };
    let held = counted(snapshots as u64, "snapshot", "snapshots");
    format!("Not searched: {label} {why}, last seen at {path} with {held} from {period}.")
}

/// Which snapshots have a message.
pub(crate) fn there(first: &str, last: &str, count: usize) -> String {
    match count {
        1 => format!("in {first}"),
        _ => format!("in {} from {first} to {last}", counted(count as u64, "snapshot", "snapshots")),
    }
}

pub(crate) fn vanished(last: &str, next: &str) -> String {
    format!("vanished between {last} and {next}")
}

pub(crate) fn found(count: u64) -> String {
    counted(count, "message found.", "messages found.")
}
