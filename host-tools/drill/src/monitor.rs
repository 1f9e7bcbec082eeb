//! Who hears what a drill does, and how the restorer's own words get there.

use std::sync::Mutex;
use std::sync::PoisonError;

use mailkeep_restorer::{RestoreMonitor, path::show};

use crate::report::Report;

/// What a drill is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The snapshot is looked through.
    Plan,
    /// It is rebuilt.
    Rebuild,
    /// What was rebuilt is read back.
    Contents,
    /// It is checked as mail.
    Mail,
    /// A Cyrus is started on it and asked.
    Cyrus,
}

/// Hears what a drill does. Called from several threads; must not block for long.
pub trait DrillMonitor: Sync {
    /// A stage begins. For stages that have a measure, so many files and bytes are ahead.
    fn stage(&self, stage: Stage, files: u64, bytes: u64);

    /// So many files and bytes of a stage are done.
    fn progress(&self, files: u64, bytes: u64);

    /// Something is wrong with the snapshot.
    fn problem(&self, path: &str, what: &str);
}

/// Takes the restorer's problems into the report.
pub(crate) struct Listener<'a> {
    pub(crate) monitor: &'a dyn DrillMonitor,
    pub(crate) report: Mutex<&'a mut Report>,
    /// Without root no owners are kept: that says nothing of the snapshot.
    pub(crate) root: bool,
}

impl RestoreMonitor for Listener<'_> {
    fn problem(&self, path: &[u8], what: &str) {
        // The one line that is about no name is about owners.
        if path.is_empty() && !self.root {
            return;
        }
        let path = show(path);
        self.monitor.problem(&path, what);
        self.report.lock().unwrap_or_else(PoisonError::into_inner).problem(&path, what);
    }

    fn progress(&self, files: u64, bytes: u64) {
        self.monitor.progress(files, bytes);
    }
}
