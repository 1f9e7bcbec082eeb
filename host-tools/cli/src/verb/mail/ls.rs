//! `mail ls`: the mailboxes of a snapshot, or the messages of one and who has read them.

use mailkeep_mailview::{MailViewError, Message, Summary, seen_by};
use mailkeep_restorer::path::show;
use serde::Serialize;

use super::{done, tree};
use crate::App;
use crate::args::Which;
use crate::exit::Failure;
use crate::table::{Align, Table};
use crate::text::mail;
use crate::{signal, units};

#[derive(Serialize)]
struct MailboxLine<'a> {
    message_type: &'static str,
    mailbox: &'a str,
    internal_name: &'a str,
    unique_id: Option<&'a str>,
    listed: bool,
    messages: u64,
    bytes: u64,
    /// Not known where the index cannot be read.
    unseen: Option<u64>,
    flagged: Option<u64>,
    answered: Option<u64>,
    deleted: Option<u64>,
    uid_validity: Option<u32>,
    last_uid: Option<u32>,
    keywords: &'a [String],
    problem: Option<&'a str>,
}

#[derive(Serialize)]
struct MessageLine<'a> {
    message_type: &'static str,
    mailbox: &'a str,
    uid: u32,
    internal_date: String,
    size: u64,
    /// Not known where the index cannot be read.
    flags: Option<Vec<&'a str>>,
    guid: Option<String>,
    /// The message file is not in the snapshot.
    missing: bool,
}

#[derive(Serialize)]
struct SeenLine<'a> {
    message_type: &'static str,
    mailbox: &'a str,
    user: &'a str,
    read: Option<u64>,
    problem: Option<&'a str>,
}

pub(crate) fn run(app: &App, which: &Which, mailbox: Option<&str>, all: bool) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    match mailbox {
        Some(mailbox) => messages(app, which, mailbox),
        None => mailboxes(app, which, all),
    }
}

fn mailboxes(app: &App, which: &Which, all: bool) -> Result<u8, Failure> {
    use Align::{Left, Right};
    let (_, files, tree) = tree(app, which)?;
    if tree.mailboxes().is_empty() {
        return Err(MailViewError::NoMail.into());
    }
    let mut table = Table::new(mail::MAILBOX_COLUMNS, [Right, Right, Right, Right, Left]);
    for mailbox in tree.mailboxes().iter().filter(|mailbox| all || mailbox.is_mail) {
        let summary = mailbox.summary(&files)?;
        if let Some(problem) = &summary.problem {
            app.console.problem(&mailbox.shown, &mail::gap(problem), true);
        }
        let known = |number: u64| summary.problem.is_none().then_some(number);
        if app.console.json {
            app.console.object(&MailboxLine {
                message_type: "mailbox",
                mailbox: &mailbox.shown,
                internal_name: mailbox.name.as_str(),
                unique_id: mailbox.unique_id.as_ref().map(|id| id.as_str()),
                listed: mailbox.is_listed,
                messages: summary.messages,
                bytes: summary.bytes,
                unseen: known(summary.unseen),
                flagged: known(summary.flagged),
                answered: known(summary.answered),
                deleted: known(summary.deleted),
                uid_validity: summary.uid_validity,
                last_uid: summary.last_uid,
                keywords: &summary.keywords,
                problem: summary.problem.as_deref(),
            })?;
        } else {
            table.row(cells(&mailbox.shown, &summary));
        }
    }
    if !app.console.json {
        for line in table.lines() {
            app.console.line(&line)?;
        }
    }
    Ok(done(app))
}

fn cells(name: &str, summary: &Summary) -> [String; 5] {
    let unknown = || "-".to_owned();
    [
        units::count(summary.messages),
        if summary.problem.is_none() { units::count(summary.unseen) } else { unknown() },
        units::size(summary.bytes),
        summary.uid_validity.map_or_else(unknown, |number| number.to_string()),
        show(name.as_bytes()),
    ]
}

fn messages(app: &App, which: &Which, name: &str) -> Result<u8, Failure> {
    let (_, files, tree) = tree(app, which)?;
    let mailbox = tree.find(name)?;
    let readings = seen_by(&files, &tree, mailbox)?;
    let mut read = vec![0u64; readings.len()];
    let mut count = 0u64;
    let [uid, date, size, flags] = mail::MESSAGE_COLUMNS;
    if !app.console.json {
        app.console.line(&format!("{uid:>10}  {date:19}  {size:>9}  {flags}"))?;
    }
    let problem = mailbox.each(&files, &mut |message, node| -> Result<(), Failure> {
        count += 1;
        for (count, reading) in read.iter_mut().zip(&readings) {
            *count += u64::from(reading.seen.as_ref().is_ok_and(|seen| seen.contains(message.uid)));
        }
        if node.is_none() {
            let missing = MailViewError::NoFile { mailbox: mailbox.shown.clone(), uid: message.uid };
            app.console.problem(&mailbox.shown, &missing.to_string(), true);
        }
        if app.console.json {
            return app.console.object(&line(&mailbox.shown, message, node.is_none()));
        }
        let flags = match message.flags {
            Some(_) => show(message.flag_names().join(" ").as_bytes()),
            None => "?".to_owned(),
        };
        let (date, size) = (units::local(message.internal_date), units::size(message.size));
        app.console.line(format!("{:>10}  {date:19}  {size:>9}  {flags}", message.uid).trim_end())
    })?;
    if let Some(problem) = problem {
        app.console.problem(&mailbox.shown, &mail::gap(&problem), true);
    }
    for (read, reading) in read.into_iter().zip(&readings) {
        let user = show(reading.user.as_bytes());
        let problem = reading.seen.as_ref().err();
        if let Some(why) = problem {
            app.console.problem(&mailbox.shown, &mail::seen_unknown(&user, why), false);
        }
        if app.console.json {
            app.console.object(&SeenLine {
                message_type: "seen",
                mailbox: &mailbox.shown,
                user: &reading.user,
                read: problem.is_none().then_some(read),
                problem: problem.map(String::as_str),
            })?;
        } else if problem.is_none() {
            app.console.say(&mail::read_by(&user, read, count))?;
        }
    }
    Ok(done(app))
}

fn line<'a>(mailbox: &'a str, message: &'a Message, missing: bool) -> MessageLine<'a> {
    MessageLine {
        message_type: "message",
        mailbox,
        uid: message.uid,
        internal_date: units::utc(message.internal_date),
        size: message.size,
        flags: message.flags.map(|_| message.flag_names()),
        guid: message.guid.map(|guid| guid.iter().map(|byte| format!("{byte:02x}")).collect()),
        missing,
    }
}
