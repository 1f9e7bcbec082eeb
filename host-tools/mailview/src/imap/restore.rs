//! Messages of a snapshot into a folder of a running server: what is not there is appended, what is there gets the flags
//! that it lacks, and nothing that is there is changed otherwise or taken away.
//!
//! Two messages are the same if they have the same size and the same Message-ID, Date, From and Subject, to the letter. Of
//! equal messages as many are made as the snapshot has more than the folder: run again, a restore makes none.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;

use mailkeep_mail::cyrus::utf7;

use super::client::{Client, quoted};
use super::error::ImapError;
use crate::export::civil;
use crate::mime::identity;
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
}

/// A message that is in the folder already.
struct There {
    uid: u32,
    flags: BTreeSet<String>,
}

/// What messages are told apart by: size, and two keyed hashes of their identity, so that nobody can write a message that
/// is taken for another one.
type Key = (u64, u64, u64);

struct Hasher(RandomState, RandomState);

impl Hasher {
    fn key(&self, size: u64, header: &[u8]) -> Key {
        let identity = identity(header);
        (size, self.0.hash_one(&identity), self.1.hash_one(&identity))
    }
}

/// Brings messages of `mailbox` (all, or those with these UIDs) into the folder `into`, levels parted by `/`, which is made
/// if it is not there. What goes wrong with one message is told to `problem` and counted. With `dry` nothing is written:
/// the counts say what would be done.
///
/// # Errors
/// The server is not there any more or does not let us into the folder; the snapshot cannot be read.
pub fn restore<E: From<MailViewError> + From<ImapError>>(
    client: &mut Client,
    files: &Files,
    mailbox: &Mailbox,
    uids: Option<&BTreeSet<u32>>,
    into: &str,
    dry: bool,
    problem: &mut dyn FnMut(&str),
) -> Result<Restored, E> {
    let folder = quoted(&name_on(client, into)?);
    let hasher = Hasher(RandomState::new(), RandomState::new());
    let mut there = match is_there(client, &folder)? {
        true => list(client, &folder, dry, &hasher)?,
        false => {
            if !dry {
                client
                    .run(&format!("CREATE {folder}"), &format!("make the folder {into}"), &mut |_| Ok(()))?;
                client.run(&format!("SELECT {folder}"), &format!("open {into}"), &mut |_| Ok(()))?;
            }
            HashMap::new()
        }
    };
    let mut restored = Restored::default();
    let index = mailbox.each(files, &mut |message, node| -> Result<(), E> {
        if uids.is_some_and(|uids| !uids.contains(&message.uid)) {
            return Ok(());
        }
        let mut failed = |why: &str| {
            restored.failed += 1;
            problem(why);
            Ok(())
        };
        let mut bytes = Vec::new();
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
        let flags: BTreeSet<String> =
            message.flag_names().into_iter().filter(|name| is_flag(name)).map(str::to_owned).collect();
        let known = there.get_mut(&hasher.key(bytes.len() as u64, &bytes)).and_then(Vec::pop);
        if let Some(known) = known {
            let lacking: Vec<&str> = flags.difference(&known.flags).map(String::as_str).collect();
            if lacking.is_empty() {
                restored.skipped += 1;
                return Ok(());
            }
            if !dry {
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
        if !dry {
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
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

/// The name of a folder as the server writes it.
fn name_on(client: &mut Client, into: &str) -> Result<String, ImapError> {
    let mut delimiter = '/';
    client.run("LIST \"\" \"\"", "name its delimiter", &mut |answer| {
        // * LIST (\Noselect) "/" ""
        let text = String::from_utf8_lossy(answer).into_owned();
        if let Some(quoted) = text.split(") \"").nth(1) {
            delimiter = quoted.trim_start_matches('\\').chars().next().unwrap_or(delimiter);
        }
        Ok(())
    })?;
    let levels: Vec<String> = into.split('/').filter(|level| !level.is_empty()).map(utf7::encode).collect();
    Ok(levels.join(delimiter.encode_utf8(&mut [0; 4])))
}

fn is_there(client: &mut Client, folder: &str) -> Result<bool, ImapError> {
    let mut found = false;
    // As a name and not as a pattern: STATUS knows none.
    let asked = client.run(&format!("STATUS {folder} (MESSAGES)"), "look for the folder", &mut |answer| {
        found |= answer.starts_with(b"* STATUS");
        Ok(())
    });
    match asked {
        Ok(()) => Ok(found),
        Err(ImapError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens the folder and reads what is in it.
fn list(
    client: &mut Client,
    folder: &str,
    dry: bool,
    hasher: &Hasher,
) -> Result<HashMap<Key, Vec<There>>, ImapError> {
    let mut exists = false;
    let verb = if dry { "EXAMINE" } else { "SELECT" };
    client.run(&format!("{verb} {folder}"), "open the folder", &mut |answer| {
        exists |= answer.ends_with(b" EXISTS\r\n") && !answer.starts_with(b"* 0 ");
        Ok(())
    })?;
    let mut there: HashMap<Key, Vec<There>> = HashMap::new();
    if !exists {
        return Ok(there);
    }
    let fetch =
        "UID FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE FROM SUBJECT)])";
    client.run(fetch, "list the folder", &mut |answer| {
        if let Some((size, header, message)) = fetched(answer) {
            there.entry(hasher.key(size, header)).or_default().push(message);
        }
        Ok(())
    })?;
    Ok(there)
}

/// Takes an answer to that FETCH apart; `None` for any other.
fn fetched(answer: &[u8]) -> Option<(u64, &[u8], There)> {
    let line = answer.windows(2).position(|pair| pair == b"\r\n")?;
    let open = answer[..line].iter().rposition(|byte| *byte == b'{');
    let (head, header, tail) = match open.filter(|_| answer[..line].ends_with(b"}")) {
        Some(open) => {
            let digits = std::str::from_utf8(&answer[open + 1..line - 1]).ok()?;
            let rest = &answer[line + 2..];
            let (header, tail) = rest.split_at_checked(digits.trim_end_matches('+').parse().ok()?)?;
            (&answer[..open], header, tail)
        }
        None => (&answer[..line], &b""[..], &b""[..]),
    };
    let text = [String::from_utf8_lossy(head), String::from_utf8_lossy(tail)].concat();
    if !text.starts_with("* ") || !text.contains(" FETCH (") {
        return None;
    }
    let number = |name: &str| {
        let rest = text.split_once(name)?.1;
        rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let flags =
        text.split_once("FLAGS (").and_then(|(_, rest)| rest.split_once(')')).map_or("", |(flags, _)| flags);
    let flags = flags.split_ascii_whitespace().map(str::to_owned).collect();
    let uid = u32::try_from(number("UID ")?).ok()?;
    Some((number("RFC822.SIZE ")?, header, There { uid, flags }))
}

/// Whether a flag can be said as an atom: nothing else can be sent, and hostile keywords would be commands.
fn is_flag(name: &str) -> bool {
    let atom = name.strip_prefix('\\').unwrap_or(name);
    !atom.is_empty() && atom.bytes().all(|byte| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_a_fetch() {
        let answer = b"* 3 FETCH (FLAGS (\\Seen work) UID 7 RFC822.SIZE 123 BODY[HEADER.FIELDS (MESSAGE-ID DATE FROM SUBJECT)] {21}\r\n\
            Message-ID: <UID 9>\r\n)\r\n";
        let (size, header, there) = fetched(answer).unwrap();
        assert_eq!((size, there.uid, there.flags.len()), (123, 7, 2));
        assert_eq!(header, b"Message-ID: <UID 9>\r\n");
        let bare = b"* 3 FETCH (UID 7 RFC822.SIZE 0 BODY[HEADER.FIELDS (MESSAGE-ID)] \"\" FLAGS ())\r\n";
        assert_eq!(
            fetched(bare).map(|(size, header, there)| (size, header.len(), there.uid)),
            Some((0, 0, 7))
        );
        for other in
            [&b"* 3 EXISTS\r\n"[..], b"", b"* 1 FETCH (UID 1 BODY[] {99}\r\nx)\r\n", b"* 1 FETCH (UID x)\r\n"]
        {
            assert!(fetched(other).is_none());
        }
    }

    #[test]
    fn only_atoms_are_sent_as_flags() {
        for good in ["\\Seen", "$Junk", "work", "NonJunk"] {
            assert!(is_flag(good), "{good}");
        }
        for bad in ["", "\\", "a b", "a)\r\nx LOGOUT", "ü", "a(", "%"] {
            assert!(!is_flag(bad), "{bad}");
        }
    }

    #[test]
    fn equal_headers_have_equal_keys_however_much_of_them_is_known() {
        let hasher = Hasher(RandomState::new(), RandomState::new());
        let whole =
            b"Received: x\r\nFrom: a@b\r\nSubject: long\r\n line\r\nMessage-ID: <1>\r\nDate: now\r\n\r\nbody";
        let part = b"Date: now\r\nFrom: a@b\r\nSubject: long\r\n line\r\nMessage-ID: <1>\r\n\r\n";
        assert_eq!(hasher.key(7, whole), hasher.key(7, part));
        assert_ne!(hasher.key(8, whole), hasher.key(7, part));
        assert_ne!(hasher.key(7, b"From: a@c\r\n\r\n"), hasher.key(7, b"From: a@b\r\n\r\n"));
    }
}
