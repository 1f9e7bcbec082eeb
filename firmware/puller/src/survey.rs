//! The dry run: one walk that reads no file, stores nothing and stops nothing, and tells what a backup would do.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mailkeep_format::{Checkpoint, ChunkKind, ChunkRef, ContentHash, SnapshotId};
use mailkeep_link::Role;
use mailkeep_link::message::{BeginPass, ToAgent};
use mailkeep_mail::Source;
use mailkeep_repository::{Reader, Repository, WriterOptions};
use serde::Serialize;

use crate::assemble::Mode;
use crate::keeping::Keeping;
use crate::monitor::Forward;
use crate::progress::Silent;
use crate::pull::{Earlier, PullOptions, Run};
use crate::session::Session;
use crate::store::{Nodes, Store};
use crate::summary::ProblemSummary;
use crate::{ProcessTransport, Progress, PullError, Transport};

/// Exit code of an agent that was asked for what the key is not for (INTERFACES: wrong key).
const WRONG_KEY: u8 = 77;

/// What a backup would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// Always `summary`; it tells the JSON lines of a run apart.
    pub message_type: &'static str,
    /// Always true.
    pub dry_run: bool,
    /// The source's name.
    pub source: String,
    /// The server's own name.
    pub host: String,
    /// How mail would be stopped, in words; `null` if it would not be.
    pub quiesce: Option<String>,
    /// How what is left would be kept while mail is stopped, in words; `null` if mail would not be stopped.
    pub freeze: Option<String>,
    /// What is walked.
    pub roots: Vec<String>,
    /// The snapshot that the walk was compared with; `null` if this would be a first backup.
    pub parent: Option<SnapshotId>,
    /// Files there are.
    pub files: u64,
    /// Sum of their sizes, bytes.
    pub bytes: u64,
    /// Files that would be read.
    pub files_to_read: u64,
    /// Sum of their sizes, bytes.
    pub bytes_to_read: u64,
    /// How long mail would be away, as far as it can be told before anything is copied; `null` if it would not be stopped.
    pub window: Option<WindowForecast>,
    /// How many things could not be looked at.
    pub problem_count: u64,
    /// The first of them.
    pub problems: Vec<ProblemSummary>,
}

/// The window as it is expected to be, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WindowForecast {
    /// What stop, export and start took the last times; `null` where mail was never stopped for a backup.
    pub stop_start_ms: Option<u64>,
    /// Looking at everything once more, and keeping what changed in the last moments.
    pub pass_ms: u64,
    /// What is kept on the server meanwhile crosses the link when mail runs again.
    pub kept_on_server: bool,
    /// The sum.
    pub total_ms: u64,
    /// What `outage-budget` allows.
    pub budget_ms: u64,
    /// When mail answers again whatever happens, after the stop.
    pub deadline_ms: u64,
    /// So long before the deadline the restart guard begins to start mail; `null` if the agent does not say.
    pub guard_lead_ms: Option<u64>,
}

impl WindowForecast {
    fn of(
        source: &Source,
        overhead: Option<Duration>,
        over_link: Duration,
        kept: Option<Duration>,
        lead: Option<u64>,
    ) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let pass = kept.unwrap_or(over_link);
        WindowForecast {
            stop_start_ms: overhead.map(millis),
            pass_ms: millis(pass),
            kept_on_server: kept.is_some(),
            total_ms: millis(pass.saturating_add(overhead.unwrap_or_default())),
            budget_ms: millis(source.outage_budget),
            deadline_ms: millis(source.quiesce.deadline),
            guard_lead_ms: lead,
        }
    }
}

impl Survey {
    /// 0, or 2 if something could not be looked at.
    pub fn exit_code(&self) -> u8 {
        if self.problem_count > 0 { 2 } else { 0 }
    }
}

/// Looks at `source` and compares it with its newest snapshot.
///
/// # Errors
/// As [`crate::pull`]; the repository is only read and not locked.
pub fn survey(
    repository: &Repository,
    source: &Source,
    options: &PullOptions<'_>,
    progress: &dyn Progress,
) -> Result<Survey, PullError> {
    let monitor = Forward::new(progress);
    let earlier = Earlier::find(repository, source, &monitor)?;
    let mut store = ReadOnly(Some(repository.reader(&monitor)?));
    look(source, options, progress, earlier, &mut store)
}

/// Looks at `source` with no repository at hand: a rehearsal of everything before the first byte is copied.
///
/// # Errors
/// As [`crate::pull`].
pub fn rehearse(
    source: &Source,
    transport: &dyn Transport,
    program: &str,
    cancel: &AtomicBool,
) -> Result<Survey, PullError> {
    let writer = WriterOptions::default();
    let (force_window, live_only, writer) = (false, false, &writer);
    let options =
        PullOptions { force_window, live_only, transport, cancel, writer, program, bandwidth: None };
    look(source, &options, &Silent, Earlier::none(), &mut ReadOnly(None))
}

/// Tries a key for restores: it reaches the agent, which says what the server is and refuses to read any mail.
///
/// # Errors
/// As [`crate::pull`]; [`PullError::KeyTooGood`] if a copy could be made with it.
pub fn try_restore_key(
    source: &Source,
    transport: &ProcessTransport,
    program: &str,
    cancel: &AtomicBool,
) -> Result<(), PullError> {
    let transport = ProcessTransport { role: Role::Restore, ..transport.clone() };
    let (mut session, _) = Session::open(&transport, source, program, None, cancel)?;
    session.say(ToAgent::BeginPass(BeginPass { number: 1, is_final: false }))?;
    match session.hear() {
        Err(PullError::Agent { exit_code: WRONG_KEY, .. }) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(PullError::KeyTooGood { host: session.host().to_owned() }),
    }
}

fn look(
    source: &Source,
    options: &PullOptions<'_>,
    progress: &dyn Progress,
    earlier: Earlier,
    store: &mut ReadOnly,
) -> Result<Survey, PullError> {
    let parent = earlier.parent.as_ref().map(|parent| parent.id);
    let bandwidth = options.bandwidth(source);
    let (session, configured) =
        Session::open(options.transport, source, options.program, bandwidth, options.cancel)?;
    let mut run = Run::new(source, options, progress, session, earlier, &configured);
    let overhead = run.usual_overhead();
    let passed = run.pass(store, Mode::Survey)?;
    let over_link = passed.took;
    let stops = configured.quiesce.as_deref().is_some_and(|how| how != "none") && !options.live_only;
    let keeping = if stops { run.prepare()?.unwrap_or_default() } else { Keeping::default() };
    let lead = configured.lead_millis;
    let window = stops.then(|| WindowForecast::of(source, overhead, over_link, keeping.takes(), lead));
    let freeze = stops.then(|| keeping.describe());
    let copy = run.last(passed, false, None);
    let Run { session, missing, .. } = run;
    let host = session.host().to_owned();
    session.close();
    Ok(Survey {
        message_type: "summary",
        dry_run: true,
        source: source.name.as_str().to_owned(),
        host,
        quiesce: if options.live_only { None } else { configured.quiesce },
        freeze,
        roots: configured.roots,
        parent,
        files: copy.tally.files_seen,
        bytes: copy.tally.bytes_seen,
        files_to_read: copy.tally.files_changed,
        bytes_to_read: copy.tally.bytes_changed,
        window,
        problem_count: missing.count,
        problems: missing.listed.iter().map(ProblemSummary::from).collect(),
    })
}

/// A repository, if there is one, that only lends its base trees.
struct ReadOnly(Option<Reader>);

const NO_BASE: &str = "a base tree was asked for although there is none";
const NOTHING_WANTED: &str = "contents came although none were asked for";

impl Store for ReadOnly {
    fn known(&mut self, _: &ContentHash, _: u32) -> Result<Option<ChunkRef>, PullError> {
        Err(PullError::protocol(NOTHING_WANTED))
    }

    fn put(&mut self, _: &ContentHash, _: &[u8]) -> Result<ChunkRef, PullError> {
        Err(PullError::protocol(NOTHING_WANTED))
    }

    fn put_tree_chunk(&mut self, _: &[u8]) -> Result<ChunkRef, PullError> {
        Err(PullError::protocol(NOTHING_WANTED))
    }

    fn tree_nodes(&mut self, content: &[ChunkRef]) -> Result<Nodes, PullError> {
        match &mut self.0 {
            Some(reader) => Ok(Box::new(reader.tree_nodes(content).map(|node| Ok(node?)))),
            None => Err(PullError::protocol(NO_BASE)),
        }
    }

    fn tree_chunk(&mut self, chunk: &ChunkRef) -> Result<Vec<u8>, PullError> {
        match &mut self.0 {
            Some(reader) => Ok(reader.chunk(ChunkKind::Tree, chunk)?.to_vec()),
            None => Err(PullError::protocol(NO_BASE)),
        }
    }

    fn relies_on(&mut self, _: &ChunkRef) -> Result<bool, PullError> {
        Ok(false)
    }

    fn keep(&mut self, _: Checkpoint) -> Result<(), PullError> {
        Ok(())
    }
}
