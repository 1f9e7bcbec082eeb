//! `diff`: what changed from one snapshot to another.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use mailkeep_restorer::{Change, View, What, diff, path};
use serde::Serialize;

use crate::App;
use crate::args::Diff;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::{repo, signal, text};

#[derive(Serialize)]
struct ChangeLine {
    message_type: &'static str,
    path: String,
    /// `+`, `-`, `M`, `T` or `U`, as restic says it.
    modifier: &'static str,
    folder: bool,
}

#[derive(Default, Serialize)]
struct Sum {
    message_type: &'static str,
    added: u64,
    removed: u64,
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
    let mut sum = Sum { message_type: "summary", ..Sum::default() };
    let mut written = Ok(());
    diff(&old, &new, &start, &mut |change| {
        let counter = match change.what {
            What::Added => &mut sum.added,
            What::Removed => &mut sum.removed,
            What::Kind => &mut sum.kind_changed,
            What::Content => &mut sum.changed,
            What::Metadata => &mut sum.metadata_changed,
        };
        *counter += 1;
        if written.is_ok() && (args.metadata || change.what != What::Metadata) {
            written = tell(app, change);
        }
    })?;
    written?;
    if app.console.json {
        app.console.object(&sum)?;
    } else {
        app.console.say(&text::report::differences(
            sum.added,
            sum.removed,
            sum.changed,
            sum.kind_changed,
            sum.metadata_changed,
        ))?;
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
        });
    }
    let slash = if change.folder { "/" } else { "" };
    app.console.line(&format!("{modifier}  {}{slash}", path::show(&change.path)))
}
