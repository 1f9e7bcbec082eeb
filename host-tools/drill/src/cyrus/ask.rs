//! What the started Cyrus is asked over IMAP, and how that stands to the snapshot.

use std::collections::BTreeSet;
use std::fmt::Display;

use mailkeep_mailview::imap::{Client, ImapError, quoted};
use mailkeep_mailview::{MailViewError, Mailbox};

use super::Served;
use super::config::ASKER;
use crate::limits;

/// How much was asked.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Mailboxes that it lists.
    pub(super) listed: usize,
    /// Mailboxes whose counts were compared with the snapshot's index.
    pub(super) counted: u64,
    /// Messages whose bytes were compared with the snapshot's.
    pub(super) fetched: u64,
}

/// Asks. What differs is told to `problem`.
///
/// # Errors
/// It went away, or the snapshot cannot be read.
pub(super) fn ask(
    client: &mut Client,
    served: &Served<'_>,
    problem: &mut dyn FnMut(&str, &str),
) -> Result<Asked, AskError> {
    let (unix, listed) = list(client)?;
    let wanted: BTreeSet<String> = served
        .list
        .iter()
        .filter(|entry| entry.mailbox_type.is_mail() && entry.mailbox_type.has_folder())
        .map(|entry| entry.name.external(unix))
        .collect();
    for name in wanted.difference(&listed) {
        problem(name, "is in the mailbox list of the snapshot, and Cyrus does not show it");
    }
    let all: BTreeSet<String> = served.list.iter().map(|entry| entry.name.external(unix)).collect();
    for name in listed.difference(&all) {
        problem(name, "is shown by Cyrus, and not in the mailbox list of the snapshot");
    }
    let mut asked = Asked { listed: listed.len(), ..Asked::default() };
    let mailboxes = served.mail.tree.mailboxes().iter();
    let mut shown: Vec<&Mailbox> = mailboxes
        .filter(|mailbox| served.mail.has(mailbox.name.as_str()))
        .filter(|mailbox| {
            let name = mailbox.name.external(unix);
            wanted.contains(&name) && listed.contains(&name)
        })
        .collect();
    for mailbox in &shown {
        if (served.stop)() {
            return Ok(asked);
        }
        asked.counted += u64::from(count(client, served, mailbox, unix, problem)?);
    }
    shown.sort_by_key(|mailbox| served.lot.place(mailbox.name.as_str().as_bytes()));
    for mailbox in shown {
        if asked.fetched >= limits::MESSAGES_FETCHED as u64 || (served.stop)() {
            break;
        }
        asked.fetched += u64::from(fetch(client, served, mailbox, unix, problem)?);
    }
    Ok(asked)
}

/// Why asking ended.
#[derive(Debug)]
pub(super) struct AskError(String);

impl Display for AskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ImapError> for AskError {
    fn from(error: ImapError) -> Self {
        AskError(error.to_string())
    }
}

impl From<MailViewError> for AskError {
    fn from(error: MailViewError) -> Self {
        AskError(error.to_string())
    }
}

/// All names, and whether their levels are parted by `/`.
fn list(client: &mut Client) -> Result<(bool, BTreeSet<String>), AskError> {
    let mut unix = false;
    client.run("LIST \"\" \"\"", "say how names are parted", &mut |answer| {
        unix |= answer.windows(3).any(|part| part == b"\"/\"");
        Ok(())
    })?;
    let mut names = BTreeSet::new();
    client.run("LIST \"\" \"*\"", "list its mailboxes", &mut |answer| {
        names.extend(listed_name(answer));
        Ok(())
    })?;
    Ok((unix, names))
}

/// The name in `* LIST (FLAGS) "/" NAME`.
fn listed_name(answer: &[u8]) -> Option<String> {
    let rest = answer.strip_prefix(b"* LIST (")?;
    let rest = &rest[rest.iter().position(|byte| *byte == b')')? + 1..];
    let rest = rest.strip_prefix(b" ")?;
    let rest = &rest[rest.iter().position(|byte| *byte == b' ')? + 1..];
    let name = match rest.first()? {
        b'{' => literal(rest)?.to_vec(),
        b'"' => {
            let mut name = Vec::new();
            let mut bytes = rest[1..].iter();
            loop {
                match bytes.next()? {
                    b'"' => break name,
                    b'\\' => name.push(*bytes.next()?),
                    byte => name.push(*byte),
                }
            }
        }
        _ => rest.split(|byte| matches!(byte, b'\r' | b'\n')).next()?.to_vec(),
    };
    String::from_utf8(name).ok()
}

/// The bytes of the first literal in an answer.
fn literal(answer: &[u8]) -> Option<&[u8]> {
    let open = answer.iter().position(|byte| *byte == b'{')?;
    let close = open + answer[open..].iter().position(|byte| *byte == b'}')?;
    let length: usize = std::str::from_utf8(&answer[open + 1..close]).ok()?.parse().ok()?;
    let start = close + 1 + answer.get(close + 1..)?.strip_prefix(b"\r\n").map(|_| 2)?;
    answer.get(start..start.checked_add(length)?)
}

/// Compares the counts of a mailbox; whether they were there to be compared.
fn count(
    client: &mut Client,
    served: &Served<'_>,
    mailbox: &Mailbox,
    unix: bool,
    problem: &mut dyn FnMut(&str, &str),
) -> Result<bool, AskError> {
    let name = mailbox.name.external(unix);
    let summary = mailbox.summary(served.files)?;
    let (Some(validity), Some(last)) = (summary.uid_validity, summary.last_uid) else {
        // The mail check has told what is wrong with its index.
        return Ok(false);
    };
    // An administrator may change rights everywhere, and read nowhere by himself.
    let grant = format!("SETACL {} {ASKER} lrs", quoted(&name));
    let mut said = None;
    let status = format!("STATUS {} (MESSAGES UIDNEXT UIDVALIDITY)", quoted(&name));
    let asked = client.run(&grant, "let us read a mailbox", &mut |_| Ok(())).and_then(|()| {
        client.run(&status, "count a mailbox", &mut |answer| {
            said = said.or(counts(answer));
            Ok(())
        })
    });
    match asked {
        Err(ImapError::Refused { said, .. }) => {
            problem(&name, &format!("cannot be opened by Cyrus: {said}"));
            return Ok(false);
        }
        other => other?,
    }
    let wanted = (summary.messages, u64::from(last) + 1, u64::from(validity));
    match said {
        Some(found) if found == wanted => {}
        Some((messages, next, found_validity)) => problem(
            &name,
            &format!(
                "Cyrus has {messages} messages, next UID {next}, UIDVALIDITY {found_validity}, and the snapshot {}, {} and {}",
                wanted.0, wanted.1, wanted.2
            ),
        ),
        None => problem(&name, "Cyrus does not say how many messages are in it"),
    }
    Ok(true)
}

/// Messages, next UID and UIDVALIDITY in `* STATUS NAME (…)`.
fn counts(answer: &[u8]) -> Option<(u64, u64, u64)> {
    let text = String::from_utf8_lossy(answer);
    let text = text.strip_prefix("* STATUS ")?;
    let inside = text[text.rfind('(')? + 1..].split(')').next()?;
    let words: Vec<&str> = inside.split_ascii_whitespace().collect();
    let of = |name: &str| {
        let at = words.iter().position(|word| word.eq_ignore_ascii_case(name))?;
        words.get(at + 1)?.parse::<u64>().ok()
    };
    Some((of("MESSAGES")?, of("UIDNEXT")?, of("UIDVALIDITY")?))
}

/// Fetches one message of a mailbox, drawn by lot, and compares it; whether there was one.
fn fetch(
    client: &mut Client,
    served: &Served<'_>,
    mailbox: &Mailbox,
    unix: bool,
    problem: &mut dyn FnMut(&str, &str),
) -> Result<bool, AskError> {
    let name = mailbox.name.external(unix);
    let mut drawn: Option<(u64, u32)> = None;
    mailbox.each::<AskError>(served.files, &mut |message, node| {
        if node.is_some_and(|node| node.size() <= limits::MESSAGE_BYTES) {
            let place = served.lot.place(format!("{} {}", message.uid, name).as_bytes());
            drawn = Some(drawn.map_or((place, message.uid), |best| best.min((place, message.uid))));
        }
        Ok(())
    })?;
    let Some((_, uid)) = drawn else { return Ok(false) };
    let (_, node) = mailbox.message_with_uid(served.files, uid)?;
    let mut wanted = Vec::new();
    mailbox.read(served.files, &node, &mut |bytes| {
        wanted.extend_from_slice(bytes);
        true
    })?;
    let mut found: Option<Vec<u8>> = None;
    client.run(&format!("EXAMINE {}", quoted(&name)), "open a mailbox", &mut |_| Ok(()))?;
    client.run(&format!("UID FETCH {uid} (BODY.PEEK[])"), "give a message", &mut |answer| {
        if found.is_none() && answer.windows(6).take(40).any(|part| part == b"FETCH ") {
            found = literal(answer).map(<[u8]>::to_vec);
        }
        Ok(())
    })?;
    match found {
        Some(found) if found == wanted => {}
        Some(_) => {
            problem(&name, &format!("Cyrus gives other bytes for message {uid} than the snapshot has"))
        }
        None => problem(&name, &format!("Cyrus does not give message {uid}")),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_all_their_forms() {
        for (answer, name) in [
            (&b"* LIST (\\HasChildren) \"/\" user/anna\r\n"[..], Some("user/anna")),
            (b"* LIST () \".\" \"user.a \\\"b\\\\\"\r\n", Some("user.a \"b\\")),
            (b"* LIST (\\Noselect) \"/\" {3}\r\na b\r\n", Some("a b")),
            (b"* LIST (\\Noselect) \"/\" \"\"\r\n", Some("")),
            (b"* LIST (", None),
            (b"* LIST () \"/\" \"open", None),
            (b"* LIST () \"/\" {99}\r\nshort", None),
            (b"* OK", None),
        ] {
            assert_eq!(listed_name(answer).as_deref(), name);
        }
        let status = b"* STATUS \"a (b) c\" (MESSAGES 3 UIDNEXT 9 UIDVALIDITY 17)\r\n";
        assert_eq!(counts(status), Some((3, 9, 17)));
        assert_eq!(counts(b"* STATUS x (MESSAGES 3)\r\n"), None);
        assert_eq!(literal(b"* 1 FETCH (UID 5 BODY[] {4}\r\nabcd)\r\n"), Some(&b"abcd"[..]));
        for bad in [&b"{"[..], b"{4}\r\nabc", b"{x}\r\n", b"{4}abcd", b"{18446744073709551615}\r\n"] {
            assert_eq!(literal(bad), None);
        }
    }
}
