//! The words of `restore-server` and `promote`: help, the plan, the question, reports.

use mailkeep_rebuild::Plan;
use mailkeep_restorer::path;

use crate::units::{counted, size};

pub(crate) const ABOUT: &str = "Put a whole mail server back, or keep a standby";
pub(crate) const LONG: &str = "\
Put a whole mail server back from a snapshot, through the agent on that server.

Shows first what would be done. What the server has already is not sent. The trees of mail are built beside those that are
served while mail runs, with the list of mailboxes imported anew where the server has a newer Cyrus; then mail is stopped under the restart guard, the trees are exchanged, and mail is started and has
to greet. Whatever dies on the way, mail comes back on all old or all new trees. The old ones are kept beside until
--drop-old. Configuration files and passwords outside of the trees are not touched.

With --as-standby mail is stopped there and stays so until `mailkeep promote`; the source file needs a section [standby].";
pub(crate) const SOURCE: &str = "Source file of the server";
pub(crate) const DRY: &str = "Only show what would be done";
pub(crate) const YES: &str = "Do it without asking";
pub(crate) const STANDBY: &str = "Keep a second server ready: mail stays stopped there";
pub(crate) const IMAP: &str =
    "Log in there afterwards as this administrator, imaps://ADMIN@HOST, and compare what people see";
pub(crate) const DROP: &str =
    "Remove the trees that earlier restores have kept beside, or left there when they broke off";
pub(crate) const PROMOTE: &str = "Start mail on a standby and let it take over";
pub(crate) const PROMOTE_LONG: &str = "\
Start mail on a standby and let it take over.

Mail has to greet; then the commands in `hooks` of [standby] in the source file are run on that server, which move the
address that users know. They find ARMS_EVENT (START or FAILOVER), MAILKEEP_SOURCE and MAILKEEP_SNAPSHOT in their
environment.";
pub(crate) const EVENT: &str = "What the hooks are told in ARMS_EVENT";
pub(crate) const NOT_CONFIRMED: &str = "nothing was done, because nobody said yes";
pub(crate) const NOT_CONFIRMED_HINT: &str = "say --yes to do what was shown";
pub(crate) const QUESTION: &str = "Do this? Write yes or no: ";

/// How the server was looked at after it came up: whether all names are those of the snapshot, how many mailboxes were
/// examined, and how much differs.
pub(crate) fn checked(logged_in: bool, checked: Option<(Option<bool>, u64, usize)>) -> String {
    let Some((names, examined, differences)) = checked else {
        return "It greets; more could not be looked at (an older agent is renewed by `mailkeep pair`)."
            .to_owned();
    };
    let names = match names {
        Some(true) => "all names of mailboxes are those of the snapshot",
        Some(false) => "its names of mailboxes are NOT those of the snapshot",
        None => "its names of mailboxes could not be had",
    };
    let differences = match differences {
        0 => "nothing differs".to_owned(),
        count => format!("{count} differ, see above"),
    };
    let greets = match logged_in {
        true => "By",
        false => "It greets over IMAP (to log in there it takes --imap and a password); by",
    };
    format!(
        "{greets} Cyrus's own programs {names}, and MESSAGES, \
         UIDVALIDITY and UIDNEXT of {} were compared: {differences}.",
        counted(examined, "mailbox", "mailboxes")
    )
}

/// How the server was looked at by logging in.
pub(crate) fn seen(mailboxes: u64, differences: usize) -> String {
    let differences = match differences {
        0 => "nothing differs".to_owned(),
        count => format!("{count} differ, see above"),
    };
    format!(
        "Over IMAP, logged in for their owners, MESSAGES, UIDVALIDITY and UIDNEXT of {} were compared: {differences}.",
        counted(mailboxes, "mailbox", "mailboxes")
    )
}

/// What would be done.
pub(crate) fn plan(plan: &Plan, snapshot: &str, standby: bool) -> Vec<String> {
    let shown = |text: &str| path::show(text.as_bytes());
    let counts = &plan.counts;
    let mut lines = vec![format!(
        "{} of {} is put on {}.",
        if standby { "Standby" } else { "The state" },
        shown(snapshot),
        shown(&plan.host)
    )];
    for (heading, versions) in [("snapshot:", &plan.snapshot_versions), ("there:", &plan.versions)] {
        let versions: Vec<String> =
            versions.iter().map(|(name, version)| format!("{} {}", shown(name), shown(version))).collect();
        if !versions.is_empty() {
            lines.push(format!("  {heading:<9} {}", versions.join(", ")));
        }
    }
    for one in &plan.matches {
        let from = match &one.node {
            Some(_) => path::show(one.path.as_os_str().as_encoded_bytes()),
            None => "nothing, it becomes empty".to_owned(),
        };
        lines.push(format!("  tree:     {} from {from} ({})", shown(&one.server_path), shown(&one.role)));
    }
    lines.push(format!("  in all:   {}, {}", counted(counts.files, "file", "files"), size(counts.bytes)));
    lines.push(format!(
        "  to send:  about {}, {} (by size and time; contents decide)",
        counted(counts.sent_files, "file", "files"),
        size(counts.sent_bytes)
    ));
    for space in &plan.spaces {
        let room = if space.needed > space.free { ", NOT ENOUGH" } else { "" };
        lines.push(format!(
            "  room:     {} needed, {} free at {}{room}",
            size(space.needed),
            size(space.free),
            shown(&space.path)
        ));
    }
    let stop = shown(&plan.trees.stop);
    lines.push(match (standby, plan.trees.runs) {
        (true, Some(true)) => format!("  mail:     RUNS there; it is stopped by {stop} AND STAYS STOPPED"),
        (true, _) => "  mail:     is down there and stays so".to_owned(),
        (false, Some(false)) => "  mail:     is down there; it is started at the end".to_owned(),
        (false, _) => format!("  mail:     is stopped for a moment by {stop} and started again"),
    });
    if let Some(import) = &plan.import {
        lines.push(format!("  list:     of mailboxes is made anew there, since {}", shown(&import.why)));
    }
    lines.extend(plan.remarks.iter().map(|remark| format!("  note:     {}", shown(remark))));
    lines
}
