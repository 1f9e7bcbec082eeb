//! A mailbox as a Maildir: one file a message in `cur/`, flags as letters behind `:2,`, mtime the INTERNALDATE. The first
//! 26 keywords get small letters, and `dovecot-keywords` says which; bytes stay as they are on the server, CRLF and all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::export::{Exported, Going, beside, failed, settle};
use crate::{Files, MailViewError, Mailbox, Message};

/// Writes a mailbox to the new folder `path`. What cannot be read is told to `problem` and counted;
/// `going` hears of each message and says whether to go on: if not, nothing is left behind.
///
/// # Errors
/// The folder is there already or cannot be written, the mailbox cannot be listed, or it was stopped.
pub fn maildir(
    files: &Files,
    mailbox: &Mailbox,
    path: &Path,
    problem: &mut dyn FnMut(&str),
    going: Going<'_>,
) -> Result<Exported, MailViewError> {
    let made = beside(path)?;
    let written = write(files, mailbox, &made, problem, going).and_then(|exported| {
        settle(&made, path)?;
        Ok(exported)
    });
    if written.is_err() {
        // Ours alone: it has our process' number in its name.
        let _ = fs::remove_dir_all(&made);
    }
    written
}

fn write(
    files: &Files,
    mailbox: &Mailbox,
    made: &Path,
    problem: &mut dyn FnMut(&str),
    going: Going<'_>,
) -> Result<Exported, MailViewError> {
    let wrong = |source| failed(made, source);
    for folder in ["", "cur", "new", "tmp"] {
        fs::create_dir(made.join(folder)).map_err(wrong)?;
    }
    let mut letters: BTreeMap<String, char> = BTreeMap::new();
    let mut exported = Exported::default();
    let index = mailbox.each(files, &mut |message, node| -> Result<(), MailViewError> {
        if !going(&exported) {
            return Err(MailViewError::Stopped);
        }
        let Some(node) = node else {
            exported.failed += 1;
            problem(&crate::tree::told(&MailViewError::NoFile {
                mailbox: mailbox.shown.clone(),
                uid: message.uid,
            }));
            return Ok(());
        };
        let place = made.join("cur").join(name(message, &mut letters));
        let file = File::options().write(true).create_new(true).open(&place).map_err(wrong)?;
        let mut out = BufWriter::new(file);
        let mut error = None;
        let read = mailbox.read(files, node, &mut |piece| {
            error = out.write_all(piece).err();
            error.is_none()
        });
        if let Some(error) = error {
            return Err(wrong(error));
        }
        if let Err(error) = read {
            exported.failed += 1;
            problem(&crate::tree::told(&error));
            drop(out);
            return fs::remove_file(&place).map_err(wrong);
        }
        let file = out.into_inner().map_err(|error| wrong(error.into_error()))?;
        let distance = Duration::from_secs(message.internal_date.unsigned_abs().min(1 << 40));
        let time = if message.internal_date < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        file.set_modified(time.unwrap_or(SystemTime::UNIX_EPOCH)).map_err(wrong)?;
        exported.messages += 1;
        exported.bytes += node.size();
        Ok(())
    })?;
    if let Some(index) = index {
        problem(&index);
    }
    if !letters.is_empty() {
        let mut by_letter: Vec<(char, &String)> =
            letters.iter().map(|(word, letter)| (*letter, word)).collect();
        by_letter.sort_unstable();
        let lines: String = by_letter
            .iter()
            .map(|(letter, word)| format!("{} {word}\n", u32::from(*letter) - u32::from('a')))
            .collect();
        fs::write(made.join("dovecot-keywords"), lines).map_err(wrong)?;
    }
    Ok(exported)
}

/// `SECONDS.UID.mailkeep,S=SIZE:2,FLAGS`.
fn name(message: &Message, letters: &mut BTreeMap<String, char>) -> String {
    let mut flags: Vec<char> =
        [("\\Draft", 'D'), ("\\Flagged", 'F'), ("\\Answered", 'R'), ("\\Seen", 'S'), ("\\Deleted", 'T')]
            .into_iter()
            .filter(|(flag, _)| message.has(flag))
            .map(|(_, letter)| letter)
            .collect();
    for word in &message.keywords {
        let next = char::from_u32(u32::from('a') + letters.len() as u32).filter(char::is_ascii_lowercase);
        let word: String = word.chars().filter(|letter| !letter.is_control()).collect();
        match (letters.get(&word), next) {
            (Some(letter), _) => flags.push(*letter),
            (None, Some(letter)) => {
                letters.insert(word, letter);
                flags.push(letter);
            }
            // The 27th keyword has no letter in any Maildir.
            (None, None) => {}
        }
    }
    flags.sort_unstable();
    flags.dedup();
    let flags: String = flags.into_iter().collect();
    format!("{}.{}.mailkeep,S={}:2,{flags}", message.internal_date, message.uid, message.size)
}

#[cfg(test)]
mod tests {
    use mailkeep_mail::cyrus::index::SystemFlags;

    use super::*;

    #[test]
    fn names_carry_flags_in_order() {
        let mut letters = BTreeMap::new();
        let message = |flags: u32, keywords: &[&str]| Message {
            uid: 7,
            internal_date: 1_700_000_000,
            size: 12,
            flags: Some(SystemFlags(flags)),
            keywords: keywords.iter().map(|word| (*word).to_owned()).collect(),
            guid: None,
        };
        assert_eq!(name(&message(0b11111, &[]), &mut letters), "1700000000.7.mailkeep,S=12:2,DFRST");
        assert_eq!(name(&message(16, &["work", "x"]), &mut letters), "1700000000.7.mailkeep,S=12:2,Sab");
        assert_eq!(name(&message(0, &["x"]), &mut letters), "1700000000.7.mailkeep,S=12:2,b");
    }
}
