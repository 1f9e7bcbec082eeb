//! One backup job: every source in turn, each pulled, sealed and read back; then one result for the lamps.
//!
//! A source that fails does not keep the others from being backed up; the worst result is the job's. Afterwards old
//! snapshots of the sources that are proven are removed by the rules; whatever becomes of that, the result stands.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mailkeep_controller::{JobResult, Phase};
use mailkeep_mail::Source;

use crate::engine::{Engine, EngineError, News, Pruned, Sealed, Work};
use crate::words;

/// How a backup ended.
#[derive(Debug)]
pub struct Outcome {
    /// For the lamps.
    pub result: JobResult,
    /// A line for each source that was not backed up well.
    pub reasons: Vec<String>,
    /// The sources of which there is a new proven snapshot, unless the disk is in doubt.
    pub proven: Vec<String>,
}

/// Runs a backup of all sources into a repository. `news` gets the source's name with each item.
pub fn run(
    engine: &dyn Engine,
    sources: &[Source],
    repository: &Path,
    cancel: &AtomicBool,
    news: &(dyn Fn(&str, News) + Sync),
) -> Outcome {
    let mut worst = JobResult::Proven;
    let mut reasons = Vec::new();
    let (mut proven, mut doubted) = (Vec::new(), false);
    for source in sources {
        let name = source.name.as_str();
        let work = Work { source, repository, cancel };
        let result = if cancel.load(Ordering::Relaxed) {
            JobResult::Cancelled
        } else {
            let span = tracing::info_span!("backup", source = name);
            let one = span.in_scope(|| one(engine, work, &|item| news(name, item)));
            doubted |= one.as_ref().is_ok_and(|sealed| sealed.doubted);
            match one {
                Ok(_) => {
                    proven.push(name.to_owned());
                    JobResult::Proven
                }
                Err((result, why)) => {
                    reasons.push(format!("{name}: {why}"));
                    result
                }
            }
        };
        if rank(result) > rank(worst) {
            worst = result;
        }
        // Neither a full disk nor a cancelled job gets better with the next source.
        if matches!(result, JobResult::DiskFull | JobResult::Cancelled) {
            break;
        }
    }
    if doubted {
        proven.clear();
    }
    Outcome { result: worst, reasons, proven }
}

/// Lets follow what follows upon proven snapshots of these sources: standbys, the rescue kit.
pub fn afterwards(
    engine: &dyn Engine,
    sources: &[String],
    repository: &Path,
    cancel: &AtomicBool,
    news: &(dyn Fn(&str, News) + Sync),
) {
    if sources.is_empty() || cancel.load(Ordering::Relaxed) {
        return;
    }
    let names = sources.join(", ");
    let span = tracing::info_span!("afterwards", sources = names);
    span.in_scope(|| engine.afterwards(repository, sources, cancel, &|item| news(&names, item)));
}

/// Removes old snapshots of these sources by the rules. What goes wrong is said, and nothing else comes of it.
pub fn prune(
    engine: &dyn Engine,
    sources: &[String],
    repository: &Path,
    cancel: &Arc<AtomicBool>,
    news: &(dyn Fn(&str, News) + Sync),
) {
    if sources.is_empty() || cancel.load(Ordering::Relaxed) {
        return;
    }
    let names = sources.join(", ");
    let span = tracing::info_span!("prune", sources = names);
    match span.in_scope(|| engine.prune(repository, sources, cancel, &|item| news(&names, item))) {
        Ok(None) => {}
        Ok(Some(pruned)) => {
            let Pruned { removed, freed_bytes, remarks } = &pruned;
            tracing::info!(removed, freed_bytes, "old snapshots were removed by the rules");
            remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
            news(&names, News::Pruned(pruned));
        }
        Err(error) => {
            let (_, why) = failed("prune", &error);
            news(&names, News::NotPruned(why));
        }
    }
}

/// One source. An error is the result together with the reason.
fn one(
    engine: &dyn Engine,
    work: Work<'_>,
    news: &(dyn Fn(News) + Sync),
) -> Result<Sealed, (JobResult, String)> {
    news(News::Phase(Phase::Live));
    let sealed = engine.backup(work, news).map_err(|error| failed("backup", &error))?;
    report(&sealed);
    news(News::Sealed(sealed.clone()));
    news(News::Phase(Phase::Verifying));
    match engine.verify(work, &sealed, news) {
        Ok(()) if sealed.complete => Ok(sealed),
        Ok(()) => {
            let why = sealed.remarks.first().map_or("something is missing in the snapshot", String::as_str);
            Err((JobResult::NotProven, why.to_owned()))
        }
        // The snapshot is sealed, but who would rely on it?
        Err(error) => Err(match failed("verify", &error) {
            (JobResult::Failed, why) => (JobResult::NotProven, why),
            other => other,
        }),
    }
}

fn report(sealed: &Sealed) {
    tracing::info!(
        snapshot = %sealed.snapshot,
        generation = sealed.generation,
        window_ms = sealed.window_ms,
        files = sealed.files,
        added_bytes = sealed.added_bytes,
        complete = sealed.complete,
        "this source is backed up"
    );
    for remark in &sealed.remarks {
        tracing::warn!(snapshot = %sealed.snapshot, "{remark}");
    }
}

fn failed(step: &'static str, error: &EngineError) -> (JobResult, String) {
    let why = words::chain(error);
    match error {
        EngineError::Cancelled => tracing::warn!(step, "{why}"),
        _ => tracing::error!(step, "{why}"),
    }
    let result = match error {
        EngineError::DiskFull(_) => JobResult::DiskFull,
        EngineError::MailDown(_) => JobResult::MailDown,
        EngineError::Cancelled => JobResult::Cancelled,
        EngineError::Failed { .. } => JobResult::Failed,
    };
    (result, why)
}

/// Which of two results a person should rather hear of.
fn rank(result: JobResult) -> u8 {
    match result {
        JobResult::Proven => 0,
        JobResult::NotProven => 1,
        JobResult::Cancelled => 2,
        JobResult::Failed => 3,
        JobResult::DiskFull => 4,
        JobResult::MailDown => 5,
    }
}
