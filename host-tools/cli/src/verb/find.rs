//! `find`: names in all snapshots. A folder that several snapshots share is searched once if nothing in it fits.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use mailkeep_repository::SnapshotEntry;
use mailkeep_repository::format::Node;
use mailkeep_repository::format::limits::DEPTH_MAX;
use mailkeep_restorer::{View, path};

use crate::App;
use crate::args::Find;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::nodes::{self, Names, NodeLine};
use crate::progress::Reading;
use crate::{repo, signal, text, units};

pub(crate) fn run(app: &App, args: &Find) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let whole_path = args.pattern.contains('/');
    let matcher = GlobBuilder::new(&args.pattern)
        .literal_separator(true)
        .case_insensitive(args.ignore_case)
        .build()
        .map_err(|error| {
            Failure::new(exit::USAGE, format!("`{}` is no pattern: {}", args.pattern, error.kind()))
        })?
        .compile_matcher();
    let ear = Ear::new(&app.console);
    let repository = repo::open(app)?;
    let reader = Arc::new(repository.reader(&ear)?);
    let base = View::new(reader, Vec::new());
    let mut search = Search {
        app,
        matcher,
        whole_path,
        barren: HashSet::new(),
        hasher: RandomState::new(),
        found: 0,
        bytes: 0,
    };
    let entries = repository.snapshots(&ear)?;
    let mut with_hits = 0;
    for (number, entry) in entries.iter().enumerate() {
        app.console.progress(&Reading {
            phase: "search",
            files_done: search.found,
            part: Some((number as u64, entries.len() as u64)),
            ..Reading::default()
        });
        if args.source.as_ref().is_some_and(|source| entry.manifest.source.name != *source) {
            continue;
        }
        let before = search.found;
        search.snapshot(entry, &base.sibling(entry.manifest.root.clone()))?;
        with_hits += u64::from(search.found > before);
    }
    app.console.settle();
    match search.found {
        0 => app.console.say(text::report::NOTHING_FOUND)?,
        found => app.console.say(&text::look::found(found, with_hits, search.bytes))?,
    }
    Ok(match (app.console.damage(), app.console.problems()) {
        (0, 0) => exit::DONE,
        (0, _) => exit::PARTLY,
        _ => exit::DAMAGED,
    })
}

struct Search<'a> {
    app: &'a App,
    matcher: GlobMatcher,
    /// The pattern is about whole paths, not names.
    whole_path: bool,
    /// Hashes of folders (and of their path, if that matters) in which nothing fits.
    barren: HashSet<u64>,
    hasher: RandomState,
    found: u64,
    /// Of the files among them.
    bytes: u64,
}

/// A snapshot that is being searched.
struct Current<'a> {
    entry: &'a SnapshotEntry,
    view: &'a View,
    heading: bool,
}

impl Search<'_> {
    fn snapshot(&mut self, entry: &SnapshotEntry, view: &View) -> Result<(), Failure> {
        let mut current = Current { entry, view, heading: false };
        self.folder(&mut current, b"/", view.root(), 0).map(drop)
    }

    /// Searches a folder; whether anything in it fits (or could not be read).
    fn folder(
        &mut self,
        current: &mut Current<'_>,
        at: &[u8],
        folder: &Node,
        depth: usize,
    ) -> Result<bool, Failure> {
        let key = if self.whole_path {
            self.hasher.hash_one((folder.content(), at))
        } else {
            self.hasher.hash_one(folder.content())
        };
        if self.barren.contains(&key) || depth > DEPTH_MAX {
            return Ok(false);
        }
        let listing = match current.view.list(at, folder) {
            Ok(listing) => listing,
            Err(error) => {
                let damage = error.contents().is_some_and(|why| why.is_damage());
                let place = format!("{}:{}", repo::short(current.entry), path::show(at));
                self.app.console.problem(&place, &exit::chain(&error), damage);
                return Ok(true);
            }
        };
        let mut any = false;
        for node in listing.iter() {
            let path = path::join(at, &node.name);
            let subject = if self.whole_path { &path } else { &node.name };
            if self.matcher.is_match(OsStr::from_bytes(subject)) {
                any = true;
                self.hit(current, &path, node)?;
            }
            if node.is_directory() {
                any |= self.folder(current, &path, node, depth + 1)?;
            }
        }
        if !any {
            self.barren.insert(key);
        }
        Ok(any)
    }

    fn hit(&mut self, current: &mut Current<'_>, at: &[u8], node: &Node) -> Result<(), Failure> {
        self.found += 1;
        self.bytes += if node.is_file() { node.size() } else { 0 };
        let manifest = &current.entry.manifest;
        let names = Names::of(manifest);
        if self.app.console.json {
            let mut line = NodeLine::new("match", at, node, &names);
            line.snapshot = Some(current.entry.id.hex());
            return self.app.console.object(&line);
        }
        if !current.heading {
            current.heading = true;
            let time = units::local(manifest.started);
            let heading = text::report::found_in(&repo::short(current.entry), &time, &manifest.source.name);
            self.app.console.heading(&heading)?;
        }
        self.app.console.line(&format!("  {}", super::ls::row(nodes::cells(at, node, &names))))
    }
}
