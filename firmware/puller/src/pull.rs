//! One run: greeting, live passes, window, check, seal.
//!
//! The order of things is the design's (§4). What is promised here: mail is only stopped when the window is expected to
//! fit; nothing is sealed as consistent under which anything moved; a run that ends early leaves the repository sound
//! and what was transferred for the next one.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mailkeep_format::manifest::{PassKind, PassRecord, SourceInfo, Stats, Window};
use mailkeep_format::{Checkpoint, ChunkRef, RepositoryId, SnapshotId, Timestamp, TreeSeen};
use mailkeep_link::message::{BeginPass, Configured, PassEnded, ToAgent, ToBox};
use mailkeep_link::version;
use mailkeep_mail::Source;
use mailkeep_mail::cyrus::Murder;
use mailkeep_mail::source::Rate;
use mailkeep_mail::write_once::WriteOnce;
use mailkeep_repository::{Draft, Monitor, Repository, SnapshotEntry, WriterOptions};

use crate::assemble::{Assembled, Assembly, Base, Mode};
use crate::budget::{LivePass, Step, after_live_pass, usual_overhead};
use crate::digests::{self, DigestCount};
use crate::doubles::{Part, murder_of};
use crate::keeping::Keeping;
use crate::known::KnownFolders;
use crate::limits::{
    KEPT_AFTER_AT_MOST, LISTED_MAX, PROGRESS_EVERY, UNSTOPPED_PASSES_MAX, WINDOWS_LOOKED_AT,
};
use crate::mail_check::Checked;
use crate::monitor::Forward;
use crate::relink::{Parted, relink};
use crate::session::Session;
use crate::store::{RepositoryStore, Store};
use crate::summary::Summary;
use crate::tally::{Notice, Notices, Tally};
use crate::transport::Transport;
use crate::walk::Walk;
use crate::{Phase, Progress, PullError, Status, mail_check, resume, text, walk};

/// Under which name the manifest's versions tell how the final pass was kept.
const FREEZE: &str = "freeze";

/// How a run is to be done.
#[derive(Clone, Copy)]
pub struct PullOptions<'a> {
    /// Open the window even if it is expected not to fit the outage budget.
    pub force_window: bool,
    /// Never stop mail; the snapshot is marked not consistent.
    pub live_only: bool,
    /// How the agent is reached.
    pub transport: &'a dyn Transport,
    /// Set from outside to end the run: mail is started first if it was stopped.
    pub cancel: &'a AtomicBool,
    /// How the repository is written.
    pub writer: &'a WriterOptions,
    /// Program and version, for the agent and the manifest: `mailkeep 0.1.0`.
    pub program: &'a str,
    /// What the link may take while mail runs, in place of what the source file says.
    pub bandwidth: Option<Rate>,
}

impl PullOptions<'_> {
    /// What the link may take, in bytes per second.
    pub(crate) fn bandwidth(&self, source: &Source) -> Option<u64> {
        self.bandwidth.or(source.limits.bandwidth).map(Rate::bytes_per_second)
    }
}

impl std::fmt::Debug for PullOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullOptions")
            .field("force_window", &self.force_window)
            .field("live_only", &self.live_only)
            .finish_non_exhaustive()
    }
}

/// Backs up `source` into `repository`.
///
/// # Errors
/// [`PullError`], whose [`PullError::exit_code`] fits INTERFACES.md. Nothing was sealed then, and mail is running or is
/// being started.
pub fn pull(
    repository: &Repository,
    source: &Source,
    options: &PullOptions<'_>,
    progress: &dyn Progress,
) -> Result<Summary, PullError> {
    let clock = Instant::now();
    let started = unix_seconds();
    let span = tracing::info_span!("pull", source = source.name.as_str());
    let _entered = span.enter();
    let monitor = Forward::new(progress);
    let mut store = RepositoryStore::new(repository.writer(options.writer, &monitor)?);
    let mut earlier = Earlier::find(repository, source, &monitor)?;
    let others = std::mem::take(&mut earlier.others);
    let checked_before = earlier.checked.take();
    progress.update(&Status::of(Phase::Connect));
    let bandwidth = options.bandwidth(source);
    let (session, configured) =
        Session::open(options.transport, source, options.program, bandwidth, options.cancel)?;
    let mut run = Run::new(source, options, progress, session, earlier, &configured);
    // After an error the writer keeps what came over, so that it is never sent twice, and what was read is not read again.
    let mut copy = match run.copy(&mut store, configured.quiesce.is_some()) {
        Ok(copy) => copy,
        Err(error) => {
            run.keep_what_is_read(&mut store);
            return Err(error);
        }
    };
    let Run {
        session,
        passes,
        missing,
        mut remarks,
        mut reporter,
        walk,
        rules,
        contradictions,
        how_frozen,
        parted,
        ..
    } = run;
    let host = session.host().to_owned();
    session.close();

    reporter.phase(Phase::Transfer);
    store.flush()?;
    if !parted.is_empty() {
        match relink(&mut store, &copy.root, &parted) {
            Ok(Some((root, names))) => {
                tracing::info!(names, "links of messages in folders at rest");
                copy.root = root;
                store.flush()?;
            }
            Ok(None) => {}
            // Every file is there all the same; what cannot be written any more is told by the seal.
            Err(error) => {
                let what = "links of messages in folders at rest are not known, so they are stored as files of their own";
                remarks.add(format!("{what}: {}", mail_check::told(&error)), "");
            }
        }
    }
    let checked = if copy.window.is_some() {
        reporter.phase(Phase::Check);
        mail_check::run(source, store.reader(), &copy.root, checked_before)?
    } else {
        Checked::default()
    };
    if let Some(part) = &checked.part {
        let doubles = part.doubles(&others, &store.reader());
        reporter.problems(&doubles);
        remarks.append(&doubles);
    }
    reporter.phase(Phase::Sealing);
    let mut versions = versions(configured.versions);
    // What the box itself says there no server says for it.
    const OURS: [&str; 4] = [walk::NAME, FREEZE, Murder::RECORD, digests::NAME];
    versions.retain(|(name, _)| !OURS.contains(&name.as_str()));
    versions.extend(how_frozen.map(|how| (FREEZE.to_owned(), how)));
    versions.extend(checked.part.as_ref().map(Part::record));
    versions.extend(checked.digests.map(DigestCount::record));
    // What the snapshot lacks the next run has to look for.
    versions.extend(walk::record(walk, rules.as_deref(), contradictions).filter(|_| missing.is_empty()));
    let remarks = manifest_remarks(&remarks, &missing);
    let draft = Draft {
        program: options.program.to_owned(),
        source: SourceInfo {
            name: source.name.as_str().to_owned(),
            system: source.system.word().to_owned(),
            host,
        },
        started,
        consistent: copy.consistent,
        remarks,
        passes,
        window: copy.window,
        versions,
        users: owners(copy.ended.users),
        groups: owners(copy.ended.groups),
        root: copy.root,
        stats: Stats {
            files: copy.tally.files,
            directories: copy.tally.directories,
            bytes: copy.tally.bytes,
            added_bytes: 0,
        },
        mail_check: checked.record,
    };
    let sealed = store.seal(draft, &monitor)?;
    tracing::info!(snapshot = %sealed.id, consistent = copy.consistent, "sealed");
    Ok(Summary::new(sealed.id, &sealed.manifest, &missing, clock.elapsed().as_secs_f64()))
}

/// What the passes and the window brought.
pub(crate) struct Copy {
    pub(crate) root: Vec<ChunkRef>,
    pub(crate) tally: Tally,
    pub(crate) ended: PassEnded,
    pub(crate) consistent: bool,
    pub(crate) window: Option<Window>,
}

/// A finished pass with all that belongs to it.
pub(crate) struct Passed {
    pub(crate) assembled: Assembled,
    pub(crate) ended: PassEnded,
    pub(crate) record: PassRecord,
    pub(crate) took: Duration,
    /// What the agent could not do meanwhile.
    pub(crate) missing: Notices,
    pub(crate) remarks: Notices,
}

/// What the repository knows of the source.
pub(crate) struct Earlier {
    /// Its newest snapshot.
    pub(crate) parent: Option<SnapshotEntry>,
    /// The windows of its latest snapshots.
    windows: Vec<Window>,
    /// The tree of its newest snapshot that was checked as mail.
    checked: Option<Vec<ChunkRef>>,
    /// The newest snapshots of other sources that say which Murder they belong to.
    others: Vec<SnapshotEntry>,
    /// How far a run had come that was cut off since.
    checkpoint: Option<Checkpoint>,
}

impl Earlier {
    /// Nothing is known of it.
    pub(crate) fn none() -> Self {
        Earlier { parent: None, windows: Vec::new(), checked: None, others: Vec::new(), checkpoint: None }
    }

    pub(crate) fn find(
        repository: &Repository,
        source: &Source,
        monitor: &dyn Monitor,
    ) -> Result<Self, PullError> {
        let mut entries = repository.snapshots(monitor)?;
        let mut others: BTreeMap<String, SnapshotEntry> = BTreeMap::new();
        // Ascending by generation: the newest of each is the last.
        for entry in entries.iter().filter(|entry| entry.manifest.source.name != source.name.as_str()) {
            if murder_of(entry).is_some() {
                others.insert(entry.manifest.source.name.clone(), entry.clone());
            }
        }
        entries.retain(|entry| entry.manifest.source.name == source.name.as_str());
        let windows = entries.iter().rev().filter_map(|entry| entry.manifest.window).take(WINDOWS_LOOKED_AT);
        let windows = windows.collect();
        let checked = entries.iter().rev().find(|entry| entry.manifest.mail_check.is_some());
        let checked = checked.map(|entry| entry.manifest.root.clone());
        let others = others.into_values().collect();
        let checkpoint = repository.checkpoint(source.name.as_str(), monitor)?;
        Ok(Earlier { parent: entries.pop(), windows, checked, others, checkpoint })
    }
}

/// A run that is going on.
pub(crate) struct Run<'a> {
    pub(crate) source: &'a Source,
    options: &'a PullOptions<'a>,
    pub(crate) session: Session<'a>,
    pub(crate) reporter: Reporter<'a>,
    windows: Vec<Window>,
    base: Option<Base>,
    /// What the agent was told of the base, or is to be told.
    known: KnownFolders,
    /// What the base counts, if it lacks nothing that the agent has seen.
    whole: Option<Tally>,
    /// The agent was told to remember the base, which counts this.
    remembered: Option<Tally>,
    /// The agent was told that nothing is here.
    unasked: bool,
    /// How the first pass looks at the source, and by which rules the agent goes.
    walk: Walk,
    rules: Option<String>,
    contradictions: u64,
    /// Files that have more names than their passes met.
    parted: Parted,
    /// How what the final pass brought was kept while mail was stopped.
    pub(crate) how_frozen: Option<String>,
    /// Owners that were named in any pass: of folders that are not listed they are not named again.
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
    passes: Vec<PassRecord>,
    /// The newest snapshot.
    newest: Option<SnapshotId>,
    /// How far a run had come that was cut off since.
    checkpoint: Option<Checkpoint>,
    /// When it was last kept how far this one has come; and whether all that was read is in that.
    kept: (Instant, bool),
    /// What the snapshot will lack.
    pub(crate) missing: Notices,
    /// What else is to be told.
    pub(crate) remarks: Notices,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        source: &'a Source,
        options: &'a PullOptions<'a>,
        progress: &'a dyn Progress,
        mut session: Session<'a>,
        earlier: Earlier,
        configured: &Configured,
    ) -> Self {
        let (missing, mut remarks) = session.take_notices();
        if configured.rescued {
            remarks.add("an earlier run had left mail stopped; the agent started it again", "");
        }
        let Earlier { parent, windows, checkpoint, .. } = earlier;
        let newest = parent.as_ref().map(|parent| parent.id);
        let checkpoint = checkpoint.filter(|checkpoint| resume::fits(checkpoint, &configured.host, newest));
        let base = parent.as_ref().and_then(|parent| base_of(parent, &configured.host));
        let rules = configured.rules.as_deref().map(text::line);
        let versions = parent.as_ref().map(|parent| parent.manifest.versions.as_slice());
        let walk = walk::plan(versions.filter(|_| base.is_some()), rules.as_deref());
        let (mut users, mut groups) = (BTreeMap::new(), BTreeMap::new());
        if let (Walk::Cheap { .. }, Some(parent)) = (walk, &parent) {
            users.extend(parent.manifest.users.iter().cloned());
            groups.extend(parent.manifest.groups.iter().cloned());
        }
        let reporter = Reporter::new(progress, parent.as_ref());
        let passes = Vec::new();
        let known = KnownFolders::default();
        let mut run = Run {
            source,
            options,
            session,
            reporter,
            windows,
            base,
            known,
            whole: None,
            remembered: None,
            unasked: false,
            walk,
            rules,
            contradictions: 0,
            parted: Parted::default(),
            how_frozen: None,
            users,
            groups,
            passes,
            newest,
            checkpoint,
            kept: (Instant::now(), true),
            missing,
            remarks,
        };
        run.reporter.problems(&run.missing);
        run.reporter.problems(&run.remarks);
        run
    }

    /// All passes, and the window among them.
    fn copy(&mut self, store: &mut RepositoryStore, can_stop: bool) -> Result<Copy, PullError> {
        self.go_on(store)?;
        self.know_parent(store)?;
        self.ask_nothing(store)?;
        if self.options.live_only {
            let passed = self.pass(store, Mode::Live)?;
            self.remarks.add("mail was running while this was copied (--live-only)", "");
            return Ok(self.last(passed, false, None));
        }
        if can_stop { self.stop_and_copy(store) } else { self.copy_until_quiet(store) }
    }

    /// Live passes until the window is short enough, then the window.
    fn stop_and_copy(&mut self, store: &mut RepositoryStore) -> Result<Copy, PullError> {
        let budget = self.source.outage_budget;
        let overhead = self.usual_overhead().unwrap_or_default();
        let mut lives = Vec::new();
        loop {
            let mut passed = self.pass(store, Mode::Live)?;
            let record = &passed.record;
            lives.push(LivePass { took: passed.took, files: record.files_seen, bytes: record.bytes_read });
            self.next_base(&mut passed);
            // Its trees are the base of the next pass, and what is on the disk need not be written in the window.
            store.flush()?;
            // Of a pass that took so long nobody knows what changed meanwhile; the next one tells.
            let foreseeable = passed.took <= KEPT_AFTER_AT_MOST || lives.len() > 1;
            let prepared = if foreseeable { self.prepare()? } else { None };
            let kept = prepared.as_ref().and_then(Keeping::takes);
            match after_live_pass(&lives, overhead, kept, budget, self.options.force_window) {
                Step::Again => self.tell_known(false)?,
                Step::GiveUp { forecast } => return Err(PullError::OverBudget { forecast, budget }),
                Step::Stop => {
                    self.tell_known(true)?;
                    return self.copy_in_window(store, prepared);
                }
            }
        }
    }

    /// A source that cannot be stopped: passes until nothing moves from one to the next.
    fn copy_until_quiet(&mut self, store: &mut RepositoryStore) -> Result<Copy, PullError> {
        loop {
            let mut passed = self.pass(store, Mode::Live)?;
            let quiet = passed.assembled.tally.moved == 0
                && passed.assembled.unrest.is_empty()
                && passed.assembled.lost.is_empty();
            if quiet {
                return Ok(self.last(passed, true, None));
            }
            if self.passes.len() >= UNSTOPPED_PASSES_MAX as usize {
                let moved = passed.assembled.tally.moved.max(passed.assembled.unrest.count);
                self.remarks.add(
                    format!("the source does not come to rest: {moved} entries moved during the last pass"),
                    "",
                );
                for notice in passed.assembled.unrest.listed.iter().take(LISTED_MAX / 4) {
                    self.remarks.add(notice.what.clone(), notice.path.clone());
                }
                return Ok(self.last(passed, false, None));
            }
            self.next_base(&mut passed);
            self.tell_known(false)?;
            store.flush()?;
        }
    }

    /// What stop, export and start usually take; `None` where mail was never stopped.
    pub(crate) fn usual_overhead(&self) -> Option<Duration> {
        (!self.windows.is_empty()).then(|| usual_overhead(&self.windows, self.source.outage_budget))
    }

    /// How long mail may be away.
    pub(crate) fn outage_budget(&self) -> Duration {
        self.source.outage_budget
    }

    /// When the restart guard starts mail, in seconds after the stop.
    pub(crate) fn deadline_seconds(&self) -> u32 {
        u32::try_from(self.source.quiesce.deadline.as_secs()).unwrap_or(u32::MAX)
    }

    /// Compares with what a run had read that was cut off, if there was one. Without it everything is read again, and that is
    /// all: no trouble with it ends the run.
    fn go_on(&mut self, store: &mut RepositoryStore) -> Result<(), PullError> {
        let Some(checkpoint) = self.checkpoint.take() else { return Ok(()) };
        let parent = self.base.as_ref().map(|base| base.root.as_slice());
        let base = resume::base(store, &checkpoint, parent).and_then(|base| store.flush().map(|()| base));
        match base {
            Ok(base) => {
                tracing::info!(checkpoint = checkpoint.sequence, "goes on where a run was cut off");
                self.base = Some(base);
                self.walk = self.walk.resumed();
            }
            Err(error) => {
                tracing::warn!(
                    error = mail_check::told(&error),
                    "what a run had read that was cut off is read again"
                );
            }
        }
        Ok(())
    }

    /// Keeps how far this run has come: what a pass has seen, and what it was compared with.
    fn keep(
        &mut self,
        store: &mut dyn Store,
        seen: TreeSeen,
        compared_with: Option<TreeSeen>,
    ) -> Result<(), PullError> {
        let checkpoint = Checkpoint {
            format_version: 0,
            required_features: Vec::new(),
            repository: RepositoryId([0; 16]),
            sequence: 0,
            program: self.options.program.to_owned(),
            source: self.source.name.as_str().to_owned(),
            host: text::line(self.session.host()),
            snapshot: self.newest,
            seen,
            compared_with,
        };
        store.keep(checkpoint)?;
        self.kept = (Instant::now(), true);
        Ok(())
    }

    /// Keeps what a live pass that is under way has read.
    fn keep_pass(
        &mut self,
        store: &mut dyn Store,
        assembly: &Assembly,
        clock: Timestamp,
    ) -> Result<(), PullError> {
        if assembly.tally().files_done == 0 {
            return Ok(());
        }
        let Some(root) = assembly.so_far(store)? else { return Ok(()) };
        let before = self.base.as_ref().map(|base| TreeSeen { clock: base.clock, root: base.root.clone() });
        self.keep(store, TreeSeen { clock, root }, before)
    }

    /// After a failure: the last live pass that was whole, if what it read is not kept already. A disk that cannot be written
    /// has told that before.
    fn keep_what_is_read(&mut self, store: &mut dyn Store) {
        let Some(Base { root, clock }) = self.base.clone().filter(|_| !self.kept.1) else { return };
        if let Err(error) = self.keep(store, TreeSeen { clock, root }, None) {
            tracing::warn!(error = mail_check::told(&error), "what was read is read again by the next run");
        }
    }

    /// Gathers from the parent's tree what the first pass need not look at, or has to compare.
    fn know_parent(&mut self, store: &mut dyn Store) -> Result<(), PullError> {
        let (Some(base), true) = (&self.base, matches!(self.walk, Walk::Cheap { .. } | Walk::Full)) else {
            return Ok(());
        };
        // Patterns that are none the agent has refused.
        let Ok(Some(rule)) = WriteOnce::of(self.source) else { return Ok(()) };
        self.known = walk::scan(store, &base.root, base.clock, &rule)?;
        if let Walk::Cheap { .. } = self.walk {
            for known in self.known.messages(base.clock) {
                self.session.say(ToAgent::Known(known))?;
            }
        }
        Ok(())
    }

    /// A repository that holds nothing has no answers: what there is of the source is wanted as a whole. Where no network lies
    /// between, what comes twice costs less than the questions.
    fn ask_nothing(&mut self, store: &RepositoryStore) -> Result<(), PullError> {
        let is_near = self.session.is_on_this_machine() && self.session.version() >= version::UNASKED;
        self.unasked = is_near && store.is_bare();
        if self.unasked { self.session.say(ToAgent::Unasked) } else { Ok(()) }
    }

    /// Makes a pass the base of the next.
    fn next_base(&mut self, passed: &mut Passed) {
        let assembled = &mut passed.assembled;
        self.base = Some(Base { root: assembled.root.clone(), clock: passed.record.clock });
        // What could not be looked at has to be said of the last pass too.
        let is_seen = passed.missing.is_empty();
        let learnt = std::mem::take(&mut assembled.known);
        self.known = if is_seen { learnt } else { KnownFolders::default() };
        let is_whole = is_seen && assembled.failures.is_empty() && assembled.lost.is_empty();
        self.whole = is_whole.then_some(assembled.tally);
    }

    /// Tells the agent what it need not look at again, or not speak of, in the next pass.
    fn tell_known(&mut self, next_is_final: bool) -> Result<(), PullError> {
        let Some(Base { clock, .. }) = self.base else { return Ok(()) };
        let version = self.session.version();
        self.remembered = self.whole.take().filter(|_| next_is_final && version >= version::REMEMBER);
        if self.remembered.is_some() {
            self.known = KnownFolders::default();
            return self.session.say(ToAgent::Remember);
        }
        if version < version::UNCHANGED {
            self.known = KnownFolders::default();
        }
        for known in self.known.messages(clock) {
            self.session.say(ToAgent::Known(known))?;
        }
        Ok(())
    }

    /// Keeps what the last pass noticed and makes its tree the result.
    pub(crate) fn last(&mut self, passed: Passed, consistent: bool, window: Option<Window>) -> Copy {
        let Passed { assembled, mut ended, missing, remarks, .. } = passed;
        if assembled.unlisted > 0 {
            ended.users = std::mem::take(&mut self.users).into_iter().collect();
            ended.groups = std::mem::take(&mut self.groups).into_iter().collect();
        }
        for lacking in [&missing, &assembled.failures, &assembled.lost] {
            self.reporter.problems(lacking);
            self.missing.append(lacking);
        }
        self.reporter.problems(&remarks);
        self.remarks.append(&remarks);
        Copy { root: assembled.root, tally: assembled.tally, ended, consistent, window }
    }

    /// One pass from its first word to its last.
    pub(crate) fn pass(&mut self, store: &mut dyn Store, mode: Mode) -> Result<Passed, PullError> {
        let clock = Instant::now();
        let number = self.reporter.next_pass(if mode == Mode::Final { Phase::Final } else { Phase::Live });
        self.session.say(ToAgent::BeginPass(BeginPass { number, is_final: mode == Mode::Final }))?;
        let begun = self.session.answer("PassBegun", |message| match message {
            ToBox::PassBegun(begun) => Some(begun),
            _ => None,
        })?;
        let known = std::mem::take(&mut self.known);
        let assembly = Assembly::new(mode, begun.clock, self.base.clone());
        let mut assembly = match self.walk {
            Walk::Full if self.passes.is_empty() => assembly.auditing(known),
            _ => assembly.knowing(known),
        };
        if let Some(tally) = self.remembered.take() {
            assembly = assembly.remembered(&tally);
        }
        if std::mem::take(&mut self.unasked) {
            assembly = assembly.unasked();
        }
        let is_live = mode == Mode::Live;
        let ended = match self.follow(&mut assembly, store, is_live.then_some(begun.clock)) {
            Ok(ended) => ended,
            Err(error) => {
                // After something out of order the assembly is of no use.
                let is_sound = is_live && !matches!(error, PullError::Protocol(_));
                if is_sound && self.keep_pass(store, &assembly, begun.clock).is_err() {
                    tracing::warn!("what was read is read again by the next run");
                }
                return Err(error);
            }
        };
        let mut assembled = assembly.end(&ended)?;
        if is_live && assembled.tally.files_done > 0 {
            self.kept.1 = false;
        }
        std::mem::take(&mut assembled.parted).into_iter().for_each(|node| self.parted.add(node));
        self.contradictions += assembled.contradictions.count;
        self.reporter.problems(&assembled.contradictions);
        self.remarks.append(&assembled.contradictions);
        self.users.extend(ended.users.iter().cloned());
        self.groups.extend(ended.groups.iter().cloned());
        let took = clock.elapsed();
        let tally = &assembled.tally;
        let record = PassRecord {
            kind: if mode == Mode::Final { PassKind::Final } else { PassKind::Live },
            clock: begun.clock,
            files_seen: tally.files_seen,
            files_changed: tally.files_changed,
            bytes_read: ended.bytes_read,
            bytes_sent: tally.bytes_sent,
            millis: millis(took),
        };
        tracing::info!(
            pass = number, kind = ?record.kind, files = tally.files_seen, changed = tally.files_changed,
            moved = tally.moved, unlisted = assembled.unlisted, sent = tally.bytes_sent, millis = record.millis, "pass ended"
        );
        self.reporter.finished(tally);
        self.passes.push(record);
        let (missing, remarks) = self.session.take_notices();
        Ok(Passed { assembled, ended, record, took, missing, remarks })
    }
}

impl Run<'_> {
    /// Takes what is said in a pass until its last word. What a live pass, which began at `clock`, has read is kept from time to
    /// time.
    fn follow(
        &mut self,
        assembly: &mut Assembly,
        store: &mut dyn Store,
        clock: Option<Timestamp>,
    ) -> Result<PassEnded, PullError> {
        let mut answers = Vec::new();
        loop {
            match self.session.hear()? {
                ToBox::PassEnded(ended) => return Ok(ended),
                message => assembly.take(message, store, &mut answers)?,
            }
            for answer in answers.drain(..) {
                self.session.say(answer)?;
            }
            self.reporter.tally(assembly.tally());
            if let Some(clock) =
                clock.filter(|_| self.kept.0.elapsed() >= self.options.writer.checkpoint_every)
            {
                // Whether there was something to keep or not: it is looked at again after as long a time.
                self.kept.0 = Instant::now();
                self.keep_pass(store, assembly, clock)?;
            }
        }
    }
}

/// The parent as a base, if it comes from this very machine: inode numbers and clocks of another say nothing.
pub(crate) fn base_of(parent: &SnapshotEntry, host: &str) -> Option<Base> {
    let manifest = &parent.manifest;
    let last = manifest.passes.last()?;
    (manifest.source.host == text::line(host))
        .then(|| Base { root: manifest.root.clone(), clock: last.clock })
}

/// Tells [`Progress`] where the run stands, not too often, and every problem once.
pub(crate) struct Reporter<'a> {
    progress: &'a dyn Progress,
    status: Status,
    told_at: Instant,
    told: HashSet<(String, String)>,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(progress: &'a dyn Progress, parent: Option<&SnapshotEntry>) -> Self {
        let mut status = Status::of(Phase::Connect);
        status.files_total = parent.map(|parent| parent.manifest.stats.files);
        status.bytes_total = parent.map(|parent| parent.manifest.stats.bytes);
        Reporter { progress, status, told_at: Instant::now(), told: HashSet::new() }
    }

    pub(crate) fn phase(&mut self, phase: Phase) {
        self.status.phase = phase;
        self.progress.update(&self.status);
    }

    pub(crate) fn window(&self, open: bool) {
        self.progress.window(open);
    }

    fn next_pass(&mut self, phase: Phase) -> u32 {
        self.status.pass += 1;
        self.status.files_done = 0;
        self.status.bytes_done = 0;
        self.phase(phase);
        self.status.pass
    }

    fn tally(&mut self, tally: &Tally) {
        self.status.files_done = tally.files_seen - tally.files_changed + tally.files_done;
        self.status.bytes_done =
            tally.bytes_seen.saturating_sub(tally.bytes_changed).saturating_add(tally.bytes_done);
        if self.told_at.elapsed() >= PROGRESS_EVERY {
            self.told_at = Instant::now();
            self.progress.update(&self.status);
        }
    }

    fn finished(&mut self, tally: &Tally) {
        self.status.files_total = Some(tally.files_seen);
        self.status.bytes_total = Some(tally.bytes_seen);
        self.told_at = Instant::now();
        self.progress.update(&self.status);
    }

    pub(crate) fn problem(&mut self, what: &str) {
        self.progress.problem(what, "");
    }

    pub(crate) fn problems(&mut self, notices: &Notices) {
        for Notice { what, path } in &notices.listed {
            if self.told.insert((what.clone(), path.clone())) {
                self.progress.problem(what, path);
            }
        }
    }
}

impl Status {
    fn of(phase: Phase) -> Self {
        Status { phase, pass: 0, files_done: 0, files_total: None, bytes_done: 0, bytes_total: None }
    }
}

fn manifest_remarks(remarks: &Notices, missing: &Notices) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for notices in [remarks, missing] {
        lines.extend(notices.listed.iter().map(|Notice { what, path }| {
            if path.is_empty() { what.clone() } else { format!("{path}: {what}") }
        }));
        let more = notices.count - notices.listed.len() as u64;
        if more > 0 {
            lines.push(format!("and {more} more of this kind"));
        }
    }
    lines
}

/// Sorted, one name each, and only as long as names are.
fn owners(names: Vec<(u32, String)>) -> Vec<(u32, String)> {
    let mut names: Vec<(u32, String)> = names.into_iter().map(|(id, name)| (id, text::line(&name))).collect();
    names.sort();
    names.dedup_by_key(|(id, _)| *id);
    names
}

fn versions(versions: Vec<(String, String)>) -> Vec<(String, String)> {
    versions
        .into_iter()
        .take(LISTED_MAX)
        .map(|(name, version)| (text::line(&name), text::line(&version)))
        .collect()
}

fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
