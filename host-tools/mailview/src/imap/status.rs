//! What a server shows of a folder without opening it: STATUS (RFC 3501, 6.3.10).

use super::client::{Client, quoted};
use super::error::ImapError;
use super::names::Folder;

/// Counts of a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// MESSAGES
    pub messages: u64,
    /// UIDVALIDITY
    pub uid_validity: u32,
    /// UIDNEXT
    pub uid_next: u32,
}

/// Asks for the counts of a folder.
///
/// # Errors
/// The server refuses (there is none, or whoever is logged in may not see it), tells something else, or went away.
pub fn counts(client: &mut Client, folder: &Folder) -> Result<Counts, ImapError> {
    let mut counts = None;
    let command = format!("STATUS {} (MESSAGES UIDVALIDITY UIDNEXT)", quoted(&folder.name));
    let mut said = Vec::new();
    client.run(&command, &format!("count {}", folder.shown), &mut |answer| {
        if answer.starts_with(b"* STATUS ") {
            counts = read(answer);
            said = answer.to_vec();
        }
        Ok(())
    })?;
    counts.ok_or_else(|| super::client::nonsense(&said))
}

/// `* STATUS "name" (MESSAGES 5 UIDVALIDITY 7 UIDNEXT 6)`; the name may hold anything, so what counts is in the last brackets.
fn read(answer: &[u8]) -> Option<Counts> {
    let text = String::from_utf8_lossy(answer);
    let (_, list) = text.rsplit_once('(')?;
    let mut words = list.split(')').next()?.split_ascii_whitespace();
    let mut counts = Counts::default();
    let mut known = 0;
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        match name.to_ascii_uppercase().as_str() {
            "MESSAGES" => counts.messages = value.parse().ok()?,
            "UIDVALIDITY" => counts.uid_validity = value.parse().ok()?,
            "UIDNEXT" => counts.uid_next = value.parse().ok()?,
            _ => continue,
        }
        known += 1;
    }
    (known == 3).then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_whatever_the_name_is() {
        let counts = Some(Counts { messages: 5, uid_validity: 7, uid_next: 6 });
        for line in [
            "* STATUS INBOX (MESSAGES 5 UIDVALIDITY 7 UIDNEXT 6)\r\n",
            "* STATUS \"a (MESSAGES 9)\" (UIDNEXT 6 HIGHESTMODSEQ 9 MESSAGES 5 UIDVALIDITY 7)\r\n",
            "* STATUS {3}\r\na)( (messages 5 uidvalidity 7 uidnext 6)\r\n",
        ] {
            assert_eq!(read(line.as_bytes()), counts, "{line}");
        }
        for line in [
            "* STATUS INBOX",
            "* STATUS INBOX (MESSAGES 5)",
            "* STATUS INBOX (MESSAGES x UIDVALIDITY 7 UIDNEXT 6)",
        ] {
            assert_eq!(read(line.as_bytes()), None, "{line}");
        }
    }
}
