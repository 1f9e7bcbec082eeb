//! `mail restore`: messages of a snapshot into a running server.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use mailkeep_mailview::imap::{Client, Target, restore};
use mailkeep_mailview::{Files, Mailbox};
use serde::Serialize;

use super::{done, tree};
use crate::App;
use crate::args::MailRestore;
use crate::exit::{self, Failure};
use crate::signal;
use crate::text::mail;

#[derive(Serialize)]
struct SummaryLine<'a> {
    message_type: &'static str,
    mailbox: &'a str,
    into: &'a str,
    dry_run: bool,
    created: u64,
    merged: u64,
    skipped: u64,
    failed: u64,
}

pub(crate) fn run(app: &App, args: &MailRestore) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let target = Target { acts_for: args.acts_for.clone(), ..Target::parse(&args.imap)? };
    let password = password(args)?;
    let (_, files, tree) = tree(app, &args.which)?;
    let mailbox = tree.find(&args.mailbox)?;
    let uids = wanted(&files, mailbox, &args.uids)?;
    let mut client = Client::connect(&target, &password, args.ca_file.as_deref())?;
    let mut problem = |what: &str| app.console.problem(&mailbox.shown, what, false);
    let restored = restore::<Failure>(
        &mut client,
        &files,
        mailbox,
        uids.as_ref(),
        &args.into,
        args.dry_run,
        &mut problem,
    )?;
    client.log_out();
    if app.console.json {
        app.console.object(&SummaryLine {
            message_type: "summary",
            mailbox: &mailbox.shown,
            into: &args.into,
            dry_run: args.dry_run,
            created: restored.created,
            merged: restored.merged,
            skipped: restored.skipped,
            failed: restored.failed,
        })?;
    } else {
        app.console.say(&mail::restored(&restored, &args.into, args.dry_run))?;
    }
    Ok(done(app))
}

/// The UIDs that were asked for, all of which have to be there; `None` for all.
fn wanted(files: &Files, mailbox: &Mailbox, uids: &[u32]) -> Result<Option<BTreeSet<u32>>, Failure> {
    if uids.is_empty() {
        return Ok(None);
    }
    let there: BTreeSet<u32> = mailbox.uids(files, &mailbox.records(files)?)?.into_iter().collect();
    let missing: Vec<String> = uids.iter().filter(|uid| !there.contains(uid)).map(u32::to_string).collect();
    if !missing.is_empty() {
        return Err(Failure::new(exit::FAILED, mail::no_uid(&mailbox.shown, &missing)));
    }
    Ok(Some(uids.iter().copied().collect()))
}

/// The password, from wherever it stands; never from the command line, where every user of this machine could read it.
fn password(args: &MailRestore) -> Result<String, Failure> {
    let missing = || Failure::new(exit::USAGE, mail::NO_PASSWORD).hint(mail::NO_PASSWORD_HINT);
    let text = if let Some(path) = &args.password_file {
        std::fs::read_to_string(path).map_err(|error| Failure::file(exit::FAILED, "read", path, &error))?
    } else if let Some(command) = &args.password_command {
        let failed = |why: String| Failure::new(exit::FAILED, format!("the password command failed: {why}"));
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = shell.output().map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(output.status.to_string()));
        }
        String::from_utf8(output.stdout).map_err(|error| failed(error.to_string()))?
    } else {
        std::env::var("MAILKEEP_IMAP_PASSWORD").map_err(|_| missing())?
    };
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() { Err(missing()) } else { Ok(line.to_owned()) }
}
