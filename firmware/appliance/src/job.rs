//! One backup job: every source in turn, each pulled, sealed and read back; then one result for the lamps.
//!
//! A source that fails does not keep the others from being backed up; the worst result is the job's.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use mailkeep_controller::{JobResult, Phase};
use mailkeep_mail::Source;

use crate::engine::{Engine, EngineError, News, Sealed, Work};
use crate::words;

/// Runs a backup of all sources into a repository. `news` gets the source's name with each item.
pub fn run(
    engine: &dyn Engine,
    sources: &[Source],
    repository: &Path,
    cancel: &AtomicBool,
    news: &(dyn Fn(&str, News) + Sync),
) -> JobResult {
    let mut worst = JobResult::Proven;
    for source in sources {
        let name = source.name.as_str();
        let work = Work { source, repository, cancel };
        let result = if cancel.load(Ordering::Relaxed) {
            JobResult::Cancelled
        } else {
            let span = tracing::info_span!("backup", source = name);
            span.in_scope(|| one(engine, work, &|item| news(name, item)))
        };
        if rank(result) > rank(worst) {
            worst = result;
        }
        // Neither a full disk nor a cancelled job gets better with the next source.
        if matches!(result, JobResult::DiskFull | JobResult::Cancelled) {
            break;
        }
    }
    worst
}

fn one(engine: &dyn Engine, work: Work<'_>, news: &(dyn Fn(News) + Sync)) -> JobResult {
    news(News::Phase(Phase::Live));
    let sealed = match engine.backup(work, news) {
        Ok(sealed) => sealed,
        Err(error) => return failed("backup", &error),
    };
    report(&sealed);
    news(News::Phase(Phase::Verifying));
    match engine.verify(work, &sealed, news) {
        Ok(()) if sealed.complete => JobResult::Proven,
        Ok(()) => JobResult::NotProven,
        // The snapshot is sealed, but who would rely on it?
        Err(EngineError::Failed { what, source }) => {
            failed("verify", &EngineError::Failed { what, source });
            JobResult::NotProven
        }
        Err(error) => failed("verify", &error),
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
        "sealed"
    );
    for remark in &sealed.remarks {
        tracing::warn!(snapshot = %sealed.snapshot, "{remark}");
    }
}

fn failed(step: &'static str, error: &EngineError) -> JobResult {
    match error {
        EngineError::Cancelled => tracing::warn!(step, "{error}"),
        _ => tracing::error!(step, "{}", words::chain(error)),
    }
    match error {
        EngineError::DiskFull(_) => JobResult::DiskFull,
        EngineError::MailDown(_) => JobResult::MailDown,
        EngineError::Cancelled => JobResult::Cancelled,
        EngineError::Failed { .. } => JobResult::Failed,
    }
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
