//! What a run tells while it goes on: for the bar in a terminal, the lamps of the box and its status page.

/// What the run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reaching the server and agreeing on a protocol version.
    Connect,
    /// A traversal while mail runs.
    Live,
    /// Mail is being stopped.
    Stopping,
    /// The traversal while mail is stopped.
    Final,
    /// Mail is being started.
    Starting,
    /// What is left is written to the disk.
    Transfer,
    /// The copy is checked as mail.
    Check,
    /// The snapshot is made durable.
    Sealing,
}

impl Phase {
    /// One word for logs, JSON and people.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Connect => "connect",
            Phase::Live => "live",
            Phase::Stopping => "stopping",
            Phase::Final => "final",
            Phase::Starting => "starting",
            Phase::Transfer => "transfer",
            Phase::Check => "check",
            Phase::Sealing => "sealing",
        }
    }
}

/// Where the run stands. Counts are of the current pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// Number of the current or last pass, from 1; 0 before the first.
    pub pass: u32,
    /// Files listed and dealt with.
    pub files_done: u64,
    /// Files to expect, where an earlier pass or snapshot tells.
    pub files_total: Option<u64>,
    /// Bytes of files dealt with, read or not.
    pub bytes_done: u64,
    /// Bytes to expect, where an earlier pass or snapshot tells.
    pub bytes_total: Option<u64>,
}

/// Takes the news of a run. Problems may come from several threads, all else comes from the thread that pulls; no call
/// may block.
pub trait Progress: Sync {
    /// Where the run stands; at each change of phase and at most ten times a second otherwise.
    fn update(&self, status: &Status);

    /// Something could not be done; the run goes on. `path` is empty if it concerns none.
    fn problem(&self, what: &str, path: &str);

    /// The window opens (mail is being stopped) or is closed (mail answers again, or can no longer be waited for).
    fn window(&self, open: bool);
}

/// Nobody is listening.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn update(&self, _: &Status) {}
    fn problem(&self, _: &str, _: &str) {}
    fn window(&self, _: bool) {}
}
