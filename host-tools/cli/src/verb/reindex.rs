//! `reindex`: makes the index again from the packs.

use mailkeep_repository::Machine;
use serde::Serialize;

use crate::App;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::text::report;
use crate::{repo, signal};

#[derive(Serialize)]
struct SummaryLine {
    message_type: &'static str,
    packs: u64,
    chunks: u64,
    runs: u64,
    removed: u64,
    problems: u64,
    damaged: bool,
}

pub(crate) fn run(app: &App) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let repository = repo::open(app)?;
    let done = repository.reindex(&Machine::this(), &Ear::new(&app.console))?;
    app.console.settle();
    if app.console.json {
        app.console.object(&SummaryLine {
            message_type: "summary",
            packs: done.packs,
            chunks: done.chunks,
            runs: done.runs,
            removed: done.removed,
            problems: done.problems.len() as u64,
            damaged: done.damaged(),
        })?;
    } else {
        app.console.say(&report::reindexed(done.packs, done.chunks, done.removed, done.damaged()))?;
    }
    Ok(if done.damaged() { exit::DAMAGED } else { exit::DONE })
}
