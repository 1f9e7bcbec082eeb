//! A mailbox as one mbox file, in the quoting of mboxrd: a line that is `From ` behind any number of `>` gets one more.
//! Flags stand in `Status`, `X-Status` and `X-Keywords`, as mutt, Dovecot and pine read them; the INTERNALDATE stands in
//! the `From ` line, in UTC. Line ends become those of the machine.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::export::{Exported, Going, beside, failed, settle};
use crate::{Files, MailViewError, Mailbox, Message, limits};

/// Writes a mailbox to the new file `path`. What cannot be read is told to `problem` and counted;
/// `going` hears of each message and says whether to go on: if not, nothing is left behind.
///
/// # Errors
/// The file is there already or cannot be written, the mailbox cannot be listed, or it was stopped.
pub fn mbox(
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
        let _ = std::fs::remove_file(&made);
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
    let file = File::options().write(true).create_new(true).open(made).map_err(wrong)?;
    let mut out = BufWriter::new(file);
    let mut exported = Exported::default();
    let index = mailbox.each(files, &mut |message, node| -> Result<(), MailViewError> {
        if !going(&exported) {
            return Err(MailViewError::Stopped);
        }
        let mut bytes = Vec::new();
        let read = match node {
            None => Err(MailViewError::NoFile { mailbox: mailbox.shown.clone(), uid: message.uid }),
            // A message is held as a whole: half of one must not stand in the file.
            Some(node) if node.size() > limits::EXPORTED_BYTES => {
                Err(MailViewError::NoFile { mailbox: mailbox.shown.clone(), uid: message.uid })
            }
            Some(node) => mailbox.read(files, node, &mut |piece| {
                bytes.extend_from_slice(piece);
                true
            }),
        };
        if let Err(error) = read {
            exported.failed += 1;
            problem(&crate::tree::told(&error));
            return Ok(());
        }
        exported.messages += 1;
        exported.bytes += bytes.len() as u64;
        one(&mut out, message, &bytes).map_err(wrong)
    })?;
    if let Some(index) = index {
        problem(&index);
    }
    let file = out.into_inner().map_err(|error| wrong(error.into_error()))?;
    file.sync_all().map_err(wrong)?;
    Ok(exported)
}

/// Writes one message.
fn one(out: &mut dyn Write, message: &Message, bytes: &[u8]) -> io::Result<()> {
    writeln!(out, "From MAILER-DAEMON {}", asctime(message.internal_date))?;
    let mut in_header = true;
    let mut skipping = false;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if in_header && text.is_empty() {
            in_header = false;
            status(out, message)?;
        } else if in_header {
            let goes_on = matches!(text.first(), Some(b' ' | b'\t'));
            skipping = if goes_on { skipping } else { is_status(text) };
            if skipping {
                continue;
            }
        }
        let quoted = text.iter().position(|byte| *byte != b'>').unwrap_or(text.len());
        if text[quoted..].starts_with(b"From ") {
            out.write_all(b">")?;
        }
        out.write_all(text)?;
        out.write_all(b"\n")?;
    }
    if in_header {
        // All header and no body.
        status(out, message)?;
        out.write_all(b"\n")?;
    }
    out.write_all(b"\n")
}

/// Whether a header line is one of those that we write ourselves: the message's own would be taken for its flags.
fn is_status(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    ["Status", "X-Status", "X-Keywords"].iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

fn status(out: &mut dyn Write, message: &Message) -> io::Result<()> {
    if message.flags.is_none() {
        return Ok(());
    }
    let letters = |all: &[(&str, char)]| {
        all.iter().filter(|(flag, _)| message.has(flag)).map(|(_, letter)| *letter).collect::<String>()
    };
    // `O`: not new to a reader.
    writeln!(out, "Status: {}O", letters(&[("\\Seen", 'R')]))?;
    let more = letters(&[("\\Answered", 'A'), ("\\Flagged", 'F'), ("\\Draft", 'T'), ("\\Deleted", 'D')]);
    if !more.is_empty() {
        writeln!(out, "X-Status: {more}")?;
    }
    if !message.keywords.is_empty() {
        let plain: Vec<String> = message
            .keywords
            .iter()
            .map(|word| word.chars().filter(|letter| !letter.is_control()).collect())
            .collect();
        writeln!(out, "X-Keywords: {}", plain.join(" "))?;
    }
    Ok(())
}

/// `Thu Jan  1 00:00:00 1970`, UTC.
fn asctime(seconds: i64) -> String {
    let seconds = seconds.clamp(-62_000_000_000, 250_000_000_000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][days.rem_euclid(7) as usize];
    let month =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month - 1];
    format!(
        "{weekday} {month} {day:2} {:02}:{:02}:{:02} {year}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Year, month and day of a day counted from 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
pub(crate) fn civil(days: i64) -> (i64, usize, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month as usize, day)
}

#[cfg(test)]
mod tests {
    use mailkeep_mail::cyrus::index::SystemFlags;

    use super::*;

    fn message(flags: Option<u32>, keywords: &[&str]) -> Message {
        Message {
            uid: 1,
            internal_date: 951_827_696,
            size: 0,
            flags: flags.map(SystemFlags),
            keywords: keywords.iter().map(|word| (*word).to_owned()).collect(),
            guid: None,
        }
    }

    fn written(message: &Message, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        one(&mut out, message, bytes).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_message_as_mbox() {
        let bytes =
            b"Subject: x\r\nStatus: R\r\n more\r\nX-A: b\r\n\r\nFrom here\r\n>From there\r\n> From\r\nend";
        assert_eq!(
            written(&message(Some(1 | 2 | 16), &["work", "$Junk"]), bytes),
            "From MAILER-DAEMON Tue Feb 29 12:34:56 2000\nSubject: x\nX-A: b\nStatus: RO\nX-Status: AF\n\
             X-Keywords: work $Junk\n\n>From here\n>>From there\n> From\nend\n\n"
        );
        assert_eq!(
            written(&message(None, &[]), b"Subject: x\r\n"),
            "From MAILER-DAEMON Tue Feb 29 12:34:56 2000\nSubject: x\n\n\n"
        );
    }

    #[test]
    fn dates_of_all_times() {
        assert_eq!(asctime(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(asctime(-1), "Wed Dec 31 23:59:59 1969");
        assert_eq!(asctime(4_107_542_399), "Sun Feb 28 23:59:59 2100");
        assert!(!asctime(i64::MAX).is_empty() && !asctime(i64::MIN).is_empty());
    }
}
