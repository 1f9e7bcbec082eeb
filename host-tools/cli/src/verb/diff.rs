//! `diff`: what changed from one snapshot to another.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use mailkeep_restorer::{Change, View, What, diff, path};
use serde::Serialize;

use crate::App;
use crate::args::Diff;
use crate::console::Tone;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::progress::Reading;
use crate::text::look::{self, Changes};
use crate::{repo, signal};

#[derive(Serialize)]
struct ChangeLine {
    message_type: &'static str,
    path: String,
    /// `+`, `-`, `M`, `T` or `U`, as restic says it.
    modifier: &'static str,
    folder: bool,
    /// Bytes of the file before and after; `null` where there was or is none.
    size_before: Option<u64>,
    size_after: Option<u64>,
}

#[derive(Serialize)]
struct Sum {
    message_type: &'static str,
    added: u64,
    added_bytes: u64,
    removed: u64,
    removed_bytes: u64,
    changed: u64,
    kind_changed: u64,
    metadata_changed: u64,
}

pub(crate) fn run(app: &App, args: &Diff) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let start = path::normalise(args.path.as_os_str().as_bytes())?;
    let ear = Ear::new(&app.console);
    let repository = repo::open(app)?;
    let find = |which: &str| repo::find(&repository, which, args.source.as_deref(), &ear);
    let (old, new) = (find(&args.old)?, find(&args.new)?);
    let old = View::new(Arc::new(repository.reader(&ear)?), old.manifest.root);
    let new = old.sibling(new.manifest.root);
    let mut sum = Changes::default();
    let mut shown = 0;
    let mut written = Ok(());
    let found = diff(
        &old,
        &new,
        &start,
        &mut |change| {
            let counter = match change.what {
                What::Added => &mut sum.added,
                What::Removed => &mut sum.removed,
                What::Kind => &mut sum.kind,
                What::Content => &mut sum.content,
                What::Metadata => &mut sum.metadata,
            };
            *counter += 1;
            match change.what {
                What::Added => sum.added_bytes += change.after.unwrap_or(0),
                What::Removed => sum.removed_bytes += change.before.unwrap_or(0),
                _ => {}
            }
            if written.is_ok() && (args.metadata || change.what != What::Metadata) {
                if shown == 0 && !app.console.json {
                    written = app.console.heading(look::CHANGES);
                }
                shown += 1;
                written = std::mem::replace(&mut written, Ok(())).and_then(|()| tell(app, change));
            }
        },
        &mut |looked| {
            app.console.progress(&Reading {
                phase: "compare",
                files_done: looked.names,
                part: Some((looked.done, looked.total)),
                ..Reading::default()
            });
        },
    );
    app.console.settle();
    found.map_err(|error| repo::not_there(error, &new, &args.path))?;
    written?;
    if app.console.json {
        app.console.object(&Sum {
            message_type: "summary",
            added: sum.added,
            added_bytes: sum.added_bytes,
            removed: sum.removed,
            removed_bytes: sum.removed_bytes,
            changed: sum.content,
            kind_changed: sum.kind,
            metadata_changed: sum.metadata,
        })?;
    } else {
        look::differences(&sum).iter().try_for_each(|line| app.console.say(line))?;
    }
    Ok(exit::DONE)
}

fn tell(app: &App, change: &Change) -> Result<(), Failure> {
    let modifier = match change.what {
        What::Added => "+",
        What::Removed => "-",
        What::Kind => "T",
        What::Content => "M",
        What::Metadata => "U",
    };
    if app.console.json {
        let path = String::from_utf8_lossy(&change.path).into_owned();
        return app.console.object(&ChangeLine {
            message_type: "change",
            path,
            modifier,
            folder: change.folder,
            size_before: change.before,
            size_after: change.after,
        });
    }
    let slash = if change.folder { "/" } else { "" };
    let path = format!("{}{slash}", path::show(&change.path));
    let tone = match change.what {
        What::Added => Tone::Good,
        What::Removed => Tone::Bad,
        _ => Tone::Plain,
    };
    app.console.toned(tone, &look::change(modifier, change.before, change.after, &path))
}
