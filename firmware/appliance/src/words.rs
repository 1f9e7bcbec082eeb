//! Every text that a person at the box reads: notices, lamps in words, progress. Plain, short, and what to do.

use std::error::Error;

use chrono::{DateTime, Local};
use mailkeep_controller::{Fault, Lamp, Notice, Pattern, Phase};

use crate::engine::{News, Pruned, Sealed};

/// The one line for a restore by button, which this version does not do.
pub const RESTORE_NOT_AVAILABLE: &str = "restore by button is not available in this version";

/// A notice for people.
pub fn notice(notice: Notice) -> String {
    match notice {
        Notice::DiskReady => "Our disk is in. Press BACKUP to start a backup.".into(),
        Notice::DiskUnknown => {
            "This disk has no repository, so it is left alone. To use it: mailkeep init".into()
        }
        Notice::DiskForeign => "This disk belongs to another box, so it is left alone.".into(),
        Notice::InsertDisk => "A backup is wanted: insert a disk of this box.".into(),
        Notice::BackupStarted => "Backup started. Mail runs on.".into(),
        Notice::AlreadyRunning => "A backup is already running.".into(),
        Notice::BackupProven => "Backup done, read back and good.".into(),
        Notice::SafeToRemove => "The disk is flushed and unmounted: safe to remove.".into(),
        Notice::BusyNoEject => "The disk is in use: wait for the backup to end.".into(),
        Notice::NothingToEject => "There is nothing to eject.".into(),
        Notice::FaultRaised(fault) => format!("FAULT: {} Press BACKUP to acknowledge.", self::fault(fault)),
        Notice::FaultAcknowledged => "Fault acknowledged. Press BACKUP again to start a backup.".into(),
        Notice::Age(None) => "No proven backup is known (one long flash).".into(),
        Notice::Age(Some(1)) => "The newest proven backup is less than a day old (1 flash).".into(),
        Notice::Age(Some(days)) => format!("The newest proven backup is in its day {days} ({days} flashes)."),
        Notice::RestoreArmed => "Restore is armed: press BACKUP and RESTORE together within 10 s.".into(),
        Notice::RestoreDisarmed => "Restore is no longer armed.".into(),
        Notice::RestoreNotNow => {
            "Restore can't be armed now: it needs our disk, no running backup, and no new fault.".into()
        }
        Notice::Stopping => "Stopping.".into(),
    }
}

/// A fault, as a sentence.
pub fn fault(fault: Fault) -> &'static str {
    match fault {
        Fault::BackupFailed => "The backup failed; the log says why.",
        Fault::BackupNotProven => {
            "The backup is sealed, but something is missing or wrong in it; see the log."
        }
        Fault::DiskPulled => "The disk was pulled while in use. Put it back: the next backup finishes.",
        Fault::DiskUnreadable => "The disk can't be read. Try another one.",
        Fault::DiskOnlyReadable => {
            "The disk is failing: it can be restored from, but takes no more backups. Use another one."
        }
        Fault::EjectFailed => "The disk can't be unmounted: do not pull it. Hold BACKUP to try again.",
        Fault::DiskFull => "The disk is full. Insert another one.",
        Fault::RestoreFailed => "The restore was not done; the log says why.",
        Fault::MailDown => "Mail may not answer on the server. Look there now.",
        Fault::DiskSetback => {
            "The disk is not as the box left it: an older copy? Nothing is removed from it; see `mailkeep status`."
        }
        Fault::SourceShrank => {
            "A source has lost most of its files since an earlier backup. Look there; nothing old is removed."
        }
    }
}

/// What a lamp tells, in a few words.
pub fn lamp(lamp: Lamp, pattern: Pattern) -> &'static str {
    match (lamp, pattern) {
        (_, Pattern::Test) => "lamp test",
        (_, Pattern::Count(..)) => "age of last backup",
        (Lamp::Status, Pattern::Off) => "",
        (Lamp::Status, Pattern::Steady) => "last backup good",
        (Lamp::Status, Pattern::Slow) => "backup runs",
        (Lamp::Status, Pattern::Fast) => "mail is stopped",
        (Lamp::Status, Pattern::Double) => "backup is verified",
        (Lamp::Status, Pattern::Wink) => "no good backup yet",
        (Lamp::Disk, Pattern::Off) => "no disk",
        (Lamp::Disk, Pattern::Steady) => "safe to remove",
        (Lamp::Disk, Pattern::Slow) => "in use, do not remove",
        (Lamp::Disk, Pattern::Fast) => "insert or swap a disk",
        (Lamp::Disk, Pattern::Double | Pattern::Wink) => "unknown disk",
        (Lamp::Fault, Pattern::Off) => "fine",
        (Lamp::Fault, Pattern::Steady) => "fault, acknowledged",
        (Lamp::Fault, Pattern::Slow) => "backup overdue",
        (Lamp::Fault, Pattern::Fast) => "fault, new",
        (Lamp::Fault, Pattern::Double | Pattern::Wink) => "restore armed",
    }
}

/// A phase, in a few words.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Live => "live pass",
        Phase::Window => "window, mail is stopped",
        Phase::Transferring => "transfer",
        Phase::Verifying => "verify",
        Phase::Pruning => "old snapshots are removed",
    }
}

/// A line of progress.
pub fn progress(source: &str, in_phase: Phase, news: &News) -> String {
    let head = format!("{source}: {}", phase(in_phase));
    match news {
        News::Phase(_) | News::Sealed(_) | News::Pruned(_) | News::NotPruned(_) | News::Told(_) => head,
        News::Count { files: (files, all_files), bytes: (done, all) } => {
            let percent = match (all, all_files) {
                (Some(all), _) if *all > 0 => percent(*done, *all),
                (_, Some(all)) if *all > 0 => percent(*files, *all),
                _ => String::new(),
            };
            let of = all_files.map(|all| format!(" of {all}")).unwrap_or_default();
            format!("{head}  {files}{of} files, {}{percent}", size(*done))
        }
    }
}

/// What a sealed snapshot holds, in one line.
pub fn sealed(source: &str, sealed: &Sealed) -> String {
    let window = match sealed.window_ms {
        Some(millis) => format!(", mail was stopped for {}.{} s", millis / 1000, millis % 1000 / 100),
        None => String::new(),
    };
    let (files, added) = (sealed.files, size(sealed.added_bytes));
    format!("{source}: sealed as snapshot {}, {files} files, {added} added{window}.", sealed.generation)
}

/// What became of old snapshots, in one line; nothing if there was nothing to do.
pub fn pruned(pruned: &Pruned) -> Option<String> {
    let mut parts = Vec::new();
    if pruned.removed > 0 {
        let one = if pruned.removed == 1 { "snapshot" } else { "snapshots" };
        parts.push(format!("{} old {one} removed", pruned.removed));
    }
    if pruned.freed_bytes > 0 {
        parts.push(format!("{} freed", size(pruned.freed_bytes)));
    }
    parts.extend(pruned.remarks.iter().cloned());
    (!parts.is_empty()).then(|| format!("Retention: {}.", parts.join(", ")))
}

/// Another disk of the set is due.
pub fn swap(label: Option<&str>) -> String {
    match label {
        Some(label) => format!("It is time to swap: put in \"{label}\"."),
        None => "It is time to swap: put in another disk of the set.".to_owned(),
    }
}

/// Which disk is to be brought next.
pub fn bring(label: Option<&str>, by: Option<i64>) -> String {
    let disk = match label {
        Some(label) => format!("bring \"{label}\""),
        None => return "prepare another disk for the set".to_owned(),
    };
    let by = by.and_then(|by| DateTime::from_timestamp(by, 0)).map(|by| by.with_timezone(&Local));
    match by {
        Some(by) => format!("{disk} by {}", by.format("%A, %-d %B")),
        None => disk,
    }
}

/// A backup was broken off when the box went down.
pub const RESUMED: &str = "The box went down during a backup: it is made now.";

/// A command was taken.
pub const UNDER_WAY: &str = "It is under way.";

/// There is no job to end.
pub const NOTHING_TO_CANCEL: &str = "Nothing runs.";

/// A disk is trusted again.
pub const TRUSTED: &str = "The disk is taken as it is: old snapshots are removed from it again.";

/// It was not in doubt.
pub const NO_DOUBT: &str = "No disk of this id is in doubt.";

/// A disk was taken out of the set.
pub const FORGOTTEN: &str = "The disk does not belong to the set any more.";

/// It was not.
pub const NOT_FORGOTTEN: &str =
    "No disk of this id belongs to the set, or it is in the box: eject it and take it out first.";

/// The same, too often.
pub const NOT_RESUMED: &str =
    "The box went down during the same backup again and again: it is not begun by itself any more.";

/// Old snapshots could not be removed.
pub fn not_pruned(why: &str) -> String {
    format!("Retention: no old snapshot was removed now; the backup is good all the same: {why}")
}

/// Why neither standbys nor rescue kits are renewed.
pub const NO_TOOL: &str = "the program `mailkeep` is neither beside mailkeepd nor in PATH: install it";

/// A standby holds what was just backed up.
pub fn standby_is_current(standby: &str, source: &str) -> String {
    format!("Standby: {standby} holds the newest snapshot of {source}; mail stays down there.")
}

/// A standby could not be brought up to date.
pub fn standby_is_behind(standby: &str, why: &str) -> String {
    format!("Standby: {standby} is NOT up to date, the backup is good all the same: {why}")
}

/// What the disk carries for a rescue could not be renewed.
pub fn kit_is_old(why: &str) -> String {
    format!("Rescue kit: the disk's programs could not be renewed, the backup is good all the same: {why}")
}

fn percent(done: u64, all: u64) -> String {
    // An estimate from an earlier pass may be exceeded; 100 % is said only when it is done.
    let percent = (u128::from(done) * 100 / u128::from(all)).min(99);
    format!(", {percent} %")
}

/// A number of bytes.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        // Some libraries repeat their cause's text; saying it twice helps nobody.
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_well() {
        let count = |files, bytes| News::Count { files, bytes };
        for (news, line) in [
            (News::Phase(Phase::Live), "mail1: live pass"),
            (
                count((1200, Some(5000)), (2_500_000, Some(10_000_000))),
                "mail1: live pass  1200 of 5000 files, 2.5 MB, 25 %",
            ),
            (count((12, None), (999, None)), "mail1: live pass  12 files, 999 B"),
            (count((9, Some(4)), (u64::MAX, Some(1))), "mail1: live pass  9 of 4 files, 18446744.1 TB, 99 %"),
        ] {
            assert_eq!(progress("mail1", Phase::Live, &news), line);
        }
    }

    #[test]
    fn lamp_words_fit_into_their_box() {
        for lamp_name in Lamp::ALL {
            for pattern in [Pattern::Off, Pattern::Steady, Pattern::Slow, Pattern::Fast, Pattern::Double] {
                assert!(lamp(lamp_name, pattern).len() <= 22);
            }
        }
    }

    #[test]
    fn a_chain_of_errors_is_one_line_without_echo() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer\nfailed")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("inner"));
        assert_eq!(chain(&error), "outer failed: inner");
    }
}
