//! `mail search`: messages by sender, subject and more; in one snapshot, in all of a disk, or in all of every disk that
//! this tool has seen. Over more than one snapshot it tells when a message came, when it vanished, and who has it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Local, NaiveDate, TimeZone};
use mailkeep_mailview::{Hit, Query, limits, search};
use mailkeep_repository::{LogMonitor, Repository, SnapshotEntry};
use mailkeep_restorer::path::show;
use serde::Serialize;

use super::shelf::{At, Away, Shelf, by_disk, nothing_at_hand, others, timeline};
use super::{done, going};
use crate::App;
use crate::args::MailSearch;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::text::{mail, report};
use crate::{repo, signal, units};

#[derive(Serialize)]
struct HitLine<'a> {
    message_type: &'static str,
    source: &'a str,
    mailbox: &'a str,
    uid: u32,
    internal_date: String,
    size: u64,
    from: &'a str,
    to: &'a str,
    subject: &'a str,
    message_id: &'a str,
    /// How many of the searched snapshots have it, the first and the last of them.
    snapshots: usize,
    first_snapshot: String,
    first_seen: String,
    last_snapshot: String,
    last_seen: String,
    /// The first searched snapshot after the last that has it.
    gone_in: Option<String>,
    gone_seen: Option<String>,
    /// The disks that have it.
    disks: Vec<DiskOfHit<'a>>,
    /// Disks that were not looked into, with how many snapshots of the time when it was there.
    may_have: Vec<DiskOfHit<'a>>,
}

#[derive(Serialize)]
struct DiskOfHit<'a> {
    repository: &'a str,
    label: &'a str,
    path: String,
    snapshots: usize,
    /// The newest that has it (or may have it).
    snapshot: Option<String>,
}

#[derive(Serialize)]
struct AwayLine<'a> {
    message_type: &'static str,
    repository: &'a str,
    label: &'a str,
    path: String,
    at_hand: bool,
    snapshots: usize,
    first_seen: String,
    last_seen: String,
}

/// Where it was looked, and where it could not be.
struct Places {
    shelves: Vec<Shelf>,
    away: Vec<Away>,
    /// More than the newest or one: when things came and went is of interest.
    all: bool,
}

pub(crate) fn run(app: &App, args: &MailSearch) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let query = Query::parse(&args.terms, &midnight)?;
    let ear = Ear::new(&app.console);
    let places = places(app, args, &ear)?;
    let mut problem = |what: &str, damage: bool| app.console.problem("", what, damage);
    let mut found = 0u64;
    if let [shelf] = &places.shelves[..] {
        search(
            &shelf.searched,
            &query,
            &mut problem,
            &mut |now| going(app, (0, 1), now),
            &mut |hit: Hit| {
                found += 1;
                let at = |places: &[usize]| places.iter().map(|place| (0, *place)).collect::<Vec<At>>();
                let (holders, order) = (at(&hit.snapshots), at(&hit.searched));
                tell(app, &places, &hit, &holders, &order)
            },
        )?;
    } else {
        let mut hits: BTreeMap<_, (Hit, Vec<At>)> = BTreeMap::new();
        let mut searched: BTreeMap<String, Vec<Vec<usize>>> = BTreeMap::new();
        for (number, shelf) in places.shelves.iter().enumerate() {
            let all = (number, places.shelves.len());
            let of_source = search(
                &shelf.searched,
                &query,
                &mut problem,
                &mut |now| going(app, all, now),
                &mut |hit: Hit| {
                    let first = hit.snapshots.first().and_then(|first| shelf.searched.get(*first));
                    let source = first.map_or_else(String::new, |first| first.source.clone());
                    let head = (hit.head.message_id.clone(), hit.head.from.clone(), hit.head.subject.clone());
                    // Chunks have other ids on each disk; a message is known by where it lay and what it says.
                    let key = (source, hit.folder.clone(), hit.uid, hit.size, hit.internal_date, head);
                    let holders: Vec<At> = hit.snapshots.iter().map(|place| (number, *place)).collect();
                    hits.entry(key).or_insert_with(|| (hit, Vec::new())).1.extend(holders);
                    match hits.len() {
                        count if count > limits::HITS_HELD => {
                            Err(Failure::new(exit::FAILED, mail::TOO_MANY).hint(mail::TOO_MANY_HINT))
                        }
                        _ => Ok(()),
                    }
                },
            )?;
            for (source, snapshots) in of_source {
                let all = searched.entry(source).or_default();
                all.resize(number, Vec::new());
                all.push(snapshots);
            }
        }
        for ((source, ..), (hit, mut holders)) in hits {
            found += 1;
            let order = searched.get(&source).map_or_else(Vec::new, |of| timeline(&places.shelves, of));
            let rank = |at: &At| order.iter().position(|known| known == at);
            holders.sort_by_key(rank);
            tell(app, &places, &hit, &holders, &order)?;
        }
    }
    app.console.settle();
    app.console.say(&if found == 0 { report::NOTHING_FOUND.to_owned() } else { mail::found(found) })?;
    if places.all {
        places.away.iter().try_for_each(|away| tell_away(app, away))?;
    }
    Ok(done(app))
}

/// Which disks are looked into.
fn places(app: &App, args: &MailSearch, ear: &Ear) -> Result<Places, Failure> {
    let all = args.all_snapshots || args.all_disks;
    let path = match app.options.repo() {
        Ok(path) => Some(path),
        Err(_) if args.all_disks => None,
        Err(failure) => return Err(failure),
    };
    let source = args.source.as_deref();
    let mut named = None;
    if let Some(path) = path {
        let repository = repo::open(app)?;
        let shelf = Shelf::of(path, &repository, ear, |entries| wanted(args, &repository, entries))?;
        named = Some((shelf, repo::key_ids(&repository)));
    }
    let (more, away) = match all {
        true => {
            let named = named.as_ref().map(|(shelf, keys)| (shelf, &keys[..]));
            others(app, named, source, args.all_disks, ear)
        }
        false => (Vec::new(), Vec::new()),
    };
    let shelves: Vec<Shelf> = named.into_iter().map(|(shelf, _)| shelf).chain(more).collect();
    if shelves.is_empty() {
        return Err(nothing_at_hand());
    }
    Ok(Places { shelves, away, all })
}

/// The snapshots of the named disk to search, oldest first.
fn wanted(
    args: &MailSearch,
    repository: &Repository,
    mut entries: Vec<SnapshotEntry>,
) -> Result<Vec<SnapshotEntry>, Failure> {
    if let Some(snapshot) = &args.snapshot {
        // What cannot be read of the list was told when it was read.
        return Ok(vec![repo::find(repository, snapshot, args.source.as_deref(), &LogMonitor)?]);
    }
    entries.retain(|entry| args.source.as_ref().is_none_or(|source| entry.manifest.source.name == *source));
    if args.all_snapshots || args.all_disks {
        return Ok(entries);
    }
    let mut newest: BTreeMap<String, SnapshotEntry> = BTreeMap::new();
    for entry in entries {
        newest.insert(entry.manifest.source.name.clone(), entry);
    }
    Ok(newest.into_values().collect())
}

/// When a day begins here.
pub(super) fn midnight(day: &str) -> Option<i64> {
    let day = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0)?;
    Some(Local.from_local_datetime(&day).earliest()?.timestamp())
}

/// Tells a message: `holders` have it, of those in `order`; both oldest first.
fn tell(app: &App, places: &Places, hit: &Hit, holders: &[At], order: &[At]) -> Result<(), Failure> {
    let entry = |at: &At| places.shelves.get(at.0).and_then(|shelf| shelf.entries.get(at.1));
    let (Some(first_at), Some(last_at)) = (holders.first(), holders.last()) else { return Ok(()) };
    let (Some(first), Some(last)) = (entry(first_at), entry(last_at)) else { return Ok(()) };
    let behind = order.iter().skip_while(|at| *at != last_at).nth(1);
    let gone = behind.and_then(|at| Some((at, entry(at)?)));
    let source = &first.manifest.source.name;
    // From its arrival until it was seen to be gone.
    let until = gone.map_or(i64::MAX, |(_, gone)| gone.manifest.started);
    let from = hit.internal_date.min(first.manifest.started);
    let may_have: Vec<(&Away, Vec<&str>)> = places
        .away
        .iter()
        .map(|away| {
            let of_then = away
                .snapshots
                .iter()
                .filter(|snapshot| snapshot.source == *source && (from..until).contains(&snapshot.time));
            (away, of_then.map(|snapshot| snapshot.id.as_str()).collect::<Vec<_>>())
        })
        .filter(|(_, snapshots)| places.all && !snapshots.is_empty())
        .collect();
    let disks = by_disk(holders);
    if app.console.json {
        let disk = |(number, on): &(usize, Vec<usize>)| {
            let shelf = places.shelves.get(*number)?;
            let newest = on.last().and_then(|place| shelf.entries.get(*place));
            Some(DiskOfHit {
                repository: &shelf.repository,
                label: &shelf.label,
                path: shelf.path.display().to_string(),
                snapshots: on.len(),
                snapshot: newest.map(|entry| entry.id.hex()),
            })
        };
        return app.console.object(&HitLine {
            message_type: "match",
            source,
            mailbox: &hit.mailbox,
            uid: hit.uid,
            internal_date: units::utc(hit.internal_date),
            size: hit.size,
            from: &hit.head.from,
            to: &hit.head.to,
            subject: &hit.head.subject,
            message_id: &hit.head.message_id,
            snapshots: holders.len(),
            first_snapshot: first.id.hex(),
            first_seen: units::utc(first.manifest.started),
            last_snapshot: last.id.hex(),
            last_seen: units::utc(last.manifest.started),
            gone_in: gone.map(|(_, gone)| gone.id.hex()),
            gone_seen: gone.map(|(_, gone)| units::utc(gone.manifest.started)),
            disks: disks.iter().filter_map(disk).collect(),
            may_have: may_have.iter().map(|(away, snapshots)| of_away(away, snapshots)).collect(),
        });
    }
    let line = |text: &str| app.console.line(&show(text.as_bytes()));
    let (date, size) = (units::local(hit.internal_date), units::size(hit.size));
    line(&format!("{} {}  {date}  {size}", hit.mailbox, hit.uid))?;
    line(&format!("    {}", hit.head.from))?;
    line(&format!("    {}", hit.head.subject))?;
    if !places.all {
        return Ok(());
    }
    let several = places.shelves.len() > 1;
    let named = |at: &At, entry: &SnapshotEntry| {
        let time = units::local(entry.manifest.started);
        match places.shelves.get(at.0).filter(|_| several) {
            Some(shelf) => format!("{} ({time}, {})", repo::short(entry), shelf.label),
            None => format!("{} ({time})", repo::short(entry)),
        }
    };
    let mut text = mail::there(&named(first_at, first), &named(last_at, last), holders.len());
    if let Some((at, next)) = gone {
        text = format!("{text}; {}", mail::vanished(&named(last_at, last), &named(at, next)));
    }
    line(&format!("    {text}"))?;
    if several {
        let on = disks
            .iter()
            .filter_map(|(number, on)| Some(mail::on_disk(&places.shelves.get(*number)?.label, on.len())));
        line(&format!("    {}", on.collect::<Vec<_>>().join(", ")))?;
    }
    for (away, snapshots) in may_have {
        line(&format!("    {}", mail::may_have(&away.label, snapshots.len())))?;
    }
    Ok(())
}

fn of_away<'a>(away: &'a Away, snapshots: &[&str]) -> DiskOfHit<'a> {
    DiskOfHit {
        repository: &away.repository,
        label: &away.label,
        path: away.path.display().to_string(),
        snapshots: snapshots.len(),
        snapshot: snapshots.last().map(|id| (*id).to_owned()),
    }
}

/// Tells of a disk that was not looked into.
fn tell_away(app: &App, away: &Away) -> Result<(), Failure> {
    let times: BTreeSet<i64> = away.snapshots.iter().map(|snapshot| snapshot.time).collect();
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(()) };
    let path = away.path.display().to_string();
    if app.console.json {
        return app.console.object(&AwayLine {
            message_type: "disk",
            repository: &away.repository,
            label: &away.label,
            path,
            at_hand: away.at_hand,
            snapshots: away.snapshots.len(),
            first_seen: units::utc(*first),
            last_seen: units::utc(*last),
        });
    }
    let period = format!("{} to {}", units::local(*first), units::local(*last));
    app.console.say(&show(
        mail::not_searched(&away.label, &path, away.at_hand, away.snapshots.len(), &period).as_bytes(),
    ))
}
