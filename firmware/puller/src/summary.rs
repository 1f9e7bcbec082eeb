//! What a run tells at its end: the `summary` object of INTERFACES.md, field by field.

use mailkeep_format::SnapshotId;
use mailkeep_format::manifest::{MailCheckRecord, Manifest, PassKind, PassRecord, Window};
use serde::Serialize;

use crate::digests::DigestCount;
use crate::tally::{Notice, Notices};

/// One finished backup.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Always `summary`; it tells the JSON lines of a run apart.
    pub message_type: &'static str,
    /// The source's name.
    pub source: String,
    /// The sealed snapshot.
    pub snapshot_id: SnapshotId,
    /// Its generation.
    pub generation: u64,
    /// Nothing moved under the copy.
    pub consistent: bool,
    /// The check as mail; `null` where there was none.
    pub mail_check: Option<MailCheckSummary>,
    /// The traversals, in order.
    pub passes: Vec<PassSummary>,
    /// From the stop command to the greeting, milliseconds; `null` if mail was not stopped.
    pub window_ms: Option<u64>,
    /// What the window was spent on; `null` if mail was not stopped.
    pub window_phases: Option<WindowPhases>,
    /// Files in the snapshot.
    pub files: u64,
    /// Sum of their sizes, bytes.
    pub bytes: u64,
    /// Bytes that the snapshot added to the repository.
    pub added_bytes: u64,
    /// Duration of the run.
    pub seconds: f64,
    /// Why the snapshot is not consistent, and what else a reader should know; one line each.
    pub remarks: Vec<String>,
    /// How many things could not be backed up.
    pub problem_count: u64,
    /// The first of them.
    pub problems: Vec<ProblemSummary>,
    /// What the person asked for was not fully reached (exit code 2).
    #[serde(skip)]
    pub incomplete: bool,
}

/// The check as mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MailCheckSummary {
    /// No problems.
    pub ok: bool,
    /// Mailboxes looked at.
    pub mailboxes: u64,
    /// Messages looked at.
    pub messages: u64,
    /// Message files that are new since the last checked snapshot.
    pub new_messages: u64,
    /// How many of them were held against the digest in their index.
    pub digests_compared: u64,
    /// How many problems there were.
    pub problems: u64,
    /// The first of them, one line each.
    pub problem_list: Vec<String>,
}

/// One traversal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PassSummary {
    /// `live` or `final`.
    pub kind: &'static str,
    /// Files listed.
    pub files_seen: u64,
    /// Files read.
    pub files_changed: u64,
    /// Bytes read on the server.
    pub bytes_read: u64,
    /// Bytes that crossed the link.
    pub bytes_sent: u64,
    /// Duration.
    pub seconds: f64,
}

/// What a window was spent on, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WindowPhases {
    /// Until nothing ran any more.
    pub stop_ms: u64,
    /// Export of the mailbox list.
    pub export_ms: u64,
    /// The final pass.
    pub freeze_ms: u64,
    /// Until mail answered again.
    pub start_ms: u64,
}

/// Something that could not be backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProblemSummary {
    /// What, in one line.
    pub what: String,
    /// On which path; may be empty.
    pub path: String,
}

impl Summary {
    /// The summary of a sealed snapshot.
    pub(crate) fn new(id: SnapshotId, manifest: &Manifest, problems: &Notices, seconds: f64) -> Self {
        let window = manifest.window.as_ref();
        let mail_check = manifest.mail_check.as_ref().map(|record| mail_check(record, &manifest.versions));
        let stopped = window.is_some();
        Summary {
            message_type: "summary",
            source: manifest.source.name.clone(),
            snapshot_id: id,
            generation: manifest.generation,
            consistent: manifest.consistent,
            incomplete: problems.count > 0
                || (stopped && !manifest.consistent)
                || mail_check.as_ref().is_some_and(|check| !check.ok),
            mail_check,
            passes: manifest.passes.iter().map(pass).collect(),
            window_ms: window.map(|window| window.total_ms),
            window_phases: window.map(phases),
            files: manifest.stats.files,
            bytes: manifest.stats.bytes,
            added_bytes: manifest.stats.added_bytes,
            seconds,
            remarks: manifest.remarks.clone(),
            problem_count: problems.count,
            problems: problems.listed.iter().map(ProblemSummary::from).collect(),
        }
    }

    /// 0 if all was done, 2 if some things could not be done: something is missing, mail was stopped and yet the
    /// copy is not consistent, or the check as mail found problems.
    pub fn exit_code(&self) -> u8 {
        if self.incomplete { 2 } else { 0 }
    }
}

impl From<&Notice> for ProblemSummary {
    fn from(notice: &Notice) -> Self {
        ProblemSummary { what: notice.what.clone(), path: notice.path.clone() }
    }
}

fn mail_check(record: &MailCheckRecord, versions: &[(String, String)]) -> MailCheckSummary {
    let digests = DigestCount::of(versions).unwrap_or_default();
    MailCheckSummary {
        new_messages: digests.new,
        digests_compared: digests.compared,
        ok: record.ok,
        mailboxes: record.mailboxes,
        messages: record.messages,
        problems: record.problem_count,
        problem_list: record.problems.clone(),
    }
}

fn pass(record: &PassRecord) -> PassSummary {
    PassSummary {
        kind: match record.kind {
            PassKind::Live => "live",
            PassKind::Final => "final",
        },
        files_seen: record.files_seen,
        files_changed: record.files_changed,
        bytes_read: record.bytes_read,
        bytes_sent: record.bytes_sent,
        seconds: record.millis as f64 / 1000.0,
    }
}

fn phases(window: &Window) -> WindowPhases {
    WindowPhases {
        stop_ms: window.stop_ms,
        export_ms: window.export_ms,
        freeze_ms: window.freeze_ms,
        start_ms: window.start_ms,
    }
}
