//! Every text that a person reads from this tool, in plain words: help, hints, headings, reports.
//!
//! Texts of errors that come from a library are the library's; what is added to them here is the hint.

pub(crate) mod drill;
pub(crate) mod look;
pub(crate) mod mail;
pub(crate) mod pairing;
pub(crate) mod rescue;
pub(crate) mod server;
pub(crate) mod the_box;

/// One line on what this is.
pub(crate) const ABOUT: &str =
    "Back up a mail server onto a disk, look into the backups, and get things back";

/// Shown under the list of verbs.
pub(crate) const AFTER_HELP: &str = "\
A repository is a folder on a disk. Name it with -r, MAILKEEP_REPO, or `repo` in the config file.
SNAPSHOT is an id, the beginning of one, or `latest`.

Exit codes: 0 done · 2 done, but some things could not be done · 1 failed · 11 repository locked · 64 usage ·
65 damaged data found · 75 disk or source absent · 77 wrong or missing key · 78 bad config · 130 interrupted";

/// Help of the global flags.
pub(crate) mod flag {
    pub(crate) const REPO: &str = "Folder of the repository [env: MAILKEEP_REPO]";
    pub(crate) const KEY_FILE: &str = "File with the box key or the recovery key [env: MAILKEEP_KEY_FILE] [default: box.key in the config folder]";
    pub(crate) const CONFIG: &str =
        "Config file (TOML: repo, key-file) [default: cli.toml in the config folder]";
    pub(crate) const JSON: &str = "Write one JSON object per line on stdout";
    pub(crate) const QUIET: &str = "Say only what was asked for, and errors";
    pub(crate) const VERBOSE: &str = "Say more; twice for the log of what is going on inside";
    pub(crate) const NO_PROGRESS: &str = "No progress bar and no status lines";
    pub(crate) const SNAPSHOT: &str = "Id, the beginning of an id, or `latest`";
    pub(crate) const SOURCE: &str = "Only snapshots of this source";
    pub(crate) const PATH_IN: &str = "Path as on the server";
}

/// Help of the verbs and of their own flags.
pub(crate) mod verb {
    pub(crate) const INIT: &str = "Make a repository in an empty or new folder";
    pub(crate) const INIT_LABEL: &str = "Name of the disk, as on its sticker [default: the folder's name]";
    pub(crate) const INIT_PLAIN: &str = "Leave it readable for everybody who has the disk";
    pub(crate) const INIT_RECOVERY: &str = "Write the recovery key to this new file instead of showing it";
    pub(crate) const BACKUP: &str = "Pull a source into the repository";
    pub(crate) const BACKUP_SOURCE: &str = "Source file (TOML)";
    pub(crate) const BACKUP_FORCE: &str =
        "Stop mail even if that is expected to take longer than the outage budget";
    pub(crate) const BACKUP_DRY: &str = "Only tell what would be done";
    pub(crate) const BACKUP_LIVE: &str = "Never stop mail; the snapshot is marked not consistent";
    pub(crate) const BACKUP_LIMIT: &str =
        "Take at most this much of the link while mail runs, as \"10 Mbit/s\"; goes before the source file";
    pub(crate) const BACKUP_CHECKPOINT: &str =
        "How often it is kept how far a first or long backup has come, as \"60s\" (5m unless said otherwise)";
    pub(crate) const SNAPSHOTS: &str = "List the snapshots";
    pub(crate) const SHOW: &str = "Show what is known of a snapshot: passes, window, versions, mail check";
    pub(crate) const LS: &str = "List a folder of a snapshot";
    pub(crate) const LS_RECURSIVE: &str = "Everything below, one line each";
    pub(crate) const FIND: &str = "Find names in all snapshots";
    pub(crate) const FIND_PATTERN: &str = "Name or path; *, ?, [a-z] and {a,b} are wildcards. With a / it is matched against \
                                           whole paths";
    pub(crate) const FIND_CASE: &str = "Upper and lower case are the same";
    pub(crate) const DIFF: &str =
        "Show what changed between two snapshots: + added, - removed, M contents, T kind";
    pub(crate) const DIFF_PATH: &str = "Only at and below this path";
    pub(crate) const DIFF_METADATA: &str =
        "Also show (as U) where only owner, mode, time or attributes changed";
    pub(crate) const MOUNT: &str = "Show the snapshots as read-only folders (FUSE)";
    pub(crate) const MOUNT_POINT: &str = "An existing folder";
    pub(crate) const MOUNT_OTHER: &str =
        "Let the other users of this machine in, with the permissions of the files";
    pub(crate) const MOUNT_FOREGROUND: &str = "Stay in the foreground until unmounted or interrupted";
    pub(crate) const RESTORE: &str = "Restore files into a folder, with their metadata";
    pub(crate) const RESTORE_TARGET: &str =
        "Folder that the files come into, with their whole paths below it";
    pub(crate) const RESTORE_PATH: &str = "Only this path of the snapshot (can be given several times)";
    pub(crate) const RESTORE_DELETE: &str =
        "Remove what the snapshot does not have, within the paths asked for";
    pub(crate) const RESTORE_DRY: &str = "Only show what would be done";
    pub(crate) const RESTORE_OVERWRITE: &str = "What to do with files that are there";
    pub(crate) const RESTORE_NUMERIC: &str =
        "Keep the numbers of owners instead of looking up their names here";
    pub(crate) const RESTORE_SPECIAL: &str = "Device files, setuid and setgid programs, file capabilities: `auto` keeps them of a generic source, and leaves them out \
                                             of a mail server, which has none by right";
    pub(crate) const VERIFY: &str = "Check that the repository is whole";
    pub(crate) const VERIFY_ALL: &str = "Read every byte as well";
    pub(crate) const VERIFY_SLICE: &str = "Read the n-th of t parts, for example 1/7 today and 2/7 tomorrow";
    pub(crate) const PRUNE: &str = "Remove old snapshots by rules, and give their room back";
    pub(crate) const PRUNE_LONG: &str = "Remove old snapshots by rules, and give their room back.\n\nEach rule keeps the \
        newest snapshot of as many hours, days, weeks, months or years as it says; only those that have a snapshot count, \
        and each rule looks only at what the rules before it have left. Every source is looked at by itself. The newest \
        snapshot of a source and its last consistent one always stay. Without a rule of a day or longer the newest of \
        each of the last three days stays too. Nothing of a source is removed while its newest snapshot is empty or \
        less than half of what it was, or while the clock cannot be right.\n\nThe room comes back in two steps: what \
        nothing needs any more is deleted once the grace period is over and another snapshot has been sealed. On a full \
        disk use --grace 0.";
    pub(crate) const PRUNE_LAST: &str = "Keep the newest N";
    pub(crate) const PRUNE_HOURLY: &str = "Keep the newest of each of N hours";
    pub(crate) const PRUNE_DAILY: &str = "Keep the newest of each of N days";
    pub(crate) const PRUNE_WEEKLY: &str = "Keep the newest of each of N weeks";
    pub(crate) const PRUNE_MONTHLY: &str = "Keep the newest of each of N months";
    pub(crate) const PRUNE_YEARLY: &str = "Keep the newest of each of N years";
    pub(crate) const PRUNE_DRY: &str = "Only show what would be done";
    pub(crate) const PRUNE_GRACE: &str =
        "How long what nothing needs stays for those who still read it, like 12h or 7d";
    pub(crate) const PRUNE_SHRUNK: &str =
        "Go on although a source is much smaller than it was: somebody has looked, and it is right";
    pub(crate) const VERIFY_NEXT: &str = "Read the next of K parts and remember on the disk that it was read, so that K runs \
                                          read everything [default K: 30]";
    pub(crate) const VERIFY_MAIL: &str =
        "Also hold the mail of each snapshot against its list of mailboxes and its indexes";
    pub(crate) const REINDEX: &str = "Make the index again from the packs";
    pub(crate) const REPAIR: &str =
        "Bring back what can be brought back; damaged files are moved to quarantine/, nothing is deleted";
    pub(crate) const REPAIR_DRY: &str = "Only show what would be done";
    pub(crate) const STATS: &str = "Show sizes and counts of the repository";
    pub(crate) const KEY: &str = "Look at the keys of the repository, add one, take one away";
    pub(crate) const KEY_ADD: &str = "Make one more recovery key and show it once";
    pub(crate) const KEY_REVOKE: &str = "Take a key away, so that it no longer opens this disk";
    pub(crate) const KEY_REVOKE_ID: &str = "Id of the key, as `key ls` shows it";
    pub(crate) const KEY_LS: &str = "List the keys that open it";
    pub(crate) const GUARDS: &str = "Look at the guards that btrfs keeps of earlier states, go back to one";
    pub(crate) const GUARDS_LIST: &str = "List the guards, the oldest first";
    pub(crate) const GUARDS_BACK: &str =
        "Go back to a guard: shows what would change; with --yes it is done. The replaced state is kept";
    pub(crate) const GUARDS_NAME: &str = "Name of the guard, as `guards list` shows it";
    pub(crate) const GUARDS_DRY: &str = "Only show what would change";
    pub(crate) const GUARDS_YES: &str = "Do it: you have seen what it changes";
    pub(crate) const UNLOCK: &str = "Remove the lock that another box left behind";
    pub(crate) const GENERATE: &str = "Write man pages or shell completions";
    pub(crate) const GENERATE_MAN: &str = "Manual page on stdout, or one page per verb into a folder";
    pub(crate) const GENERATE_MAN_OUT: &str = "Write one page per verb into this folder";
    pub(crate) const GENERATE_COMPLETIONS: &str = "Completions on stdout";
}

pub(crate) const NO_REPO: &str = "no repository is named";
pub(crate) const NO_REPO_HINT: &str = "give -r DIR, or set MAILKEEP_REPO or `repo` in the config file";
pub(crate) const KEY_MISSING_HINT: &str =
    "give the box key or the recovery key with --key-file FILE, or plug the disk into the box that made it";
pub(crate) const KEY_BAD_HINT: &str = "an age identity is expected: one line AGE-SECRET-KEY-1…";
pub(crate) const SPECIAL_HINT: &str =
    "what is left out comes with --special keep: do that only if you trust the server that it was on";
pub(crate) const NO_KEEP: &str = "no rule is given, so nothing would be kept";
pub(crate) const NO_KEEP_HINT: &str =
    "give --keep-last N or another --keep-…; --dry-run shows what it would do";
pub(crate) const INTERRUPTED: &str = "interrupted";
pub(crate) const STOPPING: &str = "stopping; once more to stop at once";
pub(crate) const NOTHING_SEALED_HINT: &str = "the repository is sound; run it again to go on";
pub(crate) const RESTORE_AGAIN_HINT: &str =
    "run it again with --overwrite if-changed to go on where it stopped";
pub(crate) const SLICE_FORM: &str = "a slice is written n/t with 1 ≤ n ≤ t ≤ 65535, as 2/7";
/// Parts of a whole disk for `--read-data-next` unless asked otherwise.
pub(crate) const SLICES: &str = "30";
pub(crate) const NEXT_FORM: &str = "a whole is 1 to 1000 parts, as --read-data-next=30";
pub(crate) const DAMAGE_HINT: &str = "`mailkeep repair` brings back what can be brought back; use another disk of the set \
                                      for the rest, and replace this one";

/// What is in a new key file beside the key.
pub(crate) const KEY_FILE_HEAD: &str = "\
# Mailkeep box key. It opens every repository that was made with it: keep it secret, keep a copy.
";

/// What is in a recovery file beside the key.
pub(crate) fn recovery_file(label: &str, repository: &str, key: &str) -> String {
    format!(
        "# Mailkeep recovery key of the disk \"{label}\" (repository {repository}).\n\
         # Keep it apart from the box and from the disk. To use it: mailkeep --key-file THIS-FILE -r DISK snapshots\n\
         {key}\n"
    )
}

/// How the recovery key is shown, once.
pub(crate) fn recovery_shown(key: &str) -> String {
    format!(
        "\nRecovery key: it opens this disk when the box is lost. It is shown this once and kept nowhere.\n\
         Print it or write it down, and keep it apart from box and disk:\n\n    {key}\n\n\
         To use it, put the line, or its groups, into a file and give that with --key-file."
    )
}

pub(crate) fn key_file_open_to_others(path: &str, mode: u32) -> String {
    format!("the key file {path} can be read by other users (mode {mode:o}); run `chmod 600 {path}`")
}

pub(crate) fn not_encrypted(place: &str) -> String {
    format!("the repository in {place} is not encrypted, although there is a box key; was this disk swapped?")
}

pub(crate) fn see_help(verbs: &[String]) -> String {
    let words = ["mailkeep"].into_iter().chain(verbs.iter().map(String::as_str)).chain(["--help"]);
    format!("see `{}`", words.collect::<Vec<_>>().join(" "))
}

/// What the verbs report.
pub(crate) mod report {
    use std::time::Duration;

    use mailkeep_puller::{Summary as Pulled, Survey, WindowForecast};
    use mailkeep_repository::retention::{Reason, Rule};
    use mailkeep_repository::{
        PruneReport, RepairPlan, RepairReport, RollBack, SnapshotEntry, SourceStatistics, Statistics,
    };
    use mailkeep_restorer::{Summary as Restored, Totals};

    use crate::units::{self, count, counted, size};

    pub(crate) const NO_SNAPSHOTS: &str = "No snapshots yet.";
    pub(crate) const NOTHING_FOUND: &str = "Nothing found.";
    pub(crate) const NO_LOCK: &str = "There was no lock.";
    pub(crate) const MOUNT_ENDS: &str = "Ctrl-C, or `umount` on it, takes them away again.";
    pub(crate) const READABLE_BY_ALL: &str = "It is not encrypted: whoever has the disk can read it.";
    pub(crate) const PLAIN_KEY: &str = "not encrypted: everybody can read it";
    pub(crate) const MAIL_STOPS: &str = "mail is being stopped";
    pub(crate) const MAIL_IS_BACK: &str = "mail is back";
    pub(crate) const CONSISTENT: &str = "yes: nothing moved under the copy";
    pub(crate) const NOT_CONSISTENT: &str =
        "no: taken while mail was running, or something moved under the copy";
    pub(crate) const KEY_MISWRITTEN: &str = "check the disk it is on; nothing was made with this key";

    /// Headings of the table of snapshots.
    pub(crate) const SNAPSHOT_COLUMNS: [&str; 11] = [
        "ID",
        "GEN",
        "TIME",
        "SOURCE",
        "CONSISTENT",
        "MAIL CHECK",
        "DRILL",
        "FILES",
        "SIZE",
        "ADDED",
        "MAIL STOPPED",
    ];
    /// Headings of the table of what a prune keeps and removes.
    pub(crate) const PRUNE_COLUMNS: [&str; 8] =
        ["", "ID", "GEN", "TIME", "SOURCE", "CONSISTENT", "FILES", "WHY"];

    /// Why a snapshot stays, as `prune` shows it.
    pub(crate) fn reason(reason: Reason) -> String {
        match reason {
            Reason::Rule(rule, number) => format!("{} {number}", rule_name(rule)),
            Reason::Newest => "newest".to_owned(),
            Reason::LastConsistent => "last consistent".to_owned(),
            Reason::Floor => "newest of its day".to_owned(),
            Reason::Misdated => "wrong date".to_owned(),
            Reason::Halted => "halted".to_owned(),
        }
    }

    fn rule_name(rule: Rule) -> &'static str {
        match rule {
            Rule::Last => "last",
            Rule::Hourly => "hourly",
            Rule::Daily => "daily",
            Rule::Weekly => "weekly",
            Rule::Monthly => "monthly",
            Rule::Yearly => "yearly",
        }
    }

    /// What a prune has done, or would do.
    pub(crate) fn pruned(report: &PruneReport, dry: bool, grace: f64) -> Vec<String> {
        let kept = report.lines.len() as u64 - report.removed();
        let would = if dry { "Nothing was changed. A prune would have: " } else { "" };
        let mut lines = vec![format!(
            "{would}{} removed, {} kept.",
            counted(report.removed(), "snapshot", "snapshots"),
            count(kept)
        )];
        let after = if grace > 0.0 { format!("{} and", units::duration(grace)) } else { String::new() };
        let (now, later) = (size(report.freed_bytes), size(report.later_bytes));
        lines.push(
            format!("Freed {now} now; {later} more after {after} another sealed snapshot.")
                .replace("  ", " "),
        );
        if report.copied_bytes > 0 {
            let packs = counted(report.repacked_packs, "pack that was", "packs that were");
            lines.push(format!("Copied {} out of {packs} mostly waste.", size(report.copied_bytes)));
        }
        if report.unreadable_directories > 0 {
            lines.push(
                "No pack was given up: directories cannot be read, so what they need is not known."
                    .to_owned(),
            );
        } else if report.damaged_packs + report.missing_chunks > 0 {
            lines.push("What may stand in for something damaged stays.".to_owned());
        }
        if report.short {
            lines.push("The disk is short of room; --grace 0 frees everything at once.".to_owned());
        }
        lines
    }

    /// Headings of the table of passes.
    pub(crate) const PASS_COLUMNS: [&str; 7] =
        ["PASS", "STARTED", "FILES SEEN", "CHANGED", "READ", "SENT", "TOOK"];
    /// Headings of the table of keys.
    pub(crate) const KEY_COLUMNS: [&str; 3] = ["ID", "ROLE", "COPIES"];
    /// Headings of the table of guards.
    pub(crate) const GUARD_COLUMNS: [&str; 5] = ["GUARD", "MADE BY", "SNAPSHOTS", "NEWEST", "TAKEN"];
    pub(crate) const NO_GUARDS: &str =
        "No guards here: they are kept on btrfs only, where the repository is a subvolume.";
    pub(crate) const NOT_CONFIRMED: &str = "nothing was changed";
    pub(crate) const NOT_CONFIRMED_HINT: &str = "if that is what you want, run it again with --yes";

    /// What going back changes, line by line.
    pub(crate) fn roll_back(plan: &RollBack) -> Vec<String> {
        let named = |entry: &SnapshotEntry| {
            let taken = units::local(entry.manifest.started);
            format!("{} of {} ({taken})", entry.manifest.generation, entry.manifest.source.name)
        };
        let list = |entries: &[SnapshotEntry]| entries.iter().map(named).collect::<Vec<_>>().join(", ");
        let mut lines = vec![format!("Going back to guard {}:", plan.guard)];
        if plan.broken {
            lines.push("The present state cannot be opened.".to_owned());
        }
        if !plan.lost.is_empty() {
            lines.push(format!("Snapshots that are gone then: {}.", list(&plan.lost)));
        }
        if !plan.regained.is_empty() {
            lines.push(format!("Snapshots that are back then: {}.", list(&plan.regained)));
        }
        if plan.lost.is_empty() && plan.regained.is_empty() {
            lines.push("The same snapshots are there then.".to_owned());
        }
        lines.push("The present state is kept beside the repository.".to_owned());
        lines
    }

    /// What a revocation does not do.
    pub(crate) const MASTER_STAYS: &str = "The key of the data itself is not changed: whoever had the revoked key and a copy of this disk or of its key \
         files can go on reading, also what is backed up from now on. To shut them out, make a new repository.";

    pub(crate) const NO_SOURCES: &str = "none yet";

    /// What one source has in the repository.
    pub(crate) fn source_sums(source: &SourceStatistics) -> String {
        format!(
            "{}: {}, newest {}, all {}, added {}",
            source.name,
            counted(source.snapshots, "snapshot", "snapshots"),
            size(source.newest_bytes),
            size(source.bytes),
            size(source.added_bytes)
        )
    }

    /// The rest of `stats`, line by line.
    pub(crate) fn statistics(all: &Statistics, bytes: u64, free: u64) -> Vec<(&'static str, String)> {
        let full: u64 = all.sources.iter().map(|source| source.bytes).sum();
        let snapshots = all.sources.iter().map(|source| source.snapshots).sum();
        let times =
            |whole, part| units::ratio(whole, part).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let mut lines = vec![
            (
                "Snapshots",
                format!("{}, {} as full copies", counted(snapshots, "snapshot", "snapshots"), size(full)),
            ),
            (
                "Different",
                format!("{} of data, used {} times", size(all.raw_bytes), times(full, all.raw_bytes)),
            ),
            (
                "Stored",
                format!(
                    "{} compressed, {} times smaller: {} in all",
                    size(all.stored_bytes),
                    times(all.raw_bytes, all.stored_bytes),
                    times(full, all.pack_bytes)
                ),
            ),
            (
                "Packs",
                format!(
                    "{}, {}; {}, {}",
                    counted(all.packs, "pack", "packs"),
                    size(all.pack_bytes),
                    counted(all.blocks, "block", "blocks"),
                    counted(all.chunks, "piece", "pieces")
                ),
            ),
            ("Index", format!("{}, {}", counted(all.index_runs, "run", "runs"), size(all.index_bytes))),
        ];
        if all.tombstoned_packs > 0 {
            let packs = counted(all.tombstoned_packs, "pack", "packs");
            lines.push((
                "Waste",
                format!("{packs}, {}: a later prune deletes them", size(all.tombstoned_bytes)),
            ));
        }
        if all.quarantine_bytes > 0 {
            lines.push(("Set aside", format!("{} in quarantine/", size(all.quarantine_bytes))));
        }
        let age = &all.verification;
        let mut read = match (age.last, age.oldest) {
            (Some(last), Some(oldest)) => {
                format!("last {}, longest ago {}", units::local(last), units::local(oldest))
            }
            (Some(last), None) => format!("last {}", units::local(last)),
            (None, _) => "never by the cursor (`mailkeep verify --read-data-next`)".to_owned(),
        };
        if age.last.is_some() && age.packs_waiting > 0 {
            read.push_str(&format!("; {} still to come", counted(age.packs_waiting, "pack", "packs")));
        }
        lines.push(("Read back", read));
        if age.damaged_packs > 0 || age.lost_snapshots > 0 {
            let packs = counted(age.damaged_packs, "pack", "packs");
            let lost = counted(age.lost_snapshots, "snapshot has", "snapshots have");
            lines.push(("DAMAGED", format!("{packs}; {lost} lost something: run `mailkeep repair`")));
        }
        lines.push(("In all", format!("{}, {} free", size(bytes), size(free))));
        lines
    }

    pub(crate) fn has_lost(snapshot: &str) -> String {
        format!(
            "DAMAGED: {snapshot} has lost something on this disk; `mailkeep verify` names it, the rest can be restored."
        )
    }

    pub(crate) fn key_added(id: &str) -> String {
        format!("Added the key {id}; its file was read back from the disk and opened with it.")
    }

    pub(crate) fn key_revoked(id: &str) -> String {
        format!("The key {id} no longer opens this disk.")
    }

    pub(crate) fn reindexed(packs: u64, chunks: u64, removed: u64, damaged: bool) -> String {
        let mut line = format!(
            "Made the index again: {} with {}; {} removed.",
            counted(packs, "pack", "packs"),
            counted(chunks, "piece", "pieces"),
            counted(removed, "old part", "old parts")
        );
        if damaged {
            line.push_str(" Damaged packs are left out (see above): run `mailkeep repair`.");
        }
        line
    }

    /// What a repair is going to do.
    pub(crate) fn repair_plan(plan: &RepairPlan) -> Vec<String> {
        if plan.is_empty() {
            return vec!["Nothing to repair.".to_owned()];
        }
        let mut lines = vec!["Plan:".to_owned()];
        lines.extend(
            plan.to_restore().iter().map(|path| format!("  bring back    {path} from its other copy")),
        );
        for pack in &plan.packs {
            let from = if pack.has_contents { "its good pieces" } else { "what the index knows of it" };
            lines.push(format!(
                "  salvage       packs/{:02x}/{} ({}): {from}",
                pack.id.0[0],
                pack.id,
                size(pack.bytes)
            ));
        }
        lines
            .extend(plan.to_quarantine().iter().map(|path| format!("  set aside     {path} -> quarantine/")));
        if plan.index || !plan.packs.is_empty() {
            lines.push("  make again    the index".to_owned());
        }
        if !plan.lost_snapshots.is_empty() {
            let snapshots = counted(plan.lost_snapshots.len() as u64, "snapshot", "snapshots");
            lines.push(format!(
                "  lost for good something in {snapshots}, named below; the rest of them can be restored"
            ));
        }
        lines
    }

    /// How a repair ended.
    pub(crate) fn repaired(done: &RepairReport, dry_run: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if dry_run {
            lines.push("Nothing was written.".to_owned());
        } else if !done.plan.is_empty() {
            lines.push(format!(
                "Repaired: {} brought back, {} salvaged, {} set aside in quarantine/.",
                counted(done.restored.len() as u64, "file", "files"),
                counted(done.salvaged, "piece", "pieces"),
                counted(done.quarantined.len() as u64, "file", "files")
            ));
        }
        if done.lost() {
            lines.push(
                "LOST on this disk: what is named above. Use another disk of the set for it; what the server still has \
                 comes back with the next backup."
                    .to_owned(),
            );
        }
        lines
    }

    pub(crate) fn yes_no(yes: bool) -> String {
        if yes { "yes" } else { "no" }.to_owned()
    }

    pub(crate) fn problems(number: u64) -> String {
        counted(number, "problem", "problems")
    }

    pub(crate) fn milliseconds(ms: u64) -> String {
        units::duration(ms as f64 / 1000.0)
    }

    pub(crate) fn made(id: &str, label: &str, path: &str) -> String {
        format!("Made the repository {id} (\"{label}\") in {path}")
    }

    pub(crate) fn box_key(path: &str, new: bool) -> String {
        if new {
            format!("New box key:   {path}   (keep a copy of it)")
        } else {
            format!("Box key:       {path}")
        }
    }

    pub(crate) fn recovery_kept(path: &str) -> String {
        format!("Recovery key:  {path}   (keep it apart from box and disk)")
    }

    pub(crate) fn keys_of(id: &str, label: &str) -> String {
        format!("Keys of the repository {id} (\"{label}\"):")
    }

    pub(crate) fn unlocked(holder: &str, renewed: &str) -> String {
        format!("Removed the lock of {holder}, last renewed {renewed}.")
    }

    pub(crate) fn pages_in(folder: &str) -> String {
        format!("Man pages are in {folder}")
    }

    pub(crate) fn mounted(snapshots: usize, point: &str) -> String {
        let snapshots = counted(snapshots as u64, "snapshot is", "snapshots are");
        format!("{snapshots} in {point}")
    }

    pub(crate) fn mounted_behind(point: &str) -> String {
        format!("The snapshots are in {point}; `umount {point}` takes them away again.")
    }

    pub(crate) fn found_in(snapshot: &str, time: &str, source: &str) -> String {
        format!("{snapshot} of {time}, {source}:")
    }

    /// What a restore is going to do.
    pub(crate) fn restore_plan(totals: &Totals) -> String {
        let mut words =
            vec![format!("{} to write ({})", counted(totals.files(), "file", "files"), size(totals.bytes))];
        for (number, what) in [
            (totals.replace, "of them over others"),
            (totals.amend, "to get other metadata"),
            (totals.skip, "to stay as they are"),
            (totals.delete, "to delete"),
            (totals.blocked, "impossible"),
            (totals.left_out, "left out (devices, setuid, capabilities)"),
        ] {
            if number > 0 {
                words.push(format!("{} {what}", count(number)));
            }
        }
        words.join(", ")
    }

    pub(crate) fn restore_begins(snapshot: &str, target: &str, totals: &Totals) -> String {
        format!("{snapshot} -> {target}: {}", restore_plan(totals))
    }

    pub(crate) fn restore_rehearsed(totals: &Totals) -> String {
        format!("Nothing was written. A restore would have {}.", restore_plan(totals))
    }

    /// What a restore has done.
    pub(crate) fn restored(summary: &Restored, target: &str) -> String {
        let files = counted(summary.files, "file", "files");
        let mut line = format!("Restored {files} ({}) into {target}", size(summary.bytes));
        for (number, what) in [
            (summary.skipped, "left as they were".to_owned()),
            (summary.amended, "given other metadata".to_owned()),
            (summary.deleted, "deleted".to_owned()),
        ] {
            if number > 0 {
                line.push_str(&format!(", {} {what}", count(number)));
            }
        }
        if summary.problems > 0 {
            line.push_str(&format!(", {} (see above)", problems(summary.problems)));
        }
        line
    }

    pub(crate) fn looked_at(snapshots: u64, folders: u64, packs: u64, read: Option<(u64, u64)>) -> String {
        let mut line = format!(
            "Looked at {}, {}, {}",
            counted(snapshots, "snapshot", "snapshots"),
            counted(folders, "folder", "folders"),
            counted(packs, "pack", "packs")
        );
        if let Some((bytes, pieces)) = read {
            line.push_str(&format!("; read {} with {}", size(bytes), counted(pieces, "piece", "pieces")));
        }
        line.push('.');
        line
    }

    /// What a mail check of all snapshots has looked at.
    pub(crate) fn mail_looked_at(snapshots: u64, mailboxes: u64, messages: u64, unchecked: u64) -> String {
        let mut line = format!(
            "Held the mail of {} against its indexes: {}, {}",
            counted(snapshots, "snapshot", "snapshots"),
            counted(mailboxes, "mailbox", "mailboxes"),
            counted(messages, "message", "messages")
        );
        if unchecked > 0 {
            line.push_str(&format!("; {} without mail", counted(unchecked, "snapshot", "snapshots")));
        }
        line.push('.');
        line
    }

    /// Of a snapshot that nobody promised to be whole.
    pub(crate) fn was_moving(what: &str) -> String {
        format!("{what} (as is to be expected: it was not taken from a server at rest)")
    }

    pub(crate) fn mail_verdict(number: u64) -> String {
        format!(
            "The repository can be read, but the mail in it is NOT whole: {} (see above); take another snapshot of it.",
            problems(number)
        )
    }

    pub(crate) fn verdict(damaged: bool, lost: bool, number: u64) -> String {
        match (damaged, lost) {
            (_, true) => format!("DAMAGED: {}; {}", problems(number), super::DAMAGE_HINT),
            (true, false) => format!("Damaged, but everything is still readable: {}.", problems(number)),
            (false, false) => "No problems.".to_owned(),
        }
    }

    /// What a backup has done, line by line. Text from the server is cleaned by `shown`.
    pub(crate) fn pulled(summary: &Pulled, id: &str, shown: &dyn Fn(&str) -> String) -> Vec<String> {
        let mut lines = vec![format!(
            "Snapshot {id} (generation {}) of {}: {}, {}; {} new on the disk; took {}.",
            summary.generation,
            summary.source,
            counted(summary.files, "file", "files"),
            size(summary.bytes),
            size(summary.added_bytes),
            units::duration(summary.seconds)
        )];
        lines.push(match (summary.window_ms.map(milliseconds), summary.consistent) {
            (Some(window), true) => format!("Mail was stopped for {window}; the copy is consistent."),
            (Some(window), false) => {
                format!("Mail was stopped for {window}, and yet the copy is NOT consistent.")
            }
            (None, true) => "The copy is consistent.".to_owned(),
            (None, false) => "Mail was not stopped: the copy is not consistent.".to_owned(),
        });
        if let Some(check) = &summary.mail_check {
            let verdict = if check.ok { "ok".to_owned() } else { problems(check.problems) };
            let mailboxes = counted(check.mailboxes, "mailbox", "mailboxes");
            let messages = counted(check.messages, "message", "messages");
            lines.push(format!("Mail check: {verdict} ({mailboxes}, {messages})."));
            if check.digests_compared > 0 {
                let new = counted(check.new_messages, "new message", "new messages");
                lines.push(format!(
                    "  Held against the index, letter by letter: {} of {new}.",
                    check.digests_compared
                ));
            }
            lines.extend(check.problem_list.iter().map(|problem| format!("  {}", shown(problem))));
        }
        lines.extend(summary.remarks.iter().map(|remark| format!("Note: {}", shown(remark))));
        if summary.problem_count > 0 {
            let things = counted(summary.problem_count, "thing", "things");
            lines.push(format!("{things} could not be backed up (see above)."));
        }
        lines
    }

    /// What a backup would do.
    pub(crate) fn surveyed(survey: &Survey, shown: &dyn Fn(&str) -> String) -> Vec<String> {
        let roots: Vec<String> = survey.roots.iter().map(|root| shown(root)).collect();
        let stop = match &survey.quiesce {
            Some(how) => format!("by {}", shown(how)),
            None => "not at all".to_owned(),
        };
        let parent = match &survey.parent {
            Some(parent) => format!("snapshot {}", parent.hex().chars().take(10).collect::<String>()),
            None => "nothing: it would be the first one".to_owned(),
        };
        let to_read = counted(survey.files_to_read, "file", "files");
        let all = counted(survey.files, "file", "files");
        let mut lines = vec![
            "Nothing was read, stored or stopped. A backup would".to_owned(),
            format!("  walk        {} on {}", roots.join(", "), shown(&survey.host)),
            format!("  stop mail   {stop}"),
        ];
        lines.extend(survey.freeze.iter().map(|how| format!("  keep        {}", shown(how))));
        let away = survey.window.iter().flat_map(window);
        lines.extend(away.map(|(heading, text)| format!("  {heading:<10}  {text}")));
        lines.push(format!(
            "  read        {to_read} ({}) of {all} ({})",
            size(survey.bytes_to_read),
            size(survey.bytes)
        ));
        lines.push(format!("  build on    {parent}"));
        lines
    }

    /// How long mail would be away, and what brings it back if nothing else does; by heading.
    pub(crate) fn window(window: &WindowForecast) -> Vec<(&'static str, String)> {
        let seconds = |ms: u64| format!("{:.1} s", Duration::from_millis(ms).as_secs_f64());
        let whole = |ms: u64| units::duration(Duration::from_millis(ms).as_secs_f64());
        let pass = seconds(window.pass_ms);
        let changed = if window.kept_on_server { "keep what changed" } else { "copy what changed" };
        let (total, deadline) = (seconds(window.total_ms), whole(window.deadline_ms));
        let away = match window.stop_start_ms {
            Some(ms) => format!(
                "about {total}: {} to stop and start it, as the last times, {pass} to look at all and {changed}",
                seconds(ms)
            ),
            None => format!(
                "{total} to look at all and {changed}, and what it takes to stop and start, which is not known yet"
            ),
        };
        let fits =
            if window.total_ms <= window.budget_ms { "" } else { "; it would NOT be stopped for longer" };
        let guard = match window.guard_lead_ms {
            Some(lead) => format!(
                "it answers again {deadline} after the stop at the latest; for that a guard starts it {} before",
                whole(lead)
            ),
            None => format!("it is started again {deadline} after the stop at the latest, by a guard"),
        };
        vec![
            ("mail away", away),
            ("allowed", format!("{} by outage-budget{fits}", whole(window.budget_ms))),
            ("guarded", guard),
        ]
    }
}
