//! Listens to the libraries: each has its own way of telling trouble and progress, and all of it ends on the console.

use std::sync::Arc;

use mailkeep_puller::Status;
use mailkeep_repository::{Monitor, Phase, Problem, Severity};
use mailkeep_restorer::{RestoreMonitor, path};

use crate::console::Console;
use crate::progress::Reading;
use crate::text::report;

/// The console as a monitor of whatever runs.
pub(crate) struct Ear {
    console: Arc<Console>,
    /// Bytes that a restore is going to write.
    total_bytes: u64,
    /// Names that a restore is going to deal with.
    total_files: u64,
}

impl Ear {
    /// Passes everything on.
    pub(crate) fn new(console: &Arc<Console>) -> Self {
        Ear { console: Arc::clone(console), total_bytes: 0, total_files: 0 }
    }

    /// For a restore of which the plan says how much it is.
    pub(crate) fn of_restore(console: &Arc<Console>, files: u64, bytes: u64) -> Self {
        Ear { console: Arc::clone(console), total_bytes: bytes, total_files: files }
    }
}

impl Monitor for Ear {
    fn problem(&self, problem: &Problem) {
        match problem.severity {
            Severity::Note => self.console.remark(&problem.path, &problem.what),
            Severity::Covered => self.console.covered(&problem.path, &problem.what),
            Severity::Lost => self.console.problem(&problem.path, &problem.what, true),
        }
    }

    fn progress(&self, phase: Phase, done: u64, total: u64) {
        let phase_word = match phase {
            Phase::Index => "index",
            Phase::ReadBack => "read back",
            Phase::Structure => "structure",
            Phase::Data => "data",
            Phase::Salvage => "salvage",
        };
        let bytes = matches!(phase, Phase::ReadBack | Phase::Data);
        self.console.progress(&Reading {
            phase: phase_word,
            files_done: if bytes { 0 } else { done },
            bytes_done: if bytes { done } else { 0 },
            part: Some((done, total)),
        });
    }
}

impl RestoreMonitor for Ear {
    fn problem(&self, path: &[u8], what: &str) {
        self.console.problem(&path::show(path), what, false);
    }

    fn progress(&self, files: u64, bytes: u64) {
        // Small files cost as much as their bytes do: an empty one counts as 4 KiB.
        let weigh = |files: u64, bytes: u64| bytes.saturating_add(files.saturating_mul(4096));
        let part = (weigh(files, bytes), weigh(self.total_files, self.total_bytes));
        self.console.progress(&Reading {
            phase: "restore",
            files_done: files,
            bytes_done: bytes,
            part: Some(part),
        });
    }
}

impl mailkeep_puller::Progress for Ear {
    fn update(&self, status: &Status) {
        let pair = |done: u64, total: Option<u64>| total.map(|total| (done, total));
        self.console.progress(&Reading {
            phase: status.phase.word(),
            files_done: status.files_done,
            bytes_done: status.bytes_done,
            part: pair(status.files_done, status.files_total)
                .or_else(|| pair(status.bytes_done, status.bytes_total)),
        });
    }

    fn problem(&self, what: &str, path: &str) {
        self.console.problem(&path::show(path.as_bytes()), what, false);
    }

    fn window(&self, open: bool) {
        if self.console.verbose() {
            self.console.note(if open { report::MAIL_STOPS } else { report::MAIL_IS_BACK });
        }
    }
}
