//! `mail restore`: messages of a snapshot, or only their flags, into a running server.
//!
//! What is meant ([`Chosen`]) is found in the snapshot before anybody logs in; where it goes ([`place`]) depends on how the
//! server names folders to the one who logs in.

use std::collections::{BTreeMap, BTreeSet};

use mailkeep_mailview::imap::{
    Client, FlagsWish, Folder, Names, Reader, Restored, Target, Wish, restore, restore_flags,
};
use mailkeep_mailview::{Files, MailTree, Mailbox, Query, Searched, search, seen_by};
use mailkeep_repository::SnapshotEntry;
use serde::Serialize;

use super::search::midnight;
use super::{done, going, password, tree};
use crate::App;
use crate::args::MailRestore;
use crate::exit::{self, Failure};
use crate::text::mail;
use crate::{signal, units};

/// One mailbox, or all of them together.
#[derive(Serialize)]
struct Line<'a> {
    message_type: &'static str,
    mailbox: Option<&'a str>,
    into: &'a str,
    dry_run: bool,
    flags_only: bool,
    created: u64,
    merged: u64,
    skipped: u64,
    failed: u64,
    /// Where only flags are restored: not there, and with flags that the snapshot has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    differing: Option<u64>,
}

/// A mailbox, and which of its messages are meant; `None` for all.
struct Chosen<'a> {
    mailbox: &'a Mailbox,
    /// Its levels below the folder that was named; `None` for those by which the user knows it.
    below: Option<Vec<String>>,
    uids: Option<BTreeSet<u32>>,
}

pub(crate) fn run(app: &App, args: &MailRestore) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let target = Target { acts_for: args.acts_for.clone(), ..Target::parse(&args.imap)? };
    let password = password(args.password_file.as_deref(), args.password_command.as_deref())?;
    let (entry, files, tree) = tree(app, &args.which)?;
    let chosen = choose(app, args, &entry, &files, &tree)?;
    let mut client = Client::connect(&target, &password, args.ca_file.as_deref())?;
    let names = Names::of(&mut client)?;
    let (mut all, mut places) = (Restored::default(), BTreeSet::new());
    for Chosen { mailbox, below, uids } in &chosen {
        let into = place(args, &entry, mailbox, below.as_deref(), &names);
        let wish = Wish { uids: uids.as_ref(), dry: args.dry_run };
        let mut problem = |what: &str| app.console.problem(&mailbox.shown, what, false);
        let restored: Restored = if args.flags_only {
            let reading = match names.is_own(mailbox) {
                true => None,
                false => Some(seen_by(&files, &tree, mailbox)?),
            };
            let seen = reading.as_ref().map(|readings| {
                let own = readings.iter().find(|reading| reading.user == names.user());
                own.and_then(|own| own.seen.as_ref().ok()).map_or(Reader::Unknown, Reader::Of)
            });
            let wish = FlagsWish { wish, exact: args.exact, seen };
            restore_flags::<Failure>(&mut client, &files, mailbox, &into, &wish, &mut problem)?
        } else {
            restore::<Failure>(&mut client, &files, mailbox, &into, &wish, &mut problem)?
        };
        all.add(&restored);
        if chosen.len() > 1 {
            tell(app, args, "mailbox", Some(&mailbox.shown), &into.shown, &restored)?;
            app.console.flush()?;
        }
        places.insert(into.shown);
    }
    client.log_out();
    let into = match (places.len(), places.pop_first()) {
        (1, Some(only)) => only,
        (count, _) => mail::folders(count as u64),
    };
    let mailbox = match &chosen[..] {
        [only] => Some(only.mailbox.shown.as_str()),
        _ => args.mailbox.as_deref(),
    };
    tell(app, args, "summary", mailbox, &into, &all)?;
    if all.differing > 0 {
        app.console.say(&mail::differing(all.differing))?;
    }
    Ok(done(app))
}

fn tell(
    app: &App,
    args: &MailRestore,
    kind: &'static str,
    mailbox: Option<&str>,
    into: &str,
    restored: &Restored,
) -> Result<(), Failure> {
    let Restored { created, merged, skipped, failed, absent, differing } = *restored;
    if app.console.json {
        return app.console.object(&Line {
            message_type: kind,
            mailbox,
            into,
            dry_run: args.dry_run,
            flags_only: args.flags_only,
            created,
            merged,
            skipped,
            failed,
            absent: args.flags_only.then_some(absent),
            differing: args.flags_only.then_some(differing),
        });
    }
    let line = match args.flags_only {
        true => mail::flags_restored(restored, into, args.dry_run),
        false => mail::restored(restored, into, args.dry_run),
    };
    app.console.say(&match kind {
        "mailbox" => format!("{}: {line}", mailbox.unwrap_or_default()),
        _ => line,
    })
}

/// Finds what is meant; something has to be.
fn choose<'a>(
    app: &App,
    args: &MailRestore,
    entry: &SnapshotEntry,
    files: &Files,
    tree: &'a MailTree,
) -> Result<Vec<Chosen<'a>>, Failure> {
    let mailboxes: Vec<(&Mailbox, Option<Vec<String>>)> = match (&args.mailbox, args.recursive) {
        (Some(name), true) => {
            tree.below(name)?.into_iter().map(|(mailbox, levels)| (mailbox, Some(levels))).collect()
        }
        (Some(name), false) => vec![(tree.find(name)?, Some(Vec::new()))],
        (None, _) => {
            let all = tree.mailboxes().iter().filter(|mailbox| mailbox.is_mail);
            all.map(|mailbox| (mailbox, None)).collect()
        }
    };
    if !args.search.is_empty() {
        let mailboxes = mailboxes.into_iter().map(|(mailbox, _)| mailbox).collect();
        return fitting(app, args, entry, files, mailboxes);
    }
    let uids = match &mailboxes[..] {
        [(mailbox, _)] => wanted(files, mailbox, &args.uids)?,
        _ => None,
    };
    let chosen = |(mailbox, below)| Chosen { mailbox, below, uids: uids.clone() };
    Ok(mailboxes.into_iter().map(chosen).collect())
}

/// The messages that the search terms fit.
fn fitting<'a>(
    app: &App,
    args: &MailRestore,
    entry: &SnapshotEntry,
    files: &Files,
    mailboxes: Vec<&'a Mailbox>,
) -> Result<Vec<Chosen<'a>>, Failure> {
    let query = Query::parse(&args.search, &midnight)?;
    let searched = Searched {
        files: files.clone(),
        source: entry.manifest.source.name.clone(),
        mailboxes: Some(mailboxes.iter().map(|mailbox| mailbox.shown.clone()).collect()),
    };
    let mut found: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    let mut problem = |what: &str, damage: bool| app.console.problem("", what, damage);
    search::<Failure>(&[searched], &query, &mut problem, &mut |now| going(app, (0, 1), now), &mut |hit| {
        found.entry(hit.mailbox).or_default().insert(hit.uid);
        Ok(())
    })?;
    let chosen: Vec<Chosen<'_>> = mailboxes
        .into_iter()
        .filter_map(|mailbox| {
            let uids = Some(found.remove(&mailbox.shown)?);
            // What was found comes together.
            Some(Chosen { mailbox, below: Some(Vec::new()), uids })
        })
        .collect();
    if chosen.is_empty() {
        return Err(Failure::new(exit::FAILED, mail::NOTHING_FITS).hint(mail::NOTHING_FITS_HINT));
    }
    Ok(chosen)
}

/// Where a mailbox is restored to: where it was, into the folder that was named (a tree keeps its shape below it), or put
/// aside under the day of the snapshot. The day is the snapshot's and not today's: repeated after midnight it is the same
/// folder.
fn place(
    args: &MailRestore,
    entry: &SnapshotEntry,
    mailbox: &Mailbox,
    below: Option<&[String]>,
    names: &Names,
) -> Folder {
    if let Some(into) = &args.into {
        let below = below.map_or_else(|| names.levels(mailbox), <[String]>::to_vec);
        let mut all = vec![into.clone()];
        all.extend(below);
        return names.named(&all.join("/"));
    }
    if args.in_place || args.flags_only {
        return names.same(mailbox);
    }
    let day = units::day(entry.manifest.started);
    let mut all = vec!["Restored".to_owned(), day];
    all.extend(names.levels(mailbox));
    names.own(&all.iter().map(String::as_str).collect::<Vec<_>>())
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
