//! What long work tells while it goes on: trouble that does not end it, and how far it is.
//!
//! Nothing is swallowed: whatever a function does not return as an error and could not do, it reports here.

use std::fmt;
use std::sync::Mutex;

/// Something that is wrong with the repository but did not end the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file inside the repository, or the path inside a snapshot (`<snapshot>:/path`).
    pub path: String,
    /// One line: what is wrong with it.
    pub what: String,
    /// What it means for the data.
    pub severity: Severity,
}

/// What a problem means for the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is damaged: the trace of an interrupted run, which the next backup tidies up, or a file that is not ours.
    Note,
    /// Something on the disk is damaged or missing, but a copy or a rebuild stands in for it.
    Covered,
    /// Data that was sealed cannot be read from this disk.
    Lost,
}

impl Problem {
    pub(crate) fn new(severity: Severity, path: impl Into<String>, what: impl Into<String>) -> Self {
        Problem { path: path.into(), what: what.into(), severity }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Which part of the work is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Packs that no index run names are read.
    Index,
    /// New packs are read back.
    ReadBack,
    /// Manifests and trees are checked; counts directories.
    Structure,
    /// Pack files are read; counts bytes.
    Data,
    /// What is good in damaged packs is copied; counts packs.
    Salvage,
}

/// Receives problems and progress. Called from several threads.
pub trait Monitor: Sync {
    /// Something is wrong; the work goes on.
    fn problem(&self, problem: &Problem);

    /// `done` of `total` units of this phase are behind us (`total` is 0 while unknown).
    fn progress(&self, phase: Phase, done: u64, total: u64) {
        let _ = (phase, done, total);
    }
}

/// Turns problems into log events; for callers that have no user to tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogMonitor;

impl Monitor for LogMonitor {
    fn problem(&self, problem: &Problem) {
        tracing::warn!(path = problem.path, severity = ?problem.severity, "{}", problem.what);
    }
}

/// Keeps every problem, to be looked at afterwards.
#[derive(Debug, Default)]
pub struct Collected {
    problems: Mutex<Vec<Problem>>,
}

impl Collected {
    /// The problems so far, in order.
    pub fn problems(&self) -> Vec<Problem> {
        crate::sync::lock(&self.problems).clone()
    }
}

impl Monitor for Collected {
    fn problem(&self, problem: &Problem) {
        crate::sync::lock(&self.problems).push(problem.clone());
    }
}

/// Passes everything on and keeps the problems, for results that list them.
pub(crate) struct Counting<'a> {
    to: &'a dyn Monitor,
    pub(crate) kept: Collected,
}

impl<'a> Counting<'a> {
    pub(crate) fn new(to: &'a dyn Monitor) -> Self {
        Counting { to, kept: Collected::default() }
    }
}

impl Monitor for Counting<'_> {
    fn problem(&self, problem: &Problem) {
        self.kept.problem(problem);
        self.to.problem(problem);
    }

    fn progress(&self, phase: Phase, done: u64, total: u64) {
        self.to.progress(phase, done, total);
    }
}
